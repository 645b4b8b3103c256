//! What to do where the database is lost.

use std::time::Duration;

/// What a process that answers from memory does when its lease is over and the database cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDatabaseLoss {
    /// It says that it does not know.
    #[default]
    Deny,
    /// It goes on by what it knew, for so long at the most since it last read what others had changed.
    ServeStale(Duration),
}

impl OnDatabaseLoss {
    /// For how long after a change, by whomever, this process may go by what was before, its lease aside.
    pub const fn stale(self) -> Duration {
        match self {
            Self::Deny => Duration::ZERO,
            Self::ServeStale(most) => most,
        }
    }
}
