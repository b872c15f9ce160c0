//! Where a stream's line goes on when it comes from elsewhere: from another upstream, or after a lost session.
//!
//! The same line goes on behind the very frame that came last. Another one (another origin, or the same restarted)
//! goes on at a keyframe. Its times are kept if they fit, since events are meant by them; where they lie behind what
//! viewers have, or far ahead, they are shifted, so that time goes on by what has passed. Groups never go back.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    clock::Instant,
    limits::MOQ_EVENT_IDS_MAX,
    media::{Data, Event, Frame, Head, Item, Room, TrackKind},
};

/// What the local line has, so that nothing is told twice, whoever repeats it.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// The newest frame of the line.
    last: Option<Last>,
    video_dts_us: Option<i64>,
    audio_dts_us: Option<i64>,
    data: Option<Data>,
    /// Ids of the newest events. Their seqs needn't rise: one that was scheduled early may fire late.
    events: VecDeque<String>,
    /// Whose line it is.
    origin: Option<u64>,
    shift: Shift,
}

/// A frame by which the same line is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Last {
    group: u64,
    dts_us: i64,
    bytes: usize,
    came: Instant,
}

/// From the numbers of an upstream's line to ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shift {
    us: i64,
    /// Wraps, so that it goes both ways.
    groups: u64,
}

impl Shift {
    fn group(self, group: u64) -> u64 {
        group.wrapping_add(self.groups)
    }

    fn frame(self, frame: &mut Frame) {
        frame.dts_us = frame.dts_us.saturating_add(self.us);
        frame.pts_us = frame.pts_us.saturating_add(self.us);
    }
}

impl Delivered {
    /// True if viewers here have seen something.
    pub(super) fn has_frames(&self) -> bool {
        self.last.is_some()
    }

    /// From which group an upstream is to send the line of `origin`; none for its newest.
    pub(super) fn resume_group(&self, origin: Option<u64>) -> Option<u64> {
        let last = self.last.filter(|_| origin.is_some() && origin == self.origin)?;
        Some(last.group.wrapping_sub(self.shift.groups))
    }

    /// The newest sound, on the upstream's clock.
    pub(super) fn sound_us(&self) -> Option<i64> {
        self.audio_dts_us.map(|us| us.saturating_sub(self.shift.us))
    }

    /// The newest sound, on our clock.
    pub(super) fn heard_us(&self) -> Option<i64> {
        self.audio_dts_us
    }

    /// Moves a frame that is not the line's own to our clock.
    pub(super) fn shift(&self, frame: &mut Frame) {
        self.shift.frame(frame);
    }

    /// Notes a frame of the line itself that was passed on.
    pub(super) fn note_last(&mut self, now: Instant, frame: &Frame, group: u64) {
        self.last = Some(Last { group, dts_us: frame.dts_us, bytes: frame.data.len(), came: now });
    }

    /// Notes the item; true if the line doesn't have it yet.
    pub(super) fn is_new(&mut self, item: &Item) -> bool {
        match item {
            // The hub knows an unchanged head itself. Of one for all rooms it passes on what is new there.
            Item::Head(head) => {
                let told = head.room.beyond(&Room::default());
                told.iter().filter(|event| event.is_global()).for_each(|event| {
                    self.is_new_event(event);
                });
                true
            }
            Item::Frame(frame) => {
                let last = match frame.track {
                    TrackKind::Video => &mut self.video_dts_us,
                    TrackKind::Audio => &mut self.audio_dts_us,
                };
                let new = last.is_none_or(|last| frame.dts_us > last);
                if new {
                    *last = Some(frame.dts_us);
                }
                new
            }
            Item::Data(data) => {
                let new = self
                    .data
                    .as_ref()
                    .is_none_or(|last| data.dts_us > last.dts_us || *data != *last && data.dts_us == last.dts_us);
                if new {
                    self.data = Some(data.clone());
                }
                new
            }
            Item::Event(event) => self.is_new_event(event),
        }
    }

    /// The same of an event alone.
    pub(super) fn is_new_event(&mut self, event: &Event) -> bool {
        let id = &event.head.id;
        let new = !self.events.contains(id);
        if new {
            self.events.push_back(id.clone());
            if self.events.len() > MOQ_EVENT_IDS_MAX {
                self.events.pop_front();
            }
        }
        new
    }
}

/// One upstream's line as it comes to go on from what was delivered.
#[derive(Debug)]
pub(super) struct Seam {
    origin: Option<u64>,
    joined: bool,
    /// A keyframe was too old; the next one tells by how much.
    waited: bool,
    /// The configuration of the group that may be the first.
    head: Option<Arc<Head>>,
}

/// What goes into our line.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Placed {
    /// The group of both.
    pub group: u64,
    /// The configuration that goes first.
    pub head: Option<Arc<Head>>,
    /// The item.
    pub item: Option<Item>,
}

impl Seam {
    /// A line of `origin`, if that is known, to go on from what was delivered.
    pub(super) fn new(delivered: &Delivered, origin: Option<u64>) -> Self {
        Self { origin, joined: !delivered.has_frames(), waited: false, head: None }
    }

    /// Where the next item of the line goes.
    pub(super) fn place(&mut self, delivered: &mut Delivered, now: Instant, group: u64, item: Item) -> Placed {
        let mut placed = Placed { group: delivered.shift.group(group), ..Placed::default() };
        if let Some(last) = delivered.last.filter(|_| !self.joined) {
            placed.group = placed.group.max(last.group);
        }
        match item {
            Item::Head(head) if !self.joined => self.head = Some(head),
            Item::Frame(frame) if !self.joined => {
                if let Some(shift) = self.join(delivered, now, group, &frame) {
                    (delivered.shift, delivered.origin) = (shift, self.origin);
                    (placed.group, placed.head) = (shift.group(group), self.head.take());
                    placed.item = Some(Item::Frame(shifted(shift, frame)));
                }
            }
            Item::Frame(frame) => {
                delivered.origin = self.origin;
                placed.item = Some(Item::Frame(shifted(delivered.shift, frame)));
            }
            Item::Data(mut data) => {
                data.dts_us = data.dts_us.saturating_add(delivered.shift.us);
                placed.item = Some(Item::Data(data));
            }
            item => placed.item = Some(item),
        }
        placed
    }

    /// Whether the line goes on with this frame, and how its numbers are to be read then.
    fn join(&mut self, delivered: &Delivered, now: Instant, group: u64, frame: &Frame) -> Option<Shift> {
        let Some(last) = delivered.last else {
            self.joined = true;
            return Some(Shift::default());
        };
        let same_line = self.origin.is_some() && self.origin == delivered.origin;
        let known = delivered.shift;
        let dts_us = frame.dts_us.saturating_add(known.us);
        if (known.group(group), dts_us, frame.data.len()) == (last.group, last.dts_us, last.bytes) {
            // The configuration was told with this group before.
            (self.joined, self.head) = (true, None);
            return None;
        }
        if !frame.keyframe {
            return None;
        }
        let passed_us = i64::try_from((now - last.came).as_micros()).unwrap_or(i64::MAX).max(MIN_STEP_US);
        let expected_us = last.dts_us.saturating_add(passed_us);
        let fits = |us: i64| us > last.dts_us && (same_line || us <= expected_us.saturating_add(AHEAD_US_MAX));
        // Its own time is what its events are meant by.
        let fitting = [0, known.us].into_iter().find(|us| fits(frame.dts_us.saturating_add(*us)));
        let fitting = if same_line { Some(known.us).filter(|_| fits(dts_us)) } else { fitting };
        let us = match fitting {
            Some(us) => us,
            // A line that is behind by little will have caught up by its next group.
            None if dts_us <= last.dts_us && self.waits(same_line, last.dts_us.saturating_sub(dts_us)) => return None,
            // Whole milliseconds keep the conversions of every egress exact.
            None => expected_us.saturating_sub(frame.dts_us).div_euclid(1000).saturating_add(1).saturating_mul(1000),
        };
        self.joined = true;
        let goes_on = known.group(group) > last.group;
        let groups = if goes_on { known.groups } else { last.group.wrapping_add(1).wrapping_sub(group) };
        Some(Shift { us, groups })
    }

    fn waits(&mut self, same_line: bool, behind_us: i64) -> bool {
        if same_line {
            return behind_us < SAME_LINE_BEHIND_US_MAX;
        }
        !std::mem::replace(&mut self.waited, true)
    }
}

fn shifted(shift: Shift, mut frame: Frame) -> Frame {
    shift.frame(&mut frame);
    frame
}

/// What is further ahead than this has another idea of the time.
const AHEAD_US_MAX: i64 = 2_000_000;

/// A node further down the same line may be this far behind.
const SAME_LINE_BEHIND_US_MAX: i64 = 10_000_000;

/// Least distance between the last frame of one line and the first of another.
const MIN_STEP_US: i64 = 1000;

#[cfg(test)]
mod tests;
