//! Wire protocols as sans-IO state machines and codecs.
//!
//! Invariant: no socket, no clock, no task. `handle_*` takes bytes (and a time), `poll_*` gives bytes and
//! events. Lengths from the wire are bounded before anything is allocated; nothing here can panic.

#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::expect_used))]

pub mod flv;
pub mod ice;
pub mod moq;
pub mod rtmp;
pub mod rtp;
pub mod sdp;
pub mod srtp;
pub mod webrtc;
pub mod whip;
