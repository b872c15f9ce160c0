//! Foreign software that speaks RTMP to us: encoders that publish, and servers and tools that pull.
//!
//! All of it is watched at the edge, so each story crosses the QUIC relay.

mod common;

use std::{net::TcpStream, process::Command};

use common::{Dev, H264_AAC, Ports, Process, Viewer, assert_even, ffmpeg, ffprobe, publish, run, text, with_values};

#[test]
fn ffmpeg_publishes_and_the_edge_serves_it() {
    let dev = Dev::start();
    let _ffmpeg = publish(&dev.origin.publish_url);
    for url in dev.edge.watch_urls() {
        assert_h264_aac(&url, 320, 180);
        // 25 frames/s and AAC at 48 kHz: 40 ms and 21 1/3 ms.
        assert_even(&Viewer::watch(&url).wait_frames(75), 41);
    }
}

#[test]
fn a_wrong_key_is_refused_and_not_logged() {
    let dev = Dev::start();
    let (url, _key) = dev.origin.publish_url.split_once("?key=").unwrap();
    for wrong in [format!("{url}?key=Wr0ngKey"), url.to_owned()] {
        let output = run(10, ffmpeg("ffmpeg").args(H264_AAC).arg(&wrong));
        assert!(!output.status.success(), "published to {wrong}");
    }
    let refused = dev.server.stderr.wait("two refusals in the log", |lines| {
        let lines: Vec<_> = lines.iter().filter(|line| line.contains("not accepted")).cloned().collect();
        (lines.len() >= 2).then_some(lines)
    });
    assert_eq!(refused.len(), 2, "one line each: {refused:?}");
    assert!(!dev.log().contains("Wr0ngKey"), "{}", dev.log());
}

#[test]
fn what_is_not_there_is_not_served() {
    let dev = Dev::start();
    let _ffmpeg = publish(&dev.origin.publish_url);
    for (path, status) in [
        // Viewers may be early: the edge waits a little for the publisher.
        ("live/no_such_room.flv", "404"),
        ("live/room.avi", "404"),
        ("live/room.flv/", "404"),
        ("live/..%2froom.flv", "400"),
    ] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--path-as-is"]);
        let output = run(20, curl.arg(format!("{}/{path}", dev.edge.http)));
        assert_eq!(text(&output.stdout), status, "{path}");
    }
}

#[test]
fn gstreamer_publishes_with_rtmp2sink() {
    gstreamer_publishes("rtmp2sink");
}

/// librtmp, the library of rtmpdump; GStreamer's `rtmpsink` is made of it.
#[test]
fn librtmp_publishes_with_rtmpsink() {
    gstreamer_publishes("rtmpsink");
}

fn gstreamer_publishes(sink: &str) {
    let dev = Dev::start();
    let pipeline = format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=25/1
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! h264parse ! mux.
         audiotestsrc is-live=true ! voaacenc ! aacparse ! mux.
         flvmux name=mux streamable=true ! {sink} location={}",
        dev.origin.publish_url
    );
    let _gstreamer = Process::spawn(Command::new("gst-launch-1.0").args(pipeline.split_whitespace()));
    dev.server.stderr.wait_line("publish");
    for url in dev.edge.watch_urls() {
        assert_h264_aac(&url, 320, 180);
        assert_even(&Viewer::watch(&url).wait_frames(50), 60);
    }
}

#[test]
fn rtmpdump_saves_the_edge_s_stream() {
    let dev = Dev::start();
    let _ffmpeg = publish(&dev.origin.publish_url);
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved.flv");
    // A live stream has no end, so timeout(1) is the viewer who closes the window.
    let mut rtmpdump = Command::new("timeout");
    rtmpdump.args(["--preserve-status", "--signal=INT", "3"]);
    rtmpdump.args(["rtmpdump", "--live", "--rtmp", &dev.edge.rtmp_url(), "--flv"]).arg(&saved);
    run(10, &rtmpdump);
    assert_h264_aac(saved.to_str().unwrap(), 320, 180);
}

/// A CDN edge in the way CDN edges were built for years: it pulls when its first viewer comes.
#[test]
fn nginx_rtmp_pulls_from_the_edge() {
    let dev = Dev::start();
    let _ffmpeg = publish(&dev.origin.publish_url);
    let nginx = Nginx::start(&dev);
    let viewer = Viewer::watch(&format!("{}/pull/room", nginx.rtmp));
    assert_even(&viewer.wait_frames(50), 41);
}

#[test]
fn nginx_rtmp_pushes_into_the_origin() {
    let dev = Dev::start();
    let nginx = Nginx::start(&dev);
    let _ffmpeg = publish(&format!("{}/push/room", nginx.rtmp));
    for url in dev.edge.watch_urls() {
        assert_h264_aac(&url, 320, 180);
        assert_even(&Viewer::watch(&url).wait_frames(50), 41);
    }
}

/// nginx with nginx-rtmp between us and the world: `pull` takes from our edge, `push` gives to our origin.
struct Nginx {
    rtmp: String,
    _process: Process,
    _folder: tempfile::TempDir,
    _ports: Ports,
}

impl Nginx {
    fn start(dev: &Dev) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nginx.conf");
        let ports = Ports::reserve();
        let port = ports.base().to_string();
        with_values(
            "nginx-rtmp.conf",
            &config,
            &[("port", &port), ("edge", &dev.edge.rtmp), ("publish_url", &dev.origin.publish_url)],
        );
        let process = Process::spawn(Command::new("nginx").arg("-p").arg(folder.path()).arg("-c").arg(&config));
        process.stderr.wait_line("using the \"epoll\" event method");
        assert!(TcpStream::connect(("127.0.0.1", ports.base())).is_ok());
        Self { rtmp: format!("rtmp://127.0.0.1:{port}"), _process: process, _folder: folder, _ports: ports }
    }
}

fn assert_h264_aac(from: &str, width: u32, height: u32) {
    let [audio, video] = ffprobe(from);
    assert_eq!(audio["codec_name"], "aac", "{from}");
    assert_eq!(video["codec_name"], "h264", "{from}");
    assert_eq!(
        (video["width"].as_u64(), video["height"].as_u64()),
        (Some(width.into()), Some(height.into())),
        "{from}"
    );
}
