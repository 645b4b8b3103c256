//! Request bodies: `application/json`, at most 64 KiB, in time; and strictly JSON, no member twice at any depth.

use std::{fmt, marker::PhantomData, pin::pin, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde::{
    Deserialize,
    de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    App,
    envelope::{ClientCode, Refusal},
};
use crate::domain::Invalid;

const LIMIT: usize = 64 * 1024;
/// For a document of a thousand operations.
const LONG: usize = 8 << 20;
/// Long ones that are read at the same time, because they are in memory while they are; and how long further ones wait.
const LONG_ONES: usize = 4;
const LONG_ONES_WAIT: Duration = Duration::from_secs(2);
const DEPTH: usize = 16;

/// A JSON value whose objects keep each member once.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool,
    Number,
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// A member of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(member, _)| member == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// An object, by the names of its members: what is derived for a struct would also take an array of their values.
pub(super) struct Members<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Named(PhantomData)).map(Self)
    }
}

struct Named<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Named<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

/// Reads a request's JSON object.
pub(super) async fn read_json(headers: &HeaderMap, body: Body, timeout: Duration) -> Result<Json, Refusal> {
    check_type(headers)?;
    let bytes = read(body, timeout, LIMIT).await?;
    match parse(&bytes) {
        Ok(object @ Json::Object(_)) => Ok(object),
        Ok(_) => Err(Refusal::invalid(&Invalid::one("body", "type", "must be a JSON object"))),
        Err(invalid) => Err(Refusal::invalid(&invalid)),
    }
}

/// Reads a request's JSON as what it must be: no member unknown, none twice, none missing.
pub(super) async fn read_as<T: DeserializeOwned>(headers: &HeaderMap, body: Body, timeout: Duration) -> Result<T, Refusal> {
    check_type(headers)?;
    parse_as(&read(body, timeout, LIMIT).await?)
}

/// Reads a form, as browsers send it, without decoding it.
pub(super) async fn read_form(headers: &HeaderMap, body: Body, timeout: Duration) -> Result<String, Refusal> {
    read_form_of(headers, body, timeout, LIMIT).await
}

/// The same of one with a document in it.
pub(super) async fn read_long_form(app: &App, headers: &HeaderMap, body: Body) -> Result<String, Refusal> {
    let _place = app.long_ones.place().await?;
    let timeout = app.limits.body_timeout;
    read_form_of(headers, body, timeout, LONG).await
}

/// The places of long bodies.
pub(super) struct LongOnes(Arc<Semaphore>);

impl Default for LongOnes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LONG_ONES)))
    }
}

impl LongOnes {
    async fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let place = tokio::time::timeout(LONG_ONES_WAIT, Arc::clone(&self.0).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or_else(Refusal::busy)
    }
}

async fn read_form_of(headers: &HeaderMap, body: Body, timeout: Duration, most: usize) -> Result<String, Refusal> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    if types.next() != Some(b"application/x-www-form-urlencoded") || types.next().is_some() {
        let invalid = Invalid::one("Content-Type", "media_type", "must be application/x-www-form-urlencoded");
        return Err(Refusal::invalid_as(ClientCode::InvalidAs(StatusCode::UNSUPPORTED_MEDIA_TYPE), &invalid).closing());
    }
    let bytes = read(body, timeout, most).await?;
    let invalid = |_| Refusal::invalid(&Invalid::one("body", "encoding", "must be percent-encoded UTF-8"));
    String::from_utf8(bytes.into()).map_err(invalid)
}

/// The same of a long document, of which `make` makes something: apart, because others are not to wait for that.
pub(super) async fn read_long<T: DeserializeOwned, R: Send + 'static>(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    make: impl FnOnce(T) -> Result<R, Refusal> + Send + 'static,
) -> Result<R, Refusal> {
    check_type(headers)?;
    let place = app.long_ones.place().await?;
    let bytes = read(body, app.limits.body_timeout, LONG).await?;
    let made = tokio::task::spawn_blocking(move || {
        // Whoever hangs up leaves it to its end, in its place.
        let _place = place;
        parse_as(&bytes).and_then(make)
    })
    .await;
    made.unwrap_or_else(|_| Err(Refusal::internal()))
}

fn parse_as<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    // The parser's own message may quote the input, which may hold a secret.
    serde_json::from_slice(bytes).map(|Members(value)| value).map_err(|e| {
        let what = if e.is_data() { "is not as the document of this API has it" } else { "is not valid JSON" };
        Refusal::invalid(&Invalid::one("body", "structure", format!("{what}, at line {} column {}", e.line(), e.column())))
    })
}

fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let unsupported = |field: &str, message: &str| {
        let invalid = Invalid::one(field, "media_type", message);
        Err(Refusal::invalid_as(ClientCode::InvalidAs(StatusCode::UNSUPPORTED_MEDIA_TYPE), &invalid).closing())
    };
    if headers.contains_key(header::CONTENT_ENCODING) {
        return unsupported("Content-Encoding", "must be absent: send the body as it is");
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let media_type = match (types.next().and_then(|value| value.to_str().ok()), types.next()) {
        (Some(value), None) => value.split(';').next().unwrap_or_default().trim_matches([' ', '\t']),
        _ => "",
    };
    // Parameters are allowed, but JSON has only the one encoding.
    let charset = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(charset);
    if !media_type.eq_ignore_ascii_case("application/json") || charset.is_some_and(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        return unsupported("Content-Type", "must be application/json, in UTF-8");
    }
    Ok(())
}

fn charset(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    })
}

async fn read(body: Body, timeout: Duration, most: usize) -> Result<Bytes, Refusal> {
    let invalid = |constraint, message: &str| Invalid::one("body", constraint, message);
    let too_long = || {
        let invalid = invalid("max_length", &format!("must have at most {most} bytes"));
        Refusal::invalid_as(ClientCode::InvalidAs(StatusCode::PAYLOAD_TOO_LARGE), &invalid).closing()
    };
    // Before anything is read, so that a client that waits to be asked is not asked to go on.
    if body.size_hint().lower() > most as u64 {
        return Err(too_long());
    }
    match tokio::time::timeout(timeout, collect(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Unread::TooLong)) => Err(too_long()),
        Ok(Err(Unread::Incomplete)) => Err(Refusal::invalid(&invalid("incomplete", "did not arrive whole")).closing()),
        Err(_) => Err(Refusal::invalid(&invalid("timeout", "did not arrive in time")).closing()),
    }
}

/// Why a body could not be had.
pub(super) enum Unread {
    TooLong,
    Incomplete,
}

/// Reads a body of at most so many bytes.
pub(super) async fn collect(body: impl http_body::Body<Data = Bytes>, most: usize) -> Result<Bytes, Unread> {
    let (mut body, mut first, mut all) = (pin!(body), Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unread::Incomplete)?.into_data() else { continue };
        if first.len() + all.len() + data.len() > most {
            return Err(Unread::TooLong);
        }
        // Nearly always all of it comes at once, and is not copied. Parts are: each would keep the whole buffer that it came
        // in, 8 KiB for every byte of a client that sends one at a time.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Reads JSON text.
pub(super) fn parse(bytes: &[u8]) -> Result<Json, Invalid> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: DEPTH }.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    // The parser's own message may quote the input, which may hold a secret.
    value.map_err(|e| {
        let constraint = if e.is_data() { "structure" } else { "json" };
        let what = if e.is_data() { "holds a member twice or is nested too deeply" } else { "is not valid JSON" };
        Invalid::one("body", constraint, format!("{what}, at line {} column {}", e.line(), e.column()))
    })
}

struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        self.depth.checked_sub(1).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let depth = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Self { depth })? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let depth = self.deeper()?;
        let mut object = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom("twice"));
            }
            object.push((name, members.next_value_seed(Self { depth })?));
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn i_01_h70_to_h83_what_is_not_json() {
        let deep = "[".repeat(10_000);
        let cases: [&[u8]; 18] = [
            b"",
            b"{",
            b"{}x",
            b"{}{}",
            b"{\"a\":1,\"a\":2}",
            b"{\"x\":{\"a\":1,\"a\":2}}",
            deep.as_bytes(),
            b"{\"a\":\"\xff\"}",
            b"\xff\xfe{\0}\0",
            b"{/**/}",
            b"{'a':1}",
            b"NaN",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":01}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":1e999}",
            b"{,}",
            b"{\"a\":1,}",
        ];
        for case in cases {
            assert!(parse(case).is_err(), "{:?}", String::from_utf8_lossy(&case[..case.len().min(40)]));
        }
    }

    /// A body that comes byte by byte keeps no buffer for each.
    #[tokio::test]
    async fn o_02_parts_of_a_body_are_let_go() {
        use std::sync::Arc;
        struct Part {
            _held: Arc<()>,
        }
        impl AsRef<[u8]> for Part {
            fn as_ref(&self) -> &[u8] {
                b"a"
            }
        }
        let held = Arc::new(());
        let parts = (0..1000).map(|_| {
            assert!(Arc::strong_count(&held) < 5, "{} parts are kept", Arc::strong_count(&held) - 1);
            Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from_owner(Part { _held: Arc::clone(&held) })))
        });
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(parts));
        assert!(collect(body, 1000).await.is_ok_and(|bytes| bytes.len() == 1000));
    }

    #[test]
    fn members_are_kept() {
        let json = parse(br#"{"a":"b","c":[1,null,true],"__proto__":{}}"#).unwrap();
        assert_eq!(json.get("a"), Some(&Json::String("b".to_owned())));
        assert_eq!(json.get("c"), Some(&Json::Array(vec![Json::Number, Json::Null, Json::Bool])));
        assert_eq!(json.get("x"), None);
    }

    proptest! {
        #[test]
        fn i_04_parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\",:0-9a-z\\\\]{0,80}") {
            let _ = parse(&bytes);
            let _ = parse(text.as_bytes());
        }
    }
}
