//! What goes wrong in a scenario, and when: made from its engine and seed before anything begins.

use std::time::Duration;

use crate::support::CommitFault;
use crate::torture::Dice;

/// What a scenario runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite,
    /// MariaDB, or what `DULY_TEST_SERVER` says.
    Server,
    Galera,
    /// Three members of a MySQL group, which are all written to.
    Group,
    /// The same with one primary, which every host finds in a list of all three.
    GroupOfOne,
}

impl Engine {
    /// Whether it has several nodes.
    pub(super) const fn is_cluster(self) -> bool {
        matches!(self, Engine::Galera | Engine::Group | Engine::GroupOfOne)
    }
}

/// How long the storm lasts.
pub(super) const STORM: Duration = Duration::from_secs(7);

/// One thing that happens. Numbers pick among what is there at that time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// SIGKILL to a runner.
    Kill(u64),
    /// SIGTERM to a runner.
    Stop(u64),
    /// SIGSTOP to a runner, and SIGCONT later.
    Freeze(u64, Duration),
    /// SIGSTOP to a runner until others have taken its jobs over, and SIGCONT while they execute them.
    FreezeUntilOvertaken(u64),
    /// The server ends a connection.
    KillConnection(u64),
    /// All connections of a host break.
    Cut(usize),
    /// Everything from and to a host takes longer for a while.
    Slow(usize, Duration),
    /// The connections of a host stay open and nothing passes any more.
    Forget(usize),
    /// New connections of a host are accepted and not answered, for a while.
    Swallow(usize, Duration),
    /// Something happens at a coming commit of a host.
    AtCommit(usize, u32, CommitFault),
    /// Another session holds rows locked, longer than anybody waits for them.
    Lock(Duration),
    /// The server takes no writes for a while.
    ReadOnly(Duration),
    /// SIGKILL to a server, which then starts again.
    KillServer(u64),
    /// The disk of a host's state folder is full for a while.
    FillDisk(Duration),
    /// Somebody puts a job in.
    Enqueue(usize, u64),
    /// An application inserts a row.
    Insert,
    /// Somebody cancels a job.
    Cancel(usize, u64),
}

pub(super) struct Plan {
    /// In the order of time, from the beginning of the storm.
    pub(super) events: Vec<(Duration, Event)>,
    /// How far off each started runner's wall clock is, in turn.
    pub(super) clocks: Vec<Option<&'static str>>,
}

/// The plan of one seed.
pub(super) fn make(engine: Engine, dice: &mut Dice) -> Plan {
    let kinds: &[u8] = match engine {
        Engine::Sqlite => &[0, 0, 1, 2, 2, 9, 12, 13, 14, 15],
        Engine::Server => &[0, 0, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 8, 8, 9, 10, 11, 12, 13, 13, 14, 15],
        Engine::Galera | Engine::Group | Engine::GroupOfOne => {
            &[0, 1, 2, 3, 3, 4, 5, 6, 8, 8, 9, 13, 13, 14, 15]
        }
    };
    let (mut at, mut events, mut has_server_fault) = (Duration::ZERO, Vec::new(), false);
    if dice.roll(2) == 0 {
        let at = Duration::from_millis(100 + dice.roll(1500));
        events.push((at, Event::FreezeUntilOvertaken(dice.roll(1 << 20))));
    }
    if engine.is_cluster() {
        // Every seed has a node killed.
        events.push((Duration::from_millis(1000 + dice.roll(3000)), Event::KillServer(dice.roll(6))));
        has_server_fault = true;
    }
    loop {
        at += Duration::from_millis(20 + dice.roll(450));
        if at >= STORM {
            break;
        }
        let kind = kinds[pick(dice, kinds.len())];
        let host = pick(dice, 3);
        let (number, long) = (dice.roll(1 << 20), Duration::from_millis(200 + dice.roll(1800)));
        let fault = [
            CommitFault::Unsent,
            CommitFault::Half,
            CommitFault::AnswerLost,
            CommitFault::AnswerLost,
            CommitFault::AnswerNever,
        ][pick(dice, 5)];
        events.push((
            at,
            match kind {
                0 => Event::Kill(number),
                1 => Event::Stop(number),
                2 => Event::Freeze(number, Duration::from_millis(2500 + dice.roll(4000))),
                3 => Event::KillConnection(number),
                4 => Event::Cut(host),
                5 => Event::Slow(host, long),
                6 => Event::Forget(host),
                7 => Event::Swallow(host, long),
                8 => Event::AtCommit(host, u32::try_from(dice.roll(12)).unwrap(), fault),
                9 => Event::Lock(Duration::from_millis(5100 + dice.roll(1500))),
                10 => Event::ReadOnly(long),
                // Once: it takes a while.
                11 if has_server_fault => Event::KillConnection(number),
                11 => {
                    has_server_fault = true;
                    Event::KillServer(number)
                }
                12 => Event::FillDisk(long),
                13 => Event::Enqueue(host, number),
                14 => Event::Insert,
                _ => Event::Cancel(host, number),
            },
        ));
    }
    events.sort_by_key(|(at, _)| *at);
    let clocks = (0..16)
        .map(|_| match dice.roll(8) {
            // SQLite's clock is the host's own.
            _ if engine == Engine::Sqlite => None,
            0 => Some("+3h"),
            1 => Some("-400d"),
            2 => Some("+0 x20"),
            _ => None,
        })
        .collect();
    Plan { events, clocks }
}

pub(super) fn pick(dice: &mut Dice, most: usize) -> usize {
    usize::try_from(dice.roll(most as u64)).unwrap()
}
