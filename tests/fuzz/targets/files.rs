//! Files: keys, documents of platforms, journals, heads and lines of the audit log.

use std::{collections::BTreeSet, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign::{
    authority::{
        audit::{Heads, MEMBERS},
        fuzzed::{self, Ring},
    },
    domain::{Action, Actor, AuditEntry, Described, Environment, PlatformId, RecordedEntry, RequestInfo, Scope, Timestamp, TokenId},
    openapi as documents,
};
use serde_json::{Value, json};

use super::words::KEY_FILE;

pub(super) fn key_file(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let keys = match fuzzed::key_file(text) {
        Ok(keys) => keys,
        Err(problem) => return super::keeps_quiet(input, &problem),
    };
    let ids: BTreeSet<_> = keys.iter().map(|(id, ..)| *id).collect();
    assert!(ids.len() == keys.len() && keys.len() <= 200 && ids.iter().all(|id| *id < 1 << 24));
    assert_eq!(keys.iter().filter(|(_, state, ..)| *state == "active").count(), 1);
    // By another reader, to which a member that is there twice would be the last one.
    let value: Value = serde_json::from_str(text).unwrap();
    let written: Vec<_> = value["keys"].as_array().unwrap().iter().collect();
    assert_eq!((value["version"].as_u64(), written.len()), (Some(1), keys.len()));
    for ((id, state, created, root), written) in keys.iter().zip(written) {
        assert_eq!((written["id"].as_u64(), written["state"].as_str()), (Some((*id).into()), Some(*state)));
        assert_eq!(written["root"].as_str(), Some(&*STANDARD.encode(root)));
        assert_eq!(written["created"].is_null(), created.is_none());
    }
    assert_eq!(text.matches("\"root\"").count(), keys.len());
}

fn shown(read: &[Described]) -> Vec<String> {
    // A path item's methods are in the order of whoever read it.
    let mut all: Vec<_> = read.iter().map(|one| format!("{one:?}")).collect();
    all.sort();
    all
}

pub(super) fn openapi(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = documents::read(text, None);
    if let Ok(read) = &read {
        let methods = ["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"];
        assert!(!read.is_empty() && read.iter().all(|one| methods.contains(&one.method.as_str())));
        let mut places: Vec<_> = read.iter().map(|one| (&one.method, &one.path)).collect();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), read.len());
        // With another path before all of them.
        let moved = documents::read(text, Some("/elsewhere/")).unwrap();
        assert!(moved.iter().all(|one| one.path.starts_with("/elsewhere")) && moved.len() == read.len());
    }
    // A line that says nothing, and it is no JSON any more.
    if text.trim_start().starts_with('{')
        && let Ok(json) = &read
    {
        match documents::read(&format!("# \n{text}"), None) {
            Ok(yaml) => assert_eq!(shown(json), shown(&yaml)),
            Err(invalid) => assert!(!format!("{invalid:?}").contains("duplicate"), "{text}"),
        }
    }
}

static RING: LazyLock<Ring> = LazyLock::new(|| Ring::of(KEY_FILE, [3; 16]).unwrap());

/// Changes of a text: four bytes each say what is done, where, and with what.
fn edited(text: &[u8], script: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    for step in script.chunks_exact(4).take(16) {
        let [what, high, low, with] = [step[0], step[1], step[2], step[3]];
        let at = usize::from(u16::from_be_bytes([high, low])) % (text.len() + 1);
        match what % 8 {
            0 => text.insert(at, with),
            1 => text.truncate(at),
            2 if at < text.len() => text[at] = with,
            3 if at < text.len() => drop(text.remove(at)),
            // Whole lines: taken out, put in twice, moved to the end.
            line @ 4..=6 => {
                let mut lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                if !lines.is_empty() {
                    let one = lines.remove(usize::from(with) % lines.len());
                    match line {
                        4 => {}
                        5 => lines.splice(at % (lines.len() + 1)..at % (lines.len() + 1), [one.clone(), one]).for_each(drop),
                        _ => lines.push(one),
                    }
                }
                text = lines.concat();
            }
            _ => {}
        }
    }
    text
}

fn ids(numbers: &[u128]) -> Vec<String> {
    numbers.iter().map(|number| uuid::Uuid::from_u128(*number).to_string()).collect()
}

/// All journals that the key has ever sealed: what somebody edits them with.
static JOURNALS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let one = [(0, ids(&[])), (3, ids(&[1, 2])), (4, ids(&[])), (9, ids(&[3])), (12, ids(&[4]))];
    let other = [(9, ids(&[])), (10, ids(&[5])), (11, ids(&[]))];
    [&one[..], &other].map(|lines| RING.write_journal(lines).unwrap())
});

/// A journal that was sealed, and then edited.
pub(super) fn journal(input: &[u8]) {
    let [one, other] = &*JOURNALS;
    for whole in [one.clone(), [&other[..], one].concat()] {
        let text = edited(&whole, input);
        let Ok(parts) = RING.read_journal(&text) else { continue };
        // Lines that were sealed: all but the last, which may be torn. A space more between two members says nothing else.
        let says = |line: &[u8]| serde_json::from_slice::<Value>(line.strip_suffix(b"\n")?).ok();
        let sealed: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').map(says).collect();
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        let (last, before) = lines.split_last().unwrap();
        let is_torn = parts.last().unwrap().0.is_torn;
        assert!(before.iter().all(|line| sealed.contains(&says(line))), "{}", text.escape_ascii());
        assert!(is_torn || sealed.contains(&says(last)), "{}", text.escape_ascii());
        let kept = if is_torn { before } else { &lines[..] };
        let member = |line: &[u8], name: &str| serde_json::from_slice::<Value>(line).unwrap()[name].clone();
        for pair in kept.windows(2) {
            let after = member(pair[1], "after");
            assert!(after.is_null() || after == member(pair[0], "mac"), "{}", text.escape_ascii());
        }
        let said: BTreeSet<_> = parts.iter().flat_map(|(_, ended)| ended).copied().collect();
        let ended = kept.iter().flat_map(|line| member(line, "ended").as_array().cloned().unwrap_or_default());
        assert_eq!(said, ended.map(|id| TokenId::parse(id.as_str().unwrap()).unwrap()).collect());
        let reached: Vec<_> = parts.iter().map(|(reach, _)| (reach.after, reach.through)).collect();
        let begins: Vec<_> = kept.iter().filter(|line| member(line, "after").is_null()).map(|line| member(line, "seq")).collect();
        assert_eq!(reached.iter().map(|(after, _)| json!(after)).collect::<Vec<_>>(), begins);
        assert_eq!(json!(reached.last().unwrap().1), member(kept.last().unwrap(), "seq"));
    }
}

/// A text of anybody's; and heads that were signed, in lines of syslog, edited.
pub(super) fn heads(input: &[u8]) {
    static SIGNED: LazyLock<Vec<String>> =
        LazyLock::new(|| [1, 2, 50].map(|size| RING.head(size, [size as u8; 32], Timestamp::MIN, "0011223344556677")).into());
    let log: String = SIGNED.iter().map(|head| format!("Nov 28 12:00:00 host countersign[1]: {head}\n")).collect();
    for text in [edited(log.as_bytes(), input), input.to_vec()] {
        let text = String::from_utf8_lossy(&text);
        let mut heads = Heads::default();
        heads.take("syslog", &text);
        let found = RING.signed(&heads);
        assert!(found.iter().all(|head| SIGNED.contains(head)), "{text}");
        // One that nobody touched is found.
        let untouched = |head: &&String| text.lines().any(|line| line.ends_with(&**head));
        assert!(found.len() >= SIGNED.iter().filter(untouched).count(), "{text}");
    }
}

/// An entry made of pieces of a text.
pub(super) fn audit_line(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut pieces = text.split('|').map(str::to_owned);
    let mut next = || pieces.next().unwrap_or_default();
    let id = uuid::Uuid::from_u128(input.iter().fold(0, |id, byte| id << 8 | u128::from(*byte)));
    let first = input.first().copied().unwrap_or_default();
    let platform = (first & 1 == 1).then_some(PlatformId(id));
    let entry = AuditEntry {
        at: Timestamp::from_millis(i64::from(first) * 1_000_000_007),
        action: Action::ALL[usize::from(first) % Action::ALL.len()],
        actor: if first & 2 == 2 { Actor::Operator(next()) } else { Actor::System },
        platform,
        scope: platform.map(|platform| Scope { platform, environment: Environment::Sandbox }),
        token: (first & 4 == 4).then_some(TokenId(id)),
        request: RequestInfo { id: next(), source: next() },
        detail: next(),
    };
    let recorded = RecordedEntry { seq: input.len() as u64, node: next(), entry };
    let line = fuzzed::audit_line(&recorded, 7, [first; 32]);
    assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
    let entry = &recorded.entry;
    let optional = |text: Option<String>| text.map_or(Value::Null, Value::String);
    let expected = [
        json!(recorded.seq),
        json!(entry.at.to_string()),
        json!(entry.action.name()),
        json!(entry.actor.to_string()),
        optional(entry.platform.map(|id| id.to_string())),
        optional(entry.scope.map(|scope| scope.environment.to_string())),
        optional(entry.token.map(|id| id.to_string())),
        json!(entry.request.id),
        json!(entry.request.source),
        json!(recorded.node),
        json!(entry.detail),
        json!(7),
        json!(format!("{first:02x}").repeat(32)),
    ];
    let read: serde_json::Map<String, Value> = serde_json::from_str(&line).unwrap();
    assert_eq!(read, MEMBERS.into_iter().map(str::to_owned).zip(expected).collect());
    // In their order, which the hashes of lines rest on.
    let whole = MEMBERS.iter().map(|name| format!("\"{name}\":")).collect::<Vec<_>>();
    assert!(whole.windows(2).all(|pair| line.find(&pair[0]) < line.find(&pair[1])));
    assert_eq!(Actor::parse(&entry.actor.to_string()).as_ref(), Some(&entry.actor));
}
