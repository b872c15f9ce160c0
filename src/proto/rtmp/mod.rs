//! RTMP: handshake, chunks, messages, AMF0, Enhanced RTMP, and the sessions on top.

pub mod amf0;
