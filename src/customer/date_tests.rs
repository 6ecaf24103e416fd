//! What is an ISO 8601-1 date. The tables are written by hand, from the standard.

use super::payload::SegmentIdentifyPayload;

fn is_date(text: &str) -> bool {
    let body = serde_json::json!({"userId": "u", "traits": {"birthday": text, "createdAt": text}});
    SegmentIdentifyPayload::parse(body.to_string().as_bytes()).is_ok()
}

#[track_caller]
fn assert_dates(expected: bool, texts: &[&str]) {
    for text in texts {
        assert_eq!(is_date(text), expected, "{text:?}");
    }
}

#[test]
fn a_year_a_month_a_week_or_a_day_is_a_date() {
    assert_dates(true, &["", "0000", "1815", "9999", "1815-12", "2026-W05", "2026W05"]);
    assert_dates(true, &["1815-12-10", "18151210", "2026-031", "2026031", "2026-W05-6", "2026W056"]);
    assert_dates(false, &["181", "18151", "1815-", "1815-1", "181512", "1815-1-2", "1815-12-1", "1815-12-"]);
    assert_dates(false, &["2026-31", "2026-0311", "202603112", "2026-W5", "2026-W", "2026W", "2026-W05-"]);
    assert_dates(false, &["+002026-01-31", "-001815-12-10", "-1815", "12026-01-31", "--12-10", "---10", "20-01-31"]);
    assert_dates(
        false,
        &["10.12.1815", "12/10/1815", "soon", "é", "２０２６", "1815-12-10 ", " 1815-12-10", "1815\u{2010}12"],
    );
    assert_dates(false, &["1815-12-10/1815-12-11", "P1D", "2026-01-31[UTC]", "1801-Q1", "1765359000", "null"]);
}

#[test]
fn a_date_is_in_the_basic_or_in_the_extended_format() {
    assert_dates(false, &["1815-1210", "181512-10", "2026-W056", "2026W05-6", "2026-W0510"]);
    assert_dates(true, &["2026-01-31T09:30:00", "20260131T093000", "2026-031T09:30", "2026031T0930", "2026W056T09"]);
    assert_dates(false, &["2026-01-31T093000", "20260131T09:30:00", "2026-01-31T0930", "20260131T09:30"]);
    assert_dates(false, &["2026-01-31T09:3000", "20260131T0930:00", "2026-01-31T9:30", "2026-01-31T09:3"]);
}

#[test]
fn the_day_exists() {
    assert_dates(true, &["2024-02-29", "2000-02-29", "20240229", "2026-04-30", "2024-366", "2000366", "2026-365"]);
    assert_dates(false, &["2026-02-29", "1900-02-29", "20260229", "2026-04-31", "2026-366", "1900366", "2024-367"]);
    assert_dates(false, &["2026-00-10", "2026-13-10", "2026-13", "2026-00", "2026-01-00", "2026-01-32", "2026-000"]);
    // 2015, 2020 and 2026 have 53 weeks; 2024, 2025 and 2027 have 52.
    assert_dates(true, &["2015-W53-7", "2020W53", "2026-W53-1", "2026W531", "2024-W52-7", "2026-W01-1"]);
    assert_dates(
        false,
        &["2024-W53", "2025-W53-1", "2027W531", "2026-W54-1", "2026-W00-1", "2026-W05-0", "2026-W05-8"],
    );
}

#[test]
fn only_a_whole_day_has_a_time() {
    assert_dates(true, &["2026-01-31T09", "2026-031T09", "2026-W05-6T09"]);
    assert_dates(false, &["2026T09:30", "2026-01T09:30", "2026-W05T09:30", "2026W05T0930", "T09:30", "2026-01-31T"]);
    assert_dates(false, &["2026-01-31 09:30:00", "2026-01-31 09:30:00Z", "2026-01-31_09:30", "2026-01-3109:30"]);
    assert_dates(false, &["2026-01-31Z", "2026-01-31+01:00", "2026-01-31TZ", "2026-01-31TT09", "2026-01-31T09:30 Z"]);
    // RFC 3339 lets T and Z be small. A timestamp that is taken is a date, too.
    assert_dates(true, &["2026-01-31t09:30:00z"]);
    assert_dates(false, &["2026-w05-6"]);
}

#[test]
fn the_last_part_of_a_time_has_any_number_of_decimals() {
    assert_dates(true, &["2026-01-31T09:30:00.1Z", "2026-01-31T09:30:00.1111111111Z", "2026-01-31T09:30:00,5Z"]);
    assert_dates(
        true,
        &["2026-01-31T09:30.5", "2026-01-31T09.25Z", "20260131T0930,5+01", "20260131T093000.000000000000"],
    );
    assert_dates(false, &["2026-01-31T09:30:00.", "2026-01-31T09:30:00.Z", "2026-01-31T09:30:00,+01:00"]);
    assert_dates(false, &["2026-01-31T09:30.5:00", "2026-01-31T09.5:30", "2026-01-31T09:30:00.1.1", "2026-01-31.5"]);
}

#[test]
fn the_time_exists_and_a_day_may_end_at_24() {
    assert_dates(true, &["2026-01-31T00:00:00", "2026-01-31T23:59:59", "2016-12-31T23:59:60Z", "20161231T235960Z"]);
    assert_dates(true, &["2026-01-31T24:00:00", "2026-01-31T24:00Z", "20260131T240000.000+01", "2026-01-31T24,0"]);
    assert_dates(false, &["2026-01-31T24:00:01", "2026-01-31T24:01", "2026-01-31T24:00:00.0001", "2026-01-31T24.5"]);
    assert_dates(false, &["2026-01-31T25:00:00", "2026-01-31T09:60:00", "2026-01-31T09:30:61", "2026-01-31T-1:30"]);
}

#[test]
fn an_offset_has_hours_below_24_and_may_have_minutes_below_60() {
    assert_dates(true, &["2026-01-31T09:30:00Z", "2026-01-31T09:30:00+01", "2026-01-31T09:30:00-23:59"]);
    assert_dates(
        true,
        &["20260131T093000+01", "20260131T093000-0330", "2026-01-31T09+01:00", "2026-01-31T09:30:00+00:00"],
    );
    // Both are no ISO 8601-1 by the letter. RFC 3339 has the first, and strftime, PHP and Java write the second.
    assert_dates(true, &["2026-01-31T09:30:00-00:00", "2026-01-31T09:30:00+0100", "20260131T093000+01:00"]);
    assert_dates(false, &["2026-01-31T09:30:00+24:00", "2026-01-31T09:30:00+25:59", "2026-01-31T09:30:00-99"]);
    assert_dates(false, &["2026-01-31T09:30:00+01:60", "2026-01-31T09:30:00+1", "2026-01-31T09:30:00+01:0"]);
    assert_dates(false, &["2026-01-31T09:30:00+01:00:00", "2026-01-31T09:30:00+010000", "2026-01-31T09:30:00+"]);
    assert_dates(false, &["2026-01-31T09:30:00ZZ", "2026-01-31T09:30:00Z+01", "2026-01-31T09:30:00 +01:00"]);
    assert_dates(false, &["2026-01-31T09:30:00UTC", "2026-01-31T09:30:00\u{2212}01:00", "2026-01-31T09:30:00Z[UTC]"]);
}
