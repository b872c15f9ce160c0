//! Events over HTTP, without the network below.

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    egress::{BFrames, Egress},
    hub::{At, Hub, Merge, Origin, Patience, Publisher, Settings},
    media::{Codec, Frame, StreamName, TrackKind, Tracks, VideoConfig},
    proto::{
        ice::Credentials,
        sdp::{Fingerprint, HashFunction, Setup, Terms, Transport},
        srtp::{Profile, Sealer},
        webrtc::Outbox,
    },
};

struct Room {
    hub: Arc<Hub>,
    publisher: Publisher,
    playing: Playing,
    sealer: Sealer,
}

fn name() -> StreamName {
    "live/room".parse().expect("a name")
}

fn room() -> Room {
    let settings = Settings::default();
    let merge = Merge { audio: Duration::ZERO, all: Duration::ZERO };
    let egress = Egress::new(&settings, Patience::new(Duration::MAX), merge, CancellationToken::new(), None);
    let hub = Hub::new(settings, Some(Origin::in_memory()));
    let mut publisher = hub.publish(&name()).expect("a slot");
    let video = VideoConfig { codec: Codec::Vp8, description: Bytes::new(), width: 16, height: 16 };
    publisher.set_tracks(Tracks { video: Some(video), ..Tracks::default() }).expect("current");
    let transport = Transport {
        ice: Credentials { ufrag: "user".into(), pwd: "p".repeat(22) },
        ice_lite: false,
        fingerprint: Fingerprint::of(HashFunction::Sha256, b"der"),
        setup: Setup::Active,
        candidates: Vec::new(),
    };
    let terms = Terms { transport, tracks: Vec::new(), data: None };
    let viewer = hub.view(&name()).expect("a room");
    let playback = Playback::join(&egress, viewer, &terms, "cname".into(), BFrames::Refuse);
    let playing = Playing::new(playback, ([127, 0, 0, 1], 9).into(), &Metrics::new(0, true));
    let sealer = Sealer::new(Profile::Aes128Gcm, &[7; 16], &[8; 12]).expect("keys");
    Room { hub, publisher, playing, sealer }
}

impl Room {
    fn push(&mut self, ms: i64) {
        let (dts_us, data) = (ms * 1000, Bytes::from_static(&[0; 20]));
        let frame = Frame { track: TrackKind::Video, dts_us, pts_us: dts_us, keyframe: ms == 0, data };
        self.publisher.push_frame(frame).expect("current");
    }

    async fn push_with_card(&mut self, ms: i64) {
        let card = json!({"type": "card.show", "op": "set", "key": "card:main", "data": {"ms": ms}});
        let at = At::PtsUs(self.publisher.place(ms * 1000).expect("placed"));
        let card = card.as_object().expect("an object").clone();
        self.hub.publish_event(&name(), card, Some(at)).await.expect("accepted");
        self.push(ms);
    }

    /// As the session's task does, for a moment.
    async fn serve(&mut self) -> Result<(), egress::Over> {
        loop {
            let taking = std::future::poll_fn(|cx| {
                self.playing.playback.poll_take(cx, Instant::now(), &mut self.sealer, 1, &mut Outbox::default())
            });
            let taken = tokio::time::timeout(Duration::from_millis(50), taking).await;
            self.playing.tell_over_http()?;
            let Ok(taken) = taken else { return Ok(()) };
            taken?;
        }
    }
}

/// The cards that came, by the time in them, and whether they were told again.
fn cards(receiver: &mut mpsc::Receiver<Bytes>) -> Vec<(i64, bool)> {
    let messages = std::iter::from_fn(|| receiver.try_recv().ok());
    let card = |message: Bytes| {
        let message: serde_json::Value = serde_json::from_slice(&message).expect("JSON");
        Some((message["ev"]["data"]["ms"].as_i64()?, message["rp"] == 1))
    };
    messages.filter_map(card).collect()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_again_for_events_is_told_what_its_last_request_lost() {
    let mut room = room();
    room.push(0);
    let (sender, mut first) = mpsc::channel(100);
    room.playing.tell_by_http(sender);
    room.push_with_card(40).await;
    assert_eq!(room.serve().await, Ok(()));
    assert_eq!(cards(&mut first), [(40, false)]);

    // This one was on its way when the client went, and that one nobody could take.
    room.push_with_card(80).await;
    assert_eq!(room.serve().await, Ok(()));
    drop(first);
    room.push_with_card(120).await;
    assert_eq!(room.serve().await, Ok(()));
    let (sender, mut second) = mpsc::channel(100);
    room.playing.tell_by_http(sender);
    room.push(160);
    assert_eq!(room.serve().await, Ok(()));
    assert_eq!(cards(&mut second), [(40, false), (80, false), (120, false)]);

    // The server may not know yet that it went.
    let (sender, mut third) = mpsc::channel(100);
    room.playing.tell_by_http(sender);
    room.push_with_card(200).await;
    assert_eq!(room.serve().await, Ok(()));
    assert_eq!(cards(&mut third), [(40, false), (80, false), (120, false), (200, false)]);
    assert!(second.is_closed() && cards(&mut second).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_events_is_over() {
    let mut room = room();
    room.push(0);
    let (sender, _unread) = mpsc::channel(3);
    room.playing.tell_by_http(sender);
    let mut served = Ok(());
    for n in 1..=5 {
        room.push_with_card(n * 40).await;
        served = served.and(room.serve().await);
    }
    assert_eq!(served, Err(hub::End::EventsLost.into()));
}
