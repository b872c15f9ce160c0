//! Which packet indices of each source were seen: replay protection (RFC 3711 §3.3.2).

use super::Rejected;
use crate::limits::{SRTP_REPLAY_WINDOW_PACKETS, SRTP_SOURCES_MAX};

#[allow(clippy::as_conversions, reason = "a constant, and small")]
const WORDS: usize = (SRTP_REPLAY_WINDOW_PACKETS / 64) as usize;

/// The index of the packet `sequence` of a source whose newest is `newest`: the one nearest to it (RFC 3711 §3.3.1).
/// `None` if that is before the source's first or after its last.
pub(super) fn nearest_index(newest: u64, sequence: u16) -> Option<u64> {
    let [.., high, low] = newest.to_be_bytes();
    let step = sequence.wrapping_sub(u16::from_be_bytes([high, low])).cast_signed();
    newest.checked_add_signed(step.into()).filter(|index| *index < 1 << 48)
}

/// One window a source. Only packets that were authenticated may come into it.
#[derive(Default)]
pub(super) struct Windows {
    by_ssrc: Vec<(u32, Window)>,
}

impl Windows {
    /// The newest index of a source.
    pub(super) fn newest(&self, ssrc: u32) -> Option<u64> {
        self.window(ssrc).map(|window| window.newest)
    }

    /// Whether a packet may be new. It changes nothing.
    pub(super) fn check(&self, ssrc: u32, index: u64) -> Result<(), Rejected> {
        match self.window(ssrc) {
            Some(window) if window.has(index) => Err(Rejected::Replayed),
            None if self.by_ssrc.len() >= SRTP_SOURCES_MAX => Err(Rejected::TooManySources),
            _ => Ok(()),
        }
    }

    /// Notes a packet that passed `check` and was authenticated.
    pub(super) fn insert(&mut self, ssrc: u32, index: u64) {
        match self.by_ssrc.iter_mut().find(|(of, _)| *of == ssrc) {
            Some((_, window)) => window.insert(index),
            None => self.by_ssrc.push((ssrc, Window::starting_at(index))),
        }
    }

    fn window(&self, ssrc: u32) -> Option<&Window> {
        self.by_ssrc.iter().find(|(of, _)| *of == ssrc).map(|(_, window)| window)
    }
}

struct Window {
    newest: u64,
    /// Bit `index % SRTP_REPLAY_WINDOW_PACKETS`, of the indices in the window alone.
    seen: [u64; WORDS],
}

impl Window {
    fn starting_at(index: u64) -> Self {
        let mut window = Self { newest: index, seen: [0; WORDS] };
        window.insert(index);
        window
    }

    /// True of what was seen, and of what is too old to tell.
    fn has(&self, index: u64) -> bool {
        if index > self.newest {
            return false;
        }
        let (word, bit) = place(index);
        self.newest - index >= SRTP_REPLAY_WINDOW_PACKETS || self.seen.get(word).is_none_or(|seen| seen & bit != 0)
    }

    fn insert(&mut self, index: u64) {
        let steps = index.saturating_sub(self.newest).min(SRTP_REPLAY_WINDOW_PACKETS);
        for skipped in 0..steps {
            let (word, bit) = place(index - skipped);
            self.seen.get_mut(word).into_iter().for_each(|seen| *seen &= !bit);
        }
        self.newest = self.newest.max(index);
        let (word, bit) = place(index);
        self.seen.get_mut(word).into_iter().for_each(|seen| *seen |= bit);
    }
}

fn place(index: u64) -> (usize, u64) {
    let slot = index % SRTP_REPLAY_WINDOW_PACKETS;
    (usize::try_from(slot / 64).unwrap_or(usize::MAX), 1 << (slot % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_index_crosses_the_wrap_both_ways() {
        assert_eq!(nearest_index(0xffff, 0), Some(0x1_0000));
        assert_eq!(nearest_index(0x1_0000, 0xffff), Some(0xffff));
        assert_eq!(nearest_index(0, 0xffff), None, "before the first");
        assert_eq!(nearest_index((1 << 48) - 1, 0), None, "after the last");
        assert_eq!(nearest_index(0x5_8000, 0x7fff), Some(0x5_7fff));
        assert_eq!(nearest_index(0x5_8000, 0xffff), Some(0x5_ffff));
    }

    proptest! {
        #[test]
        fn a_window_takes_each_index_once(steps in proptest::collection::vec(-1500i64..1600, 1..600)) {
            let (mut windows, mut seen, mut newest) = (Windows::default(), HashSet::new(), 100_000u64);
            windows.insert(7, newest);
            seen.insert(newest);
            for step in steps {
                let index = newest.saturating_add_signed(step);
                let is_new = newest.saturating_sub(index) < SRTP_REPLAY_WINDOW_PACKETS && !seen.contains(&index);
                prop_assert_eq!(windows.check(7, index).is_ok(), is_new, "{} of {}", index, newest);
                if is_new {
                    windows.insert(7, index);
                    seen.insert(index);
                    newest = newest.max(index);
                }
            }
            prop_assert_eq!(windows.newest(7), Some(newest));
        }
    }
}
