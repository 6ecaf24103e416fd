//! A proxy between the deliverer and the server that cuts the connection at a statement: before the server gets it, or when it has
//! been executed and before the answer comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Where the next connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Before,
    After,
}

pub(super) struct Proxy {
    pub(super) port: u16,
    /// Statements until the cut; negative: none is to come.
    left: Arc<AtomicI64>,
    is_after: Arc<AtomicI64>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (left, is_after) = (Arc::new(AtomicI64::new(-1)), Arc::new(AtomicI64::new(0)));
        let (left_of_task, after_of_task) = (left.clone(), is_after.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (left, is_after) = (left_of_task.clone(), after_of_task.clone());
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                    // A message is written at a time.
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    let ((client_in, client_out), (server_in, server_out)) = (client.into_split(), server.into_split());
                    tokio::select! {
                        () = forward(client_in, server_out, &left, &is_after) => {}
                        () = back(server_in, client_out, &left, &is_after) => {}
                    }
                });
            }
        });
        Self { port, left, is_after, _tasks: tasks }
    }

    /// Cuts the connection at the statement with this number, from 1.
    pub(super) fn cut(&self, statement: i64, cut: Cut) {
        self.is_after.store(i64::from(cut == Cut::After), Ordering::SeqCst);
        self.left.store(statement, Ordering::SeqCst);
    }

    /// Whether the cut is still to come. It does not come any more then.
    pub(super) fn disarm(&self) -> bool {
        self.left.swap(-1, Ordering::SeqCst) > 0
    }
}

/// Forwards messages, and counts those that execute a statement.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, left: &AtomicI64, is_after: &AtomicI64) {
    let mut is_started = false;
    loop {
        let mut message = vec![0; if is_started { 5 } else { 4 }];
        if from.read_exact(&mut message).await.is_err() {
            return;
        }
        let (kind, length) = (message[0], &message[message.len() - 4..]);
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize - 4;
        let mut body = vec![0; length];
        if from.read_exact(&mut body).await.is_err() {
            return;
        }
        // A query, or the end of an unnamed statement's messages.
        if is_started && (kind == b'Q' || kind == b'S') && left.load(Ordering::SeqCst) > 0 {
            let is_it = left.fetch_sub(1, Ordering::SeqCst) == 1;
            if is_it && is_after.load(Ordering::SeqCst) == 0 {
                return;
            }
        }
        is_started = true;
        message.extend(body);
        if to.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// Forwards answers, until one comes after the cut: the statement has been executed.
async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, left: &AtomicI64, is_after: &AtomicI64) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if left.load(Ordering::SeqCst) == 0 && is_after.load(Ordering::SeqCst) == 1 {
            left.store(-1, Ordering::SeqCst);
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
