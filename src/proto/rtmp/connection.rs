//! What client and server sessions share: handshake, chunks, acknowledgements, pings, and the output queue.

use std::{collections::VecDeque, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    SessionError, amf0,
    chunk::{ChunkLimits, ChunkReader, ChunkWriter, Message, MessageHeader},
    handshake::Handshake,
    message::{AggregateParts, Command, Typed, UserControl, kind},
};
use crate::{limits, proto::flv::TagBody};

/// One end of an RTMP connection.
#[derive(Debug)]
pub(super) struct Connection {
    handshake: Handshake,
    greeted: bool,
    /// Nobody has decided about the peer yet.
    stranger: bool,
    reader: ChunkReader,
    amf0_limits: amf0::Limits,
    aggregate: Option<AggregateParts>,
    output: VecDeque<Bytes>,
    output_bytes: usize,
    /// Bytes received since the handshake, wrapping as the Acknowledgement does.
    received: u32,
    acknowledged: u32,
    window_bytes: u32,
}

/// A typed message with its place and time.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) stream_id: u32,
    pub(super) timestamp: u32,
    pub(super) message: Typed,
}

impl Connection {
    pub(super) fn server() -> Self {
        Self::new(Handshake::server())
    }

    pub(super) fn client() -> Self {
        let mut connection = Self::new(Handshake::client());
        connection.authorise(ChunkLimits::AUTHORISED);
        connection
    }

    fn new(handshake: Handshake) -> Self {
        let mut connection = Self {
            handshake,
            greeted: false,
            stranger: true,
            reader: ChunkReader::new(ChunkLimits::SETUP),
            amf0_limits: amf0::Limits::SETUP,
            aggregate: None,
            output: VecDeque::new(),
            output_bytes: 0,
            received: 0,
            acknowledged: 0,
            window_bytes: WINDOW_BYTES,
        };
        connection.take_handshake_output();
        connection
    }

    /// The peer may stay. What it sends is still held to the limits of the setup.
    pub(super) fn admit(&mut self) {
        self.stranger = false;
    }

    /// The peer may also send media: lifts the limits of the setup.
    pub(super) fn authorise(&mut self, limits: ChunkLimits) {
        self.admit();
        self.reader.set_limits(limits);
        self.amf0_limits = amf0::Limits::AUTHORISED;
    }

    /// Time that passed, as a publisher's bound on small chunks counts it.
    pub(super) fn handle_time(&mut self, elapsed: Duration) {
        self.reader.handle_time(elapsed);
    }

    /// True once the handshake is complete.
    pub(super) fn is_greeted(&self) -> bool {
        self.greeted
    }

    pub(super) fn amf0_limits(&self) -> &amf0::Limits {
        &self.amf0_limits
    }

    /// The next message that the session has to act on; `None` when `input` is used up.
    pub(super) fn next_message(&mut self, input: &mut &[u8]) -> Result<Option<Received>, SessionError> {
        if !self.greeted {
            self.greeted = self.handshake.handle_bytes(input)?;
            self.take_handshake_output();
            if !self.greeted {
                return Ok(None);
            }
        }
        loop {
            let Some(message) = self.next_raw(input)? else {
                self.acknowledge()?;
                return Ok(None);
            };
            let (stream_id, timestamp) = (message.stream_id, message.timestamp);
            match message.into_typed(&self.amf0_limits)? {
                Typed::WindowAckSize(bytes) => self.window_bytes = bytes.clamp(1, WINDOW_BYTES),
                Typed::UserControl(UserControl::PingRequest(time)) => {
                    self.reply_control(UserControl::PingResponse(time))?;
                }
                // An aggregate inside an aggregate would recurse; the inner one is dropped.
                Typed::Aggregate(parts) => _ = self.aggregate.get_or_insert_with(|| AggregateParts::new(parts)),
                Typed::Ignored => {}
                message => return Ok(Some(Received { stream_id, timestamp, message })),
            }
        }
    }

    fn next_raw(&mut self, input: &mut &[u8]) -> Result<Option<Message>, SessionError> {
        if let Some(part) = self.aggregate.as_mut().and_then(Iterator::next) {
            self.reader.charge()?;
            return Ok(Some(part));
        }
        self.aggregate = None;
        let before = input.len();
        let message = self.reader.next_message(input)?;
        let used = u32::try_from(before - input.len()).unwrap_or(u32::MAX);
        self.received = self.received.wrapping_add(used);
        if self.stranger && self.received > limits::RTMP_SETUP_BYTES_MAX {
            return Err(SessionError::SetupTooLong);
        }
        Ok(message)
    }

    /// The Acknowledgement carries the running total (§5.4.3); at most one for each input.
    fn acknowledge(&mut self) -> Result<(), SessionError> {
        if self.received.wrapping_sub(self.acknowledged) < self.window_bytes {
            return Ok(());
        }
        self.acknowledged = self.received;
        self.reply(CONTROL, kind::ACKNOWLEDGEMENT, 0, &self.received.to_be_bytes())
    }

    /// Announces our window and chunk size; to be sent before anything longer than 128 bytes.
    pub(super) fn send_parameters(&mut self, with_bandwidth: bool) -> Result<(), SessionError> {
        let chunk_bytes = u32::try_from(OUT_CHUNK_BYTES).unwrap_or(u32::MAX);
        self.reply(CONTROL, kind::WINDOW_ACK_SIZE, 0, &WINDOW_BYTES.to_be_bytes())?;
        if with_bandwidth {
            let mut payload = BytesMut::new();
            payload.put_u32(WINDOW_BYTES);
            payload.put_u8(PEER_BANDWIDTH_DYNAMIC);
            self.reply(CONTROL, kind::SET_PEER_BANDWIDTH, 0, &payload)?;
        }
        self.reply(CONTROL, kind::SET_CHUNK_SIZE, 0, &chunk_bytes.to_be_bytes())
    }

    pub(super) fn reply_control(&mut self, control: UserControl) -> Result<(), SessionError> {
        self.reply(CONTROL, kind::USER_CONTROL, 0, &control.encode())
    }

    pub(super) fn reply_command(&mut self, stream_id: u32, command: &Command) -> Result<(), SessionError> {
        self.reply(COMMAND, kind::COMMAND, stream_id, &command.encode())
    }

    /// Queues an answer. A peer that causes answers and doesn't read them loses its session.
    fn reply(&mut self, chunk_stream: u8, kind: u8, stream_id: u32, payload: &[u8]) -> Result<(), SessionError> {
        if self.output_bytes + payload.len() > limits::RTMP_SETUP_OUT_BYTES_MAX {
            return Err(SessionError::OutputFull);
        }
        let header = MessageHeader { chunk_stream, kind, stream_id, timestamp: 0 };
        for bytes in ChunkWriter::new(OUT_CHUNK_BYTES).encode(&header, payload, Bytes::new()) {
            self.push_output(bytes);
        }
        Ok(())
    }

    /// Queues media of our own, outside the bound on answers; the caller watches how fast it drains.
    pub(super) fn send_media(&mut self, stream_id: u32, timestamp: u32, body: &TagBody) {
        self.output.extend(encode_media(stream_id, timestamp, body));
    }

    pub(super) fn poll_output(&mut self) -> Option<Bytes> {
        let bytes = self.output.pop_front()?;
        self.output_bytes = self.output_bytes.saturating_sub(bytes.len());
        Some(bytes)
    }

    fn take_handshake_output(&mut self) {
        if let Some(bytes) = self.handshake.poll_output() {
            self.push_output(bytes);
        }
    }

    fn push_output(&mut self, bytes: Bytes) {
        self.output_bytes += bytes.len();
        self.output.push_back(bytes);
    }
}

/// One media or data message as slices to write in order; the same slices serve every viewer of the stream.
pub fn encode_media(stream_id: u32, timestamp: u32, body: &TagBody) -> Vec<Bytes> {
    let header = MessageHeader { chunk_stream: MEDIA, kind: body.kind.into(), stream_id, timestamp };
    ChunkWriter::new(OUT_CHUNK_BYTES).encode(&header, &body.header, body.payload.clone())
}

/// Our chunk size: most frames fit into one or two chunks.
const OUT_CHUNK_BYTES: usize = 65_536;
/// Acknowledge at least this often, and ask the peer to.
const WINDOW_BYTES: u32 = 2_500_000;
/// Limit type "dynamic" (§5.4.5).
const PEER_BANDWIDTH_DYNAMIC: u8 = 2;

/// Chunk streams of what we send: protocol control must use 2 (§5.4), the others are custom.
const CONTROL: u8 = 2;
const COMMAND: u8 = 3;
/// One for all media and data: each message is written whole, so a second one would not interleave.
const MEDIA: u8 = 6;
