//! C1 and C2: creating tokens.

use std::{path::Path, sync::Arc, time::Duration};

use countersign::{
    authority::{Authority, Entropy as _, SystemClock, SystemEntropy},
    domain::{MayManage, NewToken, Permissions, Timestamp, TokenId},
};
use rusqlite::{Connection, params};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Args, Outcome,
    dataset::{self, BURST, Dataset, caller, named},
    list::{TARGET, against},
    load::{Load, request},
    peers::better_auth,
    report::{Bound, Table, Verdicts, note, now, number, take_turns},
    server::Server,
};

/// Callers that wait at the same time.
const WAITING: usize = 64;
/// Rows of a turn.
pub(crate) const ROWS: usize = 500 * WAITING;
/// What a server's lease is by default.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// C1: durable creates by 64 clients, against the peer's. Both hold 100,000 tokens at first.
pub(crate) fn over_http(args: &Args) -> Outcome {
    let data = Dataset::of(100_000)?.copy()?;
    let body = r#"{"name":"token","permissions":["VIEW"]}"#;
    let ours = data.credentials.iter().map(|who| request("POST", TARGET, &[("authorization", who)], body)).collect();
    let (peer, users) = better_auth()?;
    let theirs =
        users.iter().map(|(user, _)| request("POST", "/create", &[], &format!(r#"{{"userId":"{user}","name":"token"}}"#))).collect();
    let contenders = [(Server::countersign(&data.directory)?, Load::new(ours)), (peer, Load::new(theirs))];
    against(args, "C1: create over HTTP, durable, 64 clients", contenders, Bound::AtLeast(8.0), Bound::AtLeast(15.0))
}

/// C2: creates in the process by 64 tasks, against the same two rows in transactions of 64.
pub(crate) fn in_process(args: &Args) -> Outcome {
    let runtime = Runtime::new()?;
    let (ours, limit) = (dataset::fresh("authority")?, dataset::fresh("limit")?);
    let authority = runtime.block_on(dataset::open(&ours, Arc::new(SystemClock), Some(LEASE)))?;
    let manager = runtime.block_on(async {
        let root = dataset::make_platform(&authority).await?;
        Outcome::Ok(caller(&authority, &root).await?.may_manage().map_err(|_| "a root token may do everything")?)
    })?;
    let mut connection = open_limit(&limit)?;

    let series = take_turns(args.rounds, &mut [true, false], |ours| {
        if *ours { runtime.block_on(create_rows(&authority, &manager)) } else { insert_rows(&mut connection) }
    })?;
    let [ours, limit] = series.as_slice() else { unreachable!("two contenders") };
    let mut table = Table::new(&["what", "rows/s, median"]);
    table.add(["Authority::create_token, 64 tasks".to_owned(), number(ours.median())]);
    table.add(["the same two rows, one connection, transactions of 64".to_owned(), number(limit.median())]);
    table.print(&format!("C2: create in the process, {ROWS} rows a turn, {} rounds", args.rounds));
    let mut verdicts = Verdicts::new();
    verdicts.add("C2 share of the limit", &ours.over(limit), Bound::AtLeast(0.6), Bound::AtLeast(0.8));
    verdicts.print("C2");
    Ok(())
}

pub(crate) async fn create_rows(authority: &Arc<Authority>, manager: &MayManage) -> Outcome<f64> {
    let began = now();
    let mut tasks = JoinSet::new();
    for _ in 0..WAITING {
        let (authority, manager) = (Arc::clone(authority), manager.clone());
        tasks.spawn(async move {
            for _ in 0..ROWS / WAITING {
                let new = NewToken { name: named("token")?, permissions: Permissions::ALL };
                authority.create_token(&manager, new, None).await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(ROWS as f64 / (now() - began).as_secs_f64())
}

/// The product's schema and its settings, and one row of what tokens refer to.
fn open_limit(directory: &Path) -> Outcome<Connection> {
    let connection = Connection::open(directory.join("limit.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.execute_batch(include_str!("../../migrations/sqlite/0001_authority.sql"))?;
    connection.execute("INSERT INTO canary (key_id, mac) VALUES (1, zeroblob(32))", [])?;
    let platform = "INSERT INTO platform (id, name, created_at, key_id, seal) VALUES (zeroblob(16), 'Bench', 0, 1, zeroblob(32))";
    connection.execute(platform, [])?;
    Ok(connection)
}

/// Inserts rows that were made before, so that nothing but the database is measured.
fn insert_rows(connection: &mut Connection) -> Outcome<f64> {
    let token = "INSERT INTO token (id, platform_id, environment, name, permissions, issuer, revocable, key_id, proof) \
                 VALUES (?1, ?2, 'sandbox', 'token', 'VIEW,TRANSACT,MANAGE', 'platform_self_service', 1, 1, ?3)";
    let audit = "INSERT INTO audit (at, action, actor, platform_id, environment, token_id, request_id, source, node, detail, key_id, seal) \
                 VALUES (?1, 'token.create', 'Token:019542f5-b3e7-7d02-8000-000000000001', ?2, 'sandbox', ?3, '0123abcd-00000001', \
                 '127.0.0.1', '0123456789abcdef', '{\"name\":\"token\",\"permissions\":[\"VIEW\",\"TRANSACT\",\"MANAGE\"]}', 1, ?4)";
    let before: i64 = connection.query_row("SELECT count(*) FROM token", [], |row| row.get(0))?;
    let mut rows = Vec::with_capacity(ROWS);
    for at in 0..ROWS {
        let (mut random, mut proof) = ([0; 10], vec![0; 68]);
        SystemEntropy.fill(&mut random).and_then(|()| SystemEntropy.fill(&mut proof)).map_err(|e| e.0)?;
        let created = BURST + (before + at as i64) / 40;
        let id = TokenId::new(Timestamp::from_millis(created), random);
        rows.push((*id.0.as_bytes(), proof, created));
    }
    let began = now();
    for batch in rows.chunks(WAITING) {
        let transaction = connection.transaction()?;
        for (id, proof, created) in batch {
            transaction.prepare_cached(token)?.execute(params![id, [0u8; 16], proof])?;
            transaction.prepare_cached(audit)?.execute(params![created, [0u8; 16], id, &proof[..32]])?;
        }
        transaction.commit()?;
    }
    let rate = ROWS as f64 / (now() - began).as_secs_f64();
    note(&format!("limit: {} rows/s", number(rate)));
    Ok(rate)
}
