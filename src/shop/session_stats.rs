//! `sessions write-stat`: how many sessions there are and how many were used of late, as a row of its own.

use anyhow::{Context as _, Result};

use super::{Done, Shop, Tell};

/// Counts the sessions once.
///
/// # Errors
///
/// When jobs.yaml names a table or column that is not there; when the database fails.
pub fn write(shop: &mut Shop<'_>, tell: Tell<'_>) -> Result<Done> {
    let table = &shop.config.sessions;
    let kinds = shop
        .store
        .require_columns("sessions", &table.table, &[("time", &table.time)])
        .context("cannot count sessions")?;
    let kind = kinds.first().map_or("", String::as_str);
    let stat = shop.store.measure_sessions(table, kind).context("cannot count sessions")?;
    tell(&format!(
        "{} sessions, used within 5 minutes: {}, 30 minutes: {}, a day: {}",
        stat.total, stat.active_5m, stat.active_30m, stat.active_24h
    ));
    Ok(Done::Well)
}
