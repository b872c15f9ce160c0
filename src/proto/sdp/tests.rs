use core::net::SocketAddr;

use bytes::Bytes;

use super::{play::Play, *};
use crate::media::VideoConfig;

/// Real offers. Chromium 150's are `createOffer` of a headless one with a fake camera.
const CHROMIUM_PLAY: &str = include_str!("../../../tests/data/sdp/chromium_play.sdp");
const CHROMIUM_PLAY_MAX_BUNDLE: &str = include_str!("../../../tests/data/sdp/chromium_play_max_bundle.sdp");
const CHROMIUM_PUBLISH: &str = include_str!("../../../tests/data/sdp/chromium_publish.sdp");
const CHROMIUM_SIMULCAST: &str = include_str!("../../../tests/data/sdp/chromium_simulcast.sdp");

const PUBLISHERS: [&str; 2] = [CHROMIUM_PUBLISH, CHROMIUM_SIMULCAST];
const PLAYERS: [&str; 2] = [CHROMIUM_PLAY, CHROMIUM_PLAY_MAX_BUNDLE];

const ALL: [Codec; 6] = [Codec::Avc, Codec::Hevc, Codec::Av1, Codec::Vp9, Codec::Vp8, Codec::Opus];
const SSRCS: Ssrcs = Ssrcs { video: 1001, video_rtx: 1002, audio: 1003 };

fn local() -> Local {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    Local {
        ice: Credentials { ufrag: "serverufragserver".into(), pwd: "serverpwdserverpwdserver".into() },
        fingerprint: Fingerprint::of(HashFunction::Sha256, b"certificate"),
        candidates: vec![
            Candidate::host(Protocol::Udp, address("192.0.2.1:8189"), 0),
            Candidate::host(Protocol::Udp, address("[2001:db8::1]:8189"), 1),
            Candidate::host(Protocol::Tcp, address("192.0.2.1:8189"), 0),
        ],
        session_id: u64::MAX,
    }
}

fn picture(codec: Codec, description: &'static [u8]) -> VideoConfig {
    VideoConfig { codec, description: Bytes::from_static(description), width: 0, height: 0 }
}

#[test]
fn offers_of_browsers_are_answered() {
    for text in PUBLISHERS {
        let (answer, terms) = publish::answer(&Offer::parse(text).expect("read"), &local(), &ALL).expect("answered");
        let client = client::accept(&answer).expect("read");
        assert_eq!((client.tracks.len(), terms.tracks.len()), (2, 2));
    }
    let video = picture(Codec::Avc, &[1, 0x64, 0, 0x1f]);
    for text in PLAYERS {
        let play = Play { video: Some(&video), audio: Some(Codec::Opus), ssrcs: SSRCS };
        let (answer, terms) = play::answer(&Offer::parse(text).expect("read"), &local(), &play).expect("answered");
        let client = client::accept(&answer).expect("read");
        assert_eq!((client.tracks.len(), terms.tracks.len()), (2, 2));
    }
}
