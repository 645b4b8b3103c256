//! The targets. Each names what it holds: that nothing panics is the least of it.
//!
//! Where a reading can be done again, slowly and in another way, it is, and both have to say the same.

mod call;
mod credential;
mod files;
mod json;
mod plain;
mod words;

/// One of them.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) holds: &'static str,
    /// How often it is run where no time is said: a second or two of a debug build.
    pub(crate) runs: u32,
    pub(crate) run: fn(&[u8]),
}

const fn target(name: &'static str, runs: u32, run: fn(&[u8]), holds: &'static str) -> Target {
    Target { name, holds, runs, run }
}

pub(crate) const TARGETS: [Target; 17] = [
    target(
        "authorization",
        20000,
        credential::authorization,
        "agrees with a slow reading; one credential has one text; of two values, none",
    ),
    target("ids", 60000, credential::ids, "an id is read from its own texts and no other"),
    target("path", 30000, words::path, "agrees with a slow reading, by which all that upstreams do to a path leaves it as it is"),
    target("time", 60000, words::time, "agrees with a slow calendar; what is shown reads back"),
    target("query", 30000, words::query, "agrees with a slow reading; nothing twice, nothing unknown; no refusal repeats a value"),
    target("json", 25000, json::body, "agrees with a slow reading: no member twice, no depth, no broken text; no refusal repeats a value"),
    target("create", 20000, json::create, "both dialects create what the body says, and nothing else"),
    target("plain", 40000, plain::head, "a head that is plain is the same one to the HTTP library, and ends where that finds the next"),
    target("call", 40000, call::message, "agrees with a slow reading of protobuf: every value of a header is seen"),
    target("cursor", 10000, words::cursor, "a cursor opens the place that it was made for, in its list alone, in one text"),
    target("settings", 600, words::settings, "times agree with a slow reading; rules are shown as they are read"),
    target("password", 600, words::password, "no password of a URL is in what is said of it"),
    target("key_file", 30000, files::key_file, "one active key, ids once, 256 bits each in one text; no refusal repeats a key"),
    target("openapi", 250, files::openapi, "JSON is read as the YAML that it is; every operation has a method and a path"),
    target("journal", 700, files::journal, "only lines that were written, behind each other; what ended in them and nothing else"),
    target("heads", 700, files::heads, "only heads that were signed, wherever in a text they are"),
    target("audit_line", 6000, files::audit_line, "one line of visible ASCII, which reads back as the entry"),
];

/// A refusal that would repeat what is not to be repeated.
fn keeps_quiet(about: &[u8], said: &str) {
    assert!(!about.windows(6).any(|piece| piece == b"CANARY") || !said.contains("CANARY"), "it is repeated: {said}");
}
