//! Finds secrets in a text that somebody else wrote, in the forms in which an echo of a request shows them.
//!
//! The text is compared without case and without anything but letters and digits: so padding, separators and both alphabets
//! of base64 make no difference. Escapes are decoded first. A part of a secret counts too, because an echo may be cut off.

use std::collections::HashSet;

use data_encoding::{BASE64, HEXLOWER};

/// Letters and digits in a row that give a secret away. Fewer may be there by chance, and are no use to a reader.
const PART: usize = 8;

/// How often escapes are decoded. A percent-encoded echo within JSON within HTML has three layers.
const LAYERS: usize = 3;

/// What an escape begins with, the base of its digits, and how many there are if the escape does not say where it ends.
const ESCAPES: [(&str, u32, Option<usize>); 8] = [
    ("%", 16, Some(2)),
    ("\\x", 16, Some(2)),
    ("0x", 16, Some(2)),
    ("\\u{", 16, None),
    ("\\u", 16, Some(4)),
    ("&#x", 16, None),
    ("&#X", 16, None),
    ("&#", 10, None),
];

/// The forms of secrets. No `Debug`.
#[derive(Default)]
pub(super) struct SecretForms {
    parts: HashSet<[u8; PART]>,
    /// Secrets that are shorter than a part, plain and as in a Basic header. They are found as whole words alone: the rest
    /// of a longer word is there by chance.
    short: Vec<String>,
}

impl SecretForms {
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms = Self::default();
        secrets.into_iter().for_each(|secret| forms.add(secret));
        forms
    }

    pub(super) fn add(&mut self, secret: &str) {
        let bytes = secret.as_bytes();
        let plain = letters_and_digits(secret);
        if plain.len() < PART {
            let header = BASE64.encode(format!("{secret}:").as_bytes());
            self.short.extend([plain, letters_and_digits(&header)].into_iter().filter(|form| !form.is_empty()));
            return;
        }
        let decimal: String = bytes.iter().map(u8::to_string).collect();
        let encoded = (0..3).map(|before| letters_and_digits(&base64_behind(before, bytes)));
        for form in encoded.chain([plain, HEXLOWER.encode(bytes), decimal]) {
            self.parts.extend(form.as_bytes().array_windows());
        }
    }

    /// Whether the text holds a secret, or enough of one.
    pub(super) fn are_in(&self, text: &str) -> bool {
        let mut text = text.to_owned();
        for _ in 0..LAYERS {
            if self.are_in_plain(&text) {
                return true;
            }
            text = unescaped(&text);
        }
        self.are_in_plain(&text)
    }

    fn are_in_plain(&self, text: &str) -> bool {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c)).map(letters_and_digits);
        letters_and_digits(text).as_bytes().array_windows().any(|part| self.parts.contains(part))
            || (!self.short.is_empty() && words.any(|word| self.short.contains(&word)))
    }
}

fn letters_and_digits(text: &str) -> String {
    text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

/// What stands for these bytes in the base64 of a text that has `before` bytes before them, or three or six more.
fn base64_behind(before: usize, bytes: &[u8]) -> String {
    let text = [&vec![0; before], bytes].concat();
    // The last characters depend on the bytes behind, the first ones on those before.
    let whole = BASE64.encode(&text[..text.len() / 3 * 3]);
    whole.get(if before == 0 { 0 } else { 4 }..).unwrap_or_default().to_owned()
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (character, length) = escape(rest).unwrap_or((first, first.len_utf8()));
        plain.push(character);
        rest = &rest[length..];
    }
    plain
}

/// The escape with which the text begins: its character, and its length. What ends it is neither letter nor digit.
fn escape(text: &str) -> Option<(char, usize)> {
    ESCAPES.iter().find_map(|(prefix, radix, digits)| {
        let behind = text.strip_prefix(prefix)?;
        let digits = digits.unwrap_or_else(|| behind.bytes().take_while(u8::is_ascii_hexdigit).count());
        let code = u32::from_str_radix(behind.get(..digits)?, *radix).ok()?;
        Some((char::from_u32(code)?, prefix.len() + digits))
    })
}

#[cfg(test)]
mod tests {
    use super::{SecretForms, unescaped};

    const KEY: &str = "aB3-xY_9kLmN0pQrStUvWxYz12345678";

    #[test]
    fn ordinary_words_hold_no_secret() {
        let forms = SecretForms::new([KEY, "dev", ""]);
        for text in ["", "malformed JSON", "the event is not valid (400)", "userId c-1042 is blocked %zz \\u12 &#; 0x"]
        {
            assert!(!forms.are_in(text), "{text}");
        }
        assert!(!SecretForms::default().are_in(KEY));
    }

    #[test]
    fn a_secret_is_found_behind_three_layers_of_escapes() {
        let forms = SecretForms::new([KEY]);
        let mut text: String = KEY.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for _ in 0..2 {
            assert!(forms.are_in(&text), "{text}");
            text = text.replace('%', "%25");
        }
        assert!(forms.are_in(&text), "{text}");
    }

    #[test]
    fn a_part_of_a_secret_is_found_and_a_short_secret_as_a_whole() {
        let forms = SecretForms::new([KEY, "dev"]);
        assert!(forms.are_in(&format!("key {}...", &KEY[..12])));
        assert!(!forms.are_in(&format!("key {}...", &KEY[..6])));
        for text in ["the key dev is unknown", "key=\"dev\"", "Basic ZGV2Og=="] {
            assert!(forms.are_in(text), "{text}");
        }
        assert!(!forms.are_in("this device is unknown"));
    }

    #[test]
    fn escapes_are_decoded_and_the_rest_is_kept() {
        assert_eq!(unescaped("a%41&#66;&#x43;\\x44\\u0045\\u{46}0x47%"), "aAB;C;DEF}G%");
        assert_eq!(unescaped("%é %4 \\u00 &#xfffffff;"), "%é %4 \\u00 &#xfffffff;");
    }
}
