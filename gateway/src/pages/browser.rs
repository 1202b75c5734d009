//! The browser behind a request: its session cookie, and whether a form is really ours.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use url::Url;

use super::layout::NoPage;
use crate::api::http::client_of;
use crate::api::{Account, ApiError, Core};
use crate::app::App;
use crate::ops::browsers::BROWSER_SESSION_LIFE;
use crate::ops::sign_ins::Visit;

/// A browser, perhaps signed in.
pub struct Browser {
    pub visit: Visit,
    /// Path and query of this request.
    pub place: String,
    session: Option<(String, Arc<Account>)>,
    same_origin: bool,
}

impl Browser {
    /// Who is signed in.
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.session.as_ref().map(|(_, account)| account)
    }

    /// What the forms of this browser carry.
    pub fn form_token(&self, core: &Core) -> String {
        self.session.as_ref().map(|(cookie, _)| core.browsers.form_token(cookie)).unwrap_or_default()
    }

    /// The cookie of the session.
    pub fn cookie(&self) -> Option<&str> {
        self.session.as_ref().map(|(cookie, _)| cookie.as_str())
    }

    /// Refuses a form that another site has sent. For a form of nobody in particular.
    pub fn check_origin(&self) -> Result<(), NoPage> {
        if self.same_origin { Ok(()) } else { Err(NoPage::Foreign) }
    }

    /// Refuses a form that isn't of a page made for this browser; says whose browser it is.
    pub fn check_form(&self, core: &Core, form_token: &str) -> Result<Arc<Account>, NoPage> {
        self.check_origin()?;
        let (cookie, account) = self.session.as_ref().ok_or(NoPage::Foreign)?;
        if core.browsers.form_token(cookie) == form_token {
            Ok(account.clone())
        } else {
            Err(NoPage::Foreign)
        }
    }
}

impl FromRequestParts<App> for Browser {
    type Rejection = NoPage;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, NoPage> {
        let core = &app.core;
        let session = match cookie(&parts.headers, cookie_name(core)) {
            Some(cookie) => account(core, &cookie).await?.map(|account| (cookie, account)),
            None => None,
        };
        let place = parts.uri.path_and_query().map_or("/", |place| place.as_str()).to_owned();
        let same_origin = is_same_origin(core, &parts.headers);
        let visit = Visit::of(client_of(core, parts), &parts.headers);
        Ok(Self { visit, place, session, same_origin })
    }
}

async fn account(core: &Core, cookie: &str) -> Result<Option<Arc<Account>>, ApiError> {
    let Some(user) = core.browsers.find(cookie, core.clock.now()).await? else { return Ok(None) };
    let account = core.accounts.account(user).await?;
    Ok(account.filter(|account| !account.is_suspended && !account.is_deleted))
}

/// Sets the session cookie, for as long as the session lives.
pub fn set_cookie(core: &Core, cookie: &str) -> Option<(header::HeaderName, HeaderValue)> {
    cookie_header(core, cookie, BROWSER_SESSION_LIFE.num_seconds())
}

/// Takes the session cookie away.
pub fn clear_cookie(core: &Core) -> Option<(header::HeaderName, HeaderValue)> {
    cookie_header(core, "", 0)
}

fn cookie_header(core: &Core, cookie: &str, seconds: i64) -> Option<(header::HeaderName, HeaderValue)> {
    let secure = if is_https(core) { "; Secure" } else { "" };
    let name = cookie_name(core);
    let value = format!("{name}={cookie}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&value).ok().map(|value| (header::SET_COOKIE, value))
}

/// The prefix keeps a neighbouring host name from setting it; it needs HTTPS.
fn cookie_name(core: &Core) -> &'static str {
    if is_https(core) { "__Host-kiroku" } else { "kiroku" }
}

fn is_https(core: &Core) -> bool {
    core.origin.starts_with("https:")
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lists = headers.get_all(header::COOKIE).into_iter().filter_map(|list| list.to_str().ok());
    let mut pairs = lists.flat_map(|list| list.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// Browsers say where a form comes from. What says nothing is no browser, and is refused.
fn is_same_origin(core: &Core, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return false;
    }
    let Some(origin) = text("origin").and_then(|origin| Url::parse(origin).ok()) else { return false };
    // Reached by another of its names, the server is still itself.
    let by_host = text("host").and_then(|host| Url::parse(&format!("{}://{host}", origin.scheme())).ok());
    let ours = [Url::parse(&core.origin).ok(), by_host];
    ours.into_iter().flatten().any(|own| own.origin() == origin.origin())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::admit::tests::core;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[tokio::test]
    async fn a_form_must_come_from_here() {
        let core = core();
        let same = |pairs: &[(&'static str, &str)]| is_same_origin(&core, &headers(pairs));
        assert!(same(&[("origin", "http://local")]));
        assert!(same(&[("origin", "http://127.0.0.1:3000"), ("host", "127.0.0.1:3000")]));
        assert!(same(&[("origin", "http://local"), ("sec-fetch-site", "same-origin")]));
        assert!(!same(&[]));
        assert!(!same(&[("origin", "null")]));
        assert!(!same(&[("origin", "http://evil.example"), ("host", "local")]));
        assert!(!same(&[("origin", "http://local:8080"), ("host", "local")]));
        assert!(!same(&[("origin", "http://local"), ("sec-fetch-site", "cross-site")]));
    }

    #[tokio::test]
    async fn the_cookie_is_found_among_others() {
        let sent = headers(&[("cookie", "a=b; kiroku=secret; kiroku2=no")]);
        assert_eq!(cookie(&sent, "kiroku").as_deref(), Some("secret"));
        assert_eq!(cookie(&sent, "other"), None);
        let (_, set) = set_cookie(&core(), "secret").unwrap();
        let set = set.to_str().unwrap();
        assert!(set.starts_with("kiroku=secret; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax"), "{set}");
    }
}
