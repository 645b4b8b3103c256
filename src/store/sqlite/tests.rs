use super::*;
use crate::{
    domain::{Liveness, Order},
    store::Database,
};

fn open(data: &Path) -> Result<Sqlite, Error> {
    let location = Location { database: Database::Sqlite(data.to_owned()), create: true, node: "0000000000000000".to_owned() };
    Sqlite::open(data, &location)
}

#[test]
fn d_03_weaker_settings_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    let connection = connect(&directory.path().join(FILE)).unwrap();
    check_settings(&connection).unwrap();
    for weaker in ["PRAGMA synchronous = NORMAL", "PRAGMA synchronous = OFF", "PRAGMA foreign_keys = OFF"] {
        let connection = connect(&directory.path().join(FILE)).unwrap();
        connection
            .query_row(weaker, [], |_| Ok(()))
            .or_else(|e| if e == rusqlite::Error::QueryReturnedNoRows { Ok(()) } else { Err(e) })
            .unwrap();
        assert!(matches!(check_settings(&connection), Err(Error::Unfit(_))), "{weaker}");
    }
    drop(connection);
    let connection = connect(&directory.path().join(FILE)).unwrap();
    connection.pragma_update(None, "journal_mode", "DELETE").unwrap();
    assert!(matches!(check_settings(&connection), Err(Error::Unfit(_))));
    assert!(rusqlite::version_number() >= LEAST_SQLITE);
}

/// Or a disk that fails, or takes nothing, would not show.
#[tokio::test]
async fn d_04_whoever_asks_whether_changes_can_be_made_has_one_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    store.insert_installation([7; 16], Timestamp::from_millis(7)).await.unwrap();
    let written = || fs::metadata(directory.path().join("countersign.db-wal")).unwrap().len();
    let before = written();
    store.probe().await.unwrap();
    assert!(written() > before);
    let at: i64 = connect(&store.file).unwrap().query_row("SELECT created_at FROM installation", [], |row| row.get(0)).unwrap();
    assert_eq!(at, 7);
}

#[test]
fn only_the_owner_reads_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("made/here");
    drop(open(&data).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join(FILE))), (0o700, 0o600));
}

#[test]
fn u_01_a_migration_that_is_cut_off_is_done_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    {
        let mut connection = Connection::open(&file).unwrap();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive).unwrap();
        transaction.execute_batch(&MIGRATIONS[0].1[..MIGRATIONS[0].1.find("CREATE TABLE token ").unwrap()]).unwrap();
        // The process ends here: nothing is committed.
    }
    drop(open(directory.path()).unwrap());
    let connection = connect(&file).unwrap();
    assert!(connection.table_exists(None, "replay").unwrap());
}

/// What every list query does, as SQLite plans it: a search of the index that ends in the id, never a scan or a sort.
#[test]
fn the_plans_of_list_queries() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    let connection = connect(&directory.path().join(FILE)).unwrap();
    let mut plans = String::new();
    for (liveness, order) in [
        (Liveness::Live, Order::NewestFirst),
        (Liveness::All, Order::OldestFirst),
        (Liveness::Live, Order::OldestFirst),
        (Liveness::All, Order::NewestFirst),
    ] {
        for named in [false, true] {
            let sql = format!("EXPLAIN QUERY PLAN {}", sql::list_statement(liveness, order, named));
            let mut statement = connection.prepare(&sql).unwrap();
            let steps = statement.raw_query().mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>().unwrap();
            plans.push_str(&format!("{liveness:?} {order:?}{}: {}\n", if named { " by name" } else { "" }, steps.join("; ")));
        }
    }
    insta::assert_snapshot!(plans, @"
    Live NewestFirst: SEARCH t USING INDEX token_live_of_scope (platform_id=? AND environment=? AND id>? AND id<?)
    Live NewestFirst by name: SEARCH t USING INDEX token_live_of_name (platform_id=? AND environment=? AND name=? AND id>? AND id<?)
    All OldestFirst: SEARCH t USING INDEX token_of_scope (platform_id=? AND environment=? AND id>? AND id<?)
    All OldestFirst by name: SEARCH t USING INDEX token_of_scope (platform_id=? AND environment=? AND id>? AND id<?)
    Live OldestFirst: SEARCH t USING INDEX token_live_of_scope (platform_id=? AND environment=? AND id>? AND id<?)
    Live OldestFirst by name: SEARCH t USING INDEX token_live_of_name (platform_id=? AND environment=? AND name=? AND id>? AND id<?)
    All NewestFirst: SEARCH t USING INDEX token_of_scope (platform_id=? AND environment=? AND id>? AND id<?)
    All NewestFirst by name: SEARCH t USING INDEX token_of_scope (platform_id=? AND environment=? AND id>? AND id<?)
    ");
}

/// Neither telling nor forgetting uses looks at the rows of other tokens or times. (Those of a token's addresses are few.)
#[test]
fn the_plans_of_uses() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    let connection = connect(&directory.path().join(FILE)).unwrap();
    let mut plans = String::new();
    for sql in [
        uses::QUARTERS_OF,
        uses::DAYS_OF,
        uses::FORGET_QUARTERS,
        uses::FORGET_DAYS,
        uses::SOURCES_OF,
        uses::TRIM_SOURCES,
        uses::FORGET_SOURCES,
    ] {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.raw_query().mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>().unwrap();
        plans.push_str(&format!("{}\n", steps.join("; ")));
    }
    insta::assert_snapshot!(plans, @"
    CO-ROUTINE span; SETUP; SCAN CONSTANT ROW; RECURSIVE STEP; SCAN span; SCAN span; SEARCH use_quarter USING PRIMARY KEY (quarter=? AND token_id=?)
    CO-ROUTINE span; SETUP; SCAN CONSTANT ROW; RECURSIVE STEP; SCAN span; SCAN span; SEARCH use_day USING PRIMARY KEY (day=? AND token_id=?)
    SEARCH use_quarter USING PRIMARY KEY (quarter=? AND token_id=?); LIST SUBQUERY 2; SEARCH use_quarter USING PRIMARY KEY (quarter<?)
    SEARCH use_day USING PRIMARY KEY (day=? AND token_id=?); LIST SUBQUERY 2; SEARCH use_day USING PRIMARY KEY (day<?)
    SEARCH use_source USING PRIMARY KEY (token_id=?); USE TEMP B-TREE FOR ORDER BY
    SEARCH use_source USING PRIMARY KEY (token_id=? AND address=?); LIST SUBQUERY 1; SEARCH use_source USING PRIMARY KEY (token_id=?); USE TEMP B-TREE FOR ORDER BY
    SEARCH use_source USING PRIMARY KEY (token_id=? AND address=?); LIST SUBQUERY 2; SEARCH use_source USING COVERING INDEX use_source_by_age (last_at<?)
    ");
}

#[tokio::test]
async fn a_job_that_fails_harms_no_neighbour() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let jobs = (0..50_u32).map(|n| {
        store.write(move |batch| {
            batch.connection.execute("INSERT INTO canary (key_id, mac) VALUES (?1, zeroblob(32))", [n])?;
            if n % 7 == 3 { Err(Error::Corrupt("told to fail".to_owned())) } else { Ok(n) }
        })
    });
    let results = futures_util::future::join_all(jobs).await;
    let committed: Vec<_> = results.into_iter().flatten().collect();
    let stored: Vec<_> = store.list_canaries().await.unwrap().into_iter().map(|canary| canary.key).collect();
    assert_eq!(committed, stored);
    assert_eq!(committed.len(), 43);
}

#[tokio::test]
async fn a_job_that_panics_is_a_failure_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let panicking = store.write(|_| -> Result<(), Error> { panic!("told to panic") }).await;
    assert!(matches!(panicking, Err(Error::Unavailable(_))));
    store.probe().await.unwrap();
}

/// Jobs of one batch share what they have found out, and what has changed since.
#[tokio::test]
async fn an_end_in_the_same_batch_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let id = TokenId(uuid::Uuid::from_u128(7));
    let answers = store.write(move |batch| {
        batch.connection.execute_batch(
            "INSERT INTO canary VALUES (1, zeroblob(32), NULL); INSERT INTO platform VALUES (zeroblob(16), 'p', 0, NULL, 1, zeroblob(32));
             INSERT INTO token VALUES (x'00000000000000000000000000000007', zeroblob(16), 'sandbox', 'a', 'VIEW', 'operator_issued', 1, NULL, 1, zeroblob(68))",
        )?;
        let before = (batch.is_live(id)?, batch.is_live(id)?);
        batch.something_ends();
        batch.connection.execute("UPDATE token SET revoked_at = 1", [])?;
        Ok((before, batch.is_live(id)?))
    });
    assert_eq!(answers.await.unwrap(), ((true, true), false));
}

/// A process knows what it creates, but its feed must not be ahead of its index: what it ends it follows like everybody.
#[tokio::test]
async fn a_process_follows_its_own_ends() {
    use crate::domain::{Actor, Environment, RequestInfo};
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let (id, platform) = (TokenId(uuid::Uuid::from_u128(7)), PlatformId(uuid::Uuid::nil()));
    let scope = Scope { platform, environment: Environment::Sandbox };
    let entry = move |action| AuditEntry {
        at: Timestamp::MIN,
        action,
        actor: Actor::System,
        platform: Some(platform),
        scope: Some(scope),
        token: Some(id),
        request: RequestInfo::default(),
        detail: "{}".to_owned(),
    };
    struct Seals;
    impl crate::store::SealEntries for Seals {
        fn is_taken_in(&self, _: &crate::store::Mark, _: &crate::store::Seal) -> bool {
            false
        }

        fn seal_entry(&self, before: &Mark, _: &str, _: &AuditEntry) -> crate::store::Seal {
            crate::store::Seal { key: 1, mac: [u8::try_from(before.seq).unwrap() + 1; 32] }
        }
    }
    store.log().seal_with(Arc::new(Seals));
    let made = store.write(|batch| {
        batch.connection.execute_batch(
            "INSERT INTO canary VALUES (1, zeroblob(32), NULL); INSERT INTO platform VALUES (zeroblob(16), 'p', 0, NULL, 1, zeroblob(32));
             INSERT INTO token VALUES (x'00000000000000000000000000000007', zeroblob(16), 'sandbox', 'a', 'VIEW', 'operator_issued', 1, NULL, 1, zeroblob(68))",
        )?;
        Ok(())
    });
    made.await.unwrap();
    store.insert_audit_entry(entry(Action::TokenCreate)).await.unwrap();
    let created = store.changes_after(Mark::START).unwrap();
    assert_eq!((created.through.seq, created.tokens.len()), (1, 0), "it made that itself");
    let end = move |before: &Record| {
        let mut after = before.clone();
        after.token.revoked_at = Some(Timestamp::MIN);
        Decision::Write(after, entry(Action::TokenRevoke))
    };
    store.change_token(scope, id, end).await.unwrap();
    let ended = store.changes_after(created.through).unwrap();
    assert_eq!(ended.through.seq, 2);
    assert!(ended.tokens.iter().map(|record| record.token.id).eq([id]) && ended.tokens[0].token.revoked_at.is_some());
}
