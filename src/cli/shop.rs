//! The command line of the shop's own commands: types, no behaviour.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::job::duration;
use crate::job::shop::OrderState;

/// Arguments of `process-lost-orders`.
#[derive(Debug, Args)]
pub struct ProcessLostOrdersArgs {
    /// Only this order, however often it has failed and however long it should wait
    pub order: Option<String>,
}

/// Arguments of `lost-orders`.
#[derive(Debug, Args)]
pub struct LostOrdersArgs {
    /// What to do
    #[command(subcommand)]
    pub command: LostOrdersCommand,
}

/// What can be done with lost orders.
#[derive(Debug, Subcommand)]
pub enum LostOrdersCommand {
    /// Orders that are lost, being sent or given up
    #[command(after_help = "Example:\n  duly lost-orders list --state given_up --json")]
    List(LostOrdersListArgs),
    /// One order with every try, and what the ERP answered
    #[command(after_help = "Example:\n  duly lost-orders show 4711")]
    Show(LostOrdersShowArgs),
    /// Put an order in, or one back that was given up or removed
    #[command(after_help = "Example:\n  duly lost-orders add 4711 --payload order.xml")]
    Add(LostOrdersAddArgs),
    /// Take an order out: it is not sent any more
    #[command(after_help = "Example:\n  duly lost-orders remove 4711")]
    Remove(LostOrdersRemoveArgs),
}

/// Arguments of `lost-orders list`.
#[derive(Debug, Args)]
pub struct LostOrdersListArgs {
    /// Only orders in this state: lost, sending, confirmed, given_up, removed; may be given several times
    #[arg(long)]
    pub state: Vec<OrderState>,
    /// Orders at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `lost-orders show`.
#[derive(Debug, Args)]
pub struct LostOrdersShowArgs {
    /// The order's id
    pub order: String,
    /// Only what is sent of it, as it is
    #[arg(long, conflicts_with = "json")]
    pub payload: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `lost-orders add`.
#[derive(Debug, Args)]
pub struct LostOrdersAddArgs {
    /// The order's id
    pub order: String,
    /// What is sent: a file, or - for standard input
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,
}

/// Arguments of `lost-orders remove`.
#[derive(Debug, Args)]
pub struct LostOrdersRemoveArgs {
    /// The order's id
    pub order: String,
}

/// Arguments of `sessions`.
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// What to do
    #[command(subcommand)]
    pub command: SessionsCommand,
}

/// What can be done with sessions.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// Count them once
    #[command(
        alias = "write_stat",
        after_help = "Example, for a crontab:\n  */5 * * * * duly sessions write-stat"
    )]
    WriteStat,
    /// What was counted
    #[command(after_help = "Example:\n  duly sessions show --since '7 days'")]
    Show(SessionsShowArgs),
}

/// Arguments of `sessions show`.
#[derive(Debug, Args)]
pub struct SessionsShowArgs {
    /// What was counted within this long
    #[arg(long, value_name = "DURATION", default_value = "1 day", value_parser = duration::parse)]
    pub since: Duration,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}
