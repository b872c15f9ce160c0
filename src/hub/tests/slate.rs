//! What viewers see while the publisher is away.

use super::*;

/// A hub that shows the slate, until the token is dropped.
fn hub_with_slate() -> (Arc<Hub>, tokio_util::sync::DropGuard) {
    let settings = Settings { slate: Slate::LastKeyframe, ..Settings::default() };
    let (hub, stop) = (Hub::new(settings, Some(Origin::in_memory())), CancellationToken::new());
    task::spawn("slate", hub.clone().run_slate(stop.clone()));
    (hub, stop.drop_guard())
}

/// Tracks with sound in 48 kHz.
fn tracks(codec: Codec, description: &'static [u8]) -> Tracks {
    let audio = AudioConfig::from_description(codec, Bytes::from_static(description));
    Tracks { audio: Some(audio), ..video() }
}

const AAC_LC_STEREO: &[u8] = &[0x11, 0x90];

fn keyframe(ms: i64) -> Frame {
    Frame { data: Bytes::from_static(b"keyframe"), ..frame(ms, true) }
}

fn sound(ms: i64) -> Frame {
    Frame { track: TrackKind::Audio, ..frame(ms, false) }
}

/// What came, split by tracks; decode times never fall.
fn split(items: &[Item]) -> (Vec<Frame>, Vec<Frame>) {
    let frames: Vec<_> = items
        .iter()
        .filter_map(|item| if let Item::Frame(frame) = item { Some(frame.clone()) } else { None })
        .collect();
    assert!(frames.windows(2).all(|pair| pair[0].dts_us <= pair[1].dts_us), "{frames:?}");
    frames.into_iter().partition(|frame| frame.track == TrackKind::Video)
}

fn gaps(frames: &[Frame]) -> Vec<i64> {
    frames.windows(2).map(|pair| pair[1].dts_us - pair[0].dts_us).collect()
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_keyframe_goes_on_each_second_with_silence_and_time_goes_on_behind_it() {
    let (hub, _running) = hub_with_slate();
    let mut first = hub.publish(&name()).expect("slot");
    first.set_tracks(tracks(Codec::Aac, AAC_LC_STEREO)).expect("current");
    first.push_frame(keyframe(70_000)).expect("current");
    first.push_frame(frame(70_040, false)).expect("current");
    first.push_frame(sound(70_045)).expect("current");
    let stream = first.stream().clone();
    let mut cursor = stream.ring().cursor(None);
    let mut seen = items(&mut cursor);
    let counted = || (stream.stats.frames_in.load(Ordering::Relaxed), stream.stats.bytes_in.load(Ordering::Relaxed));
    let before = counted();
    drop(first);
    let mut slate = Vec::new();
    for _ in 0..4 {
        seconds(1).await;
        slate.extend(items(&mut cursor));
    }
    let (pictures, silence) = split(&slate);
    assert!((3..=4).contains(&pictures.len()), "{pictures:?}");
    assert!(pictures.iter().all(|picture| picture.keyframe && picture.data == "keyframe"));
    assert!(gaps(&pictures).iter().all(|gap| *gap == 1_000_000), "{pictures:?}");
    assert!(silence.len() > 120 && gaps(&silence).iter().all(|gap| *gap == 21_333), "{}", silence.len());
    assert_eq!((stream.state(), counted()), (State::Interrupted, before));
    seen.extend(slate);

    tokio::time::sleep(Duration::from_millis(250)).await;
    let mut second = hub.publish(&name()).expect("slot");
    second.set_tracks(tracks(Codec::Opus, b"")).expect("current");
    second.push_frame(frame(0, false)).expect("current");
    assert_eq!(stream.state(), State::Interrupted);
    second.push_frame(keyframe(40)).expect("current");
    second.push_frame(frame(80, false)).expect("current");
    assert_eq!(stream.state(), State::Live);
    seconds(3).await;
    let after = items(&mut cursor);
    let told = after.iter().filter(|item| !matches!(item, Item::Event(_)));
    let heads: Vec<_> = told.map(|item| matches!(item, Item::Head(_))).collect();
    assert!(heads.ends_with(&[true, false, false]), "the configuration is told right before the picture: {heads:?}");
    seen.extend(after);
    let (pictures, _) = split(&seen);
    let [last, .., new, newer] = &pictures[..] else { panic!("{pictures:?}") };
    assert_eq!(new.dts_us - last.dts_us, 4_250_000 + 45_000, "by the wall clock, from the newest of all tracks");
    assert_eq!(newer.dts_us - new.dts_us, 40_000);
}

#[tokio::test(start_paused = true)]
async fn opus_gets_silence_and_sound_that_is_rare_none() {
    for (description, codec, length_us) in [
        (&b""[..], Codec::Opus, Some(20_000)),
        (b"OpusHead\x01\x06", Codec::Opus, None),
        (&[0x2b; 4], Codec::Aac, None),
    ] {
        let (hub, _running) = hub_with_slate();
        let mut publisher = hub.publish(&name()).expect("slot");
        publisher.set_tracks(tracks(codec, description)).expect("current");
        publisher.push_frame(keyframe(0)).expect("current");
        let mut cursor = publisher.stream().ring().cursor(None);
        items(&mut cursor);
        drop(publisher);
        seconds(3).await;
        let (pictures, silence) = split(&items(&mut cursor));
        assert!(pictures.len() >= 2);
        assert_eq!(gaps(&silence).first().copied(), length_us, "{codec:?} {description:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_slate_keeps_no_stream_longer_and_needs_a_picture_that_fits() {
    let (hub, _running) = hub_with_slate();
    let mut publisher = hub.publish(&name()).expect("slot");
    publisher.set_tracks(video()).expect("current");
    publisher.push_frame(keyframe(0)).expect("current");
    let mut cursor = publisher.stream().ring().cursor(None);
    let mut state = publisher.stream().watch_state();
    let began = clock();
    drop(publisher);
    state.wait_for(|state| *state == State::Ended).await.expect("the stream is held");
    assert_eq!(began.elapsed().as_secs(), 30);
    while cursor.recv().await.is_ok() {}
    assert_eq!(cursor.recv().await, Err(End::Closed));

    let mut publisher = hub.publish(&name()).expect("slot");
    publisher.set_tracks(video()).expect("current");
    publisher.push_frame(keyframe(0)).expect("current");
    let config = VideoConfig { description: Bytes::from_static(b"other"), ..video().video.expect("a picture") };
    publisher.set_tracks(Tracks { video: Some(config), ..Tracks::default() }).expect("current");
    let mut cursor = publisher.stream().ring().cursor(None);
    items(&mut cursor);
    drop(publisher);
    seconds(5).await;
    assert!(frames(&mut cursor).is_empty(), "its decoder has been told of other pictures");
}

#[tokio::test(start_paused = true)]
async fn a_silent_publisher_goes_on_behind_the_slate_at_his_next_keyframe() {
    let (hub, _running) = hub_with_slate();
    let mut publisher = hub.publish(&name()).expect("slot");
    publisher.set_tracks(video()).expect("current");
    publisher.push_frame(keyframe(0)).expect("current");
    let stream = publisher.stream().clone();
    let mut cursor = stream.ring().cursor(None);
    let mut seen = items(&mut cursor);
    seconds(5).await;
    stream.interrupt_if_silent();
    seconds(2).await;
    seen.extend(items(&mut cursor));
    // What lay in his connection.
    for ms in (40..5000).step_by(40) {
        publisher.push_frame(frame(ms, false)).expect("current");
    }
    assert!(frames(&mut cursor).is_empty());
    assert_eq!((stream.state(), stream.publishers().on_air), (State::Interrupted, true));
    publisher.push_frame(keyframe(5000)).expect("current");
    publisher.push_frame(frame(5040, false)).expect("current");
    seen.extend(items(&mut cursor));
    assert_eq!((stream.state(), stream.tracks().expect("told").epoch), (State::Live, 1));
    let (pictures, _) = split(&seen);
    assert!(pictures.windows(2).all(|pair| pair[1].dts_us - pair[0].dts_us >= 40_000), "{:?}", gaps(&pictures));
    let [first, .., again, _] = &pictures[..] else { panic!("{pictures:?}") };
    assert_eq!(again.dts_us - first.dts_us, 7_000_000);
}

#[tokio::test(start_paused = true)]
async fn another_nodes_line_gets_no_slate_here() {
    let (hub, _running) = hub_with_slate();
    let mut relay = hub.publish_relayed(&name()).expect("slot");
    relay.relay(Item::Head(Head::of(video().into())), 1).expect("current");
    relay.relay(Item::Frame(keyframe(0)), 1).expect("current");
    let mut cursor = relay.stream().ring().cursor(None);
    items(&mut cursor);
    drop(relay);
    seconds(5).await;
    assert!(frames(&mut cursor).is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_go_out_beside_the_slate() {
    let (hub, _running) = hub_with_slate();
    let mut publisher = hub.publish(&name()).expect("slot");
    publisher.set_tracks(video()).expect("current");
    publisher.push_frame(keyframe(0)).expect("current");
    let mut cursor = publisher.stream().ring().cursor(None);
    drop(publisher);
    seconds(2).await;
    items(&mut cursor);
    let serde_json::Value::Object(card) = serde_json::json!({"type": "card.show", "data": {"sku": "A"}}) else {
        panic!("a map")
    };
    let published = hub.publish_event(&name(), card, Some(At::InMs(100))).await.expect("accepted");
    seconds(2).await;
    let items = items(&mut cursor);
    let at =
        items.iter().position(|item| matches!(item, Item::Event(event) if event.head.id == published.event.head.id));
    let behind = &items[at.expect("it came") + 1];
    let Item::Frame(picture) = behind else { panic!("{behind:?}") };
    assert!(picture.keyframe && Some(picture.pts_us) >= published.event.pts_us(), "{picture:?}");
}

#[test]
fn silence_can_be_decoded() {
    for (description, data) in
        [([0x11, 0x88], crate::hub::slate::AAC_MONO), ([0x11, 0x90], crate::hub::slate::AAC_STEREO)]
    {
        let options = syom::DecodeOptions::audio();
        let mut decoder = syom::Decoder::from_asc(&description, options).expect("a decoder");
        let mut samples = 0;
        for _ in 0..3 {
            let decoded = decoder.decode_au(data, |frame| {
                assert!(frame.planar.iter().all(|plane| plane.iter().all(|sample| *sample == 0.0)));
                samples += frame.planar[0].len();
                Ok(())
            });
            decoded.expect("a frame");
        }
        assert_eq!(samples, 3 * 1024);
    }
    let mut decoder = opus_rs::OpusDecoder::new(48_000, 2).expect("a decoder");
    let mut samples = [1.0; 2 * 960];
    assert_eq!(decoder.decode(crate::hub::slate::OPUS, 960, &mut samples), Ok(960));
    assert!(samples.iter().all(|sample| sample.abs() < 1e-4));
}
