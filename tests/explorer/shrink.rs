//! The smallest plan that still shows a difference.

use super::compare::shown;
use super::oracle::{Seen, explore};
use super::plan::{CatchUp, Def, Plan};
use super::world::World;
use super::yaml;

/// What may be left out of a definition.
const SIMPLER: [fn(&mut Def); 15] = [
    |def| def.dependents.clear(),
    |def| def.schedule = None,
    |def| def.catch_up = None,
    |def| def.deadline = def.deadline.filter(|_| matches!(def.catch_up, Some(CatchUp::All | CatchUp::None))),
    |def| def.overlap = def.overlap.filter(|_| def.unique),
    |def| def.enabled = true,
    |def| def.queue = 0,
    |def| def.priority = 0,
    |def| def.max_attempts = 1,
    |def| def.backoff = (5, 5, 3600),
    |def| def.permanent = None,
    |def| def.is_stale_when_orphaned = false,
    |def| def.unique = false,
    |def| def.concurrency = None,
    |def| def.schedule = def.schedule.map(|(expression, _)| (expression, 0)),
];

/// Leaves out what can be left out, and says what is left and what differs then.
pub(super) fn shrink(world: &mut World, mut plan: Plan) -> String {
    let mut seen = Seen::new();
    let Err((mut at, mut difference)) = explore(world, &plan, &mut seen) else {
        return "it differed once only".to_owned();
    };
    plan.events.truncate(at + 1);
    let mut is_smaller = true;
    while is_smaller {
        is_smaller = false;
        for smaller in smaller_than(&plan) {
            if let Err(found) = explore(world, &smaller, &mut seen) {
                (at, difference) = found;
                plan = smaller;
                plan.events.truncate(at + 1);
                is_smaller = true;
                break;
            }
        }
    }
    let file = yaml::text(&plan.file, "", "['true']").replace('\n', "\n    ");
    let events: Vec<String> = plan.events.iter().map(|event| format!("{event:?}")).collect();
    format!("from {}\n    {file}{}\n  {difference}", shown(plan.start), events.join("\n    "))
}

fn smaller_than(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    for at in (0..plan.events.len()).rev() {
        let mut smaller = plan.clone();
        smaller.events.remove(at);
        all.push(smaller);
    }
    for at in (0..plan.file.defs.len()).rev() {
        let mut smaller = plan.clone();
        let gone = smaller.file.defs.remove(at).name;
        smaller.file.defs.iter_mut().for_each(|def| def.dependents.retain(|name| *name != gone));
        all.push(smaller);
        for simpler in SIMPLER {
            let mut smaller = plan.clone();
            simpler(&mut smaller.file.defs[at]);
            if smaller.file != plan.file {
                all.push(smaller);
            }
        }
    }
    for queue in 0..plan.file.limits.len() {
        let mut smaller = plan.clone();
        if smaller.file.limits[queue].take().is_some() {
            all.push(smaller);
        }
    }
    all
}
