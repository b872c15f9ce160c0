//! Two nodes and one journal: one serves, the other stands by with a copy, and takes over when it is wanted.
//!
//! What is acknowledged is durable on both while both are up. Each reign has a term; who hears of a higher one than
//! his own has been deposed, and stands by until he has been given a copy.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prometheus::IntGauge;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{oneshot, watch};

use super::{
    JournalError,
    store::{Batch, Store},
};
use crate::{
    clock::{self, Instant},
    limits,
    media::{Event, Keys, StreamName},
    task,
};

/// What one node writes, for the other's journal.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Copy {
    /// Whose reign it is.
    pub term: u64,
    /// Asks how far the other's copy goes.
    pub hello: bool,
    /// With it the other has all that was acknowledged, and may take over.
    pub whole: bool,
    /// Events, and whether they wait to enter the line.
    pub events: Vec<(bool, Box<RawValue>)>,
    /// Source and seq of those that have entered it since.
    pub settled: Vec<(String, u64)>,
    /// Seqs that are given away without an event, by source.
    pub reserved: Vec<(String, u64)>,
    /// Documents by source and kind; without a text they are removed.
    pub documents: Vec<(String, String, Option<Box<RawValue>>)>,
}

/// How far the other node's copy of each source goes: to its newest event, or to before one that has not entered the
/// line as far as it knows. Empty unless asked for.
pub type Heads = BTreeMap<String, u64>;

/// Why the other node has not taken a copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCopied {
    /// It can't be reached, or can't write.
    #[error("{0}")]
    Away(String),
    /// It serves, under this term.
    #[error("the other node serves, under term {0}")]
    Serves(u64),
    /// What it was sent is no copy.
    #[error("{0}")]
    Bad(&'static str),
}

/// The way to the other node.
pub trait Replica: Send + Sync + 'static {
    /// Ok when the other node has made it durable.
    fn send(&self, copy: Copy) -> BoxFuture<'static, Result<Heads, NotCopied>>;
}

/// What a node that shares its work is told.
pub struct Sharing {
    /// The way to the other node, if it has one.
    pub replica: Option<Arc<dyn Replica>>,
    /// Stands by when it starts for the first time.
    pub stands_by: bool,
    /// Takes no event that the other doesn't have.
    pub required: bool,
    /// 1 while the other node has all that is acknowledged.
    pub gauge: IntGauge,
}

/// Which of the two a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Takes events and publishers.
    Serves,
    /// Has a copy, and may take over.
    StandsBy,
    /// Has an old journal, or none, and may not.
    Deposed,
}

/// Which of the two this node is now.
pub struct Standing {
    part: watch::Sender<Part>,
    term: AtomicU64,
    /// When the other node was heard last; at first, when this one began.
    heard: Mutex<Instant>,
}

impl Standing {
    pub(super) fn new(part: Part, term: u64) -> Arc<Self> {
        Arc::new(Self { part: watch::Sender::new(part), term: term.into(), heard: Mutex::new(clock::now()) })
    }

    /// Takes events and publishers: it is alone, or the one of two that serves.
    pub fn serves(&self) -> bool {
        *self.part.borrow() == Part::Serves
    }

    /// Resolves when it does.
    pub async fn comes_to_serve(&self) {
        // The sender lives in `self`.
        let _ = self.part.subscribe().wait_for(|part| *part == Part::Serves).await;
    }

    /// Resolves when it does not, or no longer.
    pub async fn stands_by(&self) {
        let _ = self.part.subscribe().wait_for(|part| *part != Part::Serves).await;
    }

    /// The other node is silent, and this one has what it had.
    pub fn may_take_over(&self) -> bool {
        *self.part.borrow() == Part::StandsBy && self.heard.lock().elapsed() >= limits::STANDBY_SILENCE
    }

    pub(super) fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    pub(super) fn is(&self, part: Part, term: u64) -> bool {
        *self.part.borrow() == part && self.term() == term
    }

    pub(super) fn set(&self, part: Part, term: u64) {
        self.term.store(term, Ordering::Relaxed);
        self.part.send_replace(part);
    }

    pub(super) fn hear(&self) {
        *self.heard.lock() = clock::now();
    }
}

impl Copy {
    /// What is to be written of it. Each event must be signed by one of `keys`, and each document of a kind that this
    /// node knows.
    pub(super) fn into_batch(self, keys: &Keys, kinds: &[&'static str]) -> Result<Batch, NotCopied> {
        let name = |source: String| source.parse::<StreamName>().map_err(|_| NotCopied::Bad("a bad stream name"));
        let mut batch = Batch::default();
        for (pending, json) in self.events {
            let event = Event::from_json(json.get().as_bytes()).map_err(|_| NotCopied::Bad("a bad event"))?;
            keys.verify(&event).map_err(|_| NotCopied::Bad("an event that no known key signed"))?;
            if !pending {
                batch.settled.push((name(event.head.source.clone())?, event.head.seq));
            }
            batch.events.push(Arc::new(event));
        }
        for (source, seq) in self.settled {
            batch.settled.push((name(source)?, seq));
        }
        for (source, seq) in self.reserved {
            batch.reserved.push((name(source)?, seq));
        }
        for (source, kind, json) in self.documents {
            let kind = kinds.iter().find(|known| **known == kind).ok_or(NotCopied::Bad("an unknown document"))?;
            let json = json.map(|json| Bytes::from(json.get().to_owned()));
            batch.documents.push(((name(source)?, kind), json));
        }
        Ok(batch)
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.documents.is_empty() && self.reserved.is_empty() && self.settled.is_empty()
    }

    fn add(&mut self, batch: &Batch) {
        let of = |(source, seq): &(StreamName, u64)| (source.as_str().to_owned(), *seq);
        self.events.extend(batch.events.iter().filter_map(|event| Some((true, raw(&event.json)?))));
        self.reserved.extend(batch.reserved.iter().map(of));
        self.settled.extend(batch.settled.iter().map(of));
        let documents = batch.documents.iter().map(|((source, kind), json)| {
            (source.as_str().to_owned(), (*kind).to_owned(), json.as_deref().and_then(raw))
        });
        self.documents.extend(documents);
    }
}

fn raw(json: &[u8]) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(json.to_vec()).ok()?).ok()
}

/// The writer's side: what it has written goes to the other node before anybody is told.
pub(super) struct Copying {
    replica: Arc<dyn Replica>,
    standing: Arc<Standing>,
    required: bool,
    gauge: IntGauge,
    link: Link,
    /// So many events are sent one by one: there is one among them that the other node refuses.
    one_by_one: usize,
}

/// How the other node is doing.
enum Link {
    /// Not reached; tried again then.
    Away(Instant),
    /// Being asked how far its copy goes.
    Asked(oneshot::Receiver<Result<Heads, NotCopied>>),
    /// It lacks what is behind these seqs.
    Behind(Heads),
    /// It has all.
    Together,
}

impl Copying {
    pub(super) fn new(replica: Arc<dyn Replica>, standing: Arc<Standing>, required: bool, gauge: IntGauge) -> Self {
        Self { replica, standing, required, gauge, link: Link::Away(clock::now()), one_by_one: 0 }
    }

    /// Before a node that served serves again: has the other one taken over? Without an answer it has not, unless
    /// this one must not be alone: then it asks until `is_over`.
    pub(super) async fn begin(&mut self, store: &Store, is_over: impl Fn() -> bool) {
        let term = self.standing.term();
        loop {
            let answered = self.replica.send(Copy { term, hello: true, ..Copy::default() }).await;
            let alone = matches!(answered, Err(NotCopied::Away(_)));
            self.handle_hello(store, answered);
            if self.standing.term() != term || is_over() {
                return;
            }
            if !(alone && self.required) {
                break;
            }
            tracing::warn!("this node waits for its standby, without which it must not serve");
            tokio::time::sleep(limits::STANDBY_RETRY).await;
        }
        if let Err(error) = store.set_part(Part::Serves, term) {
            tracing::error!(%error, "that this node serves is not on disk");
        }
        self.standing.set(Part::Serves, term);
    }

    /// How long to wait for something to write: the other node is to be heard of, or to be given what it lacks.
    pub(super) fn pause(&self) -> Duration {
        match self.link {
            Link::Behind(_) => Duration::from_millis(1),
            _ => HEARTBEAT,
        }
    }

    /// Sees to it that the other node has what was written; gives what those who wait for `results` are told.
    pub(super) async fn follow(
        &mut self,
        store: &Store,
        batches: &[Batch],
        settled: &[(StreamName, u64)],
        results: Vec<Result<(), JournalError>>,
    ) -> Vec<Result<(), JournalError>> {
        if !self.standing.serves() {
            return results;
        }
        self.poll_hello(store);
        if matches!(self.link, Link::Behind(_) | Link::Together) {
            let written = batches.iter().zip(&results).filter(|(_, result)| result.is_ok()).map(|(batch, _)| batch);
            for copy in self.copies(written, settled) {
                let sent = self.replica.send(copy).await;
                let is_over = sent.is_err();
                self.handle_sent(store, sent.map(drop));
                if is_over {
                    break;
                }
            }
        }
        if matches!(self.link, Link::Behind(_)) {
            self.catch_up(store).await;
        }
        let has_it = matches!(self.link, Link::Behind(_) | Link::Together);
        self.gauge.set(i64::from(matches!(self.link, Link::Together)));
        if self.standing.serves() && (has_it || !self.required) {
            return results;
        }
        let why = if has_it { "another node serves" } else { "the standby is away" };
        results.into_iter().map(|result| result.and(Err(JournalError::Storage(why.into())))).collect()
    }

    /// What was written, in pieces that the other node takes. There is one also with nothing in it: it says that this
    /// node lives.
    fn copies<'a>(&self, written: impl Iterator<Item = &'a Batch>, settled: &[(StreamName, u64)]) -> Vec<Copy> {
        let (term, whole) = (self.standing.term(), matches!(self.link, Link::Together));
        let (mut copies, mut bytes) = (Vec::new(), 0);
        let mut copy = Copy { term, whole, ..Copy::default() };
        for batch in written {
            bytes += batch.bytes();
            if bytes > limits::STANDBY_COPY_BYTES && !copy.is_empty() {
                bytes = batch.bytes();
                copies.push(std::mem::replace(&mut copy, Copy { term, whole, ..Copy::default() }));
            }
            copy.add(batch);
        }
        copy.settled.extend(settled.iter().map(|(source, seq)| (source.as_str().to_owned(), *seq)));
        copies.push(copy);
        copies
    }

    /// Asks aside, so that nobody waits for a node that doesn't answer.
    fn poll_hello(&mut self, store: &Store) {
        match &mut self.link {
            Link::Away(retry_at) if *retry_at <= clock::now() => {
                let hello = Copy { term: self.standing.term(), hello: true, ..Copy::default() };
                let asking = self.replica.send(hello);
                let (reply, answered) = oneshot::channel();
                task::spawn("standby", async move { _ = reply.send(asking.await) });
                self.link = Link::Asked(answered);
            }
            Link::Asked(answered) => match answered.try_recv() {
                Ok(answered) => self.handle_hello(store, answered),
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(oneshot::error::TryRecvError::Closed) => self.link = Link::Away(clock::now()),
            },
            _ => {}
        }
    }

    fn handle_hello(&mut self, store: &Store, answered: Result<Heads, NotCopied>) {
        match answered {
            Ok(mut heads) => {
                // Events are not always committed in the order of their seqs.
                heads.values_mut().for_each(|seq| *seq = seq.saturating_sub(limits::STANDBY_OVERLAP));
                tracing::info!("the standby is there; it is given what it lacks");
                self.link = Link::Behind(heads);
            }
            Err(failed) => self.handle_sent(store, Err(failed)),
        }
    }

    fn handle_sent(&mut self, store: &Store, sent: Result<(), NotCopied>) {
        let Err(failed) = sent else { return };
        let was_there = matches!(self.link, Link::Behind(_) | Link::Together);
        self.link = Link::Away(clock::now() + limits::STANDBY_RETRY);
        match failed {
            NotCopied::Serves(term) if term > self.standing.term() => {
                tracing::error!(term, "another node took over: this one stands by until it has a copy");
                if let Err(error) = store.set_part(Part::Deposed, term) {
                    tracing::error!(%error, "that is not on disk");
                }
                self.standing.set(Part::Deposed, term);
            }
            NotCopied::Serves(_) => tracing::error!("the other node serves as well: set stand_by on one of them"),
            failed if was_there => tracing::warn!(reason = %failed, "the standby is away: events are kept here alone"),
            failed => tracing::debug!(reason = %failed, "the standby is away"),
        }
    }

    /// Sends some of what the other node lacks. What it refuses it goes without, or it would never have the rest.
    async fn catch_up(&mut self, store: &Store) {
        let Link::Behind(heads) = &mut self.link else { return };
        let count = if self.one_by_one > 0 { 1 } else { limits::STANDBY_CATCH_UP_MAX };
        let lacking = match store.lacking(heads, count, limits::STANDBY_COPY_BYTES) {
            Ok(lacking) => lacking,
            Err(error) => return tracing::warn!(%error, "the standby is not given what it lacks"),
        };
        let whole = lacking.is_empty();
        let mut copy = Copy { term: self.standing.term(), whole, ..Copy::default() };
        copy.events = lacking.iter().filter_map(|(_, _, pending, json)| Some((*pending, raw(json)?))).collect();
        match (self.replica.send(copy).await, lacking.as_slice()) {
            (Ok(_), _) => {}
            (Err(NotCopied::Bad(reason)), [(source, seq, ..)]) => {
                tracing::error!(stream = %source, seq, reason, "the standby refuses an event, and goes without it");
            }
            (Err(NotCopied::Bad(_)), [_, ..]) => return self.one_by_one = lacking.len(),
            (Err(failed), _) => return self.handle_sent(store, Err(failed)),
        }
        self.one_by_one = self.one_by_one.saturating_sub(1);
        for (source, seq, ..) in &lacking {
            heads.insert(source.as_str().to_owned(), *seq);
        }
        if whole {
            tracing::info!("the standby has all events");
            (self.link, self.one_by_one) = (Link::Together, 0);
        }
    }
}

/// How often the other node hears of this one, at least.
const HEARTBEAT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
