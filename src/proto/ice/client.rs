//! The controlling agent of our own tools, against a lite one.
//!
//! It checks every path it was given. The first that answers is selected and nominated; from then on only that one is
//! checked, to keep consent (RFC 7675).

use core::time::Duration;
use std::time::Instant;

use aws_lc_rs::hmac;

use super::{
    Credentials, Dropped, Path, Transport,
    stun::{self, Class, Message, Request, Transaction},
};
use crate::limits::{ICE_CONSENT_TIMEOUT, ICE_PATHS_MAX};

/// Time between the first checks of two paths (RFC 8445 §14.2).
const PACING: Duration = Duration::from_millis(50);
/// Time until a check is sent again; it doubles each time.
const RETRANSMIT_FIRST: Duration = Duration::from_millis(50);
/// Times that a check is sent by UDP. TCP repeats by itself.
const SENDS_MAX: u32 = 8;
/// Time after the last of them until a path is given up.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_millis(6400);
/// Time between checks of the selected path; each is at random 20 % sooner or later (RFC 7675 §5.1).
const CONSENT_INTERVAL: Duration = Duration::from_secs(5);
/// That of a peer-reflexive candidate (RFC 8445 §5.1.2). A lite agent pays no heed to it.
const PRIORITY: u32 = 110 << 24 | 0xffff << 8 | 0xff;

/// A controlling agent.
pub struct Client {
    username: String,
    key: hmac::Key,
    tie_breaker: u64,
    checks: Vec<Check>,
    selected: Option<Path>,
    /// The last authentic answer on the selected path.
    answered: Option<Instant>,
}

struct Check {
    path: Path,
    transaction: Transaction,
    /// Times that this transaction was sent.
    sends: u32,
    /// When something is to be done; `None` once the path is out of use.
    due: Option<Instant>,
    /// The path is selected, and the peer knows it.
    is_nominated: bool,
}

impl Client {
    /// An agent that tries `paths`, the preferred first, at most [`ICE_PATHS_MAX`].
    pub fn new(now: Instant, local: &Credentials, remote: &Credentials, paths: impl IntoIterator<Item = Path>) -> Self {
        let dues = (0..).map(|i| now + PACING.saturating_mul(i));
        let paths = paths.into_iter().take(ICE_PATHS_MAX);
        Self {
            username: format!("{}:{}", remote.ufrag, local.ufrag),
            key: stun::integrity_key(&remote.pwd),
            tie_breaker: rand::random(),
            checks: paths.zip(dues).map(|(path, due)| Check::new(path, due)).collect(),
            selected: None,
            answered: None,
        }
    }

    /// The next check that is due, and the path to send it by. To be called until it gives `None`.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<(Path, Vec<u8>)> {
        // A sole path leaves no choice, so its first check nominates it.
        let use_candidate = self.selected.is_some() || self.checks.len() == 1;
        let check = self.checks.iter_mut().find_map(|check| check.advance(now).then_some(check))?;
        let request = Request {
            transaction: check.transaction,
            username: &self.username,
            priority: PRIORITY,
            tie_breaker: self.tie_breaker,
            use_candidate,
        };
        Some((check.path, request.write(&self.key)))
    }

    /// Takes a STUN message that came by `path`. What isn't an authentic answer to a check changes nothing.
    pub fn handle(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), Dropped> {
        let message = Message::parse(datagram)?;
        // An answer must come from where the check went (RFC 8445 §7.2.5.2.1).
        let answered = |check: &&mut Check| check.path == path && check.transaction == message.transaction;
        let is_sole = self.checks.len() == 1;
        let check = self.checks.iter_mut().find(answered).filter(|_| message.class == Class::Success);
        let check = check.ok_or(Dropped::Unexpected)?;
        message.verify_integrity(&self.key)?;
        match self.selected {
            Some(selected) if selected != path => return Ok(()),
            Some(_) if check.is_nominated => {}
            None if !is_sole => check.restart(now),
            _ => {
                check.is_nominated = true;
                check.due = Some(now + consent_interval());
            }
        }
        self.selected = Some(path);
        self.answered = Some(now);
        self.checks.iter_mut().filter(|check| check.path != path).for_each(|check| check.due = None);
        Ok(())
    }

    /// The path to send by: the first that answered.
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// When to call `poll_transmit` and `is_expired` next. `None` if all paths were given up.
    pub fn deadline(&self) -> Option<Instant> {
        let expiry = self.answered.map(|answered| answered + ICE_CONSENT_TIMEOUT);
        self.checks.iter().filter_map(|check| check.due).chain(expiry).min()
    }

    /// Whether the peer is gone, or was never reached.
    pub fn is_expired(&self, now: Instant) -> bool {
        match self.answered {
            Some(answered) => now >= answered + ICE_CONSENT_TIMEOUT,
            None => self.checks.iter().all(|check| check.due.is_none()),
        }
    }
}

impl Check {
    fn new(path: Path, due: Instant) -> Self {
        Self { path, transaction: rand::random(), sends: 0, due: Some(due), is_nominated: false }
    }

    /// Begins a new transaction.
    fn restart(&mut self, due: Instant) {
        (self.transaction, self.sends, self.due) = (rand::random(), 0, Some(due));
    }

    /// Whether it is to be sent now; if so, it is due anew.
    fn advance(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        if self.is_nominated {
            self.restart(now + consent_interval());
            return true;
        }
        let sends_max = if self.path.transport == Transport::Tcp { 1 } else { SENDS_MAX };
        if self.sends >= sends_max {
            self.due = None;
            return false;
        }
        let retransmit = RETRANSMIT_FIRST.saturating_mul(1 << self.sends);
        self.sends += 1;
        self.due = Some(now + if self.sends == sends_max { LAST_ANSWER_TIMEOUT } else { retransmit });
        true
    }
}

fn consent_interval() -> Duration {
    CONSENT_INTERVAL.mul_f64(rand::random_range(0.8..1.2))
}
