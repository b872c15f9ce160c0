//! Who waits for a line to grow: one seat a reader, all woken together.
//!
//! Waking a thousand readers thirty times a second is what a node does most beside writing to sockets, so a reader
//! that waits costs a clone of its waker and nothing else.

use std::task::{Context, Waker};

use parking_lot::Mutex;
use slab::Slab;

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
        self.seats.lock().try_remove(seat);
    }

    /// Has the task of `cx` woken next time. True if it was waiting already: then there was no wake since it began to,
    /// and what it saw when it last looked is still so.
    pub(super) fn wait(&self, seat: usize, cx: &Context<'_>) -> bool {
        let mut seats = self.seats.lock();
        let Some(waiting) = seats.get_mut(seat) else { return false };
        let waited = waiting.is_some();
        match waiting {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waiting = Some(cx.waker().clone()),
        }
        waited
    }

    /// Wakes all who wait. Outside the lock: a waker may be the last to hold a task, and with it a reader's seat.
    pub(super) fn wake(&self) {
        let wakers: Vec<_> = self.seats.lock().iter_mut().filter_map(|(_, waiting)| waiting.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}
