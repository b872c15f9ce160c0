//! What a viewer's account makes of what came.

use super::*;
use crate::cli::load::report::Viewers;

struct Viewer {
    board: Arc<Board>,
    events: Arc<EventLog>,
    observer: Observer,
}

impl Viewer {
    fn new(is_sampled: bool, is_slow: bool) -> Self {
        let (board, events) = (Arc::new(Board::new(1)), Arc::<EventLog>::default());
        let identity = Identity { address: 0, is_sampled, is_slow, events: events.clone() };
        let mut observer = Observer::new(board.clone(), identity);
        observer.connected();
        Self { board, events, observer }
    }

    async fn picture(&mut self, after_ms: u64, keyframe: bool, number: u64) {
        tokio::time::advance(Duration::from_millis(after_ms)).await;
        self.observer.arrived(1000);
        let mark = Mark { number, clock_us: clock::unix_us() - 5000 };
        self.observer.frame(TrackKind::Video, keyframe, Some(mark));
    }

    fn seen(&self) -> Viewers {
        self.board.tallies()[0].lock().clone().into_viewers()
    }

    /// Another event is acknowledged.
    fn event_is_sent(&self) {
        self.events.begin();
        self.events.acknowledge();
    }

    async fn leave(self) -> Viewers {
        tokio::time::advance(Duration::from_millis(1900)).await;
        drop(self.observer);
        assert_eq!(self.board.tallies()[0].lock().playing, 0);
        self.board.tallies()[0].lock().clone().into_viewers()
    }
}

#[tokio::test(start_paused = true)]
async fn he_joins_with_a_keyframe_and_frames_that_are_missing_are_counted() {
    let mut viewer = Viewer::new(true, false);
    viewer.picture(10, false, 7).await;
    assert_eq!(viewer.seen().joined, 0);
    viewer.picture(30, true, 8).await;
    // 12 comes late: it was counted by then, and what follows it is not missing.
    for number in [9, 10, 13, 12, 14] {
        viewer.picture(33, false, number).await;
    }
    let seen = viewer.leave().await;
    assert_eq!((seen.count, seen.joined, seen.frames, seen.frames_lost, seen.bytes), (1, 1, 7, 2, 7000));
    assert!((39.0..41.0).contains(&seen.join_ms.max), "{:?}", seen.join_ms);
    assert!((4.9..50.0).contains(&seen.latency_ms.p50) && seen.latency_ms.samples == 6, "{:?}", seen.latency_ms);
    assert_eq!((seen.starved, seen.lost, seen.failed), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_he_came_has_no_latency() {
    let mut viewer = Viewer::new(true, false);
    viewer.observer.arrived(1);
    let old = Mark { number: 1, clock_us: clock::unix_us() - 2_000_000 };
    viewer.observer.frame(TrackKind::Video, true, Some(old));
    let seen = viewer.leave().await;
    assert_eq!((seen.joined, seen.latency_ms.samples), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn two_seconds_of_nothing_are_starvation_once_and_also_at_the_end() {
    let mut gap = Viewer::new(false, false);
    for (after_ms, number) in [(10, 0), (1990, 1), (2010, 2), (2010, 3)] {
        gap.picture(after_ms, true, number).await;
    }
    assert_eq!(gap.leave().await.starved, 1);
    let mut end = Viewer::new(false, false);
    end.picture(10, true, 0).await;
    tokio::time::advance(Duration::from_millis(200)).await;
    assert_eq!(end.leave().await.starved, 1);
    let mut slow = Viewer::new(false, true);
    slow.picture(10, true, 0).await;
    slow.picture(3000, false, 80).await;
    let seen = slow.leave().await;
    assert_eq!((seen.starved, seen.frames_lost), (0, 0), "a slow viewer's own fault");
}

#[tokio::test(start_paused = true)]
async fn events_from_the_join_on_must_come() {
    let mut viewer = Viewer::new(false, false);
    viewer.event_is_sent();
    // On its way while he joins.
    viewer.events.begin();
    viewer.picture(10, true, 0).await;
    viewer.events.acknowledge();
    (3..=7).for_each(|_| viewer.event_is_sent());
    // 3, 6 and 7 don't come.
    [4, 5].into_iter().for_each(|number| viewer.observer.event(number));
    assert_eq!(viewer.seen().events_lost, 1);
    let seen = viewer.leave().await;
    assert_eq!((seen.events, seen.events_lost), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn an_event_just_sent_may_still_be_on_its_way() {
    let mut viewer = Viewer::new(false, false);
    viewer.picture(10, true, 0).await;
    tokio::time::advance(Duration::from_millis(1000)).await;
    viewer.event_is_sent();
    drop(viewer.observer);
    assert_eq!(viewer.board.tallies()[0].lock().counts.events_lost, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_is_no_loss_of_one_that_played() {
    let mut viewer = Viewer::new(false, false);
    viewer.picture(10, true, 0).await;
    viewer.event_is_sent();
    viewer.observer.fail("reset");
    let seen = viewer.leave().await;
    assert_eq!((seen.lost, seen.failed, seen.events_lost, seen.failures["reset"]), (1, 0, 0, 1));
    let mut refused = Viewer::new(false, false);
    refused.observer.fed = None;
    refused.observer.fail("refused");
    let seen = refused.leave().await;
    assert_eq!((seen.lost, seen.failed, seen.starved), (0, 1, 0));
}
