//! What a definition can do in place of a command: work that Duly does itself.

/// What stands after `builtin:`. Each is also a command of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    /// Deletes ended jobs as `retention` says.
    CleanUp,
    /// Gives changed contents to those who keep copies of them.
    RefreshCache,
    /// Sends orders again whose transfer failed.
    ProcessLostOrders,
    /// Counts the sessions of the shop.
    SessionsWriteStat,
}

impl Builtin {
    /// The commands of the shop.
    pub const SHOP: [Self; 3] = [Self::RefreshCache, Self::ProcessLostOrders, Self::SessionsWriteStat];

    /// The word in jobs.yaml. It is also the name of the job where nothing is declared for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CleanUp => "clean-up",
            Self::RefreshCache => "refresh-cache",
            Self::ProcessLostOrders => "process-lost-orders",
            Self::SessionsWriteStat => "sessions-write-stat",
        }
    }

    /// Its words on Duly's own command line.
    #[must_use]
    pub const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::CleanUp => &["clean-up"],
            Self::RefreshCache => &["refresh-cache"],
            Self::ProcessLostOrders => &["process-lost-orders"],
            Self::SessionsWriteStat => &["sessions", "write-stat"],
        }
    }

    /// Whether it is one of the shop's: declared once, one at a time over all hosts, and tried once, since the next one
    /// takes on what it leaves.
    #[must_use]
    pub const fn is_of_shop(self) -> bool {
        !matches!(self, Self::CleanUp)
    }
}
