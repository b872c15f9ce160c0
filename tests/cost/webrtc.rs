//! WHIP: requests that never end, and sessions that nobody comes to.

use std::{
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use hawker::{
    clock, limits,
    media::Codec,
    proto::{
        ice::{Client, Credentials, Path, Transport},
        sdp::{self, Local, Ssrcs},
        webrtc::{Channels, Ice, Identity, Peer},
    },
};

use super::{Cost, KEY, connect, http::unfinished, server};

/// The bound for a request whose body has not ended.
const POST_BYTES_MAX: usize = 64 * 1024;
/// The bound for a session that is not connected, in the middle of its handshake or before.
const SESSION_BYTES_MAX: usize = 32 * 1024;
/// Of each kind.
const PEERS: usize = 100;

#[test]
fn a_webrtc_peer_that_never_connects_costs_little_and_is_gone_in_time() {
    let quiet = server();
    let (to, identity) = (quiet.at.http, identity());
    // What the first session needs once is not the cost of a session.
    begin(to, &identity, 999, true);
    let cost = Cost::of("WHIP, a body that doesn't end");
    let whole = limits::SDP_BYTES_MAX;
    let slow: Vec<_> = (0..PEERS).map(|n| unfinished(connect(to, n), head(whole), whole - 1)).collect();
    cost.each(PEERS, whole - 1..=POST_BYTES_MAX);
    cost.gone(slow, limits::WEBRTC_BODY_TIMEOUT);

    for (what, with_hello) in [("WHIP, answered", false), ("WHIP, in its handshake", true)] {
        let cost = Cost::of(what);
        (0..PEERS).for_each(|n| begin(to, &identity, n, with_hello));
        cost.each(PEERS, 1024..=SESSION_BYTES_MAX);
        cost.forgotten(PEERS, limits::WEBRTC_CONNECT_TIMEOUT);
    }
}

fn identity() -> Arc<Identity> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let certificate = rcgen::CertificateParams::new(Vec::new()).expect("empty").self_signed(&key).expect("signed");
    Arc::new(Identity::new(certificate.der().to_vec(), key.serialize_der()).expect("an identity"))
}

fn head(bytes: usize) -> String {
    format!(
        "POST /whip/live/room HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nAuthorization: Bearer {KEY}\r\n\
         Connection: close\r\nContent-Length: {bytes}\r\n\r\n"
    )
}

/// A session that is answered and, `with_hello`, checked and halfway through its handshake. What it costs on this end
/// is gone when this returns.
fn begin(to: SocketAddr, identity: &Arc<Identity>, n: usize, with_hello: bool) {
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
