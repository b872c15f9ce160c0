//! What an event costs: from the draft to the acknowledgement, and on its way through the room.

use std::{hint::black_box, path::Path, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput};
use futures_util::future::join_all;
use hawker::{
    clock,
    hub::{Hub, Journal, Origin, Settings},
    media::{Event, Keys, Room, Signer, StreamName, event::Moment},
    observe::metrics::Metrics,
};
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};

/// Keys that a room may have.
const KEYS: u64 = 64;
const JOURNAL_BYTES_MAX: u64 = 1 << 34;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    accept(&mut criterion);
    merge(&mut criterion);
    pace();
    criterion.final_summary();
}

/// Stamp, sign, commit, and into the state.
fn accept(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = tempfile::tempdir().expect("a folder");
    let hubs = [("memory", hub(None)), ("disk", hub(Some(folder.path())))];
    let mut group = criterion.benchmark_group("accept");
    for (place, hub) in &hubs {
        for in_flight in [1, 32] {
            group.throughput(Throughput::Elements(in_flight));
            group.bench_function(format!("{place}, {in_flight} in flight"), |bencher| {
                bencher.iter(|| runtime.block_on(join_all((0..in_flight).map(|n| publish(hub, n)))));
            });
        }
    }
}

/// What each node does with an event, and with a joiner.
fn merge(criterion: &mut Criterion) {
    let signer = Signer::from_seed(&[1; 32]);
    let keys = Keys::from(signer.public());
    let events: Vec<_> = (0..KEYS).map(|n| Arc::new(signed(&signer, n))).collect();
    let first = events.first().expect("64 of them");
    criterion.bench_function("verify", |bencher| bencher.iter(|| keys.verify(black_box(first))));

    let now = Moment { pts_us: 0, wall_ms: 1 };
    let mut full = Room::default();
    events.iter().for_each(|event| full.apply(event));
    full.advance(now);
    criterion.bench_function("merge one event into 64 keys", |bencher| {
        bencher.iter_batched_ref(
            || full.clone(),
            |room| {
                room.apply(first);
                room.advance(now);
            },
            criterion::BatchSize::SmallInput,
        );
    });
    criterion.bench_function("replay 64 keys", |bencher| bencher.iter(|| black_box(&full).replay(now)));
    let name = room();
    criterion.bench_function("snapshot of 64 keys", |bencher| {
        bencher.iter(|| black_box(&full).to_json(&name, now, &[]));
    });
}

/// How long the caller waits when 200 events a second come, each at its own time.
fn pace() {
    const EVENTS: u64 = 1000;
    const INTERVAL: Duration = Duration::from_millis(5);
    let folder = tempfile::tempdir().expect("a folder");
    let hub = hub(Some(folder.path()));
    let begin = clock::now();
    let posts = (0..EVENTS).map(|n| {
        let hub = &hub;
        async move {
            let due = begin + INTERVAL * u32::try_from(n).unwrap_or(u32::MAX);
            tokio::time::sleep_until(due).await;
            let posted = clock::now();
            publish(hub, n % KEYS).await;
            posted.elapsed()
        }
    });
    let mut took = runtime().block_on(join_all(posts));
    took.sort_unstable();
    let of_100 = |n: usize| took.get((took.len() * n / 100).min(took.len() - 1)).copied().unwrap_or_default();
    println!("accept at 200 events/s on disk: p50 {:?}, p99 {:?}, most {:?}", of_100(50), of_100(99), of_100(100));
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn room() -> StreamName {
    "live/room".parse().expect("a name")
}

/// An origin without a quota, its journal in `folder` or in memory.
fn hub(folder: Option<&Path>) -> Arc<Hub> {
    let metrics = Metrics::new(0, true);
    let seconds = metrics.journal_commit_seconds.clone();
    let journal = match folder {
        Some(folder) => Journal::open(&folder.join("events"), JOURNAL_BYTES_MAX, seconds).expect("a journal"),
        None => Journal::in_memory(JOURNAL_BYTES_MAX),
    };
    let signer = Arc::new(Signer::from_seed(&[1; 32]));
    Hub::new(Settings::default(), Some(Origin::new(journal, signer, metrics, u32::MAX, u32::MAX)))
}

async fn publish(hub: &Arc<Hub>, n: u64) {
    hub.publish_event(&room(), draft(n), None).await.expect("accepted");
}

fn draft(n: u64) -> Map<String, Value> {
    let data = json!({
        "sku": format!("SKU-{n}"), "name": "Wool coat", "price_minor": 89_900, "currency": "CNY", "stock": 120,
        "image": "https://cdn.example.com/coats/wool/main.webp",
    });
    object(json!({"type": "card.show", "key": format!("card:{n}"), "data": data}))
}

/// As an origin would have stamped it.
fn signed(signer: &Signer, n: u64) -> Event {
    let mut event = object(json!({
        "v": 1, "id": ulid::Ulid::from(u128::from(n)).to_string(), "source": "live/room", "seq": n + 1, "op": "set",
        "target": {"scope": "room"}, "time": {"mode": "asap", "wall_ms": 0},
    }));
    event.extend(draft(n));
    signer.sign(event).expect("an event")
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
