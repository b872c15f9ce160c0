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
    #[cfg(test)]
    if let Some(simulated) = simulated::now() {
        return simulated;
    }
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

/// A wall clock that goes as tokio's paused one does.
#[cfg(test)]
pub mod simulated {
    use std::{
        cell::Cell,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use super::Instant;

    thread_local! {
        static BEGAN: Cell<Option<(SystemTime, Instant)>> = const { Cell::new(None) };
    }

    /// From here on the wall clock of this thread says so many seconds since 1970 and goes with [`super::now`].
    pub fn set(unix_secs: u64) {
        BEGAN.set(Some((UNIX_EPOCH + Duration::from_secs(unix_secs), super::now())));
    }

    pub(super) fn now() -> Option<SystemTime> {
        BEGAN.get().map(|(wall, began)| wall + began.elapsed())
    }
}
