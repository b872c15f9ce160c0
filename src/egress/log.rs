//! One log line at the start and one at the end of a viewer's session, and its place in the metrics.

use std::{net::SocketAddr, sync::Arc};

use super::Counters;
use crate::{
    clock::{self, Instant},
    hub::End,
    media::StreamName,
    observe::metrics::{Delivery, Metrics, Present, Protocol, StreamMetrics},
};

/// A viewer's session as operators see it. Dropping it writes the end.
pub struct SessionLog {
    metrics: Arc<Metrics>,
    stream: Arc<StreamMetrics>,
    protocol: Protocol,
    name: StreamName,
    peer: SocketAddr,
    began: Instant,
    reason: &'static str,
    counters: Counters,
    /// What of it the metrics know: all viewers count into the same few places, so each does it seldom.
    counted: Counters,
    delivery: Delivery,
    _present: Present,
}

impl SessionLog {
    /// Writes the start.
    pub fn begin(metrics: &Arc<Metrics>, protocol: Protocol, name: &StreamName, peer: SocketAddr) -> Self {
        tracing::info!(protocol = protocol.as_str(), stream = %name, %peer, "viewer joined");
        Self {
            stream: metrics.stream(name.as_str()),
            _present: metrics.viewer(protocol),
            metrics: metrics.clone(),
            protocol,
            name: name.clone(),
            peer,
            began: clock::now(),
            reason: "viewer left",
            counters: Counters::default(),
            counted: Counters::default(),
            delivery: metrics.delivery(protocol),
        }
    }

    /// Notes what the viewer has got by now, the newest of which entered the hub at `entered`.
    pub fn update(&mut self, counters: Counters, entered: Instant) {
        self.counters = counters;
        if self.delivery.sample(entered) {
            self.count();
        }
    }

    fn count(&mut self) {
        let now = self.counters;
        let before = std::mem::replace(&mut self.counted, now);
        self.stream.frames_out.inc_by(now.frames - before.frames);
        self.stream.bytes_out.inc_by(now.bytes - before.bytes);
        self.stream.frames_skipped.inc_by(now.frames_skipped - before.frames_skipped);
        self.metrics.events_delivered.inc_by(now.events - before.events);
        self.metrics.events_replayed.inc_by(now.events_replayed - before.events_replayed);
    }

    /// Notes why the session ends, where it isn't the viewer's leaving.
    pub fn ends(&mut self, reason: &'static str) {
        self.reason = reason;
    }
}

impl Drop for SessionLog {
    fn drop(&mut self) {
        self.count();
        let Counters { frames, frames_skipped, events, events_replayed, bytes } = self.counters;
        self.metrics.session_ended(self.protocol, self.reason);
        tracing::info!(
            protocol = self.protocol.as_str(), stream = %self.name, peer = %self.peer, reason = self.reason,
            secs = self.began.elapsed().as_secs_f32(), frames, frames_skipped, events, events_replayed, bytes,
            "viewer left"
        );
    }
}

/// The end of a line, in the words of logs and metrics.
pub fn reason(end: End) -> &'static str {
    match end {
        End::Closed => "stream ended",
        End::EventsLost => "too slow",
    }
}
