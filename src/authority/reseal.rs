//! Tokens on their way to another key.
//!
//! The digest of a secret can be made anew only while the secret is at hand: whoever proves a token under another key than the
//! active one has made the digest under that too, because everybody does, and leaves it here. It is written later, with the
//! token's seal, only where the token is live then, and only from an older key to a newer one: the key of a token grows as its
//! state does, from live to ended, so nothing comes back, and processes whose active keys differ do not undo each other's work.
//!
//! No entry of the audit log says so, and nobody follows it: what other processes have in memory verifies as long as the old
//! key does, and each comes by the new digest when it proves the token itself.

use std::{collections::BTreeMap, sync::Arc};

use crossbeam_queue::SegQueue;

use super::{
    Authority, Error,
    keyring::{Key, Seen},
};
use crate::{
    domain::{SecretDigest, TokenId},
    store::Record,
};

/// Tokens in one transaction.
const AT_ONCE: usize = 256;
/// Tokens that wait at the most; others are noted when they are proven again.
const MOST: usize = 16_384;

/// Digests that are not written yet.
#[derive(Default)]
pub(crate) struct Reseals(SegQueue<(TokenId, u32, SecretDigest)>);

impl Reseals {
    /// Notes what the active key makes of a token that was proven under another one.
    pub(crate) fn note(&self, id: TokenId, active: &Key, digest: &SecretDigest) {
        if self.0.len() < MOST {
            self.0.push((id, active.id(), digest.clone()));
        }
    }
}

impl Authority {
    /// Writes what was noted. What can't be written is noted again when its token is next proven.
    pub(super) async fn reseal(&self) -> Result<(), Error> {
        loop {
            let mut noted = BTreeMap::new();
            while noted.len() < AT_ONCE
                && let Some((id, key, digest)) = self.reseals.0.pop()
            {
                noted.insert(id, (key, digest));
            }
            if noted.is_empty() {
                return Ok(());
            }
            let (keyring, ids) = (Arc::clone(&self.keyring), noted.keys().copied().collect());
            let decide = move |before: &Record| {
                let (key, digest) = noted.get(&before.token.id)?;
                let moves = before.token.revoked_at.is_none() && before.seal.key < *key && keyring.see_token(before) == Seen::Intact;
                moves.then(|| keyring.seal_token(before.token.clone(), digest.clone(), *key)).flatten()
            };
            // Also those that another process has written: this one has them under the new key from now on.
            let known = self.followed();
            let resealed = self.store.reseal_tokens(ids, decide).await?;
            self.remember(&known, |read| resealed.iter().for_each(|record| self.put_token(record, read)));
        }
    }
}
