//! Slows down whoever guesses passwords: by address, and by name, so that many addresses do not help.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures that cost nothing yet.
const FREE: u32 = 5;

/// The longest wait of an address, and of a name: somebody else's guesses must not keep its owner out for long.
const LONGEST_OF_ADDRESS: Duration = Duration::from_secs(15 * 60);
const LONGEST_OF_NAME: Duration = Duration::from_secs(30);

/// Addresses and names remembered at most.
const MOST: usize = 10_000;

/// Failures are forgotten after this long without one.
const FORGOTTEN: Duration = Duration::from_secs(3600);

struct Failures {
    count: u32,
    last: Instant,
    until: Instant,
}

#[derive(Default)]
pub(super) struct Throttle {
    known: Mutex<HashMap<String, Failures>>,
}

impl Throttle {
    /// How long `address` or `name` has to wait before the next try; `None` where it may try now.
    pub(super) fn wait(&self, address: &str, name: &str, now: Instant) -> Option<Duration> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        keys(address, name)
            .iter()
            .filter_map(|(key, _)| known.get(key)?.until.checked_duration_since(now))
            .filter(|wait| !wait.is_zero())
            .max()
    }

    /// A try that failed.
    pub(super) fn failed(&self, address: &str, name: &str, now: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, failures| now.duration_since(failures.last) < FORGOTTEN);
        }
        if known.len() >= MOST {
            known.clear();
        }
        for (key, longest) in keys(address, name) {
            let failures = known.entry(key).or_insert(Failures { count: 0, last: now, until: now });
            if now.duration_since(failures.last) >= FORGOTTEN {
                failures.count = 0;
            }
            failures.count += 1;
            failures.last = now;
            if failures.count >= FREE {
                let doubled = Duration::from_secs(1 << (failures.count - FREE).min(16));
                failures.until = now + doubled.min(longest);
            }
        }
    }

    /// A try that succeeded: its address and name are trusted again.
    pub(super) fn succeeded(&self, address: &str, name: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in keys(address, name) {
            known.remove(&key);
        }
    }
}

fn keys(address: &str, name: &str) -> [(String, Duration); 2] {
    [(format!("address {address}"), LONGEST_OF_ADDRESS), (format!("name {name}"), LONGEST_OF_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_some_failures_the_wait_doubles_and_a_success_ends_it() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 1..FREE {
            throttle.failed("a", "anna", now);
        }
        assert_eq!(throttle.wait("a", "anna", now), None);
        throttle.failed("a", "anna", now);
        assert_eq!(throttle.wait("a", "anna", now), Some(Duration::from_secs(1)));
        for _ in 0..4 {
            throttle.failed("a", "anna", now);
        }
        assert_eq!(throttle.wait("a", "bert", now), Some(Duration::from_secs(16)));
        assert_eq!(throttle.wait("b", "anna", now), Some(Duration::from_secs(16)));
        assert_eq!(throttle.wait("b", "bert", now), None);
        throttle.succeeded("a", "anna");
        assert_eq!(throttle.wait("a", "anna", now), None);
    }

    #[test]
    fn a_name_waits_for_half_a_minute_at_most_and_an_address_for_a_quarter_of_an_hour() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..40 {
            throttle.failed("a", "anna", now);
        }
        assert_eq!(throttle.wait("b", "anna", now), Some(LONGEST_OF_NAME));
        assert_eq!(throttle.wait("a", "bert", now), Some(LONGEST_OF_ADDRESS));
        throttle.failed("a", "anna", now + FORGOTTEN);
        assert_eq!(throttle.wait("a", "anna", now + FORGOTTEN + LONGEST_OF_ADDRESS), None);
    }
}
