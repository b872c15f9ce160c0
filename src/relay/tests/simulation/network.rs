//! A network in memory, on tokio's clock: links lose, delay, reorder and repeat datagrams, or are cut.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use quinn::{
    AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::clock::{self, Instant};

/// A node's number, which is its address too.
pub(super) type Place = u8;

/// The port of a node's first socket.
pub(super) const PORT: u16 = 4443;

/// The way between two nodes, the same in both directions.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) cut: bool,
    /// Of a datagram, to get lost.
    pub(super) loss: f64,
    pub(super) delay: Duration,
    /// Up to so much more: more than the gap between two datagrams reorders them.
    pub(super) jitter: Duration,
    /// Of a datagram, to come twice.
    pub(super) repeat: f64,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cut, loss, delay, jitter, repeat } = self;
        match cut {
            true => write!(f, "cut"),
            false => write!(f, "{loss:.2} lost, {delay:?} + {jitter:?}, {repeat:.2} repeated"),
        }
    }
}

impl Link {
    pub(super) const SOUND: Self =
        Self { cut: false, loss: 0.0, delay: Duration::from_millis(2), jitter: Duration::ZERO, repeat: 0.0 };
}

pub(super) struct Network(Mutex<State>);

struct State {
    rng: StdRng,
    links: BTreeMap<(Place, Place), Link>,
    sockets: HashMap<SocketAddr, Arc<Inbox>>,
    sent: u64,
}

impl Network {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let rng = StdRng::seed_from_u64(seed);
        Arc::new(Self(Mutex::new(State { rng, links: BTreeMap::new(), sockets: HashMap::new(), sent: 0 })))
    }

    pub(super) fn set_link(&self, a: Place, b: Place, link: Link) {
        self.0.lock().links.insert((a.min(b), a.max(b)), link);
    }

    /// As if its power failed: what it says from here on is not heard, and nothing reaches it.
    pub(super) fn kill(&self, place: Place) {
        self.0.lock().sockets.retain(|address, _| place_of(*address) != place);
    }

    /// What a node that begins at `place` opens its sockets with.
    pub(super) fn runtime(self: &Arc<Self>, place: Place) -> Arc<dyn Runtime> {
        Arc::new(Machine { network: self.clone(), place, port: AtomicU16::new(PORT) })
    }

    fn send(&self, from: &Socket, to: SocketAddr, bytes: &[u8]) {
        let state = &mut *self.0.lock();
        // A socket of a node that was killed.
        if !state.sockets.get(&from.address).is_some_and(|inbox| Arc::ptr_eq(inbox, &from.inbox)) {
            return;
        }
        let (a, b) = (place_of(from.address), place_of(to));
        let link = state.links.get(&(a.min(b), a.max(b))).copied().unwrap_or(Link::SOUND);
        let Some(inbox) = state.sockets.get(&to).filter(|_| !link.cut) else { return };
        let copies = 1 + usize::from(state.rng.random_bool(link.repeat));
        for _ in 0..copies {
            if state.rng.random_bool(link.loss) {
                continue;
            }
            state.sent += 1;
            let due = clock::now() + link.delay + link.jitter.mul_f64(state.rng.random());
            inbox.put(due, state.sent, from.address, bytes.to_vec());
        }
    }
}

pub(super) fn address(place: Place, port: u16) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, place), port).into()
}

fn place_of(address: SocketAddr) -> Place {
    match address {
        SocketAddr::V4(address) => address.ip().octets()[3],
        SocketAddr::V6(_) => unreachable!("all places have IPv4 addresses"),
    }
}

/// The sockets and timers of one node between its start and its end.
struct Machine {
    network: Arc<Network>,
    place: Place,
    port: AtomicU16,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "machine {}", self.place)
    }
}

impl Runtime for Machine {
    fn new_timer(&self, at: std::time::Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    /// The real socket only gave the caller something to ask for.
    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let address = address(self.place, self.port.fetch_add(1, Relaxed));
        let inbox = Arc::new(Inbox::default());
        self.network.0.lock().sockets.insert(address, inbox.clone());
        Ok(Arc::new(Socket { network: self.network.clone(), address, inbox }))
    }

    fn now(&self) -> std::time::Instant {
        TokioRuntime.now()
    }
}

struct Socket {
    network: Arc<Network>,
    address: SocketAddr,
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct Inbox(Mutex<Arrivals>);

/// When, the how manieth, from where, what.
type Arrival = (Instant, u64, SocketAddr, Vec<u8>);

#[derive(Default)]
struct Arrivals {
    due: BinaryHeap<Reverse<Arrival>>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    reader: Option<Waker>,
}

impl Inbox {
    fn put(&self, due: Instant, number: u64, from: SocketAddr, bytes: Vec<u8>) {
        let mut arrivals = self.0.lock();
        arrivals.due.push(Reverse((due, number, from, bytes)));
        if let Some(reader) = arrivals.reader.take() {
            reader.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<(SocketAddr, Vec<u8>)> {
        let arrivals = &mut *self.0.lock();
        loop {
            let due = arrivals.due.peek().map(|Reverse((due, ..))| *due);
            if due.is_some_and(|due| due <= clock::now())
                && let Some(Reverse((_, _, from, bytes))) = arrivals.due.pop()
            {
                return Poll::Ready((from, bytes));
            }
            arrivals.reader = Some(cx.waker().clone());
            let Some(due) = due else { return Poll::Pending };
            let timer = arrivals.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            timer.as_mut().reset(due);
            if Future::poll(timer.as_mut(), cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}", self.address)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.network.send(self, transmit.destination, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready((addr, bytes)) = self.inbox.poll(cx) else { return Poll::Pending };
        bufs[0][..bytes.len()].copy_from_slice(&bytes);
        meta[0] = RecvMeta { addr, len: bytes.len(), stride: bytes.len(), ..RecvMeta::default() };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
