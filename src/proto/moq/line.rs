//! hawker's own `line` track: the items of a stream's line, for edges.
//!
//! ```text
//! item = kind (varint), fields, tail
//!   0 head    epoch, video, audio, metadata, tail: the room's snapshot, empty for an empty room
//!   1 frame   flags (1 = keyframe, 2 = audio), dts (zigzag µs), pts - dts (zigzag µs), tail: the coded frame
//!   2 event   tail: the event in canonical form
//!   3 data    dts (zigzag µs), tail: AMF0
//!   4 recap   tail: an event that was sent before, for readers that were away then
//! video = 0 | codec + 1, width, height, description      audio = 0 | codec + 1, rate, channels, description
//! metadata = count, (key, 0 f64 | 1 bool | 2 string)*
//! ```
//!
//! Numbers are varints, strings and descriptions carry their length. One item is one moq-lite frame, so
//! the tail ends where the frame does and is shared, never copied.

use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::varint::{Reader, WireError, put_prefixed, put_varint, unzigzag, zigzag};
use crate::{
    limits::{MOQ_DESCRIPTION_BYTES_MAX, MOQ_METADATA_MAX, MOQ_METADATA_STRING_BYTES_MAX},
    media::{
        AudioConfig, Codec, Data, Event, Frame, Head, Item, Metadata, Room, Scalar, StreamName, TrackKind, Tracks,
        VideoConfig, event::BadEvent,
    },
};

/// The track's name.
pub const LINE_TRACK: &str = "line";

const HEAD: u64 = 0;
const FRAME: u64 = 1;
const EVENT: u64 = 2;
const DATA: u64 = 3;
const RECAP: u64 = 4;

const KEYFRAME: u8 = 1;
const AUDIO: u8 = 2;

/// What one frame of the line track says.
#[derive(Debug, Clone, PartialEq)]
pub enum LineItem {
    /// The next item.
    Item(Item),
    /// An event from before this place: news only to a reader that was away.
    Recap(Arc<Event>),
    /// What a newer version says besides.
    Unknown,
    /// An event that is none to us: another version's, or broken. What is around it can be read.
    BadEvent(BadEvent),
}

/// Appends a recap of `event` but for its tail, which is returned.
pub fn encode_recap(event: &Event, out: &mut Vec<u8>) -> Bytes {
    put_varint(out, RECAP);
    event.json.clone()
}

/// Appends everything but the tail of `item` to `out` and returns the tail, which is shared with the item. `source`
/// is the stream's name.
pub fn encode_item(item: &Item, source: &StreamName, out: &mut Vec<u8>) -> Bytes {
    match item {
        Item::Head(head) => {
            put_varint(out, HEAD);
            put_tracks(out, &head.tracks);
            // What is so in all rooms comes to each node once, by itself.
            if head.room.is_empty() { Bytes::new() } else { head.room.to_json(source, head.at, &[]).into() }
        }
        Item::Frame(frame) => {
            put_varint(out, FRAME);
            let audio = if frame.track == TrackKind::Audio { AUDIO } else { 0 };
            out.push(audio | u8::from(frame.keyframe));
            put_varint(out, zigzag(frame.dts_us));
            put_varint(out, zigzag(frame.pts_us.saturating_sub(frame.dts_us)));
            frame.data.clone()
        }
        Item::Event(event) => {
            put_varint(out, EVENT);
            event.json.clone()
        }
        Item::Data(data) => {
            put_varint(out, DATA);
            put_varint(out, zigzag(data.dts_us));
            data.amf0.clone()
        }
    }
}

/// Reads one item. Its tail shares `bytes`.
pub fn decode_item(bytes: &Bytes) -> Result<LineItem, WireError> {
    let mut reader = Reader::new(bytes);
    read_item(&mut reader, bytes).map_err(|error| match error {
        // The whole item is here.
        WireError::Incomplete => WireError::Malformed("line item"),
        error => error,
    })
}

fn read_item(reader: &mut Reader<'_>, bytes: &Bytes) -> Result<LineItem, WireError> {
    let item = match reader.varint()? {
        HEAD => Item::Head(Arc::new(read_head(reader)?)),
        FRAME => {
            let flags = reader.u8()?;
            let dts_us = unzigzag(reader.varint()?);
            let pts_us = dts_us.saturating_add(unzigzag(reader.varint()?));
            let track = if flags & AUDIO != 0 { TrackKind::Audio } else { TrackKind::Video };
            let data = bytes.slice_ref(reader.rest());
            Item::Frame(Frame { track, dts_us, pts_us, keyframe: flags & KEYFRAME != 0, data })
        }
        EVENT => return Ok(read_event(reader, |event| LineItem::Item(Item::Event(event)))),
        DATA => {
            let dts_us = unzigzag(reader.varint()?);
            Item::Data(Data { dts_us, amf0: bytes.slice_ref(reader.rest()) })
        }
        RECAP => return Ok(read_event(reader, LineItem::Recap)),
        _ => return Ok(LineItem::Unknown),
    };
    Ok(LineItem::Item(item))
}

fn read_head(reader: &mut Reader<'_>) -> Result<Head, WireError> {
    let tracks = Arc::new(read_tracks(reader)?);
    let mut head = Head { tracks, ..Head::default() };
    if !reader.rest().is_empty() {
        // Those of another source are left out: they come with it.
        let (room, at) =
            Room::from_json(reader.rest(), &mut Vec::new()).map_err(|_| WireError::Malformed("room snapshot"))?;
        (head.room, head.at) = (Arc::new(room), at);
    }
    Ok(head)
}

fn read_event(reader: &Reader<'_>, item: fn(Arc<Event>) -> LineItem) -> LineItem {
    Event::from_json(reader.rest()).map_or_else(LineItem::BadEvent, |event| item(Arc::new(event)))
}

/// On the wire a codec is its place here plus one. The order is part of the format.
const CODECS: [Codec; 7] = [Codec::Avc, Codec::Hevc, Codec::Av1, Codec::Vp9, Codec::Aac, Codec::Opus, Codec::Vp8];

fn put_codec(out: &mut Vec<u8>, codec: Codec) {
    let place = CODECS.iter().position(|known| *known == codec).map_or(0, |place| place + 1);
    put_varint(out, u64::try_from(place).unwrap_or(0));
}

/// `None` where the track is absent.
fn read_codec(reader: &mut Reader<'_>, kind: TrackKind) -> Result<Option<Codec>, WireError> {
    let Some(place) = reader.varint()?.checked_sub(1) else { return Ok(None) };
    let codec = usize::try_from(place).ok().and_then(|place| CODECS.get(place)).copied();
    codec.filter(|codec| codec.kind() == kind).map(Some).ok_or(WireError::Malformed("codec"))
}

fn put_tracks(out: &mut Vec<u8>, tracks: &Tracks) {
    put_varint(out, tracks.epoch);
    match &tracks.video {
        Some(video) => {
            put_codec(out, video.codec);
            put_varint(out, video.width.into());
            put_varint(out, video.height.into());
            put_prefixed(out, &video.description);
        }
        None => out.push(0),
    }
    match &tracks.audio {
        Some(audio) => {
            put_codec(out, audio.codec);
            put_varint(out, audio.sample_rate.into());
            put_varint(out, audio.channels.into());
            put_prefixed(out, &audio.description);
        }
        None => out.push(0),
    }
    let metadata = tracks.metadata.iter().filter(|(key, value)| fits(key, value)).take(MOQ_METADATA_MAX);
    put_varint(out, u64::try_from(metadata.clone().count()).unwrap_or(0));
    for (key, value) in metadata {
        put_prefixed(out, key.as_bytes());
        match value {
            Scalar::Number(number) => {
                out.push(0);
                out.put_f64(*number);
            }
            Scalar::Bool(truth) => out.extend([1, u8::from(*truth)]),
            Scalar::String(text) => {
                out.push(2);
                put_prefixed(out, text.as_bytes());
            }
        }
    }
}

/// Metadata over the bounds is left behind rather than ending the edge's session.
fn fits(key: &str, value: &Scalar) -> bool {
    let text = if let Scalar::String(text) = value { text.len() } else { 0 };
    key.len() <= MOQ_METADATA_STRING_BYTES_MAX && text <= MOQ_METADATA_STRING_BYTES_MAX
}

fn read_tracks(reader: &mut Reader<'_>) -> Result<Tracks, WireError> {
    let epoch = reader.varint()?;
    let video = match read_codec(reader, TrackKind::Video)? {
        Some(codec) => {
            let (width, height) = (read_u32(reader)?, read_u32(reader)?);
            Some(VideoConfig { codec, width, height, description: read_description(reader)? })
        }
        None => None,
    };
    let audio = match read_codec(reader, TrackKind::Audio)? {
        Some(codec) => {
            let sample_rate = read_u32(reader)?;
            let channels = u8::try_from(reader.varint()?).map_err(|_| WireError::Malformed("channels"))?;
            Some(AudioConfig { codec, sample_rate, channels, description: read_description(reader)? })
        }
        None => None,
    };
    let count = reader.length("metadata", MOQ_METADATA_MAX)?;
    let metadata: Metadata = (0..count).map(|_| read_metadata(reader)).collect::<Result<_, _>>()?;
    Ok(Tracks { video, audio, metadata, epoch })
}

fn read_metadata(reader: &mut Reader<'_>) -> Result<(String, Scalar), WireError> {
    let key = reader.string("metadata key", MOQ_METADATA_STRING_BYTES_MAX)?;
    let value = match reader.u8()? {
        0 => {
            let bytes = reader.bytes(8)?.try_into().map_err(|_| WireError::Malformed("metadata number"))?;
            Scalar::Number(f64::from_be_bytes(bytes))
        }
        1 => Scalar::Bool(reader.u8()? != 0),
        2 => Scalar::String(reader.string("metadata value", MOQ_METADATA_STRING_BYTES_MAX)?),
        _ => return Err(WireError::Malformed("metadata kind")),
    };
    Ok((key, value))
}

fn read_u32(reader: &mut Reader<'_>) -> Result<u32, WireError> {
    u32::try_from(reader.varint()?).map_err(|_| WireError::Malformed("head number"))
}

fn read_description(reader: &mut Reader<'_>) -> Result<Bytes, WireError> {
    let len = reader.length("description", MOQ_DESCRIPTION_BYTES_MAX)?;
    Ok(Bytes::copy_from_slice(reader.bytes(len)?))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn encode(item: &Item) -> Bytes {
        let mut out = Vec::new();
        let tail = encode_item(item, &"live/a".parse().expect("a name"), &mut out);
        out.extend_from_slice(&tail);
        out.into()
    }

    fn description() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..64).prop_map(Bytes::from)
    }

    fn scalar() -> impl Strategy<Value = Scalar> {
        prop_oneof![
            (-1e12..1e12f64).prop_map(Scalar::Number),
            any::<bool>().prop_map(Scalar::Bool),
            ".{0,40}".prop_map(Scalar::String),
        ]
    }

    fn tracks() -> impl Strategy<Value = Tracks> {
        let video =
            (0usize..4, description(), any::<u32>(), any::<u32>()).prop_map(|(codec, description, width, height)| {
                VideoConfig { codec: CODECS[codec], description, width, height }
            });
        let audio = (4usize..6, description(), any::<u32>(), any::<u8>()).prop_map(
            |(codec, description, sample_rate, channels)| AudioConfig {
                codec: CODECS[codec],
                description,
                sample_rate,
                channels,
            },
        );
        let metadata = vec((".{0,20}", scalar()), 0..8);
        (proptest::option::of(video), proptest::option::of(audio), metadata, 0u64..1 << 60)
            .prop_map(|(video, audio, metadata, epoch)| Tracks { video, audio, metadata, epoch })
    }

    proptest! {
        #[test]
        fn configurations_round_trip(tracks in tracks()) {
            let head = Item::Head(Head::of(tracks.clone().into()));
            let Ok(LineItem::Item(Item::Head(read))) = decode_item(&encode(&head)) else {
                return Err(TestCaseError::fail("not a configuration"));
            };
            prop_assert_eq!(&*read.tracks, &tracks);
        }

        #[test]
        fn frames_and_data_round_trip_and_share_their_bytes(
            audio in any::<bool>(), keyframe in any::<bool>(),
            dts_us in -(1i64 << 60)..1 << 60, composition_us in -(1i64 << 40)..1 << 40, data in vec(any::<u8>(), 0..99),
        ) {
            let track = if audio { TrackKind::Audio } else { TrackKind::Video };
            let data = Bytes::from(data);
            let frame = Frame { track, dts_us, pts_us: dts_us + composition_us, keyframe, data: data.clone() };
            let wire = encode(&Item::Frame(frame.clone()));
            let Ok(LineItem::Item(Item::Frame(read))) = decode_item(&wire) else {
                return Err(TestCaseError::fail("not a frame"));
            };
            prop_assert!(read.data.is_empty() || wire.as_ptr_range().contains(&read.data.as_ptr()));
            prop_assert_eq!(read, frame);
            let item = Data { dts_us, amf0: data };
            let Ok(LineItem::Item(Item::Data(read))) = decode_item(&encode(&Item::Data(item.clone()))) else {
                return Err(TestCaseError::fail("not data"));
            };
            prop_assert_eq!(read, item);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200), kind in 0u8..5) {
            let mut wire = vec![kind];
            wire.extend(bytes);
            let _ = decode_item(&wire.into());
        }
    }

    #[test]
    fn an_event_keeps_its_bytes() {
        let json = br#"{"data":{},"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","op":"fire","seq":7,"source":"live/a","time":{"mode":"asap"},"type":"sale.start","v":1}"#;
        let event = Event::from_json(json).expect("a valid event");
        let Ok(LineItem::Item(Item::Event(read))) = decode_item(&encode(&Item::Event(Arc::new(event.clone())))) else {
            panic!("not an event");
        };
        assert_eq!(*read, event);
        let mut recap = Vec::new();
        let tail = encode_recap(&event, &mut recap);
        recap.extend_from_slice(&tail);
        assert_eq!(decode_item(&recap.into()), Ok(LineItem::Recap(Arc::new(event))));
    }

    #[test]
    fn what_only_a_newer_version_says_is_left_out() {
        assert_eq!(decode_item(&Bytes::from_static(&[63, 1, 2, 3])), Ok(LineItem::Unknown));
    }

    #[test]
    fn an_event_of_another_version_is_left_out_and_what_is_around_it_read() {
        for kind in [EVENT, RECAP] {
            let mut wire = Vec::new();
            put_varint(&mut wire, kind);
            wire.extend_from_slice(br#"{"v":2}"#);
            assert!(matches!(decode_item(&wire.into()), Ok(LineItem::BadEvent(_))));
        }
        let event = |seq: u64, v: u64, source: &str| {
            let id = ulid::Ulid::from_parts(seq, 0);
            format!(
                r#"{{"id":"{id}","key":"k:{seq}","op":"set","seq":{seq},"source":"{source}","time":{{"mode":"asap"}},"type":"card.show","v":{v}}}"#
            )
        };
        let events = [event(1, 1, "live/a"), event(2, 2, "live/a"), event(3, 1, "live/b"), event(4, 1, "live/a")];
        let mut wire = Vec::new();
        put_varint(&mut wire, HEAD);
        put_tracks(&mut wire, &Tracks::default());
        wire.extend_from_slice(
            format!(
                r#"{{"v":1,"source":"live/a","seq":4,"pts_us":0,"wall_ms":0,"deleted":{{}},"dropped":{{}},"events":[{}]}}"#,
                events.join(",")
            )
            .as_bytes(),
        );
        let Ok(LineItem::Item(Item::Head(head))) = decode_item(&wire.into()) else { panic!("not a head") };
        assert_eq!(head.room.active(head.at).into_keys().collect::<Vec<_>>(), ["k:1", "k:4"]);
    }

    #[test]
    fn a_codec_of_the_other_kind_is_refused() {
        // epoch 0, "video" with the place of AAC.
        assert_eq!(decode_item(&Bytes::from_static(&[0, 0, 5])).err(), Some(WireError::Malformed("codec")));
    }
}
