//! `hawker load` on several machines, each a process here: a controller that publishes and agents that watch too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "how tests fail")]

mod common;

use std::process::Command;

use common::{Dev, Process, hawker, run, text};
use serde_json::Value;

const TOKEN: &str = "only-the-crew-knows";

/// An agent, and where it listens.
fn agent() -> (Process, String) {
    let mut agent = hawker();
    let agent = Process::spawn(agent.args(["load", "--listen", "127.0.0.1:0"]).env("HAWKER_LOAD_TOKEN", TOKEN));
    let address = agent.stdout.wait_line("agent on ").rsplit(' ').next().unwrap().to_owned();
    (agent, address)
}

/// A run against `dev` that these agents take part in; its report goes to stdout.
fn controller(dev: &Dev, agents: &[&str], secs: &str) -> Command {
    let [flv, rtmp] = dev.edge.watch_urls().map(|url| url.replace("room", "load-{n}"));
    let publish = dev.origin.publish_url.replace("room", "load-{n}");
    let mut controller = hawker();
    controller.args(["load", "--publish", &publish, "--publishers", "2", "--viewers", "20", "--secs", secs]);
    controller.args(["--watch", &flv, "--watch", &rtmp, "--kbit-per-s", "300", "--sample", "2", "--json", "-"]);
    agents.iter().for_each(|agent| _ = controller.args(["--agent", agent]));
    controller.env("HAWKER_LOAD_TOKEN", TOKEN);
    controller
}

fn report(stdout: &[u8]) -> Value {
    serde_json::from_slice(stdout).unwrap_or_else(|error| panic!("{error}: {}", text(stdout)))
}

#[test]
fn agents_take_their_share_and_the_reports_add_up() {
    let dev = Dev::start();
    let ((_one, first), (_two, second)) = (agent(), agent());
    let mut controller = controller(&dev, &[&first, &second], "5");
    controller.args(["--events", "2", "--api", &dev.origin.http, "--token", &dev.origin.api_token]);
    let output = run(40, controller.args(["--fail-if", "frames_lost>0", "--fail-if", "events_lost>0"]));
    let report = report(&output.stdout);
    assert!(output.status.success(), "{}\n{report:#}", text(&output.stderr));
    assert_eq!(report["viewers"]["joined"], 20, "{report:#}");
    assert_eq!(report["watched"].as_array().unwrap().len(), 2);
    for (agent, address) in report["agents"].as_array().unwrap().iter().zip([&first, &second]) {
        assert_eq!((agent["address"].as_str(), &agent["lost"]), (Some(address.as_str()), &Value::Null), "{report:#}");
        assert!((6..=7).contains(&agent["viewers"].as_u64().unwrap()), "{report:#}");
        // One machine, one clock.
        assert!(agent["clock_ahead_us"].as_i64().unwrap().abs() < 5_000, "{report:#}");
    }
    assert!(report["viewers"]["events"].as_u64().unwrap() > 20 * 3, "{report:#}");
    // Half of the viewers measure, wherever they are: 25 pictures a second at least, for some seconds.
    let samples = report["viewers"]["latency_ms"]["samples"].as_u64().unwrap();
    assert!(samples > 10 * 25 * 2, "{report:#}");
    assert!(report["viewers"]["latency_ms"]["p50"].as_f64().unwrap() < 1000.0, "{report:#}");
    // The same frames for everybody, so those that agents saw are in the sum.
    let (all, sent) = (report["viewers"]["frames"].as_u64(), report["publishers"]["frames"].as_u64());
    assert!(all.unwrap() > 14 * sent.unwrap() / 2 * 6 / 10, "{report:#}");
}

#[test]
fn a_lost_agent_fails_the_run_and_a_lost_controller_frees_the_agent() {
    let dev = Dev::start();
    let ((mut doomed, first), (survivor, second)) = (agent(), agent());
    let running = Process::spawn(&controller(&dev, &[&first, &second], "6"));
    doomed.stdout.wait_line("watching");
    let mut late = controller(&dev, &[&second], "60");
    let refused = text(&run(20, &late).stderr);
    assert!(refused.contains(&format!("agent {second}: it refused: it is busy")), "{refused}");
    doomed.kill();
    running.stderr.wait_line(&format!("agent {first} is lost"));
    let sentence = running.stderr.wait_line("lost agents");
    assert!(sentence.contains(&first) && !sentence.contains(&second), "{sentence}");
    let whole = |lines: &[String]| serde_json::from_str::<Value>(&lines.join("\n")).ok();
    let report = running.stdout.wait("a report", whole);
    assert!(report["failed_if"][0].as_str().unwrap().contains(&first), "{report:#}");
    assert!(report["agents"][0]["lost"].is_string() && report["agents"][1]["lost"].is_null(), "{report:#}");

    let mut abandoning = Process::spawn(&late);
    survivor
        .stdout
        .wait("a second run", |lines| (lines.iter().filter(|l| l.starts_with("watching")).count() == 2).then_some(()));
    abandoning.kill();
    survivor.stderr.wait_line("it closed the connection");
    late.env("HAWKER_LOAD_TOKEN", "a-guess");
    let output = run(20, &late);
    assert_eq!(output.status.code(), Some(1));
    let refused = text(&output.stderr);
    assert!(refused.contains("it refused: the token is wrong") && !refused.contains("a-guess"), "{refused}");
    let again = run(40, &controller(&dev, &[&second], "2"));
    assert!(again.status.success(), "{}", text(&again.stderr));
}
