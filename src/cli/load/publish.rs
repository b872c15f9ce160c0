//! Publishers: synthetic streams over RTMP, or over WebRTC.

use std::{io, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::timeout_at;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use super::{
    complain,
    engine::{deal, on_thread},
    media::{Due, Synthetic},
    report::Publishers,
    whip,
};
use crate::{
    cli::{rtmp, webrtc},
    clock::{self, Instant},
    proto::rtmp::ClientMode,
    task,
};

/// Why somebody doesn't publish, or no more.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Rtmp(#[from] rtmp::Failed),
    #[error(transparent)]
    WebRtc(#[from] webrtc::Failed),
}

/// Publishers on air.
#[derive(Clone)]
pub(super) struct OnAir {
    media: Arc<Synthetic>,
    counts: Arc<Mutex<Publishers>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Connects them all, on so many threads; returns when each has been accepted or refused, or once `interrupted`.
pub(super) async fn begin(
    urls: Vec<Url>,
    media: Arc<Synthetic>,
    counts: Arc<Mutex<Publishers>>,
    threads: usize,
    interrupted: &CancellationToken,
) -> io::Result<OnAir> {
    let on_air = OnAir { media, counts, stop: CancellationToken::new(), tasks: TaskTracker::new() };
    let (connecting, all) = (TaskTracker::new(), urls.len());
    on_air.counts.lock().count = all as u64;
    let phased = urls.into_iter().enumerate().map(|(nth, url)| (nth as f64 / all as f64, url));
    for part in deal(phased, threads.min(all)) {
        let connected = connecting.track_future(on_air.clone().connect(part, interrupted.clone()));
        let tasks = on_air.tasks.clone();
        on_thread("publishers", async move {
            connected.await;
            tasks.wait().await;
        })?;
    }
    connecting.close();
    connecting.wait().await;
    Ok(on_air)
}

impl OnAir {
    /// Ends their streams.
    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn connect(self, urls: Vec<(f64, Url)>, interrupted: CancellationToken) {
        let connecting = stream::iter(urls).for_each_concurrent(CONNECTING_MAX, |(phase, url)| {
            let on_air = self.clone();
            async move {
                match Publisher::connect(&url, &on_air.media).await {
                    Ok(publisher) => {
                        let tasks = on_air.tasks.clone();
                        task::spawn("publisher", tasks.track_future(on_air.publish(publisher, url, phase)));
                    }
                    Err(failed) => {
                        complain(&format!("a publisher failed: {failed}"), url.as_str());
                        on_air.counts.lock().failed += 1;
                    }
                }
            }
        });
        interrupted.run_until_cancelled(connecting).await;
    }

    async fn publish(self, mut publisher: Publisher, url: Url, phase: f64) {
        match self.stop.run_until_cancelled(feed(&mut publisher, &self.media, phase, &self.counts)).await {
            Some(Err(failed)) => {
                complain(&format!("a publisher was lost: {failed}"), url.as_str());
                self.counts.lock().lost += 1;
            }
            // The server may have gone first.
            Some(Ok(())) | None => drop(publisher.close().await),
        }
    }
}

/// A publisher that was accepted.
enum Publisher {
    Rtmp(Box<rtmp::Client>),
    Whip(Box<whip::Publisher>),
}

impl Publisher {
    async fn connect(url: &Url, media: &Synthetic) -> Result<Self, Failed> {
        if url.scheme() != "rtmp" {
            return Ok(Self::Whip(Box::new(whip::Publisher::connect(url, media).await?)));
        }
        let mut client = rtmp::Client::connect(url, ClientMode::Publish).await?;
        media.heads().iter().try_for_each(|head| client.send(0, head))?;
        Ok(Self::Rtmp(Box::new(client)))
    }

    /// Waits, and does what the server asks for meanwhile; an error when it is over.
    async fn wait_until(&mut self, at: Instant) -> Result<(), Failed> {
        match self {
            Self::Rtmp(client) => {
                // The server has nothing to say that matters here, save that it is over.
                let over = timeout_at(at, async {
                    loop {
                        client.next().await?;
                    }
                });
                Ok(over.await.unwrap_or(Ok::<_, rtmp::Failed>(()))?)
            }
            Self::Whip(publisher) => Ok(publisher.wait_until(at).await?),
        }
    }

    /// Sends a frame that is due now; gives how many bytes it has.
    fn send(&mut self, due: &Due, media: &Synthetic) -> Result<u64, Failed> {
        match self {
            Self::Rtmp(client) => {
                let tag = media.tag(due, clock::unix_us());
                // RTMP's timestamps wrap at 32 bits.
                client.send((due.at_us / 1000) as u32, &tag)?;
                Ok(tag.length().into())
            }
            Self::Whip(publisher) => Ok(publisher.send(due, media) as u64),
        }
    }

    async fn close(self) -> Result<(), Failed> {
        match self {
            Self::Rtmp(client) => Ok(client.close().await?),
            Self::Whip(publisher) => Ok(publisher.close().await?),
        }
    }
}

/// Sends the stream, each frame at its time.
async fn feed(
    publisher: &mut Publisher,
    media: &Synthetic,
    phase: f64,
    counts: &Mutex<Publishers>,
) -> Result<(), Failed> {
    let start = clock::now() + media.frame_interval().mul_f64(phase);
    for due in media.frames(phase) {
        let at = start + Duration::from_micros(due.at_us);
        publisher.wait_until(at).await?;
        let late = clock::now().saturating_duration_since(at);
        let bytes = publisher.send(&due, media)?;
        let mut counts = counts.lock();
        counts.frames += 1;
        counts.bytes += bytes;
        counts.late_ms_max = counts.late_ms_max.max(u64::try_from(late.as_millis()).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// A thread's. Servers bound how many strangers an address may send them at once.
const CONNECTING_MAX: usize = 16;
