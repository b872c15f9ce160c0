//! A report as one page: figures, a table an address, plots. It needs nothing but a browser, and no script.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use time::OffsetDateTime;

use self::plot::{Line, Plot, Scale};
use super::{
    progress::{Bytes, Rate, Short},
    report::{Quantiles, Report, Sample, Viewers},
};

mod plot;

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "hawker load: " (headline(report)) }
                style { (PreEscaped(include_str!("html/page.css"))) }
            }
            body {
                header {
                    h1 { "hawker load" }
                    p { (headline(report)) ", " (began(report)) ", " (format!("{:.0}", report.secs)) " s" }
                }
                (verdict(report))
                (figures(report))
                (plots(report))
                (addresses(report))
                (publishers(report))
                (servers(report))
                (agents(report))
            }
        }
    };
    page.into_string()
}

fn headline(report: &Report) -> String {
    let publishers = match report.publishers.count {
        0 => String::new(),
        1 => "1 publisher, ".into(),
        count => format!("{count} publishers, "),
    };
    format!("{publishers}{} viewers", report.viewers.count)
}

fn began(report: &Report) -> String {
    match OffsetDateTime::from_unix_timestamp(report.began_unix_ms / 1000) {
        Ok(at) => format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute()),
        Err(_) => String::new(),
    }
}

fn verdict(report: &Report) -> Markup {
    html! {
        @if !report.failed_if.is_empty() {
            section.failed {
                h2 { "Failed" }
                ul { @for line in &report.failed_if { li { (line) } } }
            }
        }
    }
}

fn figures(report: &Report) -> Markup {
    let (viewers, steady) = (&report.viewers, &report.steady);
    let per_frame = |cpu_us: u64| match steady.frames {
        0 => NOT_MEASURED.to_owned(),
        frames => format!("{} µs", Short(cpu_us as f64 / frames as f64)),
    };
    let rate = match steady.secs {
        secs if secs > 0.0 => Rate(steady.bytes as f64 * 8.0 / secs).to_string(),
        _ => NOT_MEASURED.to_owned(),
    };
    let server = if report.servers.is_empty() { NOT_MEASURED.to_owned() } else { per_frame(steady.server_cpu_us) };
    let lost = viewers.failed + viewers.lost + viewers.starved + viewers.frames_lost + viewers.events_lost;
    let losses = format!(
        "viewers: {} failed, {} lost, {} starved; {} frames, {} events lost",
        viewers.failed, viewers.lost, viewers.starved, viewers.frames_lost, viewers.events_lost
    );
    html! {
        section.figures {
            (figure("Joined", &viewers.joined.to_string(), &format!("of {} viewers", viewers.count)))
            (figure("Latency p99", &ms(&viewers.latency_ms, |q| q.p99), &spread(&viewers.latency_ms)))
            (figure("Join p99", &ms(&viewers.join_ms, |q| q.p99), &spread(&viewers.join_ms)))
            (figure("Received", &rate, &format!("{} frames, {} in all", viewers.frames, Bytes(viewers.bytes))))
            (figure("Server CPU", &server, &format!("a frame and viewer; load generator {}", per_frame(steady.client_cpu_us))))
            (figure("Losses", &lost.to_string(), &losses))
        }
    }
}

fn figure(name: &str, value: &str, more: &str) -> Markup {
    html! { div { h2 { (name) } p.value { (value) } p.more { (more) } } }
}

fn addresses(report: &Report) -> Markup {
    html! {
        section.table {
            h2 { "Addresses" }
            table {
                thead {
                    tr {
                        th { "Address" } th { "Joined" } th { "Failed" } th { "Lost" } th { "Starved" } th { "Frames" }
                        th { "Frames lost" } th { "Events" } th { "Events lost" } th { "Join p50 / p99, ms" }
                        th { "Latency p50 / p95 / p99 / max, ms" }
                    }
                }
                tbody {
                    @for watched in &report.watched { (row(&watched.url, &watched.viewers)) }
                    @if report.watched.len() != 1 { (row("all", &report.viewers)) }
                }
            }
        }
    }
}

fn row(name: &str, viewers: &Viewers) -> Markup {
    let bad = |count: u64| html! { td.bad[count > 0] { (count) } };
    html! {
        tr {
            th scope="row" { (name) }
            td { (viewers.joined) " of " (viewers.count) }
            (bad(viewers.failed)) (bad(viewers.lost)) (bad(viewers.starved))
            td { (viewers.frames) }
            (bad(viewers.frames_lost))
            td { (viewers.events) }
            (bad(viewers.events_lost))
            td { (percentiles(&viewers.join_ms, |q| vec![q.p50, q.p99])) }
            td { (percentiles(&viewers.latency_ms, |q| vec![q.p50, q.p95, q.p99, q.max])) }
        }
    }
}

fn publishers(report: &Report) -> Markup {
    let publishers = &report.publishers;
    html! {
        @if publishers.count > 0 {
            section.table {
                h2 { "Publishers" }
                table {
                    thead {
                        tr {
                            th { "Asked for" } th { "Failed" } th { "Lost" } th { "Frames" } th { "Sent" }
                            th { "Events" } th { "Events refused" }
                        }
                    }
                    tbody {
                        tr {
                            td { (publishers.count) }
                            td.bad[publishers.failed > 0] { (publishers.failed) }
                            td.bad[publishers.lost > 0] { (publishers.lost) }
                            td { (publishers.frames) }
                            td { (Bytes(publishers.bytes)) }
                            td { (publishers.events) }
                            td.bad[publishers.events_refused > 0] { (publishers.events_refused) }
                        }
                    }
                }
            }
        }
    }
}

fn servers(report: &Report) -> Markup {
    html! {
        @if !report.servers.is_empty() {
            section.table {
                h2 { "Servers" }
                table {
                    thead { tr { th { "Process" } th { "CPU" } th { "Memory, least" } th { "Memory, most" } } }
                    tbody {
                        @for server in &report.servers {
                            tr {
                                th scope="row" { (server.name) " " (server.pid) }
                                td { (format!("{:.1} %", server.cpu_percent)) }
                                td { (Bytes(server.rss_bytes_min)) }
                                td { (Bytes(server.rss_bytes_max)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn agents(report: &Report) -> Markup {
    html! {
        @if !report.agents.is_empty() {
            section.table {
                h2 { "Agents" }
                table {
                    thead { tr { th { "Agent" } th { "Viewers" } th { "CPU" } th { "Clock ahead" } th { "Became" } } }
                    tbody {
                        @for agent in &report.agents {
                            tr {
                                th scope="row" { (agent.address) }
                                td { (agent.viewers) }
                                td { (format!("{:.1} s", agent.cpu_us as f64 / 1e6)) }
                                td { (agent.clock_ahead_us) " µs ± " (agent.round_trip_us / 2) }
                                td.bad[agent.lost.is_some()] { (agent.lost.as_deref().unwrap_or("done")) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn plots(report: &Report) -> Markup {
    let over_time = |name: &str, of: &dyn Fn(&Sample) -> f64| {
        let points = report.series.iter().map(|sample| (secs(sample.at_ms), of(sample)));
        Line { name: name.into(), points: points.collect() }
    };
    let time = |title, y_label, lines| Plot {
        title,
        x_label: "seconds",
        y_label,
        x_scale: Scale::Linear,
        y_max: None,
        lines,
        marks: Vec::new(),
    };
    let mut cpu = vec![over_time("load generator", &|s| s.client_cpu_percent)];
    if !report.servers.is_empty() {
        cpu.insert(0, over_time("servers", &|s| s.server_cpu_percent));
    }
    let latency = vec![over_time("p50", &|s| s.latency_ms_p50), over_time("p99", &|s| s.latency_ms_p99)];
    html! {
        section.plots {
            (latency_cdf(report).draw())
            (time("Latency over time", "ms", latency).draw())
            (time("Viewers", "playing", vec![over_time("playing", &|s| s.viewers as f64)]).draw())
            (time("Joins", "a second", vec![joins(&report.series)]).draw())
            (time("CPU", "% of a core", cpu).draw())
            (time("Received", "Mbit/s", vec![over_time("received", &|s| s.bits_per_s as f64 / 1e6)]).draw())
        }
    }
}

/// A line an address where there are few, else one for all.
fn latency_cdf(report: &Report) -> Plot<'_> {
    let all = &report.viewers;
    let line = |name: &str, viewers: &Viewers| {
        let points = viewers.latency_cdf.iter().map(|point| (point.ms, point.fraction * 100.0));
        Line { name: name.into(), points: points.collect() }
    };
    let (lines, marks) = if (2..=plot::LINES_MAX).contains(&report.watched.len()) {
        (report.watched.iter().map(|watched| line(&watched.url, &watched.viewers)).collect(), Vec::new())
    } else {
        let Quantiles { p50, p95, p99, samples, .. } = all.latency_ms;
        let marks = [(p50, 50.0, "p50"), (p95, 95.0, "p95"), (p99, 99.0, "p99")];
        (vec![line("all", all)], if samples > 0 { marks.to_vec() } else { Vec::new() })
    };
    Plot {
        title: "Latency",
        x_label: "ms",
        y_label: "% of the frames sooner than",
        x_scale: Scale::Log,
        y_max: Some(100.0),
        lines,
        marks,
    }
}

fn joins(series: &[Sample]) -> Line {
    let mut before_ms = 0;
    let points = series.iter().map(|sample| {
        let since = secs(sample.at_ms.saturating_sub(before_ms));
        before_ms = sample.at_ms;
        (secs(sample.at_ms), if since > 0.0 { sample.joined as f64 / since } else { 0.0 })
    });
    Line { name: "joins".into(), points: points.collect() }
}

fn secs(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn ms(quantiles: &Quantiles, of: fn(&Quantiles) -> f64) -> String {
    if quantiles.samples == 0 { NOT_MEASURED.to_owned() } else { format!("{} ms", Short(of(quantiles))) }
}

fn percentiles(quantiles: &Quantiles, of: fn(&Quantiles) -> Vec<f64>) -> String {
    if quantiles.samples == 0 {
        return NOT_MEASURED.to_owned();
    }
    of(quantiles).into_iter().map(|ms| Short(ms).to_string()).collect::<Vec<_>>().join(" / ")
}

fn spread(quantiles: &Quantiles) -> String {
    let Quantiles { p50, p95, max, samples, .. } = quantiles;
    match samples {
        0 => "not measured".to_owned(),
        _ => format!("p50 {}, p95 {}, max {} ms", Short(*p50), Short(*p95), Short(*max)),
    }
}

const NOT_MEASURED: &str = "–";

#[cfg(test)]
mod tests;
