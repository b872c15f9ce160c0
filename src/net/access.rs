//! The question that every door asks; `control` answers it.

use std::{
    any::Any,
    future::pending,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{self, Instant},
    media::StreamName,
    observe::metrics::Protocol,
};

/// What somebody wants to do with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send it.
    Publish,
    /// Watch it.
    Play,
}

impl Action {
    /// In the words of logs and hooks.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Play => "play",
        }
    }
}

/// Somebody at a door.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// What he wants.
    pub action: Action,
    /// Of which stream.
    pub stream: &'a StreamName,
    /// Which door.
    pub protocol: Protocol,
    /// Where he comes from.
    pub peer: SocketAddr,
    /// The key or token that he shows.
    pub secret: Option<&'a str>,
}

/// Why somebody is not let in. Unknown and wrong are one answer: a name can't be probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// He shows nothing where something is needed.
    #[error("a key or token for this stream is needed")]
    NoSecret,
    /// What he shows doesn't open this stream, or his address has failed too often.
    #[error("this key or token doesn't open this stream")]
    Wrong,
    /// It does, but as many are in with it as it is good for.
    #[error("this key is in use for as many streams as it may be")]
    Full,
    /// The operator's backend says no.
    #[error("refused: the backend says no")]
    Refused,
    /// It gives no answer, which is no for now.
    #[error("nobody can decide on this now: try again later")]
    Undecided,
    /// Another node serves.
    #[error("this node stands by for another one: go there")]
    StandsBy,
}

/// Who may do what.
pub trait Access: Send + Sync + 'static {
    /// Lets somebody in, or not. A wrong guess costs the guesser time, and how much tells him nothing.
    fn ask<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Grant, Denied>>;
    /// May a stream be in the list of who shows this token? Being let in is another question.
    fn may_see(&self, stream: &StreamName, token: Option<&str>) -> bool;
    /// What an edge with this token is granted; `None` if it is a viewer's, whose streams are asked about one by one. A
    /// token of nobody's is a wrong guess, as in [`Access::ask`].
    fn edge<'a>(&'a self, token: &'a str, peer: IpAddr) -> BoxFuture<'a, Result<Option<Grant>, Denied>>;
    /// Are viewers and publishers let in at all? Not on a node that stands by; edges may wait there.
    fn is_open(&self) -> bool {
        true
    }
}

/// What somebody was let in with, held as long as he stays.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// Of several publishers of a stream the one with the highest is on air.
    pub priority: u8,
    /// May put events into the stream that he publishes.
    pub events: bool,
    /// What he may send at most, kbit/s.
    pub bitrate_kbps_max: Option<u32>,
    /// When it ends by itself.
    pub expires: Option<Instant>,
    /// Cancelled when it is taken back.
    pub revoked: CancellationToken,
    /// Dropped with the last of it: whoever let the holder in learns that he left.
    pub held: Option<Arc<dyn Any + Send + Sync>>,
}

/// What a URL's query shows of somebody who wants to do that: a key or token, or all of a signature as one text.
pub fn shown(action: Action, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let names = match action {
        Action::Publish => ["key", "token", "jwt"],
        Action::Play => ["token", "jwt", "key"],
    };
    if let Some(secret) = names.into_iter().find_map(&value) {
        return Some(secret);
    }
    let (exp, kid, sig) = (value("exp")?, value("kid")?, value("sig")?);
    Some(format!("exp={exp}&kid={kid}&sig={sig}"))
}

/// Why a grant is no longer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantOver {
    /// Its time is up.
    #[error("the token expired")]
    Expired,
    /// The key or token was taken back.
    #[error("the key or token was revoked")]
    Revoked,
    /// A publisher sends more than he may.
    #[error("more than the bitrate that the key allows")]
    TooFast,
}

impl GrantOver {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::TooFast => "bitrate",
        }
    }
}

impl Grant {
    /// Resolves when the holder has to go.
    pub fn over(&self) -> impl Future<Output = GrantOver> + Send + use<> {
        let (expires, revoked, held) = (self.expires, self.revoked.clone(), self.held.clone());
        let expired = async move {
            match expires {
                Some(at) => tokio::time::sleep_until(at).await,
                None => pending().await,
            }
        };
        async move {
            // Whoever waits for its end is in with it, also if he keeps nothing else of it.
            let _held = held;
            tokio::select! {
                () = expired => GrantOver::Expired,
                () = revoked.cancelled_owned() => GrantOver::Revoked,
            }
        }
    }

    /// A count of what a publisher sends, from `now` on.
    pub fn rate(&self, now: Instant) -> Rate {
        let bytes_per_s = self.bitrate_kbps_max.map(|kbps| u64::from(kbps) * 1000 / 8);
        Rate { bytes_per_s, left: bytes_per_s.unwrap_or(0).saturating_mul(BURST.as_secs()), counted: now }
    }

    /// Has the holder to go already?
    pub fn is_over(&self) -> bool {
        self.revoked.is_cancelled() || self.expires.is_some_and(|at| at <= clock::now())
    }
}

/// How much more a publisher may send.
#[derive(Debug)]
pub struct Rate {
    bytes_per_s: Option<u64>,
    left: u64,
    counted: Instant,
}

impl Rate {
    /// Counts what was received at `now`; an error if it is more than he may send.
    pub fn take(&mut self, bytes: u64, now: Instant) -> Result<(), GrantOver> {
        let Some(bytes_per_s) = self.bytes_per_s else { return Ok(()) };
        let since_ms = u64::try_from(now.saturating_duration_since(self.counted).as_millis()).unwrap_or(u64::MAX);
        let earned = since_ms.saturating_mul(bytes_per_s) / 1000;
        // Less than a byte stays to be earned.
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(bytes_per_s.saturating_mul(BURST.as_secs()));
            self.counted = now;
        }
        self.left = self.left.checked_sub(bytes).ok_or(GrantOver::TooFast)?;
        Ok(())
    }
}

/// A keyframe, or what an encoder has gathered in a stall, may come at once: so much of the bitrate.
const BURST: Duration = Duration::from_secs(5);

/// Lets everybody watch everything, until it is cancelled.
#[cfg(test)]
pub(crate) struct Revocable(pub(crate) CancellationToken);

#[cfg(test)]
impl Access for Revocable {
    fn ask<'a>(&'a self, _: Asked<'a>) -> BoxFuture<'a, Result<Grant, Denied>> {
        let grant = Grant { revoked: self.0.clone(), ..Grant::default() };
        Box::pin(std::future::ready(Ok(grant)))
    }

    fn may_see(&self, _: &StreamName, _: Option<&str>) -> bool {
        true
    }

    fn edge<'a>(&'a self, _: &'a str, _: IpAddr) -> BoxFuture<'a, Result<Option<Grant>, Denied>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_grant_ends_by_time_or_by_word() {
        let began = clock::now();
        let timed = Grant { expires: Some(began + Duration::from_secs(60)), ..Grant::default() };
        assert_eq!(timed.over().await, GrantOver::Expired);
        assert!(began.elapsed() >= Duration::from_secs(60) && timed.is_over());
        let endless = Grant::default();
        let over = tokio::time::timeout(Duration::from_secs(86_400), endless.over()).await;
        assert!(over.is_err() && !endless.is_over());
        endless.revoked.cancel();
        assert_eq!(endless.over().await, GrantOver::Revoked);
    }

    #[test]
    fn a_publisher_may_send_his_bitrate_and_a_burst_of_it() {
        let began = clock::now();
        let at = |ms| began + Duration::from_millis(ms);
        let grant = Grant { bitrate_kbps_max: Some(800), ..Grant::default() };
        let mut rate = grant.rate(began);
        // 100 kB a second, in pieces, for a minute.
        assert!((0..1500).all(|n| rate.take(4000, at(n * 40)).is_ok()));
        assert_eq!(rate.take(400_000, at(60_000)), Ok(()), "a burst");
        assert_eq!(rate.take(400_000, at(60_000)), Err(GrantOver::TooFast));
        let mut twice = grant.rate(began);
        let ended = (0..1500).find(|n| twice.take(8000, at(n * 40)).is_err());
        assert!(ended.is_some_and(|n| (100..=150).contains(&n)), "five seconds of credit: {ended:?}");
        let mut free = Grant::default().rate(began);
        assert_eq!(free.take(u64::MAX, began), Ok(()));
    }
}
