//! What a server's certificate says of itself: its names and its end (RFC 5280, section 4.1).
//!
//! The TLS library has judged the certificate before. It shows neither, so the two are read here from the bytes (DER).

use std::net::IpAddr;
use std::time::SystemTime;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXTENSIONS: u8 = 0xa3;
const VERSION: u8 = 0xa0;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// 2.5.29.17, the extension that holds the names.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// The names and the end of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Of hosts and addresses.
    pub names: Vec<String>,
    pub valid_until: SystemTime,
}

impl Certificate {
    /// `None` if the bytes are not those of a certificate.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate, _) = element(der)?;
        let (_, signed, _) = element(certificate)?;
        // The serial number, the algorithm, the issuer, the validity, the subject, the key, and extensions at the end.
        let mut fields = elements(signed).filter(|(tag, _)| *tag != VERSION);
        let (_, validity) = fields.nth(3)?;
        let valid_until = elements(validity).nth(1).and_then(|(tag, text)| time(tag, text))?;
        let extensions = fields.find(|(tag, _)| *tag == EXTENSIONS).and_then(|(_, content)| element(content));
        let all = elements(extensions.map_or(&[], |(_, list, _)| list));
        let names = all.filter(|(tag, _)| *tag == SEQUENCE).filter_map(|(_, extension)| names(extension)).next();
        Some(Self { names: names.unwrap_or_default(), valid_until })
    }
}

/// The names of an extension. `None` if it is another one.
fn names(extension: &[u8]) -> Option<Vec<String>> {
    let (tag, id, _) = element(extension)?;
    if (tag, id) != (OBJECT_ID, SUBJECT_ALT_NAME) {
        return None;
    }
    // The last field is a text of bytes that holds the list.
    let (_, octets) = elements(extension).last()?;
    let (_, list, _) = element(octets)?;
    let name = |(tag, content): (u8, &[u8])| match (tag, content.len()) {
        (DNS_NAME, _) => Some(String::from_utf8_lossy(content).into_owned()),
        (IP_ADDRESS, 4) => <[u8; 4]>::try_from(content).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        (IP_ADDRESS, 16) => <[u8; 16]>::try_from(content).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        _ => None,
    };
    Some(elements(list).filter_map(name).collect())
}

fn time(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        GENERALIZED_TIME => text.to_owned(),
        // Years of two digits are of 1950 to 2049.
        UTC_TIME if text.starts_with(['5', '6', '7', '8', '9']) => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some(TimeZone::UTC.to_timestamp(time).ok()?.into())
}

/// The elements that follow each other in these bytes, up to one that is broken: tag and content.
fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, rest) = element(bytes)?;
        bytes = rest;
        Some((tag, content))
    })
}

/// The first element: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // The number of digits of a longer length. No certificate has 4 GiB.
        let digits = usize::from(first & 0x7f);
        let (digits, rest) = rest.split_at_checked(digits).filter(|_| (1..=4).contains(&digits))?;
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use jiff::Timestamp;

    use super::Certificate;

    /// Two certificates for the same names that differ in the form of their end: the second has a year of two digits.
    const UNTIL_2119: &str = "MIIBpTCCAUugAwIBAgIBAjAKBggqhkjOPQQDAjAdMRswGQYDVQQDDBJhdXRob3JpdHkgb2YgdGVzdHMwIBcNMjAwMTAxMDAwMDAwWhgPMjExOT\
        EyMzEwMDAwMDBaMBsxGTAXBgNVBAMMEHNlZ21lbnQgb2YgdGVzdHMwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATeaXGiFiyLoqPfX4ff3HlN\
        dtQADANzzU8yejKF36kVBUU5cRihnhdoBJGytMWNY/Jyrr8HbfHlDqaNYyzpHunwo3wwejAtBgNVHREEJjAkgglsb2NhbGhvc3SCESouc2VnbW\
        VudC5pbnZhbGlkhwR/AAABMAkGA1UdEwQCMAAwHQYDVR0OBBYEFPxtTbG+FmrPwMjYx9/ejFwzxNhZMB8GA1UdIwQYMBaAFILHZujR8Gw6QNNQ\
        2Bw1OCsE7xLnMAoGCCqGSM49BAMCA0gAMEUCICV7SnnkvMMMjafZ89cxqHG1Re2fg7ElL7WHdydcc8ctAiEAmNc3JtWdGhaSfWW7V8hDDqjH73\
        GxVSBC+fsaYYT6+WU=";
    const UNTIL_2021: &str = "MIIBozCCAUmgAwIBAgIBAzAKBggqhkjOPQQDAjAdMRswGQYDVQQDDBJhdXRob3JpdHkgb2YgdGVzdHMwHhcNMjAwMTAxMDAwMDAwWhcNMjEwMT\
        AxMDAwMDAwWjAbMRkwFwYDVQQDDBBzZWdtZW50IG9mIHRlc3RzMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE3mlxohYsi6Kj31+H39x5TXbU\
        AAwDc81PMnoyhd+pFQVFOXEYoZ4XaASRsrTFjWPycq6/B23x5Q6mjWMs6R7p8KN8MHowLQYDVR0RBCYwJIIJbG9jYWxob3N0ghEqLnNlZ21lbn\
        QuaW52YWxpZIcEfwAAATAJBgNVHRMEAjAAMB0GA1UdDgQWBBT8bU2xvhZqz8DI2Mff3oxcM8TYWTAfBgNVHSMEGDAWgBSCx2bo0fBsOkDTUNgc\
        NTgrBO8S5zAKBggqhkjOPQQDAgNIADBFAiEA8uklNbwo8QsqBMSnKluPQqoYaYu4CVvvzx5OvUl+A7sCIFyT0AxEv0eOpFeQWn60R8Y+CAGus8\
        69Z/f4qzWCjUEW";

    #[test]
    fn the_names_and_the_end_are_read_and_broken_bytes_are_none() {
        for (text, end) in [(UNTIL_2119, "2119-12-31T00:00:00Z"), (UNTIL_2021, "2021-01-01T00:00:00Z")] {
            let der = BASE64.decode(text.as_bytes()).unwrap();
            let read = Certificate::read(&der).unwrap();
            assert_eq!(read.names, ["localhost", "*.segment.invalid", "127.0.0.1"]);
            assert_eq!(Timestamp::try_from(read.valid_until).unwrap(), end.parse().unwrap());
            for length in 0..der.len() {
                assert_eq!(Certificate::read(&der[..length]), None);
                let mut broken = der.clone();
                broken[length] ^= 0x81;
                // It need not be noticed, and must not panic.
                let _ = Certificate::read(&broken);
            }
        }
    }
}
