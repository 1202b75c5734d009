//! Whatever is sent to whichever endpoint: the answer is a success or an error as Misskey has them, and
//! never a failure of the server.

use gateway::api::http::MAX_BODY_BYTES;
use gateway::api::param::ID_FORMAT;
use gateway::misskey::registry;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Answer, TestApp, User};

/// Calls that would spoil the accounts that the other calls are made with.
const SPOILING: [&str; 1] = ["i/regenerate-token"];

/// Parameters up to which each is sent every value.
const MANY: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn no_value_of_a_parameter_breaks_an_endpoint() {
    let (app, root) = TestApp::opened().await;
    let note = app.note(&root, json!({ "text": "here" })).await;
    for entry in registry().entries().iter().filter(|entry| !SPOILING.contains(&entry.meta.path)) {
        let path = entry.meta.path;
        let good = sample(&entry.params, &note);
        let mut calls = vec![good.clone()];
        let names: Vec<&String> =
            entry.params["properties"].as_object().into_iter().flat_map(Map::keys).collect();
        // Where there are very many parameters, each has its turn with some of the values.
        let step = 1 + names.len() / MANY;
        for (at, name) in names.into_iter().enumerate() {
            for value in odd_values().into_iter().skip(at % step).step_by(step) {
                let mut params = good.clone();
                params[name] = value;
                calls.push(params);
            }
        }
        for params in calls {
            let told = shorten(&params);
            check(path, &told, &app.call(Some(&root), path, params).await);
        }
        check(path, "by nobody", &app.call(None, path, good).await);
    }
    app.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_breaks_an_endpoint() {
    let (app, _) = TestApp::opened().await;
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let bodies: [&[u8]; 13] = [
        b"",
        b"{",
        b"[]",
        b"[[]]",
        b"null",
        b"7",
        b"\"text\"",
        b"{\"i\":7}",
        b"{\"i\":\"\\ud800\"}",
        b"{\"i\":\"\xff\"}",
        b"{\"__proto__\":{}}",
        b"{\"limit\":1e999}",
        deep.as_bytes(),
    ];
    for path in registry().paths().filter(|path| !SPOILING.contains(path)) {
        for body in bodies {
            let told = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            check(path, &told, &app.post(path, body.to_vec()).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_body_is_refused_before_it_is_read() {
    let app = TestApp::start().await;
    let mut socket = TcpStream::connect(app.url.strip_prefix("http://").unwrap()).await.unwrap();
    let head =
        "POST /api/meta HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let size = MAX_BODY_BYTES + 1;
    socket.write_all(format!("{head}content-length: {size}\r\n\r\n{{").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_but_a_good_one_lets_anybody_in() {
    let (app, root) = TestApp::opened().await;
    let good = root.token.clone();
    let foreign =
        [String::new(), "x".repeat(16), good.to_uppercase() + "x", "é".to_owned(), "t".repeat(10_000)];
    for token in foreign {
        let somebody = User { token, ..root.clone() };
        for path in ["i", "meta", "notes/create", "admin/meta"] {
            let answer = app.call(Some(&somebody), path, json!({ "text": "x" })).await;
            check(path, "with a foreign token", &answer);
            let code = &answer.body["error"]["code"];
            assert_eq!((answer.status, code), (401, &json!("AUTHENTICATION_FAILED")), "{path}: {answer:?}");
        }
    }
    for entry in
        registry().entries().iter().filter(|entry| entry.credential > gateway::api::caller::Credential::None)
    {
        if entry.meta.multipart {
            // What is no form is not looked at.
            continue;
        }
        let answer = app.call(None, entry.meta.path, json!({})).await;
        let code = answer.body["error"]["code"].as_str().unwrap_or_default();
        assert!(["CREDENTIAL_REQUIRED", "ACCESS_DENIED"].contains(&code), "{}: {answer:?}", entry.meta.path);
    }
}

/// A success, or an error of the API, or of the server that reads its bodies.
fn check(path: &str, told: &str, answer: &Answer) {
    let Answer { status, body } = answer;
    let error = &body["error"];
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let of_the_api = ["message", "code", "id", "kind"].iter().all(|key| is_text(&error[key]));
    let of_the_body =
        body["statusCode"] == json!(status) && is_text(&body["code"]) && is_text(&body["message"]);
    let good = match status {
        200 => body["notJson"].is_null(),
        204 => body.is_null(),
        400..500 => of_the_api || of_the_body || (error.is_object() && is_text(&error["id"])),
        _ => false,
    };
    assert!(good, "{path} {told}: {}", shorten(&json!({ "status": status, "body": body })));
}

/// What hardly any parameter expects.
fn odd_values() -> Vec<Value> {
    let mut deep = json!(1);
    for _ in 0..60 {
        deep = json!([deep]);
    }
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(9_007_199_254_740_993_i64),
        json!(i64::MIN),
        json!(1e308),
        json!(""),
        json!("\0"),
        json!("zzzzzzzzzzzzzzzz"),
        json!("01J0000000000000000000000A"),
        json!("💥".repeat(10_000)),
        json!([]),
        json!(["", "\0", 1, null, {}]),
        json!(vec!["a"; 1_000]),
        json!({ "": { "\0": [] } }),
        deep,
    ]
}

/// Parameters that keep the schema.
fn sample(schema: &Value, id: &str) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    if let Some(branch) = schema["anyOf"].get(0).or(schema["oneOf"].get(0))
        && schema["properties"].is_null()
    {
        return sample(branch, id);
    }
    let kind = schema["type"].as_str().or(schema["type"][0].as_str());
    match kind {
        Some("string") if schema["format"] == ID_FORMAT => json!(id),
        Some("string") => json!("a".repeat(schema["minLength"].as_u64().unwrap_or(3) as usize)),
        Some("integer" | "number") => json!(schema["minimum"].as_i64().unwrap_or(1)),
        Some("boolean") => json!(false),
        Some("array") => json!([sample(&schema["items"], id)]),
        Some("object") => {
            let required: Vec<&str> =
                schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let properties = schema["properties"].as_object().into_iter().flatten();
            let needed = properties.filter(|(name, _)| required.contains(&name.as_str()));
            Value::Object(needed.map(|(name, schema)| (name.clone(), sample(schema, id))).collect())
        }
        _ => Value::Null,
    }
}

fn shorten(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}
