//! Bad links between a node and its viewers over MoQ.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use hawker::{
    clock,
    proto::moq::container::read_legacy,
    relay::{Client, Received},
    task,
};
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::node::{Anchor, Plan, RATE, World, is_unharmed, room, wait};
use crate::common::{Impairment, Link, fault_seed};

/// With keyframes and sound 0.58 Mbit/s: what CUBIC gets out of 1.5 Mbit/s with 10 % loss is not much more.
const PICTURE_BYTES: usize = 2000;

/// Viewers of a test, each with a link of his own.
const GUESTS: u64 = 8;

/// The promise is a second, and is printed; this is what a machine that runs other tests beside it must keep.
const LATE_MAX: Duration = Duration::from_secs(3);

/// A viewer over MoQ, and what came to him.
struct Guest {
    client: Arc<Client>,
    link: Link,
    tracks: Arc<Mutex<Tracks>>,
    _reading: [AbortOnDropHandle<()>; 2],
}

#[derive(Default)]
struct Tracks {
    /// When each frame came, by its number.
    video: HashMap<u64, Instant>,
    audio: HashMap<u64, Instant>,
    newest_video: u64,
    harmed: usize,
}

impl Guest {
    async fn new(node: &super::Node, impairment: Impairment) -> Self {
        let link = Link::start(node.address, impairment);
        let client = Arc::new(node.client_at(link.addr).await);
        let tracks = Arc::new(Mutex::new(Tracks::default()));
        let mut reading = Vec::new();
        for (track, priority) in [("video", 60), ("audio", 80)] {
            let mut subscription = client.subscribe("room", track, priority, None).await.unwrap();
            let tracks = tracks.clone();
            reading.push(AbortOnDropHandle::new(task::spawn("guest", async move {
                while let Some(received) = subscription.next().await {
                    let Received::Frame { payload, .. } = received else { continue };
                    let (_, data) = read_legacy(payload).unwrap();
                    let number = u64::from_be_bytes(data[..8].try_into().unwrap());
                    let (now, mut tracks) = (clock::now().into_std(), tracks.lock());
                    tracks.harmed += usize::from(!is_unharmed(&data));
                    if track == "video" {
                        tracks.video.insert(number, now);
                        tracks.newest_video = tracks.newest_video.max(number);
                    } else {
                        tracks.audio.insert(number, now);
                    }
                }
            })));
        }
        Self { client, link, tracks, _reading: reading.try_into().unwrap_or_else(|_| unreachable!("two")) }
    }
}

/// A node with two shards, an anchor and viewers behind links of this kind, after `secs`.
struct Scene {
    guests: Vec<Guest>,
    /// What a viewer without a link saw, and when.
    truth: super::Watcher,
    _anchor: Anchor,
    _node: super::Node,
}

impl Scene {
    async fn new(impairment: Impairment) -> Self {
        let world = World::new();
        let node = world.start(Plan { shards: 2, ..Plan::default() });
        let anchor = Anchor::new(&[&node], PICTURE_BYTES);
        let truth = node.watch();
        wait("the stream", || node.hub.is_announced(&room()) && truth.count() > 0).await;
        let mut guests = Vec::new();
        for n in 0..GUESTS {
            guests.push(Guest::new(&node, Impairment { seed: impairment.seed.wrapping_add(n), ..impairment }).await);
        }
        Self { guests, truth, _anchor: anchor, _node: node }
    }

    /// Groups of pictures, and how many of them all of whose pictures came to a guest within `late_max`.
    fn groups(&self, late_max: Duration) -> (usize, usize) {
        let sent: HashMap<u64, Instant> =
            self.truth.seen.lock().pictures.iter().map(|shown| (shown.number, shown.at)).collect();
        let newest = sent.keys().max().copied().unwrap_or_default();
        let (mut all, mut whole) = (0, 0);
        for guest in &self.guests {
            let tracks = guest.tracks.lock();
            let first = tracks.video.keys().min().copied().unwrap_or(newest).div_ceil(RATE);
            // Those that had the time to come late.
            for group in first..(newest.saturating_sub(3 * RATE)) / RATE {
                all += 1;
                let in_time = |number: u64| {
                    tracks.video.get(&number).is_some_and(|at| at.saturating_duration_since(sent[&number]) <= late_max)
                };
                whole += usize::from((group * RATE..(group + 1) * RATE).all(in_time));
            }
        }
        (all, whole)
    }

    /// Sounds from each guest's first one to number `last`: all, those within a second, and those that did not come.
    fn sounds(&self, last: u64) -> (usize, usize, usize) {
        let sent: HashMap<u64, Instant> =
            self.truth.seen.lock().pictures.iter().map(|shown| (shown.number, shown.at)).collect();
        let (mut all, mut in_time, mut lost) = (0, 0, 0);
        for guest in &self.guests {
            let tracks = guest.tracks.lock();
            let first = tracks.audio.keys().min().copied().unwrap_or_default();
            for number in first..=last {
                all += 1;
                // Each is sent with the picture of its number.
                let late = tracks.audio.get(&number).map(|at| at.saturating_duration_since(sent[&number]));
                lost += usize::from(late.is_none());
                in_time += usize::from(late.is_some_and(|late| late <= Duration::from_secs(1)));
            }
        }
        (all, in_time, lost)
    }

    fn assert_sessions(&self) {
        assert!(self.guests.iter().all(|guest| !guest.client.is_closed()), "a session ended");
        assert_eq!(self.guests.iter().map(|guest| guest.tracks.lock().harmed).sum::<usize>(), 0, "wrong bytes");
    }
}

async fn run(secs: u64) {
    tokio::time::sleep(Duration::from_secs(secs)).await;
}

#[tokio::test]
async fn f6_over_a_link_that_loses_two_percent_groups_come_within_a_second() {
    let impairment = Impairment {
        seed: fault_seed(),
        loss_percent: 2.0,
        delay: Duration::from_millis(25),
        bits_per_s: Some(1_500_000),
        ..Impairment::default()
    };
    let scene = Scene::new(impairment).await;
    run(14).await;
    scene.assert_sessions();
    let [(all, in_time), (_, whole)] = [Duration::from_secs(1), LATE_MAX].map(|late_max| scene.groups(late_max));
    eprintln!("2 % loss: {in_time} of {all} groups within 1 s, {whole} within {LATE_MAX:?}");
    // One in two hundred may be later; of so few that is one, and another for the machine.
    assert!(all >= 60 && whole == all && in_time + 2 >= all, "{in_time} and {whole} of {all}");
}

#[tokio::test]
async fn f6_over_a_link_that_loses_ten_percent_sound_comes_whole_and_the_picture_stays_new() {
    let impairment = Impairment {
        seed: fault_seed(),
        loss_percent: 10.0,
        delay: Duration::from_millis(25),
        bits_per_s: Some(1_500_000),
        ..Impairment::default()
    };
    let scene = Scene::new(impairment).await;
    run(11).await;
    let last = scene.truth.seen.lock().pictures.last().unwrap().number;
    // What is lost again and again comes late.
    run(5).await;
    scene.assert_sessions();
    let (all, in_time, lost) = scene.sounds(last);
    eprintln!("10 % loss: {in_time} of {all} sounds within 1 s, {lost} lost");
    // One in two hundred may be lost over a long time; a group that is given up is as many of these.
    assert!(all > 1000 && lost * 50 <= all, "{lost} of {all} lost");
    let newest = scene.truth.seen.lock().pictures.last().unwrap().number;
    for guest in &scene.guests {
        let behind = newest - guest.tracks.lock().newest_video;
        // A group is given up after three seconds.
        assert!(behind <= 4 * RATE, "{behind} pictures behind");
    }
}

#[tokio::test]
async fn f6_sessions_survive_a_link_that_drops_out_for_two_seconds() {
    let scene = Scene::new(Impairment { delay: Duration::from_millis(25), ..Impairment::default() }).await;
    for _ in 0..2 {
        run(5).await;
        scene.guests.iter().for_each(|guest| guest.link.cut(true));
        run(2).await;
        scene.guests.iter().for_each(|guest| guest.link.cut(false));
    }
    // A sender asks again ever less often, in the end as long after it as it waited before.
    run(4).await;
    scene.assert_sessions();
    let newest = scene.truth.seen.lock().pictures.last().unwrap().number;
    for guest in &scene.guests {
        let behind = newest - guest.tracks.lock().newest_video;
        assert!(behind <= RATE, "{behind} pictures behind after four seconds");
    }
}

#[tokio::test]
async fn f6_viewers_whose_address_changes_lose_nothing_on_whichever_shard_it_lands() {
    let scene = Scene::new(Impairment { delay: Duration::from_millis(5), ..Impairment::default() }).await;
    run(2).await;
    for _ in 0..8 {
        scene.guests.iter().for_each(|guest| guest.link.rebind());
        run(1).await;
    }
    run(2).await;
    scene.assert_sessions();
    eprintln!("rebound each second: (groups, within 1 s): {:?}", scene.groups(Duration::from_secs(1)));
    let (all, whole) = scene.groups(LATE_MAX);
    assert!(all >= 20 && whole == all, "{whole} of {all}");
}

#[tokio::test]
async fn f6_over_a_link_that_corrupts_no_wrong_byte_comes() {
    let impairment = Impairment { seed: fault_seed(), corrupt_percent: 2.0, ..Impairment::default() };
    let scene = Scene::new(impairment).await;
    run(6).await;
    scene.assert_sessions();
    let (all, whole) = scene.groups(LATE_MAX);
    assert!(all >= 5 && whole == all, "{whole} of {all}");
}

#[tokio::test]
async fn f23_a_path_that_takes_only_short_packets_from_now_on_interrupts_for_a_moment() {
    let scene = Scene::new(Impairment { delay: Duration::from_millis(5), ..Impairment::default() }).await;
    // The path is known to take long ones by then.
    run(3).await;
    scene.guests.iter().for_each(|guest| guest.link.shrink(1280));
    run(6).await;
    scene.assert_sessions();
    let lost: u64 = scene.guests.iter().map(|guest| guest.link.carried_and_lost().1).sum();
    assert!(lost > 0, "no packet was too long");
    for guest in &scene.guests {
        let mut times: Vec<_> = guest.tracks.lock().video.values().copied().collect();
        times.sort();
        let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        eprintln!("MTU drop: without a picture for {gap:?}");
        assert!(gap <= Duration::from_secs(1), "{gap:?} without a picture");
    }
}
