//! What a MoQ viewer makes of groups that overlap, and of events that are told again.

use std::sync::Arc;

use super::*;
use crate::{
    cli::load::{
        media::{Shape, Synthetic},
        observer::{Board, Identity},
        report::Viewers,
    },
    proto::moq::varint::put_varint,
};

fn viewer() -> (Arc<Board>, Observer) {
    let board = Arc::new(Board::new(1));
    let identity = Identity { address: 0, is_sampled: false, is_slow: false, events: Arc::default() };
    let mut observer = Observer::new(board.clone(), identity);
    observer.connected();
    (board, observer)
}

fn seen(board: &Board) -> Viewers {
    board.tallies()[0].lock().clone().into_viewers()
}

/// The first pictures of a stream, in the container.
fn pictures(count: usize) -> Vec<Bytes> {
    let media = Synthetic::new(&Shape { fps: 10, kbit_per_s: 200, gop_secs: 1, audio_kbit_per_s: 0 });
    let frame = |due| {
        let (body, mut out) = (media.tag(&due, 1_700_000_000_000_000), Vec::new());
        put_varint(&mut out, due.at_us);
        // Without the header of the FLV tag.
        out.extend_from_slice(&body.header[5..]);
        out.extend_from_slice(&body.payload);
        Bytes::from(out)
    };
    media.frames(0.0).take(count).map(frame).collect()
}

fn frame(group: u64, payload: &Bytes) -> Option<Received> {
    Some(Received::Frame { group, timestamp: 0, payload: payload.clone() })
}

#[test]
fn a_group_that_overtakes_the_one_before_it_is_no_gap_but_a_missing_frame_is() {
    let (board, mut observer) = viewer();
    let (mut track, pictures) = (Track::new(TrackKind::Video), pictures(13));
    let mut tell = |received| track.handle(received, &mut observer).expect("frames");
    for picture in &pictures[..9] {
        tell(frame(3, picture));
    }
    tell(frame(4, &pictures[10]));
    tell(frame(3, &pictures[9]));
    tell(Some(Received::GroupEnd { group: 3, complete: true }));
    assert_eq!((seen(&board).joined, seen(&board).frames, seen(&board).frames_lost), (1, 11, 0));
    tell(frame(4, &pictures[12]));
    assert_eq!((seen(&board).frames, seen(&board).frames_lost), (12, 1));
    assert!(matches!(track.handle(None, &mut observer), Err(Failed::Ended)));
}

#[test]
fn an_event_counts_once_however_often_it_is_told() {
    let (board, mut observer) = viewer();
    let mut newest = 0;
    let mut tell = |numbers: &[u64]| {
        let records: Vec<_> =
            numbers.iter().map(|number| serde_json::json!({"data": {"data": {"hawker_load": number}}})).collect();
        let payload = Bytes::from(serde_json::to_vec(&records).expect("JSON"));
        handle_events(frame(1, &payload), &mut newest, &mut observer).expect("events");
    };
    tell(&[1, 2]);
    tell(&[1, 2, 3]);
    assert_eq!((seen(&board).events, seen(&board).events_lost), (3, 0));
    tell(&[5]);
    assert_eq!((seen(&board).events, seen(&board).events_lost), (4, 1));
    assert!(handle_events(frame(1, &Bytes::from_static(b"{")), &mut newest, &mut observer).is_err());
}
