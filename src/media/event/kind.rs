//! The contract's table of event types: what each does to the state, under which key, and who gets it again.
//!
//! A type that isn't in it is carried all the same, as its envelope says.

use serde_json::{Map, Value};

use super::{BadEvent, Event, Op};

/// What the contract says of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// What it does to the state.
    pub op: Op,
    /// Under which key.
    pub key: KeyRule,
    /// A one-shot that a joiner still gets while it runs.
    pub replayed: bool,
    /// Sent to viewers twice a second a key at most; they care for the last value only.
    pub coalesced: bool,
}

/// How a type's key is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// One-shots have none.
    None,
    /// Always the same.
    Fixed(&'static str),
    /// A prefix, `:`, and something that tells several apart: by default this field of `data`.
    Of(&'static str, &'static str),
    /// The same with `:tally` behind it.
    Tally(&'static str, &'static str),
}

impl Kind {
    /// True for `noun.verb` in lower-case letters: the form of a type, whether the contract knows it or not.
    pub fn is_noun_verb(kind: &str) -> bool {
        let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
        let words = kind.split_once('.').is_some_and(|(noun, verb)| word(noun) && word(verb));
        words && kind.len() <= Event::TYPE_BYTES_MAX
    }

    /// The rules of a type, if the contract knows it.
    pub fn of(kind: &str) -> Option<Self> {
        use KeyRule::{Fixed, Of, Tally};
        let (op, key) = match kind {
            "card.show" => (Op::Set, Of("card", "slot")),
            "card.hide" => (Op::Delete, Of("card", "slot")),
            "list.set" => (Op::Set, Fixed("list")),
            "sale.start" => (Op::Set, Of("sale", "id")),
            "sale.end" => (Op::Delete, Of("sale", "id")),
            "stock.update" => (Op::Set, Of("stock", "sku")),
            "price.update" => (Op::Set, Of("price", "sku")),
            "coupon.offer" => (Op::Set, Of("coupon", "id")),
            "coupon.end" => (Op::Delete, Of("coupon", "id")),
            "poll.open" => (Op::Set, Of("poll", "id")),
            "poll.tally" => (Op::Set, Tally("poll", "of")),
            "poll.close" => (Op::Delete, Of("poll", "id")),
            "lottery.open" => (Op::Set, Of("lottery", "id")),
            "host.set" => (Op::Set, Of("host", "role")),
            "chapter.start" => (Op::Set, Fixed("chapter")),
            "theme.set" => (Op::Set, Fixed("theme")),
            "vr.set" => (Op::Set, Fixed("vr")),
            "rank.set" => (Op::Set, Fixed("rank")),
            "clock" => (Op::Set, Fixed("clock")),
            "rain.start" | "lottery.draw" | "prompt.show" | "gift.send" | "cancel" => (Op::Fire, KeyRule::None),
            _ => return None,
        };
        let replayed = matches!(kind, "rain.start" | "lottery.draw");
        let coalesced = kind.starts_with("stock.") || kind.ends_with(".tally");
        Some(Self { op, key, replayed, coalesced })
    }

    /// The key of an event of this kind that names none. `None` for one-shots.
    pub fn key_of(&self, data: &Map<String, Value>) -> Result<Option<String>, BadEvent> {
        let text = |field: &str| match data.get(field) {
            Some(Value::String(id)) => Some(id.clone()),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        let needed = |field: &str| {
            text(field)
                .ok_or_else(|| BadEvent::field("/key", format!("is missing, and so is data.{field} to make it of")))
        };
        Ok(match self.key {
            KeyRule::None => None,
            KeyRule::Fixed(key) => Some(key.to_owned()),
            // A page has one main card; its slot says where it is shown.
            KeyRule::Of("card", _) => Some("card:main".to_owned()),
            KeyRule::Of(prefix, field) => Some(format!("{prefix}:{}", needed(field)?)),
            KeyRule::Tally(prefix, field) => Some(format!("{prefix}:{}:tally", needed(field)?)),
        })
    }

    /// Refuses an op or a key that the contract gives to other types.
    pub fn check(&self, op: Op, key: Option<&str>) -> Result<(), BadEvent> {
        if op != self.op {
            let expected = self.op.as_str();
            return Err(BadEvent::field("/op", format!("is always {expected} for this type")));
        }
        let below = |prefix: &str, key: &str| {
            key.strip_prefix(prefix).is_some_and(|rest| rest.len() > 1 && rest.starts_with(':'))
        };
        let (fits, expected) = match (self.key, key) {
            (KeyRule::None, key) => (key.is_none(), "no key".to_owned()),
            (KeyRule::Fixed(fixed), key) => (key == Some(fixed), fixed.to_owned()),
            (KeyRule::Of(prefix, field), key) => {
                (key.is_some_and(|key| below(prefix, key)), format!("{prefix}:<{field}>"))
            }
            (KeyRule::Tally(prefix, field), key) => {
                let fits = key.and_then(|key| key.strip_suffix(":tally")).is_some_and(|key| below(prefix, key));
                (fits, format!("{prefix}:<{field}>:tally"))
            }
        };
        if fits { Ok(()) } else { Err(BadEvent::field("/key", format!("this type has {expected}"))) }
    }
}

impl Op {
    /// As in the envelope.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Fire => "fire",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(kind: &str, data: Value) -> Result<Option<String>, BadEvent> {
        Kind::of(kind).expect("known").key_of(data.as_object().expect("a map"))
    }

    #[test]
    fn keys_are_made_of_the_data() {
        assert_eq!(key("card.show", json!({})), Ok(Some("card:main".into())));
        assert_eq!(key("sale.start", json!({"id": "F1"})), Ok(Some("sale:F1".into())));
        assert_eq!(key("stock.update", json!({"sku": 7})), Ok(Some("stock:7".into())));
        assert_eq!(key("poll.tally", json!({"of": "P"})), Ok(Some("poll:P:tally".into())));
        assert_eq!(key("gift.send", json!({})), Ok(None));
        assert!(matches!(key("sale.start", json!({})), Err(BadEvent::Field { pointer, .. }) if pointer == "/key"));
        assert_eq!(Kind::of("shop.open"), None);
    }

    #[test]
    fn each_type_keeps_to_its_op_and_key() {
        let check = |kind: &str, op, key| Kind::of(kind).expect("known").check(op, key).is_ok();
        assert!(check("card.show", Op::Set, Some("card:left")) && check("clock", Op::Set, Some("clock")));
        assert!(check("poll.tally", Op::Set, Some("poll:P7:tally")) && check("rain.start", Op::Fire, None));
        assert!(!check("card.show", Op::Delete, Some("card:left")) && !check("card.show", Op::Set, Some("sale:1")));
        assert!(!check("card.show", Op::Set, Some("card:")) && !check("card.show", Op::Set, Some("cards:1")));
        assert!(!check("poll.tally", Op::Set, Some("poll:P7")) && !check("rain.start", Op::Fire, Some("x")));
    }
}
