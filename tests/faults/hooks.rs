//! F18: the backend that decides who may come is down, slow or lying.

use std::{fs, process::Command, time::Duration};

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use crate::common::{Backend, Cluster, FlvViewer, Mood, hawker, run, text, wait_until};

const ROOM: &str = "live/room";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What a refusal may take: 2 s are promised, the rest is the test's own machine.
const REFUSAL_MAX: Duration = Duration::from_millis(2500);

/// An origin that everybody may watch at, if the backend lets him.
struct Shop {
    backend: Backend,
    cluster: Cluster,
}

impl Shop {
    fn open(hooks: &str, more: &str) -> Self {
        let (backend, cluster) = (Backend::start(), Cluster::new());
        let secret = cluster.path().join("hook.secret");
        fs::write(&secret, SECRET).unwrap();
        cluster.configure_origin(&format!(
            "[auth]\nplay = 'anyone'\n{more}\n[hooks]\nurl = '{}'\nsecret_file = '{}'\nallow = ['127.0.0.1/32']\n{hooks}",
            backend.url(),
            secret.display()
        ));
        Self { backend, cluster }
    }

    /// Status of a viewer's request, and how long it took.
    fn play(&self) -> (u16, Duration) {
        curl(&["--head", &self.cluster.flv_url("origin", ROOM)])
    }

    /// The same of a publisher's whose offer is none: 400 if he is let in.
    fn publish(&self) -> (u16, Duration) {
        let url = format!("http://127.0.0.1:{}/whip/live/other", self.cluster.port("origin") + 1);
        let rtmp = self.cluster.publish_url(ROOM);
        let (_, key) = rtmp.split_once("?key=").unwrap();
        let bearer = format!("Authorization: Bearer {key}");
        curl(&["--data", "no offer", "--header", "Content-Type: application/sdp", "--header", &bearer, &url])
    }

    /// Neither gets in, and soon knows.
    fn refuses(&self, why: &str) {
        for (status, took) in [self.play(), self.publish()] {
            assert!(status == 503 && took < REFUSAL_MAX, "{why}: {status} after {took:?}");
        }
    }

    fn metric(&self, name: &str) -> f64 {
        self.cluster.metric("origin", name)
    }
}

fn curl(args: &[&str]) -> (u16, Duration) {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--output", "/dev/null", "--max-time", "8", "--write-out", "%{http_code} %{time_total}"]);
    let written = text(&run(10, curl.args(args)).stdout);
    let (status, took) = written.split_once(' ').unwrap();
    (status.parse().unwrap(), Duration::from_secs_f64(took.parse().unwrap()))
}

#[test]
fn f18_a_backend_that_is_down_slow_or_lying_lets_nobody_new_in_and_puts_nobody_out() {
    let shop = Shop::open("decide = ['publish', 'play']\ntimeout_ms = 1000", "");
    let origin = shop.cluster.serve("origin");
    let _anchor = shop.cluster.push(ROOM);
    let viewer = FlvViewer::watch(&shop.cluster.flv_url("origin", ROOM));
    viewer.wait_frames(1);
    let before = origin.rss();

    shop.backend.set(Mood::Unwilling);
    assert_eq!((shop.play().0, shop.publish().0), (403, 403), "a no is another answer than none");
    let lies = [Mood::Hanging, Mood::Failing, Mood::Garbling, Mood::Endless, Mood::Paging, Mood::Redirecting];
    for lie in lies {
        shop.backend.set(lie);
        shop.refuses(&format!("{lie:?}"));
        shop.backend.set(Mood::Willing);
        assert_eq!((shop.play().0, shop.publish().0), (200, 400), "after {lie:?}");
    }
    assert_eq!(shop.metric("hawker_hook_breaker_open"), 0.0, "never five in a row");

    shop.backend.go_away();
    for _ in 0..3 {
        shop.refuses("nobody listens");
    }
    assert_eq!(shop.metric("hawker_hook_breaker_open"), 1.0);
    let pushed = run(10, hawker().args(["push", "--sample", &shop.cluster.publish_url("live/other")]));
    let said = text(&pushed.stderr);
    assert!(!pushed.status.success() && said.contains("nobody can decide on this now"), "{said}");
    origin.stderr.wait_line("the hook is left alone");

    viewer.wait_frames(25);
    let grown = origin.rss().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");

    shop.backend.come_back();
    wait_until("the backend is back, and somebody gets in", Duration::from_secs(8), || shop.play().0 == 200);
    assert_eq!(shop.metric("hawker_hook_breaker_open"), 0.0);
    assert_eq!(viewer.look(|seen| seen.ended.clone()), None);
}

#[test]
fn f18_each_change_of_a_stream_is_one_signed_notice_in_its_order_however_long_the_backend_was_away() {
    let notify = "notify = ['publish', 'unpublish', 'interrupted', 'resumed', 'play', 'stop', 'event']";
    let shop = Shop::open(notify, "[hub]\nreconnect_window_secs = 2");
    let origin = shop.cluster.serve("origin");
    let mut anchor = shop.cluster.push(ROOM);
    shop.backend.wait_notices(1);
    let viewer = FlvViewer::watch(&shop.cluster.flv_url("origin", ROOM));
    viewer.wait_frames(1);
    assert_eq!(actions(&shop.backend.wait_notices(2)), ["publish", "play"]);

    shop.backend.set(Mood::Failing);
    anchor.kill();
    origin.stderr.wait_line("publisher gone");
    shop.backend.wait_refused();
    shop.backend.go_away();
    anchor = shop.cluster.push(ROOM);
    viewer.wait_frames(25);
    let event =
        shop.cluster.api().accept(&format!("streams/{ROOM}"), &json!({"type": "card.show", "key": "card:main"}));
    shop.backend.set(Mood::Willing);
    shop.backend.come_back();
    let notices = shop.backend.wait_notices(5);
    assert_eq!(actions(&notices), ["publish", "play", "interrupted", "resumed", "event"]);
    assert_eq!(notices[4]["event"], serde_json::from_str::<Value>(&event).unwrap());

    anchor.kill();
    let notices = shop.backend.wait_notices(8);
    let last: Vec<_> = actions(&notices)[5..].to_vec();
    assert!(last[0] == "interrupted" && last.contains(&"unpublish") && last.contains(&"stop"), "{last:?}");
    let session = |notice: &Value| notice["session"].as_str().unwrap().to_owned();
    let stop = notices.iter().find(|notice| notice["action"] == "stop").unwrap();
    assert!(session(stop) == session(&notices[1]) && stop["duration_ms"].as_u64().unwrap() > 1000, "{stop}");

    // Each was taken once, under one id and signed by what both know.
    let mut ids: Vec<_> = notices.iter().map(|notice| notice["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), notices.len());
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    for call in shop.backend.calls() {
        let (time, signature) = call.signature.split_once(",v1=").unwrap();
        let signed = [time.strip_prefix("t=").unwrap().as_bytes(), b".", &call.body].concat();
        let signature: Vec<u8> =
            (0..64).step_by(2).map(|i| u8::from_str_radix(&signature[i..i + 2], 16).unwrap()).collect();
        hmac::verify(&key, &signed, &signature).unwrap_or_else(|_| panic!("not signed: {}", call.signature));
    }
    assert!(shop.backend.questions().is_empty(), "nothing is to be decided");
}

fn actions(notices: &[Value]) -> Vec<&str> {
    notices.iter().map(|notice| notice["action"].as_str().unwrap()).collect()
}
