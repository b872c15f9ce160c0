//! One stream of an upstream, mirrored into the local hub while somebody here watches it.
//!
//! When another upstream takes over, its line is opened first and the old one let go once the new one flows.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{sleep, sleep_until, timeout},
};

use super::{
    Relay, Track,
    client::{Client, Received, Subscription},
    interleave::Interleave,
    publish::audio_group,
    reorder::Reorder,
    seam::{Delivered, Seam},
    send::SendError,
};
use crate::{
    clock::{self, Instant},
    hub::{Publisher, Replaced, Stream, Unseated},
    limits::EVENTS_PENDING_MAX,
    media::{Event, Frame, Head, Item, Room, StreamName, TrackKind},
    proto::moq::{
        container::read_legacy,
        line::{LineItem, decode_item},
        varint::WireError,
    },
};

/// Where a stream comes from.
#[derive(Clone)]
pub(super) struct Route {
    /// The session with that upstream.
    pub client: Arc<Client>,
    /// The node whose line it is, if the upstream says so.
    pub origin: Option<u64>,
}

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
    /// The upstream ended the subscription before anything came.
    #[error("the upstream doesn't serve it")]
    Refused,
    /// No upstream is to be asked any more.
    #[error("nobody has it")]
    Gone,
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

    /// Pulls whenever there are viewers here, from where `routes` says, until somebody publishes it here.
    pub(super) async fn pull(&self, relay: &Relay, mut routes: watch::Receiver<Option<Route>>) -> PullError {
        loop {
            let mut viewers = self.stream().viewers();
            // The stream holds the sender.
            let _ = viewers.wait_for(|viewers| *viewers > 0).await;
            if routes.wait_for(Option::is_some).await.is_err() {
                return PullError::Gone;
            }
            let ended = tokio::select! {
                ended = self.pull_once(relay, &mut routes) => ended,
                () = unwatched(viewers, relay.hub.settings().linger) => match self.forget(relay) {
                    Ok(()) => continue,
                    Err(error) => return error,
                },
            };
            let pause = match ended {
                // The stream's end is announced separately; if it isn't, it was a hiccup.
                Ok(()) | Err(PullError::Session(_) | PullError::Refused) => RESUBSCRIBE_PAUSE,
                Err(PullError::Wire(error)) => {
                    tracing::warn!(stream = %self.name, %error, "upstream can't be read, and is tried again");
                    RETRY_PAUSE
                }
                Err(error) => return error,
            };
            // Another way is taken at once.
            let _ = timeout(pause, routes.changed()).await;
            routes.mark_changed();
        }
    }

    async fn pull_once(&self, relay: &Relay, routes: &mut watch::Receiver<Option<Route>>) -> Result<(), PullError> {
        let Some(route) = routes.borrow_and_update().clone() else { return Ok(()) };
        let pulled = tokio::select! {
            pulled = self.open(route) => pulled?,
            _ = routes.changed() => {
                routes.mark_changed();
                return Ok(());
            }
        };
        let publisher = relay.hub.publish_relayed(&self.name)?;
        Sink::new(self, relay, publisher, pulled).run(routes).await
    }

    /// Subscribes to the line from where we are, and waits until it flows.
    async fn open(&self, route: Route) -> Result<Pulled, PullError> {
        let resume = {
            let state = self.state.lock();
            let wanted = Some(state.0.take_wanted_group()).filter(|group| *group > 0 && !state.1.has_frames());
            state.1.resume_group(route.origin).or(wanted)
        };
        let subscribe = |from| route.client.subscribe(self.name.as_str(), Track::Line.name(), PRIORITY_LINE, from);
        let mut line = subscribe(resume).await?;
        let mut start = None;
        if resume.is_some() {
            // The numbers may be others there.
            start = timeout(FIRST_GROUP_TIMEOUT, line.started()).await.ok().flatten();
            if start.is_none() {
                line = subscribe(None).await?;
            }
        }
        if start.is_none() {
            start = line.started().await;
        }
        let start = start.ok_or(PullError::Refused)?;
        Ok(Pulled::new(&self.state.lock().1, route, line, start))
    }

    /// Nobody watches any more: begins the local stream anew, so that the next viewer doesn't start with what
    /// was current when the last one left.
    fn forget(&self, relay: &Relay) -> Result<(), PullError> {
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

/// A line being pulled from one upstream, and its sound.
struct Pulled {
    route: Route,
    line: Subscription,
    audio: Option<Subscription>,
    groups: Reorder<LineItem>,
    audio_groups: Reorder<Bytes>,
    seam: Seam,
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
}

impl Pulled {
    fn new(delivered: &Delivered, route: Route, line: Subscription, start: u64) -> Self {
        let mut groups = Reorder::new(PATIENCE);
        groups.begin_at(start);
        Self {
            seam: Seam::new(delivered, route.origin),
            route,
            line,
            audio: None,
            groups,
            audio_groups: Reorder::new(PATIENCE),
            interleave: Interleave::after(delivered.heard_us()),
            has_video: true,
            audio_start: None,
            begun: delivered.has_frames(),
            group: None,
            early: Vec::new(),
        }
    }

    /// When something may be to be published although nothing came.
    fn deadline(&self) -> Option<Instant> {
        let deadlines =
            [self.groups.poll_deadline(), self.audio_groups.poll_deadline(), self.interleave.poll_deadline()];
        deadlines.into_iter().flatten().min()
    }
}

/// Takes what is pulled and publishes it here, in order and once.
struct Sink<'a> {
    mirror: &'a Mirror,
    relay: &'a Relay,
    publisher: Publisher,
    pulled: Pulled,
    /// The room that was told last.
    room: Arc<Room>,
    /// An event was not taken, and the log knows.
    warned: bool,
}

type Opening<'a> = BoxFuture<'a, Result<Pulled, PullError>>;

impl<'a> Sink<'a> {
    fn new(mirror: &'a Mirror, relay: &'a Relay, publisher: Publisher, pulled: Pulled) -> Self {
        Self { mirror, relay, publisher, pulled, room: Arc::default(), warned: false }
    }

    /// Runs until the line ends and there is no other.
    async fn run(&mut self, routes: &mut watch::Receiver<Option<Route>>) -> Result<(), PullError> {
        let (mut opening, mut opening_sound) = (None::<Opening<'a>>, None);
        // What comes after the line's end is waited for no longer than the end of a group.
        let (mut line_ends_at, mut audio_ended) = (None, false);
        loop {
            self.publish()?;
            if opening_sound.is_none() && !audio_ended {
                opening_sound = self.open_sound();
            }
            let deadline = self.pulled.deadline();
            tokio::select! {
                biased;
                opened = next_of(&mut opening) => {
                    opening = None;
                    match opened {
                        Ok(pulled) => {
                            self.go_on_with(pulled)?;
                            (line_ends_at, audio_ended, opening_sound) = (None, false, None);
                        }
                        Err(error) => {
                            tracing::debug!(stream = %self.mirror.name, %error, "another upstream session failed");
                            opening = self.open_other(routes, RETRY_PAUSE);
                        }
                    }
                }
                changed = routes.changed() => {
                    if changed.is_err() {
                        return Err(PullError::Gone);
                    }
                    opening = self.open_other(routes, Duration::ZERO);
                }
                opened = next_of(&mut opening_sound) => {
                    opening_sound = None;
                    // A session that has none any more ends the line, too.
                    audio_ended = opened.is_err();
                    self.pulled.audio = opened.ok();
                }
                received = self.pulled.line.next(), if line_ends_at.is_none() => match received {
                    Some(received) => self.handle_line(received)?,
                    None => line_ends_at = Some(clock::now() + RESUBSCRIBE_PAUSE),
                },
                received = next(&mut self.pulled.audio), if !audio_ended => match received {
                    Some(received) => self.handle_audio(received),
                    None => audio_ended = true,
                },
                () = sleep_until(deadline.unwrap_or_else(clock::now)), if deadline.is_some() => {}
                replaced = self.publisher.replaced() => return Err(replaced.into()),
                () = sleep_until(line_ends_at.unwrap_or_else(clock::now)),
                    if line_ends_at.is_some() && opening.is_none() => return Ok(()),
            }
        }
    }

    /// Opens the line where it is to come from, if that is elsewhere.
    fn open_other(&self, routes: &mut watch::Receiver<Option<Route>>, pause: Duration) -> Option<Opening<'a>> {
        let route = routes.borrow_and_update().clone()?;
        let (mirror, known) = (self.mirror, &self.pulled.route.client);
        (!Arc::ptr_eq(&route.client, known)).then(|| {
            async move {
                sleep(pause).await;
                mirror.open(route).await
            }
            .boxed()
        })
    }

    /// Lets the old line go. The new one repeats what is not passed on yet.
    fn go_on_with(&mut self, pulled: Pulled) -> Result<(), PullError> {
        self.publish()?;
        tracing::info!(stream = %self.mirror.name, "goes on from another upstream session");
        self.pulled = pulled;
        Ok(())
    }

    /// Subscribes to the sound, once it is known where it is to begin.
    fn open_sound(&self) -> Option<BoxFuture<'a, Result<Subscription, SendError>>> {
        let (start, mirror) = (self.pulled.audio_start, self.mirror);
        let client = self.pulled.route.client.clone();
        (self.pulled.audio.is_none() && start.is_some()).then(|| {
            async move { client.subscribe(mirror.name.as_str(), Track::Audio.name(), PRIORITY_AUDIO, start).await }
                .boxed()
        })
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
                let late = self.pulled.groups.handle_item(now, group, item);
                // A frame that comes too late is lost; an event never is.
                match late {
                    Err(LineItem::Item(item @ (Item::Event(_) | Item::Data(_)))) => self.line_item(now, group, item),
                    Err(LineItem::Recap(event)) => self.recap(now, group, event)?,
                    Err(LineItem::Item(_) | LineItem::BadEvent(_) | LineItem::Unknown) | Ok(()) => {}
                }
            }
            Received::GroupEnd { group, .. } => self.pulled.groups.handle_end(now, group),
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
        if let Some(start) = self.pulled.audio.as_ref().and_then(Subscription::start) {
            self.pulled.audio_groups.begin_at(start);
        }
        match received {
            Received::Frame { group, payload, .. } => {
                let _late = self.pulled.audio_groups.handle_item(now, group, payload);
            }
            Received::GroupEnd { group, .. } => self.pulled.audio_groups.handle_end(now, group),
        }
    }

    fn publish(&mut self) -> Result<(), PullError> {
        let now = clock::now();
        while let Some((group, item)) = self.pulled.groups.poll_item(now) {
            match item {
                LineItem::Item(item) => self.line_item(now, group, item),
                LineItem::Recap(event) => self.recap(now, group, event)?,
                LineItem::BadEvent(_) | LineItem::Unknown => {}
            }
        }
        while let Some((group, payload)) = self.pulled.audio_groups.poll_item(now) {
            let (pts_us, data) = read_legacy(payload)?;
            let mut frame = Frame { track: TrackKind::Audio, dts_us: pts_us, pts_us, keyframe: false, data };
            self.mirror.state.lock().1.shift(&mut frame);
            self.pulled.interleave.handle_sound(group, frame);
        }
        while let Some((group, item)) = self.pulled.interleave.poll_item(now) {
            self.push(now, item, group)?;
        }
        Ok(())
    }

    fn line_item(&mut self, now: Instant, group: u64, item: Item) {
        let pulled = &mut self.pulled;
        match &item {
            Item::Head(head) => pulled.has_video = head.tracks.video.is_some(),
            Item::Event(_) if pulled.group != Some(group) && pulled.early.len() < EVENTS_PENDING_MAX => {
                return pulled.early.push((group, item));
            }
            Item::Frame(_) => {
                pulled.group = Some(group);
                for (group, event) in std::mem::take(&mut pulled.early) {
                    self.place(now, group, event);
                }
            }
            _ => {}
        }
        self.place(now, group, item);
    }

    /// Puts an item of the upstream's line into ours.
    fn place(&mut self, now: Instant, group: u64, item: Item) {
        let pulled = &mut self.pulled;
        let frame_us = if let Item::Frame(frame) = &item { Some(frame.dts_us) } else { None };
        let mut state = self.mirror.state.lock();
        let placed = pulled.seam.place(&mut state.1, now, group, item);
        let sound_us = state.1.sound_us();
        drop(state);
        if let (Some(Item::Frame(_)), Some(frame_us)) = (&placed.item, frame_us) {
            pulled.begun = true;
            if pulled.has_video {
                // Sound that was not passed on yet may be from before the picture.
                let recent_us = sound_us.filter(|us| frame_us - SOUND_BEHIND_US_MAX < *us);
                let from_us = recent_us.map_or(frame_us, |us| us.min(frame_us));
                pulled.audio_start.get_or_insert_with(|| audio_group(from_us));
            }
        }
        let head = placed.head.map(Item::Head);
        for item in head.into_iter().chain(placed.item) {
            pulled.interleave.handle_line(now, placed.group, item);
        }
    }

    /// An event from before this group. Before the first frame here there was nobody to miss it, but edges that come
    /// here from elsewhere may have; later on, whoever doesn't have it lost it, with a session or with a group.
    fn recap(&mut self, now: Instant, group: u64, event: Arc<Event>) -> Result<(), Replaced> {
        if self.pulled.begun {
            self.place(now, group, Item::Event(event));
        } else if self.mirror.state.lock().1.is_new_event(&event) {
            self.publisher.remember(event, group)?;
        }
        Ok(())
    }

    fn push(&mut self, now: Instant, item: Item, group: u64) -> Result<(), Replaced> {
        let mut state = self.mirror.state.lock();
        if !state.1.is_new(&item) {
            return Ok(());
        }
        if let Item::Frame(frame) = &item
            && (frame.track == TrackKind::Video || !self.pulled.has_video)
        {
            state.1.note_last(now, frame, group);
        }
        drop(state);
        self.publisher.relay(item, group)
    }
}

/// Are the events of this source for the stream?
fn is_heard(name: &StreamName, source: &str) -> bool {
    source == name.as_str() || name.global().is_some_and(|global| source == global.as_str())
}

/// What is being opened, if anything is.
async fn next_of<T>(opening: &mut Option<BoxFuture<'_, T>>) -> T {
    match opening {
        Some(opening) => opening.await,
        None => std::future::pending().await,
    }
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

/// How long an upstream may take to go on from the group that we are in, before its newest is asked for.
const FIRST_GROUP_TIMEOUT: Duration = Duration::from_millis(1500);

/// Sound that is further behind its picture than this is not caught up with.
const SOUND_BEHIND_US_MAX: i64 = 5_000_000;

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
