//! MoQ over QUIC: edges and MoQ viewers, one session type.
//!
//! ```text
//!  hub ─► publish (muxers) ─► send ─► session ══ QUIC ══► client ─► reorder ─► subscribe ─► hub of the edge
//!                                     listener                     upstream (which streams, reconnecting)
//! ```
//!
//! Invariants: payloads are opaque here; a viewer never announces and never sends a group; whatever the number
//! of viewers, an edge has one subscription per track upstream.

mod client;
mod interleave;
mod listener;
mod publish;
mod quic;
mod reorder;
mod routes;
mod seam;
mod send;
mod session;
mod steer;
mod subscribe;
mod upstream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use quinn::{Runtime, TokioRuntime};

pub use self::{
    client::{Client, ConnectError, Received, Subscription},
    listener::{Listener, listen, server_config},
    publish::{Muxers, Track},
    reorder::Reorder,
    routes::Routes,
    send::SendError,
    steer::{Steered, steer},
    upstream::Upstream,
};
use crate::{
    hub::{Hub, Patience},
    limits,
    media::Keys,
    net::{access::Access, pending::Pending},
    observe::metrics::Metrics,
};

/// How an edge proves that it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeProof {
    /// By a token with the role `relay`.
    Token,
    /// By a certificate of an authority that the listener knows; a token alone is not enough.
    Certificate,
}

/// What every session of a node shares.
pub struct Relay {
    /// The streams.
    pub hub: Arc<Hub>,
    /// Who may do what.
    pub access: Arc<dyn Access>,
    /// The muxed tracks.
    pub muxers: Muxers,
    /// Where streams of other nodes come from.
    pub routes: Arc<Routes>,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// Whose events are taken from upstream.
    pub event_keys: Arc<ArcSwap<Keys>>,
    /// How readers who can't keep up are borne with.
    pub patience: Patience,
    /// The sessions that have not set up, on all shards.
    pending: Pending,
    /// How edges prove that they are.
    pub edge_proof: EdgeProof,
    /// What QUIC has its sockets and timers from.
    runtime: Arc<dyn Runtime>,
}

impl Relay {
    /// The relay of a node.
    pub fn new(
        hub: Arc<Hub>,
        access: Arc<dyn Access>,
        metrics: Arc<Metrics>,
        event_keys: Arc<ArcSwap<Keys>>,
        patience: Patience,
        edge_proof: EdgeProof,
    ) -> Arc<Self> {
        let (muxers, routes) = (Muxers::new(&hub.settings()), Arc::new(Routes::new()));
        let pending = Pending::new(limits::MOQ_PENDING_MAX, limits::MOQ_PENDING_PER_ADDRESS_MAX);
        let runtime = Arc::new(TokioRuntime);
        Arc::new(Self { hub, access, muxers, routes, metrics, event_keys, patience, pending, edge_proof, runtime })
    }

    /// The same with muxers of its own: each shard has some.
    pub fn for_shard(&self) -> Arc<Self> {
        let Self { hub, access, routes, metrics, event_keys, .. } = self;
        Arc::new(Self {
            hub: hub.clone(),
            access: access.clone(),
            muxers: Muxers::new(&hub.settings()),
            routes: routes.clone(),
            metrics: metrics.clone(),
            event_keys: event_keys.clone(),
            patience: self.patience,
            pending: self.pending.clone(),
            edge_proof: self.edge_proof,
            runtime: self.runtime.clone(),
        })
    }
}
