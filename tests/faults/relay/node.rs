//! Nodes in this process, each on threads of its own: one that is killed says nothing to anybody.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};
use hawker::{
    clock,
    hub::{Hub, Origin, Patience, Publisher, Read, Settings, Viewer},
    media::{AudioConfig, Codec, Frame, Item, Keys, Signer, StreamName, TrackKind, Tracks, VideoConfig},
    net::{
        access::{Access, Action, Asked, Denied, Grant},
        tls::{Identity, Trust},
        udp,
    },
    observe::metrics::Metrics,
    relay::{Client, EdgeProof, Relay, Upstream, listen, server_config, steer},
    task,
};
use parking_lot::Mutex;
use tokio::{runtime, sync::oneshot};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use url::Url;

pub(super) const ROOM: &str = "open/room";

/// Pictures a second, and in a group.
pub(super) const RATE: u64 = 30;

struct Doors;

impl Access for Doors {
    fn ask<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Grant, Denied>> {
        let granted = asked.action == Action::Play && self.may_see(asked.stream, asked.secret);
        ready(granted.then(Grant::default).ok_or(Denied::Wrong)).boxed()
    }

    fn may_see(&self, name: &StreamName, _: Option<&str>) -> bool {
        name.is_under("open")
    }

    fn edge<'a>(&'a self, token: &'a str, _: IpAddr) -> BoxFuture<'a, Result<Option<Grant>, Denied>> {
        ready(Ok((token == "edge").then(Grant::default))).boxed()
    }
}

pub(super) fn room() -> StreamName {
    ROOM.parse().unwrap()
}

/// How a node is started.
#[derive(Default)]
pub(super) struct Plan {
    /// In order of preference.
    pub(super) upstreams: Vec<SocketAddr>,
    /// What it shows them.
    pub(super) shows: Option<Identity>,
    /// Who signs the certificates of its edges.
    pub(super) edge_ca: Option<PathBuf>,
    /// 0 is 1.
    pub(super) shards: usize,
    /// Any port, if none.
    pub(super) listen: Option<SocketAddr>,
}

/// What all nodes of a test share: a certificate.
pub(super) struct World {
    identity: Identity,
}

impl World {
    pub(super) fn new() -> Self {
        Self { identity: Identity::development().unwrap() }
    }

    pub(super) fn trust(&self) -> Trust {
        Trust::Pinned(vec![self.identity.fingerprint()])
    }

    pub(super) fn origin(&self) -> Node {
        self.start(Plan::default())
    }

    pub(super) fn edge(&self, upstreams: &[SocketAddr]) -> Node {
        self.start(Plan { upstreams: upstreams.to_vec(), ..Plan::default() })
    }

    pub(super) fn start(&self, plan: Plan) -> Node {
        let (linger, reconnect_window) = (Duration::from_millis(300), Duration::from_secs(5));
        let settings = Settings { linger, reconnect_window, ..Settings::default() };
        let origin = (plan.upstreams.is_empty() || plan.listen.is_some()).then(Origin::in_memory);
        let keys = Arc::new(ArcSwap::from_pointee(Keys::from(Signer::from_seed(&[7; 32]).public())));
        let proof = if plan.edge_ca.is_some() { EdgeProof::Certificate } else { EdgeProof::Token };
        let patience = Patience::new(Duration::from_secs(3));
        let (hub, metrics) = (Hub::new(settings, origin), Metrics::new(0, true));
        let relay = Relay::new(hub.clone(), Arc::new(Doors), metrics.clone(), keys, patience, proof);
        let config = server_config(&self.identity, plan.edge_ca.as_deref()).unwrap();
        let listen_at = plan.listen.unwrap_or(([127, 0, 0, 1], 0).into());
        let sockets = steer(udp::bind("MoQ", listen_at, plan.shards.max(1)).unwrap());
        let address = sockets[0].address().unwrap();
        let urls: Vec<Url> =
            plan.upstreams.iter().map(|address| format!("moqt://{address}/?token=edge").parse().unwrap()).collect();
        let upstream =
            (!urls.is_empty()).then(|| Upstream::new(relay.clone(), urls, self.trust()).with_identity(plan.shows));
        let mut node = Node {
            hub,
            metrics,
            address,
            trust: self.trust(),
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
            threads: Vec::new(),
        };
        let mut upstream = upstream;
        for socket in sockets {
            let (relay, config, upstream) = (relay.for_shard(), config.clone(), upstream.take());
            let (drain, stop) = (node.drain.clone(), node.stop.clone());
            let (kill, killed) = oneshot::channel::<()>();
            let thread = thread::spawn(move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    let listener = listen(relay, socket, config).unwrap();
                    task::spawn("listener", listener.run(drain, stop.clone()));
                    if let Some(upstream) = upstream {
                        task::spawn("upstream", upstream.run(stop));
                    }
                    let _ = killed.await;
                });
            });
            node.threads.push((kill, thread));
        }
        node
    }
}

/// A node; killed when dropped, and not a packet says so.
pub(super) struct Node {
    pub(super) hub: Arc<Hub>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) address: SocketAddr,
    trust: Trust,
    pub(super) drain: CancellationToken,
    stop: CancellationToken,
    threads: Vec<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
}

impl Drop for Node {
    fn drop(&mut self) {
        for (kill, thread) in self.threads.drain(..) {
            drop(kill);
            let _ = thread.join();
        }
    }
}

impl Node {
    /// A viewer over MoQ, who reaches the node at `address`: a link's, maybe.
    pub(super) async fn client_at(&self, address: SocketAddr) -> Client {
        let url = format!("moqt://{address}/open").parse().unwrap();
        Client::connect(&url, &self.trust, 0).await.unwrap()
    }

    /// Watches the room here.
    pub(super) fn watch(&self) -> Watcher {
        let viewer = self.hub.view(&room()).unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (told, mut cursor) = (seen.clone(), viewer.stream().ring().cursor(None));
        let reading = task::spawn("watcher", async move {
            loop {
                match cursor.recv().await {
                    Ok(Read::Entry { entry, group }) => told.lock().handle(entry, group),
                    Ok(Read::Skipped { frames }) => panic!("{frames} frames skipped"),
                    Err(_) => break told.lock().ended = true,
                }
            }
        });
        Watcher { seen, _viewer: viewer, _reading: AbortOnDropHandle::new(reading) }
    }

    pub(super) fn viewers(&self) -> usize {
        self.hub.get(&room()).map_or(0, |stream| *stream.viewers().borrow())
    }
}

/// A picture that a watcher was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    pub(super) number: u64,
    pub(super) group: u64,
    pub(super) dts_us: i64,
    pub(super) keyframe: bool,
    pub(super) at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) pictures: Vec<Shown>,
    /// Numbers of what was heard.
    pub(super) sounds: Vec<u64>,
    pub(super) events: Vec<u64>,
    pub(super) ended: bool,
}

impl Seen {
    fn handle(&mut self, item: Item, group: u64) {
        match item {
            Item::Frame(frame) => {
                let number = u64::from_be_bytes(frame.data[..8].try_into().unwrap());
                match frame.track {
                    TrackKind::Video => {
                        let (dts_us, keyframe, at) = (frame.dts_us, frame.keyframe, clock::now().into_std());
                        self.pictures.push(Shown { number, group, dts_us, keyframe, at });
                    }
                    TrackKind::Audio => self.sounds.push(number),
                }
            }
            Item::Event(event) if event.head.kind != "clock" => self.events.push(event.head.seq),
            _ => {}
        }
    }

    /// Longest time without a picture.
    pub(super) fn gap_max(&self) -> Duration {
        self.pictures.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
    }

    /// Each picture and each sound came once, in order, and none is missing.
    pub(super) fn assert_whole(&self, who: &str) {
        let numbers: Vec<_> = self.pictures.iter().map(|shown| shown.number).collect();
        for (what, numbers) in [("pictures", &numbers), ("sounds", &self.sounds)] {
            let wrong = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
            assert_eq!(wrong, None, "{who}: {what}");
            assert!(numbers.len() > 20, "{who}: only {} {what}", numbers.len());
        }
        self.assert_in_order(who);
        assert!(!self.ended, "{who} was put out");
    }

    pub(super) fn assert_in_order(&self, who: &str) {
        let wrong = self.pictures.windows(2).find(|pair| {
            pair[1].dts_us <= pair[0].dts_us
                || pair[1].group < pair[0].group
                || (pair[1].group > pair[0].group) != pair[1].keyframe
        });
        assert!(wrong.is_none(), "{who}: {wrong:?}");
    }
}

/// Somebody who watches the room at a node.
pub(super) struct Watcher {
    pub(super) seen: Arc<Mutex<Seen>>,
    _viewer: Viewer,
    _reading: AbortOnDropHandle<()>,
}

impl Watcher {
    pub(super) async fn wait(&self, what: &str, done: impl Fn(&Seen) -> bool) {
        wait(what, || done(&self.seen.lock())).await;
    }

    pub(super) fn count(&self) -> usize {
        self.seen.lock().pictures.len()
    }
}

pub(super) async fn wait(what: &str, done: impl Fn() -> bool) {
    let began = clock::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Publishes numbered pictures and sounds to some nodes at once, until dropped.
pub(super) struct Anchor {
    done: CancellationToken,
    pushing: AbortOnDropHandle<()>,
}

impl Anchor {
    /// `bytes` a picture; keyframes have four times as many.
    pub(super) fn new(nodes: &[&Node], bytes: usize) -> Self {
        let mut publishers: Vec<Publisher> = nodes.iter().map(|node| node.hub.publish(&room()).unwrap()).collect();
        let done = CancellationToken::new();
        let is_done = done.clone();
        let pushing = task::spawn("anchor", async move {
            let description = Bytes::from_static(&[1, 0x42, 0xc0, 0x1f, 0xff]);
            let video = VideoConfig { codec: Codec::Avc, description, width: 64, height: 36 };
            let description = Bytes::from_static(&[0x12, 0x10]);
            let audio = AudioConfig { codec: Codec::Aac, description, sample_rate: 48_000, channels: 2 };
            let tracks = Tracks { video: Some(video), audio: Some(audio), ..Tracks::default() };
            publishers.iter_mut().for_each(|publisher| publisher.set_tracks(tracks.clone()).unwrap());
            let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
            for number in 0.. {
                if is_done.run_until_cancelled(tick.tick()).await.is_none() {
                    return publishers.into_iter().for_each(Publisher::end);
                }
                let keyframe = number % RATE == 0;
                let dts_us = i64::try_from(number * 1_000_000 / RATE).unwrap();
                let size = if keyframe { 4 * bytes } else { bytes };
                let picture = frame(TrackKind::Video, number, dts_us, keyframe, size);
                let sound = frame(TrackKind::Audio, number, dts_us, false, 200);
                for publisher in &mut publishers {
                    publisher.push_frame(picture.clone()).unwrap();
                    publisher.push_frame(sound.clone()).unwrap();
                }
            }
        });
        Self { done, pushing: AbortOnDropHandle::new(pushing) }
    }

    /// Says that it is done.
    pub(super) async fn unpublish(self) {
        self.done.cancel();
        self.pushing.await.unwrap();
    }
}

fn frame(track: TrackKind, number: u64, dts_us: i64, keyframe: bool, bytes: usize) -> Frame {
    let mut data = BytesMut::with_capacity(bytes);
    data.put_u64(number);
    data.resize(bytes, u8::try_from(number % 251).unwrap());
    Frame { track, dts_us, pts_us: dts_us, keyframe, data: data.freeze() }
}

/// True if all bytes of a picture or sound are what was sent.
pub(super) fn is_unharmed(data: &[u8]) -> bool {
    let number = u64::from_be_bytes(data[..8].try_into().unwrap());
    data[8..].iter().all(|byte| u64::from(*byte) == number % 251)
}
