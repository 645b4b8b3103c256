//! The messages as Envoy's documents have them: maps, text, and fields that nobody reads.

use std::collections::HashMap;

macro_rules! messages {
    ($($name:ident { $(#[$meta:meta] $field:ident: $kind:ty,)* })*) => {
        $(#[derive(Clone, PartialEq, prost::Message)]
        pub(crate) struct $name { $(#[$meta] pub(crate) $field: $kind,)* })*
    };
}

messages! {
    CheckRequest {
        #[prost(message, optional, tag = "1")] attributes: Option<Attributes>,
    }
    Attributes {
        #[prost(message, optional, tag = "1")] source: Option<Peer>,
        #[prost(message, optional, tag = "4")] request: Option<AttributeRequest>,
        #[prost(map = "string, string", tag = "10")] context_extensions: HashMap<String, String>,
    }
    Peer {
        #[prost(string, tag = "4")] principal: String,
    }
    AttributeRequest {
        #[prost(message, optional, tag = "2")] http: Option<HttpRequest>,
    }
    HttpRequest {
        #[prost(string, tag = "1")] id: String,
        #[prost(string, tag = "2")] method: String,
        #[prost(map = "string, string", tag = "3")] headers: HashMap<String, String>,
        #[prost(string, tag = "4")] path: String,
        #[prost(string, tag = "5")] host: String,
        #[prost(int64, tag = "9")] size: i64,
        #[prost(bytes = "vec", tag = "12")] raw_body: Vec<u8>,
        #[prost(message, optional, tag = "13")] header_map: Option<HeaderMap>,
    }
    HeaderMap {
        #[prost(message, repeated, tag = "1")] headers: Vec<HeaderValue>,
    }
    HeaderValue {
        #[prost(string, tag = "1")] key: String,
        #[prost(string, tag = "2")] value: String,
        #[prost(bytes = "vec", tag = "3")] raw_value: Vec<u8>,
    }
    CheckResponse {
        #[prost(message, optional, tag = "1")] status: Option<Status>,
        #[prost(message, optional, tag = "2")] denied: Option<Denied>,
        #[prost(message, optional, tag = "3")] allowed: Option<Allowed>,
    }
    Status {
        #[prost(int32, tag = "1")] code: i32,
    }
    Denied {
        #[prost(message, optional, tag = "1")] status: Option<HttpStatus>,
        #[prost(message, repeated, tag = "2")] headers: Vec<HeaderOption>,
        #[prost(string, tag = "3")] body: String,
    }
    HttpStatus {
        #[prost(int32, tag = "1")] code: i32,
    }
    Allowed {
        #[prost(message, repeated, tag = "2")] headers: Vec<HeaderOption>,
        #[prost(string, repeated, tag = "5")] headers_to_remove: Vec<String>,
    }
    HeaderOption {
        #[prost(message, optional, tag = "1")] header: Option<HeaderValue>,
        #[prost(bool, optional, tag = "2")] append: Option<bool>,
        #[prost(int32, tag = "3")] append_action: i32,
    }
}
