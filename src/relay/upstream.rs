//! An edge's upstreams: a session with each, and for each stream the best of those that announce it, mirrored into
//! the local hub.
//!
//! Sessions with further upstreams are held warm, so that losing one costs no handshake. A stream moves to another
//! upstream before the old one is let go, and back once the preferred one has been well for a while. Viewers outlive
//! all of it: when nobody has a stream any more, it stays for the reconnect window.

mod contact;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use url::Url;

use self::contact::{Contact, News};
use super::{
    Relay,
    client::Client,
    subscribe::{Mirror, Route},
};
use crate::{
    clock::{self, Instant},
    hub::{State, Viewer},
    limits::{MOQ_HOPS_MAX, STREAMS_MAX},
    media::StreamName,
    net::tls::{Identity, Trust},
    proto::moq::lite05::AnnounceBroadcast,
    task,
};

/// Where an edge takes its streams from.
pub struct Upstream {
    relay: Arc<Relay>,
    /// In order of preference.
    urls: Vec<Url>,
    trust: Trust,
    identity: Option<Identity>,
    sessions: Vec<Option<Session>>,
    mirrors: HashMap<StreamName, Mirrored>,
    /// What had no place here and is announced still: the log knows.
    refused: BTreeSet<StreamName>,
}

/// How good a session is to pull from; better ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Well,
    /// It is draining, and sends as long as it can.
    Leaving,
    Silent,
}

struct Session {
    client: Arc<Client>,
    health: Health,
    /// Since when its health is what it is.
    since: Instant,
    /// What it announces, and through which nodes.
    chains: HashMap<StreamName, Vec<u64>>,
}

struct Mirrored {
    mirror: Arc<Mirror>,
    /// Events for all rooms are pulled whether anybody watches or not.
    _pulled: Option<Viewer>,
    /// The server it comes from.
    server: Option<usize>,
    routes: watch::Sender<Option<Route>>,
    pull: AbortOnDropHandle<()>,
    /// Since when nobody has it.
    lost: Option<Instant>,
}

impl Upstream {
    /// Servers in order of preference; their URLs carry the token.
    pub fn new(relay: Arc<Relay>, urls: Vec<Url>, trust: Trust) -> Self {
        let sessions = urls.iter().map(|_| None).collect();
        Self { relay, urls, trust, identity: None, sessions, mirrors: HashMap::new(), refused: BTreeSet::new() }
    }

    /// Shows servers a certificate, by which they know us.
    pub fn with_identity(self, identity: Option<Identity>) -> Self {
        Self { identity, ..self }
    }

    /// Keeps sessions with all servers until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let (tell, mut told) = mpsc::channel(NEWS_QUEUE_MAX);
        let contacts = self.urls.iter().cloned().enumerate().map(|(index, url)| {
            let (trust, identity) = (self.trust.clone(), self.identity.clone());
            let contact = Contact { url, trust, identity, relay: self.relay.clone() };
            AbortOnDropHandle::new(task::spawn("upstream session", contact.keep(index, tell.clone())))
        });
        let contacts: Vec<_> = contacts.collect();
        let serving = async {
            let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
            loop {
                tokio::select! {
                    Some((server, news)) = told.recv() => self.handle_news(server, news),
                    _ = sweep.tick() => self.sweep(),
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = serving => {}
        }
        drop(contacts);
    }

    fn handle_news(&mut self, server: usize, news: News) {
        let Some(slot) = self.sessions.get_mut(server) else { return };
        let health = match news {
            News::Announced(change) => return self.handle_announcement(server, change),
            News::Up(client) => {
                *slot = Some(Session { client, health: Health::Well, since: clock::now(), chains: HashMap::new() });
                None
            }
            News::Down => {
                *slot = None;
                None
            }
            News::Silent => Some(Health::Silent),
            News::Heard => Some(Health::Well),
            News::Leaving => Some(Health::Leaving),
        };
        if let (Some(session), Some(health)) = (slot, health) {
            (session.health, session.since) = (health, clock::now());
        }
        let up = self.sessions.iter().flatten().count();
        self.relay.metrics.upstream_connected.set(i64::try_from(up).unwrap_or(i64::MAX));
        self.steer_all();
    }

    fn handle_announcement(&mut self, server: usize, change: AnnounceBroadcast) {
        let Ok(name) = change.suffix.parse::<StreamName>() else { return };
        let Some(Some(session)) = self.sessions.get_mut(server) else { return };
        // What came through here already is not to be had there, though it has not ended.
        let usable = !change.hops.contains(&self.relay.routes.hop()) && change.hops.len() < MOQ_HOPS_MAX;
        if change.active && usable && session.chains.len() < STREAMS_MAX {
            session.chains.insert(name.clone(), change.hops);
        } else {
            session.chains.remove(&name);
        }
        let ended = !change.active
            && self.best(&name).is_none()
            && self.mirrors.get(&name).is_some_and(|mirrored| mirrored.server == Some(server));
        if ended { self.end(&name) } else { self.steer(&name) }
    }

    /// The server that `name` is to come from: the most preferred of those that are well. One that has just come
    /// (back) has to prove itself before streams move to it.
    fn best(&self, name: &StreamName) -> Option<usize> {
        let current = self.mirrors.get(name).and_then(|mirrored| mirrored.server);
        let is_served = current.is_some_and(|server| self.announces(server, name).is_some());
        let candidates = (0..self.sessions.len()).filter_map(|server| Some((server, self.announces(server, name)?)));
        let rank = |(server, session): &(usize, &Session)| {
            let proven = !is_served || current == Some(*server) || session.since.elapsed() >= PROOF_TIME;
            (session.health, !proven, *server)
        };
        candidates.min_by_key(rank).map(|(server, _)| server)
    }

    fn announces(&self, server: usize, name: &StreamName) -> Option<&Session> {
        self.sessions.get(server)?.as_ref().filter(|session| session.chains.contains_key(name))
    }

    fn steer_all(&mut self) {
        let announced = self.sessions.iter().flatten().flat_map(|session| session.chains.keys());
        let names: BTreeSet<_> = announced.chain(self.mirrors.keys()).cloned().collect();
        names.iter().for_each(|name| self.steer(name));
    }

    /// Lets a stream come from where it comes best.
    fn steer(&mut self, name: &StreamName) {
        let best = self.best(name).and_then(|server| {
            let session = self.announces(server, name)?;
            let chain = session.chains.get(name)?.clone();
            Some((server, Route { client: session.client.clone(), origin: chain.first().copied() }, chain))
        });
        let Some((server, route, chain)) = best else { return self.lose(name) };
        if self.mirrors.contains_key(name) {
            self.relay.routes.learn(name, chain);
        } else if !self.mirror(name, chain) {
            return;
        }
        let Some(mirrored) = self.mirrors.get_mut(name) else { return };
        (mirrored.server, mirrored.lost) = (Some(server), None);
        mirrored.routes.send_if_modified(|known| {
            let same = known.as_ref().is_some_and(|known| Arc::ptr_eq(&known.client, &route.client));
            *known = Some(route);
            !same
        });
    }

    /// Nobody has the stream. A session that only asked us to go, and has a successor, may send until its end; one
    /// that has the stream from us, or from nobody, may not: two nodes would keep it from each other for ever.
    fn lose(&mut self, name: &StreamName) {
        let Some(mirrored) = self.mirrors.get_mut(name) else { return };
        let current = mirrored.server.and_then(|server| Some(&self.sessions.get(server)?.as_ref()?.client));
        let is_over = |route: &mut Route| {
            route.client.is_closed() || current.is_some_and(|client| Arc::ptr_eq(client, &route.client))
        };
        mirrored.routes.send_if_modified(|route| route.take_if(is_over).is_some());
        if mirrored.routes.borrow().is_none() {
            mirrored.server = None;
            mirrored.lost.get_or_insert_with(clock::now);
        }
    }

    /// Begins to mirror a stream that an upstream announced, unless it is published here.
    fn mirror(&mut self, name: &StreamName, chain: Vec<u64>) -> bool {
        if self.relay.hub.is_announced(name) {
            return false;
        }
        // Before other shards announce it: whom it came through must not take it from us.
        self.relay.routes.learn(name, chain);
        let stream = match self.relay.hub.announce(name) {
            Ok(stream) => stream,
            Err(error) => {
                self.relay.routes.forget(name);
                if self.refused.insert(name.clone()) {
                    tracing::warn!(stream = %name, %error, "an upstream's stream has no place here");
                }
                return false;
            }
        };
        let mirror = Arc::new(Mirror::new(stream));
        let pulled = name.is_global().then(|| self.relay.hub.view(name).ok()).flatten();
        let (routes, route) = watch::channel(None);
        let (relay, pulling, stream) = (self.relay.clone(), mirror.clone(), name.clone());
        let pull = task::spawn("upstream pull", async move {
            let error = pulling.pull(&relay, route).await;
            tracing::info!(%stream, reason = %error, "no longer pulled from upstream");
        });
        let pull = AbortOnDropHandle::new(pull);
        let mirrored = Mirrored { mirror, _pulled: pulled, server: None, routes, pull, lost: None };
        self.mirrors.insert(name.clone(), mirrored);
        true
    }

    /// Forgets the streams that are published here or have ended, ends those whose upstreams have been away for longer than viewers
    /// wait, and looks again where each comes from best.
    fn sweep(&mut self) {
        let window = self.relay.hub.settings().reconnect_window;
        let is_local = |mirrored: &Mirrored| {
            let stream = mirrored.mirror.stream();
            mirrored.pull.is_finished() || !stream.is_relayed() || stream.state() == State::Ended
        };
        let is_over = |mirrored: &Mirrored| mirrored.lost.is_some_and(|lost| lost.elapsed() >= window);
        let (local, rest): (Vec<_>, Vec<_>) = self.mirrors.iter().partition(|(_, mirrored)| is_local(mirrored));
        let over: Vec<_> = rest.into_iter().filter(|(_, m)| is_over(m)).map(|(name, _)| name.clone()).collect();
        let local: Vec<_> = local.into_iter().map(|(name, _)| name.clone()).collect();
        local.iter().for_each(|name| self.forget(name));
        over.iter().for_each(|name| self.end(name));
        self.refused.retain(|name| self.sessions.iter().flatten().any(|session| session.chains.contains_key(name)));
        self.steer_all();
    }

    fn end(&mut self, name: &StreamName) {
        if let Some(mirrored) = self.mirrors.get(name) {
            let stream = mirrored.mirror.stream();
            if stream.is_relayed() {
                self.relay.hub.unannounce(&stream);
            }
        }
        self.forget(name);
    }

    fn forget(&mut self, name: &StreamName) {
        self.mirrors.remove(name);
        self.relay.routes.forget(name);
    }
}

/// News of upstreams that wait to be handled; then the upstreams wait.
const NEWS_QUEUE_MAX: usize = 256;

/// How long an upstream must have been well before streams move to it that come from elsewhere.
const PROOF_TIME: Duration = Duration::from_secs(5);

/// How often is looked whether something is over, or better to be had elsewhere.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
