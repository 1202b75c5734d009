//! One's own account: its password, who got in, which apps may use it, and its end.

use chrono::TimeDelta;
use gateway::erase::asked;
use serde_json::{Value, json};

use crate::harness::{PASSWORD, TestApp, User};

const OTHER: &str = "another horse";

async fn sign_in(app: &TestApp, name: &str, password: &str) -> u16 {
    app.clock.pass(TimeDelta::minutes(10));
    app.call(None, "signin-flow", json!({ "username": name, "password": password })).await.status
}

async fn grant(app: &TestApp, by: &User, name: &str) -> User {
    let asked = json!({ "session": null, "name": name, "permission": ["read:account"] });
    let token = app.ok(by, "miauth/gen-token", asked).await["token"].as_str().unwrap().to_owned();
    User { token, ..by.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_lets_in_and_the_old_one_does_not() {
    let (app, alice) = TestApp::opened().await;
    let change = |current: &str| json!({ "currentPassword": current, "newPassword": OTHER });
    assert_eq!(app.refused(Some(&alice), "i/change-password", change("wrong")).await, "INCORRECT_PASSWORD");
    let app_of_hers = grant(&app, &alice, "App").await;
    assert_eq!(app.refused(Some(&app_of_hers), "i/change-password", change(PASSWORD)).await, "ACCESS_DENIED");
    app.ok(&alice, "i/change-password", change(PASSWORD)).await;
    assert_eq!(sign_in(&app, "root", PASSWORD).await, 403);
    assert_eq!(sign_in(&app, "root", OTHER).await, 200);

    let history = app.ok(&alice, "i/signin-history", json!({})).await;
    let seen: Vec<&Value> = history.as_array().unwrap().iter().map(|one| &one["success"]).collect();
    assert_eq!(seen, [&json!(true), &json!(false)]);
    assert_eq!((&history[0]["ip"], &history[0]["headers"]["accept"]), (&json!("127.0.0.1"), &json!("*/*")));
    let older = json!({ "untilId": history[0]["id"] });
    assert_eq!(app.ok(&alice, "i/signin-history", older).await, json!([history[1]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_seen_and_loses_its_access() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    let (first, second) = (grant(&app, &alice, "First").await, grant(&app, &alice, "Second").await);
    app.clock.pass(TimeDelta::minutes(1));
    app.ok(&first, "i", json!({})).await;
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let sorted = async |sort: &str| names(&app.ok(&alice, "i/apps", json!({ "sort": sort })).await);
    assert_eq!(sorted("+lastUsedAt").await, ["First", "Second"]);
    assert_eq!(sorted("-lastUsedAt").await, ["Second", "First"]);
    assert_eq!(sorted("+createdAt").await, ["Second", "First"]);
    let all = app.ok(&alice, "i/apps", json!({})).await;
    assert!(all[0]["lastUsedAt"].as_str() > all[0]["createdAt"].as_str(), "{all}");

    let id = json!({ "tokenId": all[0]["id"] });
    app.ok(&bob, "i/revoke-token", id.clone()).await;
    app.ok(&first, "i", json!({})).await;
    app.ok(&alice, "i/revoke-token", id).await;
    assert_eq!(app.refused(Some(&first), "i", json!({})).await, "AUTHENTICATION_FAILED");
    app.ok(&alice, "i/revoke-token", json!({ "token": second.token })).await;
    assert_eq!(app.refused(Some(&second), "i", json!({})).await, "AUTHENTICATION_FAILED");
    assert_eq!(app.ok(&alice, "i/apps", json!({})).await, json!([]));
    assert_eq!(app.refused(Some(&alice), "i/revoke-token", json!({})).await, "INVALID_PARAM");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_app_is_listed_for_its_owner_and_for_those_who_let_it_in() {
    let (app, alice) = TestApp::opened().await;
    let registered = json!({ "name": "Old", "description": "d", "permission": ["read:account"] });
    let secret = app.ok(&alice, "app/create", registered).await["secret"].clone();
    let mine = app.ok(&alice, "my/apps", json!({})).await;
    assert_eq!((&mine[0]["name"], &mine[0]["isAuthorized"]), (&json!("Old"), &json!(false)));
    assert_eq!(app.ok(&alice, "i/authorized-apps", json!({})).await, json!([]));
    let session = app.call(None, "auth/session/generate", json!({ "appSecret": secret })).await.body;
    app.ok(&alice, "auth/accept", json!({ "token": session["token"] })).await;
    let authorized = app.ok(&alice, "i/authorized-apps", json!({ "sort": "asc" })).await;
    assert_eq!((&authorized[0]["id"], &authorized[0]["isAuthorized"]), (&mine[0]["id"], &json!(true)));
    assert_eq!(app.ok(&alice, "my/apps", json!({ "offset": 1 })).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_deletes_their_account_is_gone_and_their_name_stays_taken() {
    let (app, root) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    let note = app.note(&bob, json!({ "text": "soon gone" })).await;
    let app_of_his = grant(&app, &bob, "App").await;
    let delete = |password: &str| json!({ "password": password });
    assert_eq!(app.refused(Some(&bob), "i/delete-account", delete("wrong")).await, "INCORRECT_PASSWORD");
    assert_eq!(app.refused(Some(&root), "i/delete-account", delete(PASSWORD)).await, "CANNOT_DELETE_ROOT");
    app.ok(&bob, "i/delete-account", delete(PASSWORD)).await;

    for token in [&bob, &app_of_his] {
        let answer = app.call(Some(token), "i", json!({})).await;
        assert_eq!((answer.status, &answer.body["error"]["code"]), (403, &json!("USER_IS_DELETED")));
    }
    assert_eq!(sign_in(&app, "bob", PASSWORD).await, 403);
    assert_eq!(app.refused(Some(&root), "users/show", json!({ "userId": bob.id })).await, "NO_SUCH_USER");
    assert_eq!(app.refused(Some(&root), "notes/show", json!({ "noteId": note })).await, "NO_SUCH_NOTE");
    let again = app.call(None, "signup", json!({ "username": "BOB", "password": PASSWORD })).await;
    assert_eq!((again.status, &again.body["message"]), (400, &json!("Error: USED_USERNAME")));

    let certificates = asked::finish(&app.app.eraser, TimeDelta::hours(1)).await.unwrap();
    assert_eq!(certificates.len(), 1);
    assert!(certificates[0].left_rows.is_empty(), "{}", certificates[0]);
    assert_eq!(asked::finish(&app.app.eraser, TimeDelta::zero()).await.unwrap(), []);
    let kept: Value = sqlx::query_scalar("select certificate from ops.erasures where done_at is not null")
        .fetch_one(&app.app.pool)
        .await
        .unwrap();
    assert_eq!(kept["sha256"], json!(certificates[0].sha256));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_has_words_that_names_may_not_have() {
    let (app, root) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    app.ok(&alice, "i/update", json!({ "name": "A b4dword" })).await;
    let words = json!({ "prohibitedWordsForNameOfUser": ["very bad", "/b[a4]dword/i"] });
    app.ok(&root, "admin/update-meta", words.clone()).await;
    let meta = app.ok(&root, "admin/meta", json!({})).await;
    assert_eq!(meta["prohibitedWordsForNameOfUser"], words["prohibitedWordsForNameOfUser"]);

    for name in ["BadWord", "bad, very much"] {
        let answer = app.call(Some(&alice), "i/update", json!({ "name": name })).await;
        assert_eq!(answer.status, 422, "{name}: {}", answer.body);
        assert_eq!(answer.body["error"]["code"], "YOUR_NAME_CONTAINS_PROHIBITED_WORDS");
    }
    // As she is called she can't go on, but under another name.
    let other = json!({ "description": "x" });
    assert_eq!(app.refused(Some(&alice), "i/update", other).await, "YOUR_NAME_CONTAINS_PROHIBITED_WORDS");
    app.ok(&alice, "i/update", json!({ "name": "Alice" })).await;
    app.ok(&alice, "i/update", json!({ "description": "x" })).await;
    app.ok(&root, "i/update", json!({ "name": "BadWord" })).await;

    let free = app.call(None, "username/available", json!({ "username": "xBadWordx" })).await;
    assert_eq!(free.body["available"], false);
    let taken = app.call(None, "signup", json!({ "username": "xBadWordx", "password": PASSWORD })).await;
    assert_eq!((taken.status, &taken.body["message"]), (400, &json!("Error: USED_USERNAME")));
}
