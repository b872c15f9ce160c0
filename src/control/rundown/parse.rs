//! A rundown from JSON or CSV. What is wrong is named by a JSON pointer, or by the line it is in.
//!
//! Whatever gets through here can be published: an advance must not fail before the audience.

use std::{borrow::Cow, collections::HashSet};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json};

use super::{Item, Plan};
use crate::{
    limits,
    media::{Event, StreamName, event::BadEvent, json_pointer},
};

/// Why a rundown was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRundown {
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// A field of the JSON is wrong.
    #[error("{pointer}: {reason}")]
    Field {
        /// JSON pointer to the field.
        pointer: String,
        /// What it should be.
        reason: Cow<'static, str>,
    },
    /// A line of the CSV is wrong.
    #[error("line {line}: {reason}")]
    Line {
        /// Counted from 1, the header included.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads `{"items": […]}` for the stream `name`.
pub(in crate::control) fn json(body: &[u8], name: &StreamName) -> Result<Plan, BadRundown> {
    let plan: Plan = from_json(body)?;
    if plan.items.is_empty() {
        return Err(BadRundown::Field { pointer: "/items".into(), reason: "has no items".into() });
    }
    if plan.items.len() > limits::RUNDOWN_ITEMS_MAX {
        return Err(BadRundown::Field { pointer: "/items".into(), reason: TOO_MANY.into() });
    }
    for (index, item) in plan.items.iter().enumerate() {
        check(item, index, name).map_err(|Wrong { field, reason }| BadRundown::Field {
            pointer: format!("/items/{index}/{field}"),
            reason,
        })?;
    }
    Ok(plan)
}

/// Parses a body, with a pointer to what doesn't fit.
pub(in crate::control) fn from_json<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, BadRundown> {
    // All of it is read first, so that a body cut short is told as that and not as a missing field.
    serde_json::from_slice::<IgnoredAny>(body).map_err(|error| BadRundown::Syntax(error.to_string()))?;
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(body)).map_err(|error| {
        let reason = error.inner().to_string().into();
        BadRundown::Field { pointer: json_pointer::of(error.path()), reason }
    })
}

/// Reads a table with a header row. Columns that aren't an item's own go to its card's data.
pub(in crate::control) fn csv(body: &[u8], name: &StreamName) -> Result<Plan, BadRundown> {
    // Spreadsheets write a byte order mark.
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(body);
    let header = reader.headers().map_err(bad_csv)?.clone();
    let wrong_header = |reason: String| Err(BadRundown::Line { line: 1, reason });
    for column in REQUIRED {
        if !header.iter().any(|name| name == column) {
            return wrong_header(format!("there is no column `{column}`"));
        }
    }
    let mut seen = HashSet::new();
    for column in &header {
        if column.is_empty() || !seen.insert(column) {
            return wrong_header(format!("each column needs a name of its own: `{column}`"));
        }
    }
    let mut items = Vec::new();
    for record in reader.records() {
        let record = record.map_err(bad_csv)?;
        let line = record.position().map_or(0, csv::Position::line);
        if items.len() >= limits::RUNDOWN_ITEMS_MAX {
            return Err(BadRundown::Line { line, reason: TOO_MANY.into() });
        }
        let item = from_record(&header, &record)
            .and_then(|item| check(&item, items.len(), name).map(|()| item))
            .map_err(|wrong| BadRundown::Line { line, reason: wrong.to_string().trim_start_matches("data/").into() })?;
        items.push(item);
    }
    if items.is_empty() {
        return Err(BadRundown::Line { line: 2, reason: "there are no items".into() });
    }
    Ok(Plan { items })
}

fn bad_csv(error: csv::Error) -> BadRundown {
    let line = error.position().map_or(1, csv::Position::line);
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} fields, and the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".into(),
        _ => error.to_string(),
    };
    BadRundown::Line { line, reason }
}

fn from_record(header: &csv::StringRecord, record: &csv::StringRecord) -> Result<Item, Wrong> {
    let mut item =
        Item { sku: None, title: String::new(), class: String::new(), planned_ms: 0, number: None, data: Map::new() };
    for (column, text) in header.iter().zip(record).filter(|(_, text)| !text.is_empty()) {
        match column {
            "sku" => item.sku = Some(text.into()),
            "title" => item.title = text.into(),
            "class" => item.class = text.into(),
            "planned_ms" => item.planned_ms = whole(column, text)?,
            "number" => item.number = Some(whole(column, text)?),
            _ => {
                item.data.insert(column.into(), cell(text));
            }
        }
    }
    Ok(item)
}

fn whole(column: &str, text: &str) -> Result<u32, Wrong> {
    text.parse().map_err(|_| Wrong::new(column, "must be a whole number"))
}

/// An integer if it is written as one; 007 and 1.50 are text.
fn cell(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => number.into(),
        _ => text.into(),
    }
}

fn check(item: &Item, index: usize, name: &StreamName) -> Result<(), Wrong> {
    let fits = |text: &str| (1..=Event::STRING_BYTES_MAX).contains(&text.len());
    if !fits(&item.title) {
        return Err(Wrong::new("title", "must have 1 to 512 bytes"));
    }
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(1..=CLASS_BYTES_MAX).contains(&item.class.len()) || !item.class.bytes().all(word) {
        return Err(Wrong::new("class", "must be 1 to 32 of a-z 0-9 -"));
    }
    if !(1..=limits::RUNDOWN_ITEM_MS_MAX).contains(&item.planned_ms) {
        return Err(Wrong::new("planned_ms", "must be 1 to 86400000 (a day)"));
    }
    match &item.sku {
        Some(sku) if !fits(sku) => return Err(Wrong::new("sku", "must have 1 to 512 bytes")),
        None if !item.data.is_empty() => return Err(Wrong::new("data", "is for a card, and a card needs a sku")),
        _ => {}
    }
    for event in item.events(index) {
        Event::from_object(stamped(event, name)).map_err(|bad| match bad {
            BadEvent::Field { pointer, reason } => Wrong::new(pointer.trim_start_matches('/'), reason.to_string()),
            BadEvent::TooLarge => Wrong::new("data", "makes the card larger than an event may be"),
            BadEvent::Malformed(reason) => Wrong::new("data", reason),
        })?;
    }
    Ok(())
}

/// The event with the longest stamp that it could get.
fn stamped(mut event: Map<String, Value>, name: &StreamName) -> Map<String, Value> {
    let most = Event::INTEGER_MAX;
    let stamp = json!({
        "v": 1,
        "id": ulid::Ulid::nil().to_string(),
        "source": name.as_str(),
        "seq": most,
        "target": {"scope": "room"},
        "time": {"mode": "pts", "epoch": most, "pts_us": most, "wall_ms": most},
        "kid": "k".repeat(limits::EVENT_KID_BYTES_MAX),
        "sig": "s".repeat(SIG_BYTES),
    });
    if let Value::Object(stamp) = stamp {
        event.extend(stamp);
    }
    event
}

/// What is wrong with one item.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {reason}")]
struct Wrong {
    /// Path from the item.
    field: String,
    reason: Cow<'static, str>,
}

impl Wrong {
    fn new(field: impl Into<String>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

const REQUIRED: [&str; 3] = ["title", "class", "planned_ms"];
const TOO_MANY: &str = "a rundown has at most 500 items";
const CLASS_BYTES_MAX: usize = 32;
/// Ed25519 in base64url.
const SIG_BYTES: usize = 86;

#[cfg(test)]
mod tests;
