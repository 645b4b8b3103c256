//! C3 and the nodes: what PostgreSQL makes of creates, and what each node asks of it.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use countersign::{
    authority::{Database, Entropy as _, SystemClock, SystemEntropy},
    domain::{Timestamp, TokenId},
};
use tokio::{runtime::Runtime, task::JoinSet};
use tokio_postgres::{Client, NoTls};

use crate::{
    Args, Outcome,
    cluster::Cluster,
    create::{LEASE, ROWS, create_rows},
    dataset::{self, BURST, caller},
    list::TARGET,
    load::{Connection, request},
    report::{Bound, Series, Table, Verdicts, note, now, number, take_turns},
    server::{Server, cpu_of_tree},
};

/// Clients that insert on their own.
const CLIENTS: usize = 16;
/// Processes that follow, in the turns of the nodes.
const NODES: [usize; 4] = [1, 2, 4, 8];
/// Tokens that are revoked in each of these turns.
const REVOKED: usize = 200;

/// C3: creates in the process by 64 tasks, against the same two rows, each pair in a transaction of its own.
pub(crate) fn create(args: &Args) -> Outcome {
    let cluster = Cluster::start(&["shared_buffers=256MB"]);
    let url = cluster.url_at(cluster.port);
    let runtime = Runtime::new()?;
    let directory = dataset::fresh("authority")?;
    let manager = |authority| async move {
        let root = dataset::make_platform(&authority).await?;
        let manager = caller(&authority, &root).await?.may_manage().map_err(|_| "a root token may do everything")?;
        Outcome::Ok((authority, manager))
    };
    let (authority, manager) = runtime.block_on(async {
        manager(dataset::open_in(Database::Postgres(url.clone()), &directory, Arc::new(SystemClock), Some(LEASE)).await?).await
    })?;
    let unbatched = runtime.block_on(Unbatched::open(&url))?;
    let series = take_turns(args.rounds, &mut [true, false], |ours| {
        if *ours { runtime.block_on(create_rows(&authority, &manager)) } else { runtime.block_on(unbatched.insert()) }
    })?;
    let [ours, theirs] = series.as_slice() else { unreachable!("two contenders") };
    let mut table = Table::new(&["what", "rows/s, median"]);
    table.add(["Authority::create_token, 64 tasks".to_owned(), number(ours.median())]);
    table.add([format!("the same two rows by one statement, {CLIENTS} clients"), number(theirs.median())]);
    table.print(&format!("C3: create on PostgreSQL, {ROWS} rows a turn, {} rounds", args.rounds));
    let mut verdicts = Verdicts::new();
    verdicts.add("C3 over unbatched inserts", &ours.over(theirs), Bound::AtLeast(1.5), Bound::AtLeast(2.0));
    verdicts.print("C3");
    Ok(())
}

/// Clients of a schema of their own, with the product's tables.
struct Unbatched {
    clients: Vec<Arc<Client>>,
    seq: Arc<AtomicI64>,
}

impl Unbatched {
    async fn open(url: &str) -> Outcome<Self> {
        let mut clients = Vec::new();
        for at in 0..CLIENTS {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            tokio::spawn(connection);
            if at == 0 {
                let tables = include_str!("../../migrations/postgres/0001_authority.sql");
                client.batch_execute(&format!("CREATE SCHEMA limits; SET search_path = limits; {tables}")).await?;
                let refers = "INSERT INTO canary VALUES (1, decode(repeat('00', 32), 'hex')); \
                              INSERT INTO platform VALUES ('00000000-0000-0000-0000-000000000000', 'Bench', 0, NULL, 1, decode(repeat('00', 32), 'hex'))";
                client.batch_execute(refers).await?;
            }
            client.batch_execute("SET search_path = limits").await?;
            clients.push(Arc::new(client));
        }
        Ok(Self { clients, seq: Arc::default() })
    }

    async fn insert(&self) -> Outcome<f64> {
        let both = "WITH made AS (INSERT INTO token (id, platform_id, environment, name, permissions, issuer, revocable, key_id, proof) \
             VALUES ($1, '00000000-0000-0000-0000-000000000000', 'sandbox', 'token', 'VIEW,TRANSACT,MANAGE', 'platform_self_service', \
             true, 1, $2)) \
             INSERT INTO audit (seq, at, action, actor, platform_id, environment, token_id, request_id, source, node, detail, key_id, seal) \
             VALUES ($3, $4, 'token.create', 'Token:019542f5-b3e7-7d02-8000-000000000001', '00000000-0000-0000-0000-000000000000', \
             'sandbox', $1, '0123abcd-00000001', '127.0.0.1', '0123456789abcdef', \
             '{\"name\":\"token\",\"permissions\":[\"VIEW\",\"TRANSACT\",\"MANAGE\"]}', 1, $5)";
        let began = now();
        let mut tasks = JoinSet::new();
        for client in &self.clients {
            let (client, seq) = (Arc::clone(client), Arc::clone(&self.seq));
            tasks.spawn(async move {
                let insert = client.prepare(both).await?;
                for _ in 0..ROWS / CLIENTS {
                    let (mut random, mut proof) = ([0; 10], [0; 68]);
                    SystemEntropy.fill(&mut random).and_then(|()| SystemEntropy.fill(&mut proof)).map_err(|e| e.0)?;
                    let seq = seq.fetch_add(1, Ordering::Relaxed) + 1;
                    let created = BURST + seq / 40;
                    let id = TokenId::new(Timestamp::from_millis(created), random);
                    client.execute(&insert, &[&id.0, &proof.as_slice(), &seq, &created, &&proof[..32]]).await?;
                }
                Outcome::Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(ROWS as f64 / (now() - began).as_secs_f64())
    }
}

/// What one, two, four and eight processes ask of the database when nothing happens, and for each revoke; and how long a
/// revoke takes.
pub(crate) fn nodes(args: &Args) -> Outcome {
    let cluster = Cluster::start(&["shared_buffers=256MB"]);
    let url = cluster.url_at(cluster.port);
    let first = dataset::fresh("node-0")?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(arguments).env("COUNTERSIGN_DATABASE", &url);
        command
    };
    let made = command(&["platform", "create", "--name", "Bench", "--output", "json", "--data"]).arg(&first).output()?;
    let made: serde_json::Value = serde_json::from_slice(&made.stdout)?;
    let half = |name: &str| made["tokens"][0][name].as_str().unwrap_or_default().to_owned();
    let authorization = dataset::basic(&half("clientId"), &half("clientSecret"));
    let runtime = Runtime::new()?;
    let watcher = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        Outcome::Ok(client)
    })?;
    let committed = || {
        // The counters are as of a moment ago; a new snapshot of them is asked for.
        let sql = "SELECT pg_stat_clear_snapshot(), (SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database())";
        runtime.block_on(watcher.query_one(sql, &[])).map(|row| row.get::<_, i64>(1) as f64)
    };

    let mut table = Table::new(&[
        "nodes",
        "database CPU at rest, ms/s",
        "transactions at rest, 1/s",
        "a node's own CPU at rest, ms/s",
        "database CPU a revoke, ms",
        "revoke p50, ms",
        "p99, ms",
    ]);
    for nodes in NODES {
        let mut servers = Vec::new();
        for at in 0..nodes {
            let directory = dataset::fresh(&format!("node-{at}-of-{nodes}"))?;
            fs::copy(first.join("keys.json"), directory.join("keys.json"))?;
            let mut serve = command(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log", "error", "--data"]);
            servers.push(Server::start("node", serve.arg(&directory))?);
        }
        let database = || cpu_of_tree(cluster.pid());
        let own = || servers.iter().map(Server::cpu).sum::<Outcome<f64>>();
        // Sessions are made, statements prepared.
        std::thread::sleep(Duration::from_secs(3));
        let (began, cpu, transactions, ours) = (now(), database()?, committed()?, own()?);
        std::thread::sleep(args.long_turn());
        let seconds = (now() - began).as_secs_f64();
        let at_rest = (database()? - cpu) / 1000.0 / seconds;
        let (per_second, each) = ((committed()? - transactions) / seconds, (own()? - ours) / 1000.0 / seconds / nodes as f64);

        let mut connections = servers.iter().map(|server| Connection::open(server.address)).collect::<Result<Vec<_>, _>>()?;
        let mut ids = Vec::new();
        for _ in 0..REVOKED {
            let create = request("POST", TARGET, &[("authorization", &authorization)], r#"{"name":"token","permissions":["VIEW"]}"#);
            let answer = String::from_utf8_lossy(connections[0].exchange(&create)?).into_owned();
            let id = answer.split_once("\"id\":\"").and_then(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()));
            ids.push(id.ok_or_else(|| format!("no token was made: {answer}"))?);
        }
        let (began, cpu, mut took) = (now(), database()?, Series::default());
        for (at, id) in ids.iter().enumerate() {
            let revoke = request("DELETE", &format!("{TARGET}/{id}"), &[("authorization", &authorization)], "");
            let asked = now();
            connections[at % nodes].exchange(&revoke)?;
            took.0.push((now() - asked).as_secs_f64() * 1000.0);
        }
        let resting = at_rest * (now() - began).as_secs_f64();
        let a_revoke = ((database()? - cpu) / 1000.0 - resting) / REVOKED as f64;
        table.add([
            nodes.to_string(),
            number(at_rest),
            number(per_second),
            number(each),
            number(a_revoke),
            number(took.median()),
            number(took.quantile(0.99)),
        ]);
        note(&format!("{nodes} nodes"));
    }
    table.print(&format!("Nodes: a rest of {} s, {REVOKED} revokes one after the other, on any of them", args.long_turn().as_secs()));
    Ok(())
}
