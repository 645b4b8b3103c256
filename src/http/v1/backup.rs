//! A backup, for somebody elsewhere.

use std::{os::unix::fs::FileExt as _, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, HeaderValue, header};

use super::{Owns, WHOLE, error, wire};
use crate::{
    authority::{Clock, Error, TakenBackup},
    http::{App, envelope::Refusal},
};

/// What is in it, as JSON, beside the file itself.
pub(crate) const SUMMARY: HeaderName = HeaderName::from_static("countersign-backup");
/// Of SQLite's files.
const TYPE: HeaderValue = HeaderValue::from_static("application/vnd.sqlite3");
/// What is read at once.
const PART: u64 = 256 << 10;

pub(super) async fn take(State(app): State<App>, Owns(by): Owns) -> Result<Response, Refusal> {
    let taken = app.authority.take_backup(&by).await.map_err(error::refusal)?;
    let mut response = Body::empty().into_response();
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, TYPE);
    fields.insert(header::CONTENT_LENGTH, taken.length.into());
    fields.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"countersign-backup\""));
    let summary = HeaderValue::from_str(&wire::copied(&taken.copied).to_string());
    let summary = summary.map_err(|e| error::refusal(Error::Unavailable(format!("what was copied cannot be told: {e}"))))?;
    fields.insert(SUMMARY, summary);
    *response.body_mut() = sent(taken, Arc::clone(&app.clock));
    Ok(response)
}

/// The file, part by part. What cannot be read on the way ends it before its length, so that nobody takes it for whole; and
/// so does whoever takes it too slowly, because others wait for their turn.
fn sent(taken: TakenBackup, clock: Arc<dyn Clock>) -> Body {
    let until = clock.boot() + WHOLE;
    let sending = (taken.length > 0).then_some((taken, clock, 0));
    Body::from_stream(stream::try_unfold(sending, move |sending| async move {
        let Some((taken, clock, at)) = sending else { return Ok(None) };
        if clock.boot() > until {
            tracing::warn!(sent = at, "a backup is broken off: it was taken too slowly");
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        let (file, left) = (Arc::clone(&taken.file), taken.length - at);
        let read = move || {
            let mut part = vec![0; usize::try_from(left.min(PART)).unwrap_or(0)];
            file.read_exact_at(&mut part, at).map(|()| Bytes::from(part))
        };
        let part = tokio::task::spawn_blocking(read).await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        let part = part.inspect_err(|cause| tracing::error!(%cause, "a backup is broken off"))?;
        let at = at + part.len() as u64;
        // Whoever has the last part may ask for another one.
        let sending = (at < taken.length).then_some((taken, clock, at));
        Ok::<_, std::io::Error>(Some((part, sending)))
    }))
}
