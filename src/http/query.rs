//! Query strings: each known parameter at most once, nothing unknown.
//!
//! A mistyped filter must not return everything, so what is not understood is refused by name.

use crate::domain::{Invalid, PageLimit, Timestamp};

/// The decoded parameters of a query.
#[derive(Debug)]
pub(super) struct Query {
    values: Vec<(&'static str, String)>,
    invalid: Invalid,
}

impl Query {
    /// Decodes a raw query against the parameters that it may have.
    pub(super) fn parse(raw: Option<&str>, known: &[&'static str]) -> Self {
        let mut query = Self { values: Vec::new(), invalid: Invalid::default() };
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode(name);
            let Some(name) = known.iter().find(|known| decoded.as_deref() == Some(**known)) else {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                query.invalid.add(&shown(decoded), "unknown", format!("is not a parameter here; there are {known}"));
                continue;
            };
            if query.values.iter().any(|(given, _)| given == name) {
                query.invalid.add(name, "unique", "must be given once");
                continue;
            }
            match decode(value) {
                Some(value) => query.values.push((name, value)),
                None => query.invalid.add(name, "encoding", "must be percent-encoded UTF-8"),
            }
        }
        query
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of any text, empty included.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// A parameter read by `parse`, whose problems are noted.
    pub(super) fn parsed<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, Invalid>) -> Option<T> {
        let result = parse(self.get(name)?);
        self.invalid.take(result)
    }

    /// As [`Query::parsed`], of a parameter that must be given.
    pub(super) fn required<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, Invalid>) -> Option<T> {
        let result = self.get(name).map_or_else(|| Err(Invalid::one(name, "required", "is required")), parse);
        self.invalid.take(result)
    }

    /// A moment. A lower bound between two milliseconds is rounded up, an upper one down.
    pub(super) fn time(&mut self, name: &str, lower: bool) -> Option<Timestamp> {
        self.parsed(name, |text| {
            Timestamp::parse_rfc3339(text, lower)
                .ok_or_else(|| Invalid::one(name, "date_time", "must be an RFC 3339 date-time such as 2025-07-21T17:32:28Z"))
        })
    }

    /// The page size; its plain decimal digits only.
    pub(super) fn limit(&mut self, name: &str) -> Option<PageLimit> {
        self.parsed(name, |text| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
            let limit = text.parse().ok().filter(|_| plain).and_then(PageLimit::new);
            limit
                .ok_or_else(|| Invalid::one(name, "range", format!("must be a whole number from {} to {}", PageLimit::MIN, PageLimit::MAX)))
        })
    }

    /// The same, if nothing was wrong.
    pub(super) fn understood(self) -> Result<Self, Invalid> {
        if self.invalid.problems().is_empty() { Ok(self) } else { Err(self.invalid) }
    }

    /// Everything that was wrong.
    pub(super) fn finish(self) -> Result<(), Invalid> {
        self.invalid.into_result()
    }
}

/// Percent-decoding with `+` as space, as forms do.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high << 4 | low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A parameter's name as it may be repeated in an answer: a short, plain one, or the whole query's.
fn shown(name: Option<String>) -> String {
    let plain =
        |name: &String| (1..=40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte));
    name.filter(plain).unwrap_or_else(|| "query".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(raw: &str) -> Option<usize> {
        let mut query = Query::parse(Some(raw), &["limit"]);
        let limit = query.limit("limit");
        query.finish().ok().and(limit.map(PageLimit::get))
    }

    #[test]
    fn i_01_h90_limits() {
        assert_eq!((limit("limit=1"), limit("limit=100"), limit("limit=%35")), (Some(1), Some(100), Some(5)));
        for raw in [
            "limit=0",
            "limit=-1",
            "limit=101",
            "limit=1e2",
            "limit=+5",
            "limit=%2B5",
            "limit=05",
            "limit= 5",
            "limit=5%20",
            "limit=٥",
            "limit=%D9%A5",
            "limit=9223372036854775807",
            "limit=9223372036854775808",
            "limit=99999999999999999999",
            "limit=0x10",
            "limit=",
            "limit",
            "limit=1&limit=100",
            "limit[]=1",
            "limit=1;x=2",
        ] {
            assert_eq!(limit(raw), None, "{raw}");
        }
    }

    #[test]
    fn i_01_h92_h93_decoding() {
        let text = |raw: &str| Query::parse(Some(raw), &["name"]).text("name");
        assert_eq!(text("name=a+b%26%C3%A9&"), Some("a b&é".to_owned()));
        for raw in ["name=%FF", "name=%u0041", "name=%", "name=%2", "nam%65=x&name=y", "Name=x", "x=1", "%00=1", "name=%+1"] {
            assert!(Query::parse(Some(raw), &["name"]).finish().is_err(), "{raw}");
        }
        let Err(invalid) = Query::parse(Some("namee=s3cret&%3Cscript%3E=1"), &["name"]).finish() else { panic!("accepted") };
        let fields: Vec<_> = invalid.problems().iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["namee", "query"]);
    }

    proptest! {
        #[test]
        fn i_04_parsing_never_panics(raw in "\\PC{0,80}") {
            let mut query = Query::parse(Some(&raw), &["name", "limit", "from"]);
            let _ = (query.limit("limit"), query.time("from", true), query.text("name"));
        }
    }
}
