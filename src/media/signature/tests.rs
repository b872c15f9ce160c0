//! The signed vectors both ways, what a forger may try, and the key files.

use super::*;

const SEED_TEXT: &str = "hawker-test-key-1";

fn signer() -> Signer {
    let seed = digest::digest(&digest::SHA256, SEED_TEXT.as_bytes());
    Signer::from_seed(seed.as_ref().try_into().expect("32 bytes")).with_kid("test-1")
}

fn keys() -> Keys {
    signer().public().into()
}

struct Vectors {
    public: String,
    /// Each event as an object and in canonical form.
    events: Vec<(Map<String, Value>, String)>,
}

fn vectors() -> Vectors {
    let file: Value = serde_json::from_str(include_str!("../../../tests/data/event_vectors.json")).expect("json");
    let list = |name: &str| file[name].as_array().expect("array").clone();
    let events: Vec<_> = list("events")
        .into_iter()
        .zip(list("canonical"))
        .map(|(event, text)| (event.as_object().expect("object").clone(), text.as_str().expect("text").into()))
        .collect();
    assert_eq!(events.len(), 14);
    Vectors { public: file["public"].as_str().expect("text").into(), events }
}

fn with(event: &Map<String, Value>, member: &str, value: impl Into<Value>) -> Event {
    let mut object = event.clone();
    object.insert(member.into(), value.into());
    Event::from_object(object).expect("event")
}

fn without(event: &Map<String, Value>, member: &str) -> Event {
    let mut object = event.clone();
    object.remove(member);
    Event::from_object(object).expect("event")
}

fn sig(event: &Map<String, Value>) -> String {
    event["sig"].as_str().expect("text").into()
}

#[test]
fn the_vectors_verify_and_are_what_we_would_sign() {
    let vectors = vectors();
    assert_eq!(BASE64URL.encode(signer().public().bytes), vectors.public);
    for (event, canonical) in vectors.events {
        let received = Event::from_json(canonical.as_bytes()).expect("event");
        assert_eq!(keys().verify(&received), Ok(()), "{canonical}");
        let mut draft = event;
        draft.remove("sig");
        draft.remove("kid");
        assert_eq!(signer().sign(draft).expect("event").json, canonical);
    }
}

#[test]
fn a_signature_that_came_with_the_draft_is_not_kept() {
    let (event, canonical) = vectors().events.swap_remove(0);
    let mut draft = event;
    draft.insert("sig".into(), "mine".into());
    draft.insert("kid".into(), "someone else".into());
    assert_eq!(signer().sign(draft).expect("event").json, canonical);
}

#[test]
fn the_bound_counts_the_signature() {
    let (mut event, _) = vectors().events.swap_remove(0);
    event.remove("sig");
    let len = |event: &Map<String, Value>| Value::Object(event.clone()).to_string().len();
    let mut list = vec!["x".repeat(400); 9];
    event.insert("data".into(), json!({ "fill": list }));
    list.push("x".repeat(Event::BYTES_MAX - len(&event) - 3));
    event.insert("data".into(), json!({ "fill": list }));
    assert_eq!(len(&event), Event::BYTES_MAX);
    Event::from_object(event.clone()).expect("fits without signature");
    assert_eq!(signer().sign(event), Err(BadEvent::TooLarge));
}

#[test]
fn any_changed_byte_is_noticed() {
    let (_, canonical) = vectors().events.swap_remove(0);
    let mut still_events = 0;
    for at in 0..canonical.len() {
        for flip in [0x01, 0x02, 0x20] {
            let mut bytes = canonical.clone().into_bytes();
            bytes[at] ^= flip;
            // Most flips in the values leave a well-formed event.
            if let Ok(event) = Event::from_json(&bytes) {
                still_events += 1;
                assert!(keys().verify(&event).is_err(), "byte {at} ^ {flip:#x}: {:?}", event.json);
            }
        }
    }
    assert!(still_events > canonical.len() / 2, "{still_events} of {}", canonical.len());
}

#[test]
fn every_forgery_has_its_name() {
    let events = vectors().events;
    let (event, (other, _)) = (&events[0].0, &events[1]);
    let verify = |event: Event| keys().verify(&event);
    assert_eq!(verify(without(event, "sig")), Err(BadSignature::Unsigned));
    assert_eq!(verify(without(event, "kid")), Err(BadSignature::Unsigned));
    assert_eq!(verify(with(event, "kid", "test-2")), Err(BadSignature::UnknownKey));
    assert_eq!(verify(with(event, "sig", sig(other))), Err(BadSignature::Forged));
    assert_eq!(verify(with(event, "seq", 9_999)), Err(BadSignature::Forged));
    assert_eq!(verify(with(event, "extra", "added")), Err(BadSignature::Forged));
    assert_eq!(verify(without(event, "data")), Err(BadSignature::Forged));
    for sig in [json!(""), json!(sig(event)[1..]), json!(format!("{}AA", sig(event)))] {
        assert_eq!(verify(with(event, "sig", sig)), Err(BadSignature::Malformed));
    }

    let namesake = Keys::from(Signer::from_seed(&[7; 32]).with_kid("test-1").public());
    let event = Event::from_object(event.clone()).expect("event");
    assert_eq!(namesake.verify(&event), Err(BadSignature::Forged));
    assert_eq!(Keys::default().verify(&event), Err(BadSignature::UnknownKey));
}

/// One event has one text on every carriage, so there may be only one way to write its signature.
#[test]
fn a_signature_can_be_written_in_one_way() {
    let (event, _) = vectors().events.swap_remove(0);
    let sig = sig(&event);
    let last = sig.chars().next_back().expect("text");
    // 64 bytes leave four bits of the last character unused.
    let stray = char::from(u8::try_from(last).expect("ascii") + 1);
    for rewritten in [
        format!("{}{stray}", &sig[..sig.len() - 1]),
        format!("{sig}=="),
        format!("{sig}\n"),
        sig.replace('-', "+"),
        sig.replace('_', "/"),
    ] {
        if rewritten != sig {
            assert_eq!(keys().verify(&with(&event, "sig", rewritten)), Err(BadSignature::Malformed));
        }
    }
    // S + L satisfies the same equation; RFC 8032 §5.1.7 has it refused.
    let mut bytes: [u8; 64] = decode(&sig).expect("64 bytes");
    let order = *b"\xed\xd3\xf5\x5c\x1a\x63\x12\x58\xd6\x9c\xf7\xa2\xde\xf9\xde\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10";
    let mut carry = 0;
    for (digit, add) in bytes[32..].iter_mut().zip(order) {
        carry += u16::from(*digit) + u16::from(add);
        *digit = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    assert_eq!(keys().verify(&with(&event, "sig", BASE64URL.encode(bytes))), Err(BadSignature::Forged));
}

/// What looks like a signature inside a value is a value.
#[test]
fn a_nested_or_quoted_sig_is_only_data() {
    let (mut event, _) = vectors().events.swap_remove(0);
    let real = sig(&event);
    let trick = json!({"sig": real, "note": format!("\",\"sig\":\"{real}\"}}"), "kid": "test-1"});
    let signed = signer().sign({
        event.insert("data".into(), trick);
        event.clone()
    });
    assert_eq!(keys().verify(&signed.expect("event")), Ok(()));
    event.remove("sig");
    assert_eq!(keys().verify(&Event::from_object(event).expect("event")), Err(BadSignature::Unsigned));
}

#[test]
fn keys_are_named_by_thumbprint() {
    // RFC 8037 §A.1 and §A.3.
    let rfc = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let signer = Signer::from_private_jwk(rfc.as_bytes()).expect("key");
    assert_eq!(signer.kid(), "kPrK_qmxVWaYVA9w");
    assert_eq!(BASE64URL.encode(signer.pair.sign(b"x")).len(), 86);
    assert_eq!(format!("{signer:?}"), "Signer(kPrK_qmxVWaYVA9w)");

    let again = Signer::from_private_jwk(signer.to_private_jwk().as_bytes()).expect("key");
    assert_eq!(again.public(), signer.public());
    let jwks = Keys::from(signer.public()).to_jwks();
    assert_eq!(
        serde_json::from_str::<Value>(&jwks).expect("json"),
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "kPrK_qmxVWaYVA9w",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]})
    );
    assert_eq!(Keys::from_jwks(jwks.as_bytes()), Ok(signer.public().into()));
}

#[test]
fn key_files_are_read_with_care() {
    let jwk = |x: &str, more: Value| {
        let mut jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x});
        jwk.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        jwk
    };
    let read = |keys: Vec<Value>| Keys::from_jwks(json!({ "keys": keys }).to_string().as_bytes());
    let [a, b] = [1, 2].map(|seed| BASE64URL.encode(Signer::from_seed(&[seed; 32]).public().bytes));
    let rsa = json!({"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB"});

    assert_eq!(read(vec![rsa.clone(), jwk(&a, json!({}))]).expect("one").0.len(), 1, "others are passed over");
    assert_eq!(read(vec![jwk(&a, json!({})), jwk(&a, json!({}))]).expect("one").0.len(), 1);
    let refused = [
        (read(vec![]), BadKeys::None),
        (read(vec![rsa]), BadKeys::None),
        (read(vec![jwk(&a, json!({"use": "enc"}))]), BadKeys::None),
        (read(vec![jwk(&a, json!({"alg": "ECDH-ES"}))]), BadKeys::None),
        (read(vec![jwk(&a[1..], json!({}))]), BadKeys::Member("x")),
        (read(vec![jwk(&a, json!({"kid": ""}))]), BadKeys::Member("kid")),
        (read(vec![jwk(&a, json!({"kid": "k".repeat(65)}))]), BadKeys::Member("kid")),
        (read(vec![jwk(&a, json!({})), jwk(&b, json!({}))]), BadKeys::Ambiguous("k".into())),
        (read((0..65).map(|i| jwk(&a, json!({"kid": i.to_string()}))).collect()), BadKeys::TooMany),
    ];
    for (result, error) in refused {
        assert_eq!(result, Err(error));
    }
    assert_eq!(Keys::from_jwks(b"{}"), Err(BadKeys::Malformed { line: 1, column: 2 }));
    let misplaced = Signer::from_private_jwk(b"\"a secret\"").expect_err("no JWK").to_string();
    assert!(!misplaced.contains("secret"), "{misplaced}");

    let d = BASE64URL.encode([1; 32]);
    let private = |jwk: Value| Signer::from_private_jwk(jwk.to_string().as_bytes()).map(|signer| signer.kid);
    assert_eq!(private(jwk(&a, json!({ "d": d }))), Ok("k".into()));
    assert_eq!(private(jwk(&b, json!({ "d": d }))), Err(BadKeys::Member("x")), "another key's other half");
    assert_eq!(private(jwk(&a, json!({}))), Err(BadKeys::Member("d")));
}
