use std::{collections::HashMap, sync::atomic::AtomicUsize};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{ClientTag, Issuer, Platform, Scope, SecretDigest, Timestamp, Token, TokenName},
    store::Seal,
};

fn record(id: u128, digest: u8, platform: u128, permissions: u8) -> Record {
    let id = TokenId(Uuid::from_u128(id));
    let environment = if permissions & 1 == 0 { Environment::Sandbox } else { Environment::Production };
    let token = Token {
        id,
        scope: Scope { platform: PlatformId(Uuid::from_u128(platform)), environment },
        name: TokenName::parse("name", "a").unwrap(),
        permissions: Permissions::from_bits(permissions),
        tag: ClientTag([0; 4]),
        issuer: Issuer::Platform,
        revocable: true,
        revoked_at: None,
    };
    Record { token, digest: SecretDigest::new([digest; 32]), seal: Seal { key: 1, mac: [0; 32] } }
}

fn uuid(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low & !(0b11 << 62) | 0b10 << 62)
}

fn find(index: &Index, record: &Record) -> Result<Entry, Missing> {
    index.find(record.token.id, |entry| entry.matches(record.digest.half()), |found| found.entry)
}

#[test]
fn a_token_is_found_by_its_digest_and_ends_for_good() {
    let (index, record) = (Index::new(), record(uuid(1, 2), 7, 9, 0b101));
    assert_eq!(find(&index, &record).err(), Some(Missing::Absent));
    index.insert(&record, 1, 0);
    let entry = find(&index, &record).unwrap();
    assert_eq!(
        (entry.permissions, entry.environment, entry.key, entry.ended),
        (Permissions::from_bits(0b101), Environment::Production, 1, false)
    );
    assert_eq!(index.platform(&entry), None, "nobody has said what it is");
    assert_eq!(index.find(record.token.id, |entry| entry.matches([0; 2]), |_| ()).err(), Some(Missing::Refused));
    index.end(&record, Some(1));
    index.insert(&record, 1, 0);
    assert!(find(&index, &record).unwrap().ended);
    assert_eq!(index.len(), 0);
}

#[test]
fn r_02_an_end_that_came_first_keeps_a_late_insert_out() {
    let (index, record) = (Index::new(), record(uuid(1, 2), 7, 9, 1));
    index.end(&record, Some(1));
    index.insert(&record, 1, 0);
    assert!(find(&index, &record).unwrap().ended);
}

#[test]
fn two_tokens_with_the_same_low_half_are_two() {
    let (index, a, b) = (Index::new(), record(uuid(1, 5), 1, 9, 1), record(uuid(2, 5), 2, 9, 2));
    index.insert(&a, 1, 0);
    index.insert(&b, 1, 0);
    index.end(&a, Some(1));
    assert!(find(&index, &a).unwrap().ended && !find(&index, &b).unwrap().ended);
}

/// The table that a thread has at hand is not the one that grew in its place.
#[test]
fn who_has_looked_before_sees_what_came_after_growth() {
    let (index, first) = (Index::new(), record(uuid(1, 1), 1, 9, 1));
    index.insert(&first, 1, 0);
    assert!(!find(&index, &first).unwrap().ended);
    (2..5000).for_each(|n| index.insert(&record(uuid(n, n), 1, 9, 1), 1, 0));
    assert!(find(&index, &record(uuid(4999, 4999), 1, 9, 1)).is_ok());
    index.end(&first, Some(1));
    assert!(find(&index, &first).unwrap().ended);
}

#[test]
fn changes_of_a_platform_may_arrive_twice_and_out_of_order() {
    let index = Index::new();
    let token = record(uuid(1, 2), 7, 9, 1);
    let platform = |disabled: bool| PlatformRecord {
        platform: Platform {
            id: token.token.scope.platform,
            name: TokenName::parse("name", "p").unwrap(),
            created_at: Timestamp::MIN,
            disabled_at: disabled.then_some(Timestamp::MIN),
        },
        seal: Seal { key: 1, mac: [0; 32] },
    };
    index.put_platform(&platform(false), 1);
    index.insert(&token, 1, 0);
    let disabled = |index: &Index| index.platform(&find(index, &token).unwrap()).unwrap().1;
    index.put_platform(&platform(true), 5);
    assert!(disabled(&index));
    index.put_platform(&platform(false), 3);
    assert!(disabled(&index), "an older change came later");
    index.put_platform(&platform(false), 6);
    index.put_platform(&platform(true), 5);
    assert!(!disabled(&index));
    index.doubt_platform(token.token.scope.platform, 5);
    assert!(!disabled(&index), "an older change came later");
    index.doubt_platform(token.token.scope.platform, 7);
    assert_eq!(index.platform(&find(&index, &token).unwrap()), None);
    index.put_platform(&platform(true), 7);
    assert!(disabled(&index), "the same change, checked");
}

/// A digest that was made anew under another key: one token in two slots, which counts, is used and ends once.
#[test]
fn r_03_a_token_under_two_keys_is_one() {
    let (index, old, new) = (Index::new(), record(uuid(1, 2), 7, 9, 1), record(uuid(1, 2), 8, 9, 1));
    index.insert(&old, 0, 0);
    index.insert(&new, 1, 0);
    assert_eq!((find(&index, &old).unwrap().key, find(&index, &new).unwrap().key, index.len()), (0, 1, 1));
    let use_it = |record: &Record| index.find(record.token.id, |entry| entry.matches(record.digest.half()), |found| found.count_use());
    assert_eq!((use_it(&old), use_it(&new)), (Ok(true), Ok(true)));
    let mut taken = Vec::new();
    index.take_uses(|| vec![(old.token.id, ()), (old.token.id, ())], |_, (), uses| taken.push(uses));
    assert_eq!(taken, [2, 0]);
    index.end(&new, Some(1));
    assert!(find(&index, &old).unwrap().ended && find(&index, &new).unwrap().ended);
    assert_eq!(index.len(), 0);
}

/// Whoever read the row before its digest was made anew, and before its end, comes last.
#[test]
fn r_03_a_late_insert_under_the_old_key_brings_nothing_back() {
    for key in [Some(1), None] {
        let (index, old, new) = (Index::new(), record(uuid(1, 2), 7, 9, 1), record(uuid(1, 2), 8, 9, 1));
        index.end(&new, key);
        index.insert(&old, 0, 0);
        assert!(find(&index, &old).map_or(true, |entry| entry.ended), "{key:?}");
        index.insert(&new, 1, 0);
        assert!(find(&index, &new).unwrap().ended && index.len() == 0, "{key:?}");
        index.end_id(old.token.id);
        assert_eq!(index.len(), 0);
    }
}

proptest! {
    /// Against a map: any sequence of inserts and ends, ids that collide in their low half included, through growth.
    #[test]
    fn equals_a_map(operations in proptest::collection::vec((0..400u64, 0..3u64, 0..3u8, any::<bool>()), 1..4000)) {
        let (index, mut model) = (Index::new(), HashMap::new());
        for (low, high, digest, end) in operations {
            // Crowded: every id's place is near the start, so that probes run into each other.
            let record = record(uuid(high, low), digest, u128::from(low % 5), 1);
            if end { index.end(&record, Some(1)) } else { index.insert(&record, 1, 0) }
            let ended = model.entry((low, digest)).or_insert(end);
            *ended |= end;
        }
        prop_assert_eq!(index.len(), model.values().filter(|ended| !**ended).count());
        for ((low, digest), ended) in &model {
            prop_assert_eq!(find(&index, &record(uuid(0, *low), *digest, 0, 1)).map(|entry| entry.ended), Ok(*ended));
        }
    }
}

/// However many tokens come and go, it is as large as those that stay need it to be; and whoever read a row before its end was
/// followed brings nothing back.
#[test]
fn o_11_what_has_ended_takes_no_room_for_ever() {
    let record_of = |n: u64| record(uuid(n, n.wrapping_mul(0x9E37_79B9_7F4A_7C15)), (n % 251) as u8, 1, 0b101);
    let (index, stays) = (Index::new(), record_of(1));
    index.insert(&stays, 1, 0);
    for round in 1..=200 {
        let come: Vec<_> = (0..500).map(|n| record_of(round * 1000 + n)).collect();
        come.iter().for_each(|record| index.insert(record, 1, round));
        come.iter().for_each(|record| index.end(record, Some(1)));
        index.followed(round);
        // A reader that began before is as late as it likes.
        come.iter().for_each(|record| index.insert(record, 1, round - 1));
        assert_eq!(index.len(), 1);
    }
    assert!(index.tables.room() < 4 * LEAST, "{} slots", index.tables.room());
    assert!(!find(&index, &stays).unwrap().ended);
    let long_ago = record_of(1000);
    assert_eq!(find(&index, &long_ago).err(), Some(Missing::Absent));
    index.insert(&long_ago, 1, 1);
    assert_eq!(find(&index, &long_ago).err(), Some(Missing::Absent), "it came back");

    // Who reads many rows, from long ago on, finds all ends that came since.
    let kept = index.keep_ends();
    for chunk in 0..20 {
        (0..1000).for_each(|n| index.end(&record_of(1_000_000 + chunk * 1000 + n), Some(1)));
        (0..4).for_each(|turn| index.followed(201 + chunk * 4 + turn));
    }
    (0..20_000).for_each(|n| index.insert(&record_of(1_000_000 + n), 1, 200));
    assert_eq!(index.len(), 1);
    assert!(find(&index, &record_of(1_000_000)).unwrap().ended);
    drop(kept);
    let came: Vec<_> = (0..40_000).map(|n| record_of(2_000_000 + n)).collect();
    for came in came.chunks(4000) {
        came.iter().for_each(|record| index.insert(record, 1, 300));
        index.followed(300);
    }
    assert_eq!(index.len(), 40_001);
    assert_eq!(find(&index, &record_of(1_000_000)).err(), Some(Missing::Absent));
}

/// Readers see every entry whole and never one alive that they saw ended, while a writer inserts, ends and grows.
#[test]
fn readers_beside_a_writer() {
    let index = std::sync::Arc::new(Index::new());
    let ids: Vec<_> = (0..20_000_u64)
        .map(|n| record(uuid(n, n.wrapping_mul(0x9E37_79B9_7F4A_7C15)), (n % 251) as u8, u128::from(n % 3), 0b101))
        .collect();
    let ids = std::sync::Arc::new(ids);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (index, ids) = (index.clone(), ids.clone());
            std::thread::spawn(move || {
                let mut ended = vec![false; ids.len()];
                while !ended.iter().all(|ended| *ended) {
                    for (record, ended) in ids.iter().zip(&mut ended) {
                        if let Ok(entry) = find(&index, record) {
                            assert_eq!((entry.permissions.bits(), entry.key), (0b101, 1));
                            assert!(entry.ended || !*ended, "alive again");
                            *ended = entry.ended;
                        }
                    }
                }
            })
        })
        .collect();
    ids.iter().for_each(|record| index.insert(record, 1, 0));
    ids.iter().for_each(|record| index.end(record, Some(1)));
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

/// Whatever was counted is taken once: while the table grows, and while readers still count in the one that it outgrew.
#[test]
fn no_use_is_lost_while_the_table_grows() {
    let (index, touched) = (Index::new(), crossbeam_queue::SegQueue::new());
    let record_of = |n: u64| record(uuid(n, n.wrapping_mul(0x9E37_79B9_7F4A_7C15)), (n % 251) as u8, 1, 0b101);
    let used: Vec<_> = (0..64).map(record_of).collect();
    used.iter().for_each(|record| index.insert(record, 1, 0));
    let (done, taken) = (AtomicUsize::new(0), AtomicU64::new(0));
    let take = || {
        let noted = || std::iter::from_fn(|| touched.pop()).map(|id| (id, ())).collect();
        index.take_uses(noted, |_, (), uses| {
            taken.fetch_add(u64::from(uses), Ordering::Relaxed);
        });
    };
    let counted: u64 = std::thread::scope(|threads| {
        let counters: Vec<_> = (0..3)
            .map(|_| {
                threads.spawn(|| {
                    let mut counted = 0;
                    while done.load(Ordering::Relaxed) == 0 {
                        for record in &used {
                            let first = |found: Found<'_>| {
                                if found.count_use() {
                                    touched.push(record.token.id);
                                }
                            };
                            index.find(record.token.id, |entry| entry.matches(record.digest.half()), first).unwrap();
                            counted += 1;
                        }
                    }
                    counted
                })
            })
            .collect();
        threads.spawn(|| {
            while done.load(Ordering::Relaxed) == 0 {
                take();
            }
        });
        (64..200_000).for_each(|n| index.insert(&record_of(n), 1, 0));
        done.store(1, Ordering::Relaxed);
        counters.into_iter().map(|counter| counter.join().unwrap()).sum()
    });
    take();
    assert_eq!(taken.into_inner(), counted);
}
