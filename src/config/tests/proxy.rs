//! Tests of the proxy's variables.

use super::read::{KEY, settings};

const PROXY: (&str, &str) = ("ALL_PROXY", "http://proxy.example.com:3128");

fn proxy(variables: &[(&str, &str)]) -> Option<String> {
    let settings = settings(&[&[KEY], variables].concat()).unwrap_or_else(|problems| panic!("{problems:?}"));
    settings.segment.proxy.map(|proxy| proxy.to_string())
}

#[test]
fn a_proxy_has_the_scheme_and_the_port_that_curl_gives_it() {
    for (text, expected) in [
        ("proxy.example.com", "http://proxy.example.com:1080"),
        ("http://proxy.example.com", "http://proxy.example.com:1080"),
        ("http://proxy.example.com:80", "http://proxy.example.com:80"),
        ("https://proxy.example.com", "https://proxy.example.com:443"),
        ("HTTPS://u:p@Proxy_1:8443/", "https://proxy_1:8443"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("[2001:db8::1]", "http://[2001:db8::1]:1080"),
        ("u:p@10.0.0.1:3128", "http://10.0.0.1:3128"),
    ] {
        assert_eq!(proxy(&[("HTTPS_PROXY", text)]).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn the_credentials_are_never_shown() {
    let settings = settings(&[KEY, ("HTTPS_PROXY", "http://relay:s3cret@proxy:3128")]).unwrap();
    let value = settings.segment.proxy.as_ref().unwrap().authorization().unwrap();
    assert_eq!(value, "Basic cmVsYXk6czNjcmV0");
    let shown = format!("{settings:?} {settings:#?}");
    assert!(shown.contains("proxy:3128") && !shown.contains("s3cret") && !shown.contains("cmVsYXk6"), "{shown}");
}

#[test]
fn no_proxy_names_hosts_domains_addresses_and_networks() {
    for (host, list, is_direct) in [
        ("api.example.com", "example.com", true),
        ("api.example.com", ".EXAMPLE.com.", true),
        ("api.example.com.", "other , api.example.com", true),
        ("example.com", ".example.com", true),
        ("anexample.com", "example.com", false),
        ("api.example.com", "*.example.com", false),
        ("api.example.com", ".", false),
        ("api.example.com", "api.example.com:443", false),
        ("10.1.2.3", "10.0.0.0/8", true),
        ("10.1.2.3", "10.1.2.0/25,10.1.2.4/31", true),
        ("10.1.2.3", "10.1.2.4/31", false),
        ("10.1.2.3", "10.1.2.3/32", true),
        ("10.1.2.3", "10.1.2.3/33", false),
        ("10.1.2.3", "10.1.2.3/x", false),
        ("10.1.2.3", "0.0.0.0/0", false),
        ("10.1.2.3", "2.3", false),
        ("[2001:db8::1]", "2001:DB8::/32", true),
        ("[2001:db8::1]", "2001:db8::1", true),
        ("[2001:db8::1]", "[2001:db8::1]", false),
        ("[2001:db8::1]", "2001:db9::/32 10.0.0.0/8", false),
    ] {
        let endpoint = format!("https://{host}");
        let proxy = proxy(&[PROXY, ("SEGMENT_ENDPOINT", &endpoint), ("NO_PROXY", list)]);
        assert_eq!(proxy.is_none(), is_direct, "{host} {list}");
    }
}
