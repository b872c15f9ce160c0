//! The lite agent of one session: it answers checks and knows by them where the peer is.

use std::time::Instant;

use aws_lc_rs::hmac;

use super::{
    Credentials, Dropped, Path,
    stun::{self, Class, Message},
};
use crate::limits::{ICE_CONSENT_TIMEOUT, ICE_PATHS_MAX, ICE_STALE_AFTER};

/// A lite agent (RFC 8445 §2.5). It is always the controlled one, so there are no roles to settle.
pub struct Lite {
    /// The USERNAME that a check of this session has.
    username: String,
    key: hmac::Key,
    paths: Vec<Valid>,
    selected: Option<Path>,
}

struct Valid {
    path: Path,
    checked: Instant,
}

impl Lite {
    /// An agent that takes checks from the holder of both credentials.
    pub fn new(local: &Credentials, remote: &Credentials) -> Self {
        Self {
            username: format!("{}:{}", local.ufrag, remote.ufrag),
            key: stun::integrity_key(&local.pwd),
            paths: Vec::new(),
            selected: None,
        }
    }

    /// Takes a STUN message that came by `path`; gives the answer to send back by it. What isn't an authentic check
    /// of this session changes nothing.
    pub fn handle(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<Vec<u8>, Dropped> {
        let message = Message::parse(datagram)?;
        if message.class != Class::Request {
            return Err(Dropped::Unexpected);
        }
        if message.username != Some(&self.username) {
            return Err(Dropped::Username);
        }
        message.verify_fingerprint()?;
        message.verify_integrity(&self.key)?;
        self.validate(now, path);
        // A peer that moved nominates its new path; before it nominates any, the first that works will do. A nomination
        // proves no more than that its sender can write an address: checks must go on along it.
        if message.use_candidate || self.is_stale(now) {
            self.selected = Some(path);
        }
        Ok(stun::write_success(&message.transaction, path.remote, &self.key))
    }

    /// The path to send by: the one nominated last; the first valid one until there is one.
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Whether the holder of the credentials was heard on `path`. Media and DTLS from elsewhere are to be dropped.
    pub fn is_valid(&self, path: &Path) -> bool {
        self.paths.iter().any(|valid| valid.path == *path)
    }

    /// When the peer is gone if no check comes until then. `None` before the first.
    pub fn consent_deadline(&self) -> Option<Instant> {
        self.paths.iter().map(|valid| valid.checked).max()?.checked_add(ICE_CONSENT_TIMEOUT)
    }

    /// Whether the peer is gone.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.consent_deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Takes note that a path is no more: its TCP connection was closed. The one checked last replaces it.
    pub fn remove(&mut self, path: &Path) {
        self.paths.retain(|valid| valid.path != *path);
        if self.selected == Some(*path) {
            self.selected = self.paths.iter().max_by_key(|valid| valid.checked).map(|valid| valid.path);
        }
    }

    /// True if no path is selected, or the peer is no longer heard on it.
    fn is_stale(&self, now: Instant) -> bool {
        let selected = self.paths.iter().find(|valid| Some(valid.path) == self.selected);
        selected.is_none_or(|valid| now.saturating_duration_since(valid.checked) > ICE_STALE_AFTER)
    }

    fn validate(&mut self, now: Instant, path: Path) {
        if let Some(valid) = self.paths.iter_mut().find(|valid| valid.path == path) {
            valid.checked = now;
            return;
        }
        if self.paths.len() >= ICE_PATHS_MAX {
            let others = self.paths.iter().enumerate().filter(|(_, valid)| Some(valid.path) != self.selected);
            if let Some((oldest, _)) = others.min_by_key(|(_, valid)| valid.checked) {
                self.paths.swap_remove(oldest);
            }
        }
        self.paths.push(Valid { path, checked: now });
    }
}
