//! MoQ viewers: picture, sound and events on one session each.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tokio::time::sleep;

use super::{
    media::Mark,
    observer::Observer,
    plan::{Target, Visit},
    viewers::Failed,
};
use crate::{
    cli::watch,
    clock,
    media::TrackKind,
    net::tls::Trust,
    proto::moq::{
        catalog::{AUDIO_TRACK, EVENTS_TRACK, VIDEO_TRACK},
        container,
    },
    relay::{Client, Received, Reorder, SendError, Subscription},
};

/// Watches until the server ends it.
pub(super) async fn watch(visit: &Visit, observer: &mut Observer) -> Result<(), Failed> {
    let client = connect(&visit.target).await?;
    observer.connected();
    let mut video = subscribe(&client, VIDEO_TRACK, 1).await?;
    let mut audio = subscribe(&client, AUDIO_TRACK, 2).await?;
    let mut events = subscribe(&client, EVENTS_TRACK, 3).await?;
    let (mut pictures, mut sounds) = (Track::new(TrackKind::Video), Track::new(TrackKind::Audio));
    let mut newest = 0;
    loop {
        let bytes = tokio::select! {
            received = video.next() => pictures.handle(received, observer)?,
            received = audio.next() => sounds.handle(received, observer)?,
            received = events.next() => handle_events(received, &mut newest, observer)?,
        };
        if let Some(bytes_per_s) = visit.bytes_per_s_max {
            sleep(Duration::from_secs_f64(bytes as f64 / bytes_per_s as f64)).await;
        }
    }
}

thread_local! {
    /// Whom to trust for each address: to find that out may take a request.
    static TRUST: RefCell<HashMap<String, Trust>> = RefCell::default();
}

async fn connect(target: &Target) -> Result<Client, Failed> {
    let address = target.url.as_str();
    let trust = match TRUST.with_borrow(|known| known.get(address).cloned()) {
        Some(trust) => trust,
        None => {
            let trust = watch::trust(&target.url, target.cert_sha256).await.map_err(refused)?;
            TRUST.with_borrow_mut(|known| known.insert(address.to_owned(), trust.clone()));
            trust
        }
    };
    Client::connect_with_window(&target.url, &trust, 0, WINDOW_BYTES).await.map_err(refused)
}

async fn subscribe(client: &Client, track: &str, priority: u8) -> Result<Subscription, Failed> {
    client.subscribe("", track, priority, None).await.map_err(|error: SendError| refused(error))
}

fn refused(error: impl std::error::Error) -> Failed {
    Failed::Refused(error.to_string())
}

/// A track of frames, its groups put in order.
struct Track {
    kind: TrackKind,
    groups: Reorder<Bytes>,
    /// The group of the frame told last.
    group: Option<u64>,
}

impl Track {
    fn new(kind: TrackKind) -> Self {
        Self { kind, groups: Reorder::new(PATIENCE), group: None }
    }

    /// Tells what came; gives how many bytes it was.
    fn handle(&mut self, received: Option<Received>, observer: &mut Observer) -> Result<usize, Failed> {
        let (now, mut bytes) = (clock::now(), 0);
        match received.ok_or(Failed::Ended)? {
            Received::Frame { group, payload, .. } => {
                bytes = payload.len();
                observer.arrived(bytes);
                // What is too late counts as lost already.
                let _ = self.groups.handle_item(now, group, payload);
            }
            Received::GroupEnd { group, .. } => {
                // It may free frames that waited for it.
                observer.arrived(0);
                self.groups.handle_end(now, group);
            }
        }
        while let Some((group, payload)) = self.groups.poll_item(now) {
            let begins = self.group.replace(group) != Some(group);
            let (_, frame) = container::read_legacy(payload).map_err(|_| Failed::Broken("a frame without a time"))?;
            let mark = match self.kind {
                TrackKind::Video => Mark::of_picture(&frame),
                TrackKind::Audio => Mark::of_sound(&frame),
            };
            observer.frame(self.kind, begins || self.kind == TrackKind::Audio, mark);
        }
        Ok(bytes)
    }
}

/// Tells the events that are new: a group begins with those before it that are still of interest.
fn handle_events(received: Option<Received>, newest: &mut u64, observer: &mut Observer) -> Result<usize, Failed> {
    let Received::Frame { payload, .. } = received.ok_or(Failed::Ended)? else { return Ok(0) };
    observer.arrived(payload.len());
    let records: Vec<Value> =
        serde_json::from_slice(&payload).map_err(|_| Failed::Broken("events that aren't JSON"))?;
    let numbers = records.iter().filter_map(|record| record.pointer("/data/data/hawker_load")?.as_u64());
    for number in numbers {
        if number > *newest {
            *newest = number;
            observer.event(number);
        }
    }
    Ok(payload.len())
}

/// As much as a browser takes unread.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// How long a group may hang once a newer one is there.
const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
