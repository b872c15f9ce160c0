use std::{fs, path::PathBuf, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;
use prometheus::HistogramOpts;
use proptest::prelude::*;
use redb::StorageBackend;
use serde_json::json;

use super::*;

const ROOM_BYTES: u64 = 1 << 30;

fn room() -> StreamName {
    "acme/live/room".parse().expect("a name")
}

fn id(seq: u64) -> String {
    ulid::Ulid::from_parts(0, seq.into()).to_string()
}

fn event(seq: u64) -> Arc<Event> {
    typed(seq, "gift.send")
}

fn typed(seq: u64, kind: &str) -> Arc<Event> {
    let json = json!({
        "v": 1, "id": id(seq), "source": room().as_str(), "seq": seq, "type": kind, "op": "fire",
        "time": {"mode": "asap"}, "data": {"ref": id(seq)}, "target": {"scope": "room"},
    });
    Arc::new(Event::from_json(json.to_string().as_bytes()).expect("an event"))
}

fn commit_seconds() -> Histogram {
    Histogram::with_opts(HistogramOpts::new("commit_seconds", "x")).expect("legal")
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("events.redb")
    }

    fn open(&self) -> Result<Arc<Journal>, JournalError> {
        Journal::open(&self.file(), ROOM_BYTES, commit_seconds())
    }
}

fn seqs(loaded: &Loaded) -> Vec<(u64, bool)> {
    loaded.records.iter().map(|record| (record.event.head.seq, record.pending)).collect()
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let folder = Folder::new();
    let key = (room(), "rundown");
    let journal = folder.open().expect("a new file");
    journal.commit(vec![event(1), event(2), event(5)], vec![(key.clone(), Some("{}".into()))]).await.expect("room");
    journal.settle(&room(), 1);
    assert_eq!(seqs(&journal.load(&room()).expect("open")), [(1, false), (2, true), (5, true)], "before it is durable");
    drop(journal);

    let journal = folder.open().expect("our file");
    let loaded = journal.load(&room()).expect("open");
    assert_eq!(loaded.seq, 5);
    assert_eq!(seqs(&loaded), [(1, false), (2, true), (5, true)]);
    assert_eq!(loaded.records[2].event, event(5));
    assert_eq!(journal.since(&room(), 1, u64::MAX, 10).expect("open"), [event(2).json.clone(), event(5).json.clone()]);
    assert_eq!(journal.since(&room(), 0, u64::MAX, 1).expect("open"), [event(1).json.clone()]);
    assert_eq!(journal.find(&room(), &id(1)).expect("open"), Some(Record { event: event(1), pending: false }));
    assert_eq!(journal.find(&room(), &id(2)).expect("open"), Some(Record { event: event(2), pending: true }));
    journal.settle(&room(), 2);
    assert_eq!(journal.find(&room(), &id(2)).expect("open"), Some(Record { event: event(2), pending: false }));
    assert_eq!(journal.find(&room(), &id(3)).expect("open"), None);
    assert_eq!(journal.document(&key).expect("open"), Some("{}".into()));
    journal.commit(vec![], vec![(key.clone(), None)]).await.expect("room");
    assert_eq!(journal.document(&key).expect("open"), None);
    let other = "acme/live/room2".parse().expect("a name");
    assert_eq!(journal.load(&other).expect("open"), Loaded::default());
}

#[tokio::test]
async fn a_seq_is_given_once() {
    let folder = Folder::new();
    let journal = folder.open().expect("a new file");
    journal.commit(vec![event(7)], vec![]).await.expect("room");
    journal.reserve(&room(), 5).await.expect("room");
    assert_eq!(journal.load(&room()).expect("open").seq, 7);
    journal.reserve(&room(), 40).await.expect("room");
    journal.settle(&room(), 7);
    drop(journal);
    let journal = folder.open().expect("our file");
    assert_eq!(journal.sweep(i64::MAX).await, Ok(1));
    drop(journal);
    let loaded = folder.open().expect("our file").load(&room()).expect("open");
    assert_eq!((loaded.seq, loaded.records.len()), (40, 0));
}

#[tokio::test]
async fn an_id_and_a_seq_have_one_record() {
    let journal = Journal::in_memory(ROOM_BYTES);
    journal.commit(vec![event(1), typed(1, "host.wave")], vec![]).await.expect("room");
    let stamped_again = event(1).json.to_vec();
    let stamped_again = String::from_utf8(stamped_again).expect("text").replace("\"seq\":1", "\"seq\":2");
    let stamped_again = Arc::new(Event::from_json(stamped_again.as_bytes()).expect("an event"));
    assert_eq!(journal.since(&room(), 0, u64::MAX, 9).expect("open"), [typed(1, "host.wave").json.clone()]);
    journal.commit(vec![stamped_again.clone()], vec![]).await.expect("room");
    assert_eq!(journal.since(&room(), 0, u64::MAX, 9).expect("open"), std::slice::from_ref(&stamped_again.json));
    let found = journal.find(&room(), &id(1)).expect("open").map(|record| record.event);
    assert_eq!(found, Some(stamped_again));
}

#[tokio::test]
async fn who_waits_shares_a_commit() {
    let folder = Folder::new();
    let commits = commit_seconds();
    let journal = Journal::open(&folder.file(), ROOM_BYTES, commits.clone()).expect("a new file");
    let results = join_all((1..=200).map(|seq| journal.commit(vec![event(seq)], vec![]))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(journal.load(&room()).expect("open").records.len(), 200);
    let commits = commits.get_sample_count();
    assert!((1..=20).contains(&commits), "{commits} commits for 200 callers");
}

#[tokio::test]
async fn settled_events_become_durable_by_themselves() {
    let disk = Disk::default();
    let journal = disk.open().expect("a new disk");
    journal.commit(vec![event(1)], vec![]).await.expect("room");
    let synced = disk.0.lock().syncs;
    journal.settle(&room(), 1);
    let settled = async {
        while disk.0.lock().syncs == synced {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), settled).await.expect("written without another commit");
}

#[tokio::test]
async fn a_room_starts_from_its_newest_records_and_all_that_are_pending() {
    let journal = Journal::in_memory(ROOM_BYTES);
    let last = u64::try_from(limits::JOURNAL_LOAD_MAX).expect("small") + 10;
    journal.commit((1..=last).map(event).collect(), vec![]).await.expect("room");
    (1..=last).filter(|seq| *seq != 3 && *seq != last).for_each(|seq| journal.settle(&room(), seq));
    let expected: Vec<_> = [3].into_iter().chain(11..=last).map(|seq| (seq, seq == 3 || seq == last)).collect();
    assert_eq!(seqs(&journal.load(&room()).expect("open")), expected);
    assert_eq!(journal.sources_pending().expect("open"), [room()]);
    let global: StreamName = "acme/_global".parse().expect("a name");
    journal.reserve(&global, 1).await.expect("room");
    (1..=last).for_each(|seq| journal.settle(&room(), seq));
    assert_eq!(journal.sources_pending().expect("open"), [global]);
}

#[test]
fn the_next_process_waits_for_the_journal() {
    let folder = Folder::new();
    assert_eq!(Journal::wait_until_free(&folder.file()), Ok(()), "there is none yet");
    let journal = folder.open().expect("a new file");
    let (file, (done, waiting)) = (folder.file(), std::sync::mpsc::channel());
    let thread = thread::spawn(move || done.send(Journal::wait_until_free(&file)));
    assert!(waiting.recv_timeout(Duration::from_millis(200)).is_err(), "it is open");
    drop(journal);
    assert_eq!(waiting.recv_timeout(Duration::from_secs(5)), Ok(Ok(())));
    thread.join().expect("no panic").expect("received");
    assert!(folder.open().is_ok());
}

#[tokio::test]
async fn a_full_journal_refuses_and_a_sweep_makes_room() {
    let folder = Folder::new();
    let journal = Journal::open(&folder.file(), 64 * 1024, commit_seconds()).expect("a new file");
    let mut last = 0;
    let refused = loop {
        match journal.commit(vec![event(last + 1)], vec![]).await {
            Ok(()) => last += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, JournalError::Full);
    assert!((50..250).contains(&last), "{last} events in 64 KiB");
    assert_eq!(journal.commit(vec![], vec![((room(), "rundown"), Some("{}".into()))]).await, Err(JournalError::Full));
    assert_eq!(journal.find(&room(), &id(last + 1)), Ok(None), "what was refused is not there");
    journal.commit(vec![typed(last + 1, "cancel")], vec![]).await.expect("a cancel has room of its own");

    (1..=last).filter(|seq| *seq != 2).for_each(|seq| journal.settle(&room(), seq));
    drop(journal);
    let journal = Journal::open(&folder.file(), 64 * 1024, commit_seconds()).expect("our file");
    assert_eq!(journal.sweep(0).await, Ok(0), "nothing is that old");
    let swept = journal.sweep(i64::MAX).await.expect("open");
    assert_eq!(u64::try_from(swept), Ok(last - 1), "the two that are pending stay");
    journal.commit(vec![event(last + 2)], vec![]).await.expect("room again");
    drop(journal);
    let loaded = folder.open().expect("our file").load(&room()).expect("open");
    assert_eq!((loaded.seq, loaded.records.len()), (last + 2, 3));
}

/// A write of `key`.
fn write(seq: u64, op: &str, key: &str) -> Arc<Event> {
    changed(seq, json!({"type": "product.pin", "op": op, "key": key}))
}

fn cancel(seq: u64, of: u64, fired: bool) -> Arc<Event> {
    let supersedes = if fired { vec![] } else { vec![id(of)] };
    changed(seq, json!({"type": "cancel", "data": {"ref": id(of)}, "supersedes": supersedes}))
}

fn changed(seq: u64, fields: serde_json::Value) -> Arc<Event> {
    let mut json: serde_json::Value = serde_json::from_slice(&event(seq).json).expect("JSON");
    json.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    Arc::new(Event::from_json(json.to_string().as_bytes()).expect("an event"))
}

#[tokio::test]
async fn state_stays_however_old_it_is() {
    let folder = Folder::new();
    let journal = folder.open().expect("a new file");
    let expired = json!({"type": "product.pin", "op": "set", "key": "d", "time": {"mode": "asap", "expires_ms": 1}});
    let mut events = vec![write(1, "set", "a"), write(2, "set", "b"), write(3, "delete", "b")];
    events.extend([write(4, "set", "c"), write(5, "set", "c"), changed(6, expired)]);
    events.extend([write(7, "set", "e"), cancel(8, 7, true)]);
    events.extend([write(9, "set", "f"), write(10, "set", "f"), cancel(11, 10, false)]);
    let instead = |supersedes: &[String]| changed(13, json!({"supersedes": supersedes}));
    events.extend([write(12, "set", "g"), instead(&[id(12)]), instead(&[])]);
    let last = 14 + u64::try_from(limits::JOURNAL_LOAD_MAX).expect("small");
    journal.commit(events, vec![]).await.expect("room");
    journal.commit((14..=last).map(event).collect(), vec![]).await.expect("room");
    // Those with more lead enter the line first.
    [5, 4].into_iter().chain(1..last).for_each(|seq| journal.settle(&room(), seq));
    drop(journal);

    let journal = folder.open().expect("our file");
    let loaded = seqs(&journal.load(&room()).expect("open"));
    let older: Vec<_> = loaded.iter().map(|(seq, _)| *seq).take_while(|seq| *seq < 14).collect();
    assert_eq!(older, [1, 3, 5, 6, 9, 12], "the newest write of each key");
    journal.sweep(i64::MAX).await.expect("open");
    assert_eq!(
        seqs(&journal.load(&room()).expect("open")),
        [(1, false), (5, false), (9, false), (12, false), (last, true)],
        "what is set, and what is pending"
    );
    journal.commit(vec![write(last + 1, "set", "a")], vec![]).await.expect("room");
    assert_eq!(seqs(&journal.load(&room()).expect("open"))[0], (1, false), "until the next has entered the line");
}

#[tokio::test]
async fn a_room_that_is_over_leaves_nothing() {
    let journal = Journal::in_memory(ROOM_BYTES);
    let key = (room(), "rundown");
    let commit = async |seq| {
        journal.commit(vec![write(seq, "set", "a")], vec![(key.clone(), Some("{}".into()))]).await.expect("room");
    };
    commit(1).await;
    assert_eq!(journal.sweep(i64::MAX).await, Ok(0));
    assert!(journal.document(&key).expect("open").is_some(), "something is pending");
    journal.settle(&room(), 1);
    assert_eq!(journal.sweep(clock::unix_ms() - 60_000).await, Ok(0));
    assert!(journal.document(&key).expect("open").is_some(), "not long enough ago");
    assert_eq!(journal.sweep(i64::MAX).await, Ok(1));
    assert_eq!(journal.load(&room()).expect("open"), Loaded { seq: 1, records: vec![] });
    assert_eq!(journal.document(&key).expect("open"), None);
    commit(2).await;
    assert_eq!(seqs(&journal.load(&room()).expect("open")), [(2, true)], "and may begin again");
}

#[tokio::test]
async fn a_file_from_before_the_later_tables_opens() {
    let folder = Folder::new();
    let journal = folder.open().expect("a new file");
    journal.commit(vec![event(1)], vec![]).await.expect("room");
    drop(journal);
    let file = redb::Database::open(folder.file()).expect("our file");
    let transaction = file.begin_write().expect("begun");
    for later in ["keys", "document_times"] {
        let table = redb::TableDefinition::<(&str, &str), u64>::new(later);
        assert!(transaction.delete_table(table).expect("deleted"));
    }
    transaction.commit().expect("committed");
    drop(file);
    let journal = folder.open().expect("our file");
    journal.commit(vec![write(2, "set", "a")], vec![]).await.expect("room");
    assert_eq!(seqs(&journal.load(&room()).expect("open")), [(1, true), (2, true)]);
}

#[test]
fn who_reads_while_the_file_is_opened_again_is_told_so_at_once() {
    let slow = Arc::new(Mutex::new(()));
    let open = {
        let slow = slow.clone();
        move || {
            let _wait = slow.lock();
            Ok(store::builder().create_with_backend(redb::backends::InMemoryBackend::new())?)
        }
    };
    let store = Arc::new(Store::open(Box::new(open), ROOM_BYTES).expect("memory"));
    let opening = slow.lock();
    let reopened = thread::spawn({
        let store = store.clone();
        move || store.reopen()
    });
    let (answer, answered) = std::sync::mpsc::channel();
    thread::spawn({
        let store = store.clone();
        move || {
            while store.find(&room(), &id(1)).is_ok() {
                thread::yield_now();
            }
            answer.send(())
        }
    });
    answered.recv_timeout(Duration::from_secs(10)).expect("an error, not a wait");
    drop(opening);
    reopened.join().expect("no panic").expect("opened");
    assert_eq!(store.find(&room(), &id(1)), Ok(None));
}

#[tokio::test]
async fn a_full_disk_refuses_until_there_is_room() {
    let disk = Disk::default();
    let journal = disk.open().expect("a new disk");
    journal.commit(vec![event(1)], vec![]).await.expect("room");
    disk.0.lock().full = true;
    assert_eq!(journal.commit(vec![event(2)], vec![]).await, Err(JournalError::Full));
    assert_eq!(journal.commit(vec![event(3)], vec![]).await, Err(JournalError::Full));
    disk.0.lock().full = false;
    let works = async {
        while journal.commit(vec![event(4)], vec![]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), works).await.expect("works again");
    for seq in [1, 4] {
        assert_eq!(journal.find(&room(), &id(seq)), Ok(Some(Record { event: event(seq), pending: true })));
    }
}

#[tokio::test]
async fn a_file_that_is_no_journal_is_refused_by_name() {
    let folder = Folder::new();
    let refused = || match folder.open() {
        Err(JournalError::Storage(why)) => assert!(why.contains("events.redb"), "{why}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    };
    fs::write(folder.file(), "listen = \"0.0.0.0:1935\"\n".repeat(1000)).expect("written");
    refused();
    fs::remove_file(folder.file()).expect("removed");
    let foreign = redb::Database::create(folder.file()).expect("created");
    let transaction = foreign.begin_write().expect("begun");
    transaction.open_table(redb::TableDefinition::<&str, u64>::new("theirs")).expect("made");
    transaction.commit().expect("committed");
    drop(foreign);
    refused();
    fs::remove_file(folder.file()).expect("removed");
    drop(folder.open().expect("a new file"));
    assert!(matches!(Journal::open(folder.0.path(), ROOM_BYTES, commit_seconds()), Err(JournalError::Storage(_))));
    let open = folder.open().expect("our file");
    refused();
    drop(open);
}

/// Blocks until `future` is done.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_acknowledged_survives_a_power_cut(operations in 0..400_u64, kept in any::<u64>()) {
        let disk = Disk::default();
        let journal = disk.open().expect("a new disk");
        disk.0.lock().operations_left = Some(operations);
        let acknowledged = block_on(async {
            let mut acknowledged = Vec::new();
            for seq in 1..=60 {
                let Ok(()) = journal.commit(vec![event(seq)], vec![]).await else { break };
                acknowledged.push(seq);
                if seq % 3 == 0 {
                    journal.settle(&room(), seq);
                }
            }
            acknowledged
        });
        drop(journal);
        disk.cut_power(kept);
        let loaded = disk.open().expect("recovered").load(&room()).expect("open");
        let found: Vec<_> = loaded.records.iter().map(|record| record.event.head.seq).collect();
        prop_assert!(found.starts_with(&acknowledged), "{acknowledged:?} were acknowledged, {found:?} found");
        prop_assert!(found.len() <= acknowledged.len() + 1, "{found:?}");
        prop_assert!(loaded.seq >= found.last().copied().unwrap_or(0));
    }

    #[test]
    fn a_damaged_file_never_panics(
        length in prop::option::of(0.0..1.0_f64),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
    ) {
        let folder = Folder::new();
        let journal = folder.open().expect("a new file");
        block_on(journal.commit((1..=50).map(event).collect(), vec![])).expect("room");
        drop(journal);
        let mut bytes = fs::read(folder.file()).expect("read");
        // The file is mostly free pages; damage is where something is.
        let written: Vec<_> = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
        for (at, value) in flips {
            bytes[written[at.index(written.len())]] ^= value;
        }
        bytes.truncate((bytes.len() as f64 * length.unwrap_or(1.0)) as usize);
        fs::write(folder.file(), bytes).expect("written");
        if let Ok(journal) = folder.open() {
            let _ = (journal.load(&room()), journal.since(&room(), 0, u64::MAX, 100), journal.sources_pending());
        }
    }
}

/// A disk whose power can be cut, and that can be full.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Debug, Default)]
struct DiskState {
    /// As read back while the power is on.
    bytes: Vec<u8>,
    /// As of the last sync.
    synced: Vec<u8>,
    unsynced: Vec<Operation>,
    operations_left: Option<u64>,
    full: bool,
    syncs: u64,
}

#[derive(Debug)]
enum Operation {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl Operation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write(at, data) => {
                if let Some(place) = bytes.get_mut(*at..*at + data.len()) {
                    place.copy_from_slice(data);
                }
            }
        }
    }
}

impl Disk {
    fn open(&self) -> Result<Arc<Journal>, JournalError> {
        let disk = self.clone();
        let open = move || Ok(store::builder().create_with_backend(disk.clone())?);
        Journal::start(Store::open(Box::new(open), ROOM_BYTES)?, commit_seconds(), None)
    }

    /// Of what was not synced only the writes at the set bits of `kept` have reached the disk.
    fn cut_power(&self, kept: u64) {
        let mut state = self.0.lock();
        let mut bytes = std::mem::take(&mut state.synced);
        for (i, operation) in std::mem::take(&mut state.unsynced).iter().enumerate() {
            if matches!(operation, Operation::Length(_)) || kept >> (i % 64) & 1 == 1 {
                operation.apply(&mut bytes);
            }
        }
        *state = DiskState { synced: bytes.clone(), bytes, ..DiskState::default() };
    }

    fn change(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.0.lock();
        state.take_operation()?;
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        operation.apply(&mut state.bytes);
        state.unsynced.push(operation);
        Ok(())
    }
}

impl DiskState {
    fn take_operation(&mut self) -> io::Result<()> {
        match &mut self.operations_left {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).expect("small");
        let state = self.0.lock();
        let data = state.bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(data);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(Operation::Length(usize::try_from(length).expect("small")))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.take_operation()?;
        state.syncs += 1;
        let operations = std::mem::take(&mut state.unsynced);
        operations.iter().for_each(|operation| operation.apply(&mut state.synced));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Operation::Write(usize::try_from(offset).expect("small"), data.to_vec()))
    }
}
