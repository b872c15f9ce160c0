//! What is so at one moment: who shows this may do that. Replaced as a whole when anything of it changes.

use std::{collections::HashMap, sync::Arc};

use super::{
    jwt::{JwtKeys, Verified},
    live::{Proof, Session},
    signed_url::{Signature, UrlKeys},
    store::{Key, State},
};
use crate::{
    config::{self, PlayPolicy, SignedAction, TokenRole},
    media::StreamName,
    secret::Digest,
};

/// The rules of one moment.
#[derive(Default)]
pub(super) struct Rules {
    /// Everybody may watch.
    pub(super) open: bool,
    /// By the first bytes of the digest. Where a guess lands tells nothing of the secret, and the whole digest is
    /// compared in constant time.
    by_digest: HashMap<[u8; 8], Vec<Rule>>,
    pub(super) jwt: Arc<JwtKeys>,
    pub(super) url: Arc<UrlKeys>,
    /// Until when, UTC seconds.
    revoked_subs: HashMap<String, u64>,
    revoked_jtis: HashMap<String, u64>,
}

/// One secret's right.
struct Rule {
    digest: Digest,
    prefix: String,
    roles: Vec<TokenRole>,
    right: Right,
}

/// What comes with being let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Right {
    pub(super) events: bool,
    pub(super) priority: u8,
    pub(super) streams_max: Option<u32>,
    pub(super) bitrate_kbps_max: Option<u32>,
    /// When it ends, UTC seconds.
    pub(super) until: Option<u64>,
}

impl Rules {
    pub(super) fn new(config: &config::Auth, jwt: Arc<JwtKeys>, url: Arc<UrlKeys>, state: &State) -> Self {
        let mut rules = Self { open: config.play == PlayPolicy::Anyone, jwt, url, ..Self::default() };
        for key in &config.publish {
            let right = Right {
                events: key.events,
                priority: key.priority,
                streams_max: key.streams_max,
                bitrate_kbps_max: key.bitrate_kbps_max,
                until: None,
            };
            rules.add(key.key_sha256, &key.prefix, &[TokenRole::Publish], right);
        }
        for token in &config.token {
            rules.add(token.token_sha256, &token.prefix, &token.roles, Right::default());
        }
        for key in &state.keys {
            rules.add_key(key);
        }
        let revoked = &state.revocations;
        rules.revoked_subs = revoked.iter().filter_map(|revoked| Some((revoked.sub.clone()?, revoked.until))).collect();
        rules.revoked_jtis = revoked.iter().filter_map(|revoked| Some((revoked.jti.clone()?, revoked.until))).collect();
        rules
    }

    fn add_key(&mut self, key: &Key) {
        let terms = &key.terms;
        let right = Right {
            events: terms.events,
            priority: terms.priority,
            streams_max: terms.streams_max,
            bitrate_kbps_max: terms.bitrate_kbps_max,
            until: terms.expires,
        };
        self.add(key.sha256, &terms.prefix, &terms.roles, right);
        if let Some(previous) = &key.previous {
            let until = Some(terms.expires.map_or(previous.until, |expires| expires.min(previous.until)));
            self.add(previous.sha256, &terms.prefix, &terms.roles, Right { until, ..right });
        }
    }

    fn add(&mut self, digest: Digest, prefix: &str, roles: &[TokenRole], right: Right) {
        let rule = Rule { digest, prefix: prefix.to_owned(), roles: roles.to_vec(), right };
        self.by_digest.entry(bucket(&digest)).or_default().push(rule);
    }

    /// The rules that a secret has for `role`, now.
    fn of(&self, digest: Digest, role: TokenRole, now_s: u64) -> impl Iterator<Item = &Rule> {
        let rules = self.by_digest.get(&bucket(&digest)).into_iter().flatten();
        rules.filter(move |rule| {
            (rule.digest == digest) & rule.roles.contains(&role) & rule.right.until.is_none_or(|until| now_s < until)
        })
    }

    /// What a secret opens `stream` for; without one it is enough to open any. Of several rules the closest counts.
    pub(super) fn find(
        &self,
        digest: Digest,
        role: TokenRole,
        stream: Option<&StreamName>,
        now_s: u64,
    ) -> Option<Right> {
        let rules = self.of(digest, role, now_s);
        let opening = rules.filter(|rule| stream.is_none_or(|stream| stream.is_under(&rule.prefix)));
        opening.max_by_key(|rule| rule.prefix.len()).map(|rule| rule.right)
    }

    /// The prefixes that a secret opens for `role`.
    pub(super) fn prefixes(&self, digest: Digest, role: TokenRole, now_s: u64) -> Vec<String> {
        self.of(digest, role, now_s).map(|rule| rule.prefix.clone()).collect()
    }

    /// What somebody who shows `secret` is let in with.
    pub(super) fn prove(
        &self,
        secret: &str,
        role: TokenRole,
        stream: &StreamName,
        now_s: u64,
    ) -> Option<(Proof, Right)> {
        let digest = Digest::of(secret);
        if let Some(right) = self.find(digest, role, Some(stream), now_s) {
            return Some((Proof::Secret(digest), right));
        }
        let action = signed_action(role)?;
        if let Some(signature) = Signature::parse(secret) {
            let file = self.url.check(&signature, stream, action, now_s)?;
            let right = Right { until: Some(signature.exp), ..Right::default() };
            return Some((Proof::Url { kid: signature.kid.to_owned(), file }, right));
        }
        let verified = self.jwt.check(secret, stream, action, now_s);
        let verified = verified.inspect_err(|why| tracing::debug!(%stream, %why, "JWT refused")).ok()?;
        let claims = &verified.claims;
        let right =
            Right { events: claims.events, priority: claims.priority, until: Some(claims.exp), ..Right::default() };
        (!self.is_revoked(&verified, now_s)).then_some((Proof::Jwt(verified), right))
    }

    /// Was `secret` given to somebody, for whatever and until whenever? Where everybody may watch, anything will do: what
    /// viewers show there must not lock out publishers behind the same address.
    pub(super) fn knows(&self, secret: &str) -> bool {
        let digest = Digest::of(secret);
        let is_listed = |rules: &Vec<Rule>| rules.iter().any(|rule| rule.digest == digest);
        self.open
            || self.by_digest.get(&bucket(&digest)).is_some_and(is_listed)
            || Signature::parse(secret).is_some_and(|signature| self.url.knows(signature.kid))
            || self.jwt.verify(secret).is_ok()
    }

    fn is_revoked(&self, token: &Verified, now_s: u64) -> bool {
        let jti = token.claims.jti.as_ref().and_then(|jti| self.revoked_jtis.get(jti));
        self.revoked_subs.get(&token.claims.sub).into_iter().chain(jti).any(|until| now_s < *until)
    }

    /// Would somebody who is in be let in now? His time is his grant's own concern.
    pub(super) fn still_allow(&self, session: &Session, now_s: u64) -> bool {
        let signed_for = || Some((session.stream.as_ref()?, signed_action(session.role)?));
        match &session.proof {
            Proof::Anyone => self.open,
            Proof::Secret(digest) => self.find(*digest, session.role, session.stream.as_ref(), now_s).is_some(),
            Proof::Jwt(token) => {
                let opens = signed_for().is_some_and(|(stream, action)| self.jwt.still_opens(token, stream, action));
                opens && !self.is_revoked(token, now_s)
            }
            Proof::Url { kid, file } => {
                signed_for().is_some_and(|(stream, action)| self.url.still_opens(kid, file, stream, action))
            }
        }
    }

    /// What is being guessed at with a wrong secret: the signing key that it names, or else the stream.
    pub(super) fn guessed_at(&self, secret: &str, stream: Option<&StreamName>) -> String {
        let kid = match Signature::parse(secret) {
            Some(signature) => Some(signature.kid.to_owned()),
            None => super::jwt::claimed_kid(secret),
        };
        let known = kid.filter(|kid| self.jwt.knows(kid) || self.url.knows(kid));
        // No stream has a colon in its name.
        known.map_or_else(|| stream.map_or_else(|| "api:".into(), ToString::to_string), |kid| format!("kid:{kid}"))
    }
}

/// What a service of the operator's may sign for.
fn signed_action(role: TokenRole) -> Option<SignedAction> {
    match role {
        TokenRole::Publish => Some(SignedAction::Publish),
        TokenRole::Play => Some(SignedAction::Play),
        _ => None,
    }
}

fn bucket(digest: &Digest) -> [u8; 8] {
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}
