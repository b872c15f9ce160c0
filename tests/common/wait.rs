//! Waiting for what comes in its own time, and chance that a run can repeat.

use std::{thread, time::Duration};

use hawker::clock;

/// Between two looks, so that whoever is waited for has the machine.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again; gives how long it took, and fails after `within`.
pub(crate) fn wait_until(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let began = clock::now();
    while !is_so() {
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
        thread::park_timeout(PAUSE);
    }
    began.elapsed()
}

/// What chance depends on: the same in each run, unless `FAULT_SEED` says otherwise.
pub(crate) fn fault_seed() -> u64 {
    let seed = std::env::var("FAULT_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    eprintln!("FAULT_SEED={seed}");
    seed
}
