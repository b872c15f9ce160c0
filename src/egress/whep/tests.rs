//! A viewer's packets, opened and put together again: publisher, hub, muxer and playback, and only the socket left out.

use std::{collections::BTreeMap, future::poll_fn};

use serde_json::{Map, Value as Json, json};
use tokio::time::timeout_at;

use super::{
    super::rtp::{RtpMux, ticks},
    *,
};
use crate::{
    hub::{At, Bounds, Hub, Merge, Mux, Origin, Out, Patience, Publisher, Ring, Settings},
    limits,
    media::{AudioConfig, Event, Frame, Head, Item, Room as RoomState, StreamName, Tracks, VideoConfig},
    proto::{
        ice::Credentials,
        rtp::{
            ntp,
            packet::{Header, Packet},
            payload::{Depacketiser, Unit},
            rtcp::{write_nack, write_receiver_report, write_twcc},
            twcc::Feedback as TransportFeedback,
        },
        sdp,
        srtp::{Opener, Profile},
    },
};

const VIDEO: u32 = 1;
const RTX: u32 = 2;
const AUDIO: u32 = 3;
const TRANSPORT_ID: u8 = 5;
const CAPTURE_ID: u8 = 6;

/// Longer than any pause.
const A_MOMENT: Duration = Duration::from_millis(50);

/// Of x264: 128x80, as ffmpeg's MP4 muxer wrote it.
const AVCC: &[u8] = b"\x01\x64\x00\x0a\xff\xe1\x00\x18\x67\x64\x00\x0a\xac\xd9\x42\x0b\xb0\x11\x00\x00\x03\x00\x01\x00\
    \x00\x03\x00\x32\x0f\x12\x25\x96\x01\x00\x06\x68\xeb\xe0\xc4\xb2\x2c\xfd\xf8\xf8\x00";

struct Room {
    hub: Arc<Hub>,
    egress: Egress,
    publisher: Publisher,
}

fn name() -> StreamName {
    "live/room".parse().expect("name")
}

fn avc() -> VideoConfig {
    VideoConfig { width: 128, height: 80, ..VideoConfig::from_description(Codec::Avc, Bytes::from_static(AVCC)) }
}

fn opus() -> AudioConfig {
    AudioConfig { codec: Codec::Opus, description: Bytes::new(), sample_rate: 48_000, channels: 2 }
}

fn tracks() -> Tracks {
    Tracks { video: Some(avc()), audio: Some(opus()), ..Tracks::default() }
}

fn room(lag_max: Duration) -> Room {
    let patience = Patience::new(lag_max);
    let settings = Settings::default();
    let merge = Merge { audio: Duration::ZERO, all: Duration::ZERO };
    let egress = Egress::new(&settings, patience, merge, CancellationToken::new(), None);
    let hub = Hub::new(settings, Some(Origin::in_memory()));
    let mut publisher = hub.publish(&name()).expect("slot");
    publisher.set_tracks(tracks()).expect("current");
    Room { hub, egress, publisher }
}

/// A slice of so many bytes: IDR, P or B.
fn picture(ms: i64, kind: char, bytes: usize) -> Frame {
    let nal: &[u8] = match kind {
        'I' => &[0x65, 0x88],
        'P' => &[0x41, 0x9a],
        _ => &[0x01, 0x9e],
    };
    let filler = (0..bytes - nal.len()).map(|at| u8::try_from((at + bytes) % 251 + 1).expect("small"));
    let unit: Vec<u8> = nal.iter().copied().chain(filler).collect();
    let data = [&u32::try_from(unit.len()).expect("small").to_be_bytes(), unit.as_slice()].concat().into();
    Frame { track: TrackKind::Video, dts_us: ms * 1000, pts_us: ms * 1000, keyframe: kind == 'I', data }
}

fn sound(ms: i64) -> Frame {
    let data = Bytes::from(vec![0xfc, u8::try_from(ms % 256).expect("a byte"), 7]);
    Frame { track: TrackKind::Audio, data, ..picture(ms, 'P', 10) }
}

fn card() -> Map<String, Json> {
    let draft = json!({"type": "card.show", "op": "set", "key": "card:main", "data": {"name": "Wool coat"}});
    draft.as_object().expect("object").clone()
}

fn terms() -> sdp::Terms {
    let track = |codec, payload_type: u8, ssrc, rtx: Option<u8>| sdp::Track {
        mid: payload_type.to_string(),
        codec,
        payload_type,
        rtx,
        clock_rate_hz: 90_000,
        channels: 1,
        fmtp: String::new(),
        feedback: sdp::Feedback { nack: true, pli: true, fir: true, transport_cc: true },
        extensions: sdp::Extensions {
            transport_cc: Some(TRANSPORT_ID),
            abs_capture_time: Some(CAPTURE_ID),
            ..sdp::Extensions::default()
        },
        ssrcs: vec![ssrc],
        rtx_ssrcs: rtx.map(|_| (ssrc, RTX)).into_iter().collect(),
        rids: Vec::new(),
    };
    let transport = sdp::Transport {
        ice: Credentials { ufrag: "user".into(), pwd: "p".repeat(22) },
        ice_lite: false,
        fingerprint: sdp::Fingerprint::of(sdp::HashFunction::Sha256, b"der"),
        setup: sdp::Setup::Active,
        candidates: Vec::new(),
    };
    let tracks = vec![track(Codec::Avc, 102, VIDEO, Some(103)), track(Codec::Opus, 111, AUDIO, None)];
    sdp::Terms { transport, tracks, data: None }
}

impl Room {
    fn watch(&self) -> Watcher {
        self.watch_with(&terms(), BFrames::Refuse)
    }

    fn watch_with(&self, terms: &sdp::Terms, b_frames: BFrames) -> Watcher {
        let viewer = self.hub.view(&name()).expect("room");
        let keys = (&[7; 16], &[8; 12]);
        Watcher {
            playback: Playback::join(&self.egress, viewer, terms, "cname".into(), b_frames),
            sealer: Sealer::new(Profile::Aes128Gcm, keys.0, keys.1).expect("keys"),
            opener: Opener::new(Profile::Aes128Gcm, keys.0, keys.1).expect("keys"),
            seen: Vec::new(),
            sends: Vec::new(),
            over: None,
        }
    }

    fn push(&mut self, frames: impl IntoIterator<Item = Frame>) {
        frames.into_iter().for_each(|frame| self.publisher.push_frame(frame).expect("current"));
    }

    fn relay(&mut self, item: Item, group: u64) {
        self.publisher.relay(item, group).expect("current");
    }

    async fn push_with_event(&mut self, frame: Frame) -> Arc<Event> {
        let at = At::PtsUs(self.publisher.place(frame.pts_us).expect("placed"));
        let event = self.hub.publish_event(&name(), card(), Some(at)).await.expect("accepted").event;
        self.push([frame]);
        event
    }
}

/// What reached a viewer, in its order.
#[derive(Debug, Clone)]
enum Seen {
    Message(Json),
    Rtp(Received),
    Rtcp(Vec<Rtcp>),
}

#[derive(Debug, Clone)]
struct Received {
    header: Header,
    transport: Option<u16>,
    captured: Option<u64>,
    payload: Vec<u8>,
    at: Instant,
}

struct Watcher {
    playback: Playback,
    sealer: Sealer,
    opener: Opener,
    seen: Vec<Seen>,
    /// Packets of each send, of one size or not.
    sends: Vec<usize>,
    over: Option<Over>,
}

impl Watcher {
    /// Serves him for a moment, as a server does.
    async fn see(&mut self) -> &mut Self {
        self.see_for(A_MOMENT).await
    }

    async fn see_for(&mut self, time: Duration) -> &mut Self {
        let until = clock::now() + time;
        loop {
            let due = self.playback.poll_timeout().unwrap_or(until).min(until);
            let mut out = Outbox::default();
            let taking = poll_fn(|cx| self.playback.poll_take(cx, clock::now(), &mut self.sealer, 64, &mut out));
            match timeout_at(due, taking).await {
                Ok(Ok(())) => self.receive(&out),
                Ok(Err(over)) => {
                    self.over = Some(over);
                    return self;
                }
                Err(_) if clock::now() >= until => return self,
                Err(_) => {}
            }
        }
    }

    fn receive(&mut self, out: &Outbox) {
        let messages = std::iter::from_fn(|| self.playback.poll_message());
        self.seen.extend(messages.map(|message| Seen::Message(serde_json::from_slice(&message).expect("JSON"))));
        self.sends.extend(out.sends().map(|(bytes, segment)| segment.map_or(1, |size| bytes.len().div_ceil(size))));
        for sealed in out.packets() {
            assert!(sealed.len() <= 1200, "{}", sealed.len());
            let mut packet = sealed.to_vec();
            if crate::proto::rtp::packet::is_rtcp(sealed) {
                let length = self.opener.open_rtcp(&mut packet).expect("authentic");
                self.seen.push(Seen::Rtcp(rtcp::parse(&packet[..length]).expect("RTCP")));
                continue;
            }
            let length = self.opener.open_rtp(&mut packet).expect("authentic");
            let packet = Packet::parse(&packet[..length]).expect("RTP");
            let value = |id| packet.extensions.get(id);
            self.seen.push(Seen::Rtp(Received {
                header: packet.header,
                transport: value(TRANSPORT_ID).map(|value| u16::from_be_bytes(value.try_into().expect("two bytes"))),
                captured: value(CAPTURE_ID).map(|value| u64::from_be_bytes(value.try_into().expect("eight bytes"))),
                payload: packet.payload.to_vec(),
                at: clock::now(),
            }));
        }
    }

    fn packets(&self, ssrc: u32) -> Vec<Received> {
        let packets =
            self.seen.iter().filter_map(|seen| if let Seen::Rtp(packet) = seen { Some(packet) } else { None });
        packets.filter(|packet| packet.header.ssrc == ssrc).cloned().collect()
    }

    fn pictures(&self) -> Vec<Unit> {
        depacketise(&self.packets(VIDEO))
    }

    /// Sizes of the pictures he can show, which tell them apart.
    fn sizes(&self) -> Vec<usize> {
        self.pictures().iter().map(|unit| unit.data.len() - 4).collect()
    }

    fn messages(&self) -> Vec<&Json> {
        self.seen.iter().filter_map(|seen| if let Seen::Message(json) = seen { Some(json) } else { None }).collect()
    }

    /// What came in a word each; packets of one picture are one word.
    fn words(&self) -> Vec<String> {
        let word = |seen: &Seen| match seen {
            Seen::Message(json) => {
                Some(format!("{}{}", if json["rp"] == 1 { "again " } else { "" }, json["ev"]["type"].as_str()?))
            }
            Seen::Rtp(packet) if packet.header.ssrc == VIDEO => packet.header.marker.then(|| "picture".to_owned()),
            Seen::Rtp(packet) if packet.header.ssrc == AUDIO => Some("sound".to_owned()),
            Seen::Rtp(_) | Seen::Rtcp(_) => None,
        };
        self.seen.iter().filter_map(word).collect()
    }

    /// Sender reports by SSRC: UTC in microseconds, timestamp, packets.
    fn reports(&self) -> Vec<(u32, i64, u32, u32)> {
        let packets =
            self.seen.iter().filter_map(|seen| if let Seen::Rtcp(packets) = seen { Some(packets) } else { None });
        let report = |packet: &Rtcp| match packet {
            Rtcp::SenderReport { ssrc, info, .. } => {
                Some((*ssrc, ntp::to_unix_us(info.ntp), info.timestamp, info.packets))
            }
            _ => None,
        };
        packets.flatten().filter_map(report).collect()
    }

    fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut compound = Vec::new();
        write(&mut compound);
        self.playback.handle_rtcp(clock::now(), &compound);
    }

    /// Says of so many packets that a part of them did not arrive.
    fn say_lost(&mut self, packets: u16, lost: u16) {
        let deltas_250us = (0..packets).map(|at| (at >= lost).then_some(4)).collect();
        let feedback = TransportFeedback { deltas_250us, ..TransportFeedback::default() };
        self.say(|out| write_twcc(out, 9, VIDEO, &feedback));
    }
}

fn depacketise(packets: &[Received]) -> Vec<Unit> {
    let mut depacketiser = Depacketiser::new(Codec::Avc);
    let mut units = Vec::new();
    for packet in packets {
        let Header { timestamp, marker, .. } = packet.header;
        depacketiser.handle_packet(timestamp, marker, &packet.payload).expect("a payload");
        units.extend(std::iter::from_fn(|| depacketiser.poll_unit()));
    }
    units
}

#[tokio::test(start_paused = true)]
async fn frames_arrive_as_they_were_from_the_newest_keyframe_on() {
    let mut room = room(Duration::MAX);
    let pictures = [picture(80, 'I', 5000), picture(120, 'P', 900), picture(160, 'P', 2500)];
    room.push([picture(0, 'I', 700), picture(40, 'P', 800)]);
    room.push(pictures[..2].to_vec());
    let mut watcher = room.watch();
    watcher.see().await;
    room.push([sound(140), pictures[2].clone(), sound(160)]);
    watcher.see().await;
    let units = watcher.pictures();
    assert_eq!(units.iter().map(|unit| &unit.data).collect::<Vec<_>>(), pictures.each_ref().map(|frame| &frame.data));
    assert_eq!(units[0].config, Some(avc()));
    assert_eq!(units.iter().map(|unit| unit.keyframe).collect::<Vec<_>>(), [true, false, false]);
    let since = |unit: &Unit| unit.timestamp.wrapping_sub(units[0].timestamp);
    assert_eq!(units.iter().map(since).collect::<Vec<_>>(), [0, 40 * 90, 80 * 90]);

    let sounds = watcher.packets(AUDIO);
    assert_eq!(sounds.iter().map(|packet| &packet.payload[..]).collect::<Vec<_>>(), [sound(140).data, sound(160).data]);
    assert_eq!(sounds[1].header.timestamp.wrapping_sub(sounds[0].header.timestamp), 20 * 48);
    assert!(sounds.iter().all(|packet| packet.header.payload_type == 111 && !packet.header.marker));
    assert_eq!(watcher.words(), ["picture", "picture", "sound", "picture", "sound"].map(String::from));
    let counters = watcher.playback.counters();
    assert_eq!((counters.frames, counters.frames_skipped), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_picture_is_one_send_of_packets_of_one_size() {
    let mut room = room(Duration::MAX);
    room.push([picture(0, 'I', 100)]);
    let mut watcher = room.watch();
    // The first second's capture time is said.
    watcher.see().await.seen.clear();
    watcher.sends.clear();
    room.push([picture(40, 'P', 25_000)]);
    watcher.see().await;
    let packets = watcher.packets(VIDEO);
    assert_eq!(watcher.sends, [packets.len()]);
    assert!(packets.len() > 20 && packets.len() <= 25_000_usize.div_ceil(1154));
    for pair in watcher.packets(VIDEO).windows(2) {
        assert_eq!(pair[1].header.sequence, pair[0].header.sequence.wrapping_add(1));
        assert_eq!(pair[1].transport, pair[0].transport.map(|number| number.wrapping_add(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_told_before_its_picture_with_that_pictures_timestamp() {
    let mut room = room(Duration::MAX);
    room.push([picture(0, 'I', 100)]);
    let mut watcher = room.watch();
    watcher.playback.tell_events();
    watcher.see().await.seen.clear();
    room.push([sound(20)]);
    let event = room.push_with_event(picture(40, 'P', 3000)).await;
    room.push([picture(80, 'P', 100)]);
    watcher.see().await;
    assert_eq!(watcher.words(), ["sound", "clock", "card.show", "picture", "picture"]);
    let message = watcher.messages()[1];
    assert_eq!(message["rtp"], json!(watcher.packets(VIDEO)[0].header.timestamp));
    assert_eq!(message["rp"], json!(0));
    assert_eq!(message["ev"], serde_json::from_slice::<Json>(&event.json).expect("JSON"));
    assert_eq!(watcher.playback.counters().events, 2);
}

#[tokio::test(start_paused = true)]
async fn who_listens_later_is_told_the_room_and_what_came_since() {
    let mut room = room(Duration::MAX);
    room.push([picture(0, 'I', 100)]);
    room.push_with_event(picture(40, 'P', 100)).await;
    room.push([picture(80, 'I', 100)]);
    let mut watcher = room.watch();
    watcher.see().await;
    assert_eq!(watcher.words(), ["picture"]);
    room.push_with_event(picture(120, 'P', 100)).await;
    watcher.see().await;
    assert!(watcher.messages().is_empty(), "nobody listens");
    watcher.playback.tell_events();
    watcher.playback.tell_events();
    watcher.receive(&Outbox::default());
    assert_eq!(watcher.words()[2..], ["again clock", "again card.show", "card.show"]);
    let timestamp = watcher.packets(VIDEO)[0].header.timestamp;
    assert_eq!(watcher.messages()[1]["rtp"], json!(timestamp), "it fired before he came: with his first picture");
    assert_eq!(watcher.messages()[2]["rtp"], json!(timestamp.wrapping_add(40 * 90)));
    room.push([picture(160, 'I', 100)]);
    watcher.see().await;
    assert_eq!(watcher.messages().len(), 3, "what he followed is not told again");
    let counters = watcher.playback.counters();
    assert_eq!((counters.events, counters.events_replayed), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_room_that_became_another_is_told_again() {
    let mut room = room(Duration::MAX);
    let head = |cards: &[&str]| {
        let mut state = RoomState::default();
        cards.iter().zip(1..).for_each(|(slot, seq)| state.apply(&stamped(seq, slot)));
        Item::Head(Head { room: state.into(), ..Head::clone(&Head::of(tracks().into())) }.into())
    };
    room.relay(head(&["left", "right"]), 1);
    room.relay(Item::Frame(picture(0, 'I', 100)), 1);
    room.relay(head(&["left"]), 2);
    room.relay(Item::Frame(picture(40, 'I', 100)), 2);
    let mut watcher = room.watch();
    watcher.playback.tell_events();
    watcher.see().await;
    assert_eq!(watcher.words(), ["again card.show", "picture"]);
    room.relay(head(&["left", "right"]), 3);
    room.relay(Item::Frame(picture(80, 'I', 100)), 3);
    watcher.see().await;
    assert_eq!(watcher.words()[2..], ["again card.show", "again card.show", "picture"]);
}

/// A card as an edge gets it.
fn stamped(seq: u64, slot: &str) -> Arc<Event> {
    let event = json!({"v": 1, "id": ulid::Ulid::from_parts(seq, 0).to_string(), "source": "live/room", "seq": seq,
        "type": "card.show", "op": "set", "key": format!("card:{slot}"), "time": {"mode": "asap"},
        "data": {"a": "x".repeat(500)}});
    Event::from_object(event.as_object().expect("object").clone()).expect("an event").into()
}

#[tokio::test(start_paused = true)]
async fn who_leaves_his_messages_unread_is_over_and_who_never_listens_is_not() {
    let mut room = room(Duration::MAX);
    room.relay(Item::Frame(picture(0, 'I', 100)), 1);
    let (mut deaf, mut stuck) = (room.watch(), room.watch());
    deaf.see().await;
    take_only(&mut stuck).await;
    stuck.playback.tell_events();
    for n in 1..=16 {
        (0..64).for_each(|nth| room.relay(Item::Event(stamped(64 * n + nth, "main")), 1));
        room.relay(Item::Frame(picture(i64::try_from(n).expect("small") * 40, 'P', 50)), 1);
        deaf.see().await;
        take_only(&mut stuck).await;
    }
    assert_eq!((deaf.over, deaf.words().len()), (None, 17));
    assert_eq!(stuck.over, Some(End::EventsLost.into()));
}

#[tokio::test(start_paused = true)]
async fn who_loses_what_told_him_is_told_the_room_and_all_since_once_more() {
    let mut room = room(Duration::MAX);
    let mut state = RoomState::default();
    state.apply(&stamped(1, "left"));
    room.relay(Item::Head(Head { room: state.into(), ..Head::clone(&Head::of(tracks().into())) }.into()), 1);
    room.relay(Item::Frame(picture(0, 'I', 100)), 1);
    let mut watcher = room.watch();
    watcher.playback.tell_events();
    take_only(&mut watcher).await;
    let seqs = |watcher: &Watcher| -> Vec<_> {
        watcher.messages().iter().map(|message| message["ev"]["seq"].as_u64().expect("a number")).collect()
    };
    // Half of what waits is on its way to him, and half is not.
    (2..=300).for_each(|seq| room.relay(Item::Event(stamped(seq, "main")), 1));
    room.relay(Item::Frame(picture(40, 'P', 50)), 1);
    take_only(&mut watcher).await;
    assert_eq!(std::iter::from_fn(|| watcher.playback.poll_message()).take(150).count(), 150);
    watcher.playback.stop_telling();
    room.relay(Item::Event(stamped(301, "main")), 1);
    room.relay(Item::Frame(picture(80, 'P', 50)), 1);
    watcher.see().await;
    assert_eq!(seqs(&watcher), [0; 0], "nobody listens");
    watcher.playback.tell_events();
    watcher.receive(&Outbox::default());
    assert_eq!(seqs(&watcher), (1..=301).collect::<Vec<_>>());
    assert_eq!((watcher.messages()[0]["rp"].clone(), watcher.messages()[1]["rp"].clone()), (json!(1), json!(0)));

    watcher.playback.stop_telling();
    for n in 0..20_u64 {
        (0..100).for_each(|nth| room.relay(Item::Event(stamped(1_000 + n * 100 + nth, "main")), 1));
        room.relay(Item::Frame(picture(120 + 40 * i64::try_from(n).expect("small"), 'P', 50)), 1);
        take_only(&mut watcher).await;
    }
    assert_eq!(watcher.over, None, "nothing piles up for nobody");
}

/// His packets are sent, and his messages not taken.
async fn take_only(watcher: &mut Watcher) {
    loop {
        let mut out = Outbox::default();
        let taking = poll_fn(|cx| watcher.playback.poll_take(cx, clock::now(), &mut watcher.sealer, 64, &mut out));
        match timeout_at(clock::now() + A_MOMENT, taking).await {
            Ok(Ok(())) => {}
            Ok(Err(over)) => return watcher.over = Some(over),
            Err(_) => return,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_is_sent_again_on_a_stream_of_its_own() {
    let mut room = room(Duration::MAX);
    room.push([picture(0, 'I', 8_000)]);
    let mut watcher = room.watch();
    watcher.see().await;
    let packets = watcher.packets(VIDEO);
    let lost: Vec<_> = packets.iter().step_by(3).map(|packet| packet.header.sequence).collect();
    let next = packets.last().expect("packets").header.sequence.wrapping_add(1);
    // He asks twice, and for what was never sent.
    watcher.say(|out| write_nack(out, 9, VIDEO, &lost));
    watcher.say(|out| write_nack(out, 9, VIDEO, &[lost[0], next, next.wrapping_add(30_000)]));
    watcher.say(|out| write_nack(out, 9, AUDIO, &lost));
    watcher.see().await;
    let again = watcher.packets(RTX);
    assert_eq!((again.len(), watcher.playback.link().retransmitted), (lost.len(), lost.len() as u64));
    let mut whole: BTreeMap<u16, Received> =
        packets.into_iter().map(|packet| (packet.header.sequence, packet)).collect();
    let first = *whole.keys().next().expect("packets");
    let before = whole.clone();
    whole.retain(|sequence, _| !lost.contains(sequence));
    assert!(depacketise(&whole.values().cloned().collect::<Vec<_>>()).is_empty());
    for packet in again {
        assert_eq!(packet.header.payload_type, 103);
        assert!(packet.transport.is_some());
        let (sequence, payload) = packet.payload.split_first_chunk().expect("the number first");
        let sequence = u16::from_be_bytes(*sequence);
        let original = before.get(&sequence).expect("one of those");
        assert_eq!(
            (packet.header.marker, packet.header.timestamp),
            (original.header.marker, original.header.timestamp)
        );
        whole.insert(sequence, Received { payload: payload.to_vec(), ..packet });
    }
    assert!(first < 1 << 15, "the first sequence number is in the lower half");
    let units = depacketise(&whole.into_values().collect::<Vec<_>>());
    assert_eq!(units[0].data, picture(0, 'I', 8_000).data);

    tokio::time::advance(limits::WHEP_HISTORY_MAX * 2).await;
    room.push([picture(2_000, 'P', 100)]);
    watcher.see().await;
    watcher.say(|out| write_nack(out, 9, VIDEO, &lost));
    watcher.see().await;
    assert_eq!(watcher.packets(RTX).len(), lost.len(), "too late");
}

#[tokio::test(start_paused = true)]
async fn nobody_makes_us_send_more_again_than_we_sent() {
    let mut room = room(Duration::MAX);
    room.push([picture(0, 'I', 8_000)]);
    let mut watcher = room.watch();
    watcher.see().await;
    let sent: Vec<_> = watcher.packets(VIDEO).iter().map(|packet| packet.header.sequence).collect();
    for _ in 0..10 {
        watcher.say(|out| write_nack(out, 9, VIDEO, &sent));
        watcher.see().await;
    }
    assert_eq!(watcher.packets(RTX).len(), sent.len());

    let mut without = terms();
    without.tracks[0].rtx = None;
    let mut watcher = room.watch_with(&without, BFrames::Refuse);
    watcher.see().await;
    let before = watcher.seen.len();
    let lost = watcher.packets(VIDEO)[0].header.sequence;
    watcher.say(|out| write_nack(out, 9, VIDEO, &[lost]));
    watcher.see().await;
    assert_eq!(watcher.seen.len(), before, "the same bytes under the same number can't be sealed twice");
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_out_in_parts_that_a_socket_holds() {
    let mut room = room(Duration::MAX);
    let group: Vec<_> =
        (0..25).map(|n| picture(n * 40, if n == 0 { 'I' } else { 'P' }, 10_000 + 7 * n as usize)).collect();
    room.push(group.clone());
    let began = clock::now();
    let mut watcher = room.watch();
    watcher.see_for(Duration::from_millis(200)).await;
    assert_eq!(watcher.sizes(), group.iter().map(|frame| frame.data.len() - 4).collect::<Vec<_>>());
    let mut parts = BTreeMap::<_, usize>::new();
    watcher
        .packets(VIDEO)
        .iter()
        .for_each(|packet| *parts.entry(packet.at - began).or_default() += packet.payload.len());
    assert!(parts.values().all(|bytes| *bytes < BURST_BYTES + 1200), "{parts:?}");
    assert!(parts.len() >= 250_000 / BURST_BYTES && parts.len() < 12, "{parts:?}");
    assert!(parts.keys().zip(parts.keys().skip(1)).all(|(one, next)| *next - *one >= BURST_PAUSE), "{parts:?}");
}

#[tokio::test(start_paused = true)]
async fn who_lags_skips_to_a_keyframe_and_his_sequence_numbers_do_not() {
    let mut room = room(Duration::from_millis(500));
    room.push([picture(0, 'I', 1_000)]);
    let mut watcher = room.watch();
    watcher.playback.tell_events();
    watcher.see().await;
    room.push([picture(40, 'P', 1_001)]);
    room.push_with_event(picture(80, 'P', 1_002)).await;
    room.push([picture(1_000, 'I', 3_003), picture(1_040, 'P', 1_004)]);
    tokio::time::sleep(A_MOMENT).await;
    watcher.see().await;
    assert_eq!(watcher.sizes(), [1_000, 3_003, 1_004]);
    assert_eq!(watcher.playback.counters().frames_skipped, 2);
    assert!(watcher.words().contains(&"card.show".to_owned()), "events are not skipped");
    let sequences: Vec<_> = watcher.packets(VIDEO).iter().map(|packet| packet.header.sequence).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{sequences:?}");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_loses_a_third_is_left_alone_until_a_keyframe() {
    let mut room = room(Duration::MAX);
    room.push([picture(0, 'I', 100)]);
    let mut watcher = room.watch();
    watcher.see().await;
    for second in 0..3 {
        for n in 0..10 {
            let lost = if second < 2 { 40 } else { 0 };
            watcher.say_lost(100, lost);
            room.push([picture(second * 1000 + n * 100 + 50, 'P', 200), sound(second * 1000 + n * 100 + 60)]);
            watcher.see_for(Duration::from_millis(100)).await;
        }
    }
    let link = watcher.playback.link();
    assert_eq!((link.overruns, link.loss_per_mille), (1, 400));
    assert_eq!((watcher.packets(VIDEO).len(), watcher.packets(AUDIO).len()), (21, 30), "sound goes on");
    room.push([picture(4_000, 'I', 300), picture(4_040, 'P', 301)]);
    watcher.see().await;
    assert_eq!(watcher.sizes()[21..], [300, 301]);
    assert_eq!(watcher.playback.counters().frames_skipped, 10);
}

#[tokio::test(start_paused = true)]
async fn loss_that_retransmission_mends_changes_nothing() {
    let mut room = room(Duration::MAX);
    room.push([picture(0, 'I', 100)]);
    let mut watcher = room.watch();
    for n in 0..40 {
        watcher.say_lost(100, 20);
        room.push([picture(n * 100 + 50, 'P', 200)]);
        watcher.see_for(Duration::from_millis(100)).await;
    }
    let link = watcher.playback.link();
    assert_eq!((link.overruns, link.loss_per_mille, watcher.sizes().len()), (0, 200, 41));
}

/// PTS and DTS in milliseconds: I P B P, the B referred to by nothing or by something.
fn reordered(kind_of_b: char) -> [Frame; 4] {
    let at = |dts: i64, pts: i64, kind, bytes| Frame { pts_us: pts * 1000, ..picture(dts, kind, bytes) };
    [at(0, 40, 'I', 100), at(40, 120, 'P', 101), at(80, 80, kind_of_b, 102), at(120, 160, 'P', 103)]
}

#[tokio::test(start_paused = true)]
async fn pictures_out_of_order_are_left_out_or_end_the_viewer() {
    for (policy, kind_of_b, sizes, over) in [
        (BFrames::Refuse, 'B', vec![100, 101], Some(Over::BFrames)),
        (BFrames::Drop, 'B', vec![100, 101, 103], None),
        (BFrames::Drop, 'P', vec![100, 101], Some(Over::BFrames)),
    ] {
        let mut room = room(Duration::MAX);
        let mut watcher = room.watch_with(&terms(), policy);
        room.push(reordered(kind_of_b));
        watcher.see().await;
        assert_eq!((watcher.sizes(), watcher.over), (sizes, over), "{policy:?} {kind_of_b}");
        assert!(room.publisher.stream().has_b_frames());
    }
}

#[test]
fn that_pictures_are_out_of_order_is_said_once_a_group() {
    let ring = Ring::new(Bounds { bytes_max: 1 << 20, groups_max: 100 });
    let mut cursor = ring.cursor(None).from_group(1);
    let (mut muxer, out) = (RtpMux::new(BFrames::Refuse), Out::new(&ring, clock::now()));
    muxer.handle_item(Item::Head(Head::of(tracks().into())), 1, &out);
    for group in 1..=2 {
        let [first, second, b, last] = reordered('B');
        [first, second, b.clone(), b, last].into_iter().for_each(|f| muxer.handle_item(Item::Frame(f), group, &out));
    }
    let reads = std::iter::from_fn(|| cursor.try_recv().expect("open"));
    let is_told = |read: &Read<_>| matches!(read, Read::Entry { entry: RtpEntry::OutOfOrder, .. });
    assert_eq!(reads.filter(is_told).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_before_a_picture_that_is_left_out_goes_before_the_next() {
    let mut room = room(Duration::MAX);
    let mut watcher = room.watch_with(&terms(), BFrames::Drop);
    watcher.playback.tell_events();
    let [first, second, b, last] = reordered('B');
    room.push([first, second]);
    room.push_with_event(b).await;
    room.push([last]);
    watcher.see().await;
    assert_eq!(watcher.words(), ["picture", "picture", "clock", "card.show", "picture"]);
}

#[tokio::test(start_paused = true)]
async fn both_tracks_tell_one_clock_every_second() {
    let mut room = room(Duration::MAX);
    room.push([picture(0, 'I', 100), sound(0)]);
    let mut watcher = room.watch();
    watcher.see().await;
    for n in 1..50 {
        room.push([picture(n * 40, 'P', 100), sound(n * 40)]);
        watcher.see_for(Duration::from_millis(40)).await;
    }
    let reports = watcher.reports();
    assert_eq!(reports.iter().map(|(ssrc, ..)| *ssrc).collect::<Vec<_>>(), [VIDEO, AUDIO, VIDEO, AUDIO, VIDEO, AUDIO]);
    let (video, audio) = (&watcher.packets(VIDEO)[0], &watcher.packets(AUDIO)[0]);
    for pair in reports.chunks(2) {
        let (_, utc_us, timestamp, _) = pair[0];
        let (_, other_us, other, _) = pair[1];
        assert_eq!(utc_us, other_us);
        // How long before the report the first frames were, by either clock: they are of the same time.
        let video_us = i64::from(timestamp.wrapping_sub(video.header.timestamp).cast_signed()) * 1000 / 90;
        let audio_us = i64::from(other.wrapping_sub(audio.header.timestamp).cast_signed()) * 1000 / 48;
        assert!((video_us - audio_us).abs() <= 21, "{video_us} {audio_us}");
    }
    assert!(reports[4].1 - reports[2].1 >= 1_000_000 && reports[4].1 - reports[2].1 < 1_050_000);
    assert!(reports[4].3 > reports[2].3, "packets are counted");

    let (_, utc_us, ..) = reports[4];
    let report = Report { ssrc: VIDEO, last_sr: ntp::middle(ntp::from_unix_us(utc_us)), ..Report::default() };
    let sent =
        watcher.playback.joined + Duration::from_micros((utc_us - watcher.playback.joined_utc_us).unsigned_abs());
    watcher.say(|out| write_receiver_report(out, 9, &[report]));
    let round_trip = watcher.playback.link().round_trip.expect("told");
    assert!(round_trip.abs_diff(clock::now() - sent) < Duration::from_millis(1), "{round_trip:?}");
}

#[tokio::test(start_paused = true)]
async fn the_capture_time_is_the_rooms_and_comes_with_a_frame_of_each_second() {
    let mut room = room(Duration::MAX);
    let clock = json!({"v": 1, "id": ulid::Ulid::from_parts(1, 0).to_string(), "source": "live/room", "seq": 1,
        "type": "clock", "op": "set", "key": "clock",
        "time": {"mode": "pts", "epoch": 0, "pts_us": 500_000, "wall_ms": 1_800_000_000_000_u64}, "data": {}});
    let clock = Event::from_object(clock.as_object().expect("object").clone()).expect("an event");
    room.relay(Item::Event(clock.into()), 1);
    room.relay(Item::Frame(picture(0, 'I', 3000)), 1);
    let mut watcher = room.watch();
    for n in 1..40 {
        room.relay(Item::Frame(picture(n * 40, 'P', 100)), 1);
        watcher.see_for(Duration::from_millis(40)).await;
    }
    let told = |packet: &Received| packet.captured.map(ntp::to_unix_us);
    let told: Vec<_> = watcher.packets(VIDEO).iter().filter_map(told).collect();
    let captured_us = |pts_ms: i64| 1_800_000_000_000_000 + pts_ms * 1000 - 500_000;
    assert_eq!(told, [captured_us(0), captured_us(1_040)]);
}

#[tokio::test(start_paused = true)]
async fn without_feedback_reports_tell_the_loss() {
    let mut room = room(Duration::MAX);
    room.push([picture(0, 'I', 100)]);
    let mut silent = terms();
    silent.tracks.iter_mut().for_each(|track| track.feedback.transport_cc = false);
    let mut watcher = room.watch_with(&silent, BFrames::Refuse);
    watcher.see().await;
    assert_eq!(watcher.packets(VIDEO)[0].transport, None);
    for second in 1..4 {
        let report = Report { ssrc: VIDEO, fraction_lost: 128, highest_sequence: second * 1000, ..Report::default() };
        watcher.say(|out| write_receiver_report(out, 9, &[report]));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    watcher.say(|out| write_receiver_report(out, 9, &[Report { ssrc: VIDEO, ..Report::default() }]));
    assert_eq!(watcher.playback.link().loss_per_mille, 500);
}

#[tokio::test(start_paused = true)]
async fn requests_for_keyframes_are_counted_and_rubbish_is_not_read() {
    let mut room = room(Duration::MAX);
    room.push([picture(0, 'I', 100)]);
    let mut watcher = room.watch();
    watcher.say(|out| rtcp::write_pli(out, 9, VIDEO));
    watcher.playback.handle_rtcp(clock::now(), &[0x81, 206, 0, 200, 1]);
    assert_eq!(watcher.playback.link().keyframes_asked, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_another_codec_or_without_a_publisher_ends_him() {
    let mut room = room(Duration::MAX);
    room.push([picture(0, 'I', 100)]);
    let (mut first, mut second) = (room.watch(), room.watch());
    first.see().await;
    let vp8 = VideoConfig { codec: Codec::Vp8, description: Bytes::new(), width: 16, height: 16 };
    room.publisher.set_tracks(Tracks { video: Some(vp8), ..tracks() }).expect("current");
    room.push([Frame { data: Bytes::from_static(&[0; 20]), ..picture(40, 'I', 100) }]);
    first.see().await;
    assert_eq!((first.over, first.sizes()), (Some(Over::CodecChanged), vec![100]));
    room.publisher.end();
    second.see().await;
    assert_eq!(second.over, Some(Over::CodecChanged));
}

#[tokio::test(start_paused = true)]
async fn a_track_that_he_asked_for_and_that_comes_later_ends_him_so_that_he_comes_again() {
    let mut room = room(Duration::MAX);
    room.publisher.set_tracks(Tracks { audio: None, ..tracks() }).expect("current");
    room.push([picture(0, 'I', 100)]);
    let mut picture_only = terms();
    picture_only.tracks.truncate(1);
    let (mut wants_both, mut content) =
        (room.watch_with(&picture_only, BFrames::Refuse), room.watch_with(&picture_only, BFrames::Refuse));
    wants_both.playback = wants_both.playback.missing(vec![TrackKind::Audio]);
    wants_both.see().await;
    content.see().await;
    assert_eq!((wants_both.over, content.over), (None, None));
    room.publisher.set_tracks(tracks()).expect("current");
    room.push([picture(40, 'I', 101), sound(40)]);
    wants_both.see().await;
    content.see().await;
    assert_eq!((wants_both.over, content.over), (Some(Over::TracksChanged), None));
    assert_eq!((wants_both.sizes(), content.sizes()), (vec![100, 101], vec![100, 101]));
}

/// Items of a line through the muxer alone.
fn muxed(items: impl IntoIterator<Item = Item>) -> Vec<RtpEntry> {
    let ring = Ring::new(Bounds { bytes_max: 1 << 20, groups_max: 100 });
    let mut cursor = ring.cursor(None);
    let (mut muxer, out) = (RtpMux::new(BFrames::Refuse), Out::new(&ring, clock::now()));
    items.into_iter().for_each(|item| muxer.handle_item(item, 1, &out));
    let reads = std::iter::from_fn(|| cursor.try_recv().expect("open"));
    reads.filter_map(|read| if let Read::Entry { entry, .. } = read { Some(entry) } else { None }).collect()
}

#[test]
fn timestamps_are_floored_from_one_clock_and_wrap() {
    let all = |us| (ticks(TrackKind::Video, us), ticks(TrackKind::Audio, us));
    assert_eq!(all(0), (0, 0));
    assert_eq!(all(11), (0, 0));
    assert_eq!(all(12), (1, 0));
    assert_eq!(all(-1), (u32::MAX, u32::MAX));
    assert_eq!(all(1_000_000), (90_000, 48_000));
    // 2^32 ticks of 90 kHz are 47,721.858844 s.
    assert_eq!(ticks(TrackKind::Video, 47_721_858_845), 0);
    assert_eq!(ticks(TrackKind::Video, 47_721_858_844), u32::MAX);
    assert_eq!(ticks(TrackKind::Video, i64::MAX), ticks(TrackKind::Audio, i64::MAX), "no overflow");
    let at = |us, kind| Frame { pts_us: us, dts_us: us, ..picture(0, kind, 50) };
    let over_the_wrap = [at(47_721_840_000, 'I'), at(47_721_880_000, 'P')];
    let entries = muxed([Item::Head(Head::of(tracks().into()))].into_iter().chain(over_the_wrap.map(Item::Frame)));
    let timestamps: Vec<_> = entries
        .iter()
        .filter_map(|entry| if let RtpEntry::Frame(frame) = entry { Some(frame.timestamp) } else { None })
        .collect();
    assert_eq!(timestamps[1].wrapping_sub(timestamps[0]), 3600);
}

#[test]
fn frames_without_a_track_or_a_viewer_are_left_out() {
    let aac = AudioConfig { codec: Codec::Aac, ..opus() };
    let head = |tracks: Tracks| Item::Head(Head::of(tracks.into()));
    let long = Frame { data: Bytes::from(vec![0; 5000]), ..sound(20) };
    let entries = muxed([
        Item::Frame(picture(0, 'I', 50)),
        head(Tracks { audio: Some(aac), ..tracks() }),
        Item::Frame(sound(0)),
        Item::Frame(picture(40, 'I', 50)),
        head(tracks()),
        Item::Frame(long),
        Item::Frame(sound(60)),
    ]);
    let word = |entry: &RtpEntry| match entry {
        RtpEntry::Head(_) => "head",
        RtpEntry::Frame(frame) if frame.track == TrackKind::Video => "picture",
        RtpEntry::Frame(_) => "sound",
        _ => "other",
    };
    assert_eq!(entries.iter().map(word).collect::<Vec<_>>(), ["head", "picture", "head", "sound"]);
}
