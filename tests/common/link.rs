//! A bad network in user space: a UDP port that forwards to another, losing, delaying and reordering by a seed.

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hawker::{clock, task};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    net::UdpSocket,
    runtime,
    sync::{mpsc, oneshot},
    time::{self, Instant},
};

/// What a link does to the packets of one direction. The same seed and the same packets make the same losses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Impairment {
    pub(crate) seed: u64,
    /// How many of a hundred packets are lost.
    pub(crate) loss_percent: f64,
    /// What every packet takes; a round trip takes two.
    pub(crate) delay: Duration,
    /// What a packet may take longer; it keeps its place in the row.
    pub(crate) jitter: Duration,
    /// How many of a hundred packets are overtaken by those of the next [`OVERTAKEN`].
    pub(crate) reorder_percent: f64,
    /// How many of a hundred packets come out with a bit turned.
    pub(crate) corrupt_percent: f64,
    /// What the link carries; unlimited if none. Packets queue for up to [`QUEUE_MAX`], then they are lost.
    pub(crate) bits_per_s: Option<u64>,
}

/// How far a packet falls behind that leaves the row.
pub(crate) const OVERTAKEN: Duration = Duration::from_millis(10);

/// As much as the buffer of a slow uplink holds.
pub(crate) const QUEUE_MAX: Duration = Duration::from_millis(200);

/// One direction of a link: decides when a packet comes out.
pub(crate) struct Pipe {
    impairment: Impairment,
    dice: StdRng,
    /// When the last bit of all that was let in has left.
    idle_at: Option<Instant>,
    newest_due: Option<Instant>,
}

impl Pipe {
    /// `direction` makes directions with the same seed differ.
    pub(crate) fn new(impairment: Impairment, direction: u64) -> Self {
        let seed = impairment.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(direction);
        Self { impairment, dice: StdRng::seed_from_u64(seed), idle_at: None, newest_due: None }
    }

    /// When a packet of `bytes` that goes in `now` comes out. `None`: never.
    pub(crate) fn pass(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Impairment { loss_percent, delay, jitter, reorder_percent, bits_per_s, .. } = self.impairment;
        // All dice for each packet, so that no setting moves the others' luck.
        let [lost, late, overtaken] = [self.dice.random::<f64>(), self.dice.random(), self.dice.random()];
        if lost * 100.0 < loss_percent {
            return None;
        }
        let start = self.idle_at.map_or(now, |idle_at| idle_at.max(now));
        if start - now > QUEUE_MAX {
            return None;
        }
        let sending = bits_per_s.map_or(0.0, |rate| bytes as f64 * 8.0 / rate as f64);
        let left = start + Duration::from_secs_f64(sending);
        self.idle_at = Some(left);
        let due = left + delay + jitter.mul_f64(late);
        let due = self.newest_due.map_or(due, |newest| newest.max(due));
        if overtaken * 100.0 < reorder_percent {
            return Some(due + OVERTAKEN);
        }
        self.newest_due = Some(due);
        Some(due)
    }
}

/// A link in front of a UDP port, until dropped. Each client has a socket of his own towards the target.
pub(crate) struct Link {
    /// Where clients send to.
    pub(crate) addr: SocketAddr,
    counts: Arc<Counts>,
    _stop: oneshot::Sender<()>,
}

#[derive(Default)]
struct Counts {
    carried: AtomicU64,
    lost: AtomicU64,
    /// Nothing goes through.
    cut: AtomicBool,
    /// Longer packets are lost; 0 for no such bound.
    bytes_max: AtomicUsize,
    /// How often the clients' addresses have changed.
    bindings: AtomicU64,
}

impl Link {
    /// Impairs both directions alike.
    pub(crate) fn start(target: SocketAddr, impairment: Impairment) -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Not with the runtime's help: a test that has one of its own can't run another.
        let front = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        front.set_nonblocking(true).unwrap();
        let addr = front.local_addr().unwrap();
        let (counts, (stop, stopped)) = (Arc::new(Counts::default()), oneshot::channel());
        let told = counts.clone();
        thread::spawn(move || {
            runtime.block_on(async {
                let front = Arc::new(UdpSocket::from_std(front).unwrap());
                let listener = Listener { front, target, impairment, counts: told, clients: HashMap::new() };
                tokio::select! {
                    () = listener.run() => {}
                    _ = stopped => {}
                }
            });
        });
        Self { addr, counts, _stop: stop }
    }

    /// Nothing goes through any more, or all does again.
    pub(crate) fn cut(&self, cut: bool) {
        self.counts.cut.store(cut, Ordering::Relaxed);
    }

    /// Packets that are longer than this are lost from now on, and nobody is told.
    pub(crate) fn shrink(&self, bytes_max: usize) {
        self.counts.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// From now on the target sees each client under another address.
    pub(crate) fn rebind(&self) {
        self.counts.bindings.fetch_add(1, Ordering::Relaxed);
    }

    /// Packets that came out, and packets that were lost, of both directions so far.
    pub(crate) fn carried_and_lost(&self) -> (u64, u64) {
        (self.counts.carried.load(Ordering::Relaxed), self.counts.lost.load(Ordering::Relaxed))
    }
}

struct Listener {
    front: Arc<UdpSocket>,
    target: SocketAddr,
    impairment: Impairment,
    counts: Arc<Counts>,
    clients: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>,
}

/// Packets read from the port and not yet looked at.
const PACKETS_WAITING_MAX: usize = 4096;

impl Listener {
    async fn run(mut self) {
        let mut buffer = vec![0; 65_536];
        loop {
            // An error here is a client's port that closed: ICMP of an earlier send.
            let Ok((length, address)) = self.front.recv_from(&mut buffer).await else { continue };
            let client = match self.clients.get(&address) {
                Some(client) => client.clone(),
                None => self.add(address).await,
            };
            // A full queue loses packets, as any does.
            let _ = client.try_send(buffer[..length].to_vec());
        }
    }

    async fn add(&mut self, address: SocketAddr) -> mpsc::Sender<Vec<u8>> {
        let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        upstream.connect(self.target).await.unwrap();
        let (sender, packets) = mpsc::channel(PACKETS_WAITING_MAX);
        let first_direction = 2 * u64::try_from(self.clients.len()).unwrap();
        let client = Client {
            address,
            front: self.front.clone(),
            target: self.target,
            upstream,
            binding: self.counts.bindings.load(Ordering::Relaxed),
            up: Row::new(self.impairment, first_direction, &self.counts),
            down: Row::new(self.impairment, first_direction + 1, &self.counts),
        };
        task::spawn("link", client.run(packets));
        self.clients.insert(address, sender.clone());
        sender
    }
}

struct Client {
    address: SocketAddr,
    front: Arc<UdpSocket>,
    target: SocketAddr,
    upstream: UdpSocket,
    binding: u64,
    up: Row,
    down: Row,
}

impl Client {
    async fn run(mut self, mut packets: mpsc::Receiver<Vec<u8>>) {
        let mut buffer = vec![0; 65_536];
        loop {
            let due = [self.up.due(), self.down.due()].into_iter().flatten().min();
            tokio::select! {
                packet = packets.recv() => match packet {
                    Some(packet) => self.up.push(packet),
                    None => return,
                },
                received = self.upstream.recv(&mut buffer) => if let Ok(length) = received {
                    self.down.push(buffer[..length].to_vec());
                },
                () = time::sleep_until(due.unwrap_or_else(clock::now)), if due.is_some() => {}
            }
            let binding = self.up.counts.bindings.load(Ordering::Relaxed);
            if self.binding != binding {
                self.upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                self.upstream.connect(self.target).await.unwrap();
                self.binding = binding;
            }
            while let Some(packet) = self.up.pop() {
                let _ = self.upstream.send(&packet).await;
            }
            while let Some(packet) = self.down.pop() {
                let _ = self.front.send_to(&packet, self.address).await;
            }
        }
    }
}

/// The packets on their way in one direction.
struct Row {
    pipe: Pipe,
    /// Of its own, so that what is corrupted moves nothing else's luck.
    dice: StdRng,
    /// By the time they come out, and then in the order they went in.
    packets: BTreeMap<(Instant, u64), Vec<u8>>,
    pushed: u64,
    counts: Arc<Counts>,
}

impl Row {
    fn new(impairment: Impairment, direction: u64, counts: &Arc<Counts>) -> Self {
        let pipe = Pipe::new(impairment, direction);
        let dice = StdRng::seed_from_u64(impairment.seed ^ direction);
        Self { pipe, dice, packets: BTreeMap::new(), pushed: 0, counts: counts.clone() }
    }

    fn push(&mut self, mut packet: Vec<u8>) {
        let bytes_max = self.counts.bytes_max.load(Ordering::Relaxed);
        let stopped = self.counts.cut.load(Ordering::Relaxed) || bytes_max > 0 && packet.len() > bytes_max;
        let due = self.pipe.pass(clock::now(), packet.len()).filter(|_| !stopped);
        if self.dice.random::<f64>() * 100.0 < self.pipe.impairment.corrupt_percent && !packet.is_empty() {
            let at = self.dice.random_range(0..packet.len());
            packet[at] ^= 1 << self.dice.random_range(0..8);
        }
        let Some(due) = due else {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.pushed += 1;
        self.packets.insert((due, self.pushed), packet);
    }

    fn due(&self) -> Option<Instant> {
        self.packets.keys().next().map(|(due, _)| *due)
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let entry = self.packets.first_entry().filter(|entry| entry.key().0 <= clock::now())?;
        self.counts.carried.fetch_add(1, Ordering::Relaxed);
        Some(entry.remove())
    }
}
