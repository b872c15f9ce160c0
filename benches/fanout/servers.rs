//! The servers that are measured: each a process of its own, with nobody else on it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use hawker::{
    media::{Keys, Signer},
    secret::Digest,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{Process, floor::Floor, run_ok};

/// How viewers watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Egress {
    Flv,
    Rtmp,
    Moq,
    Whep,
}

/// A running server; it ends with this value.
pub(crate) struct Server {
    pub(crate) process: Process,
    /// Where publishers push; without it the server makes its own stream.
    pub(crate) publish: Option<String>,
    /// Where viewers watch.
    pub(crate) watch: Vec<(Egress, String)>,
    /// hawker's listener with the API and `/metrics`.
    pub(crate) admin: Option<String>,
    /// SHA-256 of the certificate that MoQ viewers meet.
    pub(crate) certificate: Option<String>,
    pub(crate) folder: Option<Arc<TempDir>>,
    /// What feeds it.
    #[allow(dead_code, reason = "it feeds the server, and ends with it")]
    pub(crate) upstream: Option<Box<Server>>,
}

impl Server {
    /// Where viewers of one kind watch.
    pub(crate) fn watch(&self, egress: Egress) -> Option<&str> {
        self.watch.iter().find(|(other, _)| *other == egress).map(|(_, url)| url.as_str())
    }

    /// What `/metrics` says now.
    pub(crate) fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.admin.as_deref().expect("hawker's"));
        run_ok(10, Command::new("curl").args(["--silent", &url]))
    }
}

/// How a node of hawker runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// 0: one a core.
    pub(crate) shards: usize,
    /// `[egress] profile`.
    pub(crate) profile: Option<String>,
}

/// A process of this very binary that makes a stream and writes it, no more.
pub(crate) fn floor(floor: &Floor) -> Server {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    // For libtest; the bench looks at the variable alone.
    command.args(["floor_process", "--exact", "--ignored", "--nocapture"]);
    command.env(FLOOR, serde_json::to_string(floor).expect("plain data"));
    let process = Process::spawn(&command);
    let line = process.stdout.wait_line("floor at ");
    let mut words = line.split_whitespace().skip_while(|word| *word != "at").skip(1).map(str::to_owned);
    let url = words.next().expect("it says where");
    let watch = match url.split(':').next() {
        Some("http") => vec![(Egress::Flv, url.clone()), (Egress::Rtmp, url)],
        Some("whep") => vec![(Egress::Whep, url)],
        _ => vec![(Egress::Moq, url)],
    };
    Server { process, publish: None, watch, admin: None, certificate: words.next(), folder: None, upstream: None }
}

/// The variable that makes this binary a floor.
pub(crate) const FLOOR: &str = "HAWKER_FLOOR";

/// hawker, as the origin that publishers push to.
pub(crate) fn hawker(settings: &Settings) -> Server {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let path = folder.path().display();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let certificate = rcgen::CertificateParams::new(["localhost".into()])
        .and_then(|params| params.self_signed(&key))
        .expect("signed");
    let signer = Signer::from_seed(&[1; 32]);
    for (file, text) in [
        ("cert.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
        ("event-key.json", signer.to_private_jwk()),
        ("event-keys.json", Keys::from(signer.public()).to_jwks()),
    ] {
        fs::write(folder.path().join(file), text).expect("written");
    }
    let config = format!(
        "role = 'origin'\ndata_dir = '{path}'\n{}
         [events]\nrate_per_s = 1000\nburst = 10000
         [[auth.publish]]\nprefix = ''\nkey_sha256 = '{}'
         [[auth.token]]\nprefix = ''\ntoken_sha256 = '{}'\nroles = ['relay']
         [[auth.token]]\nprefix = ''\ntoken_sha256 = '{}'\nroles = ['events:write', 'api:read']\n",
        listeners(settings, folder.path()),
        Digest::of(KEY),
        Digest::of(EDGE_TOKEN),
        Digest::of(API_TOKEN),
    );
    serve(&folder, "origin", &config, &Digest::of(certificate.der()).to_string())
}

/// hawker, as an edge of `origin`, with the same certificate.
pub(crate) fn edge(origin: &Server, settings: &Settings) -> Server {
    let (Some(folder), Some(upstream), Some(certificate)) =
        (&origin.folder, origin.watch(Egress::Moq), &origin.certificate)
    else {
        unreachable!("an origin has them");
    };
    let config = format!(
        "role = 'edge'\n{}
         [upstream]\nurls = ['{}']\ntoken = '{EDGE_TOKEN}'\ncert_sha256 = '{certificate}'\nevent_keys = '{}/event-keys.json'\n",
        listeners(settings, folder.path()),
        upstream.trim_end_matches(STREAM).trim_end_matches('/'),
        folder.path().display(),
    );
    let server = serve(folder, "edge", &config, certificate);
    server.process.stderr.wait_line("upstream session began");
    Server { publish: origin.publish.clone(), ..server }
}

/// Open to viewers: what a token costs is paid once, at the join.
fn listeners(settings: &Settings, folder: &Path) -> String {
    let profile = settings.profile.as_ref().map(|profile| format!("[egress]\nprofile = '{profile}'\n"));
    format!(
        "shards = {}\n[rtmp]\nlisten = '127.0.0.1:0'\n[http]\nlisten = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.2:0'
         [webrtc]\nlisten = '127.0.0.1:0'\n[moq]\nlisten = '127.0.0.1:0'
         [tls]\ncert = '{path}/cert.pem'\nkey = '{path}/key.pem'\n{}[auth]\nplay = 'anyone'\n",
        settings.shards,
        profile.unwrap_or_default(),
        path = folder.display(),
    )
}

fn serve(folder: &Arc<TempDir>, name: &str, config: &str, certificate: &str) -> Server {
    let file = folder.path().join(format!("{name}.toml"));
    fs::write(&file, config).expect("written");
    let process = Process::spawn(Command::new(hawker_binary()).args(["serve", "--config"]).arg(file));
    let line = process.stderr.wait_line("listening");
    let at = |field: &str| {
        let mut words = line.split_whitespace();
        words.find_map(|word| word.strip_prefix(field)?.strip_prefix('=')).expect("each address is logged").to_owned()
    };
    Server {
        publish: Some(format!("rtmp://{}/{STREAM}?key={KEY}", at("rtmp"))),
        watch: vec![
            (Egress::Flv, format!("http://{}/{STREAM}.flv", at("http"))),
            (Egress::Rtmp, format!("rtmp://{}/{STREAM}", at("rtmp"))),
            (Egress::Moq, format!("moqt://{}/{STREAM}", at("moq"))),
            (Egress::Whep, format!("whep://{}/{STREAM}", at("http"))),
        ],
        admin: Some(format!("http://{}", at("admin"))),
        certificate: Some(certificate.to_owned()),
        process,
        folder: Some(folder.clone()),
        upstream: None,
    }
}

/// The binary under test.
pub(crate) fn hawker_binary() -> PathBuf {
    std::env::var("HAWKER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_hawker").into()).into()
}

/// The stream at every server; the load generator counts its publishers.
pub(crate) const STREAM: &str = "live/load-{n}";
const KEY: &str = "bench-key";
const EDGE_TOKEN: &str = "bench-edge";
/// Opens the API of hawker's nodes.
pub(crate) const API_TOKEN: &str = "bench-api";
