//! The page served at `/`: the live streams, a player for one of them, and its events as they fire.
//!
//! The browser code is in `app/`; `npm run build` there makes the bundle that is embedded here. Without it
//! the page only says so (see `build.rs`).

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

const INDEX: &[u8] = include_bytes!("app/index.html");
const ICON: &[u8] = include_bytes!("app/icon.svg");
const SCRIPT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/console/app.js"));
const STYLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/console/app.css"));

/// What the page may do. `blob:` scripts are the player's audio worklet, `blob:` media is Media Source, and
/// `https:` connections are WebTransport, which is on a port of its own; product pictures come from anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self' blob:; style-src 'self'; img-src 'self' https:; \
     media-src blob:; connect-src 'self' https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The console's routes, for any server state: `/` and `/console/*`.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|| async { asset("text/html; charset=utf-8", INDEX) }))
        .route("/console/app.js", get(|| async { asset("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/console/app.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/console/icon.svg", get(|| async { asset("image/svg+xml", ICON) }))
}

fn asset(content_type: &'static str, body: &'static [u8]) -> Response {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // Asked for again at each visit: after an upgrade the page and its script must match.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn fetch(path: &str) -> Response {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router::<()>().with_state(()).oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn the_page_has_nothing_its_policy_forbids() {
        let response = fetch("/").await;
        assert_eq!(response.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        assert!(!POLICY.contains("unsafe"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let page = std::str::from_utf8(&body).unwrap();
        assert!(page.contains("<main id=\"app\">"));
        for tag in page.split('<').filter(|tag| tag.starts_with("script") || tag.starts_with("style")) {
            assert!(tag.contains(" src=\""), "inline: <{tag}");
        }
    }

    #[tokio::test]
    async fn every_file_the_page_names_is_served() {
        let page = std::str::from_utf8(INDEX).unwrap();
        let names: Vec<_> = page.split('"').filter(|part| part.starts_with("/console/")).collect();
        assert_eq!(names.len(), 3);
        for name in names {
            let response = fetch(name).await;
            assert_eq!(response.status(), 200, "{name}");
            assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
    }
}
