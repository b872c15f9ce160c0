//! The QUIC listener of a shard: handshakes within bounds, WebTransport or raw QUIC, then a session.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use http::StatusCode;
use quinn::{Connection, ConnectionError, Endpoint, Incoming, ServerConfig, VarInt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use web_transport_quinn::{Request, Session, proto::ConnectResponse};

use super::{
    EdgeProof, Relay,
    session::{self, Peering, Target},
    steer::Steered,
};
use crate::{
    limits::{
        MOQ_DRAIN_TIMEOUT, MOQ_HANDSHAKE_TIMEOUT, MOQ_HANDSHAKES_BEFORE_RETRY, MOQ_SESSIONS_MAX, MOQ_SETUP_TIMEOUT,
    },
    net::{
        pending::Place,
        tls::{Identity, TlsError},
    },
    proto::moq::lite05::{ALPN, session_code},
    task,
};

/// The QUIC configuration of a node's listeners; all shards share one. With `edge_ca`, a PEM file, edges show
/// certificates that it signed.
pub fn server_config(identity: &Identity, edge_ca: Option<&Path>) -> Result<ServerConfig, TlsError> {
    super::quic::server(identity, edge_ca)
}

/// One shard's QUIC listener.
pub struct Listener {
    endpoint: Endpoint,
    relay: Arc<Relay>,
}

/// Opens a shard's listener. To be called on the shard's runtime.
pub fn listen(relay: Arc<Relay>, socket: Steered, config: ServerConfig) -> io::Result<Listener> {
    let runtime = relay.runtime.clone();
    let (endpoint, socket) = socket.open(&*runtime)?;
    let endpoint = Endpoint::new_with_abstract_socket(endpoint, Some(config), socket, runtime)?;
    Ok(Listener { endpoint, relay })
}

impl Listener {
    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Accepts sessions until `drain` is cancelled, then lets them go elsewhere for a while, until `stop` is at the latest,
    /// and closes the rest.
    pub async fn run(self, drain: CancellationToken, stop: CancellationToken) {
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                () = drain.cancelled() => break,
            };
            let Some(incoming) = incoming else { break };
            self.admit(incoming, &drain);
        }
        let leaving = async {
            tokio::select! {
                () = self.endpoint.wait_idle() => {}
                () = self.refuse_all() => {}
            }
        };
        let _ = timeout(MOQ_DRAIN_TIMEOUT, stop.run_until_cancelled(leaving)).await;
        self.endpoint.close(VarInt::from_u32(session_code::GOAWAY_TIMEOUT), b"shutting down");
    }

    /// Whoever comes while we drain is told at once, and finds whoever listens here next.
    async fn refuse_all(&self) {
        while let Some(incoming) = self.endpoint.accept().await {
            incoming.refuse();
        }
    }

    fn admit(&self, incoming: Incoming, stop: &CancellationToken) {
        let pending = &self.relay.pending;
        // A peer that has not proven its address costs nothing but the answer once there are many.
        if pending.taken() >= MOQ_HANDSHAKES_BEFORE_RETRY && !incoming.remote_address_validated() {
            let _ = incoming.retry();
            return;
        }
        let place = pending.admit(incoming.remote_address().ip());
        let Some(place) = place.filter(|_| self.endpoint.open_connections() < MOQ_SESSIONS_MAX) else {
            self.relay.metrics.refused("moq_pending");
            incoming.refuse();
            return;
        };
        task::spawn("moq session", serve(self.relay.clone(), incoming, place, stop.clone()));
    }
}

async fn serve(relay: Arc<Relay>, incoming: Incoming, place: Place, stop: CancellationToken) {
    let peer = incoming.remote_address();
    let Ok(connecting) = incoming.accept() else { return };
    let connection = match timeout(MOQ_HANDSHAKE_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => connection,
        // Only edges show certificates, and their operators look here for what is wrong with one.
        Ok(Err(error @ ConnectionError::TransportError(_))) if relay.edge_proof == EdgeProof::Certificate => {
            relay.metrics.refused("moq_handshake");
            tracing::warn!(%peer, %error, "QUIC handshake refused");
            return;
        }
        Ok(Err(_)) | Err(_) => {
            tracing::debug!(%peer, "QUIC handshake failed");
            return;
        }
    };
    let certified = connection.peer_identity().is_some();
    match timeout(MOQ_SETUP_TIMEOUT, set_up(connection.clone())).await {
        Ok(Some((session, target))) => {
            session::run(relay, session, Peering { target, certified }, place, stop).await;
        }
        Ok(None) => tracing::debug!(%peer, "MoQ setup refused"),
        Err(_) => connection.close(VarInt::from_u32(session_code::TIMEOUT), b"no setup"),
    }
}

/// The session and what it asks for: from the CONNECT request, or from SETUP where there is no URL.
async fn set_up(connection: Connection) -> Option<(Session, Target)> {
    if protocol(&connection).as_deref() != Some(web_transport_quinn::ALPN.as_bytes()) {
        let session = Session::raw(connection);
        return match session::read_setup(&session).await {
            Ok(setup) => {
                let target = Target::parse(setup.path.as_deref().unwrap_or_default());
                if target.is_none() {
                    session.close(session_code::UNAUTHORIZED, b"no such path");
                }
                target.map(|target| (session, target))
            }
            Err(error) => {
                session.close(session_code::PROTOCOL_VIOLATION, error.to_string().as_bytes());
                None
            }
        };
    }
    let request = Request::accept(connection.clone()).await.ok()?;
    let target = Target::of(&request.url);
    if let Some(target) = target.filter(|_| request.protocols.iter().any(|offered| offered == ALPN)) {
        let session = request.respond(ConnectResponse::OK.with_protocol(ALPN)).await.ok()?;
        return Some((session, target));
    }
    let _ = request.reject(StatusCode::BAD_REQUEST).await;
    // The answer must leave before the connection is dropped.
    connection.closed().await;
    None
}

fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?.protocol
}
