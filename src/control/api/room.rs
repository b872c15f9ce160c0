//! Which room a path names. Stream names have slashes: `/v1/streams/live/room/events` is written as it is said,
//! or with the name in one segment, `/v1/streams/live%2Froom/events`, as generated clients do.

use std::fmt::Write as _;

use axum::{
    extract::{FromRequestParts, MatchedPath, Path, Request},
    http::{StatusCode, Uri, request::Parts},
};
use serde::Deserialize;

use super::refusal::Refusal;
use crate::media::StreamName;

/// The room of a request: a stream, or an organisation's own.
pub(super) struct Room(pub(super) StreamName);

#[derive(Deserialize)]
struct Params {
    name: Option<String>,
    org: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Room {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let bad = |error: String| Refusal::new(StatusCode::BAD_REQUEST, error);
        let params = Path::<Params>::from_request_parts(parts, state).await.map_err(|error| bad(error.body_text()))?;
        let name = match (&params.name, &params.org) {
            (_, Some(org)) if org.contains('/') => return Err(bad("an organisation is one segment of a name".into())),
            (_, Some(org)) => StreamName::global_of(org),
            (name, None) => name.as_deref().unwrap_or_default().parse(),
        };
        match name {
            Ok(name) => Ok(Self(name)),
            Err(error) => Err(bad(format!("{error}"))),
        }
    }
}

/// Rewrites a path so that the stream's name is one segment, which is what routes match.
pub(super) fn in_one_segment(mut request: Request) -> Request {
    // The routes behind this one are whole paths; without this theirs would be put behind it.
    request.extensions_mut().remove::<MatchedPath>();
    let uri = request.uri();
    if let Some(mut path) = one_segment(uri.path()) {
        if let Some(query) = uri.query() {
            let _ = write!(path, "?{query}");
        }
        // Only an absurdly long path can fail here; it then matches no route.
        if let Ok(uri) = path.parse::<Uri>() {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// The path with the name's slashes encoded, unless it has none or they are.
fn one_segment(path: &str) -> Option<String> {
    let rest = path.strip_prefix(STREAMS)?;
    let segments: Vec<&str> = rest.split('/').collect();
    let encoded = segments.first()?.to_ascii_uppercase().contains(SLASH);
    let behind = match segments.as_slice() {
        [_, .., "events", _] | [_, .., "rundown", "advance"] => 2,
        [_, .., "events" | "state" | "schedule" | "rundown"] => 1,
        _ => 0,
    };
    let (name, behind) = segments.split_at_checked(segments.len() - behind)?;
    if encoded || name.len() < 2 {
        return None;
    }
    let mut path = format!("{STREAMS}{}", name.join(SLASH));
    for segment in behind {
        let _ = write!(path, "/{segment}");
    }
    Some(path)
}

const STREAMS: &str = "/v1/streams/";
const SLASH: &str = "%2F";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_where_a_known_word_begins() {
        for (path, expected) in [
            ("live/room", "live%2Froom"),
            ("live/room/events", "live%2Froom/events"),
            ("live/room/events/stream", "live%2Froom/events/stream"),
            ("live/events/events/01H", "live%2Fevents/events/01H"),
            ("live/room/state", "live%2Froom/state"),
            ("a/b/c/schedule", "a%2Fb%2Fc/schedule"),
            ("live/room/rundown", "live%2Froom/rundown"),
            ("live/room/rundown/advance", "live%2Froom/rundown/advance"),
            ("live//room", "live%2F%2Froom"),
        ] {
            assert_eq!(one_segment(&format!("{STREAMS}{path}")), Some(format!("{STREAMS}{expected}")), "{path}");
        }
        for path in ["room", "events", "room/events", "room/events/01H", "live%2Fstate", "live%2froom/state", ""] {
            assert_eq!(one_segment(&format!("{STREAMS}{path}")), None, "{path}");
        }
        assert_eq!(one_segment("/v1/time"), None);
    }
}
