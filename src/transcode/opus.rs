//! Opus (RFC 6716), at 48 kHz.

use bytes::Bytes;

use super::codec::{CodecError, Decode, Encode, RATE, encode_error};
use crate::media::{AudioConfig, Codec};

/// Decodes packets of any length, and hides the loss of some.
pub(super) struct OpusDecoder {
    channels: u8,
    decoder: opus_rs::OpusDecoder,
    buffer: Vec<f32>,
}

impl OpusDecoder {
    pub(super) fn new(channels: u8, coded_channels: u8) -> Result<Self, CodecError> {
        if coded_channels > 2 {
            return Err(CodecError::Unsupported(format!("Opus with {coded_channels} channels")));
        }
        let decoder = opus_rs::OpusDecoder::new(RATE.cast_signed(), channels.into())
            .map_err(|error| CodecError::Unsupported(error.to_owned()))?;
        Ok(Self { channels, decoder, buffer: Vec::new() })
    }

    fn run(&mut self, packet: &[u8], count: usize, samples: &mut Vec<f32>) -> Result<(), CodecError> {
        self.buffer.clear();
        self.buffer.resize(count * usize::from(self.channels), 0.0);
        self.decoder.decode(packet, count, &mut self.buffer).map_err(|error| CodecError::Frame(error.to_owned()))?;
        samples.extend_from_slice(&self.buffer);
        Ok(())
    }
}

impl Decode for OpusDecoder {
    fn decode(&mut self, packet: &[u8], samples: &mut Vec<f32>) -> Result<u32, CodecError> {
        let count = opus_samples(packet).ok_or_else(|| CodecError::Frame("no such packet".into()))?;
        self.run(packet, count, samples)?;
        Ok(RATE)
    }

    fn conceal(&mut self, count: u64, samples: &mut Vec<f32>) -> bool {
        let mut steps = (usize::try_from(count).unwrap_or(0) + OPUS_STEP / 2) / OPUS_STEP;
        while steps > 0 {
            let part = steps.min(OPUS_FRAME_STEPS);
            if self.run(&[], part * OPUS_STEP, samples).is_err() {
                return false;
            }
            steps -= part;
        }
        true
    }
}

/// Samples a channel of an Opus packet at 48 kHz (RFC 6716 §3.1, §3.2); `None` if it has none, or more than 120 ms.
fn opus_samples(packet: &[u8]) -> Option<usize> {
    let (toc, rest) = packet.split_first()?;
    let config = usize::from(toc >> 3);
    let each = match config {
        0..12 => *[480, 960, 1920, 2880].get(config % 4)?,
        12..16 => *[480, 960].get(config % 2)?,
        _ => *[120, 240, 480, 960].get(config % 4)?,
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => usize::from(rest.first()? & 0x3f),
    };
    (1..=OPUS_PACKET_SAMPLES_MAX).contains(&(each * count)).then_some(each * count)
}

/// Encodes packets of 20 ms.
pub(super) struct OpusEncoder {
    channels: u8,
    encoder: opus_rs::OpusEncoder,
}

impl OpusEncoder {
    pub(super) fn new(channels: u8) -> Result<Self, CodecError> {
        let mut encoder = opus_rs::OpusEncoder::new(RATE.cast_signed(), channels.into(), opus_rs::Application::Audio)
            .map_err(encode_error)?;
        encoder.bitrate_bps = OPUS_BITS_PER_CHANNEL * i32::from(channels);
        Ok(Self { channels, encoder })
    }
}

impl Encode for OpusEncoder {
    fn config(&self) -> AudioConfig {
        // RFC 7845 §5.1: version, channels, pre-skip, original rate, gain, mapping family; little endian.
        let mut head = b"OpusHead\x01".to_vec();
        head.push(self.channels);
        head.extend(OPUS_DELAY.to_le_bytes());
        head.extend(RATE.to_le_bytes());
        head.extend([0; 3]);
        AudioConfig { codec: Codec::Opus, description: head.into(), sample_rate: RATE, channels: self.channels }
    }

    fn frame_samples(&self) -> usize {
        960
    }

    fn delay_samples(&self) -> u32 {
        OPUS_DELAY.into()
    }

    fn encode(&mut self, samples: &[f32]) -> Result<Bytes, CodecError> {
        let mut packet = [0; OPUS_PACKET_BYTES_MAX];
        let length = self.encoder.encode(samples, 960, &mut packet).map_err(encode_error)?;
        packet.get(..length).map(Bytes::copy_from_slice).ok_or_else(|| encode_error("a packet without an end"))
    }
}

/// 96 kbit/s for two channels.
const OPUS_BITS_PER_CHANNEL: i32 = 48_000;
/// The encoder's look-ahead: 2.5 ms of the transform and 4 ms to bring all modes in line.
const OPUS_DELAY: u16 = 312;
/// Concealment comes in steps of 2.5 ms …
const OPUS_STEP: usize = 120;
/// … and at most this many at once, as in a packet of 20 ms.
const OPUS_FRAME_STEPS: usize = 8;
const OPUS_PACKET_SAMPLES_MAX: usize = 5760;
/// RFC 6716 §3.4: a frame has at most 1,275 bytes, and a packet of one frame a byte before it.
const OPUS_PACKET_BYTES_MAX: usize = 1276;
