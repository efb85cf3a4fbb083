//! What a scenario came to, in numbers.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Default)]
pub(super) struct Figures {
    pub(super) seeds: u64,
    pub(super) jobs: u64,
    /// Processes of jobs that began.
    pub(super) executions: u64,
    /// Of those, how many came to their end under a claim that no longer held: their results were refused.
    pub(super) refused: u64,
    /// Frozen runners that woke up while others executed their jobs.
    pub(super) overtaken: u64,
    /// How attempts ended.
    pub(super) attempts: BTreeMap<String, u64>,
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) ticks: u64,
}

impl Figures {
    pub(super) fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Figures) {
        self.seeds += other.seeds;
        self.jobs += other.jobs;
        self.executions += other.executions;
        self.refused += other.refused;
        self.ticks += other.ticks;
        self.overtaken += other.overtaken;
        for (outcome, count) in &other.attempts {
            *self.attempts.entry(outcome.clone()).or_default() += count;
        }
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u64 = self.faults.values().sum();
        let attempts: u64 = self.attempts.values().sum();
        write!(
            f,
            "{} ticks, {} jobs, {attempts} attempts, {} executions, {} refused by fence, {} woken up overtaken, {faults} faults",
            self.ticks, self.jobs, self.executions, self.refused, self.overtaken
        )?;
        if f.alternate() {
            write!(f, "\n  attempts: {:?}\n  faults: {:?}", self.attempts, self.faults)?;
        }
        Ok(())
    }
}
