//! An edge's upstream: one session with the first of an ordered list of servers that answers, its
//! announcements mirrored into the local hub.
//!
//! Viewers outlive sessions with upstreams: when one is lost, streams stay for the reconnect window.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    Relay,
    client::Client,
    subscribe::{Mirror, PullError},
};
use crate::{
    clock::{self, Instant},
    hub::{Unseated, Viewer},
    limits::MOQ_UPSTREAM_RECEIVE_WINDOW_BYTES,
    media::StreamName,
    net::tls::Trust,
    proto::moq::lite05::AnnounceBroadcast,
};

/// Where an edge takes its streams from.
pub struct Upstream {
    relay: Arc<Relay>,
    /// In order of preference.
    urls: Vec<Url>,
    trust: Trust,
    mirrors: HashMap<StreamName, Mirrored>,
}

struct Mirrored {
    mirror: Arc<Mirror>,
    /// Events for all rooms are pulled whether anybody watches or not.
    _pulled: Option<Viewer>,
    /// When the session was lost that announced it; `None` while it is announced.
    lost: Option<Instant>,
}

/// Why a session with an upstream ended.
#[derive(Debug, thiserror::Error)]
enum Leave {
    /// It is draining; others come first now.
    #[error("the server asked us to go")]
    Asked,
    /// It is gone.
    #[error("{0}")]
    Lost(String),
}

type Pull<'a> = BoxFuture<'a, (StreamName, Option<PullError>)>;

impl Upstream {
    /// Servers in order of preference; their URLs carry the token.
    pub fn new(relay: Arc<Relay>, urls: Vec<Url>, trust: Trust) -> Self {
        Self { relay, urls, trust, mirrors: HashMap::new() }
    }

    /// Keeps a session with the first server that answers, until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let serving = async {
            let mut backoff = Backoff::default();
            let mut draining = None;
            loop {
                for index in (0..self.urls.len()).filter(|index| draining != Some(*index)).collect::<Vec<_>>() {
                    if let Some(leave) = self.session(index).await {
                        backoff = Backoff::default();
                        draining = matches!(leave, Leave::Asked).then_some(index);
                        // Back to the most preferred one.
                        break;
                    }
                    draining = None;
                }
                self.sweep();
                tokio::time::sleep(backoff.next()).await;
                self.relay.metrics.upstream_reconnects.inc();
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = serving => {}
        }
    }

    /// One session with a server; `None` if it could not be reached.
    async fn session(&mut self, index: usize) -> Option<Leave> {
        let url = self.urls.get(index)?;
        let server = format!("{}:{}", url.host_str().unwrap_or_default(), url.port().unwrap_or_default());
        let (runtime, hop) = (self.relay.runtime.clone(), self.relay.routes.hop());
        let connecting = Client::connect_on(runtime, url, &self.trust, hop, MOQ_UPSTREAM_RECEIVE_WINDOW_BYTES);
        let client = match connecting.await {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(%server, %error, "upstream not reached");
                return None;
            }
        };
        tracing::info!(%server, "upstream session began");
        self.relay.metrics.upstream_connected.set(1);
        let leave = self.mirror(&client).await;
        self.relay.metrics.upstream_connected.set(0);
        tracing::info!(%server, reason = %leave, streams = self.mirrors.len(), "upstream session ended");
        let now = clock::now();
        for mirrored in self.mirrors.values_mut() {
            mirrored.lost.get_or_insert(now);
        }
        Some(leave)
    }

    /// Mirrors what the server announces until the session ends.
    async fn mirror(&mut self, client: &Client) -> Leave {
        let mut announced = match client.announced("").await {
            Ok(announced) => announced,
            Err(error) => return Leave::Lost(error.to_string()),
        };
        // With nowhere else to go, what the server still sends is better than nothing.
        let elsewhere = self.urls.len() > 1;
        let relay = self.relay.clone();
        let mut pulls: FuturesUnordered<Pull<'_>> = FuturesUnordered::new();
        let mut running: HashMap<StreamName, AbortHandle> = HashMap::new();
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                change = announced.next() => match change {
                    Ok(Some(change)) => {
                        let Ok(name) = change.suffix.parse::<StreamName>() else { continue };
                        // Whatever ran for that name was told by an older announcement.
                        if let Some(pull) = running.remove(&name) {
                            pull.abort();
                        }
                        if let Some(mirror) = self.handle_announcement(&name, change) {
                            let (handle, registration) = AbortHandle::new_pair();
                            running.insert(name.clone(), handle);
                            pulls.push(pull(client, &relay, name, mirror, registration).boxed());
                        }
                    }
                    Ok(None) => return Leave::Lost("announcements ended".to_owned()),
                    Err(error) => return Leave::Lost(error.to_string()),
                },
                Some((name, error)) = pulls.next() => match error {
                    // It is a local stream now.
                    Some(PullError::Replaced(_) | PullError::Unseated(Unseated::Busy)) => self.forget(&name),
                    Some(PullError::Session(_)) | None => {}
                    Some(error) => tracing::warn!(stream = %name, %error, "upstream subscription failed"),
                },
                error = client.closed() => return Leave::Lost(error.to_string()),
                () = client.goaway(), if elsewhere => return Leave::Asked,
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    /// Notes an announcement; gives the mirror to pull into, if there is one to be.
    fn handle_announcement(&mut self, name: &StreamName, change: AnnounceBroadcast) -> Option<Arc<Mirror>> {
        if !change.active {
            let mirrored = self.mirrors.remove(name)?;
            self.relay.hub.unannounce(&mirrored.mirror.stream());
            self.relay.routes.forget(name);
            return None;
        }
        // It has been here before, or somebody publishes it here.
        let known = self.mirrors.contains_key(name);
        if change.hops.contains(&self.relay.routes.hop()) || !known && self.relay.hub.is_announced(name) {
            return None;
        }
        self.relay.routes.learn(name, change.hops);
        // A stream that ended here while its upstream was away begins anew.
        let stream = self.relay.hub.announce(name).inspect_err(|error| tracing::warn!(%error)).ok()?;
        let mirror = match self.mirrors.remove(name) {
            Some(mirrored) if Arc::ptr_eq(&mirrored.mirror.stream(), &stream) => mirrored.mirror,
            _ => Arc::new(Mirror::new(stream)),
        };
        let pulled = name.is_global().then(|| self.relay.hub.view(name).ok()).flatten();
        self.mirrors.insert(name.clone(), Mirrored { mirror: mirror.clone(), _pulled: pulled, lost: None });
        Some(mirror)
    }

    /// Ends the streams whose upstream has been away for longer than viewers wait.
    fn sweep(&mut self) {
        let window = self.relay.hub.settings().reconnect_window;
        let over = |mirrored: &Mirrored| mirrored.lost.is_some_and(|lost| lost.elapsed() >= window);
        let names: Vec<_> = self.mirrors.iter().filter(|(_, m)| over(m)).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(mirrored) = self.mirrors.get(&name) {
                self.relay.hub.unannounce(&mirrored.mirror.stream());
            }
            self.forget(&name);
        }
    }

    fn forget(&mut self, name: &StreamName) {
        self.mirrors.remove(name);
        self.relay.routes.forget(name);
    }
}

async fn pull(
    client: &Client,
    relay: &Arc<Relay>,
    name: StreamName,
    mirror: Arc<Mirror>,
    registration: futures_util::future::AbortRegistration,
) -> (StreamName, Option<PullError>) {
    let pulled = Abortable::new(mirror.pull(client, relay), registration).await;
    (name, pulled.ok().and_then(Result::err))
}

/// 100 ms to 2 s, jittered: edges that lost the same server don't come back at the same moment.
#[derive(Default)]
struct Backoff {
    tries: u32,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let ceiling = BACKOFF_MIN.saturating_mul(1 << self.tries.min(8)).min(BACKOFF_MAX);
        self.tries += 1;
        ceiling.mul_f64(rand::random_range(0.5..=1.0))
    }
}

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// How often streams are looked at whose upstream went away.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
