//! A publisher of a stream: an ingest session, or on an edge the relay.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use tokio_util::sync::CancellationToken;

use super::{
    Hub,
    notice::What,
    seats::{Seats, Turn, Unseated},
    stream::{Line, State, Stream},
};
use crate::{
    clock::{self, Instant},
    limits,
    media::{Anchor, Data, Event, Frame, Head, Item, Room, TrackKind, Tracks, event::Moment, time::Rebase},
    task,
};

/// A newer session publishes the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a newer publisher took the stream over")]
pub struct Replaced;

/// Audio-only streams have a start point this often.
const AUDIO_GROUP_US: i64 = 1_000_000;

/// After so many groups in order, a picture out of order was an accident.
const GROUPS_IN_ORDER_MIN: u32 = 3;

/// A place among those who push into a stream. Dropping it may interrupt the stream; viewers stay for the reconnect
/// window.
pub struct Publisher {
    hub: Arc<Hub>,
    stream: Arc<Stream>,
    /// His place.
    id: u64,
    replaced: CancellationToken,
    session: Session,
}

/// What a publisher says, apart from where it lands.
#[derive(Default)]
struct Session {
    tracks: Option<Tracks>,
    /// Its timestamps have an epoch of their own.
    is_counted: bool,
    /// Places its clock on the stream's; made with the first frame that goes on air.
    rebase: Option<Rebase>,
    /// Where that frame landed. Sound from before it has no picture.
    starts_us: i64,
    /// When a picture came after which there has been no keyframe.
    keyframe_missed: Option<Instant>,
    /// The log knows that keyframes are missing.
    is_warned: bool,
}

impl Session {
    /// Can viewers begin with it?
    fn is_start(&self, frame: &Frame) -> bool {
        match frame.track {
            TrackKind::Video => frame.keyframe,
            TrackKind::Audio => self.tracks.as_ref().is_none_or(|tracks| tracks.video.is_none()),
        }
    }

    /// Somebody else is on air: what is said next time begins anew.
    fn stand_by(&mut self) {
        (self.is_counted, self.rebase) = (false, None);
    }

    /// True if it lacks keyframes.
    fn misses_keyframe(&mut self, stream: &Stream, frame: &Frame) -> bool {
        match frame.track {
            TrackKind::Video if frame.keyframe => self.keyframe_missed = None,
            TrackKind::Video => {
                self.keyframe_missed.get_or_insert_with(clock::now);
            }
            TrackKind::Audio => {}
        }
        let misses = self.keyframe_missed.is_some_and(|at| at.elapsed() >= limits::KEYFRAME_MISSING_AFTER);
        if misses && !std::mem::replace(&mut self.is_warned, true) {
            tracing::warn!(
                stream = %stream.name(),
                "pictures come without keyframes, so nobody can join: set the keyframe interval to 2 s, in OBS under \
                 Settings > Output > Advanced, Keyframe Interval"
            );
        }
        misses
    }
}

impl Publisher {
    /// Takes a place. `None` if the stream has ended.
    pub(super) fn sit(
        hub: Arc<Hub>,
        stream: Arc<Stream>,
        admit: impl FnOnce(&mut Seats, Instant) -> Result<(u64, CancellationToken), Unseated>,
    ) -> Result<Option<Self>, Unseated> {
        let mut line = stream.line.lock();
        if stream.ring().is_closed() {
            return Ok(None);
        }
        let (id, replaced) = admit(&mut line.seats, clock::now())?;
        if line.seats.turn(id) == Turn::OnAir {
            stream.go_on_air();
        }
        drop(line);
        stream.stats.publishes.fetch_add(1, Ordering::Relaxed);
        stream.notify(What::PublisherCame);
        Ok(Some(Self { hub, stream, id, replaced, session: Session::default() }))
    }

    /// The stream published to.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// What he says is what viewers get; else he stands by.
    pub fn is_on_air(&self) -> bool {
        self.stream.line.lock().seats.turn(self.id) == Turn::OnAir
    }

    /// Resolves when the place is lost to another publisher.
    pub fn replaced(&self) -> impl Future<Output = Replaced> + use<> {
        let replaced = self.replaced.clone();
        async move {
            replaced.cancelled_owned().await;
            Replaced
        }
    }

    /// Announces the tracks as they are from here on.
    pub fn set_tracks(&mut self, tracks: Tracks) -> Result<(), Replaced> {
        let Self { stream, session, id, .. } = self;
        session.tracks = Some(tracks);
        let mut line = stream.line.lock();
        match line.seats.turn(*id) {
            Turn::Replaced => return Err(Replaced),
            Turn::OnAir if line.slate.is_none() => line.announce(stream, session),
            // They are told when he goes on air, or his picture follows the slate.
            Turn::OnAir | Turn::StandsBy | Turn::Begins => {}
        }
        Ok(())
    }

    /// Pushes a frame that carries the publisher's own timestamps. Of one who stands by it is dropped.
    pub fn push_frame(&mut self, frame: Frame) -> Result<(), Replaced> {
        let Self { stream, session, id, .. } = self;
        let (is_start, misses_keyframe) = (session.is_start(&frame), session.misses_keyframe(stream, &frame));
        let mut line = stream.line.lock();
        match line.seats.hear(*id, is_start, clock::now()) {
            Turn::Replaced => return Err(Replaced),
            Turn::StandsBy => {
                session.stand_by();
                return Ok(());
            }
            Turn::Begins => {
                stream.stats.switches.fetch_add(1, Ordering::Relaxed);
                stream.go_on_air();
                stream.notify(What::Switched);
                tracing::info!(stream = %stream.name(), publishers = line.seats.len(), "another publisher is on air");
            }
            Turn::OnAir => {}
        }
        stream.no_keyframe.store(misses_keyframe, Ordering::Relaxed);
        line.push_of(stream, session, frame, is_start);
        Ok(())
    }

    /// Pushes a data message. It takes the time of the newest frame: many encoders stamp them with 0.
    /// Before the first frame there is no such time, and nobody who could read it.
    pub fn push_data(&mut self, amf0: Bytes) -> Result<(), Replaced> {
        self.with_line(|stream, line| {
            if line.newest.is_some() {
                let dts_us = line.newest_video_us.max(line.newest_audio_us);
                stream.ring().push(Item::Data(Data { dts_us, amf0 }), line.group);
            }
        })
    }

    /// Where a time of the publisher's clock lies on the stream's timeline. `None` before the first frame.
    pub fn place(&self, publisher_us: i64) -> Option<i64> {
        self.session.rebase.and_then(|rebase| rebase.place(publisher_us))
    }

    /// The encoder says that the picture with this PTS of the stream's timeline was taken at this UTC instant.
    /// False if that can't be so.
    pub fn handle_anchor(&mut self, anchor: Anchor, pts_us: i64, wall_us: i64) -> bool {
        self.stream.timeline().lock().clock.handle_anchor(anchor, pts_us, wall_us)
    }

    /// Pushes an item of the same stream's line on another node: timestamps, groups and events as they are there.
    pub fn relay(&mut self, item: Item, group: u64) -> Result<(), Replaced> {
        let (hub, id) = (self.stream.name().is_global().then(|| self.hub.clone()), self.id);
        self.with_line(|stream, line| {
            line.seats.hear(id, false, clock::now());
            stream.relayed.store(true, Ordering::Relaxed);
            let spread = match item {
                Item::Frame(frame) => {
                    let held = !line.held_events.is_empty();
                    line.push_frame(stream, frame, Some(group));
                    held.then(Vec::new)
                }
                Item::Event(event) => {
                    line.hold_event(stream, event.clone());
                    Some(vec![event])
                }
                Item::Head(head) => Some(line.follow_head(stream, &head, group)),
                Item::Data(_) => {
                    stream.ring().push(item, group);
                    None
                }
            };
            // While the line is held, so that all rooms have the events in its order.
            if let (Some(hub), Some(events)) = (hub, spread) {
                hub.spread(stream, &events);
            }
        })
    }

    /// Keeps an event of before `group` for nodes that come here and lack it. Those who watch here don't get it.
    pub fn remember(&mut self, event: Arc<Event>, group: u64) -> Result<(), Replaced> {
        self.with_line(|stream, _| stream.ring().remember(Item::Event(event), group.saturating_sub(1)))
    }

    /// The publisher says that he is done. The stream ends, unless somebody else goes on with it or it shall wait.
    pub fn end(mut self) {
        self.leave(self.hub.settings().end_on_unpublish);
    }

    /// Goes away; what follows depends on who else is there.
    fn leave(&mut self, may_end: bool) {
        let mut line = self.stream.line.lock();
        if !line.seats.leave(self.id) || self.stream.ring().is_closed() {
            return;
        }
        self.stream.no_keyframe.store(false, Ordering::Relaxed);
        if may_end && line.seats.len() == 0 {
            return self.hub.end(&self.stream, &mut line);
        }
        self.stream.timeline().lock().pause();
        self.stream.set_state(State::Interrupted);
        drop(line);
        let generation = *self.stream.generation.borrow();
        self.hub.clone().end_unless_resumed(self.stream.clone(), generation);
    }

    /// What only the one on air may do; of others it is dropped.
    fn with_line(&self, push: impl FnOnce(&Stream, &mut Line)) -> Result<(), Replaced> {
        let mut line = self.stream.line.lock();
        match line.seats.turn(self.id) {
            Turn::Replaced => return Err(Replaced),
            Turn::OnAir => push(&self.stream, &mut line),
            Turn::StandsBy | Turn::Begins => {}
        }
        Ok(())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.leave(false);
        self.stream.notify(What::PublisherGone);
    }
}

impl Stream {
    /// Another publisher is on air from here on.
    fn go_on_air(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

impl Line {
    /// The tracks of who is on air.
    fn announce(&mut self, stream: &Stream, session: &mut Session) {
        let Some(tracks) = &session.tracks else { return };
        if !std::mem::replace(&mut session.is_counted, true) {
            stream.timeline().lock().begin_session();
        }
        let epoch = stream.timeline().lock().epoch;
        self.set_tracks(stream, Tracks { epoch, ..tracks.clone() }.into(), self.group);
    }

    /// A frame of who is on air. What he begins with is something that viewers can begin with.
    fn push_of(&mut self, stream: &Stream, session: &mut Session, mut frame: Frame, is_start: bool) {
        if self.slate.is_some() {
            // He was silent: the picture that viewers have now is none that his next one could change.
            session.stand_by();
        }
        if session.rebase.is_some_and(|rebase| rebase.is_restart(frame.dts_us)) {
            (session.rebase, session.is_counted) = (None, false);
        } else if session.rebase.is_none() && !is_start {
            return;
        }
        stream.relayed.store(false, Ordering::Relaxed);
        let begins = session.rebase.is_none();
        if begins {
            self.announce(stream, session);
        }
        let rebase = session.rebase.get_or_insert_with(|| Rebase::starting_at(self.next_us()));
        let offset_us = rebase.apply(frame.dts_us) - frame.dts_us;
        frame.dts_us += offset_us;
        frame.pts_us += offset_us;
        if begins {
            session.starts_us = frame.dts_us;
        } else if frame.track == TrackKind::Audio && frame.dts_us < session.starts_us {
            return;
        }
        self.keep_order(&mut frame);
        self.push_frame(stream, frame, None);
    }

    fn set_tracks(&mut self, stream: &Stream, tracks: Arc<Tracks>, group: u64) {
        if self.tracks != tracks {
            self.tracks = tracks;
            stream.set_b_frames(false);
            let now = stream.timeline().lock().now();
            self.push_head(stream, now, group);
        }
    }

    /// Takes over what another node says of the place where its line is. Gives the events that were missed here.
    fn follow_head(&mut self, stream: &Stream, head: &Head, group: u64) -> Vec<Arc<Event>> {
        let mut timeline = stream.timeline().lock();
        let missed = head.room.beyond(&timeline.room);
        let first = self.head.is_none();
        // Viewers who followed the line to here know this room; those who saw a gap in it don't.
        let agrees = missed.is_empty() && timeline.room.replay(head.at).len() == head.room.replay(head.at).len();
        timeline.room.replace(&head.room);
        drop(timeline);
        if !first && !agrees {
            self.resync += 1;
        }
        let changed = self.tracks != head.tracks;
        self.tracks = head.tracks.clone();
        if changed {
            stream.set_b_frames(false);
        }
        if changed || first || !agrees {
            self.push_head(stream, head.at, group);
        }
        missed
    }

    /// Puts the head in force from here on into the line.
    fn push_head(&mut self, stream: &Stream, at: Moment, group: u64) {
        let mut timeline = stream.timeline().lock();
        timeline.room.advance(at);
        let room = match &self.head {
            Some(head) if head.room.is_same(&timeline.room) => head.room.clone(),
            _ => Arc::new(timeline.room.clone()),
        };
        drop(timeline);
        let head = Head { tracks: self.tracks.clone(), room, global: self.global.clone(), at, resync: self.resync };
        let head = Arc::new(head);
        self.head = Some(head.clone());
        stream.ring().push(Item::Head(head), group);
    }

    /// Before a start point: joiners there need to know what has changed since the last one.
    fn refresh_head(&mut self, stream: &Stream, at: Moment) {
        let told = self.head.as_ref().is_some_and(|head| {
            let same = |told: &Room, room: &Room| told.is_same(room) && !told.is_moving(head.at);
            head.tracks == self.tracks
                && same(&head.room, &stream.timeline().lock().room)
                && same(&head.global, &self.global)
        });
        if !told {
            self.push_head(stream, at, self.group);
        }
    }

    /// Where a new session's first timestamp lands: behind the last frame by the time that has passed since.
    pub(super) fn next_us(&self) -> i64 {
        // The UTC clock once, so that the timeline goes on growing over a restart.
        let Some((newest_us, at)) = self.newest else { return clock::unix_ms().saturating_mul(1000) };
        let newest_us = newest_us.max(self.newest_video_us).max(self.newest_audio_us);
        let now_us = match &self.slate {
            Some(slate) => slate.now_us(),
            None => newest_us + i64::try_from(at.elapsed().as_micros()).unwrap_or(0),
        };
        // Whole milliseconds keep the conversions of every egress exact.
        now_us.max(newest_us + 1000) / 1000 * 1000
    }

    /// Within a track, decode times strictly increase, whatever an encoder does; players stop where they don't.
    pub(super) fn keep_order(&mut self, frame: &mut Frame) {
        let newest_us = match frame.track {
            TrackKind::Video => &mut self.newest_video_us,
            TrackKind::Audio => &mut self.newest_audio_us,
        };
        frame.dts_us = frame.dts_us.max(newest_us.saturating_add(1));
        frame.pts_us = frame.pts_us.max(frame.dts_us);
        *newest_us = frame.dts_us;
    }

    fn note_order(&mut self, stream: &Stream, frame: &Frame) {
        if frame.track != TrackKind::Video {
            return;
        }
        if frame.keyframe {
            if self.groups_in_order == GROUPS_IN_ORDER_MIN {
                stream.set_b_frames(false);
            }
            self.groups_in_order = self.groups_in_order.saturating_add(1);
            self.latest_pts_us = frame.pts_us;
            return;
        }
        if frame.pts_us < self.latest_pts_us {
            stream.set_b_frames(true);
            self.groups_in_order = 0;
        }
        self.latest_pts_us = self.latest_pts_us.max(frame.pts_us);
    }

    /// A frame of a publisher, here or on another node, which counted its groups.
    fn push_frame(&mut self, stream: &Stream, frame: Frame, group: Option<u64>) {
        self.slate = None;
        self.note_order(stream, &frame);
        stream.stats.frames_in.fetch_add(1, Ordering::Relaxed);
        stream.stats.bytes_in.fetch_add(frame.data.len() as u64, Ordering::Relaxed);
        self.enter(stream, frame, group, group.is_none());
        if stream.state() != State::Live {
            stream.set_state(State::Live);
        }
    }

    /// Puts a frame into the line, behind what it is the time for. It `tells_time` if it was just taken by an encoder.
    pub(super) fn enter(&mut self, stream: &Stream, mut frame: Frame, group: Option<u64>, tells_time: bool) {
        let carries_events = match frame.track {
            TrackKind::Video => true,
            TrackKind::Audio => {
                if group.is_none() {
                    frame.keyframe = self.tracks.video.is_none() && self.begins_audio_group(frame.dts_us);
                }
                self.tracks.video.is_none()
            }
        };
        if frame.keyframe {
            self.group = group.unwrap_or(self.group + 1);
            self.refresh_head(stream, Moment { pts_us: frame.pts_us, wall_ms: clock::unix_ms() });
        }
        if carries_events {
            self.push_due(stream, frame.pts_us, tells_time);
        }
        let _ = self.newest.insert((frame.dts_us, clock::now()));
        stream.ring().push(Item::Frame(frame), self.group);
    }

    /// The events that go before the frame with this PTS.
    fn push_due(&mut self, stream: &Stream, pts_us: i64, tells_time: bool) {
        self.push_held(stream);
        if stream.name().is_global() {
            // It has no frames of its own to wait for.
            return;
        }
        let mut timeline = stream.timeline().lock();
        let (reserve, clock) = match tells_time {
            true => {
                timeline.clock.handle_arrival(pts_us, clock::unix_us());
                (timeline.wants_reserve(), timeline.poll_clock(pts_us))
            }
            false => (None, None),
        };
        let (due, late) = timeline.before_frame(pts_us);
        drop(timeline);
        if let Some(seq) = reserve {
            reserve_seqs(stream, seq);
        }
        stream.stats.events_late.fetch_add(late, Ordering::Relaxed);
        for event in clock.into_iter().chain(due) {
            self.push_event(stream, event);
        }
    }

    /// A frame without media, to carry events where there are only events.
    pub(super) fn push_carrier(&mut self, stream: &Stream) {
        let now_us = clock::unix_ms().saturating_mul(1000);
        let dts_us = self.newest.map_or(now_us, |(newest_us, _)| now_us.max(newest_us.saturating_add(1)));
        let frame = Frame { track: TrackKind::Audio, dts_us, pts_us: dts_us, keyframe: true, data: Bytes::new() };
        let group = Some(self.group + 1);
        self.push_frame(stream, frame, group);
    }

    fn begins_audio_group(&self, dts_us: i64) -> bool {
        let part = |us: i64| us.div_euclid(AUDIO_GROUP_US);
        self.newest.is_none_or(|(newest_us, _)| part(dts_us) != part(newest_us))
    }

    /// Keeps another node's event for its frame: sound, which comes on a track of its own, must not get between.
    pub(super) fn hold_event(&mut self, stream: &Stream, event: Arc<Event>) {
        if self.held_events.len() >= limits::EVENTS_PENDING_MAX {
            self.push_held(stream);
        }
        self.held_events.push(event);
    }

    fn push_held(&mut self, stream: &Stream) {
        let held = std::mem::take(&mut self.held_events);
        if held.iter().any(|event| event.is_global()) {
            self.global = stream.global();
        }
        for event in held {
            self.push_event(stream, event);
        }
    }

    pub(super) fn push_event(&mut self, stream: &Stream, event: Arc<Event>) {
        // Another room's, or that of all rooms: it passes through here and leaves its state there.
        if event.head.source == stream.name().as_str() {
            stream.timeline().lock().enter(&event);
        }
        stream.stats.events.fetch_add(1, Ordering::Relaxed);
        stream.ring().push(Item::Event(event), self.group);
    }
}

/// Sets seqs aside for events that are not journaled, so that a restart doesn't give them again.
fn reserve_seqs(stream: &Stream, seq: u64) {
    let timeline = stream.timeline().clone();
    let (source, Some(origin)) = (stream.name().clone(), timeline.lock().origin.clone()) else { return };
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    task::spawn("reserve", async move {
        let reserved = origin.journal.reserve(&source, seq).await;
        if let Err(error) = &reserved {
            tracing::warn!(stream = %source, %error, "the room's clock is not told");
            // The next frame would ask again.
            tokio::time::sleep(limits::JOURNAL_RETRY_DELAY).await;
        }
        let mut timeline = timeline.lock();
        timeline.reserving = false;
        if reserved.is_ok() {
            timeline.reserved = timeline.reserved.max(seq);
        }
    });
}
