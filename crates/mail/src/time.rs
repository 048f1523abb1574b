//! When something is: one number, handed in from outside.
//!
//! Pure: the shell reads the clock once per turn and passes the value down, so a recorded run
//! replays exactly.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

/// A point in time, in microseconds since 1970-01-01T00:00:00Z without leap seconds.
///
/// Never before 1970; arithmetic saturates at both ends, so no input can overflow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The time so many microseconds after 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The time so many seconds after 1970-01-01T00:00:00Z.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long after `earlier` this is; zero where it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The calendar fields of this time in UTC.
    pub const fn civil(self) -> Civil {
        Civil::of(self.as_secs())
    }

    /// The time of a `date-time` of RFC 3339 §5.6; `None` where it is none. What lies before 1970
    /// is taken for [`Self::EPOCH`], and a leap second for the second behind it.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let (mark, rest) = rest.split_at_checked(1)?;
        let (clock, rest) = rest.split_at_checked(8)?;
        let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
        let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
        let is_right = mark.eq_ignore_ascii_case("T")
            && (1..=12).contains(&month)
            && (1..=days_of(year, month)).contains(&day)
            && hour <= 23
            && minute <= 59
            && second <= 60;
        if !is_right {
            return None;
        }
        let (micros, zone) = fraction(rest)?;
        let east = offset_secs(zone)?;
        let days = days_since_epoch(year, month, day);
        let secs = days * 86_400 + hour * 3_600 + minute * 60 + second - east;
        let micros = u64::try_from(secs).map_or(0, |secs| secs * 1_000_000 + micros);
        Some(Self(micros))
    }

    /// The `date-time` of RFC 3339 §5.6 in UTC without a fraction: `2026-11-23T20:50:00Z`.
    pub fn rfc3339(self) -> String {
        let c = self.civil();
        let (hour, minute, second) = (c.hour, c.minute, c.second);
        format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", c.year, c.month, c.day)
    }

    /// The date-time of RFC 5322 §3.3 in UTC: `Mon, 23 Nov 2026 20:50:00 +0000`.
    pub fn rfc5322(self) -> String {
        let c = self.civil();
        format!(
            "{}, {} {} {} {:02}:{:02}:{:02} +0000",
            c.weekday_name(),
            c.day,
            c.month_name(),
            c.year,
            c.hour,
            c.minute,
            c.second
        )
    }
}

impl fmt::Display for Time {
    /// RFC 3339 in UTC with milliseconds: `2026-11-23T20:50:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.civil();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            c.year,
            c.month,
            c.day,
            c.hour,
            c.minute,
            c.second,
            self.0 / 1_000 % 1_000
        )
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, wait: Duration) -> Self {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

/// A date and time of day in UTC (proleptic Gregorian calendar).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// The year, 1970 or later.
    pub year: u64,
    /// The month, 1 to 12.
    pub month: u64,
    /// The day of the month, 1 to 31.
    pub day: u64,
    /// The hour, 0 to 23.
    pub hour: u64,
    /// The minute, 0 to 59.
    pub minute: u64,
    /// The second, 0 to 59.
    pub second: u64,
    /// Days since Sunday, 0 to 6.
    pub weekday: u64,
}

impl Civil {
    const fn of(secs: u64) -> Self {
        let days = secs / 86_400;
        let rest = secs % 86_400;
        // Count from 0000-03-01, so that the leap day is the last day of a year, in eras of 400
        // years (146,097 days).
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
        Self {
            year,
            month,
            day,
            hour: rest / 3_600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: (days + 4) % 7,
        }
    }

    /// The English three-letter name of the weekday.
    pub const fn weekday_name(self) -> &'static str {
        match self.weekday {
            0 => "Sun",
            1 => "Mon",
            2 => "Tue",
            3 => "Wed",
            4 => "Thu",
            5 => "Fri",
            _ => "Sat",
        }
    }

    /// The English three-letter name of the month.
    pub const fn month_name(self) -> &'static str {
        match self.month {
            1 => "Jan",
            2 => "Feb",
            3 => "Mar",
            4 => "Apr",
            5 => "May",
            6 => "Jun",
            7 => "Jul",
            8 => "Aug",
            9 => "Sep",
            10 => "Oct",
            11 => "Nov",
            _ => "Dec",
        }
    }
}

/// Three numbers of so many digits each, with this character between them.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(between);
    let mut numbers = [0; 3];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        if !part.bytes().all(|octet| octet.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// The microseconds of a `time-secfrac`, where there is one, and what stands behind it.
fn fraction(text: &str) -> Option<(u64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let (digits, zone) = rest.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
    let six = digits.bytes().chain(std::iter::repeat(b'0')).take(6);
    Some((six.fold(0, |all, digit| all * 10 + u64::from(digit - b'0')), zone))
}

/// How many seconds a `time-offset` is east of UTC.
fn offset_secs(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("Z") {
        return Some(0);
    }
    let (sign, clock) = zone.split_at_checked(1)?;
    let (hour, minute) = clock.split_at_checked(2)?;
    let minute = minute.strip_prefix(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|octet| octet.is_ascii_digit());
        if is_number { text.parse::<i64>().ok() } else { None }
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    if hour > 23 || minute > 59 {
        return None;
    }
    match sign {
        "+" => Some(hour * 3_600 + minute * 60),
        "-" => Some(-(hour * 3_600 + minute * 60)),
        _ => None,
    }
}

const fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01; the reverse of [`Civil::of`].
const fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rfc_3339_allows_is_read_and_nothing_else() {
        for (text, want) in [
            ("2026-11-23T20:50:00Z", Some(1_795_467_000_000_000)),
            ("2026-11-23t20:50:00z", Some(1_795_467_000_000_000)),
            ("2026-11-23T20:50:00.5Z", Some(1_795_467_000_500_000)),
            ("2026-11-23T20:50:00.123456789Z", Some(1_795_467_000_123_456)),
            ("2026-11-23T21:50:00+01:00", Some(1_795_467_000_000_000)),
            ("2026-11-23T15:20:00-05:30", Some(1_795_467_000_000_000)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59Z", Some(0)),
            ("0000-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000_000)),
            ("2100-02-28T23:59:60Z", Some(4_107_542_400_000_000)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799_000_000)),
            ("2100-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-31T00:00:00Z", None),
            ("2026-11-23T24:00:00Z", None),
            ("2026-11-23T20:50:61Z", None),
            ("2026-11-23T20:50:00", None),
            ("2026-11-23T20:50:00.Z", None),
            ("2026-11-23T20:50:00+0100", None),
            ("2026-11-23T20:50:00+24:00", None),
            ("2026-11-23 20:50:00Z", None),
            ("2026-11-23T20:50Z", None),
            ("26-11-23T20:50:00Z", None),
            ("+026-11-23T20:50:00Z", None),
            ("2026-11-23T20:50:00Zx", None),
            ("2026\u{e9}-1-23T20:50:00Z", None),
            ("", None),
        ] {
            let read = Time::parse_rfc3339(text).map(Time::as_micros);
            assert_eq!(read, want, "{text}");
        }
        for days in (0..120_000).step_by(7) {
            let time = Time::from_secs(days * 86_400 + 3_723);
            assert_eq!(Time::parse_rfc3339(&time.rfc3339()), Some(time), "{time}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (secs, header, log) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000", "1970-01-01T00:00:00.000Z"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000", "2000-02-29T00:00:00.000Z"),
            (1_795_467_000, "Mon, 23 Nov 2026 20:50:00 +0000", "2026-11-23T20:50:00.000Z"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 +0000", "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000", "2100-03-01T00:00:00.000Z"),
        ] {
            let time = Time::from_secs(secs);
            assert_eq!(time.rfc5322(), header);
            assert_eq!(time.to_string(), log);
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time::EPOCH - Duration::from_secs(1), Time::EPOCH);
        assert_eq!(Time::EPOCH.since(Time::from_secs(5)), Duration::ZERO);
        let end = Time::from_micros(u64::MAX);
        assert_eq!(end + Duration::MAX, end);
    }
}
