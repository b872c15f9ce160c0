//! Events out: log, state, schedule, and the stream that follows.

use axum::body::BodyDataStream;
use futures_util::StreamExt;

use super::*;

impl Desk {
    /// Posts a card that fires in `ms`.
    async fn card_in(&self, ms: u32) -> Value {
        let (status, event) = self.post("live/room", "director", &with(card(), "at", json!({"in_ms": ms}))).await;
        assert_eq!(status, StatusCode::CREATED, "{event}");
        event
    }

    async fn lines(&self, query: &str) -> Vec<Value> {
        let request = Request::get(format!("/v1/streams/live/room/events{query}"));
        let request = request.header(header::AUTHORIZATION, "Bearer reader").body(Body::empty()).expect("a request");
        let response = self.respond(request).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/x-ndjson");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        body.split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).expect("JSON"))
            .collect()
    }

    async fn follow(&self, query: &str, last_event_id: Option<u64>) -> Result<Sse, StatusCode> {
        let request = Request::get(format!("/v1/streams/live/room/events/stream{query}"));
        let mut request = request.header(header::AUTHORIZATION, "Bearer reader");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = self.respond(request.body(Body::empty()).expect("a request")).await;
        match response.status() {
            StatusCode::OK => Ok(Sse(response.into_body().into_data_stream(), String::new())),
            refused => Err(refused),
        }
    }
}

struct Sse(BodyDataStream, String);

impl Sse {
    /// The next event's lines, `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.1.split_once("\n\n") {
                let event = event.to_owned();
                self.1 = rest.to_owned();
                return Some(event);
            }
            let chunk = self.0.next().await?.expect("infallible");
            self.1.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }
}

/// An event as the stream writes it.
fn written(event: &Value) -> Option<String> {
    Some(format!("id: {}\nevent: {}\ndata: {event}", event["seq"], event["type"].as_str().expect("text")))
}

#[tokio::test(start_paused = true)]
async fn the_log_is_read_in_pages() {
    let mut desk = desk(|_| ());
    let events = [desk.card_in(0).await, desk.card_in(9_000_000).await, desk.card_in(0).await];
    assert_eq!(desk.lines("").await, events, "in the order of seq, not of time");
    let first_seq = &events[0]["seq"];
    assert_eq!(desk.lines(&format!("?since={first_seq}&limit=1")).await, events[1..2]);
    assert_eq!(desk.lines(&format!("?since={}", events[2]["seq"])).await, [Value::Null; 0]);
    for bad in ["?limit=0", "?limit=1001", "?since=-1", "?since=x"] {
        let (status, body) = desk.get(&format!("/v1/streams/live/room/events{bad}"), Some("reader")).await;
        assert_eq!((status.as_u16(), body["error"].is_string()), (400, true), "{bad}");
    }
    desk.push();
    let (_, schedule) = desk.get("/v1/streams/live/room/schedule", Some("reader")).await;
    assert_eq!(schedule, json!({"events": [&events[1]]}));
    let (_, state) = desk.get("/v1/streams/live%2Froom/state", Some("reader")).await;
    assert_eq!(state["source"], "live/room");
    assert!(state["seq"].as_u64() >= events[2]["seq"].as_u64(), "{state}");
}

#[tokio::test(start_paused = true)]
async fn only_readers_read() {
    let desk = desk(|_| ());
    for path in ["events", "events/stream", "state", "schedule"] {
        let path = |name: &str| format!("/v1/streams/{name}/{path}");
        assert_eq!(desk.get(&path("live/room"), None).await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(desk.get(&path("live/other"), Some("reader")).await.0, StatusCode::FORBIDDEN);
    }
    assert_eq!(desk.get("/v1/streams/live/room/state", Some("reader")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_follower_gets_each_event_once_whatever_he_missed() {
    let mut desk = desk(|_| ());
    let old = desk.card_in(0).await;
    desk.push();
    let mut all = desk.follow("?since=0", None).await.expect("a place");
    let mut new = desk.follow("", None).await.expect("a place");
    assert_eq!(all.next().await, written(&old));
    let fresh = desk.card_in(0).await;
    desk.push();
    assert_eq!((all.next().await, new.next().await), (written(&fresh), written(&fresh)));
    drop(new);
    // More than the bell can hold: the log is the truth.
    let mut missed = Vec::new();
    for _ in 0..100 {
        missed.push(desk.card_in(0).await);
    }
    desk.push();
    for event in &missed {
        assert_eq!(all.next().await, written(event));
    }
    let seq = missed[97]["seq"].as_u64();
    let mut back = desk.follow("?since=0", seq).await.expect("a place");
    assert_eq!((back.next().await, back.next().await), (written(&missed[98]), written(&missed[99])));
}

#[tokio::test(start_paused = true)]
async fn a_follower_of_a_quiet_room_hears_a_heartbeat() {
    let mut desk = desk(|_| ());
    let mut follower = desk.follow("?since=0", None).await.expect("a place");
    let began = clock::now();
    // The room's clock is told every few seconds, and is not in the log.
    let clock = async {
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            desk.push();
        }
    };
    tokio::select! {
        heard = follower.next() => assert_eq!(heard.as_deref(), Some(":")),
        () = clock => {}
    }
    assert_eq!(began.elapsed(), limits::EVENT_STREAM_HEARTBEAT);
}

#[tokio::test(start_paused = true)]
async fn followers_are_bounded_and_end_with_the_server() {
    let desk = desk(|_| ());
    let mut first = desk.follow("", None).await.expect("a place");
    let second = desk.follow("", None).await.expect("a place");
    assert_eq!(desk.follow("", None).await.err(), Some(StatusCode::TOO_MANY_REQUESTS));
    drop(second);
    let third = desk.follow("", None).await;
    assert!(third.is_ok(), "a place was freed");
    let ended = async {
        tokio::task::yield_now().await;
        desk.api.stop.cancel();
    };
    assert_eq!(tokio::join!(first.next(), ended).0, None);
}
