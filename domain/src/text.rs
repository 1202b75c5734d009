//! What the text of a note names: people, hashtags and custom emoji, wherever its markup ([`mfm`]) has them;
//! code, plain text and links name nothing.

use unicode_normalization::UnicodeNormalization;

use crate::emoji;
use crate::mfm::{self, Node};

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

impl Named {
    /// Adds what another text names.
    pub fn add(&mut self, text: &str) {
        self.take(&mfm::parse(text));
    }

    fn take(&mut self, nodes: &[Node]) {
        for node in nodes {
            match node {
                Node::Mention { username, host } => {
                    let host = host.as_deref().map(str::to_ascii_lowercase);
                    keep(&mut self.mentions, Mention { username: username.clone(), host }, MAX_MENTIONS);
                }
                Node::Hashtag(tag) => {
                    let searched = normalize_tag(tag);
                    if searched.chars().count() <= MAX_TAG_CHARS {
                        keep(&mut self.tags, searched, MAX_TAGS);
                    }
                }
                Node::EmojiCode(name) if emoji::is_name(name) => {
                    keep(&mut self.emojis, name.clone(), MAX_EMOJIS);
                }
                _ => self.take(node.children()),
            }
        }
    }
}

/// Reads a text.
pub fn named(text: &str) -> Named {
    let mut named = Named::default();
    named.add(text);
    named
}

fn keep<T: PartialEq>(kept: &mut Vec<T>, new: T, most: usize) {
    if kept.len() < most && !kept.contains(&new) {
        kept.push(new);
    }
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
        assert_eq!(named(":blob: :a b: 12:30:45 ::").emojis, ["blob"]);
    }

    #[test]
    fn code_plain_text_and_links_name_nothing() {
        let text = "```\n#b :c:\n```\n`@a` <plain>@d</plain> https://example.com/@e#f \\(@g\\) @h";
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
