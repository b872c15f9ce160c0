//! Cases that are more than a number of viewers: joins, publishers, edges, shards, memory.

use std::{fs, thread, time::Duration};

use hawker::cli::load::report::{Report, Steady};

use crate::{
    Args,
    run::{self, Figures, Point},
    servers::{self, Egress, Server, Settings},
    table::Table,
};

/// Everybody comes within a second, to an edge that nobody has watched yet.
pub(crate) fn storm(args: &Args, table: &mut Table) {
    let viewers = args.viewers.first().copied().unwrap_or(10_000);
    let mut point = args.point(Egress::Flv, viewers, args.kbit.first().copied().unwrap_or(200));
    point.shape.fps = args.fps.min(10);
    let origin = servers::hawker(&args.settings());
    let edge = servers::edge(&origin, &args.settings());
    let mut command = run::load_command(&point, &edge);
    command.args(["--ramp", "1"]);
    // The series end with the stream, so they are read while it is on air.
    let (report, copies) = thread::scope(|scope| {
        let load = scope.spawn(|| run::report_of(&mut command));
        let mut copies = 0.0;
        while !load.is_finished() {
            thread::park_timeout(Duration::from_secs(1));
            let metrics = origin.metrics();
            let [taken, sent] = ["in", "out"].map(|way| sum(&metrics, &format!("hawker_frames_{way}_total{{")));
            if taken > 0.0 {
                copies = sent / taken;
            }
        }
        (load.join().expect("it doesn't panic"), copies)
    });
    add(table, &format!("storm: {} at an edge within a second", point.label()), &[("hawker", report.as_ref())]);
    if let Ok(report) = report {
        let (viewers, joins) = (&report.viewers, &report.viewers.join_ms);
        table.say(&format!(
            "{} of {} joined: p50 {:.0} ms, p99 {:.0} ms, last {:.0} ms; the origin sent each frame {copies:.2} times",
            viewers.joined, viewers.count, joins.p50, joins.p99, joins.max
        ));
    }
}

/// Nobody watches but one, so that what is counted is taking the streams in.
pub(crate) fn publishers(args: &Args, table: &mut Table) {
    let count = args.viewers.first().copied().unwrap_or(2000);
    let mut point = args.point(Egress::Flv, 1, args.kbit.first().copied().unwrap_or(600));
    point.secs = args.secs.max(20);
    let server = servers::hawker(&Settings { shards: 1, ..args.settings() });
    let mut command = run::load_command(&point, &server);
    let report = run::report_of(command.args(["--publishers", &count.to_string()]));
    let figures = report.map(|report| {
        let (sent, steady) = (&report.publishers, &report.steady);
        let server = report.servers.first().cloned().unwrap_or_default();
        Figures {
            us_per_frame: steady.server_cpu_us as f64 / steady.publisher_frames.max(1) as f64,
            mbit_per_s: steady.publisher_bytes as f64 * 8.0 / 1e6 / steady.secs.max(0.001),
            rss_kib_per_viewer: server.rss_bytes_max as f64 / 1024.0 / f64::from(count.max(1)),
            viewers_lost: (sent.failed + sent.lost) as f64,
            ..Figures::of(&report)
        }
    });
    let case = format!("{count} publishers x {} kbit/s on one shard; a frame in, a publisher", point.shape.kbit_per_s);
    table.add(&case, vec![("hawker", figures.map(|figures| vec![figures]))]);
}

/// Half the viewers at the origin, half at its edge, in the same run.
pub(crate) fn edge(args: &Args, table: &mut Table) {
    let viewers = args.viewers.first().copied().unwrap_or(200);
    let point = args.point(Egress::Flv, viewers, args.kbit.first().copied().unwrap_or(1000));
    let mut nodes = [("origin", Vec::new()), ("edge", Vec::new())];
    for _ in 0..args.rounds {
        let origin = servers::hawker(&args.settings());
        let edge = servers::edge(&origin, &args.settings());
        match both(&point, &origin, &edge) {
            Ok(report) => {
                let shares = report.watched.iter().zip(&report.servers);
                for ((_, runs), (watched, server)) in nodes.iter_mut().zip(shares) {
                    let steady = Steady {
                        frames: report.steady.frames / 2,
                        bytes: report.steady.bytes / 2,
                        client_cpu_us: report.steady.client_cpu_us / 2,
                        server_cpu_us: server.cpu_us,
                        ..report.steady
                    };
                    let viewers = watched.viewers.clone();
                    runs.push(Figures::of(&Report {
                        viewers,
                        steady,
                        servers: vec![server.clone()],
                        ..Report::default()
                    }));
                }
            }
            Err(why) => return add(table, "edge", &[("hawker", Err(&why))]),
        }
    }
    let medians = nodes.each_ref().map(|(_, runs)| Figures::median(runs));
    table.add(
        &format!("edge: {}, half at the origin, half at the edge", point.label()),
        nodes.into_iter().map(|(name, runs)| (name, Ok(runs))).collect(),
    );
    let [origin, edge] = medians;
    table.say(&format!(
        "the edge adds {:.2} ms to p50, {:.2} ms to p99",
        edge.latency_ms_p50 - origin.latency_ms_p50,
        edge.latency_ms_p99 - origin.latency_ms_p99
    ));
}

fn both(point: &Point, origin: &Server, edge: &Server) -> Result<Report, String> {
    let mut command = run::load_command(point, origin);
    command.args(["--watch", edge.watch(point.egress).ok_or("no such egress")?]);
    command.args(["--pid", &edge.process.pid().to_string()]);
    run::report_of(&mut command)
}

/// The same load on one shard and on two, and how evenly two have it.
pub(crate) fn shards(args: &Args, table: &mut Table) {
    let viewers = args.viewers.first().copied().unwrap_or(1000);
    let point = args.point(Egress::Flv, viewers, args.kbit.first().copied().unwrap_or(1000));
    let mut runs = [("one shard", 1, Vec::new()), ("two shards", 2, Vec::new())];
    let mut shares = Vec::new();
    for _ in 0..args.rounds {
        for (_, shards, figures) in &mut runs {
            let server = servers::hawker(&Settings { shards: *shards, ..args.settings() });
            match run::load(&point, &server) {
                Ok(report) => figures.push(Figures::of(&report)),
                Err(why) => return add(table, "shards", &[("hawker", Err(&why))]),
            }
            shares = shard_ticks(server.process.pid());
        }
    }
    let runs = runs.into_iter().map(|(name, _, runs)| (name, Ok(runs)));
    table.add(&format!("shards: {}", point.label()), runs.collect());
    let sum = shares.iter().sum::<f64>().max(1.0);
    let percent: Vec<_> = shares.iter().map(|ticks| format!("{:.0} %", ticks / sum * 100.0)).collect();
    table.say(&format!("of the CPU, the shards took {}", percent.join(" and ")));
}

/// CPU time of each shard's thread so far.
fn shard_ticks(pid: u32) -> Vec<f64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    let ticks = |stat: String| {
        let (_, fields) = stat.split_once("(shard-")?.1.split_once(") ")?;
        let times = fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
        Some(times.sum())
    };
    stats.filter_map(ticks).collect()
}

/// What viewers keep resident, kernel buffers apart.
pub(crate) fn memory(args: &Args, table: &mut Table) {
    for (egress, viewers) in [(Egress::Flv, 1000), (Egress::Rtmp, 1000), (Egress::Moq, 300)] {
        let point = args.point(egress, args.viewers.first().copied().unwrap_or(viewers), 1000);
        let report = run::load(&point, &servers::hawker(&args.settings()));
        add(table, &format!("memory: {}", point.label()), &[("hawker", report.as_ref())]);
    }
}

/// All series whose name and labels begin like this, added up.
fn sum(metrics: &str, series: &str) -> f64 {
    let values = metrics.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit_once(' '));
    values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}

fn add(table: &mut Table, case: &str, reports: &[(&str, Result<&Report, &String>)]) {
    let runs = reports.iter().map(|(name, report)| (*name, report.map(|r| vec![Figures::of(r)]).map_err(Clone::clone)));
    table.add(case, runs.collect());
}
