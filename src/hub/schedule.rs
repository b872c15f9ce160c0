//! Events whose time comes while no frame does: before the show, while the publisher is away, for all rooms.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Door, Hub, State, Stream, timeline::Timeline};
use crate::{
    clock,
    media::{Event, StreamName, event::Op},
    task,
};

impl Hub {
    /// Fires what no frame fires, and keeps the journal within its bounds, until told to stop.
    pub async fn run_schedule(self: Arc<Self>, retention: Duration, stop: CancellationToken) {
        // A task of its own: nothing that is due waits for the disk.
        let sweeping = task::spawn("sweep", self.clone().run_sweep(retention, stop.clone()));
        let mut tick = tokio::time::interval(TICK);
        let release = async {
            if let Ok(origin) = self.origin() {
                origin.journal.standing().comes_to_serve().await;
            }
            self.resume();
            loop {
                tick.tick().await;
                self.release_due();
            }
        };
        let _: Option<()> = stop.run_until_cancelled(release).await;
        // Who waits for us may want the journal closed.
        let _ = sweeping.await;
    }

    async fn run_sweep(self: Arc<Self>, retention: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(SWEEP_INTERVAL);
        let sweep = async {
            loop {
                tick.tick().await;
                self.sweep(retention).await;
            }
        };
        let _: Option<()> = stop.run_until_cancelled(sweep).await;
    }

    /// Takes up the rooms that had something to do when this origin stopped.
    fn resume(self: &Arc<Self>) {
        let Ok(origin) = self.origin() else { return };
        let sources = match origin.journal.sources_pending() {
            Ok(sources) => sources,
            Err(error) => return tracing::error!(%error, "scheduled events are not taken up"),
        };
        for name in sources {
            match self.timeline(&name) {
                Ok(timeline) => {
                    // Edges ask for what is announced: all rooms' state is there before the next event is.
                    if name.is_global() && !timeline.lock().room.is_empty() {
                        self.release_global(&name, &timeline);
                    }
                }
                Err(error) => tracing::error!(stream = %name, %error, "scheduled events are not taken up"),
            }
        }
    }

    fn release_due(self: &Arc<Self>) {
        let timelines: Vec<_> =
            self.timelines.lock().iter().map(|(name, timeline)| (name.clone(), timeline.clone())).collect();
        for (name, timeline) in timelines {
            self.release(&name, &timeline);
        }
    }

    /// Lets the due events of a room go that no frame comes for.
    pub(super) fn release(self: &Arc<Self>, name: &StreamName, timeline: &Mutex<Timeline>) {
        if !timeline.lock().has_overdue() {
            return;
        }
        if name.is_global() {
            return self.release_global(name, timeline);
        }
        // Before its first frame nobody reads the line.
        let stream = self.get(name).filter(|stream| stream.state() != State::Waiting);
        let Some(stream) = stream else { return self.release_unseen(timeline) };
        // The line is taken first, here as everywhere.
        let mut line = stream.line.lock();
        let due = timeline.lock().due_now(|_| true);
        due.into_iter().for_each(|event| line.push_event(&stream, event));
    }

    /// The same for the room that stands for all: its line has frames of its own, to carry the events.
    fn release_global(self: &Arc<Self>, name: &StreamName, timeline: &Mutex<Timeline>) {
        let Ok(stream) = self.enter(name, Door::Announce) else { return };
        let mut line = stream.line.lock();
        let due = timeline.lock().due_now(|_| true);
        due.iter().for_each(|event| line.hold_event(&stream, event.clone()));
        line.push_carrier(&stream);
        // While the line is held, so that all rooms have the events in its order.
        self.spread(&stream, &due);
    }

    /// The same where no line is: what leaves a state is in the room at once. One-shots would be lost on those who
    /// watched before a restart and wait for their publisher, so they wait with them.
    fn release_unseen(&self, timeline: &Mutex<Timeline>) {
        let awaited = self.began.elapsed() < self.settings().reconnect_window;
        let mut timeline = timeline.lock();
        let due = timeline.due_now(|event| !awaited || event.head.op != Op::Fire || event.cancels().is_some());
        due.iter().for_each(|event| timeline.enter(event));
    }

    /// Brings events for all rooms into each of them. The caller holds the line of `global`; those of the rooms
    /// come after it.
    pub(super) fn spread(&self, global: &Stream, events: &[Arc<Event>]) {
        let room = Arc::new(global.timeline().lock().room.clone());
        *self.global_cell(global.name()).write() = room.clone();
        let of_org = |name: &StreamName| !name.is_global() && name.global().as_ref() == Some(global.name());
        let streams = self.streams.read();
        let rooms: Vec<_> = streams.iter().filter(|(name, _)| of_org(name)).map(|(_, e)| e.stream.clone()).collect();
        // A line is never taken while the map is held: ending a stream takes them the other way round.
        drop(streams);
        for stream in rooms {
            let mut line = stream.line.lock();
            if line.newest.is_some() {
                events.iter().for_each(|event| line.hold_event(&stream, event.clone()));
            }
            // Its next head says it, unless the events are still to come behind that.
            if !line.held_events.iter().any(|event| event.is_global()) {
                line.global = room.clone();
            }
        }
    }

    async fn sweep(&self, retention: Duration) {
        self.timelines.lock().retain(|_, timeline| Arc::strong_count(timeline) > 1 || !timeline.lock().is_idle());
        let Ok(origin) = self.origin() else { return };
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let before_ms = clock::unix_ms().saturating_sub(retention_ms);
        match origin.journal.sweep(before_ms).await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "old events left the journal"),
            Err(error) => tracing::warn!(%error, "the journal was not swept"),
        }
    }
}

/// How late an event may be that no frame fires.
const TICK: Duration = Duration::from_millis(50);

const SWEEP_INTERVAL: Duration = Duration::from_secs(300);
