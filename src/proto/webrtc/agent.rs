//! Connectivity checks as a session needs them, whichever end it is.

use std::time::Instant;

use crate::proto::ice::{Client, Lite, Path};

/// Connectivity checks, from either end.
pub enum Ice {
    /// A server's: it answers.
    Lite(Lite),
    /// A client's: it asks.
    Client(Client),
}

impl Ice {
    /// Answers a check, or takes an answer.
    pub(super) fn handle(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Lite(lite) => lite.handle(now, path, datagram).ok(),
            Self::Client(client) => {
                let _ = client.handle(now, path, datagram);
                None
            }
        }
    }

    pub(super) fn is_valid(&self, path: &Path) -> bool {
        match self {
            Self::Lite(lite) => lite.is_valid(path),
            Self::Client(client) => client.selected() == Some(*path),
        }
    }

    pub(super) fn selected(&self) -> Option<Path> {
        match self {
            Self::Lite(lite) => lite.selected(),
            Self::Client(client) => client.selected(),
        }
    }

    /// This way is no more.
    pub(super) fn remove(&mut self, path: &Path) {
        match self {
            Self::Lite(lite) => lite.remove(path),
            // It has one, and notices by its checks.
            Self::Client(_) => {}
        }
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        match self {
            Self::Lite(lite) => lite.is_expired(now),
            Self::Client(client) => client.is_expired(now),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Lite(lite) => lite.consent_deadline(),
            Self::Client(client) => client.deadline(),
        }
    }

    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<(Path, Vec<u8>)> {
        match self {
            Self::Lite(_) => None,
            Self::Client(client) => client.poll_transmit(now),
        }
    }
}
