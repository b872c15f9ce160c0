//! Viewers who are here before their publisher.

use std::{net::IpAddr, time::Duration};

use crate::{
    hub::{State, Viewer},
    limits,
    net::pending::Pending,
};

/// Where they wait, whatever they speak; a clone is the same place.
#[derive(Clone)]
pub struct Lobby {
    waiting: Pending,
    wait: Duration,
}

/// Why a viewer has waited in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum NobodyCame {
    /// Nobody published in time.
    InTime,
    /// Too many wait already, in all or from that address.
    Crowded,
}

impl NobodyCame {
    /// The words for the viewer, and the metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InTime => "nobody publishes this stream",
            Self::Crowded => "too many viewers wait for a publisher",
        }
    }
}

impl Lobby {
    /// An empty one, in which each waits for so long.
    pub fn new(wait: Duration) -> Self {
        Self { waiting: Pending::new(limits::VIEWERS_WAITING_MAX, limits::VIEWERS_WAITING_PER_ADDRESS_MAX), wait }
    }

    /// Waits for somebody to publish. Where somebody does, or did a moment ago, nobody waits.
    pub async fn wait(&self, viewer: &Viewer, from: IpAddr) -> Result<(), NobodyCame> {
        let mut state = viewer.stream().watch_state();
        if *state.borrow() == State::Waiting {
            let _place = self.waiting.admit(from).ok_or(NobodyCame::Crowded)?;
            let came = state.wait_for(|state| *state != State::Waiting);
            // The stream holds the sender.
            let _ = tokio::time::timeout(self.wait, came).await.map_err(|_| NobodyCame::InTime)?;
        }
        if viewer.stream().state() == State::Ended { Err(NobodyCame::InTime) } else { Ok(()) }
    }
}
