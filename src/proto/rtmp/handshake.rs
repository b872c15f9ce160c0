//! The simple handshake (RTMP 1.0 §5.2), both sides, in any split of the bytes.
//!
//! The digest form is not needed: a peer that offers it falls back when the answer carries version 0.

use bytes::{BufMut, Bytes, BytesMut};
use rand::RngCore;

/// Runs until the peer's second packet has come; holds at most one packet.
#[derive(Debug)]
pub struct Handshake {
    role: Role,
    state: State,
    packet: Vec<u8>,
    output: Option<Bytes>,
}

/// Why a handshake failed. Always the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not RTMP, or RTMPE.
    #[error("RTMP version {0} is not supported, only 3")]
    Version(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// C0 and C1, or S0 and S1.
    Hello,
    /// C2 or S2. Its content isn't checked: many peers don't echo what they should.
    Echo,
    Done,
}

impl Handshake {
    /// The client's side: C0 and C1 are ready to send at once.
    pub fn client() -> Self {
        Self { output: Some(hello().freeze()), ..Self::new(Role::Client) }
    }

    /// The server's side: silent until C0 and C1 have come.
    pub fn server() -> Self {
        Self::new(Role::Server)
    }

    fn new(role: Role) -> Self {
        Self { role, state: State::Hello, packet: Vec::new(), output: None }
    }

    /// Takes what belongs to the handshake from the front of `input`; true once it is complete.
    pub fn handle_bytes(&mut self, input: &mut &[u8]) -> Result<bool, HandshakeError> {
        loop {
            let wanted = match self.state {
                State::Hello => 1 + PACKET_BYTES,
                State::Echo => PACKET_BYTES,
                State::Done => return Ok(true),
            };
            let missing = (wanted - self.packet.len()).min(input.len());
            let (taken, rest) = input.split_at_checked(missing).unwrap_or_default();
            self.packet.extend_from_slice(taken);
            *input = rest;
            if self.state == State::Hello
                && let Some(&version) = self.packet.first()
                && version != VERSION
            {
                return Err(HandshakeError::Version(version));
            }
            if self.packet.len() < wanted {
                return Ok(false);
            }
            self.finish_packet();
        }
    }

    /// The bytes to send now.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        self.output.take()
    }

    fn finish_packet(&mut self) {
        let packet = std::mem::take(&mut self.packet);
        if self.state == State::Echo {
            self.state = State::Done;
            return;
        }
        let mut answer = match self.role {
            Role::Server => hello(),
            Role::Client => BytesMut::new(),
        };
        // C2 and S2 are the peer's own packet, sent back (§5.2.4).
        answer.put_slice(packet.get(1..).unwrap_or_default());
        self.output = Some(answer.freeze());
        self.state = State::Echo;
    }
}

/// C0 and C1, or S0 and S1: version, zero time, the four zero bytes that mean "simple", random bytes.
fn hello() -> BytesMut {
    let mut hello = BytesMut::zeroed(1 + PACKET_BYTES);
    rand::rng().fill_bytes(hello.get_mut(9..).unwrap_or_default());
    if let Some(version) = hello.first_mut() {
        *version = VERSION;
    }
    hello
}

const VERSION: u8 = 3;
const PACKET_BYTES: usize = 1536;

/// Fuzz entry: a server's handshake with its input in two halves.
pub mod fuzz {
    use super::Handshake;

    /// The first byte says where `data` is split.
    pub fn rtmp_handshake(data: &[u8]) {
        let Some((&split, data)) = data.split_first() else { return };
        let (mut first, mut second) = data.split_at_checked(usize::from(split) * 16).unwrap_or((data, &[]));
        let mut server = Handshake::server();
        if server.handle_bytes(&mut first).is_ok() {
            let _ = server.handle_bytes(&mut second);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Carries everything `from` has to say to `to`, `split` bytes at a time; what `to` leaves is returned.
    fn carry(from: &mut Handshake, to: &mut Handshake, split: usize, after: &[u8]) -> Vec<u8> {
        let mut left = Vec::new();
        let bytes = [from.poll_output().unwrap_or_default().as_ref(), after].concat();
        for mut part in bytes.chunks(split) {
            to.handle_bytes(&mut part).expect("own handshake");
            left.extend_from_slice(part);
        }
        left
    }

    proptest! {
        #[test]
        fn both_sides_finish_over_any_split(split in 1usize..4000) {
            let (mut client, mut server) = (Handshake::client(), Handshake::server());
            prop_assert!(server.poll_output().is_none());
            carry(&mut client, &mut server, split, b"");
            carry(&mut server, &mut client, split, b"");
            let left = carry(&mut client, &mut server, split, b"first chunk");
            prop_assert_eq!(left, b"first chunk");
            prop_assert!(client.handle_bytes(&mut &b""[..]).expect("done"));
            prop_assert!(server.handle_bytes(&mut &b""[..]).expect("done"));
        }
    }

    #[test]
    fn a_server_answers_only_a_whole_hello_and_echoes_it() {
        let mut server = Handshake::server();
        let c1: Vec<u8> = (0..=255).cycle().take(PACKET_BYTES).collect();
        assert_eq!(server.handle_bytes(&mut &[&[VERSION], &c1[..PACKET_BYTES - 1]].concat()[..]), Ok(false));
        assert_eq!(server.poll_output(), None);
        assert_eq!(server.handle_bytes(&mut &c1[PACKET_BYTES - 1..]), Ok(false));
        let answer = server.poll_output().expect("S0, S1 and S2");
        assert_eq!((answer.len(), answer[0], &answer[5..9]), (1 + 2 * 1536, 3, &[0; 4][..]));
        assert_eq!(answer[1 + PACKET_BYTES..], c1);
    }

    #[test]
    fn other_protocols_are_refused_at_the_first_byte() {
        assert_eq!(Handshake::server().handle_bytes(&mut &b"GET / HTTP/1.1"[..]), Err(HandshakeError::Version(b'G')));
        assert_eq!(Handshake::server().handle_bytes(&mut &[6][..]), Err(HandshakeError::Version(6)));
    }
}
