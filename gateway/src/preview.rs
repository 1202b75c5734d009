//! `/url`: what a page that a link leads to says of itself.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use encoding_rs::Encoding;
use html5gum::{Token, Tokenizer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use url::Url;

use crate::api::http::json_response;
use crate::app::App;
use crate::fetch::{FetchError, Fetched};

/// The most of a page that is read, in bytes, whatever the settings allow.
const MAX_PAGE_BYTES: u64 = 2 * 1024 * 1024;
/// The longest title and description, in characters.
const MAX_TITLE_CHARS: usize = 100;
const MAX_DESCRIPTION_CHARS: usize = 300;
/// Pages and feeds that are fetched at the same time; more are refused.
const FETCHES_AT_ONCE: usize = 16;
const A_WEEK: HeaderValue = HeaderValue::from_static("max-age=604800, immutable");
const A_DAY: HeaderValue = HeaderValue::from_static("max-age=86400, immutable");

pub static FETCHES: Semaphore = Semaphore::const_new(FETCHES_AT_ONCE);

pub fn routes() -> Router<App> {
    Router::new().route("/url", get(preview))
}

#[derive(Deserialize)]
struct Asked {
    url: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum NoPreview {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("too many pages are fetched")]
    Busy,
    #[error("not a page")]
    NotAPage,
}

async fn preview(State(app): State<App>, Query(asked): Query<Asked>) -> Response {
    let Some(url) = asked.url else { return StatusCode::BAD_REQUEST.into_response() };
    let (mut response, kept) = match look(&app, &url).await {
        Ok(None) => return StatusCode::FORBIDDEN.into_response(),
        Ok(Some(summary)) => (json_response(StatusCode::OK, &summary), A_WEEK),
        Err(cause) => {
            tracing::debug!(%cause, "no preview");
            let error = json!({
                "message": "Failed to get preview",
                "code": "URL_PREVIEW_FAILED",
                "id": "09d01cb5-53b9-4856-82e5-38a50c290a3b",
                "kind": "client",
            });
            (json_response(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "error": error })), A_DAY)
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// The summary of a page; none where previews are off.
async fn look(app: &App, url: &str) -> Result<Option<Value>, NoPreview> {
    let settings = projections::instance::load(&app.pool).await?.settings;
    if !settings.flag("urlPreviewEnabled") {
        return Ok(None);
    }
    let most = settings.get("urlPreviewMaximumContentLength").as_u64().unwrap_or(0).min(MAX_PAGE_BYTES);
    let _slot = FETCHES.try_acquire().map_err(|_| NoPreview::Busy)?;
    let fetched = app.fetcher.get(url, "text/html, application/xhtml+xml").await?;
    let page = page(fetched, usize::try_from(most).unwrap_or_default()).await?;
    Ok(Some(page.summary(&app.config.url)))
}

async fn page(fetched: Fetched, most: usize) -> Result<Page, NoPreview> {
    let content_type = fetched.content_type.clone().unwrap_or_default().to_ascii_lowercase();
    if !content_type.is_empty() && !content_type.contains("html") {
        return Err(NoPreview::NotAPage);
    }
    let url = fetched.url.clone();
    let bytes = fetched.bytes(most).await?;
    Ok(Page::read(url, &text(&content_type, &bytes)))
}

/// The text of a page or a feed, in whatever encoding it says it is.
pub fn text(content_type: &str, bytes: &[u8]) -> String {
    const LOOKED_AT_BYTES: usize = 1024;
    let named = |text: &str| {
        let (_, after) = text.split_once("charset=").or_else(|| text.split_once("encoding="))?;
        let label = after.trim_start_matches(['"', '\'']).split(['"', '\'', ';', ' ', '>', '/']).next()?;
        Encoding::for_label(label.as_bytes())
    };
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(LOOKED_AT_BYTES)]).to_ascii_lowercase();
    let encoding = named(content_type).or_else(|| named(&head)).unwrap_or(encoding_rs::UTF_8);
    encoding.decode(bytes).0.into_owned()
}

/// What is said in the head of a page.
struct Page {
    url: Url,
    title: Option<String>,
    /// By their names and properties; the first of each.
    metas: BTreeMap<String, String>,
    /// Addresses by what they are; the first of each.
    links: BTreeMap<String, String>,
}

impl Page {
    fn read(url: Url, html: &str) -> Self {
        let mut page = Self { url, title: None, metas: BTreeMap::new(), links: BTreeMap::new() };
        let mut in_title = false;
        for Ok(token) in Tokenizer::new(html) {
            match token {
                Token::StartTag(tag) => {
                    let attribute = |name: &str| {
                        let value = tag.attributes.get(name.as_bytes())?;
                        Some(String::from_utf8_lossy(value).trim().to_owned())
                    };
                    match &tag.name[..] {
                        b"title" => in_title = page.title.is_none(),
                        b"meta" => {
                            let name = attribute("property").or_else(|| attribute("name"));
                            if let Some((name, content)) = name.zip(attribute("content")) {
                                page.metas.entry(name.to_ascii_lowercase()).or_insert(content);
                            }
                        }
                        b"link" => {
                            if let Some((rel, href)) = attribute("rel").zip(attribute("href")) {
                                let kind = attribute("type").unwrap_or_default();
                                let rel = rel.to_ascii_lowercase();
                                let key = if rel == "alternate" { format!("{rel} {kind}") } else { rel };
                                page.links.entry(key).or_insert(href);
                            }
                        }
                        b"body" => break,
                        _ => (),
                    }
                }
                Token::String(text) if in_title => {
                    page.title.get_or_insert_default().push_str(&String::from_utf8_lossy(&text));
                }
                Token::EndTag(tag) if &tag.name[..] == b"title" => in_title = false,
                _ => (),
            }
        }
        page
    }

    fn meta(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .find_map(|name| self.metas.get(*name))
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    /// The address of a link or a picture, in full.
    fn address(&self, href: &str) -> Option<String> {
        let url = self.url.join(href).ok()?;
        matches!(url.scheme(), "http" | "https").then(|| url.into())
    }

    /// The summary in the form that clients know.
    fn summary(&self, origin: &str) -> Value {
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let title = self.meta(&["og:title", "twitter:title"]).or(self.title.as_deref());
        let title = title.map(|title| clip(title, MAX_TITLE_CHARS)).filter(|title| !title.is_empty());
        let description = self.meta(&["og:description", "twitter:description", "description"]);
        let description = description.map(|text| clip(text, MAX_DESCRIPTION_CHARS));
        let description = description.filter(|text| Some(text) != title.as_ref());
        let sitename =
            self.meta(&["og:site_name", "application-name"]).map(|name| clip(name, MAX_TITLE_CHARS));
        let thumbnail = self.meta(&["og:image", "twitter:image", "twitter:image:src"]);
        let thumbnail = thumbnail.or(self.links.get("image_src").map(String::as_str));
        let icon = ["shortcut icon", "icon", "apple-touch-icon"].iter().find_map(|rel| self.links.get(*rel));
        let icon = self.address(icon.map_or("/favicon.ico", String::as_str));
        let rating = self.meta(&["rating"]).unwrap_or_default().to_ascii_lowercase();
        let sensitive = self.meta(&["mixi:content-rating"]) == Some("1")
            || ["adult", "rta-5042-1996-1400-1577-rta"].contains(&rating.as_str());
        let activity = self.links.get("alternate application/activity+json");
        json!({
            "title": title.unwrap_or_else(|| host.clone()),
            "icon": icon.map(|icon| proxied(origin, &icon)),
            "description": description,
            "thumbnail": thumbnail.and_then(|href| self.address(href)).map(|url| proxied(origin, &url)),
            "player": { "url": null, "width": null, "height": null, "allow": [] },
            "sitename": sitename.unwrap_or(host),
            "sensitive": sensitive,
            "activityPub": activity.and_then(|href| self.address(href)),
            "fediverseCreator": self.meta(&["fediverse:creator"]),
            "url": self.url.as_str(),
        })
    }
}

/// Through the proxy of this server, so that nobody's address is told.
fn proxied(origin: &str, url: &str) -> String {
    let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    format!("{origin}/proxy/preview.webp?url={url}&preview=1")
}

fn clip(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(html: &str) -> Value {
        Page::read(Url::parse("https://a.example/b/c").unwrap(), html).summary("https://here.example")
    }

    #[test]
    fn a_page_is_told_by_what_it_says_of_itself() {
        let told = summary(
            "<!doctype html><html><head><title> A &amp; B </title><meta name=description content='of\n it'>
             <meta property='og:image' content='/d.png'><meta property=og:site_name content=Site>
             <link rel='shortcut icon' href=i.ico><link rel=alternate type=application/activity+json href=/ap>
             <meta name=rating content=ADULT></head><body><meta property=og:title content=no></body>",
        );
        assert_eq!(told["title"], "A & B");
        assert_eq!((&told["description"], &told["sitename"]), (&json!("of it"), &json!("Site")));
        let proxied = "https://here.example/proxy/preview.webp?url=https%3A%2F%2Fa.example%2Fd.png&preview=1";
        assert_eq!(told["thumbnail"], proxied);
        assert!(told["icon"].as_str().unwrap().contains("a.example%2Fb%2Fi.ico"));
        assert_eq!(
            (&told["sensitive"], &told["activityPub"]),
            (&json!(true), &json!("https://a.example/ap"))
        );
        assert_eq!(told["url"], "https://a.example/b/c");
    }

    #[test]
    fn a_page_that_says_nothing_has_the_name_of_its_host() {
        let told = summary("");
        assert_eq!((&told["title"], &told["sitename"]), (&json!("a.example"), &json!("a.example")));
        assert_eq!((&told["description"], &told["thumbnail"]), (&Value::Null, &Value::Null));
        let evil = summary("<meta property=og:image content='javascript:alert(1)'><title>x</title>");
        assert_eq!(evil["thumbnail"], Value::Null);
    }

    #[test]
    fn pages_are_read_in_their_own_encoding() {
        let (bytes, _, _) = encoding_rs::SHIFT_JIS.encode("<meta charset=shift_jis><title>日本</title>");
        assert!(text("text/html", &bytes).contains("日本"));
        assert!(text("text/html; charset=Shift_JIS", &bytes).contains("日本"));
        assert!(text("text/html; charset=none", "日本".as_bytes()).contains("日本"));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(clip("日本語", 2), "日本…");
        assert_eq!(clip(" a \n b ", 9), "a b");
    }
}
