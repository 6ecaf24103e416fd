//! Several customers in one text: by example, and compared with serde_json and with the customers one by one.

use proptest::prelude::{Just, Strategy, prop, prop_assert_eq, prop_oneof, proptest};
use serde_json::value::RawValue;

use super::error::{MAX_BROKEN_RULES, PayloadError};
use super::payload::SegmentIdentifyPayload;
use super::several::{Customers, MAX_CUSTOMERS, check_json, first_byte};
use crate::fuzz::json::is_accepted;

const ADA: &str = r#"{"userId":"ada","traits":{"plan":"pro"}}"#;

fn users<'a>(customers: &'a Customers<'_>) -> Vec<&'a str> {
    let user = |payload: &'a Result<SegmentIdentifyPayload<'_>, PayloadError>| match payload {
        Ok(payload) => &*payload.user_id,
        Err(PayloadError::InvalidJson { .. }) => "no JSON",
        Err(PayloadError::Invalid { .. }) => "invalid",
    };
    customers.read.iter().map(|customer| user(&customer.payload)).collect()
}

fn array(text: &str) -> Result<Customers<'_>, String> {
    Customers::from_array(text.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn an_array_has_its_customers_in_order_each_with_a_text_of_its_own() {
    let text = format!(" [ {ADA} ,\n\t{{ \"userId\" : \"bob\", \"traits\" : {{}} }},7, [1], {{}}, \"x\" ] ");
    let customers = array(&text).unwrap();
    assert_eq!(users(&customers), ["ada", "bob", "invalid", "invalid", "invalid", "invalid"]);
    assert_eq!((customers.count, customers.read[0].text), (6, ADA.as_bytes()));
    let bob = &customers.read[1];
    assert_eq!(bob.text, br#"{ "userId" : "bob", "traits" : {} }"#);
    assert_eq!(bob.payload.as_ref().unwrap().body, Some(bob.text));
    assert_eq!(array("[]").unwrap().count, 0);
}

#[test]
fn a_text_that_is_no_array_as_a_whole_is_an_error_with_its_place() {
    let refused = |text: &str| array(text).err().unwrap();
    assert_eq!(refused(&format!("[{ADA},]")), "expected a JSON value at line 1 column 43");
    assert_eq!(refused(&format!("[{ADA}\n{ADA}]")), "expected ',' or ']' at line 2 column 1");
    assert_eq!(refused(&format!("[{ADA}")), "the text ends where ',' or ']' was expected at line 1 column 42");
    assert_eq!(refused(&format!("[{ADA}] {ADA}")), "unexpected text after the JSON value at line 1 column 44");
    assert_eq!(refused(ADA), "expected '[' at line 1 column 1");
    let many = "0,".repeat(MAX_CUSTOMERS);
    assert!(refused(&format!("[{many}tru]")).starts_with("expected a JSON value"));
}

#[test]
fn a_customer_in_an_array_has_as_many_levels_as_one_alone() {
    let deep = |levels: usize| {
        let value = format!("{}{}", "[".repeat(levels - 2), "]".repeat(levels - 2));
        format!(r#"{{"userId":"u","traits":{{"a":{value}}}}}"#)
    };
    for (levels, is_accepted) in [(128, true), (129, false)] {
        assert_eq!(SegmentIdentifyPayload::parse(deep(levels).as_bytes()).is_ok(), is_accepted);
        assert_eq!(array(&format!("[{}]", deep(levels))).is_ok(), is_accepted, "{levels}");
    }
}

#[test]
fn a_line_is_a_customer_unless_it_is_blank() {
    let text = format!("\n{ADA}\r\n \t\r\n{{}}\n  {ADA}  \nno\n");
    let customers = Customers::from_lines(text.as_bytes());
    assert_eq!(users(&customers), ["ada", "invalid", "ada", "no JSON"]);
    assert_eq!((customers.count, customers.read[2].text), (4, ADA.as_bytes()));
    assert_eq!(
        customers.read[3].payload,
        Err(PayloadError::InvalidJson { message: "expected a JSON value at line 6 column 1".to_owned() })
    );
    for nothing in ["", "\n", " \r\n\t\n"] {
        assert_eq!(Customers::from_lines(nothing.as_bytes()).count, 0);
    }
}

#[test]
fn a_line_of_invalid_utf_8_is_the_trouble_of_its_own_customer() {
    let text = [ADA.as_bytes(), b"\n\"\xFF\"\n", ADA.as_bytes()].concat();
    assert_eq!(users(&Customers::from_lines(&text)), ["ada", "no JSON", "ada"]);
    let text = [b"[", ADA.as_bytes(), b",\"\xFF\"]"].concat();
    assert!(matches!(Customers::from_array(&text), Err(PayloadError::InvalidJson { .. })));
}

#[test]
fn customers_beyond_the_limit_are_counted_alone() {
    let many = MAX_CUSTOMERS + 5;
    let customers = Customers::from_lines("{}\n".repeat(many).as_bytes()).count;
    assert_eq!(customers, many);
    let text = format!("[{}0]", "0,".repeat(many - 1));
    let customers = array(&text).unwrap();
    assert_eq!((customers.count, customers.read.len()), (many, MAX_CUSTOMERS));
}

#[test]
fn the_broken_rules_of_all_customers_are_bounded_and_each_has_one() {
    let unknown: Vec<String> = (0..40).map(|number| format!("\"x{number}\":0")).collect();
    let customer = format!("{{{}}}", unknown.join(","));
    let text = format!("[{}]", vec![&*customer; 100].join(","));
    for customers in [array(&text).unwrap(), Customers::from_lines(vec![&*customer; 100].join("\n").as_bytes())] {
        let rules = |payload: &Result<_, PayloadError>| match payload {
            Err(PayloadError::Invalid { broken }) => broken.len(),
            _ => 0,
        };
        let rules: Vec<usize> = customers.read.iter().map(|customer| rules(&customer.payload)).collect();
        assert!(rules[..31].iter().all(|count| *count == MAX_BROKEN_RULES), "{rules:?}");
        assert!(rules[32..].iter().all(|count| *count == 1), "{rules:?}");
    }
}

#[test]
fn white_space_of_json_alone_may_precede_a_text() {
    for text in ["[", " \r\n\t[1]", "[no"] {
        assert_eq!(first_byte(text.as_bytes()), Some(b'['), "{text}");
    }
    assert_eq!(first_byte("\u{A0}[".as_bytes()), Some(0xC2));
    assert_eq!([first_byte(b""), first_byte(b" \n"), first_byte(b"\x0c[")], [None, None, Some(0x0c)]);
}

#[test]
fn a_json_text_is_checked_whatever_it_is() {
    for text in ["null", " [1,{\"a\":{}}] ", "\"x\"", "-0.5e9"] {
        assert_eq!(check_json(text.as_bytes()), Ok(()), "{text}");
    }
    for text in ["", "{} {}", "{\"a\":1,\"a\":2}", "[\"\\ud800\"]", "NaN"] {
        assert!(matches!(check_json(text.as_bytes()), Err(PayloadError::InvalidJson { .. })), "{text}");
    }
}

/// Customers and what is near one.
fn customer() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        r#""userId":"u""#,
        r#""userId":"""#,
        r#""traits":{}"#,
        r#""traits":{"a":[1,"],"]}"#,
        r#""messageId":"m""#,
        r#""x": "\\\"}""#,
    ]);
    let object = prop::collection::vec(piece, 0..4).prop_map(|members| format!("{{{}}}", members.join(" ,")));
    let other = prop::sample::select(vec![ADA, "null", "[[],{}]", "1e9", "\"a\\n,]\"", "\"\u{e9}\""]);
    prop_oneof![3 => object, 2 => other.prop_map(str::to_owned)]
}

/// Texts of customers with something between them, sometimes not what belongs there.
fn text(separator: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let between = prop_oneof![
        12 => Just(separator),
        4 => prop::sample::select(vec![" ", "\n", "\r\n", "\t"]),
        1 => prop::sample::select(vec![",", "]", "[", "{", "\"", "\\", "\u{0}"]),
    ];
    let pair = (customer(), prop::collection::vec(between, 1..3));
    prop::collection::vec(pair, 0..6)
        .prop_map(|pairs| pairs.iter().flat_map(|(customer, between)| [customer.clone(), between.concat()]).collect())
        .prop_map(|text: String| text.into_bytes())
}

/// The elements of an array as serde_json splits it.
fn elements(text: &[u8]) -> Option<Vec<String>> {
    let items: Vec<Box<RawValue>> = serde_json::from_str(std::str::from_utf8(text).ok()?).ok()?;
    items.iter().all(|item| is_accepted(item.get().as_bytes())).then_some(())?;
    Some(items.iter().map(|item| item.get().to_owned()).collect())
}

proptest! {
    #[test]
    fn an_array_is_split_as_serde_json_splits_it(inner in text(","), is_closed in prop::bool::weighted(0.9), last in customer()) {
        let end = if is_closed { "]" } else { "" };
        let text = [b"[", &*inner, last.as_bytes(), end.as_bytes()].concat();
        let ours = Customers::from_array(&text);
        let reference = elements(&text);
        prop_assert_eq!(ours.is_ok(), reference.is_some(), "{}", String::from_utf8_lossy(&text));
        for (customer, element) in ours.iter().flat_map(|customers| &customers.read).zip(reference.iter().flatten()) {
            prop_assert_eq!(customer.text, element.as_bytes());
            prop_assert_eq!(&customer.payload, &SegmentIdentifyPayload::parse(element.as_bytes()));
        }
        prop_assert_eq!(ours.map_or(0, |customers| customers.count), reference.map_or(0, |elements| elements.len()));
    }

    #[test]
    fn each_line_is_read_as_a_text_of_its_own(text in text("\n")) {
        let lines: Vec<(usize, &[u8])> = text.split(|byte| *byte == b'\n').enumerate()
            .map(|(index, line)| (index + 1, line.trim_ascii())).filter(|(_, line)| !line.is_empty()).collect();
        let customers = Customers::from_lines(&text);
        prop_assert_eq!(customers.count, lines.len());
        for (customer, (number, line)) in customers.read.iter().zip(lines) {
            prop_assert_eq!(customer.text, line);
            let alone = SegmentIdentifyPayload::parse(line).map_err(|error| match error {
                PayloadError::InvalidJson { message } => {
                    PayloadError::InvalidJson { message: message.replace("at line 1 ", &format!("at line {number} ")) }
                }
                broken => broken,
            });
            prop_assert_eq!(&customer.payload, &alone);
        }
    }
}
