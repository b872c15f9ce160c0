//! RTMP: handshake, chunks, messages, AMF0, and the sessions on top. The media inside is [`super::flv::tag`]'s.
//!
//! Read in this order; each layer knows only those before it.

pub mod amf0;
pub mod handshake;

pub mod chunk;
pub mod message;

mod connection;

pub mod client;
pub mod server;

mod error;
mod query;

pub use self::{
    client::{ClientConfig, ClientEvent, ClientMode, ClientSession},
    connection::encode_media,
    error::SessionError,
    query::Query,
    server::{ConnectInfo, ServerEvent, ServerSession, StreamRequest},
};

/// The message stream of every session: one connection publishes or plays one stream, so every
/// `createStream` gives this id, and one encoding of a message fits all viewers.
pub const STREAM_ID: u32 = 1;
