use std::process::Command;

use super::*;

/// Runs ffmpeg on the built-in clip and parses what it writes.
fn remuxed(name: &str, args: &[&str]) -> Clip {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(name);
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i", concat!(env!("CARGO_MANIFEST_DIR"), "/assets/sample.flv")]);
    assert!(ffmpeg.args(args).arg(&path).status().expect("ffmpeg is installed").success());
    Clip::load(&path).expect(name)
}

fn frames(clip: &Clip, track: TrackKind) -> Vec<&Frame> {
    clip.frames.iter().filter(|frame| frame.track == track).collect()
}

#[test]
fn the_built_in_clip_is_eight_seconds_of_both() {
    let clip = Clip::sample();
    let (video, audio) = (frames(&clip, TrackKind::Video), frames(&clip, TrackKind::Audio));
    assert_eq!((video.len(), audio.len(), clip.duration_us), (240, 375, 8_000_000));
    let config = clip.tracks.video.as_ref().expect("a picture");
    assert_eq!((config.codec, config.width, config.height), (Codec::Avc, 960, 540));
    let config = clip.tracks.audio.as_ref().expect("a sound");
    assert_eq!((config.codec, config.sample_rate, config.channels), (Codec::Aac, 48_000, 2));
    let keys: Vec<i64> = video.iter().filter(|frame| frame.keyframe).map(|frame| frame.dts_us).collect();
    assert_eq!(keys, (0..8).map(|second| second * 1_000_000).collect::<Vec<_>>());
    assert!(video.iter().all(|frame| frame.pts_us == frame.dts_us), "no B-frames");
}

#[test]
fn a_loop_has_no_seam() {
    let clip = Clip::sample();
    for track in [TrackKind::Video, TrackKind::Audio] {
        let times: Vec<i64> =
            clip.rounds(usize::MAX).filter(|f| f.track == track).take(2000).map(|f| f.dts_us).collect();
        let usual = if track == TrackKind::Video { 33_000..=34_000 } else { 21_000..=22_000 };
        assert!(times.windows(2).all(|pair| usual.contains(&(pair[1] - pair[0]))), "{track:?}");
    }
    let decode: Vec<i64> = clip.rounds(usize::MAX).take(3000).map(|f| f.dts_us).collect();
    assert!(decode.is_sorted());
}

#[test]
fn mp4_says_the_same_as_flv() {
    let flv = Clip::sample();
    let fragmented = ["-c", "copy", "-movflags", "frag_keyframe+empty_moov+default_base_moof"];
    for (name, args) in [
        ("progressive.mp4", &["-c", "copy"][..]),
        ("faststart.mp4", &["-c", "copy", "-movflags", "faststart"]),
        ("fragmented.mp4", &fragmented),
        ("again.flv", &["-c", "copy"]),
    ] {
        let clip = remuxed(name, args);
        for track in [TrackKind::Video, TrackKind::Audio] {
            let (ours, theirs) = (frames(&flv, track), frames(&clip, track));
            assert_eq!(ours.len(), theirs.len(), "{name} {track:?}");
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert_eq!((&ours.data, ours.keyframe), (&theirs.data, theirs.keyframe), "{name}");
                assert!((ours.dts_us - theirs.dts_us).abs() <= 1000, "{name}: {} {}", ours.dts_us, theirs.dts_us);
            }
        }
        assert_eq!(clip.duration_us, 8_000_000, "{name}");
        let description = |clip: &Clip| clip.tracks.video.as_ref().expect("a picture").description.clone();
        assert_eq!(description(&flv), description(&clip), "{name}");
        let description = |clip: &Clip| clip.tracks.audio.as_ref().expect("a sound").description.slice(..2);
        assert_eq!(description(&flv), description(&clip), "{name}");
    }
}

#[test]
fn b_frames_and_edit_lists_keep_sound_and_picture_together() {
    let encode = ["-t", "2", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-c:a", "aac"];
    let clip = remuxed("b.mp4", &encode);
    let (video, audio) = (frames(&clip, TrackKind::Video), frames(&clip, TrackKind::Audio));
    assert!(video.iter().any(|frame| frame.pts_us != frame.dts_us), "it has B-frames");
    assert!(video.iter().all(|frame| frame.pts_us >= frame.dts_us));
    let first_shown = video.iter().map(|frame| frame.pts_us).min().expect("a picture");
    // The AAC encoder's priming, at most two frames, is heard before the first picture is shown.
    let apart = first_shown - audio[0].pts_us;
    assert!((0..=70_000).contains(&apart), "{apart} µs");
}

#[test]
fn opus_comes_with_its_head() {
    let clip = remuxed("opus.mp4", &["-t", "1", "-c:v", "copy", "-c:a", "libopus"]);
    let audio = clip.tracks.audio.as_ref().expect("a sound");
    assert_eq!((audio.codec, audio.sample_rate, audio.channels), (Codec::Opus, 48_000, 2));
    assert_eq!(&audio.description[..10], b"OpusHead\x01\x02");
}

#[test]
fn what_cannot_be_published_says_why() {
    let text = |bytes: &'static [u8]| Clip::parse(Bytes::from_static(bytes)).expect_err("refused").to_string();
    assert_eq!(text(b"hello, world"), "neither an FLV nor an MP4 file");
    assert_eq!(text(b"FLV"), "neither an FLV nor an MP4 file");
    assert_eq!(text(b"FLV\x01\x05\0\0\0\x09\0\0\0\0"), "no frames in it, or no keyframe to start at");
    assert_eq!(text(b"FLV\x02\x05\0\0\0\x09\0\0\0\0"), "broken FLV file: not an FLV file");
    assert_eq!(text(b"\0\0\0\x10ftypisom\0\0\0\0"), "no frames in it, or no keyframe to start at");
    let mp3: &[u8] = b"FLV\x01\x04\0\0\0\x09\0\0\0\0\x08\0\0\x02\0\0\0\0\0\0\0\x2f\0\0\0\0\x0d";
    let error = Clip::parse(Bytes::copy_from_slice(mp3)).expect_err("refused").to_string();
    assert_eq!(error, "codec MP3 is not supported; use H.264, H.265, AV1 or VP9 with AAC or Opus");
    let missing = Clip::load(Path::new("/nonexistent.flv")).expect_err("refused").to_string();
    assert!(missing.starts_with("No such file"), "{missing}");
}
