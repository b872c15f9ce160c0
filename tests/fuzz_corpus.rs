//! Replays the fuzz corpus, so that what a fuzzer once found stays found without a fuzzer.

use std::{fs, path::Path};

use hawker::{
    media,
    proto::{flv, ice, moq, rtmp, rtp, sdp, webrtc},
};

/// Runs `target` on every file of its corpus; there must be some.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files: Vec<_> = fs::read_dir(&folder).expect("a corpus folder").map(|entry| entry.expect("entry")).collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        target(&fs::read(file.path()).expect("a readable seed"));
    }
}

#[test]
fn rtmp_handshake() {
    replay("rtmp_handshake", rtmp::handshake::fuzz::rtmp_handshake);
}

#[test]
fn rtmp_chunk() {
    replay("rtmp_chunk", rtmp::chunk::fuzz::rtmp_chunk);
}

#[test]
fn rtmp_session() {
    replay("rtmp_session", rtmp::server::fuzz::rtmp_session);
}

#[test]
fn amf0() {
    replay("amf0", rtmp::amf0::fuzz::amf0);
}

#[test]
fn flv() {
    replay("flv", flv::reader::fuzz::flv);
}

#[test]
fn moq_control() {
    replay("moq_control", moq::fuzz::control);
}

#[test]
fn moq_data() {
    replay("moq_data", moq::fuzz::data);
}

#[test]
fn moq_catalog() {
    replay("moq_catalog", moq::fuzz::catalog);
}

#[test]
fn event() {
    replay("event", media::fuzz::event);
}

#[test]
fn room() {
    replay("room", media::fuzz::room);
}

#[test]
fn session_descriptions() {
    replay("sdp", sdp::fuzz::sdp);
}

#[test]
fn webrtc_input() {
    replay("webrtc_input", webrtc::fuzz::input);
}

#[test]
fn webrtc_sctp() {
    replay("webrtc_sctp", webrtc::fuzz::sctp);
}

#[test]
fn rtp_payload() {
    replay("rtp_payload", rtp::fuzz::payload);
}

#[test]
fn rtcp() {
    replay("rtcp", rtp::fuzz::rtcp);
}

#[test]
fn stun() {
    replay("stun", ice::fuzz::stun);
}
