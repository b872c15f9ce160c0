//! Several publishers of one stream, and what its viewers see of that.

use super::*;
use crate::config::SecondPublisher;

fn hub_with(second_publisher: SecondPublisher) -> Arc<Hub> {
    Hub::new(Settings { second_publisher, ..Settings::default() }, None)
}

fn sound(ms: i64) -> Frame {
    Frame { track: TrackKind::Audio, ..frame(ms, false) }
}

/// Another encoder's tracks.
fn other_video() -> Tracks {
    let config = VideoConfig { codec: Codec::Avc, description: Bytes::from_static(b"other"), width: 32, height: 32 };
    Tracks { video: Some(config), ..Tracks::default() }
}

fn push(publisher: &mut Publisher, ms: i64, keyframe: bool) {
    publisher.push_frame(frame(ms, keyframe)).expect("not replaced");
}

#[tokio::test(start_paused = true)]
async fn a_newer_publisher_takes_over_at_its_first_keyframe_with_its_configuration_before_it() {
    let hub = hub_with(SecondPublisher::Takeover);
    let mut old = hub.publish(&name()).expect("slot");
    old.set_tracks(video()).expect("current");
    push(&mut old, 1000, true);
    let mut cursor = old.stream().ring().cursor(None);
    let before = frames(&mut cursor)[0];

    let mut new = hub.publish(&name()).expect("slot");
    new.set_tracks(other_video()).expect("waits");
    new.push_data(Bytes::from_static(b"early")).expect("waits");
    new.push_frame(sound(90_000)).expect("waits");
    push(&mut new, 90_000, false);
    assert_eq!(new.place(90_000_000), None);
    tokio::time::advance(Duration::from_millis(40)).await;
    push(&mut old, 1040, false);
    assert!(matches!(items(&mut cursor)[..], [Item::Frame(_)]), "the old one is on air, and alone");

    tokio::time::advance(Duration::from_millis(40)).await;
    push(&mut new, 90_040, true);
    new.push_frame(sound(90_030)).expect("on air");
    new.push_frame(sound(90_050)).expect("on air");
    assert_eq!(old.push_frame(frame(1080, false)), Err(Replaced));
    assert_eq!(old.replaced().await, Replaced);
    let seen = items(&mut cursor);
    let [Item::Head(head), Item::Frame(first), Item::Frame(sound)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((head.tracks.epoch, &head.tracks.video), (1, &other_video().video));
    assert!(first.keyframe && first.dts_us - before == 80_000, "{first:?}");
    assert_eq!(sound.dts_us - first.dts_us, 10_000, "none from before the keyframe");
    drop(old);
    assert_eq!(new.stream().state(), State::Live, "the old one takes nothing with him");
    assert_eq!(new.stream().stats.take_switches(), 1);
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::task::yield_now().await;
    assert!(hub.is_announced(&name()));
}

#[tokio::test(start_paused = true)]
async fn a_standby_goes_on_at_its_keyframe_when_the_one_on_air_is_gone_and_an_unpublish_ends_nothing() {
    let hub = hub_with(SecondPublisher::Standby);
    let mut notices = hub.notices();
    let mut main = hub.publish_as(&name(), Claim { priority: 1 }).expect("slot");
    let mut backup = hub.publish(&name()).expect("slot");
    for publisher in [&mut main, &mut backup] {
        publisher.set_tracks(video()).expect("seated");
        push(publisher, 0, true);
    }
    let stream = main.stream().clone();
    let mut cursor = stream.ring().cursor(None);
    assert_eq!(stream.publishers(), Publishers { on_air: true, standing_by: 1, no_keyframe: false });
    let mut seen = frames(&mut cursor);
    main.end();
    assert_eq!(stream.state(), State::Interrupted);
    tokio::time::advance(Duration::from_millis(500)).await;
    push(&mut backup, 500, false);
    assert!(frames(&mut cursor).is_empty());
    tokio::time::advance(Duration::from_millis(500)).await;
    push(&mut backup, 1000, true);
    seen.extend(frames(&mut cursor));
    assert_eq!((seen[1] - seen[0], stream.state()), (1_000_000, State::Live));

    let told: Vec<_> = std::iter::from_fn(|| notices.try_recv().ok()).map(|notice| notice.what).collect();
    let (live, interrupted) = (What::State(State::Live), What::State(State::Interrupted));
    let came = What::PublisherCame;
    assert_eq!(told, [came, came, live, interrupted, What::PublisherGone, What::Switched, live]);
    backup.end();
    assert_eq!(stream.state(), State::Ended, "it was the last");
}

#[tokio::test(start_paused = true)]
async fn a_silent_publisher_interrupts_his_stream_and_goes_on_when_he_speaks_again() {
    let hub = hub_with(SecondPublisher::Takeover);
    let mut publisher = hub.publish(&name()).expect("slot");
    push(&mut publisher, 0, true);
    let stop = CancellationToken::new();
    let watching = task::spawn("silence", hub.clone().run_silence(stop.clone()));
    let mut state = publisher.stream().watch_state();
    let began = clock();
    state.wait_for(|state| *state == State::Interrupted).await.expect("the stream is there");
    assert!(began.elapsed() <= Duration::from_secs(5), "{:?}", began.elapsed());
    tokio::time::advance(Duration::from_secs(14)).await;
    push(&mut publisher, 19_000, false);
    assert_eq!(publisher.stream().state(), State::Live);
    stop.cancel();
    watching.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn who_has_come_within_the_window_is_waited_for_until_his_keyframe() {
    let hub = hub_with(SecondPublisher::Standby);
    let mut main = hub.publish(&name()).expect("slot");
    push(&mut main, 0, true);
    let mut late = hub.publish(&name()).expect("slot");
    late.set_tracks(video()).expect("seated");
    let stream = main.stream().clone();
    drop(main);
    tokio::time::sleep(Duration::from_secs(32)).await;
    assert_eq!(stream.state(), State::Interrupted);
    push(&mut late, 0, true);
    assert_eq!(stream.state(), State::Live);
    drop(late);
    tokio::time::sleep(Duration::from_secs(32)).await;
    assert_eq!(stream.state(), State::Ended);
}

#[tokio::test(start_paused = true)]
async fn an_unpublish_is_a_pause_where_the_operator_wants_that() {
    let hub = Hub::new(Settings { end_on_unpublish: false, ..Settings::default() }, None);
    let mut publisher = hub.publish(&name()).expect("slot");
    push(&mut publisher, 0, true);
    let stream = publisher.stream().clone();
    publisher.end();
    assert_eq!(stream.state(), State::Interrupted);
    assert_eq!(hub.publish(&name()).expect("slot").stream().name(), stream.name());
}

#[tokio::test(start_paused = true)]
async fn pictures_without_keyframes_are_told_after_ten_seconds() {
    let hub = hub_with(SecondPublisher::Takeover);
    let mut publisher = hub.publish(&name()).expect("slot");
    publisher.set_tracks(video()).expect("current");
    let lacks = |publisher: &Publisher| publisher.stream().publishers().no_keyframe;
    for second in 0..10 {
        push(&mut publisher, second * 1000, false);
        assert!(!lacks(&publisher), "{second}");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    push(&mut publisher, 10_000, false);
    assert!(lacks(&publisher) && publisher.stream().ring().bytes() == 0, "nothing that a viewer could begin with");
    push(&mut publisher, 10_040, true);
    assert!(!lacks(&publisher) && publisher.stream().state() == State::Live);
}

#[test]
fn two_hundred_reconnects_keep_the_timeline_and_leave_nothing_behind() {
    let hub = hub_with(SecondPublisher::Takeover);
    let mut last = hub.publish(&name()).expect("slot");
    let stream = last.stream().clone();
    let mut newest = i64::MIN;
    for _ in 0..200 {
        let mut next = hub.publish(&name()).expect("slot");
        next.set_tracks(video()).expect("waits");
        push(&mut next, 0, true);
        next.push_frame(sound(0)).expect("on air");
        let dts_us = stream.line.lock().newest_video_us;
        assert!(dts_us > newest);
        newest = dts_us;
        last = next;
    }
    assert_eq!(stream.publishers(), Publishers { on_air: true, standing_by: 0, no_keyframe: false });
    drop(last);
    assert_eq!(stream.line.lock().seats.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_who_waits_for_his_keyframe_stays_when_the_upstream_ends_the_stream() {
    let hub = hub_with(SecondPublisher::Takeover);
    let stream = hub.announce(&name()).expect("room");
    let mut relay = hub.publish_relayed(&name()).expect("slot");
    relay.relay(Item::Head(Head::of(video().into())), 1).expect("current");
    relay.relay(Item::Frame(frame(0, true)), 1).expect("current");
    let mut local = hub.publish(&name()).expect("slot");
    local.set_tracks(other_video()).expect("waits");
    push(&mut local, 90_000, false);
    hub.unannounce(&stream);
    drop(relay);
    push(&mut local, 90_040, true);
    assert!(!stream.ring().is_closed() && !stream.is_relayed());
    assert_eq!((stream.state(), local.is_on_air()), (State::Live, true));
    drop(local);
    hub.unannounce(&stream);
    assert!(stream.ring().is_closed(), "else it ends");
}
