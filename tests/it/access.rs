//! Getting in by the pages and by what apps call: forms that only this server's pages can send, sessions that
//! end, tokens that are handed over once.

use reqwest::redirect::Policy;
use serde_json::{Value, json};

use crate::harness::{PASSWORD, TestApp, User};

/// Somebody's browser, without its engine.
pub struct Visitor<'a> {
    app: &'a TestApp,
    http: reqwest::Client,
    cookie: String,
}

pub struct Page {
    pub status: u16,
    pub location: String,
    pub cookie: String,
    policy: String,
    pub text: String,
}

impl<'a> Visitor<'a> {
    pub fn new(app: &'a TestApp) -> Self {
        let http = crate::harness::http().no_proxy().redirect(Policy::none()).build().unwrap();
        Self { app, http, cookie: String::new() }
    }

    pub async fn signed_in(app: &'a TestApp, name: &str) -> Self {
        let mut visitor = Self::new(app);
        let form = format!("username={name}&password={}", PASSWORD.replace(' ', "+"));
        let page = visitor.send("/sign-in", &app.url, &form).await;
        assert_eq!(page.status, 303, "{}", page.text);
        visitor.cookie = page.cookie.split(';').next().unwrap().to_owned();
        visitor
    }

    pub async fn open(&self, path: &str) -> Page {
        let request = self.http.get(format!("{}{path}", self.app.url)).header("cookie", &self.cookie);
        Page::of(request.send().await.unwrap()).await
    }

    /// Sends a form that claims to come from a page of `origin`.
    pub async fn send(&self, path: &str, origin: &str, form: &str) -> Page {
        let request = self.http.post(format!("{}{path}", self.app.url)).header("cookie", &self.cookie);
        let request = request.header("origin", origin).body(form.to_owned());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        Page::of(request.send().await.unwrap()).await
    }

    /// Answers the question at `path` as the page itself would.
    async fn answer(&self, path: &str, decision: &str) -> Page {
        let form = format!("form_token={}&decision={decision}", self.open(path).await.form_token());
        self.send(path, &self.app.url, &form).await
    }
}

impl Page {
    async fn of(response: reqwest::Response) -> Self {
        let header = |name: &str| {
            let value = response.headers().get(name).map(|value| value.to_str().unwrap());
            value.unwrap_or_default().to_owned()
        };
        let (location, cookie) = (header("location"), header("set-cookie"));
        let policy = header("content-security-policy");
        let status = response.status().as_u16();
        Self { status, location, cookie, policy, text: response.text().await.unwrap() }
    }

    fn form_token(&self) -> String {
        self.field("form_token")
    }

    /// What a hidden field carries.
    pub fn field(&self, name: &str) -> String {
        let after = self.text.split_once(&format!("name=\"{name}\" value=\"")).unwrap().1;
        after.split_once('"').unwrap().0.to_owned()
    }
}

async fn check(app: &TestApp, session: &str) -> Value {
    app.call(None, &format!("miauth/{session}/check"), json!({})).await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site_or_of_another_browser_is_refused() {
    let app = TestApp::start().await;
    let stranger = Visitor::new(&app);
    let first = format!("username=root&password={}", PASSWORD.replace(' ', "+"));
    assert_eq!(stranger.send("/", "http://evil.example", &first).await.status, 403);
    assert_eq!(stranger.send("/", "null", &first).await.status, 403);
    assert_eq!(stranger.send("/", &app.url, &first).await.status, 303);
    assert_eq!(stranger.send("/", &app.url, "username=second&password=x").await.status, 404);

    let visitor = Visitor::signed_in(&app, "root").await;
    let asks = "/miauth/s1?name=App&permission=read:account";
    let token = visitor.open(asks).await.form_token();
    let allow = format!("form_token={token}&decision=allow");
    assert_eq!(visitor.send(asks, "http://evil.example", &allow).await.status, 403);
    assert_eq!(visitor.send(asks, &app.url, "form_token=x&decision=allow").await.status, 403);
    assert_eq!(stranger.send(asks, &app.url, &allow).await.status, 403, "the cookie is another's or none");
    assert_eq!(check(&app, "s1").await, json!({ "ok": false }));
    assert_eq!(visitor.send(asks, &app.url, &allow).await.status, 200);
    assert_eq!(check(&app, "s1").await["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_called_back_only_where_that_is_safe() {
    let (app, root) = TestApp::opened().await;
    let visitor = Visitor::signed_in(&app, "root").await;
    for bad in ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "nonsense"] {
        let page = visitor.open(&format!("/miauth/s?callback={bad}")).await;
        assert_eq!(page.status, 400, "{bad}");
        assert!(!page.text.contains("form_token"), "{bad}");
    }
    let asks = "/miauth/s2?name=%3Cb%3EApp&callback=miria%3A%2F%2Fmiria%2Fauth&permission=read:account,bogus";
    let page = visitor.open(asks).await;
    assert!(page.policy.contains("form-action 'self' miria:;"), "{}", page.policy);
    assert!(page.text.contains("&lt;b&gt;App") && !page.text.contains("<li>bogus"), "{}", page.text);
    let denied = visitor.answer(asks, "deny").await;
    assert_eq!((denied.status, check(&app, "s2").await), (200, json!({ "ok": false })));
    assert_eq!(visitor.answer(asks, "allow").await.location, "miria://miria/auth?session=s2");

    let granted = check(&app, "s2").await;
    assert_eq!((&granted["ok"], &granted["user"]["id"]), (&json!(true), &json!(root.id)));
    assert_eq!(check(&app, "s2").await, json!({ "ok": false }), "only once");
    let token = granted["token"].as_str().unwrap().to_owned();
    let by_app = User { token, ..root.clone() };
    app.ok(&by_app, "i", json!({})).await;
    assert_eq!(app.refused(Some(&by_app), "notes/create", json!({ "text": "x" })).await, "PERMISSION_DENIED");
    let asked = json!({ "session": null, "permission": [] });
    assert_eq!(app.refused(Some(&by_app), "miauth/gen-token", asked).await, "ACCESS_DENIED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_regenerated_token_ends_the_old_one_and_signs_browsers_out() {
    let (app, root) = TestApp::opened().await;
    let visitor = Visitor::signed_in(&app, "root").await;
    assert!(visitor.open("/").await.text.contains("@root"));
    app.ok(&root, "i/regenerate-token", json!({ "password": PASSWORD })).await;
    assert_eq!(app.refused(Some(&root), "i", json!({})).await, "AUTHENTICATION_FAILED");
    assert!(!visitor.open("/").await.text.contains("@root"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_costs_a_hash_or_tells_of_a_password_is_limited() {
    let app = TestApp::start().await;
    let root = app.sign_up("root").await;
    app.ok(&root, "admin/update-meta", json!({ "disableRegistration": false })).await;
    let statuses = async |path: &str, params: Value, by: Option<&User>, calls: u32| {
        let mut statuses = Vec::new();
        for _ in 0..calls {
            statuses.push(app.call(by, path, params.clone()).await.status);
        }
        statuses
    };
    // Refused before anything is hashed, but counted all the same.
    let nobody = json!({ "username": "no name", "password": "x" });
    let signups = statuses("signup", nobody, None, 101).await;
    assert_eq!(signups.iter().filter(|status| **status == 400).count(), 100, "{signups:?}");
    assert_eq!(signups.last(), Some(&429));
    let guesses = statuses("i/regenerate-token", json!({ "password": "" }), Some(&root), 11).await;
    assert_eq!(guesses.iter().filter(|status| **status == 400).count(), 10, "{guesses:?}");
    assert_eq!(guesses.last(), Some(&429));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_noted_of_a_person_is_not_read_by_every_command_about_them() {
    let (app, root) = TestApp::opened().await;
    let stream = domain::user::stream(root.id.parse().unwrap());
    let before = app.app.log.stream(&stream).await.unwrap().1;
    let asked = json!({ "session": null, "permission": ["read:account"] });
    for _ in 0..3 {
        app.ok(&root, "miauth/gen-token", asked.clone()).await;
        app.ok(&root, "notifications/mark-all-as-read", json!({})).await;
    }
    app.ok(&root, "i/regenerate-token", json!({ "password": PASSWORD })).await;
    assert_eq!(app.app.log.stream(&stream).await.unwrap().1, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_stored_as_it_is() {
    let (app, root) = TestApp::opened().await;
    let visitor = Visitor::signed_in(&app, "root").await;
    visitor.answer("/miauth/a-miauth-session", "allow").await;
    let registered = json!({ "name": "n", "description": "d", "permission": ["read:account"] });
    let secret = app.ok(&root, "app/create", registered).await["secret"].as_str().unwrap().to_owned();
    let session = app.call(None, "auth/session/generate", json!({ "appSecret": secret })).await;
    let session = session.body["token"].as_str().unwrap().to_owned();
    app.ok(&root, "auth/accept", json!({ "token": session })).await;
    let userkey = json!({ "appSecret": secret, "token": session });
    let userkey = app.call(None, "auth/session/userkey", userkey).await.body;
    let miauth = check(&app, "a-miauth-session").await;

    let cookie = visitor.cookie.split_once('=').unwrap().1;
    let (miauth, userkey) = (miauth["token"].as_str().unwrap(), userkey["accessToken"].as_str().unwrap());
    let secrets = [PASSWORD, &root.token, cookie, &secret, &session, miauth, userkey, "a-miauth-session"];
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'ops'",
    )
    .fetch_all(&app.app.pool)
    .await
    .unwrap();
    assert!(tables.len() > 5, "{tables:?}");
    for table in tables {
        let all = format!("select coalesce(string_agg(t::text, ' '), '') from {table} t");
        let text: String =
            sqlx::query_scalar(sqlx::AssertSqlSafe(all)).fetch_one(&app.app.pool).await.unwrap();
        for secret in secrets {
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert!(!text.contains(secret) && !text.contains(&hex), "{table} holds {secret}");
        }
    }
}
