//! What a WHEP session is for: a stream's packets go to a viewer, and its events beside them.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{door::Door, session::End};
use crate::{
    clock::{self, Instant},
    egress::{self, Playback, SessionLog},
    hub, limits,
    observe::metrics::{Metrics, Protocol},
    proto::{
        webrtc::{Over, Peer},
        whip,
    },
};

/// A viewer's session.
pub(super) struct Playing {
    playback: Playback,
    log: SessionLog,
    carrier: Carrier,
    /// Before this nothing is sent, unless he is heard first.
    begins: Option<Instant>,
    /// When he was heard last, and how long he may be silent and still be sent to.
    heard: Instant,
    silence_max: Duration,
    is_silent: bool,
}

/// How the viewer is told events.
enum Carrier {
    /// Not at all, yet.
    None,
    /// Over this data channel.
    Channel(u16),
    /// As server-sent events.
    Http(mpsc::Sender<Bytes>),
}

impl Playing {
    pub(super) fn new(playback: Playback, from: SocketAddr, metrics: &Arc<Metrics>) -> Self {
        let log = SessionLog::begin(metrics, Protocol::Whep, playback.viewer().stream().name(), from);
        let silence_max = playback.patience().stall_max;
        Self { playback, log, carrier: Carrier::None, begins: None, heard: clock::now(), silence_max, is_silent: false }
    }

    /// He may not have put his end together yet: the handshake's last flight is on its way to him.
    pub(super) fn connected(&mut self, now: Instant) {
        self.begins = Some(now + BEGIN_DELAY);
    }

    /// He said something, whatever it was.
    pub(super) fn heard(&mut self, now: Instant) {
        (self.heard, self.is_silent) = (now, false);
    }

    pub(super) fn handle_rtcp(&mut self, now: Instant, packet: &[u8]) {
        self.begins = None;
        self.heard(now);
        self.playback.handle_rtcp(now, packet);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.begins.or_else(|| self.playback.poll_timeout());
        due.filter(|_| !self.is_silent)
    }

    /// The viewer opened a channel.
    pub(super) fn channel_open(&mut self, id: u16, label: &str) {
        self.begins = None;
        if label == whip::EVENTS_CHANNEL {
            self.tell_by(Carrier::Channel(id));
        }
    }

    pub(super) fn channel_closed(&mut self, closed: u16) {
        if matches!(self.carrier, Carrier::Channel(id) if id == closed) {
            self.carrier = Carrier::None;
            self.playback.stop_telling();
        }
    }

    /// The viewer asks for events over HTTP.
    pub(super) fn tell_by_http(&mut self, sender: mpsc::Sender<Bytes>) {
        self.tell_by(Carrier::Http(sender));
    }

    /// What the carrier so far had not delivered is told again by this one.
    fn tell_by(&mut self, carrier: Carrier) {
        self.carrier = carrier;
        self.playback.stop_telling();
        self.playback.tell_events();
    }

    pub(super) fn advance(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        peer: &mut Peer,
        door: &Door,
    ) -> Result<(), End> {
        if self.begins.is_some_and(|begins| now < begins) {
            return Ok(());
        }
        self.begins = None;
        self.is_silent = now.saturating_duration_since(self.heard) >= self.silence_max;
        if self.is_silent {
            // Who knows whom it would reach. The ring keeps his place until he speaks, or his consent expires.
            return Ok(());
        }
        let Some(path) = peer.path() else { return Ok(()) };
        let mut outbox = door.outbox.lock();
        // A session that panicked may have left something.
        outbox.clear();
        for _ in 0..TURNS_MAX {
            let Some(sealer) = peer.sealer() else { return Ok(()) };
            let taken = self.playback.poll_take(cx, now, sealer, door.socket.segments_max(), &mut outbox);
            // An event goes before its picture.
            self.tell(now, peer)?;
            while let Some(datagram) = peer.poll_transmit() {
                door.send(&datagram);
            }
            door.flush(&path, &mut outbox);
            match taken {
                Poll::Pending => {
                    self.log.update(self.playback.counters(), self.playback.entered());
                    return Ok(());
                }
                Poll::Ready(Err(over)) => return Err(over.into()),
                Poll::Ready(Ok(())) => {}
            }
        }
        // The others of the shard first.
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// The events that wait.
    fn tell(&mut self, now: Instant, peer: &mut Peer) -> Result<(), egress::Over> {
        match &self.carrier {
            Carrier::None => Ok(()),
            Carrier::Channel(id) => {
                while peer.channel_backlog_bytes(*id) < limits::CHANNEL_BACKLOG_BYTES_MAX {
                    let Some(message) = self.playback.poll_message() else { break };
                    if !peer.send_text(now.into_std(), *id, &message) {
                        return Err(hub::End::EventsLost.into());
                    }
                }
                Ok(())
            }
            Carrier::Http(_) => self.tell_over_http(),
        }
    }

    /// One who asked for events has to read them.
    fn tell_over_http(&mut self) -> Result<(), egress::Over> {
        while let Carrier::Http(sender) = &self.carrier
            && let Some(message) = self.playback.poll_message()
        {
            match sender.try_send(message) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Err(hub::End::EventsLost.into()),
                Err(TrySendError::Closed(_)) => {
                    self.carrier = Carrier::None;
                    self.playback.stop_telling();
                }
            }
        }
        Ok(())
    }

    pub(super) fn ends(mut self, end: End) {
        // For viewers that is what it is called, however they watch.
        self.log.ends(if end == End::Peer(Over::Silent) { "stalled" } else { end.label() });
    }
}

/// From our end of the handshake to the first picture, for players that need time to be ready: one that misses the
/// keyframe sees nothing until the next.
const BEGIN_DELAY: Duration = Duration::from_millis(100);
/// Times that one viewer sends before the others of the shard get their turn.
const TURNS_MAX: usize = 16;

#[cfg(test)]
mod tests;
