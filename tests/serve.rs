//! `hawker serve` as an operator runs it: configuration, readiness, restarts, wrong input, orderly ends.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use common::{Ports, Process, Viewer, assert_even, publish, run, run_ok, text};
use hawker::{
    media::{Keys, Signer},
    secret::Digest,
};
use tempfile::TempDir;

const KEY: &str = "anchor-key";
const EDGE_TOKEN: &str = "edge-token";
const VIEWER_TOKEN: &str = "viewer-token";

/// An origin and an edge, each a process with a configuration of its own; nothing is open.
struct Cluster {
    dir: TempDir,
    base: u16,
    _ports: Ports,
}

impl Cluster {
    fn new() -> Self {
        let (dir, ports) = (tempfile::tempdir().unwrap(), Ports::reserve());
        let base = ports.base();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(["localhost".into()]).unwrap().self_signed(&key).unwrap();
        fs::write(dir.path().join("cert.pem"), certificate.pem()).unwrap();
        fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        let path = dir.path().display();
        let signer = Signer::from_seed(&[1; 32]);
        fs::write(dir.path().join("event-key.json"), signer.to_private_jwk()).unwrap();
        fs::write(dir.path().join("event-keys.json"), Keys::from(signer.public()).to_jwks()).unwrap();
        let origin = format!(
            "role = 'origin'\nshards = 2\ndata_dir = '{path}'\n{}
             [moq]\nlisten = '127.0.0.1:{}'\ncert = '{path}/cert.pem'\nkey = '{path}/key.pem'
             [[auth.publish]]\nprefix = 'live'\nkey_sha256 = '{}'
             [[auth.token]]\nprefix = ''\ntoken_sha256 = '{}'\nroles = ['relay']\n",
            listeners(base),
            base + 3,
            Digest::of(KEY),
            Digest::of(EDGE_TOKEN),
        );
        let edge = format!(
            "role = 'edge'\nshards = 2\n{}
             [moq]\nlisten = '127.0.0.1:{}'
             [upstream]\nurls = ['moqt://127.0.0.1:{}']\ntoken = '{EDGE_TOKEN}'\ncert_sha256 = '{}'
             event_keys = '{path}/event-keys.json'
             [[auth.token]]\nprefix = 'live'\ntoken_sha256 = '{}'\nroles = ['play']\n",
            listeners(base + 4),
            base + 7,
            base + 3,
            Digest::of(certificate.der()),
            Digest::of(VIEWER_TOKEN),
        );
        fs::write(dir.path().join("origin.toml"), origin).unwrap();
        fs::write(dir.path().join("edge.toml"), edge).unwrap();
        Self { dir, base, _ports: ports }
    }

    fn serve(&self, node: &str) -> Process {
        let process =
            Process::spawn(hawker().args(["serve", "--config"]).arg(self.dir.path().join(format!("{node}.toml"))));
        process.stderr.wait_line("listening");
        process
    }

    fn publish_url(&self) -> String {
        format!("rtmp://127.0.0.1:{}/live/room?key={KEY}", self.base)
    }

    fn flv_url(&self) -> String {
        format!("http://127.0.0.1:{}/live/room.flv", self.base + 5)
    }

    /// Status of a request to the edge's admin listener.
    fn edge_status(&self, path: &str) -> u16 {
        status(&format!("http://127.0.0.1:{}{path}", self.base + 6))
    }
}

fn listeners(base: u16) -> String {
    let section = |name: &str, port: u16| format!("[{name}]\nlisten = '127.0.0.1:{port}'\n");
    [section("rtmp", base), section("http", base + 1), section("admin", base + 2)].concat()
}

fn hawker() -> Command {
    Command::new(std::env::var("HAWKER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_hawker").into()))
}

fn status(url: &str) -> u16 {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--output", "/dev/null", "--max-time", "5", "--write-out", "%{http_code}", url]);
    text(&run(10, &curl).stdout).parse().unwrap()
}

#[test]
fn an_edge_is_ready_with_its_origin_and_keeps_its_viewers_when_that_is_killed() {
    let cluster = Cluster::new();
    let edge = cluster.serve("edge");
    assert_eq!((cluster.edge_status("/livez"), cluster.edge_status("/readyz")), (200, 503));
    let mut origin = cluster.serve("origin");
    edge.stderr.wait_line("upstream session began");
    assert_eq!(cluster.edge_status("/readyz"), 200);

    let mut anchor = publish(&cluster.publish_url());
    assert_eq!(status(&cluster.flv_url()), 403, "nobody watches without a token");
    let viewer = Viewer::watch(&format!("{}?token={VIEWER_TOKEN}", cluster.flv_url()));
    let before = viewer.wait_frames(25);
    assert_even(&before, 200);

    origin.kill();
    anchor.kill();
    let _origin = cluster.serve("origin");
    let _anchor = publish(&cluster.publish_url());
    let after = viewer.wait_frames(25 * 4);
    // Ten seconds are enough for the restart on a busy machine; going back or standing still would show.
    assert_even(&after, 10_000);
    assert_eq!(edge.stderr.all().iter().filter(|line| line.contains("viewer joined")).count(), 1);
}

#[test]
fn sigterm_ends_publishers_and_viewers_in_order() {
    let cluster = Cluster::new();
    let (mut origin, mut edge) = (cluster.serve("origin"), cluster.serve("edge"));
    edge.stderr.wait_line("upstream session began");
    let _anchor = publish(&cluster.publish_url());
    let viewer = Viewer::watch(&format!("{}?token={VIEWER_TOKEN}", cluster.flv_url()));
    viewer.wait_frames(5);
    for node in [&mut edge, &mut origin] {
        assert_eq!(node.terminate(), Some(0));
        node.stderr.wait_line("stopped");
    }
    for (log, line) in [(&edge, "viewer left"), (&origin, "publisher gone")] {
        log.stderr.wait_line(line);
    }
}

#[test]
fn wrong_bytes_are_refused_in_one_line_and_nobody_else_notices() {
    let cluster = Cluster::new();
    let (origin, edge) = (cluster.serve("origin"), cluster.serve("edge"));
    edge.stderr.wait_line("upstream session began");
    let _anchor = publish(&cluster.publish_url());
    let viewer = Viewer::watch(&format!("{}?token={VIEWER_TOKEN}", cluster.flv_url()));
    viewer.wait_frames(5);
    let mut lines = 0;
    let noise: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let handshake = [&[3][..], &[0; 3072]].concat();
    let wrong: [Vec<u8>; 4] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        noise.clone(),
        [&handshake[..], &noise].concat(),
        // A chunk that claims the longest message there can be.
        [&handshake[..], &[3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0], &noise].concat(),
    ];
    for bytes in wrong {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.base)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The server may close before it has read all of this.
        let _ = stream.write_all(&bytes);
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(ended.as_ref().err().is_none_or(|e| e.kind() == std::io::ErrorKind::ConnectionReset), "{ended:?}");
        lines += 1;
        origin.stderr.wait(&format!("line {lines}"), |log| {
            (log.iter().filter(|line| line.contains("not accepted")).count() == lines).then_some(())
        });
    }
    let frames = viewer.wait_frames(60);
    assert_even(&frames, 200);
    assert_eq!(origin.stderr.all().iter().filter(|line| line.contains("not accepted")).count(), lines);
}

#[test]
fn mistakes_are_named() {
    let complaint = |args: &[&str]| {
        let output = run(5, hawker().args(args));
        assert!(!output.status.success(), "{args:?}");
        text(&output.stderr)
    };
    let cluster = Cluster::new();
    let _origin = cluster.serve("origin");
    let config = cluster.dir.path().join("origin.toml");
    let config = config.to_str().unwrap();
    let port = cluster.base;
    let taken = complaint(&["serve", "--config", config]);
    assert!(taken.contains(&format!("RTMP: can't listen on 127.0.0.1:{port}: port {port} is in use")), "{taken}");
    let taken = complaint(&["dev", "--port-base", &port.to_string()]);
    assert!(taken.contains(&format!("port {port} is in use")), "{taken}");
    assert!(run_ok(5, hawker().args(["check", config])).contains("good"));

    let broken = cluster.dir.path().join("broken.toml");
    fs::write(&broken, "role = 'origin'\n[rtmp]\nlisten = 'nowhere'\n").unwrap();
    let said = complaint(&["check", broken.to_str().unwrap()]);
    assert!(said.contains("broken.toml:3: rtmp.listen"), "{said}");
    let said = complaint(&["serve", "--config", Path::new("/nonexistent/hawker.toml").to_str().unwrap()]);
    assert!(said.contains("/nonexistent/hawker.toml"), "{said}");
}
