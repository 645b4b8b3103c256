//! An app on a real database, with a clock that tests turn and entropy that repeats; and the checks that every answer
//! of every test passes.

pub(crate) mod certificates;
pub(crate) mod contract;
pub(crate) mod database;
mod listening;
pub(crate) mod page;
pub(crate) mod passage;
pub(crate) mod program;

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use countersign::{
    authority::{AttemptLimits, Authority, Clock, Copied, Database, Entropy, NoEntropy, Options},
    domain::{Owner, Platform, RequestInfo, Timestamp, TokenName},
    http::{App, Limits, Surroundings},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use self::listening::Listening;

/// 2025-07-21T17:32:28.000Z
pub(crate) const START: i64 = 1_753_119_148_000;

#[derive(Debug)]
pub(crate) struct ManualClock {
    wall: AtomicI64,
    boot: AtomicU64,
    /// Behind how many more looks at the clock that counts suspend the machine is suspended for an hour; 0 is never.
    pub(crate) looks_to_suspend: AtomicU64,
    /// Behind how many more such looks whoever looks waits there; 0 is never.
    looks_to_wait: AtomicU64,
    /// Where they are met, and then let go.
    waits: Barrier,
    /// Asking for the time panics, once: a defect in the middle of a request.
    pub(crate) panics: std::sync::atomic::AtomicBool,
}

impl ManualClock {
    /// One whose wall clock shows this.
    pub(crate) fn showing(wall: i64) -> Self {
        let boot = AtomicU64::new(1_000_000_000_000);
        Self {
            wall: AtomicI64::new(wall),
            boot,
            looks_to_suspend: 0.into(),
            looks_to_wait: 0.into(),
            waits: Barrier::new(2),
            panics: false.into(),
        }
    }

    /// Both clocks move on.
    pub(crate) fn advance(&self, time: Duration) {
        self.wall.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
        self.boot.fetch_add(u64::try_from(time.as_nanos()).unwrap(), Ordering::SeqCst);
    }

    /// What comes of some work that waits at one of its looks at the clock that counts suspend for as long as `meanwhile` takes.
    pub(crate) async fn stop_at<R: Send + 'static>(
        self: &Arc<Self>,
        look: u64,
        work: impl Future<Output = R> + Send + 'static,
        meanwhile: impl AsyncFnOnce(),
    ) -> R {
        self.looks_to_wait.store(look, Ordering::SeqCst);
        // The thread that waits drives nothing that others may need.
        let run = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(work);
        let (worker, clock) = (std::thread::spawn(run), Arc::clone(self));
        let meet = async || {
            let clock = Arc::clone(&clock);
            tokio::task::spawn_blocking(move || clock.waits.wait()).await.unwrap();
        };
        meet().await;
        meanwhile().await;
        meet().await;
        tokio::task::spawn_blocking(|| worker.join().unwrap()).await.unwrap()
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_wall(&self, millis: i64) {
        self.wall.store(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "told to panic");
        Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
    }

    fn boot(&self) -> Duration {
        let looks = self.looks_to_suspend.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |looks| looks.checked_sub(1));
        if looks == Ok(1) {
            self.advance(Duration::from_secs(3600));
        }
        let boot = Duration::from_nanos(self.boot.load(Ordering::SeqCst));
        let looks = self.looks_to_wait.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |looks| looks.checked_sub(1));
        if looks == Ok(1) {
            self.waits.wait();
            self.waits.wait();
        }
        boot
    }
}

/// Seeded; or broken, when told so.
#[derive(Debug)]
pub(crate) struct SeededEntropy {
    rng: Mutex<ChaCha20Rng>,
    pub(crate) broken: std::sync::atomic::AtomicBool,
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(NoEntropy("told to fail".to_owned()));
        }
        self.rng.lock().unwrap().fill_bytes(bytes);
        Ok(())
    }
}

/// A credential's two halves.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) id: String,
    pub(crate) client_id: String,
    pub(crate) secret: String,
}

impl Pair {
    /// That of an answer to a create, or of a command's.
    #[track_caller]
    pub(crate) fn of(created: &Value) -> Self {
        let text = |name: &str| created[name].as_str().unwrap_or_else(|| panic!("no {name}: {created}")).to_owned();
        Self { id: text("id"), client_id: text("clientId"), secret: text("clientSecret") }
    }

    pub(crate) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.client_id, self.secret)))
    }
}

pub(crate) struct TestApp {
    pub(crate) authority: Arc<Authority>,
    pub(crate) app: App,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
    pub(crate) platform: Platform,
    pub(crate) sandbox: Pair,
    pub(crate) production: Pair,
    secrets: Mutex<Vec<String>>,
    log_start: usize,
    pub(crate) directory: TempDir,
}

impl TestApp {
    pub(crate) async fn new() -> Self {
        Self::on(database::of).await
    }

    /// On another database than the tests', by its directory.
    pub(crate) async fn on(database: fn(&Path) -> Database) -> Self {
        static CAPTURE: std::sync::Once = std::sync::Once::new();
        CAPTURE.call_once(capture_log);
        let log_start = LOG.lock().unwrap().len();
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::showing(START));
        let entropy = Arc::new(SeededEntropy { rng: Mutex::new(ChaCha20Rng::from_seed([7; 32])), broken: false.into() });
        let authority = open_on(database(directory.path()), directory.path(), &clock, &entropy).await.unwrap();
        authority.load_tokens().await.unwrap();
        let (platform, pairs) = create_platform(&authority, "Acme").await;
        let [sandbox, production] = pairs;
        let secrets = Mutex::new(vec![sandbox.secret.clone(), production.secret.clone()]);
        let app = app(&authority, &clock);
        Self { authority, app, clock, entropy, platform, sandbox, production, secrets, log_start, directory }
    }

    /// Ends this process's part and opens the same data again.
    pub(crate) async fn restart(self) -> Self {
        self.try_restart().await.unwrap()
    }

    pub(crate) async fn try_restart(mut self) -> Result<Self, String> {
        self.authority.flush().await.unwrap();
        // Dropped first, as a process that has ended would be.
        let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
        let elsewhere = tempfile::tempdir().unwrap();
        let placeholder = open(elsewhere.path(), &clock, &entropy).await.unwrap();
        self.app = app(&placeholder, &clock);
        self.authority = placeholder;
        self.authority = open(self.directory.path(), &clock, &entropy).await?;
        self.app = app(&self.authority, &clock);
        Ok(self)
    }

    /// Ends this process's part, has its database moved to another, and goes on there.
    pub(crate) async fn move_to(mut self, from: &Database, to: &Database) -> (Self, Copied) {
        self.authority.flush().await.unwrap();
        let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
        let elsewhere = tempfile::tempdir().unwrap();
        let placeholder = open(elsewhere.path(), &clock, &entropy).await.unwrap();
        self.app = app(&placeholder, &clock);
        self.authority = placeholder;
        // What a process in its place would have taken away.
        database::edit_of(from, "DELETE FROM node", true);
        let keys = self.directory.path().join("keys.json");
        let copied = countersign::authority::move_to(from, to, &keys.into(), true, |_, _| {}).await.unwrap();
        self.authority = open_on(to.clone(), self.directory.path(), &clock, &entropy).await.unwrap();
        self.authority.load_tokens().await.unwrap();
        self.app = app(&self.authority, &clock);
        (self, copied)
    }

    /// Another platform in the same installation.
    pub(crate) async fn another_platform(&self, name: &str) -> (Platform, [Pair; 2]) {
        let made = create_platform(&self.authority, name).await;
        made.1.iter().for_each(|pair| self.secrets.lock().unwrap().push(pair.secret.clone()));
        made
    }

    pub(crate) fn get(&self, path: &str) -> Request<'_> {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Request<'_> {
        self.request(Method::POST, path)
    }

    pub(crate) fn delete(&self, path: &str) -> Request<'_> {
        self.request(Method::DELETE, path)
    }

    /// From now on these are in no answer and no line of the log.
    pub(crate) fn keep_secrets_of(&self, made: &Value) {
        match made {
            Value::Object(members) => members.iter().for_each(|(name, value)| match value {
                Value::String(text) if ["clientSecret", "token", "invitation"].contains(&name.as_str()) => {
                    self.secrets.lock().unwrap().push(text.clone());
                }
                value => self.keep_secrets_of(value),
            }),
            Value::Array(items) => items.iter().for_each(|item| self.keep_secrets_of(item)),
            _ => {}
        }
    }

    /// From now on requests are answered by another process of the same data, which `change` says how to open; the one
    /// before stays there.
    pub(crate) async fn try_replace(&mut self, change: impl FnOnce(&mut Options)) -> Result<Arc<Authority>, String> {
        let mut options = options(self.directory.path());
        change(&mut options);
        let authority = Arc::new(Authority::open(options, Arc::clone(&self.clock) as _, Arc::clone(&self.entropy) as _).await?);
        authority.load_tokens().await.map_err(|e| e.to_string())?;
        self.app = app(&authority, &self.clock);
        Ok(std::mem::replace(&mut self.authority, authority))
    }

    /// A request as the sandbox root, unless it is told otherwise.
    pub(crate) fn request(&self, method: Method, path: &str) -> Request<'_> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", self.sandbox.basic().parse().unwrap());
        Request { app: self, method, path: path.to_owned(), headers, body: Bytes::new(), expects_5xx: false, peer: [127, 0, 0, 1].into() }
    }

    /// The metrics page.
    pub(crate) async fn metrics(&self) -> String {
        String::from_utf8(self.get("/metrics").send_admin().await.expect(200).body.into()).unwrap()
    }

    /// So many requests ended in a defect.
    pub(crate) async fn assert_panics(&self, count: u32) {
        let metrics = self.metrics().await;
        assert!(metrics.contains(&format!("countersign_panics_total {count}\n")), "{metrics}");
    }

    /// A token made through Grid by the sandbox root.
    pub(crate) async fn token(&self, name: &str, permissions: &[&str]) -> Pair {
        self.token_by(&self.sandbox, name, permissions).await
    }

    pub(crate) async fn token_by(&self, by: &Pair, name: &str, permissions: &[&str]) -> Pair {
        let body = serde_json::json!({ "name": name, "permissions": permissions });
        self.post(GRID).auth(by).json(&body).send().await.expect(201).pair()
    }
}

pub(crate) const GRID: &str = "/grid/2025-10-13/tokens";
pub(crate) const BLIPS: &str = "/blips/tokens";

impl Drop for TestApp {
    /// No secret of this app in the log of any test.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let log = LOG.lock().unwrap();
        let pieces: std::collections::HashSet<&[u8]> = log[self.log_start..].windows(12).collect();
        for secret in self.secrets.lock().unwrap().iter() {
            // Every piece of a secret that is long enough to help somebody.
            assert!(secret.as_bytes()[11..].windows(12).all(|piece| !pieces.contains(piece)), "a part of a secret is in the log");
        }
    }
}

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What was logged so far, by all tests.
pub(crate) fn logged() -> String {
    String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned()
}

fn capture_log() {
    let trace = tracing_subscriber::EnvFilter::new("warn,countersign=trace");
    tracing_subscriber::fmt().json().with_env_filter(trace).with_writer(|| Log).init();
}

pub(crate) async fn open(directory: &Path, clock: &Arc<ManualClock>, entropy: &Arc<SeededEntropy>) -> Result<Arc<Authority>, String> {
    let authority = open_cold(directory, clock, entropy).await?;
    authority.load_tokens().await.map_err(|e| e.to_string())?;
    Ok(authority)
}

/// As a server is that just began: its tokens are not in memory yet.
pub(crate) async fn open_cold(directory: &Path, clock: &Arc<ManualClock>, entropy: &Arc<SeededEntropy>) -> Result<Arc<Authority>, String> {
    open_on(database::of(directory), directory, clock, entropy).await
}

/// On a database with its key file in a directory.
async fn open_on(
    database: Database,
    directory: &Path,
    clock: &Arc<ManualClock>,
    entropy: &Arc<SeededEntropy>,
) -> Result<Arc<Authority>, String> {
    let options = Options { database, ..options(directory) };
    Authority::open(options, Arc::clone(clock) as _, Arc::clone(entropy) as _).await.map(Arc::new)
}

fn options(directory: &Path) -> Options {
    Options {
        database: database::of(directory),
        keys: directory.join("keys.json").into(),
        create: true,
        lease: Some(Duration::from_secs(1)),
        on_database_loss: countersign::domain::OnDatabaseLoss::Deny,
        revocation_wait: true,
        journal: None,
        attempts: AttemptLimits { per_source: 1000, per_client: 300 },
        use_sources: true,
        max_tokens: None,
    }
}

/// What a server's environment may say: `hunter2` is in no answer.
pub(crate) const CONFIGURED: [(&str, &str); 3] = [
    ("COUNTERSIGN_DATABASE", "postgres://me:hunter2@db.internal/tokens"),
    ("COUNTERSIGN_AUDIT_HEAD", "https://hunter2@collector.internal/heads?key=hunter2"),
    ("COUNTERSIGN_KEY_COMMAND", "curl -H 'X-Vault-Token: hunter2' https://vault.internal/keys"),
];

fn app(authority: &Arc<Authority>, clock: &Arc<ManualClock>) -> App {
    let limits = Limits { body_timeout: Duration::from_secs(5), request_timeout: Duration::from_secs(20) };
    let flags = [("request_timeout".to_owned(), "20s".to_owned())].into();
    let environment = CONFIGURED.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = countersign::config::Config::layered(&flags, environment, None).unwrap();
    let surroundings = Surroundings {
        gateways: config.gateways.clone(),
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        assertions: None,
        log_lines_lost: || 0,
        otlp_failures: || 0,
        settings: config.shown().to_vec(),
    };
    App::new(Arc::clone(authority), Arc::clone(clock) as _, limits, surroundings, 0)
}

pub(crate) fn operator() -> Owner {
    Owner::at_command_line("test".to_owned(), RequestInfo { id: "command-1".to_owned(), source: String::new() })
}

async fn create_platform(authority: &Arc<Authority>, name: &str) -> (Platform, [Pair; 2]) {
    let name = TokenName::parse("name", name).unwrap();
    let (platform, roots) = authority.create_platform(&operator(), name, None).await.unwrap();
    let pair = |issued: &countersign::authority::Issued| Pair {
        id: issued.token.id.to_string(),
        client_id: issued.token.client_id().to_string(),
        secret: issued.secret.as_ref().unwrap().expose().to_owned(),
    };
    (platform, [pair(&roots[0]), pair(&roots[1])])
}

pub(crate) struct Request<'a> {
    app: &'a TestApp,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    expects_5xx: bool,
    peer: std::net::IpAddr,
}

impl Request<'_> {
    pub(crate) fn auth(self, pair: &Pair) -> Self {
        self.authorization(&pair.basic())
    }

    pub(crate) fn authorization(mut self, value: &str) -> Self {
        self.headers.insert("authorization", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.headers.remove("authorization");
        self
    }

    /// Adds a header beside those of the same name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// From another address.
    pub(crate) fn from(mut self, address: &str) -> Self {
        self.peer = address.parse().unwrap();
        self
    }

    /// A 5xx is what the test is about.
    pub(crate) fn expecting_5xx(mut self) -> Self {
        self.expects_5xx = true;
        self
    }

    /// Sends it to the listener of the APIs.
    pub(crate) async fn send(self) -> Answer {
        let request = self.built();
        let response = self.app.app.answer(request, (self.peer, 1234).into()).await;
        self.checked(response).await
    }

    /// Sends it to the listener of the operators.
    pub(crate) async fn send_admin(self) -> Answer {
        let request = self.built();
        let response = self.app.app.answer_admin(request, (self.peer, 1234).into()).await;
        self.checked(response).await
    }

    /// The same, of which the caller reads the body.
    pub(crate) async fn stream_admin(self) -> http::Response<Body> {
        self.app.app.answer_admin(self.built(), (self.peer, 1234).into()).await
    }

    fn built(&self) -> http::Request<Body> {
        let mut request = http::Request::builder().method(self.method.clone()).uri(&self.path).body(Body::from(self.body.clone())).unwrap();
        *request.headers_mut() = self.headers.clone();
        request
    }

    async fn checked(self, response: http::Response<Body>) -> Answer {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let answer = Answer { what: format!("{} {}", self.method, self.path), status: parts.status, headers: parts.headers, body };
        answer.check(&self.method, &self.path, self.expects_5xx);
        let is_page = page::is_of_console(&self.path);
        let issued = !is_page && (answer.status == 201 || (answer.status == 200 && self.path.ends_with("/reset")));
        if issued {
            self.app.keep_secrets_of(&answer.json());
        } else {
            let head = answer.headers.iter().filter(|(name, _)| *name != "set-cookie").map(|(_, value)| value.as_bytes());
            let whole = [head.collect::<Vec<_>>().join(&b'\n'), answer.body.to_vec()].concat();
            let whole = String::from_utf8_lossy(&whole);
            for secret in self.app.secrets.lock().unwrap().iter() {
                assert!(!whole.contains(secret.get(11..54).unwrap_or(secret)), "a secret in the answer to {}", answer.what);
            }
        }
        if is_page {
            let cookie = answer.header("set-cookie").and_then(|cookie| cookie.split(['=', ';']).nth(1)).filter(|value| !value.is_empty());
            let shown = page::shown_once(&answer).into_iter().filter(|(name, _)| name != "clientId").map(|(_, secret)| secret);
            self.app.secrets.lock().unwrap().extend(shown.chain(cookie.map(str::to_owned)));
        }
        answer
    }
}

#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) what: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {:#?}\n{}", self.what, self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }

    /// A refusal with that status and code.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.json()["code"], code, "{answer:?}");
        answer
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn pair(&self) -> Pair {
        Pair::of(&self.json())
    }

    /// The fields named by `details.errors`.
    pub(crate) fn broken_fields(&self) -> Vec<String> {
        let json = self.json();
        let errors = json["details"]["errors"].as_array().unwrap_or_else(|| panic!("no errors: {self:?}"));
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }

    /// What holds for every answer.
    fn check(&self, method: &Method, path: &str, expects_5xx: bool) {
        assert!(self.header("x-request-id").is_some_and(|id| !id.is_empty()), "no request id: {self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        assert!(expects_5xx || !self.status.is_server_error(), "{self:?}");
        if self.status == 204 {
            assert!(self.body.is_empty() && self.header("content-type").is_none(), "{self:?}");
        }
        if page::is_of_console(path) {
            page::check(self, method != Method::HEAD);
        } else if self.status.as_u16() >= 400 && method != Method::HEAD {
            assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
            contract::check_envelope(self, path);
        }
        contract::check_documented(self, method, path);
    }
}
