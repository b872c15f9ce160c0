//! The bounded line of one stream (or of one muxed form of it): one producer, many cursors.
//!
//! The producer never waits. A reader that falls behind what the ring still holds, or behind its own lag
//! budget, is moved to the newest start point; it is told how many frames it lost, and still gets every event.

mod waiters;

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::RwLock;

use self::waiters::Waiters;
use crate::{
    clock::{self, Instant},
    limits,
    observe::memory::{self, Pressure},
};

/// What an entry means to a reader that joins or skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Configuration in force from here on; a joiner gets the one in force at his start point first.
    Head,
    /// A frame where a reader may start; begins a group.
    Start,
    /// A frame that needs those before it in the group.
    Follow,
    /// Never skipped.
    Event,
}

/// What a ring can hold.
pub trait Entry: Clone + Send + Sync + 'static {
    /// How readers treat the entry.
    fn kind(&self) -> EntryKind;
    /// Payload bytes that count against the ring's bound.
    fn bytes(&self) -> usize;
    /// Decode time on the stream's timeline; `None` takes the neighbour's.
    fn dts_us(&self) -> Option<i64>;
}

/// What a cursor yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<T> {
    /// The next entry, with the sequence of its group.
    Entry {
        /// The entry.
        entry: T,
        /// Sequence of the group it belongs to.
        group: u64,
    },
    /// The reader was too slow: this many frames were left out, and a start point follows.
    Skipped {
        /// Frames that the reader will not see.
        frames: u64,
    },
}

/// Why a cursor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The stream ended.
    #[error("stream ended")]
    Closed,
    /// The reader was so slow that events it hasn't seen are no longer held; it must join anew.
    #[error("too slow: events it has not seen are gone")]
    EventsLost,
}

/// Bounds of a ring.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Payload bytes held.
    pub bytes_max: usize,
    /// Groups held, the unfinished one included.
    pub groups_max: usize,
}

struct Slot<T> {
    entry: T,
    group: u64,
    /// The entry's own time, if it has one.
    dts_us: Option<i64>,
    /// When it entered the hub.
    entered: Instant,
    /// Frames pushed before this entry since the ring was made.
    frames_before: u64,
}

/// An event that is kept beyond the frames around it.
struct Kept<T> {
    index: u64,
    event: T,
    group: u64,
    /// Decode time of the newest entry before it.
    after_us: Option<i64>,
}

struct Inner<T> {
    slots: VecDeque<Slot<T>>,
    /// Index of `slots[0]`; indices count every entry ever pushed.
    first: u64,
    bytes: usize,
    /// Indices of the start points still held.
    starts: VecDeque<u64>,
    /// Heads still in force for an entry held, oldest first.
    heads: VecDeque<(u64, T)>,
    /// The newest events, kept beyond the frames around them.
    events: VecDeque<Kept<T>>,
    /// Payload bytes in `events`.
    event_bytes: usize,
    /// Events at or after this index are all in `events`.
    events_from: u64,
    frames: u64,
    group: u64,
    dts_us: Option<i64>,
    closed: bool,
}

/// The index of events that no reader here is owed.
const REMEMBERED: u64 = 0;

/// A bounded line with one producer and many [`Cursor`]s.
pub struct Ring<T> {
    inner: RwLock<Inner<T>>,
    waiters: Waiters,
    bounds: Bounds,
}

impl<T: Entry> Ring<T> {
    /// An empty ring.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        let inner = Inner {
            slots: VecDeque::new(),
            first: REMEMBERED + 1,
            bytes: 0,
            starts: VecDeque::new(),
            heads: VecDeque::new(),
            events: VecDeque::new(),
            event_bytes: 0,
            events_from: 0,
            frames: 0,
            group: 0,
            dts_us: None,
            closed: false,
        };
        Arc::new(Self { inner: RwLock::new(inner), waiters: Waiters::default(), bounds })
    }

    /// Appends an entry that belongs to `group`. Never waits for a reader.
    pub fn push(&self, entry: T, group: u64) {
        self.append(entry, group, clock::now());
        self.wake();
    }

    /// Keeps an event of `group`, from before all that the ring holds, for [`Ring::recent_events`] alone.
    pub(super) fn remember(&self, event: T, group: u64) {
        let mut inner = self.inner.write();
        inner.event_bytes += event.bytes();
        let after_us = inner.dts_us;
        let behind = inner.events.partition_point(|kept| kept.index == REMEMBERED);
        inner.events.insert(behind, Kept { index: REMEMBERED, event, group, after_us });
        inner.enforce(self.bounds);
    }

    /// Appends an entry that entered the hub at `entered`. Readers see it when they look; they are not woken.
    pub(super) fn append(&self, entry: T, group: u64, entered: Instant) {
        let mut inner = self.inner.write();
        inner.append(entry, group, entered);
        inner.enforce(match memory::pressure() < Pressure::NoHistory {
            true => self.bounds,
            false => Bounds { groups_max: 1, ..self.bounds },
        });
    }

    /// Tells the readers that wait.
    pub(super) fn wake(&self) {
        self.waiters.wake();
    }

    /// Ends the line: readers get what is held, then [`End::Closed`].
    pub fn close(&self) {
        self.inner.write().closed = true;
        self.waiters.wake();
    }

    /// True after [`Ring::close`].
    pub fn is_closed(&self) -> bool {
        self.inner.read().closed
    }

    /// Payload bytes held now.
    pub fn bytes(&self) -> usize {
        self.inner.read().bytes
    }

    /// The configuration in force at the end of the line.
    pub fn head(&self) -> Option<T> {
        self.inner.read().heads.back().map(|(_, head)| head.clone())
    }

    /// The newest start point, after the configuration in force there.
    pub(super) fn newest_start(&self) -> Option<(T, T)> {
        let inner = self.inner.read();
        let index = *inner.starts.back()?;
        Some((inner.head_at(index)?.1.clone(), inner.slot(index)?.entry.clone()))
    }

    /// The events before `group` that came no earlier than `from_us` and are still held, oldest first.
    pub fn recent_events(&self, group: u64, from_us: i64) -> Vec<T> {
        let inner = self.inner.read();
        let recent = |kept: &&Kept<T>| kept.group < group && kept.after_us.is_none_or(|us| us >= from_us);
        inner.events.iter().filter(recent).map(|kept| kept.event.clone()).collect()
    }

    /// A reader that joins at the newest start point, or at the first one to come.
    ///
    /// With `lag_us_max` it also skips when it is further behind than that and a newer start point exists.
    pub fn cursor(self: &Arc<Self>, lag_us_max: Option<i64>) -> Cursor<T> {
        Cursor {
            seat: self.waiters.enter(),
            ring: self.clone(),
            entered: clock::now(),
            group_start: 0,
            next: None,
            resync: false,
            frames_done: 0,
            head_seen: None,
            backlog: VecDeque::new(),
            lag_us_max,
        }
    }
}

impl<T: Entry> Inner<T> {
    fn tail(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn append(&mut self, entry: T, group: u64, entered: Instant) {
        let index = self.tail();
        let frames_before = self.frames;
        let dts_us = entry.dts_us();
        let after_us = self.dts_us;
        self.dts_us = dts_us.or(self.dts_us);
        if after_us.is_none() {
            // What was there before the first time has that.
            self.events.iter_mut().for_each(|kept| kept.after_us = dts_us);
        }
        match entry.kind() {
            EntryKind::Head => self.heads.push_back((index, entry.clone())),
            EntryKind::Event => {
                self.event_bytes += entry.bytes();
                self.events.push_back(Kept { index, event: entry.clone(), group, after_us });
            }
            EntryKind::Start => self.starts.push_back(index),
            EntryKind::Follow => {}
        }
        if matches!(entry.kind(), EntryKind::Start | EntryKind::Follow) {
            self.frames += 1;
        }
        self.group = group;
        self.bytes += entry.bytes();
        self.slots.push_back(Slot { entry, group, dts_us, entered, frames_before });
    }

    fn enforce(&mut self, bounds: Bounds) {
        while self.starts.len() > bounds.groups_max
            || self.bytes > bounds.bytes_max
            || self.slots.len() > limits::RING_ENTRIES_MAX
        {
            self.drop_oldest_group();
        }
        // A head is needed until a later one covers the oldest entry held.
        while self.heads.get(1).is_some_and(|(index, _)| *index <= self.first) {
            self.heads.pop_front();
        }
        while self.events.len() > limits::RING_EVENTS_MAX || self.event_bytes > limits::RING_EVENT_BYTES_MAX {
            let Some(kept) = self.events.pop_front() else { break };
            self.event_bytes -= kept.event.bytes();
            // Remembered ones have no place in the line.
            self.events_from = self.events_from.max(kept.index + 1);
        }
    }

    /// Drops everything before the next start point after the oldest entry; all of it if there is none.
    fn drop_oldest_group(&mut self) {
        if self.starts.front() == Some(&self.first) {
            self.starts.pop_front();
        }
        let keep_from = self.starts.front().copied().unwrap_or(self.tail());
        while self.first < keep_from {
            let Some(slot) = self.slots.pop_front() else { break };
            self.bytes -= slot.entry.bytes();
            self.first += 1;
        }
    }

    fn slot(&self, index: u64) -> Option<&Slot<T>> {
        self.slots.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn head_at(&self, index: u64) -> Option<&(u64, T)> {
        self.heads.iter().rev().find(|(at, _)| *at <= index)
    }

    /// Where a reader at `next` must skip to: it is behind what is held, or behind its budget.
    fn skip_target(&self, next: u64, lag_us_max: Option<i64>) -> Option<u64> {
        let newest = self.starts.back().copied();
        if next < self.first {
            // No start point held: wait at the end for the next one.
            return Some(newest.unwrap_or(self.tail()));
        }
        let (budget, slot, newest) = (lag_us_max?, self.slot(next)?, newest?);
        // Heads and events have no time of their own: they are judged by the frame they belong to.
        let lag_us = self.dts_us?.saturating_sub(slot.dts_us?);
        (newest > next && lag_us > budget).then_some(newest)
    }
}

/// One reader's place in a [`Ring`].
pub struct Cursor<T> {
    ring: Arc<Ring<T>>,
    /// Where it waits.
    seat: usize,
    /// When the entry that was read last entered the hub.
    entered: Instant,
    /// The first group to be read; 0 for the newest.
    group_start: u64,
    /// `None` until a start point exists.
    next: Option<u64>,
    /// After a skip to a place without a start point: frames are left out until one comes.
    resync: bool,
    /// Frames of the ring that this reader has seen or been told of.
    frames_done: u64,
    /// Index of the head delivered last.
    head_seen: Option<u64>,
    /// What a join or a skip owes the reader before the entry at `next`.
    backlog: VecDeque<Read<T>>,
    lag_us_max: Option<i64>,
}

impl<T> Drop for Cursor<T> {
    fn drop(&mut self) {
        self.ring.waiters.leave(self.seat);
    }
}

impl<T: Entry> Cursor<T> {
    /// Joins at the oldest start point held of `group` or a later one, instead of the newest.
    pub fn from_group(mut self, group: u64) -> Self {
        self.group_start = group;
        self
    }

    /// When the entry that was read last entered the hub.
    pub fn entered(&self) -> Instant {
        self.entered
    }

    /// The next entry, waiting for it. Cancel safe.
    pub async fn recv(&mut self) -> Result<Read<T>, End> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next entry; if there is none, the task of `cx` is woken when there may be one.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Read<T>, End>> {
        if let Some(read) = self.try_recv()? {
            return Poll::Ready(Ok(read));
        }
        if self.ring.waiters.wait(self.seat, cx) {
            return Poll::Pending;
        }
        // Nothing is lost between looking and waiting: who comes to wait anew looks again.
        self.try_recv()
            .map_or_else(|end| Poll::Ready(Err(end)), |read| read.map_or(Poll::Pending, |r| Poll::Ready(Ok(r))))
    }

    /// The next entry if there is one now.
    pub fn try_recv(&mut self) -> Result<Option<Read<T>>, End> {
        if let Some(read) = self.backlog.pop_front() {
            return Ok(Some(read));
        }
        let ring = self.ring.clone();
        let inner = ring.inner.read();
        let Some(next) = self.next.or_else(|| self.join(&inner)) else {
            return if inner.closed { Err(End::Closed) } else { Ok(None) };
        };
        if let Some(target) = inner.skip_target(next, self.lag_us_max) {
            self.skip(&inner, next, target)?;
        }
        match self.backlog.pop_front() {
            Some(read) => Ok(Some(read)),
            None => self.take(&inner),
        }
    }

    fn take(&mut self, inner: &Inner<T>) -> Result<Option<Read<T>>, End> {
        let Some(mut next) = self.next else { return Ok(None) };
        loop {
            let Some(slot) = inner.slot(next) else {
                self.next = Some(next);
                return if inner.closed { Err(End::Closed) } else { Ok(None) };
            };
            let kind = slot.entry.kind();
            if self.resync && kind == EntryKind::Follow {
                next += 1;
                continue;
            }
            if kind == EntryKind::Start && slot.frames_before > self.frames_done {
                self.next = Some(next);
                return Ok(Some(self.account_skip(slot.frames_before)));
            }
            match kind {
                EntryKind::Head => self.head_seen = Some(next),
                EntryKind::Start | EntryKind::Follow => {
                    self.resync = false;
                    self.frames_done = slot.frames_before + 1;
                }
                EntryKind::Event => {}
            }
            self.next = Some(next + 1);
            self.entered = slot.entered;
            return Ok(Some(Read::Entry { entry: slot.entry.clone(), group: slot.group }));
        }
    }

    /// Chooses the newest start point, with the heads and events that stand directly before it.
    fn join(&mut self, inner: &Inner<T>) -> Option<u64> {
        let wanted = |start: &&u64| inner.slot(**start).is_some_and(|slot| slot.group >= self.group_start);
        let mut at = match self.group_start {
            0 => inner.starts.back().copied()?,
            _ => inner.starts.iter().find(wanted).copied()?,
        };
        let belongs = |slot: &Slot<T>| matches!(slot.entry.kind(), EntryKind::Head | EntryKind::Event);
        while at.checked_sub(1).and_then(|before| inner.slot(before)).is_some_and(belongs) {
            at -= 1;
        }
        self.frames_done = inner.slot(at).map_or(inner.frames, |slot| slot.frames_before);
        self.owe_head(inner, at);
        self.next = Some(at);
        self.next
    }

    fn skip(&mut self, inner: &Inner<T>, next: u64, target: u64) -> Result<(), End> {
        if next < inner.events_from {
            return Err(End::EventsLost);
        }
        let from = inner.events.partition_point(|kept| kept.index < next);
        let missed = inner.events.iter().skip(from).take_while(|kept| kept.index < target);
        // A head tells the state at its place: events from before it must not come behind it, nor the other way round.
        let owed_head = inner.head_at(target).filter(|(index, _)| self.head_seen != Some(*index));
        let head_at = owed_head.map_or(target, |(index, _)| *index);
        let (before, behind): (Vec<_>, Vec<_>) = missed.partition(|kept| kept.index < head_at);
        let owed = |kept: &Kept<T>| Read::Entry { entry: kept.event.clone(), group: kept.group };
        self.backlog.extend(before.into_iter().map(owed));
        let target_slot = inner.slot(target);
        self.resync = target_slot.is_none();
        if let Some(slot) = target_slot {
            let skipped = self.account_skip(slot.frames_before);
            self.backlog.push_back(skipped);
        }
        self.owe_head(inner, target);
        self.backlog.extend(behind.into_iter().map(owed));
        self.next = Some(target);
        Ok(())
    }

    fn account_skip(&mut self, frames_before: u64) -> Read<T> {
        let frames = frames_before.saturating_sub(self.frames_done);
        self.frames_done = frames_before;
        Read::Skipped { frames }
    }

    /// The head in force at `at`, unless the reader has it or is about to read it there.
    fn owe_head(&mut self, inner: &Inner<T>, at: u64) {
        if let Some((index, head)) = inner.head_at(at)
            && self.head_seen != Some(*index)
            && *index != at
        {
            self.head_seen = Some(*index);
            let group = inner.slot(at).map_or(inner.group, |slot| slot.group);
            self.backlog.push_back(Read::Entry { entry: head.clone(), group });
        }
    }
}

#[cfg(test)]
mod tests;
