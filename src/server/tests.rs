//! A whole server, as `hawker serve` runs it.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::*;
use crate::{
    config::PlayPolicy,
    media::{Codec, Frame, StreamName, TrackKind, Tracks, VideoConfig},
    net::{
        access::{Asked, Denied, Grant},
        tls::Trust,
    },
    proto::rtmp::{ClientConfig, ClientMode, ClientSession},
};

#[tokio::test]
async fn a_stop_ends_flv_bodies_in_good_order_and_then_the_server() {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let data = tempfile::tempdir().expect("a directory");
    let mut config = Config { shards: 1, drain_secs: 0, data_dir: Some(data.path().into()), ..Config::default() };
    (config.rtmp.listen, config.http.listen, config.admin.listen, config.moq.listen) = (free, free, free, free);
    config.webrtc.listen = free;
    config.auth.play = PlayPolicy::Anyone;
    let server = Server::bind(config).expect("free ports");
    let (hub, stop, at) = (server.node.hub.clone(), server.stop(), server.addresses());
    let running = thread::spawn(move || server.run());

    let mut publisher = hub.publish(&"live/room".parse().expect("name")).expect("room");
    let description = Bytes::from_static(&[1, 0x64, 0, 0x1f]);
    let video = VideoConfig { codec: Codec::Avc, description, width: 16, height: 16 };
    publisher.set_tracks(Tracks { video: Some(video), ..Tracks::default() }).expect("current");
    let data = Bytes::from_static(b"key");
    let frame = Frame { track: TrackKind::Video, dts_us: 0, pts_us: 0, keyframe: true, data };
    publisher.push_frame(frame).expect("current");

    let _global = hub.publish(&"live/_global".parse().expect("name")).expect("room");
    let refused = reqwest::get(format!("http://{}/live/_global.flv", at.http)).await.expect("an answer");
    assert_eq!(refused.status(), 404);
    let mut answer = reqwest::get(format!("http://{}/live/room.flv", at.http)).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let first = answer.chunk().await.expect("open").expect("a first piece");
    assert!(first.starts_with(b"FLV"));
    stop.cancel();
    let rest = async { while answer.chunk().await.expect("an orderly end, not a cut").is_some() {} };
    timeout(Duration::from_secs(5), rest).await.expect("the body ends");
    let stopped = tokio::task::spawn_blocking(move || running.join());
    timeout(Duration::from_secs(5), stopped).await.expect("the server ends").expect("joined").expect("no panic");
}

/// Lets everybody in, and panics over who comes to `live/bad`.
struct Panics;

impl Access for Panics {
    fn ask<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Grant, Denied>> {
        assert_ne!(asked.stream.as_str(), "live/bad", "injected");
        Box::pin(async { Ok(Grant::default()) })
    }

    fn may_see(&self, _: &StreamName, _: Option<&str>) -> bool {
        true
    }

    fn edge<'a>(&'a self, token: &'a str, _: IpAddr) -> BoxFuture<'a, Result<Option<Grant>, Denied>> {
        assert_ne!(token, "bad", "injected");
        Box::pin(async { Ok(None) })
    }
}

/// Asks for `live/bad` until the server closes.
async fn ask_over_rtmp(address: SocketAddr, mode: ClientMode) {
    let url = format!("rtmp://{address}/live/bad?key=x");
    let mut client = ClientSession::new(ClientConfig::from_url(mode, &url).expect("good"));
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let mut buffer = vec![0; 4096];
    loop {
        while let Some(bytes) = client.poll_output() {
            stream.write_all(&bytes).await.expect("written");
        }
        match stream.read(&mut buffer).await {
            Ok(bytes @ 1..) => client.handle_bytes(&buffer[..bytes]).expect("the protocol"),
            _ => return,
        }
    }
}

#[tokio::test]
async fn a_session_that_panics_ends_alone_on_every_protocol() {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let data = tempfile::tempdir().expect("a directory");
    let mut config = Config { shards: 1, drain_secs: 0, data_dir: Some(data.path().into()), ..Config::default() };
    (config.rtmp.listen, config.http.listen, config.admin.listen, config.moq.listen) = (free, free, free, free);
    config.webrtc.listen = free;
    let mut server = Server::bind(config).expect("free ports");
    let node = Arc::get_mut(&mut server.node).expect("ours alone");
    node.access = Arc::new(Panics);
    let (metrics, keys) = (node.metrics.clone(), node.event_keys.clone());
    node.relay =
        Relay::new(node.hub.clone(), node.access.clone(), metrics, keys, node.patience, relay::EdgeProof::Token);
    let (hub, stop, at) = (node.hub.clone(), server.stop(), server.addresses());
    let trust = Trust::Pinned(vec![server.fingerprint()]);
    let running = thread::spawn(move || server.run());
    let mut publisher = hub.publish(&"live/good".parse().expect("name")).expect("room");
    let description = Bytes::from_static(&[1, 0x64, 0, 0x1f]);
    let video = VideoConfig { codec: Codec::Avc, description, width: 16, height: 16 };
    publisher.set_tracks(Tracks { video: Some(video), ..Tracks::default() }).expect("current");
    let mut push = |ms: i64| {
        let data = Bytes::from_static(b"key");
        let frame = Frame { track: TrackKind::Video, dts_us: ms * 1000, pts_us: ms * 1000, keyframe: true, data };
        publisher.push_frame(frame).expect("current");
    };
    push(0);
    let mut viewer = reqwest::get(format!("http://{}/live/good.flv", at.http)).await.expect("an answer");
    assert!(viewer.chunk().await.expect("open").is_some());

    let before = task::panics();
    for mode in [ClientMode::Publish, ClientMode::Play] {
        timeout(SOON, ask_over_rtmp(at.rtmp, mode)).await.expect("closed");
    }
    let client = reqwest::Client::new();
    for path in ["live/bad.flv", "whip/live/bad", "whep/live/bad"] {
        let url = format!("http://{}/{path}", at.http);
        let request = if path.ends_with("flv") { client.get(url) } else { client.post(url) };
        let answer = request.bearer_auth("x").header("content-type", "application/sdp").body("v=0").send();
        timeout(SOON, answer).await.expect("closed").expect_err("nobody answers");
    }
    let url = format!("moqt://127.0.0.1:{}/?token=bad", at.moq.port()).parse().expect("a URL");
    if let Ok(session) = relay::Client::connect(&url, &trust, 0).await {
        timeout(SOON, session.closed()).await.expect("closed");
    }
    assert!(task::panics() >= before + 6, "each is counted: {}", task::panics() - before);

    push(40);
    let more = timeout(SOON, viewer.chunk()).await.expect("it goes on").expect("open");
    assert!(more.is_some(), "who watches something else");
    let live = reqwest::get(format!("http://{}/livez", at.admin)).await.expect("an answer");
    assert_eq!(live.status(), 200);
    assert!(hub.get(&"live/bad".parse().expect("name")).is_none(), "nothing is left of it");
    stop.cancel();
    let stopped = tokio::task::spawn_blocking(move || running.join());
    timeout(SOON, stopped).await.expect("the server ends").expect("joined").expect("no panic");
}

const SOON: Duration = Duration::from_secs(10);
