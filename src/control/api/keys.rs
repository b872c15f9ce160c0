//! Keys and tokens: made, rotated and revoked by whoever has the role `api:admin`, below his own prefix.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{
    Api,
    caller::Caller,
    publish::read_body,
    refusal::{ErrorBody, Refusal},
};
use crate::{
    clock,
    config::TokenRole,
    control::auth::{
        Auth, KeyError,
        store::{Key, Revocation, Terms},
    },
    limits,
    media::StreamName,
    secret::Secret,
    task,
};

/// A key or token, without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyInfo {
    id: String,
    /// When it was made, UTC seconds since 1970.
    created: u64,
    terms: Terms,
}

/// Keys and tokens.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyList {
    keys: Vec<KeyInfo>,
}

/// A key or token, with its secret: nobody is told it again.
#[derive(Serialize, ToSchema)]
pub(super) struct NewKey {
    id: String,
    /// When it was made, UTC seconds since 1970.
    created: u64,
    secret: String,
    terms: Terms,
}

/// How a secret is replaced.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rotation {
    /// The secret before stays good for so long, and what it opened goes on; by default it ends at once.
    #[schema(maximum = 2_592_000)]
    grace_secs: u64,
}

/// What is revoked.
#[derive(Serialize, ToSchema)]
pub(super) struct RevocationList {
    revocations: Vec<Revocation>,
}

/// The keys and tokens that were made by this API, as far as the caller's prefix goes.
#[utoipa::path(get, path = "/v1/keys", operation_id = "list_keys", tag = "keys", responses(
    (status = 200, description = "the keys, without their secrets", body = KeyList),
    (status = "4XX", description = "refused", body = ErrorBody)))]
pub(super) async fn list(State(api): State<Arc<Api>>, caller: Caller) -> Result<Json<KeyList>, Refusal> {
    let admin = Admin::of(&api, &caller).await?;
    let keys = blocking(&api, |auth| Ok(auth.keys())).await?;
    let keys = keys.into_iter().filter(|key| admin.covers(&key.terms.prefix)).map(KeyInfo::from).collect();
    Ok(Json(KeyList { keys }))
}

/// Makes a stream key or a token: 128 random bits, kept as their hash.
#[utoipa::path(post, path = "/v1/keys", operation_id = "create_key", tag = "keys",
    request_body = Terms,
    responses(
        (status = 201, description = "durable: the key, and its secret for the only time", body = NewKey),
        (status = "4XX", description = "refused. 421: this node keeps no keys. 422: the terms are wrong",
            body = ErrorBody),
        (status = 503, description = "the keys can't be written", body = ErrorBody),
        (status = 507, description = "no more keys can be kept", body = ErrorBody),
    ))]
pub(super) async fn create(State(api): State<Arc<Api>>, caller: Caller, body: Body) -> Result<Response, Refusal> {
    let admin = Admin::of(&api, &caller).await?;
    let terms: Terms = read(body).await?;
    check(&terms)?;
    if !admin.covers(&terms.prefix) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "this token makes keys below its own prefix only"));
    }
    let (key, secret) = blocking(&api, |auth| auth.create(terms)).await?;
    tracing::info!(id = key.id, prefix = key.terms.prefix, roles = ?key.terms.roles, peer = %caller.peer, "key made");
    Ok(told(StatusCode::CREATED, key, &secret))
}

/// Gives a key another secret.
#[utoipa::path(post, path = "/v1/keys/{id}/rotate", operation_id = "rotate_key", tag = "keys",
    params(("id" = String, Path, description = "the key's id")),
    request_body(content = Option<Rotation>),
    responses(
        (status = 200, description = "durable: the key, and its new secret for the only time", body = NewKey),
        (status = "4XX", description = "refused; 404: no such key", body = ErrorBody),
        (status = 503, description = "the keys can't be written", body = ErrorBody),
    ))]
pub(super) async fn rotate(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    caller: Caller,
    body: Body,
) -> Result<Response, Refusal> {
    Admin::of(&api, &caller).await?.must_know(&api, &id).await?;
    let Rotation { grace_secs } = read::<Option<Rotation>>(body).await?.unwrap_or_default();
    if grace_secs > GRACE_SECS_MAX {
        return Err(wrong("/grace_secs", format!("is at most {GRACE_SECS_MAX}")));
    }
    let grace = Duration::from_secs(grace_secs);
    let graced = api.auth.clone();
    let rotate = move |auth: &Auth| {
        let rotated = auth.rotate(&id, grace)?;
        // Here, since the caller may be gone by now.
        if !grace.is_zero() {
            task::spawn("grace of a key", async move {
                tokio::time::sleep(grace).await;
                graced.end_grace();
            });
        }
        Ok(rotated)
    };
    let (key, secret) = blocking(&api, rotate).await?;
    tracing::info!(id = key.id, grace_secs, peer = %caller.peer, "key rotated");
    Ok(told(StatusCode::OK, key, &secret))
}

/// Revokes a key: what it opened ends within two seconds.
#[utoipa::path(delete, path = "/v1/keys/{id}", operation_id = "revoke_key", tag = "keys",
    params(("id" = String, Path, description = "the key's id")),
    responses(
        (status = 204, description = "durable: it opens nothing any more"),
        (status = "4XX", description = "refused; 404: no such key", body = ErrorBody),
        (status = 503, description = "the keys can't be written", body = ErrorBody),
    ))]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    caller: Caller,
) -> Result<StatusCode, Refusal> {
    Admin::of(&api, &caller).await?.must_know(&api, &id).await?;
    tracing::info!(id, peer = %caller.peer, "key revoked");
    blocking(&api, move |auth| auth.revoke(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The JWTs that open nothing any more.
#[utoipa::path(get, path = "/v1/revocations", operation_id = "list_revocations", tag = "keys", responses(
    (status = 200, description = "what is revoked, and until when that is remembered", body = RevocationList),
    (status = "4XX", description = "refused", body = ErrorBody)))]
pub(super) async fn revocations(State(api): State<Arc<Api>>, caller: Caller) -> Result<Json<RevocationList>, Refusal> {
    Admin::of(&api, &caller).await?.must_have_all()?;
    Ok(Json(RevocationList { revocations: blocking(&api, |auth| Ok(auth.revocations())).await? }))
}

/// Revokes a JWT by its `jti`, or all of somebody's by their `sub`: what they opened here ends within two seconds.
///
/// Each node is told by itself; one without a data directory remembers it until it stops.
#[utoipa::path(post, path = "/v1/revocations", operation_id = "revoke_jwt", tag = "keys",
    request_body = Revocation,
    responses(
        (status = 201, description = "in force, and durable where there is a data directory", body = Revocation),
        (status = "4XX", description = "refused; 422: neither or both of sub and jti, or a time that has passed",
            body = ErrorBody),
        (status = 503, description = "it can't be written", body = ErrorBody),
        (status = 507, description = "no more can be remembered", body = ErrorBody),
    ))]
pub(super) async fn revoke_jwt(
    State(api): State<Arc<Api>>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Revocation>), Refusal> {
    Admin::of(&api, &caller).await?.must_have_all()?;
    let revocation: Revocation = read(body).await?;
    let named = match (&revocation.sub, &revocation.jti) {
        (Some(name), None) | (None, Some(name)) => name,
        _ => return Err(wrong("", "give either sub or jti")),
    };
    if !(1..=limits::AUTH_CLAIM_BYTES_MAX).contains(&named.len()) {
        return Err(wrong("", format!("sub and jti have 1 to {} bytes", limits::AUTH_CLAIM_BYTES_MAX)));
    }
    if revocation.until <= now_s() {
        return Err(wrong("/until", "is UTC seconds since 1970, and yet to come"));
    }
    let told = revocation.clone();
    blocking(&api, |auth| auth.revoke_jwt(revocation)).await?;
    tracing::info!(peer = %caller.peer, until = told.until, "JWT revoked");
    Ok((StatusCode::CREATED, Json(told)))
}

/// Somebody with the role, and the prefixes that he has it for.
struct Admin {
    prefixes: Vec<String>,
}

impl Admin {
    async fn of(api: &Api, caller: &Caller) -> Result<Self, Refusal> {
        caller.must(api, None).await?;
        let prefixes = api.auth.prefixes(caller.token().unwrap_or_default(), TokenRole::ApiAdmin);
        Ok(Self { prefixes })
    }

    /// Is all below `prefix` his?
    fn covers(&self, prefix: &str) -> bool {
        let folder = prefix.parse::<StreamName>().ok();
        self.prefixes.iter().any(|own| own.is_empty() || folder.as_ref().is_some_and(|folder| folder.is_under(own)))
    }

    /// What isn't his looks like what isn't there.
    async fn must_know(&self, api: &Api, id: &str) -> Result<(), Refusal> {
        let keys = blocking(api, |auth| Ok(auth.keys())).await?;
        match keys.iter().any(|key| key.id == id && self.covers(&key.terms.prefix)) {
            true => Ok(()),
            false => Err(KeyError::Unknown.into()),
        }
    }

    /// A JWT's owner may be anywhere.
    fn must_have_all(&self) -> Result<(), Refusal> {
        match self.prefixes.iter().any(String::is_empty) {
            true => Ok(()),
            false => Err(Refusal::new(StatusCode::FORBIDDEN, "this takes a token with the prefix \"\"")),
        }
    }
}

fn check(terms: &Terms) -> Result<(), Refusal> {
    if terms.roles.is_empty() {
        return Err(wrong("/roles", "a key without a role opens nothing"));
    }
    if !terms.prefix.is_empty() && terms.prefix.parse::<StreamName>().is_err() {
        return Err(wrong("/prefix", "is a stream name or a folder of names"));
    }
    if terms.roles.contains(&TokenRole::Relay) && !terms.prefix.is_empty() {
        return Err(wrong("/prefix", "an edge pulls every stream: with the role relay the prefix is \"\""));
    }
    if terms.streams_max == Some(0) {
        return Err(wrong("/streams_max", "is at least 1"));
    }
    if terms.bitrate_kbps_max == Some(0) {
        return Err(wrong("/bitrate_kbps_max", "is at least 1"));
    }
    if terms.expires.is_some_and(|expires| expires <= now_s()) {
        return Err(wrong("/expires", "is UTC seconds since 1970, and yet to come"));
    }
    if terms.note.len() > limits::AUTH_NOTE_BYTES_MAX || terms.note.chars().any(char::is_control) {
        return Err(wrong("/note", format!("is one line of {} bytes at most", limits::AUTH_NOTE_BYTES_MAX)));
    }
    Ok(())
}

fn wrong(pointer: &str, error: impl Into<String>) -> Refusal {
    let mut refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error);
    refusal.body.pointer = Some(pointer.to_owned());
    refusal
}

/// A body in JSON; an empty one is `null`.
async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let bytes = read_body(body, limits::AUTH_BODY_BYTES_MAX).await?;
    let text = if bytes.is_empty() { &b"null"[..] } else { &bytes };
    let refused = |error: serde_json::Error| match error.classify() {
        serde_json::error::Category::Data => wrong("", error.to_string()),
        _ => Refusal::new(StatusCode::BAD_REQUEST, error.to_string()),
    };
    serde_json::from_slice(text).map_err(refused)
}

fn told(status: StatusCode, key: Key, secret: &Secret) -> Response {
    let Key { id, created, terms, .. } = key;
    let body = NewKey { id, created, secret: secret.expose().to_owned(), terms };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Where the disk may be waited for. It is done to its end, whether or not the caller waits for it.
async fn blocking<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Auth) -> Result<T, KeyError> + Send + 'static,
) -> Result<T, Refusal> {
    let auth = api.auth.clone();
    match tokio::task::spawn_blocking(move || work(&auth)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the keys can't be had")),
    }
}

impl From<Key> for KeyInfo {
    fn from(key: Key) -> Self {
        Self { id: key.id, created: key.created, terms: key.terms }
    }
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        let status = match error {
            KeyError::NoStore => StatusCode::MISDIRECTED_REQUEST,
            KeyError::Full => StatusCode::INSUFFICIENT_STORAGE,
            KeyError::Unknown => StatusCode::NOT_FOUND,
            KeyError::Write(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

fn now_s() -> u64 {
    u64::try_from(clock::unix_ms() / 1000).unwrap_or(0)
}

/// Thirty days.
const GRACE_SECS_MAX: u64 = 30 * 24 * 3600;
