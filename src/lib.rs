//! Duly runs declared jobs when they are due: started by cron, it opens the database, claims what is due, executes
//! it, records everything, and exits.
//!
//! ```text
//! commands → runner, shop, web → store → db | process | config → job
//! ```
//!
//! `commands` is one file per subcommand, `runner` the layer that knows both the database and processes, `store`
//! what is done to jobs in SQL, `db` what a connection is, `web` the page, `process` everything that touches an operating system process, `config` what `jobs.yaml` and the
//! environment say, `job` the words, `render` the only code that prints. `ARCHITECTURE.md` has the map.

pub mod cli;
pub mod commands;
pub mod config;
pub mod db;
pub mod exit_code;
pub mod job;
pub mod process;
pub mod render;
pub mod runner;
pub mod shop;
pub mod store;
pub mod web;
