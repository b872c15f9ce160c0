//! One stream's sound from one codec to another, each sample staying where it is in time.
//!
//! The time of what goes in is its stamps, smoothed: encoders round them. The time of what comes out is a count of
//! samples. Where the two part (the encoder's clocks differ) the resampler stretches the sound; where a stamp
//! jumps, the conversion begins anew at it.

use std::time::Duration;

use bytes::Bytes;

use super::{
    codec::{self, CodecError, Decode, Encode, RATE},
    resample::Resampler,
};
use crate::{
    limits,
    media::{AudioConfig, Codec},
};

/// One decoder and one encoder.
pub(super) type Codecs = (Box<dyn Decode>, Box<dyn Encode>);

/// A conversion. Bytes and stamps in, bytes and stamps out.
pub(super) struct Converter {
    channels: u8,
    /// Makes the codecs, again after each jump.
    open: Box<dyn Fn() -> Result<Codecs, CodecError> + Send>,
    decoder: Box<dyn Decode>,
    encoder: Box<dyn Encode>,
    run: Option<Run>,
    /// What was decoded of the frame at hand.
    samples: Vec<f32>,
    /// Samples of the last frame that could be decoded.
    frame_length: usize,
}

/// A converted frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Coded {
    /// When it is heard.
    pub(super) pts_us: i64,
    /// The frame.
    pub(super) data: Bytes,
}

impl Converter {
    /// From what `source` describes to `codec`.
    pub(super) fn new(source: &AudioConfig, codec: Codec) -> Result<Self, CodecError> {
        let (source, channels) = (source.clone(), source.channels.clamp(1, 2));
        let open = move || Ok((codec::decoder(&source, channels)?, codec::encoder(codec, channels)?));
        Self::with(channels, Box::new(open))
    }

    pub(super) fn with(
        channels: u8,
        open: Box<dyn Fn() -> Result<Codecs, CodecError> + Send>,
    ) -> Result<Self, CodecError> {
        let (decoder, encoder) = open()?;
        Ok(Self { channels, open, decoder, encoder, run: None, samples: Vec::new(), frame_length: 0 })
    }

    /// What describes the converted sound.
    pub(super) fn config(&self) -> AudioConfig {
        self.encoder.config()
    }

    /// Takes a frame; appends those that it completes. After an error the sound goes on: where a broken frame was
    /// there is silence.
    pub(super) fn handle_frame(&mut self, pts_us: i64, data: &[u8], out: &mut Vec<Coded>) -> Result<(), CodecError> {
        self.close_gap(pts_us)?;
        self.samples.clear();
        let decoded = match data.len() {
            ..=limits::TRANSCODE_FRAME_BYTES_MAX => self.decoder.decode(data, &mut self.samples),
            _ => Err(CodecError::Frame("it is too long".into())),
        };
        let rate = match (&decoded, &self.run) {
            (Ok(rate), _) => {
                self.frame_length = self.samples.len();
                *rate
            }
            (Err(_), Some(run)) => {
                self.samples.clear();
                self.samples.resize(self.frame_length, 0.0);
                run.rate
            }
            (Err(_), None) => return decoded.map(drop),
        };
        let run = match &mut self.run {
            Some(run) if run.rate == rate => run,
            run => run.insert(Run::new(rate, self.channels, pts_us, self.encoder.as_ref())?),
        };
        run.handle_stamp(pts_us);
        run.push(&self.samples);
        let encoded = self.encode(out);
        decoded.map(drop).and(encoded)
    }

    /// Readies what goes on at `pts_us`: a short gap in Opus is concealed, and any other jump begins anew.
    fn close_gap(&mut self, pts_us: i64) -> Result<(), CodecError> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let jump_us = run.jump_us(pts_us);
        self.samples.clear();
        if (CONCEAL_US_MIN..=micros(limits::TRANSCODE_CONCEAL_MAX)).contains(&jump_us)
            && self.decoder.conceal(run.samples_in(jump_us), &mut self.samples)
        {
            run.push(&self.samples);
        } else if jump_us.abs() > micros(limits::TRANSCODE_JUMP_MAX) {
            self.run = None;
            (self.decoder, self.encoder) = (self.open)()?;
        }
        Ok(())
    }

    fn encode(&mut self, out: &mut Vec<Coded>) -> Result<(), CodecError> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let mut result = Ok(());
        loop {
            let pts_us = match run.pull() {
                Ok(Some(pts_us)) => pts_us,
                Ok(None) => return result,
                Err(error) => {
                    // What it holds must not pile up.
                    self.run = None;
                    return Err(error);
                }
            };
            match self.encoder.encode(&run.frame) {
                Ok(data) => out.push(Coded { pts_us, data }),
                Err(error) => result = Err(error),
            }
        }
    }
}

/// What goes on without a jump.
struct Run {
    rate: u32,
    channels: usize,
    resampler: Resampler,
    /// Stamp of the first sample in.
    began_us: i64,
    /// Stamp of the first sample out: of what the filters are filled with before the first sample in.
    out_began_us: i64,
    /// Samples a channel that came in.
    taken_in: u64,
    /// Samples a channel that went out.
    given_out: u64,
    /// How much later the stamps are than the samples say, smoothed.
    late_us: f64,
    /// Stamps that went into it, up to [`SMOOTHED_STAMPS`].
    stamps: u32,
    /// The newest frame out.
    frame: Vec<f32>,
}

impl Run {
    fn new(rate: u32, channels: u8, pts_us: i64, encoder: &dyn Encode) -> Result<Self, CodecError> {
        let channels = usize::from(channels);
        let resampler = Resampler::new(rate, channels, encoder.frame_samples())?;
        let delay = u64::from(encoder.delay_samples()) + resampler.delay_samples();
        Ok(Self {
            rate,
            channels,
            resampler,
            began_us: pts_us,
            out_began_us: pts_us.saturating_sub(duration_us(delay, RATE)),
            taken_in: 0,
            given_out: 0,
            late_us: 0.0,
            stamps: 0,
            frame: vec![0.0; encoder.frame_samples() * channels],
        })
    }

    /// How much later than expected a frame with this stamp comes.
    fn jump_us(&self, pts_us: i64) -> i64 {
        // Rounded: it is some hours at most.
        let due_us = duration_us(self.taken_in, self.rate).saturating_add(self.late_us as i64);
        pts_us.saturating_sub(self.began_us).saturating_sub(due_us)
    }

    /// The samples a channel of that time.
    fn samples_in(&self, us: i64) -> u64 {
        u64::from(self.rate) * us.unsigned_abs() / 1_000_000
    }

    /// Takes the stamp of the samples that come next.
    fn handle_stamp(&mut self, pts_us: i64) {
        self.stamps = SMOOTHED_STAMPS.min(self.stamps + 1);
        self.late_us += self.jump_us(pts_us) as f64 / f64::from(self.stamps);
    }

    fn push(&mut self, samples: &[f32]) {
        self.taken_in += (samples.len() / self.channels) as u64;
        self.resampler.push(samples);
    }

    /// Fills `frame` if there is enough for it, and gives its stamp.
    fn pull(&mut self) -> Result<Option<i64>, CodecError> {
        let (taken_us, given_us) = (duration_us(self.resampler.taken(), self.rate), duration_us(self.given_out, RATE));
        // How much later than its stamp the next sample was in what came in.
        let late_us = self.late_us + (taken_us - given_us) as f64;
        if !self.resampler.pull(late_us / BEND_US, &mut self.frame)? {
            return Ok(None);
        }
        for sample in &mut self.frame {
            // Encoders refuse what is too loud, and what is no number.
            *sample = if sample.is_nan() { 0.0 } else { sample.clamp(-1.0, 1.0) };
        }
        self.given_out += (self.frame.len() / self.channels) as u64;
        Ok(Some(self.out_began_us.saturating_add(given_us)))
    }
}

fn duration_us(samples: u64, rate: u32) -> i64 {
    i64::try_from(u128::from(samples) * 1_000_000 / u128::from(rate.max(1))).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Stamps that are smoothed: about a second. Some encoders stamp what they get when they get it.
const SMOOTHED_STAMPS: u32 = 50;
/// A sound that is early or late gets back to its place in this time: 20 s, so that nobody hears its pitch change.
const BEND_US: f64 = 20e6;
/// Shorter gaps are none: stamps are rounded, and a packet has 20 ms.
const CONCEAL_US_MIN: i64 = 15_000;

#[cfg(test)]
mod tests;
