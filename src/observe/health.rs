//! What `/readyz` answers. `/livez` needs no state: answering is the proof.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this node should be sent viewers.
#[derive(Debug)]
pub struct Health {
    listening: AtomicBool,
    upstream: AtomicBool,
    draining: AtomicBool,
}

impl Health {
    /// Not ready yet. `needs_upstream` on a node that has no streams of its own: an edge.
    pub fn new(needs_upstream: bool) -> Self {
        Self { listening: false.into(), upstream: (!needs_upstream).into(), draining: false.into() }
    }

    /// Every listener is bound.
    pub fn set_listening(&self) {
        self.listening.store(true, Ordering::Relaxed);
    }

    /// The edge's upstream session came up or went down.
    pub fn set_upstream(&self, connected: bool) {
        self.upstream.store(connected, Ordering::Relaxed);
    }

    /// The node has begun to end; there is no way back.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// `Ok`, or why not.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.draining.load(Ordering::Relaxed) {
            Err("draining")
        } else if !self.listening.load(Ordering::Relaxed) {
            Err("starting")
        } else if !self.upstream.load(Ordering::Relaxed) {
            Err("no upstream")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_ready_once_it_listens_and_until_it_drains() {
        let health = Health::new(false);
        assert_eq!(health.ready(), Err("starting"));
        health.set_listening();
        assert_eq!(health.ready(), Ok(()));
        health.drain();
        health.set_listening();
        assert_eq!(health.ready(), Err("draining"));
    }

    #[test]
    fn an_edge_is_ready_only_with_its_upstream() {
        let health = Health::new(true);
        health.set_listening();
        assert_eq!(health.ready(), Err("no upstream"));
        health.set_upstream(true);
        assert_eq!(health.ready(), Ok(()));
        health.set_upstream(false);
        assert_eq!(health.ready(), Err("no upstream"));
    }
}
