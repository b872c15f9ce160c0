//! URLs with a signature, for CDNs that pull and encoders that push: `?exp=UNIX&kid=KID&sig=BASE64URL`.
//!
//! Signed is `ACTION|NAME|EXP` with HMAC-SHA256: none of the three can hold the bar between them.

use std::{collections::HashMap, fmt, fs, path::Path};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::KeyFileError;
use crate::{
    config::{self, SignedAction},
    limits::AUTH_KID_BYTES_MAX,
    media::StreamName,
    secret::Digest,
};

/// A signature as it stands in a query, read but not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature<'a> {
    /// When it ends, UTC seconds.
    pub(super) exp: u64,
    pub(super) kid: &'a str,
    sig: [u8; 32],
}

impl<'a> Signature<'a> {
    /// From `exp=…&kid=…&sig=…`, as `net::access::shown` puts it.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (exp, rest) = text.strip_prefix("exp=")?.split_once("&kid=")?;
        let (kid, sig) = rest.split_once("&sig=")?;
        let is_number = (1..=20).contains(&exp.len()) && exp.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || kid.len() > AUTH_KID_BYTES_MAX || sig.len() != SIG_CHARS {
            return None;
        }
        let sig = BASE64_URL_SAFE_NO_PAD.decode(sig).ok()?.try_into().ok()?;
        Some(Self { exp: exp.parse().ok()?, kid, sig })
    }
}

/// The secrets whose URLs are believed.
#[derive(Default)]
pub(super) struct UrlKeys(HashMap<String, UrlKey>);

struct UrlKey {
    key: hmac::Key,
    config: config::UrlKey,
    /// Of the secret: another one under the same `kid` is another one.
    file: Digest,
}

impl UrlKey {
    fn may(&self, stream: &StreamName, action: SignedAction) -> bool {
        self.config.actions.contains(&action) && stream.is_under(&self.config.prefix)
    }
}

impl UrlKeys {
    /// Reads the secrets.
    pub(super) fn load(keys: &[config::UrlKey]) -> Result<Self, KeyFileError> {
        let load = |config: &config::UrlKey| {
            let secret = read_secret(&config.secret_file)?;
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            Ok((config.kid.clone(), UrlKey { key, config: config.clone(), file: Digest::of(&secret) }))
        };
        Ok(Self(keys.iter().map(load).collect::<Result<_, _>>()?))
    }

    /// Is there a secret of that name?
    pub(super) fn knows(&self, kid: &str) -> bool {
        self.0.contains_key(kid)
    }

    /// Does this secret open `stream` for `action` still?
    pub(super) fn still_opens(&self, kid: &str, file: &Digest, stream: &StreamName, action: SignedAction) -> bool {
        self.0.get(kid).is_some_and(|key| key.file == *file && key.may(stream, action))
    }

    /// The digest of the secret, if the signature opens `stream` for `action` at `now_s`, UTC.
    pub(super) fn check(
        &self,
        signature: &Signature<'_>,
        stream: &StreamName,
        action: SignedAction,
        now_s: u64,
    ) -> Option<Digest> {
        let key = self.0.get(signature.kid)?;
        let may = key.may(stream, action);
        let message = message(action, stream, signature.exp);
        // It compares in constant time.
        let is_signed = hmac::verify(&key.key, message.as_bytes(), &signature.sig).is_ok();
        (is_signed && may && signature.exp > now_s).then_some(key.file)
    }
}

impl fmt::Debug for UrlKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The query of a signed URL, without the question mark: what `hawker token sign-url` prints.
pub fn sign(
    secret_file: &Path,
    kid: &str,
    action: SignedAction,
    stream: &StreamName,
    exp: u64,
) -> Result<String, KeyFileError> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &read_secret(secret_file)?);
    let sig = hmac::sign(&key, message(action, stream, exp).as_bytes());
    Ok(format!("exp={exp}&kid={kid}&sig={}", BASE64_URL_SAFE_NO_PAD.encode(sig)))
}

fn message(action: SignedAction, stream: &StreamName, exp: u64) -> String {
    let action = match action {
        SignedAction::Publish => "publish",
        SignedAction::Play => "play",
    };
    format!("{action}|{stream}|{exp}")
}

fn read_secret(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let text = fs::read(path).map_err(|error| KeyFileError::read(path, &error))?;
    let secret = text.trim_ascii_end();
    match secret.len() >= SECRET_BYTES_MIN {
        true => Ok(secret.to_vec()),
        false => Err(KeyFileError::new(path, "is too short: a secret has at least 16 bytes")),
    }
}

/// 32 bytes in base64url.
const SIG_CHARS: usize = 43;

const SECRET_BYTES_MIN: usize = 16;

/// Entry point of the fuzz target.
pub mod fuzz {
    use super::*;

    /// Any text as a signature: what is read was written like that, and opens nothing, for nobody has signed it.
    pub fn signed_url(bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let (Some(found), Ok(stream)) = (Signature::parse(text), "live/room".parse()) else { return };
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let config = config::UrlKey {
            kid: found.kid.to_owned(),
            secret_file: "fuzz".into(),
            prefix: String::new(),
            actions: vec![SignedAction::Play],
        };
        let file = Digest::of(found.kid);
        let keys = UrlKeys(HashMap::from([(found.kid.to_owned(), UrlKey { key, config, file })]));
        assert!(keys.check(&found, &stream, SignedAction::Play, 0).is_none(), "opened by {text:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";
    const NOW: u64 = 1_790_000_000;

    fn keys() -> (UrlKeys, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), format!("{SECRET}\n")).expect("written");
        let config = config::UrlKey {
            kid: "cdn".into(),
            secret_file: file.path().into(),
            prefix: "live".into(),
            actions: vec![SignedAction::Play],
        };
        (UrlKeys::load(&[config]).expect("a secret"), file)
    }

    fn name(text: &str) -> StreamName {
        text.parse().expect("a name")
    }

    #[test]
    fn a_signature_opens_what_it_was_made_for_until_its_time() {
        let (keys, file) = keys();
        let sign = |action, stream: &str, exp| sign(file.path(), "cdn", action, &name(stream), exp).expect("signed");
        let opens = |query: &str, stream: &str, action, now| {
            Signature::parse(query).is_some_and(|found| keys.check(&found, &name(stream), action, now).is_some())
        };
        let good = sign(SignedAction::Play, "live/room", NOW + 60);
        assert!(opens(&good, "live/room", SignedAction::Play, NOW));
        assert!(!opens(&good, "live/room", SignedAction::Play, NOW + 60), "its time is up");
        assert!(!opens(&good, "live/roo", SignedAction::Play, NOW), "another stream");
        assert!(!opens(&good, "live/room/2", SignedAction::Play, NOW), "a stream below");
        assert!(!opens(&good, "live/room", SignedAction::Publish, NOW), "another action");
        let later = good.replace(&(NOW + 60).to_string(), &(NOW + 61).to_string());
        assert!(!opens(&later, "live/room", SignedAction::Play, NOW), "a later end");
        assert!(!opens(&good.replace("kid=cdn", "kid=cdm"), "live/room", SignedAction::Play, NOW));
        // Rightly signed, and beyond what the key may do.
        assert!(!opens(&sign(SignedAction::Publish, "live/room", NOW + 60), "live/room", SignedAction::Publish, NOW));
        assert!(!opens(&sign(SignedAction::Play, "liver/room", NOW + 60), "liver/room", SignedAction::Play, NOW));
    }

    #[test]
    fn the_signature_is_what_other_tools_compute() {
        let (_, file) = keys();
        // printf 'play|live/room|1790000060' | openssl dgst -sha256 -hmac 0123456789abcdef -binary | basenc --base64url
        let signed = sign(file.path(), "cdn", SignedAction::Play, &name("live/room"), NOW + 60).expect("signed");
        assert_eq!(signed, "exp=1790000060&kid=cdn&sig=KTdHJ0AgSqQZWQOfDc8MRy7ZsIeQ31Qfix2hW7qh2ik");
    }

    #[test]
    fn what_is_no_signature_is_not_read() {
        let sig = "A".repeat(SIG_CHARS);
        assert!(Signature::parse(&format!("exp=1&kid=a&sig={sig}")).is_some());
        for bad in [
            String::new(),
            format!("kid=a&exp=1&sig={sig}"),
            format!("exp=&kid=a&sig={sig}"),
            format!("exp=+1&kid=a&sig={sig}"),
            format!("exp=99999999999999999999&kid=a&sig={sig}"),
            format!("exp=1&kid={}&sig={sig}", "k".repeat(AUTH_KID_BYTES_MAX + 1)),
            format!("exp=1&kid=a&sig={sig}A"),
            format!("exp=1&kid=a&sig={}", "+".repeat(SIG_CHARS)),
        ] {
            assert_eq!(Signature::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "hunter2\n").expect("written");
        let error = read_secret(file.path()).expect_err("too short").to_string();
        assert!(error.contains("too short") && !error.contains("hunter2"), "{error}");
    }
}
