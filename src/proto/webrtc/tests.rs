//! Two peers joined in memory, in virtual time: they connect whatever single datagram is lost, and nobody else can
//! make them do anything.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{peer::Media, *};
use crate::{
    limits,
    net::tls::session_certificate,
    proto::{
        ice::{Client, Credentials, Lite, Path, Transport as Carrier, stun},
        sdp::{Setup, Transport},
    },
};

static SERVER: LazyLock<Arc<Identity>> = LazyLock::new(identity);
static CLIENT: LazyLock<Arc<Identity>> = LazyLock::new(identity);

fn identity() -> Arc<Identity> {
    let (certificate, key) = session_certificate().unwrap();
    Arc::new(Identity::new(certificate, key).unwrap())
}

#[allow(clippy::disallowed_methods, reason = "any origin will do")]
fn origin() -> Instant {
    Instant::now()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The client's way to the server.
fn way() -> Path {
    Path { remote: address("192.0.2.1:443"), local: address("198.51.100.2:5000"), transport: Carrier::Udp }
}

/// A way as the other end sees it.
fn reversed(path: Path) -> Path {
    Path { remote: path.local, local: path.remote, ..path }
}

/// The way from another client's port.
fn way_of(port: u16) -> Path {
    let mut path = reversed(way());
    path.remote.set_port(port);
    path
}

fn transport(ice: &Credentials, of: &Identity, setup: Setup) -> Transport {
    Transport { ice: ice.clone(), ice_lite: false, fingerprint: of.fingerprint(), setup, candidates: Vec::new() }
}

/// A client, a server, and what is between them.
struct Pair {
    client: Peer,
    server: Peer,
    now: Instant,
    to_server: VecDeque<Vec<u8>>,
    to_client: VecDeque<Vec<u8>>,
    /// Datagrams sent so far, both ways.
    sent: usize,
    /// Which of them is lost.
    lost: Option<usize>,
    said_by_client: Vec<PeerEvent>,
    said_by_server: Vec<PeerEvent>,
    /// Media that the server opened.
    opened: Vec<Vec<u8>>,
    credentials: [Credentials; 2],
}

impl Pair {
    fn new() -> Self {
        Self::of(&SERVER, &SERVER, &CLIENT, Setup::ActPass)
    }

    /// `claimed` is who the client believes the server to be; `setup` what the client offers.
    fn of(server: &Arc<Identity>, claimed: &Identity, client: &Arc<Identity>, setup: Setup) -> Self {
        let (now, theirs, ours) = (origin(), Credentials::random(), Credentials::random());
        let server_ice = Ice::Lite(Lite::new(&ours, &theirs));
        let client_ice = Ice::Client(Client::new(now, &theirs, &ours, [way()]));
        let offered = transport(&theirs, &CLIENT, setup);
        let answered = transport(&ours, claimed, setup.answered());
        Self {
            client: Peer::new(client, client_ice, &answered, Channels::Opened("live-events"), now),
            server: Peer::new(server, server_ice, &offered, Channels::Taken, now),
            now,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            sent: 0,
            lost: None,
            said_by_client: Vec::new(),
            said_by_server: Vec::new(),
            opened: Vec::new(),
            credentials: [theirs, ours],
        }
    }

    /// Takes what both have to send and to say.
    fn collect(&mut self) {
        let ends = [(&mut self.client, &mut self.to_server), (&mut self.server, &mut self.to_client)];
        for (peer, wire) in ends {
            while let Some(datagram) = peer.poll_transmit() {
                assert!(datagram.bytes.len() <= 1200, "a datagram that not every path carries");
                if self.lost != Some(self.sent) {
                    wire.push_back(datagram.bytes);
                }
                self.sent += 1;
            }
        }
        self.said_by_client.extend(std::iter::from_fn(|| self.client.poll_event()));
        self.said_by_server.extend(std::iter::from_fn(|| self.server.poll_event()));
    }

    /// One datagram to the server along the client's way, whoever wrote it.
    fn inject(&mut self, datagram: &[u8]) {
        self.inject_by(reversed(way()), datagram);
    }

    fn inject_by(&mut self, path: Path, datagram: &[u8]) {
        let mut bytes = datagram.to_vec();
        let media = self.server.handle_datagram(self.now, path, &mut bytes);
        if let Some(Media::Rtp(packet) | Media::Rtcp(packet)) = media {
            self.opened.push(packet.to_vec());
        }
    }

    /// Delivers what is on the way; false if nothing is.
    fn deliver(&mut self) -> bool {
        self.collect();
        let (there, back) = (self.to_server.pop_front(), self.to_client.pop_front());
        if let Some(datagram) = &there {
            self.inject(datagram);
        }
        if let Some(mut datagram) = back.clone() {
            self.client.handle_datagram(self.now, way(), &mut datagram);
        }
        self.collect();
        there.is_some() || back.is_some()
    }

    /// Lets time pass to the next deadline before `end`; false if there is none.
    fn pass(&mut self, end: Instant) -> bool {
        let due = [self.client.poll_timeout(), self.server.poll_timeout()].into_iter().flatten().min();
        let Some(due) = due.filter(|due| *due <= end) else { return false };
        self.now = self.now.max(due) + Duration::from_millis(1);
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
        true
    }

    /// Runs until `is_done`; false if it isn't within `seconds`.
    fn run(&mut self, seconds: u64, is_done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + Duration::from_secs(seconds);
        for _ in 0..100_000 {
            if is_done(self) {
                return true;
            }
            if !self.deliver() && !self.pass(end) {
                return is_done(self);
            }
        }
        panic!("it goes on and on");
    }

    /// Until the data channel stands, which is the last thing that comes about.
    fn connects(&mut self) -> bool {
        self.run(9, |pair| pair.channel().is_some())
    }

    fn connected() -> Self {
        let mut pair = Self::new();
        assert!(pair.connects(), "{:?} {:?}", pair.said_by_client, pair.said_by_server);
        while pair.deliver() {}
        pair
    }

    /// The channel, once both ends have it.
    fn channel(&self) -> Option<u16> {
        let find = |said: &[PeerEvent]| {
            said.iter().find_map(|event| match event {
                PeerEvent::ChannelOpen { id, label } if label == "live-events" => Some(*id),
                _ => None,
            })
        };
        find(&self.said_by_client).filter(|id| find(&self.said_by_server) == Some(*id))
    }

    /// A check as the client would write it.
    fn check(&self) -> Vec<u8> {
        let [theirs, ours] = &self.credentials;
        check(&format!("{}:{}", ours.ufrag, theirs.ufrag), &ours.pwd)
    }

    /// Delivers until the client has sent its ClientHello; gives that instead of delivering it.
    fn hello(&mut self) -> Vec<u8> {
        for _ in 0..100 {
            self.collect();
            if let Some(at) = self.to_server.iter().position(|datagram| datagram.first() == Some(&22)) {
                return self.to_server.remove(at).unwrap();
            }
            self.deliver();
            self.pass(self.now + Duration::from_secs(1));
        }
        panic!("no ClientHello");
    }

    /// What the server answers, if anything.
    fn answer(&mut self) -> Option<Vec<u8>> {
        self.server.poll_transmit().map(|datagram| datagram.bytes)
    }
}

fn check(username: &str, pwd: &str) -> Vec<u8> {
    let request =
        stun::Request { transaction: rand::random(), username, priority: 1, tie_breaker: 2, use_candidate: true };
    request.write(&stun::integrity_key(pwd))
}

/// The same ClientHello as another would send it: its random is what tells them apart.
fn strange(hello: &[u8]) -> Vec<u8> {
    let mut strange = hello.to_vec();
    strange[13 + 12 + 2..][..32].fill(0x5a);
    strange
}

fn rtp(sequence: u8) -> Vec<u8> {
    [&[0x80, 96, 0, sequence, 0, 0, 0, 1, 0, 0, 0, 7][..], b"a picture"].concat()
}

fn sealed_rtp(peer: &mut Peer, sequence: u8) -> Vec<u8> {
    let mut packet = rtp(sequence);
    peer.sealer().unwrap().seal_rtp(&mut packet, 0, 12).unwrap();
    packet
}

fn sealed_rtcp(peer: &mut Peer) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1, 0, 0, 0, 7];
    peer.sealer().unwrap().seal_rtcp(&mut packet, 0).unwrap();
    packet
}

fn end_of(said: &[PeerEvent]) -> Option<Over> {
    said.iter().find_map(|event| if let PeerEvent::Over(why) = event { Some(*why) } else { None })
}

#[test]
fn peers_connect_and_exchange_media_and_texts_until_one_closes() {
    for setup in [Setup::ActPass, Setup::Active, Setup::Passive] {
        let mut pair = Pair::of(&SERVER, &SERVER, &CLIENT, setup);
        assert!(pair.connects(), "{setup:?}: {:?} {:?}", pair.said_by_client, pair.said_by_server);
        let id = pair.channel().unwrap();
        assert_eq!(
            (pair.said_by_client.first(), pair.said_by_server.first()),
            (Some(&PeerEvent::Connected), Some(&PeerEvent::Connected))
        );

        let packet = sealed_rtp(&mut pair.client, 1);
        assert!(!packet.windows(9).any(|window| window == b"a picture"), "sealed");
        pair.inject(&packet);
        let packet = sealed_rtcp(&mut pair.client);
        pair.inject(&packet);
        assert_eq!(pair.opened, [rtp(1), vec![0x80, 201, 0, 1, 0, 0, 0, 7]]);
        let mut packet = sealed_rtp(&mut pair.server, 2);
        assert_eq!(pair.client.handle_datagram(pair.now, way(), &mut packet), Some(Media::Rtp(&rtp(2))));

        assert!(pair.client.send_text(pair.now, id, b"hello") && pair.server.send_text(pair.now, id, &[b'x'; 5000]));
        let said = |said: &[PeerEvent], text: &[u8]| {
            said.iter().any(|event| matches!(event, PeerEvent::Message { data, .. } if data == text))
        };
        let both = |pair: &Pair| said(&pair.said_by_server, b"hello") && said(&pair.said_by_client, &[b'x'; 5000]);
        assert!(pair.run(5, both), "{setup:?}: {:?}", pair.said_by_client);

        pair.client.close(pair.now);
        assert!(pair.run(1, |pair| end_of(&pair.said_by_server) == Some(Over::Closed)), "{:?}", pair.said_by_server);
    }
}

#[test]
fn whatever_single_datagram_is_lost_they_connect() {
    let needed = Pair::connected().sent;
    assert!(needed > 8, "a handshake and an association");
    for lost in 0..needed {
        let mut pair = Pair::new();
        pair.lost = Some(lost);
        assert!(pair.connects(), "without datagram {lost}: {:?} {:?}", pair.said_by_client, pair.said_by_server);
    }
}

#[test]
fn a_wrong_certificate_ends_the_session_and_carries_no_media() {
    let other = identity();
    // Somebody else answers in the server's place.
    let mut pair = Pair::of(&other, &SERVER, &CLIENT, Setup::ActPass);
    assert!(pair.run(9, |pair| end_of(&pair.said_by_client).is_some()));
    assert_eq!(end_of(&pair.said_by_client), Some(Over::WrongCertificate));
    assert!(!pair.said_by_client.contains(&PeerEvent::Connected) && pair.client.sealer().is_none());
    // Somebody else comes in the client's place, in either role.
    for setup in [Setup::ActPass, Setup::Passive] {
        let mut pair = Pair::of(&SERVER, &SERVER, &other, setup);
        assert!(pair.run(9, |pair| end_of(&pair.said_by_server).is_some()));
        assert_eq!(end_of(&pair.said_by_server), Some(Over::WrongCertificate), "{setup:?}");
        assert!(!pair.said_by_server.contains(&PeerEvent::Connected) && pair.server.sealer().is_none());
        if pair.client.sealer().is_some() {
            let packet = sealed_rtp(&mut pair.client, 1);
            pair.inject(&packet);
        }
        assert!(pair.opened.is_empty());
    }
}

#[test]
fn forged_checks_are_not_answered_and_open_no_way() {
    let mut pair = Pair::new();
    let [theirs, ours] = pair.credentials.clone();
    let username = format!("{}:{}", ours.ufrag, theirs.ufrag);
    let whole = check(&username, &ours.pwd);
    let mut conflict = whole.clone();
    // Another attribute in place of ICE-CONTROLLING: the peer claims to be controlled (RFC 8445 §7.3.1.1).
    let at = conflict.windows(4).position(|window| window == [0x80, 0x2a, 0, 8]).unwrap();
    conflict[at + 1] = 0x29;
    for forged in [
        check(&username, "another password"),
        check(&username, &theirs.pwd),
        check(&format!("{}:guessed", ours.ufrag), &ours.pwd),
        check(&format!("guessed:{}", theirs.ufrag), &ours.pwd),
        whole[..whole.len() - 8].to_vec(),
        conflict,
        stun::write_success(&[1; 12], way().remote, &stun::integrity_key(&ours.pwd)),
        whole[..20].to_vec(),
        vec![0; 20],
        vec![1; 1500],
        Vec::new(),
    ] {
        pair.inject(&forged);
        assert!(pair.answer().is_none(), "{forged:02x?}");
    }
    assert!(pair.server.path().is_none() && !pair.server.is_valid(&reversed(way())));
    pair.inject(&whole);
    assert!(pair.answer().is_some() && pair.server.path().is_some(), "the authentic one is");
}

#[test]
fn nothing_but_checks_is_heard_from_an_unchecked_address() {
    let mut pair = Pair::new();
    let hello = pair.hello();
    let elsewhere = way_of(6000);
    pair.inject_by(elsewhere, &hello);
    pair.inject_by(Path { transport: Carrier::Tcp, ..reversed(way()) }, &hello);
    assert!(pair.answer().is_none(), "a ClientHello from elsewhere");
    pair.inject(&hello);
    assert!(pair.answer().is_some(), "the same from where the check came");
}

#[test]
fn a_stray_hello_with_the_clients_address_does_not_keep_him_out() {
    let mut pair = Pair::new();
    let hello = pair.hello();
    pair.inject(&strange(&hello));
    // What answers it comes to a client who has not begun, so he drops it.
    while pair.answer().is_some() {}
    pair.now += Duration::from_millis(150);
    pair.inject(&hello);
    assert!(pair.connects(), "before his own: {:?} {:?}", pair.said_by_client, pair.said_by_server);

    // While the server's answer is on its way, or the client's second flight.
    for deliveries in 0..6 {
        let mut pair = Pair::new();
        let hello = pair.hello();
        pair.inject(&hello);
        for _ in 0..deliveries {
            pair.deliver();
        }
        pair.inject(&strange(&hello));
        assert!(pair.connects(), "after {deliveries}: {:?} {:?}", pair.said_by_client, pair.said_by_server);
    }
}

#[test]
fn strangers_with_the_clients_address_end_nothing_that_is_connected() {
    let mut pair = Pair::new();
    let hello = pair.hello();
    pair.inject(&hello);
    assert!(pair.connects());
    while pair.deliver() {}
    let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40].to_vec();
    let mut encrypted_alert = alert.clone();
    encrypted_alert[4] = 1;
    for stray in [hello.clone(), strange(&hello), alert, encrypted_alert, vec![23; 100], vec![22; 13], vec![0xfe; 40]] {
        pair.inject(&stray);
        pair.deliver();
        assert_eq!(end_of(&pair.said_by_server), None, "{stray:02x?}");
    }
    let packet = sealed_rtp(&mut pair.client, 1);
    pair.inject(&packet);
    assert_eq!(pair.opened, [rtp(1)]);
    let id = pair.channel().unwrap();
    assert!(pair.client.send_text(pair.now, id, b"still there"));
    let came = |pair: &Pair| pair.said_by_server.iter().any(|event| matches!(event, PeerEvent::Message { .. }));
    assert!(pair.run(5, came));
}

#[test]
fn media_is_opened_once_and_not_before_the_session_is_connected() {
    let mut pair = Pair::new();
    let hello = pair.hello();
    pair.inject(&rtp(1));
    pair.inject(&hello);
    pair.inject(&rtp(1));
    assert!(pair.opened.is_empty() && pair.connects());
    pair.inject(&rtp(1));
    assert!(pair.opened.is_empty(), "in the clear");
    let (rtp, rtcp) = (sealed_rtp(&mut pair.client, 1), sealed_rtcp(&mut pair.client));
    for _ in 0..3 {
        pair.inject(&rtp);
        pair.inject(&rtcp);
    }
    assert_eq!(pair.opened.len(), 2, "a replay");
    let mut forged = sealed_rtp(&mut pair.client, 2);
    *forged.last_mut().unwrap() ^= 1;
    pair.inject(&forged);
    let elsewhere = sealed_rtp(&mut pair.client, 3);
    pair.inject_by(way_of(6000), &elsewhere);
    assert_eq!(pair.opened.len(), 2);
}

#[test]
fn checks_from_everywhere_leave_few_ways_open() {
    let mut pair = Pair::connected();
    let check = pair.check();
    for port in 1..10_000 {
        pair.inject_by(way_of(port), &check);
        assert!(pair.answer().is_some());
    }
    let valid = (1..10_000).filter(|port| pair.server.is_valid(&way_of(*port))).count();
    assert!(valid <= limits::ICE_PATHS_MAX, "{valid}");
    assert!(pair.server.poll_transmit().is_none() && pair.server.poll_event().is_none());
}

#[test]
fn handshakes_beyond_the_bound_wait_for_a_place() {
    let server = identity();
    let begin = || {
        let mut pair = Pair::of(&server, &server, &CLIENT, Setup::ActPass);
        let hello = pair.hello();
        pair.inject(&hello);
        (pair.answer().is_some(), pair, hello)
    };
    let mut running: Vec<_> = (0..limits::WEBRTC_HANDSHAKES_MAX).map(|_| begin()).collect();
    assert!(running.iter().all(|(heard, ..)| *heard));
    let (heard, mut late, hello) = begin();
    assert!(!heard, "one too many");
    running[0].1.server.handle_timeout(late.now + limits::WEBRTC_CONNECT_TIMEOUT);
    running.truncate(1);
    late.inject(&hello);
    assert!(late.connects(), "{:?}", late.said_by_server);
}

#[test]
fn who_never_connects_is_given_up() {
    let mut pair = Pair::new();
    let due = pair.server.poll_timeout().unwrap();
    assert_eq!(due, pair.now + limits::WEBRTC_CONNECT_TIMEOUT);
    pair.server.handle_timeout(due);
    pair.collect();
    assert_eq!(end_of(&pair.said_by_server), Some(Over::NotConnected));
    let check = pair.check();
    pair.inject(&check);
    assert!(pair.answer().is_none(), "it is over");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_datagrams_panic(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz::input(&data);
    }
}
