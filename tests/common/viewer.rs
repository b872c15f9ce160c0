//! A viewer that reports every packet it gets: ffprobe.

use std::{path::Path, process::Command};

use super::process::Process;

/// An ffprobe that watches until it is dropped.
pub(crate) struct Viewer {
    process: Process,
}

/// What ffprobe says of one packet; times in milliseconds, as in FLV.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packet {
    pub(crate) kind: Kind,
    pub(crate) pts: i64,
    pub(crate) dts: i64,
    pub(crate) is_key: bool,
    pub(crate) data: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio,
    Video,
    /// An FLV script tag: an event.
    Data,
    /// The text of an `onTextData` tag, which ffmpeg takes for a subtitle.
    Text,
}

impl Viewer {
    pub(crate) fn watch(url: &str) -> Self {
        // No frame rate to be guessed: the first packet at once.
        Self::start(url, "packet=codec_type,pts,dts,flags", &["-fpsprobesize", "0"])
    }

    /// Reports the packets' bytes too, events among them if there is one in the first four seconds: ffprobe looks
    /// at no track that it meets later.
    pub(crate) fn watch_with_data(url: &str) -> Self {
        Self::start(url, "packet=codec_type,pts,dts,flags,data", &["-show_data", "-fpsprobesize", "100"])
    }

    /// Over TLS, with a certificate that the authority in the PEM file `ca` signed.
    pub(crate) fn watch_over_tls(url: &str, ca: &Path) -> Self {
        let ca = ca.to_str().unwrap();
        let options = ["-fpsprobesize", "0", "-tls_verify", "1", "-ca_file", ca];
        Self::start(url, "packet=codec_type,pts,dts,flags", &options)
    }

    fn start(url: &str, entries: &str, more: &[&str]) -> Self {
        // stdbuf: a packet a line, when it arrives.
        let mut command = Command::new("stdbuf");
        command
            .args(["-oL", "ffprobe", "-loglevel", "error"])
            .args(["-show_entries", entries, "-print_format", "compact=print_section=0"])
            .args(more)
            .arg(url);
        Self { process: Process::spawn(&command) }
    }

    /// Waits until `find` finds its thing among all packets so far.
    pub(crate) fn wait<T>(&self, what: &str, mut find: impl FnMut(&[Packet]) -> Option<T>) -> T {
        self.process.stdout.wait(what, |lines| find(&parse(lines)))
    }

    /// Waits until `count` video frames have come, and returns all packets up to then.
    pub(crate) fn wait_frames(&self, count: usize) -> Vec<Packet> {
        self.wait(&format!("{count} frames"), |packets| {
            let frames = packets.iter().filter(|packet| packet.kind == Kind::Video).count();
            (frames >= count).then(|| packets.to_vec())
        })
    }
}

/// DTS of each track grows by no less than nothing and no more than `gap_ms_max`.
pub(crate) fn assert_even(packets: &[Packet], gap_ms_max: i64) {
    for kind in [Kind::Audio, Kind::Video] {
        let times: Vec<_> = packets.iter().filter(|packet| packet.kind == kind).map(|packet| packet.dts).collect();
        assert!(times.len() > 1, "too little {kind:?}: {times:?}");
        let uneven = times.windows(2).find(|pair| !(1..=gap_ms_max).contains(&(pair[1] - pair[0])));
        assert_eq!(uneven, None, "{kind:?} DTS must grow, by {gap_ms_max} ms at most: {times:?}");
    }
}

fn parse(lines: &[String]) -> Vec<Packet> {
    lines.iter().filter(|line| line.starts_with("codec_type=")).map(|line| parse_packet(line)).collect()
}

fn parse_packet(line: &str) -> Packet {
    let (fields, dump) = line.split_once("|data=").unwrap_or((line, ""));
    let field = |name: &str| {
        let mut values = fields.split('|').filter_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        values.next().unwrap_or_else(|| panic!("no {name}: {line}"))
    };
    let kind = match field("codec_type") {
        "audio" => Kind::Audio,
        "video" => Kind::Video,
        "data" => Kind::Data,
        "subtitle" => Kind::Text,
        other => panic!("codec_type {other}"),
    };
    let time = |name| field(name).parse().unwrap_or_else(|_| panic!("no time: {line}"));
    Packet { kind, pts: time("pts"), dts: time("dts"), is_key: field("flags").starts_with('K'), data: parse_dump(dump) }
}

/// Reads the hexadecimal columns of lines such as `00000010: 6876 6331 0101 6000 …  hvc1..`.`, joined by `\n`.
fn parse_dump(dump: &str) -> Vec<u8> {
    let is_offset = |text: &str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    dump.split("\\n")
        .filter_map(|line| line.split_once(": ").filter(|(offset, _)| is_offset(offset)))
        .flat_map(|(_, columns)| columns.get(..39).unwrap_or(columns).split_whitespace())
        .flat_map(|group| group.as_bytes().chunks(2))
        .filter_map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
