//! The counters behind `/metrics`, all named `hawker_*`.
//!
//! Labels are bounded: protocols and reasons are constants of the code; the stream label goes with its
//! stream, and can be off. Children are bound once per session or stream, never looked up per frame.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};

use crate::{
    clock::{self, Instant},
    task,
};

/// Seconds: a good disk syncs within 5 ms, and an event has lost its frame after 1 s.
const COMMIT_BUCKETS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// Seconds: what a node adds is some milliseconds at most, unless its cores or the viewer's link are full.
const DELIVERY_BUCKETS: &[f64] = &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// How a session talks to us: the value of the label `protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RTMP.
    Rtmp,
    /// HTTP-FLV.
    Flv,
    /// MoQ.
    Moq,
    /// WebRTC from a publisher.
    Whip,
    /// WebRTC to a viewer.
    Whep,
}

impl Protocol {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Flv => "flv",
            Self::Moq => "moq",
            Self::Whip => "whip",
            Self::Whep => "whep",
        }
    }
}

/// The node's metrics.
pub struct Metrics {
    registry: Registry,
    /// Streams that the hub holds.
    pub streams: IntGauge,
    /// Bytes in the rings of all streams.
    pub ring_bytes: IntGauge,
    /// Publishers who are connected and not on air.
    pub publishers_standing_by: IntGauge,
    /// Times another publisher went on air in place of the last.
    pub publisher_switches: IntCounter,
    /// What the process has in memory …
    pub memory_bytes: IntGauge,
    /// … of what it may have.
    pub memory_max_bytes: IntGauge,
    /// What it does without: 0 nothing, 1 further viewers, 2 history, 3 further streams.
    pub memory_pressure: IntGauge,
    /// Connections that may still come before file descriptors run out.
    pub descriptors_left: IntGauge,
    /// Events accepted: durable, and acknowledged.
    pub events_published: IntCounter,
    /// Events that entered their room's line here.
    pub events_fired: IntCounter,
    /// Events of snapshots that joiners were sent.
    pub events_replayed: IntCounter,
    /// Events written to viewers and edges.
    pub events_delivered: IntCounter,
    /// Events whose frame had passed before they could be placed.
    pub events_late: IntCounter,
    /// How long the event journal took to commit what waited for it.
    pub journal_commit_seconds: Histogram,
    /// Upstreams with which a session is up.
    pub upstream_connected: IntGauge,
    /// Attempts to reach an upstream after the first.
    pub upstream_reconnects: IntCounter,
    /// When the certificate that is shown expires, seconds since 1970.
    pub tls_certificate_expiry: IntGauge,
    /// New certificates that were of no use.
    pub tls_reload_failures: IntCounter,
    /// New configurations that were of no use.
    pub config_reload_failures: IntCounter,
    /// Frames of sound that could not be converted.
    pub transcode_errors: IntCounter,
    /// 1 while the standby has every event that was acknowledged.
    pub journal_standby: IntGauge,
    /// 1 while the hook is left alone because it doesn't answer.
    pub hook_breaker_open: IntGauge,
    /// Notices that wait for the hook.
    pub hook_notices_queued: IntGauge,
    /// Notices that the hook was never told.
    pub hook_notices_dropped: IntCounter,
    hook_calls: IntCounterVec,
    hook_seconds: HistogramVec,
    transcoders: IntGauge,
    delivery_seconds: HistogramVec,
    publishers: IntGaugeVec,
    viewers: IntGaugeVec,
    sessions: IntCounterVec,
    refused: IntCounterVec,
    task_panics: IntCounter,
    per_stream: Arc<PerStream>,
    stream_label: bool,
}

impl Metrics {
    /// All at zero. `start_ms` is the process's start, UTC; `stream_label` off sums the streams up.
    pub fn new(start_ms: i64, stream_label: bool) -> Arc<Self> {
        let registry = Registry::new();
        let r = &registry;
        gauge(r, "start_time_seconds", "Start of the process, seconds since 1970.").set(start_ms / 1000);
        let metrics = Self {
            streams: gauge(r, "streams", "Streams held."),
            ring_bytes: gauge(r, "ring_bytes", "Bytes in the rings of all streams."),
            publishers_standing_by: gauge(r, "publishers_standing_by", "Publishers connected that are not on air."),
            publisher_switches: counter(r, "publisher_switches_total", "Times another publisher went on air."),
            memory_bytes: gauge(r, "memory_bytes", "Resident memory of the process."),
            memory_max_bytes: gauge(r, "memory_max_bytes", "Memory that the process may have."),
            memory_pressure: gauge(
                r,
                "memory_pressure",
                "What is done without for want of memory: 0 nothing, 1 further viewers, 2 history, 3 further streams.",
            ),
            descriptors_left: gauge(r, "descriptors_left", "Connections left before file descriptors run out."),
            events_published: counter(r, "events_published_total", "Events accepted: durable, and acknowledged."),
            events_fired: counter(r, "events_fired_total", "Events that entered their room's line here."),
            events_replayed: counter(r, "events_replayed_total", "Events of snapshots that joiners were sent."),
            events_delivered: counter(r, "events_delivered_total", "Events written to viewers and edges."),
            events_late: counter(r, "events_late_total", "Events placed behind the frame they were meant for."),
            journal_commit_seconds: histogram(
                r,
                "journal_commit_seconds",
                "Time of one journal commit.",
                COMMIT_BUCKETS,
            ),
            upstream_connected: gauge(r, "upstream_connected", "Upstreams with which a session is up."),
            upstream_reconnects: counter(r, "upstream_reconnects_total", "Attempts to reach an upstream again."),
            tls_certificate_expiry: gauge(
                r,
                "tls_certificate_expiry_seconds",
                "When the certificate that is shown expires, seconds since 1970.",
            ),
            tls_reload_failures: counter(r, "tls_reload_failures_total", "New certificates that were of no use."),
            config_reload_failures: counter(
                r,
                "config_reload_failures_total",
                "New configurations that were of no use.",
            ),
            transcode_errors: counter(r, "transcode_errors_total", "Frames of sound that could not be converted."),
            journal_standby: gauge(r, "journal_standby", "1 while the standby has every event acknowledged."),
            hook_breaker_open: gauge(r, "hook_breaker_open", "1 while the hook is left alone: it gave no answers."),
            hook_notices_queued: gauge(r, "hook_notices_queued", "Notices that wait for the hook."),
            hook_notices_dropped: counter(r, "hook_notices_dropped_total", "Notices that the hook was never told."),
            hook_calls: counters(r, "hook_calls_total", "Calls to the hook.", &["hook", "result"]),
            hook_seconds: histograms(r, "hook_seconds", "Time of a call to the hook.", &["hook"], DELIVERY_BUCKETS),
            transcoders: gauge(r, "transcoders", "Streams whose sound is being converted to another codec."),
            task_panics: counter(r, "task_panics_total", "Tasks that have panicked."),
            delivery_seconds: histograms(
                r,
                "delivery_seconds",
                "Time from the entry into the hub to the write to a viewer or an edge, of the newest in it, sampled.",
                &["protocol"],
                DELIVERY_BUCKETS,
            ),
            publishers: gauges(r, "publishers", "Publishers connected.", &["protocol"]),
            viewers: gauges(r, "viewers", "Viewers connected.", &["protocol"]),
            sessions: counters(r, "sessions_total", "Sessions ended.", &["protocol", "reason"]),
            refused: counters(r, "refused_total", "What was refused at a bound or a rule.", &["reason"]),
            per_stream: Arc::new(PerStream::new(r)),
            stream_label,
            registry,
        };
        Arc::new(metrics)
    }

    /// Counts a publisher for as long as the guard lives.
    pub fn publisher(&self, protocol: Protocol) -> Present {
        Present::new(self.publishers.with_label_values(&[protocol.as_str()]))
    }

    /// Counts a viewer for as long as the guard lives.
    pub fn viewer(&self, protocol: Protocol) -> Present {
        Present::new(self.viewers.with_label_values(&[protocol.as_str()]))
    }

    /// Counts a conversion of sound for as long as the guard lives.
    pub fn transcoder(&self) -> Present {
        Present::new(self.transcoders.clone())
    }

    /// Where a session samples how long frames took from the hub to its socket.
    pub fn delivery(&self, protocol: Protocol) -> Delivery {
        let seconds = self.delivery_seconds.with_label_values(&[protocol.as_str()]);
        Delivery { seconds, sampled_at: clock::now() }
    }

    /// Counts the end of a session. The reason is a constant of the code, so that labels stay bounded.
    pub fn session_ended(&self, protocol: Protocol, reason: &'static str) {
        self.sessions.with_label_values(&[protocol.as_str(), reason]).inc();
    }

    /// Counts a call to the hook, a question or a notice. Both words are constants of the code.
    pub fn hook_call(&self, hook: &'static str, result: &'static str, took: Duration) {
        self.hook_calls.with_label_values(&[hook, result]).inc();
        self.hook_seconds.with_label_values(&[hook]).observe(took.as_secs_f64());
    }

    /// Counts something refused at a bound of `limits.rs` or at a rule.
    pub fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// The counters of the stream `name`, shared by all who ask. The series end with the last of them.
    pub fn stream(&self, name: &str) -> Arc<StreamMetrics> {
        let label = if self.stream_label { name } else { "" };
        let mut bound = self.per_stream.bound.lock();
        if let Some(stream) = bound.get(label).and_then(Weak::upgrade) {
            return stream;
        }
        let stream = Arc::new(self.per_stream.bind(label));
        bound.insert(label.to_owned(), Arc::downgrade(&stream));
        stream
    }

    /// Prometheus' text format.
    pub fn render(&self) -> String {
        self.task_panics.reset();
        self.task_panics.inc_by(task::panics());
        let mut text = String::new();
        // Encoding fails only on families without metrics, which `gather` leaves out.
        let _ = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text);
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A session's samples of how long frames took from the hub to its socket.
#[derive(Debug)]
pub struct Delivery {
    seconds: Histogram,
    sampled_at: Instant,
}

impl Delivery {
    /// To be told of each write, with the time at which what was written entered the hub. True about twice a second:
    /// then it was looked at, by the line's own clock, which costs nothing to read.
    pub fn sample(&mut self, entered: Instant) -> bool {
        let is_due = entered.saturating_duration_since(self.sampled_at) >= SAMPLE_INTERVAL;
        if is_due {
            self.sampled_at = entered;
            self.seconds.observe(entered.elapsed().as_secs_f64());
        }
        is_due
    }
}

/// Raises a gauge by one while it lives.
#[derive(Debug)]
pub struct Present(IntGauge);

impl Present {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One stream's counters.
pub struct StreamMetrics {
    /// Frames taken from the publisher or upstream.
    pub frames_in: IntCounter,
    /// Their payload bytes.
    pub bytes_in: IntCounter,
    /// Frames written to viewers and edges.
    pub frames_out: IntCounter,
    /// Bytes written to viewers and edges.
    pub bytes_out: IntCounter,
    /// Frames that readers skipped because they lagged.
    pub frames_skipped: IntCounter,
    label: String,
    family: Arc<PerStream>,
}

impl Drop for StreamMetrics {
    fn drop(&mut self) {
        let mut bound = self.family.bound.lock();
        // Someone may have bound the same stream again since the last reference went.
        if bound.get(&self.label).is_some_and(|stream| stream.strong_count() == 0) {
            bound.remove(&self.label);
            self.family.unbind(&self.label);
        }
    }
}

struct PerStream {
    frames_in: IntCounterVec,
    bytes_in: IntCounterVec,
    frames_out: IntCounterVec,
    bytes_out: IntCounterVec,
    frames_skipped: IntCounterVec,
    bound: Mutex<HashMap<String, Weak<StreamMetrics>>>,
}

impl PerStream {
    fn new(registry: &Registry) -> Self {
        let family = |name, help| counters(registry, name, help, &["stream"]);
        Self {
            frames_in: family("frames_in_total", "Frames taken from publishers or upstream."),
            bytes_in: family("bytes_in_total", "Payload bytes taken from publishers or upstream."),
            frames_out: family("frames_out_total", "Frames written to viewers and edges."),
            bytes_out: family("bytes_out_total", "Bytes written to viewers and edges."),
            frames_skipped: family("frames_skipped_total", "Frames that lagging readers skipped."),
            bound: Mutex::default(),
        }
    }

    fn bind(self: &Arc<Self>, label: &str) -> StreamMetrics {
        StreamMetrics {
            frames_in: self.frames_in.with_label_values(&[label]),
            bytes_in: self.bytes_in.with_label_values(&[label]),
            frames_out: self.frames_out.with_label_values(&[label]),
            bytes_out: self.bytes_out.with_label_values(&[label]),
            frames_skipped: self.frames_skipped.with_label_values(&[label]),
            label: label.to_owned(),
            family: Arc::clone(self),
        }
    }

    fn unbind(&self, label: &str) {
        for family in [&self.frames_in, &self.bytes_in, &self.frames_out, &self.bytes_out, &self.frames_skipped] {
            // Each was bound under this label, so each is there to remove.
            let _ = family.remove_label_values(&[label]);
        }
    }
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::with_opts(opts(name, help)))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(registry, IntGaugeVec::new(opts(name, help), labels))
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::with_opts(opts(name, help)))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(opts(name, help), labels))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let opts = HistogramOpts { common_opts: opts(name, help), buckets: buckets.to_vec() };
    registered(registry, Histogram::with_opts(opts))
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    let opts = HistogramOpts { common_opts: opts(name, help), buckets: buckets.to_vec() };
    registered(registry, HistogramVec::new(opts, labels))
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("hawker")
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("invariant: names and labels are legal constants");
    registry.register(Box::new(metric.clone())).expect("invariant: names differ");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered() {
        let metrics = Metrics::new(1_700_000_000_999, true);
        let first = metrics.viewer(Protocol::Flv);
        let second = metrics.viewer(Protocol::Flv);
        drop(first);
        metrics.refused("auth");
        metrics.session_ended(Protocol::Rtmp, "eof");
        metrics.events_published.inc();
        let text = metrics.render();
        for line in [
            "hawker_start_time_seconds 1700000000",
            "hawker_viewers{protocol=\"flv\"} 1",
            "hawker_refused_total{reason=\"auth\"} 1",
            "hawker_sessions_total{protocol=\"rtmp\",reason=\"eof\"} 1",
            "hawker_events_published_total 1",
            "# TYPE hawker_streams gauge",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
        }
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn delivery_is_sampled_twice_a_second() {
        let metrics = Metrics::new(0, true);
        let mut delivery = metrics.delivery(Protocol::Flv);
        let mut samples = 0;
        for _ in 0..100 {
            let entered = clock::now();
            tokio::time::advance(Duration::from_millis(20)).await;
            samples += u32::from(delivery.sample(entered));
        }
        assert_eq!(samples, 3, "in two seconds, of which the first half is the join");
        let text = metrics.render();
        assert!(text.contains("hawker_delivery_seconds_bucket{protocol=\"flv\",le=\"0.01\"} 0"), "{text}");
        assert!(text.contains("hawker_delivery_seconds_bucket{protocol=\"flv\",le=\"0.02\"} 3"), "{text}");
    }

    #[test]
    fn a_streams_series_are_shared_and_end_with_it() {
        let metrics = Metrics::new(0, true);
        let (ingest, egress) = (metrics.stream("live/a"), metrics.stream("live/a"));
        assert!(Arc::ptr_eq(&ingest, &egress));
        ingest.frames_in.inc();
        egress.frames_out.inc_by(2);
        drop(ingest);
        assert!(metrics.render().contains("hawker_frames_in_total{stream=\"live/a\"} 1"));
        drop(egress);
        assert!(!metrics.render().contains("live/a"));
        metrics.stream("live/a").frames_in.inc();
    }

    #[test]
    fn without_the_label_streams_are_summed_up() {
        let metrics = Metrics::new(0, false);
        let (a, b) = (metrics.stream("live/a"), metrics.stream("live/b"));
        a.frames_in.inc();
        b.frames_in.inc();
        let text = metrics.render();
        assert!(text.contains("hawker_frames_in_total{stream=\"\"} 2") && !text.contains("live/"), "{text}");
    }
}
