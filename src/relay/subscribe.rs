//! One stream of an upstream, mirrored into the local hub while somebody here watches it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep_until};

use super::{
    Relay, Track,
    client::{Client, Received, Subscription},
    reorder::Reorder,
    send::SendError,
};
use crate::{
    clock,
    hub::{Publisher, Replaced, Stream},
    limits::{MOQ_AUDIO_HELD_MAX, MOQ_EVENT_IDS_MAX},
    media::{Data, Event, Frame, Item, StreamName, TrackKind},
    proto::moq::{
        container::read_legacy,
        line::{LineItem, decode_item},
        varint::WireError,
    },
};

/// A stream that an upstream announced; outlives sessions with upstreams.
pub(super) struct Mirror {
    name: StreamName,
    state: Mutex<(Arc<Stream>, Delivered)>,
}

/// Why a stream is no longer pulled.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    /// Somebody publishes it here.
    #[error("{0}")]
    Replaced(#[from] Replaced),
    /// The session is over.
    #[error("{0}")]
    Session(#[from] SendError),
    /// The upstream sends what is none.
    #[error("upstream sent a {0}")]
    Wire(#[from] WireError),
    /// This node has all the streams it may have.
    #[error("{0}")]
    Full(#[from] crate::hub::Full),
}

impl Mirror {
    /// A stream just announced.
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        Self { name: stream.name().clone(), state: Mutex::new((stream, Delivered::default())) }
    }

    /// The local stream.
    pub(super) fn stream(&self) -> Arc<Stream> {
        self.state.lock().0.clone()
    }

    /// Pulls whenever there are viewers here, until the session ends or another publisher takes over.
    pub(super) async fn pull(&self, client: &Client, relay: &Arc<Relay>) -> Result<(), PullError> {
        loop {
            let mut viewers = self.stream().viewers();
            // The stream holds the sender.
            let _ = viewers.wait_for(|viewers| *viewers > 0).await;
            let publisher = relay.hub.publish(&self.name)?;
            let mut sink = Sink::new(self, publisher);
            let mut line = client.subscribe(self.name.as_str(), Track::Line.name(), PRIORITY_LINE).await?;
            let mut audio = client.subscribe(self.name.as_str(), Track::Audio.name(), PRIORITY_AUDIO).await?;
            tokio::select! {
                ended = sink.run(&mut line, &mut audio) => {
                    ended?;
                    // The stream's end is announced separately; if it isn't, it was a hiccup.
                    tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
                }
                () = unwatched(viewers, relay.hub.settings().linger) => self.forget(relay)?,
            }
        }
    }

    /// Nobody watches any more: begins the local stream anew, so that the next viewer doesn't start with what
    /// was current when the last one left.
    fn forget(&self, relay: &Arc<Relay>) -> Result<(), PullError> {
        let mut state = self.state.lock();
        relay.hub.unannounce(&state.0);
        *state = (relay.hub.announce(&self.name)?, Delivered::default());
        Ok(())
    }
}

/// Resolves when nobody has watched for `linger`.
async fn unwatched(mut viewers: watch::Receiver<usize>, linger: Duration) {
    loop {
        let _ = viewers.wait_for(|viewers| *viewers == 0).await;
        if tokio::time::timeout(linger, viewers.wait_for(|viewers| *viewers > 0)).await.is_err() {
            return;
        }
    }
}

/// What the local line already has, so that nothing is told twice when an upstream repeats itself.
#[derive(Debug, Default)]
struct Delivered {
    video_dts_us: Option<i64>,
    audio_dts_us: Option<i64>,
    data: Option<Data>,
    /// Ids of the newest events. Their seqs needn't rise: one that was scheduled early may fire late.
    events: VecDeque<String>,
}

impl Delivered {
    fn has_frames(&self) -> bool {
        self.video_dts_us.is_some() || self.audio_dts_us.is_some()
    }

    /// Notes the item; true if the line doesn't have it yet.
    fn is_new(&mut self, item: &Item) -> bool {
        match item {
            // The hub knows an unchanged configuration itself.
            Item::Config(_) => true,
            Item::Frame(frame) => {
                let last = match frame.track {
                    TrackKind::Video => &mut self.video_dts_us,
                    TrackKind::Audio => &mut self.audio_dts_us,
                };
                let new = last.is_none_or(|last| frame.dts_us > last);
                if new {
                    *last = Some(frame.dts_us);
                }
                new
            }
            Item::Data(data) => {
                let new = self
                    .data
                    .as_ref()
                    .is_none_or(|last| data.dts_us > last.dts_us || *data != *last && data.dts_us == last.dts_us);
                if new {
                    self.data = Some(data.clone());
                }
                new
            }
            Item::Event(event) => {
                let id = &event.head.id;
                let new = !self.events.contains(id);
                if new {
                    self.events.push_back(id.clone());
                    if self.events.len() > MOQ_EVENT_IDS_MAX {
                        self.events.pop_front();
                    }
                }
                new
            }
        }
    }
}

/// Takes what two subscriptions yield and publishes it here, in order and once.
struct Sink<'a> {
    mirror: &'a Mirror,
    publisher: Publisher,
    line: Reorder<LineItem>,
    audio: Reorder<Bytes>,
    /// Sound that came before the picture it belongs to.
    held: Option<VecDeque<(u64, Frame)>>,
    has_video: Option<bool>,
    /// The line here goes on from an earlier session.
    resumed: bool,
}

impl<'a> Sink<'a> {
    fn new(mirror: &'a Mirror, publisher: Publisher) -> Self {
        let (line, audio) = (Reorder::new(PATIENCE), Reorder::new(PATIENCE));
        let resumed = mirror.state.lock().1.has_frames();
        Self { mirror, publisher, line, audio, held: Some(VecDeque::new()), has_video: None, resumed }
    }

    /// Runs until the line ends.
    async fn run(&mut self, line: &mut Subscription, audio: &mut Subscription) -> Result<(), PullError> {
        let mut audio_ended = false;
        loop {
            let deadline = [self.line.poll_deadline(), self.audio.poll_deadline()].into_iter().flatten().min();
            tokio::select! {
                biased;
                received = line.next() => match received {
                    Some(received) => self.handle_line(received)?,
                    None => return Ok(()),
                },
                received = audio.next(), if !audio_ended => match received {
                    Some(received) => self.handle_audio(received),
                    None => audio_ended = true,
                },
                () = sleep_until(deadline.unwrap_or_else(clock::now)), if deadline.is_some() => {}
                replaced = self.publisher.replaced() => return Err(replaced.into()),
            }
            self.publish()?;
        }
    }

    fn handle_line(&mut self, received: Received) -> Result<(), PullError> {
        let now = clock::now();
        match received {
            Received::Frame { group, payload, .. } => {
                let late = self.line.handle_item(now, group, decode_item(&payload)?);
                // A frame that comes too late is lost; an event never is.
                match late {
                    Err(LineItem::Item(item @ (Item::Event(_) | Item::Data(_)))) => self.push(item, group)?,
                    Err(LineItem::Recap(event)) => self.recap(event, group)?,
                    Err(LineItem::Item(_)) | Ok(()) => {}
                }
            }
            Received::GroupEnd { group, .. } => self.line.handle_end(now, group),
        }
        Ok(())
    }

    fn handle_audio(&mut self, received: Received) {
        let now = clock::now();
        match received {
            Received::Frame { group, payload, .. } => {
                let _late = self.audio.handle_item(now, group, payload);
            }
            Received::GroupEnd { group, .. } => self.audio.handle_end(now, group),
        }
    }

    fn publish(&mut self) -> Result<(), PullError> {
        let now = clock::now();
        while let Some((group, item)) = self.line.poll_item(now) {
            match item {
                LineItem::Item(item) => self.publish_item(item, group)?,
                LineItem::Recap(event) => self.recap(event, group)?,
            }
        }
        while let Some((group, payload)) = self.audio.poll_item(now) {
            let (pts_us, data) = read_legacy(payload)?;
            let frame = Frame { track: TrackKind::Audio, dts_us: pts_us, pts_us, keyframe: false, data };
            match (&mut self.held, self.has_video) {
                // Without a picture the line has the sound.
                (_, Some(false)) => {}
                (Some(held), _) => {
                    held.push_back((group, frame));
                    if held.len() > MOQ_AUDIO_HELD_MAX {
                        held.pop_front();
                    }
                }
                (None, _) => self.push(Item::Frame(frame), group)?,
            }
        }
        Ok(())
    }

    fn publish_item(&mut self, item: Item, group: u64) -> Result<(), PullError> {
        let mut start_us = None;
        match &item {
            Item::Config(tracks) => self.has_video = Some(tracks.video.is_some()),
            Item::Frame(frame) if frame.keyframe => start_us = Some(frame.dts_us),
            _ => {}
        }
        self.push(item, group)?;
        start_us.map_or(Ok(()), |start_us| self.release_audio(start_us))
    }

    /// An event from before: the viewers here lack it only if they were here before and we were away.
    fn recap(&mut self, event: Arc<Event>, group: u64) -> Result<(), PullError> {
        let item = Item::Event(event);
        if self.resumed {
            self.push(item, group)?;
        } else {
            self.mirror.state.lock().1.is_new(&item);
        }
        Ok(())
    }

    /// The picture has begun: the sound from there on follows it.
    fn release_audio(&mut self, start_us: i64) -> Result<(), PullError> {
        for (group, frame) in self.held.take().into_iter().flatten() {
            if frame.dts_us >= start_us {
                self.push(Item::Frame(frame), group)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, item: Item, group: u64) -> Result<(), Replaced> {
        if self.mirror.state.lock().1.is_new(&item) { self.publisher.relay(item, group) } else { Ok(()) }
    }
}

/// How long a group may hang once a newer one is there.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between the end of a subscription that should not have ended and the next try.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_millis(200);

/// What players use for video and audio.
const PRIORITY_LINE: u8 = 60;
const PRIORITY_AUDIO: u8 = 80;
