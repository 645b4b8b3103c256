//! What operators' machines read of a server.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;

use crate::support::{GRID, Listening, Pair, TestApp, program::exchange};

/// A page's samples: the value of each by its name and labels.
fn samples(page: &str) -> BTreeMap<&str, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').map(|(name, value)| (name, value.parse().unwrap())).unwrap()).collect()
}

/// The names of a page: of its samples, without what each histogram's have besides.
fn names(page: &str) -> BTreeSet<String> {
    let described = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let name = |line: &str| {
        let (name, kind) = line.split_once(' ').unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            "gauge" | "histogram" => "",
            other => panic!("{other}"),
        };
        format!("{name}{suffix}")
    };
    described.map(name).collect()
}

/// The first cells of the manual's tables.
fn documented() -> BTreeSet<String> {
    let manual = include_str!("../../docs/metrics.md").split("## Alerts").next().unwrap();
    let cells = manual.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').nth(1).unwrap());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(|name| name.split('{').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_name_is_documented_and_every_documented_one_is_there() {
    let app = TestApp::new().await;
    app.authority.follow().await.unwrap();
    app.get(GRID).send().await.expect(200);
    let page = app.metrics().await;
    let mut names = names(&page);
    // Where heads are written; `tests/external/monitoring.py` has a server that does.
    names.insert("countersign_audit_head_age_seconds".to_owned());
    assert_eq!(names, documented());
    assert!(page.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_verification_is_counted_once_by_what_became_of_it_in_whichever_way_it_came() {
    let listening = Listening::new().await;
    let app = &listening.app;
    let token = app.token("ci", &["VIEW"]).await;
    let wrong = Pair { secret: app.sandbox.secret.clone(), ..token.clone() };
    for (path, pair, outcome) in [
        ("/verify", Some(&token), "accepted"),
        ("/verify?require=MANAGE", Some(&token), "forbidden"),
        ("/verify", Some(&wrong), "refused"),
        ("/verify", None, "refused"),
        ("/verify?require=bogus", Some(&token), "unavailable"),
    ] {
        let authorization = pair.map_or_else(String::new, |pair| format!("Authorization: {}\r\n", pair.basic()));
        for (way, field) in [("plain", ""), ("by the library", "Upgrade: any\r\n")] {
            let before = app.metrics().await;
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}{field}Connection: close\r\n\r\n");
            let request = if way == "plain" { request.replace("Connection: close\r\n", "") + "end\r\n\r\n" } else { request };
            let api = listening.api;
            tokio::task::spawn_blocking(move || exchange(api, request.as_bytes())).await.unwrap();
            let after = app.metrics().await;
            let (before, after) = (samples(&before), samples(&after));
            let news: Vec<_> = after
                .iter()
                .filter(|(name, value)| name.starts_with("countersign_verifi") && before.get(*name) != Some(*value))
                .map(|(name, value)| (*name, value - before.get(name).unwrap_or(&0.0)))
                .collect();
            let is = |name: &str| news.iter().any(|(of, more)| *of == name && *more == 1.0);
            let label = format!("{{outcome=\"{outcome}\"}}");
            assert!(is(&format!("countersign_verifications_total{label}")), "{way}, {path}: {news:?}");
            assert!(is(&format!("countersign_verification_duration_seconds_count{label}")), "{way}, {path}: {news:?}");
            let infinite = format!("countersign_verification_duration_seconds_bucket{{le=\"+Inf\",outcome=\"{outcome}\"}}");
            assert!(is(&infinite), "{way}, {path}: {news:?}");
            let others = news.iter().filter(|(name, _)| !name.contains(outcome));
            assert_eq!(others.count(), 0, "{way}, {path}: {news:?}");
        }
    }
}

#[tokio::test]
async fn requests_are_counted_by_their_route_and_never_by_what_is_in_the_path() {
    let app = TestApp::new().await;
    let token = app.token("ci", &["VIEW"]).await;
    app.get(&format!("{GRID}/{}", token.id)).send().await.expect(200);
    app.get(&format!("{GRID}/{}", token.id)).anonymous().send().await.expect(401);
    app.get("/hunter2/elsewhere").send().await.expect(404);
    app.request(Method::from_bytes(b"HUNTER2").unwrap(), GRID).send().await.expect(405);
    app.get("/verify").auth(&token).send().await.expect(200);
    let page = app.metrics().await;
    let found = samples(&page);
    let route = "/grid/2025-10-13/tokens";
    for (name, count) in [
        (format!("requests_total{{method=\"GET\",route=\"{route}/{{token_id}}\",status=\"200\"}}"), 1.0),
        (format!("requests_total{{method=\"GET\",route=\"{route}/{{token_id}}\",status=\"401\"}}"), 1.0),
        (format!("request_duration_seconds_count{{method=\"GET\",route=\"{route}/{{token_id}}\"}}"), 2.0),
        (format!("requests_total{{method=\"POST\",route=\"{route}\",status=\"201\"}}"), 1.0),
        ("requests_total{method=\"GET\",route=\"-\",status=\"404\"}".to_owned(), 1.0),
        ("http_responses_total{status=\"404\"}".to_owned(), 1.0),
        // The one above, and the verification.
        ("http_responses_total{status=\"200\"}".to_owned(), 2.0),
    ] {
        assert_eq!(found.get(format!("countersign_{name}").as_str()), Some(&count), "{name}: {page}");
    }
    assert!(!page.to_lowercase().contains("hunter2") && !page.contains(&token.id) && !page.contains("route=\"/verify"), "{page}");
    assert!(page.contains("method=\"other\""), "{page}");
}

#[tokio::test]
async fn the_age_of_the_lease_and_of_heads_grow_until_they_are_renewed() {
    let app = TestApp::new().await;
    app.authority.follow().await.unwrap();
    let figure = async |name: &str| samples(&app.metrics().await).get(name).copied();
    assert_eq!(figure("countersign_lease_age_seconds").await, Some(0.0));
    assert_eq!(figure("countersign_lease_holds").await, Some(1.0));
    app.clock.advance(std::time::Duration::from_millis(2500));
    assert_eq!(figure("countersign_lease_age_seconds").await, Some(2.5));
    assert_eq!(figure("countersign_lease_holds").await, Some(0.0));
    app.authority.follow().await.unwrap();
    assert_eq!(figure("countersign_lease_age_seconds").await, Some(0.0));
    assert!(figure("countersign_store_commit_duration_seconds_count").await.unwrap() >= 1.0);
    assert!(figure("countersign_store_read_duration_seconds_count").await.unwrap() >= 1.0);
    assert_eq!(figure("countersign_store_writes_waiting").await, Some(0.0));
    assert!(figure("process_resident_memory_bytes").await.unwrap() > 1e6);
}
