//! Typed messages (RTMP 1.0 §5.4, §7.1): what the chunk stream carries, and the ones that hawker writes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    amf0::{self, Value},
    chunk::Message,
};
use crate::proto::flv::TagKind;

/// A message by what has to be done with it.
#[derive(Debug, Clone, PartialEq)]
pub enum Typed {
    /// The window after which the peer wants an acknowledgement (type 5).
    WindowAckSize(u32),
    /// Stream events and pings (type 4).
    UserControl(UserControl),
    /// A remote procedure call or its answer (types 20 and 17).
    Command(Command),
    /// AMF0 data (types 18 and 15).
    Data(Bytes),
    /// Audio or video (types 8 and 9).
    Media(TagKind, Bytes),
    /// Several messages in one (type 22), see [`AggregateParts`].
    Aggregate(Message),
    /// Acknowledgements, bandwidth hints, shared objects and types unknown: nothing to do.
    Ignored,
}

/// A user control message (§7.1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserControl {
    /// The stream can be used.
    StreamBegin(u32),
    /// The stream has ended.
    StreamEof(u32),
    /// The client's buffer: stream and milliseconds.
    SetBufferLength(u32, u32),
    /// Wants the same number back.
    PingRequest(u32),
    /// The answer.
    PingResponse(u32),
}

/// A command: a name, a transaction to answer to, an object and what follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// What to do.
    pub name: String,
    /// Ties answers to calls; 0 wants none.
    pub transaction: f64,
    /// The command object, often null.
    pub object: Value,
    /// The rest.
    pub arguments: Vec<Value>,
}

impl Command {
    /// A command with a null command object.
    pub fn new<const N: usize>(name: &str, transaction: f64, arguments: [Value; N]) -> Self {
        Self { name: name.to_owned(), transaction, object: Value::Null, arguments: arguments.into() }
    }

    /// The string argument at `index`.
    pub fn argument_str(&self, index: usize) -> Option<&str> {
        self.arguments.get(index).and_then(Value::as_str)
    }

    /// The AMF0 payload.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        amf0::encode_all(&[Value::string(self.name.as_str()), Value::Number(self.transaction)], &mut out);
        amf0::encode(&self.object, &mut out);
        amf0::encode_all(&self.arguments, &mut out);
        out.freeze()
    }

    /// Commands that lack a transaction or an object are common from small encoders, and read as 0 and null.
    fn decode(payload: &[u8], limits: &amf0::Limits) -> Result<Option<Self>, amf0::Error> {
        let mut values = amf0::decode_all(payload, limits)?.into_iter();
        let Some(Value::String(name)) = values.next() else { return Ok(None) };
        let transaction = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Some(Self { name, transaction, object, arguments: values.collect() }))
    }
}

impl UserControl {
    /// The payload.
    pub fn encode(self) -> Bytes {
        let (event, value) = match self {
            Self::StreamBegin(stream) => (0, stream),
            Self::StreamEof(stream) => (1, stream),
            Self::SetBufferLength(stream, _) => (3, stream),
            Self::PingRequest(time) => (6, time),
            Self::PingResponse(time) => (7, time),
        };
        let mut out = BytesMut::with_capacity(10);
        out.put_u16(event);
        out.put_u32(value);
        if let Self::SetBufferLength(_, buffer_ms) = self {
            out.put_u32(buffer_ms);
        }
        out.freeze()
    }

    fn decode(mut payload: &[u8]) -> Option<Self> {
        let event = payload.try_get_u16().ok()?;
        let value = payload.try_get_u32().ok()?;
        match event {
            0 => Some(Self::StreamBegin(value)),
            1 => Some(Self::StreamEof(value)),
            3 => Some(Self::SetBufferLength(value, payload.try_get_u32().ok()?)),
            6 => Some(Self::PingRequest(value)),
            7 => Some(Self::PingResponse(value)),
            _ => None,
        }
    }
}

impl Message {
    /// The message by its type.
    pub fn into_typed(self, limits: &amf0::Limits) -> Result<Typed, amf0::Error> {
        let payload = self.payload;
        Ok(match self.kind {
            kind::USER_CONTROL => UserControl::decode(&payload).map_or(Typed::Ignored, Typed::UserControl),
            kind::WINDOW_ACK_SIZE => match payload.first_chunk() {
                Some(size) => Typed::WindowAckSize(u32::from_be_bytes(*size)),
                None => Typed::Ignored,
            },
            kind::COMMAND => Command::decode(&payload, limits)?.map_or(Typed::Ignored, Typed::Command),
            kind::COMMAND_AMF3 => {
                Command::decode(&without_amf3_switch(payload), limits)?.map_or(Typed::Ignored, Typed::Command)
            }
            kind::DATA => Typed::Data(payload),
            kind::DATA_AMF3 => Typed::Data(without_amf3_switch(payload)),
            kind::AGGREGATE => Typed::Aggregate(Self { payload, ..self }),
            other => match TagKind::try_from(other) {
                Ok(media) => Typed::Media(media, payload),
                Err(()) => Typed::Ignored,
            },
        })
    }
}

/// The "AMF3" types start with a byte that says AMF0 follows after all.
fn without_amf3_switch(mut payload: Bytes) -> Bytes {
    if payload.first() == Some(&0) {
        payload.advance(1);
    }
    payload
}

/// The messages inside an aggregate (§7.1.6), which share its memory.
#[derive(Debug)]
pub struct AggregateParts {
    rest: Bytes,
    stream_id: u32,
    /// What to add to the parts' timestamps: the first one means the aggregate's own.
    shift: Option<u32>,
    timestamp: u32,
}

impl AggregateParts {
    /// The parts of `message`.
    pub fn new(message: Message) -> Self {
        Self { rest: message.payload, stream_id: message.stream_id, shift: None, timestamp: message.timestamp }
    }
}

impl Iterator for AggregateParts {
    type Item = Message;

    /// Ends at the first part that isn't whole.
    fn next(&mut self) -> Option<Message> {
        let kind = self.rest.try_get_u8().ok()?;
        let length = usize::try_from(self.rest.try_get_uint(3).ok()?).ok()?;
        let [t2, t1, t0, t3] = self.rest.try_get_u32().ok()?.to_be_bytes();
        let timestamp = u32::from_be_bytes([t3, t2, t1, t0]);
        self.rest.try_get_uint(3).ok()?;
        if self.rest.len() < length {
            return None;
        }
        let payload = self.rest.split_to(length);
        // The back pointer; some encoders leave out the last one.
        self.rest.advance(self.rest.len().min(4));
        let shift = *self.shift.get_or_insert(self.timestamp.wrapping_sub(timestamp));
        Some(Message { kind, stream_id: self.stream_id, timestamp: timestamp.wrapping_add(shift), payload })
    }
}

/// Message type ids (§5.4, §7.1).
pub mod kind {
    /// Set Chunk Size.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Acknowledgement: the running total of bytes received.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User control.
    pub const USER_CONTROL: u8 = 4;
    /// Window Acknowledgement Size.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Set Peer Bandwidth.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Data in AMF3 clothing.
    pub const DATA_AMF3: u8 = 15;
    /// A command in AMF3 clothing.
    pub const COMMAND_AMF3: u8 = 17;
    /// AMF0 data.
    pub const DATA: u8 = 18;
    /// An AMF0 command.
    pub const COMMAND: u8 = 20;
    /// Aggregate.
    pub const AGGREGATE: u8 = 22;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, payload: impl Into<Bytes>) -> Message {
        Message { kind, stream_id: 1, timestamp: 5000, payload: payload.into() }
    }

    #[test]
    fn commands_survive_both_types() {
        let command = Command::new("publish", 5.0, [Value::string("room"), Value::string("live")]);
        let amf3 = [&[0][..], &command.encode()].concat();
        for message in [message(kind::COMMAND, command.encode()), message(kind::COMMAND_AMF3, amf3)] {
            assert_eq!(message.into_typed(&amf0::Limits::SETUP), Ok(Typed::Command(command.clone())));
        }
    }

    #[test]
    fn user_control_survives() {
        for control in [UserControl::StreamEof(1), UserControl::PingRequest(9), UserControl::SetBufferLength(1, 3000)] {
            let typed = message(kind::USER_CONTROL, control.encode()).into_typed(&amf0::Limits::SETUP);
            assert_eq!(typed, Ok(Typed::UserControl(control)));
        }
    }

    #[test]
    fn aggregates_split_and_take_the_outer_clock() {
        let part = |kind: u8, low: u8, data: &[u8]| {
            let length = u8::try_from(data.len()).expect("short");
            [&[kind, 0, 0, length, 0, 0, low, 0, 0, 0, 0], data, &[0, 0, 0, length + 11]].concat()
        };
        let body = [part(8, 100, b"\xaf\x01a"), part(9, 120, b"v"), vec![9, 0, 0, 9]].concat();
        let parts: Vec<_> = AggregateParts::new(message(kind::AGGREGATE, body)).collect();
        assert_eq!(parts.iter().map(|part| (part.kind, part.timestamp)).collect::<Vec<_>>(), [(8, 5000), (9, 5020)]);
        assert_eq!((&parts[0].payload[..], &parts[1].payload[..]), (&b"\xaf\x01a"[..], &b"v"[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(kind in any::<u8>(), data in proptest::collection::vec(any::<u8>(), 0..128)) {
            let message = message(kind, data);
            let _ = message.clone().into_typed(&amf0::Limits::SETUP);
            prop_assert!(AggregateParts::new(message).count() < 16);
        }
    }
}
