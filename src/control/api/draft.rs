//! An event as a caller wants it, before the origin stamps it: what he may not give, when it shall fire, and
//! the id by which a repeated request is known.

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use ulid::Ulid;

use super::refusal::Refusal;
use crate::{
    hub::At,
    media::{Event, StreamName, event::BadEvent},
    secret::Digest,
};

/// An unstamped event.
#[derive(Debug, PartialEq)]
pub(super) struct Draft {
    /// The event's own fields.
    pub(super) fields: Map<String, Value>,
    /// When it shall fire, if the caller says so.
    pub(super) at: Option<At>,
}

impl Draft {
    /// Splits a request into the event's own fields and `at`, which is not part of it. Only the origin gives the
    /// fields of the stamp; a caller who gives them means something else, and is told so.
    pub(super) fn parse(value: Value, name: &StreamName) -> Result<Self, BadEvent> {
        let Value::Object(mut fields) = value else {
            return Err(BadEvent::field("", "an event is a JSON object"));
        };
        if let Some(field) = ["seq", "kid", "sig"].into_iter().find(|field| fields.contains_key(*field)) {
            return Err(BadEvent::field(format!("/{field}"), "is given by the origin"));
        }
        if fields.get("source").is_some_and(|source| source != name.as_str()) {
            return Err(BadEvent::field("/source", "is not the stream that it was posted to"));
        }
        if let Some(Value::Object(time)) = fields.get("time")
            && let Some(field) =
                ["mode", "epoch", "pts_us", "wall_ms"].into_iter().find(|field| time.contains_key(*field))
        {
            return Err(BadEvent::field(format!("/time/{field}"), "is given by the origin: say when with `at`"));
        }
        let at = fields.remove("at").map(parse_at).transpose()?;
        Ok(Self { fields, at })
    }

    /// Takes the id of an idempotency key.
    pub(super) fn identify(&mut self, key: Option<Ulid>) -> Result<(), BadEvent> {
        let Some(key) = key else { return Ok(()) };
        match self.fields.get("id") {
            None => {
                self.fields.insert("id".into(), key.to_string().into());
                Ok(())
            }
            Some(id) if id.as_str().and_then(|id| id.parse::<Ulid>().ok()) == Some(key) => Ok(()),
            Some(_) => Err(BadEvent::field("/id", "is not that of the Idempotency-Key header")),
        }
    }
}

fn parse_at(at: Value) -> Result<At, BadEvent> {
    let one_of = || BadEvent::field("/at", "must have exactly one of now, in_ms, pts_us, wall_ms");
    let Value::Object(at) = at else { return Err(one_of()) };
    let mut wishes = at.iter();
    let (Some((key, value)), None) = (wishes.next(), wishes.next()) else { return Err(one_of()) };
    let exact = || value.as_i64().filter(|n| n.unsigned_abs() <= Event::INTEGER_MAX.unsigned_abs());
    let at = match key.as_str() {
        "now" => (*value == Value::Bool(true)).then_some(At::Now),
        "in_ms" => value.as_u64().and_then(|ms| u32::try_from(ms).ok()).map(At::InMs),
        "pts_us" => exact().map(At::PtsUs),
        "wall_ms" => exact().map(At::WallMs),
        _ => return Err(one_of()),
    };
    at.ok_or_else(|| BadEvent::field(format!("/at/{key}"), "must be true for now, else an integer in range"))
}

/// The `Idempotency-Key` header: a ULID is the event's id; any other text makes one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The header's value, if there is one.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
        let text = value.to_str().unwrap_or_default();
        let visible = text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() || text.len() > Self::BYTES_MAX || !visible {
            let error = format!("an Idempotency-Key has 1 to {} visible ASCII characters", Self::BYTES_MAX);
            return Err(Refusal::new(StatusCode::BAD_REQUEST, error));
        }
        // The header's draft has it as a quoted string.
        let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        Ok(Some(Self(bare.unwrap_or(text).to_owned())))
    }

    /// The event's id.
    pub(super) fn id(&self, name: &StreamName) -> Ulid {
        self.0.parse().unwrap_or_else(|_| derived_id(&["key", name.as_str(), &self.0]))
    }

    /// The id of one event of a batch.
    pub(super) fn item_id(&self, name: &StreamName, index: usize) -> Ulid {
        derived_id(&["key", name.as_str(), &self.0, &index.to_string()])
    }

    const BYTES_MAX: usize = 255;
}

/// The same id for the same words, which have no line ends.
pub(super) fn derived_id(words: &[&str]) -> Ulid {
    let digest = Digest::of(words.join("\n"));
    let (id, _) = digest.as_bytes().split_first_chunk::<16>().expect("invariant: a SHA-256 has 32 bytes");
    Ulid::from_bytes(*id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn room() -> StreamName {
        "live/room".parse().expect("a name")
    }

    fn pointer(value: Value) -> String {
        match Draft::parse(value, &room()) {
            Err(BadEvent::Field { pointer, .. }) => pointer,
            other => panic!("{other:?}"),
        }
    }

    fn key(text: &str) -> IdempotencyKey {
        let headers = HeaderMap::from_iter([("idempotency-key".parse().expect("a name"), text.parse().expect("text"))]);
        IdempotencyKey::of(&headers).expect("legal").expect("there")
    }

    #[test]
    fn the_stamp_is_the_origins() {
        for (field, value) in [("seq", json!(1)), ("kid", json!("k")), ("sig", json!("s")), ("source", json!("live/b"))]
        {
            assert_eq!(pointer(json!({"type": "gift.send", field: value})), format!("/{field}"));
        }
        for field in ["mode", "epoch", "pts_us", "wall_ms"] {
            assert_eq!(pointer(json!({"time": {field: 1}})), format!("/time/{field}"));
        }
        let own = json!({"source": "live/room", "time": {"duration_ms": 5, "expires_ms": 6, "lead_ms": 7}});
        let draft = Draft::parse(own.clone(), &room()).expect("his to give");
        assert_eq!((Value::Object(draft.fields), draft.at), (own, None));
    }

    #[test]
    fn at_is_one_wish_in_range() {
        let at = |at: Value| Draft::parse(json!({"at": at}), &room()).map(|draft| draft.at);
        assert_eq!(at(json!({"now": true})), Ok(Some(At::Now)));
        assert_eq!(at(json!({"in_ms": 3000})), Ok(Some(At::InMs(3000))));
        assert_eq!(at(json!({"pts_us": -5})), Ok(Some(At::PtsUs(-5))));
        assert_eq!(at(json!({"wall_ms": 1_800_000_000_000_i64})), Ok(Some(At::WallMs(1_800_000_000_000))));
        for bad in [json!(1), json!(null), json!({}), json!({"now": true, "in_ms": 1}), json!({"soon": 1})] {
            assert_eq!(pointer(json!({"at": bad})), "/at");
        }
        let beyond = json!(Event::INTEGER_MAX + 1);
        for (form, bad) in [
            ("now", json!(false)),
            ("in_ms", json!(-1)),
            ("in_ms", json!(1_u64 << 32)),
            ("pts_us", json!(1.5)),
            ("pts_us", beyond.clone()),
            ("wall_ms", beyond),
        ] {
            assert_eq!(pointer(json!({"at": {form: bad}})), format!("/at/{form}"));
        }
    }

    #[test]
    fn a_key_gives_the_id_and_must_not_contradict_it() {
        let ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert_eq!(key(ulid).id(&room()).to_string(), ulid);
        assert_eq!(key(&format!("\"{ulid}\"")).id(&room()).to_string(), ulid);
        let (order, other): (_, StreamName) = (key("order-8841"), "live/other".parse().expect("a name"));
        assert_eq!(order.id(&room()), order.id(&room()));
        assert_ne!(order.id(&room()), order.id(&other));
        assert_ne!(order.item_id(&room(), 0), order.item_id(&room(), 1));

        let draft = |fields: Value| Draft::parse(fields, &room()).expect("legal");
        let mut without = draft(json!({}));
        without.identify(Some(order.id(&room()))).expect("taken");
        assert_eq!(without.fields["id"], order.id(&room()).to_string());
        assert_eq!(draft(json!({"id": ulid})).identify(Some(key(ulid).id(&room()))), Ok(()));
        let contradicted = draft(json!({"id": ulid})).identify(Some(order.id(&room())));
        assert!(matches!(contradicted, Err(BadEvent::Field { pointer, .. }) if pointer == "/id"));
    }

    #[test]
    fn a_key_is_short_visible_text() {
        for bad in [String::new(), "a b".into(), "x".repeat(256)] {
            let headers =
                HeaderMap::from_iter([("idempotency-key".parse().expect("a name"), bad.parse().expect("text"))]);
            assert_eq!(IdempotencyKey::of(&headers).expect_err("refused").status, StatusCode::BAD_REQUEST);
        }
        assert_eq!(IdempotencyKey::of(&HeaderMap::new()).expect("legal"), None);
    }
}
