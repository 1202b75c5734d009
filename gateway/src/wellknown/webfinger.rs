//! WebFinger (RFC 7033) for the people of this server.

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::UserId;
use federation::remote;
use serde::Deserialize;
use serde_json::json;

use super::{Federating, broken};
use crate::app::App;

/// The longest resource that is looked at, in bytes.
const MAX_RESOURCE_BYTES: usize = 2_048;
const CACHED: &str = "public, max-age=180";

#[derive(Deserialize)]
pub struct Params {
    resource: Option<String>,
}

/// Whom a resource names.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Name(String),
    Id(UserId),
}

pub async fn find(
    State(app): State<App>,
    _: Federating,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    let resource = params.resource.unwrap_or_default();
    let asked = parse(&resource, &app.config.url, app.config.host())?;
    let id = match asked {
        Asked::Id(id) => Some(id),
        Asked::Name(name) => projections::user::by_username(&app.pool, &name, None).await.map_err(broken)?,
    };
    let id = id.ok_or(StatusCode::NOT_FOUND)?;
    let mut found = projections::user::by_ids(&app.pool, &[id]).await.map_err(broken)?;
    let local = found.remove(&id).filter(|user| user.host.is_none());
    let name = local.ok_or(StatusCode::NOT_FOUND)?.username;
    Ok(describe(&app.config.url, app.config.host(), id, &name, wants_xml(&headers)))
}

/// Reads `acct:name@host`, with or without its scheme, its host, or an `@` before the name, and the
/// addresses of profiles. A resource of another host is none of ours (422).
fn parse(resource: &str, origin: &str, own: &str) -> Result<Asked, StatusCode> {
    if resource.is_empty() || resource.len() > MAX_RESOURCE_BYTES {
        return Err(StatusCode::BAD_REQUEST);
    }
    if let Some(path) = resource.strip_prefix(origin) {
        if let Some(id) = path.strip_prefix("/users/") {
            return id.parse().map(Asked::Id).map_err(|_| StatusCode::NOT_FOUND);
        }
        if let Some(name) = path.strip_prefix("/@") {
            return acct(name, own);
        }
    }
    let name = resource.strip_prefix("acct:").unwrap_or(resource);
    acct(name.strip_prefix('@').unwrap_or(name), own)
}

fn acct(text: &str, own: &str) -> Result<Asked, StatusCode> {
    let (name, host) = text.split_once('@').map_or((text, None), |(name, host)| (name, Some(host)));
    let is_own = |host: &str| {
        host.eq_ignore_ascii_case(own) || remote::host(host).is_ok_and(|host| host.as_str() == own)
    };
    if host.is_none_or(is_own) {
        Ok(Asked::Name(name.to_owned()))
    } else {
        Err(StatusCode::UNPROCESSABLE_ENTITY)
    }
}

/// Whether XRD is the first of the two forms that the asker names.
fn wants_xml(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut types = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    types.find(|name| name.ends_with("json") || *name == "application/xrd+xml") == Some("application/xrd+xml")
}

fn describe(origin: &str, own: &str, id: UserId, name: &str, xml: bool) -> Response {
    // A user name is ASCII letters, digits and underscores, so nothing here needs escaping.
    let subject = format!("acct:{name}@{own}");
    let actor = format!("{origin}/users/{id}");
    let profile = format!("{origin}/@{name}");
    let subscribe = format!("{origin}/authorize-follow?acct={{uri}}");
    const PROFILE: &str = "http://webfinger.net/rel/profile-page";
    const SUBSCRIBE: &str = "http://ostatus.org/schema/1.0/subscribe";
    let (content_type, body) = if xml {
        let links = format!(
            r#"<Link rel="self" type="application/activity+json" href="{actor}"/><Link rel="{PROFILE}" type="text/html" href="{profile}"/><Link rel="{SUBSCRIBE}" template="{subscribe}"/>"#
        );
        let text = format!(
            r#"<?xml version="1.0" encoding="UTF-8"?><XRD xmlns="http://docs.oasis-open.org/ns/xri/xrd-1.0"><Subject>{subject}</Subject>{links}</XRD>"#
        );
        ("application/xrd+xml", text)
    } else {
        let links = json!([
            { "rel": "self", "type": "application/activity+json", "href": actor },
            { "rel": PROFILE, "type": "text/html", "href": profile },
            { "rel": SUBSCRIBE, "template": subscribe },
        ]);
        ("application/jrd+json; charset=utf-8", json!({ "subject": subject, "links": links }).to_string())
    };
    let headers =
        [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, CACHED), (header::VARY, "Accept")];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://social.example";
    const OWN: &str = "social.example";

    #[test]
    fn people_are_asked_for_in_many_ways() {
        let alice = Ok(Asked::Name("alice".to_owned()));
        for resource in [
            "acct:alice@social.example",
            "acct:alice@SOCIAL.example",
            "acct:alice@social.example:443",
            "alice@social.example",
            "@alice@social.example",
            "acct:alice",
            "alice",
            "https://social.example/@alice",
            "https://social.example/@alice@social.example",
        ] {
            assert_eq!(parse(resource, ORIGIN, OWN), alice, "{resource}");
        }
        let id: UserId = "01J0000000000000000000000A".parse().unwrap();
        assert_eq!(parse(&format!("{ORIGIN}/users/{id}"), ORIGIN, OWN), Ok(Asked::Id(id)));
    }

    #[test]
    fn others_are_none_of_ours() {
        for (resource, status) in [
            ("", 400),
            ("acct:alice@other.example", 422),
            ("https://other.example/@alice", 422),
            ("acct:alice@social.example@other.example", 422),
            ("https://social.example/users/no-id", 404),
        ] {
            let refused = parse(resource, ORIGIN, OWN).unwrap_err();
            assert_eq!(refused.as_u16(), status, "{resource}");
        }
        assert_eq!(parse(&"a".repeat(3_000), ORIGIN, OWN), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn a_host_with_another_letter_is_another_host() {
        assert!(parse("acct:alice@socıal.example", ORIGIN, OWN).is_err());
        let own = "xn--bcher-kva.example";
        assert!(parse("acct:alice@bücher.example", "https://xn--bcher-kva.example", own).is_ok());
    }

    #[test]
    fn xml_is_for_those_who_ask_for_it() {
        for (accept, xml) in [
            ("application/xrd+xml", true),
            ("text/html, application/xrd+xml;q=0.9", true),
            ("application/jrd+json, application/xrd+xml;q=0.5", false),
            ("*/*", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(wants_xml(&headers), xml, "{accept}");
        }
        assert!(!wants_xml(&HeaderMap::new()));
    }
}
