//! What people do on their first day, over HTTP: they write, follow, react, vote, and read what they wrote.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn two_people_meet() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;

    app.ok(&bob, "following/create", json!({ "userId": alice.id })).await;
    let hello = app.note(&alice, json!({ "text": "hello" })).await;
    for timeline in ["timeline", "local-timeline", "hybrid-timeline", "global-timeline"] {
        let page = app.ok(&bob, &format!("notes/{timeline}"), json!({ "limit": 1 })).await;
        assert_eq!(page[0]["id"], json!(hello), "{timeline}");
    }

    app.ok(&bob, "notes/reactions/create", json!({ "noteId": hello, "reaction": "🎉" })).await;
    let refused =
        app.refused(Some(&bob), "notes/reactions/create", json!({ "noteId": hello, "reaction": "🎉" })).await;
    assert_eq!(refused, "ALREADY_REACTED");
    let seen = app.ok(&bob, "notes/show", json!({ "noteId": hello })).await;
    assert_eq!((&seen["reactions"], &seen["myReaction"]), (&json!({ "🎉": 1 }), &json!("🎉")));

    let reply = app.note(&bob, json!({ "text": "hi @root", "replyId": hello })).await;
    let replies = app.ok(&alice, "notes/replies", json!({ "noteId": hello })).await;
    assert_eq!(ids(&replies), [reply]);

    let told = app.ok(&alice, "i/notifications", json!({})).await;
    let kinds: Vec<&str> = told.as_array().unwrap().iter().map(|n| n["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reply", "reaction", "follow"]);
    assert_eq!(app.ok(&alice, "i", json!({})).await["unreadNotificationsCount"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_account_is_followed_on_request() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    // Whom one follows is otherwise let in at once.
    app.ok(&alice, "i/update", json!({ "isLocked": true, "autoAcceptFollowed": false })).await;
    let secret = app.note(&alice, json!({ "text": "for followers", "visibility": "followers" })).await;

    app.ok(&bob, "following/create", json!({ "userId": alice.id })).await;
    let hidden = app.ok(&bob, "notes/show", json!({ "noteId": secret })).await;
    assert_eq!((&hidden["text"], &hidden["isHidden"]), (&Value::Null, &json!(true)));
    let requests = app.ok(&alice, "following/requests/list", json!({})).await;
    assert_eq!(requests[0]["follower"]["id"], json!(bob.id));

    app.ok(&alice, "following/requests/accept", json!({ "userId": bob.id })).await;
    let shown = app.ok(&bob, "notes/show", json!({ "noteId": secret })).await;
    assert_eq!(shown["text"], "for followers");
    assert_eq!(ids(&app.ok(&bob, "notes/timeline", json!({})).await), [secret]);

    app.ok(&alice, "following/invalidate", json!({ "userId": bob.id })).await;
    assert_eq!(ids(&app.ok(&bob, "notes/timeline", json!({})).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_is_voted_on_until_it_ends() {
    let (app, alice) = TestApp::opened().await;
    let (bob, carol) = (app.sign_up("bob").await, app.sign_up("carol").await);
    let poll = json!({ "choices": ["tea", "coffee"], "expiredAfter": 60_000 });
    let note = app.note(&alice, json!({ "text": "?", "poll": poll })).await;
    let vote = |choice: u32| json!({ "noteId": note, "choice": choice });

    app.ok(&bob, "notes/polls/vote", vote(1)).await;
    assert_eq!(app.refused(Some(&bob), "notes/polls/vote", vote(0)).await, "ALREADY_VOTED");
    assert_eq!(app.refused(Some(&carol), "notes/polls/vote", vote(2)).await, "INVALID_CHOICE");
    app.clock.pass(chrono::TimeDelta::seconds(61));
    assert_eq!(app.refused(Some(&carol), "notes/polls/vote", vote(0)).await, "ALREADY_EXPIRED");

    let shown = app.ok(&bob, "notes/show", json!({ "noteId": note })).await;
    let votes: Vec<&Value> =
        shown["poll"]["choices"].as_array().unwrap().iter().map(|choice| &choice["votes"]).collect();
    assert_eq!(votes, [&json!(0), &json!(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn renotes_quotes_and_what_is_taken_back() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    let note = app.note(&alice, json!({ "text": "worth it" })).await;
    let renote = app.note(&bob, json!({ "renoteId": note })).await;
    let quote = app.note(&bob, json!({ "renoteId": note, "text": "so true" })).await;
    assert_eq!(app.ok(&alice, "notes/show", json!({ "noteId": note })).await["renoteCount"], 2);
    let renotes = app.ok(&alice, "notes/renotes", json!({ "noteId": note })).await;
    assert_eq!(ids(&renotes), [quote, renote]);

    // Every one of them, quotes as well.
    app.ok(&bob, "notes/unrenote", json!({ "noteId": note })).await;
    assert_eq!(ids(&app.ok(&alice, "notes/renotes", json!({ "noteId": note })).await), [""; 0]);
    let quote = app.note(&bob, json!({ "renoteId": note, "text": "still true" })).await;
    assert_eq!(app.refused(Some(&bob), "notes/delete", json!({ "noteId": note })).await, "ACCESS_DENIED");
    app.ok(&alice, "notes/delete", json!({ "noteId": note })).await;
    assert_eq!(app.refused(Some(&bob), "notes/show", json!({ "noteId": note })).await, "NO_SUCH_NOTE");
    // A quote goes with what it quotes, and nothing can be done with it any more.
    let on_quote = json!({ "noteId": quote, "reaction": "🎉" });
    for path in ["notes/show", "notes/delete", "notes/reactions/create"] {
        assert_eq!(app.refused(Some(&bob), path, on_quote.clone()).await, "NO_SUCH_NOTE", "{path}");
    }
    let reply = json!({ "text": "too late", "replyId": quote });
    assert_eq!(app.refused(Some(&bob), "notes/create", reply).await, "NO_SUCH_REPLY_TARGET");
}

/// What somebody has been told succeeded is in their next read, however many do it at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_read_at_once() {
    const PEOPLE: usize = 8;
    const ROUNDS: usize = 25;
    let (app, root) = TestApp::opened().await;
    let mut people = Vec::new();
    for n in 0..PEOPLE {
        people.push(app.sign_up(&format!("person{n}")).await);
    }
    let (app, root) = (&app, &root);
    let each = people.iter().map(|me| async move {
        for round in 0..ROUNDS {
            let note = app.note(me, json!({ "text": format!("round {round}") })).await;
            let home = app.ok(me, "notes/timeline", json!({ "limit": 1 })).await;
            assert_eq!(home[0]["id"], json!(note));
            let mine = json!({ "userId": me.id, "limit": 1 });
            assert_eq!(app.ok(me, "users/notes", mine).await[0]["id"], json!(note));

            app.ok(me, "notes/reactions/create", json!({ "noteId": note, "reaction": "👍" })).await;
            let seen = app.ok(me, "notes/show", json!({ "noteId": note })).await;
            assert_eq!((&seen["myReaction"], &seen["reactionCount"]), (&json!("👍"), &json!(1)));

            let (path, follows) = match round % 2 {
                0 => ("following/create", true),
                _ => ("following/delete", false),
            };
            app.ok(me, path, json!({ "userId": root.id })).await;
            let relation = app.ok(me, "users/relation", json!({ "userId": root.id })).await;
            assert_eq!(relation[0]["isFollowing"], follows, "round {round}");

            app.ok(me, "i/update", json!({ "name": format!("name {round}") })).await;
            assert_eq!(app.ok(me, "i", json!({})).await["name"], json!(format!("name {round}")));
            app.ok(me, "notes/delete", json!({ "noteId": note })).await;
            assert_eq!(app.refused(Some(me), "notes/show", json!({ "noteId": note })).await, "NO_SUCH_NOTE");
        }
    });
    join_all(each).await;
    app.settle().await;
}

/// A client that gets an empty page believes that there is no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_not_empty_while_there_is_more_to_see() {
    let (app, root) = TestApp::opened().await;
    let shy = app.sign_up("shy").await;
    app.ok(&shy, "i/update", json!({ "requireSigninToViewContents": true })).await;
    let oldest = app.note(&root, json!({ "text": "for all" })).await;
    for n in 0..5 {
        app.note(&shy, json!({ "text": format!("not for strangers {n}") })).await;
    }
    let page = app.call(None, "notes/local-timeline", json!({ "limit": 1 })).await;
    assert_eq!(ids(&page.body), [oldest]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_told_at_once() {
    let (app, root) = TestApp::opened().await;
    let params = json!({ "username": root.name, "password": crate::harness::PASSWORD });
    let signed_in = app.call(None, "signin-flow", params).await;
    assert_eq!(signed_in.body["finished"], true, "{signed_in:?}");
    assert_eq!(app.ok(&root, "i/notifications", json!({})).await[0]["type"], "login");
}

fn ids(page: &Value) -> Vec<String> {
    page.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}
