//! One source's packets put back in order: a hole is asked for, waited for, and at last given up.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::JUMP_MAX;
use crate::limits::{RTCP_NACK_PACKETS_MAX, RTP_REORDER_PACKETS_MAX};

/// What comes out, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready<T> {
    /// The next packet.
    Packet(T),
    /// Packets that are missing here and will not come.
    Lost {
        /// How many; at least one.
        packets: u32,
    },
}

/// How long a hole is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the moment it is seen until it is given up.
    pub wait: Duration,
    /// Time between two requests for the same packet: a round trip. `None`: nothing is asked for.
    pub ask_every: Option<Duration>,
}

/// What did not go as it should, in packets since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Never came out, because they didn't arrive in time.
    pub lost: u64,
    /// Dropped: already here.
    pub duplicate: u64,
    /// Dropped: after their turn.
    pub late: u64,
    /// Asked for, each time counted.
    pub asked: u64,
}

/// The jitter buffer of one source.
///
/// [`Self::poll`] it until it has nothing more, after every insertion and at [`Self::deadline`].
#[derive(Debug)]
pub struct Reorder<T> {
    patience: Patience,
    /// The sequence number of the first slot: of the packet whose turn it is.
    next: u16,
    /// From the packet whose turn it is to the newest.
    slots: VecDeque<Slot<T>>,
    started: bool,
    /// What a new count of sequence numbers left behind, to be told before anything else.
    abandoned: u32,
    counters: Counters,
}

#[derive(Debug)]
enum Slot<T> {
    Held(T),
    Missing(Missing),
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    since: Instant,
    asked: u32,
    asked_at: Instant,
}

impl<T> Reorder<T> {
    /// An empty buffer. The first packet that arrives is the first in order.
    pub fn new(patience: Patience) -> Self {
        Self { patience, next: 0, slots: VecDeque::new(), started: false, abandoned: 0, counters: Counters::default() }
    }

    /// The round trip is known better: holes known already are waited for accordingly, too.
    pub fn handle_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Takes a packet in. A sequence number far off begins a new count.
    pub fn insert(&mut self, now: Instant, sequence: u16, packet: T) {
        if !self.started {
            self.started = true;
            self.next = sequence;
        }
        // The nearer way round the circle: a packet is ahead of its turn, or behind it.
        let ahead = sequence.wrapping_sub(self.next);
        let behind = self.next.wrapping_sub(sequence);
        if behind != 0 && behind <= ahead && behind <= JUMP_MAX {
            self.counters.late += 1;
            return;
        }
        match usize::from(ahead).checked_sub(self.slots.len()) {
            None => self.fill(ahead, packet),
            Some(missing) if missing > JUMP_MAX.into() => self.restart(sequence, packet),
            Some(missing) => self.append(now, missing, packet),
        }
    }

    fn fill(&mut self, ahead: u16, packet: T) {
        match self.slots.get_mut(usize::from(ahead)) {
            Some(slot @ Slot::Missing(_)) => *slot = Slot::Held(packet),
            _ => self.counters.duplicate += 1,
        }
    }

    fn append(&mut self, now: Instant, missing: usize, packet: T) {
        // Polling leaves it no longer than that.
        if self.slots.len() > RTP_REORDER_PACKETS_MAX {
            return;
        }
        let hole = Missing { since: now, asked: 0, asked_at: now };
        self.slots.extend(std::iter::repeat_with(|| Slot::Missing(hole)).take(missing));
        self.slots.push_back(Slot::Held(packet));
    }

    fn restart(&mut self, sequence: u16, packet: T) {
        let abandoned = u32::try_from(self.slots.len()).unwrap_or(u32::MAX).max(1);
        self.abandoned = self.abandoned.saturating_add(abandoned);
        self.slots.clear();
        self.slots.push_back(Slot::Held(packet));
        self.next = sequence;
    }

    /// The next packet, or the news that it will not come. `None`: wait.
    pub fn poll(&mut self, now: Instant) -> Option<Ready<T>> {
        let abandoned = std::mem::take(&mut self.abandoned);
        if abandoned > 0 {
            return Some(self.lost(abandoned));
        }
        let given_up = self.given_up(now);
        if given_up > 0 {
            self.slots.drain(..given_up);
            self.next = self.next.wrapping_add(u16::try_from(given_up).unwrap_or(0));
            return Some(self.lost(u32::try_from(given_up).unwrap_or(u32::MAX)));
        }
        match self.slots.pop_front_if(|slot| matches!(slot, Slot::Held(_)))? {
            Slot::Held(packet) => {
                self.next = self.next.wrapping_add(1);
                Some(Ready::Packet(packet))
            }
            Slot::Missing(_) => None,
        }
    }

    fn lost(&mut self, packets: u32) -> Ready<T> {
        self.counters.lost = self.counters.lost.saturating_add(packets.into());
        Ready::Lost { packets }
    }

    /// How many slots at the front are missing, and past waiting for: too long, or with too many behind them.
    fn given_up(&self, now: Instant) -> usize {
        let overfull = self.slots.len().saturating_sub(RTP_REORDER_PACKETS_MAX);
        let is_given_up = |(index, slot): &(usize, &Slot<T>)| match slot {
            Slot::Missing(hole) => *index < overfull || hole.since + self.patience.wait <= now,
            Slot::Held(_) => false,
        };
        self.slots.iter().enumerate().take_while(is_given_up).count()
    }

    /// The sequence numbers to ask for now, in order; at most [`RTCP_NACK_PACKETS_MAX`].
    pub fn poll_nack(&mut self, now: Instant) -> Vec<u16> {
        let Some(ask_every) = self.patience.ask_every else { return Vec::new() };
        let (next, newest) = (self.next, self.slots.len());
        let mut lost = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Slot::Missing(hole) = slot else { continue };
            if hole.due(newest - index, ask_every).is_some_and(|due| due <= now) {
                hole.asked += 1;
                hole.asked_at = now;
                lost.push(next.wrapping_add(u16::try_from(index).unwrap_or(0)));
            }
            if lost.len() == RTCP_NACK_PACKETS_MAX {
                break;
            }
        }
        self.counters.asked += u64::try_from(lost.len()).unwrap_or(0);
        lost
    }

    /// When [`Self::poll`] or [`Self::poll_nack`] has something to say, if no packet comes before.
    pub fn deadline(&self) -> Option<Instant> {
        let newest = self.slots.len();
        let due = |(index, slot): (usize, &Slot<T>)| match slot {
            Slot::Missing(hole) => {
                let ask = self.patience.ask_every.and_then(|ask_every| hole.due(newest - index, ask_every));
                let give_up = hole.since + self.patience.wait;
                Some(ask.map_or(give_up, |ask| ask.min(give_up)))
            }
            Slot::Held(_) => None,
        };
        self.slots.iter().enumerate().filter_map(due).min()
    }

    /// What went wrong so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

impl Missing {
    /// When it is to be asked for again. `newer` is the number of slots from here to the newest.
    fn due(&self, newer: usize, ask_every: Duration) -> Option<Instant> {
        match self.asked {
            0 if newer > TOLERANCE_PACKETS => Some(self.since),
            0 => Some(self.since + TOLERANCE),
            asked if asked < ASKED_MAX => Some(self.asked_at + ask_every.max(TOLERANCE)),
            _ => None,
        }
    }
}

/// A packet this late or overtaken by so many is taken for lost, and asked for.
const TOLERANCE: Duration = Duration::from_millis(10);
const TOLERANCE_PACKETS: usize = 3;
/// Requests for one packet. After so many round trips it has stopped to matter.
const ASKED_MAX: u32 = 10;

#[cfg(test)]
mod tests;
