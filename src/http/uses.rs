//! How a token was used, for operators.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, Uri};
use serde_json::{Value, json};

use super::{App, envelope, path};
use crate::{
    authority::Error,
    domain::{MayRead, Operator, RequestInfo, TokenId, TokenUse},
};

/// Answers for any token of any platform.
pub(super) async fn read(State(app): State<App>, uri: Uri) -> Response {
    let told = match path::token_id(&uri) {
        Some(id) => find(&app, id).await.map(|uses| (id, uses)),
        None => Err(Error::NotFound),
    };
    match told {
        Ok((id, uses)) => {
            let mut body = json(&uses);
            body["id"] = id.to_string().into();
            body["lastUsedAt"] = uses.last_used_at.map_or(Value::Null, |at| at.to_string().into());
            envelope::json(StatusCode::OK, &body)
        }
        Err(Error::Unavailable(cause)) => envelope::Refusal::unavailable_because(&cause).into_response(),
        Err(_) => envelope::Refusal::token_not_found().into_response(),
    }
}

async fn find(app: &App, id: TokenId) -> Result<TokenUse, Error> {
    app.authority.token_use(&reader(app, id).await?, id).await
}

/// Whoever reaches the admin listener may look, and no more.
async fn reader(app: &App, id: TokenId) -> Result<MayRead, Error> {
    let operator = Operator::looking(RequestInfo::default());
    Ok(app.authority.locate_token(&operator, id).await?.may_read()?)
}

/// The counts, as the admin listener and the command line show them: totals, and what they are made of. Not the addresses: whoever
/// reaches the listener is told the counts, and those are people's.
pub(super) fn json(uses: &TokenUse) -> Value {
    let minutes = uses.minutes.iter().map(|(at, count)| json!({ "at": at.to_string(), "count": count }));
    // A day is a date.
    let days = uses.days.iter().map(|(at, count)| json!({ "at": at.to_string().get(..10), "count": count }));
    json!({
        "total24h": uses.last_24_hours(),
        "total365d": uses.last_365_days(),
        "minutes": minutes.collect::<Vec<_>>(),
        "days": days.collect::<Vec<_>>(),
    })
}
