//! The least that HTTP/1.1 takes: a request whose bytes stand ready but for the user's number, and an answer of which only
//! the status and the length are read.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A customer of about 250 bytes; the digits are replaced.
const CUSTOMER: &str = concat!(
    r#"{"userId":"c-00000000000000000000","traits":{"email":"ada.lovelace@example.com","name":"Ada Lovelace","#,
    r#""phone":"+44 20 7946 0018","plan":"pro","logins":42,"newsletter":true,"address":{"street":"12 St James's Square","#,
    r#""city":"London","postalCode":"SW1Y 4LB","country":"GB"}}}"#
);

/// The customer of this number.
pub fn customer(number: u64) -> String {
    CUSTOMER.replace(&"0".repeat(20), &format!("{number:020}"))
}

/// How many digits tell the callers apart; the others tell one caller's requests apart.
const CALLER_DIGITS: usize = 6;

/// More than any answer here has, so that one read gets one answer.
const ANSWER_BYTES: usize = 1024;

/// One caller's requests, for users who are that caller's alone.
pub struct Requests {
    bytes: Vec<u8>,
    digits: Range<usize>,
    /// How many users there are, and the next request's among them.
    users: u64,
    next: u64,
}

impl Requests {
    /// The requests of this caller, who takes so many users in turn.
    pub fn new(server: SocketAddr, caller: usize, users: u64) -> Self {
        let zeros = "0".repeat(20);
        let number = format!("{caller:0CALLER_DIGITS$}{}", &zeros[CALLER_DIGITS..]);
        let customer = CUSTOMER.replace(&zeros, &number);
        let bytes = format!(
            "POST /customers HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{customer}",
            customer.len()
        );
        let start = bytes.find(&number).unwrap_or_default();
        Self { digits: start + CALLER_DIGITS..start + number.len(), bytes: bytes.into(), users, next: 0 }
    }

    /// The next request.
    pub fn next(&mut self) -> &[u8] {
        if self.next == self.users {
            self.bytes[self.digits.clone()].fill(b'0');
            self.next = 0;
        }
        self.next += 1;
        for digit in self.bytes[self.digits.clone()].iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                break;
            }
            *digit = b'0';
        }
        &self.bytes
    }
}

/// The answers on one connection, one at a time.
pub struct Answers {
    buffer: [u8; ANSWER_BYTES],
}

impl Answers {
    pub fn new() -> Self {
        Self { buffer: [0; ANSWER_BYTES] }
    }

    /// Reads one answer and returns its status.
    ///
    /// # Errors
    /// If the connection ends before, or what comes is no answer.
    pub async fn next(&mut self, stream: &mut TcpStream) -> io::Result<u16> {
        let mut filled = 0;
        loop {
            let read = stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            if let Some((status, length)) = head(&self.buffer[..filled])
                && filled >= length
            {
                return Ok(status);
            }
        }
    }
}

/// The status and the length of an answer with its body, once its head is there.
fn head(answer: &[u8]) -> Option<(u16, usize)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = &answer[..end];
    let status = number(head.get(9..12)?)?;
    let mut lines = head.split(|byte| *byte == b'\n');
    let length = lines.find_map(|line| {
        let (name, value) = line.split_at_checked("content-length:".len())?;
        name.eq_ignore_ascii_case(b"content-length:").then(|| number(value.trim_ascii()))?
    })?;
    Some((u16::try_from(status).ok()?, end + 4 + length))
}

fn number(digits: &[u8]) -> Option<usize> {
    str::from_utf8(digits).ok()?.parse().ok()
}
