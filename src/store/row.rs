//! What a database keeps of a token and of a platform: the domain's record and what proves it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use crate::domain::{ClientTag, Platform, SecretDigest, Timestamp, Token, TokenId};

/// The proof that a row was written by a holder of the server key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal {
    /// The key that made it, and the digest beside it.
    pub(crate) key: u32,
    /// HMAC-SHA-256 over every other value of the row.
    pub(crate) mac: [u8; 32],
}

/// What a database knows of a key.
#[derive(Debug, Clone)]
pub(crate) struct Canary {
    /// The key.
    pub(crate) key: u32,
    /// What it makes of the installation's identity.
    pub(crate) mac: [u8; 32],
    /// When it was retired.
    pub(crate) retired_at: Option<Timestamp>,
}

/// How much lives by a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sealing {
    /// Live tokens.
    pub tokens: u64,
    /// Platforms.
    pub platforms: u64,
    /// The operations, which are one document.
    pub operations: u64,
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

/// How long a token's proof is.
const PROOF_LEN: usize = 4 + 32 + 32;

impl Record {
    /// All that the server key made of it, as one value: the clientId's tag, the secret's digest, the seal.
    pub(crate) fn proof(&self) -> [u8; PROOF_LEN] {
        let mut proof = [0; PROOF_LEN];
        let (tag, rest) = proof.split_at_mut(4);
        let (digest, mac) = rest.split_at_mut(32);
        tag.copy_from_slice(&self.token.tag.0);
        digest.copy_from_slice(self.digest.bytes());
        mac.copy_from_slice(&self.seal.mac);
        proof
    }
}

/// The parts of [`Record::proof`].
pub(crate) fn split_proof(proof: &[u8; PROOF_LEN]) -> (ClientTag, SecretDigest, [u8; 32]) {
    let part = |at: usize| std::array::from_fn(|i| proof[at + i]);
    (ClientTag(std::array::from_fn(|i| proof[i])), SecretDigest::new(part(4)), part(36))
}

/// The operations as they are kept.
#[derive(Debug, Clone)]
pub(crate) struct OperationsRecord {
    /// All of them, as a text.
    pub(crate) document: String,
    /// When they were loaded.
    pub(crate) loaded_at: Timestamp,
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

/// Tokens whose rows hold something that we never write, found since it was asked last: refused, as other edited rows
/// are, instead of failing everything that comes across them.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(Mutex<BTreeSet<TokenId>>);

impl Unreadable {
    /// Notes such a row.
    pub(crate) fn note(&self, id: TokenId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    pub(crate) fn take(&self) -> Vec<TokenId> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }
}
