//! Who an app is that asks by OAuth: its client id is the address of a page, which says where people may be
//! sent back to, what the app is called and what it looks like (IndieAuth); or of a JSON document that does.

use axum::http::uri::Scheme;
use html5gum::{StartTag, Token, Tokenizer};
use serde::Deserialize;
use url::{Host, Url};

use crate::fetch::{FetchError, Fetcher, MAX_URL_BYTES};

/// The largest page of an app that is read, in bytes.
const MAX_PAGE_BYTES: usize = 512 * 1024;
/// The most addresses to be sent back to that an app may name.
const MAX_REDIRECTS: usize = 64;
/// The longest name of an app that is shown and kept, in characters.
const MAX_NAME_CHARS: usize = 100;
/// The longest address of an app's logo that is kept, in bytes.
const MAX_LOGO_BYTES: usize = 512;
/// What is asked for of a page.
const ACCEPTED: &str = "text/html, application/json;q=0.9, */*;q=0.1";

/// An app, as its page describes it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Client {
    pub redirects: Vec<Url>,
    pub name: Option<String>,
    pub logo: Option<String>,
}

/// The id of a client: an address on HTTPS with a name, without a fragment, credentials or steps. Without
/// HTTPS or by number only in a private network that the operator allows.
pub fn id(fetcher: &Fetcher, text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= MAX_URL_BYTES)?;
    let has_steps = {
        let after_host = text.split_once("://").map_or("", |(_, rest)| rest);
        let path = after_host.split(['?', '#']).next().unwrap_or_default();
        path.split('/').skip(1).any(|segment| matches!(segment, "." | ".."))
    };
    let is_named = url.scheme() == Scheme::HTTPS.as_str() && matches!(url.host(), Some(Host::Domain(_)));
    let is_plain = url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    let is_web = matches!(url.scheme(), "http" | "https");
    let may_be = is_named || (is_web && fetcher.allows_private(&url));
    (may_be && is_plain && !has_steps).then_some(url)
}

/// Reads the page of an app.
pub async fn discover(fetcher: &Fetcher, id: &Url) -> Result<Client, FetchError> {
    let fetched = fetcher.get(id.as_str(), ACCEPTED).await?;
    let is_json = fetched.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/json"));
    let (base, links) = (fetched.url.clone(), fetched.links.clone());
    let page = fetched.bytes(MAX_PAGE_BYTES).await?;
    let mut client = Client::default();
    if is_json {
        client.read_document(id, &base, &page);
    } else {
        client.read_links(&base, &links);
        client.read_page(id, &base, &String::from_utf8_lossy(&page));
    }
    client.redirects.truncate(MAX_REDIRECTS);
    Ok(client)
}

/// What a JSON document says of an app.
#[derive(Deserialize)]
struct Document {
    client_id: String,
    client_name: Option<String>,
    logo_uri: Option<String>,
    #[serde(default)]
    redirect_uris: Vec<String>,
}

impl Client {
    /// A document that is about another app says nothing.
    fn read_document(&mut self, id: &Url, base: &Url, bytes: &[u8]) {
        let Ok(document) = serde_json::from_slice::<Document>(bytes) else { return };
        if Url::parse(&document.client_id).ok().as_ref() != Some(id) {
            return;
        }
        self.redirects.extend(document.redirect_uris.iter().filter_map(|to| base.join(to).ok()));
        self.called(&document.client_name.unwrap_or_default());
        self.looks(base, document.logo_uri);
    }

    /// `Link: <…>; rel=redirect_uri`
    fn read_links(&mut self, base: &Url, links: &[String]) {
        for link in links.iter().flat_map(|value| value.split(',')) {
            let Some((target, parameters)) =
                link.trim().strip_prefix('<').and_then(|link| link.split_once('>'))
            else {
                continue;
            };
            let leads_back = parameters.split(';').any(|parameter| {
                let (name, value) = parameter.trim().split_once('=').unwrap_or_default();
                name.trim_end().eq_ignore_ascii_case("rel")
                    && has_word(value.trim().trim_matches('"'), "redirect_uri")
            });
            if leads_back {
                self.redirects.extend(base.join(target).ok());
            }
        }
    }

    /// `<link rel=redirect_uri>`, and the name and logo of the first h-app that is about this id.
    fn read_page(&mut self, id: &Url, base: &Url, page: &str) {
        let mut reading: Option<HApp> = None;
        let mut found = None;
        for Ok(token) in Tokenizer::new(page) {
            match token {
                Token::StartTag(tag) => {
                    let element = &tag.name[..];
                    if element == b"link" && is(&tag, "rel", "redirect_uri") {
                        self.redirects.extend(attribute(&tag, "href").and_then(|to| base.join(&to).ok()));
                    }
                    if reading.is_none()
                        && found.is_none()
                        && (is(&tag, "class", "h-app") || is(&tag, "class", "h-x-app"))
                    {
                        reading = Some(HApp::new(element));
                    }
                    if let Some(app) = &mut reading {
                        app.open(&tag, base);
                    }
                }
                Token::String(text) => {
                    if let Some(app) = &mut reading {
                        app.say(&text.value);
                    }
                }
                Token::EndTag(tag) if reading.as_mut().is_some_and(|app| app.close(&tag.name)) => {
                    found = reading.take().filter(|app| app.is_about(id));
                }
                _ => (),
            }
        }
        let found = found.or(reading.filter(|app| app.is_about(id)));
        if let Some(app) = found {
            self.called(&app.name);
            self.looks(base, app.logo);
        }
    }

    fn called(&mut self, name: &str) {
        let words: Vec<&str> = name.split_whitespace().collect();
        let name: String = words.join(" ").chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
        self.name = Some(name).filter(|name| !name.is_empty());
    }

    fn looks(&mut self, base: &Url, logo: Option<String>) {
        let logo = logo.and_then(|logo| base.join(&logo).ok());
        let logo = logo.filter(|logo| matches!(logo.scheme(), "http" | "https")).map(String::from);
        self.logo = logo.filter(|logo| logo.len() <= MAX_LOGO_BYTES);
    }
}

fn attribute(tag: &StartTag<()>, name: &str) -> Option<String> {
    let value = tag.attributes.get(name.as_bytes())?;
    Some(String::from_utf8_lossy(value).trim().to_owned())
}

fn is(tag: &StartTag<()>, name: &str, word: &str) -> bool {
    attribute(tag, name).is_some_and(|list| has_word(&list, word))
}

fn has_word(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|one| one == word)
}

/// An h-app of microformats that is being read.
struct HApp {
    element: Vec<u8>,
    depth: usize,
    url: Option<Url>,
    name: String,
    logo: Option<String>,
    /// The element whose text is the name, and how deep in elements of its kind the reader is.
    naming: Option<(Vec<u8>, usize)>,
}

impl HApp {
    fn new(element: &[u8]) -> Self {
        Self {
            element: element.to_owned(),
            depth: 0,
            url: None,
            name: String::new(),
            logo: None,
            naming: None,
        }
    }

    fn open(&mut self, tag: &StartTag<()>, base: &Url) {
        let element = &tag.name[..];
        if element == self.element {
            self.depth += 1;
        }
        if let Some((name, depth)) = &mut self.naming
            && element == name.as_slice()
        {
            *depth += 1;
        }
        if is(tag, "class", "u-url") && self.url.is_none() {
            self.url = attribute(tag, "href").and_then(|to| base.join(&to).ok());
        }
        if is(tag, "class", "u-logo") && self.logo.is_none() {
            self.logo = attribute(tag, "src").or_else(|| attribute(tag, "href"));
        }
        if is(tag, "class", "p-name") && self.name.is_empty() {
            self.naming = Some((element.to_owned(), 1));
        }
    }

    fn say(&mut self, text: &[u8]) {
        // Bounded here, and cut to what is shown later.
        if self.naming.is_some() && self.name.len() < MAX_LOGO_BYTES {
            self.name += &String::from_utf8_lossy(text);
        }
    }

    /// Whether this ends it.
    fn close(&mut self, element: &[u8]) -> bool {
        if let Some((name, depth)) = &mut self.naming
            && element == name.as_slice()
        {
            *depth -= 1;
            if *depth == 0 {
                self.naming = None;
            }
        }
        if element == self.element {
            self.depth = self.depth.saturating_sub(1);
        }
        self.depth == 0
    }

    fn is_about(&self, id: &Url) -> bool {
        self.url.as_ref().is_none_or(|url| url == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn read(id: &Url, links: &[&str], page: &str) -> Client {
        let mut client = Client::default();
        let links: Vec<String> = links.iter().map(|link| (*link).to_owned()).collect();
        client.read_links(id, &links);
        client.read_page(id, id, page);
        client
    }

    #[test]
    fn a_page_says_where_people_are_sent_back_to_and_who_it_is() {
        let id = url("https://app.example/");
        let links = [
            "</h1>; rel=\"redirect_uri\", <https://x.example/>; rel=me",
            "<https://app.example/h2>; REL=redirect_uri",
        ];
        let page = r#"<!doctype html><link rel="redirect_uri" href="/cb"><link rel=stylesheet href=/x>
            <div class="h-app"><a class="u-url p-name" href="/other">Other</a></div>
            <div class="h-app x"><div><a href="/" class="u-url p-name">My
              <b>App</b></a> and more<img src="logo.png" class="u-logo"></div></div>"#;
        let client = read(&id, &links, page);
        let redirects: Vec<&str> = client.redirects.iter().map(Url::as_str).collect();
        assert_eq!(redirects, ["https://app.example/h1", "https://app.example/h2", "https://app.example/cb"]);
        assert_eq!(client.name.as_deref(), Some("My App"));
        assert_eq!(client.logo.as_deref(), Some("https://app.example/logo.png"));
    }

    #[test]
    fn so_does_a_document_that_is_about_this_app() {
        let id = url("https://app.example/id");
        let read = |about: &str| {
            let mut client = Client::default();
            let document = serde_json::json!({
                "client_id": about,
                "client_name": "My App",
                "logo_uri": "/logo.png",
                "redirect_uris": ["https://app.example/cb"],
            });
            client.read_document(&id, &id, document.to_string().as_bytes());
            client
        };
        let client = read("https://app.example/id");
        assert_eq!(client.redirects, [url("https://app.example/cb")]);
        assert_eq!(client.name.as_deref(), Some("My App"));
        assert_eq!(client.logo.as_deref(), Some("https://app.example/logo.png"));
        assert_eq!(read("https://other.example/id"), Client::default());
    }

    #[test]
    fn nonsense_is_no_app() {
        let id = url("https://app.example/");
        for page in ["", "<div class=h-app>", "<link rel=redirect_uri>", "\u{0}<<<>>&#x110000;", "</div></a>"]
        {
            assert_eq!(read(&id, &["", "<>", "<x", ";;=,<x>;rel"], page), Client::default(), "{page}");
        }
    }

    #[test]
    fn an_id_is_an_address_that_names_one_site() {
        let fetcher = Fetcher::new(vec!["10.0.0.0/8".parse().unwrap()]).unwrap();
        for good in ["https://app.example/", "https://app.example:8443/a?b=c", "http://10.0.0.1:80/"] {
            assert!(id(&fetcher, good).is_some(), "{good}");
        }
        for bad in [
            "http://app.example/",
            "http://127.0.0.1/",
            "https://127.0.0.1/",
            "https://app.example/#x",
            "https://a:b@app.example/",
            "https://app.example/../x",
            "https://app.example/./x",
            "miria://x",
            "x",
        ] {
            assert!(id(&fetcher, bad).is_none(), "{bad}");
        }
    }
}
