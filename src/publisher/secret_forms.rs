//! Keeps secrets out of a text that somebody else wrote, such as an echo of a request.
//!
//! A secret as it is, in base64 or in hex gives the whole text away. Other encodings are found by their looks: long, and not
//! made of words. So no list of them is needed.

use std::collections::HashSet;

use data_encoding::{BASE64, HEXLOWER};

/// Letters and digits of a secret in a row that give it away. Fewer may be there by chance, and are no use to a reader.
const PART: usize = 8;

/// How many letters and digits in a row that belong to no word are shown: those of a UUID. Any encoding of a write key of 32
/// characters has more.
const MAX_CODE: usize = 32;

/// Letters of the longest word.
const MAX_WORD: usize = 19;

/// Characters that begin an escape, and how many times what holds one counts: few ids are escaped.
const ESCAPES: [char; 3] = ['%', '\\', '&'];
const ESCAPE_WEIGHT: usize = 4;

/// The secrets as they are, in base64 and in hex. No `Debug`.
#[derive(Default)]
pub(super) struct SecretForms {
    parts: HashSet<[u8; PART]>,
    /// Secrets that are shorter than a part, and their encodings. They are found as whole words alone: the rest of a longer word
    /// is there by chance.
    short: Vec<String>,
}

impl SecretForms {
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms = Self::default();
        secrets.into_iter().for_each(|secret| forms.add(secret));
        forms
    }

    pub(super) fn add(&mut self, secret: &str) {
        let (bytes, plain) = (secret.as_bytes(), letters_and_digits(secret));
        if plain.len() >= PART {
            let base64 = (0..3).map(|before| letters_and_digits(&base64_behind(before, bytes)));
            for form in base64.chain([plain, HEXLOWER.encode(bytes)]) {
                self.parts.extend(form.as_bytes().array_windows());
            }
            return;
        }
        let encoded = [BASE64.encode(format!("{secret}:").as_bytes()), BASE64.encode(bytes), HEXLOWER.encode(bytes)];
        let encoded = encoded.iter().map(|form| letters_and_digits(form));
        self.short.extend(encoded.chain([plain]).filter(|form| !form.is_empty()));
    }

    /// Whether the text holds a secret, or enough of one. Case and separators do not count.
    pub(super) fn are_in(&self, text: &str) -> bool {
        self.are_plainly_in(text) || text.contains('%') && self.are_plainly_in(&percent_decoded(text))
    }

    fn are_plainly_in(&self, text: &str) -> bool {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c)).map(letters_and_digits);
        letters_and_digits(text).as_bytes().array_windows().any(|part| self.parts.contains(part))
            || (!self.short.is_empty() && words.any(|word| self.short.contains(&word)))
    }
}

/// The text with the ASCII characters that its percent-encoded bytes stand for (RFC 3986, 2.1).
fn percent_decoded(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('%') {
        decoded.push_str(before);
        let byte = behind.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii);
        rest = byte.and_then(|_| behind.get(2..)).unwrap_or(behind);
        decoded.push(byte.map_or('%', char::from));
    }
    decoded.push_str(rest);
    decoded
}

/// The text with `[...]` for whatever could be an encoded secret: parts with too many characters that belong to no word. Parts
/// without a word count together, such as the numbers of a list.
pub(super) fn without_codes(text: &str) -> String {
    let (mut shown, mut first, mut length) = (Vec::new(), 0, 0);
    for part in text.split_whitespace() {
        let has_word = part.split(is_separator).any(is_word);
        if has_word {
            (first, length) = (shown.len(), 0);
        }
        shown.push(part);
        length += code_length(part);
        if length > MAX_CODE {
            shown.truncate(first);
            shown.push("[...]");
        }
        if has_word {
            (first, length) = (shown.len(), 0);
        }
    }
    shown.join(" ")
}

/// How many letters and digits belong to no word.
fn code_length(part: &str) -> usize {
    let codes = part.split(is_separator).filter(|piece| !is_word(piece));
    let length: usize = codes.map(|code| code.chars().count()).sum();
    if part.contains(ESCAPES) { length * ESCAPE_WEIGHT } else { length }
}

/// A word has letters alone, and two capitals side by side only if it is all capitals: `JSON`, `userId`.
fn is_word(piece: &str) -> bool {
    let letters: Vec<char> = piece.chars().collect();
    (2..=MAX_WORD).contains(&letters.len())
        && letters.iter().all(|letter| letter.is_alphabetic())
        && (letters.iter().all(|letter| letter.is_uppercase())
            || !letters.windows(2).any(|pair| pair.iter().all(|letter| letter.is_uppercase())))
}

/// What stands for these bytes in the base64 of a text that has `before` bytes before them, or three or six more.
fn base64_behind(before: usize, bytes: &[u8]) -> String {
    let text = [&vec![0; before], bytes].concat();
    // The last characters depend on the bytes behind, the first ones on those before.
    let whole = BASE64.encode(&text[..text.len() / 3 * 3]);
    whole.get(if before == 0 { 0 } else { 4 }..).unwrap_or_default().to_owned()
}

fn is_separator(character: char) -> bool {
    !character.is_alphanumeric()
}

fn letters_and_digits(text: &str) -> String {
    text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

#[cfg(test)]
mod tests {
    use super::{SecretForms, without_codes};

    const KEY: &str = "aB3-xY_9kLmN0pQrStUvWxYz12345678";

    #[test]
    fn ordinary_words_hold_no_secret_and_stay() {
        let forms = SecretForms::new([KEY, "dev", ""]);
        for text in [
            "",
            "malformed JSON",
            "the event is not valid (400)",
            "the batch holds a call of a poisoned user",
            "no such thing as a <b>customer</b>",
            "userId c-1042 is blocked: \"traits.createdAt\" of batch[0] is no ISO-8601 date, 2026-11-27",
            "exceeds 500 KB at line 1, column 512000, which is 120 % of it",
            "the id 7d9f2c1e-08ab-4c55-9be1-0f3a2b7c6d5e of 2026-11-27T01:20:45.769Z is unknown",
        ] {
            assert!(!forms.are_in(text), "{text}");
            assert_eq!(without_codes(text), text);
        }
        assert!(!SecretForms::default().are_in(KEY));
    }

    #[test]
    fn what_is_no_word_is_replaced_and_lists_count_together() {
        let numbers = "97 066 51 120, ".repeat(4);
        for (text, shown) in [
            ("the id relay-7d9f2c1e08ab4c559be10f3a2b7c6d5e7d9f2c1e08ab is unknown", "the id [...] is unknown"),
            (&format!("got {numbers} then"), "got [...] then"),
            ("got a B 3 x Y 9 k L m N 0 a B 3 x Y 9 k L m N 0 a B 3 x Y 9 k L m N 0 and more", "got [...] and more"),
            ("key %61%62%63 \\141\\142 &#97; !", "key [...]"),
            ("base MFBDGPJRGEZDGNBVGY3TQOJQMFBDGPJRGEZDGNBVGY3TQOJQ end", "base [...] end"),
        ] {
            assert_eq!(without_codes(text), shown);
        }
    }

    #[test]
    fn a_part_of_a_secret_is_found_and_a_short_secret_as_a_whole() {
        let forms = SecretForms::new([KEY, "dev"]);
        assert!(forms.are_in(&format!("key {}...", &KEY[..12])));
        assert!(!forms.are_in(&format!("key {}...", &KEY[..6])));
        for text in ["the key dev is unknown", "key=\"dev\"", "Basic ZGV2Og==", "Basic ZGV2", "0x 646576"] {
            assert!(forms.are_in(text), "{text}");
        }
        assert!(!forms.are_in("this device is unknown"));
    }
}
