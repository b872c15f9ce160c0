use std::collections::{BTreeMap, HashMap};

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use proptest::prelude::*;

use super::*;
use crate::{
    clock,
    hub::{Cursor, Hub, Read, Settings},
    media::{Item, VideoConfig, codec::parameter_sets::parameter_sets},
    proto::{
        ice::Credentials,
        rtp::{
            ntp,
            packet::Header,
            payload::{Depacketiser, Packetiser},
            rtcp::{SenderInfo, write_sender_report},
        },
        sdp::{self, Extensions, Fingerprint, HashFunction, Setup, Transport},
    },
};

const INTERVAL: Duration = Duration::from_secs(2);
const PICTURE_US: i64 = 40_000;
const SOUND_US: i64 = 20_000;
const VIDEO_SSRC: u32 = 0x1111_1111;
const RTX_SSRC: u32 = 0x2222_2222;
const AUDIO_SSRC: u32 = 0x3333_3333;
const IDS: Extensions =
    Extensions { mid: Some(1), rid: Some(2), repaired_rid: Some(3), transport_cc: Some(4), abs_capture_time: Some(5) };

fn video() -> sdp::Track {
    sdp::Track {
        mid: "v".into(),
        codec: Codec::Avc,
        payload_type: 96,
        rtx: Some(97),
        clock_rate_hz: 90_000,
        channels: 1,
        fmtp: String::new(),
        feedback: sdp::Feedback { nack: true, pli: true, fir: false, transport_cc: true },
        extensions: IDS,
        ssrcs: Vec::new(),
        rtx_ssrcs: vec![(VIDEO_SSRC, RTX_SSRC)],
        rids: Vec::new(),
    }
}

fn audio() -> sdp::Track {
    sdp::Track {
        mid: "a".into(),
        codec: Codec::Opus,
        payload_type: 111,
        rtx: None,
        clock_rate_hz: 48_000,
        channels: 2,
        feedback: sdp::Feedback::default(),
        rtx_ssrcs: Vec::new(),
        ..video()
    }
}

fn terms(tracks: Vec<sdp::Track>) -> Terms {
    let transport = Transport {
        ice: Credentials { ufrag: "ufrag".into(), pwd: "password".into() },
        ice_lite: false,
        fingerprint: Fingerprint { function: HashFunction::Sha256, digest: vec![0; 32] },
        setup: Setup::Active,
        candidates: Vec::new(),
    };
    Terms { transport, tracks, data: None }
}

/// Two groups of four pictures, as x264 made them.
fn pictures() -> (VideoConfig, Vec<(bool, Bytes)>) {
    let mut depacketiser = Depacketiser::new(Codec::Avc);
    let mut rest: &[u8] = include_bytes!("../../../tests/data/rtp/h264.rtp");
    while let Some((length, after)) = rest.split_first_chunk() {
        let (packet, after) = after.split_at(u16::from_be_bytes(*length).into());
        rest = after;
        let packet = Packet::parse(packet).unwrap();
        depacketiser.handle_packet(packet.header.timestamp, packet.header.marker, packet.payload).unwrap();
    }
    let units: Vec<_> = std::iter::from_fn(|| depacketiser.poll_unit()).collect();
    let config = units[0].config.clone().unwrap();
    (config, units.into_iter().map(|unit| (unit.keyframe, unit.data)).collect())
}

/// What sends packets. Its counters wrap soon after the start.
struct Source {
    header: Header,
    first_timestamp: u32,
    ticks_per_s: f64,
    extensions: Vec<(u8, Vec<u8>)>,
    packetiser: Packetiser,
    config: VideoConfig,
    pictures: Vec<(bool, Bytes)>,
    /// Transport-wide numbers.
    number: Option<u16>,
}

impl Source {
    fn new(payload_type: u8, ssrc: u32, clock_rate_hz: u32) -> Self {
        let (config, pictures) = pictures();
        Self {
            header: Header { marker: false, payload_type, sequence: 65_500, timestamp: 0, ssrc },
            first_timestamp: u32::MAX - clock_rate_hz,
            ticks_per_s: clock_rate_hz.into(),
            extensions: Vec::new(),
            packetiser: Packetiser::new(Codec::Avc, 100),
            config,
            pictures,
            number: None,
        }
    }

    fn video() -> Self {
        Self::new(96, VIDEO_SSRC, 90_000)
    }

    fn audio() -> Self {
        Self::new(111, AUDIO_SSRC, 48_000)
    }

    fn timestamp(&self, media_us: i64) -> u32 {
        let ticks = (media_us as f64 * self.ticks_per_s / 1e6).round() as i64;
        self.first_timestamp.wrapping_add(ticks as u32)
    }

    fn packets(&mut self, media_us: i64, payloads: &[&[u8]]) -> Vec<Vec<u8>> {
        self.header.timestamp = self.timestamp(media_us);
        let last = payloads.len() - 1;
        let packet = |(place, payload): (usize, &&[u8])| {
            self.header.marker = place == last;
            let number = self.number.map(u16::to_be_bytes);
            let extensions = self.extensions.iter().map(|(id, value)| (*id, value.as_slice()));
            let extensions = extensions.chain(number.as_ref().map(|number| (4, number.as_slice())));
            let mut out = Vec::new();
            self.header.write(&extensions.collect::<Vec<_>>(), &mut out);
            out.extend_from_slice(payload);
            self.header.sequence = self.header.sequence.wrapping_add(1);
            self.number = self.number.map(|number| number.wrapping_add(1));
            out
        };
        payloads.iter().enumerate().map(packet).collect()
    }

    /// The picture at this place of the two groups.
    fn picture(&mut self, media_us: i64, place: usize) -> Vec<Vec<u8>> {
        let (keyframe, data) = self.pictures[place % 8].clone();
        let payloads = self.packetiser.packetise(&self.config, keyframe, &data);
        self.packets(media_us, &payloads.iter().collect::<Vec<_>>())
    }

    fn sound(&mut self, media_us: i64, place: u32) -> Vec<u8> {
        self.packets(media_us, &[&place.to_be_bytes()]).remove(0)
    }

    fn sender_report(&self, media_us: i64, unix_us: i64) -> Vec<u8> {
        let ntp = ntp::from_unix_us(unix_us);
        let info = SenderInfo { ntp, timestamp: self.timestamp(media_us), packets: 0, octets: 0 };
        let mut out = Vec::new();
        write_sender_report(&mut out, self.header.ssrc, &info, &[]);
        out
    }
}

enum Datagram {
    Rtp(Vec<u8>),
    Rtcp(Vec<u8>),
}

/// A publisher's session in a hub, and the network before it, in a time of its own: microseconds since the start.
struct World {
    ingest: RtpIngest,
    cursor: Cursor<Item>,
    start: Instant,
    now_us: i64,
    queue: BTreeMap<(i64, usize), Datagram>,
    queued: usize,
    sent: HashMap<(u32, u16), Vec<u8>>,
    /// NACKs are answered after this.
    answers_after_us: Option<i64>,
    rtx: Header,
    frames: Vec<Frame>,
    heads: Vec<Tracks>,
    told: Vec<(i64, Rtcp)>,
}

impl World {
    fn new(tracks: Vec<sdp::Track>) -> Self {
        let publisher = Hub::new(Settings::default(), None).publish(&"live/room".parse().unwrap()).unwrap();
        let cursor = publisher.stream().ring().cursor(None);
        let start = clock::now();
        Self {
            ingest: RtpIngest::new(publisher, terms(tracks), INTERVAL, start),
            cursor,
            start,
            now_us: 0,
            queue: BTreeMap::new(),
            queued: 0,
            sent: HashMap::new(),
            answers_after_us: None,
            rtx: Header { marker: false, payload_type: 97, sequence: 0, timestamp: 0, ssrc: RTX_SSRC },
            frames: Vec::new(),
            heads: Vec::new(),
            told: Vec::new(),
        }
    }

    fn both() -> Self {
        Self::new(vec![video(), audio()])
    }

    /// The packet is sent, and lost on its way.
    fn lose(&mut self, packet: &[u8]) {
        let header = Packet::parse(packet).unwrap().header;
        self.sent.insert((header.ssrc, header.sequence), packet.to_vec());
    }

    fn send(&mut self, at_us: i64, packet: Vec<u8>) {
        self.lose(&packet);
        self.queue(at_us, Datagram::Rtp(packet));
    }

    fn send_all(&mut self, at_us: i64, packets: Vec<Vec<u8>>) {
        packets.into_iter().for_each(|packet| self.send(at_us, packet));
    }

    fn queue(&mut self, at_us: i64, datagram: Datagram) {
        self.queued += 1;
        self.queue.insert((at_us, self.queued), datagram);
    }

    /// Time passes, datagrams arrive, and what is due is done: at its time, and not again at once.
    fn run(&mut self, until_us: i64) {
        let mut done = None;
        loop {
            let due = self.ingest.poll_timeout();
            let due_us = due.map(|due| i64::try_from((due - self.start).as_nanos().div_ceil(1000)).unwrap());
            let arrival_us = self.queue.first_key_value().map(|((at_us, _), _)| *at_us);
            let Some(next_us) = due_us.into_iter().chain(arrival_us).min().filter(|next_us| *next_us <= until_us)
            else {
                break;
            };
            self.now_us = self.now_us.max(next_us);
            if arrival_us == Some(next_us) {
                match self.queue.pop_first().unwrap().1 {
                    Datagram::Rtp(packet) => self.ingest.handle_rtp(self.now(), &packet).unwrap(),
                    Datagram::Rtcp(packet) => self.ingest.handle_rtcp(self.now(), &packet),
                }
            } else {
                assert!(done.replace(next_us) != Some(next_us), "still due at {next_us} after all was done");
                self.ingest.handle_timeout(self.now()).unwrap();
            }
            self.read();
        }
        self.now_us = self.now_us.max(until_us);
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_micros(self.now_us.cast_unsigned())
    }

    fn read(&mut self) {
        while let Ok(Some(Read::Entry { entry, .. })) = self.cursor.try_recv() {
            match entry {
                Item::Frame(frame) => self.frames.push(frame),
                Item::Head(head) => self.heads.push(Tracks::clone(&head.tracks)),
                _ => {}
            }
        }
        while let Some(compound) = self.ingest.poll_feedback(self.now()) {
            assert!(compound.len() <= 1200, "{}", compound.len());
            let packets = rtcp::parse(&compound).unwrap();
            assert!(matches!(packets[..], [Rtcp::ReceiverReport { .. }, Rtcp::Other, ..]), "{packets:?}");
            for packet in packets {
                if let (Rtcp::Nack { media_ssrc, lost }, Some(after_us)) = (&packet, self.answers_after_us) {
                    lost.iter().for_each(|sequence| self.answer(*media_ssrc, *sequence, self.now_us + after_us));
                }
                self.told.push((self.now_us, packet));
            }
        }
    }

    /// RFC 4588, if the source has a number for it.
    fn answer(&mut self, ssrc: u32, sequence: u16, at_us: i64) {
        let Some(packet) = self.sent.get(&(ssrc, sequence)).cloned() else { return };
        let original = Packet::parse(&packet).unwrap();
        if original.header.payload_type != 96 || self.rtx.ssrc == 0 {
            return self.queue(at_us, Datagram::Rtp(packet));
        }
        let Header { timestamp, marker, .. } = original.header;
        self.rtx = Header { timestamp, marker, sequence: self.rtx.sequence.wrapping_add(1), ..self.rtx };
        let mut out = Vec::new();
        self.rtx.write(&[], &mut out);
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(original.payload);
        self.queue(at_us, Datagram::Rtp(out));
    }

    fn pictures(&self) -> Vec<&Frame> {
        self.frames.iter().filter(|frame| frame.track == TrackKind::Video).collect()
    }

    fn sounds(&self) -> Vec<&Frame> {
        self.frames.iter().filter(|frame| frame.track == TrackKind::Audio).collect()
    }

    /// When keyframes of this source were asked for, since a time.
    fn keyframe_requests(&self, ssrc: u32, since_us: i64) -> Vec<i64> {
        let asked = |(at_us, packet): &(i64, Rtcp)| match packet {
            Rtcp::Pli { media_ssrc } | Rtcp::Fir { media_ssrc, .. } if *media_ssrc == ssrc => Some(*at_us),
            _ => None,
        };
        self.told.iter().filter_map(asked).filter(|at_us| *at_us >= since_us).collect()
    }

    /// Each picture is one of the source's, whole, and follows the one that it needs.
    fn assert_decodable(&self) {
        let (_, known) = pictures();
        let mut before = None;
        for frame in self.pictures() {
            let place = known.iter().position(|(_, data)| *data == frame.data).expect("a picture as it was sent");
            assert_eq!(frame.keyframe, place % 4 == 0);
            // A group may go on with its later pictures over and over.
            let follows = before == Some(place.wrapping_sub(1)) || place % 4 == 1 && before == Some(place + 2);
            assert!(frame.keyframe || follows, "{place} after {before:?}");
            before = Some(place);
        }
    }
}

/// Numbers that look like chance, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn steps(frames: &[&Frame]) -> Vec<i64> {
    frames.windows(2).map(|pair| pair[1].pts_us - pair[0].pts_us).collect()
}

#[test]
fn picture_and_sound_enter_the_line_as_they_were_sent() {
    let mut world = World::both();
    let (mut camera, mut microphone) = (Source::video(), Source::audio());
    for place in 0..100 {
        let at_us = i64::from(place) * PICTURE_US;
        world.send_all(at_us, camera.picture(at_us, place as usize));
        for sound in [2 * place, 2 * place + 1] {
            let at_us = i64::from(sound) * SOUND_US;
            world.send(at_us, microphone.sound(at_us, sound));
        }
    }
    world.run(4_100_000);
    let (_, known) = pictures();
    let sent: Vec<_> = known.iter().cycle().take(100).cloned().collect();
    let came: Vec<_> = world.pictures().iter().map(|frame| (frame.keyframe, frame.data.clone())).collect();
    assert_eq!(came, sent);
    let numbers: Vec<_> =
        world.sounds().iter().map(|frame| u32::from_be_bytes(frame.data[..].try_into().unwrap())).collect();
    assert_eq!(numbers, (numbers[0]..200).collect::<Vec<_>>());
    assert!(numbers[0] < 3, "{numbers:?}");
    // Timestamps wrap after a second of both, sequence numbers earlier.
    assert!(steps(&world.pictures()).iter().all(|step| *step == PICTURE_US));
    assert!(steps(&world.sounds()).iter().all(|step| *step == SOUND_US));
    let tracks = world.heads.last().unwrap();
    assert_eq!((tracks.video.as_ref(), world.ingest.codecs().as_str()), (Some(&camera.config), "h264+opus"));
    assert_eq!(tracks.audio.as_ref().map(|audio| (audio.sample_rate, audio.channels)), Some((48_000, 2)));
    let counters = world.ingest.counters();
    assert_eq!(
        counters,
        Counters {
            video_frames: 100,
            audio_frames: counters.audio_frames,
            bytes: counters.bytes,
            ..Counters::default()
        }
    );
}

/// Pictures for ten seconds; of a hundred packets five are lost.
fn lossy(world: &mut World) -> u64 {
    let mut camera = Source::video();
    let (mut dice, mut lost) = (Dice(1), 0);
    for place in 0..250i64 {
        let at_us = place * PICTURE_US;
        for packet in camera.picture(at_us, place as usize) {
            match dice.below(20) {
                // The first packet is the first that is known of.
                0 if place > 0 => {
                    world.lose(&packet);
                    lost += 1;
                }
                _ => world.send(at_us, packet),
            }
        }
    }
    // The last pictures' holes are seen by what comes after.
    world.send_all(10_000_000, camera.picture(10_000_000, 0));
    world.run(11_000_000);
    lost
}

#[test]
fn lost_packets_are_asked_for_and_no_picture_is_missing() {
    for (rtx, answers_after_us) in [(true, 20_000), (true, 90_000), (false, 30_000)] {
        let mut world = World::new(vec![sdp::Track { rtx: rtx.then_some(97), ..video() }]);
        world.answers_after_us = Some(answers_after_us);
        if !rtx {
            world.rtx.ssrc = 0;
        }
        let lost = lossy(&mut world);
        let counters = world.ingest.counters();
        assert_eq!((counters.video_frames, counters.lost), (251, 0), "{rtx} {answers_after_us}");
        assert!(lost > 20 && counters.recovered >= lost, "{lost} {counters:?}");
        world.assert_decodable();
        assert_eq!(world.keyframe_requests(VIDEO_SSRC, 0), [0; 0]);
    }
}

#[test]
fn a_hole_is_waited_for_as_long_as_answers_take() {
    for (answers_after_us, waited_us) in [(20_000, 50_000..90_000), (130_000, 300_000..400_000)] {
        let mut world = World::new(vec![video()]);
        world.answers_after_us = Some(answers_after_us);
        lossy(&mut world);
        world.answers_after_us = None;
        let mut camera = Source::video();
        camera.header.ssrc = 7;
        world.ingest.tracks[0].layers[0].ssrc = 7;
        let next = world.sent.len() as u16;
        camera.header.sequence = camera.header.sequence.wrapping_add(next);
        camera.picture(11_000_000, 1);
        world.send_all(11_000_000, camera.picture(11_000_000, 2));
        world.run(12_000_000);
        let asked_us = world.keyframe_requests(7, 0)[0] - 11_000_000;
        assert!(waited_us.contains(&asked_us), "{asked_us} {answers_after_us}");
    }
}

#[test]
fn a_retransmission_whose_source_is_not_described_goes_where_it_was_asked_for() {
    let mut world = World::new(vec![sdp::Track { rtx_ssrcs: Vec::new(), ..video() }]);
    world.answers_after_us = Some(20_000);
    lossy(&mut world);
    assert_eq!(world.ingest.counters().video_frames, 251);
}

#[test]
fn without_answers_the_stream_goes_on_at_keyframes() {
    for feedback in [video().feedback, sdp::Feedback { nack: false, ..video().feedback }] {
        let mut world = World::new(vec![sdp::Track { feedback, ..video() }]);
        let lost = lossy(&mut world);
        world.assert_decodable();
        let counters = world.ingest.counters();
        assert_eq!((counters.lost, counters.recovered), (lost, 0));
        assert!((50..200).contains(&counters.video_frames), "{counters:?}");
        let asked = world.told.iter().any(|(_, packet)| matches!(packet, Rtcp::Nack { .. }));
        assert_eq!(asked, feedback.nack);
    }
}

#[test]
fn a_loss_asks_for_a_keyframe_but_not_too_often() {
    for (pli, fir) in [(true, false), (false, true), (false, false)] {
        let feedback = sdp::Feedback { nack: false, pli, fir, transport_cc: false };
        let mut world = World::new(vec![sdp::Track { feedback, ..video() }]);
        let mut camera = Source::video();
        // A keyframe, and then no other for five seconds, although a packet is lost at once.
        for (number, place) in (0..125i64).zip([0].into_iter().chain([1, 2, 3].into_iter().cycle())) {
            let at_us = number * PICTURE_US;
            let mut packets = camera.picture(at_us, place);
            if number == 25 {
                packets.remove(0);
            }
            world.send_all(at_us, packets);
        }
        world.run(4_990_000);
        let requests = world.keyframe_requests(VIDEO_SSRC, 0);
        if !pli && !fir {
            assert_eq!(requests, [0; 0]);
            continue;
        }
        assert_eq!(world.ingest.counters().keyframe_requests, requests.len() as u64);
        // The loss is one as soon as it has been waited for.
        assert!((1_000_000..1_100_000).contains(&requests[0]), "{requests:?}");
        assert_eq!(requests.len(), 8, "{requests:?}");
        assert!(requests.windows(2).all(|pair| pair[1] - pair[0] >= 500_000), "{requests:?}");
        assert_eq!(world.pictures().len(), 25);
        world.send_all(5_000_000, camera.picture(5_000_000, 4));
        world.send_all(5_040_000, camera.picture(5_040_000, 5));
        world.run(5_400_000);
        assert_eq!(world.pictures().len(), 27);
        world.assert_decodable();
        assert_eq!(world.keyframe_requests(VIDEO_SSRC, 5_000_000), [0; 0]);
    }
}

#[test]
fn keyframes_are_asked_for_when_the_newest_is_old() {
    let mut world = World::new(vec![video()]);
    let mut camera = Source::video();
    let mut keyframes = Vec::new();
    let mut place = 0;
    for number in 0..250 {
        let at_us = number * PICTURE_US;
        world.run(at_us);
        // The source begins with one, unasked.
        if keyframes.len() <= world.keyframe_requests(VIDEO_SSRC, 0).len() {
            keyframes.push(at_us);
            place = 0;
        }
        world.send_all(at_us, camera.picture(at_us, place));
        place = place % 3 + 1;
    }
    assert_eq!(keyframes.len(), 5, "{keyframes:?} {:?}", world.told);
    assert!(keyframes.windows(2).all(|pair| (pair[1] - pair[0] - 2_000_000).abs() <= PICTURE_US), "{keyframes:?}");
    // A camera that is off is left alone.
    world.run(30_000_000);
    assert_eq!(world.keyframe_requests(VIDEO_SSRC, 12_000_000), [0; 0]);
}

#[test]
fn order_and_repetition_on_the_way_do_not_matter() {
    let mut world = World::new(vec![video()]);
    let (mut camera, mut dice) = (Source::video(), Dice(7));
    for place in 0..250i64 {
        let at_us = place * PICTURE_US;
        for packet in camera.picture(at_us, place as usize) {
            if dice.below(10) == 0 {
                world.send(at_us + dice.below(30_000) as i64, packet.clone());
            }
            world.send(at_us + dice.below(30_000) as i64, packet);
        }
    }
    // Before the first packet of all there is nothing to miss.
    world.queue.retain(|(at_us, _), _| *at_us >= PICTURE_US);
    let mut first = Source::video();
    world.send_all(0, first.picture(0, 0));
    world.run(11_000_000);
    assert_eq!((world.pictures().len(), world.ingest.counters().lost), (250, 0));
    world.assert_decodable();
}

/// Pictures and sounds with the sender's NTP times each second; the sound's clock is wrong by `skew`, and sound
/// arrives `late_us` behind its picture. Gives how far each sound then is from its picture.
fn synchronised(late_us: i64, skew: f64, seconds: i64) -> Vec<(i64, i64)> {
    let mut world = World::both();
    let (mut camera, mut microphone) = (Source::video(), Source::audio());
    microphone.ticks_per_s *= 1.0 + skew;
    let (picture_late_us, sound_late_us) = (-late_us.min(0), late_us.max(0));
    for place in 0..seconds * 25 {
        let media_us = place * PICTURE_US;
        world.send_all(media_us + picture_late_us, camera.picture(media_us, place as usize));
        if place % 25 == 12 {
            let report = camera.sender_report(media_us + 7000, 1_700_000_000_000_000 + media_us + 7000);
            world.queue(media_us + 7000 + picture_late_us, Datagram::Rtcp(report));
        }
    }
    for place in 0..seconds * 50 {
        let media_us = place * SOUND_US;
        world.send(media_us + sound_late_us, microphone.sound(media_us, place as u32));
        if place % 50 == 40 {
            let report = microphone.sender_report(media_us + 3000, 1_700_000_000_000_000 + media_us + 3000);
            world.queue(media_us + 3000 + sound_late_us, Datagram::Rtcp(report));
        }
    }
    world.run(seconds * 1_000_000 + 1_000_000);
    let first_us = world.pictures()[0].pts_us;
    let placed = |frame: &&Frame| {
        let media_us = i64::from(u32::from_be_bytes(frame.data[..].try_into().unwrap())) * SOUND_US;
        (media_us, frame.pts_us - first_us - media_us)
    };
    world.sounds().iter().map(placed).collect()
}

#[test]
fn sound_is_moved_to_its_picture_by_the_senders_reports() {
    for late_us in [0, 180_000, -180_000, 700_000] {
        let placed = synchronised(late_us, 0.0, 4);
        let before: Vec<_> = placed.iter().filter(|(media_us, _)| (400_000..600_000).contains(media_us)).collect();
        let after: Vec<_> = placed.iter().filter(|(media_us, _)| *media_us > 1_600_000).collect();
        assert!(before.iter().all(|(_, off_us)| (off_us - late_us).abs() < 21_000), "{late_us}: {before:?}");
        let steps: Vec<_> = placed.windows(2).map(|pair| pair[1].1 + pair[1].0 - pair[0].1 - pair[0].0).collect();
        assert!(steps.iter().all(|step_us| *step_us > 1000), "{late_us}: {steps:?}");
        assert!(after.len() > 100 && after.iter().all(|(_, off_us)| off_us.abs() <= 1000), "{late_us}: {after:?}");
    }
}

#[test]
fn a_clock_that_runs_wrong_is_followed_slowly() {
    for skew in [300e-6, -300e-6] {
        let placed = synchronised(0, skew, 120);
        let settled: Vec<_> = placed.iter().filter(|(media_us, _)| *media_us > 2_000_000).collect();
        // Until the next report it goes wrong by 0.3 ms.
        assert!(settled.iter().all(|(_, off_us)| off_us.abs() <= 21_000), "{skew}");
        assert!(settled.iter().any(|(media_us, off_us)| *media_us > 70_000_000 && off_us.abs() <= 3000), "{skew}");
        let steps = settled.windows(2).map(|pair| pair[1].1 - pair[0].1);
        assert!(steps.into_iter().all(|step_us| step_us.abs() <= SOUND_US / 200 + 10), "{skew}");
    }
}

#[test]
fn the_time_of_capture_counts_for_more_than_that_of_sending() {
    let mut world = World::both();
    let (mut camera, mut microphone) = (Source::video(), Source::audio());
    let utc_us = |media_us| 1_700_000_000_000_000 + media_us;
    for place in 0..100i64 {
        let at_us = place * PICTURE_US;
        for source in [&mut camera, &mut microphone] {
            source.extensions = vec![(5, capture_time(utc_us(at_us), None))];
        }
        world.send_all(at_us, camera.picture(at_us, place as usize));
        world.send(at_us + 100_000, microphone.sound(at_us, place as u32));
        // By its reports, which come later, the picture is 300 ms older.
        world.queue(at_us, Datagram::Rtcp(camera.sender_report(at_us, utc_us(at_us) + 300_000)));
    }
    world.run(4_200_000);
    let (picture, sound) = (world.pictures()[0], world.sounds()[90]);
    let number = i64::from(u32::from_be_bytes(sound.data[..].try_into().unwrap()));
    let off_us = sound.pts_us - picture.pts_us - number * PICTURE_US;
    assert!(off_us.abs() <= 1, "{off_us}");
}

#[test]
fn reports_that_contradict_the_arrivals_by_seconds_are_not_believed() {
    let mut world = World::both();
    let (mut camera, mut microphone) = (Source::video(), Source::audio());
    for place in 0..100i64 {
        let at_us = place * PICTURE_US;
        world.send_all(at_us, camera.picture(at_us, place as usize));
        world.send(at_us, microphone.sound(at_us, place as u32));
        world.queue(at_us, Datagram::Rtcp(camera.sender_report(at_us, 1_700_000_000_000_000 + at_us)));
        world.queue(at_us, Datagram::Rtcp(microphone.sender_report(at_us, at_us)));
    }
    world.run(4_100_000);
    assert!(steps(&world.sounds()).iter().all(|step| *step == PICTURE_US));
}

#[test]
fn reports_that_are_a_little_wrong_leave_whole_frames_between_sounds() {
    let mut world = World::both();
    let (mut camera, mut microphone, mut dice) = (Source::video(), Source::audio(), Dice(5));
    for place in 0..1500 {
        let at_us = i64::from(place) * SOUND_US;
        if place % 2 == 0 {
            world.send_all(at_us, camera.picture(at_us, place as usize / 2));
        }
        world.send(at_us, microphone.sound(at_us, place));
        if place % 50 == 10 {
            for source in [&camera, &microphone] {
                let wrong_us = dice.below(6000) as i64 - 3000;
                let report = source.sender_report(at_us, 1_700_000_000_000_000 + at_us + wrong_us);
                world.queue(at_us, Datagram::Rtcp(report));
            }
        }
    }
    world.run(31_000_000);
    let steps = steps(&world.sounds());
    // The first reports bring it to its picture.
    assert!(steps.len() > 1400 && steps.iter().skip(25).all(|step_us| *step_us == SOUND_US), "{steps:?}");
}

/// Fifteen seconds of pictures and sounds, with a report of each that flows every second. `sent` gives when a sound and a picture
/// of that time arrive, and the sound's media time. Gives how far sound is from the picture of its time at the end.
fn apart_at_the_end(sent: impl Fn(i64) -> (i64, Option<i64>)) -> i64 {
    const UNIX_US: i64 = 1_700_000_000_000_000;
    let mut world = World::both();
    let (mut camera, mut microphone) = (Source::video(), Source::audio());
    let mut captured = HashMap::new();
    for place in 0..750 {
        let at_us = i64::from(place) * SOUND_US;
        let (arrives_us, sound_us) = sent(at_us);
        let is_reported = place % 50 == 10;
        if place % 2 == 0 {
            world.send_all(arrives_us, camera.picture(at_us, place as usize / 2));
        }
        if is_reported {
            world.queue(arrives_us + 1, Datagram::Rtcp(camera.sender_report(at_us, UNIX_US + at_us)));
        }
        let Some(sound_us) = sound_us else { continue };
        world.send(arrives_us, microphone.sound(sound_us, place));
        captured.insert(place, at_us);
        if is_reported {
            world.queue(arrives_us + 1, Datagram::Rtcp(microphone.sender_report(sound_us, UNIX_US + at_us)));
        }
    }
    world.run(16_000_000);
    assert_eq!(world.pictures().len(), 375);
    let epochs: Vec<_> = world.heads.iter().map(|tracks| tracks.epoch).collect();
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    let (pictures, sounds) = (world.pictures(), world.sounds());
    let (picture, sound) = (pictures.last().unwrap(), sounds.last().unwrap());
    let sound_us = captured[&u32::from_be_bytes(sound.data[..].try_into().unwrap())];
    sound.pts_us - sound_us - (picture.pts_us - 374 * PICTURE_US)
}

#[test]
fn sound_comes_back_to_its_picture_after_silence_that_its_clock_did_not_count() {
    for silent_us in [500_000, 2_000_000, 3_500_000, 5_000_000] {
        let apart_us = apart_at_the_end(|at_us| match at_us - 6_000_000 {
            ..0 => (at_us, Some(at_us)),
            after if after < silent_us => (at_us, None),
            _ => (at_us, Some(at_us - silent_us)),
        });
        assert!(apart_us.abs() < 30_000, "{silent_us}: {apart_us}");
    }
}

#[test]
fn sound_and_picture_are_together_after_a_stall_and_its_burst() {
    for stall_us in [1_000_000, 2_000_000, 4_000_000] {
        let held = 6_000_000..6_000_000 + stall_us;
        let arrives = |at_us| if held.contains(&at_us) { held.end } else { at_us };
        let apart_us = apart_at_the_end(|at_us| (arrives(at_us), Some(at_us)));
        assert!(apart_us.abs() < 30_000, "{stall_us}: {apart_us}");
    }
}

fn layers() -> sdp::Track {
    sdp::Track { rids: vec!["h".into(), "l".into()], rtx_ssrcs: Vec::new(), ..video() }
}

/// The high layer is of the first group's pictures, the low one of the second's.
fn layer(rid: &str, ssrc: u32) -> Source {
    let mut source = Source::new(96, ssrc, 90_000);
    if rid == "l" {
        source.pictures.rotate_left(4);
        source.first_timestamp = 123_456;
    }
    source.extensions = vec![(2, rid.as_bytes().to_vec())];
    source
}

#[test]
fn of_simulcast_the_best_layer_that_flows_is_shown() {
    let mut world = World::new(vec![layers()]);
    let mut senders = [(layer("h", 10), 0, 0, 0), (layer("l", 20), 0, 70_000, 0)];
    let mut shown_from = Vec::new();
    for number in 0..400i64 {
        let at_us = number * PICTURE_US;
        world.run(at_us);
        for (source, place, late_us, asked) in &mut senders {
            let ssrc = source.header.ssrc;
            let stopped = ssrc == 10 && (4_000_000..9_000_000).contains(&at_us);
            if stopped {
                continue;
            }
            let requests = world.keyframe_requests(ssrc, 0).len();
            if std::mem::replace(asked, requests) < requests {
                *place = 0;
            }
            world.send_all(at_us + *late_us, source.picture(at_us, *place));
            *place = *place % 3 + 1;
            if number % 25 == 1 {
                let report = source.sender_report(at_us, 1_700_000_000_000_000 + at_us);
                world.queue(at_us + *late_us, Datagram::Rtcp(report));
            }
        }
    }
    world.run(16_500_000);
    world.assert_decodable();
    let (_, known) = pictures();
    let first_us = world.pictures()[0].pts_us;
    let mut before = None;
    for frame in world.pictures() {
        let is_high = known[..4].iter().any(|(_, data)| *data == frame.data);
        if before.replace(is_high) != Some(is_high) {
            shown_from.push((is_high, frame.pts_us - first_us));
        }
        // By NTP, whichever layer it is of.
        let off_us = (frame.pts_us - first_us).rem_euclid(PICTURE_US);
        assert!(off_us <= 50 || off_us >= PICTURE_US - 50, "{off_us} {is_high} {shown_from:?}");
    }
    let is_high: Vec<_> = shown_from.iter().map(|(is_high, _)| *is_high).collect();
    assert_eq!(is_high, [true, false, true], "{shown_from:?}");
    assert!((5_900_000..6_300_000).contains(&shown_from[1].1), "{shown_from:?}");
    assert!((9_000_000..9_300_000).contains(&shown_from[2].1), "{shown_from:?}");
    let high = world.keyframe_requests(10, 0);
    assert!(high.iter().all(|at_us| !(6_000_000..9_000_000).contains(at_us)), "{high:?}");
    // The low layer is asked only while it is shown, or to be.
    let low = world.keyframe_requests(20, 0);
    assert!(!low.is_empty() && low.iter().all(|at_us| (5_900_000..9_600_000).contains(at_us)), "{low:?}");
}

#[test]
fn strange_sources_take_nothing_over_and_cost_nothing() {
    let mut world = World::new(vec![layers()]);
    let (mut camera, mut dice) = (layer("h", 10), Dice(3));
    for place in 0..100i64 {
        let at_us = place * PICTURE_US;
        world.send_all(at_us, camera.picture(at_us, place as usize));
        for _ in 0..100 {
            let mut stranger = layer(["h", "m", "x"][dice.below(3) as usize], dice.below(1 << 32) as u32);
            stranger.header.payload_type = [96, 97, 98][dice.below(3) as usize];
            if dice.below(3) == 0 {
                stranger.extensions.clear();
            }
            world.send_all(at_us + 1, stranger.picture(at_us, 0));
        }
    }
    world.run(4_000_000);
    assert_eq!(world.pictures().len(), 100);
    world.assert_decodable();
    assert!(world.ingest.counters().unknown > 10_000);
    assert_eq!(world.ingest.tracks[0].layers.len(), 1);
}

#[test]
fn a_source_that_begins_anew_under_another_number_goes_on() {
    let mut world = World::new(vec![video()]);
    for (ssrc, from_us) in [(1, 0), (2, 3_000_000)] {
        let mut camera = Source::new(96, ssrc, 90_000);
        for place in 0..25 {
            let media_us = place * PICTURE_US;
            world.send_all(from_us + media_us, camera.picture(media_us, place as usize));
        }
    }
    world.run(4_500_000);
    assert_eq!(world.pictures().len(), 50);
    let mut expected = [PICTURE_US; 49];
    expected[24] = 3_000_000 - 24 * PICTURE_US;
    assert_eq!(steps(&world.pictures()), expected);
}

#[test]
fn a_packet_of_another_line_is_not_taken() {
    let mut world = World::new(vec![video()]);
    let mut camera = Source::video();
    for (place, mid) in ["v", "w", "v"].into_iter().enumerate() {
        camera.extensions = vec![(1, mid.into())];
        let at_us = place as i64 * 4 * PICTURE_US;
        world.send_all(at_us, camera.picture(at_us, 4 * place));
    }
    world.run(1_000_000);
    assert_eq!(world.pictures().len(), 2);
    assert!(world.ingest.counters().unknown > 0);
}

#[test]
fn another_configuration_enters_the_line_before_its_keyframe() {
    let mut world = World::new(vec![video()]);
    let mut camera = Source::video();
    world.send_all(0, camera.picture(0, 0));
    // The level, in the record and in the parameter set.
    let mut description = camera.config.description.to_vec();
    description[3] += 1;
    description[11] += 1;
    camera.config.description = description.into();
    world.send_all(PICTURE_US, camera.picture(PICTURE_US, 1));
    world.send_all(2 * PICTURE_US, camera.picture(2 * PICTURE_US, 4));
    world.run(1_000_000);
    let described: Vec<_> = world.heads.iter().map(|tracks| tracks.video.clone().unwrap().description[3]).collect();
    assert_eq!(world.pictures().len(), 3);
    assert_eq!(described, [camera.config.description[3] - 1, camera.config.description[3]]);
}

#[test]
fn a_clock_that_leaps_goes_on_where_it_was() {
    let mut world = World::new(vec![video()]);
    let mut camera = Source::video();
    for place in 0..50 {
        let at_us = place * PICTURE_US;
        if place == 25 {
            camera.first_timestamp = camera.first_timestamp.wrapping_add(90_000 * 3600);
        }
        world.send_all(at_us, camera.picture(at_us, place as usize));
    }
    world.run(2_100_000);
    assert!(steps(&world.pictures()).iter().all(|step| (step - PICTURE_US).abs() <= 1));
    assert_eq!(world.pictures().len(), 50);
}

#[test]
fn sound_waits_for_a_picture_that_was_announced() {
    for (tracks, first) in [(vec![video(), audio()], 250), (vec![audio()], 0)] {
        let mut world = World::new(tracks);
        let mut microphone = Source::audio();
        for place in 0..300 {
            let at_us = i64::from(place) * SOUND_US;
            world.send(at_us, microphone.sound(at_us, place));
        }
        world.run(7_000_000);
        let numbers: Vec<_> =
            world.sounds().iter().map(|frame| u32::from_be_bytes(frame.data[..].try_into().unwrap())).collect();
        assert_eq!(numbers, (first..300).collect::<Vec<_>>());
        assert_eq!(world.ingest.codecs(), "opus");
        assert!(world.heads.iter().all(|tracks| tracks.video.is_none() && tracks.audio.is_some()));
    }
}

#[test]
fn the_first_head_names_picture_and_sound_however_late_the_picture_is() {
    for picture_at_us in [0, 4_500_000, 5_500_000] {
        let mut world = World::both();
        let (mut camera, mut microphone) = (Source::video(), Source::audio());
        for place in 1..300 {
            let at_us = i64::from(place) * SOUND_US;
            world.send(at_us, microphone.sound(at_us, place));
        }
        world.send_all(picture_at_us, camera.picture(0, 0));
        world.run(6_000_000);
        let heads: Vec<_> = world.heads.iter().map(|tracks| (tracks.video.is_some(), tracks.audio.is_some())).collect();
        assert_eq!(heads[0], (picture_at_us < 5_000_000, true), "{picture_at_us}");
        assert!(heads.contains(&(true, true)));
    }
}

#[test]
fn a_camera_that_is_off_leaves_a_stream_of_sound_that_can_be_joined() {
    let mut world = World::both();
    let (mut camera, mut microphone) = (Source::video(), Source::audio());
    let on = 0..1_000_000;
    let again_us = 601_000_000;
    for place in 0..30_150 {
        let at_us = i64::from(place) * SOUND_US;
        world.send(at_us, microphone.sound(at_us, place));
        // It comes back in the midst of a group.
        if place % 2 == 0 && (on.contains(&at_us) || at_us >= again_us) {
            let number = if at_us < again_us { at_us } else { at_us - again_us + PICTURE_US } / PICTURE_US;
            world.send_all(at_us, camera.picture(at_us, number as usize));
        }
    }
    world.run(again_us - 1);
    assert_eq!(world.ingest.codecs(), "opus");
    let newest_us = world.sounds().last().unwrap().pts_us;
    let mut joiner = world.ingest.stream().ring().cursor(None);
    let first = std::iter::from_fn(|| joiner.try_recv().ok().flatten()).find_map(|read| match read {
        Read::Entry { entry: Item::Frame(frame), .. } => Some(frame),
        _ => None,
    });
    let behind_us = newest_us - first.unwrap().pts_us;
    assert!((0..1_100_000).contains(&behind_us), "{behind_us}");
    let pictures = world.pictures().len();
    world.run(again_us + 2_000_000);
    assert_eq!(world.ingest.codecs(), "h264+opus");
    assert!(world.pictures()[pictures].keyframe);
    assert!(world.sounds().len() >= 30_149);
}

#[test]
fn parameter_sets_of_the_description_are_enough() {
    let mut camera = Source::video();
    let sets: Vec<_> = parameter_sets(&camera.config).into_iter().map(|set| STANDARD.encode(set)).collect();
    for (fmtp, is_shown) in [
        (format!("packetization-mode=1; Sprop-Parameter-Sets={}", sets.join(",")), true),
        (format!("sprop-parameter-sets=!,,{}", sets[0]), false),
        ("sprop-parameter-sets=".to_owned() + &"Z0LAHw==,".repeat(1000), false),
    ] {
        let mut world = World::new(vec![sdp::Track { fmtp: fmtp.clone(), ..video() }]);
        for place in 0..4i64 {
            let at_us = place * PICTURE_US;
            let mut data = camera.pictures[place as usize].1.clone();
            let mut units = Vec::new();
            while !data.is_empty() {
                let length = u32::from_be_bytes(*data.first_chunk().unwrap());
                units.push(data.split_to(4 + length as usize).slice(4..));
            }
            units.retain(|unit| !matches!(unit[0] & 31, 7 | 8));
            let packets = camera.packets(at_us, &units.iter().map(|unit| &unit[..]).collect::<Vec<_>>());
            world.send_all(at_us, packets);
        }
        world.run(1_000_000);
        assert_eq!(world.pictures().len(), if is_shown { 4 } else { 0 }, "{fmtp}");
        if is_shown {
            assert_eq!(world.heads[0].video.as_ref(), Some(&camera.config));
        }
    }
}

#[test]
fn reports_tell_the_sender_of_loss_each_second() {
    let mut world = World::new(vec![video()]);
    let mut camera = Source::video();
    for place in 0..75i64 {
        let at_us = place * PICTURE_US;
        let mut packets = camera.picture(at_us, place as usize);
        if (30..35).contains(&place) {
            packets.remove(0);
        }
        world.send_all(at_us, packets);
        if place == 40 {
            world.queue(at_us, Datagram::Rtcp(camera.sender_report(at_us, 1_700_000_000_000_000)));
        }
    }
    world.run(3_100_000);
    let reports = world.told.iter().filter_map(|(at_us, packet)| match packet {
        Rtcp::ReceiverReport { reports, .. } => reports.first().map(|report| (*at_us, *report)),
        _ => None,
    });
    let reports: Vec<_> = reports.collect();
    let lost: Vec<_> = reports.iter().map(|(_, report)| (report.ssrc, report.lost)).collect();
    assert_eq!(lost, [(VIDEO_SSRC, 0), (VIDEO_SSRC, 5), (VIDEO_SSRC, 5)]);
    assert!(reports[1].1.fraction_lost > 0 && reports[2].1.fraction_lost == 0);
    let sr = ntp::middle(ntp::from_unix_us(1_700_000_000_000_000));
    assert_eq!((reports[0].1.last_sr, reports[1].1.last_sr), (0, sr));
    // 400 ms in 1/65536 s.
    assert!(reports[1].1.delay_since_sr.abs_diff(26_214) < 10, "{:?}", reports[1].1);
    assert!(reports.iter().zip(1..).all(|((at_us, _), second)| (at_us - second * 1_000_000).abs() < 100));
}

#[test]
fn arrivals_are_told_of_over_all_tracks() {
    let mut world = World::new(vec![video()]);
    let mut camera = Source::video();
    camera.number = Some(65_530);
    let mut sent = Vec::new();
    for place in 0..10i64 {
        let at_us = place * PICTURE_US;
        for packet in camera.picture(at_us, place as usize) {
            let number = camera.number.unwrap();
            sent.push((number, at_us));
            world.send(at_us, packet);
        }
    }
    world.run(1_000_000);
    let told = world.told.iter().filter_map(|(_, packet)| match packet {
        Rtcp::Twcc(feedback) => Some(feedback.arrivals().collect::<Vec<_>>()),
        _ => None,
    });
    let told: Vec<_> = told.flatten().collect();
    assert_eq!(told.len(), sent.len());
    assert_eq!(told[0].0, 65_530);
    let first_us = told[0].1.unwrap();
    assert!(told.iter().zip(&sent).all(|((_, told), (_, sent_us))| (told.unwrap() - first_us - sent_us).abs() <= 250));
}

/// 32.32 bits of seconds.
fn capture_time(unix_us: i64, offset_us: Option<i64>) -> Vec<u8> {
    let offset = offset_us.map(|us| (((i128::from(us)) << 32) / 1_000_000) as i64);
    let mut value = ntp::from_unix_us(unix_us).to_be_bytes().to_vec();
    value.extend(offset.iter().flat_map(|offset| offset.to_be_bytes()));
    value
}

#[test]
fn the_time_of_capture_has_an_offset_or_none() {
    let us = 1_700_000_000_000_000;
    assert_eq!(capture_us(&capture_time(us, None)), Some(us));
    let with_offset = capture_us(&capture_time(us, Some(-250_000))).unwrap();
    assert!((with_offset - us + 250_000).abs() <= 1, "{with_offset}");
    assert_eq!(capture_us(&[0; 7]), None);
    assert_eq!(capture_us(&[0xff; 16]).map(|us| us > 0), Some(true));
}

/// A keyframe with the first of OBS' performance metrics: when it was composed, in milliseconds (kind 2).
fn with_obs_time(camera: &Source, taken_us: i64) -> Bytes {
    let uuid = 0x0aecffe7_5272_4e2f_a62f_d19cd61a93b5_u128.to_be_bytes();
    let payload = [&[0, 2, 1][..], &(taken_us / 1000).to_be_bytes()].concat();
    let format = NalFormat::of(&camera.config).unwrap();
    format.insert_user_data(&camera.pictures[4].1, uuid, &payload).unwrap().concat().into()
}

#[test]
fn the_senders_times_set_the_rooms_clock() {
    // The hub asks the system's clock when frames arrive.
    let now_us = clock::unix_us();
    for (taken_us, is_believed) in [(now_us - 120_000, true), (now_us + 3_600_000_000, false)] {
        for said_by in [Anchor::SenderReport, Anchor::AbsCaptureTime, Anchor::BpmSei] {
            let mut world = World::new(vec![video()]);
            let mut camera = Source::video();
            world.send_all(0, camera.picture(0, 0));
            world.run(0);
            let mut place = 1;
            match said_by {
                Anchor::SenderReport => world.queue(1, Datagram::Rtcp(camera.sender_report(0, taken_us))),
                Anchor::AbsCaptureTime => camera.extensions = vec![(5, capture_time(taken_us + PICTURE_US, None))],
                _ => {
                    place = 4;
                    camera.pictures[4].1 = with_obs_time(&camera, taken_us);
                }
            }
            world.send_all(PICTURE_US, camera.picture(PICTURE_US, place));
            world.run(PICTURE_US);
            assert_eq!(world.ingest.counters().anchors > 0, is_believed, "{said_by:?} {taken_us}");
        }
    }
}

#[test]
fn whoever_comes_later_replaces_the_session() {
    let hub = Hub::new(Settings::default(), None);
    let name = "live/room".parse().unwrap();
    let mut ingest = RtpIngest::new(hub.publish(&name).unwrap(), terms(vec![audio()]), INTERVAL, clock::now());
    let mut microphone = Source::audio();
    assert_eq!(ingest.handle_rtp(clock::now(), &microphone.sound(0, 0)), Ok(()));
    let mut newer = RtpIngest::new(hub.publish(&name).unwrap(), terms(vec![audio()]), INTERVAL, clock::now());
    assert_eq!(ingest.handle_rtp(clock::now(), &microphone.sound(SOUND_US, 1)), Ok(()));
    assert_eq!(newer.handle_rtp(clock::now(), &Source::audio().sound(0, 0)), Ok(()));
    assert_eq!(ingest.handle_rtp(clock::now(), &microphone.sound(2 * SOUND_US, 2)), Err(Replaced));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_comes_can_hurt(
        datagrams in proptest::collection::vec(
            (0u8..4, proptest::collection::vec(any::<u8>(), 0..60), 0i64..200_000, any::<prop::sample::Index>()),
            1..200,
        ),
    ) {
        let mut world = World::both();
        let mut senders = [layer("h", 10), Source::video(), Source::audio()];
        let mut at_us = 0;
        for (place, (kind, bytes, step_us, index)) in datagrams.into_iter().enumerate() {
            at_us += step_us;
            match kind {
                0 => world.queue(at_us, Datagram::Rtp(bytes)),
                1 => world.queue(at_us, Datagram::Rtcp([&[0x80, 200 + bytes.first().unwrap_or(&0) % 8, 0, 14], bytes.as_slice()].concat())),
                // A packet of the real stream, with some bytes of another.
                _ => {
                    let sender = &mut senders[usize::from(kind) - 1];
                    for mut packet in sender.picture(at_us, place) {
                        let from = index.index(packet.len());
                        packet.iter_mut().skip(from).zip(&bytes).for_each(|(byte, other)| *byte = *other);
                        world.queue(at_us, Datagram::Rtp(packet));
                    }
                }
            }
        }
        world.run(at_us + 5_000_000);
    }
}
