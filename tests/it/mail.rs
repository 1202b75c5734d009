//! Mail, through a real SMTP server: addresses are proven, passwords set anew, accounts finished; each letter
//! is sent once, and tried again when the server isn't there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use gateway::mail::{self, PASSWORD as SMTP_PASSWORD};
use gateway::ops::mail::FIRST_PAUSE;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::access::Visitor;
use crate::harness::{PASSWORD, TestApp, User};

const IN_TIME: Duration = Duration::from_secs(20);

/// A mail server that takes everything, unless it is told to refuse.
struct Sink {
    port: u16,
    taken: Arc<Mutex<Vec<Letter>>>,
    answer: Arc<Mutex<&'static str>>,
}

#[derive(Debug, Clone, Default)]
struct Letter {
    to: String,
    data: String,
    login: String,
}

impl Sink {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sink = Self { port, taken: Arc::default(), answer: Arc::new(Mutex::new("250 taken")) };
        let (taken, answer) = (sink.taken.clone(), sink.answer.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(Self::talk(socket, taken.clone(), answer.clone()));
            }
        });
        sink
    }

    async fn talk(
        socket: TcpStream,
        taken: Arc<Mutex<Vec<Letter>>>,
        answer: Arc<Mutex<&'static str>>,
    ) -> std::io::Result<()> {
        let (read, mut write) = socket.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut letter = Letter::default();
        write.write_all(b"220 sink\r\n").await?;
        while let Some(line) = lines.next_line().await? {
            let reply = match line.split(' ').next().unwrap_or_default() {
                "EHLO" => "250-sink\r\n250-AUTH PLAIN\r\n250 8BITMIME",
                "AUTH" => {
                    letter.login = line.clone();
                    "235 welcome"
                }
                "RCPT" => {
                    letter.to = line.clone();
                    "250 ok"
                }
                "DATA" => {
                    write.write_all(b"354 go on\r\n").await?;
                    while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                        letter.data += &format!("{line}\n");
                    }
                    let answer = *answer.lock().unwrap();
                    if answer.starts_with("250") {
                        taken.lock().unwrap().push(letter.clone());
                    }
                    letter.data.clear();
                    answer
                }
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            write.write_all(format!("{reply}\r\n").as_bytes()).await?;
        }
        Ok(())
    }

    /// The letters so far, when there are so many.
    async fn letters(&self, count: usize) -> Vec<Letter> {
        let deadline = tokio::time::Instant::now() + IN_TIME;
        loop {
            let letters = self.taken.lock().unwrap().clone();
            if letters.len() >= count {
                assert_eq!(letters.len(), count, "{letters:?}");
                return letters;
            }
            assert!(tokio::time::Instant::now() < deadline, "{count} letters awaited: {letters:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Letter {
    /// The code in the address that begins so.
    fn code(&self, place: &str) -> String {
        // Long lines are broken by an equals sign at their end.
        let text = self.data.replace("=\n", "");
        let after = text.split_once(place).unwrap_or_else(|| panic!("no {place} in {text}")).1;
        after.split_whitespace().next().unwrap().to_owned()
    }
}

async fn with_mail() -> (TestApp, User, Sink) {
    let (app, root) = TestApp::opened().await;
    let sink = Sink::start().await;
    let settings = json!({
        "enableEmail": true, "email": "server@social.example", "smtpHost": "127.0.0.1", "smtpPort": sink.port,
        "smtpUser": "server", "smtpPass": "smtp secret", "bannedEmailDomains": ["throwaway.example"],
    });
    app.ok(&root, "admin/update-meta", settings).await;
    (app, root, sink)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_proven_and_lets_one_set_a_new_password() {
    let (app, root, sink) = with_mail().await;
    assert_eq!(app.ok(&root, "admin/meta", json!({})).await[SMTP_PASSWORD], "smtp secret");
    let bob = app.sign_up("bob").await;
    let address = |to: &str| json!({ "password": PASSWORD, "email": to });
    assert_eq!(
        app.refused(Some(&bob), "i/update-email", address("x@throwaway.example")).await,
        "UNAVAILABLE"
    );
    let me = app.ok(&bob, "i/update-email", address("Bob@example.com")).await;
    assert_eq!((&me["email"], &me["emailVerified"]), (&json!("Bob@example.com"), &json!(false)));
    let first = &sink.letters(1).await[0];
    assert!(first.to.contains("<Bob@example.com>") && !first.login.is_empty(), "{first:?}");

    let ask = |name: &str, to: &str| json!({ "username": name, "email": to });
    app.call(None, "request-reset-password", ask("bob", "bob@example.com")).await;
    let code = first.code("/verify-email/");
    let visitor = Visitor::new(&app);
    let page = format!("/verify-email/{code}");
    assert_eq!(visitor.open(&page).await.status, 200);
    assert_eq!(app.ok(&bob, "i", json!({})).await["emailVerified"], false, "opening it does nothing");
    assert_eq!(visitor.send(&page, "http://evil.example", "").await.status, 403);
    assert_eq!(visitor.send(&page, &app.url, "").await.status, 200);
    assert_eq!(visitor.send(&page, &app.url, "").await.status, 404, "once");
    assert_eq!(app.refused(None, "verify-email", json!({ "code": code })).await, "NO_SUCH_CODE");
    assert_eq!(app.ok(&bob, "i", json!({})).await["emailVerified"], true);
    let taken = app.call(None, "email-address/available", json!({ "emailAddress": "BOB@example.com" })).await;
    assert_eq!(taken.body, json!({ "available": false, "reason": "used" }));
    assert_eq!(app.refused(Some(&root), "i/update-email", address("bob@example.com")).await, "UNAVAILABLE");

    app.clock.pass(TimeDelta::hours(2));
    for (name, to) in [("bob", "other@example.com"), ("root", "bob@example.com"), ("bob", "bob@example.com")]
    {
        assert_eq!(app.call(None, "request-reset-password", ask(name, to)).await.status, 204);
    }
    let code = sink.letters(2).await[1].code("/reset-password/");
    let set = |code: &str, password: &str| json!({ "token": code, "password": password });
    assert_eq!(app.refused(None, "reset-password", set("nosuch", "new horse")).await, "NO_SUCH_TOKEN");
    assert_eq!(app.call(None, "reset-password", set(&code, "new horse")).await.status, 204);
    assert_eq!(app.refused(None, "reset-password", set(&code, "newer horse")).await, "NO_SUCH_TOKEN");
    let sign_in = json!({ "username": "bob", "password": "new horse" });
    assert_eq!(app.call(None, "signin-flow", sign_in).await.status, 200);
    let info = json!({ "email": "bob@example.com", "password": "new horse" });
    let info = app.call(None, "users/get-security-info", info).await.body;
    assert_eq!(
        info,
        json!({ "twoFactorEnabled": false, "usePasswordLessLogin": false, "securityKeys": false })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_at_a_host_that_takes_mail() {
    let (app, root, _sink) = with_mail().await;
    let bob = app.sign_up("bob").await;
    let ask =
        async |to: &str| app.call(None, "email-address/available", json!({ "emailAddress": to })).await.body;
    let available = json!({ "available": true, "reason": null });
    let no_mail = json!({ "available": false, "reason": "mx" });
    assert_eq!(ask("bob@mail.example").await, available);
    assert_eq!(ask("bob@no-mail.example").await, no_mail);
    let address = |to: &str| json!({ "password": PASSWORD, "email": to });
    let refused = app.refused(Some(&bob), "i/update-email", address("bob@no-mail.example")).await;
    assert_eq!(refused, "UNAVAILABLE");
    app.ok(&root, "admin/update-meta", json!({ "emailRequiredForSignup": true })).await;
    let sign_up = json!({ "username": "carol", "password": PASSWORD, "emailAddress": "c@no-mail.example" });
    assert_eq!(app.call(None, "signup", sign_up).await.status, 400);

    app.names.go_away();
    assert_eq!(ask("bob@mail.example").await, no_mail);
    app.ok(&root, "admin/update-meta", json!({ "enableActiveEmailValidation": false })).await;
    assert_eq!(ask("bob@no-mail.example").await, available);
    app.ok(&bob, "i/update-email", address("bob@no-mail.example")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_made_when_its_address_is_proven() {
    let (app, root, sink) = with_mail().await;
    app.ok(&root, "admin/update-meta", json!({ "emailRequiredForSignup": true })).await;
    let sign_up =
        |name: &str, to: &str| json!({ "username": name, "password": PASSWORD, "emailAddress": to });
    assert_eq!(
        app.call(None, "signup", json!({ "username": "bob", "password": PASSWORD })).await.status,
        400
    );
    assert_eq!(app.call(None, "signup", sign_up("root", "b@example.com")).await.status, 400);
    for name in ["bob", "carol"] {
        assert_eq!(app.call(None, "signup", sign_up(name, &format!("{name}@example.com"))).await.status, 204);
    }
    let mut letters = sink.letters(2).await;
    letters.sort_by_key(|letter| letter.to.clone());
    let code = letters[0].code("/signup-complete/");
    assert_eq!(app.call(None, "signup-pending", json!({ "code": "nosuch" })).await.status, 400);
    let made = app.call(None, "signup-pending", json!({ "code": code })).await.body;
    let bob =
        User { id: String::new(), name: "bob".to_owned(), token: made["i"].as_str().unwrap().to_owned() };
    let me = app.ok(&bob, "i", json!({})).await;
    assert_eq!((&me["username"], &me["emailVerified"]), (&json!("bob"), &json!(true)));
    assert_eq!(app.call(None, "signup-pending", json!({ "code": code })).await.status, 400);
    let unset = json!({ "password": PASSWORD, "email": null });
    assert_eq!(app.refused(Some(&bob), "i/update-email", unset).await, "EMAIL_REQUIRED");

    let place = format!("/signup-complete/{}", letters[1].code("/signup-complete/"));
    let inside = Visitor::new(&app).send(&place, &app.url, "").await;
    assert_eq!((inside.status, inside.location.as_str()), (303, "/"));
    let stored: i64 = sqlx::query_scalar("select count(*) from ops.pending_sign_ups")
        .fetch_one(&app.app.pool)
        .await
        .unwrap();
    assert_eq!(stored, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_tried_again_and_not_for_ever() {
    let (app, root, sink) = with_mail().await;
    *sink.answer.lock().unwrap() = "451 later";
    let letter = json!({ "to": "a@example.com", "subject": "Hello ✨", "text": "text" });
    app.ok(&root, "admin/send-email", letter.clone()).await;
    let waiting = async || -> Value {
        let sql = "select coalesce(jsonb_agg(attempts), '[]') from ops.outbox where attempts > 0";
        sqlx::query_scalar(sql).fetch_one(&app.app.pool).await.unwrap()
    };
    let deadline = tokio::time::Instant::now() + IN_TIME;
    while waiting().await != json!([1]) {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    app.clock.pass(FIRST_PAUSE);
    mail::empty(&app.app).await.unwrap();
    assert_eq!(waiting().await, json!([2]));
    *sink.answer.lock().unwrap() = "250 taken";
    app.clock.pass(FIRST_PAUSE * 2);
    mail::empty(&app.app).await.unwrap();
    assert_eq!(sink.letters(1).await.len(), 1);
    assert_eq!(waiting().await, json!([]));

    *sink.answer.lock().unwrap() = "550 never";
    app.ok(&root, "admin/send-email", letter).await;
    let count = async || -> i64 {
        sqlx::query_scalar("select count(*) from ops.outbox").fetch_one(&app.app.pool).await.unwrap()
    };
    let deadline = tokio::time::Instant::now() + IN_TIME;
    while count().await > 0 {
        assert!(tokio::time::Instant::now() < deadline, "what is refused for good is given up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let not_an_address = json!({ "to": "a@b\r\nbcc: c@example.com", "subject": "s", "text": "t" });
    assert_eq!(app.refused(Some(&root), "admin/send-email", not_an_address).await, "INVALID_ADDRESS");
}
