//! ICE (RFC 8445): the lite side that a server is, and a small controlling client for our own tools.
//!
//! A lite agent has public addresses, sends no checks and answers those of its peer. The peer decides by them which
//! path is used; a check that is authentic proves that whoever holds the credentials receives on it.

pub mod client;
pub mod framing;
pub mod fuzz;
pub mod lite;
pub mod stun;
#[cfg(test)]
mod tests;

use core::{fmt, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

pub use self::{client::Client, lite::Lite};

/// What carries a path's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// One connection, packets framed by RFC 4571 ([`framing`]).
    Tcp,
}

/// A pair of addresses over which packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// The peer's address, as we see it.
    pub remote: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// What carries the packets.
    pub transport: Transport,
}

/// The short-term credentials of one side (RFC 8445 §5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Names the side in a check. A lite agent finds the session by it.
    pub ufrag: String,
    /// The key of checks to that side, and of the answers.
    pub pwd: String,
}

impl Credentials {
    /// Fresh ones: 96 random bits of ufrag, which is unique for that and can't be guessed, and 192 of pwd. Base64
    /// without padding is what the grammar of ICE allows.
    pub fn random() -> Self {
        Self {
            ufrag: STANDARD_NO_PAD.encode(rand::random::<[u8; 12]>()),
            pwd: STANDARD_NO_PAD.encode(rand::random::<[u8; 24]>()),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// Why a STUN message is dropped. It is never answered: an answer would help a stranger only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// Not STUN, cut off, or too long.
    #[error("malformed STUN message")]
    Malformed,
    /// A message that this side has no use for.
    #[error("unexpected STUN message")]
    Unexpected,
    /// No FINGERPRINT, or a wrong one.
    #[error("wrong STUN fingerprint")]
    Fingerprint,
    /// Not the USERNAME of this session.
    #[error("wrong STUN username")]
    Username,
    /// No MESSAGE-INTEGRITY, or a wrong one.
    #[error("STUN message not authentic")]
    Integrity,
}
