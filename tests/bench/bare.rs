//! A server that does nothing but answer so many bytes: what a page can't be faster than.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::meter::Meter;

/// One such process.
pub struct Bare {
    pub address: SocketAddr,
    pub meter: Meter,
    _child: Child,
}

impl Bare {
    pub async fn start(bytes: u64) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(told)?;
        let mut child = Command::new(program)
            .args(["--bare", &bytes.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(told)?;
        let stdout = child.stdout.take().ok_or("it has no output")?;
        let first = BufReader::new(stdout).lines().next_line().await.map_err(told)?;
        let address = first.and_then(|line| line.parse().ok()).ok_or("it says no address")?;
        let meter = Meter { server: child.id().unwrap_or_default(), postmaster: PathBuf::new() };
        Ok(Self { address, meter, _child: child })
    }
}

/// Says its address, and serves until it is killed.
pub async fn serve(bytes: u64) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(told)?;
    println!("{}", listener.local_addr().map_err(told)?);
    let body = Bytes::from(vec![b' '; usize::try_from(bytes).map_err(told)?]);
    let answer = move |_: Bytes| {
        let body = body.clone();
        async move { ([(CONTENT_TYPE, "application/json")], body) }
    };
    axum::serve(listener, Router::new().route("/api/{*path}", post(answer))).await.map_err(told)
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
