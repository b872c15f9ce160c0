//! The viewers of one thread: they come, join, stay and leave as planned.
//!
//! Everybody joins promptly. After that only a sample goes on reading at once and measures latency; the others are
//! read in turn, each ten times a second, so that a viewer costs a system call now and then and no memory
//! to speak of.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io::{self, Read, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    flv, moq,
    observer::{Board, Observer},
    plan::{Protocol, Visit},
    rtmp, whep,
};
use crate::{
    clock::{self, Instant},
    task,
};

/// Why a viewer saw nothing, or no more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the server refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Rtmp(#[from] crate::cli::rtmp::Failed),
    #[error(transparent)]
    WebRtc(#[from] crate::cli::webrtc::Failed),
    #[error("the server ended the stream")]
    Ended,
    #[error("what came is not a stream: {0}")]
    Broken(&'static str),
    #[error("no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Silent,
}

/// Plays these visits; returns when the last viewer has left, or soon after `stop`.
pub(super) async fn attend(visits: Vec<Visit>, board: Arc<Board>, start: Instant, stop: CancellationToken) {
    let (seats, tasks) = (Arc::new(Mutex::new(Seats::default())), TaskTracker::new());
    let all_left = CancellationToken::new();
    let reading = {
        let (seats, all_left, stop) = (seats.clone(), all_left.clone(), stop.clone());
        task::spawn("seats", async move { read_in_turn(&seats, &all_left, &stop).await })
    };
    for visit in visits {
        let joins_at = start + visit.joins_at;
        if stop.run_until_cancelled(sleep_until(joins_at)).await.is_none() {
            break;
        }
        let (board, seats, stop) = (board.clone(), seats.clone(), stop.clone());
        task::spawn("viewer", tasks.track_future(view(visit, board, seats, start, stop)));
    }
    tasks.close();
    tasks.wait().await;
    all_left.cancel();
    // It can only have panicked, which was logged.
    let _ = reading.await;
}

/// One viewer, until he has a seat, leaves or fails.
async fn view(visit: Visit, board: Arc<Board>, seats: Arc<Mutex<Seats>>, start: Instant, stop: CancellationToken) {
    let mut observer = Observer::new(board, visit.identity());
    let leaves_at = start + visit.leaves_at;
    let watching = stop.run_until_cancelled(timeout_at(leaves_at, watch(&visit, &mut observer)));
    match watching.await {
        None | Some(Err(_)) => {}
        Some(Ok(Err(failed))) => observer.fail(&failed.to_string()),
        Some(Ok(Ok((socket, reader)))) => match socket.into_std() {
            Ok(socket) => {
                let (read_at, bytes_per_s_max) = (clock::now(), visit.bytes_per_s_max);
                seats.lock().taken.push(Seat { socket, reader, observer, leaves_at, read_at, bytes_per_s_max });
            }
            Err(error) => observer.fail(&error.to_string()),
        },
    }
}

/// Watches for as long as it takes to join; a sampled viewer for ever.
async fn watch(visit: &Visit, observer: &mut Observer) -> Result<(TcpStream, Reader), Failed> {
    let target = &visit.target;
    let connected = match target.protocol {
        Protocol::Flv => in_time(flv::connect(target, observer)).await.map(|(s, r)| (s, Reader::Flv(r))),
        Protocol::Rtmp => {
            // To wait for it is no fault of the server's. It is never closed.
            let _turn = rtmp::CONNECTING.acquire().await;
            observer.begin();
            in_time(rtmp::connect(target, observer)).await.map(|(s, r)| (s, Reader::Rtmp(r)))
        }
        Protocol::Moq => return Err(moq::watch(visit, observer).await.err().unwrap_or(Failed::Ended)),
        Protocol::Whep => return Err(whep::watch(visit, observer).await.err().unwrap_or(Failed::Ended)),
    };
    let (mut socket, mut reader) = connected?;
    if visit.bytes_per_s_max.is_some() {
        // Else the kernel would take for him what he doesn't.
        SockRef::from(&socket).set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
    }
    while visit.is_sampled || !observer.is_joined() {
        poll_fn(|cx| reader.poll_read(cx, &mut socket, observer)).await?;
        reader.answer(|bytes| socket.try_write(bytes))?;
    }
    Ok((socket, reader))
}

pub(super) async fn in_time<T>(connecting: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or(Err(Failed::Silent))
}

/// Walks over what a server sends.
#[derive(Debug)]
enum Reader {
    Flv(flv::Reader),
    Rtmp(rtmp::Reader),
}

impl Reader {
    /// Reads once something has come.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut TcpStream,
        observer: &mut Observer,
    ) -> Poll<Result<(), Failed>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut room = ReadBuf::new(buffer);
            let read = ready!(Pin::new(socket).poll_read(cx, &mut room));
            Poll::Ready(read.map_err(Failed::from).and_then(|()| self.take(room.filled(), observer)))
        })
    }

    /// Reads what is there, but no more than `bytes_max`.
    fn drain(
        &mut self,
        mut socket: &std::net::TcpStream,
        bytes_max: usize,
        observer: &mut Observer,
    ) -> Result<(), Failed> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut left = bytes_max;
            while left > 0 {
                let room = buffer.get_mut(..left.min(READ_BYTES)).unwrap_or_default();
                let size = room.len();
                let count = match socket.read(room) {
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error.into()),
                };
                self.take(room.get(..count).unwrap_or_default(), observer)?;
                // Less than there was room for: it was all there was.
                left = if count < size { 0 } else { left - count };
            }
            Ok(())
        })
    }

    fn take(&mut self, bytes: &[u8], observer: &mut Observer) -> Result<(), Failed> {
        match self {
            _ if bytes.is_empty() => Err(Failed::Ended),
            Self::Flv(flv) => flv.read(bytes, observer),
            Self::Rtmp(rtmp) => rtmp.read(bytes, observer),
        }
    }

    /// Writes what the server expects to hear.
    fn answer(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> Result<(), Failed> {
        let Self::Rtmp(rtmp) = self else { return Ok(()) };
        let Some(answer) = rtmp.answer() else { return Ok(()) };
        // A few bytes once in a while always find room in the socket.
        if write(&answer)? < answer.len() { Err(Failed::Broken("it doesn't read what we answer")) } else { Ok(()) }
    }
}

thread_local! {
    /// What a read takes is looked at before the next one.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The viewers that are read in turn.
#[derive(Debug, Default)]
struct Seats {
    taken: Vec<Seat>,
    next: usize,
}

/// A viewer that has joined.
#[derive(Debug)]
struct Seat {
    socket: std::net::TcpStream,
    reader: Reader,
    observer: Observer,
    leaves_at: Instant,
    read_at: Instant,
    bytes_per_s_max: Option<usize>,
}

async fn read_in_turn(seats: &Mutex<Seats>, all_left: &CancellationToken, stop: &CancellationToken) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !(stop.is_cancelled() || all_left.is_cancelled() && seats.lock().taken.is_empty()) {
        tick.tick().await;
        seats.lock().turn(clock::now());
    }
    seats.lock().taken.clear();
}

impl Seats {
    /// Reads the next part of the viewers.
    fn turn(&mut self, now: Instant) {
        for _ in 0..self.taken.len().div_ceil(TICKS_PER_TURN) {
            if self.next >= self.taken.len() {
                self.next = 0;
            }
            let Some(seat) = self.taken.get_mut(self.next) else { return };
            match seat.read(now) {
                Ok(()) if now < seat.leaves_at => {
                    self.next += 1;
                    continue;
                }
                Ok(()) => {}
                Err(failed) => seat.observer.fail(&failed.to_string()),
            }
            self.taken.swap_remove(self.next);
        }
    }
}

impl Seat {
    /// Reads what has come since the last time, unless that is hardly over.
    fn read(&mut self, now: Instant) -> Result<(), Failed> {
        let since = now.saturating_duration_since(self.read_at);
        if since < READ_INTERVAL_MIN {
            return Ok(());
        }
        self.read_at = now;
        let millis = usize::try_from(since.as_millis()).unwrap_or(usize::MAX);
        let bytes_max = self.bytes_per_s_max.map_or(usize::MAX, |bytes| bytes.saturating_mul(millis) / 1000);
        let mut socket = &self.socket;
        self.reader.drain(socket, bytes_max, &mut self.observer)?;
        self.reader.answer(|bytes| socket.write(bytes))
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const READ_BYTES: usize = 256 * 1024;
const SLOW_BUFFER_BYTES: usize = 16 * 1024;
const TICK: Duration = Duration::from_millis(2);
const TICKS_PER_TURN: usize = 50;
/// Of one viewer; a little less than a turn takes, in which few viewers are come by more often.
const READ_INTERVAL_MIN: Duration = Duration::from_millis(90);
