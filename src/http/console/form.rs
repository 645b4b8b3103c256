//! What a form sends; and that it is one of ours, sent by whoever it was made for.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, header};

use super::{oops::Oops, visitor::Visitor};
use crate::http::{App, body, query::Query};

/// The member of every form that no other site can know.
pub(super) const KEY: &str = "form_key";

/// How long a form of somebody who is not signed in may take to come.
const OF_ANYBODY: Duration = Duration::from_secs(2);

/// Reads a form that a page of theirs has sent.
pub(super) async fn read(app: &App, visitor: &Visitor, headers: &HeaderMap, body: Body, known: &[&'static str]) -> Result<Query, Oops> {
    refuse_foreign(headers)?;
    of_theirs(visitor, &body::read_form(headers, body, app.limits.body_timeout).await?, known)
}

/// The same of one with a document in it.
pub(super) async fn read_long(
    app: &App,
    visitor: &Visitor,
    headers: &HeaderMap,
    body: Body,
    known: &[&'static str],
) -> Result<Query, Oops> {
    refuse_foreign(headers)?;
    of_theirs(visitor, &body::read_long_form(app, headers, body).await?, known)
}

fn of_theirs(visitor: &Visitor, text: &str, known: &[&'static str]) -> Result<Query, Oops> {
    let form = Query::parse(Some(text), &[known, &[KEY]].concat());
    match form.text(KEY) {
        Some(key) if visitor.signed_in.has_sent(&key) => Ok(form.understood()?),
        _ => Err(Oops::foreign()),
    }
}

/// Reads a form of whoever is not signed in yet: there is nothing that they could be made to do but to sign in.
pub(super) async fn read_of_anybody(app: &App, headers: &HeaderMap, body: Body, known: &[&'static str]) -> Result<Query, Oops> {
    refuse_foreign(headers)?;
    // Whoever sends it byte by byte keeps a place that others wait for.
    let text = body::read_form(headers, body, app.limits.body_timeout.min(OF_ANYBODY)).await?;
    Ok(Query::parse(Some(&text), known).understood()?)
}

fn refuse_foreign(headers: &HeaderMap) -> Result<(), Oops> {
    if is_from_here(headers) { Ok(()) } else { Err(Oops::foreign()) }
}

/// Whether a browser says that one of our own pages has sent it. Whoever says nothing about that is no browser of these years.
fn is_from_here(headers: &HeaderMap) -> bool {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
    };
    if headers.contains_key("sec-fetch-site") {
        return one("sec-fetch-site") == Some("same-origin");
    }
    let host = one(header::HOST.as_str());
    let origin = one(header::ORIGIN.as_str()).and_then(|origin| origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")));
    origin.is_some() && origin == host
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn forms_of_other_sites_are_none() {
        let headers = |fields: &[(&'static str, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            fields.collect::<HeaderMap>()
        };
        let from_here = |fields: &[(&'static str, &'static str)]| is_from_here(&headers(fields));
        assert!(from_here(&[("host", "a:1"), ("sec-fetch-site", "same-origin")]));
        assert!(from_here(&[("host", "a:1"), ("origin", "http://a:1")]) && from_here(&[("host", "a"), ("origin", "https://a")]));
        for odd in [
            &[("host", "a:1")][..],
            &[("host", "a:1"), ("origin", "null")],
            &[("host", "a:1"), ("origin", "http://b:1")],
            &[("host", "a:1"), ("origin", "http://a:2")],
            &[("host", "a:1"), ("origin", "http://a:1"), ("sec-fetch-site", "cross-site")],
            &[("host", "a:1"), ("origin", "http://a:1"), ("sec-fetch-site", "same-site")],
            &[("host", "a:1"), ("origin", "http://a:1"), ("origin", "http://a:1")],
        ] {
            assert!(!from_here(odd), "{odd:?}");
        }
    }
}
