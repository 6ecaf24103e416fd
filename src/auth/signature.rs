//! A scheme whose sender signs the body: compiled from its values, so that a request is only compared.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use data_encoding::{BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use hmac::digest::Update;
use subtle::Choice;

use super::clock::Clock;
use super::digest::{Keys, MAX_BYTES};
use super::format::{Format, Found};
use super::headers::{missing, required};
use super::scheme::{Algorithm, Encoding, SignatureScheme, TimeUnit};
use super::template::{Part, parse};
use super::unauthorized::Unauthorized;
use crate::config::{WEBHOOK_TOLERANCE, unpadded};

/// More signatures than any sender's rotation of secrets needs. Each is compared under each secret.
const MAX_SIGNATURES: usize = 16;

/// A scheme with its secrets.
pub(super) struct Signature {
    /// Usually one set of names. Of several the one counts of which a request has more headers, the first of equal ones.
    names: Vec<Names>,
    /// Of `RELAY_AUTH`: the signature's header must be there once, and not on several lines, and all its signatures count.
    is_once: bool,
    format: Format,
    encoding: Encoding,
    signed: Vec<Piece>,
    /// `None`: the time is not checked.
    clock: Option<Clock>,
    keys: Keys,
}

/// The headers of a request that count.
struct Names {
    signature: HeaderName,
    timestamp: Option<HeaderName>,
    id: Option<HeaderName>,
}

/// A part of the signed text.
enum Piece {
    /// Also the URL, which is a setting.
    Literal(Vec<u8>),
    Body,
    Timestamp,
    Id,
    Method,
    Secret,
}

/// What a request says besides its signatures.
struct Claims<'h> {
    id: Option<&'h HeaderValue>,
    time: Option<&'h [u8]>,
}

impl Signature {
    /// Compiles a scheme. `url` is the public address under which its sender calls.
    ///
    /// # Errors
    /// All problems. Each begins with the key of the value that is wrong.
    pub(super) fn compile(
        scheme: &SignatureScheme,
        url: Option<&str>,
        secrets: &[Vec<u8>],
    ) -> Result<Self, Vec<String>> {
        let format = Format::compile(&scheme.format);
        let signed = pieces(scheme, url);
        let mut problems: Vec<String> = Vec::new();
        problems.extend(format.as_ref().err().into_iter().flatten().map(|problem| format!("format: {problem}")));
        problems.extend(signed.as_ref().err().into_iter().flatten().map(|problem| format!("signed: {problem}")));
        let uses = |name: &str| scheme.signed.contains(&format!("{{{name}}}"));
        let time_is_in_format = scheme.format.contains("{timestamp}");
        if let Some(timestamp) = &scheme.timestamp {
            let has_header = timestamp.header.is_some();
            if has_header == time_is_in_format {
                let where_else = if has_header { "only one of its header and" } else { "its header, or" };
                problems.push(format!("timestamp: needs {where_else} {{timestamp}} in format"));
            }
            if !uses("timestamp") {
                problems.push("timestamp: is checked, so {timestamp} must be in signed".to_owned());
            }
            if timestamp.tolerance < Duration::from_secs(1) {
                problems.push("timestamp: the tolerance must be at least 1s".to_owned());
            }
        }
        if scheme.id_header.is_some() && !uses("id") {
            problems.push("id_header: has no effect without {id} in signed".to_owned());
        }
        match (format, signed) {
            (Ok(format), Ok(signed)) if problems.is_empty() => Ok(Self {
                names: vec![Names {
                    signature: scheme.header.clone(),
                    timestamp: scheme.timestamp.as_ref().and_then(|timestamp| timestamp.header.clone()),
                    id: scheme.id_header.clone(),
                }],
                is_once: false,
                format,
                encoding: scheme.encoding,
                signed,
                clock: scheme.timestamp.as_ref().map(|it| Clock { unit: it.unit, tolerance: it.tolerance }),
                keys: Keys::new(scheme.algorithm, secrets),
            }),
            _ => Err(problems),
        }
    }

    /// Of `RELAY_AUTH`: [Standard Webhooks](https://www.standardwebhooks.com), also under the older names of Svix.
    pub(super) fn of_standard_webhooks(secrets: &[Vec<u8>]) -> Self {
        let names = |[id, timestamp, signature]: [&'static str; 3]| Names {
            signature: HeaderName::from_static(signature),
            timestamp: Some(HeaderName::from_static(timestamp)),
            id: Some(HeaderName::from_static(id)),
        };
        let dot = || Piece::Literal(b".".to_vec());
        Self {
            names: vec![
                names(["webhook-id", "webhook-timestamp", "webhook-signature"]),
                names(["svix-id", "svix-timestamp", "svix-signature"]),
            ],
            is_once: true,
            format: Format::list("v1,"),
            encoding: Encoding::Base64,
            signed: vec![Piece::Id, dot(), Piece::Timestamp, dot(), Piece::Body],
            clock: Some(Clock { unit: TimeUnit::Seconds, tolerance: WEBHOOK_TOLERANCE }),
            keys: Keys::new(Algorithm::HmacSha256, secrets),
        }
    }

    /// Of `RELAY_AUTH`: the HMAC-SHA256 of the body. GitHub sends it in hex after `sha256=`, Shopify in base64.
    pub(super) fn of_hmac(header: &HeaderName, encoding: Encoding, secrets: &[Vec<u8>]) -> Self {
        Self {
            names: vec![Names { signature: header.clone(), timestamp: None, id: None }],
            is_once: true,
            format: Format::whole("sha256="),
            encoding,
            signed: vec![Piece::Body],
            clock: None,
            keys: Keys::new(Algorithm::HmacSha256, secrets),
        }
    }

    /// Whether a signature is in this header.
    pub(super) fn reads(&self, name: &HeaderName) -> bool {
        self.names.iter().any(|names| names.signature == name)
    }

    /// Checks that every header is there, that the time is near, and that a signature can be read. Says which names count.
    pub(super) fn verify_head(&self, headers: &HeaderMap, now: Duration) -> Result<usize, Unauthorized> {
        let index = self.names_of(headers);
        let names = &self.names[index];
        let time = self.claims(names, headers)?.time;
        if let (Some(clock), Some(time)) = (&self.clock, time) {
            clock.check(time, now).map_err(|fault| match &names.timestamp {
                Some(header) => Unauthorized::new(format!("the header {header} {fault}")),
                None => Unauthorized::new(format!("the time in the header {} {fault}", names.signature)),
            })?;
        }
        let mut signatures = self.signatures(names, headers);
        let is_readable = signatures.any(|text| self.decode(self.encoding, text).is_some());
        if is_readable { Ok(index) } else { Err(self.unreadable(names, headers)) }
    }

    /// Checks the signatures against the body, under the names of [`verify_head`](Self::verify_head). Returns the id that is
    /// part of the signed text.
    pub(super) fn verify_body(
        &self,
        names: usize,
        method: &Method,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Option<HeaderValue>, Unauthorized> {
        let names = self.names.get(names).unwrap_or(&self.names[0]);
        let claims = self.claims(names, headers)?;
        let write = |digest: &mut dyn Update, secret: &[u8]| {
            for piece in &self.signed {
                digest.update(match piece {
                    Piece::Literal(text) => text,
                    Piece::Body => body,
                    Piece::Timestamp => claims.time.unwrap_or_default(),
                    Piece::Id => claims.id.map_or(&[], HeaderValue::as_bytes),
                    Piece::Method => method.as_str().as_bytes(),
                    Piece::Secret => secret,
                });
            }
        };
        let digests = self.keys.digests(write);
        let shown = self.signatures(names, headers).filter_map(|text| self.decode(self.encoding, text));
        let limit = if self.is_once { usize::MAX } else { MAX_SIGNATURES };
        let is_valid = shown.take(limit).fold(Choice::from(0), |is_valid, shown| is_valid | digests.have(&shown));
        if is_valid.into() { Ok(claims.id.cloned()) } else { Err(self.unfit(names)) }
    }

    fn names_of(&self, headers: &HeaderMap) -> usize {
        let count = |names: &Names| {
            let others = [&names.timestamp, &names.id].into_iter().flatten();
            others.chain([&names.signature]).filter(|name| headers.contains_key(*name)).count()
        };
        let best = |best, index| if count(&self.names[index]) > count(&self.names[best]) { index } else { best };
        (1..self.names.len()).fold(0, best)
    }

    /// Every header must be there. What is signed may be there once alone.
    fn claims<'h>(&'h self, names: &Names, headers: &'h HeaderMap) -> Result<Claims<'h>, Unauthorized> {
        let once = |name: &Option<HeaderName>| name.as_ref().map(|name| required(headers, name)).transpose();
        let [id, time] = [once(&names.id)?, once(&names.timestamp)?];
        if self.is_once {
            required(headers, &names.signature)?;
        } else if headers.get_all(&names.signature).iter().all(HeaderValue::is_empty) {
            return Err(missing(&names.signature));
        }
        let time = match time {
            None if self.format.has_time() => Some(self.only_time(names, headers)?),
            time => time.map(HeaderValue::as_bytes),
        };
        Ok(Claims { id, time })
    }

    /// The time that is in the header of the signature.
    fn only_time<'h>(&'h self, names: &Names, headers: &'h HeaderMap) -> Result<&'h [u8], Unauthorized> {
        let mut times = self.found(names, headers).filter_map(|found| match found {
            Found::Time(time) => Some(time),
            Found::Signature(_) => None,
        });
        let how_many = match (times.next(), times.next()) {
            (Some(time), None) => return Ok(time),
            (None, _) => "no time",
            _ => "more than one time",
        };
        Err(Unauthorized::new(format!("the header {} holds {how_many}", names.signature)))
    }

    fn found<'h>(&'h self, names: &Names, headers: &'h HeaderMap) -> impl Iterator<Item = Found<'h>> {
        headers.get_all(&names.signature).into_iter().flat_map(|value| self.format.read(value.as_bytes()))
    }

    fn signatures<'h>(&'h self, names: &Names, headers: &'h HeaderMap) -> impl Iterator<Item = &'h [u8]> {
        self.found(names, headers).filter_map(|found| match found {
            Found::Signature(text) => Some(text),
            Found::Time(_) => None,
        })
    }

    /// The digest that a text stands for, and zeros behind it.
    fn decode(&self, encoding: Encoding, text: &[u8]) -> Option<[u8; MAX_BYTES]> {
        let (encoding, text) = match encoding {
            Encoding::Hex => (&HEXLOWER_PERMISSIVE, text),
            Encoding::Base64 => (&BASE64_NOPAD, unpadded(text)),
        };
        let (_, length) = self.keys.digest();
        let mut digest = [0; MAX_BYTES];
        let place = digest.get_mut(..length).filter(|_| encoding.decode_len(text.len()) == Ok(length))?;
        encoding.decode_mut(text, place).ok().map(|_| digest)
    }

    fn unfit(&self, names: &Names) -> Unauthorized {
        let header = &names.signature;
        Unauthorized::new(if self.format.is_list() {
            format!("no signature in the header {header} fits")
        } else {
            format!("the signature in {header} does not fit")
        })
    }

    /// Why no signature can be read. An operator who set the wrong encoding may read it, too.
    fn unreadable(&self, names: &Names, headers: &HeaderMap) -> Unauthorized {
        // Senders of Standard Webhooks may show signatures of other versions alone.
        if self.is_once && self.format.is_list() {
            return self.unfit(names);
        }
        let (digest, _) = self.keys.digest();
        let other = if self.encoding == Encoding::Hex { Encoding::Base64 } else { Encoding::Hex };
        let of_other = self.signatures(names, headers).find(|text| self.decode(other, text).is_some());
        let hint = of_other.map(|text| {
            let (length, other) = (text.len(), other.name());
            format!(" but {length} characters of {other}: set the encoding to {other}")
        });
        let (header, encoding, hint) = (&names.signature, self.encoding.name(), hint.unwrap_or_default());
        Unauthorized::new(format!("the header {header} does not hold {digest} in {encoding}{hint}"))
    }
}

/// The parts of the signed text.
fn pieces(scheme: &SignatureScheme, url: Option<&str>) -> Result<Vec<Piece>, Vec<String>> {
    let parts = parse(&scheme.signed).map_err(|problem| vec![problem.to_owned()])?;
    let mut problems = Vec::new();
    let mut expect = |is_met: bool, problem: &str| {
        if !is_met {
            problems.push(problem.to_owned());
        }
    };
    let count = |name| parts.iter().filter(|part| **part == Part::Placeholder(name)).count();
    expect(count("body") == 1, "{body} must be there once");
    let has_time =
        scheme.format.contains("{timestamp}") || scheme.timestamp.as_ref().is_some_and(|it| it.header.is_some());
    expect(has_time || count("timestamp") == 0, "{timestamp} needs {timestamp} in format, or the header of timestamp");
    expect(scheme.id_header.is_some() || count("id") == 0, "{id} needs id_header");
    expect(url.is_some() || count("url") == 0, "{url} needs url, the public address of this source");
    let is_plain = scheme.algorithm == Algorithm::Sha256;
    expect(!is_plain || count("secret") > 0, "{secret} must be there, because the algorithm sha256 has no key");
    expect(is_plain || count("secret") == 0, "{secret} is for the algorithm sha256 alone");
    let pieces = parts.iter().map(|part| match part {
        Part::Literal(text) => Piece::Literal(text.as_bytes().to_vec()),
        Part::Placeholder("body") => Piece::Body,
        Part::Placeholder("timestamp") => Piece::Timestamp,
        Part::Placeholder("id") => Piece::Id,
        Part::Placeholder("method") => Piece::Method,
        Part::Placeholder("secret") => Piece::Secret,
        Part::Placeholder("url") => Piece::Literal(url.unwrap_or_default().as_bytes().to_vec()),
        Part::Placeholder(name) => {
            let known = "{body}, {timestamp}, {id}, {method}, {url} and {secret}";
            expect(false, &format!("{{{name}}} is unknown; there are {known}"));
            Piece::Literal(Vec::new())
        }
    });
    let pieces = pieces.collect();
    if problems.is_empty() { Ok(pieces) } else { Err(problems) }
}
