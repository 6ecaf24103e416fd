//! Texts that stand where somebody forgot to put a secret.

/// What is said of an unreplaced variable.
pub(super) const UNREPLACED: &str = "is a variable that was not replaced: docker run --env-file passes ${...} on as it is, and Kubernetes a $(...) that it does not know";

/// What documents write where a secret belongs, besides `YOUR_..._KEY`: in small letters, without what is neither letter nor
/// digit.
const PLACEHOLDERS: [&str; 12] = [
    "changeme",
    "changethis",
    "insertwritekey",
    "none",
    "null",
    "placeholder",
    "relayadmintoken",
    "replaceme",
    "replacethis",
    "segmentwritekey",
    "todo",
    "undefined",
];

/// What `YOUR_...` ends with in documents.
const NOUNS: [&str; 4] = ["key", "password", "secret", "token"];

/// Whether a program that replaces variables should have replaced one in this text: `${NAME}`, `$(NAME)`, `{{name}}`, or
/// `$NAME` between colons. A password may hold a `$` elsewhere.
pub(super) fn is_unreplaced(text: &str) -> bool {
    let brackets = [("${", '}'), ("$(", ')'), ("{{", '}')];
    let is_name = |name: &str| {
        let is_inner = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_') && name.bytes().all(is_inner)
    };
    brackets.iter().any(|(start, end)| text.split_once(start).is_some_and(|(_, rest)| rest.contains(*end)))
        || text.split(':').any(|part| part.strip_prefix('$').is_some_and(is_name))
}

/// Whether this text is what documents write where a secret belongs.
pub(super) fn is_placeholder(text: &str) -> bool {
    let letters: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
    let letters = letters.to_lowercase();
    let letters = letters.strip_suffix("here").unwrap_or(&letters);
    match letters.len() {
        // Nothing but dots, dashes or stars.
        0 => !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'.' | b'-' | b'_' | b'*')),
        1 => false,
        // YOUR_WRITE_KEY, your-key and the like; changemechangeme; xxxx.
        _ => {
            letters.contains("your") && NOUNS.iter().any(|noun| letters.ends_with(noun))
                || PLACEHOLDERS.iter().any(|placeholder| letters.replace(placeholder, "").is_empty())
                || letters.bytes().all(|byte| byte == b'x')
        }
    }
}

/// Whether this text begins or ends with a quote.
pub(super) fn is_quoted(text: &[u8]) -> bool {
    [text.first(), text.last()].iter().any(|end| matches!(end, Some(b'"' | b'\'')))
}
