//! A show, by its director's button. The stream's frames are pushed by the test.

use super::*;
use crate::{
    control::api::rundown::{LEAD_MS, must_load, publish},
    media::StreamName,
};

fn plan() -> Value {
    json!({"items": [
        {"title": "Good evening", "class": "hook", "planned_ms": 60_000},
        {"sku": "S1", "title": "Coat", "class": "pitch", "planned_ms": 240_000, "data": {"price_minor": 89_900}},
        {"sku": "S2", "title": "Scarf", "class": "price", "planned_ms": 120_000},
    ]})
}

/// A desk, and what has entered the line of its stream.
struct Show {
    desk: Desk,
    line: Cursor<Item>,
}

fn show() -> Show {
    let desk = desk(|_| ());
    Show { line: desk.cursor(), desk }
}

/// The same node after its end: only the journal is left of it.
fn restarted(show: Show, origin: Arc<Origin>) -> Show {
    drop(show);
    on(Hub::new(Settings::default(), Some(origin)))
}

fn on(hub: Arc<Hub>) -> Show {
    let mut desk = desk(|api| api.hub = hub.clone());
    desk.publisher = hub.publish(&room()).expect("slot");
    let video = VideoConfig { codec: Codec::Avc, description: Bytes::from_static(b"avcC"), width: 320, height: 180 };
    desk.publisher.set_tracks(Tracks { video: Some(video), ..Tracks::default() }).expect("current");
    let mut show = Show { line: desk.cursor(), desk };
    show.desk.pts_ms = 0;
    show.desk.push();
    show
}

fn room() -> StreamName {
    "live/room".parse().expect("a name")
}

impl Show {
    async fn ask(&self, request: http::request::Builder, token: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        let (status, _, body) = self.desk.send(request.body(body.into()).expect("a request")).await;
        (status, body)
    }

    async fn put(&self, body: &Value) -> (StatusCode, Value) {
        self.ask(Request::put(RUNDOWN), "director", body.to_string()).await
    }

    async fn get(&self) -> (StatusCode, Value) {
        self.ask(Request::get(RUNDOWN), "reader", "").await
    }

    async fn advance(&self, body: impl Into<Body>) -> (StatusCode, Value) {
        self.ask(Request::post(ADVANCE), "director", body).await
    }

    /// A frame every 40 ms, until what was sent for now has fired.
    fn frames(&mut self) {
        for _ in 0..=LEAD_MS / 40 {
            self.desk.push();
        }
    }

    /// What has entered the line since the last call: the show's events, each with the PTS of the frame behind it.
    fn fired(&mut self) -> Vec<(Arc<Event>, i64)> {
        let mut fired = Vec::new();
        let mut waiting = Vec::new();
        while let Ok(Some(read)) = self.line.try_recv() {
            match read {
                Read::Entry { entry: Item::Event(event), .. } if event.head.kind != "clock" => waiting.push(event),
                Read::Entry { entry: Item::Frame(frame), .. } => {
                    fired.extend(waiting.drain(..).map(|event| (event, frame.pts_us)));
                }
                _ => {}
            }
        }
        assert!(waiting.is_empty(), "an event without its frame");
        fired
    }
}

fn kinds(fired: &[(Arc<Event>, i64)]) -> Vec<&str> {
    fired.iter().map(|(event, _)| event.head.kind.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_show_goes_from_its_first_item_to_its_end() {
    let mut show = show();
    assert_eq!(show.get().await.0, StatusCode::NOT_FOUND);
    assert_eq!(show.put(&plan()).await.0, StatusCode::OK);
    let shows = [
        (&["chapter.start"][..], json!(0)),
        (&["chapter.start", "card.show"], json!(1)),
        (&["card.hide", "chapter.start", "card.show"], json!(2)),
        (&["card.hide"], Value::Null),
    ];
    for (expected, current) in shows {
        let (status, view) = show.advance("").await;
        assert_eq!((status, &view["current"]), (StatusCode::OK, &current), "{view}");
        show.frames();
        let fired = show.fired();
        assert_eq!(kinds(&fired), expected);
        let (event, frame_us) = &fired[0];
        assert!(fired.iter().all(|(other, at)| other.pts_us() == event.pts_us() && at == frame_us), "on one frame");
        assert!((0..40_000).contains(&(frame_us - event.pts_us().expect("a pts"))), "on its frame");
        if let Some(index) = current.as_u64() {
            let row = &view["items"][index as usize];
            let last = &fired.last().expect("an event").0;
            assert_eq!((&row["pts_us"], &row["seq"]), (&json!(last.pts_us()), &json!(last.head.seq)));
            assert_eq!(row["wall_ms"], json!(last.head.time.wall_ms));
        }
    }
    let (status, over) = show.advance("").await;
    assert_eq!(status, StatusCode::CONFLICT, "{over}");
    let (_, view) = show.get().await;
    let states = ["done", "done", "done"].map(Value::from);
    assert_eq!((&view["state"], view["items"].as_array().expect("items").len()), (&json!("done"), 3));
    assert_eq!(
        view["items"].as_array().expect("items").iter().map(|row| row["state"].clone()).collect::<Vec<_>>(),
        states
    );
}

#[tokio::test(start_paused = true)]
async fn an_advance_that_broke_off_anywhere_is_made_good_by_asking_again() {
    for (published, restart) in (0..=3).flat_map(|published| [(published, false), (published, true)]) {
        let origin = Origin::in_memory();
        let mut show = on(Hub::new(Settings::default(), Some(origin.clone())));
        show.put(&plan()).await;
        show.advance(r#"{"to": 1}"#).await;
        show.frames();
        show.fired();

        // As far as it came: some of its events are out, and the document is as it was.
        let rundown = must_load(&show.desk.api, &room()).expect("a rundown");
        let mut step = rundown.step(&Default::default()).expect("allowed").expect("a step");
        step.drafts.truncate(published);
        publish(&show.desk.api, &room(), &step).await.expect("published");
        if restart {
            show = restarted(show, origin);
        }
        (0..25).for_each(|_| show.desk.push());

        let (status, view) = show.advance(r#"{"expect": 1}"#).await;
        assert_eq!((status, &view["current"]), (StatusCode::OK, &json!(2)), "{view}");
        show.frames();
        let fired = show.fired();
        assert_eq!(
            kinds(&fired),
            ["card.hide", "chapter.start", "card.show"],
            "each once, after {published}, {restart}"
        );
        let late = fired.iter().filter(|(event, frame_us)| frame_us - event.pts_us().unwrap_or(0) >= 40_000);
        assert_eq!(late.count(), 0, "after {published}, {restart}");
        let card = &fired[2].0;
        assert_eq!(
            (&view["items"][2]["seq"], &view["items"][2]["pts_us"]),
            (&json!(card.head.seq), &json!(card.pts_us()))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_double_click_moves_the_show_by_one() {
    let mut show = show();
    show.put(&plan()).await;
    let click = || {
        let request = Request::post(ADVANCE).header("idempotency-key", "click-1");
        show.ask(request, "director", "")
    };
    let (first, again) = (click().await, click().await);
    assert_eq!((first.0, again.0), (StatusCode::OK, StatusCode::OK));
    assert_eq!((&first.1["current"], &again.1["current"]), (&json!(0), &json!(0)));
    let (status, refused) = show.advance(r#"{"expect": null}"#).await;
    assert_eq!((status, refused["error"].is_string()), (StatusCode::CONFLICT, true));
    assert_eq!(show.advance(r#"{"to": 0}"#).await.1["current"], json!(0));
    let change = show.desk.api.rundowns.enter(&room()).expect("free");
    assert_eq!(show.advance("").await.0, StatusCode::CONFLICT, "while another is under way");
    assert_eq!(show.put(&plan()).await.0, StatusCode::CONFLICT);
    drop(change);
    show.frames();
    assert_eq!(kinds(&show.fired()), ["chapter.start"]);
    assert_eq!(show.advance("").await.1["current"], json!(1));
}

#[tokio::test(start_paused = true)]
async fn a_plan_comes_as_json_or_csv_and_goes_when_nothing_is_on_air() {
    let mut show = show();
    let put = |kind: &'static str, body: String| {
        show.ask(Request::put(RUNDOWN).header(header::CONTENT_TYPE, kind), "director", body)
    };
    let csv = "title,class,planned_ms,sku\nCoat,pitch,1000,S1\n";
    let (status, view) = put("text/csv; charset=utf-8", csv.into()).await;
    assert_eq!(
        (status, &view["items"][0]["sku"], &view["items"][0]["planned_start_ms"]),
        (StatusCode::OK, &json!("S1"), &json!(0))
    );
    let (status, refused) = put("text/csv", "title,class,planned_ms\nCoat,pitch,soon\n".into()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused["error"].as_str().is_some_and(|error| error.starts_with("line 2: planned_ms")), "{refused}");
    let (status, refused) = put("application/json", r#"{"items": [{"title": 1}]}"#.into()).await;
    assert_eq!((status, &refused["pointer"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("/items/0/title")));
    assert_eq!(put("application/json", "{".into()).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(put("text/html", "{}".into()).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let spaces = " ".repeat(limits::RUNDOWN_BYTES_MAX + 1);
    assert_eq!(put("text/csv", spaces).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, refused) = show.advance(r#"{"to": 2}"#).await;
    assert_eq!((status, &refused["pointer"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("/to")));
    assert_eq!(show.advance(r#"{"tu": 2}"#).await.0, StatusCode::UNPROCESSABLE_ENTITY);

    show.advance("").await;
    assert_eq!(show.ask(Request::delete(RUNDOWN), "director", "").await.0, StatusCode::CONFLICT);
    let (status, refused) = show.put(&plan()).await;
    assert_eq!((status, &refused["pointer"]), (StatusCode::CONFLICT, &json!("/items/0")), "it has been on air");
    show.advance("").await;
    assert_eq!(show.ask(Request::delete(RUNDOWN), "director", "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(show.get().await.0, StatusCode::NOT_FOUND);
    show.frames();
    assert_eq!(kinds(&show.fired()), ["chapter.start", "card.show", "card.hide"]);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_write_moves_nothing() {
    let show = show();
    show.put(&plan()).await;
    for request in [Request::put(RUNDOWN), Request::delete(RUNDOWN), Request::post(ADVANCE)] {
        assert_eq!(show.ask(request, "reader", "").await.0, StatusCode::FORBIDDEN);
    }
    assert_eq!(show.ask(Request::get(RUNDOWN), "guess", "").await.0, StatusCode::FORBIDDEN);
    assert_eq!(show.get().await.1["state"], "planned");
    let edge = Show { desk: desk(|api| api.takes_events = false), line: show.line };
    assert_eq!(edge.get().await.0, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(edge.advance("").await.0, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn an_advance_whose_events_are_refused_is_not_made() {
    let show = show();
    show.put(&plan()).await;
    let mut last = Value::Null;
    for click in 0..=limits::EVENTS_PENDING_MAX {
        let to = json!({"to": click % 2 + 1});
        let (status, body) = show.advance(to.to_string()).await;
        if status != StatusCode::OK {
            // No frames came, so too many wait for one.
            assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{body}");
            assert_eq!(show.get().await.1["current"], last);
            return;
        }
        last = to["to"].clone();
    }
    panic!("never refused");
}

const RUNDOWN: &str = "/v1/streams/live/room/rundown";
const ADVANCE: &str = "/v1/streams/live/room/rundown/advance";
