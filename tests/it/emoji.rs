//! Custom emoji over HTTP: added, found, shown, reacted with, told of on streams, and gone.

use serde_json::{Value, json};

use crate::harness::{TestApp, User};
use crate::streaming::Stream;

/// A picture of one pixel, the same for the same number.
pub fn picture(n: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&[n, 2, 3]).unwrap();
    bytes
}

/// Adds an emoji with a picture of its own.
pub async fn add(app: &TestApp, by: &User, name: &str, n: u8, more: Value) -> Value {
    let mut params = json!({ "name": name, "fileId": app.file(by, "a.png", picture(n)).await });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.ok(by, "admin/emoji/add", params).await
}

async fn served(app: &TestApp, url: &Value) -> (u16, Vec<u8>) {
    let answer = app.get(url.as_str().unwrap().strip_prefix(&app.url).unwrap()).await;
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emoji_is_added_changed_found_and_deleted() {
    let (app, root) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let file = app.file(&alice, "a.png", picture(1)).await;
    let blob = json!({ "name": "blob", "fileId": file, "category": "faces", "aliases": ["round"] });
    let add_as =
        async |by: &User, params: &Value| app.refused(Some(by), "admin/emoji/add", params.clone()).await;
    assert_eq!(add_as(&alice, &blob).await, "ROLE_PERMISSION_DENIED");
    let keeper = json!({ "policies": { "canManageCustomEmojis":
        { "useDefault": false, "priority": 0, "value": true } } });
    let keeper = crate::role::role(&app, &root, keeper).await;
    app.ok(&root, "admin/roles/assign", json!({ "roleId": keeper, "userId": alice.id })).await;

    let made = app.ok(&alice, "admin/emoji/add", blob.clone()).await;
    assert_eq!((&made["name"], &made["host"]), (&json!("blob"), &Value::Null));
    assert_eq!(add_as(&alice, &blob).await, "DUPLICATE_NAME");
    assert_eq!(add_as(&alice, &json!({ "name": "a b", "fileId": file })).await, "INVALID_PARAM");
    let nowhere = json!({ "name": "x", "fileId": "0000000000000000" });
    assert_eq!(add_as(&alice, &nowhere).await, "NO_SUCH_FILE");
    let text = app.file(&alice, "a.txt", b"text".to_vec()).await;
    let written = json!({ "name": "x", "fileId": text });
    assert_eq!(add_as(&alice, &written).await, "UNSUPPORTED_FILE_TYPE");
    let cat = add(&app, &root, "cat", 2, json!({ "category": "animals" })).await;
    add(&app, &root, "zzz", 3, json!({})).await;

    let all = async || {
        let all = app.ok(&alice, "emojis", json!({})).await["emojis"].clone();
        all.as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(all().await, ["cat", "blob", "zzz"], "by category, then those without one");

    // The picture is the server's own: it stays when the file goes, and its uploader.
    app.ok(&alice, "drive/files/delete", json!({ "fileId": file })).await;
    assert_eq!(served(&app, &made["url"]).await, (200, picture(1)));

    let id = made["id"].clone();
    let update = async |params: Value| app.call(Some(&alice), "admin/emoji/update", params).await;
    let renamed = update(json!({ "id": id, "name": "cat" })).await;
    assert_eq!(renamed.body["error"]["code"], "SAME_NAME_EMOJI_EXISTS");
    assert_eq!(update(json!({ "id": id, "name": "ball", "license": "CC0" })).await.status, 204);
    assert_eq!(app.refused(None, "emoji", json!({ "name": "blob" })).await, "NO_SUCH_EMOJI");
    let shown = app.ok(&alice, "emoji", json!({ "name": "ball" })).await;
    assert_eq!((&shown["id"], &shown["license"], &shown["category"]), (&id, &json!("CC0"), &json!("faces")));
    // The name is free again, and so is one that was deleted.
    let second = add(&app, &root, "blob", 4, json!({})).await;
    app.ok(&root, "admin/emoji/delete", json!({ "id": second["id"] })).await;
    assert_eq!(served(&app, &second["url"]).await.0, 404);
    assert_eq!(
        app.refused(Some(&root), "admin/emoji/delete", json!({ "id": second["id"] })).await,
        "NO_SUCH_EMOJI"
    );
    let third = add(&app, &root, "blob", 5, json!({})).await;

    let other = app.file(&root, "b.png", picture(6)).await;
    assert_eq!(update(json!({ "name": "ball", "fileId": other })).await.status, 204);
    let now = app.ok(&alice, "emoji", json!({ "name": "ball" })).await;
    assert_eq!(served(&app, &now["url"]).await, (200, picture(6)));
    assert_eq!(served(&app, &made["url"]).await.0, 404, "the old one is gone");

    let many = json!({ "ids": [id, cat["id"], "0"], "aliases": ["a", "b"] });
    app.ok(&alice, "admin/emoji/add-aliases-bulk", many).await;
    let fewer = json!({ "ids": [id], "aliases": ["b"] });
    app.ok(&alice, "admin/emoji/remove-aliases-bulk", fewer).await;
    app.ok(&alice, "admin/emoji/set-category-bulk", json!({ "ids": [id], "category": null })).await;
    app.ok(&alice, "admin/emoji/set-license-bulk", json!({ "ids": [cat["id"]], "license": "MIT" })).await;
    let listed = app.ok(&alice, "admin/emoji/list", json!({ "query": "a", "limit": 10 })).await;
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|emoji| &emoji["name"]).collect();
    assert_eq!(names, [&json!("cat"), &json!("ball")]);
    assert_eq!(listed[1]["aliases"], json!(["round", "a"]));
    let named = app.ok(&alice, "admin/emoji/list", json!({ "query": ":blob: :zzz:" })).await;
    assert_eq!(named.as_array().unwrap().len(), 2);
    let query = json!({ "license": "MIT CC0", "hostType": "local" });
    let found = json!({ "query": query, "limit": 1, "page": 2, "sortKeys": ["+name"] });
    let found = app.ok(&alice, "v2/admin/emoji/list", found).await;
    assert_eq!((&found["allCount"], &found["allPages"], &found["count"]), (&json!(2), &json!(2), &json!(1)));
    assert_eq!(found["emojis"][0]["name"], "cat");

    let log = app.ok(&root, "admin/show-moderation-logs", json!({ "limit": 100 })).await;
    let kinds: Vec<_> = log.as_array().unwrap().iter().filter_map(|line| line["type"].as_str()).collect();
    for kind in ["addCustomEmoji", "updateCustomEmoji", "deleteCustomEmoji"] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    app.ok(&alice, "admin/emoji/delete-bulk", json!({ "ids": [third["id"], id] })).await;
    assert_eq!(all().await, ["cat", "zzz"]);
    let left = std::fs::read_dir(app.data_dir().join("files/server")).unwrap().count();
    assert_eq!(left, 4, "two pictures, and the small ones of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_react_with_the_emoji_that_they_may() {
    let (app, root) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let friends = crate::role::role(&app, &root, json!({})).await;
    add(&app, &root, "blob", 1, json!({})).await;
    add(&app, &root, "lewd", 2, json!({ "isSensitive": true })).await;
    add(&app, &root, "club", 3, json!({ "roleIdsThatCanBeUsedThisEmojiAsReaction": [friends] })).await;
    let open = app.note(&root, json!({ "text": "any" })).await;
    let decent = json!({ "text": "decent", "reactionAcceptance": "nonSensitiveOnly" });
    let decent = app.note(&root, decent).await;

    let react = async |note: &str, with: &str| {
        app.call(Some(&alice), "notes/reactions/delete", json!({ "noteId": note })).await;
        app.ok(&alice, "notes/reactions/create", json!({ "noteId": note, "reaction": with })).await;
        let note = app.ok(&alice, "notes/show", json!({ "noteId": note })).await;
        assert_eq!(note["reactionEmojis"], json!({}));
        note["myReaction"].as_str().unwrap().to_owned()
    };
    assert_eq!(react(&open, ":blob:").await, ":blob@.:");
    assert_eq!(react(&decent, ":blob@.:").await, ":blob@.:");
    assert_eq!(react(&open, ":lewd:").await, ":lewd@.:");
    assert_eq!(react(&decent, ":lewd:").await, "❤");
    assert_eq!(react(&open, ":nothing:").await, "❤");
    assert_eq!(react(&open, ":club:").await, "❤");
    app.ok(&root, "admin/roles/assign", json!({ "roleId": friends, "userId": alice.id })).await;
    assert_eq!(react(&open, ":club:").await, ":club@.:");
    let named = json!({ "noteId": open, "type": ":club@.:" });
    assert_eq!(app.ok(&root, "notes/reactions", named).await[0]["user"]["id"], json!(alice.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_of_emoji_and_shown_them_by_name() {
    let (app, root) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let note = app.note(&root, json!({ "text": "x" })).await;
    let mut stream = Stream::open(&app, None, &["localTimeline"]).await;
    stream.capture(&note).await;
    let blob = add(&app, &root, "blob", 1, json!({})).await;
    assert_eq!(stream.next().await, json!({ "type": "emojiAdded", "body": { "emoji": blob } }));
    app.ok(&alice, "notes/reactions/create", json!({ "noteId": note, "reaction": ":blob:" })).await;
    let told = stream.next().await["body"]["body"].clone();
    let emoji = json!({ "name": "blob@.", "url": blob["url"] });
    assert_eq!(told, json!({ "reaction": ":blob@.:", "emoji": emoji, "userId": alice.id }));
    app.ok(&root, "admin/emoji/update", json!({ "id": blob["id"], "aliases": ["b"] })).await;
    let updated = stream.next().await;
    assert_eq!(
        (&updated["type"], &updated["body"]["emojis"][0]["aliases"]),
        (&json!("emojiUpdated"), &json!(["b"]))
    );

    let location = async |path: &str| {
        let answer = app.get_unled(path).await;
        (answer.status().as_u16(), answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned()))
    };
    let (status, to) = location("/emoji/blob.webp").await;
    assert_eq!(status, 302);
    let to = to.unwrap();
    assert!(
        to.ends_with("?emoji=1") && to.starts_with(&format!("{}/proxy/emoji/http%3A%2F%2F", app.url)),
        "{to}"
    );
    let proxied = app.get(to.strip_prefix(&app.url).unwrap()).await;
    assert_eq!(
        (proxied.status().as_u16(), &proxied.headers()["content-type"]),
        (200, &"image/webp".parse().unwrap())
    );
    assert!(location("/emoji/blob@..webp?static").await.1.unwrap().ends_with("?emoji=1&static=1"));
    assert!(location("/emoji/blob.webp?badge=1").await.1.unwrap().ends_with("?badge=1"));
    assert_eq!(location("/emoji/nosuch.webp").await, (404, None));
    assert_eq!(location("/emoji/blob.png").await, (404, None));
    assert_eq!(location("/emoji/nosuch.webp?fallback").await, (200, None));

    app.ok(&root, "admin/emoji/delete", json!({ "id": blob["id"] })).await;
    assert_eq!(stream.next().await["type"], "emojiDeleted");
    let note = app.ok(&alice, "notes/show", json!({ "noteId": note })).await;
    assert_eq!(note["reactions"], json!({ ":blob@.:": 1 }), "what people reacted with stays");
}
