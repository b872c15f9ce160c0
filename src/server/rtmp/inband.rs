//! A publisher's in-band events on their way to the hub: in their order, and without making his frames wait.

use std::{
    fmt::Display,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::mpsc;

use crate::{
    hub::Hub,
    ingest::rtmp::{Draft, TagIngest},
    limits,
    media::StreamName,
    observe::metrics::Metrics,
    task,
};

/// One session's events. What is queued when it ends is still published.
pub(super) struct InBandEvents {
    session: Arc<Session>,
    /// To the task that publishes; made with the first event.
    queue: Option<mpsc::Sender<Draft>>,
}

struct Session {
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    stream: StreamName,
    peer: SocketAddr,
    has_refused: AtomicBool,
}

impl InBandEvents {
    pub(super) fn new(hub: Arc<Hub>, metrics: Arc<Metrics>, stream: StreamName, peer: SocketAddr) -> Self {
        let session = Arc::new(Session { hub, metrics, stream, peer, has_refused: AtomicBool::new(false) });
        Self { session, queue: None }
    }

    /// Passes on what the publisher has sent.
    pub(super) fn forward(&mut self, ingest: &mut TagIngest) {
        while let Some(said) = ingest.poll_draft() {
            let queued = said.and_then(|draft| {
                let queue = self.queue.get_or_insert_with(|| self.session.clone().publish());
                queue.try_send(draft).map_err(|_| "too many events wait for the hub")
            });
            if let Err(reason) = queued {
                self.session.refuse(&reason);
            }
        }
    }
}

impl Session {
    fn publish(self: Arc<Self>) -> mpsc::Sender<Draft> {
        let (queue, mut drafts) = mpsc::channel(limits::IN_BAND_EVENTS_PENDING_MAX);
        task::spawn("in-band events", async move {
            while let Some((draft, at)) = drafts.recv().await {
                if let Err(refused) = self.hub.publish_event(&self.stream, draft, Some(at)).await {
                    self.refuse(&refused);
                }
            }
        });
        queue
    }

    /// Counts each refusal and logs the first: an encoder that sends one such message sends many.
    fn refuse(&self, reason: &dyn Display) {
        self.metrics.refused("in-band event");
        if !self.has_refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(stream = %self.stream, peer = %self.peer, %reason, "in-band event refused");
        }
    }
}
