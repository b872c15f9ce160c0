//! The commerce event: one envelope, one canonical form, the same bytes on every carriage.
//!
//! An [`Event`] is only made by [`Event::from_json`], which holds the contract's bounds; its `json` is
//! the canonical form (RFC 8785 restricted to ASCII keys and no floats) and is what every egress sends.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A validated, stamped event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The envelope's typed fields.
    pub head: Head,
    /// The whole event in canonical form, unknown fields included.
    pub json: Bytes,
}

/// The envelope fields that hawker acts on (events.md §1). Fields it doesn't know stay in `Event::json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the envelope: 1.
    pub v: u64,
    /// ULID, the idempotency key.
    pub id: String,
    /// The stream's name, or `org/_global`.
    pub source: String,
    /// Order of truth, strictly increasing per source.
    pub seq: u64,
    /// `noun.verb`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Keyed state or one-shot.
    pub op: Op,
    /// The state key of `set` and `delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// When it fires.
    pub time: Time,
}

/// What an event does to the room's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Sets the key's value.
    Set,
    /// Removes the key.
    Delete,
    /// Happens once; no state.
    Fire,
}

/// The event's time block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// Which clock triggers.
    pub mode: Mode,
    /// The publisher clock's generation that `pts_us` belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The frame's presentation time, microseconds on the stream's timeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pts_us: Option<i64>,
    /// UTC milliseconds: the trigger in wall mode, else the estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<i64>,
}

/// The clock that triggers an event. The two must never be confused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// When the frame with that PTS is shown.
    Pts,
    /// At one UTC instant for everybody.
    Wall,
    /// As soon as it arrives.
    Asap,
}

/// Why an event was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEvent {
    /// Over the hard size bound.
    #[error("an event has at most {} bytes", Event::BYTES_MAX)]
    TooLarge,
    /// Not JSON, or not the envelope.
    #[error("{0}")]
    Malformed(String),
    /// A field breaks the contract.
    #[error("{pointer}: {reason}")]
    Field {
        /// JSON pointer to the field.
        pointer: String,
        /// What the contract wants.
        reason: &'static str,
    },
}

impl BadEvent {
    pub(crate) fn field(pointer: impl Into<String>, reason: &'static str) -> Self {
        Self::Field { pointer: pointer.into(), reason }
    }
}

impl Event {
    /// Hard bound of an event in canonical form.
    pub const BYTES_MAX: usize = 4096;
    /// Deepest nesting inside `data`.
    pub const DEPTH_MAX: usize = 6;
    /// Longest string inside `data`.
    pub const STRING_BYTES_MAX: usize = 512;
    /// Longest `key`.
    pub const KEY_BYTES_MAX: usize = 64;
    /// Largest integer, 2^53 - 1: what a JavaScript reader keeps exact (RFC 7493 §2.2).
    pub const INTEGER_MAX: i64 = (1 << 53) - 1;

    /// Parses and validates a stamped event, from the API or from another node.
    pub fn from_json(json: &[u8]) -> Result<Self, BadEvent> {
        if json.len() > Self::BYTES_MAX {
            return Err(BadEvent::TooLarge);
        }
        let value: Value = serde_json::from_slice(json).map_err(|e| BadEvent::Malformed(e.to_string()))?;
        match value {
            Value::Object(object) => Self::from_object(object),
            _ => Err(BadEvent::field("", "an event is a JSON object")),
        }
    }

    /// Validates a stamped event given as an object.
    pub fn from_object(object: Map<String, Value>) -> Result<Self, BadEvent> {
        let value = Value::Object(object);
        check_value(&value, "", 0)?;
        let head = Head::deserialize(&value).map_err(|e| BadEvent::Malformed(e.to_string()))?;
        check_head(&head)?;
        if let Some(data) = value.get("data")
            && !data.is_object()
        {
            return Err(BadEvent::field("/data", "must be an object"));
        }
        // serde_json's map is sorted by bytes, which is RFC 8785's order for ASCII keys, and its
        // writer escapes exactly what RFC 8785 §3.2.2.2 asks.
        let json = value.to_string();
        if json.len() > Self::BYTES_MAX {
            return Err(BadEvent::TooLarge);
        }
        Ok(Self { head, json: json.into() })
    }

    /// The event's time on the stream's timeline, if it has one.
    pub fn pts_us(&self) -> Option<i64> {
        self.head.time.pts_us
    }
}

fn check_head(head: &Head) -> Result<(), BadEvent> {
    if head.v != 1 {
        return Err(BadEvent::field("/v", "only version 1 is known"));
    }
    if head.id.parse::<ulid::Ulid>().is_err() {
        return Err(BadEvent::field("/id", "must be a ULID"));
    }
    if head.source.parse::<super::StreamName>().is_err() {
        return Err(BadEvent::field("/source", "must be a stream name"));
    }
    check_type(&head.kind)?;
    match (head.op, &head.key) {
        (Op::Set | Op::Delete, None) => Err(BadEvent::field("/key", "set and delete need a key")),
        (_, Some(key)) if key.is_empty() || key.len() > Event::KEY_BYTES_MAX => {
            Err(BadEvent::field("/key", "must have 1 to 64 bytes"))
        }
        _ => Ok(()),
    }
}

/// `noun.verb` in lower-case letters, or one of the contract's two bare words.
fn check_type(kind: &str) -> Result<(), BadEvent> {
    if matches!(kind, "clock" | "cancel") {
        return Ok(());
    }
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase());
    match kind.split_once('.') {
        Some((noun, verb)) if kind.len() <= 64 && word(noun) && word(verb) => Ok(()),
        _ => Err(BadEvent::field("/type", "must be noun.verb in lower-case letters")),
    }
}

/// ASCII keys, no floats, exact integers, bounded strings and depth. The recursion is bounded by
/// `DEPTH_MAX`, and before it by serde_json's own limit of 128.
fn check_value(value: &Value, pointer: &str, depth: usize) -> Result<(), BadEvent> {
    // The envelope and `data` itself are the two levels above the contract's six.
    if depth > Event::DEPTH_MAX + 2 {
        return Err(BadEvent::field(pointer, "is nested deeper than 6 levels"));
    }
    match value {
        Value::Null => Err(BadEvent::field(pointer, "null is not allowed")),
        Value::Bool(_) => Ok(()),
        Value::Number(n) => match n.as_i64() {
            Some(n) if n.unsigned_abs() <= Event::INTEGER_MAX.unsigned_abs() => Ok(()),
            _ => Err(BadEvent::field(pointer, "must be an integer within ±(2^53 - 1)")),
        },
        Value::String(s) if s.len() > Event::STRING_BYTES_MAX => {
            Err(BadEvent::field(pointer, "a string has at most 512 bytes"))
        }
        Value::String(_) => Ok(()),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(i, item)| check_value(item, &format!("{pointer}/{i}"), depth + 1))
        }
        Value::Object(map) => map.iter().try_for_each(|(key, item)| {
            if !key.is_ascii() {
                return Err(BadEvent::field(pointer, "keys are ASCII"));
            }
            check_value(item, &format!("{pointer}/{key}"), depth + 1)
        }),
    }
}

#[cfg(test)]
mod tests;
