//! The project's performance figures: `cargo bench --bench figures -- c1`, or any other row.
//!
//! Ratios decide: everything that is compared is measured in one run, in rounds that take turns.
//!
//! | file | what |
//! |---|---|
//! | `create.rs` | C1, C2 |
//! | `list.rs` | L1, L2, L3 |
//! | `release.rs` | B1 |
//! | `dataset.rs` | data directories with many tokens, made once |
//! | `server.rs` | the servers that are compared: Countersign, the peer, a bare one |
//! | `load.rs` | the load generator, on one core |
//! | `report.rs` | rounds, medians, ratios, Markdown |

mod create;
mod dataset;
mod list;
mod load;
mod release;
mod report;
mod server;

use std::{error::Error, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures the rows that are named
#[derive(Debug, Parser)]
#[command(name = "figures")]
struct Args {
    /// Which rows
    #[arg(value_enum)]
    rows: Vec<Row>,
    /// Rounds, in each of which everything that is compared has its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load in each turn
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Tokens of the platform behind L2 and L3; L2 compares with a tenth of them
    #[arg(long, default_value_t = 1_000_000)]
    tokens: u64,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the bare server that everything is held against
    #[arg(long, hide = true)]
    bare: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Row {
    /// Create over HTTP, against the peer
    C1,
    /// Create inside the process, against batched transactions of the same rows
    C2,
    /// List of 100 over HTTP, against the peer
    L1,
    /// The last page against the first, and many tokens against a tenth of them
    L2,
    /// Any filter and its total
    L3,
    /// The release build
    B1,
}

impl Args {
    const fn turn(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Where everything is kept that a benchmark makes: in the target directory, so that `cargo clean` removes it.
fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name(name)
}

fn main() -> Outcome {
    let args = Args::parse();
    if args.bare {
        return server::be_bare();
    }
    if args.rows.is_empty() {
        report::note("name the rows to measure: c1, c2, l1, l2, l3, b1; or --help");
    }
    for row in &args.rows {
        match row {
            Row::C1 => create::over_http(&args)?,
            Row::C2 => create::in_process(&args)?,
            Row::L1 => list::against_peer(&args)?,
            Row::L2 => list::deep_pages(&args)?,
            Row::L3 => list::filters(&args)?,
            Row::B1 => release::build()?,
        }
    }
    Ok(())
}
