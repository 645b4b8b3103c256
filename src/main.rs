//! `countersign`: parse, run, exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    countersign::cli::run(countersign::cli::Cli::parse())
}
