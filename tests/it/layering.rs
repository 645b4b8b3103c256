//! Facts about the source that reviewers rely on: who may use whom, and where things have their one home.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What each part may use of the others, downwards only.
const ALLOWED: [(&str, &[&str]); 16] = [
    ("domain", &[]),
    ("defect", &[]),
    ("client", &[]),
    ("files", &[]),
    ("measure", &[]),
    ("spans", &[]),
    ("store", &["defect", "domain", "files", "measure", "spans"]),
    ("authority", &["client", "defect", "domain", "files", "measure", "store"]),
    ("verifier", &["authority", "domain"]),
    ("layer", &["domain", "refusal", "verifier"]),
    ("refusal", &["authority", "domain"]),
    ("config", &["domain", "files"]),
    ("openapi", &["domain"]),
    ("telemetry", &["authority", "client", "config", "spans"]),
    ("http", &["authority", "config", "domain", "measure", "openapi", "refusal", "spans"]),
    ("cli", &["authority", "client", "config", "domain", "files", "http", "measure", "openapi", "telemetry"]),
];

/// Words that have one home: (word, where it may stand, why).
const HOMES: [(&str, &[&str], &str); 13] = [
    ("rusqlite", &["store/sqlite/"], "only the SQLite store speaks to SQLite"),
    ("tokio_postgres", &["store/postgres/"], "only the PostgreSQL store speaks to PostgreSQL"),
    ("rustls", &["store/postgres/connect.rs", "client.rs"], "TLS ends elsewhere, but where we are the client"),
    ("StatusCode", &["http/", "refusal.rs"], "statuses are HTTP's"),
    ("env::var", &["config.rs", "defect.rs"], "only the configuration reads the environment, in a release"),
    ("SystemTime::now", &["authority/clock.rs"], "time has one source"),
    ("rand::getrandom", &["authority/entropy.rs"], "entropy has one source"),
    ("println!", &["cli/output.rs"], "only commands print"),
    ("SELECT ", &["store/sqlite/", "store/postgres/"], "all SQL of a database in one place"),
    ("Operator { name", &["domain/caller.rs"], "who may do everything comes by few doors"),
    ("at_command_line", &["domain/caller.rs", "cli/mod.rs"], "who may do everything comes by few doors"),
    ("Operator::of", &["authority/operators/"], "an operator is proven first"),
    ("unsafe", &["lib.rs", "main.rs"], "only the lines that forbid it"),
];

fn sources() -> Vec<(String, String)> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files)
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path)
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 40, "the source was not found");
    let read = |path: PathBuf| (path.strip_prefix(&root).unwrap().display().to_string(), fs::read_to_string(&path).unwrap());
    files.into_iter().map(read).collect()
}

/// A file's code: without its tests, and without comments.
fn code(text: &str) -> String {
    let shipped = text.split("#[cfg(test)]").next().unwrap();
    shipped.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

fn part(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

#[test]
fn parts_use_each_other_downwards_only() {
    for (file, text) in sources() {
        let code = code(&text);
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == part(&file)) else {
            assert!(file == "lib.rs" || file == "main.rs", "{file} is of no part: give it a row");
            continue;
        };
        // `crate::a::b`, and each name in `crate::{a::b, c}`.
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                None => vec![rest],
                Some(list) => {
                    let mut depth = 1;
                    let end = list.find(|c| {
                        depth += i32::from(c == '{') - i32::from(c == '}');
                        depth == 0
                    });
                    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
                    let list = &list[..end.unwrap()];
                    for (i, c) in list.char_indices() {
                        depth += i32::from(c == '{') - i32::from(c == '}');
                        if c == ',' && depth == 0 {
                            names.push(list[start..i].trim());
                            start = i + 1;
                        }
                    }
                    names.push(list[start..].trim());
                    names
                }
            };
            for name in names.into_iter().filter(|name| !name.is_empty()) {
                let used = name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                assert!(used == part(&file) || allowed.contains(&used), "{file} uses crate::{used}");
            }
        }
    }
}

#[test]
fn what_has_one_home_is_nowhere_else() {
    for (file, text) in sources() {
        let code = code(&text);
        for (word, homes, why) in HOMES {
            assert!(!code.contains(word) || homes.iter().any(|home| file.starts_with(home)), "{file} says {word:?}: {why}");
        }
    }
}

/// What databases that speak PostgreSQL's language take too (docs/postgresql.md): what only PostgreSQL has stands where it only
/// hurries, where one asks whether it is there, or where something is copied.
#[test]
fn i_02_a_node_speaks_plain_sql() {
    const ODD: [(&str, &[&str]); 22] = [
        ("LISTEN", &["feed.rs"]),
        ("NOTIFY", &["writer.rs"]),
        ("pg_advisory", &["session.rs", "copy.rs"]),
        ("pg_logical", &["session.rs"]),
        ("pg_current_wal", &["connect.rs"]),
        ("COPY", &["copy.rs"]),
        ("LOCK TABLE", &["copy.rs"]),
        ("EXTENSION", &[]),
        ("CREATE FUNCTION", &[]),
        ("CREATE TRIGGER", &[]),
        ("CREATE RULE", &[]),
        ("CREATE TYPE", &[]),
        ("CREATE DOMAIN", &[]),
        ("plpgsql", &[]),
        ("DO $", &[]),
        ("MERGE", &[]),
        ("UNLOGGED", &[]),
        ("EXCLUDE", &[]),
        ("TABLESPACE", &[]),
        ("ctid", &[]),
        ("xmin", &[]),
        ("DEFERRABLE", &[]),
    ];
    let ours = sources().into_iter().filter_map(|(file, text)| Some((file.strip_prefix("store/postgres/")?.to_owned(), code(&text))));
    let migrations = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres")).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let plain = text.lines().map(|line| line.split("--").next().unwrap()).collect::<Vec<_>>().join("\n");
        (path.file_name().unwrap().to_str().unwrap().to_owned(), plain)
    });
    let all: Vec<_> = ours.chain(migrations).collect();
    assert!(all.len() > 20 && all.iter().any(|(file, _)| file.ends_with(".sql")));
    for (word, homes) in ODD {
        let found: Vec<_> = all.iter().filter(|(_, text)| text.contains(word)).map(|(file, _)| file.as_str()).collect();
        assert!(found.iter().all(|file| homes.contains(file)), "{word} is in {found:?}");
        assert!(homes.iter().all(|home| found.contains(home)), "{word} is in {found:?} alone");
    }
}

/// Each call of `expose` was looked at: the answers to creates, which commands print too, the
/// console's pages that show one this once, what quickstart prints, an invitation's
/// digest, and the seal of a replay.
#[test]
fn s_05_secrets_are_exposed_in_known_places_only() {
    let mut places: Vec<_> =
        sources().iter().flat_map(|(file, text)| std::iter::repeat_n(file.clone(), code(text).matches(".expose()").count())).collect();
    places.sort();
    let expected = [
        "authority/keyring.rs",
        "authority/operators/accounts.rs",
        "cli/quickstart.rs",
        "http/console/account.rs",
        "http/console/operators.rs",
        "http/console/platforms.rs",
        "http/console/tokens.rs",
        "http/console/tokens.rs",
        "http/create.rs",
        "http/v1/operators.rs",
        "http/v1/operators.rs",
        "http/v1/wire.rs",
    ];
    assert_eq!(places, expected);
}

/// what memory says is read before it is known whether memory may be believed, never the other way round. No test can stop
/// a process between the two, so this is a fact about the source.
#[test]
fn r_12_the_lease_is_looked_at_behind_everything_that_is_judged() {
    let (_, text) = sources().into_iter().find(|(file, _)| file == "authority/verify.rs").unwrap();
    let function = |name: &str| text.split(&format!("    fn {name}(")).nth(1).unwrap().split("\n    }\n").next().unwrap().to_owned();
    let (finds, judges) = (function("prove_resident"), function("judge"));
    assert!(!finds.contains("clock") && finds.contains("self.judge("), "{finds}");
    let place = |what: &str| judges.find(what).unwrap_or_else(|| panic!("no {what}: {judges}"));
    assert!(judges.matches("clock.boot()").count() == 1, "{judges}");
    assert!(place("entry.ended") < place("clock.boot()") && place("self.index.platform(entry)") < place("clock.boot()"), "{judges}");
    assert!(place("clock.boot()") < place("lease.holds(now)") && place("lease.holds(now)") < place("Resident::Proven"), "{judges}");
}

#[test]
fn files_are_short_and_named_for_what_they_hold() {
    for (file, text) in sources() {
        assert!(text.lines().count() <= 600, "{file} has {} lines", text.lines().count());
        assert!(text.starts_with("//!") || file.ends_with("tests.rs") || text.starts_with("use "), "{file} does not say what it is for");
        for name in ["util", "common", "helpers", "core", "types", "models", "manager"] {
            assert!(!file.split(['/', '.']).any(|segment| segment == name), "{file} is called {name}");
        }
    }
}

#[test]
fn b_01_unsafe_code_is_forbidden() {
    for file in ["src/lib.rs", "src/main.rs"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{file}");
    }
}

/// B-03: the least versions of dependencies below which something was found.
#[test]
fn b_03_least_versions() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let number = |version: &str| version.split(['.', '+', '-']).take(3).map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    let mut checked = 0;
    for (name, least) in [
        ("bytes", "1.11.1"),              // RUSTSEC-2026-0007
        ("crossbeam-channel", "0.5.15"),  // RUSTSEC-2025-0024
        ("curve25519-dalek", "4.1.3"),    // RUSTSEC-2024-0344
        ("h2", "0.4.16"),                 // RUSTSEC-2026-0258
        ("postgres-protocol", "0.6.12"),  // RUSTSEC-2026-0179, -0180
        ("rand", "0.9.3 0.10.1"),         // RUSTSEC-2026-0097
        ("ring", "0.17.12"),              // RUSTSEC-2025-0009
        ("rusqlite", "0.39.0"),           // brings an SQLite whose write-ahead log keeps what it was told
        ("rustls", "0.23.45"),            // RUSTSEC-2026-0285
        ("rustls-webpki", "0.103.13"),    // RUSTSEC-2026-0104
        ("time", "0.3.47"),               // RUSTSEC-2026-0009
        ("tokio-postgres", "0.7.18"),     // RUSTSEC-2026-0178
        ("tracing-subscriber", "0.3.20"), // RUSTSEC-2025-0055
    ] {
        for package in lock.split("[[package]]").filter(|package| package.contains(&format!("name = \"{name}\"\n"))) {
            let version = package.split("version = \"").nth(1).unwrap().split('"').next().unwrap();
            let of_minor = |least: &&str| number(least)[..2] <= number(version)[..2];
            let least = least.split(' ').rfind(of_minor).unwrap_or(least);
            assert!(number(version) >= number(least), "{name} {version}");
            checked += 1;
        }
    }
    assert!(checked >= 13, "a crate that is gone needs no row");
    for banned in ["openssl", "openssl-sys", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{banned}\"\n")), "{banned}");
    }
}

/// B-05: no credential of ours in the repository, but those that seeded tests make.
#[test]
fn b_05_no_credential_is_committed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed =
        std::process::Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root).output();
    // A source package without its history has been looked at where it was made.
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else { return };
    for file in String::from_utf8(listed.stdout).unwrap().lines() {
        let Ok(text) = fs::read_to_string(root.join(file)) else { continue };
        for prefix in ["iksec_test_", "iksec_live_"] {
            for (at, _) in text.match_indices(prefix) {
                // An example in a document has a wrong checksum: no scanner takes it for a leak.
                let Some(secret) = text.get(at..at + prefix.len() + 49) else { continue };
                let seeded = ["tests/it/grid/create.rs", "tests/it/blips/mod.rs"].contains(&file);
                assert!(seeded || !secret.ends_with(&crate::credential::checksum(&secret[..54])), "{file} holds a secret");
            }
        }
    }
}

/// The tables of a migration, each with its columns in order.
fn tables(sql: &str) -> BTreeMap<String, Vec<String>> {
    let mut tables = BTreeMap::new();
    for table in sql.split("CREATE TABLE ").skip(1) {
        let (name, rest) = table.split_once(" (\n").unwrap();
        let lines = rest.split("\n)").next().unwrap().lines().map(str::trim_start);
        let columns = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())).map(|line| line.split(' ').next().unwrap());
        tables.insert(name.to_owned(), columns.map(str::to_owned).collect());
    }
    tables
}

/// What one database keeps, the other keeps too.
#[test]
fn migrations_are_the_same_in_both_trees() {
    let folder = |database: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
    let names = |database: &str| {
        let mut names: Vec<_> = fs::read_dir(folder(database)).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("sqlite"), names("postgres"));
    for name in names("sqlite") {
        let [sqlite, mut postgres] =
            ["sqlite", "postgres"].map(|database| tables(&fs::read_to_string(folder(database).join(&name)).unwrap()));
        // What files and locks do elsewhere.
        for own in ["feed", "node"] {
            postgres.remove(own);
        }
        assert_eq!(sqlite, postgres, "{name:?}");
        assert!(!sqlite.is_empty() && sqlite.get("token").is_none_or(|columns| columns.len() == 10), "{name:?}: no tables were found");
    }
}
