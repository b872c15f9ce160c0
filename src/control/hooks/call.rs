//! One call to the backend: what it says, how it is signed, what counts as an answer.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use bytes::Bytes;
use reqwest::header::{HeaderName, HeaderValue};
use rustls::RootCertStore;
use serde::Serialize;
use serde_json::value::RawValue;
use ulid::Ulid;
use url::Url;

use super::Verdict;
use crate::{
    clock, config, limits,
    media::StreamName,
    net::{
        access::Asked,
        outbound::{Answer, Outbound, OutboundError, Post, Reach},
        tls::{self, TlsError},
    },
    observe::metrics::Protocol,
};

/// Why hooks can't be called as configured.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The secret can't be read.
    #[error("hooks.secret_file: {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Calls would not be signed.
    #[error("hooks.secret_file: a secret of at least {SECRET_BYTES_MIN} bytes is needed")]
    NoSecret,
    /// The authorities of the backend's certificate are of no use.
    #[error("hooks.ca: {0}")]
    Authorities(#[from] TlsError),
    /// The client can't be made.
    #[error(transparent)]
    Client(#[from] OutboundError),
}

/// Why a question has no answer, or a notice was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failed {
    #[error("too many questions wait")]
    Busy,
    #[error("it failed too often, and is left alone for a while")]
    Open,
    #[error("no answer in time")]
    TimedOut,
    #[error(transparent)]
    Call(#[from] OutboundError),
    #[error("status {0}")]
    Status(u16),
    #[error("the answer is not what was asked for")]
    Malformed,
}

impl Failed {
    /// The metric's label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Open => "open",
            Self::TimedOut | Self::Call(OutboundError::TimedOut) => "timeout",
            Self::Call(OutboundError::NotAllowed) => "not_allowed",
            Self::Call(OutboundError::TooLong) | Self::Malformed => "malformed",
            Self::Call(_) => "unreachable",
            Self::Status(_) => "status",
        }
    }

    /// Another attempt may do better.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            // A mistake of ours stays one; "later" and "too many" pass.
            Self::Status(status) => *status >= 500 || matches!(status, 408 | 429),
            Self::Call(error) => !matches!(error, OutboundError::TooLong | OutboundError::BadUrl(_)),
            Self::TimedOut => true,
            Self::Busy | Self::Open | Self::Malformed => false,
        }
    }
}

/// Where calls go.
pub(super) struct Backend {
    url: Url,
    key: hmac::Key,
    outbound: Outbound,
}

impl Backend {
    /// `None` if the configuration names none.
    pub(super) fn new(config: &config::Hooks) -> Result<Option<Self>, HookError> {
        let Some(url) = config.url.clone() else { return Ok(None) };
        let path = config.secret_file.as_ref().ok_or(HookError::NoSecret)?;
        let secret = std::fs::read(path).map_err(|source| HookError::Read { path: path.clone(), source })?;
        let secret = secret.trim_ascii();
        if secret.len() < SECRET_BYTES_MIN {
            return Err(HookError::NoSecret);
        }
        let roots = match (url.scheme(), &config.ca) {
            ("https", Some(ca)) => tls::authorities(ca)?,
            ("https", None) => tls::authorities(tls::SYSTEM_AUTHORITIES.as_ref())?,
            _ => RootCertStore::empty(),
        };
        let outbound = Outbound::new(Reach::new(&config.allow), Arc::new(roots))?;
        Ok(Some(Self { url, key: hmac::Key::new(hmac::HMAC_SHA256, secret), outbound }))
    }

    /// A question's answer; the caller bounds the time. What failed is tried a second time.
    pub(super) async fn ask(&self, body: Bytes) -> Result<Verdict, Failed> {
        let answer = match self.send(body.clone()).await {
            Err(failed) if failed.is_temporary() => {
                tokio::time::sleep(jittered(RETRY_AFTER)).await;
                self.send(body).await?
            }
            first => first?,
        };
        let content_type = answer.content_type.as_deref().and_then(|kind| kind.split(';').next()).unwrap_or_default();
        if !content_type.trim().eq_ignore_ascii_case("application/json") {
            return Err(Failed::Malformed);
        }
        serde_json::from_slice(&answer.body).map_err(|_| Failed::Malformed)
    }

    /// One call; its answer if it has a status of success.
    pub(super) async fn send(&self, body: Bytes) -> Result<Answer, Failed> {
        let header = (SIGNATURE, self.signature(&body, clock::unix_ms() / 1000));
        let (timeout, answer_bytes_max) = (limits::HOOK_CALL_TIMEOUT, limits::HOOK_ANSWER_BYTES_MAX);
        let post = Post { url: &self.url, header, body, timeout, answer_bytes_max };
        let answer = self.outbound.post_json(post).await?;
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(Failed::Status(answer.status)) }
    }

    fn signature(&self, body: &[u8], unix_s: i64) -> HeaderValue {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(format!("{unix_s}.").as_bytes());
        context.update(body);
        let hex: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        HeaderValue::from_str(&format!("t={unix_s},v1={hex}")).expect("invariant: digits and letters")
    }
}

/// Half to one and a half of it, so that those who failed together don't come back together.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.5))
}

/// What the backend is sent. The id stays the same however often it is sent.
#[derive(Debug, Serialize)]
pub(super) struct Call<'a> {
    /// A ULID.
    id: Ulid,
    /// `decide`: an answer is wanted; `notify`: it is so.
    hook: &'static str,
    action: &'static str,
    stream: &'a str,
    time_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    /// What `play` and `stop` of one viewer have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Ulid>,
    /// How long he stayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    /// The commerce event, as it was signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
}

impl<'a> Call<'a> {
    /// May he?
    pub(super) fn decide(asked: Asked<'a>) -> Self {
        let (protocol, peer) = (Some(asked.protocol.as_str()), Some(asked.peer));
        Self { protocol, peer, ..Self::new("decide", asked.action.as_str(), asked.stream) }
    }

    /// It happened.
    pub(super) fn notify(action: &'static str, stream: &'a StreamName) -> Self {
        Self::new("notify", action, stream)
    }

    /// The same of a viewer's session; `stayed` when it is over.
    pub(super) fn of_viewer(
        self,
        (protocol, peer): (Protocol, SocketAddr),
        session: Ulid,
        stayed: Option<Duration>,
    ) -> Self {
        let duration_ms = stayed.and_then(|stayed| u64::try_from(stayed.as_millis()).ok());
        let (protocol, peer, session) = (Some(protocol.as_str()), Some(peer), Some(session));
        Self { protocol, peer, session, duration_ms, ..self }
    }

    /// The same of an accepted event.
    pub(super) fn of_event(self, event: &'a RawValue) -> Self {
        Self { event: Some(event), ..self }
    }

    fn new(hook: &'static str, action: &'static str, stream: &'a StreamName) -> Self {
        Self {
            id: Ulid::new(),
            hook,
            action,
            stream: stream.as_str(),
            time_ms: clock::unix_ms(),
            protocol: None,
            peer: None,
            session: None,
            duration_ms: None,
            event: None,
        }
    }

    pub(super) fn to_json(&self) -> Bytes {
        serde_json::to_vec(self).expect("invariant: plain data").into()
    }
}

const SIGNATURE: HeaderName = HeaderName::from_static("hawker-signature");

/// Shorter ones can be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// A backend that restarts is back soon, or not in time.
const RETRY_AFTER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_time_and_body() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        std::fs::write(&path, "0123456789abcdef\n").expect("written");
        let url = Some("http://shop.example.com/hook".parse().expect("a URL"));
        let config = config::Hooks { url, secret_file: Some(path.clone()), ..config::Hooks::default() };
        let backend = Backend::new(&config).expect("usable").expect("a backend");
        // printf '%s' '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let signed = backend.signature(br#"{"a":1}"#, 1_700_000_000);
        assert_eq!(signed, "t=1700000000,v1=9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23");
        std::fs::write(&path, "short\n").expect("written");
        assert!(matches!(Backend::new(&config), Err(HookError::NoSecret)));
        let unsigned = config::Hooks { secret_file: None, ..config };
        assert!(matches!(Backend::new(&unsigned), Err(HookError::NoSecret)));
    }
}
