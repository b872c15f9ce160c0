//! The only door to `tokio::spawn`: a task that panics ends alone, and is counted and logged.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU64, Ordering},
};

use futures_util::FutureExt;
use tokio::task::JoinHandle;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Runs `future` on the current shard. A panic inside ends this task only.
#[allow(clippy::disallowed_methods, reason = "this module is the door to tokio::spawn")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    // Combinators, not an async block: that would hold the future twice, and a session's size is what a silent
    // stranger costs.
    tokio::spawn(AssertUnwindSafe(future).catch_unwind().map(move |ended| {
        if ended.is_err() {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tracing::error!(task = name, "task panicked; nothing else is affected");
        }
    }))
}

/// How many tasks have panicked since start (`hawker_task_panics_total`).
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}
