//! The journal's tables in redb, and the transactions over them.
//!
//! The bound counts what the tables hold rather than the file's length: a full journal then refuses before it
//! touches the file, and what only frees room always has room to do so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError,
    TableHandle, WriteTransaction,
};

use super::{DocumentKey, JournalError, Loaded, Record, standby::Part};
use crate::{
    clock::{self, Instant},
    limits,
    media::{Event, StreamName, event::Op},
};

/// (source, seq) to the time of commit, UTC milliseconds, and the canonical JSON.
const EVENTS: TableDefinition<(&str, u64), (i64, &[u8])> = TableDefinition::new("events");
/// (source, id) to seq.
const IDS: TableDefinition<(&str, &str), u64> = TableDefinition::new("ids");
/// (source, seq) of events that have not entered the line.
const PENDING: TableDefinition<(&str, u64), ()> = TableDefinition::new("pending");
/// (source, state key) to the seq of its newest `set` or `delete` that has entered the line.
const KEYS: TableDefinition<(&str, &str), u64> = TableDefinition::new("keys");
/// Source to the highest seq that was ever committed or reserved.
const SEQS: TableDefinition<&str, u64> = TableDefinition::new("seqs");
/// (stream, kind) to a document.
const DOCUMENTS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("documents");
/// (stream, kind) to the time of the document's commit, UTC milliseconds.
const DOCUMENT_TIMES: TableDefinition<(&str, &str), i64> = TableDefinition::new("document_times");
/// [`VERSION`] and [`HELD_BYTES`].
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// Row of [`META`]: the layout of these tables.
const VERSION: (&str, u64) = ("version", 1);
/// Row of [`META`]: what the bound counts.
const HELD_BYTES: &str = "held_bytes";
/// Rows of [`META`] where two nodes share a journal: the highest term known, and which of the two this node is.
const TERM: &str = "term";
const PART: &str = "part";
const PARTS: [(Part, u64); 3] = [(Part::Deposed, 0), (Part::StandsBy, 1), (Part::Serves, 2)];
/// What a row counts for besides its value: its key, its id's row, and their share of pages.
const ROW_BYTES: u64 = 256;

type Result<T, E = redb::Error> = std::result::Result<T, E>;
type Opener = Box<dyn Fn() -> Result<Database> + Send + Sync>;

/// What one caller wants written, all or nothing.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Arc<Event>>,
    pub(super) documents: Vec<(DocumentKey, Option<Bytes>)>,
    pub(super) reserved: Vec<(StreamName, u64)>,
    /// Events that have entered the line, on the node that this is a copy of.
    pub(super) settled: Vec<(StreamName, u64)>,
    /// What this node is from now on, and under which term.
    pub(super) part: Option<(Part, u64)>,
    /// Records to forget.
    pub(super) dropped: Vec<(StreamName, u64)>,
    /// Streams that are over: what documents they have from before that time go.
    pub(super) over: Vec<(StreamName, i64)>,
}

impl Batch {
    /// What it may add at most.
    pub(super) fn bytes(&self) -> u64 {
        let documents = self.documents.iter().filter_map(|(_, json)| json.as_ref());
        let values = self.events.iter().map(|event| &event.json).chain(documents);
        values.map(row_bytes).sum::<u64>() + row_bytes([]) * size(self.reserved.len())
    }

    /// True if there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.documents.is_empty()
            && self.reserved.is_empty()
            && self.settled.is_empty()
            && self.part.is_none()
    }

    /// A cancel takes back what must not fire, and a reservation adds next to nothing: they may use room that
    /// nothing else may.
    fn is_vital(&self) -> bool {
        self.documents.is_empty() && self.events.iter().all(|event| event.head.kind == "cancel")
    }
}

/// What became of a write.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// One for each batch.
    pub(super) results: Vec<Result<(), JournalError>>,
    /// What settled with it.
    pub(super) settled: Vec<(StreamName, u64)>,
}

pub(super) struct Store {
    /// None while it can't be opened again.
    database: RwLock<Option<Database>>,
    open: Opener,
    bytes_max: u64,
    /// Settled when, and not yet written. Each was pending, so it is no larger than what is.
    settled: Mutex<BTreeMap<(StreamName, u64), Instant>>,
}

/// How every journal is opened. A file that something else wrote to is refused rather than trusted.
pub(super) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(limits::JOURNAL_CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

impl Store {
    pub(super) fn open(open: Opener, bytes_max: u64) -> Result<Self, JournalError> {
        let store = Self { database: RwLock::new(None), open, bytes_max, settled: Mutex::default() };
        store.reopen()?;
        Ok(store)
    }

    /// Closes the file, after which redb forgets that I/O failed, and opens it again. That reads all of it, so readers
    /// are refused meanwhile rather than kept waiting.
    pub(super) fn reopen(&self) -> Result<(), JournalError> {
        let failed = self.database.write().take();
        drop(failed);
        let opened = (self.open)()?;
        prepare(&opened)?;
        *self.database.write() = Some(opened);
        Ok(())
    }

    pub(super) fn settle(&self, source: &StreamName, seq: u64) {
        self.settled.lock().insert((source.clone(), seq), clock::now());
    }

    fn settled_of(&self, source: &StreamName) -> BTreeSet<u64> {
        let settled = self.settled.lock();
        let of_source = settled.range((source.clone(), 0)..).take_while(|((name, _), _)| name == source);
        of_source.map(|((_, seq), _)| *seq).collect()
    }

    /// Writes all batches and what had settled by then in one durable transaction. A batch without room is left out.
    pub(super) fn write(&self, batches: &[Batch], settled_by: Instant) -> Result<Written, JournalError> {
        let settled: BTreeSet<_> =
            self.settled.lock().iter().filter(|(_, at)| **at <= settled_by).map(|(key, _)| key.clone()).collect();
        if batches.is_empty() && settled.is_empty() {
            return Ok(Written::default());
        }
        let mut results = Vec::with_capacity(batches.len());
        let guard = self.database.read();
        let transaction = opened(&guard)?.begin_write().map_err(redb::Error::from)?;
        {
            let mut tables = Tables::open(&transaction)?;
            for batch in batches {
                let admitted = tables.held_bytes.saturating_add(batch.bytes()) <= self.bytes_max_for(batch);
                if admitted {
                    tables.write(batch)?;
                }
                results.push(if admitted { Ok(()) } else { Err(JournalError::Full) });
            }
            for (source, seq) in &settled {
                tables.settle(source.as_str(), *seq)?;
            }
            tables.close()?;
        }
        // Without an effect there is nothing to sync; dropping the transaction undoes it.
        if results.iter().any(Result::is_ok) || !settled.is_empty() {
            transaction.commit().map_err(redb::Error::from)?;
        }
        self.settled.lock().retain(|key, _| !settled.contains(key));
        Ok(Written { results, settled: settled.into_iter().collect() })
    }

    /// Which of two nodes this one was last, and the term; `None` where that was never said.
    pub(super) fn part(&self) -> Result<Option<(Part, u64)>, JournalError> {
        self.read(|transaction| {
            let meta = transaction.open_table(META)?;
            let term = meta.get(TERM)?.map_or(0, |term| term.value());
            let number = meta.get(PART)?.map(|part| part.value());
            Ok(PARTS.iter().find(|(_, known)| Some(*known) == number).map(|(part, _)| (*part, term)))
        })
    }

    pub(super) fn set_part(&self, part: Part, term: u64) -> Result<(), JournalError> {
        let batch = Batch { part: Some((part, term)), ..Batch::default() };
        let settled_by = clock::now().checked_sub(limits::JOURNAL_SETTLE_DELAY).unwrap_or_else(clock::now);
        self.write(&[batch], settled_by).map(drop)
    }

    /// The highest seq of each source, or the one before the first that is pending.
    pub(super) fn heads(&self) -> Result<BTreeMap<String, u64>, JournalError> {
        self.read(|transaction| {
            let (events, pending) = (transaction.open_table(EVENTS)?, transaction.open_table(PENDING)?);
            let mut heads = BTreeMap::new();
            for row in transaction.open_table(SEQS)?.iter()? {
                let name = row?.0.value().to_owned();
                // Seqs may be reserved ahead of the events.
                let newest = events.range(all_of(&name))?.next_back().transpose()?;
                let newest = newest.map_or(0, |(key, _)| key.value().1);
                let first = pending.range(all_of(&name))?.next().transpose()?;
                let seq = first.map_or(newest, |(key, _)| key.value().1.saturating_sub(1));
                heads.insert(name, seq);
            }
            Ok(heads)
        })
    }

    /// Some events behind `heads`, oldest first within a source: whether each is pending, and its text. At most `count`
    /// and, but for one, so many bytes.
    pub(super) fn lacking(
        &self,
        heads: &BTreeMap<String, u64>,
        count: usize,
        bytes_max: u64,
    ) -> Result<Vec<(StreamName, u64, bool, Bytes)>, JournalError> {
        let (mut lacking, mut bytes) = (Vec::new(), 0);
        for source in self.sources()? {
            let settled = self.settled_of(&source);
            let name = source.as_str();
            let after = heads.get(name).map_or(0, |seq| seq.saturating_add(1));
            self.read(|transaction| {
                let events = transaction.open_table(EVENTS)?;
                let pending = transaction.open_table(PENDING)?;
                for row in events.range((name, after)..=(name, u64::MAX))?.take(count.saturating_sub(lacking.len())) {
                    let (key, value) = row?;
                    let seq = key.value().1;
                    bytes += row_bytes(value.value().1);
                    if bytes > bytes_max && !lacking.is_empty() {
                        break;
                    }
                    let waits = pending.get((name, seq))?.is_some() && !settled.contains(&seq);
                    lacking.push((source.clone(), seq, waits, Bytes::copy_from_slice(value.value().1)));
                }
                Ok(())
            })?;
        }
        Ok(lacking)
    }

    fn bytes_max_for(&self, batch: &Batch) -> u64 {
        match batch {
            batch if batch.bytes() == 0 => u64::MAX,
            batch if batch.is_vital() => self.bytes_max.saturating_add(limits::JOURNAL_VITAL_BYTES),
            _ => self.bytes_max,
        }
    }

    fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T, JournalError> {
        let guard = self.database.read();
        let transaction = opened(&guard)?.begin_read().map_err(redb::Error::from)?;
        Ok(read(&transaction)?)
    }

    pub(super) fn load(&self, source: &StreamName) -> Result<Loaded, JournalError> {
        let name = source.as_str();
        // Before the transaction: what is written in between is settled in both views.
        let settled = self.settled_of(source);
        self.read(|transaction| {
            let events = transaction.open_table(EVENTS)?;
            let pending = transaction.open_table(PENDING)?;
            let seq = transaction.open_table(SEQS)?.get(name)?.map_or(0, |seq| seq.value());
            let mut rows = BTreeMap::new();
            for row in events.range(all_of(name))?.rev().take(limits::JOURNAL_LOAD_MAX) {
                let (key, value) = row?;
                let seq = key.value().1;
                rows.insert(seq, parse(name, seq, value.value().1));
            }
            let mut older = keyed(transaction, name)?;
            for row in pending.range(all_of(name))? {
                older.insert(row?.0.value().1);
            }
            older.retain(|seq| !rows.contains_key(seq));
            for seq in older {
                let event = events.get((name, seq))?;
                rows.insert(seq, event.and_then(|row| parse(name, seq, row.value().1)));
            }
            let mut records = Vec::with_capacity(rows.len());
            for (seq, event) in rows {
                let Some(event) = event else { continue };
                let pending = pending.get((name, seq))?.is_some() && !settled.contains(&seq);
                records.push(Record { event, pending });
            }
            Ok(Loaded { seq, records })
        })
    }

    pub(super) fn since(
        &self,
        source: &StreamName,
        seq: u64,
        until: u64,
        count: usize,
    ) -> Result<Vec<Bytes>, JournalError> {
        let name = source.as_str();
        if seq >= until {
            return Ok(Vec::new());
        }
        self.read(|transaction| {
            let events = transaction.open_table(EVENTS)?;
            let rows = events.range((name, seq.saturating_add(1))..=(name, until))?.take(count);
            rows.map(|row| Ok(Bytes::copy_from_slice(row?.1.value().1))).collect()
        })
    }

    pub(super) fn find(&self, source: &StreamName, id: &str) -> Result<Option<Record>, JournalError> {
        let name = source.as_str();
        let settled = self.settled_of(source);
        self.read(|transaction| {
            let Some(seq) = transaction.open_table(IDS)?.get((name, id))?.map(|seq| seq.value()) else {
                return Ok(None);
            };
            let event = transaction.open_table(EVENTS)?.get((name, seq))?;
            let pending = transaction.open_table(PENDING)?.get((name, seq))?.is_some() && !settled.contains(&seq);
            Ok(event.and_then(|row| parse(name, seq, row.value().1)).map(|event| Record { event, pending }))
        })
    }

    pub(super) fn document(&self, (stream, kind): &DocumentKey) -> Result<Option<Bytes>, JournalError> {
        self.read(|transaction| {
            let document = transaction.open_table(DOCUMENTS)?.get((stream.as_str(), *kind))?;
            Ok(document.map(|json| Bytes::copy_from_slice(json.value())))
        })
    }

    pub(super) fn sources_pending(&self) -> Result<Vec<StreamName>, JournalError> {
        let mut names = BTreeSet::new();
        self.read(|transaction| {
            for row in transaction.open_table(PENDING)?.iter()? {
                names.extend(row?.0.value().0.parse::<StreamName>());
            }
            Ok(())
        })?;
        names.extend(self.sources()?.into_iter().filter(StreamName::is_global));
        Ok(names.into_iter().collect())
    }

    pub(super) fn sources(&self) -> Result<Vec<StreamName>, JournalError> {
        self.read(|transaction| {
            let mut names = Vec::new();
            for row in transaction.open_table(SEQS)?.iter()? {
                names.extend(row?.0.value().parse::<StreamName>());
            }
            Ok(names)
        })
    }

    /// Up to [`limits::JOURNAL_SWEEP_MAX`] records of `source` that a sweep drops.
    pub(super) fn stale(&self, source: &StreamName, before_ms: i64) -> Result<Vec<(StreamName, u64)>, JournalError> {
        let name = source.as_str();
        let over = self.is_over(source, before_ms)?;
        self.read(|transaction| {
            let events = transaction.open_table(EVENTS)?;
            let pending = transaction.open_table(PENDING)?;
            let state = if over { BTreeSet::new() } else { keyed(transaction, name)? };
            let mut stale = Vec::new();
            for row in events.range(all_of(name))? {
                let (key, value) = row?;
                let (committed_ms, json) = value.value();
                // Seqs are given in the order of time, so nothing further on is older.
                if committed_ms >= before_ms || stale.len() >= limits::JOURNAL_SWEEP_MAX {
                    break;
                }
                let seq = key.value().1;
                // What settled a moment ago has its key's row only once that is written: till then it is pending.
                let waits = pending.get((name, seq))?.is_some();
                let stands = || state.contains(&seq) && parse(name, seq, json).is_some_and(|event| is_set(&event));
                if !waits && !stands() {
                    stale.push((source.clone(), seq));
                }
            }
            Ok(stale)
        })
    }

    /// True if nothing was committed since `before_ms` and nothing waits. Not so of what stands for all rooms: it
    /// has no show that ends.
    pub(super) fn is_over(&self, source: &StreamName, before_ms: i64) -> Result<bool, JournalError> {
        let name = source.as_str();
        self.read(|transaction| {
            let newest = transaction.open_table(EVENTS)?.range(all_of(name))?.next_back().transpose()?;
            let is_old = newest.is_none_or(|(_, value)| value.value().0 < before_ms);
            let waits = transaction.open_table(PENDING)?.range(all_of(name))?.next().is_some();
            Ok(is_old && !waits && !source.is_global())
        })
    }

    /// True if `source` has a document from before `before_ms`.
    pub(super) fn has_old_documents(&self, source: &StreamName, before_ms: i64) -> Result<bool, JournalError> {
        self.read(|transaction| {
            let times = transaction.open_table(DOCUMENT_TIMES)?;
            Ok(!old_documents(&times, source.as_str(), before_ms)?.is_empty())
        })
    }
}

/// True if it is part of the state for now, or until the key's next write.
fn is_set(event: &Event) -> bool {
    let expired = event.head.time.expires_ms.is_some_and(|expires_ms| expires_ms <= clock::unix_ms());
    event.head.op == Op::Set && !expired
}

/// The seqs of the newest write of each key.
fn keyed(transaction: &ReadTransaction, source: &str) -> Result<BTreeSet<u64>> {
    let mut seqs = BTreeSet::new();
    for row in transaction.open_table(KEYS)?.range((source, "")..)? {
        let (key, seq) = row?;
        if key.value().0 != source {
            break;
        }
        seqs.insert(seq.value());
    }
    Ok(seqs)
}

/// The kinds of the documents of `source` from before `before_ms`.
fn old_documents(
    times: &impl ReadableTable<(&'static str, &'static str), i64>,
    source: &str,
    before_ms: i64,
) -> Result<Vec<String>> {
    let mut kinds = Vec::new();
    for row in times.range((source, "")..)? {
        let (key, at_ms) = row?;
        let (stream, kind) = key.value();
        if stream != source {
            break;
        }
        if at_ms.value() < before_ms {
            kinds.push(kind.to_owned());
        }
    }
    Ok(kinds)
}

fn opened(database: &Option<Database>) -> Result<&Database> {
    database.as_ref().ok_or(redb::Error::DatabaseClosed)
}

/// Makes the tables in a new file; refuses a file that has others.
fn prepare(database: &Database) -> Result<(), JournalError> {
    let wrong = |what: &str| Err(JournalError::Storage(what.into()));
    let reading = database.begin_read().map_err(redb::Error::from)?;
    match reading.open_table(META) {
        Ok(meta) => match meta.get(VERSION.0).map_err(redb::Error::from)?.map(|version| version.value()) {
            Some(version) if version == VERSION.1 && has_later_tables(&reading)? => return Ok(()),
            Some(version) if version == VERSION.1 => {}
            _ => return wrong("another version of hawker wrote this journal"),
        },
        Err(TableError::Storage(error)) => return Err(redb::Error::from(error).into()),
        Err(_) if reading.list_tables().map_err(redb::Error::from)?.next().is_none() => {}
        Err(_) => return wrong("this database is no event journal"),
    }
    let transaction = database.begin_write().map_err(redb::Error::from)?;
    {
        let mut tables = Tables::open(&transaction)?;
        tables.meta.insert(VERSION.0, VERSION.1).map_err(redb::Error::from)?;
        tables.close()?;
    }
    transaction.commit().map_err(redb::Error::from)?;
    Ok(())
}

/// A file from before these tables doesn't have them.
fn has_later_tables(transaction: &ReadTransaction) -> Result<bool> {
    let known = [KEYS.name(), DOCUMENT_TIMES.name()];
    Ok(transaction.list_tables()?.filter(|table| known.contains(&table.name())).count() == known.len())
}

struct Tables<'txn> {
    events: Table<'txn, (&'static str, u64), (i64, &'static [u8])>,
    ids: Table<'txn, (&'static str, &'static str), u64>,
    pending: Table<'txn, (&'static str, u64), ()>,
    keys: Table<'txn, (&'static str, &'static str), u64>,
    seqs: Table<'txn, &'static str, u64>,
    documents: Table<'txn, (&'static str, &'static str), &'static [u8]>,
    document_times: Table<'txn, (&'static str, &'static str), i64>,
    meta: Table<'txn, &'static str, u64>,
    held_bytes: u64,
}

impl<'txn> Tables<'txn> {
    fn open(transaction: &'txn WriteTransaction) -> Result<Self> {
        let meta = transaction.open_table(META)?;
        let held_bytes = meta.get(HELD_BYTES)?.map_or(0, |bytes| bytes.value());
        Ok(Self {
            events: transaction.open_table(EVENTS)?,
            ids: transaction.open_table(IDS)?,
            pending: transaction.open_table(PENDING)?,
            keys: transaction.open_table(KEYS)?,
            seqs: transaction.open_table(SEQS)?,
            documents: transaction.open_table(DOCUMENTS)?,
            document_times: transaction.open_table(DOCUMENT_TIMES)?,
            meta,
            held_bytes,
        })
    }

    fn close(mut self) -> Result<()> {
        self.meta.insert(HELD_BYTES, self.held_bytes)?;
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let now_ms = clock::unix_ms();
        for event in &batch.events {
            self.put_event(event, now_ms)?;
        }
        for ((stream, kind), json) in &batch.documents {
            self.put_document((stream.as_str(), kind), json.as_deref(), now_ms)?;
        }
        for (source, seq) in &batch.reserved {
            self.raise_seq(source.as_str(), *seq)?;
        }
        for (source, seq) in &batch.settled {
            self.settle(source.as_str(), *seq)?;
        }
        if let Some((part, term)) = batch.part {
            self.put_part(part, term)?;
        }
        for (source, seq) in &batch.dropped {
            self.drop_event(source.as_str(), *seq)?;
        }
        for (source, before_ms) in &batch.over {
            let source = source.as_str();
            // Something may have come since it was found over.
            if self.events.range(all_of(source))?.next().is_none() {
                for kind in old_documents(&self.document_times, source, *before_ms)? {
                    self.put_document((source, &kind), None, now_ms)?;
                }
            }
        }
        Ok(())
    }

    fn put_part(&mut self, part: Part, term: u64) -> Result<()> {
        self.meta.insert(TERM, term)?;
        let is = |known: &&(Part, u64)| known.0 == part;
        self.meta.insert(PART, PARTS.iter().find(is).map_or(0, |(_, number)| *number))?;
        Ok(())
    }

    fn put_event(&mut self, event: &Event, now_ms: i64) -> Result<()> {
        let (source, seq, id) = (event.head.source.as_str(), event.head.seq, event.head.id.as_str());
        let known = self.ids.get((source, id))?.map(|seq| seq.value());
        let before = self.event_of_id(source, id)?;
        for replaced in known.into_iter().chain([seq]) {
            self.drop_event(source, replaced)?;
        }
        self.events.insert((source, seq), (now_ms, &*event.json))?;
        self.ids.insert((source, id), seq)?;
        self.pending.insert((source, seq), ())?;
        for id in &event.head.supersedes {
            self.supersede(source, id)?;
        }
        // Stamped again, it says of these that they were in time after all.
        let superseded = before.iter().flat_map(|before| &before.head.supersedes);
        for id in superseded.filter(|id| !event.head.supersedes.contains(id)) {
            if let Some(fired) = self.event_of_id(source, id)? {
                self.raise_key(&fired)?;
            }
        }
        self.held_bytes += row_bytes(&event.json);
        self.raise_seq(source, seq)
    }

    fn drop_event(&mut self, source: &str, seq: u64) -> Result<()> {
        let Some(row) = self.events.remove((source, seq))? else { return Ok(()) };
        let json = row.value().1;
        self.held_bytes = self.held_bytes.saturating_sub(row_bytes(json));
        let event = parse(source, seq, json);
        drop(row);
        if let Some(event) = event {
            self.ids.remove((source, event.head.id.as_str()))?;
            self.drop_key(&event, |newest| newest == seq)?;
        }
        self.pending.remove((source, seq))?;
        Ok(())
    }

    /// The event has entered the line, unless it was superseded: then it is no longer pending.
    fn settle(&mut self, source: &str, seq: u64) -> Result<()> {
        if self.pending.remove((source, seq))?.is_none() {
            return Ok(());
        }
        let Some(event) = self.event(source, seq)? else { return Ok(()) };
        let head = &event.head;
        if let Some(id) = event.cancels().filter(|id| !head.supersedes.contains(id))
            && let Some(cancelled) = self.event_of_id(source, &id)?
        {
            // It had fired, so its key goes with it.
            self.drop_key(&cancelled, |newest| newest <= cancelled.head.seq)?;
        }
        self.raise_key(&event)
    }

    fn raise_key(&mut self, event: &Event) -> Result<()> {
        let (head, source) = (&event.head, event.head.source.as_str());
        if let (Some(key), Op::Set | Op::Delete) = (&head.key, head.op)
            && self.keys.get((source, key.as_str()))?.is_none_or(|newest| newest.value() < head.seq)
        {
            self.keys.insert((source, key.as_str()), head.seq)?;
        }
        Ok(())
    }

    /// The event never fires, so it writes no key; in the line it may be, ahead of its time.
    fn supersede(&mut self, source: &str, id: &str) -> Result<()> {
        let Some(event) = self.event_of_id(source, id)? else { return Ok(()) };
        self.pending.remove((source, event.head.seq))?;
        self.drop_key(&event, |newest| newest == event.head.seq)
    }

    fn drop_key(&mut self, event: &Event, is_gone: impl Fn(u64) -> bool) -> Result<()> {
        let Some(key) = &event.head.key else { return Ok(()) };
        let row = (event.head.source.as_str(), key.as_str());
        if self.keys.get(row)?.is_some_and(|newest| is_gone(newest.value())) {
            self.keys.remove(row)?;
        }
        Ok(())
    }

    fn event_of_id(&self, source: &str, id: &str) -> Result<Option<Arc<Event>>> {
        let seq = self.ids.get((source, id))?.map(|seq| seq.value());
        seq.map_or(Ok(None), |seq| self.event(source, seq))
    }

    fn event(&self, source: &str, seq: u64) -> Result<Option<Arc<Event>>> {
        Ok(self.events.get((source, seq))?.and_then(|row| parse(source, seq, row.value().1)))
    }

    fn put_document(&mut self, key: (&str, &str), json: Option<&[u8]>, now_ms: i64) -> Result<()> {
        match json {
            Some(_) => self.document_times.insert(key, now_ms)?,
            None => self.document_times.remove(key)?,
        };
        let old = match json {
            Some(json) => self.documents.insert(key, json)?,
            None => self.documents.remove(key)?,
        };
        let freed = old.map_or(0, |old| row_bytes(old.value()));
        self.held_bytes = (self.held_bytes + json.map_or(0, row_bytes)).saturating_sub(freed);
        Ok(())
    }

    fn raise_seq(&mut self, source: &str, seq: u64) -> Result<()> {
        let highest = self.seqs.get(source)?.map(|highest| highest.value());
        if highest.is_none() {
            self.held_bytes += row_bytes([]);
        }
        if highest.is_none_or(|highest| highest < seq) {
            self.seqs.insert(source, seq)?;
        }
        Ok(())
    }
}

fn all_of(source: &str) -> std::ops::RangeInclusive<(&str, u64)> {
    (source, 0)..=(source, u64::MAX)
}

fn row_bytes(value: impl AsRef<[u8]>) -> u64 {
    size(value.as_ref().len()) + ROW_BYTES
}

fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A record that this version can't read is passed over: one bad row must not keep a room from going on.
fn parse(source: &str, seq: u64, json: &[u8]) -> Option<Arc<Event>> {
    let event = Event::from_json(json);
    event.map(Arc::new).inspect_err(|error| tracing::warn!(source, seq, %error, "unreadable record passed over")).ok()
}
