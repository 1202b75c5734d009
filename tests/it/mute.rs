//! Muting: people for ever and for a time, renotes, threads, servers.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{TestApp, User};
use crate::streaming::Stream;

async fn texts(app: &TestApp, by: &User, path: &str, mut params: Value) -> Vec<String> {
    params["limit"] = json!(100);
    let page = app.ok(by, path, params).await;
    let text = |note: &Value| note["text"].as_str().unwrap_or("(renote)").to_owned();
    page.as_array().unwrap().iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_muted_are_neither_read_nor_heard_until_their_time() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    let carol = app.sign_up("carol").await;
    app.ok(&alice, "following/create", json!({ "userId": bob.id })).await;
    let question = app.note(&alice, json!({ "text": "question" })).await;
    let mut stream = Stream::open(&app, Some(&alice), &["main", "localTimeline"]).await;
    let until = (app.app.now() + TimeDelta::hours(1)).timestamp_millis();
    app.ok(&alice, "mute/create", json!({ "userId": bob.id, "expiresAt": until })).await;
    let again = json!({ "userId": bob.id });
    assert_eq!(app.refused(Some(&alice), "mute/create", again.clone()).await, "ALREADY_MUTING");

    let muted = app.note(&bob, json!({ "text": "@root hello" })).await;
    app.note(&carol, json!({ "renoteId": muted })).await;
    app.note(&carol, json!({ "text": "to bob", "replyId": muted })).await;
    app.note(&bob, json!({ "text": "an answer", "replyId": question })).await;
    app.ok(&bob, "notes/reactions/create", json!({ "noteId": question, "reaction": "👍" })).await;
    app.note(&carol, json!({ "text": "plain" })).await;
    let lists = [
        ("notes/timeline", json!({}), vec!["question"], 3),
        ("notes/local-timeline", json!({}), vec!["plain", "question"], 5),
        ("notes/hybrid-timeline", json!({}), vec!["plain", "question"], 5),
        ("notes/global-timeline", json!({}), vec!["plain", "question"], 6),
        ("notes/mentions", json!({}), vec![], 2),
        ("notes/replies", json!({ "noteId": question }), vec![], 1),
        ("notes/children", json!({ "noteId": question }), vec![], 1),
        ("notes/renotes", json!({ "noteId": muted }), vec![], 1),
    ];
    for (path, params, wanted, _) in &lists {
        assert_eq!(&texts(&app, &alice, path, params.clone()).await, wanted, "{path}");
    }
    assert_eq!(texts(&app, &alice, "users/notes", json!({ "userId": bob.id })).await, ["@root hello"]);
    let shown = app.ok(&alice, "users/show", json!({ "userId": bob.id })).await;
    assert_eq!(shown["isMuted"], json!(true));
    let told = app.ok(&alice, "i/notifications", json!({ "markAsRead": false })).await;
    let of_bob =
        |told: &Value| told.as_array().unwrap().iter().filter(|told| told["userId"] == json!(bob.id)).count();
    assert_eq!(of_bob(&told), 0);
    // Of all that, one thing was heard.
    assert_eq!(stream.note().await, ("localTimeline".to_owned(), "plain".to_owned()));

    app.clock.pass(TimeDelta::hours(1));
    assert_eq!(app.ok(&alice, "mute/list", json!({})).await, json!([]));
    let shown = app.ok(&alice, "users/show", json!({ "userId": bob.id })).await;
    assert_eq!(shown["isMuted"], json!(false));
    for (path, params, _, count) in lists {
        assert_eq!(texts(&app, &alice, path, params).await.len(), count, "{path}");
    }
    app.note(&bob, json!({ "text": "heard again" })).await;
    assert_eq!(stream.note().await, ("localTimeline".to_owned(), "heard again".to_owned()));
    assert_eq!(app.refused(Some(&alice), "mute/delete", again.clone()).await, "NOT_MUTING");
    app.ok(&alice, "mute/create", again.clone()).await;
    let list = app.ok(&alice, "mute/list", json!({})).await;
    assert_eq!((&list[0]["muteeId"], &list[0]["expiresAt"]), (&json!(bob.id), &Value::Null));
    assert_eq!(texts(&app, &alice, "notes/timeline", json!({})).await, ["question"]);
    app.ok(&alice, "mute/delete", again).await;
    assert_eq!(texts(&app, &alice, "notes/timeline", json!({})).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn renotes_alone_may_be_muted() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    app.ok(&alice, "following/create", json!({ "userId": bob.id })).await;
    let note = app.note(&alice, json!({ "text": "mine" })).await;
    app.ok(&alice, "renote-mute/create", json!({ "userId": bob.id })).await;
    let mut stream = Stream::open(&app, Some(&alice), &["homeTimeline"]).await;
    app.note(&bob, json!({ "renoteId": note })).await;
    app.note(&bob, json!({ "renoteId": note, "text": "a quote" })).await;
    assert_eq!(texts(&app, &alice, "notes/timeline", json!({})).await, ["a quote", "mine"]);
    assert_eq!(stream.note().await, ("homeTimeline".to_owned(), "a quote".to_owned()));
    let list = app.ok(&alice, "renote-mute/list", json!({})).await;
    assert_eq!(list[0]["muteeId"], json!(bob.id));
    let relation = app.ok(&alice, "users/relation", json!({ "userId": bob.id })).await;
    assert_eq!((&relation[0]["isRenoteMuted"], &relation[0]["isMuted"]), (&json!(true), &json!(false)));
    app.ok(&alice, "renote-mute/delete", json!({ "userId": bob.id })).await;
    assert_eq!(texts(&app, &alice, "notes/timeline", json!({})).await.len(), 3);
    let gone = json!({ "userId": bob.id });
    assert_eq!(app.refused(Some(&alice), "renote-mute/delete", gone).await, "NOT_MUTING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_muted_thread_tells_nothing_more() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    let top = app.note(&bob, json!({ "text": "top" })).await;
    let mine = app.note(&alice, json!({ "text": "mine", "replyId": top })).await;
    app.ok(&alice, "notes/thread-muting/create", json!({ "noteId": mine })).await;
    app.ok(&alice, "notes/thread-muting/create", json!({ "noteId": top })).await;
    let reply = app.note(&bob, json!({ "text": "again", "replyId": mine })).await;
    for note in [&top, &mine, &reply] {
        let state = app.ok(&alice, "notes/state", json!({ "noteId": note })).await;
        assert_eq!(state["isMutedThread"], json!(true));
    }
    assert_eq!(texts(&app, &alice, "notes/mentions", json!({})).await, Vec::<String>::new());
    assert_eq!(texts(&app, &alice, "notes/replies", json!({ "noteId": mine })).await, ["again"]);
    let mut stream = Stream::open(&app, Some(&alice), &["main"]).await;
    app.ok(&alice, "notes/thread-muting/delete", json!({ "noteId": reply })).await;
    assert_eq!(texts(&app, &alice, "notes/mentions", json!({})).await, ["again"]);
    app.note(&bob, json!({ "text": "heard", "replyId": mine })).await;
    let texts = stream.events(["mention", "reply", "notification"]).await;
    assert!(texts.iter().all(|body| body.to_string().contains("heard")), "{texts:?}");
    let nothing = json!({ "noteId": "0".repeat(16) });
    for path in ["notes/thread-muting/create", "notes/thread-muting/delete"] {
        assert_eq!(app.refused(Some(&alice), path, nothing.clone()).await, "NO_SUCH_NOTE");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memo_is_for_the_eyes_of_its_writer() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    let memo = |text: Value| json!({ "userId": bob.id, "memo": text });
    let seen_by =
        async |by: &User| app.ok(by, "users/show", json!({ "userId": bob.id })).await["memo"].clone();
    app.ok(&alice, "users/update-memo", memo(json!("a friend"))).await;
    assert_eq!(seen_by(&alice).await, "a friend");
    assert_eq!(seen_by(&bob).await, Value::Null);
    app.ok(&alice, "users/update-memo", memo(json!(""))).await;
    assert_eq!(seen_by(&alice).await, Value::Null);
}
