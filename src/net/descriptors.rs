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
pub struct Descriptors(Arc<Semaphore>);

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
        Self(Arc::new(Semaphore::new(count)))
    }

    /// All that the process can spare. Asking first raises its limit as far as it may be.
    pub fn shared() -> Self {
        FREE.clone()
    }

    /// For one listener of the operators', out of what is kept back.
    pub fn reserved() -> Self {
        Self::new(limits::ADMIN_CONNECTIONS_MAX)
    }

    /// One for a new connection, `None` if all are taken.
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.0.available_permits()
    }
}
