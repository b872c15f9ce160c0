//! The clock in the stream: `hawker push` says now and then what time it is, so that `hawker watch` can tell
//! how long the way was. Both ends need the same wall clock.

use bytes::{Bytes, BytesMut};

use crate::proto::rtmp::amf0::{self, Value};

/// The data message's name.
const NAME: &str = "onClock";

/// The AMF0 body of a mark.
pub(super) fn encode(wall_ms: i64) -> Bytes {
    let mut body = BytesMut::new();
    // Exact: milliseconds since 1970 stay below 2^53.
    let value = Value::object([("wall_ms", Value::Number(wall_ms as f64))]);
    amf0::encode_all(&[Value::string(NAME), value], &mut body);
    body.freeze()
}

/// The time that a data message of this name and value tells, if it is a mark.
pub(super) fn decode(name: &str, value: &Value) -> Option<i64> {
    let wall_ms = value.get("wall_ms").and_then(Value::as_number)?;
    (name == NAME).then_some(wall_ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_nothing_else_is_one() {
        let values = amf0::decode_all(&encode(1_763_800_000_123), &amf0::Limits::SETUP).expect("AMF0");
        let name = values[0].as_str().expect("a name");
        assert_eq!(decode(name, &values[1]), Some(1_763_800_000_123));
        assert_eq!(decode("onCuePoint", &values[1]), None);
        assert_eq!(decode(name, &Value::Null), None);
    }
}
