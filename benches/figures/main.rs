//! The project's performance figures: `cargo bench --bench figures -- c1`, or any other row.
//!
//! Ratios decide: everything that is compared is measured in one run, in rounds that take turns.
//!
//! | file | what |
//! |---|---|
//! | `create.rs` | C1, C2 |
//! | `postgres.rs` | C3, R1, and what nodes ask of the database |
//! | `list.rs` | L1, L2, L3 |
//! | `log.rs` | L4 |
//! | `verify.rs` | V1 to V4, V6 to V8, and the table of all that verify |
//! | `prove.rs` | V5 |
//! | `memory.rs` | M1, M2, M3 |
//! | `release.rs` | B1 |
//! | `dataset.rs` | data directories with many tokens, made once |
//! | `server.rs` | the servers that are compared, and what a request costs each |
//! | `peers.rs` | the servers of others |
//! | `load.rs` | the load generator, on one core |
//! | `report.rs` | rounds, medians, ratios, Markdown |
//! | `chart.rs` | a table as a picture |

mod chart;
#[path = "../../tests/prove/cluster.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "the proof's, which does more with it")]
mod cluster;
mod create;
mod dataset;
mod list;
mod load;
mod log;
mod memory;
mod peers;
mod postgres;
mod prove;
mod release;
mod report;
mod server;
mod verify;

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
    /// Seconds of load in each turn [default: 3; 10 where `/verify` is asked]
    #[arg(long)]
    seconds: Option<u64>,
    /// Tokens of the platform behind all but C and L1; L2 compares with a tenth of them
    #[arg(long, default_value_t = 1_000_000)]
    tokens: u64,
    /// Tokens of V2, and of V5, the table, M1, M2 and M3 besides; none without
    #[arg(long)]
    many: Option<u64>,
    /// Where `verify` is to draw its table, as SVG
    #[arg(long)]
    chart: Option<PathBuf>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the bare server that everything is held against
    #[arg(long, hide = true)]
    bare: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Row {
    /// Create over HTTP, against the peer
    C1,
    /// Create inside the process, against batched transactions of the same rows
    C2,
    /// Create on PostgreSQL, against inserts one by one
    C3,
    /// What each node asks of PostgreSQL, and how long a revoke takes
    Nodes,
    /// Until all nodes refuse a token that is revoked
    R1,
    /// List of 100 over HTTP, against the peer
    L1,
    /// The last page against the first, and many tokens against a tenth of them
    L2,
    /// Any filter and its total
    L3,
    /// The audit log, verified
    L4,
    /// `/verify` against a bare server
    V1,
    /// The same with many tokens
    V2,
    /// `/verify` against libraries for API keys
    V3,
    /// `/verify` against nginx
    V4,
    /// Proving inside the process
    V5,
    /// `/verify` on one connection
    V6,
    /// Refusals of `/verify` against its acceptances
    V7,
    /// `/verify` by operation against `/verify`
    V8,
    /// Everything that verifies, in one table
    Verify,
    /// Memory of the index and of the process, and the time of a start
    #[value(name = "m1", aliases = ["m2", "m3"])]
    M1,
    /// The release build
    B1,
}

impl Args {
    fn turn(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(3))
    }

    /// A turn of what has a part that it does now and then.
    fn long_turn(&self) -> Duration {
        self.seconds.map_or(verify::FLUSH, Duration::from_secs)
    }
}

/// Where everything is kept that a benchmark makes: in the target directory, so that `cargo clean` removes it.
fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name(name)
}

fn main() -> Outcome {
    let mut args = Args::parse();
    // M1, M2 and M3 are one.
    args.rows.dedup();
    if args.bare {
        return server::be_bare();
    }
    if args.rows.is_empty() {
        report::note("name the rows to measure: c1, c2, c3, r1, nodes, l1, l2, l3, l4, v1 to v8, verify, m1, m2, m3, b1; or --help");
    }
    for row in &args.rows {
        match row {
            Row::C1 => create::over_http(&args)?,
            Row::C2 => create::in_process(&args)?,
            Row::C3 => postgres::create(&args)?,
            Row::Nodes => postgres::nodes(&args)?,
            Row::R1 => postgres::revoke(&args)?,
            Row::L1 => list::against_peer(&args)?,
            Row::L2 => list::deep_pages(&args)?,
            Row::L3 => list::filters(&args)?,
            Row::L4 => log::verify(&args)?,
            Row::V1 => verify::over_hyper(&args)?,
            Row::V2 => verify::of_many(&args)?,
            Row::V3 => verify::over_libraries(&args)?,
            Row::V4 => verify::over_nginx(&args)?,
            Row::V5 => prove::in_process(&args)?,
            Row::V6 => verify::alone(&args)?,
            Row::V7 => verify::refusals(&args)?,
            Row::V8 => verify::by_operation(&args)?,
            Row::Verify => verify::table(&args)?,
            Row::M1 => memory::rows(&args)?,
            Row::B1 => release::build()?,
        }
    }
    Ok(())
}
