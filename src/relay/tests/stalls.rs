//! Sessions and tracks that nobody reads, and those beside them.

use super::*;
use crate::net::access::Revocable;

/// So little that a reader who stops holds the sender up at once.
const WINDOW_BYTES: u32 = 64 * 1024;

async fn session(node: &Node) -> Client {
    Client::connect_with_window(&node.url("moqt", "/"), &node.trust, 0, WINDOW_BYTES).await.expect("a session")
}

async fn subscribe(client: &Client, track: &str) -> Subscription {
    client.subscribe("open/room", track, 60, None).await.expect("sent")
}

fn with_patience(patience: Patience, access: Arc<dyn Access>) -> Node {
    let identity = Identity::development().expect("an identity");
    Node::with(SocketAddr::from(([127, 0, 0, 1], 0)), &identity, patience, access)
}

#[tokio::test]
async fn who_reads_gets_every_frame_whoever_else_does_not_and_every_event_whatever_he_leaves() {
    let patience = Patience::new(Duration::from_secs(1));
    let origin = with_patience(patience, Arc::new(Doors));
    let mut anchor = Anchor::new(&origin, "open/room");
    anchor.push(1);
    let [first, second, stopped] = &[session(&origin).await, session(&origin).await, session(&origin).await];
    // Who leaves a track unread needs room for it: what he promised to take, he is sent.
    let partial = &origin.client("moqt", "/").await;
    let mut reading = [subscribe(first, "video").await, subscribe(second, "video").await];
    let mut unread = [subscribe(stopped, "video").await, subscribe(partial, "video").await];
    let mut events = subscribe(partial, "events").await;
    for video in reading.iter_mut().chain(&mut unread) {
        next_frame(video).await.expect("the first picture");
    }
    let (mut pictures_waited, mut events_waited) = (Duration::ZERO, Duration::ZERO);
    // 4 MB: sixty windows.
    for n in 1..200u32 {
        let began = clock::now();
        let event = if n % 20 == 0 { Some(anchor.send_event(At::InMs(0)).await) } else { None };
        anchor.push_large(1, 20_000);
        for video in &mut reading {
            let (_, _, payload) = next_frame(video).await.expect("a picture");
            let (_, data) = read_legacy(payload).expect("a container");
            assert_eq!(u32::from(data[0]), n % 251, "a picture was left out");
        }
        pictures_waited = pictures_waited.max(began.elapsed());
        while let Some(event) = &event {
            let (_, _, records) = next_frame(&mut events).await.expect("records");
            if String::from_utf8_lossy(&records).contains(&event.head.id.to_string()) {
                break;
            }
        }
        events_waited = events_waited.max(began.elapsed());
    }
    println!(
        "the longest waits: {pictures_waited:?} for a picture, {events_waited:?} for an event beside unread pictures"
    );
    assert!(pictures_waited < patience.lag_max, "{pictures_waited:?}");
    assert!(events_waited < patience.lag_max, "{events_waited:?}");
    assert!(origin.relay.metrics.render().contains("hawker_viewers{protocol=\"moq\"} 4"), "somebody was dropped");
}

#[tokio::test]
async fn a_session_whose_token_is_revoked_goes_at_once_though_it_does_not_read() {
    let revoked = CancellationToken::new();
    let patience = Patience::new(Duration::from_secs(60));
    let origin = with_patience(patience, Arc::new(Revocable(revoked.clone())));
    let mut anchor = Anchor::new(&origin, "open/room");
    anchor.push(1);
    let client = session(&origin).await;
    let mut unread = subscribe(&client, "video").await;
    next_frame(&mut unread).await.expect("the first picture");
    anchor.push_large(100, 20_000);
    revoked.cancel();
    let why = timeout(Duration::from_secs(2), client.closed()).await.expect("within two seconds");
    assert!(why.to_string().contains("revoked"), "{why}");
}
