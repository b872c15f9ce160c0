//! Sound and picture of a pulled stream, put back into one line.
//!
//! An edge's first pull brings the picture from the start of its group in one burst, and the sound, which is a
//! track of its own, a moment later. Until the sound has caught up both are given in the order of their decode
//! times, so that the first viewer hears what he sees. After that they are given as they come: waiting for
//! each other would only add delay.

use std::{collections::VecDeque, time::Duration};

use crate::{
    clock::Instant,
    limits::{MOQ_AUDIO_HELD_MAX, MOQ_LINE_HELD_MAX},
    media::{Frame, Item},
};

/// Two queues in, one line out; sans-IO.
#[derive(Debug, Default)]
pub(super) struct Interleave {
    line: VecDeque<(u64, Item)>,
    sound: VecDeque<(u64, Frame)>,
    /// Decode time of the first picture; sound from before it is left out.
    start_us: Option<i64>,
    /// Up to here the sound is known already, from another upstream; what follows is kept whatever comes first.
    heard_us: Option<i64>,
    newest_picture_us: i64,
    newest_sound_us: Option<i64>,
    /// When waiting for the sound ends.
    deadline: Option<Instant>,
    /// Both are at the live edge, or there is only one of them.
    live: bool,
}

impl Interleave {
    /// A line that goes on where the sound was heard up to this time.
    pub(super) fn after(heard_us: Option<i64>) -> Self {
        Self { heard_us, ..Self::default() }
    }

    /// The next item of the line.
    pub(super) fn handle_line(&mut self, now: Instant, group: u64, item: Item) {
        match &item {
            // An encoder's sound may be described after its picture: what is said last before the first one holds.
            Item::Head(head) if self.start_us.is_none() => self.live = head.tracks.audio.is_none(),
            Item::Head(head) => self.live |= head.tracks.audio.is_none(),
            Item::Frame(frame) => {
                self.newest_picture_us = frame.dts_us;
                if self.start_us.is_none() {
                    self.start_us = Some(frame.dts_us);
                    self.deadline = Some(now + SOUND_PATIENCE);
                    let (start_us, heard_us) = (frame.dts_us, self.heard_us);
                    self.sound.retain(|(_, sound)| is_wanted(sound, start_us, heard_us));
                }
            }
            _ => {}
        }
        self.line.push_back((group, item));
        self.live |= self.line.len() > MOQ_LINE_HELD_MAX;
    }

    /// The next frame of the sound.
    pub(super) fn handle_sound(&mut self, group: u64, frame: Frame) {
        if self.start_us.is_some_and(|start_us| !is_wanted(&frame, start_us, self.heard_us)) {
            return;
        }
        self.newest_sound_us = Some(frame.dts_us);
        self.sound.push_back((group, frame));
        if self.start_us.is_none() && self.sound.len() > MOQ_AUDIO_HELD_MAX {
            self.sound.pop_front();
        }
    }

    /// What goes into the line next.
    pub(super) fn poll_item(&mut self, now: Instant) -> Option<(u64, Item)> {
        let caught_up = self.newest_sound_us.is_some_and(|us| us + CAUGHT_UP_US >= self.newest_picture_us);
        let waited = self.deadline.is_some_and(|deadline| now >= deadline);
        let picture_us = match self.line.front() {
            Some((_, Item::Frame(frame))) => frame.dts_us,
            // What has no time of its own belongs to the frame behind it.
            Some(_) => return self.line.pop_front(),
            // Sound before the first picture waits for it.
            None if self.start_us.is_none() && !self.live => return None,
            None if self.live || caught_up => {
                self.live |= self.start_us.is_some();
                return self.sound();
            }
            None => return None,
        };
        match self.sound.front() {
            Some((_, sound)) if sound.dts_us <= picture_us => self.sound(),
            None if !(self.live || caught_up || waited) => None,
            None => {
                self.live = true;
                self.line.pop_front()
            }
            Some(_) => self.line.pop_front(),
        }
    }

    /// When [`Self::poll_item`] has something to give though nothing came.
    pub(super) fn poll_deadline(&self) -> Option<Instant> {
        self.deadline.filter(|_| !self.live && !self.line.is_empty())
    }

    fn sound(&mut self) -> Option<(u64, Item)> {
        self.sound.pop_front().map(|(group, frame)| (group, Item::Frame(frame)))
    }
}

/// Sound from before the first picture is left out, unless it follows on what was heard.
fn is_wanted(sound: &Frame, start_us: i64, heard_us: Option<i64>) -> bool {
    sound.dts_us >= heard_us.map_or(start_us, |heard_us| heard_us.min(start_us))
}

/// Longest that the first picture waits for its sound: some round trips to the upstream.
const SOUND_PATIENCE: Duration = Duration::from_millis(500);
/// Encoders interleave more coarsely than this only rarely.
const CAUGHT_UP_US: i64 = 100_000;

#[cfg(test)]
mod tests;
