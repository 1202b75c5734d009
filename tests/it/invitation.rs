//! Invitations over HTTP.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{PASSWORD, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn a_code_lets_one_person_in_while_registration_is_closed() {
    let (app, root) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    assert_eq!(app.refused(Some(&alice), "invite/create", json!({})).await, "ROLE_PERMISSION_DENIED");
    let policies = json!({ "canInvite": true, "inviteLimit": 1, "rateLimitFactor": 0 });
    app.ok(&root, "admin/roles/update-default-policies", json!({ "policies": policies })).await;
    app.ok(&root, "admin/update-meta", json!({ "disableRegistration": true })).await;
    let invited = app.ok(&alice, "invite/create", json!({})).await;
    assert_eq!(app.ok(&alice, "invite/limit", json!({})).await["remaining"], 0);
    let more = app.refused(Some(&alice), "invite/create", json!({})).await;
    assert_eq!(more, "EXCEEDED_LIMIT_OF_CREATE_INVITE_CODE");

    let come = async |name: &str, code: Value| {
        let params = json!({ "username": name, "password": PASSWORD, "invitationCode": code });
        app.call(None, "signup", params).await.status
    };
    assert_eq!(come("bob", json!("wrong")).await, 400);
    assert_eq!(come("bob", Value::Null).await, 400);
    assert_eq!(come("alice", invited["code"].clone()).await, 400, "the name is taken, and the code not used");
    assert_eq!(come("bob", invited["code"].clone()).await, 200);
    assert_eq!(come("carol", invited["code"].clone()).await, 400);
    let listed = app.ok(&alice, "invite/list", json!({})).await;
    assert_eq!((&listed[0]["used"], &listed[0]["usedBy"]["username"]), (&json!(true), &json!("bob")));
    let used = json!({ "inviteId": invited["id"] });
    assert_eq!(app.refused(Some(&alice), "invite/delete", used).await, "CAN_NOT_DELETE_INVITE_CODE");

    let made = app.ok(&root, "admin/invite/create", json!({ "count": 2 })).await;
    assert_eq!(made.as_array().unwrap().len(), 2);
    app.clock.pass(TimeDelta::milliseconds(1));
    app.ok(&root, "admin/invite/create", json!({})).await;
    let logged = app.ok(&root, "admin/show-moderation-logs", json!({ "type": "createInvitation" })).await;
    let [last, first] = logged.as_array().unwrap().as_slice() else { panic!("{logged}") };
    assert_eq!(last["info"]["invitations"].as_array().unwrap().len(), 1);
    let told = first["info"]["invitations"].as_array().unwrap().iter().map(|made| &made["code"]);
    assert!(
        told.eq(made.as_array().unwrap().iter().map(|made| &made["code"])),
        "what is made at once is one line"
    );
    app.ok(&root, "invite/delete", json!({ "inviteId": made[0]["id"] })).await;
    assert_eq!(come("carol", made[0]["code"].clone()).await, 400);
    let unused = app.ok(&root, "admin/invite/list", json!({ "type": "unused" })).await;
    assert_eq!(unused.as_array().unwrap().len(), 2);
    let bad = json!({ "expiresAt": "tomorrow" });
    assert_eq!(app.refused(Some(&root), "admin/invite/create", bad).await, "INVALID_DATE_TIME");
}
