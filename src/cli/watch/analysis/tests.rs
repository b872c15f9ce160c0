use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{super::observed::SnapshotTime, *};
use crate::{
    clock,
    media::{Codec, Event, Signer, VideoConfig},
};

struct Viewer {
    analysis: Analysis,
    start: Instant,
    tracks: Tracks,
}

impl Viewer {
    /// Connected at wall time 1,000,000 ms.
    fn new() -> Self {
        let start = clock::now();
        let video = VideoConfig { codec: Codec::Avc, description: [].as_slice().into(), width: 960, height: 540 };
        let tracks = Tracks { video: Some(video), ..Tracks::default() };
        Self { analysis: Analysis::new(start, 1_000_000, false), start, tracks }
    }

    fn sees(&mut self, at_ms: u64, observed: Observed) {
        let wall_ms = 1_000_000 + i64::try_from(at_ms).expect("small");
        self.analysis.handle(observed, &self.tracks, self.start + Duration::from_millis(at_ms), wall_ms);
    }

    fn picture(&mut self, at_ms: u64, dts_ms: i64, cts_ms: i64, keyframe: bool) {
        let (dts_us, pts_us) = (dts_ms * 1000, (dts_ms + cts_ms) * 1000);
        self.sees(at_ms, Observed::Frame { track: TrackKind::Video, dts_us, pts_us, keyframe, bytes: 1000 });
    }

    fn event(&mut self, at_ms: u64, pts_ms: i64, in_line: bool, replay: bool) {
        let event = Arc::new(Event::from_object(card(pts_ms)).expect("a legal event"));
        self.sees(at_ms, Observed::Event { event, at_us: Some(pts_ms * 1000), replay, in_line });
    }

    fn report(self, at_ms: u64) -> Value {
        let report =
            self.analysis.finish("rtmp://h/a/b", "time is up".into(), self.start + Duration::from_millis(at_ms));
        serde_json::to_value(report).expect("serializes")
    }
}

fn card(pts_ms: i64) -> Map<String, Value> {
    let card = json!({
        "v": 1, "id": "01JD2M6W4N8R3T5V7X9Z1B3D5F", "source": "live/room", "seq": 7, "type": "card.show",
        "op": "set", "key": "card:main", "time": {"mode": "pts", "epoch": 0, "pts_us": pts_ms * 1000},
    });
    card.as_object().expect("an object").clone()
}

/// The skew of an event for `pts_ms` that comes after `before` pictures of 40 ms, and before the others of ten.
fn skew(pts_ms: i64, before: i64, in_line: bool) -> Value {
    let mut viewer = Viewer::new();
    for n in 0..10 {
        if n == before {
            viewer.event(0, pts_ms, in_line, false);
        }
        viewer.picture(0, n * 40, 0, n == 0);
    }
    viewer.report(400)["events"][0]["skew_frames"].clone()
}

#[test]
fn an_even_stream_has_no_gap() {
    let mut viewer = Viewer::new();
    for n in 0..90 {
        // 30 fps in whole milliseconds: steps of 33 and 34.
        viewer.picture(50 + n * 33, i64::try_from(n).expect("small") * 1000 / 30, 0, n % 30 == 0);
    }
    let report = viewer.report(3050);
    let video = &report["video"];
    assert_eq!(
        (&report["join_ms"], &report["played_ms"], &report["kbit_per_s"]),
        (&json!(50), &json!(3000), &json!(240))
    );
    assert_eq!((&video["frames"], &video["keyframes"], &video["gaps"]), (&json!(90), &json!(3), &json!(0)));
    assert_eq!(
        (&video["dts_backwards"], &video["width"], &report["latency_ms"]),
        (&json!(0), &json!(960), &Value::Null)
    );
}

#[test]
fn one_missing_picture_is_a_gap_and_a_step_back_is_counted() {
    let mut viewer = Viewer::new();
    for n in (0..30).filter(|n| *n != 10) {
        viewer.picture(0, n * 33, 0, n == 0);
    }
    viewer.picture(0, 900, 0, false);
    let video = &viewer.report(1000)["video"];
    assert_eq!((&video["gaps"], &video["gap_ms_max"], &video["dts_backwards"]), (&json!(1), &json!(66), &json!(1)));
}

#[test]
fn events_are_verified_where_keys_are_known() {
    let [ours, stranger] = [1, 2].map(|seed| Signer::from_seed(&[seed; 32]));
    for (keys, verified, forged) in [(None, Value::Null, Value::Null), (Some(&ours), json!(1), json!(2))] {
        let mut viewer = Viewer::new();
        viewer.analysis = viewer.analysis.believing(keys.map(|signer| signer.public().into()));
        for event in [ours.sign(card(0)), stranger.sign(card(0)), Event::from_object(card(0))] {
            let event = Arc::new(event.expect("a legal event"));
            viewer.sees(0, Observed::Event { event, at_us: Some(0), replay: false, in_line: true });
        }
        let report = viewer.report(10);
        assert_eq!((&report["events_verified"], &report["events_forged"]), (&verified, &forged));
    }
}

#[test]
fn without_a_keyframe_nothing_has_played() {
    let mut viewer = Viewer::new();
    viewer.sees(5, Observed::Frame { track: TrackKind::Audio, dts_us: 0, pts_us: 0, keyframe: true, bytes: 9 });
    viewer.picture(9, 0, 0, false);
    assert!(!viewer.analysis.has_played());
    viewer.picture(40, 40, 0, true);
    assert!(viewer.analysis.has_played());
    assert_eq!(viewer.report(100)["join_ms"], 40);
    let mut radio = Viewer::new();
    radio.tracks.video = None;
    radio.sees(5, Observed::Frame { track: TrackKind::Audio, dts_us: 0, pts_us: 0, keyframe: true, bytes: 9 });
    assert!(radio.analysis.has_played(), "sound alone is a stream too");
}

#[test]
fn an_event_belongs_to_the_first_picture_at_or_after_its_time() {
    assert_eq!(skew(200, 5, true), 0);
    assert_eq!(skew(199, 5, true), 0);
    assert_eq!(skew(201, 5, true), -1);
    assert_eq!(skew(200, 7, true), 2);
    assert_eq!(skew(200, 0, true), -5);
    assert_eq!(skew(361, 9, true), Value::Null, "its picture never came");
}

#[test]
fn an_event_that_waits_for_its_picture_is_late_only_behind_the_next() {
    assert_eq!(skew(200, 0, false), 0);
    assert_eq!(skew(200, 6, false), 0);
    assert_eq!(skew(200, 7, false), 1);
}

#[test]
fn skew_counts_pictures_in_decode_order_where_they_are_reordered() {
    let mut viewer = Viewer::new();
    viewer.picture(0, 0, 40, true);
    // Decoded P, B: shown B at 80, P at 120.
    viewer.event(0, 80, true, false);
    viewer.picture(0, 40, 80, false);
    viewer.picture(0, 80, 0, false);
    assert_eq!(viewer.report(1)["events"][0]["skew_frames"], -1, "the picture at 80 ms is the second to come");
}

#[test]
fn an_event_from_before_the_join_has_no_picture_here() {
    let mut viewer = Viewer::new();
    viewer.picture(0, 1000, 0, true);
    viewer.event(0, 960, false, false);
    assert_eq!(viewer.report(1)["events"][0]["skew_frames"], Value::Null);
}

#[test]
fn the_state_at_the_end_is_that_of_the_last_picture() {
    let signer = Signer::from_seed(&[1; 32]);
    let event = |seq: u64, key: &str, pts_ms: i64, kind: &str| {
        let mut event = card(pts_ms);
        let op = if kind == "card.hide" { "delete" } else { "set" };
        event.extend([
            ("seq".into(), seq.into()),
            ("key".into(), key.into()),
            ("type".into(), kind.into()),
            ("op".into(), op.into()),
        ]);
        event.insert("id".into(), ulid::Ulid::from_parts(seq, 0).to_string().into());
        Arc::new(signer.sign(event).expect("a legal event"))
    };
    let mut viewer = Viewer::new();
    viewer.analysis = viewer.analysis.believing(Some(signer.public().into()));
    // The frames' timeline is five seconds behind the stream's.
    let at = SnapshotTime { pts_us: 5_000_000, at_us: 0 };
    let events = vec![event(1, "card:left", 0, "card.show"), event(2, "card:right", 0, "card.show")];
    viewer.sees(0, Observed::Snapshot { events, at, anew: true });
    let events = vec![event(3, "clock", 0, "clock")];
    viewer.sees(0, Observed::Snapshot { events, at, anew: false });
    viewer.picture(0, 0, 0, true);
    for (seq, pts_ms, kind) in [(4, 5_040, "card.hide"), (5, 5_080, "card.show")] {
        let event = event(seq, "card:left", pts_ms, kind);
        viewer.sees(0, Observed::Event { event, at_us: Some((pts_ms - 5_000) * 1000), replay: false, in_line: true });
    }
    viewer.picture(0, 40, 0, false);
    let report = viewer.report(1);
    assert_eq!(report["state_keys"], json!(["card:right", "clock"]), "the last card is for a picture to come");
    assert_eq!(
        (&report["snapshots"], &report["events_replayed"], &report["events_verified"]),
        (&json!(1), &json!(3), &json!(5))
    );
}

#[test]
fn replayed_events_have_no_skew() {
    let mut viewer = Viewer::new();
    viewer.event(0, -5000, true, true);
    viewer.picture(0, 0, 0, true);
    let report = viewer.report(1);
    assert_eq!((&report["events"][0]["replay"], &report["events"][0]["skew_frames"]), (&json!(true), &Value::Null));
}

#[test]
fn latency_leaves_out_marks_from_before_the_join() {
    let mut viewer = Viewer::new();
    viewer.picture(0, 0, 0, true);
    for (at_ms, wall_ms) in [(5, 999_000), (1000, 1_000_990), (2000, 1_001_970), (3000, 1_002_980)] {
        viewer.sees(at_ms, Observed::Clock { wall_ms });
    }
    assert_eq!(viewer.report(3000)["latency_ms"], json!({"p50": 20, "p99": 30, "samples": 3}));
}
