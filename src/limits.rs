//! Every bound on what a peer can make us hold, in one place.
//!
//! Each constant says what it bounds and what happens at it. `hawker_refused_total{reason}` counts the refusals.

use std::time::Duration;

// --- RTMP, before publish or play is accepted -------------------------------------------------------

/// Time from accept to an accepted `publish` or `play`; then the connection is closed.
pub const RTMP_SETUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Chunk streams a peer may use before it is authorised; the next one closes the session.
pub const RTMP_SETUP_CHUNK_STREAMS_MAX: usize = 16;
/// Longest message before authorisation; a longer one closes the session.
pub const RTMP_SETUP_MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of partly received messages, all chunk streams together, before authorisation.
pub const RTMP_SETUP_ASSEMBLY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of replies queued to a peer that doesn't read them; more closes the session.
pub const RTMP_SETUP_OUT_BYTES_MAX: usize = 16 * 1024;

// --- RTMP, an authorised publisher ------------------------------------------------------------------

/// Chunk streams of an authorised publisher.
pub const RTMP_CHUNK_STREAMS_MAX: usize = 32;
/// Longest message of an authorised publisher: the largest coded frame.
pub const RTMP_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of partly received messages of an authorised publisher.
pub const RTMP_ASSEMBLY_BYTES_MAX: usize = 8 * 1024 * 1024;

// --- AMF0 -------------------------------------------------------------------------------------------

/// Deepest nesting of AMF0 objects and arrays.
pub const AMF0_DEPTH_MAX: usize = 16;
/// Values in one AMF0 message, nested ones included.
pub const AMF0_VALUES_MAX: usize = 256;
/// Longest AMF0 string or key.
pub const AMF0_STRING_BYTES_MAX: usize = 4 * 1024;
