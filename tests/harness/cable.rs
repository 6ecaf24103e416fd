//! A TCP connection's way that can be cut: a proxy that forwards, stops forwarding without a word, or ends all connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// They are forwarded.
    None,
    /// They are kept: neither end hears of it, and they go on when the cable is whole again.
    Silent,
    /// Connections are ended, and new ones are refused.
    Reset,
}

type Times = Arc<Mutex<Vec<Instant>>>;

/// The proxy. It ends with this.
pub struct Cable {
    port: u16,
    cut: watch::Sender<Cut>,
    /// When bytes went to the target.
    sent: Times,
    _tasks: JoinSet<()>,
}

impl Cable {
    /// A way to this port of the machine.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let ((cut, watched), sent) = (watch::channel(Cut::None), Times::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, SocketAddr::from(([127, 0, 0, 1], port)), watched, sent.clone()));
        Self { port: own, cut, sent, _tasks: tasks }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn cut(&self, how: Cut) {
        self.cut.send_replace(how);
    }

    /// When bytes went to the target, each time.
    pub fn sent(&self) -> Vec<Instant> {
        self.sent.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, cut: watch::Receiver<Cut>, sent: Times) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let (mut cut, sent) = (cut.clone(), sent.clone());
        connections.spawn(async move {
            let _ = cut.wait_for(|cut| *cut != Cut::Silent).await;
            if *cut.borrow() == Cut::Reset {
                return;
            }
            let Ok(far) = TcpStream::connect(target).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            let (back, mut end) = (cut.clone(), cut.clone());
            tokio::select! {
                () = async { tokio::join!(forward(near_read, far_write, cut, Some(sent)), forward(far_read, near_write, back, None)); } => {}
                _ = end.wait_for(|cut| *cut == Cut::Reset) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<Cut>, sent: Option<Times>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let _ = cut.wait_for(|cut| *cut != Cut::Silent).await;
        if let Some(sent) = &sent {
            sent.lock().unwrap().push(Instant::now());
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
