//! AAC: LC and HE-AAC decode, LC encodes.

use bytes::Bytes;
use syom::Channel;

use super::codec::{CodecError, Decode, Encode, RATE, encode_error};
use crate::media::{AudioConfig, Codec};

/// Decodes LC and HE-AAC in any channels, and mixes them down.
pub(super) struct AacDecoder {
    description: Bytes,
    channels: u8,
    decoder: syom::Decoder,
}

impl AacDecoder {
    pub(super) fn new(description: Bytes, channels: u8) -> Result<Self, CodecError> {
        let decoder = Self::open(&description)?;
        Ok(Self { description, channels, decoder })
    }

    fn open(description: &[u8]) -> Result<syom::Decoder, CodecError> {
        // A stream has no end that a duration could bound.
        let options = syom::DecodeOptions::audio().with_max_duration_secs(f64::INFINITY);
        syom::Decoder::from_asc(description, options).map_err(|error| CodecError::Unsupported(error.to_string()))
    }
}

impl Decode for AacDecoder {
    fn decode(&mut self, frame: &[u8], samples: &mut Vec<f32>) -> Result<u32, CodecError> {
        if self.decoder.is_failed() {
            self.decoder = Self::open(&self.description)?;
        }
        let (channels, mut rate) = (self.channels, 0);
        let decoded = self.decoder.decode_au(frame, |frame| {
            rate = frame.sample_rate;
            mix(frame.planar, frame.meta.labels(), channels, samples);
            Ok(())
        });
        match decoded {
            Ok(()) if rate > 0 => Ok(rate),
            Ok(()) => Err(CodecError::Frame("it is empty".into())),
            Err(error) => Err(CodecError::Frame(error.to_string())),
        }
    }

    fn conceal(&mut self, _: u64, _: &mut Vec<f32>) -> bool {
        false
    }
}

/// Mixes planes down to one or two channels.
fn mix(planes: &[&[f32]], labels: impl Iterator<Item = Channel>, channels: u8, samples: &mut Vec<f32>) {
    let weights: Vec<_> = match planes.len() {
        // Parametric stereo is labelled as the one channel that it was made of.
        2 => vec![(1.0, 0.0), (0.0, 1.0)],
        1 => vec![(1.0, 1.0)],
        count => labels.chain(std::iter::repeat(Channel::Other)).map(weight).take(count).collect(),
    };
    let sums = weights.iter().fold((0.0, 0.0), |sum, weight| (sum.0 + weight.0, sum.1 + weight.1));
    let scale = 1.0 / f32::max(1.0, f32::max(sums.0, sums.1));
    for index in 0..planes.first().map_or(0, |plane| plane.len()) {
        let (mut left, mut right) = (0.0, 0.0);
        for (plane, weight) in planes.iter().zip(&weights) {
            let sample = plane.get(index).copied().unwrap_or_default();
            left += sample * weight.0;
            right += sample * weight.1;
        }
        match channels {
            1 => samples.push((left + right) * 0.5 * scale),
            _ => samples.extend([left * scale, right * scale]),
        }
    }
}

/// How much of a channel goes left and right (ITU-R BS.775-4, Annex 4).
fn weight(channel: Channel) -> (f32, f32) {
    const HALF_POWER: f32 = std::f32::consts::FRAC_1_SQRT_2;
    match channel {
        Channel::FrontLeft => (1.0, 0.0),
        Channel::FrontRight => (0.0, 1.0),
        Channel::BackLeft | Channel::SideLeft => (HALF_POWER, 0.0),
        Channel::BackRight | Channel::SideRight => (0.0, HALF_POWER),
        Channel::FrontCenter => (HALF_POWER, HALF_POWER),
        Channel::BackCenter => (0.5, 0.5),
        Channel::Lfe => (0.0, 0.0),
        _ => (1.0, 1.0),
    }
}

/// Encodes AAC-LC.
pub(super) struct AacEncoder {
    channels: u8,
    encoder: syom::Encoder,
    planes: [Vec<f32>; 2],
}

impl AacEncoder {
    pub(super) fn new(channels: u8) -> Result<Self, CodecError> {
        let options = syom::EncodeOptions::raw().with_bitrate_bps(AAC_BITS_PER_CHANNEL * u32::from(channels));
        let encoder = syom::Encoder::new(RATE, channels.into(), &options).map_err(encode_error)?;
        Ok(Self { channels, encoder, planes: Default::default() })
    }
}

impl Encode for AacEncoder {
    fn config(&self) -> AudioConfig {
        let description = Bytes::copy_from_slice(self.encoder.asc());
        AudioConfig { codec: Codec::Aac, description, sample_rate: RATE, channels: self.channels }
    }

    fn frame_samples(&self) -> usize {
        1024
    }

    fn delay_samples(&self) -> u32 {
        1024
    }

    fn encode(&mut self, samples: &[f32]) -> Result<Bytes, CodecError> {
        let count = usize::from(self.channels);
        for (nth, plane) in self.planes.iter_mut().enumerate() {
            plane.clear();
            plane.extend(samples.iter().skip(nth).step_by(count));
        }
        let planes = self.planes.each_ref().map(Vec::as_slice);
        let mut coded = Bytes::new();
        let fed = self.encoder.feed(planes.get(..count).unwrap_or_default(), |frame| {
            coded = Bytes::copy_from_slice(frame.payload);
            Ok(())
        });
        if let Err(error) = fed {
            self.encoder.reset().map_err(encode_error)?;
            return Err(encode_error(error));
        }
        Ok(coded)
    }
}

/// 128 kbit/s for two channels: what AAC-LC is clear at.
const AAC_BITS_PER_CHANNEL: u32 = 64_000;
