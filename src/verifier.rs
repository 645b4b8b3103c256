//! Proving credentials inside another Rust service: the same index and the same promise as the server's, without asking it.
//!
//! A [`Verifier`] opens the data directory that the servers and commands use. Like each of them it answers from memory,
//! follows what the others change, and is waited for by whoever ends a token. So, once a revoke has returned, over HTTP
//! or from a command, this process refuses the token.
//!
//! ```no_run
//! # async fn example(authorization_values: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
//! use countersign::verifier::{Verifier, VerifierOptions};
//!
//! let verifier = Verifier::open(VerifierOptions::new("/var/lib/countersign")).await?;
//! let proven = verifier.verify_headers(authorization_values).await?;
//! println!("{} of {} may {}", proven.client_id, proven.scope.platform, proven.permissions);
//! verifier.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Whoever opens one holds the server key and can write to the database: it is for services that are trusted as the server
//! itself is, on its machine and under its account. Others ask `/verify`.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    authority::{AttemptLimits, Authority, Database, Error, Follower, Options, SystemClock, SystemEntropy, Upkeep},
    domain::{Presented, Proven},
};

pub use crate::authority::{Denied, Reason};
pub use crate::domain::OnDatabaseLoss;

/// The longest lease: a revoke waits for it, and a server with the default timeouts has to answer one within 5 seconds.
const LONGEST_LEASE: Duration = Duration::from_secs(4);

/// What a receipt may have to say at the most, as in the servers' settings.
const LONGEST_STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// How to open a [`Verifier`].
#[derive(Debug, Clone)]
pub struct VerifierOptions {
    /// The data directory of the servers and commands.
    pub data: PathBuf,
    /// The URL of the servers' PostgreSQL database, if that is where the records are.
    pub database: Option<String>,
    /// The key file, if it is not `keys.json` in the data directory.
    pub key_file: Option<PathBuf>,
    /// Where to keep the journal of what ended, as a server does: `revocations.jsonl` in the data directory, or, where another
    /// process writes that one, `revocations.jsonl.2` and so on. By it this process notices, over its end too, that the database
    /// was put back to an earlier state, and proves nobody until `countersign restore` has taken it in. With `None`, one that
    /// is started on such a database believes it: it must be stopped before, and stay so until the restore is done.
    pub journal: Option<PathBuf>,
    /// For how long the index is believed after it was last brought up to date; a second. Every revoke, by whatever
    /// process, waits this long: above zero, at most four seconds.
    pub lease: Duration,
    /// What becomes of credentials when the lease is over and the database can't be reached: nobody is proven, unless this
    /// says that memory is believed for a while longer, on PostgreSQL only. Every revoke that this process has not heard of
    /// says so in its receipt. Longer than the lease, at most a day.
    pub on_database_loss: OnDatabaseLoss,
    /// How often uses are written; ten seconds. Above zero.
    pub flush_interval: Duration,
    /// Whether the addresses that tokens are used from are recorded, where whoever verifies says them.
    pub use_sources: bool,
}

impl VerifierOptions {
    /// For that data directory; the rest as a server has it.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self {
            database: None,
            key_file: None,
            journal: Some(data.join("revocations.jsonl")),
            data,
            lease: Duration::from_secs(1),
            on_database_loss: OnDatabaseLoss::Deny,
            flush_interval: Duration::from_secs(10),
            use_sources: true,
        }
    }
}

/// Proves credentials in memory. One is enough for a process; clones are the same one.
///
/// Needs a tokio runtime with its time enabled. Dropping the last clone ends it too, but whether the uses of the last
/// seconds are written is then known to nobody: say [`Verifier::close`].
#[derive(Debug, Clone)]
pub struct Verifier {
    authority: Arc<Authority>,
    background: Arc<Mutex<Option<Background>>>,
}

/// What runs beside the requests.
#[derive(Debug)]
struct Background {
    follower: Follower,
    upkeep: Upkeep,
}

impl Verifier {
    /// Opens the database, loads all live tokens, and follows it from then on. Never makes a database.
    ///
    /// # Errors
    /// A sentence that says what to do: there is no database, its key file is missing, or not its own, or readable by
    /// others; its settings would not hold what we promise; it went back to an earlier state; or the options are out of bounds.
    pub async fn open(options: VerifierOptions) -> Result<Self, String> {
        let VerifierOptions { data, database, key_file, journal, lease, on_database_loss, flush_interval, use_sources } = options;
        if lease.is_zero() || lease > LONGEST_LEASE {
            return Err(format!("the lease of a verifier must be above zero and at most {LONGEST_LEASE:?}, not {lease:?}"));
        }
        if let OnDatabaseLoss::ServeStale(most) = on_database_loss
            && (most <= lease || most > LONGEST_STALE)
        {
            return Err(format!("a verifier can serve stale for longer than its lease and for at most a day, not for {most:?}"));
        }
        if flush_interval.is_zero() {
            return Err("the flush interval of a verifier must be above zero".to_owned());
        }
        let keys = key_file.unwrap_or_else(|| data.join("keys.json")).into();
        let database = database.map_or(Database::Sqlite(data), Database::Postgres);
        let options = Options {
            database,
            keys,
            create: false,
            lease: Some(lease),
            on_database_loss,
            revocation_wait: true,
            journal,
            attempts: AttemptLimits::NONE,
            use_sources,
            max_tokens: None,
        };
        let authority = Arc::new(Authority::open(options, Arc::new(SystemClock), Arc::new(SystemEntropy)).await?);
        let follower = Follower::start(&authority).map_err(|e| format!("cannot start to follow the database: {e}"))?;
        authority.load_tokens().await.map_err(|e| e.to_string())?;
        let upkeep = Upkeep::start(&authority, flush_interval);
        Ok(Self { authority, background: Arc::new(Mutex::new(Some(Background { follower, upkeep }))) })
    }

    /// Proves the value of an `Authorization` header, and counts the use; `None` is a request without one.
    ///
    /// Whoever has the headers must see to it that there was exactly one: of two, whoever is in front may have looked at
    /// the other. [`Verifier::verify_headers`] does.
    ///
    /// # Errors
    /// [`Denied::Refused`] is 401, the same for every reason; [`Denied::Unknown`] is 503.
    pub async fn verify(&self, authorization: Option<&[u8]>) -> Result<Proven, Denied> {
        self.prove(authorization.and_then(Presented::parse_basic).as_ref(), None).await
    }

    /// The same with all values of a request's `Authorization` headers, of which there must be exactly one.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub async fn verify_headers<V: AsRef<[u8]>>(&self, values: impl IntoIterator<Item = V>) -> Result<Proven, Denied> {
        let presented = Presented::parse_only(values);
        self.prove(presented.as_ref(), None).await
    }

    /// The same of a request that came from that address, which is then recorded as one that the token was used from: the
    /// client's own, not that of a proxy in front of this service.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub async fn verify_headers_from<V: AsRef<[u8]>>(&self, source: IpAddr, values: impl IntoIterator<Item = V>) -> Result<Proven, Denied> {
        let presented = Presented::parse_only(values);
        self.prove(presented.as_ref(), Some(source)).await
    }

    /// Proves where memory alone knows; `None` where the database has to be asked, by [`Verifier::prove`].
    #[cfg(feature = "tower")]
    pub(crate) fn prove_at_once(&self, presented: Option<&Presented>, source: Option<IpAddr>) -> Option<Result<Proven, Denied>> {
        self.authority.prove_at_once(presented, source.map(|source| source.to_canonical()))
    }

    pub(crate) async fn prove(&self, presented: Option<&Presented>, source: Option<IpAddr>) -> Result<Proven, Denied> {
        self.authority.prove(presented, source.map(|source| source.to_canonical())).await
    }

    /// Counts somebody proven who was refused for their permissions or environment, for the audit log. To be called by
    /// whoever looks at these.
    pub fn note_forbidden(&self) {
        self.authority.note_forbidden();
    }

    /// Reads the key file again, as a server does on SIGHUP: to be called when it was changed. One that can't be read, is none
    /// or is another database's changes nothing.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub async fn reload_keys(&self) -> Result<(), String> {
        self.authority.reload_keys().await
    }

    /// Ends what runs beside the requests, of all clones, and writes what was only noted. Once more does nothing.
    ///
    /// What is still verified afterwards is read from the database as soon as the lease is over, so the promise holds; its
    /// uses are not written.
    ///
    /// # Errors
    /// The uses of the last seconds could not be written.
    pub async fn close(&self) -> Result<(), Error> {
        let background = self.background.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Background { follower, upkeep }) = background else { return Ok(()) };
        // It may be reading, and is waited for.
        let _ = tokio::task::spawn_blocking(move || drop(follower)).await;
        upkeep.end().await
    }
}
