//! Viewers in trouble: their own, and nobody else's.

mod half_open;
mod measured;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use hawker::{clock, limits::VIEWER_STALL_TIMEOUT};
use serde_json::json;
use socket2::SockRef;

use crate::common::{Cluster, FlvViewer, Process, wait_until};

const STREAM: &str = "live/room";

/// A synthetic publisher of 4 Mbit/s, 30 pictures a second, a keyframe each second.
fn publish(cluster: &Cluster, secs: u32) -> Process {
    let mut load = cluster.load();
    load.args(["--publish", &cluster.publish_url(STREAM), "--kbit-per-s", "4000", "--secs", &secs.to_string()]);
    let publisher = Process::spawn(&load);
    wait_until("the publisher is there", Duration::from_secs(10), || {
        cluster.metric("origin", "hawker_publishers{protocol=\"rtmp\"}") >= 1.0
    });
    publisher
}

#[test]
fn f5_a_viewer_who_stalls_goes_on_at_a_keyframe_with_every_event() {
    let cluster = Cluster::new();
    let _origin = cluster.serve("origin");
    let _publisher = publish(&cluster, 30);
    let url = cluster.flv_url("origin", STREAM);
    let (healthy, stalled) = (FlvViewer::watch(&url), FlvViewer::watch_held_short(&url));
    [&healthy, &stalled].iter().for_each(|viewer| viewer.wait_frames(15));
    let api = cluster.api();
    let mut ids = Vec::new();
    stalled.hold(true);
    // Longer than what all the buffers take, and the lag that is borne with.
    for n in 0..12 {
        let event = api.accept(&format!("streams/{STREAM}"), &json!({"type": "card.show", "data": {"n": n}}));
        ids.push(serde_json::from_str::<serde_json::Value>(&event).unwrap()["id"].as_str().unwrap().to_owned());
        healthy.wait_frames(15);
    }
    stalled.hold(false);
    let last = ids.last().unwrap();
    stalled.wait("the last event", |seen| seen.events.iter().any(|event| event.json.contains(last)).then_some(()));
    stalled.wait_frames(30);

    let (skips, broken) = stalled.look(|seen| (seen.skips, seen.broken));
    assert!(skips > 0, "nothing was left out: he was not stalled");
    assert_eq!(broken, 0, "pictures without their keyframe");
    for viewer in [&healthy, &stalled] {
        let told: Vec<_> = viewer.look(|seen| {
            let happened = seen.events.iter().filter(|event| !event.replay);
            happened.filter_map(|event| ids.iter().position(|id| event.json.contains(id))).collect()
        });
        assert_eq!(told, (0..ids.len()).collect::<Vec<_>>(), "each event once, in order");
    }
    assert_eq!(healthy.look(|seen| (seen.skips, seen.broken)), (0, 0), "the healthy one lost pictures");
}

#[test]
fn f5_a_viewer_who_takes_nothing_is_dropped_after_ten_seconds_and_one_who_takes_little_is_not() {
    let cluster = Cluster::new();
    let origin = cluster.serve("origin");
    let _publisher = publish(&cluster, 40);
    let mut little = request(&cluster);
    let nothing = request(&cluster);
    let began = clock::now();
    let dropped = || origin.stderr.all().iter().any(|line| line.contains("reason=\"stalled\""));
    while !dropped() {
        // Of 500 KB a second.
        little.read_exact(&mut [0; 16 * 1024]).expect("not dropped");
        assert!(began.elapsed() < VIEWER_STALL_TIMEOUT * 2, "who takes nothing was not dropped");
        std::thread::park_timeout(Duration::from_millis(500));
    }
    assert!(began.elapsed() >= VIEWER_STALL_TIMEOUT, "dropped after {:?}", began.elapsed());
    for _ in 0..4 {
        little.read_exact(&mut [0; 16 * 1024]).expect("not dropped");
        std::thread::park_timeout(Duration::from_millis(500));
    }
    assert_eq!(cluster.metric("origin", "hawker_sessions_total{protocol=\"flv\",reason=\"stalled\"}"), 1.0);
    assert_eq!(cluster.metric("origin", "hawker_viewers{protocol=\"flv\"}"), 1.0);
    drop(nothing);
}

/// A viewer whose kernel takes little in advance; his answer has begun.
fn request(cluster: &Cluster) -> TcpStream {
    let url = cluster.flv_url("origin", STREAM);
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    SockRef::from(&stream).set_recv_buffer_size(16 * 1024).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET /{path} HTTP/1.0\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1024]).unwrap();
    stream
}
