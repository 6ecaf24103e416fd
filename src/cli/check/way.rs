//! The rows of the way to Segment: name, connection, proxy, encryption, answer and clock.

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};

use super::row::Row;
use crate::config::{Problems, SegmentSettings, WEBHOOK_TOLERANCE};
use crate::publisher::{self, Answer, Certificate, NoAnswer, Stage};
use crate::segment::FailureReason;

const DNS: &str = "dns";
const TCP: &str = "tcp";
const PROXY: &str = "proxy";
const TLS: &str = "tls";
const CERTIFICATE: &str = "certificate";
const HTTP: &str = "http";
const CLOCK: &str = "clock";
const ALL: [&str; 7] = [DNS, TCP, PROXY, TLS, CERTIFICATE, HTTP, CLOCK];

/// The settings of every way out. While one is wrong, nothing is asked: it might go past a proxy.
pub(super) const SETTINGS_OF_WAYS: [&str; 9] = [
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "https_proxy",
    "http_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT",
];

/// A certificate that ends sooner is warned about: certificates that are renewed by machines are renewed earlier.
const SHORT_VALIDITY: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// A difference of clocks that is not warned about.
const SMALL_SKEW: Duration = Duration::from_secs(5);

pub(super) async fn rows(settings: &SegmentSettings, problems: &Problems) -> Vec<Row> {
    if problems.name_any(&SETTINGS_OF_WAYS) || problems.name_any(&["SEGMENT_ENDPOINT"]) {
        let why = "a setting of the way is wrong";
        return ALL.map(|name| Row::skipped(name, why)).into();
    }
    let begun = Instant::now();
    let (host, found) = publisher::lookup(settings).await;
    let dns = match found {
        Ok(addresses) if !addresses.is_empty() => Row::ok(DNS, resolved(&host, &addresses, begun.elapsed())),
        other => {
            let error = other.err().map_or("it has no address".to_owned(), |error| error.to_string());
            let failed = Row::failed(DNS, format!("{host}: {error}"))
                .advise("Is the name right, and does this machine (or container) reach its name servers?");
            let rest = ALL[1..].iter().map(|name| Row::skipped(name, "dns failed"));
            return [failed].into_iter().chain(rest).collect();
        }
    };
    let mut rows = vec![dns];
    let has_key = !problems.name_any(&["SEGMENT_WRITE_KEY"]);
    match publisher::ask(settings, has_key).await {
        Ok(Ok(answer)) => rows.extend(answered(settings, &host, &answer)),
        Ok(Err(failure)) => rows.extend(failed(settings, &host, &failure)),
        Err(error) => rows.extend(ALL[1..].iter().map(|name| match *name {
            TLS => Row::failed(TLS, format!("{error:#}")).advise("Install ca-certificates, or set SSL_CERT_FILE."),
            name => Row::skipped(name, "tls failed"),
        })),
    }
    rows
}

fn resolved(host: &str, addresses: &[SocketAddr], took: Duration) -> String {
    if host.parse::<SocketAddr>().is_ok() {
        return format!("{host} is an address");
    }
    let mut shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    shown.dedup();
    format!("{host} is {} ({} ms)", shown.join(", "), took.as_millis())
}

/// The rows behind `dns`.
fn answered(settings: &SegmentSettings, host: &str, answer: &Answer) -> Vec<Row> {
    let (tls, certificate) = match &answer.tls {
        Some(tls) => (Row::ok(TLS, tls.version), certificate_row(tls.certificate.as_ref())),
        None if settings.endpoint.scheme() == "http" => {
            (passed(TLS, settings, host), Row::skipped(CERTIFICATE, "there is none without TLS"))
        }
        // The client does not tell it of a tunnel.
        None => (passed(TLS, settings, host), Row::skipped(CERTIFICATE, "it is not shown through a proxy")),
    };
    let (endpoint, status) = (&settings.endpoint, answer.status);
    let http = match &answer.meaning {
        None => Row::skipped(HTTP, "SEGMENT_WRITE_KEY is wrong, so nothing was posted"),
        Some(Ok(())) if status == 429 => Row::warning(HTTP, format!("{endpoint} answered 429: it asks for a pause"))
            .advise("Others may use the workspace's share, too: lower SEGMENT_MAX_REQUESTS_PER_SECOND."),
        Some(Ok(())) => Row::ok(
            HTTP,
            format!(
                "{endpoint} answered {status} in {} ms. This does not prove the write key: Segment's debugger shows whether \
                 calls arrive",
                answer.took.as_millis()
            ),
        ),
        Some(Err(error)) => {
            let advice = match status {
                401 | 403 => "Segment, or a proxy on the way, refuses the credentials: look at SEGMENT_WRITE_KEY.",
                407 => "The proxy wants a user and a password, in the URL of HTTPS_PROXY or HTTP_PROXY.",
                500 | 502..=504 | 506.. => "Try again later: Segment, or a gateway before it, is in trouble.",
                _ => {
                    "Is SEGMENT_ENDPOINT Segment's? https://api.segment.io, or https://events.eu1.segmentapis.com for the EU."
                }
            };
            Row::failed(HTTP, format!("{error} at {endpoint}")).advise(advice)
        }
    };
    let tcp = match answer.peer {
        Some(peer) => Row::ok(TCP, format!("connected to {peer}")),
        None => passed(TCP, settings, host),
    };
    vec![tcp, passed(PROXY, settings, host), tls, certificate, http, clock(answer)]
}

/// The rows behind `dns` of a request that failed at a step.
fn failed(settings: &SegmentSettings, host: &str, failure: &NoAnswer) -> Vec<Row> {
    let steps = [(TCP, Stage::Tcp), (PROXY, Stage::Proxy), (TLS, Stage::Tls), (HTTP, Stage::Http)];
    let failed_step = steps.iter().find(|(_, stage)| *stage == failure.stage).map_or(HTTP, |(name, _)| name);
    let why = format!("{failed_step} failed");
    let is_used = |stage| match stage {
        Stage::Proxy => settings.proxy.is_some(),
        Stage::Tls => settings.endpoint.scheme() == "https",
        Stage::Tcp | Stage::Http => true,
    };
    let row = |name, stage| match failure.stage.cmp(&stage) {
        Ordering::Equal => failed_row(name, settings, host, failure),
        Ordering::Less if is_used(stage) => Row::skipped(name, &*why),
        _ => passed(name, settings, host),
    };
    let mut rows: Vec<Row> = steps.into_iter().map(|(name, stage)| row(name, stage)).collect();
    // Only an answer shows the certificate.
    rows.insert(3, Row::skipped(CERTIFICATE, &*why));
    rows.push(Row::skipped(CLOCK, why));
    rows
}

/// A step that is behind the request.
fn passed(name: &'static str, settings: &SegmentSettings, host: &str) -> Row {
    match (name, &settings.proxy) {
        (PROXY, None) => Row::skipped(PROXY, "none is set for this endpoint: the way is direct"),
        (PROXY, Some(proxy)) if settings.endpoint.scheme() == "https" => {
            Row::ok(PROXY, format!("through the proxy {proxy}, which made a tunnel"))
        }
        (PROXY, Some(proxy)) => Row::ok(PROXY, format!("through the proxy {proxy}, which passes requests on")),
        (TLS, _) if settings.endpoint.scheme() == "http" => {
            Row::skipped(TLS, "SEGMENT_ENDPOINT is http://: nothing is encrypted")
        }
        (TLS, _) => Row::ok(TLS, "the connection is encrypted"),
        _ => Row::ok(name, format!("connected to {host}")),
    }
}

fn failed_row(name: &'static str, settings: &SegmentSettings, host: &str, failure: &NoAnswer) -> Row {
    let NoAnswer { stage, reason, detail } = failure;
    let what = match (stage, &settings.proxy) {
        (Stage::Proxy, Some(proxy)) => proxy.to_string(),
        (Stage::Tls | Stage::Http, _) => settings.endpoint.to_string(),
        _ => host.to_owned(),
    };
    let status = match reason {
        FailureReason::Proxy(Some(status)) => format!("it answered {status}"),
        reason => reason.sentence().to_owned(),
    };
    // Without a status the words of the library say more.
    let found = match reason.status() {
        None if !detail.is_empty() && *detail != status => format!("{what}: {status} ({detail})"),
        _ => format!("{what}: {status}"),
    };
    Row::failed(name, found).advise(advice(*stage, *reason))
}

fn advice(stage: Stage, reason: FailureReason) -> &'static str {
    match (stage, reason) {
        (_, FailureReason::Proxy(Some(407))) => {
            "Put the proxy's user and password into its URL: http://user:password@host:port."
        }
        (_, FailureReason::Proxy(Some(401 | 403))) => {
            "The proxy does not allow this: ask who runs it to let Segment's host and port through."
        }
        (Stage::Proxy, FailureReason::Certificate) => {
            "Put the authority of the proxy's certificate into SSL_CERT_FILE."
        }
        (Stage::Proxy, _) => "Is this the proxy's address, and does it reach Segment? Its own log says why.",
        (_, FailureReason::Certificate) => {
            "Is the clock right, and the endpoint's name? A proxy that reads along has an authority of its own: put it into SSL_CERT_FILE."
        }
        (Stage::Tls, FailureReason::Timeout) => "Something on the way swallows TLS: look at firewalls and proxies.",
        (Stage::Tls, _) => "Does https answer at this port? Something on the way may not let TLS through.",
        (Stage::Tcp, FailureReason::ConnectionRefused) => "Nothing listens there. Is the port right?",
        (Stage::Tcp, _) => {
            "Look at firewalls, security groups and network policies: this machine must reach that host and port."
        }
        (Stage::Http, FailureReason::Timeout) => {
            "Something answers too slowly. SEGMENT_TIMEOUT is the limit of one attempt."
        }
        (Stage::Http, _) => "What answers there is not Segment's API. Is SEGMENT_ENDPOINT right?",
    }
}

fn certificate_row(certificate: Option<&Certificate>) -> Row {
    let Some(Certificate { names, valid_until }) = certificate else {
        return Row::skipped(CERTIFICATE, "it cannot be read");
    };
    let left = valid_until.duration_since(SystemTime::now()).unwrap_or_default();
    let end = Timestamp::try_from(*valid_until).map_or_else(|_| "?".to_owned(), |end| end.strftime("%F").to_string());
    let found = format!("for {}, valid until {end} ({} days)", names.join(", "), left.as_secs() / (24 * 60 * 60));
    if left < SHORT_VALIDITY {
        Row::warning(CERTIFICATE, found).advise("Tell who runs the endpoint: calls fail when it has ended.")
    } else {
        Row::ok(CERTIFICATE, found)
    }
}

fn clock(answer: &Answer) -> Row {
    let Some(date) = answer.date else {
        return Row::skipped(CLOCK, "the answer has no Date");
    };
    let skew = skew(date, answer.asked_at, answer.took);
    let (size, tolerance) = (skew.unsigned_abs(), WEBHOOK_TOLERANCE.as_secs());
    let seconds = size.as_secs();
    let side = if skew.is_negative() { "behind" } else { "ahead of" };
    let limit = format!("signatures with a time are refused from {tolerance} s");
    let advice = "Set the clock of this machine, and keep it right with NTP (chrony, systemd-timesyncd).";
    let found = format!("this clock is {seconds} s {side} the answer's Date; {limit}");
    if size < SMALL_SKEW {
        Row::ok(CLOCK, format!("it agrees with the answer's Date to {} s; {limit}", seconds + 1))
    } else if size > WEBHOOK_TOLERANCE {
        Row::failed(CLOCK, found).advise(advice)
    } else {
        Row::warning(CLOCK, found).advise(advice)
    }
}

/// How far our clock is ahead, at least: the answer was made at any moment while we waited, and its Date has whole seconds.
fn skew(date: SystemTime, asked_at: SystemTime, took: Duration) -> SignedDuration {
    let zero = SignedDuration::ZERO;
    let ahead = |ours, theirs| SignedDuration::system_until(theirs, ours).unwrap_or(zero);
    let least = ahead(asked_at, date + Duration::from_secs(1));
    let most = ahead(asked_at + took, date);
    if least > zero { least } else { most.min(zero) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use jiff::SignedDuration;

    use super::{SHORT_VALIDITY, certificate_row, skew};
    use crate::cli::check::row::Verdict;
    use crate::publisher::Certificate;

    #[test]
    fn a_certificate_that_ends_within_14_days_is_a_warning() {
        let hour = Duration::from_secs(3600);
        for (left, verdict, days) in [
            (SHORT_VALIDITY + hour, Verdict::Ok, "(14 days)"),
            (SHORT_VALIDITY - hour, Verdict::Warning, "(13 days)"),
            (Duration::ZERO, Verdict::Warning, "(0 days)"),
        ] {
            let names = vec!["segment.example".to_owned(), "*.segment.example".to_owned()];
            let row = certificate_row(Some(&Certificate { names, valid_until: SystemTime::now() + left }));
            assert_eq!(row.verdict(), verdict);
            let found = row.found();
            assert!(found.starts_with("for segment.example, *.segment.example, valid until ") && found.ends_with(days));
        }
    }

    #[test]
    fn the_round_trip_and_the_whole_second_of_a_date_are_no_difference_of_clocks() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let ahead = |asked_at, took, date| skew(at(date), at(asked_at), Duration::from_millis(took)).as_millis();
        assert_eq!(ahead(10_700, 20, 10_000), 0);
        assert_eq!(ahead(10_700, 3_000, 13_000), 0, "the answer was made late");
        assert_eq!(ahead(10_990, 20, 11_000), 0);
        assert_eq!(ahead(17_000, 20, 10_000), 6_000);
        assert_eq!(ahead(10_000, 500, 17_000), -6_500);
        let far = skew(at(0), SystemTime::UNIX_EPOCH - Duration::from_secs(1), Duration::ZERO);
        assert_eq!(far, SignedDuration::from_secs(-1));
    }
}
