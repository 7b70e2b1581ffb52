//! The Date header field (RFC 3261 20.17): RFC 1123's form, in GMT.

use super::text::Sink;
use crate::time::Instant;

/// Puts `now` as a SIP-date, like `Sat, 13 Nov 2010 23:29:00 GMT`.
pub fn put_date(out: &mut impl Sink, now: Instant) {
    let seconds = now.as_micros() / 1_000_000;
    let (days, of_day) = (seconds / DAY_S, seconds % DAY_S);
    let (year, month, day) = civil(days);
    out.put(WEEKDAYS[usize::try_from((days + THURSDAY) % 7).unwrap_or_default()]);
    out.put(b", ");
    put_two(out, day);
    out.put(MONTHS[usize::try_from(month - 1).unwrap_or_default() % MONTHS.len()]);
    out.put_decimal(year);
    for (separator, value) in [
        (b" ", of_day / 3_600),
        (b":", of_day / 60 % 60),
        (b":", of_day % 60),
    ] {
        out.put(separator);
        put_two(out, value);
    }
    out.put(b" GMT");
}

fn put_two(out: &mut impl Sink, value: u64) {
    if value < 10 {
        out.put(b"0");
    }
    out.put_decimal(value);
}

/// Year, month and day of a day since 1970-01-01, by the Gregorian calendar. Years are taken to begin in March, so that the leap
/// day is the last of its year.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + FROM_MARCH_0000;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let is_before_march = month <= 2;
    (era * 400 + year + is_before_march as u64, month, day)
}

const DAY_S: u64 = 86_400;
/// Days of 400 years.
const ERA_DAYS: u64 = 146_097;
/// Days from 1 March of the year 0 to 1 January 1970.
const FROM_MARCH_0000: u64 = 719_468;
/// 1 January 1970, counted from Sunday.
const THURSDAY: u64 = 4;
const WEEKDAYS: [&[u8]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const MONTHS: [&[u8]; 12] = [
    b" Jan ", b" Feb ", b" Mar ", b" Apr ", b" May ", b" Jun ", b" Jul ", b" Aug ", b" Sep ",
    b" Oct ", b" Nov ", b" Dec ",
];

#[cfg(test)]
mod tests {
    use super::*;

    struct Collected(Vec<u8>);

    impl Sink for Collected {
        fn put(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // `date -u -d @N '+%a, %d %b %Y %H:%M:%S GMT'`
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_289_690_940, "Sat, 13 Nov 2010 23:29:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            let mut out = Collected(Vec::new());
            put_date(&mut out, Instant::from_micros(seconds * 1_000_000));
            assert_eq!(String::from_utf8_lossy(&out.0), text);
        }
    }
}
