use std::sync::Weak;

use futures_util::FutureExt;
use prometheus::{Histogram, HistogramOpts};
use serde_json::{Value, json};

use super::*;
use crate::{hub::Journal, media::Signer};

fn signer() -> Signer {
    Signer::from_seed(&[3; 32])
}

fn keys() -> Keys {
    Keys::from(signer().public())
}

fn room() -> StreamName {
    "live/room".parse().expect("a name")
}

fn signed_by(signer: &Signer, seq: u64) -> Arc<Event> {
    let event = json!({
        "v": 1, "id": ulid::Ulid::from_parts(0, seq.into()).to_string(), "source": "live/room", "seq": seq,
        "type": "card.show", "op": "set", "key": format!("card:{seq}"), "time": {"mode": "asap", "wall_ms": 1},
        "data": {"sku": "SKU"}, "target": {"scope": "room"},
    });
    let Value::Object(event) = event else { unreachable!() };
    Arc::new(signer.sign(event).expect("an event"))
}

fn event(seq: u64) -> Arc<Event> {
    signed_by(&signer(), seq)
}

/// The way to another node's journal in this process.
struct Wire {
    to: Mutex<Weak<Journal>>,
    is_cut: Mutex<bool>,
    /// Then it is cut as well.
    copies_left: Mutex<usize>,
}

impl Default for Wire {
    fn default() -> Self {
        Self { to: Mutex::default(), is_cut: Mutex::default(), copies_left: Mutex::new(usize::MAX) }
    }
}

impl Replica for Arc<Wire> {
    fn send(&self, copy: Copy) -> BoxFuture<'static, Result<Heads, NotCopied>> {
        let mut left = self.copies_left.lock();
        let to = self.to.lock().upgrade().filter(|_| !*self.is_cut.lock() && *left > 0);
        *left = left.saturating_sub(usize::from(to.is_some()));
        // As it goes over the network.
        let text = serde_json::to_string(&copy).expect("plain data");
        async move {
            let to = to.ok_or_else(|| NotCopied::Away("cut".into()))?;
            to.import(serde_json::from_str(&text).expect("a copy"), &keys(), &["rundown"]).await
        }
        .boxed()
    }
}

struct Node {
    _dir: tempfile::TempDir,
    journal: Arc<Journal>,
    gauge: IntGauge,
    wire: Arc<Wire>,
}

fn node(stands_by: bool, required: bool) -> Node {
    let dir = tempfile::tempdir().expect("a directory");
    let (wire, gauge) = (Arc::<Wire>::default(), IntGauge::new("standby", "x").expect("legal"));
    *wire.is_cut.lock() = required;
    let replica: Option<Arc<dyn Replica>> = Some(Arc::new(wire.clone()));
    let sharing = Sharing { replica, stands_by, required, gauge: gauge.clone() };
    let seconds = Histogram::with_opts(HistogramOpts::new("commit_seconds", "x")).expect("legal");
    let file = dir.path().join("events.redb");
    let journal = Journal::open_shared(&file, 1 << 30, seconds, Some(sharing)).expect("a new file");
    Node { _dir: dir, journal, gauge, wire }
}

/// The first serves, the second stands by.
async fn pair() -> (Node, Node) {
    let (first, second) = (node(false, false), node(true, false));
    *first.wire.to.lock() = Arc::downgrade(&second.journal);
    *second.wire.to.lock() = Arc::downgrade(&first.journal);
    first.journal.standing().comes_to_serve().await;
    until(|| first.gauge.get() == 1).await;
    (first, second)
}

async fn until(is_so: impl Fn() -> bool) {
    let soon = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), soon).await.expect("soon");
}

fn seqs(node: &Node) -> Vec<(u64, bool)> {
    let loaded = node.journal.load(&room()).expect("open");
    loaded.records.iter().map(|record| (record.event.head.seq, record.pending)).collect()
}

#[tokio::test]
async fn what_is_acknowledged_is_on_both_and_what_entered_the_line_does_so_once() {
    let (first, second) = pair().await;
    first.journal.commit(vec![event(1), event(2)], vec![]).await.expect("room");
    assert_eq!(seqs(&second), [(1, true), (2, true)]);
    let rundown = (room(), "rundown");
    first.journal.commit(vec![], vec![(rundown.clone(), Some("{}".into()))]).await.expect("room");
    assert_eq!(second.journal.document(&rundown).expect("open"), Some("{}".into()));
    first.journal.reserve(&room(), 40).await.expect("room");
    assert_eq!(second.journal.load(&room()).expect("open").seq, 40);
    first.journal.settle(&room(), 1);
    until(|| seqs(&second) == [(1, false), (2, true)]).await;
}

#[tokio::test]
async fn who_was_away_is_given_what_it_lacks() {
    let (first, second) = pair().await;
    first.journal.commit((1..1500).map(event).collect(), vec![]).await.expect("room");
    *first.wire.is_cut.lock() = true;
    first.journal.commit(vec![event(1500)], vec![]).await.expect("alone");
    assert_eq!((first.gauge.get(), seqs(&second).len()), (0, 1499));
    first.journal.commit((1501..2000).map(event).collect(), vec![]).await.expect("alone");
    for seq in [1, 2, 1500] {
        first.journal.settle(&room(), seq);
    }
    // Until that is on disk, and forgotten by who told of it.
    tokio::time::sleep(limits::JOURNAL_SETTLE_DELAY * 2).await;
    *first.wire.is_cut.lock() = false;
    until(|| first.gauge.get() == 1).await;
    assert_eq!(seqs(&second), seqs(&first));
    assert_eq!(seqs(&second).iter().filter(|(_, pending)| *pending).count(), 1996);
}

#[tokio::test]
async fn an_event_that_the_standby_refuses_holds_up_no_other() {
    let (first, second) = pair().await;
    *first.wire.is_cut.lock() = true;
    let of_a_dropped_key = signed_by(&Signer::from_seed(&[4; 32]), 20);
    first.journal.commit((1..20).map(event).chain([of_a_dropped_key]).collect(), vec![]).await.expect("alone");
    first.journal.commit((21..600).map(event).collect(), vec![]).await.expect("alone");
    *first.wire.is_cut.lock() = false;
    until(|| first.gauge.get() == 1).await;
    let copied: Vec<_> = seqs(&second).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(copied, (1..600).filter(|seq| *seq != 20).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_lacks_some_of_it_does_not_take_over() {
    let (first, second) = (node(false, false), node(true, false));
    first.journal.standing().comes_to_serve().await;
    first.journal.commit((1..2000).map(event).collect(), vec![]).await.expect("alone");
    *first.wire.copies_left.lock() = 3;
    *first.wire.to.lock() = Arc::downgrade(&second.journal);
    until(|| *first.wire.copies_left.lock() == 0 && !seqs(&second).is_empty()).await;
    assert!((1..1999).contains(&seqs(&second).len()), "some of it came, and then the first died");
    tokio::time::sleep(limits::STANDBY_SILENCE).await;
    assert!(!second.journal.standing().may_take_over());
    assert_eq!(second.journal.take_over().await, Ok(false));
    *first.wire.copies_left.lock() = usize::MAX;
    until(|| first.gauge.get() == 1).await;
    *first.wire.is_cut.lock() = true;
    until(|| second.journal.standing().may_take_over()).await;
    assert_eq!(seqs(&second).len(), 1999);
}

#[tokio::test]
async fn who_takes_over_is_the_one_and_the_old_one_has_to_learn() {
    let (first, second) = pair().await;
    first.journal.commit(vec![event(1)], vec![]).await.expect("room");
    assert_eq!(second.journal.take_over().await, Ok(false), "the first was heard");
    *first.wire.is_cut.lock() = true;
    *second.wire.is_cut.lock() = true;
    until(|| second.journal.standing().may_take_over()).await;
    assert_eq!(second.journal.take_over().await, Ok(true));
    first.journal.commit(vec![event(2)], vec![]).await.expect("it goes on alone");
    second.journal.commit(vec![event(3)], vec![]).await.expect("so does this");

    *first.wire.is_cut.lock() = false;
    first.journal.standing().stands_by().await;
    let refused = first.journal.commit(vec![event(4)], vec![]).await;
    assert!(!first.journal.standing().may_take_over(), "its journal is older: {refused:?}");
    assert_eq!(seqs(&second), [(1, true), (3, true)], "nothing came from the old one");
    *second.wire.is_cut.lock() = false;
    until(|| second.gauge.get() == 1).await;
    assert!(seqs(&first).contains(&(3, true)) && !first.journal.standing().serves());
}

#[tokio::test]
async fn one_that_must_not_be_alone_takes_nothing_alone() {
    let (first, second) = (node(false, true), node(true, false));
    *first.wire.to.lock() = Arc::downgrade(&second.journal);
    let serves = first.journal.standing().comes_to_serve();
    assert!(tokio::time::timeout(Duration::from_millis(300), serves).await.is_err(), "nobody answered yet");
    *first.wire.is_cut.lock() = false;
    first.journal.standing().comes_to_serve().await;
    first.journal.commit(vec![event(1)], vec![]).await.expect("both have it");
    *first.wire.is_cut.lock() = true;
    first.journal.commit(vec![event(2)], vec![]).await.expect_err("the other is away");
}

#[tokio::test]
async fn a_copy_is_of_a_known_signer_room_and_kind() {
    let (standby, keys) = (node(true, false).journal, keys());
    let copy = |more: Value| {
        let mut copy = json!({"term": 5, "hello": false, "whole": true, "events": [], "settled": [], "reserved": [], "documents": []});
        copy.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let copy: Copy = serde_json::from_str(&copy.to_string()).expect("a copy");
        standby.import(copy, &keys, &["rundown"]).map(|taken| taken.map(drop))
    };
    let json = |event: &Event| serde_json::from_slice::<Value>(&event.json).expect("JSON");
    let forged = signed_by(&Signer::from_seed(&[4; 32]), 1);
    for bad in [
        json!({"events": [[true, json(&forged)]]}),
        json!({"events": [[true, {"v": 1}]]}),
        json!({"settled": [["../etc", 1]]}),
        json!({"term": u64::MAX}),
        json!({"documents": [["live/room", "passwords", {}]]}),
    ] {
        assert!(matches!(copy(bad.clone()).await, Err(NotCopied::Bad(_))), "{bad}");
    }
    copy(json!({"events": [[true, json(&event(1))]]})).await.expect("taken");
    standby.commit(vec![event(2)], vec![]).await.expect_err("another node serves");
    assert_eq!(copy(json!({"term": 4})).await, Err(NotCopied::Serves(5)), "an older reign");
}
