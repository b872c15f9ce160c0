//! One stream of an upstream, mirrored into the local hub while somebody here watches it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep_until};

use super::{
    Relay, Track,
    client::{Client, Received, Subscription},
    interleave::Interleave,
    publish::audio_group,
    reorder::Reorder,
    send::SendError,
};
use crate::{
    clock::{self, Instant},
    hub::{Publisher, Replaced, Stream, Unseated},
    limits::{EVENTS_PENDING_MAX, MOQ_EVENT_IDS_MAX},
    media::{Data, Event, Frame, Head, Item, Room, StreamName, TrackKind},
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
    /// Somebody publishes it here already, or this node has all the streams it may have.
    #[error("{0}")]
    Unseated(#[from] Unseated),
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
            let publisher = relay.hub.publish_relayed(&self.name)?;
            let mut sink = Sink::new(self, relay, publisher);
            tokio::select! {
                ended = sink.run(client) => {
                    let pause = match ended {
                        // The stream's end is announced separately; if it isn't, it was a hiccup.
                        Ok(()) => RESUBSCRIBE_PAUSE,
                        Err(PullError::Wire(error)) => {
                            tracing::warn!(stream = %self.name, %error, "upstream can't be read, and is tried again");
                            RETRY_PAUSE
                        }
                        Err(error) => return Err(error),
                    };
                    tokio::time::sleep(pause).await;
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
        *state = (relay.hub.announce(&self.name).map_err(Unseated::from)?, Delivered::default());
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
            // The hub knows an unchanged head itself. Of one for all rooms it passes on what is new there.
            Item::Head(head) => {
                let told = head.room.beyond(&Room::default());
                told.iter().filter(|event| event.is_global()).for_each(|event| {
                    self.is_new_event(event);
                });
                true
            }
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
            Item::Event(event) => self.is_new_event(event),
        }
    }

    fn is_new_event(&mut self, event: &Event) -> bool {
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

/// Takes what two subscriptions yield and publishes it here, in order and once.
struct Sink<'a> {
    mirror: &'a Mirror,
    relay: &'a Relay,
    publisher: Publisher,
    line: Reorder<LineItem>,
    audio: Reorder<Bytes>,
    interleave: Interleave,
    /// False where the line itself carries the sound.
    has_video: bool,
    /// The audio group of the first picture, once it is known: where the sound is to begin.
    audio_start: Option<u64>,
    /// The line here has frames, or is about to: of this session or of an earlier one.
    begun: bool,
    /// The group whose first frame came last.
    group: Option<u64>,
    /// Events of the group behind it: what that recaps is older, though it comes later.
    early: Vec<(u64, Item)>,
    /// The room that was told last.
    room: Arc<Room>,
    /// An event was not taken, and the log knows.
    warned: bool,
}

impl<'a> Sink<'a> {
    fn new(mirror: &'a Mirror, relay: &'a Relay, publisher: Publisher) -> Self {
        let begun = mirror.state.lock().1.has_frames();
        Self {
            mirror,
            relay,
            publisher,
            line: Reorder::new(PATIENCE),
            audio: Reorder::new(PATIENCE),
            interleave: Interleave::default(),
            has_video: true,
            audio_start: None,
            begun,
            group: None,
            early: Vec::new(),
            room: Arc::default(),
            warned: false,
        }
    }

    /// Runs until the line ends.
    async fn run(&mut self, client: &Client) -> Result<(), PullError> {
        let name = self.mirror.name.as_str();
        let mut line = client.subscribe(name, Track::Line.name(), PRIORITY_LINE, None).await?;
        let mut audio = None;
        let mut audio_ended = false;
        loop {
            let deadlines = [self.line.poll_deadline(), self.audio.poll_deadline(), self.interleave.poll_deadline()];
            let deadline = deadlines.into_iter().flatten().min();
            tokio::select! {
                biased;
                received = line.next() => match received {
                    Some(received) => self.handle_line(received)?,
                    None => return Ok(()),
                },
                received = next(&mut audio), if !audio_ended => match received {
                    Some(received) => self.handle_audio(received),
                    None => audio_ended = true,
                },
                () = sleep_until(deadline.unwrap_or_else(clock::now)), if deadline.is_some() => {}
                replaced = self.publisher.replaced() => return Err(replaced.into()),
            }
            self.publish()?;
            if audio.is_none() && self.audio_start.is_some() {
                audio = Some(client.subscribe(name, Track::Audio.name(), PRIORITY_AUDIO, self.audio_start).await?);
            }
        }
    }

    fn handle_line(&mut self, received: Received) -> Result<(), PullError> {
        let now = clock::now();
        match received {
            Received::Frame { group, payload, .. } => {
                let mut item = decode_item(&payload)?;
                if let LineItem::BadEvent(bad) = &item {
                    self.refuse_event("event_unreadable", &bad.to_string());
                    return Ok(());
                }
                if let LineItem::Item(Item::Head(head)) = &mut item {
                    self.check_room(Arc::make_mut(head));
                }
                if let LineItem::Item(Item::Event(event)) | LineItem::Recap(event) = &item
                    && !self.believes(event)
                {
                    return Ok(());
                }
                let late = self.line.handle_item(now, group, item);
                // A frame that comes too late is lost; an event never is.
                match late {
                    Err(LineItem::Item(item @ (Item::Event(_) | Item::Data(_)))) => self.push(item, group)?,
                    Err(LineItem::Recap(event)) => self.recap(now, group, event)?,
                    Err(LineItem::Item(_) | LineItem::BadEvent(_)) | Ok(()) => {}
                }
            }
            Received::GroupEnd { group, .. } => self.line.handle_end(now, group),
        }
        Ok(())
    }

    /// Leaves out of a room what is not believed. What was believed before is not asked again.
    fn check_room(&mut self, head: &mut Head) {
        let known = self.room.clone();
        Arc::make_mut(&mut head.room).retain(&known, |event| self.believes(event));
        self.room = head.room.clone();
    }

    /// Did somebody we trust make this event for this stream, or for all of its organisation? The relays between
    /// are not asked.
    fn believes(&mut self, event: &Event) -> bool {
        let name = &self.mirror.name;
        let reason = match self.relay.event_keys.load().verify(event) {
            Err(bad) => bad.label(),
            Ok(()) if is_heard(name, &event.head.source) => return true,
            Ok(()) => "event_of_another_stream",
        };
        self.refuse_event(reason, &event.head.id);
        false
    }

    fn refuse_event(&mut self, reason: &'static str, what: &str) {
        self.relay.metrics.refused(reason);
        if !std::mem::replace(&mut self.warned, true) {
            let stream = &self.mirror.name;
            tracing::warn!(%stream, reason, what, "upstream sent an event that is not taken");
        }
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
                LineItem::Item(item) => self.line_item(now, group, item),
                LineItem::Recap(event) => self.recap(now, group, event)?,
                LineItem::BadEvent(_) => {}
            }
        }
        while let Some((group, payload)) = self.audio.poll_item(now) {
            let (pts_us, data) = read_legacy(payload)?;
            let frame = Frame { track: TrackKind::Audio, dts_us: pts_us, pts_us, keyframe: false, data };
            self.interleave.handle_sound(group, frame);
        }
        while let Some((group, item)) = self.interleave.poll_item(now) {
            self.push(item, group)?;
        }
        Ok(())
    }

    fn line_item(&mut self, now: Instant, group: u64, item: Item) {
        match &item {
            Item::Head(head) => self.has_video = head.tracks.video.is_some(),
            Item::Event(_) if self.group != Some(group) && self.early.len() < EVENTS_PENDING_MAX => {
                return self.early.push((group, item));
            }
            Item::Frame(frame) => {
                (self.begun, self.group) = (true, Some(group));
                for (group, event) in std::mem::take(&mut self.early) {
                    self.interleave.handle_line(now, group, event);
                }
                if self.has_video {
                    self.audio_start.get_or_insert(audio_group(frame.dts_us));
                }
            }
            _ => {}
        }
        self.interleave.handle_line(now, group, item);
    }

    /// An event from before this group. Before the first frame here there was nobody to miss it, but edges that come
    /// here from elsewhere may have; later on, whoever doesn't have it lost it, with a session or with a group.
    fn recap(&mut self, now: Instant, group: u64, event: Arc<Event>) -> Result<(), Replaced> {
        if self.begun {
            self.interleave.handle_line(now, group, Item::Event(event));
        } else if self.mirror.state.lock().1.is_new_event(&event) {
            self.publisher.remember(event, group)?;
        }
        Ok(())
    }

    fn push(&mut self, item: Item, group: u64) -> Result<(), Replaced> {
        if self.mirror.state.lock().1.is_new(&item) { self.publisher.relay(item, group) } else { Ok(()) }
    }
}

/// Are the events of this source for the stream?
fn is_heard(name: &StreamName, source: &str) -> bool {
    source == name.as_str() || name.global().is_some_and(|global| source == global.as_str())
}

/// The next of a subscription that may not be there yet.
async fn next(subscription: &mut Option<Subscription>) -> Option<Received> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

/// How long a group may hang once a newer one is there.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between the end of a subscription that should not have ended and the next try.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_millis(200);

/// The same where what came could not be read: it may be the next group again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What players use for video and audio.
const PRIORITY_LINE: u8 = 60;
const PRIORITY_AUDIO: u8 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_hears_itself_and_its_organisation() {
        let hears = |name: &str, source: &str| is_heard(&name.parse().expect("a name"), source);
        assert!(hears("acme/live/a", "acme/live/a") && hears("acme/live/a", "acme/_global"));
        assert!(hears("acme/_global", "acme/_global") && hears("acme", "acme"));
        assert!(!hears("acme", "acme/_global"), "a name without folders has no organisation");
        assert!(!hears("acme/live/a", "acme/live/b") && !hears("acme/live/a", "other/_global"));
    }
}
