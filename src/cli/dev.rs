//! `hawker dev`: an origin and an edge on loopback, joined by real QUIC, for trying things out.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Outcome, sample};
use crate::{
    config::{Config, PlayPolicy, PublishKey, Role, Token, TokenRole},
    observe::log,
    secret::{Digest, Secret, write_private},
    server::Server,
};

/// Arguments of `hawker dev`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON object with all URLs and tokens as the first line.
    #[arg(long)]
    pub json: bool,
    /// Leave the sample anchor out.
    #[arg(long)]
    pub no_sample: bool,
    /// The first of the ports to use.
    #[arg(long, value_name = "N")]
    pub port_base: Option<u16>,
    /// Keep keys and data here [default: a fresh temporary directory].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Where a running `hawker dev` is reached: what `--json` prints, and what the other tools look up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The node that publishers push to.
    pub origin: Node,
    /// The node that viewers watch at.
    pub edge: Node,
}

/// One node of `hawker dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `rtmp://host:port`
    pub rtmp: String,
    /// `http://host:port`: FLV, page and API.
    pub http: String,
    /// `https://host:port`: MoQ.
    pub moq: String,
    /// `host:port`, UDP and TCP: media of WebRTC.
    pub webrtc: String,
    /// Where to push, key included.
    pub publish_url: String,
    /// Opens the API.
    pub api_token: String,
}

impl Info {
    /// The file by which tools started without addresses find the running `hawker dev`.
    pub fn default_path() -> PathBuf {
        std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from).join("hawker-dev.json")
    }

    /// Writes it, readable for this user only: it holds keys.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        write_private(path, serde_json::to_string(self)?.as_bytes())
    }

    /// The node of the running `hawker dev` that `url` leads to.
    pub fn node_at(url: &Url) -> Option<Node> {
        let info = Self::load(&Self::default_path()).ok()?;
        [info.origin, info.edge].into_iter().find(|node| {
            [&node.rtmp, &node.http, &node.moq].into_iter().any(|address| {
                Url::parse(address).is_ok_and(|address| {
                    address.host_str() == url.host_str()
                        && address.port_or_known_default() == url.port_or_known_default()
                })
            })
        })
    }

    /// Reads what a running `hawker dev` has written.
    pub fn load(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}

/// Runs until the process is told to end.
pub fn run(args: Args) -> Outcome {
    log::init("info", log::Format::Text);
    let data = Data::open(args.data.as_deref())?;
    let keys = Keys::load_or_make(&data.path)?;
    let ports = Ports::new(args.port_base)?;
    let origin = Server::bind(origin_config(&keys, &ports, &data.path))?;
    let event_keys = data.path.join("event-keys.json");
    std::fs::write(&event_keys, origin.event_keys().to_jwks())?;
    let edge = Server::bind(edge_config(&keys, &ports, &origin, event_keys))?;
    let info = Info::new(&keys, &origin, &edge);
    if args.json {
        println!("{}", serde_json::to_string(&info)?);
    } else {
        print!("{}", Welcome { info: &info, sample: !args.no_sample });
    }
    if let Err(error) = info.save(&Info::default_path()) {
        tracing::warn!(%error, "other hawker tools will need --api and --token");
    }
    let stop = CancellationToken::new();
    super::handle_signals(stop.clone(), None)?;
    let nodes = [origin, edge].map(|server| {
        let stop = server.stop();
        (thread::spawn(move || server.run()), stop)
    });
    super::block_on(async {
        let sample = async {
            if !args.no_sample {
                sample::run(&info.origin.rtmp, &keys.publish, &info.origin.http, &keys.api).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sample => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    })?;
    // Both at once: an origin waits for its edges to leave.
    nodes.iter().for_each(|(_, stop)| stop.cancel());
    for (node, _) in nodes {
        // A node that panicked has said so itself.
        let _ = node.join();
    }
    Ok(())
}

/// Where keys and state are kept; a temporary directory goes with the process.
struct Data {
    path: PathBuf,
    temporary: bool,
}

impl Data {
    fn open(asked: Option<&Path>) -> io::Result<Self> {
        let data = match asked {
            Some(path) => Self { path: path.to_owned(), temporary: false },
            None => {
                let unique = format!("hawker-dev-{:08x}", rand::random::<u32>());
                Self { path: std::env::temp_dir().join(unique), temporary: true }
            }
        };
        std::fs::create_dir_all(&data.path)?;
        Ok(data)
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if self.temporary {
            // What is left behind is swept with the system's temporary files.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The secrets of a development server; with `--data` they stay, so that OBS needs no new key.
#[derive(Serialize, Deserialize)]
struct Keys {
    publish: String,
    api: String,
    relay: String,
}

impl Keys {
    fn load_or_make(data: &Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let path = data.join("keys.json");
        match std::fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let random = || format!("{:032x}", rand::random::<u128>());
                let keys = Self { publish: random(), api: random(), relay: random() };
                write_private(&path, serde_json::to_string(&keys)?.as_bytes())?;
                Ok(keys)
            }
            Err(error) => Err(format!("{}: {error}", path.display()).into()),
        }
    }
}

/// The ports of both nodes.
struct Ports {
    origin: [u16; 4],
    edge: [u16; 4],
}

impl Ports {
    fn new(base: Option<u16>) -> Result<Self, String> {
        let Some(base) = base else {
            return Ok(Self { origin: [1935, 8080, 4443, 8189], edge: [1936, 8081, 4444, 8190] });
        };
        let port =
            |n: u16| base.checked_add(n).ok_or(format!("--port-base {base}: eight ports from there on are needed"));
        let all = |[a, b, c, d]: [u16; 4]| Ok::<_, String>([port(a)?, port(b)?, port(c)?, port(d)?]);
        let [origin, edge] = [0, 4].map(|first| [first, first + 1, first + 2, first + 3]);
        Ok(Self { origin: all(origin)?, edge: all(edge)? })
    }
}

/// Loopback only: the one place where everybody may watch without being asked for it in a configuration.
fn node_config(role: Role, ports: [u16; 4]) -> Config {
    let [rtmp, http, moq, webrtc] = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let mut config = Config { role, shards: 1, ..Config::default() };
    config.rtmp.listen = rtmp;
    config.http.listen = http;
    config.admin.listen = http;
    config.moq.listen = moq;
    config.webrtc.listen = webrtc;
    config.auth.play = PlayPolicy::Anyone;
    config.drain_secs = 0;
    config
}

fn origin_config(keys: &Keys, ports: &Ports, data: &Path) -> Config {
    let mut config = node_config(Role::Origin, ports.origin);
    config.data_dir = Some(data.join("origin"));
    config.auth.publish = vec![PublishKey {
        prefix: "live".into(),
        key_sha256: Digest::of(&keys.publish),
        events: true,
        priority: 0,
        streams_max: None,
        bitrate_kbps_max: None,
    }];
    config.auth.token = vec![
        api_token(keys),
        Token { prefix: String::new(), token_sha256: Digest::of(&keys.relay), roles: vec![TokenRole::Relay] },
    ];
    config
}

fn edge_config(keys: &Keys, ports: &Ports, origin: &Server, event_keys: PathBuf) -> Config {
    let mut config = node_config(Role::Edge, ports.edge);
    config.auth.token = vec![api_token(keys)];
    config.upstream.urls = Url::parse(&format!("moqt://{}", origin.addresses().moq)).into_iter().collect();
    config.upstream.cert_sha256 = Some(origin.fingerprint().into());
    config.upstream.token = Some(Secret::new(&keys.relay));
    config.upstream.event_keys = Some(event_keys);
    config
}

fn api_token(keys: &Keys) -> Token {
    let roles = vec![TokenRole::EventsWrite, TokenRole::ApiRead, TokenRole::ApiAdmin, TokenRole::Play];
    Token { prefix: String::new(), token_sha256: Digest::of(&keys.api), roles }
}

impl Info {
    fn new(keys: &Keys, origin: &Server, edge: &Server) -> Self {
        let publish_url = format!("rtmp://{}/live/room?key={}", origin.addresses().rtmp, keys.publish);
        let node = |server: &Server| {
            let at = server.addresses();
            Node {
                rtmp: format!("rtmp://{}", at.rtmp),
                http: format!("http://{}", at.http),
                moq: format!("https://{}", at.moq),
                webrtc: at.webrtc.to_string(),
                publish_url: publish_url.clone(),
                api_token: keys.api.clone(),
            }
        };
        Self { origin: node(origin), edge: node(edge) }
    }
}

/// What a person reads first.
struct Welcome<'a> {
    info: &'a Info,
    sample: bool,
}

impl fmt::Display for Welcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Info { origin, edge } = self.info;
        let (server, key) = origin.publish_url.rsplit_once('/').unwrap_or((&origin.publish_url, ""));
        let watched = if self.sample { "live/sample" } else { "live/room" };
        // As it was called, so that the lines below can be pasted.
        let hawker = std::env::args().next().unwrap_or_else(|| "hawker".to_owned());
        writeln!(f, "hawker dev: an origin and an edge, joined by QUIC. Open to this machine only.\n")?;
        writeln!(f, "Push from OBS (Settings > Stream > Custom):")?;
        writeln!(f, "  Server      {server}\n  Stream Key  {key}")?;
        writeln!(f, "or  ffmpeg -re -i FILE -c copy -f flv '{}'", origin.publish_url)?;
        let bearer = key.rsplit_once("?key=").map_or("", |(_, key)| key);
        writeln!(f, "or over WebRTC (OBS: Service > WHIP):")?;
        writeln!(f, "  Server      {}/whip/live/room\n  Bearer      {bearer}\n", origin.http)?;
        if self.sample {
            writeln!(f, "A sample anchor is on air as live/sample, with a product card every 10 s.\n")?;
        }
        writeln!(f, "Watch at the edge:")?;
        writeln!(f, "  browser     {}/?stream={watched}", edge.http)?;
        writeln!(f, "  HTTP-FLV    ffplay -fflags nobuffer {}/{watched}.flv", edge.http)?;
        writeln!(f, "  RTMP        vlc {}/{watched}", edge.rtmp)?;
        writeln!(f, "  WHEP        {}/whep/{watched}", edge.http)?;
        writeln!(f, "  MoQ         {hawker} watch {}/{watched} --secs 10\n", edge.moq)?;
        writeln!(f, "Send a card:")?;
        writeln!(f, "  {hawker} event {watched} card.show sku=SKU-1 name='Wool coat' price_minor=89900 currency=CNY")?;
        writeln!(
            f,
            "  curl {}/v1/streams/{watched}/events -H 'Authorization: Bearer {}' \\",
            origin.http, origin.api_token
        )?;
        let card = r#"{"type":"card.show","op":"set","key":"card:main","data":{"sku":"SKU-1","name":"Wool coat"}}"#;
        writeln!(f, "    -H 'Content-Type: application/json' -d '{card}'\n")?;
        writeln!(f, "Make a stream key, and take it back:")?;
        writeln!(f, "  {hawker} token create --role publish --prefix live/room")?;
        writeln!(f, "  {hawker} token list; {hawker} token revoke ID\n")?;
        writeln!(f, "Ctrl-C stops both.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_found_again() {
        let node = Node {
            rtmp: "rtmp://127.0.0.1:1935".into(),
            http: "http://127.0.0.1:8080".into(),
            moq: "https://127.0.0.1:4443".into(),
            webrtc: "127.0.0.1:8189".into(),
            publish_url: "rtmp://127.0.0.1:1935/live/room?key=k".into(),
            api_token: "t".into(),
        };
        let info = Info { origin: node.clone(), edge: node };
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("dev.json");
        info.save(&path).expect("saved");
        assert_eq!(Info::load(&path).expect("loaded"), info);
    }
}
