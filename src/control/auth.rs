//! Who may publish, watch and call the API. Nobody, until the configuration says so.
//!
//! An unknown name and a wrong key get the same answer, and cost the same: a name can't be probed.

use std::{net::IpAddr, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;

use crate::{
    clock,
    config::{self, PlayPolicy, TokenRole},
    limits::{AUTH_FAILURE_DELAY_MAX, AUTH_FAILURE_DELAY_MIN},
    media::StreamName,
    net::{
        access::{Access, Action, Asked, Denied, Grant},
        guard::FailedAuth,
    },
    secret::Digest,
};

/// The keys and tokens of a configuration, and who has guessed at them.
#[derive(Debug)]
pub struct Auth {
    config: config::Auth,
    failed: Mutex<FailedAuth>,
}

impl Auth {
    /// The rules in `config`.
    pub fn new(config: &config::Auth) -> Arc<Self> {
        Arc::new(Self { config: config.clone(), failed: Mutex::default() })
    }

    /// May everybody watch?
    pub fn is_open(&self) -> bool {
        self.config.play == PlayPolicy::Anyone
    }

    /// Does `token` carry `role`, for `name` if there is one? Without a name one prefix is enough, and the
    /// caller shows only what [`Auth::prefixes`] opens.
    pub fn may(&self, token: &str, role: TokenRole, name: Option<&StreamName>) -> bool {
        let presented = Digest::of(token);
        any(self.config.token.iter().map(|rule| {
            (rule.token_sha256 == presented)
                & rule.roles.contains(&role)
                & name.is_none_or(|name| name.is_under(&rule.prefix))
        }))
    }

    /// The prefixes that `token` opens for `role`: what a list is filtered by.
    pub fn prefixes(&self, token: &str, role: TokenRole) -> Vec<&str> {
        let presented = Digest::of(token);
        let rules = self.config.token.iter();
        let opened = rules.filter(|rule| (rule.token_sha256 == presented) & rule.roles.contains(&role));
        opened.map(|rule| rule.prefix.as_str()).collect()
    }

    /// Whether a peer at `address` has not failed too often to be listened to.
    pub fn may_try(&self, address: IpAddr) -> bool {
        self.failed.lock().may_try(address, clock::now())
    }

    /// Remembers that a peer at `address` failed.
    pub fn failed(&self, address: IpAddr) {
        self.failed.lock().failed(address, clock::now());
    }

    fn publish(&self, stream: &StreamName, key: &str) -> Option<Grant> {
        let presented = Digest::of(key);
        let rules = self.config.publish.iter();
        let opened = rules.filter(|rule| (rule.key_sha256 == presented) & stream.is_under(&rule.prefix));
        // All of them, so that the time taken tells nothing.
        opened.fold(None, |grant: Option<Grant>, rule| {
            Some(Grant { events: rule.events | grant.unwrap_or_default().events, ..Grant::default() })
        })
    }

    fn play(&self, stream: &StreamName, token: &str) -> Option<Grant> {
        self.may(token, TokenRole::Play, Some(stream)).then(Grant::default)
    }
}

impl Access for Auth {
    fn ask<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Grant, Denied>> {
        async move {
            let Asked { action, stream, peer, secret, .. } = asked;
            if action == Action::Play && self.is_open() {
                return Ok(Grant::default());
            }
            let secret = secret.ok_or(Denied::NoSecret)?;
            let granted = self.may_try(peer.ip()).then(|| match action {
                Action::Publish => self.publish(stream, secret),
                Action::Play => self.play(stream, secret),
            });
            if let Some(Some(grant)) = granted {
                return Ok(grant);
            }
            if granted.is_some() {
                self.failed(peer.ip());
            }
            tokio::time::sleep(rand::random_range(AUTH_FAILURE_DELAY_MIN..AUTH_FAILURE_DELAY_MAX)).await;
            Err(Denied::Wrong)
        }
        .boxed()
    }

    fn may_see(&self, stream: &StreamName, token: Option<&str>) -> bool {
        self.is_open() || token.is_some_and(|token| self.play(stream, token).is_some())
    }

    fn edge(&self, token: &str) -> Option<Grant> {
        self.may(token, TokenRole::Relay, None).then(Grant::default)
    }
}

/// Looks at every rule, also after one has matched, so that the time taken tells nothing of them.
fn any(rules: impl Iterator<Item = bool>) -> bool {
    rules.fold(false, |found, rule| found | rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    use crate::{
        config::{PublishKey, Token},
        limits,
        observe::metrics::Protocol,
    };

    fn name(text: &str) -> StreamName {
        text.parse().expect("a stream name")
    }

    fn auth(play: PlayPolicy) -> Arc<Auth> {
        let token = |prefix: &str, token: &str, roles: &[TokenRole]| Token {
            prefix: prefix.into(),
            token_sha256: Digest::of(token),
            roles: roles.to_vec(),
        };
        Auth::new(&config::Auth {
            play,
            publish: vec![
                PublishKey { prefix: "live".into(), key_sha256: Digest::of("live-key"), events: false },
                PublishKey { prefix: "live/room".into(), key_sha256: Digest::of("room-key"), events: true },
            ],
            token: vec![
                token("live", "director", &[TokenRole::EventsWrite, TokenRole::ApiRead]),
                token("shop", "director", &[TokenRole::ApiRead]),
                token("", "edge", &[TokenRole::Relay]),
                token("live/room", "viewer", &[TokenRole::Play]),
            ],
        })
    }

    #[test]
    fn the_default_opens_nothing() {
        let auth = Auth::new(&config::Auth::default());
        let room = name("live/room");
        assert!(auth.publish(&room, "").is_none() && auth.play(&room, "").is_none());
        assert!(!auth.may_see(&room, None) && !auth.may_see(&room, Some("")) && auth.edge("").is_none());
        for role in [TokenRole::EventsWrite, TokenRole::ApiRead, TokenRole::Relay, TokenRole::Play] {
            assert!(!auth.may("", role, None));
        }
    }

    #[test]
    fn a_key_opens_its_prefix_only() {
        let auth = auth(PlayPolicy::Deny);
        for (stream, key, allowed) in [
            ("live/room", "live-key", true),
            ("live/room", "room-key", true),
            ("live/other", "live-key", true),
            ("live/other", "room-key", false),
            ("liver/room", "live-key", false),
            ("live/room", "live-kez", false),
            ("live/room", "", false),
            ("unknown", "live-key", false),
        ] {
            assert_eq!(auth.publish(&name(stream), key).is_some(), allowed, "{stream} {key}");
        }
        for (stream, key, allowed) in
            [("live/room", "room-key", true), ("live/room", "live-key", false), ("live/other", "room-key", false)]
        {
            let grant = auth.publish(&name(stream), key);
            assert_eq!(grant.is_some_and(|grant| grant.events), allowed, "{stream} {key}");
        }
    }

    #[test]
    fn a_token_needs_role_and_prefix_in_one_rule() {
        let auth = auth(PlayPolicy::Deny);
        let (live, shop) = (name("live/room"), name("shop/room"));
        assert!(auth.may("director", TokenRole::EventsWrite, Some(&live)));
        assert!(auth.may("director", TokenRole::ApiRead, Some(&shop)));
        assert!(auth.may("director", TokenRole::ApiRead, None));
        assert!(!auth.may("director", TokenRole::EventsWrite, Some(&shop)));
        assert!(!auth.may("director", TokenRole::Relay, None));
        assert!(auth.may("edge", TokenRole::Relay, Some(&shop)));
        assert_eq!(auth.prefixes("director", TokenRole::ApiRead), ["live", "shop"]);
        assert!(auth.prefixes("edge", TokenRole::ApiRead).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn playing_is_open_only_where_the_policy_says_so() {
        let (room, other) = (name("live/room"), name("live/other"));
        let asked = |stream, secret| Asked {
            action: Action::Play,
            stream,
            protocol: Protocol::Flv,
            peer: SocketAddr::from(([192, 0, 2, 1], 5000)),
            secret,
        };
        assert!(auth(PlayPolicy::Anyone).ask(asked(&other, None)).await.is_ok());
        let auth = auth(PlayPolicy::Deny);
        assert_eq!(auth.ask(asked(&room, None)).await.expect_err("nothing shown"), Denied::NoSecret);
        assert!(auth.ask(asked(&room, Some("viewer"))).await.is_ok());
        for wrong in [asked(&other, Some("viewer")), asked(&room, Some("director"))] {
            let began = clock::now();
            assert_eq!(auth.ask(wrong).await.expect_err("wrong"), Denied::Wrong);
            assert!(began.elapsed() >= AUTH_FAILURE_DELAY_MIN, "a guess costs time");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_failed_too_often_is_not_heard() {
        let (auth, room, peer) = (auth(PlayPolicy::Deny), name("live/room"), SocketAddr::from(([192, 0, 2, 1], 5000)));
        let asked = |secret| Asked {
            action: Action::Publish,
            stream: &room,
            protocol: Protocol::Rtmp,
            peer,
            secret: Some(secret),
        };
        for _ in 0..limits::AUTH_FAILURES_MAX {
            auth.failed(peer.ip());
        }
        assert_eq!(auth.ask(asked("room-key")).await.expect_err("not heard"), Denied::Wrong);
        tokio::time::advance(limits::AUTH_FAILURES_WINDOW).await;
        assert!(auth.ask(asked("room-key")).await.is_ok());
    }
}
