//! Viewers are served here: HTTP-FLV, RTMP play and WHEP.
//!
//! Invariant: a viewer is a cursor on a muxed line; the bytes he is sent are shared with all others. Only what
//! depends on the moment he joined (the prologue) is made for him alone.

mod deliver;
pub mod flv;
mod lobby;
mod log;
mod outlet;
mod rtp;
mod session;
mod tags;
mod whep;

pub use deliver::{Undelivered, deliver};
pub use lobby::{Lobby, NobodyCame};
pub use log::{SessionLog, reason};
pub use outlet::Outlet;
pub use rtp::BFrames;
pub use session::{Counters, Session};
pub use tags::{Carriage, Egress, Extras};
pub use whep::{Link, Over, Playback};

#[cfg(test)]
mod tests;
