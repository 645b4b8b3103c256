//! One transaction of the writer: what changes do within it.
//!
//! It begins by locking the row of the feed, so that only one process at a time changes anything: places are given in the
//! order of commits, and what was read in it stays as it was to its end.

use std::collections::{HashMap, HashSet};

use futures_util::future::{try_join, try_join4, try_join5};
use tokio_postgres::{Statement, types::ToSql};
use uuid::Uuid;

use super::{
    Error, hold, keys,
    session::{Session, expect},
    sql,
    totals::{self, CountedNames},
};
use crate::{
    domain::{AuditEntry, Scope, Timestamp, Token, TokenName},
    store::{
        Insert, Inserted, OperationsRecord, PlatformRecord, Record, Seal,
        log::{Log, Mark},
        totals::Pending,
    },
};

/// The transaction.
pub(super) struct Batch<'s> {
    pub(super) session: &'s Session,
    log: &'s Log,
    /// The last place that was given.
    last: Mark,
    entries: Vec<(u64, AuditEntry, Seal)>,
    totals: Pending,
}

impl<'s> Batch<'s> {
    /// Begins.
    pub(super) async fn begin(session: &'s Session, log: &'s Log) -> Result<Self, Error> {
        let lock = session.prepare("SELECT seq, seal FROM feed FOR UPDATE").await?;
        // Sent together: while the lock is held nobody else can change anything, so every wait counts.
        let (_, row) = try_join(session.run("BEGIN"), session.row_of(&lock, &[])).await?;
        let row = row.ok_or_else(|| Error::Corrupt("the feed's row is missing".to_owned()))?;
        let last = sql::mark(&row, 0)?;
        Ok(Self { session, log, last, entries: Vec::new(), totals: Pending::default() })
    }

    /// Gives an entry its place.
    pub(super) fn note(&mut self, entry: AuditEntry) -> Result<u64, Error> {
        let seal = self.log.append(&mut self.last, &entry)?;
        self.entries.push((self.last.seq, entry, seal));
        Ok(self.last.seq)
    }

    /// Writes the tokens that were admitted and what was gathered: nothing but the commit is left to do. Says whether there is
    /// anything for others to follow.
    ///
    /// All of it is sent together, in this order: nobody else can change anything meanwhile, so every wait counts.
    pub(super) async fn finish(mut self, admitted: &[&Insert]) -> Result<bool, Error> {
        let (s, noted) = (self.session, !self.entries.is_empty());
        let insert = Prepared::of(s).await?;
        let tokens = insert_records(s, &insert.tokens, admitted.iter().map(|insert| &insert.record));
        let replays = insert_replays(s, &insert.replays, admitted);
        let totals = totals::apply(s, &mut self.totals);
        let entries = async {
            if !noted {
                return Ok(None);
            }
            let columns = EntryColumns::of(&self.entries);
            let nodes = vec![self.log.node.as_str(); self.entries.len()];
            let (seq, mac) = (self.last.seq.cast_signed(), self.last.mac.as_slice());
            let [a, b, c, d, e, f, g, h, i, j, k, l] = columns.values();
            let all = [a, b, c, d, e, f, g, h, i, j, k, l, &nodes as _];
            let before = seq - i64::try_from(nodes.len()).unwrap_or(i64::MAX);
            let moved: [&(dyn ToSql + Sync); 3] = [&seq, &mac, &before];
            try_join(s.change(&insert.entries, &all, nodes.len()), s.row_of(&insert.advance, &moved)).await.map(|((), row)| row)
        };
        let ((), (), (), row) = try_join4(tokens, replays, totals, entries).await?;
        // Looked at while nobody else can change it: a command that was opened before may have been slow.
        let Some(row) = row else { return Ok(noted) };
        hold::refuse(row.try_get(0)?)?;
        // As they stand there: what runs behind an insert could have taken them away again.
        expect(self.entries.len(), row.try_get::<_, i64>(1)?.unsigned_abs())?;
        Ok(noted)
    }

    /// Admits tokens, each unless something keeps it out; says what becomes of each, and which are to be inserted.
    pub(super) async fn admit_tokens<'i>(&mut self, inserts: &[&'i Insert]) -> Result<(Vec<Inserted>, Vec<&'i Insert>), Error> {
        let (s, distinct) = (self.session, |ids: &mut Vec<Uuid>| {
            ids.sort_unstable();
            ids.dedup();
        });
        let mut creators: Vec<_> = inserts.iter().filter_map(|insert| insert.creator).map(|id| id.0).collect();
        let mut platforms: Vec<_> = inserts.iter().map(|insert| insert.record.token.scope.platform.0).collect();
        distinct(&mut creators);
        distinct(&mut platforms);
        let names: Vec<_> = inserts.iter().map(|insert| insert.record.token.name.as_str()).collect();
        let replays: Vec<_> = inserts.iter().filter_map(|insert| insert.replay.as_ref()).map(|replay| replay.id.as_slice()).collect();
        let since = inserts.iter().map(|insert| insert.replays_since).max().unwrap_or(Timestamp::MIN);
        let replayed = async {
            match replays.is_empty() {
                true => Ok(Vec::new()),
                false => sql::find_replays(s, &replays, since).await,
            }
        };
        let room = async {
            match inserts.iter().any(|insert| insert.most.is_some()) {
                true => totals::live_of(s, &platforms).await,
                false => Ok(HashMap::new()),
            }
        };
        let sealing: Vec<_> = inserts.iter().map(|insert| insert.record.seal.key).collect();
        let found = try_join5(
            sql::live_among(s, &creators),
            existing_platforms(s, &platforms),
            totals::counted_names(s, &platforms, &names),
            replayed,
            keys::refuse_retired(s, &sealing),
        );
        let ((live, known, counted, replayed, ()), mut room) = try_join(found, room).await?;
        let (live, known): (HashSet<_>, HashSet<_>) = (live.into_iter().collect(), known.into_iter().collect());
        let mut replayed: HashMap<_, _> = replayed.into_iter().map(|(replay, record)| (replay.id, (replay, record))).collect();

        let (mut answers, mut created) = (Vec::with_capacity(inserts.len()), Vec::new());
        for insert in inserts {
            let token = &insert.record.token;
            let before = insert.replay.as_ref().and_then(|replay| replayed.get(&replay.id));
            answers.push(if insert.creator.is_some_and(|creator| !live.contains(&creator.0)) {
                Inserted::CreatorEnded
            } else if let Some((replay, record)) = before {
                Inserted::Replayed(replay.clone(), Box::new(record.clone()))
            } else if !known.contains(&token.scope.platform.0) {
                Inserted::NoPlatform
            } else if insert.most.is_some_and(|most| *of_scope(&mut room, token.scope) + self.totals.of(token.scope) >= most.into()) {
                Inserted::Full
            } else {
                *of_scope(&mut room, token.scope) += 1;
                if let Some(replay) = &insert.replay {
                    // The same once more, in the same transaction.
                    replayed.insert(replay.id, (replay.clone(), insert.record.clone()));
                }
                created.push(*insert);
                Inserted::Created
            });
        }
        for insert in &created {
            self.note(insert.entry.clone())?;
            self.count(&counted, &insert.record.token, 1);
        }
        Ok((answers, created))
    }

    /// Inserts tokens of a new platform.
    pub(super) async fn insert_roots(&mut self, roots: &[(Record, AuditEntry)]) -> Result<(), Error> {
        let insert = self.session.prepare(INSERT_TOKENS).await?;
        insert_records(self.session, &insert, roots.iter().map(|(record, _)| record)).await?;
        for (record, entry) in roots {
            self.note(entry.clone())?;
            self.count(&CountedNames::default(), &record.token, 1);
        }
        Ok(())
    }

    /// Replaces what can change of a live token; one that has ended stays as it is.
    pub(super) async fn update_token(&mut self, before: &Record, after: &Record) -> Result<(), Error> {
        let sql = "UPDATE token SET revoked_at = $2, key_id = $3, proof = $4 WHERE id = $1 AND revoked_at IS NULL";
        let token = &after.token;
        let (revoked_at, key, proof) = (token.revoked_at.map(Timestamp::millis), i64::from(after.seal.key), after.proof());
        let changed = self.session.execute(sql, &[&token.id.0, &revoked_at, &key, &proof.as_slice()]).await?;
        if changed != 1 {
            return Err(Error::Unavailable(format!("{} was changed meanwhile", token.id)));
        }
        if before.token.revoked_at.is_none() && token.revoked_at.is_some() {
            let counted = totals::counted_names(self.session, &[token.scope.platform.0], &[token.name.as_str()]).await?;
            self.count(&counted, token, -1);
        }
        Ok(())
    }

    fn count(&mut self, counted: &CountedNames, token: &Token, change: i64) {
        totals::note(&mut self.totals, counted, token.scope, &token.name, token.id.created_at(), change);
    }

    /// Gives a name buckets, if it still wants them.
    pub(super) async fn give_buckets(&mut self, scope: Scope, name: &TokenName) -> Result<(), Error> {
        totals::give_buckets(self.session, &mut self.totals, scope, name).await
    }

    /// Says whether it did: not, if there is one of that id.
    pub(super) async fn insert_platform(&mut self, r: &PlatformRecord) -> Result<bool, Error> {
        let sql = "INSERT INTO platform (id, name, created_at, disabled_at, key_id, seal) VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (id) DO NOTHING";
        keys::refuse_retired(self.session, &[r.seal.key]).await?;
        let (p, key, disabled_at) = (&r.platform, i64::from(r.seal.key), r.platform.disabled_at.map(Timestamp::millis));
        let (name, created_at, mac) = (p.name.as_str(), p.created_at.millis(), r.seal.mac.as_slice());
        Ok(self.session.execute(sql, &[&p.id.0, &name, &created_at, &disabled_at, &key, &mac]).await? == 1)
    }

    pub(super) async fn update_platform(&mut self, r: &PlatformRecord) -> Result<(), Error> {
        keys::refuse_retired(self.session, &[r.seal.key]).await?;
        let sql = "UPDATE platform SET disabled_at = $2, key_id = $3, seal = $4 WHERE id = $1";
        let (key, disabled_at) = (i64::from(r.seal.key), r.platform.disabled_at.map(Timestamp::millis));
        let updated = self.session.execute(sql, &[&r.platform.id.0, &disabled_at, &key, &r.seal.mac.as_slice()]).await?;
        expect(1, updated)
    }

    #[cfg(feature = "server")]
    pub(super) async fn insert_lost_mark(&mut self, lost: &Mark, seal: &Seal, at: Timestamp) -> Result<(), Error> {
        let sql = "INSERT INTO lost_mark (mac, seq, taken_in_at, key_id, seal) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (mac) DO UPDATE \
                   SET taken_in_at = excluded.taken_in_at, key_id = excluded.key_id, seal = excluded.seal";
        let (mac, key) = (lost.mac.as_slice(), i64::from(seal.key));
        let values: [&(dyn ToSql + Sync); 5] = [&mac, &lost.seq.cast_signed(), &at.millis(), &key, &seal.mac.as_slice()];
        self.session.execute(sql, &values).await.map(drop)
    }

    pub(super) async fn replace_operations(&mut self, r: &OperationsRecord) -> Result<(), Error> {
        let sql = "INSERT INTO operations (one, document, loaded_at, key_id, seal) VALUES (1, $1, $2, $3, $4) ON CONFLICT (one) DO UPDATE \
                   SET document = excluded.document, loaded_at = excluded.loaded_at, key_id = excluded.key_id, seal = excluded.seal";
        keys::refuse_retired(self.session, &[r.seal.key]).await?;
        let (key, mac) = (i64::from(r.seal.key), r.seal.mac.as_slice());
        let replaced = self.session.execute(sql, &[&r.document, &r.loaded_at.millis(), &key, &mac]).await?;
        expect(1, replaced)
    }
}

/// How many live tokens a scope has, of those that were counted.
fn of_scope(live: &mut HashMap<(Uuid, String), i64>, scope: Scope) -> &mut i64 {
    live.entry((scope.platform.0, scope.environment.name().to_owned())).or_default()
}

async fn existing_platforms(s: &Session, ids: &[Uuid]) -> Result<Vec<Uuid>, Error> {
    let rows = s.rows("SELECT id FROM platform WHERE id = ANY($1)", &[&ids]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The statements that write, prepared, so that those sent together need not wait for that.
struct Prepared {
    tokens: Statement,
    replays: Statement,
    entries: Statement,
    advance: Statement,
}

impl Prepared {
    async fn of(s: &Session) -> Result<Self, Error> {
        let advance =
            "UPDATE feed SET seq = $1, seal = $2 RETURNING (SELECT reason FROM hold), (SELECT count(*) FROM audit WHERE seq > $3)";
        let all = try_join4(s.prepare(INSERT_TOKENS), s.prepare(INSERT_REPLAYS), s.prepare(INSERT_ENTRIES), s.prepare(advance));
        let (tokens, replays, entries, advance) = all.await?;
        Ok(Self { tokens, replays, entries, advance })
    }
}

const INSERT_TOKENS: &str = "INSERT INTO token (id, platform_id, environment, name, permissions, issuer, revocable, revoked_at, key_id, proof) \
     SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[], \
     $8::bigint[], $9::bigint[], $10::bytea[])";

async fn insert_records<'r>(s: &Session, insert: &Statement, records: impl Iterator<Item = &'r Record> + Clone) -> Result<(), Error> {
    let of = records.clone().map(|record| &record.token);
    let ids: Vec<_> = of.clone().map(|token| token.id.0).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let platforms: Vec<_> = of.clone().map(|token| token.scope.platform.0).collect();
    let environments: Vec<_> = of.clone().map(|token| token.scope.environment.name()).collect();
    let names: Vec<_> = of.clone().map(|token| token.name.as_str()).collect();
    let permissions: Vec<_> = of.clone().map(|token| token.permissions.text()).collect();
    let issuers: Vec<_> = of.clone().map(|token| token.issuer.name()).collect();
    let revocable: Vec<_> = of.clone().map(|token| token.revocable).collect();
    let revoked: Vec<_> = of.map(|token| token.revoked_at.map(Timestamp::millis)).collect();
    let keys: Vec<_> = records.clone().map(|record| i64::from(record.seal.key)).collect();
    let proofs: Vec<_> = records.map(|record| record.proof().to_vec()).collect();
    let values: [&(dyn ToSql + Sync); 10] =
        [&ids, &platforms, &environments, &names, &permissions, &issuers, &revocable, &revoked, &keys, &proofs];
    s.change(insert, &values, ids.len()).await
}

// One that has expired but was not yet swept away gives place.
const INSERT_REPLAYS: &str = "INSERT INTO replay (id, request, token_id, secret, created_at) \
     SELECT * FROM UNNEST($1::bytea[], $2::bytea[], $3::uuid[], $4::bytea[], $5::bigint[]) ON CONFLICT (id) DO UPDATE \
     SET request = excluded.request, token_id = excluded.token_id, secret = excluded.secret, created_at = excluded.created_at";

async fn insert_replays(s: &Session, insert: &Statement, created: &[&Insert]) -> Result<(), Error> {
    let of: Vec<_> = created.iter().filter_map(|insert| Some((insert.replay.as_ref()?, insert.record.token.id.0))).collect();
    if of.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = of.iter().map(|(replay, _)| replay.id.as_slice()).collect();
    let requests: Vec<_> = of.iter().map(|(replay, _)| replay.request.as_slice()).collect();
    let tokens: Vec<_> = of.iter().map(|(_, token)| *token).collect();
    let secrets: Vec<_> = of.iter().map(|(replay, _)| replay.secret.as_deref()).collect();
    let times: Vec<_> = of.iter().map(|(replay, _)| replay.created_at.millis()).collect();
    s.change(insert, &[&ids, &requests, &tokens, &secrets, &times], of.len()).await
}

const INSERT_ENTRIES: &str = "INSERT INTO audit (seq, at, action, actor, platform_id, environment, token_id, request_id, source, detail, key_id, seal, node) \
     SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::uuid[], $8::text[], \
     $9::text[], $10::text[], $11::bigint[], $12::bytea[], $13::text[])";

/// Audit entries, column by column.
#[derive(Default)]
struct EntryColumns<'e> {
    seqs: Vec<i64>,
    times: Vec<i64>,
    actions: Vec<&'e str>,
    actors: Vec<String>,
    platforms: Vec<Option<Uuid>>,
    environments: Vec<Option<&'e str>>,
    tokens: Vec<Option<Uuid>>,
    requests: Vec<&'e str>,
    sources: Vec<&'e str>,
    details: Vec<&'e str>,
    keys: Vec<i64>,
    seals: Vec<&'e [u8]>,
}

impl<'e> EntryColumns<'e> {
    fn of(entries: &'e [(u64, AuditEntry, Seal)]) -> Self {
        let mut columns = Self::default();
        for (seq, e, seal) in entries {
            columns.seqs.push(seq.cast_signed());
            columns.times.push(e.at.millis());
            columns.actions.push(e.action.name());
            columns.actors.push(e.actor.to_string());
            columns.platforms.push(e.platform.map(|id| id.0));
            columns.environments.push(e.scope.map(|scope| scope.environment.name()));
            columns.tokens.push(e.token.map(|id| id.0));
            columns.requests.push(&e.request.id);
            columns.sources.push(&e.request.source);
            columns.details.push(&e.detail);
            columns.keys.push(seal.key.into());
            columns.seals.push(&seal.mac);
        }
        columns
    }

    fn values(&self) -> [&(dyn ToSql + Sync); 12] {
        [
            &self.seqs,
            &self.times,
            &self.actions,
            &self.actors,
            &self.platforms,
            &self.environments,
            &self.tokens,
            &self.requests,
            &self.sources,
            &self.details,
            &self.keys,
            &self.seals,
        ]
    }
}
