//! Works that people show: posts of a gallery, pages, plays.

use serde_json::{Value, json};

use crate::drive::picture;
use crate::harness::{TestApp, User};

async fn people() -> (TestApp, User, User) {
    let (app, root) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    (app, root, bob)
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap()).collect()
}

fn page(name: &str) -> Value {
    json!({
        "title": "My page", "name": name, "summary": null, "content": [{ "type": "text", "text": "hello" }],
        "variables": [], "script": "", "eyeCatchingImageId": null, "font": "serif",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_shown_in_the_gallery_and_liked() {
    let (app, alice, bob) = people().await;
    let file = app.file(&alice, "a.png", picture(1)).await;
    let post = json!({ "title": "Post", "description": "d", "fileIds": [file] });
    assert_eq!(app.refused(Some(&bob), "gallery/posts/create", post.clone()).await, "NO_SUCH_FILE");
    let made = app.ok(&alice, "gallery/posts/create", post).await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        (&made["files"][0]["id"], &made["likedCount"], &made["isLiked"]),
        (&json!(file), &json!(0), &json!(false))
    );
    let of = |id: &str| json!({ "postId": id });
    app.ok(&bob, "gallery/posts/like", of(id)).await;
    assert_eq!(app.refused(Some(&bob), "gallery/posts/like", of(id)).await, "ALREADY_LIKED");
    assert_eq!(app.refused(Some(&alice), "gallery/posts/like", of(id)).await, "YOUR_POST");
    for (by, path, params) in [
        (&bob, "gallery/posts", json!({})),
        (&bob, "gallery/featured", json!({})),
        (&bob, "gallery/popular", json!({})),
        (&alice, "i/gallery/posts", json!({})),
        (&bob, "users/gallery/posts", json!({ "userId": alice.id })),
    ] {
        assert_eq!(ids(&app.ok(by, path, params).await), [id], "{path}");
    }
    let liked = app.ok(&bob, "i/gallery/likes", json!({})).await;
    assert_eq!((&liked[0]["post"]["id"], &liked[0]["post"]["isLiked"]), (&json!(id), &json!(true)));
    let older = json!({ "untilId": liked[0]["id"] });
    assert_eq!(app.ok(&bob, "i/gallery/likes", older).await, json!([]));

    let change = json!({ "postId": id, "title": "New", "description": null });
    assert_eq!(app.refused(Some(&bob), "gallery/posts/update", change.clone()).await, "ACCESS_DENIED");
    let changed = app.ok(&alice, "gallery/posts/update", change).await;
    assert_eq!(
        (&changed["title"], &changed["description"], &changed["likedCount"]),
        (&json!("New"), &Value::Null, &json!(1))
    );
    app.ok(&bob, "gallery/posts/unlike", of(id)).await;
    assert_eq!(app.refused(Some(&bob), "gallery/posts/unlike", of(id)).await, "NOT_LIKED");
    assert_eq!(app.refused(Some(&bob), "gallery/posts/delete", of(id)).await, "ACCESS_DENIED");
    let other = app.file(&bob, "b.png", picture(2)).await;
    let his = app.ok(&bob, "gallery/posts/create", json!({ "title": "His", "fileIds": [other] })).await;
    app.ok(&alice, "gallery/posts/delete", json!({ "postId": his["id"] })).await;
    let log = app.ok(&alice, "admin/show-moderation-logs", json!({ "type": "deleteGalleryPost" })).await;
    assert_eq!((&log[0]["info"]["postId"], &log[0]["info"]["postUserId"]), (&his["id"], &json!(bob.id)));
    app.ok(&alice, "gallery/posts/delete", of(id)).await;
    assert_eq!(app.refused(Some(&alice), "gallery/posts/show", of(id)).await, "NO_SUCH_POST");
    assert_eq!(app.ok(&alice, "i/gallery/posts", json!({})).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_a_name_and_may_be_for_its_owner_alone() {
    let (app, alice, bob) = people().await;
    let id = app.ok(&alice, "pages/create", page("mine")).await["id"].as_str().unwrap().to_owned();
    assert_eq!(app.refused(Some(&alice), "pages/create", page("mine")).await, "NAME_ALREADY_EXISTS");
    app.ok(&bob, "pages/create", page("mine")).await;
    assert_eq!(app.refused(Some(&alice), "pages/create", page("bad name!")).await, "INVALID_PARAM");
    let named = json!({ "name": "mine", "username": "ROOT" });
    assert_eq!(app.ok(&bob, "pages/show", named.clone()).await["id"], json!(id));
    assert_eq!(
        app.refused(Some(&bob), "pages/show", json!({ "name": "x", "username": "root" })).await,
        "NO_SUCH_PAGE"
    );
    assert_eq!(app.refused(Some(&bob), "pages/show", json!({})).await, "INVALID_PARAM");
    app.ok(&bob, "pages/like", json!({ "pageId": id })).await;
    assert_eq!(ids(&app.ok(&bob, "pages/featured", json!({})).await), [id.as_str()]);

    // A page names files of its owner, and nobody else's.
    let (hers, his) =
        (app.file(&alice, "a.png", picture(1)).await, app.file(&bob, "b.png", picture(1)).await);
    let content = json!([{ "type": "section", "children": [{ "fileId": hers }, { "fileId": his }] }]);
    let change =
        json!({ "pageId": id, "content": content, "eyeCatchingImageId": hers, "visibility": "private" });
    app.ok(&alice, "pages/update", change).await;
    let his_picture = json!({ "pageId": id, "eyeCatchingImageId": his });
    assert_eq!(app.refused(Some(&alice), "pages/update", his_picture).await, "NO_SUCH_FILE");
    let shown = app.ok(&alice, "pages/show", json!({ "pageId": id })).await;
    assert_eq!(ids(&shown["attachedFiles"]), [hers.as_str()]);
    assert_eq!((&shown["eyeCatchingImage"]["id"], &shown["visibility"]), (&json!(hers), &json!("private")));
    assert_eq!((&shown["title"], &shown["likedCount"]), (&json!("My page"), &json!(1)));

    assert_eq!(app.refused(Some(&bob), "i/update", json!({ "pinnedPageId": id })).await, "NO_SUCH_PAGE");
    let me = app.ok(&alice, "i/update", json!({ "pinnedPageId": id })).await;
    assert_eq!(
        (&me["pinnedPageId"], &me["pinnedPage"]["eyeCatchingImage"]["id"]),
        (&json!(id), &json!(hers))
    );

    // By now it is for her alone.
    let her = app.ok(&bob, "users/show", json!({ "userId": alice.id })).await;
    assert_eq!((&her["pinnedPageId"], &her["pinnedPage"]), (&Value::Null, &Value::Null));
    let by_id = json!({ "pageId": id });
    for params in [by_id.clone(), named] {
        assert_eq!(app.refused(Some(&bob), "pages/show", params).await, "NO_SUCH_PAGE");
    }
    for path in ["pages/update", "pages/delete", "pages/like"] {
        assert_eq!(app.refused(Some(&bob), path, by_id.clone()).await, "NO_SUCH_PAGE", "{path}");
    }
    for (path, params) in [
        ("pages/featured", json!({})),
        ("i/page-likes", json!({})),
        ("users/pages", json!({ "userId": alice.id })),
    ] {
        assert_eq!(app.ok(&bob, path, params).await, json!([]), "{path}");
    }
    app.ok(&bob, "pages/unlike", by_id.clone()).await;
    app.ok(&alice, "pages/delete", by_id).await;
    app.ok(&alice, "pages/create", page("mine")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_play_is_found_by_words_and_too_much_is_refused() {
    let (app, alice, bob) = people().await;
    let play =
        json!({ "title": "Play", "summary": "Ein Spiel", "script": "Ui:render([])", "permissions": [] });
    let id = app.ok(&alice, "flash/create", play.clone()).await["id"].as_str().unwrap().to_owned();
    let mut hidden = play.clone();
    hidden["visibility"] = json!("private");
    app.ok(&alice, "flash/create", hidden).await;
    for words in ["play", "SPIEL"] {
        assert_eq!(ids(&app.ok(&bob, "flash/search", json!({ "query": words })).await), [id.as_str()]);
    }
    assert_eq!(app.ok(&bob, "flash/search", json!({ "query": "%" })).await, json!([]));
    assert_eq!(app.ok(&alice, "flash/my", json!({})).await.as_array().unwrap().len(), 2);
    assert_eq!(ids(&app.ok(&bob, "users/flashs", json!({ "userId": alice.id })).await), [id.as_str()]);
    app.ok(&bob, "flash/like", json!({ "flashId": id })).await;
    assert_eq!(ids(&app.ok(&bob, "flash/featured", json!({})).await), [id.as_str()]);
    assert_eq!(app.ok(&bob, "flash/featured", json!({ "offset": 1 })).await, json!([]));
    assert_eq!(app.ok(&bob, "flash/my-likes", json!({ "search": "nothing" })).await, json!([]));
    assert_eq!(app.ok(&bob, "flash/my-likes", json!({})).await[0]["flash"]["id"], json!(id));
    app.ok(&alice, "flash/update", json!({ "flashId": id, "title": "New" })).await;
    let shown = app.ok(&bob, "flash/show", json!({ "flashId": id })).await;
    assert_eq!(
        (&shown["title"], &shown["summary"], &shown["script"]),
        (&json!("New"), &json!("Ein Spiel"), &json!("Ui:render([])"))
    );
    assert_eq!(app.refused(Some(&bob), "gallery/posts/show", json!({ "postId": id })).await, "NO_SUCH_POST");
    let long = json!({ "flashId": id, "script": "x".repeat(70_000) });
    assert_eq!(app.refused(Some(&alice), "flash/update", long).await, "INVALID_PARAM");
    let mut large = page("large");
    large["content"] = json!([{ "text": "x".repeat(300_000) }]);
    assert_eq!(app.refused(Some(&alice), "pages/create", large).await, "INVALID_PARAM");
}
