//! Entry point of the fuzz target: any text in, no panic, and what is answered can be read, and says what was agreed.

use bytes::Bytes;

use super::{
    Candidate, Credentials, Fingerprint, Fragment, HashFunction, Local, Offer, Ssrcs, Terms, client,
    play::{self, Play},
    publish,
};
use crate::media::{Codec, VideoConfig};

/// An offer, answered both as a publisher's and as a player's; and a fragment.
pub fn sdp(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    let local = local();
    if let Ok(fragment) = Fragment::parse(text) {
        let answer = fragment.restart_answer(&local);
        assert_eq!(Fragment::parse(&answer).map(|answer| answer.ice), Ok(Some(local.ice.clone())), "{answer}");
    }
    let Ok(offer) = Offer::parse(text) else { return };
    let codecs = [Codec::Avc, Codec::Hevc, Codec::Av1, Codec::Vp9, Codec::Vp8, Codec::Opus];
    if let Ok((answer, terms)) = publish::answer(&offer, &local, &codecs) {
        check(&offer, &local, &answer, &terms);
    }
    for codec in codecs.into_iter().filter(|codec| *codec != Codec::Opus) {
        let video = VideoConfig { codec, description: Bytes::new(), width: 0, height: 0 };
        let ssrcs = Ssrcs { video: 1, video_rtx: 2, audio: 3 };
        let play = Play { video: Some(&video), audio: Some(Codec::Opus), ssrcs };
        if let Ok((answer, terms)) = play::answer(&offer, &local, &play) {
            check(&offer, &local, &answer, &terms);
        }
    }
}

/// Both ends agree, and the answer has a line for each of the offer's (RFC 3264 §6).
fn check(offer: &Offer, local: &Local, answer: &str, terms: &Terms) {
    let lines = answer.lines().filter(|line| line.starts_with("m=")).count();
    assert_eq!(lines, offer.media.len(), "{answer}");
    assert!(answer.split_inclusive('\n').all(|line| line.ends_with("\r\n")), "{answer:?}");
    let read = client::accept(answer);
    assert!(read.is_ok(), "{read:?}: {answer}");
    let Ok(read) = read else { return };
    assert_eq!((&read.transport.ice, &read.transport.fingerprint), (&local.ice, &local.fingerprint), "{answer}");
    let facts = |terms: &Terms| -> Vec<_> {
        let track = terms.tracks.iter();
        track.map(|track| (track.mid.clone(), track.codec, track.payload_type, track.rtx, track.feedback)).collect()
    };
    assert_eq!(facts(&read), facts(terms), "{answer}");
    assert_eq!(read.data.is_some(), terms.data.is_some(), "{answer}");
}

fn local() -> Local {
    Local {
        ice: Credentials { ufrag: "ufrag".to_owned(), pwd: "password0password0password".to_owned() },
        fingerprint: Fingerprint::of(HashFunction::Sha256, &[]),
        candidates: vec![Candidate::host_udp(([192, 0, 2, 1], 1).into())],
        session_id: 1,
    }
}
