//! A moment, with the one precision that is stored and shown: milliseconds.

use std::fmt;

use jiff::{civil, fmt::rfc2822, tz::Offset};

/// Milliseconds since 1970-01-01T00:00:00Z, never before it and never after [`Timestamp::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00.000Z.
    pub const MIN: Self = Self(0);
    /// 9999-12-30T00:00:00.000Z: from here on, some offset would show the year 10000, which RFC 3339 cannot write.
    pub const MAX: Self = Self(253_402_128_000_000);

    /// The moment, clamped into the range that can be written.
    pub const fn from_millis(millis: i64) -> Self {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// This moment moved by `millis`, clamped.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// The start of the span of `millis` in which this lies, of those that follow each other since 1970: of its minute, or
    /// of its day in UTC.
    #[must_use]
    pub const fn floor(self, millis: i64) -> Self {
        Self(self.0 - self.0 % millis)
    }

    /// The moment as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn http_date(self) -> String {
        let moment = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&moment).unwrap_or_default()
    }

    /// Reads an RFC 3339 date-time and rounds it into the stored precision: `round_up` takes the next whole
    /// millisecond, so that an inclusive lower bound between two milliseconds excludes the earlier one.
    ///
    /// Also taken, because existing clients send them: a space where a `+` was not percent-encoded, and an offset
    /// without its colon. Moments before 1970 count as 1970; a leap second counts as the second after it.
    pub fn parse_rfc3339(text: &str, round_up: bool) -> Option<Self> {
        let mut rest = text.as_bytes();
        let (year, month) = (digits(&mut rest, 4)?, separated(&mut rest, b"-", 2)?);
        let day = separated(&mut rest, b"-", 2)?;
        let hour = separated(&mut rest, b"Tt", 2)?;
        let (minute, second) = (separated(&mut rest, b":", 2)?, separated(&mut rest, b":", 2)?);
        let leap = second == 60;
        let (millis, inexact) = fraction(&mut rest)?;
        let offset = offset(rest)?;

        let date = civil::Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
        let time =
            civil::Time::new(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, i8::try_from(if leap { 59 } else { second }).ok()?, 0)
                .ok()?;
        let since = civil::DateTime::from_parts(date, time).duration_since(civil::date(1970, 1, 1).at(0, 0, 0, 0));
        let whole = since.as_secs() - i64::from(offset) * 60;
        // A leap second is the last one of a day, in UTC.
        if leap && (whole + 1) % 86_400 != 0 {
            return None;
        }
        let after = if leap { 1000 } else { i64::from(millis) + i64::from(round_up && inexact) };
        Some(Self::from_millis(whole * 1000 + after))
    }
}

impl Timestamp {
    /// RFC 3339, UTC, three decimals: `2025-07-21T17:32:28.000Z`, in ASCII.
    pub fn text(self) -> [u8; 24] {
        let moment = Offset::UTC.to_datetime(jiff::Timestamp::from_millisecond(self.0).unwrap_or_default());
        // Digit by digit into one text: a page shows two hundred of these.
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let fields = [
            (0, 4, i32::from(moment.year())),
            (5, 2, i32::from(moment.month())),
            (8, 2, i32::from(moment.day())),
            (11, 2, i32::from(moment.hour())),
            (14, 2, i32::from(moment.minute())),
            (17, 2, i32::from(moment.second())),
            (20, 3, i32::from(moment.millisecond())),
        ];
        for (at, width, mut value) in fields {
            for digit in text[at..at + width].iter_mut().rev() {
                *digit += u8::try_from(value % 10).unwrap_or_default();
                value /= 10;
            }
        }
        text
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

fn digits(rest: &mut &[u8], count: usize) -> Option<u32> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    head.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
}

fn separated(rest: &mut &[u8], separators: &[u8], count: usize) -> Option<u32> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    separators.contains(first).then_some(())?;
    digits(rest, count)
}

/// The fraction in whole milliseconds, and whether anything but zeros was cut off.
fn fraction(rest: &mut &[u8]) -> Option<(u32, bool)> {
    let Some(tail) = rest.strip_prefix(b".") else { return Some((0, false)) };
    let count = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (decimals, tail) = tail.split_at(count);
    *rest = tail;
    let digit = |i: usize| decimals.get(i).map_or(0, |byte| u32::from(byte - b'0'));
    let cut = decimals.iter().skip(3).any(|byte| *byte != b'0');
    (count > 0).then(|| (digit(0) * 100 + digit(1) * 10 + digit(2), cut))
}

/// The offset from UTC in minutes.
fn offset(rest: &[u8]) -> Option<i32> {
    let (sign, mut rest) = match rest {
        b"Z" | b"z" => return Some(0),
        [b'+' | b' ', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let hours = digits(&mut rest, 2)?;
    let minutes = if rest.first() == Some(&b':') { separated(&mut rest, b":", 2)? } else { digits(&mut rest, 2)? };
    let valid = rest.is_empty() && hours < 24 && minutes < 60;
    valid.then(|| sign * i32::try_from(hours * 60 + minutes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Option<String> {
        Timestamp::parse_rfc3339(text, false).map(|t| t.to_string())
    }

    #[test]
    fn the_forms_that_clients_send() {
        let noon = Some("2025-07-21T12:00:00.000Z".to_owned());
        for text in [
            "2025-07-21T12:00:00Z",
            "2025-07-21t12:00:00z",
            "2025-07-21T14:00:00+02:00",
            "2025-07-21T14:00:00+0200",
            "2025-07-21T14:00:00 02:00",
            "2025-07-21T10:30:00-01:30",
            "2025-07-21T12:00:00.0000000000000000000000000000000000000000Z",
        ] {
            assert_eq!(shown(text), noon, "{text}");
        }
        assert_eq!(shown("2016-12-31T23:59:60Z").unwrap(), "2017-01-01T00:00:00.000Z");
        assert_eq!(shown("0001-01-01T00:00:00Z").unwrap(), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown("9999-12-31T23:59:59.999999999Z").unwrap(), "9999-12-30T00:00:00.000Z");
    }

    #[test]
    fn a_bound_between_two_milliseconds_rounds_inwards() {
        let text = "2025-07-21T12:00:00.0005Z";
        let millis = |up| Timestamp::parse_rfc3339(text, up).unwrap().millis() % 1000;
        assert_eq!((millis(false), millis(true)), (0, 1));
    }

    #[test]
    fn i_01_h91_what_is_not_a_moment_is_refused() {
        for text in [
            "",
            "2025-02-30T00:00:00Z",
            "2025-07-21",
            "2025-07-21T17:32:28",
            "2025-07-21T17:32:28+25:00",
            "2025-07-21T17:32:28+02:60",
            "10000-01-01T00:00:00Z",
            "2025-07-21T24:00:00Z",
            "2025-07-21T17:60:00Z",
            "2025-07-21T17:32:61Z",
            "2025-07-21 17:32:28Z",
            "2025-07-21T17:32:28.Z",
            "2025-07-21T17:32:28ZZ",
            "Mon, 21 Jul 2025 17:32:28 +0000",
            "٢٠٢٥-07-21T17:32:28Z",
            "-025-07-21T17:32:28Z",
            "2025-13-01T00:00:00Z",
            "2025-07-21T17:32:28+02",
            "2025-07-21T17:32:28+02:00x",
            "2025-07-21T17:32:60Z",
            "2025-07-21T17:32Z",
        ] {
            assert_eq!(shown(text), None, "{text:?}");
        }
    }

    #[test]
    fn http_dates() {
        assert_eq!(Timestamp::from_millis(784_111_777_999).http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(Timestamp::MIN.http_date(), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert!(Timestamp::MAX.http_date().ends_with("9999 00:00:00 GMT"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = Timestamp::parse_rfc3339(&text, true);
        }

        #[test]
        fn round_trips(millis in 0..Timestamp::MAX.0) {
            let time = Timestamp::from_millis(millis);
            prop_assert_eq!(Timestamp::parse_rfc3339(&time.to_string(), false), Some(time));
            prop_assert_eq!(Timestamp::parse_rfc3339(&time.to_string(), true), Some(time));
        }

        #[test]
        fn agrees_with_the_calendar_library(millis in 0..Timestamp::MAX.0 - 86_400_000, minutes in -1439..1440i32) {
            let offset = Offset::from_seconds(minutes * 60).unwrap();
            let moment = jiff::Timestamp::from_millisecond(millis).unwrap();
            let text = moment.display_with_offset(offset).to_string();
            prop_assert_eq!(Timestamp::parse_rfc3339(&text, false), Some(Timestamp::from_millis(millis)));
        }
    }
}
