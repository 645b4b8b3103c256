//! C3, R1 and the nodes: what PostgreSQL makes of creates, how soon nodes know of a revoke, and what each asks of it.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Barrier,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use countersign::{
    authority::{Database, Entropy as _, SystemClock, SystemEntropy},
    domain::{Timestamp, TokenId},
};
use serde_json::Value;
use tokio::{runtime::Runtime, task::JoinSet};
use tokio_postgres::{Client, NoTls};

use crate::{
    Args, Outcome,
    cluster::Cluster,
    create::{LEASE, ROWS, create_rows},
    dataset::{self, BURST, caller},
    list::TARGET,
    load::{Connection, is_accepted, request},
    report::{Bound, Series, Table, Verdicts, note, now, number, take_turns},
    server::{Server, cpu_of_tree},
};

/// Clients that insert on their own.
const CLIENTS: usize = 16;
/// Processes that follow, in the turns of the nodes.
const NODES: [usize; 4] = [1, 2, 4, 8];
/// Tokens that are revoked in each of these turns, and in a round of R1.
const REVOKED: usize = 200;
/// Nodes of R1.
const QUIET: usize = 3;

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

/// What nodes on one database are started with, and asked as.
struct Installation {
    cluster: Cluster,
    url: String,
    keys: PathBuf,
    authorization: String,
}

impl Installation {
    fn make() -> Outcome<Self> {
        let cluster = Cluster::start(&["shared_buffers=256MB"]);
        let (url, first) = (cluster.url_at(cluster.port), dataset::fresh("node-0")?);
        let mut made = Self { cluster, url, keys: first.join("keys.json"), authorization: String::new() };
        let platform = made.command(&["platform", "create", "--name", "Bench", "--output", "json", "--data"]).arg(&first).output()?;
        let platform: Value = serde_json::from_slice(&platform.stdout)?;
        made.authorization = authorization(&platform["tokens"][0]);
        Ok(made)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(arguments).env("COUNTERSIGN_DATABASE", &self.url);
        command
    }

    /// So many nodes, when their sessions are made and their statements prepared.
    fn start(&self, nodes: usize, more: &[&str]) -> Outcome<Vec<Server>> {
        let mut servers = Vec::new();
        for at in 0..nodes {
            let directory = dataset::fresh(&format!("node-{at}-of-{nodes}"))?;
            fs::copy(&self.keys, directory.join("keys.json"))?;
            let mut serve = self.command(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log", "error"]);
            servers.push(Server::start("node", serve.args(more).arg("--data").arg(&directory))?);
        }
        std::thread::sleep(Duration::from_secs(3));
        Ok(servers)
    }

    /// A new token: its id, and how it is presented.
    fn create(&self, connection: &mut Connection) -> Outcome<(String, String)> {
        let create = request("POST", TARGET, &[("authorization", &self.authorization)], r#"{"name":"token","permissions":["VIEW"]}"#);
        let answer = String::from_utf8_lossy(connection.exchange(&create)?).into_owned();
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a body")?;
        let token: Value = serde_json::from_str(body)?;
        Ok((token["id"].as_str().ok_or("no token was made")?.to_owned(), authorization(&token)))
    }

    fn revoke(&self, id: &str) -> Vec<u8> {
        request("DELETE", &format!("{TARGET}/{id}"), &[("authorization", &self.authorization)], "")
    }
}

fn authorization(token: &Value) -> String {
    let half = |name: &str| token[name].as_str().unwrap_or_default();
    dataset::basic(half("clientId"), half("clientSecret"))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// R1: how soon a token that is revoked on one of three nodes is refused by the two others, when nothing else happens.
pub(crate) fn revoke(args: &Args) -> Outcome {
    let installation = Installation::make()?;
    // What is refused here is no attack.
    let servers = installation.start(QUIET, &["--failed-attempts-per-source", "0", "--failed-attempts-per-client", "0"])?;
    let mut connections = servers.iter().map(|server| Connection::open(server.address)).collect::<Result<Vec<_>, _>>()?;
    let (mut all, mut worst) = ([Series::default(), Series::default()], [Series::default(), Series::default()]);
    for round in 1..=args.rounds {
        let mut series = [Series::default(), Series::default()];
        for _ in 0..REVOKED {
            connections.rotate_left(1);
            let (answered, refused) = refused_after(&installation, &mut connections)?;
            series[0].0.push(millis(answered));
            series[1].0.push(millis(refused));
        }
        for (at, series) in series.into_iter().enumerate() {
            worst[at].0.push(series.quantile(0.99));
            all[at].0.extend(series.0);
        }
        note(&format!("round {round} of {}", args.rounds));
    }
    let mut table = Table::new(&["from the request to revoke on", "p50, ms", "p99", "most"]);
    for (name, series) in ["to the end of its answer", "to the end of the other nodes' first refusal"].into_iter().zip(&all) {
        table.add([name.to_owned()].into_iter().chain([0.5, 0.99, 1.0].map(|share| number(series.quantile(share)))));
    }
    table.print(&format!(
        "R1: {} revokes, one after the other, on any of {QUIET} nodes; none was accepted behind the answer",
        all[0].0.len()
    ));
    let mut verdicts = Verdicts::new();
    verdicts.add("R1 p99 in ms, applied by the other nodes", &worst[1], Bound::AtMost(20.0), Bound::AtMost(2.0));
    verdicts.print("R1");
    Ok(())
}

/// Revokes a token on the first of these; how long the answer took, and when all others had refused the token.
fn refused_after(installation: &Installation, connections: &mut [Connection]) -> Outcome<(Duration, Duration)> {
    let (here, others) = connections.split_first_mut().ok_or("no nodes")?;
    let (id, authorization) = installation.create(here)?;
    let verify = &request("GET", "/verify", &[("authorization", &authorization)], "");
    let revoke = installation.revoke(&id);
    here.exchange(verify)?;
    for other in &mut *others {
        other.exchange(verify)?;
    }
    let asking = Barrier::new(2);
    // One behind the other and without a pause: two that ask at once would take the processors from whoever is measured.
    let ask = || {
        let (mut last_accepted, mut refused, mut waiting) = (Duration::ZERO, Duration::ZERO, Vec::from_iter(others));
        asking.wait();
        let patience = now() + Duration::from_secs(30);
        while !waiting.is_empty() {
            let mut left = Vec::new();
            for other in waiting {
                let began = now();
                if is_accepted(other.ask(verify)?) {
                    last_accepted = last_accepted.max(began);
                    left.push(other);
                    if began > patience {
                        return Err("a token that was to be revoked is never refused".into());
                    }
                } else {
                    refused = now();
                }
            }
            waiting = left;
        }
        Outcome::Ok((last_accepted, refused))
    };
    std::thread::scope(|scope| {
        let asker = scope.spawn(ask);
        asking.wait();
        let began = now();
        here.exchange(&revoke)?;
        let answered = now();
        if is_accepted(here.ask(verify)?) {
            return Err("the node that revoked it accepted a token behind the answer".into());
        }
        let (last_accepted, refused) = asker.join().map_err(|_| "whoever asked panicked")??;
        if last_accepted > answered {
            return Err("another node accepted a token behind the answer to its revoke".into());
        }
        Ok((answered - began, refused.saturating_sub(began)))
    })
}

/// What one, two, four and eight processes ask of the database when nothing happens, and for each revoke; and how long a
/// revoke takes.
pub(crate) fn nodes(args: &Args) -> Outcome {
    let installation = Installation::make()?;
    let (cluster, url) = (&installation.cluster, &installation.url);
    let runtime = Runtime::new()?;
    let watcher = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
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
        let servers = installation.start(nodes, &[])?;
        let database = || cpu_of_tree(cluster.pid());
        let own = || servers.iter().map(Server::cpu).sum::<Outcome<f64>>();
        let (began, cpu, transactions, ours) = (now(), database()?, committed()?, own()?);
        std::thread::sleep(args.long_turn());
        let seconds = (now() - began).as_secs_f64();
        let at_rest = (database()? - cpu) / 1000.0 / seconds;
        let (per_second, each) = ((committed()? - transactions) / seconds, (own()? - ours) / 1000.0 / seconds / nodes as f64);

        let mut connections = servers.iter().map(|server| Connection::open(server.address)).collect::<Result<Vec<_>, _>>()?;
        let mut ids = Vec::new();
        for _ in 0..REVOKED {
            ids.push(installation.create(&mut connections[0])?.0);
        }
        let (began, cpu, mut took) = (now(), database()?, Series::default());
        for (at, id) in ids.iter().enumerate() {
            let (revoke, asked) = (installation.revoke(id), now());
            connections[at % nodes].exchange(&revoke)?;
            took.0.push(millis(now() - asked));
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
