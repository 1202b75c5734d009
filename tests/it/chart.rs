//! Charts over HTTP: what people do is in them at once, also for readers without an account.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{TestApp, answer};

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_is_in_the_charts() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    let chart = async |name: &str, of: Option<&str>| {
        let params = json!({ "span": "hour", "limit": 2, "userId": of });
        let params = if of.is_some() { params } else { json!({ "span": "hour", "limit": 2 }) };
        let answer = app.call(None, &format!("charts/{name}"), params).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        answer.body
    };
    let hello = app.note(&alice, json!({ "text": "hello" })).await;
    app.note(&bob, json!({ "text": "hi", "replyId": hello })).await;
    app.ok(&bob, "following/create", json!({ "userId": alice.id })).await;
    app.ok(&bob, "notes/reactions/create", json!({ "noteId": hello, "reaction": "🎉" })).await;
    assert_eq!(chart("active-users", None).await["read"], json!([1, 0]));
    app.clock.pass(TimeDelta::hours(1));
    app.ok(&alice, "i", json!({})).await;
    app.ok(&alice, "notes/delete", json!({ "noteId": hello })).await;

    let users = chart("users", None).await;
    assert_eq!(users["local"], json!({ "total": [2, 2], "inc": [0, 2], "dec": [0, 0] }));
    assert_eq!(users["remote"]["total"], json!([0, 0]));
    let notes = chart("notes", None).await;
    let of_bob = json!({ "normal": [0, 0], "reply": [-1, 1], "renote": [0, 0], "withFile": [0, 0] });
    let both = json!({ "normal": [-1, 1], "reply": [-1, 1], "renote": [0, 0], "withFile": [0, 0] });
    assert_eq!(notes["local"], json!({ "total": [0, 2], "inc": [0, 2], "dec": [2, 0], "diffs": both }));
    let notes = chart("user/notes", Some(&bob.id)).await;
    assert_eq!(notes, json!({ "total": [0, 1], "inc": [0, 1], "dec": [1, 0], "diffs": of_bob }));
    let follows = chart("user/following", Some(&alice.id)).await;
    assert_eq!(follows["local"]["followers"]["total"], json!([1, 1]));
    assert_eq!(follows["local"]["followings"]["inc"], json!([0, 0]));
    let reactions = chart("user/reactions", Some(&alice.id)).await;
    assert_eq!(reactions, json!({ "local": { "count": [0, 1] }, "remote": { "count": [0, 0] } }));
    let active = chart("active-users", None).await;
    assert_eq!((&active["read"], &active["write"]), (&json!([1, 1]), &json!([0, 2])));
    assert_eq!((&active["readWrite"], &active["registeredOutsideWeek"]), (&json!([0, 1]), &json!([0, 0])));

    let files = chart("user/drive", Some(&bob.id)).await;
    assert_eq!((&files["totalCount"], &files["decSize"]), (&json!([0, 0]), &json!([0, 0])));
    assert_eq!(chart("drive", None).await["local"]["incCount"], json!([0, 0]));

    let stats = app.call(None, "stats", json!({})).await.body;
    assert_eq!((&stats["notesCount"], &stats["usersCount"]), (&json!(0), &json!(2)));

    assert_eq!(app.call(None, "retention", json!({})).await.body, json!([]), "the day is not over");
    app.clock.pass(TimeDelta::days(2));
    let cohorts = app.call(None, "retention", json!({})).await.body;
    let second = json!({ "createdAt": "2026-01-03T00:00:00.000Z", "users": 2, "data": { "2026-1-4": 0 } });
    assert_eq!((&cohorts[0]["users"], &cohorts[1]), (&json!(0), &second));
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_are_read_with_get_and_kept_by_others() {
    let (app, alice) = TestApp::opened().await;
    app.note(&alice, json!({ "text": "hello" })).await;
    let path = |rest: &str| format!("/api/charts/user/notes?userId={}&span=day&{rest}", alice.id);
    let response = app.get(&path("limit=3&offset=1767400000000")).await;
    assert_eq!(response.headers()["cache-control"], "public, max-age=3600");
    assert_eq!(answer(response).await.body["inc"], json!([0, 1, 0]), "up to the day after");
    let body: Value = answer(app.get(&path("limit=500")).await).await.body;
    assert_eq!(body["total"].as_array().unwrap().len(), 500);
    for wrong in ["limit=501", "limit=0", "offset=soon"] {
        assert_eq!(app.get(&path(wrong)).await.status(), 400, "{wrong}");
    }
    let week = app.refused(None, "charts/notes", json!({ "span": "week" })).await;
    assert_eq!(week, "INVALID_PARAM");
}
