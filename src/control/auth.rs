//! Who may publish, watch and call the API. Nobody, until the configuration says so.
//!
//! An unknown name and a wrong key get the same answer, and cost the same: a name can't be probed. Limiting
//! how often an address may fail is `net::guard`'s part.

use crate::{
    config::{self, PlayPolicy, TokenRole},
    media::StreamName,
    secret::Digest,
};

/// The keys and tokens of a configuration.
#[derive(Debug, Clone)]
pub struct Auth {
    config: config::Auth,
}

/// The one answer to whoever may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not allowed")]
pub struct Denied;

impl Auth {
    /// The rules in `config`.
    pub fn new(config: &config::Auth) -> Self {
        Self { config: config.clone() }
    }

    /// May `key` publish `name`?
    pub fn publish(&self, name: &StreamName, key: &str) -> Result<(), Denied> {
        let presented = Digest::of(key);
        any(self.config.publish.iter().map(|rule| {
            // Both sides are evaluated, so that the time tells nothing of the prefixes.
            (rule.key_sha256 == presented) & name.is_under(&rule.prefix)
        }))
    }

    /// May `name` be watched with `token`, or without one?
    pub fn play(&self, name: &StreamName, token: Option<&str>) -> Result<(), Denied> {
        match (self.config.play, token) {
            (PlayPolicy::Anyone, _) => Ok(()),
            (PlayPolicy::Deny, Some(token)) => self.token(token, TokenRole::Play, Some(name)),
            (PlayPolicy::Deny, None) => Err(Denied),
        }
    }

    /// Does `token` carry `role`, for `name` if there is one? Without a name, one prefix is enough, and the
    /// caller shows only what [`Auth::prefixes`] allows.
    pub fn token(&self, token: &str, role: TokenRole, name: Option<&StreamName>) -> Result<(), Denied> {
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
        rules
            .filter(|rule| (rule.token_sha256 == presented) & rule.roles.contains(&role))
            .map(|rule| rule.prefix.as_str())
            .collect()
    }
}

/// Looks at every rule, also after one has matched.
fn any(rules: impl Iterator<Item = bool>) -> Result<(), Denied> {
    if rules.fold(false, |found, rule| found | rule) { Ok(()) } else { Err(Denied) }
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
                PublishKey { prefix: "live".into(), key_sha256: Digest::of("live-key") },
                PublishKey { prefix: "live/room".into(), key_sha256: Digest::of("room-key") },
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
        assert_eq!(auth.publish(&room, ""), Err(Denied));
        assert_eq!(auth.play(&room, None), Err(Denied));
        assert_eq!(auth.play(&room, Some("")), Err(Denied));
        for role in [TokenRole::EventsWrite, TokenRole::ApiRead, TokenRole::Relay, TokenRole::Play] {
            assert_eq!(auth.token("", role, None), Err(Denied));
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
            assert_eq!(auth.publish(&name(stream), key).is_ok(), allowed, "{stream} {key}");
        }
    }

    #[test]
    fn a_token_needs_role_and_prefix_in_one_rule() {
        let auth = auth(PlayPolicy::Deny);
        let (live, shop) = (name("live/room"), name("shop/room"));
        assert!(auth.token("director", TokenRole::EventsWrite, Some(&live)).is_ok());
        assert!(auth.token("director", TokenRole::ApiRead, Some(&shop)).is_ok());
        assert!(auth.token("director", TokenRole::ApiRead, None).is_ok());
        assert_eq!(auth.token("director", TokenRole::EventsWrite, Some(&shop)), Err(Denied));
        assert_eq!(auth.token("director", TokenRole::Relay, None), Err(Denied));
        assert!(auth.token("edge", TokenRole::Relay, Some(&shop)).is_ok());
        assert_eq!(auth.prefixes("director", TokenRole::ApiRead), ["live", "shop"]);
        assert!(auth.prefixes("edge", TokenRole::ApiRead).is_empty());
    }

    #[test]
    fn playing_is_open_only_where_the_policy_says_so() {
        let (room, other) = (name("live/room"), name("live/other"));
        assert!(auth(PlayPolicy::Anyone).play(&other, None).is_ok());
        let auth = auth(PlayPolicy::Deny);
        assert_eq!(auth.play(&room, None), Err(Denied));
        assert!(auth.play(&room, Some("viewer")).is_ok());
        assert_eq!(auth.play(&other, Some("viewer")), Err(Denied));
        assert_eq!(auth.play(&room, Some("director")), Err(Denied));
    }
}
