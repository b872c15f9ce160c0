//! One track: its packets brought to their sources, and of simulcast's layers the best one shown.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use super::{Counters, layer::Layer};
use crate::{
    media::{TrackKind, VideoConfig},
    proto::{
        rtp::{packet::Packet, payload::Unit},
        sdp,
    },
};

/// A media line of the publisher.
pub(super) struct Track {
    pub(super) terms: sdp::Track,
    /// At most one of each rank, so at most as many as the description named.
    pub(super) layers: Vec<Layer>,
    /// The rank of the layer whose frames go into the line, and of the one that should be it.
    active: Option<usize>,
    best: Option<usize>,
}

/// A frame for the line.
pub(super) struct Shown {
    pub(super) unit: Unit,
    pub(super) config: Option<VideoConfig>,
    /// By the publisher's clock.
    pub(super) pts_us: i64,
}

impl Track {
    pub(super) fn new(terms: sdp::Track) -> Self {
        Self { terms, layers: Vec::new(), active: None, best: None }
    }

    pub(super) fn kind(&self) -> TrackKind {
        self.terms.codec.kind()
    }

    /// Is this packet, or a retransmission, of this track?
    pub(super) fn owns(&self, packet: &Packet<'_>) -> bool {
        let number = packet.header.payload_type;
        let mid = self.terms.extensions.mid.and_then(|id| packet.extensions.get(id));
        let is_ours = number == self.terms.payload_type || Some(number) == self.terms.rtx;
        is_ours && mid.is_none_or(|mid| mid == self.terms.mid.as_bytes())
    }

    /// Takes a packet. False if it belongs nowhere.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        arrived_us: i64,
        packet: &Packet<'_>,
        counters: &mut Counters,
    ) -> bool {
        if packet.header.payload_type != self.terms.payload_type {
            let layer = self.repaired_layer(packet);
            return layer.map(|layer| layer.handle_retransmission(now, packet, counters)).is_some();
        }
        let layer = self.layer_of(now, packet);
        layer.map(|layer| layer.handle_packet(now, arrived_us, packet, counters)).is_some()
    }

    /// The layer of this SSRC. A new SSRC takes its rank over from one that has stopped.
    fn layer_of(&mut self, now: Instant, packet: &Packet<'_>) -> Option<&mut Layer> {
        let ssrc = packet.header.ssrc;
        if let Some(known) = self.layers.iter().position(|layer| layer.ssrc == ssrc) {
            return self.layers.get_mut(known);
        }
        let rank = self.rank_of(packet)?;
        let layer = Layer::new(now, &self.terms, ssrc, rank);
        match self.layers.iter().position(|known| known.rank == rank) {
            Some(index) => {
                let before = self.layers.get_mut(index)?;
                if now < before.heard + TAKEOVER_MIN {
                    return None;
                }
                *before = layer;
                Some(before)
            }
            None => {
                self.layers.push(layer);
                self.layers.last_mut()
            }
        }
    }

    /// The place in the list of layers: by rid (RFC 8852), or by SSRC (RFC 5576). `None` if it isn't said yet.
    fn rank_of(&self, packet: &Packet<'_>) -> Option<usize> {
        let sdp::Track { rids, ssrcs, extensions, .. } = &self.terms;
        if !rids.is_empty() {
            let rid = packet.extensions.get(extensions.rid?)?;
            return rids.iter().position(|known| known.as_bytes() == rid);
        }
        Some(ssrcs.iter().position(|known| *known == packet.header.ssrc).unwrap_or(0))
    }

    /// The layer that a retransmission repairs: by SSRC, by rid, or because it has asked for that packet.
    fn repaired_layer(&mut self, packet: &Packet<'_>) -> Option<&mut Layer> {
        let ssrc = packet.header.ssrc;
        let rid = self.terms.extensions.repaired_rid.and_then(|id| packet.extensions.get(id));
        let rank = rid.and_then(|rid| self.terms.rids.iter().position(|known| known.as_bytes() == rid));
        let sequence = packet.payload.first_chunk().map(|number| u16::from_be_bytes(*number))?;
        let index = self
            .layers
            .iter()
            .position(|layer| layer.rtx_ssrc == Some(ssrc))
            .or_else(|| self.layers.iter().position(|layer| Some(layer.rank) == rank))
            .or_else(|| self.layers.iter().position(|layer| layer.has_asked_for(sequence)))?;
        let layer = self.layers.get_mut(index)?;
        layer.rtx_ssrc = Some(ssrc);
        Some(layer)
    }

    /// The next frame that is to be shown. Layers are changed at keyframes. `follows_us` is another track's
    /// [`Self::behind_ntp_us`].
    pub(super) fn poll(&mut self, now: Instant, follows_us: Option<i64>, counters: &mut Counters) -> Option<Shown> {
        self.best = self.best_layer(now);
        for index in 0..self.layers.len() {
            while let Some(unit) = self.layers.get_mut(index)?.poll(now, counters) {
                if unit.keyframe {
                    self.handle_keyframe(now, index);
                }
                let layer = self.layers.get_mut(index).filter(|layer| self.active == Some(layer.rank));
                let Some(layer) = layer else { continue };
                if let Some(behind_ntp_us) = follows_us {
                    layer.clock.follow(behind_ntp_us);
                }
                let pts_us = layer.clock.place(unit.timestamp)?;
                return Some(Shown { config: layer.config.clone(), unit, pts_us });
            }
        }
        let (active, best) = (self.active, self.best);
        for layer in &mut self.layers {
            layer.set_asking(self.terms.feedback.nack && is_wanted(layer.rank, active, best));
        }
        None
    }

    /// Shows this layer from here on, if it is the one that should be. Its keyframe may be the first word on its size.
    fn handle_keyframe(&mut self, now: Instant, index: usize) {
        self.best = self.best_layer(now);
        let behind_ntp_us = self.behind_ntp_us();
        let Some(layer) = self.layers.get_mut(index) else { return };
        if self.active.is_none() || (self.active != Some(layer.rank) && self.best == Some(layer.rank)) {
            self.active = Some(layer.rank);
            if let Some(behind_ntp_us) = behind_ntp_us {
                layer.clock.follow(behind_ntp_us);
            }
        }
    }

    /// The publisher's clock minus NTP, as the layer that is shown has it.
    pub(super) fn behind_ntp_us(&self) -> Option<i64> {
        self.layers.iter().find(|layer| Some(layer.rank) == self.active)?.clock.behind_ntp_us()
    }

    /// The layer of this SSRC, and whether it is the one shown.
    pub(super) fn layer_mut(&mut self, ssrc: u32) -> Option<(&mut Layer, bool)> {
        let active = self.active;
        let layer = self.layers.iter_mut().find(|layer| layer.ssrc == ssrc)?;
        let is_shown = active == Some(layer.rank);
        Some((layer, is_shown))
    }

    /// The layers whose missing packets and keyframes are asked for, and when a keyframe is.
    pub(super) fn wanted(&mut self, interval: Duration) -> impl Iterator<Item = (&mut Layer, Option<Instant>)> {
        let (active, best, asks) = (self.active, self.best, self.can_ask_for_keyframes());
        let wanted = self.layers.iter_mut().filter(move |layer| is_wanted(layer.rank, active, best));
        wanted.map(move |layer| {
            let due = keyframe_due(layer, active, interval).filter(|_| asks);
            (layer, due)
        })
    }

    /// When something is to be asked for or given up.
    pub(super) fn deadline(&self, interval: Duration) -> Option<Instant> {
        let asks = self.can_ask_for_keyframes();
        let of_layer = |layer: &Layer| {
            let is_wanted = asks && is_wanted(layer.rank, self.active, self.best);
            let keyframe = keyframe_due(layer, self.active, interval).filter(|_| is_wanted);
            keyframe.into_iter().chain(layer.deadline()).min()
        };
        self.layers.iter().filter_map(of_layer).min()
    }

    fn can_ask_for_keyframes(&self) -> bool {
        self.kind() == TrackKind::Video && (self.terms.feedback.pli || self.terms.feedback.fir)
    }

    /// The layer that should be shown: of those that flow the one with the most pixels. One whose size isn't known is
    /// worth a try.
    fn best_layer(&self, now: Instant) -> Option<usize> {
        let flowing = self.layers.iter().filter(|layer| layer.is_flowing(now));
        let pixels = |config: &VideoConfig| u64::from(config.width) * u64::from(config.height);
        let key = |layer: &&Layer| (layer.config.as_ref().map_or(u64::MAX, pixels), Reverse(layer.rank));
        flowing.max_by_key(key).map(|layer| layer.rank)
    }
}

fn is_wanted(rank: usize, active: Option<usize>, best: Option<usize>) -> bool {
    active == Some(rank) || best == Some(rank)
}

fn keyframe_due(layer: &Layer, active: Option<usize>, interval: Duration) -> Option<Instant> {
    let changes_to_it = active.is_some_and(|active| active != layer.rank);
    layer.keyframe_due(changes_to_it, interval)
}

/// A source this silent may be replaced by another SSRC; else a straggler of an old one would take over again.
const TAKEOVER_MIN: Duration = Duration::from_millis(200);
