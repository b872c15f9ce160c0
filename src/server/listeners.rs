//! The ports of a node: which there are, and one socket of each for every shard.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    thread,
};

use super::webrtc;
use crate::{
    config::Config,
    net::{
        tcp::{self, BindError},
        udp,
    },
};

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// RTMP.
    pub rtmp: SocketAddr,
    /// RTMP over TLS.
    pub rtmps: Option<SocketAddr>,
    /// HTTP for viewers.
    pub http: SocketAddr,
    /// The same over TLS.
    pub https: Option<SocketAddr>,
    /// API, metrics, health.
    pub admin: SocketAddr,
    /// QUIC.
    pub moq: SocketAddr,
    /// WebRTC, of the first shard.
    pub webrtc: SocketAddr,
}

/// One shard's sockets.
pub(super) struct Sockets {
    pub(super) rtmp: TcpListener,
    pub(super) rtmps: Option<TcpListener>,
    pub(super) http: TcpListener,
    pub(super) https: Option<TcpListener>,
    /// On the first shard, unless it is the same as `http`.
    pub(super) admin: Option<TcpListener>,
    pub(super) moq: UdpSocket,
    pub(super) webrtc: (UdpSocket, TcpListener),
}

/// Opens every port that `config` names, once for each shard.
pub(super) fn open(config: &Config) -> Result<Vec<Sockets>, BindError> {
    let count = match config.shards {
        0 => thread::available_parallelism().map_or(1, usize::from),
        shards => shards,
    };
    let maybe = |what, address: Option<SocketAddr>| match address {
        Some(address) => Ok(tcp::listen(what, address, count)?.into_iter().map(Some).collect()),
        None => Ok((0..count).map(|_| None).collect::<Vec<_>>()),
    };
    let rtmp = tcp::listen("RTMP", config.rtmp.listen, count)?;
    let http = tcp::listen("HTTP", config.http.listen, count)?;
    let rtmps = maybe("RTMPS", config.rtmp.tls_listen)?;
    let https = maybe("HTTPS", config.http.tls_listen)?;
    let moq = udp::bind("MoQ", config.moq.listen, count)?;
    let mut admin = match config.admin.listen == config.http.listen {
        true => None,
        false => tcp::listen("admin HTTP", config.admin.listen, 1)?.pop(),
    };
    let webrtc = webrtc::bind(&config.webrtc, count)?;
    let sockets = rtmp.into_iter().zip(rtmps).zip(http.into_iter().zip(https)).zip(moq).zip(webrtc);
    Ok(sockets
        .map(|((((rtmp, rtmps), (http, https)), moq), webrtc)| Sockets {
            rtmp,
            rtmps,
            http,
            https,
            admin: admin.take(),
            moq,
            webrtc,
        })
        .collect())
}

impl Addresses {
    /// What was asked for, and what port 0 became.
    pub(super) fn of(sockets: &[Sockets], config: &Config) -> Self {
        let mut addresses = Self {
            rtmp: config.rtmp.listen,
            rtmps: config.rtmp.tls_listen,
            http: config.http.listen,
            https: config.http.tls_listen,
            admin: config.admin.listen,
            moq: config.moq.listen,
            webrtc: config.webrtc.listen,
        };
        let Some(first) = sockets.first() else { return addresses };
        let tcp = |listener: &TcpListener, asked| listener.local_addr().unwrap_or(asked);
        addresses.rtmp = tcp(&first.rtmp, addresses.rtmp);
        addresses.rtmps = first.rtmps.as_ref().and_then(|listener| listener.local_addr().ok());
        addresses.http = tcp(&first.http, addresses.http);
        addresses.https = first.https.as_ref().and_then(|listener| listener.local_addr().ok());
        addresses.admin = first.admin.as_ref().map_or(addresses.http, |listener| tcp(listener, addresses.admin));
        addresses.moq = first.moq.local_addr().unwrap_or(addresses.moq);
        addresses.webrtc = tcp(&first.webrtc.1, addresses.webrtc);
        addresses
    }
}
