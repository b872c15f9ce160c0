//! How much memory the process has, and what it does without when that runs out.
//!
//! Memory is the process's, so this is one state for all in it: [`watch`] sets it, doors and rings ask it.

use std::{
    fs,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use super::Metrics;

/// How short of memory the process is. Each level does without what those below it do, and one thing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Nothing is missing.
    None,
    /// No further viewers.
    NoViewers,
    /// No history: rings keep the newest group alone.
    NoHistory,
    /// No further streams.
    NoStreams,
}

/// Each level begins at so many hundredths of what there is …
const LEVELS: [(u64, Pressure); 3] = [(85, Pressure::NoViewers), (92, Pressure::NoHistory), (95, Pressure::NoStreams)];
/// … and ends when it is missed by so many: else it would come and go with each picture.
const HYSTERESIS: u64 = 3;

const INTERVAL: Duration = Duration::from_secs(1);

static LEVEL: AtomicU8 = AtomicU8::new(Pressure::None as u8);

/// How short of memory the process is now.
pub fn pressure() -> Pressure {
    let level = LEVEL.load(Ordering::Relaxed);
    LEVELS.iter().map(|(_, pressure)| *pressure).find(|pressure| *pressure as u8 == level).unwrap_or(Pressure::None)
}

/// Looks at the process's memory each second, for good, and says when the pressure changes.
pub async fn watch(bytes_max: u64, metrics: std::sync::Arc<Metrics>) {
    metrics.memory_max_bytes.set(i64::try_from(bytes_max).unwrap_or(i64::MAX));
    loop {
        if let Some(bytes) = kibibytes("/proc/self/status", "VmRSS:") {
            let (before, now) = (pressure(), next(pressure(), bytes, bytes_max));
            LEVEL.store(now as u8, Ordering::Relaxed);
            metrics.memory_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            metrics.memory_pressure.set((now as u8).into());
            if now > before {
                tracing::warn!(bytes, bytes_max, "short of memory: {}", now.what());
            } else if now < before {
                tracing::info!(bytes, bytes_max, "less short of memory: {}", now.what());
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

impl Pressure {
    fn what(self) -> &'static str {
        match self {
            Self::None => "all are let in",
            Self::NoViewers => "no further viewers are let in",
            Self::NoHistory => "nor is history kept",
            Self::NoStreams => "nor are further publishers let in",
        }
    }
}

fn next(before: Pressure, bytes: u64, bytes_max: u64) -> Pressure {
    let hundredths = bytes.saturating_mul(100) / bytes_max.max(1);
    let holds = |from: u64, level: Pressure| match level <= before {
        true => hundredths >= from - HYSTERESIS,
        false => hundredths >= from,
    };
    LEVELS.iter().rev().find(|(from, level)| holds(*from, *level)).map_or(Pressure::None, |(_, level)| *level)
}

/// A line of a file in /proc, such as `VmRSS:     1234 kB`, in bytes.
fn kibibytes(path: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_begins_at_its_share_and_ends_below_it() {
        let level = |before, bytes| next(before, bytes, 1000);
        assert_eq!(level(Pressure::None, 849), Pressure::None);
        assert_eq!(level(Pressure::None, 850), Pressure::NoViewers);
        assert_eq!(level(Pressure::None, 920), Pressure::NoHistory);
        assert_eq!(level(Pressure::NoViewers, 950), Pressure::NoStreams);
        assert_eq!(level(Pressure::NoStreams, 920), Pressure::NoStreams, "not at once");
        assert_eq!(level(Pressure::NoStreams, 919), Pressure::NoHistory);
        assert_eq!(level(Pressure::NoHistory, 889), Pressure::NoViewers);
        assert_eq!(level(Pressure::NoViewers, 820), Pressure::NoViewers);
        assert_eq!(level(Pressure::NoViewers, 819), Pressure::None);
        assert_eq!(level(Pressure::None, 9000), Pressure::NoStreams);
    }

    #[test]
    fn this_process_has_some_of_what_there_is() {
        let here = kibibytes("/proc/self/status", "VmRSS:").expect("on Linux");
        assert!((1..kibibytes("/proc/meminfo", "MemTotal:").expect("on Linux")).contains(&here));
    }
}
