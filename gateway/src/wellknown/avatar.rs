//! `/avatar/@name` and `/avatar/@name@host`: where the picture of that person is.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use projections::Wanted;

use super::broken;
use crate::app::App;
use crate::json::Look;
use crate::json::user::avatar_url;
use crate::misskey::user::is_own;

/// The longest name that is looked at, in bytes.
const MAX_NAME_BYTES: usize = 512;
const CACHED: &str = "public, max-age=86400";

/// Whoever isn't there has the picture of those who have none.
pub async fn lead(State(app): State<App>, Path(of): Path<String>) -> Result<Response, StatusCode> {
    let of = of.strip_prefix('@').filter(|of| of.len() <= MAX_NAME_BYTES).ok_or(StatusCode::NOT_FOUND)?;
    let (name, host) = of.split_once('@').map_or((of, None), |(name, host)| (name, Some(host)));
    let host = host.filter(|host| !is_own(&app, host));
    let id = projections::user::by_username(&app.pool, name, host).await.map_err(broken)?;
    let world = app.hydrate(Wanted::users(id), None).await.map_err(|cause| {
        tracing::error!(?cause, "it isn't known where a picture is");
        StatusCode::INTERNAL_SERVER_ERROR
    })?;
    let user = id.and_then(|id| world.user(id)).filter(|user| !user.is_suspended);
    let url = user.map(|user| avatar_url(&Look::of(&app), user)).unwrap_or_else(|| {
        let name: String = url::form_urlencoded::byte_serialize(of.as_bytes()).collect();
        format!("{}/identicon/{name}", app.config.url)
    });
    Ok((StatusCode::FOUND, [(header::LOCATION, url.as_str()), (header::CACHE_CONTROL, CACHED)])
        .into_response())
}
