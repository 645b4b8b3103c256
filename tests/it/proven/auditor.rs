//! What somebody is given who has neither the server key nor the database: exports, proofs, public keys.

use super::*;

#[tokio::test]
async fn l_06_an_export_is_the_log_and_nothing_else() {
    let (app, elsewhere) = log().await;
    let (other, _) = app.another_platform("Other").await;
    app.token("\u{202e}=1\n", &["VIEW"]).await;
    let all = lines(&app, Export::default()).await;
    assert_eq!(all.len(), 13);
    let read: Vec<Value> = all.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(read.iter().zip(1..).all(|(entry, seq)| entry["seq"] == seq));
    assert_eq!(read[12]["detail"], "{\"name\":\"\u{202e}=1\",\"permissions\":[\"VIEW\"]}");
    assert!(all.iter().all(|line| line.bytes().all(|byte| (b' '..=b'~').contains(&byte))));

    // Page by page, and by platform: of another one there is nothing.
    assert_eq!(lines(&app, Export { after_seq: 9, ..Export::default() }).await, all[9..]);
    for (platform, count) in [(app.platform.id, 10), (other.id, 3)] {
        let own = lines(&app, Export { platform: Some(platform), ..Export::default() }).await;
        assert!(own.len() == count && own.iter().all(|line| line.contains(&platform.to_string())), "{own:?}");
    }
    let strange = countersign::domain::PlatformId::parse("Platform:00000000-0000-7000-8000-000000000000").unwrap();
    assert!(lines(&app, Export { platform: Some(strange), ..Export::default() }).await.is_empty());
    let moment = |millis: i64| countersign::domain::Timestamp::from_millis(crate::support::START + millis);
    assert_eq!(lines(&app, Export { before: Some(moment(-1)), ..Export::default() }).await.len(), 0);
    assert_eq!(lines(&app, Export { after: Some(moment(0)), before: Some(moment(0)), ..Export::default() }).await.len(), 13);
    drop(elsewhere);
}

#[tokio::test]
async fn l_04_every_entry_can_be_proven() {
    let (app, elsewhere) = log().await;
    let (database, keys) = (database::of(app.directory.path()), keys(&app));
    for seq in 1..=9 {
        let (fresh, kept) = (prove(&database, &keys, seq, None, &*app.clock).await.unwrap(), elsewhere.heads());
        let proof = prove(&database, &keys, seq, Some(&kept), &*app.clock).await.unwrap();
        assert_eq!((&proof.entry, &proof.path), (&fresh.entry, &fresh.path));
        assert!(proof.entry.starts_with(&format!("{{\"seq\":{seq},")) && elsewhere.text().contains(&proof.head));
    }
    for seq in [0, 10] {
        let refused = prove(&database, &keys, seq, None, &*app.clock).await.unwrap_err();
        assert_eq!(refused, "seq must be the place of an audit entry: the log has those from 1 to 9");
    }
    let early = heads(elsewhere.text().lines().next().unwrap());
    assert!(prove(&database, &keys, 7, Some(&early), &*app.clock).await.unwrap_err().contains("must have one of a log that has entry 7"));
    attack(&app, "UPDATE audit SET detail = '{}' WHERE seq = 2");
    assert!(prove(&database, &keys, 5, None, &*app.clock).await.unwrap_err().contains("ask countersign audit verify"));
}

fn verify_py(arguments: &[&Path]) -> (Option<i32>, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/audit/verify.py");
    let output = Command::new("python3").arg(script).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// What an auditor does who has neither the server key nor the database.
#[test]
fn l_04_an_auditor_needs_nothing_but_the_public_key() {
    let data = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (data, at) = (data.path(), |name: &str| elsewhere.path().join(name));
    let (platform, [root, _]) = create_platform(data, "Acme");
    let sink = format!("file:{}", at("heads.jsonl").display());
    let server = Server::start_with(data, &["--audit-head", &sink]);
    for name in ["=1+1", "b", "c", "d"] {
        let body = json!({ "name": name, "permissions": ["VIEW"] });
        assert_eq!(server.send("POST", GRID, &root, &body).0, 201);
    }
    server.signal("-TERM");
    assert_eq!(server.wait().0, Some(0));
    let kept = fs::read_to_string(at("heads.jsonl")).unwrap();
    assert!(kept.lines().last().unwrap().contains("\"size\":7,"), "the last one is written at the end: {kept}");

    let stdout = |arguments: &[&str]| {
        let output = run(data, arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let heads = at("heads.jsonl");
    let heads_flag = ["--heads", heads.to_str().unwrap()];
    let whole = stdout(&[&["audit", "verify"], &heads_flag[..]].concat());
    assert!(whole.contains("read 7 audit entries") && whole.contains("the newest of 7 entries"), "{whole}");
    let none = stdout(&["audit", "verify"]);
    assert!(none.contains("no head was given that could be checked"), "{none}");
    let log = stdout(&["audit", "export"]);
    fs::write(at("log.jsonl"), &log).unwrap();
    fs::write(at("keys.pem"), stdout(&["audit", "key"])).unwrap();
    let (proof, export) = (Path::new("proof"), Path::new("export"));
    for seq in 1..=7 {
        fs::write(at("proof.json"), stdout(&["audit", "prove", &seq.to_string(), "--head", heads.to_str().unwrap()])).unwrap();
        let (code, said) = verify_py(&[proof, &at("keys.pem"), &at("proof.json")]);
        assert!(code == Some(0) && said.contains(log.lines().nth(seq - 1).unwrap()), "{said}");
    }
    let (code, said) = verify_py(&[export, &at("keys.pem"), &at("heads.jsonl"), &at("log.jsonl")]);
    assert!(code == Some(0) && said.starts_with("7 entries are those that were signed"), "{said}");

    // Anything else is refused.
    let mut document: Value = serde_json::from_slice(&fs::read(at("proof.json")).unwrap()).unwrap();
    document["entry"] = document["entry"].as_str().unwrap().replace("token.create", "token.revoke").into();
    fs::write(at("proof.json"), document.to_string()).unwrap();
    let (code, said) = verify_py(&[proof, &at("keys.pem"), &at("proof.json")]);
    assert!(code == Some(1) && said.contains("is not in the log"), "{said}");
    document["head"] = document["head"].as_str().unwrap().replace("\"size\":7", "\"size\":6").into();
    fs::write(at("proof.json"), document.to_string()).unwrap();
    assert!(verify_py(&[proof, &at("keys.pem"), &at("proof.json")]).1.contains("signed by none of these keys"));
    for (edited, says) in [
        (log.replacen("token.create", "token.revoke", 1), "is not the one that was signed"),
        (log.lines().take(6).map(|line| format!("{line}\n")).collect(), "entry 7 is missing"),
        (log.lines().skip(1).map(|line| format!("{line}\n")).collect(), "entry 1 is missing"),
    ] {
        fs::write(at("log.jsonl"), edited).unwrap();
        let (code, said) = verify_py(&[export, &at("keys.pem"), &at("heads.jsonl"), &at("log.jsonl")]);
        assert!(code == Some(1) && said.contains(says), "{said}");
    }

    // The other format, and one platform alone.
    let csv = stdout(&["audit", "export", "--format", "csv", "--platform", &platform]);
    assert!(csv.starts_with("seq,at,action,") && csv.split("\r\n").count() == 9, "{csv}");

    // A new database in the place of this one, with the same key file: whatever is in it is not what was signed.
    let new = tempfile::tempdir().unwrap();
    fs::copy(data.join("keys.json"), new.path().join("keys.json")).unwrap();
    create_platform(new.path(), "Acme");
    let refused = run(new.path(), &[&["audit", "verify"], &heads_flag[..]].concat());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && said.contains("is of another database, which had this key file"), "{said}");

    // The configuration says where heads are.
    database::edit(data, "DELETE FROM audit WHERE seq = 3");
    let mut command = program_on(data);
    command.args(["audit", "verify", "--output", "json", "--data"]).arg(data).env("COUNTERSIGN_AUDIT_HEAD", &sink).stdin(Stdio::null());
    let output = command.output().unwrap();
    let (json, said): (Value, _) = (serde_json::from_slice(&output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), &json["intact"], &json["problems"][0]["seq"]), (Some(1), &json!(false), &json!(3)));
    assert_eq!(said, "countersign: audit entry 3 is missing: there is a gap\n");
}
