//! What becomes of a session's places, whatever becomes of the session.

use super::{publish::Publishing, *};
use crate::{
    config::Config,
    media::Codec,
    proto::{
        ice::{Path, Transport, stun},
        sdp::{self, Offer, Ssrcs},
    },
    server::Server,
};

/// A shard that receives nothing by itself.
fn shard() -> (Arc<Shard>, tempfile::TempDir) {
    let (free, data) = (SocketAddr::from(([127, 0, 0, 1], 0)), tempfile::tempdir().expect("a directory"));
    let mut config = Config { shards: 1, data_dir: Some(data.path().into()), ..Config::default() };
    (config.rtmp.listen, config.http.listen, config.moq.listen, config.webrtc.listen) = (free, free, free, free);
    config.admin.listen = SocketAddr::from(([127, 0, 0, 2], 0));
    let mut server = Server::bind(config).expect("free ports");
    let (udp, _) = server.ports.shards.pop().expect("a shard").webrtc;
    let (node, egress) = (server.node.clone(), server.node.egress());
    (Shard::new(node, egress, udp).expect("a socket"), data)
}

/// A publisher's session that nobody has come to yet, and a check of its peer.
fn start(shard: &Arc<Shard>) -> (ResourceId, Vec<u8>) {
    let (peer, local) = (shard.local([127, 0, 0, 1].into()), shard.local([127, 0, 0, 1].into()));
    let ssrcs = Ssrcs { video: 1, video_rtx: 2, audio: 3 };
    let offer = Offer::parse(&sdp::client::publish(&peer, Some(Codec::Avc), None, ssrcs)).expect("our own");
    let (_, terms) = sdp::publish::answer(&offer, &local, &[Codec::Avc]).expect("acceptable");
    let (from, name) = (SocketAddr::from(([127, 0, 0, 1], 9)), "live/room".parse::<StreamName>().expect("a name"));
    let publishing = Publishing::new(&shard.node, name.clone(), terms.clone(), from, &Grant::default());
    let place = shard.node.webrtc.viewers.pending.admit(from.ip()).expect("a place");
    let id = shard.start(name, &local, &terms, Role::Publish(Box::new(publishing)), Grant::default(), place);
    let username = format!("{}:{}", local.ice.ufrag, peer.ice.ufrag);
    let request =
        stun::Request { transaction: [1; 12], username: &username, priority: 1, tie_breaker: 1, use_candidate: true };
    (id, request.write(&stun::integrity_key(&local.ice.pwd)))
}

#[tokio::test]
async fn a_panic_ends_its_own_session_and_leaves_no_place_taken() {
    let (shard, _data) = shard();
    let webrtc = &shard.node.webrtc;
    let ((broken, its_check), (other, others_check)) = (start(&shard), start(&shard));
    let path =
        |port| Path { remote: ([127, 0, 0, 1], port).into(), local: shard.door.address, transport: Transport::Udp };
    assert!(shard.door.handle(path(1), &its_check) && shard.door.handle(path(2), &others_check));
    tokio::task::yield_now().await;
    assert!(shard.door.knows(&path(1)) && shard.door.knows(&path(2)) && webrtc.viewers.pending.taken() == 2);

    let panics = task::panics();
    let commands = webrtc.resources.lock().get(&broken).expect("listed").commands.clone();
    commands.send(Command::Panic).await.expect("it listens");
    commands.closed().await;
    tokio::task::yield_now().await;
    assert!(task::panics() > panics, "counted");
    assert_eq!(webrtc.resources.lock().keys().copied().collect::<Vec<_>>(), [other]);
    assert_eq!(webrtc.viewers.pending.taken(), 1);
    assert!(!shard.door.handle(path(1), &its_check) && !shard.door.knows(&path(1)), "its name and its way are gone");
    assert!(shard.door.handle(path(2), &others_check) && shard.door.knows(&path(2)), "the other goes on");
}

#[tokio::test]
async fn a_way_that_another_session_took_comes_back_with_the_next_check() {
    let (shard, _data) = shard();
    let ((_, ours), (rival, theirs)) = (start(&shard), start(&shard));
    let path = Path { remote: ([127, 0, 0, 1], 1).into(), local: shard.door.address, transport: Transport::Udp };
    for check in [&ours, &theirs, &ours] {
        assert!(shard.door.handle(path, check));
        tokio::task::yield_now().await;
    }
    let commands = shard.node.webrtc.resources.lock().get(&rival).expect("listed").commands.clone();
    commands.send(Command::Close).await.expect("it listens");
    commands.closed().await;
    tokio::task::yield_now().await;
    assert!(shard.door.knows(&path), "it is ours again, so the rival's end doesn't touch it");
}
