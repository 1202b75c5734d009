//! Several writers on one PostgreSQL log: who may write, and what a writer that hangs or loses its
//! connection does to the others.

use std::sync::atomic::AtomicUsize;

use commands::log::{Engine as _, WRITER_LEASE, check};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{Mutex, mpsc, watch};

use super::*;

/// How long a batch may wait for somebody who holds the log and does nothing.
const HELD_UP_AT_MOST: Duration = Duration::from_secs(20);

pub async fn two_writers_share_a_log(engine: Engine) {
    const APPENDS: u64 = 100;
    let logs = [engine.open().await, engine.open().await];
    let reader = engine.open().await;
    let write = |writer: u64, n: u64| {
        let log = logs[writer as usize % 2].clone();
        async move { append(&log, writer, Version(n), "shared").await.unwrap().0 }
    };
    let follow = async |after: u64| {
        let page = reader.after(Position(after), 7).await.unwrap();
        page.into_iter().map(|recorded| recorded.position.0).collect()
    };
    assert_eq!(missed(APPENDS, write, follow).await, 0);
    let checked = check(&*reader, &engine.keyring, &|_| ()).await.unwrap();
    assert_eq!((checked.faults, checked.events), (vec![], APPENDS * WRITERS));
    // Both write one stream, at the version they saw: each append is there once.
    let contend = logs.iter().map(|log| async move {
        let mut mine = 0;
        while mine < 50 {
            let (_, version) = log.stream(&stream(99)).await.unwrap();
            match append(log, 99, version, "contended").await {
                Ok(_) => mine += 1,
                Err(AppendError::Conflict { .. }) => (),
                Err(other) => panic!("{other}"),
            }
        }
    });
    join_all(contend).await;
    assert_eq!(reader.stream(&stream(99)).await.unwrap().1, Version(100));
}

pub async fn a_reader_that_trusts_bare_sequence_numbers_is_caught(engine: Engine) {
    engine.run("create table naive (id bigserial primary key)").await;
    let options = PgConnectOptions::clone(&engine.pool().connect_options());
    let pool = &PgPoolOptions::new().max_connections(WRITERS as u32 + 1).connect_with(options).await.unwrap();
    let numbered = async || {
        let mut tx = pool.begin().await.unwrap();
        let id = sqlx::query_scalar("insert into naive default values returning id");
        let id: i64 = id.fetch_one(&mut *tx).await.unwrap();
        (tx, id as u64)
    };
    // The first number is taken before all others, and committed when the reader has gone past it.
    let (first, reached) = (Mutex::new(Some(numbered().await)), watch::Sender::new(0));
    let write = async |writer: u64, _| {
        let mine = first.lock().await.take_if(|_| writer == 0);
        let is_overtaken = mine.is_some();
        let (tx, id) = match mine {
            Some(mine) => mine,
            None => numbered().await,
        };
        if is_overtaken {
            reached.subscribe().wait_for(|reached| *reached > id).await.unwrap();
        }
        tx.commit().await.unwrap();
        id
    };
    let follow = async |after: u64| {
        reached.send_replace(after);
        let page = sqlx::query_scalar("select id from naive where id > $1 order by id limit 1000");
        let page: Vec<i64> = page.bind(after as i64).fetch_all(pool).await.unwrap();
        page.into_iter().map(|id| id as u64).collect()
    };
    let missed = missed(100, write, follow).await;
    assert!(missed > 0, "the checker has no teeth");
}

pub async fn a_silent_writer_is_fenced_and_joins_again(engine: Engine) {
    let silent = engine.open().await;
    append(&silent, 1, Version::NONE, "before").await.unwrap();
    let first = engine.writers().await;
    assert_eq!(first.len(), 1);
    // Another process finds that it has said nothing for longer than its lease.
    let other = engine.open().await;
    engine.silence(first[0]).await;
    let refused = append(&silent, 1, Version(1), "while away").await;
    assert!(matches!(refused, Err(AppendError::Fenced)), "{refused:?}");
    append(&silent, 1, Version(1), "back").await.unwrap();
    append(&other, 1, Version(2), "beside").await.unwrap();
    let now = engine.writers().await;
    assert_eq!(now.len(), 2);
    assert!(!now.contains(&first[0]));
    assert_eq!(other.stream(&stream(1)).await.unwrap().1, Version(3));
}

pub async fn a_writer_says_that_it_is_there(engine: Engine) {
    let _log = engine.open().await;
    let [writer] = engine.writers().await[..] else { panic!("not one writer") };
    engine.run("update log.writers set seen_at = seen_at - interval '10 seconds'").await;
    let fresh = "select seen_at > clock_timestamp() - interval '5 seconds' from log.writers where epoch = $1";
    until(async || sqlx::query_scalar(fresh).bind(writer).fetch_one(engine.pool()).await.unwrap()).await;
    // And removes one that has died.
    engine.run("insert into log.writers (seen_at) values (now() - interval '1 hour')").await;
    engine.run("insert into log.writers (seen_at) values (now() + interval '1 hour')").await;
    until(async || engine.writers().await == [writer]).await;
}

pub async fn a_writer_that_leaves_is_gone(engine: Engine) {
    let log = engine.postgres(Takeover::Shared).await.unwrap();
    let other = engine.open().await;
    assert_eq!(engine.writers().await.len(), 2);
    log.close().await.unwrap();
    assert_eq!(engine.writers().await.len(), 1);
    let late = log.append(&stream(1), Version::NONE, &by(None), vec![named(1, "late")]).await;
    assert!(matches!(late, Err(AppendError::Fenced)), "{late:?}");
    assert_eq!(engine.writers().await.len(), 1, "it does not come back");
    drop(other);
    until(async || engine.writers().await.is_empty()).await;
}

pub async fn nobody_joins_while_a_sole_writer_is_there(engine: Engine) {
    let before = engine.open().await;
    let sole = engine.postgres(Takeover::Sole).await.unwrap();
    for takeover in [Takeover::Shared, Takeover::Sole] {
        let Err(LogError::Unavailable(reason)) = engine.postgres(takeover).await else { panic!("it joined") };
        assert!(reason.contains("for itself"), "{reason}");
    }
    for _ in 0..2 {
        let refused = append(&before, 1, Version::NONE, "before").await;
        assert!(matches!(refused, Err(AppendError::Fenced)), "{refused:?}");
    }
    sole.append(&stream(1), Version::NONE, &by(None), vec![named(1, "alone")]).await.unwrap();
    sole.close().await.unwrap();
    let refused = append(&before, 1, Version(1), "before").await;
    assert!(matches!(refused, Err(AppendError::Fenced)), "{refused:?}");
    append(&before, 1, Version(1), "joined again").await.unwrap();
    engine.postgres(Takeover::Shared).await.unwrap();

    // One that has died is waited for no longer than its lease, and is never let in again.
    let dead = engine.postgres(Takeover::Sole).await.unwrap();
    let [epoch] = engine.writers().await[..] else { panic!("not one writer") };
    engine.silence(epoch).await;
    let next = engine.postgres(Takeover::Sole).await.unwrap();
    for _ in 0..2 {
        let refused = dead.append(&stream(2), Version::NONE, &by(None), vec![named(2, "dead")]).await;
        assert!(matches!(refused, Err(AppendError::Fenced)), "{refused:?}");
    }
    drop(next);
}

pub async fn a_session_that_holds_the_log_and_does_nothing_is_ended(engine: Engine) {
    let log = engine.open().await;
    append(&log, 1, Version::NONE, "before").await.unwrap();
    let mut stuck = engine.pool().begin().await.unwrap();
    sqlx::query("select log.lock_appends()").execute(&mut *stuck).await.unwrap();
    let started = Instant::now();
    append(&log, 1, Version(1), "in spite of it").await.unwrap();
    assert!(started.elapsed() < HELD_UP_AT_MOST, "{:?}", started.elapsed());
    assert!(stuck.commit().await.is_err(), "it was ended");
    assert_eq!(log.stream(&stream(1)).await.unwrap().1, Version(2));
}

pub async fn an_answer_lost_after_the_commit_loses_and_doubles_nothing(engine: Engine) {
    const ROUNDS: u64 = 10;
    let proxy = Proxy::start(engine.pool()).await;
    let pool = PgPoolOptions::new().connect_with(proxy.options(engine.pool())).await.unwrap();
    let log = PostgresLog::open(pool, engine.keyring.clone(), Takeover::Shared).await.unwrap();
    let log: Log = Arc::new(log);
    append(&log, 1, Version::NONE, "a key is made").await.unwrap();
    for n in 1..=ROUNDS {
        // The server's next answers are swallowed, and their connections cut.
        proxy.swallow.store(1, Ordering::SeqCst);
        let position = append(&log, 1, Version(n), "once").await.unwrap();
        assert_eq!(position, Position(n + 1));
    }
    assert!(proxy.cut.load(Ordering::SeqCst) >= ROUNDS as usize / 2, "hardly any answer was lost");
    let (events, version) = log.stream(&stream(1)).await.unwrap();
    assert_eq!((events.len() as u64, version), (ROUNDS + 1, Version(ROUNDS + 1)));
    let checked = check(&*log, &engine.keyring, &|_| ()).await.unwrap();
    assert_eq!((checked.faults, checked.appends), (vec![], ROUNDS + 1));
}

/// Between a log and its PostgreSQL; swallows answers and cuts their connections when told to.
struct Proxy {
    directory: tempfile::TempDir,
    swallow: Arc<AtomicUsize>,
    cut: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(pool: &PgPool) -> Self {
        let options = pool.connect_options();
        let socket_name = format!(".s.PGSQL.{}", options.get_port());
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join(&socket_name)).unwrap();
        let (swallow, cut) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let told = (swallow.clone(), cut.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let told = told.clone();
                match options.get_socket() {
                    Some(at) => {
                        let server = UnixStream::connect(at.join(&socket_name)).await.unwrap();
                        tokio::spawn(pass(client, server, told));
                    }
                    None => {
                        let server =
                            TcpStream::connect((options.get_host(), options.get_port())).await.unwrap();
                        tokio::spawn(pass(client, server, told));
                    }
                }
            }
        });
        Self { directory, swallow, cut }
    }

    fn options(&self, pool: &PgPool) -> PgConnectOptions {
        PgConnectOptions::clone(&pool.connect_options()).socket(self.directory.path())
    }
}

async fn pass(
    client: UnixStream,
    server: impl AsyncRead + AsyncWrite,
    (swallow, cut): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let asking = tokio::io::copy(&mut from_client, &mut to_server);
    let answering = async {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let read = from_server.read(&mut bytes).await?;
            let is_told =
                swallow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            if is_told {
                cut.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            if read == 0 {
                return Ok::<(), std::io::Error>(());
            }
            to_client.write_all(&bytes[..read]).await?;
        }
    };
    tokio::select! {
        _ = asking => (),
        _ = answering => (),
    }
}

// The completeness of what a follower sees.

const WRITERS: u64 = 16;

/// Lets 16 writers append at once while a follower follows, then counts what was acknowledged and the
/// follower never saw. `write` returns the number that its entry got, `follow` the numbers after one, in
/// order. Any log and any way of following it can be held against this.
pub async fn missed<W: Future<Output = u64>>(
    each: u64,
    write: impl Fn(u64, u64) -> W,
    follow: impl AsyncFn(u64) -> Vec<u64>,
) -> usize {
    let (told, mut acknowledged) = mpsc::unbounded_channel();
    let writing = async {
        let writers = (0..WRITERS).map(async |writer| {
            for n in 0..each {
                told.send(write(writer, n).await).unwrap();
            }
        });
        join_all(writers).await;
        drop(told);
    };
    let following = async {
        let mut seen = std::collections::HashSet::new();
        let (mut at, mut written) = (0, Vec::new());
        loop {
            // Asked before: a page that was empty after the last acknowledgement is the end.
            let is_over = acknowledged.is_closed();
            while let Ok(number) = acknowledged.try_recv() {
                written.push(number);
            }
            let page = follow(at).await;
            if page.is_empty() && is_over {
                return written.into_iter().filter(|number| !seen.contains(number)).count();
            }
            at = page.last().copied().unwrap_or(at);
            seen.extend(page);
        }
    };
    let ((), missed) = join(writing, following).await;
    missed
}

/// Waits for what must become true.
async fn until(is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "it never came true");
        tokio::task::yield_now().await;
    }
}

impl Engine {
    async fn postgres(&self, takeover: Takeover) -> Result<PostgresLog, LogError> {
        PostgresLog::open(self.pool().clone(), self.keyring.clone(), takeover).await
    }

    async fn writers(&self) -> Vec<i64> {
        sqlx::query_scalar("select epoch from log.writers order by epoch")
            .fetch_all(self.pool())
            .await
            .unwrap()
    }

    /// Removes a writer as if it had been silent.
    async fn silence(&self, epoch: i64) {
        let mut tx = self.pool().begin().await.unwrap();
        sqlx::query("update log.writers set seen_at = seen_at - interval '1 hour' where epoch = $1")
            .bind(epoch)
            .execute(&mut *tx)
            .await
            .unwrap();
        sqlx::query("select log.remove_silent_writers(make_interval(secs => $1))")
            .bind(WRITER_LEASE.as_secs_f64())
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
}
