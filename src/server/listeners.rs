//! The ports of a node: which there are, and one socket of each for every shard.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    thread,
    time::Duration,
};

use listenfd::ListenFd;
use tokio::sync::oneshot;

use super::webrtc;
use crate::{
    config::Config,
    net::{
        tcp::{self, BindError},
        udp,
    },
    relay::{Steered, steer},
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
    /// Comes as soon as the port can be had.
    pub(super) moq: oneshot::Receiver<Steered>,
    pub(super) webrtc: (UdpSocket, TcpListener),
}

/// The ports of a node.
pub(super) struct Ports {
    pub(super) shards: Vec<Sockets>,
    pub(super) addresses: Addresses,
    /// Another process accepts from the same admin listener.
    pub(super) admin_is_shared: bool,
    /// The QUIC port, if the process that this one takes over from has it still.
    pub(super) awaited: Option<AwaitedPort>,
}

/// Opens every port that `config` names, once for each shard; TCP listeners that the process was started with are used
/// instead. With `take_over` a process before this one may still have the UDP ports.
pub(super) fn open(config: &Config, take_over: bool) -> Result<Ports, BindError> {
    let count = match config.shards {
        0 => thread::available_parallelism().map_or(1, usize::from),
        shards => shards,
    };
    let inherited = Inherited::take();
    let rtmp = inherited.listen("RTMP", config.rtmp.listen, count)?;
    let http = inherited.listen("HTTP", config.http.listen, count)?;
    let rtmps = inherited.maybe("RTMPS", config.rtmp.tls_listen, count)?;
    let https = inherited.maybe("HTTPS", config.http.tls_listen, count)?;
    let admin_is_shared = inherited.position(config.admin.listen).is_some();
    let mut admin = match config.admin.listen == config.http.listen {
        true => None,
        false => inherited.listen("admin HTTP", config.admin.listen, 1)?.pop(),
    };
    inherited.warn_of_others(config);
    let webrtc = webrtc::bind(&config.webrtc, count, take_over)?;
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| oneshot::channel()).unzip();
    let (moq, awaited) = AwaitedPort { address: config.moq.listen, senders }.open(take_over)?;
    let sockets = rtmp.into_iter().zip(rtmps).zip(http.into_iter().zip(https)).zip(receivers).zip(webrtc);
    let shards: Vec<_> = sockets
        .map(|((((rtmp, rtmps), (http, https)), moq), webrtc)| Sockets {
            rtmp,
            rtmps,
            http,
            https,
            admin: admin.take(),
            moq,
            webrtc,
        })
        .collect();
    let addresses = Addresses::of(&shards, config, moq);
    Ok(Ports { shards, addresses, admin_is_shared, awaited })
}

/// A UDP port and the shards that wait for it. A process that is going down needs its own to the end, since a datagram
/// goes to any socket on the port: so both can't have it.
pub(super) struct AwaitedPort {
    address: SocketAddr,
    senders: Vec<oneshot::Sender<Steered>>,
}

impl AwaitedPort {
    /// Hands out the sockets, or returns itself if it may wait for the port.
    fn open(self, take_over: bool) -> Result<(SocketAddr, Option<Self>), BindError> {
        match udp::bind("MoQ", self.address, self.senders.len()) {
            Ok(sockets) => {
                let address = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(self.address);
                self.hand_out(sockets);
                Ok((address, None))
            }
            Err(error) if take_over => {
                tracing::info!(%error, "waiting for the QUIC port");
                Ok((self.address, Some(self)))
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for the port.
    pub(super) async fn wait(self) {
        loop {
            tokio::time::sleep(PORT_POLL_INTERVAL).await;
            if let Ok(sockets) = udp::bind("MoQ", self.address, self.senders.len()) {
                tracing::info!(moq = %self.address, "listening");
                return self.hand_out(sockets);
            }
        }
    }

    fn hand_out(self, sockets: Vec<UdpSocket>) {
        // Who doesn't wait for it any more has ended.
        self.senders.into_iter().zip(steer(sockets)).for_each(|(sender, socket)| drop(sender.send(socket)));
    }
}

/// The TCP listeners that the process was started with: systemd's socket activation. Several processes may have the
/// same ones; then each connection goes to one of them, and none is refused while one process follows another.
struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    fn take() -> Self {
        let mut from = ListenFd::from_env();
        let mut listeners = Vec::new();
        for index in 0..from.len() {
            let taken = from.take_tcp_listener(index).and_then(|listener| {
                let Some(listener) = listener else { return Ok(None) };
                listener.set_nonblocking(true)?;
                Ok(Some((listener.local_addr()?, listener)))
            });
            match taken {
                Ok(listener) => listeners.extend(listener),
                Err(error) => tracing::warn!(index, %error, "a socket that was passed is of no use"),
            }
        }
        Self(listeners)
    }

    fn position(&self, address: SocketAddr) -> Option<usize> {
        self.0.iter().position(|(at, _)| *at == address)
    }

    fn listen(&self, what: &'static str, address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, BindError> {
        match self.0.iter().find(|(at, _)| *at == address) {
            Some((_, listener)) => (0..count)
                .map(|_| listener.try_clone().map_err(|error| BindError::new(what, address, &error)))
                .collect(),
            None => tcp::listen(what, address, count),
        }
    }

    fn maybe(
        &self,
        what: &'static str,
        address: Option<SocketAddr>,
        count: usize,
    ) -> Result<Vec<Option<TcpListener>>, BindError> {
        match address {
            Some(address) => Ok(self.listen(what, address, count)?.into_iter().map(Some).collect()),
            None => Ok((0..count).map(|_| None).collect()),
        }
    }

    /// What nobody accepts from would keep its clients waiting for ever.
    fn warn_of_others(&self, config: &Config) {
        let wanted = [
            Some(config.rtmp.listen),
            config.rtmp.tls_listen,
            Some(config.http.listen),
            config.http.tls_listen,
            Some(config.admin.listen),
        ];
        for (address, _) in self.0.iter().filter(|(address, _)| !wanted.contains(&Some(*address))) {
            tracing::warn!(%address, "a listener that was passed is not in the configuration");
        }
    }
}

impl Addresses {
    /// What was asked for, and what port 0 became.
    fn of(sockets: &[Sockets], config: &Config, moq: SocketAddr) -> Self {
        let mut addresses = Self {
            rtmp: config.rtmp.listen,
            rtmps: config.rtmp.tls_listen,
            http: config.http.listen,
            https: config.http.tls_listen,
            admin: config.admin.listen,
            moq,
            webrtc: config.webrtc.listen,
        };
        let Some(first) = sockets.first() else { return addresses };
        let tcp = |listener: &TcpListener, asked| listener.local_addr().unwrap_or(asked);
        addresses.rtmp = tcp(&first.rtmp, addresses.rtmp);
        addresses.rtmps = first.rtmps.as_ref().and_then(|listener| listener.local_addr().ok());
        addresses.http = tcp(&first.http, addresses.http);
        addresses.https = first.https.as_ref().and_then(|listener| listener.local_addr().ok());
        addresses.admin = first.admin.as_ref().map_or(addresses.http, |listener| tcp(listener, addresses.admin));
        addresses.webrtc = tcp(&first.webrtc.1, addresses.webrtc);
        addresses
    }
}

/// Short beside the time that a QUIC client takes to come back.
const PORT_POLL_INTERVAL: Duration = Duration::from_millis(50);
