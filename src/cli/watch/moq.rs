//! MoQ: the catalog, then picture, sound and events on one session.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use serde_json::Value;
use url::Url;

use super::{Ended, Failed, analysis::Analysis, bounded, observed::Observed};
use crate::{
    cli::dev,
    clock::{self, Instant},
    media::{AudioConfig, Codec, Event, TrackKind, Tracks, VideoConfig},
    net::tls::Trust,
    proto::moq::{
        catalog::{AUDIO_TRACK, CATALOG_TRACK, Catalog, EVENTS_TRACK, VIDEO_TRACK},
        container,
    },
    relay::{Client, Received, Subscription},
    secret::Digest,
};

/// Plays until the server ends the stream, or until `until`. The URL's path is the broadcast.
pub(super) async fn play(
    url: &Url,
    pin: Option<Digest>,
    until: Instant,
    analysis: &mut Analysis,
) -> Result<Ended, Failed> {
    let trust = trust(url, pin).await?;
    let client = Client::connect(url, &trust, 0).await.map_err(|e| Failed::unreachable(url, &e))?;
    let ended = bounded(until, follow(&client, url, analysis)).await;
    client.close().await;
    ended
}

async fn follow(client: &Client, url: &Url, analysis: &mut Analysis) -> Result<(), Failed> {
    let tracks = read_catalog(client, url).await?;
    let (mut reader, mut seen) = (GroupStarts::default(), Seen::default());
    let mut video = subscribe(client, url, VIDEO_TRACK, tracks.video.is_some()).await?;
    let mut audio = subscribe(client, url, AUDIO_TRACK, tracks.audio.is_some()).await?;
    let mut events = subscribe(client, url, EVENTS_TRACK, true).await?;
    loop {
        let (track, received) = tokio::select! {
            received = next(&mut video) => (Some(TrackKind::Video), received),
            received = next(&mut audio) => (Some(TrackKind::Audio), received),
            received = next(&mut events) => (None, received),
        };
        let Some(received) = received else { return Ok(()) };
        let Received::Frame { group, payload, .. } = received else { continue };
        match track {
            Some(track) => {
                let keyframe = track == TrackKind::Audio || reader.starts(group);
                analysis.handle(frame(track, keyframe, payload)?, &tracks, clock::now(), clock::unix_ms());
            }
            None => {
                for observed in seen.records(&payload)? {
                    analysis.handle(observed, &tracks, clock::now(), clock::unix_ms());
                }
            }
        }
    }
}

/// As told; that of the running `hawker dev`, if it is its server; else the system's authorities.
pub(in crate::cli) async fn trust(url: &Url, pin: Option<Digest>) -> Result<Trust, Failed> {
    if let Some(pin) = pin {
        return Ok(Trust::Pinned(vec![*pin.as_bytes()]));
    }
    if let Some(node) = dev::Info::node_at(url) {
        return dev_trust(&node.http).await;
    }
    Trust::from_authorities(Path::new(SYSTEM_AUTHORITIES)).map_err(|e| Failed::unreachable(url, &e))
}

/// A development server tells its certificate's digest over HTTP.
async fn dev_trust(http: &str) -> Result<Trust, Failed> {
    let url = format!("{http}/v1/moq").parse().map_err(|e| Failed::Scheme(format!("{http}: {e}")))?;
    let answer = reqwest::get(Url::clone(&url)).await.map_err(|e| Failed::unreachable(&url, &e))?;
    let answer: Value = answer.json().await.map_err(|e| Failed::unreachable(&url, &e))?;
    let digest = answer.get("certificate_sha256").cloned().unwrap_or_default();
    let digest: Digest = serde_json::from_value(digest).map_err(|e| Failed::Broken(e.to_string()))?;
    Ok(Trust::Pinned(vec![*digest.as_bytes()]))
}

async fn subscribe(client: &Client, url: &Url, track: &str, wanted: bool) -> Result<Option<Subscription>, Failed> {
    if !wanted {
        return Ok(None);
    }
    let priority = [CATALOG_TRACK, EVENTS_TRACK, AUDIO_TRACK, VIDEO_TRACK].iter().position(|t| *t == track);
    let priority = u8::try_from(priority.unwrap_or(0)).unwrap_or(0);
    client.subscribe("", track, priority, None).await.map(Some).map_err(|e| Failed::unreachable(url, &e))
}

async fn next(subscription: &mut Option<Subscription>) -> Option<Received> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

/// The tracks, once the catalog names any.
async fn read_catalog(client: &Client, url: &Url) -> Result<Tracks, Failed> {
    let mut catalogs = subscribe(client, url, CATALOG_TRACK, true).await?;
    while let Some(received) = next(&mut catalogs).await {
        let Received::Frame { payload, .. } = received else { continue };
        let tracks = tracks(&Catalog::from_json(&payload).map_err(|e| Failed::Broken(e.to_string()))?);
        if tracks.video.is_some() || tracks.audio.is_some() {
            return Ok(tracks);
        }
    }
    Err(Failed::Refused("it has no such stream".into()))
}

fn tracks(catalog: &Catalog) -> Tracks {
    let video = catalog.video.as_ref().and_then(|video| video.renditions.get(VIDEO_TRACK));
    let audio = catalog.audio.as_ref().and_then(|audio| audio.renditions.get(AUDIO_TRACK));
    let video = video.and_then(|video| {
        Some(VideoConfig {
            codec: codec(&video.codec)?,
            description: Bytes::new(),
            width: video.coded_width.unwrap_or(0),
            height: video.coded_height.unwrap_or(0),
        })
    });
    let audio = audio.and_then(|audio| {
        Some(AudioConfig {
            codec: codec(&audio.codec)?,
            description: Bytes::new(),
            sample_rate: audio.sample_rate,
            channels: u8::try_from(audio.number_of_channels).unwrap_or(0),
        })
    });
    Tracks { video, audio, ..Tracks::default() }
}

/// The codec that an RFC 6381 string names.
fn codec(text: &str) -> Option<Codec> {
    Some(match text.split('.').next()? {
        "avc1" | "avc3" => Codec::Avc,
        "hvc1" | "hev1" => Codec::Hevc,
        "av01" => Codec::Av1,
        "vp8" | "vp08" => Codec::Vp8,
        "vp09" => Codec::Vp9,
        "mp4a" => Codec::Aac,
        "opus" => Codec::Opus,
        _ => return None,
    })
}

/// The container has one time, the presentation's.
fn frame(track: TrackKind, keyframe: bool, payload: Bytes) -> Result<Observed, Failed> {
    let (pts_us, data) = container::read_legacy(payload).map_err(|e| Failed::Broken(e.to_string()))?;
    Ok(Observed::Frame { track, dts_us: pts_us, pts_us, keyframe, bytes: data.len() })
}

/// Knows the first frame of each group, which is its keyframe. Groups may overlap.
#[derive(Default)]
struct GroupStarts {
    recent: BTreeSet<u64>,
}

impl GroupStarts {
    fn starts(&mut self, group: u64) -> bool {
        if self.recent.len() > RECENT_GROUPS_MAX {
            self.recent.pop_first();
        }
        self.recent.insert(group)
    }
}

/// Each group of events begins with those still of interest; each counts once.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    joined: bool,
}

impl Seen {
    /// The records of a frame that are new. Those of the first frame happened before we joined.
    fn records(&mut self, payload: &[u8]) -> Result<Vec<Observed>, Failed> {
        let broken = |e: &dyn std::error::Error| Failed::Broken(format!("events: {e}"));
        let records: Vec<Value> = serde_json::from_slice(payload).map_err(|e| broken(&e))?;
        let replay = !std::mem::replace(&mut self.joined, true);
        let mut new = Vec::new();
        for record in records {
            let Some(Value::Object(data)) = record.get("data").cloned() else { continue };
            let event = Event::from_object(data).map_err(|e| broken(&e))?;
            if self.ids.insert(event.head.id.clone()) {
                let event = Arc::new(event);
                new.push(Observed::Event { at_us: event.pts_us(), event, replay, in_line: false });
            }
        }
        Ok(new)
    }
}

const RECENT_GROUPS_MAX: usize = 64;
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(id: &str) -> Value {
        let time = json!({"mode": "pts", "epoch": 0, "pts_us": 40_000});
        let event = json!({"v": 1, "id": id, "source": "a", "seq": 1, "type": "gift.send", "op": "fire", "time": time});
        json!({"M": 40, "data": event})
    }

    #[test]
    fn each_event_counts_once_and_the_first_records_are_history() {
        let (a, b) = (record("01JD2M6W4N8R3T5V7X9Z1B3D5F"), record("01JD2M6W4N8R3T5V7X9Z1B3D5G"));
        let mut seen = Seen::default();
        let mut replays = |records: Value| -> Vec<bool> {
            let observed = seen.records(records.to_string().as_bytes()).expect("records");
            observed.iter().map(|o| matches!(o, Observed::Event { replay: true, .. })).collect()
        };
        assert_eq!(replays(json!([a])), [true]);
        assert_eq!(replays(json!([b])), [false]);
        assert!(replays(json!([a, b])).is_empty(), "a new group repeats them");
        assert!(Seen::default().records(b"{}").is_err());
    }

    #[test]
    fn a_keyframe_is_the_first_of_its_group_in_any_order() {
        let mut starts = GroupStarts::default();
        let keyframes: Vec<bool> = [7, 7, 9, 8, 8, 9].into_iter().map(|group| starts.starts(group)).collect();
        assert_eq!(keyframes, [true, false, true, true, false, false]);
    }

    #[test]
    fn the_catalog_names_the_codecs() {
        let catalog = br#"{"video":{"renditions":{"video":{"codec":"avc1.4d401f","codedWidth":960,"codedHeight":540}}},
            "audio":{"renditions":{"audio":{"codec":"opus","sampleRate":48000,"numberOfChannels":2}}}}"#;
        let tracks = tracks(&Catalog::from_json(catalog).expect("a catalog"));
        let (video, audio) = (tracks.video.expect("a picture"), tracks.audio.expect("a sound"));
        assert_eq!((video.codec, video.width, audio.codec, audio.channels), (Codec::Avc, 960, Codec::Opus, 2));
    }
}
