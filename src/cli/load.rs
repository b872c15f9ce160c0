//! `hawker load`: publishers and viewers by the thousand, and what a server makes of them.
//!
//! ```text
//! plan ─► publish ─► [server] ─► viewers ─► observer ─► tally ─► report
//!      whip, media  events ─┘  flv, rtmp, moq, whep     engine, usage
//! ```

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process,
    str::FromStr,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::{
    agent::Agent,
    media::Shape,
    plan::Plan,
    progress::{Progress, Summary},
    report::{Report, Sample},
    tally::Tally,
    thresholds::Condition,
};
use super::{Outcome, api, watch};
use crate::{
    secret::{Digest, Secret, redact},
    task,
};

pub mod media;
pub mod report;

mod agent;
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
mod whep;
mod whip;

/// Arguments of `hawker load`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = examples(), after_long_help = long_help())]
pub struct Args {
    /// Publish a synthetic stream here: rtmp://…, or whip://host/name (WebRTC, the same as http://host/whip/name); an n
    /// in braces counts the publishers from 0.
    #[arg(long, value_name = "URL")]
    publish: Option<String>,
    /// How many publishers, or, without --publish, streams to watch.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_count)]
    publishers: usize,
    /// Watch this: http://….flv, rtmp://…, https://… or moqt://… (MoQ), whep://host/name (WebRTC, the same as
    /// http://host/whep/name), with an n in braces as in --publish. Repeat it, and viewers are dealt over the addresses in
    /// turn.
    #[arg(long, value_name = "URL")]
    watch: Vec<String>,
    /// The server's certificate, for MoQ where no authority vouches for it.
    #[arg(long, value_name = "HEX", value_parser = watch::parse_digest)]
    cert_sha256: Option<Digest>,
    /// How many viewers.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = parse_count)]
    viewers: usize,
    /// How long in all, once the publishers are on air.
    #[arg(long, value_name = "SECS", default_value_t = 20.0, value_parser = watch::parse_secs)]
    secs: f64,
    #[command(flatten)]
    shape: Shape,
    /// Viewers join over this time [default: 200 a second].
    #[arg(long, value_name = "SECS", value_parser = watch::parse_secs)]
    ramp: Option<f64>,
    /// So many viewers a second leave, and others come for them.
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = parse_rate)]
    churn: f64,
    /// So many of the viewers read no more than a tenth of --kbit-per-s; what they miss is no fault.
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
    /// Each Nth viewer is read promptly and measures latency [default: so that about 25 do].
    #[arg(long, value_name = "N", value_parser = parse_count)]
    sample: Option<usize>,
    /// Observe CPU and memory of this process of this machine: the server. Repeat it for several.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Threads for the publishers, and as many for the viewers that aren't sampled.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_threads)]
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
    /// Share the viewers with this agent: a `hawker load --listen` elsewhere. Repeat it for several.
    #[arg(long, value_name = "HOST:PORT")]
    agent: Vec<String>,
    /// Be an agent: watch for whoever connects and knows the token. What is watched, keys included, comes in the
    /// clear.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:7000")]
    #[arg(conflicts_with_all = ["publish", "watch", "agent"])]
    listen: Option<SocketAddr>,
    /// What agents and who uses them agreed on.
    #[arg(long, value_name = "TOKEN", env = "HAWKER_LOAD_TOKEN", hide_env_values = true)]
    #[arg(value_parser = api::parse_secret)]
    agent_token: Option<Secret>,
}

const EXAMPLES: &str = "\
Examples:
  1,000 viewers of two streams, half of them over HTTP-FLV and half over RTMP:
    hawker load --publish 'rtmp://HOST/live/load-{n}?key=KEY' --publishers 2 --viewers 1000 \\
      --watch 'http://HOST:8080/live/load-{n}.flv' --watch 'rtmp://HOST/live/load-{n}'
  What an existing stream's server does when 5,000 come at once:
    hawker load --watch http://HOST:8080/live/room.flv --viewers 100 --storm 5000@10 --pid $(pidof hawker)
  Shared with another machine, on which `hawker load --listen 10.0.0.2:7000` runs, and judged:
    hawker load --watch http://HOST:8080/live/room.flv --viewers 30000 --ramp 30 --secs 60 \\
      --agent 10.0.0.2:7000 --html report.html --fail-if 'latency_p99_ms>50' --fail-if 'frames_lost>0'";

/// As a shell has it for what SIGINT ended.
const INTERRUPTED: i32 = 130;
/// The pace of joining, unless another is asked for.
const JOINS_PER_S: f64 = 200.0;

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

    /// How long joining takes.
    fn ramp_secs(&self) -> f64 {
        self.ramp.unwrap_or((self.viewers as f64 / JOINS_PER_S).max(1.0))
    }

    fn agent_token(&self) -> Result<&Secret, &'static str> {
        let given = self.agent_token.as_ref().filter(|token| !token.expose().is_empty());
        given.ok_or("agents need --agent-token or HAWKER_LOAD_TOKEN")
    }

    /// What one of so many machines has to do.
    fn part(&self, nth: usize, of: usize) -> Self {
        let part = |all: usize| all / of + usize::from(nth < all % of);
        let storm = self.storm.map(|storm| Storm { viewers: part(storm.viewers), ..storm });
        Self {
            viewers: part(self.viewers),
            ramp: Some(self.ramp_secs()),
            churn: self.churn / of as f64,
            storm: storm.filter(|storm| storm.viewers > 0),
            ..self.clone()
        }
    }

    /// The viewers' side as it would be typed, for an agent.
    fn to_watch(&self) -> Vec<String> {
        let numbers = [
            ("publishers", self.publishers.to_string()),
            ("viewers", self.viewers.to_string()),
            ("secs", self.secs.to_string()),
            ("ramp", self.ramp_secs().to_string()),
            ("churn", self.churn.to_string()),
            ("slow", self.slow.to_string()),
            ("kbit-per-s", self.shape.kbit_per_s.to_string()),
            ("threads", self.threads.to_string()),
        ];
        let watched = self.watch.iter().map(|url| ("watch", url.clone()));
        let storm = self.storm.map(|storm| ("storm", format!("{}@{}", storm.viewers, storm.at_secs)));
        let sample = self.sample.map(|sample| ("sample", sample.to_string()));
        let digest = self.cert_sha256.map(|digest| ("cert-sha256", digest.to_string()));
        let all = numbers.into_iter().chain(watched).chain(storm).chain(sample).chain(digest);
        all.map(|(name, value)| format!("--{name}={value}")).collect()
    }

    /// For an agent: nothing but watching.
    fn watching_only(self) -> Self {
        Self { publish: None, events: 0.0, pid: Vec::new(), ..self }
    }
}

/// Runs the load and reports, or serves whoever does.
pub(super) async fn run(args: Args) -> Outcome {
    let stop = CancellationToken::new();
    let interrupted = stop.clone();
    task::spawn("ctrl-c", async move {
        // Without signals, the process ends at the first.
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            process::exit(INTERRUPTED);
        }
    });
    match args.listen {
        Some(address) => agent::listen(address, args.agent_token()?, stop).await,
        None => lead(&args, stop).await,
    }
}

/// Publishes, watches together with the agents, and reports.
async fn lead(all: &Args, stop: CancellationToken) -> Outcome {
    let machines = all.agent.len() + 1;
    if all.viewers < machines {
        return Err(format!("{} viewers are too few for {machines} machines", all.viewers).into());
    }
    let args = all.part(0, machines);
    let plan = Plan::new(&args)?;
    let api = if args.events > 0.0 { Some(args.api.clone().open()?) } else { None };
    let mut agents = Vec::new();
    for (address, nth) in all.agent.iter().zip(1..) {
        let part = all.part(nth, machines);
        let recruiting = Agent::recruit(address, all.agent_token()?, &part);
        let recruited = stop.run_until_cancelled(recruiting).await.ok_or("interrupted before it began")?;
        agents.push(recruited?);
    }
    let mut progress = Progress::new(plan.ends_after);
    let on_sample = |sample: &Sample, seen: &Tally, _: &[Tally]| progress.show(sample, &seen.counts);
    let findings = engine::run(&args, plan, api, agents, stop, on_sample).await?;
    progress.finish();
    let mut report = findings.into_report();
    report.failed_if = args.fail_if.iter().filter_map(|condition| condition.broken_by(&report)).collect();
    let lost = report.agents.iter().filter(|agent| agent.lost.is_some()).map(|agent| agent.address.as_str());
    let lost: Vec<_> = lost.collect();
    if !lost.is_empty() {
        report.failed_if.push(format!("lost agents: {}", lost.join(", ")));
    }
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

/// Says what went wrong, and at which address: the first of a kind only, since what follows is counted.
fn complain(kind: &str, address: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock();
    if said.len() < tally::FAILURE_KINDS_MAX && said.insert(kind.to_owned()) {
        eprintln!("{kind} ({})", redact(address));
    }
}

fn save(path: &Path, text: &str) -> Outcome {
    Ok(fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn long_help() -> String {
    format!("{}\n\n{}", examples(), thresholds::help())
}

/// To clap, {n} in a text is a line's end; a change of style in it, which shows nowhere, keeps it as it is.
fn examples() -> String {
    EXAMPLES.replace(plan::PLACE, "{\u{1b}[0mn}")
}

impl FromStr for Storm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (viewers, at) = text.split_once('@').ok_or("is N@SECS, such as 5000@10")?;
        Ok(Self { viewers: parse_count(viewers)?, at_secs: watch::parse_secs(at)? })
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    parse_within(text, 1..=1_000_000)
}

fn parse_threads(text: &str) -> Result<usize, String> {
    parse_within(text, 1..=64)
}

fn parse_percent(text: &str) -> Result<usize, String> {
    parse_within(text, 0..=100)
}

fn parse_within(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.parse().map_err(|_| "is a number")?;
    let (least, most) = (range.start(), range.end());
    if range.contains(&number) { Ok(number) } else { Err(format!("is between {least} and {most}")) }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "is a number")?;
    if (0.0..=10_000.0).contains(&rate) { Ok(rate) } else { Err("is between 0 and 10000".into()) }
}
