//! host-meta (RFC 6415): where WebFinger is asked.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::json;

use super::Federating;
use crate::app::App;

pub async fn xml(State(app): State<App>, _: Federating) -> impl IntoResponse {
    let origin = &app.config.url;
    let text = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><XRD xmlns="http://docs.oasis-open.org/ns/xri/xrd-1.0"><Link rel="lrdd" type="application/xrd+xml" template="{origin}/.well-known/webfinger?resource={{uri}}"/></XRD>"#
    );
    ([(header::CONTENT_TYPE, "application/xrd+xml")], text)
}

pub async fn json(State(app): State<App>, _: Federating) -> impl IntoResponse {
    let template = format!("{}/.well-known/webfinger?resource={{uri}}", app.config.url);
    let body = json!({ "links": [{ "rel": "lrdd", "type": "application/jrd+json", "template": template }] });
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string())
}
