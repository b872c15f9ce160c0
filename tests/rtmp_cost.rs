//! What peers that nobody has authorised may cost: heap a connection, time, and everybody else's service.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    thread,
    time::Duration,
};

use hawker::{
    clock,
    config::{Config, Role},
    server::Server,
};
use peak_alloc::PeakAlloc;
use socket2::{Domain, Socket, Type};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The bound for an accepted, silent connection.
const SILENT_BYTES_MAX: usize = 4 * 1024;
/// The bound before publish or play is accepted: 64 KiB in, 16 KiB out, and the session itself.
const SETUP_BYTES_MAX: usize = (64 + 16 + 16) * 1024;
/// What a greedy peer has really been kept waiting with; less means that this test tests nothing.
const GREEDY_BYTES: usize = 3 * 16_000;
/// Whoever isn't let in has this long.
const SETUP_TIME_MAX: Duration = Duration::from_secs(11);

#[test]
fn strangers_cost_little_and_are_gone_in_time() {
    let address = start();
    let before = HEAP.current_usage();

    let silent: Vec<_> = (0..500u16).map(|n| connect(address, (n / 50) as u8)).collect();
    settle();
    let each = (HEAP.current_usage().saturating_sub(before)) / silent.len();
    println!("silent connection: {each} bytes");
    assert!(each <= SILENT_BYTES_MAX, "{each} bytes for a silent connection");

    // As much as the limits let stay: a handshake, then messages that never end.
    let began = clock::now();
    let greedy: Vec<_> = (0..100u16).map(|n| greedy(address, 10 + (n / 50) as u8)).collect();
    settle();
    let with_greedy = HEAP.current_usage().saturating_sub(before + each * silent.len());
    let each = with_greedy / greedy.len();
    println!("greedy connection: {each} bytes");
    assert!((GREEDY_BYTES..=SETUP_BYTES_MAX).contains(&each), "{each} bytes for a greedy connection");

    for mut stream in silent.into_iter().chain(greedy) {
        stream.set_read_timeout(Some(SETUP_TIME_MAX)).expect("a timeout");
        // Whatever was answered is read away; the end must come.
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "still open: {error}"),
            Ok(bytes) => assert!(bytes <= 16 * 1024),
        }
    }
    assert!(began.elapsed() < SETUP_TIME_MAX + Duration::from_secs(3), "took {:?}", began.elapsed());
    settle();
    let left = HEAP.current_usage().saturating_sub(before);
    println!("left behind: {left} bytes");
    assert!(left < 1024 * 1024, "{left} bytes stay behind");
}

/// A server in this process, so that its heap is ours to count.
fn start() -> SocketAddr {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let data = tempfile::tempdir().expect("a directory");
    let mut config = Config { role: Role::Origin, shards: 1, data_dir: Some(data.path().into()), ..Config::default() };
    config.rtmp.listen = any;
    config.http.listen = any;
    config.admin.listen = SocketAddr::from(([127, 0, 0, 2], 0));
    config.moq.listen = any;
    config.webrtc.listen = any;
    let server = Server::bind(config).expect("free ports");
    let address = server.addresses().rtmp;
    thread::spawn(move || server.run());
    // What the first connection needs once is not the cost of a connection.
    drop(greedy(address, 99));
    settle();
    address
}

/// Connects from an address of its own group: strangers are also bounded per address.
fn connect(to: SocketAddr, group: u8) -> TcpStream {
    let from = SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, group + 1), 0);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::V4(from).into()).expect("loopback has 127/8");
    socket.connect(&to.into()).expect("accepted");
    socket.into()
}

fn greedy(to: SocketAddr, group: u8) -> TcpStream {
    let mut stream = connect(to, group);
    let mut c0c1 = vec![3; 1537];
    c0c1[1..9].fill(0);
    stream.write_all(&c0c1).expect("written");
    let mut s0s1s2 = vec![0; 3073];
    stream.read_exact(&mut s0s1s2).expect("answered");
    stream.write_all(&[0; 1536]).expect("written");
    // Set Chunk Size 16,000, then on each chunk stream the first chunk of a message of 16 KiB.
    stream.write_all(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0x3e, 0x80]).expect("written");
    for chunk_stream in 3..6 {
        let mut chunk = vec![chunk_stream, 0, 0, 0, 0, 0x40, 0, 20, 0, 0, 0, 0];
        chunk.resize(12 + 16_000, 0);
        stream.write_all(&chunk).expect("written");
    }
    stream
}

/// Waits until the heap stands still.
fn settle() {
    let mut last = 0;
    for _ in 0..100 {
        thread::park_timeout(Duration::from_millis(50));
        let now = HEAP.current_usage();
        if now == last {
            return;
        }
        last = now;
    }
}
