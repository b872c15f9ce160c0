//! One run of the load generator against one server, and what many of them come to.

use std::process::Command;

use hawker::cli::load::{media::Shape, report::Report};
use serde::Serialize;

use crate::{
    run_process,
    servers::{self, Egress, Server},
    text,
};

/// So much load.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) egress: Egress,
    pub(crate) viewers: u32,
    pub(crate) secs: u32,
    /// Every viewer reads at once, as players do; else all but a sample in turns, for which kernels send less.
    pub(crate) prompt: bool,
    pub(crate) shape: Shape,
}

impl Point {
    pub(crate) fn label(&self) -> String {
        let how = if self.prompt { ", all prompt" } else { "" };
        format!("{:?}, {} viewers x {} kbit/s{how}", self.egress, self.viewers, self.shape.kbit_per_s)
    }
}

/// What one run showed, or several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// CPU microseconds of the server, user and system, a frame and viewer.
    pub(crate) us_per_frame: f64,
    /// The same of the load generator.
    pub(crate) client_us_per_frame: f64,
    /// Of one core.
    pub(crate) cpu_percent: f64,
    pub(crate) mbit_per_s: f64,
    pub(crate) latency_ms_p50: f64,
    pub(crate) latency_ms_p99: f64,
    pub(crate) join_ms_p99: f64,
    /// Resident memory above what the server had without viewers.
    pub(crate) rss_kib_per_viewer: f64,
    /// Viewers that failed, were lost or starved.
    pub(crate) viewers_lost: f64,
    pub(crate) frames_lost: f64,
}

impl Figures {
    pub(crate) fn of(report: &Report) -> Self {
        let (viewers, steady) = (&report.viewers, &report.steady);
        let frames = steady.frames.max(1) as f64;
        let rss = report.servers.iter().map(|server| server.rss_bytes_max.saturating_sub(server.rss_bytes_min));
        Self {
            us_per_frame: steady.server_cpu_us as f64 / frames,
            client_us_per_frame: steady.client_cpu_us as f64 / frames,
            cpu_percent: report.servers.iter().map(|server| server.cpu_percent).sum(),
            mbit_per_s: steady.bytes as f64 * 8.0 / 1e6 / steady.secs.max(0.001),
            latency_ms_p50: viewers.latency_ms.p50,
            latency_ms_p99: viewers.latency_ms.p99,
            join_ms_p99: viewers.join_ms.p99,
            rss_kib_per_viewer: rss.sum::<u64>() as f64 / 1024.0 / viewers.count.max(1) as f64,
            viewers_lost: (viewers.failed + viewers.lost + viewers.starved) as f64,
            frames_lost: viewers.frames_lost as f64,
        }
    }

    /// Of each figure the median, and of losses the most: one bad run of five isn't whole.
    pub(crate) fn median(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| {
            let mut all: Vec<_> = runs.iter().map(figure).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        let most = |figure: fn(&Self) -> f64| runs.iter().map(figure).fold(0.0, f64::max);
        Self {
            us_per_frame: of(|run| run.us_per_frame),
            client_us_per_frame: of(|run| run.client_us_per_frame),
            cpu_percent: of(|run| run.cpu_percent),
            mbit_per_s: of(|run| run.mbit_per_s),
            latency_ms_p50: of(|run| run.latency_ms_p50),
            latency_ms_p99: of(|run| run.latency_ms_p99),
            join_ms_p99: of(|run| run.join_ms_p99),
            rss_kib_per_viewer: of(|run| run.rss_kib_per_viewer),
            viewers_lost: most(|run| run.viewers_lost),
            frames_lost: most(|run| run.frames_lost),
        }
    }
}

/// Runs the load generator once, for long enough that costs can be told.
pub(crate) fn load(point: &Point, server: &Server) -> Result<Report, String> {
    let report = report_of(&mut load_command(point, server))?;
    if report.steady.frames == 0 {
        return Err(format!("nothing to measure after the last join; {} s may be too few", point.secs));
    }
    Ok(report)
}

/// The load generator, as it is told of all that is in `point` and `server`.
pub(crate) fn load_command(point: &Point, server: &Server) -> Command {
    let mut command = Command::new(servers::hawker_binary());
    command.args(["load", "--json", "-"]);
    for (option, value) in [
        ("--viewers", point.viewers),
        ("--secs", point.secs),
        ("--fps", point.shape.fps),
        ("--kbit-per-s", point.shape.kbit_per_s),
        ("--gop-secs", point.shape.gop_secs),
        ("--audio-kbit-per-s", point.shape.audio_kbit_per_s),
        ("--pid", server.process.pid()),
    ] {
        command.args([option, &value.to_string()]);
    }
    if point.prompt {
        command.args(["--sample", "1"]);
    }
    if let Some(publish) = &server.publish {
        command.args(["--publish", publish]);
    }
    if let Some(watch) = server.watch(point.egress) {
        command.args(["--watch", watch]);
    }
    if let (Egress::Moq, Some(certificate)) = (point.egress, &server.certificate) {
        command.args(["--cert-sha256", certificate]);
    }
    command
}

pub(crate) fn report_of(command: &mut Command) -> Result<Report, String> {
    let output = run_process(RUN_SECS_MAX, command);
    let said = text(&output.stderr);
    if !output.status.success() {
        return Err(said.lines().last().unwrap_or("no word of why").to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{error} in the report; {said}"))
}

/// A run that takes longer hangs.
const RUN_SECS_MAX: u32 = 85;
