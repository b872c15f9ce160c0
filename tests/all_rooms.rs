//! Events for all rooms of an organisation: one call, one object to each edge, once to every viewer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "how tests fail")]

mod common;

use std::process::Command;

use common::{Cluster, FlvViewer, Process, run_ok};
use hawker::clock;
use serde_json::json;

const ROOMS: [&str; 3] = ["live/a", "live/b", "live/c"];
const ELSEWHERE: &str = "shop/a";
const EDGES: [&str; 2] = ["edge", "edge-2"];

/// An origin on which four rooms are live.
struct Mall {
    cluster: Cluster,
    _origin: Process,
    _anchors: Vec<Process>,
}

impl Mall {
    fn open() -> Self {
        let cluster = Cluster::new();
        let origin = cluster.serve("origin");
        let anchors = ROOMS.iter().chain([&ELSEWHERE]).map(|room| cluster.push(room)).collect();
        Self { cluster, _origin: origin, _anchors: anchors }
    }

    fn watch(&self, edge: &str, room: &str) -> FlvViewer {
        let viewer = FlvViewer::watch(&self.cluster.flv_url(edge, room));
        viewer.wait_frames(1);
        viewer
    }

    /// A viewer of each of the organisation's rooms.
    fn watch_all(&self, edge: &str) -> [FlvViewer; 3] {
        ROOMS.map(|room| self.watch(edge, room))
    }

    /// Rain over all rooms, for as long as the test takes.
    fn rain(&self) -> String {
        let rain = json!({
            "type": "rain.start", "data": {"n": 1}, "time": {"duration_ms": 60_000},
            "at": {"wall_ms": clock::unix_ms() + 200},
        });
        self.cluster.api().accept("orgs/live", &rain)
    }

    fn cancel(&self, event: &str) -> String {
        let (status, reply) = self.cluster.api().delete(&format!("orgs/live/events/{}", id(event))).expect("an answer");
        assert_eq!(status, 200, "{reply}");
        reply
    }

    /// What the origin has written of a stream to its edges.
    fn frames_out(&self, stream: &str) -> u64 {
        let url = format!("http://127.0.0.1:{}/metrics", self.cluster.port("origin") + 2);
        let metrics = run_ok(5, Command::new("curl").args(["--silent", "--fail", &url]));
        let series = format!("hawker_frames_out_total{{stream=\"{stream}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
    }
}

#[test]
fn one_call_reaches_every_viewer_once_over_one_object_per_edge() {
    let mall = Mall::open();
    let _edges = EDGES.map(|edge| mall.cluster.serve_edge(edge));
    let viewers = EDGES.map(|edge| mall.watch_all(edge));
    let stranger = mall.watch("edge", ELSEWHERE);
    let first = mall.rain();
    viewers.iter().flatten().for_each(|viewer| assert_comes(viewer, &first));
    let before = mall.frames_out("live/_global");

    let rain = mall.rain();
    viewers.iter().flatten().for_each(|viewer| assert_comes(viewer, &rain));
    let objects = mall.frames_out("live/_global") - before;
    // The event, and the empty frame that carries it.
    assert_eq!(objects, 2 * EDGES.len() as u64, "however many the rooms");

    // Into the next group: a joiner gets his from its beginning, and what happened in it in its place.
    viewers[0][0].wait_frames(60);
    let joiners = EDGES.map(|edge| mall.watch(edge, ROOMS[0]));
    joiners.iter().for_each(|joiner| assert_replayed(joiner, &rain));
    let cancel = mall.cancel(&rain);
    viewers.iter().flatten().chain(&joiners).for_each(|viewer| assert_comes(viewer, &cancel));
    viewers[0][0].wait_frames(60);
    let late = EDGES.map(|edge| mall.watch(edge, ROOMS[1]));
    for viewer in &late {
        assert_eq!(viewer.count(id(&rain)), (0, 0), "it is over");
        assert_replayed(viewer, &first);
    }
    for event in [&first, &rain, &cancel] {
        viewers.iter().flatten().for_each(|viewer| assert_eq!(viewer.count(id(event)), (1, 0), "{event}"));
        assert_eq!(stranger.count(id(event)), (0, 0), "another organisation's");
    }
}

#[test]
fn an_edge_that_comes_late_or_comes_back_knows_what_is_so_in_all_rooms() {
    let mall = Mall::open();
    let rain = mall.rain();
    let mut edge = mall.cluster.serve_edge("edge");
    let first = mall.watch("edge", ROOMS[0]);
    assert_told(&first, &rain);
    first.wait_frames(60);
    assert_replayed(&mall.watch("edge", ROOMS[1]), &rain);
    edge.kill();
    let _edge = mall.cluster.serve_edge("edge");
    let viewers = mall.watch_all("edge");
    viewers.iter().for_each(|viewer| assert_told(viewer, &rain));
    let cancel = mall.cancel(&rain);
    viewers.iter().for_each(|viewer| assert_comes(viewer, &cancel));
}

/// As it happens, with the origin's bytes.
fn assert_comes(viewer: &FlvViewer, event: &str) {
    let came = |replay: bool, json: &str| !replay && json == event;
    viewer.wait(event, |seen| seen.events.iter().any(|event| came(event.replay, &event.json)).then_some(()));
}

/// Once, in a snapshot or, by an edge that has only just begun, as if it happened now.
fn assert_told(viewer: &FlvViewer, event: &str) {
    viewer.wait(event, |seen| seen.events.iter().any(|carried| carried.json == event).then_some(()));
    let (happened, replayed) = viewer.count(id(event));
    assert_eq!(happened + replayed, 1, "{event}");
}

/// In the snapshot before the first frame, and only there.
fn assert_replayed(viewer: &FlvViewer, event: &str) {
    viewer.look(|seen| {
        let of_id = |json: &str| json.contains(id(event));
        let carried: Vec<_> = seen.events.iter().filter(|event| of_id(&event.json)).collect();
        assert_eq!(carried.len(), 1, "{event} among {:#?}", seen.events);
        assert_eq!((carried[0].replay, carried[0].frame, carried[0].json.as_str()), (true, 0, event));
    });
}

fn id(event: &str) -> &str {
    let (_, rest) = event.split_once("\"id\":\"").expect("an id");
    rest.split_once('"').expect("an end").0
}
