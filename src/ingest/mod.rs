//! Publishers come in here.
//!
//! Invariant: ingest turns what a publisher sends into items of the line and never learns who watches.

pub mod inband;
pub mod rtmp;
pub mod whip;

#[cfg(test)]
mod tests;
