//! Entry point of the fuzz target: any file in, no panic.

use bytes::Bytes;

use super::source::Clip;

/// A file that somebody wants to push: MP4, progressive or fragmented, or FLV.
pub fn clip(bytes: &[u8]) {
    let _ = Clip::parse(Bytes::copy_from_slice(bytes));
}
