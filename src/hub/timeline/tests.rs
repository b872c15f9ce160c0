//! One room's schedule, without a hub around it.

use std::slice::from_ref;

use super::*;
use crate::{hub::Journal, media::Signer, observe::metrics::Metrics};

fn name() -> StreamName {
    "live/room".parse().expect("name")
}

fn timeline() -> Timeline {
    Timeline { origin: Some(Origin::in_memory()), ..Timeline::new(name(), 100) }
}

/// One that frames come to: the newest has this PTS.
fn live(pts_us: i64) -> Timeline {
    let mut timeline = timeline();
    timeline.before_frame(pts_us);
    timeline
}

fn draft(fields: Value, at: At) -> Draft {
    Draft::new(fields.as_object().expect("a map").clone(), Some(at), &name()).expect("a draft")
}

fn stamp(timeline: &mut Timeline, draft: &Draft) -> Arc<Event> {
    let stamp = timeline.stamp(draft, Duration::from_millis(2), None);
    let origin = timeline.origin.clone().expect("an origin");
    Arc::new(origin.signer.sign(draft.stamped(stamp)).expect("an event"))
}

/// What an origin does with a draft, as far as it doesn't wait.
async fn publish(timeline: &mut Timeline, fields: Value, at: At) -> Arc<Event> {
    let draft = draft(fields, at);
    timeline.admit(&draft).expect("admitted");
    let event = stamp(timeline, &draft);
    let journal = timeline.origin.as_ref().expect("an origin").journal.clone();
    journal.commit(vec![event.clone()], Vec::new()).await.expect("durable");
    timeline.schedule(event.clone());
    event
}

/// A frame comes: the seqs of what goes before it.
fn frame(timeline: &mut Timeline, pts_us: i64) -> Vec<u64> {
    let (due, _) = timeline.before_frame(pts_us);
    due.iter().for_each(|event| timeline.enter(event));
    due.iter().map(|event| event.head.seq).collect()
}

fn pending(timeline: &Timeline) -> Vec<u64> {
    let journal = &timeline.origin.as_ref().expect("an origin").journal;
    let records = journal.load(&name()).expect("a room").records;
    records.iter().filter(|record| record.pending).map(|record| record.event.head.seq).collect()
}

fn card() -> Value {
    json!({"type": "card.show"})
}

#[tokio::test(start_paused = true)]
async fn of_a_coalesced_key_the_newest_goes_out_twice_a_second() {
    let mut timeline = live(1_000_000);
    let stock = |sku: &str, left: i64| json!({"type": "stock.update", "data": {"sku": sku, "left": left}});
    let mut seqs = Vec::new();
    for left in 0..4 {
        seqs.push(publish(&mut timeline, stock("A", left), At::Now).await.head.seq);
    }
    let other = publish(&mut timeline, stock("B", 9), At::Now).await.head.seq;
    let cards = [publish(&mut timeline, card(), At::Now).await, publish(&mut timeline, card(), At::Now).await];
    let cards = cards.map(|card| card.head.seq);
    assert_eq!(frame(&mut timeline, 1_040_000), [seqs[3], other, cards[0], cards[1]]);
    assert_eq!(pending(&timeline), [0; 0], "what was overtaken is not fired after a restart");

    let next = publish(&mut timeline, stock("A", 5), At::Now).await.head.seq;
    tokio::time::advance(Duration::from_millis(499)).await;
    assert_eq!(frame(&mut timeline, 1_539_000), [0; 0]);
    assert_eq!(pending(&timeline), [next]);
    tokio::time::advance(Duration::from_millis(1)).await;
    let (due, late) = timeline.before_frame(1_580_000);
    assert_eq!((due.iter().map(|event| event.head.seq).collect(), late), (vec![next], 0), "it waited, it is not late");
    let log = timeline.origin.as_ref().expect("an origin").journal.since(&name(), 0, u64::MAX, 100).expect("a log");
    assert_eq!(log.len(), 8, "each acknowledged event is in the log");
}

#[tokio::test(start_paused = true)]
async fn an_update_of_the_future_does_not_overtake_that_of_now() {
    let mut timeline = live(1_000_000);
    let stock = |time: Value| json!({"type": "stock.update", "data": {"sku": "A"}, "time": time});
    let now = publish(&mut timeline, stock(json!({})), At::Now).await.head.seq;
    let later = publish(&mut timeline, stock(json!({"lead_ms": 9000})), At::InMs(5000)).await.head.seq;
    assert_eq!(frame(&mut timeline, 1_040_000), [now, later]);
    let active = timeline.room.active(Moment { pts_us: 1_040_000, wall_ms: 0 });
    assert_eq!(active.values().map(|event| event.head.seq).collect::<Vec<_>>(), [now]);
}

#[tokio::test(start_paused = true)]
async fn the_quota_says_when_there_is_room_again() {
    let journal = Journal::in_memory(1 << 20);
    let origin = Origin::new(journal, Arc::new(Signer::from_seed(&[7; 32])), Metrics::new(0, true), 10, 30);
    let mut timeline = Timeline { origin: Some(origin), ..Timeline::new(name(), 100) };
    let card = draft(card(), At::Now);
    for _ in 0..30 {
        timeline.admit(&card).expect("the burst");
    }
    assert_eq!(timeline.admit(&card), Err(Refused::TooFast { retry_after_secs: 1 }));
    tokio::time::advance(Duration::from_millis(99)).await;
    assert!(timeline.admit(&card).is_err(), "a refusal costs nothing and gains nothing");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(timeline.admit(&card), Ok(()));
    assert!(timeline.admit(&card).is_err());
    tokio::time::advance(Duration::from_secs(3600)).await;
    let admitted = std::iter::repeat_with(|| timeline.admit(&card)).take(100).filter(Result::is_ok).count();
    assert_eq!(admitted, 30, "the burst does not grow");

    let mut quota = Quota::default();
    quota.take(1, 1).expect("one");
    assert_eq!(quota.take(1, 1), Err(Refused::TooFast { retry_after_secs: 1 }));
    assert!(Quota::default().take(0, 0).is_err());
}

#[tokio::test(start_paused = true)]
async fn an_event_goes_before_the_first_frame_that_reaches_it_and_ahead_of_it_if_asked() {
    let mut timeline = live(1_000_000);
    let plain = publish(&mut timeline, card(), At::PtsUs(2_000_000)).await.head.seq;
    let lead = json!({"type": "chapter.start", "time": {"lead_ms": 400}});
    let ahead = publish(&mut timeline, lead, At::PtsUs(2_000_000)).await;
    assert_eq!(frame(&mut timeline, 1_599_999), [0; 0]);
    // In decode order the frame that others are shown before comes first.
    assert_eq!(frame(&mut timeline, 1_720_000), [ahead.head.seq]);
    assert_eq!(frame(&mut timeline, 1_640_000), [0; 0]);
    let moment = |pts_us| Moment { pts_us, wall_ms: 0 };
    assert!(timeline.room.active(moment(1_999_999)).is_empty() && timeline.room.active(moment(2_000_000)).len() == 1);
    assert_eq!(frame(&mut timeline, 2_000_000), [plain]);
    assert_eq!(timeline.scheduled().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn events_of_one_frame_keep_the_order_of_their_seqs() {
    let mut timeline = live(1_000_000);
    let mut seqs = Vec::new();
    for pts_us in [1_030_000, 1_010_000, 1_020_000] {
        seqs.push(publish(&mut timeline, card(), At::PtsUs(pts_us)).await.head.seq);
    }
    assert!(seqs.is_sorted() && seqs[0] > 100);
    assert_eq!(frame(&mut timeline, 1_040_000), seqs);
}

#[tokio::test(start_paused = true)]
async fn now_is_the_next_whole_millisecond_after_the_commit() {
    let mut timeline = live(1_033_333);
    tokio::time::advance(Duration::from_millis(5)).await;
    let event = stamp(&mut timeline, &draft(card(), At::Now));
    assert_eq!((event.pts_us(), event.head.time.epoch), (Some(1_041_000), Some(0)), "1 033 333 + 5 000 + 2 000");
    let later = stamp(&mut timeline, &draft(card(), At::InMs(10)));
    assert_eq!(later.pts_us(), Some(1_049_000));
    let exact = stamp(&mut timeline, &draft(card(), At::PtsUs(1_049_001)));
    assert_eq!(exact.pts_us(), Some(1_049_001), "who saw the frame knows it");

    assert!(!timeline.has_missed(&event));
    timeline.before_frame(1_040_999);
    assert!(!timeline.has_missed(&event));
    timeline.before_frame(1_041_000);
    assert!(timeline.has_missed(&event), "the frame that it belongs to went without it");
    let again = timeline.stamp(&draft(card(), At::Now), Duration::from_millis(6), Some(event.head.seq));
    assert_eq!((again.seq, &again.time["pts_us"]), (event.head.seq, &json!(1_047_000)));
    let (_, late) = {
        timeline.schedule(event);
        timeline.before_frame(1_050_000)
    };
    assert_eq!(late, 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_publisher_now_waits_for_nothing() {
    let mut timeline = timeline();
    let before_ms = clock::unix_ms();
    let event = stamp(&mut timeline, &draft(card(), At::Now));
    assert_eq!((event.head.time.mode, event.pts_us()), (crate::media::event::Mode::Asap, None));
    assert!(event.head.time.wall_ms >= Some(before_ms));
    let fire = draft(json!({"type": "gift.send"}), At::Now);
    assert_eq!(timeline.admit(&fire), Err(Refused::NotLive), "a one-shot for nobody");
    timeline.before_frame(1_000_000);
    assert!(timeline.is_live() && timeline.admit(&fire).is_ok());
    tokio::time::advance(FRAME_SILENCE_MAX).await;
    assert!(!timeline.is_live());
    timeline.pause();
    assert_eq!(timeline.admit(&fire), Err(Refused::NotLive));
}

#[tokio::test(start_paused = true)]
async fn a_full_room_refuses_what_it_has_no_place_for() {
    let mut timeline = live(1_000_000);
    let set = |n: usize| json!({"type": "price.update", "data": {"sku": n}});
    for n in 0..32 {
        publish(&mut timeline, set(n), At::Now).await;
    }
    frame(&mut timeline, 1_040_000);
    for n in 32..64 {
        publish(&mut timeline, set(n), At::InMs(60_000)).await;
    }
    let one_more = draft(set(64), At::Now);
    let refused = timeline.admit(&one_more);
    assert!(matches!(&refused, Err(Refused::Bad(BadEvent::Field { pointer, .. })) if pointer == "/key"), "{refused:?}");
    assert!(timeline.admit(&draft(set(63), At::Now)).is_ok(), "a key that is there may change");
    let far = timeline.admit(&draft(card(), At::PtsUs(i64::MAX)));
    assert!(matches!(&far, Err(Refused::Bad(BadEvent::Field { .. }))), "{far:?}");

    let fire = json!({"type": "gift.send"});
    for _ in timeline.schedule.len()..=limits::EVENTS_PENDING_MAX {
        publish(&mut timeline, fire.clone(), At::InMs(60_000)).await;
    }
    assert_eq!(timeline.admit(&draft(fire, At::InMs(60_000))), Err(Refused::TooMany));
    let some = timeline.scheduled()[0].head.id.clone();
    let cancel = json!({"type": "cancel", "data": {"ref": some}});
    assert_eq!(timeline.admit(&draft(cancel, At::Asap)), Ok(()), "a cancel makes room");
}

#[tokio::test(start_paused = true)]
async fn what_has_not_fired_is_named_by_what_stops_it() {
    let mut timeline = live(1_000_000);
    let soon = publish(&mut timeline, card(), At::InMs(100)).await;
    let announced = json!({"type": "list.set", "time": {"lead_ms": 9000}});
    let announced = publish(&mut timeline, announced, At::InMs(5000)).await;
    let near = json!({"type": "chapter.start", "time": {"lead_ms": 9000}});
    let near = publish(&mut timeline, near, At::InMs(500)).await;
    let fired = publish(&mut timeline, json!({"type": "theme.set"}), At::Now).await;
    assert_eq!(frame(&mut timeline, 1_040_000), [announced.head.seq, near.head.seq, fired.head.seq]);

    let mut stopped = |by: Value, at: At| {
        let draft = draft(by, at);
        stamp(&mut timeline, &draft).head.supersedes.clone()
    };
    let cancel = |event: &Event| json!({"type": "cancel", "data": {"ref": event.head.id}});
    assert_eq!(stopped(cancel(&soon), At::Now), from_ref(&soon.head.id));
    assert_eq!(stopped(cancel(&announced), At::Now), from_ref(&announced.head.id));
    assert_eq!(stopped(cancel(&near), At::Now), [""; 0], "viewers may see it fire before they hear of the cancel");
    assert_eq!(stopped(cancel(&fired), At::Now), [""; 0]);
    let all = [&soon, &announced, &near, &fired].map(|event| event.head.id.clone());
    let instead = json!({"type": "card.show", "supersedes": all});
    assert_eq!(stopped(instead.clone(), At::InMs(50)), from_ref(&soon.head.id), "what is out fires before it");
    assert_eq!(stopped(instead, At::Now), [soon.head.id.clone(), announced.head.id.clone()]);

    publish(&mut timeline, cancel(&soon), At::Now).await;
    assert_eq!(timeline.scheduled().len(), 1);
    assert!(!pending(&timeline).contains(&soon.head.seq));
    frame(&mut timeline, 1_080_000);
    let draft = draft(cancel(&soon), At::Now);
    assert_eq!(timeline.stopped_by(&draft), from_ref(&soon.head.id), "cancelled twice, it has still not fired");
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_with_what_the_journal_has() {
    let mut before = live(1_000_000);
    before.epoch = 4;
    let shown = publish(&mut before, card(), At::Now).await;
    frame(&mut before, 1_040_000);
    let waiting = publish(&mut before, json!({"type": "chapter.start"}), At::InMs(60_000)).await;
    let replaced = publish(&mut before, json!({"type": "theme.set"}), At::InMs(50_000)).await;
    let instead = json!({"type": "list.set", "supersedes": [replaced.head.id]});
    let instead = publish(&mut before, instead, At::InMs(55_000)).await;
    let origin = before.origin.clone().expect("an origin");
    origin.journal.reserve(&name(), 5000).await.expect("reserved");

    let mut after = Timeline::load(name(), 100, origin.clone()).expect("a room");
    assert_eq!(after.epoch, 5, "the encoder's clock begins anew");
    assert_eq!(after.scheduled(), [waiting.clone(), instead.clone()]);
    let seqs = |room: &Room| room.replay(Moment::default()).iter().map(|event| event.head.seq).collect::<Vec<_>>();
    assert_eq!(seqs(&after.room), [shown.head.seq], "what was superseded has never been");
    assert_eq!(stamp(&mut after, &draft(card(), At::Now)).head.seq, 5001);
    assert_eq!(Timeline::load(name(), 9000, origin.clone()).expect("a room").seq, 9000, "nor after a lost journal");

    let late_us = waiting.pts_us().expect("a frame");
    assert_eq!(frame(&mut after, late_us), [waiting.head.seq, instead.head.seq]);
    let third = Timeline::load(name(), 100, origin).expect("a room");
    assert!(third.scheduled().is_empty(), "nothing fires twice");
    let mut keys: Vec<_> = third.room.active(Moment { pts_us: late_us, wall_ms: 0 }).into_keys().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["card:main", "chapter", "list"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_superseded_stays_out_after_a_crash_too() {
    let mut before = live(1_000_000);
    let replaced = publish(&mut before, card(), At::InMs(50_000)).await;
    let instead = draft(json!({"type": "card.show", "supersedes": [replaced.head.id]}), At::InMs(60_000));
    let instead = stamp(&mut before, &instead);
    let origin = before.origin.clone().expect("an origin");
    // It is durable, and that is all.
    origin.journal.commit(vec![instead.clone()], Vec::new()).await.expect("durable");
    assert_eq!(pending(&before), [instead.head.seq]);
    let after = Timeline::load(name(), 100, origin).expect("a room");
    assert_eq!(after.scheduled(), from_ref(&instead));
    assert!(after.room.is_empty());
    assert_eq!(pending(&after), [instead.head.seq]);
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_told_now_and_then_with_seqs_that_are_set_aside() {
    let mut timeline = live(1_000_000);
    assert_eq!(timeline.poll_clock(1_000_000), None, "its seq might be given again after a crash");
    let reserve = timeline.wants_reserve().expect("more seqs");
    assert_eq!((reserve, timeline.wants_reserve()), (100 + SEQS_RESERVED, None), "asked once");
    (timeline.reserved, timeline.reserving) = (reserve, false);
    let clock = timeline.poll_clock(1_000_000).expect("the clock");
    assert_eq!((clock.head.seq, clock.pts_us(), clock.head.key.as_deref()), (101, Some(1_000_000), Some("clock")));
    assert_eq!(timeline.wants_reserve(), None, "half of it is enough");
    timeline.seq += SEQS_RESERVED / 2;
    assert_eq!(timeline.wants_reserve(), Some(timeline.seq + SEQS_RESERVED));
    tokio::time::advance(CLOCK_INTERVAL - Duration::from_millis(1)).await;
    assert_eq!(timeline.poll_clock(2_000_000), None);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(timeline.poll_clock(2_000_000).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_room_is_forgotten_only_while_nobody_needs_it() {
    let mut timeline = timeline();
    assert!(timeline.is_idle());
    let follower = timeline.log.subscribe();
    assert!(!timeline.is_idle(), "somebody follows");
    drop(follower);
    let turn = timeline.turn("an id");
    assert!(!timeline.is_idle() && Arc::ptr_eq(&turn, &timeline.turn("an id")));
    drop(turn);
    assert!(timeline.is_idle());
    publish(&mut timeline, card(), At::WallMs(clock::unix_ms() + 60_000)).await;
    assert!(!timeline.is_idle());
    timeline.schedule.clear();
    timeline.before_frame(1);
    assert!(!timeline.is_idle());
}
