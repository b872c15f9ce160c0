//! The command line. Each subcommand is one file; what it can't do it says in one human sentence.
//!
//! Exit codes: 0 done, 1 failed (the reason is on stderr), 2 not understood.

use std::{
    error::Error,
    future::{Future, pending},
    io,
    path::PathBuf,
    process,
    sync::Arc,
    thread,
};

use clap::{Parser, Subcommand};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

use crate::config::Config;

pub mod dev;
pub mod event;
pub mod load;
pub mod push;
pub mod rundown;
pub mod serve;
pub mod token;
pub mod watch;

mod api;
mod mark;
mod rtmp;
mod sample;
mod source;
mod webrtc;

/// What a subcommand returns; the error's text is what a person reads.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "hawker", version, about = "Live-commerce stream server", arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node for production.
    Serve {
        /// The configuration; deploy/hawker.toml explains every key.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Start beside a node that is about to end: wait for what only one of them can have.
        #[arg(long)]
        take_over: bool,
    },
    /// Run an origin and an edge on loopback, open to everybody on this machine, with a sample stream.
    Dev(dev::Args),
    /// Check a configuration.
    Check {
        /// The configuration.
        config: PathBuf,
    },
    /// Publish a file over RTMP as a live stream, in a loop.
    Push(push::Args),
    /// Watch a stream and report what arrives.
    Watch(watch::Args),
    /// Publish and watch with many at once, and report what a server takes for it.
    #[command(arg_required_else_help = true)]
    Load(Box<load::Args>),
    /// Send an event into a stream.
    Event(event::Args),
    /// Run a show by its plan.
    Rundown(rundown::Args),
    /// Make, list, rotate and revoke keys and tokens; sign JWTs and URLs.
    Token(token::Args),
}

impl Cli {
    /// Runs the subcommand to its end.
    pub fn run(self) -> Outcome {
        match self.command {
            Command::Serve { config, take_over } => serve::run(&config, take_over),
            Command::Dev(args) => dev::run(args),
            Command::Check { config } => {
                Config::load(&config)?;
                println!("{}: good", config.display());
                Ok(())
            }
            Command::Push(args) => block_on(push::run(args)),
            Command::Watch(args) => block_on(watch::run(args)),
            Command::Load(args) => block_on(load::run(*args)),
            Command::Event(args) => block_on(event::run(args)),
            Command::Rundown(args) => block_on(rundown::run(args)),
            Command::Token(args) => block_on(token::run(args)),
        }
    }
}

/// Runs a tool on a runtime of one thread.
fn block_on(tool: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(tool)
}

/// Cancels `stop` at SIGTERM or Ctrl-C; a second one ends the process at once. Notifies `reload`, if there is one, at
/// SIGHUP.
fn handle_signals(stop: CancellationToken, reload: Option<Arc<Notify>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hang_up = reload.is_some().then(|| signal(SignalKind::hangup())).transpose()?;
    drop(entered);
    let handling = async move {
        loop {
            let hung_up = async {
                match &mut hang_up {
                    Some(hang_up) => hang_up.recv().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hung_up => {
                    reload.iter().for_each(|reload| reload.notify_one());
                    continue;
                }
            }
            if stop.is_cancelled() {
                process::exit(1);
            }
            stop.cancel();
        }
    };
    thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(handling))?;
    Ok(())
}

/// The innermost reason: "Connection refused" rather than "error sending request".
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What a JSON error body says, else the body itself, bounded.
fn sentence(body: &str) -> String {
    let said = serde_json::from_str::<serde_json::Value>(body).ok();
    let said = said.as_ref().and_then(|v| ["message", "detail", "error"].iter().find_map(|key| v.get(key)?.as_str()));
    let text: String = said.unwrap_or(body).trim().chars().filter(|c| !c.is_control()).take(300).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_service_file_calls_us_as_we_are() {
        let unit = include_str!("../../deploy/hawker.service");
        let calls: Vec<_> = unit.lines().filter(|line| line.starts_with("Exec") && line.contains("hawker ")).collect();
        assert_eq!(calls.len(), 3);
        for call in calls {
            let arguments = call.split_once('=').expect("a value").1.split_whitespace();
            assert!(Cli::try_parse_from(arguments).is_ok(), "{call}");
        }
    }

    #[test]
    fn check_accepts_the_shipped_file_and_refuses_a_wrong_one() {
        let check = |path: &str| Cli::parse_from(["hawker", "check", path]).run();
        assert!(check(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/hawker.toml")).is_ok());
        let error = check(concat!(env!("CARGO_MANIFEST_DIR"), "/rustfmt.toml")).expect_err("not ours").to_string();
        assert!(error.contains("rustfmt.toml:1: max_width: unknown field `max_width`"), "{error}");
    }
}
