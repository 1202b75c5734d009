//! Who was erased is nowhere any more: not in answers, not in tables, not in the bytes of any file under the
//! data directory; and everybody else is where they were.
//!
//! Runs `kiroku` with its embedded database, as `process.rs` does, and erases beside the running server.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use commands::bus::Bus;
use commands::log::{Keyring, MasterKey, PostgresLog, Takeover};
use commands::{Commands, NewNote};
use domain::log::{By, Clock, EventLog};
use domain::note::{Allowed, Visibility};
use domain::{CommandId, NoteId, UserId};
use futures_util::{StreamExt, TryStreamExt, stream};
use gateway::drive::store::Store;
use gateway::erase::Eraser;
use gateway::platform::postgres::running_in;
use gateway::system::{SystemClock, TimeOrderedIds};
use projections::rebuild::{self, Handle};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::watch;

use crate::harness::{Answer, PASSWORD, User, answer};
use crate::process::Kiroku;

/// In every word of the person who is erased, and of the one who stays; both as they are in names.
const HERS: &str = "vq7zxk3w";
const HIS: &str = "hj4wpn9c";
/// What she has done besides, and how much of it at once.
const EVENTS: usize = 10_000;
const EVENTS_AT_ONCE: usize = 256;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const READ_WITHIN: Duration = Duration::from_secs(120);
const POLL_EVERY: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_erased_person_is_left() {
    let data = tempfile::tempdir().unwrap();
    let mut kiroku = Kiroku::start(&data);
    kiroku.until_ready();
    let client = Client::of(&kiroku);
    let desk = Desk::at(&kiroku.data).await;

    let root = client.sign_up(None, "root").await;
    let lifted = json!({ "policies": { "rateLimitFactor": 0 } });
    client.ok(&root, "admin/roles/update-default-policies", lifted).await;
    let her = client.sign_up(Some(&root), &format!("{HERS}_she")).await;
    let him = client.sign_up(Some(&root), &format!("{HIS}_he")).await;
    let his_notes = client.life_of(&him, HIS).await;
    let her_notes = client.life_of(&her, HERS).await;
    client.meet(&her, &him, &his_notes).await;
    client.meet(&him, &her, &her_notes).await;
    let late = json!({ "text": format!("{HIS} answers"), "replyId": her_notes[0] });
    let answered = client.ok(&him, "notes/create", late).await["createdNote"]["id"].clone();
    for (person, words) in [(&her, HERS), (&him, HIS)] {
        let made = client.upload(person, &format!("{words}.txt"), &format!("{words} in a file")).await;
        client.ok(person, "notes/create", json!({ "fileIds": [made["id"]] })).await;
    }
    desk.write_much(&her, &his_notes[1]).await;
    client.until_counted(&her, EVENTS).await;
    let his_poll_before = client.ok(&him, "notes/show", json!({ "noteId": his_notes[0] })).await;
    assert_eq!(his_poll_before["poll"]["choices"][0]["votes"], 1, "{his_poll_before}");

    // Also in the statistics of the planner, and on the disk.
    for statement in ["analyze", "checkpoint"] {
        sqlx::query(statement).execute(&desk.eraser.pool).await.unwrap();
    }
    let found = found_in(&kiroku.data, &[HERS, HIS]);
    assert_eq!(found, BTreeSet::from([HERS, HIS]), "the search finds nothing");

    let user: UserId = her.id.parse().unwrap();
    assert_eq!(desk.eraser.find(&format!("@{}", her.name.to_uppercase())).await.unwrap(), user);
    let certificate = desk.eraser.erase(user).await.unwrap();
    println!("{certificate}");
    assert!(certificate.is_complete(), "{certificate}");
    assert!(certificate.unreadable_events["note.created"] >= EVENTS as u64);
    assert!(certificate.removed_rows["read.notes"] >= EVENTS as u64);
    assert!(certificate.removed_rows.contains_key("ops.passwords"));
    assert_eq!(certificate.removed_files, 1);
    let told = format!("{}\n{certificate}", serde_json::to_string(&certificate).unwrap());
    assert!(!told.contains(HERS), "{told}");

    let found = found_in(&kiroku.data, &[HERS, HIS]);
    assert_eq!(found, BTreeSet::from([HIS]), "she is still there, or he isn't");
    assert!(!kiroku.log().contains(HERS), "{}", kiroku.log());

    client.nobody_knows(&root, &her).await;
    let him_now = client.ok(&him, "users/show", json!({ "userId": him.id })).await;
    assert_eq!(
        ["followersCount", "followingCount", "notesCount"].map(|count| him_now[count].clone()),
        [json!(0), json!(0), json!(his_notes.len() + 1)],
    );
    let note = client.ok(&him, "notes/show", json!({ "noteId": his_notes[1] })).await;
    let counts = ["repliesCount", "renoteCount", "reactionCount"].map(|count| note[count].clone());
    assert_eq!(counts, [json!(0), json!(0), json!(0)]);
    let poll = client.ok(&him, "notes/show", json!({ "noteId": his_notes[0] })).await;
    assert_eq!(poll["poll"]["choices"][0]["votes"], 0);
    assert_eq!(client.refused(Some(&him), "notes/show", json!({ "noteId": answered })).await, "NO_SUCH_NOTE");

    desk.verify().await;
    let again = desk.eraser.erase(user).await.unwrap();
    assert!(again.is_complete() && again.removed_rows.is_empty(), "{again}");
    assert_eq!(
        (again.position, again.key_destroyed_at),
        (certificate.position, certificate.key_destroyed_at)
    );
    desk.eraser.pool.close().await;
    drop(desk);
    drop(kiroku);
    assert_eq!(found_in(data.path(), &[HERS, HIS]), BTreeSet::from([HIS]), "after the stop");
}

/// The API of the running server.
struct Client {
    url: String,
    http: reqwest::Client,
}

impl Client {
    fn of(kiroku: &Kiroku) -> Self {
        let http = crate::harness::http().no_proxy().timeout(ANSWER_WITHIN).build().unwrap();
        Self { url: format!("http://{}/api", kiroku.address), http }
    }

    async fn call(&self, by: Option<&User>, path: &str, mut params: Value) -> Answer {
        if let (Some(user), Value::Object(fields)) = (by, &mut params) {
            fields.insert("i".to_owned(), json!(user.token));
        }
        let request = self.http.post(format!("{}/{path}", self.url)).body(params.to_string());
        answer(request.header("content-type", "application/json").send().await.unwrap()).await
    }

    async fn upload(&self, by: &User, name: &str, text: &str) -> Value {
        let form = format!(
            "--x\r\ncontent-disposition: form-data; name=\"i\"\r\n\r\n{}\r\n--x\r\ncontent-disposition: \
             form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{text}\r\n--x--\r\n",
            by.token
        );
        let request = self.http.post(format!("{}/drive/files/create", self.url)).body(form);
        let made =
            answer(request.header("content-type", "multipart/form-data; boundary=x").send().await.unwrap());
        made.await.body
    }

    async fn ok(&self, by: &User, path: &str, params: Value) -> Value {
        let answer = self.call(Some(by), path, params).await;
        assert!(answer.status < 300, "{path}: {answer:?}");
        answer.body
    }

    async fn refused(&self, by: Option<&User>, path: &str, params: Value) -> String {
        let answer = self.call(by, path, params).await;
        answer.body["error"]["code"].as_str().unwrap_or_else(|| panic!("{path}: {answer:?}")).to_owned()
    }

    async fn sign_up(&self, root: Option<&User>, name: &str) -> User {
        let params = json!({ "username": name, "password": PASSWORD });
        let answer = self.call(root, "admin/accounts/create", params).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = |key: &str| answer.body[key].as_str().unwrap().to_owned();
        User { id: text("id"), name: name.to_owned(), token: text("token") }
    }

    /// Words in every place for them; the notes.
    async fn life_of(&self, user: &User, word: &str) -> Vec<String> {
        let profile = json!({
            "name": format!("{word} name"),
            "description": format!("{word} description"),
            "location": format!("{word} location"),
            "followedMessage": format!("{word} greets"),
            "fields": [{ "name": format!("{word} field"), "value": format!("{word} value") }],
            "mutedWords": [[format!("{word} muted")]],
        });
        self.ok(user, "i/update", profile).await;
        let app = json!({
            "name": format!("{word} app"), "description": format!("{word} of an app"), "permission": [],
        });
        self.ok(user, "app/create", app).await;
        let grant = json!({
            "session": null, "name": format!("{word} grant"), "description": word, "permission": [],
        });
        self.ok(user, "miauth/gen-token", grant).await;
        let poll = json!({ "choices": [format!("{word} yes"), format!("{word} no")] });
        let long = format!("{word} at length: {}", "and so on, ".repeat(200));
        let mut notes = Vec::new();
        for note in [
            json!({ "text": format!("{word} asks"), "poll": poll }),
            json!({ "text": format!("{word} says #{word}tag :{word}emoji:"), "cw": format!("{word} warns") }),
            json!({ "text": format!("{word} tells herself"), "visibility": "specified" }),
            json!({ "text": long, "visibility": "followers" }),
        ] {
            let created = self.ok(user, "notes/create", note).await;
            notes.push(created["createdNote"]["id"].as_str().unwrap().to_owned());
        }
        notes
    }

    /// One follows, answers, renotes, reacts to and votes on the other.
    async fn meet(&self, one: &User, other: &User, notes: &[String]) {
        self.ok(one, "following/create", json!({ "userId": other.id })).await;
        self.ok(one, "notes/reactions/create", json!({ "noteId": notes[1], "reaction": "👍" })).await;
        self.ok(one, "notes/polls/vote", json!({ "noteId": notes[0], "choice": 0 })).await;
    }

    /// The read models are behind while much is written.
    async fn until_counted(&self, user: &User, notes: usize) {
        let deadline = Instant::now() + READ_WITHIN;
        loop {
            let shown = self.ok(user, "users/show", json!({ "userId": user.id })).await;
            if shown["notesCount"].as_u64().is_some_and(|count| count >= notes as u64) {
                return;
            }
            assert!(Instant::now() < deadline, "{shown}");
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Misskey's answers about somebody who isn't there.
    async fn nobody_knows(&self, root: &User, gone: &User) {
        for params in [json!({ "userId": gone.id }), json!({ "username": gone.name })] {
            assert_eq!(self.refused(None, "users/show", params).await, "NO_SUCH_USER");
        }
        let follow = self.refused(Some(root), "following/create", json!({ "userId": gone.id })).await;
        assert_eq!(follow, "NO_SUCH_USER");
        assert_eq!(self.refused(Some(gone), "i", json!({})).await, "USER_IS_DELETED");
        let params = json!({ "username": gone.name, "password": PASSWORD });
        assert_eq!(self.call(None, "signin-flow", params.clone()).await.status, 403);
        let free = self.ok(root, "username/available", json!({ "username": gone.name })).await;
        assert_eq!(free, json!({ "available": false }));
        let taken = self.call(Some(root), "admin/accounts/create", params).await;
        assert_eq!(taken.status, 400, "the name is given again: {taken:?}");
    }
}

/// The database and the log of the running server, as its tools have them.
struct Desk {
    eraser: Eraser,
}

impl Desk {
    async fn at(data: &Path) -> Self {
        let options = running_in(data).expect("a running PostgreSQL");
        let pool: PgPool = PgPoolOptions::new().max_connections(5).connect_with(options).await.unwrap();
        let master = MasterKey::load(&data.join("master.key")).unwrap();
        let keyring = Arc::new(Keyring::open(pool.clone(), &master).await.unwrap());
        let log = PostgresLog::open(pool.clone(), keyring.clone(), Takeover::Shared).await.unwrap();
        let (clock, ids) = (Arc::new(SystemClock), Arc::new(TimeOrderedIds::new()));
        let files = Store::in_directory(data.join("files")).unwrap();
        Self { eraser: Eraser { pool, log: Arc::new(log), keyring, clock, ids, files, is_fed: false } }
    }

    /// Notes, replies and renotes, faster than the API takes them.
    async fn write_much(&self, user: &User, note: &str) {
        let Eraser { log, keyring, ids, .. } = &self.eraser;
        let commands = Commands::new(log.clone(), keyring.clone(), ids.clone(), Bus::local());
        let author: UserId = user.id.parse().unwrap();
        let other: NoteId = note.parse().unwrap();
        let write = |n: usize| {
            let now = SystemClock.now();
            let by = By { user: Some(author), now, command: CommandId(ids.at(now)) };
            let new = NewNote {
                id: NoteId(ids.at(now)),
                text: (n % 10 != 1).then(|| format!("{HERS} {n}")),
                cw: None,
                visibility: Visibility::Public,
                visible_to: Vec::new(),
                local_only: false,
                reaction_acceptance: None,
                reply: n.is_multiple_of(10).then_some(other),
                renote: (n % 10 == 1).then_some(other),
                poll: None,
                files: Vec::new(),
                channel: None,
                extract_mentions: true,
                extract_hashtags: true,
                extract_emojis: true,
                allowed: Allowed { public_notes: true, mentions: 20 },
            };
            commands.write_note(by, author, new)
        };
        stream::iter((0..EVENTS).map(write))
            .buffer_unordered(EVENTS_AT_ONCE)
            .try_collect::<Vec<_>>()
            .await
            .unwrap();
    }

    /// Every read table is what the log says.
    async fn verify(&self) {
        let log: Arc<dyn EventLog> = self.eraser.log.clone();
        let (_stop, stop) = watch::channel(false);
        let handle = Handle { progress: watch::Sender::default(), stop };
        let report =
            rebuild::verify(&self.eraser.pool, log, projections::projectors(), &handle).await.unwrap();
        assert!(report.is_clean(), "{report:#?}");
        assert!(report.projectors.iter().all(|projector| projector.compared));
    }
}

/// Which of the words are in any file under the directory, in whatever encoding.
fn found_in<'w>(directory: &Path, words: &[&'w str]) -> BTreeSet<&'w str> {
    let patterns: Vec<(&'w str, Vec<u8>)> =
        words.iter().flat_map(|word| encodings(word).into_iter().map(move |bytes| (*word, bytes))).collect();
    let mut starts: [Vec<usize>; 256] = std::array::from_fn(|_| Vec::new());
    for (n, (_, bytes)) in patterns.iter().enumerate() {
        starts[usize::from(bytes[0])].push(n);
    }
    let mut found = BTreeSet::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
                continue;
            }
            // A file of the database may go at any moment.
            let Ok(content) = fs::read(entry.path()) else { continue };
            for (at, byte) in content.iter().enumerate() {
                for n in &starts[usize::from(*byte)] {
                    let (word, pattern) = &patterns[*n];
                    if content[at..].starts_with(pattern) && found.insert(*word) {
                        println!("{word} is in {}", entry.path().display());
                    }
                }
            }
        }
    }
    found
}

/// UTF-8 in small and capital letters, UTF-16, hexadecimal, and what base64 makes of the word wherever it
/// stands.
fn encodings(word: &str) -> Vec<Vec<u8>> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut encodings = vec![
        word.as_bytes().to_vec(),
        word.to_uppercase().into_bytes(),
        word.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        word.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
    ];
    // Six bits at a time, from the first that the word alone decides.
    let bits: Vec<u8> = word.bytes().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)).collect();
    for skipped in [0, 4, 2] {
        let sixes = bits[skipped..].chunks_exact(6);
        let digit = |six: &[u8]| DIGITS[usize::from(six.iter().fold(0, |number, bit| number << 1 | bit))];
        encodings.push(sixes.map(digit).collect());
    }
    encodings
}

#[test]
fn the_search_knows_the_encodings() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a/b");
    fs::create_dir(directory.path().join("a")).unwrap();
    let base64 = ["dnE3enhrM3c=", "eHZxN3p4azN3", "eHh2cTd6eGszdw=="].map(str::to_owned);
    let wide: String = HERS.chars().map(|letter| format!("{letter}\0")).collect();
    let others = [HERS.to_owned(), HERS.to_uppercase(), wide, "7671377a786b3377".to_owned()];
    let near = [&HERS[1..], "dnE3enhrN3c", "7671377a786b3378"].map(str::to_owned);
    let cases = base64.into_iter().chain(others).map(|content| (content, true));
    for (content, is_there) in cases.chain(near.map(|content| (content, false))) {
        fs::write(&file, format!("before {content} after")).unwrap();
        assert_eq!(found_in(directory.path(), &[HERS]).contains(HERS), is_there, "{content}");
    }
}
