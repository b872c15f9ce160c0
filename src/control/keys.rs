//! `GET /.well-known/hawker-keys.json`: the keys whose events this node believes, for edges and for players.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{Router, http::header, routing::get};

use crate::media::Keys;

/// Serves them to everybody, as a JWK set (RFC 7517 §8.5.2).
pub fn router(keys: Arc<ArcSwap<Keys>>) -> Router {
    let answer = move || async move {
        let headers = [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, "max-age=300")];
        (headers, keys.load().to_jwks())
    };
    Router::new().route("/.well-known/hawker-keys.json", get(answer))
}
