//! The origin's durable log of events.
//!
//! One thread writes. Whatever waits when it comes round shares one transaction, so one `fsync`; who waits is
//! answered after it. Readers see the last commit and never wait for the next. A failed disk fails the writers of
//! that moment only: the file is opened again until it works.

mod standby;
mod store;

use std::{
    fmt,
    fs::File,
    io,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use prometheus::Histogram;
use tokio::sync::{mpsc, oneshot};

pub use self::standby::{Copy, Heads, NotCopied, Replica, Sharing, Standing};
use self::{
    standby::{Copying, Part},
    store::{Batch, Store, Written},
};
use crate::{
    clock::{self, Instant},
    limits,
    media::{Event, Keys, StreamName},
    secret,
};

/// Names a small JSON document: its stream and what it is.
pub type DocumentKey = (StreamName, &'static str);

/// Why the journal didn't take or give something. What failed may still turn up after a restart, so a caller that
/// tries again gives the same id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Its bound is reached, or the disk is full.
    #[error("the event journal is full")]
    Full,
    /// The node is stopping.
    #[error("the event journal is closed")]
    Closed,
    /// The disk or the file failed.
    #[error("event journal: {0}")]
    Storage(String),
}

impl From<redb::Error> for JournalError {
    fn from(error: redb::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match error {
            redb::Error::Io(error) if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) => Self::Full,
            other => Self::Storage(other.to_string()),
        }
    }
}

/// An event as the journal has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The event.
    pub event: Arc<Event>,
    /// Not in the line yet, as far as the journal knows.
    pub pending: bool,
}

/// What a room needs to go on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// The highest seq ever committed or reserved.
    pub seq: u64,
    /// The newest write of each state key, all that are pending and the newest [`limits::JOURNAL_LOAD_MAX`], oldest
    /// first.
    pub records: Vec<Record>,
}

/// The origin's durable log of events; see the module.
pub struct Journal {
    store: Arc<Store>,
    /// None in memory, where there is no disk to wait for.
    writer: Option<Writer>,
    standing: Arc<Standing>,
}

struct Writer {
    queue: mpsc::Sender<Work>,
    thread: JoinHandle<()>,
}

struct Work {
    batch: Batch,
    done: oneshot::Sender<Result<(), JournalError>>,
}

impl Journal {
    /// Opens the journal in `file`, or begins one there. `bytes_max` bounds the events and documents it holds; the
    /// file may be twice as long. `commit_seconds` is told how long each commit took.
    pub fn open(file: &Path, bytes_max: u64, commit_seconds: Histogram) -> Result<Arc<Self>, JournalError> {
        Self::open_shared(file, bytes_max, commit_seconds, None)
    }

    /// The same for one of two nodes, each of which has a journal.
    pub fn open_shared(
        file: &Path,
        bytes_max: u64,
        commit_seconds: Histogram,
        sharing: Option<Sharing>,
    ) -> Result<Arc<Self>, JournalError> {
        let path = file.to_owned();
        let open = move || Ok(store::builder().create(&path)?);
        let named = |error: &dyn fmt::Display| JournalError::Storage(format!("{}: {error}", file.display()));
        let store = Store::open(Box::new(open), bytes_max).map_err(|error| named(&error))?;
        secret::sync_folder_of(file).map_err(|error| named(&error))?;
        Self::start(store, commit_seconds, sharing)
    }

    /// Waits until no process has the journal in `file` open.
    pub fn wait_until_free(file: &Path) -> Result<(), JournalError> {
        let failed = |error: io::Error| JournalError::Storage(format!("{}: {error}", file.display()));
        match File::open(file) {
            // The lock that redb takes.
            Ok(file) => file.lock().map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// A journal that is gone with the process: for tests, and for nodes told to keep nothing.
    pub fn in_memory(bytes_max: u64) -> Arc<Self> {
        let open = || Ok(store::builder().create_with_backend(redb::backends::InMemoryBackend::new())?);
        let store = Store::open(Box::new(open), bytes_max).expect("invariant: memory has no I/O to fail");
        Arc::new(Self { store: Arc::new(store), writer: None, standing: Standing::new(Part::Serves, 1) })
    }

    fn start(store: Store, commit_seconds: Histogram, sharing: Option<Sharing>) -> Result<Arc<Self>, JournalError> {
        let stands_by = sharing.as_ref().is_some_and(|sharing| sharing.stands_by);
        let first = if stands_by { (Part::StandsBy, 0) } else { (Part::Serves, 1) };
        let (part, term) = match &sharing {
            Some(_) => store.part()?.unwrap_or(first),
            None => first,
        };
        let copying = sharing.and_then(|sharing| Some((sharing.replica?, sharing.required, sharing.gauge)));
        // Who has another to ask serves only after he has.
        let begins = part == Part::Serves && copying.is_some();
        let standing = Standing::new(if begins { Part::Deposed } else { part }, term);
        let copying =
            copying.map(|(replica, required, gauge)| Copying::new(replica, standing.clone(), required, gauge));
        let store = Arc::new(store);
        let (queue, waiting) = mpsc::channel(limits::JOURNAL_QUEUE_MAX);
        let failed = |error: io::Error| JournalError::Storage(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let writing = Writing { store: store.clone(), commit_seconds, failed: None, copying, begins };
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || runtime.block_on(writing.run(waiting)))
            .map_err(failed)?;
        Ok(Arc::new(Self { store, writer: Some(Writer { queue, thread }), standing }))
    }

    /// Writes all of it or nothing; durable when it returns `Ok`. The events are pending until [`Self::settle`]; an
    /// event with the source and seq, or the id, of an earlier one replaces it. `None` removes a document.
    pub async fn commit(
        &self,
        events: Vec<Arc<Event>>,
        documents: Vec<(DocumentKey, Option<Bytes>)>,
    ) -> Result<(), JournalError> {
        self.submit_own(Batch { events, documents, ..Batch::default() }).await
    }

    /// The event has entered the line, so it need not fire again after a restart. Becomes durable when
    /// [`limits::JOURNAL_SETTLE_DELAY`] has passed: until then it may be on its way to the edges.
    pub fn settle(&self, source: &StreamName, seq: u64) {
        self.store.settle(source, seq);
        if self.writer.is_none() {
            // Memory doesn't fail; if it did, the event would stay with those to settle.
            let _ = self.store.write(&[], clock::now());
        }
    }

    /// Which of two nodes this one is.
    pub fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Takes what the other node wrote; durable when it returns `Ok`. Who serves takes none from an older term, or
    /// his own. Documents are taken of these kinds.
    pub async fn import(&self, copy: Copy, keys: &Keys, kinds: &[&'static str]) -> Result<Heads, NotCopied> {
        let (term, hello) = (copy.term, copy.hello);
        if term == u64::MAX {
            return Err(NotCopied::Bad("a term that none can follow"));
        }
        let part = if copy.whole { Part::StandsBy } else { Part::Deposed };
        let known = self.standing.term();
        if term < known || self.standing.serves() && term == known {
            return Err(NotCopied::Serves(known));
        }
        let mut batch = copy.into_batch(keys, kinds)?;
        self.standing.hear();
        let away = |error: JournalError| NotCopied::Away(error.to_string());
        if !self.standing.is(part, term) {
            batch.part = Some((part, term));
            self.standing.set(Part::Deposed, term);
        }
        let becomes = batch.part;
        if !batch.is_empty() {
            self.submit(batch).await.map_err(away)?;
        }
        if let Some((part, term)) = becomes {
            self.standing.set(part, term);
        }
        if hello { self.store.heads().map_err(away) } else { Ok(Heads::new()) }
    }

    /// This node serves from now on, under a term of its own, if the other one is silent. False if it isn't, or has
    /// what this one lacks.
    pub async fn take_over(&self) -> Result<bool, JournalError> {
        if !self.standing.may_take_over() {
            return Ok(self.standing.serves());
        }
        let term = self.standing.term() + 1;
        self.submit(Batch { part: Some((Part::Serves, term)), ..Batch::default() }).await?;
        self.standing.set(Part::Serves, term);
        tracing::warn!(term, "the other node is silent: this one takes over");
        Ok(true)
    }

    /// No seq up to `seq` will be given out again, after any restart.
    pub async fn reserve(&self, source: &StreamName, seq: u64) -> Result<(), JournalError> {
        self.submit_own(Batch { reserved: vec![(source.clone(), seq)], ..Batch::default() }).await
    }

    /// What the room of `source` needs to go on.
    pub fn load(&self, source: &StreamName) -> Result<Loaded, JournalError> {
        self.store.load(source)
    }

    /// The log after `seq` and up to `until`, oldest first, at most `count`: canonical JSON.
    pub fn since(&self, source: &StreamName, seq: u64, until: u64, count: usize) -> Result<Vec<Bytes>, JournalError> {
        self.store.since(source, seq, until, count)
    }

    /// The event with that id.
    pub fn find(&self, source: &StreamName, id: &str) -> Result<Option<Record>, JournalError> {
        self.store.find(source, id)
    }

    /// A document as last committed.
    pub fn document(&self, key: &DocumentKey) -> Result<Option<Bytes>, JournalError> {
        self.store.document(key)
    }

    /// The sources with pending events, and every `org/_global`: what there is to take up at start.
    pub fn sources_pending(&self) -> Result<Vec<StreamName>, JournalError> {
        self.store.sources_pending()
    }

    /// Drops what was committed before `before_ms`, UTC, and is neither pending nor a room's state. A room that
    /// nothing was committed for since then is over: its state goes too, and its documents. Gives how many records.
    pub async fn sweep(&self, before_ms: i64) -> Result<usize, JournalError> {
        let (mut swept, mut dropped, mut over) = (0, Vec::new(), Vec::new());
        for source in self.store.sources()? {
            loop {
                let stale = self.store.stale(&source, before_ms)?;
                let more = stale.len() >= limits::JOURNAL_SWEEP_MAX;
                dropped.extend(stale);
                if dropped.len() >= limits::JOURNAL_SWEEP_MAX {
                    swept += dropped.len();
                    self.forget(std::mem::take(&mut dropped), Vec::new()).await?;
                }
                // Reading doesn't wait, so without this a long sweep would hold its thread.
                tokio::task::yield_now().await;
                if !more {
                    break;
                }
            }
            if self.store.is_over(&source, before_ms)? && self.store.has_old_documents(&source, before_ms)? {
                over.push((source, before_ms));
            }
        }
        swept += dropped.len();
        self.forget(dropped, over).await?;
        Ok(swept)
    }

    async fn forget(&self, dropped: Vec<(StreamName, u64)>, over: Vec<(StreamName, i64)>) -> Result<(), JournalError> {
        if dropped.is_empty() && over.is_empty() {
            return Ok(());
        }
        self.submit(Batch { dropped, over, ..Batch::default() }).await
    }

    /// What this node says itself. Another one may have deposed it while it was written.
    async fn submit_own(&self, batch: Batch) -> Result<(), JournalError> {
        self.submit(batch).await?;
        if self.standing.serves() { Ok(()) } else { Err(JournalError::Storage("another node serves".into())) }
    }

    async fn submit(&self, batch: Batch) -> Result<(), JournalError> {
        let Some(writer) = &self.writer else {
            let mut written = self.store.write(&[batch], clock::now())?;
            return written.results.pop().unwrap_or(Err(JournalError::Closed));
        };
        let (done, answer) = oneshot::channel();
        writer.queue.send(Work { batch, done }).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }
}

impl Drop for Journal {
    /// Returns when everything is written and the file is free.
    fn drop(&mut self) {
        if let Some(Writer { queue, thread }) = self.writer.take() {
            drop(queue);
            // It panicked, or is done: the file is closed either way.
            let _ = thread.join();
        }
    }
}

/// The writer thread.
struct Writing {
    store: Arc<Store>,
    commit_seconds: Histogram,
    /// The last write failed, and when: redb then wants its file opened again.
    failed: Option<(JournalError, Instant)>,
    /// The way to the other of two nodes.
    copying: Option<Copying>,
    /// It is asked before this one serves.
    begins: bool,
}

impl Writing {
    async fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        if let Some(copying) = self.copying.as_mut().filter(|_| self.begins) {
            copying.begin(&self.store, || queue.is_closed()).await;
        }
        let mut open = true;
        while open {
            let mut works = Vec::new();
            let pause = self.copying.as_ref().map_or(limits::JOURNAL_SETTLE_DELAY, Copying::pause);
            let wait = queue.recv_many(&mut works, limits::JOURNAL_QUEUE_MAX);
            // In time or not: what settled long enough ago is written now; at the end, all of it.
            open = tokio::time::timeout(pause, wait).await != Ok(0);
            let now = clock::now();
            let settled_by = if open { now.checked_sub(limits::JOURNAL_SETTLE_DELAY).unwrap_or(now) } else { now };
            let (batches, waiting): (Vec<_>, Vec<_>) = works.into_iter().map(|work| (work.batch, work.done)).unzip();
            let written = self.write(&batches, settled_by);
            let Written { mut results, settled } = written
                .unwrap_or_else(|error| Written { results: vec![Err(error); batches.len()], settled: Vec::new() });
            if let Some(copying) = &mut self.copying {
                results = copying.follow(&self.store, &batches, &settled, results).await;
            }
            for (done, result) in waiting.into_iter().zip(results) {
                // Who gave up waiting is not told.
                let _ = done.send(result);
            }
        }
    }

    fn write(&mut self, batches: &[Batch], settled_by: Instant) -> Result<Written, JournalError> {
        if let Some((error, at)) = &self.failed
            && at.elapsed() < limits::JOURNAL_RETRY_DELAY
        {
            return Err(error.clone());
        }
        let start = clock::now();
        let reopened = if self.failed.is_some() { self.store.reopen() } else { Ok(()) };
        let written = reopened.and_then(|()| self.store.write(batches, settled_by));
        match &written {
            Ok(written) if written.results.iter().any(Result::is_ok) => {
                self.commit_seconds.observe(start.elapsed().as_secs_f64());
            }
            Ok(_) => {}
            Err(error) if self.failed.is_none() => tracing::error!(%error, "journal failed; events are refused"),
            Err(_) => {}
        }
        if written.is_ok() && self.failed.is_some() {
            tracing::info!("journal works again");
        }
        self.failed = written.as_ref().err().map(|error| (error.clone(), clock::now()));
        written
    }
}

#[cfg(test)]
mod tests;
