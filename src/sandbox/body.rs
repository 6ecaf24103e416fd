//! Reads a request's body within Segment's limit, gunzipping it if needed.
//!
//! Never holds more than the limit, before or after gunzipping. What exceeds it is read to its end and thrown away, so
//! that the sender hears the refusal instead of a broken pipe; one who goes on for ever is cut off.

use std::io::Read;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::Body as _;

/// Segment says "500 KB" a batch of uncompressed JSON. Its "32 KB" a message is 32 x 1,024 bytes in its own SDKs, so the
/// same kilobyte is taken here.
pub const MAX_BODY_BYTES: usize = 512_000;

/// How much of an oversized body is thrown away before the sender is cut off: ten times the largest batch that an
/// official SDK was seen to send by mistake (1.5 MB).
const MAX_DISCARDED_BYTES: usize = 16 << 20;

/// Why there is no body to look at. Where a length is given it is in bytes, and what was counted before giving up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Over [`MAX_BODY_BYTES`], as sent or gunzipped.
    TooLarge { bytes: usize },
    /// Still coming after 16 MiB.
    Endless { bytes: usize },
    /// The peer stopped in the middle.
    CutShort,
    /// Said to be gzip, and is not.
    NotGzip,
    /// A `Content-Encoding` that Segment's SDKs do not use.
    UnknownEncoding,
}

/// Reads all of `body`, as `headers` say it is encoded.
pub async fn read(headers: &HeaderMap, mut body: Body) -> Result<Vec<u8>, Unreadable> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(MAX_BODY_BYTES);
    let mut text = Vec::with_capacity(expected.min(MAX_BODY_BYTES));
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Unreadable::CutShort)?;
        let Some(part) = frame.data_ref() else { continue };
        bytes += part.len();
        if bytes <= MAX_BODY_BYTES {
            text.extend_from_slice(part);
        } else if bytes > MAX_DISCARDED_BYTES {
            return Err(Unreadable::Endless { bytes });
        }
    }
    if bytes > MAX_BODY_BYTES {
        return Err(Unreadable::TooLarge { bytes });
    }
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None => Ok(text),
        Some(name) if name.eq_ignore_ascii_case(b"identity") => Ok(text),
        Some(name) if name.eq_ignore_ascii_case(b"gzip") => gunzip(&text),
        Some(_) => Err(Unreadable::UnknownEncoding),
    }
}

fn gunzip(compressed: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut text = Vec::new();
    // One byte more than allowed tells "just fits" from "too large".
    MultiGzDecoder::new(compressed)
        .take(MAX_BODY_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|_| Unreadable::NotGzip)?;
    if text.len() > MAX_BODY_BYTES {
        return Err(Unreadable::TooLarge { bytes: text.len() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::body::Body;
    use axum::http::{HeaderMap, HeaderValue, header};
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::{MAX_BODY_BYTES, MAX_DISCARDED_BYTES, Unreadable, read};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn encoded(name: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(name))])
    }

    #[tokio::test]
    async fn a_body_of_just_the_limit_is_read_and_one_byte_more_is_not() {
        let fits = read(&HeaderMap::new(), Body::from(vec![b' '; MAX_BODY_BYTES])).await;
        assert_eq!(fits.map(|text| text.len()), Ok(MAX_BODY_BYTES));
        let bytes = MAX_BODY_BYTES + 1;
        let over = read(&HeaderMap::new(), Body::from(vec![b' '; bytes])).await;
        assert_eq!(over, Err(Unreadable::TooLarge { bytes }));
    }

    #[tokio::test]
    async fn the_limit_holds_after_gunzipping() {
        let fits = read(&encoded("gzip"), Body::from(gzip(&vec![b' '; MAX_BODY_BYTES]))).await;
        assert_eq!(fits.map(|text| text.len()), Ok(MAX_BODY_BYTES));
        let bomb = read(&encoded("GZIP"), Body::from(gzip(&vec![b' '; 50 * MAX_BODY_BYTES]))).await;
        assert_eq!(bomb, Err(Unreadable::TooLarge { bytes: MAX_BODY_BYTES + 1 }));
    }

    #[tokio::test]
    async fn what_is_not_gzip_or_not_known_is_named() {
        assert_eq!(read(&encoded("gzip"), Body::from("{}")).await, Err(Unreadable::NotGzip));
        let half = gzip(b"{}").into_iter().take(12).collect::<Vec<_>>();
        assert_eq!(read(&encoded("gzip"), Body::from(half)).await, Err(Unreadable::NotGzip));
        assert_eq!(read(&encoded("br"), Body::from("{}")).await, Err(Unreadable::UnknownEncoding));
    }

    #[tokio::test]
    async fn who_goes_on_for_ever_is_not_read_to_the_end() {
        let bytes = MAX_DISCARDED_BYTES + 1;
        let read = read(&HeaderMap::new(), Body::from(vec![b' '; bytes])).await;
        assert_eq!(read, Err(Unreadable::Endless { bytes }));
    }
}
