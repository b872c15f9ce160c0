//! A run: publishers first, then viewers and events, and a look at everything twice a second.

use std::{io, sync::Arc, thread, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Interval, MissedTickBehavior, interval_at, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Args,
    agent::Agent,
    events,
    media::Synthetic,
    observer::Board,
    plan::Plan,
    publish,
    report::{AgentUse, Publishers, Report, Sample, Steady, Watched},
    tally::Tally,
    usage::{self, Servers},
    viewers,
};
use crate::{
    cli::api::Api,
    clock::{self, Instant},
    secret::redact,
    task,
};

/// What a run found, before it is a report: distributions can still be added up.
#[derive(Debug)]
pub(super) struct Findings {
    /// Everything but the viewers.
    pub(super) report: Report,
    /// What viewers saw, for each address watched.
    pub(super) watched: Vec<(String, Tally)>,
}

impl Findings {
    /// The report of it.
    pub(super) fn into_report(self) -> Report {
        let mut all = Tally::default();
        self.watched.iter().for_each(|(_, tally)| all.merge(tally));
        let watched = self.watched.into_iter().map(|(url, tally)| Watched { url, viewers: tally.into_viewers() });
        Report { watched: watched.collect(), viewers: all.into_viewers(), ..self.report }
    }
}

/// Why a run didn't begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("none of the publishers was accepted")]
    NoPublisher,
    #[error(transparent)]
    Process(#[from] super::usage::NoProcess),
    #[error("no thread: {0}")]
    Thread(#[from] io::Error),
}

/// Does what is planned, until it is over or `stop`. `on_sample` is told how it goes: what all have seen, and what the
/// viewers of each address have.
pub(super) async fn run(
    args: &Args,
    mut plan: Plan,
    api: Option<Api>,
    agents: Vec<Agent>,
    stop: CancellationToken,
    mut on_sample: impl FnMut(&Sample, &Tally, &[Tally]),
) -> Result<Findings, Failed> {
    let mut servers = Servers::open(&args.pid)?;
    let (began, began_unix_ms) = (clock::now(), clock::unix_ms());
    let counts = Arc::new(Mutex::new(Publishers::default()));
    let publishers = plan.publish.len() as u64;
    let urls = std::mem::take(&mut plan.publish);
    let is_rtmp = urls.iter().all(|url| url.scheme() == "rtmp");
    let media = Arc::new(if is_rtmp { Synthetic::new(&args.shape) } else { Synthetic::for_webrtc(&args.shape) });
    let on_air = publish::begin(urls, media, counts.clone(), args.threads, &stop).await?;
    if publishers > 0 && counts.lock().failed == publishers {
        return Err(Failed::NoPublisher);
    }
    servers.begin_viewers();
    let lead = if agents.is_empty() { Duration::ZERO } else { AGENTS_LEAD };
    let start = plan.leader.map_or_else(|| clock::now() + lead, |leader| leader.starts_at);
    let watching = stop.child_token();
    let has_viewers = !plan.visits.is_empty();
    let mut crowd = Crowd::gather(&mut plan, args, start, &watching)?;
    crowd.join(agents, &plan, args, start, &watching);
    let mut look = Look::new(start, &plan, servers, counts.clone());
    let sending = send_events(args, &plan, api, &counts);
    let mut every = interval_at(start + SAMPLE_INTERVAL, SAMPLE_INTERVAL);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ends_at = start + plan.ends_after;
    tokio::select! {
        () = sleep_until(ends_at) => {}
        () = stop.cancelled() => {}
        () = crowd.dispersed(), if has_viewers => {}
        () = sending => {}
        () = look.on(&mut every, &crowd.boards, &mut on_sample) => {}
    }
    if look.last.at.elapsed() > SAMPLE_INTERVAL / 2 {
        look.once(&crowd.boards, &mut on_sample);
    }
    watching.cancel();
    crowd.dispersed().await;
    on_air.end().await;
    let watched = args.watch.iter().map(|url| redact(url)).zip(take(&crowd.boards)).collect();
    let agents = crowd.agents().await;
    let publishers = counts.lock().clone();
    if publishers.late_ms_max > LATE_MS_MAX {
        eprintln!(
            "frames were sent up to {} ms late: the load is more than this machine can make",
            publishers.late_ms_max
        );
    }
    let secs = clock::now().saturating_duration_since(began).as_secs_f64();
    Ok(Findings { report: Report { began_unix_ms, secs, publishers, agents, ..look.finish() }, watched })
}

/// Sends events for as long as it is polled.
async fn send_events(args: &Args, plan: &Plan, api: Option<Api>, counts: &Mutex<Publishers>) {
    if let Some(api) = &api {
        let streams =
            plan.streams.iter().map(|(stream, log)| events::send(api, stream, args.events, log.clone(), counts));
        futures_util::future::join_all(streams).await;
    }
    std::future::pending().await
}

/// Viewers on their threads.
struct Crowd {
    /// A thread's each, and an agent's each.
    boards: Vec<Arc<Board>>,
    threads: TaskTracker,
    agents: Vec<oneshot::Receiver<AgentUse>>,
}

impl Crowd {
    /// The sampled viewers come to this thread, where nobody keeps them waiting; the others to as many as asked for.
    fn gather(plan: &mut Plan, args: &Args, start: Instant, stop: &CancellationToken) -> io::Result<Self> {
        let visits = std::mem::take(&mut plan.visits);
        let (sampled, others): (Vec<_>, Vec<_>) = visits.into_iter().partition(|visit| visit.is_sampled);
        let mut crowd = Self { boards: Vec::new(), threads: TaskTracker::new(), agents: Vec::new() };
        let mut attend = |visits| {
            let board = Arc::new(match plan.leader {
                Some(leader) => Board::far(args.watch.len(), leader.clock_ahead_us),
                None => Board::new(args.watch.len()),
            });
            crowd.boards.push(board.clone());
            crowd.threads.track_future(viewers::attend(visits, board, start, stop.clone()))
        };
        task::spawn("sampled viewers", attend(sampled));
        for part in deal(others, args.threads) {
            on_thread("viewers", attend(part))?;
        }
        crowd.threads.close();
        Ok(crowd)
    }

    /// Agents bring their own.
    fn join(&mut self, agents: Vec<Agent>, plan: &Plan, args: &Args, start: Instant, stop: &CancellationToken) {
        for agent in agents {
            let board = Arc::new(Board::new(args.watch.len()));
            let (found, finding) = oneshot::channel();
            self.boards.push(board.clone());
            self.agents.push(finding);
            let following = agent.follow(start, plan.logs.clone(), board, stop.clone());
            let following = async move { _ = found.send(following.await) };
            task::spawn("agent", self.threads.track_future(following));
        }
    }

    /// What became of the agents, once all have left.
    async fn agents(self) -> Vec<AgentUse> {
        futures_util::future::join_all(self.agents).await.into_iter().flatten().collect()
    }

    /// Waits until all have left.
    async fn dispersed(&self) {
        self.threads.wait().await;
    }
}

/// Runs `work` on a thread of its own.
pub(super) fn on_thread(name: &str, work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(name.into()).spawn(move || runtime.block_on(work))?;
    Ok(())
}

/// Deals things in turn.
pub(super) fn deal<T>(things: impl IntoIterator<Item = T>, hands: usize) -> Vec<Vec<T>> {
    let mut dealt: Vec<Vec<T>> = (0..hands).map(|_| Vec::new()).collect();
    for (nth, thing) in things.into_iter().enumerate() {
        if let Some(hand) = dealt.get_mut(nth % hands) {
            hand.push(thing);
        }
    }
    dealt
}

/// What the boards say together, for each address. What is recent is taken from them.
fn take(boards: &[Arc<Board>]) -> Vec<Tally> {
    let mut sums = vec![Tally::default(); boards.first().map_or(0, |board| board.tallies().len())];
    for board in boards {
        for (sum, tally) in sums.iter_mut().zip(board.tallies()) {
            let mut tally = tally.lock();
            sum.merge(&tally);
            tally.recent_us.reset();
        }
    }
    sums
}

/// Watches the run.
struct Look {
    start: Instant,
    steady_from: Instant,
    servers: Servers,
    publishers: Arc<Mutex<Publishers>>,
    began: Seen,
    last: Seen,
    steady: Option<Seen>,
    series: Vec<Sample>,
}

/// The running totals at one moment.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    frames: u64,
    bytes: u64,
    joined: u64,
    publisher_frames: u64,
    publisher_bytes: u64,
    client_cpu_us: u64,
    server_cpu_us: u64,
}

impl Look {
    fn new(start: Instant, plan: &Plan, mut servers: Servers, publishers: Arc<Mutex<Publishers>>) -> Self {
        let server_cpu_us = servers.sample();
        let client_cpu_us = usage::own_cpu_us();
        let began = Seen {
            at: start,
            frames: 0,
            bytes: 0,
            joined: 0,
            publisher_frames: 0,
            publisher_bytes: 0,
            client_cpu_us,
            server_cpu_us,
        };
        let steady_from = start + plan.joined_after + SETTLING;
        Self { start, steady_from, servers, publishers, began, last: began, steady: None, series: Vec::new() }
    }

    /// Looks again and again.
    async fn on(
        &mut self,
        every: &mut Interval,
        boards: &[Arc<Board>],
        on_sample: &mut impl FnMut(&Sample, &Tally, &[Tally]),
    ) {
        loop {
            every.tick().await;
            self.once(boards, on_sample);
        }
    }

    fn once(&mut self, boards: &[Arc<Board>], on_sample: &mut impl FnMut(&Sample, &Tally, &[Tally])) {
        let (watched, mut all) = (take(boards), Tally::default());
        watched.iter().for_each(|tally| all.merge(tally));
        let (publisher_frames, publisher_bytes) = {
            let publishers = self.publishers.lock();
            (publishers.frames, publishers.bytes)
        };
        let now = Seen {
            at: clock::now(),
            frames: all.counts.frames,
            bytes: all.counts.bytes,
            joined: all.counts.joined,
            publisher_frames,
            publisher_bytes,
            client_cpu_us: usage::own_cpu_us() + boards.iter().map(|board| board.cpu_us()).sum::<u64>(),
            server_cpu_us: self.servers.sample(),
        };
        if self.steady.is_none() && now.at >= self.steady_from {
            self.steady = Some(now);
            self.servers.begin_steady();
        }
        let last = std::mem::replace(&mut self.last, now);
        let secs = now.at.saturating_duration_since(last.at).as_secs_f64().max(0.001);
        let latency = |quantile| all.recent_us.value_at_quantile(quantile) as f64 / 1000.0;
        let sample = Sample {
            at_ms: u64::try_from(now.at.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX),
            viewers: all.playing,
            joined: now.joined.saturating_sub(last.joined),
            bits_per_s: (now.bytes.saturating_sub(last.bytes) as f64 * 8.0 / secs) as u64,
            client_cpu_percent: now.client_cpu_us.saturating_sub(last.client_cpu_us) as f64 / secs / 10_000.0,
            server_cpu_percent: now.server_cpu_us.saturating_sub(last.server_cpu_us) as f64 / secs / 10_000.0,
            latency_ms_p50: latency(0.5),
            latency_ms_p99: latency(0.99),
        };
        on_sample(&sample, &all, &watched);
        self.series.push(sample);
    }

    fn finish(self) -> Report {
        let end = self.last;
        let since = self.steady.unwrap_or(end);
        let steady = Steady {
            secs: end.at.saturating_duration_since(since.at).as_secs_f64(),
            frames: end.frames.saturating_sub(since.frames),
            bytes: end.bytes.saturating_sub(since.bytes),
            publisher_frames: end.publisher_frames - since.publisher_frames,
            publisher_bytes: end.publisher_bytes - since.publisher_bytes,
            client_cpu_us: end.client_cpu_us.saturating_sub(since.client_cpu_us),
            server_cpu_us: end.server_cpu_us.saturating_sub(since.server_cpu_us),
        };
        Report {
            servers: self.servers.finish(steady.secs),
            client_cpu_us: end.client_cpu_us.saturating_sub(self.began.client_cpu_us),
            steady,
            series: self.series,
            ..Report::default()
        }
    }
}

/// Agents learn of the start so long before it.
const AGENTS_LEAD: Duration = Duration::from_millis(500);
/// Sent later than this, frames say more of the load generator than of the server.
const LATE_MS_MAX: u64 = 250;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);
/// The steady part begins so long after the last viewer should have joined.
const SETTLING: Duration = Duration::from_secs(1);
