//! Which databases are taken: none that could lose what it has acknowledged, none that is behind, none that cannot prove
//! who it is.

use super::{accepts, ask, cluster::Cluster, command, create, revoke, root, token};
use crate::support::{
    GRID,
    program::{Server, until},
};

#[track_caller]
fn assert_refused(url: &str, sentence: &str) {
    let data = tempfile::tempdir().unwrap();
    let output = command(url, data.path(), &["platform", "create", "--name", "Acme"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(sentence), "{output:?}");
}

#[test]
fn d_03_a_database_that_could_lose_changes_is_refused() {
    let cluster = Cluster::start(&[]);
    let (url, data) = (cluster.url_at(cluster.port), tempfile::tempdir().unwrap());
    let set = |setting: &str, value: &str| {
        ask(&cluster, &format!("ALTER SYSTEM SET {setting} = {value}"));
        ask(&cluster, "SELECT pg_reload_conf()");
        until("a setting holds", || ask(&cluster, &format!("SHOW {setting}")) == value);
    };
    for setting in ["fsync", "full_page_writes"] {
        set(setting, "off");
        assert_refused(&url, &format!("the database runs with {setting} = off; a power cut would lose acknowledged changes"));
        set(setting, "on");
    }
    assert_eq!(ask(&cluster, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"), "0");
    // This one is ours to choose, and is chosen.
    set("synchronous_commit", "off");
    root(&url, data.path());
}

/// R-19, and what becomes of a running node when the standby takes over.
#[test]
fn r_19_a_standby_is_refused_and_its_primary_found() {
    let primary = Cluster::start(&[]);
    let (first, data) = (primary.url_at(primary.port), tempfile::tempdir().unwrap());
    let root = root(&first, data.path());
    let standby = primary.standby();
    until("the standby has the tables", || standby.run_sql("SELECT count(*) FROM token").is_some_and(|count| count == "2"));
    assert_refused(&standby.url_at(standby.port), "standby");

    let both = |a: &Cluster, b: &Cluster| format!("postgres://countersign@127.0.0.1:{},127.0.0.1:{}/postgres", a.port, b.port);
    let nodes = [both(&primary, &standby), both(&standby, &primary)].map(|url| Server::start_on(&url, data.path()));
    let [kept, ended] = ["kept", "ended"].map(|name| token(&nodes[0], &root, name));
    assert_eq!(revoke(&nodes[1], &root, &ended), 204);
    let assert_known = || {
        for node in &nodes {
            assert!(accepts(node, &kept) && !accepts(node, &ended));
        }
    };
    assert_known();
    // It follows a little later, as no setting says that a commit waits for it.
    let everything =
        format!("SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= '{}'", ask(&primary, "SELECT pg_current_wal_lsn()"));
    until("the standby has followed", || ask(&primary, &everything) == "1");

    primary.crash();
    standby.promote();
    for node in &nodes {
        until("it changes something on the new primary", || create(node, &root, "behind").0 == 201);
    }
    until("both follow there", || nodes.iter().all(|node| node.admin("/readyz").0 == 200));
    assert_known();
    assert_eq!(revoke(&nodes[0], &root, &kept), 204);
    assert!(nodes.iter().all(|node| !accepts(node, &kept)));
}

/// A database that answers by certificates of the authority `ours`; `theirs` is another.
struct Certified(Cluster);

impl Certified {
    fn start() -> Self {
        let this = Self(Cluster::start(&[]));
        for name in ["ours", "theirs"] {
            let (subject, key, file) = (format!("/CN={name}"), this.0.path(&format!("{name}.key")), this.0.path(&format!("{name}.pem")));
            let made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject, "-keyout", &key, "-out", &file];
            this.0.run("openssl", &made);
        }
        this
    }

    fn url(&self, roots: &str) -> String {
        let Self(cluster) = self;
        format!("postgres://countersign@localhost:{}/postgres?sslmode=verify-full&sslrootcert={}", cluster.port, cluster.path(roots))
    }

    /// From now on new sessions see a certificate of this name that holds for so many days; -1: it ran out yesterday.
    fn serve_as(&self, name: &str, days: &str) {
        let Self(cluster) = self;
        let path = |ending: &str| cluster.path(&format!("{name}{days}.{ending}"));
        let (key, request, certificate) = (path("key"), path("csr"), path("pem"));
        let extension = format!("subjectAltName=DNS:{name}");
        let asked =
            ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server", "-addext", &extension, "-keyout", &key, "-out", &request];
        cluster.run("openssl", &asked);
        let (ca, ca_key) = (cluster.path("ours.pem"), cluster.path("ours.key"));
        let signed = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-copy_extensions", "copy"];
        cluster.run("openssl", &[&signed[..], &["-days", days, "-out", &certificate]].concat());
        for (setting, value) in [("ssl_cert_file", &*certificate), ("ssl_key_file", &key), ("ssl", "on")] {
            ask(cluster, &format!("ALTER SYSTEM SET {setting} = '{value}'"));
        }
        ask(cluster, "SELECT pg_reload_conf()");
        let expected = format!("on {certificate}");
        until("it has the certificate", || {
            ask(cluster, "SELECT concat_ws(' ', current_setting('ssl'), current_setting('ssl_cert_file'))") == expected
        });
    }
}

#[test]
fn a_server_proves_its_name_by_a_certificate_that_is_trusted() {
    let database = Certified::start();
    assert_refused(&database.url("ours.pem"), "TLS");
    database.serve_as("db.elsewhere", "2");
    assert_refused(&database.url("ours.pem"), "not valid for name");
    database.serve_as("localhost", "2");
    assert_refused(&database.url("theirs.pem"), "invalid peer certificate");

    let (url, data) = (database.url("ours.pem"), tempfile::tempdir().unwrap());
    let root = root(&url, data.path());
    let node = Server::start_on(&url, data.path());
    token(&node, &root, "a");
    let plain = "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl) \
                 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'countersign'";
    let sessions = ask(&database.0, plain);
    assert!(sessions.ends_with("|0") && sessions != "0|0", "by TLS and not: {sessions}");
}

/// F-07: sessions that there are go on, as TLS has it; without one, nothing is known and the log says why, until the
/// certificate is renewed.
#[test]
fn f_07_a_certificate_that_runs_out_is_named() {
    let database = Certified::start();
    database.serve_as("localhost", "2");
    let (url, data) = (database.url("ours.pem"), tempfile::tempdir().unwrap());
    let root = root(&url, data.path());
    let node = Server::start_on(&url, data.path());
    let kept = token(&node, &root, "kept");
    assert!(accepts(&node, &kept));
    node.logged();

    database.serve_as("localhost", "-1");
    ask(&database.0, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'countersign'");
    until("nothing is known", || node.get(GRID, &kept).0 == 503);
    assert_eq!((create(&node, &root, "other").0, node.admin("/readyz").0, node.admin("/healthz").0), (503, 503, 200));
    let mut said = Vec::new();
    until("the log names the cause", || {
        said.extend(node.logged());
        said.iter().any(|line| line.contains("invalid peer certificate: Expired"))
    });
    assert_refused(&url, "invalid peer certificate: Expired");

    database.serve_as("localhost", "1");
    until("it is well again", || node.admin("/readyz").0 == 200);
    assert!(accepts(&node, &kept));
    token(&node, &root, "other");
}

#[test]
fn a_certificate_that_will_run_out_soon_is_found_before_it_does() {
    let database = Certified::start();
    let (url, data) = (database.url("ours.pem"), tempfile::tempdir().unwrap());
    let doctor = || {
        let output = command(&url, data.path(), &["doctor", "--output", "json"]).stdout;
        String::from_utf8(output).unwrap()
    };
    database.serve_as("localhost", "15");
    root(&url, data.path());
    let said = doctor();
    assert!(said.contains("by TLS") && !said.contains("runs out"), "{said}");
    database.serve_as("localhost", "13");
    let said = doctor();
    assert!(said.contains("its certificate runs out within 14 days") && said.contains("renew it"), "{said}");
}
