//! A target of `tests/fuzz`, by its name in `FUZZ_TARGET`, led by what the code does.

#![no_main]

#[path = "../tests/fuzz/targets/mod.rs"]
#[expect(dead_code, reason = "tests/fuzz prints what each holds, and counts its runs")]
mod targets;

use std::sync::LazyLock;

static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET is the name of a target");
    targets::TARGETS.iter().find(|target| target.name == name).expect("there is no such target").run
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| RUN(input));
