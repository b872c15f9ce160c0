//! Events in, each by each of the ways that there are.

use super::*;

const ULID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// For a moment to come, so that the answer waits for no frame.
fn soon(draft: Value) -> Value {
    with(draft, "at", json!({"in_ms": 10}))
}

impl Desk {
    async fn post_as(&self, headers: &[(&str, &str)], body: &Value) -> (StatusCode, HeaderMap, Value) {
        let request = Request::post("/v1/streams/live/room/events").header(header::AUTHORIZATION, "Bearer director");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.send(request.body(body.to_string().into()).expect("a request")).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_key_is_the_same_event() {
    let desk = desk(|_| ());
    for (key, draft) in [("order-1", soon(card())), (ULID, soon(card())), ("\"order-2\"", soon(card()))] {
        let (status, _, first) = desk.post_as(&[("idempotency-key", key)], &draft).await;
        assert_eq!(status, StatusCode::CREATED, "{first}");
        let (status, _, again) = desk.post_as(&[("idempotency-key", key)], &draft).await;
        assert_eq!((status, &again), (StatusCode::OK, &first));
        assert_eq!(first["id"] == ULID, key == ULID);
    }
    let (status, _, body) =
        desk.post_as(&[("idempotency-key", "order-1")], &with(soon(card()), "id", json!(ULID))).await;
    assert_eq!((status.as_u16(), &body["pointer"]), (422, &json!("/id")));
    let (status, ..) = desk.post_as(&[("idempotency-key", "two words")], &soon(card())).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn each_item_of_a_batch_has_its_own_outcome() {
    let desk = desk(|_| ());
    let batch = json!([soon(card()), with(card(), "sig", json!("forged")), with(soon(card()), "id", json!(ULID)), 7]);
    let (status, _, outcomes) = desk.post_as(&[("idempotency-key", "batch-1")], &batch).await;
    assert_eq!(status, StatusCode::OK, "{outcomes}");
    let statuses: Vec<_> = outcomes.as_array().expect("an array").iter().map(|o| o["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(201), Some(422), Some(201), Some(422)]);
    assert_eq!((&outcomes[1]["pointer"], &outcomes[3]["pointer"]), (&json!("/sig"), &json!("")));
    assert_eq!(outcomes[2]["event"]["id"], ULID);
    assert!(outcomes[0]["event"]["seq"].as_u64() < outcomes[2]["event"]["seq"].as_u64(), "{outcomes}");
    assert!(desk.api.metrics.render().contains("hawker_refused_total{reason=\"event_malformed\"} 2"));

    let (_, _, again) = desk.post_as(&[("idempotency-key", "batch-1")], &batch).await;
    assert_eq!((&again[0]["status"], &again[0]["event"]), (&json!(200), &outcomes[0]["event"]));
    let many = vec![soon(card()); limits::EVENT_BATCH_MAX + 1];
    assert_eq!(desk.post_as(&[], &json!(many)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(desk.post_as(&[], &json!([])).await.2, json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_accepted_in_its_order() {
    let desk = desk(|_| ());
    let (_, _, outcomes) = desk.post_as(&[], &json!(vec![soon(card()); limits::EVENT_BATCH_MAX])).await;
    let seqs: Vec<_> = outcomes.as_array().expect("an array").iter().map(|o| o["event"]["seq"].as_u64()).collect();
    assert!(seqs.is_sorted() && seqs[0].is_some() && seqs[0] < seqs[99], "{seqs:?}");
}

#[tokio::test(start_paused = true)]
async fn cloud_events_come_in_each_of_their_modes() {
    let desk = desk(|_| ());
    let event = json!({"specversion": "1.0", "id": "o-1", "source": "/live/room", "type": "card.show", "op": "set",
        "subject": "card:main", "inms": 10, "data": {"name": "Wool coat"}});
    let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
    let (status, _, first) = desk.post_as(&structured, &event).await;
    assert_eq!(
        (status, &first["key"], &first["data"]["name"]),
        (StatusCode::CREATED, &json!("card:main"), &json!("Wool coat"))
    );
    let (status, _, again) = desk.post_as(&structured, &event).await;
    assert_eq!((status, again), (StatusCode::OK, first.clone()));

    let batch = [("content-type", "application/cloudevents-batch+json")];
    let wrong = with(event.clone(), "subject", json!(""));
    let (_, _, outcomes) = desk.post_as(&batch, &json!([event, wrong])).await;
    assert_eq!((&outcomes[0]["event"], &outcomes[1]["pointer"]), (&first, &json!("/subject")), "{outcomes}");
    assert_eq!(desk.post_as(&batch, &event).await.0, StatusCode::UNPROCESSABLE_ENTITY, "a batch is an array");

    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "o-2"),
        ("ce-source", "/live/room"),
        ("ce-type", "card.show"),
        ("ce-op", "set"),
        ("ce-subject", "card:main"),
        ("ce-inms", "10"),
    ];
    let (status, _, body) = desk.post_as(&binary, &json!({"name": "Wool coat"})).await;
    assert_eq!((status, &body["data"]), (StatusCode::CREATED, &json!({"name": "Wool coat"})), "{body}");

    let wrong =
        with(json!({"specversion": "1.0", "id": "o-3", "type": "card.show", "op": "set"}), "subject", json!(""));
    let (status, _, body) = desk.post_as(&structured, &with(wrong, "inms", json!(5))).await;
    assert_eq!((status.as_u16(), &body["pointer"]), (422, &json!("/subject")), "named as the caller named it: {body}");
}

#[tokio::test(start_paused = true)]
async fn other_media_types_and_methods_are_refused() {
    let desk = desk(|_| ());
    for other in ["text/plain", "application/x-www-form-urlencoded", "application/xml", "\u{e4}"] {
        let (status, _, body) = desk.post_as(&[("content-type", other)], &soon(card())).await;
        assert_eq!((status.as_u16(), body["error"].is_string()), (415, true), "{other}");
    }
    let request = Request::put("/v1/streams/live/room/events").body(Body::empty()).expect("a request");
    let (status, headers, body) = desk.send(request).await;
    assert_eq!((status.as_u16(), body["error"].is_string()), (405, true));
    assert_eq!(headers[header::ALLOW], "GET,HEAD,POST");
    let (status, body) = desk.get("/v1/streams/live%2Froom/nothing", Some("director")).await;
    assert_eq!((status.as_u16(), &body["error"]), (404, &json!("there is no such path")));
}

#[tokio::test(start_paused = true)]
async fn an_organisation_has_its_own_room() {
    let desk = desk(|_| ());
    let mut everywhere = desk.api.hub.publish(&"live/_global".parse().expect("name")).expect("slot");
    let frame =
        Frame { track: TrackKind::Video, dts_us: 0, pts_us: 0, keyframe: true, data: Bytes::from_static(b"frame") };
    everywhere.push_frame(frame).expect("current");
    let post = async |org: &str, token: &str| {
        let request = Request::post(format!("/v1/orgs/{org}/events"));
        let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        desk.send(request.body(soon(card()).to_string().into()).expect("a request")).await
    };
    let (status, _, event) = post("live", "director").await;
    assert_eq!((status, &event["source"]), (StatusCode::CREATED, &json!("live/_global")), "{event}");
    assert_eq!(post("shop", "director").await.0, StatusCode::FORBIDDEN);
    assert_eq!(post("live", "reader").await.0, StatusCode::FORBIDDEN);
    assert_eq!(post("live%2Froom", "director").await.0, StatusCode::BAD_REQUEST);
    let (_, state) = desk.get("/v1/orgs/live/state", Some("director")).await;
    assert_eq!(state["events"], json!([event]));
}

#[tokio::test(start_paused = true)]
async fn an_event_is_taken_back_by_its_id() {
    let desk = desk(|_| ());
    let (_, _, event) = desk.post_as(&[], &soon(card())).await;
    let cancel = async |token: &str, id: &str| {
        let request = Request::delete(format!("/v1/streams/live/room/events/{id}?reason=sold%20out"));
        let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        desk.send(request.body(Body::empty()).expect("a request")).await
    };
    let id = event["id"].as_str().expect("an id");
    assert_eq!(cancel("reader", id).await.0, StatusCode::FORBIDDEN);
    let (status, _, cancelled) = cancel("director", id).await;
    assert_eq!((status, &cancelled["type"]), (StatusCode::OK, &json!("cancel")), "{cancelled}");
    assert_eq!(cancelled["data"], json!({"ref": id, "reason": "sold out"}));
    for unknown in [ULID, "1", "%00"] {
        let (status, _, body) = cancel("director", unknown).await;
        assert_eq!((status, body["error"].is_string()), (StatusCode::NOT_FOUND, true), "{unknown}");
    }
}

#[test]
fn each_refusal_has_its_status_and_says_when_to_come_again() {
    use crate::{hub::Refused, media::event::BadEvent};
    let cases = [
        (Refused::Bad(BadEvent::TooLarge), 413, None),
        (Refused::Bad(BadEvent::field("/time/expires_ms", "is past")), 422, None),
        (Refused::NotLive, 409, None),
        (Refused::TooFast { retry_after_secs: 3 }, 429, Some("3")),
        (Refused::TooMany, 429, Some("1")),
        (Refused::Full, 507, None),
        (Refused::Unavailable("the disk is gone".into()), 503, Some("1")),
        (Refused::NotOrigin, 421, None),
        (Refused::UnknownEvent, 404, None),
    ];
    for (refused, status, retry_after) in cases {
        let response = axum::response::IntoResponse::into_response(refusal::Refusal::from(refused.clone()));
        let after = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().expect("text").to_owned());
        assert_eq!((response.status().as_u16(), after.as_deref()), (status, retry_after), "{refused:?}");
    }
}
