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

/// Places one publisher session's timestamps on the stream's timeline.
///
/// The first frame lands at `start_us`; every later one keeps its distance to it.
#[derive(Debug, Clone, Copy)]
pub struct Rebase {
    start_us: i64,
    offset_us: Option<i64>,
}

impl Rebase {
    /// A rebase whose first timestamp becomes `start_us`.
    pub fn starting_at(start_us: i64) -> Self {
        Self { start_us, offset_us: None }
    }

    /// The place of `dts_us` on the stream's timeline.
    pub fn apply(&mut self, dts_us: i64) -> i64 {
        let offset_us = *self.offset_us.get_or_insert(self.start_us.saturating_sub(dts_us));
        dts_us.saturating_add(offset_us)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        fn rebase_keeps_distances(start in any::<i32>(), first in any::<i32>(), later in any::<i32>()) {
            let mut rebase = Rebase::starting_at(start.into());
            prop_assert_eq!(rebase.apply(first.into()), i64::from(start));
            prop_assert_eq!(rebase.apply(later.into()) - i64::from(start), i64::from(later) - i64::from(first));
        }
    }
}
