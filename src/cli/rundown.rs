//! `hawker rundown`: loads a show's plan, moves the show on, and prints plan and actual side by side.

use std::{fmt::Write as _, path::PathBuf};

use clap::Subcommand;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;

use super::{Outcome, api};
use crate::media::StreamName;

/// Arguments of `hawker rundown`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stream: live/room.
    name: StreamName,
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    api: api::Access,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put a plan: a .csv with the columns title, class, planned_ms, sku …, else JSON.
    Load {
        /// The plan.
        file: PathBuf,
    },
    /// Put the next item on air; after the last, end the show.
    Next,
    /// Put this item on air, counted from 1.
    Goto {
        /// The item.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        item: u32,
    },
    /// Show how the show stands.
    Show,
}

/// Does it, and prints how the show stands then.
pub(super) async fn run(args: Args) -> Outcome {
    let Args { name, action, api: access } = args;
    let api = access.open()?;
    let path = format!("{}/rundown", api::stream(&name));
    let request = match action {
        Action::Load { file } => {
            let csv = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
            let plan = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            api.put(&path).header(CONTENT_TYPE, if csv { "text/csv" } else { "application/json" }).body(plan)
        }
        Action::Next => api.post(&format!("{path}/advance")),
        Action::Goto { item } => api.post(&format!("{path}/advance")).json(&json!({ "to": item - 1 })),
        Action::Show => api.get(&path),
    };
    let rundown: Rundown = serde_json::from_str(&api.send(request).await?)?;
    print!("{}", table(&rundown));
    Ok(())
}

/// What is printed of the API's answer.
#[derive(Deserialize)]
struct Rundown {
    state: String,
    totals: Totals,
    items: Vec<Row>,
}

#[derive(Deserialize)]
struct Totals {
    planned_ms: i64,
    actual_ms: i64,
    drift_ms: Option<i64>,
}

#[derive(Deserialize)]
struct Row {
    title: String,
    class: String,
    state: String,
    planned_ms: i64,
    actual_ms: Option<i64>,
    drift_ms: Option<i64>,
}

fn table(rundown: &Rundown) -> String {
    let mut text = format!("{:>3}    {:>9} {:>9} {:>9}\n", "", "planned", "actual", "drift");
    let mut line = |number: String, on_air, planned_ms, actual_ms, drift_ms, what: &str| {
        let mark = if on_air { '>' } else { ' ' };
        let (planned, actual, drift) = (clock(Some(planned_ms)), clock(actual_ms), clock(drift_ms));
        // Writing to a String can't fail.
        let _ = writeln!(text, "{number:>3} {mark}  {planned:>9} {actual:>9} {drift:>9}  {what}");
    };
    for (index, row) in rundown.items.iter().enumerate() {
        let what = format!("{} ({})", row.title, row.class);
        line((index + 1).to_string(), row.state == "on_air", row.planned_ms, row.actual_ms, row.drift_ms, &what);
    }
    let Totals { planned_ms, actual_ms, drift_ms } = rundown.totals;
    line(String::new(), false, planned_ms, Some(actual_ms), drift_ms, &rundown.state.replace('_', " "));
    text
}

/// Minutes and seconds.
fn clock(ms: Option<i64>) -> String {
    let Some(ms) = ms else { return "-".into() };
    let seconds = ms.abs() / 1000;
    let sign = if ms <= -1000 { "-" } else { "" };
    format!("{sign}{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_plan_and_actual_side_by_side() {
        let rundown = json!({
            "state": "on_air", "totals": {"planned_ms": 360_000, "actual_ms": 71_500, "drift_ms": -3_000},
            "items": [
                {"title": "Hello", "class": "hook", "state": "done", "planned_ms": 60_000, "actual_ms": 57_000,
                    "drift_ms": 0},
                {"title": "Coat", "class": "pitch", "state": "on_air", "planned_ms": 300_000, "actual_ms": 14_500,
                    "drift_ms": -3_000},
                {"title": "Bye", "class": "close", "state": "planned", "planned_ms": 5_000, "actual_ms": null,
                    "drift_ms": null},
            ],
        });
        let table = table(&serde_json::from_value(rundown).expect("a rundown"));
        let expected = "
         planned    actual     drift
  1         1:00      0:57      0:00  Hello (hook)
  2 >       5:00      0:14     -0:03  Coat (pitch)
  3         0:05         -         -  Bye (close)
            6:00      1:11     -0:03  on air
";
        assert_eq!(format!("\n{table}").replace(" \n", "\n"), expected);
    }
}
