//! NTP time (RFC 3550 §4): seconds since 1900 in 32.32 bits, wrapping. Sender reports and abs-capture-time carry it.

/// The NTP time of microseconds since 1970.
pub fn from_unix_us(unix_us: i64) -> u64 {
    let seconds = unix_us.div_euclid(1_000_000).wrapping_add(UNIX_EPOCH_S);
    let us = unix_us.rem_euclid(1_000_000);
    (seconds << 32).wrapping_add((us << 32) / 1_000_000).cast_unsigned()
}

/// Microseconds since 1970 of an NTP time. Its seconds are read as between 1968 and 2104.
pub fn to_unix_us(ntp: u64) -> i64 {
    let fraction_us = ((ntp & 0xFFFF_FFFF) * 1_000_000 + (1 << 31)) >> 32;
    let seconds = (ntp >> 32) + if ntp >> 63 == 0 { 1 << 32 } else { 0 };
    (seconds.cast_signed() - UNIX_EPOCH_S) * 1_000_000 + fraction_us.cast_signed()
}

/// The middle 32 bits of an NTP time, 1/65536 s, as report blocks carry it.
pub fn middle(ntp: u64) -> u32 {
    u32::try_from(ntp >> 16 & 0xFFFF_FFFF).unwrap_or(0)
}

/// 1970 in seconds since 1900.
const UNIX_EPOCH_S: i64 = 2_208_988_800;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ntp_counts_from_1900_and_wraps_in_2036() {
        assert_eq!(from_unix_us(0), 2_208_988_800 << 32);
        assert_eq!(from_unix_us(500_000), 2_208_988_800 << 32 | 1 << 31);
        assert_eq!(middle(0x1234_5678_9ABC_DEF0), 0x5678_9ABC);
        // 2036-02-07 06:28:16.
        assert_eq!((from_unix_us(2_085_978_496_000_000), to_unix_us(0)), (0, 2_085_978_496_000_000));
    }

    proptest! {
        #[test]
        fn wall_clock_survives_ntp(unix_us in 0i64..4_000_000_000_000_000) {
            prop_assert_eq!(to_unix_us(from_unix_us(unix_us)), unix_us);
        }

        #[test]
        fn any_time_is_a_time(unix_us: i64, ntp: u64) {
            from_unix_us(unix_us);
            to_unix_us(ntp);
        }
    }
}
