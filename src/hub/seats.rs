//! Who may push into a stream: one publisher is on air, others stand by or wait for their first keyframe.
//!
//! Nobody goes on air before he has a picture to begin with; until then whoever is on air goes on, so that a change
//! of publishers costs the viewers nothing.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{clock::Instant, config::SecondPublisher, limits};

/// With what right a publisher comes to a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claim {
    /// The greater goes before the smaller, whoever came first.
    pub priority: u8,
}

/// Why a publisher can't have a place in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum Unseated {
    /// The node is full.
    Full,
    /// Another publisher is on air, and stays.
    Busy,
    /// Another publisher has a greater priority.
    Outranked,
    /// Too many publishers stand by already.
    Crowded,
}

impl Unseated {
    /// The words for the publisher, and the metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "this node has no room for another stream",
            Self::Busy => "another publisher is on air",
            Self::Outranked => "a publisher of higher priority is on air",
            Self::Crowded => "too many publishers of this stream",
        }
    }
}

impl From<super::Full> for Unseated {
    fn from(_: super::Full) -> Self {
        Self::Full
    }
}

/// How publishers of one stream get along.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) second: SecondPublisher,
    pub(super) standby_after: Duration,
}

/// What a publisher's frame is to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// He is on air.
    OnAir,
    /// He is on air from this frame on.
    Begins,
    /// Somebody else is.
    StandsBy,
    /// He has no place here any more.
    Replaced,
}

/// The publishers of one stream, in the order in which they came.
#[derive(Debug)]
pub(super) struct Seats {
    rules: Rules,
    seats: Vec<Seat>,
    on_air: Option<u64>,
    newest: u64,
}

#[derive(Debug)]
struct Seat {
    id: u64,
    priority: u8,
    /// It comes from another node; any publisher of this one goes before it.
    is_relay: bool,
    /// When it last pushed a frame, or came.
    heard: Instant,
    /// Since when it has pushed without a pause.
    speaks_since: Instant,
    replaced: CancellationToken,
}

impl Seat {
    fn is_silent(&self, after: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= after
    }

    fn is_alive(&self, now: Instant) -> bool {
        !self.is_relay && !self.is_silent(limits::PUBLISHER_SILENT_AFTER, now)
    }
}

impl Seats {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, seats: Vec::new(), on_air: None, newest: 0 }
    }

    /// Would a newcomer have a chance?
    pub(super) fn check(&self, claim: Claim, now: Instant) -> Result<(), Unseated> {
        let rivals = self.seats.iter().filter(|seat| seat.is_alive(now));
        let greatest = rivals.map(|seat| seat.priority).max();
        match (self.rules.second, greatest) {
            (SecondPublisher::Standby, _) | (_, None) => Ok(()),
            (_, Some(rival)) if claim.priority < rival => Err(Unseated::Outranked),
            (SecondPublisher::Reject, Some(rival)) if claim.priority == rival => Err(Unseated::Busy),
            _ => Ok(()),
        }
    }

    /// A place for a newcomer, and how he learns that he lost it. He is on air at once if he is the only one.
    pub(super) fn admit(&mut self, claim: Claim, now: Instant) -> Result<(u64, CancellationToken), Unseated> {
        self.check(claim, now)?;
        if self.seats.len() >= limits::PUBLISHERS_PER_STREAM_MAX {
            self.make_room(claim, now)?;
        }
        Ok(self.sit(claim.priority, false, now))
    }

    /// A place for another node's line: on air at once, and only where nobody of this node wants to be.
    pub(super) fn admit_relay(&mut self, now: Instant) -> Result<(u64, CancellationToken), Unseated> {
        if self.has_local() {
            return Err(Unseated::Busy);
        }
        self.evict(|_| true);
        Ok(self.sit(0, true, now))
    }

    fn sit(&mut self, priority: u8, is_relay: bool, now: Instant) -> (u64, CancellationToken) {
        self.newest += 1;
        let (id, replaced) = (self.newest, CancellationToken::new());
        if self.seats.is_empty() {
            self.on_air = Some(id);
        }
        self.seats.push(Seat { id, priority, is_relay, heard: now, speaks_since: now, replaced: replaced.clone() });
        (id, replaced)
    }

    /// Somebody who stands by and says nothing has to go, or somebody who would be replaced anyway.
    fn make_room(&mut self, claim: Claim, now: Instant) -> Result<(), Unseated> {
        let takes_over = self.rules.second == SecondPublisher::Takeover;
        let may_go = |seat: &&Seat| {
            Some(seat.id) != self.on_air && (!seat.is_alive(now) || takes_over && seat.priority <= claim.priority)
        };
        let id = self.seats.iter().find(may_go).ok_or(Unseated::Crowded)?.id;
        self.evict(|seat| seat.id == id);
        Ok(())
    }

    /// What he is now.
    pub(super) fn turn(&self, id: u64) -> Turn {
        match self.seats.iter().any(|seat| seat.id == id) {
            true if self.on_air == Some(id) => Turn::OnAir,
            true => Turn::StandsBy,
            false => Turn::Replaced,
        }
    }

    /// The publisher has a frame; the stream could begin with it if it `is_start`.
    pub(super) fn hear(&mut self, id: u64, is_start: bool, now: Instant) -> Turn {
        let standby_after = self.rules.standby_after;
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.id == id) else { return Turn::Replaced };
        if seat.is_silent(standby_after, now) {
            seat.speaks_since = now;
        }
        seat.heard = now;
        if self.on_air == Some(id) {
            return Turn::OnAir;
        }
        if !is_start || !self.may_go_on_air(id, now) {
            return Turn::StandsBy;
        }
        self.on_air = Some(id);
        let stands_by = self.rules.second == SecondPublisher::Standby;
        // Who came later still has his chance.
        self.evict(|seat| seat.is_relay || !stands_by && seat.id < id);
        Turn::Begins
    }

    fn may_go_on_air(&self, id: u64, now: Instant) -> bool {
        let find = |id: u64| self.seats.iter().find(|seat| seat.id == id);
        let (Some(seat), Some(holder)) = (find(id), self.on_air.and_then(find)) else { return true };
        if holder.is_relay || holder.is_silent(limits::PUBLISHER_SILENT_AFTER, now) {
            return true;
        }
        match self.rules.second {
            SecondPublisher::Takeover | SecondPublisher::Reject => seat.priority >= holder.priority,
            SecondPublisher::Standby => {
                // One that comes and goes must not take its viewers along.
                let is_steady = now.saturating_duration_since(seat.speaks_since) >= limits::PUBLISHER_RETURN_HOLD;
                holder.is_silent(self.rules.standby_after, now) || seat.priority > holder.priority && is_steady
            }
        }
    }

    /// The publisher goes. True if he was on air.
    pub(super) fn leave(&mut self, id: u64) -> bool {
        self.seats.retain(|seat| seat.id != id);
        self.on_air.take_if(|on_air| *on_air == id).is_some()
    }

    /// The stream is over.
    pub(super) fn close(&mut self) {
        self.evict(|_| true);
    }

    fn evict(&mut self, who: impl Fn(&Seat) -> bool) {
        for seat in self.seats.extract_if(.., |seat| who(seat)) {
            self.on_air.take_if(|on_air| *on_air == seat.id);
            seat.replaced.cancel();
        }
    }

    /// When the publisher on air was last heard; `None` if nobody is.
    pub(super) fn heard_on_air(&self) -> Option<Instant> {
        self.seats.iter().find(|seat| Some(seat.id) == self.on_air).map(|seat| seat.heard)
    }

    /// Does a publisher of this node have one, on air or not?
    pub(super) fn has_local(&self) -> bool {
        self.seats.iter().any(|seat| !seat.is_relay)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// Is one on air?
    pub(super) fn is_on_air(&self) -> bool {
        self.on_air.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn seats(second: SecondPublisher) -> Seats {
        Seats::new(Rules { second, standby_after: 1500 * MS })
    }

    fn claim(priority: u8) -> Claim {
        Claim { priority }
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_takes_over_with_his_first_keyframe_and_not_before() {
        let (mut seats, now) = (seats(SecondPublisher::Takeover), crate::clock::now());
        let (old, replaced) = seats.admit(claim(1), now).expect("the first");
        assert_eq!(seats.hear(old, true, now), Turn::OnAir);
        let (new, _) = seats.admit(claim(1), now).expect("the second");
        let (newest, _) = seats.admit(claim(1), now).expect("the third");
        assert_eq!(seats.hear(new, false, now), Turn::StandsBy);
        assert_eq!((seats.hear(old, false, now), replaced.is_cancelled()), (Turn::OnAir, false));
        assert_eq!(seats.hear(new, true, now), Turn::Begins);
        assert_eq!((seats.hear(old, true, now), replaced.is_cancelled()), (Turn::Replaced, true));
        assert_eq!(seats.hear(newest, true, now), Turn::Begins, "the newest wins");
        assert_eq!(seats.admit(claim(0), now).expect_err("lower"), Unseated::Outranked);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alive_is_not_replaced_where_the_second_is_rejected() {
        let (mut seats, now) = (seats(SecondPublisher::Reject), crate::clock::now());
        let (old, _) = seats.admit(claim(0), now).expect("the first");
        assert_eq!(seats.admit(claim(0), now + 4499 * MS).expect_err("busy"), Unseated::Busy);
        let later = now + limits::PUBLISHER_SILENT_AFTER;
        let (newer, _) = seats.admit(claim(0), later).expect("the first is silent");
        assert_eq!(seats.hear(newer, true, later), Turn::Begins);
        assert_eq!(seats.hear(old, true, later), Turn::Replaced);
        let (greater, _) = seats.admit(claim(1), later).expect("goes before");
        assert_eq!(seats.hear(greater, true, later), Turn::Begins);
    }

    #[tokio::test(start_paused = true)]
    async fn a_standby_helps_out_and_the_greater_priority_comes_back_after_a_hold() {
        let (mut seats, mut now) = (seats(SecondPublisher::Standby), crate::clock::now());
        let (main, _) = seats.admit(claim(1), now).expect("the main one");
        let (backup, _) = seats.admit(claim(0), now).expect("the backup");
        let mut hear = |id, at| seats.hear(id, true, at);
        assert_eq!((hear(main, now), hear(backup, now)), (Turn::OnAir, Turn::StandsBy));
        assert_eq!(hear(backup, now + 1499 * MS), Turn::StandsBy);
        assert_eq!(hear(backup, now + 1500 * MS), Turn::Begins);
        now += 10_000 * MS;
        for ms in (0..2000).step_by(500) {
            assert_eq!(hear(backup, now + ms * MS), Turn::OnAir);
            assert_eq!(hear(main, now + ms * MS), Turn::StandsBy, "{ms} ms: not steady yet");
        }
        assert_eq!(hear(main, now + 2000 * MS), Turn::Begins);
        assert_eq!(hear(backup, now + 2000 * MS), Turn::StandsBy, "and stands by again");
        assert!(seats.leave(main));
        assert_eq!(seats.hear(backup, false, now + 2001 * MS), Turn::StandsBy);
        assert_eq!(seats.hear(backup, true, now + 2040 * MS), Turn::Begins);
    }

    #[tokio::test(start_paused = true)]
    async fn the_places_of_a_stream_are_bounded_and_go_to_those_who_speak() {
        let (mut seats, now) = (seats(SecondPublisher::Standby), crate::clock::now());
        let all: Vec<_> =
            (0..limits::PUBLISHERS_PER_STREAM_MAX).map(|_| seats.admit(claim(0), now).expect("a place")).collect();
        assert_eq!(seats.admit(claim(9), now).expect_err("full"), Unseated::Crowded);
        let later = now + limits::PUBLISHER_SILENT_AFTER;
        assert_eq!(seats.hear(all[1].0, false, later), Turn::StandsBy);
        seats.admit(claim(0), later).expect("a silent one goes");
        let gone: Vec<_> = all.iter().map(|(_, replaced)| replaced.is_cancelled()).collect();
        assert_eq!(gone, [false, false, true, false], "not who is on air, nor who speaks");
    }

    #[tokio::test(start_paused = true)]
    async fn another_nodes_line_makes_way_for_a_publisher_and_never_the_other_way_round() {
        for second in [SecondPublisher::Takeover, SecondPublisher::Reject, SecondPublisher::Standby] {
            let (mut seats, now) = (seats(second), crate::clock::now());
            let (first, replaced) = seats.admit_relay(now).expect("empty");
            let (relay, _) = seats.admit_relay(now).expect("a newer session of the relay");
            assert!(replaced.is_cancelled() && seats.hear(first, true, now) == Turn::Replaced);
            assert_eq!(seats.hear(relay, false, now), Turn::OnAir);
            let (local, _) = seats.admit(claim(0), now).expect("goes before");
            assert_eq!(seats.admit_relay(now).expect_err("busy"), Unseated::Busy);
            assert_eq!(seats.hear(local, true, now), Turn::Begins);
            assert_eq!(seats.hear(relay, true, now), Turn::Replaced);
        }
    }
}
