//! `hawker serve`: one node, as its configuration says.

use std::path::Path;

use super::Outcome;
use crate::config::Config;

/// Runs until the process is told to end.
pub fn run(config: &Path) -> Outcome {
    Config::load(config)?;
    Err("serving is not built yet".into())
}
