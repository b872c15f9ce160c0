//! The codecs: what decodes to samples and what encodes them, behind two traits.
//!
//! Samples are `f32` in -1..=1, interleaved, in one or two channels; what is encoded has 48 kHz.

use bytes::Bytes;

use super::{
    aac::{AacDecoder, AacEncoder},
    opus::{OpusDecoder, OpusEncoder},
};
use crate::media::{AudioConfig, Codec};

/// Samples a second of everything that is encoded.
pub(super) const RATE: u32 = 48_000;

/// Why sound can't be converted.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    /// The configuration, or what it asks for, can't be decoded here.
    #[error("this sound can't be decoded: {0}")]
    Unsupported(String),
    /// One frame is broken; the next one may be whole.
    #[error("a frame can't be decoded: {0}")]
    Frame(String),
    /// Samples were not taken.
    #[error("samples can't be encoded: {0}")]
    Encode(String),
}

/// Turns coded frames into samples.
pub(super) trait Decode: Send {
    /// Appends the samples of one frame; gives their rate.
    fn decode(&mut self, frame: &[u8], samples: &mut Vec<f32>) -> Result<u32, CodecError>;

    /// Appends what hides the loss of about `count` samples a channel. False if it can't.
    fn conceal(&mut self, count: u64, samples: &mut Vec<f32>) -> bool;
}

/// Turns samples into coded frames.
pub(super) trait Encode: Send {
    /// What decoders need to know.
    fn config(&self) -> AudioConfig;

    /// Samples a channel in each frame.
    fn frame_samples(&self) -> usize;

    /// How many samples later than it came a sample leaves the decoder.
    fn delay_samples(&self) -> u32;

    /// Encodes the samples of one frame.
    fn encode(&mut self, samples: &[f32]) -> Result<Bytes, CodecError>;
}

/// A decoder of what `config` describes, to one or two channels.
pub(super) fn decoder(config: &AudioConfig, channels: u8) -> Result<Box<dyn Decode>, CodecError> {
    match config.codec {
        Codec::Opus => Ok(Box::new(OpusDecoder::new(channels, config.channels)?)),
        _ => Ok(Box::new(AacDecoder::new(config.description.clone(), channels)?)),
    }
}

/// An encoder to `codec` from one or two channels.
pub(super) fn encoder(codec: Codec, channels: u8) -> Result<Box<dyn Encode>, CodecError> {
    match codec {
        Codec::Opus => Ok(Box::new(OpusEncoder::new(channels)?)),
        _ => Ok(Box::new(AacEncoder::new(channels)?)),
    }
}

/// An encoder's refusal.
pub(super) fn encode_error(error: impl ToString) -> CodecError {
    CodecError::Encode(error.to_string())
}
