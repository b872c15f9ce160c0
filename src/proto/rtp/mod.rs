//! RTP and RTCP (RFC 3550): packets, feedback, and the buffer that puts one source's packets back in order.
//!
//! Invariant: parsing borrows or grows in proportion to the datagram; where a few bytes can stand for many
//! packets (NACK, transport-wide feedback) a bound of `limits.rs` comes first.

use bytes::TryGetError;

pub mod fuzz;
pub mod ntp;
pub mod packet;
pub mod payload;
pub mod reception;
pub mod reorder;
pub mod rtcp;
pub mod twcc;

/// The sender's bytes are not what they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

impl From<TryGetError> for Malformed {
    fn from(_: TryGetError) -> Self {
        Self("packet: it ends too early")
    }
}

/// A sequence number further away than this is no loss and no delay but a new count (RFC 3550 §A.1, MAX_DROPOUT).
const JUMP_MAX: u16 = 3000;

/// Bytes from hexadecimal digits.
#[cfg(test)]
fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
