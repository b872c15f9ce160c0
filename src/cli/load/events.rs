//! Events sent while viewers watch: each carries a running number, by which a viewer knows what he missed.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use ulid::Ulid;

use super::{complain, report::Publishers};
use crate::{
    cli::api::{self, Api, Failed},
    clock::{self, Instant},
    media::StreamName,
};

/// What was sent into one stream. Numbers start at 1 and leave none out.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    sent: Mutex<Sent>,
    counts: watch::Sender<Counts>,
}

/// How much was sent so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    begun: u64,
    acknowledged: u64,
}

#[derive(Debug, Default)]
struct Sent {
    begun: u64,
    /// When each was acknowledged, by its number less one.
    acknowledged: Vec<Instant>,
}

impl EventLog {
    /// The number of the event that was posted last, if not yet answered.
    pub(super) fn begun(&self) -> u64 {
        self.sent.lock().begun
    }

    /// How many had been acknowledged by then.
    pub(super) fn acknowledged_before(&self, then: Instant) -> u64 {
        self.sent.lock().acknowledged.partition_point(|at| *at <= then) as u64
    }

    /// Tells whenever something was sent.
    pub(super) fn watch(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }

    /// Takes over what was sent elsewhere.
    pub(super) fn follow(&self, counts: Counts) {
        let mut sent = self.sent.lock();
        sent.begun = counts.begun;
        let acknowledged = usize::try_from(counts.acknowledged).unwrap_or(usize::MAX).min(EVENTS_MAX);
        if acknowledged > sent.acknowledged.len() {
            sent.acknowledged.resize(acknowledged, clock::now());
        }
    }

    pub(super) fn begin(&self) -> u64 {
        self.change(|sent| {
            sent.begun = sent.acknowledged.len() as u64 + 1;
            sent.begun
        })
    }

    pub(super) fn acknowledge(&self) {
        self.change(|sent| sent.acknowledged.push(clock::now()));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Sent) -> T) -> T {
        let mut sent = self.sent.lock();
        let changed = change(&mut sent);
        self.counts.send_replace(Counts { begun: sent.begun, acknowledged: sent.acknowledged.len() as u64 });
        changed
    }
}

/// The number in an event's script tag or JSON, if it is one of ours.
pub(super) fn number(json: &[u8]) -> Option<u64> {
    let at = json.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let digits = json.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit());
    digits.map(|digit| u64::from(digit - b'0')).try_fold(0u64, |n, digit| n.checked_mul(10)?.checked_add(digit))
}

/// Sends events into `stream`, `per_s` a second, until it is dropped. One that wasn't acknowledged is sent again
/// under its old number and id.
pub(super) async fn send(api: &Api, stream: &StreamName, per_s: f64, log: Arc<EventLog>, counts: &Mutex<Publishers>) {
    let mut every = interval(Duration::from_secs_f64(1.0 / per_s));
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let path = format!("{}/events", api::stream(stream));
    let live_by = clock::now() + GOING_LIVE_MAX;
    loop {
        every.tick().await;
        let number = log.begin();
        let id = Ulid::from_parts(clock::unix_ms().unsigned_abs(), rand::random());
        let body = json!({"type": "gift.send", "op": "fire", "id": id.to_string(), "data": {"hawker_load": number}});
        loop {
            match timeout(ANSWER_TIMEOUT, api.send(api.post(&path).json(&body))).await {
                Ok(Ok(_)) => break,
                // A publisher has been accepted before the stream's first frame makes it live.
                Ok(Err(Failed::Refused { status: StatusCode::CONFLICT, .. }))
                    if number == 1 && clock::now() < live_by =>
                {
                    every.tick().await;
                    continue;
                }
                Ok(Err(Failed::Refused { status: StatusCode::TOO_MANY_REQUESTS, .. })) => {}
                Ok(Err(failed)) => complain(&format!("an event was not taken: {failed}"), &path),
                Err(_) => complain("an event was not answered", &path),
            }
            counts.lock().events_refused += 1;
            every.tick().await;
        }
        log.acknowledge();
        counts.lock().events += 1;
    }
}

/// As canonical JSON has it.
const FIELD: &[u8] = b"\"hawker_load\":";
/// Events of a stream that an agent believes in.
const EVENTS_MAX: usize = 1_000_000;
/// A stream has no use for events before it is live, and is live by then.
const GOING_LIVE_MAX: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_in_an_event_s_json_only_if_it_is_ours() {
        assert_eq!(number(br#"..{"data":{"hawker_load":4711},"id":"x"}"#), Some(4711));
        assert_eq!(number(br#"{"data":{"sku":"hawker_load"}}"#), None);
        assert_eq!(number(br#"{"hawker_load":99999999999999999999999}"#), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_is_given_once_it_is_needed_and_counts_once_it_is_acknowledged() {
        let log = EventLog::default();
        assert_eq!((log.begin(), log.begin(), log.begun()), (1, 1, 1));
        log.acknowledge();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(log.begin(), 2);
        log.acknowledge();
        assert_eq!(log.acknowledged_before(clock::now() - Duration::from_millis(500)), 1);
        assert_eq!(log.acknowledged_before(clock::now()), 2);
    }
}
