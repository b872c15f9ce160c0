//! Who sent a request, and what he may do.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts, MatchedPath},
    http::{HeaderMap, StatusCode, header, request::Parts},
};

use super::{
    Api,
    refusal::{Refusal, too_many},
};
use crate::{
    config::TokenRole,
    control::auth::roles::{self, Need},
    hub::Refused,
    media::StreamName,
    net::access::Grant,
};

/// Who sent a request: his address and his headers, with the token; and what his call needs.
pub(in crate::control) struct Caller {
    pub(super) peer: IpAddr,
    pub(super) headers: HeaderMap,
    /// None for a call that is not in the table of roles, which is refused.
    need: Option<Need>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() else {
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the connection has no address"));
        };
        let path = parts.extensions.get::<MatchedPath>();
        let need = path.and_then(|path| roles::of_call(parts.method.as_str(), path.as_str()));
        Ok(Self { peer: peer.ip(), headers: parts.headers.clone(), need })
    }
}

impl Caller {
    pub(super) fn token(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
    }

    /// The role that the call needs of who shows a token.
    pub(super) fn role(&self) -> Option<TokenRole> {
        match self.need {
            Some(Need::Role(role) | Need::RoleUnlessOpen(role)) => Some(role),
            _ => None,
        }
    }

    /// Refuses who has no token with the role that the call needs, for `name` if there is one.
    pub(in crate::control) async fn must(&self, api: &Api, name: Option<&StreamName>) -> Result<Grant, Refusal> {
        let role = match (self.need, self.token()) {
            (Some(Need::Nothing), _) => return Ok(Grant::default()),
            (Some(Need::RoleUnlessOpen(_)), None) if api.auth.is_open() => return Ok(Grant::default()),
            (Some(Need::Role(role) | Need::RoleUnlessOpen(role)), _) => role,
            (None, _) => return Err(forbidden()),
        };
        let Some(token) = self.token() else {
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "a bearer token is needed"));
        };
        if !api.auth.may_call(self.peer, token, name) {
            return Err(too_many("too many failed tries from this address"));
        }
        api.auth.call(self.peer, token, role, name).await.map_err(|_| forbidden())
    }

    /// Refuses who may not send events to the room, and everybody where events are not accepted.
    pub(in crate::control) async fn must_write(&self, api: &Api, name: &StreamName) -> Result<(), Refusal> {
        self.must(api, Some(name)).await?;
        if api.takes_events {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, Refused::NotOrigin.to_string()))
    }
}

/// Unknown tokens and tokens without the right get one answer.
fn forbidden() -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "this token doesn't allow that")
}
