use std::{future::pending, net::SocketAddr};

use axum::{Json, Router, body::Bytes, extract::State, http::StatusCode, response::IntoResponse, routing::post};
use serde_json::{Value, json};

use super::*;
use crate::{
    hub::{self, Hub, Settings},
    media::{Codec, Frame, Head, Item, TrackKind, Tracks, VideoConfig},
    observe::metrics::Protocol,
};

/// A backend that answers as it is told, and remembers what it was sent.
#[derive(Clone, Default)]
struct Shop {
    answers: Arc<Mutex<Vec<Answer>>>,
    calls: Arc<Mutex<Vec<Value>>>,
}

#[derive(Clone)]
enum Answer {
    Json(Value),
    Status(u16),
    Nothing,
}

impl Shop {
    /// Its answers, one after the other; the last one for all further calls.
    fn then(self, answer: Answer) -> Self {
        self.answers.lock().push(answer);
        self
    }

    fn calls(&self) -> Vec<Value> {
        self.calls.lock().clone()
    }

    async fn hooks(&self, dir: &tempfile::TempDir, more: impl FnOnce(&mut config::Hooks)) -> Arc<Hooks> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let routes = Router::new().route("/hook", post(answer)).with_state(self.clone());
        crate::task::spawn("shop", async move { axum::serve(listener, routes).await.expect("served") });
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "a secret of the test").expect("written");
        let mut config = config::Hooks {
            url: Some(url.parse().expect("a URL")),
            secret_file: Some(secret),
            decide: vec![Decide::Publish, Decide::Play],
            allow: vec!["127.0.0.1/32".parse().expect("a network")],
            timeout_ms: 2000,
            ..config::Hooks::default()
        };
        more(&mut config);
        Hooks::new(Rules::new(&config).expect("usable"), Metrics::new(0, true))
    }
}

async fn answer(State(shop): State<Shop>, body: Bytes) -> axum::response::Response {
    shop.calls.lock().push(serde_json::from_slice(&body).expect("JSON"));
    let answer = {
        let mut answers = shop.answers.lock();
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
    };
    match answer {
        Answer::Json(value) => Json(value).into_response(),
        Answer::Status(status) => StatusCode::from_u16(status).expect("a status").into_response(),
        Answer::Nothing => pending().await,
    }
}

fn yes() -> Answer {
    Answer::Json(json!({"allow": true}))
}

async fn ask(hooks: &Hooks, action: Action, secret: Option<&str>) -> Result<Grant, Denied> {
    let (stream, peer) = ("live/room".parse().expect("a name"), SocketAddr::from(([192, 0, 2, 1], 5)));
    let mut grant = Grant { priority: 3, ..Grant::default() };
    hooks.decide(Asked { action, stream: &stream, protocol: Protocol::Flv, peer, secret }, &mut grant).await?;
    Ok(grant)
}

#[tokio::test]
async fn the_backend_decides_and_shapes_the_grant() {
    let dir = tempfile::tempdir().expect("a directory");
    let shop = Shop::default()
        .then(Answer::Json(json!({"allow": true, "expires_in_s": 60, "priority": 7, "unknown": [1]})))
        .then(Answer::Json(json!({"allow": false, "reason": "banned"})));
    let hooks = shop.hooks(&dir, |_| {}).await;
    let grant = ask(&hooks, Action::Publish, Some("a key")).await.expect("let in");
    let lasts = grant.expires.expect("an end") - clock::now();
    assert!(grant.priority == 7 && (58..=60).contains(&lasts.as_secs()), "{lasts:?}");
    assert_eq!(ask(&hooks, Action::Play, Some("a token")).await.expect_err("refused"), Denied::Refused);
    let [question, _] = shop.calls().try_into().expect("two calls");
    let told: Vec<_> = ["hook", "action", "stream", "protocol", "peer"].map(|key| question[key].clone()).into();
    assert_eq!(told, ["decide", "publish", "live/room", "flv", "192.0.2.1:5"]);
    assert!(!question.to_string().contains("a key"), "{question}");
}

#[tokio::test]
async fn without_a_backend_or_a_question_for_it_all_is_as_granted() {
    let dir = tempfile::tempdir().expect("a directory");
    let shop = Shop::default().then(Answer::Status(500));
    let hooks = shop.hooks(&dir, |config| config.decide = vec![Decide::Publish]).await;
    assert_eq!(ask(&hooks, Action::Play, None).await.expect("not asked").priority, 3);
    hooks.set(Rules::new(&config::Hooks::default()).expect("usable"));
    ask(&hooks, Action::Publish, None).await.expect("hooks are off");
    assert!(shop.calls().is_empty());
}

#[tokio::test]
async fn what_is_no_answer_is_a_no_and_a_second_call_has_the_same_id() {
    let dir = tempfile::tempdir().expect("a directory");
    let shop = Shop::default()
        .then(Answer::Status(503))
        .then(yes())
        .then(Answer::Status(404))
        .then(Answer::Json(json!({"allow": "yes"})))
        .then(Answer::Json(json!({})))
        .then(Answer::Nothing);
    let hooks = shop.hooks(&dir, |config| config.timeout_ms = 500).await;
    ask(&hooks, Action::Play, None).await.expect("the second call was answered");
    let ids: Vec<_> = shop.calls().iter().map(|call| call["id"].clone()).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
    for _ in 0..4 {
        let began = clock::now();
        assert_eq!(ask(&hooks, Action::Play, None).await.expect_err("no answer"), Denied::Undecided);
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    }
    assert_eq!(shop.calls().len(), 6, "neither 404 nor nonsense is asked again");
}

#[tokio::test]
async fn a_backend_that_fails_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let shop = Shop::default().then(Answer::Status(404));
    let hooks = shop.hooks(&dir, |_| {}).await;
    let refused = async || {
        for _ in 0..20 {
            assert_eq!(ask(&hooks, Action::Play, None).await.expect_err("refused"), Denied::Undecided);
        }
    };
    refused().await;
    assert_eq!((shop.calls().len(), hooks.metrics.hook_breaker_open.get()), (20, 0), "it is there");
    *shop.answers.lock() = vec![Answer::Status(500)];
    refused().await;
    assert_eq!(shop.calls().len(), 20 + 2 * limits::HOOK_BREAKER_FAILURES as usize);
    assert_eq!(hooks.metrics.hook_breaker_open.get(), 1);
    // As a new answer, or a new configuration, would.
    let config = hooks.rules.load().config.clone();
    *shop.answers.lock() = vec![yes()];
    hooks.set(Rules::new(&config).expect("usable"));
    ask(&hooks, Action::Play, None).await.expect("let in");
}

#[tokio::test]
async fn a_yes_is_remembered_for_its_token_and_stream_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let shop = Shop::default().then(yes());
    let hooks = shop.hooks(&dir, |config| config.cache_ms = 60_000).await;
    for (token, calls) in [(Some("a"), 1), (Some("a"), 1), (Some("b"), 2), (None, 3), (None, 3), (Some("a"), 3)] {
        ask(&hooks, Action::Play, token).await.expect("let in");
        assert_eq!(shop.calls().len(), calls, "{token:?}");
    }
    ask(&hooks, Action::Publish, Some("a")).await.expect("let in");
    assert_eq!(shop.calls().len(), 4, "publishers are always asked about");
}

#[tokio::test]
async fn questions_beyond_the_bound_are_refused_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let shop = Shop::default().then(Answer::Nothing);
    let hooks = shop.hooks(&dir, |config| config.timeout_ms = 60_000).await;
    let asking = futures_util::future::join_all((0..limits::HOOK_QUESTIONS_WAITING_MAX).map(|_| {
        // All of them wait; none is answered.
        ask(&hooks, Action::Play, None)
    }));
    let further = async {
        while shop.calls().len() < 16 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let began = clock::now();
        let refused = ask(&hooks, Action::Play, None).await;
        (refused.expect_err("no place"), began.elapsed(), shop.calls().len())
    };
    let (refused, took, calls) = tokio::select! {
        _ = asking => panic!("nobody answers"),
        found = further => found,
    };
    assert!(refused == Denied::Undecided && took < Duration::from_secs(1), "{took:?}");
    assert_eq!(calls, 16, "at once");
}

#[tokio::test]
async fn notices_are_told_in_order_until_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let shop = Shop::default().then(Answer::Status(500)).then(Answer::Status(400)).then(Answer::Status(204));
    let hooks = shop.hooks(&dir, |config| config.notify = vec![Notify::Publish, Notify::Stop]).await;
    let stop = tokio_util::sync::CancellationToken::new();
    hooks.deliver(&stop);
    let room: StreamName = "live/room".parse().expect("a name");
    hooks.tell(Notify::Publish, &room, |call| call);
    hooks.tell(Notify::Interrupted, &room, |call| call);
    let (peer, stream) = (SocketAddr::from(([192, 0, 2, 1], 5)), &room);
    let asked = Asked { action: Action::Play, stream, protocol: Protocol::Whep, peer, secret: Some("secret") };
    drop(Told::of(&hooks, asked));
    hooks.tell(Notify::Publish, &room, |call| call);
    let came = async {
        while shop.calls().len() < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), came).await.expect("all of them");
    let calls = shop.calls();
    let actions: Vec<_> = calls.iter().map(|call| call["action"].as_str().expect("an action")).collect();
    // The first is told again until the backend calls it wrong; nobody asked for `interrupted` and `play`.
    assert_eq!(actions, ["publish", "publish", "stop", "publish"]);
    assert!(calls[0] == calls[1] && calls[1]["id"] != calls[3]["id"], "{calls:#?}");
    assert!(calls[2]["duration_ms"].is_u64() && calls[2]["protocol"] == "whep", "{}", calls[2]);
    assert_eq!(hooks.metrics.hook_notices_dropped.get(), 1);
    stop.cancel();
}

#[tokio::test]
async fn a_stream_that_is_pulled_from_another_node_is_not_told_of() {
    let dir = tempfile::tempdir().expect("a directory");
    let shop = Shop::default().then(Answer::Status(204));
    let hooks = shop.hooks(&dir, |config| config.notify = vec![Notify::Publish, Notify::Unpublish]).await;
    let (hub, stop) = (Hub::new(Settings::default(), None), tokio_util::sync::CancellationToken::new());
    hooks.follow(&hub, &stop);
    let (far, room) = ("live/far".parse().expect("a name"), "live/room".parse().expect("a name"));
    let video = VideoConfig { codec: Codec::Avc, description: Bytes::from_static(b"avcC"), width: 16, height: 16 };
    let tracks = Tracks { video: Some(video), ..Tracks::default() };
    let data = Bytes::from_static(b"key");
    let frame = Frame { track: TrackKind::Video, dts_us: 0, pts_us: 0, keyframe: true, data };
    let _mirrored = hub.announce(&far).expect("a place");
    let mut pulled = hub.publish_relayed(&far).expect("a place");
    pulled.relay(Item::Head(Head::of(tracks.clone().into())), 1).expect("current");
    pulled.relay(Item::Frame(frame.clone()), 1).expect("current");
    assert_eq!(hub.get(&far).expect("there").state(), hub::State::Live);
    let mut publisher = hub.publish(&room).expect("a place");
    publisher.set_tracks(tracks).expect("current");
    publisher.push_frame(frame).expect("current");
    // It is told of streams side by side, so it gets the time to tell.
    tokio::time::sleep(Duration::from_millis(100)).await;
    hub.unannounce(&hub.get(&far).expect("there"));
    publisher.end();
    let came = async {
        while shop.calls().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), came).await.expect("both of the one published here");
    let calls = shop.calls();
    let told: Vec<_> = calls.iter().map(|call| (call["action"].as_str(), call["stream"].as_str())).collect();
    assert_eq!(told, [(Some("publish"), Some("live/room")), (Some("unpublish"), Some("live/room"))]);
    stop.cancel();
}
