//! A MoQ client: what an edge reads its upstream with, and `hawker watch`.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use quinn::{Endpoint, EndpointConfig, Runtime, TokioRuntime};
use tokio::{
    net::lookup_host,
    sync::{mpsc, watch},
    time::timeout,
};
use url::Url;
use web_transport_quinn::{RecvStream, SendStream, Session, SessionError, proto::ConnectRequest};

use super::{
    quic,
    send::SendError,
    session::{read, write},
};
use crate::{
    limits::{MOQ_CONNECT_TIMEOUT, MOQ_SUBSCRIPTION_QUEUE_MAX, MOQ_UPSTREAM_RECEIVE_WINDOW_BYTES},
    net::tls::{Identity, TlsError, Trust},
    proto::moq::{
        lite05::{
            self, ALPN, AnnounceBroadcast, AnnounceOk, AnnounceRequest, DataEvent, DataStream, Request, Setup,
            Subscribe, SubscribeReply, session_code, stream_code,
        },
        varint::WireError,
    },
    task,
};

/// Why a server could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not one of a MoQ server.
    #[error("{0}: not a MoQ address (moqt://host:port/path or https://host:port/path)")]
    Url(String),
    /// Its name has no address.
    #[error("can't resolve {host}: {error}")]
    Resolve {
        /// The host.
        host: String,
        /// Why.
        error: io::Error,
    },
    /// No socket of ours.
    #[error("can't open a UDP socket: {0}")]
    Socket(#[from] io::Error),
    /// Our certificates are unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address can't be dialled.
    #[error("{0}")]
    Dial(#[from] quinn::ConnectError),
    /// The handshake failed.
    #[error("{0}")]
    Quic(#[from] quinn::ConnectionError),
    /// The server refused the WebTransport session.
    #[error("{0}")]
    WebTransport(#[from] web_transport_quinn::ClientError),
    /// The server speaks none of our dialects.
    #[error("the server doesn't speak {ALPN}")]
    Dialect,
    /// It closed at once.
    #[error("{0}")]
    Closed(#[from] SendError),
    /// It didn't answer.
    #[error("no answer within {} ms", MOQ_CONNECT_TIMEOUT.as_millis())]
    Timeout,
}

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The next frame of a group. Groups may come out of order and interleaved.
    Frame {
        /// The group's sequence.
        group: u64,
        /// In the track's timescale.
        timestamp: i64,
        /// The frame.
        payload: Bytes,
    },
    /// Nothing more will come of this group.
    GroupEnd {
        /// The group's sequence.
        group: u64,
        /// All of it came; otherwise it was cut off.
        complete: bool,
    },
}

type Subscriptions = Arc<Mutex<HashMap<u64, mpsc::Sender<Received>>>>;

/// A session with a server.
pub struct Client {
    session: Session,
    endpoint: Endpoint,
    subscriptions: Subscriptions,
    next_id: AtomicU64,
    hop: u64,
    goaway: watch::Receiver<bool>,
}

impl Client {
    /// Connects: WebTransport for `https`, raw QUIC for `moqt`. `hop` is our id in hop chains, 0 for none.
    pub async fn connect(url: &Url, trust: &Trust, hop: u64) -> Result<Self, ConnectError> {
        Self::connect_with_window(url, trust, hop, MOQ_UPSTREAM_RECEIVE_WINDOW_BYTES).await
    }

    /// The same, for one that takes no more than so many bytes unread.
    pub async fn connect_with_window(
        url: &Url,
        trust: &Trust,
        hop: u64,
        window_bytes: u32,
    ) -> Result<Self, ConnectError> {
        Self::connect_on(Arc::new(TokioRuntime), url, trust, None, hop, window_bytes).await
    }

    /// The same with another runtime's sockets and timers, by one who shows `identity` if he has one.
    pub(super) async fn connect_on(
        runtime: Arc<dyn Runtime>,
        url: &Url,
        trust: &Trust,
        identity: Option<&Identity>,
        hop: u64,
        window_bytes: u32,
    ) -> Result<Self, ConnectError> {
        let connecting = timeout(MOQ_CONNECT_TIMEOUT, dial(runtime, url, trust, identity, hop, window_bytes));
        let (endpoint, session) = connecting.await.map_err(|_| ConnectError::Timeout)??;
        let subscriptions = Subscriptions::default();
        let (leave, goaway) = watch::channel(false);
        task::spawn("moq client", drive(session.clone(), subscriptions.clone(), leave));
        Ok(Self { session, endpoint, subscriptions, next_id: AtomicU64::new(0), hop, goaway })
    }

    /// Resolves when the session has ended.
    pub async fn closed(&self) -> SessionError {
        self.session.closed().await
    }

    /// Has the session ended?
    pub fn is_closed(&self) -> bool {
        self.session.close_reason().is_some()
    }

    /// How many datagrams came from the server: grows while it lives, since it answers keep-alives.
    pub fn datagrams_received(&self) -> u64 {
        // `Session` has statistics of its own; these are the connection's.
        quinn::Connection::stats(&self.session).udp_rx.datagrams
    }

    /// Resolves when the server wants us to go elsewhere.
    pub async fn goaway(&self) {
        let mut goaway = self.goaway.clone();
        if goaway.wait_for(|leave| *leave).await.is_err() {
            // The session ended without it; that is told elsewhere.
            std::future::pending::<()>().await;
        }
    }

    /// Follows the broadcasts under `prefix`.
    pub async fn announced(&self, prefix: &str) -> Result<Announced, SendError> {
        let (mut send, recv) = self.session.open_bi().await?;
        let request = AnnounceRequest { prefix: prefix.to_owned(), exclude_hop: self.hop };
        write(&mut send, Request::Announce(request).to_bytes()).await?;
        Ok(Announced { _send: send, recv, buffer: BytesMut::new(), hop: None })
    }

    /// Subscribes to a track from `group_start` on, or from its newest group.
    pub async fn subscribe(
        &self,
        broadcast: &str,
        track: &str,
        priority: u8,
        group_start: Option<u64>,
    ) -> Result<Subscription, SendError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, received) = mpsc::channel(MOQ_SUBSCRIPTION_QUEUE_MAX);
        // Before the request: groups may overtake the reply.
        self.subscriptions.lock().insert(id, sender);
        let registered = Registered { id, subscriptions: self.subscriptions.clone() };
        let (mut send, recv) = self.session.open_bi().await?;
        let request = Subscribe {
            id,
            broadcast: broadcast.to_owned(),
            track: track.to_owned(),
            priority,
            max_age_ms: MAX_AGE_MS,
            group_start,
            ..Subscribe::default()
        };
        write(&mut send, Request::Subscribe(request).to_bytes()).await?;
        let (buffer, start, ended) = (BytesMut::new(), None, false);
        Ok(Subscription { received, _send: send, recv, buffer, start, ended, _registered: registered })
    }

    /// Ends the session in order.
    pub async fn close(self) {
        self.session.close(session_code::CANCEL, b"bye");
        let _ = timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle()).await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.session.close(session_code::CANCEL, b"");
    }
}

/// The broadcasts of a server; see [`Client::announced`].
pub struct Announced {
    /// Its end would end the answers.
    _send: SendStream,
    recv: RecvStream,
    buffer: BytesMut,
    /// The server's hop id, once it has said so.
    hop: Option<u64>,
}

impl Announced {
    /// The next change. Hop chains are complete: the server's own id is their last. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<AnnounceBroadcast>, WireError> {
        let hop = match self.hop {
            Some(hop) => hop,
            None => {
                let Some(ok) = read(&mut self.recv, &mut self.buffer, lite05::decode::<AnnounceOk>).await? else {
                    return Ok(None);
                };
                *self.hop.insert(ok.hop)
            }
        };
        let next = read(&mut self.recv, &mut self.buffer, lite05::decode::<AnnounceBroadcast>).await?;
        Ok(next.map(|mut announcement| {
            announcement.hops.extend((hop != 0).then_some(hop));
            announcement
        }))
    }
}

/// A subscription; dropping it ends it.
pub struct Subscription {
    received: mpsc::Receiver<Received>,
    /// Its end would end the subscription.
    _send: SendStream,
    recv: RecvStream,
    buffer: BytesMut,
    /// The group that the server began with, once it has said so.
    start: Option<u64>,
    ended: bool,
    _registered: Registered,
}

impl Subscription {
    /// Waits until the track flows: the group that it begins with; `None` when it has ended before. Cancel safe.
    pub async fn started(&mut self) -> Option<u64> {
        while self.start.is_none() && !self.ended {
            let reply = read(&mut self.recv, &mut self.buffer, SubscribeReply::decode).await;
            self.handle_reply(reply);
        }
        self.start
    }

    /// The group that the track began with here, if the server has said so.
    pub fn start(&self) -> Option<u64> {
        self.start
    }

    /// The next of what the server sends; `None` when the track or the session has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Received> {
        while !self.ended {
            tokio::select! {
                biased;
                reply = read(&mut self.recv, &mut self.buffer, SubscribeReply::decode) => self.handle_reply(reply),
                received = self.received.recv() => return received,
            }
        }
        // Groups may still be on their way; a closed session closes the queue.
        timeout(TAIL_TIMEOUT, self.received.recv()).await.ok().flatten()
    }

    fn handle_reply(&mut self, reply: Result<Option<SubscribeReply>, WireError>) {
        match reply {
            Ok(Some(SubscribeReply::Start { group })) => self.start = Some(group),
            Ok(Some(SubscribeReply::Drop { .. })) => {}
            Ok(Some(SubscribeReply::End { .. }) | None) | Err(_) => self.ended = true,
        }
    }
}

struct Registered {
    id: u64,
    subscriptions: Subscriptions,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.subscriptions.lock().remove(&self.id);
    }
}

async fn dial(
    runtime: Arc<dyn Runtime>,
    url: &Url,
    trust: &Trust,
    identity: Option<&Identity>,
    hop: u64,
    window_bytes: u32,
) -> Result<(Endpoint, Session), ConnectError> {
    let unusable = || ConnectError::Url(format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()));
    let raw = match url.scheme() {
        "https" => false,
        "moqt" | "moq" => true,
        _ => return Err(unusable()),
    };
    let host = url.host_str().ok_or_else(unusable)?.trim_matches(['[', ']']);
    let port = url.port().unwrap_or(if raw { DEFAULT_PORT } else { 443 });
    let address = resolve(host, port).await?;
    let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, runtime)?;
    let protocol = if raw { ALPN } else { web_transport_quinn::ALPN };
    let connection =
        endpoint.connect_with(quic::client(trust, identity, protocol, window_bytes)?, address, host)?.await?;
    let mut setup = Setup { hop, ..Setup::default() };
    let session = if raw {
        setup.path = Some(url[url::Position::BeforePath..url::Position::AfterQuery].to_owned());
        Session::raw(connection)
    } else {
        let session = Session::connect(connection, ConnectRequest::new(url.clone()).with_protocol(ALPN)).await?;
        if session.protocol() != Some(ALPN) {
            return Err(ConnectError::Dialect);
        }
        session
    };
    let mut stream = session.open_uni().await.map_err(SendError::from)?;
    write(&mut stream, setup.to_stream()).await?;
    let _ = stream.finish();
    Ok((endpoint, session))
}

async fn resolve(host: &str, port: u16) -> Result<SocketAddr, ConnectError> {
    let failed = |error| ConnectError::Resolve { host: host.to_owned(), error };
    let mut addresses = lookup_host((host, port)).await.map_err(failed)?;
    addresses.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// Takes what the server opens, until the session ends.
async fn drive(session: Session, subscriptions: Subscriptions, leave: watch::Sender<bool>) {
    let mut streams: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = session.accept_uni() => match accepted {
                Ok(recv) => streams.push(read_group(recv, &subscriptions).boxed()),
                Err(_) => break,
            },
            accepted = session.accept_bi() => match accepted {
                Ok((_send, recv)) => streams.push(read_goaway(recv, &leave).boxed()),
                Err(_) => break,
            },
            Some(()) = streams.next() => {}
        }
    }
    // Whoever waits for frames learns of the end.
    subscriptions.lock().clear();
}

/// GOAWAY is all that a server may open a bidirectional stream for.
async fn read_goaway(mut recv: RecvStream, leave: &watch::Sender<bool>) {
    if let Ok(Some(Request::Goaway(_))) = read(&mut recv, &mut BytesMut::new(), Request::decode).await {
        leave.send_replace(true);
    }
}

/// Reads one group into its subscription's queue. A full queue holds the group back, and so the server.
async fn read_group(mut recv: RecvStream, subscriptions: &Subscriptions) {
    let mut stream = DataStream::default();
    let mut target: Option<(u64, mpsc::Sender<Received>)> = None;
    let complete = loop {
        match stream.poll_event() {
            Ok(Some(DataEvent::Setup(_))) => return,
            Ok(Some(DataEvent::Group(header))) => {
                let Some(queue) = subscriptions.lock().get(&header.subscribe).cloned() else {
                    let _ = recv.stop(stream_code::CANCEL);
                    return;
                };
                target = Some((header.sequence, queue));
            }
            Ok(Some(DataEvent::Frame { timestamp, payload })) => {
                let Some((group, queue)) = &target else { return };
                if queue.send(Received::Frame { group: *group, timestamp, payload }).await.is_err() {
                    let _ = recv.stop(stream_code::CANCEL);
                    return;
                }
            }
            Ok(None) => match recv.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => stream.handle_chunk(&chunk.bytes),
                Ok(None) => break stream.is_at_boundary(),
                Err(_) => break false,
            },
            Err(_) => {
                let _ = recv.stop(stream_code::MALFORMED);
                break false;
            }
        }
    };
    if let Some((group, queue)) = target {
        let _ = queue.send(Received::GroupEnd { group, complete }).await;
    }
}

/// Where MoQ servers listen if the URL doesn't say.
const DEFAULT_PORT: u16 = 4443;

/// Groups that much older than the newest are of no use to us.
const MAX_AGE_MS: u64 = 5000;

/// How long groups may come after the track's end.
const TAIL_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(500);

/// How long an orderly end may take.
const CLOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// Most bytes taken from a group at once.
const READ_BYTES: usize = 64 * 1024;
