//! Writing one subscription: groups as unidirectional streams, one write a frame.
//!
//! A group that the peer's link can't take in time is reset and the reader goes on with the newest one. The
//! events in it are not lost with it: they are sent again at the head of the next group.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::timeout;
use web_transport_quinn::{SendStream, Session, SessionError, WriteError};

use super::publish::{Chunk, Track};
use crate::{
    clock::{self, Instant},
    hub::{Cursor, End, Patience, Read},
    limits::RING_EVENTS_MAX,
    observe::metrics::{Delivery, StreamMetrics},
    proto::moq::lite05::{GroupHeader, SubscribeReply, stream_code},
};

/// A session and what was sent on it; shared by its subscriptions.
pub(super) struct Link {
    /// The session.
    pub session: Session,
    /// What was sent.
    pub counters: Counters,
    /// When the peer last took a byte, of whatever subscription: one that he doesn't read is no reason to end others.
    taken: Mutex<Instant>,
}

impl Link {
    /// Nothing sent yet.
    pub(super) fn new(session: Session) -> Self {
        Self { session, counters: Counters::default(), taken: Mutex::new(clock::now()) }
    }

    fn took(&self, bytes: usize) {
        *self.taken.lock() = clock::now();
        self.counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Something took too long. Once is what links do; nothing at all for so long is a dead reader.
    fn stalled(&self, patience: Patience) -> Result<(), SendError> {
        if self.taken.lock().elapsed() >= patience.stall_max { Err(SendError::Stalled) } else { Ok(()) }
    }
}

/// What a session sent.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Frames written.
    pub frames: AtomicU64,
    /// Events written.
    pub events: AtomicU64,
    /// Bytes written.
    pub bytes: AtomicU64,
    /// Groups begun.
    pub groups: AtomicU64,
    /// Groups cut off because the peer was too slow.
    pub groups_reset: AtomicU64,
    /// Frames left out because the peer was too slow.
    pub frames_skipped: AtomicU64,
}

/// Why a subscription can't go on; each ends the session.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The peer took not one byte for too long.
    #[error("stalled: took no byte for too long")]
    Stalled,
    /// The peer was so slow that events it has not seen are gone.
    #[error("{0}")]
    Lost(End),
    /// The session ended.
    #[error("{0}")]
    Session(#[from] SessionError),
}

/// One subscription being served.
pub(super) struct Sender {
    link: Arc<Link>,
    subscribe: u64,
    track: Track,
    /// A write that takes longer than its lag cuts its group off.
    patience: Patience,
    metrics: Arc<StreamMetrics>,
    delivery: Delivery,
    /// The group being written; its stream is gone if it was cut off.
    group: Option<u64>,
    stream: Option<SendStream>,
    /// Frames were written to the group.
    begun: bool,
    /// Events written to the group, in case it is cut off.
    written: Vec<Chunk>,
    /// Events of groups that were cut off: the next group begins with them.
    owed: Vec<Chunk>,
}

impl Sender {
    /// Nothing sent yet.
    pub(super) fn new(
        link: Arc<Link>,
        subscribe: u64,
        track: Track,
        patience: Patience,
        metrics: Arc<StreamMetrics>,
        delivery: Delivery,
    ) -> Self {
        let (group, stream, begun, written, owed) = (None, None, false, Vec::new(), Vec::new());
        Self { link, subscribe, track, patience, metrics, delivery, group, stream, begun, written, owed }
    }

    /// Sends what the cursor yields until the stream ends. `reply` is the subscription's own stream.
    pub(super) async fn run(mut self, mut cursor: Cursor<Chunk>, mut reply: SendStream) -> Result<(), SendError> {
        loop {
            match cursor.recv().await {
                Ok(Read::Entry { entry, group }) => {
                    if self.group.is_none() {
                        self.reply(&mut reply, SubscribeReply::Start { group }).await?;
                    }
                    self.send(entry, group).await?;
                    self.delivery.sample(cursor.entered());
                }
                Ok(Read::Skipped { frames }) => {
                    self.link.counters.frames_skipped.fetch_add(frames, Ordering::Relaxed);
                    self.metrics.frames_skipped.inc_by(frames);
                    // A group that has only its first events so far goes on with the keyframe behind them.
                    if self.begun {
                        self.cut_off();
                    }
                }
                Err(End::Closed) => {
                    self.finish();
                    let group = self.group.map_or(0, |group| group + 1);
                    return self.reply(&mut reply, SubscribeReply::End { group }).await;
                }
                Err(end) => return Err(SendError::Lost(end)),
            }
        }
    }

    async fn send(&mut self, chunk: Chunk, group: u64) -> Result<(), SendError> {
        if self.group != Some(group) {
            self.finish();
            (self.group, self.begun) = (Some(group), false);
            self.open(group).await?;
        }
        if self.stream.is_none() {
            // Cut off: only what must not get lost waits for the next group.
            if chunk.is_event() && self.track.carries_events() && self.owed.len() < RING_EVENTS_MAX {
                self.owed.push(chunk);
            }
            return Ok(());
        }
        self.write(chunk).await
    }

    async fn open(&mut self, group: u64) -> Result<(), SendError> {
        let header = Bytes::from(GroupHeader { subscribe: self.subscribe, sequence: group }.to_stream());
        let opening = async {
            let mut stream = self.link.session.open_uni().await?;
            let _ = stream.set_priority(self.track.priority(group));
            match stream.write_chunk(header).await {
                Err(WriteError::SessionError(error)) => Err(error),
                // Any other failure is the stream's own, and shows again at the first frame.
                _ => Ok(stream),
            }
        };
        let Ok(opened) = timeout(self.patience.lag_max, opening).await else { return self.link.stalled(self.patience) };
        self.stream = Some(opened?);
        self.link.counters.groups.fetch_add(1, Ordering::Relaxed);
        for event in std::mem::take(&mut self.owed) {
            self.write(event).await?;
        }
        Ok(())
    }

    async fn write(&mut self, chunk: Chunk) -> Result<(), SendError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        self.begun |= !chunk.is_event();
        if chunk.is_event() && self.track.carries_events() {
            self.written.push(chunk.clone());
        }
        let len = chunk.len() as u64;
        let counter = if chunk.is_event() { &self.link.counters.events } else { &self.link.counters.frames };
        let mut parts = [chunk.head, chunk.payload];
        match timeout(self.patience.lag_max, write_parts(stream, &mut parts, &self.link)).await {
            Ok(Ok(())) => {
                counter.fetch_add(1, Ordering::Relaxed);
                self.metrics.frames_out.inc();
                self.metrics.bytes_out.inc_by(len);
                Ok(())
            }
            Ok(Err(WriteError::SessionError(error))) => Err(error.into()),
            // The reader stopped this group; it may well want the next one.
            Ok(Err(_)) => {
                self.stream = None;
                self.written.clear();
                Ok(())
            }
            Err(_) => {
                self.cut_off();
                self.link.stalled(self.patience)
            }
        }
    }

    fn finish(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let _ = stream.finish();
        }
        self.written.clear();
    }

    fn cut_off(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let _ = stream.reset(stream_code::TOO_FAR_BEHIND);
            self.link.counters.groups_reset.fetch_add(1, Ordering::Relaxed);
        }
        self.owed.append(&mut self.written);
    }

    async fn reply(&self, stream: &mut SendStream, reply: SubscribeReply) -> Result<(), SendError> {
        match timeout(self.patience.stall_max, stream.write_chunk(reply.to_bytes().into())).await {
            Ok(Err(WriteError::SessionError(error))) => Err(error.into()),
            // Whoever doesn't listen to replies can't be told.
            Ok(_) => Ok(()),
            Err(_) => Err(SendError::Stalled),
        }
    }
}

/// A frame may be longer than a slow peer takes in one go: each part that he takes is a sign of life.
async fn write_parts(stream: &mut SendStream, mut parts: &mut [Bytes], link: &Link) -> Result<(), WriteError> {
    while !parts.is_empty() {
        let written = stream.write_chunks(parts).await?;
        link.took(written.bytes);
        parts = parts.get_mut(written.chunks..).unwrap_or_default();
    }
    Ok(())
}
