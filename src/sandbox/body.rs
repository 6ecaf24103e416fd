//! Reads a request's body within Segment's limit and decompresses gzip.
//!
//! It never holds more than the limit, before or after decompression. The rest of a larger body is read and discarded, so
//! that the sender gets the refusal instead of a broken pipe. The connection is reset after 16 MiB.

use std::io::Read;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::Body as _;

/// Segment documents "500 KB" of uncompressed JSON for a batch. A kilobyte is 1,024 bytes here, because "32 KB" for a message
/// is 32 x 1,024 bytes in Segment's SDKs.
pub(super) const MAX_BODY_BYTES: usize = 512_000;

/// Bytes of an oversized body that are read before the connection is reset: ten times the largest batch that an official
/// SDK was seen to send by mistake (1.5 MB).
const MAX_DISCARDED_BYTES: usize = 16 << 20;

/// Why a body cannot be read. `bytes` is the number of bytes counted until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadBodyError {
    /// Over [`MAX_BODY_BYTES`], as sent or decompressed.
    TooLarge { bytes: usize },
    /// Not at its end after 16 MiB.
    Endless { bytes: usize },
    /// Ended early, not gzip, or in an encoding that Segment's SDKs do not use. This is the message of the refusal.
    Unreadable(&'static str),
}

const NOT_GZIP: ReadBodyError = ReadBodyError::Unreadable("the body is not gzip");

/// Reads all of `body`, with the encoding that `headers` give.
pub(super) async fn read(headers: &HeaderMap, mut body: Body) -> Result<Vec<u8>, ReadBodyError> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(MAX_BODY_BYTES);
    let mut text = Vec::with_capacity(expected.min(MAX_BODY_BYTES));
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ReadBodyError::Unreadable("the body ended early"))?;
        let Some(part) = frame.data_ref() else { continue };
        bytes += part.len();
        if bytes <= MAX_BODY_BYTES {
            text.extend_from_slice(part);
        } else if bytes > MAX_DISCARDED_BYTES {
            return Err(ReadBodyError::Endless { bytes });
        }
    }
    if bytes > MAX_BODY_BYTES {
        return Err(ReadBodyError::TooLarge { bytes });
    }
    let encoding = headers.get(header::CONTENT_ENCODING).map_or(&b"identity"[..], |value| value.as_bytes());
    match encoding.to_ascii_lowercase().as_slice() {
        b"identity" => Ok(text),
        b"gzip" => gunzip(&text),
        _ => Err(ReadBodyError::Unreadable("the content encoding is not gzip")),
    }
}

fn gunzip(compressed: &[u8]) -> Result<Vec<u8>, ReadBodyError> {
    let mut text = Vec::new();
    // One byte over the limit tells a body of exactly the limit from a larger one.
    MultiGzDecoder::new(compressed).take(MAX_BODY_BYTES as u64 + 1).read_to_end(&mut text).map_err(|_| NOT_GZIP)?;
    if text.len() > MAX_BODY_BYTES {
        return Err(ReadBodyError::TooLarge { bytes: text.len() });
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

    use super::{MAX_BODY_BYTES, MAX_DISCARDED_BYTES, NOT_GZIP, ReadBodyError, read};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn encoded(name: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(name))])
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_refused() {
        let fits = read(&HeaderMap::new(), Body::from(vec![b' '; MAX_BODY_BYTES])).await;
        assert_eq!(fits.map(|text| text.len()), Ok(MAX_BODY_BYTES));
        let bytes = MAX_BODY_BYTES + 1;
        let over = read(&HeaderMap::new(), Body::from(vec![b' '; bytes])).await;
        assert_eq!(over, Err(ReadBodyError::TooLarge { bytes }));
    }

    #[tokio::test]
    async fn the_limit_holds_after_decompression() {
        let fits = read(&encoded("gzip"), Body::from(gzip(&vec![b' '; MAX_BODY_BYTES]))).await;
        assert_eq!(fits.map(|text| text.len()), Ok(MAX_BODY_BYTES));
        let bomb = read(&encoded("GZIP"), Body::from(gzip(&vec![b' '; 50 * MAX_BODY_BYTES]))).await;
        assert_eq!(bomb, Err(ReadBodyError::TooLarge { bytes: MAX_BODY_BYTES + 1 }));
    }

    #[tokio::test]
    async fn invalid_gzip_and_unknown_encodings_are_different_errors() {
        assert_eq!(read(&encoded("gzip"), Body::from("{}")).await, Err(NOT_GZIP));
        let half = gzip(b"{}").into_iter().take(12).collect::<Vec<_>>();
        assert_eq!(read(&encoded("gzip"), Body::from(half)).await, Err(NOT_GZIP));
        let unknown = ReadBodyError::Unreadable("the content encoding is not gzip");
        assert_eq!(read(&encoded("br"), Body::from("{}")).await, Err(unknown));
    }

    #[tokio::test]
    async fn an_endless_body_is_not_read_to_the_end() {
        let bytes = MAX_DISCARDED_BYTES + 1;
        let read = read(&HeaderMap::new(), Body::from(vec![b' '; bytes])).await;
        assert_eq!(read, Err(ReadBodyError::Endless { bytes }));
    }
}
