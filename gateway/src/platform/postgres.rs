//! The embedded PostgreSQL: a private cluster under the data directory, made, started, watched and
//! stopped by Kiroku. No TCP, no password: a unix socket in a directory that only its user can enter.
//!
//! PostgreSQL refuses to run as root. Started by root, it runs as the cluster's owner, else as `postgres`
//! or `nobody`, and is handed the cluster as an open directory, since that user may not be allowed to walk
//! the path to it.
//!
//! After `kill -9` of Kiroku the old server is still there; the next start stops it first. After `kill -9`
//! of PostgreSQL the supervisor starts it again, and connection pools reconnect on their own.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::memory::{self, MIB};
use super::shutdown::{Shutdown, Stop};

/// A running embedded PostgreSQL. Stop it with [`Embedded::stop`]: dropping it leaves the server behind,
/// for the next start to find.
pub struct Embedded {
    /// How to connect to Kiroku's database in it. Stays true when the server is started again.
    pub connect_options: PgConnectOptions,
    /// When the server must be gone, once it has to go.
    order: watch::Sender<Option<Instant>>,
    supervisor: JoinHandle<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error(
        "no PostgreSQL {MIN_MAJOR} or newer is installed (looked in /usr/lib/postgresql and PATH); install the package `postgresql`, or set `database_url`"
    )]
    NotInstalled,
    #[error(
        "the database in {cluster} was made by PostgreSQL {made}, and only {found} is installed; install PostgreSQL {made}, or move the data with its pg_dump",
        cluster = .cluster.display()
    )]
    OtherVersion { cluster: PathBuf, made: u32, found: String },
    #[error("PostgreSQL can't run as root, and there is no user `postgres` or `nobody` to run it as")]
    NoUser,
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error("the embedded database can't be created: {0}")]
    Initdb(String),
    #[error("the embedded PostgreSQL does not start; see {log}: {last_line}", log = .log.display())]
    DoesNotStart { log: PathBuf, last_line: String },
    #[error("the embedded PostgreSQL left by an earlier run (process {0}) can't be stopped")]
    Orphan(i32),
    #[error("the embedded database can't be prepared: {0}")]
    Prepare(sqlx::Error),
    #[error("stopped while starting")]
    Interrupted,
}

impl Embedded {
    /// `data_dir` is absolute and locked by this process. `connections`: how many may be open at once.
    pub async fn start(
        data_dir: &Path,
        search_path: &[PathBuf],
        connections: u32,
        shutdown: &Shutdown,
    ) -> Result<Self, PostgresError> {
        let server = tokio::select! {
            server = Server::prepare(data_dir, search_path, connections) => server?,
            _ = shutdown.wait() => return Err(PostgresError::Interrupted),
        };
        let mut child = server.start(shutdown).await?;
        if let Err(error) = server.create_database().await {
            halt(&mut child, Instant::now() + FAST_STOP).await;
            return Err(PostgresError::Prepare(error));
        }
        tracing::info!(socket = %server.socket_dir.path().display(), "the embedded PostgreSQL is up");
        let connect_options = server.connect_options(DATABASE);
        let (order, orders) = watch::channel(None);
        let supervisor = tokio::spawn(supervise(server, child, orders, shutdown.clone()));
        Ok(Self { connect_options, order, supervisor })
    }

    /// Stops the server: politely, then at once, so that it is gone by `by`.
    pub async fn stop(self, by: Instant) {
        self.order.send_replace(Some(by));
        if self.supervisor.await.is_err() {
            tracing::error!("the supervisor of PostgreSQL is gone; its server may still run");
        }
    }
}

/// Whether a data directory has an embedded database.
pub fn is_in(data_dir: &Path) -> bool {
    data_dir.join(CLUSTER_DIRECTORY).join("PG_VERSION").exists()
}

/// How to connect to the embedded database that runs in a data directory, as its `postmaster.pid` says. That
/// of a crash names a directory that anybody may have made again since, so it must be the same owner's.
pub fn running_in(data_dir: &Path) -> Option<PgConnectOptions> {
    let file = data_dir.join(CLUSTER_DIRECTORY).join(PID_FILE);
    let text = fs::read_to_string(&file).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let directory = socket_directory_in(&lines)?;
    let (made, written) = (fs::symlink_metadata(directory).ok()?, fs::metadata(&file).ok()?);
    (made.is_dir() && made.uid() == written.uid()).then(|| connect_options(directory, DATABASE))
}

const CLUSTER_DIRECTORY: &str = "postgres";
const PID_FILE: &str = "postmaster.pid";
const LOG_FILE: &str = "postgres.log";
const SOCKET_PREFIX: &str = "kiroku-";
/// The name of the database and of its superuser.
const DATABASE: &str = "kiroku";
/// Only names the socket file; nothing listens on TCP.
const PORT: u16 = 5432;
const MIN_MAJOR: u32 = 14;
/// Connections beyond those of the pool: projectors and the appender, tools, an operator's psql, and the
/// server's own reserve.
const SPARE_CONNECTIONS: u32 = 120;
/// Unix socket paths end at 107 bytes, and `/.s.PGSQL.5432` comes after the directory.
const MAX_SOCKET_DIRECTORY_BYTES: usize = 90;
/// A larger log is set aside at the next start; one old copy is kept.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;
/// Includes the recovery after a crash.
const START_WITHIN: Duration = Duration::from_secs(120);
/// Of the memory of the machine, or of the container, so many-th part.
const PART_FOR_SHARED_BUFFERS: u64 = 16;
const LEAST_SHARED_BUFFERS: u64 = 128 * MIB;
const MOST_SHARED_BUFFERS: u64 = 4096 * MIB;
const POLL_EVERY: Duration = Duration::from_millis(50);
/// Starts in a row that may fail, at first and when watching.
const MAX_FAILED_STARTS: u32 = 10;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// A server that has run this long has started well.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How long a polite stop may take when nobody says otherwise.
const FAST_STOP: Duration = Duration::from_secs(8);
/// Kept back from a polite stop for the stop at once, which is crash-safe too.
const IMMEDIATE_STOP: Duration = Duration::from_secs(1);
/// The descriptor on which a server of another user finds its cluster.
const HANDED_CLUSTER: &str = "/proc/self/fd/9";
const HAND_CLUSTER: &str = r#"exec 9<&0 </dev/null; exec "$@""#;

struct Server {
    programs: Programs,
    user: Option<RunAs>,
    cluster: PathBuf,
    log: PathBuf,
    /// Removed when the server is stopped for good.
    socket_dir: TempDir,
    connections: u32,
}

#[derive(Debug, Clone)]
struct Programs {
    directory: PathBuf,
    major: u32,
}

#[derive(Debug, Clone, Copy)]
struct RunAs {
    uid: u32,
    gid: u32,
}

impl Server {
    /// Everything before the start: the programs, the end of an earlier run, the cluster, the socket's place.
    async fn prepare(
        data_dir: &Path,
        search_path: &[PathBuf],
        connections: u32,
    ) -> Result<Self, PostgresError> {
        let cluster = data_dir.join(CLUSTER_DIRECTORY);
        let programs = find_programs(search_path, &cluster).await?;
        let user = unprivileged_user(&cluster)?;
        stop_orphan(&cluster).await?;
        if !cluster.exists() {
            create_cluster(&programs, user, data_dir, &cluster).await?;
        }
        let log = data_dir.join(LOG_FILE);
        rotate(&log).map_err(io_error("the log of PostgreSQL can't be rotated"))?;
        let socket_dir = socket_directory(user)?;
        Ok(Self { programs, user, cluster, log, socket_dir, connections })
    }

    /// Starts it and waits until it takes connections. A server that ends at once is tried again: one that
    /// was killed may have left sessions that take a moment to notice.
    async fn start(&self, shutdown: &Shutdown) -> Result<Child, PostgresError> {
        let deadline = Instant::now() + START_WITHIN;
        for failed in 1..=MAX_FAILED_STARTS {
            let mut child = self.spawn().map_err(io_error("PostgreSQL can't be started"))?;
            let ready = tokio::select! {
                ready = self.ready(&mut child, deadline) => ready,
                _ = shutdown.wait() => {
                    halt(&mut child, Instant::now() + IMMEDIATE_STOP).await;
                    return Err(PostgresError::Interrupted);
                }
            };
            match ready {
                Ready::Yes => return Ok(child),
                Ready::Ended => {
                    tokio::time::sleep(backoff(failed)).await;
                    // One that was just being started by a Kiroku that was killed shows itself only now.
                    stop_orphan(&self.cluster).await?;
                }
                Ready::TooLate => {
                    halt(&mut child, Instant::now() + FAST_STOP).await;
                    break;
                }
            }
        }
        Err(PostgresError::DoesNotStart { log: self.log.clone(), last_line: last_line(&self.log) })
    }

    async fn ready(&self, child: &mut Child, deadline: Instant) -> Ready {
        let options = self.connect_options("postgres").disable_statement_logging();
        loop {
            if let Ok(connection) = options.connect().await {
                // Only the close is lost when this fails.
                connection.close().await.ok();
                return Ready::Yes;
            }
            if Instant::now() >= deadline {
                return Ready::TooLate;
            }
            if tokio::time::timeout(POLL_EVERY, child.wait()).await.is_ok() {
                return Ready::Ended;
            }
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log)?;
        let settings = [
            ("listen_addresses", String::new()),
            ("port", PORT.to_string()),
            ("unix_socket_directories", self.socket_dir.path().display().to_string()),
            ("unix_socket_permissions", "0700".to_owned()),
            ("max_connections", (self.connections + SPARE_CONNECTIONS).to_string()),
            ("shared_buffers", format!("{}MB", shared_buffers(memory::allowed()) / MIB)),
            ("max_wal_size", "2GB".to_owned()),
            ("random_page_cost", "1.1".to_owned()),
            ("jit", "off".to_owned()),
            ("fsync", "on".to_owned()),
            ("full_page_writes", "on".to_owned()),
            ("synchronous_commit", "on".to_owned()),
            ("timezone", "UTC".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            ("log_destination", "stderr".to_owned()),
            ("logging_collector", "off".to_owned()),
            ("log_checkpoints", "off".to_owned()),
            // What people wrote stays out of the log: no statements, no values, no rows in error details.
            ("log_statement", "none".to_owned()),
            ("log_min_duration_statement", "-1".to_owned()),
            ("log_min_error_statement", "panic".to_owned()),
            ("log_parameter_max_length_on_error", "0".to_owned()),
            ("log_error_verbosity", "terse".to_owned()),
            // And what was erased doesn't stay in segments that wait to be used again.
            ("wal_recycle", "off".to_owned()),
            ("wal_keep_size", "0".to_owned()),
            ("cluster_name", DATABASE.to_owned()),
        ];
        let settings = settings.iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]);
        let mut command = self.programs.command("postgres", self.user, &self.cluster)?;
        command.args(settings).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C in a terminal is for Kiroku, which then stops PostgreSQL in its turn.
        command.process_group(0).spawn()
    }

    async fn create_database(&self) -> sqlx::Result<()> {
        let mut connection = PgConnection::connect_with(&self.connect_options("postgres")).await?;
        let exists: bool =
            sqlx::query_scalar("select exists (select from pg_catalog.pg_database where datname = $1)")
                .bind(DATABASE)
                .fetch_one(&mut connection)
                .await?;
        if !exists {
            sqlx::query("create database kiroku").execute(&mut connection).await?;
        }
        connection.close().await
    }

    fn connect_options(&self, database: &str) -> PgConnectOptions {
        connect_options(self.socket_dir.path(), database)
    }
}

/// What PostgreSQL may keep of its tables, in bytes. It takes it when there is so much to keep: only the list of it,
/// some 1.5 %, is there from the start.
fn shared_buffers(memory: Option<u64>) -> u64 {
    let part = memory.map_or(LEAST_SHARED_BUFFERS, |memory| memory / PART_FOR_SHARED_BUFFERS);
    part.clamp(LEAST_SHARED_BUFFERS, MOST_SHARED_BUFFERS)
}

fn connect_options(socket_dir: &Path, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(PORT)
        .username(DATABASE)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
        .application_name("kiroku")
}

enum Ready {
    Yes,
    Ended,
    TooLate,
}

/// Keeps the server running until it is ordered to stop; gives up, and stops Kiroku, when it can't.
async fn supervise(
    server: Server,
    mut child: Child,
    mut orders: watch::Receiver<Option<Instant>>,
    shutdown: Shutdown,
) {
    let mut failures = 0;
    let mut started = Instant::now();
    loop {
        tokio::select! {
            by = ordered(&mut orders) => return halt(&mut child, by).await,
            ended = child.wait() => {
                let status = ended.map(|status| status.to_string()).unwrap_or_else(|error| error.to_string());
                tracing::error!(%status, "the embedded PostgreSQL ended by itself");
            }
        }
        if started.elapsed() >= STABLE_AFTER {
            failures = 0;
        }
        child = loop {
            failures += 1;
            if failures > MAX_FAILED_STARTS {
                tracing::error!(log = %server.log.display(), "the embedded PostgreSQL can't be kept running");
                return shutdown.begin(Stop::Failed);
            }
            tokio::select! {
                _ = ordered(&mut orders) => return,
                () = tokio::time::sleep(backoff(failures)) => {}
            }
            match server.spawn() {
                Ok(child) => break child,
                Err(error) => tracing::error!(%error, "the embedded PostgreSQL can't be started"),
            }
        };
        started = Instant::now();
        tracing::info!("the embedded PostgreSQL was started again");
    }
}

async fn ordered(orders: &mut watch::Receiver<Option<Instant>>) -> Instant {
    let by = orders.wait_for(Option::is_some).await.map(|by| by.unwrap_or_else(Instant::now));
    match by {
        Ok(by) => by,
        // The handle was dropped without a stop: the server is left to the next start.
        Err(_) => std::future::pending().await,
    }
}

async fn halt(child: &mut Child, by: Instant) {
    let left = |until: Instant| until.saturating_duration_since(Instant::now());
    let steps = [
        (Signal::SIGINT, left(by).saturating_sub(IMMEDIATE_STOP)),
        (Signal::SIGQUIT, IMMEDIATE_STOP),
        (Signal::SIGKILL, IMMEDIATE_STOP),
    ];
    for (signal, patience) in steps {
        let Some(pid) = child.id().and_then(process) else { return };
        // Fails only when the process has ended, which the wait below sees.
        kill(pid, signal).ok();
        if tokio::time::timeout(patience, child.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(%signal, "the embedded PostgreSQL takes too long to stop");
    }
}

/// A server that an earlier Kiroku could not stop any more.
async fn stop_orphan(cluster: &Path) -> Result<(), PostgresError> {
    let pid_file = cluster.join(PID_FILE);
    let Ok(text) = fs::read_to_string(&pid_file) else { return Ok(()) };
    let lines: Vec<&str> = text.lines().collect();
    let Some(pid) = lines.first().and_then(|line| line.trim().parse().ok()) else { return Ok(()) };
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(directory) if directory == cluster => {}
        Ok(_) => {
            // The number belongs to another process by now, which would make PostgreSQL refuse to start.
            tracing::info!(pid, "removing a stale postmaster.pid");
            return fs::remove_file(&pid_file).map_err(io_error("postmaster.pid can't be removed"));
        }
        // Nobody has the number, or a stranger: PostgreSQL judges that rightly by itself.
        Err(_) => return remove_left_sockets(&lines),
    }
    tracing::warn!(pid, "stopping the embedded PostgreSQL of an earlier run");
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL] {
        kill(Pid::from_raw(pid), signal).ok();
        let deadline = Instant::now() + FAST_STOP;
        while Instant::now() < deadline {
            if fs::read_link(format!("/proc/{pid}/cwd")).is_err() {
                return remove_left_sockets(&lines);
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
    Err(PostgresError::Orphan(pid))
}

/// The fifth line of `postmaster.pid` names it, once the server listens there.
fn socket_directory_in<'f>(pid_file: &[&'f str]) -> Option<&'f Path> {
    pid_file.get(4).map(|line| Path::new(line.trim())).filter(|path| path.is_absolute())
}

/// The directory that the earlier run made for its socket.
fn remove_left_sockets(pid_file: &[&str]) -> Result<(), PostgresError> {
    let is_ours = |name: &OsStr| name.to_string_lossy().starts_with(SOCKET_PREFIX);
    if let Some(directory) =
        socket_directory_in(pid_file).filter(|path| path.file_name().is_some_and(is_ours))
    {
        // It is only litter.
        fs::remove_dir_all(directory).ok();
    }
    Ok(())
}

async fn create_cluster(
    programs: &Programs,
    user: Option<RunAs>,
    data_dir: &Path,
    cluster: &Path,
) -> Result<(), PostgresError> {
    let failed = io_error("the embedded database can't be created");
    for entry in fs::read_dir(data_dir).map_err(failed)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(HALF_MADE_PREFIX) {
            fs::remove_dir_all(entry.path()).map_err(failed)?;
        }
    }
    tracing::info!(cluster = %cluster.display(), "creating the embedded database");
    // Under another name until it is whole, so that a kill in the middle leaves nothing to stumble over.
    let made = tempfile::Builder::new().prefix(HALF_MADE_PREFIX).tempdir_in(data_dir).map_err(failed)?;
    give(made.path(), user).map_err(failed)?;
    let mut initdb = programs.command("initdb", user, made.path()).map_err(failed)?;
    initdb.args(["--username", DATABASE, "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"]);
    initdb.args(["--auth-local=trust", "--auth-host=reject", "--no-instructions"]);
    let output = initdb.process_group(0).kill_on_drop(true).output().await.map_err(failed)?;
    if !output.status.success() {
        return Err(PostgresError::Initdb(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    fs::rename(made.keep(), cluster).map_err(failed)?;
    File::open(data_dir).and_then(|directory| directory.sync_all()).map_err(failed)
}

const HALF_MADE_PREFIX: &str = "postgres.new-";

fn socket_directory(user: Option<RunAs>) -> Result<TempDir, PostgresError> {
    let failed = io_error("a directory for the socket of PostgreSQL can't be made");
    let mut parent = std::env::temp_dir();
    if parent.as_os_str().len() + SOCKET_PREFIX.len() + "123456".len() > MAX_SOCKET_DIRECTORY_BYTES {
        parent = PathBuf::from("/tmp");
    }
    let private = Permissions::from_mode(0o700);
    let directory = tempfile::Builder::new().prefix(SOCKET_PREFIX).permissions(private).tempdir_in(parent);
    let directory = directory.map_err(failed)?;
    give(directory.path(), user).map_err(failed)?;
    Ok(directory)
}

fn give(path: &Path, user: Option<RunAs>) -> io::Result<()> {
    match user {
        Some(RunAs { uid, gid }) => chown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// Whom to run PostgreSQL as: ourselves, unless we are root.
fn unprivileged_user(cluster: &Path) -> Result<Option<RunAs>, PostgresError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    if let Ok(owner) = cluster.metadata()
        && owner.uid() != 0
    {
        return Ok(Some(RunAs { uid: owner.uid(), gid: owner.gid() }));
    }
    let known = |name| User::from_name(name).ok().flatten();
    let user = known("postgres").or_else(|| known("nobody")).ok_or(PostgresError::NoUser)?;
    Ok(Some(RunAs { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
}

/// The programs of the version that made the cluster, or of the newest one for a new cluster.
async fn find_programs(search_path: &[PathBuf], cluster: &Path) -> Result<Programs, PostgresError> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let directories = debian.map(|entry| entry.path().join("bin")).chain(search_path.iter().cloned());
    let mut found = Vec::new();
    for directory in directories {
        if directory.join("initdb").is_file()
            && let Some(major) = major_version(&directory.join("postgres")).await
            && major >= MIN_MAJOR
        {
            found.push(Programs { directory, major });
        }
    }
    let made = match fs::read_to_string(cluster.join("PG_VERSION")) {
        Ok(text) => text.trim().parse().ok(),
        Err(_) => None,
    };
    choose(found, made, cluster)
}

fn choose(found: Vec<Programs>, made: Option<u32>, cluster: &Path) -> Result<Programs, PostgresError> {
    // The last of equals wins, and distributions' own directories come first.
    let newest =
        found.iter().rev().max_by_key(|programs| programs.major).ok_or(PostgresError::NotInstalled)?;
    let Some(made) = made else { return Ok(newest.clone()) };
    found.iter().find(|programs| programs.major == made).cloned().ok_or_else(|| {
        let found: Vec<String> = found.iter().map(|programs| programs.major.to_string()).collect();
        PostgresError::OtherVersion { cluster: cluster.to_owned(), made, found: found.join(", ") }
    })
}

async fn major_version(postgres: &Path) -> Option<u32> {
    let output = Command::new(postgres).arg("--version").output().await.ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// From a line like `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn parse_version(line: &str) -> Option<u32> {
    let (_, version) = line.split_once("(PostgreSQL) ")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

impl Programs {
    /// `program -D cluster`, as `user`, with none of our environment: it holds secrets.
    fn command(&self, program: &str, user: Option<RunAs>, cluster: &Path) -> io::Result<Command> {
        let program = self.directory.join(program);
        let mut command = match user {
            None => {
                let mut command = Command::new(program);
                command.stdin(Stdio::null()).arg("-D").arg(cluster);
                command
            }
            Some(RunAs { uid, gid }) => {
                let mut command = Command::new("/bin/sh");
                let script = [OsString::from("-c"), HAND_CLUSTER.into(), "sh".into(), program.into()];
                command.args(script).args(["-D", HANDED_CLUSTER]).stdin(File::open(cluster)?);
                command.uid(uid).gid(gid);
                command
            }
        };
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        command.current_dir("/");
        Ok(command)
    }
}

fn process(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().map(Pid::from_raw)
}

fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << failures.clamp(1, 16).saturating_sub(1)).min(MAX_BACKOFF)
}

fn rotate(log: &Path) -> io::Result<()> {
    match log.metadata() {
        Ok(metadata) if metadata.len() > MAX_LOG_BYTES => fs::rename(log, log.with_extension("log.1")),
        _ => Ok(()),
    }
}

fn last_line(log: &Path) -> String {
    const TAIL_BYTES: u64 = 1024;
    let tail = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = tail().unwrap_or_default();
    text.lines().next_back().unwrap_or("it says nothing").to_owned()
}

fn io_error(what: &'static str) -> impl Fn(io::Error) -> PostgresError + Copy {
    move |source| PostgresError::Io { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(majors: &[u32]) -> Vec<Programs> {
        majors.iter().map(|&major| Programs { directory: PathBuf::from(major.to_string()), major }).collect()
    }

    #[test]
    fn its_memory_is_a_part_of_what_there_is() {
        let mebibytes = |memory: Option<u64>| shared_buffers(memory.map(|memory| memory * MIB)) / MIB;
        let asked = [None, Some(512), Some(8_192), Some(1 << 20)];
        assert_eq!(asked.map(mebibytes), [128, 128, 512, 4_096]);
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_version("something else 1.2"), None);
    }

    #[test]
    fn a_new_cluster_takes_the_newest_and_an_old_one_its_own() {
        let chosen = |found: &[u32], made| choose(programs(found), made, Path::new("/c"));
        assert_eq!(chosen(&[15, 17, 16], None).unwrap().major, 17);
        assert_eq!(chosen(&[15, 17], Some(15)).unwrap().major, 15);
        assert!(matches!(chosen(&[], Some(15)), Err(PostgresError::NotInstalled)));
        let refusal = chosen(&[16, 17], Some(15)).unwrap_err().to_string();
        assert!(refusal.contains("made by PostgreSQL 15, and only 16, 17 is installed"), "{refusal}");
    }

    #[test]
    fn backoff_grows_to_a_bound() {
        assert_eq!(backoff(1), FIRST_BACKOFF);
        assert_eq!(backoff(3), FIRST_BACKOFF * 4);
        assert_eq!(backoff(u32::MAX), MAX_BACKOFF);
    }

    #[tokio::test]
    async fn a_pid_file_with_a_recycled_number_is_removed() {
        let cluster = tempfile::tempdir().unwrap();
        let pid_file = cluster.path().join("postmaster.pid");
        fs::write(&pid_file, format!("{}\n", std::process::id())).unwrap();
        stop_orphan(cluster.path()).await.unwrap();
        assert!(!pid_file.exists());
    }

    /// Starts, survives the loss of its server, and stops: for real, with the PostgreSQL of this machine.
    #[tokio::test]
    async fn a_killed_server_is_started_again_and_a_stop_leaves_none() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().canonicalize().unwrap();
        let shutdown = Shutdown::default();
        let search_path: Vec<PathBuf> = Vec::new();
        let embedded = Embedded::start(&data_dir, &search_path, 5, &shutdown).await.unwrap();
        let socket = embedded.connect_options.get_socket().unwrap().clone();
        assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o700);

        let pid_file = data_dir.join(CLUSTER_DIRECTORY).join("postmaster.pid");
        let pid = || fs::read_to_string(&pid_file).ok()?.lines().next()?.parse::<i32>().ok();
        let first = pid().unwrap();
        kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let answer: i32 = loop {
            assert!(Instant::now() < deadline, "PostgreSQL did not come back");
            if pid() != Some(first)
                && let Ok(mut connection) = PgConnection::connect_with(&embedded.connect_options).await
            {
                break sqlx::query_scalar("select 1").fetch_one(&mut connection).await.unwrap();
            }
            tokio::time::sleep(POLL_EVERY).await;
        };
        assert_eq!(answer, 1);
        let second = pid().unwrap();
        embedded.stop(Instant::now() + FAST_STOP).await;
        assert!(fs::read_link(format!("/proc/{second}/cwd")).is_err(), "the server still runs");
        assert!(!socket.exists() && !pid_file.exists());
        assert_eq!(shutdown.begun(), None);
    }
}
