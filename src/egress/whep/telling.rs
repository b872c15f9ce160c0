//! The room and its events on their way to one viewer, who listens some time after he began to watch, or never.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::super::rtp::RtpHead;
use crate::limits::{WHEP_MESSAGES_BYTES_MAX, WHEP_MESSAGES_MAX};

#[derive(Debug, Default)]
pub(super) struct Telling {
    listens: bool,
    /// The room at the newest head that was read, if it is still to be told.
    head: Option<Arc<RtpHead>>,
    /// `resync` of the room that he was told last.
    told: Option<u64>,
    waiting: VecDeque<Bytes>,
    bytes: usize,
    /// Events told.
    pub(super) events: u64,
    /// Events of rooms told.
    pub(super) replayed: u64,
}

impl Telling {
    /// From now on he is told.
    pub(super) fn begin(&mut self) {
        if self.listens {
            return;
        }
        self.listens = true;
        let since = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        self.tell_head();
        self.events += since.len() as u64;
        since.into_iter().for_each(|message| self.push(message));
    }

    pub(super) fn handle_head(&mut self, head: Arc<RtpHead>) {
        if !self.listens {
            // It knows what came of them.
            self.waiting.clear();
            self.bytes = 0;
        }
        self.head = Some(head);
    }

    pub(super) fn handle_event(&mut self, message: Bytes) {
        self.tell_head();
        self.push(message);
        if self.listens {
            self.events += 1;
        }
        while !self.listens && self.is_full() {
            self.pop();
        }
    }

    /// Tells the room once, and again where he can't have followed it.
    pub(super) fn tell_head(&mut self) {
        if !self.listens {
            return;
        }
        let Some(head) = self.head.take() else { return };
        if self.told.replace(head.resync) != Some(head.resync) {
            self.replayed += head.messages.len() as u64;
            head.messages.iter().for_each(|message| self.push(message.clone()));
        }
    }

    /// More waits than he may leave unread.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() > WHEP_MESSAGES_MAX || self.bytes > WHEP_MESSAGES_BYTES_MAX
    }

    /// The next message, once he listens.
    pub(super) fn poll(&mut self) -> Option<Bytes> {
        if self.listens { self.pop() } else { None }
    }

    /// Grows with each message for him.
    pub(super) fn told(&self) -> u64 {
        self.events + self.replayed
    }

    fn push(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.waiting.push_back(message);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let message = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.len());
        Some(message)
    }
}
