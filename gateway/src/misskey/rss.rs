//! `fetch-rss`: what a feed of another site says, as RSS 2.0, RSS 1.0 or Atom.
//!
//! It is read in one pass over its tags, without going deeper than [`MAX_DEPTH`]: feeds come from anybody.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use html5gum::{Token, Tokenizer};
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::api::param::Text;
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, per};
use crate::app::App;
use crate::fetch::MAX_URL_BYTES;
use crate::preview::{FETCHES, text};

/// How long others may keep what a feed said, in seconds.
const FEED_SECONDS: u32 = 3 * 60;
/// How long a feed may take to come.
const FETCHED_WITHIN: Duration = Duration::from_secs(10);
/// The largest feed, in bytes.
const MAX_FEED_BYTES: usize = 1_024 * 1_024;
/// The most items that are shown, and categories of one of them.
const MAX_ITEMS: usize = 100;
const MAX_CATEGORIES: usize = 32;
/// The longest text that is taken, in bytes; what is beyond is left out.
const MAX_TEXT_BYTES: usize = 32 * 1_024;
/// Tags that are open at the same time.
const MAX_DEPTH: usize = 64;

/// Show what a feed of another site says.
#[derive(Deserialize, JsonSchema)]
pub struct Fetch {
    url: Text<1, MAX_URL_BYTES>,
}

const NO_FEED: ErrorDef = ErrorDef::new(
    "NO_SUCH_FEED",
    "There is no feed at this address.",
    "c3e8a4c6-6a0f-4d0e-9d55-5d6f0f8e2b71",
);

impl Endpoint for Fetch {
    // Misskey has no limit here; what sends the server elsewhere at anybody's word needs one.
    const META: Meta =
        Meta::new("fetch-rss").get().cache(FEED_SECONDS).limit(600, per::HOUR).errors(&[NO_FEED]);
    type Caller = Anyone;
    type Reply = Feed;

    async fn handle(self, app: &App, _: Anyone) -> Result<Feed, ApiError> {
        let _slot = FETCHES.try_acquire().map_err(|_| NO_FEED)?;
        let fetched = async {
            let fetched = app.fetcher.get(&self.url.0, "application/rss+xml, */*").await?;
            let content_type = fetched.content_type.clone().unwrap_or_default().to_ascii_lowercase();
            Ok::<_, crate::fetch::FetchError>((content_type, fetched.bytes(MAX_FEED_BYTES).await?))
        };
        let (content_type, bytes) = match timeout(FETCHED_WITHIN, fetched).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(cause)) => {
                tracing::debug!(%cause, "no feed");
                return Err(NO_FEED.into());
            }
            Err(_) => return Err(NO_FEED.into()),
        };
        // It may take a while, and whatever happens to it happens there.
        let read = tokio::task::spawn_blocking(move || Feed::read(&text(&content_type, &bytes))).await;
        Ok(read.map_err(ApiError::internal)?.ok_or(NO_FEED)?)
    }
}

/// A feed; what it doesn't say is left out.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Feed {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    feed_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Image>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pagination_links: Option<PaginationLinks>,
    items: Vec<Item>,
}

/// The picture of a feed.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
struct Image {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
}

/// Where the rest of a feed is.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
struct PaginationLinks {
    #[serde(rename = "self", skip_serializing_if = "Option::is_none")]
    this: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<String>,
}

/// Something that a feed tells.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Item {
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// As the feed has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    /// HTML of whoever wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// The same without its tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_snippet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iso_date: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    categories: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enclosure: Option<Enclosure>,
}

/// A file that goes with an item.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
struct Enclosure {
    url: String,
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
}

/// A tag that is open, and the text in it so far.
struct Open {
    name: String,
    text: String,
}

/// Where a tag stands: in the feed itself or in the item that was begun last, with the names from there on.
enum Place<'a> {
    Feed(&'a [&'a str]),
    Item(&'a [&'a str]),
    Elsewhere,
}

impl Place<'_> {
    fn of<'a>(names: &'a [&'a str]) -> Place<'a> {
        match names {
            ["rss", "channel", "item", rest @ ..]
            | ["rdf:RDF", "item", rest @ ..]
            | ["feed", "entry", rest @ ..] => Place::Item(rest),
            ["rss", "channel", rest @ ..] | ["rdf:RDF", "channel", rest @ ..] | ["feed", rest @ ..] => {
                Place::Feed(rest)
            }
            ["rdf:RDF", rest @ ..] => Place::Feed(rest),
            _ => Place::Elsewhere,
        }
    }
}

impl Feed {
    /// None when that is no feed.
    fn read(text: &str) -> Option<Self> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        let mut feed = Self::default();
        let mut item = Item::default();
        let mut open: Vec<Open> = Vec::new();
        let mut is_feed = false;
        loop {
            match reader.read_event().ok()? {
                Event::Start(tag) => {
                    if open.len() == MAX_DEPTH {
                        return None;
                    }
                    open.push(Open { name: name(&tag), text: String::new() });
                    let names: Vec<&str> = open.iter().map(|tag| tag.name.as_str()).collect();
                    match Place::of(&names) {
                        Place::Feed(place) => feed.begins(place, &tag),
                        Place::Item([]) => item = Item::default(),
                        Place::Item(place) => item.begins(place, &tag),
                        Place::Elsewhere => (),
                    }
                    is_feed |= !matches!(Place::of(&names), Place::Elsewhere);
                }
                Event::End(_) => {
                    let names: Vec<&str> = open.iter().map(|tag| tag.name.as_str()).collect();
                    let said = open.last().map_or("", |tag| tag.text.trim());
                    // Tags in a text leave what stands in them.
                    let is_in_text = match Place::of(&names) {
                        Place::Feed(place) => {
                            feed.ends(place, said);
                            place.len() > 1
                        }
                        Place::Item([]) => {
                            feed.items.push(std::mem::take(&mut item).done());
                            if feed.items.len() == MAX_ITEMS {
                                return Some(feed);
                            }
                            false
                        }
                        Place::Item(place) => {
                            item.ends(place, said);
                            place.len() > 1
                        }
                        Place::Elsewhere => false,
                    };
                    let closed = open.pop()?;
                    if let Some(around) = open.last_mut().filter(|_| is_in_text) {
                        add(&mut around.text, &closed.text);
                    }
                }
                Event::Text(said) => {
                    let said = said.decode().ok()?;
                    open.last_mut().into_iter().for_each(|tag| add(&mut tag.text, &said));
                }
                Event::CData(said) => {
                    let said = said.decode().ok()?;
                    open.last_mut().into_iter().for_each(|tag| add(&mut tag.text, &said));
                }
                Event::GeneralRef(entity) => {
                    let letter = entity.resolve_char_ref().ok()?.map(String::from);
                    let known = || resolve_predefined_entity(&entity.decode().ok()?).map(str::to_owned);
                    let said = letter.or_else(known).unwrap_or_default();
                    open.last_mut().into_iter().for_each(|tag| add(&mut tag.text, &said));
                }
                Event::Eof => return (is_feed && open.is_empty()).then_some(feed),
                _ => (),
            }
        }
    }

    fn begins(&mut self, place: &[&str], tag: &BytesStart<'_>) {
        if !matches!(place, ["link" | "atom:link"]) {
            return;
        }
        let Some(href) = attribute(tag, "href") else { return };
        let rel = attribute(tag, "rel").unwrap_or_else(|| "alternate".to_owned());
        let links = self.pagination_links.get_or_insert_default();
        let link = match rel.as_str() {
            "alternate" => &mut self.link,
            "self" => {
                self.feed_url.get_or_insert_with(|| href.clone());
                &mut links.this
            }
            "first" => &mut links.first,
            "next" => &mut links.next,
            "last" => &mut links.last,
            "prev" | "previous" => &mut links.prev,
            _ => return,
        };
        link.get_or_insert(href);
        if self.pagination_links == Some(PaginationLinks::default()) {
            self.pagination_links = None;
        }
    }

    fn ends(&mut self, place: &[&str], said: &str) {
        if said.is_empty() {
            return;
        }
        match place {
            ["title"] => _ = self.title.get_or_insert_with(|| said.to_owned()),
            ["description" | "subtitle"] => _ = self.description.get_or_insert_with(|| said.to_owned()),
            ["link"] => _ = self.link.get_or_insert_with(|| said.to_owned()),
            ["image", "url"] | ["logo"] => self.image.get_or_insert_default().url = said.to_owned(),
            ["image", "link"] => self.image.get_or_insert_default().link = Some(said.to_owned()),
            ["image", "title"] => self.image.get_or_insert_default().title = Some(said.to_owned()),
            // A picture without an address is none.
            ["image"] => self.image = self.image.take().filter(|image| !image.url.is_empty()),
            _ => (),
        }
    }
}

impl Item {
    fn begins(&mut self, place: &[&str], tag: &BytesStart<'_>) {
        match place {
            ["enclosure"] => {
                if let (Some(url), None) = (attribute(tag, "url"), &self.enclosure) {
                    let length = attribute(tag, "length").and_then(|length| length.parse().ok());
                    self.enclosure = Some(Enclosure { url, length, kind: attribute(tag, "type") });
                }
            }
            ["link"] => {
                let Some(href) = attribute(tag, "href") else { return };
                match attribute(tag, "rel").as_deref() {
                    None | Some("alternate") => _ = self.link.get_or_insert(href),
                    Some("enclosure") if self.enclosure.is_none() => {
                        let length = attribute(tag, "length").and_then(|length| length.parse().ok());
                        self.enclosure = Some(Enclosure { url: href, length, kind: attribute(tag, "type") });
                    }
                    Some(_) => (),
                }
            }
            ["category"] => self.is_about(attribute(tag, "term")),
            _ => (),
        }
    }

    fn ends(&mut self, place: &[&str], said: &str) {
        if said.is_empty() {
            return;
        }
        let said = said.to_owned();
        match place {
            ["title"] => _ = self.title.get_or_insert(said),
            ["link"] => _ = self.link.get_or_insert(said),
            ["guid" | "id"] => _ = self.guid.get_or_insert(said),
            // An item was written before it was changed.
            ["pubDate" | "dc:date" | "published"] => self.pub_date = Some(said),
            ["updated"] => _ = self.pub_date.get_or_insert(said),
            ["author", "name"] | ["author" | "dc:creator"] => _ = self.creator.get_or_insert(said),
            ["summary"] => self.summary = Some(said),
            ["description" | "content"] => self.content = Some(said),
            ["content:encoded"] => _ = self.content.get_or_insert(said),
            ["category"] => self.is_about(Some(said)),
            _ => (),
        }
    }

    fn is_about(&mut self, category: Option<String>) {
        if self.categories.len() < MAX_CATEGORIES {
            self.categories.extend(category);
        }
    }

    /// With what follows from the rest.
    fn done(self) -> Self {
        let date = self.pub_date.as_deref().and_then(date);
        Self {
            iso_date: date.map(|date| date.to_rfc3339_opts(SecondsFormat::Millis, true)),
            content_snippet: self.content.as_deref().map(plain),
            ..self
        }
    }
}

fn name(tag: &BytesStart<'_>) -> String {
    String::from_utf8_lossy(tag.name().as_ref()).into_owned()
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let value = tag.try_get_attribute(name).ok()??.normalized_value(XmlVersion::default()).ok()?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty() && value.len() <= MAX_TEXT_BYTES)
}

/// As much of a text as there is room for.
fn add(text: &mut String, more: &str) {
    let room = MAX_TEXT_BYTES.saturating_sub(text.len());
    text.push_str(&more[..more.floor_char_boundary(room)]);
}

fn date(text: &str) -> Option<DateTime<Utc>> {
    let date = DateTime::parse_from_rfc2822(text).or_else(|_| DateTime::parse_from_rfc3339(text));
    Some(date.ok()?.to_utc())
}

/// HTML without its tags.
fn plain(html: &str) -> String {
    let mut plain = String::new();
    for Ok(token) in Tokenizer::new(html) {
        if let Token::String(text) = token {
            plain.push_str(&String::from_utf8_lossy(&text));
        }
    }
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> serde_json::Value {
        json!(Feed::read(text).unwrap())
    }

    #[test]
    fn rss_2_is_read() {
        let feed = r#"<?xml version="1.0"?>
            <rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom" xmlns:dc="http://purl.org/dc/elements/1.1/">
            <channel><title>A &amp; B</title><link>https://a.example/</link><description>All &#x2728;</description>
            <atom:link href="https://a.example/feed" rel="self" type="application/rss+xml"/>
            <image><url>https://a.example/a.png</url><title>A</title><link>https://a.example/</link></image>
            <item><title><![CDATA[One <1>]]></title><link>https://a.example/1</link>
              <guid isPermaLink="false">one</guid><pubDate>Sat, 07 Sep 2002 00:00:01 GMT</pubDate>
              <dc:creator>alice</dc:creator><category>x</category><category>y</category>
              <description>&lt;p&gt;Hello &amp;amp; &lt;b&gt;you&lt;/b&gt;&lt;/p&gt;</description>
              <enclosure url="https://a.example/1.mp3?a=1&amp;b=2" length="12" type="audio/mpeg"/></item>
            <item><title>Two</title><pubDate>some day</pubDate></item>
            </channel></rss>"#;
        let expected = json!({
            "title": "A & B", "link": "https://a.example/", "description": "All ✨",
            "feedUrl": "https://a.example/feed",
            "paginationLinks": { "self": "https://a.example/feed" },
            "image": { "url": "https://a.example/a.png", "title": "A", "link": "https://a.example/" },
            "items": [
                {
                    "title": "One <1>", "link": "https://a.example/1", "guid": "one", "creator": "alice",
                    "pubDate": "Sat, 07 Sep 2002 00:00:01 GMT", "isoDate": "2002-09-07T00:00:01.000Z",
                    "content": "<p>Hello &amp; <b>you</b></p>", "contentSnippet": "Hello & you",
                    "categories": ["x", "y"],
                    "enclosure": {
                        "url": "https://a.example/1.mp3?a=1&b=2", "length": 12, "type": "audio/mpeg",
                    },
                },
                { "title": "Two", "pubDate": "some day" },
            ],
        });
        assert_eq!(read(feed), expected);
    }

    #[test]
    fn atom_is_read() {
        let feed = r#"<feed xmlns="http://www.w3.org/2005/Atom"><title type="text">A</title><id>urn:a</id>
            <link href="https://a.example/"/><link rel="next" href="https://a.example/feed?2"/>
            <entry><id>urn:1</id><title>One</title><updated>2003-12-13T18:30:02+01:00</updated>
              <link rel="alternate" href="https://a.example/1"/><author><name>Bob</name><uri>x</uri></author>
              <published>2003-12-12T00:00:00Z</published><category term="x"/>
              <content type="xhtml"><div>Hello <b>you</b></div></content></entry></feed>"#;
        let expected = json!({
            "title": "A", "link": "https://a.example/", "paginationLinks": { "next": "https://a.example/feed?2" },
            "items": [{
                "guid": "urn:1", "title": "One", "link": "https://a.example/1", "creator": "Bob",
                "pubDate": "2003-12-12T00:00:00Z", "isoDate": "2003-12-12T00:00:00.000Z",
                "content": "Hello you", "contentSnippet": "Hello you", "categories": ["x"],
            }],
        });
        assert_eq!(read(feed), expected);
    }

    #[test]
    fn rss_1_is_read() {
        let feed = "<rdf:RDF><channel><title>A</title><link>https://a.example/</link></channel>
            <item><title>One</title><link>https://a.example/1</link><dc:date>2003-12-12T00:00:00Z</dc:date></item>
            </rdf:RDF>";
        let expected = json!({
            "title": "A", "link": "https://a.example/",
            "items": [{
                "title": "One", "link": "https://a.example/1",
                "pubDate": "2003-12-12T00:00:00Z", "isoDate": "2003-12-12T00:00:00.000Z",
            }],
        });
        assert_eq!(read(feed), expected);
    }

    #[test]
    fn what_is_no_feed_or_goes_too_deep_is_none() {
        for text in ["", "{}", "hello", "<html><body>x</body></html>", "<rss><channel>", "<feed></rss>"] {
            assert_eq!(Feed::read(text), None, "{text}");
        }
        let deep = "<a>".repeat(100_000);
        assert_eq!(Feed::read(&format!("<rss><channel>{deep}")), None);
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let long = "x".repeat(MAX_TEXT_BYTES + 10);
        let items = format!("<item><title>{long}</title></item>").repeat(3);
        let many = "<item/>".repeat(MAX_ITEMS * 2);
        let feed = Feed::read(&format!("<rss><channel>{items}{many}</channel></rss>")).unwrap();
        assert_eq!(feed.items.len(), MAX_ITEMS);
        assert_eq!(feed.items[0].title.as_ref().map(String::len), Some(MAX_TEXT_BYTES));
        let bomb = r#"<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><rss><channel>
            <title>&b;!</title></channel></rss>"#;
        assert_eq!(Feed::read(bomb).unwrap().title.as_deref(), Some("!"));
    }
}
