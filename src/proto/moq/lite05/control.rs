//! The messages of bidirectional streams. The subscriber opens the stream and names its kind first.

use bytes::BytesMut;

use super::{
    super::varint::{Reader, WireError, put_varint},
    Message, encode, put_optional, put_string, read_message, read_optional, read_string, take,
};
use crate::limits::MOQ_HOPS_MAX;

/// What a subscriber opened a bidirectional stream for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Tell me of broadcasts.
    Announce(AnnounceRequest),
    /// Send me a track.
    Subscribe(Subscribe),
    /// Send me one group.
    Fetch(Fetch),
    /// Tell me about the path; the reports travel back on this stream.
    Probe,
    /// I am leaving; go elsewhere.
    Goaway(Goaway),
    /// What is this track like?
    Track(TrackRequest),
}

impl Request {
    const ANNOUNCE: u64 = 1;
    const SUBSCRIBE: u64 = 2;
    const FETCH: u64 = 3;
    const PROBE: u64 = 4;
    const GOAWAY: u64 = 5;
    const TRACK: u64 = 6;

    /// Takes the stream's kind and its first message off the front of `buffer`.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, WireError> {
        take(buffer, |reader| match reader.varint()? {
            Self::ANNOUNCE => read_message(reader).map(Self::Announce),
            Self::SUBSCRIBE => read_message(reader).map(Self::Subscribe),
            Self::FETCH => read_message(reader).map(Self::Fetch),
            Self::PROBE => Ok(Self::Probe),
            Self::GOAWAY => read_message(reader).map(Self::Goaway),
            Self::TRACK => read_message(reader).map(Self::Track),
            _ => Err(WireError::UnknownStream),
        })
    }

    /// The bytes that open the stream.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Announce(message) => typed(&mut out, Self::ANNOUNCE, message),
            Self::Subscribe(message) => typed(&mut out, Self::SUBSCRIBE, message),
            Self::Fetch(message) => typed(&mut out, Self::FETCH, message),
            Self::Probe => put_varint(&mut out, Self::PROBE),
            Self::Goaway(message) => typed(&mut out, Self::GOAWAY, message),
            Self::Track(message) => typed(&mut out, Self::TRACK, message),
        }
        out
    }
}

fn typed(out: &mut Vec<u8>, kind: u64, message: &impl Message) {
    put_varint(out, kind);
    encode(message, out);
}

/// ANNOUNCE_REQUEST.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// Only broadcasts under this path.
    pub prefix: String,
    /// Skip broadcasts that have passed through this hop; 0 skips none.
    pub exclude_hop: u64,
}

impl Message for AnnounceRequest {
    const NAME: &'static str = "ANNOUNCE_REQUEST";

    fn write(&self, out: &mut Vec<u8>) {
        put_string(out, &self.prefix);
        put_varint(out, self.exclude_hop);
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { prefix: read_string(body, "prefix")?, exclude_hop: body.varint()? })
    }
}

/// ANNOUNCE_OK: the publisher's first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnnounceOk {
    /// The publisher's hop id, 0 for none. The subscriber adds it to every hop chain.
    pub hop: u64,
    /// How many ANNOUNCE_BROADCAST of what is live now follow at once.
    pub active: u64,
}

impl Message for AnnounceOk {
    const NAME: &'static str = "ANNOUNCE_OK";

    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.hop);
        put_varint(out, self.active);
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { hop: body.varint()?, active: body.varint()? })
    }
}

/// ANNOUNCE_BROADCAST: one broadcast came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceBroadcast {
    /// True if it is live. A second `true` for the same path means that its route changed.
    pub active: bool,
    /// The path below the requested prefix.
    pub suffix: String,
    /// The hops it came through, the origin first.
    pub hops: Vec<u64>,
}

impl Message for AnnounceBroadcast {
    const NAME: &'static str = "ANNOUNCE_BROADCAST";

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.active));
        put_string(out, &self.suffix);
        put_varint(out, u64::try_from(self.hops.len()).unwrap_or(0));
        self.hops.iter().for_each(|hop| put_varint(out, *hop));
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let active = match body.u8()? {
            0 => false,
            // 2 is "restart": the draft has it, the published clients send a second `active` instead.
            1 | 2 => true,
            _ => return Err(WireError::Malformed("announce status")),
        };
        let suffix = read_string(body, "suffix")?;
        let count = body.length("hop chain", MOQ_HOPS_MAX)?;
        let hops = (0..count).map(|_| body.varint()).collect::<Result<_, _>>()?;
        Ok(Self { active, suffix, hops })
    }
}

/// SUBSCRIBE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// Chosen by the subscriber; names the subscription on group streams.
    pub id: u64,
    /// The broadcast's path.
    pub broadcast: String,
    /// The track's name.
    pub track: String,
    /// Higher goes first.
    pub priority: u8,
    /// Asks for the oldest group first; the default is the newest first.
    pub ordered: bool,
    /// How old a group may get before it is of no use, in milliseconds.
    pub max_age_ms: u64,
    /// First group wanted; none for the newest.
    pub group_start: Option<u64>,
    /// Last group wanted, inclusive; none for all.
    pub group_end: Option<u64>,
}

impl Message for Subscribe {
    const NAME: &'static str = "SUBSCRIBE";

    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id);
        put_string(out, &self.broadcast);
        put_string(out, &self.track);
        out.extend([self.priority, u8::from(self.ordered)]);
        put_varint(out, self.max_age_ms);
        put_optional(out, self.group_start);
        put_optional(out, self.group_end);
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            id: body.varint()?,
            broadcast: read_string(body, "broadcast")?,
            track: read_string(body, "track name")?,
            priority: body.u8()?,
            ordered: body.u8()? != 0,
            max_age_ms: body.varint()?,
            group_start: read_optional(body)?,
            group_end: read_optional(body)?,
        })
    }
}

/// SUBSCRIBE_UPDATE: follows SUBSCRIBE on the same stream, any number of times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscribeUpdate {
    /// As in [`Subscribe`].
    pub priority: u8,
    /// As in [`Subscribe`].
    pub ordered: bool,
    /// As in [`Subscribe`].
    pub max_age_ms: u64,
    /// As in [`Subscribe`].
    pub group_start: Option<u64>,
    /// As in [`Subscribe`].
    pub group_end: Option<u64>,
}

impl Message for SubscribeUpdate {
    const NAME: &'static str = "SUBSCRIBE_UPDATE";

    fn write(&self, out: &mut Vec<u8>) {
        out.extend([self.priority, u8::from(self.ordered)]);
        put_varint(out, self.max_age_ms);
        put_optional(out, self.group_start);
        put_optional(out, self.group_end);
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            priority: body.u8()?,
            ordered: body.u8()? != 0,
            max_age_ms: body.varint()?,
            group_start: read_optional(body)?,
            group_end: read_optional(body)?,
        })
    }
}

/// What the publisher says on a subscription's stream. Accepting needs no word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeReply {
    /// SUBSCRIBE_START: no group before this one will come.
    Start {
        /// The first group.
        group: u64,
    },
    /// SUBSCRIBE_END: no group from this one on will come.
    End {
        /// One past the last group.
        group: u64,
    },
    /// SUBSCRIBE_DROP: these groups will not come.
    Drop {
        /// The first dropped group.
        start: u64,
        /// The last dropped group.
        end: u64,
        /// Why, as in [`super::stream_code`].
        code: u64,
    },
}

impl SubscribeReply {
    /// The reply as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, fields): (u8, &[u64]) = match self {
            Self::Start { group } => (0, &[*group]),
            Self::End { group } => (1, &[*group]),
            Self::Drop { start, end, code } => (2, &[*start, *end, *code]),
        };
        let mut body = Vec::new();
        fields.iter().for_each(|field| put_varint(&mut body, *field));
        let mut out = vec![kind];
        super::super::varint::put_prefixed(&mut out, &body);
        out
    }

    /// Takes one reply off the front of `buffer`.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, WireError> {
        take(buffer, |reader| match reader.varint()? {
            0 => read_message(reader).map(|Numbers([group])| Self::Start { group }),
            1 => read_message(reader).map(|Numbers([group])| Self::End { group }),
            2 => read_message(reader).map(|Numbers([start, end, code])| Self::Drop { start, end, code }),
            _ => Err(WireError::Malformed("subscribe reply type")),
        })
    }
}

/// A body of `N` varints.
struct Numbers<const N: usize>([u64; N]);

impl<const N: usize> Message for Numbers<N> {
    const NAME: &'static str = "subscribe reply";

    fn write(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|number| put_varint(out, *number));
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = body.varint()?;
        }
        Ok(Self(numbers))
    }
}

/// FETCH: answered with bare frames and a FIN, or a reset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetch {
    /// The broadcast's path.
    pub broadcast: String,
    /// The track's name.
    pub track: String,
    /// Higher goes first.
    pub priority: u8,
    /// The group wanted.
    pub group: u64,
}

impl Message for Fetch {
    const NAME: &'static str = "FETCH";

    fn write(&self, out: &mut Vec<u8>) {
        put_string(out, &self.broadcast);
        put_string(out, &self.track);
        out.push(self.priority);
        put_varint(out, self.group);
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            broadcast: read_string(body, "broadcast")?,
            track: read_string(body, "track name")?,
            priority: body.u8()?,
            group: body.varint()?,
        })
    }
}

/// PROBE: what the publisher knows of the path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probe {
    /// Estimated bits a second, 0 when unknown.
    pub bitrate: u64,
    /// Smoothed round-trip time in milliseconds, 0 when unknown.
    pub rtt_ms: u64,
}

impl Message for Probe {
    const NAME: &'static str = "PROBE";

    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.bitrate);
        put_varint(out, self.rtt_ms);
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { bitrate: body.varint()?, rtt_ms: body.varint()? })
    }
}

/// GOAWAY.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Goaway {
    /// Where to go instead; empty for "the same address again".
    pub uri: String,
}

impl Message for Goaway {
    const NAME: &'static str = "GOAWAY";

    fn write(&self, out: &mut Vec<u8>) {
        put_string(out, &self.uri);
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { uri: read_string(body, "uri")? })
    }
}

/// TRACK: asks for a [`TrackInfo`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackRequest {
    /// The broadcast's path.
    pub broadcast: String,
    /// The track's name.
    pub track: String,
}

impl Message for TrackRequest {
    const NAME: &'static str = "TRACK";

    fn write(&self, out: &mut Vec<u8>) {
        put_string(out, &self.broadcast);
        put_string(out, &self.track);
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { broadcast: read_string(body, "broadcast")?, track: read_string(body, "track name")? })
    }
}

/// TRACK_INFO: what never changes in a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackInfo {
    /// Breaks ties between tracks of the same subscriber priority.
    pub priority: u8,
    /// Groups are meant to be read in order.
    pub ordered: bool,
    /// How long the publisher keeps a group after a newer one, in milliseconds.
    pub max_age_ms: u64,
    /// Timestamp units a second; never 0.
    pub timescale: u64,
}

impl Message for TrackInfo {
    const NAME: &'static str = "TRACK_INFO";

    fn write(&self, out: &mut Vec<u8>) {
        out.extend([self.priority, u8::from(self.ordered)]);
        put_varint(out, self.max_age_ms);
        put_varint(out, self.timescale);
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let info = Self {
            priority: body.u8()?,
            ordered: body.u8()? != 0,
            max_age_ms: body.varint()?,
            timescale: body.varint()?,
        };
        if info.timescale == 0 { Err(WireError::Malformed("timescale")) } else { Ok(info) }
    }
}
