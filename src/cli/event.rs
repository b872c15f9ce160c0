//! `hawker event`: builds an event from words and posts it to the API (events.md §1, §2).

use serde_json::{Map, Value, json};

use super::{Outcome, api};
use crate::media::{
    StreamName,
    event::{BadEvent, Kind, Op},
};

/// Arguments of `hawker event`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stream: live/room.
    name: StreamName,
    /// The event's type: card.show, sale.start, prompt.show …
    #[arg(value_name = "TYPE")]
    kind: String,
    /// The event's data. Numbers, true, false and JSON are taken as such; quote to keep a string: sku='"1"'.
    #[arg(value_name = "KEY=VALUE", value_parser = parse_pair)]
    data: Vec<(String, Value)>,
    /// set, delete or fire [default: by the type].
    #[arg(long, value_parser = parse_op)]
    op: Option<Op>,
    /// The state's key, such as card:main [default: by the type].
    #[arg(long)]
    key: Option<String>,
    /// Fire this long from now [default: by the type, else at the next frame].
    #[arg(long, value_name = "N", group = "at")]
    in_ms: Option<u64>,
    /// Fire at the frame with this presentation time.
    #[arg(long, value_name = "N", group = "at")]
    pts_us: Option<i64>,
    /// Fire at this UTC millisecond, for everybody.
    #[arg(long, value_name = "N", group = "at")]
    wall_ms: Option<i64>,
    /// The event's id, by which the server knows it when it is sent again.
    #[arg(long, value_name = "ULID")]
    id: Option<ulid::Ulid>,
    #[command(flatten)]
    api: api::Access,
}

/// Why an event was not sent.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}; or give --key")]
    NoKey(#[from] BadEvent),
    #[error("a set or delete needs a key: give --key")]
    SetWithoutKey,
}

/// Posts the event and prints it as the server stamped it.
pub(super) async fn run(args: Args) -> Outcome {
    let body = body(&args)?;
    let api = args.api.open()?;
    let event = api.send(api.post(&format!("{}/events", api::stream(&args.name))).json(&body)).await?;
    println!("{}", event.trim_end());
    Ok(())
}

/// The request's body.
fn body(args: &Args) -> Result<Value, Failed> {
    let data: Map<String, Value> = args.data.iter().cloned().collect();
    let (op, key) = match (&args.op, &args.key) {
        (Some(op), key) => (*op, key.clone()),
        (None, Some(key)) => (Kind::of(&args.kind).map_or(Op::Set, |kind| kind.op), Some(key.clone())),
        (None, None) => by_type(&args.kind, &data)?,
    };
    if op != Op::Fire && key.is_none() {
        return Err(Failed::SetWithoutKey);
    }
    let mut body = Map::from_iter([
        ("type".to_owned(), json!(args.kind)),
        ("op".to_owned(), json!(op)),
        ("data".to_owned(), data.into()),
    ]);
    let at = [
        args.in_ms.map(|ms| json!({ "in_ms": ms })),
        args.pts_us.map(|us| json!({ "pts_us": us })),
        args.wall_ms.map(|ms| json!({ "wall_ms": ms })),
    ];
    let optional = [
        ("key", key.map(Value::from)),
        ("id", args.id.map(|id| id.to_string().into())),
        ("at", at.into_iter().flatten().next()),
    ];
    body.extend(optional.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))));
    Ok(body.into())
}

/// What the contract says of a type; a type it doesn't know happens once.
fn by_type(kind: &str, data: &Map<String, Value>) -> Result<(Op, Option<String>), BadEvent> {
    match Kind::of(kind) {
        Some(known) => Ok((known.op, known.key_of(data)?)),
        None => Ok((Op::Fire, None)),
    }
}

fn parse_pair(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    // A number that doesn't print as it was written (007, 1.50) is a name made of digits.
    let parsed = serde_json::from_str::<Value>(value).ok().filter(|v| match v {
        Value::Number(n) => n.is_i64() && n.to_string() == value,
        Value::Null => false,
        _ => true,
    });
    Ok((key.to_owned(), parsed.unwrap_or_else(|| value.into())))
}

fn parse_op(text: &str) -> Result<Op, String> {
    serde_json::from_value(text.into()).map_err(|_| "is set, delete or fire".into())
}

#[cfg(test)]
mod tests;
