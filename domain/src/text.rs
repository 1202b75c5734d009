//! What the text of a note names: people, hashtags and custom emoji. One pass, linear in the length.
//!
//! This is the part of MFM that the write side needs; code, plain text and links name nothing.

use unicode_normalization::UnicodeNormalization;

use crate::emoji;

/// Hashtags kept of one note.
pub const MAX_TAGS: usize = 32;
/// The longest hashtag, in characters.
pub const MAX_TAG_CHARS: usize = 128;
/// People looked up for one text.
pub const MAX_MENTIONS: usize = 100;
/// Custom emoji kept of one text.
pub const MAX_EMOJIS: usize = 32;

/// A person named in a text, as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mention {
    pub username: String,
    pub host: Option<String>,
}

/// What a text names, each once, in the order of appearance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    pub mentions: Vec<Mention>,
    /// As they are searched: NFKC and lower case.
    pub tags: Vec<String>,
    pub emojis: Vec<String>,
}

/// A hashtag as it is compared.
pub fn normalize_tag(tag: &str) -> String {
    tag.nfkc().collect::<String>().to_lowercase()
}

/// Reads a text.
pub fn named(text: &str) -> Named {
    let mut found = Named::default();
    let mut rest = text;
    let mut before: Option<char> = None;
    while let Some(here) = rest.chars().next() {
        let used = opaque(rest)
            .or_else(|| mention(rest, before, &mut found))
            .or_else(|| hashtag(rest, before, &mut found))
            .or_else(|| custom_emoji(rest, &mut found))
            .unwrap_or(here.len_utf8());
        before = rest[..used].chars().next_back();
        rest = &rest[used..];
    }
    found
}

/// The bytes of code, plain text or a link that starts here.
fn opaque(rest: &str) -> Option<usize> {
    for (open, close) in [("```", "```"), ("<plain>", "</plain>"), ("\\(", "\\)"), ("\\[", "\\]")] {
        if let Some(inside) = rest.strip_prefix(open) {
            return inside.find(close).map(|end| open.len() + end + close.len());
        }
    }
    if let Some(inside) = rest.strip_prefix('`') {
        let end = inside.find(['`', '\n', '´'])?;
        return (end > 0 && inside[end..].starts_with('`')).then_some(end + 2);
    }
    if rest.starts_with("https://") || rest.starts_with("http://") {
        let end =
            rest.find(|c: char| c.is_whitespace() || "<>\"「」（）【】".contains(c)).unwrap_or(rest.len());
        return Some(end);
    }
    None
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn mention(rest: &str, before: Option<char>, found: &mut Named) -> Option<usize> {
    if before.is_some_and(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let name = name_at(rest.strip_prefix('@')?, |c| is_word(c) || c == '-' || c == '.')?;
    let mut used = 1 + name.len();
    let host = rest[used..]
        .strip_prefix('@')
        .and_then(|after| name_at(after, |c| c.is_ascii_alphanumeric() || "-._:".contains(c)));
    used += host.map_or(0, |host| 1 + host.len());
    let mention = Mention { username: name.to_owned(), host: host.map(str::to_ascii_lowercase) };
    if found.mentions.len() < MAX_MENTIONS && !found.mentions.contains(&mention) {
        found.mentions.push(mention);
    }
    Some(used)
}

/// The longest run of such characters that neither starts nor ends with punctuation.
fn name_at(text: &str, allowed: impl Fn(char) -> bool) -> Option<&str> {
    let end = text.find(|c| !allowed(c)).unwrap_or(text.len());
    let name = text[..end].trim_end_matches(['-', '.', ':']);
    name.starts_with(is_word).then_some(name)
}

fn hashtag(rest: &str, before: Option<char>, found: &mut Named) -> Option<usize> {
    if before.is_some_and(char::is_alphanumeric) {
        return None;
    }
    let inside = rest.strip_prefix('#')?;
    let ends = |c: char| c.is_whitespace() || c == '\u{200b}' || ".,!?'\"#:/[]【】()「」（）<>".contains(c);
    let tag = &inside[..inside.find(ends).unwrap_or(inside.len())];
    if tag.is_empty() || tag.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let searched = normalize_tag(tag);
    let fits = searched.chars().count() <= MAX_TAG_CHARS && found.tags.len() < MAX_TAGS;
    if fits && !found.tags.contains(&searched) {
        found.tags.push(searched);
    }
    Some(1 + tag.len())
}

fn custom_emoji(rest: &str, found: &mut Named) -> Option<usize> {
    let inside = rest.strip_prefix(':')?;
    let end =
        inside.char_indices().take(emoji::MAX_NAME_BYTES + 1).find(|(_, c)| !is_word(*c)).map(|(i, _)| i)?;
    let name = &inside[..end];
    if !inside[end..].starts_with(':') || !emoji::is_name(name) {
        return None;
    }
    if found.emojis.len() < MAX_EMOJIS && !found.emojis.iter().any(|known| known == name) {
        found.emojis.push(name.to_owned());
    }
    Some(end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn people(text: &str) -> Vec<String> {
        let name = |m: Mention| m.host.map_or(m.username.clone(), |host| format!("{}@{host}", m.username));
        named(text).mentions.into_iter().map(name).collect()
    }

    #[test]
    fn people_are_named_with_or_without_a_host() {
        assert_eq!(
            people("@alice, @bob@Example.com. (@carol) mail@example.com @alice"),
            ["alice", "bob@example.com", "carol"]
        );
        assert_eq!(people("@ @- 日本@dave"), ["dave"]);
    }

    #[test]
    fn tags_are_compared_in_one_case_and_width() {
        assert_eq!(
            named("#Tag1 #tag1 #日本語 \u{200b} a#no #123 #ＡＢＣ, #x.").tags,
            ["tag1", "日本語", "abc", "x"]
        );
    }

    #[test]
    fn custom_emoji_are_named_between_colons() {
        assert_eq!(named(":blob: :a b: 12:30:45 ::").emojis, ["blob", "30"]);
    }

    #[test]
    fn code_plain_text_and_links_name_nothing() {
        let text = "`@a` ```\n#b :c:\n``` <plain>@d</plain> https://example.com/@e#f \\(@g\\) @h";
        assert_eq!(people(text), ["h"]);
        assert_eq!(named(text).tags, Vec::<String>::new());
        assert_eq!(people("`@open"), ["open"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_within_the_bounds(text in "[@#:`<a.\\\\(é\\n -]{0,400}") {
            let found = named(&text);
            prop_assert!(found.tags.len() <= MAX_TAGS && found.mentions.len() <= MAX_MENTIONS);
            prop_assert!(found.emojis.len() <= MAX_EMOJIS);
        }
    }
}
