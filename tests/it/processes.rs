//! Several processes on one database are one server: who posts through one is read through another, heard on
//! a third, counted and signed out on all; and who projects may go at any time.
//!
//! Runs `kiroku` from the target directory of the running test, as `process.rs` does.

use std::fs::File;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::harness::{Answer, Database, PASSWORD, answer, with_form};

/// The address of the server, wherever its processes listen.
const URL: &str = "http://kiroku.example";
const MASTER_KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";
/// Of each process, beside those that its projectors hold.
const POOL_CONNECTIONS: &str = "5";
/// Longer than any step takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(10);
/// How long a standby may take until what is written is read again.
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(2);
/// Who is put into lists, and into how many.
const PEOPLE: usize = 12;
const LISTS: usize = 4;
/// What each of two processes writes of one person.
const WRITES: usize = 15;

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_are_one_server() {
    let cluster = Cluster::new().await;
    let first = cluster.start("projector").await;
    let (a, b, stream, second) = tokio::join!(
        cluster.start("api"),
        cluster.start("api"),
        cluster.start("stream"),
        cluster.start("projector"),
    );
    let root = a.sign_up("root").await;
    a.ok(&root, "admin/update-meta", json!({ "disableRegistration": false })).await;
    let alice = a.sign_up("alice").await;
    b.eventually("alice is known", async || {
        let shown = b.call(None, "users/show", json!({ "username": "alice" })).await;
        (shown.status == 200).then_some(())
    })
    .await;
    assert_eq!(b.sign_in("alice").await, alice, "one token on all processes");

    let mut heard = Stream::open(&stream, &alice.token, "homeTimeline").await;
    read_elsewhere(&a, &b, &alice, &mut heard).await;
    limits_are_shared(&a, &b, &alice).await;
    who_is_here_is_known_everywhere(&a, &b).await;

    let lifted = json!({ "policies": { "rateLimitFactor": 0 } });
    a.ok(&root, "admin/roles/update-default-policies", lifted).await;
    nothing_is_lost_between_two_writers(&cluster, &a, &b, &alice, &mut heard).await;
    nobody_follows_who_blocks_them(&a, &b, &root, &alice).await;
    an_ended_token_ends_everywhere(&cluster, &a, &b, &stream, &root, &alice).await;
    for process in [first, second, a, b, stream] {
        process.stop().await;
    }
}

/// What was answered with 204 is done once, whatever becomes of the process that answered.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_promised_the_next_one_does() {
    let cluster = Cluster::new().await;
    let projector = cluster.start("projector").await;
    let mut first = cluster.start("api").await;
    let root = first.sign_up("root").await;
    first.ok(&root, "admin/update-meta", json!({ "disableRegistration": false })).await;
    let lifted = json!({ "policies": { "rateLimitFactor": 0 } });
    first.ok(&root, "admin/roles/update-default-policies", lifted).await;
    let (alice, bob) = (first.sign_up("alice").await, first.sign_up("bob").await);
    let mut lists = String::new();
    for n in 0..PEOPLE {
        first.sign_up(&format!("person{n}")).await;
        lists += &format!("list {},person{n}@kiroku.example\n", n % LISTS);
    }
    let begun = async || (cluster.jobs("holder is not null").await == 1).then_some(());
    let none_left = async || (cluster.jobs("true").await == 0).then_some(());

    // It dies in the middle of one export, with another waiting.
    let held = cluster.hold("read.follows").await;
    first.ok(&alice, "i/export-following", json!({})).await;
    first.eventually("the export is begun", begun).await;
    first.ok(&bob, "i/export-notes", json!({})).await;
    first.signal(Signal::SIGKILL);
    first.until_ended().await;
    held.rollback().await.unwrap();
    assert_eq!(cluster.jobs("true").await, 2);
    let mut second = cluster.start("api").await;
    second.eventually("what the first one promised is done", none_left).await;
    for (person, entity) in [(&alice, "following"), (&bob, "note")] {
        let told = second.ok(person, "i/notifications", json!({})).await;
        let exports = told.as_array().unwrap().iter().filter(|told| told["type"] == "exportCompleted");
        let exports: Vec<_> = exports.map(|told| told["exportedEntity"].clone()).collect();
        assert_eq!(exports, [entity]);
    }

    // It is stopped in the middle of one: that is there for the next at once. Who is gone is promised nothing.
    let held = cluster.hold("read.follows").await;
    second.ok(&alice, "i/export-following", json!({})).await;
    second.eventually("the export is begun", begun).await;
    second.ok(&bob, "i/export-notes", json!({})).await;
    second.ok(&bob, "i/delete-account", json!({ "password": PASSWORD })).await;
    assert_eq!(cluster.jobs("true").await, 1);
    second.signal(Signal::SIGTERM);
    second.until_ended().await;
    held.rollback().await.unwrap();
    assert_eq!(cluster.jobs("holder is null and due_at <= now()").await, 1);

    // They die at any time.
    let mut promised = 3;
    for round in 0..4 {
        let mut process = cluster.start("api").await;
        if round == 0 {
            let file = process.upload(&alice, "lists.csv", &lists).await;
            process.ok(&alice, "i/import-user-lists", json!({ "fileId": file })).await;
            let antenna = |n| json!({ "name": format!("antenna {n}"), "src": "all", "keywords": [["word"]] });
            let antennas = json!((0..LISTS).map(antenna).collect::<Vec<_>>()).to_string();
            let file = process.upload(&alice, "antennas.json", &antennas).await;
            process.ok(&alice, "i/import-antennas", json!({ "fileId": file })).await;
        }
        for path in ["i/export-notes", "i/export-user-lists"] {
            process.ok(&alice, path, json!({})).await;
            promised += 1;
        }
        sleep(Duration::from_millis(40 * round)).await;
        process.signal(Signal::SIGKILL);
        process.until_ended().await;
    }
    let last = cluster.start("api").await;
    last.eventually("all that was promised is done", none_left).await;
    assert_eq!(cluster.happened("export.completed").await, promised);
    assert_eq!(cluster.happened("drive.file_added").await, promised + 2);
    for (kind, times) in [("list.created", LISTS), ("list.member_added", PEOPLE), ("antenna.created", LISTS)]
    {
        assert_eq!(cluster.happened(kind).await, times as i64, "{kind}");
    }
    for process in [projector, last] {
        process.stop().await;
    }
}

/// What is posted through one is read through the other, and heard once on a third.
async fn read_elsewhere(a: &Process, b: &Process, alice: &User, heard: &mut Stream) {
    let mut slowest = Duration::ZERO;
    for n in 0..10 {
        let (here, there) = if n % 2 == 0 { (a, b) } else { (b, a) };
        let note = here.note(alice, &format!("note {n}")).await;
        let answered = Instant::now();
        there.until_shown(alice, &note).await;
        slowest = slowest.max(answered.elapsed());
        assert_eq!(heard.next_note().await, format!("note {n}"));
    }
    println!("read through another process after {slowest:?} at most");
}

/// Ten calls in an hour are ten on both together.
async fn limits_are_shared(a: &Process, b: &Process, alice: &User) {
    let mut refused = Vec::new();
    for n in 0..14 {
        let process = if n % 2 == 0 { a } else { b };
        let answer = process.call(Some(alice), "following/update-all", json!({ "withReplies": false })).await;
        match answer.status {
            204 => assert!(n < 10, "call {n} passed"),
            429 => {
                assert!(n >= 10, "call {n} was refused");
                let info = &answer.body["error"]["info"];
                assert_eq!((&info["total"], &info["remaining"]), (&json!(10), &json!(0)));
                refused.push(info["resetMs"].as_i64().unwrap());
            }
            other => panic!("{other}: {}", answer.body),
        }
    }
    assert!(refused.is_sorted(), "{refused:?}");
}

/// A stream that is open on one process makes its person present on the others.
async fn who_is_here_is_known_everywhere(a: &Process, b: &Process) {
    for process in [a, b] {
        process
            .eventually("somebody is here", async || {
                let online = process.call(None, "get-online-users-count", json!({})).await;
                (online.body["count"] == 1).then_some(())
            })
            .await;
    }
}

/// Two processes write the stream of one person, and many notes of theirs, at the same time.
async fn nothing_is_lost_between_two_writers(
    cluster: &Cluster,
    a: &Process,
    b: &Process,
    alice: &User,
    heard: &mut Stream,
) {
    let changes = |process: &'static str| (0..WRITES).map(move |n| format!("{process}{n}"));
    let changes_by = async |process: &Process, name| {
        for text in changes(name) {
            process.ok(alice, "i/update", json!({ "description": text })).await;
        }
    };
    let notes_by = async |process: &Process, name| {
        for text in changes(name) {
            process.note(alice, &text).await;
        }
    };
    tokio::join!(changes_by(a, "a"), changes_by(b, "b"), notes_by(a, "a"), notes_by(b, "b"));
    let (written, distinct): (i64, i64) = cluster
        .count(
            "select count(*), count(distinct version) from log.events e
              where kind = 'user.changed' and stream = (select stream from log.events
                                                         where kind = 'user.changed' limit 1)",
        )
        .await;
    assert_eq!((written, distinct), (2 * WRITES as i64, 2 * WRITES as i64));

    let mut told: Vec<String> = Vec::new();
    for _ in 0..2 * WRITES {
        told.push(heard.next_note().await);
    }
    told.sort_unstable();
    let mut expected: Vec<String> = changes("a").chain(changes("b")).collect();
    expected.sort_unstable();
    assert_eq!(told, expected, "each once");
    for process in [a, b] {
        let count = 10 + 2 * WRITES;
        process
            .eventually("all notes are counted", async || {
                let shown = process.ok(alice, "users/show", json!({ "username": "alice" })).await;
                (shown["notesCount"] == count).then_some(())
            })
            .await;
    }
}

/// A block through one process and a following through the other: whoever is faster, both never stand.
async fn nobody_follows_who_blocks_them(a: &Process, b: &Process, root: &User, alice: &User) {
    let id = async |user: &User| json!({ "userId": a.ok(user, "i", json!({})).await["id"] });
    let (of_root, of_alice) = (id(root).await, id(alice).await);
    for _ in 0..WRITES {
        let (blocked, followed) = tokio::join!(
            a.call(Some(alice), "blocking/create", of_root.clone()),
            b.call(Some(root), "following/create", of_alice.clone()),
        );
        assert_eq!(blocked.status, 200, "{blocked:?}");
        assert!(followed.status == 200 || followed.body["error"]["code"] == "BLOCKED", "{followed:?}");
        b.eventually("the block stands alone", async || {
            let relation = b.ok(root, "users/relation", of_alice.clone()).await;
            (relation[0]["isBlocked"] == true && relation[0]["isFollowing"] == false).then_some(())
        })
        .await;
        let late = b.call(Some(root), "following/create", of_alice.clone()).await;
        assert_eq!(late.body["error"]["code"], "BLOCKED", "{late:?}");
        a.ok(alice, "blocking/delete", of_root.clone()).await;
    }
}

/// A token that has ended is refused by every process, and its streams end.
async fn an_ended_token_ends_everywhere(
    cluster: &Cluster,
    a: &Process,
    b: &Process,
    stream: &Process,
    root: &User,
    alice: &User,
) {
    let granted = a.ok(alice, "miauth/gen-token", json!({ "session": null, "permission": ["read:account"] }));
    let app = User { token: granted.await["token"].as_str().unwrap().to_owned() };
    let mut by_app = Stream::open(stream, &app.token, "main").await;
    for process in [a, b] {
        process.ok(&app, "i", json!({})).await;
    }
    let revoked = Instant::now();
    cluster.run("delete from ops.app_tokens").await;
    for process in [a, b] {
        process.until_refused(&app).await;
    }
    println!("a revoked token is refused everywhere after {:?}", revoked.elapsed());
    by_app.until_signed_out().await;

    let mut main = Stream::open(stream, &alice.token, "main").await;
    a.ok(alice, "i/regenerate-token", json!({ "password": PASSWORD })).await;
    b.until_refused(alice).await;
    main.until_event("myTokenRegenerated").await;
    main.until_signed_out().await;
    assert_eq!(a.call(Some(alice), "i", json!({})).await.status, 401);
    b.ok(root, "i", json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_who_dies_or_hangs() {
    let cluster = Cluster::new().await;
    let mut active = cluster.start("projector").await;
    let api = cluster.start("api").await;
    let mut standby = cluster.start("projector").await;
    let root = api.sign_up("root").await;
    let mut written = vec![api.note(&root, "before").await];
    api.until_shown(&root, &written[0]).await;

    for how in [Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGSTOP] {
        active.signal(how);
        let began = Instant::now();
        let note = api.note(&root, how.as_str()).await;
        api.until_shown(&root, &note).await;
        let took = began.elapsed();
        println!("after {how}: read again after {took:?}");
        assert!(took < TAKES_OVER_WITHIN, "{how}: {took:?}");
        written.push(note);
        match how {
            Signal::SIGKILL => active.until_ended().await,
            _ => active.signal(Signal::SIGCONT),
        }
        for n in 0..5 {
            written.push(api.note(&root, &format!("{how} {n}")).await);
        }
        std::mem::swap(&mut active, &mut standby);
        if how == Signal::SIGKILL {
            standby = cluster.start("projector").await;
        }
    }
    written.reverse();
    let timeline = api
        .eventually("all is shown", async || {
            let timeline = api.ok(&root, "notes/timeline", json!({ "limit": 100 })).await;
            let ids: Vec<String> = timeline
                .as_array()
                .unwrap()
                .iter()
                .map(|note| note["id"].as_str().unwrap().to_owned())
                .collect();
            (ids.len() >= written.len()).then_some(ids)
        })
        .await;
    assert_eq!(timeline, written);
    let shown = api.ok(&root, "users/show", json!({ "username": "root" })).await;
    assert_eq!(shown["notesCount"], written.len(), "counted once, whoever projected");
    for process in [active, standby, api] {
        process.stop().await;
    }
}

/// Somebody by their token.
#[derive(Debug, Clone, PartialEq)]
struct User {
    token: String,
}

/// A database, and what its processes have in common.
struct Cluster {
    /// Of the test, besides those of the processes.
    pool: PgPool,
    database: Database,
}

impl Cluster {
    async fn new() -> Self {
        let database = Database::create().await;
        Self { pool: database.pool().await, database }
    }

    /// Starts a process with this role, and waits until it is ready.
    async fn start(&self, roles: &str) -> Process {
        let mut process = Process::spawn(&self.database.url(), roles);
        let deadline = Instant::now() + DEADLINE;
        while !process.is_ready().await {
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none(), "{roles} ended: {ended:?}\n{}", process.log());
            assert!(Instant::now() < deadline, "{roles} is not ready\n{}", process.log());
            sleep(POLL_EVERY).await;
        }
        process
    }

    async fn run(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.pool).await.unwrap();
    }

    /// Lets nobody read a table until this ends.
    async fn hold(&self, table: &str) -> Transaction<'static, Postgres> {
        let mut held = self.pool.begin().await.unwrap();
        let lock = format!("lock table {table} in access exclusive mode");
        sqlx::query(AssertSqlSafe(lock)).execute(&mut *held).await.unwrap();
        held
    }

    /// How many jobs there are of which this is true.
    async fn jobs(&self, of: &str) -> i64 {
        let query = AssertSqlSafe(format!("select count(*) from ops.jobs where {of}"));
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }

    /// How many events of a kind there are.
    async fn happened(&self, kind: &str) -> i64 {
        let query = sqlx::query_scalar("select count(*) from log.events where kind = $1").bind(kind);
        query.fetch_one(&self.pool).await.unwrap()
    }

    async fn count(&self, query: &'static str) -> (i64, i64) {
        sqlx::query_as(query).fetch_one(&self.pool).await.unwrap()
    }
}

/// A running `kiroku`.
struct Process {
    child: Child,
    roles: String,
    address: SocketAddr,
    http: reqwest::Client,
    /// Its data directory and its log.
    home: TempDir,
}

impl Process {
    fn spawn(database: &str, roles: &str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let home = tempfile::tempdir().unwrap();
        let lines = File::create(home.path().join("log")).unwrap();
        let child = Command::new(binary())
            .args(["serve", "--url", URL, "--roles", roles, "--listen", &address.to_string()])
            .args(["--database-connections", POOL_CONNECTIONS, "--data-dir"])
            .arg(home.path().join("data"))
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("KIROKU_DATABASE_URL", database)
            .env("KIROKU_MASTER_KEY", MASTER_KEY)
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(lines)
            .spawn()
            .unwrap();
        let http = crate::harness::http().no_proxy().timeout(DEADLINE).build().unwrap();
        Self { child, roles: roles.to_owned(), address, http, home }
    }

    async fn is_ready(&self) -> bool {
        let asked = self.http.get(format!("http://{}/readyz", self.address)).send().await;
        asked.is_ok_and(|answer| answer.status() == 200)
    }

    async fn call(&self, by: Option<&User>, path: &str, mut params: Value) -> Answer {
        if let Some(user) = by {
            params["i"] = json!(user.token);
        }
        let request = self.http.post(format!("http://{}/api/{path}", self.address));
        let request = request.header("content-type", "application/json").body(params.to_string());
        match request.send().await {
            Ok(response) => answer(response).await,
            Err(error) => panic!("{path}: {error}\n{}", self.log()),
        }
    }

    /// Calls an endpoint that must succeed.
    async fn ok(&self, by: &User, path: &str, params: Value) -> Value {
        let answer = self.call(Some(by), path, params).await;
        assert!(answer.status < 300, "{path}: {answer:?}\n{}", self.log());
        answer.body
    }

    /// Makes an account: the first administers the server.
    async fn sign_up(&self, name: &str) -> User {
        let params = json!({ "username": name, "password": PASSWORD });
        let mut made = self.call(None, "admin/accounts/create", params.clone()).await;
        if made.status != 200 {
            made = self.call(None, "signup", params).await;
        }
        assert_eq!(made.status, 200, "{made:?}\n{}", self.log());
        User { token: made.body["token"].as_str().unwrap().to_owned() }
    }

    async fn sign_in(&self, name: &str) -> User {
        let params = json!({ "username": name, "password": PASSWORD });
        let answer = self.call(None, "signin-flow", params).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        User { token: answer.body["i"].as_str().unwrap().to_owned() }
    }

    /// Writes a note that must be accepted; its id.
    async fn note(&self, by: &User, text: &str) -> String {
        let created = self.ok(by, "notes/create", json!({ "text": text })).await;
        created["createdNote"]["id"].as_str().unwrap().to_owned()
    }

    /// Uploads a file that must be taken; its id.
    async fn upload(&self, by: &User, name: &str, text: &str) -> String {
        let request = self.http.post(format!("http://{}/api/drive/files/create", self.address));
        let fields = [("i", by.token.as_str())].into_iter();
        let request = with_form(request, fields, Some((name, text.as_bytes().to_vec())));
        let answer = answer(request.send().await.unwrap()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["id"].as_str().unwrap().to_owned()
    }

    async fn until_shown(&self, by: &User, note: &str) {
        self.eventually(note, async || {
            let answer = self.call(Some(by), "notes/show", json!({ "noteId": note })).await;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    async fn until_refused(&self, user: &User) {
        self.eventually("the token is refused", async || {
            (self.call(Some(user), "i", json!({})).await.status == 401).then_some(())
        })
        .await;
        for _ in 0..3 {
            assert_eq!(self.call(Some(user), "i", json!({})).await.status, 401);
        }
    }

    /// Asks again and again, within the deadline.
    async fn eventually<T, F: Future<Output = Option<T>>>(&self, what: &str, ask: impl Fn() -> F) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(there) = ask().await {
                return there;
            }
            assert!(Instant::now() < deadline, "too late on {}: {what}\n{}", self.roles, self.log());
            sleep(POLL_EVERY).await;
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    async fn until_ended(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "{} doesn't end\n{}", self.roles, self.log());
            sleep(POLL_EVERY).await;
        }
    }

    async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        self.until_ended().await;
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}: {status}\n{}", self.roles, self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap()
    }
}

impl Drop for Process {
    /// Leaves nothing running, however the test went.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGKILL);
        }
        self.child.wait().ok();
    }
}

/// A client's end of a stream with one channel.
struct Stream(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Stream {
    async fn open(process: &Process, token: &str, channel: &str) -> Self {
        let address = format!("ws://{}/streaming?i={token}", process.address);
        let mut stream = Self(connect_async(address).await.unwrap().0);
        let connect = json!({ "channel": channel, "id": "1", "pong": true });
        let connect = json!({ "type": "connect", "body": connect }).to_string();
        stream.0.send(Message::Text(connect.into())).await.unwrap();
        assert_eq!(stream.frame().await["type"], "connected");
        stream
    }

    async fn message(&mut self) -> Message {
        loop {
            let message =
                timeout(DEADLINE, self.0.next()).await.expect("nothing was heard").unwrap().unwrap();
            if !matches!(message, Message::Ping(_) | Message::Pong(_)) {
                return message;
            }
        }
    }

    async fn frame(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The text of the next note.
    async fn next_note(&mut self) -> String {
        let frame = self.frame().await;
        assert_eq!(frame["body"]["type"], "note", "{frame}");
        frame["body"]["body"]["text"].as_str().unwrap().to_owned()
    }

    /// Passes over what is told besides, such as that an app was let in.
    async fn until_event(&mut self, name: &str) {
        while self.frame().await["body"]["type"] != name {}
    }

    async fn until_signed_out(&mut self) {
        loop {
            match self.message().await {
                Message::Text(_) => (),
                Message::Close(Some(frame)) => return assert_eq!(frame.code, CloseCode::Policy),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.parent().and_then(Path::parent).unwrap().join("kiroku");
    assert!(binary.exists(), "{} is missing: cargo build --workspace --all-targets", binary.display());
    binary
}
