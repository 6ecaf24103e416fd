//! A connection on which a test decides over every byte and when it leaves.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::answer::Answer;
use super::wait::{LONG_PATIENCE, PATIENCE};

/// A connection to the relay.
pub struct Raw {
    stream: TcpStream,
    /// Read, and not yet part of an answer.
    read: Vec<u8>,
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, read: Vec::new() }
    }

    /// Connects with as little room as the system allows for what is sent here and not read.
    pub async fn connect_narrowly(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(1).expect("a socket");
        Self { stream: socket.connect(address).await.expect("a connection"), read: Vec::new() }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the peer reads");
    }

    /// Sends bytes as they are to a peer who may not want them any more.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Sends a whole `POST /customers`.
    pub async fn post(&mut self, body: &str) {
        self.try_post(body).await.expect("the peer reads");
    }

    /// The same to a peer who may not want it any more.
    pub async fn try_post(&mut self, body: &str) -> std::io::Result<()> {
        self.try_send(head(&format!("content-length: {}\r\n", body.len())) + body).await
    }

    /// Sends nothing more, and reads on.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.expect("the peer reads");
    }

    /// Leaves at once: the peer gets a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// Whether the peer is known to have closed, as a pool of connections looks before it takes one.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.stream.try_read_buf(&mut self.read), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Reads one answer, HTTP/1.1 with a Content-Length.
    ///
    /// # Panics
    /// If there is none before the peer closes or patience ends.
    pub async fn answer(&mut self) -> Answer {
        self.answer_within(PATIENCE).await.expect("an answer")
    }

    /// Reads one answer, if there is one in this time.
    pub async fn answer_within(&mut self, time: Duration) -> Option<Answer> {
        timeout(time, self.read_answer()).await.ok().flatten()
    }

    /// The next `count` bytes; none if the peer closes before, or long patience ends.
    pub async fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        let read = async {
            while self.read.len() < count {
                self.read_more().await?;
            }
            Some(self.read.drain(..count).collect())
        };
        timeout(LONG_PATIENCE, read).await.ok().flatten()
    }

    /// All that comes before the peer closes.
    ///
    /// # Panics
    /// If it does not close before patience ends.
    pub async fn rest(mut self) -> Vec<u8> {
        let read = async { while self.read_more().await.is_some() {} };
        timeout(LONG_PATIENCE, read).await.expect("the peer closes");
        self.read
    }

    /// Whether the peer closes without another byte.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(timeout(PATIENCE, self.stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
    }

    /// Whether the peer closes, whatever it sends before.
    pub async fn is_closed_at_last(&mut self) -> bool {
        timeout(PATIENCE, async { while self.read_more().await.is_some() {} }).await.is_ok()
    }

    async fn read_answer(&mut self) -> Option<Answer> {
        let head_end = loop {
            if let Some(at) = self.read.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more().await?;
        };
        // What was read stays until all is there: whoever waits may stop half-way and come back.
        let head = String::from_utf8(self.read[..head_end].to_vec()).ok()?;
        let mut lines = head.trim_end().lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: HeaderMap = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| {
                let value = HeaderValue::from_str(value.trim()).expect("a header");
                (HeaderName::from_bytes(name.as_bytes()).expect("a header"), value)
            })
            .collect();
        let length: usize = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
        while self.read.len() < head_end + length {
            self.read_more().await?;
        }
        let body = String::from_utf8(self.read.drain(..head_end + length).skip(head_end).collect()).ok()?;
        Some(Answer::new(status, headers, &body))
    }

    async fn read_more(&mut self) -> Option<()> {
        let count = self.stream.read_buf(&mut self.read).await.ok()?;
        (count > 0).then_some(())
    }
}

/// The head of a `POST /customers` of JSON with these further headers, each line with its line break.
pub fn head(further: &str) -> String {
    format!("POST /customers HTTP/1.1\r\nhost: relay\r\ncontent-type: application/json\r\n{further}\r\n")
}
