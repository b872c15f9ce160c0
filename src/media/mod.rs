//! What travels through the house: frames, the tracks they belong to, and the events beside them.
//!
//! Invariant: facts only. Nothing here parses a container, knows a protocol, reads a clock or does I/O.

pub mod anchor;
pub mod codec;
pub mod event;
pub mod frame;
pub mod fuzz;
pub mod json_pointer;
pub mod name;
pub mod room;
pub mod room_clock;
pub mod signature;
pub mod time;

pub use event::Event;
pub use frame::{AudioConfig, Codec, Data, Frame, Head, Item, Metadata, Scalar, TrackKind, Tracks, VideoConfig};
pub use name::StreamName;
pub use room::Room;
pub use room_clock::{Anchor, RoomClock};
pub use signature::{Keys, Signer};
