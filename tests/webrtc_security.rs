//! What strangers may do to WHIP and WHEP: nothing that anybody else notices.

mod common;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use common::{Answer, End, PUBLISH_KEY, Player, SDP, WebRtcNode};
use hawker::{
    clock, limits,
    media::Codec,
    proto::ice::{Transport, framing::frame, stun},
};

/// Reads until the server closes; the time it took.
fn until_closed(stream: &mut TcpStream) -> Duration {
    let began = clock::now();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    match stream.read_to_end(&mut Vec::new()) {
        Ok(0) => {}
        Ok(bytes) => panic!("{bytes} bytes for a stranger"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "still open"),
    }
    began.elapsed()
}

#[test]
fn who_has_no_key_is_told_no_more_than_that() {
    let node = WebRtcNode::start("127.0.0.1", "origin", "");
    let offer = End::new().offer_to_publish();
    let ask = |key: &str| {
        let began = clock::now();
        let headers = [("Content-Type", SDP), ("Authorization", key), ("Origin", "https://evil.example")];
        (node.ask("POST", "/whip/live/room", &headers, &offer), began.elapsed())
    };
    let (without, _) = ask("");
    for key in ["Bearer wrong", &format!("Basic {PUBLISH_KEY}"), &format!("Bearer {PUBLISH_KEY}x")] {
        let (wrong, took) = ask(key);
        assert_eq!((wrong.status, wrong.header("www-authenticate")), (401, Some("Bearer")), "{key}");
        assert_eq!(wrong.body, without.body);
        assert!(wrong.header("link").is_none() && wrong.header("location").is_none());
        assert!(wrong.header("access-control-allow-origin").is_none(), "a foreign page");
        assert!(!key.starts_with("Bearer") || took >= limits::AUTH_FAILURE_DELAY_MIN, "a guess costs time: {took:?}");
    }
    let by_query = node.ask("POST", "/whip/live/room?key=wrong", &[("Content-Type", SDP)], &offer);
    assert_eq!(by_query.status, 401);
    // Nor does the order of checks tell: the key comes before everything that is wrong with the offer.
    assert_eq!(node.ask("POST", "/whip/live/room", &[], "garbage").status, 401);

    let edge = WebRtcNode::start("127.0.0.1", "edge", "");
    assert_eq!(edge.publish_from(None, &offer).status, 403, "an edge takes no publisher");
}

#[test]
fn what_is_no_offer_is_refused_by_what_is_wrong_with_it() {
    let node = WebRtcNode::start("127.0.0.1", "origin", "");
    let key = format!("Bearer {PUBLISH_KEY}");
    let post = |kind: &str, body: &str| {
        node.ask("POST", "/whip/live/room", &[("Content-Type", kind), ("Authorization", &key)], body)
    };
    assert_eq!(post("text/plain", "v=0").status, 415);
    assert_eq!(post(SDP, &"x".repeat(limits::SDP_BYTES_MAX + 1)).status, 413);
    assert_eq!(post(SDP, "garbage").status, 400);
    assert_eq!(post(SDP, "").status, 400);
    let opus_only_to_play = End::new().offer_to_play(&[Codec::Opus]);
    let refused = post(SDP, &opus_only_to_play);
    assert_eq!(refused.status, 422, "a player's offer publishes nothing");
    assert!(refused.body.contains("offer"), "{}", refused.body);
    assert_eq!(node.publish_from(None, &End::new().offer_to_publish().replace("H264", "H999")).status, 422);
    for path in ["/whip/live/_global", "/whip/live/a%20b", "/whep/live/%0d%0aX"] {
        let refused = node.ask("POST", path, &[("Content-Type", SDP), ("Authorization", &key)], "v=0");
        assert!(matches!(refused.status, 400 | 403), "{path}: {}", refused.status);
    }

    let began = clock::now();
    let mut slow = TcpStream::connect(node.http).unwrap();
    let head = format!(
        "POST /whip/live/room HTTP/1.1\r\nHost: x\r\nContent-Type: {SDP}\r\nAuthorization: {key}\r\n\
         Content-Length: 100\r\nConnection: close\r\n\r\nv=0"
    );
    slow.write_all(head.as_bytes()).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(Answer::read(&mut slow).status, 408);
    let took = began.elapsed();
    assert!((limits::WEBRTC_BODY_TIMEOUT..Duration::from_secs(4)).contains(&took), "{took:?}");

    for (method, path) in [("GET", "/whip/live/room"), ("HEAD", "/whip/live/room"), ("PUT", "/whep/live/room")] {
        let refused = node.ask(method, path, &[], "");
        assert_eq!(refused.status, 405, "{method} {path}");
        assert!(refused.header("allow").is_some_and(|allow| allow.contains("POST")));
    }
}

#[test]
fn a_session_is_its_owners_alone() {
    let node = WebRtcNode::start("127.0.0.1", "origin", "allow_origins = ['https://shop.example']");
    let end = End::new();
    let offer = end.offer_to_publish();
    let created = node.publish_from(None, &offer);
    assert_eq!(created.status, 201, "{}", created.body);
    let location = created.header("location").unwrap().to_owned();
    let id = location.strip_prefix("/whip/live/room/").expect("an absolute path").to_owned();
    let etag = created.header("etag").unwrap();

    let key = format!("Bearer {PUBLISH_KEY}");
    let fragment = |ufrag: &str, pwd: &str| format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n");
    let own = fragment(&end.local.ice.ufrag, &end.local.ice.pwd);
    let patch = |path: &str, key: &str, tag: &str, body: &str| {
        let kind = "application/trickle-ice-sdpfrag";
        let headers = [("Content-Type", kind), ("Authorization", key), ("If-Match", tag)];
        node.ask("PATCH", path, &headers, body).status
    };
    let delete = |path: &str, key: &str| node.ask("DELETE", path, &[("Authorization", key)], "").status;
    let lives = || patch(&location, &key, etag, &own) == 204;
    assert!(lives());

    let other = if id.starts_with('0') { id.replacen('0', "1", 1) } else { format!("0{}", &id[1..]) };
    for path in [format!("/whip/live/room/{other}"), format!("/whip/live/other/{id}"), format!("/whep/live/room/{id}")]
    {
        assert_eq!((delete(&path, &key), patch(&path, &key, etag, &own)), (404, 404), "{path}");
    }
    assert_eq!((delete(&location, "Bearer wrong"), patch(&location, "Bearer wrong", etag, &own)), (401, 401));
    assert_eq!(delete(&location, ""), 401);
    assert_eq!(patch(&location, &key, "\"another\"", &own), 412);
    assert_eq!(patch(&location, &key, etag, &fragment("restart", &end.local.ice.pwd)), 422);
    assert_eq!(patch(&location, &key, etag, "a=ice-ufrag:x\r\n"), 400);
    assert!(lives(), "after all that");

    let asks = |method: &str, origin: &str| {
        let answer = node.ask(method, "/whip/live/room", &[("Origin", origin)], "");
        (answer.status, answer.header("access-control-allow-origin").map(str::to_owned))
    };
    assert_eq!(asks("OPTIONS", "https://shop.example"), (204, Some("https://shop.example".into())));
    assert_eq!(asks("OPTIONS", "https://shop.example.evil.example"), (204, None));
    assert_eq!(asks("POST", "https://shop.example"), (401, Some("https://shop.example".into())));
    assert_eq!(asks("POST", "null"), (401, None));

    assert_eq!(delete(&location, &key), 200);
    node.server.stderr.wait_line("deleted");
    assert_eq!(delete(&location, &key), 404);

    // The query carries the key where nothing else can; no log does, at any level.
    let by_query = node.ask("POST", &format!("/whip/live/room?key={PUBLISH_KEY}"), &[("Content-Type", SDP)], &offer);
    assert_eq!(by_query.status, 201);
    assert_eq!(node.ask("DELETE", by_query.header("location").unwrap(), &[], "").status, 200);
    let log = node.server.stderr.all();
    let leak = log.iter().find(|line| line.contains(PUBLISH_KEY) || line.contains(&end.local.ice.pwd));
    assert!(leak.is_none(), "{leak:?}");
}

#[test]
fn who_offers_and_never_comes_takes_few_places_and_not_for_long() {
    let node = WebRtcNode::start("127.0.0.1", "origin", "");
    let offer = End::new().offer_to_publish();
    let post = |from: &str| node.publish_from(Some(from), &offer);
    let began = clock::now();
    let first = post("127.0.0.2");
    assert_eq!(first.status, 201);
    for _ in 1..limits::WEBRTC_PENDING_PER_ADDRESS_MAX {
        assert_eq!(post("127.0.0.2").status, 201);
    }
    assert!(began.elapsed() < limits::WEBRTC_CONNECT_TIMEOUT, "too slow a machine for this test");
    let refused = post("127.0.0.2");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
    assert_eq!(post("127.0.0.3").status, 201, "others are let in");

    // So does an offer that never ends, for as long as it is waited for.
    let head =
        format!("POST /whep/live/room HTTP/1.1\r\nHost: x\r\nContent-Type: {SDP}\r\nContent-Length: 100\r\n\r\nv=0");
    let ask = || {
        let mut stream = node.connect_from("127.0.0.4");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let slow: Vec<_> = (0..limits::WEBRTC_PENDING_PER_ADDRESS_MAX).map(|_| ask()).collect();
    let mut status = [0; 12];
    ask().read_exact(&mut status).unwrap();
    assert_eq!(str::from_utf8(&status), Ok("HTTP/1.1 503"), "{} of them are read", slow.len());
    assert_eq!(post("127.0.0.4").status, 201, "viewers keep no publisher out");

    node.server.stderr.wait_line("no connection came about");
    assert!(began.elapsed() >= limits::WEBRTC_CONNECT_TIMEOUT);
    assert_eq!(post("127.0.0.2").status, 201);
    let key = format!("Bearer {PUBLISH_KEY}");
    let gone = node.ask("DELETE", first.header("location").unwrap(), &[("Authorization", &key)], "");
    assert_eq!(gone.status, 404);
}

#[test]
fn ten_thousand_stray_datagrams_are_not_answered_and_a_viewer_does_not_notice() {
    let node = WebRtcNode::start("127.0.0.1", "origin", "");
    let _anchor = node.push("live/room");
    let mut player = Player::ask(&node, "live/room", Transport::Udp);
    player.until("a keyframe", |player| player.keyframes > 0);

    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.connect(player.remote()).unwrap();
    let request =
        stun::Request { transaction: [1; 12], username: "guess:ed", priority: 1, tie_breaker: 1, use_candidate: true };
    let check = request.write(&stun::integrity_key("guessed"));
    let hello = [
        &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 1, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 48, 0xfe, 0xfd][..],
        &[7; 46],
    ]
    .concat();
    let strays = [
        check.clone(),
        check[..30].to_vec(),
        hello,
        vec![0x80; 200],
        vec![0x80, 200, 0, 1, 0, 0, 0, 7],
        vec![0xff; 1200],
        vec![3],
        Vec::new(),
    ];
    let pictures = player.pictures;
    for (n, stray) in strays.iter().cycle().take(10_000).enumerate() {
        stranger.send(stray).unwrap();
        // As fast as the server reads: what the kernel drops was nobody's.
        if n % 64 == 0 {
            player.advance();
        }
    }
    player.until("the next pictures", |player| player.pictures > pictures + 25);
    stranger.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let answered = stranger.recv(&mut [0; 2000]);
    assert!(answered.is_err(), "{answered:?}");
    let counted = node.metric("hawker_refused_total{reason=\"webrtc stranger\"}");
    assert!(counted > 5000, "{counted} strays were seen");
}

#[test]
fn a_viewer_behind_a_firewall_watches_over_tcp_and_strangers_there_are_closed() {
    let node = WebRtcNode::start("127.0.0.1", "origin", "");
    let _anchor = node.push("live/room");
    let mut player = Player::ask(&node, "live/room", Transport::Tcp);
    player.until("a keyframe over TCP", |player| player.keyframes > 0);
    let remote: SocketAddr = player.remote();

    let mut framed = Vec::new();
    let request =
        stun::Request { transaction: [1; 12], username: "guess:ed", priority: 1, tie_breaker: 1, use_candidate: true };
    frame(&request.write(&stun::integrity_key("guessed")), &mut framed).unwrap();
    for opening in [framed, b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0, 3, 22, 0xfe, 0xfd]] {
        let mut stranger = TcpStream::connect(remote).unwrap();
        stranger.write_all(&opening).unwrap();
        let took = until_closed(&mut stranger);
        assert!(took < Duration::from_secs(2), "{took:?} for {opening:?}");
    }
    // One that says nothing, and one that never says a whole thing.
    let (mut silent, mut drip) = (TcpStream::connect(remote).unwrap(), TcpStream::connect(remote).unwrap());
    drip.write_all(&[0]).unwrap();
    for stream in [&mut silent, &mut drip] {
        let took = until_closed(stream);
        assert!(took < limits::WEBRTC_TCP_ACCEPT_TIMEOUT + Duration::from_secs(2), "{took:?}");
    }
    let pictures = player.pictures;
    player.until("more pictures", |player| player.pictures > pictures + 10);
}

#[test]
fn ipv6_is_as_good() {
    let node = WebRtcNode::start("[::1]", "origin", "");
    let _anchor = node.push("live/room");
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut player = Player::ask(&node, "live/room", transport);
        assert!(player.remote().is_ipv6());
        player.until("a keyframe", |player| player.keyframes > 0);
    }
}
