//! What a large upload costs in memory: a file that is never whole in the memory of the server.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::load::Person;
use crate::server::Server;

/// How much more the server may have in memory while a file comes in, in bytes.
const ALLOWED_BYTES: u64 = 20_000_000;
const MEGABYTE: u64 = 1_000_000;
/// Sent first, so that what is made once has been made, in bytes.
const FIRST_BYTES: u64 = 4 * MEGABYTE;
const LOOK_EVERY: Duration = Duration::from_millis(5);
const PIECE: usize = 64 * 1024;
const BOUNDARY: &str = "kiroku-bench-boundary";

/// Uploads a file of so many megabytes, and tells whether it went well.
pub async fn probe(server: &Server, by: &Person, megabytes: u64) -> Result<bool, String> {
    let policies =
        json!({ "policies": { "rateLimitFactor": 0, "maxFileSizeMb": 240, "driveCapacityMb": 10_000 } });
    server.call(by, "admin/roles/update-default-policies", policies).await?;
    upload(server, by, FIRST_BYTES).await?;
    let before = server.meter.memory().server_bytes;
    let (done, mut is_done) = watch::channel(());
    let meter = server.meter.clone();
    let peak = tokio::spawn(async move {
        let mut most = 0;
        loop {
            most = most.max(meter.memory().server_bytes);
            tokio::select! {
                _ = is_done.changed() => return most,
                () = sleep(LOOK_EVERY) => (),
            }
        }
    });
    let began = std::time::Instant::now();
    upload(server, by, megabytes * MEGABYTE).await?;
    let took = began.elapsed();
    drop(done);
    let peak = peak.await.map_err(|error| error.to_string())?;
    let more = peak.saturating_sub(before);
    let in_megabytes = |bytes: u64| bytes as f64 / MEGABYTE as f64;
    println!(
        "an upload of {megabytes} MB in {:.1} s: {:.1} MB in memory before, at most {:.1} MB while, {:.1} MB more",
        took.as_secs_f64(),
        in_megabytes(before),
        in_megabytes(peak),
        in_megabytes(more)
    );
    Ok(more < ALLOWED_BYTES)
}

/// Sends a file of text in a form.
async fn upload(server: &Server, by: &Person, bytes: u64) -> Result<(), String> {
    let head = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"i\"\r\n\r\n{}\r\n--{BOUNDARY}\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"{bytes}.txt\"\r\n\r\n",
        by.token
    );
    let tail = format!("\r\n--{BOUNDARY}--\r\n");
    let length = head.len() as u64 + bytes + tail.len() as u64;
    let request = format!(
        "POST /api/drive/files/create HTTP/1.1\r\nhost: bench.example\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary={BOUNDARY}\r\ncontent-length: {length}\r\n\r\n{head}"
    );
    let told = |error: std::io::Error| format!("an upload: {error}");
    let mut socket = TcpStream::connect(server.address).await.map_err(told)?;
    socket.write_all(request.as_bytes()).await.map_err(told)?;
    let piece = [b'x'; PIECE];
    let mut left = bytes;
    while left > 0 {
        let next = piece.len().min(usize::try_from(left).unwrap_or(PIECE));
        socket.write_all(&piece[..next]).await.map_err(told)?;
        left -= next as u64;
    }
    socket.write_all(tail.as_bytes()).await.map_err(told)?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.map_err(told)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("an upload: {answer}")) }
}
