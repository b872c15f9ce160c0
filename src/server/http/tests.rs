//! HTTP-FLV over real sockets: what becomes of a connection that a stream takes over.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    config::{Config, PlayPolicy},
    control::api::MoqAddress,
    egress::Lobby,
    hub::{Patience, Publisher},
    media::{Codec, Frame, Signer, TrackKind, Tracks, VideoConfig},
    net::{
        self,
        access::{Access, Revocable},
        stream::Handshake,
        tls::Identity,
    },
    server,
    server::EventKeys,
};

struct Server {
    node: Arc<Node>,
    sessions: TaskTracker,
    address: SocketAddr,
    publisher: Publisher,
    _data: TempDir,
}

impl Server {
    fn start() -> Self {
        Self::start_with(|node| node.access.clone())
    }

    /// On air with one keyframe.
    fn start_with(access: impl FnOnce(&Node) -> Arc<dyn Access>) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let mut config = Config { data_dir: Some(data.path().into()), ..Config::default() };
        config.auth.play = PlayPolicy::Anyone;
        let moq = MoqAddress { port: 0, identity: Identity::development().expect("made") };
        let keys = EventKeys { signer: Some(Arc::new(Signer::from_seed(&[7; 32]))), trusted: Arc::default() };
        let node = Node::new(config, moq, keys).expect("a node");
        let patience = Patience { stall_max: Duration::from_millis(300), ..node.patience };
        let node = Arc::new(Node { patience, ..node });
        let mut publisher = node.hub.publish(&"live/room".parse().expect("name")).expect("room");
        let video = VideoConfig { codec: Codec::Avc, description: Bytes::from_static(b"avcC"), width: 16, height: 16 };
        publisher.set_tracks(Tracks { video: Some(video), ..Tracks::default() }).expect("current");
        publisher.push_frame(frame(0, 100)).expect("current");
        let flv = Flv {
            hub: node.hub.clone(),
            egress: node.egress(),
            access: access(&node),
            metrics: node.metrics.clone(),
            lobby: Lobby::new(Duration::from_secs(5)),
        };
        let listener = net::tcp::listen("test", SocketAddr::from(([127, 0, 0, 1], 0)), 1).expect("a port").remove(0);
        let address = listener.local_addr().expect("bound");
        let sessions = TaskTracker::new();
        let handshake = Handshake::new(node.metrics.clone());
        let routes = flv::router(Arc::new(flv));
        let serving = net::http::serve(
            listener,
            routes,
            handshake,
            net::descriptors::Descriptors::shared(),
            node.stop.clone(),
            sessions.clone(),
        );
        server::watch("test", serving);
        Self { node, sessions, address, publisher, _data: data }
    }

    async fn request(&self, head: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        // So that a viewer who doesn't read is noticed soon.
        socket.set_recv_buffer_size(16 * 1024).expect("set");
        let mut stream = socket.connect(self.address).await.expect("connects");
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream
    }

    async fn ended(&self, reason: &str) {
        let line = format!("hawker_sessions_total{{protocol=\"flv\",reason=\"{reason}\"}} 1");
        let counted = async {
            while !self.node.metrics.render().contains(&line) {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, counted).await.unwrap_or_else(|_| panic!("no {line}: {}", self.node.metrics.render()));
    }

    /// More than the sockets between take.
    fn flood(&mut self) {
        self.publisher.push_frame(frame(40, 16 << 20)).expect("current");
    }
}

fn frame(ms: i64, length: usize) -> Frame {
    let data = Bytes::from(vec![7; length]);
    Frame { track: TrackKind::Video, dts_us: ms * 1000, pts_us: ms * 1000, keyframe: true, data }
}

/// Reads up to and with `end`.
async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut seen = Vec::new();
    let reading = async {
        while !seen.ends_with(end) {
            seen.push(stream.read_u8().await.expect("more"));
        }
    };
    timeout(SOON, reading).await.expect("it comes");
    seen
}

const SOON: Duration = Duration::from_secs(10);
const GET: &str = "GET /live/room.flv HTTP/1.1\r\nHost: test\r\n\r\n";

#[tokio::test]
async fn a_head_request_has_the_headers_and_leaves_the_connection_usable() {
    let server = Server::start();
    let mut stream = server.request("HEAD /live/room.flv HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let head = String::from_utf8(read_until(&mut stream, b"\r\n\r\n").await).expect("text").to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: video/x-flv"), "{head}");
    stream.write_all(GET.as_bytes()).await.expect("still open");
    read_until(&mut stream, b"\r\n\r\nFLV\x01").await;
}

#[tokio::test]
async fn old_clients_are_served_and_pipelined_requests_are_not_heard() {
    let server = Server::start();
    for request in ["GET /live/room.flv HTTP/1.0\r\n\r\n".to_owned(), GET.repeat(2)] {
        let mut stream = server.request(&request).await;
        let head = String::from_utf8(read_until(&mut stream, b"\r\n\r\n").await).expect("text").to_lowercase();
        assert!(head.contains("connection: close") && head.contains("date: ") && !head.contains("chunked"), "{head}");
        read_until(&mut stream, b"FLV\x01").await;
    }
}

#[tokio::test]
async fn a_viewer_who_leaves_uploads_or_does_not_read_is_missed() {
    let mut server = Server::start();
    let mut leaves = server.request(GET).await;
    read_until(&mut leaves, b"FLV\x01").await;
    drop(leaves);
    server.ended("viewer left").await;

    let mut uploads = server.request(GET).await;
    read_until(&mut uploads, b"FLV\x01").await;
    let upload = async { while uploads.write_all(&[0; 4096]).await.is_ok() {} };
    timeout(SOON, upload).await.expect("cut off");

    let mut stalls = server.request(GET).await;
    read_until(&mut stalls, b"FLV\x01").await;
    server.flood();
    server.ended("stalled").await;
}

#[tokio::test]
async fn a_stop_ends_viewers_with_their_last_tag_and_those_who_do_not_read() {
    let server = Server::start();
    let mut reads = server.request(GET).await;
    read_until(&mut reads, b"FLV\x01").await;
    server.node.stop.cancel();
    let mut rest = Vec::new();
    timeout(SOON, reads.read_to_end(&mut rest)).await.expect("an end").expect("in order");
    server.ended("server stops").await;

    let mut blocked = Server::start();
    let mut stream = blocked.request(GET).await;
    read_until(&mut stream, b"FLV\x01").await;
    blocked.flood();
    // Until its first bytes are there the rest can't be waiting.
    read_until(&mut stream, &[7; 64]).await;
    blocked.node.stop.cancel();
    blocked.sessions.close();
    timeout(SOON, blocked.sessions.wait()).await.expect("nobody is left");
}

#[tokio::test]
async fn a_viewer_whose_token_is_revoked_goes_at_once_though_he_does_not_read() {
    let revoked = CancellationToken::new();
    let access = Arc::new(Revocable(revoked.clone()));
    let mut server = Server::start_with(|_| access);
    let mut stalls = server.request(GET).await;
    read_until(&mut stalls, b"FLV\x01").await;
    server.flood();
    read_until(&mut stalls, &[7; 64]).await;
    revoked.cancel();
    server.ended("revoked").await;
}
