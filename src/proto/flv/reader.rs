//! An incremental FLV reader: bytes in any split, tags out.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::{TAG_HEADER_BYTES, TagKind};
use crate::limits;

/// One tag as it came: its body is what the [`super::tag`] parsers take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlvTag {
    /// What the body is.
    pub kind: TagKind,
    /// Milliseconds, 32 bits, wrapping.
    pub timestamp_ms: u32,
    /// The body, without the tag's header.
    pub body: Bytes,
}

/// Why bytes are not an FLV file that hawker reads. Always the file's or the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlvError {
    /// No FLV signature or an unknown version.
    #[error("not an FLV file")]
    Signature,
    /// A header that claims an absurd length.
    #[error("FLV file header of {0} bytes")]
    HeaderLength(u32),
    /// A tag that is not audio, video or script, or is encrypted.
    #[error("FLV tag type {0:#04x} is not supported")]
    TagType(u8),
    /// A tag over the largest frame.
    #[error("FLV tag of {0} bytes is too long")]
    TagTooLong(usize),
}

/// Holds at most one partial tag, and the tags of the bytes last handed in.
#[derive(Debug, Default)]
pub struct FlvReader {
    buffer: BytesMut,
    header_read: bool,
    tags: VecDeque<FlvTag>,
}

impl FlvReader {
    /// A reader at the start of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the file.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), FlvError> {
        self.buffer.extend_from_slice(bytes);
        if !self.header_read && !self.read_header()? {
            return Ok(());
        }
        while let Some(tag) = self.read_tag()? {
            self.tags.push_back(tag);
        }
        Ok(())
    }

    /// The next whole tag.
    pub fn poll_tag(&mut self) -> Option<FlvTag> {
        self.tags.pop_front()
    }

    fn read_header(&mut self) -> Result<bool, FlvError> {
        let mut rest = self.buffer.as_ref();
        let expected: &[u8] = b"FLV\x01";
        if rest.iter().zip(expected).any(|(a, b)| a != b) {
            return Err(FlvError::Signature);
        }
        if rest.len() < FILE_HEADER_BYTES {
            return Ok(false);
        }
        rest.advance(5);
        let length = rest.get_u32();
        // Larger headers are legal (E.2) but nobody writes them; the bound keeps a liar cheap.
        if !(9..=64).contains(&length) {
            return Err(FlvError::HeaderLength(length));
        }
        let whole = usize::try_from(length).unwrap_or(usize::MAX) + PREVIOUS_TAG_SIZE_BYTES;
        if self.buffer.len() < whole {
            return Ok(false);
        }
        self.buffer.advance(whole);
        self.header_read = true;
        Ok(true)
    }

    fn read_tag(&mut self) -> Result<Option<FlvTag>, FlvError> {
        let mut rest = self.buffer.as_ref();
        if rest.len() < TAG_HEADER_BYTES {
            return Ok(None);
        }
        let kind = rest.get_u8();
        let kind = TagKind::try_from(kind).map_err(|()| FlvError::TagType(kind))?;
        let length = usize::try_from(rest.get_uint(3)).unwrap_or(usize::MAX);
        if length > limits::RTMP_MESSAGE_BYTES_MAX {
            return Err(FlvError::TagTooLong(length));
        }
        let [t2, t1, t0, t3] = rest.get_u32().to_be_bytes();
        let timestamp_ms = u32::from_be_bytes([t3, t2, t1, t0]);
        if self.buffer.len() < TAG_HEADER_BYTES + length + PREVIOUS_TAG_SIZE_BYTES {
            return Ok(None);
        }
        self.buffer.advance(TAG_HEADER_BYTES);
        let body = self.buffer.split_to(length).freeze();
        // The size of the tag that ends here; wrong in many files, and of no use to a forward reader.
        self.buffer.advance(PREVIOUS_TAG_SIZE_BYTES);
        Ok(Some(FlvTag { kind, timestamp_ms, body }))
    }
}

const FILE_HEADER_BYTES: usize = 9;
const PREVIOUS_TAG_SIZE_BYTES: usize = 4;

/// Fuzz entry: a file in two halves, every tag's body parsed.
pub mod fuzz {
    use super::FlvReader;
    use crate::proto::flv::tag;

    /// The first byte says where `data` is split.
    pub fn flv(data: &[u8]) {
        let Some((&split, data)) = data.split_first() else { return };
        let (first, second) = data.split_at_checked(split.into()).unwrap_or((data, &[]));
        let mut reader = FlvReader::new();
        let _ = reader.handle_bytes(first).and_then(|()| reader.handle_bytes(second));
        while let Some(tag) = reader.poll_tag() {
            let _ = tag::parse(tag.kind, tag.body);
        }
    }
}
