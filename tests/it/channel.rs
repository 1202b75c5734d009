//! Channels over HTTP: whose they are, what is written in them, and where that is shown.

use serde_json::{Value, json};

use crate::harness::{TestApp, User};

async fn channel(app: &TestApp, by: &User, params: Value) -> String {
    let channel = app.ok(by, "channels/create", params).await;
    channel["id"].as_str().unwrap().to_owned()
}

async fn texts(app: &TestApp, by: &User, path: &str, params: Value) -> Vec<String> {
    let notes = app.ok(by, path, params).await;
    notes.as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap_or("-").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_in_a_channel_stays_there_but_for_those_who_follow_it() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob, carol) =
        (app.sign_up("alice").await, app.sign_up("bob").await, app.sign_up("carol").await);
    let soup = channel(&app, &alice, json!({ "name": "Soup" })).await;
    for fan in [&bob, &carol] {
        app.ok(fan, "following/create", json!({ "userId": alice.id })).await;
    }
    app.ok(&carol, "channels/follow", json!({ "channelId": soup })).await;
    let inside =
        app.note(&alice, json!({ "text": "hot", "channelId": soup, "visibility": "followers" })).await;
    app.note(&alice, json!({ "text": "outside" })).await;
    app.note(&bob, json!({ "text": "answer", "replyId": inside })).await;
    let shown = app.ok(&bob, "notes/show", json!({ "noteId": inside })).await;
    assert_eq!((&shown["visibility"], &shown["localOnly"]), (&json!("public"), &json!(true)));
    assert_eq!((&shown["channelId"], &shown["channel"]["name"]), (&json!(soup), &json!("Soup")));

    assert_eq!(texts(&app, &bob, "channels/timeline", json!({ "channelId": soup })).await, ["answer", "hot"]);
    assert_eq!(texts(&app, &bob, "notes/timeline", json!({})).await, ["outside"]);
    assert_eq!(texts(&app, &carol, "notes/timeline", json!({})).await, ["outside", "hot"]);
    for path in ["notes/local-timeline", "notes/global-timeline"] {
        assert_eq!(texts(&app, &carol, path, json!({ "withReplies": true })).await, ["outside"], "{path}");
    }
    let of_alice = async |with: bool| {
        let params = json!({ "userId": alice.id, "withChannelNotes": with });
        texts(&app, &bob, "users/notes", params).await
    };
    assert_eq!(of_alice(false).await, ["outside"]);
    assert_eq!(of_alice(true).await, ["outside", "hot"]);

    let counts = app.ok(&bob, "channels/show", json!({ "channelId": soup })).await;
    assert_eq!((&counts["notesCount"], &counts["usersCount"]), (&json!(2), &json!(2)));
    app.ok(&carol, "channels/mute/create", json!({ "channelId": soup })).await;
    let again = app.refused(Some(&carol), "channels/mute/create", json!({ "channelId": soup })).await;
    assert_eq!(again, "ALREADY_MUTING_CHANNEL");
    app.note(&bob, json!({ "renoteId": inside })).await;
    app.ok(&carol, "following/create", json!({ "userId": bob.id })).await;
    assert_eq!(texts(&app, &carol, "notes/timeline", json!({})).await, ["outside"]);
    let there = texts(&app, &carol, "channels/timeline", json!({ "channelId": soup })).await;
    assert_eq!(there, ["answer", "hot"]);
    app.ok(&carol, "channels/mute/delete", json!({ "channelId": soup })).await;
    assert_eq!(texts(&app, &carol, "notes/timeline", json!({})).await, ["-", "outside", "hot"]);

    let poll = json!({ "choices": ["yes", "no"] });
    app.note(&alice, json!({ "text": "salt?", "channelId": soup, "poll": poll })).await;
    app.note(&alice, json!({ "text": "rain?", "poll": poll })).await;
    let asked = async |params: Value| texts(&app, &carol, "notes/polls/recommendation", params).await;
    assert_eq!(asked(json!({})).await, ["rain?", "salt?"]);
    assert_eq!(asked(json!({ "excludeChannels": true })).await, ["rain?"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_changed_closed_and_archived_by_its_owner() {
    let (app, root) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let params = json!({ "name": "Soup", "description": "", "allowRenoteToExternal": false });
    let soup = channel(&app, &alice, params).await;
    let it = |more: Value| {
        let mut params = json!({ "channelId": soup });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let inside = app.note(&alice, it(json!({ "text": "hot" }))).await;
    let out = app.refused(Some(&bob), "notes/create", json!({ "renoteId": inside })).await;
    assert_eq!(out, "CANNOT_RENOTE_OUTSIDE_OF_CHANNEL");
    app.note(&bob, it(json!({ "renoteId": inside }))).await;

    let rename = || it(json!({ "name": "Soups" }));
    assert_eq!(app.refused(Some(&bob), "channels/update", rename()).await, "ACCESS_DENIED");
    assert_eq!(app.ok(&root, "channels/update", rename()).await["name"], "Soups");
    let secret = app.note(&alice, json!({ "text": "x", "visibility": "specified" })).await;
    app.ok(&alice, "channels/update", it(json!({ "pinnedNoteIds": [secret, inside] }))).await;
    let shown = app.ok(&bob, "channels/show", it(json!({}))).await;
    assert_eq!(shown["pinnedNoteIds"].as_array().unwrap().len(), 2);
    assert_eq!(shown["pinnedNotes"][0]["text"], "hot", "the other can't be seen: {shown}");

    app.ok(&bob, "channels/favorite", it(json!({}))).await;
    app.ok(&alice, "channels/update", it(json!({ "isArchived": true }))).await;
    let late = app.refused(Some(&alice), "notes/create", it(json!({ "text": "late" }))).await;
    assert_eq!(late, "NO_SUCH_CHANNEL");
    for (path, expected) in [("channels/featured", 0), ("channels/my-favorites", 1)] {
        let found = app.ok(&bob, path, json!({})).await;
        assert_eq!(found.as_array().unwrap().len(), expected, "{path}");
    }
    assert_eq!(app.ok(&bob, "channels/search", json!({ "query": "soup" })).await, json!([]));
    let past = it(json!({ "expiresAt": 1 }));
    assert_eq!(app.refused(Some(&bob), "channels/mute/create", past).await, "EXPIRES_AT_IS_PAST");
    assert_eq!(app.refused(Some(&bob), "channels/mute/delete", it(json!({}))).await, "NOT_MUTING_CHANNEL");
}
