//! gRPC, as much of it as one call with one message each way takes: five bytes before a message, and a status behind it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::extract::Request;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::{Body, Frame};
use prost::Message;

use crate::http::body::{Unread, collect};

/// A message at the most.
const MESSAGE_LIMIT: usize = 64 * 1024;
/// What is before it: whether it is compressed, and its length.
const PREFIX: usize = 5;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Why a call has no message for an answer: its status, and what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// Not HTTP as gRPC has it.
    Http(StatusCode),
    InvalidArgument(&'static str),
    DeadlineExceeded,
    ResourceExhausted,
    Unimplemented(&'static str),
    Internal,
}

/// Whether a request's head is a call of the method at `path`.
pub(super) fn check_head<B>(request: &Request<B>, path: &str) -> Result<(), Failed> {
    if request.method() != Method::POST {
        return Err(Failed::Http(StatusCode::METHOD_NOT_ALLOWED));
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    match content_type.strip_prefix(CONTENT_TYPE.as_bytes()) {
        Some(b"" | b"+proto" | [b';', ..] | [b'+', b'p', b'r', b'o', b't', b'o', b';', ..]) => {}
        _ => return Err(Failed::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
    }
    if request.uri().path() != path {
        return Err(Failed::Unimplemented("there is no such method"));
    }
    Ok(())
}

/// Reads the one message of a call.
pub(super) async fn read<M: Message + Default>(body: impl Body<Data = Bytes>, timeout: Duration) -> Result<M, Failed> {
    let collected = tokio::time::timeout(timeout, collect(body, PREFIX + MESSAGE_LIMIT)).await;
    let bytes = collected.map_err(|_| Failed::DeadlineExceeded)?.map_err(|unread| match unread {
        Unread::TooLong => Failed::ResourceExhausted,
        Unread::Incomplete => Failed::InvalidArgument("the message was not sent whole"),
    })?;
    M::decode(unframe(bytes)?).map_err(|_| Failed::InvalidArgument("the message is not as protobuf has it"))
}

pub(super) fn unframe(mut bytes: Bytes) -> Result<Bytes, Failed> {
    let Some((&[compressed, length @ ..], message)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(Failed::InvalidArgument("the message was not sent whole"));
    };
    if compressed == 1 {
        return Err(Failed::Unimplemented("messages must not be compressed"));
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_LIMIT {
        return Err(Failed::ResourceExhausted);
    }
    if compressed != 0 || length != message.len() {
        return Err(Failed::InvalidArgument("it takes exactly one message"));
    }
    Ok(bytes.split_off(PREFIX))
}

/// The answer to a call.
pub(super) fn reply<M: Message>(answer: Result<&M, Failed>) -> Response<Reply> {
    let failed = match answer {
        Ok(message) => {
            let length = message.encoded_len();
            let mut bytes = BytesMut::with_capacity(PREFIX + length);
            bytes.put_u8(0);
            // A message is never that long; nothing but one that is would be cut off.
            bytes.put_u32(u32::try_from(length).unwrap_or(0));
            message.encode_raw(&mut bytes);
            return response(StatusCode::OK, Reply { message: Some(bytes.freeze()), trailers: true });
        }
        Err(failed) => failed,
    };
    let (status, text) = match failed {
        Failed::Http(status) => {
            let mut refused = response(status, Reply::default());
            refused.headers_mut().remove(header::CONTENT_TYPE);
            if status == StatusCode::METHOD_NOT_ALLOWED {
                refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            return refused;
        }
        Failed::InvalidArgument(text) => (3, text),
        Failed::DeadlineExceeded => (4, "the message took too long to come"),
        Failed::ResourceExhausted => (8, "the message has more than 65536 bytes"),
        Failed::Unimplemented(text) => (12, text),
        Failed::Internal => (13, "something went wrong on our side"),
    };
    // Nothing but a head, which is the trailers too.
    let mut refused = response(StatusCode::OK, Reply::default());
    refused.headers_mut().insert(STATUS, HeaderValue::from(status));
    refused.headers_mut().insert(MESSAGE, HeaderValue::from_static(text));
    refused.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    refused
}

fn response(status: StatusCode, body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

/// A message and the trailers that say that all went well; or nothing.
#[derive(Debug, Default)]
pub(in crate::http) struct Reply {
    message: Option<Bytes>,
    trailers: bool,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.message.take() {
            Some(message) => Some(Frame::data(message)),
            None => std::mem::take(&mut self.trailers).then(|| Frame::trailers(HeaderMap::from_iter([(STATUS, HeaderValue::from(0))]))),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && !self.trailers
    }
}
