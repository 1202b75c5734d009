//! Drafts, and notes that are posted later, over HTTP.

use std::time::Duration;

use chrono::TimeDelta;
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

#[tokio::test(flavor = "multi_thread")]
async fn drafts_are_kept_changed_and_thrown_away() {
    let (app, root) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let note = app.note(&bob, json!({ "text": "hello" })).await;
    let secret = app.note(&bob, json!({ "text": "secret", "visibility": "followers" })).await;
    let poll = json!({ "choices": ["only one"], "expiredAfter": 1000 });
    let made =
        json!({ "text": "draft", "replyId": note, "visibility": "home", "poll": poll, "hashtag": "tag" });
    let draft = app.ok(&alice, "notes/drafts/create", made).await["createdDraft"].clone();
    assert_eq!((&draft["reply"]["text"], &draft["visibility"]), (&json!("hello"), &json!("home")));
    assert_eq!(draft["poll"]["choices"], json!(["only one"]));
    let id = &draft["id"];
    let changes = json!({ "draftId": id, "text": "changed", "replyId": null, "poll": null });
    let changed = app.ok(&alice, "notes/drafts/update", changes).await["updatedDraft"].clone();
    assert_eq!((&changed["text"], &changed["hashtag"]), (&json!("changed"), &json!("tag")));
    assert_eq!(
        (&changed["replyId"], &changed["poll"], changed.get("reply")),
        (&Value::Null, &Value::Null, None)
    );
    let listed = app.ok(&alice, "notes/drafts/list", json!({})).await;
    assert_eq!(listed, json!([changed]));
    assert_eq!(app.ok(&bob, "notes/drafts/list", json!({})).await, json!([]));
    assert_eq!(app.ok(&alice, "notes/drafts/count", json!({})).await, json!(1));

    let hidden = json!({ "replyId": secret });
    assert_eq!(
        app.refused(Some(&alice), "notes/drafts/create", hidden).await,
        "CANNOT_REPLY_TO_AN_INVISIBLE_NOTE"
    );
    let theirs = json!({ "draftId": id });
    assert_eq!(app.refused(Some(&bob), "notes/drafts/delete", theirs.clone()).await, "NO_SUCH_NOTE_DRAFT");
    assert_eq!(app.refused(Some(&bob), "notes/drafts/update", theirs.clone()).await, "NO_SUCH_NOTE_DRAFT");
    assert_eq!(app.refused(Some(&alice), "notes/scheduled/cancel", theirs.clone()).await, "NO_SUCH_DRAFT");
    let policies = json!({ "policies": { "noteDraftLimit": 1 } });
    app.ok(&root, "admin/roles/update-default-policies", policies).await;
    assert_eq!(app.refused(Some(&alice), "notes/drafts/create", json!({})).await, "TOO_MANY_DRAFTS");
    app.ok(&alice, "notes/drafts/delete", theirs).await;
    app.ok(&alice, "notes/drafts/create", json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_posted_at_its_time_or_becomes_a_draft() {
    let (app, root) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let note = app.note(&bob, json!({ "text": "hello" })).await;
    let create = async |params: Value| app.call(Some(&alice), "notes/create", params).await;
    let in_seconds = |seconds: i64| app.app.now().timestamp_millis() + seconds * 1_000;
    let soon = in_seconds(6);
    let answer = create(json!({ "text": "hi @bob #later", "scheduledAt": soon })).await;
    assert_eq!((answer.status, answer.body), (204, Value::Null));
    let quote = json!({ "text": "quote", "renoteId": note, "scheduledAt": soon + 1_000 });
    assert_eq!(create(quote).await.status, 204);
    let far = in_seconds(1_000);
    let later = json!({ "text": "never", "cw": "c", "scheduledAt": far });
    assert_eq!(create(later).await.status, 204);
    for (params, code) in [
        (json!({ "text": "x", "scheduledAt": in_seconds(-1) }), "CANNOT_SCHEDULE_TO_PAST"),
        (json!({ "text": "x", "scheduledAt": in_seconds(400 * 86_400) }), "CANNOT_SCHEDULE_TO_FAR_FUTURE"),
        (json!({ "text": "x", "scheduledAt": far }), "CANNOT_SCHEDULE_SAME_TIME"),
        (json!({ "text": "x", "replyId": alice.id, "scheduledAt": far }), "NO_SUCH_REPLY_TARGET"),
    ] {
        assert_eq!(app.refused(Some(&alice), "notes/create", params).await, code);
    }
    let waiting = app.ok(&alice, "notes/scheduled/list", json!({})).await;
    assert_eq!(waiting.as_array().unwrap().len(), 3);
    assert_eq!(waiting[0]["scheduledAt"], json!(soon - soon.rem_euclid(1_000)));
    assert_eq!(
        (&waiting[1]["renote"]["text"], &waiting[2]["data"]["useCw"]),
        (&json!("hello"), &json!(true))
    );
    assert_eq!(app.ok(&alice, "notes/drafts/list", json!({})).await, json!([]));
    app.ok(&alice, "notes/scheduled/cancel", json!({ "draftId": waiting[2]["id"] })).await;
    app.ok(&bob, "notes/delete", json!({ "noteId": note })).await;

    app.clock.pass(TimeDelta::seconds(10));
    // The first is posted once, and tells whom it names; of the other its note has gone.
    let told = json!({ "includeTypes": ["scheduledNotePosted", "scheduledNoteError"] });
    let both = |told: &Value| told.as_array().is_some_and(|told| told.len() == 2);
    let told = until(&app, &alice, "i/notifications", told, both).await;
    assert_eq!(told[1]["note"]["text"], "hi @bob #later");
    assert_eq!(
        (&told[0]["draft"]["id"], &told[0]["draft"]["data"]["text"]),
        (&waiting[1]["id"], &json!("quote"))
    );
    let mentions = app.ok(&bob, "notes/mentions", json!({})).await;
    assert_eq!(mentions[0]["id"], told[1]["note"]["id"]);
    let written = app.ok(&bob, "users/notes", json!({ "userId": alice.id })).await;
    assert_eq!(written.as_array().unwrap().len(), 1);
    assert_eq!(app.ok(&alice, "notes/scheduled/list", json!({})).await, json!([]));
    let drafts = app.ok(&alice, "notes/drafts/list", json!({})).await;
    assert_eq!((&drafts[0]["text"], drafts[0]["reason"].is_string()), (&json!("quote"), true));

    let policies = json!({ "policies": { "scheduleNoteLimit": 0 } });
    app.ok(&root, "admin/roles/update-default-policies", policies).await;
    let again = json!({ "text": "x", "scheduledAt": in_seconds(100) });
    let refused = app.call(Some(&alice), "notes/create", again.clone()).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (403, &json!("TOO_MANY_SCHEDULED_NOTES")));
    let policies = json!({ "policies": { "canScheduleNote": false } });
    app.ok(&root, "admin/roles/update-default-policies", policies).await;
    assert_eq!(app.refused(Some(&alice), "notes/create", again).await, "ROLE_PERMISSION_DENIED");
}
