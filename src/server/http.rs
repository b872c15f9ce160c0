//! Which routes each HTTP listener serves.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use serde_json::json;

use super::{Node, webrtc};
use crate::{
    config::Role,
    console,
    control::{api, keys, standby},
    egress::{
        Egress,
        flv::{self, Flv},
    },
    net::host,
};

/// For viewers: the page and FLV. With `admin` on the same address, its routes too.
pub(super) fn viewer_routes(
    node: &Arc<Node>,
    egress: Arc<Egress>,
    webrtc: Option<Arc<webrtc::Shard>>,
    with_admin: bool,
) -> Router {
    let flv = Flv {
        hub: node.hub.clone(),
        egress,
        access: node.access.clone(),
        metrics: node.metrics.clone(),
        lobby: node.lobby.clone(),
    };
    let sessions = webrtc.map(webrtc::router).unwrap_or_default();
    let routes = console::router().merge(sessions).merge(flv::router(Arc::new(flv)));
    let names = &node.config.http.hosts;
    let named = |routes| host::only(routes, (!names.is_empty()).then(|| names.clone()));
    if with_admin {
        return named(routes).merge(admin_routes(node));
    }
    named(routes.merge(api::public_router(node.api.clone())).merge(keys::router(node.event_keys.clone())))
}

/// For operators: API, metrics, health. Metrics need no token and name every stream, so they are not where viewers come.
pub(super) fn admin_routes(node: &Arc<Node>) -> Router {
    let admin = node.config.admin.listen;
    let mut operations = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz));
    if admin != node.config.http.listen || admin.ip().is_loopback() {
        operations = operations.route("/metrics", get(metrics));
    }
    let operations = operations.with_state(node.clone());
    let api = host::same_origin(api::router(node.api.clone()));
    let copies = standby::router(&node.api, &node.event_keys, node.config.standby.is_shared());
    let routes = api.merge(copies).merge(keys::router(node.event_keys.clone())).merge(operations);
    host::only(routes, Some([node.config.admin.hosts.clone(), node.config.http.hosts.clone()].concat()))
}

async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    node.observe();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], node.metrics.render())
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(node): State<Arc<Node>>) -> impl IntoResponse {
    node.health.set_upstream(node.config.role != Role::Edge || node.metrics.upstream_connected.get() > 0);
    match node.health.ready().and_then(|()| if node.access.is_open() { Ok(()) } else { Err("standing by") }) {
        Ok(()) => (StatusCode::OK, Json(json!({"ready": true}))),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "reason": reason}))),
    }
}

#[cfg(test)]
mod tests;
