//! The proxy on the way to Segment and to the receiver of notifications: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
//! `NO_PROXY`, read as curl reads them.
//!
//! The HTTP client reads no variable itself: it would ignore a value that it does not understand, and go without the proxy.

use std::fmt;
use std::net::IpAddr;

use axum::http::HeaderValue;
use data_encoding::BASE64;
use url::{Host, Url};

use super::endpoint::is_host;

/// The ports of proxies that are written without one, as in curl.
const DEFAULT_HTTP_PORT: u16 = 1080;
const DEFAULT_HTTPS_PORT: u16 = 443;

const NO_SCHEME: &str = "must begin with http:// or https://, or be a host and a port";

/// A proxy. Neither `Debug` nor `Display` shows the credentials.
#[derive(Clone, Debug)]
pub struct Proxy {
    scheme: &'static str,
    /// Host and port.
    authority: String,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The value of `Proxy-Authorization`. It is marked as sensitive.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether the connection to the proxy is encrypted.
    fn is_https(&self) -> bool {
        self.scheme == "https"
    }
}

/// The proxies of the environment.
pub(super) struct Proxies {
    pub(super) https: Option<Proxy>,
    pub(super) http: Option<Proxy>,
    pub(super) all: Option<Proxy>,
    /// The entries of `NO_PROXY`.
    pub(super) exceptions: Vec<String>,
}

impl Proxies {
    /// The proxy for this URL.
    pub(super) fn of(&self, url: &Url) -> Option<Proxy> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        proxy.as_ref().or(self.all.as_ref()).filter(|_| !is_excepted(url, &self.exceptions)).cloned()
    }
}

/// Whether anything on the way to this URL is encrypted, so that certificate authorities are needed.
pub fn uses_tls(url: &Url, proxy: Option<&Proxy>) -> bool {
    url.scheme() == "https" || proxy.is_some_and(Proxy::is_https)
}

impl fmt::Display for Proxy {
    /// The URL without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// `[scheme://][user[:password]@]host[:port][/path]`. No message repeats it, because it may hold a password.
pub(super) fn proxy_url(text: &str) -> Result<Proxy, String> {
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        // A slash elsewhere than at the end belongs to a scheme that is mistyped.
        None if text.trim_end_matches('/').contains('/') => return Err(NO_SCHEME.to_owned()),
        None => ("http".to_owned(), text),
    };
    let (scheme, default_port) = match scheme.as_str() {
        "http" => ("http", DEFAULT_HTTP_PORT),
        "https" => ("https", DEFAULT_HTTPS_PORT),
        "socks" | "socks4" | "socks4a" | "socks5" | "socks5h" => {
            return Err("SOCKS proxies are not supported, only those of http:// and https://".to_owned());
        }
        _ => return Err(NO_SCHEME.to_owned()),
    };
    if !rest.bytes().all(is_url_byte) {
        let problem =
            "holds a character that no URL has, such as white space or a quote; in a password it is percent-encoded";
        return Err(problem.to_owned());
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // curl leaves the path out, too. With these it is rather the rest of a password.
    if path.contains(['@', '?', '#', ':']) {
        return Err("must end after the port; in a password / ? and # are percent-encoded".to_owned());
    }
    let (user_info, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let authorization = credentials(user_info)?;
    let (host, port) = match host.rfind(':').filter(|colon| !host[*colon..].contains(']')) {
        Some(colon) => (&host[..colon], port(&host[colon + 1..]).ok_or("its port must be from 1 to 65535")?),
        None => (host, default_port),
    };
    match Host::parse(host) {
        Ok(host) if is_host(&host) => Ok(Proxy { scheme, authority: format!("{host}:{port}"), authorization }),
        _ => Err("its host is no valid name or address".to_owned()),
    }
}

/// RFC 3986, section 2.
fn is_url_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port != 0)
}

fn credentials(user_info: &str) -> Result<Option<HeaderValue>, String> {
    if user_info.is_empty() {
        return Ok(None);
    } else if user_info.contains('@') {
        return Err("in a password @ is percent-encoded, as %40".to_owned());
    }
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let decoded = percent_decoded(user).zip(percent_decoded(password));
    let (user, password) = decoded.ok_or("in a password % is percent-encoded, as %25")?;
    let credentials = [user, password].join(&b':');
    let value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(&credentials)));
    let mut value = value.map_err(|_| "its password is too long")?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// `None` if a `%` is not followed by two hexadecimal digits.
pub(super) fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut decoded = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        decoded.push(data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?.first().copied()?);
        decoded.extend_from_slice(rest.as_bytes());
    }
    Some(decoded)
}

/// The entries of `NO_PROXY`, separated by commas or white space.
pub(super) fn exceptions(list: &str) -> Result<Vec<String>, String> {
    let entries = list.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|entry| !entry.is_empty());
    Ok(entries.map(str::to_ascii_lowercase).collect())
}

/// Whether an entry names the endpoint's host: `*` alone, the host's name or a domain above it, its address, or a network in CIDR
/// notation. Ports are not looked at, so an entry with one names nothing.
fn is_excepted(endpoint: &Url, entries: &[String]) -> bool {
    let Some(host) = endpoint.host() else {
        return false;
    };
    if matches!(entries, [all] if all == "*") {
        return true;
    }
    entries.iter().any(|entry| match &host {
        Host::Domain(name) => {
            let domain = entry.strip_suffix('.').unwrap_or(entry);
            let domain = domain.strip_prefix('.').unwrap_or(domain);
            let before = name.strip_suffix('.').unwrap_or(name).strip_suffix(domain);
            !domain.is_empty() && before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
        }
        Host::Ipv4(address) => is_in_network((*address).into(), entry),
        Host::Ipv6(address) => is_in_network((*address).into(), entry),
    })
}

/// As in curl, a network of 0 bits holds nothing.
fn is_in_network(address: IpAddr, entry: &str) -> bool {
    let (network, bits) = entry.split_once('/').map_or((entry, None), |(network, bits)| (network, Some(bits)));
    let Ok(network) = network.parse() else {
        return false;
    };
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (address.to_bits().into(), network.to_bits().into(), 32),
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    let bits: Option<u32> = bits.map_or(Some(width), |bits| bits.parse().ok());
    bits.is_some_and(|bits| {
        (1..=width).contains(&bits) && u128::eq(&(address >> (width - bits)), &(network >> (width - bits)))
    })
}
