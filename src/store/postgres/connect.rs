//! Reaching the database: its URL, TLS, and what every session is told before it does anything.

use std::{
    net::IpAddr,
    str::FromStr as _,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use tokio::sync::Notify;
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, Socket,
    config::Host,
    config::{LoadBalanceHosts, TargetSessionAttrs},
    error::SqlState,
    tls::TlsStream,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Error, session::Session};
use crate::defect::Defect;

/// How long reaching all hosts of the URL may take, unless it says how long one may.
const CONNECT: Duration = Duration::from_millis(1500);
/// How long it may take until a session is ready.
const READY: Duration = Duration::from_millis(2500);
/// After how long without an answer a connection is given up.
const SILENCE: Duration = Duration::from_secs(5);

/// What a session is told. The deadlines are the database's own, for statements of processes that are gone: nobody may hold
/// the feed's row for longer. Every statement has its index; a plan that was made while a table was small must not go on
/// reading all of it when it is not; and none of them is worth compiling. The last two are said where there is such a setting.
const SESSION: &str = "SET statement_timeout = '5s'; SET lock_timeout = '1500ms'; SET idle_in_transaction_session_timeout = '1500ms'; \
                       SET enable_seqscan = off; SELECT set_config(name, CASE name WHEN 'jit' THEN 'off' ELSE '0' END, false) \
                       FROM pg_catalog.pg_settings WHERE name IN ('idle_session_timeout', 'jit')";

/// How to reach the database.
pub(super) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    /// Once it is known.
    installation: OnceLock<[u8; 16]>,
    /// The newest timeline that any session has seen. A server that was promoted is on a newer one than whoever it
    /// replaced, so what this process does on different sessions is never of both.
    newest: Arc<AtomicU32>,
}

impl Connector {
    /// Reads a URL: `postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=FILE`.
    ///
    /// Servers elsewhere must prove who they are; one on this machine need not.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        Self::parse_ahead(url, Duration::ZERO)
    }

    /// The same as it will be in a while: certificates are looked at as of then.
    pub(super) fn parse_ahead(url: &str, ahead: Duration) -> Result<Self, Error> {
        let unfit = |why: String| Error::Unfit(format!("the database's URL {why}"));
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        // With a question mark in a password, what is behind that is none of the parameters, and not to be repeated.
        let is_of_password = query.contains('@');
        let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => roots = Some(value),
                _ => rest.push(parameter),
            }
        }
        let url = if rest.is_empty() { place.to_owned() } else { format!("{place}?{}", rest.join("&")) };
        // The library's own message could repeat a part of the URL.
        let is_read = |query: &str| Config::from_str(&format!("{place}?{query}")).is_ok();
        let mut config = Config::from_str(&url).map_err(|_| {
            // Neither is what comes behind a password.
            let mut named = rest.iter().take_while(|parameter| !is_of_password && !parameter.starts_with("password"));
            let odd = named.find(|parameter| is_read("") && !is_read(parameter)).and_then(|parameter| parameter.split('=').next());
            unfit(odd.map_or("is not one of PostgreSQL".to_owned(), |name| format!("says something of {name} that is not understood")))
        })?;
        if place.matches('@').count() > 1 {
            return Err(unfit("has more than one @; one in a password is written %40".to_owned()));
        }
        let addresses_here = config.get_hostaddrs().iter().all(IpAddr::is_loopback);
        let here = addresses_here
            && !config.get_hosts().is_empty()
            && config.get_hosts().iter().all(|host| match host {
                Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
                Host::Unix(_) => true,
            });
        let tls = match (mode, here) {
            (Some("disable"), _) | (None, true) => None,
            (Some("verify-full"), _) | (None, false) => Some(tls(roots, ahead)?),
            (Some(other), _) => {
                let other = if is_of_password { "something else" } else { other };
                return Err(unfit(format!(
                    "says sslmode={other}, which does not prove that the server is the right one: say verify-full, or disable"
                )));
            }
        };
        config.ssl_mode(if tls.is_some() { tokio_postgres::config::SslMode::Require } else { tokio_postgres::config::SslMode::Disable });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT / u32::try_from(config.get_hosts().len().max(1)).unwrap_or(u32::MAX));
        }
        config.keepalives_idle(SILENCE).tcp_user_timeout(SILENCE).application_name("countersign");
        // Of several hosts, the one that takes changes: a standby may be behind, and would not know of a revoke.
        // One that was replaced says so of itself too, so it must not be the first that is asked every time.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite).load_balance_hosts(LoadBalanceHosts::Random);
        Ok(Self { config, tls, installation: OnceLock::new(), newest: Arc::default() })
    }

    /// From now on a session of another installation's database is refused: another host of the URL may have one.
    pub(super) fn expect(&self, installation: [u8; 16]) {
        let _ = self.installation.set(installation);
    }

    /// A new session; `ear` is told of each notification that it gets.
    pub(super) async fn connect(&self, ear: Option<Arc<Ear>>) -> Result<Session, Error> {
        let late = || Err(Error::Unreachable("the database did not answer in time".to_owned()));
        tokio::time::timeout(READY, Box::pin(self.connect_at_last(ear))).await.unwrap_or_else(|_| late())
    }

    async fn connect_at_last(&self, ear: Option<Arc<Ear>>) -> Result<Session, Error> {
        let warned = Arc::<AtomicBool>::default();
        let client = match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await.map_err(refused)?;
                drive(connection, ear, Arc::clone(&warned));
                client
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(refused)?;
                drive(connection, ear, Arc::clone(&warned));
                client
            }
        };
        settle(&client, self.installation.get()).await?;
        let timeline = timeline(&client).await?;
        self.newest.fetch_max(timeline, Ordering::SeqCst);
        let session = Session::new(client, warned, timeline, Arc::clone(&self.newest));
        if session.is_replaced() {
            return Err(Error::Unavailable("another server has taken this one's place".to_owned()));
        }
        Ok(session)
    }
}

/// The server's timeline, with which the name of a file of its log begins; 0 of a database that has none.
async fn timeline(client: &Client) -> Result<u32, Error> {
    let sql = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)";
    match client.query_one(sql, &[]).await {
        Ok(row) => Ok(u32::from_str_radix(row.try_get(0)?, 16).unwrap_or(0)),
        Err(e) if e.code().is_some_and(|code| *code == SqlState::UNDEFINED_FUNCTION) => Ok(0),
        Err(e) => Err(e.into()),
    }
}

fn behind() -> Error {
    Error::Unreachable("the database takes no changes: a standby may be behind, and would not know of a revoke".to_owned())
}

/// Why there is no session, where the library knows it but does not say why that matters.
fn refused(error: tokio_postgres::Error) -> Error {
    let error = Error::from(error);
    if error.to_string().contains("does not allow writes") { behind() } else { error }
}

/// What must be so in every session, whichever server of a cluster it has reached.
async fn settle(client: &Client, installation: Option<&[u8; 16]>) -> Result<(), Error> {
    client.batch_execute(SESSION).await?;
    // A database that speaks PostgreSQL's protocol but has no such setting keeps its promises in its own way.
    let sql = "SELECT pg_is_in_recovery(), current_setting('synchronous_commit'), \
               coalesce(current_setting('fsync', true), 'on'), coalesce(current_setting('full_page_writes', true), 'on')";
    let row = client.query_one(sql, &[]).await?;
    if row.try_get(0)? {
        return Err(behind());
    }
    for (name, setting) in [("fsync", row.try_get::<_, &str>(2)?), ("full_page_writes", row.try_get(3)?)] {
        if setting != "on" {
            return Err(Error::Unfit(format!("the database runs with {name} = {setting}; a power cut would lose acknowledged changes")));
        }
    }
    if let Some(installation) = installation {
        let found = client.query_opt("SELECT id FROM installation", &[]).await?;
        if found.map(|row| row.try_get::<_, Vec<u8>>(0)).transpose()?.as_deref() != Some(installation) {
            return Err(Error::Unavailable("the database is another installation's".to_owned()));
        }
    }
    // Never weaker than our word, and not weaker than the database's own setting either.
    if Defect::Sync.is_seeded() {
        client.batch_execute("SET synchronous_commit = off").await?;
    } else if !matches!(row.try_get(1)?, "on" | "remote_apply") {
        client.batch_execute("SET synchronous_commit = on").await?;
    }
    Ok(())
}

/// What a process does with notifications, whose text names the process that sent them.
pub(super) struct Ear {
    node: String,
    news: Notify,
}

impl Ear {
    /// Of the process of that name.
    pub(super) fn new(node: String) -> Self {
        Self { node, news: Notify::new() }
    }

    /// Waits until another process has something new.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// What it has written itself it need not read at once: it knows it, and others do not wait for its word on that.
    fn hear(&self, from: &str) {
        if from != self.node {
            self.news.notify_one();
        }
    }
}

/// Moves a connection's bytes until it ends.
fn drive<T>(mut connection: Connection<Socket, T>, ear: Option<Arc<Ear>>, warned: Arc<AtomicBool>)
where
    T: TlsStream + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        // Its errors reach whoever waits for an answer.
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            match (message, &ear) {
                (AsyncMessage::Notification(said), Some(ear)) => ear.hear(said.payload()),
                (AsyncMessage::Notice(notice), _) if notice.severity() == "WARNING" => {
                    tracing::warn!(notice = notice.message(), "the database warns");
                    warned.store(true, Ordering::SeqCst);
                }
                _ => {}
            }
        }
    });
}

fn tls(roots: Option<&str>, ahead: Duration) -> Result<MakeRustlsConnect, Error> {
    let unfit = |why: String| Error::Unfit(format!("cannot reach the database by TLS: {why}"));
    let mut trusted = RootCertStore::empty();
    match roots {
        None | Some("system") => {
            let found = rustls_native_certs::load_native_certs();
            trusted.add_parsable_certificates(found.certs);
        }
        Some(file) => {
            for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unfit(format!("{file}: {e}")))? {
                let certificate = certificate.map_err(|e| unfit(format!("{file}: {e}")))?;
                trusted.add(certificate).map_err(|e| unfit(format!("{file}: {e}")))?;
            }
        }
    }
    if trusted.is_empty() {
        return Err(unfit("there is no certificate to trust; name a file with &sslrootcert=".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(Ahead(ahead)))
        .with_safe_default_protocol_versions()
        .map_err(|e| unfit(e.to_string()))?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// The clock by which certificates are looked at.
#[derive(Debug)]
struct Ahead(Duration);

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        let now = DefaultTimeProvider.current_time()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_elsewhere_must_prove_who_it_is() {
        let roots = "sslrootcert=/nowhere.pem";
        for (url, by_tls) in [
            ("postgres://me@localhost/db", Some(false)),
            ("postgres://me@%2Frun%2Fpostgresql/db", Some(false)),
            ("postgres://me@127.0.0.1:5433/db?application_name=x", Some(false)),
            ("postgres://me@db.internal/db?sslmode=disable", Some(false)),
            ("postgres://me@db.internal/db?sslmode=require", None),
            ("postgres://me@db.internal/db?sslmode=prefer", None),
            ("postgres://me:secret@[oops/db", None),
            ("postgres://me:pa@ss@localhost/db", None),
            ("postgres://me:12?secret@localhost/db", Some(false)),
            ("postgres://me:12?secret@localhost:99999/db", None),
            ("postgres://me:12?sslmode=secret@localhost/db", None),
            ("postgres://localhost/db?password=12&secret", None),
            ("postgres://localhost/db?password=12&secret=1", None),
        ] {
            let parsed = Connector::parse(url);
            assert_eq!(parsed.as_ref().ok().map(|connector| connector.tls.is_some()), by_tls, "{url}");
            assert!(!parsed.err().map(|e| e.to_string()).unwrap_or_default().contains("secret"));
        }
        for url in [
            "postgres://me@db.internal/db",
            "postgres://me@localhost,db.internal/db",
            "postgres://me@localhost/db?hostaddr=10.0.0.5",
            "postgres://me@localhost/db?sslmode=verify-full",
        ] {
            let url = format!("{url}{}{roots}", if url.contains('?') { '&' } else { '?' });
            assert!(Connector::parse(&url).err().unwrap().to_string().contains("/nowhere.pem"), "{url}");
        }
    }
}
