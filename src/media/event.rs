//! The commerce event: one envelope, one canonical form, the same bytes on every carriage.
//!
//! An [`Event`] is only made by [`Event::from_json`], which holds the contract's bounds; its `json` is
//! the canonical form (RFC 8785 restricted to ASCII keys and no floats) and is what every egress sends.

mod kind;

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::kind::{KeyRule, Kind};
use super::{StreamName, json_pointer};

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
    /// Who it is for.
    #[serde(default)]
    pub target: Target,
    /// When it fires.
    pub time: Time,
    /// Ids of pending events that this one drops: they have not fired, and never will.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<String>,
    /// The signing key's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The signature, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sig: Option<String>,
}

/// Who an event is for. Players filter; hawker carries it to everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// How wide it goes.
    pub scope: Scope,
    /// Which group or region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Default for Target {
    fn default() -> Self {
        Self { scope: Scope::Room, id: None }
    }
}

/// How wide an event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everybody in the room.
    Room,
    /// A group of viewers.
    Group,
    /// A region.
    Region,
    /// Every room.
    All,
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
    /// How long it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u32>,
    /// How long before its time players should have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead_ms: Option<u32>,
    /// UTC milliseconds from which on it must be neither applied nor replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
}

/// A moment of a stream on both of its clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// On the stream's timeline.
    pub pts_us: i64,
    /// UTC.
    pub wall_ms: i64,
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
        reason: Cow<'static, str>,
    },
}

impl BadEvent {
    /// A field that breaks the contract.
    pub fn field(pointer: impl Into<String>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Field { pointer: pointer.into(), reason: reason.into() }
    }
}

impl Event {
    /// Hard bound of an event in canonical form.
    pub const BYTES_MAX: usize = 4096;
    /// Deepest nesting inside `data`.
    pub const DEPTH_MAX: usize = 6;
    /// Longest string inside `data`.
    pub const STRING_BYTES_MAX: usize = 512;
    /// Longest `type`.
    pub const TYPE_BYTES_MAX: usize = 64;
    /// Longest `key`.
    pub const KEY_BYTES_MAX: usize = 64;
    /// Above this an event is carried, but somebody should know: the contract's soft bound.
    pub const BYTES_SOFT_MAX: usize = 1000;
    /// Most ids in `supersedes`.
    pub const SUPERSEDES_MAX: usize = 16;
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
        let head = parse_head(&value)?;
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

    /// True once its time has come: from the first frame with PTS >= `pts_us` on, or from `wall_ms` on.
    pub fn has_fired(&self, now: Moment) -> bool {
        self.reached(now, 0)
    }

    /// True once players should have it: `lead_ms` before its time.
    pub fn is_announced(&self, now: Moment) -> bool {
        let wall_lead = if self.head.time.mode == Mode::Wall { Self::WALL_LEAD_MS } else { 0 };
        self.reached(now, self.head.time.lead_ms.unwrap_or(wall_lead).into())
    }

    /// What players of a wall-clock event without `lead_ms` get of it: more than the slowest egress takes.
    const WALL_LEAD_MS: u32 = 10_000;

    fn reached(&self, now: Moment, lead_ms: i64) -> bool {
        let time = &self.head.time;
        match (time.mode, time.pts_us, time.wall_ms) {
            (Mode::Pts, Some(pts_us), _) => pts_us.saturating_sub(lead_ms.saturating_mul(1000)) <= now.pts_us,
            (Mode::Wall, _, Some(wall_ms)) => wall_ms.saturating_sub(lead_ms) <= now.wall_ms,
            _ => true,
        }
    }

    /// True from `expires_ms` on.
    pub fn has_expired(&self, now: Moment) -> bool {
        self.head.time.expires_ms.is_some_and(|expires_ms| expires_ms <= now.wall_ms)
    }

    /// True if it never applies: it has expired when its time comes, by the UTC time that it names itself.
    pub fn expires_before_it_fires(&self) -> bool {
        let time = &self.head.time;
        time.wall_ms.zip(time.expires_ms).is_some_and(|(wall_ms, expires_ms)| expires_ms <= wall_ms)
    }

    /// True while a one-shot that has fired goes on and may be replayed to a joiner.
    pub fn is_running(&self, now: Moment) -> bool {
        let time = &self.head.time;
        let ends_ms = time.wall_ms.unwrap_or(i64::MAX).saturating_add(time.duration_ms.unwrap_or(0).into());
        let replayed = Kind::of(&self.head.kind).is_none_or(|kind| kind.replayed);
        replayed && time.duration_ms.is_some() && ends_ms > now.wall_ms && !self.has_expired(now)
    }

    /// The event that a `cancel` stops. It had fired, unless it stands in `supersedes` too.
    pub fn cancels(&self) -> Option<String> {
        if self.head.kind != "cancel" {
            return None;
        }
        let value: Value = serde_json::from_slice(&self.json).ok()?;
        value.pointer("/data/ref")?.as_str().map(str::to_owned)
    }

    /// True if it is for all rooms of an organisation.
    pub fn is_global(&self) -> bool {
        StreamName::is_global_name(&self.head.source)
    }
}

/// The envelope's typed fields, with a pointer to the first that is missing or of the wrong type.
fn parse_head(value: &Value) -> Result<Head, BadEvent> {
    for field in ["v", "id", "source", "seq", "type", "op", "time"] {
        if value.get(field).is_none() {
            return Err(BadEvent::field(format!("/{field}"), "is missing"));
        }
    }
    serde_path_to_error::deserialize(value)
        .map_err(|error| BadEvent::field(json_pointer::of(error.path()), error.inner().to_string()))
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
    if head.supersedes.len() > Event::SUPERSEDES_MAX {
        return Err(BadEvent::field("/supersedes", "has at most 16 ids"));
    }
    if let Some(index) = head.supersedes.iter().position(|id| id.parse::<ulid::Ulid>().is_err()) {
        return Err(BadEvent::field(format!("/supersedes/{index}"), "must be a ULID"));
    }
    check_time(&head.time)?;
    match (head.op, &head.key) {
        (Op::Set | Op::Delete, None) => Err(BadEvent::field("/key", "set and delete need a key")),
        (_, Some(key)) if key.is_empty() || key.len() > Event::KEY_BYTES_MAX => {
            Err(BadEvent::field("/key", "must have 1 to 64 bytes"))
        }
        // Each takes six bytes in JSON, and all keys together must fit into one FLV string.
        (_, Some(key)) if key.bytes().any(|b| b.is_ascii_control()) => {
            Err(BadEvent::field("/key", "must not have control characters"))
        }
        _ => Ok(()),
    }
}

fn check_time(time: &Time) -> Result<(), BadEvent> {
    match time.mode {
        Mode::Pts if time.pts_us.is_none() => Err(BadEvent::field("/time/pts_us", "is missing")),
        Mode::Wall if time.wall_ms.is_none() => Err(BadEvent::field("/time/wall_ms", "is missing")),
        _ => Ok(()),
    }
}

/// `noun.verb`, or one of the contract's two bare words.
fn check_type(kind: &str) -> Result<(), BadEvent> {
    if matches!(kind, "clock" | "cancel") || Kind::is_noun_verb(kind) {
        return Ok(());
    }
    Err(BadEvent::field("/type", "must be noun.verb in lower-case letters"))
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
            check_value(item, &json_pointer::below(pointer, key), depth + 1)
        }),
    }
}

#[cfg(test)]
mod tests;
