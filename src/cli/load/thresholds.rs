//! `--fail-if 'latency_p99_ms>50'`: what makes a run a failure.
//!
//! A figure that could not be measured fails its condition: a run that saw nothing must not pass for a good one.

use std::{fmt, str::FromStr};

use super::report::{Quantiles, Report, Viewers};

/// A figure of the report, compared with a number.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    figure: &'static Figure,
    is: Comparison,
    limit: f64,
}

/// Why a condition is not one.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Malformed {
    /// There is no comparison in it.
    #[error("is a figure, one of > >= < <= == !=, and a number, as in 'latency_p99_ms>50'")]
    NoComparison,
    /// The report has no such figure.
    #[error("there is no figure `{0}`; there are: {names}", names = names())]
    UnknownFigure(String),
    /// What stands behind the comparison isn't a number.
    #[error("`{0}` is not a number; units are part of the name")]
    NotANumber(String),
}

impl Condition {
    /// One line if the condition came true, or can't be told.
    pub(super) fn broken_by(&self, report: &Report) -> Option<String> {
        match (self.figure.of)(report).filter(|value| value.is_finite()) {
            Some(value) if self.is.holds(value, self.limit) => Some(format!("{self}: it is {}", rounded(value))),
            Some(_) => None,
            None => Some(format!("{self}: it was not measured")),
        }
    }
}

impl FromStr for Condition {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let at = text.find(['>', '<', '=', '!']).ok_or(Malformed::NoComparison)?;
        let (name, rest) = text.split_at(at);
        let mut comparisons = COMPARISONS.iter();
        let (is, limit) = comparisons
            .find_map(|(sign, is)| Some((*is, rest.strip_prefix(sign)?.trim())))
            .ok_or(Malformed::NoComparison)?;
        let name = name.trim();
        let figure = FIGURES.iter().find(|figure| figure.name == name);
        let figure = figure.ok_or_else(|| Malformed::UnknownFigure(name.into()))?;
        let number: Option<f64> = limit.parse().ok().filter(|number: &f64| number.is_finite());
        Ok(Self { figure, is, limit: number.ok_or_else(|| Malformed::NotANumber(limit.into()))? })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = COMPARISONS.iter().find(|(_, is)| *is == self.is).map_or("", |(sign, _)| sign);
        write!(f, "{} {sign} {}", self.figure.name, self.limit)
    }
}

/// The figures, a line each, for `--help`.
pub(super) fn help() -> String {
    let width = FIGURES.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
    let lines = FIGURES.iter().map(|figure| format!("  {:width$}  {}\n", figure.name, figure.says));
    format!("Figures for --fail-if; one that was not measured fails too:\n{}", lines.collect::<String>())
}

/// A number in the report that can be compared.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    says: &'static str,
    /// Nothing if it was not measured.
    of: fn(&Report) -> Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    AtLeast,
    AtMost,
    Equal,
    NotEqual,
    Over,
    Under,
}

impl Comparison {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::AtLeast => value >= limit,
            Self::AtMost => value <= limit,
            Self::Equal => value == limit,
            Self::NotEqual => value != limit,
            Self::Over => value > limit,
            Self::Under => value < limit,
        }
    }
}

fn names() -> String {
    FIGURES.iter().map(|figure| figure.name).collect::<Vec<_>>().join(", ")
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

const fn figure(name: &'static str, says: &'static str, of: fn(&Report) -> Option<f64>) -> Figure {
    Figure { name, says, of }
}

fn latency(report: &Report, of: fn(&Quantiles) -> f64) -> Option<f64> {
    measured(&report.viewers.latency_ms, of)
}

fn join(report: &Report, of: fn(&Quantiles) -> f64) -> Option<f64> {
    measured(&report.viewers.join_ms, of)
}

fn measured(quantiles: &Quantiles, of: fn(&Quantiles) -> f64) -> Option<f64> {
    (quantiles.samples > 0).then(|| of(quantiles))
}

fn viewers(report: &Report, of: fn(&Viewers) -> u64) -> Option<f64> {
    Some(of(&report.viewers) as f64)
}

/// `amount` a `unit`, if there was any.
fn per(amount: u64, unit: u64) -> Option<f64> {
    (unit > 0).then(|| amount as f64 / unit as f64)
}

/// Only frames with marks are numbered, and only `hawker load` marks them.
fn frames_lost(report: &Report) -> Option<f64> {
    let numbered = report.publishers.frames > 0 || report.viewers.latency_ms.samples > 0;
    (numbered && report.viewers.frames > 0).then_some(report.viewers.frames_lost as f64)
}

fn server_cpu_us_per_frame(report: &Report) -> Option<f64> {
    per(report.steady.server_cpu_us, report.steady.frames).filter(|_| !report.servers.is_empty())
}

fn server_cpu_percent(report: &Report) -> Option<f64> {
    let measured = !report.servers.is_empty() && report.steady.secs > 0.0;
    measured.then(|| report.servers.iter().map(|server| server.cpu_percent).sum())
}

fn server_rss_kib_per_viewer(report: &Report) -> Option<f64> {
    let grown = report.servers.iter().map(|server| server.rss_bytes_max.saturating_sub(server.rss_bytes_min)).sum();
    per(grown, report.viewers.joined).map(|bytes| bytes / 1024.0).filter(|_| !report.servers.is_empty())
}

fn mbit_per_s(report: &Report) -> Option<f64> {
    let steady = &report.steady;
    (steady.secs > 0.0).then(|| steady.bytes as f64 * 8e-6 / steady.secs)
}

/// Longer signs first: `>=` begins with `>`.
const COMPARISONS: &[(&str, Comparison)] = &[
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    (">", Comparison::Over),
    ("<", Comparison::Under),
];

static FIGURES: &[Figure] = &[
    figure("latency_p50_ms", "latency from the publisher's write to a viewer's read, median", |r| {
        latency(r, |q| q.p50)
    }),
    figure("latency_p95_ms", "latency, 95th percentile", |r| latency(r, |q| q.p95)),
    figure("latency_p99_ms", "latency, 99th percentile", |r| latency(r, |q| q.p99)),
    figure("latency_max_ms", "latency, the most", |r| latency(r, |q| q.max)),
    figure("join_p50_ms", "join time from connecting to the first keyframe, median", |r| join(r, |q| q.p50)),
    figure("join_p95_ms", "join time, 95th percentile", |r| join(r, |q| q.p95)),
    figure("join_p99_ms", "join time, 99th percentile", |r| join(r, |q| q.p99)),
    figure("join_max_ms", "join time, the most", |r| join(r, |q| q.max)),
    figure("viewers", "viewers asked for, with those that churn brought in", |r| viewers(r, |v| v.count)),
    figure("joined", "viewers that got a keyframe", |r| viewers(r, |v| v.joined)),
    figure("failed", "viewers that were refused or never connected", |r| viewers(r, |v| v.failed)),
    figure("lost", "viewers that lost their connection", |r| viewers(r, |v| v.lost)),
    figure("starved", "viewers that got nothing for two seconds", |r| viewers(r, |v| v.starved)),
    figure("frames", "frames that viewers received", |r| viewers(r, |v| v.frames)),
    figure("frames_lost", "frames missing between two received", frames_lost),
    figure("events", "events that viewers received", |r| viewers(r, |v| v.events)),
    figure("events_lost", "acknowledged events that a viewer didn't get", |r| {
        (r.publishers.events > 0).then_some(r.viewers.events_lost as f64)
    }),
    figure("events_refused", "events that the server refused or never answered", |r| {
        Some(r.publishers.events_refused as f64)
    }),
    figure("publishers_failed", "publishers that were refused or never connected", |r| {
        Some(r.publishers.failed as f64)
    }),
    figure("publishers_lost", "publishers that lost their connection", |r| Some(r.publishers.lost as f64)),
    figure("agents_lost", "agents that were lost", |r| {
        Some(r.agents.iter().filter(|agent| agent.lost.is_some()).count() as f64)
    }),
    figure("mbit_per_s", "received by all viewers, once all had joined", mbit_per_s),
    figure("server_cpu_us_per_frame", "CPU of the servers for each frame received (--pid)", server_cpu_us_per_frame),
    figure("server_cpu_percent", "CPU of the servers, of one core (--pid)", server_cpu_percent),
    figure("server_rss_kib_per_viewer", "growth of the servers' memory for each viewer (--pid)", |r| {
        server_rss_kib_per_viewer(r)
    }),
    figure("client_cpu_us_per_frame", "CPU of the load generator for each frame received", |r| {
        per(r.steady.client_cpu_us, r.steady.frames)
    }),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::load::report::{Publishers, ServerUse, Steady};

    fn report() -> Report {
        Report {
            publishers: Publishers { frames: 600, events: 3, ..Publishers::default() },
            viewers: Viewers {
                joined: 100,
                frames: 60_000,
                frames_lost: 2,
                latency_ms: Quantiles { p50: 0.75, p99: 50.0, samples: 9, ..Quantiles::default() },
                ..Viewers::default()
            },
            steady: Steady {
                secs: 10.0,
                frames: 30_000,
                bytes: 125_000_000,
                server_cpu_us: 150_000,
                ..Steady::default()
            },
            servers: vec![ServerUse { rss_bytes_min: 1 << 20, rss_bytes_max: 3 << 20, ..ServerUse::default() }],
            ..Report::default()
        }
    }

    fn judged(condition: &str, report: &Report) -> Option<String> {
        condition.parse::<Condition>().expect("well formed").broken_by(report)
    }

    #[test]
    fn a_condition_holds_as_it_is_written() {
        for (condition, broken) in [
            ("latency_p99_ms>50", false),
            ("latency_p99_ms >= 50", true),
            (" latency_p99_ms< 50.5", true),
            ("latency_p99_ms<=49.9", false),
            ("latency_p99_ms==50", true),
            ("latency_p99_ms!=50", false),
            ("frames_lost>0", true),
            ("frames_lost>2", false),
            ("events_lost>0", false),
            ("joined<100", false),
            ("joined<101", true),
            ("mbit_per_s<100", false),
            ("mbit_per_s<=100", true),
            ("server_cpu_us_per_frame==5", true),
            ("server_rss_kib_per_viewer>20.4", true),
            ("server_rss_kib_per_viewer>20.5", false),
        ] {
            assert_eq!(judged(condition, &report()).is_some(), broken, "{condition}");
        }
        let line = judged("latency_p50_ms>0.5", &report()).expect("broken");
        assert_eq!(line, "latency_p50_ms > 0.5: it is 0.75");
    }

    #[test]
    fn what_was_not_measured_fails() {
        let nothing = Report::default();
        for name in [
            "latency_p99_ms",
            "join_p50_ms",
            "frames_lost",
            "events_lost",
            "mbit_per_s",
            "server_cpu_us_per_frame",
            "server_cpu_percent",
            "server_rss_kib_per_viewer",
            "client_cpu_us_per_frame",
        ] {
            let line = judged(&format!("{name}>1000000"), &nothing).expect("fails closed");
            assert_eq!(line, format!("{name} > 1000000: it was not measured"));
        }
        let mut report = report();
        report.steady = Steady::default();
        assert!(judged("server_cpu_percent>90", &report).is_some(), "there was no steady part");
        report.viewers.latency_ms.p50 = f64::NAN;
        assert!(judged("latency_p50_ms>1", &report).is_some(), "NaN is no measurement");
    }

    #[test]
    fn a_malformed_condition_says_what_is_wrong() {
        let malformed = |text: &str| text.parse::<Condition>().expect_err("malformed");
        for text in ["", "latency_p99_ms", "latency_p99_ms=50", "joined!5"] {
            assert_eq!(malformed(text), Malformed::NoComparison, "{text}");
        }
        for text in ["lost>", "lost>many", "lost>50ms", "lost>NaN", "lost>>1"] {
            assert!(matches!(malformed(text), Malformed::NotANumber(_)), "{text}");
        }
        let unknown = malformed("latency>50").to_string();
        assert!(unknown.starts_with("there is no figure `latency`; there are: latency_p50_ms, "), "{unknown}");
    }

    #[test]
    fn help_names_every_figure_once() {
        let help = help();
        for figure in FIGURES {
            let lines = help.lines().filter(|line| line.split_whitespace().next() == Some(figure.name));
            assert_eq!(lines.count(), 1, "{}", figure.name);
        }
    }
}
