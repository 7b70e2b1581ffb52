//! Local time, as Kamailio writes it into Postgres: without a zone, in whole seconds.

use chrono::{DateTime, Local, LocalResult, NaiveDateTime, Offset, TimeZone};

/// What a clock on the wall shows at this Unix time, as seconds since 1970 by that clock.
pub(super) fn to_local(unix_s: i64) -> i64 {
    match DateTime::from_timestamp(unix_s, 0) {
        Some(moment) => unix_s + offset_s(moment.naive_utc()),
        None => unix_s,
    }
}

/// The Unix time at which a clock on the wall shows this.
///
/// The hour that is shown twice, when summer time ends, is taken to be the later one, so that no binding ends early.
pub(super) fn from_local(local_s: i64) -> i64 {
    let Some(shown) = DateTime::from_timestamp(local_s, 0).map(|moment| moment.naive_utc()) else {
        return local_s;
    };
    match Local.from_local_datetime(&shown) {
        LocalResult::Single(moment) => moment.timestamp(),
        LocalResult::Ambiguous(one, other) => one.timestamp().max(other.timestamp()),
        // An hour that no clock shows: as if it had not been put forward yet.
        LocalResult::None => local_s - offset_s(shown),
    }
}

fn offset_s(utc: NaiveDateTime) -> i64 {
    i64::from(Local.offset_from_utc_datetime(&utc).fix().local_minus_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_leads_back() {
        for unix_s in [0, 1, 1_700_000_000, 1_720_000_000, 4_294_967_295] {
            assert_eq!(from_local(to_local(unix_s)), unix_s);
        }
        assert_eq!(from_local(to_local(i64::MAX)), i64::MAX);
    }
}
