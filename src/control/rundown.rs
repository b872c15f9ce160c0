//! The rundown: what a show means to do when, and what it did.
//!
//! One document a stream, kept in the journal. An advance publishes its events first and keeps the document after
//! that. Each event's id comes from the show, the advance and what the event says: so after a crash in between,
//! asking again gives events that the hub knows already, and the document then says when they really fired.

pub(super) mod parse;
mod view;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use ulid::Ulid;
use utoipa::ToSchema;

pub use self::{
    parse::BadRundown,
    view::{Row, State, Totals, View},
};
use crate::{limits, media::Event};

/// What a show means to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RundownPlan)]
pub struct Plan {
    /// In this order.
    #[schema(min_items = 1, max_items = 500)]
    pub items: Vec<Item>,
}

/// One part of the show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RundownItem)]
pub struct Item {
    /// The product that is shown as a card; without it there is no card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1)]
    pub sku: Option<String>,
    /// What the part is called; also the card's name unless `data` has one.
    #[schema(min_length = 1)]
    pub title: String,
    /// The kind of script: hook, pitch, demo, price, close …
    #[schema(pattern = "^[a-z0-9-]{1,32}$", example = "pitch")]
    pub class: String,
    /// How long it shall take.
    #[schema(minimum = 1, maximum = 86400000)]
    pub planned_ms: u32,
    /// The product's number in the shop, for viewers to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Further fields of the card, such as its price.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
}

impl Item {
    /// The events that put it on air, as the `index`th part.
    fn events(&self, index: usize) -> Vec<Map<String, Value>> {
        let chapter = json!({
            "number": index + 1,
            "title": self.title,
            "kind": self.class,
            "skus": self.sku.as_slice(),
            "planned_ms": self.planned_ms,
        });
        let chapter = draft("chapter.start", "set", "chapter", Some(chapter));
        let Some(sku) = &self.sku else { return vec![chapter] };
        let mut card = self.data.clone();
        card.entry("name").or_insert_with(|| self.title.as_str().into());
        card.insert("sku".into(), sku.as_str().into());
        if let Some(number) = self.number {
            card.insert("number".into(), number.into());
        }
        vec![chapter, draft("card.show", "set", CARD, Some(card.into()))]
    }
}

/// A show: its plan, and how far it has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rundown {
    /// New with each show, so that no two shows make the same event id.
    show: Ulid,
    plan: Plan,
    /// Advances so far.
    steps: u64,
    on_air: Option<OnAir>,
    /// What has been on air, by index.
    aired: BTreeMap<usize, Aired>,
    ended_ms: Option<i64>,
    /// The newest idempotency keys.
    keys: VecDeque<Ulid>,
}

/// The item that is on air now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct OnAir {
    index: usize,
    since_ms: i64,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Aired {
    /// Its first start.
    start: Start,
    /// Time on air until it was last left.
    aired_ms: i64,
}

/// When an advance happened: the time of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// UTC.
    pub wall_ms: i64,
    /// On the stream's timeline.
    pub pts_us: Option<i64>,
    /// The seq of its last event.
    pub seq: Option<u64>,
}

impl Start {
    /// When `event` fires, or `now_ms` if it doesn't say.
    pub fn of(event: &Event, now_ms: i64) -> Self {
        let head = &event.head;
        Self { wall_ms: head.time.wall_ms.unwrap_or(now_ms), pts_us: head.time.pts_us, seq: Some(head.seq) }
    }
}

/// What a director asks for. Without a wish, the item after the one on air.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RundownAdvance)]
pub struct Wish {
    /// The item to put on air; one past the last ends the show. Asking for the item that is on air does nothing.
    pub to: Option<usize>,
    /// The item that he believes is on air, or null for none: a click too many is refused instead of obeyed.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<usize>)]
    pub expect: Option<Option<usize>>,
}

/// Tells a null from a field that isn't there.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// An advance that is allowed.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The item to put on air; `None` ends the show.
    to: Option<usize>,
    /// The events to publish, in this order, at one time.
    pub drafts: Vec<Map<String, Value>>,
}

/// Why it can't be done as the show stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// `expect` names another item.
    #[error("another item is on air than was expected: {}", on_air(.0))]
    Elsewhere(Option<usize>),
    /// There is no next item.
    #[error("the show is over: give `to` to go on, or put a new rundown")]
    Over,
    /// There is nothing to end.
    #[error("nothing is on air")]
    NotOnAir,
    /// What is on air can't be deleted.
    #[error("the show is on air: end it first")]
    OnAir,
    /// A new plan changes what has happened.
    #[error("/items/{0}: has been on air in this show, so it must stay as it is")]
    Aired(usize),
    /// `to` is out of range.
    #[error("/to: there are only {0} items")]
    NoSuchItem(usize),
}

impl Rundown {
    /// A show that has not begun.
    pub fn new(plan: Plan) -> Self {
        Self {
            show: Ulid::new(),
            plan,
            steps: 0,
            on_air: None,
            aired: BTreeMap::new(),
            ended_ms: None,
            keys: VecDeque::new(),
        }
    }

    /// The plan that takes the place of this one. While the show is on air it goes on, and what has been on air
    /// stays where it is; before and after, a new show begins.
    pub fn replace(self, plan: Plan) -> Result<Self, Conflict> {
        if self.on_air.is_none() {
            return Ok(Self::new(plan));
        }
        match self.aired.keys().find(|index| plan.items.get(**index) != self.plan.items.get(**index)) {
            Some(index) => Err(Conflict::Aired(*index)),
            None => Ok(Self { plan, ..self }),
        }
    }

    /// True while an item is on air.
    pub fn is_on_air(&self) -> bool {
        self.on_air.is_some()
    }

    /// True if the advance that was asked for with this key has been made.
    pub fn has_done(&self, key: Ulid) -> bool {
        self.keys.contains(&key)
    }

    /// What `wish` comes to; `None` if it is so already. The same every time until [`Rundown::advance`].
    pub fn step(&self, wish: &Wish) -> Result<Option<Step>, Conflict> {
        let current = self.on_air.map(|on_air| on_air.index);
        if wish.expect.is_some_and(|expected| expected != current) {
            return Err(Conflict::Elsewhere(current));
        }
        let to = match (wish.to, current) {
            (Some(to), _) if to > self.plan.items.len() => return Err(Conflict::NoSuchItem(self.plan.items.len())),
            (Some(to), Some(current)) if to == current => return Ok(None),
            (Some(to), _) => to,
            (None, Some(current)) => current + 1,
            (None, None) if self.ended_ms.is_some() => return Err(Conflict::Over),
            (None, None) => 0,
        };
        let next = self.plan.items.get(to);
        if next.is_none() && current.is_none() {
            return Err(Conflict::NotOnAir);
        }
        let mut drafts = Vec::new();
        if current.and_then(|index| self.plan.items.get(index)).is_some_and(|item| item.sku.is_some()) {
            drafts.push(draft("card.hide", "delete", CARD, None));
        }
        drafts.extend(next.map(|item| item.events(to)).unwrap_or_default());
        for draft in &mut drafts {
            let id = self.event_id(draft);
            draft.insert("id".into(), id.to_string().into());
        }
        Ok(Some(Step { to: next.map(|_| to), drafts }))
    }

    /// Notes that `step` was made.
    pub fn advance(&mut self, step: &Step, at: Start, key: Option<Ulid>) {
        if let Some(left) = self.on_air.take()
            && let Some(aired) = self.aired.get_mut(&left.index)
        {
            aired.aired_ms += (at.wall_ms - left.since_ms).max(0);
        }
        self.ended_ms = step.to.is_none().then_some(at.wall_ms);
        if let Some(index) = step.to {
            self.on_air = Some(OnAir { index, since_ms: at.wall_ms });
            self.aired.entry(index).or_insert(Aired { start: at, aired_ms: 0 });
        }
        self.steps += 1;
        self.keys.extend(key);
        if self.keys.len() > limits::RUNDOWN_KEYS_MAX {
            self.keys.pop_front();
        }
    }

    /// The same for the same event of the same advance, and for no other.
    fn event_id(&self, draft: &Map<String, Value>) -> Ulid {
        let mut hash = Sha256::new();
        hash.update(self.show.to_bytes());
        hash.update(self.steps.to_be_bytes());
        hash.update(Value::Object(draft.clone()).to_string());
        let random = hash.finalize().iter().take(10).fold(0, |random: u128, byte| random << 8 | u128::from(*byte));
        Ulid::from_parts(self.show.timestamp_ms(), random)
    }
}

fn draft(kind: &str, op: &str, key: &str, data: Option<Value>) -> Map<String, Value> {
    let fields = [("type", kind), ("op", op), ("key", key)];
    let fields = fields.into_iter().map(|(name, text)| (name.to_owned(), text.into()));
    fields.chain(data.map(|data| ("data".to_owned(), data))).collect()
}

fn on_air(index: &Option<usize>) -> String {
    index.map_or("none".into(), |index| format!("/items/{index}"))
}

const CARD: &str = "card:main";

#[cfg(test)]
mod tests;
