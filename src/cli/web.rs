//! The arguments of `web`.

use std::net::SocketAddr;

use clap::Args;

use crate::job::address;

/// Arguments of `web`.
#[derive(Debug, Args)]
pub struct WebArgs {
    /// Where to listen, in place of web.listen in jobs.yaml [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address::parse)]
    pub listen: Option<SocketAddr>,
    /// Read a password from standard input, print its hash for web.users in jobs.yaml, and exit
    #[arg(long, conflicts_with = "listen")]
    pub hash_password: bool,
}
