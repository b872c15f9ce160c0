//! MP4 files (ISO/IEC 14496-12), progressive and fragmented, as clips.

use std::iter;

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{
    Atom, Codec as SampleEntry, DecodeAtom, DecodeMaybe, Dops, Elst, Header, Moof, Moov, Stbl, StszSamples, Traf, Trak,
    Trex,
};

use super::{BadClip, Clip};
use crate::media::{AudioConfig, Codec, Frame, TrackKind, Tracks, VideoConfig};

pub(super) fn parse(file: &Bytes) -> Result<Clip, BadClip> {
    let (mut tracks, mut movie) = (Tracks::default(), Movie::default());
    let mut rest: &[u8] = file;
    loop {
        let at = file.len() - rest.len();
        let Some(header) = Header::decode_maybe(&mut rest).map_err(broken)? else { break };
        let length = header.size.unwrap_or(rest.len()).min(rest.len());
        let (mut body, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        match header.kind {
            Moov::KIND => movie = Movie::read(&Moov::decode_atom(&header, &mut body).map_err(broken)?, &mut tracks)?,
            Moof::KIND => movie.add_fragment(&Moof::decode_atom(&header, &mut body).map_err(broken)?, at as u64),
            _ => {}
        }
        rest = after;
    }
    let mut frames = Vec::new();
    for track in &movie.tracks {
        for sample in &track.samples {
            frames.push(track.frame(sample, file)?);
        }
    }
    Clip::new(tracks, frames)
}

/// The picture and the sound that are taken.
#[derive(Default)]
struct Movie {
    tracks: Vec<Track>,
}

struct Track {
    id: u32,
    kind: TrackKind,
    timescale: i64,
    /// Media time that is shown at the movie's time 0 (the edit list), in ticks.
    origin: i64,
    defaults: Option<Trex>,
    samples: Vec<Sample>,
    end: i64,
}

/// Where a sample is, and its times in ticks.
struct Sample {
    offset: u64,
    size: u64,
    dts: i64,
    cts: i64,
    keyframe: bool,
}

impl Movie {
    /// Takes the first picture and the first sound, with the samples that `moov` lists.
    fn read(moov: &Moov, tracks: &mut Tracks) -> Result<Self, BadClip> {
        let mut movie = Self::default();
        for trak in &moov.trak {
            let Some(entry) = trak.mdia.minf.stbl.stsd.codecs.first() else { continue };
            let kind = match config(entry)? {
                Some(Config::Video(config)) if tracks.video.is_none() => {
                    tracks.video = Some(config);
                    TrackKind::Video
                }
                Some(Config::Audio(config)) if tracks.audio.is_none() => {
                    tracks.audio = Some(config);
                    TrackKind::Audio
                }
                _ => continue,
            };
            let trexes = moov.mvex.iter().flat_map(|mvex| &mvex.trex);
            let mut track = Track {
                id: trak.tkhd.track_id,
                kind,
                timescale: i64::from(trak.mdia.mdhd.timescale.max(1)),
                origin: origin(trak, i64::from(moov.mvhd.timescale.max(1))),
                defaults: trexes.clone().find(|trex| trex.track_id == trak.tkhd.track_id).cloned(),
                samples: Vec::new(),
                end: 0,
            };
            track.add_table(&trak.mdia.minf.stbl);
            movie.tracks.push(track);
        }
        Ok(movie)
    }

    fn add_fragment(&mut self, moof: &Moof, moof_at: u64) {
        for traf in &moof.traf {
            if let Some(track) = self.tracks.iter_mut().find(|track| track.id == traf.tfhd.track_id) {
                track.add_fragment(traf, moof_at);
            }
        }
    }
}

/// The media time at the movie's time 0: what leading empty edits delay, and the first edit cuts off (§8.6.6).
fn origin(trak: &Trak, movie_timescale: i64) -> i64 {
    let Some(Elst { entries }) = trak.edts.as_ref().and_then(|edts| edts.elst.as_ref()) else { return 0 };
    let mut delay = 0;
    for edit in entries {
        match edit.media_time {
            None => delay += i64::try_from(edit.segment_duration).unwrap_or(0),
            Some(start) => {
                let delay = delay.saturating_mul(trak.mdia.mdhd.timescale.into()) / movie_timescale;
                return i64::try_from(start).unwrap_or(0) - delay;
            }
        }
    }
    0
}

impl Track {
    /// The samples of a progressive file (§8.6, §8.7).
    fn add_table(&mut self, stbl: &Stbl) {
        let sizes: Box<dyn Iterator<Item = u32>> = match &stbl.stsz.samples {
            StszSamples::Identical { count, size } => Box::new(iter::repeat_n(*size, *count as usize)),
            StszSamples::Different { sizes } => Box::new(sizes.iter().copied()),
        };
        let durations = stbl.stts.entries.iter().flat_map(|e| iter::repeat_n(e.sample_delta, e.sample_count as usize));
        let shifts = stbl.ctts.iter().flat_map(|ctts| &ctts.entries);
        let shifts = shifts.flat_map(|e| iter::repeat_n(e.sample_offset, e.sample_count as usize));
        let mut shifts = shifts.chain(iter::repeat(0));
        let (mut chunks, mut in_chunk, mut offset) = (chunks(stbl), 0u32, 0u64);
        for ((number, size), duration) in (1u32..).zip(sizes).zip(durations) {
            if in_chunk == 0 {
                let Some((at, samples)) = chunks.next() else { return };
                (offset, in_chunk) = (at, samples.max(1));
            }
            // Without a sync table every sample is one (§8.6.2).
            let keyframe = stbl.stss.as_ref().is_none_or(|stss| stss.entries.binary_search(&number).is_ok());
            let cts = shifts.next().unwrap_or(0);
            self.samples.push(Sample { offset, size: size.into(), dts: self.end, cts, keyframe });
            self.end += i64::from(duration);
            offset += u64::from(size);
            in_chunk -= 1;
        }
    }

    /// The samples of a fragment (§8.8): each field from the run, the fragment, or the track's defaults.
    fn add_fragment(&mut self, traf: &Traf, moof_at: u64) {
        let (tfhd, trex) = (&traf.tfhd, self.defaults.as_ref());
        let duration = tfhd.default_sample_duration.or(trex.map(|t| t.default_sample_duration)).unwrap_or(0);
        let size = tfhd.default_sample_size.or(trex.map(|t| t.default_sample_size)).unwrap_or(0);
        let flags = tfhd.default_sample_flags.or(trex.map(|t| t.default_sample_flags)).unwrap_or(0);
        let base = tfhd.base_data_offset.unwrap_or(moof_at);
        if let Some(tfdt) = &traf.tfdt {
            self.end = i64::try_from(tfdt.base_media_decode_time).unwrap_or(0);
        }
        let mut offset = base;
        for run in &traf.trun {
            if let Some(data_offset) = run.data_offset {
                offset = base.saturating_add_signed(data_offset.into());
            }
            for entry in &run.samples {
                let size = u64::from(entry.size.unwrap_or(size));
                self.samples.push(Sample {
                    offset,
                    size,
                    dts: self.end,
                    cts: entry.cts.unwrap_or(0),
                    keyframe: entry.flags.unwrap_or(flags) & NON_SYNC_SAMPLE == 0,
                });
                self.end += i64::from(entry.duration.unwrap_or(duration));
                offset = offset.saturating_add(size);
            }
        }
    }

    fn frame(&self, sample: &Sample, file: &Bytes) -> Result<Frame, BadClip> {
        let inside = |at: u64| usize::try_from(at).ok().filter(|at| *at <= file.len());
        let (Some(start), Some(end)) = (inside(sample.offset), inside(sample.offset.saturating_add(sample.size)))
        else {
            return Err(broken("it ends before its last sample"));
        };
        let us = |ticks: i64| i64::try_from(i128::from(ticks) * 1_000_000 / i128::from(self.timescale)).unwrap_or(0);
        Ok(Frame {
            track: self.kind,
            dts_us: us(sample.dts - self.origin),
            pts_us: us(sample.dts + sample.cts - self.origin),
            keyframe: sample.keyframe,
            data: file.slice(start..end),
        })
    }
}

/// Each chunk's offset and number of samples (§8.7.4, §8.7.5).
fn chunks(stbl: &Stbl) -> impl Iterator<Item = (u64, u32)> + '_ {
    let short = stbl.stco.iter().flat_map(|stco| stco.entries.iter().map(|at| u64::from(*at)));
    let long = stbl.co64.iter().flat_map(|co64| co64.entries.iter().copied());
    let runs = &stbl.stsc.entries;
    let mut run = 0;
    (1u32..).zip(short.chain(long)).map(move |(number, offset)| {
        while runs.get(run + 1).is_some_and(|next| next.first_chunk <= number) {
            run += 1;
        }
        (offset, runs.get(run).map_or(1, |run| run.samples_per_chunk))
    })
}

enum Config {
    Video(VideoConfig),
    Audio(AudioConfig),
}

/// The decoder configuration in a sample entry; `None` for text, timecode and the like.
fn config(entry: &SampleEntry) -> Result<Option<Config>, BadClip> {
    let (codec, description) = match entry {
        SampleEntry::Avc1(e) => (Codec::Avc, record(&e.avcc)?),
        SampleEntry::Avc3(e) => (Codec::Avc, record(&e.avcc)?),
        SampleEntry::Hvc1(e) => (Codec::Hevc, record(&e.hvcc)?),
        SampleEntry::Hev1(e) => (Codec::Hevc, record(&e.hvcc)?),
        SampleEntry::Av01(e) => (Codec::Av1, record(&e.av1c)?),
        SampleEntry::Vp08(_) => (Codec::Vp8, Bytes::new()),
        SampleEntry::Vp09(e) => (Codec::Vp9, record(&e.vpcc)?),
        SampleEntry::Mp4a(e) if e.esds.es_desc.dec_config.object_type_indication == OBJECT_TYPE_AAC => {
            let specific = e.esds.es_desc.dec_config.dec_specific.as_ref();
            (Codec::Aac, specific.map(|specific| specific.raw.clone()).unwrap_or_default().into())
        }
        SampleEntry::Opus(e) => (Codec::Opus, opus_head(&e.dops)),
        other => {
            let carries_media = other.visual().is_some() || other.audio().is_some();
            return if carries_media { Err(BadClip::Codec(name(other))) } else { Ok(None) };
        }
    };
    Ok(Some(match codec.kind() {
        TrackKind::Video => Config::Video(VideoConfig::from_description(codec, description)),
        TrackKind::Audio => Config::Audio(AudioConfig::from_description(codec, description)),
    }))
}

/// A configuration box's content, which is the codec's configuration record.
fn record(atom: &impl Atom) -> Result<Bytes, BadClip> {
    let mut body = Vec::new();
    atom.encode_body(&mut body).map_err(broken)?;
    Ok(body.into())
}

/// `dOps` as the OpusHead that RTMP carries (RFC 7845 §5.1): little endian, channel mapping family 0.
fn opus_head(dops: &Dops) -> Bytes {
    let mut head = BytesMut::with_capacity(19);
    head.put_slice(b"OpusHead");
    head.put_u8(1);
    head.put_u8(dops.output_channel_count);
    head.put_u16_le(dops.pre_skip);
    head.put_u32_le(dops.input_sample_rate);
    head.put_i16_le(dops.output_gain);
    head.put_u8(0);
    head.freeze()
}

/// The variant's name, which is the sample entry's.
fn name(entry: &SampleEntry) -> String {
    let debug = format!("{entry:?}");
    debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_lowercase()
}

fn broken(reason: impl ToString) -> BadClip {
    BadClip::Broken { container: "MP4", reason: reason.to_string() }
}

/// `sample_is_non_sync_sample` (§8.8.3.1).
const NON_SYNC_SAMPLE: u32 = 1 << 16;
/// `objectTypeIndication` of ISO/IEC 14496-3 audio.
const OBJECT_TYPE_AAC: u8 = 0x40;
