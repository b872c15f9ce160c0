//! Servers of others, as their users run them. Who isn't installed is told apart from who fails.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use hawker::clock;

use crate::{
    Process,
    servers::{Egress, STREAM, Server},
};

/// A server that others wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Nginx,
    Xiu,
}

impl Peer {
    /// Who can be compared.
    pub(crate) fn of(egress: Egress) -> &'static [Self] {
        match egress {
            Egress::Rtmp => &[Self::Nginx, Self::Xiu],
            Egress::Flv => &[Self::Xiu],
            Egress::Moq => &[],
        }
    }

    /// Whether a row is of a server that others wrote.
    pub(crate) fn is_one(name: &str) -> bool {
        [Self::Nginx, Self::Xiu].iter().any(|peer| peer.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx-rtmp",
            Self::Xiu => "xiu",
        }
    }

    /// Starts it, from `folder` if it is a program that cargo installs there.
    pub(crate) fn start(self, folder: &Path) -> Result<Server, String> {
        match self {
            Self::Nginx => nginx(),
            Self::Xiu => xiu(&folder.join("xiu")),
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
    })
}

fn xiu(binary: &Path) -> Result<Server, String> {
    if !binary.exists() {
        return Err(format!("{} is missing: cargo install xiu", binary.display()));
    }
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
    })
}

/// Asked of the kernel; the peers can't ask themselves.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("a free port").port()
}

/// Returns when somebody answers on `port`.
fn listening(port: u16) -> Result<(), String> {
    let began = clock::now();
    while began.elapsed() < START_MAX {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    Err(format!("it doesn't listen on port {port}"))
}

const NGINX_RTMP: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
const START_MAX: Duration = Duration::from_secs(10);
