//! Keeps secrets out of a text that somebody else wrote, such as an echo of a request.
//!
//! A secret as it is gives the whole text away. An encoding of a secret is found by its looks: it is not made of words. So no
//! list of encodings is needed.

use std::collections::HashSet;

use data_encoding::{BASE64, HEXLOWER};

/// Letters and digits of a secret in a row that give it away. Fewer may be there by chance, and are no use to a reader.
const PART: usize = 8;

/// How many characters in a row that belong to no word are shown: a date, or a short id. In base64 they hold fewer than
/// [`PART`] characters of a secret.
const MAX_CODE: usize = 10;

/// Letters of the longest word.
const MAX_WORD: usize = 19;

/// Characters that begin an escape. What holds one is not shown, however short it is.
const ESCAPES: [char; 3] = ['%', '\\', '&'];

/// The secrets as they are. No `Debug`.
#[derive(Default)]
pub(super) struct SecretForms {
    parts: HashSet<[u8; PART]>,
    /// Secrets that are shorter than a part, and the encodings of them that [`without_codes`] would show. They are found as
    /// whole words alone: the rest of a longer word is there by chance.
    short: Vec<String>,
}

impl SecretForms {
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms = Self::default();
        secrets.into_iter().for_each(|secret| forms.add(secret));
        forms
    }

    pub(super) fn add(&mut self, secret: &str) {
        let plain = letters_and_digits(secret);
        if plain.len() >= PART {
            self.parts.extend(plain.as_bytes().array_windows());
            return;
        }
        let (bytes, header) = (secret.as_bytes(), format!("{secret}:"));
        let encoded = [BASE64.encode(header.as_bytes()), BASE64.encode(bytes), HEXLOWER.encode(bytes)];
        let encoded = encoded.iter().map(|form| letters_and_digits(form));
        self.short.extend(encoded.chain([plain]).filter(|form| !form.is_empty()));
    }

    /// Whether the text holds a secret as it is, or enough of one. Case and separators do not count.
    pub(super) fn are_in(&self, text: &str) -> bool {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c)).map(letters_and_digits);
        letters_and_digits(text).as_bytes().array_windows().any(|part| self.parts.contains(part))
            || (!self.short.is_empty() && words.any(|word| self.short.contains(&word)))
    }
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

/// How many characters belong to no word.
fn code_length(part: &str) -> usize {
    if part.contains(ESCAPES) {
        return MAX_CODE + 1;
    }
    let words = part.split(is_separator).filter(|piece| is_word(piece));
    part.chars().count() - words.map(|word| word.chars().count()).sum::<usize>()
}

/// A word has letters alone, and two capitals side by side only if it is all capitals: `JSON`, `userId`.
fn is_word(piece: &str) -> bool {
    let letters: Vec<char> = piece.chars().collect();
    (2..=MAX_WORD).contains(&letters.len())
        && letters.iter().all(|letter| letter.is_alphabetic())
        && (letters.iter().all(|letter| letter.is_uppercase())
            || !letters.windows(2).any(|pair| pair.iter().all(|letter| letter.is_uppercase())))
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
            "exceeds 500 KB at line 1, column 512000",
        ] {
            assert!(!forms.are_in(text), "{text}");
            assert_eq!(without_codes(text), text);
        }
        assert!(!SecretForms::default().are_in(KEY));
    }

    #[test]
    fn what_is_no_word_is_replaced_and_lists_count_together() {
        for (text, shown) in [
            ("the id 7d9f2c1e-08ab-4c55-9be1-0f3a2b7c6d5e is unknown", "the id [...] is unknown"),
            ("got 97 066 51 120, then", "got [...] then"),
            ("got a B 3 x Y 9 k L m N 0 and more", "got [...] and more"),
            ("key %61, \\141 &#97; !", "key [...]"),
            ("base MFBDGPJRGEZDGNBVGY3TQOJQ end", "base [...] end"),
            ("key=YUIzeFk5a0xt", "[...]"),
            ("<~9jqo^BlbD-BleB1DJ+*+F(f,q~> is new", "[...] is new"),
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
