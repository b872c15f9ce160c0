//! F4: the origin is killed, and the one that stands by takes over.

use std::{process::Command, time::Duration};

use hawker::clock;
use serde_json::{Value, json};

use crate::common::{self, Cluster, FlvViewer, Process, hawker, run, text};

const ROOM: &str = "live/room";
const STREAM: &str = "streams/live/room";

/// From the kill to the next picture at a viewer of the edge. 3 s are promised; a machine that compiles beside it
/// is slower.
const GAP_MAX: Duration = Duration::from_secs(4);

/// The nodes' places in the cluster.
const A: &str = "origin";
const B: &str = "edge-2";

fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    common::wait_until(what, Duration::from_secs(15), is_so);
}

/// An anchor that dials a node again and again until he is taken.
fn push_until_taken(cluster: &Cluster, node: &str) -> Process {
    let push = format!("{} push --sample '{}'", hawker().get_program().display(), cluster.publish_url_at(node, ROOM));
    Process::spawn(Command::new("sh").args(["-c", &format!("until {push}; do sleep 0.1; done")]))
}

fn is_refused(cluster: &Cluster, node: &str) {
    let pushed = run(10, hawker().args(["push", "--sample", &cluster.publish_url_at(node, ROOM)]));
    let said = text(&pushed.stderr);
    assert!(!pushed.status.success() && said.contains("stands by for another"), "{said}");
    let (status, reply) = cluster.api_of(node).post(&format!("{STREAM}/events"), &card(0)).expect("an answer");
    assert_eq!((status, cluster.status(node, "/readyz")), (421, 503), "{reply}");
}

fn card(number: usize) -> Value {
    match number % 2 {
        0 => json!({"type": "card.show", "key": "card:main", "data": {"sku": format!("SKU-{number}")}}),
        _ => json!({"type": "gift.send", "data": {"n": number}}),
    }
}

fn member<'a>(event: &'a Value, key: &str) -> &'a Value {
    event.get(key).unwrap_or_else(|| panic!("no {key}: {event}"))
}

#[test]
fn f4_the_standby_takes_over_with_every_acknowledged_event_and_the_old_one_stands_by() {
    let cluster = Cluster::new();
    cluster.configure_pair("");
    let mut a = cluster.serve(A);
    let b = cluster.serve(B);
    wait_until("the standby has all", || cluster.metric(A, "hawker_journal_standby") == 1.0);
    let _edge = cluster.serve_edge("edge");
    let _anchor = cluster.push(ROOM);
    let viewer = FlvViewer::watch(&cluster.flv_url("edge", ROOM));
    viewer.wait_frames(1);
    is_refused(&cluster, B);

    let acknowledged: Vec<String> = (0..50).map(|number| cluster.api().accept(STREAM, &card(number))).collect();
    a.kill();
    let killed = clock::now();
    let _anchor_b = push_until_taken(&cluster, B);
    let before = viewer.look(|seen| seen.frames);
    viewer.wait("frames from the standby", |seen| (seen.frames > before + 2).then_some(()));
    let gap = killed.elapsed();
    eprintln!("frames again after {gap:?}");
    assert!(gap < GAP_MAX, "{gap:?}");
    b.stderr.wait_line("this one takes over");

    let logged = cluster.api_of(B).log(STREAM);
    let lost: Vec<_> = acknowledged.iter().filter(|event| !logged.contains(event)).collect();
    assert!(lost.is_empty(), "acknowledged, and not at the standby: {lost:#?}");
    let new = cluster.api_of(B).accept(STREAM, &json!({"type": "gift.send", "data": {"n": 50}}));
    let seq = |event: &str| member(&serde_json::from_str(event).unwrap(), "seq").as_u64().unwrap();
    assert!(acknowledged.iter().all(|event| seq(event) < seq(&new)));
    let (_, state) = cluster.api_of(B).get(&format!("{STREAM}/state"));
    assert!(state.contains("SKU-48"), "{state}");
    for event in acknowledged.iter().filter(|event| event.contains("gift.send")).chain([&new]) {
        let id = member(&serde_json::from_str(event).unwrap(), "id").as_str().unwrap().to_owned();
        viewer.wait("each event", |seen| seen.events.iter().any(|seen| seen.json == *event).then_some(()));
        assert_eq!(viewer.count(&id).0, 1, "{event}");
    }
    assert_eq!(viewer.look(|seen| seen.ended.clone()), None);

    // Its journal is older: it takes nothing, and is given what it lacks.
    let a = cluster.serve(A);
    a.stderr.wait_line("another node took over");
    is_refused(&cluster, A);
    wait_until("the old one has a copy", || cluster.api_of(A).log(STREAM).contains(&new));
    wait_until("and is the standby", || cluster.metric(B, "hawker_journal_standby") == 1.0);
}

#[test]
fn f4_alone_it_goes_on_and_says_so_or_refuses_if_told_to() {
    let cluster = Cluster::new();
    cluster.configure_pair("");
    let _a = cluster.serve(A);
    let mut b = cluster.serve(B);
    wait_until("together", || cluster.metric(A, "hawker_journal_standby") == 1.0);
    b.kill();
    let missed = cluster.api().accept(STREAM, &card(0));
    assert_eq!(cluster.metric(A, "hawker_journal_standby"), 0.0);
    let _b = cluster.serve(B);
    wait_until("together again", || cluster.metric(A, "hawker_journal_standby") == 1.0);
    assert_eq!(cluster.api_of(B).log(STREAM), [missed]);
}

#[test]
fn f4_where_the_standby_is_required_nothing_is_acknowledged_without_it() {
    let cluster = Cluster::new();
    cluster.configure_pair("required = true");
    let a = cluster.serve(A);
    a.stderr.wait_line("waits for its standby");
    is_refused(&cluster, A);
    let mut b = cluster.serve(B);
    wait_until("together", || cluster.metric(A, "hawker_journal_standby") == 1.0);
    let kept = cluster.api().accept(STREAM, &card(0));
    b.kill();
    let (status, reply) = cluster.api().post(&format!("{STREAM}/events"), &card(2)).expect("an answer");
    assert_eq!(status, 503, "{reply}");
    // What was not acknowledged may be there too, then at both.
    assert!(cluster.api().log(STREAM).contains(&kept));
    let _b = cluster.serve(B);
    wait_until("together again", || cluster.metric(A, "hawker_journal_standby") == 1.0);
    let logs = || [A, B].map(|node| cluster.api_of(node).log(STREAM));
    wait_until("both have the same", || {
        let [of_a, of_b] = logs();
        of_a == of_b && of_a.contains(&kept)
    });
}
