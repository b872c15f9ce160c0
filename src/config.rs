//! Configuration: one struct, TOML, unknown keys refused. `deploy/hawker.toml` writes every default out.
//!
//! Nothing is open by default: no key may publish, nobody may play, no token opens the API.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use crate::secret::{Digest, Secret};

mod check;
pub mod fuzz;
mod hooks;
mod load;
mod standby;

pub use hooks::{Decide, Hooks, Notify};
pub use load::{LoadError, Problem, Written};
pub use standby::Standby;

/// Everything that `hawker serve` can be told.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What this node does (default `both`).
    pub role: Role,
    /// Where the node keeps what must outlast it. A node that takes events needs it (default: none).
    pub data_dir: Option<PathBuf>,
    /// Single-threaded runtimes, each with its own listeners; 0 means one per core (default 0).
    pub shards: usize,
    /// At SIGTERM sessions have this long to leave by themselves; then they are ended (default 25).
    pub drain_secs: u64,
    /// Bytes of memory that the process may have before it does without new viewers, history and new streams (default:
    /// not looked at).
    pub memory_max: Option<u64>,
    /// The certificate of every listener with TLS: QUIC, RTMPS, HTTPS.
    pub tls: Tls,
    /// RTMP: publishers, players, CDN edges that pull.
    pub rtmp: Rtmp,
    /// HTTP for viewers: FLV and the page.
    pub http: Http,
    /// HTTP for operators: API, metrics, health.
    pub admin: Admin,
    /// QUIC: edges and MoQ viewers.
    pub moq: Moq,
    /// WebRTC: WHIP publishers and WHEP viewers. Their requests come over HTTP, their media here.
    pub webrtc: WebRtc,
    /// Where an edge takes its streams from.
    pub upstream: Upstream,
    /// What is taken from publishers, and from which of several.
    pub ingest: Ingest,
    /// What a stream keeps, and for how long.
    pub hub: Hub,
    /// How FLV and RTMP viewers are written to.
    pub egress: Egress,
    /// Commerce events: how they are signed and kept.
    pub events: Events,
    /// Who may do what.
    pub auth: Auth,
    /// The backend that decides, and is told.
    pub hooks: Hooks,
    /// The other of two nodes that share their events.
    pub standby: Standby,
    /// Logging.
    pub log: Log,
    /// Metrics.
    pub metrics: Metrics,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            role: Role::Both,
            data_dir: None,
            shards: 0,
            drain_secs: 25,
            memory_max: None,
            tls: Tls::default(),
            rtmp: Rtmp::default(),
            http: Http::default(),
            admin: Admin::default(),
            moq: Moq::default(),
            webrtc: WebRtc::default(),
            upstream: Upstream::default(),
            ingest: Ingest::default(),
            hub: Hub::default(),
            egress: Egress::default(),
            events: Events::default(),
            auth: Auth::default(),
            hooks: Hooks::default(),
            standby: Standby::default(),
            log: Log::default(),
            metrics: Metrics::default(),
        }
    }
}

impl Config {
    /// Where the key is that signs events; `None` without a place for it.
    pub fn event_key_file(&self) -> Option<PathBuf> {
        self.events.key_file.clone().or_else(|| Some(self.data_dir.as_ref()?.join("event-key.json")))
    }
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes publishers; feeds edges and viewers.
    Origin,
    /// Takes its streams from `upstream.urls`; feeds viewers and further edges.
    Edge,
    /// Takes publishers, and asks its upstreams (if any) for the streams it hasn't got.
    Both,
}

/// `[tls]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Certificate chain, PEM. Without it QUIC shows a self-signed one, made at each start; browsers take it for 13 days.
    pub cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    pub key: Option<PathBuf>,
}

/// `[rtmp]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rtmp {
    /// TCP address (default `0.0.0.0:1935`).
    pub listen: SocketAddr,
    /// TCP address of RTMPS (default: none).
    pub tls_listen: Option<SocketAddr>,
}

impl Default for Rtmp {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 1935)), tls_listen: None }
    }
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// TCP address (default `0.0.0.0:8080`).
    pub listen: SocketAddr,
    /// TCP address of HTTPS (default: none).
    pub tls_listen: Option<SocketAddr>,
    /// Names that it answers to, beside addresses and `localhost`; empty for every name (default).
    pub hosts: Vec<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 8080)), tls_listen: None, hosts: Vec::new() }
    }
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// TCP address (default `127.0.0.1:9935`). The same as `http.listen`: one listener serves both.
    pub listen: SocketAddr,
    /// HTTPS only (default false).
    pub tls: bool,
    /// Names that it answers to, beside addresses and `localhost` (default: none).
    pub hosts: Vec<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9935)), tls: false, hosts: Vec::new() }
    }
}

/// `[moq]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Moq {
    /// UDP address (default `0.0.0.0:4443`).
    pub listen: SocketAddr,
    /// Edges show certificates that this PEM file signed; a token alone is no longer enough (default: none).
    pub edge_ca: Option<PathBuf>,
}

impl Default for Moq {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 4443)), edge_ca: None }
    }
}

/// `[webrtc]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebRtc {
    /// UDP and TCP address of the first shard; each further shard takes the next port (default `0.0.0.0:8189`).
    pub listen: SocketAddr,
    /// The addresses that peers are told, where they differ from the one that their request came to: behind NAT
    /// (default: none).
    pub public_addresses: Vec<IpAddr>,
    /// What viewers get of streams with B-frames (default `refuse`).
    pub b_frames: BFrames,
    /// A publisher whose newest keyframe is older is asked for one (default 2000).
    pub keyframe_interval_ms: u64,
    /// Origins whose pages may publish and watch from here; `*` is all (default: none but this server's own).
    pub allow_origins: Vec<String>,
}

impl Default for WebRtc {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8189)),
            public_addresses: Vec::new(),
            b_frames: BFrames::Refuse,
            keyframe_interval_ms: 2000,
            allow_origins: Vec::new(),
        }
    }
}

impl WebRtc {
    /// Where shard `index` listens.
    pub fn listen_of(&self, index: usize) -> SocketAddr {
        let port = match self.listen.port() {
            0 => 0,
            first => first.saturating_add(u16::try_from(index).unwrap_or(u16::MAX)),
        };
        SocketAddr::new(self.listen.ip(), port)
    }

    /// `keyframe_interval_ms`.
    pub fn keyframe_interval(&self) -> Duration {
        Duration::from_millis(self.keyframe_interval_ms)
    }
}

/// Pictures that are shown in another order than they are sent in, which browsers don't do over WebRTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BFrames {
    /// The viewer is refused, and told why.
    #[default]
    Refuse,
    /// Those that no other picture needs are left out, at a lower frame rate.
    Drop,
}

/// `[upstream]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// Tried in this order: `moqt://host:4443`.
    pub urls: Vec<Url>,
    /// A token with the role `relay` on the upstream.
    pub token: Option<Secret>,
    /// The same, from a file.
    pub token_file: Option<PathBuf>,
    /// Accept exactly this certificate (SHA-256 of its DER form), whoever signed it.
    pub cert_sha256: Option<Digest>,
    /// Trust certificates that this PEM file signed, instead of the system's.
    pub ca: Option<PathBuf>,
    /// The certificate chain, PEM, by which the upstream knows this edge (default: none).
    pub cert: Option<PathBuf>,
    /// The private key that belongs to `cert`, PEM.
    pub key: Option<PathBuf>,
    /// The keys whose events are believed: a JWK set.
    pub event_keys: Option<PathBuf>,
}

/// `[ingest]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ingest {
    /// What becomes of a publisher who comes to a stream that has one of the same priority (default `takeover`).
    pub second_publisher: SecondPublisher,
    /// So long the publisher on air may be silent before one who stands by takes over (default 1500).
    pub standby_after_ms: u64,
    /// A publisher who says that he is done ends the stream for its viewers (default true).
    pub end_on_unpublish: bool,
    /// What viewers see while the publisher is away (default `none`).
    pub slate: Slate,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            second_publisher: SecondPublisher::Takeover,
            standby_after_ms: 1500,
            end_on_unpublish: true,
            slate: Slate::None,
        }
    }
}

impl Ingest {
    /// `standby_after_ms`.
    pub fn standby_after(&self) -> Duration {
        Duration::from_millis(self.standby_after_ms)
    }
}

/// What viewers see while the publisher is away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slate {
    /// Nothing: players show what they showed last, or a spinner.
    #[default]
    None,
    /// The last keyframe, again each second, with silence.
    LastKeyframe,
}

/// What becomes of a publisher who comes to a stream that has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecondPublisher {
    /// He goes on air with his first keyframe, and the older one is closed.
    #[default]
    Takeover,
    /// He is refused while the older one sends anything.
    Reject,
    /// He is connected, and goes on air when the older one is gone or silent.
    Standby,
}

/// `[hub]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hub {
    /// Media that one stream keeps for late and slow readers, in bytes (default 32 MiB).
    pub ring_bytes_max: usize,
    /// The same in groups of pictures (default 3).
    pub gops_max: usize,
    /// A reader further behind than this skips to the newest keyframe (default 3000).
    pub lag_ms_max: u64,
    /// Viewers stay connected this long after their publisher is lost (default 30).
    pub reconnect_window_secs: u64,
    /// An upstream subscription or a muxer outlives its last viewer by this (default 5).
    pub linger_secs: u64,
    /// A viewer who comes before his publisher waits this long (default 10).
    pub wait_publisher_secs: u64,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            ring_bytes_max: 32 << 20,
            gops_max: 3,
            lag_ms_max: 3000,
            reconnect_window_secs: 30,
            linger_secs: 5,
            wait_publisher_secs: 10,
        }
    }
}

impl Hub {
    /// `lag_ms_max`.
    pub fn lag_max(&self) -> Duration {
        Duration::from_millis(self.lag_ms_max)
    }

    /// `reconnect_window_secs`.
    pub fn reconnect_window(&self) -> Duration {
        Duration::from_secs(self.reconnect_window_secs)
    }

    /// `linger_secs`.
    pub fn linger(&self) -> Duration {
        Duration::from_secs(self.linger_secs)
    }

    /// `wait_publisher_secs`.
    pub fn wait_publisher(&self) -> Duration {
        Duration::from_secs(self.wait_publisher_secs)
    }
}

/// `[egress]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// What matters more (default `realtime`).
    pub profile: Profile,
}

/// How writes to viewers are timed: one switch instead of twenty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Pictures leave at once; sound with the next picture, if that comes within 40 ms.
    #[default]
    Realtime,
    /// What comes within 100 ms leaves together, at a fraction of the CPU.
    Balanced,
}

/// `[events]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// The private JWK that signs events; made when it isn't there (default: `event-key.json` in `data_dir`).
    pub key_file: Option<PathBuf>,
    /// What the journal may hold, in bytes (default 1 GiB); its file takes up to about twice that.
    pub journal_bytes_max: u64,
    /// How long the journal keeps an event (default 168).
    pub journal_retention_hours: u64,
    /// Events that one stream takes in the long run (default 10).
    pub rate_per_s: u32,
    /// Events that one stream takes at once (default 30).
    pub burst: u32,
}

impl Default for Events {
    fn default() -> Self {
        Self { key_file: None, journal_bytes_max: 1 << 30, journal_retention_hours: 168, rate_per_s: 10, burst: 30 }
    }
}

impl Events {
    /// `journal_retention_hours`.
    pub fn journal_retention(&self) -> Duration {
        Duration::from_secs(self.journal_retention_hours.saturating_mul(3600))
    }
}

/// `[auth]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Who may watch (default `deny`: only tokens with the role `play`).
    pub play: PlayPolicy,
    /// Stream keys.
    pub publish: Vec<PublishKey>,
    /// API, relay and play tokens.
    pub token: Vec<Token>,
    /// Whose JWTs are believed.
    pub jwt: Vec<JwtKey>,
    /// Whose signed URLs are believed.
    pub url: Vec<UrlKey>,
}

/// Who may watch without a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlayPolicy {
    /// Nobody.
    #[default]
    Deny,
    /// Everybody.
    Anyone,
}

/// `[[auth.publish]]`: a stream key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishKey {
    /// The streams it opens: a name, or a folder of names. Empty: all.
    pub prefix: String,
    /// SHA-256 of the key, hex.
    pub key_sha256: Digest,
    /// Its publisher may send events inside the stream: data messages and SEI (default false).
    #[serde(default)]
    pub events: bool,
    /// Of several publishers of a stream the one with the highest is on air (default 0).
    #[serde(default)]
    pub priority: u8,
    /// Streams that may be published with the key at once (default: as many as there are).
    pub streams_max: Option<u32>,
    /// What each of its publishers may send in the long run, in kbit/s (default: whatever comes).
    pub bitrate_kbps_max: Option<u32>,
}

/// `[[auth.token]]`: a bearer token.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The streams it opens: a name, or a folder of names. Empty: all.
    pub prefix: String,
    /// SHA-256 of the token, hex.
    pub token_sha256: Digest,
    /// What it opens them for.
    pub roles: Vec<TokenRole>,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub enum TokenRole {
    /// Send a stream.
    #[serde(rename = "publish")]
    Publish,
    /// Watch.
    #[serde(rename = "play")]
    Play,
    /// Be an edge of this node.
    #[serde(rename = "relay")]
    Relay,
    /// Put events into a stream.
    #[serde(rename = "events:write")]
    EventsWrite,
    /// Read the API.
    #[serde(rename = "api:read")]
    ApiRead,
    /// Make and revoke keys and tokens.
    #[serde(rename = "api:admin")]
    ApiAdmin,
}

/// `[[auth.jwt]]`: a key that signs tokens of publishers and viewers (RFC 7519).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtKey {
    /// The `kid` in the header of its tokens.
    pub kid: String,
    /// The one algorithm that it signs with, whatever a token says.
    pub algorithm: JwtAlgorithm,
    /// The public key, PEM; for HS256 the secret itself.
    pub key_file: PathBuf,
    /// What its tokens name as `aud`.
    pub audience: String,
    /// The streams it may open: a name, or a folder of names (default: all).
    #[serde(default)]
    pub prefix: String,
    /// What its tokens may be for (default: only `play`).
    #[serde(default = "only_play")]
    pub actions: Vec<SignedAction>,
}

/// How a JWT is signed (RFC 7518 §3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum JwtAlgorithm {
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA over P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSA, PKCS #1 v1.5.
    #[serde(rename = "RS256")]
    Rs256,
    /// HMAC with SHA-256, by a secret that both sides know.
    #[serde(rename = "HS256")]
    Hs256,
}

/// `[[auth.url]]`: a secret that signs URLs, for CDNs that pull and encoders that push.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrlKey {
    /// The `kid` in its URLs.
    pub kid: String,
    /// The secret, at least 16 bytes.
    pub secret_file: PathBuf,
    /// The streams it may open: a name, or a folder of names (default: all).
    #[serde(default)]
    pub prefix: String,
    /// What its URLs may be for (default: only `play`).
    #[serde(default = "only_play")]
    pub actions: Vec<SignedAction>,
}

/// What a JWT or a signed URL can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignedAction {
    /// Sending a stream.
    Publish,
    /// Watching one.
    Play,
}

fn only_play() -> Vec<SignedAction> {
    vec![SignedAction::Play]
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or tracing's `target=level,…` (default `info`).
    pub level: String,
    /// How a line looks (default `text`).
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Per-stream series; turn it off where streams are many (default true).
    pub stream_label: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { stream_label: true }
    }
}

#[cfg(test)]
mod tests;
