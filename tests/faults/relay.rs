//! Edges in trouble: their upstream falls silent, dies or drains, strangers pretend to be edges, links are bad.

mod links;
mod node;

use std::time::Duration;

use hawker::hub::At;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

use self::node::{Anchor, Node, Plan, ROOM, Watcher, World, room, wait};
use crate::common::{Authority, Impairment, Link, fault_seed};

/// Edges whose failover is measured at once.
const EDGES: usize = 8;

/// How long viewers may be without a picture: the promise, and what a machine that runs other tests may add.
const FAILOVER_MAX: Duration = Duration::from_millis(2000);

/// Prints how long viewers were without a picture, and asks that it was short.
fn assert_short(what: &str, watchers: &[Watcher]) {
    let mut gaps: Vec<_> = watchers.iter().map(|watcher| watcher.seen.lock().gap_max()).collect();
    gaps.sort();
    let (median, worst) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    eprintln!("{what}: without a picture for {median:?} (p50), {worst:?} (worst of {})", gaps.len());
    assert!(worst <= FAILOVER_MAX, "{what}: {gaps:?}");
}

async fn flows(watchers: &[Watcher], pictures: usize) {
    for watcher in watchers {
        let from = watcher.count();
        watcher.wait("pictures", |seen| seen.pictures.len() >= from + pictures).await;
    }
}

async fn send_events(node: &Node, count: u64) -> Vec<u64> {
    let mut seqs = Vec::new();
    for n in 0..count {
        let draft = json!({"type": "prompt.show", "op": "fire", "data": {"n": n}});
        let draft = draft.as_object().unwrap().clone();
        seqs.push(node.hub.publish_event(&room(), draft, Some(At::InMs(0))).await.unwrap().event.head.seq);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    seqs
}

#[tokio::test]
async fn f3_edges_whose_upstream_falls_silent_go_on_from_the_next_and_miss_nothing() {
    let (world, mut dice) = (World::new(), StdRng::seed_from_u64(fault_seed()));
    let first = world.origin();
    let second = world.edge(&[first.address]);
    let _anchor = Anchor::new(&[&first], 2000);
    let links: Vec<_> = (0..EDGES).map(|_| Link::start(first.address, Impairment::default())).collect();
    let edges: Vec<_> = links.iter().map(|link| world.edge(&[link.addr, second.address])).collect();
    wait("announcements", || edges.iter().all(|edge| edge.hub.is_announced(&room()))).await;
    let watchers: Vec<_> = edges.iter().map(Node::watch).collect();
    flows(&watchers, 40).await;
    let events = tokio::join!(send_events(&first, 20), async {
        for link in &links {
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..60))).await;
            link.cut(true);
        }
        flows(&watchers, 60).await;
    });
    assert_eq!(first.viewers(), 1, "only the second pulls from the first now");
    for watcher in &watchers {
        watcher.wait("the last event", |seen| seen.events.len() >= events.0.len()).await;
        let seen = watcher.seen.lock();
        seen.assert_whole("a viewer");
        assert_eq!(seen.events, events.0, "each event once, in order");
    }
    assert_short("a silent upstream", &watchers);

    links.iter().for_each(|link| link.cut(false));
    wait("the way back to the preferred one", || first.viewers() == 1 + EDGES).await;
    flows(&watchers, 30).await;
    for watcher in &watchers {
        watcher.seen.lock().assert_whole("a viewer whose stream went back");
    }
}

#[tokio::test]
async fn f3_edges_whose_origin_is_killed_go_on_from_another_one_at_a_keyframe() {
    let world = World::new();
    let (first, second) = (world.origin(), world.origin());
    let _anchor = Anchor::new(&[&first, &second], 2000);
    let edges: Vec<_> = (0..EDGES).map(|_| world.edge(&[first.address, second.address])).collect();
    wait("announcements", || edges.iter().all(|edge| edge.hub.is_announced(&room()))).await;
    // Whoever found the second one first goes on with the first after a while.
    let watchers: Vec<_> = edges.iter().map(Node::watch).collect();
    wait("the preferred one", || first.viewers() == EDGES && second.viewers() == 0).await;
    flows(&watchers, 40).await;
    drop(first);
    flows(&watchers, 60).await;
    assert_eq!(second.viewers(), EDGES);
    for watcher in &watchers {
        let seen = watcher.seen.lock();
        seen.assert_in_order("a viewer");
        assert!(!seen.ended);
        let jump = seen.pictures.windows(2).find(|pair| pair[1].number != pair[0].number + 1).unwrap();
        assert!(jump[1].number > jump[0].number && jump[1].keyframe, "{jump:?}");
    }
    assert_short("a killed origin", &watchers);
}

#[tokio::test]
async fn f14_an_edge_leaves_an_upstream_that_drains_before_that_closes_and_misses_nothing() {
    let world = World::new();
    let origin = world.origin();
    let (near, other) = (world.edge(&[origin.address]), world.edge(&[origin.address]));
    let far = world.edge(&[near.address, other.address]);
    let _anchor = Anchor::new(&[&origin], 2000);
    wait("the announcement", || far.hub.is_announced(&room())).await;
    let watcher = far.watch();
    wait("the preferred one", || near.viewers() == 1).await;
    let guest = near.client_at(near.address).await;
    flows(std::slice::from_ref(&watcher), 40).await;
    near.drain.cancel();
    tokio::time::timeout(Duration::from_secs(1), guest.goaway()).await.expect("viewers over MoQ are told as well");
    wait("the edge to have gone elsewhere", || near.viewers() == 0 && other.viewers() == 1).await;
    flows(std::slice::from_ref(&watcher), 40).await;
    drop(near);
    flows(std::slice::from_ref(&watcher), 40).await;
    watcher.seen.lock().assert_whole("the viewer");
    let gap = watcher.seen.lock().gap_max();
    assert!(gap < Duration::from_millis(500), "{gap:?} without a picture");
}

#[tokio::test]
async fn nodes_that_are_each_others_upstreams_pass_streams_on_and_never_round() {
    let world = World::new();
    let places: Vec<_> = (0..3).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = places.iter().map(|place| place.local_addr().unwrap()).collect();
    drop(places);
    let ring: Vec<_> = (0..3)
        .map(|n| {
            let upstreams = vec![addresses[(n + 1) % 3], addresses[(n + 2) % 3]];
            world.start(Plan { upstreams, listen: Some(addresses[n]), ..Plan::default() })
        })
        .collect();
    let anchor = Anchor::new(&[&ring[0]], 2000);
    wait("the announcement", || ring.iter().all(|node| node.hub.is_announced(&room()))).await;
    let watchers: Vec<_> = ring.iter().map(Node::watch).collect();
    flows(&watchers, 40).await;
    for watcher in &watchers {
        watcher.seen.lock().assert_whole("a viewer");
    }
    let total = || ring.iter().map(Node::viewers).sum::<usize>();
    wait("each other node to pull it once", || total() == watchers.len() + 2).await;
    anchor.unpublish().await;
    for watcher in &watchers {
        watcher.wait("the end", |seen| seen.ended).await;
    }
    assert!(ring.iter().all(|node| !node.hub.is_announced(&room())), "nobody has it from another one");
}

#[tokio::test]
async fn a_thousand_viewers_of_streams_that_do_not_exist_put_nothing_on_the_link_to_the_upstream() {
    let world = World::new();
    let origin = world.origin();
    let link = Link::start(origin.address, Impairment::default());
    let edge = world.edge(&[link.addr]);
    let _anchor = Anchor::new(&[&origin], 2000);
    wait("the announcement", || edge.hub.is_announced(&room())).await;
    let before = link.carried_and_lost().0;
    let viewers: Vec<_> = (0..1000)
        .map(|n| edge.hub.view(&format!("open/none-{n}").parse().unwrap()).expect("a place to wait"))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let carried = link.carried_and_lost().0 - before;
    assert!(carried < 50, "{carried} packets; keep-alives are some ten");
    assert_eq!(origin.viewers(), 0);
    drop(viewers);
    assert!(edge.hub.get(&"open/none-1".parse().unwrap()).is_none(), "and leave nothing behind");
}

#[tokio::test]
async fn edges_are_known_by_certificates_and_viewers_need_none() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let [good, wrong, old] = [ours.edge(dir.path(), 9), other.edge(dir.path(), 9), ours.edge(dir.path(), -1)];
    let origin = world.start(Plan { edge_ca: Some(dir.path().join("ours.ca")), ..Plan::default() });
    let _anchor = Anchor::new(&[&origin], 2000);
    let edge = |shows| world.start(Plan { upstreams: vec![origin.address], shows, ..Plan::default() });
    let refused = [edge(None), edge(Some(wrong)), edge(Some(old))];
    let known = edge(Some(good));
    wait("the announcement", || known.hub.is_announced(&room())).await;
    let watcher = known.watch();
    flows(std::slice::from_ref(&watcher), 30).await;

    let has = |reason: &str| {
        let (metrics, counted) = (origin.metrics.render(), format!("refused_total{{reason=\"{reason}\"}} "));
        metrics.contains(&counted)
    };
    wait("the token alone to be refused", || has("edge_certificate")).await;
    wait("the wrong certificates to be refused", || has("moq_handshake")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(refused.iter().all(|edge| !edge.hub.is_announced(&room())));

    let guest = origin.client_at(origin.address).await;
    let mut video = guest.subscribe("room", "video", 60, None).await.unwrap();
    assert!(video.next().await.is_some(), "a viewer is served");
    let mut line = guest.subscribe("room", "line", 60, None).await.unwrap();
    assert!(line.next().await.is_none(), "but not like an edge: {ROOM}");
}
