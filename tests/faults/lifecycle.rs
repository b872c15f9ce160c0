//! A node's own life: its certificate and its configuration change while it runs, and it ends when it is told to.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use hawker::{clock, net::tls::Trust, relay::Client, secret::Digest};
use tempfile::TempDir;

use crate::common::{Authority, Cluster, FlvViewer, H264_AAC, Process, Viewer, ffmpeg, hawker, run, text, wait_until};

const KEY: &str = "anchor-key";
const TOKEN: &str = "viewer-token";

/// A node with TLS on every listener, and everything that it needs in one folder.
struct Node {
    dir: TempDir,
    process: Process,
    /// Its listeners, by their names in the log.
    at: HashMap<String, String>,
}

impl Node {
    /// `more` goes before the first section of the configuration.
    fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Authority::new("first").issue(dir.path());
        let path = dir.path().display();
        let config = format!(
            "role = 'origin'\nshards = 2\ndata_dir = '{path}'\n{more}
             [tls]\ncert = '{path}/cert.pem'\nkey = '{path}/key.pem'
             [rtmp]\nlisten = '127.0.0.1:0'\ntls_listen = '127.0.0.1:0'
             [http]\nlisten = '127.0.0.1:0'\ntls_listen = '127.0.0.1:0'
             [admin]\nlisten = '127.0.0.2:0'
             [moq]\nlisten = '127.0.0.1:0'
             [webrtc]\nlisten = '127.0.0.1:0'
             [[auth.publish]]\nprefix = ''\nkey_sha256 = '{}'
             [[auth.token]]\nprefix = ''\ntoken_sha256 = '{}'\nroles = ['play']\n",
            Digest::of(KEY),
            Digest::of(TOKEN),
        );
        fs::write(dir.path().join("hawker.toml"), config).unwrap();
        let process = Process::spawn(hawker().args(["serve", "--config"]).arg(dir.path().join("hawker.toml")));
        let line = process.stderr.wait_line("listening");
        let at = line.split_whitespace().filter_map(|field| field.split_once('='));
        let at = at.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { dir, process, at }
    }

    fn url(&self, scheme: &str, listener: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.at[listener])
    }

    /// Publishes `live/room` until dropped.
    fn publish(&self) -> Process {
        let publisher = Process::spawn(ffmpeg("ffmpeg").args(H264_AAC).arg(self.url(
            "rtmps",
            "rtmps",
            &format!("/live/room?key={KEY}"),
        )));
        publisher.stdout.wait_line("out_time=00:00:01");
        publisher
    }

    fn flv_url(&self) -> String {
        self.url("http", "http", &format!("/live/room.flv?token={TOKEN}"))
    }

    /// Edits the configuration.
    fn rewrite(&self, from: &str, to: &str) {
        let path = self.dir.path().join("hawker.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}: {text}");
        fs::write(&path, text.replace(from, to)).unwrap();
    }

    /// A GET on the admin listener: status and body.
    fn admin(&self, path: &str) -> (String, String) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "5", "--write-out", "\n%{http_code}"])
            .arg(self.url("http", "admin", path));
        let reply = text(&run(10, &curl).stdout);
        let (body, status) = reply.rsplit_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    }

    fn metric(&self, name: &str) -> i64 {
        let (_, body) = self.admin("/metrics");
        let value = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {body}")).parse().unwrap()
    }

    fn viewers_gone(&self) -> usize {
        self.process.stderr.all().iter().filter(|line| line.contains("viewer left")).count()
    }
}

/// Whether curl takes the certificate at `url` for one of the authority in `ca`.
fn curl_trusts(ca: &Path, url: &str) -> bool {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--output", "/dev/null", "--max-time", "5", "--cacert"]).arg(ca).arg(url);
    // An RTMP listener has no answer for curl; what fails then is not the handshake.
    !matches!(run(10, &curl).status.code(), Some(35 | 60))
}

/// Whether the QUIC listener shows the certificate with this fingerprint.
fn quic_shows(node: &Node, fingerprint: [u8; 32]) -> bool {
    let url = node.url("moqt", "moq", "").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(Client::connect(&url, &Trust::Pinned(vec![fingerprint]), 0));
    client.map(|client| runtime.block_on(client.close())).is_ok()
}

#[test]
fn f13_a_renewed_certificate_is_shown_at_once_and_a_bad_one_never() {
    let node = Node::start("");
    let _anchor = node.publish();
    let first = node.dir.path().join("first.ca");
    let tls = node.url("https", "https", &format!("/live/room.flv?token={TOKEN}"));
    let viewers = [
        Viewer::watch_over_tls(&tls, &first),
        Viewer::watch_over_tls(&node.url("rtmps", "rtmps", &format!("/live/room?token={TOKEN}")), &first),
        Viewer::watch(&node.flv_url()),
    ];
    viewers.iter().for_each(|viewer| drop(viewer.wait_frames(10)));
    let page = node.url("https", "https", "/");
    let rtmps = node.url("https", "rtmps", "/");
    assert!(curl_trusts(&first, &page) && curl_trusts(&first, &rtmps));
    // rcgen's default is the year 4096.
    assert!(node.metric("hawker_tls_certificate_expiry_seconds") > clock::unix_ms() / 1000);

    let fingerprint = Authority::new("second").issue(node.dir.path());
    let second = node.dir.path().join("second.ca");
    let took = wait_until("renewed", Duration::from_secs(5), || curl_trusts(&second, &page));
    eprintln!("renewed after {took:?}");
    assert!(curl_trusts(&second, &rtmps) && quic_shows(&node, fingerprint));
    assert!(!curl_trusts(&first, &page));
    assert_eq!(node.metric("hawker_tls_reload_failures_total"), 0, "a key that comes after its chain is no failure");

    let other = tempfile::tempdir().unwrap();
    Authority::new("third").issue(other.path());
    fs::copy(other.path().join("key.pem"), node.dir.path().join("key.pem")).unwrap();
    let line = node.process.stderr.wait_line("certificate not loaded");
    assert!(line.contains("key.pem"), "{line}");
    assert_eq!(node.metric("hawker_tls_reload_failures_total"), 1);
    assert!(curl_trusts(&second, &page) && quic_shows(&node, fingerprint));

    viewers.iter().for_each(|viewer| {
        let frames = viewer.wait("frames of now", |packets| Some(packets.len()));
        viewer.wait("more", |packets| (packets.len() > frames + 25).then_some(()));
    });
    assert_eq!(node.viewers_gone(), 0);
}

#[test]
fn f14_a_node_told_to_stop_lets_nobody_in_and_everybody_out_until_the_deadline() {
    let mut node = Node::start("drain_secs = 4");
    let _anchor = node.publish();
    let viewer = FlvViewer::watch(&node.flv_url());
    viewer.wait_frames(10);
    assert_eq!(node.admin("/readyz").0, "200");

    let told = clock::now();
    node.process.tell("-TERM");
    let ready = || node.admin("/readyz");
    wait_until("draining", Duration::from_secs(1), || ready().0 == "503");
    assert!(ready().1.contains("draining"), "{:?}", ready());
    for listener in ["rtmp", "rtmps", "http", "https"] {
        wait_until("closed", Duration::from_secs(1), || TcpStream::connect(&node.at[listener]).is_err());
    }
    let frames = viewer.look(|seen| seen.frames);
    viewer.wait("pictures while the node drains", |seen| (seen.frames >= frames + 25).then_some(()));
    assert!(viewer.look(|seen| seen.ended.is_none()) && told.elapsed() < Duration::from_secs(4));
    viewer.wait("the end", |seen| seen.ended.clone());
    assert!(told.elapsed() >= Duration::from_secs(4), "ended before the deadline: {:?}", told.elapsed());
    assert_eq!(node.process.exit_code(), Some(0));
    let took = told.elapsed();
    assert!(took < Duration::from_secs(4 + 5), "it took {took:?}");
    node.process.stderr.wait_line("stopped");
    eprintln!("4 s of drain took {took:?}");
}

#[test]
fn f14_a_node_without_sessions_stops_at_once_and_a_second_signal_ends_any() {
    let mut node = Node::start("");
    let told = clock::now();
    assert_eq!(node.process.terminate(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());

    let mut node = Node::start("");
    let _anchor = node.publish();
    node.process.tell("-TERM");
    node.process.stderr.wait_line("draining");
    let told = clock::now();
    node.process.tell("-INT");
    assert_eq!(node.process.exit_code(), Some(1));
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
}

#[test]
fn f20_a_broken_configuration_changes_nothing_and_a_good_one_what_it_can() {
    let node = Node::start("");
    let _anchor = node.publish();
    let viewer = FlvViewer::watch(&node.flv_url());
    viewer.wait_frames(10);

    node.rewrite("shards = 2", "shards = 'two'");
    node.process.tell("-HUP");
    let line = node.process.stderr.wait_line("configuration not reloaded");
    assert!(line.contains("hawker.toml:2: shards: invalid type"), "{line}");
    assert_eq!(node.metric("hawker_config_reload_failures_total"), 1);

    node.rewrite("shards = 'two'", "shards = 3\ndrain_secs = 1");
    node.rewrite("[admin]", "[log]\nlevel = 'debug'\n[admin]");
    node.process.tell("-HUP");
    let line = node.process.stderr.wait_line("configuration reloaded");
    assert!(line.contains("changed=\"drain_secs, log.level\"") && line.contains("need_restart=\"shards\""), "{line}");
    // Said at this level only.
    TcpStream::connect(&node.at["http"]).unwrap().write_all(b"\n\n\0").unwrap();
    node.process.stderr.wait_line("http connection ended");
    viewer.wait_frames(25);
    assert_eq!(node.viewers_gone(), 0);
}

#[test]
fn a_node_takes_over_from_another_and_no_viewer_finds_a_closed_door() {
    let cluster = Cluster::new();
    let _origin = cluster.serve("origin");
    let _anchor = cluster.push("live/room");
    // What systemd holds for both.
    let listeners = [0, 1, 2].map(|place| {
        let listener = TcpListener::bind(("127.0.0.1", cluster.port("edge") + place)).unwrap();
        socket2::SockRef::from(&listener).set_cloexec(false).unwrap();
        listener
    });
    let serve = |options: &str| {
        let [rtmp, http, admin] = listeners.each_ref().map(AsRawFd::as_raw_fd);
        let (hawker, config) = (hawker(), cluster.path().join("edge.toml"));
        let script = format!(
            "exec 3<&{rtmp} 4<&{http} 5<&{admin}; exec '{}' serve --config '{}' {options}",
            hawker.get_program().display(),
            config.display(),
        );
        let process = Process::spawn(Command::new("bash").args(["-c", &script]).env("LISTEN_FDS", "3"));
        process.stderr.wait_line("upstream session began");
        process
    };
    let edge = fs::read_to_string(cluster.path().join("edge.toml")).unwrap();
    fs::write(cluster.path().join("edge.toml"), edge.replace("drain_secs = 1", "drain_secs = 3")).unwrap();
    let mut old = serve("");
    let url = cluster.flv_url("edge", "live/room");
    let stays = FlvViewer::watch(&url);
    stays.wait_frames(10);

    let done = AtomicBool::new(false);
    let joined = thread::scope(|scope| {
        let joining = scope.spawn(|| {
            let mut joined = 0;
            while !done.load(Ordering::Relaxed) {
                join(&url).unwrap_or_else(|error| panic!("after {joined} joins: {error}"));
                joined += 1;
            }
            joined
        });
        let new = serve("--take-over");
        old.tell("-TERM");
        old.stderr.wait_line("draining");
        stays.wait_frames(10);
        assert_eq!(old.exit_code(), Some(0));
        // The QUIC port comes last.
        new.stderr.wait("the QUIC port", |lines| {
            (lines.iter().filter(|line| line.contains("listening")).count() == 2).then_some(())
        });
        let viewer = FlvViewer::watch(&url);
        viewer.wait_frames(10);
        done.store(true, Ordering::Relaxed);
        joining.join().unwrap()
    });
    eprintln!("{joined} joins, none refused");
    assert!(joined > 20, "only {joined} joins: nothing was tested");
}

/// Watches until the first tag.
fn join(url: &str) -> io::Result<()> {
    let (host, path) = url.strip_prefix("http://").and_then(|url| url.split_once('/')).unwrap();
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(3).any(|window| window == b"FLV") {
        match stream.read(&mut buffer)? {
            0 => return Err(io::Error::other(text(&seen))),
            read => seen.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(())
}
