//! F11: floods of connections and of handshakes. They push out themselves; whoever has something to say is served.

use std::{
    io::{Read, Write},
    iter,
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use hawker::{clock, limits};
use rustls::{
    RootCertStore, Side,
    crypto::aws_lc_rs::{self, cipher_suite::TLS13_AES_128_GCM_SHA256},
    quic::{self, Version},
};

use crate::common::{Cluster, connect_from, is_closed, source, wait_until};

/// In which a real peer must be let in.
const ADMITTED_WITHIN: Duration = Duration::from_secs(1);
const IDLE_CONNECTIONS: usize = 10_000;
const INITIALS: usize = 100_000;
/// How many Initials may be without an answer: the receiver's buffer has room for some hundred.
const UNANSWERED_MAX: usize = 256;
/// How long an answer may take; what has none by then was lost.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(100);
/// Of the whole flood.
const FLOOD_TIMEOUT: Duration = Duration::from_secs(30);
const RSS_GROWTH_MAX: usize = 64 << 20;

#[test]
fn f11_idle_connections_push_out_each_other_and_real_ones_are_admitted() {
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    assert!(descriptors > 11_000, "only {descriptors} descriptors: not enough to open {IDLE_CONNECTIONS} connections");
    let cluster = Cluster::open();
    let origin = cluster.serve("origin");
    let (_push, viewer) = cluster.push_and_watch("live/room");
    let [rtmp, http] = cluster.doors();
    let mut idle: Vec<_> = (0..IDLE_CONNECTIONS / 2).map(|n| connect_from(source(n), rtmp)).collect();
    idle.extend((0..IDLE_CONNECTIONS / 2).map(|n| connect_from(source(n), http)));

    let began = clock::now();
    let mut publisher = TcpStream::connect(rtmp).unwrap();
    publisher.write_all(&[[3].as_slice(), &[0; 8], &[7; 1528]].concat()).unwrap();
    publisher.set_read_timeout(Some(ADMITTED_WITHIN)).unwrap();
    publisher.read_exact(&mut [0; 3073]).expect("the handshake's answer");
    let mut player = TcpStream::connect(http).unwrap();
    player.write_all(b"GET /live/room.flv HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    player.set_read_timeout(Some(ADMITTED_WITHIN)).unwrap();
    player.read_exact(&mut [0; 12]).expect("an answer");
    let took = began.elapsed();
    println!("admitted in {} ms while {IDLE_CONNECTIONS} were idle", took.as_millis());
    assert!(took < ADMITTED_WITHIN * 2, "{took:?}");

    // RTMP has 1,024 places, and two shards accept: the first half has gone, long before its time is up.
    let (first, _) = idle.split_at_mut(IDLE_CONNECTIONS / 4);
    wait_until("the oldest are closed", ADMITTED_WITHIN * 4, || first.iter_mut().all(is_closed));
    viewer.goes_on();
    assert!(origin.stderr.all().iter().all(|line| !line.contains("panicked")));
}

#[test]
fn f11_one_address_has_64_pending_connections_the_newest_ones() {
    let cluster = Cluster::open();
    let _origin = cluster.serve("origin");
    let [rtmp, _] = cluster.doors();
    let bound = limits::PENDING_CONNECTIONS_PER_ADDRESS_MAX;
    let mut ours: Vec<_> = (0..bound + 10).map(|_| connect_from(source(0), rtmp)).collect();
    let mut other = connect_from(source(1), rtmp);
    // Two shards accept them, so that their order is not quite ours.
    let mut closed = || ours.iter_mut().map(is_closed).filter(|closed| *closed).count();
    wait_until("the oldest ten are closed", limits::RTMP_FIRST_BYTE_TIMEOUT / 2, || closed() >= 10);
    assert_eq!(closed(), 10, "as many as may be stay");
    assert!(!is_closed(&mut other), "another address has places of its own");
}

#[test]
fn f11_a_hundred_thousand_initials_cost_little_memory_and_edges_get_in() {
    let cluster = Cluster::open();
    let origin = cluster.serve("origin");
    let (_push, viewer) = cluster.push_and_watch("live/room");
    let to = SocketAddr::from(([127, 0, 0, 1], cluster.port("origin") + 3));
    let (before, is_over) = (origin.rss(), Arc::new(AtomicBool::new(false)));
    let flood = {
        let is_over = is_over.clone();
        thread::spawn(move || {
            let answered = flood_with_initials(to);
            is_over.store(true, Ordering::Relaxed);
            answered
        })
    };
    // In the middle of it.
    thread::park_timeout(Duration::from_millis(300));
    let began = clock::now();
    let _edge = cluster.serve_edge("edge");
    println!("an edge was let in within {} ms", began.elapsed().as_millis());
    let mut peak = origin.rss();
    while !is_over.load(Ordering::Relaxed) {
        peak = peak.max(origin.rss());
        thread::park_timeout(Duration::from_millis(20));
    }
    let (answered, growth) = (flood.join().unwrap(), peak.saturating_sub(before));
    println!("{INITIALS} Initials, {answered} answered: {} KiB more", growth >> 10);
    assert!(answered > INITIALS / 2, "most were lost on the way, or there was no time for them: {answered}");
    assert!(growth <= RSS_GROWTH_MAX, "{growth} bytes more");
    viewer.goes_on();
}

/// Sends Initials of as many connections, from many addresses, as fast as they are answered, and goes no further with
/// any of them. How many datagrams came back.
fn flood_with_initials(to: SocketAddr) -> usize {
    let (began, hello) = (clock::now(), client_hello());
    let sockets: Vec<_> = (0..500).map(|n| UdpSocket::bind((source(n), 0)).unwrap()).collect();
    sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
    let (mut answered, mut lost) = (0, 0);
    let answers =
        || sockets.iter().map(|socket| iter::from_fn(|| socket.recv(&mut [0; 2048]).ok()).count()).sum::<usize>();
    for n in 0..INITIALS {
        // What the kernel has no room for is lost, as anywhere.
        let _ = sockets[n % sockets.len()].send_to(&initial(&u64::try_from(n).unwrap().to_be_bytes(), &hello), to);
        let full = clock::now();
        while n.saturating_sub(answered + lost) > UNANSWERED_MAX {
            answered += answers();
            if full.elapsed() > ANSWER_TIMEOUT {
                lost += UNANSWERED_MAX;
            }
        }
        if began.elapsed() > FLOOD_TIMEOUT {
            break;
        }
    }
    answered + answers()
}

/// Our name in all of them: it has to be in the hello, too.
const SOURCE_ID: [u8; 8] = *b"stranger";

fn client_hello() -> Vec<u8> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = config.unwrap().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = vec![b"h3".to_vec()];
    // initial_source_connection_id (RFC 9000 §18.2).
    let parameters = [[0x0f, 8].as_slice(), &SOURCE_ID].concat();
    let name = "localhost".try_into().unwrap();
    let mut client = quic::ClientConnection::new(Arc::new(config), Version::V1, name, parameters).unwrap();
    let mut hello = Vec::new();
    client.write_hs(&mut hello);
    hello
}

/// A whole, protected Initial (RFC 9001 §5) to a connection of this name.
fn initial(destination: &[u8; 8], hello: &[u8]) -> Vec<u8> {
    const BYTES: usize = 1200;
    const TAG: usize = 16;
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap().quic_suite().unwrap();
    let keys = suite.keys(destination, Side::Client, Version::V1).local;
    let two_bytes = |length: usize| (0x4000 | u16::try_from(length).unwrap()).to_be_bytes();
    let mut header = vec![0xc1, 0, 0, 0, 1, 8];
    header.extend_from_slice(destination);
    header.push(8);
    header.extend_from_slice(&SOURCE_ID);
    header.push(0);
    let number_at = header.len() + 2;
    header.extend_from_slice(&two_bytes(BYTES - number_at));
    header.extend_from_slice(&[0, 0]);
    let mut payload = vec![6, 0];
    payload.extend_from_slice(&two_bytes(hello.len()));
    payload.extend_from_slice(hello);
    payload.resize(BYTES - TAG - header.len(), 0);
    let tag = keys.packet.encrypt_in_place(0, &header, &mut payload).unwrap();
    let mut packet = [header.as_slice(), &payload, tag.as_ref()].concat();
    let sample = packet[number_at + 4..number_at + 20].to_vec();
    let (first, rest) = packet.split_at_mut(1);
    keys.header.encrypt_in_place(&sample, &mut first[0], &mut rest[number_at - 1..number_at + 1]).unwrap();
    packet
}
