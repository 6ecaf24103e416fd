//! The rules for ids: `userId`, `anonymousId` and `messageId`.

/// Segment drops a call whose `messageId` has more characters, although it answers 200.
pub(super) const MAX_MESSAGE_ID: usize = 99;

/// Ids that senders write when they have none, besides zeros and dashes.
pub(super) const PLACEHOLDERS: [&str; 3] = ["-1", "null", "anonymous"];

/// Checks that an id names one customer: it is not blank, and it is none of the placeholders that Segment tells its users
/// to block, because they have merged hundreds of strangers into one profile.
///
/// # Errors
/// What is wrong, to be read after the field's name. It does not contain the id.
pub fn check_user_id(id: &str) -> Result<(), &'static str> {
    if id.trim().is_empty() {
        return Err("must not be blank");
    }
    let only_zeros_and_dashes = id.bytes().all(|byte| matches!(byte, b'0' | b'-'));
    if only_zeros_and_dashes || PLACEHOLDERS.contains(&id) {
        return Err("is a placeholder (only zeros and dashes, -1, null or anonymous): Segment advises to block it, \
             because it merges strangers into one profile");
    }
    Ok(())
}

pub(super) fn check_message_id(id: &str) -> Result<(), &'static str> {
    let is_valid = (1..=MAX_MESSAGE_ID).contains(&id.chars().count());
    is_valid.then_some(()).ok_or("must have 1 to 99 characters")
}
