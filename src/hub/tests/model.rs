//! The hub against a naive model: whatever publishers, viewers and time do, in whatever order, viewers get what a
//! list of what was pushed says they must.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;

/// What is done to a stream.
#[derive(Debug, Clone)]
enum Step {
    /// A publisher comes, whoever else is there, with these tracks.
    Publish { video: bool, audio: bool },
    /// He leaves without a word, or says that he is done.
    Leave { ends: bool },
    /// He pushes so many frames, so far apart, each so long; a keyframe every `group`.
    Frames { count: u8, ms: u16, bytes: u16, group: u8 },
    /// One whose time is so long ago.
    Late { ms: u16 },
    /// His encoder is set up anew.
    Tracks,
    /// An event, so far ahead.
    Event { in_ms: u16 },
    /// The newest event is taken back.
    Cancel,
    /// A viewer joins, with or without a lag budget.
    Join { lag_ms: Option<u16> },
    /// The oldest viewer leaves.
    Part,
    /// The how manieth viewer reads all there is.
    Read { viewer: u8 },
    /// Time passes.
    Wait { ms: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![9 => 10u16..500, 1 => 5_000..60_000u16];
    let ms = prop_oneof![8 => 20u16..50, 1 => Just(1000), 1 => Just(0)];
    prop_oneof![
        2 => (any::<bool>(), any::<bool>()).prop_map(|(video, audio)| Step::Publish { video: video || !audio, audio }),
        1 => prop::bool::weighted(0.2).prop_map(|ends| Step::Leave { ends }),
        8 => (1u8..40, ms, bytes, 1u8..60)
            .prop_map(|(count, ms, bytes, group)| Step::Frames { count, ms, bytes, group }),
        1 => (0u16..5000).prop_map(|ms| Step::Late { ms }),
        1 => Just(Step::Tracks),
        3 => prop_oneof![Just(0u16), 0..3000u16].prop_map(|in_ms| Step::Event { in_ms }),
        1 => Just(Step::Cancel),
        2 => prop::option::of(50u16..2000).prop_map(|lag_ms| Step::Join { lag_ms }),
        1 => Just(Step::Part),
        6 => any::<u8>().prop_map(|viewer| Step::Read { viewer }),
        2 => (0u16..4000).prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn viewers_get_what_a_list_of_what_was_pushed_says(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let mut world = World::new();
            for step in steps {
                world.take(step).await;
            }
            world.finish().await;
        });
    }
}

const BYTES_MAX: usize = 64 * 1024;

/// The model: what was pushed, and what was accepted.
struct World {
    hub: Arc<Hub>,
    stop: CancellationToken,
    publisher: Option<Publisher>,
    /// Those who were there before him, as long as he has not begun.
    replaced: Vec<Publisher>,
    /// Since when nobody publishes a stream that somebody did publish.
    away: Option<clock::Instant>,
    /// The publisher's clock, which begins at 0 with each session.
    now_us: i64,
    tracks: Tracks,
    /// Of the newest frame; deltas need the one before them.
    number: u32,
    /// The first has seen all since the stream began, and reads after each step.
    viewers: Vec<Watcher>,
    /// Ids of accepted events that must still come.
    owed: BTreeSet<String>,
    newest_event: Option<String>,
}

impl World {
    fn new() -> Self {
        let settings = Settings { ring_bytes_max: BYTES_MAX, ..Settings::default() };
        let hub = Hub::new(settings, Some(Origin::in_memory()));
        let stop = CancellationToken::new();
        task::spawn("schedule", hub.clone().run_schedule(Duration::from_secs(3600), stop.clone()));
        clock::simulated::set(1_790_000_000);
        let mut world = Self {
            hub,
            stop,
            publisher: None,
            replaced: Vec::new(),
            away: None,
            now_us: 0,
            tracks: Tracks::default(),
            number: 0,
            viewers: Vec::new(),
            owed: BTreeSet::new(),
            newest_event: None,
        };
        world.join(None);
        world
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Publish { video, audio } => self.publish(video, audio),
            Step::Leave { ends } => self.leave(ends),
            Step::Frames { count, ms, bytes, group } if self.publisher.is_some() => {
                for index in 0..count {
                    self.frame(ms.into(), bytes.into(), index % group == 0).await;
                }
            }
            Step::Frames { .. } => {}
            Step::Late { ms } => {
                let now_us = self.now_us;
                self.now_us = (now_us - i64::from(ms) * 1000).max(0);
                self.frame(0, 10, false).await;
                self.now_us = self.now_us.max(now_us);
            }
            Step::Tracks => self.set_up_anew(),
            Step::Event { in_ms } => self.post(in_ms).await,
            Step::Cancel => self.cancel().await,
            Step::Join { lag_ms } => self.join(lag_ms),
            Step::Part if self.viewers.len() > 1 => _ = self.viewers.remove(1),
            Step::Part => {}
            Step::Read { viewer } => {
                let which = usize::from(viewer) % self.viewers.len();
                self.viewers[which].read();
            }
            // Longer than the window ends the stream, which is another test's.
            Step::Wait { ms } if self.away.is_some_and(|away| away.elapsed() > Duration::from_secs(20)) => _ = ms,
            Step::Wait { ms } => {
                // An encoder's clock goes on while it says nothing.
                self.now_us += i64::from(ms) * 1000;
                tokio::time::sleep(Duration::from_millis(ms.into())).await;
            }
        }
        self.viewers[0].read();
        let stream = self.hub.get(&name()).expect("it is watched");
        assert!(stream.ring().bytes() <= BYTES_MAX, "{} bytes are held", stream.ring().bytes());
        assert_eq!(*stream.viewers().borrow(), self.viewers.len());
        assert_eq!(stream.state() == State::Interrupted, self.away.is_some());
    }

    fn publish(&mut self, video: bool, audio: bool) {
        let publisher = self.hub.publish(&name()).expect("the slot");
        self.replaced.extend(self.publisher.replace(publisher));
        let config = VideoConfig { codec: Codec::Avc, description: Bytes::new(), width: 16, height: 16 };
        let sound = AudioConfig { codec: Codec::Aac, description: Bytes::new(), sample_rate: 48_000, channels: 2 };
        self.tracks = Tracks { video: video.then_some(config), audio: audio.then_some(sound), ..Tracks::default() };
        self.now_us = 0;
        self.set_up_anew();
    }

    /// Each configuration is another one, which its frames name.
    fn set_up_anew(&mut self) {
        self.number += 1;
        if let Some(video) = &mut self.tracks.video {
            video.description = Bytes::copy_from_slice(&self.number.to_be_bytes());
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.set_tracks(self.tracks.clone()).expect("the newest");
        }
    }

    fn leave(&mut self, ends: bool) {
        let Some(publisher) = self.publisher.take() else { return };
        self.replaced.clear();
        let has_frames = publisher.stream().state() != State::Waiting;
        if has_frames && !(ends && publisher.is_on_air()) {
            self.away.get_or_insert_with(clock::now);
            return;
        }
        // Without a frame there is nothing to wait for either.
        publisher.end();
        self.away = None;
        self.compare();
        for viewer in &mut self.viewers {
            assert_eq!(viewer.cursor.try_recv(), Err(End::Closed), "more than there was");
        }
        self.viewers.clear();
        self.owed.clear();
        self.newest_event = None;
        self.join(None);
    }

    async fn frame(&mut self, ms: u64, bytes: usize, keyframe: bool) {
        self.now_us += i64::try_from(ms).expect("small") * 1000;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let Some(publisher) = &mut self.publisher else { return };
        let config = self.tracks.video.as_ref().map(|video| video.description.clone());
        let frame = |track, keyframe, data: Vec<u8>| Frame {
            track,
            dts_us: self.now_us,
            pts_us: self.now_us,
            keyframe,
            data: data.into(),
        };
        if let Some(config) = config {
            self.number += 1;
            let data = [&self.number.to_be_bytes()[..], &config, &vec![0; bytes]].concat();
            // The first of a configuration can't need one of another.
            let keyframe = keyframe || config == (self.number - 1).to_be_bytes()[..];
            publisher.push_frame(frame(TrackKind::Video, keyframe, data)).expect("the newest");
        }
        if self.tracks.audio.is_some() {
            publisher.push_frame(frame(TrackKind::Audio, false, vec![0; 20])).expect("the newest");
        }
        self.away = None;
        assert_eq!(publisher.stream().state(), State::Live);
        for mut other in self.replaced.drain(..) {
            assert_eq!(other.push_data(Bytes::new()), Err(Replaced));
        }
    }

    /// Before the first frame nobody is promised one-shots.
    async fn post(&mut self, in_ms: u16) {
        if self.viewers[0].head.is_none() {
            return;
        }
        let draft = json!({"type": "prompt.show", "op": "fire", "data": {"text": "x"}});
        let draft = draft.as_object().expect("a map").clone();
        let at = if in_ms == 0 { At::Now } else { At::InMs(in_ms.into()) };
        match self.hub.publish_event(&name(), draft, Some(at)).await {
            Ok(published) => {
                let id = published.event.head.id.clone();
                self.owed.insert(id.clone());
                self.newest_event = Some(id);
            }
            Err(refused) => assert_eq!(refused, Refused::NotLive),
        }
    }

    async fn cancel(&mut self) {
        let Some(id) = self.newest_event.take() else { return };
        self.hub.cancel_event(&name(), &id, None).await.expect("it is known");
        // It may have been on its way.
        self.owed.remove(&id);
    }

    fn join(&mut self, lag_ms: Option<u16>) {
        let viewer = self.hub.view(&name()).expect("a place");
        let cursor = viewer.stream().ring().cursor(lag_ms.map(|ms| i64::from(ms) * 1000));
        self.viewers.push(Watcher {
            _viewer: viewer,
            cursor,
            head: None,
            picture: None,
            newest_us: [i64::MIN; 2],
            events: Vec::new(),
        });
    }

    /// Reads all there is, and compares what the viewers were told: each has all events since his first.
    fn compare(&mut self) {
        self.viewers.iter_mut().for_each(Watcher::read);
        let (all, others) = self.viewers.split_first().expect("the first never leaves");
        for other in others {
            assert!(all.events.ends_with(&other.events), "{:?} is not the end of {:?}", other.events, all.events);
        }
    }

    async fn finish(mut self) {
        self.publish(true, true);
        for index in 0..400 {
            self.frame(40, 100, index % 25 == 0).await;
            self.viewers[0].read();
        }
        self.compare();
        let told = &self.viewers[0].events;
        let missing: Vec<_> = self.owed.iter().filter(|id| !told.contains(id)).collect();
        assert!(missing.is_empty(), "{missing:?} never came");
        assert!(self.viewers.iter().all(|viewer| viewer.picture == Some(self.number)), "not all are where the line is");
        self.stop.cancel();
    }
}

/// A viewer, and what he was told.
struct Watcher {
    _viewer: Viewer,
    cursor: Cursor<Item>,
    head: Option<Arc<Head>>,
    /// The newest picture, if nothing was left out since.
    picture: Option<u32>,
    newest_us: [i64; 2],
    events: Vec<String>,
}

impl Watcher {
    /// Reads all there is; he is never disconnected before the stream ends.
    fn read(&mut self) {
        loop {
            match self.cursor.try_recv() {
                Ok(Some(Read::Entry { entry, .. })) => self.take(entry),
                Ok(Some(Read::Skipped { .. })) => self.picture = None,
                Ok(None) => return,
                Err(end) => return assert_eq!(end, End::Closed),
            }
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Head(head) => self.head = Some(head),
            Item::Event(event) if event.head.kind == "prompt.show" => {
                assert!(!self.events.contains(&event.head.id), "told twice");
                self.events.push(event.head.id.clone());
            }
            Item::Frame(frame) => {
                let head = self.head.as_ref().expect("a head first");
                let newest_us = &mut self.newest_us[usize::from(frame.track == TrackKind::Audio)];
                assert!(frame.dts_us > *newest_us, "{} after {newest_us}", frame.dts_us);
                *newest_us = frame.dts_us;
                if frame.track == TrackKind::Audio {
                    return;
                }
                let word = |at: usize| u32::from_be_bytes(frame.data[at..at + 4].try_into().expect("four"));
                let config = head.tracks.video.as_ref().map(|video| video.description.clone());
                assert_eq!(config.as_deref(), Some(&frame.data[4..8]), "another configuration than the head's");
                let number = word(0);
                assert!(
                    frame.keyframe || self.picture.map(|before| before + 1) == Some(number),
                    "{number} can't be decoded"
                );
                self.picture = Some(number);
            }
            Item::Event(_) | Item::Data(_) => {}
        }
    }
}
