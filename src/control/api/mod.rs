//! The HTTP API under `/v1`: what streams there are, and the door for commerce events (events.md §2).
//!
//! JSON only. Errors are `{"error": …}` with the status that says whose turn it is; a bad field is named by
//! a JSON pointer. What a call needs stands in `auth::roles`. The document at `/v1/openapi.json` is made of the handlers.

mod caller;
mod cloudevents;
mod draft;
mod keys;
mod log;
mod openapi;
mod publish;
mod refusal;
mod room;
mod rundown;
mod sse;
mod streams;

use std::sync::Arc;

use axum::{
    Router,
    routing::{delete, get, post},
};
use tokio_util::sync::CancellationToken;
use tower::util::MapRequest;

pub use self::rundown::{Busy as RundownsBusy, KIND as RUNDOWN_KIND};
pub(in crate::control) use self::{caller::Caller, refusal::Refusal};
use super::auth::Auth;
use crate::{
    hub::Hub,
    net::{pending::Pending, tls::Identity},
    observe::metrics::Metrics,
};

/// What the API works on.
pub struct Api {
    /// The streams.
    pub hub: Arc<Hub>,
    /// Who may do what.
    pub auth: Arc<Auth>,
    /// Counts events and refusals.
    pub metrics: Arc<Metrics>,
    /// Where MoQ viewers connect, and the certificate to pin if it is self-signed.
    pub moq: MoqAddress,
    /// False on a pure edge: events are posted to the origin.
    pub takes_events: bool,
    /// The rundowns that are being changed.
    pub rundowns: RundownsBusy,
    /// The places for event streams, which have no end of their own …
    pub event_streams: Pending,
    /// … and what ends them.
    pub stop: CancellationToken,
}

/// Where MoQ viewers connect.
#[derive(Debug, Clone)]
pub struct MoqAddress {
    /// UDP port; the host is the one by which the API was reached.
    pub port: u16,
    /// What they are shown there, now.
    pub identity: Identity,
}

/// What the page of a viewers' listener reads.
pub fn public_router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/time", get(streams::time))
        .route("/v1/moq", get(streams::moq))
        .route("/v1/streams", get(streams::list))
        .method_not_allowed_fallback(refusal::wrong_method)
        .with_state(api)
}

/// All of the API.
pub fn router(api: Arc<Api>) -> Router {
    let rooms = Router::new()
        .route("/v1/streams/{name}", get(streams::show))
        .route("/v1/streams/{name}/events", get(log::events).post(publish::post))
        .route("/v1/streams/{name}/events/stream", get(sse::follow))
        .route("/v1/streams/{name}/events/{id}", delete(publish::cancel))
        .route("/v1/streams/{name}/state", get(log::state))
        .route("/v1/streams/{name}/schedule", get(log::schedule))
        .route("/v1/streams/{name}/rundown", get(rundown::get).put(rundown::put).delete(rundown::delete))
        .route("/v1/streams/{name}/rundown/advance", post(rundown::advance))
        .fallback(refusal::unknown_path)
        .method_not_allowed_fallback(refusal::wrong_method)
        .with_state(api.clone());
    // An organisation's own room, heard in all of its rooms: the same calls.
    let everywhere = Router::new()
        .route("/v1/orgs/{org}/events", get(log::events).post(publish::post))
        .route("/v1/orgs/{org}/events/stream", get(sse::follow))
        .route("/v1/orgs/{org}/events/{id}", delete(publish::cancel))
        .route("/v1/orgs/{org}/state", get(log::state))
        .route("/v1/orgs/{org}/schedule", get(log::schedule))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}", delete(keys::revoke))
        .route("/v1/keys/{id}/rotate", post(keys::rotate))
        .route("/v1/revocations", get(keys::revocations).post(keys::revoke_jwt))
        .route("/v1/openapi.json", get(openapi::document))
        .method_not_allowed_fallback(refusal::wrong_method)
        .with_state(api.clone());
    Router::new()
        .route_service("/v1/streams/{*rest}", MapRequest::new(rooms, room::in_one_segment))
        .merge(everywhere)
        .merge(public_router(api))
}

#[cfg(test)]
mod tests;
