//! `hawker load`: publishers and viewers by the thousand, and what a server makes of them.
//!
//! ```text
//! plan ─► publish ─► [server] ─► viewers ─► observer ─► tally ─► report
//!            media   events ─┘     flv, rtmp, moq        engine, usage
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use tokio_util::sync::CancellationToken;

use self::{
    media::Shape,
    plan::Plan,
    progress::{Progress, Summary},
    report::Report,
    thresholds::Condition,
};
use super::{Outcome, api};
use crate::task;

pub mod media;
pub mod report;

mod engine;
mod events;
mod flv;
mod html;
mod moq;
mod observer;
mod plan;
mod progress;
mod publish;
mod rtmp;
mod tags;
mod tally;
mod thresholds;
mod usage;
mod viewers;

/// Arguments of `hawker load`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub struct Args {
    /// Publish a synthetic stream here, over RTMP; {n} counts the publishers from 0.
    #[arg(long, value_name = "URL")]
    publish: Option<String>,
    /// How many publishers, or, without --publish, streams to watch.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_count)]
    publishers: usize,
    /// Watch this: http://….flv, rtmp://…, https://… or moqt://… (MoQ), with {n} as in --publish. Repeat it, and
    /// viewers are dealt over the addresses in turn.
    #[arg(long, value_name = "URL")]
    watch: Vec<String>,
    /// How many viewers.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = parse_count)]
    viewers: usize,
    /// How long in all, once the publishers are on air.
    #[arg(long, value_name = "SECS", default_value_t = 20.0, value_parser = parse_secs)]
    secs: f64,
    #[command(flatten)]
    shape: Shape,
    /// Viewers join over this time [default: 200 a second].
    #[arg(long, value_name = "SECS", value_parser = parse_secs)]
    ramp: Option<f64>,
    /// So many viewers a second leave, and others come for them.
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = parse_rate)]
    churn: f64,
    /// So many of the viewers read at a tenth of the rate.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = parse_percent)]
    slow: usize,
    /// So many more viewers come within a second, at that time.
    #[arg(long, value_name = "N@SECS")]
    storm: Option<Storm>,
    /// Send so many events a second into each stream.
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = parse_rate)]
    events: f64,
    #[command(flatten)]
    api: api::Access,
    /// Each Nth viewer is read promptly and measures latency [default: so that about 50 do].
    #[arg(long, value_name = "N", value_parser = parse_count)]
    sample: Option<usize>,
    /// Observe CPU and memory of this process of this machine: the server. Repeat it for several.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Threads for the viewers that aren't sampled.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_count)]
    threads: usize,
    /// Write the report as JSON; - is stdout.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a page with plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Exit with 1 if this is so at the end, such as 'latency_p99_ms>50'; --help lists the figures. Repeat it for
    /// several.
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<Condition>,
}

const EXAMPLES: &str = "\
Examples:
  1,000 viewers of two streams, half of them over HTTP-FLV and half over RTMP:
    hawker load --publish 'rtmp://HOST/live/load-{n}?key=KEY' --publishers 2 --viewers 1000 \\
      --watch 'http://HOST:8080/live/load-{n}.flv' --watch 'rtmp://HOST/live/load-{n}'
  What an existing stream's server does when 5,000 come at once:
    hawker load --watch http://HOST:8080/live/room.flv --viewers 100 --storm 5000@10 --pid $(pidof hawker)";

/// Viewers that come within a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Storm {
    viewers: usize,
    at_secs: f64,
}

impl Args {
    fn storm_viewers(&self) -> usize {
        self.storm.map_or(0, |storm| storm.viewers)
    }
}

/// Runs the load and reports.
pub(super) async fn run(args: Args) -> Outcome {
    let plan = Plan::new(&args)?;
    let api = if args.events > 0.0 { Some(args.api.clone().open()?) } else { None };
    let stop = CancellationToken::new();
    let interrupted = stop.clone();
    task::spawn("ctrl-c", async move {
        // Without signals, the process ends at the first.
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    let mut progress = Progress::new(plan.ends_after);
    let findings = engine::run(&args, plan, api, stop, |sample, all| progress.show(sample, &all.counts)).await?;
    progress.finish();
    let mut report = findings.into_report();
    report.failed_if = args.fail_if.iter().filter_map(|condition| condition.broken_by(&report)).collect();
    write(&args, &report)?;
    if report.failed_if.is_empty() { Ok(()) } else { Err(report.failed_if.join("\n").into()) }
}

/// The summary stays out of the way of a JSON report on stdout.
fn write(args: &Args, report: &Report) -> Outcome {
    let json = serde_json::to_string_pretty(report)?;
    match &args.json {
        Some(path) if path.as_os_str() == "-" => {
            println!("{json}");
            eprint!("{}", Summary(report));
        }
        Some(path) => {
            save(path, &json)?;
            print!("{}", Summary(report));
        }
        None => print!("{}", Summary(report)),
    }
    if let Some(path) = &args.html {
        save(path, &html::page(report))?;
    }
    Ok(())
}

fn save(path: &Path, text: &str) -> Outcome {
    Ok(fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{}", thresholds::help())
}

impl FromStr for Storm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (viewers, at) = text.split_once('@').ok_or("is N@SECS, such as 5000@10")?;
        Ok(Self { viewers: parse_count(viewers)?, at_secs: parse_secs(at)? })
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    let count: usize = text.parse().map_err(|_| "is a number")?;
    if (1..=1_000_000).contains(&count) { Ok(count) } else { Err("is between 1 and 1000000".into()) }
}

fn parse_percent(text: &str) -> Result<usize, String> {
    let percent: usize = text.parse().map_err(|_| "is a number")?;
    if percent <= 100 { Ok(percent) } else { Err("is between 0 and 100".into()) }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "is a number")?;
    if (0.0..=10_000.0).contains(&rate) { Ok(rate) } else { Err("is between 0 and 10000".into()) }
}

fn parse_secs(text: &str) -> Result<f64, String> {
    let secs: f64 = text.parse().map_err(|_| "is a number of seconds")?;
    if (0.1..=86_400.0).contains(&secs) { Ok(secs) } else { Err("is between 0.1 and 86400".into()) }
}
