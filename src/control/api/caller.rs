//! Who sent a request, and what he may do.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, StatusCode, header, request::Parts},
};

use super::{
    Api,
    refusal::{Refusal, too_many},
};
use crate::{config::TokenRole, hub::Refused, media::StreamName};

/// Who sent a request: his address and his headers, with the token.
pub(in crate::control) struct Caller {
    pub(super) peer: IpAddr,
    pub(super) headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() else {
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the connection has no address"));
        };
        Ok(Self { peer: peer.ip(), headers: parts.headers.clone() })
    }
}

impl Caller {
    pub(super) fn token(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
    }

    /// Refuses who has no token with `role`, for `name` if there is one.
    pub(in crate::control) async fn must(
        &self,
        api: &Api,
        role: TokenRole,
        name: Option<&StreamName>,
    ) -> Result<(), Refusal> {
        let Some(token) = self.token() else {
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "a bearer token is needed"));
        };
        if !api.auth.may_try(self.peer) {
            return Err(too_many("too many failed tries from this address"));
        }
        if api.auth.may(token, role, name) {
            return Ok(());
        }
        api.auth.failed(self.peer);
        // Unknown tokens and tokens without the right get one answer.
        Err(Refusal::new(StatusCode::FORBIDDEN, "this token doesn't allow that"))
    }

    /// Refuses who may not send events to the room, and everybody where events are not accepted.
    pub(in crate::control) async fn must_write(&self, api: &Api, name: &StreamName) -> Result<(), Refusal> {
        self.must(api, TokenRole::EventsWrite, Some(name)).await?;
        if api.takes_events {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, Refused::NotOrigin.to_string()))
    }
}
