//! MoQ: the moq-lite-05 dialect, the hang catalog and container, and hawker's own `line` track.
//!
//! Invariant: everything here is bytes in, values out. A message is bounded by its declared length before a
//! byte of it is kept, and decoding is incremental: half a message is "not yet", never an error.

pub mod catalog;
pub mod container;
pub mod fuzz;
pub mod line;
pub mod lite05;
pub mod varint;
