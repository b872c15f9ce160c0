//! Notices that publishers on air say nothing any more though they are still connected.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Hub, State, Stream};
use crate::limits;

impl Hub {
    /// Interrupts the streams of silent publishers, until told to stop.
    pub async fn run_silence(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(limits::PUBLISHER_SILENCE_TICK);
        let watch = async {
            loop {
                tick.tick().await;
                self.list().iter().for_each(|stream| stream.interrupt_if_silent());
            }
        };
        let _: Option<()> = stop.run_until_cancelled(watch).await;
    }
}

impl Stream {
    pub(super) fn interrupt_if_silent(&self) {
        // All rooms' events come when they come.
        if self.state() != State::Live || self.name().is_global() {
            return;
        }
        let line = self.line.lock();
        let is_silent = line.seats.heard_on_air().is_some_and(|at| at.elapsed() >= limits::PUBLISHER_SILENT_AFTER);
        if is_silent && self.state() == State::Live {
            tracing::info!(stream = %self.name(), "publisher is silent");
            self.set_state(State::Interrupted);
        }
    }
}
