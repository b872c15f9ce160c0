//! The HTTP API under `/v1`: what streams there are, and the door for commerce events.
//!
//! JSON only. Errors are `{"error": …}` with the status that says whose turn it is; a bad field is named by
//! a JSON pointer. Everything but `/v1/time` and `/v1/moq` needs a bearer token with the right role.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    response::{IntoResponse, Response},
    routing::get,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::auth::Auth;
use crate::{
    clock,
    config::TokenRole,
    hub::{At, Hub, Refused, Stream},
    limits,
    media::{StreamName, event::BadEvent},
    net::guard::FailedAuth,
    observe::metrics::Metrics,
};

/// What the API works on.
pub struct Api {
    /// The streams.
    pub hub: Arc<Hub>,
    /// Who may do what.
    pub auth: Arc<Auth>,
    /// Slows down who guesses tokens.
    pub failed_auth: Arc<Mutex<FailedAuth>>,
    /// Counts events and refusals.
    pub metrics: Arc<Metrics>,
    /// Where MoQ viewers connect, and the certificate to pin if it is self-signed.
    pub moq: MoqAddress,
    /// False on a pure edge: events are posted to the origin.
    pub takes_events: bool,
    /// Lists live streams to everybody: only where everybody may watch them.
    pub public_list: bool,
}

/// Where MoQ viewers connect.
#[derive(Debug, Clone)]
pub struct MoqAddress {
    /// UDP port; the host is the one by which the API was reached.
    pub port: u16,
    /// SHA-256 of a self-signed certificate, hex, for `serverCertificateHashes`; `None` with a CA's certificate.
    pub certificate_sha256: Option<String>,
}

/// What the page of a viewers' listener reads.
pub fn public_router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/time", get(time))
        .route("/v1/moq", get(moq))
        .route("/v1/streams", get(list))
        .with_state(api)
}

/// All of the API.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/streams/{*rest}", get(show).post(post_event))
        .with_state(api.clone())
        .merge(public_router(api))
}

/// A refusal, ready to be sent.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: String,
    pointer: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), pointer: None }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({"error": self.error});
        if let (Some(pointer), Some(body)) = (self.pointer, body.as_object_mut()) {
            body.insert("pointer".into(), pointer.into());
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl From<BadEvent> for Refusal {
    fn from(bad: BadEvent) -> Self {
        let status = match bad {
            BadEvent::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let pointer = match &bad {
            BadEvent::Field { pointer, .. } => Some(pointer.clone()),
            _ => None,
        };
        Self { status, error: bad.to_string(), pointer }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Bad(bad) => bad.into(),
            Refused::NotLive => Self::new(StatusCode::CONFLICT, refused.to_string()),
            Refused::TooFast { .. } | Refused::TooMany => Self::new(StatusCode::TOO_MANY_REQUESTS, refused.to_string()),
            Refused::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE, refused.to_string()),
            Refused::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, refused.to_string()),
            Refused::NotOrigin => Self::new(StatusCode::MISDIRECTED_REQUEST, refused.to_string()),
            Refused::UnknownEvent => Self::new(StatusCode::NOT_FOUND, refused.to_string()),
        }
    }
}

async fn time() -> Json<Value> {
    Json(json!({"unix_ms": clock::unix_ms()}))
}

async fn moq(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let Some(host) = host else {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "the Host header is missing or malformed"));
    };
    let mut answer = json!({"url": format!("https://{}:{}/", host.host(), api.moq.port)});
    if let (Some(hash), Some(answer)) = (&api.moq.certificate_sha256, answer.as_object_mut()) {
        answer.insert("certificate_sha256".into(), hash.as_str().into());
    }
    Ok(Json(answer))
}

async fn list(State(api): State<Arc<Api>>, caller: Caller) -> Result<Json<Value>, Refusal> {
    let prefixes = match caller.token() {
        None if api.public_list => vec![String::new()],
        _ => {
            caller.must(&api, TokenRole::ApiRead, None).await?;
            let token = caller.token().unwrap_or_default();
            api.auth.prefixes(token, TokenRole::ApiRead).into_iter().map(str::to_owned).collect()
        }
    };
    let visible = |stream: &Arc<Stream>| prefixes.iter().any(|prefix| stream.name().is_under(prefix));
    let streams: Vec<_> = api.hub.list().iter().filter(|stream| visible(stream)).map(|s| describe(s)).collect();
    Ok(Json(json!({"streams": streams})))
}

async fn show(State(api): State<Arc<Api>>, Path(rest): Path<String>, caller: Caller) -> Result<Json<Value>, Refusal> {
    let name = parse_name(&rest)?;
    if caller.token().is_some() || !api.public_list {
        caller.must(&api, TokenRole::ApiRead, Some(&name)).await?;
    }
    let stream = api.hub.get(&name).filter(|_| api.hub.is_announced(&name));
    match stream {
        Some(stream) => Ok(Json(describe(&stream))),
        None => Err(Refusal::new(StatusCode::NOT_FOUND, format!("no stream {name}"))),
    }
}

async fn post_event(
    State(api): State<Arc<Api>>,
    Path(rest): Path<String>,
    caller: Caller,
    body: Body,
) -> Result<Response, Refusal> {
    let Some(name) = rest.strip_suffix("/events") else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "events are posted to /v1/streams/{name}/events"));
    };
    let name = parse_name(name)?;
    caller.must(&api, TokenRole::EventsWrite, Some(&name)).await?;
    if !api.takes_events {
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, "this node is an edge: post events to the origin"));
    }
    let (draft, at) = parse_draft(&read_body(body).await?)?;
    let event = api.hub.publish_event(&name, draft, Some(at)).await?.event;
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((StatusCode::CREATED, json, event.json.clone()).into_response())
}

/// Reads a body within its bounds; only of callers who may send one.
async fn read_body(body: Body) -> Result<Bytes, Refusal> {
    let read = Limited::new(body, limits::HTTP_BODY_BYTES_MAX).collect();
    match tokio::time::timeout(limits::HTTP_BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BadEvent::TooLarge.into()),
        Ok(Err(error)) => Err(Refusal::new(StatusCode::BAD_REQUEST, error.to_string())),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
    }
}

/// Splits the request into the event's own fields and `at`, which is not part of it.
fn parse_draft(body: &[u8]) -> Result<(Map<String, Value>, At), Refusal> {
    let unprocessable = |pointer: &str, error: &str| Refusal {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        error: format!("{pointer}: {error}"),
        pointer: Some(pointer.into()),
    };
    let value: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let Value::Object(mut draft) = value else {
        return Err(unprocessable("", "an event is a JSON object"));
    };
    let at = match draft.remove("at") {
        None => At::Now,
        Some(Value::Object(at)) if at.len() == 1 => parse_at(&at).map_err(|(key, why)| unprocessable(&key, why))?,
        Some(_) => return Err(unprocessable("/at", "must have exactly one of now, in_ms, pts_us, wall_ms")),
    };
    Ok((draft, at))
}

fn parse_at(at: &Map<String, Value>) -> Result<At, (String, &'static str)> {
    let Some((key, value)) = at.iter().next() else { return Err(("/at".into(), "is empty")) };
    let at = match key.as_str() {
        "now" => (*value == Value::Bool(true)).then_some(At::Now),
        "in_ms" => value.as_u64().and_then(|ms| u32::try_from(ms).ok()).map(At::InMs),
        "pts_us" => value.as_i64().map(At::PtsUs),
        "wall_ms" => value.as_i64().map(At::WallMs),
        _ => None,
    };
    at.ok_or_else(|| (format!("/at/{key}"), "must be now: true, or in_ms, pts_us or wall_ms as an integer in range"))
}

fn parse_name(text: &str) -> Result<StreamName, Refusal> {
    text.parse()
        .map_err(|bad: crate::media::name::BadStreamName| Refusal::new(StatusCode::BAD_REQUEST, bad.to_string()))
}

fn describe(stream: &Stream) -> Value {
    let tracks = stream.tracks().unwrap_or_default();
    let mut out =
        json!({"name": stream.name().as_str(), "state": stream.state(), "viewers": *stream.viewers().borrow()});
    let Some(fields) = out.as_object_mut() else { return out };
    if let Some(video) = &tracks.video {
        let video = json!({"codec": video.codec.as_str(), "width": video.width, "height": video.height});
        fields.insert("video".into(), video);
    }
    if let Some(audio) = &tracks.audio {
        let audio =
            json!({"codec": audio.codec.as_str(), "sample_rate": audio.sample_rate, "channels": audio.channels});
        fields.insert("audio".into(), audio);
    }
    out
}

/// Who sent a request: his address and his token.
struct Caller {
    peer: std::net::IpAddr,
    headers: HeaderMap,
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Refusal> {
        let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<std::net::SocketAddr>>() else {
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the connection has no address"));
        };
        Ok(Self { peer: peer.ip(), headers: parts.headers.clone() })
    }
}

impl Caller {
    fn token(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
    }

    async fn must(&self, api: &Api, role: TokenRole, name: Option<&StreamName>) -> Result<(), Refusal> {
        let Some(token) = self.token() else {
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "a bearer token is needed"));
        };
        if !api.failed_auth.lock().may_try(self.peer, clock::now()) {
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many failed tries from this address"));
        }
        if api.auth.may(token, role, name) {
            return Ok(());
        }
        api.failed_auth.lock().failed(self.peer, clock::now());
        // Unknown tokens and tokens without the right get one answer.
        Err(Refusal::new(StatusCode::FORBIDDEN, "this token doesn't allow that"))
    }
}

#[cfg(test)]
mod tests;
