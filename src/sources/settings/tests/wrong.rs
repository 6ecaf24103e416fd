//! Files that are wrong, and every line that is said of them.

use super::{Files, problems, shop};
use crate::config::Secret;

/// The one problem of a source with these further lines.
fn problem(lines: &str) -> String {
    let found = problems(&shop(lines));
    let [problem] = found.as_slice() else { panic!("{lines}: {found:#?}") };
    problem.clone()
}

#[test]
fn every_problem_is_told_at_once_in_the_order_of_the_file() {
    let text = "\
title = 'My sources'

[shopify]
verify   = 'shopfy'
secrets  = ['env:SHOPIFY_CLIENT_SECRET', 's3cret', 'file:none', 'env:RELAY_SECRET', 'env:s3cret', 'env:EMPTY']
windw    = '8d'
answer   = 204
max_body = '2MiB'
map      = '.'
map_file = 'none.jq'

[Stripe]
secrets = 'env:SHOP'
key     = ['id', 'header:a b', 'header:authorization', 'body:id', 7]
window  = '0s'
on_error = 'ignore'

[own.verify]
format    = ''
encoding  = 'HEX'
algorithm = 'md5'
timestamp = {unit = 'minutes', tolerance = '30d', zone = 'UTC'}
sined     = '{body}'

[[own.example]]
headers = {'a b' = 'c'}
bdy     = '{}'
expect  = '{}'
";
    let expected = "\
sources.toml:1: title: must be a table
sources.toml:4: shopify.verify: no such preset; is it shopify?
sources.toml:5: shopify.secrets[0]: the variable SHOPIFY_CLIENT_SECRET is not set
sources.toml:5: shopify.secrets[1]: must be env:NAME or file:PATH: no secret may be in this file
sources.toml:5: shopify.secrets[2]: the file cannot be read (entity not found)
sources.toml:5: shopify.secrets[3]: RELAY_SECRET: only the relay's own settings may begin with RELAY_ or SEGMENT_; give it another name
sources.toml:5: shopify.secrets[4]: must name a variable in capital letters, digits and _ after env:
sources.toml:5: shopify.secrets[5]: the variable EMPTY is not set
sources.toml:6: shopify.windw: no such key; is it window?
sources.toml:7: shopify.answer: must be 200 or 202
sources.toml:8: shopify.max_body: must be a size such as 256KiB, at most 1MiB
sources.toml:10: shopify.map_file: the file cannot be read (entity not found)
sources.toml:10: shopify.map_file: only one of map and map_file may be set
sources.toml:12: Stripe: the name of a source must be 1 to 64 of a-z, 0-9, - and _
sources.toml:12: Stripe.verify: required: a preset's name, a table of values, bearer, basic, token or none
sources.toml:13: Stripe.secrets: must be a list in brackets
sources.toml:14: Stripe.key[0]: must be header:NAME, or body: and a JSON pointer, as in body:/data/id
sources.toml:14: Stripe.key[1]: not the name of a header
sources.toml:14: Stripe.key[2]: this header holds a secret
sources.toml:14: Stripe.key[3]: must be header:NAME, or body: and a JSON pointer, as in body:/data/id
sources.toml:14: Stripe.key[4]: must be a text in quotes
sources.toml:15: Stripe.window: must be more than 0s
sources.toml:16: Stripe.on_error: must be one of keep, refuse
sources.toml:18: own.verify.header: required
sources.toml:18: own.secrets: required: a list of env:NAME or file:PATH
sources.toml:19: own.verify.format: must not be empty
sources.toml:20: own.verify.encoding: must be one of hex, base64
sources.toml:21: own.verify.algorithm: must be one of hmac-sha256, hmac-sha1, hmac-sha512, sha256
sources.toml:22: own.verify.timestamp: needs its header, or {timestamp} in format
sources.toml:22: own.verify.timestamp: is checked, so {timestamp} must be in signed
sources.toml:22: own.verify.timestamp.unit: must be one of s, ms, rfc3339
sources.toml:22: own.verify.timestamp.tolerance: must be at most 7days
sources.toml:22: own.verify.timestamp.zone: no such key
sources.toml:23: own.verify.sined: no such key; is it signed?
sources.toml:25: own.example[0].body: required
sources.toml:26: own.example[0].headers.a b: not the name of a header
sources.toml:27: own.example[0].bdy: no such key; is it body?
sources.toml:28: own.example[0].expect: must be a JSON array of customers
";
    let found = problems(text);
    assert_eq!(found.join("\n") + "\n", expected);
}

#[test]
fn what_is_no_toml_is_told_with_every_line_and_without_its_words() {
    let text = "[shop]\nverify = s3cret\n[other\nmap = '.'\nsecrets = ['s3cret]\n";
    let found = problems(text);
    for line in [2, 3, 5] {
        assert!(found.iter().any(|problem| problem.starts_with(&format!("sources.toml:{line}: "))), "{found:#?}");
    }
    assert!(found.iter().all(|problem| !problem.contains("s3cret")), "{found:#?}");
    assert_eq!(problems("[shop]\nverify = 'none'\nverify = 'none'").len(), 1);
}

#[test]
fn a_key_that_has_no_effect_is_a_problem() {
    let url = "url = 'https://relay.example/sources/shop'";
    assert_eq!(problem(url), "sources.toml:4: shop.url: has no effect, because it is not signed");
    let header = "sources.toml:4: shop.header: counts only where verify is token";
    assert_eq!(problem("header = 'x-token'"), header);
    let found = problems("[shop]\nverify = 'none'\nsecrets = ['env:SHOP']\nurl = 'http://a.example'");
    let expected = [
        "sources.toml:3: shop.secrets: have no effect",
        "sources.toml:4: shop.url: has no effect, because it is not signed",
    ];
    assert_eq!(found, expected);
}

#[test]
fn keep_needs_an_outbox() {
    let mut files = Files::new().with("sources.toml", shop("on_error = 'keep'"));
    files.has_outbox = false;
    let expected = "sources.toml:4: shop.on_error: keep needs an outbox (RELAY_OUTBOX_URL), where the event is kept";
    assert_eq!(files.read().err().unwrap(), [expected]);
}

#[test]
fn the_admin_token_is_no_secret_of_a_source() {
    let mut files = Files::new().with("sources.toml", shop(""));
    files.admin_token = Some(Secret::new("a-secret-of-thirty-two-characters"));
    let expected = "sources.toml:3: shop.secrets: one is RELAY_ADMIN_TOKEN: who sends events may not read customers";
    assert_eq!(files.read().err().unwrap(), [expected]);
}

#[test]
fn secrets_have_the_rules_of_those_of_the_environment() {
    let secret = |place: &str, content: &[u8]| {
        let text = format!("[shop]\nverify = 'shopify'\nsecrets = ['{place}']");
        let table = Files::new().with("sources.toml", text).with("secret", content).read();
        table.err().map(|problems| problems.join("; ").replace("sources.toml:3: shop.secrets", ""))
    };
    assert_eq!(secret("file:secret", b"a-secret-of-thirty-two-characters\r\n\n"), None);
    for (place, content, problem) in [
        ("env:UNREPLACED", &b""[..], "number 1 of 1 is a variable that was not replaced"),
        ("file:secret", b"", "the file is empty"),
        ("file:secret", b"\xff", "the file is not valid UTF-8"),
        ("file:secret", b"two\nlines", "number 1 of 1 must not hold control characters"),
        ("file:secret", &[b'x'; 65 * 1024], "the file is larger than 65536 bytes"),
        ("file:.", b"", "must be the path of a regular file"),
        ("secret", b"", "must be env:NAME or file:PATH"),
        ("env:", b"", "must name a variable"),
        ("env:9A", b"", "must name a variable"),
        ("env:SEGMENT_KEY", b"", "SEGMENT_KEY: only the relay's own settings"),
    ] {
        let found = secret(place, content).unwrap_or_else(|| panic!("{place}"));
        assert!(found.trim_start_matches("[0]: ").trim_start_matches(": ").starts_with(problem), "{place}: {found}");
    }
    let many = vec!["'env:SHOP'"; 17].join(", ");
    for list in ["", &many] {
        let found = problems(&format!("[shop]\nverify = 'shopify'\nsecrets = [{list}]"));
        assert_eq!(found, ["sources.toml:3: shop.secrets: 1 to 16 are needed"]);
    }
}

#[test]
fn write_keys_have_the_rules_of_the_environment() {
    assert!(
        problem("write_key = 'env:CHANGEME'")
            .ends_with("shop.write_key: is a placeholder. The key is in Segment, in the settings of the source")
    );
    assert!(problem("write_key = 'env:UNREPLACED'").contains("shop.write_key: is a variable that was not replaced"));
    assert!(problem("write_key = 'env:NONE'").ends_with("shop.write_key: the variable NONE is not set"));
    assert!(problem("write_key = 's3cret'").ends_with("no secret may be in this file"));
}

#[test]
fn names_are_short_and_plain() {
    let long = "x".repeat(65);
    for name in ["\"\"", "A", "\"a/b\"", "\"a\\nb\"", "\"\u{e9}\"", &long] {
        let found = problems(&format!("[{name}]\nverify = 'none'"));
        let is_told = |problem: &String| problem.ends_with("the name of a source must be 1 to 64 of a-z, 0-9, - and _");
        assert!(found.len() == 1 && is_told(&found[0]) && !found[0].contains('\n'), "{found:?}");
    }
}

#[test]
fn handshakes_are_whole() {
    for (challenge, expected) in [
        ("{}", "needs one of header, field and form"),
        ("{header = 'x', form = 'y'}", "needs one of header, field and form"),
        ("{header = 'x'}", "challenge.answer: required"),
        ("{header = 'x', answer = 'y', method = 'POST'}", "challenge.method: must be one of GET"),
        ("{field = 'x', answer = 'y'}", "challenge.when: required"),
        ("{field = 'x', answer = 'y', when = {}}", "challenge.when: must be one name and its text"),
        ("{form = 'x', answer = 'y'}", "challenge.answer: no such key"),
        ("'okta'", "challenge: must be a table"),
    ] {
        let found = problem(&format!("challenge = {challenge}"));
        assert!(found.ends_with(expected), "{challenge}: {found}");
    }
}

#[test]
fn files_and_problems_are_bounded() {
    let sources: String = (0..102).map(|number| format!("[a{number}]\nverify = 'none'\n")).collect();
    let found = problems(&sources);
    assert!(found.len() == 1 && found[0].ends_with(": more than 100 sources"), "{found:?}");
    let keys: String = (0..500).map(|number| format!("k{number} = 1\n")).collect();
    let found = problems(&shop(&keys));
    assert_eq!((found.len(), found[100].as_str()), (101, "sources.toml: 400 problems more"));
    let found = problems(&shop(&format!("{} = 1", "k".repeat(100_000))));
    assert!(found.len() == 1 && found[0].len() < 200, "{} bytes", found[0].len());
    let large = Files::new().with("sources.toml", vec![b'#'; 1024 * 1024 + 1]).read().err().unwrap();
    assert!(large.len() == 1 && large[0].ends_with("the file is larger than 1048576 bytes"), "{large:?}");
    let missing = Files::new().read().err().unwrap();
    assert!(missing[0].starts_with("RELAY_SOURCES: /") && missing[0].ends_with("(entity not found)"), "{missing:?}");
    let filter = Files::new().with("sources.toml", shop("map_file = 'a.jq'")).with("a.jq", vec![b'#'; 70_000]);
    assert!(filter.read().err().unwrap()[0].ends_with("map_file: the file is larger than 65536 bytes"));
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(!problems(&deep).is_empty());
}
