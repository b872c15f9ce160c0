//! A node as an operator runs it, HTTP by hand, and players made of our own protocol modules: they can do what a
//! browser wouldn't.

use std::{
    collections::HashMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use hawker::{
    clock,
    media::{Codec, Keys, Signer, TrackKind},
    proto::{
        ice::{
            Client, Credentials, Path, Transport,
            framing::{Frames, frame},
        },
        rtp::{packet::Packet, payload::Depacketiser},
        sdp::{Local, Ssrcs, Terms, client},
        webrtc::{Channels, Ice, Identity, Media, Peer, PeerEvent},
    },
    secret::Digest,
};
use tempfile::TempDir;

use super::{cluster::hawker, dev::Ports, process::Process};

/// Publishes everywhere. Nothing that a server says may have it in it.
pub(crate) const PUBLISH_KEY: &str = "the-anchors-own-key";

/// A node whose viewers need no token.
pub(crate) struct WebRtcNode {
    pub(crate) server: Process,
    pub(crate) http: SocketAddr,
    rtmp: SocketAddr,
    _dir: TempDir,
    _ports: Ports,
}

impl WebRtcNode {
    /// A node on `ip`; `more` are further lines of its section `webrtc`.
    pub(crate) fn start(ip: &str, role: &str, more: &str) -> Self {
        let (dir, ports) = (tempfile::tempdir().unwrap(), Ports::reserve());
        let at = |offset: u16| format!("{ip}:{}", ports.base() + offset);
        let listeners = ["rtmp", "http", "admin", "moq"].into_iter().zip(0..);
        let listeners: String = listeners.map(|(name, n)| format!("[{name}]\nlisten = '{}'\n", at(n))).collect();
        let upstream = match role {
            "edge" => {
                let keys = dir.path().join("event-keys.json");
                fs::write(&keys, Keys::from(Signer::from_seed(&[1; 32]).public()).to_jwks()).unwrap();
                let (url, pin) = (format!("moqt://{}", at(9)), Digest::of(""));
                let keys = keys.display();
                format!("[upstream]\nurls = ['{url}']\ntoken = 'x'\ncert_sha256 = '{pin}'\nevent_keys = '{keys}'\n")
            }
            _ => String::new(),
        };
        let config = format!(
            "role = '{role}'\nshards = 1\ndata_dir = '{}'\n[log]\nlevel = 'trace'\n{listeners}{upstream}
             [webrtc]\nlisten = '{ip}:0'\n{more}\n
             [auth]\nplay = 'anyone'\n[[auth.publish]]\nprefix = ''\nkey_sha256 = '{}'\n",
            dir.path().display(),
            Digest::of(PUBLISH_KEY),
        );
        let path = dir.path().join("hawker.toml");
        fs::write(&path, config).unwrap();
        let server = Process::spawn(hawker().args(["serve", "--config"]).arg(path));
        server.stderr.wait_line("listening");
        let [http, rtmp] = [1, 0].map(|offset| at(offset).parse().unwrap());
        Self { server, http, rtmp, _dir: dir, _ports: ports }
    }

    /// Publishes the built-in clip until dropped; returns when there is something to watch.
    pub(crate) fn push(&self, stream: &str) -> Process {
        let url = format!("rtmp://{}/{stream}?key={PUBLISH_KEY}", self.rtmp);
        let process = Process::spawn(hawker().args(["push", "--sample", &url]));
        self.server.stderr.wait_line("publisher connected");
        process
    }

    /// A request as it is written here; gives what the server answers until it closes.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask_from(None, method, path, headers, body)
    }

    /// The same from another address of this host.
    pub(crate) fn ask_from(
        &self,
        from: Option<&str>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut stream = connect(from, self.http);
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            self.http,
            body.len()
        );
        // The server may answer before it has read all of this.
        let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat());
        Answer::read(&mut stream)
    }

    /// A connection to the viewers' listener from another address of this host.
    pub(crate) fn connect_from(&self, from: &str) -> TcpStream {
        connect(Some(from), self.http)
    }

    /// An offer to publish, with the right key.
    pub(crate) fn publish_from(&self, from: Option<&str>, offer: &str) -> Answer {
        let key = format!("Bearer {PUBLISH_KEY}");
        self.ask_from(from, "POST", "/whip/live/room", &[("Content-Type", SDP), ("Authorization", &key)], offer)
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        let mut admin = self.http;
        admin.set_port(self.http.port() + 1);
        let mut stream = connect(None, admin);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let all = Answer::read(&mut stream).body;
        let found = all.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or(0)
    }
}

pub(crate) const SDP: &str = "application/sdp";

fn connect(from: Option<&str>, to: SocketAddr) -> TcpStream {
    let stream = match from {
        None => TcpStream::connect(to).unwrap(),
        Some(from) => super::strangers::connect_from(from.parse::<std::net::IpAddr>().unwrap(), to),
    };
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    stream
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By their names in lower case.
    headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        if let Err(error) = stream.read_to_end(&mut bytes) {
            // The server closes while we have not been read to the end.
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let pairs = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status.unwrap_or_else(|| panic!("no status: {head}")),
            headers: pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Our end of an offer.
pub(crate) struct End {
    identity: Arc<Identity>,
    pub(crate) local: Local,
}

impl End {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let identity = Arc::new(Identity::new(certificate.der().to_vec(), key.serialize_der()).unwrap());
        let local = Local {
            ice: Credentials::random(),
            fingerprint: identity.fingerprint(),
            candidates: Vec::new(),
            session_id: 1,
        };
        Self { identity, local }
    }

    pub(crate) fn offer_to_publish(&self) -> String {
        let ssrcs = Ssrcs { video: 1, video_rtx: 2, audio: 3 };
        client::publish(&self.local, Some(Codec::Avc), Some(Codec::Opus), ssrcs)
    }

    pub(crate) fn offer_to_play(&self, codecs: &[Codec]) -> String {
        client::play(&self.local, codecs, false)
    }
}

enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream, Frames),
}

/// A session with a server.
pub(crate) struct Player {
    peer: Peer,
    wire: Wire,
    path: Path,
    pub(crate) terms: Terms,
    pub(crate) location: String,
    pub(crate) is_connected: bool,
    video: Depacketiser,
    pub(crate) pictures: usize,
    pub(crate) keyframes: usize,
}

impl Player {
    /// Asks for the stream, and is told where to find it by this transport.
    pub(crate) fn ask(node: &WebRtcNode, stream: &str, transport: Transport) -> Self {
        let end = End::new();
        let offer = end.offer_to_play(&[Codec::Avc, Codec::Opus]);
        let reply = node.ask("POST", &format!("/whep/{stream}"), &[("Content-Type", SDP)], &offer);
        assert_eq!(reply.status, 201, "{}", reply.body);
        let location = reply.header("location").unwrap().to_owned();
        Self::new(&end, &reply.body, location, transport)
    }

    pub(crate) fn new(end: &End, answer: &str, location: String, transport: Transport) -> Self {
        let terms = client::accept(answer).unwrap();
        let remote = terms.transport.candidates.iter().find(|found| found.transport == transport);
        let remote = remote.unwrap_or_else(|| panic!("no way by {transport:?}: {answer}")).address;
        let poll = Some(Duration::from_millis(5));
        let (wire, local) = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind((remote.ip(), 0)).unwrap();
                socket.connect(remote).unwrap();
                socket.set_read_timeout(poll).unwrap();
                let local = socket.local_addr().unwrap();
                (Wire::Udp(socket), local)
            }
            Transport::Tcp => {
                let stream = TcpStream::connect(remote).unwrap();
                stream.set_read_timeout(poll).unwrap();
                let local = stream.local_addr().unwrap();
                (Wire::Tcp(stream, Frames::default()), local)
            }
        };
        let (path, now) = (Path { remote, local, transport }, clock::now().into_std());
        let ice = Ice::Client(Client::new(now, &end.local.ice, &terms.transport.ice, [path]));
        let peer = Peer::new(&end.identity, ice, &terms.transport, Channels::None, now);
        let video = Depacketiser::new(Codec::Avc);
        let (is_connected, pictures, keyframes) = (false, 0, 0);
        Self { peer, wire, path, terms, location, is_connected, video, pictures, keyframes }
    }

    /// Where the server is.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.path.remote
    }

    /// Goes on until `is_done`, ten seconds at most.
    pub(crate) fn until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) {
        let end = clock::now() + Duration::from_secs(10);
        while !is_done(self) {
            assert!(clock::now() < end, "{what} does not come: {} pictures", self.pictures);
            self.advance();
        }
    }

    /// Sends what is due and takes what has come.
    pub(crate) fn advance(&mut self) {
        let now = clock::now().into_std();
        if self.peer.poll_timeout().is_some_and(|due| due <= now) {
            self.peer.handle_timeout(now);
        }
        while let Some(datagram) = self.peer.poll_transmit() {
            self.send(&datagram.bytes);
        }
        for mut datagram in self.receive() {
            if let Some(Media::Rtp(packet)) = self.peer.handle_datagram(now, self.path, &mut datagram) {
                let packet = Packet::parse(packet).unwrap();
                let video = self.terms.track(TrackKind::Video).unwrap().payload_type;
                if packet.header.payload_type == video {
                    let _ = self.video.handle_packet(packet.header.timestamp, packet.header.marker, packet.payload);
                }
            }
        }
        while let Some(unit) = self.video.poll_unit() {
            self.pictures += 1;
            self.keyframes += usize::from(unit.keyframe);
        }
        while let Some(event) = self.peer.poll_event() {
            match event {
                PeerEvent::Connected => self.is_connected = true,
                other => panic!("{other:?}"),
            }
        }
    }

    fn send(&mut self, datagram: &[u8]) {
        match &mut self.wire {
            Wire::Udp(socket) => {
                socket.send(datagram).unwrap();
            }
            Wire::Tcp(stream, _) => {
                let mut framed = Vec::new();
                frame(datagram, &mut framed).unwrap();
                stream.write_all(&framed).unwrap();
            }
        }
    }

    fn receive(&mut self) -> Vec<Vec<u8>> {
        let (mut buffer, mut datagrams) = (vec![0; 64 * 1024], Vec::new());
        let read = match &mut self.wire {
            Wire::Udp(socket) => socket.recv(&mut buffer),
            Wire::Tcp(stream, _) => stream.read(&mut buffer),
        };
        let bytes = match read {
            Ok(bytes) => &buffer[..bytes],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return datagrams,
            Err(error) => panic!("{error}"),
        };
        match &mut self.wire {
            Wire::Udp(_) => datagrams.push(bytes.to_vec()),
            Wire::Tcp(_, frames) => {
                assert!(!bytes.is_empty(), "the server closed the connection");
                frames.read(bytes, |datagram| datagrams.push(datagram.to_vec())).unwrap();
            }
        }
        datagrams
    }
}
