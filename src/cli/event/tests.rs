use clap::Parser;

use super::*;
use crate::cli::sentence;
use crate::media::Event;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn body_of(line: &str) -> Result<Value, String> {
    let line = Line::try_parse_from(std::iter::once("event").chain(line.split(' '))).map_err(|e| e.to_string())?;
    body(&line.args).map_err(|e| e.to_string())
}

#[test]
fn a_card_needs_no_key() {
    assert_eq!(
        body_of("live/room card.show sku=SKU-1 price_minor=9900 title=Tea"),
        Ok(json!({
            "type": "card.show", "op": "set", "key": "card:main",
            "data": {"sku": "SKU-1", "price_minor": 9900, "title": "Tea"},
        }))
    );
    let hide = body_of("live/room card.hide --in-ms 3000").expect("built");
    assert_eq!((&hide["op"], &hide["at"]), (&json!("delete"), &json!({"in_ms": 3000})));
    let again = body_of("live/room card.hide --wall-ms 5 --id 01JD2M6W4N8R3T5V7X9Z1B3D5F").expect("built");
    assert_eq!((&again["at"], &again["id"]), (&json!({"wall_ms": 5}), &json!("01JD2M6W4N8R3T5V7X9Z1B3D5F")));
}

#[test]
fn keys_come_from_the_data_or_the_command_line() {
    let key = |line: &str| body_of(line).map(|body| body["key"].clone());
    assert_eq!(key("a sale.start id=7"), Ok(json!("sale:7")));
    assert_eq!(key("a poll.tally of=x"), Ok(json!("poll:x:tally")));
    assert_eq!(key("a card.show --key card:left"), Ok(json!("card:left")));
    assert_eq!(key("a sale.start"), Err("/key: is missing, and so is data.id to make it of; or give --key".into()));
    let delete = body_of("a card.hide --key card:left").expect("built");
    assert_eq!(delete["op"], "delete", "the type's own op stays");
    let made_up = body_of("a shelf.move --op set").expect_err("no key");
    assert_eq!(made_up, "a set or delete needs a key: give --key");
    assert_eq!(body_of("a shelf.move").expect("built")["op"], "fire");
}

#[test]
fn values_keep_their_type() {
    for (pair, value) in [
        ("n=12", json!(12)),
        ("n=-3", json!(-3)),
        ("n=007", json!("007")),
        ("n=1.50", json!("1.50")),
        ("n=true", json!(true)),
        ("n=null", json!("null")),
        ("n=\"1\"", json!("1")),
        ("n=[1,\"a\"]", json!([1, "a"])),
        ("n={\"a\":1}", json!({"a": 1})),
        ("n=a=b", json!("a=b")),
        ("n=", json!("")),
    ] {
        assert_eq!(parse_pair(pair), Ok(("n".to_owned(), value)), "{pair}");
    }
    assert!(parse_pair("n").is_err());
}

#[test]
fn what_makes_no_sense_is_refused_at_once() {
    for line in
        ["live//room card.show", "a card.show x", "a card.show --in-ms 1 --pts-us 2", "a b.c --op put", "a b.c --id 1"]
    {
        assert!(body_of(line).is_err(), "{line}");
    }
}

#[test]
fn a_stamped_body_satisfies_the_contract() {
    for line in ["org/app/room card.show sku=1", "a rain.start duration_ms=5000", "a stock.update sku=a-1 left=3"] {
        let mut event = body_of(line).expect("built");
        let event = event.as_object_mut().expect("an object");
        event.remove("at");
        for (key, value) in [
            ("v", json!(1)),
            ("id", json!("01JD2M6W4N8R3T5V7X9Z1B3D5F")),
            ("source", json!("org/app/room")),
            ("seq", json!(1)),
            ("time", json!({"mode": "pts", "epoch": 0, "pts_us": 0})),
        ] {
            event.insert(key.into(), value);
        }
        Event::from_object(event.clone()).expect(line);
    }
}

#[test]
fn errors_of_the_server_are_quoted_without_control_characters() {
    assert_eq!(sentence("{\"message\":\"no such stream\"}"), ": no such stream");
    assert_eq!(sentence("oops\u{1b}[2J\n"), ": oops[2J");
    assert_eq!(sentence(""), "");
}
