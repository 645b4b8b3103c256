//! The resident index: what it takes to verify any live token, in memory, without a lock.
//!
//! It is no cache: it holds every live token, so a miss is an answer and nothing expires. Verifying reads it while one
//! writer at a time changes it, and no interleaving accepts a token whose end was applied, for two reasons:
//!
//! - A slot is written once. Only its state changes, and only from live to ended. A token whose digest was made anew under
//!   another key gets a second one, and its end is that of both.
//! - An end is kept as a slot of its own even if the token was not here, and an insert that finds it, under whichever key,
//!   does nothing. So a reader of the database that was overtaken by an end cannot bring the token back (the state joins,
//!   it never races). It is forgotten when room is needed, and no row is put in any more that was read before it was followed.
//!
//! Uses are counted in the slots as well, because verifying has them in its cache already; whoever counts the first one
//! since the counts were last taken is told so.
//!
//! Linear probing over 32-byte slots, two to a cache line, at most four in five taken: 40 to 64 bytes a token.

mod sync;
mod table;

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use constant_time_eq::constant_time_eq_n;

use self::table::{ENDED, KEY, OLD, Slot, Tables, USE};
use crate::{
    defect,
    domain::{Environment, Permissions, PlatformId, Scope, TokenId},
    store::{PlatformRecord, Record},
};

/// All tokens that can verify.
pub(crate) struct Index {
    tables: Tables,
    /// Only grows, so that readers need no guard.
    platforms: boxcar::Vec<ResidentPlatform>,
    /// Where each platform is in that list.
    places: Mutex<HashMap<PlatformId, usize>>,
}

/// For how many tokens there is room at least.
const LEAST: usize = 1024;

/// As long as this lives, no end is forgotten.
pub(crate) struct KeptEnds<'i>(&'i Index);

impl Drop for KeptEnds<'_> {
    fn drop(&mut self) {
        self.0.tables.keep_ends(false);
    }
}

/// What the index knows of a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// The place on the ring of the key that its digest was made with.
    pub(crate) key: u8,
    /// What it may do.
    pub(crate) permissions: Permissions,
    /// In which half of its platform.
    pub(crate) environment: Environment,
    /// Whether it has ended.
    pub(crate) ended: bool,
    /// Where its platform is in the index's list.
    platform: usize,
    digest: [u64; 2],
}

impl Entry {
    /// Whether this is the token of a digest with this half, in constant time.
    pub(crate) fn matches(&self, [a, b]: [u64; 2]) -> bool {
        let difference = (self.digest[0] ^ a) | (self.digest[1] ^ b);
        constant_time_eq_n(&difference.to_ne_bytes(), &[0; 8])
    }
}

/// An entry where it is.
pub(crate) struct Found<'i> {
    /// The entry.
    pub(crate) entry: Entry,
    slot: &'i Slot,
}

impl Found<'_> {
    /// Counts a use; says whether it is the first one since the uses were last taken.
    pub(crate) fn count_use(&self) -> bool {
        self.slot.count_use()
    }
}

/// Why nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// No entry has this id.
    Absent,
    /// Those that have it were not taken.
    Refused,
}

/// A platform, as verification sees it.
struct ResidentPlatform {
    id: PlatformId,
    /// The place of the last change, four times, and what it was since then: changes can arrive twice and out of order.
    state: AtomicU64,
}

/// What a platform was since its last change. Nothing is known of one whose row could not be checked, or did not come yet.
const ENABLED: u64 = 1;
const DISABLED: u64 = 2;

/// The place on the ring of a key that is not there. No key file has so many.
const NOWHERE: u8 = u8::MAX;

// What the table adds stands above everything else.
const _: () = assert!(OLD >> 13 == PLATFORMS as u64 && USE == OLD << 1 && KEY == 0xFF << 5);

/// State word: ended (1 bit), production (1), permissions (3), key (8), platform (24), old (1), uses (26).
fn pack(permissions: Permissions, environment: Environment, key: u8, platform: usize) -> u64 {
    let production = u64::from(environment == Environment::Production);
    production << 1 | u64::from(permissions.bits()) << 2 | u64::from(key) << 5 | (platform as u64) << 13
}

/// Platforms at the most; tokens of further ones are read from the database each time.
const PLATFORMS: usize = 1 << 24;

fn unpack(state: u64, digest: [u64; 2]) -> Entry {
    Entry {
        ended: state & ENDED != 0,
        environment: if state & 2 != 0 { Environment::Production } else { Environment::Sandbox },
        permissions: Permissions::from_bits((state >> 2) as u8),
        key: (state >> 5) as u8,
        platform: (state >> 13) as usize & (PLATFORMS - 1),
        digest,
    }
}

fn low(id: TokenId) -> u64 {
    id.0.as_u128() as u64
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { tables: Tables::with_room_for(LEAST), platforms: boxcar::Vec::new(), places: Mutex::default() }
    }

    /// Makes room for so many tokens, so that it does not have to grow.
    pub(crate) fn reserve(&self, tokens: usize) {
        // A twentieth more than there are now.
        self.tables.reserve(tokens.saturating_add(tokens / 20));
    }

    /// Empties it: nothing that was known holds any more.
    pub(crate) fn forget(&self) {
        self.tables.clear();
        self.platforms.iter().for_each(|(_, platform)| platform.state.store(0, Ordering::SeqCst));
    }

    /// How many live tokens it holds.
    pub(crate) fn len(&self) -> usize {
        self.tables.live()
    }

    /// How many bytes its table has.
    pub(crate) fn bytes(&self) -> usize {
        self.tables.bytes()
    }

    /// Looks up an id and does `then` with the first entry that `is_it` takes, of those that could be meant (one, but for
    /// a chance of 2^-62). `Err` says whether there was none at all.
    pub(crate) fn find<R>(
        &self,
        id: TokenId,
        mut is_it: impl FnMut(&Entry) -> bool,
        then: impl FnOnce(Found<'_>) -> R,
    ) -> Result<R, Missing> {
        self.tables.look(|table| {
            let mut missing = Missing::Absent;
            let found = table.of(low(id), |slot| {
                let entry = unpack(slot.state(), slot.digest());
                if is_it(&entry) {
                    return Some(Found { entry, slot });
                }
                missing = Missing::Refused;
                None
            });
            found.map(then).ok_or(missing)
        })
    }

    /// The platform of an entry, and whether it is disabled, if that is known.
    pub(crate) fn platform(&self, entry: &Entry) -> Option<(&PlatformId, bool)> {
        let platform = self.platforms.get(entry.platform)?;
        match platform.state.load(Ordering::SeqCst) & 3 {
            0 => None,
            state => Some((&platform.id, state != ENABLED)),
        }
    }

    /// Adds a token that was read from the database when the feed had been followed to the place `read`, with the place of its
    /// key on the ring; or does nothing if it is here, live or ended, or may have been here and ended since.
    pub(crate) fn insert(&self, record: &Record, key: u8, read: u64) {
        let (low, digest, state) = (low(record.token.id), record.digest.half(), || self.state(record, key));
        match record.token.revoked_at {
            Some(_) => self.tables.end(low, digest, state),
            None => self.tables.insert(low, digest, read, state),
        }
    }

    /// Says that the feed was read up to the place `seq`, by a read that began after this was last called: what had ended
    /// before that call can be forgotten.
    pub(crate) fn followed(&self, seq: u64) {
        self.tables.followed(seq);
    }

    /// Keeps all ends as long as the answer lives: for who reads many rows, and puts each in.
    pub(crate) fn keep_ends(&self) -> KeptEnds<'_> {
        self.tables.keep_ends(true);
        KeptEnds(self)
    }

    /// Ends a token, here or not, under whichever keys it is here. Without the place of its key, that is not on the ring.
    pub(crate) fn end(&self, record: &Record, key: Option<u8>) {
        self.tables.end(low(record.token.id), record.digest.half(), || self.state(record, key.unwrap_or(NOWHERE)));
    }

    /// The state of a live token; none where there is no place for its platform.
    fn state(&self, record: &Record, key: u8) -> Option<u64> {
        let Scope { platform, environment } = record.token.scope;
        let place = self.place(&mut self.places(), platform);
        (place < PLATFORMS).then(|| pack(record.token.permissions, environment, key, place))
    }

    /// Ends whatever has this id, whatever its digest.
    ///
    /// Only for ids of stored rows, never for one that a caller chose: slots know the low half of an id, so an invented
    /// one could end somebody else's token.
    pub(crate) fn end_id(&self, id: TokenId) {
        self.tables.end_all(low(id));
    }

    /// Takes the uses that were counted of the tokens that `noted` then names. Whoever counts a first one must have its
    /// token named before `then` of [`Index::find`] returns.
    pub(crate) fn take_uses<T>(&self, noted: impl FnOnce() -> Vec<(TokenId, T)>, mut take: impl FnMut(TokenId, T, u32)) {
        self.tables.take_uses(noted, |(id, _)| low(*id), |(id, note), uses| take(id, note, uses));
    }

    /// Adds a platform, or applies the change that stands at `seq` of the feed, unless a later one was applied.
    pub(crate) fn put_platform(&self, record: &PlatformRecord, seq: u64) {
        let since = if record.platform.disabled_at.is_some() { DISABLED } else { ENABLED };
        self.change_platform(record.platform.id, seq << 2 | since);
    }

    /// Knows nothing of a platform since the change that stands at `seq` of the feed, unless a later one was applied.
    pub(crate) fn doubt_platform(&self, id: PlatformId, seq: u64) {
        self.change_platform(id, seq << 2);
    }

    /// Disables a platform until the next start, whatever its row says later.
    pub(crate) fn refuse_platform(&self, id: PlatformId) {
        self.change_platform(id, u64::MAX);
    }

    fn change_platform(&self, id: PlatformId, state: u64) {
        let place = self.place(&mut self.places(), id);
        self.platforms[place].state.fetch_max(state, Ordering::SeqCst);
    }

    /// The place of a platform in the list, at its end if it is new.
    fn place(&self, places: &mut HashMap<PlatformId, usize>, id: PlatformId) -> usize {
        *places.entry(id).or_insert_with(|| self.platforms.push(ResidentPlatform { id, state: AtomicU64::new(0) }))
    }

    fn places(&self) -> MutexGuard<'_, HashMap<PlatformId, usize>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
