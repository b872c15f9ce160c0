//! The reader of RTMP chunks: what our own writer writes, and what other servers do.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::{
    cli::load::{
        media::{Shape, Synthetic},
        observer::{Board, Identity},
        report::Viewers,
    },
    proto::{
        flv::TagBody,
        rtmp::chunk::{ChunkWriter, MessageHeader},
    },
};

/// Two seconds of a stream in chunks of this size, from `start_ms` on; and how many frames it has.
fn stream(chunk_bytes: u32, start_ms: u32) -> (Vec<u8>, u64) {
    let shape = Shape { fps: 25, kbit_per_s: 300, gop_secs: 1, audio_kbit_per_s: 32 };
    let media = Synthetic::new(&shape);
    let mut bytes = vec![0; HANDSHAKE_BYTES];
    let size = chunk_bytes.to_be_bytes();
    bytes.extend_from_slice(&[2, 0, 0, 0, 0, 0, 4, SET_CHUNK_SIZE, 0, 0, 0, 0, size[0], size[1], size[2], size[3]]);
    let writer = ChunkWriter::new(usize::try_from(chunk_bytes).expect("small"));
    let mut add = |at_ms: u32, body: &TagBody| {
        let kind = body.kind.into();
        let header = MessageHeader { chunk_stream: kind, kind, stream_id: 1, timestamp: start_ms + at_ms };
        bytes.extend(writer.encode(&header, &body.header, body.payload.clone()).concat());
    };
    media.heads().iter().for_each(|head| add(0, head));
    let mut frames = 0;
    for due in media.frames(0.0).take_while(|due| due.at_us < 2_000_000) {
        frames += 1;
        add(u32::try_from(due.at_us / 1000).expect("seconds"), &media.tag(&due, 1_700_000_000_000_000));
    }
    (bytes, frames)
}

struct Viewer {
    board: Arc<Board>,
    observer: Observer,
    reader: Reader,
}

impl Viewer {
    fn new() -> Self {
        let board = Arc::new(Board::new(1));
        let identity = Identity { address: 0, is_sampled: false, is_slow: false, events: Arc::default() };
        let observer = Observer::new(board.clone(), identity);
        Self { board, observer, reader: Reader::default() }
    }

    /// Reads `bytes` in pieces of these sizes, in turn.
    fn read(&mut self, mut bytes: &[u8], pieces: &[usize]) -> Result<Viewers, Failed> {
        for piece in pieces.iter().cycle() {
            let (now, rest) = bytes.split_at(bytes.len().min(*piece));
            self.reader.read(now, &mut self.observer)?;
            bytes = rest;
            if bytes.is_empty() {
                break;
            }
        }
        Ok(self.board.tallies()[0].lock().clone().into_viewers())
    }
}

#[test]
fn chunks_are_read_whatever_their_size_and_pieces() {
    for (chunk_bytes, start_ms) in [(128, 0), (4096, 0), (65_536, 0), (128, 0x00ff_ff00)] {
        let (bytes, frames) = stream(chunk_bytes, start_ms);
        for pieces in [&[usize::MAX][..], &[1], &[2, 3], &[127, 1], &[1400]] {
            let seen = Viewer::new().read(&bytes, pieces).expect("a stream");
            assert_eq!((seen.frames, seen.frames_lost, seen.joined), (frames, 0, 1), "{chunk_bytes} {pieces:?}");
        }
    }
}

#[test]
fn messages_on_several_chunk_streams_interleave() {
    let media = Synthetic::new(&Shape { fps: 25, kbit_per_s: 300, gop_secs: 1, audio_kbit_per_s: 32 });
    let frames: Vec<_> = media.frames(0.0).take(2).collect();
    let pieces = |number: usize, chunk_stream: u8| {
        let body = media.tag(&frames[number], 1_700_000_000_000_000);
        let header = MessageHeader { chunk_stream, kind: body.kind.into(), stream_id: 1, timestamp: 0 };
        let bytes: Vec<u8> = ChunkWriter::new(128).encode(&header, &body.header, body.payload.clone()).concat();
        let first = bytes.len().min(12 + 128);
        (Bytes::copy_from_slice(&bytes[..first]), Bytes::copy_from_slice(&bytes[first..]))
    };
    let ((head, rest), (other, other_rest)) = (pieces(0, 6), pieces(1, 4));
    let bytes = [&vec![0; HANDSHAKE_BYTES], &head[..], &other, &other_rest, &rest].concat();
    let seen = Viewer::new().read(&bytes, &[50]).expect("a stream");
    assert_eq!((seen.frames, seen.joined), (2, 1));
}

#[test]
fn what_servers_ask_is_answered_and_their_end_is_one() {
    let control = |payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("short");
        [&[2, 0, 0, 0, 0, 0, length, USER_CONTROL, 0, 0, 0, 0], payload].concat()
    };
    let mut viewer = Viewer::new();
    let ping = [vec![0; HANDSHAKE_BYTES], control(&[0, 6, 1, 2, 3, 4])].concat();
    viewer.read(&ping, &[5]).expect("fine");
    assert_eq!(viewer.reader.answer().expect("a pong")[12..], [0, 7, 1, 2, 3, 4]);
    assert_eq!(viewer.reader.answer(), None);
    assert!(matches!(viewer.read(&control(&[0, 1, 0, 0, 0, 1]), &[100]), Err(Failed::Ended)));

    let mut far = Viewer::new();
    let (bytes, _) = stream(65_536, 0);
    far.read(&bytes, &[usize::MAX]).expect("a stream");
    assert_eq!(far.reader.answer(), None);
    while far.reader.received < ACKNOWLEDGE_BYTES {
        far.read(&bytes[HANDSHAKE_BYTES..], &[usize::MAX]).expect("a stream");
    }
    far.read(&bytes[HANDSHAKE_BYTES..], &[usize::MAX]).expect("a stream");
    let answer = far.reader.answer().expect("an acknowledgement");
    assert_eq!((answer[7], answer.len()), (ACKNOWLEDGEMENT, 16));
}

#[test]
fn nonsense_is_an_error() {
    let mut bytes = vec![0; HANDSHAKE_BYTES];
    bytes.extend_from_slice(&[0xc6, 1, 2, 3]);
    assert!(matches!(Viewer::new().read(&bytes, &[100]), Err(Failed::Broken(_))));
}
