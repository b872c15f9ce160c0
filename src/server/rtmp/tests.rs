//! Sessions over real sockets, with our own client on the other end. Timeouts are shortened, not slept through.

use std::future::Future;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    config::{Config, PlayPolicy, PublishKey, SecondPublisher, Token, TokenRole},
    control::api::MoqAddress,
    hub::{Patience, Publisher, State},
    media::{Codec, Frame, Signer, TrackKind, Tracks, VideoConfig},
    net::{
        access::{Access, Revocable},
        tls::Identity,
    },
    proto::{
        flv::{MediaTag, TagBody},
        rtmp::{ClientConfig, ClientEvent, ClientMode, ClientSession, amf0},
    },
    secret::Digest,
    server::EventKeys,
    task,
};

const ROOM: &str = "room?key=right";

fn config() -> Config {
    let mut config = Config::default();
    config.auth.play = PlayPolicy::Anyone;
    let key = |key, events| PublishKey {
        prefix: "live".into(),
        key_sha256: Digest::of(key),
        events,
        priority: 0,
        streams_max: None,
        bitrate_kbps_max: None,
    };
    config.auth.publish = vec![key("right", false), key("director", true)];
    config
}

/// Long enough that only a test of that timeout meets it.
const PATIENT: Duration = Duration::from_secs(60);
/// So long that nobody meets it who reads.
const PATIENCE: Patience = Patience { lag_max: Duration::from_secs(3), stall_max: Duration::from_secs(2) };

fn timeouts() -> Timeouts {
    Timeouts { first_byte: PATIENT, setup: PATIENT, first_media: PATIENT, publisher_silence: PATIENT }
}

struct Server {
    node: Arc<Node>,
    listener: TcpListener,
    address: SocketAddr,
    _data: TempDir,
}

impl Server {
    fn start(config: Config, rtmp: Timeouts) -> Self {
        Self::start_with(config, rtmp, None)
    }

    fn start_with(mut config: Config, rtmp: Timeouts, access: Option<Arc<dyn Access>>) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        config.data_dir = Some(data.path().into());
        let moq = MoqAddress { port: 0, identity: Identity::development().expect("made") };
        let keys = EventKeys { signer: Some(Arc::new(Signer::from_seed(&[7; 32]))), trusted: Arc::default() };
        let node = Node::new(config, moq, keys).expect("a node");
        let access = access.unwrap_or(node.access.clone());
        let node = Arc::new(Node { rtmp, patience: PATIENCE, access, ..node });
        // Accepted sockets inherit the small buffer, so that a viewer who doesn't read is noticed soon.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_send_buffer_size(16 * 1024).expect("set");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let listener = socket.listen(16).expect("listens");
        let address = listener.local_addr().expect("bound");
        Self { node, listener, address, _data: data }
    }

    /// A connection with a session on our side of it.
    async fn connect(&self) -> (TcpStream, JoinHandle<()>) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("set");
        let (stream, accepted) = tokio::join!(socket.connect(self.address), self.listener.accept());
        let (theirs, peer) = accepted.expect("accepts");
        let session = session(self.node.clone(), self.node.egress(), Stream::Plain(theirs), peer);
        (stream.expect("connects"), task::spawn("session", session))
    }

    async fn request(&self, mode: ClientMode, name: &str) -> Peer {
        let (stream, server) = self.connect().await;
        let tc_url = "rtmp://localhost/live".to_owned();
        let config = ClientConfig { mode, app: "live".into(), tc_url, name: name.into() };
        Peer { stream, session: ClientSession::new(config), server }
    }

    async fn publish(&self, name: &str) -> Peer {
        let mut peer = self.request(ClientMode::Publish, name).await;
        assert_eq!(peer.next().await, Some(ClientEvent::Ready));
        peer
    }

    fn state(&self) -> Option<State> {
        self.node.hub.get(&"live/room".parse().expect("name")).map(|stream| stream.state())
    }

    /// How many sessions ended for this reason.
    fn ended(&self, reason: &str) -> bool {
        let line = format!("hawker_sessions_total{{protocol=\"rtmp\",reason=\"{reason}\"}} 1");
        self.node.metrics.render().contains(&line)
    }
}

/// What must happen soon; how soon is not what these tests are about.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    timeout(Duration::from_secs(5), future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

struct Peer {
    stream: TcpStream,
    session: ClientSession,
    /// The session's task on the server's side.
    server: JoinHandle<()>,
}

impl Peer {
    async fn flush(&mut self) {
        while let Some(bytes) = self.session.poll_output() {
            self.stream.write_all(&bytes).await.expect("the server reads");
        }
    }

    /// The next event; `None` when the server has closed.
    async fn next(&mut self) -> Option<ClientEvent> {
        soon("an event", async {
            loop {
                if let Some(event) = self.session.poll_event() {
                    return Some(event);
                }
                self.flush().await;
                let mut buffer = [0; 4096];
                match self.stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(read) => self.session.handle_bytes(&buffer[..read]).expect("RTMP"),
                }
            }
        })
        .await
    }

    async fn send(&mut self, timestamp: u32, body: &TagBody) {
        self.session.send(timestamp, body);
        self.flush().await;
    }

    async fn send_gop(&mut self) {
        self.send(0, &TagBody::video_config(&avc())).await;
        self.send(0, &TagBody::video_frame(Codec::Avc, true, 0, Bytes::from_static(b"key"))).await;
        self.send(40, &TagBody::video_frame(Codec::Avc, false, 0, Bytes::from_static(b"inter"))).await;
    }

    async fn rejected(&mut self) -> (String, String) {
        match self.next().await {
            Some(ClientEvent::Rejected { code, description }) => (code, description),
            other => panic!("{other:?} where a refusal is due"),
        }
    }

    /// Reads frames until one has this payload.
    async fn see(&mut self, payload: &[u8]) {
        loop {
            match self.next().await {
                Some(ClientEvent::Media { tag: MediaTag::Frame { data, .. }, .. }) if data == payload => return,
                Some(_) => {}
                None => panic!("closed before {payload:?}"),
            }
        }
    }
}

fn avc() -> VideoConfig {
    VideoConfig { codec: Codec::Avc, description: Bytes::from_static(&[1, 0x64, 0, 0x1f]), width: 16, height: 16 }
}

/// A publisher that needs no socket.
fn publisher(server: &Server) -> Publisher {
    let mut publisher = server.node.hub.publish(&"live/room".parse().expect("name")).expect("room");
    publisher.set_tracks(Tracks { video: Some(avc()), ..Tracks::default() }).expect("current");
    publisher
}

fn frame(ms: i64, data: Vec<u8>) -> Frame {
    Frame { track: TrackKind::Video, dts_us: ms * 1000, pts_us: ms * 1000, keyframe: true, data: data.into() }
}

#[tokio::test]
async fn what_is_published_is_played_and_its_end_is_told_at_once() {
    let server = Server::start(config(), timeouts());
    let mut anchor = server.publish(ROOM).await;
    anchor.send_gop().await;
    let mut viewer = server.request(ClientMode::Play, "room").await;
    assert_eq!(viewer.next().await, Some(ClientEvent::Ready));
    assert!(matches!(viewer.next().await, Some(ClientEvent::Metadata(_))));
    viewer.see(b"inter").await;
    assert_eq!(server.state(), Some(State::Live));

    anchor.session.close().expect("room in the queue");
    anchor.flush().await;
    assert_eq!(viewer.next().await, Some(ClientEvent::Closed));
    assert_eq!(viewer.next().await, None);
    assert_eq!(server.state(), None, "over, not interrupted");
    assert!(soon("the viewer's end", viewer.server).await.is_ok() && server.ended("stream ended"));
}

#[tokio::test]
async fn a_connection_lost_is_an_interruption_and_viewers_stay() {
    let server = Server::start(config(), timeouts());
    let mut anchor = server.publish(ROOM).await;
    anchor.send_gop().await;
    let mut viewer = server.request(ClientMode::Play, "room").await;
    viewer.see(b"inter").await;
    drop(anchor.stream);
    soon("the anchor's end", anchor.server).await.expect("no panic");
    assert_eq!(server.state(), Some(State::Interrupted));
    let mut anchor = server.publish(ROOM).await;
    anchor.send(0, &TagBody::video_config(&avc())).await;
    anchor.send(0, &TagBody::video_frame(Codec::Avc, true, 0, Bytes::from_static(b"again"))).await;
    viewer.see(b"again").await;
}

#[tokio::test]
async fn unknown_names_and_wrong_keys_get_one_slow_answer_and_guessing_is_cut_off() {
    let server = Server::start(config(), timeouts());
    let mut answers = Vec::new();
    for name in ["room?key=wrong", "elsewhere?key="] {
        let began = clock::now();
        let mut peer = server.request(ClientMode::Publish, name).await;
        answers.push(peer.rejected().await);
        assert!(began.elapsed() >= Duration::from_millis(50), "guessing costs time");
        assert_eq!(peer.next().await, None);
    }
    assert!(answers.iter().all(|answer| *answer == (PUBLISH_BAD_NAME.to_owned(), WRONG_KEY.to_owned())), "{answers:?}");
    let without = server.request(ClientMode::Publish, "room").await.rejected().await;
    assert_eq!(Some(&without), answers.first(), "who shows no key has not guessed, and gets the same answer");
    assert_eq!(server.state(), None, "a refused request leaves no stream behind");
    for _ in answers.len()..limits::AUTH_FAILURES_MAX as usize {
        server.request(ClientMode::Publish, "room?key=wrong").await.rejected().await;
    }
    let answer = server.request(ClientMode::Publish, ROOM).await.rejected().await;
    assert_eq!(answer.1, WRONG_KEY, "even the right key, for a while");
}

#[tokio::test]
async fn play_tokens_are_asked_for_and_guesses_at_them_count() {
    let mut config = config();
    config.auth.play = PlayPolicy::Deny;
    let roles = vec![TokenRole::Play];
    config.auth.token = vec![Token { prefix: "live".into(), token_sha256: Digest::of("ticket"), roles }];
    let server = Server::start(config, timeouts());
    let mut publisher = publisher(&server);
    publisher.push_frame(frame(0, b"key".to_vec())).expect("current");
    let refused = (PLAY_FAILED.to_owned(), NEEDS_TOKEN.to_owned());
    for _ in 0..limits::AUTH_FAILURES_MAX {
        assert_eq!(server.request(ClientMode::Play, "room").await.rejected().await, refused);
    }
    let mut viewer = server.request(ClientMode::Play, "room?token=ticket").await;
    assert_eq!(viewer.next().await, Some(ClientEvent::Ready), "who shows no token guesses at none");
    for _ in 0..limits::AUTH_FAILURES_MAX {
        assert_eq!(server.request(ClientMode::Play, "room?token=guess").await.rejected().await, refused);
    }
    assert_eq!(server.request(ClientMode::Play, "room?token=ticket").await.rejected().await, refused);
}

#[tokio::test]
async fn the_newer_publisher_takes_over_and_the_older_is_told() {
    let server = Server::start(config(), timeouts());
    let mut old = server.publish(ROOM).await;
    old.send_gop().await;
    let mut viewer = server.request(ClientMode::Play, "room").await;
    viewer.see(b"inter").await;
    let mut new = server.publish(ROOM).await;
    old.send_gop().await;
    viewer.see(b"inter").await;
    new.send_gop().await;
    assert_eq!(old.rejected().await, (PUBLISH_BAD_NAME.to_owned(), REPLACED.to_owned()));
    assert_eq!(old.next().await, None);
    viewer.see(b"inter").await;
    assert!(server.ended("replaced"));
}

#[tokio::test]
async fn a_silent_publisher_is_taken_for_gone() {
    let server = Server::start(config(), Timeouts { publisher_silence: Duration::from_millis(100), ..timeouts() });
    let mut anchor = server.publish(ROOM).await;
    anchor.send_gop().await;
    assert_eq!(anchor.next().await, None);
    assert_eq!(server.state(), Some(State::Interrupted));
    assert!(server.ended("silent"));
}

#[tokio::test]
async fn a_second_publisher_is_refused_where_the_first_shall_stay() {
    let mut config = config();
    config.ingest.second_publisher = SecondPublisher::Reject;
    let server = Server::start(config, timeouts());
    let mut old = server.publish(ROOM).await;
    old.send_gop().await;
    let refused = (PUBLISH_BAD_NAME.to_owned(), "another publisher is on air".to_owned());
    assert_eq!(server.request(ClientMode::Publish, ROOM).await.rejected().await, refused);
    old.send_gop().await;
    assert_eq!(server.state(), Some(State::Live));
}

#[tokio::test]
async fn a_publisher_who_sends_no_media_is_closed() {
    let server = Server::start(config(), Timeouts { first_media: Duration::from_millis(100), ..timeouts() });
    assert_eq!(server.publish(ROOM).await.next().await, None);
    assert!(server.ended("no media"));
}

#[tokio::test]
async fn who_says_nothing_or_never_asks_for_a_stream_is_closed() {
    let short = Duration::from_millis(50);
    let server = Server::start(config(), Timeouts { first_byte: short, ..timeouts() });
    let (_mute, ended) = server.connect().await;
    soon("the end of a mute peer", ended).await.expect("no panic");
    assert!(server.ended("silent"));

    let server = Server::start(config(), Timeouts { setup: short, ..timeouts() });
    let (mut slow, ended) = server.connect().await;
    slow.write_all(&[3; 100]).await.expect("connected");
    soon("the end of a slow peer", ended).await.expect("no panic");
    assert!(server.ended("setup timeout"));
    assert_eq!(server.node.pending.taken(), 0);
}

#[tokio::test]
async fn a_viewer_who_does_not_read_is_dropped_and_the_others_see_everything() {
    let server = Server::start(config(), timeouts());
    let mut publisher = publisher(&server);
    publisher.push_frame(frame(0, b"first".to_vec())).expect("current");
    let mut healthy = server.request(ClientMode::Play, "room").await;
    healthy.see(b"first").await;
    let mut stalled = server.request(ClientMode::Play, "room").await;
    stalled.see(b"first").await;
    let mut dropped = false;
    for n in 1..500i64 {
        // Time for the healthy one to keep up is the test's clock here: each frame is awaited.
        let data = vec![u8::try_from(n % 251).expect("small"); 40_000 + usize::try_from(n).expect("small")];
        publisher.push_frame(frame(n * 40, data.clone())).expect("current");
        healthy.see(&data).await;
        dropped = stalled.server.is_finished();
        if dropped {
            break;
        }
        if n > 100 {
            tokio::task::yield_now().await;
        }
    }
    if !dropped {
        soon("the stalled viewer's end", stalled.server).await.expect("no panic");
    }
    assert!(server.ended("stalled"));
    let viewers = *publisher.stream().viewers().borrow();
    assert_eq!(viewers, 1, "the healthy one stays");
}

#[tokio::test]
async fn a_viewer_whose_token_is_revoked_goes_at_once_though_he_does_not_read() {
    let revoked = CancellationToken::new();
    let server = Server::start_with(config(), timeouts(), Some(Arc::new(Revocable(revoked.clone()))));
    let mut publisher = publisher(&server);
    publisher.push_frame(frame(0, b"first".to_vec())).expect("current");
    let mut stalled = server.request(ClientMode::Play, "room").await;
    stalled.see(b"first").await;
    publisher.push_frame(frame(40, vec![7; 16 << 20])).expect("current");
    revoked.cancel();
    soon("his end", stalled.server).await.expect("no panic");
    assert!(server.ended("revoked"));
}

#[tokio::test]
async fn a_viewer_who_asks_and_does_not_read_the_answers_is_dropped() {
    let server = Server::start(config(), timeouts());
    let mut publisher = publisher(&server);
    publisher.push_frame(frame(0, b"first".to_vec())).expect("current");
    let mut viewer = server.request(ClientMode::Play, "room").await;
    viewer.see(b"first").await;
    // More than the sockets between take.
    publisher.push_frame(frame(40, vec![0; 4 << 20])).expect("current");
    let Peer { mut stream, server: session, .. } = viewer;
    // A user control message (type 4) of 6 bytes on chunk stream 2: PingRequest (6) and a time.
    let pings = [2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0].repeat(1000);
    let asks = async { while stream.write_all(&pings).await.is_ok() {} };
    let (_, ended) = tokio::join!(asks, soon("his end", session));
    ended.expect("no panic");
    assert!(server.ended("protocol"), "{}", server.node.metrics.render());
}

#[tokio::test]
async fn a_viewer_who_waits_is_served_at_the_first_keyframe_told_if_nobody_comes_and_missed_when_he_leaves() {
    let server = Server::start(config(), timeouts());
    let mut early = server.request(ClientMode::Play, "room").await;
    let waiting = async {
        while server.state() != Some(State::Waiting) {
            tokio::task::yield_now().await;
        }
    };
    soon("the request", async {
        tokio::select! {
            event = early.next() => panic!("{event:?} too early"),
            () = waiting => {}
        }
    })
    .await;
    let mut publisher = publisher(&server);
    publisher.push_frame(frame(0, b"first".to_vec())).expect("current");
    early.see(b"first").await;

    let leaver = server.request(ClientMode::Play, "nothing").await;
    let Peer { mut stream, mut session, server: ended } = leaver;
    let name = "live/nothing".parse().expect("name");
    soon("the request", async {
        let mut buffer = [0; 4096];
        while server.node.hub.get(&name).is_none() {
            while let Some(bytes) = session.poll_output() {
                stream.write_all(&bytes).await.expect("the server reads");
            }
            tokio::select! {
                read = stream.read(&mut buffer) => session.handle_bytes(&buffer[..read.expect("open")]).expect("RTMP"),
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    drop(stream);
    soon("the end of a viewer who left while he waited", ended).await.expect("no panic");
    assert!(server.node.hub.get(&name).is_none());

    let mut impatient = config();
    impatient.hub.wait_publisher_secs = 0;
    let server = Server::start(impatient, timeouts());
    let answer = server.request(ClientMode::Play, "nothing").await.rejected().await;
    assert_eq!(answer, (PLAY_NOT_FOUND.to_owned(), NOBODY.to_owned()));
}

#[tokio::test]
async fn edges_and_bad_names_are_refused_with_their_reason() {
    let server = Server::start(Config { role: Role::Edge, ..config() }, timeouts());
    assert_eq!(server.request(ClientMode::Publish, ROOM).await.rejected().await.1, EDGE);
    let server = Server::start(config(), timeouts());
    assert_eq!(server.request(ClientMode::Publish, "ro om?key=right").await.rejected().await.1, BAD_NAME);
    assert_eq!(server.request(ClientMode::Play, "../room").await.rejected().await.0, PLAY_NOT_FOUND);
    let _there = server.node.hub.publish(&"live/_global".parse().expect("name")).expect("the slot");
    assert_eq!(server.request(ClientMode::Play, "_global").await.rejected().await.1, NOBODY);
}

#[tokio::test]
async fn a_stop_ends_publishers_viewers_and_those_who_wait() {
    let server = Server::start(config(), timeouts());
    let mut anchor = server.publish(ROOM).await;
    anchor.send_gop().await;
    let mut viewer = server.request(ClientMode::Play, "room").await;
    viewer.see(b"inter").await;
    let mut waiting = server.request(ClientMode::Play, "nothing").await;
    let (_mute, mute) = server.connect().await;
    server.node.stop.cancel();
    assert_eq!(anchor.next().await, None);
    assert_eq!(viewer.next().await, None);
    assert_eq!(waiting.next().await, None);
    for session in [anchor.server, viewer.server, waiting.server, mute] {
        soon("a session's end", session).await.expect("no panic");
    }
}

/// A command of a client that isn't ours, in one chunk for as long as its default size lasts.
fn command(stream_id: u8, values: &[amf0::Value]) -> Vec<u8> {
    let mut body = bytes::BytesMut::new();
    amf0::encode_all(values, &mut body);
    let length = u8::try_from(body.len()).expect("short");
    let mut message = vec![3, 0, 0, 0, 0, 0, length, 20, stream_id, 0, 0, 0];
    message.extend(body.chunks(128).collect::<Vec<_>>().join(&0xc3));
    message
}

#[tokio::test]
async fn who_can_reconnect_is_asked_to_when_the_node_drains_and_stays_if_he_does_not() {
    use amf0::Value;
    let server = Server::start(config(), timeouts());
    let mut publisher = publisher(&server);
    publisher.push_frame(frame(0, b"first".to_vec())).expect("current");
    let (mut viewer, _session) = server.connect().await;
    let said = Value::object([("app", Value::string("live")), ("capsEx", Value::Number(1.0))]);
    let mut request = [&[3][..], &[0; 2 * 1536]].concat();
    request.extend(command(0, &[Value::string("connect"), Value::Number(1.0), said]));
    request.extend(command(0, &[Value::string("createStream"), Value::Number(2.0), Value::Null]));
    request.extend(command(1, &[Value::string("play"), Value::Number(3.0), Value::Null, Value::string("room")]));
    viewer.write_all(&request).await.expect("open");
    let mut seen = Vec::new();
    let until = async |viewer: &mut TcpStream, seen: &mut Vec<u8>, what: &str| {
        soon(what, async {
            while !has(seen, what) {
                assert!(viewer.read_buf(seen).await.expect("open") > 0, "closed before {what}");
            }
        })
        .await;
    };
    until(&mut viewer, &mut seen, "first").await;
    assert!(!has(&seen, "ReconnectRequest"));
    server.node.drain.cancel();
    until(&mut viewer, &mut seen, "NetConnection.Connect.ReconnectRequest").await;
    publisher.push_frame(frame(40, b"second".to_vec())).expect("current");
    until(&mut viewer, &mut seen, "second").await;
}

fn text_data(text: &str) -> TagBody {
    let mut amf0 = BytesMut::new();
    let body = amf0::Value::object([("text", amf0::Value::string(text))]);
    amf0::encode_all(&[amf0::Value::string("onTextData"), body], &mut amf0);
    TagBody::script(amf0.freeze())
}

/// What data messages the viewer gets until the anchor has sent 20 more pictures.
async fn data_seen(anchor: &mut Peer, viewer: &mut Peer) -> Vec<Bytes> {
    let mut seen = Vec::new();
    for n in 2..22u8 {
        let picture = [n; 8];
        let body = TagBody::video_frame(Codec::Avc, false, 0, Bytes::copy_from_slice(&picture));
        anchor.send(u32::from(n) * 40, &body).await;
        loop {
            match viewer.next().await {
                Some(ClientEvent::Media { tag: MediaTag::Frame { data, .. }, .. }) if data == picture[..] => break,
                Some(ClientEvent::Data { amf0, .. }) if !has(&amf0, "\"type\":\"clock\"") => seen.push(amf0),
                Some(_) => {}
                None => panic!("closed before picture {n}"),
            }
        }
    }
    seen
}

fn has(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[tokio::test]
async fn events_inside_the_stream_need_a_key_with_the_right() {
    let server = Server::start(config(), timeouts());
    let refused = |count: u32| {
        let line = format!("hawker_refused_total{{reason=\"in-band event\"}} {count}");
        server.node.metrics.render().contains(&line)
    };
    let mut anchor = server.publish("room?key=director").await;
    anchor.send_gop().await;
    let mut viewer = server.request(ClientMode::Play, "room").await;
    viewer.see(b"inter").await;
    anchor.send(80, &text_data("3, 2, 1")).await;
    let seen = data_seen(&mut anchor, &mut viewer).await;
    let [event] = &seen[..] else { panic!("one event, not {seen:?}") };
    assert!(has(event, "onLiveEvent") && has(event, "prompt.show") && has(event, "3, 2, 1"), "{event:?}");
    assert!(has(event, "\"source\":\"live/room\""), "stamped here: {event:?}");
    assert!(!refused(1));

    let mut anchor = server.publish(ROOM).await;
    anchor.send_gop().await;
    viewer.see(b"inter").await;
    anchor.send(80, &text_data("forged")).await;
    let mut forged = BytesMut::new();
    let body = amf0::Value::object([("json", amf0::Value::string("{}"))]);
    amf0::encode_all(&[amf0::Value::string("onLiveEvent"), body], &mut forged);
    anchor.send(80, &TagBody::script(forged.freeze())).await;
    assert!(data_seen(&mut anchor, &mut viewer).await.is_empty());
    assert!(refused(2));
}
