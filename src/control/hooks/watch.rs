//! What happens in the hub, as notices: the states of streams, each change once, and accepted events.

use std::sync::{Arc, Weak};

use serde_json::value::RawValue;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Hooks;
use crate::{
    config::Notify,
    hub::{Announcement, Hub, State, Stream},
    media::StreamName,
    task,
};

impl Hooks {
    /// Tells what happens in `hub`, until told to stop.
    pub fn follow(self: &Arc<Self>, hub: &Arc<Hub>, stop: &CancellationToken) {
        self.deliver(stop);
        let (hooks, hub, stop) = (self.clone(), hub.clone(), stop.clone());
        task::spawn("hook notices", async move {
            let following = async { tokio::join!(hooks.follow_streams(&hub), hooks.follow_events(&hub)) };
            stop.run_until_cancelled(following).await;
        });
    }

    async fn follow_streams(self: &Arc<Self>, hub: &Arc<Hub>) {
        let mut announcements = hub.announcements();
        loop {
            for change in announcements.next().await {
                if let Announcement::Active(name) = change
                    && let Some(stream) = hub.get(&name)
                {
                    task::spawn("hook notices", self.clone().follow_stream(name, Arc::downgrade(&stream)));
                }
            }
        }
    }

    /// Until the stream is over. States that come and go faster than they are looked at are not told.
    async fn follow_stream(self: Arc<Self>, name: StreamName, stream: Weak<Stream>) {
        let Some(mut states) = stream.upgrade().map(|stream| stream.watch_state()) else { return };
        let mut told = State::Waiting;
        loop {
            let state = *states.borrow_and_update();
            match change(told, state) {
                // The node where it is published tells. Whether that is here is known only after the announcement.
                Some(Notify::Publish) if stream.upgrade().is_some_and(|stream| stream.is_relayed()) => {}
                Some(notify) => {
                    self.tell(notify, &name, |call| call);
                    told = state;
                }
                None => {}
            }
            if state == State::Ended || states.changed().await.is_err() {
                return;
            }
        }
    }

    async fn follow_events(&self, hub: &Hub) {
        let Some(mut accepted) = hub.accepted_events() else { return };
        loop {
            match accepted.recv().await {
                Ok(event) => {
                    let json: Option<&RawValue> = serde_json::from_slice(&event.json).ok();
                    if let (Some(json), Ok(room)) = (json, event.head.source.parse::<StreamName>()) {
                        self.tell(Notify::Event, &room, |call| call.of_event(json));
                    }
                }
                Err(RecvError::Lagged(missed)) => self.metrics.hook_notices_dropped.inc_by(missed),
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// What there is to tell of a stream that was so and is now so.
fn change(told: State, state: State) -> Option<Notify> {
    match (told, state) {
        (State::Waiting, State::Live | State::Interrupted) => Some(Notify::Publish),
        (State::Interrupted, State::Live) => Some(Notify::Resumed),
        (State::Live, State::Interrupted) => Some(Notify::Interrupted),
        (State::Live | State::Interrupted, State::Ended) => Some(Notify::Unpublish),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once() {
        use State::{Ended, Interrupted, Live, Waiting};
        let mut told = Waiting;
        let seen = [Waiting, Live, Live, Interrupted, Interrupted, Live, Ended];
        let notices: Vec<_> = seen
            .into_iter()
            .filter_map(|state| {
                let notify = change(told, state);
                told = state;
                notify
            })
            .collect();
        assert_eq!(notices, [Notify::Publish, Notify::Interrupted, Notify::Resumed, Notify::Unpublish]);
        assert_eq!(change(Waiting, Ended), None, "nobody ever published it");
    }
}
