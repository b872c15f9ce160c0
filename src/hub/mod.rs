//! Streams: one line of items each, written by one publisher and read through cursors.
//!
//! Invariants: the hub knows neither protocols nor sockets; pushing never waits for a reader; a viewer is a
//! cursor and a count. Only the hub knows both who publishes and who watches.

mod draft;
mod feed;
mod journal;
mod mux;
mod notice;
mod origin;
mod patience;
mod publisher;
mod ring;
mod schedule;
mod seats;
mod silence;
mod slate;
mod stream;
mod timeline;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

pub use self::{
    feed::Transcode,
    journal::{Copy, DocumentKey, Heads, Journal, JournalError, Loaded, NotCopied, Record, Replica, Sharing, Standing},
    mux::{Merge, Mux, Muxed, Out, Pool, Terms},
    notice::{Notice, What},
    origin::{At, Origin, Published, Refused},
    patience::Patience,
    publisher::{Publisher, Replaced},
    ring::{Bounds, Cursor, End, Entry, EntryKind, Read, Ring},
    seats::{Claim, Unseated},
    stream::{Publishers, State, Stats, Stream},
};
use self::{
    origin::begin_seq,
    seats::{Rules, Seats},
    stream::Line,
    timeline::Timeline,
};
use crate::{
    clock::{self, Instant},
    config::{SecondPublisher, Slate},
    limits,
    media::{Room, StreamName},
    observe::memory::{self, Pressure},
    task,
};

/// What an operator may tune.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Payload bytes a stream's ring holds.
    pub ring_bytes_max: usize,
    /// Groups a stream's ring holds, the unfinished one included.
    pub gops_max: usize,
    /// How long viewers wait for a publisher that went away without saying so.
    pub reconnect_window: Duration,
    /// How long a muxer or an upstream subscription outlives its last viewer.
    pub linger: Duration,
    /// What becomes of a publisher who comes to a stream that has one.
    pub second_publisher: SecondPublisher,
    /// So long the publisher on air may be silent before one who stands by takes over.
    pub standby_after: Duration,
    /// A publisher who says that he is done ends the stream.
    pub end_on_unpublish: bool,
    /// What viewers see while the publisher is away.
    pub slate: Slate,
}

impl Settings {
    fn rules(&self) -> Rules {
        Rules { second: self.second_publisher, standby_after: self.standby_after }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ring_bytes_max: 32 * 1024 * 1024,
            gops_max: 3,
            reconnect_window: Duration::from_secs(30),
            linger: Duration::from_secs(5),
            second_publisher: SecondPublisher::Takeover,
            standby_after: Duration::from_millis(1500),
            end_on_unpublish: true,
            slate: Slate::None,
        }
    }
}

/// All streams of this node.
pub struct Hub {
    settings: ArcSwap<Settings>,
    began: Instant,
    streams: RwLock<BTreeMap<StreamName, Entered>>,
    /// Changes whenever the set of servable streams does.
    version: watch::Sender<u64>,
    notices: broadcast::Sender<Notice>,
    /// Takes events; none on an edge.
    origin: Option<Arc<Origin>>,
    /// The rooms that an origin has at hand, live or not.
    timelines: Mutex<HashMap<StreamName, Arc<Mutex<Timeline>>>>,
    /// What is so in all rooms, by the name of the room that stands for them.
    globals: Mutex<HashMap<StreamName, Arc<RwLock<Arc<Room>>>>>,
}

struct Entered {
    stream: Arc<Stream>,
    /// Can be served: published here, or announced by an upstream.
    announced: bool,
}

/// What a stream is looked up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// To be served.
    Announce,
    /// To be watched, maybe before there is anything to see.
    View,
}

impl Door {
    /// Names that viewers make up must not take the room of those that publish.
    fn streams_max(self) -> usize {
        match self {
            Self::Announce => limits::STREAMS_MAX,
            Self::View => limits::STREAMS_MAX / 2,
        }
    }
}

/// Why there is no room for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The node has all the streams it may have.
    #[error("this node already has {} streams", limits::STREAMS_MAX)]
    Streams,
    /// It has too little memory for further viewers, or streams.
    #[error("this node is short of memory")]
    Memory,
}

impl Hub {
    /// An empty hub. With an origin it takes events.
    pub fn new(settings: Settings, origin: Option<Arc<Origin>>) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            began: clock::now(),
            streams: RwLock::default(),
            version: watch::Sender::new(0),
            notices: broadcast::Sender::new(limits::HUB_NOTICES_MAX),
            origin,
            timelines: Mutex::default(),
            globals: Mutex::default(),
        })
    }

    /// How it is set now.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Sets it anew. What a stream was made with it keeps; how it ends goes by what is set then.
    pub fn set(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Publishes `name` as [`Claim::default`] has it.
    pub fn publish(self: &Arc<Self>, name: &StreamName) -> Result<Publisher, Unseated> {
        self.publish_as(name, Claim::default())
    }

    /// Publishes `name`: on air at once if nobody else publishes it, else, as the settings have it, with the first
    /// keyframe, or when it is needed, or not at all.
    pub fn publish_as(self: &Arc<Self>, name: &StreamName, claim: Claim) -> Result<Publisher, Unseated> {
        self.seat(name, |seats, now| seats.admit(claim, now))
    }

    /// Publishes what another node publishes, unless somebody does so here. A newer session replaces an older one.
    pub fn publish_relayed(self: &Arc<Self>, name: &StreamName) -> Result<Publisher, Unseated> {
        self.seat(name, Seats::admit_relay)
    }

    /// Would [`Hub::publish_as`] have a place now? For doors that answer before they publish.
    pub fn may_publish_as(&self, name: &StreamName, claim: Claim) -> Result<(), Unseated> {
        self.get(name).map_or(Ok(()), |stream| stream.line.lock().seats.check(claim, clock::now()))
    }

    fn seat(
        self: &Arc<Self>,
        name: &StreamName,
        admit: impl Fn(&mut Seats, Instant) -> Admitted,
    ) -> Result<Publisher, Unseated> {
        loop {
            let stream = self.enter(name, Door::Announce)?;
            // It may have ended since it was looked up; then it is off the map, and a new one begins.
            if let Some(publisher) = Publisher::sit(self.clone(), stream, &admit)? {
                return Ok(publisher);
            }
        }
    }

    /// Joins as a viewer; the stream may not exist yet.
    pub fn view(self: &Arc<Self>, name: &StreamName) -> Result<Viewer, Full> {
        Ok(Viewer { hub: self.clone(), stream: self.enter(name, Door::View)? })
    }

    /// Marks a stream as servable from an upstream, which also takes its events.
    pub fn announce(self: &Arc<Self>, name: &StreamName) -> Result<Arc<Stream>, Full> {
        let stream = self.enter(name, Door::Announce)?;
        stream.relayed.store(true, Ordering::Relaxed);
        Ok(stream)
    }

    /// The upstream no longer has the stream, or nobody watches it: it ends here. Not if a publisher of this node is
    /// about to go on with it.
    pub fn unannounce(&self, stream: &Arc<Stream>) {
        let mut line = stream.line.lock();
        if !line.seats.has_local() {
            self.end(stream, &mut line);
        }
    }

    /// A stream by name, whether live, interrupted or waited for.
    pub fn get(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.streams.read().get(name).map(|entered| entered.stream.clone())
    }

    /// True if the stream can be served: it is published here or announced by an upstream.
    pub fn is_announced(&self, name: &StreamName) -> bool {
        self.streams.read().get(name).is_some_and(|entered| entered.announced)
    }

    /// Every stream that can be served, by name.
    pub fn list(&self) -> Vec<Arc<Stream>> {
        let streams = self.streams.read();
        streams.values().filter(|entered| entered.announced).map(|entered| entered.stream.clone()).collect()
    }

    /// Follows which streams can be served, starting with all there are.
    pub fn announcements(self: &Arc<Self>) -> Announcements {
        let mut version = self.version.subscribe();
        version.mark_changed();
        Announcements { hub: self.clone(), known: BTreeMap::new(), version }
    }

    /// Ends a stream that has been without a publisher since `generation`. False if somebody wants to go on air.
    fn end_session(&self, stream: &Arc<Stream>, generation: u64) -> bool {
        let mut line = stream.line.lock();
        if *stream.generation.borrow() != generation {
            return true;
        }
        let is_over = line.seats.len() == 0;
        if is_over {
            self.end(stream, &mut line);
        }
        is_over
    }

    /// Ends a stream: viewers get what the line holds, then their end. The line is held, so that nobody takes a place
    /// in a stream that is half gone.
    fn end(&self, stream: &Arc<Stream>, line: &mut Line) {
        line.seats.close();
        {
            let mut streams = self.streams.write();
            if streams.get(stream.name()).is_some_and(|entered| Arc::ptr_eq(&entered.stream, stream)) {
                // While the next stream of this room can't begin yet.
                stream.timeline().lock().pause();
                streams.remove(stream.name());
            }
        }
        stream.end();
        self.version.send_modify(|version| *version += 1);
    }

    fn end_unless_resumed(self: Arc<Self>, stream: Arc<Stream>, generation: u64) {
        if tokio::runtime::Handle::try_current().is_err() {
            self.end_session(&stream, generation);
            return;
        }
        task::spawn("reconnect window", async move {
            let mut newest = stream.generation.subscribe();
            let mut window = self.settings().reconnect_window;
            loop {
                let resumed = newest.wait_for(|newest| *newest != generation);
                let is_late = tokio::time::timeout(window, resumed).await.is_err();
                if !is_late || self.end_session(&stream, generation) {
                    return;
                }
                // Who is connected and has had no keyframe yet is waited for; he is closed if he sends none.
                window = LATE_PUBLISHER_POLL;
            }
        });
    }

    fn enter(&self, name: &StreamName, door: Door) -> Result<Arc<Stream>, Full> {
        let pressure = memory::pressure();
        let has_memory = match door {
            Door::View => pressure < Pressure::NoViewers,
            // Who was on air before may come back.
            Door::Announce => pressure < Pressure::NoStreams || self.is_announced(name),
        };
        if !has_memory {
            return Err(Full::Memory);
        }
        if door == Door::View
            && let Some(stream) = self.join(name)
        {
            return Ok(stream);
        }
        // A name that has no place here leaves no room behind.
        let has_place = |streams: &BTreeMap<_, _>| streams.contains_key(name) || streams.len() < door.streams_max();
        if !has_place(&self.streams.read()) {
            return Err(Full::Streams);
        }
        // The journal may have to be read: not while others wait for the map.
        let timeline = self.timeline_of(name);
        let mut streams = self.streams.write();
        if !has_place(&streams) {
            return Err(Full::Streams);
        }
        if !streams.contains_key(name) {
            let (global, notices) = (self.global_cell(name), self.notices.clone());
            let stream = Stream::new(name.clone(), &self.settings(), timeline, global, notices);
            streams.insert(name.clone(), Entered { stream, announced: false });
        }
        let Some(entered) = streams.get_mut(name) else { return Err(Full::Streams) };
        let newly = door == Door::Announce && !entered.announced;
        entered.announced |= newly;
        let stream = entered.stream.clone();
        if door == Door::View {
            // Counted before the map is let go: a stream without viewers may be forgotten.
            stream.viewer_joined();
        }
        drop(streams);
        if newly {
            self.version.send_modify(|version| *version += 1);
        }
        Ok(stream)
    }

    /// Counts a viewer into a stream that is there. `None` if it must be made, or still lacks its room's events.
    fn join(&self, name: &StreamName) -> Option<Arc<Stream>> {
        let streams = self.streams.read();
        let stream = &streams.get(name)?.stream;
        if self.origin.is_some() && stream.timeline().lock().origin.is_none() {
            return None;
        }
        stream.viewer_joined();
        Some(stream.clone())
    }

    /// The timeline that a stream of this name has. Where events can't be taken it is the stream's own.
    fn timeline_of(&self, name: &StreamName) -> Arc<Mutex<Timeline>> {
        match self.timeline(name) {
            Ok(timeline) => timeline,
            Err(refused) => {
                if self.origin.is_some() {
                    tracing::warn!(stream = %name, %refused, "the room's events are not at hand");
                }
                Arc::new(Mutex::new(Timeline::new(name.clone(), begin_seq())))
            }
        }
    }

    /// Where the streams of an organisation look up what is so in all its rooms.
    fn global_cell(&self, name: &StreamName) -> Arc<RwLock<Arc<Room>>> {
        let Some(global) = name.global() else { return Arc::default() };
        let mut globals = self.globals.lock();
        // Cells that no stream holds any more, and that say nothing.
        globals.retain(|_, cell| Arc::strong_count(cell) > 1 || !cell.read().is_empty());
        globals.entry(global).or_default().clone()
    }

    /// Forgets a stream that nobody publishes, announces or waits for.
    fn forget_idle(&self, stream: &Arc<Stream>) {
        let mut streams = self.streams.write();
        let idle = streams.get(stream.name()).is_some_and(|entered| {
            Arc::ptr_eq(&entered.stream, stream) && !entered.announced && *stream.viewers().borrow() == 0
        });
        if !idle {
            return;
        }
        streams.remove(stream.name());
        drop(streams);
        // Names that viewers made up must not fill the rooms either. Held by the map and by the stream alone, and
        // without anything to do, it is as well in the journal.
        let mut timelines = self.timelines.lock();
        let unused = |timeline: &Arc<Mutex<Timeline>>| Arc::strong_count(timeline) <= 2 && timeline.lock().is_idle();
        if timelines.get(stream.name()).is_some_and(unused) {
            timelines.remove(stream.name());
        }
    }
}

/// What became of a publisher at the door: his place, and how he learns that he lost it.
type Admitted = Result<(u64, CancellationToken), Unseated>;

/// After the reconnect window, how often it is looked whether those who wait for a keyframe are still there.
const LATE_PUBLISHER_POLL: Duration = Duration::from_secs(1);

/// A viewer's hold on a stream: counted while it lives.
pub struct Viewer {
    hub: Arc<Hub>,
    stream: Arc<Stream>,
}

impl Viewer {
    /// The stream watched.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.stream.viewer_left();
        self.hub.forget_idle(&self.stream);
    }
}

/// A change in which streams can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// The stream can be served from now on.
    Active(StreamName),
    /// It can't any more.
    Ended(StreamName),
}

/// Follows the set of servable streams; see [`Hub::announcements`].
pub struct Announcements {
    hub: Arc<Hub>,
    known: BTreeMap<StreamName, Arc<Stream>>,
    version: watch::Receiver<u64>,
}

impl Announcements {
    /// The changes since the last call, waiting for at least one. Changes that cancel out are not told, but
    /// a stream that ended and began anew is told as both.
    pub async fn next(&mut self) -> Vec<Announcement> {
        loop {
            // The hub holds the sender.
            let _ = self.version.changed().await;
            let now: BTreeMap<_, _> =
                self.hub.list().into_iter().map(|stream| (stream.name().clone(), stream)).collect();
            let known = std::mem::replace(&mut self.known, now);
            let absent = |old: &BTreeMap<StreamName, Arc<Stream>>, name: &StreamName, stream: &Arc<Stream>| {
                !old.get(name).is_some_and(|other| Arc::ptr_eq(other, stream))
            };
            let ended = known.iter().filter(|(name, stream)| absent(&self.known, name, stream));
            let active = self.known.iter().filter(|(name, stream)| absent(&known, name, stream));
            let changes: Vec<_> = ended
                .map(|(name, _)| Announcement::Ended(name.clone()))
                .chain(active.map(|(name, _)| Announcement::Active(name.clone())))
                .collect();
            if !changes.is_empty() {
                return changes;
            }
        }
    }
}

#[cfg(test)]
mod tests;
