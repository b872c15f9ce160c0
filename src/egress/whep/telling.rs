//! The room and its events on their way to one viewer, who listens some time after he began to watch, or never.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::super::rtp::RtpHead;
use crate::limits::{WHEP_MESSAGES_BYTES_MAX, WHEP_MESSAGES_MAX};

#[derive(Debug, Default)]
pub(super) struct Telling {
    listens: bool,
    /// The newest head that was read.
    head: Option<Arc<RtpHead>>,
    /// Its room is still to be told.
    is_head_due: bool,
    /// `resync` of the room that he was told last.
    told: Option<u64>,
    /// Events since the head, for one who begins to listen.
    since: Messages,
    waiting: Messages,
    /// Events told.
    pub(super) events: u64,
    /// Events of rooms told.
    pub(super) replayed: u64,
}

#[derive(Debug, Default)]
struct Messages {
    queue: VecDeque<Bytes>,
    bytes: usize,
}

impl Telling {
    /// From now on he is told.
    pub(super) fn begin(&mut self) {
        if self.listens {
            return;
        }
        self.listens = true;
        self.is_head_due = true;
        self.tell_head();
        self.events += self.since.queue.len() as u64;
        self.since.queue.iter().for_each(|message| self.waiting.push(message.clone()));
    }

    /// Nobody knows what reached him: he is told all of it again when he listens again.
    pub(super) fn stop(&mut self) {
        (self.listens, self.told, self.waiting) = (false, None, Messages::default());
    }

    pub(super) fn handle_head(&mut self, head: Arc<RtpHead>) {
        // It knows what came of them.
        self.since = Messages::default();
        self.head = Some(head);
        self.is_head_due = true;
    }

    pub(super) fn handle_event(&mut self, message: Bytes) {
        self.tell_head();
        self.since.push(message.clone());
        while self.since.is_full() {
            self.since.pop();
        }
        if self.listens {
            self.waiting.push(message);
            self.events += 1;
        }
    }

    /// Tells the room once, and again where he can't have followed it.
    pub(super) fn tell_head(&mut self) {
        if !self.listens || !std::mem::take(&mut self.is_head_due) {
            return;
        }
        let Some(head) = &self.head else { return };
        if self.told.replace(head.resync) != Some(head.resync) {
            self.replayed += head.messages.len() as u64;
            head.messages.iter().for_each(|message| self.waiting.push(message.clone()));
        }
    }

    /// More waits than he may leave unread.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.is_full()
    }

    /// The next message, once he listens.
    pub(super) fn poll(&mut self) -> Option<Bytes> {
        self.waiting.pop()
    }

    /// Grows with each message for him.
    pub(super) fn told(&self) -> u64 {
        self.events + self.replayed
    }
}

impl Messages {
    fn push(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.queue.push_back(message);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let message = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.len());
        Some(message)
    }

    fn is_full(&self) -> bool {
        self.queue.len() > WHEP_MESSAGES_MAX || self.bytes > WHEP_MESSAGES_BYTES_MAX
    }
}
