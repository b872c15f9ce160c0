//! What a load run found: one document for people (terminal, HTML), scripts (JSON) and thresholds.
//!
//! Reports of several machines add up: counts are summed, distributions merged before their percentiles are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A whole run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// When it began, UTC milliseconds.
    pub began_unix_ms: i64,
    /// From the first connection to the end.
    pub secs: f64,
    /// What was published.
    pub publishers: Publishers,
    /// What all viewers together saw.
    pub viewers: Viewers,
    /// The same for each address watched.
    pub watched: Vec<Watched>,
    /// The time when everybody had joined: where costs are compared.
    pub steady: Steady,
    /// The machines that watched too (`--agent`).
    pub agents: Vec<AgentUse>,
    /// The server processes observed (`--pid`).
    pub servers: Vec<ServerUse>,
    /// CPU time of the load generator itself, all machines, microseconds.
    pub client_cpu_us: u64,
    /// How it went over time, a sample a second or so.
    pub series: Vec<Sample>,
    /// The conditions of `--fail-if` that came true.
    pub failed_if: Vec<String>,
}

/// The publishers' side.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Publishers {
    /// Asked for.
    pub count: u64,
    /// Refused, or never connected.
    pub failed: u64,
    /// Lost while they published.
    pub lost: u64,
    /// Frames sent.
    pub frames: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// How late the latest frame was sent: much of it, and the load generator itself was too slow.
    pub late_ms_max: u64,
    /// Events that the server acknowledged.
    pub events: u64,
    /// Events that it refused, or never answered.
    pub events_refused: u64,
}

/// What viewers saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Viewers {
    /// Asked for, those that churn brought in included.
    pub count: u64,
    /// Got their first keyframe.
    pub joined: u64,
    /// Were refused, or never connected.
    pub failed: u64,
    /// Lost their connection before the end.
    pub lost: u64,
    /// Connected, and got nothing for longer than two seconds at a time; slow ones don't count.
    pub starved: u64,
    /// Frames received.
    pub frames: u64,
    /// Frames missing between two that were received; slow viewers' don't count.
    pub frames_lost: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Events received.
    pub events: u64,
    /// Acknowledged events that a viewer should have got and didn't.
    pub events_lost: u64,
    /// From connecting to the first keyframe.
    pub join_ms: Quantiles,
    /// From the publisher's write of a frame to its arrival at those viewers that are sampled.
    pub latency_ms: Quantiles,
    /// Why viewers failed or were lost, and how many.
    pub failures: BTreeMap<String, u64>,
    /// Points of the latency's distribution, for plots: fraction of the samples at or below `ms`.
    pub latency_cdf: Vec<CdfPoint>,
}

/// Viewers of one address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watched {
    /// Without its secrets.
    pub url: String,
    /// What they saw.
    #[serde(flatten)]
    pub viewers: Viewers,
}

/// Percentiles of a distribution.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// The most.
    pub max: f64,
    /// How many were measured.
    pub samples: u64,
}

/// A point of a distribution.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CdfPoint {
    /// Milliseconds.
    pub ms: f64,
    /// Fraction of the samples at or below, 0 to 1.
    pub fraction: f64,
}

/// The time from a second after the last join to the end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Steady {
    /// How long it was.
    pub secs: f64,
    /// Frames that viewers received in it.
    pub frames: u64,
    /// Bytes that viewers received in it.
    pub bytes: u64,
    /// Frames that publishers sent in it.
    pub publisher_frames: u64,
    /// Bytes that publishers sent in it.
    pub publisher_bytes: u64,
    /// CPU time of the load generator in it, microseconds.
    pub client_cpu_us: u64,
    /// CPU time of the observed servers in it, microseconds.
    pub server_cpu_us: u64,
}

/// One machine that watched for us.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentUse {
    /// Where it listens.
    pub address: String,
    /// Viewers that it was asked to bring.
    pub viewers: u64,
    /// CPU time it took, microseconds.
    pub cpu_us: u64,
    /// How far its clock is ahead of ours. Latencies are corrected by it.
    pub clock_ahead_us: i64,
    /// Of the question that told so; half of it is how wrong that may be.
    pub round_trip_us: u64,
    /// Why it was lost, if it was. What it had seen by then counts.
    pub lost: Option<String>,
}

/// One observed server process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerUse {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// CPU time in the steady part, microseconds.
    pub cpu_us: u64,
    /// That as a share of one core, percent.
    pub cpu_percent: f64,
    /// Resident memory: the least seen (before the viewers came) and the most, bytes.
    pub rss_bytes_min: u64,
    /// The most.
    pub rss_bytes_max: u64,
}

/// The state at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Since the start.
    pub at_ms: u64,
    /// Viewers connected and playing.
    pub viewers: u64,
    /// Viewers that joined since the last sample.
    pub joined: u64,
    /// Bits received a second since the last sample.
    pub bits_per_s: u64,
    /// CPU of the load generator since the last sample, percent of one core.
    pub client_cpu_percent: f64,
    /// CPU of the observed servers since the last sample, percent of one core.
    pub server_cpu_percent: f64,
    /// Latency since the last sample.
    pub latency_ms_p50: f64,
    /// Its 99th percentile.
    pub latency_ms_p99: f64,
}
