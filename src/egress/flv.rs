//! HTTP-FLV: `GET /<name>.flv`, the body a stream of tags without end.

use std::{
    collections::HashMap,
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    Extension, Router,
    extract::{ConnectInfo, Path, Query, State},
    http::{HeaderName, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use httpdate::HttpDate;
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    Carriage, Egress, Extras, Lobby, NobodyCame, Outlet, Session, Undelivered, deliver,
    log::{SessionLog, reason},
};
use crate::{
    clock,
    hub::{Hub, Viewer},
    limits,
    media::{StreamName, name::BadStreamName},
    net::{
        access::{Access, Action, Asked, Denied, Grant, shown},
        http::Takeover,
        stream::Stream,
    },
    observe::metrics::Metrics,
};

/// What serving FLV needs.
pub struct Flv {
    /// The streams.
    pub hub: Arc<Hub>,
    /// The muxers.
    pub egress: Arc<Egress>,
    /// Who may watch.
    pub access: Arc<dyn Access>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Where a viewer waits for a publisher before he gets 404.
    pub lobby: Lobby,
}

/// The route.
pub fn router(flv: Arc<Flv>) -> Router {
    Router::new().route("/{*path}", get(play)).with_state(flv)
}

async fn play(
    State(flv): State<Arc<Flv>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(takeover): Extension<Takeover>,
    method: Method,
    Path(path): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let refuse = |status: StatusCode, why: String| (status, format!("{why}\n")).into_response();
    let Some(name) = path.strip_suffix(".flv") else {
        return refuse(StatusCode::NOT_FOUND, "nothing here: streams are at /<name>.flv".into());
    };
    let Ok(name) = name.parse::<StreamName>() else {
        return refuse(StatusCode::BAD_REQUEST, BadStreamName.to_string());
    };
    // It has events and no pictures: nothing that a player could show.
    if name.is_global() {
        return refuse(StatusCode::NOT_FOUND, format!("nobody publishes {name}"));
    }
    let value = |key: &str| query.get(key).cloned();
    let (action, protocol, secret) = (Action::Play, Carriage::Flv.protocol(), shown(Action::Play, value));
    let asked = Asked { action, stream: &name, protocol, peer, secret: secret.as_deref() };
    let grant = match flv.access.ask(asked).await {
        Ok(grant) => grant,
        Err(denied) => {
            flv.metrics.refused("play_denied");
            let status = match denied {
                Denied::Undecided | Denied::StandsBy => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::FORBIDDEN,
            };
            return refuse(status, denied.to_string());
        }
    };
    let viewer = match flv.hub.view(&name) {
        Ok(viewer) => viewer,
        Err(full) => return refuse(StatusCode::SERVICE_UNAVAILABLE, full.to_string()),
    };
    match flv.lobby.wait(&viewer, peer.ip()).await {
        Ok(()) => {}
        Err(NobodyCame::InTime) => return refuse(StatusCode::NOT_FOUND, format!("nobody publishes {name}")),
        Err(crowded) => {
            flv.metrics.refused(crowded.as_str());
            return refuse(StatusCode::SERVICE_UNAVAILABLE, crowded.to_string());
        }
    }
    if method == Method::HEAD {
        return headers().into_response();
    }
    let extras = Extras::of(value);
    match takeover.take(move |stream| serve(flv, viewer, grant, peer, extras, stream)).await {}
}

/// Writes the response to its end. HTTP would frame each write anew for each viewer; a body that ends with its
/// connection (RFC 9112 §6.3) is the same bytes for all.
async fn serve(flv: Arc<Flv>, viewer: Viewer, grant: Grant, peer: SocketAddr, extras: Extras, mut stream: Stream) {
    let mut log = SessionLog::begin(&flv.metrics, Carriage::Flv.protocol(), viewer.stream().name(), peer);
    let mut session = Session::join(&flv.egress, viewer, Carriage::Flv, extras);
    let mut head = Some(response_head());
    let mut unheard = 0;
    let peer = |cx: &mut Context<'_>, stream: &mut Stream, out: &mut Outlet| {
        if let Some(head) = head.take() {
            out.push([head].into());
        }
        poll_left(cx, stream, &mut unheard)
    };
    let end: Undelivered = tokio::select! {
        end = deliver(&mut stream, &mut session, &mut log, peer) => end,
        over = grant.over() => over.into(),
    };
    log.ends(match end {
        Undelivered::Line(end) => reason(end),
        Undelivered::Over(over) => over.label(),
        Undelivered::Stopping => "server stops",
        Undelivered::Stalled => "stalled",
        Undelivered::Network(_) => "viewer left",
    });
    stream.close().await;
}

/// The viewer's end. What he says after his request is not listened to, and too much of it ends him.
fn poll_left(cx: &mut Context<'_>, stream: &mut Stream, unheard: &mut usize) -> Poll<Undelivered> {
    loop {
        let mut bytes = [const { MaybeUninit::uninit() }; 512];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        if let Err(error) = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
            return Poll::Ready(error.into());
        }
        match buffer.filled().len() {
            read if read > 0 && *unheard < limits::HTTP_BODY_BYTES_MAX => *unheard += read,
            _ => return Poll::Ready(io::Error::from(io::ErrorKind::ConnectionReset).into()),
        }
    }
}

fn headers() -> [(HeaderName, &'static str); 2] {
    [(header::CONTENT_TYPE, "video/x-flv"), (header::CACHE_CONTROL, "no-store")]
}

fn response_head() -> Bytes {
    let mut head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nDate: {}\r\n", HttpDate::from(clock::system()));
    for (name, value) in headers() {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    head.into()
}
