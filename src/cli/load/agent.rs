//! `hawker load --listen`: a machine that watches for a controller, which publishes and adds up.
//!
//! A controller shows the token first. An agent serves one at a time, touches no file for it, and ends its run when
//! it goes away.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Parser;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use self::wire::{Answer, Failed, Order, Reader, SILENCE_MAX, Seen, VERSION, Writer};
pub(super) use self::{controller::Agent, wire::buckets};
use super::{
    Args, engine,
    plan::{Leader, Plan},
    usage::own_cpu_us,
};
use crate::{
    cli::{Outcome, root_cause},
    clock,
    limits::LOAD_STRANGERS_MAX,
    secret::{Digest, Secret},
    task,
};

mod controller;
mod wire;

/// Serves controllers at `address` until `stop`.
pub(super) async fn listen(address: SocketAddr, token: &Secret, stop: CancellationToken) -> Outcome {
    let listener = TcpListener::bind(address).await.map_err(|e| format!("{address}: {}", root_cause(&e)))?;
    println!("agent on {}", listener.local_addr()?);
    let agent = Arc::new(Service {
        token: Digest::of(token.expose()),
        turn: Semaphore::new(1),
        strangers: Arc::new(Semaphore::new(LOAD_STRANGERS_MAX)),
    });
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((socket, from)) = accepted else {
            // No descriptor is free, or the peer has left already.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(stranger) = agent.strangers.clone().try_acquire_owned() else { continue };
        let (agent, stop) = (agent.clone(), stop.child_token());
        task::spawn("agent", async move {
            if let Err(failed) = agent.serve(socket, stranger, stop).await {
                eprintln!("{from}: {failed}");
            }
        });
    }
    Ok(())
}

struct Service {
    token: Digest,
    /// Who runs.
    turn: Semaphore,
    strangers: Arc<Semaphore>,
}

impl Service {
    async fn serve(
        &self,
        socket: TcpStream,
        stranger: OwnedSemaphorePermit,
        stop: CancellationToken,
    ) -> Result<(), Failed> {
        let (mut reader, mut writer) = wire::split(socket)?;
        let welcome = match reader.next_within(SILENCE_MAX).await? {
            Order::Hello { version, .. } if version != VERSION => {
                Err(format!("this agent speaks version {VERSION}, not {version}"))
            }
            Order::Hello { token, .. } if Digest::of(&token) == self.token => Ok(()),
            _ => Err("the token is wrong".to_owned()),
        };
        let turn = welcome.and_then(|()| self.turn.try_acquire().map_err(|_| "it is busy with another run".to_owned()));
        let _turn = match turn {
            Ok(turn) => turn,
            Err(reason) => return refuse(&mut writer, reason).await,
        };
        drop(stranger);
        writer.say(&Answer::Ready).await?;
        prepare(reader.trust(), writer, stop).await
    }
}

/// Tells why it can't be done, to both sides.
async fn refuse(writer: &mut Writer, reason: String) -> Result<(), Failed> {
    writer.say(&Answer::Refused { reason: reason.clone() }).await?;
    Err(Failed::Refused(reason))
}

/// Up to the start.
async fn prepare(mut reader: Reader, mut writer: Writer, stop: CancellationToken) -> Result<(), Failed> {
    let mut planned = None;
    loop {
        match reader.next_within(START_MAX).await? {
            Order::Clock => writer.say(&Answer::Clock { unix_us: clock::unix_us() }).await?,
            Order::Plan { arguments } => match plan(arguments) {
                Ok(plan) => {
                    planned = Some(plan);
                    writer.say(&Answer::Ready).await?;
                }
                Err(reason) => return refuse(&mut writer, reason).await,
            },
            Order::Start { at_unix_us, ahead_us } => {
                let Some((args, mut plan)) = planned.take() else { break };
                let in_us = u64::try_from(at_unix_us.saturating_sub(clock::unix_us())).unwrap_or(0);
                let starts_at = clock::now() + Duration::from_micros(in_us).min(START_MAX);
                plan.leader = Some(Leader { starts_at, clock_ahead_us: ahead_us });
                return watch(&args, plan, reader, writer, stop).await;
            }
            Order::Stop => return Ok(()),
            Order::Hello { .. } | Order::Events { .. } => break,
        }
    }
    refuse(&mut writer, "that is out of order".into()).await
}

/// What a controller may ask for is what a person may, without what concerns this machine's files and processes.
fn plan(arguments: Vec<String>) -> Result<(Args, Plan), String> {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    let line = Line::try_parse_from(["load".to_owned()].into_iter().chain(arguments)).map_err(|e| e.to_string())?;
    let args = line.args.watching_only();
    let plan = Plan::new(&args).map_err(|e| e.to_string())?;
    Ok((args, plan))
}

/// Watches, and tells twice a second what is seen.
async fn watch(
    args: &Args,
    plan: Plan,
    mut reader: Reader,
    mut writer: Writer,
    stop: CancellationToken,
) -> Result<(), Failed> {
    println!("watching with {} viewers", plan.visits.len());
    let (cpu_us, logs) = (own_cpu_us(), plan.logs.clone());
    let seen = |watched| Seen { watched, cpu_us: own_cpu_us() - cpu_us };
    let (samples, mut sampled) = mpsc::channel(SAMPLES_QUEUE_MAX);
    // A sample that finds no room is left out: the next one has the sums again.
    let running = engine::run(args, plan, None, Vec::new(), stop.clone(), move |_, _, watched| {
        let _ = samples.try_send(watched.to_vec());
    });
    tokio::pin!(running);
    let mut gone = None;
    let found = loop {
        let said = tokio::select! {
            found = &mut running => break found,
            Some(watched) = sampled.recv() => writer.say(&Answer::Seen(seen(watched))).await,
            order = reader.next(), if gone.is_none() => order.map(|order| match order {
                Order::Events { stream, sent } => {
                    if let Some(log) = logs.get(stream) {
                        log.follow(sent);
                    }
                }
                _ => stop.cancel(),
            }),
        };
        if let Err(failed) = said {
            stop.cancel();
            gone = Some(failed);
        }
    };
    match (gone, found) {
        (Some(gone), _) => Err(gone),
        (None, Ok(found)) => {
            let watched = found.watched.into_iter().map(|(_, tally)| tally).collect();
            writer.say(&Answer::Done(seen(watched))).await?;
            // Closing with something unread could cost the controller the last message.
            while reader.next_within::<Order>(SILENCE_MAX).await.is_ok() {}
            Ok(())
        }
        (None, Err(failed)) => refuse(&mut writer, failed.to_string()).await,
    }
}

/// From the plan to the start: publishers have to come on air.
const START_MAX: Duration = Duration::from_secs(60);
const SAMPLES_QUEUE_MAX: usize = 4;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
