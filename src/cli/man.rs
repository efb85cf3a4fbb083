//! The command line of `duly man`: types, no behaviour.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command that the page is about, such as `run-job` or `lost-orders add`; without one the page about duly itself
    pub command: Vec<String>,
    /// Write all pages into this folder, which is made if it is not there
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    pub folder: Option<PathBuf>,
}
