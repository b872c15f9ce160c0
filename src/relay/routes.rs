//! Through which nodes a stream came here, so that nodes which are each other's upstream don't announce a stream
//! back to where it came from.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::media::StreamName;

/// The hop chains of the streams that upstreams announced.
pub struct Routes {
    hop: u64,
    /// As many as the hub has streams at most.
    chains: Mutex<HashMap<StreamName, Vec<u64>>>,
    version: watch::Sender<u64>,
}

impl Default for Routes {
    fn default() -> Self {
        Self::new()
    }
}

impl Routes {
    /// A node with an id of its own. It is never 0, which players take for an error.
    pub fn new() -> Self {
        Self { hop: rand::random_range(1..1 << 53), chains: Mutex::default(), version: watch::Sender::new(0) }
    }

    /// This node's hop id.
    pub fn hop(&self) -> u64 {
        self.hop
    }

    /// The chain that `name` came through, the origin first; empty for a stream published here.
    pub fn chain(&self, name: &StreamName) -> Vec<u64> {
        self.chains.lock().get(name).cloned().unwrap_or_default()
    }

    /// Notes where `name` comes from.
    pub fn learn(&self, name: &StreamName, chain: Vec<u64>) {
        let known = self.chains.lock().insert(name.clone(), chain.clone());
        if known.is_some_and(|known| known != chain) {
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// `name` no longer comes from elsewhere.
    pub fn forget(&self, name: &StreamName) {
        if self.chains.lock().remove(name).is_some() {
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// Changes whenever a stream that was known comes another way.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}
