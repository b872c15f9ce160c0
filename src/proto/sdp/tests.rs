use core::net::SocketAddr;

use bytes::Bytes;
use proptest::prelude::*;

use super::{fuzz, play::Play, *};
use crate::{
    limits::{SDP_BYTES_MAX, SDP_CANDIDATES_MAX, SDP_LINE_BYTES_MAX},
    media::VideoConfig,
    proto::ice,
};

/// Offers as their makers write them: a headless Chromium with a fake camera (`createOffer`), aiortc 1.15, and
/// ffmpeg 9's WHIP muxer. OBS's is written by hand in the form of libdatachannel, which it uses.
const CHROMIUM_PLAY: &str = include_str!("../../../fuzz/corpus/sdp/chromium_play");
const CHROMIUM_PLAY_MAX_BUNDLE: &str = include_str!("../../../fuzz/corpus/sdp/chromium_play_max_bundle");
const CHROMIUM_PUBLISH: &str = include_str!("../../../fuzz/corpus/sdp/chromium_publish");
const CHROMIUM_SIMULCAST: &str = include_str!("../../../fuzz/corpus/sdp/chromium_simulcast");
const AIORTC_PLAY: &str = include_str!("../../../fuzz/corpus/sdp/aiortc_play");
const AIORTC_PUBLISH: &str = include_str!("../../../fuzz/corpus/sdp/aiortc_publish");
const FFMPEG_PUBLISH: &str = include_str!("../../../fuzz/corpus/sdp/ffmpeg_publish");
const OBS_PUBLISH: &str = include_str!("../../../fuzz/corpus/sdp/obs_publish");

const ALL: [Codec; 6] = [Codec::Avc, Codec::Hevc, Codec::Av1, Codec::Vp9, Codec::Vp8, Codec::Opus];
const SSRCS: Ssrcs = Ssrcs { video: 1001, video_rtx: 1002, audio: 1003 };

const HIGH: &[u8] = &[1, 0x64, 0, 0x28];
const MAIN: &[u8] = &[1, 0x4d, 0, 0x1f];
const CONSTRAINED_BASELINE: &[u8] = &[1, 0x42, 0xe0, 0x1f];

fn local() -> Local {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    Local {
        ice: Credentials { ufrag: "serverufragserver".into(), pwd: "serverpwdserverpwdserver".into() },
        fingerprint: Fingerprint::of(HashFunction::Sha256, b"certificate"),
        candidates: vec![
            Candidate::host_udp(address("192.0.2.1:8189")),
            Candidate::host_udp(address("[2001:db8::1]:8189")),
            Candidate::host_tcp(address("192.0.2.1:8189")),
        ],
        session_id: u64::MAX,
    }
}

fn publish(offer: &str) -> Result<(String, Terms), Unacceptable> {
    publish::answer(&Offer::parse(offer).expect("an offer"), &local(), &ALL)
}

fn play(offer: &str, video: Option<(Codec, &'static [u8])>, audio: bool) -> Result<(String, Terms), Unacceptable> {
    let video = video.map(|(codec, description)| VideoConfig {
        codec,
        description: Bytes::from_static(description),
        width: 0,
        height: 0,
    });
    let play = Play { video: video.as_ref(), audio: audio.then_some(Codec::Opus), ssrcs: SSRCS };
    play::answer(&Offer::parse(offer).expect("an offer"), &local(), &play)
}

fn video(terms: &Terms) -> &Track {
    terms.track(TrackKind::Video).expect("video")
}

fn audio(terms: &Terms) -> &Track {
    terms.track(TrackKind::Audio).expect("audio")
}

/// A small offer to take apart.
fn replaced(from: &str, to: &str) -> String {
    let offer = OBS_PUBLISH.replace(from, to);
    assert_ne!(offer, OBS_PUBLISH, "{from} isn't in it");
    offer
}

#[test]
fn a_publishers_answer_is_this() {
    let (answer, terms) = publish(OBS_PUBLISH).expect("answered");
    let transport = "a=ice-ufrag:serverufragserver\r\n\
        a=ice-pwd:serverpwdserverpwdserver\r\n\
        a=fingerprint:sha-256 03:D6:6D:D0:88:35:C1:CA:3F:12:8C:CE:AC:D1:F3:1A:C9:41:63:09:6B:20:F4:45:AE:84:28:5B:C0:83:2D:72\r\n\
        a=setup:passive\r\n\
        a=candidate:1 1 udp 2130706175 192.0.2.1 8189 typ host\r\n\
        a=candidate:2 1 udp 2130706431 2001:db8::1 8189 typ host\r\n\
        a=candidate:3 1 tcp 1526726399 192.0.2.1 8189 typ host tcptype passive\r\n\
        a=end-of-candidates\r\n";
    let expected = format!(
        "v=0\r\n\
        o=- 9223372036854775807 1 IN IP4 127.0.0.1\r\n\
        s=-\r\n\
        t=0 0\r\n\
        a=ice-lite\r\n\
        a=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
        c=IN IP4 0.0.0.0\r\n\
        a=mid:0\r\n\
        {transport}\
        a=recvonly\r\n\
        a=rtcp-mux\r\n\
        a=rtpmap:111 opus/48000/2\r\n\
        a=fmtp:111 minptime=10;maxaveragebitrate=96000;useinbandfec=1;stereo=1\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\n\
        c=IN IP4 0.0.0.0\r\n\
        a=mid:1\r\n\
        {transport}\
        a=recvonly\r\n\
        a=rtcp-mux\r\n\
        a=rtpmap:96 H264/90000\r\n\
        a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1\r\n\
        a=rtcp-fb:96 nack\r\n\
        a=rtcp-fb:96 nack pli\r\n"
    );
    assert_eq!(answer, expected);
    assert_eq!(terms.transport.ice.ufrag, "uLSS");
    assert_eq!(
        (video(&terms).ssrcs.as_slice(), audio(&terms).ssrcs.as_slice()),
        (&[1733482918][..], &[1733482917][..])
    );
}

#[test]
fn every_publisher_is_answered() {
    for (offer, codec, payload_type, rtx) in [
        (CHROMIUM_PUBLISH, Codec::Avc, 102, Some(103)),
        (CHROMIUM_SIMULCAST, Codec::Avc, 102, Some(103)),
        (AIORTC_PUBLISH, Codec::Avc, 99, Some(100)),
        (FFMPEG_PUBLISH, Codec::Avc, 106, Some(105)),
        (OBS_PUBLISH, Codec::Avc, 96, None),
    ] {
        let (answer, terms) = publish(offer).expect("answered");
        let video = video(&terms);
        assert_eq!((video.codec, video.payload_type, video.rtx), (codec, payload_type, rtx), "{answer}");
        assert_eq!((audio(&terms).codec, audio(&terms).clock_rate_hz), (Codec::Opus, 48_000));
        fuzz::sdp(offer.as_bytes());
    }
    let only = |codec: Codec| {
        let offer = Offer::parse(CHROMIUM_PUBLISH).expect("an offer");
        let (_, terms) = publish::answer(&offer, &local(), &[codec, Codec::Opus]).expect("answered");
        (video(&terms).payload_type, video(&terms).rtx)
    };
    assert_eq!([only(Codec::Avc), only(Codec::Vp9)], [(102, Some(103)), (98, Some(99))]);
}

#[test]
fn every_player_is_answered() {
    for (offer, stream, payload_type, rtx) in [
        (CHROMIUM_PLAY, (Codec::Avc, HIGH), 102, 103),
        (CHROMIUM_PLAY, (Codec::Avc, MAIN), 116, 117),
        (CHROMIUM_PLAY, (Codec::Avc, CONSTRAINED_BASELINE), 108, 109),
        (CHROMIUM_PLAY, (Codec::Av1, &[0x81, 0x04, 0, 0]), 45, 46),
        (CHROMIUM_PLAY, (Codec::Av1, &[0x81, 0x24, 0, 0]), 47, 48),
        (CHROMIUM_PLAY, (Codec::Vp9, &[1, 0, 0, 0, 2, 10, 0xa0]), 100, 101),
        (CHROMIUM_PLAY_MAX_BUNDLE, (Codec::Vp8, &[]), 96, 97),
        (AIORTC_PLAY, (Codec::Avc, CONSTRAINED_BASELINE), 101, 102),
    ] {
        let (answer, terms) = play(offer, Some(stream), true).expect("answered");
        let video = video(&terms);
        assert_eq!((video.payload_type, video.rtx), (payload_type, Some(rtx)), "{stream:?} {answer}");
        assert_eq!((video.ssrcs.as_slice(), video.rtx_ssrcs.as_slice()), (&[1001][..], &[(1001, 1002)][..]));
        assert_eq!(terms.data.is_some(), offer.contains("m=application"));
        assert_eq!(client::accept(&answer).expect("read").tracks[0].ssrcs, terms.tracks[0].ssrcs);
        fuzz::sdp(offer.as_bytes());
    }
}

#[test]
fn a_refusal_names_both_sides() {
    let refused =
        play(AIORTC_PLAY, Some((Codec::Av1, &[0x81, 0x24, 0, 0])), true).expect_err("no AV1 there").to_string();
    assert_eq!(refused, "no common codec for video: offered VP8, H264, possible av1 (av01.1.04M.08)");
    let offer = Offer::parse(CHROMIUM_PLAY).expect("an offer");
    let refused = publish::answer(&offer, &local(), &ALL).expect_err("it sends nothing");
    assert_eq!(refused, Unacceptable::NoMedia("send"));
    let refused = publish(&replaced("H264/90000", "H263/90000")).expect_err("an old codec");
    assert!(
        refused.to_string().starts_with("no common codec for video: offered H263, possible h264, h265"),
        "{refused}"
    );
    // Single NAL unit mode has no frames larger than a packet.
    let offer = AIORTC_PLAY.replace("packetization-mode=1", "packetization-mode=0");
    assert!(matches!(play(&offer, Some((Codec::Avc, HIGH)), true), Err(Unacceptable::NoCodec { .. })));
    // 10 bits for a player that has 8.
    assert!(
        play(
            &CHROMIUM_PLAY.replace("profile-id=2", "profile-id=0"),
            Some((Codec::Vp9, &[1, 0, 0, 0, 2, 10, 0xa0])),
            true
        )
        .is_err()
    );
}

#[test]
fn lines_that_are_not_wanted_are_rejected_in_place() {
    let (answer, terms) = play(CHROMIUM_PLAY, None, true).expect("sound alone");
    let lines: Vec<_> = answer.lines().filter(|line| line.starts_with("m=") || line.starts_with("a=group")).collect();
    assert_eq!(
        lines,
        [
            "a=group:BUNDLE 1 2",
            "m=video 0 UDP/TLS/RTP/SAVPF 96",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"
        ]
    );
    assert_eq!((terms.tracks.len(), client::accept(&answer).expect("read").tracks.len()), (1, 1));

    // A second camera, and a kind of media that we don't know.
    let camera = OBS_PUBLISH.split_once("m=video").expect("video").1.replace("a=mid:1", "a=mid:2");
    let offer = replaced("BUNDLE 0 1", "BUNDLE 0 1 2 3") + "m=video" + &camera + "m=text 9 RTP/AVP 98\r\na=mid:3\r\n";
    let (answer, terms) = publish(&offer).expect("answered");
    assert_eq!(terms.tracks.len(), 2);
    assert!(answer.contains("m=video 0 UDP/TLS/RTP/SAVPF 96\r\n") && answer.contains("m=text 0 RTP/AVP 98\r\n"));
}

#[test]
fn the_transport_is_that_of_the_first_line_taken() {
    let offer = CHROMIUM_PLAY.replacen("a=ice-ufrag:", "a=ice-ufrag:other", 1);
    let ufrag = |answer: (String, Terms)| answer.1.transport.ice.ufrag;
    assert!(ufrag(play(&offer, Some((Codec::Vp8, &[])), true).expect("both")).starts_with("other"));
    assert!(!ufrag(play(&offer, None, true).expect("sound alone")).starts_with("other"));
    let alone = replaced("a=group:BUNDLE 0 1\r\n", "").split_once("m=video").expect("video").0.to_owned();
    let (answer, _) = publish(&alone).expect("one line needs no group");
    assert!(!answer.contains("BUNDLE"), "{answer}");
    for refused in [replaced("a=group:BUNDLE 0 1\r\n", ""), replaced("a=rtcp-mux\r\n", "")] {
        assert_eq!(publish(&refused), Err(Unacceptable::NotBundled("audio")));
    }
    assert_eq!(publish(&replaced("s=-\r\n", "s=-\r\na=ice-lite\r\n")), Err(Unacceptable::BothLite));
}

#[test]
fn we_call_a_peer_that_waits() {
    // ffmpeg's muxer offers `passive`.
    let (answer, terms) = publish(FFMPEG_PUBLISH).expect("answered");
    assert_eq!((terms.transport.setup, terms.transport.setup.answered()), (Setup::Passive, Setup::Active));
    assert!(answer.contains("a=setup:active\r\n") && !answer.contains("a=setup:passive\r\n"));
    assert_eq!(Offer::parse(&replaced("a=setup:actpass", "a=setup:holdconn")), Err(BadSdp::Bad("setup")));
}

#[test]
fn layers_of_simulcast_are_taken() {
    let (answer, terms) = publish(CHROMIUM_SIMULCAST).expect("answered");
    assert_eq!(video(&terms).rids, ["h", "m", "l"]);
    assert!(answer.contains("a=rid:h recv\r\na=rid:m recv\r\na=rid:l recv\r\na=simulcast:recv h;m;l\r\n"), "{answer}");
    let extensions = video(&terms).extensions;
    assert_eq!([extensions.rid, extensions.repaired_rid, extensions.transport_cc], [Some(10), Some(11), Some(4)]);
    let offer = CHROMIUM_SIMULCAST.replace("send h;m;l", "send ~h,x;q;l recv z");
    assert_eq!(video(&publish(&offer).expect("answered").1).rids, ["h", "l"], "paused, alternative, undescribed");
}

#[test]
fn feedback_and_extensions_are_what_both_know() {
    let line = "a=rtcp-fb:96 goog-remb\r\n";
    let capture = "a=extmap:7/sendonly http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time\r\n";
    let (answer, terms) =
        publish(&replaced(line, &format!("a=rtcp-fb:* transport-cc\r\n{capture}"))).expect("answered");
    assert_eq!((video(&terms).extensions.abs_capture_time, video(&terms).feedback.transport_cc), (Some(7), false));
    assert!(
        answer.contains("a=extmap:7 http") && !answer.contains("transport-cc"),
        "no numbers, no feedback: {answer}"
    );
    // What a player asks for again comes in a stream of its own, or not at all.
    let asks = |offer: &str| video(&play(offer, Some((Codec::Vp8, &[])), true).expect("answered").1).feedback.nack;
    assert_eq!([asks(AIORTC_PLAY), asks(&AIORTC_PLAY.replace("apt=97", "apt=1"))], [true, false]);
    // A one-byte header has no such id.
    let (_, terms) = publish(&replaced(line, &capture.replace('7', "15"))).expect("answered");
    assert_eq!(video(&terms).extensions, Extensions::default());
}

#[test]
fn nothing_is_smuggled_into_an_answer() {
    for (from, to) in [
        ("a=mid:0", "a=mid:0\ra=x"),
        ("a=mid:0", "a=mid:0\0"),
        ("s=-", "s=\0"),
        ("a=mid:0", "a=mid:0 1"),
        ("a=mid:0", "a=mid:"),
        ("a=mid:1", "a=mid:0"),
        ("minptime=10", "minptime=é"),
        ("minptime=10", "minptime=\u{85}"),
        ("m=audio", "m=au;dio"),
        ("SAVPF 96", "SAVPF 96\t1"),
        ("RTP/SAVPF", "RTP//SAVPF"),
        ("opus/48000/2", "\"opus\"/48000/2"),
        ("uLSS", "uL:S"),
        ("a=mid:0", "mid"),
    ] {
        assert!(Offer::parse(&replaced(from, to)).is_err(), "{to:?}");
    }
}

#[test]
fn what_a_peer_can_make_us_hold_is_bounded() {
    let much = |line: &str, count: usize| OBS_PUBLISH.to_owned() + &line.repeat(count);
    let refused = |offer: String| Offer::parse(&offer).expect_err("too much");
    assert_eq!(refused(much(&format!("a=x:{}\r\n", "y".repeat(1000)), SDP_BYTES_MAX / 1000)), BadSdp::TooLong);
    assert_eq!(refused(much(&format!("a={}\r\n", "y".repeat(SDP_LINE_BYTES_MAX)), 1)), BadSdp::TooLong);
    assert_eq!(refused(much("a=x\r\n", 2048)), BadSdp::TooMany("lines"));
    assert_eq!(refused(much("m=text 9 RTP/AVP 98\r\n", 15)), BadSdp::TooMany("media lines"));
    let types: Vec<_> = (0..65).map(|number| number.to_string()).collect();
    assert_eq!(refused(replaced("SAVPF 96", &format!("SAVPF {}", types.join(" ")))), BadSdp::TooMany("payload types"));
    assert_eq!(refused(replaced("a=mid:1", &format!("a=mid:{}", "1".repeat(65)))), BadSdp::Bad("mid"));

    let offer = (0..100).fold(OBS_PUBLISH.to_owned(), |offer, n| {
        offer
            + &format!(
                "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=ssrc:{n} cname:x\r\na=ssrc-group:FID {n} 1{n}\r\n"
            )
    });
    let media = Offer::parse(&offer).expect("an offer").media.remove(1);
    assert_eq!(media.transport.expect("a transport").candidates.len(), SDP_CANDIDATES_MAX);
    assert!(media.ssrcs.len() <= 16 && media.rtx_ssrcs.len() <= 16);
}

#[test]
fn candidates_are_those_that_can_be_sent_to() {
    let address = |text: &str| Candidate::parse(text).map(|found| (found.transport, found.address.to_string()));
    let udp = "842163049 1 UDP 1677729535 203.0.113.7 46154 typ srflx raddr 10.0.0.1 rport 46154 generation 0";
    assert_eq!(address(udp), Some((ice::Transport::Udp, "203.0.113.7:46154".into())));
    let tcp = "1 1 tcp 1 2001:db8::7 443 typ host tcptype passive";
    assert_eq!(address(tcp), Some((ice::Transport::Tcp, "[2001:db8::7]:443".into())));
    for useless in [
        "1 1 udp 1 1f4712db-ea17-4bcf-a596-105139dfd8bf.local 54596 typ host",
        "1 1 tcp 1 192.0.2.2 9 typ host tcptype active",
        "1 2 udp 1 192.0.2.2 9000 typ host",
        "1 1 udp 1 192.0.2.2 0 typ host",
        "1 1 udp -1 192.0.2.2 9 typ host",
        "1 1 udp",
        "",
    ] {
        assert_eq!(address(useless), None, "{useless}");
    }
    let ours = local().candidates[1];
    assert_eq!(Candidate::parse(&format!("1 {ours}")), Some(ours));
}

#[test]
fn the_strongest_fingerprint_counts() {
    let fingerprint = |offer: &str| Offer::parse(offer).map(|offer| offer.transport.fingerprint.function);
    assert_eq!(fingerprint(AIORTC_PLAY), Ok(HashFunction::Sha512));
    assert_eq!(fingerprint(&replaced("sha-256", "SHA-256")), Ok(HashFunction::Sha256));
    assert_eq!(fingerprint(&replaced("sha-256", "sha-1")), Err(BadSdp::Bad("fingerprint")));
    assert_eq!(fingerprint(&replaced("6B:4F:", "6B:")), Err(BadSdp::Bad("fingerprint")));
    assert_eq!(fingerprint(&replaced("a=fingerprint", "a=x")), Err(BadSdp::Missing("fingerprint")));
    let ours = local().fingerprint;
    assert!(ours.is_of(b"certificate") && !ours.is_of(b"another"));
}

#[test]
fn secrets_stay_out_of_logs() {
    let offer = Offer::parse(OBS_PUBLISH).expect("an offer");
    assert!(!format!("{offer:?}").contains(&offer.transport.ice.pwd));
}

#[test]
fn fragments_trickle_and_restart() {
    // RFC 9725 §4.3.2 and §4.3.3, with candidates of ours.
    let trickle = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
        a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0\r\n\
        a=end-of-candidates\r\n";
    let fragment = Fragment::parse(trickle).expect("a fragment");
    assert_eq!(fragment.ice.as_ref().map(|ice| ice.ufrag.as_str()), Some("EsAw"));
    assert_eq!((fragment.mid.as_str(), fragment.candidates.len(), fragment.end_of_candidates), ("0", 1, true));
    let answer = fragment.restart_answer(&local());
    assert!(answer.starts_with("a=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:server"));
    let read = Fragment::parse(&answer).expect("read");
    assert_eq!((read.ice, read.candidates), (Some(local().ice), local().candidates));

    let short = Fragment::parse("a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n").expect("a fragment");
    assert_eq!((short.mid.as_str(), short.candidates.len(), short.end_of_candidates), ("", 0, false));
    assert_eq!(Fragment::parse("a=ice-ufrag:EsAw\r\n"), Err(BadSdp::Missing("ice-pwd")));
    assert_eq!(Fragment::parse("m=audio\r\n"), Err(BadSdp::Bad("media line")));
}

#[test]
fn our_own_offers_are_answered() {
    let mut caller = local();
    caller.ice.ufrag = "client".into();
    let offer = client::publish(&caller, Some(Codec::Hevc), Some(Codec::Opus), SSRCS);
    let (answer, terms) = publish(&offer).expect("answered");
    assert_eq!(
        (video(&terms).ssrcs.as_slice(), video(&terms).rtx_ssrcs.as_slice()),
        (&[1001][..], &[(1001, 1002)][..])
    );
    assert_eq!((terms.transport.ice.ufrag.as_str(), audio(&terms).ssrcs.as_slice()), ("client", &[1003][..]));
    let theirs = client::accept(&answer).expect("read");
    assert_eq!((theirs.transport.setup, theirs.transport.ice_lite), (Setup::Passive, true));
    assert_eq!(theirs.transport.candidates, local().candidates);
    assert_eq!((video(&theirs).payload_type, video(&theirs).extensions), (98, video(&terms).extensions));

    for codec in ALL.into_iter().filter(|codec| codec.kind() == TrackKind::Video) {
        let (answer, terms) = play(&client::play(&caller, &ALL, true), Some((codec, &[])), true).expect("answered");
        let theirs = client::accept(&answer).expect("read");
        assert_eq!((theirs.tracks.as_slice(), theirs.data.is_some()), (terms.tracks.as_slice(), true), "{answer}");
    }
}

/// Another implementation reads what we write, and we what it writes.
#[test]
fn str0m_agrees() {
    use str0m::{
        Rtc,
        change::{SdpAnswer, SdpOffer},
        media::{Direction, MediaKind},
    };
    let peer = || Rtc::new(crate::clock::now().into_std());
    type Answered = Result<(String, Terms), Unacceptable>;
    let play = |offer: &str| play(offer, Some((Codec::Avc, HIGH)), true);
    for (direction, answer) in
        [(Direction::SendOnly, &publish as &dyn Fn(&str) -> Answered), (Direction::RecvOnly, &play)]
    {
        let mut peer = peer();
        let mut changes = peer.sdp_api();
        let mids =
            [MediaKind::Video, MediaKind::Audio].map(|kind| changes.add_media(kind, direction, None, None, None));
        changes.add_channel("live-events".into());
        let (offer, pending) = changes.apply().expect("an offer");
        let (answer, terms) = answer(&offer.to_sdp_string()).expect("answered");
        let answer = SdpAnswer::from_sdp_string(&answer).expect("an answer");
        peer.sdp_api().accept_answer(pending, answer).expect("accepted");
        for (mid, track) in mids.into_iter().zip(&terms.tracks) {
            let media = peer.media(mid).expect("a track");
            let types: Vec<u8> = media.remote_pts().iter().map(|number| **number).collect();
            assert_eq!(types, [track.payload_type], "{track:?}");
            assert_eq!((media.direction(), mid.to_string()), (direction, track.mid.clone()));
        }
    }
    for offer in
        [client::publish(&local(), Some(Codec::Avc), Some(Codec::Opus), SSRCS), client::play(&local(), &ALL, true)]
    {
        let offer = SdpOffer::from_sdp_string(&offer).expect("an offer");
        let answer = peer().sdp_api().accept_offer(offer).expect("accepted").to_sdp_string();
        let terms = client::accept(&answer).expect("read");
        assert!(terms.tracks.iter().any(|track| track.codec == Codec::Opus && track.payload_type == 111), "{answer}");
        assert_eq!(terms.tracks.len(), 2);
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in any::<String>(), lines in proptest::collection::vec("[vamc]=[ -~]{0,40}", 0..30)) {
        fuzz::sdp(text.as_bytes());
        fuzz::sdp(format!("v=0\r\n{}", lines.join("\r\n")).as_bytes());
    }

    #[test]
    fn a_damaged_offer_is_survived(
        which in 0usize..8,
        swaps in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
        bytes in proptest::collection::vec((any::<prop::sample::Index>(), b' '..=b'~'), 0..4),
        dropped in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let mut lines: Vec<_> = CORPUS[which].lines().collect();
        for (a, b) in swaps {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
        }
        for line in dropped {
            lines.remove(line.index(lines.len()));
        }
        let mut text = lines.join("\n").into_bytes();
        for (at, byte) in bytes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        fuzz::sdp(&text);
    }
}

const CORPUS: [&str; 8] = [
    CHROMIUM_PLAY,
    CHROMIUM_PLAY_MAX_BUNDLE,
    CHROMIUM_PUBLISH,
    CHROMIUM_SIMULCAST,
    AIORTC_PLAY,
    AIORTC_PUBLISH,
    FFMPEG_PUBLISH,
    OBS_PUBLISH,
];
