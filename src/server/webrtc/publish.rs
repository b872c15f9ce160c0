//! What a WHIP session is for: a publisher's media goes into the hub.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{super::Node, door::Door, session::End};
use crate::{
    clock::{self, Instant},
    hub::{Claim, Replaced},
    ingest::whip::{Counters, RtpIngest},
    limits,
    media::StreamName,
    net::access::{Grant, Rate},
    observe::metrics::{Present, Protocol, StreamMetrics},
    proto::{
        sdp::Terms,
        webrtc::{Datagram, Peer},
    },
};

/// A publisher's session.
pub(super) struct Publishing {
    node: Arc<Node>,
    name: StreamName,
    from: SocketAddr,
    terms: Terms,
    /// Once he is connected: only then he takes the stream over.
    live: Option<Live>,
    began: Instant,
    priority: u8,
    rate: Rate,
    /// When media last came, or he was connected.
    heard: Instant,
    has_media: bool,
}

struct Live {
    ingest: RtpIngest,
    replaced: Pin<Box<dyn Future<Output = Replaced> + Send>>,
    stream: Arc<StreamMetrics>,
    counted: Counters,
    _present: Present,
}

impl Publishing {
    pub(super) fn new(node: &Arc<Node>, name: StreamName, terms: Terms, from: SocketAddr, grant: &Grant) -> Self {
        let now = clock::now();
        let (priority, rate, node) = (grant.priority, grant.rate(now), node.clone());
        Self { node, name, from, terms, live: None, began: now, priority, rate, heard: now, has_media: false }
    }

    /// Takes a place in the stream.
    pub(super) fn connected(&mut self, now: Instant) -> Result<(), End> {
        let publisher = self.node.hub.publish_as(&self.name, Claim { priority: self.priority })?;
        let interval = self.node.config.webrtc.keyframe_interval();
        let ingest = RtpIngest::new(publisher, self.terms.clone(), interval, now);
        let metrics = &self.node.metrics;
        self.live = Some(Live {
            replaced: Box::pin(ingest.replaced()),
            stream: metrics.stream(self.name.as_str()),
            counted: Counters::default(),
            _present: metrics.publisher(Protocol::Whip),
            ingest,
        });
        self.heard = now;
        tracing::info!(protocol = "whip", stream = %self.name, peer = %self.from, "publisher connected");
        Ok(())
    }

    pub(super) fn handle_rtp(&mut self, now: Instant, packet: &[u8]) -> Result<(), End> {
        (self.heard, self.has_media) = (now, true);
        self.rate.take(u64::try_from(packet.len()).unwrap_or(u64::MAX), now)?;
        match &mut self.live {
            Some(live) => Ok(live.ingest.handle_rtp(now, packet)?),
            None => Ok(()),
        }
    }

    pub(super) fn handle_rtcp(&mut self, now: Instant, packet: &[u8]) {
        if let Some(live) = &mut self.live {
            live.ingest.handle_rtcp(now, packet);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let live = self.live.as_ref()?;
        let silent = self.silent_at();
        Some(live.ingest.poll_timeout().map_or(silent, |due| due.min(silent)))
    }

    fn silent_at(&self) -> Instant {
        self.heard + if self.has_media { limits::RTMP_PUBLISHER_SILENCE_MAX } else { limits::FIRST_MEDIA_TIMEOUT }
    }

    pub(super) fn advance(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        peer: &mut Peer,
        door: &Door,
    ) -> Result<(), End> {
        let is_silent = self.silent_at() <= now;
        let Some(live) = &mut self.live else { return Ok(()) };
        if let Poll::Ready(replaced) = live.replaced.as_mut().poll(cx) {
            return Err(replaced.into());
        }
        if live.ingest.poll_timeout().is_some_and(|due| due <= now) {
            live.ingest.handle_timeout(now)?;
        }
        if is_silent {
            return Err(if self.has_media { End::Silent } else { End::NoMedia });
        }
        while let Some(mut bytes) = live.ingest.poll_feedback(now) {
            if let (Some(path), Some(sealer)) = (peer.path(), peer.sealer())
                && sealer.seal_rtcp(&mut bytes, 0).is_ok()
            {
                door.send(&Datagram { path, bytes });
            }
        }
        live.count();
        Ok(())
    }

    pub(super) fn ends(self, end: End) {
        self.node.metrics.session_ended(Protocol::Whip, end.label());
        let Some(live) = self.live else {
            tracing::info!(protocol = "whip", stream = %self.name, peer = %self.from, reason = %end, "not connected");
            return;
        };
        let Counters { video_frames, audio_frames, bytes, lost, recovered, malformed, keyframe_requests, .. } =
            live.ingest.counters();
        tracing::info!(
            protocol = "whip", stream = %self.name, peer = %self.from, reason = %end,
            secs = self.began.elapsed().as_secs_f32(), codecs = live.ingest.codecs(), video_frames, audio_frames, bytes,
            lost, recovered, malformed, keyframe_requests, "publisher gone"
        );
        if end == End::Deleted {
            live.ingest.end();
        }
    }
}

impl Live {
    fn count(&mut self) {
        let now = self.ingest.counters();
        let before = std::mem::replace(&mut self.counted, now);
        self.stream.frames_in.inc_by(now.video_frames + now.audio_frames - before.video_frames - before.audio_frames);
        self.stream.bytes_in.inc_by(now.bytes - before.bytes);
    }
}
