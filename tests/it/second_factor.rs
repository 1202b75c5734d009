//! One-time codes and backup codes: what they protect, and that each is good once.

use chrono::TimeDelta;
use data_encoding::BASE32_NOPAD;
use domain::log::Clock;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::access::Visitor;
use crate::harness::{PASSWORD, TestApp, User};

/// The app that makes somebody's codes.
pub struct Codes {
    secret: Vec<u8>,
    pub backup: Vec<String>,
}

impl Codes {
    pub fn now(&self, app: &TestApp) -> String {
        let step = app.clock.now().timestamp() / 30;
        let mac = Hmac::<Sha1>::new_from_slice(&self.secret).unwrap().chain_update(step.to_be_bytes());
        let mac = mac.finalize().into_bytes();
        let at = usize::from(mac[19] & 15);
        let number = u32::from_be_bytes(mac[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
        format!("{:06}", number % 1_000_000)
    }
}

/// Turns the second factor of somebody on.
pub async fn turn_on(app: &TestApp, user: &User) -> Codes {
    let proposed = app.ok(user, "i/2fa/register", json!({ "password": PASSWORD })).await;
    let secret = BASE32_NOPAD.decode(proposed["secret"].as_str().unwrap().as_bytes()).unwrap();
    let mut codes = Codes { secret, backup: Vec::new() };
    assert_eq!(app.refused(Some(user), "i/2fa/done", json!({ "token": "000000" })).await, "NOT_VERIFIED");
    let done = app.ok(user, "i/2fa/done", json!({ "token": codes.now(app) })).await;
    codes.backup =
        done["backupCodes"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().to_owned()).collect();
    codes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_not_enough_any_more() {
    let (app, alice) = TestApp::opened().await;
    let codes = turn_on(&app, &alice).await;
    let sign_in = async |params: Value| {
        app.clock.pass(TimeDelta::minutes(10));
        let mut all = json!({ "username": "root", "password": PASSWORD });
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        app.call(None, "signin-flow", all).await
    };
    assert_eq!(sign_in(json!({ "password": null })).await.body["next"], "password");
    assert_eq!(sign_in(json!({})).await.body["next"], "totp");
    assert_eq!(sign_in(json!({ "password": "wrong" })).await.status, 403);
    assert_eq!(sign_in(json!({ "token": "000000" })).await.status, 403);
    app.clock.pass(TimeDelta::minutes(10));
    let now = codes.now(&app);
    let params = json!({ "username": "root", "password": PASSWORD, "token": now });
    assert_eq!(app.call(None, "signin-flow", params.clone()).await.body["finished"], true);
    app.clock.pass(TimeDelta::seconds(2));
    assert_eq!(app.call(None, "signin-flow", params).await.status, 403, "no code is taken twice");
    let backup = json!({ "token": codes.backup[3] });
    assert_eq!(sign_in(backup.clone()).await.body["finished"], true);
    assert_eq!(sign_in(backup).await.status, 403);
    let me = app.ok(&alice, "i", json!({})).await;
    assert_eq!(
        (&me["twoFactorEnabled"], &me["twoFactorBackupCodesStock"]),
        (&json!(true), &json!("partial"))
    );

    let change =
        |token: Value| json!({ "currentPassword": PASSWORD, "newPassword": PASSWORD, "token": token });
    assert_eq!(
        app.refused(Some(&alice), "i/change-password", change(Value::Null)).await,
        "AUTHENTICATION_FAILED"
    );
    app.ok(&alice, "i/change-password", change(json!(codes.backup[4]))).await;
    let off = json!({ "password": PASSWORD, "token": codes.now(&app) });
    app.ok(&alice, "i/2fa/unregister", off).await;
    assert_eq!(app.ok(&alice, "i", json!({})).await["twoFactorEnabled"], false);
    assert_eq!(sign_in(json!({})).await.body["finished"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_are_not_guessed_from_many_places() {
    let (app, alice) = TestApp::opened().await;
    let codes = turn_on(&app, &alice).await;
    let mut outcomes = Vec::new();
    for n in 0..40 {
        let off = json!({ "password": PASSWORD, "token": format!("{n:06}") });
        outcomes.push(app.refused(Some(&alice), "i/2fa/unregister", off).await);
    }
    assert_eq!(outcomes.first().map(String::as_str), Some("AUTHENTICATION_FAILED"));
    assert_eq!(outcomes.last().map(String::as_str), Some("RATE_LIMIT_EXCEEDED"));
    app.clock.pass(TimeDelta::hours(1));
    app.ok(&alice, "i/2fa/unregister", json!({ "password": PASSWORD, "token": codes.now(&app) })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_ask_for_a_code_too() {
    let (app, alice) = TestApp::opened().await;
    let codes = turn_on(&app, &alice).await;
    let visitor = Visitor::new(&app);
    let form = format!("username=root&password={}&next=/sign-out", PASSWORD.replace(' ', "+"));
    let page = visitor.send("/sign-in", &app.url, &form).await;
    assert_eq!((page.status, page.cookie.as_str()), (200, ""));
    let ticket = page.field("ticket");
    let with = |code: &str| format!("ticket={ticket}&code={code}&next=/sign-out");
    let wrong = visitor.send("/sign-in/code", &app.url, &with("000000")).await;
    assert_eq!((wrong.status, wrong.cookie.as_str()), (403, ""));
    assert_eq!(
        visitor.send("/sign-in/code", "http://evil.example", &with(&codes.now(&app))).await.status,
        403
    );
    let code = codes.now(&app);
    let inside =
        visitor.send("/sign-in/code", &app.url, &with(&format!("{}+{}", &code[..3], &code[3..]))).await;
    assert_eq!((inside.status, inside.location.as_str()), (303, "/sign-out"));
    assert!(inside.cookie.starts_with("kiroku="));
    assert_eq!(visitor.send("/sign-in/code", &app.url, &with(&codes.backup[0])).await.status, 404, "used up");
}
