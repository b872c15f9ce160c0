//! Which datagram is for which session: by the name in a connectivity check, then by where it comes from.
//!
//! Nothing is kept, and nothing answered, for who doesn't know the name of a session.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    task::Waker,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::{socket::Socket, stream::Writer};
use crate::{
    limits,
    observe::metrics::Metrics,
    proto::{
        ice::{
            Path, Transport,
            stun::{is_stun, request_ufrag},
        },
        webrtc::{Datagram, Outbox},
    },
};

/// A shard's way in and out for all its sessions.
pub(super) struct Door {
    pub(super) socket: Socket,
    /// Where it listens, UDP and TCP.
    pub(super) address: SocketAddr,
    table: Mutex<Table>,
    /// What is being sent; empty in between.
    pub(super) outbox: Mutex<Outbox>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Table {
    /// By our half of the name in a check.
    by_ufrag: HashMap<String, Arc<Inbox>>,
    /// By the ways that a session has accepted.
    by_path: HashMap<(Transport, SocketAddr), Arc<Inbox>>,
    writers: HashMap<SocketAddr, Writer>,
}

/// What came for a session and waits for its turn.
#[derive(Default)]
pub(super) struct Inbox {
    queue: Mutex<VecDeque<(Path, Bytes)>>,
    waker: AtomicWaker,
}

/// A session's place in the table, which it leaves when this is dropped.
pub(super) struct Seat {
    pub(super) door: Arc<Door>,
    pub(super) inbox: Arc<Inbox>,
    ufrag: String,
    paths: Vec<(Transport, SocketAddr)>,
}

impl Door {
    pub(super) fn new(socket: Socket, address: SocketAddr, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { socket, address, table: Mutex::default(), outbox: Mutex::default(), metrics })
    }

    /// Receives datagrams for good.
    pub(super) async fn run(self: Arc<Self>) -> io::Result<()> {
        let handle = |path, datagram: &[u8]| {
            self.handle(path, datagram);
        };
        self.socket.receive(handle).await
    }

    /// Hands a datagram to whom it is for. False if that is nobody.
    pub(super) fn handle(&self, path: Path, datagram: &[u8]) -> bool {
        if datagram.len() > limits::ICE_FRAME_BYTES_MAX {
            self.metrics.refused("webrtc datagram too long");
            return false;
        }
        let table = self.table.lock();
        let inbox = match is_stun(datagram) {
            // The name first: another session may begin where an older one was.
            true => request_ufrag(datagram).and_then(|ufrag| table.by_ufrag.get(ufrag)),
            false => table.by_path.get(&(path.transport, path.remote)),
        };
        match inbox {
            Some(inbox) if inbox.push(path, datagram) => true,
            Some(_) => {
                self.metrics.refused("webrtc inbox full");
                true
            }
            None => {
                self.metrics.refused("webrtc stranger");
                false
            }
        }
    }

    /// A place for a session that checks name by `ufrag`.
    pub(super) fn seat(self: &Arc<Self>, ufrag: String) -> Seat {
        let inbox = Arc::new(Inbox::default());
        self.table.lock().by_ufrag.insert(ufrag.clone(), inbox.clone());
        Seat { door: self.clone(), inbox, ufrag, paths: Vec::new() }
    }

    /// Sends one datagram.
    pub(super) fn send(&self, datagram: &Datagram) {
        self.send_run(&datagram.path, &datagram.bytes, None);
    }

    /// Sends what `outbox` holds, and empties it.
    pub(super) fn flush(&self, path: &Path, outbox: &mut Outbox) {
        for (bytes, segment) in outbox.sends() {
            self.send_run(path, bytes, segment);
        }
        outbox.clear();
    }

    fn send_run(&self, path: &Path, bytes: &[u8], segment: Option<usize>) {
        let sent = match path.transport {
            Transport::Udp => self.socket.send(path, bytes, segment).is_ok(),
            Transport::Tcp => {
                let table = self.table.lock();
                let packets = bytes.chunks(segment.unwrap_or(bytes.len()).max(1));
                table.writers.get(&path.remote).is_some_and(|writer| writer.write(packets))
            }
        };
        if !sent {
            self.metrics.refused("webrtc send");
        }
    }

    /// Whether a session has accepted this way.
    pub(super) fn knows(&self, path: &Path) -> bool {
        self.table.lock().by_path.contains_key(&(path.transport, path.remote))
    }

    /// A TCP peer that showed the name of a session.
    pub(super) fn enter(&self, peer: SocketAddr, writer: Writer) {
        self.table.lock().writers.insert(peer, writer);
    }

    /// That peer's connection is closed; the session that it was a way to hears of it.
    pub(super) fn leave(&self, path: Path) {
        let mut table = self.table.lock();
        table.writers.remove(&path.remote);
        if let Some(inbox) = table.by_path.get(&(path.transport, path.remote)) {
            inbox.push(path, &[]);
        }
    }
}

impl Inbox {
    fn push(&self, path: Path, datagram: &[u8]) -> bool {
        let mut queue = self.queue.lock();
        let has_room = queue.len() < limits::WEBRTC_INBOX_MAX;
        if has_room {
            queue.push_back((path, Bytes::copy_from_slice(datagram)));
        }
        drop(queue);
        self.waker.wake();
        has_room
    }

    /// Whom to wake when something comes.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// The oldest datagram.
    pub(super) fn pop(&self) -> Option<(Path, Bytes)> {
        self.queue.lock().pop_front()
    }
}

impl Seat {
    /// The session has accepted this way: what comes along it is for the session from now on.
    pub(super) fn learn(&mut self, path: &Path) {
        let way = (path.transport, path.remote);
        let mut table = self.door.table.lock();
        // Another session may have begun there, or have pretended to.
        if table.by_path.get(&way).is_some_and(|inbox| Arc::ptr_eq(inbox, &self.inbox)) {
            return;
        }
        table.by_path.insert(way, self.inbox.clone());
        if self.paths.contains(&way) {
            return;
        }
        if self.paths.len() >= limits::ICE_PATHS_MAX {
            let oldest = self.paths.remove(0);
            self.forget(&mut table, &oldest);
        }
        drop(table);
        self.paths.push(way);
    }

    fn forget(&self, table: &mut Table, way: &(Transport, SocketAddr)) {
        if table.by_path.get(way).is_some_and(|inbox| Arc::ptr_eq(inbox, &self.inbox)) {
            table.by_path.remove(way);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.door.table.lock();
        table.by_ufrag.remove(&self.ufrag);
        for way in &self.paths {
            self.forget(&mut table, way);
        }
    }
}
