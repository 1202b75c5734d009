//! Reactions and custom emoji names as text, normalised as Misskey does.

use serde::{Deserialize, Serialize};

/// What a reaction becomes that is empty, malformed or unknown.
pub const FALLBACK: &str = "❤";
/// The longest name of a custom emoji, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// A reaction as it is stored: one Unicode emoji, or `:name@.:` for a local custom emoji, or
/// `:name@host:` for a remote one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reaction(String);

/// What a client asked for, before it is known whether the custom emoji exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Unicode(Reaction),
    /// A custom emoji of this server, by name.
    Custom(String),
}

impl Reaction {
    pub fn fallback() -> Self {
        Self(FALLBACK.to_owned())
    }

    /// A reaction by the text that was stored.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// A custom emoji of this server.
    pub fn local(name: &str) -> Self {
        Self(format!(":{name}@.:"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As Misskey's notifications and timelines show it: `:name@.:` is printed `:name:`.
    pub fn shown(&self) -> String {
        self.0.strip_suffix("@.:").map_or_else(|| self.0.clone(), |name| format!("{name}:"))
    }
}

/// Reads what a client sent. Never fails: what is not an emoji is the fallback (recorded behaviour
/// of `notes/reactions/create`), and the names of the first versions stay known.
pub fn parse(text: &str) -> Asked {
    if let Some(name) = custom_name(text) {
        return Asked::Custom(name.to_owned());
    }
    let legacy = match text {
        "like" => Some("👍"),
        "love" => Some("❤"),
        "laugh" => Some("😆"),
        "hmm" => Some("🤔"),
        "surprise" => Some("😮"),
        "congrats" => Some("🎉"),
        "angry" => Some("💢"),
        "confused" => Some("😥"),
        "rip" => Some("😇"),
        "pudding" => Some("🍮"),
        "star" => Some("⭐"),
        _ => None,
    };
    if let Some(emoji) = legacy {
        return Asked::Unicode(Reaction(emoji.to_owned()));
    }
    match emojis::get(text) {
        // A variation selector is kept inside a sequence and dropped from a single character.
        Some(_) if text.contains('\u{200d}') => Asked::Unicode(Reaction(text.to_owned())),
        Some(_) => Asked::Unicode(Reaction(text.replace('\u{fe0f}', ""))),
        None => Asked::Unicode(Reaction::fallback()),
    }
}

/// The name in `:name:` or `:name@.:`.
fn custom_name(text: &str) -> Option<&str> {
    let inner = text.strip_prefix(':')?.strip_suffix(':')?;
    let name = inner.strip_suffix("@.").unwrap_or(inner);
    is_name(name).then_some(name)
}

/// Whether this is the name of a custom emoji: ASCII letters, digits and underscores.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unicode(text: &str) -> String {
        match parse(text) {
            Asked::Unicode(reaction) => reaction.as_str().to_owned(),
            Asked::Custom(name) => panic!("{text} was read as the custom emoji {name}"),
        }
    }

    #[test]
    fn unicode_emoji_are_kept_and_anything_else_becomes_a_heart() {
        assert_eq!(unicode("👍"), "👍");
        assert_eq!(unicode("❤️"), "❤");
        assert_eq!(unicode("👨‍👩‍👧"), "👨‍👩‍👧");
        assert_eq!(unicode("like"), "👍");
        for bad in ["", "not an emoji", "👍👍", ":a b:", "::", "a"] {
            assert_eq!(unicode(bad), FALLBACK, "{bad}");
        }
    }

    #[test]
    fn custom_emoji_are_asked_for_by_name() {
        assert_eq!(parse(":blob:"), Asked::Custom("blob".to_owned()));
        assert_eq!(parse(":blob@.:"), Asked::Custom("blob".to_owned()));
        assert_eq!(Reaction::local("blob").as_str(), ":blob@.:");
        assert_eq!(Reaction::local("blob").shown(), ":blob:");
    }
}
