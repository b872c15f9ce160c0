//! Secrets stay out of logs, at every level, out of metrics and out of answers: the right ones and the wrong ones, for
//! those are somebody's typing errors.

use std::{fs, io::Write, net::TcpStream, process::Command, time::Duration};

use hawker::proto::sdp::client;
use serde_json::json;

use super::common::{Answer, Cluster, End, FlvViewer, Process, SDP, hawker, run};

/// What the cluster's nodes were given, and what strangers try.
const SECRETS: [&str; 8] = [
    "anchor-key",
    "edge-token",
    "viewer-token",
    "api-token",
    "mistyped-key-4711",
    "eyJhbGciOiJIUzI1NiIsImtpZCI6IngifQ.eyJzdWIiOiJsaXZlL3Jvb20ifQ.bm90LWEtc2lnbmF0dXJl",
    "9c1185a5c5e9fc54612808977ee8f548b2258d31",
    "dXNlcjptaXN0eXBlZA",
];

/// Sends a request as it is written; what is answered is not to repeat a secret either.
fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The server may answer before it has read all of this.
    let _ = stream.write_all(request.as_bytes());
    Answer::read(&mut stream).body
}

fn request(method: &str, target: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
}

/// Every door of a node, with every secret, in every place where one may be. What was answered.
fn try_all_doors(rtmp: u16) -> Vec<String> {
    let (http, admin) = (rtmp + 1, rtmp + 2);
    let offer = End::new().offer_to_publish();
    let sdp = format!("Content-Type: {SDP}\r\n");
    let mut answers = Vec::new();
    for secret in SECRETS {
        let bearer = format!("Authorization: Bearer {secret}\r\n");
        for name in ["token", "key", "sign", "txSecret", "auth_key"] {
            answers
                .push(ask(http, &request("HEAD", &format!("/live/none.flv?{name}={secret}&txTime=5f000000"), "", "")));
        }
        answers.push(ask(http, &request("POST", &format!("/whep/live/none?token={secret}"), &sdp, "v=0")));
        answers.push(ask(http, &request("POST", "/whip/live/other", &format!("{sdp}{bearer}"), "v=0")));
        answers.push(ask(admin, &request("GET", "/v1/streams/live%2Froom", &bearer, "")));
        answers.push(ask(admin, &request("POST", "/v1/streams/live/room/events", &bearer, "{")));
        let basic = format!("Authorization: Basic {secret}\r\nCookie: token={secret}\r\n");
        answers.push(ask(admin, &request("GET", "/v1/streams/live%2Froom", &basic, "")));
        // What a parser would like to quote.
        answers.push(ask(http, &format!("GET /live/room.flv?token={secret} HTTP/1.1\r\nHost localhost\r\n\r\n")));
        answers.push(ask(http, &format!("Authorization: Bearer {secret}\r\n\r\n")));
    }
    answers.push(ask(http, &request("POST", "/whip/live/other", &format!("{sdp}Authorization: Bearer x\r\n"), &offer)));
    answers
}

#[test]
fn secrets_are_in_no_log_metric_or_answer() {
    let cluster = Cluster::new();
    cluster.configure_origin("[log]\nlevel = 'trace'");
    let edge = cluster.path().join("edge.toml");
    let config = fs::read_to_string(&edge).unwrap();
    fs::write(&edge, format!("{config}\n[log]\nlevel = 'trace'\n")).unwrap();
    let (origin, edge) = (cluster.serve("origin"), cluster.serve_edge("edge"));
    let _push = cluster.push("live/room");
    let viewer = FlvViewer::watch(&cluster.flv_url("edge", "live/room"));
    viewer.wait("a picture", |seen| (seen.frames > 0).then_some(()));

    let mut answers = vec![cluster.api().accept("streams/live/room", &json!({"type": "gift.send"}))];
    for (scheme, port) in [("rtmp", 0), ("moqt", 3)] {
        for token in ["viewer-token", "mistyped-key-4711"] {
            let url = format!("{scheme}://127.0.0.1:{}/live/room?token={token}", cluster.port("edge") + port);
            run(15, Command::new(hawker().get_program()).args(["watch", &url, "--secs", "1", "--json"]));
        }
    }
    // A session that is agreed on: its ICE password is a secret, too.
    let (end, headers) = (End::new(), format!("Content-Type: {SDP}\r\nAuthorization: Bearer anchor-key\r\n"));
    let whip = request("POST", "/whip/live/whip", &headers, &end.offer_to_publish());
    let agreed = ask(cluster.port("origin") + 1, &whip);
    let ice = client::accept(&agreed).expect("an answer").transport.ice;
    answers.extend(["origin", "edge"].into_iter().flat_map(|node| try_all_doors(cluster.port(node))));
    answers.extend(["origin", "edge"].map(|node| ask(cluster.port(node) + 2, &request("GET", "/metrics", "", ""))));

    let logs: Vec<_> = [&origin, &edge].into_iter().flat_map(said).collect();
    assert!(logs.iter().any(|line| line.contains("TRACE")), "not all is told");
    let secrets = SECRETS.into_iter().chain([ice.pwd.as_str(), end.local.ice.pwd.as_str()]);
    for secret in secrets {
        for text in logs.iter().chain(&answers) {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

fn said(node: &Process) -> Vec<String> {
    [node.stdout.all(), node.stderr.all()].concat()
}
