//! From the rate of what was decoded to that of what is encoded, a little faster or slower where clocks differ.

use rubato::{
    Adjustable as _, Async, FixedAsync, Resampler as _, SincInterpolationParameters, SincInterpolationType,
    WindowFunction, audioadapter_buffers::direct::InterleavedSlice,
};

use super::codec::{CodecError, RATE};

/// A resampler that gives whole frames of the encoder.
pub(super) struct Resampler {
    inner: Async<f32>,
    channels: usize,
    /// Interleaved samples that wait.
    queue: Vec<f32>,
    /// Samples a channel that were taken from the queue.
    taken: u64,
}

impl Resampler {
    /// From `rate` to frames of `frame_samples` at [`RATE`].
    pub(super) fn new(rate: u32, channels: usize, frame_samples: usize) -> Result<Self, CodecError> {
        let parameters = SincInterpolationParameters {
            sinc_len: SINC_SAMPLES,
            f_cutoff: None,
            oversampling_factor: 256,
            interpolation: SincInterpolationType::Linear,
            window: WindowFunction::BlackmanHarris2,
        };
        let ratio = f64::from(RATE) / f64::from(rate);
        let inner =
            Async::new_sinc(ratio, 1.0 + 2.0 * BEND_MAX, &parameters, frame_samples, channels, FixedAsync::Output)
                .map_err(|error| CodecError::Unsupported(error.to_string()))?;
        Ok(Self { inner, channels, queue: Vec::new(), taken: 0 })
    }

    /// How many samples, at [`RATE`], later than it came a sample leaves.
    pub(super) fn delay_samples(&self) -> u64 {
        self.inner.output_delay() as u64
    }

    /// Samples a channel that were used up so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Adds interleaved samples.
    pub(super) fn push(&mut self, samples: &[f32]) {
        self.queue.extend_from_slice(samples);
    }

    /// Fills a frame, making of each sample `bend` more than the rates demand. False if there is not enough for it.
    pub(super) fn pull(&mut self, bend: f64, frame: &mut [f32]) -> Result<bool, CodecError> {
        let error = |error: &dyn ToString| CodecError::Encode(error.to_string());
        let bend = bend.clamp(-BEND_MAX, BEND_MAX);
        self.inner.set_resample_ratio_relative(1.0 + bend, true).map_err(|e| error(&e))?;
        let waiting = self.queue.len() / self.channels;
        if waiting < self.inner.input_frames_next() {
            return Ok(false);
        }
        let length = frame.len() / self.channels;
        let input = InterleavedSlice::new(&self.queue, self.channels, waiting).map_err(|e| error(&e))?;
        let mut output = InterleavedSlice::new_mut(frame, self.channels, length).map_err(|e| error(&e))?;
        let (taken, _) = self.inner.process_into_buffer(&input, &mut output, None).map_err(|e| error(&e))?;
        self.queue.drain(..(taken * self.channels).min(self.queue.len()));
        self.taken += taken as u64;
        Ok(true)
    }
}

/// Most that the pitch may be bent: eight cents, which nobody hears.
const BEND_MAX: f64 = 0.005;
/// Length of the filter: 1.3 ms at 48 kHz.
const SINC_SAMPLES: usize = 64;
