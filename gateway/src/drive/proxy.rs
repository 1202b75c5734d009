//! `/proxy/…`: pictures from elsewhere, made small and harmless, and the pictures of this server in the
//! sizes that clients ask for. Clients' addresses stay here.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lru::LruCache;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::incoming::NotReceived;
use super::kind::is_safe;
use super::picture::{NotLooked, Wanted};
use super::serve::{self, FOR_EVER, Kept, NotServed, guarded};
use crate::app::App;
use crate::fetch::FetchError;

/// The largest picture that is fetched, in bytes.
const MAX_FETCHED_BYTES: u64 = 25 * 1024 * 1024;
/// Pictures that are fetched at the same time; more wait.
const FETCHES_AT_ONCE: usize = 16;
/// Pictures kept in memory, and the largest of them, in bytes.
const MAX_KEPT: NonZeroUsize = NonZeroUsize::new(512).unwrap();
const MAX_KEPT_BYTES: usize = 128 * 1024;
/// What can't be shown is asked for again after so many seconds.
const MISSING: HeaderValue = HeaderValue::from_static("max-age=300");
const WEBP: &str = "image/webp";
/// One pixel that nobody sees.
pub(super) const NOTHING: &[u8] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\
    \x1f\x15\xc4\x89\x00\x00\x00\rIDATx\x9cc\xf8\xff\xff?\x03\x00\x08\xfc\x02\xfe\xe6\x1b\x8d\x1d\x00\x00\x00\x00\
    IEND\xaeB`\x82";

/// What the proxy remembers.
pub struct Proxy {
    kept: Mutex<LruCache<(String, Wanted), Bytes>>,
    slots: Semaphore,
}

impl Default for Proxy {
    fn default() -> Self {
        Self { kept: Mutex::new(LruCache::new(MAX_KEPT)), slots: Semaphore::new(FETCHES_AT_ONCE) }
    }
}

pub fn routes() -> Router<App> {
    Router::new().route("/proxy/{*what}", get(picture))
}

/// Flags are there or not, whatever they say.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    url: Option<String>,
    avatar: Option<String>,
    emoji: Option<String>,
    #[serde(rename = "static")]
    still: Option<String>,
    preview: Option<String>,
    badge: Option<String>,
    fallback: Option<String>,
}

impl Asked {
    /// As what it is wanted; none: as it is.
    fn wanted(&self) -> Option<Wanted> {
        let asked = [
            (&self.still, Wanted::Still),
            (&self.avatar, Wanted::Avatar),
            (&self.emoji, Wanted::Emoji),
            (&self.preview, Wanted::Preview),
            (&self.badge, Wanted::Emoji),
        ];
        asked.into_iter().find(|(flag, _)| flag.is_some()).map(|(_, wanted)| wanted)
    }
}

#[derive(Debug, thiserror::Error)]
enum NotShown {
    #[error("not a picture that can be shown")]
    NotAPicture,
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Received(#[from] NotReceived),
    #[error(transparent)]
    Looked(#[from] NotLooked),
    #[error(transparent)]
    Disk(#[from] std::io::Error),
    #[error("nothing is fetched any more")]
    Closed,
}

async fn picture(
    State(app): State<App>,
    Path(what): Path<String>,
    Query(asked): Query<Asked>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    // This or another server that asks itself.
    if agent.is_some_and(|agent| agent.starts_with("Kiroku/")) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let in_path = what.split_once('/').map(|(_, url)| url.to_owned());
    let Some(url) = asked.url.clone().or(in_path) else { return StatusCode::BAD_REQUEST.into_response() };
    let own = url.strip_prefix(app.config.url.as_str()).and_then(|path| path.strip_prefix("/files/"));
    let response = match own {
        Some(key) => {
            let key = key.split(['?', '#']).next().unwrap_or_default();
            own_picture(&app, key, asked.wanted(), &headers, &uri).await
        }
        None => match fetched(&app, url, asked.wanted()).await {
            Ok(response) => response,
            Err(cause) => {
                tracing::debug!(%cause, "a picture can't be shown");
                StatusCode::NOT_FOUND.into_response()
            }
        },
    };
    if response.status().is_client_error() {
        let mut missing = match asked.fallback {
            Some(_) => ([(header::CONTENT_TYPE, "image/png")], NOTHING).into_response(),
            None => response,
        };
        missing.headers_mut().insert(header::CACHE_CONTROL, MISSING);
        return guarded(missing);
    }
    response
}

/// A picture of this server: the small one of it, where that will do.
async fn own_picture(
    app: &App,
    key: &str,
    wanted: Option<Wanted>,
    headers: &HeaderMap,
    uri: &Uri,
) -> Response {
    let row = match serve::kept(&app.pool, key).await {
        Ok(row) => row,
        Err(error) => return serve::broken(&NotServed::from(error)),
    };
    let small = row.as_ref().filter(|row| row.key == key).and_then(|row| small_of(row, wanted));
    serve::answer(app, small.unwrap_or(key), headers, uri).await
}

fn small_of(row: &Kept, wanted: Option<Wanted>) -> Option<&str> {
    let moves = matches!(row.media_type.as_str(), "image/gif" | "image/apng");
    match wanted {
        None => None,
        Some(Wanted::Avatar | Wanted::Emoji) if moves => None,
        Some(_) => row.thumbnail.as_deref(),
    }
}

/// A picture from elsewhere.
async fn fetched(app: &App, url: String, wanted: Option<Wanted>) -> Result<Response, NotShown> {
    let proxy = &app.drive.proxy;
    let known = wanted.and_then(|wanted| proxy.known(&url, wanted));
    if let Some(known) = known {
        return Ok(shown(WEBP, known.into()));
    }
    let _slot = proxy.slots.acquire().await.map_err(|_| NotShown::Closed)?;
    let fetched = app.fetcher.get(&url, "image/*,*/*;q=0.5").await?;
    let received = app.drive.receive(None, MAX_FETCHED_BYTES, fetched.pieces()).await?;
    let media_type = received.kind().media_type;
    if !media_type.starts_with("image/") {
        return Err(NotShown::NotAPicture);
    }
    let Some(wanted) = wanted else {
        if !is_safe(&media_type) {
            return Err(NotShown::NotAPicture);
        }
        let file = tokio::fs::File::open(&received.file).await?;
        // The file is gone when it has been read, or nobody reads it any more.
        return Ok(shown(&media_type, Body::from_stream(pieces(file))));
    };
    let looked = app.drive.look(&received.file, wanted).await?;
    let small = looked.small().filter(|_| looked.findings.is_some()).ok_or(NotShown::NotAPicture)?;
    let small = Bytes::from(tokio::fs::read(small).await?);
    proxy.keep(url, wanted, &small);
    Ok(shown(WEBP, small.into()))
}

impl Proxy {
    fn known(&self, url: &str, wanted: Wanted) -> Option<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&(url.to_owned(), wanted)).cloned()
    }

    fn keep(&self, url: String, wanted: Wanted, picture: &Bytes) {
        if picture.len() <= MAX_KEPT_BYTES {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.put((url, wanted), picture.clone());
        }
    }
}

fn shown(media_type: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    if let Ok(media_type) = HeaderValue::from_str(media_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, FOR_EVER);
    guarded(response)
}

/// A file on disk, piece by piece.
fn pieces(file: tokio::fs::File) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    use tokio::io::AsyncReadExt;
    const PIECE_BYTES: usize = 64 * 1024;
    futures_util::stream::try_unfold(file, async |mut file| {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let read = (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece).await?;
        Ok((read > 0).then(|| (Bytes::from(piece), file)))
    })
}
