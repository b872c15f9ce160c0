//! The one publisher of a stream: an ingest session, or on an edge the relay.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Hub,
    stream::{Line, State, Stream},
};
use crate::{
    clock, limits,
    media::{Data, Event, Frame, Item, TrackKind, Tracks, time::Rebase},
};

/// A newer session publishes the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a newer publisher took the stream over")]
pub struct Replaced;

/// Audio-only streams have a start point this often.
const AUDIO_GROUP_US: i64 = 1_000_000;

/// The right to push into a stream. Dropping it interrupts the stream; viewers stay for the reconnect window.
pub struct Publisher {
    hub: Arc<Hub>,
    stream: Arc<Stream>,
    generation: u64,
    newer: watch::Receiver<u64>,
    /// Places this session's clock on the stream's; made with its first timestamp.
    rebase: Option<Rebase>,
}

impl Publisher {
    /// Takes the slot; whoever had it finds himself replaced. `None` if the stream has ended.
    pub(super) fn take_over(hub: Arc<Hub>, stream: Arc<Stream>) -> Option<Self> {
        let line = stream.line.lock();
        if stream.ring().is_closed() {
            return None;
        }
        let generation = *stream.generation.borrow() + 1;
        stream.generation.send_replace(generation);
        drop(line);
        stream.stats.publishes.fetch_add(1, Ordering::Relaxed);
        Some(Self { hub, newer: stream.generation.subscribe(), stream, generation, rebase: None })
    }

    /// The stream published to.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Resolves when a newer session has taken the stream over.
    pub async fn replaced(&mut self) -> Replaced {
        let generation = self.generation;
        // The sender lives in `self.stream`, so the wait can't fail.
        let _ = self.newer.wait_for(|newest| *newest != generation).await;
        Replaced
    }

    /// Announces the tracks as they are from here on.
    pub fn set_tracks(&mut self, tracks: Tracks) -> Result<(), Replaced> {
        self.with_line(|stream, line, rebase| {
            let epoch = line.epoch_of(rebase);
            line.set_tracks(stream, Tracks { epoch, ..tracks }.into(), line.group);
        })
    }

    /// Pushes a frame that carries the publisher's own timestamps.
    pub fn push_frame(&mut self, mut frame: Frame) -> Result<(), Replaced> {
        self.with_line(|stream, line, rebase| {
            let offset = line.rebase(rebase, frame.dts_us) - frame.dts_us;
            let epoch = line.timeline.epoch;
            if line.tracks.epoch != epoch {
                let tracks = Tracks { epoch, ..Tracks::clone(&line.tracks) };
                line.set_tracks(stream, tracks.into(), line.group);
            }
            frame.dts_us += offset;
            frame.pts_us += offset;
            line.keep_order(&mut frame);
            line.push_frame(stream, frame, None);
        })
    }

    /// Pushes a data message. It takes the time of the newest frame: many encoders stamp them with 0.
    /// Before the first frame there is no such time, and nobody who could read it.
    pub fn push_data(&mut self, amf0: Bytes) -> Result<(), Replaced> {
        self.with_line(|stream, line, _| {
            if line.newest.is_some() {
                let dts_us = line.newest_video_us.max(line.newest_audio_us);
                stream.ring().push(Item::Data(Data { dts_us, amf0 }), line.group);
            }
        })
    }

    /// Pushes an item of the same stream's line on another node: timestamps, groups and events as they are there.
    pub fn relay(&mut self, item: Item, group: u64) -> Result<(), Replaced> {
        self.with_line(|stream, line, _| match item {
            Item::Frame(frame) => line.push_frame(stream, frame, Some(group)),
            Item::Event(event) => line.hold_event(stream, event),
            Item::Config(tracks) => line.set_tracks(stream, tracks, group),
            Item::Data(_) => stream.ring().push(item, group),
        })
    }

    /// Ends the stream: the publisher said that he is done.
    pub fn end(self) {
        self.hub.end_session(&self.stream, self.generation);
    }

    fn with_line(&mut self, push: impl FnOnce(&Stream, &mut Line, &mut Option<Rebase>)) -> Result<(), Replaced> {
        let mut line = self.stream.line.lock();
        if *self.stream.generation.borrow() != self.generation {
            return Err(Replaced);
        }
        push(&self.stream, &mut line, &mut self.rebase);
        Ok(())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let mut line = self.stream.line.lock();
        if *self.stream.generation.borrow() != self.generation || self.stream.ring().is_closed() {
            return;
        }
        line.timeline.pause();
        self.stream.state.send_replace(State::Interrupted);
        drop(line);
        self.hub.clone().end_unless_resumed(self.stream.clone(), self.generation);
    }
}

impl Line {
    /// The epoch of a session whose clock may not have been placed yet.
    fn epoch_of(&mut self, rebase: &mut Option<Rebase>) -> u64 {
        if rebase.is_none() {
            *rebase = Some(self.begin_session());
        }
        self.timeline.epoch
    }

    fn set_tracks(&mut self, stream: &Stream, tracks: Arc<Tracks>, group: u64) {
        if self.tracks != tracks {
            self.tracks = tracks.clone();
            stream.ring().push(Item::Config(tracks), group);
        }
    }

    fn rebase(&mut self, rebase: &mut Option<Rebase>, dts_us: i64) -> i64 {
        if rebase.is_some_and(|session| session.is_restart(dts_us)) {
            *rebase = None;
        }
        rebase.get_or_insert_with(|| self.begin_session()).apply(dts_us)
    }

    /// Where a new session's first timestamp lands: behind the last frame by the time that has passed since.
    fn begin_session(&mut self) -> Rebase {
        match self.newest {
            None => {
                // The UTC clock once, so that the timeline goes on growing over a restart.
                Rebase::starting_at(clock::unix_ms().saturating_mul(1000))
            }
            Some((newest_us, at)) => {
                self.timeline.epoch += 1;
                let gap_us = i64::try_from(at.elapsed().as_micros()).unwrap_or(0).max(1000);
                // Whole milliseconds keep the conversions of every egress exact.
                Rebase::starting_at((newest_us + gap_us) / 1000 * 1000)
            }
        }
    }

    /// Within a track, decode times strictly increase, whatever an encoder does; players stop where they don't.
    fn keep_order(&mut self, frame: &mut Frame) {
        let newest_us = match frame.track {
            TrackKind::Video => &mut self.newest_video_us,
            TrackKind::Audio => &mut self.newest_audio_us,
        };
        frame.dts_us = frame.dts_us.max(newest_us.saturating_add(1));
        frame.pts_us = frame.pts_us.max(frame.dts_us);
        *newest_us = frame.dts_us;
    }

    fn push_frame(&mut self, stream: &Stream, mut frame: Frame, group: Option<u64>) {
        let carries_events = match frame.track {
            TrackKind::Video => true,
            TrackKind::Audio => {
                frame.keyframe = self.tracks.video.is_none() && self.begins_audio_group(frame.dts_us);
                self.tracks.video.is_none()
            }
        };
        if frame.keyframe {
            self.group = group.unwrap_or(self.group + 1);
        }
        if carries_events {
            for event in std::mem::take(&mut self.held_events) {
                self.push_event(stream, event);
            }
            for event in self.timeline.before_frame(frame.pts_us) {
                if event.pts_us().is_some_and(|at| at < frame.pts_us) {
                    stream.stats.events_late.fetch_add(1, Ordering::Relaxed);
                }
                self.push_event(stream, event);
            }
        }
        let _ = self.newest.insert((frame.dts_us, clock::now()));
        stream.stats.frames_in.fetch_add(1, Ordering::Relaxed);
        stream.stats.bytes_in.fetch_add(frame.data.len() as u64, Ordering::Relaxed);
        stream.ring().push(Item::Frame(frame), self.group);
        if stream.state() != State::Live {
            stream.state.send_replace(State::Live);
        }
    }

    fn begins_audio_group(&self, dts_us: i64) -> bool {
        let part = |us: i64| us.div_euclid(AUDIO_GROUP_US);
        self.newest.is_none_or(|(newest_us, _)| part(dts_us) != part(newest_us))
    }

    /// Keeps another node's event for its frame: sound, which comes on a track of its own, must not get between.
    fn hold_event(&mut self, stream: &Stream, event: Arc<Event>) {
        if self.held_events.len() < limits::EVENTS_PENDING_MAX {
            self.held_events.push(event);
        } else {
            self.push_event(stream, event);
        }
    }

    fn push_event(&mut self, stream: &Stream, event: Arc<Event>) {
        self.timeline.observe(&event);
        stream.stats.events.fetch_add(1, Ordering::Relaxed);
        stream.ring().push(Item::Event(event), self.group);
    }
}
