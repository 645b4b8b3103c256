//! The tenant that owns tokens, and its two halves.

use std::fmt;

use uuid::Uuid;

use super::{Timestamp, TokenName};

/// The identity of a platform; shown as `Platform:<uuid>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlatformId(pub Uuid);

impl PlatformId {
    /// Reads `Platform:<uuid>` or the bare UUID, lower case, as it is shown.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("Platform:").unwrap_or(text);
        let uuid = Uuid::try_parse(text).ok()?;
        (uuid.hyphenated().to_string() == text).then_some(Self(uuid))
    }
}

impl fmt::Display for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Platform:{}", self.0.hyphenated())
    }
}

impl fmt::Debug for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One half of a platform; both are served at the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Environment {
    /// Test money.
    Sandbox,
    /// Real money.
    Production,
}

impl Environment {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sandbox, Self::Production];

    /// The name, as the database and the command line write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Production => "production",
        }
    }

    /// The environment of that exact name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.name() == text)
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a caller can see at all: one environment of one platform. No query exists without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// The platform.
    pub platform: PlatformId,
    /// Its half.
    pub environment: Environment,
}

/// A platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Its identity.
    pub id: PlatformId,
    /// Its name, under the same rules as a token's.
    pub name: TokenName,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was disabled, if it is: none of its tokens verifies meanwhile.
    pub disabled_at: Option<Timestamp>,
}
