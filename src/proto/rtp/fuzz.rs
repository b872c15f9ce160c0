//! Entry points of the fuzz targets: any bytes in, no panic, and nothing grows beyond its bound.

use super::{
    packet::{Packet, header_bytes, is_rtcp},
    payload::Depacketiser,
    rtcp::{self, Rtcp},
};
use crate::{limits, media::Codec};

/// A track's packets: the first byte chooses the codec, then each has flags (marker, new timestamp, loss before it)
/// and a length.
pub fn payload(bytes: &[u8]) {
    let Some((codec, mut rest)) = bytes.split_first() else { return };
    let codec = match codec % 6 {
        0 => Codec::Avc,
        1 => Codec::Hevc,
        2 => Codec::Av1,
        3 => Codec::Vp8,
        4 => Codec::Vp9,
        _ => Codec::Opus,
    };
    let mut depacketiser = Depacketiser::new(codec);
    let mut timestamp = 0u32;
    while let Some(([flags, length], after)) = rest.split_first_chunk::<2>() {
        let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        if flags & 2 != 0 {
            timestamp = timestamp.wrapping_add(3000);
        }
        if flags & 4 != 0 {
            depacketiser.handle_loss();
        }
        let _ = depacketiser.handle_packet(timestamp, flags & 1 != 0, payload);
        while let Some(unit) = depacketiser.poll_unit() {
            assert!(!unit.data.is_empty(), "a frame of nothing");
        }
    }
}

/// A datagram in the clear, as RTP and as RTCP.
pub fn rtcp(bytes: &[u8]) {
    let _ = is_rtcp(bytes);
    if let Ok(packet) = Packet::parse(bytes) {
        assert!(header_bytes(bytes).is_some_and(|header| header <= bytes.len()));
        for id in 1..16 {
            let _ = packet.extensions.get(id);
        }
    }
    for packet in rtcp::parse(bytes).unwrap_or_default() {
        match packet {
            Rtcp::Nack { lost, .. } => assert!(lost.len() <= limits::RTCP_NACK_PACKETS_MAX),
            Rtcp::Twcc(feedback) => assert!(feedback.arrivals().count() <= limits::RTCP_TWCC_PACKETS_MAX),
            _ => {}
        }
    }
}
