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
    use bytes::Bytes;

    use super::{ChunkLimits, ChunkReader, Message};

    /// The first byte says where `data` is split.
    pub fn rtmp_chunk(data: &[u8]) {
        let Some((&split, data)) = data.split_first() else { return };
        let (mut first, mut second) = data.split_at_checked(split.into()).unwrap_or((data, &[]));
        let mut reader = ChunkReader::new(ChunkLimits::SETUP);
        while let Ok(Some(_)) = reader.next_message(&mut first) {}
        reader.set_limits(ChunkLimits::PUBLISHER);
        while let Ok(Some(_)) = reader.next_message(&mut second) {}
    }

    /// Messages on up to four chunk streams, interleaved as `data` says: a pair of bytes each names a chunk stream,
    /// which sends its next chunk, or begins a message of that many bytes. Each comes out whole, at its last chunk.
    pub fn rtmp_interleaved(data: &[u8]) {
        let mut sending: [Option<(u8, Vec<u8>, usize)>; 4] = Default::default();
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        let (pairs, _) = data.as_chunks::<2>();
        for &[which, length] in pairs {
            let Some(slot) = sending.get_mut(usize::from(which % 4)) else { continue };
            let chunk_stream = 3 + which % 4;
            let (kind, payload, sent) = match slot.take() {
                Some(going_on) => {
                    stream.push(0xc0 | chunk_stream);
                    going_on
                }
                None => {
                    let payload = vec![length ^ which; 5 * usize::from(length)];
                    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
                    let kind = if which & 4 == 0 { 8 } else { 9 };
                    stream.extend([chunk_stream, 0, 0, which, high, middle, low, kind, 1, 0, 0, 0]);
                    (kind, payload, 0)
                }
            };
            let end = payload.len().min(sent + CHUNK_BYTES);
            stream.extend_from_slice(payload.get(sent..end).unwrap_or_default());
            if end < payload.len() {
                *slot = Some((kind, payload, end));
            } else {
                expected.push((kind, Bytes::from(payload)));
            }
        }
        let mut reader = ChunkReader::new(ChunkLimits { chunk_bytes_min: 0, ..ChunkLimits::AUTHORISED });
        let mut read = Vec::new();
        // Cut anywhere, as TCP does.
        for mut piece in stream.chunks(1 + data.len() % 300) {
            loop {
                match reader.next_message(&mut piece) {
                    Ok(Some(Message { kind, payload, stream_id: 1, .. })) => read.push((kind, payload)),
                    Ok(None) => break,
                    wrong => return assert!(matches!(wrong, Ok(None)), "{wrong:?}"),
                }
            }
        }
        assert_eq!(read, expected, "interleaved messages got mixed up");
    }

    /// What chunks are cut at until somebody says otherwise (§5.4.1).
    const CHUNK_BYTES: usize = 128;
}

#[cfg(test)]
mod tests;
