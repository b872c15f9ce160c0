//! Whole servers under a load that fits any machine: everything arrives, and costs no more beside the floor of the
//! same run than it did.
//!
//! `make record-ratios` writes what it costs now to tests/data/load_ratios.toml.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "how tests fail")]

mod common;
#[path = "../benches/fanout/floor.rs"]
#[allow(dead_code, reason = "the bench uses the rest of it")]
mod floor;
#[path = "../benches/fanout/quic_floor.rs"]
mod quic_floor;
#[path = "../benches/fanout/rtp_floor.rs"]
#[allow(dead_code, reason = "the bench uses the rest of it")]
mod rtp_floor;
#[path = "../benches/fanout/run.rs"]
#[allow(dead_code, reason = "the bench uses the rest of it")]
mod run;
#[path = "../benches/fanout/servers.rs"]
#[allow(dead_code, reason = "the bench uses the rest of it")]
mod servers;

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use common::{Process, run as run_process, run_ok, text};
use floor::Floor;
use hawker::cli::load::{
    media::Shape,
    report::{Report, Viewers},
};
use run::{Figures, Point, load_command, report_of};
use servers::{Egress, Settings};

/// A ratio this much over the recorded one is a loss.
const WORSE: f64 = 1.5;

#[test]
fn everything_arrives_at_the_recorded_cost() {
    let recorded: BTreeMap<String, f64> = toml::from_str(&fs::read_to_string(ratios_file()).unwrap()).unwrap();
    let mut now = BTreeMap::new();
    // As many as make CPU times of hundreds of milliseconds: they are counted in tens.
    for (name, egress, viewers) in [("flv", Egress::Flv, 200), ("rtmp", Egress::Rtmp, 200), ("moq", Egress::Moq, 60)] {
        let point = point(egress, viewers);
        let bound = recorded.get(name).map_or(f64::INFINITY, |ratio| ratio * WORSE);
        let mut ratio = measure(&point);
        if ratio > bound {
            // Something else may have had the machine.
            ratio = ratio.min(measure(&point));
        }
        now.insert(name, ratio);
    }
    println!("CPU a frame and viewer, of the floor's: {now:.2?}, recorded {recorded:.2?}");
    if std::env::var_os("HAWKER_RECORD").is_some() {
        return record(&now);
    }
    // Without optimisation, the ratio tells about rustc.
    if !cfg!(debug_assertions) {
        for (name, ratio) in now {
            assert!(
                ratio <= recorded[name] * WORSE,
                "{name} costs {ratio:.2} floors; {:.2} were recorded",
                recorded[name]
            );
        }
    }
}

/// The other process of this test: see [`servers::floor`].
#[test]
#[ignore = "a process that the test beside it starts"]
fn floor_process() {
    let floor = std::env::var(servers::FLOOR).expect("only as a process of its own");
    floor::run(&serde_json::from_str(&floor).unwrap()).unwrap();
}

fn point(egress: Egress, viewers: u32) -> Point {
    let audio_kbit_per_s = if egress == Egress::Moq { 0 } else { 64 };
    Point {
        egress,
        viewers,
        secs: SECS,
        prompt: false,
        shape: Shape { fps: 30, kbit_per_s: 1000, gop_secs: 1, audio_kbit_per_s },
    }
}

/// CPU a frame and viewer, of the floor's.
fn measure(point: &Point) -> f64 {
    let floor = servers::floor(&Floor { egress: point.egress, merge: true, shape: point.shape.clone() });
    let floor = report_of(&mut load_command(point, &floor)).unwrap();
    assert_watched(&floor.viewers);
    let server = servers::hawker(&Settings { shards: 1, profile: None });
    let mut command = load_command(point, &server);
    let admin = server.admin.as_deref().unwrap();
    let report = report_of(command.args(["--events", "5", "--api", admin, "--token", servers::API_TOKEN])).unwrap();
    assert_whole(&report);
    Figures::of(&report).us_per_frame / Figures::of(&floor).us_per_frame
}

fn assert_whole(report: &Report) {
    let (viewers, publishers) = (&report.viewers, &report.publishers);
    assert_watched(viewers);
    assert!(viewers.events > 0 && viewers.events_lost == 0, "{} events, {} lost", viewers.events, viewers.events_lost);
    assert_eq!([publishers.failed, publishers.lost, publishers.events_refused], [0; 3], "{publishers:?}");
}

/// The floor's viewers too: one that serves less costs less.
fn assert_watched(viewers: &Viewers) {
    assert_eq!(viewers.joined, viewers.count, "{:?}", viewers.failures);
    let missed = [viewers.failed, viewers.lost, viewers.starved, viewers.frames_lost];
    assert_eq!(missed, [0; 4], "failed, lost, starved, frames: {:?}", viewers.failures);
    assert!(viewers.latency_ms.samples > 0, "{:?}", viewers.latency_ms);
}

fn record(ratios: &BTreeMap<&str, f64>) {
    let mut text = String::from(
        "# CPU a frame and viewer of the load in tests/load_ratio.rs, as a multiple of the floor's in the same run.\n",
    );
    ratios.iter().for_each(|(name, ratio)| writeln!(text, "{name} = {ratio:.2}").unwrap());
    fs::write(ratios_file(), text).unwrap();
}

fn ratios_file() -> impl AsRef<Path> {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/load_ratios.toml")
}

/// Of each of the six runs.
const SECS: u32 = 6;
