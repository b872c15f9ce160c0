//! Entry points of the fuzz targets: whatever comes to a session, in whatever state it is, it goes on or ends.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use super::{
    Channels, Datagram, Ice, Identity, Media, Peer, PeerEvent,
    channels::{Association, ChannelEvent},
};
use crate::{
    limits,
    proto::{
        ice::{Client, Credentials, Lite, Path, Transport as Carrier},
        sdp::{Setup, Transport},
    },
};

/// A session at a point that the first byte chooses, then pieces of a kind and a length each: datagrams from the
/// peer's address or from elsewhere, the peer's own with errors, and time.
pub fn input(bytes: &[u8]) {
    let Some((&start, mut rest)) = bytes.split_first() else { return };
    let Some(mut pair) = Pair::new() else { return };
    for _ in 0..start % 24 {
        pair.exchange(&[]);
    }
    while let Some(([kind, length], after)) = rest.split_first_chunk::<2>() {
        let (piece, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        match kind % 4 {
            0 => pair.handle(pair.path, piece),
            1 => pair.handle(Path { remote: ([203, 0, 113, 9], 9).into(), ..pair.path }, piece),
            2 => pair.exchange(piece),
            _ => {
                pair.now += Duration::from_millis(u64::from(*length) * 50);
                pair.exchange(&[]);
            }
        }
    }
}

/// What is inside DTLS: packets of the peer's association, with errors that its checksum doesn't show, and packets of
/// any chunks under its verification tag.
pub fn sctp(mut bytes: &[u8]) {
    let mut now = origin();
    let (mut peer, mut ours) = (Association::active("live-events"), Association::passive());
    while let Some(([kind, length], after)) = bytes.split_first_chunk::<2>() {
        let (piece, after) = after.split_at(usize::from(*length).min(after.len()));
        bytes = after;
        let mut head = Vec::new();
        while let Some(packets) = peer.poll_transmit(now) {
            for packet in packets {
                let mut packet = Vec::from(packet);
                head.clone_from(&packet);
                if kind % 3 == 1 {
                    corrupt(&mut packet, piece);
                }
                seal(&mut packet);
                ours.handle_packet(now, &packet);
            }
        }
        if kind % 3 == 2 {
            head.truncate(SCTP_HEADER_BYTES);
            head.extend_from_slice(piece);
            seal(&mut head);
            ours.handle_packet(now, &head);
        }
        peer.send_text(0, piece);
        while let Some(packets) = ours.poll_transmit(now) {
            packets.iter().for_each(|packet| peer.handle_packet(now, packet));
        }
        while let Some(event) = ours.poll_event() {
            if let ChannelEvent::Open { label, .. } = event {
                // Bytes that are no text become three each.
                assert!(label.len() <= 3 * limits::CHANNEL_LABEL_BYTES_MAX, "{label}");
            }
        }
        now += Duration::from_millis(u64::from(*length) * 20);
        [&mut peer, &mut ours].into_iter().for_each(|end| end.handle_timeout(now));
    }
}

/// A client and a server, the way between them as the server sees it, and what is on its way.
struct Pair {
    client: Peer,
    server: Peer,
    path: Path,
    now: Instant,
    is_connected: bool,
}

impl Pair {
    fn new() -> Option<Self> {
        static IDENTITY: OnceLock<Option<Arc<Identity>>> = OnceLock::new();
        let identity = IDENTITY.get_or_init(identity).as_ref()?;
        let path =
            Path { remote: ([192, 0, 2, 2], 2).into(), local: ([192, 0, 2, 1], 1).into(), transport: Carrier::Udp };
        let (now, theirs, ours) = (origin(), Credentials::random(), Credentials::random());
        let transport = |ice: &Credentials, setup| Transport {
            ice: ice.clone(),
            ice_lite: false,
            fingerprint: identity.fingerprint(),
            setup,
            candidates: Vec::new(),
        };
        let asks = Ice::Client(Client::new(now, &theirs, &ours, [reversed(path)]));
        let answers = Ice::Lite(Lite::new(&ours, &theirs));
        Some(Self {
            client: Peer::new(identity, asks, &transport(&ours, Setup::Passive), Channels::Opened("live-events"), now),
            server: Peer::new(identity, answers, &transport(&theirs, Setup::ActPass), Channels::Taken, now),
            path,
            now,
            is_connected: false,
        })
    }

    fn handle(&mut self, path: Path, datagram: &[u8]) {
        let mut bytes = datagram.to_vec();
        let media = self.server.handle_datagram(self.now, path, &mut bytes);
        assert!(media.is_none() || self.is_connected, "media before the peer was known");
        if let Some(Media::Rtp(packet) | Media::Rtcp(packet)) = media {
            assert!(packet.len() < datagram.len(), "media without a tag");
        }
        while let Some(event) = self.server.poll_event() {
            self.is_connected |= event == PeerEvent::Connected;
        }
    }

    /// What each has to say reaches the other; the client's with these errors.
    fn exchange(&mut self, errors: &[u8]) {
        self.now += Duration::from_millis(5);
        [&mut self.client, &mut self.server].into_iter().for_each(|peer| peer.handle_timeout(self.now));
        while let Some(Datagram { mut bytes, .. }) = self.client.poll_transmit() {
            corrupt(&mut bytes, errors);
            self.handle(self.path, &bytes);
        }
        while let Some(Datagram { mut bytes, .. }) = self.server.poll_transmit() {
            self.client.handle_datagram(self.now, reversed(self.path), &mut bytes);
        }
        while self.client.poll_event().is_some() {}
    }
}

fn identity() -> Option<Arc<Identity>> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).ok()?;
    let certificate = rcgen::CertificateParams::new(Vec::new()).ok()?.self_signed(&key).ok()?;
    Identity::new(certificate.der().to_vec(), key.serialize_der()).map(Arc::new)
}

fn reversed(path: Path) -> Path {
    Path { remote: path.local, local: path.remote, ..path }
}

/// Changes the bytes of `packet` that pairs of place and value name; a lone last byte cuts it there.
fn corrupt(packet: &mut Vec<u8>, errors: &[u8]) {
    let (pairs, last) = errors.as_chunks::<2>();
    for [place, value] in pairs {
        if let Some(byte) = packet.get_mut(usize::from(*place)) {
            *byte ^= value;
        }
    }
    if let [cut] = last {
        packet.truncate((*cut).into());
    }
}

/// Gives an SCTP packet the checksum that belongs to it (RFC 9260 §6.8).
fn seal(packet: &mut [u8]) {
    let Some(field) = packet.get_mut(8..SCTP_HEADER_BYTES) else { return };
    field.fill(0);
    let crc = packet.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    });
    packet.iter_mut().skip(8).zip((!crc).to_le_bytes()).for_each(|(to, from)| *to = from);
}

#[allow(clippy::disallowed_methods, reason = "any origin will do")]
fn origin() -> Instant {
    Instant::now()
}

const SCTP_HEADER_BYTES: usize = 12;
