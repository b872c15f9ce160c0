//! Timestamps: unwrapping 24- and 32-bit counters, and rebasing a publisher onto a stream's timeline.

/// Turns a wrapping millisecond counter of `BITS` bits into one that never wraps.
///
/// A step of less than half the range, forwards or backwards, is taken as it is; so a small
/// reordering across the wrap is right on both sides of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwrap<const BITS: u32> {
    last: Option<i64>,
}

impl<const BITS: u32> Unwrap<BITS> {
    /// The unwrapped value of the next reading.
    pub fn unwrap_next(&mut self, reading: u32) -> i64 {
        let range = 1i64 << BITS;
        let reading = i64::from(reading) & (range - 1);
        let value = match self.last {
            None => reading,
            Some(last) => {
                let step = (reading - last).rem_euclid(range);
                last + if step >= range / 2 { step - range } else { step }
            }
        };
        self.last = Some(value);
        value
    }
}

/// An encoder's 32-bit millisecond clock, whichever way it wraps.
///
/// It wraps at 2^32; many encoders keep only 24 bits and fall back by 2^24 (4 h 39 min) instead.
#[derive(Debug, Clone, Copy, Default)]
pub struct EncoderClock {
    unwrap: Unwrap<32>,
    wrapped_ms: i64,
    newest_ms: Option<i64>,
}

impl EncoderClock {
    /// The unwrapped reading, in microseconds.
    pub fn micros(&mut self, reading_ms: u32) -> i64 {
        let mut ms = self.unwrap.unwrap_next(reading_ms) + self.wrapped_ms;
        let newest_ms = *self.newest_ms.get_or_insert(ms);
        let fell_ms = newest_ms - ms;
        if (RANGE_24_MS - WRAP_SLACK_MS..RANGE_24_MS + WRAP_SLACK_MS).contains(&fell_ms) {
            self.wrapped_ms += RANGE_24_MS;
            ms += RANGE_24_MS;
        }
        self.newest_ms = Some(newest_ms.max(ms));
        // A clock that restarts begins a new count.
        if fell_ms > WRAP_SLACK_MS && ms < newest_ms {
            self.newest_ms = Some(ms);
        }
        ms.saturating_mul(1000)
    }
}

const RANGE_24_MS: i64 = 1 << 24;
/// A fall by 2^24, more or less a minute, is a wrap; any other is a restart.
const WRAP_SLACK_MS: i64 = 60_000;

/// Places one publisher session's timestamps on the stream's timeline.
///
/// The first frame lands at `start_us`; every later one keeps its distance to it.
#[derive(Debug, Clone, Copy)]
pub struct Rebase {
    start_us: i64,
    offset_us: Option<i64>,
    newest_us: i64,
}

impl Rebase {
    /// A rebase whose first timestamp becomes `start_us`.
    pub fn starting_at(start_us: i64) -> Self {
        Self { start_us, offset_us: None, newest_us: i64::MIN }
    }

    /// True if the publisher's clock went back further than interleaving explains: it restarted.
    pub fn is_restart(&self, dts_us: i64) -> bool {
        self.newest_us.saturating_sub(dts_us) > RESTART_US && self.offset_us.is_some()
    }

    /// The place of `dts_us` on the stream's timeline.
    pub fn apply(&mut self, dts_us: i64) -> i64 {
        self.newest_us = self.newest_us.max(dts_us);
        let offset_us = *self.offset_us.get_or_insert(self.start_us.saturating_sub(dts_us));
        dts_us.saturating_add(offset_us)
    }

    /// The place of any other time of that clock. `None` before the first frame.
    pub fn place(&self, us: i64) -> Option<i64> {
        self.offset_us.map(|offset_us| us.saturating_add(offset_us))
    }
}

/// Audio and video of one encoder are never interleaved further apart than this.
const RESTART_US: i64 = 3_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_clock_that_restarts_is_told_from_one_that_interleaves() {
        let mut rebase = Rebase::starting_at(0);
        assert!(!rebase.is_restart(-9_000_000));
        rebase.apply(100_000_000);
        assert!(!rebase.is_restart(98_000_000) && rebase.is_restart(0));
    }

    proptest! {
        #[test]
        fn unwrap_follows_the_true_clock_over_any_wrap(
            start in 0i64..(1 << 34),
            steps in proptest::collection::vec(-5_000i64..3_600_000, 1..200),
        ) {
            let (mut by24, mut by32) = (Unwrap::<24>::default(), Unwrap::<32>::default());
            let reading = |value: i64| u32::try_from(value.rem_euclid(1 << 32)).expect("32 bits");
            let (base24, base32) = (start - by24.unwrap_next(reading(start)), start - by32.unwrap_next(reading(start)));
            let mut truth = start;
            for step in steps {
                truth += step;
                prop_assert_eq!(by32.unwrap_next(reading(truth)) + base32, truth);
                prop_assert_eq!(by24.unwrap_next(reading(truth)) + base24, truth);
            }
        }

        #[test]
        fn an_encoders_clock_grows_over_both_wraps(
            start in 0i64..(1 << 34),
            steps in proptest::collection::vec(-200i64..50_000, 1..300),
            bits in prop_oneof![Just(24u32), Just(32u32)],
        ) {
            let mut clock = EncoderClock::default();
            let reading = |ms: i64| u32::try_from(ms.rem_euclid(1 << bits)).expect("in range");
            let base_us = start * 1000 - clock.micros(reading(start));
            let mut truth = start;
            for step in steps {
                truth = (truth + step).max(start);
                prop_assert_eq!(clock.micros(reading(truth)) + base_us, truth * 1000);
            }
        }

        #[test]
        fn rebase_keeps_distances(start in any::<i32>(), first in any::<i32>(), later in any::<i32>()) {
            let mut rebase = Rebase::starting_at(start.into());
            prop_assert_eq!(rebase.apply(first.into()), i64::from(start));
            prop_assert_eq!(rebase.apply(later.into()) - i64::from(start), i64::from(later) - i64::from(first));
        }
    }
}
