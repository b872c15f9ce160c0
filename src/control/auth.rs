//! Who may publish, watch and call the API. Nobody, until the configuration or the API says so.
//!
//! An unknown name and a wrong key get the same answer, and cost the same: a name can't be probed. Whoever is let in is
//! known as long as he stays, so that a key that is revoked, or is gone from the configuration, ends what it opened.

pub mod jwt;
pub mod roles;
pub mod signed_url;
pub mod store;

mod live;
mod rules;

use std::{io, net::IpAddr, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::{
    jwt::JwtKeys,
    live::{Live, Proof, Session},
    rules::{Right, Rules},
    signed_url::UrlKeys,
    store::{Key, Previous, Revocation, State, Store, Terms},
};
use crate::{
    clock,
    config::{self, TokenRole},
    limits::{
        AUTH_DELAYED_MAX, AUTH_DELAYED_PER_ADDRESS_MAX, AUTH_FAILURE_DELAY_MAX, AUTH_FAILURE_DELAY_MIN, AUTH_KEYS_MAX,
        AUTH_REVOCATIONS_MAX,
    },
    media::StreamName,
    net::{
        access::{Access, Asked, Denied, Grant},
        guard::FailedAuth,
        pending::Pending,
    },
    secret::{Digest, Secret},
};

/// Keys and tokens, who is in with them, and who has guessed at them.
pub struct Auth {
    /// What is so now.
    rules: ArcSwap<Rules>,
    /// What that is made of; whoever changes it holds it until it is so.
    sources: Mutex<Sources>,
    live: Live,
    failed: Mutex<FailedAuth>,
    /// Refusals that wait for their answer.
    delayed: Pending,
}

struct Sources {
    config: config::Auth,
    jwt: Arc<JwtKeys>,
    url: Arc<UrlKeys>,
    store: Store,
}

/// A file with keys that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct KeyFileError {
    path: String,
    why: String,
}

impl KeyFileError {
    fn new(path: &Path, why: &str) -> Self {
        Self { path: path.display().to_string(), why: why.to_owned() }
    }

    fn read(path: &Path, error: &io::Error) -> Self {
        Self::new(path, &error.to_string())
    }
}

/// Why a key was not made, changed or revoked.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no place to keep it.
    #[error("this node keeps no keys, because it has no data_dir: make them where one is set, such as the origin")]
    NoStore,
    /// As many are kept as may be.
    #[error("no more can be kept: revoke what is no longer used")]
    Full,
    /// There is none of that id.
    #[error("there is no such key")]
    Unknown,
    /// It could not be written.
    #[error("the keys can't be written: {0}")]
    Write(#[from] io::Error),
}

impl Auth {
    /// The rules in `config`, and the keys that the API has made before.
    pub fn open(config: &config::Auth, data_dir: Option<&Path>) -> Result<Arc<Self>, KeyFileError> {
        let mut sources = Sources {
            config: config.clone(),
            jwt: Arc::new(JwtKeys::load(&config.jwt)?),
            url: Arc::new(UrlKeys::load(&config.url)?),
            store: Store::open(data_dir)?,
        };
        sources.store.state.revocations.retain(|revoked| revoked.until > now_s());
        Ok(Arc::new(Self {
            rules: ArcSwap::from_pointee(sources.rules()),
            sources: Mutex::new(sources),
            live: Live::default(),
            failed: Mutex::default(),
            delayed: Pending::new(AUTH_DELAYED_MAX, AUTH_DELAYED_PER_ADDRESS_MAX),
        }))
    }

    /// The rules in `config` alone.
    #[cfg(test)]
    pub fn new(config: &config::Auth) -> Arc<Self> {
        Self::open(config, None).expect("key files that can be used")
    }

    /// Takes another configuration; what it no longer allows ends. With an error everything stays as it is.
    pub fn reload(&self, config: &config::Auth) -> Result<(), KeyFileError> {
        let (jwt, url) = (JwtKeys::load(&config.jwt)?, UrlKeys::load(&config.url)?);
        let mut sources = self.sources.lock();
        (sources.config, sources.jwt, sources.url) = (config.clone(), Arc::new(jwt), Arc::new(url));
        self.rules.store(Arc::new(sources.rules()));
        drop(sources);
        self.end_what_is_no_longer_allowed();
        Ok(())
    }

    /// May everybody watch?
    pub fn is_open(&self) -> bool {
        self.rules.load().open
    }

    /// Lets somebody call the API who needs `role`, for `stream` if there is one. Without a stream one prefix is enough,
    /// and the caller shows only what [`Auth::prefixes`] opens.
    pub async fn call(
        &self,
        peer: IpAddr,
        token: &str,
        role: TokenRole,
        stream: Option<&StreamName>,
    ) -> Result<Grant, Denied> {
        let digest = Digest::of(token);
        let prove = |rules: &Rules| Some((Proof::Secret(digest), rules.find(digest, role, stream, now_s())?));
        self.let_in(peer, token, role, stream, prove).await
    }

    /// The prefixes that `token` opens for `role`: what a list is filtered by.
    pub fn prefixes(&self, token: &str, role: TokenRole) -> Vec<String> {
        self.rules.load().prefixes(Digest::of(token), role, now_s())
    }

    /// Whether a peer at `address` may call the API: he has not failed too often.
    pub fn may_call(&self, address: IpAddr, token: &str, stream: Option<&StreamName>) -> bool {
        let guessed_at = self.rules.load().guessed_at(token, stream);
        self.failed.lock().may_try(address, &guessed_at, clock::now())
    }

    async fn let_in(
        &self,
        peer: IpAddr,
        secret: &str,
        role: TokenRole,
        stream: Option<&StreamName>,
        prove: impl FnOnce(&Rules) -> Option<(Proof, Right)>,
    ) -> Result<Grant, Denied> {
        let (proof, right) = self.look_at(peer, secret, stream, prove).await?;
        self.admit(proof, role, stream, right)
    }

    /// Looks at what somebody shows, unless he has failed too often; a wrong guess is answered late.
    async fn look_at<T>(
        &self,
        peer: IpAddr,
        secret: &str,
        stream: Option<&StreamName>,
        prove: impl FnOnce(&Rules) -> Option<T>,
    ) -> Result<T, Denied> {
        let rules = self.rules.load_full();
        let guessed_at = rules.guessed_at(secret, stream);
        if self.failed.lock().may_try(peer, &guessed_at, clock::now()) {
            if let Some(proven) = prove(&rules) {
                return Ok(proven);
            }
            self.failed.lock().failed(peer, &guessed_at, clock::now());
        }
        drop(rules);
        // Without a place there is no delay: he can't hold more than that, and has no more tries for it.
        if let Some(_place) = self.delayed.admit(peer) {
            tokio::time::sleep(rand::random_range(AUTH_FAILURE_DELAY_MIN..AUTH_FAILURE_DELAY_MAX)).await;
        }
        Err(Denied::Wrong)
    }

    fn admit(&self, proof: Proof, role: TokenRole, stream: Option<&StreamName>, right: Right) -> Result<Grant, Denied> {
        let revoked = CancellationToken::new();
        let session = Session { proof, role, stream: stream.cloned(), revoked: revoked.clone() };
        let session = self.live.enter(session, right.streams_max).ok_or(Denied::Full)?;
        // What was taken back between the question and the entry would not have found him.
        if !self.rules.load().still_allow(&session, now_s()) {
            return Err(Denied::Wrong);
        }
        Ok(Grant {
            priority: right.priority,
            events: right.events,
            bitrate_kbps_max: right.bitrate_kbps_max,
            expires: right.until.map(|until| clock::now() + left(until)),
            revoked,
            held: Some(session),
        })
    }

    fn end_what_is_no_longer_allowed(&self) {
        let (rules, now_s) = (self.rules.load_full(), now_s());
        self.live.keep(|session| rules.still_allow(session, now_s));
    }
}

/// What the API does with keys. All of it waits for the disk: not to be called on a shard.
impl Auth {
    /// The keys that the API has made.
    pub fn keys(&self) -> Vec<Key> {
        self.sources.lock().store.state.keys.clone()
    }

    /// What is revoked.
    pub fn revocations(&self) -> Vec<Revocation> {
        self.sources.lock().store.state.revocations.clone()
    }

    /// Makes a key; nobody is told its secret again.
    pub fn create(&self, terms: Terms) -> Result<(Key, Secret), KeyError> {
        let (now_s, now_ms) = (now_s(), clock::unix_ms());
        let id = ulid::Ulid::from_parts(u64::try_from(now_ms).unwrap_or(0), rand::random()).to_string();
        let secret = new_secret();
        let key = Key { id, created: now_s, sha256: Digest::of(secret.expose()), previous: None, terms };
        self.change(|state| {
            if state.keys.len() >= AUTH_KEYS_MAX {
                state.keys.retain(|key| key.terms.expires.is_none_or(|expires| expires > now_s));
            }
            if state.keys.len() >= AUTH_KEYS_MAX {
                return Err(KeyError::Full);
            }
            state.keys.push(key.clone());
            Ok((key, secret))
        })
    }

    /// Gives a key another secret; the one before stays good for `grace`.
    pub fn rotate(&self, id: &str, grace: Duration) -> Result<(Key, Secret), KeyError> {
        let secret = new_secret();
        self.change(|state| {
            let key = state.keys.iter_mut().find(|key| key.id == id).ok_or(KeyError::Unknown)?;
            let replaced = std::mem::replace(&mut key.sha256, Digest::of(secret.expose()));
            key.previous = (!grace.is_zero()).then(|| Previous { sha256: replaced, until: now_s() + grace.as_secs() });
            Ok((key.clone(), secret))
        })
    }

    /// Revokes a key; what it opened ends.
    pub fn revoke(&self, id: &str) -> Result<(), KeyError> {
        self.change(|state| {
            let before = state.keys.len();
            state.keys.retain(|key| key.id != id);
            if state.keys.len() < before { Ok(()) } else { Err(KeyError::Unknown) }
        })
    }

    /// Revokes JWTs; what they opened ends. A node without a data directory remembers it until it stops.
    pub fn revoke_jwt(&self, revocation: Revocation) -> Result<(), KeyError> {
        self.change_durable_or_not(|state| {
            state.revocations.retain(|known| {
                known.until > now_s() && (&known.sub, &known.jti) != (&revocation.sub, &revocation.jti)
            });
            if state.revocations.len() >= AUTH_REVOCATIONS_MAX {
                return Err(KeyError::Full);
            }
            state.revocations.push(revocation);
            Ok(())
        })
    }

    /// Ends what was let in with a secret whose grace is over.
    pub fn end_grace(&self) {
        self.end_what_is_no_longer_allowed();
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T, KeyError>) -> Result<T, KeyError> {
        if !self.sources.lock().store.is_durable() {
            return Err(KeyError::NoStore);
        }
        self.change_durable_or_not(change)
    }

    /// On disk, then in force, then what is over by it ends.
    fn change_durable_or_not<T>(&self, change: impl FnOnce(&mut State) -> Result<T, KeyError>) -> Result<T, KeyError> {
        let mut sources = self.sources.lock();
        let mut state = sources.store.state.clone();
        let done = change(&mut state)?;
        sources.store.save(state)?;
        self.rules.store(Arc::new(sources.rules()));
        drop(sources);
        self.end_what_is_no_longer_allowed();
        Ok(done)
    }
}

impl Access for Auth {
    fn ask<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Grant, Denied>> {
        async move {
            let Asked { action, stream, protocol, peer, secret } = asked;
            let role = roles::of_door(protocol, action).ok_or(Denied::Wrong)?;
            if role == TokenRole::Play && self.is_open() {
                return self.admit(Proof::Anyone, role, Some(stream), Right::default());
            }
            let secret = secret.ok_or(Denied::NoSecret)?;
            let prove = |rules: &Rules| rules.prove(secret, role, stream, now_s());
            self.let_in(peer.ip(), secret, role, Some(stream), prove).await
        }
        .boxed()
    }

    fn may_see(&self, stream: &StreamName, token: Option<&str>) -> bool {
        let rules = self.rules.load();
        rules.open || token.is_some_and(|token| rules.prove(token, TokenRole::Play, stream, now_s()).is_some())
    }

    fn edge<'a>(&'a self, token: &'a str, peer: IpAddr) -> BoxFuture<'a, Result<Option<Grant>, Denied>> {
        async move {
            let digest = Digest::of(token);
            let look = |rules: &Rules| match rules.find(digest, TokenRole::Relay, None, now_s()) {
                Some(right) => Some(Some(right)),
                None => rules.knows(token).then_some(None),
            };
            let found = self.look_at(peer, token, None, look).await?;
            found.map(|right| self.admit(Proof::Secret(digest), TokenRole::Relay, None, right)).transpose()
        }
        .boxed()
    }
}

impl Sources {
    fn rules(&self) -> Rules {
        Rules::new(&self.config, self.jwt.clone(), self.url.clone(), &self.store.state)
    }
}

/// 128 random bits.
pub fn new_secret() -> Secret {
    Secret::new(format!("{:032x}", rand::random::<u128>()))
}

/// UTC seconds.
fn now_s() -> u64 {
    u64::try_from(clock::unix_ms() / 1000).unwrap_or(0)
}

/// The time until `until`, UTC seconds; a far one is as good as any other.
fn left(until: u64) -> Duration {
    let until_ms = i64::try_from(until.saturating_mul(1000)).unwrap_or(i64::MAX);
    let left_ms = until_ms.saturating_sub(clock::unix_ms());
    Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)).min(FAR)
}

/// No session lives so long.
const FAR: Duration = Duration::from_secs(366 * 24 * 3600);

#[cfg(test)]
mod tests;
