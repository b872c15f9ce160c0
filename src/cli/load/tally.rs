//! What viewers have seen so far, added up: one tally an address watched and a thread.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{
    agent::buckets,
    report::{CdfPoint, Quantiles, Viewers},
};

/// What the viewers of one address saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Tally {
    /// The counts; the distributions are filled in by [`Tally::into_viewers`].
    pub(super) counts: Viewers,
    /// Joined, and still there.
    pub(super) playing: u64,
    /// From connecting to the first keyframe.
    #[serde(with = "buckets")]
    pub(super) join_us: Histogram<u64>,
    /// From the publisher to the sampled viewers.
    #[serde(with = "buckets")]
    pub(super) latency_us: Histogram<u64>,
    /// The same since somebody last looked.
    #[serde(with = "buckets")]
    pub(super) recent_us: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let [join_us, latency_us, recent_us] = [(); 3].map(|()| histogram());
        Self { counts: Viewers::default(), playing: 0, join_us, latency_us, recent_us }
    }
}

impl Tally {
    /// Adds what others saw.
    pub(super) fn merge(&mut self, other: &Self) {
        let (sum, counts) = (&mut self.counts, &other.counts);
        sum.count += counts.count;
        sum.joined += counts.joined;
        sum.failed += counts.failed;
        sum.lost += counts.lost;
        sum.starved += counts.starved;
        sum.frames += counts.frames;
        sum.frames_lost += counts.frames_lost;
        sum.bytes += counts.bytes;
        sum.events += counts.events;
        sum.events_lost += counts.events_lost;
        merge_failures(&mut sum.failures, &counts.failures);
        self.playing += other.playing;
        self.join_us += &other.join_us;
        self.latency_us += &other.latency_us;
        self.recent_us += &other.recent_us;
    }

    /// Remembers why a viewer failed; true if nobody failed for that reason before.
    pub(super) fn fail(&mut self, reason: &str) -> bool {
        let failures = &mut self.counts.failures;
        let known = failures.contains_key(reason);
        let reason = if known || failures.len() < FAILURE_KINDS_MAX { reason } else { "other reasons" };
        let count = failures.entry(reason.to_owned()).or_default();
        *count += 1;
        *count == 1
    }

    /// The report of it.
    pub(super) fn into_viewers(self) -> Viewers {
        Viewers {
            join_ms: quantiles_ms(&self.join_us),
            latency_ms: quantiles_ms(&self.latency_us),
            latency_cdf: cdf_ms(&self.latency_us),
            ..self.counts
        }
    }
}

fn merge_failures(sum: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (reason, count) in more {
        *sum.entry(reason.clone()).or_default() += count;
    }
}

/// Microseconds up to two minutes, to three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(120_000_000, 3).expect("invariant: three digits are within the bounds")
}

fn quantiles_ms(us: &Histogram<u64>) -> Quantiles {
    let at = |quantile| us.value_at_quantile(quantile) as f64 / 1000.0;
    Quantiles { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: us.max() as f64 / 1000.0, samples: us.len() }
}

fn cdf_ms(us: &Histogram<u64>) -> Vec<CdfPoint> {
    if us.is_empty() {
        return Vec::new();
    }
    let steps = us.iter_quantiles(CDF_STEPS_PER_HALVING);
    steps.map(|step| CdfPoint { ms: step.value_iterated_to() as f64 / 1000.0, fraction: step.quantile() }).collect()
}

/// Reasons that are told apart: they quote what servers say.
pub(super) const FAILURE_KINDS_MAX: usize = 32;
/// Points of the distribution each time the distance to its end is halved.
const CDF_STEPS_PER_HALVING: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_machines_saw_is_one_distribution() {
        let (mut fast, mut slow) = (Tally::default(), Tally::default());
        (1..=99).for_each(|ms| fast.latency_us.saturating_record(ms * 10));
        slow.latency_us.saturating_record(500_000);
        slow.counts.frames = 7;
        assert!(slow.fail("refused") && !slow.fail("refused"));
        fast.merge(&slow);
        let viewers = fast.into_viewers();
        assert_eq!((viewers.frames, viewers.failures["refused"]), (7, 2));
        assert_eq!(viewers.latency_ms.samples, 100);
        assert!((viewers.latency_ms.p50 - 0.5).abs() < 0.01 && viewers.latency_ms.max > 499.0);
        let last = viewers.latency_cdf.last().expect("points");
        assert!(
            last.fraction == 1.0 && viewers.latency_cdf.is_sorted_by(|a, b| a.ms <= b.ms && a.fraction <= b.fraction)
        );
    }

    #[test]
    fn reasons_are_bounded() {
        let mut tally = Tally::default();
        (0..1000).for_each(|n| {
            tally.fail(&format!("reason {n}"));
        });
        assert_eq!(tally.counts.failures.len(), FAILURE_KINDS_MAX + 1);
        assert_eq!(tally.counts.failures.values().sum::<u64>(), 1000);
    }
}
