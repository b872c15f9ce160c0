//! Notices to the backend: each waits in the lane of its stream until it is taken, so that a stream's are told in
//! their order and one that is not taken holds up few others.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    net::SocketAddr,
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify as Bell;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::{
    Hooks,
    call::{Failed, jittered},
};
use crate::{
    clock::{self, Instant},
    config::Notify,
    limits,
    media::StreamName,
    net::access::Asked,
    observe::metrics::Protocol,
    task,
};

/// Lanes, each of which sends one notice at a time.
const LANES: usize = 8;

/// What waits.
#[derive(Default)]
pub(super) struct Lanes([Lane; LANES]);

#[derive(Default)]
struct Lane {
    queue: Mutex<Queue>,
    bell: Bell,
}

#[derive(Default)]
struct Queue {
    notices: VecDeque<Notice>,
    bytes: usize,
}

struct Notice {
    body: Bytes,
    since: Instant,
    /// There are many of them, and each matters little.
    is_viewers: bool,
}

impl Lanes {
    /// Puts a notice into its stream's lane. Gives how many older ones that cost.
    pub(super) fn push(&self, notify: Notify, stream: &StreamName, body: Bytes, queue_max: usize) -> u64 {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(stream.as_str());
        let lane = usize::try_from(hash % LANES as u64).ok().and_then(|index| self.0.get(index));
        let Some(lane) = lane else { return 0 };
        let is_viewers = matches!(notify, Notify::Play | Notify::Stop);
        let notice = Notice { body, since: clock::now(), is_viewers };
        let dropped = lane.queue.lock().push(notice, queue_max / LANES, limits::HOOK_QUEUE_BYTES_MAX / LANES);
        lane.bell.notify_one();
        dropped
    }

    fn len(&self) -> usize {
        self.0.iter().map(|lane| lane.queue.lock().notices.len()).sum()
    }
}

impl Lane {
    async fn next(&self) -> Notice {
        loop {
            let notice = self.queue.lock().pop();
            if let Some(notice) = notice {
                return notice;
            }
            self.bell.notified().await;
        }
    }
}

impl Queue {
    fn push(&mut self, notice: Notice, count_max: usize, bytes_max: usize) -> u64 {
        self.bytes += notice.body.len();
        self.notices.push_back(notice);
        let mut dropped = 0;
        while self.notices.len() > count_max || self.bytes > bytes_max {
            let oldest_of_viewers = self.notices.iter().position(|notice| notice.is_viewers);
            match self.notices.remove(oldest_of_viewers.unwrap_or(0)) {
                Some(notice) => self.bytes -= notice.body.len(),
                None => break,
            }
            dropped += 1;
        }
        dropped
    }

    fn pop(&mut self) -> Option<Notice> {
        let notice = self.notices.pop_front()?;
        self.bytes -= notice.body.len();
        Some(notice)
    }
}

impl Hooks {
    /// Delivers what there is to tell, until told to stop.
    pub(super) fn deliver(self: &Arc<Self>, stop: &CancellationToken) {
        for index in 0..LANES {
            let (hooks, stop) = (self.clone(), stop.clone());
            task::spawn("hook notices", async move {
                let Some(lane) = hooks.lanes.0.get(index) else { return };
                let delivering = async {
                    loop {
                        let notice = lane.next().await;
                        hooks.deliver_one(&notice).await;
                        hooks.metrics.hook_notices_queued.set(i64::try_from(hooks.lanes.len()).unwrap_or(i64::MAX));
                    }
                };
                stop.run_until_cancelled(delivering).await.unwrap_or(())
            });
        }
    }

    /// Until it is taken, or there is no hope.
    async fn deliver_one(&self, notice: &Notice) {
        let mut pause = limits::HOOK_RETRY_MIN;
        loop {
            let rules = self.rules.load_full();
            // Hooks were turned off.
            let Some(backend) = &rules.backend else { return };
            let began = clock::now();
            let sent = backend.send(notice.body.clone()).await;
            self.metrics.hook_call("notify", sent.as_ref().map_or_else(Failed::label, |_| "taken"), began.elapsed());
            let Err(failed) = sent else { return };
            if !failed.is_temporary() || notice.since.elapsed() > limits::HOOK_NOTICE_AGE_MAX {
                tracing::warn!(reason = %failed, "the hook takes a notice not at all: it is dropped");
                self.metrics.hook_notices_dropped.inc();
                return;
            }
            tracing::debug!(reason = %failed, "the hook takes a notice not yet");
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(limits::HOOK_RETRY_MAX);
        }
    }
}

/// A viewer of whom the backend is told: that he came, and, when this is dropped, that he left.
pub struct Told {
    hooks: Arc<Hooks>,
    stream: StreamName,
    from: (Protocol, SocketAddr),
    session: Ulid,
    since: Instant,
}

impl Told {
    /// Tells that he came. `None` if the backend wants to know neither.
    pub(super) fn of(hooks: &Arc<Hooks>, asked: Asked<'_>) -> Option<Self> {
        if !hooks.tells(Notify::Play) && !hooks.tells(Notify::Stop) {
            return None;
        }
        let from = (asked.protocol, asked.peer);
        let (session, since) = (Ulid::new(), clock::now());
        let told = Self { hooks: hooks.clone(), stream: asked.stream.clone(), from, session, since };
        hooks.tell(Notify::Play, &told.stream, |call| call.of_viewer(from, session, None));
        Some(told)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let stayed = Some(self.since.elapsed());
        self.hooks.tell(Notify::Stop, &self.stream, |call| call.of_viewer(self.from, self.session, stayed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(body: &'static str, is_viewers: bool) -> Notice {
        Notice { body: Bytes::from_static(body.as_bytes()), since: clock::now(), is_viewers }
    }

    #[test]
    fn the_oldest_go_first_and_those_of_viewers_before_others() {
        let mut queue = Queue::default();
        for (body, is_viewers) in [("publish", false), ("play 1", true), ("play 2", true)] {
            assert_eq!(queue.push(notice(body, is_viewers), 3, 1000), 0);
        }
        assert_eq!(queue.push(notice("interrupted", false), 3, 1000), 1);
        assert_eq!(queue.push(notice("resumed", false), 3, 1000), 1);
        assert_eq!(queue.push(notice("unpublish", false), 3, 1000), 1, "no viewer's is left");
        assert_eq!(queue.push(notice("a longer one", false), 3, 25), 2, "bytes count as well");
        let left: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|notice| notice.body).collect();
        assert_eq!(left, ["unpublish", "a longer one"]);
        assert_eq!(queue.bytes, 0);
    }
}
