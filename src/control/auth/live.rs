//! Who is in, and with what: so that what is taken back ends what it had opened.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::jwt::Verified;
use crate::{config::TokenRole, media::StreamName, secret::Digest};

/// What somebody was let in by.
#[derive(Debug)]
pub(super) enum Proof {
    /// Nothing was needed.
    Anyone,
    /// A key or token, by its digest.
    Secret(Digest),
    /// A token that somebody else signed.
    Jwt(Arc<Verified>),
    /// A signed URL, by its key.
    Url { kid: String, file: Digest },
}

/// Somebody who is in, for as long as his grant is held.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) proof: Proof,
    pub(super) role: TokenRole,
    /// None where it is no stream that he was let in to.
    pub(super) stream: Option<StreamName>,
    pub(super) revoked: CancellationToken,
}

/// All who are in. As many as there are sessions, which have bounds of their own.
#[derive(Debug, Default)]
pub(super) struct Live(Mutex<Sessions>);

#[derive(Debug, Default)]
struct Sessions {
    all: Vec<Weak<Session>>,
    /// Those who left are swept out when there are so many.
    sweep_at: usize,
}

impl Live {
    /// `None` if the key already publishes as many other streams as it may.
    pub(super) fn enter(&self, session: Session, streams_max: Option<u32>) -> Option<Arc<Session>> {
        let mut sessions = self.0.lock();
        if let (Some(max), Proof::Secret(key), Some(stream), TokenRole::Publish) =
            (streams_max, &session.proof, &session.stream, session.role)
            && sessions.published_with(*key, stream) >= usize::try_from(max).unwrap_or(usize::MAX)
        {
            return None;
        }
        let session = Arc::new(session);
        if sessions.all.len() >= sessions.sweep_at {
            sessions.all.retain(|session| session.strong_count() > 0);
            sessions.sweep_at = (sessions.all.len() * 2).max(SWEEP_MIN);
        }
        sessions.all.push(Arc::downgrade(&session));
        Some(session)
    }

    /// Ends everybody who is not to stay.
    pub(super) fn keep(&self, stays: impl Fn(&Session) -> bool) {
        // Outside of the lock: who is told to go may drop his grant at once.
        let all: Vec<_> = self.0.lock().all.iter().filter_map(Weak::upgrade).collect();
        all.iter().filter(|session| !stays(session)).for_each(|session| session.revoked.cancel());
    }
}

impl Sessions {
    /// The streams other than `besides` that are published with a key.
    fn published_with(&self, key: Digest, besides: &StreamName) -> usize {
        let mut streams: Vec<_> = self
            .all
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|session| session.role == TokenRole::Publish && !session.revoked.is_cancelled())
            .filter(|session| matches!(session.proof, Proof::Secret(digest) if digest == key))
            .filter_map(|session| session.stream.clone().filter(|stream| stream != besides))
            .collect();
        streams.sort_unstable();
        streams.dedup();
        streams.len()
    }
}

/// Fewer are not worth a look.
const SWEEP_MIN: usize = 256;
