//! NATS: words between processes, and the feed, while the server goes away, comes back empty, or repeats itself.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream::Stream};
use commands::bus::{Bus, Heard, Nats, Word};
use commands::log::Keyring;
use domain::log::Position;
use gateway::feed::{ORDINAL_HEADER, POSITION_HEADER, STREAM, SUBJECT_HEADER, SUBJECT_PREFIX};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::harness::TestApp;
use crate::process::{Kiroku, URL};

const IN_TIME: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_tells_what_anybody_may_know() {
    let nats = Server::start();
    let app = TestApp::with_nats(&nats.url()).await;
    let alice = app.sign_up("alice").await;
    app.ok(&alice, "admin/update-meta", json!({ "disableRegistration": false })).await;
    let bob = app.sign_up("bob").await;
    app.ok(&alice, "i/update", json!({ "name": "Alice", "mutedWords": [["unspeakable"]] })).await;
    let open = app.note(&alice, json!({ "text": "for all", "poll": { "choices": ["a", "b"] } })).await;
    for visibility in ["followers", "specified"] {
        let params = json!({ "text": "a secret", "visibility": visibility, "visibleUserIds": [bob.id] });
        let secret = app.note(&alice, params).await;
        app.ok(&alice, "notes/reactions/create", json!({ "noteId": secret, "reaction": "🤫" })).await;
    }
    app.ok(&bob, "notes/reactions/create", json!({ "noteId": open, "reaction": "🎉" })).await;
    app.ok(&bob, "notes/polls/vote", json!({ "noteId": open, "choice": 1 })).await;
    app.ok(&bob, "following/create", json!({ "userId": alice.id })).await;
    // A note that is deleted before it was told is never told.
    nats.told_until("follow.started").await;
    app.ok(&alice, "notes/delete", json!({ "noteId": open })).await;

    let told = nats.told_until("note.deleted").await;
    let kinds: Vec<&str> = told.iter().map(|message| message.body["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "user.created",
            "user.created",
            "user.changed",
            "note.created",
            "reaction.added",
            "poll.voted",
            "follow.started",
            "note.deleted"
        ]
    );
    for message in &told {
        let body = &message.body;
        assert_eq!(message.subject, format!("{SUBJECT_PREFIX}.{}", body["kind"].as_str().unwrap()));
        assert_eq!(message.id, body["id"].as_str().unwrap());
        assert_eq!(message.place, (body["position"].as_u64().unwrap(), body["ordinal"].as_u64().unwrap()));
    }
    assert!(told.is_sorted_by_key(|message| message.place));
    assert_eq!(told[2].body["data"], json!({ "user": alice.id, "changes": { "name": "Alice" } }));
    assert_eq!(told[3].body["data"]["text"], "for all");
    assert_eq!(told[5].body["data"], json!({ "note": open, "choice": 1 }), "who votes is nobody's business");
    let whose: Vec<Option<&str>> = told.iter().map(|message| message.whose.as_deref()).collect();
    let (hers, his) = (Some(alice.id.as_str()), Some(bob.id.as_str()));
    assert_eq!(whose, [hers, his, hers, hers, his, None, his, hers]);
    let all = format!("{:?}", told.iter().map(|message| &message.body).collect::<Vec<_>>());
    assert!(!all.contains("secret") && !all.contains("🤫") && !all.contains("unspeakable"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_while_nats_comes_and_goes() {
    let mut nats = Server::start();
    let app = TestApp::with_nats(&nats.url()).await;
    let alice = app.sign_up("alice").await;
    let write = async |text: &str| app.note(&alice, json!({ "text": text })).await;
    write("first").await;
    assert_eq!(texts(&nats.told_until_text("first").await), ["first"]);

    nats.kill();
    let began = Instant::now();
    write("while it was away").await;
    assert!(began.elapsed() < Duration::from_secs(4), "a post waited for NATS");
    nats.start_again();
    assert_eq!(texts(&nats.told_until_text("while it was away").await), ["first", "while it was away"]);

    nats.kill();
    write("before it came back empty").await;
    let taken_back = write("deleted before anybody was told").await;
    app.ok(&alice, "notes/delete", json!({ "noteId": taken_back })).await;
    nats.forget();
    nats.start_again();
    let all = ["first", "while it was away", "before it came back empty"];
    let told = nats.told_until_text("before it came back empty").await;
    assert_eq!(texts(&told), all);

    // NATS comes back without the last that it had acknowledged, as after a power cut.
    nats.kill();
    let earlier = nats.copied();
    nats.start_again();
    write("lost by NATS").await;
    nats.told_until_text("lost by NATS").await;
    nats.kill();
    nats.store = earlier;
    nats.start_again();
    write("after the loss").await;
    let told = nats.told_until_text("after the loss").await;
    assert_eq!(texts(&told)[3..], ["lost by NATS", "after the loss"]);

    // Somebody else writes to the stream: the next message isn't the one that was expected.
    let foreign = format!("{SUBJECT_PREFIX}.foreign");
    jetstream::new(nats.client().await).publish(foreign, "{}".into()).await.unwrap().await.unwrap();
    write("after a stranger").await;
    let told = nats.told_until_text("after a stranger").await;
    assert_eq!(texts(&told)[5..], ["after a stranger"]);
    let ids: BTreeSet<&str> = told.iter().map(|message| message.id.as_str()).collect();
    assert_eq!(ids.len(), told.len(), "an event was told twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_taken_out_of_the_feed() {
    let nats = Server::start();
    let app = TestApp::with_nats(&nats.url()).await;
    let alice = app.sign_up("alice").await;
    app.ok(&alice, "admin/update-meta", json!({ "disableRegistration": false })).await;
    let bob = app.sign_up("bob").await;
    app.note(&alice, json!({ "text": "hers" })).await;
    app.note(&bob, json!({ "text": "his" })).await;
    nats.told_until_text("his").await;

    let by = app.app.by_user(None);
    app.app.commands.erase(by, bob.id.parse().unwrap()).await.unwrap();
    nats.told_until("user.erased").await;
    let deadline = Instant::now() + IN_TIME;
    loop {
        let told = nats.told().await;
        if !told.iter().any(|message| message.body.to_string().contains("his")) {
            assert_eq!(texts(&told), ["hers"]);
            break;
        }
        assert!(Instant::now() < deadline, "the words of an erased person are still there");
        sleep(AGAIN).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_another_log_is_spoken_of_until_it_is_deleted() {
    let nats = Server::start();
    let url = nats.url();
    let settings = [("KIROKU_URL", URL), ("KIROKU_NATS_URL", url.as_str())];
    let sign_up = |kiroku: &Kiroku| {
        assert_eq!(kiroku.call("admin/accounts/create", r#"{"username":"alice","password":"x"}"#), Some(200));
    };
    let before = tempfile::tempdir().unwrap();
    let mut kiroku = Kiroku::start_with(&before, &settings);
    kiroku.until_ready();
    sign_up(&kiroku);
    let told = nats.told_until("user.created").await;
    kiroku.stop();

    let after = tempfile::tempdir().unwrap();
    let mut kiroku = Kiroku::start_with(&after, &settings);
    kiroku.until_ready();
    let warning = "delete the stream";
    kiroku.until("it warns", |kiroku| kiroku.log().contains(warning));
    // From here on its log is as long as the other was.
    sign_up(&kiroku);
    let warned = kiroku.log().matches(warning).count();
    kiroku.until("it warns again", |kiroku| kiroku.log().matches(warning).count() > warned + 1);
    assert_eq!(nats.told().await.len(), told.len(), "two logs are in one stream");

    jetstream::new(nats.client().await).delete_stream(STREAM).await.unwrap();
    let anew = nats.told_until("user.created").await;
    assert_eq!(anew.len(), told.len());
    assert_ne!(anew[0].id, told[0].id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_told_everything_is_spoken_of_until_it_is_deleted() {
    let nats = Server::start();
    let url = nats.url();
    let data = tempfile::tempdir().unwrap();
    let warning = "was told everything";
    let serve = |feed: &'static str| {
        let settings = [("KIROKU_URL", URL), ("KIROKU_NATS_URL", url.as_str()), ("KIROKU_NATS_FEED", feed)];
        let mut kiroku = Kiroku::start_with(&data, &settings);
        kiroku.until_ready();
        kiroku.until("it publishes", |kiroku| kiroku.log().contains("the feed publishes"));
        kiroku
    };
    let kiroku = serve("all");
    nats.told_until("instance.claimed").await;
    kiroku.stop();
    for _ in 0..2 {
        let kiroku = serve("public");
        assert!(kiroku.log().contains(warning), "{}", kiroku.log());
        kiroku.stop();
    }
    jetstream::new(nats.client().await).delete_stream(STREAM).await.unwrap();
    let kiroku = serve("public");
    assert!(!kiroku.log().contains(warning), "{}", kiroku.log());
    assert_eq!(kiroku.call("admin/accounts/create", r#"{"username":"alice","password":"x"}"#), Some(200));
    let told = nats.told_until("user.created").await;
    assert!(told.iter().all(|message| message.body["kind"] != "instance.claimed"), "a public feed tells it");
    kiroku.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn words_reach_other_processes_and_a_gap_is_noticed() {
    let mut server = Server::start();
    let keyring = Arc::new(Keyring::memory());
    let bus = async |subject: &str| {
        let nats = Nats::connect(&server.url()).await.unwrap();
        Bus::nats(nats, subject.to_owned(), keyring.clone())
    };
    let (here, there, elsewhere) =
        (bus("kiroku.bus.test").await, bus("kiroku.bus.test").await, bus("kiroku.bus.other").await);
    let (mut mine, mut theirs, mut others) = (here.hear(), there.hear(), elsewhere.hear());
    let said = async |bus: &Bus, heard: &mut tokio::sync::broadcast::Receiver<Heard>, position: u64| {
        let word = Word::Appended(Position(position));
        let until = async {
            loop {
                bus.say(word.clone());
                let waited = timeout(AGAIN, heard.recv()).await;
                assert!(
                    !matches!(waited, Ok(Ok(Heard::Word(Word::Appended(Position(9)))))),
                    "a stranger is heard"
                );
                if matches!(&waited, Ok(Ok(Heard::Word(heard))) if *heard == word) {
                    return;
                }
            }
        };
        timeout(IN_TIME, until).await.expect("a word is heard");
    };
    said(&here, &mut theirs, 7).await;
    server.kill();
    while theirs.try_recv().is_ok() {}
    server.start_again();
    let missed = async { while theirs.recv().await.unwrap() != Heard::Missed {} };
    timeout(IN_TIME, missed).await.expect("the gap is noticed");
    said(&here, &mut theirs, 8).await;
    let stranger = server.client().await;
    stranger.publish("kiroku.bus.test", "k1 1 a9".into()).await.unwrap();
    stranger.flush().await.unwrap();
    said(&here, &mut theirs, 10).await;
    while let Ok(heard) = mine.try_recv() {
        assert_eq!(heard, Heard::Missed, "it hears itself");
    }
    while let Ok(heard) = others.try_recv() {
        assert_eq!(heard, Heard::Missed, "another server's words are heard");
    }
}

/// A message of the feed.
pub struct Message {
    subject: String,
    id: String,
    place: (u64, u64),
    whose: Option<String>,
    pub body: Value,
}

fn texts(told: &[Message]) -> Vec<&str> {
    told.iter().filter_map(|message| message.body["data"]["text"].as_str()).collect()
}

/// A `nats-server` with JetStream, on a port of its own.
pub struct Server {
    port: u16,
    store: TempDir,
    running: Child,
}

impl Server {
    pub fn start() -> Self {
        let store = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let running = run(port, store.path());
        Self { port, store, running }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn kill(&mut self) {
        self.running.kill().unwrap();
        self.running.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        self.running = run(self.port, self.store.path());
    }

    fn forget(&mut self) {
        self.store = tempfile::tempdir().unwrap();
    }

    /// What it has on the disk.
    fn copied(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        let done = Command::new("cp").arg("-a").arg(self.store.path().join(".")).arg(copy.path()).status();
        assert!(done.unwrap().success());
        copy
    }

    async fn client(&self) -> async_nats::Client {
        let deadline = Instant::now() + IN_TIME;
        loop {
            match async_nats::connect(self.url()).await {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "no NATS: {error}"),
            }
            sleep(AGAIN).await;
        }
    }

    /// All that the feed has told, once its stream is there.
    pub async fn told(&self) -> Vec<Message> {
        let context = jetstream::new(self.client().await);
        match context.get_stream(STREAM).await {
            Ok(stream) => messages(&stream).await,
            Err(_) => Vec::new(),
        }
    }

    async fn told_until(&self, kind: &str) -> Vec<Message> {
        self.until(|message| message.body["kind"] == kind).await
    }

    pub async fn told_until_text(&self, text: &str) -> Vec<Message> {
        self.until(|message| message.body["data"]["text"] == text).await
    }

    async fn until(&self, wanted: impl Fn(&Message) -> bool) -> Vec<Message> {
        let deadline = Instant::now() + IN_TIME;
        loop {
            let told = self.told().await;
            if told.iter().any(&wanted) {
                return told;
            }
            assert!(Instant::now() < deadline, "the feed doesn't tell it");
            sleep(AGAIN).await;
        }
    }
}

async fn messages(stream: &Stream) -> Vec<Message> {
    let state = stream.get_info().await.unwrap().state;
    let mut messages = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        // One that was deleted is an error.
        let Ok(message) = stream.get_raw_message(sequence).await else { continue };
        let header = |name: &str| message.headers.get(name).map(|value| value.as_str().to_owned());
        let number = |name: &str| header(name).and_then(|value| value.parse().ok()).unwrap_or_default();
        messages.push(Message {
            subject: message.subject.to_string(),
            id: header("Nats-Msg-Id").unwrap_or_default(),
            place: (number(POSITION_HEADER), number(ORDINAL_HEADER)),
            whose: header(SUBJECT_HEADER),
            body: serde_json::from_slice(&message.payload).unwrap(),
        });
    }
    messages
}

fn run(port: u16, store: &Path) -> Child {
    let path = ["nats-server", "/usr/sbin/nats-server"];
    let start = |program: &&str| {
        Command::new(program)
            .args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"])
            .arg(store)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()
    };
    path.iter().find_map(start).expect("nats-server, from Debian's package of that name")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.kill().ok();
        self.running.wait().ok();
    }
}
