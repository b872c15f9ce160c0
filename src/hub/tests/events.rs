//! Events from the API's door to the line, over restarts, and for all rooms.

use std::{path::Path, slice::from_ref};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    clock,
    media::{Event, Signer, event::BadEvent},
    observe::metrics::Metrics,
};

/// Longer than anything here takes, shorter than anybody waits.
const PATIENCE: Duration = Duration::from_secs(10);

fn on_disk(file: &Path) -> Arc<Hub> {
    bounded(file, 1 << 24)
}

fn bounded(file: &Path, bytes_max: u64) -> Arc<Hub> {
    let metrics = Metrics::new(0, true);
    let seconds = prometheus::Histogram::with_opts(prometheus::HistogramOpts::new("t", "t")).expect("a histogram");
    let journal = Journal::open(file, bytes_max, seconds).expect("a journal that nobody else has open");
    let origin = Origin::new(journal, Arc::new(Signer::from_seed(&[7; 32])), metrics, 1000, 1000);
    Hub::new(Settings::default(), Some(origin))
}

fn room(name: &str) -> StreamName {
    name.parse().expect("name")
}

async fn post(hub: &Arc<Hub>, name: &str, fields: Value, at: Option<At>) -> Result<Arc<Event>, Refused> {
    let fields = fields.as_object().expect("a map").clone();
    hub.publish_event(&room(name), fields, at).await.map(|published| published.event)
}

async fn accepted(hub: &Arc<Hub>, fields: Value, at: Option<At>) -> Arc<Event> {
    post(hub, "live/room", fields, at).await.expect("accepted")
}

fn card(sku: &str) -> Value {
    json!({"type": "card.show", "data": {"sku": sku}})
}

/// Ids of the events in a piece of a line, the clock's aside.
fn ids(items: &[Item]) -> Vec<String> {
    let event = |item: &Item| match item {
        Item::Event(event) if event.head.kind != "clock" => Some(event.head.id.clone()),
        _ => None,
    };
    items.iter().filter_map(event).collect()
}

/// A publisher of video whose frames come every 40 ms of paused time.
struct Show {
    publisher: Publisher,
    ms: i64,
}

impl Show {
    fn begin(hub: &Arc<Hub>, name: &str) -> (Self, Cursor<Item>) {
        let mut publisher = hub.publish(&room(name)).expect("slot");
        let cursor = publisher.stream().ring().cursor(None);
        publisher.set_tracks(video()).expect("current");
        publisher.push_frame(frame(0, true)).expect("current");
        (Self { publisher, ms: 0 }, cursor)
    }

    async fn go_on(&mut self, frames: usize) {
        for _ in 0..frames {
            tokio::time::advance(Duration::from_millis(40)).await;
            self.push(false);
        }
    }

    fn push(&mut self, keyframe: bool) {
        self.ms += 40;
        self.publisher.push_frame(frame(self.ms, keyframe)).expect("current");
    }
}

/// The state as the API gives it, without the moment and the clock.
fn state(hub: &Arc<Hub>, name: &str) -> Value {
    let Some(json) = hub.room_state(&room(name)).expect("an origin") else { return Value::Null };
    let mut state: Value = serde_json::from_slice(&json).expect("json");
    for field in ["pts_us", "wall_ms", "seq"] {
        state[field].take();
    }
    state["events"].as_array_mut().expect("a list").retain(|event| event["type"] != "clock");
    state
}

/// Waits until an accepted event has left the schedule.
async fn fired(hub: &Arc<Hub>, event: &Event) {
    let waits = || hub.scheduled_events(&room(&event.head.source)).expect("a schedule").iter().any(|e| **e == *event);
    let left = async {
        while waits() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, left).await.expect("in time");
}

/// The schedule's task, to be ended before the hub is dropped.
struct Schedule(CancellationToken, tokio::task::JoinHandle<()>);

impl Schedule {
    fn run(hub: &Arc<Hub>) -> Self {
        let stop = CancellationToken::new();
        let hub = hub.clone();
        Self(stop.clone(), task::spawn("schedule", hub.run_schedule(Duration::from_secs(3600), stop)))
    }

    async fn end(self) {
        self.0.cancel();
        self.1.await.expect("it ended");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_for_now_meets_its_frame_however_long_the_commit_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let hub = on_disk(&folder.path().join("events"));
    let (mut show, mut cursor) = Show::begin(&hub, "live/room");
    for frames_meanwhile in [0, 1, 10] {
        let mut posting = std::pin::pin!(accepted(&hub, card("A"), None));
        assert!(futures_util::poll!(posting.as_mut()).is_pending());
        // Until it waits for the disk, which answers when we let it.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        show.go_on(frames_meanwhile).await;
        let event = posting.await;
        show.go_on(30).await;
        let items = items(&mut cursor);
        let place = items.iter().position(|item| matches!(item, Item::Event(entered) if *entered == event));
        let (before, after) = items.split_at(place.expect("in the line"));
        let pts = |item: &Item| if let Item::Frame(frame) = item { Some(frame.pts_us) } else { None };
        let at_us = event.pts_us().expect("a frame's time");
        assert_eq!(at_us % 1000, 0);
        assert!(before.iter().filter_map(pts).all(|pts_us| pts_us < at_us), "after {frames_meanwhile} frames");
        assert!(after.iter().find_map(pts).is_some_and(|pts_us| pts_us >= at_us), "after {frames_meanwhile} frames");
    }
    assert_eq!(show.publisher.stream().stats.take_events_late(), 0);
    let journal = hub.events_since(&room("live/room"), 0, 100).expect("the log");
    assert_eq!(journal.len(), 3, "stamped again, an event is still one");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_stamped_again_fires_late() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = accepted(&hub(), card("A"), None).await.json.len() as u64;
    // Room for one, and for the seqs that the clock sets aside.
    let hub = bounded(&folder.path().join("events"), one + one / 2 + 512);
    let (mut show, mut cursor) = Show::begin(&hub, "live/room");
    let mut posting = std::pin::pin!(accepted(&hub, card("A"), None));
    assert!(futures_util::poll!(posting.as_mut()).is_pending());
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    show.go_on(10).await;
    let event = posting.await;
    assert_eq!(post(&hub, "live/room", card("B"), None).await, Err(Refused::Full));
    show.go_on(1).await;
    assert_eq!(ids(&items(&mut cursor)), from_ref(&event.head.id));
    assert_eq!(show.publisher.stream().stats.take_events_late(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_id_is_one_event_also_for_callers_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let hub = on_disk(&folder.path().join("events"));
    let (mut show, mut cursor) = Show::begin(&hub, "live/room");
    let fields = json!({"type": "gift.send", "id": "01KAMVFYHGM9S346Q3D25VT4F5"});
    let fields = fields.as_object().expect("a map");
    let name = room("live/room");
    let posts = (0..8).map(|_| hub.publish_event(&name, fields.clone(), None));
    let all = futures_util::future::try_join_all(posts).await.expect("accepted");
    assert_eq!(all.iter().filter(|published| !published.known).count(), 1);
    assert!(all.iter().all(|published| published.event.json == all[0].event.json));
    show.go_on(5).await;
    let again = hub.publish_event(&name, fields.clone(), Some(At::InMs(9))).await.expect("known");
    assert!(again.known && again.event == all[0].event);
    show.go_on(30).await;
    assert_eq!(ids(&items(&mut cursor)), ["01KAMVFYHGM9S346Q3D25VT4F5"]);
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_for_what_became_durable_in_a_failed_commit_has_it_fired_once() {
    let hub = hub();
    let (mut show, mut cursor) = Show::begin(&hub, "live/room");
    let fields = json!({"type": "gift.send", "id": "01KAMVFYHGM9S346Q3D25VT4F5"});
    let event = accepted(&self::hub(), json!({"type": "gift.send", "id": fields["id"]}), Some(At::Asap)).await;
    let name = room("live/room");
    hub.origin().expect("an origin").journal.commit(vec![event.clone()], Vec::new()).await.expect("durable");
    hub.timeline(&name).expect("a room").lock().note_failed(&[event.head.seq]);
    for _ in 0..3 {
        let again = hub.publish_event(&name, fields.as_object().expect("a map").clone(), None).await.expect("known");
        assert!(again.known && again.event == event);
        show.go_on(2).await;
    }
    assert_eq!(ids(&items(&mut cursor)), from_ref(&event.head.id));
}

#[tokio::test]
async fn who_asks_again_late_learns_that_it_was_accepted() {
    let hub = hub();
    let expires_ms = clock::unix_ms() + 50;
    let fields = json!({"type": "card.show", "id": "01KAMVFYHGM9S346Q3D25VT4F5", "time": {"expires_ms": expires_ms}});
    let first = accepted(&hub, fields.clone(), None).await;
    while clock::unix_ms() < expires_ms {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(accepted(&hub, fields, None).await, first);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_event_half_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let hub = on_disk(&folder.path().join("events"));
    let name = room("live/room");
    let (_, mut log) = hub.follow_events(&name).expect("a log");
    {
        let fields = card("A");
        let posting = hub.publish_event(&name, fields.as_object().expect("a map").clone(), None);
        let mut posting = std::pin::pin!(posting);
        assert!(futures_util::poll!(posting.as_mut()).is_pending(), "it waits for the disk");
    }
    tokio::time::timeout(PATIENCE, log.changed()).await.expect("in time").expect("followed");
    assert_eq!(hub.events_since(&name, 0, 9).expect("the log").len(), 1);
    assert!(hub.scheduled_events(&name).expect("a schedule").is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_first_head_of_a_stream_has_what_was_set_before_it() {
    let hub = hub();
    let event = accepted(&hub, card("A"), None).await;
    assert_eq!(post(&hub, "live/room", json!({"type": "gift.send"}), None).await, Err(Refused::NotLive));
    let (_show, mut cursor) = Show::begin(&hub, "live/room");
    let items = items(&mut cursor);
    let Some(Item::Head(head)) = items.first() else { panic!("{items:?}") };
    assert_eq!(head.room.replay(head.at), [event]);
    assert_eq!(ids(&items), [""; 0], "joiners get it once");
    assert_eq!(head.snapshots(&room("live/room"), usize::MAX).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_whose_publisher_is_done_has_no_frame_to_wait_for() {
    let hub = hub();
    let (show, _cursor) = Show::begin(&hub, "live/room");
    show.publisher.end();
    assert_eq!(post(&hub, "live/room", json!({"type": "gift.send"}), None).await, Err(Refused::NotLive));
    assert!(hub.timeline(&room("live/room")).expect("a room").lock().is_idle());
    let (_show, mut cursor) = Show::begin(&hub, "live/room");
    let line = items(&mut cursor);
    let Some(Item::Head(head)) = line.first() else { panic!("{line:?}") };
    assert_eq!(head.tracks.epoch, 1, "what was stamped for the show before is told from this one's");
}

#[tokio::test(start_paused = true)]
async fn joiners_at_each_start_point_get_the_state_there() {
    let hub = hub();
    let (mut show, mut cursor) = Show::begin(&hub, "live/room");
    show.go_on(2).await;
    let event = accepted(&hub, card("A"), None).await;
    show.go_on(2).await;
    assert_eq!(ids(&items(&mut cursor)), from_ref(&event.head.id));
    show.push(true);
    let mut joined = show.publisher.stream().ring().cursor(None);
    let line = items(&mut joined);
    let [Item::Head(head), .., Item::Frame(_)] = &line[..] else { panic!("{line:?}") };
    assert_eq!(head.room.active(head.at).get("card:main"), Some(&&event));
    let told = items(&mut cursor).into_iter().filter(|item| matches!(item, Item::Head(_))).count();
    show.push(true);
    let again = items(&mut cursor).into_iter().filter(|item| matches!(item, Item::Head(_))).count();
    assert_eq!((told, again), (1, 0), "what has not changed is not told again");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_before_the_time_keeps_the_event_out_and_one_after_it_takes_its_key() {
    let hub = hub();
    let (mut show, mut cursor) = Show::begin(&hub, "live/room");
    let name = room("live/room");
    let price = |minor: i64| json!({"type": "price.update", "data": {"sku": "A", "minor": minor}});
    let old = accepted(&hub, price(900), None).await;
    let new = accepted(&hub, price(800), Some(At::InMs(400))).await;
    show.go_on(2).await;
    let cancel = hub.cancel_event(&name, &new.head.id, Some("a mistake")).await.expect("cancelled").event;
    assert_eq!(cancel.head.supersedes, from_ref(&new.head.id));
    show.go_on(20).await;
    assert_eq!(ids(&items(&mut cursor)), [old.head.id.clone(), cancel.head.id.clone()]);
    assert_eq!(state(&hub, "live/room")["events"].as_array().map(Vec::len), Some(1), "the old price holds");

    let cancel = hub.cancel_event(&name, &old.head.id, None).await.expect("cancelled").event;
    assert!(cancel.head.supersedes.is_empty());
    show.go_on(2).await;
    assert_eq!(state(&hub, "live/room")["events"], json!([]));
    for unknown in ["01KAMVFYHGM9S346Q3D25VT4F5", "1"] {
        let unknown = hub.cancel_event(&name, unknown, None).await;
        assert_eq!(unknown.map(|published| published.known), Err(Refused::UnknownEvent));
    }
    let counted = hub.origin().expect("an origin").metrics.render();
    assert!(counted.contains("hawker_refused_total{reason=\"event_unknown\"} 2"), "{counted}");
}

#[tokio::test(start_paused = true)]
async fn what_is_superseded_never_enters_the_line() {
    let hub = hub();
    let (mut show, mut cursor) = Show::begin(&hub, "live/room");
    let first = accepted(&hub, card("A"), Some(At::InMs(400))).await;
    let instead = json!({"type": "card.show", "data": {"sku": "B"}, "supersedes": [first.head.id]});
    let instead = accepted(&hub, instead, Some(At::InMs(200))).await;
    show.go_on(20).await;
    assert_eq!(ids(&items(&mut cursor)), from_ref(&instead.head.id));
    assert_eq!(state(&hub, "live/room")["events"][0]["id"], instead.head.id.as_str());
}

#[tokio::test(start_paused = true)]
async fn the_sixty_fifth_key_is_refused() {
    let hub = hub();
    let (mut show, _cursor) = Show::begin(&hub, "live/room");
    let price = |sku: usize| json!({"type": "price.update", "data": {"sku": sku}});
    for sku in 0..64 {
        accepted(&hub, price(sku), None).await;
    }
    show.go_on(2).await;
    let refused = post(&hub, "live/room", price(64), None).await;
    assert!(matches!(&refused, Err(Refused::Bad(BadEvent::Field { pointer, .. })) if pointer == "/key"), "{refused:?}");
    accepted(&hub, price(7), None).await;
    assert_eq!(state(&hub, "live/room")["events"].as_array().map(Vec::len), Some(64));
}

#[tokio::test]
async fn a_sale_closes_by_itself() {
    let hub = hub();
    let schedule = Schedule::run(&hub);
    let name = room("live/room");
    let closes_ms = clock::unix_ms() + 300;
    let sale = json!({"type": "sale.start", "data": {"id": "F", "closes_ms": closes_ms}});
    let sale = accepted(&hub, sale, None).await;
    assert_eq!(state(&hub, "live/room")["events"][0]["id"], sale.head.id.as_str());
    let log = hub.events_since(&name, sale.head.seq, 9).expect("the log");
    let [end] = &log[..] else { panic!("one more, not {log:?}") };
    let end = Event::from_json(end).expect("an event");
    fired(&hub, &end).await;
    assert_eq!((end.head.kind.as_str(), end.head.key.as_deref()), ("sale.end", Some("sale:F")));
    assert_eq!(end.head.time.wall_ms, Some(closes_ms));
    assert!(end.head.seq > sale.head.seq && hub.scheduled_events(&name).expect("a schedule").is_empty());
    while clock::unix_ms() < closes_ms {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(state(&hub, "live/room")["events"], json!([]));
    schedule.end().await;
}

#[tokio::test]
async fn what_waits_fires_after_a_restart_and_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events");
    let name = room("live/room");
    let hub = on_disk(&file);
    let now_ms = clock::unix_ms();
    // The first two are told ten seconds ahead.
    let by_wall = accepted(&hub, card("wall"), Some(At::WallMs(now_ms + 10_300))).await;
    let by_delay = accepted(&hub, json!({"type": "chapter.start"}), Some(At::InMs(300))).await;
    let by_pts = accepted(&hub, json!({"type": "theme.set"}), Some(At::PtsUs((now_ms + 300) * 1000))).await;
    let shown = accepted(&hub, json!({"type": "list.set"}), None).await;
    let stopped = accepted(&hub, json!({"type": "rank.set"}), Some(At::InMs(300))).await;
    hub.cancel_event(&name, &stopped.head.id, None).await.expect("cancelled");
    let before = state(&hub, "live/room");
    assert_eq!(before["events"][0]["id"], shown.head.id.as_str());
    drop(hub);

    let hub = on_disk(&file);
    assert_eq!(state(&hub, "live/room"), before);
    assert_eq!(hub.scheduled_events(&name).expect("a schedule"), [&by_wall, &by_delay, &by_pts].map(Arc::clone));
    let schedule = Schedule::run(&hub);
    for event in [by_wall, by_delay, by_pts] {
        fired(&hub, &event).await;
    }
    assert!(clock::unix_ms() >= now_ms + 300, "not before their time");
    schedule.end().await;
    let fired = state(&hub, "live/room");
    assert_eq!(fired["events"].as_array().map(Vec::len), Some(4));
    drop(hub);

    let hub = on_disk(&file);
    assert!(hub.scheduled_events(&name).expect("a schedule").is_empty(), "fired once");
    assert_eq!(state(&hub, "live/room"), fired);
    assert!(accepted(&hub, card("B"), None).await.head.seq > stopped.head.seq + 1);
}

#[tokio::test(start_paused = true)]
async fn seqs_go_on_growing_after_a_crash_also_over_those_of_the_clock() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events");
    let hub = on_disk(&file);
    let (mut show, mut cursor) = Show::begin(&hub, "live/room");
    let clock_seq = loop {
        show.go_on(1).await;
        let seq = |item: &Item| if let Item::Event(event) = item { Some(event.head.seq) } else { None };
        if let Some(seq) = items(&mut cursor).iter().find_map(seq) {
            break seq;
        }
        assert!(show.ms < 3_600_000, "the clock is told");
    };
    // What a backup of this moment would bring back.
    let copy = folder.path().join("copy");
    std::fs::copy(&file, &copy).expect("copied");
    let seq = accepted(&on_disk(&copy), card("A"), None).await.head.seq;
    assert!(seq > clock_seq, "{seq} after {clock_seq}");
}

#[tokio::test(start_paused = true)]
async fn an_event_for_all_rooms_enters_each_of_the_organisation_once() {
    let hub = hub();
    let schedule = Schedule::run(&hub);
    let mut shows = ["live/a", "live/b/c", "other/a"].map(|name| Show::begin(&hub, name));
    let theme = post(&hub, "live/_global", json!({"type": "theme.set"}), None).await.expect("accepted");
    let gift = post(&hub, "live/_global", json!({"type": "gift.send"}), None).await.expect("accepted");
    assert!(theme.is_global() && theme.head.target.scope == crate::media::event::Scope::All);
    for _ in 0..10 {
        shows.iter_mut().for_each(|(show, _)| show.push(false));
    }
    let both = [theme.head.id.clone(), gift.head.id.clone()];
    let seen = shows.each_mut().map(|(_, cursor)| ids(&items(cursor)));
    assert_eq!(seen, [both.to_vec(), both.to_vec(), vec![]]);
    let global = hub.get(&room("live/_global")).expect("edges ask for it");
    assert_eq!(ids(&items(&mut global.ring().cursor(None))).last(), Some(&both[1]));

    let _waiting = hub.view(&room("live/late")).expect("room");
    let rank = post(&hub, "live/_global", json!({"type": "rank.set"}), None).await.expect("accepted");
    // Who joins at the frame that carries it gets it once, from the line.
    shows[0].0.push(true);
    let line = items(&mut shows[0].0.publisher.stream().ring().cursor(None));
    let Some(Item::Head(head)) = line.first() else { panic!("{line:?}") };
    assert_eq!((head.global.replay(head.at), ids(&line)), (vec![theme.clone()], vec![rank.head.id.clone()]));
    for (name, expected) in [("live/late", vec![theme.clone(), rank]), ("other/late", vec![])] {
        let (_show, mut cursor) = Show::begin(&hub, name);
        let line = items(&mut cursor);
        let Some(Item::Head(head)) = line.first() else { panic!("{line:?}") };
        assert_eq!((head.global.replay(head.at), ids(&line)), (expected, vec![]), "{name}");
    }
    assert_eq!(state(&hub, "live/elsewhere")["events"][0]["id"], theme.head.id.as_str());
    schedule.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_joins_at_an_edge_gets_an_event_for_all_rooms_once() {
    let theme = post(&hub(), "live/_global", json!({"type": "theme.set"}), None).await.expect("accepted");
    let edge = Hub::new(Settings::default(), None);
    let [mut show, mut global] = ["live/room", "live/_global"].map(|name| edge.publish(&room(name)).expect("slot"));
    for publisher in [&mut show, &mut global] {
        publisher.relay(Item::Head(Head::of(video().into())), 1).expect("current");
        publisher.relay(Item::Frame(frame(0, true)), 1).expect("current");
    }
    global.relay(Item::Event(theme.clone()), 1).expect("current");
    global.relay(Item::Frame(frame(40, true)), 2).expect("current");
    for (group, from_head, from_line) in [(2, 0, 1), (3, 1, 0)] {
        show.relay(Item::Frame(frame(40 * group, true)), group as u64).expect("current");
        let line = items(&mut show.stream().ring().cursor(None));
        let Some(Item::Head(head)) = line.first() else { panic!("{line:?}") };
        assert_eq!((head.global.replay(head.at).len(), ids(&line).len()), (from_head, from_line), "group {group}");
    }
}

#[tokio::test]
async fn an_event_for_all_rooms_that_waits_reaches_them_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events");
    let hub = on_disk(&file);
    let theme = post(&hub, "live/_global", json!({"type": "theme.set"}), None).await.expect("accepted");
    let at = At::WallMs(clock::unix_ms() + 10_200);
    let rain = json!({"type": "rain.start", "time": {"duration_ms": 5000}});
    let rain = post(&hub, "live/_global", rain, Some(at)).await.expect("accepted");
    drop(hub);

    let hub = on_disk(&file);
    let schedule = Schedule::run(&hub);
    tokio::task::yield_now().await;
    let (mut show, mut cursor) = Show::begin(&hub, "live/room");
    let line = items(&mut cursor);
    let Some(Item::Head(head)) = line.first() else { panic!("{line:?}") };
    assert_eq!(head.global.replay(head.at), [theme]);
    fired(&hub, &rain).await;
    // It is brought into the rooms right after.
    tokio::task::yield_now().await;
    show.push(false);
    assert_eq!(ids(&items(&mut cursor)), from_ref(&rain.head.id));
    schedule.end().await;
}

#[tokio::test]
async fn viewers_of_made_up_names_leave_no_room_behind() {
    let hub = hub();
    for number in 0..100 {
        drop(hub.view(&room(&format!("live/{number}"))).expect("room"));
    }
    assert_eq!(state(&hub, "live/looked-at"), Value::Null);
    assert!(hub.scheduled_events(&room("live/looked-at")).expect("a schedule").is_empty());
    assert_eq!(hub.timelines.lock().len(), 0);
    let viewer = hub.view(&room("live/room")).expect("room");
    accepted(&hub, card("A"), Some(At::InMs(60_000))).await;
    drop(viewer);
    assert_eq!(hub.timelines.lock().len(), 1, "it has something to do");
}

#[tokio::test]
async fn who_joins_a_stream_that_is_there_asks_for_its_room_only_if_it_lacks_it() {
    let hub = hub();
    let origin = |viewer: &Viewer| viewer.stream().timeline().lock().origin.clone();
    let first = hub.view(&room("live/room")).expect("room");
    hub.timelines.lock().clear();
    let second = hub.view(&room("live/room")).expect("room");
    assert_eq!((hub.timelines.lock().len(), *second.stream().viewers().borrow()), (0, 2));
    first.stream().timeline().lock().origin = None;
    let third = hub.view(&room("live/room")).expect("room");
    assert!(origin(&third).is_some() && hub.timelines.lock().len() == 1);
}

#[tokio::test]
async fn an_edge_takes_no_events() {
    let edge = Hub::new(Settings::default(), None);
    assert_eq!(post(&edge, "live/room", card("A"), None).await, Err(Refused::NotOrigin));
    assert_eq!(edge.events_since(&room("live/room"), 0, 1), Err(Refused::NotOrigin));
}

#[tokio::test]
async fn a_stream_of_an_upstream_takes_its_events_there_watched_or_not() {
    let hub = hub();
    let mirrored = hub.announce(&room("live/room")).expect("room");
    assert_eq!(post(&hub, "live/room", card("A"), None).await, Err(Refused::NotOrigin));
    hub.unannounce(&mirrored);
    accepted(&hub, card("A"), None).await;
    hub.announce(&room("live/room")).expect("room");
    let mut publisher = hub.publish(&room("live/room")).expect("slot");
    publisher.push_frame(frame(0, true)).expect("current");
    accepted(&hub, card("A"), None).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_began_without_its_room_gets_it_later() {
    let hub = hub();
    let other = Arc::new(Mutex::new(Timeline::new(room("other/room"), 0)));
    let full = (0..limits::ROOMS_MAX).map(|number| (room(&format!("full/{number}")), other.clone()));
    *hub.timelines.lock() = full.collect();
    let (mut show, mut cursor) = Show::begin(&hub, "live/room");
    assert_eq!(post(&hub, "live/room", card("A"), None).await, Err(Refused::TooMany));
    hub.timelines.lock().clear();
    let event = accepted(&hub, card("A"), None).await;
    assert!(event.pts_us().is_some(), "the room knows that frames come");
    show.go_on(2).await;
    assert_eq!(ids(&items(&mut cursor)), from_ref(&event.head.id));
}
