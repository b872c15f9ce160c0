//! F15 and F16: what a node does without when memory or descriptors run out.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    iter,
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use hawker::limits;
use serde_json::json;

use crate::common::{Answer, Cluster, Process, connect_from, hawker, is_closed, source, status, text, wait_until};

/// In which a viewer has an answer, or sees that he gets none.
const JOIN_MAX: Duration = Duration::from_secs(1);

/// `hawker serve` for the origin, with so few descriptors.
fn serve_with_descriptors(cluster: &Cluster, limit: u32) -> Process {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {limit}; exec \"$0\" serve --config \"$1\"");
    command.args(["-c", &script]).arg(hawker().get_program()).arg(cluster.path().join("origin.toml"));
    let process = Process::spawn(&command);
    process.stderr.wait_line("listening");
    process
}

/// A viewer who is served.
fn join(http: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(JOIN_MAX)).unwrap();
    stream.write_all(b"GET /live/room.flv HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    if head.ends_with(b"200") { Ok(stream) } else { Err(io::Error::other(text(&head))) }
}

/// True if the node closed it by itself: an answer that doesn't come in time is something else.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

#[test]
fn f16_without_descriptors_sessions_journal_and_operators_go_on() {
    let cluster = Cluster::open();
    let origin = serve_with_descriptors(&cluster, 160);
    let (_push, viewer) = cluster.push_and_watch("live/room");
    let [_, http] = cluster.doors();
    let mut refused = None;
    let joining = iter::from_fn(|| join(http).map_err(|error| refused = Some(error)).ok());
    let mut viewers: Vec<_> = joining.take(200).collect();
    assert!(refused.as_ref().is_some_and(is_end), "{refused:?}");
    assert!((20..160).contains(&viewers.len()), "{} viewers", viewers.len());
    origin.stderr.wait_line("no file descriptor is left");
    println!("{} viewers of 160 descriptors", viewers.len());

    for _ in 0..3 {
        let refused = join(http).expect_err("there is no place");
        assert!(is_end(&refused), "not closed at once: {refused}");
        assert_eq!(cluster.status("origin", "/readyz"), 200);
    }
    cluster.api().accept("streams/live/room", &json!({"type": "gift.send"}));
    viewer.goes_on();

    viewers.truncate(viewers.len() - 5);
    let took = wait_until("somebody is let in", JOIN_MAX * 2, || join(http).is_ok());
    println!("let in again after {} ms", took.as_millis());
    assert!(took <= JOIN_MAX * 2, "{took:?}");
    assert!(origin.stderr.all().iter().all(|line| !line.contains("accept paused")), "it never came to that");
}

#[test]
fn f15_short_of_memory_nobody_new_is_let_in_and_who_is_there_stays() {
    let cluster = Cluster::open();
    let needed = {
        let origin = cluster.serve("origin");
        let _running = cluster.push_and_watch("live/room");
        origin.rss()
    };
    let memory_max = (needed / 2 * 3).max(64 << 20);
    let file = cluster.path().join("origin.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("memory_max = {memory_max}\n{config}")).unwrap();
    let origin = cluster.serve("origin");
    let (_push, viewer) = cluster.push_and_watch("live/room");
    let [rtmp, http] = cluster.doors();
    drop(join(http).expect("there is room"));

    // As much as strangers may cost, from nearly as many of them as there may be.
    let strangers: Vec<_> = (0..limits::PENDING_CONNECTIONS_MAX - 100).map(|n| greedy(rtmp, n)).collect();
    origin.stderr.wait_line("nor are further publishers let in");
    println!("{} KiB of {}", origin.rss() >> 10, memory_max >> 10);
    let mut refused = TcpStream::connect(http).unwrap();
    refused.write_all(b"GET /live/room.flv HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let refused = Answer::read(&mut refused);
    assert_eq!(refused.status, 503, "{}", refused.body);
    let other = cluster.push("live/other");
    other.stderr.wait_line("no room");
    viewer.goes_on();
    let metrics = format!("http://127.0.0.1:{}/metrics", cluster.port("origin") + 2);
    assert_eq!(status(&metrics), 200);

    drop(strangers);
    viewer.goes_on();
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
