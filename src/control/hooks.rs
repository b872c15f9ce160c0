//! Webhooks: the operator's backend decides who may publish and watch, and is told what happens.
//!
//! A question without an answer is answered no: new sessions are refused, those that run go on. A notice waits until
//! the backend takes it, in the order of its stream, and always under the same id.

mod breaker;
mod call;
mod notices;
mod watch;

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Semaphore;

use self::{
    breaker::Breaker,
    call::{Backend, Call, Failed},
    notices::Lanes,
};
pub use self::{call::HookError, notices::Told};
use crate::{
    clock::{self, Instant},
    config::{self, Decide, Notify},
    limits,
    media::StreamName,
    net::access::{Access, Action, Asked, Denied, Grant},
    observe::metrics::Metrics,
    secret::Digest,
};

/// The backend, and what is under way to it.
pub struct Hooks {
    rules: ArcSwap<Rules>,
    breaker: Mutex<Breaker>,
    /// The yes that viewers got lately, by token and stream.
    answers: Mutex<HashMap<Likeness, Remembered>>,
    lanes: Lanes,
    metrics: Arc<Metrics>,
}

/// What the configuration says, ready to be used. Without a URL nothing is asked or told.
pub struct Rules {
    config: config::Hooks,
    backend: Option<Backend>,
    /// Questions under way.
    turns: Semaphore,
    /// Those and the ones that wait for it.
    places: Semaphore,
}

/// Viewers that get the same answer.
type Likeness = (Option<[u8; 32]>, StreamName);

struct Remembered {
    yes: Yes,
    until: Instant,
}

/// A backend's yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Yes {
    /// When the session ends.
    expires: Option<Instant>,
    /// A publisher's, in place of his key's.
    priority: Option<u8>,
}

/// What a backend answers.
#[derive(Debug, Deserialize)]
struct Verdict {
    allow: bool,
    #[serde(default)]
    reason: String,
    expires_in_s: Option<u64>,
    priority: Option<u8>,
}

impl Hooks {
    /// Calls by these rules.
    pub fn new(rules: Rules, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            rules: ArcSwap::from_pointee(rules),
            breaker: Mutex::default(),
            answers: Mutex::default(),
            lanes: Lanes::default(),
            metrics,
        })
    }

    /// Goes on by these rules; what waits stays.
    pub fn set(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
        self.answers.lock().clear();
        *self.breaker.lock() = Breaker::default();
        self.metrics.hook_breaker_open.set(0);
    }

    /// Has the backend something against it? Changes what was granted as it says.
    async fn decide(&self, asked: Asked<'_>, grant: &mut Grant) -> Result<(), Denied> {
        let rules = self.rules.load_full();
        let Some(backend) = rules.decides(asked.action) else { return Ok(()) };
        let likeness = (asked.action == Action::Play && rules.config.cache_ms > 0)
            .then(|| (asked.secret.map(|secret| *Digest::of(secret).as_bytes()), asked.stream.clone()));
        let remembered = likeness.as_ref().and_then(|likeness| self.remembered(likeness));
        let yes = match remembered {
            Some(yes) => yes,
            None => self.ask_backend(&rules, backend, asked).await?,
        };
        if let (None, Some(likeness)) = (remembered, likeness) {
            self.remember(likeness, yes, rules.config.cache());
        }
        grant.expires = grant.expires.into_iter().chain(yes.expires).min();
        grant.priority = yes.priority.unwrap_or(grant.priority);
        Ok(())
    }

    async fn ask_backend(&self, rules: &Rules, backend: &Backend, asked: Asked<'_>) -> Result<Yes, Denied> {
        let began = clock::now();
        let answered = self.answer(rules, backend, asked).await;
        let result = match &answered {
            Ok(Verdict { allow: true, .. }) => "allowed",
            Ok(_) => "denied",
            Err(failed) => failed.label(),
        };
        self.metrics.hook_call("decide", result, began.elapsed());
        let (stream, peer) = (asked.stream, asked.peer);
        match answered {
            Ok(Verdict { allow: true, expires_in_s, priority, .. }) => {
                let expires = expires_in_s.and_then(|secs| clock::now().checked_add(Duration::from_secs(secs)));
                Ok(Yes { expires, priority })
            }
            Ok(Verdict { reason, .. }) => {
                let reason: String = reason.chars().take(limits::HOOK_REASON_CHARS_MAX).collect();
                tracing::info!(action = asked.action.as_str(), %stream, %peer, ?reason, "the hook says no");
                Err(Denied::Refused)
            }
            Err(failed) => {
                tracing::warn!(action = asked.action.as_str(), %stream, %peer, reason = %failed, "the hook gives no answer");
                Err(Denied::Undecided)
            }
        }
    }

    /// The backend's answer within the time that a question has.
    async fn answer(&self, rules: &Rules, backend: &Backend, asked: Asked<'_>) -> Result<Verdict, Failed> {
        let _place = rules.places.try_acquire().map_err(|_| Failed::Busy)?;
        if !self.breaker.lock().admit(clock::now()) {
            return Err(Failed::Open);
        }
        let body = Call::decide(asked).to_json();
        let asking = async {
            // It is never closed.
            let _turn = rules.turns.acquire().await;
            backend.ask(body).await
        };
        let answered = tokio::time::timeout(rules.config.timeout(), asking).await;
        let verdict = answered.unwrap_or(Err(Failed::TimedOut));
        let mut breaker = self.breaker.lock();
        let (turned, now_open) = match &verdict {
            Err(failed) if failed.is_temporary() => (breaker.failed(clock::now()), true),
            // It is there, and has said something. What a stranger makes it say shuts out nobody else.
            _ => (breaker.succeeded(), false),
        };
        drop(breaker);
        if turned {
            self.metrics.hook_breaker_open.set(i64::from(now_open));
            match now_open {
                true => tracing::error!("the hook is left alone for a while: new sessions are refused"),
                false => tracing::info!("the hook answers again"),
            }
        }
        verdict
    }

    fn remembered(&self, likeness: &Likeness) -> Option<Yes> {
        let now = clock::now();
        let answers = self.answers.lock();
        let remembered = answers.get(likeness)?;
        (remembered.until > now).then_some(remembered.yes)
    }

    fn remember(&self, likeness: Likeness, yes: Yes, cache: Duration) {
        let now = clock::now();
        let mut answers = self.answers.lock();
        if answers.len() >= limits::HOOK_ANSWERS_MAX {
            answers.retain(|_, remembered| remembered.until > now);
        }
        if answers.len() < limits::HOOK_ANSWERS_MAX {
            let until = yes.expires.into_iter().fold(now + cache, Instant::min);
            answers.insert(likeness, Remembered { yes, until });
        }
    }

    /// Is the backend told of this?
    fn tells(&self, notify: Notify) -> bool {
        let rules = self.rules.load();
        rules.backend.is_some() && rules.config.notify.contains(&notify)
    }

    fn tell<'a>(&self, notify: Notify, stream: &'a StreamName, what: impl FnOnce(Call<'a>) -> Call<'a>) {
        if self.tells(notify) {
            let call = what(Call::notify(notify.as_str(), stream));
            let queue_max = self.rules.load().config.queue_max;
            let dropped = self.lanes.push(notify, stream, call.to_json(), queue_max);
            self.metrics.hook_notices_dropped.inc_by(dropped);
        }
    }
}

impl Rules {
    /// Reads what `config` names.
    pub fn new(config: &config::Hooks) -> Result<Self, HookError> {
        Ok(Self {
            backend: Backend::new(config)?,
            turns: Semaphore::new(config.concurrency),
            places: Semaphore::new(limits::HOOK_QUESTIONS_WAITING_MAX),
            config: config.clone(),
        })
    }

    /// Who is asked about it.
    fn decides(&self, action: Action) -> Option<&Backend> {
        let decide = match action {
            Action::Publish => Decide::Publish,
            Action::Play => Decide::Play,
        };
        self.backend.as_ref().filter(|_| self.config.decide.contains(&decide))
    }
}

/// Who may do what, where the backend has a say: first the key or token must be right.
pub struct Hooked {
    access: Arc<dyn Access>,
    hooks: Arc<Hooks>,
}

impl Hooked {
    /// `access`, and then `hooks`.
    pub fn new(access: Arc<dyn Access>, hooks: Arc<Hooks>) -> Arc<Self> {
        Arc::new(Self { access, hooks })
    }
}

impl Access for Hooked {
    fn ask<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Grant, Denied>> {
        async move {
            let mut grant = self.access.ask(asked).await?;
            self.hooks.decide(asked, &mut grant).await?;
            if asked.action == Action::Play {
                let told = Told::of(&self.hooks, asked);
                grant.held = Some(Arc::new((grant.held.take(), told)));
            }
            Ok(grant)
        }
        .boxed()
    }

    fn may_see(&self, stream: &StreamName, token: Option<&str>) -> bool {
        self.access.may_see(stream, token)
    }

    fn edge<'a>(&'a self, token: &'a str, peer: IpAddr) -> BoxFuture<'a, Result<Option<Grant>, Denied>> {
        self.access.edge(token, peer)
    }
}

#[cfg(test)]
mod tests;
