//! AMF0 (Adobe AMF0 specification, 2007): the values inside RTMP commands and FLV script tags.
//!
//! Depth, number of values and string lengths are bounded before anything is allocated.

use bytes::{Buf, BufMut, BytesMut};

use crate::limits::{self, AMF0_VALUE_BYTES_MIN, AMF0_VALUES_MAX};

/// One AMF0 value. Objects keep the order of their keys.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A double.
    Number(f64),
    /// A boolean.
    Bool(bool),
    /// A string, short or long on the wire.
    String(String),
    /// An anonymous object.
    Object(Vec<(String, Value)>),
    /// Null.
    Null,
    /// Undefined.
    Undefined,
    /// An associative array. Its count on the wire is often wrong and carries no meaning.
    EcmaArray(Vec<(String, Value)>),
    /// A dense array.
    StrictArray(Vec<Value>),
    /// Milliseconds since 1970; the time zone is reserved and always 0 (§2.13).
    Date(f64),
}

/// Why bytes are not acceptable AMF0. Always the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end inside a value.
    #[error("AMF0 ends inside a value")]
    Truncated,
    /// A marker hawker doesn't read: references, typed objects, XML, AMF3, or no AMF0 at all.
    #[error("AMF0 marker {0:#04x} is not supported")]
    Marker(u8),
    /// Nested too deeply.
    #[error("AMF0 is nested too deeply")]
    TooDeep,
    /// Too many values.
    #[error("AMF0 has too many values")]
    TooManyValues,
    /// A string or key is too long.
    #[error("AMF0 string of {0} bytes is too long")]
    StringTooLong(usize),
}

/// What a decoder will hold for its peer.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Deepest nesting.
    pub depth_max: usize,
    /// Values in all, nested ones included.
    pub values_max: usize,
    /// Longest string or key.
    pub string_bytes_max: usize,
}

impl Limits {
    /// For a peer that nobody has authorised yet.
    pub const SETUP: Self = Self {
        depth_max: limits::AMF0_DEPTH_MAX,
        values_max: limits::AMF0_VALUES_MAX,
        string_bytes_max: limits::AMF0_STRING_BYTES_MAX,
    };
    /// For an authorised publisher, or a server that we chose.
    pub const AUTHORISED: Self = Self {
        depth_max: limits::AMF0_DEPTH_MAX,
        values_max: limits::AMF0_AUTHORISED_VALUES_MAX,
        string_bytes_max: limits::AMF0_AUTHORISED_STRING_BYTES_MAX,
    };
}

impl Value {
    /// A string value.
    pub fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// An object with these properties.
    pub fn object<'a>(properties: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        Self::Object(properties.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a number.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The properties of an object or associative array; empty for anything else.
    pub fn properties(&self) -> &[(String, Value)] {
        match self {
            Self::Object(properties) | Self::EcmaArray(properties) => properties,
            _ => &[],
        }
    }

    /// The property `key` of an object or associative array.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.properties().iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// The text of the property `key`.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Self::as_str)
    }
}

/// Decodes every value in `bytes`. More of them than honest ones take bytes for are refused: the smallest are all work
/// and no content.
pub fn decode_all(bytes: &[u8], limits: &Limits) -> Result<Vec<Value>, Error> {
    let values_left = limits.values_max.min(AMF0_VALUES_MAX + bytes.len() / AMF0_VALUE_BYTES_MIN);
    let mut decoder = Decoder { rest: bytes, values_left, limits };
    let mut values = Vec::new();
    while decoder.rest.has_remaining() {
        values.push(decoder.value(0)?);
    }
    Ok(values)
}

/// Appends the encoding of `values` to `out`.
pub fn encode_all(values: &[Value], out: &mut BytesMut) {
    for value in values {
        encode(value, out);
    }
}

/// Appends the encoding of one value to `out`.
pub fn encode(value: &Value, out: &mut BytesMut) {
    match value {
        Value::Number(number) => {
            out.put_u8(marker::NUMBER);
            out.put_f64(*number);
        }
        Value::Bool(flag) => out.put_slice(&[marker::BOOL, u8::from(*flag)]),
        Value::String(text) => encode_string(text, out),
        Value::Object(properties) => {
            out.put_u8(marker::OBJECT);
            encode_properties(properties, out);
        }
        Value::Null => out.put_u8(marker::NULL),
        Value::Undefined => out.put_u8(marker::UNDEFINED),
        Value::EcmaArray(properties) => {
            out.put_u8(marker::ECMA_ARRAY);
            out.put_u32(u32::try_from(properties.len()).unwrap_or(u32::MAX));
            encode_properties(properties, out);
        }
        Value::StrictArray(values) => {
            out.put_u8(marker::STRICT_ARRAY);
            out.put_u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
            encode_all(values, out);
        }
        Value::Date(unix_ms) => {
            out.put_u8(marker::DATE);
            out.put_f64(*unix_ms);
            out.put_u16(0);
        }
    }
}

fn encode_string(text: &str, out: &mut BytesMut) {
    match u16::try_from(text.len()) {
        Ok(length) => {
            out.put_u8(marker::STRING);
            out.put_u16(length);
        }
        Err(_) => {
            out.put_u8(marker::LONG_STRING);
            out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
    }
    out.put_slice(text.as_bytes());
}

fn encode_properties(properties: &[(String, Value)], out: &mut BytesMut) {
    for (key, value) in properties {
        // A key that a u16 can't measure, or the empty one that ends an object, has no encoding.
        let Ok(length @ 1..) = u16::try_from(key.len()) else { continue };
        out.put_u16(length);
        out.put_slice(key.as_bytes());
        encode(value, out);
    }
    out.put_slice(&[0, 0, marker::OBJECT_END]);
}

struct Decoder<'a> {
    rest: &'a [u8],
    values_left: usize,
    limits: &'a Limits,
}

impl Decoder<'_> {
    /// The recursion ends at `depth_max`.
    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > self.limits.depth_max {
            return Err(Error::TooDeep);
        }
        self.values_left = self.values_left.checked_sub(1).ok_or(Error::TooManyValues)?;
        match self.rest.try_get_u8().map_err(truncated)? {
            marker::NUMBER => Ok(Value::Number(self.rest.try_get_f64().map_err(truncated)?)),
            marker::BOOL => Ok(Value::Bool(self.rest.try_get_u8().map_err(truncated)? != 0)),
            marker::STRING => Ok(Value::String(self.short_string()?)),
            marker::OBJECT => Ok(Value::Object(self.properties(depth)?)),
            marker::NULL => Ok(Value::Null),
            marker::UNDEFINED => Ok(Value::Undefined),
            marker::ECMA_ARRAY => {
                let _count = self.rest.try_get_u32().map_err(truncated)?;
                Ok(Value::EcmaArray(self.properties(depth)?))
            }
            marker::STRICT_ARRAY => {
                let count = self.rest.try_get_u32().map_err(truncated)?;
                (0..count).map(|_| self.value(depth + 1)).collect::<Result<_, _>>().map(Value::StrictArray)
            }
            marker::DATE => {
                let unix_ms = self.rest.try_get_f64().map_err(truncated)?;
                let _time_zone = self.rest.try_get_u16().map_err(truncated)?;
                Ok(Value::Date(unix_ms))
            }
            marker::LONG_STRING => {
                let length = self.rest.try_get_u32().map_err(truncated)?;
                self.string(usize::try_from(length).unwrap_or(usize::MAX)).map(Value::String)
            }
            unknown => Err(Error::Marker(unknown)),
        }
    }

    fn properties(&mut self, depth: usize) -> Result<Vec<(String, Value)>, Error> {
        let mut properties = Vec::new();
        loop {
            if let Some(after) = self.rest.strip_prefix(&[0, 0, marker::OBJECT_END]) {
                self.rest = after;
                return Ok(properties);
            }
            let key = self.short_string()?;
            properties.push((key, self.value(depth + 1)?));
        }
    }

    fn short_string(&mut self) -> Result<String, Error> {
        let length = self.rest.try_get_u16().map_err(truncated)?;
        self.string(usize::from(length))
    }

    fn string(&mut self, length: usize) -> Result<String, Error> {
        if length > self.limits.string_bytes_max {
            return Err(Error::StringTooLong(length));
        }
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated)?;
        self.rest = rest;
        // Encoders put Latin-1 and local code pages into metadata; a stream must not fail for that.
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

fn truncated(_: bytes::TryGetError) -> Error {
    Error::Truncated
}

/// Type markers (§2.1).
mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOL: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0a;
    pub(super) const DATE: u8 = 0x0b;
    pub(super) const LONG_STRING: u8 = 0x0c;
}

/// Fuzz entry: decodes anything; what decodes must survive a round trip.
pub mod fuzz {
    use bytes::BytesMut;

    use super::{Limits, decode_all, encode_all};

    /// Decodes `data`, encodes the result and decodes that.
    pub fn amf0(data: &[u8]) {
        if let Ok(values) = decode_all(data, &Limits::SETUP) {
            let mut encoded = BytesMut::new();
            encode_all(&values, &mut encoded);
            // Lossy UTF-8 may lengthen a string over the limit, so the second pass may fail; it must not panic.
            let _ = decode_all(&encoded, &Limits::SETUP);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(|n| Value::Number(n.into())),
            any::<bool>().prop_map(Value::Bool),
            ".{0,40}".prop_map(Value::String),
            Just(Value::String("x".repeat(66_000))),
            Just(Value::Null),
            Just(Value::Undefined),
            any::<u32>().prop_map(|ms| Value::Date(ms.into())),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let properties = proptest::collection::vec((".{1,12}", inner.clone()), 0..4);
            prop_oneof![
                properties.clone().prop_map(Value::Object),
                properties.prop_map(Value::EcmaArray),
                proptest::collection::vec(inner, 0..4).prop_map(Value::StrictArray),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_survive_a_round_trip(values in proptest::collection::vec(any_value(), 0..4)) {
            let mut encoded = BytesMut::new();
            encode_all(&values, &mut encoded);
            let limits = Limits { depth_max: 16, values_max: 1 << 16, string_bytes_max: 1 << 20 };
            prop_assert_eq!(decode_all(&encoded, &limits).expect("own encoding"), values);
        }

        #[test]
        fn no_bytes_panic(data in proptest::collection::vec(any::<u8>(), 0..512)) {
            fuzz::amf0(&data);
        }
    }

    #[test]
    fn a_wrong_ecma_count_is_ignored() {
        let bytes = b"\x08\xff\xff\xff\xff\x00\x01a\x05\x00\x00\x09";
        assert_eq!(decode_all(bytes, &Limits::SETUP), Ok(vec![Value::EcmaArray(vec![("a".to_owned(), Value::Null)])]));
    }

    #[test]
    fn bounds_are_errors() {
        let decode = |bytes: &[u8]| decode_all(bytes, &Limits::SETUP);
        assert_eq!(decode(&b"\x03\x00\x01a".repeat(100_000)), Err(Error::TooDeep));
        assert_eq!(decode(&[0x05; 257]), Err(Error::TooManyValues));
        assert_eq!(decode(b"\x0a\xff\xff\xff\xff"), Err(Error::Truncated));
        assert_eq!(decode(b"\x0c\xff\xff\xff\xff"), Err(Error::StringTooLong(0xffff_ffff)));
        assert_eq!(decode(b"\x02\x10\x01"), Err(Error::StringTooLong(4097)));
        assert_eq!(decode(b"\x07\x00\x00"), Err(Error::Marker(7)));
    }
}
