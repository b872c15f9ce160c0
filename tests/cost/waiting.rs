//! Viewers who are there before their publisher, over HTTP-FLV and RTMP.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use hawker::{
    clock,
    proto::rtmp::{ClientConfig, ClientMode, ClientSession},
};

use super::{Cost, KEY, anchor::Anchor, connect, server};

/// The bound for a viewer who waits over RTMP …
const RTMP_BYTES_MAX: usize = 8 * 1024;
/// … and over HTTP, whose connection keeps its buffers until it is answered.
const FLV_BYTES_MAX: usize = 24 * 1024;
const VIEWERS: usize = 200;
/// Under the load of a test run an order of magnitude more than alone.
const SERVED_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn f21_viewers_who_wait_cost_little_and_are_served_from_the_first_keyframe() {
    let quiet = server();
    let ask = |n| {
        let mut stream = connect(quiet.at.http, n);
        write!(stream, "GET /live/late.flv?token={KEY} HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
        stream
    };
    drop(ask(999));
    let cost = Cost::of("HTTP-FLV, before the publisher");
    let flv: Vec<_> = (0..VIEWERS).map(ask).collect();
    cost.each(VIEWERS, 256..=FLV_BYTES_MAX);

    drop(play(vec![connect(quiet.at.rtmp, 999)]));
    let cost = Cost::of("RTMP, before the publisher");
    let rtmp = play((0..VIEWERS).map(|n| connect(quiet.at.rtmp, n)).collect());
    cost.each(VIEWERS, 256..=RTMP_BYTES_MAX);

    let mut anchor = Anchor::publish(&format!("rtmp://{}/live/late?key={KEY}", quiet.at.rtmp)).expect("accepted");
    anchor.configure(1).expect("sent");
    let began = clock::now();
    anchor.picture(0, true).expect("sent");
    let mut waits: Vec<_> = flv.into_iter().chain(rtmp).map(|viewer| see_keyframe(viewer, began)).collect();
    waits.sort_unstable();
    println!("{} viewers served within {:?}, half of them within {:?}", waits.len(), waits[399], waits[200]);
    assert!(waits[399] <= SERVED_WITHIN, "{waits:?}");
}

/// Asks to play over all of them, up to where the server waits for the publisher and says nothing more.
fn play(mut streams: Vec<TcpStream>) -> Vec<TcpStream> {
    let url = format!("rtmp://localhost/live/late?token={KEY}");
    let session = || ClientSession::new(ClientConfig::from_url(ClientMode::Play, &url).expect("a URL"));
    let mut sessions: Vec<_> = streams.iter().map(|_| session()).collect();
    streams.iter().for_each(|stream| stream.set_nonblocking(true).expect("set"));
    let mut quiet_since = clock::now();
    while quiet_since.elapsed() < Duration::from_secs(1) {
        for (stream, session) in streams.iter_mut().zip(&mut sessions) {
            while let Some(bytes) = session.poll_output() {
                stream.write_all(&bytes).expect("written");
                quiet_since = clock::now();
            }
            let mut bytes = [0; 4096];
            if let Ok(read) = stream.read(&mut bytes) {
                assert!(read > 0, "closed");
                session.handle_bytes(&bytes[..read]).expect("RTMP");
            }
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    streams.iter().for_each(|stream| stream.set_nonblocking(false).expect("set"));
    streams
}

fn see_keyframe(mut viewer: TcpStream, began: clock::Instant) -> Duration {
    viewer.set_read_timeout(Some(SERVED_WITHIN)).expect("a timeout");
    let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
    while !seen.windows(6).any(|window| window == [0, 0, 0, 2, 0x65, 0x88]) {
        let read = viewer.read(&mut bytes).expect("a keyframe in time");
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&bytes[..read]);
    }
    began.elapsed()
}
