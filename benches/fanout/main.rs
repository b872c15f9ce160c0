//! What a frame costs a viewer: whole servers under load, each beside the least that can be had on the same machine
//! in the same minutes.
//!
//! `cargo bench --bench fanout -- --help` tells how to choose. Only ratios within one run mean anything elsewhere.

use std::{error::Error, fs, path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use hawker::cli::load::media::Shape;

mod floor;
mod peers;
#[path = "../../tests/common/process.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod process;
mod quic_floor;
mod rtp_floor;
mod run;
mod servers;
mod special;
mod table;

use peers::Peer;
use process::{Process, run as run_process, run_ok, text};
use run::{Figures, Point};
use servers::{Egress, Settings};
use table::{Row, Table};

/// CPU a frame and viewer, latency and memory, beside the floor of the same run.
#[derive(Parser)]
#[command(name = "fanout")]
struct Args {
    /// What to measure [default: flv rtmp moq whep].
    cases: Vec<Case>,
    /// Viewers; several, separated by commas, make several points [default: 200,1000, or 100,500
    /// beside `--peers`; 50,100 over MoQ; 50,200 over WHEP].
    #[arg(long, value_delimiter = ',')]
    viewers: Vec<u32>,
    /// Kilobits a second of the stream [default: 1000; 1000,6000 over MoQ, which are pictures of 4 and 25 KB;
    /// 2500 over WHEP].
    #[arg(long, value_delimiter = ',')]
    kbit: Vec<u32>,
    /// Pictures a second.
    #[arg(long, default_value_t = 30)]
    fps: u32,
    /// How long each run takes.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(5..=75))]
    secs: u32,
    /// Runs of each server, in turn; medians count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// hawker's shards; 0: one a core.
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// hawker's `[egress] profile`.
    #[arg(long)]
    profile: Option<String>,
    /// Every viewer reads at once, as players do. By default only a sample does, and costs the machine less.
    #[arg(long)]
    prompt: bool,
    /// The floor writes sound as it comes. By default it goes with the next picture, as hawker's does.
    #[arg(long)]
    no_merge: bool,
    /// Measure other servers too; those that cargo installs are in this folder.
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,
    /// Write all rows here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// HTTP-FLV beside bare `writev`.
    Flv,
    /// RTMP play beside bare `writev`.
    Rtmp,
    /// MoQ beside quinn alone.
    Moq,
    /// WHEP beside a bare seal and send.
    Whep,
    /// 10,000 FLV viewers of an edge join within a second.
    Storm,
    /// 2,000 publishers on one shard.
    Publishers,
    /// What an edge adds to the latency.
    Edge,
    /// Two shards beside one.
    Shards,
    /// Memory of FLV and MoQ viewers.
    Memory,
}

fn main() -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    if let Ok(floor) = std::env::var(servers::FLOOR) {
        floor::run(&serde_json::from_str(&floor)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut args = Args::parse();
    if args.cases.is_empty() {
        args.cases = vec![Case::Flv, Case::Rtmp, Case::Moq, Case::Whep];
    }
    let mut table = Table::default();
    for case in args.cases.clone() {
        match case {
            Case::Flv => args.points(Egress::Flv, &mut table),
            Case::Rtmp => args.points(Egress::Rtmp, &mut table),
            Case::Moq => args.points(Egress::Moq, &mut table),
            Case::Whep => args.points(Egress::Whep, &mut table),
            Case::Storm => special::storm(&args, &mut table),
            Case::Publishers => special::publishers(&args, &mut table),
            Case::Edge => special::edge(&args, &mut table),
            Case::Shards => special::shards(&args, &mut table),
            Case::Memory => special::memory(&args, &mut table),
        }
    }
    if let Some(file) = &args.json {
        fs::write(file, serde_json::to_string_pretty(&table.rows)?)?;
    }
    Ok(if table.rows.iter().all(Row::is_whole) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Args {
    fn settings(&self) -> Settings {
        Settings { shards: self.shards, profile: self.profile.clone() }
    }

    /// The load of each run of a case.
    fn point(&self, egress: Egress, viewers: u32, kbit_per_s: u32) -> Point {
        // The floors of these send no sound; that of RTP begins at the next keyframe, which is to come soon.
        let audio_kbit_per_s = if matches!(egress, Egress::Moq | Egress::Whep) { 0 } else { 64 };
        let gop_secs = if egress == Egress::Whep { 1 } else { 2 };
        let shape = Shape { fps: self.fps, kbit_per_s, gop_secs, audio_kbit_per_s };
        Point { egress, viewers, secs: self.secs, prompt: self.prompt, shape }
    }

    /// Every server at every point of one protocol.
    fn points(&self, egress: Egress, table: &mut Table) {
        let or = |given: &[u32], tcp: &[u32], quic: &[u32], rtp: &[u32]| match (given, egress) {
            ([], Egress::Moq) => quic.to_vec(),
            ([], Egress::Whep) => rtp.to_vec(),
            ([], _) => tcp.to_vec(),
            (given, _) => given.to_vec(),
        };
        let tcp_viewers: &[u32] = if self.peers.is_some() { &[100, 500] } else { &[200, 1000] };
        for kbit in or(&self.kbit, &[1000], &[1000, 6000], &[2500]) {
            for viewers in or(&self.viewers, tcp_viewers, &[50, 100], &[50, 200]) {
                self.compare(self.point(egress, viewers, kbit), table);
            }
        }
    }

    /// The floor, hawker and the peers in turn, so that what disturbs the machine disturbs them alike.
    fn compare(&self, point: Point, table: &mut Table) {
        let floor = floor::Floor { egress: point.egress, merge: !self.no_merge, shape: point.shape.clone() };
        let peers = self.peers.as_ref().map(|_| Peer::of(point.egress)).unwrap_or_default();
        let mut runs = vec![(floor.name(), Ok(Vec::new())), ("hawker", Ok(Vec::new()))];
        runs.extend(peers.iter().map(|peer| (peer.name(), Ok(Vec::new()))));
        for round in 0..self.rounds {
            for (nth, (name, figures)) in runs.iter_mut().enumerate() {
                let Ok(done) = figures else { continue };
                eprintln!("{}, round {} of {}: {name}", point.label(), round + 1, self.rounds);
                let server = match nth.checked_sub(2).and_then(|peer| peers.get(peer)) {
                    Some(peer) => peer.start(self.peers.as_deref().unwrap_or("".as_ref())),
                    None if nth == 0 => Ok(servers::floor(&floor)),
                    None => Ok(servers::hawker(&self.settings())),
                };
                match server.and_then(|server| run::load(&point, &server)) {
                    Ok(report) => done.push(Figures::of(&report)),
                    Err(why) => *figures = Err(why),
                }
            }
        }
        table.add(&point.label(), runs);
        if point.egress == Egress::Whep {
            table.say_packets(rtp_floor::packets_per_picture(&point.shape));
        }
    }
}
