//! Create, list, get and revoke tokens.

use std::{
    fmt,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use constant_time_eq::constant_time_eq_n;
use tracing::Instrument as _;

use super::{
    Authority, Error, REPLAY, REPLAY_SECRET, Receipt,
    cursor::List,
    keyring::{Keyring, Seen},
};
use crate::{
    domain::{
        Action, Actor, AuditEntry, AuditQuery, Caller, ClientSecret, Environment, Invalid, Issuer, Liveness, MayManage, MayRead, NewToken,
        Operator, Order, PageLimit, PlatformId, Scope, Timestamp, Token, TokenFilter, TokenId, TokenQuery,
    },
    store::{Decision, Insert, Inserted, Record, Replay},
};

/// A token that was created: the only value that holds a secret.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub token: Token,
    /// Its secret; gone from a replay after ten minutes.
    pub secret: Option<ClientSecret>,
    /// Whether an earlier request with the same `Idempotency-Key` created it.
    pub replayed: bool,
}

/// A token that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The token.
    pub token: Token,
    /// Whether it had ended before.
    pub already: bool,
    /// Since when no process accepts it.
    pub receipt: Receipt,
}

/// What a client names a request by, so that it can repeat it. Not stored, and never shown: it opens a sealed secret.
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// 1 to 255 visible ASCII characters.
    ///
    /// # Errors
    /// [`Invalid`] for anything else.
    pub fn parse(value: &[u8]) -> Result<Self, Invalid> {
        let valid = (1..=255).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        let text = valid.then(|| String::from_utf8_lossy(value).into_owned());
        text.map(Self).ok_or_else(|| Invalid::one("Idempotency-Key", "format", "must be 1 to 255 visible ASCII characters"))
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey([REDACTED])")
    }
}

impl Drop for IdempotencyKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// What to list.
#[derive(Debug, Clone)]
pub struct ListTokens {
    /// Live ones or all.
    pub liveness: Liveness,
    /// Which of them.
    pub filter: TokenFilter,
    /// In which order.
    pub order: Order,
    /// Where to go on: the `next` of the page before.
    pub cursor: Option<String>,
    /// How many.
    pub limit: PageLimit,
    /// Whether to count all matches.
    pub count: bool,
}

/// A page of tokens.
#[derive(Debug)]
pub struct TokenPage {
    /// The tokens.
    pub tokens: Vec<Token>,
    /// Where to go on, if there is more.
    pub next: Option<String>,
    /// How many match in all, if it was asked.
    pub total: Option<u64>,
}

/// Marks a repeatable create as running until dropped.
struct Creating {
    authority: Arc<Authority>,
    id: [u8; 32],
}

impl Creating {
    fn begin(authority: &Arc<Authority>, id: [u8; 32]) -> Result<Self, Error> {
        let fresh = authority.creating.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        if fresh { Ok(Self { authority: Arc::clone(authority), id }) } else { Err(Error::InProgress) }
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        self.authority.creating.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Authority {
    /// Creates a token in the caller's scope, with no permission that the caller lacks.
    ///
    /// It is committed, and verifies in this process, when this returns; it is finished even if the caller goes away.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::CallerEnded`], [`Error::TooManyTokens`], [`Error::KeyReused`], [`Error::InProgress`],
    /// [`Error::NotFound`] (an operator named an unknown platform), [`Error::Unavailable`].
    pub async fn create_token(self: &Arc<Self>, by: &MayManage, new: NewToken, key: Option<IdempotencyKey>) -> Result<Issued, Error> {
        let caller = by.caller().clone();
        let lacking = caller.permissions.lacking(new.permissions);
        if !lacking.is_empty() {
            return Err(Error::Forbidden(lacking));
        }
        let authority = Arc::clone(self);
        // Apart from the request: a client that hangs up must not leave a token that is committed but not in the index.
        tokio::spawn(async move { authority.create(&caller, new, key).await }.in_current_span())
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?
    }

    async fn create(self: &Arc<Self>, caller: &Caller, new: NewToken, key: Option<IdempotencyKey>) -> Result<Issued, Error> {
        let now = self.now();
        // With the token that it made: a replay row that was pointed at another one fits no request.
        let (keyring, name, bits) = (Arc::clone(&self.keyring), new.name.clone(), new.permissions.bits());
        let request = |token: TokenId| keyring.replay_digest(&[name.as_str().as_bytes(), &[bits], token.0.as_bytes()]);
        let (record, secret) = self.issue(caller.scope, new, caller.issuer, true, now)?;
        let replay = match &key {
            None => None,
            Some(IdempotencyKey(key)) => Some(Replay {
                id: self.keyring.replay_digest(&[caller.actor.to_string().as_bytes(), key.as_bytes()]),
                request: request(record.token.id),
                secret: self.keyring.seal_secret(record.token.id, key, &secret),
                created_at: now,
            }),
        };
        let _running = replay.as_ref().map(|replay| Creating::begin(self, replay.id)).transpose()?;
        let insert = Insert {
            entry: entry_of(&record.token, caller, Action::TokenCreate, now),
            record: record.clone(),
            creator: match caller.actor {
                Actor::Token(id) => Some(id),
                Actor::Operator(_) | Actor::System => None,
            },
            replay,
            replays_since: now.plus_millis(-REPLAY),
            // An operator is not limited: who sets a limit can pass it.
            most: self.max_tokens.filter(|_| matches!(caller.actor, Actor::Token(_))),
        };
        let known = self.followed();
        match self.store.insert_token(insert).await? {
            Inserted::Created => {
                if self.lease.is_some() {
                    self.remember(&known, |read| self.put_new_token(&record, read));
                }
                Ok(Issued { token: record.token, secret: Some(secret), replayed: false })
            }
            Inserted::Replayed(before, record) => {
                // An operator says where: the same name elsewhere is another request.
                let same = constant_time_eq_n(&before.request, &request(record.token.id)) && record.token.scope == caller.scope;
                if !same || !self.is_intact(&record)? {
                    return Err(Error::KeyReused);
                }
                let recent = before.created_at >= now.plus_millis(-REPLAY_SECRET) && record.token.revoked_at.is_none();
                let sealed = before.secret.filter(|_| recent).zip(key);
                let secret = sealed.and_then(|(sealed, IdempotencyKey(ref key))| self.keyring.unseal_secret(record.token.id, key, &sealed));
                Ok(Issued { token: record.token, secret, replayed: true })
            }
            Inserted::CreatorEnded => Err(Error::CallerEnded),
            Inserted::NoPlatform => Err(Error::NotFound),
            Inserted::Full => Err(Error::TooManyTokens),
        }
    }

    /// Makes a token's record and secret; commits nothing.
    pub(super) fn issue(
        &self,
        scope: Scope,
        new: NewToken,
        issuer: Issuer,
        revocable: bool,
        at: Timestamp,
    ) -> Result<(Record, ClientSecret), Error> {
        let secret = ClientSecret::draw(scope.environment, |bytes| self.entropy.fill(bytes))?;
        let id = TokenId::new(at, self.random()?);
        let token = Token {
            id,
            scope,
            name: new.name,
            permissions: new.permissions,
            tag: self.keyring.tag(scope.environment, id),
            issuer,
            revocable,
            revoked_at: None,
        };
        let key = self.keyring.active();
        let digest = secret.body().map(|body| key.digest(&token.client_id(), &body));
        let record = digest.and_then(|digest| self.keyring.seal_token(token, digest, key.id()));
        let record = record.ok_or_else(|| Error::Unavailable("no active key".to_owned()))?;
        Ok((record, secret))
    }

    /// One page of the caller's tokens.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the cursor is not one of this list, [`Error::Unavailable`].
    pub async fn list_tokens(&self, by: &MayRead, list: ListTokens) -> Result<TokenPage, Error> {
        let scope = by.caller().scope;
        let ListTokens { liveness, filter, order, cursor, limit, count } = list;
        let place = List { scope, liveness, order, filter: &filter };
        let after = cursor.map(|text| place.parse(&self.keyring, &text)).transpose()?;
        let query = TokenQuery { scope, liveness, filter: filter.clone(), order, after, limit: limit.get(), count };
        let found = self.store.list_tokens(query).await?;
        let next = found.next.and_then(|last| place.cursor(&self.keyring, last));
        Ok(TokenPage { tokens: self.intact(found.records)?, next, total: found.total })
    }

    /// The next tokens of the caller behind `after`, oldest first, ended ones included; and where to go on, if there is
    /// more. For walking a whole list in bounded memory.
    ///
    /// # Errors
    /// [`Error::CallerEnded`] if the caller's token has ended since the walk began, [`Error::Unavailable`].
    pub async fn walk_tokens(&self, by: &MayRead, after: Option<TokenId>, limit: usize) -> Result<(Vec<Token>, Option<TokenId>), Error> {
        // Behind the first chunk a while has passed, as long as the client liked.
        if let (Some(_), Actor::Token(id)) = (after, &by.caller().actor)
            && !self.store.is_live(*id).await?
        {
            return Err(Error::CallerEnded);
        }
        let query = TokenQuery {
            scope: by.caller().scope,
            liveness: Liveness::All,
            filter: TokenFilter::default(),
            order: Order::OldestFirst,
            after,
            limit,
            count: false,
        };
        let found = self.store.list_tokens(query).await?;
        Ok((self.intact(found.records)?, found.next))
    }

    fn intact(&self, records: Vec<Record>) -> Result<Vec<Token>, Error> {
        let told = |record: Record| self.is_intact(&record).map(|intact| intact.then(|| record.into())).transpose();
        records.into_iter().filter_map(told).collect()
    }

    /// One of the caller's tokens, ended or not.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the caller's scope has no such token, [`Error::Unavailable`].
    pub async fn get_token(&self, by: &MayRead, id: TokenId) -> Result<Token, Error> {
        let record = self.store.find_token_in(by.caller().scope, id).await?;
        let record = record.ok_or(Error::NotFound)?;
        if self.is_intact(&record)? { Ok(record.into()) } else { Err(Error::NotFound) }
    }

    /// Ends one of the caller's tokens: when this returns, no process anywhere accepts it, unless its receipt says by when.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotRevocable`] (unless an operator asks), [`Error::Tampered`],
    /// [`Error::Unavailable`]: it may then have ended; a repeat is safe.
    pub async fn revoke_token(self: &Arc<Self>, by: &MayManage, id: TokenId) -> Result<Ended, Error> {
        let (authority, caller) = (Arc::clone(self), by.caller().clone());
        // Apart from the request, as create is.
        tokio::spawn(async move { authority.revoke(caller, id).await }.in_current_span())
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?
    }

    async fn revoke(self: &Arc<Self>, caller: Caller, id: TokenId) -> Result<Ended, Error> {
        let (record, seq) = self.end(&caller, id).await?;
        let place = match seq {
            Some(seq) => Some(seq),
            // Whoever repeats it, perhaps because the first answer was lost, is told of the end that it was.
            None => {
                let of_end = AuditQuery { token: Some(id), action: Some(Action::TokenRevoke), ..AuditQuery::default() };
                self.store.list_audit(of_end).await?.0.first().map(|entry| entry.seq)
            }
        };
        Ok(Ended { receipt: self.receipt(place).await?, token: record.token, already: seq.is_none() })
    }

    /// Ends a token in the database and here. Returns it, and the place of its end if it was live.
    pub(super) async fn end(self: &Arc<Self>, caller: &Caller, id: TokenId) -> Result<(Record, Option<u64>), Error> {
        let caller = caller.clone();
        let (keyring, scope, now) = (Arc::clone(&self.keyring), caller.scope, self.now());
        let decide = move |before: &Record| ended(&keyring, &caller, before, now);
        let asked = self.clock.boot();
        let Some((record, seq)) = self.store.change_token(scope, id, decide).await? else {
            // It may be a row that can't be read: refused and entered now, so that other processes look at it too.
            self.record_tampering().await?;
            return Err(Error::NotFound);
        };
        if seq.is_some() {
            let took = self.clock.boot().saturating_sub(asked).as_micros();
            self.ends.count.fetch_add(1, Ordering::Relaxed);
            self.ends.micros.fetch_add(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        if !self.is_intact(&record)? {
            self.refuse_tampered().await?;
            return Err(Error::Tampered);
        }
        if record.token.revoked_at.is_none() {
            return Err(Error::NotRevocable);
        }
        self.index.end(&record, self.keyring.place(record.seal.key));
        Ok((record, seq))
    }

    /// The operator as a caller in the scope of a token, wherever that is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn locate_token(&self, by: &Operator, id: TokenId) -> Result<Caller, Error> {
        let (record, _) = self.store.find_token(id, self.followed().mark).await?.ok_or(Error::NotFound)?;
        by.within(record.token.scope).ok_or(Error::NotFound)
    }

    /// The operator as a caller in one half of a platform.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn locate_platform(&self, by: &Operator, platform: PlatformId, environment: Environment) -> Result<Caller, Error> {
        self.store.find_platform(platform).await?.ok_or(Error::NotFound)?;
        by.within(Scope { platform, environment }).ok_or(Error::NotFound)
    }
}

/// What ends a token: nothing, unless it is live, as it was sealed, and one that the caller may end.
pub(super) fn ended(keyring: &Keyring, caller: &Caller, before: &Record, now: Timestamp) -> Decision<Record> {
    // An edited row is not sealed again: what was forged would become genuine.
    let genuine = matches!(keyring.see_token(before), Seen::Intact | Seen::Retired);
    // Who issues tokens as the operator: not a platform's own, whatever they are called.
    let endable = before.token.revocable || caller.issuer == Issuer::Operator;
    if before.token.revoked_at.is_some() || !endable || !genuine {
        return Decision::Keep;
    }
    let mut token = before.token.clone();
    // Never before its creation, which another machine's clock may have dated.
    token.revoked_at = Some(now.max(token.created_at()));
    let entry = entry_of(&token, caller, Action::TokenRevoke, now);
    match keyring.seal_token(token, before.digest.clone(), before.seal.key) {
        Some(after) => Decision::Write(after, entry),
        // Its key is not on the ring: nothing could have verified it.
        None => Decision::Keep,
    }
}

/// The audit entry of a change of a token.
pub(super) fn entry_of(token: &Token, caller: &Caller, action: Action, at: Timestamp) -> AuditEntry {
    let permissions: Vec<_> = token.permissions.iter().map(|permission| permission.name()).collect();
    AuditEntry {
        at,
        action,
        actor: caller.actor.clone(),
        platform: Some(token.scope.platform),
        scope: Some(token.scope),
        token: Some(token.id),
        request: caller.request.clone(),
        detail: serde_json::json!({ "name": token.name.as_str(), "permissions": permissions }).to_string(),
    }
}
