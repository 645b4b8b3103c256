//! Data directories with one platform of many tokens. Only the authority can seal a row, so the authority made them; they
//! are kept and used again.
//!
//! Half of the tokens were created evenly over two years, half in one burst of 40 a millisecond, so that a filter can
//! meet both. Half are named `ci`, one in a thousand `backup`, the others have a name each.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign::{
    authority::{AttemptLimits, Authority, Clock, Database, Error, Issued, Options, SystemClock, SystemEntropy},
    domain::{Caller, Environment, NewToken, Owner, Permissions, Presented, RequestInfo, Timestamp, TokenName},
};
use tokio::task::JoinSet;

use crate::{
    Outcome,
    report::{note, now, number},
    scratch,
};

/// 2024-01-01T00:00:00Z.
pub(crate) const BEGIN: i64 = 1_704_067_200_000;
/// Two years later: the burst.
pub(crate) const BURST: i64 = BEGIN + 2 * 365 * 24 * 3600 * 1000;
const BURST_PER_MS: u64 = 40;
/// Credentials that are kept, to rotate over: each may do everything.
const KEPT: u64 = 50_000;
/// Waiting creates while loading.
const LOADERS: u64 = 256;

/// A data directory.
#[derive(Debug, Clone)]
pub(crate) struct Dataset {
    pub(crate) directory: PathBuf,
    pub(crate) tokens: u64,
    /// `Authorization` values.
    pub(crate) credentials: Vec<String>,
}

/// The wall clock of the loader: which token it is decides when it is.
struct Calendar {
    asked: AtomicU64,
    tokens: u64,
}

impl Clock for Calendar {
    fn wall(&self) -> Timestamp {
        let (at, half) = (self.asked.fetch_add(1, Ordering::Relaxed), self.tokens / 2);
        let spread = (BURST - BEGIN).unsigned_abs() * at.min(half) / half;
        Timestamp::from_millis(BEGIN + (spread + at.saturating_sub(half) / BURST_PER_MS).cast_signed())
    }

    fn boot(&self) -> Duration {
        SystemClock.boot()
    }
}

/// A name.
pub(crate) fn named(text: &str) -> Outcome<TokenName> {
    Ok(TokenName::parse("name", text).map_err(Error::from)?)
}

/// An authority on a data directory; with a lease if it is to answer as a server does.
pub(crate) async fn open(directory: &Path, clock: Arc<dyn Clock>, lease: Option<Duration>) -> Outcome<Arc<Authority>> {
    open_in(Database::Sqlite(directory.to_owned()), directory, clock, lease).await
}

/// The same on that database, with its key file in the directory.
pub(crate) async fn open_in(
    database: Database,
    directory: &Path,
    clock: Arc<dyn Clock>,
    lease: Option<Duration>,
) -> Outcome<Arc<Authority>> {
    let options = Options {
        database,
        keys: directory.join("keys.json").into(),
        create: true,
        lease,
        on_database_loss: countersign::domain::OnDatabaseLoss::Deny,
        revocation_wait: true,
        journal: None,
        attempts: AttemptLimits::NONE,
        use_sources: true,
        max_tokens: None,
    };
    Ok(Arc::new(Authority::open(options, clock, Arc::new(SystemEntropy)).await?))
}

/// Makes a platform; returns the credential of its sandbox.
pub(crate) async fn make_platform(authority: &Arc<Authority>) -> Outcome<String> {
    let operator = Owner::at_command_line("bench".to_owned(), RequestInfo::default());
    let (_, roots) = authority.create_platform(&operator, named("Bench")?, None).await?;
    let root = roots.iter().find(|root| root.token.scope.environment == Environment::Sandbox);
    Ok(authorization(root.ok_or("a platform without a sandbox")?))
}

/// The caller behind a credential.
pub(crate) async fn caller(authority: &Authority, credential: &str) -> Outcome<Caller> {
    let request = RequestInfo { id: "0123abcd-00000001".to_owned(), source: "127.0.0.1".to_owned() };
    let proven = authority.verify(Presented::parse_basic(credential.as_bytes()), request).await;
    proven.map_err(|denied| format!("{denied:?}").into())
}

fn authorization(issued: &Issued) -> String {
    let secret = issued.secret.as_ref().map(|secret| secret.expose()).unwrap_or_default();
    basic(&issued.token.client_id().to_string(), secret)
}

/// The value of the header with a credential.
pub(crate) fn basic(client_id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{client_id}:{secret}")))
}

/// The name of the token that is created as the `at`th.
fn name_of(at: u64) -> String {
    match at {
        _ if at.is_multiple_of(2) => "ci".to_owned(),
        _ if at % 1000 == 1 => "backup".to_owned(),
        _ => format!("token {at}"),
    }
}

/// Numbers that are spread like random ones, and the same each time.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// One below a bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }

    /// Puts things into any order.
    pub(crate) fn shuffle<T>(&mut self, things: &mut [T]) {
        for at in (1..things.len()).rev() {
            things.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

impl Dataset {
    /// The data directory with that many tokens.
    pub(crate) fn of(tokens: u64) -> Outcome<Self> {
        let directory = scratch("bench-data").join(tokens.to_string());
        let kept = directory.join("credentials");
        let runtime = tokio::runtime::Runtime::new()?;
        let text = fs::read_to_string(&kept).unwrap_or_default();
        let mut credentials: Vec<_> = text.lines().map(str::to_owned).collect();
        if runtime.block_on(is_usable(&directory, &credentials)).is_err() {
            remove(&directory)?;
            fs::create_dir_all(&directory)?;
            credentials = runtime.block_on(load(&directory, tokens))?;
            // Last of all: its presence says that the rest is complete.
            fs::write(&kept, credentials.join("\n"))?;
        }
        Ok(Self { directory, tokens, credentials })
    }

    /// The same in a directory of its own, which may be changed.
    pub(crate) fn copy(&self) -> Outcome<Self> {
        let directory = fresh("copy")?;
        for file in ["countersign.db", "keys.json"] {
            fs::copy(self.directory.join(file), directory.join(file))?;
        }
        Ok(Self { directory, tokens: self.tokens, credentials: self.credentials.clone() })
    }
}

/// An empty directory on the same file system.
pub(crate) fn fresh(name: &str) -> Outcome<PathBuf> {
    let directory = scratch("bench-data").join(name);
    remove(&directory)?;
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Whether it was completed, and by an authority like ours: another one's schema or credentials could differ.
async fn is_usable(directory: &Path, credentials: &[String]) -> Outcome {
    let root = credentials.first().ok_or("not complete")?;
    let authority = open(directory, Arc::new(SystemClock), None).await?;
    caller(&authority, root).await.map(drop)
}

async fn load(directory: &Path, tokens: u64) -> Outcome<Vec<String>> {
    note(&format!("loading {tokens} tokens, once"));
    let (began, clock) = (now(), Calendar { asked: AtomicU64::new(0), tokens });
    let authority = open(directory, Arc::new(clock), None).await?;
    let root = make_platform(&authority).await?;
    let manager = caller(&authority, &root).await?.may_manage().map_err(|_| "a root token may do everything")?;
    let next = Arc::new(AtomicU64::new(0));
    let mut loaders = JoinSet::new();
    for _ in 0..LOADERS {
        let (authority, manager, next) = (Arc::clone(&authority), manager.clone(), Arc::clone(&next));
        loaders.spawn(async move {
            let mut credentials = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= tokens {
                    return Outcome::Ok(credentials);
                }
                let new = NewToken { name: named(&name_of(at))?, permissions: Permissions::ALL };
                let issued = authority.create_token(&manager, new, None).await?;
                if at < KEPT {
                    credentials.push(authorization(&issued));
                }
            }
        });
    }
    let mut credentials = vec![root];
    while let Some(loaded) = loaders.join_next().await {
        credentials.extend(loaded??);
    }
    let rate = tokens as f64 / (now() - began).as_secs_f64();
    note(&format!("{} tokens a second", number(rate)));
    Ok(credentials)
}
