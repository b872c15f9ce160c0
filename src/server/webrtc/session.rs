//! The loop of one session: what came for it, what it has to send, and when it must look again.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep_until},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{door::Seat, play::Playing, publish::Publishing};
use crate::{
    clock::{self, Instant},
    egress,
    hub::{Replaced, Unseated},
    limits,
    net::{
        access::{Grant, GrantOver},
        pending::Place,
    },
    proto::webrtc::{Media, Over, Peer, PeerEvent},
};

/// Why a session ended, in the words of logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum End {
    #[error(transparent)]
    Peer(#[from] Over),
    #[error(transparent)]
    Replaced(#[from] Replaced),
    #[error("{}", viewer_over(.0))]
    Viewer(#[from] egress::Over),
    #[error(transparent)]
    Over(#[from] GrantOver),
    #[error("no media for too long")]
    Silent,
    #[error("deleted")]
    Deleted,
    #[error("no media in time")]
    NoMedia,
    #[error(transparent)]
    Unseated(#[from] Unseated),
    #[error("server stops")]
    Stopping,
}

impl End {
    /// The metric's label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Peer(Over::NotConnected) => "not connected",
            Self::Peer(Over::WrongCertificate) => "wrong certificate",
            Self::Peer(Over::Dtls) => "dtls",
            Self::Peer(Over::Silent) | Self::Silent => "silent",
            Self::Peer(Over::Closed) => "peer closed",
            Self::Replaced(_) => "replaced",
            Self::Over(over) => over.label(),
            Self::Viewer(over) => viewer_over(&over),
            Self::Deleted => "deleted",
            Self::NoMedia => "no media",
            Self::Unseated(unseated) => unseated.as_str(),
            Self::Stopping => "server stops",
        }
    }
}

fn viewer_over(over: &egress::Over) -> &'static str {
    match over {
        egress::Over::Line(end) => egress::reason(*end),
        egress::Over::BFrames => "b-frames",
        egress::Over::CodecChanged => "codec changed",
        egress::Over::TracksChanged => "tracks changed",
    }
}

/// What the session's resource was asked for over HTTP.
pub(super) enum Command {
    /// DELETE.
    Close,
    /// Events as server-sent events.
    Events(mpsc::Sender<Bytes>),
    /// A bug, so that tests see what becomes of it.
    #[cfg(test)]
    Panic,
}

/// What a session is for.
pub(super) enum Role {
    Publish(Box<Publishing>),
    Play(Box<Playing>),
}

/// A session from its answer to its end.
pub(super) struct Session {
    peer: Peer,
    role: Role,
    seat: Seat,
    commands: mpsc::Receiver<Command>,
    /// Among those that are not connected.
    place: Option<Place>,
    is_connected: bool,
    sleep: Pin<Box<Sleep>>,
    over: Pin<Box<dyn Future<Output = GrantOver> + Send>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Session {
    pub(super) fn new(
        peer: Peer,
        role: Role,
        seat: Seat,
        commands: mpsc::Receiver<Command>,
        (grant, place): (Grant, Place),
        stop: CancellationToken,
    ) -> Self {
        let sleep = Box::pin(sleep_until(clock::now() + limits::WEBRTC_CONNECT_TIMEOUT));
        let stop = Box::pin(stop.cancelled_owned());
        let over = Box::pin(grant.over());
        Self { peer, role, seat, commands, place: Some(place), is_connected: false, sleep, over, stop }
    }

    /// Runs it to its end.
    pub(super) async fn run(mut self) {
        let end = poll_fn(|cx| self.poll(cx)).await;
        self.peer.close(clock::now().into_std());
        self.transmit();
        match self.role {
            Role::Publish(publishing) => publishing.ends(end),
            Role::Play(playing) => playing.ends(end),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let now = clock::now();
        self.seat.inbox.register(cx.waker());
        match self.advance(cx, now) {
            Err(end) => return Poll::Ready(end),
            Ok(()) => self.transmit(),
        }
        // Early is harmless; a timer is only moved when it would be late.
        let due =
            [self.peer.poll_timeout().map(Instant::from_std), self.role.poll_timeout()].into_iter().flatten().min();
        let due = due.unwrap_or(now + IDLE);
        if due < self.sleep.deadline() || self.sleep.is_elapsed() {
            self.sleep.as_mut().reset(due.max(now + TICK));
        }
        if self.sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn advance(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), End> {
        if self.stop.as_mut().poll(cx).is_ready() {
            return Err(End::Stopping);
        }
        if let Poll::Ready(over) = self.over.as_mut().poll(cx) {
            return Err(over.into());
        }
        while let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) {
            match (command, &mut self.role) {
                (Command::Close, _) => return Err(End::Deleted),
                (Command::Events(sender), Role::Play(playing)) => playing.tell_by_http(sender),
                (Command::Events(_), Role::Publish(_)) => {}
                #[cfg(test)]
                (Command::Panic, _) => panic!("injected"),
            }
        }
        self.receive(now)?;
        if self.peer.poll_timeout().is_some_and(|due| due <= now.into_std()) {
            self.peer.handle_timeout(now.into_std());
        }
        self.handle_events(now)?;
        if !self.is_connected {
            return Ok(());
        }
        match &mut self.role {
            Role::Publish(publishing) => publishing.advance(cx, now, &mut self.peer, &self.seat.door),
            Role::Play(playing) => playing.advance(cx, now, &mut self.peer, &self.seat.door),
        }
    }

    fn receive(&mut self, now: Instant) -> Result<(), End> {
        while let Some((path, datagram)) = self.seat.inbox.pop() {
            if datagram.is_empty() {
                self.peer.handle_closed(&path);
                continue;
            }
            let mut datagram = Vec::from(datagram);
            let media = self.peer.handle_datagram(now.into_std(), path, &mut datagram);
            match (media, &mut self.role) {
                (Some(Media::Rtp(packet)), Role::Publish(publishing)) => publishing.handle_rtp(now, packet)?,
                (Some(Media::Rtcp(packet)), Role::Publish(publishing)) => publishing.handle_rtcp(now, packet),
                (Some(Media::Rtcp(packet)), Role::Play(playing)) => playing.handle_rtcp(now, packet),
                (Some(Media::Rtp(_)), Role::Play(_)) => {}
                (None, _) => {
                    if self.peer.is_valid(&path) {
                        self.seat.learn(&path);
                        if let Role::Play(playing) = &mut self.role {
                            playing.heard(now);
                        }
                    }
                    // A publisher's first picture may wait right behind the end of his handshake.
                    self.handle_events(now)?;
                }
            }
        }
        Ok(())
    }

    fn handle_events(&mut self, now: Instant) -> Result<(), End> {
        while let Some(event) = self.peer.poll_event() {
            match event {
                PeerEvent::Connected => {
                    self.is_connected = true;
                    self.place = None;
                    match &mut self.role {
                        Role::Publish(publishing) => publishing.connected(now)?,
                        Role::Play(playing) => playing.connected(now),
                    }
                }
                PeerEvent::Over(why) => return Err(why.into()),
                PeerEvent::ChannelOpen { id, label } => {
                    if let Role::Play(playing) = &mut self.role {
                        playing.channel_open(id, &label);
                    }
                }
                PeerEvent::ChannelClosed { id } => {
                    if let Role::Play(playing) = &mut self.role {
                        playing.channel_closed(id);
                    }
                }
                // Nobody says anything to us there.
                PeerEvent::Message { .. } => {}
            }
        }
        Ok(())
    }

    fn transmit(&mut self) {
        while let Some(datagram) = self.peer.poll_transmit() {
            self.seat.door.send(&datagram);
        }
    }
}

impl Role {
    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Publish(publishing) => publishing.poll_timeout(),
            Self::Play(playing) => playing.poll_timeout(),
        }
    }
}

/// The finest that timers are set.
const TICK: Duration = Duration::from_millis(1);
/// How long a session sleeps that waits for nothing.
const IDLE: Duration = Duration::from_secs(10);
