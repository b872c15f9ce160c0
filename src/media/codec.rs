//! Facts read from codec configuration records: dimensions, rates and RFC 6381 codec strings.
//!
//! A record that can't be read gives the documented fallback, never an error: hawker passes media on,
//! it doesn't judge it. Nothing here can panic, whatever the bytes.

mod bits;
pub mod parameter_sets;
pub mod record;
pub mod sei;
mod video;

use bytes::Bytes;

use self::bits::BitReader;
use super::frame::{AudioConfig, Codec, VideoConfig};

impl VideoConfig {
    /// Reads the picture's size out of a configuration record; 0 x 0 where it has none.
    pub fn from_description(codec: Codec, description: Bytes) -> Self {
        let (width, height) = video::dimensions(codec, &description).unwrap_or((0, 0));
        Self { codec, description, width, height }
    }

    /// The RFC 6381 `codecs` parameter, such as `avc1.64001f`; the bare sample entry if the record is too short.
    pub fn codec_string(&self) -> String {
        video::codec_string(self.codec, &self.description).unwrap_or_else(|| video::sample_entry(self.codec).to_owned())
    }
}

impl AudioConfig {
    /// Reads rate and channels out of a configuration record.
    ///
    /// Fallbacks: 48 kHz stereo for Opus, whose record may be empty, and 44.1 kHz stereo for AAC, the
    /// only format that FLV's own tag header can state for it (Annex E.4.2.1).
    pub fn from_description(codec: Codec, description: Bytes) -> Self {
        let (sample_rate, channels) = match codec {
            // Opus always decodes at 48 kHz; OpusHead's rate is that of the original (RFC 7845 §5.1).
            Codec::Opus => (48_000, opus_channels(&description).unwrap_or(2)),
            _ => match AacConfig::parse(&description) {
                Some(aac) => (aac.sample_rate, aac.channels),
                None => (44_100, 2),
            },
        };
        Self { codec, description, sample_rate, channels }
    }

    /// The RFC 6381 `codecs` parameter, such as `mp4a.40.2`.
    pub fn codec_string(&self) -> String {
        match self.codec {
            Codec::Opus => "opus".to_owned(),
            _ => format!("mp4a.40.{}", AacConfig::parse(&self.description).map_or(2, |aac| aac.object_type)),
        }
    }
}

/// The parts of an AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1) that players need.
struct AacConfig {
    object_type: u32,
    sample_rate: u32,
    channels: u8,
}

impl AacConfig {
    fn parse(description: &[u8]) -> Option<Self> {
        let mut bits = BitReader::new(description);
        let object_type = read_object_type(&mut bits)?;
        let mut sample_rate = read_sample_rate(&mut bits)?;
        let channels = match bits.read(4)? {
            // 0 means "see the program config element"; stereo is what encoders mean by it in practice.
            0 => 2,
            n @ 1..=6 => u8::try_from(n).ok()?,
            7 | 12 | 14 => 8,
            11 => 7,
            _ => return None,
        };
        // Explicit SBR and PS signal the decoder's output rate after the core's.
        if matches!(object_type, 5 | 29) {
            sample_rate = read_sample_rate(&mut bits)?;
        }
        // Parametric stereo (29) makes two channels of the one that is coded.
        let channels = if object_type == 29 { channels.max(2) } else { channels };
        Some(Self { object_type, sample_rate, channels })
    }
}

fn read_object_type(bits: &mut BitReader<'_>) -> Option<u32> {
    match bits.read(5)? {
        0 => None,
        31 => Some(32 + bits.read(6)?),
        short => Some(short),
    }
}

fn read_sample_rate(bits: &mut BitReader<'_>) -> Option<u32> {
    let index = bits.read(4)?;
    let rate = match usize::try_from(index) {
        Ok(15) => bits.read(24)?,
        Ok(index) => *AAC_SAMPLE_RATES.get(index)?,
        Err(_) => return None,
    };
    (rate > 0).then_some(rate)
}

fn opus_channels(head: &[u8]) -> Option<u8> {
    let channels = *head.strip_prefix(b"OpusHead")?.get(1)?;
    (channels > 0).then_some(channels)
}

const AAC_SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

#[cfg(test)]
mod tests;
