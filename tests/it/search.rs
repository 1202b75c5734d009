//! Looking for things over HTTP: notes, people, hashtags.

use serde_json::{Value, json};

use crate::harness::TestApp;

fn all<'v>(list: &'v Value, key: &str) -> Vec<&'v str> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_are_found_by_those_who_may_look() {
    let (app, root) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let query = |query: &str| json!({ "query": query });
    assert_eq!(app.refused(Some(&alice), "notes/search", query("x")).await, "UNAVAILABLE");
    let policies = json!({ "policies": { "canSearchNotes": true } });
    app.ok(&root, "admin/roles/update-default-policies", policies).await;
    let hello = app.note(&alice, json!({ "text": "Hello, wide world" })).await;
    let cats = app.note(&alice, json!({ "text": "吾輩は猫である" })).await;
    let secret = app.note(&alice, json!({ "text": "hello secret", "visibility": "followers" })).await;
    let find = async |by, text: &str| {
        let found = app.ok(by, "notes/search", query(text)).await;
        all(&found, "id").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(find(&bob, "hello").await, [hello.as_str()]);
    assert_eq!(find(&alice, "HELLO").await, [secret.as_str(), hello.as_str()]);
    assert_eq!(find(&bob, "猫で").await, [cats.as_str()]);
    assert_eq!(find(&bob, "猫犬").await, Vec::<String>::new());
    let older =
        app.ok(&bob, "notes/search", json!({ "query": "", "untilId": cats, "userId": alice.id })).await;
    assert_eq!(all(&older, "id"), [hello.as_str()]);
    app.ok(&alice, "notes/delete", json!({ "noteId": hello })).await;
    assert_eq!(find(&bob, "hello").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_praised_is_featured() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let mut written = Vec::new();
    for text in ["one", "two", "three"] {
        written.push(app.note(&alice, json!({ "text": text })).await);
    }
    let (one, two) = (&written[0], &written[1]);
    for note in [two, one] {
        app.ok(&bob, "notes/reactions/create", json!({ "noteId": note, "reaction": "👍" })).await;
    }
    let featured = app.ok(&bob, "notes/featured", json!({})).await;
    assert_eq!(all(&featured, "id"), [two.as_str(), one.as_str()]);
    let older = json!({ "userId": alice.id, "untilId": two });
    assert_eq!(all(&app.ok(&bob, "users/featured-notes", older).await, "id"), [one.as_str()]);
    app.ok(&bob, "notes/reactions/delete", json!({ "noteId": one })).await;
    app.ok(&bob, "mute/create", json!({ "userId": alice.id })).await;
    let (here, of_alice) = (json!({}), json!({ "userId": alice.id }));
    assert_eq!(all(&app.ok(&bob, "notes/featured", here).await, "id"), Vec::<&str>::new());
    assert_eq!(all(&app.ok(&bob, "users/featured-notes", of_alice).await, "id"), [two.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_the_administrator_names_are_held_back() {
    let (app, root) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let words = json!({
        "prohibitedWords": ["very bad", "/w[o0]rse/i"],
        "sensitiveWords": ["delicate"],
        "hiddenTags": ["Hidden"],
    });
    app.ok(&root, "admin/update-meta", words).await;
    for said in [
        json!({ "text": "it is bad, and very much so" }),
        json!({ "text": "x", "cw": "W0RSE" }),
        json!({ "text": "x", "poll": { "choices": ["worse", "better"] } }),
    ] {
        assert_eq!(app.refused(Some(&alice), "notes/create", said).await, "CONTAINS_PROHIBITED_WORDS");
    }
    let note = app.note(&alice, json!({ "text": "a delicate #hidden #tag" })).await;
    let shown = app.ok(&alice, "notes/show", json!({ "noteId": note })).await;
    assert_eq!(shown["visibility"], "home");
    let trend = app.call(None, "hashtags/trend", json!({})).await.body;
    assert_eq!(all(&trend, "tag"), ["tag"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_and_hashtags_are_found() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    app.ok(&alice, "i/update", json!({ "name": "アリス", "description": "knits, like @bob #intro" })).await;
    let found = app.ok(&bob, "users/search", json!({ "query": "リス", "detail": false })).await;
    assert_eq!(all(&found, "username"), ["alice"]);
    let found = app.ok(&bob, "users/search", json!({ "query": "@bob" })).await;
    assert_eq!(all(&found, "username"), ["bob", "alice"]);

    let one = app.note(&alice, json!({ "text": "#Tag1 and #tag2" })).await;
    let two = app.note(&bob, json!({ "text": "#tag1", "replyId": one })).await;
    let named = json!({ "username": "B", "host": null });
    assert_eq!(all(&app.ok(&alice, "users/search-by-username-and-host", named).await, "username"), ["bob"]);
    let found = app.ok(&bob, "notes/search-by-tag", json!({ "tag": "TAG1" })).await;
    assert_eq!(all(&found, "id"), [two.as_str(), one.as_str()]);
    let both = json!({ "query": [["tag1", "tag2"], ["nosuch"]] });
    assert_eq!(all(&app.ok(&bob, "notes/search-by-tag", both).await, "id"), [one.as_str()]);
    let alone = json!({ "tag": "tag1", "reply": false });
    assert_eq!(all(&app.ok(&bob, "notes/search-by-tag", alone).await, "id"), [one.as_str()]);
    let trend = app.call(None, "hashtags/trend", json!({})).await.body;
    assert_eq!((&trend[0]["tag"], &trend[0]["usersCount"]), (&json!("tag1"), &json!(2)));
    let with = app.ok(&bob, "hashtags/users", json!({ "tag": "intro", "sort": "+follower" })).await;
    assert_eq!(all(&with, "username"), ["alice"]);
    let shown = app.ok(&bob, "hashtags/show", json!({ "tag": "Intro" })).await;
    assert_eq!((&shown["attachedLocalUsersCount"], &shown["mentionedUsersCount"]), (&json!(1), &json!(0)));
    assert_eq!(app.refused(None, "hashtags/show", json!({ "tag": "nosuch" })).await, "NO_SUCH_HASHTAG");
}
