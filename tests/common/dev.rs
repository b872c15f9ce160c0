//! A real `hawker dev`: an origin and an edge, joined by QUIC.

use std::{net::TcpListener, ops::Range, process::Command};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, run_ok};

/// An origin and an edge, each with its own ports; both end with the test.
pub(crate) struct Dev {
    pub(crate) origin: Node,
    pub(crate) edge: Node,
    pub(crate) server: Process,
    /// Where its tools look it up.
    data: TempDir,
    _ports: Ports,
}

/// Where one node is reached.
#[derive(Deserialize)]
pub(crate) struct Node {
    pub(crate) rtmp: String,
    pub(crate) http: String,
    pub(crate) moq: String,
    /// `host:port`: where media of WebRTC goes.
    pub(crate) webrtc: String,
    pub(crate) publish_url: String,
    pub(crate) api_token: String,
}

impl Node {
    pub(crate) fn flv_url(&self) -> String {
        format!("{}/live/room.flv", self.http)
    }

    pub(crate) fn rtmp_url(&self) -> String {
        format!("{}/live/room", self.rtmp)
    }

    /// The publisher's key.
    pub(crate) fn key(&self) -> &str {
        self.publish_url.split_once("?key=").unwrap().1
    }

    pub(crate) fn whip_url(&self) -> String {
        format!("{}/whip/live/room", self.http)
    }

    pub(crate) fn whep_url(&self) -> String {
        format!("{}/whep/live/room", self.http)
    }

    /// Both ways to watch; what is true of one must be true of the other.
    pub(crate) fn watch_urls(&self) -> [String; 2] {
        [self.flv_url(), self.rtmp_url()]
    }
}

impl Dev {
    pub(crate) fn start() -> Self {
        #[derive(Deserialize)]
        struct Info {
            origin: Node,
            edge: Node,
        }
        let ports = Ports::reserve();
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary());
        command.args(["dev", "--json", "--no-sample", "--port-base", &ports.base().to_string(), "--data"]);
        command.arg(data.path()).env("XDG_RUNTIME_DIR", data.path());
        let server = Process::spawn(&command);
        let first = server.stdout.wait("the JSON of `hawker dev`", |lines| lines.first().cloned());
        let Info { origin, edge } = serde_json::from_str(&first).unwrap_or_else(|error| panic!("{error}: {first}"));
        Self { origin, edge, server, data, _ports: ports }
    }

    /// `hawker watch`, which reports as JSON after five seconds.
    pub(crate) fn watch(&self, url: &str) -> Process {
        let mut command = Command::new(binary());
        command.args(["watch", url, "--secs", "5", "--json"]).env("XDG_RUNTIME_DIR", self.data.path());
        Process::spawn(&command)
    }

    /// Sends an event to the origin and returns it as stamped.
    pub(crate) fn send_event(&self, event: &Value) -> Value {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--write-out", "\n%{http_code}"])
            .args(["--header", "content-type: application/json", "--data", &event.to_string()])
            .args(["--header", &format!("authorization: Bearer {}", self.origin.api_token)])
            .arg(format!("{}/v1/streams/live/room/events", self.origin.http));
        let reply = run_ok(5, &curl);
        let (body, status) = reply.rsplit_once('\n').unwrap();
        assert_eq!(status, "201", "{body}");
        serde_json::from_str(body).unwrap()
    }

    /// All the server has said, to search for what it must or must not say.
    pub(crate) fn log(&self) -> String {
        self.server.stderr.all().join("\n")
    }
}

fn binary() -> String {
    std::env::var("HAWKER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_hawker").into())
}

/// A range of ports that no other test uses, while this value lives.
pub(crate) struct Ports {
    /// The last port of the range; tests run in processes of their own, and this is what they see of each other.
    guard: TcpListener,
}

impl Ports {
    const COUNT: u16 = 20;
    /// Below Linux's ephemeral ports (32768), so no outgoing connection is in the way.
    const ALL: Range<u16> = 21_000..32_000;

    pub(crate) fn reserve() -> Self {
        let guard = Self::ALL
            .step_by(Self::COUNT.into())
            .find_map(|base| TcpListener::bind(("127.0.0.1", base + Self::COUNT - 1)).ok());
        Self { guard: guard.expect("a free range of ports") }
    }

    pub(crate) fn base(&self) -> u16 {
        self.guard.local_addr().unwrap().port() + 1 - Self::COUNT
    }
}
