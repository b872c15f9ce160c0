//! What the wire formats cost: writers a frame at a time, readers over a second of a stream.

use std::{
    hint::black_box,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput};
use hawker::{
    clock::{self, Instant},
    egress::{BFrames, Egress, Playback},
    hub::{Hub, Merge, Patience, Publisher, Settings},
    media::{Codec, Frame, Item, Scalar, StreamName, TrackKind, Tracks, VideoConfig},
    proto::{
        flv::{self, FlvReader, TagBody, script, tag},
        ice::Credentials,
        moq::{
            container::{legacy_frame_head, read_legacy},
            line::{decode_item, encode_item},
            lite05::{DataEvent, DataStream, GroupHeader, frame_header},
            varint::{Reader, put_varint},
        },
        rtmp::{
            STREAM_ID, amf0,
            chunk::{ChunkLimits, ChunkReader, ChunkWriter, MessageHeader},
            encode_media,
            message::kind,
        },
        rtp::packet::Header,
        sdp,
        srtp::{Profile, Sealer},
        webrtc::Outbox,
    },
};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// Bytes of a frame.
const FRAME_BYTES: [usize; 2] = [4 * 1024, 25 * 1024];
/// Frames in what the readers read.
const FRAMES: u32 = 50;
const FRAME_US: i64 = 20_000;
/// Bytes of a packet as it is sent.
const PACKET_BYTES: usize = 1200;
/// Bytes that come with one read of a socket.
const READ_BYTES: usize = 16 * 1024;

fn main() {
    let criterion = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300));
    let mut criterion = criterion.measurement_time(Duration::from_secs(1)).configure_from_args();
    rtmp(&mut criterion);
    amf0(&mut criterion);
    flv(&mut criterion);
    moq_heads(&mut criterion);
    moq_frames(&mut criterion);
    whep(&mut criterion);
    criterion.final_summary();
}

fn rtmp(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rtmp");
    for bytes in FRAME_BYTES {
        let body = picture(bytes);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("write a message of {bytes} B"), |bencher| {
            bencher.iter(|| encode_media(STREAM_ID, 40, black_box(&body)));
        });
        // What the protocol begins with, and what OBS asks for.
        for chunk_bytes in [128, 4096] {
            let wire = chunks(&body, chunk_bytes);
            group.throughput(throughput(&wire));
            group.bench_function(format!("read messages of {bytes} B in chunks of {chunk_bytes} B"), |bencher| {
                bencher.iter(|| assert_eq!(read_chunks(black_box(&wire)), FRAMES));
            });
        }
    }
}

/// A second of messages in chunks of that size.
fn chunks(body: &TagBody, chunk_bytes: u32) -> Vec<u8> {
    let control = MessageHeader { chunk_stream: 2, kind: kind::SET_CHUNK_SIZE, stream_id: 0, timestamp: 0 };
    let announced = Bytes::copy_from_slice(&chunk_bytes.to_be_bytes());
    let mut wire = ChunkWriter::new(0).encode(&control, &[], announced).concat();
    let writer = ChunkWriter::new(usize::try_from(chunk_bytes).expect("a size"));
    for frame in 0..FRAMES {
        let kind = body.kind.into();
        let header = MessageHeader { chunk_stream: 6, kind, stream_id: STREAM_ID, timestamp: 20 * frame };
        writer.encode(&header, &body.header, body.payload.clone()).iter().for_each(|slice| wire.extend(slice));
    }
    wire
}

fn read_chunks(wire: &[u8]) -> u32 {
    let mut reader = ChunkReader::new(ChunkLimits::AUTHORISED);
    let mut messages = 0;
    for mut read in wire.chunks(READ_BYTES) {
        while let Some(message) = reader.next_message(&mut read).expect("chunks") {
            black_box(message);
            messages += 1;
        }
    }
    messages
}

/// An `onMetaData` of the length that OBS sends.
fn amf0(criterion: &mut Criterion) {
    let number = |at: u32| (format!("property{at:02}"), Scalar::Number(at.into()));
    let text = |at: u32| (format!("property{at:02}"), Scalar::String("obs-output module (libobs 29)".into()));
    let metadata = script::on_metadata(&(0..16).map(number).chain((16..20).map(text)).collect::<Vec<_>>());
    let values = amf0::decode_all(&metadata, &amf0::Limits::SETUP).expect("AMF0");
    let mut group = criterion.benchmark_group("amf0");
    group.throughput(throughput(&metadata));
    group.bench_function("decode onMetaData", |bencher| {
        bencher.iter(|| amf0::decode_all(black_box(&metadata), &amf0::Limits::SETUP));
    });
    group.bench_function("encode onMetaData", |bencher| {
        bencher.iter(|| {
            let mut out = BytesMut::with_capacity(metadata.len());
            amf0::encode_all(black_box(&values), &mut out);
            out
        });
    });
}

fn flv(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flv");
    for bytes in FRAME_BYTES {
        let body = picture(bytes);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("write a tag of {bytes} B"), |bencher| {
            bencher.iter(|| flv::encode_tag(40, black_box(&body)));
        });
        let mut wire = flv::header(true, false).to_vec();
        (0..FRAMES).for_each(|frame| wire.extend(flv::encode_tag(20 * frame, &body).concat()));
        group.throughput(throughput(&wire));
        group.bench_function(format!("read tags of {bytes} B"), |bencher| {
            bencher.iter(|| assert_eq!(read_tags(black_box(&wire)), FRAMES));
        });
    }
}

fn read_tags(wire: &[u8]) -> u32 {
    let mut reader = FlvReader::new();
    let mut tags = 0;
    for read in wire.chunks(READ_BYTES) {
        reader.handle_bytes(read).expect("tags");
        while let Some(found) = reader.poll_tag() {
            black_box(tag::parse(found.kind, found.body)).expect("a picture");
            tags += 1;
        }
    }
    tags
}

fn moq_heads(criterion: &mut Criterion) {
    // One of each length, as often.
    let values: Vec<u64> = [7, 4100, 40_000, 1_763_800_000_000_000].repeat(250);
    let mut wire = Vec::new();
    values.iter().for_each(|value| put_varint(&mut wire, *value));
    let mut group = criterion.benchmark_group("moq heads");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("write 1000 varints", |bencher| {
        bencher.iter(|| {
            let mut out = Vec::with_capacity(wire.len());
            black_box(&values).iter().for_each(|value| put_varint(&mut out, *value));
            out
        });
    });
    group.bench_function("read 1000 varints", |bencher| {
        bencher.iter(|| {
            let mut reader = Reader::new(black_box(&wire));
            (0..values.len()).map(|_| reader.varint().expect("a varint")).fold(0, u64::wrapping_add)
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("group header", |bencher| {
        let header = GroupHeader { subscribe: 3, sequence: 1_763_800_000_000 };
        bencher.iter(|| black_box(header).to_stream());
    });
    group.bench_function("frame header", |bencher| {
        bencher.iter(|| {
            let mut out = Vec::with_capacity(8);
            frame_header(&mut out, black_box(FRAME_US), 4096);
            out
        });
    });
    group.bench_function("frame header and legacy container", |bencher| {
        bencher.iter(|| legacy_frame_head(FRAME_US, black_box(1_763_800_000_000_000), 4096));
    });
}

/// What a reader of a group does, and what an edge and its origin do with each item between them.
fn moq_frames(criterion: &mut Criterion) {
    let source: StreamName = "live/room".parse().expect("a name");
    let mut group = criterion.benchmark_group("moq frames");
    for bytes in FRAME_BYTES {
        let payload = Bytes::from(vec![7; bytes]);
        let mut wire = GroupHeader { subscribe: 3, sequence: 1 }.to_stream();
        for frame in 0..i64::from(FRAMES) {
            wire.extend(legacy_frame_head(FRAME_US, frame * FRAME_US, bytes));
            wire.extend(&payload);
        }
        group.throughput(throughput(&wire));
        group.bench_function(format!("read a group of frames of {bytes} B"), |bencher| {
            bencher.iter(|| assert_eq!(read_group(black_box(&wire)), FRAMES));
        });

        let dts_us = 1_763_800_000_000_000;
        let frame = Frame { track: TrackKind::Video, dts_us, pts_us: dts_us + FRAME_US, keyframe: true, data: payload };
        let item = Item::Frame(frame);
        let mut line = Vec::new();
        let tail = encode_item(&item, &source, &mut line);
        let line = Bytes::from([line.as_slice(), &tail].concat());
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("write a line item of {bytes} B"), |bencher| {
            bencher.iter(|| {
                let mut out = Vec::with_capacity(24);
                (encode_item(black_box(&item), &source, &mut out), out)
            });
        });
        group.bench_function(format!("read a line item of {bytes} B"), |bencher| {
            bencher.iter(|| decode_item(black_box(&line)));
        });
    }
}

fn read_group(wire: &[u8]) -> u32 {
    let mut stream = DataStream::default();
    let mut frames = 0;
    for read in wire.chunks(READ_BYTES) {
        stream.handle_chunk(read);
        while let Some(event) = stream.poll_event().expect("a group") {
            if let DataEvent::Frame { payload, .. } = event {
                black_box(read_legacy(payload)).expect("a container");
                frames += 1;
            }
        }
    }
    frames
}

/// A viewer's share of a picture, a packet: to read it from the line, its header, and its seal; and the seal alone.
fn whep(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("whep");
    group.throughput(Throughput::Elements(1));
    let (mut sealer, mut packet, mut sequence) = (sealer(), Vec::new(), 0u16);
    group.bench_function("seal a packet of 1200 B", |bencher| {
        bencher.iter(|| {
            sequence = sequence.wrapping_add(1);
            packet.clear();
            Header { marker: false, payload_type: 96, sequence, timestamp: 0, ssrc: 1 }.write(&[], &mut packet);
            packet.resize(PACKET_BYTES - 16, 7);
            sealer.seal_rtp(black_box(&mut packet), 0, 12)
        });
    });
    let mut watching = Watching::new();
    group.bench_function("send a packet of 1200 B", |bencher| bencher.iter_custom(|packets| watching.send(packets)));
}

fn sealer() -> Sealer {
    Sealer::new(Profile::Aes128Gcm, &[7; 16], &[8; 12]).expect("keys")
}

/// A stream of pictures, and one who watches it.
struct Watching {
    runtime: Runtime,
    publisher: Publisher,
    playback: Playback,
    sealer: Sealer,
    now: Instant,
    pictures: i64,
}

impl Watching {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let entered = runtime.enter();
        let (settings, merge) = (Settings::default(), Merge { audio: Duration::ZERO, all: Duration::ZERO });
        let egress = Egress::new(&settings, Patience::new(Duration::MAX), merge, CancellationToken::new(), None);
        let (hub, name) = (Hub::new(settings, None), "live/room".parse().expect("a name"));
        let mut publisher = hub.publish(&name).expect("slot");
        let video = VideoConfig { codec: Codec::Vp8, description: Bytes::new(), width: 1280, height: 720 };
        publisher.set_tracks(Tracks { video: Some(video), ..Tracks::default() }).expect("current");
        let viewer = hub.view(&name).expect("room");
        let playback = Playback::join(&egress, viewer, &whep_terms(), "cname".into(), BFrames::Refuse);
        drop(entered);
        Self { runtime, publisher, playback, sealer: sealer(), now: clock::now(), pictures: 0 }
    }

    /// How long it takes to send so many packets.
    fn send(&mut self, packets: u64) -> Duration {
        let (mut sent, mut took, mut outbox) = (0, Duration::ZERO, Outbox::default());
        while sent < packets {
            let dts_us = self.pictures * FRAME_US;
            let keyframe = self.pictures % i64::from(FRAMES) == 0;
            let data = Bytes::from(vec![7; 25 * 1024]);
            let frame = Frame { track: TrackKind::Video, dts_us, pts_us: dts_us, keyframe, data };
            self.publisher.push_frame(frame).expect("current");
            self.pictures += 1;
            self.now += Duration::from_millis(20);
            // The muxer's turn.
            self.runtime.block_on(async { tokio::task::yield_now().await });
            let mut context = Context::from_waker(Waker::noop());
            let began = clock::now();
            let taken = self.playback.poll_take(&mut context, self.now, &mut self.sealer, 64, &mut outbox);
            took += began.elapsed();
            assert!(matches!(taken, Poll::Pending | Poll::Ready(Ok(()))));
            sent += u64::try_from(black_box(&outbox).packets().count()).expect("a count");
            outbox.clear();
        }
        took.mul_f64(packets as f64 / sent as f64)
    }
}

fn whep_terms() -> sdp::Terms {
    let video = sdp::Track {
        mid: "0".into(),
        codec: Codec::Vp8,
        payload_type: 96,
        rtx: Some(97),
        clock_rate_hz: 90_000,
        channels: 1,
        fmtp: String::new(),
        feedback: sdp::Feedback { nack: true, transport_cc: true, ..sdp::Feedback::default() },
        extensions: sdp::Extensions { transport_cc: Some(5), ..sdp::Extensions::default() },
        ssrcs: vec![1],
        rtx_ssrcs: vec![(1, 2)],
        rids: Vec::new(),
    };
    let transport = sdp::Transport {
        ice: Credentials::random(),
        ice_lite: false,
        fingerprint: sdp::Fingerprint::of(sdp::HashFunction::Sha256, b"certificate"),
        setup: sdp::Setup::Active,
        candidates: Vec::new(),
    };
    sdp::Terms { transport, tracks: vec![video], data: None }
}

fn picture(bytes: usize) -> TagBody {
    TagBody::video_frame(Codec::Avc, true, 40, vec![7; bytes].into())
}

fn throughput(wire: &[u8]) -> Throughput {
    Throughput::Bytes(u64::try_from(wire.len()).expect("a length"))
}
