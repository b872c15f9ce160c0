//! The router with a real hub and real rules behind it; only the socket is left out.

use std::{net::SocketAddr, time::Duration};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, Request, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{
    clock,
    config::{self, PlayPolicy, Token, TokenRole},
    hub::{Cursor, Origin, Publisher, Read, Settings},
    limits,
    media::{Codec, Event, Frame, Item, TrackKind, Tracks, VideoConfig},
    net::tls::Identity,
    secret::Digest,
};

mod document;
mod events;
mod reading;
mod rundown;

struct Desk {
    api: Arc<Api>,
    publisher: Publisher,
    pts_ms: i64,
}

fn desk(change: impl FnOnce(&mut Api)) -> Desk {
    let token = |token: &str, prefix: &str, roles: &[TokenRole]| Token {
        prefix: prefix.into(),
        token_sha256: Digest::of(token),
        roles: roles.to_vec(),
    };
    let auth = config::Auth {
        play: PlayPolicy::Deny,
        publish: Vec::new(),
        token: vec![
            token("director", "live", &[TokenRole::EventsWrite, TokenRole::ApiRead]),
            token("reader", "live/room", &[TokenRole::ApiRead]),
        ],
        ..config::Auth::default()
    };
    let hub = Hub::new(Settings::default(), Some(Origin::in_memory()));
    let mut publisher = hub.publish(&"live/room".parse().expect("name")).expect("slot");
    let video = VideoConfig { codec: Codec::Avc, description: Bytes::from_static(b"avcC"), width: 320, height: 180 };
    publisher.set_tracks(Tracks { video: Some(video), ..Tracks::default() }).expect("current");
    let mut api = Api {
        hub,
        auth: Auth::new(&auth),
        metrics: Metrics::new(0, true),
        moq: MoqAddress { port: 4443, identity: Identity::development().expect("made") },
        takes_events: true,
        rundowns: RundownsBusy::default(),
        event_streams: Pending::new(2, 2),
        stop: CancellationToken::new(),
    };
    change(&mut api);
    let mut desk = Desk { api: Arc::new(api), publisher, pts_ms: 0 };
    desk.push();
    desk
}

fn card() -> Value {
    json!({"type": "card.show", "op": "set", "key": "card:main", "data": {"name": "Wool coat", "price_minor": 89900}})
}

fn with(mut draft: Value, key: &str, value: Value) -> Value {
    draft.as_object_mut().expect("object").insert(key.into(), value);
    draft
}

impl Desk {
    fn push(&mut self) {
        let us = self.pts_ms * 1000;
        let data = Bytes::from_static(b"frame");
        let frame = Frame { track: TrackKind::Video, dts_us: us, pts_us: us, keyframe: self.pts_ms == 0, data };
        self.publisher.push_frame(frame).expect("current");
        self.pts_ms += 40;
    }

    async fn respond(&self, mut request: Request<Body>) -> Response {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 5000))));
        router(self.api.clone()).oneshot(request).await.expect("infallible")
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
        let (head, body) = self.respond(request).await.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (head.status, head.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str, token: Option<&str>) -> (StatusCode, Value) {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let (status, _, body) = self.send(request.body(Body::empty()).expect("a request")).await;
        (status, body)
    }

    async fn post_bytes(&self, name: &str, token: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request = Request::post(format!("/v1/streams/{name}/events"));
        let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        let (status, _, body) = self.send(request.body(body.into()).expect("a request")).await;
        (status, body)
    }

    async fn post(&self, name: &str, token: &str, draft: &Value) -> (StatusCode, Value) {
        self.post_bytes(name, token, draft.to_string()).await
    }

    fn cursor(&self) -> Cursor<Item> {
        self.publisher.stream().ring().cursor(None)
    }
}

/// The events that a cursor has ready, those of the room's clock aside.
fn events(cursor: &mut Cursor<Item>) -> Vec<Arc<Event>> {
    let reads = std::iter::from_fn(|| cursor.try_recv().ok().flatten());
    let event = |read| match read {
        Read::Entry { entry: Item::Event(event), .. } if event.head.kind != "clock" => Some(event),
        _ => None,
    };
    reads.filter_map(event).collect()
}

#[tokio::test(start_paused = true)]
async fn the_answer_is_the_stamped_event_that_is_in_the_line() {
    let mut desk = desk(|_| ());
    let mut cursor = desk.cursor();
    for at in [json!({"in_ms": 10}), json!({"pts_us": 5}), json!({"wall_ms": clock::unix_ms()}), json!({"now": true})] {
        let (status, answer) = desk.post("live/room", "director", &with(card(), "at", at)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        desk.push();
        let line = events(&mut cursor);
        assert_eq!(line.len(), 1);
        assert_eq!(serde_json::from_slice::<Value>(&line[0].json).expect("json"), answer);
        assert_eq!((&answer["source"], &answer["data"]), (&json!("live/room"), &card()["data"]));
        assert_eq!(answer.get("at"), None, "a wish, not a part of the event");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_say_whose_turn_it_is_and_put_nothing_into_the_line() {
    let desk = desk(|_| ());
    let mut cursor = desk.cursor();
    let (ok, big, once) = (card(), "x".repeat(500), json!({"type": "gift.send"}));
    let many: Vec<_> = std::iter::repeat_n(big.as_str(), 9).collect();
    let too_large = with(card(), "data", json!({"texts": many}));
    let cases = [
        ("live/room", "guess", &ok, 403),
        ("live/room", "reader", &ok, 403),
        ("shop/room", "director", &ok, 403),
        // A state can be set beforehand; what happens once needs a frame to happen with.
        ("live/nobody", "director", &once, 409),
        ("live//room", "director", &ok, 400),
        ("live/room", "director", &too_large, 413),
    ];
    for (name, token, draft, expected) in cases {
        let (status, body) = desk.post(name, token, draft).await;
        assert_eq!(status.as_u16(), expected, "{name} {token}: {body}");
        assert!(body["error"].is_string(), "{body}");
    }
    assert_eq!(desk.post_bytes("live/room", "director", "{").await.0, StatusCode::BAD_REQUEST);
    let long = vec![b' '; limits::HTTP_BODY_BYTES_MAX + 1];
    let (status, body) = desk.post_bytes("live/room", "director", long).await;
    assert_eq!((status, body["error"].is_string()), (StatusCode::PAYLOAD_TOO_LARGE, true));
    assert!(events(&mut cursor).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_bad_field_is_named_by_its_pointer() {
    let desk = desk(|_| ());
    let cases = [
        (json!("card"), ""),
        (with(card(), "type", json!("CARD")), "/type"),
        (with(card(), "v", json!(2)), "/v"),
        (with(card(), "id", json!("1")), "/id"),
        (with(card(), "time", json!(1)), "/time"),
        (with(card(), "data", json!({"price": 1.5})), "/data/price"),
        (with(card(), "data", json!([])), "/data"),
        (with(card(), "key", json!("")), "/key"),
        (with(card(), "at", json!({})), "/at"),
        (with(card(), "at", json!({"now": true, "in_ms": 1})), "/at"),
        (with(card(), "at", json!({"now": false})), "/at/now"),
        (with(card(), "at", json!({"in_ms": -1})), "/at/in_ms"),
        (with(card(), "at", json!({"soon": 1})), "/at"),
        (with(card(), "source", json!("live/other")), "/source"),
        (with(card(), "sig", json!("forged")), "/sig"),
        (with(card(), "time", json!({"pts_us": 5})), "/time/pts_us"),
        (with(card(), "data", json!({"text": "x".repeat(513)})), "/data/text"),
        (with(card(), "data", json!({"a": {"b": {"c": {"d": {"e": {"f": {"g": [1]}}}}}}})), "/data/a/b/c/d/e/f/g/0"),
    ];
    for (draft, pointer) in cases {
        let (status, body) = desk.post("live/room", "director", &draft).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{draft}: {body}");
        assert_eq!(body["pointer"], pointer, "{draft}: {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_read_only_for_those_who_may_send_it_and_not_for_ever() {
    let desk = desk(|_| ());
    let never = || Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::convert::Infallible>>());
    let began = clock::now();
    assert_eq!(desk.post_bytes("live/room", "guess", never()).await.0, StatusCode::FORBIDDEN);
    assert!(began.elapsed() <= limits::AUTH_FAILURE_DELAY_MAX, "what a guess costs, and no more");
    let began = clock::now();
    let waited = tokio::time::timeout(Duration::from_secs(60), desk.post_bytes("live/room", "director", never()));
    let (status, _) = waited.await.expect("a bound on waiting");
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(began.elapsed().as_secs(), limits::HTTP_BODY_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn edges_send_event_posts_away() {
    let desk = desk(|api| api.takes_events = false);
    assert_eq!(desk.post("live/room", "director", &card()).await.0, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn tokens_see_what_is_under_their_prefix_and_guessing_is_cut_off() {
    let desk = desk(|_| ());
    let _hidden = desk.api.hub.publish(&"live/backstage".parse().expect("name")).expect("slot");
    let names = |body: &Value| -> Vec<String> {
        let streams = body["streams"].as_array().expect("a list");
        streams.iter().map(|stream| stream["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&desk.get("/v1/streams", Some("reader")).await.1), ["live/room"]);
    assert_eq!(names(&desk.get("/v1/streams", Some("director")).await.1), ["live/backstage", "live/room"]);
    let (status, room) = desk.get("/v1/streams/live/room", Some("reader")).await;
    assert_eq!((status, &room["state"], &room["video"]["codec"]), (StatusCode::OK, &json!("live"), &json!("h264")));
    assert_eq!(room["video"]["b_frames"], json!(false));
    assert_eq!(desk.get("/v1/streams/live/nobody", Some("director")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(desk.get("/v1/streams/live/backstage", Some("reader")).await.0, StatusCode::FORBIDDEN);

    let request = Request::get("/v1/streams").body(Body::empty()).expect("a request");
    let (status, headers, _) = desk.send(request).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(headers.get(header::WWW_AUTHENTICATE).map(|value| value.as_bytes()), Some(&b"Bearer"[..]));
    for _ in 1..limits::AUTH_FAILURES_MAX {
        assert_eq!(desk.get("/v1/streams", Some("guess")).await.0, StatusCode::FORBIDDEN);
    }
    assert_eq!(desk.get("/v1/streams", Some("reader")).await.0, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(start_paused = true)]
async fn the_list_is_public_only_where_everybody_may_watch() {
    let desk = desk(|api| {
        api.auth = Auth::new(&config::Auth { play: PlayPolicy::Anyone, ..config::Auth::default() });
    });
    assert_eq!(desk.get("/v1/streams", None).await.0, StatusCode::OK);
    assert_eq!(desk.get("/v1/streams/live/room", None).await.0, StatusCode::OK);
    assert_eq!(desk.get("/v1/streams", Some("guess")).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test(start_paused = true)]
async fn moq_viewers_are_sent_to_the_host_they_came_to() {
    let mut pin = String::new();
    let desk = desk(|api| pin = Digest::from(api.moq.identity.fingerprint()).to_string());
    let ask = async |host: Option<&str>| {
        let mut request = Request::get("/v1/moq");
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        let (status, _, body) = desk.send(request.body(Body::empty()).expect("a request")).await;
        (status, body)
    };
    for (host, url) in [
        ("edge.example:8080", "https://edge.example:4443/"),
        ("edge.example", "https://edge.example:4443/"),
        ("[::1]:8080", "https://[::1]:4443/"),
    ] {
        assert_eq!(ask(Some(host)).await, (StatusCode::OK, json!({"url": url, "certificate_sha256": pin})));
    }
    for host in [None, Some(""), Some("a b"), Some("evil\"host/<x>")] {
        let (status, body) = ask(host).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{host:?}: {body}");
    }
}
