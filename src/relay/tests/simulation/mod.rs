//! An origin, two edges and their viewers in virtual time, on a network in memory that a seed makes trouble on.
//!
//! Real are the hubs, the relays and QUIC; simulated are datagrams, clocks and power. `FAULT_SEED=7` repeats the
//! faults of seed 7, `HAWKER_LONG=1` tries a thousand seeds. What QUIC and TLS draw at random stays random.

mod faults;
mod network;
mod viewer;

use std::{env, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::{
    faults::{Act, plan},
    network::{Network, PORT, Place},
    viewer::{Guest, Mark, Seat},
};
use super::Doors;
use crate::{
    clock::{self, Instant, simulated},
    hub::{At, Hub, Origin, Patience, Publisher, Settings},
    media::{AudioConfig, Codec, Frame, Keys, Signer, StreamName, TrackKind, Tracks, VideoConfig},
    net::{
        tls::{Identity, Trust},
        udp,
    },
    observe::metrics::Metrics,
    relay::{EdgeProof, Relay, Upstream, listen, server_config, steer},
    task,
};

/// The nodes, each the upstream of those behind it: `FAR` prefers `NEAR` and else goes to the origin.
const ORIGIN: Place = 1;
const NEAR: Place = 2;
const FAR: Place = 3;
/// Where a viewer with a player of his own sits; his link to `FAR` is sound.
const HOME: Place = 4;

const ROOM: &str = "open/room";

/// A frame's length.
const TICK: Duration = Duration::from_millis(40);
/// Frames of a group.
const GROUP_TICKS: u32 = 25;
/// Trouble, then calm; this often.
const ROUNDS: u32 = 3;
const TROUBLE: Duration = Duration::from_secs(8);
const CALM: Duration = Duration::from_secs(6);
/// After so long every event that was accepted has reached everybody.
const SETTLE: Duration = Duration::from_secs(4);
/// After trouble, each viewer has new frames again within this time: an edge notices that its upstream is gone after
/// 2 s, tries others for up to 1.5 s each, pauses for up to 2 s, and one behind it may do the same after it.
const RECOVERY_MAX: Duration = Duration::from_secs(8);

#[test]
fn whatever_happens_between_nodes_viewers_keep_their_sessions_and_miss_nothing_they_were_promised() {
    let seeds = match (env::var("FAULT_SEED").ok().and_then(|seed| seed.parse().ok()), env::var("HAWKER_LONG")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Ok(_)) => 0..1000,
        (None, Err(_)) => 0..20,
    };
    for seed in seeds {
        let _told = Told(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async { World::new(seed).run().await });
    }
    assert_eq!(task::panics(), 0, "tasks panicked");
}

/// Says which seed it was, should the test fail.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat: FAULT_SEED={}", self.0);
        }
    }
}

/// What is running of a node.
struct Node {
    relay: Arc<Relay>,
    stop: CancellationToken,
}

struct World {
    rng: StdRng,
    network: Arc<Network>,
    /// What survives the origin's restarts, as its disk does.
    origin: Arc<Origin>,
    identity: Identity,
    /// By place; `None` while it is down.
    nodes: [Option<Node>; 3],
    anchor: Option<Anchor>,
    /// Sessions of publishers so far.
    sessions: u32,
    seats: Vec<Seat>,
    guest: Arc<Mutex<Guest>>,
    /// What was acknowledged, in that order, and when.
    accepted: Vec<(Instant, String)>,
    /// How often `FAR` was killed.
    restarts: usize,
    /// No more events for now.
    quiet: bool,
    next_tick: Instant,
}

impl World {
    fn new(seed: u64) -> Self {
        simulated::set(clock::unix_ms().unsigned_abs() / 1000);
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            network: Network::new(seed),
            origin: Origin::in_memory(),
            identity: Identity::development().expect("an identity"),
            nodes: [const { None }; 3],
            anchor: None,
            sessions: 0,
            seats: Vec::new(),
            guest: Arc::default(),
            accepted: Vec::new(),
            restarts: 0,
            quiet: false,
            next_tick: clock::now(),
        };
        for place in [ORIGIN, NEAR, FAR] {
            world.start(place);
        }
        world.publish();
        let visit = viewer::visit(world.guest.clone(), world.network.runtime(HOME), url(FAR, "/"), world.trust());
        task::spawn("guest", visit);
        world
    }

    async fn run(mut self) {
        self.pass(CALM).await;
        for round in 0..ROUNDS {
            let plan = plan(&mut self.rng, TROUBLE);
            // An origin that crashes forgets the one-shots that had left its line, which an edge may have missed just then;
            // one that comes back may repeat the newest in another order.
            let lossy = plan.iter().any(|(_, act)| matches!(act, Act::Kill(ORIGIN)));
            let (began, mut acts) = (clock::now(), plan.iter().copied().peekable());
            while began.elapsed() < TROUBLE {
                while let Some((_, act)) = acts.next_if(|(at, _)| *at <= began.elapsed()) {
                    self.act(act);
                }
                self.tick().await;
            }
            acts.for_each(|(_, act)| self.act(act));
            self.recover(round, &plan).await;
            self.pass(CALM).await;
            self.quiet = true;
            self.pass(SETTLE).await;
            self.quiet = false;
            self.check(round, lossy, &plan);
        }
    }

    /// Until every viewer has pictures of after the trouble.
    async fn recover(&mut self, round: u32, plan: &[(Duration, Act)]) {
        let over = clock::now();
        let newest = self.anchor.as_ref().map(|anchor| anchor.mark());
        let is_new = |mark: Option<Mark>| mark.zip(newest).is_some_and(|(mark, newest)| mark >= newest);
        loop {
            self.tick().await;
            let guest = self.guest.lock().newest;
            if is_new(guest) && self.seats.iter().all(|seat| is_new(seat.newest)) {
                return;
            }
            let seen: Vec<_> = self.seats.iter().map(|seat| (seat.place, seat.newest)).collect();
            let waited = over.elapsed();
            assert!(
                waited < RECOVERY_MAX,
                "round {round}: not all have {newest:?}: {seen:?}, {guest:?} after {plan:?}"
            );
        }
    }

    fn check(&mut self, round: u32, lossy: bool, plan: &[(Duration, Act)]) {
        let state = self.state(ORIGIN);
        for seat in &self.seats {
            let place = seat.place;
            assert_eq!(self.state(place), state, "round {round}: the room at {place} after {plan:?}");
            let joined = seat.joined.expect("he has frames");
            // What is accepted now goes with a frame that comes later.
            let promised = self.accepted.iter().filter(|(at, _)| *at > joined);
            let missing: Vec<_> = promised.filter(|(_, id)| !seat.has(id)).map(|(at, id)| (at.elapsed(), id)).collect();
            assert!(
                lossy || missing.is_empty(),
                "round {round}: events that {place} lacks: {missing:?} after {plan:?}"
            );
            for other in self.seats.iter().filter(|_| !lossy) {
                let with = other.place;
                assert_eq!(seat.shared(other), other.shared(seat), "round {round}: {place}, {with}: {plan:?}");
            }
        }
        let guest = self.guest.lock();
        assert_eq!(guest.wrong, None, "round {round}");
        let ended = &guest.ended;
        assert!(ended.len() <= self.restarts, "round {round}: a MoQ viewer was disconnected: {ended:?} {plan:?}");
        drop(guest);
        // What was checked need not be checked again.
        self.accepted.clear();
        self.seats.iter_mut().for_each(|seat| seat.events.clear());
    }

    /// The keyed state of the room as a node knows it: the event that set each key.
    fn state(&self, place: Place) -> Vec<(String, String)> {
        let node = self.node(place).expect("all run again");
        let json = node.relay.hub.room_state(&room()).expect("a room").unwrap_or_else(|| Bytes::from_static(b"{}"));
        let snapshot: Value = serde_json::from_slice(&json).expect("JSON");
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let events = snapshot["events"].as_array().cloned().unwrap_or_default();
        let keyed = events.iter().filter(|event| event["key"].is_string() && event["key"] != "clock");
        let mut state: Vec<_> = keyed.map(|event| (text(event, "key"), text(event, "id"))).collect();
        state.sort();
        state
    }

    async fn pass(&mut self, duration: Duration) {
        let began = clock::now();
        while began.elapsed() < duration {
            self.tick().await;
        }
    }

    /// One frame's time: the publisher sends, events come now and then, viewers read.
    async fn tick(&mut self) {
        self.next_tick += TICK;
        tokio::time::sleep_until(self.next_tick).await;
        if let Some(anchor) = &mut self.anchor {
            anchor.push();
        }
        if !self.quiet && self.rng.random_bool(0.06) {
            self.post().await;
        }
        self.seats.iter_mut().for_each(Seat::read);
    }

    /// An event, which the origin may refuse.
    async fn post(&mut self) {
        let key = ["card:left", "card:right", "card:top"][self.rng.random_range(0..3)];
        let draft = match self.rng.random_range(0..4) {
            0 | 1 => json!({"type": "prompt.show", "op": "fire", "data": {"text": "A-1"}}),
            2 => json!({"type": "card.show", "key": key, "data": {"sku": "A-1"}}),
            _ => json!({"type": "card.hide", "key": key}),
        };
        let at = if self.rng.random_bool(0.7) { At::Now } else { At::InMs(self.rng.random_range(0..1500)) };
        let Some(node) = self.node(ORIGIN) else { return };
        let draft = draft.as_object().expect("a map").clone();
        if let Ok(published) = node.relay.hub.publish_event(&room(), draft, Some(at)).await {
            self.accepted.push((clock::now(), published.event.head.id.clone()));
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Link(a, b, link) => self.network.set_link(a, b, link),
            Act::Kill(place) => {
                self.network.kill(place);
                self.seats.retain(|seat| seat.place != place);
                if place == ORIGIN {
                    self.anchor = None;
                }
                self.restarts += usize::from(place == FAR && self.node(place).is_some());
                if let Some(node) = self.nodes[usize::from(place - 1)].take() {
                    node.stop.cancel();
                }
            }
            Act::Start(place) if self.node(place).is_none() => {
                self.start(place);
                if place == ORIGIN {
                    self.publish();
                }
            }
            Act::Start(_) => {}
            Act::Hush => self.anchor = None,
            Act::Publish => self.publish(),
            Act::Stall(place) => self.stall(place, true),
            Act::Resume(place) => self.stall(place, false),
        }
    }

    fn stall(&mut self, place: Place, stalled: bool) {
        self.seats.iter_mut().filter(|seat| seat.place == place).for_each(|seat| seat.stalled = stalled);
    }

    fn node(&self, place: Place) -> Option<&Node> {
        self.nodes[usize::from(place - 1)].as_ref()
    }

    fn trust(&self) -> Trust {
        Trust::Pinned(vec![self.identity.fingerprint()])
    }

    /// Starts a node with a viewer at it.
    fn start(&mut self, place: Place) {
        let hub = Hub::new(Settings::default(), (place == ORIGIN).then(|| self.origin.clone()));
        let keys = Arc::new(ArcSwap::from_pointee(Keys::from(Signer::from_seed(&[7; 32]).public())));
        let mut relay = Relay::new(
            hub.clone(),
            Arc::new(Doors),
            Metrics::new(0, true),
            keys,
            Patience::new(Duration::from_secs(2)),
            EdgeProof::Token,
        );
        Arc::get_mut(&mut relay).expect("nobody else has it").runtime = self.network.runtime(place);
        let socket = steer(udp::bind("MoQ", ([127, 0, 0, 1], 0).into(), 1).expect("a port")).remove(0);
        let listener = listen(relay.clone(), socket, server_config(&self.identity, None).expect("a configuration"));
        let stop = CancellationToken::new();
        task::spawn("listener", listener.expect("a listener").run(stop.clone(), stop.clone()));
        let upstreams = match place {
            ORIGIN => vec![],
            NEAR => vec![url(ORIGIN, "/?token=edge")],
            _ => vec![url(NEAR, "/?token=edge"), url(ORIGIN, "/?token=edge")],
        };
        if place == ORIGIN {
            task::spawn("schedule", hub.clone().run_schedule(Duration::from_secs(3600), stop.clone()));
        } else {
            task::spawn("upstream", Upstream::new(relay.clone(), upstreams, self.trust()).run(stop.clone()));
        }
        self.seats.push(Seat::new(place, hub.view(&room()).expect("a place")));
        self.nodes[usize::from(place - 1)] = Some(Node { relay, stop });
    }

    /// A publisher's session, unless the origin is down.
    fn publish(&mut self) {
        let Some(node) = self.node(ORIGIN) else { return };
        let publisher = node.relay.hub.publish(&room()).expect("the slot");
        self.sessions += 1;
        self.anchor = Some(Anchor::new(publisher, self.sessions));
    }
}

/// A publisher's session: his clock begins at 0.
struct Anchor {
    publisher: Publisher,
    session: u32,
    /// Pictures so far.
    count: u32,
}

impl Anchor {
    fn new(mut publisher: Publisher, session: u32) -> Self {
        let video = VideoConfig { codec: Codec::Avc, description: description(session), width: 64, height: 36 };
        let description = Bytes::from_static(&[0x12, 0x10]);
        let audio = AudioConfig { codec: Codec::Aac, description, sample_rate: 44_100, channels: 2 };
        let tracks = Tracks { video: Some(video), audio: Some(audio), ..Tracks::default() };
        publisher.set_tracks(tracks).expect("the newest publisher");
        Self { publisher, session, count: 0 }
    }

    /// The next picture.
    fn mark(&self) -> Mark {
        Mark { session: self.session, group: self.count / GROUP_TICKS, index: self.count % GROUP_TICKS }
    }

    fn push(&mut self) {
        let mark = self.mark();
        let mut data = BytesMut::zeroed(if mark.index == 0 { 6000 } else { 400 });
        (&mut data[..]).put_slice(&[mark.session, mark.group, mark.index].map(u32::to_be_bytes).concat());
        let dts_us = i64::from(self.count) * 40_000;
        let picture =
            Frame { track: TrackKind::Video, dts_us, pts_us: dts_us, keyframe: mark.index == 0, data: data.freeze() };
        let sound = |dts_us| Frame {
            track: TrackKind::Audio,
            dts_us,
            pts_us: dts_us,
            keyframe: false,
            data: Bytes::from_static(&[0; 100]),
        };
        for frame in [picture, sound(dts_us), sound(dts_us + 20_000)] {
            self.publisher.push_frame(frame).expect("the newest publisher");
        }
        self.count += 1;
    }
}

fn room() -> StreamName {
    ROOM.parse().expect("a name")
}

fn url(place: Place, path: &str) -> Url {
    format!("moqt://{}{path}", network::address(place, PORT)).parse().expect("a URL")
}

/// The configuration record of a publisher's session.
fn description(session: u32) -> Bytes {
    [&[1, 0x42, 0xc0, 0x1f, 0xff][..], &session.to_be_bytes()].concat().into()
}
