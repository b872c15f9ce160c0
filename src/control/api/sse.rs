//! The log as it grows, as server-sent events.
//!
//! A reader follows the log by `seq`, and what the hub tells is only the bell to look again: so nothing is
//! missed or doubled, however far he lags and however often he comes back.

use std::{borrow::Cow, convert::Infallible, fmt::Write as _, pin::pin, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::IntoParams;

use super::{
    Api,
    caller::Caller,
    refusal::{ErrorBody, Refusal, too_many},
    room::Room,
};
use crate::{
    clock, limits,
    media::StreamName,
    net::{access::Grant, pending::Place},
};

/// Where to begin.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FollowQuery {
    /// Behind the event with this `seq`. Without it: behind the newest. `Last-Event-ID` goes first.
    since: Option<u64>,
}

/// Follows the log: each event once it is accepted, in the order of `seq`, as `text/event-stream`.
///
/// `id` is the seq, `event` the type, `data` the signed event. A reader that comes back with `Last-Event-ID`
/// goes on behind it.
#[utoipa::path(get, path = "/v1/streams/{name}/events/stream", tag = "events",
    params(
        ("name" = String, Path, description = "the stream, its slashes as they are or as %2F"),
        ("Last-Event-ID" = Option<u64>, Header, nullable = false, description = "the last event that was read"),
        FollowQuery,
    ),
    responses(
        (status = 200, description = "events without end", body = String, content_type = "text/event-stream"),
        (status = "4XX", description = "refused; 421: the log is at the origin", body = ErrorBody),
        (status = 503, description = "the journal can't be read", body = ErrorBody),
    ))]
pub(super) async fn follow(
    State(api): State<Arc<Api>>,
    Room(name): Room,
    query: Result<Query<FollowQuery>, QueryRejection>,
    caller: Caller,
) -> Result<Response, Refusal> {
    let grant = caller.must(&api, Some(&name)).await?;
    let Query(query) = query.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let since = last_event_id(&caller)?.or(query.since);
    let place = api.event_streams.admit(caller.peer).ok_or_else(|| too_many("too many event streams are open"))?;
    let (newest, bell) = api.hub.follow_events(&name)?;
    let seq = since.unwrap_or(newest);
    // What can't be read is said with a status, which a body has no more.
    api.hub.events_since(&name, seq, 1)?;
    tracing::info!(stream = %name, peer = %caller.peer, seq, "event stream began");
    let follower = Follower { api, name, grant, bell, seq, events: 0, _place: place };
    let events = stream::unfold(follower, |mut follower| async move {
        let chunk = follower.next().await?;
        Some((Ok::<_, Infallible>(chunk), follower))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(events)).into_response())
}

fn last_event_id(caller: &Caller) -> Result<Option<u64>, Refusal> {
    let Some(id) = caller.headers.get("last-event-id") else { return Ok(None) };
    match id.to_str().ok().and_then(|id| id.parse().ok()) {
        Some(seq) => Ok(Some(seq)),
        None => Err(Refusal::new(StatusCode::BAD_REQUEST, "Last-Event-ID is the seq of an event")),
    }
}

struct Follower {
    api: Arc<Api>,
    name: StreamName,
    /// What the reader was let in with.
    grant: Grant,
    bell: watch::Receiver<u64>,
    /// The last one sent.
    seq: u64,
    /// How many were sent.
    events: u64,
    _place: Place,
}

impl Drop for Follower {
    fn drop(&mut self) {
        tracing::info!(stream = %self.name, seq = self.seq, events = self.events, "event stream ended");
    }
}

impl Follower {
    /// What to write next, waiting for it; nothing more when the server stops, the
    /// reader's token is over or the log fails: he comes
    /// back to where he was.
    async fn next(&mut self) -> Option<Bytes> {
        // Fixed beforehand: the bell also rings for what is not in the log.
        let heartbeat = clock::now() + limits::EVENT_STREAM_HEARTBEAT;
        let mut over = pin!(self.grant.over());
        while !self.api.stop.is_cancelled() && !self.grant.is_over() {
            let events = self.api.hub.events_since(&self.name, self.seq, limits::EVENT_STREAM_CHUNK_MAX).ok()?;
            let chunk = self.write(&events);
            if !chunk.is_empty() {
                return Some(chunk.into());
            }
            tokio::select! {
                () = self.api.stop.cancelled() => return None,
                _ = &mut over => return None,
                rung = self.bell.changed() => if rung.is_err() { return None },
                () = tokio::time::sleep_until(heartbeat) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
        None
    }

    fn write(&mut self, events: &[Bytes]) -> String {
        #[derive(Deserialize)]
        struct Line<'a> {
            seq: u64,
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
        }
        let mut chunk = String::new();
        for json in events {
            // The log holds only events, whose canonical form is UTF-8 without line ends.
            let (Ok(line), Ok(text)) = (serde_json::from_slice::<Line>(json), std::str::from_utf8(json)) else {
                continue;
            };
            self.seq = self.seq.max(line.seq);
            self.events += 1;
            let _ = write!(chunk, "id: {}\nevent: {}\ndata: {text}\n\n", line.seq, line.kind);
        }
        chunk
    }
}
