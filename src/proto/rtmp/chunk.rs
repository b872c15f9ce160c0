//! The chunk stream (RTMP 1.0 §5.3): messages cut into chunks, interleaved over chunk streams.

mod reader;
mod writer;

use bytes::Bytes;

pub use self::{
    reader::{ChunkError, ChunkLimits, ChunkReader},
    writer::{ChunkWriter, MessageHeader},
};

/// One whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The message type id.
    pub kind: u8,
    /// The message stream id.
    pub stream_id: u32,
    /// Milliseconds, 32 bits, wrapping.
    pub timestamp: u32,
    /// The payload, allocated once.
    pub payload: Bytes,
}

/// A header field that announces an extended timestamp (§5.3.1.3).
const EXTENDED: u32 = 0x00ff_ffff;

/// Fuzz entry: a chunk stream in two halves, with limits switched in between.
pub mod fuzz {
    use super::{ChunkLimits, ChunkReader};

    /// The first byte says where `data` is split.
    pub fn rtmp_chunk(data: &[u8]) {
        let Some((&split, data)) = data.split_first() else { return };
        let (mut first, mut second) = data.split_at_checked(split.into()).unwrap_or((data, &[]));
        let mut reader = ChunkReader::new(ChunkLimits::SETUP);
        while let Ok(Some(_)) = reader.next_message(&mut first) {}
        reader.set_limits(ChunkLimits::PUBLISHER);
        while let Ok(Some(_)) = reader.next_message(&mut second) {}
    }
}

#[cfg(test)]
mod tests;
