//! An event as its author gives it, before the origin stamps it.

use serde_json::{Map, Value, json};

use super::{origin::At, timeline::Stamp};
use crate::{
    clock, limits,
    media::{
        StreamName,
        event::{BadEvent, Event, Kind, Moment, Op},
    },
};

/// A draft that only lacks its stamp.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    fields: Map<String, Value>,
    pub(super) id: String,
    /// The author chose the id, so the event may have been here before.
    pub(super) named: bool,
    pub(super) kind: String,
    pub(super) op: Op,
    pub(super) key: Option<String>,
    pub(super) at: At,
    /// Ids of the events that it stops, whether they have fired or not.
    pub(super) drops: Vec<String>,
}

impl Draft {
    /// Fills in what the type implies and refuses what the contract doesn't allow.
    pub(super) fn new(mut fields: Map<String, Value>, at: Option<At>, source: &StreamName) -> Result<Self, BadEvent> {
        if fields.get("v").is_some_and(|v| *v != json!(1)) {
            return Err(BadEvent::field("/v", "only version 1 is known"));
        }
        let named = fields.contains_key("id");
        fields.entry("id").or_insert_with(|| ulid::Ulid::new().to_string().into());
        let text = |fields: &Map<String, Value>, field: &str| match fields.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(BadEvent::field(format!("/{field}"), "must be a string")),
        };
        let (id, key) = (text(&fields, "id")?.unwrap_or_default(), text(&fields, "key")?);
        let id = canonical_id(&id).ok_or_else(|| BadEvent::field("/id", "must be a ULID"))?;
        fields.insert("id".into(), id.as_str().into());
        let kind = text(&fields, "type")?.ok_or_else(|| BadEvent::field("/type", "is missing"))?;
        if kind == "clock" {
            return Err(BadEvent::field("/type", "is the origin's own"));
        }
        let data = match fields.entry("data").or_insert_with(|| json!({})) {
            Value::Object(data) => data,
            _ => return Err(BadEvent::field("/data", "must be an object")),
        };
        if kind == "cancel" {
            let id = data.get("ref").and_then(Value::as_str).and_then(canonical_id);
            let id = id.ok_or_else(|| BadEvent::field("/data/ref", "must be the id of an event"))?;
            data.insert("ref".into(), id.into());
        }
        let data = data.clone();
        let known = Kind::of(&kind);
        let op = match (fields.get("op"), known) {
            (None, Some(known)) => known.op,
            (None, None) => return Err(BadEvent::field("/op", "is missing")),
            (Some(op), _) => {
                serde_json::from_value(op.clone()).map_err(|_| BadEvent::field("/op", "must be set, delete or fire"))?
            }
        };
        let key = match (key, known) {
            (None, Some(known)) => known.key_of(&data)?,
            (key, _) => key,
        };
        if let Some(known) = known {
            known.check(op, key.as_deref())?;
        }
        let drops = drops(&mut fields, &kind, &data)?;
        fields.insert("v".into(), json!(1));
        fields.insert("op".into(), op.as_str().into());
        fields.insert("source".into(), source.as_str().into());
        if let Some(key) = &key {
            fields.insert("key".into(), key.as_str().into());
        }
        let scope = if source.is_global() { "all" } else { "room" };
        fields.entry("target").or_insert_with(|| json!({"scope": scope}));
        for given in ["kid", "sig", "seq"] {
            fields.remove(given);
        }
        let at = at.unwrap_or_else(|| default_at(&kind, &data));
        let mut draft = Self { fields, id, named, kind, op, key, at, drops };
        draft.check_time(source, &data)?;
        Ok(draft)
    }

    fn check_time(&mut self, source: &StreamName, data: &Map<String, Value>) -> Result<(), BadEvent> {
        let now_ms = clock::unix_ms();
        let ahead_ms = i64::try_from(limits::EVENT_AHEAD_MAX.as_millis()).unwrap_or(i64::MAX);
        match self.at {
            At::PtsUs(_) if source.is_global() => {
                return Err(BadEvent::field("/at/pts_us", "each room has its own timeline: use wall_ms or in_ms"));
            }
            At::Now if source.is_global() || self.kind == "cancel" => self.at = At::Asap,
            At::WallMs(wall_ms) if wall_ms > now_ms.saturating_add(ahead_ms) => {
                return Err(BadEvent::field("/at/wall_ms", "is more than 90 days ahead"));
            }
            _ => {}
        }
        let time = match self.fields.entry("time").or_insert_with(|| json!({})) {
            Value::Object(time) => time,
            _ => return Err(BadEvent::field("/time", "must be an object")),
        };
        if let Some(ends_ms) = ends_ms(&self.kind, data) {
            time.entry("expires_ms").or_insert_with(|| ends_ms.into());
        }
        Ok(())
    }

    /// Refuses what would never apply. Asked of what is not accepted yet: an accepted event runs out, too.
    pub(super) fn check_expiry(&self, now: Moment) -> Result<(), BadEvent> {
        let now_ms = now.wall_ms;
        let fires_ms = match self.at {
            At::WallMs(wall_ms) => wall_ms,
            At::InMs(ms) => now_ms.saturating_add(ms.into()),
            At::PtsUs(pts_us) => now_ms.saturating_add(pts_us.saturating_sub(now.pts_us) / 1000),
            At::Now | At::Asap => now_ms,
        };
        let expires_ms = self.fields.get("time").and_then(|time| time.get("expires_ms")?.as_i64());
        match expires_ms {
            Some(expires_ms) if expires_ms <= now_ms => Err(BadEvent::field("/time/expires_ms", "is past")),
            Some(expires_ms) if expires_ms <= fires_ms => {
                Err(BadEvent::field("/time/expires_ms", "is before the event fires"))
            }
            _ => Ok(()),
        }
    }

    /// The event's object with the stamp on it, ready to be signed.
    pub(super) fn stamped(&self, stamp: Stamp) -> Map<String, Value> {
        let mut fields = self.fields.clone();
        fields.insert("seq".into(), stamp.seq.into());
        if !stamp.supersedes.is_empty() {
            fields.insert("supersedes".into(), stamp.supersedes.into());
        }
        if let (Some(Value::Object(time)), Value::Object(stamped)) = (fields.get_mut("time"), stamp.time) {
            for given in ["mode", "epoch", "pts_us", "wall_ms"] {
                time.remove(given);
            }
            time.extend(stamped);
        }
        fields
    }

    /// What ends by itself what this begins: a sale's closing. It goes into the journal with the start.
    pub(super) fn closing(&self, source: &StreamName) -> Option<Self> {
        let closes_ms = self.fields.get("data")?.get("closes_ms")?.as_i64().filter(|_| self.kind == "sale.start")?;
        let closing = json!({"type": "sale.end", "key": self.key, "data": {"reason": "closed"}});
        Self::new(closing.as_object()?.clone(), Some(At::WallMs(closes_ms)), source).ok()
    }
}

/// Takes out what the draft stops: the stamp says which of it had not fired.
fn drops(fields: &mut Map<String, Value>, kind: &str, data: &Map<String, Value>) -> Result<Vec<String>, BadEvent> {
    let given = fields.remove("supersedes").unwrap_or_else(|| json!([]));
    let given: Vec<String> =
        serde_json::from_value(given).map_err(|_| BadEvent::field("/supersedes", "must be a list of ids"))?;
    if given.len() > Event::SUPERSEDES_MAX {
        return Err(BadEvent::field("/supersedes", "has at most 16 ids"));
    }
    let id = |(index, id): (usize, &String)| {
        canonical_id(id).ok_or_else(|| BadEvent::field(format!("/supersedes/{index}"), "must be a ULID"))
    };
    let drops = given.iter().enumerate().map(id).collect::<Result<_, _>>()?;
    match data.get("ref").and_then(Value::as_str) {
        Some(id) if kind == "cancel" => Ok(vec![id.to_owned()]),
        _ => Ok(drops),
    }
}

/// Ids are compared as text: each has one spelling here.
pub(super) fn canonical_id(id: &str) -> Option<String> {
    Some(id.parse::<ulid::Ulid>().ok()?.to_string())
}

/// A sale opens for everybody at one instant, which its data names.
fn default_at(kind: &str, data: &Map<String, Value>) -> At {
    match data.get("opens_ms").and_then(Value::as_i64) {
        Some(opens_ms) if kind == "sale.start" && opens_ms > clock::unix_ms() => At::WallMs(opens_ms),
        _ => At::Now,
    }
}

/// When the thing is over by what its data says: a sale when it closes, a coupon when it can't be claimed any
/// more (its use is another matter).
fn ends_ms(kind: &str, data: &Map<String, Value>) -> Option<i64> {
    match kind {
        "sale.start" => data.get("closes_ms")?.as_i64(),
        "coupon.offer" => data.get("claim_ms")?.get(1)?.as_i64(),
        _ => None,
    }
}

/// The unstamped event that cancels `id`.
pub(super) fn cancel(id: &str, reason: Option<&str>) -> Map<String, Value> {
    let mut data = Map::new();
    data.insert("ref".into(), id.into());
    if let Some(reason) = reason {
        let cut =
            reason.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= Event::STRING_BYTES_MAX);
        data.insert("reason".into(), reason.get(..cut.last().unwrap_or(0)).unwrap_or_default().into());
    }
    let mut fields = Map::new();
    fields.insert("type".into(), "cancel".into());
    fields.insert("data".into(), data.into());
    fields
}

#[cfg(test)]
mod tests;
