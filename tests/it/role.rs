//! Roles over HTTP: who makes them, what they give, and that what was given is there in the next call.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{TestApp, User};

/// A role with these fields laid over the usual ones; returns its id.
pub async fn role(app: &TestApp, by: &User, fields: Value) -> String {
    let mut role = json!({
        "name": "Helper", "description": "helps", "color": null, "iconUrl": null, "target": "manual",
        "condFormula": {}, "isPublic": true, "isModerator": false, "isAdministrator": false,
        "isExplorable": true, "asBadge": true, "canEditMembersByModerator": false, "displayOrder": 0,
        "policies": {},
    });
    role.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let made = app.ok(by, "admin/roles/create", role).await;
    made["id"].as_str().unwrap().to_owned()
}

async fn pin_limit(app: &TestApp, who: &User) -> Value {
    app.ok(who, "i", json!({})).await["policies"]["pinLimit"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_gives_its_policies_and_is_shown_with_those_who_have_it() {
    let (app, admin) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let nine = json!({ "pinLimit": { "useDefault": false, "priority": 0, "value": 9 } });
    let helper = role(&app, &admin, json!({ "policies": nine })).await;
    assert_eq!(pin_limit(&app, &alice).await, 5);
    app.ok(&admin, "admin/roles/assign", json!({ "roleId": helper, "userId": alice.id })).await;
    assert_eq!(pin_limit(&app, &alice).await, 9);
    assert_eq!(pin_limit(&app, &bob).await, 5);

    let shown = app.ok(&bob, "users/show", json!({ "userId": alice.id })).await;
    assert_eq!(shown["badgeRoles"], json!([{ "name": "Helper", "iconUrl": null, "displayOrder": 0 }]));
    assert_eq!(shown["roles"][0]["id"], helper.as_str());
    let told = app.ok(&alice, "i/notifications", json!({})).await;
    assert_eq!((&told[0]["type"], &told[0]["role"]["name"]), (&json!("roleAssigned"), &json!("Helper")));

    let theirs = app.note(&alice, json!({ "text": "from a helper" })).await;
    app.note(&bob, json!({ "text": "from nobody" })).await;
    let notes = app.ok(&bob, "roles/notes", json!({ "roleId": helper })).await;
    assert_eq!(notes.as_array().unwrap().len(), 1);
    assert_eq!(notes[0]["id"], theirs.as_str());
    let people = app.ok(&bob, "roles/users", json!({ "roleId": helper })).await;
    assert_eq!(people[0]["user"]["id"], alice.id.as_str());

    app.ok(&admin, "admin/roles/update", json!({ "roleId": helper, "policies": {} })).await;
    assert_eq!(pin_limit(&app, &alice).await, 5);
    app.ok(&admin, "admin/roles/delete", json!({ "roleId": helper })).await;
    let shown = app.ok(&bob, "users/show", json!({ "userId": alice.id })).await;
    assert_eq!((&shown["roles"], &shown["badgeRoles"]), (&json!([]), &json!([])));
    assert_eq!(app.ok(&alice, "i/notifications", json!({})).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_ends_gives_nothing_any_more() {
    let (app, admin) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let moderators = role(&app, &admin, json!({ "isModerator": true, "isPublic": false })).await;
    let refused = async || app.refused(Some(&alice), "admin/roles/list", json!({})).await;
    assert_eq!(refused().await, "ROLE_PERMISSION_DENIED");
    let end = (app.app.now() + TimeDelta::minutes(5)).timestamp_millis();
    let asked = json!({ "roleId": moderators, "userId": alice.id, "expiresAt": end });
    app.ok(&admin, "admin/roles/assign", asked.clone()).await;
    assert_eq!(app.refused(Some(&admin), "admin/roles/assign", asked).await, "INTERNAL_ERROR");
    let roles = app.ok(&alice, "admin/roles/list", json!({})).await;
    assert_eq!(roles[0]["usersCount"], 1);
    assert_eq!(app.ok(&alice, "i", json!({})).await["isModerator"], true);
    // A moderator may not give what is for administrators to give.
    let own = json!({ "roleId": moderators, "userId": admin.id });
    assert_eq!(app.refused(Some(&alice), "admin/roles/assign", own).await, "ACCESS_DENIED");

    app.clock.pass(TimeDelta::minutes(5));
    assert_eq!(refused().await, "ROLE_PERMISSION_DENIED");
    assert_eq!(app.ok(&alice, "i", json!({})).await["isModerator"], false);
    assert_eq!(app.ok(&admin, "admin/roles/list", json!({})).await[0]["usersCount"], 0);
    let again = json!({ "roleId": moderators, "userId": alice.id });
    app.ok(&admin, "admin/roles/assign", again.clone()).await;
    app.ok(&alice, "admin/roles/list", json!({})).await;
    app.ok(&admin, "admin/roles/unassign", again).await;
    assert_eq!(refused().await, "ROLE_PERMISSION_DENIED");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_hold_as_soon_as_what_they_look_at_is_so() {
    let (app, admin) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let given = |limit: u32| json!({ "pinLimit": { "useDefault": false, "priority": 0, "value": limit } });
    let conditional = |limit, formula: Value| json!({ "target": "conditional", "condFormula": formula, "policies": given(limit) });
    role(&app, &admin, conditional(6, json!({ "id": "a", "type": "isCat" }))).await;
    let writers = json!({ "id": "b", "type": "notesMoreThanOrEq", "value": 1 });
    let writers = role(&app, &admin, conditional(7, writers)).await;
    role(&app, &admin, conditional(8, json!({ "id": "c", "type": "followersMoreThanOrEq", "value": 1 })))
        .await;
    role(&app, &admin, conditional(9, json!({ "id": "d", "type": "createdMoreThan", "sec": 3_600 }))).await;
    assert_eq!(pin_limit(&app, &alice).await, 5);
    app.ok(&alice, "i/update", json!({ "isCat": true })).await;
    assert_eq!(pin_limit(&app, &alice).await, 6);
    let note = app.note(&alice, json!({ "text": "first" })).await;
    assert_eq!(pin_limit(&app, &alice).await, 7);
    let notes = app.ok(&bob, "roles/notes", json!({ "roleId": writers })).await;
    assert_eq!(notes[0]["id"], note.as_str());
    app.ok(&bob, "following/create", json!({ "userId": alice.id })).await;
    assert_eq!(pin_limit(&app, &alice).await, 8);
    app.ok(&bob, "following/delete", json!({ "userId": alice.id })).await;
    assert_eq!(pin_limit(&app, &alice).await, 7);
    app.ok(&alice, "notes/delete", json!({ "noteId": note })).await;
    assert_eq!(pin_limit(&app, &alice).await, 7, "she has written it");
    app.clock.pass(TimeDelta::hours(2));
    assert_eq!(pin_limit(&app, &alice).await, 9);
    assert_eq!(pin_limit(&app, &bob).await, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_to_write_publicly_writes_to_home() {
    let (app, admin) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let quiet = json!({
        "canPublicNote": { "useDefault": false, "priority": 1, "value": false },
        "mentionLimit": { "useDefault": false, "priority": 1, "value": 0 },
    });
    let quiet = role(&app, &admin, json!({ "policies": quiet })).await;
    app.ok(&admin, "admin/roles/assign", json!({ "roleId": quiet, "userId": alice.id })).await;
    let written = app.ok(&alice, "notes/create", json!({ "text": "hello" })).await;
    assert_eq!(written["createdNote"]["visibility"], "home");
    assert_eq!(app.ok(&alice, "i", json!({})).await["isSilenced"], true);
    let mention = json!({ "text": "@root" });
    assert_eq!(app.refused(Some(&alice), "notes/create", mention).await, "CONTAINS_TOO_MANY_MENTIONS");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_hears_of_a_role() {
    let (app, admin) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let other = app.another().await;
    assert_eq!(pin_limit(&other, &alice).await, 5);
    let nine = json!({ "pinLimit": { "useDefault": false, "priority": 0, "value": 9 } });
    let helper = role(&app, &admin, json!({ "policies": nine })).await;
    app.ok(&admin, "admin/roles/assign", json!({ "roleId": helper, "userId": alice.id })).await;
    other.settle().await;
    assert_eq!(pin_limit(&other, &alice).await, 9);
    app.ok(&admin, "admin/roles/unassign", json!({ "roleId": helper, "userId": alice.id })).await;
    other.settle().await;
    assert_eq!(pin_limit(&other, &alice).await, 5);
}
