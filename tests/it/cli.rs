//! The operator's tools, as an operator calls them: beside a running server and without one.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use commands::Commands;
use commands::bus::Bus;
use commands::log::{Engine, Keyring, MasterKey, PostgresLog, Takeover};
use domain::log::{By, Clock, Ids};
use domain::{CommandId, UserId};
use gateway::platform::postgres::running_in;
use gateway::system::{SystemClock, TimeOrderedIds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, PgPool};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::eventstore_double::Double;
use crate::harness::{Answer, Database, PASSWORD, User, answer, with_form};
use crate::nats;
use crate::process::{Kiroku, URL, binary};
use crate::s3_double;

const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread")]
async fn tools_tell_the_same_beside_a_running_server_and_without_one() {
    let place = Place::new();
    let mut kiroku = Kiroku::start(&place.data);
    kiroku.until_ready();
    let life = Life::lived(&kiroku).await;
    tells_it_all(&place, &life).await;
    kiroku.stop();
    tells_it_all(&place, &life).await;
    assert!(running_in(&place.data()).is_none(), "a tool has left its database running");
}

async fn tells_it_all(place: &Place, life: &Life) {
    let Life { alice, bob, note, .. } = life;
    let stats = place.json(&["log", "stats"]).await;
    assert_eq!((&stats["kinds"]["note.created"], &stats["people"]), (&json!(2), &json!(2)));
    let (events, head) = (stats["events"].as_u64().unwrap(), stats["head"].as_u64().unwrap());

    let tail = place.lines(&["log", "tail", "-n", "2"]).await;
    assert_eq!(
        tail.iter().map(|event| &event["kind"]).collect::<Vec<_>>(),
        ["note.created", "follow.started"]
    );
    assert_eq!((&tail[1]["position"], &tail[1]["payload"]), (&json!(head), &Value::Null));
    let of_bob = place.lines(&["log", "tail", "--user", "@bob", "--kind", "poll.voted"]).await;
    assert_eq!((of_bob.len(), &of_bob[0]["actor"]), (1, &json!(bob.id)));
    let stream = format!("note-{note}");
    assert_eq!(place.lines(&["log", "tail", "--stream", &stream]).await.len(), 1);

    let found = place.lines(&["log", "grep", "w.rld"]).await;
    assert_eq!((found.len(), &found[0]["payload"]["text"]), (1, &json!("hello wörld")));
    assert_eq!(place.lines(&["log", "grep", "w.rld", "--until", "2020-01-01"]).await.len(), 0);
    assert_eq!(place.lines(&["log", "grep", "w.rld", "--kind", "user.created"]).await.len(), 0);
    let position = found[0]["position"].to_string();
    for what in [&position, found[0]["id"].as_str().unwrap(), &stream] {
        let shown = place.lines(&["log", "show", what]).await;
        assert_eq!(shown, found, "{what}");
    }
    let text = place.text(&["log", "show", &stream]).await;
    assert!(text.contains("hello wörld") && text.contains("kind     note.created"), "{text}");

    let checked = place.json(&["log", "check"]).await;
    assert_eq!((&checked["events"], &checked["faults_found"]), (&json!(events), &json!(0)));

    let at =
        async |when: &str, what: &[&str]| place.json(&[&["at", when], what].concat()).await["state"].clone();
    let seen = at("now", &["note", note]).await;
    assert_eq!((&seen["text"], &seen["deleted"]), (&json!("hello wörld"), &json!(false)));
    assert_eq!(at("now", &["user", "@bob"]).await["username"], "bob");
    assert_eq!(at("now", &["user", &bob.id]).await["username"], "bob");
    assert_eq!(at("now", &["follow", "@bob", "alice"]).await["following"]["notify"], "none");
    assert_eq!(at("now", &["poll", note]).await["votes"][1], json!({ "choice": "b", "votes": 1 }));
    assert_eq!(at(&position, &["poll", note]).await["votes"][1], json!({ "choice": "b", "votes": 0 }));
    assert_eq!(at("now", &["poll", note, "@bob"]).await["choices"], json!([1]));
    assert_eq!(at("now", &["reaction", note]).await["reactions"], json!({ bob.id.clone(): "🎉" }));
    assert_eq!(at(&head.to_string(), &["reaction", note, "bob"]).await["reaction"], "🎉");
    assert_eq!(at("now", &["instance"]).await["root"], json!(alice.id));
    let before = place.run(&["at", "2020-01-01", "note", note]).await;
    assert_eq!(before.code, 1);
    assert!(before.err.contains("begins at position"), "{}", before.err);

    let standing = place.json(&["projections"]).await;
    let names: Vec<&str> =
        standing.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"notes") && names.contains(&"notifications"), "{names:?}");
    for one in standing.as_array().unwrap() {
        assert_eq!(
            (&one["position"], &one["lag_events"], &one["stopped"]),
            (&json!(head), &json!(0), &Value::Null)
        );
    }

    let verified = place.json(&["verify"]).await;
    assert_eq!(verified["log"]["faults_found"], 0);
    assert_eq!(verified["read_models"]["projectors"].as_array().unwrap().len(), names.len());
    let rebuilt = place.json(&["rebuild", "notes", "users"]).await;
    assert_eq!((&rebuilt["switched"], rebuilt["projectors"].as_array().unwrap().len()), (&json!(true), 2));

    let looked = place.json(&["doctor"]).await;
    for check in [
        "settings",
        "data directory",
        "disk",
        "server",
        "clock",
        "postgresql",
        "tables",
        "keys",
        "log",
        "files",
    ] {
        assert!(looked.as_array().unwrap().iter().any(|line| line["check"] == check), "{check}: {looked}");
    }
    // The address of these tests is none with TLS.
    let is_well = |line: &Value| line["verdict"] == if line["check"] == "settings" { "warn" } else { "ok" };
    assert!(looked.as_array().unwrap().iter().all(is_well), "{looked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_follows_until_it_is_interrupted() {
    let place = Place::new();
    let mut kiroku = Kiroku::start(&place.data);
    kiroku.until_ready();
    let client = Client::of(&kiroku);
    let mut tail = place.command(&["log", "tail", "-n", "1", "--follow", "--json"]);
    let mut tail = tail.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let next = async |lines: &mut tokio::io::Lines<_>| -> Value {
        let line = tokio::time::timeout(DEADLINE, tokio::io::Lines::next_line(lines)).await.unwrap();
        serde_json::from_str(&line.unwrap().unwrap()).unwrap()
    };
    assert_eq!(next(&mut lines).await["kind"], "instance.claimed");
    client.sign_up("alice").await;
    while next(&mut lines).await["kind"] != "user.created" {}
    kill(Pid::from_raw(tail.id().unwrap().cast_signed()), Signal::SIGINT).unwrap();
    assert!(tail.wait().await.unwrap().success());
    kiroku.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_grows_and_comes_back_as_it_was_without_the_erased() {
    let place = Place::new();
    let mut kiroku = Kiroku::start(&place.data);
    kiroku.until_ready();
    let life = Life::lived(&kiroku).await;
    let kept = place.path("kept");
    let kept = kept.to_str().unwrap();
    let first = place.json(&["backup", kept]).await;
    assert_eq!(
        (&first["added"], &first["segments"], &first["master_key"]),
        (&first["events"], &json!(1), &Value::Null)
    );
    let old_keys = place.path("old.keys");
    fs::copy(first["keys"].as_str().unwrap(), &old_keys).unwrap();
    let mode = fs::metadata(&old_keys).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "keys are for nobody else");

    let erased =
        place.json(&["erase", "@bob", "--yes", "--certificate", place.path("proof").to_str().unwrap()]).await;
    assert_eq!((&erased["user"], &erased["left_rows"]), (&json!(life.bob.id), &json!({})));
    let proof: Value = serde_json::from_slice(&fs::read(place.path("proof")).unwrap()).unwrap();
    assert_eq!(proof, erased);
    let client = Client::of(&kiroku);
    assert_eq!(client.call("users/show", json!({ "username": "bob" })).await.status, 404);
    client.ok("notes/create", json!({ "i": life.alice.token, "text": "after" })).await;
    let second = place.json(&["backup", kept]).await;
    assert_eq!((&second["added"], &second["segments"]), (&json!(2), &json!(2)));
    assert_eq!(place.json(&["backup", kept]).await["added"], 0);
    kiroku.stop();

    let words = unpacked(Path::new(kept)).await;
    assert!(words.contains("note.created") && !words.contains("hello w"), "a backup has words in clear");

    // The old keys still have the key of the erased, and a killed restore is run again.
    let restored = Place::new();
    let old = old_keys.to_str().unwrap();
    let refused = restored.run(&["restore", kept, "--keys", old, "--yes"]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("master.key"), "{}", refused.err);
    fs::copy(place.data().join("master.key"), restored.data().join("master.key")).unwrap();
    let mut killed = restored.command(&["restore", kept, "--keys", old, "--yes"]).spawn().unwrap();
    until(|| restored.data().join("postgres/PG_VERSION").exists()).await;
    killed.start_kill().unwrap();
    killed.wait().await.unwrap();
    let done = restored.json(&["restore", kept, "--keys", old, "--yes"]).await;
    assert_eq!((&done["events"], &done["erased_again"]), (&second["events"], &json!(1)));
    assert_eq!(restored.json(&["verify"]).await["log"]["erased"], done["verified"]["log"]["erased"]);
    assert_eq!(restored.lines(&["log", "grep", "from bob"]).await, Vec::<Value>::new());

    let mut again = Kiroku::start(&restored.data);
    again.until_ready();
    let client = Client::of(&again);
    let signed_in = client.ok("signin-flow", json!({ "username": "alice", "password": PASSWORD })).await;
    assert_eq!(signed_in["i"], json!(life.alice.token), "the old password gives the old token");
    let shown = client.ok("notes/show", json!({ "noteId": life.note })).await;
    assert_eq!((&shown["text"], &shown["reactions"]), (&json!("hello wörld"), &json!({})));
    assert_eq!(client.call("users/show", json!({ "username": "bob" })).await.status, 404);
    let occupied = restored.run(&["restore", kept, "--keys", old, "--yes"]).await;
    assert_eq!(occupied.code, 3, "{}", occupied.err);
    client.ok("notes/create", json!({ "i": life.alice.token, "text": "a new life" })).await;
    again.stop();
    let lived_in = restored.run(&["restore", kept, "--keys", old, "--yes"]).await;
    assert_eq!(lived_in.code, 1);
    assert!(lived_in.err.contains("there is a server already"), "{}", lived_in.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_along_and_are_missed() {
    let place = Place::new();
    let mut kiroku = Kiroku::start(&place.data);
    kiroku.until_ready();
    let Life { alice, bob, .. } = Life::lived(&kiroku).await;
    let client = Client::of(&kiroku);
    // Longer than what is sealed at once.
    let long = b"long ".repeat(500_000);
    let large = client.upload(&alice, "large.txt", long.clone()).await;
    let words = client.upload(&alice, "words.txt", b"words of alice".to_vec()).await;
    let brief = client.upload(&alice, "brief.txt", b"not for long".to_vec()).await;
    let his = client.upload(&bob, "his.txt", b"words of bob".to_vec()).await;
    // An emoji has a copy of the picture, and both a small one.
    let drawn = client.upload(&alice, "blob.png", crate::emoji::picture(1)).await;
    let blob = json!({ "i": alice.token, "name": "blob", "fileId": drawn.id });
    client.ok("admin/emoji/add", blob).await;
    let kept = place.path("kept");
    let files = kept.join("files");
    let into = kept.to_str().unwrap();
    let seen = place.json(&["at", "now", "file", &words.id]).await;
    assert_eq!((&seen["state"]["name"], &seen["state"]["deleted"]), (&json!("words.txt"), &json!(false)));
    let counts = |made: &Value| ["added", "removed"].map(|key| made["files"][key].as_u64().unwrap());

    assert_eq!(counts(&place.json(&["backup", into]).await), [4 + 4, 0]);
    assert_eq!(counts(&place.json(&["backup", into]).await), [0, 0], "what is there is not copied again");
    for upload in [&words, &his] {
        let sealed = fs::read(files.join(&upload.path)).unwrap();
        assert!(!sealed.windows(8).any(|bytes| bytes == b"words of"), "a file is there in clear");
    }
    client.ok("drive/files/delete", json!({ "i": alice.token, "fileId": brief.id })).await;
    place.json(&["erase", "@bob", "--yes"]).await;
    let late = client.upload(&alice, "late.txt", b"later".to_vec()).await;
    let made = place.json(&["backup", into]).await;
    assert_eq!((counts(&made), &made["files"]["missing"]["missing"]), ([1, 2], &json!(0)));
    assert!(!files.join(&brief.path).exists() && !files.join(&bob.id).exists(), "what is gone stays");
    assert_eq!(place.json(&["verify"]).await["files"]["looked_at"], 3 + 2);

    // What the server has lost is noticed by all.
    let lost = place.data().join("files").join(&late.path);
    fs::remove_file(&lost).unwrap();
    assert_eq!(place.run(&["doctor"]).await.code, 1);
    let verified = place.run(&["verify", "--json"]).await;
    assert_eq!(verified.code, 5, "{verified:?}");
    let verified: Value = serde_json::from_str(&verified.out).unwrap();
    assert_eq!(verified["files"]["named"][0]["key"], json!(late.key));
    assert_eq!(place.run(&["verify", "notes"]).await.code, 0, "that has no files");
    assert_eq!(place.run(&["backup", into]).await.code, 0, "the backup has it still");
    let elsewhere = place.path("elsewhere");
    let made = place.run(&["backup", elsewhere.to_str().unwrap(), "--json"]).await;
    assert_eq!(made.code, 1, "{made:?}");
    assert!(made.err.contains(&late.path), "{}", made.err);
    kiroku.stop();

    // One that was changed, and one that was taken away, are told and left out; the rest comes back.
    let restored = Place::new();
    fs::copy(place.data().join("master.key"), restored.data().join("master.key")).unwrap();
    let path = files.join(&words.path);
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    changed[40] ^= 1;
    fs::write(&path, changed).unwrap();
    fs::rename(files.join(&late.path), place.path("late")).unwrap();
    let keys = place.path("kept.keys");
    let restore = ["restore", into, "--keys", keys.to_str().unwrap(), "--yes", "--json"];
    let said = restored.run(&restore).await;
    assert_eq!(said.code, 5, "{said:?}");
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["files"], json!({ "files": 1 + 4, "already": 0, "missing": 1, "damaged": 1 }));
    assert!(said.err.contains(&words.path) && said.err.contains(&late.path), "{}", said.err);
    assert_eq!(told["verified"]["files"]["missing"], 2);

    fs::write(&path, whole).unwrap();
    fs::rename(place.path("late"), files.join(&late.path)).unwrap();
    let told = restored.json(&restore[..restore.len() - 1]).await;
    assert_eq!(told["files"], json!({ "files": 2, "already": 1 + 4, "missing": 0, "damaged": 0 }));
    let mut again = Kiroku::start(&restored.data);
    again.until_ready();
    let client = Client::of(&again);
    for (upload, content) in [(&large, &long[..]), (&words, b"words of alice"), (&late, b"later")] {
        let served = client.http.get(format!("{}/files/{}", client.url, upload.key)).send().await.unwrap();
        assert!(served.bytes().await.unwrap() == content, "{}", upload.path);
    }
    let shown = client.ok("emojis", json!({})).await;
    let (_, key) = shown["emojis"][0]["url"].as_str().unwrap().rsplit_once('/').unwrap();
    let served = client.http.get(format!("{}/files/{key}", client.url)).send().await.unwrap();
    assert!(served.bytes().await.unwrap() == crate::emoji::picture(1));
    again.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_a_bucket_come_along_and_are_missed() {
    let mut double = s3_double::Double::start().await;
    let place = Place::with(double.settings());
    let mut kiroku = place.start();
    kiroku.until_ready();
    let Life { alice, bob, .. } = Life::lived(&kiroku).await;
    let client = Client::of(&kiroku);
    let long = b"long ".repeat(1_200_000);
    let large = client.upload(&alice, "large.txt", long.clone()).await;
    let words = client.upload(&alice, "words.txt", b"words of alice".to_vec()).await;
    let his = client.upload(&bob, "his.txt", b"words of bob".to_vec()).await;
    let named = |upload: &Upload| format!("some/where/{}", upload.path);
    let (kept, keys) = (place.path("kept"), place.path("kept.keys"));
    let into = kept.to_str().unwrap();
    assert_eq!(place.json(&["backup", into]).await["files"]["added"], 3);
    place.json(&["erase", "@bob", "--yes"]).await;
    assert!(!double.keys("").contains(&named(&his)));
    assert_eq!(place.json(&["backup", into]).await["files"]["removed"], 1);
    assert_eq!(place.json(&["verify"]).await["files"]["looked_at"], 2);
    assert_eq!(double.keys("").len(), 2);

    double.lose(&named(&words));
    assert_eq!(place.run(&["doctor"]).await.code, 1);
    let verified = place.run(&["verify", "--json"]).await;
    assert_eq!(verified.code, 5, "{verified:?}");
    kiroku.stop();
    double.go_away().await;
    let looked = place.run(&["doctor", "--json"]).await;
    let looked: Value = serde_json::from_str(&looked.out).unwrap();
    let failed: Vec<&Value> =
        looked.as_array().unwrap().iter().filter(|line| line["verdict"] == "fail").collect();
    assert_eq!((failed.len(), &failed[0]["check"]), (1, &json!("files")));
    assert!(failed[0]["found"].as_str().unwrap().contains("can't be reached"), "{failed:?}");

    // A server that could never keep a file does not start.
    double.come_back().await;
    let elsewhere = ["serve", "--listen", "127.0.0.1:0", "--object-storage-bucket", "another"];
    let refused = place.command(&elsewhere).output().await.unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.lines().last().unwrap().contains("404 NoSuchBucket"), "{told}");

    // It comes back in a bucket that has nothing yet.
    let other = s3_double::Double::start().await;
    let restored = Place::with(other.settings());
    fs::copy(place.data().join("master.key"), restored.data().join("master.key")).unwrap();
    let restore = ["restore", into, "--keys", keys.to_str().unwrap(), "--yes"];
    let told = restored.json(&restore).await;
    assert_eq!(told["files"], json!({ "files": 2, "already": 0, "missing": 0, "damaged": 0 }));
    let mut again = restored.start();
    again.until_ready();
    let client = Client::of(&again);
    for (upload, content) in [(&large, &long[..]), (&words, b"words of alice")] {
        assert!(other.keys("").contains(&named(upload)));
        let served = client.http.get(format!("{}/files/{}", client.url, upload.key)).send().await.unwrap();
        assert!(served.bytes().await.unwrap() == content, "{}", upload.path);
    }
    again.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_taken_only_as_it_was_written() {
    let place = Place::new();
    let mut kiroku = Kiroku::start(&place.data);
    kiroku.until_ready();
    let life = Life::lived(&kiroku).await;
    let kept = place.path("kept");
    let into = kept.to_str().unwrap();
    place.json(&["backup", into]).await;
    Client::of(&kiroku).ok("notes/create", json!({ "i": life.alice.token, "text": "more" })).await;

    let lock = File::open(kept.join("backup.lock")).unwrap();
    lock.lock().unwrap();
    let second = place.run(&["backup", into]).await;
    assert_eq!(second.code, 1);
    assert!(second.err.contains("another backup is being written"), "{}", second.err);
    drop(lock);
    let made = place.json(&["backup", into]).await;
    assert_eq!((&made["added"], &made["segments"]), (&json!(1), &json!(2)));
    kiroku.stop();

    let restored = Place::new();
    fs::copy(place.data().join("master.key"), restored.data().join("master.key")).unwrap();
    let keys = made["keys"].as_str().unwrap();
    let restore = ["restore", into, "--keys", keys, "--yes"];
    let refused = async |path: &Path, forged: String, why: &str| {
        let whole = fs::read(path).unwrap();
        assert_ne!(forged.as_bytes(), whole);
        fs::write(path, forged).unwrap();
        let said = restored.run(&restore).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(why), "{}", said.err);
        assert!(!restored.data().join("postgres").exists(), "something was brought in");
        fs::write(path, whole).unwrap();
    };

    // A token row of one's own, with the count put right.
    let rows = fs::read_to_string(keys).unwrap();
    let row = rows.lines().find(|line| line.contains("native_tokens")).unwrap();
    let (body, end) = rows.trim_end().rsplit_once('\n').unwrap();
    let count = body.lines().count() - 1;
    let end = end.replace(&format!(":{count},"), &format!(":{},", count + 1));
    refused(Path::new(keys), format!("{body}\n{row}\n{end}\n"), "was changed since").await;
    // The last segment cut off, as the manifest was before it.
    let path = kept.join("manifest.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let (line, mark) = text.split_once('\n').unwrap();
    let mut manifest: Value = serde_json::from_str(line).unwrap();
    let segments = manifest["segments"].as_array_mut().unwrap();
    segments.pop();
    let last = segments[0].clone();
    for total in ["to", "appends", "events"] {
        manifest[total] = last[total].clone();
    }
    refused(&path, format!("{manifest}\n{mark}"), "was changed since").await;
    assert!(manifest["chain"].is_string(), "the head of the chain is kept: {manifest}");

    // Nor is a changed one added to.
    fs::write(&path, format!("{manifest}\n{mark}")).unwrap();
    let added = place.run(&["backup", into]).await;
    assert_eq!(added.code, 1, "{added:?}");
    assert!(added.err.contains("was changed since"), "{}", added.err);
    fs::write(&path, text).unwrap();

    fs::write(restored.data().join("master.key"), "07".repeat(32)).unwrap();
    let other = restored.run(&restore).await;
    assert_eq!(other.code, 1);
    assert!(other.err.contains("not the master key of the backup"), "{}", other.err);
    fs::copy(place.data().join("master.key"), restored.data().join("master.key")).unwrap();
    assert_eq!(restored.json(&restore).await["events"], made["events"]);

    // What was restored is another log than the one that was kept, even if it has the same events.
    let on = restored.run(&["backup", into]).await;
    assert_eq!(on.code, 1, "{on:?}");
    assert!(on.err.contains("name an empty directory"), "{}", on.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_not_complete_before_the_feed_has_heard_of_it() {
    let mut nats = nats::Server::start();
    let url = nats.url();
    let fed = [("KIROKU_URL", URL), ("KIROKU_NATS_URL", url.as_str())];
    let place = Place::new();
    let mut kiroku = Kiroku::start_with(&place.data, &fed);
    kiroku.until_ready();
    let life = Life::lived(&kiroku).await;
    nats.told_until_text("greetings from bob").await;
    nats.kill();

    // The row that the feed keeps is enough to know of it.
    for settings in [&fed[..], &[]] {
        let erase = ["erase", &life.bob.id, "--yes", "--json"];
        let erased = place.command(&erase).envs(settings.iter().copied()).output().await.unwrap();
        assert_eq!(erased.status.code(), Some(1), "{}", String::from_utf8_lossy(&erased.stderr));
        let erased: Value = serde_json::from_slice(&erased.stdout).unwrap();
        let not_done = erased["scrub"]["not_done"].as_array().unwrap();
        assert!(not_done.len() == 1 && not_done[0].as_str().unwrap().contains("feed on NATS"), "{erased}");
    }
    nats.start_again();
    let deadline = Instant::now() + DEADLINE;
    while place.run(&["erase", &life.bob.id, "--yes"]).await.code != 0 {
        assert!(Instant::now() < deadline, "the feed never hears of it");
    }
    let told = nats.told().await;
    assert!(told.iter().any(|message| message.body["kind"] == "user.erased"));
    assert!(told.iter().all(|message| !message.body.to_string().contains("bob")), "he is in the feed");
    kiroku.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_into_a_database_of_the_operators() {
    let place = Place::new();
    let mut kiroku = Kiroku::start(&place.data);
    kiroku.until_ready();
    Life::lived(&kiroku).await;
    kiroku.stop();
    let (kept, master) = (place.path("kept"), place.path("master"));
    let (kept, master) = (kept.to_str().unwrap(), master.to_str().unwrap());
    let made = place.json(&["backup", kept, "--with-master-key", master]).await;
    assert_eq!(made["master_key"], master);

    let database = Database::create().await;
    let elsewhere = Place::new();
    let url = elsewhere.path("url");
    fs::write(&url, database.url()).unwrap();
    let url = url.to_str().unwrap();
    let settings = ["--database-url-file", url, "--master-key-file", master];
    let keys = made["keys"].as_str().unwrap();
    let empty = elsewhere.run(&[&["log", "stats"], &settings[..]].concat()).await;
    assert!(empty.code == 1 && empty.err.contains("the database is empty"), "{}", empty.err);
    let done = elsewhere.json(&[&["restore", kept, "--keys", keys, "--yes"], &settings[..]].concat()).await;
    assert_eq!(done["events"], made["events"]);
    let stats = elsewhere.json(&[&["log", "stats"], &settings[..]].concat()).await;
    assert_eq!(stats["events"], made["events"]);
    assert!(!elsewhere.data().join("postgres").exists(), "there is another database");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_tampered_with_is_found_down_to_the_row() {
    let place = Place::new();
    let mut kiroku = Kiroku::start(&place.data);
    kiroku.until_ready();
    let life = Life::lived(&kiroku).await;
    let mut database = PgConnection::connect_with(&running_in(&place.data()).unwrap()).await.unwrap();
    let mut change = async |sql: &'static str| {
        let changed = sqlx::raw_sql(sql).execute(&mut database).await.unwrap().rows_affected();
        assert!(changed > 0, "{sql}");
    };

    change("update read.notes set text = 'hello world' where text like 'hello%'").await;
    let found = place.run(&["verify", "--json"]).await;
    assert_eq!(found.code, 5, "{}", found.err);
    let found: Value = serde_json::from_str(&found.out).unwrap();
    let tables = found["read_models"]["projectors"].as_array().unwrap().iter().flat_map(|one| {
        one["tables"].as_array().unwrap().iter().filter(|table| table["differing"] != 0).collect::<Vec<_>>()
    });
    let tables: Vec<&Value> = tables.collect();
    assert_eq!((tables.len(), &tables[0]["name"], &tables[0]["differing"]), (1, &json!("notes"), &json!(1)));
    let text = place.run(&["verify", "notes"]).await;
    assert_eq!(text.code, 5);
    assert!(text.out.contains("differs in text"), "{}", text.out);

    assert_eq!(place.run(&["rebuild", "notes"]).await.code, 5);
    assert_eq!(place.run(&["verify"]).await.code, 0);
    let client = Client::of(&kiroku);
    assert_eq!(client.ok("notes/show", json!({ "noteId": life.note })).await["text"], "hello wörld");

    change(
        "alter table log.events disable trigger only_added_to;
         update log.events set at = at - interval '1 day' where kind = 'note.created';",
    )
    .await;
    let checked = place.run(&["log", "check", "--json"]).await;
    assert_eq!(checked.code, 5, "{}", checked.err);
    let checked: Value = serde_json::from_str(&checked.out).unwrap();
    assert_eq!(checked["faults"][0]["fault"], "chain", "{checked}");
    assert_eq!(place.run(&["verify"]).await.code, 5);
    drop(database);
    kiroku.stop();
}

/// The rows of an erased person are still there, and no event of theirs can be read any more.
#[tokio::test(flavor = "multi_thread")]
async fn read_models_that_a_stopped_server_has_left_behind_are_filled_before_they_are_compared() {
    let place = Place::new();
    let mut kiroku = Kiroku::start(&place.data);
    kiroku.until_ready();
    let life = Life::lived(&kiroku).await;
    kiroku.stop();
    for tool in ["verify", "rebuild"] {
        let mut api = Kiroku::start_with(&place.data, &[("KIROKU_URL", URL), ("KIROKU_ROLES", "api")]);
        api.until_ready();
        let who = if tool == "verify" { &life.bob } else { &life.alice };
        erase_in_the_log(&place.data(), who.id.parse().unwrap()).await;
        api.stop();
        let standing = place.json(&["projections"]).await;
        let behind = |one: &Value| one["lag_events"].as_u64().unwrap() > 0;
        assert!(standing.as_array().unwrap().iter().all(behind), "{standing}");

        let said = place.run(&[tool, "--json"]).await;
        assert_eq!(said.code, 0, "{tool}: {said:?}");
        let standing = place.json(&["projections"]).await;
        assert!(!standing.as_array().unwrap().iter().any(behind), "{standing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_of_the_operator_go_along_and_what_cannot_is_named() {
    let place = Place::new();
    let mut kiroku = Kiroku::start(&place.data);
    kiroku.until_ready();
    Life::lived(&kiroku).await;
    let mut database = PgConnection::connect_with(&running_in(&place.data()).unwrap()).await.unwrap();
    let made = "create schema reports;
                create view reports.words as select text from read.notes;
                create materialized view reports.kept as select text from reports.words;
                create materialized view reports.stuck as select text from read.notes;";
    sqlx::raw_sql(made).execute(&mut database).await.unwrap();
    let refused = place.run(&["rebuild"]).await;
    assert!(refused.code == 1 && refused.err.contains("materialized view reports.stuck"), "{refused:?}");
    assert!(!refused.err.contains("reports.kept"), "{refused:?}");
    assert_eq!(place.run(&["verify"]).await.code, 0);
    sqlx::raw_sql("drop materialized view reports.stuck").execute(&mut database).await.unwrap();
    for _ in 0..2 {
        place.json(&["rebuild"]).await;
        let words = sqlx::query_scalar("select count(*) from reports.words");
        assert_eq!(words.fetch_one(&mut database).await.ok(), Some(2_i64));
    }
    drop(database);
    kiroku.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_moves_to_another_engine_and_back() {
    let double = Double::start().await;
    let place = Place::new();
    let url = double.url();
    let on_it = [("KIROKU_URL", URL), ("KIROKU_LOG", "eventstore"), ("KIROKU_EVENTSTORE_URL", url.as_str())];
    let mut kiroku = Kiroku::start(&place.data);
    kiroku.until_ready();
    let life = Life::lived(&kiroku).await;
    let there = ["log", "copy", "--from", "postgres", "--to", "eventstore", "--yes", "--json"];
    let running = place.command(&there).env("KIROKU_EVENTSTORE_URL", &url).output().await.unwrap();
    assert_eq!(running.status.code(), Some(3), "nothing may run meanwhile");
    kiroku.stop();
    let before = place.json(&["log", "stats"]).await;

    for again in [false, true] {
        let copied = place.command(&there).env("KIROKU_EVENTSTORE_URL", &url).output().await.unwrap();
        let copied: Value = serde_json::from_slice(&copied.stdout).unwrap();
        let already = if again { &before["appends"] } else { &json!(0) };
        assert_eq!((&copied["events"], &copied["already"]), (&before["events"], already));
        assert_eq!(copied["set"]["log"], "eventstore");
    }
    let mut moved = Kiroku::start_with(&place.data, &on_it);
    moved.until_ready();
    let client = Client::of(&moved);
    let shown = client.until_shown(&life.note).await;
    assert_eq!((&shown["text"], &shown["reactions"]), (&json!("hello wörld"), &json!({ "🎉": 1 })));
    let over_there = json!({ "i": life.alice.token, "text": "over there" });
    let written = client.ok("notes/create", over_there).await;
    let verify = place.command(&["verify", "--json"]).envs(on_it).output().await.unwrap();
    assert_eq!(verify.status.code(), Some(0), "{}", String::from_utf8_lossy(&verify.stderr));
    moved.stop();

    let back = ["log", "copy", "--from", "eventstore", "--to", "postgres", "--yes", "--json"];
    let copied = place.command(&back).envs(on_it).output().await.unwrap();
    assert_eq!(copied.status.code(), Some(0), "{}", String::from_utf8_lossy(&copied.stderr));
    let after = place.json(&["log", "stats"]).await;
    assert_eq!(after["kinds"]["note.created"], 3);
    assert_eq!(place.json(&["log", "check"]).await["faults_found"], 0);
    let mut home = Kiroku::start(&place.data);
    home.until_ready();
    let shown = Client::of(&home).until_shown(written["createdNote"]["id"].as_str().unwrap()).await;
    assert_eq!(shown["text"], "over there");
    home.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_undone_or_meant_is_refused() {
    let place = Place::new();
    let nothing = place.run(&["log", "stats"]).await;
    assert!(nothing.code == 1 && nothing.err.contains("holds no Kiroku"), "{}", nothing.err);
    assert_eq!(fs::read_dir(place.data()).unwrap().count(), 0, "a look has made something");

    let mut kiroku = Kiroku::start(&place.data);
    kiroku.until_ready();
    let life = Life::lived(&kiroku).await;
    let kept = place.path("kept");
    let kept = kept.to_str().unwrap();
    let keys = place.json(&["backup", kept]).await["keys"].as_str().unwrap().to_owned();
    let head = place.json(&["log", "stats"]).await["head"].clone();
    for unasked in [
        &["erase", "@bob"][..],
        &["restore", kept, "--keys", &keys],
        &["log", "copy", "--from", "postgres", "--to", "eventstore"],
    ] {
        let refused = place.run(unasked).await;
        assert_eq!(refused.code, 2, "{unasked:?}: {}", refused.err);
        assert!(refused.err.contains("--yes"), "{unasked:?}: {}", refused.err);
        assert_eq!(refused.err.lines().count(), 1, "{unasked:?}: {}", refused.err);
    }
    assert_eq!(place.json(&["log", "stats"]).await["head"], head);
    assert_eq!(
        Client::of(&kiroku).ok("users/show", json!({ "username": "bob" })).await["id"],
        json!(life.bob.id)
    );

    for wrong in [
        &["log"][..],
        &["log", "tail", "-n", "many"],
        &["log", "tail", "--kind", "note.unheard_of"],
        &["log", "grep", "("],
        &["log", "grep", "x", "--since", "yesterday"],
        &["log", "show", "?"],
        &["log", "copy", "--from", "postgres", "--to", "postgres", "--yes"],
        &["log", "copy", "--from", "eventstore", "--to", "postgres", "--yes"],
        &["at", "then", "instance"],
        &["at", "now", "weather"],
        &["at", "now", "note", "?"],
        &["at", "now", "file", "?"],
        &["rebuild", "weather"],
        &["verify", "weather"],
        &["erase"],
        &["restore", kept],
        &["doctor", "--jsonn"],
    ] {
        let refused = place.run(wrong).await;
        assert_eq!(refused.code, 2, "{wrong:?}: {}{}", refused.out, refused.err);
    }
    for unknown in
        [&["erase", "@nobody", "--yes"][..], &["log", "show", "999999"], &["log", "show", "note-1"]]
    {
        assert_eq!(place.run(unknown).await.code, 1, "{unknown:?}");
    }
    kiroku.stop();

    fs::set_permissions(place.data(), fs::Permissions::from_mode(0o755)).unwrap();
    let looked = place.run(&["doctor", "--json"]).await;
    assert_eq!(looked.code, 1);
    let looked: Value = serde_json::from_str(&looked.out).unwrap();
    let failed: Vec<&Value> =
        looked.as_array().unwrap().iter().filter(|line| line["verdict"] == "fail").collect();
    assert_eq!((failed.len(), &failed[0]["check"]), (1, &json!("data directory")));
    assert!(failed[0]["advice"].as_str().unwrap().contains("chmod 700"), "{failed:?}");
}

/// Where an operator sits: a data directory, and another place for files.
struct Place {
    data: TempDir,
    further: TempDir,
    /// Further settings, as variables.
    settings: Vec<(String, String)>,
}

/// What a tool has said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        Self::with(Vec::new())
    }

    fn with(settings: Vec<(String, String)>) -> Self {
        let data = tempfile::tempdir().unwrap();
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self { data, further: tempfile::tempdir().unwrap(), settings }
    }

    /// Starts the server there.
    fn start(&self) -> Kiroku {
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Kiroku::start_with(&self.data, &settings.chain([("KIROKU_URL", URL)]).collect::<Vec<_>>())
    }

    fn data(&self) -> PathBuf {
        self.data.path().canonicalize().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.further.path().join(name)
    }

    /// Without a terminal.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("KIROKU_DATA_DIR", self.data())
            .env("KIROKU_URL", URL)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(self.further.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What a tool that succeeds prints.
    async fn text(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments).await;
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said.out
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{arguments:?} prints no JSON: {text}"))
    }

    async fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.text(&[arguments, &["--json"]].concat()).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Two people and what they did; the last two events are a note of Bob's and his following of Alice.
struct Life {
    alice: User,
    bob: User,
    /// Of Alice, with a poll that Bob voted on, and his reaction.
    note: String,
}

impl Life {
    async fn lived(kiroku: &Kiroku) -> Self {
        let client = Client::of(kiroku);
        let alice = client.sign_up("alice").await;
        client.ok("admin/update-meta", json!({ "i": alice.token, "disableRegistration": false })).await;
        let bob = client.sign_up("bob").await;
        let asked = json!({ "i": alice.token, "text": "hello wörld", "poll": { "choices": ["a", "b"] } });
        let note = client.ok("notes/create", asked).await["createdNote"]["id"].as_str().unwrap().to_owned();
        client.ok("notes/polls/vote", json!({ "i": bob.token, "noteId": note, "choice": 1 })).await;
        client
            .ok("notes/reactions/create", json!({ "i": bob.token, "noteId": note, "reaction": "🎉" }))
            .await;
        client.ok("notes/create", json!({ "i": bob.token, "text": "greetings from bob" })).await;
        client.ok("following/create", json!({ "i": bob.token, "userId": alice.id })).await;
        Self { alice, bob, note }
    }
}

/// A file of somebody's.
struct Upload {
    id: String,
    /// Under which it is served.
    key: String,
    /// Where it is kept: person and key.
    path: String,
}

/// Calls a server that is a process of its own.
struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    fn of(kiroku: &Kiroku) -> Self {
        let http = crate::harness::http().no_proxy().timeout(ANSWER_WITHIN).build().unwrap();
        Self { http, url: format!("http://{}", kiroku.address) }
    }

    async fn call(&self, endpoint: &str, params: Value) -> Answer {
        let request = self.http.post(format!("{}/api/{endpoint}", self.url));
        let request = request.header("content-type", "application/json").body(params.to_string());
        answer(request.send().await.unwrap()).await
    }

    async fn ok(&self, endpoint: &str, params: Value) -> Value {
        let answer = self.call(endpoint, params).await;
        assert!(answer.status < 300, "{endpoint}: {answer:?}");
        answer.body
    }

    /// Uploads a file.
    async fn upload(&self, by: &User, name: &str, bytes: Vec<u8>) -> Upload {
        let request = self.http.post(format!("{}/api/drive/files/create", self.url));
        let token = [("i", by.token.as_str())].into_iter();
        let made = answer(with_form(request, token, Some((name, bytes))).send().await.unwrap()).await;
        assert_eq!(made.status, 200, "{made:?}");
        let text = |key: &str| made.body[key].as_str().unwrap().to_owned();
        let key = text("url").rsplit('/').next().unwrap().to_owned();
        Upload { id: text("id"), path: format!("{}/{key}", by.id), key }
    }

    /// A note, when the read models have been filled that far.
    async fn until_shown(&self, note: &str) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = self.call("notes/show", json!({ "noteId": note })).await;
            if answer.status == 200 {
                return answer.body;
            }
            assert!(Instant::now() < deadline, "it is never shown: {answer:?}");
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    async fn sign_up(&self, name: &str) -> User {
        let params = json!({ "username": name, "password": PASSWORD });
        let mut answer = self.call("admin/accounts/create", params.clone()).await;
        if answer.status != 200 {
            answer = self.call("signup", params).await;
        }
        let text = |key: &str| answer.body[key].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
        User { id: text("id"), name: name.to_owned(), token: text("token") }
    }
}

/// Erases somebody where no projector hears of it: the log is told, and the key destroyed.
async fn erase_in_the_log(data: &Path, user: UserId) {
    let pool = PgPool::connect_with(running_in(data).unwrap()).await.unwrap();
    let master = MasterKey::load(&data.join("master.key")).unwrap();
    let keyring = Arc::new(Keyring::open(pool.clone(), &master).await.unwrap());
    let log = PostgresLog::open(pool.clone(), keyring.clone(), Takeover::Shared).await.unwrap();
    let (log, ids) = (Arc::new(log), Arc::new(TimeOrderedIds::new()));
    let now = SystemClock.now();
    let by = By { user: None, now, command: CommandId(ids.at(now)) };
    let commands = Commands::new(log.clone(), keyring, ids, Bus::local());
    commands.erase(by, user).await.unwrap();
    log.close().await.unwrap();
    pool.close().await;
}

async fn until(reached: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !reached() {
        assert!(Instant::now() < deadline, "it never came to be");
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// The segments of a backup, as lines of JSON.
async fn unpacked(directory: &Path) -> String {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let segments = entries.filter(|path| path.extension().is_some_and(|extension| extension == "gz"));
    let unpacked = Command::new("gzip").arg("-dc").args(segments).output().await.unwrap();
    assert!(unpacked.status.success());
    String::from_utf8(unpacked.stdout).unwrap()
}
