//! The command line: one file a command, each over the same [`Authority`], or, where it is another machine's, over that one's
//! operator API (`reach.rs`).
//!
//! Exit codes: 0 done, 1 refused, 2 could not run. Errors are one line on standard error that says what to do next.

mod audit;
mod backup;
mod bench;
mod bulk;
mod check;
mod config;
mod copying;
mod doctor;
mod generate;
mod keys;
mod known;
mod migrate_store;
mod nodes;
mod operations;
mod operator;
mod output;
mod platform;
mod quickstart;
mod reach;
mod restore;
mod serve;
mod settings;
mod token;

use std::{process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    authority::{AttemptLimits, Authority, Database, Error, Options, SystemClock, SystemEntropy},
    config::Config,
    domain::{OnDatabaseLoss, Owner, RequestInfo},
};

/// Countersign: the API token authority of a platform.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// First time: makes a platform and prints a token and curl lines that work; then serves
    Quickstart(quickstart::Quickstart),
    /// Serves the APIs and, on another address, health and metrics for operators
    Serve(serve::Serve),
    /// The platforms, each with its root tokens
    #[command(subcommand)]
    Platform(platform::PlatformCommand),
    /// The tokens, as the operator
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Says whether the clientId:clientSecret on standard input verifies, and as whom
    Check(check::Check),
    /// The operations of the platform's API, and the permissions that a token needs for each
    #[command(subcommand)]
    Operations(operations::OperationsCommand),
    /// The operators: people who run platforms, at the console and through the operator API
    #[command(subcommand)]
    Operator(operator::OperatorCommand),
    /// The audit log: who changed what
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// The processes that answer from memory, and how far each has followed
    Nodes(nodes::Nodes),
    /// The server's keys, and changing them while servers run
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Copies the database, also while servers run, into one file; not the key file
    Backup(backup::Backup),
    /// Brings a backup back, or goes on behind a database that went back: what had ended since ends again
    Restore(restore::Restore),
    /// Moves to another database: from SQLite to PostgreSQL, back, or to another of the same kind
    MigrateStore(migrate_store::MigrateStore),
    /// Measures this machine and this configuration: what it costs to verify, create, list and revoke tokens of a database of its own
    Bench(bench::Bench),
    /// Says what is wrong with this installation, and what to do about it; changes nothing
    Doctor(doctor::Doctor),
    /// The configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Completions for shells, and man pages
    #[command(subcommand)]
    Generate(generate::GenerateCommand),
}

/// Why a command did not do it.
#[derive(Debug)]
enum Failure {
    /// It was refused: not found, not allowed, invalid.
    Refused(String),
    /// It could not run: usage, configuration, database.
    CouldNotRun(String),
}

impl Failure {
    fn into_text(self) -> String {
        match self {
            Self::Refused(text) | Self::CouldNotRun(text) => text,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(cause) => Self::CouldNotRun(format!("{cause}; look whether it was done before you run it again")),
            other => Self::Refused(other.to_string()),
        }
    }
}

type Outcome = Result<(), Failure>;

/// Reads the command line and runs the command.
pub fn run() -> ExitCode {
    harden();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() => return failed(&Failure::CouldNotRun(usage(&e))),
        // Help and version.
        Err(e) => return e.print().map_or(ExitCode::from(2), |()| ExitCode::SUCCESS),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed(&Failure::CouldNotRun(format!("cannot start: {e}"))),
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Quickstart(command) => command.run().await,
            Command::Serve(command) => command.run().await,
            Command::Platform(command) => command.run().await,
            Command::Token(command) => command.run().await,
            Command::Check(command) => command.run().await,
            Command::Bench(command) => command.run().await,
            Command::Operations(command) => command.run().await,
            Command::Operator(command) => command.run().await,
            Command::Audit(command) => command.run().await,
            Command::Nodes(command) => command.run().await,
            Command::Keys(command) => command.run().await,
            Command::Backup(command) => command.run().await,
            Command::Restore(command) => command.run().await,
            Command::MigrateStore(command) => command.run().await,
            Command::Doctor(command) => command.run().await,
            Command::Config(command) => command.run(),
            Command::Generate(command) => command.run(),
        }
    });
    // Reads that nobody waits for any more must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(&failure),
    }
}

/// Comes back when somebody ends a command that has something to put away; `what` says what became of it.
async fn told_to_end(what: &str) -> Failure {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupted), Ok(mut terminated), Ok(mut hung_up)] = signals else {
        return Failure::CouldNotRun("no signal can be heard".to_owned());
    };
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
        _ = hung_up.recv() => {}
    }
    Failure::CouldNotRun(what.to_owned())
}

/// The first sentence of a usage error. An argument that could be a secret is not repeated.
fn usage(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let sentences = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ").replace('\n', " ");
    let shown = match () {
        () if text.contains("iksec_") => "a secret is never an argument: pipe it into countersign check",
        () if text.contains("csop_") => "an operator's token is never an argument: put it into the environment or a file",
        () => sentences.trim(),
    };
    format!("{shown}; see --help")
}

fn failed(failure: &Failure) -> ExitCode {
    let (message, code) = match failure {
        Failure::Refused(message) => (message, 1),
        Failure::CouldNotRun(message) => (message, 2),
    };
    output::error(&format!("countersign: {message}"));
    ExitCode::from(code)
}

/// Keeps secrets in memory out of core files and away from other processes of the same user.
fn harden() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let limited = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let hidden = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    if limited.is_err() || hidden.is_err() {
        output::error("countersign: cannot switch off core files; a crash could write secrets to the disk");
    }
}

/// An authority for a command: it answers from the database, and changes what it is told to change.
async fn open_as(config: Config) -> Result<Arc<Authority>, Failure> {
    open_by(options(config, false)).await
}

async fn open_by(options: Options) -> Result<Arc<Authority>, Failure> {
    let authority = Authority::open(options, Arc::new(SystemClock), Arc::new(SystemEntropy)).await;
    authority.map(Arc::new).map_err(Failure::CouldNotRun)
}

/// How a command opens the database of a configuration.
fn options(config: Config, create: bool) -> Options {
    Options {
        database: database(&config),
        keys: config.keys,
        create,
        lease: None,
        on_database_loss: OnDatabaseLoss::Deny,
        revocation_wait: config.revocation_wait,
        journal: None,
        attempts: AttemptLimits::NONE,
        use_sources: false,
        max_tokens: None,
    }
}

/// Where the configuration says that the records are.
fn database(config: &Config) -> Database {
    config.database.clone().map_or_else(|| Database::Sqlite(config.data.clone()), Database::Postgres)
}

/// Whoever runs this command, by the account's number: names can be chosen by whoever sets the environment.
fn operator() -> Owner {
    let account = rustix::process::getuid().as_raw();
    let request = RequestInfo { id: format!("command-{}", rustix::process::getpid().as_raw_nonzero()), source: String::new() };
    Owner::at_command_line(format!("uid-{account}"), request)
}
