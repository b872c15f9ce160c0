//! How much of what is sent arrives, second by second, by what the viewer says.

use std::time::Duration;

use crate::clock::Instant;

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    packets: u32,
    lost: u32,
}

impl Count {
    fn with(self, other: Self) -> Self {
        Self { packets: self.packets.saturating_add(other.packets), lost: self.lost.saturating_add(other.lost) }
    }
}

#[derive(Debug, Default)]
pub(super) struct Loss {
    began: Option<Instant>,
    current: Count,
    last: Count,
    /// The last second, if it is judged together with the current one.
    before: Option<Count>,
}

impl Loss {
    /// So many packets were told of, and so many of them lost. True if the link is overrun: what follows would be lost
    /// too, so the viewer is better off without it until a keyframe.
    pub(super) fn add(&mut self, now: Instant, packets: u32, lost: u32) -> bool {
        let began = *self.began.get_or_insert(now);
        let overrun = now.saturating_duration_since(began) >= SECOND && self.end_second(now);
        self.current = self.current.with(Count { packets, lost });
        overrun
    }

    /// Lost of a thousand, in the last whole second.
    pub(super) fn per_mille(&self) -> u32 {
        self.last.lost.saturating_mul(1000).checked_div(self.last.packets).unwrap_or(0)
    }

    fn end_second(&mut self, now: Instant) -> bool {
        self.began = Some(now);
        self.last = std::mem::take(&mut self.current);
        let Some(before) = self.before.replace(self.last) else { return false };
        let Count { packets, lost } = self.last.with(before);
        let overrun = packets >= PACKETS_MIN && lost > packets / 10 * 3;
        if overrun {
            // What comes next is judged by itself.
            self.before = None;
        }
        overrun
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// Fewer in two seconds say nothing of a link.
const PACKETS_MIN: u32 = 50;
