//! Why the authority would not, or could not.

use std::fmt;

use super::entropy::NoEntropy;
use crate::{
    domain::{Forbidden, Invalid, Permissions, RoleLacking},
    store,
};

/// An operation that was not done.
#[derive(Debug)]
pub enum Error {
    /// The caller's own token has ended since it was verified.
    CallerEnded,
    /// The caller lacks these permissions.
    Forbidden(Permissions),
    /// The operator lacks the role.
    RoleLacking(RoleLacking),
    /// There is no such token in the caller's scope, or no such platform.
    NotFound,
    /// Its row is not as it was sealed: it is refused everywhere, and nothing is built on it.
    Tampered,
    /// The input is broken.
    Invalid(Invalid),
    /// Only an operator may end this token.
    NotRevocable,
    /// The caller's platform and environment have as many live tokens as they may.
    TooManyTokens,
    /// Another account has the name.
    NameTaken,
    /// A bulk revoke would end so many tokens, which is not what its operator said.
    OtherCount(u64),
    /// The key is the active one, so it can't be retired.
    KeyActive,
    /// Something was made with the key since what it would end was looked at.
    KeyUsed,
    /// The audit log is not as it was sealed and signed, in these words.
    LogEdited(String),
    /// The audit log has more entries than can be read while somebody waits.
    LogTooLong,
    /// Too many have it done that is much work.
    Busy,
    /// Nobody would be left who may do everything.
    LastOwner,
    /// Somebody else has changed it meanwhile.
    Changed,
    /// The form was sent before, and made it then.
    MadeBefore,
    /// The `Idempotency-Key` was used for another request.
    KeyReused,
    /// The first request with this `Idempotency-Key` is not answered yet.
    InProgress,
    /// The database, or the random generator, could not serve. Whether a change was made is then unknown: ending again is
    /// safe, creating again may make a second one.
    Unavailable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CallerEnded => f.write_str("the caller's token has ended"),
            Self::Forbidden(required) => write!(f, "the caller lacks {required}"),
            Self::RoleLacking(lacking) => write!(f, "{lacking}"),
            Self::NotFound => f.write_str("not found"),
            Self::Tampered => f.write_str(
                "its row was edited in the database, so it is refused everywhere; put the row back from a backup and restart the servers",
            ),
            Self::Invalid(invalid) => {
                let mut separator = "";
                for problem in invalid.problems() {
                    write!(f, "{separator}{} {}", problem.field, problem.message)?;
                    separator = "; ";
                }
                Ok(())
            }
            Self::NotRevocable => f.write_str("only an operator may end this token"),
            Self::TooManyTokens => f.write_str("there are as many live tokens as there may be"),
            Self::NameTaken => f.write_str("there is an operator of that name already"),
            Self::OtherCount(count) => write!(f, "it would end {count} tokens, which is another number; look at them again"),
            Self::KeyActive => f.write_str("it is the active key; activate another one first (countersign keys activate)"),
            Self::KeyUsed => f.write_str(
                "tokens are made with that key: some server has it as its active key still; give all of them the key \
                 file, send SIGHUP, and run this again",
            ),
            Self::LogEdited(what) => f.write_str(what),
            Self::LogTooLong => {
                f.write_str("the audit log is too long to be read while a request waits; run the command where the data is")
            }
            Self::Busy => f.write_str("others are having that done just now; try again in a few seconds"),
            Self::LastOwner => f.write_str("there would be no owner left; make another one first"),
            Self::Changed => f.write_str("somebody else has changed it just now; look at it, and try again"),
            Self::MadeBefore => f.write_str("the form was sent before, and made it then"),
            Self::KeyReused => f.write_str("the idempotency key was used for another request"),
            Self::InProgress => f.write_str("the first request with this idempotency key is still running"),
            Self::Unavailable(cause) => f.write_str(cause),
        }
    }
}

impl std::error::Error for Error {}

impl From<Forbidden> for Error {
    fn from(forbidden: Forbidden) -> Self {
        Self::Forbidden(forbidden.required)
    }
}

impl From<RoleLacking> for Error {
    fn from(lacking: RoleLacking) -> Self {
        Self::RoleLacking(lacking)
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<NoEntropy> for Error {
    fn from(NoEntropy(cause): NoEntropy) -> Self {
        Self::Unavailable(format!("no random bytes: {cause}"))
    }
}
