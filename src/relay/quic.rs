//! QUIC as we use it: flow control, timeouts, streams. The only place that tunes the transport.

use std::{path::Path, sync::Arc, time::Duration};

use quinn::{
    ClientConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

use crate::{
    limits::{MOQ_RECEIVE_WINDOW_BYTES, MOQ_SEND_WINDOW_BYTES, MOQ_SETUP_STREAMS_MAX, MOQ_UPSTREAM_STREAMS_MAX},
    net::tls::{Identity, TlsError, Trust, known_clients},
    proto::moq::lite05::ALPN,
};

/// The protocols a listener speaks: WebTransport and raw QUIC.
const PROTOCOLS: [&str; 2] = [web_transport_quinn::ALPN, ALPN];

/// A server for [`PROTOCOLS`]. Shards share it, so that a Retry token of one is good at all.
/// With `edge_ca` it knows edges by the certificates that this PEM file signed.
pub(super) fn server(identity: &Identity, edge_ca: Option<&Path>) -> Result<ServerConfig, TlsError> {
    let tls = match edge_ca {
        Some(authorities) => identity.server_to(known_clients(authorities)?, &PROTOCOLS)?,
        None => identity.server(&PROTOCOLS)?,
    };
    let crypto = QuicServerConfig::try_from(tls).map_err(|_| no_initial_suite())?;
    let mut transport = transport(IDLE_TIMEOUT, KEEP_ALIVE);
    // What a peer may have before it has set up; `session` raises it then.
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(MOQ_SETUP_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(MOQ_SETUP_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(MOQ_RECEIVE_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(MOQ_RECEIVE_WINDOW_BYTES))
        .send_window(MOQ_SEND_WINDOW_BYTES);
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// A client of one of [`PROTOCOLS`], which takes up to `window_bytes` unread.
pub(super) fn client(
    trust: &Trust,
    identity: Option<&Identity>,
    protocol: &str,
    window_bytes: u32,
) -> Result<ClientConfig, TlsError> {
    let tls = trust.client(&[protocol], identity)?;
    let crypto = QuicClientConfig::try_from(tls).map_err(|_| no_initial_suite())?;
    let mut transport = transport(UPSTREAM_IDLE_TIMEOUT, UPSTREAM_KEEP_ALIVE);
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(MOQ_UPSTREAM_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(window_bytes))
        .receive_window(VarInt::from_u32(window_bytes));
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn transport(idle: Duration, keep_alive: Duration) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(idle).ok())
        .keep_alive_interval(Some(keep_alive))
        // Streams of one priority in the order they were opened; priorities decide, not turns.
        .send_fairness(false)
        .datagram_receive_buffer_size(None);
    transport
}

fn no_initial_suite() -> TlsError {
    TlsError::Unusable(rustls::Error::General("no cipher suite for QUIC Initial packets".to_owned()))
}

/// A peer that answers nothing for this long is gone. Links that drop out for seconds keep their session.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Well below the idle timeout and the usual 30 s of NAT bindings.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// Longer than links drop out for. An edge doesn't wait for it: it notices silence, and goes elsewhere meanwhile.
const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// An upstream that doesn't answer these is silent.
const UPSTREAM_KEEP_ALIVE: Duration = Duration::from_millis(200);
