//! NodeInfo 2.0 and 2.1: which software this is, and how large the server.
//!
//! Clients tell servers apart by the software's name and by a version that begins with a calendar
//! number, so both are Misskey's (the name is a setting); our own are in the metadata.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::instance::Instance;
use domain::note::MAX_TEXT_CHARS;
use serde_json::{Value, json};

use super::{broken, instance};
use crate::app::App;
use crate::misskey::VERSION;
use crate::misskey::meta::OWN_ACCOUNT;

const SCHEMA: &str = "http://nodeinfo.diaspora.software/ns/schema/";
const CACHED: &str = "public, max-age=600";
/// As on Misskey, unless the server has its own.
const THEME_COLOR: &str = "#86b300";

/// How much is here.
struct Usage {
    users: i64,
    notes: i64,
}

/// Told also while the server federates with nobody, where Misskey answers 403: several apps look here before
/// they let anybody in.
pub async fn links(State(app): State<App>) -> Response {
    let link = |version: &str| json!({ "rel": format!("{SCHEMA}{version}"), "href": format!("{}/nodeinfo/{version}", app.config.url) });
    // Some clients read the first one only.
    let body = json!({ "links": [link("2.1"), link("2.0")] });
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string()).into_response()
}

pub async fn v2_0(State(app): State<App>) -> Result<Response, StatusCode> {
    answer(&app, "2.0").await
}

pub async fn v2_1(State(app): State<App>) -> Result<Response, StatusCode> {
    answer(&app, "2.1").await
}

async fn answer(app: &App, version: &str) -> Result<Response, StatusCode> {
    let instance = instance(app).await?;
    let stats = projections::user::stats(&app.pool).await.map_err(broken)?;
    let usage = Usage { users: stats.original_users, notes: stats.original_notes };
    let body = document(version, &app.config.software_name, &app.config.url, &instance, &usage);
    let content_type = format!(r#"application/json; profile="{SCHEMA}{version}#"; charset=utf-8"#);
    let headers = [(header::CONTENT_TYPE, content_type.as_str()), (header::CACHE_CONTROL, CACHED)];
    Ok((headers, body.to_string()).into_response())
}

fn document(version: &str, software: &str, origin: &str, instance: &Instance, usage: &Usage) -> Value {
    let Instance { settings, policies, .. } = instance;
    let maintainer =
        json!({ "name": settings.get("maintainerName"), "email": settings.get("maintainerEmail") });
    json!({
        "version": version,
        "software": { "name": software, "version": VERSION },
        "protocols": ["activitypub"],
        "services": { "inbound": [], "outbound": [] },
        "openRegistrations": !settings.registration_is_closed(),
        "usage": {
            "users": { "total": usage.users, "activeHalfyear": null, "activeMonth": null },
            "localPosts": usage.notes,
            "localComments": 0,
        },
        "metadata": {
            "nodeName": settings.get("name"),
            "nodeDescription": settings.get("description"),
            "nodeAdmins": [maintainer],
            "maintainer": maintainer,
            "langs": settings.get("langs"),
            "tosUrl": settings.get("tosUrl"),
            "privacyPolicyUrl": settings.get("privacyPolicyUrl"),
            "inquiryUrl": settings.get("inquiryUrl"),
            "impressumUrl": settings.get("impressumUrl"),
            "repositoryUrl": settings.text("repositoryUrl").unwrap_or(origin),
            "feedbackUrl": settings.text("feedbackUrl").unwrap_or(origin),
            "disableRegistration": settings.registration_is_closed(),
            "disableLocalTimeline": !policies.allows("ltlAvailable"),
            "disableGlobalTimeline": !policies.allows("gtlAvailable"),
            "emailRequiredForSignup": settings.flag("emailRequiredForSignup"),
            "enableHcaptcha": settings.flag("enableHcaptcha"),
            "enableRecaptcha": settings.flag("enableRecaptcha"),
            "enableMcaptcha": settings.flag("enableMcaptcha"),
            "enableTurnstile": settings.flag("enableTurnstile"),
            "maxNoteTextLength": MAX_TEXT_CHARS,
            "enableEmail": settings.flag("enableEmail"),
            "enableServiceWorker": settings.flag("enableServiceWorker"),
            "proxyAccountName": OWN_ACCOUNT,
            "themeColor": settings.text("themeColor").unwrap_or(THEME_COLOR),
            "implementation": { "name": "kiroku", "version": env!("CARGO_PKG_VERSION") },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_a_misskey_and_people_the_truth() {
        let usage = Usage { users: 3, notes: 4 };
        let document = document("2.1", "misskey", "https://social.example", &Instance::default(), &usage);
        assert_eq!(document["software"]["name"], "misskey");
        let version = document["software"]["version"].as_str().unwrap();
        let own = document["metadata"]["implementation"]["version"].as_str().unwrap();
        assert!(version.starts_with("2025.") && version.ends_with(&format!("-kiroku.{own}")), "{version}");
        assert_eq!(document["usage"]["users"]["total"], 3);
        assert_eq!(document["openRegistrations"], false);
    }
}
