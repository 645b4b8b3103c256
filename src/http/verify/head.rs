//! What `/verify` looks at of a request, whoever parsed it.

use http::request::Parts;
use httparse::Header;

/// A request's head.
#[derive(Clone, Copy)]
pub(super) struct Head<'h> {
    pub(super) method: &'h str,
    pub(super) path: &'h str,
    pub(super) query: Option<&'h str>,
    /// As they came; names in any case.
    pub(super) fields: &'h [Header<'h>],
}

impl<'h> Head<'h> {
    /// Of a head that the HTTP library parsed, with its fields as [`fields_of`] has them.
    pub(super) fn of(parts: &'h Parts, fields: &'h [Header<'h>]) -> Self {
        Self { method: parts.method.as_str(), path: parts.uri.path(), query: parts.uri.query(), fields }
    }

    /// All values of a field.
    pub(super) fn all(&self, name: &str) -> impl DoubleEndedIterator<Item = &'h [u8]> {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Its value, where it is there exactly once: of two, whoever is in front of us may have looked at the other.
    pub(super) fn only(&self, name: &str) -> Option<&'h [u8]> {
        super::only(self.all(name))
    }
}

/// The fields of a head that the HTTP library parsed.
pub(super) fn fields_of(parts: &Parts) -> Vec<Header<'_>> {
    parts.headers.iter().map(|(name, value)| Header { name: name.as_str(), value: value.as_bytes() }).collect()
}
