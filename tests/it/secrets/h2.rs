//! Bytes of HTTP/2 that no client would send.

/// HTTP/2 by hand (RFC 9113, 4.1 and 6): a request whose field of this number in HPACK's static table is a malformed text with
/// values in it, and a farewell in the caller's own words.
pub fn h2(begin: &str, field: u8, values: &str) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("a small frame");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let malformed = format!("{begin}{values}");
    let length = u8::try_from(malformed.len()).expect("a short value");
    // The method POST and the scheme http stand in the table too.
    let fields = [&[0x83, 0x86, field, length], malformed.as_bytes()].concat();
    let settings = frame(4, 0, 0, &[]);
    let (request, farewell) = (frame(1, 5, 1, &fields), frame(7, 0, 0, &[&[0; 8], values.as_bytes()].concat()));
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &request, &farewell].concat()
}
