//! Mux once, send many: one muxer per watched stream and output form, shared by all its viewers.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    ring::{Bounds, Cursor, Entry, Read, Ring},
    stream::Stream,
};
use crate::{media::Item, task};

/// Turns a stream's items into the entries of one output form.
pub trait Mux: Send + 'static {
    /// What viewers of this form are sent.
    type Out: Entry;

    /// Encodes one item; pushes what comes of it.
    fn handle_item(&mut self, item: Item, group: u64, out: &Ring<Self::Out>);
}

/// The running muxers of one output form. `K` tells them apart (a stream, or a stream's track).
pub struct Pool<K, T> {
    running: Arc<Mutex<HashMap<K, Running<T>>>>,
    bounds: Bounds,
    linger: Duration,
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
    /// A pool whose rings have these bounds.
    pub fn new(bounds: Bounds, linger: Duration) -> Self {
        Self { running: Arc::default(), bounds, linger }
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
        let ring = Ring::new(self.bounds);
        let users = watch::Sender::new(1);
        let entry = Running { source: source.clone(), ring: ring.clone(), users: users.clone() };
        running.insert(key.clone(), entry);
        task::spawn("muxer", run(self.running.clone(), key, muxer(), source.clone(), ring.clone(), self.linger));
        Muxed { ring, users }
    }

    /// How many hold the muxer for `key`.
    #[cfg(test)]
    pub(crate) fn users(&self, key: &K) -> usize {
        self.running.lock().get(key).map_or(0, |running| *running.users.borrow())
    }

    /// How many muxers run.
    pub fn len(&self) -> usize {
        self.running.lock().len()
    }

    /// True if none runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
    mut muxer: M,
    source: Arc<Stream>,
    ring: Arc<Ring<M::Out>>,
    linger: Duration,
) {
    let mut cursor = source.ring().cursor(None);
    let users = match pool.lock().get(&key) {
        Some(running) => running.users.clone(),
        None => return,
    };
    let mut idle = Box::pin(unused(users.subscribe(), linger));
    loop {
        tokio::select! {
            read = cursor.recv() => match read {
                Ok(Read::Entry { entry, group }) => muxer.handle_item(entry, group, &ring),
                Ok(Read::Skipped { .. }) => {}
                Err(_) => break,
            },
            () = &mut idle => {
                let mut pool = pool.lock();
                // A viewer may have come between the timer and the lock.
                if *users.borrow() == 0 {
                    remove(&mut pool, &key, &ring);
                    break;
                }
                idle = Box::pin(unused(users.subscribe(), linger));
            }
        }
    }
    ring.close();
    remove(&mut pool.lock(), &key, &ring);
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
