//! Dates and times: day numbers for SEARCH, seconds for INTERNALDATE. Proleptic Gregorian calendar, no clock, no time zone data.

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::take_while_m_n;
use nom::character::complete::{char, one_of};
use nom::combinator::{map_opt, map_res};
use nom::sequence::{delimited, preceded};
use serde::{Deserialize, Serialize};

use super::{Parsed, sp};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A calendar day, as days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub i64);

/// A point in time with the zone it was written in: INTERNALDATE of APPEND and FETCH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DateTime {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// Minutes east of UTC.
    pub offset_minutes: i32,
}

impl Day {
    /// The day of a date, none where the calendar has no such day.
    #[must_use]
    pub fn from_date(year: i64, month: u32, day: u32) -> Option<Self> {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let month_length = *length.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
        (1..=month_length).contains(&day).then(|| Self(days_before(year, month) + i64::from(day) - 1))
    }

    /// Year, month (1 to 12) and day of the month.
    #[must_use]
    pub fn date(self) -> (i64, u32, u32) {
        // Years begin in March, so that the leap day ends one; 146,097 days are 400 years.
        let z = self.0 + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_index + 2) / 5 + 1;
        let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
    }
}

/// Days from 1970-01-01 to the first of a month.
fn days_before(year: i64, month: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_index = i64::from((month + 9) % 12);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * month_index + 2) / 5 - 719_468
}

impl DateTime {
    /// The day on the calendar of its own zone: what SINCE, BEFORE and ON compare (I17).
    #[must_use]
    pub fn day(self) -> Day {
        Day((self.seconds + i64::from(self.offset_minutes) * 60).div_euclid(86_400))
    }
}

/// `date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE`, as FETCH writes it.
impl std::fmt::Display for DateTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = self.day().date();
        let second = (self.seconds + i64::from(self.offset_minutes) * 60).rem_euclid(86_400);
        let name = MONTHS.get(month as usize - 1).copied().unwrap_or("Jan");
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let offset = self.offset_minutes.abs();
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let (zone_hour, zone_minute) = (offset / 60, offset % 60);
        write!(
            f,
            "\"{day:02}-{name}-{year:04} {hour:02}:{minute:02}:{second:02} {sign}{zone_hour:02}{zone_minute:02}\""
        )
    }
}

fn digits<'a>(least: usize, most: usize) -> impl Parser<&'a [u8], Output = u32, Error = nom::error::Error<&'a [u8]>> {
    map_res(map_res(take_while_m_n(least, most, |b: u8| b.is_ascii_digit()), std::str::from_utf8), str::parse)
}

fn month(input: &[u8]) -> Parsed<'_, u32> {
    map_opt(take_while_m_n(3, 3, |b: u8| b.is_ascii_alphabetic()), |name: &[u8]| {
        (1..).zip(MONTHS).find(|(_, known)| known.as_bytes().eq_ignore_ascii_case(name)).map(|(number, _)| number)
    })
    .parse(input)
}

fn date_text(input: &[u8]) -> Parsed<'_, Day> {
    map_opt((digits(1, 2), preceded(char('-'), month), preceded(char('-'), digits(4, 4))), |(day, month, year)| {
        Day::from_date(i64::from(year), month, day)
    })
    .parse(input)
}

/// `date = date-text / DQUOTE date-text DQUOTE`
pub(crate) fn date(input: &[u8]) -> Parsed<'_, Day> {
    alt((date_text, delimited(char('"'), date_text, char('"')))).parse(input)
}

fn time(input: &[u8]) -> Parsed<'_, i64> {
    map_opt((digits(2, 2), preceded(char(':'), digits(2, 2)), preceded(char(':'), digits(2, 2))), |(h, m, s)| {
        (h < 24 && m < 60 && s <= 60).then(|| i64::from(h * 3600 + m * 60 + s))
    })
    .parse(input)
}

fn zone(input: &[u8]) -> Parsed<'_, i32> {
    map_opt((one_of("+-"), digits(2, 2), digits(2, 2)), |(sign, hours, minutes)| {
        let offset = i32::try_from(hours * 60 + minutes).ok().filter(|_| minutes < 60)?;
        Some(if sign == '-' { -offset } else { offset })
    })
    .parse(input)
}

/// `date-time`, with `date-day-fixed = (SP DIGIT) / 2DIGIT`
pub(crate) fn date_time(input: &[u8]) -> Parsed<'_, DateTime> {
    let day = alt((preceded(char(' '), digits(1, 1)), digits(2, 2)));
    let date = map_opt((day, preceded(char('-'), month), preceded(char('-'), digits(4, 4))), |(day, month, year)| {
        Day::from_date(i64::from(year), month, day)
    });
    let parts = (date, preceded(sp, time), preceded(sp, zone));
    delimited(char('"'), parts, char('"'))
        .map(|(day, time, offset_minutes)| DateTime {
            seconds: day.0 * 86_400 + time - i64::from(offset_minutes) * 60,
            offset_minutes,
        })
        .parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_time_reads_and_prints_the_same() {
        for text in
            ["\"01-Jan-1970 00:00:00 +0000\"", "\"29-Feb-2024 23:59:59 -1130\"", "\"31-Dec-1969 23:00:00 +0545\""]
        {
            let (_, at) = date_time(text.as_bytes()).expect(text);
            assert_eq!(at.to_string(), text);
        }
        assert_eq!(date_time(b"\" 1-Jan-1970 02:00:00 +0200\"").map(|p| p.1.seconds), Ok(0));
    }

    #[test]
    fn days_that_no_calendar_has_are_refused() {
        for bad in ["30-Feb-2024", "29-Feb-2023", "0-Jan-2024", "32-Jan-2024", "1-Foo-2024", "1-Jan-24"] {
            assert!(date(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(date(b"\"1-jan-1970\"").map(|p| p.1), Ok(Day(0)));
    }

    proptest::proptest! {
        #[test]
        fn every_day_has_one_date(day in -800_000i64..3_000_000) {
            let (y, m, d) = Day(day).date();
            proptest::prop_assert_eq!(Day::from_date(y, m, d), Some(Day(day)));
        }
    }
}
