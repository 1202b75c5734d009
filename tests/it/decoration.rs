//! Decorations of avatars over HTTP.

use serde_json::json;

use crate::harness::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn an_avatar_wears_what_is_offered_to_its_owner() {
    let (app, root) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let helper = crate::role::role(&app, &root, json!({})).await;
    let hat = json!({ "name": "hat", "description": "a hat", "url": "https://example.com/hat.png" });
    assert_eq!(
        app.refused(Some(&alice), "admin/avatar-decorations/create", hat.clone()).await,
        "ROLE_PERMISSION_DENIED"
    );
    let hat = app.ok(&root, "admin/avatar-decorations/create", hat).await["id"].clone();
    let wears = async |ids: serde_json::Value| {
        let worn: Vec<_> =
            ids.as_array().unwrap().iter().map(|id| json!({ "id": id, "angle": 0.25 })).collect();
        app.call(Some(&alice), "i/update", json!({ "avatarDecorations": worn })).await.body
    };
    let shown = wears(json!([hat])).await["avatarDecorations"].clone();
    assert_eq!(shown, json!([{ "id": hat, "angle": 0.25, "url": "https://example.com/hat.png" }]));
    assert_eq!(wears(json!([hat, hat])).await["error"]["code"], "RESTRICTED_BY_ROLE");
    assert_eq!(wears(json!(["0"])).await["avatarDecorations"], json!([]));
    wears(json!([hat])).await;

    let kept = json!({ "id": hat, "roleIdsThatCanBeUsedThisDecoration": [helper] });
    app.ok(&root, "admin/avatar-decorations/update", kept).await;
    let decorations = async || {
        app.ok(&root, "users/show", json!({ "userId": alice.id })).await["avatarDecorations"].clone()
    };
    assert_eq!(decorations().await, json!([]), "it is kept for others now");
    app.ok(&root, "admin/roles/assign", json!({ "roleId": helper, "userId": alice.id })).await;
    assert_eq!(decorations().await.as_array().unwrap().len(), 1);
    app.ok(&root, "admin/avatar-decorations/delete", json!({ "id": hat })).await;
    assert_eq!(decorations().await, json!([]));
    assert_eq!(app.ok(&alice, "get-avatar-decorations", json!({})).await, json!([]));
}
