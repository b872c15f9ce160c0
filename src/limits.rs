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

// --- Hub --------------------------------------------------------------------------------------------

/// Entries in one ring, whatever their size; the oldest group goes first.
pub const RING_ENTRIES_MAX: usize = 32 * 1024;
/// Events kept for readers that skipped over them; a reader further behind is disconnected.
pub const RING_EVENTS_MAX: usize = 1024;
/// Streams on one node, waiting ones included; more are refused.
pub const STREAMS_MAX: usize = 20_000;
/// Events of one stream that wait for their frame; more are refused with 429.
pub const EVENTS_PENDING_MAX: usize = 1024;
/// Event ids remembered for idempotency, a stream; the oldest is forgotten first.
pub const EVENT_IDS_MAX: usize = 4096;
/// How long an event for "now" waits for a frame; then it is refused, and nothing was accepted.
pub const EVENT_FRAME_WAIT: Duration = Duration::from_secs(2);

// --- HTTP -------------------------------------------------------------------------------------------

/// Connections of one listener; further ones are closed at once.
pub const HTTP_CONNECTIONS_MAX: usize = 16_000;
/// Time for a request's headers; then the connection is closed.
pub const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Read buffer, so also the headers' bound, and write buffer of one connection.
pub const HTTP_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Body of an API request; a larger one gets 413.
pub const HTTP_BODY_BYTES_MAX: usize = 64 * 1024;
/// Time for the body of an API request.
pub const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(10);

// --- TCP, before a peer has shown who it is ---------------------------------------------------------

/// Connections of one listener that are not yet authorised; further ones are closed at once.
pub const PENDING_CONNECTIONS_MAX: usize = 1024;
/// The same from one address.
pub const PENDING_CONNECTIONS_PER_ADDRESS_MAX: usize = 64;

// --- Viewers ----------------------------------------------------------------------------------------

/// A viewer whose socket took not one byte for this long is dropped.
pub const VIEWER_STALL_TIMEOUT: Duration = Duration::from_secs(10);

// --- Failed authentication --------------------------------------------------------------------------

/// Failures an address may have within [`AUTH_FAILURES_WINDOW`]; then it is refused unheard.
pub const AUTH_FAILURES_MAX: u32 = 10;
/// The window of [`AUTH_FAILURES_MAX`].
pub const AUTH_FAILURES_WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose failures are remembered; beyond it the oldest is forgotten.
pub const AUTH_FAILURE_ADDRESSES_MAX: usize = 4096;
/// Values in one AMF0 message of an authorised publisher: an `onMetaData` copied from a file may list its keyframes.
pub const AMF0_AUTHORISED_VALUES_MAX: usize = 16 * 1024;
/// Longest AMF0 string of an authorised publisher.
pub const AMF0_AUTHORISED_STRING_BYTES_MAX: usize = 64 * 1024;

// --- Publisher metadata -----------------------------------------------------------------------------

/// Entries of `onMetaData` that are kept; the rest is dropped.
pub const METADATA_ENTRIES_MAX: usize = 64;
/// Longest key or string of an `onMetaData` entry; a longer entry is dropped.
pub const METADATA_STRING_BYTES_MAX: usize = 1024;
