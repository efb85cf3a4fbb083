//! A new job like one that has ended.

use super::enqueue::NewJob;
use super::query::Job;
use crate::job::{Definition, parse_params};

impl NewJob {
    /// A job like `old`, in its queue, with its priority, parameters and target; the rest as `definition` has it now.
    #[must_use]
    pub fn again(old: &Job, definition: &Definition) -> Self {
        let mut job = Self::of(definition);
        job.queue = old.queue.clone().unwrap_or(job.queue);
        job.priority = old.priority.unwrap_or(job.priority);
        if let Some(params) = old.params.as_deref().and_then(|params| parse_params(params).ok()) {
            job.params = params;
        }
        job.target = (old.target_type.clone(), old.target_id.clone());
        job.scheduled_for = old.scheduled_for;
        job.retry_of = Some(old.id);
        job
    }
}
