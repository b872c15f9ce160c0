//! What WebRTC peers that have not shown who they are may cost: heap for a request, and for a session nobody comes to.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};

use hawker::{
    clock,
    config::{Config, PublishKey, Role},
    limits,
    media::Codec,
    proto::{
        ice::{Client, Credentials, Path, Transport},
        sdp::{self, Local, Ssrcs},
        webrtc::{Channels, Ice, Identity, Peer},
    },
    secret::Digest,
    server::Server,
};
use peak_alloc::PeakAlloc;
use socket2::{Domain, Socket, Type};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The bound for a request whose body has not ended: the body, and the connection's buffer, which grows with it.
const POST_BYTES_MAX: usize = 128 * 1024;
/// The bound for a session that is not connected, in the middle of its handshake or before.
const SESSION_BYTES_MAX: usize = 32 * 1024;
/// Of each kind.
const PEERS: u8 = 100;
/// What a slow request has really sent; less means that this test tests nothing.
const BODY_BYTES: usize = 48 * 1024;

#[test]
fn peers_that_never_connect_cost_little_and_are_gone_in_time() {
    let address = start();
    let identity = identity();
    // What the first session needs once is not the cost of a session.
    begin(address, &identity, 99, true);
    settle();
    let before = HEAP.current_usage();
    let each = |before: usize| HEAP.current_usage().saturating_sub(before) / usize::from(PEERS);

    let slow: Vec<_> = (0..PEERS).map(|n| slow_post(address, n)).collect();
    settle();
    let cost = each(before);
    println!("unfinished request: {cost} bytes");
    assert!((BODY_BYTES..=POST_BYTES_MAX).contains(&cost), "{cost} bytes for a request that never ends");
    drop(slow);
    settle();

    for (what, with_hello) in [("answered", false), ("in its handshake", true)] {
        let before = HEAP.current_usage();
        let began = clock::now();
        for n in 0..PEERS {
            begin(address, &identity, n, with_hello);
        }
        settle();
        let cost = each(before);
        println!("session {what}: {cost} bytes");
        assert!((1024..=SESSION_BYTES_MAX).contains(&cost), "{cost} bytes for a session {what}");
        assert!(began.elapsed() < limits::WEBRTC_CONNECT_TIMEOUT, "too slow a machine for this test");
        while each(before) > 1024 {
            assert!(began.elapsed() < limits::WEBRTC_CONNECT_TIMEOUT * 3, "{} bytes stay behind", each(before));
            thread::park_timeout(Duration::from_millis(200));
        }
    }
}

/// A server in this process, so that its heap is ours to count.
fn start() -> SocketAddr {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let data = tempfile::tempdir().expect("a directory");
    let mut config = Config { role: Role::Origin, shards: 1, data_dir: Some(data.path().into()), ..Config::default() };
    (config.rtmp.listen, config.http.listen, config.moq.listen, config.webrtc.listen) = (any, any, any, any);
    config.admin.listen = SocketAddr::from(([127, 0, 0, 2], 0));
    config.auth.publish = vec![PublishKey { prefix: String::new(), key_sha256: Digest::of("key"), events: false }];
    let server = Server::bind(config).expect("free ports");
    let address = server.addresses().http;
    thread::spawn(move || server.run());
    address
}

fn identity() -> Arc<Identity> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let certificate = rcgen::CertificateParams::new(Vec::new()).expect("empty").self_signed(&key).expect("signed");
    Arc::new(Identity::new(certificate.der().to_vec(), key.serialize_der()).expect("an identity"))
}

/// Connects from an address of its own: strangers are also bounded per address.
fn connect(to: SocketAddr, n: u8) -> TcpStream {
    let from = SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, n + 1), 0);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::V4(from).into()).expect("loopback has 127/8");
    socket.connect(&to.into()).expect("accepted");
    socket.into()
}

fn head(bytes: usize) -> String {
    format!(
        "POST /whip/live/room HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nAuthorization: Bearer key\r\n\
         Connection: close\r\nContent-Length: {bytes}\r\n\r\n"
    )
}

fn slow_post(to: SocketAddr, n: u8) -> TcpStream {
    let mut stream = connect(to, n);
    stream.write_all(head(limits::SDP_BYTES_MAX).as_bytes()).expect("written");
    stream.write_all(&[b'x'; BODY_BYTES]).expect("written");
    stream
}

/// A session that is answered and, `with_hello`, checked and halfway through its handshake. What it costs on this end
/// is gone when this returns.
fn begin(to: SocketAddr, identity: &Arc<Identity>, n: u8, with_hello: bool) {
    let (ice, now) = (Credentials::random(), clock::now().into_std());
    let local = Local { ice, fingerprint: identity.fingerprint(), candidates: Vec::new(), session_id: 1 };
    let ssrcs = Ssrcs { video: 1, video_rtx: 2, audio: 3 };
    let offer = sdp::client::publish(&local, Some(Codec::Avc), Some(Codec::Opus), ssrcs);
    let mut stream = connect(to, n);
    stream.write_all([head(offer.len()), offer].concat().as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (status, answer) = answer.split_once("\r\n\r\n").expect("a whole answer");
    assert!(status.starts_with("HTTP/1.1 201"), "{status}");
    if !with_hello {
        return;
    }
    let transport = sdp::client::accept(answer).expect("read").transport;
    let remote = transport.candidates.first().expect("a way").address;
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    let path = Path { remote, local: socket.local_addr().expect("bound"), transport: Transport::Udp };
    let agent = Ice::Client(Client::new(now, &local.ice, &transport.ice, [path]));
    let mut peer = Peer::new(identity, agent, &transport, Channels::None, now);
    // The answer to the check, then the server's first flight, which nobody takes.
    let mut buffer = [0; 2048];
    for _ in 0..2 {
        peer.handle_timeout(clock::now().into_std());
        while let Some(datagram) = peer.poll_transmit() {
            socket.send_to(&datagram.bytes, remote).expect("sent");
        }
        let bytes = socket.recv(&mut buffer).expect("an answer");
        if let Some(check) = buffer.get_mut(..bytes).filter(|datagram| datagram.first() == Some(&1)) {
            peer.handle_datagram(clock::now().into_std(), path, check);
        }
    }
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
