//! From the `Authorization` header to proof: a handler that takes [`Reads`] or [`Manages`] runs for nobody else.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use axum::extract::FromRequestParts;
use http::{header, request::Parts};

use super::{
    App,
    envelope::Refusal,
    under_way::{OneOfTheirs, Way},
};
use crate::{
    authority::{Denied, Receipt},
    domain::{Caller, Forbidden, MayManage, MayRead, Operator, Presented, RequestInfo},
};

/// What belongs to one request: made by the outermost layer, filled in on the way, logged at the end.
#[derive(Debug, Clone)]
pub(super) struct RequestContext {
    pub(super) info: RequestInfo,
    pub(super) source: IpAddr,
    pub(super) caller: Arc<OnceLock<String>>,
    /// Of what it changed: for operators, who read the log. The dialects have no place for it.
    pub(super) receipt: Arc<OnceLock<Receipt>>,
    /// Of an operator: that it is one of theirs.
    pub(super) one_of_theirs: Arc<OnceLock<OneOfTheirs>>,
}

impl RequestContext {
    /// Notes which operator asks, by which way: their programs keep no place that they need at the console.
    ///
    /// # Errors
    /// Too many of theirs are under way.
    pub(super) fn admit(&self, app: &App, operator: &Operator, way: Way) -> Result<(), Refusal> {
        let who = operator.actor().to_string();
        let one = app.under_way.begin((way, who.clone())).ok_or_else(Refusal::busy);
        let _ = self.caller.set(who);
        let _ = self.one_of_theirs.set(one?);
        Ok(())
    }
}

async fn caller(parts: &Parts, app: &App) -> Result<Caller, Refusal> {
    let context = parts.extensions.get::<RequestContext>().ok_or_else(Refusal::internal)?;
    let presented = Presented::parse_only(parts.headers.get_all(header::AUTHORIZATION));
    let proven = match app.authority.prove_at_once(presented.as_ref(), Some(context.source)) {
        Some(proven) => proven,
        // The database is not asked for somebody who keeps failing.
        None => match app.authority.is_limited(context.source) {
            Some(wait) => return Err(Refusal::rate_limited(wait)),
            None => app.authority.prove(presented.as_ref(), Some(context.source)).await,
        },
    };
    let proven = proven.map_err(|denied| match denied {
        Denied::Refused(_) => {
            let wait = app.authority.note_failed(context.source, presented.as_ref());
            wait.map_or_else(Refusal::unauthorized, Refusal::rate_limited)
        }
        Denied::Unknown => Refusal::unavailable(),
    })?;
    let caller = Caller::of(proven, context.info.clone());
    let _ = context.caller.set(caller.actor.to_string());
    Ok(caller)
}

fn refused(app: &App, forbidden: Forbidden) -> Refusal {
    app.authority.note_forbidden();
    Refusal::forbidden(forbidden.required)
}

/// A handler's caller, who may read tokens.
pub(super) struct Reads(pub(super) MayRead);

/// A handler's caller, who may create and end tokens.
pub(super) struct Manages(pub(super) MayManage);

impl FromRequestParts<App> for Reads {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        caller(parts, app).await?.may_read().map(Self).map_err(|forbidden| refused(app, forbidden))
    }
}

impl FromRequestParts<App> for Manages {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        caller(parts, app).await?.may_manage().map(Self).map_err(|forbidden| refused(app, forbidden))
    }
}
