//! Events in: one, or a batch in which each item has its own outcome; and taking one back.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::future;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    caller::Caller,
    cloudevents,
    draft::{Draft, IdempotencyKey},
    openapi::{CloudEvent, EventDrafts, PostReply, SignedEvent},
    refusal::{ErrorBody, Refusal},
    room::Room,
};
use crate::{
    hub::{Published, Refused},
    limits,
    media::{Event, StreamName, event::BadEvent},
    net::http::{self, BadBody},
};

/// What became of one event of a batch.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchItem {
    /// What a request with this event alone would have answered.
    status: u16,
    /// As stamped and signed, if it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = SignedEvent)]
    event: Option<Value>,
    /// Why not, if it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
    /// JSON pointer into the item.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pointer: Option<String>,
    /// When it may be sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_after_secs: Option<u64>,
}

/// Sends an event to a room.
///
/// An array is a batch: its reply is 200 with an outcome for each item, in order, and what was accepted stays
/// accepted. `at` says when: `{"now": true}`, `{"in_ms": 3000}`, `{"pts_us": …}` or `{"wall_ms": …}`.
/// The same `id`, or the same `Idempotency-Key`, is the same event: 200 instead of 201.
#[utoipa::path(post, path = "/v1/streams/{name}/events", tag = "events",
    params(
        ("name" = String, Path, description = "the stream, its slashes as they are or as %2F"),
        ("Idempotency-Key" = Option<String>, Header, nullable = false, min_length = 1, max_length = 255,
            pattern = "^[!-~]+$",
            description = "a ULID is the event's id; from any other visible ASCII text one is made"),
    ),
    request_body(content(
        (EventDrafts = "application/json"),
        (CloudEvent = "application/cloudevents+json"),
        (Vec<CloudEvent> = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 201, description = "accepted and durable: the event, stamped and signed", body = SignedEvent),
        (status = 200, description = "accepted before: the same event; or a batch's outcomes", body = PostReply),
        (status = "4XX", description = "refused, as `error` and `pointer` say. 409: nobody publishes the stream. 413: \
            over 4096 bytes. 421: this node is an edge. 422: a field breaks the contract. 429: come again after \
            Retry-After", body = ErrorBody),
        (status = 503, description = "the journal can't be written; come again after Retry-After", body = ErrorBody),
        (status = 507, description = "the journal is full", body = ErrorBody),
    ))]
pub(super) async fn post(
    State(api): State<Arc<Api>>,
    Room(name): Room,
    caller: Caller,
    body: Body,
) -> Result<Response, Refusal> {
    accept(&api, &name, &caller, body).await.inspect_err(|refusal| refusal.note(&api, &name))
}

async fn accept(api: &Api, name: &StreamName, caller: &Caller, body: Body) -> Result<Response, Refusal> {
    caller.must_write(api, name).await?;
    let form = Form::of(&caller.headers)?;
    let key = IdempotencyKey::of(&caller.headers)?;
    let body = serde_json::from_slice(&read_body(body, limits::HTTP_BODY_BYTES_MAX).await?)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let value = match (form, body) {
        (Form::Json | Form::CloudEventBatch, Value::Array(items)) => return batch(api, name, form, items, key).await,
        (Form::CloudEventBatch, _) => return Err(BadEvent::field("", "a batch is a JSON array").into()),
        (Form::CloudEventBinary, data) => cloudevents::from_binary(&caller.headers, data),
        (Form::Json | Form::CloudEvent, value) => value,
    };
    let mut draft = form.draft(value, name)?;
    draft.identify(key.map(|key| key.id(name)))?;
    let published = publish(api, name, form, draft).await?;
    let status = if published.known { StatusCode::OK } else { StatusCode::CREATED };
    Ok(event_reply(status, &published.event))
}

/// All at once, so that they share what each has to wait for; they are accepted in their order.
async fn batch(
    api: &Api,
    name: &StreamName,
    form: Form,
    items: Vec<Value>,
    key: Option<IdempotencyKey>,
) -> Result<Response, Refusal> {
    if items.len() > limits::EVENT_BATCH_MAX {
        let error = format!("a batch has at most {} events", limits::EVENT_BATCH_MAX);
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error));
    }
    let outcomes = items.into_iter().enumerate().map(async |(index, item)| {
        let outcome = async {
            let mut draft = form.draft(item, name)?;
            // An id of its own says more than the key of all.
            let key = key.as_ref().filter(|_| !draft.fields.contains_key("id"));
            draft.identify(key.map(|key| key.item_id(name, index)))?;
            publish(api, name, form, draft).await
        };
        outcome.await.map_or_else(
            |refusal| {
                refusal.note(api, name);
                refusal.into()
            },
            BatchItem::from,
        )
    });
    Ok(Json(future::join_all(outcomes).await).into_response())
}

async fn publish(api: &Api, name: &StreamName, form: Form, draft: Draft) -> Result<Published, Refusal> {
    let published = api.hub.publish_event(name, draft.fields, draft.at).await;
    if let Ok(Published { event, known: false, .. }) = &published
        && event.json.len() > Event::BYTES_SOFT_MAX
    {
        let (id, bytes) = (&event.head.id, event.json.len());
        tracing::warn!(stream = %name, id, bytes, "an event is larger than all players are sure to take");
    }
    published.map_err(|refused| match refused {
        Refused::Bad(bad) => Refused::Bad(form.in_its_terms(bad)).into(),
        other => other.into(),
    })
}

/// Why an event is taken back.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CancelQuery {
    /// For those who read the log.
    #[param(max_length = 512)]
    reason: Option<String>,
}

/// Takes an event back: a pending one never fires, a running one stops.
///
/// The reply is the `cancel` event, which goes to whoever has the other one.
#[utoipa::path(delete, path = "/v1/streams/{name}/events/{id}", tag = "events",
    params(
        ("name" = String, Path, description = "the stream, its slashes as they are or as %2F"),
        ("id" = String, Path, description = "the event's ULID"),
        CancelQuery,
    ),
    responses(
        (status = 200, description = "cancelled: the cancel event, stamped and signed", body = SignedEvent),
        (status = "4XX", description = "refused; 404: no such event was accepted", body = ErrorBody),
        (status = "5XX", description = "the journal can't be written or is full", body = ErrorBody),
    ))]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Room(name): Room,
    Path(EventPath { id }): Path<EventPath>,
    query: Result<Query<CancelQuery>, QueryRejection>,
    caller: Caller,
) -> Result<Response, Refusal> {
    let outcome = async {
        caller.must_write(&api, &name).await?;
        let Query(query) = query.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.body_text()))?;
        Ok(api.hub.cancel_event(&name, &id, query.reason.as_deref()).await?)
    };
    let published: Published = outcome.await.inspect_err(|refusal: &Refusal| refusal.note(&api, &name))?;
    Ok(event_reply(StatusCode::OK, &published.event))
}

#[derive(Deserialize)]
pub(super) struct EventPath {
    id: String,
}

/// How a request writes its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    CloudEvent,
    CloudEventBatch,
    CloudEventBinary,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        match media_type(headers).as_str() {
            JSON if cloudevents::is_binary(headers) => Ok(Self::CloudEventBinary),
            JSON => Ok(Self::Json),
            "application/cloudevents+json" => Ok(Self::CloudEvent),
            "application/cloudevents-batch+json" => Ok(Self::CloudEventBatch),
            _ => Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "events are application/json, application/cloudevents+json or application/cloudevents-batch+json",
            )),
        }
    }

    fn draft(self, value: Value, name: &StreamName) -> Result<Draft, BadEvent> {
        if self == Self::Json {
            return Draft::parse(value, name);
        }
        let draft = cloudevents::to_draft(value, name)?;
        Draft::parse(draft, name).map_err(cloudevents::in_its_terms)
    }

    fn in_its_terms(self, bad: BadEvent) -> BadEvent {
        if self == Self::Json { bad } else { cloudevents::in_its_terms(bad) }
    }
}

impl From<Published> for BatchItem {
    fn from(published: Published) -> Self {
        Self {
            status: if published.known { 200 } else { 201 },
            // Canonical, and so it stays: the map is sorted.
            event: serde_json::from_slice(&published.event.json).ok(),
            error: None,
            pointer: None,
            retry_after_secs: None,
        }
    }
}

impl From<Refusal> for BatchItem {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: refusal.status.as_u16(),
            event: None,
            error: Some(refusal.body.error),
            pointer: refusal.body.pointer,
            retry_after_secs: refusal.retry_after_secs,
        }
    }
}

fn event_reply(status: StatusCode, event: &Event) -> Response {
    (status, [(header::CONTENT_TYPE, JSON)], event.json.clone()).into_response()
}

/// What the body is, without parameters; JSON unless the caller says.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(Ok(JSON), |value| value.to_str()).unwrap_or("?");
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads a body within its bounds; only of callers who may send one.
pub(in crate::control) async fn read_body(body: Body, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    http::read_body(body, bytes_max, limits::HTTP_BODY_TIMEOUT).await.map_err(|bad| match bad {
        BadBody::TooLarge => {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {bytes_max} bytes"))
        }
        BadBody::TooSlow => Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
        BadBody::Broken => Refusal::new(StatusCode::BAD_REQUEST, "the body did not arrive whole"),
    })
}

pub(super) const JSON: &str = "application/json";
