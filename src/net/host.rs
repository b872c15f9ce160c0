//! Which names a listener answers to, and whose pages may change something through it.
//!
//! A page that a browser was lured to can point its own name at this host (DNS rebinding), and can post to any host.
//! It can forge neither `Host` nor `Origin`.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// Serves `router` under these names only, and under addresses and `localhost`, which nobody can rebind; `None` stands
/// for every name.
pub fn only(router: Router, names: Option<Vec<String>>) -> Router {
    let Some(names) = names else { return router };
    router.layer(middleware::from_fn_with_state(Arc::<[String]>::from(names), check_host))
}

/// Refuses what pages of other origins want to change.
pub fn same_origin(router: Router) -> Router {
    router.layer(middleware::from_fn(check_origin))
}

async fn check_host(State(names): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match is_named(&parts, &names) {
        true => next.run(Request::from_parts(parts, body)).await,
        false => refuse(StatusCode::MISDIRECTED_REQUEST, "this node doesn't answer to that name: see `hosts`"),
    }
}

async fn check_origin(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    match reads || is_own_page(request.headers()) {
        true => next.run(request).await,
        false => refuse(StatusCode::FORBIDDEN, "pages of other origins change nothing here"),
    }
}

/// Whether the request came to one of `names`, or to what is none. HTTP/1.0 may leave it out; browsers never do.
fn is_named(parts: &Parts, names: &[String]) -> bool {
    let host = match (parts.uri.authority(), parts.headers.get(header::HOST)) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().unwrap_or("?"),
        (None, None) => return true,
    };
    let name = without_port(host);
    name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Tools name no origin; a page's must be the host that it posts to.
fn is_own_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
    origin.zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({"error": why}))).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::post};
    use tower::ServiceExt;

    use super::*;

    async fn ask(method: &str, headers: &[(&str, &str)]) -> u16 {
        let router = Router::new().route("/", post(async || "done").get(async || "read"));
        let router = only(same_origin(router), Some(vec!["Hawker.example".into()]));
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        router.oneshot(request.body(Body::empty()).expect("good")).await.expect("infallible").status().as_u16()
    }

    #[tokio::test]
    async fn only_its_own_names_and_addresses_are_answered() {
        for host in ["hawker.example", "hawker.example:9935", "localhost:1", "127.0.0.1:9935", "[::1]:9935", "[::1]"] {
            assert_eq!(ask("GET", &[("host", host)]).await, 200, "{host}");
        }
        assert_eq!(ask("GET", &[]).await, 200, "HTTP/1.0");
        for host in ["evil.example", "evil.example:9935", "hawker.example.evil", "127.0.0.1.evil.example", "", ":80"] {
            assert_eq!(ask("GET", &[("host", host)]).await, 421, "{host}");
        }
    }

    #[tokio::test]
    async fn a_page_changes_only_what_it_came_from() {
        let host = ("host", "localhost:8080");
        assert_eq!(ask("POST", &[host]).await, 200, "a tool");
        assert_eq!(ask("POST", &[host, ("origin", "http://localhost:8080")]).await, 200, "its own page");
        for origin in ["http://evil.example", "http://localhost", "http://localhost:8081", "null", "localhost:8080", ""]
        {
            assert_eq!(ask("POST", &[host, ("origin", origin)]).await, 403, "{origin}");
        }
        assert_eq!(ask("GET", &[host, ("origin", "http://evil.example")]).await, 200, "which it can't read");
    }
}
