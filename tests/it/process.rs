//! The binary as an operator meets it: it starts on nothing, is killed, is started twice, is stopped.
//!
//! Runs `kiroku` from the target directory of the running test, where `cargo build --all-targets` puts it;
//! nothing here builds it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

#[test]
fn it_starts_on_nothing_and_sigterm_stops_all_of_it() {
    let data = tempfile::tempdir().unwrap();
    let mut kiroku = Kiroku::start(&data);
    kiroku.until_ready();
    assert!(kiroku_command(&["health", "--listen", &kiroku.address.to_string()]).status.success());
    let postgres = kiroku.postgres().expect("a running PostgreSQL");

    // A client that never finishes its request must not hold up the stop.
    let mut unfinished = TcpStream::connect(kiroku.address).unwrap();
    unfinished.write_all(b"POST /api/meta HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{").unwrap();

    let stopping = Instant::now();
    kiroku.signal(Signal::SIGTERM);
    let status = kiroku.child.wait().unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(10), "took {:?}", stopping.elapsed());
    assert!(status.success(), "{status}\n{}", kiroku.log());
    assert!(!runs(postgres), "PostgreSQL still runs");
    assert!(kiroku.log().contains("stopped"));
}

#[test]
fn it_restarts_after_kill_9_of_itself() {
    let data = tempfile::tempdir().unwrap();
    let mut killed = Kiroku::start(&data);
    killed.until_ready();
    assert_eq!(killed.call("admin/accounts/create", r#"{"username":"alice","password":"x"}"#), Some(200));
    let orphan = killed.postgres().expect("a running PostgreSQL");
    killed.signal(Signal::SIGKILL);
    killed.child.wait().unwrap();
    assert!(runs(orphan), "PostgreSQL went with it: this test tests nothing");

    let mut kiroku = Kiroku::start(&data);
    kiroku.until_ready();
    assert_eq!(kiroku.call("users/show", r#"{"username":"alice"}"#), Some(200));
    assert!(!runs(orphan), "two PostgreSQL run on one data directory");
}

#[test]
fn it_restarts_after_kill_9_of_itself_and_postgres() {
    let data = tempfile::tempdir().unwrap();
    let mut killed = Kiroku::start(&data);
    killed.until_ready();
    assert_eq!(killed.call("admin/accounts/create", r#"{"username":"alice","password":"x"}"#), Some(200));
    kill(killed.postgres().expect("a running PostgreSQL"), Signal::SIGKILL).unwrap();
    killed.signal(Signal::SIGKILL);
    killed.child.wait().unwrap();

    let mut kiroku = Kiroku::start(&data);
    kiroku.until_ready();
    assert_eq!(kiroku.call("users/show", r#"{"username":"alice"}"#), Some(200));
}

#[test]
fn another_address_on_the_same_data_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let mut first = Kiroku::start(&data);
    first.until_ready();
    first.signal(Signal::SIGTERM);
    first.child.wait().unwrap();
    let mut moved = Kiroku::start_as(&data, "http://elsewhere.example");
    let status = moved.child.wait().unwrap();
    let told = moved.log();
    assert_eq!(status.code(), Some(4), "{told}");
    assert!(told.contains(URL) && told.contains("http://elsewhere.example"), "{told}");
}

#[test]
fn it_stops_while_it_starts() {
    let data = tempfile::tempdir().unwrap();
    let mut stopped = Kiroku::start(&data);
    stopped.until("it has the data directory", |kiroku| kiroku.data.join("kiroku.lock").exists());
    let stopping = Instant::now();
    stopped.signal(Signal::SIGTERM);
    let status = stopped.child.wait().unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(10), "took {:?}", stopping.elapsed());
    assert!(status.success(), "{status}\n{}", stopped.log());
    assert_eq!(stopped.postgres(), None);

    Kiroku::start(&data).until_ready();
}

#[test]
fn it_recovers_from_kill_9_of_postgres() {
    let data = tempfile::tempdir().unwrap();
    let mut kiroku = Kiroku::start(&data);
    kiroku.until_ready();
    let killed = kiroku.postgres().expect("a running PostgreSQL");
    kill(killed, Signal::SIGKILL).unwrap();
    kiroku.until("another PostgreSQL runs", |kiroku| kiroku.postgres().is_some_and(|pid| pid != killed));
    kiroku.until_ready();
}

#[test]
fn a_master_key_that_is_gone_is_asked_for_and_not_made_anew() {
    let data = tempfile::tempdir().unwrap();
    let mut first = Kiroku::start(&data);
    first.until_ready();
    first.signal(Signal::SIGTERM);
    first.child.wait().unwrap();
    let key = data.path().join("master.key");
    fs::rename(&key, data.path().join("elsewhere")).unwrap();
    let mut second = Kiroku::start(&data);
    assert_eq!(second.child.wait().unwrap().code(), Some(1));
    assert!(second.log().contains("master.key is gone"), "{}", second.log());
    assert!(!key.exists());
}

#[test]
fn a_second_copy_on_the_same_data_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let mut first = Kiroku::start(&data);
    first.until_ready();
    let mut second = Kiroku::start(&data);
    let status = second.child.wait().unwrap();
    let told = second.log();
    assert_eq!(status.code(), Some(3), "{told}");
    let holder = format!("in use by another kiroku (process {})", first.child.id());
    assert!(told.contains(&holder), "{told}");
    assert_eq!(first.ask("/readyz"), Some(200));
}

#[test]
fn a_mistaken_setting_is_refused_with_a_suggestion() {
    let output =
        Command::new(binary()).args(["serve"]).env_clear().env("KIROKU_LISEN", "x").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `KIROKU_LISTEN`?"));
}

/// The address of the server, wherever it listens: it stays when the server moves to another port.
pub const URL: &str = "http://kiroku.example";
/// Longer than any step takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(50);

pub struct Kiroku {
    child: Child,
    pub address: SocketAddr,
    pub data: PathBuf,
    log: TempDir,
}

impl Kiroku {
    pub fn start(data: &TempDir) -> Self {
        Self::start_as(data, URL)
    }

    fn start_as(data: &TempDir, url: &str) -> Self {
        Self::start_with(data, &[("KIROKU_URL", url)])
    }

    /// With these settings in its environment.
    pub fn start_with(data: &TempDir, settings: &[(&str, &str)]) -> Self {
        let address = free_address();
        let log = tempfile::tempdir().unwrap();
        let lines = File::create(log.path().join("log")).unwrap();
        let data = data.path().canonicalize().unwrap();
        let child = Command::new(binary())
            .args(["serve", "--listen", &address.to_string(), "--data-dir"])
            .arg(&data)
            .env_clear()
            .envs(settings.iter().copied())
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .current_dir(log.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(lines)
            .spawn()
            .unwrap();
        Self { child, address, data, log }
    }

    pub fn until_ready(&mut self) {
        self.until("it is ready", |kiroku| kiroku.ask("/readyz") == Some(200));
    }

    pub fn until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !reached(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended before {what}: {ended:?}\n{}", self.log());
            assert!(Instant::now() < deadline, "too late: {what}\n{}", self.log());
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// The status of the answer, if there is one.
    fn ask(&self, path: &str) -> Option<u16> {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    /// The status of a call of the API.
    pub fn call(&self, endpoint: &str, body: &str) -> Option<u16> {
        let length = body.len();
        self.send(&format!(
            "POST /api/{endpoint} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    fn send(&self, request: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        reply.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }

    fn postgres(&self) -> Option<Pid> {
        running_postgres(&self.data)
    }

    /// Stops it as an operator does.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log.path().join("log")).unwrap()
    }
}

impl Drop for Kiroku {
    /// Leaves nothing running, however the test went.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGTERM);
        }
        self.child.wait().ok();
        // A second copy that was refused has none of its own, and the first stops its own first.
        if !self.log().contains("in use by another")
            && let Some(left) = running_postgres(&self.data)
        {
            kill(left, Signal::SIGQUIT).ok();
        }
    }
}

fn running_postgres(data: &Path) -> Option<Pid> {
    let pid_file = fs::read_to_string(data.join("postgres/postmaster.pid")).ok()?;
    let pid = Pid::from_raw(pid_file.lines().next()?.parse().ok()?);
    runs(pid).then_some(pid)
}

/// A process that has ended and whose parent has not looked yet no longer runs.
fn runs(pid: Pid) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok()
}

pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.parent().and_then(Path::parent).unwrap().join("kiroku");
    assert!(binary.exists(), "{} is missing: cargo build --workspace --all-targets", binary.display());
    binary
}

fn kiroku_command(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env_clear().output().unwrap()
}

/// Free a moment ago: nothing here holds it until the server takes it.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
