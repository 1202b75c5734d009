//! What people keep: favourites, clips, pins, what their apps keep for them, and what they have reached.

use serde_json::{Value, json};

use crate::harness::{TestApp, User};

async fn two(app: &TestApp) -> (User, User) {
    (app.sign_up("alice").await, app.sign_up("bob").await)
}

fn ids<'v>(list: &'v Value, path: &str) -> Vec<&'v Value> {
    list.as_array().unwrap().iter().map(|item| item.pointer(path).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_are_kept_and_their_authors_earn_something_by_it() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob) = two(&app).await;
    let first = app.note(&alice, json!({ "text": "one" })).await;
    let second = app.note(&alice, json!({ "text": "two" })).await;
    let secret = app.note(&alice, json!({ "text": "three", "visibility": "followers" })).await;
    for note in [&first, &second] {
        app.ok(&bob, "notes/favorites/create", json!({ "noteId": note })).await;
    }
    let again = json!({ "noteId": first });
    assert_eq!(app.refused(Some(&bob), "notes/favorites/create", again).await, "ALREADY_FAVORITED");
    let unseen = json!({ "noteId": secret });
    assert_eq!(app.refused(Some(&bob), "notes/favorites/create", unseen).await, "NO_SUCH_NOTE");
    let kept = app.ok(&bob, "i/favorites", json!({})).await;
    assert_eq!(ids(&kept, "/note/id"), [&json!(second), &json!(first)]);
    let older = app.ok(&bob, "i/favorites", json!({ "untilId": kept[0]["id"] })).await;
    assert_eq!(ids(&older, "/noteId"), [&json!(first)]);
    let state = app.ok(&bob, "notes/state", json!({ "noteId": first })).await;
    assert_eq!(state["isFavorited"], true);

    let reached = app.ok(&bob, "users/achievements", json!({ "userId": alice.id })).await;
    assert_eq!(ids(&reached, "/name"), [&json!("myNoteFavorited1")]);
    let me = app.ok(&alice, "i", json!({})).await;
    assert_eq!(me["achievements"], reached);
    let told = app.ok(&alice, "i/notifications", json!({})).await;
    assert_eq!(
        (&told[0]["type"], &told[0]["achievement"]),
        (&json!("achievementEarned"), &reached[0]["name"])
    );

    app.ok(&bob, "notes/favorites/delete", json!({ "noteId": second })).await;
    app.ok(&alice, "notes/delete", json!({ "noteId": first })).await;
    assert_eq!(app.ok(&bob, "i/favorites", json!({})).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn clips_hold_as_much_as_the_policies_allow() {
    let (app, root) = TestApp::opened().await;
    let policies = json!({ "policies": { "clipLimit": 1, "noteEachClipsLimit": 1 } });
    app.ok(&root, "admin/roles/update-default-policies", policies).await;
    let (alice, bob) = two(&app).await;
    let note = app.note(&bob, json!({ "text": "clip me" })).await;
    let other = app.note(&bob, json!({ "text": "and me" })).await;
    let clip = app.ok(&alice, "clips/create", json!({ "name": "Best", "description": "" })).await;
    assert_eq!((&clip["notesCount"], &clip["description"]), (&json!(0), &Value::Null));
    let more = json!({ "name": "Second" });
    assert_eq!(app.refused(Some(&alice), "clips/create", more).await, "TOO_MANY_CLIPS");
    let id = &clip["id"];
    app.ok(&alice, "clips/add-note", json!({ "clipId": id, "noteId": note })).await;
    let full = json!({ "clipId": id, "noteId": other });
    assert_eq!(app.refused(Some(&alice), "clips/add-note", full.clone()).await, "TOO_MANY_CLIP_NOTES");
    assert_eq!(app.ok(&bob, "notes/show", json!({ "noteId": note })).await["clippedCount"], 1);

    for params in [json!({ "clipId": id }), json!({ "clipId": id, "noteId": note })] {
        for path in ["clips/show", "clips/notes", "clips/favorite", "clips/delete", "clips/remove-note"] {
            if path != "clips/remove-note" || params["noteId"].is_string() {
                assert_eq!(app.refused(Some(&bob), path, params.clone()).await, "NO_SUCH_CLIP", "{path}");
            }
        }
    }
    app.ok(&alice, "clips/update", json!({ "clipId": id, "isPublic": true })).await;
    assert_eq!(ids(&app.ok(&bob, "clips/notes", json!({ "clipId": id })).await, "/id"), [&json!(note)]);
    app.ok(&bob, "clips/favorite", json!({ "clipId": id })).await;
    let kept = app.ok(&bob, "clips/my-favorites", json!({})).await;
    assert_eq!(
        (&kept[0]["id"], &kept[0]["favoritedCount"], &kept[0]["isFavorited"]),
        (id, &json!(1), &json!(true))
    );
    assert!(kept[0].get("notesCount").is_none());

    // What is deleted makes room for another.
    app.ok(&bob, "notes/delete", json!({ "noteId": note })).await;
    app.ok(&alice, "clips/add-note", full).await;
    let listed = app.ok(&alice, "clips/list", json!({})).await;
    assert_eq!(listed[0]["notesCount"], 1);
    app.ok(&alice, "clips/delete", json!({ "clipId": id })).await;
    assert_eq!(app.ok(&bob, "clips/my-favorites", json!({})).await, json!([]));
    assert_eq!(app.ok(&bob, "notes/show", json!({ "noteId": other })).await["clippedCount"], 0);
    app.ok(&alice, "clips/create", json!({ "name": "Second" })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_are_shown_first_to_those_who_may_see_them() {
    let (app, root) = TestApp::opened().await;
    app.ok(&root, "admin/roles/update-default-policies", json!({ "policies": { "pinLimit": 2 } })).await;
    let (alice, bob) = two(&app).await;
    let open = app.note(&alice, json!({ "text": "open" })).await;
    let closed = app.note(&alice, json!({ "text": "closed", "visibility": "followers" })).await;
    let third = app.note(&alice, json!({ "text": "third" })).await;
    for note in [&open, &closed] {
        app.ok(&alice, "i/pin", json!({ "noteId": note })).await;
    }
    let refused = app.refused(Some(&alice), "i/pin", json!({ "noteId": third })).await;
    assert_eq!(refused, "PIN_LIMIT_EXCEEDED");
    let shown = app.ok(&bob, "users/show", json!({ "userId": alice.id })).await;
    assert_eq!(shown["pinnedNoteIds"], json!([closed, open]));
    assert_eq!(
        (&shown["pinnedNotes"][0]["text"], &shown["pinnedNotes"][1]["text"]),
        (&Value::Null, &json!("open"))
    );
    app.ok(&alice, "notes/delete", json!({ "noteId": open })).await;
    let me = app.ok(&alice, "i/pin", json!({ "noteId": third })).await;
    assert_eq!(me["pinnedNoteIds"], json!([third, closed]));
    assert_eq!(me["pinnedNotes"][1]["text"], "closed");
    let me = app.ok(&alice, "i/unpin", json!({ "noteId": closed })).await;
    assert_eq!(me["pinnedNoteIds"], json!([third]));

    app.ok(&root, "admin/update-meta", json!({ "pinnedUsers": ["@nobody", "@bob", "@ALICE", "@alice"] }))
        .await;
    let first = app.call(None, "pinned-users", json!({})).await.body;
    assert_eq!(ids(&first, "/username"), [&json!("bob"), &json!("alice")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_keeps_what_it_wants_in_a_domain_of_its_own() {
    let (app, root) = TestApp::opened().await;
    let granted = app
        .ok(
            &root,
            "miauth/gen-token",
            json!({ "session": null, "permission": ["read:account", "write:account"] }),
        )
        .await;
    let its = User { token: granted["token"].as_str().unwrap().to_owned(), ..root.clone() };
    let place = |key: &str| json!({ "scope": ["client", "base"], "key": key });
    let set = |key: &str, value: Value| json!({ "scope": ["client", "base"], "key": key, "value": value });
    app.ok(&root, "i/registry/set", set("a", json!({ "x": [1, null] }))).await;
    app.ok(&root, "i/registry/set", set("b", Value::Null)).await;
    app.ok(&its, "i/registry/set", set("a", json!("of the app"))).await;
    assert_eq!(app.ok(&its, "i/registry/get", place("a")).await, "of the app");
    assert_eq!(app.ok(&root, "i/registry/get", place("a")).await, json!({ "x": [1, null] }));
    assert_eq!(app.ok(&root, "i/registry/get", place("b")).await, Value::Null);
    assert_eq!(app.refused(Some(&its), "i/registry/get", place("b")).await, "NO_SUCH_KEY");
    let types = app.ok(&root, "i/registry/keys-with-type", json!({ "scope": ["client", "base"] })).await;
    assert_eq!(types, json!({ "a": "object", "b": "null" }));
    let domains = app.ok(&root, "i/registry/scopes-with-domain", json!({})).await;
    assert_eq!((domains.as_array().unwrap().len(), &domains[0]["domain"]), (2, &Value::Null));
    let of_the_app = json!({ "scope": ["client", "base"], "domain": domains[1]["domain"] });
    assert_eq!(app.ok(&root, "i/registry/get-all", of_the_app).await, json!({ "a": "of the app" }));
    app.ok(&root, "i/registry/remove", place("a")).await;
    assert_eq!(app.ok(&root, "i/registry/keys", json!({ "scope": ["client", "base"] })).await, json!(["b"]));

    let large = set("c", json!("x".repeat(domain::registry::MAX_VALUE_BYTES)));
    assert_eq!(app.refused(Some(&root), "i/registry/set", large).await, "INVALID_PARAM");
}
