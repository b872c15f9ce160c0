//! A media line: kind, direction, header extensions, SSRCs and simulcast layers.

use super::{
    BadSdp, Track,
    format::{PayloadType, payload_types},
    lines::{Section, is_token},
    transport::Transport,
};
use crate::{
    limits::{SDP_RIDS_MAX, SDP_SSRCS_MAX},
    media::TrackKind,
};

/// A media line of a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Its name (RFC 5888), empty if it has none.
    pub mid: String,
    /// What it is for.
    pub kind: Kind,
    /// Which way media flows, seen by who wrote it.
    pub direction: Direction,
    /// It shares the transport of the others. One that doesn't can't be had.
    pub bundled: bool,
    /// Its port is 0: an answer's refusal, or a line of an offer that is no longer used.
    pub rejected: bool,
    /// RTP and RTCP share a port (RFC 5761); without it the line can't be had.
    pub rtcp_mux: bool,
    /// RTCP may come in reduced size (RFC 5506).
    pub rtcp_rsize: bool,
    /// Payload types, the preferred first.
    pub payload_types: Vec<PayloadType>,
    /// Header extensions.
    pub extensions: Extensions,
    /// SSRCs, without those of retransmissions.
    pub ssrcs: Vec<u32>,
    /// Pairs of an SSRC and that of its retransmissions.
    pub rtx_ssrcs: Vec<(u32, u32)>,
    /// The layers of simulcast that its writer sends.
    pub rids: Vec<String>,
    /// The data channel association of an application line.
    pub data: Option<Data>,
    /// Its transport; a bundled line may leave it to the others.
    pub transport: Option<Transport>,
    pub(super) head: Head,
}

/// What of a media line its answer repeats (RFC 3264 §6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) media: String,
    pub(super) protocol: String,
    pub(super) format: String,
}

/// What a media line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A picture, over RTP and DTLS-SRTP.
    Video,
    /// A sound, the same way.
    Audio,
    /// Data channels (RFC 8841).
    Application,
    /// Anything else; it is rejected.
    Other,
}

impl Kind {
    /// The kind of track that it makes.
    pub fn track(self) -> Option<TrackKind> {
        match self {
            Self::Video => Some(TrackKind::Video),
            Self::Audio => Some(TrackKind::Audio),
            Self::Application | Self::Other => None,
        }
    }
}

/// Which way media flows, seen by who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Out and in.
    SendRecv,
    /// Out.
    SendOnly,
    /// In.
    RecvOnly,
    /// Not at all.
    Inactive,
}

impl Direction {
    /// Does media flow from who says it?
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Does media flow to who says it?
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    fn read(section: &Section<'_>) -> Option<Self> {
        let all = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];
        section.attributes().find_map(|(name, _)| all.into_iter().find(|direction| direction.name() == name))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// The ids of the header extensions that we know (RFC 8285), each of 1 to 14.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions {
    /// The line's name (RFC 9143 §15).
    pub mid: Option<u8>,
    /// The simulcast layer (RFC 8852).
    pub rid: Option<u8>,
    /// The simulcast layer of a retransmission.
    pub repaired_rid: Option<u8>,
    /// The sequence number over all tracks.
    pub transport_cc: Option<u8>,
    /// When a frame was captured.
    pub abs_capture_time: Option<u8>,
}

impl Extensions {
    /// Only the one-byte form is read and written, so ids above 14 are none; the first of two counts.
    fn add(&mut self, text: &str) {
        let mut words = text.split(' ');
        let id = words.next().and_then(|id| id.split('/').next()).and_then(|id| id.parse().ok());
        let (Some(id @ 1..=14), Some(uri)) = (id, words.next()) else { return };
        let slot = match uri {
            MID => &mut self.mid,
            RID => &mut self.rid,
            REPAIRED_RID => &mut self.repaired_rid,
            TRANSPORT_CC => &mut self.transport_cc,
            ABS_CAPTURE_TIME => &mut self.abs_capture_time,
            _ => return,
        };
        slot.get_or_insert(id);
    }

    /// Ids and URIs.
    pub(super) fn named(self) -> impl Iterator<Item = (u8, &'static str)> {
        let all = [
            (self.mid, MID),
            (self.rid, RID),
            (self.repaired_rid, REPAIRED_RID),
            (self.transport_cc, TRANSPORT_CC),
            (self.abs_capture_time, ABS_CAPTURE_TIME),
        ];
        all.into_iter().filter_map(|(id, uri)| Some((id?, uri)))
    }
}

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const ABS_CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";

/// The data channel association of a line (RFC 8841).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// The line's name.
    pub mid: String,
    /// The writer's SCTP port.
    pub sctp_port: u16,
    /// The longest message that the writer takes, bytes; 0 is any length.
    pub max_message_size: u64,
}

impl Media {
    pub(super) fn read(section: &Section<'_>, session: &Section<'_>) -> Result<Self, BadSdp> {
        let (head, port, formats) = Head::parse(section.line).ok_or(BadSdp::Bad("media line"))?;
        let mid = section.first("mid").unwrap_or_default();
        if section.has("mid") && !is_token(mid) {
            return Err(BadSdp::Bad("mid"));
        }
        let kind = head.kind();
        let is_rtp = kind.track().is_some();
        let mut media = Self {
            mid: mid.to_owned(),
            kind,
            direction: Direction::read(section).or(Direction::read(session)).unwrap_or(Direction::SendRecv),
            bundled: false,
            rejected: port == 0 && !section.has("bundle-only"),
            rtcp_mux: section.has("rtcp-mux"),
            rtcp_rsize: section.has("rtcp-rsize"),
            payload_types: if is_rtp { payload_types(formats, section)? } else { Vec::new() },
            extensions: Extensions::default(),
            ssrcs: Vec::new(),
            rtx_ssrcs: Vec::new(),
            rids: rids(section),
            data: None,
            transport: Transport::read(session, section)?,
            head,
        };
        section.all("extmap").for_each(|text| media.extensions.add(text));
        media.read_ssrcs(section);
        if kind == Kind::Application {
            media.data = Some(Data::read(mid, section)?);
        }
        Ok(media)
    }

    /// The payload type of retransmissions of a payload type.
    pub fn rtx_of(&self, payload_type: u8) -> Option<u8> {
        self.payload_types.iter().find(|rtx| rtx.rtx_for == Some(payload_type)).map(|rtx| rtx.number)
    }

    /// The formats offered, for people; of our codecs, and of what we don't know by their names.
    pub(super) fn format_names(&self) -> String {
        let mut names: Vec<_> = self.payload_types.iter().map(|format| format.name.as_str()).collect();
        names.retain(|name| !name.is_empty() && !["rtx", "red", "ulpfec", "flexfec-03"].contains(name));
        names.dedup();
        names.truncate(16);
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    /// RFC 5576: `ssrc` names an SSRC, and a group FID says whose retransmissions it carries.
    fn read_ssrcs(&mut self, section: &Section<'_>) {
        for group in section.all("ssrc-group") {
            let mut words = group.split(' ');
            let is_pair = words.next() == Some("FID");
            let mut numbers = words.filter_map(|word| word.parse().ok());
            if let (true, Some(ssrc), Some(rtx)) = (is_pair, numbers.next(), numbers.next())
                && self.rtx_ssrcs.len() < SDP_SSRCS_MAX
            {
                self.rtx_ssrcs.push((ssrc, rtx));
            }
        }
        for ssrc in section.all("ssrc").filter_map(|text| text.split(' ').next()?.parse().ok()) {
            let is_known = self.ssrcs.contains(&ssrc) || self.rtx_ssrcs.iter().any(|(_, rtx)| *rtx == ssrc);
            if !is_known && self.ssrcs.len() < SDP_SSRCS_MAX {
                self.ssrcs.push(ssrc);
            }
        }
    }
}

impl Head {
    /// The line without its port, its port, and all its formats.
    pub(super) fn parse(line: &str) -> Option<(Self, u16, impl Iterator<Item = &str> + Clone)> {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let media = words.next().filter(|word| is_token(word))?.to_owned();
        let port = words.next()?.split('/').next()?.parse().ok()?;
        let protocol = words.next().filter(|word| word.split('/').all(is_token))?.to_owned();
        let format = words.clone().next().filter(|word| is_token(word))?.to_owned();
        Some((Self { media, protocol, format }, port, words))
    }

    /// Each codec has its payload type and that of its retransmissions.
    pub(super) fn set_formats(&mut self, codecs: &[Track]) {
        let numbers = codecs.iter().flat_map(|track| [Some(track.payload_type), track.rtx]).flatten();
        self.format = numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
    }

    fn kind(&self) -> Kind {
        // RFC 8829 §5.1.2 lists the names that mean RTP over DTLS, whatever is under it.
        let is_rtp = self.protocol.ends_with("RTP/SAVPF") || self.protocol.ends_with("RTP/SAVP");
        match self.media.as_str() {
            "video" if is_rtp => Kind::Video,
            "audio" if is_rtp => Kind::Audio,
            "application" if self.protocol.ends_with("/DTLS/SCTP") && self.format == "webrtc-datachannel" => {
                Kind::Application
            }
            _ => Kind::Other,
        }
    }
}

impl Data {
    /// RFC 8841 §5.2 and §6.1: the port's default is 5000, the size's 64 KiB.
    fn read(mid: &str, section: &Section<'_>) -> Result<Self, BadSdp> {
        let sctp_port = section.first("sctp-port").map_or(Ok(SCTP_PORT), str::parse);
        let max_message_size = section.first("max-message-size").map_or(Ok(65_536), str::parse);
        Ok(Self {
            mid: mid.to_owned(),
            sctp_port: sctp_port.map_err(|_| BadSdp::Bad("sctp-port"))?,
            max_message_size: max_message_size.map_err(|_| BadSdp::Bad("max-message-size"))?,
        })
    }
}

/// The SCTP port of a data channel association, on our side.
pub(super) const SCTP_PORT: u16 = 5000;

/// The layers that are sent (RFC 8853): those of `simulcast` that a `rid` describes. Of alternatives the first is taken.
fn rids(section: &Section<'_>) -> Vec<String> {
    let is_described = |id: &str| {
        section.all("rid").any(|rid| {
            let mut words = rid.split(' ');
            words.next() == Some(id) && words.next() == Some("send")
        })
    };
    // RFC 8852 §3: letters and digits, and no longer than a one-byte header extension.
    let is_rid = |id: &str| (1..=16).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    let mut rids: Vec<String> = Vec::new();
    let mut words = section.first("simulcast").unwrap_or_default().split(' ');
    if words.any(|word| word == "send") {
        for layer in words.next().unwrap_or_default().split(';') {
            let id = layer.split(',').next().unwrap_or_default().trim_start_matches('~');
            if rids.len() < SDP_RIDS_MAX && is_rid(id) && !rids.iter().any(|known| known == id) && is_described(id) {
                rids.push(id.to_owned());
            }
        }
    }
    rids
}
