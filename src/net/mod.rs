//! Sockets, HTTP serving and the guards in front of them. Knows no protocol of ours and no stream.

pub mod access;
pub mod descriptors;
pub mod guard;
pub mod host;
pub mod http;
pub mod outbound;
pub mod pending;
pub mod stall;
pub mod stream;
pub mod tcp;
pub mod tls;
pub mod udp;
