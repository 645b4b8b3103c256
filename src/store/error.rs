//! What can go wrong with a database.

use std::fmt;

/// Why the store could not do it. Nothing of it is ever sent to a client.
#[derive(Debug)]
pub(crate) enum Error {
    /// It is overloaded, or refused or failed to do it; whether a change was committed is then unknown.
    Unavailable(String),
    /// It cannot be reached: it does not answer, or only that it can serve nobody now. The same holds of changes.
    Unreachable(String),
    /// The database gave the transaction up for the sake of another. Nothing was committed.
    Contended(String),
    /// Somebody else kept a lock for too long. Nothing was committed.
    Locked(String),
    /// The disk is full. Nothing was committed.
    Full,
    /// A stored value cannot be what we wrote.
    Corrupt(String),
    /// It is set up so that its promises would not hold, or belongs to another version.
    Unfit(String),
    /// An older state of it is in its place: what was followed is not in it. `taken_in` once an operator has said that what
    /// is lost was taken in.
    Rewound { taken_in: bool },
    /// What was followed is before the place up to which the audit log was pruned: whether it is in this history cannot be told.
    Pruned,
    /// Nothing may be served from it: it was moved, say.
    Held(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(cause) | Self::Unreachable(cause) | Self::Contended(cause) | Self::Locked(cause) => {
                write!(f, "the database is unavailable: {cause}")
            }
            Self::Full => f.write_str("the database's disk is full"),
            Self::Corrupt(what) => write!(f, "the database holds something that was not written by countersign: {what}"),
            Self::Unfit(why) => f.write_str(why),
            Self::Held(why) => f.write_str(why),
            Self::Pruned => f.write_str(
                "what was followed is in a part of the audit log that was pruned, so whether the database went back since cannot be told",
            ),
            Self::Rewound { .. } => f.write_str("the database went back to an earlier state: changes that were followed are not in it"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Whether what is wrong is only that the database cannot be asked. Where it answers, whatever it says, what it said
    /// before counts no more.
    pub(crate) const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// The same, for another who waited for the same thing.
    pub(super) fn copy(&self) -> Self {
        match self {
            Self::Unavailable(cause) => Self::Unavailable(cause.clone()),
            Self::Unreachable(cause) => Self::Unreachable(cause.clone()),
            Self::Contended(cause) => Self::Contended(cause.clone()),
            Self::Locked(cause) => Self::Locked(cause.clone()),
            Self::Full => Self::Full,
            Self::Corrupt(what) => Self::Corrupt(what.clone()),
            Self::Unfit(why) => Self::Unfit(why.clone()),
            Self::Pruned => Self::Pruned,
            Self::Rewound { taken_in } => Self::Rewound { taken_in: *taken_in },
            Self::Held(why) => Self::Held(why),
        }
    }
}
