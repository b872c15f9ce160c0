mod events;
mod model;
mod publishers;
mod slate;

use std::task::Poll;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::media::{AudioConfig, Codec, Frame, Head, Item, TrackKind, Tracks, VideoConfig};

fn name() -> StreamName {
    "live/room".parse().expect("name")
}

fn hub() -> Arc<Hub> {
    Hub::new(Settings { reconnect_window: Duration::from_secs(30), ..Settings::default() }, Some(Origin::in_memory()))
}

fn video() -> Tracks {
    let config = VideoConfig { codec: Codec::Avc, description: Bytes::from_static(b"avcC"), width: 16, height: 16 };
    Tracks { video: Some(config), ..Tracks::default() }
}

fn frame(ms: i64, keyframe: bool) -> Frame {
    let data = Bytes::from_static(b"frame");
    Frame { track: TrackKind::Video, dts_us: ms * 1000, pts_us: ms * 1000, keyframe, data }
}

/// What a cursor has ready.
fn items(cursor: &mut Cursor<Item>) -> Vec<Item> {
    let reads = std::iter::from_fn(|| cursor.try_recv().ok().flatten());
    reads
        .filter_map(|read| match read {
            Read::Entry { entry, .. } => Some(entry),
            _ => None,
        })
        .collect()
}

/// DTS of the frames a cursor has ready.
fn frames(cursor: &mut Cursor<Item>) -> Vec<i64> {
    let frame = |item| if let Item::Frame(frame) = item { Some(frame.dts_us) } else { None };
    items(cursor).into_iter().filter_map(frame).collect()
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_comes_back_continues_the_timeline_and_keeps_its_viewers() {
    let hub = hub();
    let viewer = hub.view(&name()).expect("room");
    let mut cursor = viewer.stream().ring().cursor(None);
    let mut first = hub.publish(&name()).expect("slot");
    first.set_tracks(video()).expect("current");
    first.push_frame(frame(70_000, true)).expect("current");
    first.push_frame(frame(70_040, false)).expect("current");
    let mut seen = frames(&mut cursor);
    drop(first);
    assert_eq!(viewer.stream().state(), State::Interrupted);
    tokio::time::advance(Duration::from_secs(3)).await;
    let mut second = hub.publish(&name()).expect("slot");
    second.set_tracks(video()).expect("current");
    second.push_frame(frame(0, true)).expect("current");
    seen.extend(frames(&mut cursor));
    let gaps: Vec<_> = seen.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps, [40_000, 3_000_000]);
    assert_eq!(viewer.stream().state(), State::Live);
    assert_eq!(viewer.stream().tracks().expect("tracks").epoch, 1);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_stays_away_ends_the_stream_after_the_window() {
    let hub = hub();
    let viewer = hub.view(&name()).expect("room");
    let mut cursor = viewer.stream().ring().cursor(None);
    let mut publisher = hub.publish(&name()).expect("slot");
    publisher.push_frame(frame(0, true)).expect("current");
    drop(publisher);
    assert_eq!(frames(&mut cursor).len(), 1);
    let before = clock();
    assert_eq!(cursor.recv().await, Err(End::Closed));
    assert_eq!(before.elapsed().as_secs(), 30);
    assert!(hub.get(&name()).is_none() && hub.list().is_empty());
}

fn clock() -> crate::clock::Instant {
    crate::clock::now()
}

#[test]
fn pictures_out_of_order_are_known_for_three_groups_or_until_the_encoder_is_set_up_anew() {
    let hub = hub();
    let mut publisher = hub.publish(&name()).expect("slot");
    let reordered = |dts_ms: i64, pts_ms: i64, keyframe| Frame { pts_us: pts_ms * 1000, ..frame(dts_ms, keyframe) };
    let mut push = |frames: &[(i64, i64, bool)]| {
        for (dts_ms, pts_ms, keyframe) in frames {
            publisher.push_frame(reordered(*dts_ms, *pts_ms, *keyframe)).expect("current");
        }
        publisher.stream().has_b_frames()
    };
    assert!(!push(&[(0, 80, true), (40, 120, false), (80, 160, false)]), "late, but in order");
    assert!(!push(&[(120, 130, true)]), "a keyframe begins anew");
    assert!(push(&[(160, 250, false), (200, 210, false)]), "I P B");
    for dts_ms in [300, 400, 500] {
        assert!(push(&[(dts_ms, dts_ms, true), (dts_ms + 40, dts_ms + 40, false)]), "{dts_ms}");
    }
    assert!(!push(&[(600, 600, true)]), "three groups were in order");
    assert!(push(&[(640, 700, false), (680, 690, false)]));
    publisher.set_tracks(video()).expect("current");
    assert!(!publisher.stream().has_b_frames());
}

#[tokio::test(start_paused = true)]
async fn announcements_tell_what_can_be_served_and_nothing_else() {
    let hub = hub();
    let mut announcements = hub.announcements();
    let waiting = hub.view(&"live/other".parse().expect("name")).expect("room");
    let publisher = hub.publish(&name()).expect("slot");
    assert_eq!(announcements.next().await, [Announcement::Active(name())]);
    publisher.end();
    let publisher = hub.publish(&name()).expect("slot");
    assert_eq!(announcements.next().await, [Announcement::Ended(name()), Announcement::Active(name())]);
    publisher.end();
    assert_eq!(announcements.next().await, [Announcement::Ended(name())]);
    drop(waiting);
    assert!(hub.get(&"live/other".parse().expect("name")).is_none(), "a stream nobody waits for is forgotten");
}

#[tokio::test(start_paused = true)]
async fn audio_alone_has_start_points_and_the_relay_keeps_the_groups() {
    let hub = hub();
    let mut publisher = hub.publish(&name()).expect("slot");
    for ms in (0..2_500).step_by(20) {
        let audio = Frame { track: TrackKind::Audio, ..frame(ms, false) };
        publisher.push_frame(audio).expect("current");
    }
    let mut cursor = publisher.stream().ring().cursor(None);
    let joined = frames(&mut cursor).len();
    assert!((1..=50).contains(&joined), "{joined} frames from the newest start point");

    let mut relay = hub.publish(&"live/edge".parse().expect("name")).expect("slot");
    let mut cursor = relay.stream().ring().cursor(None);
    // The origin's groups began before this node knew of the stream.
    for group in 7..10u64 {
        relay.relay(Item::Frame(frame(40 * group as i64, true)), group).expect("current");
        let reads: Vec<_> = std::iter::from_fn(|| cursor.try_recv().expect("open")).collect();
        assert!(matches!(reads.last(), Some(Read::Entry { entry: Item::Frame(_), group: seen, .. }) if *seen == group));
    }
}

struct Sizes;

impl Mux for Sizes {
    type Out = Item;

    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, Item>) {
        out.push(item, group);
    }
}

fn terms(merge: Merge) -> Terms {
    let (bounds, linger) = (Bounds { bytes_max: 1000, groups_max: 2 }, Duration::from_secs(5));
    Terms { bounds, linger, merge, stop: CancellationToken::new(), transcode: None, history: false }
}

/// How long each of these items takes to its readers, if `merge` says how long it may wait.
async fn waits(merge: Merge, items: &[Frame]) -> Vec<u128> {
    let mut publisher = hub().publish(&name()).expect("slot");
    publisher.set_tracks(video()).expect("current");
    let terms = terms(merge);
    let muxed = Pool::new(terms.clone()).attach(name(), publisher.stream(), || Sizes);
    let mut cursor = muxed.cursor(None);
    let begin = clock::now();
    let (told, waited) = oneshot::channel();
    // A task of its own, which nothing wakes but the ring.
    task::spawn("reader", async move {
        let mut waited = Vec::new();
        while let Ok(read) = cursor.recv().await {
            if let Read::Entry { entry: Item::Frame(_), .. } = read {
                waited.push(cursor.entered().elapsed().as_millis());
            }
        }
        told.send(waited).expect("asked for");
    });
    for item in items {
        tokio::time::sleep_until(begin + Duration::from_micros(item.dts_us.unsigned_abs())).await;
        publisher.push_frame(item.clone()).expect("current");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    terms.stop.cancel();
    waited.await.expect("read to the end")
}

#[tokio::test(start_paused = true)]
async fn sound_waits_for_the_next_picture_and_not_for_long() {
    let sound = |ms| Frame { track: TrackKind::Audio, ..frame(ms, false) };
    let frames = [frame(0, true), sound(10), frame(13, false), sound(20), sound(22), frame(40, false)];
    let ms = Duration::from_millis;
    assert_eq!(waits(Merge { audio: ms(5), all: ms(0) }, &frames).await, [0, 3, 0, 5, 3, 0]);
    // The first is there when its reader comes, who waits for nothing then.
    assert_eq!(waits(Merge { audio: ms(100), all: ms(100) }, &frames).await, [0, 90, 87, 80, 78, 60]);
    assert_eq!(waits(Merge { audio: ms(0), all: ms(0) }, &frames).await, [0; 6]);
}

/// Makes something of keyframes alone, and panics at an event.
struct Keyframes;

impl Mux for Keyframes {
    type Out = Item;

    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, Item>) {
        match item {
            Item::Frame(frame) if frame.keyframe => out.push(Item::Frame(frame), group),
            Item::Data(_) => panic!("a muxer's fault"),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn readers_are_woken_for_what_is_theirs_and_when_their_muxer_panics() {
    let mut publisher = hub().publish(&name()).expect("slot");
    let pool = Pool::new(terms(Merge { audio: Duration::ZERO, all: Duration::ZERO }));
    let muxed = pool.attach(name(), publisher.stream(), || Keyframes);
    let mut cursor = muxed.cursor(None);
    let (ended, end) = oneshot::channel();
    let polls = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = polls.clone();
    task::spawn("reader", async move {
        let end = std::future::poll_fn(|cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            loop {
                match cursor.poll_recv(cx) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        ended.send(end.await).expect("asked for");
    });
    for ms in 0..10 {
        publisher.push_frame(frame(ms * 40, ms == 5)).expect("current");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert_eq!(polls.load(Ordering::Relaxed), 2, "once to begin, once for the keyframe");
    publisher.push_data(Bytes::from_static(b"amf")).expect("current");
    assert_eq!(end.await, Ok(End::Closed));
    assert_eq!(pool.len(), 0);
}

/// Says of all sound that it is Opus.
struct Opus;

impl Mux for Opus {
    type Out = Item;

    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, Item>) {
        let item = match item {
            Item::Head(head) => {
                let audio = head.tracks.audio.clone().map(|audio| AudioConfig { codec: Codec::Opus, ..audio });
                let tracks = Tracks { audio, ..Tracks::clone(&head.tracks) };
                Item::Head(Head { tracks: tracks.into(), ..Head::clone(&head) }.into())
            }
            item => item,
        };
        out.push(item, group);
    }
}

/// Attaches to lines of one pool.
struct Opuses(Pool<StreamName, Item>);

impl Transcode for Opuses {
    fn attach(&self, source: &Arc<Stream>, _: Codec) -> Muxed<Item> {
        self.0.attach(source.name().clone(), source, || Opus)
    }
}

#[tokio::test(start_paused = true)]
async fn a_muxer_that_comes_late_to_a_transcoded_line_misses_nothing_of_it() {
    let mut publisher = hub().publish(&name()).expect("slot");
    let transcode = Arc::new(Opuses(Pool::new(terms(Merge { audio: Duration::ZERO, all: Duration::ZERO }))));
    let _other = transcode.attach(publisher.stream(), Codec::Opus);
    publisher.set_tracks(video()).expect("current");
    publisher.push_frame(frame(0, true)).expect("current");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut feed = feed::Feed::new(publisher.stream().clone(), Some(transcode), false);
    let mut admitted = move || {
        let mut items = Vec::new();
        while let Some(read) = feed.try_recv().expect("open") {
            let Read::Entry { entry, group } = read else { continue };
            if feed.admits(&entry, group, Some(Codec::Opus)) {
                items.push(entry);
            }
        }
        items
    };
    assert_eq!(admitted().len(), 2, "a head and a picture");

    let aac = AudioConfig { codec: Codec::Aac, description: Bytes::new(), sample_rate: 48_000, channels: 2 };
    publisher.set_tracks(Tracks { audio: Some(aac), ..video() }).expect("current");
    publisher.push_frame(frame(40, true)).expect("current");
    publisher.push_data(Bytes::from_static(b"amf")).expect("current");
    publisher.push_frame(frame(80, false)).expect("current");
    publisher.push_frame(frame(120, true)).expect("current");
    // The transcoded line has all of it by now.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let items = admitted();
    let keyframe = |item: &Item| if let Item::Frame(frame) = item { Some(frame.keyframe) } else { None };
    assert_eq!(items.iter().filter_map(keyframe).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(items.iter().filter(|item| matches!(item, Item::Data(_))).count(), 1);
    let is_opus = |item: &Item| match item {
        Item::Head(head) => head.tracks.audio.as_ref().is_some_and(|audio| audio.codec == Codec::Opus),
        _ => true,
    };
    assert!(items.iter().all(is_opus));
}

#[tokio::test(start_paused = true)]
async fn viewers_share_one_muxer_and_it_lingers() {
    let hub = hub();
    let mut publisher = hub.publish(&name()).expect("slot");
    publisher.push_frame(frame(0, true)).expect("current");
    let pool = Pool::new(terms(Merge { audio: Duration::ZERO, all: Duration::ZERO }));
    let first = pool.attach(name(), publisher.stream(), || Sizes);
    let second = pool.attach(name(), publisher.stream(), || -> Sizes { panic!("one is enough") });
    let mut cursor = second.cursor(None);
    assert!(matches!(cursor.recv().await, Ok(Read::Entry { entry: Item::Head(_), .. })));
    assert!(matches!(cursor.recv().await, Ok(Read::Entry { entry: Item::Frame(_), .. })));
    drop(first);
    drop(second);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(pool.len(), 1);
    // Frames must not push the end of the linger away.
    publisher.push_frame(frame(40, false)).expect("current");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(pool.len(), 0);
    assert!(cursor.recv().await.is_ok(), "what it made is still delivered");
    while cursor.recv().await.is_ok() {}
    assert_eq!(cursor.recv().await, Err(End::Closed));
}

#[tokio::test(start_paused = true)]
async fn data_messages_leave_the_timeline_alone() {
    let hub = hub();
    let mut publisher = hub.publish(&name()).expect("slot");
    publisher.push_data(Bytes::from_static(b"too early")).expect("current");
    publisher.set_tracks(video()).expect("current");
    publisher.push_frame(frame(100_000, true)).expect("current");
    let audio = Frame { track: TrackKind::Audio, ..frame(99_990, false) };
    let mut cursor = publisher.stream().ring().cursor(None);
    publisher.push_data(Bytes::from_static(b"first")).expect("current");
    publisher.push_frame(audio).expect("current");
    publisher.push_data(Bytes::from_static(b"second")).expect("current");
    publisher.push_frame(frame(100_040, false)).expect("current");
    let line: Vec<_> = std::iter::from_fn(|| cursor.try_recv().expect("open")).collect();
    let data: Vec<_> = line
        .iter()
        .filter_map(|read| match read {
            Read::Entry { entry: Item::Data(data), .. } => Some((data.dts_us, data.amf0.as_ref())),
            _ => None,
        })
        .collect();
    let [Read::Entry { entry: Item::Head(_), .. }, Read::Entry { entry: Item::Frame(first), .. }, ..] = &line[..]
    else {
        panic!("{line:?}")
    };
    assert_eq!(data, [(first.dts_us, &b"first"[..]), (first.dts_us, &b"second"[..])], "times never fall");
    let Some(Read::Entry { entry: Item::Frame(last), .. }) = line.last() else { panic!("{line:?}") };
    assert_eq!(last.dts_us - first.dts_us, 40_000);
}

#[tokio::test(start_paused = true)]
async fn an_encoders_clock_that_restarts_is_told_as_a_new_epoch_before_its_first_frame() {
    let hub = hub();
    let mut publisher = hub.publish(&name()).expect("slot");
    publisher.set_tracks(video()).expect("current");
    publisher.push_frame(frame(100_000, true)).expect("current");
    let mut cursor = publisher.stream().ring().cursor(None);
    while cursor.try_recv().expect("open").is_some() {}
    tokio::time::advance(Duration::from_millis(500)).await;
    publisher.push_frame(frame(0, true)).expect("current");
    let [Item::Head(head), .., Item::Frame(_)] = &items(&mut cursor)[..] else { panic!("the epoch") };
    assert_eq!((head.tracks.epoch, head.tracks.video.is_some()), (1, true));
    publisher.push_frame(frame(40, false)).expect("current");
    assert!(matches!(items(&mut cursor)[..], [Item::Frame(_)]), "told once");
}

#[tokio::test(start_paused = true)]
async fn a_publisher_never_gets_the_slot_of_a_stream_that_has_just_ended() {
    let hub = hub();
    let first = hub.publish(&name()).expect("slot");
    let looked_up = hub.enter(&name(), Door::Announce).expect("room");
    let old_generation = *first.stream().generation.borrow();
    first.end();
    let sit = |stream| Publisher::sit(hub.clone(), stream, |seats, now| seats.admit(Claim::default(), now));
    assert!(sit(looked_up.clone()).expect("no rival").is_none());
    let second = hub.publish(&name()).expect("slot");
    assert!(!Arc::ptr_eq(second.stream(), &looked_up) && !second.stream().ring().is_closed());
    drop(second);
    let third = hub.publish(&name()).expect("slot");
    assert!(hub.end_session(third.stream(), old_generation));
    assert!(hub.is_announced(&name()), "a window that ran out for an older session ends nothing");
}

#[tokio::test(start_paused = true)]
async fn another_nodes_event_waits_for_its_picture_when_sound_comes_first() {
    let hub = hub();
    let mut relay = hub.publish(&name()).expect("slot");
    relay.relay(Item::Head(Head::of(video().into())), 1).expect("current");
    let mut cursor = relay.stream().ring().cursor(None);
    let json = br#"{"data":{},"id":"01KAMVFYHGM9S346Q3D25VT4F5","op":"fire","seq":7,"source":"live/room",
        "time":{"mode":"pts","pts_us":40000},"type":"gift.send","v":1}"#;
    let event = Arc::new(crate::media::Event::from_json(json).expect("an event"));
    relay.relay(Item::Event(event.clone()), 1).expect("current");
    relay.relay(Item::Frame(Frame { track: TrackKind::Audio, ..frame(30, false) }), 1).expect("current");
    relay.relay(Item::Frame(frame(40, true)), 1).expect("current");
    let mut kinds = Vec::new();
    while let Some(Read::Entry { entry, .. }) = cursor.try_recv().expect("open") {
        kinds.push(match entry {
            Item::Head(_) => "head",
            Item::Event(_) => "event",
            Item::Frame(frame) if frame.track == TrackKind::Audio => "audio",
            Item::Frame(_) => "video",
            Item::Data(_) => "data",
        });
    }
    assert_eq!(kinds, ["head", "event", "video"], "who joins at the keyframe gets its event");
}

#[test]
fn viewers_of_made_up_names_leave_room_for_publishers() {
    let hub = hub();
    let made_up = |i: usize| hub.view(&format!("live/{i}").parse().expect("name"));
    let viewers: Vec<_> = (0..limits::STREAMS_MAX / 2).map(|i| made_up(i).expect("room")).collect();
    assert!(made_up(viewers.len()).is_err());
    assert_eq!(hub.timelines.lock().len(), viewers.len(), "who is turned away leaves no room behind");
    assert!(made_up(0).is_ok(), "a stream that is there can be watched");
    assert!(hub.publish(&name()).is_ok());
}
