//! What must never be printed, in every form in which it could be.

use std::collections::BTreeSet;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};

/// A part that is shorter may be there by chance.
const SHORTEST: usize = 8;

/// Texts to look for, and in which forms of which secret they are.
pub struct Needles(Vec<(String, String)>);

impl Needles {
    /// Every form of these secrets, and of their halves.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut needles = BTreeSet::new();
        for secret in secrets {
            let (first, second) = secret.split_at(secret.ceil_char_boundary(secret.len() / 2));
            for part in [secret, first, second].iter().filter(|part| part.len() >= SHORTEST) {
                needles.extend(forms(part).into_iter().map(|form| (form, secret.to_owned())));
            }
        }
        Self(needles.into_iter().collect())
    }

    /// That none is in what was printed or answered.
    #[track_caller]
    pub fn assert_absent(&self, text: &str, whose: &str) {
        for (needle, secret) in &self.0 {
            if let Some(at) = text.find(needle) {
                let from = text.floor_char_boundary(at.saturating_sub(200));
                let to = text.ceil_char_boundary((at + 200).min(text.len()));
                panic!("{secret:?} as {needle:?} in {whose}: {}", &text[from..to]);
            }
        }
    }
}

fn forms(part: &str) -> Vec<String> {
    let bytes = part.as_bytes();
    let percent = |is_plain: fn(u8) -> bool| -> String {
        let escape = |byte: &u8| if is_plain(*byte) { char::from(*byte).into() } else { format!("%{byte:02X}") };
        bytes.iter().map(escape).collect()
    };
    let codes: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let hex = HEXLOWER.encode(bytes);
    let json = serde_json::to_string(part).expect("JSON");
    let mut forms = vec![
        part.to_owned(),
        part.to_lowercase(),
        part.to_uppercase(),
        json.trim_matches('"').to_owned(),
        part.escape_debug().to_string(),
        percent(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
        percent(|byte| byte.is_ascii_graphic() && byte != b'@'),
        // As `Debug` writes bytes.
        codes.join(", "),
        codes.join(","),
        hex.to_uppercase(),
        hex,
    ];
    forms.extend((0..3).flat_map(|before| [BASE64.encode(bytes), in_base64(bytes, before)]));
    forms.push(BASE64URL_NOPAD.encode(bytes));
    forms
}

/// What stands in base64 of a text that holds these bytes behind `before` others, whatever the others are.
fn in_base64(bytes: &[u8], before: usize) -> String {
    let padded = [vec![0; before], bytes.to_vec()].concat();
    // The first characters depend on what is before, the last ones on what comes behind.
    let whole = BASE64.encode(&padded[..padded.len() / 3 * 3]);
    whole[if before == 0 { 0 } else { 4 }..].to_owned()
}

#[test]
fn a_secret_is_found_in_every_form() {
    let needles = Needles::of(["ada.q7vx@post.example"]);
    let found = |text: &str| std::panic::catch_unwind(|| needles.assert_absent(text, "a test")).is_err();
    let within = |before: &str| BASE64.encode(format!("{before}ada.q7vx@post.example:x").as_bytes());
    for text in [
        "user=ada.q7vx@post.example;",
        "ADA.Q7VX@POST.EXAMPLE",
        "q=ada.q7vx%40post.example",
        "a half: ada.q7vx@p",
        &format!("{:?}", "ada.q7vx@post.example".as_bytes()),
        &format!("{:02x?}", "ada.q7vx@post.example".as_bytes()).replace(", ", ""),
        &within(""),
        &within("a"),
        &within("ab"),
        &within("abc"),
    ] {
        assert!(found(text), "{text}");
    }
    assert!(!found("ada.q@post.exam"), "half of a half is no secret");
}
