//! Streaming: what is heard at `/streaming`, by whom, and who is let in.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::harness::{PASSWORD, TestApp, User};

const HEARD_WITHIN: Duration = Duration::from_secs(20);

/// A client's end of a stream.
pub struct Stream(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Stream {
    /// Opens a stream with these channels, each under its own name.
    pub async fn open(app: &TestApp, user: Option<&User>, channels: &[&str]) -> Self {
        let query = user.map_or_else(String::new, |user| format!("?i={}", user.token));
        let mut stream = Self(connect_async(address(app, &query)).await.unwrap().0);
        for channel in channels {
            stream.connect(channel, channel, json!({})).await;
            assert_eq!(stream.next().await, json!({ "type": "connected", "body": { "id": channel } }));
        }
        stream
    }

    async fn connect(&mut self, channel: &str, id: &str, params: Value) {
        self.say("connect", json!({ "channel": channel, "id": id, "params": params, "pong": true })).await;
    }

    async fn say(&mut self, kind: &str, body: Value) {
        self.send(json!({ "type": kind, "body": body }).to_string()).await;
    }

    async fn send(&mut self, text: String) {
        self.0.send(Message::Text(text.into())).await.unwrap();
    }

    /// Captures a note, which the server has heard then.
    pub async fn capture(&mut self, note: &str) {
        self.say("sr", json!({ "id": note })).await;
        self.heard().await;
    }

    /// Returns when all that was said before has been heard by the server.
    async fn heard(&mut self) {
        self.connect("localTimeline", "heard", json!({})).await;
        while self.next().await["body"]["id"] != "heard" {}
        self.say("disconnect", json!({ "id": "heard" })).await;
    }

    pub async fn next(&mut self) -> Value {
        loop {
            match self.message().await {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => (),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn message(&mut self) -> Message {
        timeout(HEARD_WITHIN, self.0.next()).await.expect("nothing was heard").unwrap().unwrap()
    }

    /// The next event of a channel, its name and its body.
    async fn event(&mut self) -> (String, String, Value) {
        let mut frame = self.next().await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&frame["body"]["id"]), text(&frame["body"]["type"]), frame["body"]["body"].take())
    }

    /// The next events, which must have these names, in any order; their bodies in the order asked for.
    pub async fn events<const N: usize>(&mut self, names: [&str; N]) -> [Value; N] {
        let mut bodies = names.map(|_| None);
        for _ in names {
            let (_, name, body) = self.event().await;
            let place = (0..N).find(|place| names[*place] == name && bodies[*place].is_none());
            let place = place.unwrap_or_else(|| panic!("{name} was not expected: {body}"));
            bodies[place] = Some(body);
        }
        bodies.map(|body| body.unwrap())
    }

    /// The next note, with the channel that brought it.
    pub async fn note(&mut self) -> (String, String) {
        let (channel, name, body) = self.event().await;
        assert_eq!(name, "note");
        (channel, body["text"].as_str().unwrap().to_owned())
    }
}

fn address(app: &TestApp, query: &str) -> String {
    format!("{}/streaming{query}", app.url.replace("http://", "ws://"))
}

fn at(channel: &str, text: &str) -> (String, String) {
    (channel.to_owned(), text.to_owned())
}

/// The status and the challenge with which a handshake is refused.
async fn refused(app: &TestApp, query: &str, bearer: Option<&str>) -> (u16, Option<String>) {
    let mut request = address(app, query).into_client_request().unwrap();
    if let Some(token) = bearer {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    match connect_async(request).await {
        Err(Error::Http(response)) => {
            let challenge = response.headers().get("www-authenticate");
            (response.status().as_u16(), challenge.map(|value| value.to_str().unwrap().to_owned()))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_with_a_good_token_or_none_are_let_in() {
    let (app, alice) = TestApp::opened().await;
    let challenge =
        r#"Bearer realm="Misskey", error="invalid_token", error_description="Failed to authenticate""#;
    let unauthorized = (401, Some(challenge.to_owned()));
    assert_eq!(refused(&app, "?i=thistokendoesnot", None).await, unauthorized);
    assert_eq!(refused(&app, "?i=", None).await, unauthorized);
    assert_eq!(refused(&app, "", Some("nonsense")).await, unauthorized);

    let grant = |permission: Value| json!({ "session": null, "permission": permission });
    let bare = app.ok(&alice, "miauth/gen-token", grant(json!(["write:notes"]))).await;
    let query = format!("?i={}", bare["token"].as_str().unwrap());
    assert_eq!(refused(&app, &query, None).await, unauthorized);
    let reader = app.ok(&alice, "miauth/gen-token", grant(json!(["read:account"]))).await;
    let reader = User { token: reader["token"].as_str().unwrap().to_owned(), ..alice.clone() };
    Stream::open(&app, Some(&reader), &["main"]).await;

    let mut request = address(&app, "").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", alice.token).parse().unwrap());
    let mut stream = Stream(connect_async(request).await.unwrap().0);
    stream.connect("main", "1", json!({})).await;
    assert_eq!(stream.next().await["type"], "connected");

    assert_eq!(app.get("/streaming").await.status().as_u16(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_token_listens_no_longer() {
    let (app, alice) = TestApp::opened().await;
    let mut stream = Stream::open(&app, Some(&alice), &["main"]).await;
    app.ok(&alice, "i/regenerate-token", json!({ "password": PASSWORD })).await;
    assert_eq!(stream.event().await.1, "myTokenRegenerated");
    match stream.message().await {
        Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Policy),
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(&app, &format!("?i={}", alice.token), None).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_or_not_allowed_gets_no_answer() {
    let (app, alice) = TestApp::opened().await;
    let mut stream = Stream::open(&app, Some(&alice), &["main"]).await;
    stream.connect("main", "again", json!({})).await;
    stream.connect("nosuchchannel", "unknown", json!({})).await;
    stream.connect("antenna", "later", json!({ "antennaId": "1" })).await;
    stream.say("connect", json!({ "channel": "homeTimeline" })).await;
    stream.say("nosuchtype", json!({ "a": 1 })).await;
    stream.send("this is not json".to_owned()).await;
    stream.send("h".to_owned()).await;
    stream.connect("homeTimeline", "good", json!({})).await;
    assert_eq!(stream.next().await["body"]["id"], "good");

    let mut anybody = Stream::open(&app, None, &["localTimeline", "globalTimeline"]).await;
    for closed in ["main", "homeTimeline", "hybridTimeline"] {
        anybody.connect(closed, closed, json!({})).await;
    }
    anybody.heard().await;

    let closed = json!({ "policies": { "rateLimitFactor": 0, "ltlAvailable": false } });
    app.ok(&alice, "admin/roles/update-default-policies", closed).await;
    let mut late = Stream::open(&app, None, &["globalTimeline"]).await;
    late.connect("localTimeline", "local", json!({})).await;
    late.connect("globalTimeline", "global", json!({})).await;
    assert_eq!(late.next().await["body"]["id"], "global");
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_are_heard_by_those_whom_they_are_for() {
    let (app, alice) = TestApp::opened().await;
    let (bob, carol) = (app.sign_up("bob").await, app.sign_up("carol").await);
    app.ok(&bob, "following/create", json!({ "userId": alice.id })).await;
    let mut fan = Stream::open(&app, Some(&bob), &["homeTimeline"]).await;
    let mut stranger = Stream::open(&app, Some(&carol), &["homeTimeline", "globalTimeline"]).await;
    let mut anybody = Stream::open(&app, None, &["localTimeline"]).await;
    let write = async |text: &str, visibility: &str| {
        app.note(&alice, json!({ "text": text, "visibility": visibility })).await;
    };

    write("for all", "public").await;
    assert_eq!(fan.note().await, at("homeTimeline", "for all"));
    assert_eq!(stranger.note().await, at("globalTimeline", "for all"));
    assert_eq!(anybody.note().await, at("localTimeline", "for all"));

    write("for the home", "home").await;
    write("for followers", "followers").await;
    assert_eq!(fan.note().await, at("homeTimeline", "for the home"));
    assert_eq!(fan.note().await, at("homeTimeline", "for followers"));

    // A following counts from the moment it stands, and no longer.
    app.ok(&carol, "following/create", json!({ "userId": alice.id })).await;
    app.ok(&bob, "following/delete", json!({ "userId": alice.id })).await;
    write("for other followers", "followers").await;
    assert_eq!(stranger.note().await, at("homeTimeline", "for other followers"));

    // What somebody may not see of a note is hidden in the stream as well.
    let secret = app.note(&alice, json!({ "text": "secret", "visibility": "followers" })).await;
    assert_eq!(stranger.note().await, at("homeTimeline", "secret"));
    app.ok(&alice, "following/create", json!({ "userId": bob.id })).await;
    let mut author = Stream::open(&app, Some(&alice), &["homeTimeline"]).await;
    app.note(&carol, json!({ "text": "psst", "visibility": "home", "replyId": secret })).await;
    let (_, _, told) = stranger.event().await;
    assert_eq!((&told["text"], &told["reply"]["text"]), (&json!("psst"), &json!("secret")));
    app.ok(&bob, "following/create", json!({ "userId": carol.id })).await;
    app.ok(&bob, "following/update", json!({ "userId": carol.id, "withReplies": true })).await;
    app.note(&carol, json!({ "text": "again", "visibility": "home", "replyId": secret })).await;
    let (_, _, told) = fan.event().await;
    assert_eq!((&told["text"], &told["reply"]["isHidden"]), (&json!("again"), &json!(true)));
    assert_eq!(told["reply"]["text"], Value::Null);

    write("at the end", "public").await;
    assert_eq!(author.note().await, at("homeTimeline", "at the end"));
    assert_eq!(anybody.note().await, at("localTimeline", "at the end"));
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_notes_tell_those_who_may_see_them() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    app.ok(&bob, "following/create", json!({ "userId": alice.id })).await;
    let poll = json!({ "choices": ["tea", "coffee"] });
    let open = app.note(&alice, json!({ "text": "?", "poll": poll })).await;
    let closed = app.note(&alice, json!({ "text": "psst", "visibility": "followers" })).await;
    let (mut fan, mut anybody) =
        (Stream::open(&app, Some(&bob), &[]).await, Stream::open(&app, None, &[]).await);
    for stream in [&mut fan, &mut anybody] {
        for (kind, note) in [("s", &closed), ("sr", &open)] {
            stream.say(kind, json!({ "id": note })).await;
        }
        stream.heard().await;
    }

    app.ok(&bob, "notes/reactions/create", json!({ "noteId": closed, "reaction": "🎉" })).await;
    app.ok(&alice, "notes/delete", json!({ "noteId": closed })).await;
    app.ok(&bob, "notes/reactions/create", json!({ "noteId": open, "reaction": "👍" })).await;
    app.ok(&bob, "notes/reactions/delete", json!({ "noteId": open })).await;
    app.ok(&bob, "notes/polls/vote", json!({ "noteId": open, "choice": 1 })).await;

    let told = |note: &str, event: &str, body: Value| json!({ "type": "noteUpdated", "body": { "id": note, "type": event, "body": body } });
    let reacted = |reaction: &str| json!({ "reaction": reaction, "emoji": null, "userId": bob.id });
    assert_eq!(fan.next().await, told(&closed, "reacted", reacted("🎉")));
    let deleted = fan.next().await;
    assert_eq!((&deleted["body"]["id"], &deleted["body"]["type"]), (&json!(closed), &json!("deleted")));
    assert!(deleted["body"]["body"]["deletedAt"].is_string());
    for stream in [&mut fan, &mut anybody] {
        assert_eq!(stream.next().await, told(&open, "reacted", reacted("👍")));
        let taken_back = json!({ "reaction": "👍", "userId": bob.id });
        assert_eq!(stream.next().await, told(&open, "unreacted", taken_back));
        assert_eq!(stream.next().await, told(&open, "pollVoted", json!({ "choice": 1, "userId": bob.id })));
    }

    anybody.say("un", json!({ "id": open })).await;
    anybody.heard().await;
    app.ok(&alice, "notes/reactions/create", json!({ "noteId": open, "reaction": "👍" })).await;
    assert_eq!(fan.next().await["body"]["type"], "reacted");
    let mut listening = Stream::open(&app, None, &["globalTimeline"]).await;
    anybody.connect("globalTimeline", "g", json!({})).await;
    assert_eq!(anybody.next().await["type"], "connected");
    app.note(&alice, json!({ "text": "next" })).await;
    assert_eq!(listening.note().await, at("globalTimeline", "next"));
    assert_eq!(anybody.note().await, at("g", "next"));
}

#[tokio::test(flavor = "multi_thread")]
async fn main_tells_what_concerns_the_account() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    let mut main = Stream::open(&app, Some(&alice), &["main"]).await;

    app.ok(&bob, "following/create", json!({ "userId": alice.id })).await;
    let [followed, told] = main.events(["followed", "notification"]).await;
    assert_eq!((&followed["id"], &told["type"]), (&json!(bob.id), &json!("follow")));

    let note = app.note(&alice, json!({ "text": "hello" })).await;
    app.note(&bob, json!({ "text": "hi @root", "replyId": note })).await;
    let [mention, reply, told] = main.events(["mention", "reply", "notification"]).await;
    assert_eq!((&mention["text"], &reply["id"]), (&json!("hi @root"), &mention["id"]));
    assert_eq!((&told["type"], &told["note"]["id"]), (&json!("reply"), &mention["id"]));

    app.note(&bob, json!({ "renoteId": note })).await;
    let [renote, told] = main.events(["renote", "notification"]).await;
    assert_eq!((&renote["renoteId"], &told["type"]), (&json!(note), &json!("renote")));

    app.ok(&alice, "i/update", json!({ "description": "changed" })).await;
    let [me] = main.events(["meUpdated"]).await;
    assert_eq!((&me["description"], &me["id"]), (&json!("changed"), &json!(alice.id)));

    app.ok(&alice, "following/create", json!({ "userId": bob.id })).await;
    let [follow, _] = main.events(["follow", "notification"]).await;
    assert_eq!((&follow["id"], &follow["isFollowing"]), (&json!(bob.id), &json!(true)));
    app.ok(&alice, "following/delete", json!({ "userId": bob.id })).await;
    let [unfollow] = main.events(["unfollow"]).await;
    assert_eq!((&unfollow["id"], &unfollow["isFollowing"]), (&json!(bob.id), &json!(false)));

    app.ok(&alice, "i/update", json!({ "isLocked": true, "autoAcceptFollowed": false })).await;
    main.events(["meUpdated"]).await;
    let carol = app.sign_up("carol").await;
    app.ok(&carol, "following/create", json!({ "userId": alice.id })).await;
    let [asked, me, told] = main.events(["receiveFollowRequest", "meUpdated", "notification"]).await;
    assert_eq!((&asked["id"], &told["type"]), (&json!(carol.id), &json!("receiveFollowRequest")));
    assert_eq!(me["hasPendingReceivedFollowRequest"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_that_is_not_read_in_time_is_called_unread() {
    let (app, alice) = TestApp::opened().await;
    let bob = app.sign_up("bob").await;
    let note = app.note(&alice, json!({ "text": "hello" })).await;
    let mut main = Stream::open(&app, Some(&alice), &["main"]).await;

    app.ok(&bob, "notes/reactions/create", json!({ "noteId": note, "reaction": "👍" })).await;
    main.events(["notification"]).await;
    main.say("readNotification", json!({})).await;
    assert_eq!(main.events(["readAllNotifications"]).await, [Value::Null]);
    assert_eq!(app.ok(&alice, "i", json!({})).await["hasUnreadNotification"], false);

    app.ok(&bob, "notes/reactions/create", json!({ "noteId": note, "reaction": "🎉" })).await;
    let [told] = main.events(["notification"]).await;
    let [unread] = main.events(["unreadNotification"]).await;
    assert_eq!((&unread, &unread["reaction"]), (&told, &json!("🎉")));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_a_stream_open_is_online() {
    let (app, alice) = TestApp::opened().await;
    let status =
        async || app.ok(&alice, "users/show", json!({ "userId": alice.id })).await["onlineStatus"].clone();
    assert_eq!(status().await, "unknown");
    Stream::open(&app, Some(&alice), &["main"]).await;
    assert_eq!(status().await, "online");
}

/// Together they are more than what the two ends of a connection keep for one that doesn't read.
const LONG_NOTES: usize = 100;
const CHANNELS: usize = 32;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_dropped_and_others_hear_all() {
    let (app, alice) = TestApp::opened().await;
    let mut slow = Stream::open(&app, None, &["globalTimeline"; CHANNELS]).await;
    let mut quick = Stream::open(&app, None, &["globalTimeline"]).await;
    let long = "字".repeat(3_000);
    for _ in 0..LONG_NOTES {
        app.note(&alice, json!({ "text": long })).await;
        assert_eq!(quick.note().await, at("globalTimeline", &long));
    }
    let mut read = 0;
    while let Some(Ok(message)) = timeout(HEARD_WITHIN, slow.0.next()).await.unwrap() {
        match message {
            Message::Text(_) => read += 1,
            Message::Close(frame) => assert_eq!(frame.map(|frame| frame.code), Some(CloseCode::Again)),
            _ => (),
        }
    }
    assert!(read < LONG_NOTES * CHANNELS, "{read} frames were kept for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_closed_when_the_server_stops() {
    let (app, alice) = TestApp::opened().await;
    let mut streams = [
        Stream::open(&app, Some(&alice), &["main"]).await,
        Stream::open(&app, None, &["localTimeline"]).await,
    ];
    app.stop();
    for stream in &mut streams {
        match stream.message().await {
            Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Away),
            other => panic!("{other:?}"),
        }
        assert!(timeout(HEARD_WITHIN, stream.0.next()).await.unwrap().is_none_or(|end| end.is_err()));
    }
    timeout(HEARD_WITHIN, app.app.hub.drained()).await.unwrap();
}
