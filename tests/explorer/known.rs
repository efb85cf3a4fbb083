//! Rules that the program is known not to keep. The reference does not keep them either, unless `DULY_EXPLORER_STRICT` is set, so
//! that what else differs is found; the table in `RELIABILITY.md` has a sequence for each.

/// A limit counts whatever runs, also what was begun while there was none.
pub(super) const NEW_LIMIT: &str = "a limit that is new counts what was begun before it";

/// An older jobs.yaml takes no schedule back from a newer one, also where that one's ticks have been silent for some minutes.
pub(super) const SILENT_NEWER: &str = "an older file takes nothing back from one whose ticks are silent";

/// A tick makes what is due of a schedule that it has, also where a host without that schedule has looked at it before.
pub(super) const PUT_OFF: &str = "a host without a schedule does not put it off for others";

/// `overlap: queue` waits until every earlier one has ended, also where one was begun again by hand.
pub(super) const AGAIN_BY_HAND: &str =
    "what was begun again by hand does not let the next one pass the others";

/// What depends on a job that gives way makes room for what depends on the next one.
pub(super) const GIVES_WAY_WHOLE: &str = "a job gives way with all that depends on it";

/// A pause that was ended does not hold again when the clock is set back.
pub(super) const ENDED_PAUSE: &str = "a pause that was ended holds nothing back";

/// `overlap: skip` sees every job of an occurrence that has not ended, also beyond the newest fifty of its name.
pub(super) const BEYOND_FIFTY: &str = "a busy job is seen, however many came after it";

/// A job gives way only to an occurrence that is made.
pub(super) const FOR_NOTHING: &str = "a job gives way only to an occurrence that is made";

const KNOWN: [&str; 4] = [SILENT_NEWER, PUT_OFF, AGAIN_BY_HAND, BEYOND_FIFTY];

/// Whether the program is known not to keep a rule.
pub(super) fn is_known(rule: &str) -> bool {
    static STRICT: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    !STRICT.get_or_init(|| std::env::var_os("DULY_EXPLORER_STRICT").is_some()) && KNOWN.contains(&rule)
}
