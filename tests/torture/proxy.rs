//! The wire between a server and its database, which can be cut, torn and held.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wire {
    #[default]
    Whole,
    /// Nothing moves, nothing is closed.
    Held,
    /// Connections are closed, and new ones at once.
    Cut,
    /// The next message to the database is passed on by half, and its connection closed.
    AskTorn,
    /// The next message from the database is passed on by half, and its connection closed.
    AnswerTorn,
    /// The next message from the database is swallowed, and its connection closed.
    AnswerLost,
}

/// Listens on a port of its own until it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    wire: watch::Sender<Wire>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(database: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (wire, state) = watch::channel(Wire::default());
        let accepting = tokio::spawn(accept(listener, database, state));
        Ok(Self { address, wire, accepting })
    }

    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// After a failed `accept`, such as for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Ask,
    Answer,
}

async fn accept(listener: TcpListener, database: SocketAddr, wire: watch::Receiver<Wire>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(carry(client, database, wire.clone()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

/// One connection. Whichever way ends first takes the other along.
async fn carry(client: TcpStream, database: SocketAddr, wire: watch::Receiver<Wire>) {
    if *wire.borrow() == Wire::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(database).await else { return };
    for stream in [&client, &server] {
        _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pass(Way::Ask, from_client, to_server, wire.clone()) => {}
        () = pass(Way::Answer, from_server, to_client, wire) => {}
    }
}

async fn pass(way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut wire: watch::Receiver<Wire>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = tokio::select! {
            () = cut(&mut wire) => return,
            read = from.read(&mut chunk) => read,
        };
        let length = match read {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        if wire.wait_for(|wire| *wire != Wire::Held).await.is_err() {
            return;
        }
        let state = *wire.borrow();
        let (passed, ends) = match (state, way) {
            (Wire::Cut, _) | (Wire::AnswerLost, Way::Answer) => return,
            (Wire::AskTorn, Way::Ask) | (Wire::AnswerTorn, Way::Answer) => (length / 2, true),
            _ => (length, false),
        };
        if to.write_all(&chunk[..passed]).await.is_err() || ends {
            return;
        }
    }
}

async fn cut(wire: &mut watch::Receiver<Wire>) {
    if wire.wait_for(|wire| *wire == Wire::Cut).await.is_err() {
        std::future::pending::<()>().await;
    }
}
