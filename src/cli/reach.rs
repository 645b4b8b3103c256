//! Whom a command asks that the operator API can answer: the data at hand, or a server elsewhere.
//!
//! Either way it is the same request, and the same JSON comes back, so a command is a request of `/v1` and a way to show its
//! answer, and does here what it does there.

use std::{fs::File, io::Write as _, net::SocketAddr, os::unix::fs::MetadataExt as _, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    Failure, Outcome, open_by, operator, options,
    output::{self, Output, harmless},
    settings::ReachSettings,
};
use crate::{
    authority::SystemClock,
    client::{Connection, Peer},
    config::{Config, TokenSource},
    domain::{Operator, PresentedOperator},
    http::{App, Cause, Limits, NO_SUCH_PATH, Surroundings, v1},
    telemetry,
};

/// To be connected, and to have the whole answer.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(60);
/// Of an answer, which is whoever's that is there.
const LONGEST: usize = 64 << 20;

/// Whom a command that can ask a server asks, and how it shows what comes back.
#[derive(Debug, Args)]
pub(super) struct Asking {
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) settings: ReachSettings,
}

impl Asking {
    pub(super) async fn reach(&self) -> Result<Reach, Failure> {
        Reach::of(&self.settings).await
    }

    /// The same for a command that makes the database if need be. Others don't: a mistyped directory is not an empty one.
    pub(super) async fn reach_or_create(&self) -> Result<Reach, Failure> {
        Reach::with(&self.settings, true).await
    }

    /// Shows an answer, as a text for people or as it is.
    pub(super) fn print(&self, text: impl FnOnce() -> String, json: &Value) -> Outcome {
        output::print(self.output, text, || json.clone())
    }
}

/// Whom a command asks.
pub(super) enum Reach {
    Here(Box<Here>),
    There(Box<There>),
}

/// The data at hand: the request is answered in this process.
pub(super) struct Here {
    app: App,
    operator: Operator,
}

/// A server elsewhere.
pub(super) struct There {
    peer: Peer,
    url: Uri,
    authorization: HeaderValue,
    /// Where the token is that goes there.
    from: TokenSource,
}

/// What was asked for and not done.
#[derive(Debug)]
pub(super) struct Declined {
    status: u16,
    reason: String,
    failure: Failure,
}

impl From<Declined> for Failure {
    fn from(declined: Declined) -> Self {
        declined.failure
    }
}

impl Declined {
    fn could_not(told: String) -> Self {
        Self { status: 0, reason: String::new(), failure: Failure::CouldNotRun(told) }
    }

    /// Says in these words that what was asked for is not there.
    pub(super) fn or_missing(mut self, words: &str) -> Self {
        if self.status == 404 {
            self.failure = Failure::Refused(words.to_owned());
        }
        self
    }

    /// Says in these words that its row was edited.
    pub(super) fn or_edited(self, words: &str) -> Self {
        self.or_conflict("edited", words)
    }

    /// Says in these words what it is in conflict with.
    pub(super) fn or_conflict(mut self, reason: &str, words: &str) -> Self {
        if self.status == 409 && self.reason == reason {
            self.failure = Failure::Refused(words.to_owned());
        }
        self
    }
}

impl Reach {
    /// Whom the settings say.
    pub(super) async fn of(settings: &ReachSettings) -> Result<Self, Failure> {
        Self::with(settings, false).await
    }

    async fn with(settings: &ReachSettings, create: bool) -> Result<Self, Failure> {
        let config = settings.config()?;
        if let Some(url) = config.server.clone() {
            return Ok(Self::There(Box::new(There::new(url, &config)?)));
        }
        let settings = config.shown().to_vec();
        let authority = open_by(options(config, create)).await?;
        // Whoever waits for a command ends it when they have waited enough.
        let limits = Limits { body_timeout: Duration::MAX, request_timeout: Duration::MAX };
        let surroundings = Surroundings {
            gateways: Vec::new(),
            trusted_proxies: Vec::new(),
            assertions: None,
            log_lines_lost: telemetry::lines_lost,
            otlp_failures: telemetry::otlp_failures,
            settings,
        };
        let app = App::new(authority, Arc::new(SystemClock), limits, surroundings, std::process::id());
        Ok(Self::Here(Box::new(Here { app, operator: Operator::clone(&operator()) })))
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Declined> {
        self.ask(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Option<Value>) -> Result<Value, Declined> {
        self.ask(Method::POST, path, body).await
    }

    /// Asks for a path of the operator API, the query included, and returns the answer's JSON.
    ///
    /// # Errors
    /// [`Declined`]: by whoever was asked, or nobody was there.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Declined> {
        let mut request = Request::builder().method(method.clone()).uri(format!("{}{path}", v1::MOUNT));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let bytes = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = request.body(bytes).map_err(|e| Declined::could_not(e.to_string()))?;
        let response = match self {
            Self::Here(here) => {
                let response = here.app.answer_as(here.operator.clone(), request.map(Body::from)).await;
                let (parts, body) = response.into_parts();
                let body = body.collect().await.map_err(|e| Declined::could_not(e.to_string()))?;
                Response::from_parts(parts, body.to_bytes())
            }
            Self::There(there) => there.send(request).await?,
        };
        let there = match self {
            Self::Here(_) => None,
            Self::There(there) => Some(&**there),
        };
        read(there, &method, &response)
    }

    /// Where people sign in, in words.
    pub(super) fn console(&self) -> String {
        match self {
            Self::Here(_) => "http://127.0.0.1:8421/ where a server runs".to_owned(),
            Self::There(there) => there.url.to_string(),
        }
    }
}

/// What was answered, here or there.
fn read(there: Option<&There>, method: &Method, response: &Response<Bytes>) -> Result<Value, Declined> {
    let status = response.status();
    let json = serde_json::from_slice::<Value>(response.body()).ok().filter(Value::is_object);
    let message = json.as_ref().and_then(|json| json["message"].as_str());
    let json = match (json.as_ref(), message, there) {
        (Some(json), _, _) if status.is_success() => return Ok(json.clone()),
        (Some(json), Some(message), _) if (status.is_client_error() || status.is_server_error()) && message != NO_SUCH_PATH => json,
        (_, _, None) => return Err(Declined::could_not("it was answered without an answer".to_owned())),
        (_, _, Some(there)) => return Err(there.is_none(status.as_u16())),
    };
    let reason = json["details"]["reason"].as_str().unwrap_or_default().to_owned();
    let id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or("-");
    let failure = match there {
        _ if status.is_server_error() => {
            let told = response.extensions().get::<Cause>().map_or_else(|| unanswered(json, id), |Cause(cause)| cause.clone());
            Failure::CouldNotRun(unknown_whether_done(method, &told))
        }
        Some(there) if status.as_u16() == 401 => Failure::Refused(format!(
            "the operator's token in {} is nobody's at {}: it has ended, or is another server's; make one (countersign operator token create)",
            there.from, there.url
        )),
        _ => Failure::Refused(refused(json, response.headers().get(header::RETRY_AFTER))),
    };
    Err(Declined { status: status.as_u16(), reason, failure })
}

/// A refusal's one line: what is wrong with each field, or its message.
fn refused(json: &Value, retry_after: Option<&HeaderValue>) -> String {
    let text = |value: &Value| harmless(value.as_str().unwrap_or_default());
    let errors = json["details"]["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !errors.is_empty() {
        return errors.iter().map(|error| format!("{} {}", text(&error["field"]), text(&error["message"]))).collect::<Vec<_>>().join("; ");
    }
    let wait = retry_after.and_then(|wait| wait.to_str().ok()?.parse::<u32>().ok());
    let wait = wait.map(|seconds| format!(" ({seconds} s)")).unwrap_or_default();
    format!("{}{wait}", as_clause(&text(&json["message"])))
}

fn unanswered(json: &Value, id: &str) -> String {
    format!(
        "{} (request {}, which the server's log explains)",
        as_clause(&harmless(json["message"].as_str().unwrap_or_default())),
        harmless(id)
    )
}

/// A sentence as it stands behind a colon.
fn as_clause(sentence: &str) -> String {
    let mut characters = sentence.trim_end_matches('.').chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

/// Looking can be repeated; of what changes something it is to be known first whether it did.
fn unknown_whether_done(method: &Method, told: &str) -> String {
    match *method {
        Method::GET => told.to_owned(),
        _ => format!("{told}; look whether it was done before you run it again"),
    }
}

impl There {
    /// The server with that URL, and the token for it that the configuration names.
    pub(super) fn new(url: Uri, config: &Config) -> Result<Self, Failure> {
        let failed = Failure::CouldNotRun;
        let from = config.operator_token.clone().ok_or_else(|| {
            failed("the server asks for an operator's token: set COUNTERSIGN_OPERATOR_TOKEN, or say --operator-token-file FILE".to_owned())
        })?;
        let text = match &from {
            TokenSource::Text(text) => text.clone(),
            TokenSource::File(path) => {
                let unread = |e: std::io::Error| failed(format!("cannot read {}: {e}", path.display()));
                let mode = std::fs::metadata(path).map_err(unread)?.mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(failed(format!("others can read {} (mode {mode:o}); run: chmod 600 {0}", path.display())));
                }
                Zeroizing::new(std::fs::read_to_string(path).map_err(unread)?)
            }
        };
        // What is no token is not sent: it may be another secret, which is none of that server's business.
        let token = text.trim();
        let mut authorization = PresentedOperator::parse(token)
            .and_then(|_| HeaderValue::from_str(&Zeroizing::new(format!("Bearer {token}"))).ok())
            .ok_or_else(|| failed(format!("there is no operator's token in {from}")))?;
        authorization.set_sensitive(true);
        let peer = Peer::of(&url).map_err(|e| failed(format!("cannot ask {url}: {e}")))?;
        Ok(Self { peer, url, authorization, from })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Declined> {
        let (method, patience) = (request.method().clone(), v1::patience(request.uri().path(), ANSWER));
        let (request, mut connection) = (self.addressed(request)?, self.connect().await?);
        let answered = async {
            let (parts, body) = connection.send(request).await?.into_parts();
            Ok(Response::from_parts(parts, collected(body).await?))
        };
        within(patience, answered).await.map_err(|e| self.unanswered(&method, &e))
    }

    /// Asks for a file, and writes it as it comes; `progress` is told how many bytes are there, of how many. Returns what the
    /// server says that is in it.
    ///
    /// # Errors
    /// [`Declined`]: by the server, or the file did not come whole.
    pub(super) async fn download(&self, path: &str, to: &mut File, mut progress: impl FnMut(u64, u64)) -> Result<Value, Declined> {
        let request = Request::builder().method(Method::POST).uri(format!("{}{path}", v1::MOUNT)).body(Bytes::new());
        let request = self.addressed(request.map_err(|e| Declined::could_not(e.to_string()))?)?;
        let mut connection = self.connect().await?;
        // There is nothing to look for that could have been done: as if it were a GET.
        let failed = |e: String| self.unanswered(&Method::GET, &e);
        let (parts, mut body) = within(v1::WHOLE, connection.send(request)).await.map_err(failed)?.into_parts();
        let summary = parts.headers.get(v1::backup::SUMMARY).and_then(|summary| serde_json::from_slice::<Value>(summary.as_bytes()).ok());
        let Some(summary) = summary.filter(|summary| parts.status.is_success() && summary.is_object()) else {
            let body = within(ANSWER, collected(body)).await.map_err(failed)?;
            let read = read(Some(self), &Method::GET, &Response::from_parts(parts, body));
            return Err(read.map_or_else(|declined| declined, |_| self.is_none(200)));
        };
        let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let length = length.filter(|_| parts.status.as_u16() == 200).ok_or_else(|| self.is_none(parts.status.as_u16()))?;
        // An answer that ends before its length is an error.
        let taken = async {
            let mut done = 0;
            while let Some(frame) = within(ANSWER, async { body.frame().await.transpose().map_err(|e| e.to_string()) }).await? {
                let Ok(part) = frame.into_data() else { continue };
                if let Err(e) = to.write_all(&part) {
                    return Ok(Err(Declined::could_not(format!("cannot write the file: {e}"))));
                }
                done += part.len() as u64;
                progress(done, length);
            }
            Ok(Ok(summary))
        };
        within(v1::WHOLE, taken).await.map_err(failed)?
    }

    /// A request as it goes there.
    fn addressed(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, Declined> {
        let (mut parts, body) = request.into_parts();
        let prefix = self.url.path().trim_end_matches('/');
        parts.uri =
            format!("{prefix}{}", parts.uri).parse().map_err(|_| Declined::could_not(format!("{} is no URL of a server", self.url)))?;
        parts.headers.insert(header::AUTHORIZATION, self.authorization.clone());
        Ok(Request::from_parts(parts, Full::new(body)))
    }

    async fn connect(&self) -> Result<Connection, Declined> {
        // Without TLS the configuration has seen to it that the URL says this machine; here a name is held to it.
        let may_be: fn(&SocketAddr) -> bool =
            if self.url.scheme_str() == Some("https") { |_| true } else { |address| address.ip().is_loopback() };
        let connected = tokio::time::timeout(CONNECT, self.peer.connect(may_be)).await;
        let connected = connected.unwrap_or_else(|_| Err(format!("not within {} s", CONNECT.as_secs())));
        connected.map_err(|e| Declined::could_not(format!("cannot reach {}: {e}", self.url)))
    }

    fn unanswered(&self, method: &Method, why: &str) -> Declined {
        Declined::could_not(unknown_whether_done(method, &format!("no answer from {}: {why}", self.url)))
    }

    /// It is no operator API.
    fn is_none(&self, status: u16) -> Declined {
        Declined::could_not(format!(
            "what is at {} does not answer as an operator API does (status {}): name the admin listener of a server, not older than this",
            self.url, status
        ))
    }
}

/// All of an answer's body.
async fn collected(body: Incoming) -> Result<Bytes, String> {
    Limited::new(body, LONGEST).collect().await.map(Collected::to_bytes).map_err(|e| e.to_string())
}

async fn within<T>(limit: Duration, answered: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(limit, answered).await.unwrap_or_else(|_| Err(format!("it took more than {} s", limit.as_secs())))
}

/// A path with parameters, each as it is, whatever is in it.
pub(super) fn query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_deref()?))));
    let given: Vec<_> = given.collect();
    if given.is_empty() { path.to_owned() } else { format!("{path}?{}", given.join("&")) }
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_parameter_stays_in_it() {
        let parameters = [("name", Some("a b&c=d+é%".to_owned())), ("limit", None), ("cursor", Some(String::new()))];
        assert_eq!(query("/tokens", &parameters), "/tokens?name=a%20b%26c%3Dd%2B%C3%A9%25&cursor=");
        assert_eq!(query("/tokens", &[("limit", None)]), "/tokens");
    }

    #[test]
    fn a_refusal_is_one_clause() {
        let wait = HeaderValue::from_static("30");
        assert_eq!(refused(&serde_json::json!({ "message": "Try again later." }), Some(&wait)), "try again later (30 s)");
        let errors = serde_json::json!([{ "field": "a", "message": "is \u{1b}[2J" }, { "field": "b", "message": "is required" }]);
        assert_eq!(
            refused(&serde_json::json!({ "message": "No.", "details": { "errors": errors } }), None),
            "a is \\u{1b}[2J; b is required"
        );
    }
}
