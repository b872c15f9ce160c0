//! Why a session ends.

use super::{amf0, chunk::ChunkError, handshake::HandshakeError};
use crate::proto::flv::TagError;

/// Always the peer's fault, and always the end of the session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Not RTMP.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The chunk stream is broken or over a bound.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A command or data message is broken or over a bound.
    #[error(transparent)]
    Amf0(#[from] amf0::Error),
    /// Media that hawker doesn't carry. Worth telling the publisher with [`super::ServerSession::reject`].
    #[error(transparent)]
    Tag(#[from] TagError),
    /// A command out of its order.
    #[error("{0}")]
    Unexpected(&'static str),
    /// A name or query over its bound.
    #[error("{field} has more than {bytes_max} bytes")]
    TooLong {
        /// Which.
        field: &'static str,
        /// Its bound.
        bytes_max: usize,
    },
    /// The peer talks on and on without a request that can be accepted.
    #[error("too much data before publish or play")]
    SetupTooLong,
    /// The peer asks and doesn't read the answers.
    #[error("the peer doesn't read its answers")]
    OutputFull,
    /// The peer goes on sending before its request is answered.
    #[error("too much data before the request was answered")]
    HeldFull,
}
