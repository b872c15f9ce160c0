//! What one peer that nobody has authorised may cost: heap, and how long. A server in this process, so that its heap
//! is ours to count; a module a protocol.

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../common/anchor.rs"]
mod anchor;
mod http;
mod moq;
mod rtmp;
#[allow(dead_code, reason = "its own part of what the tests share")]
#[path = "../common/strangers.rs"]
mod strangers;
mod waiting;
mod webrtc;

use std::{
    fs,
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpStream},
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use hawker::{
    clock::{self, Instant},
    config::Config,
    secret::Digest,
    server::{Addresses, Server},
};
use peak_alloc::PeakAlloc;
use strangers::{connect_from, source};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Publishes everywhere, and posts events everywhere.
const KEY: &str = "key";

/// The server, and the heap for oneself.
struct Quiet {
    at: Addresses,
    _alone: MutexGuard<'static, ()>,
}

/// Waits until no other test counts.
fn server() -> Quiet {
    static ALONE: Mutex<()> = Mutex::new(());
    static SERVER: OnceLock<Addresses> = OnceLock::new();
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Quiet { at: *SERVER.get_or_init(start), _alone: alone }
}

fn start() -> Addresses {
    let data = tempfile::tempdir().expect("a directory").keep();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(data.join("cert.pem"), made.cert.pem()).expect("written");
    fs::write(data.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    let listeners = ["rtmp", "moq", "webrtc"].map(|name| format!("[{name}]\nlisten = '127.0.0.1:0'\n"));
    let (path, key) = (data.display(), Digest::of(KEY));
    let config = format!(
        "role = 'origin'\nshards = 1\ndata_dir = '{path}'\n{}[http]\nlisten = '127.0.0.1:0'\ntls_listen = '127.0.0.1:0'
         [tls]\ncert = '{path}/cert.pem'\nkey = '{path}/key.pem'
         [admin]\nlisten = '127.0.0.2:0'
         [[auth.publish]]\nprefix = ''\nkey_sha256 = '{key}'
         [[auth.token]]\nprefix = ''\ntoken_sha256 = '{key}'\nroles = ['events:write', 'play']\n",
        listeners.concat()
    );
    fs::write(data.join("hawker.toml"), config).expect("written");
    let server = Server::bind(Config::load(&data.join("hawker.toml")).expect("good")).expect("free ports");
    let addresses = server.addresses();
    thread::spawn(move || server.run());
    addresses
}

/// What a number of peers cost.
struct Cost {
    what: &'static str,
    before: usize,
    began: Instant,
}

impl Cost {
    /// Counts from here on.
    fn of(what: &'static str) -> Self {
        settle();
        Self { what, before: HEAP.current_usage(), began: clock::now() }
    }

    /// Each of the peers that have come since must be within `bounds`, bytes; less than their lower end means that
    /// this tests nothing.
    fn each(&self, peers: usize, bounds: RangeInclusive<usize>) {
        settle();
        let each = self.bytes() / peers;
        println!("{:<40} {each:>7} bytes a peer, of {}", self.what, bounds.end());
        assert!(bounds.contains(&each), "{}: {each} bytes a peer, not {bounds:?}", self.what);
    }

    /// Until the server has closed all of them, and keeps nothing.
    fn gone(self, peers: Vec<TcpStream>, within: Duration) {
        let (count, deadline) = (peers.len(), self.began + within + SLACK);
        for mut peer in peers {
            let left = deadline.saturating_duration_since(clock::now());
            peer.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("a timeout");
            // Whatever was answered is read away; the end must come.
            if let Err(error) = peer.read_to_end(&mut Vec::new()) {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{}: still open: {error}", self.what);
            }
        }
        self.forgotten(count, within);
    }

    /// Until the server keeps nothing of them.
    fn forgotten(self, peers: usize, within: Duration) {
        while self.bytes() / peers > LEFT_BYTES_MAX {
            let left = self.bytes() / peers;
            assert!(self.began.elapsed() < within + SLACK, "{}: {left} bytes a peer stay behind", self.what);
            thread::park_timeout(Duration::from_millis(100));
        }
        println!("{:<40} {:>7} ms until all were gone", self.what, self.began.elapsed().as_millis());
    }

    fn bytes(&self) -> usize {
        HEAP.current_usage().saturating_sub(self.before)
    }
}

/// For what this machine does besides.
const SLACK: Duration = Duration::from_secs(4);
/// Tables don't shrink at once.
const LEFT_BYTES_MAX: usize = 1024;

/// Connects from an address of its own: strangers are also bounded per address.
fn connect(to: SocketAddr, n: usize) -> TcpStream {
    connect_from(source(n), to)
}

/// Waits until the heap stands still.
fn settle() {
    let mut last = 0;
    for _ in 0..100 {
        thread::park_timeout(Duration::from_millis(50));
        let now = HEAP.current_usage();
        if now == last {
            return;
        }
        last = now;
    }
}
