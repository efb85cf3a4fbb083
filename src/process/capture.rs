//! What a command prints, kept within bounds whatever it prints: head and tail in memory, for the record, and as much in a file,
//! for whoever comes after a runner that died. A disk that is full costs the record nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::mirror::Mirror;
use crate::job::escape;

/// Bytes that may wait for whoever shows them before the command has to wait, too.
const BEHIND: usize = 1 << 20;

/// The head and tail of what was printed, as UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Head and tail, with a line between them that tells how much is missing.
    pub text: String,
    /// How many bytes are missing.
    pub missing: u64,
}

/// What one execution has printed so far.
#[derive(Debug)]
pub struct Capture {
    limit: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The first half of the limit at most, and of what came after it the last half.
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
    mirror: Option<Mirror>,
    /// What has not been shown yet, where somebody looks on.
    unseen: Option<Vec<u8>>,
}

impl Capture {
    /// Keeps about `limit` bytes, in memory alone.
    #[must_use]
    pub fn in_memory(limit: u64) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    /// The same, and a copy in a file while it is there.
    #[must_use]
    pub fn mirrored(limit: u64, mirror: Mirror) -> Self {
        Self { limit, kept: Mutex::new(Kept { mirror: Some(mirror), ..Kept::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was printed.
    pub(super) fn append(&self, bytes: &[u8]) {
        let mut kept = self.lock();
        let kept = &mut *kept;
        if let Some(mirror) = &mut kept.mirror {
            mirror.append(bytes, self.limit);
        }
        if let Some(unseen) = &mut kept.unseen {
            unseen.extend_from_slice(bytes);
        }
        kept.total += bytes.len() as u64;
        let half = usize::try_from(self.limit / 2).unwrap_or(usize::MAX);
        let (head, rest) = bytes.split_at(bytes.len().min(half.saturating_sub(kept.head.len())));
        kept.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(half)..];
        let surplus = (kept.tail.len() + rest.len()).saturating_sub(half);
        kept.tail.drain(..surplus);
        kept.tail.extend(rest);
    }

    /// Adds a line that Duly has to say about it.
    pub fn remark(&self, what: &str) {
        let ends_a_line = matches!(self.lock().last(), None | Some(b'\n'));
        self.append(format!("{}… {what} …\n", if ends_a_line { "" } else { "\n" }).as_bytes());
    }

    /// Head and tail of it; `None` where nothing was printed.
    #[must_use]
    pub fn captured(&self) -> Option<Captured> {
        self.lock().captured(self.limit)
    }

    /// Keeps what is printed from now on for [`Self::unseen`]; the command waits where nobody asks for it.
    pub fn show(&self) {
        self.lock().unseen = Some(Vec::new());
    }

    /// What has been printed since it was last asked for.
    #[must_use]
    pub fn unseen(&self) -> Vec<u8> {
        self.lock().unseen.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Nobody looks on any more.
    pub fn hide(&self) {
        self.lock().unseen = None;
    }

    /// Whether whoever shows it has enough to show for now.
    pub(super) fn is_behind(&self) -> bool {
        self.lock().unseen.as_ref().is_some_and(|unseen| unseen.len() >= BEHIND)
    }

    /// Bytes printed so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.lock().total
    }
}

impl Kept {
    fn last(&self) -> Option<u8> {
        self.tail.back().or(self.head.last()).copied()
    }

    fn captured(&self, limit: u64) -> Option<Captured> {
        let (first, second) = self.tail.as_slices();
        let tail = [first, second].concat();
        let missing = self.total - (self.head.len() + tail.len()) as u64;
        match (self.total, missing) {
            (0, _) => None,
            (_, 0) => Some(fit(&[&self.head[..], &tail].concat(), &[], 0, limit)),
            _ => Some(fit(&self.head, &tail, missing, limit)),
        }
    }
}

/// Escaping can make bytes four times as long: cut again, so that the stored text stays near the limit.
pub(super) fn fit(head: &[u8], tail: &[u8], between: u64, limit: u64) -> Captured {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (start, end) = (escape(head), escape(tail));
    let mut missing = between;
    if start.len() + end.len() <= limit && between == 0 {
        return Captured { text: start, missing: 0 };
    }
    let half = limit / 2;
    let (start, end) = if tail.is_empty() && start.len() > limit {
        let cut = floor_boundary(&start, start.len() - half);
        (start[..floor_boundary(&start, half)].to_owned(), start[cut..].to_owned())
    } else {
        let cut = end.len().saturating_sub(half);
        (start[..floor_boundary(&start, half)].to_owned(), end[floor_boundary(&end, cut)..].to_owned())
    };
    let kept = start.len() + end.len();
    let whole = escape(head).len() + escape(tail).len();
    missing += (whole - kept.min(whole)) as u64;
    Captured { text: format!("{start}\n… {missing} bytes left out …\n{end}"), missing }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn captured(bytes: &[u8], limit: u64) -> Option<Captured> {
        let capture = Capture::in_memory(limit);
        bytes.chunks(777).for_each(|chunk| capture.append(chunk));
        capture.captured()
    }

    #[test]
    fn what_fits_is_kept_as_it_is() {
        assert_eq!(captured(b"", 100), None);
        let text = "grüße\n";
        assert_eq!(captured(text.as_bytes(), 100), Some(Captured { text: text.into(), missing: 0 }));
    }

    #[test]
    fn of_a_long_output_head_and_tail_are_kept_and_the_loss_is_told() {
        let long: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        let kept = captured(long.as_bytes(), 2048).unwrap();
        assert!(kept.text.starts_with("line 0\nline 1\n") && kept.text.ends_with("line 9999\n"));
        assert_eq!(kept.missing, long.len() as u64 - 2048);
        assert!(kept.text.contains(&format!("… {} bytes left out …", kept.missing)));
    }

    #[test]
    fn who_looks_on_gets_all_of_it() {
        let capture = Capture::in_memory(64);
        capture.show();
        (0..100).for_each(|_| capture.append(b"0123456789"));
        assert_eq!(capture.unseen(), b"0123456789".repeat(100));
        assert_eq!(capture.unseen(), b"");
    }

    proptest! {
        #[test]
        fn any_bytes_become_text_near_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..5000), limit in 64u64..4096) {
            if let Some(kept) = captured(&bytes, limit) {
                prop_assert!(kept.text.len() as u64 <= limit + 64);
                prop_assert!(!kept.text.contains('\0'));
            } else {
                prop_assert!(bytes.is_empty());
            }
        }
    }
}
