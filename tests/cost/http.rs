//! HTTP: connections without a request, and requests that never end.

use std::{io::Write, net::TcpStream, sync::Arc};

use hawker::limits;
use rustls::{ClientConnection, RootCertStore};

use super::{Cost, KEY, connect, server};

/// The bound for an accepted, silent connection.
const SILENT_BYTES_MAX: usize = 4 * 1024;
/// The bound for a TLS handshake under way.
const TLS_BYTES_MAX: usize = 64 * 1024;
/// The bound for headers that don't end: 16 KiB of them, and the connection with a buffer for its answer.
const HEADERS_BYTES_MAX: usize = (16 + 16) * 1024;
/// The bound for a body that doesn't end: 64 KiB of it beside that, and the request.
const BODY_BYTES_MAX: usize = (64 + 16 + 16 + 12) * 1024;

#[test]
fn an_http_stranger_costs_little_and_is_gone_in_time() {
    let quiet = server();
    drop(unfinished(connect(quiet.at.http, 999), "GET / HTTP/1.1\r\n", 1));
    let cost = Cost::of("HTTP, silent");
    let silent: Vec<_> = (0..500).map(|n| connect(quiet.at.http, n)).collect();
    cost.each(500, 256..=SILENT_BYTES_MAX);
    cost.gone(silent, limits::HTTP_HEADER_TIMEOUT);

    let cost = Cost::of("HTTP, headers that don't end");
    let head = |n| unfinished(connect(quiet.at.http, n), "GET / HTTP/1.1\r\nHost: x\r\nCookie: ", 15 * 1024);
    let peers: Vec<_> = (0..100).map(head).collect();
    cost.each(100, 15 * 1024..=HEADERS_BYTES_MAX);
    cost.gone(peers, limits::HTTP_HEADER_TIMEOUT);
}

#[test]
fn an_unfinished_api_request_costs_its_body_and_is_gone_in_time() {
    let quiet = server();
    let head = format!(
        "POST /v1/streams/live/room/events HTTP/1.1\r\nHost: 127.0.0.2\r\nContent-Type: application/json\r\n\
         Authorization: Bearer {KEY}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        limits::HTTP_BODY_BYTES_MAX
    );
    drop(unfinished(connect(quiet.at.admin, 999), &head, 1));
    let cost = Cost::of("HTTP, a body that doesn't end");
    let post = |n| unfinished(connect(quiet.at.admin, n), &head, limits::HTTP_BODY_BYTES_MAX - 1);
    let peers: Vec<_> = (0..100).map(post).collect();
    cost.each(100, limits::HTTP_BODY_BYTES_MAX - 1..=BODY_BYTES_MAX);
    cost.gone(peers, limits::HTTP_BODY_TIMEOUT);

    // In single bytes, each of which may be a piece of its own to whoever collects them.
    let cost = Cost::of("HTTP, a body in single bytes");
    let mut peers: Vec<_> = (0..20).map(|n| unfinished(connect(quiet.at.admin, n), &head, 0)).collect();
    for _ in 0..1024 {
        for peer in &mut peers {
            peer.set_nodelay(true).expect("set");
            peer.write_all(b" ").expect("written");
        }
    }
    // As headers that don't end, and the request that was made of them.
    cost.each(20, 1024..=HEADERS_BYTES_MAX + 4 * 1024);
    cost.gone(peers, limits::HTTP_BODY_TIMEOUT);
}

#[test]
fn a_tls_handshake_costs_little_and_is_over_in_time() {
    let quiet = server();
    let (to, hello) = (quiet.at.https.expect("configured"), client_hello());
    let begin = |n| unfinished(connect(to, n), &hello, 0);
    drop(begin(999));
    let cost = Cost::of("TLS, in its handshake");
    let peers: Vec<_> = (0..100).map(begin).collect();
    cost.each(100, 1024..=TLS_BYTES_MAX);
    cost.gone(peers, limits::TLS_HANDSHAKE_TIMEOUT);
}

fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("good").with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), "localhost".try_into().expect("a name")).expect("good");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("written");
    hello
}

/// `head`, then so many bytes of what follows it.
pub(crate) fn unfinished(mut stream: TcpStream, head: impl AsRef<[u8]>, bytes: usize) -> TcpStream {
    stream.write_all(head.as_ref()).expect("written");
    stream.write_all(&vec![b' '; bytes]).expect("written");
    stream
}
