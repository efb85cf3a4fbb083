//! `refresh-cache`: content changes, given to everybody who keeps a copy of contents, then deleted.
//!
//! A processor that has succeeded with a batch is remembered with each change of it before the next processor gets the
//! batch, so that a crash or a failure of another does not make it get them again. One that fails gets nothing more in
//! this run, since it must not get later changes before earlier ones. What comes in meanwhile is for the next run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::step::{self, Given};
use super::{Done, Shop, Tell};
use crate::config::{RefreshCache, Step};
use crate::job::{Outcome, duration};
use crate::store::ContentChange;

/// Bytes of a processor's output that are kept per batch.
const OUTPUT: u64 = 256 << 10;

/// Gives every change there is now to every processor that lacks it.
///
/// # Errors
///
/// When jobs.yaml names a table or column that is not there; when the database fails.
pub fn run(shop: &mut Shop<'_>, settings: &RefreshCache, tell: Tell<'_>) -> Result<Done> {
    let table = &settings.table;
    let kinds = shop
        .store
        .require_columns("refresh_cache", &table.table, &table.columns())
        .context("cannot read content changes")?;
    if !kinds.first().is_some_and(|kind| kind.contains("int")) {
        let kind = kinds.first().map_or("", String::as_str);
        anyhow::bail!(
            "refresh_cache.columns.id: the column `{}` of `{}` is of type {kind}; expected a whole number that grows",
            table.id,
            table.table
        );
    }
    shop.patiently(|store| store.forget_gone_changes(table)).context("cannot read content changes")?;
    let Some(newest) =
        shop.patiently(|store| store.newest_change(table)).context("cannot read content changes")?
    else {
        return Ok(Done::Well);
    };
    let mut pass = Pass { settings, failed: BTreeSet::new() };
    let mut after = None;
    while !shop.stop.is_asked() {
        let batch = shop
            .patiently(|store| store.changes(table, after, newest, settings.batch))
            .context("cannot read content changes")?;
        let Some(last) = batch.last() else { break };
        after = Some(last.id);
        pass.give(shop, &batch, tell)?;
        if pass.failed.len() == settings.processors.len() {
            break;
        }
    }
    if shop.stop.is_asked() {
        tell("stopped; the next run goes on from here");
        return Ok(Done::Badly);
    }
    Ok(if pass.failed.is_empty() { Done::Well } else { Done::Badly })
}

struct Pass<'a> {
    settings: &'a RefreshCache,
    /// Processors that have failed in this run.
    failed: BTreeSet<&'a str>,
}

impl Pass<'_> {
    /// Gives one batch to every processor that lacks any of it, and deletes what all of them have then.
    fn give(&mut self, shop: &mut Shop<'_>, batch: &[ContentChange], tell: Tell<'_>) -> Result<()> {
        let (settings, table) = (self.settings, &self.settings.table);
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(()) };
        let mut had_by_all: BTreeSet<i64> = batch.iter().map(|change| change.id).collect();
        for (at, (name, step)) in settings.processors.iter().enumerate() {
            let given = shop
                .patiently(|store| store.changes_given(table, name, first.id, last.id))
                .context("cannot read content changes")?;
            let given: BTreeSet<(i64, i64)> = given.into_iter().collect();
            let (had, lacking): (Vec<&ContentChange>, Vec<&ContentChange>) =
                batch.iter().partition(|change| given.contains(&(change.id, change.digest())));
            if lacking.is_empty() {
                continue;
            }
            let is_served = !self.failed.contains(name.as_str())
                && !shop.stop.is_asked()
                && serve(shop, name, step, &lacking, tell);
            if !is_served {
                self.failed.insert(name);
                let had: BTreeSet<i64> = had.iter().map(|change| change.id).collect();
                had_by_all.retain(|id| had.contains(id));
            } else if at + 1 < settings.processors.len() || had_by_all.len() < batch.len() {
                // What the last one completes is deleted at once, and need not be remembered.
                let given: Vec<(i64, i64)> =
                    lacking.iter().map(|change| (change.id, change.digest())).collect();
                shop.patiently(|store| store.set_changes_given(table, name, &given))
                    .context("cannot remember who has which content changes")?;
            }
        }
        let ids: Vec<i64> = had_by_all.into_iter().collect();
        shop.patiently(|store| store.delete_changes(table, &ids)).context("cannot delete content changes")
    }
}

/// Starts a processor with changes that it lacks; whether it succeeded.
fn serve(shop: &Shop<'_>, name: &str, step: &Step, changes: &[&ContentChange], tell: Tell<'_>) -> bool {
    let input = lines(changes);
    let count = input.iter().filter(|byte| **byte == b'\n').count();
    let env = BTreeMap::from([("DULY_PROCESSOR".to_owned(), name.to_owned())]);
    let folder = shop.config.folder();
    let given = Given { step, folder, env, input, output_limit: OUTPUT, hold: None };
    let end = step::execute(given, &shop.stop);
    let plural = if count == 1 { "change" } else { "changes" };
    tell(&format!("{name}: {count} {plural}, {}, took {}", end.outcome, duration::show(end.ran)));
    if !end.output.is_empty() {
        tell(&end.output);
    }
    end.outcome == Outcome::Success
}

/// Changes as JSON Lines, those that are equal once: where the last of them stands, so that what was done last stays last.
fn lines(changes: &[&ContentChange]) -> Vec<u8> {
    let what = |change: &ContentChange| {
        let ContentChange { content_id, action, content_type, language, attributes, .. } = change.clone();
        (content_id, action, content_type, language, attributes)
    };
    let mut seen = BTreeSet::new();
    let mut kept: Vec<&ContentChange> =
        changes.iter().rev().filter(|change| seen.insert(what(change))).copied().collect();
    kept.reverse();
    let lines: Vec<String> = kept.into_iter().map(|change| format!("{}\n", as_json(change))).collect();
    lines.concat().into_bytes()
}

fn as_json(change: &ContentChange) -> Value {
    let attributes = change.attributes.as_ref().map(|text| match serde_json::from_str(text) {
        Ok(value) => value,
        Err(_) => Value::String(text.clone()),
    });
    json!({
        "id": change.id,
        "content_id": change.content_id,
        "action": change.action,
        "triggered_by": change.triggered_by,
        "content_type": change.content_type,
        "language": change.language,
        "attributes": attributes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(id: i64, content: &str, action: &str, language: Option<&str>) -> ContentChange {
        ContentChange {
            id,
            content_id: Some(content.to_owned()),
            action: Some(action.to_owned()),
            triggered_by: Some(format!("trigger {id}")),
            content_type: None,
            language: language.map(str::to_owned),
            attributes: None,
        }
    }

    #[test]
    fn equal_changes_are_given_once_and_what_was_done_last_stays_last() {
        let all = [
            change(1, "7", "publish", None),
            change(2, "7", "delete", None),
            change(3, "8", "publish", None),
            change(4, "7", "publish", None),
        ];
        let text = String::from_utf8(lines(&all.iter().collect::<Vec<_>>())).unwrap();
        let ids: Vec<Value> =
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
        assert_eq!(ids, [2, 3, 4]);
    }

    #[test]
    fn one_content_in_two_languages_is_two_changes() {
        let all = [change(1, "7", "delete", Some("de")), change(2, "7", "delete", Some("en"))];
        assert_eq!(lines(&all.iter().collect::<Vec<_>>()).iter().filter(|byte| **byte == b'\n').count(), 2);
    }
}
