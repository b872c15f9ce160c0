//! What a person sees of a run: a bar on a terminal, a line every few seconds elsewhere, a short summary at the end.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::report::{Quantiles, Report, Sample, Viewers};

/// Tells how a run goes, on stderr.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    planned: Duration,
    next_line_ms: u64,
}

impl Progress {
    /// For a run that should take as long as `planned`.
    pub(super) fn new(planned: Duration) -> Self {
        let bar = io::stderr().is_terminal().then(|| bar(planned));
        Self { bar, planned, next_line_ms: 0 }
    }

    /// How it is now; `so_far` are the sums since the start.
    pub(super) fn show(&mut self, now: &Sample, so_far: &Viewers) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(now.at_ms);
                bar.set_message(line(now, so_far));
            }
            None if now.at_ms >= self.next_line_ms => {
                eprintln!("{:>4}/{} s  {}", now.at_ms / 1000, self.planned.as_secs(), line(now, so_far));
                self.next_line_ms = now.at_ms + LINE_INTERVAL_MS;
            }
            None => {}
        }
    }

    /// The bar goes; the summary says it all.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(planned: Duration) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(planned.as_millis()).unwrap_or(u64::MAX));
    match ProgressStyle::with_template("{elapsed:>4} {bar:20.cyan/dim} {wide_msg}") {
        Ok(style) => bar.with_style(style.progress_chars("━━─")),
        Err(_) => bar,
    }
}

fn line(now: &Sample, so_far: &Viewers) -> String {
    let mut line = format!("{}/{} playing  {}", now.viewers, so_far.count, Rate(now.bits_per_s as f64));
    // Times and shares are 0 where nothing was measured.
    if now.latency_ms_p99 > 0.0 {
        line += &format!("  latency {} / {} ms", Short(now.latency_ms_p50), Short(now.latency_ms_p99));
    }
    if now.server_cpu_percent > 0.0 {
        line += &format!("  server {:.0} %", now.server_cpu_percent);
    }
    line += &format!("  load {:.0} %", now.client_cpu_percent);
    let trouble = trouble(so_far);
    if !trouble.is_empty() {
        line += &format!("  {trouble}");
    }
    line
}

/// What went wrong for viewers: "3 lost, 12 frames lost"; empty if nothing did.
fn trouble(viewers: &Viewers) -> String {
    let counts = [
        (viewers.failed, "failed"),
        (viewers.lost, "lost"),
        (viewers.starved, "starved"),
        (viewers.frames_lost, "frames lost"),
        (viewers.events_lost, "events lost"),
    ];
    let some = counts.iter().filter(|(count, _)| *count > 0);
    some.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// A report for people: a line a subject.
pub(super) struct Summary<'a>(pub(super) &'a Report);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report) = self;
        let (publishers, viewers, steady) = (&report.publishers, &report.viewers, &report.steady);
        if publishers.count > 0 {
            write!(
                f,
                "publishers  {} of {}",
                publishers.count - publishers.failed.min(publishers.count),
                publishers.count
            )?;
            writeln!(f, ", {} lost, {} frames", publishers.lost, publishers.frames)?;
        }
        writeln!(f, "viewers     {} of {} joined, {}", viewers.joined, viewers.count, or_nothing(&trouble(viewers)))?;
        writeln!(f, "received    {} frames, {}", viewers.frames, Bytes(viewers.bytes))?;
        if publishers.events > 0 {
            let (refused, got) = (publishers.events_refused, viewers.events);
            writeln!(f, "events      {} sent, {refused} refused, {got} received", publishers.events)?;
        }
        for (subject, quantiles) in [("join", &viewers.join_ms), ("latency", &viewers.latency_ms)] {
            writeln!(f, "{subject:<12}{}", Spread(quantiles))?;
        }
        if steady.secs > 0.0 {
            let rate = Rate(steady.bytes as f64 * 8.0 / steady.secs);
            let client = PerFrame { cpu_us: steady.client_cpu_us, frames: steady.frames };
            writeln!(f, "steady      {} for {:.0} s, load generator {client}", rate, steady.secs)?;
            if !report.servers.is_empty() {
                writeln!(f, "servers     {}", PerFrame { cpu_us: steady.server_cpu_us, ..client })?;
            }
        }
        for agent in &report.agents {
            let became = agent.lost.as_deref().unwrap_or("done");
            writeln!(f, "agent       {} with {} viewers: {became}", agent.address, agent.viewers)?;
        }
        report.servers.iter().try_for_each(|server| {
            let (least, most) = (Bytes(server.rss_bytes_min), Bytes(server.rss_bytes_max));
            writeln!(
                f,
                "  {} {}: {:.0} % CPU, {least} to {most} of memory",
                server.pid, server.name, server.cpu_percent
            )
        })
    }
}

fn or_nothing(trouble: &str) -> &str {
    if trouble.is_empty() { "nothing lost" } else { trouble }
}

/// Percentiles on one line.
struct Spread<'a>(&'a Quantiles);

impl fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Quantiles { p50, p95, p99, max, samples }) = self;
        if *samples == 0 {
            return f.write_str("not measured");
        }
        let [p50, p95, p99, max] = [p50, p95, p99, max].map(|ms| Short(*ms).to_string());
        write!(f, "p50 {p50}  p95 {p95}  p99 {p99}  max {max} ms  ({samples} samples)")
    }
}

#[derive(Clone, Copy)]
struct PerFrame {
    cpu_us: u64,
    frames: u64,
}

impl fmt::Display for PerFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.frames {
            0 => f.write_str("no frames"),
            frames => write!(f, "{} us of CPU a frame and viewer", Short(self.cpu_us as f64 / frames as f64)),
        }
    }
}

/// A number with about three digits: 0.42, 3.7, 128.
pub(super) struct Short(pub(super) f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.0 {
            small if small < 1.0 => 2,
            middling if middling < 20.0 => 1,
            _ => 0,
        };
        write!(f, "{:.digits$}", self.0)
    }
}

/// Bits a second.
pub(super) struct Rate(pub(super) f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            gigabits if gigabits >= 1e9 => write!(f, "{:.2} Gbit/s", gigabits / 1e9),
            bits => write!(f, "{} Mbit/s", Short(bits / 1e6)),
        }
    }
}

/// A size.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as f64 / 1_048_576.0 {
            gib if gib >= 1024.0 => write!(f, "{} GiB", Short(gib / 1024.0)),
            mib => write!(f, "{} MiB", Short(mib)),
        }
    }
}

const LINE_INTERVAL_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::load::report::{Publishers, ServerUse, Steady};

    #[test]
    fn a_line_has_what_was_measured_and_the_losses() {
        let quiet = Sample { viewers: 5, bits_per_s: 2_340_000, client_cpu_percent: 3.2, ..Sample::default() };
        let viewers = Viewers { count: 10, ..Viewers::default() };
        assert_eq!(line(&quiet, &viewers), "5/10 playing  2.3 Mbit/s  load 3 %");
        let busy = Sample { latency_ms_p50: 0.42, latency_ms_p99: 128.4, server_cpu_percent: 61.7, ..quiet };
        let viewers = Viewers { lost: 3, frames_lost: 12, ..viewers };
        let expected = "5/10 playing  2.3 Mbit/s  latency 0.42 / 128 ms  server 62 %  load 3 %  3 lost, 12 frames lost";
        assert_eq!(line(&busy, &viewers), expected);
    }

    #[test]
    fn a_summary_is_short_and_aligned() {
        let latency_ms = Quantiles { p50: 0.8, p95: 2.14, p99: 4.96, max: 31.2, samples: 9000 };
        let report = Report {
            publishers: Publishers { count: 2, frames: 1200, ..Publishers::default() },
            viewers: Viewers {
                count: 1000,
                joined: 998,
                failed: 2,
                frames: 598_000,
                bytes: 2 << 30,
                latency_ms,
                ..Viewers::default()
            },
            steady: Steady {
                secs: 14.0,
                frames: 420_000,
                bytes: 1_750_000_000,
                client_cpu_us: 420_000,
                server_cpu_us: 2_100_000,
                ..Steady::default()
            },
            servers: vec![ServerUse {
                pid: 71,
                name: "hawker".into(),
                cpu_us: 2_100_000,
                cpu_percent: 15.0,
                rss_bytes_min: 20 << 20,
                rss_bytes_max: 52 << 20,
            }],
            ..Report::default()
        };
        let expected = "\
publishers  2 of 2, 0 lost, 1200 frames
viewers     998 of 1000 joined, 2 failed
received    598000 frames, 2.0 GiB
join        not measured
latency     p50 0.80  p95 2.1  p99 5.0  max 31 ms  (9000 samples)
steady      1.00 Gbit/s for 14 s, load generator 1.0 us of CPU a frame and viewer
servers     5.0 us of CPU a frame and viewer
  71 hawker: 15 % CPU, 20 MiB to 52 MiB of memory
";
        assert_eq!(Summary(&report).to_string(), expected);
    }
}
