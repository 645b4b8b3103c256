//! What whoever runs a PostgreSQL for us should know of it.

use std::time::Duration;

use super::{ENDING, Error, Postgres, READING, connect::Connector};
use crate::{measure::Stopwatch, store::examine::Examined};

/// A way there and back that takes longer is felt by whoever changes something, several times.
const FAR: Duration = Duration::from_millis(10);
/// Clocks that are further apart make times of different servers hard to compare.
const APART: i64 = 2000;
/// Sessions that one server has at the most: readers, enders, the writer, the feed, what listens, and a little more.
const SESSIONS: i64 = READING as i64 + ENDING as i64 + 4;
/// Before a certificate has run out, somebody should get another one.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

const SQL: &str = "SELECT current_setting('server_version'), \
                   (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), \
                   current_setting('max_connections')::bigint - (SELECT count(*) FROM pg_catalog.pg_stat_activity), \
                   current_setting('synchronous_standby_names'), \
                   (extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
                   coalesce((SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid()), false), \
                   pg_database_size(current_database())";

impl Postgres {
    pub(in crate::store) async fn examine(&self, url: &str, now: i64) -> Result<Examined, Error> {
        // Prepared, and the session made, by the first.
        self.readers.read(async |s| s.row(SQL, &[]).await).await?;
        let began = Stopwatch::start();
        let row = self.readers.read(async |s| s.row(SQL, &[]).await).await?;
        let away = began.took();
        let row = row.ok_or_else(|| Error::Unavailable("the database says nothing of itself".to_owned()))?;
        let (version, standbys): (&str, &str) = (row.try_get(0)?, row.try_get(3)?);
        let (superuser, left): (Option<bool>, i64) = (row.try_get(1)?, row.try_get(2)?);
        let (theirs, secure, bytes): (i64, bool, i64) = (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
        let way = if secure { "by TLS" } else { "without TLS, on this machine" };
        let waits = if standbys.is_empty() { "no commit waits for a standby" } else { "commits wait for a standby" };
        let millis = away.as_secs_f64() * 1e3;
        let mut examined = Examined {
            found: format!("PostgreSQL {version}, {} MiB, {millis:.1} ms away {way}; {waits}", bytes >> 20),
            doubts: Vec::new(),
        };
        let mut doubt = |found: String, then| examined.doubts.push((found, then));
        if superuser == Some(true) {
            let then = "give it a role of its own: CREATE ROLE countersign LOGIN, and the database to it";
            doubt("the URL's role is a superuser, which nothing here needs".to_owned(), then);
        }
        if left < SESSIONS {
            let then = "raise max_connections, or end what else is connected";
            doubt(format!("{left} more sessions can be made, and a server has up to {SESSIONS}"), then);
        }
        if away > FAR {
            doubt(format!("it is {millis:.1} ms away"), "put the servers nearer: each change goes there and back some times");
        }
        if (theirs - now).abs() > APART {
            let apart = (theirs - now) as f64 / 1e3;
            doubt(format!("its clock is {apart:+.1} s from this machine's"), "set both clocks (timedatectl set-ntp true)");
        }
        if secure {
            // It is valid now, or there was no session: what is wrong with it then is its time, in whatever words the library says so.
            let then = Connector::parse_ahead(url, SOON)?.connect(None).await;
            if then.is_err_and(|e| e.to_string().contains("invalid peer certificate")) {
                doubt("its certificate runs out within 14 days".to_owned(), "renew it: from then on no server reaches the database");
            }
        }
        Ok(examined)
    }
}
