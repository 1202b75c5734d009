//! What other programs look for at fixed places.

use serde_json::{Value, json};

use crate::harness::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_federates_with_nobody_is_known_to_apps_alone() {
    let app = TestApp::start().await;
    for path in ["host-meta", "host-meta.json", "webfinger?resource=acct:root"] {
        let refused = app.get(&format!("/.well-known/{path}")).await;
        assert_eq!(refused.status(), 403, "{path}");
        assert_eq!(refused.headers()["access-control-allow-origin"], "*");
        assert_eq!(refused.bytes().await.unwrap().len(), 0);
    }
    for path in ["/.well-known/nodeinfo", "/nodeinfo/2.1"] {
        assert_eq!(app.get(path).await.status(), 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_and_the_server_are_found() {
    let (app, root) = TestApp::opened().await;
    app.ok(&root, "admin/update-meta", json!({ "federation": "all", "name": "Here" })).await;
    app.note(&root, json!({ "text": "one" })).await;

    let host = app.url.strip_prefix("http://").unwrap();
    let found = json(&app, &format!("/.well-known/webfinger?resource=acct:ROOT@{host}")).await;
    assert_eq!(found["subject"], json!(format!("acct:root@{host}")));
    assert_eq!(found["links"][0]["href"], json!(format!("{}/users/{}", app.url, root.id)));
    assert_eq!(app.get("/.well-known/webfinger?resource=acct:nobody").await.status(), 404);
    assert_eq!(app.get("/.well-known/webfinger?resource=acct:root@other.example").await.status(), 422);
    assert_eq!(app.get("/.well-known/webfinger").await.status(), 400);

    let links = json(&app, "/.well-known/nodeinfo").await;
    let first = links["links"][0]["href"].as_str().unwrap();
    let info = json(&app, first.strip_prefix(&app.url).unwrap()).await;
    assert_eq!((&info["software"]["name"], &info["version"]), (&json!("misskey"), &json!("2.1")));
    assert_eq!((&info["metadata"]["nodeName"], &info["usage"]["localPosts"]), (&json!("Here"), &json!(1)));
    assert_eq!(info["usage"]["users"]["total"], 1);
    let meta = app.call(None, "meta", json!({})).await.body;
    assert_eq!(info["software"]["version"], meta["version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_picture_gets_one() {
    let app = TestApp::start().await;
    let picture = app.get("/identicon/bob@social.example").await;
    assert_eq!(picture.headers()["content-type"], "image/png");
    assert!(picture.bytes().await.unwrap().starts_with(b"\x89PNG"));

    let root = app.sign_up("root").await;
    let host = app.url.trim_start_matches("http://");
    for (name, to) in [
        ("@root", format!("{}/identicon/root@{host}", app.url)),
        (&format!("@Root@{host}"), format!("{}/identicon/root@{host}", app.url)),
        ("@nobody@b.example", format!("{}/identicon/nobody%40b.example", app.url)),
    ] {
        let led = app.get_unled(&format!("/avatar/{name}")).await;
        assert_eq!((led.status().as_u16(), led.headers()["location"].to_str().unwrap()), (302, to.as_str()));
    }
    assert_eq!(app.get("/avatar/root").await.status(), 404);
    let file = app.file(&root, "a.png", crate::drive::picture(1)).await;
    let me = app.ok(&root, "i/update", json!({ "avatarId": file })).await;
    let led = app.get_unled("/avatar/@root").await;
    assert_eq!(led.headers()["location"].to_str().ok(), me["avatarUrl"].as_str());
}

async fn json(app: &TestApp, path: &str) -> Value {
    let answer = app.get(path).await;
    assert_eq!(answer.status(), 200, "{path}");
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}
