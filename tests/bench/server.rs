//! One `kiroku serve` as an operator would run it: its own data directory and embedded PostgreSQL.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::Plan;
use crate::load::Person;
use crate::meter::Meter;

pub struct Server {
    pub address: SocketAddr,
    pub data_dir: PathBuf,
    pub meter: Meter,
    child: Child,
}

/// The whole of it, PostgreSQL included.
const STOP_WITHIN: Duration = Duration::from_secs(15);
pub const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(50);

impl Server {
    /// Starts it in a directory, where it also writes its log, and waits until it answers.
    pub async fn start(plan: &Plan, directory: &Path) -> Result<Self, String> {
        let server = Self::spawn(plan, directory)?;
        let until = Instant::now() + READY_WITHIN;
        while !server.answers().await {
            if Instant::now() > until {
                return Err(format!("the server does not answer; see {}", directory.display()));
            }
            sleep(POLL_EVERY).await;
        }
        Ok(server)
    }

    /// The same without waiting.
    pub fn spawn(plan: &Plan, directory: &Path) -> Result<Self, String> {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = address.map_err(|error| format!("no port: {error}"))?;
        let (data_dir, log) = (directory.join("data"), directory.join("server.log"));
        let log = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let child = Command::new(&plan.kiroku)
            .args(["serve", "--url", "http://bench.example", "--listen", &address.to_string(), "--data-dir"])
            .arg(&data_dir)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .args(plan.memory.map(|memory| format!("--page-memory={memory}")))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", plan.kiroku.display()))?;
        let meter = Meter {
            server: child.id().unwrap_or_default(),
            postmaster: data_dir.join("postgres/postmaster.pid"),
        };
        Ok(Self { address, data_dir, meter, child })
    }

    async fn answers(&self) -> bool {
        let answer = reqwest::get(format!("http://{}/healthz", self.address)).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// The endpoints that it has.
    pub async fn offered(&self) -> Result<Vec<String>, String> {
        let answer =
            reqwest::Client::new().post(format!("http://{}/api/endpoints", self.address)).send().await;
        let bytes =
            answer.map_err(|error| error.to_string())?.bytes().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    /// One call that must succeed.
    pub async fn call(&self, by: &Person, endpoint: &str, mut params: Value) -> Result<Value, String> {
        params["i"] = json!(by.token);
        let request = reqwest::Client::new().post(format!("http://{}/api/{endpoint}", self.address));
        let request = request.header("content-type", "application/json").body(params.to_string());
        let failed = |error: reqwest::Error| format!("{endpoint}: {error}");
        let answer = request.send().await.map_err(failed)?;
        let (status, body) = (answer.status(), answer.bytes().await.map_err(failed)?);
        match serde_json::from_slice(&body) {
            _ if !status.is_success() => {
                Err(format!("{endpoint}: {status} {}", String::from_utf8_lossy(&body)))
            }
            Ok(answer) => Ok(answer),
            Err(_) => Ok(Value::Null),
        }
    }

    pub async fn stop(mut self) -> Result<(), String> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or("the server has ended")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|error| error.to_string())?;
        match timeout(STOP_WITHIN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            ended => Err(format!("the server does not stop well: {ended:?}")),
        }
    }
}
