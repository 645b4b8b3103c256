//! Proving a credential: from the header's parts to a [`Caller`], in memory.
//!
//! ```text
//! index ── no entry ── tag not ours ─────────────────────────────── refused
//!   │          └────── tag ours: made elsewhere a moment ago ────── one read by primary key
//!   └── entry ── digest, constant time ── state ── lease holds ──── proven, or refused
//!                                                    └── over ───── one read by primary key
//! ```
//! Where the database can't be reached, memory goes on for a while if `on_database_loss` says so; else nobody is proven.
//!
//! The secret comes before the state, so only its holder could learn that a token has ended; and even they are told
//! nothing. Work is the same for every refusal: an unknown id costs a digest too, and a known one a look at its tag. (Only one
//! of a token whose key is not the active one any more costs a second digest.)

use std::{fmt, net::IpAddr, sync::atomic::Ordering, time::Duration};

use super::{
    Authority,
    denials::Reason,
    feed::Followed,
    index::{Entry, Found, Missing},
    keyring::{Key, Seen},
    lease::Lease,
};
use crate::{
    defect::{self, Defect},
    domain::{Caller, ClientId, Environment, Permissions, PlatformId, Presented, Proven, RequestInfo, Scope, SecretDigest, TokenId},
    store::{self, PlatformRecord, Record},
};

/// How long a read of one token may take where memory would do instead.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Why somebody is not a [`Caller`]. Only [`Denied::Unknown`] is told apart on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// Not proven.
    Refused(Reason),
    /// It can't be known now: the database did not answer.
    Unknown,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "the credential is refused: {}", reason.name()),
            Self::Unknown => f.write_str("the database cannot say whether the credential holds"),
        }
    }
}

impl std::error::Error for Denied {}

/// What the index alone can say: small enough for registers, because what was just written in one size and is read in another
/// is waited for. Who it is, is in the credential.
enum Resident<'i> {
    /// It holds: whose it is, in which environment, and what it may do.
    Proven(&'i PlatformId, Environment, Permissions),
    Refused(Reason),
    /// Only the database knows.
    Ask,
}

impl Authority {
    /// Proves a credential and counts its use, from that address if it is known; `None` is one that could not be ours.
    ///
    /// # Errors
    /// [`Denied`], noted for metrics and audit.
    pub async fn prove(&self, presented: Option<&Presented>, source: Option<IpAddr>) -> Result<Proven, Denied> {
        match (self.prove_at_once(presented, source), presented) {
            (None, Some(presented)) => self.prove_stored(presented, source).await.inspect_err(|denied| self.note(*denied)),
            (known, _) => known.unwrap_or(Err(Denied::Unknown)),
        }
    }

    /// The same where memory alone knows; `None` where the database has to be asked.
    pub fn prove_at_once(&self, presented: Option<&Presented>, source: Option<IpAddr>) -> Option<Result<Proven, Denied>> {
        let refused = match presented.map(|presented| self.prove_resident(presented, source)) {
            Some(Resident::Proven(platform, environment, permissions)) => {
                let scope = Scope { platform: *platform, environment };
                return presented.map(|presented| Ok(Proven { client_id: *presented.client_id(), scope, permissions }));
            }
            Some(Resident::Ask) => return None,
            Some(Resident::Refused(reason)) => {
                // An unknown id's tag was looked at. The others' is too, or the time would tell who is known.
                if reason != Reason::UnknownClient {
                    std::hint::black_box(presented.map(|presented| self.keyring.is_genuine(presented.client_id())));
                }
                Denied::Refused(reason)
            }
            None => Denied::Refused(Reason::Malformed),
        };
        self.note(refused);
        Some(Err(refused))
    }

    fn note(&self, denied: Denied) {
        if let Denied::Refused(reason) = denied {
            self.denials.note(reason);
        }
    }

    /// Proves the caller of a request that came from nowhere in particular.
    ///
    /// # Errors
    /// As [`Authority::prove`].
    pub async fn verify(&self, presented: Option<Presented>, request: RequestInfo) -> Result<Caller, Denied> {
        self.prove(presented.as_ref(), None).await.map(|proven| Caller::of(proven, request))
    }

    /// Counts an attempt that was refused; returns how long its source should wait, if there were too many.
    pub fn note_failed(&self, source: IpAddr, presented: Option<&Presented>) -> Option<Duration> {
        self.attempts.failed(source, presented.map(|presented| presented.client_id().token), self.clock.boot())
    }

    /// Whether too many attempts from there were refused to ask the database for another; how long to wait then.
    pub fn is_limited(&self, source: IpAddr) -> Option<Duration> {
        self.attempts.too_many(source, self.clock.boot())
    }

    /// Counts a caller that was refused for its permissions.
    pub fn note_forbidden(&self) {
        self.denials.note(Reason::Forbidden);
    }

    fn prove_resident(&self, presented: &Presented, source: Option<IpAddr>) -> Resident<'_> {
        let client_id = presented.client_id();
        // Before it is known whether there is an entry: the same work for everybody, while the entry comes from memory.
        let (place, active) = self.keyring.active_at();
        let digest = active.digest(client_id, presented.body());
        let mut other_key = false;
        let is_it = |entry: &Entry| {
            if usize::from(entry.key) != place || active.is_retired() {
                other_key = true;
                return false;
            }
            entry.matches(digest.half()) && entry.environment == client_id.environment
        };
        match self.index.find(client_id.token, is_it, |found| self.judge(client_id, &found, source, None)) {
            Ok(judged) => judged,
            Err(Missing::Refused) if other_key => self.prove_under_another(presented, source, active, &digest),
            Err(Missing::Refused) => Resident::Refused(Reason::WrongSecret),
            Err(Missing::Absent) => {
                if self.keyring.is_genuine(client_id) || self.keys.lacks_any() {
                    Resident::Ask
                } else {
                    Resident::Refused(Reason::UnknownClient)
                }
            }
        }
    }

    /// The same of a token that the index has under a key which is not the active one, of which `digest` is.
    #[cold]
    fn prove_under_another(&self, presented: &Presented, source: Option<IpAddr>, active: &Key, digest: &SecretDigest) -> Resident<'_> {
        let client_id = presented.client_id();
        let mut dead = false;
        let is_it = |entry: &Entry| {
            let Some(key) = self.keyring.at(entry.key) else { return false };
            let is = entry.matches(key.digest(client_id, presented.body()).half()) && entry.environment == client_id.environment;
            // A live one may have been sealed anew before its key was retired.
            dead |= is && key.is_retired() && !entry.ended;
            is && (entry.ended || !key.is_retired())
        };
        match self.index.find(client_id.token, is_it, |found| self.judge(client_id, &found, source, Some((active, digest)))) {
            Ok(judged) => judged,
            Err(_) if dead => Resident::Ask,
            Err(_) => Resident::Refused(Reason::WrongSecret),
        }
    }

    /// What becomes of the holder of the right secret; `anew` is its digest under the active key, if that is another one.
    ///
    /// Inlined into the usual way, where it would cost 20 ns to be called: what it answers is copied byte by byte.
    #[inline(always)]
    fn judge(&self, client_id: &ClientId, found: &Found<'_>, source: Option<IpAddr>, anew: Option<(&Key, &SecretDigest)>) -> Resident<'_> {
        let entry = &found.entry;
        // An end is final, so it needs no lease.
        if entry.ended {
            if Defect::Timing.is_seeded() {
                std::hint::black_box((0..200).filter(|_| self.keyring.is_genuine(std::hint::black_box(client_id))).count());
            }
            return Resident::Refused(Reason::Revoked);
        }
        let Some((platform, disabled)) = self.index.platform(entry) else { return Resident::Ask };
        let Some(lease) = &self.lease else { return Resident::Ask };
        // Last of all: a pause anywhere above, of the machine even, must not outlive the lease.
        let now = self.clock.boot();
        if !lease.holds(now) {
            if !lease.serves_stale(now) {
                return Resident::Ask;
            }
            if !disabled {
                lease.accept_stale();
            }
        }
        if disabled {
            return Resident::Refused(Reason::PlatformDisabled);
        }
        if found.count_use() {
            self.uses.touch(client_id.token, self.clock.wall());
            if let Some((active, digest)) = anew {
                self.reseals.note(client_id.token, active, digest);
            }
        }
        if let Some(address) = source {
            self.uses.note_source(client_id.token, address, now, &*self.clock);
        }
        Resident::Proven(platform, entry.environment, entry.permissions)
    }

    /// Reads a token. A lease that holds behind the read says that the database which was read is the one in use; without one
    /// it has to say so itself.
    async fn find(&self, id: TokenId, known: &Followed) -> Result<Option<(Record, PlatformRecord)>, store::Error> {
        let holds = || self.lease.as_ref().is_some_and(|lease| lease.holds(self.clock.boot()));
        if holds() {
            let found = self.store.find_token(id, known.mark).await;
            if holds() {
                return found;
            }
        }
        self.store.find_token_confirmed(id, known.mark).await
    }

    /// The same; where memory would do instead, only for as long as a database in good health takes by far.
    async fn find_in_time(&self, id: TokenId, known: &Followed) -> Result<Option<(Record, PlatformRecord)>, store::Error> {
        let found = self.find(id, known);
        if self.lease.as_ref().is_none_or(|lease| lease.stale().is_zero()) {
            return found.await;
        }
        let late = || Err(store::Error::Unreachable("the database did not answer at once".to_owned()));
        tokio::time::timeout(AT_ONCE, found).await.unwrap_or_else(|_| late())
    }

    async fn prove_stored(&self, presented: &Presented, source: Option<IpAddr>) -> Result<Proven, Denied> {
        // What memory does not know is not asked of a database that can't be reached: each request would wait for it.
        if self.lease.as_ref().is_some_and(Lease::is_lost) {
            return Err(Denied::Unknown);
        }
        let (client_id, version) = (presented.client_id(), self.keyring.version());
        // First: while everything is loaded anew nobody gets past the next line, so what is read behind it for the history that
        // was loaded is no older than that.
        let known = self.followed();
        if self.rewound.load(Ordering::SeqCst) {
            return Err(Denied::Unknown);
        }
        let found = match self.find_in_time(client_id.token, &known).await {
            Ok(found) => found,
            // Tokens that were ended may be live there.
            Err(e @ (store::Error::Rewound { .. } | store::Error::Pruned | store::Error::Held(_))) => {
                self.refuse_all(&known, &e);
                return Err(Denied::Unknown);
            }
            Err(e) => {
                tracing::error!(cause = %e, "cannot read a token to verify");
                if e.is_unreachable() {
                    self.note_answer(&Err::<(), _>(e));
                }
                // Now that this is known, memory may be enough.
                return match self.prove_resident(presented, source) {
                    Resident::Proven(platform, environment, permissions) => {
                        Ok(Proven { client_id: *client_id, scope: Scope { platform: *platform, environment }, permissions })
                    }
                    Resident::Refused(reason) => Err(Denied::Refused(reason)),
                    Resident::Ask => Err(Denied::Unknown),
                };
            }
        };
        defect::pause_behind_read().await;
        let (record, platform) = found.ok_or(Denied::Refused(Reason::UnknownClient))?;
        // Kept for the next time, whatever its state: the index joins, so it can't come back to life.
        if self.lease.is_some() {
            self.remember(&known, |read| {
                self.put_platform(&platform, 0);
                self.put_token(&record, read);
            });
        }
        let (key, token) = (self.keyring.get(record.seal.key), &record.token);
        let Some(proven) = key.map(|key| record.digest.matches(&key.digest(client_id, presented.body()))) else {
            self.note_lacking(record.seal.key);
            return Err(Denied::Unknown);
        };
        let refused = match (self.keyring.see_token(&record), self.keyring.see_platform(&platform)) {
            _ if !proven || token.client_id() != *client_id => Some(Reason::WrongSecret),
            (Seen::Edited, _) => {
                self.note_tampered(token.id.to_string());
                Some(Reason::Tampered)
            }
            (_, Seen::Edited) => Some(Reason::Tampered),
            // Its key was retired while it was read: it may have been sealed anew in between.
            (Seen::Retired, _) if self.keyring.version() != version => return Err(Denied::Unknown),
            (Seen::Retired, _) => Some(Reason::Revoked),
            (_, Seen::Unknown) => {
                self.note_lacking(platform.seal.key);
                return Err(Denied::Unknown);
            }
            (_, Seen::Retired) => return Err(Denied::Unknown),
            _ if token.revoked_at.is_some() => Some(Reason::Revoked),
            _ if platform.platform.disabled_at.is_some() => Some(Reason::PlatformDisabled),
            _ => None,
        };
        match refused {
            Some(reason) => Err(Denied::Refused(reason)),
            None => {
                self.uses.note(token.id, self.clock.wall());
                if let Some(address) = source {
                    self.uses.note_source(token.id, address, self.clock.boot(), &*self.clock);
                }
                let active = self.keyring.active();
                if active.id() != record.seal.key {
                    self.reseals.note(token.id, active, &active.digest(client_id, presented.body()));
                }
                Ok(Proven { client_id: *client_id, scope: token.scope, permissions: token.permissions })
            }
        }
    }
}
