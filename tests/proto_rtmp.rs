//! Our RTMP sessions against rml_rtmp, a foreign implementation: in memory, no sockets, no clocks.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use bytes::Bytes;
use hawker::{
    media::{AudioConfig, Codec, Scalar, VideoConfig},
    proto::{
        flv::{MediaTag, TagBody, script},
        rtmp::{
            ClientConfig, ClientEvent, ClientMode, ClientSession, STREAM_ID, ServerEvent, ServerSession, encode_media,
        },
    },
};
use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    sessions::{
        ClientSession as RmlClient, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
        ServerSession as RmlServer, ServerSessionConfig, ServerSessionEvent, ServerSessionResult, StreamMetadata,
    },
    time::RtmpTimestamp,
};

const AVCC: &[u8] = b"\x01\x42\xc0\x1f\xff\xe1\x00\x00\x01\x00\x00";

fn video_config() -> TagBody {
    TagBody::video_config(&VideoConfig::from_description(Codec::Avc, Bytes::from_static(AVCC)))
}

fn keyframe() -> TagBody {
    TagBody::video_frame(Codec::Avc, true, 40, Bytes::from(vec![0x65; 150_000]))
}

/// The body as one piece, as rml_rtmp wants it.
fn whole(body: &TagBody) -> Bytes {
    [&body.header[..], &body.payload].concat().into()
}

/// rml_rtmp's handshake; gives the bytes to answer and those that follow the handshake.
fn shake(handshake: &mut Option<Handshake>, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let Some(active) = handshake else { return (Vec::new(), bytes.to_vec()) };
    match active.process_bytes(bytes).unwrap() {
        HandshakeProcessResult::InProgress { response_bytes } => (response_bytes, Vec::new()),
        HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
            *handshake = None;
            (response_bytes, remaining_bytes)
        }
    }
}

/// rml_rtmp's client on the line with our server session.
struct ForeignClient {
    handshake: Option<Handshake>,
    session: RmlClient,
    events: Vec<ClientSessionEvent>,
    out: Vec<u8>,
}

impl ForeignClient {
    fn connected(server: &mut ServerSession, app: &str) -> Self {
        let mut handshake = Handshake::new(PeerType::Client);
        let out = handshake.generate_outbound_p0_and_p1().unwrap();
        let (session, results) = RmlClient::new(ClientSessionConfig::new()).unwrap();
        let mut client = Self { handshake: Some(handshake), session, events: Vec::new(), out };
        client.take(results);
        client.talk(server);
        let request = client.session.request_connection(app.to_owned()).unwrap();
        client.take(vec![request]);
        client.talk(server);
        assert_eq!(client.events.remove(0), ClientSessionEvent::ConnectionRequestAccepted);
        client
    }

    fn take(&mut self, results: Vec<ClientSessionResult>) {
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => self.out.extend(packet.bytes),
                ClientSessionResult::RaisedEvent(event) => self.events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
    }

    fn handle(&mut self, bytes: &[u8]) {
        let (answer, rest) = shake(&mut self.handshake, bytes);
        self.out.extend(answer);
        let results = self.session.handle_input(&rest).unwrap();
        self.take(results);
    }

    /// Carries bytes both ways, in small pieces, until both are silent.
    fn talk(&mut self, server: &mut ServerSession) {
        loop {
            let to_server = std::mem::take(&mut self.out);
            for part in to_server.chunks(1000) {
                server.handle_bytes(part).unwrap();
            }
            let mut spoke = !to_server.is_empty();
            while let Some(bytes) = server.poll_output() {
                spoke = true;
                self.handle(&bytes);
            }
            if !spoke {
                return;
            }
        }
    }
}

fn events(server: &mut ServerSession) -> Vec<ServerEvent> {
    std::iter::from_fn(|| server.poll_event()).collect()
}

#[test]
fn a_foreign_client_publishes_to_us() {
    let mut server = ServerSession::new();
    let mut client = ForeignClient::connected(&mut server, "live?zone=1");
    let request = client.session.request_publishing("room?key=s%2Fe".to_owned(), PublishRequestType::Live).unwrap();
    client.take(vec![request]);
    client.talk(&mut server);

    let seen = events(&mut server);
    let [ServerEvent::Connect(info), ServerEvent::PublishRequest(request)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((info.app.as_str(), info.flash_ver.as_str()), ("live", "WIN 23,0,0,207"));
    assert_eq!((request.app.as_str(), request.name.as_str()), ("live", "room"));
    assert_eq!(request.query.get("key").as_deref(), Some("s/e"));
    assert_eq!(request.query.get("zone").as_deref(), Some("1"));
    assert!(!client.events.contains(&ClientSessionEvent::PublishRequestAccepted), "nobody has decided yet");

    server.accept_publish().unwrap();
    client.talk(&mut server);
    assert!(client.events.contains(&ClientSessionEvent::PublishRequestAccepted));

    let metadata = StreamMetadata { video_width: Some(1280), encoder: Some("x".to_owned()), ..StreamMetadata::new() };
    let sent = [
        client.session.publish_metadata(&metadata).unwrap(),
        client.session.publish_video_data(whole(&video_config()), RtmpTimestamp::new(0), false).unwrap(),
        client.session.publish_video_data(whole(&keyframe()), RtmpTimestamp::new(0x0100_0000), false).unwrap(),
        client.session.publish_audio_data("\u{2f}".into(), RtmpTimestamp::new(0), false).unwrap(),
    ];
    let [metadata, config, frame, mp3] = sent;
    client.take(vec![metadata, config, frame]);
    client.talk(&mut server);
    let seen = events(&mut server);
    let [
        ServerEvent::Metadata(metadata),
        ServerEvent::Media { tag: config, .. },
        ServerEvent::Media { timestamp, tag },
    ] = &seen[..]
    else {
        panic!("{seen:?}")
    };
    assert!(metadata.contains(&("width".to_owned(), Scalar::Number(1280.0))));
    assert!(matches!(config, MediaTag::VideoConfig(config) if config.description == AVCC));
    assert_eq!(*timestamp, 0x0100_0000);
    let MediaTag::Frame { codec: Codec::Avc, keyframe: true, cts_us: 40_000, data } = tag else { panic!("{tag:?}") };
    assert_eq!(*data, vec![0x65; 150_000]);

    client.take(vec![mp3]);
    let error = server.handle_bytes(&client.out).unwrap_err();
    assert!(error.to_string().contains("MP3"), "{error}");
}

#[test]
fn a_foreign_client_is_refused() {
    let mut server = ServerSession::new();
    let mut client = ForeignClient::connected(&mut server, "live");
    let request = client.session.request_publishing("room".to_owned(), PublishRequestType::Live).unwrap();
    client.take(vec![request]);
    client.talk(&mut server);
    server.reject("NetStream.Publish.BadName", "wrong key").unwrap();
    client.talk(&mut server);
    let refused = ClientSessionEvent::UnhandleableOnStatusCode { code: "NetStream.Publish.BadName".to_owned() };
    assert!(client.events.contains(&refused), "{:?}", client.events);
}

#[test]
fn a_foreign_client_plays_from_us() {
    let mut server = ServerSession::new();
    let mut client = ForeignClient::connected(&mut server, "live");
    let request = client.session.request_playback("room".to_owned()).unwrap();
    client.take(vec![request]);
    client.talk(&mut server);
    assert!(matches!(&events(&mut server)[1], ServerEvent::PlayRequest { request, .. } if request.name == "room"));
    server.accept_play().unwrap();
    client.talk(&mut server);
    assert!(client.events.contains(&ClientSessionEvent::PlaybackRequestAccepted), "{:?}", client.events);

    client.events.clear();
    let audio = TagBody::audio_frame(Codec::Aac, Bytes::from_static(b"raw"));
    for (timestamp, body) in [(0x0100_0000, keyframe()), (0x0100_0020, audio)] {
        encode_media(STREAM_ID, timestamp, &body).iter().for_each(|bytes| client.handle(bytes));
        let data = whole(&body);
        let timestamp = RtmpTimestamp::new(timestamp);
        let event = client.events.remove(0);
        match event {
            ClientSessionEvent::VideoDataReceived { timestamp: t, data: d }
            | ClientSessionEvent::AudioDataReceived { timestamp: t, data: d } => {
                assert_eq!((t, d.len(), d == data), (timestamp, data.len(), true));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Our client on the line with rml_rtmp's server, which accepts everything; gives what the server saw.
struct ForeignServer {
    handshake: Option<Handshake>,
    session: RmlServer,
    greeting: Vec<ServerSessionResult>,
    events: Vec<ServerSessionEvent>,
    out: Vec<u8>,
}

impl ForeignServer {
    fn new() -> Self {
        let (session, greeting) = RmlServer::new(ServerSessionConfig::new()).unwrap();
        let handshake = Some(Handshake::new(PeerType::Server));
        Self { handshake, session, greeting, events: Vec::new(), out: Vec::new() }
    }

    fn take(&mut self, results: Vec<ServerSessionResult>) {
        for result in results {
            match result {
                ServerSessionResult::OutboundResponse(packet) => self.out.extend(packet.bytes),
                ServerSessionResult::RaisedEvent(event) => {
                    if let ServerSessionEvent::ConnectionRequested { request_id, .. }
                    | ServerSessionEvent::PublishStreamRequested { request_id, .. }
                    | ServerSessionEvent::PlayStreamRequested { request_id, .. } = event
                    {
                        let results = self.session.accept_request(request_id).unwrap();
                        self.take(results);
                    }
                    self.events.push(event);
                }
                ServerSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
    }

    fn talk(&mut self, client: &mut ClientSession) {
        loop {
            let mut spoke = false;
            while let Some(bytes) = client.poll_output() {
                spoke = true;
                let shaking = self.handshake.is_some();
                let (answer, rest) = shake(&mut self.handshake, &bytes);
                self.out.extend(answer);
                if shaking && self.handshake.is_none() {
                    let greeting = std::mem::take(&mut self.greeting);
                    self.take(greeting);
                }
                let results = self.session.handle_input(&rest).unwrap();
                self.take(results);
            }
            let to_client = std::mem::take(&mut self.out);
            for part in to_client.chunks(700) {
                client.handle_bytes(part).unwrap();
            }
            if !spoke && to_client.is_empty() {
                return;
            }
        }
    }
}

fn config(mode: ClientMode) -> ClientConfig {
    ClientConfig::from_url(mode, "rtmp://127.0.0.1:1935/live/room?key=1").unwrap()
}

#[test]
fn we_publish_to_a_foreign_server() {
    let (mut server, mut client) = (ForeignServer::new(), ClientSession::new(config(ClientMode::Publish)));
    server.talk(&mut client);
    assert_eq!(client.poll_event(), Some(ClientEvent::Ready));
    assert!(server.events.iter().any(|event| matches!(event,
        ServerSessionEvent::PublishStreamRequested { app_name, stream_key, .. }
            if app_name == "live" && stream_key == "room?key=1")));

    server.events.clear();
    client.send(0, &video_config());
    client.send(20, &keyframe());
    client.send(30, &TagBody::audio_config(&AudioConfig::from_description(Codec::Opus, Bytes::new())));
    server.talk(&mut client);
    let received: Vec<_> = server
        .events
        .iter()
        .map(|event| match event {
            ServerSessionEvent::VideoDataReceived { timestamp, data, .. }
            | ServerSessionEvent::AudioDataReceived { timestamp, data, .. } => (timestamp.value, data.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(received, [(0, AVCC.len() + 5), (20, 150_005), (30, 5)]);

    client.close().unwrap();
    server.talk(&mut client);
    assert!(server.events.iter().any(|event| matches!(event, ServerSessionEvent::PublishStreamFinished { .. })));
}

#[test]
fn we_play_from_a_foreign_server() {
    let (mut server, mut client) = (ForeignServer::new(), ClientSession::new(config(ClientMode::Play)));
    server.talk(&mut client);
    assert_eq!(client.poll_event(), Some(ClientEvent::Ready));
    let stream_id = server
        .events
        .iter()
        .find_map(|event| match event {
            ServerSessionEvent::PlayStreamRequested { stream_id, .. } => Some(*stream_id),
            _ => None,
        })
        .unwrap();
    let metadata = StreamMetadata { audio_channels: Some(2), ..StreamMetadata::new() };
    let frame = whole(&keyframe());
    let packets = [
        server.session.send_metadata(stream_id, &metadata).unwrap(),
        server.session.send_video_data(stream_id, frame, RtmpTimestamp::new(77), false).unwrap(),
        server.session.finish_playing(stream_id).unwrap(),
    ];
    server.out.extend(packets.into_iter().flat_map(|packet| packet.bytes));
    server.talk(&mut client);
    assert!(matches!(client.poll_event(), Some(ClientEvent::Metadata(metadata)) if !metadata.is_empty()));
    let Some(ClientEvent::Media { timestamp: 77, tag: MediaTag::Frame { data, .. } }) = client.poll_event() else {
        panic!("a frame is missing")
    };
    assert_eq!(data.len(), 150_000);
    assert_eq!(client.poll_event(), Some(ClientEvent::Closed));
}

#[test]
fn our_two_ends_agree_on_data_messages() {
    let (mut server, mut client) = (ServerSession::new(), ClientSession::new(config(ClientMode::Publish)));
    let talk = |server: &mut ServerSession, client: &mut ClientSession| {
        for _ in 0..8 {
            std::iter::from_fn(|| client.poll_output()).for_each(|bytes| server.handle_bytes(&bytes).unwrap());
            std::iter::from_fn(|| server.poll_output()).for_each(|bytes| client.handle_bytes(&bytes).unwrap());
        }
    };
    talk(&mut server, &mut client);
    server.accept_publish().unwrap();
    talk(&mut server, &mut client);
    assert_eq!(client.poll_event(), Some(ClientEvent::Ready));
    events(&mut server);
    // rml_rtmp drops data messages, so this one has no foreign witness here.
    let event = script::LiveEvent { ts_ms: 5.0, replay: false, kind: script::LiveEventKind::Event, json: "{}" };
    client.send(5, &TagBody::script(event.encode()));
    client.send(6, &TagBody::script(script::on_metadata(&[("fps".to_owned(), Scalar::Number(30.0))])));
    talk(&mut server, &mut client);
    assert_eq!(
        events(&mut server),
        [
            ServerEvent::Data { timestamp: 5, amf0: event.encode() },
            ServerEvent::Metadata(vec![("fps".to_owned(), Scalar::Number(30.0))]),
        ]
    );
    client.close().unwrap();
    talk(&mut server, &mut client);
    assert_eq!(events(&mut server), [ServerEvent::Closed]);
}
