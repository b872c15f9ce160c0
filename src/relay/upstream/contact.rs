//! Contact with one upstream server: a session whenever it can be had, and a new one beside it when it is about to
//! leave or has fallen silent.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{sync::mpsc, time::Interval};
use url::Url;

use super::PROOF_TIME;
use crate::{
    clock::{self, Instant},
    limits::MOQ_UPSTREAM_RECEIVE_WINDOW_BYTES,
    net::tls::{Identity, Trust},
    proto::moq::lite05::AnnounceBroadcast,
    relay::{
        Relay,
        client::{Announced, Client, ConnectError},
    },
};

/// A server and how it is reached.
pub(super) struct Contact {
    /// With the token.
    pub url: Url,
    /// Whom we take for it.
    pub trust: Trust,
    /// What we show it, if it is to know us by a certificate.
    pub identity: Option<Identity>,
    /// The node that it is an upstream of.
    pub relay: Arc<Relay>,
}

/// What became of a server.
pub(super) enum News {
    /// It answered. What it announces follows; what an earlier session announced is over.
    Up(Arc<Client>),
    /// A stream came, went, or comes another way.
    Announced(AnnounceBroadcast),
    /// It sends nothing, not even answers.
    Silent,
    /// It sends again.
    Heard,
    /// It asked us to go; it may still send.
    Leaving,
    /// The session has ended.
    Down,
}

/// A session being followed.
struct Session {
    client: Arc<Client>,
    announced: Announced,
    began: Instant,
    leaving: bool,
    silent: bool,
    /// Datagrams at the last look that found new ones, and when that was.
    heard: (u64, Instant),
    look: Interval,
}

enum Change {
    News(News),
    Ended(String),
}

type Dialling<'a> = BoxFuture<'a, Result<(Client, Announced), ConnectError>>;

impl Contact {
    /// Keeps contact for ever; tells with `index` what happens.
    pub(super) async fn keep(self, index: usize, tell: mpsc::Sender<(usize, News)>) {
        let server = format!("{}:{}", self.url.host_str().unwrap_or_default(), self.url.port().unwrap_or_default());
        let (mut backoff, mut session, mut dialling) = (Backoff::default(), None::<Session>, None::<Dialling<'_>>);
        loop {
            let wanted = session.as_ref().is_none_or(|session| session.leaving || session.silent);
            if !wanted {
                dialling = None;
            } else if dialling.is_none() {
                dialling = Some(self.dial(backoff.next()).boxed());
            }
            let news = tokio::select! {
                dialled = poll(&mut dialling) => {
                    dialling = None;
                    match dialled {
                        Ok((client, announced)) => {
                            tracing::info!(%server, "upstream session began");
                            let client = Arc::new(client);
                            session = Some(Session::new(client.clone(), announced));
                            News::Up(client)
                        }
                        Err(error) => {
                            backoff.log(&server, &error);
                            self.relay.metrics.upstream_reconnects.inc();
                            continue;
                        }
                    }
                }
                change = follow(&mut session) => {
                    if session.as_ref().is_some_and(Session::is_proven) {
                        backoff = Backoff::default();
                    }
                    match change {
                        Change::News(news) => news,
                        Change::Ended(reason) => {
                            tracing::info!(%server, %reason, "upstream session ended");
                            session = None;
                            self.relay.metrics.upstream_reconnects.inc();
                            News::Down
                        }
                    }
                }
            };
            match news {
                News::Silent => tracing::warn!(%server, "upstream is silent"),
                News::Heard => tracing::info!(%server, "upstream is heard again"),
                News::Leaving => tracing::info!(%server, "upstream asks us to go"),
                _ => {}
            }
            if tell.send((index, news)).await.is_err() {
                return;
            }
        }
    }

    async fn dial(&self, pause: Duration) -> Result<(Client, Announced), ConnectError> {
        tokio::time::sleep(pause).await;
        let (runtime, hop) = (self.relay.runtime.clone(), self.relay.routes.hop());
        let window_bytes = MOQ_UPSTREAM_RECEIVE_WINDOW_BYTES;
        let client =
            Client::connect_on(runtime, &self.url, &self.trust, self.identity.as_ref(), hop, window_bytes).await?;
        let announced = client.announced("").await?;
        Ok((client, announced))
    }
}

impl Session {
    fn new(client: Arc<Client>, announced: Announced) -> Self {
        let heard = (client.datagrams_received(), clock::now());
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self { client, announced, began: heard.1, leaving: false, silent: false, heard, look }
    }

    /// It lasts: when it ends, that is no reason to wait before the next. A server that lets in and hangs up is.
    fn is_proven(&self) -> bool {
        self.began.elapsed() >= PROOF_TIME
    }

    /// What changes next. Cancel safe.
    async fn change(&mut self) -> Change {
        loop {
            tokio::select! {
                announced = self.announced.next() => return match announced {
                    Ok(Some(change)) => Change::News(News::Announced(change)),
                    // A session that drains may end them first.
                    Ok(None) => Change::Ended("announcements ended".to_owned()),
                    Err(error) => Change::Ended(error.to_string()),
                },
                error = self.client.closed() => return Change::Ended(error.to_string()),
                () = self.client.goaway(), if !self.leaving => {
                    self.leaving = true;
                    return Change::News(News::Leaving);
                }
                _ = self.look.tick() => if let Some(news) = self.listen() {
                    return Change::News(news);
                },
            }
        }
    }

    fn listen(&mut self) -> Option<News> {
        let (now, datagrams) = (clock::now(), self.client.datagrams_received());
        if datagrams != self.heard.0 {
            self.heard = (datagrams, now);
        }
        let silent = now - self.heard.1 >= SILENCE_MAX;
        let changed = std::mem::replace(&mut self.silent, silent) != silent;
        changed.then_some(if silent { News::Silent } else { News::Heard })
    }
}

async fn poll<T>(dialling: &mut Option<BoxFuture<'_, T>>) -> T {
    match dialling {
        Some(dialling) => dialling.await,
        None => std::future::pending().await,
    }
}

async fn follow(session: &mut Option<Session>) -> Change {
    match session {
        Some(session) => session.change().await,
        None => std::future::pending().await,
    }
}

/// None at first, then 100 ms to 2 s, jittered: edges that lost the same server don't come back at the same moment.
#[derive(Default)]
struct Backoff {
    tries: u32,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let ceiling = BACKOFF_MIN.saturating_mul(1 << self.tries.saturating_sub(1).min(8)).min(BACKOFF_MAX);
        self.tries += 1;
        if self.tries == 1 { Duration::ZERO } else { ceiling.mul_f64(rand::random_range(0.5..=1.0)) }
    }

    /// Once a row of failures.
    fn log(&self, server: &str, error: &ConnectError) {
        if self.tries == 1 {
            tracing::warn!(%server, %error, "upstream not reached");
        } else {
            tracing::debug!(%server, %error, "upstream not reached");
        }
    }
}

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// How often is looked whether something came.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A server that has sent nothing for this long is silent: three keep-alives without an answer.
const SILENCE_MAX: Duration = Duration::from_millis(700);
