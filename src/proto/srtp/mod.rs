//! SRTP and SRTCP (RFC 3711), with AES-GCM (RFC 7714) or AES-CM and HMAC-SHA1.
//!
//! One [`Sealer`] and one [`Opener`] are one session: all sources (SSRC) of it share the keys that DTLS gave
//! ([`from_dtls`]), each has its own packet index. There is no MKI and no key renewal; a session ends long before
//! its 2^48 packets.

mod cipher;
mod open;
mod replay;
mod seal;
#[cfg(test)]
mod tests;

pub use self::{
    open::{Opener, Rejected},
    seal::{SealError, Sealer},
};

/// A protection profile of DTLS-SRTP (RFC 5764 §4.1.2, RFC 7714 §14.2). Where the peer has them, prefer
/// `Aes128Gcm`, then `Aes256Gcm`: one pass over a packet where `Aes128CmSha1_80` takes two, the second a slow one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// SRTP_AES128_CM_HMAC_SHA1_80, which every WebRTC peer has.
    Aes128CmSha1_80,
    /// SRTP_AEAD_AES_128_GCM.
    Aes128Gcm,
    /// SRTP_AEAD_AES_256_GCM.
    Aes256Gcm,
}

impl Profile {
    /// Length of a master key.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 | Self::Aes128Gcm => 16,
            Self::Aes256Gcm => 32,
        }
    }

    /// Length of a master salt.
    pub const fn salt_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => 14,
            Self::Aes128Gcm | Self::Aes256Gcm => 12,
        }
    }

    /// What sealing adds to an RTP packet. An RTCP packet grows by [`RTCP_INDEX_BYTES`] more.
    pub const fn tag_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => 10,
            Self::Aes128Gcm | Self::Aes256Gcm => 16,
        }
    }

    /// Keying material that this profile takes from DTLS: the argument of [`from_dtls`].
    pub const fn keying_bytes(self) -> usize {
        2 * (self.key_bytes() + self.salt_bytes())
    }
}

/// The E flag and the index that every SRTCP packet carries.
pub const RTCP_INDEX_BYTES: usize = 4;

/// Keying material that doesn't have the lengths of its profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("keying material does not fit {0:?}")]
pub struct BadKey(pub Profile);

/// Both directions of a session out of DTLS's exported material: the keys of client and server, then their salts
/// (RFC 5764 §4.2).
pub fn from_dtls(profile: Profile, material: &[u8], is_client: bool) -> Result<(Sealer, Opener), BadKey> {
    let split = || {
        let (client_key, rest) = material.split_at_checked(profile.key_bytes())?;
        let (server_key, rest) = rest.split_at_checked(profile.key_bytes())?;
        let (client_salt, server_salt) = rest.split_at_checked(profile.salt_bytes())?;
        Some(((client_key, client_salt), (server_key, server_salt)))
    };
    let (client, server) = split().ok_or(BadKey(profile))?;
    let (ours, theirs) = if is_client { (client, server) } else { (server, client) };
    Ok((Sealer::new(profile, ours.0, ours.1)?, Opener::new(profile, theirs.0, theirs.1)?))
}
