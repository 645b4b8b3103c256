//! A tower layer that lets only those requests through to a service whose credential is proven and may do what is asked.
//!
//! ```no_run
//! # fn example(verifier: countersign::verifier::Verifier, payments: impl Clone) {
//! use countersign::{domain::{Environment, Permission}, layer::RequirePermission};
//! use tower_layer::Layer as _;
//!
//! let may_pay = RequirePermission::new(verifier, Permission::Transact).in_environment(Environment::Production);
//! let guarded = may_pay.layer(payments); // or, in axum: post(pay).layer(may_pay)
//! # }
//! ```
//!
//! The service finds who it is, a [`Proven`], in the request's extensions. Everybody else gets what they would get from the
//! server: 401 with `WWW-Authenticate`, 403, or 503 with `Retry-After` where it can't be known now; each with the JSON
//! `{status, code, message}`.
//!
//! Where a token was used from is recorded if a layer in front of this one says it: see [`Source`].

use std::{
    fmt,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    domain::{Environment, Permissions, Presented, Proven},
    refusal::Refused,
    verifier::{Denied, Verifier},
};

/// Where a request comes from, for its extensions: the client's own address, not that of a proxy in front of this service.
///
/// Only the service knows it, and which proxies it believes; a request without one counts as a use from nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(pub IpAddr);

/// The layer: who may pass to the service below it.
#[derive(Debug, Clone)]
pub struct RequirePermission {
    verifier: Verifier,
    permissions: Permissions,
    environment: Option<Environment>,
}

impl RequirePermission {
    /// Lets through whoever has all of these permissions; MANAGE carries VIEW. With [`Permissions::NONE`], every live token.
    pub fn new(verifier: Verifier, permissions: impl Into<Permissions>) -> Self {
        Self { verifier, permissions: permissions.into(), environment: None }
    }

    /// And only tokens of this environment.
    #[must_use]
    pub fn in_environment(self, environment: Environment) -> Self {
        Self { environment: Some(environment), ..self }
    }

    /// The request with its proof; or why it may not pass.
    fn admit<B>(&self, proven: Result<Proven, Denied>, mut request: Request<B>) -> Result<Request<B>, Refused> {
        let proven = proven?;
        if let Some(refused) = Refused::of(&proven, self.permissions, self.environment) {
            self.verifier.note_forbidden();
            return Err(refused);
        }
        request.extensions_mut().insert(proven);
        Ok(request)
    }
}

impl<S> Layer<S> for RequirePermission {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { gate: self.clone(), inner }
    }
}

/// A service behind [`RequirePermission`].
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    gate: RequirePermission,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
{
    type Response = Response<GuardedBody<R>>;
    type Error = S::Error;
    type Future = Answering<S, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Answering<S, B> {
        let presented = Presented::parse_only(request.headers().get_all(header::AUTHORIZATION));
        let source = request.extensions().get().map(|Source(address)| *address);
        let stage = match self.gate.verifier.prove_at_once(presented.as_ref(), source) {
            Some(proven) => match self.gate.admit(proven, request) {
                Ok(request) => Stage::Passing { answer: self.inner.call(request) },
                Err(refused) => Stage::Refused { refused },
            },
            None => {
                let verifier = self.gate.verifier.clone();
                // Only what memory does not know costs a box. The service that is ready is the one that has to be called.
                let asking = Box::pin(async move { verifier.prove(presented.as_ref(), source).await });
                let unready = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, unready);
                Stage::Asking { asking, waiting: Some((self.gate.clone(), request, inner)) }
            }
        };
        Answering { stage }
    }
}

type Asking = Pin<Box<dyn Future<Output = Result<Proven, Denied>> + Send>>;

pin_project! {
    #[project = Now]
    enum Stage<S, B> where S: Service<Request<B>> {
        Passing { #[pin] answer: S::Future },
        Refused { refused: Refused },
        Asking { asking: Asking, waiting: Option<(RequirePermission, Request<B>, S)> },
    }
}

pin_project! {
    /// An answer on its way: the service's, or a refusal.
    pub struct Answering<S, B> where S: Service<Request<B>> {
        #[pin]
        stage: Stage<S, B>,
    }
}

impl<S, B> fmt::Debug for Answering<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").finish_non_exhaustive()
    }
}

impl<S, B, R> Future for Answering<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Output = Result<Response<GuardedBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            let next = match stage.as_mut().project() {
                Now::Passing { answer } => return answer.poll(context).map_ok(|response| response.map(GuardedBody::theirs)),
                Now::Refused { refused } => return Poll::Ready(Ok(refused.response().map(GuardedBody::refusal))),
                Now::Asking { asking, waiting } => {
                    let proven = ready!(asking.as_mut().poll(context));
                    // It is there: this stage is left at once.
                    let admitted = waiting.take().map(|(gate, request, inner)| (gate.admit(proven, request), inner));
                    match admitted {
                        Some((Ok(request), mut inner)) => Stage::Passing { answer: inner.call(request) },
                        Some((Err(refused), _)) => Stage::Refused { refused },
                        None => Stage::Refused { refused: Refused::Unknown },
                    }
                }
            };
            stage.set(next);
        }
    }
}

pin_project! {
    /// The body of an answer: the service's own, or a refusal.
    ///
    /// A type of its own around the service's rather than a demand on it (`From<Bytes>`, say): so the layer takes every body
    /// there is, also one that is boxed or comes from another server, and `axum` and `hyper` take what comes out.
    #[derive(Debug)]
    pub struct GuardedBody<R> {
        #[pin]
        part: Part<R>,
    }
}

pin_project! {
    #[project = PartNow]
    #[derive(Debug)]
    enum Part<R> {
        Theirs { #[pin] body: R },
        Refusal { rest: Option<Bytes> },
    }
}

impl<R> GuardedBody<R> {
    const fn theirs(body: R) -> Self {
        Self { part: Part::Theirs { body } }
    }

    const fn refusal(body: Bytes) -> Self {
        Self { part: Part::Refusal { rest: Some(body) } }
    }
}

/// Empty: for layers above this one that answer by themselves.
impl<R: Default> Default for GuardedBody<R> {
    fn default() -> Self {
        Self::theirs(R::default())
    }
}

impl<R> http_body::Body for GuardedBody<R>
where
    R: http_body::Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        match self.project().part.project() {
            PartNow::Theirs { body } => body.poll_frame(context),
            PartNow::Refusal { rest } => Poll::Ready(rest.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.part {
            Part::Theirs { body } => body.is_end_stream(),
            Part::Refusal { rest } => rest.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.part {
            Part::Theirs { body } => body.size_hint(),
            Part::Refusal { rest } => SizeHint::with_exact(rest.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}
