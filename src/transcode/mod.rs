//! Sound in a codec that viewers can take: once per stream, while somebody needs it, on threads of its own.
//!
//! What is made is a line like the stream's own, with the same pictures, events and groups. A stream whose sound
//! fits its viewers costs nothing here.

mod aac;
mod codec;
mod convert;
mod opus;
mod resample;
mod sound;

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    io,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use self::sound::SoundMux;
use crate::{
    hub::{Bounds, Merge, Muxed, Pool, Settings, Stream, Terms, Transcode},
    media::{Codec, Item, StreamName},
    observe::metrics::Metrics,
};

/// The conversions that run on this node.
pub struct Transcoders {
    pool: Pool<(StreamName, Codec), Item>,
    /// A stream always runs on the same one.
    runtimes: Vec<Handle>,
    metrics: Arc<Metrics>,
}

impl Transcoders {
    /// Starts `threads` for conversions; they and what runs there end with `stop`.
    pub fn start(
        threads: usize,
        settings: &Settings,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> io::Result<Arc<Self>> {
        let start = |index| {
            let runtime = Builder::new_current_thread().enable_time().build()?;
            let (handle, stop) = (runtime.handle().clone(), stop.clone());
            thread::Builder::new()
                .name(format!("transcode-{index}"))
                .spawn(move || runtime.block_on(stop.cancelled()))?;
            Ok(handle)
        };
        let runtimes = (0..threads).map(start).collect::<io::Result<_>>()?;
        Ok(Self::on(runtimes, settings, metrics, stop.clone()))
    }

    /// Conversions on runtimes that are there.
    fn on(runtimes: Vec<Handle>, settings: &Settings, metrics: Arc<Metrics>, stop: CancellationToken) -> Arc<Self> {
        let bounds = Bounds { bytes_max: settings.ring_bytes_max, groups_max: settings.gops_max };
        let merge = Merge { audio: Duration::ZERO, all: Duration::ZERO };
        let terms = Terms { bounds, linger: settings.linger, merge, stop, transcode: None, history: false };
        Arc::new(Self { pool: Pool::new(terms), runtimes, metrics })
    }
}

impl Transcode for Transcoders {
    fn attach(&self, source: &Arc<Stream>, codec: Codec) -> Muxed<Item> {
        let name = source.name();
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(name);
        let nth = usize::try_from(hash).unwrap_or(0).checked_rem(self.runtimes.len()).unwrap_or(0);
        // What is spawned meanwhile runs there.
        let _there = self.runtimes.get(nth).map(Handle::enter);
        let muxer = || SoundMux::new(name.clone(), codec, self.metrics.clone());
        self.pool.attach((name.clone(), codec), source, muxer)
    }
}

#[cfg(test)]
mod tests;
