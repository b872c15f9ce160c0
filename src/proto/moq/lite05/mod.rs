//! moq-lite-05: control messages on bidirectional streams, SETUP and groups on unidirectional ones.
//!
//! Every message is `length, body` (varint length); what precedes the length, if anything, names the
//! message. Names are the draft's. Both sides are here: a server decodes [`Request`]s and encodes replies,
//! a client does the reverse.

mod control;
mod data;

use bytes::{Buf, BytesMut};

use super::varint::{Reader, WireError, put_varint};
use crate::limits::MOQ_MESSAGE_BYTES_MAX;

pub use control::{
    AnnounceBroadcast, AnnounceOk, AnnounceRequest, Fetch, Goaway, Probe, Request, Subscribe, SubscribeReply,
    SubscribeUpdate, TrackInfo, TrackRequest,
};
pub use data::{DataEvent, DataStream, GroupHeader, Role, Setup, frame_header};

/// The ALPN protocol of raw QUIC sessions, and the WebTransport subprotocol.
pub const ALPN: &str = "moq-lite-05";

/// Codes for STOP_SENDING and RESET_STREAM, as the published clients read them.
pub mod stream_code {
    /// Something of ours failed.
    pub const INTERNAL: u32 = 0x0;
    /// Nobody wants it any more.
    pub const CANCEL: u32 = 0x1;
    /// The session is draining.
    pub const GOING_AWAY: u32 = 0x4;
    /// The reader is too far behind for this group to be of use.
    pub const TOO_FAR_BEHIND: u32 = 0x5;
    /// The bytes broke the protocol.
    pub const MALFORMED: u32 = 0x12;
    /// No such broadcast, track or group.
    pub const NOT_FOUND: u32 = 0x33;
}

/// Codes for closing the session.
pub mod session_code {
    /// An orderly end.
    pub const CANCEL: u32 = 0x0;
    /// The token does not grant what was asked.
    pub const UNAUTHORIZED: u32 = 0x2;
    /// The peer broke the protocol.
    pub const PROTOCOL_VIOLATION: u32 = 0x3;
    /// The peer ignored a GOAWAY for too long.
    pub const GOAWAY_TIMEOUT: u32 = 0x10;
    /// Setting up took too long.
    pub const TIMEOUT: u32 = 0x11;
}

/// The body of a length-prefixed message.
pub trait Message: Sized {
    /// What errors call it.
    const NAME: &'static str;

    /// Appends the body.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads the body; whatever is left over is an error of the caller's making.
    fn read(body: &mut Reader<'_>) -> Result<Self, WireError>;
}

/// Appends `message` with its length.
pub fn encode<M: Message>(message: &M, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    message.write(&mut body);
    super::varint::put_prefixed(out, &body);
}

/// Takes one message off the front of `buffer`, or nothing if it is not all there yet.
pub fn decode<M: Message>(buffer: &mut BytesMut) -> Result<Option<M>, WireError> {
    take(buffer, read_message)
}

/// Reads `length, body` and holds the body to its length.
fn read_message<M: Message>(reader: &mut Reader<'_>) -> Result<M, WireError> {
    let len = reader.length(M::NAME, MOQ_MESSAGE_BYTES_MAX)?;
    let mut body = Reader::new(reader.bytes(len)?);
    let message = M::read(&mut body).map_err(|error| match error {
        // The whole body is here, so a field that wants more than it has is a lie.
        WireError::Incomplete => WireError::Malformed(M::NAME),
        error => error,
    })?;
    if body.rest().is_empty() { Ok(message) } else { Err(WireError::Malformed(M::NAME)) }
}

/// Runs `read` over `buffer` and drops what it read, if it got all it wanted.
fn take<T>(
    buffer: &mut BytesMut,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, WireError>,
) -> Result<Option<T>, WireError> {
    let mut reader = Reader::new(buffer);
    match read(&mut reader) {
        Ok(value) => {
            let read = buffer.len() - reader.rest().len();
            buffer.advance(read);
            Ok(Some(value))
        }
        Err(WireError::Incomplete) => Ok(None),
        Err(error) => Err(error),
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    super::varint::put_prefixed(out, text.as_bytes());
}

/// `0` for none, else the value plus one: how lite-05 writes optional group sequences.
fn put_optional(out: &mut Vec<u8>, value: Option<u64>) {
    put_varint(out, value.map_or(0, |value| value.saturating_add(1)));
}

fn read_optional(body: &mut Reader<'_>) -> Result<Option<u64>, WireError> {
    Ok(body.varint()?.checked_sub(1))
}

/// A string inside a message: the message's own bound holds it.
fn read_string(body: &mut Reader<'_>, what: &'static str) -> Result<String, WireError> {
    body.string(what, MOQ_MESSAGE_BYTES_MAX)
}

#[cfg(test)]
mod tests;
