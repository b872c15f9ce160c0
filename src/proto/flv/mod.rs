//! FLV files (Adobe FLV 10.1, Annex E): tags in and out, the media in them, and script data.
//!
//! A tag's body is also the payload of an RTMP message, so RTMP uses [`tag`] and [`script`] too.

pub mod reader;
pub mod script;
pub mod tag;

use bytes::{BufMut, Bytes, BytesMut};

pub use self::{
    reader::{FlvError, FlvReader, FlvTag},
    tag::{MediaTag, TagBody, TagError, TagKind},
};

/// The file header (E.2) and the zero size of the tag before the first.
pub fn header(has_video: bool, has_audio: bool) -> Bytes {
    let flags = u8::from(has_video) | u8::from(has_audio) << 2;
    Bytes::copy_from_slice(&[b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0])
}

/// One tag (E.4.1) as slices to write in order; the payload is shared, not copied.
pub fn encode_tag(timestamp_ms: u32, body: &TagBody) -> [Bytes; 3] {
    let length = body.length();
    let mut head = BytesMut::with_capacity(TAG_HEADER_BYTES + body.header.len());
    head.put_u8(body.kind.into());
    head.put_uint(u64::from(length), 3);
    head.put_uint(u64::from(timestamp_ms & 0x00ff_ffff), 3);
    head.put_uint(u64::from(timestamp_ms >> 24), 1);
    head.put_uint(0, 3);
    head.put_slice(&body.header);
    let previous_tag_bytes = length.saturating_add(11);
    [head.freeze(), body.payload.clone(), Bytes::copy_from_slice(&previous_tag_bytes.to_be_bytes())]
}

const TAG_HEADER_BYTES: usize = 11;

#[cfg(test)]
mod tests;
