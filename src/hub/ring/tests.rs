use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fake {
    Head(u32),
    Start(u32),
    Follow(u32),
    Event(u32),
    /// An event of a mebibyte.
    Big,
}

impl Entry for Fake {
    fn kind(&self) -> EntryKind {
        match self {
            Self::Head(_) => EntryKind::Head,
            Self::Start(_) => EntryKind::Start,
            Self::Follow(_) => EntryKind::Follow,
            Self::Event(_) | Self::Big => EntryKind::Event,
        }
    }

    fn bytes(&self) -> usize {
        if *self == Self::Big { 1 << 20 } else { 10 }
    }

    fn dts_us(&self) -> Option<i64> {
        match self {
            Self::Start(n) | Self::Follow(n) => Some(i64::from(*n) * 1000),
            _ => None,
        }
    }
}

use Fake::{Event, Follow, Head, Start};

fn ring(groups_max: usize) -> Arc<Ring<Fake>> {
    Ring::new(Bounds { bytes_max: 100_000, groups_max })
}

fn push(ring: &Ring<Fake>, entries: impl IntoIterator<Item = Fake>) {
    for entry in entries {
        ring.push(entry, 0);
    }
}

fn drain(cursor: &mut Cursor<Fake>) -> Vec<Read<Fake>> {
    std::iter::from_fn(|| cursor.try_recv().expect("open")).collect()
}

fn entries(reads: impl IntoIterator<Item = Fake>) -> Vec<Read<Fake>> {
    reads.into_iter().map(|entry| Read::Entry { entry, group: 0 }).collect()
}

#[test]
fn a_joiner_starts_at_the_newest_keyframe_with_its_config_and_its_event() {
    let ring = ring(3);
    push(&ring, [Head(1), Start(1), Follow(2), Event(1), Start(3), Follow(4)]);
    let mut cursor = ring.cursor(None);
    assert_eq!(drain(&mut cursor), entries([Head(1), Event(1), Start(3), Follow(4)]));
    push(&ring, [Head(2), Start(5)]);
    assert_eq!(drain(&mut cursor), entries([Head(2), Start(5)]));
}

#[test]
fn an_early_joiner_waits_for_a_keyframe() {
    let ring = ring(3);
    let mut cursor = ring.cursor(None);
    push(&ring, [Head(1), Follow(1), Follow(2)]);
    assert_eq!(drain(&mut cursor), []);
    push(&ring, [Start(3)]);
    assert_eq!(drain(&mut cursor), entries([Head(1), Start(3)]));
}

#[test]
fn an_overrun_reader_resumes_at_the_newest_keyframe_with_every_event() {
    let ring = ring(2);
    push(&ring, [Head(1), Start(1)]);
    let mut cursor = ring.cursor(None);
    assert_eq!(drain(&mut cursor), entries([Head(1), Start(1)]));
    push(
        &ring,
        [Follow(2), Event(1), Start(3), Event(2), Follow(4), Head(2), Start(5), Follow(6), Start(7), Follow(8)],
    );
    let mut expected = entries([Event(1), Event(2)]);
    expected.push(Read::Skipped { frames: 5 });
    expected.extend(entries([Head(2), Start(7), Follow(8)]));
    assert_eq!(drain(&mut cursor), expected);
}

#[test]
fn a_reader_over_its_lag_budget_skips_though_the_ring_still_has_it() {
    let ring = ring(9);
    push(&ring, [Head(1), Start(0)]);
    let mut patient = ring.cursor(None);
    let mut hasty = ring.cursor(Some(100_000));
    drain(&mut patient);
    drain(&mut hasty);
    push(&ring, (1..200).map(|n| if n % 50 == 0 { Start(n) } else { Follow(n) }));
    assert_eq!(drain(&mut patient).len(), 199);
    let reads = drain(&mut hasty);
    assert_eq!(reads.first(), Some(&Read::Skipped { frames: 149 }));
    assert_eq!(reads.len(), 51);
}

#[test]
fn heads_and_events_are_not_behind_because_the_frames_around_them_are_apart() {
    let ring = ring(9);
    push(&ring, [Head(1), Event(1), Start(1_000_000)]);
    let mut cursor = ring.cursor(Some(100_000));
    assert_eq!(drain(&mut cursor), entries([Head(1), Event(1), Start(1_000_000)]));
    // The publisher comes back after a minute.
    push(&ring, [Head(2), Event(2), Start(1_060_000)]);
    assert_eq!(drain(&mut cursor), entries([Head(2), Event(2), Start(1_060_000)]));
}

#[test]
fn a_group_larger_than_the_ring_is_dropped_whole_and_the_bytes_stay_bounded() {
    let ring = Ring::new(Bounds { bytes_max: 100, groups_max: 3 });
    push(&ring, [Head(1), Start(0)]);
    let mut cursor = ring.cursor(None);
    drain(&mut cursor);
    for n in 1..50 {
        push(&ring, [Follow(n)]);
        assert!(ring.bytes() <= 100);
    }
    push(&ring, [Event(1), Start(50)]);
    let mut expected = entries([Event(1)]);
    expected.push(Read::Skipped { frames: 49 });
    expected.extend(entries([Start(50)]));
    assert_eq!(drain(&mut cursor), expected);
}

#[test]
fn a_reader_behind_the_kept_events_is_told_so() {
    let ring = ring(2);
    push(&ring, [Start(0)]);
    let mut cursor = ring.cursor(None);
    drain(&mut cursor);
    push(&ring, (0..=limits::RING_EVENTS_MAX as u32).map(Event));
    push(&ring, [Start(1), Start(2), Start(3)]);
    assert_eq!(cursor.try_recv(), Err(End::EventsLost));
}

#[tokio::test(start_paused = true)]
async fn closing_delivers_what_is_held_and_wakes_the_waiting() {
    let ring = ring(2);
    push(&ring, [Start(0)]);
    let mut cursor = ring.cursor(None);
    assert_eq!(cursor.recv().await, Ok(Read::Entry { entry: Start(0), group: 0 }));
    let mut early = Ring::<Fake>::new(Bounds { bytes_max: 1, groups_max: 1 }).cursor(None);
    early.ring.close();
    assert_eq!(early.recv().await, Err(End::Closed));
    let closer = {
        let ring = ring.clone();
        async move { ring.close() }
    };
    let (ended, ()) = tokio::join!(cursor.recv(), closer);
    assert_eq!(ended, Err(End::Closed));
}

#[test]
fn events_are_kept_within_a_bound_in_bytes_too() {
    let ring = ring(2);
    push(&ring, [Start(0)]);
    let mut cursor = ring.cursor(None);
    assert_eq!(drain(&mut cursor).len(), 1);
    push(&ring, std::iter::repeat_n(Fake::Big, limits::RING_EVENT_BYTES_MAX >> 20));
    assert_eq!(drain(&mut cursor).len(), limits::RING_EVENT_BYTES_MAX >> 20, "frames give way first");
    push(&ring, std::iter::repeat_n(Fake::Big, 1 + (limits::RING_EVENT_BYTES_MAX >> 20)));
    assert!(ring.inner.read().event_bytes <= limits::RING_EVENT_BYTES_MAX);
    assert_eq!(cursor.try_recv(), Err(End::EventsLost));
}

proptest! {
    /// Any line, any reading pace: events come all, once and in order; frames are never out of order, never
    /// twice, a Follow only directly behind its predecessor, and seen + skipped accounts for every frame.
    #[test]
    fn readers_never_lose_events_and_never_see_a_broken_group(
        line in proptest::collection::vec((0u8..10, any::<bool>()), 1..300),
        groups_max in 1usize..4,
        bytes_max in 30usize..400,
        lag in proptest::option::of(1_000i64..30_000),
    ) {
        let ring = Ring::new(Bounds { bytes_max, groups_max });
        ring.push(Head(0), 0);
        ring.push(Start(0), 0);
        let mut cursor = ring.cursor(lag);
        let mut seen = drain(&mut cursor);
        let (mut frames, mut events) = (1u32, 0u32);
        for (what, read) in &line {
            match what {
                0 => { ring.push(Event(events), 0); events += 1; }
                1 => { ring.push(Start(frames), 0); frames += 1; }
                _ => { ring.push(Follow(frames), 0); frames += 1; }
            }
            if *read { seen.extend(drain(&mut cursor)); }
        }
        ring.push(Start(frames), 0);
        seen.extend(drain(&mut cursor));
        let (mut next_event, mut next_frame) = (0, 0);
        let mut broken = false;
        for read in seen {
            match read {
                Read::Entry { entry: Event(n), .. } => { prop_assert_eq!(n, next_event); next_event += 1; }
                Read::Entry { entry: Start(n), .. } => { prop_assert_eq!(n, next_frame); next_frame += 1; broken = false; }
                Read::Entry { entry: Follow(n), .. } => {
                    prop_assert!(!broken, "a follow directly after a skip");
                    prop_assert_eq!(n, next_frame);
                    next_frame += 1;
                }
                Read::Entry { entry: Head(_) | Fake::Big, .. } => {}
                Read::Skipped { frames } => { next_frame += frames as u32; broken = true; }
            }
        }
        prop_assert_eq!(next_event, events);
        prop_assert_eq!(next_frame, frames + 1);
    }
}

#[test]
fn what_is_remembered_is_told_to_other_nodes_and_to_no_reader_here() {
    let ring = ring(3);
    ring.remember(Event(1), 0);
    ring.remember(Event(2), 0);
    let mut cursor = ring.cursor(Some(1000));
    ring.push(Head(1), 1);
    push(&ring, [Start(1), Follow(2), Event(3)]);
    assert_eq!(
        drain(&mut cursor),
        [Read::Entry { entry: Head(1), group: 1 }]
            .into_iter()
            .chain(entries([Start(1), Follow(2), Event(3)]))
            .collect::<Vec<_>>()
    );
    push(&ring, [Follow(3), Start(4), Start(90)]);
    let told = drain(&mut cursor);
    assert!(!told.iter().any(|read| matches!(read, Read::Entry { entry: Event(_), .. })), "{told:?}");
    assert_eq!(ring.recent_events(1, 0), [Event(1), Event(2), Event(3)]);
    assert_eq!(ring.recent_events(1, 1001), [Event(3)], "they are as old as the first frame");
    assert_eq!(ring.recent_events(1, 2001), []);
}
