//! The reader of HTTP-FLV bodies, in every split.

use std::sync::Arc;

use super::*;
use crate::{
    cli::load::{
        media::{Shape, Synthetic},
        observer::{Board, Identity},
        report::Viewers,
    },
    media::TrackKind,
    proto::flv::{
        self, TagBody,
        script::{LiveEvent, LiveEventKind},
    },
};

/// A second of a stream, the 11th frame of it left out, with an event in it; and its pictures and sounds.
fn stream() -> (Vec<u8>, u64) {
    let shape = Shape { fps: 25, kbit_per_s: 200, gop_secs: 1, audio_kbit_per_s: 32 };
    let media = Synthetic::new(&shape);
    let mut stream = flv::header(true, true).to_vec();
    let mut add = |at_ms, body: &TagBody| stream.extend(flv::encode_tag(at_ms, body).concat());
    media.heads().iter().for_each(|head| add(0, head));
    let mut frames = 0;
    for due in media.frames(0.0).take_while(|due| due.at_us < 1_000_000) {
        if (due.track, due.number) != (TrackKind::Video, 10) {
            frames += 1;
            add(u32::try_from(due.at_us / 1000).expect("a second"), &media.tag(&due, 1_700_000_000_000_000));
        }
    }
    let json = r#"{"data":{"hawker_load":3},"type":"gift.send"}"#;
    let event = LiveEvent { ts_ms: 0.0, replay: false, kind: LiveEventKind::Event, json };
    add(1000, &TagBody::script(event.encode()));
    (stream, frames)
}

/// What a viewer makes of `bytes` in pieces of these sizes, in turn.
fn read(mut reader: Reader, mut bytes: &[u8], pieces: &[usize]) -> Result<Viewers, Failed> {
    let board = Arc::new(Board::new(1));
    let identity = Identity { address: 0, is_sampled: false, is_slow: false, events: Arc::default() };
    let mut observer = Observer::new(board.clone(), identity);
    for piece in pieces.iter().cycle() {
        let (now, rest) = bytes.split_at(bytes.len().min(*piece));
        reader.read(now, &mut observer)?;
        bytes = rest;
        if bytes.is_empty() {
            break;
        }
    }
    Ok(board.tallies()[0].lock().clone().into_viewers())
}

fn assert_whole(seen: &Viewers, frames: u64) {
    assert_eq!((seen.frames, seen.frames_lost, seen.events, seen.joined), (frames, 1, 1, 1), "{seen:?}");
}

#[test]
fn a_body_is_read_whatever_its_pieces() {
    let (stream, frames) = stream();
    for pieces in [&[usize::MAX][..], &[1], &[2], &[7, 1, 64], &[11, 4], &[1400]] {
        assert_whole(&read(Reader::new(false), &stream, pieces).expect("a stream"), frames);
    }
    for at in (0..400).chain(stream.len() - 200..stream.len()) {
        let pieces = [at.max(1), usize::MAX];
        assert_whole(&read(Reader::new(false), &stream, &pieces).expect("a stream"), frames);
    }
}

#[test]
fn chunks_of_http_are_taken_off() {
    let (stream, frames) = stream();
    let chunked: Vec<u8> = stream
        .chunks(777)
        .flat_map(|chunk| [format!("{:X};x=1\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
        .collect();
    for pieces in [&[usize::MAX][..], &[1], &[3], &[776, 5]] {
        assert_whole(&read(Reader::new(true), &chunked, pieces).expect("a stream"), frames);
    }
    let ended = [&chunked[..], b"0\r\n\r\n"].concat();
    assert!(matches!(read(Reader::new(true), &ended, &[100]), Err(Failed::Ended)));
}

#[test]
fn what_is_not_flv_is_an_error() {
    assert!(matches!(read(Reader::new(false), &[b'x'; 100], &[100]), Err(Failed::Broken(_))));
    let endless = b"FFFFFFFFFFFFFFFFFFFFF\r\n";
    assert!(matches!(read(Reader::new(true), endless, &[100]), Err(Failed::Broken(_))));
}

#[test]
fn the_answer_s_head_says_how_the_body_comes() {
    assert!(is_chunked(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").expect("accepted"));
    assert!(!is_chunked(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").expect("accepted"));
    assert!(matches!(is_chunked(b"HTTP/1.1 404 Not Found\r\n\r\n"), Err(Failed::Refused(_))));
    assert!(matches!(is_chunked(b"RTSP"), Err(Failed::Refused(_))));
}
