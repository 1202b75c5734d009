//! Many WebSockets that listen to their home timelines and note when which post came. No more of the protocol
//! than that needs, since the load takes from the same processors as the server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};
use memchr::memmem;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, timeout};

use crate::load::Person;
use crate::posts::{DIGITS, MARK, micros};

/// Of each loopback address so many are opened: it has but so many ports.
const OF_ADDRESS: usize = 10_000;
const OPENED_AT_ONCE: usize = 64;
const OPENED_WITHIN: Duration = Duration::from_secs(30);
/// Open files beside those of the sockets.
const OTHER_FILES: u64 = 1_000;
/// Read at once, in bytes.
const READ: usize = 16 * 1024;
/// The largest frame, and the largest answer to a handshake, in bytes.
const MAX_FRAME: usize = 1 << 20;
const MAX_HEAD: usize = 16 * 1024;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const LISTEN: &[u8] = br#"{"type":"connect","body":{"channel":"homeTimeline","id":"1","pong":true}}"#;

/// A post that came: its number, and when, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    pub number: u64,
    pub at: u64,
}

/// What one socket heard, and how it ended before its time.
pub struct Ear {
    pub heard: Vec<Heard>,
    pub broken: Option<String>,
}

pub struct Sockets {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<Ear>>,
    heard: Arc<AtomicU64>,
}

/// So many sockets may be open in this process, and in those that it starts from now on.
pub fn allow(sockets: usize) -> Result<(), String> {
    let needed = sockets as u64 + OTHER_FILES;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| match soft < needed {
        true => setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)),
        false => Ok(()),
    });
    raised.map_err(|error| format!("{needed} files can't be open at once: {error}"))
}

impl Sockets {
    /// One for each of these people. What comes is noted from `since` on.
    pub async fn open(address: SocketAddr, people: &[Person], since: Instant) -> Result<Self, String> {
        let (stop, stopping) = watch::channel(false);
        let heard = Arc::new(AtomicU64::new(0));
        let opened = people.iter().enumerate().map(|(place, person)| {
            let (heard, stopping) = (heard.clone(), stopping.clone());
            async move {
                let opened = timeout(OPENED_WITHIN, Socket::open(address, place, &person.token)).await;
                let socket = opened.map_err(|_| "a socket is not opened in time".to_owned())??;
                Ok::<_, String>(tokio::spawn(socket.listen(since, heard, stopping)))
            }
        });
        let tasks = stream::iter(opened.collect::<Vec<_>>()).buffered(OPENED_AT_ONCE).try_collect().await?;
        Ok(Self { stop, tasks, heard })
    }

    /// How many posts came to all of them so far.
    pub fn heard(&self) -> Arc<AtomicU64> {
        self.heard.clone()
    }

    /// Hangs up, and tells what each heard, in the order of the people.
    pub async fn close(self) -> Result<Vec<Ear>, String> {
        self.stop.send_replace(true);
        let mut ears = Vec::with_capacity(self.tasks.len());
        for task in self.tasks {
            ears.push(task.await.map_err(|error| error.to_string())?);
        }
        Ok(ears)
    }
}

struct Socket {
    stream: TcpStream,
    /// What came of frames that are not whole yet.
    rest: Vec<u8>,
}

impl Socket {
    /// Returns when it listens.
    async fn open(address: SocketAddr, place: usize, token: &str) -> Result<Self, String> {
        let socket = TcpSocket::new_v4().map_err(told)?;
        let host = u8::try_from(place / OF_ADDRESS + 1).map_err(told)?;
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0)).map_err(told)?;
        let mut stream = socket.connect(address).await.map_err(told)?;
        stream.set_nodelay(true).map_err(told)?;
        let request = format!(
            "GET /streaming HTTP/1.1\r\nhost: bench.example\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             authorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.map_err(told)?;
        let mut socket = Self { stream, rest: Vec::new() };
        let end = loop {
            match memmem::find(&socket.rest, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None if socket.rest.len() > MAX_HEAD => return Err("an answer has no end".to_owned()),
                None => socket.read().await?,
            }
        };
        if !socket.rest.starts_with(b"HTTP/1.1 101 ") {
            return Err(format!("no socket: {}", String::from_utf8_lossy(&socket.rest)));
        }
        socket.rest.drain(..end);
        socket.send(TEXT, LISTEN).await?;
        loop {
            while let Some((kind, body, length)) = frame(&socket.rest)? {
                let is_connected = kind == TEXT && socket.rest[body].starts_with(br#"{"type":"connected""#);
                socket.rest.drain(..length);
                if is_connected {
                    return Ok(socket);
                }
            }
            socket.read().await?;
        }
    }

    async fn listen(
        mut self,
        since: Instant,
        all: Arc<AtomicU64>,
        mut stopping: watch::Receiver<bool>,
    ) -> Ear {
        let mut heard = Vec::new();
        loop {
            let read = tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return Ear { heard, broken: None },
                read = self.read() => read,
            };
            let before = heard.len();
            let taken = match read {
                Ok(()) => self.take(micros(since.elapsed()), &mut heard).await,
                Err(why) => Err(why),
            };
            all.fetch_add((heard.len() - before) as u64, Ordering::Relaxed);
            if let Err(why) = taken {
                return Ear { heard, broken: Some(why) };
            }
        }
    }

    /// Every frame that is whole.
    async fn take(&mut self, at: u64, heard: &mut Vec<Heard>) -> Result<(), String> {
        let (mut done, mut pings) = (0, Vec::new());
        while let Some((kind, body, length)) = frame(&self.rest[done..])? {
            let body = &self.rest[done..][body];
            match kind {
                TEXT => heard.extend(number(body).map(|number| Heard { number, at })),
                PING => pings.push(body.to_vec()),
                CLOSE => return Err(format!("closed: {}", String::from_utf8_lossy(body))),
                _ => (),
            }
            done += length;
        }
        self.rest.drain(..done);
        if self.rest.is_empty() {
            // Most of them have nothing to keep most of the time.
            self.rest = Vec::new();
        }
        for ping in pings {
            self.send(PONG, &ping).await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), String> {
        let mut piece = [0; READ];
        loop {
            self.stream.readable().await.map_err(told)?;
            match self.stream.try_read(&mut piece) {
                Ok(0) => return Err("the server hung up".to_owned()),
                Ok(read) => {
                    self.rest.extend_from_slice(&piece[..read]);
                    return Ok(());
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => (),
                Err(error) => return Err(told(error)),
            }
        }
    }

    /// A short frame, masked with nothing.
    async fn send(&mut self, kind: u8, body: &[u8]) -> Result<(), String> {
        let length = u8::try_from(body.len()).ok().filter(|length| *length < 126).ok_or("it is too long")?;
        let mut frame = vec![0x80 | kind, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(body);
        self.stream.write_all(&frame).await.map_err(told)
    }
}

type Parts = (u8, std::ops::Range<usize>, usize);

/// Kind, place of the body and length of the first frame, if it is whole.
fn frame(bytes: &[u8]) -> Result<Option<Parts>, String> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let (head, length) = match (second & 0x7f, rest) {
        (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        (127, [0, 0, 0, 0, a, b, c, d, ..]) => (10, u32::from_be_bytes([*a, *b, *c, *d]) as usize),
        (127, rest) if rest.len() >= 8 => (10, usize::MAX),
        (126 | 127, _) => return Ok(None),
        (length, _) => (2, usize::from(length)),
    };
    if length > MAX_FRAME {
        return Err("a frame is too long".to_owned());
    }
    let whole = head + length;
    Ok((bytes.len() >= whole).then(|| (first & 0x0f, head..whole, whole)))
}

/// Of the post that it tells of.
fn number(body: &[u8]) -> Option<u64> {
    let at = memmem::find(body, MARK.as_bytes())? + MARK.len();
    std::str::from_utf8(body.get(at..at + DIGITS)?).ok()?.parse().ok()
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
