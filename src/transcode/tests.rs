mod heard;

use std::f64::consts::TAU;

use bytes::Bytes;

use super::{
    codec::{CodecError, Decode},
    convert::{Codecs, Converter},
    sound::Sound,
    *,
};
use crate::{
    clock,
    hub::{Cursor, Hub, Mux, Out, Publisher, Read, Ring},
    limits,
    media::{AudioConfig, Frame, Head, TrackKind, Tracks, VideoConfig},
};

/// Passes everything on, for viewers who take one codec.
struct Taking(Option<Codec>);

impl Mux for Taking {
    type Out = Item;

    fn sound(&self, _: &Tracks) -> Option<Codec> {
        self.0
    }

    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, Item>) {
        out.push(item, group);
    }
}

struct Node {
    publisher: Publisher,
    metrics: Arc<Metrics>,
    transcoders: Arc<Transcoders>,
    settings: Settings,
    /// Opus of a tone, 20 ms each.
    packets: Vec<Bytes>,
}

fn name() -> StreamName {
    "live/room".parse().expect("name")
}

impl Node {
    fn start() -> Self {
        let settings = Settings::default();
        let metrics = Metrics::new(0, true);
        let publisher = Hub::new(settings.clone(), None).publish(&name()).expect("slot");
        let transcoders =
            Transcoders::on(vec![Handle::current()], &settings, metrics.clone(), CancellationToken::new());
        let mut encoder = codec::encoder(Codec::Opus, 1).expect("made");
        let tone = |nth: usize| (TAU * 440.0 * nth as f64 / 48_000.0).sin() as f32 * 0.5;
        let packet = |nth: usize| encoder.encode(&(nth * 960..(nth + 1) * 960).map(tone).collect::<Vec<_>>());
        let packets = (0usize..200).map(packet).collect::<Result<_, _>>().expect("encodes");
        Self { publisher, metrics, transcoders, settings, packets }
    }

    /// A shard's muxers.
    fn pool(&self) -> Pool<u8, Item> {
        let bounds = Bounds { bytes_max: 1 << 20, groups_max: 3 };
        let merge = Merge { audio: Duration::ZERO, all: Duration::ZERO };
        let transcode = Some(Arc::clone(&self.transcoders) as Arc<dyn Transcode>);
        let stop = CancellationToken::new();
        Pool::new(Terms { bounds, linger: self.settings.linger, merge, stop, transcode, history: false })
    }

    fn set_sound(&mut self, codec: Codec, description: &'static [u8]) {
        let description = Bytes::from_static(description);
        let video = VideoConfig { codec: Codec::Avc, description: Bytes::new(), width: 320, height: 180 };
        let audio = AudioConfig::from_description(codec, description);
        let tracks = Tracks { video: Some(video), audio: Some(audio), ..Tracks::default() };
        self.publisher.set_tracks(tracks).expect("current");
    }

    /// 20 ms of both: a picture and an Opus packet, with a data message beside each tenth.
    fn push(&mut self, nth: usize) {
        let us = nth as i64 * 20_000;
        let frame = |track, keyframe, data| Frame { track, dts_us: us, pts_us: us, keyframe, data };
        let picture = Bytes::from(nth.to_be_bytes().to_vec());
        self.publisher.push_frame(frame(TrackKind::Video, nth.is_multiple_of(50), picture)).expect("current");
        if nth.is_multiple_of(10) {
            self.publisher.push_data(Bytes::from(nth.to_be_bytes().to_vec())).expect("current");
        }
        let sound = self.packets[nth % self.packets.len()].clone();
        self.publisher.push_frame(frame(TrackKind::Audio, false, sound)).expect("current");
    }

    fn running(&self) -> bool {
        self.metrics.render().lines().any(|line| line == "hawker_transcoders 1")
    }

    fn errors(&self) -> u64 {
        self.metrics.transcode_errors.get()
    }
}

/// What is there for a reader, once nobody has anything to do.
async fn read(cursor: &mut Cursor<Item>) -> Vec<(Item, u64)> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    let entry = |read| match read {
        Read::Entry { entry, group } => (entry, group),
        Read::Skipped { frames } => panic!("{frames} frames skipped"),
    };
    std::iter::from_fn(|| cursor.try_recv().ok().flatten()).map(entry).collect()
}

fn codecs(line: &[(Item, u64)]) -> Vec<Option<Codec>> {
    let told = line.iter().filter_map(|(item, _)| match item {
        Item::Head(head) => Some(head.tracks.audio.as_ref().map(|audio| audio.codec)),
        _ => None,
    });
    told.collect()
}

fn frames(line: &[(Item, u64)], track: TrackKind) -> Vec<&Frame> {
    let frames = line.iter().filter_map(|(item, _)| match item {
        Item::Frame(frame) if frame.track == track => Some(frame),
        _ => None,
    });
    frames.collect()
}

/// The numbers that pictures and data carry, in their order.
fn numbers(line: &[(Item, u64)]) -> (Vec<usize>, Vec<usize>) {
    let number = |bytes: &Bytes| usize::from_be_bytes(bytes.as_ref().try_into().expect("a number"));
    let data = line.iter().filter_map(|(item, _)| match item {
        Item::Data(data) => Some(number(&data.amf0)),
        _ => None,
    });
    (frames(line, TrackKind::Video).iter().map(|frame| number(&frame.data)).collect(), data.collect())
}

#[tokio::test(start_paused = true)]
async fn ten_shards_share_one_conversion_which_ends_after_the_last() {
    let mut node = Node::start();
    node.set_sound(Codec::Opus, b"");
    (0..75).for_each(|nth| node.push(nth));
    let pools: Vec<_> = (0..10).map(|_| node.pool()).collect();
    let taking = |pool: &Pool<u8, Item>| pool.attach(0, node.publisher.stream(), || Taking(Some(Codec::Aac)));
    let muxed: Vec<_> = pools.iter().map(taking).collect();
    let mut cursors: Vec<_> = muxed.iter().map(|muxed| muxed.cursor(None)).collect();
    // The conversion begins when a muxer has seen the head.
    tokio::time::sleep(Duration::from_millis(1)).await;
    (75..150).for_each(|nth| node.push(nth));
    for cursor in &mut cursors {
        let line = read(cursor).await;
        assert_eq!(codecs(&line), [Some(Codec::Aac)]);
        // It may begin at either of the two keyframes that are held.
        let first = numbers(&line).0[0];
        assert!(first == 50 || first == 100);
        assert_eq!(numbers(&line).0, (first..150).collect::<Vec<_>>());
        let sound = frames(&line, TrackKind::Audio);
        let expected = (150 - first) * 960 / 1024;
        assert!((expected - 3..=expected + 1).contains(&sound.len()), "{} of {expected}", sound.len());
        assert!(sound.windows(2).all(|pair| (21_000..22_000).contains(&(pair[1].dts_us - pair[0].dts_us))));
        let groups: Vec<_> = line.iter().filter(|(item, _)| item.dts_us().is_some()).map(|(_, group)| group).collect();
        assert!(groups.is_sorted());
    }
    assert!(node.running());
    assert_eq!(node.transcoders.pool.users(&(name(), Codec::Aac)), 10);
    drop(muxed);
    tokio::time::sleep(node.settings.linger * 3).await;
    assert!(!node.running());
    assert_eq!(node.errors(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_sound_fits_is_not_converted() {
    let mut node = Node::start();
    node.set_sound(Codec::Opus, b"");
    node.push(0);
    let pool = node.pool();
    for (key, taken) in [(0, None), (1, Some(Codec::Opus))] {
        let muxed = pool.attach(key, node.publisher.stream(), || Taking(taken));
        let line = read(&mut muxed.cursor(None)).await;
        assert_eq!(frames(&line, TrackKind::Audio)[0].data, node.packets[0]);
        assert!(!node.running());
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_codec_changes_under_a_viewer_nothing_is_lost_and_nothing_comes_again() {
    let mut node = Node::start();
    node.set_sound(Codec::Aac, &[0x11, 0x90]);
    let pool = node.pool();
    let muxed = pool.attach(0, node.publisher.stream(), || Taking(Some(Codec::Aac)));
    let mut cursor = muxed.cursor(None);
    (0..70).for_each(|nth| node.push(nth));
    let mut line = read(&mut cursor).await;
    assert!(!node.running());
    node.set_sound(Codec::Opus, b"");
    for nth in 70..170 {
        node.push(nth);
        line.extend(read(&mut cursor).await);
    }
    assert!(node.running());
    let first = numbers(&line).0[0];
    assert_eq!(numbers(&line), ((first..170).collect(), (first..170).filter(|nth| nth.is_multiple_of(10)).collect()));
    let (told, sound) = (codecs(&line), frames(&line, TrackKind::Audio));
    assert!(told.len() > 1 && told.iter().all(|codec| *codec == Some(Codec::Aac)), "{told:?}");
    assert!(sound.is_sorted_by(|a, b| a.dts_us < b.dts_us));
    assert!(sound.len() > 70 - first + 85, "{}", sound.len());
}

#[tokio::test(start_paused = true)]
async fn sound_alone_keeps_its_groups() {
    let mut node = Node::start();
    let audio = AudioConfig::from_description(Codec::Opus, Bytes::new());
    node.publisher.set_tracks(Tracks { audio: Some(audio), ..Tracks::default() }).expect("current");
    let pool = node.pool();
    let muxed = pool.attach(0, node.publisher.stream(), || Taking(Some(Codec::Aac)));
    let mut cursor = muxed.cursor(None);
    let mut line = Vec::new();
    for nth in 0..200 {
        let us = i64::try_from(nth).expect("small") * 20_000;
        let data = node.packets[nth].clone();
        let frame = Frame { track: TrackKind::Audio, dts_us: us, pts_us: us, keyframe: false, data };
        node.publisher.push_frame(frame).expect("current");
        line.extend(read(&mut cursor).await);
    }
    let starts: Vec<_> =
        frames(&line, TrackKind::Audio).iter().filter(|frame| frame.keyframe).map(|f| f.dts_us).collect();
    assert!(starts.len() >= 4, "{starts:?}");
    // Groups begin with the seconds of the timeline, so the first is what was left of one.
    let mut lengths = starts[1..].windows(2).map(|pair| pair[1] - pair[0]);
    assert!(lengths.all(|us| (900_000..1_100_000).contains(&us)), "{starts:?}");
    let mut groups: Vec<_> = line.iter().filter(|(item, _)| item.dts_us().is_some()).map(|(_, group)| *group).collect();
    groups.dedup();
    assert_eq!(groups.len(), starts.len());
}

#[tokio::test(start_paused = true)]
async fn sound_that_cannot_be_decoded_is_left_out_and_the_pictures_go_on() {
    let mut node = Node::start();
    node.set_sound(Codec::Opus, b"OpusHead\x01\x06\x38\x01\x80\xbb\0\0\0\0\x01");
    let pool = node.pool();
    let muxed = pool.attach(0, node.publisher.stream(), || Taking(Some(Codec::Aac)));
    let mut cursor = muxed.cursor(None);
    (0..20).for_each(|nth| node.push(nth));
    let line = read(&mut cursor).await;
    assert_eq!((codecs(&line), frames(&line, TrackKind::Audio).len(), node.errors()), (vec![None], 0, 1));
    assert_eq!(numbers(&line).0, (0..20).collect::<Vec<_>>());
}

/// A codec with a fault.
struct Panics;

impl Decode for Panics {
    fn decode(&mut self, _: &[u8], _: &mut Vec<f32>) -> Result<u32, CodecError> {
        panic!("a codec's fault");
    }

    fn conceal(&mut self, _: u64, _: &mut Vec<f32>) -> bool {
        false
    }
}

#[tokio::test]
async fn a_codec_that_panics_ends_neither_the_stream_nor_at_first_the_sound() {
    let metrics = Metrics::new(0, true);
    let mut mux = SoundMux::new(name(), Codec::Aac, metrics.clone());
    let ring = Ring::new(Bounds { bytes_max: 1 << 20, groups_max: 3 });
    let out = Out::new(&ring, clock::now());
    let audio = AudioConfig::from_description(Codec::Opus, Bytes::new());
    let tracks = Tracks { audio: Some(audio), ..Tracks::default() };
    mux.handle_item(Item::Head(Head::of(tracks.into())), 1, &out);
    let open = || -> Result<Codecs, CodecError> { Ok((Box::new(Panics), codec::encoder(Codec::Aac, 1)?)) };
    for panics in 1..=limits::TRANSCODE_PANICS_MAX {
        mux.sound = Sound::Converted(Box::new(Converter::with(1, Box::new(open)).expect("made")));
        let frame = Frame { track: TrackKind::Audio, dts_us: 0, pts_us: 0, keyframe: true, data: Bytes::new() };
        mux.handle_item(Item::Frame(frame), 1, &out);
        assert_eq!(matches!(mux.sound, Sound::LeftOut), panics == limits::TRANSCODE_PANICS_MAX);
        assert_eq!(metrics.transcode_errors.get(), u64::from(panics));
    }
    let Some(Item::Head(head)) = ring.head() else { panic!("a head") };
    assert_eq!(head.tracks.audio, None);
}
