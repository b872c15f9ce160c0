//! What an author may leave to us, and what he may not say.

use super::*;

const ID: &str = "01KAMVFYHGM9S346Q3D25VT4F5";

fn source() -> StreamName {
    "live/room".parse().expect("name")
}

fn draft_for(name: &str, fields: Value, at: Option<At>) -> Result<Draft, BadEvent> {
    Draft::new(fields.as_object().expect("a map").clone(), at, &name.parse().expect("name"))
}

fn draft(fields: Value) -> Result<Draft, BadEvent> {
    draft_for("live/room", fields, None)
}

/// The pointer of a refusal.
fn refused(drafted: Result<Draft, BadEvent>) -> String {
    match drafted.and_then(|draft| draft.check_expiry(Moment { pts_us: 0, wall_ms: clock::unix_ms() })) {
        Err(BadEvent::Field { pointer, .. }) => pointer,
        other => panic!("not refused: {other:?}"),
    }
}

fn stamped(draft: &Draft) -> Value {
    let time = json!({"mode": "pts", "epoch": 1, "pts_us": 2000, "wall_ms": 3});
    Value::Object(draft.stamped(Stamp { seq: 7, time, supersedes: Vec::new() }))
}

#[test]
fn each_refusal_points_to_its_field() {
    let now_ms = clock::unix_ms();
    let card = |field: &str, value: Value| draft(json!({ "type": "card.show", field: value }));
    let global = |at: At| draft_for("live/_global", json!({"type": "theme.set"}), Some(at));
    let room = |kind: &str, at: At| draft_for("live/room", json!({ "type": kind }), Some(at));
    let expiring = |expires_ms: i64, at: At| {
        draft_for("live/room", json!({"type": "card.show", "time": {"expires_ms": expires_ms}}), Some(at))
    };
    let cases = [
        (card("v", json!(2)), "/v"),
        (card("v", json!("1")), "/v"),
        (card("id", json!("order-7")), "/id"),
        (card("id", json!(7)), "/id"),
        (card("type", json!(7)), "/type"),
        (draft(json!({})), "/type"),
        (draft(json!({"type": "clock"})), "/type"),
        (draft(json!({"type": "shop.open"})), "/op"),
        (card("op", json!("merge")), "/op"),
        (card("op", json!("delete")), "/op"),
        (card("key", json!("sale:7")), "/key"),
        (card("key", json!("card:")), "/key"),
        (card("key", json!(["card:main"])), "/key"),
        (draft(json!({"type": "sale.start"})), "/key"),
        (draft(json!({"type": "rain.start", "key": "rain"})), "/key"),
        (draft(json!({"type": "poll.tally", "key": "poll:7"})), "/key"),
        (card("data", json!([1])), "/data"),
        (card("time", json!("now")), "/time"),
        (card("supersedes", json!(ID)), "/supersedes"),
        (card("supersedes", json!([ID, "that one"])), "/supersedes/1"),
        (card("supersedes", json!(vec![ID; 17])), "/supersedes"),
        (draft(json!({"type": "cancel"})), "/data/ref"),
        (draft(json!({"type": "cancel", "data": {"ref": "that one"}})), "/data/ref"),
        (expiring(now_ms - 1, At::Now), "/time/expires_ms"),
        (expiring(now_ms + 5000, At::WallMs(now_ms + 5000)), "/time/expires_ms"),
        (expiring(now_ms + 4000, At::InMs(9000)), "/time/expires_ms"),
        (expiring(now_ms + 4000, At::PtsUs(9_000_000)), "/time/expires_ms"),
        (global(At::PtsUs(1)), "/at/pts_us"),
        (room("card.show", At::WallMs(now_ms + 91 * 24 * 3_600_000)), "/at/wall_ms"),
    ];
    for (number, (drafted, pointer)) in cases.into_iter().enumerate() {
        assert_eq!(refused(drafted), pointer, "case {number}");
    }
    assert!(expiring(now_ms + 5000, At::WallMs(now_ms + 4000)).is_ok());
    assert!(room("card.show", At::WallMs(now_ms + 89 * 24 * 3_600_000)).is_ok());
}

#[test]
fn what_the_type_implies_is_filled_in() {
    let draft = draft(json!({"type": "card.show", "data": {"sku": "A"}})).expect("a draft");
    assert!(!draft.named && draft.at == At::Now && draft.drops.is_empty());
    let event = stamped(&draft);
    assert_eq!(
        event,
        json!({"v": 1, "id": draft.id, "source": "live/room", "seq": 7, "type": "card.show", "op": "set",
            "key": "card:main", "target": {"scope": "room"}, "data": {"sku": "A"},
            "time": {"mode": "pts", "epoch": 1, "pts_us": 2000, "wall_ms": 3}})
    );
    let own = draft_for("live/room", json!({"type": "shop.open", "op": "set", "key": "shop"}), None).expect("a draft");
    assert_eq!((own.op, own.key.as_deref()), (Op::Set, Some("shop")), "types that the contract doesn't know");
    let all = draft_for("live/_global", json!({"type": "theme.set"}), None).expect("a draft");
    assert_eq!((all.at, &stamped(&all)["target"]), (At::Asap, &json!({"scope": "all"})));
}

#[test]
fn what_only_the_origin_says_is_not_taken_from_the_author() {
    let fields = json!({
        "id": ID, "type": "gift.send", "seq": 9_000_000, "kid": "mine", "sig": "mine", "source": "live/other", "x": {"y": 1},
        "time": {"mode": "wall", "epoch": 9, "pts_us": 9, "wall_ms": 9, "lead_ms": 40, "duration_ms": 50},
        "supersedes": [ID],
    });
    let draft = draft(fields).expect("a draft");
    let event = stamped(&draft);
    assert!(draft.named && event.get("kid").is_none() && event.get("sig").is_none());
    assert_eq!((&event["seq"], &event["source"]), (&json!(7), &json!("live/room")));
    assert_eq!(
        event["time"],
        json!({"mode": "pts", "epoch": 1, "pts_us": 2000, "wall_ms": 3, "lead_ms": 40, "duration_ms": 50})
    );
    assert_eq!(event["x"], json!({"y": 1}), "fields that nobody knows travel on");
    assert_eq!((draft.drops.as_slice(), event.get("supersedes")), (&[ID.to_owned()][..], None), "it had fired");
}

#[test]
fn a_sale_opens_closes_and_ends_by_what_its_data_says() {
    let now_ms = clock::unix_ms();
    let (opens_ms, closes_ms) = (now_ms + 5000, now_ms + 9000);
    let sale = draft(json!({"type": "sale.start", "data": {"id": "F", "opens_ms": opens_ms, "closes_ms": closes_ms}}));
    let sale = sale.expect("a draft");
    assert_eq!((sale.at, &stamped(&sale)["time"]["expires_ms"]), (At::WallMs(opens_ms), &json!(closes_ms)));
    let closing = sale.closing(&source()).expect("an end");
    let expected = (closing.kind.as_str(), closing.op, closing.key.as_deref(), closing.at);
    assert_eq!(expected, ("sale.end", Op::Delete, Some("sale:F"), At::WallMs(closes_ms)));
    assert_ne!(closing.id, sale.id);

    let open = draft(json!({"type": "sale.start", "data": {"id": "F", "opens_ms": now_ms - 1}})).expect("a draft");
    assert_eq!(open.at, At::Now, "it is open already");
    assert!(open.closing(&source()).is_none(), "nobody said when");
    let closed = draft(json!({"type": "sale.start", "data": {"id": "F", "closes_ms": now_ms - 1}}));
    assert_eq!(refused(closed), "/time/expires_ms");
    let card = draft(json!({"type": "card.show", "data": {"closes_ms": closes_ms}})).expect("a draft");
    assert!(card.closing(&source()).is_none());
}

#[test]
fn a_coupon_is_over_when_it_cannot_be_claimed_any_more() {
    let now_ms = clock::unix_ms();
    let data = json!({"id": "C", "claim_ms": [now_ms, now_ms + 5000], "use_ms": [now_ms, now_ms + 90_000]});
    let expires_ms = |more: Value| {
        let mut fields = json!({"type": "coupon.offer", "data": data});
        fields.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        stamped(&draft(fields).expect("a draft"))["time"]["expires_ms"].clone()
    };
    assert_eq!(expires_ms(json!({})), json!(now_ms + 5000));
    assert_eq!(
        expires_ms(json!({"time": {"expires_ms": now_ms + 1000}})),
        json!(now_ms + 1000),
        "the author knows better"
    );
}

#[test]
fn a_cancel_waits_for_no_frame_and_its_reason_fits() {
    let fields = cancel(ID, Some(&"ü".repeat(300)));
    assert_eq!(fields["data"]["reason"].as_str().expect("text").len(), Event::STRING_BYTES_MAX);
    let draft = Draft::new(fields, None, &source()).expect("a draft");
    assert_eq!(
        (draft.at, draft.op, draft.key.as_ref(), draft.drops.as_slice()),
        (At::Asap, Op::Fire, None, &[ID.into()][..])
    );
    assert!(cancel(ID, None)["data"].get("reason").is_none());
    assert_eq!(cancel(ID, Some(""))["data"]["reason"], "");
}

#[test]
fn an_id_has_one_spelling() {
    let lower = ID.to_lowercase();
    let card = draft(json!({"type": "card.show", "id": lower, "supersedes": [lower]})).expect("a draft");
    assert_eq!((card.id.as_str(), &stamped(&card)["id"], &card.drops[..]), (ID, &json!(ID), &[ID.to_owned()][..]));
    let cancel = Draft::new(cancel(&lower, None), None, &source()).expect("a draft");
    assert_eq!((&stamped(&cancel)["data"]["ref"], &cancel.drops[..]), (&json!(ID), &[ID.to_owned()][..]));
}
