//! Who may do what, against a real server: every call and every door with every role; and what is revoked or expires
//! ends, on every protocol, within two seconds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "how tests fail")]

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

use common::{Ports, Process, SDP, connect_from, hawker, publish_whip, run, run_ok, text};
use hawker::{
    clock,
    config::TokenRole,
    control::auth::roles::{self, Need},
    net::access::Action,
    observe::metrics::Protocol,
    proto::rtmp::{ClientConfig, ClientEvent, ClientMode, ClientSession},
    secret::Digest,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const ROLES: [(TokenRole, &str); 6] = [
    (TokenRole::Publish, "publish"),
    (TokenRole::Play, "play"),
    (TokenRole::Relay, "relay"),
    (TokenRole::EventsWrite, "events:write"),
    (TokenRole::ApiRead, "api:read"),
    (TokenRole::ApiAdmin, "api:admin"),
];

/// A node that takes publishers and serves viewers, with a token for each role: its name, and `-token` behind it.
struct Node {
    server: Process,
    dir: TempDir,
    ports: Ports,
}

impl Node {
    fn start() -> Self {
        let (dir, ports) = (tempfile::tempdir().unwrap(), Ports::reserve());
        let listen = |(name, n): (&str, u16)| format!("[{name}]\nlisten = '127.0.0.1:{}'\n", ports.base() + n);
        let listeners = [("rtmp", 0), ("http", 1), ("admin", 2), ("moq", 3), ("webrtc", 4)].map(listen).concat();
        let token = |prefix: &str, secret: &str, roles: &str| {
            let digest = Digest::of(secret);
            format!("[[auth.token]]\nprefix = '{prefix}'\ntoken_sha256 = '{digest}'\nroles = [{roles}]\n")
        };
        let tokens = ROLES.map(|(_, role)| token("", &format!("{role}-token"), &format!("'{role}'"))).concat();
        let all_but_relay = ROLES.iter().filter(|(role, _)| *role != TokenRole::Relay);
        let all_but_relay: Vec<_> = all_but_relay.map(|(_, role)| format!("'{role}'")).collect();
        let elsewhere = token("shop", "elsewhere-token", &all_but_relay.join(", "));
        fs::write(dir.path().join("jwt.secret"), "a secret of thirty-two bytes, no less").unwrap();
        fs::write(dir.path().join("url.secret"), "sixteen bytes, or more").unwrap();
        let path = dir.path().display();
        let config = format!(
            "role = 'both'\nshards = 2\ndrain_secs = 1\ndata_dir = '{path}/data'\n{listeners}
             [hub]\nwait_publisher_secs = 0\n{tokens}{elsewhere}
             [[auth.jwt]]\nkid = 'shop'\nalgorithm = 'HS256'\nkey_file = '{path}/jwt.secret'\naudience = 'test'
             actions = ['play', 'publish']
             [[auth.url]]\nkid = 'cdn'\nsecret_file = '{path}/url.secret'\nprefix = 'live'\n",
        );
        fs::write(dir.path().join("hawker.toml"), config).unwrap();
        Self { server: serve(dir.path()), dir, ports }
    }

    fn at(&self, place: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.base() + place))
    }

    /// Status and body of a call of the API.
    fn call(&self, method: &str, path: &str, token: &str, body: Option<&Value>) -> (u16, Value) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "10", "--request", method, "--write-out", "\n%{http_code}"]);
        curl.args(["--header", &format!("authorization: Bearer {token}")]);
        if let Some(body) = body {
            curl.args(["--json", &body.to_string()]);
        }
        let answer = run_ok(15, curl.arg(format!("http://{}{path}", self.at(2))));
        let (body, status) = answer.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// A key made by the API: its id and its secret.
    fn key(&self, terms: &Value) -> (String, String) {
        let (status, key) = self.call("POST", "/v1/keys", "api:admin-token", Some(terms));
        assert_eq!(status, 201, "{key}");
        let text = |field: &str| key[field].as_str().unwrap().to_owned();
        (text("id"), text("secret"))
    }

    /// `hawker token …` with this node's API.
    fn token(&self, args: &[&str]) -> Command {
        let mut command = hawker();
        command.arg("token").args(args).args(["--api", &format!("http://{}", self.at(2))]);
        command.env("HAWKER_TOKEN", "api:admin-token");
        command
    }

    fn push(&self, stream: &str, key: &str) -> Process {
        let url = format!("rtmp://{}/{stream}?{key}", self.at(0));
        let process = Process::spawn(hawker().args(["push", "--sample", &url]));
        self.wait_log("publisher connected", 1);
        process
    }

    fn watch(&self, url: &str, certificate: Option<&str>) -> Process {
        let mut command = hawker();
        command.args(["watch", url, "--secs", "40", "--json"]);
        if let Some(certificate) = certificate {
            command.args(["--cert-sha256", certificate]);
        }
        Process::spawn(&command)
    }

    /// The certificate that MoQ clients are to accept.
    fn certificate(&self) -> String {
        let (_, moq) = self.call("GET", "/v1/moq", "", None);
        moq["certificate_sha256"].as_str().unwrap().to_owned()
    }

    /// Waits until so many lines of the log have all of these words.
    fn wait_log(&self, words: &str, count: usize) {
        self.server.stderr.wait(&format!("{count} x {words}"), |lines| {
            let has = |line: &&String| words.split(" + ").all(|word| line.contains(word));
            (lines.iter().filter(has).count() >= count).then_some(())
        });
    }

    fn assert_unlogged(&self, secrets: &[&str]) {
        let log = self.server.stderr.all().join("\n");
        for secret in secrets {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
    }
}

fn serve(dir: &Path) -> Process {
    let process = Process::spawn(hawker().args(["serve", "--config"]).arg(dir.join("hawker.toml")));
    process.stderr.wait_line("listening");
    process
}

/// A connection from an address that nobody else has: failures are counted by it.
fn connect(to: SocketAddr) -> TcpStream {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let stream = connect_from([127, 77, high, low], to);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// The status of a request as it is written here; what follows it is not waited for.
fn status(to: SocketAddr, method: &str, path: &str, headers: &str) -> u16 {
    let mut stream = connect(to);
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nContent-Length: 0\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    text(&head[9..]).parse().unwrap()
}

/// Is a publisher or viewer let in over RTMP?
fn rtmp(to: SocketAddr, mode: ClientMode, path: &str) -> bool {
    let mut stream = connect(to);
    let mut session = ClientSession::new(ClientConfig::from_url(mode, &format!("rtmp://{to}/{path}")).unwrap());
    let mut buffer = [0; 4096];
    loop {
        while let Some(bytes) = session.poll_output() {
            stream.write_all(&bytes).unwrap();
        }
        match session.poll_event() {
            Some(ClientEvent::Ready) => return true,
            Some(ClientEvent::Rejected { .. } | ClientEvent::Closed) => return false,
            _ => {}
        }
        match stream.read(&mut buffer).unwrap() {
            0 => return false,
            read => session.handle_bytes(&buffer[..read]).unwrap(),
        }
    }
}

/// Who comes: by what he shows, the roles that he has, and whether they are for where he comes to.
struct Credential {
    secret: Option<String>,
    roles: Vec<TokenRole>,
    is_elsewhere: bool,
}

fn credentials(node: &Node) -> Vec<Credential> {
    let all: Vec<_> = ROLES.iter().map(|(role, _)| *role).collect();
    let (_, expired) = {
        let expires = clock::unix_ms() / 1000 + 2;
        node.key(&json!({"roles": ROLES.map(|(_, role)| role), "prefix": "", "expires": expires}))
    };
    let began = clock::now();
    while node.call("GET", "/v1/streams", &expired, None).0 != 403 {
        assert!(began.elapsed() < Duration::from_secs(10), "an expired token still opens something");
    }
    let credential = |secret: &str, roles: &[TokenRole], is_elsewhere| Credential {
        secret: Some(secret.to_owned()),
        roles: roles.to_vec(),
        is_elsewhere,
    };
    let mut credentials: Vec<_> =
        ROLES.iter().map(|(role, name)| credential(&format!("{name}-token"), &[*role], false)).collect();
    credentials.push(credential("elsewhere-token", &all, true));
    credentials.push(credential("wrong-token", &[], false));
    credentials.push(credential(&expired, &[], false));
    credentials.push(Credential { secret: None, roles: Vec::new(), is_elsewhere: false });
    credentials
}

/// Does all of it at once: a refusal takes up to two seconds.
fn all_at_once(mut cases: Vec<Box<dyn FnOnce() + Send + '_>>) {
    while !cases.is_empty() {
        // Fewer than an address may have of connections that have said nothing yet.
        let batch = cases.split_off(cases.len().saturating_sub(128));
        thread::scope(|scope| {
            let running: Vec<_> = batch.into_iter().map(|case| scope.spawn(case)).collect();
            running.into_iter().for_each(|case| case.join().unwrap());
        });
    }
}

#[test]
fn every_call_needs_what_the_table_says() {
    let node = Node::start();
    let credentials = credentials(&node);
    let mut cases: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
    for (method, route, need) in roles::CALLS.iter().chain(roles::PEERS) {
        for credential in &credentials {
            let to = node.at(2);
            cases.push(Box::new(move || {
                let path = route.replace("{name}", "live/room").replace("{org}", "live").replace("{id}", ULID);
                let secret = credential.secret.as_deref();
                let headers = secret.map(|secret| format!("Authorization: Bearer {secret}\r\n")).unwrap_or_default();
                let found = status(to, method, &path, &headers);
                // Revocations hold everywhere, and who relays, relays all.
                let is_everywhere = ["/v1/revocations", "/v1/standby"].contains(route);
                let names_a_place = route.contains("{name}") || route.contains("{org}") || is_everywhere;
                let refused = match need {
                    Need::Nothing => None,
                    Need::Role(_) | Need::RoleUnlessOpen(_) if secret.is_none() => Some(401),
                    Need::Role(role) | Need::RoleUnlessOpen(role) => {
                        let may = credential.roles.contains(role) && !(credential.is_elsewhere && names_a_place);
                        (!may).then_some(403)
                    }
                };
                match refused {
                    Some(status) => assert_eq!(found, status, "{method} {path} {secret:?}"),
                    None => assert!(![401, 403, 429].contains(&found), "{method} {path} {secret:?}: {found}"),
                }
            }));
        }
    }
    all_at_once(cases);
}

const ULID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

#[test]
fn every_door_needs_what_the_table_says() {
    let node = Node::start();
    let credentials = credentials(&node);
    let _anchor = node.push("live/room", "key=publish-token");
    let certificate = node.certificate();
    let mut cases: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
    for (n, (credential, (protocol, action, role))) in
        credentials.iter().flat_map(|credential| roles::DOORS.iter().map(move |door| (credential, door))).enumerate()
    {
        let (node, certificate) = (&node, &certificate);
        cases.push(Box::new(move || {
            let secret = credential.secret.as_deref();
            let shown = |name: &str| secret.map(|secret| format!("?{name}={secret}")).unwrap_or_default();
            let offer = format!("Content-Type: {SDP}\r\n");
            let let_in = match (protocol, action) {
                (Protocol::Rtmp, Action::Publish) => {
                    rtmp(node.at(0), ClientMode::Publish, &format!("live/other-{n}{}", shown("key")))
                }
                (Protocol::Rtmp, Action::Play) => {
                    rtmp(node.at(0), ClientMode::Play, &format!("live/room{}", shown("token")))
                }
                (Protocol::Flv, _) => {
                    status(node.at(1), "GET", &format!("/live/room.flv{}", shown("token")), "") == 200
                }
                (Protocol::Whip, _) => {
                    ![401, 403].contains(&status(node.at(1), "POST", &format!("/whip/live/x{}", shown("key")), &offer))
                }
                (Protocol::Whep, _) => {
                    let path = format!("/whep/live/room{}", shown("token"));
                    ![401, 403].contains(&status(node.at(1), "POST", &path, &offer))
                }
                (Protocol::Moq, _) => {
                    // The address is everybody's, so only some try.
                    if !matches!(secret, None | Some("play-token" | "publish-token" | "elsewhere-token")) {
                        return;
                    }
                    let url = format!("https://{}/live/room{}", node.at(3), shown("token"));
                    let args = ["watch", &url, "--secs", "3", "--cert-sha256", certificate];
                    run(20, hawker().args(args)).status.success()
                }
            };
            let may = credential.roles.contains(role) && !credential.is_elsewhere;
            assert_eq!(let_in, may, "{protocol:?} {action:?} {secret:?}");
        }));
    }
    all_at_once(cases);
}

#[test]
fn every_route_is_in_the_table() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut routes = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() && !path.ends_with("node_modules") && !path.ends_with("tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let code = fs::read_to_string(&path).unwrap();
                let code = code.split("#[cfg(test)]").next().unwrap();
                assert_eq!(code.matches(".route(").count(), code.matches(".route(\"").count(), "{}", path.display());
                let found = code.split(".route(\"").skip(1).filter_map(|rest| rest.split_once('"'));
                routes.extend(found.map(|(route, _)| route.to_owned()));
            }
        }
    }
    let is_listed = |route: &&String| {
        let called = roles::CALLS.iter().chain(roles::PEERS).any(|(_, path, _)| path == route);
        called || roles::OPEN.contains(&route.as_str()) || roles::MEDIA.contains(&route.as_str())
    };
    let unlisted: Vec<_> = routes.iter().filter(|route| !is_listed(route)).collect();
    assert!(unlisted.is_empty() && routes.len() > 20, "{unlisted:?} of {routes:?}");
}

#[test]
fn what_is_revoked_ends_within_two_seconds_on_every_protocol() {
    let node = Node::start();
    let (push_id, push_key) = node.key(&json!({"roles": ["publish"], "prefix": "live/room"}));
    let (whip_id, whip_key) = node.key(&json!({"roles": ["publish"], "prefix": "live/whip"}));
    let (view_id, token) = node.key(&json!({"roles": ["play", "api:read"], "prefix": "live"}));
    let _anchor = node.push("live/room", &format!("key={push_key}"));
    let _whip = publish_whip(&format!("http://{}/whip/live/whip", node.at(1)), &whip_key);
    let urls = [
        format!("http://{}/live/room.flv?token={token}", node.at(1)),
        format!("rtmp://{}/live/room?token={token}", node.at(0)),
        format!("whep://{}/live/room?token={token}", node.at(1)),
    ];
    let mut viewers: Vec<_> = urls.iter().map(|url| node.watch(url, None)).collect();
    viewers.push(node.watch(&format!("https://{}/live/room?token={token}", node.at(3)), Some(&node.certificate())));
    let mut sse = Command::new("curl");
    sse.args(["--silent", "--no-buffer", "--header", &format!("authorization: Bearer {token}")]);
    let _sse = Process::spawn(sse.arg(format!("http://{}/v1/streams/live/room/events/stream", node.at(2))));
    node.wait_log("viewer joined", 3);
    node.wait_log("moq session began", 1);
    node.wait_log("event stream began", 1);
    node.wait_log("publisher connected", 2);

    let began = clock::now();
    assert_eq!(node.call("DELETE", &format!("/v1/keys/{view_id}"), "api:admin-token", None).0, 204);
    node.wait_log("viewer left + revoked", 3);
    node.wait_log("moq session ended + revoked", 1);
    node.wait_log("event stream ended", 1);
    let viewers_took = began.elapsed();
    let began = clock::now();
    for id in [&push_id, &whip_id] {
        assert_eq!(node.call("DELETE", &format!("/v1/keys/{id}"), "api:admin-token", None).0, 204);
    }
    node.wait_log("publisher gone + revoked", 2);
    let took = viewers_took.max(began.elapsed());
    assert!(took < Duration::from_secs(2), "{took:?}");

    for url in &urls[..2] {
        assert!(!run(10, hawker().args(["watch", url, "--secs", "1"])).status.success(), "let in again");
    }
    node.assert_unlogged(&[&push_key, &whip_key, &token, "api:admin-token"]);
}

#[test]
fn an_edge_whose_token_is_revoked_is_cut_off() {
    let node = Node::start();
    let (id, token) = node.key(&json!({"roles": ["relay"], "prefix": ""}));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    let keys = format!("http://{}/.well-known/hawker-keys.json", node.at(2));
    run_ok(5, Command::new("curl").args(["--silent", "--output", &format!("{path}/keys.json"), &keys]));
    let listen = |(name, n): (&str, u16)| format!("[{name}]\nlisten = '127.0.0.1:{}'\n", node.ports.base() + n);
    let listeners = [("rtmp", 8), ("http", 9), ("admin", 10), ("moq", 11), ("webrtc", 12)].map(listen).concat();
    let config = format!(
        "role = 'edge'\nshards = 1\n{listeners}[upstream]\nurls = ['moqt://{}']\ntoken = '{token}'
         cert_sha256 = '{}'\nevent_keys = '{path}/keys.json'\n",
        node.at(3),
        node.certificate(),
    );
    fs::write(dir.path().join("hawker.toml"), config).unwrap();
    let edge = serve(dir.path());
    node.wait_log("moq session began + edge=true", 1);
    let began = clock::now();
    assert_eq!(node.call("DELETE", &format!("/v1/keys/{id}"), "api:admin-token", None).0, 204);
    node.wait_log("moq session ended + edge=true + revoked", 1);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    node.assert_unlogged(&[&token]);
    assert!(!edge.stderr.all().join("\n").contains(&token));
}

#[test]
fn a_jwt_and_a_signed_url_open_a_stream_and_end_its_sessions_with_their_time() {
    let node = Node::start();
    let sign = |sub: &str, more: &[&str]| {
        let secret = node.dir.path().join("jwt.secret");
        let mut command = hawker();
        command.args(["token", "sign", "--algorithm", "HS256", "--kid", "shop", "--audience", "test", "--key-file"]);
        command.arg(secret).args(["--sub", sub, "--prefix", "live"]).args(more);
        run_ok(5, &command).trim().to_owned()
    };
    let sign_url = |ttl: &str| {
        let mut command = hawker();
        command.args(["token", "sign-url", "live/room", "--kid", "cdn", "--ttl", ttl, "--secret-file"]);
        run_ok(5, command.arg(node.dir.path().join("url.secret"))).trim().to_owned()
    };
    let publisher = sign("ann", &["--action", "publish", "--ttl", "60s"]);
    let _anchor = node.push("live/room", &format!("key={publisher}"));
    let certificate = node.certificate();
    // On a busy machine it takes a while until all of them are in.
    let (jwt, query) = (sign("guest", &["--ttl", "10s"]), sign_url("10s"));
    let ends = clock::now() + Duration::from_secs(10);
    let urls = [
        format!("http://{}/live/room.flv?token={jwt}", node.at(1)),
        format!("http://{}/live/room.flv?{query}", node.at(1)),
        format!("rtmp://{}/live/room?token={jwt}", node.at(0)),
        format!("rtmp://{}/live/room?{query}", node.at(0)),
        format!("whep://{}/live/room?token={jwt}", node.at(1)),
    ];
    let mut viewers: Vec<_> = urls.iter().map(|url| node.watch(url, None)).collect();
    viewers.push(node.watch(&format!("https://{}/live/room?jwt={jwt}", node.at(3)), Some(&certificate)));
    node.wait_log("viewer joined", 5);
    node.wait_log("moq session began", 1);
    node.wait_log("viewer left + expired", 5);
    node.wait_log("moq session ended + expired", 1);
    let late = clock::now().saturating_duration_since(ends);
    assert!(late < Duration::from_secs(2), "{late:?}");
    assert!(clock::now() + Duration::from_secs(2) > ends, "ended before their time");
    for url in &urls[..4] {
        assert!(!run(10, hawker().args(["watch", url, "--secs", "1"])).status.success(), "let in again: {url}");
    }

    // Revoked by their owner's name, before their time.
    let bob = sign("bob", &["--ttl", "60s"]);
    let _bob = node.watch(&format!("http://{}/live/room.flv?token={bob}", node.at(1)), None);
    node.wait_log("viewer joined", 6);
    run_ok(10, &node.token(&["revoke-jwt", "--sub", "bob"]));
    node.wait_log("viewer left + revoked", 1);
    run_ok(10, &node.token(&["revoke-jwt", "--sub", "ann"]));
    node.wait_log("publisher gone + revoked", 1);
    let signature = query.rsplit_once('=').unwrap().1;
    node.assert_unlogged(&[&jwt, &bob, &publisher, signature]);
}

#[test]
fn keys_are_made_listed_rotated_and_revoked_by_the_tool_and_survive_kill_9() {
    let mut node = Node::start();
    let create = ["create", "--role", "publish", "--prefix", "live", "--ttl", "1d", "--note", "Ann's studio"];
    let first = run_ok(10, &node.token(&create)).trim().to_owned();
    node.server.kill();
    node.server = serve(node.dir.path());

    let may_publish = |key: &str| rtmp(node.at(0), ClientMode::Publish, &format!("live/room?key={key}"));
    assert!(may_publish(&first), "what was answered is durable");
    let list = run_ok(10, &node.token(&["list"]));
    assert!(list.contains("Ann's studio") && list.contains("publish") && !list.contains(&first), "{list}");
    let id = list.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let second = run_ok(10, &node.token(&["rotate", &id, "--grace", "1h"])).trim().to_owned();
    assert!(may_publish(&first) && may_publish(&second), "both, for a while");
    let third = run_ok(10, &node.token(&["rotate", &id])).trim().to_owned();
    assert!(!may_publish(&first) && !may_publish(&second) && may_publish(&third));
    run_ok(10, &node.token(&["revoke", &id]));
    assert!(!may_publish(&third));
    assert!(!run(10, &node.token(&["revoke", &id])).status.success(), "it is gone");

    let kept = fs::read_to_string(node.dir.path().join("data/keys.json")).unwrap();
    assert!([&first, &second, &third].iter().all(|secret| !kept.contains(secret.as_str())), "{kept}");
    let hashed = run_ok(5, hawker().args(["token", "hash"]));
    let (secret, hash) = hashed.trim().split_once('\n').unwrap();
    assert_eq!(hash, Digest::of(secret).to_string());
    node.assert_unlogged(&[&first, &second, &third]);
}

#[test]
fn an_administrator_rules_below_his_own_prefix_only() {
    let node = Node::start();
    let (id, _) = node.key(&json!({"roles": ["publish"], "prefix": "live"}));
    let (_, theirs) = node.key(&json!({"roles": ["api:admin"], "prefix": "shop"}));
    let call = |method: &str, path: &str, body: Option<&Value>| node.call(method, path, &theirs, body).0;
    for (prefix, expected) in [("shop", 201), ("shop/room", 201), ("shopping", 403), ("live", 403), ("", 403)] {
        let terms = json!({"roles": ["publish"], "prefix": prefix});
        assert_eq!(call("POST", "/v1/keys", Some(&terms)), expected, "{prefix:?}");
    }
    assert_eq!(call("DELETE", &format!("/v1/keys/{id}"), None), 404, "it looks as if it were not there");
    assert_eq!(call("POST", &format!("/v1/keys/{id}/rotate"), None), 404);
    let (_, list) = node.call("GET", "/v1/keys", &theirs, None);
    assert!(!list.to_string().contains(&id), "{list}");
    for (terms, pointer) in [
        (json!({"roles": [], "prefix": "shop"}), "/roles"),
        (json!({"roles": ["publish"], "prefix": "shop/"}), "/prefix"),
        (json!({"roles": ["relay"], "prefix": "shop"}), "/prefix"),
        (json!({"roles": ["publish"], "prefix": "shop", "streams_max": 0}), "/streams_max"),
        (json!({"roles": ["publish"], "prefix": "shop", "expires": 1}), "/expires"),
        (json!({"roles": ["publish"], "prefix": "shop", "note": "two\nlines"}), "/note"),
        (json!({"roles": ["root"], "prefix": "shop"}), ""),
        (json!({"roles": ["publish"], "prefix": "shop", "prefixes": []}), ""),
    ] {
        let (status, answer) = node.call("POST", "/v1/keys", &theirs, Some(&terms));
        assert_eq!((status, answer["pointer"].as_str()), (422, Some(pointer)), "{terms}: {answer}");
    }
}
