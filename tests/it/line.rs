//! A TCP line between the relay and its sandbox, whose connections can die together, as when a load balancer restarts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a dead connection does with the next bytes of the relay.
#[derive(Clone, Copy, Debug)]
pub enum Death {
    /// Answers with RST.
    Reset,
    /// Closes in order: FIN.
    Close,
    /// Takes them, and never answers.
    Silence,
}

#[derive(Clone, Copy)]
struct LineState {
    /// Whether Segment's answers are kept back.
    holds_answers: bool,
    /// The connections with smaller numbers are dead.
    first_alive: usize,
    death: Death,
}

/// The line. Its connections end when it is dropped.
pub struct Line {
    address: SocketAddr,
    opened: Arc<AtomicUsize>,
    /// Number of dead connections that the relay wrote to.
    swallowed: Arc<AtomicUsize>,
    state: watch::Sender<LineState>,
    _accepting: JoinSet<()>,
}

impl Line {
    /// A line to the sandbox at this base URL.
    pub async fn to(segment: &str) -> Self {
        let segment: SocketAddr = segment.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (opened, swallowed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let state = watch::Sender::new(LineState { holds_answers: false, first_alive: 0, death: Death::Reset });
        let mut accepting = JoinSet::new();
        let (numbers, swallowing, states) = (opened.clone(), swallowed.clone(), state.clone());
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((relay, _)) = listener.accept().await {
                let number = numbers.fetch_add(1, Ordering::SeqCst);
                connections.spawn(carry(relay, segment, number, states.subscribe(), swallowing.clone()));
            }
        });
        Self { address, opened, swallowed, state, _accepting: accepting }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Number of connections that were opened.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// Number of dead connections that the relay has sent a request on.
    pub fn swallowed(&self) -> usize {
        self.swallowed.load(Ordering::SeqCst)
    }

    /// Keeps Segment's answers back, or lets them through.
    pub fn hold_answers(&self, holds_answers: bool) {
        self.state.send_modify(|state| state.holds_answers = holds_answers);
    }

    /// All connections that are open now are dead from now on. New ones work.
    pub fn kill_all(&self, death: Death) {
        let first_alive = self.opened();
        self.state.send_modify(|state| *state = LineState { first_alive, death, ..*state });
    }
}

async fn carry(
    mut relay: TcpStream,
    segment: SocketAddr,
    number: usize,
    mut state: watch::Receiver<LineState>,
    swallowed: Arc<AtomicUsize>,
) {
    let mut segment = TcpStream::connect(segment).await.expect("the sandbox listens");
    let (mut request, mut answer) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = relay.read(&mut request) => {
                let Ok(read @ 1..) = read else { return };
                let LineState { first_alive, death, .. } = *state.borrow();
                if number >= first_alive {
                    segment.write_all(&request[..read]).await.expect("the sandbox reads");
                    continue;
                }
                swallowed.fetch_add(1, Ordering::SeqCst);
                match death {
                    Death::Reset => drop(socket2::SockRef::from(&relay).set_linger(Some(Duration::ZERO))),
                    Death::Close => drop(relay.shutdown().await),
                    Death::Silence => {}
                }
                if !matches!(death, Death::Reset) {
                    // Until the relay gives the connection up.
                    while matches!(relay.read(&mut request).await, Ok(1..)) {}
                }
                return;
            }
            read = segment.read(&mut answer) => {
                let Ok(read @ 1..) = read else { return };
                let _ = state.wait_for(|state| !state.holds_answers).await;
                let _ = relay.write_all(&answer[..read]).await;
            }
        }
    }
}
