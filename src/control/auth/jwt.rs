//! Tokens that somebody else's service signs for its publishers and viewers (JWT, RFC 7519; rules of RFC 8725).
//!
//! The key decides the algorithm, never the token. What is required is required: a token without one of its claims, or
//! with one of another type, opens nothing.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::KeyFileError;
use crate::{
    config::{self, JwtAlgorithm, SignedAction},
    limits::{AUTH_CLAIM_BYTES_MAX, AUTH_JWT_BYTES_MAX, AUTH_KID_BYTES_MAX, AUTH_VERIFIED_MAX},
    media::StreamName,
    secret::Digest,
};

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// When it ends, UTC seconds; the session that it opened ends then, too.
    pub exp: u64,
    /// When it begins, UTC seconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nbf: u64,
    /// Whose it is.
    pub sub: String,
    /// Its own id, by which it can be revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The streams it opens: a name, or a folder of names. Empty: all that its key may open.
    pub prefix: String,
    /// What for.
    pub action: SignedAction,
    /// Its publisher may send events inside the stream.
    #[serde(default, skip_serializing_if = "is_default")]
    pub events: bool,
    /// Of several publishers of a stream the one with the highest is on air.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: u8,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Why a token opens nothing. For the operator's log; its bearer is told no more than others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadJwt {
    #[error("longer than {AUTH_JWT_BYTES_MAX} bytes")]
    TooLong,
    #[error("no JWT whose header names a known kid")]
    UnknownKey,
    #[error("its header asks for what is not understood (crit)")]
    Critical,
    #[error("not signed by its key, or exp, aud, sub, prefix or action is missing or wrong")]
    Wrong,
    #[error("its sub or jti is empty or longer than {AUTH_CLAIM_BYTES_MAX} bytes")]
    BadClaim,
    #[error("expired")]
    Expired,
    #[error("not yet valid")]
    Early,
    #[error("it doesn't open that stream for that")]
    Elsewhere,
}

/// The keys whose tokens are believed.
#[derive(Default)]
pub(super) struct JwtKeys {
    by_kid: HashMap<String, JwtKey>,
    /// What was found rightly signed, by the digest of the token.
    verified: Mutex<HashMap<[u8; 32], Arc<Verified>>>,
}

struct JwtKey {
    key: DecodingKey,
    validation: Validation,
    config: config::JwtKey,
    /// Of the key file and the audience: another key under the same `kid` is another key.
    file: Digest,
}

/// A token that its key did sign.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) kid: String,
    pub(super) key_file: Digest,
    pub(super) claims: Claims,
}

impl JwtKeys {
    /// Reads the key files.
    pub(super) fn load(keys: &[config::JwtKey]) -> Result<Self, KeyFileError> {
        let load = |key: &config::JwtKey| Ok((key.kid.clone(), JwtKey::load(key)?));
        Ok(Self { by_kid: keys.iter().map(load).collect::<Result<_, _>>()?, verified: Mutex::default() })
    }

    /// Is there a key of that name?
    pub(super) fn knows(&self, kid: &str) -> bool {
        self.by_kid.contains_key(kid)
    }

    /// Does the key that signed this token open `stream` for `action` still?
    pub(super) fn still_opens(&self, token: &Verified, stream: &StreamName, action: SignedAction) -> bool {
        let opens = |config: &config::JwtKey| config.actions.contains(&action) && stream.is_under(&config.prefix);
        self.by_kid.get(&token.kid).is_some_and(|key| key.file == token.key_file && opens(&key.config))
    }

    /// The token, if it opens `stream` for `action` at `now_s`, UTC.
    pub(super) fn check(
        &self,
        token: &str,
        stream: &StreamName,
        action: SignedAction,
        now_s: u64,
    ) -> Result<Arc<Verified>, BadJwt> {
        let verified = self.verify(token)?;
        let Claims { exp, nbf, prefix, action: meant, .. } = &verified.claims;
        let config = &self.by_kid.get(&verified.kid).ok_or(BadJwt::UnknownKey)?.config;
        if *exp <= now_s {
            return Err(BadJwt::Expired);
        }
        if *nbf > now_s.saturating_add(CLOCKS_DIFFER_SECS) {
            return Err(BadJwt::Early);
        }
        let is_meant = *meant == action && config.actions.contains(&action);
        match is_meant && stream.is_under(prefix) && stream.is_under(&config.prefix) {
            true => Ok(verified),
            false => Err(BadJwt::Elsewhere),
        }
    }

    /// The token, if one of the keys signed it, whatever for and until whenever.
    pub(super) fn verify(&self, token: &str) -> Result<Arc<Verified>, BadJwt> {
        if token.len() > AUTH_JWT_BYTES_MAX {
            return Err(BadJwt::TooLong);
        }
        let digest = *Digest::of(token).as_bytes();
        if let Some(known) = self.verified.lock().get(&digest) {
            return Ok(known.clone());
        }
        let header = decode_header(token).map_err(|_| BadJwt::UnknownKey)?;
        let kid = header.kid.ok_or(BadJwt::UnknownKey)?;
        let key = self.by_kid.get(&kid).ok_or(BadJwt::UnknownKey)?;
        if header.crit.is_some() {
            return Err(BadJwt::Critical);
        }
        let claims = decode::<Claims>(token, &key.key, &key.validation).map_err(|_| BadJwt::Wrong)?.claims;
        let is_sane = |text: &String| (1..=AUTH_CLAIM_BYTES_MAX).contains(&text.len());
        if !is_sane(&claims.sub) || !claims.jti.as_ref().is_none_or(is_sane) {
            return Err(BadJwt::BadClaim);
        }
        let verified = Arc::new(Verified { kid, key_file: key.file, claims });
        let mut known = self.verified.lock();
        if known.len() >= AUTH_VERIFIED_MAX {
            known.clear();
        }
        known.insert(digest, verified.clone());
        Ok(verified)
    }
}

impl JwtKey {
    fn load(config: &config::JwtKey) -> Result<Self, KeyFileError> {
        let path = &config.key_file;
        Self::new(config, &fs::read(path).map_err(|error| KeyFileError::read(path, &error))?)
    }

    fn new(config: &config::JwtKey, text: &[u8]) -> Result<Self, KeyFileError> {
        let path = &config.key_file;
        let key = match config.algorithm {
            JwtAlgorithm::EdDsa => DecodingKey::from_ed_pem(text),
            JwtAlgorithm::Es256 => DecodingKey::from_ec_pem(text),
            JwtAlgorithm::Rs256 => DecodingKey::from_rsa_pem(text),
            JwtAlgorithm::Hs256 => Ok(DecodingKey::from_secret(shared_secret(path, text)?)),
        };
        let key = key.map_err(|_| KeyFileError::new(path, "is no public key of that algorithm, PEM"))?;
        let mut validation = Validation::new(config.algorithm.into());
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        let file = Digest::of([text, b"\0", config.audience.as_bytes()].concat());
        // The time is looked at with each question, which the signature isn't.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        Ok(Self { key, validation, config: config.clone(), file })
    }
}

/// The secret in a file, without its line end; one that can be guessed is refused.
fn shared_secret<'a>(path: &Path, text: &'a [u8]) -> Result<&'a [u8], KeyFileError> {
    let secret = text.trim_ascii_end();
    match secret.len() >= HS256_SECRET_BYTES_MIN {
        true => Ok(secret),
        false => Err(KeyFileError::new(path, "is too short: HS256 needs a secret of 32 bytes (RFC 7518 §3.2)")),
    }
}

impl From<JwtAlgorithm> for Algorithm {
    fn from(algorithm: JwtAlgorithm) -> Self {
        match algorithm {
            JwtAlgorithm::EdDsa => Self::EdDSA,
            JwtAlgorithm::Es256 => Self::ES256,
            JwtAlgorithm::Rs256 => Self::RS256,
            JwtAlgorithm::Hs256 => Self::HS256,
        }
    }
}

/// What `hawker token sign` puts into a token.
#[derive(Debug)]
pub struct Signing<'a> {
    /// The algorithm of the key.
    pub algorithm: JwtAlgorithm,
    /// The private key, PEM; for HS256 the secret itself.
    pub key_file: &'a Path,
    /// The key's name.
    pub kid: &'a str,
    /// The `aud`.
    pub audience: &'a str,
    /// All else.
    pub claims: &'a Claims,
}

/// Signs a token.
pub fn sign(signing: &Signing<'_>) -> Result<String, KeyFileError> {
    #[derive(Serialize)]
    struct WithAudience<'a> {
        aud: &'a str,
        #[serde(flatten)]
        claims: &'a Claims,
    }
    let path = signing.key_file;
    let text = fs::read(path).map_err(|error| KeyFileError::read(path, &error))?;
    let key = match signing.algorithm {
        JwtAlgorithm::EdDsa => EncodingKey::from_ed_pem(&text),
        JwtAlgorithm::Es256 => EncodingKey::from_ec_pem(&text),
        JwtAlgorithm::Rs256 => EncodingKey::from_rsa_pem(&text),
        JwtAlgorithm::Hs256 => Ok(EncodingKey::from_secret(shared_secret(path, &text)?)),
    };
    let header = Header { kid: Some(signing.kid.to_owned()), ..Header::new(signing.algorithm.into()) };
    let claims = WithAudience { aud: signing.audience, claims: signing.claims };
    key.and_then(|key| encode(&header, &claims, &key))
        .map_err(|_| KeyFileError::new(path, "is no private key of that algorithm, PEM"))
}

/// A name for what is guessed at when a token of this shape is refused: the `kid` that it claims.
pub(super) fn claimed_kid(token: &str) -> Option<String> {
    let is_jwt = token.len() <= AUTH_JWT_BYTES_MAX && token.bytes().filter(|byte| *byte == b'.').count() == 2;
    let kid = is_jwt.then(|| decode_header(token).ok()?.kid).flatten()?;
    (kid.len() <= AUTH_KID_BYTES_MAX).then_some(kid)
}

/// Clocks of the signer and of this node may differ by this before a token is taken for not yet valid.
const CLOCKS_DIFFER_SECS: u64 = 5;

/// RFC 7518 §3.2.
const HS256_SECRET_BYTES_MIN: usize = 32;

/// Entry point of the fuzz target.
pub mod fuzz {
    use super::*;

    const SECRET: &[u8] = b"a secret of thirty-two bytes, no less";
    const NOW_S: u64 = 1_790_000_000;

    /// Any bytes as a token, and as the claims of one that is rightly signed: what it opens it was meant for.
    pub fn jwt(bytes: &[u8]) {
        let config = config::JwtKey {
            kid: "fuzz".into(),
            algorithm: JwtAlgorithm::Hs256,
            key_file: "fuzz".into(),
            audience: "hawker".into(),
            prefix: "live".into(),
            actions: vec![SignedAction::Play],
        };
        let (Ok(key), Ok(stream)) = (JwtKey::new(&config, SECRET), "live/room".parse()) else { return };
        let keys = JwtKeys { by_kid: HashMap::from([("fuzz".into(), key)]), verified: Mutex::default() };
        let check = |token: &str| keys.check(token, &stream, SignedAction::Play, NOW_S);
        if let Ok(text) = std::str::from_utf8(bytes) {
            claimed_kid(text);
            assert!(check(text).is_err(), "nobody has signed it");
        }
        let Ok(claims) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
        let header = Header { kid: Some("fuzz".into()), ..Header::new(Algorithm::HS256) };
        let Ok(token) = encode(&header, &claims, &EncodingKey::from_secret(SECRET)) else { return };
        if let Ok(verified) = check(&token) {
            let Claims { exp, prefix, action, .. } = &verified.claims;
            assert!(*exp > NOW_S && stream.is_under(prefix) && *action == SignedAction::Play);
            assert!(claims.get("exp").is_some_and(serde_json::Value::is_u64), "{claims}");
        }
    }
}

#[cfg(test)]
mod tests;
