use bytes::{BufMut, BytesMut};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

fn read_all(reader: &mut ChunkReader, mut bytes: &[u8], split: usize) -> Result<Vec<Message>, ChunkError> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (mut part, rest) = bytes.split_at(split.min(bytes.len()));
        bytes = rest;
        while let Some(message) = reader.next_message(&mut part)? {
            messages.push(message);
        }
        assert!(part.is_empty());
    }
    Ok(messages)
}

fn read(bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
    read_all(&mut ChunkReader::new(ChunkLimits::SETUP), bytes, usize::MAX)
}

fn set_chunk_size(size: usize) -> Vec<u8> {
    let size = u32::try_from(size).expect("32 bits");
    [&b"\x02\0\0\0\0\0\x04\x01\0\0\0\0"[..], &size.to_be_bytes()].concat()
}

/// A plain writer of every header type, to hold the reader against: one chunk stream's view of the last header.
#[derive(Clone, Default)]
struct Sender {
    id: u32,
    last: Option<Message>,
    delta: u32,
}

impl Sender {
    fn basic_header(&self, format: u8, out: &mut BytesMut) {
        let format = format << 6;
        match self.id {
            id @ ..64 => out.put_u8(format | u8::try_from(id).expect("6 bits")),
            id @ ..320 => out.put_slice(&[format, u8::try_from(id - 64).expect("8 bits")]),
            id => {
                out.put_u8(format | 1);
                out.put_u16_le(u16::try_from(id - 64).expect("16 bits"));
            }
        }
    }

    /// The message as chunks, with the shortest header that can say it.
    fn chunks(&mut self, message: &Message, chunk_bytes: usize, repeat_extended: bool) -> Vec<BytesMut> {
        let last = self.last.replace(message.clone());
        let delta = last.as_ref().map(|last| message.timestamp.wrapping_sub(last.timestamp));
        let format = match (&last, delta) {
            (Some(last), Some(delta)) if last.stream_id == message.stream_id && delta < 1 << 31 => {
                let same = last.payload.len() == message.payload.len() && last.kind == message.kind;
                if same && delta == self.delta && delta < EXTENDED { 3 } else { if same { 2 } else { 1 } }
            }
            _ => 0,
        };
        self.delta = if format == 0 { 0 } else { delta.unwrap_or(0) };
        let time = if format == 0 { message.timestamp } else { self.delta };
        let mut out = BytesMut::new();
        self.basic_header(format, &mut out);
        if format < 3 {
            out.put_uint(time.min(EXTENDED).into(), 3);
        }
        if format < 2 {
            out.put_slice(&u32::try_from(message.payload.len()).expect("24 bits").to_be_bytes()[1..]);
            out.put_u8(message.kind);
        }
        if format == 0 {
            out.put_u32_le(message.stream_id);
        }
        let extended = format < 3 && time >= EXTENDED;
        if extended {
            out.put_u32(time);
        }
        let mut chunks = Vec::new();
        for (i, part) in message.payload.chunks(chunk_bytes).enumerate() {
            if i > 0 {
                self.basic_header(3, &mut out);
                if extended && repeat_extended {
                    out.put_u32(time);
                }
            }
            out.put_slice(part);
            chunks.push(std::mem::take(&mut out));
        }
        chunks
    }
}

fn any_timestamp() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), Just(EXTENDED), 0xff_fff0..0x100_0010u32, 0xffff_fff0..=u32::MAX, 0..100u32]
}

fn any_message() -> impl Strategy<Value = Message> {
    // No payload byte equals an extended timestamp's, so that leaving out its repetition stays unambiguous.
    (3..255u8, 0..3u32, any_timestamp(), vec(1..0xf0u8, 1..250)).prop_map(|(kind, stream_id, timestamp, payload)| {
        let timestamp = if timestamp >= EXTENDED { timestamp & 0x00ff_ffff | 0xff00_0000 } else { timestamp };
        Message { kind, stream_id, timestamp, payload: payload.into() }
    })
}

proptest! {
    #[test]
    fn interleaved_messages_survive_any_chunk_size_and_split(
        messages in vec((0..5usize, any_message()), 1..20),
        order in vec(any::<Index>(), 1..64),
        chunk_bytes in prop_oneof![1..4usize, 1..300usize],
        split in prop_oneof![1..20usize, Just(usize::MAX)],
        repeat_extended in any::<bool>(),
    ) {
        let ids = [3, 63, 64, 319, 65_599];
        let mut senders = ids.map(|id| Sender { id, ..Sender::default() });
        let mut queues = vec![Vec::new(); ids.len()];
        for (sender, message) in &messages {
            queues[*sender].extend(senders[*sender].chunks(message, chunk_bytes, repeat_extended));
        }
        queues.retain(|queue| !queue.is_empty());
        let mut wire = set_chunk_size(chunk_bytes);
        let mut order = order.iter().cycle();
        while !queues.is_empty() {
            let at = order.next().expect("endless").index(queues.len());
            wire.extend(queues[at].remove(0));
            queues.retain(|queue| !queue.is_empty());
        }
        let mut reader = ChunkReader::new(ChunkLimits::AUTHORISED);
        let read = read_all(&mut reader, &wire, split).expect("own chunks");
        // Order holds within a chunk stream; kinds don't tell them apart, so compare as sets of equals.
        prop_assert_eq!(read.len(), messages.len());
        for (_, message) in &messages {
            prop_assert!(read.contains(message), "{:?}", message);
        }
    }

    #[test]
    fn the_writer_is_read_back(
        timestamp in any_timestamp(),
        stream_id in any::<u32>(),
        prefix in vec(any::<u8>(), 0..9),
        payload in vec(any::<u8>(), 0..3000),
        chunk_bytes in 128..1000usize,
        split in 1..50usize,
    ) {
        let header = MessageHeader { chunk_stream: 6, kind: 9, stream_id, timestamp };
        let expected = [prefix.as_slice(), &payload].concat();
        let slices = ChunkWriter::new(chunk_bytes).encode(&header, &prefix, payload.into());
        let wire = [set_chunk_size(chunk_bytes), slices.concat()].concat();
        let read = read_all(&mut ChunkReader::new(ChunkLimits::SETUP), &wire, split).expect("own chunks");
        prop_assert_eq!(read, vec![Message { kind: 9, stream_id, timestamp, payload: expected.into() }]);
    }

    #[test]
    fn no_bytes_panic(data in vec(any::<u8>(), 0..2000)) {
        fuzz::rtmp_chunk(&data);
    }
}

#[test]
fn one_encoding_shares_the_payload() {
    let payload = Bytes::from(vec![7; 100_000]);
    let header = MessageHeader { chunk_stream: 6, kind: 9, stream_id: 1, timestamp: 0x0100_0000 };
    let slices = ChunkWriter::new(65_536).encode(&header, &[1, 2, 3], payload.clone());
    assert_eq!(slices.iter().map(Bytes::len).collect::<Vec<_>>(), [19, 65_533, 5, 34_467]);
    assert_eq!(slices[1].as_ptr(), payload.as_ptr());
    assert_eq!(slices[2], [0xc6, 1, 0, 0, 0].as_slice());
}

#[test]
fn type_3_after_type_0_keeps_the_time() {
    let wire = b"\x04\0\x03\xe8\0\0\x01\x08\x01\0\0\0a\xc4b\x84\0\0\x14c\xc4d";
    let times: Vec<_> = read(wire).expect("legal").iter().map(|message| message.timestamp).collect();
    assert_eq!(times, [1000, 1000, 1020, 1040]);
}

#[test]
fn times_wrap_at_32_bits() {
    let wire = b"\x04\xff\xff\xff\0\0\x01\x08\x01\0\0\0\xff\xff\xff\xf0a\x84\0\0\x20b";
    let times: Vec<_> = read(wire).expect("legal").iter().map(|message| message.timestamp).collect();
    assert_eq!(times, [0xffff_fff0, 0x10]);
}

#[test]
fn whole_messages_leave_the_assembly_budget() {
    let header = MessageHeader { chunk_stream: 4, kind: 9, stream_id: 1, timestamp: 0 };
    let message = ChunkWriter::new(128).encode(&header, &[], vec![1; 10_000].into()).concat();
    assert_eq!(read(&message.repeat(20)).map(|messages| messages.len()), Ok(20));
}

#[test]
fn abort_drops_a_partial_message() {
    let start = [b"\x04\0\0\0\0\0\xc8\x08\x01\0\0\0".as_slice(), &[1; 128]].concat();
    let abort = b"\x02\0\0\0\0\0\x04\x02\0\0\0\0\0\0\0\x04";
    let again = b"\x04\0\0\0\0\0\x01\x08\x01\0\0\0x";
    let read = read(&[start.as_slice(), abort, again].concat()).expect("legal");
    assert_eq!(read.iter().map(|message| &message.payload[..]).collect::<Vec<_>>(), [b"x"]);
}

#[test]
fn violations_are_named() {
    let start = |id: u8, length: u8| [&[id, 0, 0, 0, 0, length, 0, 8, 1, 0, 0, 0], &[1; 128][..]].concat();
    assert_eq!(read(&set_chunk_size(0)), Err(ChunkError::ChunkSize));
    assert_eq!(read(&set_chunk_size(0x8000_0000)), Err(ChunkError::ChunkSize));
    assert_eq!(read(b"\xc5"), Err(ChunkError::NoHeader(5)));
    assert_eq!(read(b"\x04\0\0\0\x00\x40\x01\x08\0\0\0\0"), Err(ChunkError::MessageTooLong(16_385)));
    let changed = [start(4, 2), start(4, 3)].concat();
    assert_eq!(read(&changed), Err(ChunkError::LengthChanged { from: 512, to: 768 }));
    let many: Vec<u8> = (3..20).flat_map(|id| start(id, 1)).collect();
    assert_eq!(read(&many), Err(ChunkError::TooManyStreams(16)));
    // Sixteen times 16 KiB promised, a third of it sent.
    let mut greedy: Vec<u8> = (3..11).flat_map(|id| start(id, 0x40)).collect();
    assert_eq!(read(&greedy), Err(ChunkError::AssemblyFull(65_536)));
    greedy.truncate(140 * 4);
    assert_eq!(read(&greedy), Ok(vec![]));
}

#[test]
fn tiny_chunks_end_after_the_allowance() {
    let mut wire = set_chunk_size(1);
    wire.extend(b"\x04\0\0\0\0\x40\0\x08\x01\0\0\0".iter());
    wire.extend(b"x\xc4".repeat(16 * 1024));
    assert_eq!(read(&wire), Err(ChunkError::TinyChunks));
    wire.truncate(4000);
    assert_eq!(read(&wire), Ok(vec![]));
    let empty_messages = [b"\x04\0\0\0\0\0\0\x08\x01\0\0\0".as_slice(), &[0xc4; 10_000]].concat();
    assert_eq!(read(&empty_messages), Err(ChunkError::TinyChunks));
}
