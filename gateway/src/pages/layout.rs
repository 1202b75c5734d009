//! What all pages share: the frame, the headers, and how a failure looks.

use std::sync::LazyLock;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::api::ApiError;
use crate::api::http::log_internal;

const STYLE: &str = include_str!("style.css");
/// The style is in the page; the browser is told its hash and takes no other.
static STYLE_HASH: LazyLock<String> =
    LazyLock::new(|| format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(STYLE))));

/// A page to be sent.
pub struct Page {
    status: StatusCode,
    title: String,
    content: Markup,
    /// Where a form of the page may lead besides this server, as a source of the content policy.
    leads_to: Option<String>,
}

impl Page {
    pub fn new(title: impl Into<String>, content: Markup) -> Self {
        Self { status: StatusCode::OK, title: title.into(), content, leads_to: None }
    }

    pub fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// With forms that may end at another place, such as `https://app.example` or `miria:`.
    pub fn leads_to(self, place: Option<String>) -> Self {
        Self { leads_to: place, ..self }
    }

    fn policy(&self) -> String {
        let elsewhere = self.leads_to.as_deref().map(|place| format!(" {place}")).unwrap_or_default();
        format!(
            "default-src 'none'; style-src '{}'; form-action 'self'{elsewhere}; frame-ancestors 'none'; \
             base-uri 'none'",
            *STYLE_HASH
        )
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let policy = HeaderValue::from_str(&self.policy());
        let body = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        h1 { (self.title) }
                        (self.content)
                    }
                }
            }
        };
        let mut response = (self.status, body.into_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        // A place that can't be said in the policy is a place that can't be led to.
        let strictest = HeaderValue::from_static("default-src 'none'");
        headers.insert(header::CONTENT_SECURITY_POLICY, policy.unwrap_or(strictest));
        response
    }
}

/// Why there is no page of what was asked for.
#[derive(Debug)]
pub enum NoPage {
    /// The form doesn't come from a page of this server, or from an old one.
    Foreign,
    /// What the app asks makes no sense.
    Nonsense(&'static str),
    /// There is nothing here (any more).
    Gone(&'static str),
    Failed(ApiError),
}

impl<E: Into<ApiError>> From<E> for NoPage {
    fn from(cause: E) -> Self {
        NoPage::Failed(cause.into())
    }
}

impl IntoResponse for NoPage {
    fn into_response(self) -> Response {
        let (status, title, told) = match self {
            NoPage::Foreign => (
                StatusCode::FORBIDDEN,
                "Please try again",
                "This form was out of date, or did not come from this server. Go back and reload the page.",
            ),
            NoPage::Nonsense(told) => (StatusCode::BAD_REQUEST, "This can't be done", told),
            NoPage::Gone(told) => (StatusCode::NOT_FOUND, "Nothing here", told),
            NoPage::Failed(error) => {
                log_internal(&error);
                let def = error.def();
                (def.http_status(), "That didn't work", def.message)
            }
        };
        Page::new(title, html! { p { (told) } }).status(status).into_response()
    }
}

/// A short message above a form that was refused; read out when the page appears.
pub fn problem(told: Option<&str>) -> Markup {
    html! {
        @if let Some(told) = told {
            p.problem role="alert" { (told) }
        }
    }
}

/// Sends the browser on, after a form was sent.
pub fn see_other(to: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup_and_the_policy_takes_no_script() {
        let page = Page::new("<script>", html! { p { "<b>" } }).leads_to(Some("miria:".to_owned()));
        let policy = page.policy();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(policy.contains("form-action 'self' miria:;"), "{policy}");
        let response = page.into_response();
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["x-frame-options"], "DENY");
    }
}
