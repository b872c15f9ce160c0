//! Messages into chunks. Stateless on purpose: the slices of one encoding serve every viewer.

use bytes::{BufMut, Bytes, BytesMut};

use super::EXTENDED;

/// Where and when a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageHeader {
    /// Chunk stream id, 2 to 63.
    pub chunk_stream: u8,
    /// The message type id.
    pub kind: u8,
    /// The message stream id.
    pub stream_id: u32,
    /// Milliseconds, 32 bits, wrapping.
    pub timestamp: u32,
}

/// Encodes messages for a peer that was told this chunk size.
#[derive(Debug, Clone, Copy)]
pub struct ChunkWriter {
    chunk_bytes: usize,
}

impl ChunkWriter {
    /// A writer for the given chunk size, at least the protocol's initial 128.
    pub fn new(chunk_bytes: usize) -> Self {
        Self { chunk_bytes: chunk_bytes.max(128) }
    }

    /// The message of `prefix` and `payload` as slices to write in order. The payload is shared, not
    /// copied, unless it is so small that a copy is cheaper than one more slice in every viewer's write.
    ///
    /// Always a type-0 header with the absolute timestamp, so that a viewer may start at, or skip to, any message.
    pub fn encode(&self, header: &MessageHeader, prefix: &[u8], mut payload: Bytes) -> Vec<Bytes> {
        let mut head = BytesMut::with_capacity(HEADER_BYTES_MAX + prefix.len() + COPY_BYTES_MAX.min(payload.len()));
        self.put_header(header, prefix.len() + payload.len(), &mut head);
        head.put_slice(prefix);
        let mut room = self.chunk_bytes.saturating_sub(prefix.len());
        if payload.len() <= room.min(COPY_BYTES_MAX) {
            head.put_slice(&payload);
            return vec![head.freeze()];
        }
        let continuation = continuation(header);
        let mut slices = Vec::with_capacity(2 * (1 + payload.len() / self.chunk_bytes));
        slices.push(head.freeze());
        while !payload.is_empty() {
            if room == 0 {
                slices.push(continuation.clone());
                room = self.chunk_bytes;
            }
            slices.push(payload.split_to(room.min(payload.len())));
            room = 0;
        }
        slices
    }

    fn put_header(&self, header: &MessageHeader, length: usize, out: &mut BytesMut) {
        out.put_u8(header.chunk_stream & 0x3f);
        out.put_uint(u64::from(header.timestamp.min(EXTENDED)), 3);
        out.put_uint(u64::try_from(length).unwrap_or(u64::MAX), 3);
        out.put_u8(header.kind);
        // Little-endian, alone in the protocol (§5.3.1.2.1).
        out.put_u32_le(header.stream_id);
        if header.timestamp >= EXTENDED {
            out.put_u32(header.timestamp);
        }
    }
}

/// A type-3 header, with the extended timestamp repeated (§5.3.1.3).
fn continuation(header: &MessageHeader) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5);
    bytes.put_u8(0xc0 | header.chunk_stream & 0x3f);
    if header.timestamp >= EXTENDED {
        bytes.put_u32(header.timestamp);
    }
    bytes.freeze()
}

const HEADER_BYTES_MAX: usize = 16;
const COPY_BYTES_MAX: usize = 512;
