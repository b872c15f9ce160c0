//! OBS Studio as anchors run it, on a display without a screen.

mod common;

use std::process::Command;

use common::{Dev, Process, Viewer, assert_even, ffprobe, with_values};
use tempfile::TempDir;

#[test]
fn obs_publishes_and_the_edge_serves_it() {
    let dev = Dev::start();
    let obs = Obs::start(&dev);
    obs.process.stdout.wait_line("Streaming Start");
    for url in dev.edge.watch_urls() {
        let viewer = Viewer::watch(&url);
        // 30 frames/s, where OBS may drop some that the machine is too slow for.
        assert_even(&viewer.wait_frames(60), 200);
        let [audio, video] = ffprobe(&url);
        assert_eq!((&audio["codec_name"], &video["codec_name"]), (&"aac".into(), &"h264".into()), "{url}");
        assert_eq!((&video["width"], &video["height"]), (&640.into(), &360.into()), "{url}");
    }
}

struct Obs {
    process: Process,
    _home: TempDir,
}

impl Obs {
    /// Starts OBS with a profile that streams a colour to the origin at once. Its settings answer every question
    /// that a first start asks, and it runs as root too.
    fn start(dev: &Dev) -> Self {
        let home = tempfile::tempdir().unwrap();
        // OBS has two fields, as on its settings page: the server, and the stream key with all that follows.
        let (server, key) = dev.origin.publish_url.rsplit_once('/').unwrap();
        with_values("obs", &home.path().join("obs-studio"), &[("server", server), ("key", key)]);
        let mut command = Command::new("xvfb-run");
        command
            .args(["--auto-servernum", "--server-args=-screen 0 1280x720x24", "obs"])
            .args([
                "--profile",
                "hawker",
                "--collection",
                "hawker",
                "--startstreaming",
                "--multi",
                "--minimize-to-tray",
            ])
            .envs([("HOME", home.path()), ("XDG_CONFIG_HOME", home.path()), ("XDG_RUNTIME_DIR", home.path())])
            // No graphics card; and nowhere to fetch updates from.
            .envs([("LIBGL_ALWAYS_SOFTWARE", "1"), ("http_proxy", "127.0.0.1:9"), ("https_proxy", "127.0.0.1:9")]);
        Self { process: Process::spawn(&command), _home: home }
    }
}
