//! Unidirectional streams: the one SETUP of each side, and the groups.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    super::varint::{Reader, WireError, put_prefixed, put_varint, unzigzag, zigzag},
    Message, encode, read_message, take,
};
use crate::limits::{MOQ_FRAME_BYTES_MAX, MOQ_MESSAGE_BYTES_MAX, MOQ_PARAMETERS_MAX};

const GROUP: u64 = 0;
const SETUP: u64 = 1;

/// SETUP: what an endpoint says of itself. Parameters we don't know are skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// 0: no PROBE; 1: reports; 2: can also pad. Higher values count as 2.
    pub probe: u64,
    /// Path and query of the request, where the transport has no URL (raw QUIC). From the client only.
    pub path: Option<String>,
    /// The one direction the client wants to use.
    pub role: Option<Role>,
    /// The endpoint's hop id, 0 for none.
    pub hop: u64,
}

/// The one thing a client wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Publish only.
    Publisher,
    /// Subscribe only.
    Subscriber,
}

impl Setup {
    const PROBE: u64 = 1;
    const PATH: u64 = 2;
    const ROLE: u64 = 3;
    const HOP: u64 = 5;

    /// The whole SETUP stream, before its FIN.
    pub fn to_stream(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, SETUP);
        encode(self, &mut out);
        out
    }
}

impl Message for Setup {
    const NAME: &'static str = "SETUP";

    fn write(&self, out: &mut Vec<u8>) {
        let number = |value: u64| {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            bytes
        };
        let role = self.role.map(|role| match role {
            Role::Publisher => 1,
            Role::Subscriber => 2,
        });
        // Defaults are told by leaving them out.
        let parameters: Vec<(u64, Vec<u8>)> = [
            (self.probe > 0).then(|| (Self::PROBE, number(self.probe))),
            self.path.as_ref().map(|path| (Self::PATH, path.clone().into_bytes())),
            role.map(|role| (Self::ROLE, number(role))),
            (self.hop > 0).then(|| (Self::HOP, number(self.hop))),
        ]
        .into_iter()
        .flatten()
        .collect();
        put_varint(out, u64::try_from(parameters.len()).unwrap_or(0));
        for (id, value) in parameters {
            put_varint(out, id);
            put_prefixed(out, &value);
        }
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = body.length("setup parameters", MOQ_PARAMETERS_MAX)?;
        let (mut setup, mut seen) = (Self::default(), Vec::new());
        for _ in 0..count {
            let id = body.varint()?;
            if seen.contains(&id) {
                return Err(WireError::Malformed("setup parameter: sent twice"));
            }
            seen.push(id);
            let len = body.length("setup parameter", MOQ_MESSAGE_BYTES_MAX)?;
            let mut value = Reader::new(body.bytes(len)?);
            match id {
                Self::PROBE => setup.probe = lone_varint(value)?.min(2),
                Self::PATH => {
                    let path = std::str::from_utf8(value.bytes(len)?);
                    setup.path = Some(path.map_err(|_| WireError::Malformed("setup path"))?.to_owned());
                }
                Self::ROLE => {
                    setup.role = match lone_varint(value)? {
                        1 => Some(Role::Publisher),
                        2 => Some(Role::Subscriber),
                        _ => None,
                    }
                }
                Self::HOP => setup.hop = lone_varint(value)?,
                _ => {}
            }
        }
        Ok(setup)
    }
}

fn lone_varint(mut value: Reader<'_>) -> Result<u64, WireError> {
    let number = value.varint()?;
    if value.rest().is_empty() { Ok(number) } else { Err(WireError::Malformed("setup parameter")) }
}

/// The head of a group's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHeader {
    /// The subscription it answers.
    pub subscribe: u64,
    /// The group's place in the track.
    pub sequence: u64,
}

impl GroupHeader {
    /// The bytes that open the group's stream.
    pub fn to_stream(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, GROUP);
        encode(self, &mut out);
        out
    }
}

impl Message for GroupHeader {
    const NAME: &'static str = "GROUP";

    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.subscribe);
        put_varint(out, self.sequence);
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { subscribe: body.varint()?, sequence: body.varint()? })
    }
}

/// Appends the head of a frame of `len` bytes. `delta` is the distance to the timestamp of the frame
/// before it in the group, and to 0 for the first.
pub fn frame_header(out: &mut Vec<u8>, delta: i64, len: usize) {
    put_varint(out, zigzag(delta));
    put_varint(out, u64::try_from(len).unwrap_or(u64::MAX));
}

/// What a unidirectional stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataEvent {
    /// The peer's SETUP; nothing else follows on its stream.
    Setup(Setup),
    /// The stream is this group's.
    Group(GroupHeader),
    /// The group's next frame.
    Frame {
        /// In the track's timescale.
        timestamp: i64,
        /// The frame.
        payload: Bytes,
    },
}

/// Reads one unidirectional stream: [`handle_chunk`](Self::handle_chunk) what arrives, then
/// [`poll_event`](Self::poll_event) until there is nothing.
#[derive(Debug, Default)]
pub struct DataStream {
    /// Heads, and at most one chunk beyond the frame being read.
    buffer: BytesMut,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// Between frames of a group; the timestamp of the last one.
    Frames { last: i64 },
    /// Inside a frame.
    Payload { timestamp: i64, left: usize, payload: BytesMut },
    /// After SETUP.
    Ended,
}

impl DataStream {
    /// Takes what arrived next.
    pub fn handle_chunk(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        if let State::Payload { left, payload, .. } = &mut self.state
            && self.buffer.is_empty()
            && let Some((part, tail)) = chunk.split_at_checked(chunk.len().min(*left))
        {
            payload.extend_from_slice(part);
            *left -= part.len();
            rest = tail;
        }
        self.buffer.extend_from_slice(rest);
    }

    /// What the bytes so far say, one thing at a time.
    pub fn poll_event(&mut self) -> Result<Option<DataEvent>, WireError> {
        match &mut self.state {
            State::Head => self.poll_head(),
            State::Frames { last } => {
                let last = *last;
                let Some((timestamp, len)) = take(&mut self.buffer, |reader| {
                    let timestamp = last.saturating_add(unzigzag(reader.varint()?));
                    Ok((timestamp, reader.length("frame", MOQ_FRAME_BYTES_MAX)?))
                })?
                else {
                    return Ok(None);
                };
                self.state = State::Payload { timestamp, left: len, payload: BytesMut::with_capacity(len) };
                self.poll_event()
            }
            State::Payload { timestamp, left, payload } => {
                let part = self.buffer.len().min(*left);
                payload.extend_from_slice(self.buffer.get(..part).unwrap_or_default());
                self.buffer.advance(part);
                *left -= part;
                if *left > 0 {
                    return Ok(None);
                }
                let timestamp = *timestamp;
                let payload = std::mem::take(payload).freeze();
                self.state = State::Frames { last: timestamp };
                Ok(Some(DataEvent::Frame { timestamp, payload }))
            }
            State::Ended if self.buffer.is_empty() => Ok(None),
            State::Ended => Err(WireError::Malformed("bytes after SETUP")),
        }
    }

    /// True if the stream may end here: not inside a frame or a head.
    pub fn is_at_boundary(&self) -> bool {
        self.buffer.is_empty() && matches!(self.state, State::Frames { .. } | State::Ended)
    }

    fn poll_head(&mut self) -> Result<Option<DataEvent>, WireError> {
        let event = take(&mut self.buffer, |reader| match reader.varint()? {
            GROUP => read_message(reader).map(DataEvent::Group),
            SETUP => read_message(reader).map(DataEvent::Setup),
            _ => Err(WireError::UnknownStream),
        })?;
        match event {
            Some(DataEvent::Setup(_)) => self.state = State::Ended,
            Some(_) => self.state = State::Frames { last: 0 },
            None => {}
        }
        Ok(event)
    }
}
