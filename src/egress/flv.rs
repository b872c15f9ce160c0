//! HTTP-FLV: `GET /<name>.flv`, the body a stream of tags without end.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame as BodyFrame;
use http_body_util::StreamBody;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    Carriage, Egress, Extras, Session,
    log::{SessionLog, reason},
};
use crate::{
    clock,
    hub::{Hub, State as StreamState, Viewer},
    media::{StreamName, name::BadStreamName},
    net::{access::Access, guard::FailedAuth},
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
    /// Slows down who guesses tokens.
    pub failed_auth: Arc<Mutex<FailedAuth>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Ends the bodies, which have no end of their own.
    pub stop: CancellationToken,
    /// How long a viewer waits for a publisher before he gets 404.
    pub wait_publisher: Duration,
}

/// The route.
pub fn router(flv: Arc<Flv>) -> Router {
    Router::new().route("/{*path}", get(play)).with_state(flv)
}

#[derive(serde::Deserialize)]
struct PlayQuery {
    token: Option<String>,
    text: Option<String>,
    sei: Option<String>,
}

impl PlayQuery {
    fn extras(&self) -> Extras {
        Extras::of(|key| if key == "text" { self.text.clone() } else { self.sei.clone() })
    }
}

async fn play(
    State(flv): State<Arc<Flv>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(path): Path<String>,
    Query(query): Query<PlayQuery>,
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
    let is_guess_right = |token: &str| {
        flv.failed_auth.lock().attempt(peer.ip(), clock::now(), || flv.access.may_play(&name, Some(token)))
    };
    if !flv.access.may_play(&name, None) && !query.token.as_deref().is_some_and(is_guess_right) {
        flv.metrics.refused("play_denied");
        return refuse(StatusCode::FORBIDDEN, "playing this stream needs a token".into());
    }
    let viewer = match flv.hub.view(&name) {
        Ok(viewer) => viewer,
        Err(full) => return refuse(StatusCode::SERVICE_UNAVAILABLE, full.to_string()),
    };
    if !publisher_came(&viewer, flv.wait_publisher).await {
        return refuse(StatusCode::NOT_FOUND, format!("nobody publishes {name}"));
    }
    let playing = Playing::new(&flv, viewer, peer, query.extras());
    let body = StreamBody::new(stream::unfold(playing, Playing::next));
    let headers = [(header::CONTENT_TYPE, "video/x-flv"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::new(body)).into_response()
}

/// Waits for somebody to publish; false if nobody does in time.
pub async fn publisher_came(viewer: &Viewer, wait: Duration) -> bool {
    let mut state = viewer.stream().watch_state();
    let came = state.wait_for(|state| *state != StreamState::Waiting);
    matches!(tokio::time::timeout(wait, came).await, Ok(Ok(state)) if *state != StreamState::Ended)
}

/// One viewer's body; logs when it ends, however it ends.
struct Playing {
    session: Session,
    ready: Vec<Bytes>,
    log: SessionLog,
    stop: CancellationToken,
}

impl Playing {
    fn new(flv: &Flv, viewer: Viewer, peer: SocketAddr, extras: Extras) -> Self {
        let log = SessionLog::begin(&flv.metrics, Carriage::Flv, viewer.stream().name(), peer);
        let session = Session::join(&flv.egress, viewer, Carriage::Flv, extras);
        Self { session, ready: Vec::new(), log, stop: flv.stop.clone() }
    }

    async fn next(mut self) -> Option<(Result<BodyFrame<Bytes>, Infallible>, Self)> {
        if self.ready.is_empty() {
            let end = tokio::select! {
                ready = self.session.next(&mut self.ready) => ready.err().map(reason),
                () = self.stop.cancelled() => Some("server stops"),
            };
            if let Some(reason) = end {
                self.log.ends(reason);
                return None;
            }
            self.log.update(self.session.counters());
            self.ready.reverse();
        }
        let slice = self.ready.pop()?;
        Some((Ok(BodyFrame::data(slice)), self))
    }
}
