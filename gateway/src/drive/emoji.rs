//! The pictures of custom emoji: copies of files that are the server's own, and `/emoji/NAME.webp`, which leads
//! to one by name.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use domain::EmojiId;
use domain::emoji::Picture;
use projections::world::FileRow;
use serde::Deserialize;
use url::form_urlencoded::byte_serialize;

use super::incoming::Received;
use super::keep::{THUMBNAIL, key};
use super::kind::is_safe;
use super::picture::{Looked, Wanted, is_readable};
use super::proxy::NOTHING;
use super::serve::{NotServed, broken};
use crate::api::ApiError;
use crate::app::App;
use crate::json::emoji::picture_url;

/// An emoji may be another picture tomorrow.
const A_DAY: HeaderValue = HeaderValue::from_static("public, max-age=86400");
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");

pub fn routes() -> Router<App> {
    Router::new().route("/emoji/{file}", get(show))
}

/// Copies a file to be the picture of an emoji; none when its bytes aren't there. Until an event names it, it is a
/// stray.
pub async fn copied(app: &App, emoji: EmojiId, file: &FileRow) -> Result<Option<Picture>, ApiError> {
    let picture = Picture {
        key: key(),
        thumbnail: file.thumbnail.as_ref().map(|_| format!("{THUMBNAIL}{}", key())),
        media_type: file.media_type.clone(),
    };
    app.drive.note_picture(&app.pool, emoji, &picture, app.now()).await?;
    let small = file.thumbnail.as_ref().zip(picture.thumbnail.as_ref());
    for (from, to) in [Some((&file.key, &picture.key)), small].into_iter().flatten() {
        if !app.drive.store.copy(file.owner, from, to).await.map_err(ApiError::internal)? {
            app.drive.discard_picture(&app.pool, &picture).await;
            return Ok(None);
        }
    }
    Ok(Some(picture))
}

/// Makes what came in the picture of an emoji; none when it is no picture that browsers show as it is. Until an event
/// names it, it is a stray.
pub async fn made(app: &App, emoji: EmojiId, received: &Received) -> Result<Option<Picture>, ApiError> {
    let media_type = received.kind().media_type;
    if !media_type.starts_with("image/") || !is_safe(&media_type) {
        return Ok(None);
    }
    let looked = match is_readable(&media_type) {
        true => Some(app.drive.look(&received.file, Wanted::Upload).await.map_err(ApiError::internal)?),
        false => None,
    };
    let small = looked.as_ref().filter(|looked| looked.findings.is_some()).and_then(Looked::small);
    let clean = looked.as_ref().and_then(Looked::clean);
    let thumbnail = small.as_ref().map(|_| format!("{THUMBNAIL}{}", key()));
    let picture = Picture { key: key(), thumbnail, media_type };
    app.drive.note_picture(&app.pool, emoji, &picture, app.now()).await?;
    let bytes = clean.unwrap_or_else(|| received.file.to_path_buf());
    app.drive.store.put(None, &picture.key, bytes).await.map_err(ApiError::internal)?;
    if let (Some(small), Some(key)) = (small, &picture.thumbnail) {
        app.drive.store.put(None, key, small).await.map_err(ApiError::internal)?;
    }
    Ok(Some(picture))
}

/// Flags are there or not, whatever they say.
#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(rename = "static")]
    still: Option<String>,
    badge: Option<String>,
    fallback: Option<String>,
}

async fn show(State(app): State<App>, Path(file): Path<String>, Query(asked): Query<Asked>) -> Response {
    let mut response = match found(&app, &file, &asked).await {
        Ok(Some(to)) => (StatusCode::FOUND, [(LOCATION, to)]).into_response(),
        Ok(None) if asked.fallback.is_some() => ([(CONTENT_TYPE, "image/png")], NOTHING).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(cause) => return broken(&cause),
    };
    response.headers_mut().insert(CACHE_CONTROL, A_DAY);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
    response
}

/// Where the emoji of `NAME.webp` or `NAME@.webp` is shown.
async fn found(app: &App, file: &str, asked: &Asked) -> Result<Option<String>, NotServed> {
    let Some(name) = file.strip_suffix(".webp") else { return Ok(None) };
    let name = name.strip_suffix("@.").unwrap_or(name);
    let Some(emoji) = projections::emoji::by_name(&app.pool, name).await? else { return Ok(None) };
    let origin = app.config.url.as_str();
    let url = picture_url(origin, &emoji.definition.picture);
    let url: String = byte_serialize(url.as_bytes()).collect();
    let flags = match asked {
        Asked { badge: Some(_), .. } => "badge=1",
        Asked { still: Some(_), .. } => "emoji=1&static=1",
        _ => "emoji=1",
    };
    Ok(Some(format!("{origin}/proxy/emoji/{url}?{flags}")))
}
