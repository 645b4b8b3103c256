//! The feed, as another process reads it: on a session of its own, so that it waits for nobody's page; and which processes
//! read it.
//!
//! A process that answers from memory has a row in the table of nodes *before* it loads its index, and renews its lease only
//! by reads that saw the row, free of suspicion. So whoever looks *after* their commit either sees the row, and waits; or
//! the process, when it comes, reads what was committed. A row whose process seems to be gone is first suspected, and is
//! removed when its lease has passed since: from then on until the row is back, nobody believes the index that it stood for.
//!
//! Whoever has applied what others changed says so in its row. That only shortens a wait: who says nothing, because it is
//! gone, stopped or cut off, believes nothing either when its lease is over.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use uuid::Uuid;

use super::{Error, connect::Connector, session::Session, sql};
use crate::{
    domain::Action,
    store::{Changes, Unreadable, is_creation},
};

/// Places of the feed read at once.
const PAGE: i64 = 1000;
/// How long a read may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often a process says that it is there still.
const SEEN: Duration = Duration::from_secs(15);
/// Unseen for so long, by the database's clock, its row is suspected. Nothing but this hint goes by that clock.
const GONE: Duration = Duration::from_secs(60);

const READ: &str = "SELECT f.seq, n.id IS NOT NULL AND n.suspect IS NULL, a.seq, a.node, a.token_id, a.platform_id, a.action \
                    FROM feed f LEFT JOIN node n ON n.id = $2 \
                    LEFT JOIN LATERAL (SELECT seq, node, token_id, platform_id, action FROM audit WHERE seq > $1 ORDER BY seq LIMIT $3) a ON true \
                    ORDER BY a.seq";
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// Following.
pub(super) struct Feed {
    connector: Arc<Connector>,
    node: String,
    session: tokio::sync::Mutex<Option<Session>>,
    heard: Arc<Notify>,
    presence: Mutex<Option<Presence>>,
    /// When the last read began that was confirmed.
    confirmed: Mutex<Option<Duration>>,
}

/// What this process has said of itself.
#[derive(Clone)]
struct Presence {
    lease: Duration,
    /// When it last said so, by the clock of leases.
    seen: Duration,
    /// When the read began in which it suspected others, and for how long the longest of them believes its index.
    suspecting: Option<(Duration, Duration)>,
}

impl Feed {
    pub(super) fn new(connector: Arc<Connector>, node: String) -> Self {
        Self {
            connector,
            node,
            session: tokio::sync::Mutex::default(),
            heard: Arc::default(),
            presence: Mutex::default(),
            confirmed: Mutex::default(),
        }
    }

    /// When another process may have changed something.
    pub(super) async fn changed(&self) {
        self.heard.notified().await;
    }

    fn presence(&self) -> MutexGuard<'_, Option<Presence>> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that this process will answer from memory.
    pub(super) async fn announce(&self, s: &Session, lease: Duration) -> Result<(), Error> {
        let sql = format!(
            "INSERT INTO node (id, lease, followed, seen_at) VALUES ($1, $2, 0, {NOW}) \
             ON CONFLICT (id) DO UPDATE SET lease = excluded.lease, seen_at = excluded.seen_at, suspect = NULL"
        );
        // A fifth more than is believed: clocks that are being corrected go at different speeds, by less than that.
        let waited_for = lease + lease / 5 + Duration::from_millis(10);
        let millis = i64::try_from(waited_for.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        s.execute(&sql, &[&self.node, &millis]).await?;
        let before = self.presence().take();
        let (seen, suspecting) = before.map_or((Duration::ZERO, None), |before| (before.seen, before.suspecting));
        *self.presence() = Some(Presence { lease, seen, suspecting });
        Ok(())
    }

    /// Takes this process's row away. It must not believe its index any more.
    pub(super) async fn depart(&self) -> Result<(), Error> {
        *self.presence() = None;
        let held = self.session.lock().await;
        let Some(session) = held.as_ref() else { return Ok(()) };
        let gone = tokio::time::timeout(DEADLINE, session.execute("DELETE FROM node WHERE id = $1", &[&self.node])).await;
        gone.unwrap_or_else(|_| Err(late())).map(drop)
    }

    /// The longest lease of any other process that has not followed the feed up to `seq`.
    pub(super) async fn longest_lease_behind(&self, s: &Session, seq: u64) -> Result<Option<Duration>, Error> {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        let row = s.row("SELECT max(lease) FROM node WHERE id <> $1 AND followed < $2", &[&self.node, &seq]).await?;
        let longest: Option<i64> = row.map(|row| row.try_get(0)).transpose()?.flatten();
        Ok(longest.map(|millis| Duration::from_millis(millis.unsigned_abs())))
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

    /// What other processes have changed after `seq`, in order.
    pub(super) async fn changes_after(&self, seq: u64, now: Duration, unreadable: &Unreadable) -> Result<Changes, Error> {
        let mut held = self.session.lock().await;
        // Taken out: a read that fails, is late or dropped leaves nothing half done to the next.
        let session = held.take().filter(|session| !session.is_over());
        let read = async {
            let session = match session {
                Some(session) => session,
                None => self.connect().await?,
            };
            let changes = self.read(&session, seq, now, unreadable).await?;
            Ok((session, changes))
        };
        let (session, changes) = tokio::time::timeout(DEADLINE, read).await.unwrap_or_else(|_| Err(late()))?;
        *held = Some(session);
        Ok(changes)
    }

    async fn connect(&self) -> Result<Session, Error> {
        let session = self.connector.connect(Some(Arc::clone(&self.heard))).await?;
        // A database without notifications is asked a few times a lease, as every one is.
        if session.run("LISTEN countersign").await.is_err() {
            tracing::debug!("the database sends no notifications");
        }
        Ok(session)
    }

    async fn read(&self, s: &Session, seq: u64, now: Duration, unreadable: &Unreadable) -> Result<Changes, Error> {
        // Nothing that is proven rests on it.
        if let Err(e) = self.tend(s, now).await {
            tracing::warn!(cause = %e, "cannot see to the rows of nodes");
        }
        let after = i64::try_from(seq).unwrap_or(i64::MAX);
        let mut rows = s.rows(READ, &[&after, &self.node, &PAGE]).await?;
        let presence = self.presence().clone();
        if let (Some(presence), Some(row)) = (presence, rows.first())
            && !row.try_get::<_, bool>(1)?
        {
            tracing::warn!("another process took this one for gone; it announces itself again");
            self.announce(s, presence.lease).await?;
            // What was read before the row was there does not count.
            rows = s.rows(READ, &[&after, &self.node, &PAGE]).await?;
            if !rows.first().is_some_and(|row| row.try_get(1).unwrap_or(false)) {
                return Err(Error::Unavailable("this process could not announce itself".to_owned()));
            }
        }
        let last: i64 = rows.first().ok_or_else(|| Error::Corrupt("the feed's row is missing".to_owned()))?.try_get(0)?;
        if last.unsigned_abs() < seq {
            // An older database was put in place of this one: what it says is new is not what we have missed.
            return Err(Error::Corrupt("its feed went backwards; restart every server on it".to_owned()));
        }
        let unconfirmed = !self.confirm(s, now).await?;
        let more = i64::try_from(rows.len()).is_ok_and(|rows| rows == PAGE);
        let mut changes = Changes { through: seq, more, unconfirmed, ..Changes::default() };
        let (mut tokens, mut platforms) = (Vec::new(), Vec::new());
        for row in &rows {
            let Some(place) = row.try_get::<_, Option<i64>>(2)? else { break };
            changes.through = place.unsigned_abs();
            if row.try_get::<_, &str>(3)? == self.node && is_creation(row.try_get(6)?) {
                continue;
            }
            if let Some(id) = row.try_get::<_, Option<Uuid>>(4)? {
                tokens.push(id);
            } else if let Some(id) = row.try_get::<_, Option<Uuid>>(5)? {
                platforms.push((id, changes.through));
            } else if row.try_get::<_, &str>(6)? == Action::OperationsLoad.name() {
                changes.operations = sql::find_operations(s).await?.map(|operations| (changes.through, operations));
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
    async fn confirm(&self, s: &Session, now: Duration) -> Result<bool, Error> {
        let lease = self.presence().as_ref().map_or(Duration::ZERO, |presence| presence.lease);
        let last = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_sub(last) < lease / 5) {
            return Ok(false);
        }
        s.confirm().await?;
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
        let mut suspecting = presence.suspecting;
        if suspecting.is_some_and(|(since, longest)| now.saturating_sub(since) > longest + DEADLINE) {
            s.execute("DELETE FROM node WHERE suspect = $1", &[&self.node]).await?;
            suspecting = None;
        } else if suspecting.is_none() {
            let suspect = format!(
                "UPDATE node SET suspect = $1 WHERE id <> $1 AND seen_at < {NOW} - $2 AND (suspect IS NULL OR suspect = $1 \
                 OR NOT EXISTS (SELECT 1 FROM node other WHERE other.id = node.suspect)) RETURNING lease"
            );
            let gone = i64::try_from(GONE.as_millis()).unwrap_or(i64::MAX);
            let leases = s.rows(&suspect, &[&self.node, &gone]).await?;
            let longest = leases.iter().map(|row| row.try_get::<_, i64>(0)).collect::<Result<Vec<_>, _>>()?.into_iter().max();
            suspecting = longest.map(|longest| (now, Duration::from_millis(longest.unsigned_abs())));
        }
        *self.presence() = Some(Presence { seen: now, suspecting, ..presence });
        Ok(())
    }
}

fn late() -> Error {
    Error::Unavailable("the database did not answer in time".to_owned())
}
