//! What encoders say of the time: OBS in its performance metrics, FMLE and its kin in `onFI`.

use time::{Date, PrimitiveDateTime, Time};

use super::codec::sei::{UserData, Uuid};

/// When OBS composed the picture with this message, UTC microseconds. `None` if the message is another one.
///
/// The timestamp message of Broadcast Performance Metrics is a count, then for each time its type, the event that
/// it is of, and its value. Other events come after encoding; they say nothing of the picture.
pub fn obs_composed_us(message: &UserData) -> Option<i64> {
    if message.uuid != OBS_TIMESTAMPS {
        return None;
    }
    let (count, mut rest) = message.payload.split_first()?;
    for _ in 0..=(count & 0x0f) {
        let ([kind, event], value) = rest.split_first_chunk()?;
        let length = match *kind {
            OBS_RFC3339 => value.iter().position(|byte| *byte == 0)?,
            OBS_DURATION | OBS_DELTA => 8,
            _ => return None,
        };
        let (value, after) = value.split_at_checked(length)?;
        match (*kind, *event) {
            (OBS_RFC3339, OBS_COMPOSED) => return rfc3339_us(str::from_utf8(value).ok()?),
            (OBS_DURATION, OBS_COMPOSED) => {
                return i64::from_be_bytes(value.try_into().ok()?).checked_mul(1000);
            }
            _ => {}
        }
        rest = if *kind == OBS_RFC3339 { after.get(1..)? } else { after };
    }
    None
}

/// The microseconds since 1970 of `onFI`'s `sd` (`31-05-2026`; FMLE's own manual leaves the century out) and `st`
/// (`12:26:03.591`), as if they were UTC: the zone is not said.
pub fn on_fi_us(date: &str, time: &str) -> Option<i64> {
    let [day, month, year] = fields(date, '-')?;
    let century = if year.len() == 2 { 2000 } else { 0 };
    micros([year, month, day], time, century)
}

/// `2026-05-31T12:26:03.591Z` (RFC 3339 §5.6), in UTC, with a fraction of milliseconds.
fn rfc3339_us(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    micros(fields(date, '-')?, time, 0)
}

fn micros([year, month, day]: [&str; 3], time: &str, century: u16) -> Option<i64> {
    let (time, millis) = time.split_once('.')?;
    // Fewer digits may be a fraction, or milliseconds without their zeros.
    if millis.len() != 3 {
        return None;
    }
    let [hour, minute, second] = fields(time, ':')?;
    let month = u8::try_from(number(month)?).ok()?.try_into().ok()?;
    let year = century + number(year)?;
    let date = Date::from_calendar_date(year.into(), month, number(day)?.try_into().ok()?).ok()?;
    let [hour, minute, second] = [number(hour)?, number(minute)?, number(second)?].map(u8::try_from);
    let time = Time::from_hms_milli(hour.ok()?, minute.ok()?, second.ok()?, number(millis)?).ok()?;
    i64::try_from(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp_nanos() / 1000).ok()
}

fn fields(text: &str, separator: char) -> Option<[&str; 3]> {
    let (first, rest) = text.split_once(separator)?;
    let (second, third) = rest.split_once(separator)?;
    Some([first, second, third])
}

/// Up to four digits, and nothing else.
fn number(digits: &str) -> Option<u16> {
    let all_digits = digits.len() <= 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok())?
}

const OBS_TIMESTAMPS: Uuid = 0x0aecffe7_5272_4e2f_a62f_d19cd61a93b5_u128.to_be_bytes();
const OBS_RFC3339: u8 = 1;
/// Milliseconds since 1970, 64 bits.
const OBS_DURATION: u8 = 2;
/// Nanoseconds, 64 bits.
const OBS_DELTA: u8 = 3;
const OBS_COMPOSED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// By `date -u -d 2024-05-31T12:26:03Z +%s`.
    const US: i64 = 1_717_158_363_591_000;

    fn message(payload: &[u8]) -> UserData {
        UserData { uuid: OBS_TIMESTAMPS, payload: payload.to_vec() }
    }

    #[test]
    fn obs_says_when_it_composed_the_picture() {
        let composed = b"\x03\x01\x01\x32\x30\x32\x34-05-31T12:26:03.591Z\0\x01\x022024-05-31T12:26:03.600Z\0";
        assert_eq!(obs_composed_us(&message(composed)), Some(US));
        let behind_others = b"\x02\x03\x02\0\0\0\0\0\0\0\x07\x01\x042024-05-31T12:26:03.600Z\0\x02\x01";
        let behind_others = [behind_others.as_slice(), &(US / 1000).to_be_bytes()].concat();
        assert_eq!(obs_composed_us(&message(&behind_others)), Some(US));
        let other = UserData { uuid: [7; 16], payload: composed.to_vec() };
        assert_eq!(obs_composed_us(&other), None);
    }

    #[test]
    fn what_is_malformed_says_no_time() {
        let whole = b"\x00\x01\x012024-05-31T12:26:03.591Z\0";
        assert_eq!(obs_composed_us(&message(whole)), Some(US));
        for cut in 0..whole.len() {
            assert_eq!(obs_composed_us(&message(&whole[..cut])), None, "{cut}");
        }
        for wrong in [b"\x00\x01\x022024-05-31T12:26:03.591Z\0".as_slice(), b"\x00\x09\x012024-05-31T12:26:03.591Z\0"] {
            assert_eq!(obs_composed_us(&message(wrong)), None);
        }
        assert_eq!(obs_composed_us(&message(b"\x00\x02\x01\x7f\xff\xff\xff\xff\xff\xff\xff")), None, "far away");
        for wrong in [
            "2024-05-31T12:26:03Z",
            "2024-05-31T12:26:03.591",
            "2024-05-31T12:26:03.591+08:00",
            "2024-13-31T12:26:03.591Z",
            "2024-02-30T12:26:03.591Z",
            "2024-05-31T24:26:03.591Z",
            "2024-05-31T12:26:03.+91Z",
            "2024-05-+1T12:26:03.591Z",
            "99999999999-05-31T12:26:03.591Z",
            "\u{663}024-05-31T12:26:03.591Z",
        ] {
            assert_eq!(rfc3339_us(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn fmle_says_a_date_and_a_time() {
        assert_eq!(on_fi_us("31-05-2024", "12:26:03.591"), Some(US));
        assert_eq!(on_fi_us("31-05-24", "12:26:03.591"), Some(US));
        for (date, time) in [("2024-05-31", "12:26:03.591"), ("31-05-2024", "12:26:03"), ("31-05-2024", "12:26:03.5")] {
            assert_eq!(on_fi_us(date, time), None, "{date} {time}");
        }
    }
}
