//! An accepted session: announcements and tracks to an edge or a viewer.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Weak, atomic::Ordering},
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use quinn::VarInt;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use url::Url;
use web_transport_quinn::{RecvStream, SendStream, Session, SessionError, WriteError};

use super::{
    EdgeProof, Relay, Track,
    send::{Link, SendError, Sender},
};
use crate::{
    clock,
    hub::{Announcement, State, Viewer},
    limits::{
        MOQ_DRAIN_TIMEOUT, MOQ_EDGE_SEND_WINDOW_BYTES, MOQ_EDGE_STREAMS_MAX, MOQ_SETUP_TIMEOUT, MOQ_VIEWER_STREAMS_MAX,
        VIEWER_STALL_TIMEOUT,
    },
    media::StreamName,
    net::{
        access::{Action, Asked, Grant, GrantOver, shown},
        pending::Place,
    },
    observe::metrics::Protocol,
    proto::moq::{
        lite05::{
            self, AnnounceBroadcast, AnnounceOk, AnnounceRequest, DataEvent, DataStream, Goaway, Request, Setup,
            Subscribe, SubscribeUpdate, TrackRequest, session_code, stream_code,
        },
        varint::WireError,
    },
    task,
};

/// What a session's URL asks for.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Names are below this path; empty for all.
    prefix: String,
    token: Option<String>,
}

impl Target {
    /// From a path and query.
    pub(super) fn parse(path_and_query: &str) -> Option<Self> {
        Self::of(&Url::parse("moqt://localhost").ok()?.join(path_and_query).ok()?)
    }

    /// From a URL. `None` if its path can't be a stream's or a folder of streams.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let prefix = url.path().trim_matches('/').to_owned();
        if !prefix.is_empty() && prefix.parse::<StreamName>().is_err() {
            return None;
        }
        let value =
            |wanted: &str| url.query_pairs().find(|(key, _)| key == wanted).map(|(_, value)| value.into_owned());
        let token = shown(Action::Play, value);
        Some(Self { prefix, token })
    }

    /// The full path of what the peer calls `path`.
    fn full(&self, path: &str) -> String {
        match (self.prefix.as_str(), path.trim_matches('/')) {
            ("", path) => path.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, path) => format!("{prefix}/{path}"),
        }
    }
}

/// Who a peer is, and what he asks for.
pub(super) struct Peering {
    /// His URL.
    pub target: Target,
    /// He showed a certificate that is good for edges.
    pub certified: bool,
}

/// Why a session ended. The text of the first two is for the peer as well.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// It broke the protocol.
    #[error("protocol violation: {0}")]
    Protocol(#[from] WireError),
    /// It did what only a publisher may.
    #[error("viewers don't publish")]
    Published,
    /// It can't be served any more.
    #[error("{0}")]
    Send(#[from] SendError),
    /// It closed, or its connection did.
    #[error("{0}")]
    Closed(#[from] SessionError),
    /// It was let in for so long, or no longer is.
    #[error(transparent)]
    Over(#[from] GrantOver),
    /// It stayed after GOAWAY.
    #[error("drained")]
    Drained,
}

impl Ended {
    fn label(&self) -> &'static str {
        match self {
            Self::Protocol(_) | Self::Published => "protocol",
            Self::Send(SendError::Stalled) => "stalled",
            Self::Send(SendError::Lost(_)) => "events_lost",
            Self::Send(SendError::Session(_)) | Self::Closed(_) => "closed",
            Self::Over(over) => over.label(),
            Self::Drained => "drained",
        }
    }

    fn code(&self) -> u32 {
        match self {
            Self::Protocol(_) | Self::Published => session_code::PROTOCOL_VIOLATION,
            Self::Send(_) | Self::Drained => session_code::GOAWAY_TIMEOUT,
            Self::Over(_) => session_code::UNAUTHORIZED,
            Self::Closed(_) => session_code::CANCEL,
        }
    }
}

struct Peer {
    relay: Arc<Relay>,
    link: Arc<Link>,
    target: Target,
    address: SocketAddr,
    /// An edge sees every stream and may read lines.
    edge: Option<Grant>,
    /// The streams it reads; as many at most as it has subscriptions.
    watching: Mutex<HashMap<StreamName, Weak<Watched>>>,
    /// Held while it is asked whether he may read one, so that it is asked once.
    asking: tokio::sync::Mutex<()>,
}

/// A stream that a peer reads, and what lets him.
struct Watched {
    viewer: Viewer,
    grant: Grant,
}

/// Serves a session until it ends. `place` is its place among those that have not set up.
pub(super) async fn run(relay: Arc<Relay>, session: Session, peering: Peering, place: Place, stop: CancellationToken) {
    let began = clock::now();
    let Peering { target, certified } = peering;
    let address = session.remote_address();
    let by_token = match target.token.as_deref() {
        Some(token) => relay.access.edge(token, address.ip()).await,
        None => Ok(None),
    };
    let by_token = match by_token {
        Ok(by_token) => by_token,
        Err(denied) => {
            relay.metrics.refused("moq_token");
            tracing::debug!(peer = %address, "moq session refused: {denied}");
            session.close(session_code::UNAUTHORIZED, denied.to_string().as_bytes());
            return;
        }
    };
    let has_token = by_token.is_some();
    let grant = match relay.edge_proof {
        EdgeProof::Token => by_token,
        EdgeProof::Certificate => certified.then(Grant::default),
    };
    let edge = grant.is_some();
    if has_token && !edge {
        relay.metrics.refused("edge_certificate");
        tracing::warn!(peer = %address, "an edge shows a token but no certificate");
        session.close(session_code::UNAUTHORIZED, b"an edge needs a certificate here");
        return;
    }
    // Edges wait here for what is announced once this node serves; viewers have somewhere to go.
    if !edge && !relay.access.is_open() {
        session.close(session_code::GOAWAY_TIMEOUT, b"this node stands by");
        return;
    }
    raise_limits(&session, edge);
    drop(place);
    let _present = (!edge).then(|| relay.metrics.viewer(Protocol::Moq));
    let link = Arc::new(Link::new(session));
    let peer =
        Peer { relay, link, target, address, edge: grant, watching: Mutex::default(), asking: Default::default() };
    tracing::info!(peer = %address, edge, path = peer.target.prefix, "moq session began");
    let ended = peer.serve(stop).await;
    peer.link.session.close(ended.code(), ended.to_string().as_bytes());
    peer.relay.metrics.session_ended(Protocol::Moq, ended.label());
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &peer.link.counters;
    tracing::info!(
        peer = %address, edge, path = peer.target.prefix,
        secs = began.elapsed().as_secs(), bytes = count(&counters.bytes), frames = count(&counters.frames),
        events = count(&counters.events), groups = count(&counters.groups),
        groups_reset = count(&counters.groups_reset), frames_skipped = count(&counters.frames_skipped),
        reason = %ended, "moq session ended"
    );
}

fn raise_limits(session: &Session, edge: bool) {
    let streams = VarInt::from_u32(if edge { MOQ_EDGE_STREAMS_MAX } else { MOQ_VIEWER_STREAMS_MAX });
    session.set_max_concurrent_bi_streams(streams);
    if edge {
        session.set_send_window(MOQ_EDGE_SEND_WINDOW_BYTES);
    }
}

impl Peer {
    async fn serve(&self, stop: CancellationToken) -> Ended {
        let mut requests: FuturesUnordered<BoxFuture<'_, Result<(), Ended>>> = FuturesUnordered::new();
        requests.push(self.send_setup().boxed());
        let mut draining = false;
        let mut over = pin!(self.edge.clone().unwrap_or_default().over());
        loop {
            tokio::select! {
                accepted = self.link.session.accept_bi() => match accepted {
                    Ok((send, recv)) => requests.push(self.request(send, recv).boxed()),
                    Err(error) => return error.into(),
                },
                accepted = self.link.session.accept_uni() => match accepted {
                    Ok(recv) => requests.push(self.data(recv).boxed()),
                    Err(error) => return error.into(),
                },
                Some(served) = requests.next() => if let Err(ended) = served {
                    return ended;
                },
                over = &mut over => return over.into(),
                () = stop.cancelled(), if !draining => {
                    draining = true;
                    requests.push(self.drain().boxed());
                }
            }
        }
    }

    async fn send_setup(&self) -> Result<(), Ended> {
        let mut stream = self.link.session.open_uni().await?;
        let setup = Setup { hop: self.relay.routes.hop(), ..Setup::default() };
        write(&mut stream, setup.to_stream()).await?;
        let _ = stream.finish();
        Ok(())
    }

    /// Sends GOAWAY and waits for the peer to leave.
    async fn drain(&self) -> Result<(), Ended> {
        let leaving = async {
            let (mut send, _recv) = self.link.session.open_bi().await?;
            write(&mut send, Request::Goaway(Goaway::default()).to_bytes()).await?;
            let _ = send.finish();
            Err(Ended::Closed(self.link.session.closed().await))
        };
        timeout(MOQ_DRAIN_TIMEOUT, leaving).await.unwrap_or(Err(Ended::Drained))
    }

    /// The peer's unidirectional streams: over WebTransport its SETUP, which says nothing that we act on.
    async fn data(&self, recv: RecvStream) -> Result<(), Ended> {
        match timeout(MOQ_SETUP_TIMEOUT, read_data_head(recv)).await {
            Ok(Ok(Some(DataEvent::Group(_)))) => Err(Ended::Published),
            Ok(Err(SetupError::Wire(error))) if error != WireError::UnknownStream => Err(error.into()),
            // The stream ended or stood still: nobody was served by it.
            _ => Ok(()),
        }
    }

    async fn request(&self, mut send: SendStream, mut recv: RecvStream) -> Result<(), Ended> {
        // Above all media, so that replies never wait behind it.
        let _ = send.set_priority(1);
        let mut buffer = BytesMut::new();
        let request = timeout(MOQ_SETUP_TIMEOUT, read(&mut recv, &mut buffer, Request::decode)).await;
        let request = match request {
            Ok(Err(WireError::UnknownStream)) => {
                // What a newer version asks for, it can do without.
                let _ = send.reset(stream_code::NOT_FOUND);
                return Ok(());
            }
            // A stream that ends or stands still before its request asks for nothing.
            Err(_) | Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(Some(request))) => request,
        };
        match request {
            Request::Announce(request) => self.announce(request, send, recv).await,
            Request::Subscribe(request) => self.subscribe(request, send, recv, buffer).await,
            Request::Track(request) => self.track_info(&request, send).await,
            Request::Fetch(_) => {
                // Groups are kept for readers that follow; old ones are not for sale.
                let _ = send.reset(stream_code::NOT_FOUND);
                Ok(())
            }
            // We advertise no probing, and a peer that leaves needs no answer.
            Request::Probe | Request::Goaway(_) => Ok(()),
        }
    }

    fn may_see(&self, name: &StreamName) -> bool {
        self.edge.is_some() || self.relay.access.may_see(name, self.target.token.as_deref())
    }

    /// The stream and track that the peer names, if it is there and he may see it. Both failures look alike.
    fn find(&self, broadcast: &str, track: &str) -> Option<(StreamName, Track)> {
        let name: StreamName = self.target.full(broadcast).parse().ok()?;
        let track = Track::by_name(track).filter(|track| self.edge.is_some() || *track != Track::Line)?;
        (self.relay.hub.is_announced(&name) && self.may_see(&name)).then_some((name, track))
    }

    /// The peer's hold on a stream. He is one viewer, however many of its tracks he reads.
    async fn watch(&self, name: &StreamName) -> Option<Arc<Watched>> {
        if let Some(watched) = self.watched(name) {
            return Some(watched);
        }
        let _asking = self.asking.lock().await;
        // Another of his subscriptions may have been let in meanwhile.
        if let Some(watched) = self.watched(name) {
            return Some(watched);
        }
        let (peer, secret) = (self.address, self.target.token.as_deref());
        let asked = Asked { action: Action::Play, stream: name, protocol: Protocol::Moq, peer, secret };
        let grant = match &self.edge {
            Some(grant) => grant.clone(),
            None => self.relay.access.ask(asked).await.ok()?,
        };
        let watched = Arc::new(Watched { viewer: self.relay.hub.view(name).ok()?, grant });
        self.watching.lock().insert(name.clone(), Arc::downgrade(&watched));
        Some(watched)
    }

    fn watched(&self, name: &StreamName) -> Option<Arc<Watched>> {
        let mut watching = self.watching.lock();
        watching.retain(|_, watched| watched.strong_count() > 0);
        let known = watching.get(name).and_then(Weak::upgrade);
        known.filter(|watched| watched.viewer.stream().state() != State::Ended)
    }

    async fn track_info(&self, request: &TrackRequest, mut send: SendStream) -> Result<(), Ended> {
        let Some((_, track)) = self.find(&request.broadcast, &request.track) else {
            let _ = send.reset(stream_code::NOT_FOUND);
            return Ok(());
        };
        let mut reply = Vec::new();
        lite05::encode(&track.info(), &mut reply);
        write(&mut send, reply).await?;
        let _ = send.finish();
        Ok(())
    }

    async fn subscribe(
        &self,
        request: Subscribe,
        mut send: SendStream,
        mut recv: RecvStream,
        mut buffer: BytesMut,
    ) -> Result<(), Ended> {
        let found = self.find(&request.broadcast, &request.track);
        if let (Some((name, Track::Line)), Some(group)) = (&found, request.group_start)
            && let Some(stream) = self.relay.hub.get(name)
        {
            // Before he counts as a viewer, for whom it is pulled.
            stream.want_group(group);
        }
        let watched = match &found {
            Some((name, track)) => self.watch(name).await.map(|watched| (watched, *track)),
            None => None,
        };
        let Some((watched, track)) = watched else {
            let _ = send.reset(stream_code::NOT_FOUND);
            return Ok(());
        };
        let Watched { viewer, grant } = &*watched;
        let muxed = self.relay.muxers.attach(track, viewer.stream());
        // Events and patches are never too old, nor is the sound that an edge fetches for a group's first picture.
        let is_whole = matches!(track, Track::Events | Track::State) || self.edge.is_some() && track == Track::Audio;
        let cursor = muxed.cursor((!is_whole).then(|| self.relay.patience.lag_us_max()));
        let cursor = match request.group_start {
            Some(group) => cursor.from_group(group),
            None => cursor,
        };
        let metrics = self.relay.metrics.stream(viewer.stream().name().as_str());
        let delivery = self.relay.metrics.delivery(Protocol::Moq);
        let sender = Sender::new(self.link.clone(), request.id, track, self.relay.patience, metrics, delivery);
        let (ended, sending) = oneshot::channel();
        // A task of its own: a frame wakes this alone, not all that the session waits for.
        let _sender = AbortOnDropHandle::new(task::spawn("moq subscription", async move {
            let _ = ended.send(sender.run(cursor, send).await);
        }));
        let unsubscribed = async {
            // Updates change priorities and bounds that we choose ourselves; only the end matters.
            while let Ok(Some(_)) = read(&mut recv, &mut buffer, lite05::decode::<SubscribeUpdate>).await {}
        };
        tokio::select! {
            // Without an answer it panicked, and has said so.
            ended = sending => ended.unwrap_or(Ok(()))?,
            // What he was let in with is his whole session's.
            over = grant.over() => return Err(over.into()),
            () = unsubscribed => {}
        }
        Ok(())
    }

    async fn announce(
        &self,
        request: AnnounceRequest,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), Ended> {
        let prefix = self.target.full(&request.prefix);
        let mut told = Told::new();
        let mut announcements = self.relay.hub.announcements();
        let mut routes = self.relay.routes.changes();
        let first = announcements.next().now_or_never().unwrap_or_default();
        let first = self.announcements(first, &prefix, request.exclude_hop, &mut told);
        let mut reply = Vec::new();
        lite05::encode(&AnnounceOk { hop: self.relay.routes.hop(), active: first.len() as u64 }, &mut reply);
        first.iter().for_each(|announcement| lite05::encode(announcement, &mut reply));
        write(&mut send, reply).await?;
        let mut nothing = [0; 1];
        loop {
            let announcements = tokio::select! {
                changes = announcements.next() => {
                    self.announcements(changes, &prefix, request.exclude_hop, &mut told)
                }
                _ = routes.changed(), if self.edge.is_some() => self.reroutes(&prefix, request.exclude_hop, &mut told),
                // Nothing more is to come from the subscriber but the end.
                _ = recv.read(&mut nothing) => return Ok(()),
            };
            let mut reply = Vec::new();
            announcements.iter().for_each(|announcement| lite05::encode(announcement, &mut reply));
            if !reply.is_empty() {
                write(&mut send, reply).await?;
            }
        }
    }

    /// What of the hub's changes the peer is told.
    fn announcements(
        &self,
        changes: Vec<Announcement>,
        prefix: &str,
        exclude_hop: u64,
        told: &mut Told,
    ) -> Vec<AnnounceBroadcast> {
        let mut out = Vec::new();
        for change in changes {
            match change {
                Announcement::Active(name) if name.is_under(prefix) && self.may_see(&name) => {
                    let hops = self.relay.routes.chain(&name);
                    let passed = exclude_hop != 0 && hops.contains(&exclude_hop);
                    if !passed {
                        out.push(AnnounceBroadcast { active: true, suffix: suffix(&name, prefix), hops: hops.clone() });
                    }
                    told.insert(name, (!passed).then_some(hops));
                }
                Announcement::Ended(name) if told.remove(&name).flatten().is_some() => {
                    let suffix = suffix(&name, prefix);
                    out.push(AnnounceBroadcast { active: false, suffix, hops: Vec::new() });
                }
                _ => {}
            }
        }
        out
    }

    /// What an edge is told of streams that come another way now. If that leads through the edge itself, it sees so
    /// by its own hop: the stream has not ended, but is not to be had here.
    fn reroutes(&self, prefix: &str, exclude_hop: u64, told: &mut Told) -> Vec<AnnounceBroadcast> {
        let mut out = Vec::new();
        for (name, chain) in told {
            let hops = self.relay.routes.chain(name);
            let news = match chain {
                Some(chain) => *chain != hops,
                None => !hops.contains(&exclude_hop),
            };
            if news {
                *chain = Some(hops.clone());
                out.push(AnnounceBroadcast { active: true, suffix: suffix(name, prefix), hops });
            }
        }
        out
    }
}

/// The streams that a peer might know, with the chain that he was told; none where that leads through himself.
type Told = BTreeMap<StreamName, Option<Vec<u64>>>;

/// A name as the peer knows it.
fn suffix(name: &StreamName, prefix: &str) -> String {
    name.as_str().get(prefix.len()..).unwrap_or_default().trim_matches('/').to_owned()
}

/// Why a peer's SETUP was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    /// It is none.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// Another stream than SETUP came first.
    #[error("SETUP must come first")]
    NotFirst,
    /// The connection went away before it came.
    #[error("closed before SETUP")]
    Closed,
}

/// Waits for the peer's SETUP, which must be its first unidirectional stream.
pub(super) async fn read_setup(session: &Session) -> Result<Setup, SetupError> {
    let recv = session.accept_uni().await.map_err(|_| SetupError::Closed)?;
    match read_data_head(recv).await? {
        Some(DataEvent::Setup(setup)) => Ok(setup),
        Some(_) => Err(SetupError::NotFirst),
        None => Err(SetupError::Closed),
    }
}

/// The first thing a unidirectional stream says.
async fn read_data_head(mut recv: RecvStream) -> Result<Option<DataEvent>, SetupError> {
    let mut stream = DataStream::default();
    loop {
        if let Some(event) = stream.poll_event()? {
            return Ok(Some(event));
        }
        match recv.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => stream.handle_chunk(&chunk.bytes),
            _ => return Ok(None),
        }
    }
}

/// Reads until `decode` has what it wants; `None` if the stream ends or is reset before. The decoder bounds
/// what is buffered.
pub(super) async fn read<T>(
    recv: &mut RecvStream,
    buffer: &mut BytesMut,
    decode: impl Fn(&mut BytesMut) -> Result<Option<T>, WireError>,
) -> Result<Option<T>, WireError> {
    loop {
        if let Some(message) = decode(buffer)? {
            return Ok(Some(message));
        }
        match recv.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}

/// Writes a control message. A peer that doesn't take it is as good as gone.
pub(super) async fn write(stream: &mut SendStream, bytes: Vec<u8>) -> Result<(), SendError> {
    match timeout(VIEWER_STALL_TIMEOUT, stream.write_chunk(Bytes::from(bytes))).await {
        Ok(Err(WriteError::SessionError(error))) => Err(error.into()),
        // He stopped this stream alone; what reads it finds its end.
        Ok(_) => Ok(()),
        Err(_) => Err(SendError::Stalled),
    }
}

/// Most bytes taken from a control stream at once.
const READ_BYTES: usize = 4096;
