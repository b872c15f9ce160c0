//! F9: whatever bytes a publisher sends, the session ends in good order or goes on, and costs little.

use std::{fs, time::Duration};

use bytes::Bytes;
use hawker::{
    media::Codec,
    proto::{
        flv::TagBody,
        rtmp::{ClientConfig, ClientMode, ClientSession, ServerEvent, ServerSession},
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::common::fault_seed;

/// What a MiB received may cost: twice what was measured, with what making up the bytes takes. A build without
/// optimisation takes ten times as long.
const CPU_PER_MIB_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 12 });
const MIB: usize = 1 << 20;

/// A server's end, fed with what was recorded or made up.
struct Fed {
    server: ServerSession,
    bytes: usize,
    events: usize,
}

impl Fed {
    fn new() -> Self {
        Self { server: ServerSession::new(), bytes: 0, events: 0 }
    }

    /// Takes bytes as a socket gives them. False once the session has ended.
    fn take(&mut self, bytes: &[u8]) -> bool {
        for part in bytes.chunks(16 * 1024) {
            self.bytes += part.len();
            if self.server.handle_bytes(part).is_err() {
                return false;
            }
            while self.server.poll_output().is_some() {}
            while let Some(event) = self.server.poll_event() {
                self.events += 1;
                if matches!(event, ServerEvent::PublishRequest(_)) && self.server.accept_publish().is_err() {
                    return false;
                }
            }
            // As if a second had passed: the rates of a real publisher allow no more.
            self.server.handle_time(Duration::from_secs(1));
        }
        true
    }
}

/// What a publisher sends, to the end of its request and from there on.
fn recorded() -> (Vec<u8>, Vec<u8>) {
    let config = ClientConfig::from_url(ClientMode::Publish, "rtmp://127.0.0.1/live/room?key=x").unwrap();
    let (mut client, mut server) = (ClientSession::new(config), Fed::new());
    let (mut request, mut spoke) = (Vec::new(), true);
    while spoke {
        spoke = false;
        while let Some(bytes) = client.poll_output() {
            request.extend_from_slice(&bytes);
            server.server.handle_bytes(&bytes).unwrap();
            spoke = true;
        }
        while let Some(event) = server.server.poll_event() {
            if matches!(event, ServerEvent::PublishRequest(_)) {
                server.server.accept_publish().unwrap();
            }
        }
        while let Some(bytes) = server.server.poll_output() {
            client.handle_bytes(&bytes).unwrap();
            spoke = true;
        }
    }
    let mut media = Vec::new();
    for n in 0..100u32 {
        let length = if n % 25 == 0 { 40_000 } else { 2000 + usize::try_from(n).unwrap() * 7 };
        let frame = TagBody::video_frame(Codec::Avc, n % 25 == 0, 0, Bytes::from(vec![0x65; length]));
        client.send(n * 40, &frame);
        while let Some(bytes) = client.poll_output() {
            media.extend_from_slice(&bytes);
        }
    }
    (request, media)
}

/// What this thread has run.
fn cpu() -> Duration {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

/// Feeds one fresh session after the other until there are enough bytes to measure, and holds them to the bound. How
/// many of them there were, and how many ended.
fn costs_little(what: &str, mut feed: impl FnMut(&mut Fed) -> bool) -> (usize, usize) {
    let (began, mut bytes, mut sessions, mut ended) = (cpu(), 0, 0, 0);
    // The kernel counts in steps of some milliseconds.
    while bytes < 8 * MIB {
        let mut fed = Fed::new();
        ended += usize::from(!feed(&mut fed));
        bytes += fed.bytes;
        sessions += 1;
    }
    let a_mib = (cpu() - began).div_f64(bytes as f64 / MIB as f64);
    println!("{what:<24} {:>7.2} ms a MiB; {sessions} sessions, {ended} ended", a_mib.as_secs_f64() * 1000.0);
    assert!(a_mib <= CPU_PER_MIB_MAX, "{what}: {a_mib:?} a MiB");
    (sessions, ended)
}

#[test]
fn f9_malformed_chunk_streams_end_the_session_alone_and_cost_little() {
    let (request, media) = recorded();
    let mut whole = Fed::new();
    assert!(whole.take(&request) && whole.take(&media), "as it was recorded");
    assert!(whole.events > 100, "{} events", whole.events);

    let mut random = StdRng::seed_from_u64(fault_seed());
    type Spoil = fn(&mut Vec<u8>, &mut StdRng);
    let flip: Spoil = |bytes, random| {
        for _ in 0..random.random_range(1..64) {
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
        }
    };
    let truncate: Spoil = |bytes, random| {
        let from = random.random_range(0..bytes.len());
        let to = random.random_range(from..bytes.len());
        drop(bytes.drain(from..to));
    };
    let interleave: Spoil = |bytes, random| {
        let from = random.random_range(0..bytes.len());
        let part = bytes[from..].iter().copied().take(5000).collect::<Vec<_>>();
        let to = random.random_range(0..bytes.len());
        bytes.splice(to..to, part);
    };
    let lie: Spoil = |bytes, random| {
        // The length of a message, where the first one has it and where chance will.
        for at in [4, random.random_range(0..bytes.len() - 3)] {
            random.fill(&mut bytes[at..at + 3]);
        }
    };
    let noise: Spoil = |bytes, random| random.fill(bytes.as_mut_slice());
    let ways =
        [("bit flips", flip), ("truncation", truncate), ("interleaving", interleave), ("lies", lie), ("noise", noise)];
    for (what, spoil) in ways {
        let (sessions, ended) = costs_little(what, |fed| {
            let mut bytes = media.clone();
            spoil(&mut bytes, &mut random);
            assert!(fed.take(&request));
            fed.take(&bytes)
        });
        assert!(what != "noise" || ended == sessions, "{ended} of {sessions} ended");
        let (sessions, ended) = costs_little("… before it is let in", |fed| {
            let mut bytes = request.clone();
            spoil(&mut bytes, &mut random);
            fed.take(&bytes)
        });
        assert!(what != "noise" || ended == sessions, "{ended} of {sessions} ended");
    }
}

/// A data message of AMF0 whose values are as small as they can be.
fn dense(value: &[u8], values: usize) -> Vec<u8> {
    let mut body = [[2, 0, 10].as_slice(), b"onMetaData"].concat();
    body.extend_from_slice(&value.repeat(values));
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    // Its own chunk size first, so that each message is one chunk.
    let mut bytes = vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 1, 0, 0];
    bytes.extend_from_slice(&[4, 0, 0, 0]);
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&[18, 1, 0, 0, 0]);
    bytes.extend_from_slice(&body);
    bytes
}

#[test]
fn f9_dense_amf0_costs_little() {
    let (request, _) = recorded();
    let object = [[3].as_slice(), &[0, 1, b'k', 5].repeat(1000), &[0, 0, 9]].concat();
    let numbers = [[3].as_slice(), &[0, 1, b'k', 0, 0, 0, 0, 0, 0, 0, 0, 0].repeat(1000), &[0, 0, 9]].concat();
    let strings = [2, 0, 0];
    let cases = [
        ("nulls", dense(&[5], 16_000)),
        ("numbers", dense(&[0; 9], 7000)),
        ("strings", dense(&strings, 16_000)),
        ("objects of nulls", dense(&object, 5)),
        ("objects of numbers", dense(&numbers, 5)),
        ("empty objects", dense(&[3, 0, 0, 9], 15_000)),
        ("arrays", dense(&[10, 0, 0, 0, 0], 12_000)),
    ];
    for (what, message) in cases {
        let (sessions, ended) = costs_little(what, |fed| {
            assert!(fed.take(&request));
            while fed.bytes < MIB {
                if !fed.take(&message) {
                    return false;
                }
            }
            true
        });
        // Numbers are long: there are few enough of them in a message.
        assert_eq!(ended, if what.contains("numbers") { 0 } else { sessions }, "{what}: of {sessions} sessions");
    }
}
