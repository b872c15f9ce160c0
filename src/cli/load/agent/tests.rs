use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::*;
use crate::{
    cli::load::{
        events::EventLog,
        media::Mark,
        observer::{Board, Identity, Observer},
        tally::Tally,
    },
    media::TrackKind,
};

/// What this command line asks for.
fn asked(arguments: &[&str]) -> (Args, Plan) {
    plan(arguments.iter().map(ToString::to_string).collect()).expect("understood")
}

#[test]
fn distributions_arrive_as_they_were() {
    let mut tally = Tally::default();
    (0..1000).for_each(|n| tally.latency_us.saturating_record_n(n * n, n));
    tally.join_us.saturating_record(81_234);
    tally.counts.frames = 7;
    assert!(tally.fail("refused"));
    let line = serde_json::to_string(&tally).expect("JSON");
    let arrived: Tally = serde_json::from_str(&line).expect("the same");
    assert_eq!(arrived.into_viewers(), tally.into_viewers());
    let most = r#"{"counts":{},"playing":1,"join_us":[[18446744073709551615,18446744073709551615]],"latency_us":[],"recent_us":[]}"#;
    assert!(serde_json::from_str::<Tally>(most).is_ok(), "bounded, whatever is sent");
}

#[test]
fn machines_share_what_was_asked_for() {
    let (all, whole) = asked(&[
        "--watch=http://127.0.0.1:1/live/{n}.flv",
        "--watch=rtmp://127.0.0.1:1/live/{n}",
        "--publishers=3",
        "--viewers=1000",
        "--storm=5@1",
        "--churn=10",
        "--slow=10",
        "--cert-sha256=0000000000000000000000000000000000000000000000000000000000000000",
        "--secs=8",
    ]);
    let parts: Vec<_> = (0..3).map(|nth| all.part(nth, 3)).collect();
    let typed: Vec<_> = parts.iter().map(|part| plan(part.to_watch()).expect("understood")).collect();
    for (part, (args, _)) in parts.iter().zip(&typed) {
        assert_eq!(args.to_watch(), part.to_watch());
        assert_eq!(args.cert_sha256, all.cert_sha256);
        assert_eq!((args.ramp, args.churn), (Some(5.0), 10.0 / 3.0));
    }
    assert_eq!(typed.iter().map(|(args, _)| args.viewers).sum::<usize>(), 1000);
    assert_eq!(typed.iter().map(|(args, _)| args.storm_viewers()).sum::<usize>(), 5);
    let visits = typed.iter().map(|(_, plan)| plan.visits.len()).sum::<usize>();
    assert!(visits.abs_diff(whole.visits.len()) <= 3, "{visits}");
}

#[test]
fn a_controller_can_only_make_an_agent_watch() {
    let watch = "--watch=rtmp://127.0.0.1:1/live/a";
    let (args, plan) = asked(&[watch, "--publish=rtmp://127.0.0.1:1/live/b", "--pid=1", "--events=5"]);
    assert!(plan.publish.is_empty() && plan.streams.is_empty() && args.pid.is_empty());
    for wrong in [&["--viewers=0", "--watch=rtmp://127.0.0.1:1/a"][..], &["--secs=1e300"], &["--unknown"], &[]] {
        assert!(super::plan(wrong.iter().map(ToString::to_string).collect()).is_err(), "{wrong:?}");
    }
}

#[test]
fn latency_is_told_by_the_publisher_s_clock() {
    const HOUR_US: i64 = 3_600_000_000;
    let board = Arc::new(Board::far(1, HOUR_US));
    let identity = Identity { address: 0, is_sampled: true, is_slow: false, events: Arc::default() };
    let mut observer = Observer::new(board.clone(), identity);
    observer.connected();
    for number in 0..2 {
        observer.arrived(100);
        let mark = Mark { number, clock_us: clock::unix_us() - HOUR_US };
        observer.frame(TrackKind::Video, number == 0, Some(mark));
    }
    let latency_us = &board.tallies()[0].lock().latency_us;
    assert!(!latency_us.is_empty() && latency_us.max() < 1_000_000, "{}", latency_us.max());
}

#[tokio::test(start_paused = true)]
async fn a_viewer_misses_what_was_sent_elsewhere() {
    let (origin, here) = (EventLog::default(), Arc::new(EventLog::default()));
    let board = Arc::new(Board::far(1, 0));
    let identity = Identity { address: 0, is_sampled: false, is_slow: false, events: here.clone() };
    let mut sent = origin.watch();
    let mut observer = Observer::new(board.clone(), identity);
    origin.begin();
    origin.acknowledge();
    here.follow(*sent.borrow_and_update());
    observer.connected();
    observer.frame(TrackKind::Video, true, None);
    // The second was on its way when he came, which is heard here later.
    for wait_ms in [100, 1000, 100] {
        tokio::time::advance(Duration::from_millis(wait_ms)).await;
        origin.begin();
        origin.acknowledge();
        here.follow(*sent.borrow_and_update());
    }
    assert_eq!((here.begun(), here.acknowledged_before(clock::now())), (4, 4));
    observer.event(4);
    assert_eq!(board.tallies()[0].lock().counts.events_lost, 1, "the third");
}

#[tokio::test]
async fn a_clock_that_is_ahead_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    task::spawn("agent of another age", async move {
        let (socket, _) = listener.accept().await.expect("a controller");
        let (reader, mut writer) = wire::split(socket).expect("a socket");
        let mut reader = reader.trust();
        while let Ok(order) = reader.next().await {
            let answer = match order {
                Order::Clock => Answer::Clock { unix_us: clock::unix_us() - 3_600_000_000 },
                _ => Answer::Ready,
            };
            writer.say(&answer).await.expect("said");
        }
    });
    let (args, _) = asked(&["--watch=rtmp://127.0.0.1:1/live/a"]);
    let agent = Agent::recruit(&address, &Secret::new("t"), &args).await.expect("fit");
    let (ahead_us, round_trip_us) = agent.clock();
    let allowed_us = i64::try_from(round_trip_us).expect("short") / 2 + 1000;
    assert!((ahead_us + 3_600_000_000).abs() <= allowed_us, "{ahead_us} {round_trip_us}");
}

#[tokio::test]
async fn an_agent_that_falls_silent_is_lost_while_events_are_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    task::spawn("frozen agent", async move {
        let (socket, _) = listener.accept().await.expect("a controller");
        let (reader, mut writer) = wire::split(socket).expect("a socket");
        let mut reader = reader.trust();
        while let Ok(order) = reader.next().await {
            match order {
                Order::Clock => writer.say(&Answer::Clock { unix_us: clock::unix_us() }).await.expect("said"),
                Order::Hello { .. } | Order::Plan { .. } => writer.say(&Answer::Ready).await.expect("said"),
                _ => {}
            }
        }
    });
    let (args, _) = asked(&["--watch=rtmp://127.0.0.1:1/live/a"]);
    let agent = Agent::recruit(&address, &Secret::new("t"), &args).await.expect("fit");
    let (log, board, stop) = (Arc::<EventLog>::default(), Arc::new(Board::new(1)), CancellationToken::new());
    tokio::time::pause();
    let following = agent.follow(clock::now(), vec![log.clone()], board, stop);
    let sending = async {
        for _ in 0..600 {
            sleep(Duration::from_millis(100)).await;
            log.begin();
            log.acknowledge();
        }
    };
    let found = tokio::select! {
        found = following => found,
        () = sending => panic!("it wasn't missed for a minute"),
    };
    assert!(found.lost.is_some_and(|lost| lost.contains("it said nothing")));
}

#[tokio::test]
async fn strangers_are_refused_with_a_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let strangers = Arc::new(Semaphore::new(1));
    let service =
        Arc::new(Service { token: Digest::of("right"), turn: Semaphore::new(1), strangers: strangers.clone() });
    let told = async |hello: &str| {
        let mut stranger = TcpStream::connect(address).await.expect("a listener");
        let (socket, _) = listener.accept().await.expect("a stranger");
        let permit = strangers.clone().try_acquire_owned().expect("given back");
        let (service, stop) = (service.clone(), CancellationToken::new());
        task::spawn("service", async move { _ = service.serve(socket, permit, stop).await });
        stranger.write_all(hello.as_bytes()).await.expect("written");
        let mut told = String::new();
        BufReader::new(&mut stranger).read_line(&mut told).await.map(|_| told).unwrap_or_default()
    };
    let refused = |reason: &str| format!("{{\"refused\":{{\"reason\":\"{reason}\"}}}}\n");
    let wrong = "{\"hello\":{\"version\":1,\"token\":\"wrong\"}}\n";
    assert_eq!(told(wrong).await, refused("the token is wrong"));
    assert_eq!(told("\"clock\"\n").await, refused("the token is wrong"));
    let newer = "{\"hello\":{\"version\":2,\"token\":\"right\"}}\n";
    assert_eq!(told(newer).await, refused("this agent speaks version 1, not 2"));
    assert_eq!(told(&"x".repeat(5000)).await, "", "closed, without an answer");
    assert_eq!(told("{\"hello\":{\"version\":1,\"token\":\"right\"}}\n").await, "\"ready\"\n");
}
