//! Mux once, send many: one muxer per watched stream and output form, shared by all its viewers.

use std::{cell::Cell, collections::HashMap, hash::Hash, pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    feed::{Feed, Transcode},
    ring::{Bounds, Cursor, End, Entry, Read, Ring},
    stream::Stream,
};
use crate::{
    clock::{self, Instant},
    media::{Codec, Item, TrackKind, Tracks},
    task,
};

/// Turns a stream's items into the entries of one output form.
pub trait Mux: Send + 'static {
    /// What viewers of this form are sent.
    type Out: Entry;

    /// The codec that the viewers need the sound of `tracks` in; `None` if any will do.
    fn sound(&self, _tracks: &Tracks) -> Option<Codec> {
        None
    }

    /// Encodes one item; pushes what comes of it.
    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, Self::Out>);
}

/// Where a muxer puts what it made. Readers are woken once for all that is ready, and when it is time.
pub struct Out<'a, T> {
    ring: &'a Ring<T>,
    entered: Instant,
    has_more: Cell<bool>,
}

impl<'a, T: Entry> Out<'a, T> {
    /// Into `ring`, made of an item that entered the hub at `entered`.
    pub fn new(ring: &'a Ring<T>, entered: Instant) -> Self {
        Self { ring, entered, has_more: Cell::new(false) }
    }

    /// Appends an entry of `group`.
    pub fn push(&self, entry: T, group: u64) {
        self.has_more.set(true);
        self.ring.append(entry, group, self.entered);
    }
}

/// How long what is muxed may wait for what comes next, so that both go out in one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    /// Sound beside a picture, which comes every few milliseconds anyway.
    pub audio: Duration,
    /// Everything.
    pub all: Duration,
}

impl Merge {
    /// How long `item` may wait.
    fn wait(&self, item: &Item, has_video: bool) -> Duration {
        match item {
            Item::Frame(frame) if frame.track == TrackKind::Audio && has_video => self.audio.max(self.all),
            _ => self.all,
        }
    }
}

/// The running muxers of one output form. `K` tells them apart (a stream, or a stream's track).
///
/// Each shard has its own, so that one wake crosses from the publisher's shard to each other one, whatever the
/// number of viewers there.
pub struct Pool<K, T> {
    running: Arc<Mutex<HashMap<K, Running<T>>>>,
    terms: Terms,
}

/// How the muxers of a pool run.
#[derive(Clone)]
pub struct Terms {
    /// Bounds of what they keep.
    pub bounds: Bounds,
    /// How long they outlive their last viewer.
    pub linger: Duration,
    /// How long they may hold things back.
    pub merge: Merge,
    /// Ends their lines when it is cancelled, and so their readers.
    pub stop: CancellationToken,
    /// Who converts the sound of streams whose codec viewers can't take; without, they get it as it is.
    pub transcode: Option<Arc<dyn Transcode>>,
    /// They begin with all that their stream still holds, for readers that go on from an earlier group.
    pub history: bool,
}

struct Running<T> {
    source: Arc<Stream>,
    ring: Arc<Ring<T>>,
    users: watch::Sender<usize>,
}

/// A viewer's hold on a muxer. The muxer lingers after the last one is dropped.
pub struct Muxed<T> {
    ring: Arc<Ring<T>>,
    users: watch::Sender<usize>,
}

impl<K: Hash + Eq + Clone + Send + 'static, T: Entry> Pool<K, T> {
    /// A pool without muxers.
    pub fn new(terms: Terms) -> Self {
        Self { running: Arc::default(), terms }
    }

    /// The muxer for `key`, started on this shard if none runs.
    pub fn attach<M: Mux<Out = T>>(&self, key: K, source: &Arc<Stream>, muxer: impl FnOnce() -> M) -> Muxed<T> {
        let mut running = self.running.lock();
        if let Some(found) = running.get(&key)
            && Arc::ptr_eq(&found.source, source)
        {
            found.users.send_modify(|users| *users += 1);
            return Muxed { ring: found.ring.clone(), users: found.users.clone() };
        }
        let ring = Ring::new(self.terms.bounds);
        let users = watch::Sender::new(1);
        let entry = Running { source: source.clone(), ring: ring.clone(), users: users.clone() };
        running.insert(key.clone(), entry);
        task::spawn("muxer", run(self.running.clone(), key, muxer(), source.clone(), ring.clone(), self.terms.clone()));
        Muxed { ring, users }
    }

    /// How many hold the muxer for `key`.
    #[cfg(test)]
    pub(crate) fn users(&self, key: &K) -> usize {
        self.running.lock().get(key).map_or(0, |running| *running.users.borrow())
    }

    /// How many muxers run.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.running.lock().len()
    }
}

impl<T: Entry> Muxed<T> {
    /// A reader of the muxed line.
    pub fn cursor(&self, lag_us_max: Option<i64>) -> Cursor<T> {
        self.ring.cursor(lag_us_max)
    }
}

impl<T> Drop for Muxed<T> {
    fn drop(&mut self) {
        self.users.send_modify(|users| *users -= 1);
    }
}

async fn run<K: Hash + Eq, M: Mux>(
    pool: Arc<Mutex<HashMap<K, Running<M::Out>>>>,
    key: K,
    muxer: M,
    source: Arc<Stream>,
    ring: Arc<Ring<M::Out>>,
    terms: Terms,
) {
    let users = match pool.lock().get(&key) {
        Some(running) => running.users.clone(),
        None => return,
    };
    let place = Place { pool, key, ring };
    let feed = Feed::new(source, terms.transcode, terms.history);
    let mut muxing = Muxing { muxer, feed, ring: &place.ring, merge: terms.merge, has_video: false, due: None };
    let mut stop = pin!(terms.stop.cancelled());
    let mut idle = pin!(unused(users.subscribe(), terms.linger));
    loop {
        tokio::select! {
            more = muxing.advance() => if more.is_err() {
                break;
            },
            () = &mut stop => break,
            () = &mut idle => {
                let mut pool = place.pool.lock();
                // A viewer may have come between the timer and the lock.
                if *users.borrow() == 0 {
                    remove(&mut pool, &place.key, &place.ring);
                    break;
                }
                idle.set(unused(users.subscribe(), terms.linger));
            }
        }
    }
}

/// A running muxer's place in its pool. However it ends, so do its line and its readers, and the next viewer starts
/// another.
struct Place<K: Hash + Eq, T: Entry> {
    pool: Arc<Mutex<HashMap<K, Running<T>>>>,
    key: K,
    ring: Arc<Ring<T>>,
}

impl<K: Hash + Eq, T: Entry> Drop for Place<K, T> {
    fn drop(&mut self) {
        self.ring.close();
        remove(&mut self.pool.lock(), &self.key, &self.ring);
    }
}

/// A stream's line on its way through a muxer.
struct Muxing<'a, M: Mux> {
    muxer: M,
    feed: Feed,
    ring: &'a Ring<M::Out>,
    merge: Merge,
    has_video: bool,
    /// When the readers must be told of what is new, if anything is.
    due: Option<Instant>,
}

impl<M: Mux> Muxing<'_, M> {
    /// Muxes what the line has, waiting for it, and tells the readers when it is time. Cancel safe.
    async fn advance(&mut self) -> Result<(), End> {
        let read = match self.due {
            None => self.feed.recv().await?,
            Some(due) => match timeout_at(due, self.feed.recv()).await {
                Ok(read) => read?,
                Err(_) => {
                    self.tell();
                    return Ok(());
                }
            },
        };
        let mut read = Some(read);
        while let Some(next) = read {
            self.handle(next);
            // An end is found again by the next call.
            read = self.feed.try_recv().unwrap_or_default();
        }
        if self.due.is_some_and(|due| due <= clock::now()) {
            self.tell();
        }
        Ok(())
    }

    fn handle(&mut self, read: Read<Item>) {
        let Read::Entry { entry, group } = read else { return };
        let mut sound = None;
        if let Item::Head(head) = &entry {
            self.has_video = head.tracks.video.is_some();
            sound = self.muxer.sound(&head.tracks);
        }
        if !self.feed.admits(&entry, group, sound) {
            return;
        }
        let due = self.feed.entered() + self.merge.wait(&entry, self.has_video);
        let out = Out::new(self.ring, self.feed.entered());
        self.muxer.handle_item(entry, group, &out);
        // What is not for these readers doesn't wake them, but a picture releases the sound that waits.
        if out.has_more.get() || self.due.is_some() {
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    fn tell(&mut self) {
        self.due = None;
        self.ring.wake();
    }
}

/// Resolves when there has been no user for `linger`.
async fn unused(mut users: watch::Receiver<usize>, linger: Duration) {
    loop {
        let _ = users.wait_for(|users| *users == 0).await;
        if tokio::time::timeout(linger, users.wait_for(|users| *users > 0)).await.is_err() {
            return;
        }
    }
}

fn remove<K: Hash + Eq, T>(pool: &mut HashMap<K, Running<T>>, key: &K, ring: &Arc<Ring<T>>) {
    if pool.get(key).is_some_and(|running| Arc::ptr_eq(&running.ring, ring)) {
        pool.remove(key);
    }
}
