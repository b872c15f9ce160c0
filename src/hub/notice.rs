//! What happens to the streams, told as it happens to whoever follows.

use tokio::sync::broadcast;

use super::{Hub, State};
use crate::media::StreamName;

/// Something that happened to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Which.
    pub stream: StreamName,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The stream is in this state from now on.
    State(State),
    /// A publisher came: on air if he is the only one, else he stands by.
    PublisherCame,
    /// Another publisher than before went on air.
    Switched,
    /// A publisher went away, or was replaced.
    PublisherGone,
}

impl Hub {
    /// What happens to all streams from now on. The hub never waits: a reader who is
    /// [`HUB_NOTICES_MAX`](crate::limits::HUB_NOTICES_MAX) behind is told how many he missed.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
}
