//! RTMP connections: who he is first, then a publisher's or a viewer's session.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    time::{sleep, timeout},
};

mod inband;

use self::inband::InBandEvents;
use super::Node;
use crate::{
    clock,
    config::Role,
    egress::{self, Carriage, Egress, Extras, Outlet, Session, SessionLog, Undelivered},
    hub::{Claim, Replaced, Viewer},
    ingest::rtmp::{Counters, TagIngest},
    limits,
    media::StreamName,
    net::{
        access::{Action, Asked, Denied, Grant, GrantOver, shown},
        pending::Place,
        stream::Stream,
    },
    observe::metrics::Protocol,
    proto::rtmp::{ServerEvent, ServerSession, SessionError, StreamRequest},
};

/// Why a connection ended, in the words of logs and metrics.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("peer closed")]
    PeerClosed,
    #[error("network: {0}")]
    Network(#[from] io::Error),
    #[error("protocol: {0}")]
    Protocol(#[from] SessionError),
    #[error(transparent)]
    Replaced(#[from] Replaced),
    #[error(transparent)]
    Over(#[from] GrantOver),
    #[error("no request in time")]
    SetupTimeout,
    #[error("silent")]
    Silent,
    #[error("no media in time")]
    NoMedia,
    #[error("{0}")]
    Refused(&'static str),
    #[error("{0}")]
    Line(&'static str),
    #[error("stalled: took no byte for too long")]
    Stalled,
    #[error("unpublished")]
    Unpublished,
    #[error("server stops")]
    Stopping,
}

impl End {
    /// The metric's label: bounded, so without details.
    fn label(&self) -> &'static str {
        match self {
            Self::PeerClosed => "peer closed",
            Self::Network(_) => "network",
            Self::Protocol(_) => "protocol",
            Self::Replaced(_) => "replaced",
            Self::Over(over) => over.label(),
            Self::Stalled => "stalled",
            Self::SetupTimeout => "setup timeout",
            Self::Silent => "silent",
            Self::NoMedia => "no media",
            Self::Refused(reason) | Self::Line(reason) => reason,
            Self::Unpublished => "unpublished",
            Self::Stopping => "server stops",
        }
    }
}

impl From<Undelivered> for End {
    fn from(why: Undelivered) -> Self {
        match why {
            Undelivered::Line(end) => Self::Line(egress::reason(end)),
            Undelivered::Over(over) => over.into(),
            Undelivered::Stopping => Self::Stopping,
            Undelivered::Stalled => Self::Stalled,
            Undelivered::Network(error) => error.into(),
        }
    }
}

/// How long a session waits for its peer.
#[derive(Debug, Clone)]
pub(super) struct Timeouts {
    first_byte: Duration,
    setup: Duration,
    first_media: Duration,
    publisher_silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: limits::RTMP_FIRST_BYTE_TIMEOUT,
            setup: limits::RTMP_SETUP_TIMEOUT,
            first_media: limits::FIRST_MEDIA_TIMEOUT,
            publisher_silence: limits::RTMP_PUBLISHER_SILENCE_MAX,
        }
    }
}

/// A connection from its first byte to its last.
pub(super) async fn session(node: Arc<Node>, egress: Arc<Egress>, stream: Stream, peer: SocketAddr) {
    let Some(place) = node.pending.admit_silent(peer.ip()) else {
        node.metrics.refused("pending connections");
        return;
    };
    let mut link = Link::new(stream);
    if let Err(end) = serve(&node, &egress, &mut link, peer, place).await {
        // Publishers and viewers have last lines of their own; this one is for whoever became neither.
        node.metrics.refused(end.label());
        node.metrics.session_ended(Protocol::Rtmp, end.label());
        tracing::info!(protocol = "rtmp", %peer, reason = %end, "not accepted");
    }
}

/// Learns what the peer wants and does it. `Err` if it never got that far.
async fn serve(node: &Node, egress: &Egress, link: &mut Link, peer: SocketAddr, place: Place) -> Result<(), End> {
    let request = async {
        if !link.stream.spoke(&place, node.rtmp.first_byte).await {
            return Err(End::Silent);
        }
        timeout(node.rtmp.setup, link.request()).await.map_err(|_| End::SetupTimeout)?
    };
    let request = tokio::select! {
        request = request => request?,
        () = node.stop.cancelled() => return Err(End::Stopping),
    };
    // Boxed: what comes after the request is not part of what a silent stranger costs.
    match request {
        Request::Publish(request) => Box::pin(serve_publish(node, link, peer, place, request)).await,
        Request::Play(request) => Box::pin(serve_play(node, egress, link, peer, place, request)).await,
    }
}

async fn serve_publish(
    node: &Node,
    link: &mut Link,
    peer: SocketAddr,
    place: Place,
    request: StreamRequest,
) -> Result<(), End> {
    let (ingest, grant) = authorise_publish(node, link, peer, &request).await?;
    drop(place);
    publish(node, link, peer, ingest, grant).await;
    Ok(())
}

async fn serve_play(
    node: &Node,
    egress: &Egress,
    link: &mut Link,
    peer: SocketAddr,
    place: Place,
    request: StreamRequest,
) -> Result<(), End> {
    let (viewer, grant) = authorise_play(node, link, peer, &request).await?;
    drop(place);
    let extras = Extras::of(|key| request.query.get(key));
    play(node, egress, link, peer, viewer, grant, extras).await;
    Ok(())
}

/// What a peer asked for.
enum Request {
    Publish(StreamRequest),
    Play(StreamRequest),
}

fn stream_name(request: &StreamRequest) -> Option<StreamName> {
    format!("{}/{}", request.app, request.name).parse().ok()
}

async fn authorise_publish(
    node: &Node,
    link: &mut Link,
    peer: SocketAddr,
    request: &StreamRequest,
) -> Result<(TagIngest, Grant), End> {
    if node.config.role == Role::Edge {
        return link.refuse(PUBLISH_BAD_NAME, EDGE).await;
    }
    let Some(name) = stream_name(request) else {
        return link.refuse(PUBLISH_BAD_NAME, BAD_NAME).await;
    };
    let key = shown(Action::Publish, |key| request.query.get(key));
    let grant = match ask(node, Action::Publish, &name, peer, key.as_deref()).await {
        Ok(grant) => grant,
        Err(denied) => return link.refuse(PUBLISH_BAD_NAME, why(denied, WRONG_KEY)).await,
    };
    if name.is_global() {
        return link.refuse(PUBLISH_BAD_NAME, "that name stands for all rooms").await;
    }
    match node.hub.publish_as(&name, Claim { priority: grant.priority }) {
        Ok(publisher) => {
            link.session.accept_publish()?;
            Ok((TagIngest::new(publisher, grant.events), grant))
        }
        Err(unseated) => link.refuse(PUBLISH_BAD_NAME, unseated.as_str()).await,
    }
}

async fn ask(
    node: &Node,
    action: Action,
    stream: &StreamName,
    peer: SocketAddr,
    secret: Option<&str>,
) -> Result<Grant, Denied> {
    node.access.ask(Asked { action, stream, protocol: Protocol::Rtmp, peer, secret }).await
}

/// What he is told; `wrong` of his key or token.
fn why(denied: Denied, wrong: &'static str) -> &'static str {
    match denied {
        Denied::NoSecret | Denied::Wrong => wrong,
        Denied::Full => IN_USE,
        Denied::Refused => REFUSED,
        Denied::Undecided => UNDECIDED,
        Denied::StandsBy => STANDS_BY,
    }
}

async fn publish(node: &Node, link: &mut Link, peer: SocketAddr, mut ingest: TagIngest, grant: Grant) {
    let name = ingest.stream().name().clone();
    let _present = node.metrics.publisher(Protocol::Rtmp);
    let stream = node.metrics.stream(name.as_str());
    let began = clock::now();
    tracing::info!(protocol = "rtmp", stream = %name, %peer, encoder = link.software, "publisher connected");
    let mut events = InBandEvents::new(node.hub.clone(), node.metrics.clone(), name.clone(), peer);
    // One message a wake is the rule: what is waited for beside it is set up once.
    let (mut replaced, mut stopping) = (pin!(ingest.replaced()), pin!(node.stop.cancelled()));
    let (mut over, mut rate) = (pin!(grant.over()), grant.rate(began));
    let (mut silence, mut heard) = (pin!(sleep(node.rtmp.first_media.min(node.rtmp.publisher_silence))), began);
    let end = loop {
        let before = ingest.counters();
        let handled = handle_published(node, link, &mut ingest, &mut events);
        let now = ingest.counters();
        stream.frames_in.inc_by(now.video_frames + now.audio_frames - before.video_frames - before.audio_frames);
        stream.bytes_in.inc_by(now.bytes - before.bytes);
        if let Err(end) = handled.and(rate.take(now.bytes - before.bytes, heard).map_err(End::from)) {
            break end;
        }
        tokio::select! {
            biased;
            received = link.receive() => match received {
                Ok(()) => {
                    let now = clock::now();
                    link.session.handle_time(now - heard);
                    heard = now;
                }
                Err(end) => break end,
            },
            replaced = &mut replaced => break End::Replaced(replaced),
            over = &mut over => break End::Over(over),
            () = &mut stopping => break End::Stopping,
            () = &mut silence => {
                let (due, end) = match now.video_frames + now.audio_frames {
                    0 => (began + node.rtmp.first_media, End::NoMedia),
                    _ => (heard + node.rtmp.publisher_silence, End::Silent),
                };
                if due <= clock::now() {
                    break end;
                }
                silence.as_mut().reset(due);
            }
        }
    };
    let Counters { video_frames, audio_frames, bytes, data, events, undescribed } = ingest.counters();
    node.metrics.session_ended(Protocol::Rtmp, end.label());
    tracing::info!(
        protocol = "rtmp", stream = %name, %peer, reason = %end, secs = began.elapsed().as_secs_f32(),
        codecs = ingest.codecs(), video_frames, audio_frames, bytes, data, events, undescribed,
        "publisher gone"
    );
    // At once: he may take a while to read our last words, and viewers would have a stream without pictures.
    match end {
        End::Unpublished => ingest.end(),
        _ => drop(ingest),
    }
    match end {
        End::Replaced(_) => link.say(PUBLISH_BAD_NAME, REPLACED),
        End::Over(over) => link.say(PUBLISH_BAD_NAME, &over.to_string()),
        // If even that doesn't fit into his queue, closing says enough.
        End::Stopping => drop(link.session.request_reconnect(None, GOING)),
        _ => {}
    }
    link.close().await;
}

/// What the publisher has said so far.
fn handle_published(
    node: &Node,
    link: &mut Link,
    ingest: &mut TagIngest,
    events: &mut InBandEvents,
) -> Result<(), End> {
    while let Some(event) = link.session.poll_event() {
        match event {
            ServerEvent::Media { timestamp, tag } => ingest.handle_tag(timestamp, tag)?,
            ServerEvent::Metadata(metadata) => ingest.handle_metadata(metadata)?,
            ServerEvent::Data { amf0, .. } => ingest.handle_data(amf0)?,
            ServerEvent::Closed => return Err(End::Unpublished),
            _ => {}
        }
        events.forward(ingest);
        if let Some(said) = ingest.poll_anchor()
            && !ingest.set_clock(said)
        {
            node.metrics.refused("clock anchor");
        }
    }
    Ok(())
}

async fn authorise_play(
    node: &Node,
    link: &mut Link,
    peer: SocketAddr,
    request: &StreamRequest,
) -> Result<(Viewer, Grant), End> {
    let Some(name) = stream_name(request) else {
        return link.refuse(PLAY_NOT_FOUND, BAD_NAME).await;
    };
    // It has events and no pictures: nothing that a player could show.
    if name.is_global() {
        return link.refuse(PLAY_NOT_FOUND, NOBODY).await;
    }
    let token = shown(Action::Play, |key| request.query.get(key));
    let grant = match ask(node, Action::Play, &name, peer, token.as_deref()).await {
        Ok(grant) => grant,
        Err(denied) => return link.refuse(PLAY_FAILED, why(denied, NEEDS_TOKEN)).await,
    };
    match node.hub.view(&name) {
        Ok(viewer) => Ok((viewer, grant)),
        Err(_) => link.refuse(PLAY_FAILED, FULL).await,
    }
}

async fn play(
    node: &Node,
    egress: &Egress,
    link: &mut Link,
    peer: SocketAddr,
    viewer: Viewer,
    grant: Grant,
    extras: Extras,
) {
    let mut log = SessionLog::begin(&node.metrics, Carriage::Rtmp.protocol(), viewer.stream().name(), peer);
    let end = tokio::select! {
        came = node.lobby.wait(&viewer, peer.ip()) => came.err().map(|nobody| End::Refused(nobody.as_str())),
        end = link.end() => Some(end),
        over = grant.over() => Some(over.into()),
        () = node.stop.cancelled() => Some(End::Stopping),
    };
    if let Some(end) = end {
        log.ends(end.label());
        if let End::Refused(reason) = end {
            node.metrics.refused(reason);
            link.say(PLAY_NOT_FOUND, reason);
        }
        return link.close().await;
    }
    // Boxed: whoever waits for a publisher doesn't need it yet.
    let end = Box::pin(async {
        let mut session = Session::join(egress, viewer, Carriage::Rtmp, extras);
        tokio::select! {
            end = play_on(node, link, &mut session, &mut log) => end,
            over = grant.over() => over.into(),
        }
    });
    let end = end.await;
    log.ends(end.label());
    // Our last words may take a while.
    drop(log);
    if let End::Line(_) = end {
        // If even that doesn't fit into his queue, closing says enough.
        let _ = link.session.end_play(end.label());
    }
    link.close().await;
}

async fn play_on(node: &Node, link: &mut Link, session: &mut Session, log: &mut SessionLog) -> End {
    if let Err(error) = link.session.accept_play() {
        return error.into();
    }
    let Link { stream, session: protocol, out: half_written, .. } = link;
    let mut half_written = Some(half_written.split().freeze());
    let (mut drained, mut told) = (pin!(node.drain.cancelled()), false);
    let peer = |cx: &mut Context<'_>, stream: &mut Stream, out: &mut Outlet| {
        if !told && drained.as_mut().poll(cx).is_ready() {
            told = true;
            // Who can't, or doesn't listen, stays until the node stops.
            let _ = protocol.request_reconnect(None, GOING);
        }
        // All that was said before the first tag goes before it.
        if let Some(bytes) = half_written.take() {
            out.push([bytes].into());
            answer(protocol, out);
        }
        poll_said(cx, stream, protocol, out)
    };
    egress::deliver(stream, session, log, peer).await
}

/// Listens to a viewer, and puts the answers between the tags. Ready with his end.
fn poll_said(cx: &mut Context<'_>, stream: &mut Stream, session: &mut ServerSession, out: &mut Outlet) -> Poll<End> {
    loop {
        // Until he takes what he was sent, answers wait in the session, which bounds them.
        if out.is_empty() {
            answer(session, out);
        }
        while let Some(event) = session.poll_event() {
            if event == ServerEvent::Closed {
                return Poll::Ready(End::PeerClosed);
            }
        }
        match ready!(poll_receive(cx, stream, session)) {
            Ok(()) => {}
            Err(End::Network(error)) => return Poll::Ready(Undelivered::from(error).into()),
            Err(end) => return Poll::Ready(end),
        }
    }
}

fn answer(session: &mut ServerSession, out: &mut Outlet) {
    while let Some(bytes) = session.poll_output() {
        out.push([bytes].into());
    }
}

/// Takes what the socket has. The buffer is on the stack of one poll: a peer that is waited for has none.
fn poll_receive(
    cx: &mut Context<'_>,
    reader: &mut (impl AsyncRead + Unpin),
    session: &mut ServerSession,
) -> Poll<Result<(), End>> {
    let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
    let mut buffer = ReadBuf::uninit(&mut bytes);
    ready!(Pin::new(reader).poll_read(cx, &mut buffer))?;
    Poll::Ready(match buffer.filled() {
        [] => Err(End::PeerClosed),
        received => session.handle_bytes(received).map_err(End::from),
    })
}

/// A socket and the protocol on it.
struct Link {
    stream: Stream,
    session: ServerSession,
    /// What the session said and the socket has not taken yet.
    out: BytesMut,
    /// The peer's software, as it calls itself.
    software: String,
}

impl Link {
    fn new(stream: Stream) -> Self {
        Self { stream, session: ServerSession::new(), out: BytesMut::new(), software: String::new() }
    }

    /// The next thing the peer says. Cancel safe: what is half written stays in `out`.
    async fn event(&mut self) -> Result<ServerEvent, End> {
        loop {
            self.flush().await?;
            if let Some(event) = self.session.poll_event() {
                return Ok(event);
            }
            self.receive().await?;
        }
    }

    /// The peer's end, whatever else he says.
    async fn end(&mut self) -> End {
        loop {
            match self.event().await {
                Ok(ServerEvent::Closed) => return End::PeerClosed,
                Ok(_) => {}
                Err(end) => return end,
            }
        }
    }

    /// Takes what the socket has, once it has something; what there is to say goes out first. Cancel safe.
    async fn receive(&mut self) -> Result<(), End> {
        self.flush().await?;
        poll_fn(|cx| poll_receive(cx, &mut self.stream, &mut self.session)).await
    }

    /// Writes all that the session has to say.
    async fn flush(&mut self) -> io::Result<()> {
        loop {
            while let Some(bytes) = self.session.poll_output() {
                self.out.extend_from_slice(&bytes);
            }
            if self.out.is_empty() {
                // A handshake was in it: whoever waits keeps no room for another.
                if self.out.capacity() > OUT_BYTES_KEPT {
                    self.out = BytesMut::new();
                }
                return self.stream.flush().await;
            }
            self.stream.write_buf(&mut self.out).await?;
        }
    }

    /// The peer's wish to publish or play.
    async fn request(&mut self) -> Result<Request, End> {
        loop {
            match self.event().await? {
                ServerEvent::Connect(info) => self.software = info.flash_ver,
                ServerEvent::PublishRequest(request) => return Ok(Request::Publish(request)),
                ServerEvent::PlayRequest { request, .. } => return Ok(Request::Play(request)),
                ServerEvent::Closed => return Err(End::PeerClosed),
                _ => {}
            }
        }
    }

    /// An error status. If even that doesn't fit into the peer's queue, closing says enough.
    fn say(&mut self, code: &str, reason: &str) {
        let _ = self.session.reject(code, reason);
    }

    async fn refuse<T>(&mut self, code: &str, reason: &'static str) -> Result<T, End> {
        self.say(code, reason);
        self.close().await;
        Err(End::Refused(reason))
    }

    /// Lets the peer read our last words: a socket closed over unread input would reset them away.
    async fn close(&mut self) {
        let last_words = async {
            self.flush().await?;
            self.stream.shutdown().await?;
            let mut rest = [0; 512];
            while self.stream.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // Whatever fails here, the connection is over.
        let _ = timeout(limits::RTMP_CLOSE_TIMEOUT, last_words).await;
    }
}

/// Room for what a peer is told now and then.
const OUT_BYTES_KEPT: usize = 512;

/// Taken from the socket at once.
const READ_BYTES: usize = 16 * 1024;

/// The codes that OBS and ffmpeg take for an answer; with others they try again for ever.
const PUBLISH_BAD_NAME: &str = "NetStream.Publish.BadName";
const PLAY_NOT_FOUND: &str = "NetStream.Play.StreamNotFound";
const PLAY_FAILED: &str = "NetStream.Play.Failed";

const BAD_NAME: &str = "bad stream name: 1 to 8 segments of A-Z a-z 0-9 _ - joined by '/'";
const WRONG_KEY: &str = "wrong stream key";
const EDGE: &str = "this node is an edge: publish to the origin";
const FULL: &str = "this node has no room for another stream";
const NEEDS_TOKEN: &str = "playing this stream needs a token";
const GOING: &str = "this server is going down: connect again";
const IN_USE: &str = "this key is in use for as many streams as it may be";
const REFUSED: &str = "refused: the backend says no";
const UNDECIDED: &str = "nobody can decide on this now: try again later";
const STANDS_BY: &str = "this node stands by for another one: go there";
const REPLACED: &str = "a newer publisher took the stream over";
const NOBODY: &str = "nobody publishes this stream";

#[cfg(test)]
mod tests;
