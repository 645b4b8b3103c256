//! Changing the server key while everything runs.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign::{
    authority::{Authority, Error},
    domain::{Action, AuditQuery},
};
use serde_json::{Value, json};

use crate::support::{
    self, BLIPS, GRID, Pair, TestApp, database, operator,
    program::{Server, create_platform, program_on, run, run_json, until},
};

/// Keys by id, of which the last one named is active; the others have the state that is said.
pub(crate) fn write_keys(path: &Path, others: &[(u32, &str)], active: u32) {
    let read = || serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let first = read()["keys"].as_array().unwrap().iter().find(|key| key["id"] == 1).unwrap()["root"].clone();
    let root = |id: u32| if id == 1 { first.clone() } else { STANDARD.encode([u8::try_from(id).unwrap(); 32]).into() };
    let key = |id: u32, state: &str| json!({ "id": id, "state": state, "root": root(id) });
    let keys: Vec<_> = others.iter().map(|(id, state)| key(*id, state)).chain([key(active, "active")]).collect();
    fs::write(path, json!({ "version": 1, "keys": keys }).to_string()).unwrap();
}

fn key_of(directory: &Path, name: &str) -> i64 {
    database::number(directory, &format!("SELECT key_id FROM token WHERE name = '{name}'"))
}

/// Another process on the same data, with a key file of its own; it answers in the app's place.
struct Two {
    app: TestApp,
    other: Arc<Authority>,
    files: [std::path::PathBuf; 2],
}

impl Two {
    async fn new() -> Self {
        let mut app = TestApp::new().await;
        let files = ["keys.json", "other.json"].map(|name| app.directory.path().join(name));
        fs::copy(&files[0], &files[1]).unwrap();
        let file = files[1].clone();
        // The app is now the one with the second file; the one before has the first.
        let other = app.try_replace(|options| options.keys = file.into()).await.unwrap();
        Self { app, other, files }
    }

    async fn follow(&self) {
        self.app.authority.follow().await.unwrap();
        self.other.follow().await.unwrap();
    }

    /// Both write what they have noted.
    async fn flush(&self) {
        self.app.authority.flush().await.unwrap();
        self.other.flush().await.unwrap();
    }

    /// Whether the app and the other one take a credential: the status, and what the other one says.
    async fn both_accept(&self, pair: &Pair) {
        self.app.get("/verify").auth(pair).send().await.expect(200);
        assert!(prove(&self.other, pair).await.is_ok());
    }

    async fn both_refuse(&self, pair: &Pair) {
        self.app.get("/verify").auth(pair).send().await.refused(401, "UNAUTHORIZED");
        let refused = prove(&self.other, pair).await.unwrap_err();
        assert!(matches!(refused, countersign::authority::Denied::Refused(_)), "{refused}");
    }
}

async fn prove(authority: &Authority, pair: &Pair) -> Result<countersign::domain::Proven, countersign::authority::Denied> {
    let presented = countersign::domain::Presented::parse_basic(pair.basic().as_bytes());
    authority.prove(presented.as_ref(), None).await
}

async fn retire(authority: &Arc<Authority>, key: u32, force: bool) -> Result<u64, Error> {
    let plan = authority.plan_retirement(&operator(), key).await?;
    let expected = if force { plan.count } else { 0 };
    authority.retire_key(&operator(), key, expected, plan.seq, usize::MAX).await.map(|retired| retired.ended)
}

/// All old tokens verify before, during and after, on both; the new key takes them over as they are used; then the old one
/// goes, and nobody notices.
#[tokio::test]
async fn s_08_rotation_from_one_end_to_the_other() {
    let two = Two::new().await;
    let old = two.app.token("old", &["VIEW"]).await;
    two.follow().await;
    two.both_accept(&old).await;

    // Added, and given to one after the other.
    write_keys(&two.files[0], &[(2, "verify-only")], 1);
    two.other.reload_keys().await.unwrap();
    write_keys(&two.files[1], &[(2, "verify-only")], 1);
    two.app.authority.reload_keys().await.unwrap();
    // Digests are noted with the first use since uses were collected.
    two.flush().await;
    // Activated, and given to one: it seals with the new key, and the other one knows it.
    write_keys(&two.files[1], &[(1, "verify-only")], 2);
    two.app.authority.reload_keys().await.unwrap();
    let new = two.app.token("new", &["VIEW"]).await;
    let directory = two.app.directory.path();
    assert_eq!((key_of(directory, "old"), key_of(directory, "new")), (1, 2));
    for pair in [&old, &new] {
        two.both_accept(pair).await;
    }
    // The other one's active key is the old one still, and does not take back what the newer one has.
    two.flush().await;
    assert_eq!((key_of(directory, "old"), key_of(directory, "new")), (2, 2));
    two.both_accept(&old).await;
    two.flush().await;
    assert_eq!(key_of(directory, "old"), 2);
    write_keys(&two.files[0], &[(1, "verify-only")], 2);
    two.other.reload_keys().await.unwrap();
    two.both_accept(&old).await;

    // One of the roots was not used since; then it is.
    let refused = retire(&two.other, 1, false).await.unwrap_err();
    assert!(matches!(refused, Error::OtherCount(1)), "{refused}");
    two.flush().await;
    for root in [&two.app.sandbox, &two.app.production] {
        two.both_accept(root).await;
    }
    two.flush().await;
    assert_eq!(retire(&two.other, 1, false).await.unwrap(), 0);
    two.follow().await;
    for pair in [&old, &new, &two.app.sandbox, &two.app.production] {
        two.both_accept(pair).await;
    }
    assert_eq!(two.app.authority.figures().live_tokens, 4);
    // Platforms as well, and after a start; the audit log is whole, its older entries under the older key.
    let app = two.app.restart().await;
    app.get("/verify").auth(&old).send().await.expect(200);
    app.authority.set_platform_disabled(&operator(), app.platform.id, true).await.unwrap();
    app.get("/verify").auth(&old).send().await.refused(401, "UNAUTHORIZED");
    assert_eq!((app.authority.figures().tampered, app.authority.figures().keys_lacking), (0, 0));
    let query = AuditQuery { action: Some(Action::KeysRetire), ..AuditQuery::default() };
    assert_eq!(app.authority.list_audit(&operator(), query).await.unwrap().0.len(), 1);
    let backup = app.directory.path().join("backup");
    let (at, keys) = (database::of(app.directory.path()), two.files[1].clone().into());
    assert_eq!(countersign::authority::back_up(&at, &keys, &backup, |_, _| {}).await.unwrap().edited, 0);
}

/// A digest that waits to be written is of a token that ends meanwhile: it stays ended, and its row as it was.
#[tokio::test]
async fn r_03_sealing_anew_brings_nothing_back() {
    let two = Two::new().await;
    let (ended, dead, live) =
        (two.app.token("ended", &["VIEW"]).await, two.app.token("dead", &["VIEW"]).await, two.app.token("live", &["VIEW"]).await);
    two.follow().await;
    for (file, authority) in two.files.iter().zip([&two.other, &two.app.authority]) {
        write_keys(file, &[(1, "verify-only")], 2);
        authority.reload_keys().await.unwrap();
    }
    for pair in [&ended, &dead, &live] {
        two.both_accept(pair).await;
    }
    two.app.delete(&format!("{GRID}/{}", ended.id)).send().await.expect(204);
    two.other.follow().await.unwrap();
    two.other.flush().await.unwrap();
    let directory = two.app.directory.path();
    // `ended` had ended, the others were written by the other one. The app comes later, and learns what stands there.
    assert_eq!((key_of(directory, "ended"), key_of(directory, "live")), (1, 2));
    two.app.authority.flush().await.unwrap();
    two.both_refuse(&ended).await;
    two.both_accept(&live).await;
    // An end of what this process has under both keys, by one that has it under one.
    two.app.post(&format!("{BLIPS}/{}/revoke", dead.id)).send().await.expect(200);
    two.other.follow().await.unwrap();
    two.both_refuse(&dead).await;
    let app = two.app.restart().await;
    app.get("/verify").auth(&ended).send().await.refused(401, "UNAUTHORIZED");
    app.get("/verify").auth(&live).send().await.expect(200);
    assert_eq!(app.authority.figures().tampered, 0);
}

/// The same with a key that is retired meanwhile: what died with it is not taken over by the next one.
#[tokio::test]
async fn r_03_nothing_is_sealed_anew_from_a_retired_key() {
    let two = Two::new().await;
    let (dead, spared) = (two.app.token("dead", &["VIEW"]).await, two.app.token("spared", &["VIEW"]).await);
    two.follow().await;
    for (file, authority) in two.files.iter().zip([&two.other, &two.app.authority]) {
        write_keys(file, &[(1, "verify-only")], 2);
        authority.reload_keys().await.unwrap();
    }
    for pair in [&spared, &two.app.sandbox, &two.app.production] {
        two.both_accept(pair).await;
    }
    two.flush().await;
    // Noted, and not written yet.
    two.both_accept(&dead).await;
    assert_eq!(retire(&two.other, 1, true).await.unwrap(), 1);
    // The app has not followed yet: its lease runs out before the other one would have been answered.
    two.app.authority.flush().await.unwrap();
    assert_eq!(key_of(two.app.directory.path(), "dead"), 1);
    two.follow().await;
    two.both_refuse(&dead).await;
    two.both_accept(&spared).await;
    let query = AuditQuery { action: Some(Action::TokenRevoke), ..AuditQuery::default() };
    let ended = two.app.authority.list_audit(&operator(), query).await.unwrap().0;
    assert_eq!(ended.iter().map(|entry| entry.entry.token.unwrap().to_string()).collect::<Vec<_>>(), [dead.id.as_str()], "exactly those");
    let listed = two.app.get(GRID).send().await.expect(200).json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2, "the root and the other one: {listed}");
}

/// A row as it was before its key was retired, with a genuine seal: whoever has the key could write it.
#[tokio::test]
async fn s_08_a_live_row_under_a_retired_key_is_dead() {
    let two = Two::new().await;
    let token = two.app.token("put back", &["VIEW"]).await;
    let directory = two.app.directory.path();
    database::edit(directory, "CREATE TABLE before AS SELECT id, proof FROM token");
    for (file, authority) in two.files.iter().zip([&two.other, &two.app.authority]) {
        write_keys(file, &[(1, "verify-only")], 2);
        authority.reload_keys().await.unwrap();
    }
    assert_eq!(retire(&two.other, 1, true).await.unwrap(), 3);
    database::edit(directory, "UPDATE token SET revoked_at = NULL, proof = (SELECT proof FROM before b WHERE b.id = token.id)");
    let app = two.app.restart().await;
    for _ in 0..2 {
        app.get("/verify").auth(&token).send().await.refused(401, "UNAUTHORIZED");
    }
    assert_eq!(app.authority.figures().tampered, 0);
    // Said again, it ends again.
    assert_eq!(retire(&two.other, 1, true).await.unwrap(), 3);
}

/// Part by part: all are dead with the first one; and a row that was edited, which is refused in any case, is nobody's to wait for.
#[tokio::test]
async fn s_08_what_lives_by_a_key_ends_part_by_part() {
    let app = TestApp::new().await;
    let tokens = [app.token("a", &["VIEW"]).await, app.token("b", &["VIEW"]).await, app.token("edited", &["VIEW"]).await];
    database::edit(app.directory.path(), "UPDATE token SET name = 'other' WHERE name = 'edited'");
    write_keys(&app.directory.path().join("keys.json"), &[(1, "verify-only")], 2);
    app.authority.reload_keys().await.unwrap();
    let mut ended = Vec::new();
    for (planned, left) in [(4, 1), (1, 0), (0, 0)] {
        let plan = app.authority.plan_retirement(&operator(), 1).await.unwrap();
        assert_eq!((plan.count, plan.first.len() as u64, plan.platforms.values().sum::<u64>()), (planned, planned, planned));
        let retired = app.authority.retire_key(&operator(), 1, planned, plan.seq, 3).await.unwrap();
        assert_eq!((retired.ended, retired.left, retired.of.first.len() as u64), (planned - left, left, planned - left));
        assert_eq!((retired.of.count, &retired.of.platforms), (planned, &plan.platforms));
        ended.extend(retired.of.first.iter().map(|token| token.id.to_string()));
        for pair in tokens.iter().chain([&app.sandbox, &app.production]) {
            app.get("/verify").auth(pair).send().await.refused(401, "UNAUTHORIZED");
        }
    }
    let mut whole = [&app.sandbox.id, &app.production.id, &tokens[0].id, &tokens[1].id].map(String::clone);
    whole.sort();
    assert_eq!(ended, whole, "oldest first");
    let directory = app.directory.path();
    let entries = database::number(directory, "SELECT count(*) FROM audit WHERE action = 'keys.retire'");
    assert_eq!(entries, 1, "one for the whole");
}

/// A server that has an older key as its active one does not end what others make with a newer one.
#[tokio::test]
async fn s_08_what_others_make_with_a_newer_key_is_not_ended() {
    let two = Two::new().await;
    write_keys(&two.files[0], &[(1, "verify-only")], 2);
    two.other.reload_keys().await.unwrap();
    write_keys(&two.files[1], &[(2, "verify-only")], 1);
    two.app.authority.reload_keys().await.unwrap();
    prove(&two.other, &two.app.sandbox).await.unwrap();
    two.other.flush().await.unwrap();
    let refused = retire(&two.app.authority, 2, true).await.unwrap_err();
    assert!(matches!(refused, Error::KeyUsed), "{refused}");
    prove(&two.other, &two.app.sandbox).await.unwrap();
}

/// On a system in use tokens move on between the look and the deed: these live, and the others end all the same.
#[tokio::test]
async fn s_08_who_has_moved_meanwhile_lives() {
    let two = Two::new().await;
    write_keys(&two.files[0], &[(1, "verify-only")], 2);
    two.other.reload_keys().await.unwrap();
    let plan = two.other.plan_retirement(&operator(), 1).await.unwrap();
    assert_eq!(plan.count, 2);
    prove(&two.other, &two.app.sandbox).await.unwrap();
    two.other.flush().await.unwrap();
    let invalid = two.other.retire_key(&operator(), 1, plan.count, u64::MAX, usize::MAX).await.unwrap_err();
    assert!(matches!(invalid, Error::Invalid(_)), "{invalid}");
    let retired = two.other.retire_key(&operator(), 1, plan.count, plan.seq, usize::MAX).await.unwrap();
    assert_eq!((retired.ended, retired.of.count, retired.left), (1, 1, 0));
    assert!(prove(&two.other, &two.app.sandbox).await.is_ok());
    prove(&two.other, &two.app.production).await.unwrap_err();
}

/// Whoever has a retired key as its active one makes nothing that would be dead at birth; and nothing is planned around it.
#[tokio::test]
async fn s_08_nothing_is_made_under_a_retired_key() {
    let two = Two::new().await;
    write_keys(&two.files[0], &[(1, "verify-only")], 2);
    two.other.reload_keys().await.unwrap();
    for root in [&two.app.sandbox, &two.app.production] {
        prove(&two.other, root).await.unwrap();
    }
    two.other.flush().await.unwrap();
    let plan = two.other.plan_retirement(&operator(), 1).await.unwrap();
    assert_eq!(plan.count, 0);
    // The app still has only the old key. What it makes now was not in the plan.
    let late = two.app.authority.create_platform(&operator(), countersign::domain::TokenName::parse("name", "Late").unwrap(), None).await;
    late.unwrap();
    let refused = two.other.retire_key(&operator(), 1, 2, plan.seq, usize::MAX).await.unwrap_err();
    assert!(refused.to_string().contains("tokens are made with that key"), "{refused}");
    assert_eq!(retire(&two.other, 1, true).await.unwrap(), 2);
    // Not followed yet, and then followed.
    for _ in 0..2 {
        let body = json!({ "name": "a", "permissions": ["VIEW"] });
        let by = countersign::domain::PlatformId::parse(&two.app.platform.id.to_string()).unwrap();
        let caller = two.app.authority.locate_platform(&operator(), by, countersign::domain::Environment::Sandbox).await.unwrap();
        let new = countersign::domain::NewToken {
            name: countersign::domain::TokenName::parse("name", body["name"].as_str().unwrap()).unwrap(),
            permissions: countersign::domain::Permissions::ALL,
        };
        let refused = two.app.authority.create_token(&caller.may_manage().unwrap(), new, None).await.unwrap_err();
        assert!(refused.to_string().contains("key 1 is retired"), "{refused}");
        two.app.authority.follow().await.unwrap();
    }
    let refused = two.app.authority.reload_keys().await.unwrap_err();
    assert!(refused.contains("its active key 1 is retired"), "{refused}");
    // With the newer file, all is well.
    fs::copy(&two.files[0], &two.files[1]).unwrap();
    two.app.authority.reload_keys().await.unwrap();
    let (_, [root, _]) = two.app.another_platform("New").await;
    two.app.get("/verify").auth(&root).send().await.expect(200);
}

/// A row under a key that this process lacks: not edited, not a wrong secret, but 503 and a word for the operator; and right
/// as soon as the key is there.
#[tokio::test]
async fn s_08_a_missing_key_is_no_wrong_secret() {
    let two = Two::new().await;
    write_keys(&two.files[0], &[(1, "verify-only")], 2);
    two.other.reload_keys().await.unwrap();
    let name = |name: &str| countersign::domain::TokenName::parse("name", name).unwrap();
    let (platform, roots) = two.other.create_platform(&operator(), name("Elsewhere"), None).await.unwrap();
    let (token, secret) = (&roots[0].token, roots[0].secret.as_ref().unwrap());
    let pair = Pair { id: token.id.to_string(), client_id: token.client_id().to_string(), secret: secret.expose().to_owned() };
    // A platform that the app knows, changed under the new key.
    for disabled in [true, false] {
        two.other.set_platform_disabled(&operator(), two.app.platform.id, disabled).await.unwrap();
    }
    two.app.authority.follow().await.unwrap();
    assert_eq!(two.app.authority.figures().keys_lacking, 1);
    assert!(two.app.metrics().await.contains("countersign_keys_lacking 1\n"));
    for pair in [&pair, &two.app.sandbox] {
        two.app.get("/verify").auth(pair).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    }
    assert!(support::logged().contains("a key is missing in this node's key file"));
    let refused = two.app.authority.set_platform_disabled(&operator(), platform.id, true).await.unwrap_err();
    assert!(refused.to_string().contains("key 2 is missing in this node's key file"), "{refused}");
    // Nor is its entry in the audit log called edited.
    let verified = two.app.authority.verify_audit(&operator(), 0, 1000).await.unwrap_err();
    assert!(verified.to_string().contains("key 2 is missing in this node's key file"), "{verified}");
    assert_eq!(two.app.authority.figures().tampered, 0);

    fs::copy(&two.files[0], &two.files[1]).unwrap();
    two.app.authority.reload_keys().await.unwrap();
    for pair in [&pair, &two.app.sandbox] {
        two.app.get("/verify").auth(pair).send().await.expect(200);
    }
    assert_eq!(two.app.authority.figures().keys_lacking, 0);
    // And an end that came while it was missing is an end.
    two.app.authority.set_platform_disabled(&operator(), platform.id, true).await.unwrap();
    two.app.get("/verify").auth(&pair).send().await.refused(401, "UNAUTHORIZED");
}

/// F-10: whatever is wrong with the file, the keys stay what they are.
#[tokio::test]
async fn f_10_a_bad_key_file_changes_nothing() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    let keys = app.directory.path().join("keys.json");
    let good = fs::read_to_string(&keys).unwrap();
    let of = |id: u32| json!({ "version": 1, "keys": [{ "id": id, "state": "active", "root": STANDARD.encode([2; 32]) }] }).to_string();
    let (other_root, second) = (of(1), of(2));
    let empty_ring = json!({ "version": 1, "keys": [] }).to_string();
    let mut failures = 0;
    let mut refused = async |what: &str, says: &str| {
        let refused = app.authority.reload_keys().await.unwrap_err();
        assert!(refused.contains(says), "{what}: {refused}");
        assert!(!refused.contains(&good[good.len() - 40..good.len() - 20]), "{what}: a piece of a key");
        failures += 1;
        app.get("/verify").auth(&token).send().await.expect(200);
        app.token(&format!("made with {what}"), &["VIEW"]).await;
        assert!(app.metrics().await.contains(&format!("countersign_key_reload_failures_total {failures}\n")), "{what}");
    };
    for (what, text, says) in [
        ("nothing", "", "is not a key file"),
        ("half a file", &good[..good.len() / 2], "is not a key file"),
        ("no key", empty_ring.as_str(), "exactly one active key"),
        ("another root", other_root.as_str(), "belongs to another database"),
        ("another key only", second.as_str(), "lacks key 1"),
    ] {
        fs::write(&keys, text).unwrap();
        refused(what, says).await;
    }
    fs::write(&keys, &good).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).unwrap();
    refused("a file for all", "chmod 600").await;
    fs::remove_file(&keys).unwrap();
    refused("no file", "is missing").await;
    fs::create_dir(&keys).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).unwrap();
    refused("a directory", "no plain file").await;
    fs::remove_dir(&keys).unwrap();
    fs::write(&keys, &good).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    app.authority.reload_keys().await.unwrap();
}

/// A create that is repeated while the active key changes is the same create, at whatever process.
#[tokio::test]
async fn s_08_a_create_is_repeated_across_a_change_of_keys() {
    let two = Two::new().await;
    let body = json!({ "name": "once", "permissions": ["VIEW"] });
    let send = || two.app.post(GRID).header("idempotency-key", "k").json(&body).send();
    let first = send().await.expect(201).pair();
    let cursor = two.app.get(&format!("{GRID}?limit=1")).send().await.json()["nextCursor"].as_str().unwrap().to_owned();
    write_keys(&two.files[1], &[(1, "verify-only")], 2);
    two.app.authority.reload_keys().await.unwrap();
    let again = send().await.expect(201).pair();
    assert_eq!((first.id, first.secret), (again.id, again.secret));
    two.app.get(&format!("{GRID}?cursor={cursor}")).send().await.expect(200);
}

// ---- the program -----------------------------------------------------------------------------------------------------

fn metric(server: &Server, name: &str) -> Option<u64> {
    let page = crate::support::program::exchange(server.admin, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let page = String::from_utf8_lossy(&page).into_owned();
    page.lines().find_map(|line| line.strip_prefix(&format!("countersign_{name} ")).and_then(|value| value.parse().ok()))
}

fn states(data: &Path) -> Vec<(u64, String, u64)> {
    let listed = run_json(data, &["keys", "list"]);
    let key = |key: &Value| (key["id"].as_u64().unwrap(), key["state"].as_str().unwrap().to_owned(), key["liveTokens"].as_u64().unwrap());
    listed["keys"].as_array().unwrap().iter().map(key).collect()
}

/// As docs/operating.md says, with a running server; and bad files in between (F-10).
#[test]
fn s_08_f_10_the_commands_beside_a_server() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, production]) = create_platform(data.path(), "Acme");
    let keys = data.path().join("keys.json");
    let server = Server::start_with(data.path(), &["--flush-interval", "50ms"]);
    assert_eq!(states(data.path()), [(1, "active".to_owned(), 2)]);
    assert_eq!(run_json(data.path(), &["keys", "add"]), json!({ "id": 2, "state": "verify-only" }));
    assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
    until("the key is missed", || metric(&server, "keys_lacking") == Some(1));
    let refused = run(data.path(), &["keys", "retire", "1"]);
    assert!(refused.status.code() == Some(1) && String::from_utf8_lossy(&refused.stderr).contains("active"), "{refused:?}");

    let good = fs::read(&keys).unwrap();
    fs::write(&keys, "{").unwrap();
    server.signal("-HUP");
    until("the file is refused", || metric(&server, "key_reload_failures_total") == Some(1));
    assert_eq!((server.get("/verify", &root).0, metric(&server, "keys_lacking")), (200, Some(1)));
    fs::write(&keys, good).unwrap();
    server.signal("-HUP");
    until("the key is there", || metric(&server, "keys_lacking") == Some(0));

    run_json(data.path(), &["keys", "activate", "2"]);
    assert_eq!(run(data.path(), &["keys", "activate", "9"]).status.code(), Some(1));
    server.signal("-HUP");
    // Used again and again, as tokens are, until the new key has it.
    until("the root is under the new key", || server.get("/verify", &root).0 == 200 && states(data.path())[1].2 == 1);
    assert_eq!(states(data.path()), [(1, "verify-only".to_owned(), 1), (2, "active".to_owned(), 1)]);

    let refused = run(data.path(), &["keys", "retire", "1"]);
    let (listed, why) = (String::from_utf8_lossy(&refused.stdout).into_owned(), String::from_utf8_lossy(&refused.stderr).into_owned());
    assert!(refused.status.code() == Some(1) && why.contains("one live token would end"), "{refused:?}");
    assert!(listed.contains(&production.id) && !listed.contains(&root.id), "{listed}");
    assert_eq!(states(data.path())[0], (1, "verify-only".to_owned(), 1), "refused is not done");
    let retired = run_json(data.path(), &["keys", "retire", "1", "--force"]);
    // True when it returns.
    assert_eq!((server.get("/verify", &production).0, server.get("/verify", &root).0), (401, 200));
    let ended = retired["tokens"].as_array().unwrap();
    assert!(ended.len() == 1 && ended[0]["id"] == *production.id && ended[0]["status"] == "REVOKED", "{retired}");
    assert_eq!((&retired["retired"]["endedCount"], &retired["retired"]["leftCount"]), (&json!(1), &json!(0)));
    assert_eq!(states(data.path()), [(1, "retired".to_owned(), 0), (2, "active".to_owned(), 1)]);
    assert!(fs::read_to_string(&keys).unwrap().contains("\"retired\""));
    assert_eq!(run(data.path(), &["keys", "activate", "1"]).status.code(), Some(1));
    let actions = run_json(data.path(), &["audit", "list"]);
    let of_keys: Vec<_> = actions["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["action"].as_str())
        .filter(|action| action.starts_with("keys."))
        .collect();
    assert_eq!(of_keys, ["keys.retire", "keys.activate", "keys.add"]);
    drop(server);
    let server = Server::start(data.path());
    assert_eq!((server.get("/verify", &production).0, server.get("/verify", &root).0), (401, 200));
}

/// From the environment and from a command: the same key, never told, and not edited.
#[test]
fn s_08_a_key_from_elsewhere() {
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "Acme");
    let (keys, elsewhere) = (data.path().join("keys.json"), data.path().join("elsewhere"));
    fs::rename(&keys, &elsewhere).unwrap();
    let text = fs::read_to_string(&elsewhere).unwrap();
    let root = serde_json::from_str::<Value>(&text).unwrap()["keys"][0]["root"].as_str().unwrap().to_owned();
    let with = |name: &str, value: &str, arguments: &[&str]| {
        let output = program_on(data.path()).args(arguments).arg("--data").arg(data.path()).env(name, value).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains(&root), "the key is told");
        (output.status.code().unwrap(), said)
    };
    let command = format!("cat '{}'", elsewhere.display());
    for (name, value) in [("COUNTERSIGN_KEY", text.as_str()), ("COUNTERSIGN_KEY_COMMAND", command.as_str())] {
        assert_eq!(with(name, value, &["keys", "list"]).0, 0);
        let (code, said) = with(name, value, &["keys", "add"]);
        assert!(code == 2 && said.contains("--key-file FILE"), "{said}");
        with(name, value, &["config", "show"]);
    }
    let (code, said) = with("COUNTERSIGN_KEY_COMMAND", &format!("{command} >&2; exit 7"), &["keys", "list"]);
    assert!(code == 2 && said.contains("exit status: 7"), "{said}");
    assert!(!keys.exists(), "nothing makes a key file of its own");
}
