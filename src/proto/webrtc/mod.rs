//! A WebRTC session's transport, without sockets: connectivity checks, DTLS, SRTP and data channels joined.
//!
//! DTLS and SCTP are libraries; the rest is in the modules beside this one. What a session may not do before its
//! peer has shown who he is, [`Peer`] holds: nothing but connectivity checks is looked at from an address that has
//! not passed one, and no media before the certificate is the one that the SDP named.

mod agent;
mod channels;
pub mod fuzz;
mod identity;
mod outbox;
mod peer;
#[cfg(test)]
mod tests;

pub use agent::Ice;
pub use identity::Identity;
pub use outbox::Outbox;
pub use peer::{Channels, Datagram, Media, Over, Peer, PeerEvent};
