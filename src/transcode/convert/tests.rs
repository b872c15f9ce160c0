use std::sync::Arc;

use super::*;

/// Its samples say where they are: sample `n` is `n / RAMP_SAMPLES`, and begins again there, so that what comes out
/// can be asked where it went in. A frame is the number of its first sample.
struct Ramp {
    rate: u32,
    samples: Arc<[f32]>,
}

const RAMP_SAMPLES: f64 = 1_048_576.0;
const FRAME: i64 = 1024;

impl Decode for Ramp {
    fn decode(&mut self, frame: &[u8], samples: &mut Vec<f32>) -> Result<u32, CodecError> {
        let Ok(first) = frame.try_into().map(i64::from_be_bytes) else {
            return Err(CodecError::Frame("broken".into()));
        };
        let first = usize::try_from(first).expect("a place") % self.samples.len();
        samples.extend_from_slice(&self.samples[first..first + FRAME as usize]);
        Ok(self.rate)
    }

    fn conceal(&mut self, _: u64, _: &mut Vec<f32>) -> bool {
        false
    }
}

/// Its frames are their first sample.
struct Probe;

impl Encode for Probe {
    fn config(&self) -> AudioConfig {
        AudioConfig { codec: Codec::Opus, description: Bytes::new(), sample_rate: RATE, channels: 1 }
    }

    fn frame_samples(&self) -> usize {
        960
    }

    fn delay_samples(&self) -> u32 {
        0
    }

    fn encode(&mut self, samples: &[f32]) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(&samples[0].to_be_bytes()))
    }
}

fn ramp(rate: u32) -> Converter {
    let samples: Arc<[f32]> =
        (0..RAMP_SAMPLES as u32).map(|sample| (f64::from(sample) / RAMP_SAMPLES) as f32).collect();
    let open = move || Ok((Box::new(Ramp { rate, samples: samples.clone() }) as _, Box::new(Probe) as _));
    Converter::with(1, Box::new(open)).expect("made")
}

/// The sample that a frame begins with, counted from where the ramp began last.
fn sample(coded: &Coded) -> f64 {
    f64::from(f32::from_be_bytes(coded.data.as_ref().try_into().expect("one sample"))) * RAMP_SAMPLES
}

/// Feeds `seconds` of sound whose samples are `sample_us` apart, stamped as `round` would have it. Gives the stamps
/// that came out, and by how much each is later than its sound was.
fn feed(seconds: i64, rate: u32, sample_us: f64, round: impl Fn(i64, f64) -> i64) -> Vec<(i64, f64)> {
    let (mut converter, mut out) = (ramp(rate), Vec::new());
    for nth in 0..seconds * i64::from(rate) / FRAME {
        let first = nth * FRAME;
        let stamp_us = round(nth, first as f64 * sample_us);
        converter.handle_frame(stamp_us, &first.to_be_bytes(), &mut out).expect("a frame");
    }
    let late = |coded: &Coded| {
        let expected = coded.pts_us as f64 / sample_us;
        let early = sample(coded) - expected.rem_euclid(RAMP_SAMPLES);
        // Where the ramp begins again the filter gives neither end.
        let is_clear = (2000.0..RAMP_SAMPLES - 2000.0).contains(&expected.rem_euclid(RAMP_SAMPLES));
        (coded.pts_us, if is_clear { -early * sample_us } else { 0.0 })
    };
    out.iter().map(late).collect()
}

fn assert_stays(out: &[(i64, f64)], late_us_max: f64) {
    let worst = out.iter().map(|(_, late_us)| late_us.abs()).fold(0.0, f64::max);
    assert!(worst <= late_us_max, "off by {worst} µs");
    let steps: Vec<_> = out.windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|us| *us != 20_000).collect();
    assert_eq!(steps, [0; 0], "frames of 20 ms, one behind the other");
}

/// An hour; in a build that is not optimised ten minutes, which take as long.
const DRIFT_SECONDS: i64 = if cfg!(debug_assertions) { 600 } else { 3600 };

#[test]
fn an_hour_of_clocks_that_differ_leaves_the_sound_in_its_place() {
    for (ppm, rate) in [(200.0, 44_100), (-200.0, 22_050)] {
        let sample_us = 1e6 / f64::from(rate) * (1.0 + ppm / 1e6);
        // As RTMP has it: whole milliseconds, rounded down.
        let out = feed(DRIFT_SECONDS, rate, sample_us, |_, us| us as i64 / 1000 * 1000);
        assert!(
            (out.len() as f64 / (50 * DRIFT_SECONDS) as f64 - 1.0 - ppm / 1e6).abs() < 1e-4,
            "{} frames",
            out.len()
        );
        assert_stays(&out, 6000.0);
    }
}

#[test]
fn stamps_that_jitter_are_followed_where_they_go_and_not_how_they_jump() {
    let jitter = |nth: i64| (nth * 7919 % 31 - 15) * 1000;
    let out = feed(120, 44_100, 1e6 / 44_100.0, |nth, us| us as i64 + jitter(nth));
    assert_stays(&out, 16_000.0);
    let (_, settled) = out.split_at(3000);
    assert_stays(settled, 3000.0);
}

#[test]
fn a_jump_begins_anew_at_its_stamp() {
    for jump_us in [500_000.0, -3_000_000.0] {
        let stamp_of = |sample: f64| sample * 1e6 / 48_000.0 + if sample >= 300_000.0 { jump_us } else { 0.0 };
        // A frame belongs to one side.
        let mut converter = ramp(48_000);
        let mut out = Vec::new();
        for nth in 0..470 {
            let first = if nth < 235 { nth * FRAME } else { nth * FRAME + 239_616 };
            converter.handle_frame(stamp_of(first as f64) as i64, &first.to_be_bytes(), &mut out).expect("a frame");
        }
        let late: Vec<_> =
            out.iter().map(|coded| (coded.pts_us, coded.pts_us as f64 - stamp_of(sample(coded)))).collect();
        let jumps: Vec<_> = late.windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|us| *us != 20_000).collect();
        let [jump] = jumps[..] else { panic!("{jumps:?}") };
        // 4.992 s of samples were left out beside the jump; some 40 ms wait in the filter.
        assert!((jump - 4_992_000 - jump_us as i64).abs() < 60_000, "{jump}");
        let settled = late.iter().filter(|(_, late_us)| late_us.abs() < 1000.0).count();
        assert!(settled + 6 >= late.len(), "{settled} of {}", late.len());
    }
}

#[test]
fn a_broken_frame_is_silence_of_its_length() {
    let mut converter = ramp(48_000);
    let mut out = Vec::new();
    assert!(converter.handle_frame(0, b"broken", &mut out).is_err(), "nothing to go on from");
    for nth in 0..100i64 {
        let stamp_us = nth * FRAME * 1_000_000 / 48_000;
        let frame = (nth * FRAME).to_be_bytes();
        let broken = nth % 10 == 5;
        let data = if broken { &b"broken"[..] } else { &frame };
        assert_eq!(converter.handle_frame(stamp_us, data, &mut out).is_err(), broken);
    }
    let steps = out.windows(2).filter(|pair| pair[1].pts_us - pair[0].pts_us != 20_000).count();
    assert_eq!((out.len(), steps), (106, 0));
}

#[test]
fn lost_packets_of_opus_are_concealed() {
    let mut encoder = codec::encoder(Codec::Opus, 1).expect("made");
    let mut converter = Converter::new(&encoder.config(), Codec::Aac).expect("made");
    let mut out = Vec::new();
    for nth in 0..250i64 {
        let tone = |n: i64| ((nth * 960 + n) as f32 * 0.0576).sin() * 0.3;
        let packet = encoder.encode(&(0..960).map(tone).collect::<Vec<_>>()).expect("encodes");
        // Single ones, a row of three, and what DTX leaves out.
        if nth % 50 != 7 && !(100..103).contains(&nth) && !(150..170).contains(&nth) {
            converter.handle_frame(nth * 20_000, &packet, &mut out).expect("decodes");
        }
    }
    let gaps = out.windows(2).filter(|pair| !(21_000..22_000).contains(&(pair[1].pts_us - pair[0].pts_us))).count();
    // All of the five seconds but what the filter holds.
    assert_eq!((gaps, out.len()), (0, 234));
}
