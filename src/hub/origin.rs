//! Where events begin: accepted, stamped, signed, durable, and only then acknowledged and put on their way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::{broadcast, oneshot, watch};

use super::{
    Hub,
    draft::{self, Draft},
    journal::{Journal, JournalError},
    timeline::Timeline,
};
use crate::{
    clock, limits,
    media::{Event, Room, Signer, StreamName, event::BadEvent},
    observe::metrics::Metrics,
    task,
};

/// When an event shall fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// With the next video frame to be forwarded.
    Now,
    /// This many milliseconds of room time from now.
    InMs(u32),
    /// With the first frame at or after this PTS.
    PtsUs(i64),
    /// At this UTC millisecond, for everybody.
    WallMs(i64),
    /// As soon as it arrives, wherever the viewer is in the stream.
    Asap,
}

/// Why an event was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The event breaks the contract.
    #[error("{0}")]
    Bad(#[from] BadEvent),
    /// A one-shot for now, and nobody publishes.
    #[error("no frame to carry the event: the stream is not live")]
    NotLive,
    /// The room's quota is used up.
    #[error("too many events for this room; try again in {retry_after_secs} s")]
    TooFast {
        /// When there will be room for one.
        retry_after_secs: u64,
    },
    /// Too many events of this room, or too many rooms, wait.
    #[error("too many events wait already")]
    TooMany,
    /// The journal has no room.
    #[error("the journal is full: the event was not accepted")]
    Full,
    /// The journal can't be written now.
    #[error("the event was not accepted: {0}")]
    Unavailable(String),
    /// This node is an edge, or takes this stream from another node.
    #[error("this node is not the stream's origin: events are posted there")]
    NotOrigin,
    /// There is no such event.
    #[error("no event of that id is known here")]
    UnknownEvent,
}

impl Refused {
    /// A constant for the metric.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Bad(BadEvent::TooLarge) => "event_too_large",
            Self::Bad(_) => "event_malformed",
            Self::NotLive => "event_not_live",
            Self::TooFast { .. } => "event_quota",
            Self::TooMany => "event_too_many",
            Self::Full => "journal_full",
            Self::Unavailable(_) => "journal_unavailable",
            Self::NotOrigin => "event_at_edge",
            Self::UnknownEvent => "event_unknown",
        }
    }
}

impl From<JournalError> for Refused {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Full => Self::Full,
            error => Self::Unavailable(error.to_string()),
        }
    }
}

/// An accepted event.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// As it was stamped and signed.
    pub event: Arc<Event>,
    /// The same id had been accepted before.
    pub known: bool,
}

/// What a node needs to take events.
pub struct Origin {
    /// Where they become durable.
    pub journal: Arc<Journal>,
    /// Who signs them.
    pub signer: Arc<Signer>,
    /// Counts them.
    pub metrics: Arc<Metrics>,
    /// Events a second and room.
    pub rate_per_s: u32,
    /// Events at once and room.
    pub burst: u32,
    /// Microseconds that a commit takes lately.
    commit_us: AtomicU64,
    /// Each event once it is accepted.
    accepted: broadcast::Sender<Arc<Event>>,
}

impl Origin {
    /// What takes events.
    pub fn new(
        journal: Arc<Journal>,
        signer: Arc<Signer>,
        metrics: Arc<Metrics>,
        rate_per_s: u32,
        burst: u32,
    ) -> Arc<Self> {
        let commit_us = AtomicU64::new(COMMIT_US_FIRST);
        let (accepted, _) = broadcast::channel(limits::HOOK_EVENTS_WAITING_MAX);
        Arc::new(Self { journal, signer, metrics, rate_per_s, burst, commit_us, accepted })
    }

    /// One that forgets everything with the process: for tests and benches.
    pub fn in_memory() -> Arc<Self> {
        let journal = Journal::in_memory(1 << 30);
        Self::new(journal, Arc::new(Signer::from_seed(&[7; 32])), Metrics::new(0, true), 10_000, 10_000)
    }

    /// Time to leave for a commit, so that an event for now meets its frame: some more than it takes lately.
    fn commit_lead(&self) -> Duration {
        Duration::from_micros((2 * self.commit_us.load(Ordering::Relaxed)).clamp(COMMIT_US_MIN, COMMIT_US_MAX))
    }

    fn note_commit(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(COMMIT_US_MAX);
        let before = self.commit_us.load(Ordering::Relaxed);
        self.commit_us.store((7 * before + took) / 8, Ordering::Relaxed);
    }

    async fn publish(
        &self,
        timeline: &Mutex<Timeline>,
        source: &StreamName,
        draft: Draft,
    ) -> Result<Published, Refused> {
        // What it stops may just be on its way into the schedule.
        for id in &draft.drops {
            let turn = timeline.lock().turn(id);
            drop(turn.lock().await);
        }
        // Of callers with the same id one goes first; the others find what he made.
        let turn = timeline.lock().turn(&draft.id);
        let _turn = turn.lock().await;
        if draft.named
            && let Some(record) = self.journal.find(source, &draft.id)?
        {
            timeline.lock().take_up(&record);
            return Ok(Published { event: record.event, known: true });
        }
        {
            let mut timeline = timeline.lock();
            draft.check_expiry(timeline.now())?;
            timeline.admit(&draft)?;
        }
        let event = self.accept(timeline, source, draft).await?;
        Ok(Published { event, known: false })
    }

    /// Sees an admitted draft through: when this returns Ok it is durable, and on its way.
    async fn accept(
        &self,
        timeline: &Mutex<Timeline>,
        source: &StreamName,
        draft: Draft,
    ) -> Result<Arc<Event>, Refused> {
        let mut seqs = Vec::new();
        let accepted = self.commit(timeline, source, draft, &mut seqs).await;
        let mut timeline = timeline.lock();
        if accepted.is_err() {
            timeline.note_failed(&seqs);
        }
        timeline.land(&seqs);
        accepted
    }

    /// `seqs` are those that were given out for it.
    async fn commit(
        &self,
        timeline: &Mutex<Timeline>,
        source: &StreamName,
        draft: Draft,
        seqs: &mut Vec<u64>,
    ) -> Result<Arc<Event>, Refused> {
        let mut durable: Option<Arc<Event>> = None;
        let mut lead = self.commit_lead();
        let closing = draft.closing(source);
        loop {
            let again = durable.as_ref().map(|event| event.head.seq);
            let stamp = timeline.lock().stamp(&draft, lead, again);
            seqs.push(stamp.seq);
            let event = Arc::new(self.signer.sign(draft.stamped(stamp))?);
            let mut events = vec![event.clone()];
            // The closing has a higher seq than what it closes, or it would not count.
            if let (None, Some(closing)) = (again, &closing) {
                let stamp = timeline.lock().stamp(closing, lead, None);
                seqs.push(stamp.seq);
                events.push(Arc::new(self.signer.sign(closing.stamped(stamp))?));
            }
            let began = clock::now();
            let closings: Vec<_> = events.iter().skip(1).cloned().collect();
            let committed = self.journal.commit(events, Vec::new()).await;
            let mut timeline = timeline.lock();
            match (committed, durable) {
                (Ok(()), _) => self.note_commit(began.elapsed()),
                // Late is better than never: it is durable as it was.
                (Err(_), Some(event)) => {
                    timeline.schedule(event.clone());
                    return Ok(event);
                }
                (Err(error), None) => return Err(error.into()),
            }
            closings.into_iter().for_each(|closing| timeline.schedule(closing));
            let missed = draft.at == At::Now && lead < LEAD_MAX && timeline.has_missed(&event);
            // Committing took longer than a frame: nobody has seen the event, so it may still change.
            if missed || timeline.stopped_by(&draft) != event.head.supersedes {
                durable = Some(event);
                lead = (lead * 3).min(LEAD_MAX);
                continue;
            }
            timeline.schedule(event.clone());
            return Ok(event);
        }
    }
}

impl Hub {
    /// Stamps, signs, commits and schedules an event. Ok only when it is durable. Without `at` it fires when its
    /// type says, else now.
    ///
    /// An `id` that was accepted before gives the event of then.
    pub async fn publish_event(
        self: &Arc<Self>,
        name: &StreamName,
        draft: Map<String, Value>,
        at: Option<At>,
    ) -> Result<Published, Refused> {
        let origin = self.origin()?.clone();
        let metrics = origin.metrics.clone();
        let accepted = async {
            if self.get(name).is_some_and(|stream| stream.relayed.load(Ordering::Relaxed)) {
                return Err(Refused::NotOrigin);
            }
            let timeline = self.timeline(name)?;
            let draft = Draft::new(draft, at, name)?;
            let source = name.clone();
            // A task of its own: a caller that goes away must not leave an event durable and unscheduled.
            let hub = self.clone();
            let (reply, replied) = oneshot::channel();
            task::spawn("event", async move {
                let published = origin.publish(&timeline, &source, draft).await;
                if let Ok(published) = &published {
                    if !published.known {
                        origin.metrics.events_published.inc();
                        // Nobody may listen.
                        let _ = origin.accepted.send(published.event.clone());
                    }
                    hub.release(&source, &timeline);
                }
                // The caller may be gone.
                let _ = reply.send(published);
            });
            replied.await.unwrap_or_else(|_| Err(Refused::Unavailable("the node is stopping".to_owned())))
        }
        .await;
        accepted.inspect_err(|refused: &Refused| metrics.refused(refused.label()))
    }

    /// Stops an event that is still to come or going on.
    pub async fn cancel_event(
        self: &Arc<Self>,
        name: &StreamName,
        id: &str,
        reason: Option<&str>,
    ) -> Result<Published, Refused> {
        let origin = self.origin()?;
        let known = || -> Result<String, Refused> {
            let id = draft::canonical_id(id).ok_or(Refused::UnknownEvent)?;
            origin.journal.find(name, &id)?.map(|_| id).ok_or(Refused::UnknownEvent)
        };
        let id = known().inspect_err(|refused| origin.metrics.refused(refused.label()))?;
        self.publish_event(name, draft::cancel(&id, reason), None).await
    }

    /// The room at this moment, as a snapshot; `None` if nothing is known of it.
    pub fn room_state(self: &Arc<Self>, name: &StreamName) -> Result<Option<Bytes>, Refused> {
        let timeline = self.room(name)?;
        let global = self.global_room(name);
        let timeline = timeline.lock();
        let now = timeline.now();
        let global = global.replay(now);
        if timeline.room.is_empty() && global.is_empty() {
            return Ok(None);
        }
        Ok(Some(timeline.room.to_json(name, now, &global).into()))
    }

    /// The accepted events of a room that are not in the line yet.
    pub fn scheduled_events(self: &Arc<Self>, name: &StreamName) -> Result<Vec<Arc<Event>>, Refused> {
        Ok(self.loaded(name)?.lock().scheduled())
    }

    /// The room's log after `seq`, oldest first, at most `count` events. It ends before the first event that is
    /// still being committed, so that a reader who goes on behind the last one misses none.
    pub fn events_since(&self, name: &StreamName, seq: u64, count: usize) -> Result<Vec<Bytes>, Refused> {
        let origin = self.origin()?;
        let timeline = self.timelines.lock().get(name).cloned();
        let landed = timeline.map_or(u64::MAX, |timeline| timeline.lock().landed());
        Ok(origin.journal.since(name, seq, landed, count)?)
    }

    /// The seq up to which the room's log is complete, and a bell that rings when it has grown.
    pub fn follow_events(&self, name: &StreamName) -> Result<(u64, watch::Receiver<u64>), Refused> {
        let timeline = self.timeline(name)?;
        let timeline = timeline.lock();
        Ok((timeline.landed(), timeline.log.subscribe()))
    }

    /// The journal, where events are taken or will be.
    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.origin.as_ref().map(|origin| &origin.journal)
    }

    /// Each event that is accepted from now on, in any room; a reader who is slow misses the oldest. `None` where none
    /// are accepted.
    pub fn accepted_events(&self) -> Option<broadcast::Receiver<Arc<Event>>> {
        Some(self.origin.as_ref()?.accepted.subscribe())
    }

    /// Keeps a small document beside the room's events; `None` removes it. Ok when it is durable.
    pub async fn put_document(
        &self,
        name: &StreamName,
        kind: &'static str,
        json: Option<Bytes>,
    ) -> Result<(), Refused> {
        Ok(self.origin()?.journal.commit(Vec::new(), vec![((name.clone(), kind), json)]).await?)
    }

    /// A document kept beside the room's events.
    pub fn document(&self, name: &StreamName, kind: &'static str) -> Result<Option<Bytes>, Refused> {
        Ok(self.origin()?.journal.document(&(name.clone(), kind))?)
    }

    pub(super) fn origin(&self) -> Result<&Arc<Origin>, Refused> {
        self.origin.as_ref().ok_or(Refused::NotOrigin)
    }

    /// The timeline of a room that events are put into; from the journal, if it isn't at hand.
    pub(super) fn timeline(&self, name: &StreamName) -> Result<Arc<Mutex<Timeline>>, Refused> {
        // What another node writes into the journal would pass it by.
        if !self.origin()?.journal.standing().serves() {
            return Err(Refused::NotOrigin);
        }
        let mut timeline = self.loaded(name)?;
        let stream = self.get(name);
        let mut timelines = self.timelines.lock();
        if let Some(timeline) = timelines.get(name) {
            return Ok(timeline.clone());
        }
        if timelines.len() >= limits::ROOMS_MAX {
            return Err(Refused::TooMany);
        }
        // A stream that began when its room could not be had goes on with it.
        if let Some(stream) = stream
            && stream.timeline().lock().origin.is_none()
        {
            stream.timeline().lock().adopt(&mut timeline.lock());
            timeline = stream.timeline().clone();
        }
        timelines.insert(name.clone(), timeline.clone());
        Ok(timeline)
    }

    /// The same to look at: readers of names that they made up leave no room behind.
    fn loaded(&self, name: &StreamName) -> Result<Arc<Mutex<Timeline>>, Refused> {
        let origin = self.origin()?;
        if let Some(timeline) = self.timelines.lock().get(name) {
            return Ok(timeline.clone());
        }
        let loaded = Timeline::load(name.clone(), begin_seq(), origin.clone())?;
        Ok(Arc::new(Mutex::new(loaded)))
    }

    /// The room as this node knows it: an edge knows those that it mirrors.
    fn room(&self, name: &StreamName) -> Result<Arc<Mutex<Timeline>>, Refused> {
        match self.get(name) {
            Some(stream) => Ok(stream.timeline().clone()),
            None => self.loaded(name),
        }
    }

    /// What is so in all rooms of the stream's organisation.
    pub(super) fn global_room(&self, name: &StreamName) -> Arc<Room> {
        match name.global() {
            Some(global) if !name.is_global() => {
                self.globals.lock().get(&global).map(|cell| cell.read().clone()).unwrap_or_default()
            }
            _ => Arc::default(),
        }
    }
}

/// Seqs begin at the UTC millisecond, so that they go on growing even where the journal was lost.
pub(super) fn begin_seq() -> u64 {
    u64::try_from(clock::unix_ms()).unwrap_or(0)
}

/// What a commit is taken to last before the first was measured.
const COMMIT_US_FIRST: u64 = 5_000;
/// Bounds of the time that is left for a commit.
const COMMIT_US_MIN: u64 = 2_000;
const COMMIT_US_MAX: u64 = 100_000;
/// An event that still misses its frame with this much time is late.
const LEAD_MAX: Duration = Duration::from_millis(900);
