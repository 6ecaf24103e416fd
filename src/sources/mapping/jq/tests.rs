//! What operators and the relay rely on of jaq, so that a new version of it cannot change it unnoticed.

use std::collections::BTreeSet;

use super::{DEFINITIONS, Failure, Head, Program, definitions, natives};
use crate::sources::mapping::frame::{Content, HEAD, MAX_ANSWER, OutputFrame};

const HEADERS: [(&[u8], &[u8]); 4] =
    [(b"x-topic", b"customers/update"), (b"x-topic", b"second"), (b"x-empty", b""), (b"x-latin", b"Andr\xe9")];

fn outputs(filter: &str, body: &str) -> Result<Vec<String>, Failure> {
    let program = Program::compile(filter).unwrap_or_else(|problems| panic!("{filter}: {problems:?}"));
    // 2026-11-26T18:00:00.137Z
    let head = Head { headers: HEADERS.to_vec(), received_at: 1_795_716_000_137 };
    let mut frame = OutputFrame::new(Vec::new());
    program.run(&head, body.as_bytes(), &mut frame)?;
    let frame = frame.finish();
    let mut content = Content(&frame[HEAD..]);
    Ok(std::iter::from_fn(|| content.text().map(|text| String::from_utf8(text.to_vec()).unwrap())).collect())
}

#[track_caller]
fn assert_outputs(filter: &str, body: &str, expected: &[&str]) {
    assert_eq!(
        outputs(filter, body).as_deref(),
        Ok(&*expected.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    );
}

#[track_caller]
fn assert_fails(filter: &str, body: &str, reason: &str) {
    assert_eq!(outputs(filter, body), Err(Failure::Failed(reason.to_owned())));
}

fn problems(filter: &str) -> Vec<String> {
    Program::compile(filter).err().unwrap_or_default()
}

const NUMBERS: &str = r#"{"p":18446744073709551615,"q":12345678901234567890123,"r":1.10,"z":1,"a":2,"10":3}"#;

#[test]
fn what_passes_through_stays_as_it_came() {
    assert_outputs(".", NUMBERS, &[NUMBERS]);
    assert_outputs("{q, r, z}", NUMBERS, &[r#"{"q":12345678901234567890123,"r":1.10,"z":1}"#]);
    assert_outputs(
        ".",
        r#"{"e":1e400,"f":0.10,"g":-0.0,"s":"é😀\u00e9","n":null}"#,
        &[r#"{"e":1e400,"f":0.10,"g":-0.0,"s":"é😀é","n":null}"#],
    );
    assert_outputs("{b: .z, a: .a} + {c: 1}", NUMBERS, &[r#"{"b":1,"a":2,"c":1}"#]);
}

#[test]
fn integers_stay_exact_as_text_and_in_sums() {
    assert_outputs(".q | tostring", NUMBERS, &[r#""12345678901234567890123""#]);
    assert_outputs(".q | tostring | tonumber", NUMBERS, &["12345678901234567890123"]);
    assert_outputs(".p + 1, .q + 1", NUMBERS, &["18446744073709551616", "12345678901234567890124"]);
    assert_outputs(".id | tostring", r#"{"id":7345678901234567890}"#, &[r#""7345678901234567890""#]);
}

#[test]
fn decimals_stay_as_written_until_they_are_computed_with() {
    assert_outputs(r#"tonumber, (tonumber | . + 0)"#, r#""1203.50""#, &["1203.50", "1203.5"]);
    assert_outputs(".r | tostring", NUMBERS, &[r#""1.10""#]);
    assert_outputs(".credit + 0", r#"{"credit":0.10}"#, &["0.1"]);
}

#[test]
fn deleting_a_key_moves_the_last_one_into_its_place() {
    assert_outputs("del(.a)", r#"{"a":1,"b":2,"c":3}"#, &[r#"{"c":3,"b":2}"#]);
}

#[test]
fn a_result_that_is_no_number_of_json_is_written_as_it_is() {
    assert_outputs(
        "{a: nan}, {a: (1e308 * 1e308)}, -infinite",
        "1",
        &[r#"{"a":NaN}"#, r#"{"a":Infinity}"#, "-Infinity"],
    );
}

#[test]
fn an_object_with_an_empty_member_is_none() {
    assert_outputs("{userId: .id, traits: {email: (.email | select(. != null))}}", r#"{"id":"c"}"#, &[]);
    assert_outputs(
        "{userId: .id, traits: ({email} | drop_nulls)}",
        r#"{"id":"c"}"#,
        &[r#"{"userId":"c","traits":{}}"#],
    );
}

#[test]
fn a_comparison_with_two_values_has_two_results() {
    assert_outputs(r#"select(.t == ("a", "b")) | .n"#, r#"{"t":"b","n":1}"#, &["1"]);
    assert_outputs(r#"select(.t == ("a", "a")) | .n"#, r#"{"t":"a","n":1}"#, &["1", "1"]);
}

#[test]
fn none_one_or_many_outputs_come_in_order() {
    assert_outputs("empty", "1", &[]);
    assert_outputs(".[] | {n: .}", "[1,2,3]", &[r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
    assert_eq!(outputs("range(1000)", "1").map(|outputs| outputs.len()), Ok(1000));
    assert_eq!(outputs("range(1001)", "1"), Err(Failure::TooMany));
    // The rest is never made.
    assert_eq!(outputs("repeat(1)", "1"), Err(Failure::TooMany));
}

#[test]
fn a_value_whose_text_has_no_end_is_an_error() {
    assert_fails("reduce range(60) as $i ([]; [., .])", "1", "the filter made more than 1 MiB of customers");
    let body = format!("\"{}\"", "x".repeat(MAX_ANSWER / 4));
    assert_fails("., ., ., .", &body, "the filter made more than 1 MiB of customers");
    assert_eq!(outputs("., ., .", &body).map(|outputs| outputs.len()), Ok(3));
}

#[test]
fn an_error_says_what_failed_and_is_cut() {
    assert_fails(".id | ascii_downcase", r#"{"id":7}"#, "cannot use 7 as string");
    assert_fails(r#"error("no id")"#, "1", r#""no id""#);
}

#[test]
fn errors_are_cut_to_160_characters() {
    let Err(Failure::Failed(reason)) = outputs(". + 1", &format!("\"{}\"", "é".repeat(1_000))) else { panic!() };
    assert_eq!(reason.chars().count(), 160);
    // Its text would have no end.
    assert!(outputs("reduce range(60) as $i ([]; [., .]) | . + 1", "1").is_err());
}

#[test]
fn headers_are_read_by_name_in_any_case() {
    assert_outputs(
        r#"header("x-topic"), header("X-Topic"), header("x-empty"), header("x-none")"#,
        "1",
        &[r#""customers/update""#, r#""customers/update""#, r#""""#, "null"],
    );
    assert_outputs(r#"header("x-latin")"#, "1", &["\"Andr\u{fffd}\""]);
    assert_fails("header(7)", "1", "cannot use 7 as string");
}

#[test]
fn received_at_is_the_given_time_and_there_is_no_clock() {
    assert_outputs("received_at, (received_at | fromdate)", "1", &[r#""2026-11-26T18:00:00.137Z""#, "1795716000.137"]);
}

#[test]
fn what_reaches_outside_is_undefined() {
    for (filter, name) in [
        ("env", "env"),
        ("$ENV", "$ENV"),
        ("now", "now"),
        ("halt", "halt"),
        ("halt(1)", "halt/1"),
        ("halt_error", "halt_error"),
        ("debug", "debug"),
        ("debug(1)", "debug/1"),
        ("debug_empty", "debug_empty"),
        ("stderr", "stderr"),
        ("stderr_empty", "stderr_empty"),
        ("input", "input"),
        ("inputs", "inputs"),
        ("input_line_number", "input_line_number"),
        ("localtime", "localtime"),
        ("strflocaltime(\"%Z\")", "strflocaltime/1"),
        ("$__prog_args", "$__prog_args"),
    ] {
        let kind = if name.starts_with('$') { "variable" } else { "filter" };
        assert_eq!(problems(filter), [format!("undefined {kind} \"{name}\" at line 1, column 1")]);
    }
}

#[test]
fn nothing_can_be_imported() {
    for (filter, column) in
        [(r#"include "a"; ."#, 10), (r#"import "a" as a; a::b"#, 9), (r#"import "/etc/passwd" as $x; $x"#, 9)]
    {
        assert_eq!(problems(filter), [format!("a filter cannot import at line 1, column {column}")], "{filter}");
    }
}

#[test]
fn problems_have_their_places() {
    assert_eq!(problems(".email // \"\" | ascii_downcas"), ["undefined filter \"ascii_downcas\" at line 1, column 16"]);
    assert_eq!(problems("{ a: .b } | | ."), ["expected term, got \"|\" at line 1, column 13"]);
    assert_eq!(problems(".a\n| \"é\" as $b\n| .b |"), ["expected term, got the end at line 3, column 7"]);
    assert_eq!(
        problems(".\"é\" | fo, $b, ba(1; 2)"),
        [
            "undefined filter \"fo\" at line 1, column 8",
            "undefined variable \"$b\" at line 1, column 12",
            "undefined filter \"ba/2\" at line 1, column 16",
        ]
    );
    for (filter, problem) in [
        ("{ a: (1 }", "expected closing parenthesis, got \"}\" at line 1, column 9"),
        ("& 1", "expected token, got \"& 1\" at line 1, column 1"),
        ("\"a", "expected closing quote, got the end at line 1, column 3"),
        ("if . then 1", "expected else or end, got the end at line 1, column 12"),
        ("", "expected term, got the end at line 1, column 1"),
    ] {
        assert_eq!(problems(filter), [problem]);
    }
}

#[test]
fn own_definitions_are_those_of_jq() {
    assert_outputs(r#".t | IN("a", "b")"#, r#"{"t":"b"}"#, &["true"]);
    assert_outputs(r#".t | IN("a", "b")"#, r#"{"t":"c"}"#, &["false"]);
    assert_outputs("IN(.[]; 2, 3), IN(.[]; 4)", "[1,2]", &["true", "false"]);
    assert_outputs("INDEX(.id)", r#"[{"id":1,"a":2},{"id":"x"}]"#, &[r#"{"1":{"id":1,"a":2},"x":{"id":"x"}}"#]);
    assert_outputs("INDEX(.[]; .id) | keys", r#"[{"id":2},{"id":1}]"#, &[r#"["1","2"]"#]);
    assert_outputs("toarray, (.[0] | toarray)", "[1]", &["[1]", "[1]"]);
    assert_outputs(r#"trimstr("a")"#, r#""aba""#, &[r#""b""#]);
    assert_outputs("drop_nulls", r#"{"c":null,"b":false,"a":""}"#, &[r#"{"b":false,"a":""}"#]);
    assert!(jaq_core::load::parse(DEFINITIONS, |parser| parser.defs()).is_some());
}

#[test]
fn what_is_missing_against_jq_is_missing() {
    for name in ["leaf_paths", "fromstream(1)", "truncate_stream(1)", "dateadd(1; 2)", "builtins", "modulemeta", "@csv"]
    {
        assert_eq!(problems(name).len(), 1, "{name}");
    }
}

/// A new version of jaq brings new functions. Each has to be looked at: does it reach anything but its input?
#[test]
fn no_function_is_there_that_nobody_looked_at() {
    let mut names: BTreeSet<_> = natives().map(|(name, ..)| name.to_owned()).collect();
    names.extend(definitions().map(|definition| definition.name.to_owned()));
    let expected: BTreeSet<_> = KNOWN.split_whitespace().map(str::to_owned).collect();
    let new: Vec<_> = names.difference(&expected).collect();
    let gone: Vec<_> = expected.difference(&names).collect();
    assert!(new.is_empty() && gone.is_empty(), "new: {new:?}\ngone: {gone:?}");
}

/// All that filters can call, but for what is syntax.
const KNOWN: &str = "
@base64 @base64d @html @htmld @json @sh @text @uri @urid IN INDEX abs acos acosh add all any arrays
ascii_downcase ascii_upcase asin asinh atan atan2 atanh booleans bsearch capture capture_of_match cbrt ceil
combinations contains copysign cos cosh decode_base64 decode_uri del delpaths drem drop_nulls empty
encode_base64 encode_uri endswith erf erfc error error_empty escape_html escape_sh exp exp10 exp2 explode
expm1 fabs false fdim finites first flatten floor fma fmax fmin fmod frexp from_entries fromdate
fromdateiso8601 fromjson gamma getpath gmtime group_by gsub has header hypot ilogb implode in index indices
infinite inside isarray isboolean isempty isfinite isinfinite isnan isnormal isnumber isobject isstring
iterables j0 j1 jn join key_values keys keys_unsorted last ldexp length lgamma limit log log10 log1p log2 logb
ltrim ltrimstr map map_values match matches max max_by max_by_or_empty min min_by min_by_or_empty mktime modf
nan nearbyint nextafter nexttoward normals not nth null nulls numbers objects path path_value paths pick pow
pow10 range received_at recurse remainder repeat reverse rindex rint round rtrim rtrimstr scalars scalb
scalbln scan scan_ select setpath significand sin sinh skip sort sort_by split split_ split_matches splits
sqrt startswith strftime strings strptime sub tan tanh test tgamma to_entries toarray toboolean tobytes todate
todateiso8601 tojson tonumber tostring totype transpose trim trimstr true trunc type unescape_html unique
unique_by until utf8bytelength values walk while with_entries y0 y1 yn
";
