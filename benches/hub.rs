//! What the hub costs: the ring and its readers, joining, and a room's timeline beside the frames.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use criterion::{BatchSize, Criterion, Throughput};
use hawker::{
    hub::{At, Bounds, Cursor, Hub, Journal, Origin, Publisher, Read, Ring, Settings},
    media::{Event, Frame, Item, Signer, StreamName, TrackKind},
    observe::metrics::Metrics,
    task,
};
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};

const FRAME_BYTES: usize = 4096;
const FRAME_US: i64 = 20_000;
/// Frames from one keyframe to the next.
const GOP: i64 = 50;
/// Viewers of one stream.
const VIEWERS: [u64; 3] = [1, 100, 1000];

fn main() {
    let criterion = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300));
    let mut criterion = criterion.measurement_time(Duration::from_secs(1)).configure_from_args();
    ring(&mut criterion);
    fan_out(&mut criterion);
    join(&mut criterion);
    timeline(&mut criterion);
    criterion.final_summary();
}

/// Frames into a ring that is full, and one reader over them.
fn ring(criterion: &mut Criterion) {
    let mut line = Line::new();
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(1));
    group.bench_function("publish", |bencher| bencher.iter(|| line.push()));
    line.finish_gop();
    group.throughput(Throughput::Elements(GOP.unsigned_abs()));
    group.bench_function("join and read a GOP", |bencher| {
        bencher.iter(|| assert_eq!(drain(&mut line.ring.cursor(None)), GOP.unsigned_abs()));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("join", |bencher| {
        bencher.iter(|| line.ring.cursor(None).try_recv().is_ok_and(|read| read.is_some()));
    });
    // Overtaken by four GOPs with an event each: told of the loss, then of the events.
    let event = Item::Event(event());
    group.bench_function("skip", |bencher| {
        bencher.iter_batched_ref(
            || {
                let mut cursor = line.ring.cursor(None);
                drain(&mut cursor);
                for _ in 0..4 {
                    line.ring.push(event.clone(), line.group());
                    (0..GOP).for_each(|_| line.push());
                }
                cursor
            },
            |cursor| assert!(cursor.try_recv().is_ok_and(|read| read.is_some())),
            BatchSize::PerIteration,
        );
    });
}

/// One frame to all viewers: each asked, and each woken as a task of his own.
fn fan_out(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("fan out");
    for viewers in VIEWERS {
        group.throughput(Throughput::Elements(viewers));
        let mut line = Line::new();
        let mut cursors: Vec<_> = (0..viewers).map(|_| line.ring.cursor(None)).collect();
        cursors.iter_mut().for_each(|cursor| _ = drain(cursor));
        group.bench_function(format!("a frame to {viewers} cursors"), |bencher| {
            bencher.iter(|| {
                line.push();
                cursors.iter_mut().for_each(|cursor| _ = black_box(cursor.try_recv()));
            });
        });
        drop(cursors);

        let seen = Arc::new(AtomicU64::new(0));
        let mut due = 0;
        runtime.block_on(async {
            for _ in 0..viewers {
                let (mut cursor, seen) = (line.ring.cursor(None), seen.clone());
                drain(&mut cursor);
                task::spawn("viewer", async move {
                    while black_box(cursor.recv().await).is_ok() {
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        group.bench_function(format!("a frame to {viewers} tasks"), |bencher| {
            bencher.iter(|| {
                line.push();
                due += viewers;
                runtime.block_on(async {
                    while seen.load(Ordering::Relaxed) < due {
                        tokio::task::yield_now().await;
                    }
                });
            });
        });
        line.ring.close();
    }
}

/// A viewer comes and goes, at a stream that others watch.
fn join(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub");
    group.throughput(Throughput::Elements(1));
    for (node, hub) in nodes() {
        let _first = hub.view(&name()).expect("room");
        group.bench_function(format!("view and leave at an {node}"), |bencher| {
            bencher.iter(|| hub.view(black_box(&name())).expect("room"));
        });
    }
}

/// A frame on its way past a room's events.
fn timeline(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("timeline");
    group.throughput(Throughput::Elements(1));
    for (node, hub) in nodes() {
        let mut show = Show::new(&hub);
        group.bench_function(format!("a frame at an {node}, no event"), |bencher| bencher.iter(|| show.push()));
        if node == "edge" {
            continue;
        }
        let mut cursor = show.publisher.stream().ring().cursor(None);
        group.bench_function("stamp, arm and fire an event", |bencher| {
            bencher.iter(|| {
                runtime.block_on(show.arm(FRAME_US));
                show.push();
                let fired = std::iter::from_fn(|| cursor.try_recv().ok().flatten());
                assert!(fired.into_iter().any(|read| matches!(read, Read::Entry { entry: Item::Event(_), .. })));
            });
        });
        for _ in 0..1000 {
            runtime.block_on(show.arm(MONTH_US));
        }
        group.bench_function("a frame past 1000 events that wait", |bencher| bencher.iter(|| show.push()));
    }
}

const MONTH_US: i64 = 30 * 24 * 3600 * 1_000_000;

/// A ring and its producer.
struct Line {
    ring: Arc<Ring<Item>>,
    frames: i64,
}

impl Line {
    /// As full as it gets.
    fn new() -> Self {
        let Settings { ring_bytes_max: bytes_max, gops_max: groups_max, .. } = Settings::default();
        let mut line = Self { ring: Ring::new(Bounds { bytes_max, groups_max }), frames: 0 };
        (0..4 * GOP).for_each(|_| line.push());
        line
    }

    fn push(&mut self) {
        self.ring.push(Item::Frame(frame(self.frames)), self.group());
        self.frames += 1;
    }

    fn finish_gop(&mut self) {
        while self.frames % GOP != 0 {
            self.push();
        }
    }

    fn group(&self) -> u64 {
        (self.frames / GOP).unsigned_abs()
    }
}

/// A publisher, and how far he is.
struct Show {
    hub: Arc<Hub>,
    publisher: Publisher,
    frames: i64,
}

impl Show {
    fn new(hub: &Arc<Hub>) -> Self {
        let publisher = hub.publish(&name()).expect("the slot");
        let mut show = Self { hub: hub.clone(), publisher, frames: 0 };
        (0..4 * GOP).for_each(|_| show.push());
        show
    }

    fn push(&mut self) {
        self.publisher.push_frame(frame(self.frames)).expect("the newest publisher");
        self.frames += 1;
    }

    /// An event for the frame that is `ahead_us` behind the newest.
    async fn arm(&self, ahead_us: i64) {
        let newest_us = self.publisher.place((self.frames - 1) * FRAME_US).expect("frames");
        let at = At::PtsUs(newest_us + ahead_us);
        self.hub.publish_event(&name(), draft(), Some(at)).await.expect("accepted");
    }
}

fn nodes() -> [(&'static str, Arc<Hub>); 2] {
    let journal = Journal::in_memory(1 << 34);
    let signer = Arc::new(Signer::from_seed(&[1; 32]));
    let origin = Origin::new(journal, signer, Metrics::new(0, true), u32::MAX, u32::MAX);
    ["edge", "origin"].map(|node| (node, Hub::new(Settings::default(), (node == "origin").then(|| origin.clone()))))
}

/// How many entries a cursor has ready.
fn drain(cursor: &mut Cursor<Item>) -> u64 {
    let mut entries = 0;
    while let Ok(Some(read)) = cursor.try_recv() {
        black_box(read);
        entries += 1;
    }
    entries
}

fn frame(number: i64) -> Frame {
    static DATA: [u8; FRAME_BYTES] = [7; FRAME_BYTES];
    let dts_us = number * FRAME_US;
    let data = bytes::Bytes::from_static(&DATA);
    Frame { track: TrackKind::Video, dts_us, pts_us: dts_us, keyframe: number % GOP == 0, data }
}

/// As an origin would have stamped it.
fn event() -> Arc<Event> {
    let mut event = draft();
    let stamp = json!({
        "v": 1, "id": ulid::Ulid::nil().to_string(), "source": "live/room", "seq": 1, "op": "set", "key": "card:main",
        "target": {"scope": "room"}, "time": {"mode": "asap", "wall_ms": 0},
    });
    event.extend(object(stamp));
    Arc::new(Event::from_object(event).expect("an event"))
}

fn draft() -> Map<String, Value> {
    object(json!({"type": "card.show", "data": {"sku": "SKU-1", "name": "Wool coat", "price_minor": 89_900}}))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn name() -> StreamName {
    "live/room".parse().expect("a name")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}
