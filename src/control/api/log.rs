//! Events out: the log, the room's state, and what is yet to come.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    caller::Caller,
    openapi::{RoomState, SignedEvent},
    refusal::{ErrorBody, Refusal},
    room::Room,
};
use crate::limits;

/// Which part of the log.
#[derive(Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// Events with a greater `seq`.
    since: u64,
    /// So many at most, the oldest first.
    #[param(minimum = 1, maximum = 1000)]
    limit: usize,
}

impl Default for LogQuery {
    fn default() -> Self {
        Self { since: 0, limit: 100 }
    }
}

/// The log: every event accepted for the room, in the order of `seq`, one a line.
///
/// The next page begins behind the last line's `seq`; an empty reply is the end.
#[utoipa::path(get, path = "/v1/streams/{name}/events", tag = "events",
    params(("name" = String, Path, description = "the stream, its slashes as they are or as %2F"), LogQuery),
    responses(
        (status = 200, description = "signed events, as they were accepted", body = String,
            content_type = "application/x-ndjson"),
        (status = "4XX", description = "refused; 421: the log is at the origin", body = ErrorBody),
        (status = 503, description = "the journal can't be read", body = ErrorBody),
    ))]
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    Room(name): Room,
    query: Result<Query<LogQuery>, QueryRejection>,
    caller: Caller,
) -> Result<Response, Refusal> {
    caller.must(&api, Some(&name)).await?;
    let Query(query) = query.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    if !(1..=limits::EVENT_LOG_PAGE_MAX).contains(&query.limit) {
        let error = format!("limit is 1 to {}", limits::EVENT_LOG_PAGE_MAX);
        return Err(Refusal::new(StatusCode::BAD_REQUEST, error));
    }
    let mut lines = Vec::new();
    for event in api.hub.events_since(&name, query.since, query.limit)? {
        lines.extend_from_slice(&event);
        lines.push(b'\n');
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}

/// The room's state: what a viewer who joins now gets before his first frame.
///
/// With the schedule, and the event stream since the state's `seq`, it is everything.
#[utoipa::path(get, path = "/v1/streams/{name}/state", tag = "events",
    params(("name" = String, Path, description = "the stream, its slashes as they are or as %2F")),
    responses(
        (status = 200, description = "the snapshot", body = RoomState),
        (status = "4XX", description = "refused; 404: nothing is known of that room", body = ErrorBody),
        (status = 503, description = "the journal can't be read", body = ErrorBody),
    ))]
pub(super) async fn state(State(api): State<Arc<Api>>, Room(name): Room, caller: Caller) -> Result<Response, Refusal> {
    caller.must(&api, Some(&name)).await?;
    match api.hub.room_state(&name)? {
        Some(state) => Ok(([(header::CONTENT_TYPE, "application/json")], state).into_response()),
        None => Err(Refusal::new(StatusCode::NOT_FOUND, format!("nothing is known of {name}"))),
    }
}

/// Events that wait for their time.
#[derive(Serialize, ToSchema)]
pub(super) struct Schedule {
    /// In the order of `seq`.
    #[schema(value_type = Vec<SignedEvent>)]
    events: Vec<Value>,
}

/// What is accepted and has not fired yet.
#[utoipa::path(get, path = "/v1/streams/{name}/schedule", tag = "events",
    params(("name" = String, Path, description = "the stream, its slashes as they are or as %2F")),
    responses(
        (status = 200, description = "the schedule", body = Schedule),
        (status = "4XX", description = "refused; 421: the schedule is at the origin", body = ErrorBody),
        (status = 503, description = "the journal can't be read", body = ErrorBody),
    ))]
pub(super) async fn schedule(
    State(api): State<Arc<Api>>,
    Room(name): Room,
    caller: Caller,
) -> Result<Json<Schedule>, Refusal> {
    caller.must(&api, Some(&name)).await?;
    let events = api.hub.scheduled_events(&name)?;
    let events = events.iter().filter_map(|event| serde_json::from_slice(&event.json).ok()).collect();
    Ok(Json(Schedule { events }))
}
