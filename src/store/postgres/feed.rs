//! The feed, as another process reads it: on a session of its own, so that it waits for nobody's page; and which processes
//! read it.
//!
//! A process that answers from memory has a row in the table of nodes *before* it loads its index, and renews its lease only
//! by reads that saw the row, free of suspicion. So whoever looks *after* their commit either sees the row, and waits; or
//! the process, when it comes, reads what was committed. A row whose process seems to be gone is first suspected, and is
//! removed when its lease has passed since, or the longer time for which it goes on without the database: from then on until
//! the row is back, nobody believes the index that it stood for.
//!
//! Whoever has applied what others changed says so in its row. That only shortens a wait: who says nothing, because it is
//! gone, stopped or cut off, believes nothing either when its lease is over; or for the longer time that its row says, which
//! nobody waits for, and everybody is told of.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Error,
    connect::{Connector, Ear},
    hold, keys,
    session::Session,
    sql,
};
#[cfg(feature = "server")]
use crate::store::NodeRecord;
use crate::{
    domain::Action,
    store::{Changes, Mark, Unreadable, is_creation, is_of_keys, log::Log},
};

/// Places of the feed read at once, and the one before.
const PAGE: i64 = 1001;
/// How long a read may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often a process says that it is there still.
const SEEN: Duration = Duration::from_secs(15);
/// Unseen for so long, by the database's clock, its row is suspected. Nothing but this hint goes by that clock.
pub(super) const GONE: Duration = Duration::from_secs(60);

/// From the last place that was followed on, so that it is seen whether that is in this history; and whether the row is there
/// as it was written.
const READ: &str = "SELECT n.suspect IS NULL AND (n.lease, n.stale) = ($4, $5) AND n.followed <= $1, a.seq, a.seal, a.token_id, a.platform_id, a.node, a.action, \
                    coalesce(current_setting('synchronous_standby_names', true), ''), (SELECT reason FROM hold) \
                    FROM feed f LEFT JOIN node n ON n.id = $2 LEFT JOIN LATERAL \
                    (SELECT seq, seal, token_id, platform_id, node, action FROM audit WHERE seq >= $1 ORDER BY seq LIMIT $3) a ON true \
                    ORDER BY a.seq";
pub(super) const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// Following.
pub(super) struct Feed {
    connector: Arc<Connector>,
    node: String,
    log: Log,
    ear: Arc<Ear>,
    session: tokio::sync::Mutex<Option<Session>>,
    presence: Mutex<Option<Presence>>,
    /// Whether the rows of nodes could not be seen to, and somebody was told.
    untended: AtomicBool,
    /// Whether somebody was told that a standby's word does not say which primary is the one in use.
    unsure: AtomicBool,
    /// When the last read began that was confirmed.
    confirmed: Mutex<Option<Duration>>,
}

/// Another process that has not said that it has followed.
pub(super) struct Behind {
    pub(super) id: String,
    /// For how long from a change on it may believe what was before; and if it can't reach the database.
    pub(super) lease: Duration,
    pub(super) stale: Duration,
}

/// What this process has said of itself.
#[derive(Clone)]
struct Presence {
    /// For how long it believes its index; and if it can't reach the database.
    believes: (Duration, Duration),
    /// When it last said so, by the clock of leases.
    seen: Duration,
    suspects: Vec<Suspect>,
}

/// A process that seems to be gone.
#[derive(Clone)]
struct Suspect {
    id: String,
    /// When the read began in which this process suspected it.
    since: Duration,
    /// For how long it may believe its index, at the longest.
    believes: Duration,
}

impl Feed {
    pub(super) fn new(connector: Arc<Connector>, log: Log) -> Self {
        let node = log.node.clone();
        Self {
            connector,
            ear: Arc::new(Ear::new(node.clone())),
            node,
            log,
            session: tokio::sync::Mutex::default(),
            presence: Mutex::default(),
            untended: AtomicBool::default(),
            unsure: AtomicBool::default(),
            confirmed: Mutex::default(),
        }
    }

    /// When another process may have changed something.
    pub(super) async fn changed(&self) {
        self.ear.news().await;
    }

    fn presence(&self) -> MutexGuard<'_, Option<Presence>> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that this process will answer from memory; that it believes it for a lease, and for another time where it can't
    /// reach the database. Nothing yet of what it has followed: that may have been another history.
    pub(super) async fn announce(&self, s: &Session, believes: (Duration, Duration)) -> Result<(), Error> {
        let sql = format!(
            "INSERT INTO node (id, lease, stale, followed, seen_at) VALUES ($1, $2, $3, 0, {NOW}) \
             ON CONFLICT (id) DO UPDATE SET lease = excluded.lease, stale = excluded.stale, seen_at = excluded.seen_at, suspect = NULL, followed = 0"
        );
        s.execute(&sql, &[&self.node, &waited_for(believes.0), &waited_for(believes.1)]).await?;
        let before = self.presence().take();
        let (seen, suspects) = before.map_or((Duration::ZERO, Vec::new()), |before| (before.seen, before.suspects));
        *self.presence() = Some(Presence { believes, seen, suspects });
        Ok(())
    }

    /// Takes this process's row away. It must not believe its index any more.
    pub(super) async fn depart(&self) -> Result<(), Error> {
        *self.presence() = None;
        let session = self.session.lock().await.take().filter(|session| !session.is_over());
        let gone = async {
            let session = match session {
                Some(session) => session,
                None => self.connect().await?,
            };
            session.execute("DELETE FROM node WHERE id = $1", &[&self.node]).await.map(drop)
        };
        tokio::time::timeout(DEADLINE, gone).await.unwrap_or_else(|_| Err(late()))
    }

    /// The other processes that have not said that they have followed the feed up to `seq`. A row that says less than this
    /// process's own, or more than can be, was edited: nobody believes it.
    pub(super) async fn behind(&self, s: &Session, seq: u64) -> Result<Vec<Behind>, Error> {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        let sql = "SELECT id, lease, stale FROM node WHERE id <> $1 AND (followed < $2 OR followed > (SELECT seq FROM feed)) ORDER BY id";
        let least = self.presence().as_ref().map_or(Duration::ZERO, |presence| millis(waited_for(presence.believes.0)));
        let behind = |row: &Row| {
            let lease = millis(row.try_get(1)?).max(least);
            Ok(Behind { id: row.try_get(0)?, lease, stale: millis(row.try_get(2)?) })
        };
        s.rows(sql, &[&self.node, &seq]).await?.iter().map(behind).collect()
    }

    /// Says that everything up to `seq` is applied.
    pub(super) async fn applied(&self, seq: u64) {
        let mut held = self.session.lock().await;
        if let (Some(session), Ok(seq)) = (held.as_ref(), i64::try_from(seq)) {
            // This alone not to the disk: after a crash it is as if it had not been said, and somebody waits a little longer.
            let sql = format!(
                "BEGIN; SET LOCAL synchronous_commit = off; \
                 UPDATE node SET followed = greatest(followed, {seq}) WHERE id = '{}'; COMMIT",
                self.node
            );
            let said = tokio::time::timeout(DEADLINE, session.run(&sql)).await;
            if !matches!(said, Ok(Ok(()))) {
                *held = None;
            }
        }
    }

    /// What other processes have changed behind a place, in order.
    pub(super) async fn changes_after(&self, mark: Mark, now: Duration, unreadable: &Unreadable) -> Result<Changes, Error> {
        let mut held = self.session.lock().await;
        // Taken out: a read that fails, is late or dropped leaves nothing half done to the next.
        let session = held.take().filter(|session| !session.is_over());
        let read = async {
            let session = match session {
                Some(session) => session,
                None => self.connect().await?,
            };
            let changes = self.read(&session, mark, now, unreadable).await?;
            Ok((session, changes))
        };
        let (session, changes) = tokio::time::timeout(DEADLINE, read).await.unwrap_or_else(|_| Err(late()))?;
        *held = Some(session);
        Ok(changes)
    }

    async fn connect(&self) -> Result<Session, Error> {
        let session = self.connector.connect(Some(Arc::clone(&self.ear))).await?;
        // A database without notifications is asked a few times a lease, as every one is.
        if session.run("LISTEN countersign").await.is_err() {
            tracing::debug!("the database sends no notifications");
        }
        Ok(session)
    }

    async fn read(&self, s: &Session, mark: Mark, now: Duration, unreadable: &Unreadable) -> Result<Changes, Error> {
        // Nothing that is proven rests on it; so it is told once, not with each read.
        let tended = self.tend(s, now).await;
        if self.untended.swap(tended.is_err(), Ordering::Relaxed) != tended.is_err() {
            match tended {
                Err(e) => tracing::warn!(cause = %e, "cannot see to the rows of nodes; trying again with each read"),
                Ok(()) => tracing::info!("the rows of nodes are seen to again"),
            }
        }
        let from = i64::try_from(mark.seq).unwrap_or(i64::MAX);
        let presence = self.presence().clone();
        let (lease, stale) =
            presence.as_ref().map_or((0, 0), |presence| (waited_for(presence.believes.0), waited_for(presence.believes.1)));
        let read = async || s.rows(READ, &[&from, &self.node, &PAGE, &lease, &stale]).await;
        let is_there = |row: &Row| row.try_get::<_, Option<bool>>(0).ok().flatten().unwrap_or(false);
        let mut rows = read().await?;
        if let Some(presence) = presence
            && !rows.first().is_none_or(is_there)
        {
            tracing::warn!(
                "this process's row was removed or changed, by another that took it for gone perhaps; it announces itself again"
            );
            self.announce(s, presence.believes).await?;
            // What was read before the row was there does not count.
            rows = read().await?;
            if !rows.first().is_some_and(is_there) {
                return Err(Error::Unavailable("this process could not announce itself".to_owned()));
            }
        }
        // The one row of the feed is there even if it has no places.
        let first = rows.first().ok_or_else(|| Error::Corrupt("the feed's row is missing".to_owned()))?;
        hold::refuse(first.try_get(8)?)?;
        let mut places = if first.try_get::<_, Option<i64>>(1)?.is_some() { rows.as_slice() } else { &[] };
        let mut changes = Changes { more: i64::try_from(places.len()).is_ok_and(|places| places == PAGE), ..Changes::none_after(mark) };
        if mark != Mark::START {
            let Some((followed, behind)) = places.split_first() else { return Err(sql::rewound(s, &mark, &self.log).await) };
            if sql::mark(followed, 1)? != mark {
                return Err(sql::rewound(s, &mark, &self.log).await);
            }
            places = behind;
        }
        // Where no commit waits for a standby there is nothing to confirm.
        let standbys: &str = first.try_get(7)?;
        changes.unconfirmed = !standbys.is_empty() && !self.confirm(s, now, standbys).await?;
        let (mut tokens, mut platforms) = (Vec::new(), Vec::new());
        for row in places {
            changes.through = sql::mark(row, 1)?;
            let (seq, action) = (changes.through.seq, row.try_get(6)?);
            if row.try_get::<_, &str>(5)? == self.node && is_creation(action) {
                continue;
            }
            if let Some(id) = row.try_get::<_, Option<Uuid>>(3)? {
                tokens.push(id);
            } else if let Some(id) = row.try_get::<_, Option<Uuid>>(4)? {
                platforms.push((id, seq));
            } else if action == Action::OperationsLoad.name() {
                changes.operations = sql::find_operations(s).await?.map(|operations| (seq, operations));
            } else if is_of_keys(action) {
                changes.keys = Some(keys::list_canaries(s).await?);
            }
        }
        // What stands in the rows now, not what the entries said: following twice does no harm.
        if !tokens.is_empty() {
            changes.tokens = sql::find_tokens(s, &tokens, unreadable).await?;
        }
        if !platforms.is_empty() {
            // Where a platform was changed twice, what stands there now is of the later place.
            let latest: BTreeMap<_, _> = platforms.into_iter().collect();
            let ids: Vec<_> = latest.keys().copied().collect();
            let found = sql::find_platforms(s, &ids).await?;
            changes.platforms = found.into_iter().filter_map(|record| Some((*latest.get(&record.platform.id.0)?, record))).collect();
        }
        Ok(changes)
    }

    /// Whether the lease may be renewed by the read that began at `now`. That takes a commit (see [`Session::confirm`]), so
    /// of the reads that notifications hurry, a few a lease are confirmed and the others only bring what is new.
    ///
    /// What those bring is followed like the rest, mark and all: who has said that it followed a place must ask for it from then
    /// on, or a database that goes back behind it would go unnoticed. It is said to the server that was read. If that was a
    /// primary that had been replaced a moment ago, nobody waits for its word; and should it have shown what no standby has
    /// got, the one in use lacks the mark, and everything is refused: needlessly perhaps, but here nobody can tell.
    async fn confirm(&self, s: &Session, now: Duration, standbys: &str) -> Result<bool, Error> {
        if !must_all_answer(standbys) && !self.unsure.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                synchronous_standby_names = standbys,
                "commits wait for some of several standbys: if one is promoted while another still answers the old primary, \
                 a node that reaches that one does not notice; let all that are named answer"
            );
        }
        let lease = self.presence().as_ref().map_or(Duration::ZERO, |presence| presence.believes.0);
        let last = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_sub(last) < lease / 5) {
            return Ok(false);
        }
        s.commit_confirmed().await?;
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        Ok(true)
    }

    /// Says now and then that this process is there, and sees to the rows of those that are not.
    async fn tend(&self, s: &Session, now: Duration) -> Result<(), Error> {
        let Some(presence) = self.presence().clone() else { return Ok(()) };
        if now.saturating_sub(presence.seen) < SEEN {
            return Ok(());
        }
        s.execute(&format!("UPDATE node SET seen_at = {NOW} WHERE id = $1"), &[&self.node]).await?;
        let mut suspects = presence.suspects;
        let over = |suspect: &mut Suspect| now.saturating_sub(suspect.since) > suspect.believes + DEADLINE;
        let gone: Vec<_> = suspects.extract_if(.., over).map(|suspect| suspect.id).collect();
        if !gone.is_empty() {
            s.execute("DELETE FROM node WHERE suspect = $1 AND id = ANY($2)", &[&self.node, &gone]).await?;
        }
        let suspect = format!(
            "UPDATE node SET suspect = $1 WHERE id <> $1 AND seen_at < {NOW} - $2 AND (suspect IS NULL OR suspect = $1 AND id <> ALL($3) \
             OR NOT EXISTS (SELECT 1 FROM node other WHERE other.id = node.suspect)) RETURNING id, greatest(lease, stale)"
        );
        let unseen = i64::try_from(GONE.as_millis()).unwrap_or(i64::MAX);
        let known: Vec<_> = suspects.iter().map(|suspect| suspect.id.as_str()).collect();
        for row in s.rows(&suspect, &[&self.node, &unseen, &known]).await? {
            let (id, believes): (String, _) = (row.try_get(0)?, millis(row.try_get(1)?));
            // One that had come back meanwhile is suspected anew.
            suspects.retain(|suspect| suspect.id != id);
            suspects.push(Suspect { id, since: now, believes });
        }
        *self.presence() = Some(Presence { seen: now, suspects, ..presence });
        Ok(())
    }
}

/// All rows of nodes, and the last place of the feed.
#[cfg(feature = "server")]
pub(super) async fn list_nodes(s: &Session) -> Result<(u64, Vec<NodeRecord>), Error> {
    // The one row of the feed is there even if there is no node.
    let sql = format!(
        "SELECT f.seq, n.id, n.lease, n.stale, n.followed, greatest({NOW} - n.seen_at, 0), n.suspect IS NOT NULL \
         FROM feed f LEFT JOIN node n ON true ORDER BY n.id"
    );
    let rows = s.rows(&sql, &[]).await?;
    let last = rows.first().ok_or_else(|| Error::Corrupt("the feed's row is missing".to_owned()))?;
    let node = |row: &Row| {
        let Some(id) = row.try_get(1)? else { return Ok(None) };
        let (lease, stale, unseen) = (millis(row.try_get(2)?), millis(row.try_get(3)?), millis(row.try_get(5)?));
        Ok(Some(NodeRecord { id, lease, stale, followed: Some(sql::unsigned(row, 4)?), unseen, suspected: row.try_get(6)? }))
    };
    Ok((sql::unsigned(last, 0)?, rows.iter().filter_map(|row| node(row).transpose()).collect::<Result<_, Error>>()?))
}

/// Whether a commit waits for every standby that `synchronous_standby_names` names, so that none of them can have been
/// promoted when it is through.
fn must_all_answer(setting: &str) -> bool {
    let setting = setting.trim();
    let (number, names) = match setting.split_once('(') {
        Some((kind, names)) => (kind.split_whitespace().last().and_then(|number| number.parse().ok()), names.trim_end_matches(')')),
        None => (Some(1), setting),
    };
    number == Some(names.split(',').count()) && !names.contains('*')
}

/// For how long others wait for a process: a fifth more than it believes its index, because clocks that are being corrected
/// go at different speeds, by less than that. In milliseconds.
fn waited_for(believed: Duration) -> i64 {
    let longer = if believed.is_zero() { believed } else { believed + believed / 5 + Duration::from_millis(10) };
    i64::try_from(longer.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

fn millis(stored: i64) -> Duration {
    Duration::from_millis(stored.unsigned_abs())
}

fn late() -> Error {
    Error::Unreachable("the database did not answer in time".to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn who_must_answer() {
        for setting in ["a", "\"m-2\"", " 1 (a) ", "FIRST 1 (a)", "ANY 1 (a)", "2 (a, b)", "ANY 3 (a,b,c)"] {
            assert!(super::must_all_answer(setting), "{setting}");
        }
        for setting in ["*", "a, b", "1 (a, b)", "FIRST 1 (a, b)", "ANY 2 (a, b, c)", "1 (*)", "2 (a)", "(a)"] {
            assert!(!super::must_all_answer(setting), "{setting}");
        }
    }
}
