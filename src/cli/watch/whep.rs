//! WHEP: picture and sound over RTP, events on a data channel.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use url::Url;

use super::{Ended, Failed, analysis::Analysis, bounded, observed::Observed};
use crate::{
    cli::webrtc::{self, Input, Receiver, Session},
    clock::{self, Instant},
    media::{AudioConfig, Codec, Event, TrackKind, Tracks},
    proto::webrtc::Over,
};

/// Plays until the server ends the stream, or until `until`.
pub(super) async fn play(url: &Url, until: Instant, analysis: &mut Analysis) -> Result<Ended, Failed> {
    let mut session = Session::play(url).await?;
    let ended = bounded(until, follow(&mut session, analysis)).await;
    // Who leaves is as little concerned as the server is.
    let _ = session.close().await;
    ended
}

async fn follow(session: &mut Session, analysis: &mut Analysis) -> Result<(), Failed> {
    let mut receiver = Receiver::new(session.terms(), clock::now().into_std());
    let mut viewer = Viewer::default();
    loop {
        let (until, mut messages) = (Instant::from_std(receiver.deadline()), Vec::new());
        let handle = |now, input: Input<'_>| match input {
            Input::Rtp(packet) => receiver.handle_rtp(now, packet),
            Input::Rtcp(packet) => receiver.handle_rtcp(now, packet),
            Input::Message(message) => messages.push(message),
            Input::Arrived(_) | Input::ChannelOpen => {}
        };
        match session.turn(until, handle).await {
            Err(webrtc::Failed::Over(Over::Closed)) => return Ok(()),
            turned => turned?,
        }
        let (now, unix_ms) = (clock::now(), clock::unix_ms());
        for message in messages {
            analysis.handle(viewer.event(&message)?, &viewer.tracks, now, unix_ms);
        }
        while let Some((track, unit)) = receiver.poll_frame(now.into_std()) {
            if unit.config.is_some() {
                viewer.tracks.video = unit.config;
            }
            let (keyframe, bytes) = (unit.keyframe, unit.data.len());
            let pts_us = viewer.place_frame(track, unit.timestamp);
            let frame = Observed::Frame { track, dts_us: pts_us, pts_us, keyframe, bytes };
            analysis.handle(frame, &viewer.tracks, now, unix_ms);
        }
        while let Some(packet) = receiver.poll_feedback(now.into_std()) {
            session.send_rtcp(&packet);
        }
        session.flush();
    }
}

/// What is known of the stream so far.
#[derive(Default)]
struct Viewer {
    tracks: Tracks,
    video: Timeline,
    audio: Timeline,
}

impl Viewer {
    fn place_frame(&mut self, track: TrackKind, timestamp: u32) -> i64 {
        match track {
            TrackKind::Video => self.video.advance(timestamp) * 1000 / VIDEO_TICKS_PER_MS,
            TrackKind::Audio => {
                let opus = || AudioConfig::from_description(Codec::Opus, Bytes::new());
                self.tracks.audio.get_or_insert_with(opus);
                self.audio.advance(timestamp) * 1000 / AUDIO_TICKS_PER_MS
            }
        }
    }

    /// The event that a message tells: `{"rtp":…,"rp":…,"ev":{…}}`, the time in ticks of the picture's clock.
    fn event(&mut self, message: &[u8]) -> Result<Observed, Failed> {
        let broken = |what: &str| Failed::Broken(format!("event: {what}"));
        let mut message: Value = serde_json::from_slice(message).map_err(|e| broken(&e.to_string()))?;
        let rtp = message.get("rtp").and_then(Value::as_u64).and_then(|rtp| u32::try_from(rtp).ok());
        let at_us = self.video.place(rtp.ok_or_else(|| broken("it has no time"))?) * 1000 / VIDEO_TICKS_PER_MS;
        let replay = message.get("rp").and_then(Value::as_u64) == Some(1);
        let Some(Value::Object(event)) = message.get_mut("ev").map(Value::take) else {
            return Err(broken("there is none"));
        };
        let event = Event::from_object(event).map_err(|e| broken(&e.to_string()))?;
        Ok(Observed::Event { event: Arc::new(event), at_us: Some(at_us), replay, in_line: false })
    }
}

/// RTP timestamps without their wraps. Before the first of them lies half a range.
#[derive(Default)]
struct Timeline {
    newest: Option<(u32, i64)>,
}

impl Timeline {
    /// Where a timestamp lies, seen from the newest frame.
    fn place(&mut self, timestamp: u32) -> i64 {
        let (newest, ticks) = *self.newest.get_or_insert((timestamp, 1 << 32));
        ticks + i64::from(timestamp.wrapping_sub(newest).cast_signed())
    }

    /// The same of a frame, which is the newest from now on.
    fn advance(&mut self, timestamp: u32) -> i64 {
        let ticks = self.place(timestamp);
        self.newest = Some((timestamp, ticks));
        ticks
    }
}

const VIDEO_TICKS_PER_MS: i64 = 90;
const AUDIO_TICKS_PER_MS: i64 = 48;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(rtp: u32, replay: u8) -> String {
        let time = json!({"mode": "pts", "epoch": 0, "pts_us": 40_000});
        let event = json!({"v": 1, "id": "01JD2M6W4N8R3T5V7X9Z1B3D5F", "source": "a", "seq": 1, "type": "gift.send",
            "op": "fire", "time": time});
        json!({"rtp": rtp, "rp": replay, "ev": event}).to_string()
    }

    #[test]
    fn an_event_lies_on_the_picture_s_timeline_across_a_wrap() {
        let mut viewer = Viewer::default();
        let first_us = viewer.place_frame(TrackKind::Video, u32::MAX - 899);
        let Ok(Observed::Event { at_us, replay: false, in_line: false, .. }) = viewer.event(message(900, 0).as_bytes())
        else {
            panic!("an event");
        };
        assert_eq!(at_us, Some(first_us + 20_000));
        assert_eq!(viewer.place_frame(TrackKind::Video, 900), first_us + 20_000, "beside its frame");
        let again = viewer.event(message(900, 1).as_bytes());
        assert!(matches!(again, Ok(Observed::Event { replay: true, .. })));
        for broken in ["{}", "{\"rtp\":1,\"ev\":{}}", "{\"rtp\":4294967296,\"ev\":{}}", "["] {
            assert!(matches!(viewer.event(broken.as_bytes()), Err(Failed::Broken(_))), "{broken}");
        }
    }
}
