//! Wires the parts into a running server: shards, listeners, and an orderly end.
//!
//! [`Server::bind`] opens every port, so that a taken one is an error before anything runs; [`Server::run`]
//! returns when it was told to stop and the sessions are gone.

mod http;
mod keys;
mod rtmp;
mod trust;
mod webrtc;

use std::{
    future::Future,
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock,
    config::{Config, LoadError, Profile, Role},
    control::{
        api::{self, Api, MoqAddress},
        auth::Auth,
    },
    egress::Egress,
    hub::{self, Hub, Journal, Merge, Origin, Transcode},
    limits,
    media::Keys,
    net::{
        self,
        pending::Pending,
        tcp::{self, BindError},
        tls::{Fingerprint, TlsError, session_certificate},
        udp,
    },
    observe::{health::Health, metrics::Metrics},
    proto::webrtc as webrtc_peer,
    relay::{self, Relay, Upstream},
    secret::Digest,
    task,
    transcode::Transcoders,
};

use self::keys::EventKeys;
pub use self::keys::KeyError;
use self::webrtc::WebRtc;

/// What the shards of a node share.
struct Node {
    config: Config,
    hub: Arc<Hub>,
    auth: Arc<Auth>,
    metrics: Arc<Metrics>,
    health: Health,
    relay: Arc<Relay>,
    webrtc: WebRtc,
    transcoders: Arc<Transcoders>,
    pending: Pending,
    /// One for all listeners: what it bounds, it bounds for the node.
    api: Arc<Api>,
    /// Cancelled to stop: listeners close, sessions wind up.
    stop: CancellationToken,
    /// The sessions that get time to wind up.
    sessions: TaskTracker,
    rtmp: rtmp::Timeouts,
}

/// A server whose ports are open.
pub struct Server {
    node: Arc<Node>,
    shards: Vec<Shard>,
    addresses: Addresses,
    quic: quinn::ServerConfig,
    fingerprint: Fingerprint,
    /// Where an edge takes its streams from.
    upstream: Option<Upstream>,
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// RTMP.
    pub rtmp: SocketAddr,
    /// HTTP for viewers.
    pub http: SocketAddr,
    /// API, metrics, health.
    pub admin: SocketAddr,
    /// QUIC.
    pub moq: SocketAddr,
    /// WebRTC, of the first shard.
    pub webrtc: SocketAddr,
}

/// One shard's listeners.
struct Shard {
    rtmp: TcpListener,
    http: TcpListener,
    /// On the first shard, unless it is the same as `http`.
    admin: Option<TcpListener>,
    moq: UdpSocket,
    webrtc: (UdpSocket, TcpListener),
}

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port can't be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A certificate or key is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// DTLS can't be set up.
    #[error("DTLS can't be set up")]
    Dtls,
    /// A file that the configuration names can't be read.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The keys of events can't be had.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The journal of events can't be used.
    #[error(transparent)]
    Journal(#[from] hub::JournalError),
    /// The threads that convert sound can't be had.
    #[error("the threads for sound can't be started: {0}")]
    Transcode(std::io::Error),
}

impl Server {
    /// Opens every port that `config` names.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        let event_keys = EventKeys::load(&config)?;
        let identity = trust::identity(&config.moq)?;
        let quic = relay::server_config(&identity)?;
        let count = match config.shards {
            0 => thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        let rtmp = tcp::listen("RTMP", config.rtmp.listen, count)?;
        let http = tcp::listen("HTTP", config.http.listen, count)?;
        let moq = udp::bind("MoQ", config.moq.listen, count)?;
        let mut admin = match config.admin.listen == config.http.listen {
            true => None,
            false => tcp::listen("admin HTTP", config.admin.listen, 1)?.pop(),
        };
        let webrtc = webrtc::bind(&config.webrtc, count)?;
        let tcp_address = |listener: Option<&TcpListener>, asked| {
            listener.and_then(|listener| listener.local_addr().ok()).unwrap_or(asked)
        };
        let http_address = tcp_address(http.first(), config.http.listen);
        let addresses = Addresses {
            rtmp: tcp_address(rtmp.first(), config.rtmp.listen),
            http: http_address,
            admin: tcp_address(admin.as_ref(), http_address),
            moq: moq.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(config.moq.listen),
            webrtc: tcp_address(webrtc.first().map(|(_, listener)| listener), config.webrtc.listen),
        };
        let fingerprint = identity.fingerprint();
        let moq_address = MoqAddress {
            port: addresses.moq.port(),
            certificate_sha256: config.moq.cert.is_none().then(|| Digest::from(fingerprint).to_string()),
        };
        let node = Arc::new(Node::new(config, moq_address, event_keys)?);
        let upstream = trust::upstream(&node.config.upstream, &node.relay)?;
        let listeners = rtmp.into_iter().zip(http).zip(moq).zip(webrtc);
        let shards = listeners
            .map(|(((rtmp, http), moq), webrtc)| Shard { rtmp, http, moq, webrtc, admin: admin.take() })
            .collect();
        Ok(Self { node, shards, addresses, quic, fingerprint, upstream })
    }

    /// Where it listens: what port 0 became.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// SHA-256 of the certificate that QUIC clients are shown.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The keys whose events it believes, its own included.
    pub fn event_keys(&self) -> &Keys {
        &self.node.relay.event_keys
    }

    /// Tells [`Server::run`] to stop when it is cancelled.
    pub fn stop(&self) -> CancellationToken {
        self.node.stop.clone()
    }

    /// Serves until told to stop; then sessions have [`limits::DRAIN_TIMEOUT`] to wind up.
    pub fn run(self) {
        let (node, mut upstream) = (self.node, self.upstream);
        let mut shards = Vec::new();
        for (index, shard) in self.shards.into_iter().enumerate() {
            let (node, quic, upstream) = (node.clone(), self.quic.clone(), upstream.take());
            let run = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(shard.run(node, quic, upstream, index == 0)),
                Err(error) => tracing::error!(%error, "a shard could not start"),
            };
            shards.push(thread::Builder::new().name(format!("shard-{index}")).spawn(run));
        }
        node.health.set_listening();
        for shard in shards {
            // A shard that panicked has said so itself.
            let _ = shard.map(thread::JoinHandle::join);
        }
        tracing::info!("stopped");
    }
}

impl Node {
    fn new(config: Config, moq: MoqAddress, event_keys: EventKeys) -> Result<Self, StartError> {
        let settings = hub::Settings {
            ring_bytes_max: config.hub.ring_bytes_max,
            gops_max: config.hub.gops_max,
            reconnect_window: config.hub.reconnect_window(),
            linger: config.hub.linger(),
        };
        let auth = Auth::new(&config.auth);
        let metrics = Metrics::new(clock::unix_ms(), config.metrics.stream_label);
        let origin = match (event_keys.signer, &config.data_dir) {
            (Some(signer), Some(data)) => {
                let events = &config.events;
                let commit_seconds = metrics.journal_commit_seconds.clone();
                let journal = Journal::open(&data.join(JOURNAL_FILE), events.journal_bytes_max, commit_seconds)?;
                Some(Origin::new(journal, signer, metrics.clone(), events.rate_per_s, events.burst))
            }
            _ => None,
        };
        let hub = Hub::new(settings, origin);
        let stop = CancellationToken::new();
        let api = Arc::new(Api {
            hub: hub.clone(),
            auth: auth.clone(),
            metrics: metrics.clone(),
            moq,
            takes_events: config.role != Role::Edge,
            rundowns: api::RundownsBusy::default(),
            event_streams: Pending::new(limits::EVENT_STREAMS_MAX, limits::EVENT_STREAMS_PER_ADDRESS_MAX),
            stop: stop.clone(),
        });
        let relay = Relay::new(hub.clone(), auth.clone(), metrics.clone(), event_keys.trusted, config.hub.lag_max());
        let transcoders = Transcoders::start(TRANSCODE_THREADS, hub.settings(), metrics.clone(), stop.clone())
            .map_err(StartError::Transcode)?;
        Ok(Self {
            relay,
            webrtc: WebRtc::new(session_identity()?),
            transcoders,
            api,
            auth,
            metrics,
            health: Health::new(config.role == Role::Edge),
            pending: Pending::new(limits::PENDING_CONNECTIONS_MAX, limits::PENDING_CONNECTIONS_PER_ADDRESS_MAX),
            stop,
            sessions: TaskTracker::new(),
            rtmp: rtmp::Timeouts::default(),
            hub,
            config,
        })
    }

    /// A shard's muxers for FLV and RTMP.
    fn egress(&self) -> Arc<Egress> {
        let lag_us_max = i64::try_from(self.config.hub.lag_max().as_micros()).unwrap_or(i64::MAX);
        let merge = merge(self.config.egress.profile);
        let transcode = Some(Arc::clone(&self.transcoders) as Arc<dyn Transcode>);
        Arc::new(Egress::new(self.hub.settings(), lag_us_max, merge, self.stop.clone(), transcode))
    }

    /// Brings the gauges up to date; the rest is counted where it happens.
    fn observe(&self) {
        let streams = self.hub.list();
        let ring_bytes: usize = streams.iter().map(|stream| stream.ring().bytes()).sum();
        self.metrics.streams.set(i64::try_from(streams.len()).unwrap_or(i64::MAX));
        self.metrics.ring_bytes.set(i64::try_from(ring_bytes).unwrap_or(i64::MAX));
        let late: u64 = streams.iter().map(|stream| stream.stats.take_events_late()).sum();
        self.metrics.events_late.inc_by(late);
    }
}

impl Shard {
    async fn run(self, node: Arc<Node>, quic: quinn::ServerConfig, upstream: Option<Upstream>, schedule: bool) {
        let egress = node.egress();
        let with_admin = node.config.admin.listen == node.config.http.listen;
        let (udp, tcp) = self.webrtc;
        let webrtc = match webrtc::Shard::new(node.clone(), egress.clone(), udp) {
            Ok(webrtc) => Some(webrtc),
            Err(error) => {
                tracing::error!(%error, "WebRTC can't be served");
                None
            }
        };
        if let Some(webrtc) = &webrtc {
            watch("WebRTC", webrtc.clone().run(tcp));
        }
        let serve = |listener, routes| net::http::serve(listener, routes, node.stop.clone(), node.sessions.clone());
        watch("HTTP", serve(self.http, http::viewer_routes(&node, egress.clone(), webrtc, with_admin)));
        if let Some(listener) = self.admin {
            watch("admin HTTP", serve(listener, http::admin_routes(&node)));
        }
        let rtmp = {
            let node = node.clone();
            tcp::accept(self.rtmp, node.stop.clone(), move |stream, peer| {
                node.sessions.track_future(rtmp::session(node.clone(), egress.clone(), stream, peer))
            })
        };
        watch("RTMP", rtmp);
        match relay::listen(node.relay.for_shard(), self.moq, quic) {
            Ok(listener) => {
                drop(task::spawn("MoQ listener", node.sessions.track_future(listener.run(node.stop.clone()))))
            }
            Err(error) => tracing::error!(%error, "MoQ can't be served"),
        }
        if schedule {
            let retention = node.config.events.journal_retention();
            task::spawn("schedule", node.hub.clone().run_schedule(retention, node.stop.clone()));
        }
        if let Some(upstream) = upstream {
            task::spawn("upstream", upstream.run(node.stop.clone()));
        }
        node.stop.cancelled().await;
        node.health.drain();
        node.sessions.close();
        if tokio::time::timeout(limits::DRAIN_TIMEOUT, node.sessions.wait()).await.is_err() {
            tracing::warn!(sessions = node.sessions.len(), "sessions were cut off");
        }
    }
}

/// Runs a listener; its end before the server's is an error that must be seen.
fn watch(what: &'static str, listener: impl Future<Output = std::io::Result<()>> + Send + 'static) {
    task::spawn("listener", async move {
        if let Err(error) = listener.await {
            tracing::error!(%error, "{what} stopped listening");
        }
    });
}

/// Who this node is to its WebRTC peers, until it stops.
fn session_identity() -> Result<webrtc_peer::Identity, StartError> {
    let (certificate, key) = session_certificate()?;
    webrtc_peer::Identity::new(certificate, key).ok_or(StartError::Dtls)
}

/// How long what is ready for viewers waits for more.
fn merge(profile: Profile) -> Merge {
    match profile {
        Profile::Realtime => Merge { audio: limits::SOUND_WAIT_MAX, all: Duration::ZERO },
        Profile::Balanced => Merge { audio: BALANCED, all: BALANCED },
    }
}

/// What `balanced` adds to the latency at most.
const BALANCED: Duration = Duration::from_millis(100);

/// One keeps up with some eighty streams, each with another sound for its viewers.
const TRANSCODE_THREADS: usize = 1;

/// In the data directory.
const JOURNAL_FILE: &str = "events.redb";

#[cfg(test)]
mod tests;
