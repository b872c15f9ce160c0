//! Who made an event: Ed25519 (RFC 8032) over its canonical form, and the keys as JWK (RFC 7517, RFC 8037).
//!
//! Signed is `"hawker-event-v1\n"` and then the canonical event without `sig`. `kid` is inside, so no
//! signature can be passed off as another key's.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::{
    digest,
    encoding::AsBigEndian as _,
    signature::{ED25519, ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::event::{BadEvent, Event};
use crate::limits::{EVENT_KEYS_MAX, EVENT_KID_BYTES_MAX};

/// The key that makes events.
pub struct Signer {
    kid: String,
    pair: Ed25519KeyPair,
}

impl Signer {
    /// The key of that seed, named by its thumbprint.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("invariant: any 32 bytes are a seed");
        Self { kid: thumbprint(pair.public_key().as_ref()), pair }
    }

    /// The same key under another name.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn with_kid(self, kid: impl Into<String>) -> Self {
        Self { kid: kid.into(), ..self }
    }

    /// Reads a private JWK (RFC 8037 §2).
    pub fn from_private_jwk(json: &[u8]) -> Result<Self, BadKeys> {
        let jwk: Jwk = serde_json::from_slice(json).map_err(BadKeys::malformed)?;
        let seed = jwk.d.as_deref().and_then(decode::<32>).ok_or(BadKeys::Member("d"))?;
        let PublicKey { kid, bytes } = jwk.into_public()?.ok_or(BadKeys::None)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &bytes).map_err(|_| BadKeys::Member("x"))?;
        Ok(Self { kid, pair })
    }

    /// The private JWK. Whoever has it makes events in our name.
    pub fn to_private_jwk(&self) -> String {
        let seed = self.pair.seed().and_then(|seed| seed.as_be_bytes()).expect("invariant: it was made from a seed");
        json!(Jwk { d: Some(BASE64URL.encode(seed.as_ref())), ..Jwk::from(&self.public()) }).to_string()
    }

    /// Names this key in its events.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What others verify with.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; ED25519_PUBLIC_KEY_LEN];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey { kid: self.kid.clone(), bytes }
    }

    /// Puts `kid` and `sig` on an event, so that the bounds are checked on what is sent.
    pub fn sign(&self, mut object: Map<String, Value>) -> Result<Event, BadEvent> {
        object.remove("sig");
        object.insert("kid".into(), self.kid.clone().into());
        let signature = self.pair.sign(signed_text(object.clone()).as_bytes());
        object.insert("sig".into(), BASE64URL.encode(signature).into());
        Event::from_object(object)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.kid)
    }
}

/// A key that makes no events, only verifies them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Names it in events.
    pub kid: String,
    /// RFC 8032 §5.1.2.
    pub bytes: [u8; ED25519_PUBLIC_KEY_LEN],
}

/// The keys whose events are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<String, [u8; ED25519_PUBLIC_KEY_LEN]>);

impl Keys {
    /// Reads a JWK set. Keys of other kinds are passed over (RFC 7517 §5).
    pub fn from_jwks(json: &[u8]) -> Result<Self, BadKeys> {
        let set: JwkSet = serde_json::from_slice(json).map_err(BadKeys::malformed)?;
        let mut keys = Self::default();
        for jwk in set.keys {
            if let Some(key) = jwk.into_public()? {
                keys.insert(key)?;
            }
        }
        if keys.0.is_empty() { Err(BadKeys::None) } else { Ok(keys) }
    }

    /// The JWK set that [`Keys::from_jwks`] reads.
    pub fn to_jwks(&self) -> String {
        let keys = self.0.iter().map(|(kid, bytes)| Jwk::from(&PublicKey { kid: kid.clone(), bytes: *bytes }));
        json!(JwkSet { keys: keys.collect() }).to_string()
    }

    /// Believes one more key.
    pub fn insert(&mut self, key: PublicKey) -> Result<(), BadKeys> {
        match self.0.get(&key.kid) {
            Some(known) if *known != key.bytes => Err(BadKeys::Ambiguous(key.kid)),
            None if self.0.len() >= EVENT_KEYS_MAX => Err(BadKeys::TooMany),
            _ => {
                self.0.insert(key.kid, key.bytes);
                Ok(())
            }
        }
    }

    /// Did one of these keys make the event, as it is?
    pub fn verify(&self, event: &Event) -> Result<(), BadSignature> {
        // Reading the text again costs far less than the check itself, and unlike cutting `sig` out of it can't be
        // led astray by what a string says.
        let mut object: Map<String, Value> =
            serde_json::from_slice(&event.json).map_err(|_| BadSignature::Malformed)?;
        let (sig, kid) = match (object.remove("sig"), object.get("kid")) {
            (Some(Value::String(sig)), Some(Value::String(kid))) => (sig, kid),
            (None, _) | (_, None) => return Err(BadSignature::Unsigned),
            _ => return Err(BadSignature::Malformed),
        };
        let key = self.0.get(kid).ok_or(BadSignature::UnknownKey)?;
        let sig: [u8; 64] = decode(&sig).ok_or(BadSignature::Malformed)?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(signed_text(object).as_bytes(), &sig)
            .map_err(|_| BadSignature::Forged)
    }
}

impl From<PublicKey> for Keys {
    fn from(key: PublicKey) -> Self {
        Self(BTreeMap::from([(key.kid, key.bytes)]))
    }
}

/// Why an event isn't believed: whoever passed it on is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// It has no `kid` or no `sig`.
    #[error("the event is not signed")]
    Unsigned,
    /// Its `kid` is none of ours.
    #[error("the event's key is not among the trusted ones")]
    UnknownKey,
    /// Its `sig` isn't 64 bytes as base64url.
    #[error("the event's signature is malformed")]
    Malformed,
    /// The key named didn't sign this.
    #[error("the event's signature is forged")]
    Forged,
}

impl BadSignature {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unsigned => "event_unsigned",
            Self::UnknownKey => "event_unknown_key",
            Self::Malformed => "event_malformed_signature",
            Self::Forged => "event_forged",
        }
    }
}

/// Why keys were refused: whoever wrote the file is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    /// Not JSON, or not what was expected. What stands there isn't quoted: it may be a private key.
    #[error("not a JWK, or not a set of them (line {line}, column {column})")]
    Malformed {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// A member of an Ed25519 key is missing or wrong.
    #[error("`{0}` of the Ed25519 key is missing or wrong")]
    Member(&'static str),
    /// No Ed25519 key.
    #[error("there is no Ed25519 key for signatures in it")]
    None,
    /// More than we keep.
    #[error("at most {EVENT_KEYS_MAX} keys are kept")]
    TooMany,
    /// Two keys of one name.
    #[error("two different keys are named `{0}`")]
    Ambiguous(String),
}

impl BadKeys {
    fn malformed(error: serde_json::Error) -> Self {
        Self::Malformed { line: error.line(), column: error.column() }
    }
}

#[derive(Serialize, Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Serialize, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    kid: Option<String>,
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<String>,
}

impl Jwk {
    /// The key, if it is an Ed25519 key that signs. RFC 9864 calls the algorithm `Ed25519`, RFC 8037 `EdDSA`.
    fn into_public(self) -> Result<Option<PublicKey>, BadKeys> {
        let signs = self.usage.is_none_or(|usage| usage == "sig")
            && self.alg.is_none_or(|alg| matches!(alg.as_str(), "EdDSA" | "Ed25519"));
        if self.kty != "OKP" || self.crv != "Ed25519" || !signs {
            return Ok(None);
        }
        let bytes = self.x.as_deref().and_then(decode).ok_or(BadKeys::Member("x"))?;
        let kid = self.kid.unwrap_or_else(|| thumbprint(&bytes));
        if kid.is_empty() || kid.len() > EVENT_KID_BYTES_MAX {
            return Err(BadKeys::Member("kid"));
        }
        Ok(Some(PublicKey { kid, bytes }))
    }
}

impl From<&PublicKey> for Jwk {
    fn from(key: &PublicKey) -> Self {
        Self {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            usage: Some("sig".into()),
            alg: Some("EdDSA".into()),
            kid: Some(key.kid.clone()),
            x: Some(BASE64URL.encode(key.bytes)),
            d: None,
        }
    }
}

fn signed_text(event_without_sig: Map<String, Value>) -> String {
    format!("hawker-event-v1\n{}", Value::Object(event_without_sig))
}

/// The head of the key's RFC 7638 thumbprint (its members: RFC 8037 §2); 96 bits tell keys apart.
fn thumbprint(public: &[u8]) -> String {
    let members = json!({"crv": "Ed25519", "kty": "OKP", "x": BASE64URL.encode(public)}).to_string();
    let mut text = BASE64URL.encode(digest::digest(&digest::SHA256, members.as_bytes()));
    text.truncate(16);
    text
}

/// Exactly `N` bytes, written in the one way base64url has without padding: stray bits at the end are refused.
fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64URL.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests;
