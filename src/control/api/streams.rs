//! What streams there are, where they are watched, and the time.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header, uri::Authority},
    response::IntoResponse,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api,
    caller::Caller,
    refusal::{ErrorBody, Refusal},
    room::Room,
};
use crate::{
    clock,
    hub::{self, Publishers, Stream},
    secret::Digest,
};

/// The server's clock.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerTime {
    /// UTC milliseconds since 1970.
    unix_ms: i64,
}

/// Where MoQ viewers connect.
#[derive(Serialize, ToSchema)]
pub(super) struct MoqServer {
    /// A WebTransport URL.
    url: String,
    /// SHA-256 of a self-signed certificate, hex, for `serverCertificateHashes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    certificate_sha256: Option<String>,
}

/// Streams by name.
#[derive(Serialize, ToSchema)]
pub(super) struct StreamList {
    streams: Vec<StreamInfo>,
}

/// One stream.
#[derive(Serialize, ToSchema)]
pub(super) struct StreamInfo {
    name: String,
    /// waiting, live, interrupted or ended.
    #[schema(value_type = String)]
    state: hub::State,
    publisher: PublisherInfo,
    /// Viewers that this node serves.
    viewers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    video: Option<VideoInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    audio: Option<AudioInfo>,
}

/// Who publishes it.
#[derive(Serialize, ToSchema)]
pub(super) struct PublisherInfo {
    /// One is on air, though he may be silent.
    on_air: bool,
    /// Others that are connected and wait for their turn.
    standing_by: usize,
    /// Pictures come without keyframes, so nobody can join: the encoder's keyframe interval is to be set.
    no_keyframe: bool,
}

/// The picture.
#[derive(Serialize, ToSchema)]
pub(super) struct VideoInfo {
    codec: String,
    width: u32,
    height: u32,
    /// The encoder reorders pictures, which WebRTC viewers can't show.
    b_frames: bool,
}

/// The sound.
#[derive(Serialize, ToSchema)]
pub(super) struct AudioInfo {
    codec: String,
    sample_rate: u32,
    channels: u32,
}

/// The server's clock, to count down by.
#[utoipa::path(get, path = "/v1/time", tag = "node", security(()),
    responses((status = 200, description = "now", body = ServerTime)))]
pub(super) async fn time() -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], Json(ServerTime { unix_ms: clock::unix_ms() }))
}

/// Where MoQ viewers connect.
#[utoipa::path(get, path = "/v1/moq", tag = "node", security(()), responses(
    (status = 200, description = "the address", body = MoqServer),
    (status = 400, description = "no usable Host header", body = ErrorBody)))]
pub(super) async fn moq(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Json<MoqServer>, Refusal> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let Some(host) = host else {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "the Host header is missing or malformed"));
    };
    let url = format!("https://{}:{}/", host.host(), api.moq.port);
    let certificate_sha256 = api.moq.identity.pin().map(|pin| Digest::from(pin).to_string());
    Ok(Json(MoqServer { url, certificate_sha256 }))
}

/// The streams that can be watched, as far as the token sees them.
#[utoipa::path(get, path = "/v1/streams", tag = "streams", responses(
    (status = 200, description = "the streams", body = StreamList),
    (status = "4XX", description = "refused", body = ErrorBody)))]
pub(super) async fn list(State(api): State<Arc<Api>>, caller: Caller) -> Result<Json<StreamList>, Refusal> {
    caller.must(&api, None).await?;
    let prefixes = match (caller.token(), caller.role()) {
        (Some(token), Some(role)) => api.auth.prefixes(token, role),
        _ => vec![String::new()],
    };
    // The room that stands for all rooms is nothing to watch.
    let visible = |stream: &&Arc<Stream>| {
        !stream.name().is_global() && prefixes.iter().any(|prefix| stream.name().is_under(prefix))
    };
    let streams = api.hub.list().iter().filter(visible).map(|stream| StreamInfo::of(stream)).collect();
    Ok(Json(StreamList { streams }))
}

/// One stream.
#[utoipa::path(get, path = "/v1/streams/{name}", tag = "streams",
    params(("name" = String, Path, description = "the stream, its slashes as they are or as %2F")),
    responses(
        (status = 200, description = "the stream", body = StreamInfo),
        (status = "4XX", description = "refused", body = ErrorBody)))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Room(name): Room,
    caller: Caller,
) -> Result<Json<StreamInfo>, Refusal> {
    caller.must(&api, Some(&name)).await?;
    match api.hub.get(&name).filter(|_| api.hub.is_announced(&name)) {
        Some(stream) => Ok(Json(StreamInfo::of(&stream))),
        None => Err(Refusal::new(StatusCode::NOT_FOUND, format!("no stream {name}"))),
    }
}

impl StreamInfo {
    fn of(stream: &Stream) -> Self {
        let tracks = stream.tracks().unwrap_or_default();
        let Publishers { on_air, standing_by, no_keyframe } = stream.publishers();
        let video = tracks.video.as_ref();
        let audio = tracks.audio.as_ref();
        Self {
            name: stream.name().to_string(),
            state: stream.state(),
            publisher: PublisherInfo { on_air, standing_by, no_keyframe },
            viewers: *stream.viewers().borrow(),
            video: video.map(|video| VideoInfo {
                codec: video.codec.as_str().to_owned(),
                width: video.width,
                height: video.height,
                b_frames: stream.has_b_frames(),
            }),
            audio: audio.map(|audio| AudioInfo {
                codec: audio.codec.as_str().to_owned(),
                sample_rate: audio.sample_rate,
                channels: audio.channels.into(),
            }),
        }
    }
}
