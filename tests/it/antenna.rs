//! Antennas over HTTP: what they hear, whose they are, and how many one may have.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{TestApp, User};

/// What an antenna listens for, with these differences.
fn listening(change: &Value) -> Value {
    let mut params = json!({
        "name": "antenna",
        "src": "all",
        "keywords": [["cats"]],
        "excludeKeywords": [[]],
        "users": [],
        "caseSensitive": false,
        "withReplies": true,
        "withFile": false,
    });
    for (name, value) in change.as_object().unwrap() {
        params[name] = value.clone();
    }
    params
}

async fn antenna(app: &TestApp, by: &User, change: Value) -> String {
    let antenna = app.ok(by, "antennas/create", listening(&change)).await;
    antenna["id"].as_str().unwrap().to_owned()
}

async fn heard(app: &TestApp, by: &User, antenna: &str) -> Vec<String> {
    let notes = app.ok(by, "antennas/notes", json!({ "antennaId": antenna })).await;
    let texts = notes.as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap().to_owned());
    texts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_antenna_hears_what_is_said_of_its_words() {
    let (app, root) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    app.note(&bob, json!({ "text": "cats before it was there" })).await;
    let cats = antenna(&app, &alice, json!({ "keywords": [["cats"], ["black", "dog"]] })).await;
    let host = app.app.config.url.split_once("://").unwrap().1;
    let of_bob = json!({ "src": "users", "users": [format!("@BOB@{host}")], "keywords": [["a"]] });
    let of_bob = antenna(&app, &alice, of_bob).await;
    let but_bob = json!({ "src": "users_blacklist", "users": ["bob"], "keywords": [["a"]] });
    let but_bob = antenna(&app, &alice, but_bob).await;
    let question = app.note(&root, json!({ "text": "Cats?" })).await;
    app.note(&bob, json!({ "text": "black cat" })).await;
    app.note(&bob, json!({ "text": "a black dog" })).await;
    app.note(&bob, json!({ "text": "hm", "cw": "cats", "replyId": question })).await;
    app.note(&bob, json!({ "text": "secret cats", "visibility": "specified", "visibleUserIds": [root.id] }))
        .await;
    assert_eq!(heard(&app, &alice, &cats).await, ["hm", "a black dog", "Cats?"]);
    assert_eq!(heard(&app, &alice, &of_bob).await, ["hm", "a black dog", "black cat"]);
    assert_eq!(heard(&app, &alice, &but_bob).await, ["Cats?"]);

    let change = json!({ "antennaId": cats, "excludeKeywords": [["dog"]], "withReplies": false });
    let changed = app.ok(&alice, "antennas/update", change).await;
    assert_eq!((&changed["name"], &changed["withReplies"]), (&json!("antenna"), &json!(false)));
    app.note(&bob, json!({ "text": "cats and dogs" })).await;
    app.note(&bob, json!({ "text": "cats", "replyId": question })).await;
    app.note(&bob, json!({ "text": "cats!" })).await;
    assert_eq!(heard(&app, &alice, &cats).await, ["cats!", "hm", "a black dog", "Cats?"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_antenna_is_its_owners_and_policies_limit_how_many() {
    let (app, root) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let policies = json!({ "policies": { "antennaLimit": 1 } });
    app.ok(&root, "admin/roles/update-default-policies", policies).await;
    let one = antenna(&app, &alice, json!({})).await;
    let it = || json!({ "antennaId": one });
    for path in ["antennas/show", "antennas/notes", "antennas/update", "antennas/delete"] {
        assert_eq!(app.refused(Some(&bob), path, it()).await, "NO_SUCH_ANTENNA", "{path}");
    }
    let refused = async |change: Value| app.refused(Some(&bob), "antennas/create", listening(&change)).await;
    assert_eq!(
        app.refused(Some(&alice), "antennas/create", listening(&json!({}))).await,
        "TOO_MANY_ANTENNAS"
    );
    assert_eq!(refused(json!({ "keywords": [[""]] })).await, "EMPTY_KEYWORD");
    assert_eq!(refused(json!({ "keywords": [["x".repeat(20_000)]] })).await, "INVALID_PARAM");
    let list = app.ok(&alice, "users/lists/create", json!({ "name": "hers" })).await;
    assert_eq!(refused(json!({ "src": "list", "userListId": list["id"] })).await, "NO_SUCH_USER_LIST");
    let all = app.ok(&alice, "antennas/list", json!({})).await;
    assert_eq!(all.as_array().unwrap().len(), 1);
    app.ok(&alice, "antennas/delete", it()).await;
    assert_eq!(app.ok(&alice, "antennas/list", json!({})).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_antenna_sleeps_until_somebody_looks() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let cats = antenna(&app, &alice, json!({})).await;
    let is_active = async || {
        let shown = app.ok(&alice, "antennas/show", json!({ "antennaId": cats })).await;
        shown["isActive"].as_bool().unwrap()
    };
    app.note(&bob, json!({ "text": "cats, first" })).await;
    app.clock.pass(TimeDelta::days(8));
    assert!(!is_active().await);
    app.note(&bob, json!({ "text": "cats, unheard" })).await;
    assert_eq!(heard(&app, &alice, &cats).await, ["cats, first"]);
    app.settle().await;
    assert!(is_active().await);
    app.note(&bob, json!({ "text": "cats, heard" })).await;
    assert_eq!(heard(&app, &alice, &cats).await, ["cats, heard", "cats, first"]);
}
