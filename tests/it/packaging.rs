//! What a release consists of.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn manifest() -> toml::Table {
    fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap()
}

fn dependencies(what: &str) -> String {
    let output = Command::new(root().join("packaging/dependencies.py")).arg(what).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The checksum of each crate, by name and version.
fn locked() -> BTreeMap<(String, String), String> {
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let text = |package: &toml::Value, key: &str| package.get(key).map(|value| value.as_str().unwrap().to_owned());
    let packages = lock["package"].as_array().unwrap().iter();
    packages.filter_map(|package| Some(((text(package, "name")?, text(package, "version")?), text(package, "checksum")?))).collect()
}

/// The crates whose code is in the program that was built for these tests: it names the files where it may panic, and those
/// that its lines are from.
fn in_the_program() -> BTreeSet<String> {
    let program = fs::read(env!("CARGO_BIN_EXE_countersign")).unwrap();
    let paths = memchr::memmem::find_iter(&program, b"/registry/src/").map(|at| &program[at..(at + 200).min(program.len())]);
    // Behind it the registry's folder, and the crate's.
    let crates = paths.filter_map(|path| path.split(|byte| matches!(byte, b'/' | 0)).nth(4));
    crates.filter_map(|name| std::str::from_utf8(name).ok()).map(str::to_owned).collect()
}

#[test]
fn b_04_the_list_has_every_crate_of_the_program() {
    let (sbom, locked) = (dependencies("sbom"), locked());
    let sbom: Value = serde_json::from_str(&sbom).unwrap();
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    let mut required = BTreeSet::new();
    for part in sbom["components"].as_array().unwrap() {
        let [name, version, scope, purl] = ["name", "version", "scope", "purl"].map(|key| part[key].as_str().unwrap());
        let licence = part["licenses"][0]["expression"].as_str().or(part["licenses"][0]["license"]["id"].as_str());
        assert!(licence.is_some_and(|licence| !licence.is_empty() && !licence.contains('/')), "{part}");
        if let Some(crate_name) = purl.strip_prefix("pkg:cargo/") {
            assert_eq!(crate_name, format!("{name}@{}", version.replace('+', "%2B")));
            assert_eq!(part["hashes"][0]["content"], locked[&(name.to_owned(), version.to_owned())].as_str(), "{part}");
        }
        if scope == "required" {
            required.insert(format!("{name}-{version}"));
        }
    }
    // What tests switch on in crates that are the program's too is linked here, and not in a release.
    let by_tests = ["aho-corasick-", "allocator-api2-", "nu-ansi-term-", "tracing-log-"];
    let found = in_the_program();
    assert!(found.len() > 100, "the program does not say what is in it");
    let missing: Vec<_> = found.difference(&required).filter(|name| !by_tests.iter().any(|test| name.starts_with(test))).collect();
    assert!(missing.is_empty(), "in the program, and not on the list: {missing:?}");
    // What is no crate.
    for name in ["sqlite-", "swagger-ui-dist-", "rust-std-"] {
        assert!(required.iter().any(|part| part.starts_with(name)), "{name}");
    }
    // What only tests use.
    let manifest = manifest();
    let of = |section: &str| manifest[section].as_table().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    for name in of("dev-dependencies").difference(&of("dependencies")) {
        // Others of ours need this one.
        let shared = ["opentelemetry-proto", "rand_chacha", "static_assertions"].contains(&name.as_str());
        assert!(shared || !required.iter().any(|part| part.starts_with(&format!("{name}-"))), "{name} is no part of the program");
    }
}

#[test]
fn b_04_a_wrapped_number_is_a_panic_in_a_release_too() {
    assert_eq!(manifest()["profile"]["release"]["overflow-checks"], toml::Value::Boolean(true));
    assert!(manifest()["profile"].as_table().unwrap().keys().all(|profile| ["release", "dev"].contains(&profile.as_str())));
    for folder in [root().join(".cargo/config.toml"), root().join(".cargo/config")] {
        assert!(!folder.exists(), "what is built is said by Cargo.toml and packaging/release.sh alone");
    }
}

#[test]
fn b_01_the_page_of_unsafe_code_is_as_the_sources_are() {
    let page = fs::read_to_string(root().join("docs/unsafe.md")).unwrap();
    assert!(page == dependencies("unsafe"), "run packaging/dependencies.py unsafe > docs/unsafe.md, and look at what has changed");
}
