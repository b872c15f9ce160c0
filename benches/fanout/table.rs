//! The figures as people and scripts read them.

use serde::Serialize;

use crate::{peers::Peer, run::Figures};

/// A server in a case: its medians, or why there are none.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    case: String,
    server: String,
    #[serde(flatten)]
    figures: Option<Figures>,
    /// CPU a frame and viewer, of the first row's of its case.
    of_first: Option<f64>,
    why_not: Option<String>,
}

impl Row {
    /// Nothing was missed, and it was measured. Others' servers may do as they like.
    pub(crate) fn is_whole(&self) -> bool {
        let whole = |figures: &Figures| figures.viewers_lost + figures.frames_lost == 0.0;
        Peer::is_one(&self.server) || self.figures.as_ref().is_some_and(whole)
    }
}

/// All rows so far; they are printed as they come.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// Prints a case. Its first server is what the others are compared with; if it failed, nothing is.
    pub(crate) fn add(&mut self, case: &str, runs: Vec<(&str, Result<Vec<Figures>, String>)>) {
        println!("\n{case}");
        println!(
            "  {:<16} {:>9} {:>7} {:>7} {:>8} {:>15} {:>8} {:>11} {:>9} {:>6} {:>9}",
            "",
            "us/frame",
            "x first",
            "CPU %",
            "Mbit/s",
            "latency p50/p99",
            "join p99",
            "KiB/viewer",
            "client us",
            "lost",
            "gaps"
        );
        let mut first = None;
        for (nth, (server, runs)) in runs.into_iter().enumerate() {
            let row = match runs.map(|runs| Figures::median(&runs)) {
                Ok(figures) => {
                    if nth == 0 {
                        first = Some(figures.us_per_frame).filter(|us| *us > 0.0);
                    }
                    let of_first = first.map(|first| figures.us_per_frame / first);
                    print(server, &figures, of_first);
                    Row { figures: Some(figures), of_first, ..Row::new(case, server) }
                }
                Err(why) => {
                    println!("  {server:<16} {why}");
                    Row { why_not: Some(why), ..Row::new(case, server) }
                }
            };
            self.rows.push(row);
        }
    }

    /// Prints the last case's costs a packet, of which each frame has so many.
    pub(crate) fn say_packets(&self, packets_per_frame: f64) {
        let Some(last) = self.rows.last().map(|row| &row.case) else { return };
        let costs = self.rows.iter().filter(|row| row.case == *last).filter_map(|row| {
            let us = row.figures.as_ref()?.us_per_frame / packets_per_frame;
            Some(format!("{} {us:.2}", row.server))
        });
        let costs: Vec<_> = costs.collect();
        self.say(&format!("us/packet, {packets_per_frame:.1} a frame: {}", costs.join(", ")));
    }

    /// Prints what no column has.
    pub(crate) fn say(&self, sentence: &str) {
        println!("  {sentence}");
    }
}

impl Row {
    fn new(case: &str, server: &str) -> Self {
        Self { case: case.into(), server: server.into(), figures: None, of_first: None, why_not: None }
    }
}

fn print(server: &str, figures: &Figures, of_first: Option<f64>) {
    println!(
        "  {server:<16} {:>9.2} {:>7} {:>7.1} {:>8.0} {:>7.1} {:>7.1} {:>8.1} {:>11.1} {:>9.2} {:>6.0} {:>9.0}",
        figures.us_per_frame,
        of_first.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")),
        figures.cpu_percent,
        figures.mbit_per_s,
        figures.latency_ms_p50,
        figures.latency_ms_p99,
        figures.join_ms_p99,
        figures.rss_kib_per_viewer,
        figures.client_us_per_frame,
        figures.viewers_lost,
        figures.frames_lost,
    );
}
