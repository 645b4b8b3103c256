//! What a database keeps of a token and of a platform: the domain's record and what proves it.

use crate::domain::{Platform, SecretDigest, Token};

/// The proof that a row was written by a holder of the server key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal {
    /// The key that made it, and the digest beside it.
    pub(crate) key: u32,
    /// How often the row was written, from 1.
    pub(crate) version: u32,
    /// HMAC-SHA-256 over every other value of the row.
    pub(crate) mac: [u8; 32],
}

/// A token as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// The token.
    pub(crate) token: Token,
    /// What is kept of its secret.
    pub(crate) digest: SecretDigest,
    /// The proof.
    pub(crate) seal: Seal,
}

/// A platform as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct PlatformRecord {
    /// The platform.
    pub(crate) platform: Platform,
    /// The proof.
    pub(crate) seal: Seal,
}
