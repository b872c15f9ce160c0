//! F15 and F16: what a node does without when memory or descriptors run out.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use hawker::{clock, limits};
use serde_json::json;

use super::{
    common::{Answer, Cluster, Process, hawker, status},
    floods::{cluster, connect_from, goes_on, is_closed, ports, rss, source, watch},
};

/// `hawker serve` for the origin, with so few descriptors.
fn serve_with_descriptors(cluster: &Cluster, limit: u32) -> Process {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {limit}; exec \"$0\" serve --config \"$1\"");
    command.args(["-c", &script]).arg(hawker().get_program()).arg(cluster.path().join("origin.toml"));
    let process = Process::spawn(&command);
    process.stderr.wait_line("listening");
    process
}

/// A viewer who is served; `None` if he was not let in.
fn join(http: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(http).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET /live/room.flv HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    head.ends_with(b"200").then_some(stream)
}

#[test]
fn f16_without_descriptors_sessions_journal_and_operators_go_on() {
    let cluster = cluster();
    let origin = serve_with_descriptors(&cluster, 160);
    let (_push, viewer) = watch(&cluster);
    let [_, http] = ports(&cluster);
    let mut viewers: Vec<_> = std::iter::from_fn(|| join(http)).take(200).collect();
    assert!((20..160).contains(&viewers.len()), "{} viewers", viewers.len());
    origin.stderr.wait_line("no file descriptor is left");
    println!("{} viewers of 160 descriptors", viewers.len());

    for _ in 0..3 {
        assert!(join(http).is_none(), "closed at once");
        assert_eq!(cluster.status("origin", "/readyz"), 200);
    }
    cluster.api().accept("streams/live/room", &json!({"type": "gift.send"}));
    goes_on(&viewer);

    viewers.truncate(viewers.len() - 5);
    let began = clock::now();
    while join(http).is_none() {
        assert!(began.elapsed() < Duration::from_secs(2), "nobody is let in");
        thread::park_timeout(Duration::from_millis(20));
    }
    println!("let in again after {} ms", began.elapsed().as_millis());
    assert!(origin.stderr.all().iter().all(|line| !line.contains("accept paused")), "it never came to that");
}

#[test]
fn f15_short_of_memory_nobody_new_is_let_in_and_who_is_there_stays() {
    let cluster = cluster();
    let needed = {
        let origin = cluster.serve("origin");
        let _running = watch(&cluster);
        rss(origin.pid())
    };
    let memory_max = (needed / 2 * 3).max(64 << 20);
    let file = cluster.path().join("origin.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("memory_max = {memory_max}\n{config}")).unwrap();
    let origin = cluster.serve("origin");
    let (_push, viewer) = watch(&cluster);
    let [rtmp, http] = ports(&cluster);
    drop(join(http).expect("there is room"));

    // As much as strangers may cost, from nearly as many of them as there may be.
    let strangers: Vec<_> = (0..limits::PENDING_CONNECTIONS_MAX - 100).map(|n| greedy(rtmp, n)).collect();
    origin.stderr.wait_line("nor are further publishers let in");
    println!("{} KiB of {}", rss(origin.pid()) >> 10, memory_max >> 10);
    let mut refused = TcpStream::connect(http).unwrap();
    refused.write_all(b"GET /live/room.flv HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let refused = Answer::read(&mut refused);
    assert_eq!(refused.status, 503, "{}", refused.body);
    let other = cluster.push("live/other");
    other.stderr.wait_line("no room");
    goes_on(&viewer);
    let metrics = format!("http://127.0.0.1:{}/metrics", cluster.port("origin") + 2);
    assert_eq!(status(&metrics), 200);

    drop(strangers);
    goes_on(&viewer);
}

/// A peer that keeps the node waiting for the end of three messages.
fn greedy(to: SocketAddr, n: usize) -> TcpStream {
    let mut stream = connect_from(source(n), to);
    let handshake = [[3].as_slice(), &[0; 8], &[7; 1528]].concat();
    stream.write_all(&handshake).unwrap();
    stream.read_exact(&mut [0; 3073]).unwrap();
    let mut bytes = vec![0; 1536];
    bytes.extend_from_slice(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0x3e, 0x80]);
    for chunk_stream in 3..6 {
        bytes.extend_from_slice(&[chunk_stream, 0, 0, 0, 0, 0x40, 0, 20, 0, 0, 0, 0]);
        bytes.resize(bytes.len() + 16_000, 0);
    }
    stream.write_all(&bytes).unwrap();
    assert!(!is_closed(&mut stream));
    stream.set_nonblocking(false).unwrap();
    stream
}
