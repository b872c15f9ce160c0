//! The loop that every TCP viewer is served by: what the line has goes to his socket, as fast as he takes it.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use tokio::time::Sleep;

use super::{Outlet, Session, SessionLog};
use crate::{
    hub,
    net::{access::GrantOver, stream::Stream},
};

/// Why a viewer is served no longer, apart from what he says himself.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// His line ended.
    #[error("{0}")]
    Line(hub::End),
    /// He was let in for so long, or no longer is.
    #[error(transparent)]
    Over(#[from] GrantOver),
    /// The server stops.
    #[error("server stops")]
    Stopping,
    /// He took not one byte for too long.
    #[error("stalled: took no byte for too long")]
    Stalled,
    /// The socket failed.
    #[error("network: {0}")]
    Network(io::Error),
}

impl From<io::Error> for Undelivered {
    fn from(error: io::Error) -> Self {
        // Nothing of what he was sent was acknowledged: his host is gone.
        if error.kind() == io::ErrorKind::TimedOut { Self::Stalled } else { Self::Network(error) }
    }
}

/// Writes what `session` yields, and what `peer` adds to the outlet, until one of them ends. `peer` reads what the
/// viewer says; it is asked whenever the task wakes.
pub async fn deliver<E: From<Undelivered>>(
    stream: &mut Stream,
    session: &mut Session,
    log: &mut SessionLog,
    mut peer: impl FnMut(&mut Context<'_>, &mut Stream, &mut Outlet) -> Poll<E>,
) -> E {
    let mut out = Outlet::default();
    let stop = session.stop().clone();
    let stall_max = session.patience().stall_max;
    let mut stopped = pin!(stop.cancelled());
    // What he had taken when it began to run, while a write waits. Most never do, and cost nothing.
    let mut stall: Option<(u64, Pin<Box<Sleep>>)> = None;
    poll_fn(|cx| {
        let mut was_full = !out.is_empty();
        if let Poll::Ready(end) = peer(cx, stream, &mut out) {
            return Poll::Ready(end);
        }
        for _ in 0..WRITES_PER_TURN {
            let taken = match out.is_empty() {
                true => session.poll_take(cx, &mut out),
                false => Poll::Ready(Ok(())),
            };
            match taken {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(hub::End::Closed)) if stop.is_cancelled() => return end(Undelivered::Stopping),
                Poll::Ready(Err(over)) => return end(Undelivered::Line(over)),
                Poll::Ready(Ok(())) => {}
            }
            match out.poll_write(cx, stream) {
                Poll::Ready(Ok(())) => stall = None,
                Poll::Ready(Err(error)) => return end(error.into()),
                // Only now the line's end would not be noticed.
                Poll::Pending if stopped.as_mut().poll(cx).is_ready() => return end(Undelivered::Stopping),
                Poll::Pending => {
                    stall.take_if(|(taken, _)| *taken != out.taken());
                    let fresh = || (out.taken(), Box::pin(tokio::time::sleep(stall_max)));
                    let (_, deadline) = stall.get_or_insert_with(fresh);
                    return deadline.as_mut().poll(cx).map(|()| Undelivered::Stalled.into());
                }
            }
            log.update(session.counters(), session.entered());
            if std::mem::take(&mut was_full) {
                // Answers may wait for an empty outlet.
                cx.waker().wake_by_ref();
            }
        }
        // He is far behind and takes what he gets: the others of the shard first.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

fn end<E: From<Undelivered>>(why: Undelivered) -> Poll<E> {
    Poll::Ready(why.into())
}

/// Writes to one viewer before the others get their turn.
const WRITES_PER_TURN: usize = 16;
