//! What other programs look for at fixed places: what this server is (NodeInfo), who is here (WebFinger,
//! host-meta), whom to index (robots.txt), where the pictures of people are, and one for those who have none.
//!
//! While the server federates with nobody, people are not discovered: WebFinger and host-meta answer 403, as
//! Misskey's do.

mod avatar;
mod host_meta;
mod identicon;
mod nodeinfo;
mod oauth;
mod webfinger;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use domain::instance::Instance;

use crate::app::App;

const ROBOTS: &str = "user-agent: *\nallow: /\ndisallow: /api/\n";

/// Everything of this module.
pub fn routes() -> Router<App> {
    let open = Router::new()
        .route("/.well-known/nodeinfo", document(nodeinfo::links))
        .route("/.well-known/oauth-authorization-server", document(oauth::describe))
        .route("/.well-known/host-meta", document(host_meta::xml))
        .route("/.well-known/host-meta.json", document(host_meta::json))
        .route("/.well-known/webfinger", document(webfinger::find))
        .route("/nodeinfo/2.0", document(nodeinfo::v2_0))
        .route("/nodeinfo/2.1", document(nodeinfo::v2_1))
        .layer(map_response(allow_any_site));
    open.route("/avatar/{of}", get(avatar::lead))
        .route("/identicon/{of}", get(identicon::picture))
        .route("/robots.txt", get(robots))
}

/// Lets a request through only while the server federates.
struct Federating;

impl FromRequestParts<App> for Federating {
    type Rejection = StatusCode;

    async fn from_request_parts(_: &mut Parts, app: &App) -> Result<Self, StatusCode> {
        let instance = instance(app).await?;
        if instance.settings.federates() { Ok(Self) } else { Err(StatusCode::FORBIDDEN) }
    }
}

async fn instance(app: &App) -> Result<Instance, StatusCode> {
    projections::instance::load(&app.pool).await.map_err(broken)
}

/// Logs why something can't be answered; the asker isn't told.
fn broken(cause: sqlx::Error) -> StatusCode {
    tracing::error!(%cause, "a well-known document can't be made");
    StatusCode::INTERNAL_SERVER_ERROR
}

fn document<H, T>(handler: H) -> MethodRouter<App>
where
    H: Handler<T, App>,
    T: 'static,
{
    get(handler).options(|| async { StatusCode::NO_CONTENT })
}

async fn allow_any_site(mut response: Response) -> Response {
    let allowed: [(HeaderName, &str); 4] = [
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Vary"),
    ];
    for (name, value) in allowed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn robots() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], ROBOTS)
}
