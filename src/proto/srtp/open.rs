//! Opening: what a peer sends.

use super::{
    BadKey, Profile, RTCP_INDEX_BYTES,
    cipher::{Cipher, Place, RTCP_ENCRYPTED, RTCP_LABELS, RTP_LABELS},
    replay::{Windows, nearest_index},
};

/// Why a packet is dropped. Only what an [`Opener`] accepts changes what it remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Too short for its header and a tag, or not RTP of version 2.
    #[error("malformed packet")]
    Malformed,
    /// Seen before, or too old to tell (RFC 3711 §3.3.2).
    #[error("replayed packet")]
    Replayed,
    /// RTCP in clear, which no peer of WebRTC sends.
    #[error("packet not encrypted")]
    NotEncrypted,
    /// The tag is wrong: forged, damaged, or sealed with other keys.
    #[error("packet not authentic")]
    NotAuthentic,
    /// A source beyond [`crate::limits::SRTP_SOURCES_MAX`].
    #[error("too many sources")]
    TooManySources,
}

/// Opens the packets of one direction. The bytes of a rejected packet are worth nothing.
pub struct Opener {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_windows: Windows,
    rtcp_windows: Windows,
}

impl Opener {
    /// An opener with the master key and salt of the peer's direction.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, BadKey> {
        let rtp = Cipher::derive(profile, key, salt, RTP_LABELS)?;
        let rtcp = Cipher::derive(profile, key, salt, RTCP_LABELS)?;
        Ok(Self { profile, rtp, rtcp, rtp_windows: Windows::default(), rtcp_windows: Windows::default() })
    }

    /// Opens an SRTP packet in place. The RTP packet is what lies before the returned length.
    pub fn open_rtp(&mut self, packet: &mut [u8]) -> Result<usize, Rejected> {
        let header_bytes = rtp_header_bytes(packet).ok_or(Rejected::Malformed)?;
        let plain_bytes = packet.len().checked_sub(self.profile.tag_bytes()).ok_or(Rejected::Malformed)?;
        let (packet, tag) = packet.split_at_mut_checked(plain_bytes).ok_or(Rejected::Malformed)?;
        let (header, payload) = packet.split_at_mut_checked(header_bytes).ok_or(Rejected::Malformed)?;
        let [_, _, a, b, _, _, _, _, ssrc @ ..] = *header.first_chunk::<12>().ok_or(Rejected::Malformed)?;
        let (ssrc, sequence) = (u32::from_be_bytes(ssrc), u16::from_be_bytes([a, b]));
        let index = match self.rtp_windows.newest(ssrc) {
            Some(newest) => nearest_index(newest, sequence).ok_or(Rejected::Replayed)?,
            None => sequence.into(),
        };
        self.rtp_windows.check(ssrc, index)?;
        let place = Place::rtp(ssrc, index);
        self.rtp.open(place, header, payload, tag).map_err(|_| Rejected::NotAuthentic)?;
        self.rtp_windows.insert(ssrc, index);
        Ok(plain_bytes)
    }

    /// Opens an SRTCP packet in place. The RTCP compound packet is what lies before the returned length.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Rejected> {
        let tag_bytes = self.profile.tag_bytes();
        let plain_bytes = packet.len().checked_sub(tag_bytes + RTCP_INDEX_BYTES).ok_or(Rejected::Malformed)?;
        let (packet, end) = packet.split_at_mut_checked(plain_bytes).ok_or(Rejected::Malformed)?;
        let (header, body) = packet.split_at_mut_checked(8).ok_or(Rejected::Malformed)?;
        let (tag, word) = match self.profile {
            Profile::Aes128CmSha1_80 => end.split_first_chunk().map(|(word, tag)| (tag, *word)),
            Profile::Aes128Gcm | Profile::Aes256Gcm => end.split_last_chunk().map(|(tag, word)| (tag, *word)),
        }
        .ok_or(Rejected::Malformed)?;
        let [_, _, _, _, ssrc @ ..] = *header.first_chunk::<8>().ok_or(Rejected::Malformed)?;
        let (ssrc, word) = (u32::from_be_bytes(ssrc), u32::from_be_bytes(word));
        if word & RTCP_ENCRYPTED == 0 {
            return Err(Rejected::NotEncrypted);
        }
        let index = u64::from(word & !RTCP_ENCRYPTED);
        self.rtcp_windows.check(ssrc, index)?;
        let place = Place::rtcp(ssrc, word);
        self.rtcp.open(place, header, body, tag).map_err(|_| Rejected::NotAuthentic)?;
        self.rtcp_windows.insert(ssrc, index);
        Ok(plain_bytes)
    }
}

/// Length of an RTP header with its contributing sources and extension (RFC 3550 §5.1), which stay in clear.
fn rtp_header_bytes(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    if first >> 6 != 2 {
        return None;
    }
    let fixed_bytes = 12 + 4 * usize::from(first & 0x0f);
    if first & 0x10 == 0 {
        return Some(fixed_bytes);
    }
    let [_, _, words @ ..] = *packet.get(fixed_bytes..)?.first_chunk::<4>()?;
    Some(fixed_bytes + 4 + 4 * usize::from(u16::from_be_bytes(words)))
}
