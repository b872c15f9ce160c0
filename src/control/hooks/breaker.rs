//! When the backend is left alone: a server in trouble is not helped by more questions, nor are those who wait.

use crate::{
    clock::Instant,
    limits::{HOOK_BREAKER_FAILURES, HOOK_BREAKER_PAUSE},
};

/// Closed while questions are answered. Open, it lets one question through each pause.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// May a question be asked now?
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        match self.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                // This one tries; the others wait for what it learns, or for the next, if it never tells.
                self.open_until = Some(now + HOOK_BREAKER_PAUSE);
                true
            }
            None => true,
        }
    }

    /// A question was answered. True if that closes it.
    pub(super) fn succeeded(&mut self) -> bool {
        std::mem::take(self).open_until.is_some()
    }

    /// A question was not answered. True if that opens it.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let was_open = self.open_until.is_some();
        if was_open || self.failures >= HOOK_BREAKER_FAILURES {
            self.open_until = Some(now + HOOK_BREAKER_PAUSE);
        }
        !was_open && self.open_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    const PAUSE: Duration = HOOK_BREAKER_PAUSE;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_at_an_answer() {
        let (mut breaker, start) = (Breaker::default(), clock::now());
        for _ in 1..HOOK_BREAKER_FAILURES {
            assert!(breaker.admit(start) && !breaker.failed(start));
        }
        assert!(!breaker.succeeded(), "it was closed");
        for _ in 1..HOOK_BREAKER_FAILURES {
            assert!(!breaker.failed(start), "an answer between them began the count anew");
        }
        assert!(breaker.failed(start));
        assert!(!breaker.admit(start) && !breaker.admit(start + PAUSE - Duration::from_millis(1)));
        let tried = start + PAUSE;
        assert!(breaker.admit(tried) && !breaker.admit(tried), "one tries");
        assert!(!breaker.failed(tried), "it was open already");
        assert!(!breaker.admit(tried + PAUSE / 2));
        assert!(breaker.admit(tried + PAUSE) && breaker.admit(tried + 2 * PAUSE), "the first never told");
        assert!(breaker.succeeded() && breaker.admit(tried + 2 * PAUSE) && breaker.admit(tried + 2 * PAUSE));
    }
}
