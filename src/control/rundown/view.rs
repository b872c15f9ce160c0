//! Plan and actual side by side.

use serde::Serialize;
use serde_json::{Map, Value};
use ulid::Ulid;
use utoipa::ToSchema;

use super::{Item, Rundown};

/// A rundown as it stands at one moment.
///
/// Times of the show count from its beginning: the moment at which the first item would have started had all gone by
/// the plan since the first advance.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Rundown)]
pub struct View<'a> {
    /// The show's id.
    #[schema(value_type = String)]
    pub show: Ulid,
    /// `planned`, `on_air` or `done`.
    pub state: State,
    /// Index of the item that is on air.
    pub current: Option<usize>,
    /// UTC of the beginning.
    pub began_wall_ms: Option<i64>,
    /// All items together.
    pub totals: Totals,
    /// The items in order.
    pub items: Vec<Row<'a>>,
}

/// Where a show, or an item, has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RundownState)]
pub enum State {
    /// Not yet on air.
    Planned,
    /// Now.
    OnAir,
    /// Over.
    Done,
}

/// All items together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RundownTotals)]
pub struct Totals {
    /// The whole plan.
    pub planned_ms: i64,
    /// Time on air.
    pub actual_ms: i64,
    /// How far behind the plan the show is now; negative if ahead.
    pub drift_ms: Option<i64>,
}

/// One item.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RundownRow)]
pub struct Row<'a> {
    /// As planned.
    pub title: &'a str,
    /// As planned.
    pub class: &'a str,
    /// As planned.
    pub sku: Option<&'a str>,
    /// As planned.
    pub number: Option<u32>,
    /// As planned.
    pub data: &'a Map<String, Value>,
    /// How long it should take.
    pub planned_ms: u32,
    /// Where it has come to.
    pub state: State,
    /// When it should start.
    pub planned_start_ms: i64,
    /// When it first started.
    pub actual_start_ms: Option<i64>,
    /// How long it has been on air.
    pub actual_ms: Option<i64>,
    /// How much later than planned it started; negative if earlier.
    pub drift_ms: Option<i64>,
    /// UTC of its first start.
    pub wall_ms: Option<i64>,
    /// The same on the stream's timeline.
    pub pts_us: Option<i64>,
    /// Seq of the last event of that start.
    pub seq: Option<u64>,
}

impl Rundown {
    /// The rundown at `now_ms` (UTC).
    pub fn view(&self, now_ms: i64) -> View<'_> {
        let began_ms = self.began_ms();
        let mut planned_start_ms = 0;
        let mut items = Vec::with_capacity(self.plan.items.len());
        for (index, item) in self.plan.items.iter().enumerate() {
            items.push(self.row(index, item, planned_start_ms, began_ms, now_ms));
            planned_start_ms += i64::from(item.planned_ms);
        }
        let state = match (self.on_air, self.ended_ms) {
            (Some(_), _) => State::OnAir,
            (None, Some(_)) => State::Done,
            (None, None) => State::Planned,
        };
        let totals = Totals {
            planned_ms: planned_start_ms,
            actual_ms: items.iter().filter_map(|row| row.actual_ms).sum(),
            drift_ms: self.drift_ms(now_ms),
        };
        let current = self.on_air.map(|on_air| on_air.index);
        View { show: self.show, state, current, began_wall_ms: began_ms, totals, items }
    }

    fn row<'a>(
        &self,
        index: usize,
        item: &'a Item,
        planned_start_ms: i64,
        began_ms: Option<i64>,
        now_ms: i64,
    ) -> Row<'a> {
        let aired = self.aired.get(&index);
        let since_ms = self.on_air.filter(|on_air| on_air.index == index).map(|on_air| on_air.since_ms);
        let running_ms = since_ms.map_or(0, |since_ms| (now_ms - since_ms).max(0));
        let actual_start_ms = aired.zip(began_ms).map(|(aired, began_ms)| aired.start.wall_ms - began_ms);
        Row {
            title: &item.title,
            class: &item.class,
            sku: item.sku.as_deref(),
            number: item.number,
            data: &item.data,
            planned_ms: item.planned_ms,
            state: match (since_ms, aired) {
                (Some(_), _) => State::OnAir,
                (None, Some(_)) => State::Done,
                (None, None) => State::Planned,
            },
            planned_start_ms,
            actual_start_ms,
            actual_ms: aired.map(|aired| aired.aired_ms + running_ms),
            drift_ms: actual_start_ms.map(|start_ms| start_ms - planned_start_ms),
            wall_ms: aired.map(|aired| aired.start.wall_ms),
            pts_us: aired.and_then(|aired| aired.start.pts_us),
            seq: aired.and_then(|aired| aired.start.seq),
        }
    }

    fn began_ms(&self) -> Option<i64> {
        let (index, first) = self.aired.iter().min_by_key(|(_, aired)| aired.start.wall_ms)?;
        Some(first.start.wall_ms - self.planned_start_ms(*index))
    }

    /// Late by what the current item started late and has overrun, or the whole show by what it took too long.
    fn drift_ms(&self, now_ms: i64) -> Option<i64> {
        let began_ms = self.began_ms()?;
        match (self.on_air, self.ended_ms) {
            (Some(on_air), _) => {
                let planned_ms = self.plan.items.get(on_air.index).map_or(0, |item| i64::from(item.planned_ms));
                let overrun_ms = (now_ms - on_air.since_ms - planned_ms).max(0);
                Some(on_air.since_ms - began_ms - self.planned_start_ms(on_air.index) + overrun_ms)
            }
            (None, Some(ended_ms)) => Some(ended_ms - began_ms - self.planned_start_ms(self.plan.items.len())),
            (None, None) => None,
        }
    }

    fn planned_start_ms(&self, index: usize) -> i64 {
        self.plan.items.iter().take(index).map(|item| i64::from(item.planned_ms)).sum()
    }
}
