//! Data channels: SCTP (RFC 8831) inside DTLS, opened by DCEP (RFC 8832).

use core::net::SocketAddr;
use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::{Buf, Bytes};
use sctp_proto::{
    AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, ReliabilityType, ServerConfig, StreamEvent, TransportConfig,
};

use crate::limits;

/// What happened on the data channels.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChannelEvent {
    /// A channel can be written to.
    Open {
        /// Its SCTP stream.
        id: u16,
        /// The name that its opener gave it.
        label: String,
    },
    /// A message came.
    Message {
        /// The channel.
        id: u16,
        /// As it was sent.
        data: Bytes,
    },
    /// A channel was closed.
    Closed {
        /// The channel.
        id: u16,
    },
}

/// The channels of one session.
pub(super) struct Association {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, sctp_proto::Association)>,
    /// The channel to open once connected, and later its stream: only our own clients open one.
    wanted: Option<&'static str>,
    /// Open channels, by stream.
    open: Vec<u16>,
    events: VecDeque<ChannelEvent>,
}

impl Association {
    /// The answering side: the peer begins.
    pub(super) fn passive() -> Self {
        let mut server = ServerConfig::default();
        server.transport = transport();
        let endpoint = Endpoint::new(Arc::new(endpoint_config()), Some(Arc::new(server)));
        Self { endpoint, association: None, wanted: None, open: Vec::new(), events: VecDeque::new() }
    }

    /// The side that begins, and opens one channel.
    pub(super) fn active(label: &'static str) -> Self {
        let mut channels = Self::passive();
        let mut client = ClientConfig::default();
        client.transport = transport();
        channels.association = channels.endpoint.connect(client, nowhere()).ok();
        channels.wanted = Some(label);
        channels
    }

    /// A packet that came through DTLS.
    pub(super) fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        if !is_within_streams(packet) {
            return;
        }
        let packet = Bytes::copy_from_slice(packet);
        match self.endpoint.handle(now, nowhere(), None, None, packet) {
            // A session has one association: another one would end it.
            Some((handle, DatagramEvent::NewAssociation(association))) if self.association.is_none() => {
                self.association = Some((handle, association));
                self.endpoint.reject_new_associations();
            }
            Some((_, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) = &mut self.association {
                    association.handle_event(event);
                }
            }
            Some((_, DatagramEvent::NewAssociation(_))) | None => {}
        }
        self.advance();
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some((handle, association)) = &mut self.association {
            association.handle_timeout(now);
            while let Some(event) = association.poll_endpoint_event() {
                if let Some(event) = self.endpoint.handle_event(*handle, event) {
                    association.handle_event(event);
                }
            }
        }
        self.advance();
    }

    /// When [`Association::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let (_, association) = self.association.as_ref()?;
        association.poll_timeout()
    }

    /// The next packet to send through DTLS.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<VecDeque<Bytes>> {
        let from_endpoint = self.endpoint.poll_transmit();
        let transmit = from_endpoint.or_else(|| self.association.as_mut()?.1.poll_transmit(now))?;
        match transmit.payload {
            Payload::RawEncode(packets) => Some(packets.into()),
            // What came in is never sent on.
            Payload::PartialDecode(_) => None,
        }
    }

    /// What happened.
    pub(super) fn poll_event(&mut self) -> Option<ChannelEvent> {
        self.events.pop_front()
    }

    /// Bytes on a channel that the peer has not acknowledged.
    pub(super) fn buffered(&mut self, id: u16) -> usize {
        let stream = self.association.as_mut().and_then(|(_, association)| association.stream(id).ok());
        stream.and_then(|stream| stream.buffered_amount().ok()).unwrap_or(0)
    }

    /// Sends a text. False if the channel is gone.
    pub(super) fn send_text(&mut self, id: u16, text: &[u8]) -> bool {
        self.write(id, text, PayloadProtocolIdentifier::String)
    }

    fn write(&mut self, id: u16, data: &[u8], kind: PayloadProtocolIdentifier) -> bool {
        let stream = self.association.as_mut().and_then(|(_, association)| association.stream(id).ok());
        stream.is_some_and(|mut stream| stream.write_with_ppi(data, kind).is_ok())
    }

    fn advance(&mut self) {
        while let Some(event) = self.association.as_mut().and_then(|(_, association)| association.poll()) {
            match event {
                Event::Connected => self.open_wanted(),
                Event::HandshakeFailed { .. } | Event::AssociationLost { .. } => {
                    let lost = std::mem::take(&mut self.open);
                    self.events.extend(lost.into_iter().map(|id| ChannelEvent::Closed { id }));
                }
                Event::Stream(StreamEvent::Readable { id }) => self.read(id),
                Event::Stream(StreamEvent::Finished { id }) => self.forget(id),
                _ => {}
            }
        }
    }

    fn read(&mut self, id: u16) {
        while let Some((kind, data)) = self.read_one(id) {
            match (kind, self.open.contains(&id)) {
                (PayloadProtocolIdentifier::Dcep, false) => self.handle_open(id, &data),
                (PayloadProtocolIdentifier::Dcep, true) => {
                    if data.first() == Some(&DCEP_ACK) {
                        self.acknowledged(id);
                    }
                }
                (_, true) => self.events.push_back(ChannelEvent::Message { id, data }),
                (_, false) => {}
            }
        }
    }

    fn read_one(&mut self, id: u16) -> Option<(PayloadProtocolIdentifier, Bytes)> {
        let (_, association) = self.association.as_mut()?;
        let mut chunks = association.stream(id).ok()?.read_sctp().ok()??;
        let data = chunks.next(limits::CHANNEL_MESSAGE_BYTES_MAX)?;
        Some((chunks.ppi, data.bytes))
    }

    /// DATA_CHANNEL_OPEN (RFC 8832 §5.1).
    fn handle_open(&mut self, id: u16, message: &[u8]) {
        if self.open.len() >= limits::CHANNELS_MAX {
            return self.reset(id);
        }
        let Some(asked) = Open::parse(message) else { return self.reset(id) };
        let stream = self.association.as_mut().and_then(|(_, association)| association.stream(id).ok());
        if let Some(mut stream) = stream {
            let _ = stream.set_reliability_params(asked.unordered, asked.reliability, asked.parameter);
        }
        if self.write(id, &[DCEP_ACK], PayloadProtocolIdentifier::Dcep) {
            self.open.push(id);
            self.events.push_back(ChannelEvent::Open { id, label: asked.label });
        }
    }

    fn open_wanted(&mut self) {
        let Some(label) = self.wanted else { return };
        let Some((_, association)) = &mut self.association else { return };
        // The DTLS client's streams are even (RFC 8832 §6).
        if association.open_stream(FIRST_EVEN, PayloadProtocolIdentifier::String).is_ok() {
            let message = Open::encode(label);
            self.write(FIRST_EVEN, &message, PayloadProtocolIdentifier::Dcep);
            self.open.push(FIRST_EVEN);
        }
    }

    fn acknowledged(&mut self, id: u16) {
        if let Some(label) = self.wanted.take() {
            self.events.push_back(ChannelEvent::Open { id, label: label.to_owned() });
        }
    }

    fn forget(&mut self, id: u16) {
        if let Some(at) = self.open.iter().position(|open| *open == id) {
            self.open.swap_remove(at);
            self.events.push_back(ChannelEvent::Closed { id });
        }
    }

    fn reset(&mut self, id: u16) {
        let stream = self.association.as_mut().and_then(|(_, association)| association.stream(id).ok());
        if let Some(mut stream) = stream {
            let _ = stream.close();
        }
    }
}

/// What DATA_CHANNEL_OPEN asks for.
struct Open {
    unordered: bool,
    reliability: ReliabilityType,
    parameter: u32,
    label: String,
}

impl Open {
    fn parse(mut message: &[u8]) -> Option<Self> {
        if message.try_get_u8().ok()? != DCEP_OPEN {
            return None;
        }
        let kind = message.try_get_u8().ok()?;
        let _priority = message.try_get_u16().ok()?;
        let parameter = message.try_get_u32().ok()?;
        let label_bytes = usize::from(message.try_get_u16().ok()?);
        let _protocol_bytes = message.try_get_u16().ok()?;
        let label = message.get(..label_bytes.min(limits::CHANNEL_LABEL_BYTES_MAX))?;
        Some(Self {
            unordered: kind & 0x80 != 0,
            reliability: ReliabilityType::from(kind & 0x7f),
            parameter,
            label: String::from_utf8_lossy(label).into_owned(),
        })
    }

    /// A reliable, ordered channel.
    fn encode(label: &str) -> Vec<u8> {
        let length = u16::try_from(label.len()).unwrap_or(0);
        let mut message = vec![DCEP_OPEN, 0, 0, 0, 0, 0, 0, 0];
        message.extend(length.to_be_bytes());
        message.extend([0, 0]);
        message.extend(label.as_bytes());
        message
    }
}

/// Whether all that an SCTP packet carries is for streams that a session has (RFC 9260 §3.2, §3.3.1; RFC 8260 §2.1).
/// The library would make one of whatever number comes.
fn is_within_streams(packet: &[u8]) -> bool {
    let mut chunks = packet.get(SCTP_HEADER_BYTES..).unwrap_or_default();
    while let [kind, _, length_a, length_b, rest @ ..] = chunks {
        let stream = rest.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
        let is_data = matches!(*kind, CHUNK_DATA | CHUNK_I_DATA);
        if is_data && stream.is_some_and(|stream| stream >= limits::CHANNEL_STREAMS_MAX) {
            return false;
        }
        let length = usize::from(u16::from_be_bytes([*length_a, *length_b])).max(CHUNK_HEADER_BYTES);
        chunks = chunks.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

fn transport() -> Arc<TransportConfig> {
    let message_bytes_max = u32::try_from(limits::CHANNEL_MESSAGE_BYTES_MAX).unwrap_or(u32::MAX);
    let config = TransportConfig::default()
        .with_max_receive_message_size(message_bytes_max)
        .with_max_receive_buffer_size(limits::CHANNEL_RECEIVE_BYTES_MAX)
        .with_max_num_inbound_streams(limits::CHANNEL_STREAMS_MAX)
        .with_rto_initial_ms(500)
        .with_rto_min_ms(200)
        .with_rto_max_ms(5000);
    Arc::new(config)
}

fn endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.max_payload_size(PACKET_BYTES_MAX);
    config
}

/// SCTP runs inside DTLS, which knows where to send it.
fn nowhere() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5000))
}

const SCTP_HEADER_BYTES: usize = 12;
const CHUNK_HEADER_BYTES: usize = 4;
const CHUNK_DATA: u8 = 0;
const CHUNK_I_DATA: u8 = 64;
/// Message types of DCEP (RFC 8832 §8.2.1).
const DCEP_OPEN: u8 = 3;
const DCEP_ACK: u8 = 2;
const FIRST_EVEN: u16 = 0;
/// So that SCTP and DTLS around it fit in the datagrams that every path carries.
const PACKET_BYTES_MAX: u32 = 1080;

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(from: &mut Association, to: &mut Association, now: Instant) {
        while let Some(packets) = from.poll_transmit(now) {
            packets.iter().for_each(|packet| to.handle_packet(now, packet));
        }
    }

    #[allow(clippy::disallowed_methods, reason = "any origin will do")]
    fn exchange(peer: &mut Association, ours: &mut Association) -> Vec<ChannelEvent> {
        let now = Instant::now();
        for _ in 0..8 {
            pass(peer, ours, now);
            pass(ours, peer, now);
        }
        std::iter::from_fn(|| ours.poll_event()).collect()
    }

    #[test]
    fn streams_beyond_the_bound_are_not_made() {
        let (mut peer, mut ours) = (Association::active("first"), Association::passive());
        assert_eq!(exchange(&mut peer, &mut ours), [ChannelEvent::Open { id: 0, label: "first".to_owned() }]);
        let mut open = |id: u16| {
            let (_, association) = peer.association.as_mut().expect("connected");
            association.open_stream(id, PayloadProtocolIdentifier::Dcep).expect("a stream of the peer's");
            peer.open.push(id);
            assert!(peer.write(id, &Open::encode("more"), PayloadProtocolIdentifier::Dcep));
            let events = exchange(&mut peer, &mut ours);
            let has_state = ours.association.as_mut().is_some_and(|(_, association)| association.stream(id).is_ok());
            (events.len(), has_state)
        };
        assert_eq!(open(limits::CHANNEL_STREAMS_MAX - 1), (1, true));
        assert_eq!([open(limits::CHANNEL_STREAMS_MAX), open(u16::MAX - 1)], [(0, false); 2]);
    }
}
