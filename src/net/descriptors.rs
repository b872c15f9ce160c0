//! How many connections the process's descriptors allow. Some are kept back: what is running, the journal and the
//! operators go on when strangers have taken the rest.

use std::{
    fs,
    sync::{Arc, LazyLock},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// Descriptors for connections; each holds one while it lives.
#[derive(Debug, Clone)]
pub struct Descriptors {
    shared: Arc<Semaphore>,
    /// For when the others are taken.
    reserve: Option<Arc<Semaphore>>,
}

/// They are the process's, whatever number of servers is in it.
static FREE: LazyLock<Descriptors> = LazyLock::new(|| {
    // The soft limit is for programs that use select(2).
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_default();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
    let taken = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    if limit < limits::DESCRIPTORS_RECOMMENDED {
        tracing::warn!(limit, "few file descriptors: each TCP connection takes one (LimitNOFILE, ulimit -n)");
    }
    Descriptors::new(limit.saturating_sub(taken + limits::DESCRIPTORS_RESERVED))
});

impl Descriptors {
    fn new(count: usize) -> Self {
        Self { shared: Arc::new(Semaphore::new(count)), reserve: None }
    }

    /// All that the process can spare. Asking first raises its limit as far as it may be.
    pub fn shared() -> Self {
        FREE.clone()
    }

    /// For the operators' listener: as all others, and when they are taken, some of what is kept back.
    pub fn with_reserve() -> Self {
        let reserve = Arc::new(Semaphore::new(limits::ADMIN_RESERVE));
        Self { reserve: Some(reserve), ..Self::shared() }
    }

    /// One for a new connection, `None` if all are taken.
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        let take = |from: &Arc<Semaphore>| from.clone().try_acquire_owned().ok();
        take(&self.shared).or_else(|| take(self.reserve.as_ref()?))
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.shared.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_have_some_when_strangers_have_taken_the_rest() {
        let shared = Descriptors::new(2);
        let admin = Descriptors { reserve: Some(Arc::new(Semaphore::new(1))), ..shared.clone() };
        let (_one, _two) = (admin.take().expect("free"), shared.take().expect("free"));
        assert!(shared.take().is_none() && shared.left() == 0);
        let kept_back = admin.take().expect("kept back");
        assert!(admin.take().is_none());
        drop(kept_back);
        assert!(admin.take().is_some());
    }
}
