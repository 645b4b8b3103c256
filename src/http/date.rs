//! The `Date` header: made once a second.

use arc_swap::ArcSwap;
use http::HeaderValue;

use crate::domain::Timestamp;

/// The header that was shown last, and its second.
#[derive(Debug)]
pub(super) struct Shown(ArcSwap<(i64, HeaderValue)>);

impl Default for Shown {
    fn default() -> Self {
        Self(ArcSwap::from_pointee((i64::MIN, HeaderValue::from_static(""))))
    }
}

impl Shown {
    /// The header for a moment.
    pub(super) fn at(&self, now: Timestamp) -> HeaderValue {
        let (second, shown) = (now.millis() / 1000, self.0.load());
        if shown.0 == second {
            return shown.1.clone();
        }
        let header = HeaderValue::from_str(&now.http_date()).unwrap_or(const { HeaderValue::from_static("") });
        self.0.store(std::sync::Arc::new((second, header.clone())));
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_clock_both_ways() {
        let shown = Shown::default();
        for (millis, date) in [(784_111_777_000, "49:37"), (784_111_777_999, "49:37"), (784_111_778_000, "49:38"), (0, "00:00")] {
            let header = shown.at(Timestamp::from_millis(millis));
            assert!(header.to_str().unwrap().ends_with(&format!("{date} GMT")), "{header:?}");
        }
    }
}
