//! What people take along: files with what they have, and out of files.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::harness::{TestApp, User};

/// How long it is waited for what happens by itself.
const SOON: Duration = Duration::from_secs(20);

async fn until(app: &TestApp, by: &User, path: &str, params: Value, found: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let answer = app.ok(by, path, params.clone()).await;
        if found(&answer) {
            return answer;
        }
        assert!(began.elapsed() < SOON, "{path} still answers {answer}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Exports it: the file, and what is in it.
async fn export(app: &TestApp, by: &User, what: &str, entity: &str) -> (String, String) {
    app.ok(by, &format!("i/export-{what}"), json!({})).await;
    let asked = json!({ "includeTypes": ["exportCompleted"], "limit": 1 });
    let told = until(app, by, "i/notifications", asked, |told| told[0]["exportedEntity"] == entity).await;
    let file = app.ok(by, "drive/files/show", json!({ "fileId": told[0]["fileId"] })).await;
    let (_, key) = file["url"].as_str().unwrap().split_once("/files/").unwrap();
    let bytes = app.get(&format!("/files/{key}")).await.text().await.unwrap();
    (file["id"].as_str().unwrap().to_owned(), bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_take_along_what_they_have() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob, carol) =
        (app.sign_up("alice").await, app.sign_up("bob").await, app.sign_up("carol").await);
    let mine = app.note(&alice, json!({ "text": "mine", "visibility": "followers" })).await;
    let theirs = app.note(&bob, json!({ "text": "theirs" })).await;
    for user in [&bob, &carol] {
        app.ok(&alice, "following/create", json!({ "userId": user.id })).await;
    }
    app.ok(&alice, "mute/create", json!({ "userId": carol.id })).await;
    let list = app.ok(&alice, "users/lists/create", json!({ "name": "one, two" })).await;
    app.ok(&alice, "users/lists/push", json!({ "listId": list["id"], "userId": bob.id })).await;
    app.ok(&alice, "notes/favorites/create", json!({ "noteId": theirs })).await;
    let clip = app.ok(&alice, "clips/create", json!({ "name": "clip" })).await;
    app.ok(&alice, "clips/add-note", json!({ "clipId": clip["id"], "noteId": theirs })).await;

    let (_, notes) = export(&app, &alice, "notes", "note").await;
    let notes: Value = serde_json::from_str(&notes).unwrap();
    assert_eq!(
        (&notes[0]["id"], &notes[0]["text"], notes.as_array().unwrap().len()),
        (&json!(mine), &json!("mine"), 1)
    );
    let (_, blocked) = export(&app, &alice, "blocking", "blocking").await;
    assert_eq!(blocked, "");
    let (following, text) = export(&app, &alice, "following", "following").await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("bob@") && lines[1].starts_with("carol@"), "{text}");
    let (lists, text) = export(&app, &alice, "user-lists", "userList").await;
    assert!(text.starts_with("\"one, two\",bob@") && text.ends_with(",withReplies=false\n"), "{text}");
    let (_, clips) = export(&app, &alice, "clips", "clip").await;
    let clips: Value = serde_json::from_str(&clips).unwrap();
    assert_eq!(clips[0]["clipNotes"][0]["note"]["user"]["username"], "bob");
    let (_, kept) = export(&app, &alice, "favorites", "favorite").await;
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept[0]["note"]["text"], "theirs");

    // And out of the files again.
    for user in [&bob, &carol] {
        app.ok(&alice, "following/delete", json!({ "userId": user.id })).await;
    }
    app.ok(&alice, "users/lists/delete", json!({ "listId": list["id"] })).await;
    app.ok(&alice, "i/import-following", json!({ "fileId": following })).await;
    let of_alice = json!({ "userId": alice.id });
    until(&app, &alice, "users/following", of_alice, |found| found.as_array().unwrap().len() == 2).await;
    app.ok(&alice, "i/import-user-lists", json!({ "fileId": lists })).await;
    let is_filled = |found: &Value| found[0]["userIds"] == json!([bob.id]);
    let found = until(&app, &alice, "users/lists/list", json!({}), is_filled).await;
    assert_eq!(found[0]["name"], "one, two");
    app.ok(&bob, "blocking/list", json!({})).await;
    let nobodys = json!({ "fileId": following });
    assert_eq!(app.refused(Some(&bob), "i/import-blocking", nobodys).await, "NO_SUCH_FILE");
}
