//! The path of a request, as operations are matched on it: one that everybody reads alike, or none.
//!
//! A gateway tells us the path that the client sent. The upstream behind it may resolve dots, join slashes, decode or cut
//! parameters off before it routes; whatever could end at another operation there than here is refused.

use std::borrow::Cow;

/// Segments of a path at the most.
const SEGMENTS: usize = 64;

/// A path without its query, each of whose readings has the same segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'t> {
    raw: &'t str,
    /// Percent-decoded once, where it has anything to decode.
    decoded: Option<Cow<'t, str>>,
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous(pub &'static str);

impl<'t> Target<'t> {
    /// Reads a request target: an absolute path, and a query that is not looked at.
    ///
    /// # Errors
    /// [`Ambiguous`] says what could be read in two ways.
    pub fn parse(target: &'t str) -> Result<Self, Ambiguous> {
        let raw = target.split_once('?').map_or(target, |(path, _)| path);
        if !raw.starts_with('/') {
            return Err(Ambiguous("it does not begin with a slash"));
        }
        if !raw.bytes().all(is_of_path) {
            return Err(Ambiguous("it has a character that no path has unencoded, or a semicolon"));
        }
        let segments = || raw[1..].split('/');
        if segments().count() > SEGMENTS {
            return Err(Ambiguous("it has too many segments"));
        }
        // The last one may be empty: a trailing slash is a path of its own.
        if segments().rev().skip(1).any(str::is_empty) {
            return Err(Ambiguous("it has two slashes next to each other"));
        }
        let decoded = if raw.contains('%') { Some(Cow::Owned(decode(raw)?)) } else { None };
        if decoded.as_deref().unwrap_or(raw)[1..].split('/').any(|segment| segment == "." || segment == "..") {
            return Err(Ambiguous("it has a dot segment"));
        }
        Ok(Self { raw, decoded })
    }

    /// The path as it was sent.
    pub fn raw(&self) -> &'t str {
        self.raw
    }

    /// The path decoded, if that is another text.
    pub fn decoded(&self) -> Option<&str> {
        self.decoded.as_deref()
    }
}

/// RFC 3986 `pchar` and the slash, but for the semicolon, behind which some servers cut off.
const fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' | b'%' | b'/'
        )
}

fn decode(raw: &str) -> Result<String, Ambiguous> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(Ambiguous("it has a percent sign that encodes nothing"));
        };
        match (high * 16 + low) as u8 {
            b'/' | b'\\' => return Err(Ambiguous("it has an encoded slash")),
            b'%' => return Err(Ambiguous("it is encoded twice")),
            b';' | b'?' | b'#' => {
                return Err(Ambiguous("it has an encoded semicolon, question mark or hash, behind which some servers cut off"));
            }
            byte if byte.is_ascii_control() => return Err(Ambiguous("it has an encoded control character")),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| Ambiguous("it decodes to what is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_everybody_reads_alike() {
        for (target, decoded) in [
            ("/", None),
            ("/v1/customers/42?limit=5#x//..", None),
            ("/v1/customers/Customer:42", None),
            ("/v1/customers/", None),
            ("/v1/a.b/..c/...", None),
            ("/v1/caf%C3%A9", Some("/v1/café")),
            ("/v1/%61dmin", Some("/v1/admin")),
            ("/v1/a%20b%3A", Some("/v1/a b:")),
        ] {
            assert_eq!(Target::parse(target).as_ref().map(Target::decoded), Ok(decoded), "{target}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways() {
        for target in [
            "",
            "*",
            "?a",
            "foo:a",
            "http://host/a",
            "a/b",
            "//admin",
            "/a//b",
            "/a/./b",
            "/a/../b",
            "/..",
            "/%2e%2e/admin",
            "/.%2E/admin",
            "/a%2fb",
            "/a%2Fb",
            "/a\\b",
            "/a%5cb",
            "/a;x",
            "/a%3bx",
            "/a%3Fx",
            "/a%23x",
            "/a%00",
            "/a%0d%0a",
            "/a%7f",
            "/a%252fb",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%c0%af",
            "/a%ff",
            "/a#b",
            "/a b",
            "/a\tb",
            "/a\u{e9}",
            "/{a}",
            "/a|b",
            &"/a".repeat(65),
        ] {
            assert!(Target::parse(target).is_err(), "{target:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_both_readings_have_the_same_segments(target in "/([a-z./%;\\\\]|%[0-9a-fA-F]{2}){0,24}|\\PC{0,20}") {
            if let Ok(target) = Target::parse(&target)
                && let Some(decoded) = target.decoded()
            {
                prop_assert_eq!(target.raw().split('/').count(), decoded.split('/').count());
            }
        }
    }
}
