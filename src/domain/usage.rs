//! How a token was used.

use super::Timestamp;

/// Uses of one token: when it was last used, and how often in which minute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Use {
    /// The last one.
    pub last: Option<Timestamp>,
    /// Minutes since 1970 with their counts, in order, none empty.
    pub minutes: Vec<(i64, u32)>,
}

impl Use {
    /// Adds uses, of which the last was at `at`.
    pub fn add(&mut self, at: Timestamp, uses: u32) {
        self.last = self.last.max(Some(at));
        self.add_to(at.millis() / 60_000, uses);
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self) {
        self.last = self.last.max(other.last);
        other.minutes.iter().for_each(|(minute, uses)| self.add_to(*minute, *uses));
    }

    fn add_to(&mut self, minute: i64, uses: u32) {
        match self.minutes.binary_search_by_key(&minute, |(minute, _)| *minute) {
            Ok(place) => self.minutes[place].1 = self.minutes[place].1.saturating_add(uses),
            Err(place) => self.minutes.insert(place, (minute, uses)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_add_up_by_minute_in_any_order() {
        let (mut uses, at) = (Use::default(), |seconds: i64| Timestamp::from_millis(seconds * 1000));
        uses.add(at(125), 1);
        uses.add(at(60), 2);
        uses.add(at(179), 4);
        assert_eq!(uses, Use { last: Some(at(179)), minutes: vec![(1, 2), (2, 5)] });
        let mut both = Use::default();
        both.add(at(200), u32::MAX);
        both.merge(&uses);
        both.merge(&both.clone());
        assert_eq!(both, Use { last: Some(at(200)), minutes: vec![(1, 4), (2, 10), (3, u32::MAX)] });
    }
}
