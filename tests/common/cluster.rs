//! `hawker serve` as an operator runs it: an origin and edges, each a process with a configuration of its own.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use hawker::{
    media::{Keys, Signer},
    secret::Digest,
};
use tempfile::TempDir;

use super::{
    api::Api,
    dev::Ports,
    flv::FlvViewer,
    process::{Process, run, run_ok, text},
};

/// Publishes below `live` and `shop`.
const KEY: &str = "anchor-key";
const EDGE_TOKEN: &str = "edge-token";
const VIEWER_TOKEN: &str = "viewer-token";
const API_TOKEN: &str = "api-token";

/// Configurations of an origin and two edges, in which nothing is open, and the origin's data.
pub(crate) struct Cluster {
    dir: TempDir,
    base: u16,
    certificate: Digest,
    ports: Ports,
}

/// The nodes, by the places of their ports: RTMP, HTTP, admin, MoQ, and one of WebRTC for each shard.
pub(crate) const NODES: [&str; 3] = ["origin", "edge", "edge-2"];

impl Cluster {
    pub(crate) fn new() -> Self {
        let (dir, ports) = (tempfile::tempdir().unwrap(), Ports::reserve());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(["localhost".into()]).unwrap().self_signed(&key).unwrap();
        fs::write(dir.path().join("cert.pem"), certificate.pem()).unwrap();
        fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        let signer = Signer::from_seed(&[1; 32]);
        fs::write(dir.path().join("event-key.json"), signer.to_private_jwk()).unwrap();
        let cluster = Self { base: ports.base(), certificate: Digest::of(certificate.der()), dir, ports };
        fs::write(cluster.path().join("event-keys.json"), cluster.event_keys().to_jwks()).unwrap();
        cluster.configure_origin("");
        ["edge", "edge-2"].into_iter().for_each(|edge| cluster.configure_edge(edge));
        cluster
    }

    /// Its origin's viewers need no token.
    pub(crate) fn open() -> Self {
        let cluster = Self::new();
        cluster.configure_origin("[auth]\nplay = 'anyone'");
        cluster
    }

    /// The origin's configuration from its next start on; `more` are further lines of it.
    pub(crate) fn configure_origin(&self, more: &str) {
        self.configure_origin_at("origin", self.path(), more);
    }

    fn configure_origin_at(&self, node: &str, data: &Path, more: &str) {
        let path = self.path().display();
        let config = format!(
            "role = 'origin'\nshards = 2\ndrain_secs = 1\ndata_dir = '{}'\n{}
             [tls]\ncert = '{path}/cert.pem'\nkey = '{path}/key.pem'
             [[auth.publish]]\nprefix = ''\nkey_sha256 = '{}'
             [[auth.token]]\nprefix = ''\ntoken_sha256 = '{}'\nroles = ['relay']
             [[auth.token]]\nprefix = ''\ntoken_sha256 = '{}'\nroles = ['play']
             [[auth.token]]\nprefix = ''\ntoken_sha256 = '{}'\nroles = ['events:write', 'api:read']\n{more}\n",
            data.display(),
            self.listeners(node),
            Digest::of(KEY),
            Digest::of(EDGE_TOKEN),
            Digest::of(VIEWER_TOKEN),
            Digest::of(API_TOKEN),
        );
        fs::write(self.path().join(format!("{node}.toml")), config).unwrap();
    }

    /// Two origins that share their events, `origin` and the one in the place of `edge-2`, which stands by; `edge`
    /// takes its streams from either. `more` are further lines of the section `standby` of both.
    pub(crate) fn configure_pair(&self, more: &str) {
        let path = self.path();
        fs::write(path.join("standby.token"), EDGE_TOKEN).unwrap();
        for (node, other, stands_by) in [("origin", "edge-2", false), ("edge-2", "origin", true)] {
            let lines = format!(
                "[events]\nkey_file = '{0}/event-key.json'\nrate_per_s = 1000\nburst = 10000
                 [standby]\nurl = 'http://127.0.0.1:{1}'\ntoken_file = '{0}/standby.token'\nstand_by = {stands_by}\n{more}",
                path.display(),
                self.port(other) + 2,
            );
            let data = path.join(format!("data-{node}"));
            fs::create_dir(&data).unwrap();
            self.configure_origin_at(node, &data, &lines);
        }
        let edge = fs::read_to_string(path.join("edge.toml")).unwrap();
        let url = |node| format!("'moqt://127.0.0.1:{}'", self.port(node) + 3);
        let both = format!("{}, {}", url("origin"), url("edge-2"));
        fs::write(path.join("edge.toml"), edge.replace(&url("origin"), &both)).unwrap();
    }

    fn configure_edge(&self, edge: &str) {
        let config = format!(
            "role = 'edge'\nshards = 2\ndrain_secs = 1\n{}
             [upstream]\nurls = ['moqt://127.0.0.1:{}']\ntoken = '{EDGE_TOKEN}'\ncert_sha256 = '{}'
             event_keys = '{}/event-keys.json'
             [[auth.token]]\nprefix = ''\ntoken_sha256 = '{}'\nroles = ['play']\n",
            self.listeners(edge),
            self.port("origin") + 3,
            self.certificate,
            self.path().display(),
            Digest::of(VIEWER_TOKEN),
        );
        fs::write(self.path().join(format!("{edge}.toml")), config).unwrap();
    }

    /// A section for each.
    fn listeners(&self, node: &str) -> String {
        let section = |(name, place)| format!("[{name}]\nlisten = '127.0.0.1:{}'\n", self.port(node) + place);
        [("rtmp", 0), ("http", 1), ("admin", 2), ("webrtc", 4), ("moq", 3)].map(section).concat()
    }

    /// The first of a node's six ports: RTMP.
    pub(crate) fn port(&self, node: &str) -> u16 {
        let index = NODES.iter().position(|name| *name == node).expect("a node of the cluster");
        self.base + 6 * u16::try_from(index).unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a node; returns when its ports are open.
    pub(crate) fn serve(&self, node: &str) -> Process {
        let process =
            Process::spawn(hawker().args(["serve", "--config"]).arg(self.path().join(format!("{node}.toml"))));
        process.stderr.wait_line("listening");
        process
    }

    /// Starts an edge; returns when it has its upstream.
    pub(crate) fn serve_edge(&self, edge: &str) -> Process {
        let process = self.serve(edge);
        process.stderr.wait_line("upstream session began");
        process
    }

    pub(crate) fn publish_url(&self, stream: &str) -> String {
        self.publish_url_at("origin", stream)
    }

    pub(crate) fn publish_url_at(&self, node: &str, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/{stream}?key={KEY}", self.port(node))
    }

    /// Publishes the built-in clip until dropped.
    pub(crate) fn push(&self, stream: &str) -> Process {
        Process::spawn(hawker().args(["push", "--sample", &self.publish_url(stream)]))
    }

    /// Publishes the built-in clip, and a healthy viewer sees it, who must not notice what goes on.
    pub(crate) fn push_and_watch(&self, stream: &str) -> (Process, FlvViewer) {
        let (push, viewer) = (self.push(stream), FlvViewer::watch(&self.flv_url("origin", stream)));
        viewer.wait_frames(1);
        (push, viewer)
    }

    /// Where the origin listens to publishers and viewers: RTMP and HTTP.
    pub(crate) fn doors(&self) -> [SocketAddr; 2] {
        [0, 1].map(|place| SocketAddr::from(([127, 0, 0, 1], self.port("origin") + place)))
    }

    pub(crate) fn flv_url(&self, node: &str, stream: &str) -> String {
        format!("http://127.0.0.1:{}/{stream}.flv?token={VIEWER_TOKEN}", self.port(node) + 1)
    }

    /// Where viewers of `protocol` watch: flv, rtmp, moq or whep.
    pub(crate) fn watch_url(&self, protocol: &str, node: &str, stream: &str) -> String {
        let (scheme, place) = match protocol {
            "rtmp" => ("rtmp", 0),
            "moq" => ("moqt", 3),
            "whep" => ("whep", 1),
            _ => return self.flv_url(node, stream),
        };
        format!("{scheme}://127.0.0.1:{}/{stream}?token={VIEWER_TOKEN}", self.port(node) + place)
    }

    /// `hawker load`, which reports as JSON when it ends.
    pub(crate) fn load(&self) -> Command {
        let mut load = hawker();
        load.args(["load", "--json", "-", "--cert-sha256", &self.certificate.to_string()]);
        load
    }

    /// The value of a metric, or of the labelled one of that name, at a node.
    pub(crate) fn metric(&self, node: &str, name: &str) -> f64 {
        let url = format!("http://127.0.0.1:{}/metrics", self.port(node) + 2);
        let authorization = format!("authorization: Bearer {API_TOKEN}");
        let text = run_ok(10, Command::new("curl").args(["--silent", "--header", &authorization, &url]));
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_default()
    }

    /// A caller of the origin's API.
    pub(crate) fn api(&self) -> Api {
        self.api_of("origin")
    }

    pub(crate) fn api_of(&self, node: &str) -> Api {
        Api::new(self.port(node) + 2, API_TOKEN)
    }

    /// Status of a request to a node's admin listener.
    pub(crate) fn status(&self, node: &str, path: &str) -> u16 {
        status(&format!("http://127.0.0.1:{}{path}", self.port(node) + 2))
    }

    /// The keys whose events the edges believe.
    pub(crate) fn event_keys(&self) -> Keys {
        Keys::from(Signer::from_seed(&[1; 32]).public())
    }
}

pub(crate) fn hawker() -> Command {
    Command::new(std::env::var("HAWKER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_hawker").into()))
}

/// Status of a GET.
pub(crate) fn status(url: &str) -> u16 {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--output", "/dev/null", "--max-time", "5", "--write-out", "%{http_code}", url]);
    text(&run(10, &curl).stdout).parse().unwrap()
}
