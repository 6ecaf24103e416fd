//! HTTP/2 by hand, for peers who misbehave: frames are put together from their parts, right or wrong.
//!
//! Numbers and layouts are of RFC 9113 and, for the blocks of headers, RFC 7541. It knows of headers only how to write them
//! in their simplest form, and does not read any: what an answer says is seen in its body.

use std::net::SocketAddr;

use super::raw::Raw;

/// A connection that speaks HTTP/2 from the start.
pub struct H2 {
    raw: Raw,
}

/// One frame.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;

    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;

    /// The setting that says how much may be sent on a stream before more is asked for.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;

    /// Of a GOAWAY, the code of the error.
    pub fn error(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.get(4..8)?.try_into().ok()?))
    }
}

impl H2 {
    /// Connects and sends the preface with these settings.
    pub async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut raw = Raw::connect(address).await;
        let pairs = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        raw.send([preface, frame(Frame::SETTINGS, 0, 0, &pairs.collect::<Vec<_>>())].concat()).await;
        Self { raw }
    }

    /// Sends frames, or whatever these bytes are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.raw.send(bytes).await;
    }

    /// Sends them to a peer who may not want them any more.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.raw.try_send(bytes).await
    }

    /// The next frame; none when the peer has closed, or long patience ends.
    pub async fn next(&mut self) -> Option<Frame> {
        let head = self.raw.bytes(9).await?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        let payload = self.raw.bytes(number(&head[..3]) as usize).await?;
        Some(Frame { kind: head[3], flags: head[4], stream: number(&head[5..]), payload })
    }

    /// Whether the peer closes without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.raw.is_closed().await
    }

    /// The next frame of this kind; those before it are passed over.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A block of headers: `GET` of this path, of less than 127 bytes.
pub fn get(path: &str) -> Vec<u8> {
    // Indexed in the static table: `:method: GET`, `:scheme: http`; not indexed: `:path`, `:authority`.
    [&[0x82, 0x86][..], &text(0x04, path), &text(0x01, "relay")].concat()
}

/// A block of headers: `POST /customers` of JSON.
pub fn post() -> Vec<u8> {
    let json = text(0x0f, "application/json");
    // The name `content-type` has the index 31, which does not fit into the first byte's four bits: 15, and 16 more.
    [&[0x83, 0x86][..], &text(0x04, "/customers"), &text(0x01, "relay"), &json[..1], &[16], &json[1..]].concat()
}

/// A value after the byte that says which name it has.
fn text(name: u8, value: &str) -> Vec<u8> {
    [&[name, u8::try_from(value.len()).expect("a short value")], value.as_bytes()].concat()
}
