//! What a viewer's socket is still to be given: shared slices, handed to the kernel in as few writes as they fit in.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

/// A viewer's queue to his socket.
#[derive(Debug, Default)]
pub struct Outlet {
    /// The slices of one or more tags each.
    queue: VecDeque<Arc<[Bytes]>>,
    /// Bytes of the first in the queue that the socket has taken.
    written: usize,
    /// Bytes that the socket has taken in all.
    taken: u64,
    /// TLS may hold the last of it still.
    unflushed: bool,
}

impl Outlet {
    /// Appends to the queue.
    pub fn push(&mut self, slices: Arc<[Bytes]>) {
        // What holds nothing could not be written away.
        if length(&slices) > 0 {
            self.queue.push_back(slices);
        }
    }

    /// Everything in the queue, as if the socket had taken it.
    #[cfg(test)]
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.queue).iter().flat_map(|slices| slices.iter().cloned()).collect()
    }

    /// True if the socket has taken everything.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.unflushed
    }

    /// Bytes that the socket has taken so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Writes until the queue is empty, or the socket is full: then the task of `cx` is woken when it is not.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(stream);
        while !self.queue.is_empty() {
            let mut parts = [IoSlice::new(&[]); IO_SLICES];
            let parts = self.gather(&mut parts);
            match ready!(stream.as_mut().poll_write_vectored(cx, parts))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
            self.unflushed = true;
        }
        ready!(stream.poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// The first slices that are not written yet, as many as fit. Empty ones take no place: of nothing but those, a
    /// write would make no progress.
    fn gather<'a, 'p>(&'a self, parts: &'p mut [IoSlice<'a>]) -> &'p [IoSlice<'a>] {
        let (mut skip, mut count) = (self.written, 0);
        for slice in self.queue.iter().flat_map(|slices| slices.iter()) {
            let skipped = skip.min(slice.len());
            skip -= skipped;
            let Some(left) = slice.get(skipped..).filter(|left| !left.is_empty()) else { continue };
            let Some(part) = parts.get_mut(count) else { break };
            *part = IoSlice::new(left);
            count += 1;
        }
        parts.get(..count).unwrap_or_default()
    }

    fn advance(&mut self, written: usize) {
        self.written += written;
        self.taken += written as u64;
        while let Some(first) = self.queue.front() {
            let length = length(first);
            if self.written < length {
                return;
            }
            self.written -= length;
            self.queue.pop_front();
        }
    }
}

fn length(slices: &[Bytes]) -> usize {
    slices.iter().map(Bytes::len).sum()
}

/// Slices handed to one `writev`; the kernel takes at most 1,024.
const IO_SLICES: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;

    /// As many slices in one piece as a tag of some mebibytes has over RTMP, and as few as most have.
    #[tokio::test]
    async fn slices_arrive_whole_and_in_order() {
        for slices_each in [3, 300] {
            timeout(Duration::from_secs(10), arrive(slices_each)).await.expect("written to the end");
        }
    }

    async fn arrive(slices_each: usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let mut stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (mut reader, _) = listener.accept().await.expect("accepts");
        let piece = |n: usize| Bytes::from(vec![u8::try_from(n % 251).expect("small"); n * 7 % 9000]);
        let slices: Vec<Bytes> = (0..2000).map(piece).collect();
        let expected: Vec<u8> = slices.iter().flatten().copied().collect();
        let mut outlet = Outlet::default();
        outlet.push([Bytes::new()].into());
        slices.chunks(slices_each).for_each(|tag| outlet.push(tag.into()));
        let mut seen = vec![0; expected.len()];
        let writing = std::future::poll_fn(|cx| outlet.poll_write(cx, &mut stream));
        let (written, read) = tokio::join!(writing, reader.read_exact(&mut seen));
        assert!(written.is_ok() && read.is_ok() && outlet.is_empty());
        assert_eq!((seen, outlet.taken()), (expected.clone(), expected.len() as u64));
    }
}
