//! Publishers who are cut off, come back, fall silent, come twice, or send what nobody can watch: what viewers see of it.

use std::{fs, thread, time::Duration};

use hawker::clock;
use serde_json::Value;

use crate::common::{
    Anchor, Api, Cluster, Dev, FlvViewer, Peer, Seen, SeenPicture, Viewer, assert_even, hawker, pictures,
    publish_numbered, python,
};

const ROOM: &str = "live/room";

/// What the API says of the room, once `find` finds its thing in it.
fn room<T>(api: &Api, what: &str, mut find: impl FnMut(&Value) -> Option<T>) -> T {
    let deadline = clock::now() + Duration::from_secs(20);
    loop {
        let (status, body) = api.get(&format!("streams/{ROOM}"));
        let said: Value = serde_json::from_str(&body).unwrap();
        if let Some(found) = find(&said).filter(|_| status == 200) {
            return found;
        }
        assert!(clock::now() < deadline, "no {what}: {said}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

fn wait_state(api: &Api, state: &str) {
    room(api, state, |said| (said["state"] == state).then_some(()));
}

/// Within a viewer's connection decode times strictly increase, and nothing comes before its configuration.
fn assert_one_timeline(seen: &[SeenPicture]) {
    let wrong = seen.windows(2).find(|pair| pair[1].dts_ms <= pair[0].dts_ms);
    assert!(wrong.is_none(), "DTS must strictly increase: {wrong:?}");
    let unconfigured = seen.windows(2).find(|pair| pair[0].configs != pair[1].configs && !pair[1].is_key);
    assert!(unconfigured.is_none() && seen[0].is_key && seen[0].configs == 1, "{unconfigured:?}");
}

/// Pauses of the line, and how far they are from those of the wall clock, in milliseconds: the median of all.
fn error_ms(gaps: &[(SeenPicture, SeenPicture)]) -> i64 {
    let wall_ms = |(a, b): &(SeenPicture, SeenPicture)| i64::try_from((b.at - a.at).as_millis()).unwrap();
    let mut errors: Vec<_> = gaps.iter().map(|gap| (gap.1.dts_ms - gap.0.dts_ms - wall_ms(gap)).abs()).collect();
    errors.sort_unstable();
    errors[errors.len() / 2]
}

#[test]
fn f1_a_publisher_who_is_cut_off_and_comes_back_disconnects_nobody() {
    let dev = Dev::start();
    let api = Api::new(dev.origin.http.rsplit(':').next().unwrap().parse().unwrap(), &dev.origin.api_token);
    let mut ffmpeg = publish_numbered(&dev.origin.publish_url);
    let flv = [&dev.origin, &dev.edge].map(|node| FlvViewer::watch(&node.flv_url()));
    let rtmp = Viewer::watch(&dev.origin.rtmp_url());
    let whep = Peer::play(&dev.edge, &[]);
    let moq = Peer::start(python("moq_viewer.py").args([&dev.edge.moq, ROOM, "--numbers"]));
    flv.iter().for_each(|viewer| drop(viewer.wait_total(25)));
    rtmp.wait_frames(25);
    let before = pictures(&whep.wait_pictures(25)).len();
    moq.wait("a number", |values| values.iter().any(|value| value["track"] == "numbers").then_some(()));

    ffmpeg.kill();
    let cut = clock::now();
    wait_state(&api, "interrupted");
    let noticed = cut.elapsed();
    println!("interrupted in the API after {noticed:?}");
    assert!(noticed <= Duration::from_secs(1), "{noticed:?}");
    let had = flv.each_ref().map(|viewer| viewer.look(|seen| seen.frames));
    let had_rtmp = rtmp.wait("what came", |packets| Some(packets.len()));

    let _again = publish_numbered(&dev.origin.publish_url);
    wait_state(&api, "live");
    for (viewer, had) in flv.iter().zip(had) {
        let seen = viewer.wait_total(had + 50);
        assert_one_timeline(&seen);
        let gap = seen.windows(2).max_by_key(|pair| pair[1].dts_ms - pair[0].dts_ms).unwrap();
        assert!(gap[1].is_key, "{gap:?}");
        let error = error_ms(&[(gap[0], gap[1])]);
        println!("gap of {} ms, {error} ms from the wall clock's", gap[1].dts_ms - gap[0].dts_ms);
        // ffmpeg's first pictures come in a burst.
        assert!(error <= 500, "{error} ms: {gap:?}");
    }
    rtmp.wait("packets more", |packets| (packets.len() >= had_rtmp + 100).then(|| assert_even(packets, 30_000)));
    // No picture is a wreck, and nobody had to come again.
    let shown = pictures(&whep.wait_pictures(before + 50));
    assert!(shown.iter().all(|picture| picture.number.is_some()), "{shown:?}");
    let epochs = moq.wait("numbers that begin anew", |values| {
        let numbers: Vec<_> = values.iter().filter(|value| value["track"] == "numbers").collect();
        let fell = numbers.windows(2).filter(|pair| pair[1]["number"].as_i64() < pair[0]["number"].as_i64()).count();
        (fell > 0).then(|| numbers.iter().all(|number| number["number"].is_i64()))
    });
    assert!(epochs, "a picture of MoQ was a wreck");
}

#[test]
fn f1_viewers_wait_as_long_as_the_operator_says() {
    let cluster = Cluster::new();
    cluster.configure_origin("[hub]\nreconnect_window_secs = 1\n[ingest]\nend_on_unpublish = false");
    let _origin = cluster.serve("origin");
    let mut anchor = Anchor::publish(&cluster.publish_url(ROOM)).unwrap();
    anchor.configure(1).unwrap();
    anchor.picture(0, true).unwrap();
    let viewer = FlvViewer::watch(&cluster.flv_url("origin", ROOM));
    viewer.wait_total(1);
    drop(anchor);
    let began = clock::now();
    viewer.wait_end();
    let stayed = began.elapsed();
    assert!((900..4000).contains(&stayed.as_millis()), "{stayed:?}");
}

#[test]
fn f1_while_the_publisher_is_away_viewers_get_the_slate() {
    let cluster = Cluster::new();
    cluster.configure_origin("[ingest]\nslate = 'last-keyframe'");
    let _origin = cluster.serve("origin");
    let _edge = cluster.serve_edge("edge");
    let api = cluster.api();
    let mut ffmpeg = publish_numbered(&cluster.publish_url(ROOM));
    let viewers = ["origin", "edge"].map(|node| FlvViewer::watch(&cluster.flv_url(node, ROOM)));
    let decoder = Peer::av(&cluster.flv_url("edge", ROOM));
    viewers.iter().for_each(|viewer| viewer.wait_frames(25));
    decoder.wait_pictures(25);

    ffmpeg.kill();
    let cut = clock::now();
    wait_state(&api, "interrupted");
    let had = viewers.each_ref().map(|viewer| viewer.look(|seen| (seen.frames, seen.sounds)));
    for (viewer, (frames, sounds)) in viewers.iter().zip(had) {
        let seen = viewer.wait_total(frames + 3);
        let (slate, after) = (&seen[frames..], cut.elapsed());
        assert!(slate.iter().all(|picture| picture.is_key), "{slate:?}");
        let sounds = viewer.look(|seen| seen.sounds) - sounds;
        println!("three pictures and {sounds} frames of silence {after:?} after the cut");
        assert!(after <= Duration::from_millis(4500) && sounds >= 50, "{after:?}, {sounds} sounds");
    }
    let shown = decoder.wait("the slate", |values| {
        let shown = pictures(values);
        let slate = shown.windows(3).find(|three| three.iter().all(|one| one.number == three[0].number));
        slate.map(<[_]>::to_vec)
    });
    assert!(shown[0].number.is_some(), "it can be decoded: {shown:?}");
    wait_state(&api, "interrupted");

    let _again = publish_numbered(&cluster.publish_url(ROOM));
    wait_state(&api, "live");
    for viewer in &viewers {
        viewer.wait_frames(30);
        let seen = viewer.look(|seen| (seen.pictures.clone(), seen.ended.clone()));
        assert_one_timeline(&seen.0);
        let gap = seen.0.windows(2).map(|pair| pair[1].dts_ms - pair[0].dts_ms).max().unwrap();
        assert!(gap <= 1500 && seen.1.is_none(), "{gap} ms, {:?}", seen.1);
    }
    let shown = pictures(&decoder.wait_pictures(60));
    assert!(shown.iter().all(|picture| picture.number.is_some()), "no picture is a wreck: {shown:?}");
}

#[test]
fn f1_a_silent_publisher_interrupts_his_stream_and_goes_on() {
    let cluster = Cluster::new();
    let _origin = cluster.serve("origin");
    let api = cluster.api();
    let mut anchor = Anchor::publish(&cluster.publish_url(ROOM)).unwrap();
    anchor.configure(1).unwrap();
    let began = clock::now();
    anchor.picture(0, true).unwrap();
    let viewer = FlvViewer::watch(&cluster.flv_url("origin", ROOM));
    viewer.wait_total(1);
    wait_state(&api, "interrupted");
    let noticed = began.elapsed();
    println!("silence noticed after {noticed:?}");
    assert!((4000..8000).contains(&noticed.as_millis()), "{noticed:?}");
    let said = room(&api, "the publisher", |said| Some(said["publisher"].clone()));
    assert_eq!(said["on_air"], true, "he is still connected: {said}");
    anchor.picture(6000, false).unwrap();
    wait_state(&api, "live");
    assert_one_timeline(&viewer.wait_total(2));
}

#[test]
fn f2_two_hundred_reconnects_are_one_timeline_and_leak_nothing() {
    const TIMES: usize = 200;
    let cluster = Cluster::new();
    let origin = cluster.serve("origin");
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", origin.pid())).unwrap().count();
    let mut anchor = Anchor::publish(&cluster.publish_url(ROOM)).unwrap();
    anchor.configure(0).unwrap();
    anchor.picture(0, true).unwrap();
    let viewer = FlvViewer::watch(&cluster.flv_url("origin", ROOM));
    viewer.wait_total(1);
    let (held, memory) = (descriptors(), origin.rss());
    let mut waits = Vec::new();
    for time in 1..=TIMES {
        // The old one is still there, or he was cut off: by turns.
        let cut = time % 2 == 0;
        let mut next = if cut { None } else { Some(Anchor::publish(&cluster.publish_url(ROOM)).unwrap()) };
        drop(anchor);
        let mut next = next.take().unwrap_or_else(|| Anchor::publish(&cluster.publish_url(ROOM)).unwrap());
        next.configure(u8::try_from(time % 200).unwrap()).unwrap();
        let sent = clock::now();
        next.picture(0, true).unwrap();
        next.picture(1, false).unwrap();
        let seen = viewer.wait("its keyframe", |seen| {
            let count = seen.pictures.iter().filter(|picture| picture.is_key).count();
            (count > time).then(|| seen.pictures.iter().rfind(|picture| picture.is_key).unwrap().at)
        });
        waits.push(seen.saturating_duration_since(sent));
        anchor = next;
    }
    let seen = viewer.wait_total(1 + 2 * TIMES);
    assert_one_timeline(&seen);
    let gaps: Vec<_> = seen.windows(2).filter(|pair| pair[1].is_key).map(|pair| (pair[0], pair[1])).collect();
    assert_eq!(gaps.len(), TIMES);
    assert!(gaps.iter().all(|(old, new)| new.configs == old.configs + 1), "each configuration before its keyframe");
    waits.sort_unstable();
    let (median, worst, error) = (waits[TIMES / 2], waits[TIMES - 1], error_ms(&gaps));
    println!("keyframe seen after {median:?}, {worst:?} at most; gaps are {error} ms from the wall clock's");
    assert!(median <= Duration::from_millis(100) && worst <= Duration::from_secs(2), "{median:?} {worst:?}");
    assert!(error <= 100, "{error} ms");

    let (now, grown) = (descriptors(), origin.rss().saturating_sub(memory));
    println!("{held} descriptors before, {now} after; {} KiB more", grown >> 10);
    assert!(now <= held + 2, "{held} descriptors before, {now} after");
    assert!(grown <= 8 << 20, "{grown} bytes more");
}

#[test]
fn f2_a_second_encoder_takes_over_without_a_gap() {
    let cluster = Cluster::new();
    let origin = cluster.serve("origin");
    let first = cluster.push(ROOM);
    let viewer = FlvViewer::watch(&cluster.flv_url("origin", ROOM));
    viewer.wait_frames(30);
    let _second = cluster.push(ROOM);
    origin.stderr.wait_line("another publisher is on air");
    first.stderr.wait_line("a newer publisher took the stream over");
    viewer.wait_frames(60);
    let seen = viewer.look(|seen| seen.pictures.clone());
    assert_one_timeline(&seen);
    let gap = seen.windows(2).map(|pair| pair[1].dts_ms - pair[0].dts_ms).max().unwrap();
    println!("widest gap {gap} ms");
    assert!(gap <= 1000, "{gap} ms");
}

#[test]
fn f2_a_standby_goes_on_when_the_main_encoder_dies() {
    let cluster = Cluster::new();
    cluster.configure_origin("[ingest]\nsecond_publisher = 'standby'");
    let _origin = cluster.serve("origin");
    let api = cluster.api();
    let mut main = cluster.push(ROOM);
    let viewer = FlvViewer::watch(&cluster.flv_url("origin", ROOM));
    viewer.wait_frames(30);
    let _backup = cluster.push(ROOM);
    room(&api, "a standby", |said| (said["publisher"]["standing_by"] == 1).then_some(()));
    main.kill();
    room(&api, "the standby on air", |said| {
        (said["publisher"]["standing_by"] == 0 && said["state"] == "live").then_some(())
    });
    viewer.wait_frames(60);
    let seen = viewer.look(|seen| seen.pictures.clone());
    assert_one_timeline(&seen);
    let gap = seen.windows(2).map(|pair| pair[1].dts_ms - pair[0].dts_ms).max().unwrap();
    println!("widest gap {gap} ms");
    assert!(gap <= 4000, "{gap} ms");
}

/// Sends a frame each `step_ms` until the server closes, or for `seconds`; says what the server said.
fn keep_sending(
    mut anchor: Anchor,
    seconds: u32,
    step_ms: u32,
    send: impl Fn(&mut Anchor, u32) -> Result<(), String>,
) -> Result<Anchor, String> {
    let began = clock::now();
    for ms in (0..seconds * 1000).step_by(usize::try_from(step_ms).unwrap()) {
        let due = began + Duration::from_millis(ms.into());
        while clock::now() < due {
            thread::park_timeout(due - clock::now());
        }
        send(&mut anchor, ms)?;
    }
    Ok(anchor)
}

#[test]
fn f19_who_sends_nothing_is_closed_and_whatever_can_be_watched_is_served() {
    let cluster = Cluster::new();
    let origin = cluster.serve("origin");
    let anchor = |name: &str| Anchor::publish(&cluster.publish_url(&format!("live/{name}"))).unwrap();
    let began = clock::now();
    let (mut mute, mut sound, mut slow, mut keyless) =
        (anchor("mute"), anchor("sound"), anchor("slow"), anchor("room"));
    let mute = thread::spawn(move || mute.next().map(|said| format!("{said:?}")));
    sound.configure_sound().unwrap();
    slow.configure(1).unwrap();
    keyless.configure(1).unwrap();
    let sending = [
        thread::spawn(move || keep_sending(sound, 4, 20, |anchor, ms| anchor.sound(ms)).map(drop)),
        thread::spawn(move || keep_sending(slow, 4, 1000, |anchor, ms| anchor.picture(ms, true)).map(drop)),
    ];
    let keyless = thread::spawn(move || keep_sending(keyless, 11, 40, |anchor, ms| anchor.picture(ms, false)));
    let see = |name: &str| FlvViewer::watch(&cluster.flv_url("origin", &format!("live/{name}")));
    see("sound").wait("sound", |seen: &Seen| (seen.sounds >= 50).then_some(()));
    see("slow").wait("pictures", |seen: &Seen| (seen.frames >= 2).then_some(()));
    for sent in sending {
        sent.join().unwrap().unwrap();
    }
    assert_eq!(mute.join().unwrap(), Err("closed".into()));
    let closed = began.elapsed();
    assert!((9..18).contains(&closed.as_secs()), "{closed:?}");
    origin.stderr.wait_line("no media in time");

    let mut keyless = keyless.join().unwrap().unwrap();
    keyless.picture(11_000, false).unwrap();
    let line = origin.stderr.wait_line("pictures come without keyframes");
    assert!(line.contains("Keyframe Interval"), "{line}");
    let api = cluster.api();
    room(&api, "no_keyframe", |said| (said["publisher"]["no_keyframe"] == true).then_some(()));
    keyless.picture(11_040, true).unwrap();
    room(&api, "a keyframe", |said| (said["publisher"]["no_keyframe"] == false).then_some(()));
}

#[test]
fn f2_a_second_publisher_is_refused_where_the_first_shall_stay() {
    let cluster = Cluster::new();
    cluster.configure_origin("[ingest]\nsecond_publisher = 'reject'");
    let _origin = cluster.serve("origin");
    let mut anchor = Anchor::publish(&cluster.publish_url(ROOM)).unwrap();
    anchor.configure(1).unwrap();
    anchor.picture(0, true).unwrap();
    let viewer = FlvViewer::watch(&cluster.flv_url("origin", ROOM));
    viewer.wait_total(1);
    let refused = Anchor::publish(&cluster.publish_url(ROOM)).err();
    assert_eq!(refused.as_deref(), Some("another publisher is on air"));
    let pushed = crate::common::run(10, hawker().args(["push", "--sample", &cluster.publish_url(ROOM)]));
    assert!(crate::common::text(&pushed.stderr).contains("another publisher is on air"));
    anchor.picture(40, false).unwrap();
    viewer.wait_total(2);
}

#[test]
fn a_key_is_held_to_its_bitrate_and_its_number_of_streams() {
    let cluster = Cluster::new();
    let key = |name: &str, more: &str| {
        let digest = hawker::secret::Digest::of(name);
        format!("[[auth.publish]]\nprefix = 'live'\nkey_sha256 = '{digest}'\n{more}\n")
    };
    cluster.configure_origin(&(key("small", "bitrate_kbps_max = 100") + &key("single", "streams_max = 1")));
    let origin = cluster.serve("origin");
    let publish = |stream: &str, key: &str| {
        let url = cluster.publish_url(stream);
        let (url, _) = url.split_once("?key=").unwrap();
        Anchor::publish(&format!("{url}?key={key}"))
    };
    let mut greedy = publish(ROOM, "small").unwrap();
    greedy.configure(1).unwrap();
    // Five seconds of it are 62.5 kB.
    let data = bytes::Bytes::from(vec![0; 70_000]);
    let picture = hawker::proto::flv::TagBody::video_frame(hawker::media::Codec::Avc, true, 0, data);
    greedy.send(0, &picture).unwrap();
    greedy.send(40, &picture).unwrap();
    assert_eq!(greedy.next().unwrap_err(), "more than the bitrate that the key allows");
    origin.stderr.wait_line("more than the bitrate");

    let _first = publish("live/one", "single").unwrap();
    assert!(publish("live/two", "single").is_err());
    assert!(publish("live/one", "single").is_ok(), "he comes again to his own");
}
