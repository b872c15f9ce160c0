//! Secrets stay out of logs, at every level, out of metrics and out of answers: the right ones and the wrong ones, for
//! those are somebody's typing errors.

use std::{fs, io::Write, net::SocketAddr, process::Command, thread, time::Duration};

use hawker::proto::sdp::client;
use serde_json::json;

use crate::common::{Answer, Cluster, End, FlvViewer, Process, SDP, connect_from, hawker, run, source};

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

/// Sends a request as it is written, from an address of its own: who fails too often is not listened to. What is
/// answered is not to repeat a secret either.
fn ask(from: usize, port: u16, request: &str) -> String {
    let mut stream = connect_from(source(from), SocketAddr::from(([127, 0, 0, 1], port)));
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

/// Every door of a node, with a secret in every place where one may be. What was answered.
fn try_all_doors(from: usize, rtmp: u16, secret: &str) -> Vec<String> {
    let (http, admin) = (rtmp + 1, rtmp + 2);
    let (sdp, bearer) = (format!("Content-Type: {SDP}\r\n"), format!("Authorization: Bearer {secret}\r\n"));
    let basic = format!("Authorization: Basic {secret}\r\nCookie: token={secret}\r\n");
    let by_query =
        ["token", "key", "sign"].map(|name| request("HEAD", &format!("/live/none.flv?{name}={secret}&e=1"), "", ""));
    let to_viewers = [
        request("POST", &format!("/whep/live/none?token={secret}"), &sdp, "v=0"),
        request("POST", "/whip/live/other", &format!("{sdp}{bearer}"), "v=0"),
        // What a parser would like to quote.
        format!("GET /live/room.flv?token={secret} HTTP/1.1\r\nHost localhost\r\n\r\n"),
        format!("Authorization: Bearer {secret}\r\n\r\n"),
    ];
    let to_operators = [
        request("GET", "/v1/streams/live%2Froom", &bearer, ""),
        request("POST", "/v1/streams/live/room/events", &bearer, "{"),
        request("GET", "/v1/streams/live%2Froom", &basic, ""),
    ];
    let answers = by_query.iter().chain(&to_viewers).map(|asked| ask(from, http, asked));
    answers.chain(to_operators.iter().map(|asked| ask(from, admin, asked))).collect()
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
    let agreed = ask(0, cluster.port("origin") + 1, &whip);
    let ice = client::accept(&agreed).expect("an answer").transport.ice;
    let ports = ["origin", "edge"].map(|node| cluster.port(node));
    answers.extend(thread::scope(|scope| {
        let strangers = SECRETS
            .into_iter()
            .enumerate()
            .flat_map(|(n, secret)| ports.map(|port| scope.spawn(move || try_all_doors(n + 1, port, secret))));
        strangers.collect::<Vec<_>>().into_iter().flat_map(|stranger| stranger.join().unwrap()).collect::<Vec<_>>()
    }));
    answers.extend(ports.map(|port| ask(0, port + 2, &request("GET", "/metrics", "", ""))));

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
