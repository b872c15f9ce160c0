//! Script data, which is also the payload of an RTMP data message: `onMetaData` and `onLiveEvent`.

use bytes::{Bytes, BytesMut};

use crate::{
    limits,
    media::{Metadata, Scalar},
    proto::rtmp::amf0::{self, Value},
};

/// The commerce event's data message (event contract, "AMF0 body").
#[derive(Debug, Clone, Copy)]
pub struct LiveEvent<'a> {
    /// The event's presentation time on the viewer's own timeline, milliseconds.
    pub ts_ms: f64,
    /// True for what happened before this viewer joined.
    pub replay: bool,
    /// One event, or the room's state.
    pub kind: LiveEventKind,
    /// The canonical JSON. At most 65,535 bytes: mpegts.js misreads long strings.
    pub json: &'a str,
}

/// What the JSON of an `onLiveEvent` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveEventKind {
    /// One event.
    Event,
    /// A snapshot of the room's state, or one part of it.
    Snapshot {
        /// Its place among the parts, counted from 0, and how many they are; absent where it is whole.
        part: Option<(u32, u32)>,
    },
}

impl LiveEvent<'_> {
    /// The message name.
    pub const NAME: &'static str = "onLiveEvent";

    /// The AMF0 body.
    pub fn encode(&self) -> Bytes {
        let kind = match self.kind {
            LiveEventKind::Event => "ev",
            LiveEventKind::Snapshot { .. } => "snap",
        };
        let mut out = BytesMut::with_capacity(128 + self.json.len());
        let mut properties = vec![
            ("v", Value::Number(1.0)),
            ("ts", Value::Number(self.ts_ms)),
            ("rp", Value::Bool(self.replay)),
            ("kind", Value::string(kind)),
            ("json", Value::string(self.json)),
        ];
        if let LiveEventKind::Snapshot { part: Some((index, count)) } = self.kind {
            let numbers = [index, count].map(|number| Value::Number(number.into()));
            properties.push(("part", Value::StrictArray(numbers.into())));
        }
        let body = Value::object(properties);
        amf0::encode_all(&[Value::string(Self::NAME), body], &mut out);
        out.freeze()
    }
}

/// An `onTextData` body, as players know it from captions.
pub fn on_text_data(text: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + text.len());
    let body = Value::object([("type", Value::string("Text")), ("text", Value::string(text))]);
    amf0::encode_all(&[Value::string("onTextData"), body], &mut out);
    out.freeze()
}

/// An `onMetaData` body with these properties, in this order.
pub fn on_metadata(properties: &[(String, Scalar)]) -> Bytes {
    let properties = properties.iter().map(|(key, scalar)| {
        let value = match scalar {
            Scalar::Number(number) => Value::Number(*number),
            Scalar::Bool(flag) => Value::Bool(*flag),
            Scalar::String(text) => Value::string(text),
        };
        (key.clone(), value)
    });
    let mut out = BytesMut::new();
    amf0::encode_all(&[Value::string(ON_METADATA), Value::EcmaArray(properties.collect())], &mut out);
    out.freeze()
}

/// A data message, once its envelope is off.
#[derive(Debug, Clone, PartialEq)]
pub enum ScriptData {
    /// `onMetaData`: the scalars in it; what is nested is left out.
    Metadata(Metadata),
    /// Any other message, unparsed: a name, then its values.
    Data(Bytes),
    /// What a server tells a Flash player about itself; no part of the stream.
    ForPlayer,
}

/// Reads a data message, with or without the `@setDataFrame` that tells a server to keep it.
pub fn parse(mut body: Bytes, limits: &amf0::Limits) -> Result<ScriptData, amf0::Error> {
    if let Some(after) = strip_name(&body, SET_DATA_FRAME) {
        body = after;
    }
    if FOR_PLAYER.iter().any(|name| strip_name(&body, name).is_some()) {
        return Ok(ScriptData::ForPlayer);
    }
    let Some(metadata) = strip_name(&body, ON_METADATA) else {
        return Ok(ScriptData::Data(body));
    };
    let values = amf0::decode_all(&metadata, limits)?;
    let properties = values.first().map(Value::properties).unwrap_or_default();
    let scalars = properties.iter().filter_map(|(key, value)| {
        let scalar = match value {
            Value::Number(number) => Scalar::Number(*number),
            Value::Bool(flag) => Scalar::Bool(*flag),
            Value::String(text) if text.len() <= limits::METADATA_STRING_BYTES_MAX => Scalar::String(text.clone()),
            _ => return None,
        };
        (key.len() <= limits::METADATA_STRING_BYTES_MAX).then(|| (key.clone(), scalar))
    });
    Ok(ScriptData::Metadata(scalars.take(limits::METADATA_ENTRIES_MAX).collect()))
}

/// What follows `name` if the body starts with it as an AMF0 string.
fn strip_name(body: &Bytes, name: &str) -> Option<Bytes> {
    let mut encoded = BytesMut::new();
    amf0::encode(&Value::string(name), &mut encoded);
    body.starts_with(&encoded).then(|| body.slice(encoded.len()..))
}

const SET_DATA_FRAME: &str = "@setDataFrame";
const FOR_PLAYER: [&str; 2] = ["|RtmpSampleAccess", "onStatus"];
const ON_METADATA: &str = "onMetaData";

#[cfg(test)]
mod tests {
    use super::*;

    /// Hexadecimal with spaces and quoted text.
    fn bytes(layout: &str) -> Vec<u8> {
        let piece = |(index, text): (usize, &str)| match index % 2 {
            1 => text.as_bytes().to_vec(),
            _ => text
                .split_whitespace()
                .flat_map(|hex| hex.as_bytes().chunks(2))
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
                .collect(),
        };
        layout.split('\'').enumerate().flat_map(piece).collect()
    }

    #[test]
    fn an_event_is_laid_out_as_the_contract_says() {
        let event = LiveEvent { ts_ms: 200.0, replay: false, kind: LiveEventKind::Event, json: r#"{"v":1}"# };
        let expected = bytes(
            "02 000B 'onLiveEvent' 03
             0001 'v' 00 3FF0000000000000
             0002 'ts' 00 4069000000000000
             0002 'rp' 01 00
             0004 'kind' 02 0002 'ev'
             0004 'json' 02 0007 '{\"v\":1}'
             0000 09",
        );
        assert_eq!(event.encode(), expected);
    }

    #[test]
    fn a_part_of_a_snapshot_says_which() {
        let kind = LiveEventKind::Snapshot { part: Some((1, 3)) };
        let part = LiveEvent { ts_ms: 0.0, replay: true, kind, json: "{}" };
        let expected = bytes(
            "02 000B 'onLiveEvent' 03
             0001 'v' 00 3FF0000000000000
             0002 'ts' 00 0000000000000000
             0002 'rp' 01 01
             0004 'kind' 02 0004 'snap'
             0004 'json' 02 0002 '{}'
             0004 'part' 0A 00000002 00 3FF0000000000000 00 4008000000000000
             0000 09",
        );
        assert_eq!(part.encode(), expected);
    }
}
