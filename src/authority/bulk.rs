//! Ending many tokens by one command: all that a search finds, if they are as many as the operator has said.
//!
//! What was begun is a row, sealed as all are, and any server goes on with it: the tokens that a transaction ends and how far
//! the whole is are committed together, so nothing is ended twice, counted twice or forgotten, whoever dies meanwhile. Each
//! token has its entry in the audit log, as if it had been ended alone, and the whole has one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::{
    Authority, Error,
    audit::ended::stopped,
    keyring::{Keyring, Seen},
    once::OneTimeKey,
    search::{Found, may_look},
    tokens,
};
use crate::{
    domain::{
        Action, AuditEntry, AuditQuery, BulkId, BulkRevoke, BulkState, Caller, Issuer, LastUse, Operator, Order, PageLimit, Permissions,
        Timestamp, TokenId, TokenSearch, name_part,
    },
    store::{BulkRecord, Decision, Record},
};

/// Tokens that are ended in one transaction.
const AT_ONCE: usize = 256;
/// Pages of a search that are counted at the most: two million rows, which takes some seconds.
const PAGES: usize = 200;
/// Tokens that a plan shows.
const SHOWN: usize = 100;
/// Bulk revokes that are listed.
const LISTED: u16 = 100;
/// For how long one must not have moved, before another server goes on with it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for such.
const EVERY: Duration = Duration::from_secs(5);

/// What a bulk revoke would end.
#[derive(Debug)]
pub struct BulkPlan {
    /// What to begin it with: what was asked for, among tokens that there were when it was asked.
    pub search: TokenSearch,
    /// How many it would end.
    pub count: u64,
    /// The first of them, oldest first.
    pub first: Vec<Found>,
}

/// Those that are under way, with their seals, and since when they have these.
pub(super) type Seals = Mutex<HashMap<BulkId, ([u8; 32], Duration)>>;

impl Authority {
    /// Counts what a bulk revoke would end: of what a search finds, the live tokens that are no platform's root tokens.
    ///
    /// # Errors
    /// [`Error::RoleLacking`], [`Error::NotFound`], [`Error::Invalid`] if too many tokens would have to be looked at,
    /// [`Error::Unavailable`].
    pub async fn plan_bulk_revoke(&self, by: &Operator, search: TokenSearch) -> Result<BulkPlan, Error> {
        by.may_issue()?;
        may_look(by, &search)?;
        // It is kept as lines.
        let name = name_part("namePart", search.name.as_deref().unwrap_or_default())?;
        if search.used.is_some() {
            // What was used here a moment ago is no "never used". What was at other servers they write within `flush_interval`.
            self.flush().await?;
        }
        let until = search.until.min(self.now());
        let search =
            TokenSearch { name, live: Some(true), until, order: Order::OldestFirst, after: None, limit: Default::default(), ..search };
        let (mut count, mut first, mut place) = (0, Vec::new(), search.clone());
        for _ in 0..PAGES {
            let page = self.look(&place, usize::MAX).await?;
            for found in page.found.into_iter().filter(|found| BulkRevoke::may_end(&found.token)) {
                count += 1;
                if first.len() < SHOWN {
                    first.push(found);
                }
            }
            place.after = page.next;
            if place.after.is_none() {
                return Ok(BulkPlan { search, count, first });
            }
        }
        let narrower = "finds its tokens among too many; name a platform, or a span of time in which they were created";
        Err(crate::domain::Invalid::one("filter", "too_wide", narrower).into())
    }

    /// Begins one: it is committed when this returns, and some server is at it until it is over. Whoever begins it says how
    /// many tokens it is to end. A form that is sent again begins nothing: what it began is returned.
    ///
    /// # Errors
    /// As [`Authority::plan_bulk_revoke`]; [`Error::OtherCount`] if they are another number.
    pub async fn begin_bulk_revoke(
        self: &Arc<Self>,
        by: &Operator,
        search: TokenSearch,
        expected: u64,
        form: Option<OneTimeKey>,
    ) -> Result<BulkRevoke, Error> {
        by.may_issue()?;
        let (text, count) = (search.text(), expected.to_be_bytes());
        let id = BulkId(self.new_id(self.now(), by, form.as_ref(), &[b"bulk revoke", text.as_bytes(), &count])?.0);
        if form.is_some() && self.store.find_bulk(id).await?.is_some() {
            return self.get_bulk_revoke(by, id).await;
        }
        let BulkPlan { search, count, .. } = self.plan_bulk_revoke(by, search).await?;
        if count != expected {
            return Err(Error::OtherCount(count));
        }
        let now = self.now();
        let bulk = BulkRevoke {
            id,
            operator: by.name().to_owned(),
            source: by.request().source.clone(),
            search,
            expected,
            created_at: now,
            place: None,
            ended: 0,
            state: BulkState::Running,
        };
        let told = json!({ "bulkRevoke": bulk.id.to_string(), "expected": expected, "filter": filter(&bulk.search) });
        let entry = self.bulk_entry(by, Action::TokenBulkRevoke, &bulk, &told);
        if !self.store.put_bulk(None, self.keyring.seal_bulk(bulk.clone()), Some(entry)).await? {
            // The same form, at this very moment.
            return Err(Error::Changed);
        }
        let authority = Arc::clone(self);
        tokio::spawn(async move { authority.run_and_tell(id).await });
        Ok(bulk)
    }

    fn bulk_entry(&self, by: &Operator, action: Action, bulk: &BulkRevoke, told: &Value) -> AuditEntry {
        AuditEntry {
            at: self.now(),
            action,
            actor: by.actor(),
            platform: bulk.search.scope.map(|scope| scope.platform),
            scope: bulk.search.scope,
            token: None,
            request: by.request().clone(),
            detail: told.to_string(),
        }
    }

    /// The newest bulk revokes that the operator sees; none that was edited.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn list_bulk_revokes(&self, by: &Operator) -> Result<Vec<BulkRevoke>, Error> {
        let all = self.store.list_bulks(LISTED).await?.into_iter().filter_map(|record| self.intact_bulk(record).ok());
        Ok(all.map(|record| record.bulk).filter(|bulk| bulk.is_seen_by(by)).collect())
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Tampered`], [`Error::Unavailable`].
    pub async fn get_bulk_revoke(&self, by: &Operator, id: BulkId) -> Result<BulkRevoke, Error> {
        self.find_bulk(by, id).await.map(|record| record.bulk)
    }

    async fn find_bulk(&self, by: &Operator, id: BulkId) -> Result<BulkRecord, Error> {
        let found = self.store.find_bulk(id).await?.filter(|record| record.bulk.is_seen_by(by));
        self.intact_bulk(found.ok_or(Error::NotFound)?)
    }

    /// Ends no more tokens by it. One that is over stays as it is.
    ///
    /// # Errors
    /// [`Error::RoleLacking`], [`Error::NotFound`], [`Error::Tampered`], [`Error::Changed`], [`Error::Unavailable`].
    pub async fn stop_bulk_revoke(&self, by: &Operator, id: BulkId) -> Result<BulkRevoke, Error> {
        by.may_issue()?;
        // Each transaction of whoever is at it changes the row.
        for _ in 0..10 {
            let before = self.find_bulk(by, id).await?;
            if before.bulk.state != BulkState::Running {
                return Ok(before.bulk);
            }
            let bulk = BulkRevoke { state: BulkState::Stopped(self.now()), ..before.bulk };
            let told = json!({ "bulkRevoke": bulk.id.to_string(), "ended": bulk.ended });
            let entry = self.bulk_entry(by, Action::TokenBulkRevokeStop, &bulk, &told);
            if self.store.put_bulk(Some(before.seal), self.keyring.seal_bulk(bulk.clone()), Some(entry)).await? {
                return Ok(bulk);
            }
        }
        Err(Error::Changed)
    }

    fn intact_bulk(&self, record: BulkRecord) -> Result<BulkRecord, Error> {
        match self.keyring.see_bulk(&record) {
            Seen::Intact => Ok(record),
            Seen::Unknown => Err(self.lacking(record.seal.key)),
            Seen::Edited => {
                self.note_tampered(format!("bulk revoke {}", record.bulk.id));
                Err(Error::Tampered)
            }
            Seen::Retired => Err(Error::Tampered),
        }
    }

    /// Ends what is left of one, until it is over or somebody else is at it.
    async fn run_bulk_revoke(&self, id: BulkId) -> Result<(), Error> {
        loop {
            let BulkRecord { bulk, seal } = self.intact_bulk(self.store.find_bulk(id).await?.ok_or(Error::NotFound)?)?;
            if bulk.state != BulkState::Running {
                return Ok(());
            }
            let page = self.look(&TokenSearch { after: bulk.place, ..bulk.search.clone() }, AT_ONCE).await?;
            let ids: Vec<_> = page.found.iter().map(|found| found.token.id).collect();
            let Some(place) = page.next.or(ids.last().copied()).filter(|_| bulk.ended < bulk.expected) else {
                // All of it is true everywhere, or the moment is known by which it is; and it is in the journal.
                let last = self.store.last_mark().await?;
                let effective_at = self.receipt(Some(last.seq)).await?.effective_at;
                let bulk = BulkRevoke { state: BulkState::Finished(effective_at), ..bulk };
                self.store.put_bulk(Some(seal), self.keyring.seal_bulk(bulk), None).await?;
                return Ok(());
            };
            if !self.end_next(BulkRecord { bulk, seal }, place, ids).await? {
                return Ok(());
            }
        }
    }

    /// Ends these tokens, of which the last one that was looked at is `place`; says whether nobody else was at it.
    async fn end_next(&self, before: BulkRecord, place: TokenId, ids: Vec<TokenId>) -> Result<bool, Error> {
        let (keyring, bulk, now) = (Arc::clone(&self.keyring), before.bulk, self.now());
        let decide = move |records: &[Record]| {
            let mut bulk = BulkRevoke { place: Some(place), ..bulk.clone() };
            let by_caller = |record: &Record| Caller {
                actor: bulk.actor(),
                scope: record.token.scope,
                permissions: Permissions::ALL,
                issuer: Issuer::Platform,
                request: bulk.request(),
            };
            let mut decisions = Vec::with_capacity(records.len());
            let mut ended = bulk.ended;
            for record in records {
                let decision = match BulkRevoke::may_end(&record.token) && ended < bulk.expected {
                    true => tokens::ended(&keyring, &by_caller(record), record, now),
                    false => Decision::Keep,
                };
                ended += u64::from(matches!(decision, Decision::Write(..)));
                decisions.push(decision);
            }
            bulk.ended = ended;
            (decisions, keyring.seal_bulk(bulk))
        };
        let Some(tokens) = self.store.end_tokens(before.seal, ids, decide).await? else { return Ok(false) };
        for (record, _) in tokens.iter().filter(|(_, place)| place.is_some()) {
            self.index.end(record, self.keyring.place(record.seal.key));
            self.ends.count.fetch_add(1, Ordering::Relaxed);
        }
        self.ended.notify_one();
        Ok(true)
    }

    async fn run_and_tell(&self, id: BulkId) {
        match self.run_bulk_revoke(id).await {
            Ok(()) => {}
            Err(e) => tracing::error!(cause = %e, bulk_revoke = %id, "a bulk revoke is interrupted; some server goes on with it"),
        }
    }

    /// Goes on with those that have not moved for a while, until they are over: whoever was at them is not any more. To be
    /// called every few seconds.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn resume_bulk_revokes(&self) -> Result<(), Error> {
        let (now, running) = (self.clock.boot(), self.store.running_bulks().await?);
        let mut left = Vec::new();
        {
            let mut seals = self.bulks.lock().unwrap_or_else(PoisonError::into_inner);
            seals.retain(|id, _| running.iter().any(|record| record.bulk.id == *id));
            for BulkRecord { bulk, seal } in &running {
                let (mac, since) = seals.entry(bulk.id).or_insert((seal.mac, now));
                if *mac != seal.mac {
                    (*mac, *since) = (seal.mac, now);
                } else if now.saturating_sub(*since) >= PATIENCE {
                    *since = now;
                    left.push(bulk.id);
                }
            }
        }
        for id in left {
            if self.was_stopped(id).await? {
                self.note_tampered(format!("bulk revoke {id}, which was stopped: an old row was put back"));
            } else {
                self.run_and_tell(id).await;
            }
        }
        Ok(())
    }

    /// Whether the log says that somebody stopped it: its row may be one of before.
    async fn was_stopped(&self, id: BulkId) -> Result<bool, Error> {
        let mut before_seq = None;
        loop {
            let query =
                AuditQuery { action: Some(Action::TokenBulkRevokeStop), before_seq, limit: PageLimit::LARGEST, ..AuditQuery::default() };
            let (page, more) = self.store.list_audit(query).await?;
            if page.iter().any(|entry| stopped(entry) == Some(id)) {
                return Ok(true);
            }
            before_seq = page.last().map(|entry| entry.seq);
            if !more || before_seq.is_none() {
                return Ok(false);
            }
        }
    }

    /// Seals anew what was sealed with a key that is about to be retired, also what is over: it is told still.
    pub(super) async fn reseal_bulk_revokes(&self, key: u32) -> Result<(), Error> {
        for before in self.store.list_bulks(u16::MAX).await?.into_iter().filter(|record| record.seal.key == key) {
            if self.keyring.see_bulk(&before) == Seen::Intact
                && !self.store.put_bulk(Some(before.seal), self.keyring.seal_bulk(before.bulk), None).await?
            {
                return Err(Error::Changed);
            }
        }
        Ok(())
    }
}

/// The task that goes on with what others have left; it ends with this.
pub(super) fn resuming(authority: &Arc<Authority>) -> JoinSet<()> {
    let (authority, mut tasks) = (Arc::clone(authority), JoinSet::new());
    tasks.spawn(async move {
        let mut looks = tokio::time::interval(EVERY);
        loop {
            looks.tick().await;
            if let Err(e) = authority.resume_bulk_revokes().await {
                tracing::error!(cause = %e, "cannot look for bulk revokes that are left; trying again");
            }
        }
    });
    tasks
}

/// What is looked for, as JSON: the members that are given.
pub(crate) fn filter(search: &TokenSearch) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    if let Some(scope) = search.scope {
        put("platform", scope.platform.to_string().into());
        put("environment", scope.environment.name().into());
    }
    if let Some(part) = &search.name {
        put("namePart", part.as_str().into());
    }
    if let Some(permission) = search.permission {
        put("permission", permission.name().into());
    }
    match search.used {
        None => None,
        Some(LastUse::Never) => put("neverUsed", true.into()),
        Some(LastUse::Before(at)) => put("usedBefore", at.to_string().into()),
        Some(LastUse::Since(at)) => put("usedSince", at.to_string().into()),
    };
    if search.from > Timestamp::MIN {
        put("createdSince", search.from.to_string().into());
    }
    if search.until < Timestamp::MAX {
        put("createdUntil", search.until.to_string().into());
    }
    Value::Object(members)
}

fn of_bulk<R>(bulk: &BulkRevoke, then: impl FnOnce(&[&[u8]]) -> R) -> R {
    let time = |at: Option<Timestamp>| at.map_or(-1, Timestamp::millis).to_be_bytes();
    then(&[
        bulk.id.0.as_bytes(),
        bulk.operator.as_bytes(),
        bulk.source.as_bytes(),
        bulk.search.text().as_bytes(),
        &bulk.expected.to_be_bytes(),
        &time(Some(bulk.created_at)),
        bulk.place.as_ref().map_or(&[], |id| &id.0.as_bytes()[..]),
        &bulk.ended.to_be_bytes(),
        bulk.state.name().as_bytes(),
        &time(bulk.state.over_at()),
    ])
}

const BULK: &[u8] = b"bulk revoke";

impl Keyring {
    fn seal_bulk(&self, bulk: BulkRevoke) -> BulkRecord {
        let seal = of_bulk(&bulk, |values| self.seal_of_operator(BULK, values));
        BulkRecord { bulk, seal }
    }

    pub(super) fn see_bulk(&self, record: &BulkRecord) -> Seen {
        of_bulk(&record.bulk, |values| self.see_of_operator(&record.seal, BULK, values))
    }
}
