//! What becomes of a viewer who can't keep up: one rule for HTTP-FLV, RTMP, MoQ and WHEP.
//!
//! - He waits in the ring that all share, so he holds up nobody. Of what was taken from there for him, little is on its
//!   way: 64 KiB and a frame in an outlet (TCP), [`limits::MOQ_SEND_WINDOW_BYTES`] (QUIC), a burst of packets (WebRTC).
//!   A kernel holds [`limits::TCP_UNSENT_BYTES_MAX`] before that.
//! - When what comes next for him is older than [`Patience::lag_max`], he goes on with the newest keyframe. The frames
//!   between are left out; the events between are not, and come in order, once.
//! - He is dropped when he has taken not one byte for [`Patience::stall_max`] though some waited for him, or when events
//!   that he has not seen are no longer held. Being slow is no reason.
//!
//! What has been taken shows in the socket (TCP), in the session's stream credit (MoQ), and in what he reports (WHEP): a
//! WebRTC viewer of whom nothing is heard is sent nothing more, goes on with the newest keyframe when he is heard
//! again, and is dropped when his consent to receive expires.

use std::time::Duration;

use crate::limits;

/// How far behind, and how long without a byte, a viewer may be.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Further behind than this he goes on with the newest keyframe.
    pub lag_max: Duration,
    /// Having taken not one byte of what waits for so long, he is dropped.
    pub stall_max: Duration,
}

impl Patience {
    /// So much lag, and [`limits::VIEWER_STALL_TIMEOUT`].
    pub fn new(lag_max: Duration) -> Self {
        Self { lag_max, stall_max: limits::VIEWER_STALL_TIMEOUT }
    }

    /// The lag as rings have it.
    pub fn lag_us_max(self) -> i64 {
        i64::try_from(self.lag_max.as_micros()).unwrap_or(i64::MAX)
    }
}
