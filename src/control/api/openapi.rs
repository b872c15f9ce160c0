//! The OpenAPI document, made of the handlers, and the shapes of what is passed through as JSON.

use std::collections::BTreeMap;

use axum::Json;
use serde_json::{Map, Value};
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        OpenApi as Document, PathItem, RefOr,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{keys, log, publish, rundown, sse, streams};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hawker",
        description = "Live streams, and commerce events that fire beside the frame they belong to.\n\nA stream's name \
            has slashes. In a path they may stand as they are, `/v1/streams/live/room/events`, or the name is one \
            segment, `/v1/streams/live%2Froom/events`; the latter is needed if the name itself ends with `events`, \
            `state`, `schedule` or `rundown`.",
    ),
    paths(
        streams::time, streams::moq, streams::list, streams::show, publish::post, publish::cancel, log::events,
        log::state, log::schedule, sse::follow, rundown::get, rundown::put, rundown::delete, rundown::advance,
        keys::list, keys::create, keys::rotate, keys::revoke, keys::revocations, keys::revoke_jwt, document,
    ),
    modifiers(&Token, &Organisations),
    security(("token" = [])),
)]
struct Api;

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "node", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Value)))]
pub(super) async fn document() -> Json<Document> {
    Json(Api::openapi())
}

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// What a room can do but a show, an organisation's own room can: the same paths below `/v1/orgs/{org}`.
struct Organisations;

impl Modify for Organisations {
    fn modify(&self, document: &mut Document) {
        let rooms = document.paths.paths.iter();
        let of_orgs: Vec<_> = rooms
            .filter_map(|(path, item)| {
                let call = path.strip_prefix("/v1/streams/{name}/").filter(|call| !call.starts_with("rundown"))?;
                Some((format!("/v1/orgs/{{org}}/{call}"), of_org(item.clone())))
            })
            .collect();
        document.paths.paths.extend(of_orgs);
    }
}

fn of_org(mut item: PathItem) -> PathItem {
    let operations = [&mut item.get, &mut item.post, &mut item.delete];
    for operation in operations.into_iter().flatten() {
        operation.operation_id = operation.operation_id.take().map(|id| format!("org_{id}"));
        for parameter in operation.parameters.iter_mut().flatten() {
            if let RefOr::T(parameter) = parameter
                && parameter.name == "name"
            {
                parameter.name = "org".into();
                parameter.description = Some("the organisation: the first segment of its streams' names".into());
            }
        }
    }
    item
}

/// One event, or a batch.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a shape for the document")]
pub(super) enum EventDrafts {
    One(EventDraft),
    Batch(Vec<EventDraft>),
}

/// An event before the origin stamps it. Fields that are not named here are kept and forwarded.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a shape for the document")]
pub(super) struct EventDraft {
    /// `noun.verb`; the type decides what the players do.
    #[schema(pattern = r"^[a-z]+\.[a-z]+$", max_length = 64, example = "card.show")]
    r#type: String,
    /// ULID, the idempotency key.
    #[schema(nullable = false, pattern = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    id: Option<String>,
    /// By default as the type says.
    #[schema(nullable = false)]
    op: Option<Op>,
    /// What `set` and `delete` change; by default as the type says.
    #[schema(nullable = false, min_length = 1, max_length = 64, example = "card:main")]
    key: Option<String>,
    /// Per type: strings, integers, booleans, arrays, objects.
    #[schema(nullable = false)]
    data: Option<Map<String, Value>>,
    #[schema(nullable = false)]
    at: Option<When>,
    #[schema(nullable = false)]
    time: Option<Bounds>,
    /// Ids of pending events that this one drops.
    #[schema(nullable = false, max_items = 16)]
    supersedes: Option<Vec<String>>,
}

#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "a shape for the document")]
pub(super) enum Op {
    Set,
    Delete,
    Fire,
}

/// When it shall fire; by default as the type says, else now.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "a shape for the document")]
pub(super) enum When {
    /// `true`: with the next video frame.
    Now(bool),
    /// This long from now, by the room's clock.
    InMs(u32),
    /// With the first frame at or after this presentation time.
    PtsUs(i64),
    /// At this UTC millisecond, for everybody.
    WallMs(i64),
}

/// Bounds on an event's time.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a shape for the document")]
pub(super) struct Bounds {
    /// How long it lasts.
    #[schema(nullable = false)]
    duration_ms: Option<u32>,
    /// How long before its time players should have it.
    #[schema(nullable = false)]
    lead_ms: Option<u32>,
    /// UTC millisecond from which on it must be neither applied nor replayed.
    #[schema(nullable = false)]
    expires_ms: Option<i64>,
}

/// An event as the origin stamped and signed it: the same bytes on every carriage.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a shape for the document")]
pub(super) struct SignedEvent {
    v: u64,
    id: String,
    source: String,
    /// Strictly increasing per source; gaps are allowed.
    seq: u64,
    r#type: String,
    op: Op,
    #[schema(nullable = false)]
    key: Option<String>,
    time: Map<String, Value>,
    target: Map<String, Value>,
    data: Map<String, Value>,
    #[schema(nullable = false)]
    kid: Option<String>,
    /// Ed25519, base64url; the keys are at `/.well-known/hawker-keys.json`.
    #[schema(nullable = false)]
    sig: Option<String>,
}

/// An event that was known, or the outcomes of a batch.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a shape for the document")]
pub(super) enum PostReply {
    Known(Box<SignedEvent>),
    Batch(Vec<publish::BatchItem>),
}

/// A room's state: the events that a joiner gets.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a shape for the document")]
pub(super) struct RoomState {
    v: u64,
    source: String,
    /// The newest event in it.
    seq: u64,
    /// Where the room is now, on both of its clocks.
    pts_us: i64,
    wall_ms: i64,
    events: Vec<SignedEvent>,
    /// Keys that are gone, each with the seq up to which nothing of it matters any more.
    deleted: BTreeMap<String, u64>,
    /// Ids that were cancelled or superseded; true for those that had fired before.
    dropped: BTreeMap<String, bool>,
}

/// A CloudEvent 1.0 in structured mode.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a shape for the document")]
pub(super) struct CloudEvent {
    #[schema(pattern = r"^1\.0$")]
    specversion: String,
    /// A ULID, or any text: the same text is the same event.
    #[schema(min_length = 1)]
    id: String,
    /// `/` and the stream's name.
    #[schema(nullable = false)]
    source: Option<String>,
    r#type: String,
    /// The event's key.
    #[schema(nullable = false)]
    subject: Option<String>,
    /// The UTC instant at which it fires.
    #[schema(nullable = false, format = DateTime)]
    time: Option<String>,
    /// Its `expires_ms`.
    #[schema(nullable = false, format = DateTime)]
    expirytime: Option<String>,
    #[schema(nullable = false)]
    op: Option<Op>,
    /// Fires this long from now instead.
    #[schema(nullable = false)]
    inms: Option<u32>,
    /// Fires with this frame instead.
    #[schema(nullable = false)]
    ptsus: Option<String>,
    #[schema(nullable = false)]
    data: Option<Map<String, Value>>,
}
