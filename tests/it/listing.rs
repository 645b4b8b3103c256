//! Pages, cursors and totals, against a filter over a plain list.

use std::{collections::BTreeSet, sync::Arc, task::Poll, time::Duration};

use countersign::{
    authority::ListTokens,
    domain::{
        Caller, Liveness, MayManage, MayRead, NewToken, Order, PageLimit, Permissions, Presented, RequestInfo, Timestamp, Token,
        TokenFilter, TokenName,
    },
};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::support::{GRID, Pair, START, TestApp, database, operator};

async fn caller(app: &TestApp, pair: &Pair) -> Caller {
    app.authority.verify(Presented::parse_basic(pair.basic().as_bytes()), RequestInfo::default()).await.unwrap()
}

async fn reader(app: &TestApp, pair: &Pair) -> MayRead {
    caller(app, pair).await.may_read().unwrap()
}

async fn create(app: &TestApp, by: &MayManage, name: &str) -> Token {
    let new = NewToken { name: TokenName::parse("name", name).unwrap(), permissions: Permissions::parse("VIEW").unwrap() };
    app.authority.create_token(by, new, None).await.unwrap().token
}

fn list(filter: TokenFilter, cursor: Option<String>, limit: u16) -> ListTokens {
    ListTokens { liveness: Liveness::Live, filter, order: Order::NewestFirst, cursor, limit: PageLimit::new(limit).unwrap(), count: true }
}

/// All pages of a list, with the total that each of them gave.
async fn walk(app: &TestApp, by: &MayRead, filter: &TokenFilter, limit: u16) -> (Vec<Token>, BTreeSet<u64>) {
    let (mut tokens, mut totals, mut cursor) = (Vec::new(), BTreeSet::new(), None);
    loop {
        let page = app.authority.list_tokens(by, list(filter.clone(), cursor, limit)).await.unwrap();
        assert!(page.next.is_none() || page.tokens.len() == usize::from(limit), "a short page that is not the last");
        tokens.extend(page.tokens);
        totals.insert(page.total.unwrap());
        cursor = page.next;
        if cursor.is_none() {
            return (tokens, totals);
        }
    }
}

/// C-01, C-03, Z-03: for random filters, the pages together are the filtered list, in order, each token once, and every
/// total is its length. Creation times are spread so that every width of bucket is cut.
#[test]
fn c_01_c_03_pages_and_totals_equal_a_filter_over_a_list() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let app = runtime.block_on(TestApp::new());
    let (by, model) = runtime.block_on(async {
        let (_, [other, _]) = app.another_platform("Other").await;
        let mine = caller(&app, &app.sandbox).await.may_manage().unwrap();
        let theirs = caller(&app, &other).await.may_manage().unwrap();
        let root = app
            .authority
            .get_token(&reader(&app, &app.sandbox).await, countersign::domain::TokenId::parse(&app.sandbox.id).unwrap())
            .await
            .unwrap();
        let mut model = vec![root];
        // Milliseconds, seconds, minutes, hours, weeks.
        for (n, step) in [0, 1, 3, 40, 64, 900, 4_096, 70_000, 262_144, 5_000_000, 16_777_216, 90_000_000, 1_073_741_824]
            .into_iter()
            .cycle()
            .take(900)
            .enumerate()
        {
            app.clock.advance(Duration::from_millis(step));
            let name = format!("n{}", n % 7);
            let token = create(&app, &mine, &name).await;
            create(&app, &theirs, &name).await;
            if n % 5 == 0 {
                app.authority.revoke_token(&mine, token.id).await.unwrap();
            } else {
                model.push(token);
            }
        }
        (reader(&app, &app.sandbox).await, model)
    });
    let end = model.last().unwrap().created_at().millis();
    let moment = prop_oneof![
        START - 10..end + 10,
        (0..model.len(), -1..2i64).prop_map({
            let times: Vec<_> = model.iter().map(|token| token.created_at().millis()).collect();
            move |(i, off)| times[i] + off
        })
    ];
    let filter = (proptest::option::of(0..8usize), proptest::option::of(moment.clone()), proptest::option::of(moment));
    let mut runner = TestRunner::new(ProptestConfig { cases: 300, ..ProptestConfig::default() });
    runner
        .run(&(filter, 1..=100u16), |((name, from, until), limit)| {
            let filter = TokenFilter {
                name: name.map(|n| TokenName::parse("name", &format!("n{n}")).unwrap()),
                from: from.map_or(Timestamp::MIN, Timestamp::from_millis),
                until: until.map_or(Timestamp::MAX, Timestamp::from_millis),
            };
            let mut expected: Vec<_> = model
                .iter()
                .filter(|token| filter.name.as_ref().is_none_or(|name| token.name == *name))
                .filter(|token| token.created_at() >= filter.from && token.created_at() <= filter.until)
                .cloned()
                .collect();
            expected.sort_by_key(|token| std::cmp::Reverse((token.created_at(), token.id)));
            let (tokens, totals) = runtime.block_on(walk(&app, &by, &filter, limit));
            prop_assert_eq!(totals, BTreeSet::from([expected.len() as u64]));
            prop_assert_eq!(tokens, expected);
            Ok(())
        })
        .unwrap();
    runtime.block_on(async move { drop(app) });
}

#[tokio::test(flavor = "multi_thread")]
async fn c_02_what_was_there_throughout_is_seen_once_whatever_happens_meanwhile() {
    let app = Arc::new(TestApp::new().await);
    let by = caller(&app, &app.sandbox).await.may_manage().unwrap();
    let mut there = BTreeSet::new();
    let mut doomed = Vec::new();
    for n in 0..400 {
        app.clock.advance(Duration::from_millis(n % 2));
        let token = create(&app, &by, "there").await;
        if n % 4 == 0 { doomed.push(token.id) } else { there.extend([token.id]) }
    }
    let writer = {
        let (app, by) = (Arc::clone(&app), by.clone());
        tokio::spawn(async move {
            for id in doomed {
                app.authority.revoke_token(&by, id).await.unwrap();
                create(&app, &by, "new").await;
            }
        })
    };
    let reads = reader(&app, &app.sandbox).await;
    let (tokens, _) = walk(&app, &reads, &TokenFilter::default(), 7).await;
    writer.await.unwrap();
    let seen: Vec<_> = tokens.iter().map(|token| token.id).filter(|id| there.contains(id)).collect();
    assert_eq!(seen.len(), there.len());
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), there);
}

/// Whoever asks may go away in the middle of it: whoever asks next sees what is so.
#[tokio::test]
async fn a_list_that_is_dropped_leaves_nothing_behind() {
    let app = TestApp::new().await;
    let reads = reader(&app, &app.sandbox).await;
    let ask = || app.authority.list_tokens(&reads, list(TokenFilter::default(), None, 1));
    for waits in 0..20 {
        let mut asking = Box::pin(ask());
        let mut waited = 0;
        let for_a_while = std::future::poll_fn(|context| {
            waited += 1;
            if asking.as_mut().poll(context).is_ready() || waited > waits { Poll::Ready(()) } else { Poll::Pending }
        });
        for_a_while.await;
        drop(asking);
        app.token("a", &["VIEW"]).await;
        assert_eq!(ask().await.unwrap().total, Some(waits + 2), "dropped after {waits} waits");
    }
}

#[tokio::test]
async fn c_03_a_last_page_that_is_full_says_so() {
    let app = TestApp::new().await;
    for _ in 0..3 {
        app.token("a", &["VIEW"]).await;
    }
    let first = app.get(&format!("{GRID}?limit=2")).send().await.json();
    let last = app.get(&format!("{GRID}?limit=2&cursor={}", first["nextCursor"].as_str().unwrap())).send().await.json();
    assert_eq!((last["data"].as_array().unwrap().len(), &last["hasMore"], last.get("nextCursor")), (2, &json!(false), None));
}

async fn cursor(app: &TestApp, query: &str) -> String {
    app.get(&format!("{GRID}?{query}")).send().await.expect(200).json()["nextCursor"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn c_04_a_cursor_of_another_list_or_an_altered_one_is_refused() {
    let app = TestApp::new().await;
    let (_, [other, _]) = app.another_platform("Other").await;
    for by in [&app.sandbox, &app.production, &other] {
        for _ in 0..3 {
            app.token_by(by, "a", &["VIEW"]).await;
        }
    }
    let plain = cursor(&app, "limit=1").await;
    let named = cursor(&app, "limit=1&name=a").await;
    let timed = cursor(&app, "limit=1&createdAfter=2020-01-01T00:00:00Z").await;
    let refused = async |pair: &Pair, query: String| {
        app.get(&format!("{GRID}?{query}")).auth(pair).send().await.refused(400, "INVALID_INPUT").broken_fields()
    };
    for (pair, query) in [
        (&app.sandbox, format!("name=a&cursor={plain}")),
        (&app.sandbox, format!("cursor={named}")),
        (&app.sandbox, format!("name=b&cursor={named}")),
        (&app.sandbox, format!("createdAfter=2020-01-01T00:00:00.001Z&cursor={timed}")),
        (&app.sandbox, format!("createdBefore=2020-01-01T00:00:00Z&cursor={timed}")),
        (&app.production, format!("cursor={plain}")),
        (&other, format!("cursor={plain}")),
        (&app.sandbox, format!("cursor={plain}A")),
        (&app.sandbox, format!("cursor={plain}%3D")),
        (&app.sandbox, format!("cursor={}", &plain[..plain.len() - 1])),
        (&app.sandbox, format!("cursor={}", plain.to_lowercase())),
        (&app.sandbox, "cursor=%27%3B+DROP+TABLE+token%3B--".to_owned()),
    ] {
        assert_eq!(refused(pair, query.clone()).await, ["cursor"], "{query}");
    }
    // Another limit, and another token of the same scope, may follow it.
    let viewer = app.token("viewer", &["VIEW"]).await;
    app.get(&format!("{GRID}?limit=3&cursor={plain}")).auth(&viewer).send().await.expect(200);
}

#[tokio::test]
async fn c_04_no_altered_bit_passes() {
    let app = TestApp::new().await;
    app.token("a", &["VIEW"]).await;
    let reads = reader(&app, &app.sandbox).await;
    let good = cursor(&app, "limit=1").await;
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ ";
    let mut tried = 0;
    for position in 0..good.len() {
        for byte in alphabet {
            let mut altered = good.clone().into_bytes();
            if altered[position] == *byte {
                continue;
            }
            altered[position] = *byte;
            let text = String::from_utf8(altered).unwrap();
            let result = app.authority.list_tokens(&reads, list(TokenFilter::default(), Some(text.clone()), 1)).await;
            assert!(matches!(result, Err(countersign::authority::Error::Invalid(_))), "{text}");
            tried += 1;
        }
    }
    assert!(tried > 3000);
}

#[tokio::test]
async fn c_06_a_cursor_outlives_a_restart_and_needs_no_encoding() {
    let app = TestApp::new().await;
    app.token("a", &["VIEW"]).await;
    let cursor = cursor(&app, "limit=1").await;
    assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
    let app = app.restart().await;
    app.clock.advance(Duration::from_secs(10_000_000));
    let page: Value = app.get(&format!("{GRID}?cursor={cursor}")).send().await.expect(200).json();
    assert_eq!(page["data"][0]["name"], "Root token");
    let _ = operator();
}

/// L3: a name that very many tokens have gets counters of its own, and they stay right.
#[tokio::test]
async fn totals_of_a_name_that_very_many_have() {
    let app = TestApp::new().await;
    let by = caller(&app, &app.sandbox).await.may_manage().unwrap();
    let reads = reader(&app, &app.sandbox).await;
    let mut model = Vec::new();
    let grow = async |count: usize, model: &mut Vec<Token>| {
        for n in 0..count {
            app.clock.advance(Duration::from_millis([0, 30, 5_000, 400_000][n % 4]));
            let token = create(&app, &by, if n % 10 == 0 { "rare" } else { "many" }).await;
            if n % 9 == 0 {
                app.authority.revoke_token(&by, token.id).await.unwrap();
            } else {
                model.push(token);
            }
        }
    };
    // Before there are counters, when they are made, and as tokens come and go behind them.
    for count in [100, 2_500, 300] {
        grow(count, &mut model).await;
        for name in ["many", "rare"] {
            for (from, until) in [(0, usize::MAX), (7, usize::MAX), (0, model.len() / 2), (40, model.len() - 3), (50, 50)] {
                let at = |i: usize, none: Timestamp| model.get(i).map_or(none, |token| token.created_at());
                let name = TokenName::parse("name", name).unwrap();
                let filter = TokenFilter { name: Some(name.clone()), from: at(from, Timestamp::MIN), until: at(until, Timestamp::MAX) };
                let expected =
                    model.iter().filter(|t| t.name == name && t.created_at() >= filter.from && t.created_at() <= filter.until).count();
                let page = app.authority.list_tokens(&reads, list(filter, None, 1)).await.unwrap();
                assert_eq!(page.total, Some(expected as u64), "{name} {from} {until}");
            }
        }
    }
    let counted = |which: &str| database::number(app.directory.path(), &format!("SELECT count(*) FROM counted_name{which}"));
    assert_eq!((counted(""), counted(" WHERE name = 'many'")), (1, 1));
}
