//! Where log lines go: stderr, as text for people or as JSON for machines.

use std::{
    io::{IsTerminal, stderr},
    sync::OnceLock,
};

use tracing_subscriber::{Registry, filter::Targets, fmt, prelude::*, reload};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging for the whole process; a second call changes nothing. `level` is a level, or
/// `target=level,…`; what can't be read as one means `info`.
pub fn init(level: &str, format: Format) {
    let (targets, level) = reload::Layer::new(targets(level));
    let registry = tracing_subscriber::registry().with(targets);
    let lines = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
    let started = match format {
        Format::Text => registry.with(lines.compact().with_target(false)).try_init(),
        Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    if started.is_err() || LEVEL.set(level).is_err() {
        tracing::debug!("logging was already started");
    }
}

/// Changes the level of a process that logs already.
pub fn set_level(level: &str) {
    // Without a handle there is no log to change.
    let _ = LEVEL.get().map(|handle| handle.reload(targets(level)));
}

fn targets(level: &str) -> Targets {
    level.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO))
}

static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();
