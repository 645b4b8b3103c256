//! What documents say about this repository is so: tests that they name are there, and so is what they link to.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Those whose word is as good as the tests that they name.
const NAME_TESTS: [&str; 3] = ["docs/security.md", "docs/evidence.md", "docs/supply-chain.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a folder whose names end so.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    fn collect(folder: &Path, end: &str, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, end, files);
            } else if path.to_str().is_some_and(|name| name.ends_with(end)) {
                files.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join(folder), end, &mut found);
    found
}

/// Every test by its whole name: `it::grid::create::the_whole_answer`, `authority::lease::it_is_stretched`.
fn tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for path in [files("tests", ".rs"), files("src", ".rs")].concat() {
        let module = path.strip_prefix(root()).unwrap().with_extension("");
        let parts: Vec<_> = module.iter().skip(1).map(|part| part.to_str().unwrap()).collect();
        let parts = parts.strip_suffix(&["mod"]).or(parts.strip_suffix(&["tests"])).or(parts.strip_suffix(&["main"])).unwrap_or(&parts);
        let text = fs::read_to_string(&path).unwrap();
        for attribute in ["#[test]", "#[tokio::test"] {
            for rest in text.split(attribute).skip(1) {
                let (_, name) = rest.split_once("fn ").unwrap();
                tests.insert([parts, &[name.split_once('(').unwrap().0]].concat().join("::"));
            }
        }
    }
    assert!(tests.len() > 300, "the tests were not found");
    tests
}

/// What stands between back-quotes in a line of text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.split("```").step_by(2).flat_map(str::lines);
    lines.flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// A number of a criterion begins the name (`z_11_…`), or it comes with the file that it is in (`verify::…`), or is a sentence.
fn names_a_test(quoted: &str) -> bool {
    let plain = quoted.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | ':'));
    let numbered = matches!(quoted.as_bytes(), [letter, b'_', b'0'..=b'9', b'0'..=b'9', b'_', ..] if letter.is_ascii_lowercase());
    let is_metric = quoted.starts_with("countersign_");
    plain && !is_metric && (numbered || quoted.contains("::") || quoted.matches('_').count() > 3)
}

#[test]
fn tests_that_are_named_are_there() {
    let tests = tests();
    let mut checked = 0;
    for document in NAME_TESTS {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for name in quoted(&text).filter(|quoted| names_a_test(quoted)) {
            let is = |test: &String| test.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with("::"));
            assert!(tests.iter().any(is), "{document} names the test {name}, which is not there");
            checked += 1;
        }
    }
    assert!(checked > 100, "the names were not found");
}

#[test]
fn files_that_are_named_are_there() {
    let mut documents = [files("docs", ".md"), files("examples", ".md"), files("benches", ".md")].concat();
    documents.extend(
        fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "md")),
    );
    let mut checked = 0;
    for document in documents {
        let (text, folder) = (fs::read_to_string(&document).unwrap(), document.parent().unwrap());
        let links = text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap());
        for link in links.filter(|link| !link.is_empty() && !link.contains(':')) {
            assert!(folder.join(link).exists(), "{} links to {link}, which is not there", document.display());
            checked += 1;
        }
        // From the root of the repository; without what a command is told behind it.
        let named = quoted(&text).map(|quoted| quoted.split(' ').next().unwrap());
        for name in named.filter(|name| ["src/", "tests/", "packaging/", "migrations/"].iter().any(|part| name.starts_with(part))) {
            assert!(root().join(name).exists(), "{} names {name}, which is not there", document.display());
            checked += 1;
        }
    }
    assert!(checked > 50, "the links were not found");
}
