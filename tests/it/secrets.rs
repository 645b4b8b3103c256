//! Secrets: in the 201 that made them and nowhere else. (Every test's answers and log are checked too, in `support`.)

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::support::{BLIPS, GRID, TestApp, database};

/// S-01, S-04: no piece of any secret in any file of the data directory, or in any row of PostgreSQL.
#[tokio::test]
async fn s_01_no_piece_of_a_secret_in_any_file() {
    let app = TestApp::new().await;
    let mut pairs = vec![app.sandbox.clone(), app.production.clone()];
    for n in 0..100 {
        let (path, permission) = if n % 2 == 0 { (GRID, "VIEW") } else { (BLIPS, "view") };
        let request =
            app.post(path).header("idempotency-key", &format!("zq-key-{n}")).json(&json!({ "name": "a", "permissions": [permission] }));
        let pair = request.send().await.expect(201).pair();
        app.get(GRID).auth(&pair).send().await.expect(200);
        if n % 3 == 0 {
            app.delete(&format!("{GRID}/{}", pair.id)).send().await.expect(204);
        }
        pairs.push(pair);
    }
    app.authority.flush().await.unwrap();
    app.authority.record_denials().await.unwrap();
    let paths = fs::read_dir(app.directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| !path.is_dir() && !path.ends_with("ballast"));
    let mut searched: Vec<_> = files.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect();
    if database::postgres().is_some() {
        searched.push(("PostgreSQL".to_owned(), database::contents(app.directory.path()).into_bytes()));
    }
    for (name, contents) in &searched {
        let pieces: std::collections::HashSet<&[u8]> = contents.windows(12).collect();
        for pair in &pairs {
            let random = &pair.secret.as_bytes()[11..];
            assert!(random.windows(12).all(|piece| !pieces.contains(piece)), "a piece of a secret in {name}");
            let blob = STANDARD.encode(format!("{}:{}", pair.client_id, pair.secret));
            assert!(blob.as_bytes()[70..].windows(12).all(|piece| !pieces.contains(piece)));
        }
        assert!(!contents.windows(6).any(|piece| piece == b"zq-key"), "an idempotency key is stored");
    }
    // Rows without their indexes and logs are less.
    let least = if database::postgres().is_some() { 50_000 } else { 100_000 };
    assert!(searched.iter().map(|(_, contents)| contents.len()).sum::<usize>() > least, "nothing was searched");
}

/// S-04: what the schema must not let in, tried.
#[tokio::test]
async fn s_04_constraints_hold() {
    let app = TestApp::new().await;
    app.token("a", &["VIEW"]).await;
    let tokens = || database::number(app.directory.path(), "SELECT count(*) FROM token");
    let before = tokens();
    let columns = "platform_id, environment, name, permissions, issuer, revocable, revoked_at, key_id, proof";
    let copy = |id: &str, replace: &str, with: &str| {
        let values = columns
            .split(", ")
            .map(|column| if column == replace { with.to_owned() } else { column.to_owned() })
            .collect::<Vec<_>>()
            .join(", ");
        format!("INSERT INTO token (id, {columns}) SELECT {id}, {values} FROM token WHERE name = 'a'")
    };
    // What SQLite says, and PostgreSQL's code.
    let (unique, check, reference) = (("UNIQUE", "23505"), ("CHECK", "23514"), ("FOREIGN KEY", "23503"));
    for (statement, (word, code)) in [
        (copy("id", "", ""), unique),
        // The platform's id is none of a token.
        (copy("platform_id", "proof", "x'000000'"), check),
        // An id has a type there, which is not that of bytes.
        (copy("x'00'", "", ""), ("CHECK", "22P02")),
        ("UPDATE token SET proof = x'00' WHERE name = 'a'".to_owned(), check),
        ("UPDATE token SET proof = 'text' WHERE name = 'a'".to_owned(), ("TEXT", "23514")),
        ("UPDATE token SET environment = 'test' WHERE name = 'a'".to_owned(), check),
        ("UPDATE token SET revoked_at = -1 WHERE name = 'a'".to_owned(), check),
        ("UPDATE token SET key_id = 9 WHERE name = 'a'".to_owned(), reference),
        ("UPDATE token SET platform_id = id WHERE name = 'a'".to_owned(), reference),
        ("DELETE FROM platform".to_owned(), reference),
        ("INSERT INTO installation (one, id, created_at) SELECT 2, id, 0 FROM installation".to_owned(), check),
    ] {
        let refused = database::try_edit(app.directory.path(), &statement).unwrap_err();
        let what = if database::postgres().is_some() { code } else { word };
        assert!(refused.contains(what), "{statement}: {refused}");
    }
    assert_eq!(tokens(), before);
}

/// S-05: a secret that is printed, copied, compared or serialized does not compile. (As assertions on the types rather
/// than as programs that fail to compile: those would build everything a second time.)
mod s_05 {
    use countersign::domain::{ClientSecret, Presented, SecretBody, SecretDigest};
    use static_assertions::assert_not_impl_any;

    assert_not_impl_any!(ClientSecret: std::fmt::Display, Clone, PartialEq, serde::Serialize, AsRef<str>);
    assert_not_impl_any!(SecretDigest: std::fmt::Display, PartialEq, serde::Serialize);
    assert_not_impl_any!(Presented: std::fmt::Display, Clone, PartialEq, serde::Serialize);
    assert_not_impl_any!(SecretBody: std::fmt::Display, std::fmt::Debug, Clone, PartialEq, serde::Serialize, AsRef<[u8]>);
}
