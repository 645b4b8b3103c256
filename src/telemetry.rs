//! The log: one line an event on standard error, never with a secret in it.

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{Config, LogFormat};

/// Starts logging. Does nothing if something else has started it, as tests do.
pub(crate) fn start(config: &Config) {
    // Ours at the level that was asked for; of libraries, which could print what they handle, warnings at the most.
    let filter = EnvFilter::new(format!("warn,countersign={}", config.log));
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let _ = match config.log_format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.with_ansi(false).try_init(),
    };
}
