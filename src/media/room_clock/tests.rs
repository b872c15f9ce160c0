//! A room clock against encoders and uplinks whose truth is known.

use proptest::prelude::*;

use super::*;

/// Some UTC instant; the streams' timelines have nothing to do with it.
const UTC_US: i64 = 1_790_000_000_000_000;
const FRAME_US: i64 = 40_000;

/// A stream that began at `UTC_US` with PTS 0.
struct Room {
    clock: RoomClock,
    pts_us: i64,
}

impl Room {
    /// Whose frames have arrived `late_us` after their time for 2 s.
    fn settled(late_us: i64) -> Self {
        let mut room = Self { clock: RoomClock::default(), pts_us: 0 };
        room.frames(50, late_us);
        room
    }

    fn frame(&mut self, late_us: i64) {
        self.clock.handle_arrival(self.pts_us, UTC_US + self.pts_us + late_us);
        self.pts_us += FRAME_US;
    }

    fn frames(&mut self, count: usize, late_us: i64) {
        (0..count).for_each(|_| self.frame(late_us));
    }

    /// The encoder says that its next frame was taken `late_us` after its time.
    fn anchor(&mut self, anchor: Anchor, late_us: i64) -> bool {
        self.clock.handle_anchor(anchor, self.pts_us, UTC_US + self.pts_us + late_us)
    }

    /// How far behind the truth the mapping has a picture.
    fn offset_us(&self) -> i64 {
        self.clock.wall_us(0).expect("running") - UTC_US
    }
}

#[test]
fn nothing_is_known_before_the_first_frame_nor_after_a_restart() {
    let mut clock = RoomClock::default();
    assert_eq!((clock.wall_us(0), clock.pts_us(UTC_US), clock.error_ms()), (None, None, u32::MAX));
    assert!(!clock.poll_changed() && !clock.handle_anchor(Anchor::BpmSei, 0, UTC_US));
    clock.handle_arrival(7, UTC_US);
    assert_eq!((clock.wall_us(8), clock.pts_us(UTC_US + 1)), (Some(UTC_US + 1), Some(8)));
    clock.handle_restart();
    assert_eq!(clock.wall_us(8), None);
    clock.handle_arrival(0, UTC_US);
    assert_eq!(clock.wall_us(0), Some(UTC_US), "a new epoch owes the old one nothing");
}

#[test]
fn the_burst_that_an_encoder_begins_with_is_not_believed() {
    let mut room = Room { clock: RoomClock::default(), pts_us: 0 };
    for frame in 0..20 {
        room.frame(800_000 - frame * FRAME_US + 50_000);
    }
    assert_eq!(room.offset_us(), 50_000 + FRAME_US);
}

#[test]
fn a_lasting_change_of_the_uplink_is_followed_slowly_and_a_passing_one_not() {
    let mut room = Room::settled(100_000);
    room.frames(100, 900_000);
    room.frames(100, 100_000);
    assert_eq!(room.offset_us(), 100_000, "4 s of congestion");
    room.frames(25 * 30, 200_000);
    assert_eq!(room.offset_us(), 200_000);
    room.frames(25, 190_000);
    assert_eq!(room.offset_us(), 195_000, "5 ms in a second");
    assert_eq!(room.clock.error_ms(), 500 + 5);
}

#[test]
fn the_encoders_word_counts_for_more_than_arrival_and_the_better_word_for_more_than_the_other() {
    let mut room = Room::settled(150_000);
    assert_eq!(room.clock.quality(), "arrival");
    assert!(room.anchor(Anchor::SenderReport, 100_000));
    assert_eq!((room.clock.quality(), room.clock.error_ms()), ("sender-report", 150 + 50));
    assert!(room.anchor(Anchor::AbsCaptureTime, 100_000));
    assert_eq!((room.clock.quality(), room.clock.error_ms()), ("abs-capture-time", 40 + 50));
    assert!(room.anchor(Anchor::OnFi, 50_000));
    room.frames(25, 150_000);
    assert_eq!((room.offset_us(), room.clock.quality()), (145_000, "onfi"));
    assert!(room.anchor(Anchor::BpmSei, 0));
    assert!(room.anchor(Anchor::OnFi, 50_000), "heard, and left aside");
    room.frames(25 * 40, 150_000);
    assert_eq!((room.offset_us(), room.clock.quality(), room.clock.error_ms()), (0, "bpm-sei", 40));
}

#[test]
fn an_anchor_that_leaps_is_refused_until_it_has_said_so_for_ten_seconds() {
    let mut room = Room::settled(1_000_000);
    for second in 0..10 {
        assert!(!room.anchor(Anchor::BpmSei, 0), "second {second}");
        room.frames(25, 1_000_000);
    }
    assert_eq!((room.offset_us(), room.clock.quality()), (1_000_000, "arrival"));
    assert!(room.anchor(Anchor::BpmSei, 0));
    room.frames(25 * 100, 1_000_000);
    assert_eq!(room.offset_us(), 500_000, "and then slewed to");
    // One wrong word among right ones starts no count.
    let mut room = Room::settled(1_000_000);
    for second in 0..20 {
        assert!(!room.anchor(Anchor::BpmSei, if second % 2 == 0 { 0 } else { 500_000 }));
        room.frames(25, 1_000_000);
    }
}

#[test]
fn an_anchor_that_can_not_be_true_is_refused_for_good() {
    for late_us in [-9_950_000, 400_001, -3_600_000_000] {
        let mut room = Room::settled(100_000);
        for _ in 0..30 {
            assert!(!room.anchor(Anchor::BpmSei, late_us), "{late_us}");
            room.frames(25, 100_000);
        }
        assert_eq!(room.offset_us(), 100_000);
    }
}

#[test]
fn a_time_without_a_zone_gets_the_one_that_fits() {
    for zone_minutes in [-570, -15, 0, 330, 345, 480, 840] {
        let mut room = Room::settled(150_000);
        assert!(room.anchor(Anchor::OnFi, 20_000 + zone_minutes * 60_000_000), "{zone_minutes}");
        room.frames(25 * 40, 150_000);
        assert_eq!(room.offset_us(), 20_000, "{zone_minutes}");
    }
}

#[test]
fn a_clock_that_leaps_is_not_slewed_after_for_hours() {
    let mut room = Room::settled(100_000);
    room.clock.handle_arrival(room.pts_us + 3_600_000_000, UTC_US + room.pts_us);
    assert_eq!(room.offset_us(), -3_600_000_000, "the encoder's, forwards");
    let mut room = Room::settled(100_000);
    room.frames(25 * 11, 60_000_000);
    assert_eq!(room.offset_us(), 60_000_000, "it slept for a minute");
}

#[test]
fn a_change_is_told_once() {
    let mut room = Room::settled(150_000);
    assert!(room.clock.poll_changed() && !room.clock.poll_changed());
    room.anchor(Anchor::BpmSei, 50_000);
    assert!(room.clock.poll_changed() && !room.clock.poll_changed(), "another source");
    room.frames(25 * 3, 150_000);
    assert!(!room.clock.poll_changed(), "15 ms");
    room.frames(25 * 2, 150_000);
    assert!(room.clock.poll_changed() && !room.clock.poll_changed(), "25 ms");
}

/// What an encoder, honest or not, and its uplink can do to a clock.
#[derive(Debug, Clone)]
enum Deed {
    Frame { late_us: i64 },
    Anchor { anchor: Anchor, late_us: i64 },
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let anchors = prop_oneof![Just(Anchor::SenderReport), Just(Anchor::OnFi), Just(Anchor::BpmSei)];
    let lies = prop_oneof![-12_000_000i64..12_000_000, Just(-400_000i64), any::<i64>()];
    let deed = prop_oneof![
        6 => (0i64..2_000_000).prop_map(|late_us| Deed::Frame { late_us }),
        1 => (anchors, lies).prop_map(|(anchor, late_us)| Deed::Anchor { anchor, late_us }),
    ];
    proptest::collection::vec(deed, 1..1500)
}

proptest! {
    #[test]
    fn arrivals_with_any_jitter_give_the_least_delay(
        least_us in -5_000_000i64..5_000_000,
        jitter in proptest::collection::vec(0i64..300_000, 25 * 10),
        lucky in 0usize..100,
    ) {
        let mut room = Room { clock: RoomClock::default(), pts_us: 0 };
        for round in 0..12 {
            for (i, jitter_us) in jitter.iter().enumerate() {
                // At least one frame in each half of the window comes without waiting.
                room.frame(least_us + if i % 100 == lucky { 0 } else { *jitter_us });
            }
            prop_assert!(round < 6 || room.offset_us() == least_us);
        }
    }

    #[test]
    fn the_mapping_never_steps_and_time_never_goes_back(deeds in deeds()) {
        let mut room = Room::settled(100_000);
        for deed in deeds {
            let (before_us, at_us) = (room.offset_us(), room.pts_us);
            match deed {
                Deed::Frame { late_us } => room.frame(late_us),
                Deed::Anchor { anchor, late_us } => {
                    let wall_us = late_us.saturating_add(UTC_US);
                    room.clock.handle_anchor(anchor, at_us, wall_us);
                }
            }
            let (after_us, passed_us) = (room.offset_us(), room.pts_us - at_us);
            prop_assert!((after_us - before_us).abs() * 200 <= passed_us, "{before_us} to {after_us} in {passed_us}");
            let wall = |pts_us| room.clock.wall_us(pts_us).expect("running");
            prop_assert_eq!(room.clock.pts_us(wall(at_us)), Some(at_us));
        }
    }
}
