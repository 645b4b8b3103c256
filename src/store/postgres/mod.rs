//! The store of many machines: PostgreSQL, which every process of an installation reaches.
//!
//! Changes go through one writer a process, and from there one transaction at a time in the whole installation; reads are
//! shared by a few sessions; the feed has its own. Whatever takes too long is given up: nobody knows then whether a change
//! was made, and nobody is told that it was.

mod batch;
#[cfg(feature = "server")]
mod bulk;
mod checkpoint;
mod connect;
#[cfg(feature = "server")]
pub(super) mod copy;
#[cfg(feature = "server")]
mod entries;
#[cfg(feature = "server")]
mod examine;
mod feed;
mod hold;
mod keys;
mod migrate;
#[cfg(feature = "server")]
mod operators;
mod readers;
mod session;
mod sql;
mod totals;
mod uses;
mod writer;

use std::{fmt, sync::Arc, time::Duration};

use tokio_postgres::error::SqlState;

use self::{
    batch::Batch,
    connect::Connector,
    feed::{Behind, Feed},
    readers::Readers,
    session::Session,
    writer::Writer,
};
use super::{
    Changes, Decision, Error, Insert, Inserted, KeptSince, Loaded, Location, Mark, Measured, OperationsRecord, PlatformRecord, Record,
    Records, Settled, Unreadable, log::Log, queue::Urgency,
};
use crate::domain::{AuditEntry, AuditQuery, PlatformId, RecordedEntry, Scope, Timestamp, TokenId, TokenName, TokenQuery, TokenUse, Use};

/// Sessions for reads at the most.
const READING: usize = 8;
/// Sessions at the most of those who have ended something and look who has followed: reads, however many, are not in their way.
const ENDING: usize = 2;
/// How long to wait at first, before looking again whether all have followed.
const SETTLING: Duration = Duration::from_millis(2);

/// The store in a PostgreSQL database.
pub(crate) struct Postgres {
    readers: Readers,
    /// For whoever ends something, and for asking whether anything can be changed.
    kept: Readers,
    connector: Arc<Connector>,
    log: Log,
    writer: Writer,
    feed: Feed,
    beside: Arc<tokio::sync::Mutex<()>>,
    unreadable: Arc<Unreadable>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

/// An error in words, with what is behind it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Whether a transaction that ended so was surely not committed.
fn is_undone(code: &SqlState) -> bool {
    let (class, unknown) = (&code.code()[..2], *code == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN);
    (class == "40" || class == "23") && !unknown
}

/// Whether the database says so to everybody now: broken connections, no resources, shutting down or starting, a bad disk.
fn serves_nobody(code: &SqlState) -> bool {
    ["08", "53", "57P", "58"].iter().any(|class| code.code().starts_with(class))
}

/// Whether it is not what was said that failed, but saying it.
fn is_of_connection(error: &tokio_postgres::Error) -> bool {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.into_iter().any(|cause| cause.is::<std::io::Error>())
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        // The message of the server, which is about the statement, or of the library; never the row or the URL.
        let cause = error.as_db_error().map_or_else(|| with_causes(&error), |e| format!("{} ({})", e.message(), e.code().code()));
        match error.code() {
            Some(code) if *code == SqlState::DISK_FULL => Self::Full,
            Some(code) if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED => Self::Corrupt(cause),
            Some(code) if code.code().starts_with("40") && is_undone(code) => Self::Contended(cause),
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => Self::Locked(cause),
            Some(code) if serves_nobody(code) => Self::Unreachable(cause),
            None if error.is_closed() || is_of_connection(&error) => Self::Unreachable(cause),
            _ => Self::Unavailable(cause),
        }
    }
}

impl Postgres {
    /// Whether it could be reached by this URL.
    #[cfg(feature = "server")]
    pub(super) fn check_url(url: &str) -> Result<(), Error> {
        connect::Connector::parse(url).map(drop)
    }

    pub(super) async fn open(url: &str, location: &Location) -> Result<Self, Error> {
        let connector = Arc::new(Connector::parse(url)?);
        let session = connector.connect(None).await?;
        migrate::check(&session).await?;
        migrate::migrate(&session, location.create, None).await?;
        let log = Log::new(location.node.clone());
        Ok(Self {
            readers: Readers::new(Arc::clone(&connector), READING)?,
            kept: Readers::new(Arc::clone(&connector), ENDING)?,
            writer: Writer::start(Arc::clone(&connector), log.clone())?,
            feed: Feed::new(Arc::clone(&connector), log.clone()),
            log,
            connector,
            beside: Arc::default(),
            unreadable: Arc::default(),
        })
    }

    pub(super) const fn log(&self) -> &Log {
        &self.log
    }

    pub(super) fn measured(&self) -> Measured {
        self.writer.measured(self.readers.took())
    }

    pub(super) async fn installation(&self) -> Result<[u8; 16], Error> {
        let found = self.readers.read(async |s| sql::installation(s).await).await?;
        let found = found.ok_or_else(|| Error::Corrupt("the installation's row is missing".to_owned()))?;
        self.connector.expect(found);
        Ok(found)
    }

    pub(super) async fn insert_installation(&self, id: [u8; 16], at: Timestamp) -> Result<(), Error> {
        self.readers.read(async |s| sql::insert_installation(s, id, at).await).await
    }

    pub(super) async fn find_token(&self, id: TokenId, known: Mark) -> Result<Option<(Record, PlatformRecord)>, Error> {
        self.readers.read(async |s| sql::find_token(s, id, &known, &self.log, &self.unreadable).await).await
    }

    pub(super) async fn find_token_confirmed(&self, id: TokenId, known: Mark) -> Result<Option<(Record, PlatformRecord)>, Error> {
        self.readers.read_confirmed(async |s| sql::find_token(s, id, &known, &self.log, &self.unreadable).await).await
    }

    pub(super) async fn find_token_in(&self, scope: Scope, id: TokenId) -> Result<Option<Record>, Error> {
        self.readers.read(async |s| sql::find_token_in(s, scope, id, &self.unreadable).await).await
    }

    pub(super) async fn is_live(&self, id: TokenId) -> Result<bool, Error> {
        self.readers.read(async |s| Ok(!sql::live_among(s, &[id.0]).await?.is_empty())).await
    }

    pub(super) async fn list_tokens(&self, query: TokenQuery) -> Result<Records, Error> {
        if !query.count {
            return self.readers.read(async |s| sql::list_tokens(s, &query, &self.unreadable).await).await;
        }
        if let Some(name) = &query.filter.name {
            self.count_name(query.scope, name).await?;
        }
        self.readers.snapshot(async |s| sql::list_tokens(s, &query, &self.unreadable).await).await
    }

    #[cfg(feature = "server")]
    pub(super) async fn walk_tokens(&self, walk: super::Walk) -> Result<super::Walked, Error> {
        self.readers.read(async |s| sql::walk_tokens(s, &walk, &self.unreadable).await).await
    }

    /// Sees to it that the tokens of a name can be counted quickly.
    async fn count_name(&self, scope: Scope, name: &TokenName) -> Result<(), Error> {
        if self.readers.read(async |s| totals::wants_buckets(s, scope, name).await).await? {
            let name = name.clone();
            // Where this can't be written now, they are counted row by row.
            let _ = self.writer.change(Urgency::Normal, async move |batch: &mut Batch<'_>| batch.give_buckets(scope, &name).await).await;
        }
        Ok(())
    }

    pub(super) async fn insert_token(&self, insert: Insert) -> Result<Inserted, Error> {
        self.writer.insert(insert).await
    }

    pub(super) async fn change_token<F>(&self, scope: Scope, id: TokenId, mut decide: F) -> Result<Option<(Record, Option<u64>)>, Error>
    where
        F: FnMut(&Record) -> Decision<Record> + Send + 'static,
    {
        let unreadable = Arc::clone(&self.unreadable);
        let change = async move |batch: &mut Batch<'_>| {
            let Some(before) = sql::find_token_in(batch.session, scope, id, &unreadable).await? else { return Ok(None) };
            match decide(&before) {
                Decision::Keep => Ok(Some((before, None))),
                Decision::Write(after, entry) => {
                    batch.update_token(&before, &after).await?;
                    Ok(Some((after, Some(batch.note(entry)?))))
                }
            }
        };
        self.writer.change(Urgency::Ending, change).await
    }

    pub(super) async fn insert_platform(
        &self,
        platform: PlatformRecord,
        entry: AuditEntry,
        roots: Vec<(Record, AuditEntry)>,
    ) -> Result<Option<u64>, Error> {
        let insert = async move |batch: &mut Batch<'_>| {
            if !batch.insert_platform(&platform).await? {
                return Ok(None);
            }
            let seq = batch.note(entry.clone())?;
            batch.insert_roots(&roots).await?;
            Ok(Some(seq))
        };
        self.writer.change(Urgency::Normal, insert).await
    }

    pub(super) async fn change_platform<F>(&self, id: PlatformId, mut decide: F) -> Result<Option<(PlatformRecord, Option<u64>)>, Error>
    where
        F: FnMut(&PlatformRecord) -> Decision<PlatformRecord> + Send + 'static,
    {
        let change = async move |batch: &mut Batch<'_>| {
            let Some(before) = sql::find_platform(batch.session, id).await? else { return Ok(None) };
            match decide(&before) {
                Decision::Keep => Ok(Some((before, None))),
                Decision::Write(after, entry) => {
                    batch.update_platform(&after).await?;
                    Ok(Some((after, Some(batch.note(entry)?))))
                }
            }
        };
        self.writer.change(Urgency::Ending, change).await
    }

    pub(super) async fn find_platform(&self, id: PlatformId) -> Result<Option<PlatformRecord>, Error> {
        self.readers.read(async |s| sql::find_platform(s, id).await).await
    }

    pub(super) async fn list_platforms(&self) -> Result<Vec<PlatformRecord>, Error> {
        self.readers.read(async |s| sql::list_platforms(s).await).await
    }

    pub(super) async fn replace_operations(&self, operations: OperationsRecord, entry: AuditEntry) -> Result<u64, Error> {
        let replace = async move |batch: &mut Batch<'_>| {
            batch.replace_operations(&operations).await?;
            batch.note(entry.clone())
        };
        self.writer.change(Urgency::Normal, replace).await
    }

    pub(super) async fn find_operations(&self) -> Result<Option<OperationsRecord>, Error> {
        self.readers.read(async |s| sql::find_operations(s).await).await
    }

    pub(super) async fn insert_audit_entry(&self, entry: AuditEntry) -> Result<(), Error> {
        self.writer.change(Urgency::Normal, async move |batch: &mut Batch<'_>| batch.note(entry.clone()).map(drop)).await
    }

    #[cfg(feature = "server")]
    pub(super) async fn insert_lost_marks(&self, marks: Vec<(Mark, super::Seal)>, entry: AuditEntry) -> Result<(), Error> {
        let insert = async move |batch: &mut Batch<'_>| {
            for (mark, seal) in &marks {
                batch.insert_lost_mark(mark, seal, entry.at).await?;
            }
            batch.note(entry.clone()).map(drop)
        };
        self.writer.change(Urgency::Normal, insert).await
    }

    pub(super) async fn list_audit(&self, query: AuditQuery) -> Result<(Vec<RecordedEntry>, bool), Error> {
        self.kept.read(async |s| sql::list_audit(s, &query).await).await
    }

    pub(super) async fn load(&self) -> Result<Loaded, Error> {
        let load = async |s: &Session| {
            let (mark, platforms) = (sql::last_mark(s).await?, sql::list_platforms(s).await?);
            let (operations, keys) = (sql::find_operations(s).await?, keys::list_canaries(s).await?);
            Ok(Loaded { mark, platforms, operations, keys, live: totals::live(s).await? })
        };
        self.readers.snapshot(load).await
    }

    pub(super) async fn visit_live_tokens(&self, key: Option<u32>, visit: impl FnMut(Record) + Send + 'static) -> Result<(), Error> {
        // On a session made for it, without a deadline: it takes seconds, and the readers have others to serve.
        let session = self.connector.connect(None).await?;
        session.run("SET statement_timeout = 0; SET enable_seqscan = on").await?;
        sql::visit_live_tokens(&session, key, visit, &self.unreadable).await
    }

    pub(super) async fn changes_after(&self, mark: Mark, now: Duration) -> Result<Changes, Error> {
        self.feed.changes_after(mark, now, &self.unreadable).await
    }

    pub(super) async fn changed(&self) {
        self.feed.changed().await;
    }

    pub(super) fn take_unreadable(&self) -> Vec<TokenId> {
        self.unreadable.take()
    }

    pub(super) async fn announce(&self, lease: Duration, stale: Duration) -> Result<(), Error> {
        self.readers.read(async |s| self.feed.announce(s, (lease, stale)).await).await
    }

    pub(super) async fn depart(&self) -> Result<(), Error> {
        self.feed.depart().await
    }

    /// Waits until every other process has said that it has followed, or believes nothing any more that it did not.
    pub(super) async fn settle(&self, seq: Option<u64>, wait: bool) -> Result<Settled, Error> {
        let seq = match seq {
            Some(seq) => seq,
            None => self.kept.read(async |s| sql::last_mark(s).await).await?.seq,
        };
        // What was waited for, not what has passed: asking takes time too, but then we only wait a little longer.
        let (mut waited, mut pause) = (Duration::ZERO, SETTLING);
        loop {
            let behind = self.kept.read(async |s| self.feed.behind(s, seq).await).await?;
            let left = |node: &Behind| node.lease.saturating_sub(waited);
            let longest = behind.iter().map(left).max().unwrap_or_default();
            if !wait || longest.is_zero() {
                // One that can't reach the database, and goes on without it, is not waited for: nobody would wait so long.
                let bound = behind.iter().map(|node| node.stale).max().unwrap_or_default().max(longest);
                return Ok(Settled { bound, unheard: behind.into_iter().map(|node| node.id).collect() });
            }
            pause = pause.min(longest);
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(SETTLING * 16);
        }
    }

    #[cfg(feature = "server")]
    pub(super) async fn list_nodes(&self) -> Result<(u64, Vec<super::NodeRecord>), Error> {
        self.readers.read(async |s| feed::list_nodes(s).await).await
    }

    pub(super) async fn applied(&self, seq: u64) {
        self.feed.applied(seq).await;
    }

    /// Changes what is no place of the feed: one such change after the other, and apart from whoever asked. If they go
    /// away, what they have handed over is written all the same.
    async fn beside<R, F>(&self, change: impl FnOnce(Readers) -> F) -> Result<R, Error>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, Error>> + Send + 'static,
    {
        let (change, turn) = (change(self.readers.clone()), Arc::clone(&self.beside));
        let in_turn = async move {
            let _turn = turn.lock().await;
            change.await
        };
        tokio::spawn(in_turn).await.map_err(|e| Error::Unavailable(e.to_string()))?
    }

    pub(super) async fn note_uses(&self, noted: Vec<(TokenId, Use)>) -> Result<(), Error> {
        self.beside(|readers| async move { readers.change(async |s| uses::note(s, &noted).await).await }).await
    }

    pub(super) async fn find_uses(&self, id: TokenId, at: Timestamp) -> Result<TokenUse, Error> {
        self.readers.snapshot(async |s| uses::find(s, id, at).await).await
    }

    pub(super) async fn forget_uses(&self, since: KeptSince, most: usize) -> Result<bool, Error> {
        self.beside(move |readers| async move { readers.change(async |s| uses::forget(s, since, most).await).await }).await
    }

    pub(super) async fn expire_replays(&self, secrets: Timestamp, replays: Timestamp) -> Result<(), Error> {
        self.beside(move |readers| async move { readers.change(async |s| sql::expire_replays(s, secrets, replays).await).await }).await
    }

    pub(super) async fn probe(&self) -> Result<(), Error> {
        self.kept.read(async |s| sql::probe(s).await).await
    }
}
