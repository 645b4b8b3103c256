//! The log: one line an event on standard error, never with a secret in it, and never in the way of a request. And, where a
//! collector is named, the same lines and traces of requests there.

mod otlp;

use std::{
    io::{self, Stderr, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use self::otlp::Otlp;
use crate::{
    config::{Config, LogFormat},
    spans::SPANS,
};

pub(crate) use self::otlp::failures as otlp_failures;

/// Lines that wait to be written at the most. A reader of standard error that stands still loses further ones.
const LINES: usize = 16_384;

/// Lines that found too many waiting, and those that could not be written.
static LEFT_OUT: OnceLock<ErrorCounter> = OnceLock::new();
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// How many lines of the log were lost since start.
pub(crate) fn lines_lost() -> u64 {
    LEFT_OUT.get().map_or(0, |count| count.dropped_lines() as u64) + UNWRITTEN.load(Ordering::Relaxed)
}

/// Standard error, which may take nothing: a full disk, say, or a reader that is gone.
struct Counted(Stderr);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).inspect_err(|_| {
            UNWRITTEN.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes what waits, and sends what is gathered, when it is dropped.
pub(crate) struct Log {
    _writer: WorkerGuard,
    _otlp: Option<Otlp>,
}

/// Starts logging. Changes nothing if something else has started it, as tests do.
///
/// # Errors
/// A sentence that says what is wrong with the collector.
pub(crate) fn start(config: &Config) -> Result<Log, String> {
    let otlp = config.otlp.as_ref().map(|collector| Otlp::start(collector, config.trace_ratio)).transpose();
    let otlp = otlp.map_err(|e| format!("otlp: {e}"))?;
    // A thread of its own writes: if standard error is full, slow or gone, requests do not notice.
    let (lines, writer) = NonBlockingBuilder::default().buffered_lines_limit(LINES).lossy(true).finish(Counted(io::stderr()));
    let _ = LEFT_OUT.set(lines.error_counter());
    // Ours at the level that was asked for; of libraries, which could print what they handle, warnings at the most.
    let filter = || EnvFilter::new(format!("warn,countersign={},{SPANS}=off", config.log));
    let lines = fmt::layer().with_writer(lines).with_target(false);
    let lines = match config.log_format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.with_ansi(false).boxed(),
    };
    let collected = otlp.as_ref().map(|otlp| otlp.layers(filter()));
    let _ = Registry::default().with(lines.with_filter(filter())).with(collected).try_init();
    Ok(Log { _writer: writer, _otlp: otlp })
}
