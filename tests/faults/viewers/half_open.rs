//! Peers who vanish without a word: their host's link is cut, in network namespaces of the test's own.

use std::{env, fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use hawker::clock;

use super::STREAM;
use crate::common::{Cluster, Process, hawker, run, run_ok, text};

/// Two hosts and the link between them; they end with the test.
struct Hosts {
    near: String,
    far: String,
}

const NEAR_ADDRESS: &str = "10.201.0.1";

impl Hosts {
    /// `None` where this user may not have namespaces.
    fn new() -> Option<Self> {
        sweep();
        let id = std::process::id();
        let hosts = Self { near: format!("hawker-near-{id}"), far: format!("hawker-far-{id}") };
        let (near, far) = (&hosts.near, &hosts.far);
        let made = run(5, Command::new("ip").args(["netns", "add", near]));
        if !made.status.success() {
            let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
            assert!(!is_root && env::var_os("CI").is_none(), "no network namespace: {}", text(&made.stderr));
            return None;
        }
        for line in [
            format!("netns add {far}"),
            format!("-n {near} link add veth-near type veth peer name veth-far netns {far}"),
            format!("-n {near} address add {NEAR_ADDRESS}/24 dev veth-near"),
            format!("-n {far} address add 10.201.0.2/24 dev veth-far"),
            format!("-n {near} link set lo up"),
            format!("-n {near} link set veth-near up"),
            format!("-n {far} link set veth-far up"),
        ] {
            run_ok(5, Command::new("ip").args(line.split(' ')));
        }
        Some(hosts)
    }

    fn on(host: &str, command: &Command) -> Command {
        let mut on = Command::new("ip");
        on.args(["netns", "exec", host]).arg(command.get_program()).args(command.get_args());
        on
    }

    /// From now on nothing gets through, either way, and nobody is told.
    fn cut(&self) {
        let filter = format!("-n {} link set veth-far down", self.far);
        run_ok(5, Command::new("ip").args(filter.split(' ')));
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        [&self.near, &self.far].into_iter().for_each(|host| delete(host));
    }
}

fn delete(host: &str) {
    let _ = Command::new("ip").args(["netns", "delete", host]).output();
}

/// Removes the hosts of tests that were killed.
fn sweep() {
    let Ok(namespaces) = fs::read_dir("/run/netns") else { return };
    for host in namespaces.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let id = host.strip_prefix("hawker-near-").or_else(|| host.strip_prefix("hawker-far-"));
        if id.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            delete(&host);
        }
    }
}

#[test]
fn f10_peers_who_vanish_without_a_word_are_missed() {
    let Some(hosts) = Hosts::new() else {
        println!("left out: only root may make network namespaces");
        return;
    };
    let cluster = Cluster::new();
    let config = cluster.path().join("origin.toml");
    let listening = fs::read_to_string(&config).unwrap().replace("'127.0.0.1:", "'0.0.0.0:");
    fs::write(&config, listening).unwrap();
    let origin = Process::spawn(&Hosts::on(&hosts.near, hawker().args(["serve", "--config"]).arg(&config)));
    origin.stderr.wait_line("listening");
    let from_near = |command: &mut Command| Process::spawn(&Hosts::on(&hosts.near, command));
    let from_far = |url: String, command: &mut Command| {
        Process::spawn(&Hosts::on(&hosts.far, command.arg(url.replace("127.0.0.1", NEAR_ADDRESS))))
    };
    let _publisher = from_near(hawker().args(["push", "--sample", &cluster.publish_url(STREAM)]));
    origin.stderr.wait_line("publisher connected");
    // Two are sent to, one sends, and one is idle.
    let curl = || {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--output", "/dev/null"]);
        curl
    };
    let watch = |url| from_far(url, hawker().args(["watch", "--secs", "60"]));
    let _viewers =
        [from_far(cluster.flv_url("origin", STREAM), &mut curl()), watch(cluster.watch_url("rtmp", "origin", STREAM))];
    let _vanishes = from_far(cluster.publish_url("live/other"), hawker().args(["push", "--sample"]));
    let lines = |needle: &str| origin.stderr.all().iter().filter(|line| line.contains(needle)).count();
    let wait = |needle: &str, count: usize| {
        origin
            .stderr
            .wait(needle, |lines| (lines.iter().filter(|line| line.contains(needle)).count() >= count).then_some(()));
    };
    wait("viewer joined", 2);
    wait("publisher connected", 2);
    assert_eq!(lines("viewer left") + lines("publisher gone"), 0);

    hosts.cut();
    let cut = clock::now();
    wait("reason=\"stalled\"", 2);
    let sending_s = cut.elapsed().as_secs_f32();
    wait("publisher gone", 1);
    let receiving_s = cut.elapsed().as_secs_f32();
    println!("missed after {sending_s:.1} s (both viewers) and {receiving_s:.1} s (the publisher)");
    assert!(sending_s <= 16.0, "viewers were missed after {sending_s} s");
    assert!(receiving_s <= 21.0, "the publisher was missed after {receiving_s} s");
}
