//! `hawker push`.

use super::Outcome;

/// Arguments of `hawker push`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub async fn run(_args: Args) -> Outcome {
    Err("push is not built yet".into())
}
/// x
pub async fn run_sample(_url: &str, stop: impl Future<Output = ()>) -> Outcome {
    stop.await;
    Ok(())
}
