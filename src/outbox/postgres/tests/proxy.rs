//! A proxy between a store and the server, which cuts a connection at a chosen statement.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// When a statement's connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::outbox::postgres) enum Cut {
    /// The server does not get the statement.
    Before,
    /// The server gets it, and its answer is lost.
    Sent,
    /// The server has answered, and the answer is lost.
    Answered,
    /// So long after the server got it.
    After(Duration),
}

pub(in crate::outbox::postgres) struct Proxy {
    pub(in crate::outbox::postgres) port: u16,
    script: Arc<Script>,
    _tasks: JoinSet<()>,
}

struct Script {
    server: SocketAddr,
    /// Connections with this in their first message count. The others are only forwarded.
    name: &'static [u8],
    /// How many statements pass until one is cut.
    left: AtomicI64,
    cut: Mutex<Cut>,
    is_away: AtomicBool,
    tasks: Mutex<JoinSet<()>>,
}

impl Proxy {
    /// Watches the connections with this name.
    pub(in crate::outbox::postgres) async fn start(server: SocketAddr, name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(Script {
            server,
            name: name.as_bytes(),
            left: AtomicI64::new(-1),
            cut: Mutex::new(Cut::Before),
            is_away: AtomicBool::new(false),
            tasks: Mutex::default(),
        });
        let (mut tasks, of_task) = (JoinSet::new(), script.clone());
        tasks.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if !of_task.is_away.load(Ordering::SeqCst) {
                    of_task.tasks.lock().spawn(connection(of_task.clone(), client));
                }
            }
        });
        Self { port, script, _tasks: tasks }
    }

    /// Cuts the statement after so many more.
    pub(in crate::outbox::postgres) fn cut_after(&self, statements: i64, cut: Cut) {
        *self.script.cut.lock() = cut;
        self.script.left.store(statements, Ordering::SeqCst);
    }

    /// Whether the cut is still to come. It does not come any more then.
    pub(in crate::outbox::postgres) fn disarm(&self) -> bool {
        self.script.left.swap(-1, Ordering::SeqCst) >= 0
    }

    /// Whether the cut was made.
    pub(in crate::outbox::postgres) fn has_cut(&self) -> bool {
        self.script.left.load(Ordering::SeqCst) < 0
    }

    /// Ends all connections, and takes none until it is back.
    pub(in crate::outbox::postgres) async fn set_away(&self, is_away: bool) {
        self.script.is_away.store(is_away, Ordering::SeqCst);
        let mut tasks = std::mem::take(&mut *self.script.tasks.lock());
        tasks.shutdown().await;
    }
}

/// Of a connection that is cut when the server has answered.
#[derive(Default)]
struct Answered {
    /// The client gets no more answers.
    is_lost: AtomicBool,
    end: tokio::sync::Notify,
}

async fn connection(script: Arc<Script>, client: TcpStream) {
    let Ok(server) = TcpStream::connect(script.server).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let cut = Answered::default();
    tokio::select! {
        _ = forward_statements(&script, from_client, to_server, &cut) => {}
        () = forward_answers(from_server, to_client, &cut) => {}
    }
}

/// Forwards what the client says, message by message.
async fn forward_statements(
    script: &Script,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    answered: &Answered,
) -> std::io::Result<()> {
    let first = message(&mut from, false).await?;
    let counts = first.windows(script.name.len()).any(|part| part == script.name);
    to.write_all(&first).await?;
    loop {
        let message = message(&mut from, true).await?;
        // A simple query, and the end of an extended one.
        let is_cut = counts && matches!(message[0], b'Q' | b'S') && {
            let before =
                script.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| (left >= 0).then(|| left - 1));
            before == Ok(0)
        };
        let cut = *script.cut.lock();
        if is_cut && cut == Cut::Before {
            return Ok(());
        }
        answered.is_lost.store(is_cut && cut == Cut::Answered, Ordering::SeqCst);
        to.write_all(&message).await?;
        match cut {
            _ if !is_cut => {}
            Cut::Before => unreachable!("it was cut"),
            Cut::Sent => {
                // The server reads what it has got.
                to.shutdown().await?;
                return Ok(());
            }
            Cut::Answered => {
                answered.end.notified().await;
                return Ok(());
            }
            Cut::After(pause) => {
                tokio::time::sleep(pause).await;
                return Ok(());
            }
        }
    }
}

async fn forward_answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, answered: &Answered) {
    while let Ok(message) = message(&mut from, true).await {
        if answered.is_lost.load(Ordering::SeqCst) {
            if message[0] == b'Z' {
                answered.end.notify_one();
            }
            continue;
        }
        if to.write_all(&message).await.is_err() {
            return;
        }
    }
}

async fn message(from: &mut OwnedReadHalf, has_kind: bool) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; if has_kind { 5 } else { 4 }];
    from.read_exact(&mut message).await?;
    let length = u32::from_be_bytes(message[message.len() - 4..].try_into().unwrap());
    let mut rest = vec![0; length as usize - 4];
    from.read_exact(&mut rest).await?;
    message.extend(rest);
    Ok(message)
}
