//! `GET /.well-known/hawker-keys.json`: the keys whose events this node believes, for edges and for players.

use axum::{Router, http::header, routing::get};

use crate::media::Keys;

/// Serves them to everybody, as a JWK set (RFC 7517 §8.5.2).
pub fn router(keys: &Keys) -> Router {
    let jwks = keys.to_jwks();
    let answer = move || async move {
        ([(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, "max-age=300")], jwks.clone())
    };
    Router::new().route("/.well-known/hawker-keys.json", get(answer))
}
