//! Who may publish, watch and call the API. Nobody, until the configuration says so.
//!
//! An unknown name and a wrong key get the same answer, and cost the same: a name can't be probed. Limiting
//! how often an address may fail is `net::guard`'s part.

use crate::{
    config::{self, PlayPolicy, TokenRole},
    media::StreamName,
    net::access::Access,
    secret::Digest,
};

/// The keys and tokens of a configuration.
#[derive(Debug, Clone)]
pub struct Auth {
    config: config::Auth,
}

impl Auth {
    /// The rules in `config`.
    pub fn new(config: &config::Auth) -> Self {
        Self { config: config.clone() }
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
}

impl Access for Auth {
    fn may_publish(&self, name: &StreamName, key: &str) -> bool {
        let presented = Digest::of(key);
        any(self.config.publish.iter().map(|rule| (rule.key_sha256 == presented) & name.is_under(&rule.prefix)))
    }

    fn may_publish_events(&self, name: &StreamName, key: &str) -> bool {
        let presented = Digest::of(key);
        let rules = self.config.publish.iter();
        any(rules.map(|rule| rule.events & (rule.key_sha256 == presented) & name.is_under(&rule.prefix)))
    }

    fn may_play(&self, name: &StreamName, token: Option<&str>) -> bool {
        match self.config.play {
            PlayPolicy::Anyone => true,
            PlayPolicy::Deny => token.is_some_and(|token| self.may(token, TokenRole::Play, Some(name))),
        }
    }

    fn may_relay(&self, token: &str) -> bool {
        self.may(token, TokenRole::Relay, None)
    }
}

/// Looks at every rule, also after one has matched, so that the time taken tells nothing of them.
fn any(rules: impl Iterator<Item = bool>) -> bool {
    rules.fold(false, |found, rule| found | rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PublishKey, Token};

    fn name(text: &str) -> StreamName {
        text.parse().expect("a stream name")
    }

    fn auth(play: PlayPolicy) -> Auth {
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
        assert!(!auth.may_publish(&room, "") && !auth.may_publish_events(&room, ""));
        assert!(!auth.may_play(&room, None));
        assert!(!auth.may_play(&room, Some("")));
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
            assert_eq!(auth.may_publish(&name(stream), key), allowed, "{stream} {key}");
        }
        for (stream, key, allowed) in
            [("live/room", "room-key", true), ("live/room", "live-key", false), ("live/other", "room-key", false)]
        {
            assert_eq!(auth.may_publish_events(&name(stream), key), allowed, "{stream} {key}");
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

    #[test]
    fn playing_is_open_only_where_the_policy_says_so() {
        let (room, other) = (name("live/room"), name("live/other"));
        assert!(auth(PlayPolicy::Anyone).may_play(&other, None));
        let auth = auth(PlayPolicy::Deny);
        assert!(!auth.may_play(&room, None));
        assert!(auth.may_play(&room, Some("viewer")));
        assert!(!auth.may_play(&other, Some("viewer")));
        assert!(!auth.may_play(&room, Some("director")));
    }
}
