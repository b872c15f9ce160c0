//! One session: what comes in goes to the layer it is for, what the layers have to say comes out.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dimpl::{Dtls, Output, SrtpProfile};

use super::{
    agent::Ice,
    channels::{Association, ChannelEvent},
    identity::Identity,
};
use crate::{
    limits,
    proto::{
        ice::{Path, stun::is_stun},
        rtp::packet::is_rtcp,
        sdp::{Fingerprint, Setup, Transport},
        srtp::{self, Opener, Profile, Sealer},
    },
};

/// A datagram to send.
#[derive(Debug)]
pub struct Datagram {
    /// Where to.
    pub path: Path,
    /// The payload.
    pub bytes: Vec<u8>,
}

/// What happened to a session.
#[derive(Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The peer is who the SDP says; media may flow.
    Connected,
    /// A data channel can be written to.
    ChannelOpen {
        /// The channel.
        id: u16,
        /// The name that its opener gave it.
        label: String,
    },
    /// A data channel is gone.
    ChannelClosed {
        /// The channel.
        id: u16,
    },
    /// A message came on a data channel.
    Message {
        /// The channel.
        id: u16,
        /// As it was sent.
        data: Bytes,
    },
    /// The session is over.
    Over(Over),
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// No connection came about in time.
    #[error("no connection came about")]
    NotConnected,
    /// The certificate is not the one that the SDP names.
    #[error("the certificate is not the one that the SDP names")]
    WrongCertificate,
    /// The handshake failed, or DTLS broke.
    #[error("DTLS failed")]
    Dtls,
    /// No connectivity check came for too long (RFC 7675).
    #[error("the peer went silent")]
    Silent,
    /// The peer said that he is done.
    #[error("closed by the peer")]
    Closed,
}

/// What came in for the session's media.
#[derive(Debug, PartialEq, Eq)]
pub enum Media<'a> {
    /// An RTP packet, in the clear.
    Rtp(&'a [u8]),
    /// A compound RTCP packet, in the clear.
    Rtcp(&'a [u8]),
}

/// Which side of the handshake we are.
enum Side {
    /// A server: DTLS comes to us.
    Passive,
    /// A client of another server: we begin.
    Active,
}

/// The data channels of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// There are none.
    None,
    /// The peer opens them.
    Taken,
    /// We open one with this label.
    Opened(&'static str),
}

/// One session.
pub struct Peer {
    identity: Arc<Identity>,
    side: Side,
    ice: Ice,
    /// The certificate that the SDP names.
    expected: Fingerprint,
    /// Made when the first handshake packet comes along a way that was checked.
    dtls: Option<Box<Dtls>>,
    dtls_due: Option<Instant>,
    /// Which ClientHello began it, and when.
    hello: Option<([u8; 32], Instant)>,
    handshake: Option<Arc<()>>,
    is_handshaken: bool,
    is_trusted: bool,
    sealer: Option<Sealer>,
    opener: Option<Opener>,
    wanted: Channels,
    channels: Option<Box<Association>>,
    connect_by: Option<Instant>,
    transmits: VecDeque<Datagram>,
    events: VecDeque<PeerEvent>,
    is_over: bool,
}

impl Peer {
    /// A session with the end that `remote` describes: its certificate, and which side begins the handshake.
    pub fn new(identity: &Arc<Identity>, ice: Ice, remote: &Transport, channels: Channels, now: Instant) -> Self {
        let side = match remote.setup.answered() {
            Setup::Active => Side::Active,
            Setup::Passive | Setup::ActPass => Side::Passive,
        };
        Self {
            identity: identity.clone(),
            side,
            ice,
            expected: remote.fingerprint.clone(),
            dtls: None,
            dtls_due: None,
            hello: None,
            handshake: None,
            is_handshaken: false,
            is_trusted: false,
            sealer: None,
            opener: None,
            wanted: channels,
            channels: None,
            connect_by: Some(now + limits::WEBRTC_CONNECT_TIMEOUT),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            is_over: false,
        }
    }

    /// A datagram came along `path`. Gives what is in it for the media (RFC 7983 tells the layers apart).
    pub fn handle_datagram<'a>(&mut self, now: Instant, path: Path, datagram: &'a mut [u8]) -> Option<Media<'a>> {
        if self.is_over {
            return None;
        }
        if is_stun(datagram) {
            if let Some(bytes) = self.ice.handle(now, path, datagram) {
                self.transmits.push_back(Datagram { path, bytes });
            }
            self.begin_handshake(now);
            return None;
        }
        if !self.ice.is_valid(&path) {
            return None;
        }
        match datagram.first()? {
            20..=63 => {
                self.handle_dtls(now, datagram);
                None
            }
            128..=191 => self.open(datagram),
            _ => None,
        }
    }

    /// The connection that was this way is closed. Without another way the session is over.
    pub fn handle_closed(&mut self, path: &Path) {
        self.ice.remove(path);
        if self.ice.selected().is_none() {
            self.end(Over::Closed);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_over {
            return;
        }
        if self.connect_by.is_some_and(|by| by <= now) {
            return self.end(Over::NotConnected);
        }
        if self.ice.is_expired(now) {
            return self.end(Over::Silent);
        }
        while let Some((path, bytes)) = self.ice.poll_transmit(now) {
            self.transmits.push_back(Datagram { path, bytes });
        }
        self.begin_handshake(now);
        if let Some(dtls) = &mut self.dtls
            && self.dtls_due.is_some_and(|due| due <= now)
            && dtls.handle_timeout(now).is_err()
        {
            return self.end(Over::Dtls);
        }
        if let Some(channels) = &mut self.channels
            && channels.poll_timeout().is_some_and(|due| due <= now)
        {
            channels.handle_timeout(now);
        }
        self.drive(now);
    }

    /// When [`Peer::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let channels = self.channels.as_ref().and_then(|channels| channels.poll_timeout());
        [self.connect_by, self.ice.deadline(), self.dtls_due, channels].into_iter().flatten().min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Datagram> {
        self.transmits.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }

    /// Where media goes.
    pub fn path(&self) -> Option<Path> {
        self.ice.selected()
    }

    /// Seals media, once connected.
    pub fn sealer(&mut self) -> Option<&mut Sealer> {
        self.sealer.as_mut().filter(|_| self.connect_by.is_none())
    }

    /// Whether a check along this way was authenticated.
    pub fn is_valid(&self, path: &Path) -> bool {
        self.ice.is_valid(path)
    }

    /// Bytes on a channel that the peer has not acknowledged.
    pub fn channel_backlog_bytes(&mut self, id: u16) -> usize {
        self.channels.as_mut().map_or(0, |channels| channels.buffered(id))
    }

    /// Sends a text on a channel. False if the channel is gone.
    pub fn send_text(&mut self, now: Instant, id: u16, text: &[u8]) -> bool {
        let Some(channels) = &mut self.channels else { return false };
        let sent = channels.send_text(id, text);
        self.drive(now);
        sent
    }

    /// Says goodbye to the peer; what is to be sent for it is in [`Peer::poll_transmit`].
    pub fn close(&mut self, now: Instant) {
        if let Some(dtls) = &mut self.dtls {
            let _ = dtls.close();
            self.drive(now);
        }
        self.is_over = true;
    }

    fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Option<Media<'a>> {
        let opener = self.opener.as_mut().filter(|_| self.connect_by.is_none())?;
        if is_rtcp(datagram) {
            let length = opener.open_rtcp(datagram).ok()?;
            return datagram.get(..length).map(Media::Rtcp);
        }
        let length = opener.open_rtp(datagram).ok()?;
        datagram.get(..length).map(Media::Rtp)
    }

    /// The client's first flight, once there is a way.
    fn begin_handshake(&mut self, now: Instant) {
        if matches!(self.side, Side::Active) && self.dtls.is_none() && self.ice.selected().is_some() {
            let mut dtls = self.identity.dtls(now);
            dtls.set_active(true);
            self.dtls = Some(dtls);
            self.drive(now);
        }
    }

    fn handle_dtls(&mut self, now: Instant, datagram: &[u8]) {
        if let (Side::Passive, Some(random)) = (&self.side, hello_random(datagram))
            && self.hello.is_none_or(|(begun, _)| begun != random)
            && !self.accept_hello(now, random)
        {
            return;
        }
        let Some(dtls) = &mut self.dtls else { return };
        let handled = dtls.handle_timeout(now).and_then(|()| dtls.handle_packet(datagram));
        if handled.is_err() {
            return self.fail();
        }
        self.drive(now);
    }

    /// False if this hello is not heard: the session is connected, another handshake has just begun, or too many run
    /// on this node. The peer will ask again.
    ///
    /// Somebody who can write the peer's address may say hello before him, or in the middle of his handshake.
    fn accept_hello(&mut self, now: Instant, random: [u8; 32]) -> bool {
        if self.connect_by.is_none() || self.hello.is_some_and(|(_, begun)| now < begun + HELLO_PRECEDENCE) {
            return false;
        }
        let Some(place) = self.handshake.take().or_else(|| self.identity.begin_handshake()) else { return false };
        (self.handshake, self.hello, self.is_trusted) = (Some(place), Some((random, now)), false);
        (self.is_handshaken, self.sealer, self.opener) = (false, None, None);
        self.dtls = Some(self.identity.dtls(now));
        true
    }

    /// DTLS broke. Before the end of a handshake it may be somebody else's doing: the peer says hello again.
    fn fail(&mut self) {
        if self.connect_by.is_none() || matches!(self.side, Side::Active) {
            return self.end(Over::Dtls);
        }
        (self.dtls, self.dtls_due, self.hello, self.channels) = (None, None, None, None);
        (self.is_handshaken, self.is_trusted, self.sealer, self.opener) = (false, false, None, None);
    }

    /// Moves everything that is ready between the layers.
    fn drive(&mut self, now: Instant) {
        loop {
            self.drain_dtls(now);
            if !self.pump_channels(now) {
                break;
            }
        }
        self.tell_of_channels();
    }

    fn drain_dtls(&mut self, now: Instant) {
        let mut buffer = vec![0; DTLS_RECORD_BYTES_MAX];
        loop {
            let Some(dtls) = &mut self.dtls else { return };
            match dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => {
                    if let Some(path) = self.ice.selected() {
                        self.transmits.push_back(Datagram { path, bytes: packet.to_vec() });
                    }
                }
                Output::PeerCert(certificate) => {
                    if !self.expected.is_of(certificate) {
                        return self.end(Over::WrongCertificate);
                    }
                    self.is_trusted = true;
                }
                Output::KeyingMaterial(keys, profile) => self.take_keys(&keys, profile),
                Output::Connected => {
                    self.is_handshaken = true;
                    self.begin_channels();
                }
                Output::ApplicationData(packet) => {
                    if let Some(channels) = &mut self.channels {
                        channels.handle_packet(now, packet);
                    }
                }
                Output::CloseNotify => return self.end(Over::Closed),
                Output::Timeout(due) => {
                    self.dtls_due = Some(due);
                    if self.is_handshaken && self.connect_by.is_some() {
                        self.connected();
                    }
                    return;
                }
                Output::BufferTooSmall { needed } if needed <= DTLS_OUTPUT_BYTES_MAX => buffer.resize(needed, 0),
                _ => return self.end(Over::Dtls),
            }
        }
    }

    fn take_keys(&mut self, keys: &[u8], profile: SrtpProfile) {
        let profile = match profile {
            SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
            SrtpProfile::AEAD_AES_128_GCM => Profile::Aes128Gcm,
            SrtpProfile::AEAD_AES_256_GCM => Profile::Aes256Gcm,
            _ => return self.end(Over::Dtls),
        };
        match srtp::from_dtls(profile, keys, matches!(self.side, Side::Active)) {
            Ok((sealer, opener)) => (self.sealer, self.opener) = (Some(sealer), Some(opener)),
            _ => self.end(Over::Dtls),
        }
    }

    /// The handshake has said all it had to say.
    fn connected(&mut self) {
        if !self.is_trusted || self.sealer.is_none() {
            // A handshake without a certificate, or without SRTP, which every peer of ours has.
            return self.end(Over::Dtls);
        }
        (self.handshake, self.connect_by) = (None, None);
        self.events.push_back(PeerEvent::Connected);
    }

    /// The peer may speak on them at once.
    fn begin_channels(&mut self) {
        self.channels = match self.wanted {
            Channels::None => None,
            Channels::Taken => Some(Box::new(Association::passive())),
            Channels::Opened(label) => Some(Box::new(Association::active(label))),
        };
    }

    /// Hands what the channels send to DTLS. False if there is nothing.
    fn pump_channels(&mut self, now: Instant) -> bool {
        let (Some(channels), Some(dtls)) = (&mut self.channels, &mut self.dtls) else { return false };
        let Some(packets) = channels.poll_transmit(now) else { return false };
        for packet in packets {
            if dtls.send_application_data(&packet).is_err() {
                self.end(Over::Dtls);
                return false;
            }
        }
        true
    }

    fn tell_of_channels(&mut self) {
        let Some(channels) = &mut self.channels else { return };
        while let Some(event) = channels.poll_event() {
            self.events.push_back(match event {
                ChannelEvent::Open { id, label } => PeerEvent::ChannelOpen { id, label },
                ChannelEvent::Message { id, data } => PeerEvent::Message { id, data },
                ChannelEvent::Closed { id } => PeerEvent::ChannelClosed { id },
            });
        }
    }

    fn end(&mut self, why: Over) {
        if !self.is_over {
            self.is_over = true;
            self.handshake = None;
            self.events.push_back(PeerEvent::Over(why));
        }
    }
}

/// The random of the ClientHello that a datagram begins with (RFC 6347 §4.1, §4.3.2).
fn hello_random(datagram: &[u8]) -> Option<[u8; 32]> {
    let (record, message) = datagram.split_at_checked(13)?;
    let (head, body) = message.split_at_checked(12)?;
    let is_hello = record.first() == Some(&22) && record.get(3..5) == Some(&[0, 0]) && head.first() == Some(&1);
    let is_begin = head.get(6..9) == Some(&[0, 0, 0]);
    (is_hello && is_begin).then(|| body.get(2..34)?.try_into().ok()).flatten()
}

/// What a handshake has to get on before another hello may begin it anew. It is shorter than the time until we repeat
/// a flight that its addressee may not have asked for.
const HELLO_PRECEDENCE: Duration = Duration::from_millis(100);
/// Room for one record of our size.
const DTLS_RECORD_BYTES_MAX: usize = 2048;
/// The largest output that DTLS gives: a whole record of the peer (RFC 6347 §4.1).
const DTLS_OUTPUT_BYTES_MAX: usize = 20 * 1024;
