//! The fold in any order: what an origin can make of a room, and what the others get of it.

use proptest::{prelude::*, sample::Index};

use super::*;

fn source() -> StreamName {
    "live/room".parse().expect("name")
}

/// ULIDs of a test are numbers.
fn id(n: u64) -> String {
    ulid::Ulid::from(u128::from(n)).to_string()
}

/// An event with the fields that the test gives over the usual ones.
fn event(seq: u64, fields: Value) -> Arc<Event> {
    let mut event = json!({
        "v": 1, "id": id(seq), "source": "live/room", "seq": seq, "type": "a.b", "op": "set",
        "time": {"mode": "asap", "wall_ms": 0}, "data": {},
    });
    event.as_object_mut().expect("a map").extend(fields.as_object().expect("a map").clone());
    Arc::new(Event::from_json(event.to_string().as_bytes()).expect("an event"))
}

fn set(seq: u64, key: &str) -> Arc<Event> {
    event(seq, json!({ "key": key }))
}

fn at(ms: i64) -> Moment {
    Moment { pts_us: ms * 1000, wall_ms: ms }
}

fn room(events: &[Arc<Event>]) -> Room {
    let mut room = Room::default();
    events.iter().for_each(|event| room.apply(event));
    room
}

fn seqs(events: &[Arc<Event>]) -> Vec<u64> {
    events.iter().map(|event| event.head.seq).collect()
}

/// What players see of a room.
fn seen(room: &Room, now: Moment) -> (Vec<(String, u64)>, Vec<u64>) {
    let active = room.active(now).into_iter().map(|(key, event)| (key.to_owned(), event.head.seq)).collect();
    (active, seqs(&room.replay(now)))
}

fn through_json(room: &Room, now: Moment) -> Room {
    let mut more = Vec::new();
    let (read, then) = Room::from_json(room.to_json(&source(), now, &[]).as_bytes(), &mut more).expect("a snapshot");
    assert_eq!((then, more.len()), (now, 0));
    read
}

#[test]
fn a_joiner_gets_the_clock_before_all_else() {
    let clock = event(9, json!({"type": "clock", "key": "clock"}));
    let rain = json!({"type": "rain.start", "op": "fire", "time": {"mode": "wall", "wall_ms": 5, "duration_ms": 100}});
    let room = room(&[set(3, "card:main"), event(4, rain), clock, set(7, "list")]);
    assert_eq!(seqs(&room.replay(at(0))), [9, 3, 4, 7], "announced");
    assert_eq!(seqs(&room.replay(at(50))), [9, 3, 4, 7], "running");
    assert_eq!(seqs(&room.replay(at(105))), [9, 3, 7], "over");
}

#[test]
fn a_value_holds_until_the_frame_of_the_next() {
    let next = event(2, json!({"key": "card:main", "time": {"mode": "pts", "pts_us": 5000, "wall_ms": 1}}));
    let mut room = room(&[next, set(1, "card:main")]);
    for _ in 0..2 {
        assert_eq!(seen(&room, at(4)), (vec![("card:main".into(), 1)], vec![1, 2]));
        room.advance(at(4));
    }
    assert_eq!(seen(&room, at(5)), (vec![("card:main".into(), 2)], vec![2]));
}

#[test]
fn a_tally_goes_with_its_poll() {
    let tally = |seq| event(seq, json!({"type": "poll.tally", "key": "poll:P:tally"}));
    let open = |seq| event(seq, json!({"type": "poll.open", "key": "poll:P"}));
    let close = event(3, json!({"type": "poll.close", "op": "delete", "key": "poll:P"}));
    let cancel = event(3, json!({"type": "cancel", "op": "fire", "data": {"ref": id(1)}}));
    for end in [close, cancel] {
        let mut room = room(&[open(1), tally(2)]);
        assert_eq!(room.active(at(0)).len(), 2);
        room.apply(&end);
        assert_eq!(seen(&room, at(0)), (vec![], vec![]));
        room.apply(&open(4));
        assert_eq!(seen(&room, at(0)).1, [4], "another poll under the same name begins with no votes");
        room.apply(&tally(5));
        assert_eq!(seen(&room, at(0)).1, [4, 5]);
    }
}

#[test]
fn a_cancel_takes_the_key_of_what_had_fired_and_leaves_it_to_what_had_not() {
    let scheduled = || event(2, json!({"key": "price:A", "time": {"mode": "pts", "pts_us": 9000, "wall_ms": 9}}));
    let cancel = |fields: Value| {
        let mut all = json!({"type": "cancel", "op": "fire", "data": {"ref": id(2)}});
        all.as_object_mut().expect("a map").extend(fields.as_object().expect("a map").clone());
        event(3, all)
    };
    let before = cancel(json!({"supersedes": [id(2)]}));
    for order in [[set(1, "price:A"), scheduled(), before.clone()], [before, scheduled(), set(1, "price:A")]] {
        assert_eq!(seen(&room(&order), at(20)).1, [1]);
    }
    let after = cancel(json!({}));
    for order in [[set(1, "price:A"), scheduled(), after.clone()], [after, scheduled(), set(1, "price:A")]] {
        assert_eq!(seen(&room(&order), at(20)), (vec![], vec![]));
    }
}

#[test]
fn what_runs_out_before_it_fires_never_was() {
    let late = json!({"key": "k", "time": {"mode": "wall", "wall_ms": 50, "expires_ms": 50}});
    assert_eq!(seen(&room(&[set(1, "k"), event(2, late)]), at(60)).1, [1]);
    let short = json!({"key": "k", "time": {"mode": "wall", "wall_ms": 50, "expires_ms": 70}});
    let mut room = room(&[set(1, "k"), event(2, short)]);
    assert!(room.is_moving(at(60)), "joiners at 70 get another state");
    assert_eq!(seen(&room, at(69)).1, [2]);
    assert_eq!(seen(&room, at(70)), (vec![], vec![]), "what it overwrote does not come back");
    room.advance(at(70));
    room.apply(&set(1, "k"));
    assert_eq!(seen(&room, at(70)), (vec![], vec![]));
}

#[test]
fn a_full_room_and_its_snapshot_stay_within_their_bounds() {
    let mut room = Room::default();
    for seq in 0..2000 {
        let announced = json!({"op": "fire", "time": {"mode": "wall", "wall_ms": 10_000}});
        room.apply(&event(3 * seq, announced));
        room.apply(&event(3 * seq + 1, json!({"op": "delete", "key": format!("k:{seq}")})));
        room.apply(&event(3 * seq + 2, json!({"type": "cancel", "op": "fire", "data": {"ref": id(seq * 7)}})));
        room.advance(at(0));
    }
    assert_eq!((room.events.len(), room.deleted.len(), room.dropped.len()), (512, 64, 64));
    assert_eq!(through_json(&room, at(0)), room);
    let mut many = room.clone();
    many.deleted.insert("one more".into(), 1);
    let json = many.write(&source(), at(0), &[]);
    assert_eq!(Room::from_json(json.as_bytes(), &mut Vec::new()).expect_err("refused"), BadEvent::TooLarge);
}

#[test]
fn sixty_four_large_keys_fit_a_snapshot_in_parts() {
    let text = "x".repeat(500);
    let large = |seq| event(seq, json!({"key": format!("k:{seq}"), "data": {"a": text, "b": text}}));
    let room = room(&(0..64).map(large).collect::<Vec<_>>());
    let parts = room.parts(&source(), at(0), &[], 16_000);
    assert!(parts.len() > 4 && parts.iter().all(|part| part.len() < 16_500), "{}", parts.len());
    assert_eq!(room.to_state(at(0))["keys"].as_object().expect("keys").len(), 64);
}

#[test]
fn a_snapshot_is_read_with_care() {
    let good: Value = serde_json::from_str(&room(&[set(1, "k")]).to_json(&source(), at(7), &[])).expect("json");
    let read = |field: &str, value: Value| {
        let mut snapshot = good.clone();
        snapshot[field] = value;
        Room::from_json(snapshot.to_string().as_bytes(), &mut Vec::new())
    };
    assert!(read("more", json!(1)).is_ok(), "later versions may say more");
    assert!(matches!(read("v", json!(2)), Err(BadEvent::Field { pointer, .. }) if pointer == "/v"));
    let (rest, _) = read("events", json!([{"v": 2}, good["events"][0]])).expect("what can be read");
    assert_eq!(rest.active(at(7)).len(), 1, "another version's event is left out alone");
    assert!(matches!(read("deleted", json!({"k": -1})), Err(BadEvent::Malformed(_))));
    assert_eq!(read("events", json!(vec![good["events"][0].clone(); 1025])), Err(BadEvent::TooLarge));
    let mut global = serde_json::from_slice::<Value>(&set(5, "theme").json).expect("json");
    global["source"] = "live/_global".into();
    let mut snapshot = good.clone();
    snapshot["events"].as_array_mut().expect("a list").push(global);
    let mut more = Vec::new();
    let (room, _) = Room::from_json(snapshot.to_string().as_bytes(), &mut more).expect("a snapshot");
    assert_eq!((seqs(&more), room.seq(), room.active(at(7)).len()), (vec![5], 1, 1));
}

/// The page's fold reads the same vectors.
#[test]
fn the_page_and_this_agree_on_what_is_so() {
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/data/room_vectors.json")).expect("json");
    let clock = |name: &str| vectors["now"][name].as_i64().expect("a number");
    let now = Moment { pts_us: clock("pts_us"), wall_ms: clock("wall_ms") };
    for case in vectors["cases"].as_array().expect("a list") {
        // Whether time passes in between or not.
        for always in [true, false] {
            let mut room = Room::default();
            for arrival in case["arrivals"].as_array().expect("a list") {
                let json = arrival.to_string();
                if arrival.get("events").is_some() {
                    room.replace(&Room::from_json(json.as_bytes(), &mut Vec::new()).expect("a snapshot").0);
                } else {
                    room.apply(&Arc::new(Event::from_json(json.as_bytes()).expect("an event")));
                }
                if always {
                    room.advance(now);
                }
            }
            let active = room.active(now);
            let ids: Map<_, _> =
                active.iter().map(|(key, event)| ((*key).to_owned(), event.head.id.clone().into())).collect();
            let is_set = |event: &Arc<Event>| active.values().any(|set| set.head.seq == event.head.seq);
            let replay = room.replay(now);
            let more: Vec<_> =
                replay.iter().filter(|event| !is_set(event)).map(|event| event.head.id.clone()).collect();
            assert_eq!((Value::from(ids), Value::from(more)), (case["active"].clone(), case["more"].clone()), "{case}");
        }
    }
}

/// What an author does next, in the terms of what is there.
#[derive(Debug, Clone)]
enum Act {
    Set { key: usize, in_ms: i64, by_wall: bool, expires_in_ms: Option<i64>, supersedes: Option<Index> },
    Delete { key: usize, in_ms: i64 },
    Fire { in_ms: i64, by_wall: bool, duration_ms: i64, supersedes: Option<Index> },
    Poll { open: bool },
    Tally,
    Cancel(Index),
}

fn act() -> impl Strategy<Value = Act> {
    let in_ms = || prop_oneof![3 => Just(0), 2 => 0..60i64, 1 => 60..400i64];
    let supersedes = || proptest::option::weighted(0.2, any::<Index>());
    let expires = proptest::option::weighted(0.3, 1..80i64);
    prop_oneof![
        6 => (0..5usize, in_ms(), any::<bool>(), expires, supersedes()).prop_map(
            |(key, in_ms, by_wall, expires_in_ms, supersedes)| Act::Set { key, in_ms, by_wall, expires_in_ms, supersedes }
        ),
        2 => (0..5usize, in_ms()).prop_map(|(key, in_ms)| Act::Delete { key, in_ms }),
        3 => (in_ms(), any::<bool>(), 0..90i64, supersedes()).prop_map(
            |(in_ms, by_wall, duration_ms, supersedes)| Act::Fire { in_ms, by_wall, duration_ms, supersedes }
        ),
        1 => any::<bool>().prop_map(|open| Act::Poll { open }),
        1 => Just(Act::Tally),
        3 => any::<Index>().prop_map(Act::Cancel),
    ]
}

/// The events of one room as its origin makes them, and what is so at the end.
#[derive(Debug)]
struct History {
    events: Vec<Arc<Event>>,
    end: Moment,
    truth: Room,
}

/// An origin, as far as the order and the fields of events go: time passes between acts, and it says of what it
/// drops whether that had fired.
fn history(acts: Vec<(Act, i64)>, rest_ms: i64) -> History {
    let (mut events, mut truth, mut now_ms): (Vec<Arc<Event>>, _, i64) = (Vec::new(), Room::default(), 1000);
    let mut stopped = BTreeSet::new();
    for (number, (act, pause_ms)) in acts.into_iter().enumerate() {
        now_ms += pause_ms;
        let seq = 10 * number as u64 + 10;
        let time = |in_ms: i64, by_wall: bool| match (in_ms, by_wall) {
            (0, _) => json!({"mode": "asap", "wall_ms": now_ms}),
            (_, true) => json!({"mode": "wall", "wall_ms": now_ms + in_ms}),
            // The estimate is off: the two clocks are never alike.
            (_, false) => json!({"mode": "pts", "pts_us": (now_ms + in_ms) * 1000, "wall_ms": now_ms + in_ms - 7}),
        };
        // An origin says that only of events that have not fired; once it was so, it stays so.
        let mut stop = |index: Option<Index>| {
            let event = index.filter(|_| !events.is_empty()).map(|index| index.get(&events))?;
            let coming = !stopped.contains(&event.head.id) && !has_begun(event, at(now_ms));
            if coming {
                stopped.insert(event.head.id.clone());
            }
            Some((event.head.id.clone(), stopped.contains(&event.head.id)))
        };
        let fields = match act {
            Act::Set { key, in_ms, by_wall, expires_in_ms, supersedes } => {
                let mut time = time(in_ms, by_wall);
                if let Some(expires_in_ms) = expires_in_ms {
                    time["expires_ms"] = (now_ms + in_ms + expires_in_ms).into();
                }
                let ids: Vec<_> =
                    stop(supersedes).into_iter().filter(|(_, coming)| *coming).map(|(id, _)| id).collect();
                json!({"key": format!("k:{key}"), "time": time, "supersedes": ids})
            }
            Act::Delete { key, in_ms } => json!({"op": "delete", "key": format!("k:{key}"), "time": time(in_ms, true)}),
            Act::Fire { in_ms, by_wall, duration_ms, supersedes } => {
                let mut time = time(in_ms, by_wall);
                time["duration_ms"] = duration_ms.into();
                let ids: Vec<_> =
                    stop(supersedes).into_iter().filter(|(_, coming)| *coming).map(|(id, _)| id).collect();
                json!({"op": "fire", "time": time, "supersedes": ids})
            }
            Act::Poll { open: true } => json!({"type": "poll.open", "key": "poll:P", "time": time(0, true)}),
            Act::Poll { open: false } => {
                json!({"type": "poll.close", "op": "delete", "key": "poll:P", "time": time(0, true)})
            }
            Act::Tally => json!({"type": "poll.tally", "key": "poll:P:tally", "time": time(0, true)}),
            Act::Cancel(index) => {
                let Some((id, coming)) = stop(Some(index)) else { continue };
                let ids: Vec<_> = coming.then(|| id.clone()).into_iter().collect();
                json!({"type": "cancel", "op": "fire", "time": time(0, true), "data": {"ref": id}, "supersedes": ids})
            }
        };
        events.push(event(seq, fields));
        truth.apply(events.last().expect("just made"));
        truth.advance(at(now_ms));
    }
    let end = at(now_ms + rest_ms);
    truth.advance(end);
    History { events, end, truth }
}

fn histories() -> impl Strategy<Value = History> {
    let rest_ms = prop_oneof![Just(0), 0..80i64, 80..600i64];
    (prop::collection::vec((act(), 0..40i64), 0..40), rest_ms).prop_map(|(acts, rest_ms)| history(acts, rest_ms))
}

/// The contract read out loud over the whole history at once, with nothing forgotten on the way.
fn by_the_contract(history: &History) -> (Vec<(String, u64)>, Vec<u64>) {
    let (now, events) = (history.end, &history.events);
    let superseded: BTreeSet<_> = events.iter().flat_map(|event| event.head.supersedes.clone()).collect();
    let cancelled: BTreeSet<_> = events.iter().filter_map(|event| event.cancels()).collect();
    let is = |set: &BTreeSet<String>, event: &Event| set.contains(&event.head.id);
    let counts = |event: &&Arc<Event>| !is(&superseded, event) && !event.expires_before_it_fires();
    let (keyed, fires): (Vec<_>, Vec<_>) = events.iter().filter(counts).partition(|event| event.head.op != Op::Fire);
    let (begun, coming): (Vec<_>, Vec<_>) = keyed.into_iter().partition(|event| has_begun(event, now));
    // Later ones come later in the list.
    let newest: BTreeMap<_, _> = begun.iter().map(|event| (event.head.key.clone().expect("a key"), *event)).collect();
    let holds = |event: &Event| event.head.op == Op::Set && !event.has_expired(now) && !is(&cancelled, event);
    let mut active: BTreeMap<_, _> =
        newest.iter().filter(|(_, event)| holds(event)).map(|(key, event)| (key.clone(), event.head.seq)).collect();
    if active.get("poll:P").is_none_or(|poll| active.get("poll:P:tally").is_some_and(|tally| tally < poll)) {
        active.remove("poll:P:tally");
    }
    let overtaken = |event: &Event| {
        let newest = event.head.key.as_ref().and_then(|key| newest.get(key));
        newest.is_some_and(|newest| newest.head.seq > event.head.seq)
    };
    let mut replay: Vec<_> = active.values().copied().collect();
    replay.extend(coming.iter().filter(|e| !is(&cancelled, e) && !overtaken(e)).map(|e| e.head.seq));
    let goes_on = |e: &Event| !e.has_expired(now) && (!e.has_fired(now) || e.is_running(now));
    let fires = fires.iter().filter(|e| e.head.kind != "cancel" && !is(&cancelled, e) && goes_on(e));
    replay.extend(fires.map(|e| e.head.seq));
    replay.sort_unstable();
    (active.into_iter().collect(), replay)
}

/// Events in the order of `order`, each once or twice, and where in time they arrive.
fn arrivals(history: &History, order: &[(u64, bool, u16)]) -> Vec<(Arc<Event>, i64)> {
    let mut arrivals: Vec<_> = Vec::new();
    for (event, (place, twice, when)) in history.events.iter().zip(order) {
        arrivals.push((*place, event.clone(), *when));
        if *twice {
            arrivals.push((place.rotate_left(32), event.clone(), *when));
        }
    }
    arrivals.sort_by_key(|(place, ..)| *place);
    let mut times: Vec<_> = arrivals.iter().map(|(.., when)| 1000 + i64::from(*when)).collect();
    times.sort_unstable();
    arrivals.into_iter().map(|(_, event, _)| event).zip(times).collect()
}

/// The time up to which a node may have come that has not heard yet what was stopped: a copy of it that fires
/// there overwrites what a snapshot alone brings back. The line has the stop before that moment.
fn unheard_ms(history: &History, heard: &BTreeSet<u64>) -> i64 {
    let stops = history.events.iter().filter(|event| !heard.contains(&event.head.seq));
    let stopped: BTreeSet<_> = stops.flat_map(|event| event.head.supersedes.iter().cloned()).collect();
    let fires_ms = |event: &Arc<Event>| {
        let time = &event.head.time;
        time.pts_us.map(|pts_us| pts_us / 1000).or(time.wall_ms).unwrap_or(0).min(time.expires_ms.unwrap_or(i64::MAX))
    };
    let fires = history.events.iter().filter(|event| stopped.contains(&event.head.id)).map(fires_ms);
    fires.min().map_or(i64::MAX, |first| first - 1)
}

fn orders() -> impl Strategy<Value = Vec<(u64, bool, u16)>> {
    prop::collection::vec((any::<u64>(), any::<bool>(), 0..1600u16), 40)
}

fn take(room: &mut Room, arrivals: &[(Arc<Event>, i64)], history: &History) {
    let mut heard = BTreeSet::new();
    for (event, when_ms) in arrivals {
        room.apply(event);
        heard.insert(event.head.seq);
        room.advance(at((*when_ms).min(history.end.wall_ms).min(unheard_ms(history, &heard))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_origins_room_is_what_the_contract_says(history in histories()) {
        prop_assert_eq!(seen(&history.truth, history.end), by_the_contract(&history));
    }

    /// Every order, with copies, and with time that passes in between.
    #[test]
    fn any_order_of_all_events_gives_the_origins_room(history in histories(), order in orders()) {
        let mut room = Room::default();
        take(&mut room, &arrivals(&history, &order), &history);
        prop_assert_eq!(seen(&room, history.end), seen(&history.truth, history.end));
        room.advance(history.end);
        prop_assert_eq!(seen(&room, history.end), seen(&history.truth, history.end));
    }

    /// Some events are lost, and all come late: the snapshot of the end is enough, whatever else arrives after it.
    #[test]
    fn a_snapshot_repairs_any_loss(
        history in histories(),
        order in orders(),
        lost in prop::collection::vec(any::<bool>(), 80),
        place in any::<Index>(),
        later_ms in 0..500i64,
    ) {
        let mut got = arrivals(&history, &order);
        let mut lost = lost.into_iter();
        got.retain(|_| !lost.next().unwrap_or(false));
        let (before, after) = got.split_at(place.index(got.len() + 1));
        let mut room = Room::default();
        for (event, when_ms) in before {
            room.apply(event);
            room.advance(at((*when_ms).min(history.end.wall_ms)));
        }
        room.replace(&through_json(&history.truth, history.end));
        prop_assert_eq!(seen(&room, history.end), seen(&history.truth, history.end));
        for (event, _) in after {
            room.apply(event);
            room.advance(history.end);
        }
        // It goes on like the origin's, too.
        let mut truth = history.truth.clone();
        for now in [history.end, at(history.end.wall_ms + later_ms)] {
            prop_assert_eq!(seen(&room, now), seen(&truth, now));
            room.advance(now);
            truth.advance(now);
        }
    }

    /// A joiner: the snapshot of some moment, then copies of what it covers, then all that came since.
    #[test]
    fn a_joiner_comes_to_the_origins_room(history in histories(), order in orders(), place in any::<Index>()) {
        let joined = place.index(history.events.len() + 1);
        let (old, new) = history.events.split_at(joined);
        let mut truth = room(old);
        let made_ms = |event: &Arc<Event>| event.head.time.wall_ms.unwrap_or(0);
        let asap = old.iter().filter(|event| event.head.time.mode == crate::media::event::Mode::Asap);
        let now = at(asap.map(made_ms).max().unwrap_or(1000).min(unheard_ms(&history, &old.iter().map(|event| event.head.seq).collect())));
        truth.advance(now);
        let mut room = Room::default();
        room.replace(&through_json(&truth, now));
        let covered = History { events: old.to_vec(), end: now, truth };
        for (event, _) in arrivals(&covered, &order) {
            room.apply(&event);
            room.advance(now);
        }
        prop_assert_eq!(seen(&room, now), seen(&covered.truth, now));
        for event in new {
            room.apply(event);
        }
        prop_assert_eq!(seen(&room, history.end), seen(&history.truth, history.end));
    }

    /// However small the parts, together they are the room.
    #[test]
    fn parts_of_any_size_make_up_the_whole(history in histories(), bytes_max in 1..4000usize) {
        let mut whole = Room::default();
        for part in history.truth.parts(&source(), history.end, &[], bytes_max) {
            let (part, now) = Room::from_json(part.as_bytes(), &mut Vec::new()).expect("a part");
            prop_assert_eq!(now, history.end);
            part.beyond(&whole).iter().for_each(|event| whole.apply(event));
            prop_assert_eq!((&part.deleted, &part.dropped), (&history.truth.deleted, &history.truth.dropped));
        }
        prop_assert_eq!(seen(&whole, history.end), seen(&history.truth, history.end));
    }
}
