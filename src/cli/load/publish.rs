//! Publishers: synthetic streams over RTMP.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::timeout_at;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use super::{media::Synthetic, report::Publishers};
use crate::{
    cli::rtmp::{Client, Failed},
    clock,
    proto::rtmp::ClientMode,
    secret::redact,
    task,
};

/// Publishers on air.
pub(super) struct OnAir {
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Connects them all; returns when each has been accepted or refused.
pub(super) async fn begin(urls: Vec<Url>, media: Arc<Synthetic>, counts: Arc<Mutex<Publishers>>) -> OnAir {
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let all = urls.len().max(1) as f64;
    counts.lock().count = urls.len() as u64;
    let connecting = stream::iter(urls.into_iter().enumerate()).for_each_concurrent(CONNECTING_MAX, |(nth, url)| {
        let (stop, tasks, media, counts) = (stop.clone(), tasks.clone(), media.clone(), counts.clone());
        async move {
            match Client::connect(&url, ClientMode::Publish).await {
                Ok(client) => {
                    let phase = nth as f64 / all;
                    task::spawn("publisher", tasks.track_future(publish(client, url, media, phase, counts, stop)));
                }
                Err(failed) => {
                    eprintln!("a publisher failed: {}: {failed}", redact(url.as_str()));
                    counts.lock().failed += 1;
                }
            }
        }
    });
    connecting.await;
    OnAir { stop, tasks }
}

impl OnAir {
    /// Ends their streams.
    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn publish(
    mut client: Client,
    url: Url,
    media: Arc<Synthetic>,
    phase: f64,
    counts: Arc<Mutex<Publishers>>,
    stop: CancellationToken,
) {
    match stop.run_until_cancelled(feed(&mut client, &media, phase, &counts)).await {
        Some(Err(failed)) => {
            eprintln!("a publisher was lost: {}: {failed}", redact(url.as_str()));
            counts.lock().lost += 1;
        }
        // The server may have gone first.
        Some(Ok(())) | None => drop(client.close().await),
    }
}

/// Sends the stream, each frame at its time.
async fn feed(client: &mut Client, media: &Synthetic, phase: f64, counts: &Mutex<Publishers>) -> Result<(), Failed> {
    media.heads().iter().try_for_each(|head| client.send(0, head))?;
    let start = clock::now() + media.frame_interval().mul_f64(phase);
    for due in media.frames(phase) {
        let at = start + Duration::from_micros(due.at_us);
        // The server has nothing to say that matters here, save that it is over.
        let over = timeout_at(at, async {
            loop {
                client.next().await?;
            }
        });
        if let Ok(over) = over.await {
            return over;
        }
        let late = clock::now().saturating_duration_since(at);
        let tag = media.tag(&due, clock::unix_us());
        // RTMP's timestamps wrap at 32 bits.
        client.send((due.at_us / 1000) as u32, &tag)?;
        let mut counts = counts.lock();
        counts.frames += 1;
        counts.bytes += u64::from(tag.length());
        counts.late_ms_max = counts.late_ms_max.max(u64::try_from(late.as_millis()).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// Servers bound how many strangers an address may send them at once.
const CONNECTING_MAX: usize = 32;
