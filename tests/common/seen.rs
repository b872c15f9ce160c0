//! Peers that read the number in each picture and hear the beeps, and tell what they saw, JSON a line.

use std::process::Command;

use serde_json::Value;

use super::{
    dev::Node,
    peers::python,
    process::{Lines, Process},
};

/// A script of `tests/peers` that runs until it is dropped.
pub(crate) struct Peer {
    pub(crate) process: Process,
}

/// A picture that was displayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    /// In the units of its peer.
    pub(crate) time: i64,
    /// `None` if it couldn't be read.
    pub(crate) number: Option<i64>,
}

impl Peer {
    pub(crate) fn start(command: &Command) -> Self {
        Self { process: Process::spawn(command) }
    }

    /// aiortc that watches by WHEP; `more` are its further arguments.
    pub(crate) fn play(node: &Node, more: &[&str]) -> Self {
        Self::start(python("aiortc_play.py").arg(node.whep_url()).args(["--seconds", "60"]).args(more))
    }

    /// aiortc that publishes by WHIP; `more` are its further arguments.
    pub(crate) fn publish(node: &Node, more: &[&str]) -> Self {
        let mut command = python("aiortc_publish.py");
        Self::start(command.arg(node.whip_url()).args(["--seconds", "60", "--token", node.key()]).args(more))
    }

    /// Whoever reads HTTP-FLV or RTMP as ffmpeg does.
    pub(crate) fn av(url: &str) -> Self {
        Self::start(python("av_play.py").arg(url))
    }

    /// Waits until `find` finds its thing among all that it has said so far.
    pub(crate) fn wait<T>(&self, what: &str, mut find: impl FnMut(&[Value]) -> Option<T>) -> T {
        let mut values: Vec<Value> = Vec::new();
        let out: &Lines = &self.process.stdout;
        out.wait(what, |lines| {
            values.extend(lines[values.len()..].iter().map(|line| serde_json::from_str(line).expect("JSON")));
            find(&values)
        })
    }

    /// Waits for `count` pictures; returns all it has said up to then.
    pub(crate) fn wait_pictures(&self, count: usize) -> Vec<Value> {
        self.wait(&format!("{count} pictures"), |values| (pictures(values).len() >= count).then(|| values.to_vec()))
    }
}

/// The pictures among what a peer said.
pub(crate) fn pictures(values: &[Value]) -> Vec<Picture> {
    let of_track = values.iter().filter(|value| value["track"] == "video");
    of_track
        .map(|value| Picture {
            time: ["rtp", "ms"].iter().find_map(|unit| value[unit].as_i64()).expect("a time"),
            number: value["number"].as_i64(),
        })
        .collect()
}

/// When beeps began, in the units of the peer's sound.
pub(crate) fn beeps(values: &[Value]) -> Vec<i64> {
    let of_track = values.iter().filter(|value| value["track"] == "audio");
    of_track.map(|value| ["rtp", "ms"].iter().find_map(|unit| value[unit].as_i64()).expect("a time")).collect()
}

/// Each picture can be read, and none is missing, repeated or out of order.
pub(crate) fn assert_each_once(values: &[Value]) {
    let numbers: Vec<_> = pictures(values).iter().map(|picture| picture.number).collect();
    let wrong = numbers.windows(2).find(|pair| pair[0].is_none() || pair[1] != pair[0].map(|number| number + 1));
    assert_eq!(wrong, None, "{numbers:?}");
}

/// The PTS of the picture that has number 0, as MoQ carries it.
pub(crate) fn frame_0_us(node: &Node, frame_us: i64) -> i64 {
    let peer = Peer::start(python("moq_viewer.py").args([&node.moq, "live/room", "--numbers"]));
    peer.wait("a number", |values| {
        let read = values.iter().find(|value| value["track"] == "numbers" && !value["number"].is_null())?;
        Some(read["pts_us"].as_i64()? - frame_us * read["number"].as_i64()?)
    })
}

/// How far sound is behind the picture, in milliseconds, for each beep that began near a picture of a full second.
/// A peer of WebRTC tells both tracks' clocks by sender reports; others have one clock.
pub(crate) fn lags_ms(values: &[Value], frames_per_s: i64) -> Vec<f64> {
    let video = clock(values, "video", 90_000);
    let audio = clock(values, "audio", 48_000);
    let whole = pictures(values).into_iter().filter(|picture| picture.number.is_some_and(|n| n % frames_per_s == 0));
    let seconds: Vec<f64> = whole.map(|picture| video(picture.time)).collect();
    let nearest = |beep: f64| seconds.iter().map(|second| beep - second).min_by(|a, b| a.abs().total_cmp(&b.abs()));
    let lags = beeps(values).into_iter().filter_map(|beep| nearest(audio(beep)));
    // The beep of a second whose picture came before the first one seen, or comes after the last.
    lags.filter(|lag| lag.abs() < 500.0).collect()
}

/// From a track's time to milliseconds that all tracks share.
fn clock(values: &[Value], track: &str, rate: i64) -> Box<dyn Fn(i64) -> f64> {
    let Some(report) = values.iter().rfind(|value| value["report"] == track) else { return Box::new(|ms| ms as f64) };
    let (rtp, ntp_us) = (report["rtp"].as_i64().unwrap(), report["ntp_us"].as_i64().unwrap());
    Box::new(move |time| {
        // Both are 32 bits wide.
        let since = (time - rtp + (1 << 31)).rem_euclid(1 << 32) - (1 << 31);
        ntp_us as f64 / 1000.0 + since as f64 * 1000.0 / rate as f64
    })
}
