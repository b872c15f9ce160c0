//! What an acknowledgement is worth: the origin is killed at any moment, and its disk fills up.
//!
//! `FAULT_SEED=N` replays the choices of a run (not its timing); `HAWKER_LONG=1` makes it ten times as long.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "how tests fail")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::{Condvar, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use common::{Api, Cluster, FlvViewer, Process, wait_until};
use hawker::{clock, media::Event};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

/// The first is published and watched.
const ROOMS: [&str; 4] = ["live/room", "live/other", "live/third", "shop/room"];
const CLIENTS: u64 = 6;
const ROUNDS: usize = 10;

#[test]
fn kill_9_loses_no_acknowledged_event_and_gives_no_seq_twice() {
    let seed: u32 = env::var("FAULT_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    eprintln!("FAULT_SEED={seed}");
    let lives = if env::var_os("HAWKER_LONG").is_some() { 20 } else { 2 };
    for life in 0..lives {
        Life::begin(u64::from(seed) + life).run();
    }
}

#[test]
fn a_full_journal_refuses_events_but_not_cancels_and_no_viewer_notices() {
    let cluster = Cluster::new();
    // The smallest there is.
    cluster.configure_origin("[events]\njournal_bytes_max = 16777216\nrate_per_s = 1000\nburst = 10000");
    let mut origin = cluster.serve("origin");
    let _anchor = cluster.push(ROOMS[0]);
    let _edge = cluster.serve_edge("edge");
    let viewer = FlvViewer::watch(&cluster.flv_url("edge", ROOMS[0]));
    viewer.wait_frames(1);
    let api = cluster.api();
    let pending = api.accept("streams/live/room", &json!({"type": "gift.send", "at": {"in_ms": 600_000}}));

    let page = "x".repeat(500);
    let large = json!({"type": "card.show", "data": {"pages": [page, page, page, page, page, page, page]}});
    let batch: Value = (0..15).map(|_| large.clone()).collect();
    let is_full = |_| {
        let (status, reply) = api.post(&events(1), &batch).expect("an answer");
        assert_eq!(status, 200, "{reply}");
        reply.contains("\"status\":507")
    };
    assert!((0..400).any(is_full), "16 MiB took more than 400 batches");
    let logged = api.log("streams/live/other").len();
    let mut refused = large.clone();
    refused["id"] = ulid::Ulid::new().to_string().into();
    for room in [0, 1, 3] {
        assert_eq!(api.post(&events(room), &refused).expect("an answer").0, 507);
    }
    let (status, reply) = api.delete(&format!("{}/{}", events(0), id_of_form(&pending))).expect("an answer");
    assert_eq!(status, 200, "{reply}");
    assert_eq!(api.log("streams/live/other").len(), logged);
    assert_eq!(api.log("streams/live/room"), [pending, reply]);
    viewer.wait_frames(25);

    origin.kill();
    cluster.configure_origin("");
    let _origin = cluster.serve("origin");
    let api = cluster.api();
    let accepted = api.accept("streams/live/other", &refused);
    assert_eq!(api.log("streams/live/other").last(), Some(&accepted));
}

#[test]
fn what_comes_due_while_the_origin_is_down_is_so_at_once_after_it() {
    let cluster = Cluster::new();
    let mut origin = cluster.serve("origin");
    let _anchor = cluster.push(ROOMS[0]);
    let edge = cluster.serve_edge("edge");
    let viewer = FlvViewer::watch(&cluster.flv_url("edge", ROOMS[0]));
    viewer.wait_frames(1);
    let api = cluster.api();
    let now_ms = clock::unix_ms();
    let sale = json!({"type": "sale.start", "data": {"id": "F1", "closes_ms": now_ms + 1500}});
    let sale = api.accept("streams/live/room", &sale);
    viewer.wait("the sale", |seen| seen.events.iter().any(|event| event.json == sale).then_some(()));
    let at = json!({"in_ms": 1500});
    let room = |draft: Value| api.accept("streams/live/room", &draft);
    let card = room(json!({"type": "card.show", "data": {"sku": "SKU-1"}, "at": at}));
    let gift = room(json!({"type": "gift.send", "data": {"n": 1}, "at": at}));
    let past = json!({"type": "gift.send", "data": {"n": 2}, "at": at, "time": {"expires_ms": now_ms + 1600}});
    let past = room(past);
    let keys = || {
        let state: Value = serde_json::from_str(&cluster.api().get("streams/live/room/state").1).unwrap();
        // The sale's end is announced before it comes.
        let set = state["events"].as_array().into_iter().flatten().filter(|event| event["op"] == "set");
        let keys = set.filter_map(|event| event["key"].as_str()).filter(|key| *key != "clock");
        keys.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(keys(), ["sale:F1"]);
    origin.kill();
    // It takes longer than the sale.
    edge.stderr.wait_line("upstream session ended");

    let _origin = cluster.serve("origin");
    assert!(clock::unix_ms() > now_ms + 1600);
    // At once: before any frame, and the sale is not seen again.
    let shown = (0..1000).map(|_| keys()).find(|keys| !keys.is_empty());
    assert_eq!(shown.expect("keys"), ["card:main"]);
    let _anchor = cluster.push(ROOMS[0]);
    viewer.wait("card and gift", |seen| {
        let has = |json: &str| seen.events.iter().any(|event| event.json == json);
        (has(&card) && has(&gift)).then_some(())
    });
    viewer.wait_frames(25);
    assert_eq!(viewer.count(id_of_form(&gift)), (1, 0));
    assert_eq!(viewer.count(id_of_form(&past)), (0, 0), "it had expired");
}

/// What clients were told, and what was seen elsewhere.
#[derive(Default)]
struct Ledger {
    /// The one form of each event, by id.
    forms: BTreeMap<String, String>,
    /// The one id of each seq.
    seqs: BTreeMap<(String, u64), String>,
    /// Ids that a 2xx answered, in that order.
    acknowledged: Vec<String>,
    /// Ids that an error answered.
    refused: BTreeSet<String>,
    /// Drafts that nothing answered, with their rooms.
    unanswered: Vec<(usize, Value)>,
    /// Ids that somebody wanted to cancel, well before their time.
    cancelling: BTreeSet<String>,
    /// Those whose cancel was acknowledged.
    cancelled: BTreeSet<String>,
}

impl Ledger {
    /// Notes an event, wherever it was seen; gives its id.
    fn note(&mut self, json: &str) -> String {
        let head = Event::from_json(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}")).head;
        let form = self.forms.entry(head.id.clone()).or_insert_with(|| json.to_owned());
        assert_eq!(form, json, "an id is one event");
        let id = self.seqs.entry((head.source, head.seq)).or_insert_with(|| head.id.clone());
        assert_eq!(*id, head.id, "a seq is given once: {json}");
        head.id
    }

    fn acknowledge(&mut self, json: &str) -> String {
        let id = self.note(json);
        self.acknowledged.push(id.clone());
        id
    }
}

struct Shared {
    ledger: Mutex<Ledger>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no client failed")
    }

    fn change<T>(&self, how: impl FnOnce(&mut Ledger) -> T) -> T {
        let changed = how(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    fn wait_acknowledged(&self, count: usize) {
        let few = |ledger: &mut Ledger| ledger.acknowledged.len() < count;
        let (ledger, _) = self.changed.wait_timeout_while(self.lock(), Duration::from_secs(20), few).unwrap();
        assert!(ledger.acknowledged.len() >= count, "only {} of {count} events accepted", ledger.acknowledged.len());
    }
}

/// One journal's life: an origin that is killed again and again, and an edge that isn't.
struct Life {
    cluster: Cluster,
    shared: Shared,
    rng: StdRng,
    _edge: Process,
    viewer: FlvViewer,
    origin: Process,
    _anchor: Process,
}

impl Life {
    fn begin(seed: u64) -> Self {
        let cluster = Cluster::new();
        cluster.configure_origin("[events]\nrate_per_s = 1000\nburst = 10000");
        let origin = cluster.serve("origin");
        let anchor = cluster.push(ROOMS[0]);
        let edge = cluster.serve_edge("edge");
        let viewer = FlvViewer::watch(&cluster.flv_url("edge", ROOMS[0]));
        viewer.wait_frames(1);
        let shared = Shared { ledger: Mutex::default(), changed: Condvar::new() };
        Self { cluster, shared, rng: StdRng::seed_from_u64(seed), _edge: edge, viewer, origin, _anchor: anchor }
    }

    fn run(mut self) {
        for round in 0..ROUNDS {
            self.load_and_kill();
            self.origin = self.cluster.serve("origin");
            assert_eq!(self.cluster.status("origin", "/readyz"), 200);
            self._anchor = self.cluster.push(ROOMS[0]);
            self.check_log();
            self.retry();
            // Every other time the next kill comes before the edge is back.
            if round % 2 == 1 {
                self.check_viewer();
            }
        }
        self.check_state();
    }

    /// Clients send what they can until the origin is gone in their midst.
    fn load_and_kill(&mut self) {
        let enough = self.shared.lock().acknowledged.len() + self.rng.random_range(20..250);
        let seeds: Vec<u64> = (0..CLIENTS).map(|_| self.rng.random()).collect();
        thread::scope(|scope| {
            for seed in seeds {
                let client = Client { api: self.cluster.api(), shared: &self.shared, rng: StdRng::seed_from_u64(seed) };
                scope.spawn(move || client.run());
            }
            self.shared.wait_acknowledged(enough);
            self.origin.kill();
        });
    }

    /// All that was acknowledged is in the log, and nothing that was refused.
    fn check_log(&self) {
        let api = self.cluster.api();
        let mut logged = BTreeSet::new();
        let mut ledger = self.shared.lock();
        for room in ROOMS {
            let log = api.log(&format!("streams/{room}"));
            logged.extend(log.iter().map(|json| ledger.note(json)));
        }
        let lost: Vec<_> = ledger.acknowledged.iter().filter(|id| !logged.contains(*id)).collect();
        assert!(lost.is_empty(), "acknowledged, and not in the log: {lost:?}");
        let odd: Vec<_> = ledger.refused.intersection(&logged).collect();
        assert!(odd.is_empty(), "refused, and in the log: {odd:?}");
    }

    /// Who got no answer asks again; who got one gets the same.
    fn retry(&mut self) {
        let api = self.cluster.api();
        let mut ledger = self.shared.lock();
        for (room, draft) in std::mem::take(&mut ledger.unanswered) {
            let (status, reply) = api.post(&events(room), &draft).expect("an answer");
            match status {
                200 | 201 => drop(ledger.acknowledge(&reply)),
                409 => drop(ledger.refused.insert(id_of(&draft))),
                _ => panic!("{status}: {reply}"),
            }
        }
        for _ in 0..20 {
            let id = ledger.acknowledged.choose(&mut self.rng).expect("not empty").clone();
            let form: Value = serde_json::from_str(&ledger.forms[&id]).unwrap();
            let draft = json!({"id": id, "type": "gift.send", "data": {"n": 1}});
            let reply = api.post(&format!("streams/{}/events", form["source"].as_str().unwrap()), &draft);
            assert_eq!(reply.expect("an answer"), (200, ledger.forms[&id].clone()));
        }
    }

    /// The viewer at the edge gets each one-shot of his room once, and nothing that nobody sent.
    fn check_viewer(&self) {
        let mut ledger = self.shared.lock();
        let one_shot = |id: &&String| {
            let form = &ledger.forms[*id];
            form.contains("\"gift.send\"") && form.contains("\"source\":\"live/room\"")
        };
        let acknowledged = ledger.acknowledged.iter().filter(one_shot);
        let due: BTreeSet<String> = acknowledged.filter(|id| !ledger.cancelling.contains(*id)).cloned().collect();
        let mut missing = due.clone();
        let all_came = self.viewer.try_wait(|seen| {
            for event in &seen.events {
                missing.remove(id_of_form(&event.json));
            }
            missing.is_empty().then_some(())
        });
        if all_came.is_none() {
            let forms: Vec<_> = missing.iter().map(|id| &ledger.forms[id]).collect();
            panic!("{} of {} never came: {forms:#?}", missing.len(), due.len());
        }
        let events = self.viewer.look(|seen| seen.events.clone());
        let mut fired = BTreeSet::new();
        for event in events {
            let id = ledger.note(&event.json);
            assert!(!ledger.cancelled.contains(&id), "cancelled, and fired: {}", event.json);
            assert!(event.replay || fired.insert(id), "fired twice: {}", event.json);
        }
    }

    /// A viewer may be told of what is still to come: then it is so at the origin when its time has come.
    fn check_state(&self) {
        let same = "what the viewer was told last of each key is what is so at the origin";
        wait_until(same, Duration::from_secs(10), || self.differing().is_empty());
    }

    /// What is so at the origin, and is not what the viewer was told last of the same key.
    fn differing(&self) -> Vec<Value> {
        let (status, state) = self.cluster.api().get(&format!("streams/{}/state", ROOMS[0]));
        assert_eq!(status, 200, "{state}");
        let state: Value = serde_json::from_str(&state).unwrap();
        let keys = self.cluster.event_keys();
        let newest = self.viewer.look(|seen| {
            let mut newest: BTreeMap<String, u64> = BTreeMap::new();
            for event in &seen.events {
                let event = Event::from_json(event.json.as_bytes()).unwrap();
                keys.verify(&event).unwrap();
                let seq = newest.entry(event.head.key.unwrap_or_default()).or_default();
                *seq = event.head.seq.max(*seq);
            }
            newest
        });
        let events = state["events"].as_array().unwrap().iter();
        let differs = |event: &&Value| {
            let key = event["key"].as_str().unwrap_or_default();
            key != "clock" && !key.is_empty() && newest.get(key).copied() != event["seq"].as_u64()
        };
        events.filter(differs).cloned().collect()
    }
}

/// Sends events one after the other, until nobody answers.
struct Client<'a> {
    api: Api,
    shared: &'a Shared,
    rng: StdRng,
}

impl Client<'_> {
    fn run(mut self) {
        while self.send().is_some() {}
    }

    fn send(&mut self) -> Option<()> {
        // The viewer's edge is away for seconds, and is owed no more than 64 events then.
        let room = if self.rng.random_ratio(1, 10) { 0 } else { self.rng.random_range(1..ROOMS.len()) };
        let mut draft = match self.rng.random_range(0..10) {
            0..6 => json!({"type": "gift.send", "data": {"n": self.rng.random_range(0..100)}}),
            _ => {
                let slot = ["main", "left", "right"].choose(&mut self.rng)?;
                json!({"type": "card.show", "key": format!("card:{slot}"), "data": {"sku": "SKU-1"}})
            }
        };
        let at = match self.rng.random_range(0..4) {
            0 => json!({"now": true}),
            1 => json!({"wall_ms": clock::unix_ms() + self.rng.random_range(0..2000)}),
            _ => json!({"in_ms": self.rng.random_range(0..2000)}),
        };
        draft["at"] = at;
        if self.rng.random_ratio(3, 4) {
            draft["id"] = ulid::Ulid::new().to_string().into();
        }
        if draft["type"] == "gift.send" && self.rng.random_ratio(1, 8) {
            draft["at"] = json!({"in_ms": 5000});
            return self.send_and_cancel(room, &draft);
        }
        self.post(room, &draft).map(drop)
    }

    /// The id, if it was accepted; `None` if nobody answered.
    fn post(&self, room: usize, draft: &Value) -> Option<Option<String>> {
        let Some((status, reply)) = self.api.post(&events(room), draft) else {
            if draft.get("id").is_some() {
                self.shared.change(|ledger| ledger.unanswered.push((room, draft.clone())));
            }
            return None;
        };
        Some(self.shared.change(|ledger| match status {
            201 => Some(ledger.acknowledge(&reply)),
            // Nobody publishes the room.
            409 => {
                ledger.refused.extend(draft.get("id").map(|_| id_of(draft)));
                None
            }
            _ => panic!("{status}: {reply}"),
        }))
    }

    fn send_and_cancel(&self, room: usize, draft: &Value) -> Option<()> {
        let Some(id) = self.post(room, draft)? else { return Some(()) };
        self.shared.change(|ledger| ledger.cancelling.insert(id.clone()));
        let (status, reply) = self.api.delete(&format!("{}/{id}", events(room)))?;
        assert_eq!(status, 200, "{reply}");
        self.shared.change(|ledger| {
            ledger.acknowledge(&reply);
            ledger.cancelled.insert(id);
        });
        Some(())
    }
}

fn events(room: usize) -> String {
    format!("streams/{}/events", ROOMS[room])
}

fn id_of(draft: &Value) -> String {
    draft["id"].as_str().expect("an id").to_owned()
}

/// Without parsing it.
fn id_of_form(json: &str) -> &str {
    let (_, rest) = json.split_once("\"id\":\"").expect("an id");
    rest.split_once('"').expect("an end").0
}
