//! The checks of `SEGMENT_ENDPOINT` and `RELAY_NOTIFY_URL`, and of the names of hosts.

use url::{Host, Url};

/// The paths of Segment's API, which may be at the end of the base URL by mistake. The longer ones come first.
const API_PATHS: [&str; 3] = ["/v1/batch", "/v1/identify", "/v1"];

/// The longest name and label of DNS.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A base URL. No message repeats it, because it may hold a password by mistake.
pub(super) fn endpoint(text: &str) -> Result<Url, String> {
    let mut url = web_url(text, ['?', '#'].as_slice(), "must be a base URL, without ? or #")?;
    let path = url.path().to_owned();
    let mut base = path.trim_end_matches('/');
    while let Some(rest) = API_PATHS.iter().find_map(|end| base.strip_suffix(end)) {
        base = rest.trim_end_matches('/');
    }
    url.set_path(base);
    Ok(url)
}

/// The URL of a receiver. No message repeats it, because its path or query may be a secret.
pub(super) fn notify_url(text: &str) -> Result<Url, String> {
    web_url(text, ['#'].as_slice(), "must not hold #, which is never sent")
}

/// A URL of http or https that holds none of these characters. No message repeats it.
fn web_url(text: &str, refused: &[char], problem: &str) -> Result<Url, String> {
    let text = text.trim();
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    // The parser takes fewer or more slashes than two as well, and leaves out tabs and newlines.
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return Err("must begin with https:// or http://".to_owned());
    }
    let rest = text.get(scheme.len() + "://".len()..).unwrap_or_default();
    if rest.split('?').next().is_some_and(|before| before.contains("://")) {
        return Err("must be one URL".to_owned());
    } else if rest.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '\\' | '"' | '\'')) {
        return Err("must not hold white space, quotes or backslashes".to_owned());
    } else if rest.contains(refused) {
        return Err(problem.to_owned());
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("must not hold a user name or password".to_owned());
    } else if authority.is_empty() {
        return Err("has no host".to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("not a URL ({error})"))?;
    if !url.host().as_ref().is_some_and(is_host) {
        return Err("its host is no valid name or address".to_owned());
    } else if url.port() == Some(0) {
        return Err("nothing listens on port 0".to_owned());
    }
    Ok(url)
}

/// Whether a host can be resolved and reached. A name may hold `_`, as those of Docker's containers do.
pub(super) fn is_host<S: AsRef<str>>(host: &Host<S>) -> bool {
    let Host::Domain(name) = host else {
        return true;
    };
    let name = name.as_ref();
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(is_inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Whether the endpoint is a program on this machine.
pub(super) fn is_loopback(endpoint: &Url) -> bool {
    match endpoint.host() {
        Some(Host::Domain(name)) => name.strip_suffix('.').unwrap_or(name) == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}
