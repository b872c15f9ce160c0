//! The end of a node, in order: nobody new, then those who can go elsewhere are told to, and at the deadline those who
//! are left.

use std::sync::atomic::Ordering;

use tokio::time::{Duration, timeout};

use super::Node;
use crate::limits;

impl Node {
    /// Waits until the node is told to end, and lets its sessions leave: when it returns they have all been told to
    /// stop.
    ///
    /// When `drain` is cancelled, listeners close and MoQ sessions and RTMP viewers are asked to go elsewhere; when
    /// `stop` is, the rest is ended, publishers among them.
    pub(super) async fn drain(&self) {
        self.drain.cancelled().await;
        self.health.drain();
        self.sessions.close();
        let secs = self.drain_secs.load(Ordering::Relaxed);
        tracing::info!(sessions = self.sessions.len(), secs, "draining");
        let left = timeout(Duration::from_secs(secs), self.sessions.wait()).await;
        if left.is_err() {
            tracing::info!(sessions = self.sessions.len(), "time to leave is up");
        }
        self.stop.cancel();
    }

    /// Waits, on each shard, until the sessions have said goodbye.
    pub(super) async fn wind_up(&self) {
        self.stop.cancelled().await;
        if timeout(limits::STOP_TIMEOUT, self.sessions.wait()).await.is_err() {
            tracing::warn!(sessions = self.sessions.len(), "sessions were cut off");
        }
    }
}
