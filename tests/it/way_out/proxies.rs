//! Proxies: one that was asked for is used or stops the start, and nothing ever goes past it.

use super::witness::Witness;
use super::{run, stops};
use crate::harness::{Relay, ada};

const NAMES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

#[tokio::test]
async fn a_value_that_is_no_proxy_stops_the_start_and_no_byte_goes_anywhere() {
    let (proxy, segment) = (Witness::start().await, Witness::start().await);
    let at = proxy.address();
    let wrong = [
        format!("http://relay:s3cr\n3t@{at}"),
        format!("http://{at}\n/"),
        format!("http://relay:s3cr\r3t@{at}"),
        format!("http://relay:s3cr 3t@{at}"),
        format!("\"http://relay:s3cr3t@{at}\""),
        format!("'http://relay:s3cr3t@{at}'"),
        format!("'{at}'"),
        format!("http://relay:s3crét@{at}"),
        format!("http://relay:s3cr\\3t@{at}"),
        format!("http://relay:s3cr\"3t@{at}"),
        format!("http://relay:s3cr#3t@{at}"),
        format!("http://relay:s3cr?3t@{at}"),
        format!("http://relay:s3cr/3t@{at}"),
        format!("http://relay:s3cr@3t@{at}"),
        format!("http://relay:s3cr%3t@{at}"),
        format!("http:/{at}"),
        format!("http:{at}"),
        format!("//{at}"),
        format!("http:///{at}"),
        format!("http//{at}"),
        "http://".to_owned(),
        "http".to_owned() + "://:3128",
        "http://relay:s3cr3t@".to_owned(),
        "http://127.0.0.1:0".to_owned(),
        "http://127.0.0.1:65536".to_owned(),
        "http://127.0.0.1:31 28".to_owned(),
        "http://127.0.0.1:+3128".to_owned(),
        "http://127.0.0.1:port".to_owned(),
        "http://[::1".to_owned(),
        "http://[::g]:3128".to_owned(),
        "http://::1:3128".to_owned(),
        "http://-:3128".to_owned(),
        "http://..:3128".to_owned(),
        format!("{at},{at}"),
        format!("http://{at},http://{at}"),
        format!("socks5://relay:s3cr3t@{at}"),
        format!("socks5h://{at}"),
        format!("socks4://{at}"),
        format!("socks4a://{at}"),
        format!("ftp://{at}"),
        "${HTTPS_PROXY}".to_owned(),
        " ".to_owned(),
    ];
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let plain = format!("http://{}", segment.address());
    for (index, value) in wrong.iter().enumerate() {
        // Each value under another name, and for the endpoint that the name is for.
        let name = NAMES[index % NAMES.len()];
        let endpoint =
            if name.to_lowercase().starts_with("https") { plain.replace("http:", "https:") } else { plain.clone() };
        let settings = [("SEGMENT_ENDPOINT", &*endpoint), (name, value)];
        stops(&settings, name, &["s3cr", "3t", &port, &format!("{host}:")]).await;
    }
    // A wrong one stops the start also where it would not count.
    let good = format!("http://{at}");
    for settings in [
        [("HTTPS_PROXY", "socks5://127.0.0.1:1080"), ("HTTP_PROXY", &good)],
        [("HTTPS_PROXY", "socks5://127.0.0.1:1080"), ("NO_PROXY", "*")],
    ] {
        stops(&[&settings[..], &[("SEGMENT_ENDPOINT", &plain)]].concat(), "HTTPS_PROXY", &[]).await;
    }
    assert_eq!((proxy.heads(), segment.heads()), (vec![], vec![]));
}

#[tokio::test]
async fn every_request_goes_through_the_proxy_that_was_asked_for() {
    let (proxy, segment) = (Witness::start().await, Witness::start().await);
    let at = proxy.address();
    let port = at.port();
    let right = [
        (format!("http://{at}"), None),
        (format!("HTTP://{at}/"), None),
        (format!("{at}"), None),
        (format!(" http://{at}\r\n"), None),
        (format!("\t{at}\n"), None),
        (format!("http://localhost:{port}/ignored"), None),
        // relay:p@ss:wörd/#
        (format!("http://relay:p%40ss:w%C3%B6rd%2F%23@{at}"), Some("cmVsYXk6cEBzczp3w7ZyZC8j")),
        // Bytes that are no UTF-8 stay as they are: r:, 0xff
        (format!("r:%ff@{at}"), Some("cjr/")),
        // The name alone: relay:
        (format!("http://relay@{at}"), Some("cmVsYXk6")),
        (format!("http://:pw@{at}"), Some("OnB3")),
        (format!("http://r:it's!$&()*+,;=~@{at}"), Some("cjppdCdzISQmKCkqKyw7PX4=")),
    ];
    let plain = format!("http://{}", segment.address());
    for (index, (value, credentials)) in right.iter().enumerate() {
        for (endpoint, start, names) in [
            (plain.clone(), format!("POST {plain}/v1/batch "), ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]),
            (
                plain.replace("http:", "https:"),
                format!("CONNECT {} ", segment.address()),
                ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
            ),
        ] {
            proxy.clear();
            let (code, printed) = run("check", &[("SEGMENT_ENDPOINT", &endpoint), (names[index % 4], value)]).await;
            assert_eq!(code, Some(i32::from(endpoint.starts_with("https"))), "{value:?}: {printed:?}");
            let heads = proxy.heads();
            // A proxy that refuses a tunnel is asked once more, for its status.
            let count = 1 + usize::from(endpoint.starts_with("https"));
            let all_fit = heads.iter().all(|head| head.starts_with(&start));
            assert!(heads.len() == count && all_fit, "{value:?} {printed:?} {heads:?}");
            let expected = credentials.map(|text| format!("proxy-authorization: basic {text}").to_lowercase());
            let sent = heads[0].to_lowercase();
            let sent = sent.lines().find(|line| line.starts_with("proxy-authorization"));
            assert_eq!(sent, expected.as_deref(), "{value:?}");
            let way = printed.iter().any(|line| line.contains("proxy") && line.contains(&format!(":{port}")));
            let told =
                credentials.is_some_and(|text| printed.concat().contains(text)) || printed.concat().contains("pw");
            assert!(way && !told, "{value:?}: {printed:?}");
        }
    }
    assert_eq!(segment.heads(), [""; 0]);
}

#[tokio::test]
async fn a_relay_that_serves_sends_nothing_past_its_proxy() {
    let (proxy, segment) = (Witness::start().await, Witness::start().await);
    let url = format!("http://relay:s3cr3t@{}", proxy.address());
    let endpoint = format!("http://{}", segment.address());
    let relay = Relay::start(&[("http_proxy", &url), ("SEGMENT_ENDPOINT", &endpoint)]).await;
    for _ in 0..5 {
        assert_eq!(relay.post(&ada()).await.status, 200);
    }
    let heads = proxy.heads();
    assert!(
        heads.len() == 5
            && heads
                .iter()
                .all(|head| head.contains("Proxy-Authorization: ") || head.contains("proxy-authorization: ")),
        "{heads:?}"
    );
    assert_eq!(segment.heads(), [""; 0]);
    let log = format!("{:?}", relay.log());
    assert!(log.contains(&proxy.address().to_string()) && !log.contains("s3cr3t"), "{log}");
}

#[tokio::test]
async fn small_letters_win_and_an_empty_variable_is_none() {
    let (proxy, other, segment) = (Witness::start().await, Witness::start().await, Witness::start().await);
    let (good, bad) = (format!("http://{}", proxy.address()), format!("http://{}", other.address()));
    let endpoint = ("SEGMENT_ENDPOINT", &*format!("http://{}", segment.address()));
    for settings in [
        [("http_proxy", &*good), ("HTTP_PROXY", &*bad)],
        [("http_proxy", &good), ("HTTP_PROXY", "socks5://nobody.reads.it")],
        [("http_proxy", ""), ("HTTP_PROXY", &good)],
        [("HTTP_PROXY", &good), ("ALL_PROXY", &bad)],
        [("all_proxy", &good), ("HTTPS_PROXY", &bad)],
        [("all_proxy", &good), ("HTTP_PROXY", "")],
        [("HTTP_PROXY", &good), ("NO_PROXY", "")],
        [("HTTP_PROXY", &good), ("REQUEST_METHOD", "GET")],
    ] {
        proxy.clear();
        assert_eq!(run("check", &[&settings[..], &[endpoint]].concat()).await.0, Some(0), "{settings:?}");
        assert_eq!((proxy.heads().len(), other.heads().len()), (1, 0), "{settings:?}");
    }
    assert_eq!(segment.heads(), [""; 0]);
}

#[tokio::test]
async fn no_proxy_is_read_as_curl_reads_it() {
    let (proxy, segment) = (Witness::start().await, Witness::start().await);
    let url = format!("http://{}", proxy.address());
    let endpoint = format!("http://{}", segment.address());
    let named = format!("http://localhost:{}", segment.address().port());
    for (endpoint, name, list, is_direct) in [
        (&endpoint, "NO_PROXY", "*", true),
        (&endpoint, "no_proxy", "127.0.0.1", true),
        (&endpoint, "NO_PROXY", "example.com, 127.0.0.0/8", true),
        (&endpoint, "NO_PROXY", "10.0.0.1 127.0.0.1\n", true),
        (&named, "NO_PROXY", "LOCALHOST", true),
        (&named, "NO_PROXY", ".localhost", true),
        (&endpoint, "NO_PROXY", "127.0.0.1:80", false),
        (&endpoint, "NO_PROXY", "localhost,*", false),
        (&named, "NO_PROXY", "host,example.com", false),
    ] {
        proxy.clear();
        segment.clear();
        let settings = [("SEGMENT_ENDPOINT", &**endpoint), ("HTTP_PROXY", &url), (name, list)];
        let (code, printed) = run("check", &settings).await;
        assert_eq!(code, Some(0), "{list}: {printed:?}");
        let expected = if is_direct { (0, 1) } else { (1, 0) };
        assert_eq!((proxy.heads().len(), segment.heads().len()), expected, "{list}: {printed:?}");
    }
}
