//! What crosses a socket: the messages of a client, and the frames for it. The body of a frame is made
//! once and shared; only the short text around it is the socket's own.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use domain::NoteId;
use serde_json::Value;

use super::channel::{Kind, Params};

/// The largest message of a client, in bytes; a socket that sends a larger one is closed.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// The longest id that a client may give to a channel, in bytes.
pub const MAX_CHANNEL_ID_BYTES: usize = 128;

/// What a client says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Connect { kind: Kind, id: ChannelId, params: Params, pong: bool },
    Disconnect(ChannelId),
    Capture(NoteId),
    Release(NoteId),
    ReadNotifications,
}

/// A client's name for one of its channels, kept as JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChannelId(Arc<str>);

/// What is sent to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// An event of a channel; the body is JSON text.
    Channel {
        id: ChannelId,
        kind: Kind,
        event: &'static str,
        body: Arc<str>,
    },
    /// A change of a captured note, whole: the same text for every socket.
    Captured(Utf8Bytes),
    /// What everybody who is here is told, whole.
    Everybody(Utf8Bytes),
    Connected(ChannelId),
}

/// Reads a message. None for what is not understood, which is passed over: heartbeats, other channels,
/// other types, anything malformed.
pub fn read(text: &str) -> Option<Said> {
    let message: Value = serde_json::from_str(text).ok()?;
    let body = message.get("body").unwrap_or(&Value::Null);
    let note = || body.get("id")?.as_str()?.parse().ok();
    match message.get("type")?.as_str()? {
        "connect" => {
            let kind = Kind::named(body.get("channel")?.as_str()?)?;
            Some(Said::Connect {
                kind,
                id: ChannelId::read(body)?,
                params: Params::read(kind, body.get("params").unwrap_or(&Value::Null))?,
                pong: body.get("pong").and_then(Value::as_bool).unwrap_or(false),
            })
        }
        "disconnect" => ChannelId::read(body).map(Said::Disconnect),
        "subNote" | "s" | "sr" => note().map(Said::Capture),
        "unsubNote" | "un" => note().map(Said::Release),
        "readNotification" => Some(Said::ReadNotifications),
        _ => None,
    }
}

impl ChannelId {
    fn read(body: &Value) -> Option<Self> {
        let id = body.get("id")?;
        let short = id.as_str().is_some_and(|text| text.len() <= MAX_CHANNEL_ID_BYTES);
        short.then(|| Self(id.to_string().into()))
    }
}

impl Frame {
    pub fn text(self) -> Utf8Bytes {
        match self {
            Frame::Channel { id, event, body, .. } => {
                let parts = [
                    r#"{"type":"channel","body":{"id":"#,
                    &*id.0,
                    r#","type":""#,
                    event,
                    r#"","body":"#,
                    &*body,
                    "}}",
                ];
                parts.concat().into()
            }
            Frame::Captured(text) | Frame::Everybody(text) => text,
            Frame::Connected(id) => [r#"{"type":"connected","body":{"id":"#, &*id.0, "}}"].concat().into(),
        }
    }

    /// What it is counted as.
    pub fn label(&self) -> &'static str {
        match self {
            Frame::Channel { kind, .. } => kind.name(),
            Frame::Captured(_) => "capture",
            Frame::Everybody(_) => "everybody",
            Frame::Connected(_) => "connected",
        }
    }
}

/// The frame of what everybody is told.
pub fn to_everybody(event: &'static str, body: &Value) -> Frame {
    Frame::Everybody(format!(r#"{{"type":"{event}","body":{body}}}"#).into())
}

/// The frame for a change of a captured note.
pub fn note_updated(note: NoteId, event: &'static str, body: &Value) -> Frame {
    let text = format!(r#"{{"type":"noteUpdated","body":{{"id":"{note}","type":"{event}","body":{body}}}}}"#);
    Frame::Captured(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn id(text: &str) -> ChannelId {
        ChannelId(Value::from(text).to_string().into())
    }

    #[test]
    fn messages_are_read_by_all_their_names() {
        let note: NoteId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let about = |kind: &str| format!(r#"{{"type":"{kind}","body":{{"id":"{note}"}}}}"#);
        for kind in ["subNote", "s", "sr"] {
            assert_eq!(read(&about(kind)), Some(Said::Capture(note)), "{kind}");
        }
        for kind in ["unsubNote", "un"] {
            assert_eq!(read(&about(kind)), Some(Said::Release(note)), "{kind}");
        }
        assert_eq!(read(r#"{"type":"readNotification"}"#), Some(Said::ReadNotifications));
        let connect = r#"{"type":"connect","body":{"channel":"main","id":"1","pong":true}}"#;
        let params = Params::read(Kind::Main, &Value::Null).unwrap();
        assert_eq!(read(connect), Some(Said::Connect { kind: Kind::Main, id: id("1"), params, pong: true }));
        let disconnect = r#"{"type":"disconnect","body":{"id":"1"}}"#;
        assert_eq!(read(disconnect), Some(Said::Disconnect(id("1"))));
    }

    #[test]
    fn anything_else_is_passed_over() {
        let long = "x".repeat(MAX_CHANNEL_ID_BYTES + 1);
        let connect = |body: &str| format!(r#"{{"type":"connect","body":{body}}}"#);
        for text in [
            "h",
            "",
            "null",
            "[]",
            r#"{"type":1}"#,
            r#"{"type":"nosuchtype","body":{"a":1}}"#,
            r#"{"type":"ch","body":{"id":"1","type":"x"}}"#,
            r#"{"type":"s","body":{"id":7}}"#,
            r#"{"type":"s","body":{"id":"no id"}}"#,
            &connect(r#"{"channel":"main"}"#),
            &connect(r#"{"channel":"main","id":1}"#),
            &connect(r#"{"channel":"nosuchchannel","id":"1"}"#),
            &connect(&format!(r#"{{"channel":"main","id":"{long}"}}"#)),
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_frame_is_the_body_with_little_around_it() {
        let frame = Frame::Channel {
            id: id("a\"b"),
            kind: Kind::Home,
            event: "note",
            body: json!({ "id": "x" }).to_string().into(),
        };
        let text: Value = serde_json::from_str(&frame.text()).unwrap();
        assert_eq!(
            text,
            json!({ "type": "channel", "body": { "id": "a\"b", "type": "note", "body": { "id": "x" } } })
        );
        let text: Value = serde_json::from_str(&Frame::Connected(id("1")).text()).unwrap();
        assert_eq!(text, json!({ "type": "connected", "body": { "id": "1" } }));
        let note: NoteId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let text: Value =
            serde_json::from_str(&note_updated(note, "pollVoted", &json!({ "choice": 1 })).text()).unwrap();
        assert_eq!(
            text,
            json!({ "type": "noteUpdated", "body": { "id": note, "type": "pollVoted", "body": { "choice": 1 } } })
        );
    }
}
