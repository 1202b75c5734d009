//! Web Push: what browsers are told, as the service worker of Misskey's client reads it.

use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use domain::NotificationId;
use serde_json::{Map, Value, json};

use super::{ALL_READ, Outcome, Trouble, is_for_good, is_here};
use crate::app::App;
use crate::json::Look;
use crate::json::notification::{notification as present, wanted};
use crate::ops::deliveries::Delivery;
use crate::webpush::{MAX_TOLD_BYTES, PushError, seal};

/// How long a push service keeps it for a device that is off: four weeks.
const KEPT_FOR: HeaderValue = HeaderValue::from_static("2419200");
const TTL: HeaderName = HeaderName::from_static("ttl");
const ENCODING: HeaderValue = HeaderValue::from_static("aes128gcm");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// The longest text of a note that is told, in characters.
const MAX_TEXT_CHARS: usize = 300;

/// Tells a device.
pub async fn deliver(app: &App, delivery: &Delivery) -> Result<Outcome, Trouble> {
    let Some(device) = app.core.subscriptions.get(delivery.target).await? else { return Ok(Outcome::Done) };
    let settings = projections::instance::load(&app.pool).await?.settings;
    if !settings.flag("enableServiceWorker") || !is_here(app, delivery.user).await? {
        return Ok(Outcome::Done);
    }
    let body = match delivery.what.as_str() {
        ALL_READ => Some(Value::Null),
        _ => notification(app, delivery).await?,
    };
    let Some(body) = body else { return Ok(Outcome::Done) };
    let told = told(delivery, body);
    let (headers, sealed) = match message(app, &device.endpoint, &told) {
        Ok(message) => message,
        Err(why) => {
            tracing::debug!(%why, "a device can't be told anything");
            return Ok(Outcome::Done);
        }
    };
    Ok(match app.fetcher.post(&device.endpoint.url, headers, sealed).await {
        // It has gone.
        Ok(404 | 410) => {
            app.core.subscriptions.forget(Some(device.user), &device.endpoint.url).await?;
            Outcome::Done
        }
        Ok(429 | 500..) => Outcome::Again,
        Ok(200..300) => Outcome::Done,
        Ok(status) => {
            tracing::debug!(status, "a push service takes nothing");
            Outcome::Done
        }
        Err(error) if is_for_good(&error) => Outcome::Done,
        Err(_) => Outcome::Again,
    })
}

fn message(
    app: &App,
    endpoint: &crate::ops::subscriptions::Endpoint,
    told: &[u8],
) -> Result<(HeaderMap, Vec<u8>), PushError> {
    let sealed = seal(&endpoint.public_key, &endpoint.auth, told)?;
    let authorization = app.vapid.authorize(&endpoint.url, &app.config.url, app.now())?;
    let authorization = HeaderValue::from_str(&authorization).map_err(|_| PushError::Address)?;
    let headers = [
        (AUTHORIZATION, authorization),
        (CONTENT_ENCODING, ENCODING),
        (CONTENT_TYPE, BYTES),
        (TTL, KEPT_FOR),
    ];
    Ok((headers.into_iter().collect(), sealed))
}

/// The notification, if it is there and has not been read.
async fn notification(app: &App, delivery: &Delivery) -> Result<Option<Value>, Trouble> {
    let Some(id) = delivery.about.map(NotificationId) else { return Ok(None) };
    let unread = projections::notification::unread(&app.pool, delivery.user, id).await?;
    let Some(row) = unread else { return Ok(None) };
    let world = app.hydrate(wanted(std::slice::from_ref(&row)), Some(delivery.user)).await?;
    let shown = present(&Look::of(app), &world, &row).map(serde_json::to_value);
    Ok(shown.transpose().map_err(crate::api::ApiError::internal)?)
}

/// What is told, cut to what fits.
fn told(delivery: &Delivery, body: Value) -> Vec<u8> {
    let mut told = json!({
        "type": delivery.what,
        "userId": delivery.user,
        "dateTime": delivery.at.timestamp_millis(),
    });
    if let Value::Object(body) = body {
        told["body"] = Value::Object(short(body));
    }
    let mut bytes = told.to_string().into_bytes();
    // What is large beside the note is pictures and the profiles of roles and people.
    for less in [
        "/body/note/files",
        "/body/icon",
        "/body/role",
        "/body/note",
        "/body/user/avatarDecorations",
        "/body/user",
    ] {
        if bytes.len() <= MAX_TOLD_BYTES {
            break;
        }
        if let Some(value) = told.pointer_mut(less) {
            *value = Value::Null;
            bytes = told.to_string().into_bytes();
        }
    }
    bytes
}

/// The notification with no more of its note than is shown.
fn short(mut body: Map<String, Value>) -> Map<String, Value> {
    let is_renote = body.get("type").is_some_and(|kind| kind == "renote");
    if let Some(Value::Object(note)) = body.get_mut("note") {
        let renoted = note.remove("renote").filter(|_| is_renote);
        let text = summary(renoted.as_ref().and_then(Value::as_object).unwrap_or(note));
        for left_out in ["cw", "reply", "user"] {
            note.remove(left_out);
        }
        note.insert("text".to_owned(), text.into());
    }
    for text in ["body", "message"] {
        if let Some(Value::String(long)) = body.get_mut(text) {
            *long = cut(long);
        }
    }
    body
}

/// A note in one line: its warning or its text, and that there is more.
fn summary(note: &Map<String, Value>) -> String {
    let text = |key| note.get(key).and_then(Value::as_str);
    let mut summary = cut(text("cw").or_else(|| text("text")).unwrap_or_default());
    let files = note.get("files").and_then(Value::as_array).map_or(0, Vec::len);
    if files > 0 {
        summary += &format!(" (📎{files})");
    }
    if note.contains_key("poll") {
        summary += " (📊)";
    }
    summary
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use domain::UserId;
    use uuid::Uuid;

    fn pushed(body: Value) -> Value {
        let delivery = Delivery {
            id: Uuid::nil(),
            target: Uuid::nil(),
            is_push: true,
            user: UserId(Uuid::nil()),
            what: "notification".to_owned(),
            about: None,
            other: None,
            at: DateTime::UNIX_EPOCH,
            due_at: DateTime::UNIX_EPOCH,
            attempts: 1,
        };
        let told = told(&delivery, body);
        assert!(told.len() <= MAX_TOLD_BYTES, "{}", told.len());
        serde_json::from_slice(&told).unwrap()
    }

    #[test]
    fn a_note_is_told_in_one_line_without_what_hangs_on_it() {
        let note = json!({
            "id": "n", "text": "secret", "cw": "warning", "reply": { "id": "r" }, "user": { "id": "u" },
            "files": [{}, {}], "poll": {},
        });
        let told = pushed(json!({ "type": "mention", "note": note }));
        let note = json!({ "id": "n", "text": "warning (📎2) (📊)", "files": [{}, {}], "poll": {} });
        assert_eq!(told["body"], json!({ "type": "mention", "note": note }));
        let renote = json!({ "id": "n", "text": null, "renote": { "id": "m", "text": "said" } });
        let told = pushed(json!({ "type": "renote", "note": renote }));
        assert_eq!(told["body"]["note"], json!({ "id": "n", "text": "said" }));
        assert_eq!(pushed(Value::Null).get("body"), None);
    }

    #[test]
    fn whatever_is_told_fits() {
        let files: Vec<Value> = (0..16).map(|n| json!({ "url": "x".repeat(500), "n": n })).collect();
        let note = json!({ "id": "n", "text": "あ".repeat(3_000), "files": files });
        let told = pushed(json!({ "id": "i", "type": "reply", "note": note, "user": { "name": "b" } }));
        assert_eq!(told["body"]["note"]["files"], Value::Null);
        assert!(told["body"]["note"]["text"].as_str().unwrap().starts_with("あああ"));
        let told = pushed(json!({ "id": "i", "type": "app", "body": "い".repeat(4_096) }));
        assert_eq!(told["body"]["body"].as_str().unwrap().chars().count(), MAX_TEXT_CHARS + 1);
    }
}
