use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const NOW: u64 = 1_790_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Key pairs in files, and the server's view of them: `kid` is the algorithm's name.
struct Issuer {
    dir: TempDir,
    keys: JwtKeys,
}

const ALGORITHMS: [(JwtAlgorithm, &str); 4] = [
    (JwtAlgorithm::EdDsa, "EdDSA"),
    (JwtAlgorithm::Es256, "ES256"),
    (JwtAlgorithm::Rs256, "RS256"),
    (JwtAlgorithm::Hs256, "HS256"),
];

impl Issuer {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        for (algorithm, kid) in [
            (&rcgen::PKCS_ED25519, "EdDSA"),
            (&rcgen::PKCS_ECDSA_P256_SHA256, "ES256"),
            (&rcgen::PKCS_RSA_SHA256, "RS256"),
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm).expect("a key pair");
            write(&format!("{kid}.private"), &pair.serialize_pem());
            write(&format!("{kid}.public"), &pair.public_key_pem());
        }
        write("HS256.private", SECRET);
        write("HS256.public", &format!("{SECRET}\n"));
        let config = ALGORITHMS.map(|(algorithm, kid)| config::JwtKey {
            kid: kid.into(),
            algorithm,
            key_file: dir.path().join(format!("{kid}.public")),
            audience: "hawker".into(),
            prefix: "live".into(),
            actions: vec![SignedAction::Play],
        });
        let keys = JwtKeys::load(&config).expect("keys");
        Self { dir, keys }
    }

    fn sign(&self, algorithm: JwtAlgorithm, kid: &str, claims: &Claims) -> String {
        let key_file = &self.dir.path().join(format!("{kid}.private"));
        sign(&Signing { algorithm, key_file, kid, audience: "hawker", claims }).expect("signed")
    }

    fn check(&self, token: &str) -> Result<Arc<Verified>, BadJwt> {
        self.keys.check(token, &"live/a".parse().expect("a name"), SignedAction::Play, NOW)
    }
}

fn claims() -> Claims {
    Claims {
        exp: NOW + 60,
        nbf: 0,
        sub: "viewer-1".into(),
        jti: None,
        prefix: "live/a".into(),
        action: SignedAction::Play,
        events: false,
        priority: 0,
    }
}

/// A token of any header and claims, signed with the shared secret.
fn raw(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn good_header() -> Value {
    json!({"alg": "HS256", "typ": "JWT", "kid": "HS256"})
}

fn good_claims() -> Value {
    json!({"exp": NOW + 60, "aud": "hawker", "sub": "viewer-1", "prefix": "live/a", "action": "play"})
}

fn with(mut object: Value, key: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(object.as_object_mut().expect("an object").remove(key)),
        value => object[key] = value,
    }
    object
}

#[test]
fn every_algorithm_signs_and_is_checked() {
    let issuer = Issuer::new();
    for (algorithm, kid) in ALGORITHMS {
        let token = issuer.sign(algorithm, kid, &claims());
        assert_eq!(issuer.check(&token).map(|found| found.claims.clone()), Ok(claims()), "{kid}");
        assert_eq!(claimed_kid(&token).as_deref(), Some(kid));
        // Another byte of what is signed.
        let (head, rest) = token.split_once('.').expect("three parts");
        let swapped = if rest.as_bytes()[10] == b'A' { "B" } else { "A" };
        let changed = format!("{head}.{}{swapped}{}", &rest[..10], &rest[11..]);
        assert!(issuer.check(&changed).is_err(), "{kid}");
    }
}

#[test]
fn what_is_not_as_it_must_be_opens_nothing() {
    let issuer = Issuer::new();
    assert!(issuer.check(&raw(&good_header(), &good_claims())).is_ok());
    let as_text = json!((NOW + 60).to_string());
    for (header, claims, why) in [
        (with(good_header(), "kid", json!("nobody")), good_claims(), "an unknown kid"),
        (with(good_header(), "kid", Value::Null), good_claims(), "no kid"),
        (with(good_header(), "alg", json!("none")), good_claims(), "no algorithm"),
        (with(good_header(), "alg", json!("HS512")), good_claims(), "another algorithm"),
        (with(good_header(), "crit", json!(["b64"])), good_claims(), "something critical"),
        (with(good_header(), "kid", json!("EdDSA")), good_claims(), "another's key"),
        (good_header(), with(good_claims(), "exp", Value::Null), "no exp"),
        (good_header(), with(good_claims(), "exp", as_text), "exp as text"),
        (good_header(), with(good_claims(), "exp", json!(1.79e9)), "exp as a fraction"),
        (good_header(), with(good_claims(), "exp", json!(-1)), "exp before all time"),
        (good_header(), with(good_claims(), "exp", json!(NOW)), "expired"),
        (good_header(), with(good_claims(), "nbf", json!(NOW + 60)), "not yet"),
        (good_header(), with(good_claims(), "nbf", json!("0")), "nbf as text"),
        (good_header(), with(good_claims(), "aud", Value::Null), "no aud"),
        (good_header(), with(good_claims(), "aud", json!("other")), "another's aud"),
        (good_header(), with(good_claims(), "aud", json!(["other"])), "others' aud"),
        (good_header(), with(good_claims(), "sub", Value::Null), "no sub"),
        (good_header(), with(good_claims(), "sub", json!("")), "an empty sub"),
        (good_header(), with(good_claims(), "sub", json!("x".repeat(257))), "a long sub"),
        (good_header(), with(good_claims(), "prefix", Value::Null), "no prefix"),
        (good_header(), with(good_claims(), "prefix", json!("live/ab")), "another stream"),
        (good_header(), with(good_claims(), "prefix", json!("liv")), "part of a segment"),
        (good_header(), with(good_claims(), "prefix", json!("live/a/b")), "a stream below"),
        (good_header(), with(good_claims(), "action", Value::Null), "no action"),
        (good_header(), with(good_claims(), "action", json!("publish")), "another action"),
        (good_header(), with(good_claims(), "action", json!("relay")), "an action that there isn't"),
        (good_header(), with(good_claims(), "pad", json!("x".repeat(AUTH_JWT_BYTES_MAX))), "too long"),
    ] {
        assert!(issuer.check(&raw(&header, &claims)).is_err(), "{why}");
    }
    let whole = raw(&good_header(), &good_claims());
    for text in ["", ".", "..", "a.b", "a.b.c", "é.é.é", &whole.replace('.', ""), &format!("{whole}.x")] {
        assert!(issuer.check(text).is_err(), "{text}");
        claimed_kid(text);
    }
    let unsigned = whole.rsplit_once('.').expect("a signature").0;
    assert!(issuer.check(&format!("{unsigned}.")).is_err(), "no signature");
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let issuer = Issuer::new();
    // Who has only the public key signs with it as if it were a secret.
    let public = fs::read(issuer.dir.path().join("RS256.public")).expect("there");
    for alg in [Algorithm::HS256, Algorithm::RS256] {
        let header = Header { kid: Some("RS256".into()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &good_claims(), &EncodingKey::from_secret(&public)).expect("signed");
        let head = json!({"alg": format!("{alg:?}"), "typ": "JWT", "kid": "RS256"}).to_string();
        let (_, rest) = token.split_once('.').expect("parts");
        assert!(issuer.check(&format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(head))).is_err(), "{alg:?}");
        assert!(issuer.check(&token).is_err());
    }
}

#[test]
fn what_was_found_good_is_still_looked_at_for_its_time_and_its_stream() {
    let issuer = Issuer::new();
    let token = raw(&good_header(), &good_claims());
    let check = |stream: &str, action, now| {
        issuer.keys.check(&token, &stream.parse().expect("a name"), action, now).map(|_| ())
    };
    assert_eq!(check("live/a", SignedAction::Play, NOW), Ok(()));
    assert_eq!(check("live/a/b", SignedAction::Play, NOW), Ok(()), "a stream in its folder");
    assert_eq!(check("live/a", SignedAction::Play, NOW + 59), Ok(()));
    assert_eq!(check("live/a", SignedAction::Play, NOW + 60), Err(BadJwt::Expired));
    assert_eq!(check("live/ab", SignedAction::Play, NOW), Err(BadJwt::Elsewhere));
    assert_eq!(check("live/a", SignedAction::Publish, NOW), Err(BadJwt::Elsewhere));
    assert_eq!(issuer.keys.verified.lock().len(), 1);
}

#[test]
fn a_key_opens_no_more_than_its_configuration_says() {
    let issuer = Issuer::new();
    let everywhere = raw(&good_header(), &with(good_claims(), "prefix", json!("")));
    assert!(issuer.check(&everywhere).is_ok());
    let elsewhere = issuer.keys.check(&everywhere, &"shop/a".parse().expect("a name"), SignedAction::Play, NOW);
    assert_eq!(elsewhere.map(|_| ()), Err(BadJwt::Elsewhere));
    let publish = raw(&good_header(), &with(good_claims(), "action", json!("publish")));
    let publish = issuer.keys.check(&publish, &"live/a".parse().expect("a name"), SignedAction::Publish, NOW);
    assert_eq!(publish.map(|_| ()), Err(BadJwt::Elsewhere));
}

#[test]
fn what_is_remembered_is_bounded() {
    let issuer = Issuer::new();
    for n in 0..=AUTH_VERIFIED_MAX {
        let token = raw(&good_header(), &with(good_claims(), "sub", json!(n.to_string())));
        assert!(issuer.check(&token).is_ok());
    }
    assert_eq!(issuer.keys.verified.lock().len(), 1);
    let wrong = raw(&good_header(), &with(good_claims(), "aud", json!("other")));
    assert!(issuer.check(&wrong).is_err());
    assert_eq!(issuer.keys.verified.lock().len(), 1, "nobody fills it with what is wrong");
}

#[test]
fn any_bytes_are_no_token() {
    for bytes in [&b"\xff"[..], b"", b"a.b.c", b"{}", good_claims().to_string().as_bytes(), b"[1,2]", b"null"] {
        fuzz::jwt(bytes);
    }
}
