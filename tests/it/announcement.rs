//! Announcements over HTTP.

use serde_json::{Value, json};

use crate::harness::{TestApp, User};

async fn announce(app: &TestApp, by: &User, fields: Value) -> String {
    let mut announcement = json!({ "title": "News", "text": "All is well", "imageUrl": null });
    announcement.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let made = app.ok(by, "admin/announcements/create", announcement).await;
    made["id"].as_str().unwrap().to_owned()
}

async fn unread(app: &TestApp, who: &User) -> Vec<Value> {
    let me = app.ok(who, "i", json!({})).await;
    let unread = me["unreadAnnouncements"].as_array().unwrap().clone();
    assert_eq!(me["hasUnreadAnnouncement"], !unread.is_empty());
    unread.into_iter().map(|announcement| announcement["id"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_are_read_by_each_and_those_for_one_are_theirs() {
    let (app, root) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let news = announce(&app, &root, json!({})).await;
    let own = announce(&app, &root, json!({ "userId": alice.id })).await;
    announce(&app, &root, json!({ "silence": true })).await;
    assert_eq!(unread(&app, &alice).await, [json!(own), json!(news)]);
    assert_eq!(unread(&app, &bob).await, [json!(news)]);
    let hidden = app.refused(Some(&bob), "announcements/show", json!({ "announcementId": own })).await;
    assert_eq!(hidden, "NO_SUCH_ANNOUNCEMENT");

    for id in [&news, &own] {
        app.ok(&alice, "i/read-announcement", json!({ "announcementId": id })).await;
    }
    assert_eq!(unread(&app, &alice).await, [] as [Value; 0]);
    assert_eq!(unread(&app, &bob).await, [json!(news)]);
    let listed = app.ok(&alice, "announcements", json!({})).await;
    let listed: Vec<_> = listed.as_array().unwrap().iter().map(|a| (&a["id"], &a["isRead"])).collect();
    assert!(listed.contains(&(&json!(news), &json!(true))) && listed.len() == 2, "{listed:?}");
    let all = app.ok(&root, "admin/announcements/list", json!({})).await;
    let reads = all.as_array().unwrap().iter().find(|a| a["id"] == news.as_str()).unwrap();
    assert_eq!(reads["reads"], 1);

    app.ok(&root, "admin/announcements/update", json!({ "id": news, "isActive": false })).await;
    assert_eq!(unread(&app, &bob).await, [] as [Value; 0]);
    app.ok(&root, "admin/announcements/delete", json!({ "id": news })).await;
    let gone = app.refused(Some(&root), "admin/announcements/delete", json!({ "id": news })).await;
    assert_eq!(gone, "NO_SUCH_ANNOUNCEMENT");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_those_who_were_there_is_unread_for_nobody_who_came_later() {
    let (app, root) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let old = announce(&app, &root, json!({ "forExistingUsers": true })).await;
    let bob = app.sign_up("bob").await;
    assert_eq!(unread(&app, &alice).await, [json!(old)]);
    assert_eq!(unread(&app, &bob).await, [] as [Value; 0]);
}
