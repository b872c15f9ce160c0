//! The fuzz targets without a fuzzer: each replays its corpus, so that what was found stays found, then tries variants of
//! it that a seed chooses.
//!
//! For `FUZZ_SECS` each, 1 by default; `FAULT_SEED` repeats a run. What fails is left in `fuzz/artifacts/<target>`, and
//! belongs into the corpus. `make fuzz` is more thorough: it follows what code an input reaches.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use hawker::{
    clock, config, control, media, net,
    proto::{flv, ice, moq, rtmp, rtp, sdp, webrtc},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// A test for each target of `fuzz/fuzz_targets`.
macro_rules! targets {
    ($($name:ident: $target:path,)*) => {
        const TARGETS: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name), $target);
            }
        )*
    };
}

targets! {
    amf0: rtmp::amf0::fuzz::amf0,
    codec_config: media::fuzz::codec_config,
    config: config::fuzz::config,
    enhanced: flv::tag::fuzz::enhanced,
    event: media::fuzz::event,
    flv: flv::reader::fuzz::flv,
    jwt: control::auth::jwt::fuzz::jwt,
    moq_catalog: moq::fuzz::catalog,
    moq_control: moq::fuzz::control,
    moq_data: moq::fuzz::data,
    moq_session: moq::fuzz::session,
    moq_varint: moq::fuzz::varint,
    outbound: net::outbound::fuzz::outbound,
    room: media::fuzz::room,
    rtcp: rtp::fuzz::rtcp,
    rtmp_chunk: rtmp::chunk::fuzz::rtmp_chunk,
    rtmp_handshake: rtmp::handshake::fuzz::rtmp_handshake,
    rtmp_interleaved: rtmp::chunk::fuzz::rtmp_interleaved,
    rtmp_session: rtmp::server::fuzz::rtmp_session,
    rtp_payload: rtp::fuzz::payload,
    sdp: sdp::fuzz::sdp,
    signed_url: control::auth::signed_url::fuzz::signed_url,
    stream_name: media::fuzz::stream_name,
    stun: ice::fuzz::stun,
    webrtc_input: webrtc::fuzz::input,
    webrtc_sctp: webrtc::fuzz::sctp,
}

#[test]
fn each_target_is_tried_here_too() {
    let mut targets: Vec<_> = files(&folder("fuzz_targets")).iter().map(|file| name_of(file)).collect();
    targets.sort();
    assert_eq!(targets, TARGETS);
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    files
}

fn name_of(file: &Path) -> String {
    file.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned()
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

fn fuzz(name: &str, target: fn(&[u8])) {
    let corpus: Vec<_> =
        files(&folder("corpus").join(name)).iter().map(|file| fs::read(file).expect("a readable seed")).collect();
    assert!(!corpus.is_empty(), "{name} has no corpus");
    corpus.iter().for_each(|seed| target(seed));
    let seed = number("FAULT_SEED").unwrap_or_else(rand::random);
    let (mut rng, end) =
        (StdRng::seed_from_u64(seed), clock::now() + Duration::from_secs(number("FUZZ_SECS").unwrap_or(1)));
    let keep = move |name: &str, input: &[u8]| {
        let folder = folder("artifacts").join(name);
        let file = folder.join(format!("seed-{seed}"));
        let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, input));
        eprintln!("FAULT_SEED={seed}; the input is in {}: {kept:?}", file.display());
    };
    let (inputs, tried) = mpsc::sync_channel::<Arc<Vec<u8>>>(16);
    let watched = name.to_owned();
    thread::spawn(move || watch(&tried, |input| keep(&watched, input)));
    while clock::now() < end {
        let input = Arc::new(variant(&mut rng, &corpus));
        inputs.send(input.clone()).expect("it is watched");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&input))) {
            keep(name, &input);
            resume_unwind(panic);
        }
    }
}

/// Keeps an input that nothing follows, and ends the process: its test never would.
fn watch(tried: &mpsc::Receiver<Arc<Vec<u8>>>, keep: impl Fn(&[u8])) {
    let mut last = Arc::default();
    loop {
        match tried.recv_timeout(INPUT_TIMEOUT) {
            Ok(input) => last = input,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                keep(&last);
                eprintln!("it takes longer than {INPUT_TIMEOUT:?}");
                process::exit(1);
            }
        }
    }
}

/// No input takes as long, whatever else the machine does.
const INPUT_TIMEOUT: Duration = Duration::from_secs(15);

/// One of the corpus with up to eight changes.
fn variant(rng: &mut StdRng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..=8) {
        let at = rng.random_range(0..=input.len());
        let piece = at..input.len().min(at + rng.random_range(1..=16));
        match rng.random_range(0..8) {
            0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            1 if at < input.len() => input[at] = rng.random(),
            2 => input[piece].fill(EXTREMES[rng.random_range(0..EXTREMES.len())]),
            3 => _ = input.drain(piece),
            4 => {
                let copy = input[piece].to_vec();
                input.splice(at..at, copy);
            }
            5 => {
                let other = &corpus[rng.random_range(0..corpus.len())];
                let from = rng.random_range(0..=other.len());
                input.splice(at.., other[from..].iter().copied());
            }
            6 => input.insert(at, rng.random()),
            _ => input.truncate(at),
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

/// What bounds are off by one at.
const EXTREMES: [u8; 5] = [0, 1, 0x7f, 0x80, 0xff];

/// Longer ones only take longer.
const INPUT_BYTES_MAX: usize = 16 * 1024;
