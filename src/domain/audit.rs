//! The audit log's words: one committed change, what, by whom.

use std::{fmt, path::PathBuf};

use super::{PageLimit, PlatformId, Scope, Timestamp, TokenId};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A platform was made.
    PlatformCreate,
    /// A platform was disabled.
    PlatformDisable,
    /// A platform was enabled again.
    PlatformEnable,
    /// A token was created.
    TokenCreate,
    /// A token was ended.
    TokenRevoke,
    /// Many tokens are being ended by one command; each has an entry of its own too.
    TokenBulkRevoke,
    /// An operator has stopped that.
    TokenBulkRevokeStop,
    /// The operations of the platform's API were loaded.
    OperationsLoad,
    /// A server key was added; nothing is sealed with it yet.
    KeysAdd,
    /// A server key is the one that new things are sealed with.
    KeysActivate,
    /// A server key was retired: what lived by it has ended.
    KeysRetire,
    /// Credentials or permissions were refused: one entry for all refusals of a minute.
    Denied,
    /// A row was found not to be as it was sealed.
    Tampered,
    /// The database was put back to an earlier state, and what had ended since has ended again.
    Restore,
    /// A backup was taken from elsewhere.
    Backup,
    /// Old entries of the log were removed.
    AuditPrune,
    /// An operator's account was made.
    OperatorCreate,
    /// An operator's role was changed, or their account disabled, enabled or reset; or they have changed how they get in.
    OperatorChange,
    /// An operator signed in, or chose a password.
    OperatorSignIn,
    /// An operator signed out.
    OperatorSignOut,
    /// An operator's token was made.
    OperatorTokenCreate,
    /// An operator's token was ended.
    OperatorTokenRevoke,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 22] = [
        Self::PlatformCreate,
        Self::PlatformDisable,
        Self::PlatformEnable,
        Self::TokenCreate,
        Self::TokenRevoke,
        Self::TokenBulkRevoke,
        Self::TokenBulkRevokeStop,
        Self::OperationsLoad,
        Self::KeysAdd,
        Self::KeysActivate,
        Self::KeysRetire,
        Self::Denied,
        Self::Tampered,
        Self::Restore,
        Self::Backup,
        Self::AuditPrune,
        Self::OperatorCreate,
        Self::OperatorChange,
        Self::OperatorSignIn,
        Self::OperatorSignOut,
        Self::OperatorTokenCreate,
        Self::OperatorTokenRevoke,
    ];

    /// The name, as the log writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlatformCreate => "platform.create",
            Self::PlatformDisable => "platform.disable",
            Self::PlatformEnable => "platform.enable",
            Self::TokenCreate => "token.create",
            Self::TokenRevoke => "token.revoke",
            Self::TokenBulkRevoke => "token.bulk_revoke",
            Self::TokenBulkRevokeStop => "token.bulk_revoke_stop",
            Self::OperationsLoad => "operations.load",
            Self::KeysAdd => "keys.add",
            Self::KeysActivate => "keys.activate",
            Self::KeysRetire => "keys.retire",
            Self::Denied => "denied",
            Self::Tampered => "tampered",
            Self::Restore => "restore",
            Self::Backup => "backup",
            Self::AuditPrune => "audit.prune",
            Self::OperatorCreate => "operator.create",
            Self::OperatorChange => "operator.change",
            Self::OperatorSignIn => "operator.sign_in",
            Self::OperatorSignOut => "operator.sign_out",
            Self::OperatorTokenCreate => "operator_token.create",
            Self::OperatorTokenRevoke => "operator_token.revoke",
        }
    }

    /// The action of that exact name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == text)
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A caller of one of the dialects, by its token.
    Token(TokenId),
    /// An operator: by the name of their account, or, at the command line, by the number of that on the machine.
    Operator(String),
    /// Countersign itself.
    System,
}

impl Actor {
    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("operator", name)) => Some(Self::Operator(name.to_owned())),
            _ if text == "system" => Some(Self::System),
            _ => TokenId::parse(text).map(Self::Token),
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(id) => fmt::Display::fmt(id, f),
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::System => f.write_str("system"),
        }
    }
}

/// The request behind a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The `X-Request-Id` of its answer.
    pub id: String,
    /// The address that it came from; empty for a command.
    pub source: String,
}

/// One change, to be committed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// What.
    pub action: Action,
    /// By whom.
    pub actor: Actor,
    /// On which platform, if on one.
    pub platform: Option<PlatformId>,
    /// In which half, if in one. Never without a platform.
    pub scope: Option<Scope>,
    /// To which token, if to one.
    pub token: Option<TokenId>,
    /// With which request.
    pub request: RequestInfo,
    /// What else is worth knowing, as a JSON object in text; never a secret.
    pub detail: String,
}

/// Where heads of the log are written, other than in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadSink {
    /// To the end of this file.
    File(PathBuf),
    /// To the syslog that listens on this socket.
    Syslog(PathBuf),
    /// To a collector of this URL.
    Http(String),
}

impl HeadSink {
    /// Reads several, with semicolons or spaces between them.
    pub fn parse_all(text: &str) -> Option<Vec<Self>> {
        text.split([';', ' ']).filter(|word| !word.is_empty()).map(Self::parse).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let path = |path: &str| path.starts_with('/').then(|| PathBuf::from(path));
        match text.split_once(':') {
            None if text == "syslog" => path("/dev/log").map(Self::Syslog),
            Some(("syslog", socket)) => path(socket).map(Self::Syslog),
            Some(("file", file)) => path(file).map(Self::File),
            Some(("http" | "https", rest)) if rest.len() > 2 && rest.starts_with("//") => Some(Self::Http(text.to_owned())),
            _ => None,
        }
    }
}

/// An entry as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEntry {
    /// Its place: entries are numbered in the order of their commits.
    pub seq: u64,
    /// The process that wrote it.
    pub node: String,
    /// The entry.
    pub entry: AuditEntry,
}

/// Which entries to show: all that match everything given.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// On this platform.
    pub platform: Option<PlatformId>,
    /// To this token.
    pub token: Option<TokenId>,
    /// Of this kind.
    pub action: Option<Action>,
    /// By them.
    pub actor: Option<Actor>,
    /// At or after.
    pub after: Option<Timestamp>,
    /// At or before.
    pub before: Option<Timestamp>,
    /// Older than this place: the last one of the page before.
    pub before_seq: Option<u64>,
    /// At most so many, newest first.
    pub limit: PageLimit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l_04_where_heads_go() {
        let file = |path: &str| HeadSink::File(path.into());
        let syslog = |path: &str| HeadSink::Syslog(path.into());
        assert_eq!(HeadSink::parse_all(""), Some(vec![]));
        assert_eq!(HeadSink::parse_all("file:/a/b; syslog"), Some(vec![file("/a/b"), syslog("/dev/log")]));
        let url = || HeadSink::Http("https://me:secret@collector.internal:8443/heads?of=us".to_owned());
        assert_eq!(
            HeadSink::parse_all("syslog:/run/log;https://me:secret@collector.internal:8443/heads?of=us"),
            Some(vec![syslog("/run/log"), url()])
        );
        for odd in ["/a/b", "file:a", "file:", "syslog:log", "http:/x", "https://", "ftp://x", "file:/a;oops"] {
            assert_eq!(HeadSink::parse_all(odd), None, "{odd}");
        }
    }
}
