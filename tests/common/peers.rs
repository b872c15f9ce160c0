//! Software that nobody here wrote, ready to publish and to look.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use serde_json::Value;

use super::process::{Process, run_ok};

/// 320x180 at 25 frames/s with a keyframe each second, and a tone: cheap enough for several at once.
pub(crate) const H264_AAC: &[&str] =
    &["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-c:a", "aac", "-f", "flv"];

/// ffmpeg that publishes H.264 and AAC to `url`; returns when it has sent its first second.
pub(crate) fn publish(url: &str) -> Process {
    started(ffmpeg("ffmpeg").args(H264_AAC).arg(url))
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

/// Publishes pictures with their numbers in them, 25 a second, and beeps with each full second (`tests/peers/counter.py`
/// says how): the time of picture N is N * 40 ms. Returns when it has sent its first second.
pub(crate) fn publish_numbered(url: &str) -> Process {
    let mut command = numbered("ffmpeg");
    command.args(H264_AAC).args(["-profile:v", "baseline", "-pix_fmt", "yuv420p", url]);
    started(&command)
}

/// The same by WHIP, which takes ffmpeg 8 or later.
pub(crate) fn publish_whip(url: &str, key: &str) -> Process {
    let mut command = numbered(&ffmpeg_9());
    command
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25"])
        .args(["-profile:v", "baseline", "-pix_fmt", "yuv420p", "-c:a", "libopus", "-ac", "2"])
        .args(["-f", "whip", "-authorization", key, url]);
    started(&command)
}

fn started(ffmpeg: &Command) -> Process {
    let process = Process::spawn(ffmpeg);
    process.stdout.wait_line("out_time=00:00:01");
    process
}

fn numbered(program: &str) -> Command {
    let mut picture = "testsrc2=size=320x180:rate=25,drawbox=w=iw:h=ih*2/9:color=black:t=fill".to_owned();
    for column in 0..16 {
        let bit = 1 << (15 - column);
        for (row, state) in ["gte", "lt"].into_iter().enumerate() {
            let square = format!("x=iw/16*{column}:y=ih/9*{row}:w=iw/16:h=ih/9:color=white:t=fill");
            write!(picture, ",drawbox={square}:enable='{state}(mod(n,{}),{bit})'", 2 * bit).unwrap();
        }
    }
    let mut command = Command::new(program);
    command
        .args(["-nostdin", "-loglevel", "error", "-progress", "pipe:1", "-stats_period", "0.1"])
        .args(["-re", "-f", "lavfi", "-i", &picture])
        .args(["-re", "-f", "lavfi", "-i", "aevalsrc=0.6*sin(2*PI*1000*t)*lt(mod(t\\,1)\\,0.1):s=48000"]);
    command
}

/// A script of `tests/peers`; its arguments follow.
pub(crate) fn python(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join(".venv/bin/python"));
    command.arg(root.join("tests/peers").join(script));
    command
}

/// A driver of `tests/browser`; its arguments follow.
pub(crate) fn browser(driver: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(driver));
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
