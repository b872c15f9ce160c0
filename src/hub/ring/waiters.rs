//! Who waits for a line to grow: one seat a reader, all woken together.
//!
//! Waking a thousand readers thirty times a second is what a node does most beside writing to sockets, so a reader
//! that waits costs a clone of its waker and nothing else.

use std::task::{Context, Waker};

use parking_lot::Mutex;
use slab::Slab;

/// Wakers are dropped and woken outside the lock: one may be the last to hold a task, and with it a reader's seat.
#[derive(Default)]
pub(super) struct Waiters {
    seats: Mutex<Slab<Option<Waker>>>,
}

impl Waiters {
    /// A seat for a reader.
    pub(super) fn enter(&self) -> usize {
        self.seats.lock().insert(None)
    }

    pub(super) fn leave(&self, seat: usize) {
        let waiting = self.seats.lock().try_remove(seat);
        drop(waiting);
    }

    /// Has the task of `cx` woken next time. True if it was waiting already: then there was no wake since it began to,
    /// and what it saw when it last looked is still so.
    pub(super) fn wait(&self, seat: usize, cx: &Context<'_>) -> bool {
        let mut seats = self.seats.lock();
        let Some(waiting) = seats.get_mut(seat) else { return false };
        if waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return true;
        }
        let before = waiting.replace(cx.waker().clone());
        drop(seats);
        before.is_some()
    }

    /// Wakes all who wait.
    pub(super) fn wake(&self) {
        let wakers: Vec<_> = self.seats.lock().iter_mut().filter_map(|(_, waiting)| waiting.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}
