//! What a caller is told when he is refused: a status that says whose turn it is, a sentence, and a pointer.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::Api;
use crate::{
    hub::Refused,
    media::{StreamName, event::BadEvent},
};

/// A refusal, ready to be sent.
#[derive(Debug)]
pub(in crate::control) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: ErrorBody,
    pub(super) retry_after_secs: Option<u64>,
    /// The hub counts what it refuses.
    counted: bool,
}

/// Why a request was refused.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    /// A sentence for a person.
    pub(super) error: String,
    /// JSON pointer to the field that is wrong, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) pointer: Option<String>,
}

impl Refusal {
    pub(in crate::control) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let body = ErrorBody { error: error.into(), pointer: None };
        Self { status, body, retry_after_secs: None, counted: false }
    }

    fn later(self, secs: u64) -> Self {
        Self { retry_after_secs: Some(secs), ..self }
    }

    /// Counts and logs the refusal of an event.
    pub(super) fn note(&self, api: &Api, name: &StreamName) {
        if !self.counted {
            api.metrics.refused(self.reason());
        }
        let (status, error) = (self.status.as_u16(), &self.body.error);
        if self.status.is_server_error() {
            tracing::warn!(stream = %name, status, error, "event refused");
        } else {
            tracing::debug!(stream = %name, status, error, "event refused");
        }
    }

    /// The label of `hawker_refused_total`.
    fn reason(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => "event_auth",
            StatusCode::PAYLOAD_TOO_LARGE => "event_too_large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "event_media_type",
            StatusCode::MISDIRECTED_REQUEST => "event_at_edge",
            _ => "event_malformed",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(secs) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, secs.into());
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
        let mut refusal = Self::new(status, bad.to_string());
        if let BadEvent::Field { pointer, .. } = bad {
            refusal.body.pointer = Some(pointer);
        }
        refusal
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let error = refused.to_string();
        let refusal = match refused {
            Refused::Bad(bad) => bad.into(),
            Refused::NotLive => Self::new(StatusCode::CONFLICT, error),
            Refused::TooMany => Self::new(StatusCode::TOO_MANY_REQUESTS, error).later(1),
            Refused::TooFast { retry_after_secs } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, error).later(retry_after_secs)
            }
            Refused::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE, error),
            Refused::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, error).later(1),
            Refused::NotOrigin => Self::new(StatusCode::MISDIRECTED_REQUEST, error),
            Refused::UnknownEvent => Self::new(StatusCode::NOT_FOUND, error),
        };
        Self { counted: true, ..refusal }
    }
}

/// Too much of what is bounded: the caller may come again.
pub(super) fn too_many(error: &str) -> Refusal {
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, error).later(1)
}

pub(super) async fn unknown_path() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is no such path")
}

pub(super) async fn wrong_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path has other methods: see Allow")
}
