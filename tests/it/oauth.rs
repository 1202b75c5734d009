//! OAuth as apps of other sites use it: their page says who they are and where people go back to, a person is
//! asked, and a code gives one token.

use axum::Router;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use url::Url;

use crate::access::Visitor;
use crate::harness::{TestApp, User};

const VERIFIER: &str = "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv";

/// The page of an app; its address.
async fn site() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let page = r#"<link rel="redirect_uri" href="/cb"><div class="h-app"><a href="/" class="u-url p-name">My app</a></div>"#;
    let page = move || async move {
        ([(header::LINK, "<app.example:cb>; rel=redirect_uri")], Html(page)).into_response()
    };
    tokio::spawn(axum::serve(listener, Router::new().route("/", get(page))).into_future());
    url
}

async fn with_site() -> (TestApp, User, String) {
    let flags = [("allowed-private-networks", "127.0.0.0/8")];
    let app = TestApp::in_real_time(&flags).await;
    let root = app.sign_up("root").await;
    (app, root, site().await)
}

fn authorize(site: &str, change: &[(&str, Option<&str>)]) -> String {
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let callback = format!("{site}cb");
    let mut asked = vec![
        ("response_type", "code"),
        ("client_id", site),
        ("redirect_uri", &callback),
        ("scope", "read:account write:notes nonsense"),
        ("state", "a b"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in change {
        asked.retain(|(known, _)| known != name);
        asked.extend(value.map(|value| (*name, value)));
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(asked).finish();
    format!("/oauth/authorize?{query}")
}

fn told(location: &str, name: &str) -> Option<String> {
    let url = Url::parse(location).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

async fn exchange(app: &TestApp, site: &str, code: &str, verifier: &str) -> (u16, Value) {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "authorization_code")
        .append_pair("code", code)
        .append_pair("client_id", site)
        .append_pair("redirect_uri", &format!("{site}cb"))
        .append_pair("code_verifier", verifier)
        .finish();
    let page = Visitor::new(app).send("/oauth/token", "https://app.example", &form).await;
    (page.status, serde_json::from_str(&page.text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_lets_an_app_in_and_its_code_gives_one_token() {
    let (app, root, site) = with_site().await;
    let stranger = Visitor::new(&app).open(&authorize(&site, &[])).await;
    assert!(stranger.text.contains("Sign in for My app"), "{}", stranger.text);
    let visitor = Visitor::signed_in(&app, "root").await;
    let page = visitor.open(&authorize(&site, &[])).await;
    assert!(page.text.contains("Allow My app to use your account?"), "{}", page.text);
    let (transaction, form) = (page.field("transaction_id"), page.field("form_token"));
    let answer =
        |decision: &str| format!("transaction_id={transaction}&form_token={form}&decision={decision}");
    assert_eq!(visitor.send("/oauth/decision", "http://evil.example", &answer("allow")).await.status, 403);
    let sent_on = visitor.send("/oauth/decision", &app.url, &answer("allow")).await;
    assert_eq!(sent_on.status, 303, "{}", sent_on.text);
    assert!(sent_on.location.starts_with(&format!("{site}cb?code=")), "{}", sent_on.location);
    assert_eq!(told(&sent_on.location, "state").as_deref(), Some("a b"));
    assert_eq!(told(&sent_on.location, "iss").as_deref(), Some(app.url.as_str()));
    assert_eq!(visitor.send("/oauth/decision", &app.url, &answer("allow")).await.status, 403, "asked once");

    let code = told(&sent_on.location, "code").unwrap();
    assert_eq!(exchange(&app, &site, &code, "wrong").await.0, 403);
    let (status, given) = exchange(&app, &site, &code, VERIFIER).await;
    assert_eq!((status, &given["scope"]), (200, &json!("read:account write:notes")), "{given}");
    let granted = User { token: given["access_token"].as_str().unwrap().to_owned(), ..root.clone() };
    assert_eq!(app.ok(&granted, "i", json!({})).await["id"], json!(root.id));
    assert_eq!(app.refused(Some(&granted), "notes/reactions/create", json!({})).await, "PERMISSION_DENIED");
    assert_eq!(app.ok(&root, "i/apps", json!({})).await[0]["name"], "My app");

    let (status, refused) = exchange(&app, &site, &code, VERIFIER).await;
    assert_eq!((status, &refused["error"]), (403, &json!("invalid_grant")));
    assert_eq!(
        app.refused(Some(&granted), "i", json!({})).await,
        "AUTHENTICATION_FAILED",
        "the token has ended"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_asks_wrongly_is_told_to_it_or_to_nobody() {
    let (app, _, site) = with_site().await;
    let visitor = Visitor::signed_in(&app, "root").await;
    for (change, error) in [
        (("response_type", Some("token")), "unsupported_response_type"),
        (("code_challenge", None), "invalid_request"),
        (("code_challenge_method", Some("plain")), "invalid_request"),
        (("scope", Some("nonsense")), "invalid_scope"),
    ] {
        let page = visitor.open(&authorize(&site, &[change])).await;
        assert_eq!(told(&page.location, "error").as_deref(), Some(error), "{change:?}: {}", page.text);
        assert_eq!(told(&page.location, "state").as_deref(), Some("a b"));
        assert!(told(&page.location, "iss").is_some());
    }
    let elsewhere = format!("{site}other");
    for change in [
        ("client_id", Some("http://192.168.0.1/")),
        ("client_id", Some("http://app.example/")),
        ("redirect_uri", Some(elsewhere.as_str())),
        ("redirect_uri", Some("https://evil.example/cb")),
        ("response_type", None),
    ] {
        let page = visitor.open(&authorize(&site, &[change])).await;
        assert_eq!((page.status, page.location.as_str()), (400, ""), "{change:?}");
    }
    let page = visitor.open(&authorize(&site, &[])).await;
    let deny = format!(
        "transaction_id={}&form_token={}&decision=deny",
        page.field("transaction_id"),
        page.field("form_token")
    );
    let sent_on = visitor.send("/oauth/decision", &app.url, &deny).await;
    assert_eq!(told(&sent_on.location, "error").as_deref(), Some("access_denied"));
    let described = app.get("/.well-known/oauth-authorization-server").await.text().await.unwrap();
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described["issuer"], json!(app.url));
    assert_eq!(described["code_challenge_methods_supported"], json!(["S256"]));
}
