use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::{
    clock,
    media::{AudioConfig, Codec, Head, TrackKind, Tracks},
};

fn frame(track: TrackKind, ms: i64) -> Frame {
    let data = Bytes::from_static(b"x");
    Frame { track, dts_us: ms * 1000, pts_us: ms * 1000, keyframe: ms == 0, data }
}

fn picture(ms: i64) -> Item {
    Item::Frame(frame(TrackKind::Video, ms))
}

fn config(with_sound: bool) -> Item {
    let sound = with_sound.then(|| AudioConfig::from_description(Codec::Opus, Bytes::new()));
    Item::Head(Head::of(Arc::new(Tracks { audio: sound, ..Tracks::default() })))
}

/// Decode times in milliseconds of what is ready; sound as negative numbers minus one, configurations left out.
fn ready(line: &mut Interleave, now: Instant) -> Vec<i64> {
    let items = std::iter::from_fn(|| line.poll_item(now));
    items
        .filter_map(|(_, item)| match item {
            Item::Frame(frame) if frame.track == TrackKind::Audio => Some(-frame.dts_us / 1000 - 1),
            Item::Frame(frame) => Some(frame.dts_us / 1000),
            _ => None,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_pictures_waits_for_its_sound_and_they_come_in_order() {
    let (mut line, now) = (Interleave::default(), clock::now());
    line.handle_line(now, 1, config(true));
    for ms in (0..1000).step_by(40) {
        line.handle_line(now, 1, picture(ms));
    }
    assert!(ready(&mut line, now).is_empty());
    line.handle_sound(1, frame(TrackKind::Audio, -20));
    for ms in (0..500).step_by(20) {
        line.handle_sound(1, frame(TrackKind::Audio, ms));
    }
    let first = ready(&mut line, now);
    assert_eq!(first.get(..6), Some(&[-1, 0, -21, -41, 40, -61][..]), "{first:?}");
    assert_eq!(first.last(), Some(&-481), "the rest of the pictures waits");
    for ms in (500..1000).step_by(20) {
        line.handle_sound(1, frame(TrackKind::Audio, ms));
    }
    let rest = ready(&mut line, now);
    assert_eq!((rest.first(), rest.last()), (Some(&480), Some(&-981)), "{rest:?}");
    // From here on nothing waits.
    line.handle_line(now, 1, picture(1000));
    assert_eq!(ready(&mut line, now), [1000]);
    line.handle_sound(1, frame(TrackKind::Audio, 1000));
    assert_eq!(ready(&mut line, now), [-1001]);
}

#[tokio::test(start_paused = true)]
async fn sound_that_never_comes_is_not_waited_for_long() {
    let (mut line, now) = (Interleave::default(), clock::now());
    line.handle_line(now, 1, config(true));
    line.handle_line(now, 1, picture(0));
    assert!(ready(&mut line, now).is_empty());
    let deadline = line.poll_deadline().expect("a deadline");
    assert!(deadline - now <= SOUND_PATIENCE);
    assert_eq!(ready(&mut line, deadline), [0]);
    assert_eq!(line.poll_deadline(), None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_sound_waits_for_none_and_sound_waits_for_the_first_picture() {
    let (mut line, now) = (Interleave::default(), clock::now());
    line.handle_line(now, 1, config(false));
    line.handle_line(now, 1, picture(0));
    assert_eq!(ready(&mut line, now), [0]);

    let mut line = Interleave::default();
    line.handle_line(now, 1, config(true));
    line.handle_sound(1, frame(TrackKind::Audio, 10));
    assert!(ready(&mut line, now).is_empty());
    line.handle_line(now, 1, picture(0));
    assert_eq!(ready(&mut line, now), [0, -11]);
}
