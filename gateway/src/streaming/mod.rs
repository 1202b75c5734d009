//! Streaming: `/streaming`, one WebSocket for all that a client wants to hear.
//!
//! What happens reaches a socket so:
//! - the [`hub`] reads each new event once, when the read models show it;
//! - [`listeners`] knows who is there, what they listen to ([`channel`]) and whom they follow, so it finds
//!   the receivers without asking the database;
//! - the policy decides for each viewer whether they may see a note, and [`telling`] makes its text once for
//!   all who see the same; [`errands`] makes what only one person is told on `main`;
//! - [`leaving`] ends the sockets whose token has ended, on whatever process that was;
//! - each [`socket`] puts its channel's name around the shared text ([`frame`]) and writes it.
//!
//! Nothing waits without a bound: a socket that falls behind is closed, and its client looks for itself.
//!
//! To add a channel: a `Kind` and its line in `receives`. To add an event of `main`: a line in `errands`.

mod channel;
mod errands;
mod frame;
mod hub;
mod leaving;
mod listeners;
mod socket;
mod telling;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use crate::api::SignedIn;
use crate::api::client::network_of;
use crate::api::error::AUTHENTICATION_FAILED;
use crate::api::http::{client_of, refusal};
use crate::app::App;
use crate::ops::tokens::TokenHash;

pub use hub::{Hub, Sources, concerned};

use listeners::Visitor;

/// The permission that an app needs.
const PERMISSION: &str = "read:account";
/// Read at once from a connection, in bytes; held by every socket.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Written at once, in bytes; held by every socket.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// The most that may wait to be written, in bytes; more is a failed connection.
const MAX_WRITE_BUFFER_BYTES: usize = 1024 * 1024;

pub fn routes() -> Router<App> {
    Router::new().route("/streaming", any(handshake))
}

async fn handshake(
    State(app): State<App>,
    parts: Parts,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let (uri, headers) = (&parts.uri, &parts.headers);
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) if headers.contains_key(header::UPGRADE) => return rejection.into_response(),
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    let token = token(uri, headers);
    let caller = match app.core.authenticate(token.as_deref()).await {
        Ok(caller) => caller,
        Err(error) if error.def() == AUTHENTICATION_FAILED => return unauthorized(),
        Err(error) => return refusal(&error),
    };
    if let Some(refused) = caller.as_ref().and_then(turn_away) {
        return refused;
    }
    let visitor = Visitor {
        viewer: caller.as_ref().map(SignedIn::id),
        token: token.as_deref().map(TokenHash::of),
        network: network_of(client_of(&app.core, &parts)),
    };
    if app.hub.is_full() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if app.hub.is_crowded(&visitor) {
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(frame::MAX_MESSAGE_BYTES)
        .max_frame_size(frame::MAX_MESSAGE_BYTES)
        .on_upgrade(move |socket| socket::serve(app, caller, visitor, socket))
}

fn turn_away(caller: &SignedIn) -> Option<Response> {
    let scoped = |app: &crate::ops::tokens::AppGrant| app.permission.iter().any(|kind| kind == PERMISSION);
    if caller.account.is_suspended || caller.account.is_deleted {
        Some(StatusCode::FORBIDDEN.into_response())
    } else if caller.app.as_ref().is_some_and(|app| !scoped(app)) {
        Some(unauthorized())
    } else {
        None
    }
}

fn unauthorized() -> Response {
    const CHALLENGE: &str =
        r#"Bearer realm="Misskey", error="invalid_token", error_description="Failed to authenticate""#;
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, CHALLENGE)]).into_response()
}

/// The token of a handshake: from the header, else from the query. An empty one is a wrong one.
fn token(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(token) = header.and_then(|value| value.strip_prefix("Bearer ")) {
        return Some(token.to_owned());
    }
    let mut query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    query.find(|(name, _)| name == "i").map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(uri: &str, authorization: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        token(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn the_token_is_in_the_header_or_the_query() {
        assert_eq!(sent("/streaming", None), None);
        assert_eq!(sent("/streaming?i=", None).as_deref(), Some(""));
        assert_eq!(sent("/streaming?_t=1&i=a%2Bb", None).as_deref(), Some("a+b"));
        assert_eq!(sent("/streaming?i=query", Some("Bearer header")).as_deref(), Some("header"));
        assert_eq!(sent("/streaming?i=query", Some("anonymous")).as_deref(), Some("query"));
    }
}
