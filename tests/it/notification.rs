//! Notifications: put together, sent by apps, thrown away, wished for, and those of polls that end.

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{TestApp, User};
use crate::streaming::Stream;

/// How long it may take until somebody notices the time.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

async fn told(app: &TestApp, by: &User) -> Vec<Value> {
    let params = json!({ "limit": 100, "markAsRead": false });
    app.ok(by, "i/notifications", params).await.as_array().unwrap().clone()
}

async fn types(app: &TestApp, by: &User) -> Vec<String> {
    told(app, by).await.iter().map(|told| told["type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_to_the_same_note_are_put_together() {
    let (app, alice) = TestApp::opened().await;
    let note = app.note(&alice, json!({ "text": "hello" })).await;
    let other = app.note(&alice, json!({ "text": "other" })).await;
    for (name, note) in [("bob", &note), ("carol", &note), ("dave", &other)] {
        let by = app.sign_up(name).await;
        app.ok(&by, "notes/reactions/create", json!({ "noteId": note, "reaction": "👍" })).await;
        app.ok(&by, "notes/create", json!({ "renoteId": note })).await;
    }
    // Between them was always something else.
    assert_eq!(types(&app, &alice).await, ["renote", "reaction", "renote", "reaction", "renote", "reaction"]);
    let params = json!({ "includeTypes": ["reaction"], "markAsRead": false });
    let grouped = app.ok(&alice, "i/notifications-grouped", params).await;
    let kinds: Vec<_> = grouped.as_array().unwrap().iter().map(|one| one["type"].clone()).collect();
    assert_eq!(kinds, ["reaction", "reaction:grouped"]);
    assert_eq!(grouped[1]["reactions"][0]["user"]["username"], "carol");
    assert_eq!(grouped[1]["reactions"][1]["reaction"], "👍");
    assert_eq!(app.ok(&alice, "i", json!({})).await["unreadNotificationsCount"], 6);
    app.ok(&alice, "i/notifications-grouped", json!({})).await;
    assert_eq!(app.ok(&alice, "i", json!({})).await["hasUnreadNotification"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_tell_something_and_all_of_it_is_thrown_away() {
    let (app, alice) = TestApp::opened().await;
    let grant = json!({
        "session": null,
        "permission": ["write:notifications"],
        "name": "An app",
        "iconUrl": "https://a.example/icon.png",
    });
    let grant = app.ok(&alice, "miauth/gen-token", grant).await;
    let by_app = User { token: grant["token"].as_str().unwrap().to_owned(), ..alice.clone() };
    app.ok(&alice, "notifications/flush", json!({})).await;
    let mut stream = Stream::open(&app, Some(&alice), &["main"]).await;
    app.ok(&by_app, "notifications/create", json!({ "body": "from the app" })).await;
    let [sent] = stream.events(["notification"]).await;
    assert_eq!((&sent["type"], &sent["header"]), (&json!("app"), &json!("An app")));
    assert_eq!(
        (&sent["body"], &sent["icon"]),
        (&json!("from the app"), &json!("https://a.example/icon.png"))
    );
    // A try is called unread at once, anything else when it hasn't been read for a while.
    app.ok(&alice, "notifications/test-notification", json!({})).await;
    let [told, unread] = stream.events(["notification", "unreadNotification"]).await;
    assert_eq!((&told["type"], &unread["type"]), (&json!("test"), &json!("test")));
    let [unread] = stream.events(["unreadNotification"]).await;
    assert_eq!(unread["type"], "app");
    assert_eq!(types(&app, &alice).await, ["test", "app"]);
    app.ok(&alice, "notifications/flush", json!({})).await;
    stream.events(["notificationFlushed"]).await;
    assert_eq!(types(&app, &alice).await, Vec::<String>::new());
    assert_eq!(app.ok(&alice, "i", json!({})).await["unreadNotificationsCount"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_are_obeyed_from_then_on() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    let carol = app.sign_up("carol").await;
    app.ok(&alice, "following/create", json!({ "userId": carol.id })).await;
    app.ok(&alice, "notifications/flush", json!({})).await;
    let wishes = json!({ "mention": { "type": "following" }, "reaction": { "type": "never" } });
    app.ok(&alice, "i/update", json!({ "notificationRecieveConfig": wishes })).await;
    let note = app.note(&alice, json!({ "text": "hello" })).await;
    for by in [&bob, &carol] {
        app.note(by, json!({ "text": "@root hi" })).await;
        app.ok(by, "notes/reactions/create", json!({ "noteId": note, "reaction": "👍" })).await;
    }
    let told = told(&app, &alice).await;
    let by_whom: Vec<_> = told.iter().map(|told| (&told["type"], &told["userId"])).collect();
    assert_eq!(by_whom, [(&json!("mention"), &json!(carol.id))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_muted_did_is_not_told_later() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    app.note(&bob, json!({ "text": "@root before" })).await;
    app.ok(&alice, "mute/create", json!({ "userId": bob.id })).await;
    app.note(&bob, json!({ "text": "@root meanwhile" })).await;
    assert_eq!(types(&app, &alice).await, Vec::<String>::new());
    app.ok(&alice, "mute/delete", json!({ "userId": bob.id })).await;
    let told = told(&app, &alice).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["note"]["text"], "@root before");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_poll_is_told_once_to_who_asked_and_who_voted() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    let carol = app.sign_up("carol").await;
    let poll = json!({ "choices": ["a", "b"], "expiredAfter": 60_000 });
    let note = app.note(&alice, json!({ "text": "?", "poll": poll })).await;
    app.ok(&bob, "notes/polls/vote", json!({ "noteId": note, "choice": 0 })).await;
    let mut stream = Stream::open(&app, Some(&bob), &["main"]).await;
    let id = note.parse().unwrap();
    assert!(app.app.commands.end_poll(app.app.by_user(None), id).await.is_err(), "its time has not come");
    app.clock.pass(TimeDelta::seconds(60));
    // The server notices, and so do others.
    join_all((0..8).map(|_| app.app.commands.end_poll(app.app.by_user(None), id))).await;
    let [ended] = tokio::time::timeout(NOTICED_WITHIN, stream.events(["notification"])).await.unwrap();
    assert_eq!((&ended["type"], &ended["note"]["id"]), (&json!("pollEnded"), &json!(note)));
    app.settle().await;
    assert_eq!(types(&app, &bob).await, ["pollEnded"]);
    assert_eq!(types(&app, &alice).await, ["pollEnded"]);
    assert_eq!(types(&app, &carol).await, Vec::<String>::new());

    // By itself, and not where the note has gone.
    let poll = json!({ "choices": ["a", "b"], "expiredAfter": 60_000 });
    let gone = app.note(&alice, json!({ "text": "?", "poll": poll })).await;
    let deep = app.note(&carol, json!({ "replyId": gone, "text": "?", "poll": poll })).await;
    app.ok(&bob, "notes/polls/vote", json!({ "noteId": deep, "choice": 0 })).await;
    let last = app.note(&carol, json!({ "text": "?", "poll": poll })).await;
    app.ok(&bob, "notes/polls/vote", json!({ "noteId": last, "choice": 0 })).await;
    app.ok(&alice, "notes/delete", json!({ "noteId": gone })).await;
    app.clock.pass(TimeDelta::seconds(60));
    let noticed = async {
        loop {
            let left: i64 = sqlx::query_scalar("select count(*) from read.poll_ends")
                .fetch_one(&app.app.pool)
                .await
                .unwrap();
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(NOTICED_WITHIN, noticed).await.unwrap();
    app.settle().await;
    let ended: Vec<Value> = told(&app, &bob).await.iter().map(|told| told["note"]["id"].clone()).collect();
    assert_eq!(ended, [json!(last), json!(note)]);
    assert_eq!(types(&app, &alice).await, ["pollEnded"], "the answer has gone");
}
