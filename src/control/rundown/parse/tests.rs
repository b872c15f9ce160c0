use super::*;

fn name() -> StreamName {
    "live/room".parse().expect("a name")
}

fn refused(items: Value) -> (String, String) {
    match json(json!({ "items": items }).to_string().as_bytes(), &name()) {
        Err(BadRundown::Field { pointer, reason }) => (pointer, reason.into_owned()),
        other => panic!("{items}: {other:?}"),
    }
}

fn hook() -> Value {
    json!({"title": "Good evening", "class": "hook", "planned_ms": 60_000})
}

fn coat() -> Value {
    json!({"sku": "SKU-1", "title": "羊毛大衣", "class": "pitch", "planned_ms": 240_000, "number": 17,
        "data": {"price_minor": 89_900, "tags": ["wool", "new"]}})
}

fn with(mut item: Value, field: &str, value: Value) -> Value {
    item.as_object_mut().expect("an object").insert(field.into(), value);
    item
}

#[test]
fn json_and_csv_say_the_same() {
    let coat = with(coat(), "data", json!({"price_minor": 89_900, "size": "007"}));
    let from_json = json(json!({"items": [hook(), coat]}).to_string().as_bytes(), &name()).expect("a rundown");
    let csv_text = "\u{feff}price_minor,class, title ,sku,planned_ms,number,size\r\n\
        ,hook,Good evening,,60000,,\r\n\
        89900,pitch,\"羊毛大衣\",SKU-1,240000,17,007\r\n";
    assert_eq!(csv(csv_text.as_bytes(), &name()), Ok(from_json));
}

#[test]
fn a_wrong_field_is_named_by_its_pointer() {
    let cases = [
        (json!(1), "/items"),
        (json!([]), "/items"),
        (json!(vec![hook(); limits::RUNDOWN_ITEMS_MAX + 1]), "/items"),
        (json!([hook(), 1]), "/items/1"),
        (json!([hook(), {"title": "no class", "planned_ms": 1}]), "/items/1"),
        (json!([with(hook(), "planed_ms", json!(1))]), "/items/0/planed_ms"),
        (json!([with(hook(), "planned_ms", json!("60000"))]), "/items/0/planned_ms"),
        (json!([with(hook(), "planned_ms", json!(-1))]), "/items/0/planned_ms"),
        (json!([with(hook(), "planned_ms", json!(0))]), "/items/0/planned_ms"),
        (json!([with(hook(), "planned_ms", json!(86_400_001))]), "/items/0/planned_ms"),
        (json!([with(hook(), "title", json!(""))]), "/items/0/title"),
        (json!([with(hook(), "title", json!("x".repeat(513)))]), "/items/0/title"),
        (json!([with(hook(), "class", json!("Hook"))]), "/items/0/class"),
        (json!([with(hook(), "class", json!("x".repeat(33)))]), "/items/0/class"),
        (json!([with(coat(), "sku", json!(""))]), "/items/0/sku"),
        (json!([coat(), coat(), with(hook(), "data", json!({"price_minor": 1}))]), "/items/2/data"),
        (json!([with(coat(), "data", json!({"price": 1.5}))]), "/items/0/data/price"),
        (json!([with(coat(), "data", json!({"a": ["x", "y".repeat(513)]}))]), "/items/0/data/a/1"),
        (json!([with(coat(), "data", json!({"a": vec!["x".repeat(500); 8]}))]), "/items/0/data"),
    ];
    for (items, expected) in cases {
        let text = items.to_string();
        let (pointer, reason) = refused(items);
        assert_eq!(pointer, expected, "{}: {reason}", text.get(..200).unwrap_or(&text));
    }
}

#[test]
fn what_is_no_json_is_told_from_what_is_no_rundown() {
    for body in ["", "{", r#"{"items": [{"title": "cut"#, r#"{"items": []} x"#] {
        assert!(matches!(json(body.as_bytes(), &name()), Err(BadRundown::Syntax(_))), "{body}");
    }
    let other = json(br#"{"items": [], "more": 1}"#, &name());
    assert!(matches!(&other, Err(BadRundown::Field { pointer, .. }) if pointer == "/more"), "{other:?}");
}

#[test]
fn a_wrong_line_is_named_by_its_number() {
    let head = "sku,title,class,planned_ms,price_minor";
    let many = "\n,a,hook,1,".repeat(limits::RUNDOWN_ITEMS_MAX + 1);
    let cases = [
        ("", 1, "`title`"),
        ("title,class\na,hook", 1, "`planned_ms`"),
        ("title,class,planned_ms,title\na,hook,1,b", 1, "`title`"),
        ("title,class,planned_ms,\na,hook,1,", 1, "name of its own"),
        (head, 2, "no items"),
        (&format!("{head}\n,a,hook,1,\n,b,hook,soon,"), 3, "planned_ms: must be a whole number"),
        (&format!("{head}\n,\"a\nb\",hook,1,\n,b,hook,0,"), 4, "planned_ms: must be 1 to"),
        (&format!("{head}\n,a,hook,1,9"), 2, "needs a sku"),
        (&format!("{head}\n,a,hook,1,,9"), 2, "has 6 fields, and the header has 5"),
        (&format!("{head}\nS,a,pitch,1,{}", "x".repeat(513)), 2, "price_minor: a string has"),
        (&format!("{head}{many}"), 502, "at most 500"),
    ];
    for (text, at, what) in cases {
        match csv(text.as_bytes(), &name()) {
            Err(BadRundown::Line { line, reason }) => {
                assert_eq!(line, at, "{reason}");
                assert!(reason.contains(what) && !reason.contains('/'), "{what}: {reason}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(matches!(csv(b"title,class,planned_ms\n\xff,hook,1", &name()), Err(BadRundown::Line { line: 2, .. })));
}

#[test]
fn the_largest_item_that_gets_in_still_fits_into_a_signed_event() {
    let sized = |bytes: usize| {
        let mut data = Map::new();
        for index in 0..=bytes / 400 {
            data.insert(format!("field-{index:02}"), "x".repeat(400.min(bytes - index * 400)).into());
        }
        json(json!({"items": [with(coat(), "data", data.into())]}).to_string().as_bytes(), &name())
    };
    let largest = (0..4096).rev().find(|bytes| sized(*bytes).is_ok()).expect("a size that fits");
    let plan = sized(largest).expect("it fits");
    let card = plan.items[0].events(0).pop().expect("a card");
    let bytes = Event::from_object(stamped(card, &name())).expect("an event").json.len();
    assert_eq!(bytes, Event::BYTES_MAX, "not a byte is given away");
}
