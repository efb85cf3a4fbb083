//! `duly refresh-cache`: gives content changes to everybody who keeps copies of contents.

use std::sync::Arc;

use anyhow::Result;

use super::shop_job::ShopJob;
use super::{Context, Usage};
use crate::exit_code::ExitCode;
use crate::job::Builtin;
use crate::shop::refresh_cache;

pub(super) fn run(context: &Context) -> Result<ExitCode> {
    let config = Arc::new(context.config()?);
    let Some(settings) = &config.refresh_cache else {
        return Err(Usage(format!(
            "{} names nobody to give content changes to; \
             add refresh_cache: {{processors: {{navigation: {{command: [bin/refresh]}}}}}}",
            config.path.display()
        ))
        .into());
    };
    let table = &settings.table;
    let names = ("refresh_cache", table.table.as_str(), table.columns());
    ShopJob { config: &config, builtin: Builtin::RefreshCache, target: (None, None), names }
        .run(|store| store.has_changes(table), |shop, tell| refresh_cache::run(shop, settings, tell))
}
