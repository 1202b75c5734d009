//! The pages in a real browser: with the keyboard alone, on a phone, without script.

use chrono::TimeDelta;
use gateway::api::permission;
use serde_json::{Value, json};

use crate::browser::{Browser, Key, PHONE};
use crate::harness::{PASSWORD, TestApp, User};

/// Fingers are about this wide, in CSS pixels.
const FINGER: f64 = 40.0;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_account_is_made_on_the_front_page() {
    let app = TestApp::start().await;
    let mut browser = Browser::start().await;
    browser.open(&app.url, "Welcome").await;
    fits_a_phone(&mut browser).await;
    browser.tab_to("User name").await;
    browser.write("root").await;
    browser.tab_to("Password").await;
    browser.write(PASSWORD).await;
    browser.press(Key::Enter).await;
    browser.wait("document.body.innerText", says("@root"), "that root is signed in").await;
    fits_a_phone(&mut browser).await;

    let answer = app.call(None, "signin-flow", json!({ "username": "root", "password": PASSWORD })).await;
    assert_eq!(answer.body["finished"], true, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_allowed_after_signing_in() {
    let (app, root) = TestApp::opened().await;
    let mut browser = Browser::start().await;
    let session = "0d5b4c7e-3d4c-4f0e-9d54-5f6f3c3f4a11";
    let back = format!("{}/robots.txt", app.url);
    let asks = format!(
        "{}/miauth/{session}?name=An+app&permission=read:account,write:notes&callback={back}",
        app.url
    );
    browser.open(&asks, "Sign in for An app").await;
    fits_a_phone(&mut browser).await;
    sign_in(&mut browser, "not the password").await;
    browser.until("Sign in").await;
    browser.wait("document.querySelector('[role=alert]')?.innerText", says("wrong"), "a refusal").await;
    fits_a_phone(&mut browser).await;
    // One attempt a second.
    app.clock.pass(TimeDelta::seconds(2));
    sign_in(&mut browser, PASSWORD).await;

    browser.until("Allow An app to use your account?").await;
    fits_a_phone(&mut browser).await;
    assert_eq!(browser.look("document.querySelectorAll('li').length").await, 2);
    browser.tab_to("Allow").await;
    browser.press(Key::Enter).await;
    let landed = format!("{back}?session={session}");
    browser.wait("location.href", |at| *at == json!(landed), "the way back to the app").await;

    let answer = app.call(None, &format!("miauth/{session}/check"), json!({})).await;
    assert_eq!((&answer.body["ok"], &answer.body["user"]["id"]), (&json!(true), &json!(root.id)));
    let token = answer.body["token"].as_str().unwrap().to_owned();
    let as_app = User { token, ..root };
    app.note(&as_app, json!({ "text": "by an app" })).await;
    assert_eq!(app.refused(Some(&as_app), "i/update", json!({ "name": "x" })).await, "PERMISSION_DENIED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_not_allowed() {
    let (app, _) = TestApp::opened().await;
    let mut browser = Browser::start().await;
    let session = "b7c2a1d0-55aa-4c1e-8a55-0c0ffee00001";
    browser.open(&format!("{}/miauth/{session}?name=An+app", app.url), "Sign in for An app").await;
    sign_in(&mut browser, PASSWORD).await;
    browser.until("Allow An app to use your account?").await;
    browser.tab_to("Don't allow").await;
    browser.press(Key::Enter).await;
    browser.until("Not allowed").await;
    fits_a_phone(&mut browser).await;
    let answer = app.call(None, &format!("miauth/{session}/check"), json!({})).await;
    assert_eq!(answer.body["ok"], false, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_app_is_allowed() {
    let (app, root) = TestApp::opened().await;
    let params = json!({ "name": "Older app", "description": "It writes.", "permission": permission::KINDS });
    let made = app.call(None, "app/create", params).await.body;
    let secret = &made["secret"];
    let asked = app.call(None, "auth/session/generate", json!({ "appSecret": secret })).await.body;
    let (address, token) = (asked["url"].as_str().unwrap(), &asked["token"]);

    let mut browser = Browser::start().await;
    browser.open(address, "Sign in for Older app").await;
    sign_in(&mut browser, PASSWORD).await;
    browser.until("Allow Older app to use your account?").await;
    // Every permission there is, and still no wider than the phone.
    fits_a_phone(&mut browser).await;
    browser.tab_to("Allow").await;
    browser.press(Key::Enter).await;
    browser.until("Allowed").await;
    let key = app.call(None, "auth/session/userkey", json!({ "appSecret": secret, "token": token })).await;
    assert_eq!(key.body["user"]["id"], json!(root.id), "{key:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_signs_out() {
    let (app, _) = TestApp::opened().await;
    let mut browser = Browser::start().await;
    browser.open(&format!("{}/sign-in", app.url), "Sign in").await;
    sign_in(&mut browser, PASSWORD).await;
    browser.wait("document.body.innerText", says("@root"), "that root is signed in").await;
    browser.tab_to("Sign out").await;
    browser.press(Key::Enter).await;
    browser.until("Sign out").await;
    fits_a_phone(&mut browser).await;
    browser.tab_to("Sign out").await;
    browser.press(Key::Enter).await;
    browser
        .wait("document.body.innerText", |text| !says("@root")(text) && says("Sign in")(text), "nobody")
        .await;
}

/// Fills in the form as root.
async fn sign_in(browser: &mut Browser, password: &str) {
    browser.tab_to("User name").await;
    if browser.look("document.activeElement.value").await == json!("") {
        browser.write("root").await;
    }
    browser.tab_to("Password").await;
    browser.write(password).await;
    browser.press(Key::Enter).await;
}

/// Nothing is wider than the phone, every field has a label, and every control is as large as a finger.
async fn fits_a_phone(browser: &mut Browser) {
    assert_eq!(browser.look("window.innerWidth").await, PHONE.0);
    let width = browser.look("document.documentElement.scrollWidth").await.as_u64().unwrap();
    assert!(width <= u64::from(PHONE.0), "the page is {width} pixels wide");
    let unnamed = "document.querySelectorAll('input:not([type=hidden])').values()
        .filter(input => input.labels.length === 0).toArray().length";
    assert_eq!(browser.look(unnamed).await, 0, "a field has no label");
    let heights = "[...document.querySelectorAll('button, a.button, input:not([type=hidden])')]
        .map(control => control.getBoundingClientRect().height)";
    let heights: Vec<f64> = serde_json::from_value(browser.look(heights).await).unwrap();
    assert!(heights.iter().all(|height| *height >= FINGER), "controls of {heights:?} pixels");
}

fn says(text: &str) -> impl Fn(&Value) -> bool {
    let text = text.to_owned();
    move |found| found.as_str().is_some_and(|found| found.contains(&text))
}
