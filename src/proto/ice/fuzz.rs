//! Entry point of the fuzz target: any datagram, no panic, and no stranger's is answered.

use core::net::SocketAddr;

use super::{
    Credentials, Lite, Path, Transport,
    framing::Frames,
    stun::{self, Message, is_stun, request_ufrag},
};

/// A STUN message as it is and signed rightly, and a byte stream of such.
#[allow(clippy::disallowed_methods, reason = "any origin will do")]
pub fn stun(bytes: &[u8]) {
    let credentials = |name: &str| Credentials { ufrag: name.to_owned(), pwd: "password0password0password".to_owned() };
    let address = SocketAddr::from(([192, 0, 2, 1], 1));
    let path = Path { remote: address, local: address, transport: Transport::Udp };
    let mut lite = Lite::new(&credentials("ours"), &credentials("theirs"));
    if let Ok(message) = Message::parse(bytes) {
        assert!(is_stun(bytes), "read, but not what it is");
        let _ = message.verify_fingerprint();
        let is_authentic = message.verify_integrity(&stun::integrity_key("password0password0password")).is_ok();
        let answered = lite.handle(std::time::Instant::now(), path, bytes).is_ok();
        assert!(!answered || is_authentic && request_ufrag(bytes) == Some("ours"), "an answer to a stranger");
    }
    let (mut whole, mut split) = (Vec::new(), Vec::new());
    let (mut at_once, mut in_pieces) = (Frames::default(), Frames::default());
    let is_whole = at_once.read(bytes, |packet| whole.push(packet.to_vec()));
    let is_split = bytes.chunks(3).try_for_each(|piece| in_pieces.read(piece, |packet| split.push(packet.to_vec())));
    assert_eq!((whole, is_whole), (split, is_split), "the cuts of a byte stream matter");
}
