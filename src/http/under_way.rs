//! How many requests of one operator are under way: whoever sends many that take long, such as bodies byte by byte, must not
//! keep the places of the admin listener that others need, least of all those who ask whether the server lives.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Of one operator, at the most. A program that sends more at once is told to send them later.
const AT_ONCE: usize = 16;

/// By which way somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    /// With a token.
    Program,
    /// Signed in.
    Console,
}

/// Who asks, and by which way.
type Asker = (Way, String);

/// Requests under way, by who asks.
#[derive(Debug, Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<HashMap<Asker, usize>>>);

/// One of them, for as long as it lives.
#[derive(Debug)]
pub(super) struct OneOfTheirs {
    who: Asker,
    all: UnderWay,
}

impl UnderWay {
    /// One more of theirs; `None` if there are too many.
    pub(super) fn begin(&self, who: Asker) -> Option<OneOfTheirs> {
        let mut counts = self.counts();
        let count = counts.entry(who.clone()).or_default();
        if *count >= AT_ONCE {
            return None;
        }
        *count += 1;
        Some(OneOfTheirs { who, all: self.clone() })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Asker, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OneOfTheirs {
    fn drop(&mut self) {
        let mut counts = self.all.counts();
        if let Some(count) = counts.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_than_their_part_and_others_have_theirs() {
        let (all, by) = (UnderWay::default(), |way, name: &str| (way, name.to_owned()));
        let mut theirs: Vec<_> = (0..AT_ONCE).map(|_| all.begin(by(Way::Program, "ada")).unwrap()).collect();
        assert!(all.begin(by(Way::Program, "ada")).is_none());
        let other = (all.begin(by(Way::Program, "bob")).unwrap(), all.begin(by(Way::Console, "ada")).unwrap());
        theirs.pop();
        theirs.push(all.begin(by(Way::Program, "ada")).unwrap());
        assert!(all.begin(by(Way::Program, "ada")).is_none());
        drop((theirs, other));
        assert!(all.counts().is_empty(), "nothing is kept of who has gone");
    }
}
