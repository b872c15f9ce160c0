//! `hawker watch`.

use super::Outcome;

/// Arguments of `hawker watch`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub async fn run(_args: Args) -> Outcome {
    Err("watch is not built yet".into())
}
