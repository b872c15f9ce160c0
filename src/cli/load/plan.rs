//! What a run will do, worked out before it begins: who publishes, who watches what, and when each viewer comes and
//! goes.

use std::{
    collections::{HashMap, VecDeque},
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use url::Url;

use super::{Args, events::EventLog, observer::Identity};
use crate::{
    cli::{root_cause, webrtc},
    clock::Instant,
    media::StreamName,
    secret::{Digest, redact},
};

/// How an address is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP-FLV.
    Flv,
    /// RTMP play.
    Rtmp,
    /// MoQ over QUIC (`moqt`) or WebTransport (`https`).
    Moq,
    /// WebRTC.
    Whep,
}

/// One stream at one address.
#[derive(Debug)]
pub(super) struct Target {
    /// Its place among the addresses given.
    pub(super) index: usize,
    /// Where, `{n}` filled in.
    pub(super) url: Url,
    /// How.
    pub(super) protocol: Protocol,
    /// Host and port as the URL has them.
    pub(super) host: String,
    /// The same, resolved.
    pub(super) address: SocketAddr,
    /// The server's certificate, for MoQ.
    pub(super) cert_sha256: Option<Digest>,
    /// What is sent into the stream.
    pub(super) events: Arc<EventLog>,
}

/// One viewer, from coming to leaving.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    /// What he watches.
    pub(super) target: Arc<Target>,
    /// From the start on.
    pub(super) joins_at: Duration,
    /// The same; [`STAYS`] if he stays to the end.
    pub(super) leaves_at: Duration,
    /// He is read promptly, and measures latency.
    pub(super) is_sampled: bool,
    /// A slow viewer reads no more than this.
    pub(super) bytes_per_s_max: Option<usize>,
}

impl Visit {
    /// Who it is, for his account.
    pub(super) fn identity(&self) -> Identity {
        Identity {
            address: self.target.index,
            is_sampled: self.is_sampled,
            is_slow: self.bytes_per_s_max.is_some(),
            events: self.target.events.clone(),
        }
    }
}

/// The whole run.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where each publisher publishes.
    pub(super) publish: Vec<Url>,
    /// The streams that events are sent into.
    pub(super) streams: Vec<(StreamName, Arc<EventLog>)>,
    /// What is sent into each stream, whoever sends it.
    pub(super) logs: Vec<Arc<EventLog>>,
    /// By the time they join.
    pub(super) visits: Vec<Visit>,
    /// When everybody has joined who doesn't come for somebody else.
    pub(super) joined_after: Duration,
    /// When it ends.
    pub(super) ends_after: Duration,
    /// Who leads it, if it is another machine.
    pub(super) leader: Option<Leader>,
}

/// The machine that leads a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leader {
    /// When everybody starts.
    pub(super) starts_at: Instant,
    /// How far this machine's clock is ahead of that one's.
    pub(super) clock_ahead_us: i64,
}

/// Why there is nothing to be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadPlan {
    #[error("{url}: {reason}")]
    Url { url: String, reason: &'static str },
    #[error("{host}: {reason}")]
    Unresolved { host: String, reason: String },
    #[error("nothing to do: give --publish, --watch, or both")]
    Nothing,
    #[error("{needed} connections at once need more than the {max} descriptors this process may have (ulimit -n)")]
    Descriptors { needed: usize, max: usize },
    #[error("{0} viewers in all are more than one run can take")]
    TooMany(usize),
    #[error("joining takes {} s (--ramp, --storm), longer than the run of {secs} s (--secs)", .joining.as_secs_f64())]
    TooShort { joining: Duration, secs: f64 },
    #[error("--events needs a stream's name: publish or watch something like app/name")]
    NoStream,
}

impl Plan {
    /// Works out what `args` ask for.
    pub(super) fn new(args: &Args) -> Result<Self, BadPlan> {
        if args.publish.is_none() && args.watch.is_empty() {
            return Err(BadPlan::Nothing);
        }
        let logs: Vec<Arc<EventLog>> = (0..args.publishers).map(|_| Arc::default()).collect();
        let publish = publishers(args)?;
        let targets = targets(&args.watch, args.cert_sha256, &logs)?;
        let schedule = Schedule::of(args);
        let visits = if targets.is_empty() { Vec::new() } else { schedule.visits(args, &targets) };
        // Who comes for somebody else may be there before he has left.
        let viewers = args.viewers + args.storm_viewers() + args.churn.ceil() as usize;
        let needed =
            publish.len() + if targets.is_empty() { 0 } else { viewers } + args.threads * DESCRIPTORS_PER_THREAD;
        let max = descriptors_max().saturating_sub(DESCRIPTORS_SPARE);
        if needed > max {
            return Err(BadPlan::Descriptors { needed, max });
        }
        if visits.len() > VISITS_MAX {
            return Err(BadPlan::TooMany(visits.len()));
        }
        if !targets.is_empty() && schedule.joined_after > schedule.ends_after {
            return Err(BadPlan::TooShort { joining: schedule.joined_after, secs: args.secs });
        }
        let streams = if args.events > 0.0 { named(&publish, &targets, &logs)? } else { Vec::new() };
        let Schedule { joined_after, ends_after, .. } = schedule;
        Ok(Self { publish, streams, logs, visits, joined_after, ends_after, leader: None })
    }
}

/// When viewers come.
struct Schedule {
    ramp: Duration,
    joined_after: Duration,
    ends_after: Duration,
}

impl Schedule {
    fn of(args: &Args) -> Self {
        let ramp = args.ramp_secs();
        let storm_ends = args.storm.map_or(0.0, |storm| storm.at_secs + 1.0);
        Self {
            ramp: Duration::from_secs_f64(ramp),
            joined_after: Duration::from_secs_f64(ramp.max(storm_ends)),
            ends_after: Duration::from_secs_f64(args.secs),
        }
    }

    fn visits(&self, args: &Args, targets: &[Vec<Arc<Target>>]) -> Vec<Visit> {
        let everybody = args.viewers + args.storm_viewers();
        let sample = args.sample.unwrap_or((everybody / SAMPLED_VIEWERS).max(1));
        let slow_bytes = usize::try_from(args.shape.kbit_per_s * 125 / 10).unwrap_or(usize::MAX);
        let visit = |nth: usize, joins_at: Duration| {
            let streams = targets.get(nth % targets.len())?;
            let round = nth / targets.len();
            let target = streams.get(round % streams.len())?;
            let is_slow = (nth + 1) * args.slow / 100 > nth * args.slow / 100;
            Some(Visit {
                target: target.clone(),
                joins_at,
                leaves_at: STAYS,
                // Shifted with each round over the streams, so that all of them have their share.
                is_sampled: !is_slow && (round + round / streams.len()).is_multiple_of(sample),
                bytes_per_s_max: is_slow.then_some(slow_bytes),
            })
        };
        let spread =
            |count: usize, over: Duration| (0..count).map(move |nth| over.mul_f64(nth as f64 / count.max(1) as f64));
        let ramp = (0..).zip(spread(args.viewers, self.ramp));
        let mut visits: Vec<Visit> = ramp.filter_map(|(nth, at)| visit(nth, at)).collect();
        self.churn(args.churn, &mut visits);
        if let Some(storm) = args.storm {
            let at = Duration::from_secs_f64(storm.at_secs);
            let coming = (args.viewers..).zip(spread(storm.viewers, Duration::from_secs(1)));
            visits.extend(coming.filter_map(|(nth, after)| visit(nth, at + after)));
        }
        visits.sort_by_key(|visit| visit.joins_at);
        visits
    }

    /// Who has been there longest leaves, and another one comes for him.
    fn churn(&self, per_s: f64, visits: &mut Vec<Visit>) {
        if per_s <= 0.0 {
            return;
        }
        let mut present: VecDeque<usize> = (0..visits.len()).collect();
        let changes = (0..).map(|nth| self.ramp + Duration::from_secs_f64(f64::from(nth) / per_s));
        for at in changes.take_while(|at| *at + CHURN_STAY_MIN < self.ends_after).take(VISITS_MAX) {
            let Some(leaving) = present.pop_front().and_then(|oldest| visits.get_mut(oldest)) else { return };
            leaving.leaves_at = at;
            let coming = Visit { joins_at: at, leaves_at: STAYS, ..leaving.clone() };
            present.push_back(visits.len());
            visits.push(coming);
        }
    }
}

fn publishers(args: &Args) -> Result<Vec<Url>, BadPlan> {
    let Some(pattern) = &args.publish else { return Ok(Vec::new()) };
    let bad = |reason| BadPlan::Url { url: redact(pattern), reason };
    if args.publishers > 1 && !pattern.contains(PLACE) {
        return Err(bad("several publishers need {n} in their address"));
    }
    let publisher = |n: usize| {
        let url = filled(pattern, n)?;
        let known = if url.scheme() == "rtmp" { Some(url) } else { webrtc::endpoint(&url, "whip") };
        known.ok_or_else(|| bad("load publishes over rtmp, and over whip or http with /whip/"))
    };
    (0..args.publishers).map(publisher).collect()
}

/// For each address the streams that it has.
fn targets(
    watch: &[String],
    cert_sha256: Option<Digest>,
    logs: &[Arc<EventLog>],
) -> Result<Vec<Vec<Arc<Target>>>, BadPlan> {
    let mut resolved = HashMap::new();
    let mut target = |index: usize, pattern: &str, n: usize| {
        let (url, bad) = (filled(pattern, n)?, |reason| BadPlan::Url { url: redact(pattern), reason });
        let whep = webrtc::endpoint(&url, "whep");
        let (protocol, default_port) = match url.scheme() {
            _ if whep.is_some() => (Protocol::Whep, 80),
            "http" if url.path().ends_with(".flv") => (Protocol::Flv, 80),
            "rtmp" => (Protocol::Rtmp, 1935),
            "https" | "moqt" => (Protocol::Moq, 443),
            _ => return Err(bad("load watches rtmp, http with .flv, https and moqt (MoQ), and whep")),
        };
        let url = whep.unwrap_or(url);
        let (name, port) = (url.host_str().ok_or_else(|| bad("has no host"))?, url.port().unwrap_or(default_port));
        let host = format!("{name}:{port}");
        let address = match resolved.get(&host) {
            Some(address) => *address,
            None => *resolved.entry(host.clone()).or_insert(resolve(&host)?),
        };
        let events = logs.get(n).cloned().unwrap_or_default();
        Ok(Arc::new(Target { index, url, protocol, host, address, cert_sha256, events }))
    };
    let mut streams = |(index, pattern): (usize, &String)| {
        let count = if pattern.contains(PLACE) { logs.len() } else { 1 };
        (0..count).map(|n| target(index, pattern, n)).collect()
    };
    watch.iter().enumerate().map(&mut streams).collect()
}

fn resolve(host: &str) -> Result<SocketAddr, BadPlan> {
    let unresolved = |reason: String| BadPlan::Unresolved { host: host.to_owned(), reason };
    let mut addresses = host.to_socket_addrs().map_err(|e| unresolved(root_cause(&e)))?;
    addresses.next().ok_or_else(|| unresolved("has no address".into()))
}

fn filled(pattern: &str, n: usize) -> Result<Url, BadPlan> {
    let url = pattern.replace(PLACE, &n.to_string());
    url.parse().map_err(|_| BadPlan::Url { url: redact(pattern), reason: "is not a URL" })
}

/// The streams' names, for the API.
fn named(
    publish: &[Url],
    targets: &[Vec<Arc<Target>>],
    logs: &[Arc<EventLog>],
) -> Result<Vec<(StreamName, Arc<EventLog>)>, BadPlan> {
    let watched = targets.first().into_iter().flatten().map(|target| &target.url);
    let urls: Vec<&Url> = if publish.is_empty() { watched.collect() } else { publish.iter().collect() };
    let name = |url: &&Url| {
        let path = url.path().trim_matches('/');
        let is_webrtc = ["whip", "whep"].into_iter().any(|kind| webrtc::endpoint(url, kind).is_some());
        let path = path.split_once('/').filter(|_| is_webrtc).map_or(path, |(_, name)| name);
        path.strip_suffix(".flv").unwrap_or(path).parse::<StreamName>().map_err(|_| BadPlan::NoStream)
    };
    urls.iter().zip(logs).map(|(url, log)| Ok((name(url)?, log.clone()))).collect()
}

/// What the system lets this process have open.
fn descriptors_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(usize::MAX)
}

/// Stands for a publisher's number in an address.
pub(super) const PLACE: &str = "{n}";
/// Longer than any run.
const STAYS: Duration = Duration::from_secs(7 * 86_400);
/// How many viewers measure latency, unless told otherwise.
const SAMPLED_VIEWERS: usize = 25;
/// Descriptors for everything but publishers and viewers.
const DESCRIPTORS_SPARE: usize = 64;
/// A runtime's.
const DESCRIPTORS_PER_THREAD: usize = 4;
/// Nobody comes so late that there may be no keyframe for him.
const CHURN_STAY_MIN: Duration = Duration::from_secs(1);
const VISITS_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests;
