//! A door for `tests/fuzz`: what reads files and cursors here is private, and each to its module. Hidden, and no part of the
//! interface; it decides nothing.

use std::{io, path::Path};

use super::{
    Journal, ListTokens, Reach,
    audit::{self, Head, Heads},
    cursor::List,
    journal,
    key_file::KeyFile,
    keyring::Keyring,
};
use crate::{
    domain::{Invalid, RecordedEntry, Scope, Timestamp, TokenId},
    store::{Database, Mark, Seal},
};

/// A key of a key file: its id, its state, when it was made, and the key itself.
pub type FileKey = (u32, &'static str, Option<String>, [u8; 32]);

/// Reads a key file.
pub fn key_file(text: &str) -> Result<Vec<FileKey>, String> {
    let file = KeyFile::parse(text)?;
    Ok(file.keys.iter().map(|key| (key.id, key.state.name(), key.created.clone(), *key.root.as_array())).collect())
}

/// Whether a database could be reached by this URL.
pub fn database_url(url: &str) -> Result<(), String> {
    Database::check_url(url).map_err(|e| e.to_string())
}

/// The line of an entry of the audit log.
pub fn audit_line(entry: &RecordedEntry, key: u32, mac: [u8; 32]) -> String {
    audit::line(entry, &Seal { key, mac })
}

/// What a key file makes, of an installation.
pub struct Ring(Keyring, [u8; 16]);

impl Ring {
    /// That of a key file's text.
    pub fn of(text: &str, installation: [u8; 16]) -> Option<Self> {
        Keyring::new(&KeyFile::parse(text).ok()?).map(|keyring| Self(keyring, installation))
    }

    /// The cursor of a list that stands behind `last`.
    pub fn cursor(&self, scope: Scope, list: &ListTokens, last: TokenId) -> Option<String> {
        let ListTokens { liveness, order, filter, .. } = list;
        List { scope, liveness: *liveness, order: *order, filter }.cursor(&self.0, last)
    }

    /// What a cursor of a list stands behind.
    pub fn place(&self, scope: Scope, list: &ListTokens, cursor: &str) -> Result<TokenId, Invalid> {
        let ListTokens { liveness, order, filter, .. } = list;
        List { scope, liveness: *liveness, order: *order, filter }.parse(&self.0, cursor)
    }

    /// A journal of these lines: a place of the feed, and what ended up to there.
    pub fn write_journal(&self, lines: &[(u64, Vec<String>)]) -> io::Result<Vec<u8>> {
        journal::written(lines, &self.1, &self.0)
    }

    /// How far the parts of a journal go, and what ended in them.
    pub fn read_journal(&self, bytes: &[u8]) -> Result<Vec<(Reach, Vec<TokenId>)>, String> {
        let parts = Journal::read_from(bytes, Path::new("journal"), &self.0)?;
        Ok(parts.iter().map(|part| (part.reach(), part.ended.iter().copied().collect())).collect())
    }

    /// A head that is signed.
    pub fn head(&self, size: u64, root: [u8; 32], at: Timestamp, node: &str) -> String {
        let mark = Mark { seq: size, mac: [7; 32] };
        Head { installation: self.1, mark, root, at, node: node.to_owned() }.sign(&self.0)
    }

    /// The lines of those heads that are signed.
    pub fn signed(&self, heads: &Heads) -> Vec<String> {
        heads.signed(&self.0, &self.1)
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring([REDACTED])")
    }
}
