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
use commands::{Commands, NewFile, NewNote};
use domain::drive::{FileAdded, Properties};
use domain::log::{By, Clock, EventLog};
use domain::note::{Allowed, Visibility};
use domain::{CommandId, FileId, NoteId, UserId};
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

use crate::harness::{Answer, PASSWORD, User, answer, with_form};
use crate::process::Kiroku;

/// In every word of the person who is erased, and of the one who stays; both as they are in names.
const HERS: &str = "vq7zxk3w";
const HIS: &str = "hj4wpn9c";
/// What she has done besides, and how much of it at once.
const NOTES: usize = 8_000;
const REACTIONS: usize = 1_800;
const FILES: usize = 200;
/// What he has written besides: some of it hangs on hers, and she reacts to the rest.
const HIS_NOTES: usize = REACTIONS * 10 / 8;
const EVENTS_AT_ONCE: usize = 256;
/// Two seconds are promised, to a program that is built for speed, on a machine that has nothing else to do.
const GONE_WITHIN_MS: u64 = 20_000;
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
    // Nobody takes letters there, so they wait; and nobody is asked whether there is such a host.
    let mail = json!({
        "enableEmail": true, "email": "a@b.example", "smtpHost": "127.0.0.1", "smtpPort": 9,
        "enableActiveEmailValidation": false,
    });
    client.ok(&root, "admin/update-meta", mail).await;
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
    client.moderated(&root, &her, HERS).await;
    let his = desk.write_much(&him, HIS, HIS_NOTES, &her_notes[1]).await;
    desk.write_much(&her, HERS, NOTES, &his_notes[1]).await;
    desk.react_much(&her, &his).await;
    desk.keep_much(&her).await;
    desk.until_read().await;
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
    assert!(certificate.gone_after_ms < GONE_WITHIN_MS, "{certificate}");
    for (kind, table, least) in [
        ("note.created", "notes", NOTES),
        ("reaction.added", "reactions", REACTIONS),
        ("drive.file_added", "drive_files", FILES),
        ("list.created", "lists", 1),
        ("antenna.created", "antennas", 1),
        ("channel.created", "channels", 1),
        ("clip.created", "clips", 1),
        ("registry.set", "registry", 1),
        ("report.filed", "reports", 1),
        ("user.noted", "moderation_logs", 1),
        ("announcement.created", "announcements", 1),
        ("role.assigned", "role_assignments", 1),
    ] {
        let unreadable = certificate.unreadable_events.get(kind).copied().unwrap_or_default();
        let removed = certificate.removed_rows.get(&format!("read.{table}")).copied().unwrap_or_default();
        assert!(unreadable.min(removed) >= least as u64, "{kind} {unreadable}, {table} {removed}");
    }
    for table in [
        "passwords",
        "native_tokens",
        "apps",
        "app_tokens",
        "second_factors",
        "mail_addresses",
        "outbox",
        "webhooks",
    ] {
        assert!(certificate.removed_rows.contains_key(&format!("ops.{table}")), "{table}: {certificate}");
    }
    assert_eq!(certificate.removed_files, 1 + FILES as u64);
    assert_eq!(desk.tables_naming(user).await, ["ops.keys"], "that her key is destroyed");
    let told = format!("{}\n{certificate}", serde_json::to_string(&certificate).unwrap());
    assert!(!told.contains(HERS), "{told}");

    let found = found_in(&kiroku.data, &[HERS, HIS]);
    assert_eq!(found, BTreeSet::from([HIS]), "she is still there, or he isn't");
    assert!(!kiroku.log().contains(HERS), "{}", kiroku.log());

    client.nobody_knows(&root, &her).await;
    let him_now = client.ok(&him, "users/show", json!({ "userId": him.id })).await;
    assert_eq!(
        ["followersCount", "followingCount", "notesCount"].map(|count| him_now[count].clone()),
        [json!(0), json!(0), json!(his_notes.len() + 2 + HIS_NOTES)],
        "those that answered hers are gone, and count as written",
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
        let request = self.http.post(format!("{}/drive/files/create", self.url));
        let token = [("i", by.token.as_str())].into_iter();
        answer(with_form(request, token, Some((name, text.into()))).send().await.unwrap()).await.body
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
        for (path, params) in [
            ("users/lists/create", json!({ "name": format!("{word} list") })),
            ("channels/create", json!({ "name": format!("{word} channel"), "description": word })),
            ("clips/create", json!({ "name": format!("{word} clip"), "description": word })),
            ("i/registry/set", json!({ "scope": ["client", word], "key": word, "value": { (word): word } })),
            ("drive/folders/create", json!({ "name": format!("{word} folder") })),
            ("i/2fa/register", json!({ "password": PASSWORD })),
            (
                "i/webhooks/create",
                json!({
                    "name": format!("{word} hook"), "url": format!("https://{word}.example/"), "secret": word,
                    "on": ["reply"],
                }),
            ),
            ("i/update-email", json!({ "password": PASSWORD, "email": format!("{word}@b.example") })),
            (
                "antennas/create",
                json!({
                    "name": format!("{word} antenna"), "src": "all", "keywords": [[word]],
                    "excludeKeywords": [[]], "users": [], "caseSensitive": false, "withReplies": false,
                    "withFile": false,
                }),
            ),
        ] {
            self.ok(user, path, params).await;
        }
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

    /// What moderators do about somebody, in words that are only of them.
    async fn moderated(&self, root: &User, user: &User, word: &str) {
        let note = json!({ "userId": user.id, "text": format!("{word} is watched") });
        self.ok(root, "admin/update-user-note", note).await;
        let told =
            json!({ "title": word, "text": format!("{word} be nice"), "imageUrl": null, "userId": user.id });
        self.ok(root, "admin/announcements/create", told).await;
        let role = json!({
            "name": "role", "description": "", "color": null, "iconUrl": null, "target": "manual",
            "condFormula": {}, "isPublic": true, "isModerator": false, "isAdministrator": false,
            "asBadge": false, "canEditMembersByModerator": false, "displayOrder": 0, "policies": {},
        });
        let role = self.ok(root, "admin/roles/create", role).await["id"].clone();
        self.ok(root, "admin/roles/assign", json!({ "roleId": role, "userId": user.id })).await;
    }

    /// One follows, answers, renotes, reacts to and votes on the other.
    async fn meet(&self, one: &User, other: &User, notes: &[String]) {
        self.ok(one, "following/create", json!({ "userId": other.id })).await;
        self.ok(one, "notes/reactions/create", json!({ "noteId": notes[1], "reaction": "👍" })).await;
        self.ok(one, "notes/polls/vote", json!({ "noteId": notes[0], "choice": 0 })).await;
        let word = one.name.split('_').next().unwrap();
        let memo = json!({ "userId": other.id, "memo": format!("{word} remembers") });
        self.ok(one, "users/update-memo", memo).await;
        let report = json!({ "userId": other.id, "comment": format!("{word} complains") });
        self.ok(one, "users/report-abuse", report).await;
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

    /// Notes, replies and renotes, faster than the API takes them; those of the first kind.
    async fn write_much(&self, user: &User, word: &str, notes: usize, other: &str) -> Vec<NoteId> {
        let author: UserId = user.id.parse().unwrap();
        let other: NoteId = other.parse().unwrap();
        let commands = self.commands();
        let write = |n: usize| {
            let by = self.by(author);
            let new = NewNote {
                id: NoteId(self.eraser.ids.at(by.now)),
                text: (n % 10 != 1).then(|| format!("{word} {n}")),
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
            let (id, is_plain) = (new.id, n % 10 > 1);
            let written = commands.write_note(by, author, new);
            async move { written.await.map(|_| is_plain.then_some(id)) }
        };
        let written = stream::iter((0..notes).map(write)).buffer_unordered(EVENTS_AT_ONCE);
        written.try_collect::<Vec<_>>().await.unwrap().into_iter().flatten().collect()
    }

    async fn react_much(&self, user: &User, notes: &[NoteId]) {
        let reactor: UserId = user.id.parse().unwrap();
        let commands = self.commands();
        let react = |note: &NoteId| commands.react(self.by(reactor), reactor, &[], *note, "👍");
        let reacted = stream::iter(notes.iter().map(react)).buffer_unordered(EVENTS_AT_ONCE);
        reacted.try_collect::<Vec<_>>().await.unwrap();
    }

    async fn keep_much(&self, user: &User) {
        let owner: UserId = user.id.parse().unwrap();
        let commands = self.commands();
        for n in 0..FILES {
            let by = self.by(owner);
            let (name, key) = (format!("{HERS} {n}.txt"), gateway::drive::keep::key());
            let file = FileAdded {
                id: FileId(self.eraser.ids.at(by.now)),
                owner,
                name: name.clone(),
                comment: Some(HERS.to_owned()),
                media_type: "text/plain".to_owned(),
                md5: format!("{n:032x}"),
                size: name.len() as u64,
                sensitive: false,
                properties: Properties::default(),
                blurhash: None,
                folder: None,
                key: key.clone(),
                thumbnail: None,
            };
            let (_, bytes) = tempfile::NamedTempFile::new().unwrap().keep().unwrap();
            fs::write(&bytes, name).unwrap();
            self.eraser.files.put(owner, &key, bytes).await.unwrap();
            let allowed = domain::drive::Allowed::of(100.0, 1.0, vec!["*/*".to_owned()]);
            commands.add_file(by, NewFile { file, used: 0, allowed }).await.unwrap();
        }
    }

    /// The read models are behind while much is written.
    async fn until_read(&self) {
        let deadline = Instant::now() + READ_WITHIN;
        let head = self.eraser.log.head().await.unwrap().0 as i64;
        let behind = "select count(*) from ops.checkpoints where position < $1";
        while sqlx::query_scalar::<_, i64>(behind).bind(head).fetch_one(&self.eraser.pool).await.unwrap() > 0
        {
            assert!(Instant::now() < deadline, "the read models don't come to {head}");
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    fn commands(&self) -> Commands {
        let Eraser { log, keyring, ids, .. } = &self.eraser;
        Commands::new(log.clone(), keyring.clone(), ids.clone(), Bus::local())
    }

    fn by(&self, user: UserId) -> By {
        let now = SystemClock.now();
        By { user: Some(user), now, command: CommandId(self.eraser.ids.at(now)) }
    }

    /// The tables besides the log in which somebody is named, by id or in words.
    async fn tables_naming(&self, user: UserId) -> Vec<String> {
        let pool = &self.eraser.pool;
        let tables = "select schemaname || '.' || tablename from pg_tables
                       where schemaname in ('read', 'ops') order by 1";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(pool).await.unwrap();
        let mut naming = Vec::new();
        for table in tables {
            let sql = format!("select exists (select 1 from {table} t where t::text ~* $1)");
            let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
            let words = format!("{}|{user}|{HERS}", user.0);
            if query.bind(words).fetch_one(pool).await.unwrap() {
                naming.push(table);
            }
        }
        naming
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
