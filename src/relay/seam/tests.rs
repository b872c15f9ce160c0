//! Lines that go on from each other, by hand.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{clock, media::TrackKind};

const FRAME_US: i64 = 40_000;
const ORIGIN: Option<u64> = Some(1);

fn frame(dts_us: i64, keyframe: bool) -> Frame {
    Frame { track: TrackKind::Video, dts_us, pts_us: dts_us, keyframe, data: Bytes::from_static(b"picture") }
}

/// What a viewer of ours has: 25 frames of group 100, the last at 960 ms.
fn watched(now: Instant) -> Delivered {
    let mut delivered = Delivered { origin: ORIGIN, ..Delivered::default() };
    for n in 0..25 {
        let frame = frame(n * FRAME_US, n == 0);
        assert!(delivered.is_new(&Item::Frame(frame.clone())));
        delivered.note_last(now, &frame, 100);
    }
    delivered
}

/// What of a line with ten frames a group goes on, as group and milliseconds; its first frame is a keyframe.
fn go_on(delivered: &mut Delivered, origin: Option<u64>, now: Instant, first_us: i64, group: u64) -> Vec<(u64, i64)> {
    let mut seam = Seam::new(delivered, origin);
    let mut out = Vec::new();
    for n in 0..25u64 {
        let frame = frame(first_us + i64::try_from(n).expect("small") * FRAME_US, n % 10 == 0);
        let placed = seam.place(delivered, now, group + n / 10, Item::Frame(frame));
        if let Some(Item::Frame(frame)) = placed.item {
            assert!(out.is_empty() || placed.head.is_none());
            out.push((placed.group, frame.dts_us / 1000));
        }
    }
    out
}

#[test]
fn the_same_line_goes_on_behind_the_very_frame_that_came_last() {
    let now = clock::now();
    let mut delivered = watched(now);
    assert_eq!(delivered.resume_group(ORIGIN), Some(100));
    assert_eq!(delivered.resume_group(Some(2)), None, "numbers of another line mean nothing");
    let out = go_on(&mut delivered, ORIGIN, now, 800_000, 100);
    assert_eq!((out[0], out.len()), ((100, 1000), 20));
}

#[test]
fn another_line_goes_on_at_a_keyframe_and_keeps_its_times_if_they_fit() {
    let now = clock::now();
    let mut delivered = watched(now);
    // The newest group there began before what viewers have here: the next one is waited for.
    let out = go_on(&mut delivered, Some(2), now + Duration::from_millis(300), 900_000, 7000);
    assert_eq!((out[0], out.len()), ((7001, 1300), 15));
}

#[test]
fn another_line_that_is_behind_is_shifted_and_its_groups_go_on() {
    let now = clock::now();
    let mut delivered = watched(now);
    let out = go_on(&mut delivered, Some(2), now + Duration::from_millis(300), -50_000_000, 7);
    assert_eq!((out[0], out.len()), ((101, 1261), 15), "by the time that passed, from its second keyframe on");
    // The session to it is lost, and it goes on where it was.
    let last = frame(1_261_000 + 14 * FRAME_US, false);
    assert!(delivered.is_new(&Item::Frame(last.clone())));
    delivered.note_last(now, &last, 102);
    assert_eq!(delivered.resume_group(Some(2)), Some(9));
}

#[test]
fn another_line_that_is_far_ahead_is_shifted_and_the_same_is_not() {
    let now = clock::now();
    for (origin, first_ms) in [(Some(2), 1461), (ORIGIN, 3_600_000)] {
        let mut delivered = watched(now);
        let out = go_on(&mut delivered, origin, now + Duration::from_millis(500), 3_600_000_000, 7000);
        assert_eq!((out[0], out.len()), ((7000, first_ms), 25));
    }
}

#[test]
fn the_configuration_goes_before_the_keyframe_that_another_line_begins_with() {
    let now = clock::now();
    let mut delivered = watched(now);
    let mut seam = Seam::new(&delivered, Some(2));
    let head = Arc::new(Head::default());
    let mut place = |group, item| seam.place(&mut delivered, now, group, item);
    assert_eq!(place(7000, Item::Head(head.clone())).head, None);
    assert_eq!(place(7000, Item::Frame(frame(940_000, true))).item, None, "too old");
    assert_eq!(place(7000, Item::Frame(frame(980_000, false))).item, None, "it needs a keyframe that was left out");
    assert_eq!(place(7001, Item::Head(head.clone())).item, None);
    let placed = place(7001, Item::Frame(frame(1_020_000, true)));
    assert_eq!((placed.group, placed.head), (7001, Some(head)));
    assert_eq!(placed.item, Some(Item::Frame(frame(1_020_000, true))));
}
