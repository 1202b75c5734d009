//! What is tortured: a PostgreSQL of its own on a small disk, servers on it, each behind a wire that can be
//! cut, and NATS between them. Everything lies in one directory and ends with this process.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex as Held, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::Findings;
use crate::proxy::{Proxy, Wire};

/// The address of the servers to the outside.
pub const URL: &str = "http://torture.example";
/// How long anything may take to be well again after the last fault is over.
pub const WELL_WITHIN: Duration = Duration::from_secs(60);
/// The clock of PostgreSQL among those of the servers.
pub const POSTGRES_CLOCK: &str = "postgres";
pub const POLL_EVERY: Duration = Duration::from_millis(20);

/// What this machine lets us do.
#[derive(Debug, Clone)]
pub struct Means {
    pub kiroku: PathBuf,
    pub postgres_bin: PathBuf,
    pub servers: usize,
    pub nats: Option<PathBuf>,
    pub faketime: Option<PathBuf>,
    /// Whether small file systems can be mounted.
    pub disk: bool,
    /// Whether they can be shut down as if by a power cut.
    pub power: bool,
    pub verify: bool,
    pub rebuild: bool,
}

pub struct World {
    pub directory: PathBuf,
    means: Means,
    /// PostgreSQL refuses to run as root.
    run_as: Option<(u32, u32)>,
    postgres_port: u16,
    postgres: Mutex<Option<Child>>,
    pub servers: Vec<Server>,
    nats: Option<Nats>,
    /// Processes that were stopped and not continued yet.
    /// Whether the disk of PostgreSQL is to be full; held while the disk is taken away.
    is_full: Mutex<bool>,
    paused: Held<Vec<Pid>>,
}

/// One `kiroku serve`.
pub struct Server {
    pub name: char,
    pub address: SocketAddr,
    pub proxy: Proxy,
    child: Mutex<Option<Child>>,
    /// Whether it has answered anything since it was started.
    pub answered: AtomicBool,
}

struct Nats {
    address: SocketAddr,
    child: Mutex<Option<Child>>,
}

const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const DISK_BYTES: u64 = 768 << 20;
const START_WITHIN: Duration = Duration::from_secs(60);
/// A server that is asked to stop is gone by then; the product promises 10 s.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// A verification or a rebuild of a few ten thousand events.
const VERIFY_WITHIN: Duration = Duration::from_secs(120);

impl World {
    /// Makes and starts everything.
    pub async fn start(directory: PathBuf, means: Means) -> io::Result<Self> {
        fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
        let run_as = match geteuid().is_root() {
            false => None,
            true => {
                let user = User::from_name("postgres").ok().flatten();
                let user = user.ok_or_else(|| io::Error::other("there is no user `postgres`"))?;
                Some((user.uid.as_raw(), user.gid.as_raw()))
            }
        };
        for name in ["disk", "socket"] {
            fs::create_dir(directory.join(name))?;
        }
        if means.disk {
            mount(&directory).await?;
        }
        for name in ["disk", "socket"] {
            if let Some((uid, gid)) = run_as {
                chown(directory.join(name), Some(uid), Some(gid))?;
            }
        }
        let mut world = Self {
            directory,
            means,
            run_as,
            postgres_port: free_address()?.port(),
            postgres: Mutex::new(None),
            servers: Vec::new(),
            nats: None,
            is_full: Mutex::default(),
            paused: Held::default(),
        };
        world.set_clock(POSTGRES_CLOCK, 0)?;
        world.make_cluster().await?;
        world.start_postgres().await?;
        let mut connection = connect(&world.options("postgres")).await?;
        sqlx::raw_sql("create database kiroku").execute(&mut connection).await.map_err(io::Error::other)?;
        if world.means.nats.is_some() {
            world.nats = Some(Nats { address: free_address()?, child: Mutex::new(None) });
            world.start_nats().await?;
        }
        for name in ('a'..).take(world.means.servers) {
            let server = Server {
                name,
                address: free_address()?,
                proxy: Proxy::start(SocketAddr::from(([127, 0, 0, 1], world.postgres_port))).await?,
                child: Mutex::new(None),
                answered: AtomicBool::new(false),
            };
            world.set_clock(&name.to_string(), 0)?;
            world.servers.push(server);
        }
        for server in &world.servers {
            world.start_server(server).await?;
            // One after the other: the first brings the tables.
            world.until_ready(server).await.map_err(io::Error::other)?;
        }
        Ok(world)
    }

    /// Straight to the database, past the wires that are cut.
    pub fn database(&self) -> PgConnectOptions {
        self.options("kiroku")
    }

    /// Undoes whatever is still broken, and waits until everybody is well.
    pub async fn heal(&self, findings: &mut Findings) {
        self.empty_disk().await;
        for pid in std::mem::take(&mut *self.paused.lock().unwrap_or_else(PoisonError::into_inner)) {
            _ = kill(pid, Signal::SIGCONT);
        }
        let mut clocks: Vec<_> = self.servers.iter().map(|server| server.name.to_string()).collect();
        clocks.push(POSTGRES_CLOCK.to_owned());
        for name in clocks {
            if let Err(error) = self.set_clock(&name, 0) {
                findings.add(format!("the clock of {name} can't be set: {error}"));
            }
        }
        if let Err(error) = self.start_postgres().await {
            return findings.add(format!("PostgreSQL does not come back: {error}"));
        }
        if let Err(error) = self.start_nats().await {
            findings.add(format!("NATS does not come back: {error}"));
        }
        for server in &self.servers {
            server.proxy.set(Wire::Whole);
            if let Some(status) = server.ended().await
                && server.answered.load(Ordering::Relaxed)
            {
                findings.add(format!("server {} ended by itself: {status}", server.name));
            }
            if let Err(error) = self.start_server(server).await {
                findings.add(format!("server {} can't be started: {error}", server.name));
            }
        }
        for server in &self.servers {
            if let Err(why) = self.until_ready(server).await {
                findings.add(why);
            }
            let log = fs::read_to_string(self.log(&server.name.to_string())).unwrap_or_default();
            for panic in log.lines().filter(|line| line.contains("panicked at")) {
                findings.add(format!("server {} has panicked: {panic}", server.name));
            }
        }
    }

    /// What `kiroku verify` finds, if anything.
    pub async fn verify(&self) -> Result<(), String> {
        if !self.means.verify {
            return Ok(());
        }
        let mut command = self.tool("verify");
        let output = match timeout(VERIFY_WITHIN, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("kiroku verify can't be run: {error}")),
            Err(_) => return Err("kiroku verify takes for ever".to_owned()),
        };
        let told =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("kiroku verify: {}\n{told}", output.status))
        }
    }

    /// `kiroku rebuild`, killed after a while if that is given.
    pub async fn rebuild(&self, killed_after: Option<Duration>) -> io::Result<()> {
        let mut command = self.tool("rebuild");
        self.logged(&mut command, "rebuild")?;
        let mut child = command.spawn()?;
        match timeout(killed_after.unwrap_or(VERIFY_WITHIN), child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(ExitStatus::success) => Ok(()),
            Ok(status) => Err(io::Error::other(format!("kiroku rebuild: {}", status?))),
            Err(_) if killed_after.is_some() => child.kill().await,
            Err(_) => Err(io::Error::other("kiroku rebuild takes for ever")),
        }
    }

    /// kill -9 of PostgreSQL: of the first process alone, which its sessions notice in their own time, or
    /// of all of them.
    pub async fn kill_postgres(&self, all: bool) {
        let mut held = self.postgres.lock().await;
        if let Some(mut child) = held.take() {
            kill_family(&mut child, all).await;
        }
    }

    /// The disk of PostgreSQL keeps what has been brought to it, and nothing that was only in memory.
    pub async fn cut_power(&self) -> io::Result<()> {
        let mut held = self.postgres.lock().await;
        let is_full = self.is_full.lock().await;
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.directory.join("disk"))).await?;
        if let Some(mut child) = held.take() {
            kill_family(&mut child, true).await;
        }
        let deadline = Instant::now() + START_WITHIN;
        // What was killed may take a moment to let go.
        while let Err(error) = run(Command::new("umount").arg(self.directory.join("disk"))).await {
            if Instant::now() > deadline {
                return Err(error);
            }
            sleep(POLL_EVERY).await;
        }
        mount_again(&self.directory).await?;
        // That it was emptied may have been in memory only.
        if !*is_full {
            self.remove_fillers();
        }
        Ok(())
    }

    /// Starts PostgreSQL unless it runs, and waits until it answers.
    pub async fn start_postgres(&self) -> io::Result<()> {
        let mut held = self.postgres.lock().await;
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let runs = match &mut *held {
                Some(child) => child.try_wait()?.is_none(),
                None => false,
            };
            if !runs {
                *held = Some(self.spawn_postgres()?);
            }
            let options = self.options("postgres");
            if let Ok(Ok(connection)) = timeout(Duration::from_secs(5), options.connect()).await {
                _ = connection.close().await;
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("see {}", self.log("postgres").display())));
            }
            sleep(POLL_EVERY).await;
        }
    }

    /// Sends a signal to sessions of the servers that are picked by their number.
    pub async fn signal_sessions(&self, picks: &[usize], what: Signal) {
        let Ok(Ok(pids)) = timeout(Duration::from_secs(2), self.sessions()).await else { return };
        if pids.is_empty() {
            return;
        }
        for pick in picks {
            let pid = pids[pick % pids.len()];
            if what == Signal::SIGSTOP {
                self.paused.lock().unwrap_or_else(PoisonError::into_inner).push(Pid::from_raw(pid));
            }
            _ = kill(Pid::from_raw(pid), what);
        }
    }

    /// Continues every session that was stopped.
    pub fn continue_all(&self) {
        for pid in self.paused.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            _ = kill(pid, Signal::SIGCONT);
        }
    }

    /// kill -9 of a server.
    pub async fn kill_server(&self, server: &Server) {
        if let Some(mut child) = server.child.lock().await.take() {
            _ = child.start_kill();
            _ = child.wait().await;
        }
    }

    /// Asks a server to stop. Says what was wrong about how it did.
    pub async fn stop_server(&self, server: &Server) -> Result<(), String> {
        let Some(mut child) = server.child.lock().await.take() else { return Ok(()) };
        if let Some(pid) = child.id() {
            signal(pid, Signal::SIGTERM);
        }
        match timeout(STOP_WITHIN, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("server {} was asked to stop: {status}", server.name)),
            Ok(Err(error)) => Err(format!("server {}: {error}", server.name)),
            Err(_) => Err(format!("server {} does not stop", server.name)),
        }
    }

    /// Starts a server unless it runs.
    pub async fn start_server(&self, server: &Server) -> io::Result<()> {
        let mut held = server.child.lock().await;
        if let Some(child) = &mut *held
            && child.try_wait()?.is_none()
        {
            return Ok(());
        }
        let mut command = Command::new(&self.means.kiroku);
        self.settings(&mut command, server.proxy.address.port());
        command.args(["serve", "--url", URL, "--listen", &server.address.to_string(), "--data-dir"]);
        command.arg(self.directory.join(server.name.to_string()));
        if let Some(nats) = &self.nats {
            command.env("KIROKU_NATS_URL", format!("nats://{}", nats.address));
        }
        self.with_clock(&mut command, &server.name.to_string());
        self.logged(&mut command, &server.name.to_string())?;
        server.answered.store(false, Ordering::Relaxed);
        *held = Some(command.kill_on_drop(true).spawn()?);
        Ok(())
    }

    /// Stops a server where it stands; [`Self::heal`] continues it at the latest.
    pub async fn pause_server(&self, server: &Server) {
        if let Some(pid) = server.child.lock().await.as_ref().and_then(Child::id) {
            self.paused.lock().unwrap_or_else(PoisonError::into_inner).push(Pid::from_raw(pid.cast_signed()));
            signal(pid, Signal::SIGSTOP);
        }
    }

    /// By how many seconds the clock of a server, or that of PostgreSQL, is wrong.
    pub fn set_clock(&self, name: &str, seconds: i64) -> io::Result<()> {
        let clock = self.clock(name);
        // Renamed into place: it is read all the time.
        let new = clock.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))?;
        fs::rename(new, clock)
    }

    pub async fn kill_nats(&self) {
        if let Some(nats) = &self.nats
            && let Some(mut child) = nats.child.lock().await.take()
        {
            _ = child.start_kill();
            _ = child.wait().await;
        }
    }

    /// Starts NATS unless it runs or isn't wanted. What it kept is gone.
    pub async fn start_nats(&self) -> io::Result<()> {
        let (Some(nats), Some(program)) = (&self.nats, &self.means.nats) else { return Ok(()) };
        let mut held = nats.child.lock().await;
        if let Some(child) = &mut *held
            && child.try_wait()?.is_none()
        {
            return Ok(());
        }
        let store = self.directory.join("nats");
        _ = fs::remove_dir_all(&store);
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", &nats.address.port().to_string(), "-js", "-sd"]).arg(store);
        self.logged(&mut command, "nats-server")?;
        *held = Some(command.kill_on_drop(true).spawn()?);
        Ok(())
    }

    /// Takes all that is left on the disk of PostgreSQL.
    pub async fn fill_disk(&self) {
        *self.is_full.lock().await = true;
        let mut bytes = DISK_BYTES.next_power_of_two();
        let mut files = 0;
        while bytes >= 4096 {
            let file = self.directory.join(format!("disk/filler-{files}"));
            files += 1;
            let mut command = Command::new("fallocate");
            command.args(["-l", &bytes.to_string()]).arg(file).stderr(Stdio::null());
            match command.status().await {
                Ok(status) if status.success() => {}
                _ => bytes /= 2,
            }
        }
    }

    pub async fn empty_disk(&self) {
        let mut is_full = self.is_full.lock().await;
        *is_full = false;
        self.remove_fillers();
    }

    fn remove_fillers(&self) {
        let entries = fs::read_dir(self.directory.join("disk")).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("filler-")) {
            _ = fs::remove_file(entry.path());
        }
    }

    /// Ends everything. The directory stays.
    pub async fn end(&self) {
        self.continue_all();
        for server in &self.servers {
            self.kill_server(server).await;
        }
        self.kill_nats().await;
        self.kill_postgres(true).await;
        if self.means.disk {
            unmount(&self.directory).await;
        }
    }

    async fn make_cluster(&self) -> io::Result<()> {
        let mut command = Command::new(self.means.postgres_bin.join("initdb"));
        command.args(["--username=kiroku", "--auth=trust", "--no-sync", "--encoding=UTF8"]);
        command.args(["--locale=C.UTF-8", "-D"]).arg(self.directory.join("disk/cluster"));
        self.as_database_user(&mut command);
        self.logged(&mut command, "initdb")?;
        let status = command.status().await?;
        if !status.success() {
            return Err(io::Error::other(format!("initdb: {status}")));
        }
        // All at once is faster than file by file.
        run(Command::new("sync").arg("--file-system").arg(self.directory.join("disk"))).await
    }

    fn spawn_postgres(&self) -> io::Result<Child> {
        let mut command = Command::new(self.means.postgres_bin.join("postgres"));
        command.arg("-D").arg(self.directory.join("disk/cluster"));
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={}", self.postgres_port),
            &format!("unix_socket_directories={}", self.directory.join("socket").display()),
            "fsync=on",
            "synchronous_commit=on",
            "full_page_writes=on",
            // Else each start after a crash goes through all files one by one.
            "recovery_init_sync_method=syncfs",
            "max_connections=150",
            "shared_buffers=64MB",
            "min_wal_size=32MB",
            "max_wal_size=128MB",
            "jit=off",
            "timezone=UTC",
            "log_timezone=UTC",
            "log_line_prefix=%m [%p] %a ",
        ] {
            command.args(["-c", setting]);
        }
        self.as_database_user(&mut command);
        self.with_clock(&mut command, POSTGRES_CLOCK);
        self.logged(&mut command, "postgres")?;
        command.process_group(0).kill_on_drop(true).spawn()
    }

    fn as_database_user(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/");
        if let Some((uid, gid)) = self.run_as {
            command.uid(uid).gid(gid);
        }
    }

    /// Settings of every `kiroku`.
    fn settings(&self, command: &mut Command, database_port: u16) {
        let url = format!("postgres://kiroku@127.0.0.1:{database_port}/kiroku?sslmode=disable");
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir(&self.directory);
        command.env("KIROKU_DATABASE_URL", url).env("KIROKU_MASTER_KEY", MASTER_KEY);
    }

    /// With a clock that can be set while the process runs.
    fn with_clock(&self, command: &mut Command, name: &str) {
        if let Some(library) = &self.means.faketime {
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", self.clock(name));
            // Elsewhere the file is read once a second; and what measures durations stays right.
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
    }

    fn clock(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.clock"))
    }

    /// A tool beside the servers.
    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(&self.means.kiroku);
        self.settings(&mut command, self.postgres_port);
        command.args([name, "--json", "--url", URL, "--data-dir"]).arg(self.directory.join(name));
        command.kill_on_drop(true);
        command
    }

    fn logged(&self, command: &mut Command, name: &str) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log(name))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.directory.join("socket"))
            .port(self.postgres_port)
            .username("kiroku")
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            .application_name("torture")
            .disable_statement_logging()
    }

    /// Processes of PostgreSQL that serve the servers.
    async fn sessions(&self) -> sqlx::Result<Vec<i32>> {
        let mut connection = self.database().connect().await?;
        sqlx::query_scalar(
            "select pid from pg_stat_activity
              where backend_type = 'client backend' and application_name <> 'torture' order by pid",
        )
        .fetch_all(&mut connection)
        .await
    }

    async fn until_ready(&self, server: &Server) -> Result<(), String> {
        let url = format!("http://{}/readyz", server.address);
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build();
        let http = http.map_err(|error| error.to_string())?;
        let deadline = Instant::now() + WELL_WITHIN;
        let mut told = String::new();
        while Instant::now() < deadline {
            match http.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => told = answer.status().to_string(),
                Err(error) => told = error.to_string(),
            }
            if let Some(status) = server.ended().await {
                told = format!("it ended: {status}");
                // One that could not start while something else was broken.
                self.start_server(server).await.map_err(|error| error.to_string())?;
            }
            sleep(POLL_EVERY).await;
        }
        Err(format!("server {} does not get well: {told}", server.name))
    }

    /// Returns when no append is on its way any more and all read models are at the head of the log.
    pub async fn until_settled(&self) -> Result<(), String> {
        let deadline = Instant::now() + WELL_WITHIN;
        loop {
            let late = match self.unsettled().await {
                Ok(None) => return Ok(()),
                Ok(Some(late)) => late,
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                return Err(format!("it does not settle: {late}"));
            }
            sleep(POLL_EVERY).await;
        }
    }

    async fn unsettled(&self) -> sqlx::Result<Option<String>> {
        let mut connection = self.database().connect().await?;
        sqlx::query_scalar(
            "select coalesce(
                (select 'an append is still running: ' || pid from pg_stat_activity
                  where state <> 'idle' and query like '%append_batch%' and pid <> pg_backend_pid() limit 1),
                (select 'nothing follows the log'
                  where not exists (select from ops.checkpoints)),
                (select format('projector %s is at %s of %s %s', c.projector, c.position, h.head, c.stop_reason)
                   from ops.checkpoints c, (select max(position) as head from log.events) h
                  where c.position < h.head or c.stopped_at is not null limit 1))",
        )
        .fetch_one(&mut connection)
        .await
    }
}

impl Server {
    /// How it ended, if it has, and nobody has asked yet.
    async fn ended(&self) -> Option<ExitStatus> {
        let mut held = self.child.lock().await;
        let status = held.as_mut()?.try_wait().ok().flatten();
        if status.is_some() {
            *held = None;
        }
        status
    }
}

/// Whether a small file system can be mounted here, and whether its power can be cut.
pub async fn can_mount(directory: &Path) -> (bool, bool) {
    let disk = directory.join("disk");
    if !geteuid().is_root() || fs::create_dir(&disk).is_err() {
        return (false, false);
    }
    let mounted = mount(directory).await.is_ok();
    let cut = mounted && run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(disk)).await.is_ok();
    unmount(directory).await;
    (mounted, cut)
}

async fn mount(directory: &Path) -> io::Result<()> {
    let image = directory.join("disk.img");
    File::create(&image)?.set_len(DISK_BYTES)?;
    // No share of it is kept for root.
    run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image)).await?;
    mount_again(directory).await
}

async fn mount_again(directory: &Path) -> io::Result<()> {
    let (image, disk) = (directory.join("disk.img"), directory.join("disk"));
    run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(disk)).await
}

/// Takes the disk of a world away, if there is one.
pub async fn unmount(directory: &Path) {
    _ = run(Command::new("umount").arg("--lazy").arg(directory.join("disk"))).await;
}

async fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

async fn connect(options: &PgConnectOptions) -> io::Result<PgConnection> {
    options.connect().await.map_err(io::Error::other)
}

/// Free a moment ago: nothing here holds it until the server takes it.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// kill -9 of a process, and of those that it has started when `all`.
async fn kill_family(child: &mut Child, all: bool) {
    if let Some(pid) = child.id() {
        let sessions = children(pid);
        signal(pid, Signal::SIGKILL);
        for session in sessions.into_iter().filter(|_| all) {
            signal(session, Signal::SIGKILL);
        }
    }
    _ = child.wait().await;
}

fn signal(pid: u32, what: Signal) {
    _ = kill(Pid::from_raw(pid.cast_signed()), what);
}

/// The processes that a process has started.
fn children(of: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent(*pid) == Some(of)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
