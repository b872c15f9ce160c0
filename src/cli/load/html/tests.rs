use super::*;
use crate::cli::load::report::{CdfPoint, Publishers, ServerUse, Steady, Watched};

fn sample(at_s: u32) -> Sample {
    let wave = f64::from(at_s).sin();
    Sample {
        at_ms: u64::from(at_s) * 1000,
        viewers: u64::from(at_s.min(5)) * 200,
        joined: if at_s <= 5 { 200 } else { 2 },
        bits_per_s: u64::from(at_s.min(5)) * 200_000_000,
        client_cpu_percent: 8.0 + wave,
        server_cpu_percent: f64::from(at_s.min(5)) * 12.0 + 3.0 * wave,
        latency_ms_p50: 0.8 + 0.1 * wave,
        latency_ms_p99: 4.0 + wave,
    }
}

fn viewers(slower: f64) -> Viewers {
    let point = |i: u32| CdfPoint { ms: 0.3 * slower * 1.06_f64.powf(f64::from(i)), fraction: f64::from(i) / 100.0 };
    Viewers {
        count: 500,
        joined: 499,
        failed: 1,
        frames: 298_000,
        bytes: 1 << 31,
        join_ms: Quantiles { p50: 12.0, p95: 40.0, p99: 61.0, max: 80.0, samples: 499 },
        latency_ms: Quantiles { p50: 0.8, p95: 2.14, p99: 4.96, max: 31.2, samples: 9000 },
        latency_cdf: (0..=100).map(point).collect(),
        ..Viewers::default()
    }
}

fn report() -> Report {
    let watched = ["http://127.0.0.1:8080/live/load-{n}.flv", "rtmp://127.0.0.1:1935/live/load-{n}"];
    let watched = watched.iter().zip([1.0, 1.6]);
    Report {
        began_unix_ms: 1_790_000_000_000,
        secs: 30.2,
        publishers: Publishers { count: 2, frames: 1800, bytes: 7_500_000, ..Publishers::default() },
        viewers: Viewers { count: 1000, joined: 998, ..viewers(1.3) },
        watched: watched.map(|(url, slower)| Watched { url: (*url).into(), viewers: viewers(slower) }).collect(),
        steady: Steady {
            secs: 24.0,
            frames: 420_000,
            bytes: 3_000_000_000,
            client_cpu_us: 420_000,
            server_cpu_us: 2_100_000,
            ..Steady::default()
        },
        servers: vec![ServerUse { pid: 71, name: "hawker".into(), cpu_percent: 58.4, ..ServerUse::default() }],
        series: (0..=30).map(sample).collect(),
        failed_if: vec!["failed > 0: it is 2".into()],
        ..Report::default()
    }
}

#[test]
fn a_page_shows_the_figures_and_every_plot() {
    let report = report();
    let page = page(&report);
    for shown in ["998", "of 1000 viewers", "1.00 Gbit/s", "5.0 ms", "61 ms", "5.0 µs", "failed &gt; 0: it is 2"] {
        assert!(page.contains(&format!(">{shown}<")), "{shown}");
    }
    assert_eq!(page.matches("<svg").count(), 6);
    // Two addresses, p50 and p99, servers and load generator; the others have one line.
    assert_eq!(page.matches("<polyline").count(), 2 + 2 + 1 + 1 + 2 + 1);
    for watched in &report.watched {
        assert!(page.matches(&watched.url).count() >= 2, "in the table and in the legend");
    }
}

#[test]
fn a_page_needs_nothing_from_elsewhere_and_runs_nothing() {
    let mut report = report();
    let evil = "http://x/<script src='https://evil.example/x.js'>\"&";
    report.watched[0].url = evil.into();
    report.servers[0].name = evil.into();
    report.failed_if.push(evil.into());
    let page = page(&report);
    assert!(
        !page.contains("<script") && !page.contains("<link") && !page.contains("url(") && !page.contains("@import")
    );
    assert_eq!(page.matches("&lt;script src='https://evil.example/x.js'&gt;&quot;&amp;").count(), 4);
}

#[test]
fn a_run_without_anything_is_a_page_too() {
    let mut report = Report::default();
    let empty = page(&report);
    assert_eq!(empty.matches("Nothing was measured.").count(), 6);
    assert!(!empty.contains("NaN") && !empty.contains("inf"));
    report.series = vec![Sample { latency_ms_p99: f64::NAN, ..Sample::default() }; 2];
    let nulls = page(&report);
    assert!(!nulls.contains("NaN") && !nulls.contains("inf"));
}

#[test]
fn points_stand_where_they_belong() {
    let line = |points: &[(f64, f64)]| vec![Line { name: String::new(), points: points.to_vec() }];
    let plot = |x_scale, points: &[(f64, f64)]| {
        let lines = line(points);
        Plot { title: "", x_label: "", y_label: "", x_scale, y_max: None, lines, marks: Vec::new() }
            .draw()
            .into_string()
    };
    // The drawing is 560 by 250; the axes span 48..540 and 214..8.
    let linear = plot(Scale::Linear, &[(0.0, 0.0), (5.0, 50.0), (10.0, 100.0)]);
    assert!(linear.contains("points=\"48.0,214.0 294.0,111.0 540.0,8.0 \""), "{linear}");
    let log = plot(Scale::Log, &[(0.1, 0.0), (1.0, 100.0), (9.0, 100.0)]);
    assert!(log.contains("points=\"48.0,214.0 294.0,8.0 528.7,8.0 \""), "{log}");
    for tick in [">0.1<", ">1<", ">10<", ">0<", ">20<", ">100<"] {
        assert!(log.contains(tick), "{tick} in {log}");
    }
    let flat = plot(Scale::Linear, &[(0.0, 0.3), (3.0, 0.3)]);
    assert!(flat.contains(">0.1<") && flat.contains(">0.3<"), "{flat}");
}
