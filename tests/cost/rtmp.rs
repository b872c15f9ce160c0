//! RTMP, before `publish` or `play` is accepted.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use hawker::limits;

use super::{Cost, connect, server};

/// The bound for an accepted, silent connection.
const SILENT_BYTES_MAX: usize = 4 * 1024;
/// The bound before publish or play is accepted: 64 KiB in, 16 KiB out, and the session itself.
const SETUP_BYTES_MAX: usize = (64 + 16 + 16) * 1024;
/// What a greedy peer has really been kept waiting with.
const GREEDY_BYTES: usize = 3 * 16_000;

#[test]
fn an_rtmp_stranger_costs_little_and_is_gone_in_time() {
    let quiet = server();
    // What the first connection needs once is not the cost of a connection.
    drop(greedy(quiet.at.rtmp, 999));
    let cost = Cost::of("RTMP, silent");
    let silent: Vec<_> = (0..500).map(|n| connect(quiet.at.rtmp, n)).collect();
    cost.each(500, 256..=SILENT_BYTES_MAX);
    cost.gone(silent, limits::RTMP_FIRST_BYTE_TIMEOUT);

    // As much as the limits let stay: a handshake, then messages that never end.
    let cost = Cost::of("RTMP, before publish");
    let peers: Vec<_> = (0..100).map(|n| greedy(quiet.at.rtmp, n)).collect();
    cost.each(100, GREEDY_BYTES..=SETUP_BYTES_MAX);
    cost.gone(peers, limits::RTMP_SETUP_TIMEOUT);
}

fn greedy(to: SocketAddr, n: usize) -> TcpStream {
    let mut stream = connect(to, n);
    let mut c0c1 = vec![3; 1537];
    c0c1[1..9].fill(0);
    stream.write_all(&c0c1).expect("written");
    let mut s0s1s2 = vec![0; 3073];
    stream.read_exact(&mut s0s1s2).expect("answered");
    stream.write_all(&[0; 1536]).expect("written");
    // Set Chunk Size 16,000, then on each chunk stream the first chunk of a message of 16 KiB.
    stream.write_all(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0x3e, 0x80]).expect("written");
    for chunk_stream in 3..6 {
        let mut chunk = vec![chunk_stream, 0, 0, 0, 0, 0x40, 0, 20, 0, 0, 0, 0];
        chunk.resize(12 + 16_000, 0);
        stream.write_all(&chunk).expect("written");
    }
    stream
}
