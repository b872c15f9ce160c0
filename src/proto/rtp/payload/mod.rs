//! RTP payload formats, both ways: frames out of packets' payloads, and payloads out of frames.
//!
//! H.264 (RFC 6184), H.265 (RFC 7798), AV1 (RTP Payload Format For AV1 1.0), VP8 (RFC 7741), VP9 (RFC 9628), Opus
//! (RFC 7587). Nothing here knows RTP's header: timestamp and marker come beside the payload, and packets in order.

mod av1;
mod depacketise;
mod nal;
mod packetise;
mod vp8;
mod vp9;

pub use depacketise::{Depacketiser, Unit};
pub use nal::is_reference;
pub use packetise::{Packetiser, Packets};

#[cfg(test)]
mod tests;
