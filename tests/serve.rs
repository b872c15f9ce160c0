//! `hawker serve` as an operator runs it: configuration, readiness, restarts, wrong input, orderly ends.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use common::{Cluster, Viewer, assert_even, hawker, publish, run, run_ok, status, text};

#[test]
fn an_edge_is_ready_with_its_origin_and_keeps_its_viewers_when_that_is_killed() {
    let cluster = Cluster::new();
    let edge = cluster.serve("edge");
    assert_eq!((cluster.status("edge", "/livez"), cluster.status("edge", "/readyz")), (200, 503));
    let mut origin = cluster.serve("origin");
    edge.stderr.wait_line("upstream session began");
    assert_eq!(cluster.status("edge", "/readyz"), 200);

    let mut anchor = publish(&cluster.publish_url("live/room"));
    assert_eq!(
        status(cluster.flv_url("edge", "live/room").split('?').next().unwrap()),
        403,
        "nobody watches without a token"
    );
    let viewer = Viewer::watch(&cluster.flv_url("edge", "live/room"));
    let before = viewer.wait_frames(25);
    assert_even(&before, 200);

    origin.kill();
    anchor.kill();
    let _origin = cluster.serve("origin");
    let _anchor = publish(&cluster.publish_url("live/room"));
    let after = viewer.wait_frames(25 * 4);
    // Ten seconds are enough for the restart on a busy machine; going back or standing still would show.
    assert_even(&after, 10_000);
    assert_eq!(edge.stderr.all().iter().filter(|line| line.contains("viewer joined")).count(), 1);
}

#[test]
fn sigterm_ends_publishers_and_viewers_in_order() {
    let cluster = Cluster::new();
    let (mut origin, mut edge) = (cluster.serve("origin"), cluster.serve_edge("edge"));
    let _anchor = publish(&cluster.publish_url("live/room"));
    let viewer = Viewer::watch(&cluster.flv_url("edge", "live/room"));
    viewer.wait_frames(5);
    for node in [&mut edge, &mut origin] {
        assert_eq!(node.terminate(), Some(0));
        node.stderr.wait_line("stopped");
    }
    for (log, line) in [(&edge, "viewer left"), (&origin, "publisher gone")] {
        log.stderr.wait_line(line);
    }
}

#[test]
fn wrong_bytes_are_refused_in_one_line_and_nobody_else_notices() {
    let cluster = Cluster::new();
    let (origin, _edge) = (cluster.serve("origin"), cluster.serve_edge("edge"));
    let _anchor = publish(&cluster.publish_url("live/room"));
    let viewer = Viewer::watch(&cluster.flv_url("edge", "live/room"));
    viewer.wait_frames(5);
    let mut lines = 0;
    let noise: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let handshake = [&[3][..], &[0; 3072]].concat();
    let wrong: [Vec<u8>; 4] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        noise.clone(),
        [&handshake[..], &noise].concat(),
        // A chunk that claims the longest message there can be.
        [&handshake[..], &[3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0], &noise].concat(),
    ];
    for bytes in wrong {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.port("origin"))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The server may close before it has read all of this.
        let _ = stream.write_all(&bytes);
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(ended.as_ref().err().is_none_or(|e| e.kind() == std::io::ErrorKind::ConnectionReset), "{ended:?}");
        lines += 1;
        origin.stderr.wait(&format!("line {lines}"), |log| {
            (log.iter().filter(|line| line.contains("not accepted")).count() == lines).then_some(())
        });
    }
    let frames = viewer.wait_frames(60);
    assert_even(&frames, 200);
    assert_eq!(origin.stderr.all().iter().filter(|line| line.contains("not accepted")).count(), lines);
}

#[test]
fn mistakes_are_named() {
    let complaint = |args: &[&str]| {
        let output = run(5, hawker().args(args));
        assert!(!output.status.success(), "{args:?}");
        text(&output.stderr)
    };
    let cluster = Cluster::new();
    let _origin = cluster.serve("origin");
    let config = cluster.path().join("origin.toml");
    let config = config.to_str().unwrap();
    let port = cluster.port("origin");
    let taken = complaint(&["serve", "--config", config]);
    assert!(taken.contains(&format!("RTMP: can't listen on 127.0.0.1:{port}: port {port} is in use")), "{taken}");
    let taken = complaint(&["dev", "--port-base", &port.to_string()]);
    assert!(taken.contains(&format!("port {port} is in use")), "{taken}");
    assert!(run_ok(5, hawker().args(["check", config])).contains("good"));

    let broken = cluster.path().join("broken.toml");
    fs::write(&broken, "role = 'origin'\n[rtmp]\nlisten = 'nowhere'\n").unwrap();
    let said = complaint(&["check", broken.to_str().unwrap()]);
    assert!(said.contains("broken.toml:3: rtmp.listen"), "{said}");
    let said = complaint(&["serve", "--config", Path::new("/nonexistent/hawker.toml").to_str().unwrap()]);
    assert!(said.contains("/nonexistent/hawker.toml"), "{said}");
}
