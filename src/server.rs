//! Wires the parts into a running server: shards, listeners, and an orderly end.
//!
//! [`Server::bind`] opens every port, so that a taken one is an error before anything runs; [`Server::run`]
//! returns when it was told to stop and the sessions are gone.

mod drain;
mod http;
mod keys;
mod listeners;
mod reload;
mod rtmp;
mod trust;
mod webrtc;

use std::{
    future::{Future, pending},
    net::TcpListener,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::OptionFuture;
use tokio::sync::{Notify, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock,
    config::{self, Config, LoadError, Profile, Role},
    control::{
        api::{self, Api, MoqAddress},
        auth::{Auth, KeyFileError},
        hooks::{HookError, Hooked, Hooks, Rules},
        standby::{OneServes, Other, StandbyError},
    },
    egress::{self, Egress},
    hub::{self, Hub, Journal, Merge, Origin, Patience, Replica, Sharing, Transcode},
    limits,
    media::Keys,
    net::{
        self,
        access::Access,
        descriptors::Descriptors,
        pending::Pending,
        stream::Handshake,
        tcp::{self, BindError},
        tls::{Fingerprint, Identity, TlsError, session_certificate},
    },
    observe::{health::Health, memory, metrics::Metrics},
    proto::webrtc as webrtc_peer,
    relay::{self, EdgeProof, Relay, Steered, Upstream},
    task,
    transcode::Transcoders,
};

use self::{
    keys::EventKeys,
    listeners::{AwaitedPort, Ports, Sockets},
    reload::Reload,
    webrtc::WebRtc,
};
pub use self::{keys::KeyError, listeners::Addresses};

/// What the shards of a node share.
struct Node {
    config: Config,
    hub: Arc<Hub>,
    auth: Arc<Auth>,
    /// Who may do what, the hook's word included: what a session is let in by.
    access: Arc<dyn Access>,
    hooks: Arc<Hooks>,
    metrics: Arc<Metrics>,
    health: Health,
    relay: Arc<Relay>,
    event_keys: Arc<ArcSwap<Keys>>,
    webrtc: WebRtc,
    transcoders: Arc<Transcoders>,
    /// Where viewers wait for their publishers.
    lobby: egress::Lobby,
    pending: Pending,
    handshake: Handshake,
    /// One for all listeners: what it bounds, it bounds for the node.
    api: Arc<Api>,
    /// Cancelled first: nobody new comes in, and who can goes elsewhere.
    drain: CancellationToken,
    drain_secs: AtomicU64,
    /// Cancelled last: sessions wind up.
    stop: CancellationToken,
    /// The sessions that get time to wind up.
    sessions: TaskTracker,
    rtmp: rtmp::Timeouts,
    patience: Patience,
}

/// A server whose ports are open.
pub struct Server {
    node: Arc<Node>,
    ports: Ports,
    tls: Tls,
    identity: Identity,
    reload: Reload,
    /// Where an edge takes its streams from.
    upstream: Option<Upstream>,
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
    /// A file with keys of publishers, viewers or callers can't be used.
    #[error(transparent)]
    Auth(#[from] KeyFileError),
    /// The keys of events can't be had.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The hook can't be called.
    #[error(transparent)]
    Hooks(#[from] HookError),
    /// The other of two nodes can't be called.
    #[error(transparent)]
    Standby(#[from] StandbyError),
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
        Self::open(config, false)
    }

    /// The same beside a process that is about to end, or does already: what only one of them can have, it is waited
    /// for. The journal at once, the QUIC port while this one serves all else.
    pub fn take_over(config: Config) -> Result<Self, StartError> {
        Self::open(config, true)
    }

    fn open(config: Config, take_over: bool) -> Result<Self, StartError> {
        let event_keys = EventKeys::load(&config)?;
        let identity = trust::identity(&config.tls)?;
        let tls = Tls::new(&identity, &config.moq)?;
        let ports = listeners::open(&config, take_over)?;
        let moq_address = MoqAddress { port: ports.addresses.moq.port(), identity: identity.clone() };
        if let Some(data) = config.data_dir.as_ref().filter(|_| take_over) {
            Journal::wait_until_free(&data.join(JOURNAL_FILE))?;
        }
        let node = Arc::new(Node::new(config, moq_address, event_keys)?);
        let upstream = trust::upstream(&node.config.upstream, &node.relay)?;
        let reload = Reload::new(identity.clone(), &node.config.tls);
        Ok(Self { node, ports, tls, identity, reload, upstream })
    }

    /// Where it listens: what port 0 became.
    pub fn addresses(&self) -> Addresses {
        self.ports.addresses
    }

    /// SHA-256 of the certificate that QUIC clients are shown.
    pub fn fingerprint(&self) -> Fingerprint {
        self.identity.fingerprint()
    }

    /// The keys whose events it believes, its own included.
    pub fn event_keys(&self) -> Arc<Keys> {
        self.node.event_keys.load_full()
    }

    /// Tells [`Server::run`] to stop when it is cancelled.
    pub fn stop(&self) -> CancellationToken {
        self.node.drain.clone()
    }

    /// What the configuration was read from: it is read again whenever the value returned is notified.
    pub fn reload_from(&mut self, path: &Path) -> Arc<Notify> {
        self.reload.from(path)
    }

    /// Serves until told to stop; then sessions have `drain_secs` to leave, and the rest is ended.
    pub fn run(self) {
        let (node, mut upstream) = (self.node, self.upstream);
        let Ports { shards: sockets, admin_is_shared, awaited, .. } = self.ports;
        let mut shards = Vec::new();
        for (index, sockets) in sockets.into_iter().enumerate() {
            let shard = Shard {
                node: node.clone(),
                tls: self.tls.clone(),
                sockets,
                admin_is_shared,
                upstream: upstream.take(),
                index,
            };
            let run = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(shard.run()),
                Err(error) => tracing::error!(%error, "a shard could not start"),
            };
            shards.push(thread::Builder::new().name(format!("shard-{index}")).spawn(run));
        }
        node.health.set_listening();
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(async {
                let ports = async {
                    OptionFuture::from(awaited.map(AwaitedPort::wait)).await;
                    pending().await
                };
                tokio::select! {
                    () = self.reload.run(&node) => {}
                    () = ports => {}
                }
                node.drain().await;
            }),
            // Without it nobody would hear that the node has to stop.
            Err(error) => {
                tracing::error!(%error, "the node can't be looked after");
                node.drain.cancel();
                node.stop.cancel();
            }
        }
        for shard in shards {
            // A shard that panicked has said so itself.
            let _ = shard.map(thread::JoinHandle::join);
        }
        tracing::info!("stopped");
    }
}

impl Node {
    fn new(config: Config, moq: MoqAddress, event_keys: EventKeys) -> Result<Self, StartError> {
        let auth = Auth::open(&config.auth, config.data_dir.as_deref())?;
        let metrics = Metrics::new(clock::unix_ms(), config.metrics.stream_label);
        let hooks = Hooks::new(Rules::new(&config.hooks)?, metrics.clone());
        let mut access: Arc<dyn Access> = Hooked::new(auth.clone(), hooks.clone());
        let origin = match (event_keys.signer, &config.data_dir) {
            (Some(signer), Some(data)) => {
                let events = &config.events;
                let commit_seconds = metrics.journal_commit_seconds.clone();
                let (file, bytes_max) = (data.join(JOURNAL_FILE), events.journal_bytes_max);
                let sharing = sharing(&config.standby, &metrics)?;
                let journal = Journal::open_shared(&file, bytes_max, commit_seconds, sharing)?;
                if config.standby.is_shared() {
                    access = OneServes::new(access, journal.clone());
                }
                Some(Origin::new(journal, signer, metrics.clone(), events.rate_per_s, events.burst))
            }
            _ => None,
        };
        let hub = Hub::new(hub_settings(&config), origin);
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let event_keys = Arc::new(ArcSwap::new(event_keys.trusted));
        let api = Arc::new(Api {
            hub: hub.clone(),
            auth: auth.clone(),
            metrics: metrics.clone(),
            moq,
            takes_events: config.role != Role::Edge,
            rundowns: api::RundownsBusy::default(),
            event_streams: Pending::new(limits::EVENT_STREAMS_MAX, limits::EVENT_STREAMS_PER_ADDRESS_MAX),
            stop: drain.clone(),
        });
        let edge_proof = if config.moq.edge_ca.is_some() { EdgeProof::Certificate } else { EdgeProof::Token };
        let patience = Patience::new(config.hub.lag_max());
        let relay = Relay::new(hub.clone(), access.clone(), metrics.clone(), event_keys.clone(), patience, edge_proof);
        let transcoders = Transcoders::start(TRANSCODE_THREADS, &hub.settings(), metrics.clone(), stop.clone())
            .map_err(StartError::Transcode)?;
        Ok(Self {
            relay,
            event_keys,
            webrtc: WebRtc::new(session_identity()?),
            transcoders,
            handshake: Handshake::new(metrics.clone()),
            api,
            auth,
            access,
            hooks,
            metrics,
            health: Health::new(config.role == Role::Edge),
            lobby: egress::Lobby::new(config.hub.wait_publisher()),
            pending: Pending::new(limits::PENDING_CONNECTIONS_MAX, limits::PENDING_CONNECTIONS_PER_ADDRESS_MAX),
            drain,
            drain_secs: config.drain_secs.into(),
            stop,
            sessions: TaskTracker::new(),
            rtmp: rtmp::Timeouts::default(),
            patience,
            hub,
            config,
        })
    }

    /// A shard's muxers for FLV and RTMP.
    fn egress(&self) -> Arc<Egress> {
        let merge = merge(self.config.egress.profile);
        let transcode = Some(Arc::clone(&self.transcoders) as Arc<dyn Transcode>);
        Arc::new(Egress::new(&self.hub.settings(), self.patience, merge, self.stop.clone(), transcode))
    }

    /// Brings the gauges up to date; the rest is counted where it happens.
    fn observe(&self) {
        let streams = self.hub.list();
        let ring_bytes: usize = streams.iter().map(|stream| stream.ring().bytes()).sum();
        self.metrics.streams.set(i64::try_from(streams.len()).unwrap_or(i64::MAX));
        self.metrics.ring_bytes.set(i64::try_from(ring_bytes).unwrap_or(i64::MAX));
        self.metrics.descriptors_left.set(i64::try_from(Descriptors::shared().left()).unwrap_or(i64::MAX));
        let late: u64 = streams.iter().map(|stream| stream.stats.take_events_late()).sum();
        self.metrics.events_late.inc_by(late);
        let switches: u64 = streams.iter().map(|stream| stream.stats.take_switches()).sum();
        self.metrics.publisher_switches.inc_by(switches);
        let standing_by: usize = streams.iter().map(|stream| stream.publishers().standing_by).sum();
        self.metrics.publishers_standing_by.set(i64::try_from(standing_by).unwrap_or(i64::MAX));
    }
}

/// What the listeners with TLS show and accept; all of one certificate.
#[derive(Clone)]
struct Tls {
    quic: quinn::ServerConfig,
    rtmps: Arc<rustls::ServerConfig>,
    https: Arc<rustls::ServerConfig>,
}

impl Tls {
    fn new(identity: &Identity, moq: &config::Moq) -> Result<Self, TlsError> {
        Ok(Self {
            quic: relay::server_config(identity, moq.edge_ca.as_deref())?,
            rtmps: identity.tcp_server(&[])?,
            https: identity.tcp_server(&["http/1.1"])?,
        })
    }
}

/// One thread's part of the server.
struct Shard {
    node: Arc<Node>,
    tls: Tls,
    sockets: Sockets,
    admin_is_shared: bool,
    /// On the first shard of an edge.
    upstream: Option<Upstream>,
    index: usize,
}

impl Shard {
    async fn run(self) {
        let Self { node, tls, sockets, admin_is_shared, upstream, index } = self;
        let egress = node.egress();
        let (udp, tcp) = sockets.webrtc;
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
        // Health checks see the node drain, unless the next one answers them.
        let admin_end = if admin_is_shared { node.drain.clone() } else { node.stop.clone() };
        let admin = sockets.admin.map(|listener| (listener, admin_end));
        node.serve_http(&egress, webrtc, &tls, (sockets.http, sockets.https), admin);
        node.serve_rtmp("RTMP", sockets.rtmp, node.handshake.clone(), &egress);
        if let Some(listener) = sockets.rtmps {
            node.serve_rtmp("RTMPS", listener, node.handshake.with_tls(tls.rtmps), &egress);
        }
        task::spawn("MoQ listener", node.sessions.track_future(node.clone().serve_moq(sockets.moq, tls.quic)));
        if index == 0 {
            let retention = node.config.events.journal_retention();
            if let Some(bytes_max) = node.config.memory_max {
                task::spawn("memory", memory::watch(bytes_max, node.metrics.clone()));
            }
            node.hooks.follow(&node.hub, &node.stop);
            task::spawn("silence", node.hub.clone().run_silence(node.stop.clone()));
            task::spawn("slate", node.hub.clone().run_slate(node.stop.clone()));
            if let Some(journal) = node.hub.journal() {
                task::spawn("standing", leave_when_deposed(journal.clone(), node.drain.clone()));
            }
            task::spawn("schedule", node.hub.clone().run_schedule(retention, node.stop.clone()));
        }
        if let Some(upstream) = upstream {
            task::spawn("upstream", upstream.run(node.stop.clone()));
        }
        node.wind_up().await;
    }
}

impl Node {
    fn serve_http(
        self: &Arc<Self>,
        egress: &Arc<Egress>,
        webrtc: Option<Arc<webrtc::Shard>>,
        tls: &Tls,
        (http, https): (TcpListener, Option<TcpListener>),
        admin: Option<(TcpListener, CancellationToken)>,
    ) {
        let serve = |listener, routes, handshake| {
            let descriptors = Descriptors::shared();
            net::http::serve(listener, routes, handshake, descriptors, self.drain.clone(), self.sessions.clone())
        };
        let with_admin = self.config.admin.listen == self.config.http.listen;
        let routes = http::viewer_routes(self, egress.clone(), webrtc, with_admin);
        if let Some(https) = https {
            watch("HTTPS", serve(https, routes.clone(), self.handshake.with_tls(tls.https.clone())));
        }
        watch("HTTP", serve(http, routes, self.handshake.clone()));
        if let Some((admin, end)) = admin {
            // Places of its own: those of the public listeners may all be taken by strangers.
            let own = Handshake::new(self.metrics.clone());
            let handshake = if self.config.admin.tls { own.with_tls(tls.https.clone()) } else { own };
            let (routes, descriptors) = (http::admin_routes(self), Descriptors::with_reserve());
            let serving = net::http::serve(admin, routes, handshake, descriptors, end, TaskTracker::new());
            watch("admin HTTP", serving);
        }
    }

    async fn serve_moq(self: Arc<Self>, socket: oneshot::Receiver<Steered>, config: quinn::ServerConfig) {
        // If none comes, the node has ended before it had the port.
        let Ok(socket) = socket.await else { return };
        match relay::listen(self.relay.for_shard(), socket, config) {
            Ok(listener) => listener.run(self.drain.clone(), self.stop.clone()).await,
            Err(error) => tracing::error!(%error, "MoQ can't be served"),
        }
    }

    fn serve_rtmp(
        self: &Arc<Self>,
        what: &'static str,
        listener: TcpListener,
        handshake: Handshake,
        egress: &Arc<Egress>,
    ) {
        let (node, egress) = (self.clone(), egress.clone());
        watch(
            what,
            tcp::accept(listener, Descriptors::shared(), self.drain.clone(), move |stream, peer| {
                let (handshake, node, egress) = (handshake.clone(), node.clone(), egress.clone());
                node.sessions.clone().track_future(async move {
                    if let Some(stream) = handshake.accept(stream, peer).await {
                        rtmp::session(node, egress, stream, peer).await;
                    }
                })
            }),
        );
    }
}

/// What the journal is told where two nodes share their events.
fn sharing(config: &config::Standby, metrics: &Metrics) -> Result<Option<Sharing>, StandbyError> {
    if !config.is_shared() {
        return Ok(None);
    }
    let replica = Other::new(config)?.map(|other| Arc::new(other) as Arc<dyn Replica>);
    let gauge = metrics.journal_standby.clone();
    Ok(Some(Sharing { replica, stands_by: config.stand_by, required: config.required, gauge }))
}

/// Ends the node when another one took over while it served: its publishers and edges have to go there. Started
/// again, it stands by.
async fn leave_when_deposed(journal: Arc<Journal>, drain: CancellationToken) {
    journal.standing().comes_to_serve().await;
    journal.standing().stands_by().await;
    tracing::error!("another node took over: this one ends, to stand by when it is started again");
    drain.cancel();
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

fn hub_settings(config: &Config) -> hub::Settings {
    hub::Settings {
        ring_bytes_max: config.hub.ring_bytes_max,
        gops_max: config.hub.gops_max,
        reconnect_window: config.hub.reconnect_window(),
        linger: config.hub.linger(),
        second_publisher: config.ingest.second_publisher,
        standby_after: config.ingest.standby_after(),
        end_on_unpublish: config.ingest.end_on_unpublish,
        slate: config.ingest.slate,
    }
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
