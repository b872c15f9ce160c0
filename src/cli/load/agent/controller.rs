//! The controller's side of an agent.

use std::{sync::Arc, time::Duration};

use futures_util::{
    Stream, StreamExt,
    stream::{select_all, unfold},
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::wire::{self, Answer, Failed, Order, Reader, SILENCE_MAX, Seen, VERSION, Writer};
use crate::{
    cli::load::{
        Args,
        events::{Counts, EventLog},
        observer::Board,
        report::AgentUse,
    },
    clock::{self, Instant},
    secret::Secret,
};

/// An agent that has a plan and waits for the start.
pub(in super::super) struct Agent {
    reader: Reader,
    writer: Writer,
    found: AgentUse,
}

/// An agent that can't take part.
#[derive(Debug, thiserror::Error)]
#[error("agent {address}: {failed}")]
pub(in super::super) struct Unfit {
    address: String,
    failed: Failed,
}

impl Agent {
    /// Connects, compares clocks and hands over the plan.
    pub(in super::super) async fn recruit(address: &str, token: &Secret, part: &Args) -> Result<Self, Unfit> {
        recruit(address, token, part).await.map_err(|failed| Unfit { address: address.to_owned(), failed })
    }

    /// How far its clock is ahead, and how long the question took, microseconds.
    #[cfg(test)]
    pub(super) fn clock(&self) -> (i64, u64) {
        (self.found.clock_ahead_us, self.found.round_trip_us)
    }

    /// Tells it when to start, and keeps `board` up to date until its end.
    pub(in super::super) async fn follow(
        mut self,
        start: Instant,
        logs: Vec<Arc<EventLog>>,
        board: Arc<Board>,
        stop: CancellationToken,
    ) -> AgentUse {
        match self.listen(start, &logs, &board, &stop).await {
            Ok(last) => {
                self.found.cpu_us = last.cpu_us;
                board.replace(last.watched, last.cpu_us);
            }
            Err(failed) => {
                eprintln!("agent {} is lost: {failed}", self.found.address);
                self.found.lost = Some(failed.to_string());
                board.tallies().iter().for_each(|tally| tally.lock().playing = 0);
            }
        }
        self.found
    }

    async fn listen(
        &mut self,
        start: Instant,
        logs: &[Arc<EventLog>],
        board: &Board,
        stop: &CancellationToken,
    ) -> Result<Seen, Failed> {
        let in_us = i64::try_from(start.saturating_duration_since(clock::now()).as_micros()).unwrap_or(0);
        let ahead_us = self.found.clock_ahead_us;
        let at_unix_us = clock::unix_us().saturating_add(in_us).saturating_add(ahead_us);
        self.writer.say(&Order::Start { at_unix_us, ahead_us }).await?;
        let mut sent = select_all(logs.iter().enumerate().map(|(stream, log)| Box::pin(changes(stream, log.watch()))));
        let (mut stopped, mut heard_at) = (false, clock::now());
        loop {
            tokio::select! {
                answer = timeout_at(heard_at + SILENCE_MAX, self.reader.next()) => {
                    heard_at = clock::now();
                    match answer.unwrap_or(Err(Failed::Silent(SILENCE_MAX)))? {
                        Answer::Seen(seen) => board.replace(seen.watched, seen.cpu_us),
                        Answer::Done(seen) => return Ok(seen),
                        Answer::Refused { reason } => return Err(Failed::Refused(reason)),
                        Answer::Ready | Answer::Clock { .. } => return Err(out_of_order()),
                    }
                }
                Some((stream, sent)) = sent.next() => self.writer.say(&Order::Events { stream, sent }).await?,
                () = stop.cancelled(), if !stopped => {
                    stopped = true;
                    self.writer.say(&Order::Stop).await?;
                }
            }
        }
    }
}

/// What was sent into a stream, whenever that changes.
fn changes(stream: usize, sent: watch::Receiver<Counts>) -> impl Stream<Item = (usize, Counts)> {
    unfold(sent, move |mut sent| async move {
        sent.changed().await.ok()?;
        let counts = *sent.borrow_and_update();
        Some(((stream, counts), sent))
    })
}

async fn recruit(address: &str, token: &Secret, part: &Args) -> Result<Agent, Failed> {
    let connecting = timeout(SILENCE_MAX, TcpStream::connect(address)).await;
    let (reader, mut writer) = wire::split(connecting.map_err(|_| Failed::Silent(SILENCE_MAX))??)?;
    let mut reader = reader.trust();
    writer.say(&Order::Hello { version: VERSION, token: token.expose().to_owned() }).await?;
    ready(&mut reader).await?;
    let (clock_ahead_us, round_trip) = compare_clocks(&mut reader, &mut writer).await?;
    writer.say(&Order::Plan { arguments: part.to_watch() }).await?;
    ready(&mut reader).await?;
    let round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    let viewers = (part.viewers + part.storm_viewers()) as u64;
    let address = address.to_owned();
    let found = AgentUse { address, viewers, clock_ahead_us, round_trip_us, ..AgentUse::default() };
    Ok(Agent { reader, writer, found })
}

async fn ready(reader: &mut Reader) -> Result<(), Failed> {
    match reader.next_within(SILENCE_MAX).await? {
        Answer::Ready => Ok(()),
        Answer::Refused { reason } => Err(Failed::Refused(reason)),
        _ => Err(out_of_order()),
    }
}

/// How far the agent's clock is ahead: the quickest answer tells it best, and is off by half its time at most.
async fn compare_clocks(reader: &mut Reader, writer: &mut Writer) -> Result<(i64, Duration), Failed> {
    let mut best = (0, Duration::MAX);
    for _ in 0..CLOCK_QUESTIONS {
        let (asked, asked_unix_us) = (clock::now(), clock::unix_us());
        writer.say(&Order::Clock).await?;
        let Answer::Clock { unix_us } = reader.next_within(SILENCE_MAX).await? else { return Err(out_of_order()) };
        let took = asked.elapsed();
        if took < best.1 {
            let half_us = i64::try_from(took.as_micros() / 2).unwrap_or(0);
            best = (unix_us.saturating_sub(asked_unix_us.saturating_add(half_us)), took);
        }
    }
    Ok(best)
}

fn out_of_order() -> Failed {
    Failed::Garbled("an answer out of order".into())
}

const CLOCK_QUESTIONS: usize = 20;
