//! What is told to other places: webhooks and Web Push, received as the other side does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{TestApp, User};

/// How long something may be on its way.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// After which it isn't on its way.
const NOT_TOLD_WITHIN: Duration = Duration::from_millis(1_500);
const FLAGS: [(&str, &str); 1] = [("allowed-private-networks", "127.0.0.0/8")];

/// Something that was told.
#[derive(Debug, Clone)]
struct Heard {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Heard {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// The other side.
#[derive(Clone)]
struct Listener {
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    answer: Arc<Mutex<StatusCode>>,
}

impl Listener {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let this = Self { url, heard: Arc::default(), answer: Arc::new(Mutex::new(StatusCode::OK)) };
        let router = Router::new().route("/{path}", post(hear)).with_state(this.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        this
    }

    fn answer(&self, status: StatusCode) {
        *self.answer.lock().unwrap() = status;
    }

    /// Waits until so much was told; all of it, in order.
    async fn heard(&self, count: usize) -> Vec<Heard> {
        let until = tokio::time::Instant::now() + TOLD_WITHIN;
        loop {
            let heard = self.heard.lock().unwrap().clone();
            if heard.len() >= count {
                return heard;
            }
            assert!(tokio::time::Instant::now() < until, "told {} of {count}: {heard:?}", heard.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn count(&self) -> usize {
        tokio::time::sleep(NOT_TOLD_WITHIN).await;
        self.heard.lock().unwrap().len()
    }
}

async fn hear(
    State(this): State<Listener>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    this.heard.lock().unwrap().push(Heard { path, headers, body });
    *this.answer.lock().unwrap()
}

async fn opened() -> (TestApp, User) {
    let app = TestApp::in_real_time(&FLAGS).await;
    let root = app.sign_up("root").await;
    let settings = json!({ "disableRegistration": false, "enableServiceWorker": true });
    app.ok(&root, "admin/update-meta", settings).await;
    app.ok(&root, "admin/roles/update-default-policies", json!({ "policies": { "rateLimitFactor": 0 } }))
        .await;
    (app, root)
}

async fn hook(app: &TestApp, user: &User, url: &str, on: &[&str]) -> Value {
    let hook = json!({ "name": "hook", "url": url, "secret": "s3cret", "on": on });
    app.ok(user, "i/webhooks/create", hook).await
}

const ALL: [&str; 8] = ["mention", "unfollow", "follow", "followed", "note", "reply", "renote", "reaction"];

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_what_happens_to_its_person() {
    let (app, root) = opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let before = app.ok(&alice, "notes/create", json!({ "text": "before" })).await;
    let listener = Listener::start().await;
    let made = hook(&app, &alice, &format!("{}/a", listener.url), &ALL).await;

    let note = app.ok(&alice, "notes/create", json!({ "text": "mine" })).await["createdNote"].clone();
    let told = listener.heard(1).await.remove(0);
    let body = told.json();
    assert_eq!(told.header("x-misskey-hook-secret"), "s3cret");
    assert_eq!(told.header("x-misskey-hook-id"), made["id"].as_str().unwrap());
    assert_eq!(told.header("x-misskey-host"), app.url.strip_prefix("http://").unwrap());
    assert_eq!(told.header("user-agent"), "Misskey-Hooks");
    assert_eq!(
        (&body["type"], &body["hookId"], &body["userId"]),
        (&json!("note"), &made["id"], &json!(alice.id))
    );
    assert_eq!((&body["server"], &body["body"]["note"]["id"]), (&json!(app.url), &note["id"]));
    assert!(body["createdAt"].as_i64().is_some() && body["eventId"].is_string(), "{body}");

    let about = json!({ "noteId": note["id"], "reaction": "🎉" });
    app.ok(&bob, "notes/reactions/create", about).await;
    app.ok(&bob, "notes/create", json!({ "text": "yes", "replyId": note["id"] })).await;
    app.ok(
        &bob,
        "notes/create",
        json!({ "text": "@alice hi", "visibility": "specified", "visibleUserIds": [alice.id] }),
    )
    .await;
    app.ok(&bob, "notes/create", json!({ "renoteId": note["id"] })).await;
    app.ok(&bob, "following/create", json!({ "userId": alice.id })).await;
    app.ok(&alice, "following/create", json!({ "userId": bob.id })).await;
    // People are told of as they are when it is told.
    listener.heard(8).await;
    app.ok(&alice, "following/delete", json!({ "userId": bob.id })).await;
    // Nothing of these is Alice's.
    app.ok(&bob, "notes/create", json!({ "text": "for nobody" })).await;
    app.ok(&root, "following/create", json!({ "userId": bob.id })).await;

    let told: Vec<Value> = listener.heard(9).await[1..].iter().map(Heard::json).collect();
    let kinds: Vec<&str> = told.iter().map(|body| body["type"].as_str().unwrap()).collect();
    let expected = ["reaction", "mention", "reply", "mention", "renote", "followed", "follow", "unfollow"];
    assert_eq!(kinds, expected, "whoever is answered is mentioned, too");
    assert_eq!(
        (&told[0]["body"]["reaction"], &told[0]["body"]["user"]["id"]),
        (&json!("🎉"), &json!(bob.id))
    );
    assert_eq!(told[3]["body"]["note"]["text"], "@alice hi", "as its receiver sees it");
    assert_eq!(told[5]["body"]["user"]["username"], "bob");
    assert_eq!(told[6]["body"]["user"]["isFollowing"], true);
    assert_eq!(listener.count().await, 9, "{before}");
    let shown = app.ok(&alice, "i/webhooks/show", json!({ "webhookId": made["id"] })).await;
    assert_eq!(shown["latestStatus"], 200);
    assert!(shown["latestSentAt"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_only_what_it_asked_for_and_while_it_is_active() {
    let (app, root) = opened().await;
    let bob = app.sign_up("bob").await;
    let listener = Listener::start().await;
    let made = hook(&app, &root, &format!("{}/a", listener.url), &["mention"]).await;
    app.ok(&root, "notes/create", json!({ "text": "mine" })).await;
    app.ok(&bob, "notes/create", json!({ "text": "@root one" })).await;
    assert_eq!(listener.heard(1).await[0].json()["body"]["note"]["text"], "@root one");
    app.ok(&root, "i/webhooks/update", json!({ "webhookId": made["id"], "active": false })).await;
    app.ok(&bob, "notes/create", json!({ "text": "@root two" })).await;
    app.ok(&root, "i/webhooks/test", json!({ "webhookId": made["id"], "type": "follow" })).await;
    let tried = listener.heard(2).await.remove(1);
    assert_eq!((&tried.json()["type"], tried.header("x-misskey-hook-secret")), (&json!("follow"), "s3cret"));
    let url = format!("{}/b", listener.url);
    let other =
        json!({ "webhookId": made["id"], "type": "note", "override": { "url": url, "secret": "other" } });
    app.ok(&root, "i/webhooks/test", other).await;
    let tried = listener.heard(3).await.remove(2);
    assert_eq!((tried.path.as_str(), tried.header("x-misskey-hook-secret")), ("b", "other"));
    assert_eq!(tried.json()["body"]["note"]["user"]["username"], "root");

    // Muted people are not heard, and a hook into a private network is not told anything.
    app.ok(&root, "mute/create", json!({ "userId": bob.id })).await;
    app.ok(&root, "i/webhooks/update", json!({ "webhookId": made["id"], "active": true })).await;
    app.ok(&bob, "notes/create", json!({ "text": "@root three" })).await;
    assert_eq!(listener.count().await, 3);
    app.ok(&root, "i/webhooks/delete", json!({ "webhookId": made["id"] })).await;
    assert_eq!(app.ok(&root, "i/webhooks/list", json!({})).await, json!([]));
    for n in 0..3 {
        hook(&app, &bob, &format!("http://192.168.0.1/{n}"), &ALL).await;
    }
    let one_more = json!({ "name": "x", "url": "x", "on": [] });
    assert_eq!(app.refused(Some(&bob), "i/webhooks/create", one_more).await, "TOO_MANY_WEBHOOKS");
    assert_eq!(
        app.refused(Some(&root), "i/webhooks/show", json!({ "webhookId": made["id"] })).await,
        "NO_SUCH_WEBHOOK"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_again_by_whoever_is_there_then() {
    let (app, root) = opened().await;
    let listener = Listener::start().await;
    let url = format!("{}/a", listener.url);
    hook(&app, &root, &url, &["note"]).await;
    listener.answer(StatusCode::INTERNAL_SERVER_ERROR);
    app.ok(&root, "notes/create", json!({ "text": "one" })).await;
    listener.heard(1).await;
    let waiting = async || -> i64 {
        sqlx::query_scalar("select count(*) from ops.deliveries").fetch_one(&app.app.pool).await.unwrap()
    };
    assert_eq!(listener.count().await, 1, "there is a pause");
    assert_eq!(waiting().await, 1);
    listener.answer(StatusCode::NO_CONTENT);
    let another = app.another().await;
    sqlx::query("update ops.deliveries set due_at = now()").execute(&app.app.pool).await.unwrap();
    let heard = listener.heard(2).await;
    assert_eq!(heard[0].json(), heard[1].json(), "the same, with the same id");
    assert_eq!(listener.count().await, 2, "by one of two processes");
    assert_eq!(waiting().await, 0);

    // Two processes see each event, and one tells it.
    for n in 0..20 {
        another.ok(&root, "notes/create", json!({ "text": n.to_string() })).await;
    }
    let heard = listener.heard(22).await;
    let texts =
        heard[2..].iter().map(|heard| heard.json()["body"]["note"]["text"].as_str().unwrap().to_owned());
    assert_eq!(texts.collect::<Vec<_>>(), (0..20).map(|n| n.to_string()).collect::<Vec<_>>(), "in order");
    assert_eq!(listener.count().await, 22);

    // What nobody wants is not told again.
    listener.answer(StatusCode::GONE);
    app.ok(&root, "notes/create", json!({ "text": "last" })).await;
    listener.heard(23).await;
    app.nothing_waits("ops.deliveries").await;
    assert_eq!(app.ok(&root, "i/webhooks/list", json!({})).await[0]["latestStatus"], 410);

    // What has gone meanwhile is not told.
    listener.answer(StatusCode::BAD_GATEWAY);
    let note = app.ok(&root, "notes/create", json!({ "text": "regretted" })).await["createdNote"].clone();
    listener.heard(24).await;
    app.ok(&root, "notes/delete", json!({ "noteId": note["id"] })).await;
    sqlx::query("update ops.deliveries set due_at = now()").execute(&app.app.pool).await.unwrap();
    assert_eq!(listener.count().await, 24);
    assert_eq!(waiting().await, 0);
}

/// A browser that is closed. It reads one message, since its key is used up by that.
struct Browser {
    key: EphemeralPrivateKey,
    public: Vec<u8>,
    auth: [u8; 16],
}

impl Browser {
    fn new() -> Self {
        let key = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
        let public = key.compute_public_key().unwrap().as_ref().to_vec();
        Self { key, public, auth: [9; 16] }
    }

    async fn subscribe(&self, app: &TestApp, user: &User, endpoint: &str, send_read: bool) -> Value {
        let asked = json!({
            "endpoint": endpoint,
            "auth": BASE64_URL_SAFE_NO_PAD.encode(self.auth),
            "publickey": BASE64_URL_SAFE_NO_PAD.encode(&self.public),
            "sendReadMessage": send_read,
        });
        app.ok(user, "sw/register", asked).await
    }

    /// As RFC 8291 says it is read.
    fn read(self, heard: &Heard) -> Value {
        assert_eq!((heard.header("content-encoding"), heard.header("ttl")), ("aes128gcm", "2419200"));
        assert!(heard.header("authorization").starts_with("vapid t="), "{heard:?}");
        let body = &heard.body;
        let (salt, rest) = body.split_at(16);
        assert_eq!(&rest[..5], &[0, 0, 0x10, 0, 65]);
        let (theirs, sealed) = rest[5..].split_at(65);
        let derive = |from: &ring::hkdf::Prk, info: &[&[u8]], length: usize| {
            let mut derived = vec![0; length];
            from.expand(info, Length(length)).unwrap().fill(&mut derived).unwrap();
            derived
        };
        let shared =
            agree_ephemeral(self.key, &UnparsedPublicKey::new(&ECDH_P256, theirs), <[u8]>::to_vec).unwrap();
        let info: [&[u8]; 3] = [b"WebPush: info\0", &self.public, theirs];
        let common = derive(&Salt::new(HKDF_SHA256, &self.auth).extract(&shared), &info, 32);
        let keys = Salt::new(HKDF_SHA256, salt).extract(&common);
        let key = derive(&keys, &[b"Content-Encoding: aes128gcm\0"], 16);
        let nonce = derive(&keys, &[b"Content-Encoding: nonce\0"], 12);
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap());
        let mut record = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(&nonce).unwrap();
        let plain = key.open_in_place(nonce, Aad::empty(), &mut record).unwrap();
        let (end, told) = plain.split_last().unwrap();
        assert_eq!(*end, 2);
        serde_json::from_slice(told).unwrap()
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_browser_is_told_of_what_was_not_read() {
    let (app, root) = opened().await;
    let bob = app.sign_up("bob").await;
    let listener = Listener::start().await;
    let (first, second) = (Browser::new(), Browser::new());
    let (first_url, second_url) = (format!("{}/first", listener.url), format!("{}/second", listener.url));
    let registered = first.subscribe(&app, &root, &first_url, false).await;
    let meta = app.ok(&root, "meta", json!({})).await;
    assert_eq!((&registered["state"], &registered["key"]), (&json!("subscribed"), &meta["swPublickey"]));
    assert_eq!(meta["swPublickey"].as_str().map(str::len), Some(87));
    assert_eq!(first.subscribe(&app, &root, &first_url, false).await["state"], "already-subscribed");

    app.ok(&bob, "notes/create", json!({ "text": "@root hello", "cw": "careful" })).await;
    let heard = listener.heard(1).await.remove(0);
    let told = first.read(&heard);
    assert_eq!((&told["type"], &told["userId"]), (&json!("notification"), &json!(root.id)));
    assert_eq!(
        (&told["body"]["type"], &told["body"]["user"]["username"]),
        (&json!("mention"), &json!("bob"))
    );
    assert_eq!(told["body"]["note"]["text"], "careful");
    assert!(told["dateTime"].is_i64());

    // What is read in time isn't told; that it was read is, to those who want to know.
    second.subscribe(&app, &root, &second_url, true).await;
    app.ok(&bob, "notes/create", json!({ "text": "@root again" })).await;
    app.ok(&root, "notifications/mark-all-as-read", json!({})).await;
    let heard = listener.heard(2).await.remove(1);
    assert_eq!(heard.path, "second");
    assert_eq!(second.read(&heard)["type"], "readAllNotifications");
    app.nothing_waits("ops.deliveries").await;
    assert_eq!(listener.count().await, 2);

    // A service that knows the browser no more ends the subscription.
    listener.answer(StatusCode::GONE);
    app.ok(&root, "notifications/test-notification", json!({})).await;
    listener.heard(4).await;
    app.nothing_waits("ops.deliveries").await;
    let show = |url: &str| json!({ "endpoint": url });
    assert_eq!(app.ok(&root, "sw/show-registration", show(&first_url)).await, Value::Null);
    app.ok(&root, "notifications/test-notification", json!({})).await;
    assert_eq!(listener.count().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_changed_and_ended_by_its_address() {
    let (app, root) = opened().await;
    let bob = app.sign_up("bob").await;
    let (browser, url) = (Browser::new(), "https://push.example/x");
    for user in [&root, &bob] {
        browser.subscribe(&app, user, url, false).await;
    }
    let change = json!({ "endpoint": url, "sendReadMessage": true });
    assert_eq!(app.ok(&root, "sw/update-registration", change).await["sendReadMessage"], true);
    assert_eq!(
        app.ok(&bob, "sw/show-registration", json!({ "endpoint": url })).await["sendReadMessage"],
        false
    );
    let nowhere = json!({ "endpoint": "https://push.example/y" });
    assert_eq!(app.refused(Some(&root), "sw/update-registration", nowhere).await, "NO_SUCH_REGISTRATION");
    app.ok(&root, "sw/unregister", json!({ "endpoint": url })).await;
    assert_eq!(app.ok(&root, "sw/show-registration", json!({ "endpoint": url })).await, Value::Null);
    assert_ne!(app.ok(&bob, "sw/show-registration", json!({ "endpoint": url })).await, Value::Null);
    assert_eq!(app.call(None, "sw/unregister", json!({ "endpoint": url })).await.status, 204);
    assert_eq!(app.ok(&bob, "sw/show-registration", json!({ "endpoint": url })).await, Value::Null);
    app.ok(&root, "admin/update-meta", json!({ "enableServiceWorker": false })).await;
    assert_eq!(app.ok(&root, "meta", json!({})).await["swPublickey"], Value::Null);
}
