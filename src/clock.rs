//! The only place that reads the operating system's clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

/// Monotonic now; follows tokio's paused time in tests.
pub fn now() -> Instant {
    Instant::now()
}

/// The system's wall clock.
#[allow(clippy::disallowed_methods, reason = "this module is the door to the system clock")]
pub fn system() -> SystemTime {
    SystemTime::now()
}

/// UTC microseconds since 1970.
pub fn unix_us() -> i64 {
    let since = system().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// UTC milliseconds since 1970.
pub fn unix_ms() -> i64 {
    unix_us() / 1000
}
