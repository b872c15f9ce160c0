//! `hawker`: see `hawker --help`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match hawker::cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hawker: {error}");
            ExitCode::FAILURE
        }
    }
}
