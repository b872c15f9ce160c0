//! Servers of others, as their users run them. Who isn't installed is told apart from who fails.

use std::{
    fs,
    net::{TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use hawker::clock;

use crate::{
    Process,
    servers::{self, Egress, STREAM, Server, Settings},
};

/// A server that others wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Nginx,
    Xiu,
    MoqRelay,
}

impl Peer {
    /// Who can be compared.
    pub(crate) fn of(egress: Egress) -> &'static [Self] {
        match egress {
            Egress::Rtmp => &[Self::Nginx, Self::Xiu],
            Egress::Flv => &[Self::Xiu],
            Egress::Moq => &[Self::MoqRelay],
            Egress::Whep => &[],
        }
    }

    /// Whether a row is of a server that others wrote.
    pub(crate) fn is_one(name: &str) -> bool {
        [Self::Nginx, Self::Xiu, Self::MoqRelay].iter().any(|peer| peer.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx-rtmp",
            Self::Xiu => "xiu",
            Self::MoqRelay => "moq-relay",
        }
    }

    /// Starts it, from `folder` if it is a program that cargo installs there.
    pub(crate) fn start(self, folder: &Path) -> Result<Server, String> {
        match self {
            Self::Nginx => nginx(),
            Self::Xiu => xiu(&installed(folder, "xiu")?),
            Self::MoqRelay => moq_relay(&installed(folder, "moq-relay")?),
        }
    }
}

/// One worker, which is what a stream is served by anyway.
fn nginx() -> Result<Server, String> {
    if !Path::new(NGINX_RTMP).exists() {
        return Err(format!("{NGINX_RTMP} is missing: apt-get install libnginx-mod-rtmp"));
    }
    let (folder, port) = (tempfile::tempdir().map_err(|e| e.to_string())?, free_port());
    let config = format!(
        "load_module {NGINX_RTMP};
         daemon off; master_process off; pid nginx.pid; error_log stderr error;
         worker_rlimit_nofile 20000;
         events {{ worker_connections 19000; }}
         rtmp {{ access_log off; server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}\n"
    );
    let file = folder.path().join("nginx.conf");
    fs::write(&file, config).map_err(|e| e.to_string())?;
    let process = Process::spawn(Command::new("nginx").arg("-p").arg(folder.path()).arg("-c").arg(&file));
    listening(port)?;
    let url = format!("rtmp://127.0.0.1:{port}/{STREAM}");
    Ok(Server {
        process,
        publish: Some(url.clone()),
        watch: vec![(Egress::Rtmp, url)],
        admin: None,
        certificate: None,
        folder: Some(Arc::new(folder)),
        upstream: None,
    })
}

fn installed(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let binary = folder.join(name);
    if binary.exists() { Ok(binary) } else { Err(format!("{} is missing: cargo install {name}", binary.display())) }
}

fn xiu(binary: &Path) -> Result<Server, String> {
    let [rtmp, http] = [free_port(), free_port()];
    let ports = [rtmp.to_string(), http.to_string()];
    let [rtmp_arg, http_arg] = ports.each_ref().map(String::as_str);
    let process =
        Process::spawn(Command::new(binary).args(["--rtmp", rtmp_arg, "--httpflv", http_arg, "--log", "error"]));
    listening(rtmp)?;
    listening(http)?;
    let url = format!("rtmp://127.0.0.1:{rtmp}/{STREAM}");
    Ok(Server {
        process,
        publish: Some(url.clone()),
        watch: vec![(Egress::Rtmp, url), (Egress::Flv, format!("http://127.0.0.1:{http}/{STREAM}.flv"))],
        admin: None,
        certificate: None,
        folder: None,
        upstream: None,
    })
}

/// It takes no RTMP, so an origin of hawker's takes the stream in and feeds it; only the relay is observed.
fn moq_relay(binary: &Path) -> Result<Server, String> {
    let origin = servers::hawker(&Settings { shards: 1, profile: None });
    let upstream = origin.watch(Egress::Moq).map(|url| url.trim_end_matches(STREAM)).ok_or("no origin")?;
    let folder = origin.folder.as_ref().ok_or("no origin")?.path();
    let port = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).map_err(|e| e.to_string())?.port();
    let mut relay = Command::new(binary);
    relay.arg("--server-bind").arg(format!("127.0.0.1:{port}"));
    relay.arg("--tls-cert").arg(folder.join("cert.pem")).arg("--tls-key").arg(folder.join("key.pem"));
    relay.args(["--auth-public", "", "--cluster-connect", upstream, "--client-tls-disable-verify"]);
    let process = Process::spawn(&relay);
    wait(|| UdpSocket::bind(("127.0.0.1", port)).is_err()).ok_or("it doesn't listen")?;
    Ok(Server {
        process,
        publish: origin.publish.clone(),
        watch: vec![(Egress::Moq, format!("moqt://127.0.0.1:{port}/{STREAM}"))],
        admin: None,
        certificate: origin.certificate.clone(),
        folder: origin.folder.clone(),
        upstream: Some(Box::new(origin)),
    })
}

/// Asked of the kernel; the peers can't ask themselves.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("a free port").port()
}

/// Returns when somebody answers on `port`.
fn listening(port: u16) -> Result<(), String> {
    wait(|| TcpStream::connect(("127.0.0.1", port)).is_ok()).ok_or_else(|| format!("it doesn't listen on port {port}"))
}

/// Gives up after a while.
fn wait(mut is_so: impl FnMut() -> bool) -> Option<()> {
    let began = clock::now();
    while began.elapsed() < START_MAX {
        if is_so() {
            return Some(());
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    None
}

const NGINX_RTMP: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
const START_MAX: Duration = Duration::from_secs(10);
