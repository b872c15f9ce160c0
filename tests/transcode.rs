//! Foreign players get a sound they can play: who publishes Opus is heard in AAC, over HTTP-FLV and over RTMP.

mod common;

use std::process::Command;

use common::{Dev, Kind, Process, Viewer, assert_even, ffmpeg, ffmpeg_9, ffprobe, run, text};

#[test]
fn opus_is_heard_in_aac() {
    let dev = Dev::start();
    let mut command = ffmpeg(&ffmpeg_9());
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-c:a", "libopus"]);
    command.args(["-f", "flv", "-rtmp_enhanced_codecs", "Opus"]);
    let publisher = Process::spawn(command.arg(&dev.origin.publish_url));
    publisher.stdout.wait_line("out_time=00:00:02");
    for url in dev.edge.watch_urls() {
        let [audio, video] = ffprobe(&url);
        let told = ["codec_name", "profile", "sample_rate"].map(|key| audio[key].as_str().unwrap_or_default());
        assert_eq!(told, ["aac", "LC", "48000"], "{url}");
        assert_eq!(video["codec_name"], "h264");
        let packets = Viewer::watch(&url).wait("two seconds of sound", |packets| {
            let sound = packets.iter().filter(|packet| packet.kind == Kind::Audio).count();
            (sound > 94).then(|| packets.to_vec())
        });
        assert_even(&packets, 50);
        assert_tone(&url);
    }
    let log = dev.log();
    assert_eq!(log.matches("transcoder started").count(), 1, "one for both forms, on the edge alone: {log}");
}

/// An old ffmpeg decodes it without a complaint, and what it hears crosses zero 880 times a second.
fn assert_tone(url: &str) {
    let mut reader = Command::new("ffmpeg");
    reader.args(["-nostdin", "-v", "error", "-xerror", "-i", url, "-map", "0:a", "-t", "3", "-ac", "1"]);
    let output = run(20, reader.args(["-f", "f32le", "pipe:1"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let samples: Vec<f32> = output.stdout.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    // The first frames fill the decoder.
    let tone = &samples[48_000..96_000];
    let crossings = tone.windows(2).filter(|pair| (pair[0] < 0.0) != (pair[1] < 0.0)).count();
    assert!((878..=882).contains(&crossings), "{crossings}");
}
