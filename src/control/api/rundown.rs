//! The rundown: its plan in, plan and actual out, and the director's button.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;

use super::{
    Api,
    caller::Caller,
    draft::IdempotencyKey,
    publish::{JSON, media_type, read_body},
    refusal::{ErrorBody, Refusal},
    room::Room,
};
use crate::{
    clock,
    control::rundown::{BadRundown, Conflict, Plan, Rundown, Start, Step, View, Wish, parse},
    hub::{At, Published, Refused},
    limits,
    media::StreamName,
};

/// The streams whose rundown is being changed: one change at a time, and whoever comes second is told so.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<Mutex<BTreeSet<StreamName>>>);

impl Busy {
    pub(super) fn enter(&self, name: &StreamName) -> Result<Change, Refusal> {
        if !self.0.lock().insert(name.clone()) {
            return Err(Refusal::new(StatusCode::CONFLICT, "another change of this rundown is under way"));
        }
        Ok(Change { busy: self.clone(), name: name.clone() })
    }
}

/// The right to change a rundown, while it lives.
pub(super) struct Change {
    busy: Busy,
    name: StreamName,
}

impl Drop for Change {
    fn drop(&mut self) {
        self.busy.0.lock().remove(&self.name);
    }
}

/// Plan and actual side by side.
#[utoipa::path(get, path = "/v1/streams/{name}/rundown", operation_id = "get_rundown", tag = "rundown",
    params(("name" = String, Path, description = "the stream, its slashes as they are or as %2F")),
    responses(
        (status = 200, description = "the rundown as it stands", body = View<'_>),
        (status = "4XX", description = "refused; 404: the stream has no rundown. 421: it is at the origin",
            body = ErrorBody),
        (status = 503, description = "the journal can't be read", body = ErrorBody),
    ))]
pub(super) async fn get(State(api): State<Arc<Api>>, Room(name): Room, caller: Caller) -> Result<Response, Refusal> {
    caller.must(&api, Some(&name)).await?;
    if !api.takes_events {
        return Err(Refused::NotOrigin.into());
    }
    Ok(answer(&must_load(&api, &name)?))
}

/// Puts a plan.
///
/// Before the show and after it, this is a new show. While it is on air the show goes on, and items that have been on
/// air must stay where they are, as they are. CSV has a header row: `title`, `class`, `planned_ms`, and if wanted
/// `sku` and `number`, in any order; every other column is a field of the card.
#[utoipa::path(put, path = "/v1/streams/{name}/rundown", operation_id = "put_rundown", tag = "rundown",
    params(("name" = String, Path, description = "the stream, its slashes as they are or as %2F")),
    request_body(content((Plan = "application/json"), (String = "text/csv"))),
    responses(
        (status = 200, description = "durable: the rundown as it stands", body = View<'_>),
        (status = "4XX", description = "refused. 409: an item has been on air. 422: an item is wrong, by its pointer \
            or its line", body = ErrorBody),
        (status = 503, description = "the journal can't be written; come again after Retry-After", body = ErrorBody),
        (status = 507, description = "the journal is full", body = ErrorBody),
    ))]
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Room(name): Room,
    caller: Caller,
    body: Body,
) -> Result<Response, Refusal> {
    caller.must_write(&api, &name).await?;
    let parse = match media_type(&caller.headers).as_str() {
        JSON => parse::json,
        "text/csv" => parse::csv,
        _ => {
            let error = "a rundown is application/json or text/csv";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
        }
    };
    let plan = parse(&read_body(body, limits::RUNDOWN_BYTES_MAX).await?, &name)?;
    let _change = api.rundowns.enter(&name)?;
    let rundown = match load(&api, &name)? {
        Some(old) => old.replace(plan)?,
        None => Rundown::new(plan),
    };
    save(&api, &name, &rundown).await?;
    Ok(answer(&rundown))
}

/// Deletes the rundown, unless the show is on air.
#[utoipa::path(delete, path = "/v1/streams/{name}/rundown", operation_id = "delete_rundown", tag = "rundown",
    params(("name" = String, Path, description = "the stream, its slashes as they are or as %2F")),
    responses(
        (status = 204, description = "gone"),
        (status = "4XX", description = "refused; 409: the show is on air", body = ErrorBody),
        (status = 503, description = "the journal can't be written; come again after Retry-After", body = ErrorBody),
        (status = 507, description = "the journal is full", body = ErrorBody),
    ))]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Room(name): Room,
    caller: Caller,
) -> Result<StatusCode, Refusal> {
    caller.must_write(&api, &name).await?;
    let _change = api.rundowns.enter(&name)?;
    if must_load(&api, &name)?.is_on_air() {
        return Err(Conflict::OnAir.into());
    }
    api.hub.put_document(&name, KIND, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts the next item on air, or the one that is named.
///
/// What was on air is ended: its card goes (`card.hide`). What comes is told as `chapter.start`, and with a `sku` as
/// `card.show`; all of them fire with one frame. After the last item the show ends. With `expect`, or with an
/// `Idempotency-Key`, a double click moves the show by one.
#[utoipa::path(post, path = "/v1/streams/{name}/rundown/advance", operation_id = "advance_rundown", tag = "rundown",
    params(
        ("name" = String, Path, description = "the stream, its slashes as they are or as %2F"),
        ("Idempotency-Key" = Option<String>, Header, nullable = false, min_length = 1, max_length = 255,
            pattern = "^[!-~]+$", description = "an advance that was made with it already is only answered"),
    ),
    request_body = Option<Wish>,
    responses(
        (status = 200, description = "durable: the rundown as it stands", body = View<'_>),
        (status = "4XX", description = "refused. 409: another item is on air than was expected, the show is over, or \
            nobody publishes the stream. 429: come again after Retry-After", body = ErrorBody),
        (status = 503, description = "the journal can't be written; come again after Retry-After", body = ErrorBody),
        (status = 507, description = "the journal is full", body = ErrorBody),
    ))]
pub(super) async fn advance(
    State(api): State<Arc<Api>>,
    Room(name): Room,
    caller: Caller,
    body: Body,
) -> Result<Response, Refusal> {
    caller.must_write(&api, &name).await?;
    let key = IdempotencyKey::of(&caller.headers)?.map(|key| key.id(&name));
    let body = read_body(body, limits::HTTP_BODY_BYTES_MAX).await?;
    let wish: Option<Wish> = if body.is_empty() { None } else { parse::from_json(&body)? };
    let _change = api.rundowns.enter(&name)?;
    let mut rundown = must_load(&api, &name)?;
    if key.is_some_and(|key| rundown.has_done(key)) {
        return Ok(answer(&rundown));
    }
    if let Some(step) = rundown.step(&wish.unwrap_or_default())? {
        let start = publish(&api, &name, &step).await?;
        rundown.advance(&step, start, key);
        save(&api, &name, &rundown).await?;
    }
    Ok(answer(&rundown))
}

/// Publishes the step's events for one frame, and says when that is.
pub(super) async fn publish(api: &Api, name: &StreamName, step: &Step) -> Result<Start, Refusal> {
    let soon = At::InMs(LEAD_MS);
    let mut at = soon;
    let mut start = Start { wall_ms: clock::unix_ms(), pts_us: None, seq: None };
    for draft in &step.drafts {
        let Published { event, known } = api.hub.publish_event(name, draft.clone(), Some(at)).await?;
        start = Start::of(&event, start.wall_ms);
        // What was left over by an advance that broke off may be long past.
        at = start.pts_us.filter(|_| !known).map_or(soon, At::PtsUs);
    }
    Ok(start)
}

fn load(api: &Api, name: &StreamName) -> Result<Option<Rundown>, Refusal> {
    let Some(document) = api.hub.document(name, KIND)? else { return Ok(None) };
    serde_json::from_slice(&document).map(Some).map_err(|error| {
        tracing::error!(stream = %name, %error, "the stored rundown can't be read");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the stored rundown can't be read")
    })
}

pub(super) fn must_load(api: &Api, name: &StreamName) -> Result<Rundown, Refusal> {
    load(api, name)?.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("no rundown for {name}")))
}

async fn save(api: &Api, name: &StreamName, rundown: &Rundown) -> Result<(), Refusal> {
    let json = serde_json::to_vec(rundown)
        .map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(api.hub.put_document(name, KIND, Some(json.into())).await?)
}

fn answer(rundown: &Rundown) -> Response {
    Json(rundown.view(clock::unix_ms())).into_response()
}

impl From<BadRundown> for Refusal {
    fn from(bad: BadRundown) -> Self {
        let status = match bad {
            BadRundown::Syntax(_) => StatusCode::BAD_REQUEST,
            BadRundown::Field { .. } | BadRundown::Line { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let mut refusal = Self::new(status, bad.to_string());
        if let BadRundown::Field { pointer, .. } = bad {
            refusal.body.pointer = Some(pointer);
        }
        refusal
    }
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        let (status, pointer) = match conflict {
            Conflict::NoSuchItem(_) => (StatusCode::UNPROCESSABLE_ENTITY, Some("/to".to_owned())),
            Conflict::Aired(index) => (StatusCode::CONFLICT, Some(format!("/items/{index}"))),
            _ => (StatusCode::CONFLICT, None),
        };
        let mut refusal = Self::new(status, conflict.to_string());
        refusal.body.pointer = pointer;
        refusal
    }
}

/// Under which a rundown is kept beside its room's events.
pub const KIND: &str = "rundown";
/// From the click to the frame: time for all of a step's events to be kept before that frame comes.
pub(super) const LEAD_MS: u32 = 100;
