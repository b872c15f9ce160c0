//! From what came to what it means: join time, continuity, latency, and whether events sat beside their frames.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::Serialize;

use super::observed::Observed;
use crate::{
    clock::Instant,
    media::{Event, Keys, Room, TrackKind, Tracks, event::Moment},
};

/// Gathers what came. Time is passed in.
#[derive(Debug)]
pub(super) struct Analysis {
    start: Instant,
    /// The same moment on the wall clock.
    start_unix_ms: i64,
    /// Tell a person about it as it happens.
    narrate: bool,
    /// When the first keyframe came, and the first sound.
    keyframe_ms: Option<u64>,
    sound_ms: Option<u64>,
    tracks: Tracks,
    video: Times,
    audio: Times,
    video_pts_us: Vec<i64>,
    keyframes: u64,
    latencies_ms: Vec<i64>,
    snapshots: u64,
    events: Vec<SeenEvent>,
    events_replayed: u64,
    clocks: u64,
    /// What the events leave behind: of the room, and of all rooms.
    rooms: [Room; 2],
    /// What the stream's timeline is ahead of the frames'.
    ahead_us: i64,
    keys: Option<Keys>,
    events_verified: u64,
    events_forged: u64,
}

/// The decode times of one track.
#[derive(Debug, Default)]
struct Times {
    dts_us: Vec<i64>,
    bytes: u64,
}

#[derive(Debug)]
struct SeenEvent {
    report: EventReport,
    at_us: Option<i64>,
    in_line: bool,
    /// Pictures that came before it.
    position: usize,
}

impl Analysis {
    pub(super) fn new(start: Instant, start_unix_ms: i64, narrate: bool) -> Self {
        Self {
            start,
            start_unix_ms,
            narrate,
            keyframe_ms: None,
            sound_ms: None,
            tracks: Tracks::default(),
            video: Times::default(),
            audio: Times::default(),
            video_pts_us: Vec::new(),
            keyframes: 0,
            latencies_ms: Vec::new(),
            snapshots: 0,
            events: Vec::new(),
            events_replayed: 0,
            clocks: 0,
            rooms: Default::default(),
            ahead_us: 0,
            keys: None,
            events_verified: 0,
            events_forged: 0,
        }
    }

    /// Verifies each event by these keys.
    pub(super) fn believing(self, keys: Option<Keys>) -> Self {
        Self { keys, ..self }
    }

    /// Whether a decoder would have shown or played something.
    pub(super) fn has_played(&self) -> bool {
        self.join_ms().is_some()
    }

    /// Sound alone is a stream too, but where there is a picture the first keyframe starts it.
    fn join_ms(&self) -> Option<u64> {
        if self.tracks.video.is_some() { self.keyframe_ms } else { self.sound_ms }
    }

    /// Takes what came at `now`, with the tracks as they are known.
    pub(super) fn handle(&mut self, observed: Observed, tracks: &Tracks, now: Instant, unix_ms: i64) {
        if self.tracks != *tracks {
            self.tracks = tracks.clone();
        }
        match observed {
            Observed::Frame { track: TrackKind::Video, dts_us, pts_us, keyframe, bytes } => {
                if keyframe && self.keyframe_ms.is_none() {
                    self.keyframe_ms = Some(self.since_start_ms(now));
                    self.say(now, &"first keyframe");
                }
                self.video.push(dts_us, bytes);
                self.video_pts_us.push(pts_us);
                self.keyframes += u64::from(keyframe);
            }
            Observed::Frame { track: TrackKind::Audio, dts_us, bytes, .. } => {
                if self.sound_ms.is_none() {
                    self.sound_ms = Some(self.since_start_ms(now));
                    self.say(now, &"first sound");
                }
                self.audio.push(dts_us, bytes);
            }
            Observed::Event { event, at_us, replay, in_line } => {
                self.take(&event, now);
                if let (Some(pts_us), Some(at_us)) = (event.pts_us(), at_us) {
                    self.ahead_us = pts_us - at_us;
                }
                self.events_replayed += u64::from(replay);
                // It comes by itself; nobody looks for it beside a frame.
                if event.head.kind == "clock" {
                    self.clocks += 1;
                    return;
                }
                let report = EventReport {
                    id: event.head.id.clone(),
                    kind: event.head.kind.clone(),
                    seq: event.head.seq,
                    pts_us: event.pts_us(),
                    at_ms: self.since_start_ms(now),
                    replay,
                    skew_frames: None,
                };
                self.say(now, &report);
                let position = self.video_pts_us.len();
                self.events.push(SeenEvent { report, at_us, in_line, position });
            }
            Observed::Snapshot { events, at, anew } => {
                self.ahead_us = at.pts_us - at.at_us;
                if anew {
                    self.snapshots += 1;
                    self.rooms = Default::default();
                }
                self.events_replayed += events.len() as u64;
                events.iter().for_each(|event| self.take(event, now));
            }
            // What was sent before we came has waited for us in the server's cache.
            Observed::Clock { wall_ms } if wall_ms < self.start_unix_ms => {}
            Observed::Clock { wall_ms } => self.latencies_ms.push(unix_ms - wall_ms),
        }
    }

    /// Verifies an event and notes what it leaves behind.
    fn take(&mut self, event: &Arc<Event>, now: Instant) {
        let [room, global] = &mut self.rooms;
        if event.is_global() {
            global.apply(event)
        } else {
            room.apply(event)
        }
        match self.keys.as_ref().map(|keys| keys.verify(event)) {
            Some(Ok(())) => self.events_verified += 1,
            Some(Err(bad)) => {
                self.events_forged += 1;
                self.say(now, &bad);
            }
            None => {}
        }
    }

    /// The keys that are set when the last picture is shown.
    fn state_keys(&self, now: Instant) -> Vec<String> {
        let wall_ms = self.start_unix_ms.saturating_add_unsigned(self.since_start_ms(now));
        // FLV's milliseconds are rounded down.
        let pts_us = self.video_pts_us.iter().max().map_or(i64::MAX, |pts_us| pts_us + self.ahead_us + 999);
        let now = Moment { pts_us, wall_ms };
        let keys: BTreeSet<_> = self.rooms.iter().flat_map(|room| room.active(now).into_keys()).collect();
        keys.into_iter().map(str::to_owned).collect()
    }

    fn say(&self, now: Instant, what: &dyn fmt::Display) {
        if self.narrate {
            println!("{:>9.3} s  {what}", now.saturating_duration_since(self.start).as_secs_f64());
        }
    }

    fn since_start_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }

    /// The report, at the end.
    pub(super) fn finish(self, url: &str, ended: String, now: Instant) -> Report {
        let join_ms = self.join_ms();
        let played_ms = join_ms.map_or(0, |join_ms| self.since_start_ms(now).saturating_sub(join_ms));
        let bits = (self.video.bytes + self.audio.bytes) * 8;
        let events = self.events.iter().map(|seen| EventReport {
            skew_frames: if seen.report.replay { None } else { skew_frames(seen, &self.video_pts_us) },
            ..seen.report.clone()
        });
        let events: Vec<_> = events.collect();
        let known = |count: u64| self.keys.is_some().then_some(count);
        let (events_verified, events_forged) = (known(self.events_verified), known(self.events_forged));
        let state_keys = self.state_keys(now);
        let (tracks, keyframes) = (&self.tracks, self.keyframes);
        Report {
            url: url.to_owned(),
            ended,
            join_ms,
            played_ms,
            kbit_per_s: bits.checked_div(played_ms).unwrap_or(0),
            video: tracks.video.as_ref().map(|config| VideoReport {
                codec: config.codec.as_str(),
                width: config.width,
                height: config.height,
                keyframes,
                track: self.video.report(),
            }),
            audio: tracks.audio.as_ref().map(|config| AudioReport {
                codec: config.codec.as_str(),
                sample_rate: config.sample_rate,
                channels: config.channels,
                track: self.audio.report(),
            }),
            latency_ms: Latency::of(self.latencies_ms),
            snapshots: self.snapshots,
            clocks: self.clocks,
            events_replayed: self.events_replayed,
            events_verified,
            events_forged,
            state_keys,
            events,
        }
    }
}

/// How many pictures too late (or, negative, too early) an event came: 0 if the next picture was the first
/// to be shown at or after its time. `None` if that picture never came.
///
/// An event on a track of its own is never early, because its reader waits for the picture; and it is late
/// only if a picture beyond its own is there already, since no player shows a picture the moment it comes.
fn skew_frames(seen: &SeenEvent, video_pts_us: &[i64]) -> Option<i64> {
    let at_us = seen.at_us?;
    // On a track of its own it may belong to a picture from before we joined.
    if !seen.in_line && video_pts_us.iter().min().is_some_and(|first_us| at_us < *first_us) {
        return None;
    }
    let due = video_pts_us.iter().enumerate().filter(|(_, pts_us)| **pts_us >= at_us);
    let (index, _) = due.min_by_key(|(_, pts_us)| **pts_us)?;
    let skew = i64::try_from(seen.position).ok()? - i64::try_from(index).ok()?;
    Some(if seen.in_line { skew } else { (skew - 1).max(0) })
}

impl Times {
    fn push(&mut self, dts_us: i64, bytes: usize) {
        self.dts_us.push(dts_us);
        self.bytes += bytes as u64;
    }

    fn report(&self) -> TrackReport {
        let steps = self.dts_us.iter().zip(self.dts_us.iter().skip(1)).map(|(a, b)| b - a);
        let mut sorted: Vec<i64> = steps.clone().collect();
        sorted.sort_unstable();
        let usual_us = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
        // One missing frame already makes two usual steps; timestamps in milliseconds jitter by one.
        let gaps = steps.clone().filter(|step| *step * 4 > usual_us * 7 + 4000);
        TrackReport {
            frames: self.dts_us.len() as u64,
            bytes: self.bytes,
            step_us_usual: usual_us,
            gaps: gaps.clone().count() as u64,
            gap_ms_max: gaps.max().unwrap_or(0) / 1000,
            dts_backwards: steps.filter(|step| *step < 0).count() as u64,
        }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) url: String,
    /// Why the watching ended.
    pub(super) ended: String,
    /// From connect to the first keyframe.
    pub(super) join_ms: Option<u64>,
    /// From the first keyframe to the end.
    pub(super) played_ms: u64,
    pub(super) kbit_per_s: u64,
    pub(super) video: Option<VideoReport>,
    pub(super) audio: Option<AudioReport>,
    /// Where the publisher puts its clock into the stream.
    pub(super) latency_ms: Option<Latency>,
    pub(super) snapshots: u64,
    /// Events that tell the room's clock.
    pub(super) clocks: u64,
    /// Events from before we joined, those in snapshots among them.
    pub(super) events_replayed: u64,
    /// Events that a trusted key signed, and the others, wherever they came; `null` where no keys were known.
    pub(super) events_verified: Option<u64>,
    pub(super) events_forged: Option<u64>,
    /// What is set in the room at the end.
    pub(super) state_keys: Vec<String>,
    /// All but the clock.
    pub(super) events: Vec<EventReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct VideoReport {
    pub(super) codec: &'static str,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) keyframes: u64,
    #[serde(flatten)]
    pub(super) track: TrackReport,
}

#[derive(Debug, Serialize)]
pub(super) struct AudioReport {
    pub(super) codec: &'static str,
    pub(super) sample_rate: u32,
    pub(super) channels: u8,
    #[serde(flatten)]
    pub(super) track: TrackReport,
}

/// One track's continuity.
#[derive(Debug, Serialize)]
pub(super) struct TrackReport {
    pub(super) frames: u64,
    pub(super) bytes: u64,
    /// The median distance of two frames.
    pub(super) step_us_usual: i64,
    /// Steps that leave out at least one frame.
    pub(super) gaps: u64,
    pub(super) gap_ms_max: i64,
    pub(super) dts_backwards: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct EventReport {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) seq: u64,
    pub(super) pts_us: Option<i64>,
    /// When it came, from connect.
    pub(super) at_ms: u64,
    /// It happened before we joined.
    pub(super) replay: bool,
    /// Pictures between the event and the one it belongs to; see [`skew_frames`].
    pub(super) skew_frames: Option<i64>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Latency {
    pub(super) p50: i64,
    pub(super) p99: i64,
    pub(super) samples: usize,
}

impl Latency {
    fn of(mut samples: Vec<i64>) -> Option<Self> {
        samples.sort_unstable();
        let at =
            |percent: usize| samples.get((samples.len() * percent / 100).min(samples.len().checked_sub(1)?)).copied();
        Some(Self { p50: at(50)?, p99: at(99)?, samples: samples.len() })
    }
}

impl fmt::Display for EventReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} {}", self.kind, self.id)?;
        if self.replay { f.write_str(" (before we joined)") } else { Ok(()) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ended: {}", self.ended)?;
        if let Some(join_ms) = self.join_ms {
            writeln!(
                f,
                "join     {join_ms} ms; then {:.1} s at {} kbit/s",
                self.played_ms as f64 / 1e3,
                self.kbit_per_s
            )?;
        }
        if let Some(video) = &self.video {
            let VideoReport { codec, width, height, keyframes, track } = video;
            writeln!(f, "picture  {codec} {width}x{height}: {track}, {keyframes} keyframes")?;
        }
        if let Some(audio) = &self.audio {
            let AudioReport { codec, sample_rate, channels, track } = audio;
            writeln!(f, "sound    {codec} {sample_rate} Hz, {channels} channels: {track}")?;
        }
        if let Some(latency) = &self.latency_ms {
            writeln!(f, "latency  p50 {} ms, p99 {} ms ({} samples)", latency.p50, latency.p99, latency.samples)?;
        }
        write!(f, "events   {}", self.events.len())?;
        match (self.events_verified, self.events_forged) {
            (Some(verified), Some(forged)) => write!(f, " ({verified} verified, {forged} forged)")?,
            _ => write!(f, " (no keys to verify them by)")?,
        }
        if !self.state_keys.is_empty() {
            write!(f, "\nstate    {}", self.state_keys.join(", "))?;
        }
        for event in &self.events {
            match event.skew_frames {
                Some(0) => write!(f, "\n         {} {}: beside its picture", event.kind, event.id)?,
                Some(skew) => write!(f, "\n         {} {}: {skew:+} pictures off", event.kind, event.id)?,
                None => write!(f, "\n         {} {}: its picture did not come", event.kind, event.id)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for TrackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames, {} gaps", self.frames, self.gaps)?;
        if self.gaps > 0 {
            write!(f, " (longest {} ms)", self.gap_ms_max)?;
        }
        if self.dts_backwards > 0 {
            write!(f, ", {} steps back in time", self.dts_backwards)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
