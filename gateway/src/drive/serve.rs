//! `/files/KEY`: the bytes of a file, to whoever knows its key.

use std::ops::Range;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use domain::UserId;
use domain::emoji::{Definition, Picture};
use projections::world::FileRow;
use serde_json::json;
use sqlx::PgPool;

use super::keep::is_key;
use super::kind::{UNKNOWN, is_safe};
use super::store::Found;
use crate::api::http::json_response;
use crate::app::App;

/// A file never changes: whoever has it need not ask again.
pub(super) const FOR_EVER: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");
const A_DAY: HeaderValue = HeaderValue::from_static("max-age=86400");
/// Nothing in a file runs or loads anything, also when it is opened by itself.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox",
);
const THUMBNAIL_TYPE: &str = "image/webp";

pub fn routes() -> Router<App> {
    Router::new().route("/files/{key}", get(file))
}

async fn file(State(app): State<App>, Path(key): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    answer(&app, &key, &headers, &uri).await
}

/// The bytes under a key, or what is said where there are none.
pub(super) async fn answer(app: &App, key: &str, headers: &HeaderMap, uri: &Uri) -> Response {
    match find(app, key, headers).await {
        Ok(Some(found)) => guarded(found),
        Ok(None) => guarded(missing(uri)),
        Err(cause) => broken(&cause),
    }
}

pub(super) fn broken(cause: &NotServed) -> Response {
    tracing::error!(%cause, "a file can't be served");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// The answer, so that a browser runs nothing in it.
pub(super) fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn missing(uri: &Uri) -> Response {
    let message = format!("Route GET:{} not found", uri.path());
    let body = json!({ "message": message, "error": "Not Found", "statusCode": 404 });
    let mut response = json_response(StatusCode::NOT_FOUND, &body);
    response.headers_mut().insert(header::CACHE_CONTROL, A_DAY);
    response
}

/// Why a file can't be served that is there.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotServed {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Store(#[from] super::store::StoreError),
    #[error(transparent)]
    Header(#[from] header::InvalidHeaderValue),
}

/// What is kept under a key, or what is kept smaller there.
pub(super) struct Kept {
    /// None: the server's own.
    owner: Option<UserId>,
    name: String,
    pub media_type: String,
    pub key: String,
    pub thumbnail: Option<String>,
}

pub(super) async fn kept(pool: &PgPool, key: &str) -> sqlx::Result<Option<Kept>> {
    if let Some(file) = projections::drive::by_key(pool, key).await? {
        let FileRow { owner, name, media_type, key, thumbnail, .. } = file;
        return Ok(Some(Kept { owner: Some(owner), name, media_type, key, thumbnail }));
    }
    Ok(projections::emoji::by_key(pool, key).await?.map(|emoji| {
        let Definition { name, picture: Picture { key, thumbnail, media_type }, .. } = emoji.definition;
        Kept { owner: None, name, media_type, key, thumbnail }
    }))
}

async fn find(app: &App, key: &str, asked: &HeaderMap) -> Result<Option<Response>, NotServed> {
    if !is_key(key) {
        return Ok(None);
    }
    let Some(row) = kept(&app.pool, key).await? else { return Ok(None) };
    let is_whole = row.key == key;
    let media_type = match is_whole {
        false => THUMBNAIL_TYPE,
        true if is_safe(&row.media_type) => &row.media_type,
        true => UNKNOWN,
    };
    let store = &app.drive.store;
    let range = match asked.get(header::RANGE).and_then(|value| value.to_str().ok()) {
        Some(text) => {
            let Some(size) = store.size(row.owner, key).await? else { return Ok(None) };
            match part(text, size) {
                Part::Beyond => {
                    let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
                    let all = HeaderValue::from_str(&format!("bytes */{size}"))?;
                    response.headers_mut().insert(header::CONTENT_RANGE, all);
                    return Ok(Some(response));
                }
                Part::Of(range) => Some(range),
                Part::All => None,
            }
        }
        None => None,
    };
    let Some(Found { size, bytes }) = store.get(row.owner, key, range.clone()).await? else {
        return Ok(None);
    };
    let mut response = Response::new(Body::from_stream(bytes));
    let length = range.as_ref().map_or(size, |range| range.end - range.start);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(media_type)?);
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CACHE_CONTROL, FOR_EVER);
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_str(&disposition(&row.name))?);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(Range { start, end }) = range {
        let told = format!("bytes {start}-{}/{size}", end - 1);
        headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(&told)?);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(Some(response))
}

/// Which bytes are asked for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    All,
    Of(Range<u64>),
    Beyond,
}

/// Reads a `Range`. Several ranges, or what is none, are answered with the whole, as one may.
fn part(asked: &str, size: u64) -> Part {
    let Some((first, last)) = asked.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Part::All;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            Some(count) => size.saturating_sub(count)..size,
            None => return Part::All,
        },
        (first, "") => match number(first) {
            Some(first) => first..size,
            None => return Part::All,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
            _ => return Part::All,
        },
    };
    if range.start >= range.end { Part::Beyond } else { Part::Of(range) }
}

/// How a browser names the file when it is saved: plainly for old ones, and in full.
fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !"\"\\%".contains(c) || c == ' ' { c } else { '_' })
        .collect();
    if plain == name {
        return format!("inline; filename=\"{plain}\"");
    }
    let full: String = name
        .bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect();
    format!("inline; filename=\"{plain}\"; filename*=UTF-8''{full}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_within_the_file() {
        for (asked, expected) in [
            ("bytes=0-9", Part::Of(0..10)),
            ("bytes=90-", Part::Of(90..100)),
            ("bytes=-10", Part::Of(90..100)),
            ("bytes=-1000", Part::Of(0..100)),
            ("bytes=50-1000", Part::Of(50..100)),
            ("bytes=100-", Part::Beyond),
            ("bytes=-0", Part::Beyond),
            ("bytes=5-4", Part::All),
            ("bytes=0-1,5-6", Part::All),
            ("items=0-1", Part::All),
            ("bytes=a-b", Part::All),
        ] {
            assert_eq!(part(asked, 100), expected, "{asked}");
        }
        assert_eq!(part("bytes=0-0", 0), Part::Beyond);
    }

    #[test]
    fn a_name_is_told_so_that_nothing_breaks_out() {
        assert_eq!(disposition("a b.png"), "inline; filename=\"a b.png\"");
        assert_eq!(
            disposition("a\"b\r\n.png"),
            "inline; filename=\"a_b__.png\"; filename*=UTF-8''a%22b%0D%0A.png"
        );
        assert_eq!(disposition("日.png"), "inline; filename=\"_.png\"; filename*=UTF-8''%E6%97%A5.png");
    }
}
