//! Advertisements over HTTP.

use serde_json::{Value, json};

use crate::harness::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn advertisements_are_shown_in_their_time() {
    let (app, root) = TestApp::opened().await;
    let now = app.app.now().timestamp_millis();
    let ad = |starts: i64, ends: i64| {
        json!({
            "url": "https://example.com", "imageUrl": "https://example.com/ad.png", "memo": "m",
            "place": "square", "priority": "middle", "ratio": 1, "dayOfWeek": 0,
            "startsAt": starts, "expiresAt": ends,
        })
    };
    let shown = app.ok(&root, "admin/ad/create", ad(0, now + 1_000)).await;
    app.ok(&root, "admin/ad/create", ad(now + 1_000, now + 2_000)).await;
    let ads = async || app.call(None, "meta", json!({ "detail": false })).await.body["ads"].clone();
    let ids: Vec<Value> = ads().await.as_array().unwrap().iter().map(|ad| ad["id"].clone()).collect();
    assert_eq!(ids, [shown["id"].clone()]);
    let listed = async |publishing: Value| {
        let ads = app.ok(&root, "admin/ad/list", json!({ "publishing": publishing })).await;
        ads.as_array().unwrap().len()
    };
    assert_eq!((listed(Value::Null).await, listed(json!(true)).await, listed(json!(false)).await), (2, 1, 1));
    app.ok(&root, "admin/ad/update", json!({ "id": shown["id"], "ratio": 5 })).await;
    assert_eq!(ads().await[0]["ratio"], 5);
    app.ok(&root, "admin/ad/delete", json!({ "id": shown["id"] })).await;
    assert_eq!(ads().await, json!([]));
    let gone = app.refused(Some(&root), "admin/ad/delete", json!({ "id": shown["id"] })).await;
    assert_eq!(gone, "NO_SUCH_AD");
}
