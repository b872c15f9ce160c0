use serde_json::json;

use super::*;

fn timeline() -> Timeline {
    let mut timeline = Timeline::new("live/room".parse().expect("name"), 100);
    assert!(timeline.before_frame(1_000_000).is_empty());
    timeline
}

fn card(sku: &str) -> Map<String, Value> {
    let draft = json!({"type": "card.show", "op": "set", "key": "card:main", "data": {"sku": sku}});
    draft.as_object().expect("object").clone()
}

fn stamped(receipt: Result<Receipt, Refused>) -> Arc<Event> {
    match receipt.expect("accepted") {
        Receipt::Stamped(event) => event,
        Receipt::Waiting(_) => panic!("stamped at once"),
    }
}

#[tokio::test(start_paused = true)]
async fn now_takes_the_pts_of_the_next_frame() {
    let mut timeline = timeline();
    let Ok(Receipt::Waiting(mut waiting)) = timeline.accept(card("A"), At::Now) else { panic!("waits") };
    let due = timeline.before_frame(1_040_000);
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].pts_us(), Some(1_040_000));
    assert_eq!(due[0].head.seq, 101);
    assert_eq!(waiting.try_recv().expect("receipt"), due[0]);
    assert!(timeline.before_frame(1_080_000).is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_leave_before_the_first_frame_that_reaches_their_pts_in_seq_order() {
    let mut timeline = timeline();
    let late = stamped(timeline.accept(card("late"), At::PtsUs(1_090_000)));
    let soon = stamped(timeline.accept(card("soon"), At::PtsUs(1_050_000)));
    let room = stamped(timeline.accept(card("room"), At::InMs(60)));
    assert_eq!(room.pts_us(), Some(1_060_000));
    assert!(timeline.before_frame(1_049_999).is_empty());
    assert_eq!(timeline.before_frame(1_080_000), [soon, room]);
    assert_eq!(timeline.before_frame(1_120_000), [late]);
}

#[tokio::test(start_paused = true)]
async fn a_delay_ends_on_a_whole_millisecond_so_that_rounding_down_keeps_the_frame() {
    let mut timeline = timeline();
    tokio::time::advance(std::time::Duration::from_micros(33_001)).await;
    let event = stamped(timeline.accept(card("A"), At::InMs(60)));
    assert_eq!(event.pts_us(), Some(1_094_000));
}

#[tokio::test(start_paused = true)]
async fn the_same_id_is_the_same_event() {
    let mut timeline = timeline();
    let mut draft = card("A");
    draft.insert("id".into(), json!("01KAMVFYHGM9S346Q3D25VT4F5"));
    let first = stamped(timeline.accept(draft.clone(), At::PtsUs(5_000_000)));
    let again = stamped(timeline.accept(draft, At::PtsUs(9_000_000)));
    assert_eq!(first, again);
    assert_eq!(timeline.before_frame(9_000_000).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_id_twice_at_once_is_one_event_that_both_callers_hear_of() {
    let mut timeline = timeline();
    let mut draft = card("A");
    draft.insert("id".into(), json!("01KAMVFYHGM9S346Q3D25VT4F5"));
    let mut wait = || match timeline.accept(draft.clone(), At::Now) {
        Ok(Receipt::Waiting(waiting)) => waiting,
        _ => panic!("waits"),
    };
    let (mut first, mut second) = (wait(), wait());
    let due = timeline.before_frame(1_040_000);
    assert_eq!(due.len(), 1);
    assert_eq!(first.try_recv().expect("receipt"), due[0]);
    assert_eq!(second.try_recv().expect("receipt"), due[0]);
}

#[tokio::test(start_paused = true)]
async fn events_for_the_same_frame_keep_the_order_they_came_in() {
    let mut timeline = timeline();
    let wait = |timeline: &mut Timeline, sku| match timeline.accept(card(sku), At::Now) {
        Ok(Receipt::Waiting(waiting)) => waiting,
        _ => panic!("waits"),
    };
    let mut first = wait(&mut timeline, "A");
    let mut second = wait(&mut timeline, "B");
    let due = timeline.before_frame(1_040_000);
    let seqs = [&mut first, &mut second].map(|waiting| waiting.try_recv().expect("receipt").head.seq);
    assert_eq!(seqs, [101, 102]);
    assert_eq!(due.iter().map(|event| event.head.seq).collect::<Vec<_>>(), seqs);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gave_up_leaves_nothing_behind() {
    let mut timeline = timeline();
    drop(timeline.accept(card("A"), At::Now).expect("waits"));
    assert!(timeline.before_frame(2_000_000).is_empty());
}

#[tokio::test(start_paused = true)]
async fn refuses_what_is_wrong_before_it_waits_and_what_has_no_frame_or_no_room() {
    let mut timeline = timeline();
    let mut bad = card("A");
    bad.insert("type".into(), json!("CARD"));
    assert!(matches!(timeline.accept(bad, At::Now), Err(Refused::Bad(_))));
    for _ in 0..limits::EVENTS_PENDING_MAX {
        stamped(timeline.accept(card("A"), At::PtsUs(9_000_000)));
    }
    assert!(matches!(timeline.accept(card("A"), At::Now), Err(Refused::TooMany)));
    timeline.pause();
    assert!(matches!(timeline.accept(card("B"), At::Now), Err(Refused::NotLive)));
}

#[tokio::test(start_paused = true)]
async fn the_callers_durations_stay_and_his_stamp_does_not() {
    let mut timeline = timeline();
    let mut draft = card("A");
    draft.insert("time".into(), json!({"duration_ms": 9, "pts_us": 1, "mode": "asap"}));
    draft.insert("seq".into(), json!(1));
    draft.insert("source".into(), json!("other/room"));
    let event = stamped(timeline.accept(draft, At::PtsUs(7_000_000)));
    let json: Value = serde_json::from_slice(&event.json).expect("json");
    assert_eq!(json["time"]["duration_ms"], 9);
    assert_eq!((event.pts_us(), event.head.seq), (Some(7_000_000), 101));
    assert_eq!(event.head.source, "live/room");
}
