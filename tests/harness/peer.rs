//! A server that answers every request with what a test makes of it: Segment, a gateway or a proxy.
//!
//! Each connection has a thread, so an answer may be late or never come without a delay for the others.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Listens on a free port. Its threads end with the test's process.
pub struct Peer {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

/// What a request gets.
pub enum Reply {
    /// These bytes.
    Answer(String),
    /// The end of the connection.
    Close,
    /// The end of the connection by RST.
    Reset,
    /// Nothing, until the one who asked leaves.
    Hang,
}

impl Peer {
    /// The answer to a request is what `answer` returns for its head. An empty one closes the connection.
    pub fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = heads.clone();
        let peer = Self::replying(move |head, _body| {
            kept.lock().unwrap().push(head.to_owned());
            let answer = answer(head);
            if answer.is_empty() { Reply::Close } else { Reply::Answer(answer) }
        });
        Self { heads, ..peer }
    }

    /// A request gets what `reply` returns for its head and its body. No heads are kept. A request whose sender has left before
    /// it was read gets nothing: a busy machine would otherwise process it after the sender's next one.
    pub fn replying(reply: impl Fn(&str, &[u8]) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let (reply, connections) = (Arc::new(reply), Arc::new(AtomicUsize::new(0)));
        let open = connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (reply, open) = (reply.clone(), open.clone());
                open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    serve(stream, &*reply);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, heads: Arc::default(), connections }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Serves a connection until one of the two leaves; `None` if the peer did.
fn serve(stream: TcpStream, reply: &dyn Fn(&str, &[u8]) -> Reply) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let (head, body) = read_request(&mut reader)?;
        if has_left(&stream) {
            return None;
        }
        match reply(&head, &body) {
            Reply::Answer(answer) => stream.write_all(answer.as_bytes()).ok()?,
            Reply::Close => return None,
            Reply::Reset => {
                return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok();
            }
            Reply::Hang => {
                let _ = reader.read_to_end(&mut Vec::new());
                return None;
            }
        }
    }
}

fn has_left(stream: &TcpStream) -> bool {
    let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let is_there = matches!(looked, Ok(1..)) || looked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).is_err() || !is_there
}

/// Reads a request to the end of its body. `None` if the peer has left.
fn read_request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok();
    let mut body = vec![0; head.lines().find_map(length).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// A whole answer, whose head has these lines too.
pub fn answer(status: &str, lines: &[&str], body: &str) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{lines}content-length: {}\r\n\r\n{body}", body.len())
}
