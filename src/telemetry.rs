//! The log: one line an event on standard error, never with a secret in it, and never in the way of a request.

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{Config, LogFormat};

/// Lines that wait to be written at the most. A reader of standard error that stands still loses further ones.
const LINES: usize = 16_384;

/// Writes what waits when it is dropped.
pub(crate) struct Log {
    _writer: WorkerGuard,
}

/// Starts logging. Changes nothing if something else has started it, as tests do.
pub(crate) fn start(config: &Config) -> Log {
    // A thread of its own writes: if standard error is full, slow or gone, requests do not notice.
    let (lines, writer) = NonBlockingBuilder::default().buffered_lines_limit(LINES).lossy(true).finish(std::io::stderr());
    // Ours at the level that was asked for; of libraries, which could print what they handle, warnings at the most.
    let filter = EnvFilter::new(format!("warn,countersign={}", config.log));
    let lines = fmt().with_env_filter(filter).with_writer(lines).with_target(false);
    let _ = match config.log_format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.with_ansi(false).try_init(),
    };
    Log { _writer: writer }
}
