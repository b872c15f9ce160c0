//! A whole server, as `hawker serve` runs it.

use std::{net::SocketAddr, thread, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use super::*;
use crate::{
    config::PlayPolicy,
    media::{Codec, Frame, TrackKind, Tracks, VideoConfig},
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
