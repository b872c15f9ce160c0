//! Software that nobody here wrote, ready to publish and to look.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use super::process::{Process, run_ok};

/// 320x180 at 25 frames/s with a keyframe each second, and a tone: cheap enough for several at once.
pub(crate) const H264_AAC: &[&str] =
    &["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-c:a", "aac", "-f", "flv"];

/// ffmpeg that publishes H.264 and AAC to `url`; returns when it has sent its first second.
pub(crate) fn publish(url: &str) -> Process {
    let process = Process::spawn(ffmpeg("ffmpeg").args(H264_AAC).arg(url));
    process.stdout.wait_line("out_time=00:00:01");
    process
}

/// An ffmpeg with a live source; codecs and output follow.
pub(crate) fn ffmpeg(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-nostdin", "-loglevel", "error", "-progress", "pipe:1", "-stats_period", "0.1"])
        .args(["-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"])
        .args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
    command
}

/// The static ffmpeg 9 that `make setup` installs: Debian's 5.1 has no Enhanced RTMP.
pub(crate) fn ffmpeg_9() -> String {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let script = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
    run_ok(10, Command::new(python).args(["-c", script])).trim().to_owned()
}

/// The streams that ffprobe finds in `from`, audio first. Events are a stream of data to it, if there are any.
pub(crate) fn ffprobe(from: &str) -> [Value; 2] {
    let mut command = Command::new("ffprobe");
    command.args(["-loglevel", "error", "-show_streams", "-print_format", "json", from]);
    let found: Value = serde_json::from_str(&run_ok(20, &command)).unwrap();
    let streams = found["streams"].as_array().unwrap();
    assert_eq!(
        streams.iter().filter(|stream| stream["codec_type"] != "data").count(),
        2,
        "sound and picture in {from}: {found}"
    );
    ["audio", "video"].map(|kind| {
        let stream = streams.iter().find(|stream| stream["codec_type"] == kind);
        stream.unwrap_or_else(|| panic!("no {kind} in {from}: {found}")).clone()
    })
}

/// Copies a file of `tests/peers` (or a folder with all that is in it) to `to`, with `{name}`s replaced by their values.
pub(crate) fn with_values(file: &str, to: &Path, values: &[(&str, &str)]) {
    fn copy(from: &Path, to: &Path, values: &[(&str, &str)]) {
        if from.is_dir() {
            fs::create_dir_all(to).unwrap();
            for entry in fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                copy(&entry.path(), &to.join(entry.file_name()), values);
            }
            return;
        }
        let text = fs::read_to_string(from).unwrap();
        let text = values.iter().fold(text, |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
        fs::write(to, text).unwrap();
    }
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(file), to, values);
}
