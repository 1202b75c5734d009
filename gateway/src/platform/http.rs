//! HTTP connections: taken, served, and closed when nothing is asked on them.
//!
//! Whoever connects and is silent, or sends a request drop by drop, holds a connection for a bounded time
//! and nothing else. A WebSocket leaves here when it is upgraded and keeps its own time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::serve::Listener;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::shutdown::Shutdown;

/// How patient the server is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long a connection may be open with no request under way: before the first head has been read,
    /// between two requests, and while the last answer is being fetched.
    pub idle: Duration,
    /// How long one request may take, its body included.
    pub request: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), request: Duration::from_secs(60) }
    }
}

/// Given with each request: who calls [`Self::take`] looks after the time that the request takes.
#[derive(Debug, Clone, Default)]
pub struct OwnTime(Arc<AtomicBool>);

impl OwnTime {
    pub fn take(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_taken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// For requests under way when the server stops; sockets are told by [`Shutdown`] and have as long.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(4);

/// Serves until the shutdown, then drains. Says when the shutdown began.
pub async fn serve(
    mut listener: TcpListener,
    router: Router,
    patience: Patience,
    shutdown: &Shutdown,
) -> Instant {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = shutdown.wait() => break,
            // Only so that they don't gather.
            Some(_) = connections.join_next() => {}
            (stream, peer) = Listener::accept(&mut listener) => {
                connections.spawn(attend(stream, peer, router.clone(), patience, shutdown.clone()));
            }
        }
    }
    let began = Instant::now();
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN_WITHIN, drained).await.is_err() {
        tracing::warn!("some requests were cut off");
    }
    began
}

/// Serves one connection.
async fn attend(stream: TcpStream, peer: SocketAddr, router: Router, patience: Patience, shutdown: Shutdown) {
    // Frames of a stream are small and must not wait for each other.
    stream.set_nodelay(true).ok();
    let under_way = watch::Sender::new(0_usize);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<_>| {
        let own_time = OwnTime::default();
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(own_time.clone());
        let (counted, answer) = (Counted::new(&under_way), router.call(request));
        async move {
            let _counted = counted;
            // Nearly always it is one that isn't sent to its end.
            tokio::pin!(answer);
            match timeout(patience.request, answer.as_mut()).await {
                Ok(answered) => answered,
                Err(_) if own_time.is_taken() => answer.await,
                Err(_) => Ok(StatusCode::REQUEST_TIMEOUT.into_response()),
            }
        }
    });
    let builder = Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // A client that breaks off is nobody's failure.
        _ = connection.as_mut() => return,
        () = idle(&under_way, patience.idle) => return,
        _ = shutdown.wait() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.ok();
}

/// A request under way, from its head to its answer.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(under_way: &watch::Sender<usize>) -> Self {
        under_way.send_modify(|count| *count += 1);
        Self(under_way.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Returns when no request has been under way for so long.
async fn idle(under_way: &watch::Sender<usize>, patience: Duration) {
    let mut changes = under_way.subscribe();
    loop {
        let is_idle = *changes.borrow_and_update() == 0;
        let changed = changes.changed();
        if is_idle {
            if timeout(patience, changed).await.is_err() {
                return;
            }
        } else {
            // Can't fail while `under_way` is held.
            changed.await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::shutdown::Stop;
    use super::*;

    struct Server {
        address: SocketAddr,
        shutdown: Shutdown,
        serving: tokio::task::JoinHandle<Instant>,
    }

    const SHORT: Duration = Duration::from_millis(200);
    const NEVER: Duration = Duration::from_secs(3_600);

    async fn start(patience: Patience) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::default());
        let length = |ConnectInfo(peer): ConnectInfo<SocketAddr>, body: Bytes| async move {
            format!("{} from {}", body.len(), peer.ip())
        };
        let router = Router::new().route("/", post(length));
        let stop = shutdown.clone();
        let serving = tokio::spawn(async move { serve(listener, router, patience, &stop).await });
        Server { address, shutdown, serving }
    }

    /// All that is answered to these bytes until the server closes.
    async fn said_to(server: &Server, sent: &str) -> String {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    const WHOLE: &str = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi";

    #[tokio::test]
    async fn nobody_holds_a_connection_by_silence() {
        let server = start(Patience { idle: SHORT, request: NEVER }).await;
        for unfinished in ["", "PRI * HTTP/2", "POST / HTTP/1.1\r\nhost:"] {
            assert_eq!(said_to(&server, unfinished).await, "", "{unfinished:?}");
        }
        let answer = said_to(&server, WHOLE).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("2 from 127.0.0.1"), "{answer}");
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let server = start(Patience { idle: NEVER, request: SHORT }).await;
        let answer = said_to(&server, WHOLE.strip_suffix('i').unwrap()).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }

    #[tokio::test]
    async fn the_end_waits_for_nobody_who_asks_nothing() {
        let server = start(Patience { idle: NEVER, request: NEVER }).await;
        let silent = TcpStream::connect(server.address).await.unwrap();
        let (mut asking, mut answer) = (TcpStream::connect(server.address).await.unwrap(), [0; 12]);
        asking.write_all(WHOLE.as_bytes()).await.unwrap();
        asking.read_exact(&mut answer).await.unwrap();
        server.shutdown.begin(Stop::Asked);
        let began = server.serving.await.unwrap();
        assert!(began.elapsed() < DRAIN_WITHIN, "{:?}", began.elapsed());
        drop(silent);
    }
}
