//! Who may do what, as one table: the code asks it, and the tests walk it.
//!
//! What isn't in it is refused.

use crate::{
    config::TokenRole::{self, ApiAdmin, ApiRead, EventsWrite, Play, Publish, Relay},
    net::access::Action,
    observe::metrics::Protocol,
};

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it tells nothing that is not for everybody.
    Nothing,
    /// A token with this role, for the stream that the path names.
    Role(TokenRole),
    /// The same, unless everybody may watch.
    RoleUnlessOpen(TokenRole),
}

use Need::{Nothing, Role, RoleUnlessOpen};

/// The calls over HTTP: method, path as the router has it, and what it needs.
#[rustfmt::skip]
pub const CALLS: &[(&str, &str, Need)] = &[
    ("GET",    "/v1/openapi.json",                    Nothing),
    ("GET",    "/v1/time",                            Nothing),
    ("GET",    "/v1/moq",                             Nothing),
    ("GET",    "/v1/streams",                         RoleUnlessOpen(ApiRead)),
    ("GET",    "/v1/streams/{name}",                  RoleUnlessOpen(ApiRead)),
    ("GET",    "/v1/streams/{name}/events",           Role(ApiRead)),
    ("POST",   "/v1/streams/{name}/events",           Role(EventsWrite)),
    ("GET",    "/v1/streams/{name}/events/stream",    Role(ApiRead)),
    ("DELETE", "/v1/streams/{name}/events/{id}",      Role(EventsWrite)),
    ("GET",    "/v1/streams/{name}/state",            Role(ApiRead)),
    ("GET",    "/v1/streams/{name}/schedule",         Role(ApiRead)),
    ("GET",    "/v1/streams/{name}/rundown",          Role(ApiRead)),
    ("PUT",    "/v1/streams/{name}/rundown",          Role(EventsWrite)),
    ("DELETE", "/v1/streams/{name}/rundown",          Role(EventsWrite)),
    ("POST",   "/v1/streams/{name}/rundown/advance",  Role(EventsWrite)),
    ("GET",    "/v1/orgs/{org}/events",               Role(ApiRead)),
    ("POST",   "/v1/orgs/{org}/events",               Role(EventsWrite)),
    ("GET",    "/v1/orgs/{org}/events/stream",        Role(ApiRead)),
    ("DELETE", "/v1/orgs/{org}/events/{id}",          Role(EventsWrite)),
    ("GET",    "/v1/orgs/{org}/state",                Role(ApiRead)),
    ("GET",    "/v1/orgs/{org}/schedule",             Role(ApiRead)),
    ("GET",    "/v1/keys",                            Role(ApiAdmin)),
    ("POST",   "/v1/keys",                            Role(ApiAdmin)),
    ("DELETE", "/v1/keys/{id}",                       Role(ApiAdmin)),
    ("POST",   "/v1/keys/{id}/rotate",                Role(ApiAdmin)),
    ("GET",    "/v1/revocations",                     Role(ApiAdmin)),
    ("POST",   "/v1/revocations",                     Role(ApiAdmin)),
];

/// The calls of nodes to each other, which are in no document.
pub const PEERS: &[(&str, &str, Need)] = &[("POST", "/v1/standby", Role(Relay))];

/// What everybody may fetch: the page, health, metrics, and the public keys of events.
pub const OPEN: &[&str] = &[
    "/",
    "/console/app.js",
    "/console/app.css",
    "/console/icon.svg",
    "/livez",
    "/readyz",
    "/metrics",
    "/.well-known/hawker-keys.json",
];

/// Where the doors for media are that come over HTTP.
pub const MEDIA: &[&str] = &["/whip/{*path}", "/whep/{*path}", "/{*path}"];

/// The doors for media: protocol, action, and the role that opens it. Edges come through MoQ's with the role `relay`.
pub const DOORS: &[(Protocol, Action, TokenRole)] = &[
    (Protocol::Rtmp, Action::Publish, Publish),
    (Protocol::Whip, Action::Publish, Publish),
    (Protocol::Rtmp, Action::Play, Play),
    (Protocol::Flv, Action::Play, Play),
    (Protocol::Moq, Action::Play, Play),
    (Protocol::Whep, Action::Play, Play),
];

/// What a call needs; `None` for one that is not in the table.
pub fn of_call(method: &str, path: &str) -> Option<Need> {
    // HEAD is GET without the body.
    let method = if method == "HEAD" { "GET" } else { method };
    CALLS.iter().chain(PEERS).find(|(known, at, _)| *known == method && *at == path).map(|(_, _, need)| *need)
}

/// The role that opens a door; `None` for one that is not in the table.
pub(super) fn of_door(protocol: Protocol, action: Action) -> Option<TokenRole> {
    DOORS.iter().find(|(known, what, _)| *known == protocol && *what == action).map(|(_, _, role)| *role)
}
