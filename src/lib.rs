//! hawker: a live-commerce stream server.
//!
//! ```text
//!  anchor ─► ingest ─► hub ─► relay ══QUIC══► relay ─► hub ─► …     (an edge is a hub whose publisher is a relay)
//!                       │
//!                       ├───► egress ─► viewer, CDN edge
//!                       └───► transcode ─► egress        (the same line, its sound in a codec that viewers can take)
//!  control (API, auth) ──commands──► hub                            observe ◄── all      console ─► control
//! ```
//!
//! A stream is one ordered line of items (configuration, frames, events); everything downstream reads that
//! line. Read the modules in the order below.
//!
//! Invariants (`tests/architecture.rs` holds the import table):
//!
//! 1. `proto` never touches a socket, a clock or a task: bytes and a time in; bytes, events and a deadline out.
//! 2. A frame's bytes are allocated once, at ingest, and shared. Viewers hold cursors, never copies.
//! 3. `ingest` never learns who watches; `egress` and `relay` never learn how it came in. Only `hub` knows both.
//! 4. No viewer can make a publisher or another viewer wait.
//! 5. An event is acknowledged after it is durable, and has one id, one seq and one signature on every node.
//! 6. Everything a peer feeds (queue, map, buffer, recursion) has a bound in `limits.rs`.
//! 7. Nothing is open by default. `hawker dev` is the loopback-only exception and says so.

#![forbid(unsafe_code)]
// What a peer sends must never end the process; tests may panic.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod cli;
pub mod console;
pub mod control;
pub mod egress;
pub mod hub;
pub mod ingest;
pub mod media;
pub mod proto;
pub mod relay;
pub mod server;
pub mod transcode;

pub mod clock;
pub mod config;
pub mod limits;
pub mod net;
pub mod observe;
pub mod secret;
pub mod task;
