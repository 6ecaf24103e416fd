//! Which ids name a customer or a call.

use std::ops::RangeInclusive;

/// Segment drops a call whose `messageId` has more characters, although it answers 200.
const MAX_MESSAGE_ID: usize = 99;

/// What senders write where they have no id, besides zeros and dashes.
const PLACEHOLDERS: [&str; 9] =
    ["-1", "null", "undefined", "none", "nan", "true", "false", "anonymous", "[object Object]"];

const BLANK: &str = "must not be blank: white space, control and invisible characters alone are no id";

/// The characters with the property Default_Ignorable_Code_Point, which programs show as nothing
/// (DerivedCoreProperties.txt of Unicode 16.0.0).
const DEFAULT_IGNORABLE: [RangeInclusive<char>; 17] = [
    '\u{AD}'..='\u{AD}',
    '\u{34F}'..='\u{34F}',
    '\u{61C}'..='\u{61C}',
    '\u{115F}'..='\u{1160}',
    '\u{17B4}'..='\u{17B5}',
    '\u{180B}'..='\u{180F}',
    '\u{200B}'..='\u{200F}',
    '\u{202A}'..='\u{202E}',
    '\u{2060}'..='\u{206F}',
    '\u{3164}'..='\u{3164}',
    '\u{FE00}'..='\u{FE0F}',
    '\u{FEFF}'..='\u{FEFF}',
    '\u{FFA0}'..='\u{FFA0}',
    '\u{FFF0}'..='\u{FFF8}',
    '\u{1BCA0}'..='\u{1BCA3}',
    '\u{1D173}'..='\u{1D17A}',
    '\u{E0000}'..='\u{E0FFF}',
];

/// Checks that an id names one customer: it is not blank, and it is none of the placeholders that Segment tells its users
/// to block, because they have merged hundreds of strangers into one profile.
///
/// # Errors
/// What is wrong, to be read after the field's name. It does not contain the id.
pub fn check_user_id(id: &str) -> Result<(), &'static str> {
    let id = id.trim_matches(is_invisible);
    if id.is_empty() {
        return Err(BLANK);
    }
    let only_zeros_and_dashes = id.bytes().all(|byte| matches!(byte, b'0' | b'-'));
    if only_zeros_and_dashes || PLACEHOLDERS.iter().any(|placeholder| placeholder.eq_ignore_ascii_case(id)) {
        return Err(
            "is a placeholder (null, undefined, none, nan, true, false, anonymous, [object Object], -1, or only \
             zeros and dashes): it would merge strangers into one profile",
        );
    }
    Ok(())
}

pub(super) fn check_message_id(id: &str) -> Result<(), &'static str> {
    if !(1..=MAX_MESSAGE_ID).contains(&id.chars().count()) {
        return Err("must have 1 to 99 characters");
    }
    if is_blank(id) { Err(BLANK) } else { Ok(()) }
}

/// Whether a text has no visible character.
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(is_invisible)
}

/// White space, a control character, or [`DEFAULT_IGNORABLE`].
pub(crate) fn is_invisible(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_graphic();
    }
    character.is_whitespace()
        || character.is_control()
        || DEFAULT_IGNORABLE.iter().any(|range| range.contains(&character))
}
