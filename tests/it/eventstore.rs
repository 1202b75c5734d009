//! The whole server with its log in EventStoreDB: on the double, which isn't the server, and on the server
//! that `KIROKU_TEST_EVENTSTORE_URL` names.

use std::time::Duration;

use futures_util::future::join;
use gateway::config::Given;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::eventstore_double::Double;
use crate::harness::{TestApp, User};
use crate::streaming::Stream;

const PATIENCE: Duration = Duration::from_secs(60);
const CUT_EVERY: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread")]
async fn a_day_on_the_double() {
    let double = Double::start().await;
    a_day(&double.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_on_a_server() {
    match server() {
        Some(url) => a_day(&url).await,
        None => println!("SKIPPED: KIROKU_TEST_EVENTSTORE_URL names no EventStoreDB"),
    }
}

/// Two processes; people sign up, follow, write, answer, react and vote; both processes end and come back.
async fn a_day(url: &str) {
    let app = TestApp::on_eventstore(url, &namespace(), &[]).await;
    let root = opened(&app).await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let elsewhere = app.another().await;
    let mut stream = Stream::open(&elsewhere, Some(&bob), &["homeTimeline"]).await;

    app.ok(&bob, "following/create", json!({ "userId": alice.id })).await;
    let poll = json!({ "choices": ["tea", "coffee"] });
    let hello = app.note(&alice, json!({ "text": "hello", "poll": poll })).await;
    let told = timeout(PATIENCE, stream.next()).await.unwrap();
    assert_eq!((&told["body"]["type"], &told["body"]["body"]["id"]), (&json!("note"), &json!(hello)));

    let reply = elsewhere.note(&bob, json!({ "text": "hi @alice", "replyId": hello })).await;
    elsewhere.ok(&bob, "notes/polls/vote", json!({ "noteId": hello, "choice": 1 })).await;
    // Once, whichever process is asked.
    let reaction = json!({ "noteId": hello, "reaction": "🎉" });
    let (one, two) = join(
        app.call(Some(&root), "notes/reactions/create", reaction.clone()),
        elsewhere.call(Some(&root), "notes/reactions/create", reaction.clone()),
    )
    .await;
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 400], "{one:?} {two:?}");

    app.settle().await;
    elsewhere.settle().await;
    for process in [&app, &elsewhere] {
        as_it_was_left(process, &bob, &hello, &reply).await;
    }
    for process in [&app, &elsewhere] {
        process.app.projections.stop().await;
    }

    let again = app.another().await;
    again.settle().await;
    as_it_was_left(&again, &bob, &hello, &reply).await;
    assert_eq!(again.refused(Some(&root), "notes/reactions/create", reaction).await, "ALREADY_REACTED");
    let later = again.note(&alice, json!({ "text": "good morning" })).await;
    assert_eq!(again.ok(&bob, "notes/timeline", json!({ "limit": 1 })).await[0]["id"], json!(later));
}

async fn as_it_was_left(app: &TestApp, bob: &User, hello: &str, reply: &str) {
    let shown = app.ok(bob, "notes/show", json!({ "noteId": hello })).await;
    assert_eq!((&shown["reactions"], &shown["repliesCount"]), (&json!({ "🎉": 1 }), &json!(1)));
    let votes: Vec<&Value> =
        shown["poll"]["choices"].as_array().unwrap().iter().map(|choice| &choice["votes"]).collect();
    assert_eq!(votes, [&json!(0), &json!(1)]);
    let replies = app.ok(bob, "notes/replies", json!({ "noteId": hello })).await;
    assert_eq!((replies.as_array().unwrap().len(), &replies[0]["id"]), (1, &json!(reply)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_while_connections_were_cut_is_there_once() {
    const NOTES: usize = 40;
    let double = Double::start().await;
    double.trouble(|trouble| trouble.twice = true);
    let app = TestApp::on_eventstore(&double.url(), &namespace(), &[]).await;
    let root = opened(&app).await;
    let cutting = async {
        loop {
            tokio::time::sleep(CUT_EVERY).await;
            double.cut();
        }
    };
    let writing = async {
        let mut written = Vec::new();
        for n in 0..NOTES {
            written.push(app.note(&root, json!({ "text": format!("note {n}") })).await);
        }
        written
    };
    let written = tokio::select! {
        written = timeout(PATIENCE, writing) => written.expect("writing takes too long"),
        () = cutting => unreachable!("it never ends"),
    };
    app.settle().await;
    let page = app.ok(&root, "notes/local-timeline", json!({ "limit": 100 })).await;
    let mut shown: Vec<&str> = page.as_array().unwrap().iter().map(|n| n["id"].as_str().unwrap()).collect();
    shown.reverse();
    assert_eq!(shown, written);
}

/// With open registration and without limits of calls, and its first account.
async fn opened(app: &TestApp) -> User {
    let root = app.sign_up("root").await;
    app.ok(&root, "admin/update-meta", json!({ "disableRegistration": false })).await;
    let unlimited = json!({ "policies": { "rateLimitFactor": 0 } });
    app.ok(&root, "admin/roles/update-default-policies", unlimited).await;
    root
}

/// The server that the tests may use; it keeps what they write.
pub fn server() -> Option<String> {
    Given::from_process().environment.get("KIROKU_TEST_EVENTSTORE_URL").cloned()
}

/// A log of its own for each run: the server may hold many.
pub fn namespace() -> String {
    format!("kirokutest{}", Uuid::from_u128(rand::random()).simple())
}
