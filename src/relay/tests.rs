//! Sessions over real QUIC on loopback: an origin, edges, and viewers that are our own client.

mod simulation;
mod stalls;

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};
use serde_json::json;
use tokio::{net::UdpSocket, time::timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::*;
use crate::{
    clock,
    hub::{At, Cursor, Origin, Patience, Publisher, Read, Settings},
    media::{Codec, Event, Frame, Head, Item, Signer, StreamName, TrackKind, Tracks, VideoConfig},
    net::{
        access::{Action, Asked, Denied, Grant},
        tls::{Identity, Trust},
        udp,
    },
    proto::moq::{
        catalog::Catalog,
        container::read_legacy,
        line::{LineItem, decode_item},
    },
    task,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// `open/…` may be watched by all, the rest with the token `play`; `edge` is an edge's token.
struct Doors;

impl Access for Doors {
    fn ask<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Grant, Denied>> {
        let granted = asked.action == Action::Play && self.may_see(asked.stream, asked.secret);
        ready(granted.then(Grant::default).ok_or(Denied::Wrong)).boxed()
    }

    fn may_see(&self, name: &StreamName, token: Option<&str>) -> bool {
        name.is_under("open") || token == Some("play")
    }

    fn edge<'a>(&'a self, token: &'a str, _: IpAddr) -> BoxFuture<'a, Result<Option<Grant>, Denied>> {
        ready(Ok((token == "edge").then(Grant::default))).boxed()
    }
}

struct Node {
    relay: Arc<Relay>,
    address: SocketAddr,
    trust: Trust,
    stop: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Node {
    fn new() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), &Identity::development().expect("an identity"))
    }

    fn at(address: SocketAddr, identity: &Identity) -> Self {
        Self::with_lag(address, identity, Duration::from_secs(2))
    }

    fn with_lag(address: SocketAddr, identity: &Identity, lag_max: Duration) -> Self {
        Self::with(address, identity, Patience::new(lag_max), Arc::new(Doors))
    }

    fn with(address: SocketAddr, identity: &Identity, patience: Patience, access: Arc<dyn Access>) -> Self {
        let signer = Signer::from_seed(&[7; 32]);
        let keys = Arc::new(arc_swap::ArcSwap::from_pointee(signer.public().into()));
        let linger = Duration::from_millis(300);
        let settings = Settings { linger, ..Settings::default() };
        let relay = Relay::new(
            Hub::new(settings, Some(Origin::in_memory())),
            access,
            Metrics::new(0, true),
            keys,
            patience,
            EdgeProof::Token,
        );
        let socket = steer(udp::bind("MoQ", address, 1).expect("a port")).remove(0);
        let config = server_config(identity, None).expect("a configuration");
        let listener = listen(relay.clone(), socket, config).expect("a listener");
        let address = listener.address().expect("bound");
        let stop = CancellationToken::new();
        task::spawn("listener", listener.run(stop.clone(), CancellationToken::new()));
        Self { relay, address, trust: Trust::Pinned(vec![identity.fingerprint()]), stop }
    }

    fn edge_of(&self) -> Self {
        let edge = Self::new();
        let upstream = Upstream::new(edge.relay.clone(), vec![self.url("moqt", "/?token=edge")], self.trust.clone());
        task::spawn("upstream", upstream.run(edge.stop.clone()));
        edge
    }

    /// An edge whose way to here can be cut.
    async fn edge_behind_a_link(&self) -> (Self, Link) {
        let (edge, link) = (Self::new(), Link::to(self.address).await);
        let url = format!("moqt://{}/?token=edge", link.address).parse().expect("a URL");
        let upstream = Upstream::new(edge.relay.clone(), vec![url], self.trust.clone());
        task::spawn("upstream", upstream.run(edge.stop.clone()));
        (edge, link)
    }

    fn url(&self, scheme: &str, path: &str) -> Url {
        format!("{scheme}://127.0.0.1:{}{path}", self.address.port()).parse().expect("a URL")
    }

    async fn client(&self, scheme: &str, path: &str) -> Client {
        Client::connect(&self.url(scheme, path), &self.trust, 0).await.expect("a session")
    }
}

fn name(text: &str) -> StreamName {
    text.parse().expect("a name")
}

fn tracks() -> Tracks {
    let description = Bytes::from_static(&[1, 0x42, 0xc0, 0x1f, 0xff]);
    Tracks { video: Some(VideoConfig { codec: Codec::Avc, description, width: 64, height: 36 }), ..Tracks::default() }
}

/// An anchor: a GOP of ten frames each 400 ms of the clock, pushed by hand.
struct Anchor {
    hub: Arc<Hub>,
    publisher: Publisher,
    count: i64,
}

impl Anchor {
    fn new(node: &Node, stream: &str) -> Self {
        let mut publisher = node.relay.hub.publish(&name(stream)).expect("the slot");
        publisher.set_tracks(tracks()).expect("the only publisher");
        Self { hub: node.relay.hub.clone(), publisher, count: 0 }
    }

    async fn send_event(&self, at: At) -> Arc<Event> {
        self.send(json!({"type": "prompt.show", "op": "fire", "data": {"text": "A-1"}}), at).await
    }

    async fn send(&self, draft: serde_json::Value, at: At) -> Arc<Event> {
        let draft = draft.as_object().expect("object").clone();
        let name = self.publisher.stream().name().clone();
        self.hub.publish_event(&name, draft, Some(at)).await.expect("accepted").event
    }

    fn push(&mut self, frames: usize) {
        self.push_large(frames, 2000);
    }

    fn push_large(&mut self, frames: usize, bytes: usize) {
        for _ in 0..frames {
            let dts_us = self.count * 40_000;
            let frame = Frame {
                track: TrackKind::Video,
                dts_us,
                pts_us: dts_us,
                keyframe: self.count % 10 == 0,
                data: Bytes::from(vec![u8::try_from(self.count % 251).expect("small"); bytes]),
            };
            self.publisher.push_frame(frame).expect("the only publisher");
            self.count += 1;
        }
    }
}

/// Origins tell their clock by themselves.
fn is_clock(event: &Event) -> bool {
    event.head.kind == "clock"
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: nothing within {PATIENCE:?}"))
}

/// The next frame: group, timestamp, payload.
async fn next_frame(subscription: &mut Subscription) -> Option<(u64, i64, Bytes)> {
    loop {
        match within("a frame", subscription.next()).await? {
            Received::Frame { group, timestamp, payload } => return Some((group, timestamp, payload)),
            Received::GroupEnd { .. } => {}
        }
    }
}

#[tokio::test]
async fn a_viewer_finds_a_stream_and_reads_its_tracks_over_both_transports() {
    let origin = Node::new();
    let mut anchor = Anchor::new(&origin, "open/room");
    anchor.push(15);
    for scheme in ["moqt", "https"] {
        let client = origin.client(scheme, "/open").await;
        let mut announced = client.announced("").await.expect("a stream");
        let first = within("an announcement", announced.next()).await.expect("sound").expect("one");
        assert_eq!((first.active, first.suffix.as_str()), (true, "room"));
        let mut catalog = client.subscribe("room", "catalog.json", 100, None).await.expect("a subscription");
        let (_, _, json) = next_frame(&mut catalog).await.expect("a catalog");
        assert!(Catalog::from_json(&json).expect("sound").video.is_some());
        let mut video = client.subscribe("room", "video", 60, None).await.expect("a subscription");
        let mut last = None;
        // The newest group from its keyframe on.
        for index in 10..15u8 {
            let (group, timestamp, payload) = next_frame(&mut video).await.expect("a frame");
            let (pts_us, data) = read_legacy(payload).expect("a container");
            assert_eq!((pts_us, data[0], data.len()), (timestamp, index, 2000));
            assert!(last.is_none_or(|last| (group, timestamp - 40_000) == last));
            last = Some((group, timestamp));
        }
        client.close().await;
    }
}

#[tokio::test]
async fn what_a_viewer_may_not_see_looks_like_what_is_not_there() {
    let origin = Node::new();
    let mut anchor = Anchor::new(&origin, "closed/room");
    anchor.push(5);
    let stranger = origin.client("moqt", "/").await;
    for (stream, track) in [("closed/room", "video"), ("closed/none", "video"), ("closed/room", "line")] {
        let mut subscription = stranger.subscribe(stream, track, 60, None).await.expect("sent");
        assert_eq!(next_frame(&mut subscription).await, None, "{stream} {track}");
    }
    let guest = origin.client("moqt", "/?token=play").await;
    let mut subscription = guest.subscribe("closed/room", "video", 60, None).await.expect("sent");
    assert!(next_frame(&mut subscription).await.is_some());
    let mut line = guest.subscribe("closed/room", "line", 60, None).await.expect("sent");
    assert_eq!(next_frame(&mut line).await, None, "lines are for edges");
}

#[tokio::test]
async fn a_viewer_who_sends_a_group_is_cut_off() {
    let origin = Node::new();
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a socket");
    let config = quic::client(&origin.trust, None, crate::proto::moq::lite05::ALPN, 1 << 20).expect("a configuration");
    let dialling = endpoint.connect_with(config, origin.address, "localhost").expect("an address");
    let connection = within("a handshake", dialling).await.expect("a connection");
    for bytes in [crate::proto::moq::lite05::Setup::default().to_stream(), vec![0, 2, 0, 0]] {
        let mut stream = connection.open_uni().await.expect("a stream");
        stream.write_all(&bytes).await.expect("sent");
        stream.finish().expect("open");
    }
    let closed = within("the end", connection.closed()).await.to_string();
    assert!(closed.contains("viewers don't publish"), "{closed}");
}

#[tokio::test]
async fn an_edge_pulls_once_on_demand_in_order_with_events_beside_their_frames() {
    let origin = Node::new();
    let edge = origin.edge_of();
    let mut anchor = Anchor::new(&origin, "open/room");
    anchor.push(5);
    let room = name("open/room");
    within("the announcement", async {
        let mut announcements = edge.relay.hub.announcements();
        announcements.next().await
    })
    .await;
    assert_eq!(*origin.relay.hub.get(&room).expect("live").viewers().borrow(), 0, "nobody watches yet");
    let viewers: Vec<_> = (0..3).map(|_| edge.relay.hub.view(&room).expect("room")).collect();
    let mut cursor = viewers[0].stream().ring().cursor(None);
    let source = origin.relay.hub.get(&room).expect("live");
    within("the pull", source.viewers().wait_for(|viewers| *viewers > 0)).await.expect("alive");
    let (mut frames, mut events, mut receipt) = (Vec::new(), Vec::new(), None);
    while frames.len() < 35 {
        match within("an item", cursor.recv()).await.expect("live") {
            Read::Entry { entry: Item::Frame(frame), .. } => frames.push(frame),
            Read::Entry { entry: Item::Event(event), .. } if !is_clock(&event) => events.push((frames.len(), event)),
            Read::Entry { .. } => {}
            Read::Skipped { frames } => panic!("{frames} frames lost"),
        }
        if frames.len() == 7 {
            receipt = Some(anchor.send_event(At::PtsUs(frames[6].pts_us + 3 * 40_000)).await);
        }
        // One at a time: what is pushed at once, readers may skip.
        if frames.len() >= 5 {
            anchor.push(1);
        }
    }
    let expected = receipt.expect("sent");
    assert_eq!(events, [(9, expected)], "directly before its frame, once");
    assert!(frames.windows(2).all(|pair| pair[1].dts_us - pair[0].dts_us == 40_000), "in order, none twice");
    assert_eq!(*source.viewers().borrow(), 1, "the edge is one viewer, whatever the number of its own");
    let tracks = [Track::Line, Track::Audio, Track::Video, Track::Events, Track::Catalog];
    let subscriptions = tracks.map(|track| origin.relay.muxers.subscriptions(track, &room));
    assert_eq!(subscriptions, [1, 1, 0, 0, 0], "one subscription each for line and audio");
    drop((cursor, viewers));
    within("the linger", source.viewers().wait_for(|viewers| *viewers == 0)).await.expect("alive");
    assert!(edge.relay.hub.is_announced(&room), "it can still be had");
}

#[tokio::test]
async fn an_edge_passes_on_only_events_that_a_trusted_key_made_for_the_stream() {
    let origin = Node::new();
    let edge = origin.edge_of();
    let mut anchor = Anchor::new(&origin, "open/room");
    anchor.push(5);
    within("the announcement", async { edge.relay.hub.announcements().next().await }).await;
    let viewer = edge.relay.hub.view(&name("open/room")).expect("room");
    let mut cursor = viewer.stream().ring().cursor(None);
    let pulling = origin.relay.hub.get(&name("open/room")).expect("live");
    within("the pull", pulling.viewers().wait_for(|viewers| *viewers > 0)).await.expect("alive");

    let draft = |source: &str, sku: &str| {
        let event = json!({"v": 1, "id": ulid::Ulid::new().to_string(), "source": source, "seq": 1, "op": "fire",
            "type": "gift.send", "time": {"mode": "asap"}, "data": {"sku": sku}});
        event.as_object().expect("an object").clone()
    };
    let (ours, stranger) = (Signer::from_seed(&[7; 32]), Signer::from_seed(&[8; 32]));
    let good = [ours.sign(draft("open/room", "A")), ours.sign(draft("open/room", "B"))];
    let forged = String::from_utf8(ours.sign(draft("open/room", "C")).expect("an event").json.to_vec());
    let bad = [
        Event::from_object(draft("open/room", "D")),
        stranger.sign(draft("open/room", "E")),
        Event::from_json(forged.expect("text").replace("\"C\"", "\"H\"").as_bytes()),
    ];
    let bad_count = bad.len() + 1;
    let mut newer = ours.sign(draft("open/room", "F")).expect("an event");
    newer.json = String::from_utf8_lossy(&newer.json).replace("\"v\":1", "\"v\":2").into_bytes().into();
    for event in bad.into_iter().chain([Ok(newer)]).chain(good.clone()) {
        let event = Item::Event(Arc::new(event.expect("an event")));
        anchor.publisher.relay(event, 0).expect("the only publisher");
    }
    let mut passed = Vec::new();
    while passed.len() < good.len() {
        match within("an item", cursor.recv()).await.expect("live") {
            Read::Entry { entry: Item::Event(event), .. } if !is_clock(&event) => passed.push(Ok(Event::clone(&event))),
            _ => anchor.push(1),
        }
    }
    assert_eq!(passed, good);
    let metrics = edge.relay.metrics.render();
    let reasons = ["event_unsigned", "event_unknown_key", "event_forged", "event_unreadable"];
    for reason in reasons {
        // Again where a group repeats the newest events.
        assert!(metrics.contains(&format!("refused_total{{reason=\"{reason}\"}} ")), "{reason}: {metrics}");
    }
    assert_eq!(reasons.len(), bad_count);
}

/// What a joiner is told before his first frame.
async fn first_head(cursor: &mut Cursor<Item>) -> Arc<Head> {
    let mut told = None;
    loop {
        match within("an item", cursor.recv()).await.expect("live") {
            Read::Entry { entry: Item::Head(head), .. } => told = Some(head),
            Read::Entry { entry: Item::Frame(_), .. } => return told.expect("a head first"),
            _ => {}
        }
    }
}

fn keys(head: &Head) -> Vec<&str> {
    head.room.active(head.at).into_keys().collect()
}

#[tokio::test]
async fn the_first_viewer_of_an_edge_and_of_one_behind_it_has_the_state_before_a_frame() {
    let origin = Node::new();
    let near = origin.edge_of();
    let far = near.edge_of();
    let mut anchor = Anchor::new(&origin, "open/room");
    anchor.push(1);
    let card = anchor.send(json!({"type": "card.show", "key": "card:left"}), At::InMs(0)).await;
    for kind in ["card.show", "card.hide"] {
        anchor.send(json!({"type": kind, "key": "card:right"}), At::InMs(0)).await;
    }
    let rain = json!({"type": "rain.start", "time": {"duration_ms": 60_000}});
    let rain = anchor.send(rain, At::WallMs(clock::unix_ms())).await;
    anchor.push(20);
    for edge in [&far, &near] {
        let viewer = edge.relay.hub.view(&name("open/room")).expect("room");
        let head = first_head(&mut viewer.stream().ring().cursor(None)).await;
        assert_eq!(keys(&head), ["card:left", "clock"]);
        let told = head.room.replay(head.at);
        assert_eq!((told.len(), &told[0].head.kind[..], &told[1..]), (3, "clock", &[card.clone(), rain.clone()][..]));
    }
}

#[tokio::test]
async fn what_nobody_trusted_made_is_left_out_of_the_state() {
    let origin = Node::new();
    let edge = origin.edge_of();
    let mut anchor = Anchor::new(&origin, "open/room");
    anchor.push(1);
    let card = anchor.send(json!({"type": "card.show", "key": "card:left"}), At::InMs(0)).await;
    let mut forged: serde_json::Value = serde_json::from_slice(&card.json).expect("JSON");
    forged["key"] = "card:right".into();
    forged["seq"] = (card.head.seq + 1_000_000).into();
    let forged = Event::from_json(forged.to_string().as_bytes()).expect("an event");
    anchor.publisher.relay(Item::Event(forged.into()), 0).expect("the only publisher");
    anchor.push(20);
    let there = anchor.publisher.stream().ring().head();
    assert!(matches!(there, Some(Item::Head(head)) if keys(&head).contains(&"card:right")), "it is in the origin's");
    let viewer = edge.relay.hub.view(&name("open/room")).expect("room");
    let head = first_head(&mut viewer.stream().ring().cursor(None)).await;
    assert!(keys(&head).contains(&"card:left") && !keys(&head).contains(&"card:right"));
    let metrics = edge.relay.metrics.render();
    assert!(metrics.contains("refused_total{reason=\"event_forged\"}"), "{metrics}");
}

#[tokio::test]
async fn viewers_of_an_edge_stay_when_its_upstream_drains_and_when_one_dies() {
    let identity = Identity::development().expect("an identity");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let draining = Node::at(loopback, &identity);
    // A runtime of its own that is dropped is a process that is killed: not a packet says so.
    let (kill, killed) = tokio::sync::oneshot::channel::<()>();
    let (started, dying) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let node = Node::at(loopback, &Identity::development().expect("an identity"));
            assert!(started.send(node).is_ok());
            let _ = killed.await;
        });
    });
    let dying = dying.await.expect("started");
    let last = Node::at(loopback, &identity);
    let edge = Node::new();
    let trust = match (&draining.trust, &dying.trust) {
        (Trust::Pinned(one), Trust::Pinned(other)) => Trust::Pinned([one.clone(), other.clone()].concat()),
        _ => unreachable!("nodes are pinned"),
    };
    let urls = [&draining, &dying, &last].map(|node| node.url("moqt", "/?token=edge")).to_vec();
    task::spawn("upstream", Upstream::new(edge.relay.clone(), urls, trust).run(edge.stop.clone()));

    let viewer = edge.relay.hub.view(&name("open/room")).expect("room");
    let cursor = viewer.stream().ring().cursor(None);
    let mut watch = Watch::new(Anchor::new(&draining, "open/room"), cursor);
    watch.until("frames of the first", |watch| watch.frames >= 15).await;
    drop(draining);
    watch.anchor = Anchor::new(&dying, "open/room");
    watch.until("frames of the second", |watch| watch.frames >= 30).await;
    kill.send(()).expect("running");
    watch.anchor = Anchor::new(&last, "open/room");
    watch.until("frames of the third", |watch| watch.frames >= 45).await;
}

#[tokio::test]
async fn a_reader_that_stands_still_loses_frames_but_no_event() {
    let identity = Identity::development().expect("an identity");
    let lag_max = Duration::from_millis(200);
    let origin = Node::with_lag(SocketAddr::from(([127, 0, 0, 1], 0)), &identity, lag_max);
    let mut anchor = Anchor::new(&origin, "open/room");
    anchor.push(1);
    let edge = origin.client("moqt", "/?token=edge").await;
    let mut line = edge.subscribe("open/room", "line", 60, None).await.expect("sent");
    assert!(next_frame(&mut line).await.is_some());
    // Nobody reads `line` from here on: its queue, then the windows of the connection, then the sender fill up.
    let mut sent = Vec::new();
    let mut send = async |anchor: &mut Anchor| {
        sent.push(anchor.send_event(At::InMs(0)).await.head.id.clone());
        anchor.push_large(1, 20_000);
    };
    for _ in 0..300 {
        send(&mut anchor).await;
        anchor.push_large(9, 20_000);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (mut events, mut groups, mut skipped) = (std::collections::BTreeSet::new(), Vec::new(), false);
    within("every event", async {
        let mut last_us = 0;
        while !sent.iter().all(|id| events.contains(id)) {
            anchor.push(1);
            let received = timeout(Duration::from_millis(5), line.next()).await;
            let Ok(Some(Received::Frame { group, payload, .. })) = received else { continue };
            groups.push(group);
            match decode_item(&payload).expect("an item") {
                LineItem::Item(Item::Event(event)) => {
                    events.insert(event.head.id.clone());
                }
                LineItem::Item(Item::Frame(frame)) => {
                    skipped |= frame.dts_us - last_us > 40_000;
                    last_us = frame.dts_us;
                }
                _ => {}
            }
        }
    })
    .await;
    assert!(skipped, "60 MB were kept for a reader that stood still");
}

/// A link to `server` that can be cut. Each client has a socket of its own behind it.
struct Link {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
}

impl Link {
    async fn to(server: SocketAddr) -> Self {
        let outer = Arc::new(UdpSocket::bind(("127.0.0.1", 0)).await.expect("a port"));
        let address = outer.local_addr().expect("bound");
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = cut.clone();
        task::spawn("link", async move {
            let (mut clients, mut up) = (HashMap::<_, Arc<UdpSocket>>::new(), [0; 2048]);
            loop {
                let (len, client) = outer.recv_from(&mut up).await.expect("received");
                if let Entry::Vacant(newcomer) = clients.entry(client) {
                    let inner = Arc::new(UdpSocket::bind(("127.0.0.1", 0)).await.expect("a port"));
                    inner.connect(server).await.expect("connected");
                    newcomer.insert(inner.clone());
                    let (outer, is_cut) = (outer.clone(), is_cut.clone());
                    task::spawn("link", async move {
                        let mut down = [0; 2048];
                        while let Ok(len) = inner.recv(&mut down).await {
                            if !is_cut.load(Relaxed) {
                                let _ = outer.send_to(&down[..len], client).await;
                            }
                        }
                    });
                }
                if !is_cut.load(Relaxed) {
                    let _ = clients[&client].send(&up[..len]).await;
                }
            }
        });
        Self { address, cut }
    }
}

/// Waits until an edge has no session with an upstream.
async fn lost_session(edge: &Node) {
    within("the loss of the session", async {
        while edge.relay.metrics.upstream_connected.get() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_edge_whose_link_was_cut_tells_the_events_it_missed_once() {
    let origin = Node::new();
    let mut anchor = Anchor::new(&origin, "open/room");
    anchor.push(5);
    let (edge, link) = origin.edge_behind_a_link().await;
    let viewer = edge.relay.hub.view(&name("open/room")).expect("room");
    let cursor = viewer.stream().ring().cursor(None);
    let mut watch = Watch::new(anchor, cursor);
    watch.until("the first event", |watch| watch.seen.len() == 1).await;
    link.cut.store(true, Relaxed);
    watch.until("all events", |watch| watch.sent.len() == EVENTS).await;
    // Without pushing: what is repeated are the events of some seconds of the stream.
    lost_session(&edge).await;
    assert!(watch.seen.len() < EVENTS, "nothing was cut");
    link.cut.store(false, Relaxed);
    let newest_us = watch.sent[EVENTS - 1].pts_us().expect("a time");
    watch
        .until("all events and the picture again", |watch| watch.seen.len() >= EVENTS && watch.last_us > newest_us)
        .await;
    assert_eq!(watch.seen, watch.sent);
}

#[tokio::test]
async fn viewers_of_an_edge_learn_what_was_deleted_while_its_link_was_cut() {
    let origin = Node::new();
    let mut anchor = Anchor::new(&origin, "open/room");
    anchor.push(1);
    anchor.send(json!({"type": "card.show", "key": "card:left"}), At::InMs(0)).await;
    anchor.push(20);
    let (edge, link) = origin.edge_behind_a_link().await;
    let viewer = edge.relay.hub.view(&name("open/room")).expect("room");
    let mut cursor = viewer.stream().ring().cursor(None);
    let before = first_head(&mut cursor).await;
    assert!(keys(&before).contains(&"card:left"));
    link.cut.store(true, Relaxed);
    lost_session(&edge).await;
    anchor.send(json!({"type": "card.hide", "key": "card:left"}), At::InMs(0)).await;
    // By the time the edge is back, the event itself is too old to be repeated.
    for _ in 0..500 {
        anchor.push(1);
        tokio::task::yield_now().await;
    }
    link.cut.store(false, Relaxed);
    let after = within("another truth", async {
        loop {
            match cursor.recv().await.expect("live") {
                Read::Entry { entry: Item::Head(head), .. } if head.resync > before.resync => break head,
                Read::Entry { entry: Item::Event(event), .. } => assert_ne!(event.head.kind, "card.hide"),
                _ => anchor.push(1),
            }
        }
    })
    .await;
    assert!(!keys(&after).contains(&"card:left"));
}

/// An anchor who sends an event now and then, and a viewer of his stream elsewhere.
struct Watch {
    anchor: Anchor,
    cursor: Cursor<Item>,
    sent: Vec<Arc<Event>>,
    seen: Vec<Arc<Event>>,
    frames: usize,
    last_us: i64,
}

const EVENTS: usize = 8;

impl Watch {
    fn new(anchor: Anchor, cursor: Cursor<Item>) -> Self {
        Self { anchor, cursor, sent: Vec::new(), seen: Vec::new(), frames: 0, last_us: 0 }
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        within(what, async {
            while !done(self) {
                self.push().await;
                if let Ok(read) = timeout(Duration::from_millis(10), self.cursor.recv()).await {
                    self.read(read.expect("not disconnected"));
                }
            }
        })
        .await;
    }

    async fn push(&mut self) {
        self.anchor.push(1);
        if self.anchor.count % 20 == 10 && self.sent.len() < EVENTS {
            self.sent.push(self.anchor.send_event(At::InMs(0)).await);
        }
    }

    fn read(&mut self, read: Read<Item>) {
        match read {
            Read::Entry { entry: Item::Event(event), .. } if !is_clock(&event) => self.seen.push(event),
            Read::Entry { entry: Item::Frame(frame), .. } => {
                assert!(frame.dts_us > self.last_us, "{} after {}", frame.dts_us, self.last_us);
                (self.last_us, self.frames) = (frame.dts_us, self.frames + 1);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_server_that_lets_in_and_hangs_up_is_dialled_after_ever_longer_pauses() {
    let identity = Identity::development().expect("an identity");
    let config = server_config(&identity, None).expect("a configuration");
    let server = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).expect("a port");
    let url = format!("moqt://{}/?token=edge", server.local_addr().expect("bound")).parse().expect("a URL");
    let edge = Node::new();
    let upstream = Upstream::new(edge.relay.clone(), vec![url], Trust::Pinned(vec![identity.fingerprint()]));
    task::spawn("upstream", upstream.run(edge.stop.clone()));
    let mut dials = 0;
    let dialled = async {
        while let Some(incoming) = server.accept().await {
            let session = incoming.await.expect("a session");
            let _setup = session.accept_uni().await.expect("its setup");
            dials += 1;
            session.close(0_u8.into(), b"an edge needs a certificate here");
        }
    };
    timeout(Duration::from_secs(2), dialled).await.expect_err("it goes on");
    assert!((3..=8).contains(&dials), "{dials} dials in 2 s");
}

#[tokio::test]
async fn an_upstream_that_could_not_be_read_is_tried_again() {
    let origin = Node::new();
    let edge = origin.edge_of();
    let mut anchor = Anchor::new(&origin, "open/room");
    let mut unreadable = tracks();
    unreadable.video.as_mut().expect("a picture").codec = Codec::Aac;
    anchor.publisher.set_tracks(unreadable).expect("the only publisher");
    anchor.push(5);
    within("the announcement", async { edge.relay.hub.announcements().next().await }).await;
    let viewer = edge.relay.hub.view(&name("open/room")).expect("room");
    let mut cursor = viewer.stream().ring().cursor(None);
    let mut viewers = origin.relay.hub.get(&name("open/room")).expect("live").viewers();
    within("the pull", viewers.wait_for(|viewers| *viewers > 0)).await.expect("alive");
    within("its end", viewers.wait_for(|viewers| *viewers == 0)).await.expect("alive");
    anchor.publisher.set_tracks(tracks()).expect("the only publisher");
    within("the next try", viewers.wait_for(|viewers| *viewers > 0)).await.expect("alive");
    anchor.push(20);
    assert_eq!(first_head(&mut cursor).await.tracks.video, tracks().video);
}
