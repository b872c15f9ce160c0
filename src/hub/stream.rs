//! One stream: its line, its publishers, its events and who waits for it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, watch};

use super::{
    Settings,
    notice::{Notice, What},
    origin::begin_seq,
    ring::{Bounds, Entry, EntryKind, Ring},
    seats::Seats,
    slate::Still,
    timeline::Timeline,
};
use crate::{
    clock,
    media::{Event, Head, Item, Room, StreamName, Tracks},
};

impl Entry for Item {
    fn kind(&self) -> EntryKind {
        match self {
            Self::Head(_) => EntryKind::Head,
            Self::Event(_) => EntryKind::Event,
            Self::Frame(frame) if frame.keyframe => EntryKind::Start,
            Self::Frame(_) => EntryKind::Follow,
            // Rare and small, and what it says must not get lost with a skipped frame.
            Self::Data(_) => EntryKind::Event,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.data.len(),
            Self::Event(event) => event.json.len(),
            Self::Data(data) => data.amf0.len(),
            Self::Head(_) => 0,
        }
    }

    fn dts_us(&self) -> Option<i64> {
        Self::dts_us(self)
    }
}

/// Whether somebody publishes a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody has published yet; viewers wait.
    Waiting,
    /// Frames come in.
    Live,
    /// The publisher is gone and may come back within the reconnect window; viewers stay.
    Interrupted,
    /// Over. The next publisher begins a new stream of the same name.
    Ended,
}

/// Counters of one stream since it began.
#[derive(Debug, Default)]
pub struct Stats {
    /// Frames received.
    pub frames_in: AtomicU64,
    /// Media bytes received.
    pub bytes_in: AtomicU64,
    /// Events put into the line.
    pub events: AtomicU64,
    /// Events that entered the line after the frame they were meant for.
    pub events_late: AtomicU64,
    /// Times a publisher came.
    pub publishes: AtomicU64,
    /// Times another publisher than the last went on air.
    pub switches: AtomicU64,
}

impl Stats {
    /// The late events since this was last asked.
    pub fn take_events_late(&self) -> u64 {
        self.events_late.swap(0, Ordering::Relaxed)
    }

    /// The changes of publisher since this was last asked.
    pub fn take_switches(&self) -> u64 {
        self.switches.swap(0, Ordering::Relaxed)
    }
}

/// Who publishes a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publishers {
    /// One is on air, though he may be silent.
    pub on_air: bool,
    /// Others are connected, and wait for their turn.
    pub standing_by: usize,
    /// Pictures come and no keyframe does, so that nobody can join.
    pub no_keyframe: bool,
}

/// A stream of this node.
pub struct Stream {
    name: StreamName,
    ring: Arc<Ring<Item>>,
    /// Held for the length of a push; never across a wait.
    pub(super) line: Mutex<Line>,
    /// The room's events; they outlive the stream where they are kept. Locked after `line`.
    timeline: Arc<Mutex<Timeline>>,
    /// What is so in all rooms of the organisation.
    global: Arc<RwLock<Arc<Room>>>,
    /// Grows whenever another publisher goes on air.
    pub(super) generation: watch::Sender<u64>,
    state: watch::Sender<State>,
    notices: broadcast::Sender<Notice>,
    viewers: watch::Sender<usize>,
    /// It comes from another node, which also takes its events.
    pub(super) relayed: AtomicBool,
    wanted_group: AtomicU64,
    b_frames: AtomicBool,
    pub(super) no_keyframe: AtomicBool,
    /// Counters.
    pub stats: Stats,
}

/// Where the line stands; outlives each publisher, so that the next one continues it.
pub(super) struct Line {
    pub(super) seats: Seats,
    pub(super) tracks: Arc<Tracks>,
    /// The head put into the line last.
    pub(super) head: Option<Arc<Head>>,
    pub(super) resync: u64,
    /// Sequence of the group being filled.
    pub(super) group: u64,
    /// DTS of the newest frame and when it came; `None` before the first.
    pub(super) newest: Option<(i64, clock::Instant)>,
    /// What goes on since the last publisher's newest frame; ended by the next frame of a publisher.
    pub(super) slate: Option<Still>,
    /// What is so in all rooms, up to where the line is.
    pub(super) global: Arc<Room>,
    /// Events from elsewhere that wait for the next frame.
    pub(super) held_events: Vec<Arc<Event>>,
    /// DTS of the newest frame of each track.
    pub(super) newest_video_us: i64,
    pub(super) newest_audio_us: i64,
    /// Greatest PTS of a picture since the last keyframe, that one included.
    pub(super) latest_pts_us: i64,
    /// Keyframes since a picture last came out of order.
    pub(super) groups_in_order: u32,
}

impl Stream {
    pub(super) fn new(
        name: StreamName,
        settings: &Settings,
        timeline: Arc<Mutex<Timeline>>,
        global: Arc<RwLock<Arc<Room>>>,
        notices: broadcast::Sender<Notice>,
    ) -> Arc<Self> {
        let bounds = Bounds { bytes_max: settings.ring_bytes_max, groups_max: settings.gops_max };
        let line = Line {
            seats: Seats::new(settings.rules()),
            tracks: Arc::new(Tracks::default()),
            head: None,
            resync: 0,
            // Like seqs, so that groups go on growing over a restart.
            group: begin_seq(),
            newest: None,
            slate: None,
            global: global.read().clone(),
            held_events: Vec::new(),
            newest_video_us: i64::MIN,
            newest_audio_us: i64::MIN,
            latest_pts_us: i64::MIN,
            groups_in_order: 0,
        };
        Arc::new(Self {
            ring: Ring::new(bounds),
            line: Mutex::new(line),
            timeline,
            global,
            generation: watch::Sender::new(0),
            state: watch::Sender::new(State::Waiting),
            notices,
            viewers: watch::Sender::new(0),
            relayed: AtomicBool::new(false),
            wanted_group: AtomicU64::new(0),
            b_frames: AtomicBool::new(false),
            no_keyframe: AtomicBool::new(false),
            stats: Stats::default(),
            name,
        })
    }

    /// The name.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// The line.
    pub fn ring(&self) -> &Arc<Ring<Item>> {
        &self.ring
    }

    /// The state now.
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// The state and its changes.
    pub fn watch_state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Who publishes it.
    pub fn publishers(&self) -> Publishers {
        let line = self.line.lock();
        let on_air = line.seats.is_on_air();
        Publishers {
            on_air,
            standing_by: line.seats.len() - usize::from(on_air),
            no_keyframe: self.no_keyframe.load(Ordering::Relaxed),
        }
    }

    /// Somebody further down goes on from this group: whoever begins to pull the stream does so from there.
    pub fn want_group(&self, group: u64) {
        self.wanted_group.store(group, Ordering::Relaxed);
    }

    /// The group that was last wanted, to be asked for once; 0 for none.
    pub fn take_wanted_group(&self) -> u64 {
        self.wanted_group.swap(0, Ordering::Relaxed)
    }

    /// True if it comes from another node, or is to: nobody publishes it here.
    pub fn is_relayed(&self) -> bool {
        self.relayed.load(Ordering::Relaxed)
    }

    /// How many viewers this node serves, and its changes: the demand that an edge pulls for.
    pub fn viewers(&self) -> watch::Receiver<usize> {
        self.viewers.subscribe()
    }

    /// The configuration at the end of the line.
    pub fn tracks(&self) -> Option<Arc<Tracks>> {
        match self.ring.head() {
            Some(Item::Head(head)) => Some(head.tracks.clone()),
            _ => None,
        }
    }

    /// True if pictures are, or a few groups ago were, decoded in another order than they are shown in, which browsers can't over WebRTC.
    pub fn has_b_frames(&self) -> bool {
        self.b_frames.load(Ordering::Relaxed)
    }

    pub(super) fn set_b_frames(&self, has_b_frames: bool) {
        if self.b_frames.swap(has_b_frames, Ordering::Relaxed) != has_b_frames && has_b_frames {
            tracing::warn!(
                stream = %self.name,
                "the encoder reorders pictures (B-frames), which WebRTC viewers can't show: set bframes=0 or tune zerolatency"
            );
        }
    }

    pub(super) fn timeline(&self) -> &Arc<Mutex<Timeline>> {
        &self.timeline
    }

    pub(super) fn global(&self) -> Arc<Room> {
        self.global.read().clone()
    }

    pub(super) fn viewer_joined(&self) {
        self.viewers.send_modify(|viewers| *viewers += 1);
    }

    pub(super) fn viewer_left(&self) {
        self.viewers.send_modify(|viewers| *viewers -= 1);
    }

    /// Ends the stream for everybody; what the line still holds is delivered.
    pub(super) fn end(&self) {
        self.set_state(State::Ended);
        // Whoever waits for the next publisher has waited long enough.
        self.generation.send_modify(|generation| *generation += 1);
        self.ring.close();
    }

    /// Tells all who follow it, if it is another than before.
    pub(super) fn set_state(&self, state: State) {
        let is_new = |old: &mut State| std::mem::replace(old, state) != state;
        if self.state.send_if_modified(is_new) {
            self.notify(What::State(state));
        }
    }

    /// Never waits: who follows and is too slow misses the oldest notices.
    pub(super) fn notify(&self, what: What) {
        // Maybe nobody follows.
        let _ = self.notices.send(Notice { stream: self.name.clone(), what });
    }
}
