//! WHIP and WHEP over HTTP: an offer in, an answer out, and a resource that ends the session.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::any,
};
use futures_util::stream;
use tokio::sync::mpsc;

use super::{
    Resource, Shard,
    play::Playing,
    publish::Publishing,
    session::{Command, Role},
};
use crate::{
    config::{BFrames, Config, Role as NodeRole},
    egress::{self, NobodyCame, Playback},
    hub::Claim,
    limits,
    media::{Codec, StreamName},
    net::{
        access::{Access, Action, Asked, Denied, Grant, shown},
        http::{BadBody, Reached, read_body},
        pending::Place,
    },
    observe::metrics::Protocol,
    proto::{
        sdp::{self, Fragment, Local, Offer, Ssrcs},
        whip::{self, ResourceId},
    },
};

/// What is refused, and how.
struct Refusal {
    status: StatusCode,
    why: String,
}

type Refused<T> = Result<T, Refusal>;

/// A request as all of these look at it.
struct Ask {
    shard: Arc<Shard>,
    from: SocketAddr,
    reached: SocketAddr,
    path: String,
    parts: Parts,
}

/// The routes of one shard.
pub(in crate::server) fn router(shard: Arc<Shard>) -> Router {
    Router::new().route("/whip/{*path}", any(whip)).route("/whep/{*path}", any(whep)).with_state(shard)
}

async fn whip(
    State(shard): State<Arc<Shard>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Extension(Reached(reached)): Extension<Reached>,
    Path(path): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    Ask { shard, from, reached, path, parts }.answer(Kind::Publish, body).await
}

async fn whep(
    State(shard): State<Arc<Shard>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Extension(Reached(reached)): Extension<Reached>,
    Path(path): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    Ask { shard, from, reached, path, parts }.answer(Kind::Play, body).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Publish,
    Play,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Publish => "/whip",
            Self::Play => "/whep",
        }
    }

    fn action(self) -> Action {
        match self {
            Self::Publish => Action::Publish,
            Self::Play => Action::Play,
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::Publish => Protocol::Whip,
            Self::Play => Protocol::Whep,
        }
    }

    /// The query parameter that stands for the bearer token.
    fn parameter(self) -> &'static str {
        match self {
            Self::Publish => "key",
            Self::Play => "token",
        }
    }
}

impl Ask {
    async fn answer(self, kind: Kind, body: Body) -> Response {
        let (metrics, from) = (self.shard.node.metrics.clone(), self.from);
        let origin = self.allowed_origin();
        let resource = self.resource(kind);
        let method = self.parts.method.clone();
        let answered = match (&method, resource) {
            (&Method::OPTIONS, _) => Ok(preflight()),
            (&Method::POST, _) if kind == Kind::Publish => self.publish(body).await,
            (&Method::POST, _) => self.play(body).await,
            (&Method::DELETE, Some(found)) => self.delete(kind, found).await,
            (&Method::PATCH, Some(found)) => self.patch(kind, found, body).await,
            (&Method::GET, Some(found)) if kind == Kind::Play => self.events(found).await,
            (&Method::DELETE | &Method::PATCH, None) => Err(refuse(StatusCode::NOT_FOUND, "no such session")),
            _ => Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "POST an offer")),
        };
        let mut response = answered.unwrap_or_else(|refusal| {
            metrics.refused(kind.folder().trim_start_matches('/'));
            tracing::info!(
                protocol = kind.folder().trim_start_matches('/'), peer = %from, status = refusal.status.as_u16(),
                reason = refusal.why, "not accepted"
            );
            refusal.into_response()
        });
        if let Some(origin) = origin {
            allow(response.headers_mut(), origin);
        }
        response
    }

    /// The session that the path's last part names.
    fn resource(&self, kind: Kind) -> Option<(ResourceId, Resource)> {
        let (name, id) = self.path.rsplit_once('/')?;
        let id = id.parse::<ResourceId>().ok()?;
        let resource = self.shard.node.webrtc.resources.lock().get(&id).cloned()?;
        // A right to watch is none to end what is published.
        let is_of_kind = resource.is_publisher == (kind == Kind::Publish);
        (is_of_kind && resource.name.as_str() == name).then_some((id, resource))
    }

    fn name(&self) -> Refused<StreamName> {
        let name = self.path.parse::<StreamName>();
        let name = name.map_err(|bad| refuse(StatusCode::BAD_REQUEST, bad.to_string()))?;
        match name.is_global() {
            true => Err(refuse(StatusCode::FORBIDDEN, "that name stands for all rooms")),
            false => Ok(name),
        }
    }

    /// The secret that the request brings: as a bearer token, or in the query.
    fn secret(&self, kind: Kind) -> Option<String> {
        let bearer = self.parts.headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        });
        bearer.or_else(|| {
            let pairs = url::form_urlencoded::parse(self.parts.uri.query()?.as_bytes());
            shown(kind.action(), |wanted| pairs.clone().find(|(key, _)| key == wanted).map(|(_, v)| v.into_owned()))
        })
    }

    /// Before anything of the request's body is read. Of a session that is there already the hook has decided.
    async fn authorise(&self, kind: Kind, stream: &StreamName, access: &dyn Access) -> Refused<Grant> {
        let (action, protocol) = (kind.action(), kind.protocol());
        let secret = self.secret(kind);
        let asked = Asked { action, stream, protocol, peer: self.from, secret: secret.as_deref() };
        let denied = |denied: Denied| match denied {
            Denied::NoSecret | Denied::Wrong => refuse(StatusCode::UNAUTHORIZED, Denied::NoSecret.to_string()),
            Denied::Full | Denied::Refused => refuse(StatusCode::FORBIDDEN, denied.to_string()),
            Denied::Undecided | Denied::StandsBy => refuse(StatusCode::SERVICE_UNAVAILABLE, denied.to_string()),
        };
        access.ask(asked).await.map_err(denied)
    }

    async fn offer(&self, kind: Kind, body: Body) -> Refused<Offer> {
        if !self.is_type(whip::SDP) {
            return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the offer's type is application/sdp"));
        }
        // A body that comes slowly takes a place, too.
        let _reading = self.place(kind)?;
        let text = read_text(body).await?;
        Offer::parse(&text).map_err(|bad| refuse(StatusCode::BAD_REQUEST, bad.to_string()))
    }

    /// A place among those that are not connected.
    fn place(&self, kind: Kind) -> Refused<Place> {
        let webrtc = &self.shard.node.webrtc;
        let busy = || refuse(StatusCode::SERVICE_UNAVAILABLE, "too many sessions");
        let (side, sessions_max) = match kind {
            Kind::Publish => (&webrtc.publishers, limits::WEBRTC_SESSIONS_MAX),
            Kind::Play => (&webrtc.viewers, limits::WEBRTC_SESSIONS_MAX / 10 * 9),
        };
        if webrtc.resources.lock().len() >= sessions_max {
            return Err(busy());
        }
        side.pending.admit(self.from.ip()).ok_or_else(busy)
    }

    async fn publish(self, body: Body) -> Refused<Response> {
        let (kind, name) = (Kind::Publish, self.name()?);
        let (shard, node) = (&self.shard, &self.shard.node);
        if node.config.role == NodeRole::Edge {
            return Err(refuse(StatusCode::FORBIDDEN, "this node is an edge: publish at its origin"));
        }
        let grant = self.authorise(kind, &name, &*self.shard.node.access).await?;
        node.hub
            .may_publish_as(&name, Claim { priority: grant.priority })
            .map_err(|unseated| refuse(StatusCode::CONFLICT, unseated.to_string()))?;
        let query = self.query(kind);
        let offer = self.offer(kind, body).await?;
        let place = self.place(kind)?;
        let local = shard.local(self.reached.ip());
        let (answer, terms) = sdp::publish::answer(&offer, &local, &PUBLISHED)
            .map_err(|why| refuse(StatusCode::UNPROCESSABLE_ENTITY, why.to_string()))?;
        let publishing = Publishing::new(node, name.clone(), terms.clone(), self.from, &grant);
        let id = shard.start(name.clone(), &local, &terms, Role::Publish(Box::new(publishing)), grant, place);
        Ok(created(format!("{}/{name}/{id}{query}", kind.folder()), &local, answer))
    }

    async fn play(self, body: Body) -> Refused<Response> {
        let (kind, name) = (Kind::Play, self.name()?);
        let (shard, node) = (&self.shard, &self.shard.node);
        let grant = self.authorise(kind, &name, &*self.shard.node.access).await?;
        let query = self.query(kind);
        let offer = self.offer(kind, body).await?;
        let viewer = node.hub.view(&name);
        let viewer = viewer.map_err(|full| refuse(StatusCode::SERVICE_UNAVAILABLE, full.to_string()))?;
        let nobody = || refuse(StatusCode::NOT_FOUND, format!("nobody publishes {name}"));
        match node.lobby.wait(&viewer, self.from.ip()).await {
            Ok(()) => {}
            Err(NobodyCame::InTime) => return Err(nobody()),
            Err(crowded) => {
                node.metrics.refused(crowded.as_str());
                return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, crowded.to_string()));
            }
        }
        let stream = viewer.stream().clone();
        let tracks = stream.tracks().ok_or_else(nobody)?;
        if stream.has_b_frames() && node.config.webrtc.b_frames == BFrames::Refuse {
            return Err(refuse(StatusCode::NOT_ACCEPTABLE, B_FRAMES));
        }
        let place = self.place(kind)?;
        let local = shard.local(self.reached.ip());
        let wants = sdp::play::Play {
            video: tracks.video.as_ref(),
            audio: tracks.audio.as_ref().map(|_| Codec::Opus),
            ssrcs: Ssrcs { video: ssrc(), video_rtx: ssrc(), audio: ssrc() },
        };
        let (answer, terms) = sdp::play::answer(&offer, &local, &wants)
            .map_err(|why| refuse(StatusCode::NOT_ACCEPTABLE, why.to_string()))?;
        let playback =
            Playback::join(&shard.egress, viewer, &terms, format!("{:x}", local.session_id), b_frames(&node.config));
        let wanted = offer.media.iter().filter(|media| !media.rejected && media.direction.receives());
        let wanted = wanted.filter_map(|media| media.kind.track());
        let missing = wanted.filter(|kind| terms.track(*kind).is_none()).collect();
        let playing = Playing::new(playback.missing(missing), self.from, &node.metrics);
        let id = shard.start(name.clone(), &local, &terms, Role::Play(Box::new(playing)), grant, place);
        let resource = format!("{}/{name}/{id}{query}", kind.folder());
        let mut response = created(resource.clone(), &local, answer);
        let link = format!("<{resource}>; rel=\"{}\"; events=\"live-event\"", whip::SSE_REL);
        if let Ok(link) = HeaderValue::try_from(link) {
            response.headers_mut().append(header::LINK, link);
        }
        Ok(response)
    }

    async fn delete(self, kind: Kind, (_, resource): (ResourceId, Resource)) -> Refused<Response> {
        self.authorise(kind, &resource.name, &*self.shard.node.auth).await?;
        // A session that doesn't listen any more is gone already.
        let _ = resource.commands.send(Command::Close).await;
        Ok(StatusCode::OK.into_response())
    }

    /// Candidates of the peer: nothing to do, because he comes to us. A restart is not offered.
    async fn patch(self, kind: Kind, (_, resource): (ResourceId, Resource), body: Body) -> Refused<Response> {
        self.authorise(kind, &resource.name, &*self.shard.node.auth).await?;
        if !self.is_type(whip::FRAGMENT) {
            let why = "a fragment's type is application/trickle-ice-sdpfrag";
            return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        let tags = self.parts.headers.get(header::IF_MATCH).and_then(|tags| tags.to_str().ok());
        if tags.is_some_and(|tags| !whip::if_match(tags, &resource.etag)) {
            return Err(refuse(StatusCode::PRECONDITION_FAILED, "another ICE session"));
        }
        let text = read_text(body).await?;
        let fragment = Fragment::parse(&text).map_err(|bad| refuse(StatusCode::BAD_REQUEST, bad.to_string()))?;
        match fragment.ice.is_some_and(|ice| ice.ufrag != resource.peer_ufrag) {
            true => Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, "no ICE restart here: POST a new offer")),
            false => Ok(StatusCode::NO_CONTENT.into_response()),
        }
    }

    /// Events for players that have no data channel.
    async fn events(self, (_, resource): (ResourceId, Resource)) -> Refused<Response> {
        self.authorise(Kind::Play, &resource.name, &*self.shard.node.auth).await?;
        let (sender, receiver) = mpsc::channel(limits::EVENTS_PENDING_MAX);
        let gone = |_| refuse(StatusCode::NOT_FOUND, "no such session");
        resource.commands.send(Command::Events(sender)).await.map_err(gone)?;
        let events = stream::unfold(receiver, async |mut receiver| {
            let message: Bytes = receiver.recv().await?;
            let data = String::from_utf8_lossy(&message).into_owned();
            Some((Ok::<_, Infallible>(Event::default().event("live-event").data(data)), receiver))
        });
        let alive = KeepAlive::new().interval(limits::EVENT_STREAM_HEARTBEAT);
        Ok(Sse::new(events).keep_alive(alive).into_response())
    }

    /// The secret, if it came in the query: the resource wants it again.
    fn query(&self, kind: Kind) -> String {
        let by_header = self.parts.headers.contains_key(header::AUTHORIZATION);
        match self.secret(kind).filter(|_| !by_header) {
            Some(secret) => {
                let pair = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair(kind.parameter(), &secret)
                    .finish();
                format!("?{pair}")
            }
            None => String::new(),
        }
    }

    fn is_type(&self, expected: &str) -> bool {
        let found = self.parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = found.and_then(|found| found.split(';').next()).unwrap_or_default();
        essence.trim().eq_ignore_ascii_case(expected)
    }

    fn allowed_origin(&self) -> Option<HeaderValue> {
        let origin = self.parts.headers.get(header::ORIGIN)?;
        let allowed = &self.shard.node.config.webrtc.allow_origins;
        allowed.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.why)).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static(METHODS));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        response
    }
}

fn refuse(status: StatusCode, why: impl Into<String>) -> Refusal {
    Refusal { status, why: why.into() }
}

fn b_frames(config: &Config) -> egress::BFrames {
    match config.webrtc.b_frames {
        BFrames::Refuse => egress::BFrames::Refuse,
        BFrames::Drop => egress::BFrames::Drop,
    }
}

/// 201 (RFC 9725 §4.2). The location is a path without a host: proxies in between don't matter to it.
fn created(location: String, local: &Local, answer: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, whip::SDP.to_owned()),
        (header::LOCATION, location),
        (header::ETAG, etag(local)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (ACCEPT_PATCH, whip::FRAGMENT.to_owned()),
    ];
    (StatusCode::CREATED, headers, answer).into_response()
}

/// Of a session's ICE session (RFC 9725 §4.3.1).
pub(super) fn etag(local: &Local) -> String {
    format!("\"{}\"", local.ice.ufrag)
}

fn preflight() -> Response {
    let headers = [(header::ALLOW, METHODS), (ACCEPT_POST, whip::SDP)];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// What scripts of an allowed origin may do (Fetch §3.3).
fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let says = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, PATCH, DELETE, GET"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Location, Link, ETag"),
    ];
    for (name, value) in says {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

async fn read_text(body: Body) -> Refused<String> {
    let read = read_body(body, limits::SDP_BYTES_MAX, limits::WEBRTC_BODY_TIMEOUT);
    let bytes = read.await.map_err(|bad| match bad {
        BadBody::TooLarge => refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
        BadBody::TooSlow => refuse(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
        BadBody::Broken => refuse(StatusCode::BAD_REQUEST, "the body did not come whole"),
    })?;
    String::from_utf8(bytes).map_err(|_| refuse(StatusCode::BAD_REQUEST, "not text"))
}

fn ssrc() -> u32 {
    rand::random()
}

const METHODS: &str = "POST, PATCH, DELETE, OPTIONS";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// Codecs that publishers may send, the ones preferred first.
const PUBLISHED: [Codec; 6] = [Codec::Avc, Codec::Hevc, Codec::Av1, Codec::Vp9, Codec::Vp8, Codec::Opus];

/// To the person who wants to watch, and to the anchor.
const B_FRAMES: &str = "the stream has B-frames, which browsers don't reorder over WebRTC: set the encoder's B-frames to 0 \
                        (x264: tune=zerolatency), or webrtc.b_frames = \"drop\" on the server";
