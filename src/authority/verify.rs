//! Proving a credential: from the header's parts to a [`Caller`], in memory.
//!
//! ```text
//! index ── no entry ── tag not ours ─────────────────────────────── refused
//!   │          └────── tag ours: made elsewhere a moment ago ────── one read by primary key
//!   └── entry ── digest, constant time ── state ── lease holds ──── proven, or refused
//!                                                    └── over ───── one read by primary key
//! ```
//! The secret comes before the state, so only its holder could learn that a token has ended; and even they are told
//! nothing. Work is the same for every refusal: an unknown id costs a digest too.

use super::{Authority, denials::Reason, index::Missing};
use crate::domain::{Actor, Caller, ClientId, Permissions, Presented, RequestInfo, Scope, TokenId};

/// Why somebody is not a [`Caller`]. Only [`Denied::Unknown`] is told apart on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// Not proven.
    Refused(Reason),
    /// It can't be known now: the database did not answer.
    Unknown,
}

/// A token that was proven.
struct Proven {
    id: TokenId,
    scope: Scope,
    permissions: Permissions,
}

/// What the index alone can say.
enum Resident {
    Proven(Proven),
    Refused(Reason),
    /// Only the database knows.
    Ask,
}

impl Authority {
    /// Proves a credential; `None` is one that could not be ours.
    ///
    /// # Errors
    /// [`Denied`], noted for metrics and audit.
    pub async fn verify(&self, presented: Option<Presented>, request: RequestInfo) -> Result<Caller, Denied> {
        let result = match &presented {
            None => Err(Denied::Refused(Reason::Malformed)),
            Some(presented) => self.prove(presented).await,
        };
        match result {
            Ok(Proven { id, scope, permissions }) => {
                self.uses.note(id, self.clock.wall());
                Ok(Caller { actor: Actor::Token(id), scope, permissions, request })
            }
            Err(denied) => {
                if let Denied::Refused(reason) = denied {
                    self.denials.note(reason);
                }
                Err(denied)
            }
        }
    }

    /// Counts a caller that was refused for its permissions.
    pub fn note_forbidden(&self) {
        self.denials.note(Reason::Forbidden);
    }

    async fn prove(&self, presented: &Presented) -> Result<Proven, Denied> {
        match self.prove_resident(presented) {
            Resident::Proven(proven) => Ok(proven),
            Resident::Refused(reason) => Err(Denied::Refused(reason)),
            Resident::Ask => self.prove_stored(presented).await,
        }
    }

    fn prove_resident(&self, presented: &Presented) -> Resident {
        let ClientId { token: id, environment, .. } = *presented.client_id();
        let found = self.index.find(id, |entry| {
            let digest = self.keyring.digest(entry.key, presented.client_id(), presented.body());
            entry.matches(std::array::from_fn(|i| digest.0[i])) && entry.environment == environment
        });
        let entry = match found {
            Ok(entry) => entry,
            Err(Missing::Refused) => return Resident::Refused(Reason::WrongSecret),
            Err(Missing::Absent) => {
                let _same_work = self.keyring.digest(self.keyring.active_id(), presented.client_id(), presented.body());
                let genuine = self.keyring.is_genuine(presented.client_id());
                return if genuine { Resident::Ask } else { Resident::Refused(Reason::UnknownClient) };
            }
        };
        // An end is final, so it needs no lease.
        if entry.ended {
            return Resident::Refused(Reason::Revoked);
        }
        let Some((platform, disabled)) = self.index.platform(&entry) else { return Resident::Ask };
        // Last of all: a pause anywhere above, of the machine even, must not outlive the lease.
        if !self.lease.as_ref().is_some_and(|lease| lease.holds(self.clock.boot())) {
            return Resident::Ask;
        }
        if disabled {
            return Resident::Refused(Reason::PlatformDisabled);
        }
        Resident::Proven(Proven { id, scope: Scope { platform, environment }, permissions: entry.permissions })
    }

    async fn prove_stored(&self, presented: &Presented) -> Result<Proven, Denied> {
        let client_id = presented.client_id();
        let found = self.store.find_token(client_id.token).await.map_err(|e| {
            tracing::error!(cause = %e, "cannot read a token to verify");
            Denied::Unknown
        })?;
        let (record, platform) = found.ok_or(Denied::Refused(Reason::UnknownClient))?;
        let digest = self.keyring.digest(record.seal.key, client_id, presented.body());
        let proven = record.digest.matches(&digest);
        // Kept for the next time, whatever its state: the index joins, so it can't come back to life.
        if self.lease.is_some() {
            self.put_platform(&platform, 0);
            self.put_token(&record);
        }
        let token = &record.token;
        let refused = if !proven || token.client_id() != *client_id {
            Some(Reason::WrongSecret)
        } else if !self.is_intact(&record) || !self.keyring.is_platform_intact(&platform) {
            Some(Reason::Tampered)
        } else if token.revoked_at.is_some() {
            Some(Reason::Revoked)
        } else if platform.platform.disabled_at.is_some() {
            Some(Reason::PlatformDisabled)
        } else {
            None
        };
        match refused {
            Some(reason) => Err(Denied::Refused(reason)),
            None => Ok(Proven { id: token.id, scope: token.scope, permissions: token.permissions }),
        }
    }
}
