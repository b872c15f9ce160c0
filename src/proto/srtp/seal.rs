//! Sealing: what we send.

use super::{
    BadKey, Profile,
    cipher::{Cipher, Place, RTCP_ENCRYPTED, RTCP_LABELS, RTP_LABELS},
    replay::nearest_index,
};
use crate::limits::SRTP_SOURCES_MAX;

/// Why a packet must not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Shorter than its header, or than any.
    #[error("packet too short")]
    Malformed,
    /// Its sequence number doesn't follow the source's last. Other bytes under an index that was used would give the
    /// plain text of both away, so what is sent again goes as RTX (RFC 4588), under a number of its own.
    #[error("sequence number was used")]
    IndexReused,
    /// Every index of these keys was used.
    #[error("keys are used up")]
    Exhausted,
    /// More sources than [`SRTP_SOURCES_MAX`].
    #[error("too many sources")]
    TooManySources,
    /// The cryptographic library refused.
    #[error("encryption failed")]
    Crypto,
}

/// Seals the packets of one direction. On an error the buffer is cut back to where the packet began, so that plain
/// text never leaves by mistake.
pub struct Sealer {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    /// Sources and the index of their last packet.
    newest: Vec<(u32, u64)>,
    rtcp_index: u32,
}

impl Sealer {
    /// A sealer with the master key and salt of our direction.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, BadKey> {
        let rtp = Cipher::derive(profile, key, salt, RTP_LABELS)?;
        let rtcp = Cipher::derive(profile, key, salt, RTCP_LABELS)?;
        Ok(Self { profile, rtp, rtcp, newest: Vec::new(), rtcp_index: 0 })
    }

    /// Bytes by which an RTP packet grows; an RTCP packet by [`super::RTCP_INDEX_BYTES`] more.
    pub fn overhead(&self) -> usize {
        self.profile.tag_bytes()
    }

    /// Seals the RTP packet `buffer[start..]`, whose payload follows after `header_bytes`, in place.
    ///
    /// Sequence numbers of a source only go up, each time by less than 2^15, and its first should be below 2^15:
    /// a receiver that misses packets across a wrap before any other can't tell that there was one.
    pub fn seal_rtp(&mut self, buffer: &mut Vec<u8>, start: usize, header_bytes: usize) -> Result<(), SealError> {
        let sealed = self.try_seal_rtp(buffer, start, header_bytes);
        sealed.inspect_err(|_| buffer.truncate(start))
    }

    /// Seals the RTCP compound packet `buffer[start..]` in place.
    pub fn seal_rtcp(&mut self, buffer: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        let sealed = self.try_seal_rtcp(buffer, start);
        sealed.inspect_err(|_| buffer.truncate(start))
    }

    fn try_seal_rtp(&mut self, buffer: &mut Vec<u8>, start: usize, header_bytes: usize) -> Result<(), SealError> {
        let packet = buffer.get_mut(start..).ok_or(SealError::Malformed)?;
        let (header, payload) = packet.split_at_mut_checked(header_bytes).ok_or(SealError::Malformed)?;
        let [_, _, a, b, _, _, _, _, ssrc @ ..] = *header.first_chunk::<12>().ok_or(SealError::Malformed)?;
        let ssrc = u32::from_be_bytes(ssrc);
        let index = self.next_index(ssrc, u16::from_be_bytes([a, b]))?;
        let tag = self.rtp.seal(Place::rtp(ssrc, index), header, payload).map_err(|_| SealError::Crypto)?;
        buffer.extend(tag.iter().take(self.profile.tag_bytes()));
        Ok(())
    }

    fn try_seal_rtcp(&mut self, buffer: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        let packet = buffer.get_mut(start..).ok_or(SealError::Malformed)?;
        let (header, body) = packet.split_at_mut_checked(8).ok_or(SealError::Malformed)?;
        let [_, _, _, _, ssrc @ ..] = *header.first_chunk::<8>().ok_or(SealError::Malformed)?;
        if self.rtcp_index >= RTCP_ENCRYPTED {
            return Err(SealError::Exhausted);
        }
        // One count for all sources: an index is then unique to its source, which is all that is asked for.
        let word = self.rtcp_index | RTCP_ENCRYPTED;
        self.rtcp_index = self.rtcp_index.saturating_add(1);
        let place = Place::rtcp(u32::from_be_bytes(ssrc), word);
        let tag = self.rtcp.seal(place, header, body).map_err(|_| SealError::Crypto)?;
        let tag = tag.iter().take(self.profile.tag_bytes());
        match self.profile {
            Profile::Aes128CmSha1_80 => buffer.extend(word.to_be_bytes().iter().chain(tag)),
            Profile::Aes128Gcm | Profile::Aes256Gcm => buffer.extend(tag.chain(&word.to_be_bytes())),
        }
        Ok(())
    }

    fn next_index(&mut self, ssrc: u32, sequence: u16) -> Result<u64, SealError> {
        let sources = self.newest.len();
        let Some((_, newest)) = self.newest.iter_mut().find(|(of, _)| *of == ssrc) else {
            if sources >= SRTP_SOURCES_MAX {
                return Err(SealError::TooManySources);
            }
            self.newest.push((ssrc, sequence.into()));
            return Ok(sequence.into());
        };
        let index = nearest_index(*newest, sequence).ok_or(SealError::Exhausted)?;
        if index <= *newest {
            return Err(SealError::IndexReused);
        }
        *newest = index;
        Ok(index)
    }
}
