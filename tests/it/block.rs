//! Blocking: what ends with it, what is refused, and what is not seen any more.

use serde_json::json;

use crate::harness::TestApp;
use crate::streaming::Stream;

#[tokio::test(flavor = "multi_thread")]
async fn a_block_ends_followings_and_refuses_what_would_reach_the_blocker() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    let note = app.note(&alice, json!({ "text": "hello", "poll": { "choices": ["a", "b"] } })).await;
    for (by, whom) in [(&alice, &bob), (&bob, &alice)] {
        app.ok(by, "following/create", json!({ "userId": whom.id })).await;
    }
    let mut heard = Stream::open(&app, Some(&bob), &["homeTimeline"]).await;

    let shown = app.ok(&alice, "blocking/create", json!({ "userId": bob.id })).await;
    assert_eq!((&shown["isBlocking"], &shown["isFollowing"]), (&json!(true), &json!(false)));
    assert_eq!(shown["isFollowed"], json!(false));
    let relation = app.ok(&bob, "users/relation", json!({ "userId": alice.id })).await;
    assert_eq!((&relation[0]["isBlocked"], &relation[0]["isFollowing"]), (&json!(true), &json!(false)));
    let list = app.ok(&alice, "blocking/list", json!({})).await;
    assert_eq!((list.as_array().unwrap().len(), &list[0]["blockee"]["id"]), (1, &json!(bob.id)));

    let of_note = json!({ "noteId": note, "choice": 0, "reaction": "👍" });
    for (by, path, params, code) in [
        (&bob, "following/create", json!({ "userId": alice.id }), "BLOCKED"),
        (&alice, "following/create", json!({ "userId": bob.id }), "BLOCKING"),
        (&bob, "notes/create", json!({ "text": "x", "replyId": note }), "YOU_HAVE_BEEN_BLOCKED"),
        (&bob, "notes/create", json!({ "renoteId": note }), "YOU_HAVE_BEEN_BLOCKED"),
        (&bob, "notes/reactions/create", of_note.clone(), "YOU_HAVE_BEEN_BLOCKED"),
        (&bob, "notes/polls/vote", of_note.clone(), "YOU_HAVE_BEEN_BLOCKED"),
        (&alice, "blocking/create", json!({ "userId": bob.id }), "ALREADY_BLOCKING"),
        (&alice, "blocking/create", json!({ "userId": alice.id }), "BLOCKEE_IS_YOURSELF"),
        (&alice, "blocking/create", json!({ "userId": "0".repeat(16) }), "NO_SUCH_USER"),
        (&bob, "blocking/delete", json!({ "userId": alice.id }), "NOT_BLOCKING"),
    ] {
        assert_eq!(app.refused(Some(by), path, params).await, code, "{path}");
    }

    // One's own way of the block is open: what the blocked one writes is still read.
    let theirs = app.note(&bob, json!({ "text": "for all" })).await;
    app.note(&alice, json!({ "text": "not for bob" })).await;
    let own = app.note(&bob, json!({ "text": "and more" })).await;
    let local = |by| app.ok(by, "notes/local-timeline", json!({}));
    let ids = |page: serde_json::Value| -> Vec<String> {
        page.as_array().unwrap().iter().map(|note| note["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(local(&bob).await), [own.clone(), theirs.clone()]);
    assert_eq!(ids(local(&alice).await).len(), 4);
    assert_eq!(app.ok(&bob, "users/notes", json!({ "userId": alice.id })).await, json!([]));
    assert_eq!(app.ok(&bob, "notes/show", json!({ "noteId": note })).await["text"], "hello");
    // Told of nothing of hers, in no channel.
    assert_eq!(heard.note().await, ("homeTimeline".to_owned(), "for all".to_owned()));
    assert_eq!(heard.note().await, ("homeTimeline".to_owned(), "and more".to_owned()));

    let shown = app.ok(&alice, "blocking/delete", json!({ "userId": bob.id })).await;
    assert_eq!(shown["isBlocking"], json!(false));
    app.ok(&bob, "notes/reactions/create", of_note).await;
    assert_eq!(ids(local(&bob).await).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_with_a_block_too() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    app.ok(&alice, "i/update", json!({ "isLocked": true })).await;
    app.ok(&bob, "following/create", json!({ "userId": alice.id })).await;
    app.ok(&alice, "blocking/create", json!({ "userId": bob.id })).await;
    assert_eq!(app.ok(&alice, "following/requests/list", json!({})).await, json!([]));
    let accept = json!({ "userId": bob.id });
    assert_eq!(app.refused(Some(&alice), "following/requests/accept", accept).await, "NO_FOLLOW_REQUEST");
}
