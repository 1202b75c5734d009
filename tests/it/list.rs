//! Lists of people over HTTP: whose they are, what may be in them, who looks at them, and their timeline.

use serde_json::{Value, json};

use crate::harness::{TestApp, User};

async fn list(app: &TestApp, by: &User, name: &str) -> String {
    let list = app.ok(by, "users/lists/create", json!({ "name": name })).await;
    assert_eq!((&list["userIds"], &list["isPublic"]), (&json!([]), &json!(false)));
    list["id"].as_str().unwrap().to_owned()
}

async fn push(app: &TestApp, by: &User, list: &str, user: &User) {
    app.ok(by, "users/lists/push", json!({ "listId": list, "userId": user.id })).await;
}

fn texts(notes: &Value) -> Vec<&str> {
    notes.as_array().unwrap().iter().filter_map(|note| note["text"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_its_owners_until_it_is_public() {
    let (app, root) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let list = list(&app, &alice, "friends").await;
    push(&app, &alice, &list, &root).await;
    let it = || json!({ "listId": list });
    let public = || json!({ "listId": list, "forPublic": true });
    for (by, params) in [(Some(&bob), it()), (Some(&bob), public()), (None, it())] {
        for path in ["users/lists/show", "users/lists/get-memberships"] {
            assert_eq!(app.refused(by, path, params.clone()).await, "NO_SUCH_LIST", "{path}");
        }
    }
    let of_another = json!({ "listId": list, "userId": bob.id });
    for path in ["users/lists/push", "users/lists/pull", "users/lists/update-membership"] {
        assert_eq!(app.refused(Some(&bob), path, of_another.clone()).await, "NO_SUCH_LIST", "{path}");
    }
    for path in ["users/lists/update", "users/lists/delete", "notes/user-list-timeline"] {
        assert_eq!(app.refused(Some(&bob), path, it()).await, "NO_SUCH_LIST", "{path}");
    }
    assert_eq!(app.refused(Some(&bob), "users/lists/favorite", it()).await, "NO_SUCH_USER_LIST");
    let copy = json!({ "listId": list, "name": "mine" });
    assert_eq!(app.refused(Some(&bob), "users/lists/create-from-public", copy.clone()).await, "NO_SUCH_LIST");
    assert_eq!(app.ok(&bob, "users/lists/list", json!({ "userId": alice.id })).await, json!([]));

    app.ok(&alice, "users/lists/update", json!({ "listId": list, "isPublic": true })).await;
    app.ok(&bob, "users/lists/favorite", it()).await;
    let shown = app.ok(&bob, "users/lists/show", public()).await;
    assert_eq!((&shown["likedCount"], &shown["isLiked"]), (&json!(1), &json!(true)));
    let shown = app.call(None, "users/lists/show", public()).await.body;
    assert_eq!((&shown["likedCount"], &shown["isLiked"]), (&json!(1), &json!(false)));
    assert!(app.ok(&alice, "users/lists/show", it()).await.get("likedCount").is_none());
    let members = app.call(None, "users/lists/get-memberships", public()).await.body;
    assert_eq!(members[0]["user"]["username"], "root");
    let copied = app.ok(&bob, "users/lists/create-from-public", copy).await;
    assert_eq!((&copied["userIds"], &copied["isPublic"]), (&json!([root.id]), &json!(false)));
    let theirs = app.ok(&bob, "users/lists/list", json!({ "userId": alice.id })).await;
    assert_eq!(theirs.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_blocks_somebody_is_in_none_of_their_lists_anew() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let list = list(&app, &alice, "friends").await;
    app.ok(&bob, "blocking/create", json!({ "userId": alice.id })).await;
    let asked = json!({ "listId": list, "userId": bob.id });
    assert_eq!(app.refused(Some(&alice), "users/lists/push", asked).await, "YOU_HAVE_BEEN_BLOCKED");
    app.ok(&bob, "blocking/delete", json!({ "userId": alice.id })).await;
    push(&app, &alice, &list, &bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_limit_lists_and_the_people_in_them() {
    let (app, root) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let limit = async |lists: u32, members: u32| {
        let policies = json!({ "userListLimit": lists, "userEachUserListsLimit": members });
        app.ok(&root, "admin/roles/update-default-policies", json!({ "policies": policies })).await;
    };
    limit(2, 2).await;
    let (first, second) = (list(&app, &alice, "one").await, list(&app, &alice, "two").await);
    let another = json!({ "name": "three" });
    assert_eq!(app.refused(Some(&alice), "users/lists/create", another.clone()).await, "TOO_MANY_USERLISTS");
    for user in [&root, &bob] {
        push(&app, &alice, &first, user).await;
    }
    let one_more = json!({ "listId": first, "userId": alice.id });
    assert_eq!(app.refused(Some(&alice), "users/lists/push", one_more).await, "TOO_MANY_USERS");
    limit(2, 1).await;
    let to_second = json!({ "listId": second, "userId": bob.id });
    let refused = app.refused(Some(&alice), "users/lists/push", to_second.clone()).await;
    assert_eq!(refused, "LIST_USERS_LIMIT_EXCEEDED");
    limit(1, 2).await;
    assert_eq!(app.refused(Some(&alice), "users/lists/push", to_second).await, "LIST_LIMIT_EXCEEDED");
    let rename = json!({ "listId": second, "name": "x" });
    assert_eq!(app.refused(Some(&alice), "users/lists/update", rename).await, "LIST_LIMIT_EXCEEDED");
    app.ok(&alice, "users/lists/delete", json!({ "listId": second })).await;
    assert_eq!(app.refused(Some(&alice), "users/lists/create", another).await, "TOO_MANY_USERLISTS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lists_timeline_has_what_its_people_say() {
    let (app, root) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let list = list(&app, &alice, "friends").await;
    push(&app, &alice, &list, &bob).await;
    let question = app.note(&root, json!({ "text": "question" })).await;
    app.note(&bob, json!({ "text": "plain" })).await;
    app.note(&bob, json!({ "text": "answer", "replyId": question })).await;
    app.note(&bob, json!({ "renoteId": question })).await;
    app.note(&bob, json!({ "text": "for followers", "visibility": "followers" })).await;
    app.note(&bob, json!({ "text": "for alice", "visibility": "specified", "visibleUserIds": [alice.id] }))
        .await;
    app.note(&bob, json!({ "text": "for root", "visibility": "specified", "visibleUserIds": [root.id] }))
        .await;
    let timeline = async |mut params: Value| {
        params["listId"] = json!(list);
        app.ok(&alice, "notes/user-list-timeline", params).await
    };
    let all = timeline(json!({})).await;
    assert_eq!(texts(&all), ["for alice", "plain"]);
    assert_eq!(all.as_array().unwrap().len(), 3, "the renote has no text");
    assert_eq!(timeline(json!({ "withRenotes": false })).await.as_array().unwrap().len(), 2);
    assert_eq!(timeline(json!({ "withFiles": true })).await, json!([]));
    let oldest = timeline(json!({ "sinceDate": 0, "limit": 1 })).await;
    assert_eq!(texts(&oldest), ["plain"]);

    let wish = json!({ "listId": list, "userId": bob.id, "withReplies": true });
    app.ok(&alice, "users/lists/update-membership", wish).await;
    app.ok(&alice, "following/create", json!({ "userId": bob.id })).await;
    let more = timeline(json!({ "withRenotes": false })).await;
    assert_eq!(texts(&more), ["for alice", "for followers", "answer", "plain"]);
    app.ok(&alice, "users/lists/pull", json!({ "listId": list, "userId": bob.id })).await;
    assert_eq!(timeline(json!({})).await, json!([]));
}
