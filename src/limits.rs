//! Every bound on what a peer can make us hold, in one place.
//!
//! Each constant says what it bounds and what happens at it. `hawker_refused_total{reason}` counts the refusals.

use std::time::Duration;

// --- TCP, before a peer has shown who it is ---------------------------------------------------------

/// RTMP and ICE connections of a node that are not yet authorised; the next one takes the place of that which has been
/// silent for longest, or is closed.
pub const PENDING_CONNECTIONS_MAX: usize = 1024;
/// The same from one address.
pub const PENDING_CONNECTIONS_PER_ADDRESS_MAX: usize = 64;

// --- TCP, whoever it is -----------------------------------------------------------------------------

/// Bytes of a connection that the kernel takes before it can send them; what is more waits in the ring. A viewer who
/// falls behind has little of the past between him and the newest keyframe, and a link of a gigabit is not slowed.
pub const TCP_UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// What was sent and is not acknowledged for this long ends the connection: its peer is gone without a word. It is
/// longer than [`VIEWER_STALL_TIMEOUT`], which says more in the log, and lets two lost keepalives pass.
pub const TCP_UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(14);
/// A connection on which nothing comes is probed after this long, …
pub const TCP_KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// … this often, …
pub const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// … so many times; then it is gone.
pub const TCP_KEEPALIVE_PROBES: u32 = 3;
/// Descriptors that TCP connections leave to everything else: the journal, upstreams, hooks, operators.
pub const DESCRIPTORS_RESERVED: usize = 48;
/// Connections of the operators' listener out of [`DESCRIPTORS_RESERVED`], when all others are taken; further ones are
/// closed at once.
pub const ADMIN_RESERVE: usize = 24;
/// With fewer descriptors than this a node says so when it starts.
pub const DESCRIPTORS_RECOMMENDED: usize = 4096;

// --- TLS over TCP -----------------------------------------------------------------------------------

/// Time from accept to the end of the TLS handshake; then the connection is closed.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// TLS handshakes in flight on all listeners; further connections are closed at once.
pub const TLS_HANDSHAKES_MAX: usize = 256;
/// The same from one address.
pub const TLS_HANDSHAKES_PER_ADDRESS_MAX: usize = 64;
/// Encrypted bytes of one connection that wait for its socket; what is more waits in the shared ring.
pub const TLS_SEND_BYTES_MAX: usize = 32 * 1024;
/// How long a peer gets to take the end of a TLS connection.
pub const TLS_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

// --- Failed authentication --------------------------------------------------------------------------

/// Failures an address may have within [`AUTH_FAILURES_WINDOW`]; then it is refused unheard.
pub const AUTH_FAILURES_MAX: u32 = 10;
/// The window of [`AUTH_FAILURES_MAX`].
pub const AUTH_FAILURES_WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose failures are remembered; beyond it the oldest is forgotten.
pub const AUTH_FAILURE_ADDRESSES_MAX: usize = 4096;
/// Failures at one stream or signing key, from wherever, within [`AUTH_FAILURES_WINDOW`]; from then on an address has
/// one try instead of [`AUTH_FAILURES_MAX`]. Whoever has not failed is heard: nobody can lock out those who have the key.
pub const AUTH_KEY_FAILURES_MAX: u32 = 30;
/// A refused key or token is answered after at least this long …
pub const AUTH_FAILURE_DELAY_MIN: Duration = Duration::from_millis(500);
/// … and at most this long.
pub const AUTH_FAILURE_DELAY_MAX: Duration = Duration::from_millis(2000);
/// Refusals that wait for their answer; further ones are answered at once, so that guessing holds no more.
pub const AUTH_DELAYED_MAX: usize = 1024;
/// The same from one address: more than it has tries.
pub const AUTH_DELAYED_PER_ADDRESS_MAX: usize = 16;

// --- Keys and tokens --------------------------------------------------------------------------------

/// Keys and tokens that the API keeps; more are refused with 507.
pub const AUTH_KEYS_MAX: usize = 10_000;
/// Revoked JWTs and their owners that the API remembers; more are refused with 507.
pub const AUTH_REVOCATIONS_MAX: usize = 10_000;
/// Longest note on a key; a longer one is refused.
pub const AUTH_NOTE_BYTES_MAX: usize = 256;
/// Longest JWT; a longer one is refused unread. It travels in an RTMP query, which is no longer.
pub const AUTH_JWT_BYTES_MAX: usize = 4 * 1024;
/// Longest `sub` or `jti` of a JWT, which its session remembers; a longer one is refused.
pub const AUTH_CLAIM_BYTES_MAX: usize = 256;
/// Longest `kid` of a JWT or a signed URL; a longer one is refused.
pub const AUTH_KID_BYTES_MAX: usize = 64;
/// JWTs that are remembered as rightly signed, so that a session's next question costs no signature; at more all are
/// forgotten.
pub const AUTH_VERIFIED_MAX: usize = 4096;
/// Body of a request about keys; a larger one gets 413.
pub const AUTH_BODY_BYTES_MAX: usize = 4 * 1024;

// --- RTMP, before publish or play is accepted -------------------------------------------------------

/// Time from accept to the first byte; then the connection is closed.
pub const RTMP_FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time from there to an accepted `publish` or `play`; then the connection is closed.
pub const RTMP_SETUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Chunk streams a peer may use before it is authorised; the next one closes the session.
pub const RTMP_SETUP_CHUNK_STREAMS_MAX: usize = 16;
/// Longest message before authorisation; a longer one closes the session.
pub const RTMP_SETUP_MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of partly received messages, all chunk streams together, before authorisation.
pub const RTMP_SETUP_ASSEMBLY_BYTES_MAX: usize = 64 * 1024;
/// Bytes received in all before authorisation, the handshake aside; more closes the session. It also bounds the
/// work that a stranger can cause.
pub const RTMP_SETUP_BYTES_MAX: u32 = 64 * 1024;
/// Bytes of replies queued to a peer that doesn't read them; more closes the session.
pub const RTMP_SETUP_OUT_BYTES_MAX: usize = 16 * 1024;

// --- RTMP, an authorised publisher ------------------------------------------------------------------

/// Chunk streams of an authorised publisher.
pub const RTMP_CHUNK_STREAMS_MAX: usize = 32;
/// Longest message of an authorised publisher: the largest coded frame.
pub const RTMP_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of partly received messages of an authorised publisher.
pub const RTMP_ASSEMBLY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Time from an accepted publisher to his first frame or packet of media; then he is closed.
pub const FIRST_MEDIA_TIMEOUT: Duration = Duration::from_secs(10);
/// A publisher that sends nothing for this long is taken for gone; viewers stay for the reconnect window.
pub const RTMP_PUBLISHER_SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long a peer gets to read our last words.
pub const RTMP_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

// --- RTMP, whoever it is ----------------------------------------------------------------------------

/// Average bytes a chunk, or a part of an aggregate, must have; a session below it, after the allowance, is closed.
/// The smallest honest traffic is silence: a one-byte header and a frame of seven.
pub const RTMP_CHUNK_BYTES_MIN: u64 = 8;
/// The same of a publisher. Beside it he may send [`RTMP_PUBLISHER_CHUNKS_PER_S`], so that silence stays honest.
pub const RTMP_PUBLISHER_CHUNK_BYTES_MIN: u64 = 128;
/// Chunks a second of any size that a publisher may send in the long run: ten times what sound and picture need.
pub const RTMP_PUBLISHER_CHUNKS_PER_S: u64 = 1000;
/// Allowance of chunks of any size, so that a `connect` cut into single bytes is read.
pub const RTMP_TINY_CHUNKS_MAX: u64 = 4096;
/// Longest app, stream name, or tcUrl without its query; a longer one closes the session.
pub const RTMP_NAME_BYTES_MAX: usize = 256;
/// Longest query of name, app and tcUrl together: room for a token; a longer one closes the session.
pub const RTMP_QUERY_BYTES_MAX: usize = 4 * 1024;

// --- AMF0 -------------------------------------------------------------------------------------------

/// Deepest nesting of AMF0 objects and arrays.
pub const AMF0_DEPTH_MAX: usize = 16;
/// Values in one AMF0 message, nested ones included.
pub const AMF0_VALUES_MAX: usize = 256;
/// Average bytes a value must have beyond the first [`AMF0_VALUES_MAX`] of a message: a number has nine, and what
/// belongs to it has a name.
pub const AMF0_VALUE_BYTES_MIN: usize = 8;
/// Longest AMF0 string or key.
pub const AMF0_STRING_BYTES_MAX: usize = 4 * 1024;
/// Values in one AMF0 message of an authorised publisher: an `onMetaData` copied from a file may list its keyframes.
pub const AMF0_AUTHORISED_VALUES_MAX: usize = 16 * 1024;
/// Longest AMF0 string of an authorised publisher.
pub const AMF0_AUTHORISED_STRING_BYTES_MAX: usize = 64 * 1024;

// --- Publisher metadata -----------------------------------------------------------------------------

/// Entries of `onMetaData` that are kept; the rest is dropped.
pub const METADATA_ENTRIES_MAX: usize = 64;
/// Longest key or string of an `onMetaData` entry; a longer entry is dropped.
pub const METADATA_STRING_BYTES_MAX: usize = 1024;

// --- SEI messages in a publisher's pictures ---------------------------------------------------------

/// NAL units of one frame that are looked at; messages behind them are not seen. 8K HEVC has some hundred slices.
pub const SEI_NAL_UNITS_MAX: usize = 512;
/// Longest SEI NAL unit that is read: an event at its hard bound, twice; a longer one is left unread.
pub const SEI_NAL_BYTES_MAX: usize = 8 * 1024;
/// User data messages of one frame that are read; more are left unread. OBS sends three with a keyframe.
pub const SEI_MESSAGES_MAX: usize = 8;

// --- Events inside a publisher's stream ----------------------------------------------------------------

/// Events of one publisher that wait for the hub; more are refused.
pub const IN_BAND_EVENTS_PENDING_MAX: usize = 64;
/// An in-band event may ask for a frame this far ahead; one that asks for more came from another timeline, and
/// fires at once.
pub const IN_BAND_AHEAD_MAX: Duration = Duration::from_secs(60);

// --- Hub --------------------------------------------------------------------------------------------

/// Entries in one ring, whatever their size; the oldest group goes first.
pub const RING_ENTRIES_MAX: usize = 32 * 1024;
/// Events kept for readers that skipped over them; a reader further behind is disconnected.
pub const RING_EVENTS_MAX: usize = 1024;
/// The same in bytes: an encoder's data messages are kept like events, and may be as long as a frame.
pub const RING_EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Publishers of one stream, on air and standing by; more are refused, unless one of them is silent.
pub const PUBLISHERS_PER_STREAM_MAX: usize = 4;
/// A publisher without a frame for this long is not taken for alive: the next publisher gets the stream, which is
/// `interrupted` …
pub const PUBLISHER_SILENT_AFTER: Duration = Duration::from_millis(4500);
/// … within this time.
pub const PUBLISHER_SILENCE_TICK: Duration = Duration::from_millis(500);
/// A publisher of higher priority who comes back to a stream with a standby goes on air after so long without a gap.
pub const PUBLISHER_RETURN_HOLD: Duration = Duration::from_secs(2);
/// Pictures without a keyframe for this long are reported: nobody can join.
pub const KEYFRAME_MISSING_AFTER: Duration = Duration::from_secs(10);
/// What happened to streams and was not read yet, of one reader; the oldest is dropped.
pub const HUB_NOTICES_MAX: usize = 1024;
/// Viewers of one node who wait for a publisher; further ones are refused at once.
pub const VIEWERS_WAITING_MAX: usize = 8192;
/// The same from one address.
pub const VIEWERS_WAITING_PER_ADDRESS_MAX: usize = 1024;
/// Streams on one node, waiting ones included; more are refused. Viewers may only fill half of it.
pub const STREAMS_MAX: usize = 20_000;
/// Events of one stream that wait for their frame; more are refused with 429.
pub const EVENTS_PENDING_MAX: usize = 1024;
/// Keys whose events a node believes; a set with more is refused.
pub const EVENT_KEYS_MAX: usize = 64;
/// Longest set of keys that is fetched; a longer one is refused.
pub const EVENT_KEYS_BYTES_MAX: usize = 64 * 1024;
/// Longest `kid`; a key with a longer one is refused.
pub const EVENT_KID_BYTES_MAX: usize = 64;
/// Keys that may be set in a room at once; another one is refused with 422.
pub const ROOM_KEYS_MAX: usize = 64;
/// Events that a room keeps for joiners: keys, announced ones and running ones; the oldest go first.
pub const ROOM_EVENTS_MAX: usize = 512;
/// Deleted keys, and dropped ids, that a room remembers so that late copies don't bring them back.
pub const ROOM_MARKS_MAX: usize = 64;
/// Rooms with events that an origin knows at once, live or not; events for more are refused.
pub const ROOMS_MAX: usize = 20_000;
/// Farthest that an event may be scheduled ahead.
pub const EVENT_AHEAD_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

// --- Event journal ----------------------------------------------------------------------------------

/// Callers whose writes wait for the journal; further ones wait to be let in. It is also what one commit takes.
pub const JOURNAL_QUEUE_MAX: usize = 1024;
/// What entered the line less than this before a crash enters it again after it: edges, who may not have got it,
/// know what they have.
pub const JOURNAL_SETTLE_DELAY: Duration = Duration::from_secs(1);
/// After a failed write everything is refused for this long; then the file is opened again.
pub const JOURNAL_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Room beyond the journal's bound for cancels and reserved seqs alone: a full one lets accepted events be taken back.
pub const JOURNAL_VITAL_BYTES: u64 = 1024 * 1024;
/// Newest records of a source that a room is restored from; older ones only if they are pending
/// or a key's newest write.
pub const JOURNAL_LOAD_MAX: usize = 4096;
/// Records that one commit of a sweep drops, so that no event waits long behind it.
pub const JOURNAL_SWEEP_MAX: usize = 1024;
/// Memory for the journal's pages.
pub const JOURNAL_CACHE_BYTES: usize = 16 * 1024 * 1024;

// --- HTTP -------------------------------------------------------------------------------------------

/// Connections of one listener; the next one takes the place of that which has been without a request for longest, or
/// is closed. There is no bound by address: a room's viewers come in one rush, from behind one carrier's address.
pub const HTTP_CONNECTIONS_MAX: usize = 16_000;
/// Time for the first byte, and for a request's headers; then the connection is closed.
pub const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// When the listener closes, a connection that has asked for nothing yet may still do so for this long.
pub const HTTP_LAST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Read buffer, so also the headers' bound, and write buffer of one connection.
pub const HTTP_BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Body of an API request; a larger one gets 413.
pub const HTTP_BODY_BYTES_MAX: usize = 64 * 1024;
/// Time for the body of an API request.
pub const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Events in one request; more get 413.
pub const EVENT_BATCH_MAX: usize = 100;
/// Events in one page of the log.
pub const EVENT_LOG_PAGE_MAX: usize = 1000;
/// Event streams (SSE) of one listener; further ones get 429.
pub const EVENT_STREAMS_MAX: usize = 256;
/// The same from one address.
pub const EVENT_STREAMS_PER_ADDRESS_MAX: usize = 32;
/// Events that an event stream takes from the log at once.
pub const EVENT_STREAM_CHUNK_MAX: usize = 64;
/// An event stream without events says that it lives.
pub const EVENT_STREAM_HEARTBEAT: Duration = Duration::from_secs(15);

// --- Rundown ----------------------------------------------------------------------------------------

/// Body of a rundown, JSON or CSV; a larger one gets 413.
pub const RUNDOWN_BYTES_MAX: usize = 256 * 1024;
/// Items of a rundown; more are refused with 422.
pub const RUNDOWN_ITEMS_MAX: usize = 500;
/// Longest planned time of an item: a day.
pub const RUNDOWN_ITEM_MS_MAX: u32 = 24 * 3600 * 1000;
/// Idempotency keys of advances that a rundown remembers; the oldest is forgotten first.
pub const RUNDOWN_KEYS_MAX: usize = 16;

// --- MoQ --------------------------------------------------------------------------------------------

/// Longest control message or SETUP; a longer one ends the session.
pub const MOQ_MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Parameters in a SETUP; more ends the session.
pub const MOQ_PARAMETERS_MAX: usize = 64;
/// Longest hop chain of an announcement; a longer one ends the session.
pub const MOQ_HOPS_MAX: usize = 32;
/// Longest frame of a group: the largest coded frame and its head. Only upstreams may send frames.
pub const MOQ_FRAME_BYTES_MAX: usize = RTMP_MESSAGE_BYTES_MAX + 64;
/// Longest catalog we read from a publisher.
pub const MOQ_CATALOG_BYTES_MAX: usize = 256 * 1024;
/// Longest codec configuration in the line track.
pub const MOQ_DESCRIPTION_BYTES_MAX: usize = 64 * 1024;
/// Publisher metadata values in the line track; more are left behind.
pub const MOQ_METADATA_MAX: usize = 64;
/// Longest publisher metadata key or string in the line track; a longer value is left behind.
pub const MOQ_METADATA_STRING_BYTES_MAX: usize = 4 * 1024;
/// Events that a group of the line repeats for readers that were away; older ones are left out.
pub const MOQ_EVENTS_RECENT_MAX: usize = 512;
/// The same in bytes.
pub const MOQ_EVENTS_RECENT_BYTES_MAX: usize = 256 * 1024;
/// Records, or patches, after which a group of `events` or `state` is rolled. It is also what `events` tells of what
/// came before a stream's first picture; what is older is told as the room's state.
pub const MOQ_EVENTS_GROUP_MAX: usize = 100;
/// Longest object of `events`; what is more goes into the next one.
pub const MOQ_EVENTS_OBJECT_BYTES_MAX: usize = 64 * 1024 - 1;
/// QUIC sessions of a node that have not set up, before further peers must prove their address (Retry).
pub const MOQ_HANDSHAKES_BEFORE_RETRY: usize = 512;
/// Sessions of a node that have not set up; further ones are refused.
pub const MOQ_PENDING_MAX: usize = 4096;
/// The same from one address.
pub const MOQ_PENDING_PER_ADDRESS_MAX: usize = 256;
/// Sessions of one listener; further ones are refused.
pub const MOQ_SESSIONS_MAX: usize = 16_000;
/// Time for the QUIC and TLS handshake.
pub const MOQ_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// Time from the handshake to the end of SETUP, and for each later request to arrive whole.
pub const MOQ_SETUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams a peer may have open before it has set up, each way.
pub const MOQ_SETUP_STREAMS_MAX: u32 = 4;
/// Streams a viewer may have open: four tracks, each with its TRACK and SUBSCRIBE, and the announcements.
pub const MOQ_VIEWER_STREAMS_MAX: u32 = 32;
/// Streams an edge may have open: two for each stream it pulls.
pub const MOQ_EDGE_STREAMS_MAX: u32 = 16 * 1024;
/// Bytes a peer may send us unread. Requests are all that peers send; what waits in the datagrams it came in takes
/// twice the room.
pub const MOQ_RECEIVE_WINDOW_BYTES: u32 = 32 * 1024;
/// Bytes in flight to a viewer: 10 Mbit/s over 200 ms. All else waits in the shared ring.
pub const MOQ_SEND_WINDOW_BYTES: u64 = 256 * 1024;
/// Bytes in flight to an edge.
pub const MOQ_EDGE_SEND_WINDOW_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes an upstream may send us unread.
pub const MOQ_UPSTREAM_RECEIVE_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Groups an upstream may send us at once.
pub const MOQ_UPSTREAM_STREAMS_MAX: u32 = 16 * 1024;
/// Time a draining session has to go elsewhere after GOAWAY; then it is closed.
pub const MOQ_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Datagrams that wait to be handed over to a shard by the others; further ones are lost. It takes some hundred
/// kilobytes, and only clients that have just changed their address need it.
pub const MOQ_STEERED_MAX: usize = 256;
/// Time to reach a server; an edge then tries its next upstream.
pub const MOQ_CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Frames of one subscription that wait for their reader; then the server is held back.
pub const MOQ_SUBSCRIPTION_QUEUE_MAX: usize = 256;
/// Groups of one track that wait for an older one; then the oldest is given up.
pub const MOQ_REORDER_GROUPS_MAX: usize = 32;
/// Audio frames of a stream that wait for its first keyframe from upstream; the oldest go first.
pub const MOQ_AUDIO_HELD_MAX: usize = 512;
/// Pictures and events of a stream that wait for the sound beside them; more, and the sound is not waited for.
pub const MOQ_LINE_HELD_MAX: usize = 2048;
/// Event ids by which an edge knows what it has already delivered, a stream.
pub const MOQ_EVENT_IDS_MAX: usize = 1024;

// --- Muxers ------------------------------------------------------------------------------------------

/// Sound waits this long for the next picture, so that both leave in one write: a picture's time at 25 a second.
pub const SOUND_WAIT_MAX: Duration = Duration::from_millis(40);

// --- Sound in another codec --------------------------------------------------------------------------

/// Longest coded frame of sound that is decoded: AAC has at most 768 bytes a channel, and an Opus packet of 120 ms
/// 61 KiB on paper and 2 KiB in use. A longer one counts as broken.
pub const TRANSCODE_FRAME_BYTES_MAX: usize = 16 * 1024;
/// Stamps further than this from where the sound before them ends are a gap, or another clock: the conversion begins
/// anew there.
pub const TRANSCODE_JUMP_MAX: Duration = Duration::from_millis(100);
/// Longest gap in Opus that is concealed instead: in silence an encoder may send a packet each 400 ms (DTX).
pub const TRANSCODE_CONCEAL_MAX: Duration = Duration::from_secs(1);
/// Panics of a codec in one stream, after which the stream is passed on without its sound.
pub const TRANSCODE_PANICS_MAX: u32 = 3;

// --- Viewers ----------------------------------------------------------------------------------------

/// A viewer who took not one byte of what waits for him for this long is dropped.
pub const VIEWER_STALL_TIMEOUT: Duration = Duration::from_secs(10);

// --- Agents of `hawker load` --------------------------------------------------------------------------

/// Connections to an agent that have not shown the token; further ones are closed at once.
pub const LOAD_STRANGERS_MAX: usize = 16;
/// Longest line they may send.
pub const LOAD_HELLO_BYTES_MAX: usize = 4 * 1024;
/// Longest line between an agent and its controller: three distributions for each of some hundred addresses.
pub const LOAD_LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

// --- Stopping ---------------------------------------------------------------------------------------

/// Sessions that are told to stop have this long to say goodbye; then they are cut off.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(4);

// --- Changes while running --------------------------------------------------------------------------

/// How often the certificate's files are looked at: a new one is shown within a second.
pub const CERTIFICATE_POLL_INTERVAL: Duration = Duration::from_millis(400);

// --- RTP --------------------------------------------------------------------------------------------

/// Packets, held and missing, of one source that wait for an older one; with more the oldest hole is given up.
/// It is 300 ms of 30 Mbit/s.
pub const RTP_REORDER_PACKETS_MAX: usize = 1024;
/// Packets that one NACK may ask for, a peer's or ours; the rest of it is left unread, or asked for by the next.
pub const RTCP_NACK_PACKETS_MAX: usize = 512;
/// Packets that one transport-wide feedback may tell of, nearly all of them lost in an outage; a longer one is refused.
/// Also the arrivals that are kept to tell of: the oldest go first.
pub const RTCP_TWCC_PACKETS_MAX: usize = 8192;

// --- SDP, WHIP and WHEP -----------------------------------------------------------------------------

/// Longest session description; a longer one is refused. Chromium's have 6 KiB.
pub const SDP_BYTES_MAX: usize = 20 * 1024;
/// Lines of a description; more are refused. Chromium's have some 200.
pub const SDP_LINES_MAX: usize = 2048;
/// Longest line: room for parameter sets in base64; a longer one is refused.
pub const SDP_LINE_BYTES_MAX: usize = 4 * 1024;
/// Longest mid, or name of a codec or a stream; a longer one is refused.
pub const SDP_TOKEN_BYTES_MAX: usize = 64;
/// Media lines of a description; more are refused.
pub const SDP_MEDIA_MAX: usize = 16;
/// Payload types of a media line; more are refused. Chromium offers 50.
pub const SDP_PAYLOAD_TYPES_MAX: usize = 64;
/// Candidates of a media line that are kept; the server needs none, its peers check towards it.
pub const SDP_CANDIDATES_MAX: usize = 32;
/// SSRCs of a media line that are kept: three layers, each with its retransmissions, need six.
pub const SDP_SSRCS_MAX: usize = 16;
/// Simulcast layers of a media line that are taken; the others stay unsent.
pub const SDP_RIDS_MAX: usize = 8;
/// Longest message that we take from a data channel, as answers say. Peers send us none that are longer than an event.
pub const DATA_CHANNEL_MESSAGE_BYTES_MAX: u32 = 64 * 1024;

// --- WebRTC -------------------------------------------------------------------------------------------

/// Time for the body of a WHIP or WHEP request; it is an SDP, [`SDP_BYTES_MAX`] long at most.
/// Time for the body of such a request.
pub const WEBRTC_BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Time from the answer to the end of the DTLS handshake; then the session is forgotten.
pub const WEBRTC_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// DTLS handshakes of a node that run at once, with publishers and with viewers counted apart; a ClientHello beyond
/// them is not heard.
pub const WEBRTC_HANDSHAKES_MAX: usize = 128;
/// Sessions of a node that are not connected, publishers and viewers counted apart; further ones get 503.
pub const WEBRTC_PENDING_MAX: usize = 1024;
/// The same from one address.
pub const WEBRTC_PENDING_PER_ADDRESS_MAX: usize = 64;
/// Sessions of a node; further ones get 503, viewers at nine tenths of it.
pub const WEBRTC_SESSIONS_MAX: usize = 16_000;
/// Datagrams that wait for one session's turn; further ones are lost. A publisher's keyframe has some hundred.
pub const WEBRTC_INBOX_MAX: usize = 1024;
/// Bytes that wait for a TCP peer's socket; further packets are lost.
pub const WEBRTC_TCP_QUEUE_BYTES_MAX: usize = 128 * 1024;
/// Time from a TCP peer's connection until a session accepts it; then it is closed.
pub const WEBRTC_TCP_ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);
/// A TCP peer that says nothing for this long is gone: checks come every few seconds.
pub const WEBRTC_TCP_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Data channels of one session; further ones are refused.
pub const CHANNELS_MAX: usize = 8;
/// SCTP streams that a peer's data channels may use: packets for further ones are dropped. Channels are even or odd
/// from 0 or 1 on, so it is more than twice [`CHANNELS_MAX`].
pub const CHANNEL_STREAMS_MAX: u16 = 32;
/// Longest name of a data channel; the rest of a longer one is not read.
pub const CHANNEL_LABEL_BYTES_MAX: usize = 64;
/// Longest message that a peer may send on a data channel.
pub const CHANNEL_MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Events that wait on a channel for the viewer's acknowledgement; further ones wait in front of it.
pub const CHANNEL_BACKLOG_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a peer's messages that wait to be whole.
pub const CHANNEL_RECEIVE_BYTES_MAX: u32 = 64 * 1024;

// --- SRTP ---------------------------------------------------------------------------------------------

/// Sources (SSRC) of one direction of a session, RTP and RTCP counted apart; packets of further ones are refused.
pub const SRTP_SOURCES_MAX: usize = 32;
/// Packets behind the newest of its source that are still opened, a multiple of 64. Retransmissions without RTX come
/// under their old number, so this is more than half a second of 10 Mbit/s.
pub const SRTP_REPLAY_WINDOW_PACKETS: u64 = 1024;

// --- ICE ----------------------------------------------------------------------------------------------

/// Paths of one session that a check made valid; a further one takes the place of that whose last check is oldest.
pub const ICE_PATHS_MAX: usize = 8;
/// A session without an authentic check for this long is gone (RFC 7675 §5.1).
pub const ICE_CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// A selected path on which no check came for this long gives way to one on which they come: who names another's
/// address sends him so much at most. Checks come every five seconds at the latest (RFC 7675 §5.1).
pub const ICE_STALE_AFTER: Duration = Duration::from_secs(8);
/// Longest STUN message that is read: what fits a datagram.
pub const STUN_MESSAGE_BYTES_MAX: usize = 1500;
/// Longest frame on a TCP path; a longer one closes the connection. Nothing in it is longer than a datagram may be.
pub const ICE_FRAME_BYTES_MAX: usize = 2048;

// --- RTP payloads -------------------------------------------------------------------------------------

/// NAL units, or OBUs, of one frame; a frame with more is dropped. 8K HEVC has some hundred slices.
pub const RTP_FRAME_UNITS_MAX: usize = 512;
/// Longest H.264 or H.265 parameter set that is kept; a longer one is ignored. Common ones have under 100 bytes.
pub const PARAMETER_SET_BYTES_MAX: usize = 2 * 1024;
/// Parameter sets of one track that are kept; the one not seen for longest goes first.
pub const PARAMETER_SETS_MAX: usize = 16;

// --- WHEP --------------------------------------------------------------------------------------------

/// Packets of a track that a viewer may ask for again; a frame is kept or dropped whole, the newest always kept.
pub const WHEP_HISTORY_PACKETS_MAX: usize = 1024;
/// The same in time: what is older comes too late.
pub const WHEP_HISTORY_MAX: Duration = Duration::from_secs(1);
/// Packets that a viewer has asked for again and not been sent; requests beyond it are dropped.
pub const WHEP_ASKED_MAX: usize = 256;
/// Messages with events that wait for a viewer's data channel; one who leaves more unread is disconnected.
pub const WHEP_MESSAGES_MAX: usize = 1024;
/// The same in bytes.
pub const WHEP_MESSAGES_BYTES_MAX: usize = 256 * 1024;

// --- Hooks --------------------------------------------------------------------------------------------

/// Longest body of a backend's answer; a longer one is no answer.
pub const HOOK_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Questions to the backend that wait for their turn; further ones are answered no at once.
pub const HOOK_QUESTIONS_WAITING_MAX: usize = 512;
/// Questions in a row without an answer, after which the backend is left alone …
pub const HOOK_BREAKER_FAILURES: u32 = 5;
/// … for this long, after which one question tries whether it is back.
pub const HOOK_BREAKER_PAUSE: Duration = Duration::from_secs(2);
/// Answers that are remembered; with more, only those that have run out make room.
pub const HOOK_ANSWERS_MAX: usize = 8192;
/// Longest reason that a backend gives, as it is logged; the rest is cut off.
pub const HOOK_REASON_CHARS_MAX: usize = 120;
/// Bytes of notices that wait for the backend; beyond it the oldest are dropped and counted.
pub const HOOK_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Time for one call; who waits for the answer has less.
pub const HOOK_CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A notice is sent again after this long, then after twice as long …
pub const HOOK_RETRY_MIN: Duration = Duration::from_millis(250);
/// … up to this.
pub const HOOK_RETRY_MAX: Duration = Duration::from_secs(15);
/// A notice that nobody took for this long is dropped and counted.
pub const HOOK_NOTICE_AGE_MAX: Duration = Duration::from_secs(3600);
/// Accepted events that wait to become notices; with more, the oldest are not told, and counted.
pub const HOOK_EVENTS_WAITING_MAX: usize = 4096;

// --- Standby ------------------------------------------------------------------------------------------

/// Body of a copy of the journal for the other node; a longer one gets 413.
pub const STANDBY_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What one commit wrote beyond this goes over in several copies: half a body, since the last piece may be large.
pub const STANDBY_COPY_BYTES: u64 = 8 * 1024 * 1024;
/// Longest answer to it: the newest seq of each room.
pub const STANDBY_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Who serves waits this long for the other node; then it is away.
pub const STANDBY_TIMEOUT: Duration = Duration::from_secs(1);
/// A node that is away is asked again after this.
pub const STANDBY_RETRY: Duration = Duration::from_secs(1);
/// A node that stands by takes over when the other one was silent for this long, and a publisher comes.
pub const STANDBY_SILENCE: Duration = Duration::from_secs(1);
/// So many seqs before the newest are copied again: events may be committed in another order.
pub const STANDBY_OVERLAP: u64 = 1024;
/// Events that a node that was away is given between two commits.
pub const STANDBY_CATCH_UP_MAX: usize = 512;
