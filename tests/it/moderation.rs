//! Moderation over HTTP: suspension, reports, what is noted about people, and the log of it all.

use serde_json::{Value, json};

use crate::harness::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suspended_is_out_and_unseen_until_they_are_let_in_again() {
    let (app, root) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let note = app.note(&alice, json!({ "text": "hello" })).await;
    assert_eq!(
        app.refused(Some(&bob), "admin/suspend-user", json!({ "userId": alice.id })).await,
        "ROLE_PERMISSION_DENIED"
    );
    app.ok(&root, "admin/suspend-user", json!({ "userId": alice.id })).await;

    assert_eq!(app.refused(Some(&alice), "i", json!({})).await, "YOUR_ACCOUNT_SUSPENDED");
    let shown = app.call(Some(&bob), "users/show", json!({ "userId": alice.id })).await;
    assert_eq!((shown.status, &shown.body["error"]["code"]), (403, &json!("USER_SUSPENDED")));
    let shown = app.ok(&root, "users/show", json!({ "userId": alice.id })).await;
    assert_eq!(shown["isSuspended"], true);
    assert_eq!(app.refused(Some(&bob), "notes/show", json!({ "noteId": note })).await, "INTERNAL_ERROR");
    for (path, params) in [
        ("users/notes", json!({ "userId": alice.id })),
        ("notes/local-timeline", json!({})),
        ("users/show", json!({ "userIds": [alice.id] })),
    ] {
        assert_eq!(app.ok(&bob, path, params).await, json!([]), "{path}");
    }
    let reply = json!({ "text": "hi", "replyId": note });
    assert!(
        app.call(Some(&bob), "notes/create", reply).await.status >= 400,
        "nobody answers what isn't seen"
    );

    app.ok(&root, "admin/unsuspend-user", json!({ "userId": alice.id })).await;
    app.ok(&alice, "i", json!({})).await;
    assert_eq!(app.ok(&bob, "notes/show", json!({ "noteId": note })).await["text"], "hello");
    let itself = json!({ "userId": root.id });
    assert_eq!(app.refused(Some(&root), "admin/suspend-user", itself).await, "CANNOT_SUSPEND_MODERATOR");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_seen_to() {
    let (app, root) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let about = |id: &str| json!({ "userId": id, "comment": "rude" });
    assert_eq!(
        app.refused(Some(&alice), "users/report-abuse", about(&alice.id)).await,
        "CANNOT_REPORT_YOURSELF"
    );
    assert_eq!(app.refused(Some(&alice), "users/report-abuse", about("0")).await, "NO_SUCH_USER");
    app.ok(&alice, "users/report-abuse", about(&bob.id)).await;
    let list = async |state: &str| app.ok(&root, "admin/abuse-user-reports", json!({ "state": state })).await;
    let open = list("unresolved").await;
    assert_eq!((&open[0]["comment"], &open[0]["targetUser"]["username"]), (&json!("rude"), &json!("bob")));
    let id = open[0]["id"].clone();
    let noted = json!({ "reportId": id, "moderationNote": "noted" });
    app.ok(&root, "admin/update-abuse-user-report", noted).await;
    let resolved = json!({ "reportId": id, "resolvedAs": "accept" });
    app.ok(&root, "admin/resolve-abuse-user-report", resolved).await;
    assert_eq!(list("unresolved").await, json!([]));
    let done = list("resolved").await;
    assert_eq!((&done[0]["moderationNote"], &done[0]["resolvedAs"]), (&json!("noted"), &json!("accept")));
    assert_eq!(done[0]["assigneeId"], root.id.as_str());
    let none = app.call(Some(&root), "admin/resolve-abuse-user-report", json!({ "reportId": "0" })).await;
    assert_eq!(none.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moderators_did_is_in_their_log() {
    let (app, root) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    app.ok(&root, "admin/update-user-note", json!({ "userId": alice.id, "text": "watch" })).await;
    app.ok(&root, "admin/suspend-user", json!({ "userId": alice.id })).await;
    app.ok(&root, "admin/update-meta", json!({ "name": "Kiroku" })).await;
    let log = app.ok(&root, "admin/show-moderation-logs", json!({ "limit": 3 })).await;
    let kinds: Vec<&Value> = log.as_array().unwrap().iter().map(|line| &line["type"]).collect();
    assert_eq!(kinds, ["updateServerSettings", "suspend", "updateUserNote"]);
    assert_eq!(log[0]["info"]["before"], json!({ "name": null }));
    assert_eq!(log[0]["info"]["after"], json!({ "name": "Kiroku" }));
    assert_eq!(
        (&log[1]["info"]["userUsername"], &log[1]["user"]["username"]),
        (&json!("alice"), &json!("root"))
    );
    assert_eq!(log[2]["info"]["after"], "watch");
    let only = json!({ "type": "suspend" });
    assert_eq!(app.ok(&root, "admin/show-moderation-logs", only).await.as_array().unwrap().len(), 1);
    let shown = app.ok(&root, "admin/show-user", json!({ "userId": alice.id })).await;
    assert_eq!((&shown["moderationNote"], &shown["isSuspended"]), (&json!("watch"), &json!(true)));
    let suspended = app.ok(&root, "admin/show-users", json!({ "state": "suspended" })).await;
    assert_eq!(suspended[0]["username"], "alice");
    let named = app.ok(&root, "admin/show-users", json!({ "username": "AL", "state": "all" })).await;
    assert_eq!(named.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn moderators_give_another_password_and_end_tokens() {
    let (app, root) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let reset = app.ok(&root, "admin/reset-password", json!({ "userId": alice.id })).await;
    let password = reset["password"].as_str().unwrap();
    assert_eq!(password.len(), 8);
    let signed_in = json!({ "username": "alice", "password": password });
    assert_eq!(app.call(None, "signin-flow", signed_in).await.body["finished"], true);
    let refused = app.refused(Some(&root), "admin/reset-password", json!({ "userId": root.id })).await;
    assert_eq!(refused, "CANNOT_RESET_PASSWORD_OF_ROOT");
    app.ok(&root, "admin/regenerate-user-token", json!({ "userId": alice.id })).await;
    assert_eq!(app.refused(Some(&alice), "i", json!({})).await, "AUTHENTICATION_FAILED");
    app.ok(&root, "admin/accounts/delete", json!({ "userId": alice.id })).await;
    assert_eq!(app.refused(None, "users/show", json!({ "userId": alice.id })).await, "NO_SUCH_USER");
    let itself = json!({ "userId": root.id });
    assert_eq!(app.refused(Some(&root), "admin/accounts/delete", itself).await, "CANNOT_DELETE_MODERATOR");
}
