//! Why WebRTC is not left to `rtc`: each test passes as long as one of the reasons in docs/decisions.md holds.
//!
//! `make rtc-check` runs it, and CI does not: it builds some 150 crates that nothing else needs. A test that fails after
//! an update says that `rtc` has changed there, and that the decision is to be looked at again.

#![allow(clippy::disallowed_methods, reason = "the clock of the main package is not here")]

use std::{
    iter,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::catch_unwind,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use peak_alloc::PeakAlloc;
use rtc::{
    crypto::default_provider,
    ice::attributes::{
        control::{AttrControlled, AttrControlling},
        priority::PriorityAttr,
        use_candidate::UseCandidateAttr,
    },
    interceptor::Registry,
    media_stream::MediaStreamTrack,
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        configuration::{
            interceptor_registry::register_default_interceptors,
            media_engine::{MIME_TYPE_H264, MIME_TYPE_OPUS, MediaEngine},
            setting_engine::SettingEngineBuilder,
        },
        sdp::RTCSessionDescription,
        transport::{CandidateConfig, CandidateHostConfig, RTCDtlsRole, RTCIceCandidate},
    },
    rtp::{
        codec::{av1::Av1Depacketizer, h264::H264Packet},
        packetizer::Depacketizer,
    },
    rtp_transceiver::rtp_sender::{
        RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
    },
    sansio::Protocol,
    shared::{TransportContext, TransportMessage},
    stun::{
        attributes::ATTR_USERNAME,
        error_code::{CODE_ROLE_CONFLICT, ErrorCodeAttribute},
        fingerprint::FINGERPRINT,
        integrity::MessageIntegrity,
        message::{
            BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, MessageType, Setter, TransactionId,
        },
        textattrs::Username,
    },
};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The bound for a session to which no connectivity check came.
const UNCHECKED_BYTES_MAX: usize = 32 * 1024;
const H264: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f";
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 5000);
const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 6000);

#[test]
fn a_session_holds_more_than_its_bound_before_a_check_came() {
    let _alone = alone();
    let full = heap_bytes(|| answered(&offer(true), true).0);
    let bare = heap_bytes(|| answered(&offer(false), false).0);
    println!("rtc: {full} bytes a session, {bare} without interceptors and data channel");
    assert!(full > 4 * UNCHECKED_BYTES_MAX, "{full} bytes a session are not far above {UNCHECKED_BYTES_MAX}");
    assert!(bare > UNCHECKED_BYTES_MAX, "{bare} bytes a session without interceptors and data channel are in bounds");
}

#[test]
fn a_lite_agent_sends_checks_and_lets_a_nomination_wait_for_their_answer() {
    let _alone = alone();
    let (mut session, client) = answered(&offer(true), true);
    let answers = kinds(&tell(&mut session, Instant::now(), &client.check(false)));
    assert_eq!(answers, [BINDING_SUCCESS, BINDING_REQUEST], "for a check that does not nominate");

    let (mut session, client) = answered(&offer(true), true);
    let began = Instant::now();
    let answers: Vec<_> = (0..20)
        .map(|n| began + n * Duration::from_millis(50))
        .flat_map(|now| kinds(&tell(&mut session, now, &client.check(true))))
        .collect();
    let count = |kind| answers.iter().filter(|answer| **answer == kind).count();
    let (successes, requests) = (count(BINDING_SUCCESS), count(BINDING_REQUEST));
    println!("rtc: to 20 nominations {successes} success responses and {requests} checks");
    assert_eq!(successes, 0, "success responses to 20 nominations, none of its checks answered (RFC 8445 §7.3)");
    assert_ne!(requests, 0, "checks of a lite agent");
}

#[test]
fn a_forged_role_conflict_is_answered() {
    let _alone = alone();
    let (mut session, client) = answered(&offer(true), true);
    tell(&mut session, Instant::now(), &client.check(false));
    let answers = tell(&mut session, Instant::now(), &forged_conflict());
    let mut code = ErrorCodeAttribute::default();
    assert_eq!(kinds(&answers), [BINDING_ERROR], "for a role conflict without integrity");
    code.get_from(&answers[0]).unwrap();
    assert!(code.code == CODE_ROLE_CONFLICT, "{code}");
}

/// The second of AV1 needs overflow checks, which our releases have.
#[test]
fn depacketisers_panic() {
    let _alone = alone();
    let h264 = |payload: &'static [u8]| catch_unwind(|| H264Packet::default().depacketize(&payload.into()).is_ok());
    let av1 = |payload: &'static [u8]| catch_unwind(|| Av1Depacketizer::default().depacketize(&payload.into()).is_ok());
    assert!(h264(&[0x78, 0, 0, 0]).is_err(), "H.264: half a length at the end of a STAP-A");
    assert!(av1(&[0x12, 0xff]).is_err(), "AV1: a length that ends too early");
    assert!(av1(&[0x10, 0xfc]).is_err(), "AV1: an OBU without its extension header");
    assert!(h264(&[0x78, 0, 1, 0x41]).is_ok() && av1(&[0x10, 0x30, 0]).is_ok(), "what is sound is read");
}

/// Keeps other tests from the heap while one measures it.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a session holds.
fn heap_bytes<T>(session: impl Fn() -> T) -> usize {
    drop(session());
    let before = HEAP.current_usage();
    let sessions: Vec<T> = (0..100).map(|_| session()).collect();
    (HEAP.current_usage() - before) / sessions.len()
}

/// What Chromium offers a stream's player, with a data channel for events if `wants_data`.
fn offer(wants_data: bool) -> String {
    let offer = include_str!("offer.sdp").replace('\n', "\r\n");
    match offer.split_once("m=application") {
        Some((media, _)) if !wants_data => media.replace("BUNDLE 0 1 2", "BUNDLE 0 1"),
        _ => offer,
    }
}

/// A lite agent that has answered `offer`, and who made it.
fn answered(offer: &str, with_interceptors: bool) -> (Box<RTCPeerConnection>, Client) {
    let mut media = MediaEngine::default();
    for (kind, codec, payload_type) in [(RtpCodecKind::Video, h264(), 102), (RtpCodecKind::Audio, opus(), 111)] {
        let codec = RTCRtpCodecParameters { rtp_codec: codec, payload_type, ..Default::default() };
        media.register_codec(codec, kind).unwrap();
    }
    let mut interceptors = Registry::new();
    if with_interceptors {
        interceptors = register_default_interceptors(interceptors, &mut media).unwrap();
    }
    let settings = SettingEngineBuilder::new().with_lite(true).with_answering_dtls_role(RTCDtlsRole::Server);
    let now = Instant::now();
    let builder = RTCPeerConnectionBuilder::new().with_setting_engine(settings.build()).with_media_engine(media);
    let mut session = Box::new(builder.with_interceptor_registry(interceptors).build(now).unwrap());

    let (network, address) = ("udp".to_owned(), SERVER.ip().to_string());
    let base_config = CandidateConfig { network, address, port: SERVER.port(), component: 1, ..Default::default() };
    let candidate = CandidateHostConfig { base_config, ..Default::default() }.new_candidate_host().unwrap();
    session.add_local_candidate(RTCIceCandidate::from(&candidate).to_json().unwrap()).unwrap();
    session.set_remote_description(now, RTCSessionDescription::offer(offer.to_owned()).unwrap()).unwrap();
    session.add_track(track(RtpCodecKind::Video, h264(), 1)).unwrap();
    session.add_track(track(RtpCodecKind::Audio, opus(), 2)).unwrap();
    let answer = session.create_answer(None).unwrap();
    session.set_local_description(now, answer.clone()).unwrap();
    while session.poll_event().is_some() {}
    assert!(session.poll_write().is_none());
    assert!(answer.sdp.contains("a=ice-lite") && answer.sdp.matches("a=sendonly").count() == 2, "{}", answer.sdp);
    (session, Client::new(offer, &answer.sdp))
}

fn h264() -> RTCRtpCodec {
    let (mime_type, sdp_fmtp_line) = (MIME_TYPE_H264.to_owned(), H264.to_owned());
    RTCRtpCodec { mime_type, clock_rate: 90_000, sdp_fmtp_line, ..Default::default() }
}

fn opus() -> RTCRtpCodec {
    RTCRtpCodec { mime_type: MIME_TYPE_OPUS.to_owned(), clock_rate: 48_000, channels: 2, ..Default::default() }
}

fn track(kind: RtpCodecKind, codec: RTCRtpCodec, ssrc: u32) -> MediaStreamTrack {
    let rtp_coding_parameters = RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() };
    let encoding = RTCRtpEncodingParameters { rtp_coding_parameters, codec, ..Default::default() };
    MediaStreamTrack::new("stream".to_owned(), format!("track {ssrc}"), "label".to_owned(), kind, vec![encoding])
}

/// What a session sends when the client's datagram comes.
fn tell(session: &mut RTCPeerConnection, now: Instant, datagram: &[u8]) -> Vec<Message> {
    let transport = TransportContext { local_addr: SERVER, peer_addr: CLIENT, ..Default::default() };
    // An error is what drops a datagram.
    let _ = session.handle_read(TransportMessage { now, transport, message: datagram.into() });
    session.handle_timeout(now).unwrap();
    let sent = iter::from_fn(|| session.poll_write());
    sent.map(|datagram| {
        let mut message = Message::new();
        message.unmarshal_binary(&datagram.message).unwrap();
        message
    })
    .collect()
}

/// What a client knows that checks a session.
struct Client {
    username: String,
    pwd: String,
}

impl Client {
    fn new(offer: &str, answer: &str) -> Self {
        let [caller, server] = [offer, answer].map(|sdp| sdp_value(sdp, "a=ice-ufrag:"));
        Self { username: format!("{server}:{caller}"), pwd: sdp_value(answer, "a=ice-pwd:").to_owned() }
    }

    fn check(&self, nominates: bool) -> Vec<u8> {
        let provider = default_provider().unwrap();
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(self.pwd.clone(), provider.crypto());
        let username = Username::new(ATTR_USERNAME, self.username.clone());
        let mut attributes: Vec<Box<dyn Setter + '_>> =
            vec![Box::new(username), Box::new(AttrControlling(1)), Box::new(PriorityAttr(1))];
        if nominates {
            attributes.push(Box::<UseCandidateAttr>::default());
        }
        attributes.push(Box::new(integrity));
        request(attributes)
    }
}

fn sdp_value<'a>(sdp: &'a str, name: &str) -> &'a str {
    sdp.lines().find_map(|line| line.strip_prefix(name)).unwrap()
}

/// A stranger's claim to be the controlled one, too (RFC 8445 §7.3.1.1).
fn forged_conflict() -> Vec<u8> {
    let username = Username::new(ATTR_USERNAME, "nobody:none".to_owned());
    request(vec![Box::new(username), Box::new(AttrControlled(u64::MAX)), Box::new(PriorityAttr(1))])
}

fn request(mut attributes: Vec<Box<dyn Setter + '_>>) -> Vec<u8> {
    attributes.splice(..0, [Box::new(BINDING_REQUEST) as Box<dyn Setter>, Box::new(TransactionId::new())]);
    attributes.push(Box::new(FINGERPRINT));
    let mut message = Message::new();
    message.build(&attributes).unwrap();
    message.raw
}

fn kinds(messages: &[Message]) -> Vec<MessageType> {
    messages.iter().map(|message| message.typ).collect()
}
