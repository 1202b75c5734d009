//! Reactions as text, normalised as Misskey does, and the custom emoji of this server.
//!
//! An emoji has the stream `emoji-{id}`, and each name that one had the stream `emojiname-{hash}`, so that no
//! two have the same: whoever wants a name claims it there first, and may take it only as long as nobody
//! else's claim was let through. A claim whose emoji has another name, or is no more, is ended in the stream
//! of that emoji before the next one stands, so nobody takes a name late.

use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{CommandId, EmojiId, RoleId, UserId};
use crate::log::StreamId;
use crate::note::ReactionAcceptance;
use crate::{Event, Fold};

/// What a reaction becomes that is empty, malformed or unknown.
pub const FALLBACK: &str = "❤";
/// The longest name of a custom emoji, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// The most other words by which an emoji is found, and the longest of them, in characters.
pub const MAX_ALIASES: usize = 128;
pub const MAX_ALIAS_CHARS: usize = 128;
/// The longest category, in characters.
pub const MAX_CATEGORY_CHARS: usize = 128;
/// The longest license, in characters.
pub const MAX_LICENSE_CHARS: usize = 1_024;
/// The longest remark of those who look after emoji, in characters.
pub const MAX_MEMO_CHARS: usize = 2_048;
/// The most roles that an emoji is kept for.
pub const MAX_ROLES: usize = 64;

/// The stream of one custom emoji.
pub fn stream(emoji: EmojiId) -> StreamId {
    StreamId::new("emoji", emoji)
}

/// The stream of one name, by a hash of it.
pub fn name_stream(hash: &str) -> StreamId {
    StreamId::new("emojiname", hash)
}

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

/// The picture of an emoji: bytes of the server's own, whatever becomes of the file that they came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Under which the bytes are kept and served.
    pub key: String,
    /// The same of a small picture that stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
    /// As found in the bytes, such as `image/png`.
    pub media_type: String,
}

/// What a custom emoji is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub name: String,
    /// Other words by which it is found.
    #[serde(default)]
    pub aliases: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    #[serde(default)]
    pub sensitive: bool,
    /// Not for other servers.
    #[serde(default)]
    pub local_only: bool,
    /// Only those who have one of these roles react with it; everybody when there are none.
    #[serde(default)]
    pub roles: Vec<RoleId>,
    /// For those who look after emoji.
    #[serde(default)]
    pub memo: String,
    pub picture: Picture,
}

/// A change of the aliases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AliasChange {
    Set(Vec<String>),
    Add(Vec<String>),
    Remove(Vec<String>),
}

/// A change of an emoji: only what is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub name: Option<String>,
    pub aliases: Option<AliasChange>,
    pub category: Option<Option<String>>,
    pub license: Option<Option<String>>,
    pub sensitive: Option<bool>,
    pub local_only: Option<bool>,
    pub roles: Option<Vec<RoleId>>,
    pub memo: Option<String>,
    pub picture: Option<Picture>,
}

/// `emoji.claimed`: the name is for this emoji, if it takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    pub name: String,
    pub emoji: EmojiId,
    pub claim: CommandId,
}

/// `emoji.unclaimed`: the emoji has not taken the name that it claimed, and will not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unclaimed {
    pub emoji: EmojiId,
    pub claim: CommandId,
}

/// `emoji.added`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    pub emoji: EmojiId,
    pub definition: Definition,
}

/// `emoji.changed`: what it is from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub emoji: EmojiId,
    pub definition: Definition,
}

/// `emoji.deleted`: with what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub emoji: EmojiId,
    pub definition: Definition,
}

macro_rules! of_the_server {
    ($($payload:ty),*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                None
            }
        }
    )*};
}
of_the_server!(Claimed, Unclaimed, Added, Changed, Deleted);

/// One custom emoji, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Emoji {
    /// None before it is added and after it was deleted.
    pub definition: Option<Definition>,
    pub deleted: bool,
    unclaimed: Vec<CommandId>,
}

impl Fold for Emoji {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::EmojiAdded(e) => self.definition = Some(e.definition.clone()),
            Event::EmojiChanged(e) => self.definition = Some(e.definition.clone()),
            Event::EmojiDeleted(_) => *self = Self { deleted: true, ..Self::default() },
            Event::EmojiUnclaimed(e) => self.unclaimed.push(e.claim),
            _ => (),
        }
    }
}

/// Whose a name is, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    pub held: Option<Held>,
}

/// Who claimed a name last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub emoji: EmojiId,
    pub claim: CommandId,
}

impl Fold for Name {
    fn apply(&mut self, event: &Event) {
        if let Event::EmojiClaimed(e) = event {
            self.held = Some(Held { emoji: e.emoji, claim: e.claim });
        }
    }
}

/// Why an emoji is not added, changed or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotEmoji {
    #[error("no such emoji")]
    NoSuchEmoji,
    #[error("another emoji has this name")]
    NameTaken,
    #[error("not a name for an emoji")]
    InvalidName,
    #[error("a text is too long, or there are too many of something")]
    TooLarge,
}

/// Decides that the emoji that claimed a name lets go of it; refused when it has the name.
pub fn let_go(current: &Emoji, name: &str, held: Held) -> Result<Vec<Event>, CannotEmoji> {
    if current.definition.as_ref().is_some_and(|emoji| emoji.name == name) {
        return Err(CannotEmoji::NameTaken);
    }
    // What is deleted takes nothing any more.
    if current.deleted || current.unclaimed.contains(&held.claim) {
        return Ok(Vec::new());
    }
    Ok(vec![Unclaimed { emoji: held.emoji, claim: held.claim }.into()])
}

/// Decides the claim of a name that the one who is known to have claimed it before has let go of.
pub fn claim(
    current: &Name,
    let_go: Option<Held>,
    name: &str,
    wanted: Held,
) -> Result<Vec<Event>, CannotEmoji> {
    if current.held == Some(wanted) {
        return Ok(Vec::new());
    }
    if current.held != let_go {
        return Err(CannotEmoji::NameTaken);
    }
    Ok(vec![Claimed { name: name.to_owned(), emoji: wanted.emoji, claim: wanted.claim }.into()])
}

/// Decides a new emoji, whose name was claimed.
pub fn add(
    current: &Emoji,
    emoji: EmojiId,
    definition: Definition,
    claim: CommandId,
) -> Result<Vec<Event>, CannotEmoji> {
    if current.definition.is_some() || current.deleted {
        return Ok(Vec::new());
    }
    if current.unclaimed.contains(&claim) {
        return Err(CannotEmoji::NameTaken);
    }
    Ok(vec![Added { emoji, definition: checked(definition)? }.into()])
}

/// Decides a change, for which a new name was claimed; what is then as before is no event.
pub fn change(
    current: &Emoji,
    emoji: EmojiId,
    changes: Changes,
    claim: CommandId,
) -> Result<Vec<Event>, CannotEmoji> {
    let before = current.definition.as_ref().ok_or(CannotEmoji::NoSuchEmoji)?;
    let definition = checked(changes.over(before.clone()))?;
    if definition.name != before.name && current.unclaimed.contains(&claim) {
        return Err(CannotEmoji::NameTaken);
    }
    Ok(if definition == *before { Vec::new() } else { vec![Changed { emoji, definition }.into()] })
}

/// Decides that an emoji is no more.
pub fn delete(current: &Emoji, emoji: EmojiId) -> Result<Vec<Event>, CannotEmoji> {
    let definition = current.definition.clone().ok_or(CannotEmoji::NoSuchEmoji)?;
    Ok(vec![Deleted { emoji, definition }.into()])
}

impl Definition {
    /// What somebody with these roles reacts with who asks for this emoji under a note.
    pub fn reaction(&self, roles: &[RoleId], acceptance: Option<ReactionAcceptance>) -> Reaction {
        let is_for = self.roles.is_empty() || self.roles.iter().any(|role| roles.contains(role));
        let is_taken = match acceptance {
            Some(
                ReactionAcceptance::NonSensitiveOnly
                | ReactionAcceptance::NonSensitiveOnlyForLocalLikeOnlyForRemote,
            ) => !self.sensitive,
            Some(ReactionAcceptance::LikeOnly | ReactionAcceptance::LikeOnlyForRemote) | None => true,
        };
        if is_for && is_taken { Reaction::local(&self.name) } else { Reaction::fallback() }
    }
}

impl Changes {
    fn over(self, before: Definition) -> Definition {
        Definition {
            aliases: match self.aliases {
                None => before.aliases,
                Some(change) => change.over(before.aliases),
            },
            name: self.name.unwrap_or(before.name),
            category: self.category.unwrap_or(before.category),
            license: self.license.unwrap_or(before.license),
            sensitive: self.sensitive.unwrap_or(before.sensitive),
            local_only: self.local_only.unwrap_or(before.local_only),
            roles: self.roles.unwrap_or(before.roles),
            memo: self.memo.unwrap_or(before.memo),
            picture: self.picture.unwrap_or(before.picture),
        }
    }
}

impl AliasChange {
    fn over(self, mut before: Vec<String>) -> Vec<String> {
        match self {
            AliasChange::Set(aliases) => {
                before.clear();
                AliasChange::Add(aliases).over(before)
            }
            AliasChange::Add(aliases) => {
                for alias in aliases {
                    if !before.contains(&alias) {
                        before.push(alias);
                    }
                }
                before
            }
            AliasChange::Remove(aliases) => {
                before.retain(|alias| !aliases.contains(alias));
                before
            }
        }
    }
}

fn checked(definition: Definition) -> Result<Definition, CannotEmoji> {
    if !is_name(&definition.name) {
        return Err(CannotEmoji::InvalidName);
    }
    let fits = |text: &str, most: usize| text.chars().count() <= most;
    let is_short = |text: &Option<String>, most| text.as_deref().is_none_or(|text| fits(text, most));
    let fits = is_short(&definition.category, MAX_CATEGORY_CHARS)
        && is_short(&definition.license, MAX_LICENSE_CHARS)
        && fits(&definition.memo, MAX_MEMO_CHARS)
        && definition.aliases.len() <= MAX_ALIASES
        && definition.aliases.iter().all(|alias| fits(alias, MAX_ALIAS_CHARS))
        && definition.roles.len() <= MAX_ROLES;
    if fits { Ok(definition) } else { Err(CannotEmoji::TooLarge) }
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

    /// The name of the custom emoji of this server that it is, if it is one.
    pub fn local_name(&self) -> Option<&str> {
        self.0.strip_prefix(':')?.strip_suffix("@.:")
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
    use crate::note::tests::id;

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

    fn blob() -> Definition {
        Definition {
            name: "blob".to_owned(),
            aliases: vec!["round".to_owned()],
            category: Some("faces".to_owned()),
            license: None,
            sensitive: false,
            local_only: false,
            roles: Vec::new(),
            memo: String::new(),
            picture: Picture { key: "key".to_owned(), thumbnail: None, media_type: "image/png".to_owned() },
        }
    }

    fn held(n: u8) -> Held {
        Held { emoji: EmojiId(id(n)), claim: CommandId(id(n)) }
    }

    #[test]
    fn an_emoji_is_added_changed_and_deleted() {
        let id = EmojiId(id(1));
        let mut now = Emoji::of(&add(&Emoji::default(), id, blob(), held(1).claim).unwrap());
        assert_eq!(now.definition, Some(blob()));
        let mut change_to = |changes: Changes| {
            let events = change(&now, id, changes, held(2).claim)?;
            events.iter().for_each(|event| now.apply(event));
            Ok::<_, CannotEmoji>((events.len(), now.definition.clone().unwrap()))
        };
        let aliases = |change| Changes { aliases: Some(change), ..Changes::default() };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let more = change_to(aliases(AliasChange::Add(words(&["round", "yellow"])))).unwrap();
        assert_eq!(more.1.aliases, ["round", "yellow"]);
        let fewer = change_to(aliases(AliasChange::Remove(words(&["round", "blue"])))).unwrap();
        assert_eq!(fewer.1.aliases, ["yellow"]);
        let same = change_to(aliases(AliasChange::Set(words(&["yellow", "yellow"])))).unwrap();
        assert_eq!((same.0, same.1.aliases), (0, words(&["yellow"])));
        let moved = Changes { category: Some(None), ..Changes::default() };
        assert_eq!(change_to(moved).unwrap().1.category, None);
        let long = Changes { license: Some(Some("x".repeat(MAX_LICENSE_CHARS + 1))), ..Changes::default() };
        assert_eq!(change_to(long), Err(CannotEmoji::TooLarge));
        let odd = Changes { name: Some("a b".to_owned()), ..Changes::default() };
        assert_eq!(change_to(odd), Err(CannotEmoji::InvalidName));
        now.apply(&delete(&now, id).unwrap()[0]);
        assert_eq!(delete(&now, id), Err(CannotEmoji::NoSuchEmoji));
        assert_eq!(change(&now, id, Changes::default(), held(2).claim), Err(CannotEmoji::NoSuchEmoji));
    }

    #[test]
    fn a_name_is_one_emojis_at_a_time() {
        let mut name = Name::default();
        let mut claims = |let_go, wanted| {
            let events = claim(&name, let_go, "blob", wanted)?;
            events.iter().for_each(|event| name.apply(event));
            Ok::<_, CannotEmoji>(events.len())
        };
        assert_eq!(claims(None, held(1)), Ok(1));
        assert_eq!(claims(None, held(1)), Ok(0), "the same claim once more");
        assert_eq!(claims(None, held(2)), Err(CannotEmoji::NameTaken), "somebody else was faster");
        assert_eq!(claims(Some(held(1)), held(2)), Ok(1));

        let has = Emoji { definition: Some(blob()), ..Emoji::default() };
        assert_eq!(let_go(&has, "blob", held(1)), Err(CannotEmoji::NameTaken));
        assert_eq!(let_go(&has, "other", held(1)).unwrap().len(), 1);
        assert_eq!(let_go(&Emoji { deleted: true, ..Emoji::default() }, "blob", held(1)), Ok(Vec::new()));
    }

    #[test]
    fn a_claim_that_was_ended_gives_no_name_any_more() {
        // Emoji 1 claimed the name and was cut off; somebody else wants it.
        let late = Emoji::of(&let_go(&Emoji::default(), "blob", held(1)).unwrap());
        let added = add(&late, held(1).emoji, blob(), held(1).claim);
        assert_eq!(added, Err(CannotEmoji::NameTaken));
        assert_eq!(add(&late, held(1).emoji, blob(), held(2).claim).unwrap().len(), 1);
        let mut other = Emoji { definition: Some(blob()), ..Emoji::default() };
        other.apply(&let_go(&other, "cat", held(3)).unwrap()[0]);
        let renamed = Changes { name: Some("cat".to_owned()), ..Changes::default() };
        let taken = change(&other, EmojiId(id(1)), renamed.clone(), held(3).claim);
        assert_eq!(taken, Err(CannotEmoji::NameTaken));
        assert_eq!(change(&other, EmojiId(id(1)), renamed, held(4).claim).unwrap().len(), 1);
    }

    #[test]
    fn who_may_not_react_with_an_emoji_reacts_with_a_heart() {
        let role = RoleId(id(7));
        let kept = Definition { roles: vec![role], ..blob() };
        assert_eq!(kept.reaction(&[role], None), Reaction::local("blob"));
        assert_eq!(kept.reaction(&[], None), Reaction::fallback());
        let lewd = Definition { sensitive: true, ..blob() };
        for (acceptance, expected) in [
            (None, Reaction::local("blob")),
            (Some(ReactionAcceptance::LikeOnlyForRemote), Reaction::local("blob")),
            (Some(ReactionAcceptance::NonSensitiveOnly), Reaction::fallback()),
            (Some(ReactionAcceptance::NonSensitiveOnlyForLocalLikeOnlyForRemote), Reaction::fallback()),
        ] {
            assert_eq!(lewd.reaction(&[], acceptance), expected, "{acceptance:?}");
        }
    }

    #[test]
    fn custom_emoji_are_asked_for_by_name() {
        assert_eq!(parse(":blob:"), Asked::Custom("blob".to_owned()));
        assert_eq!(parse(":blob@.:"), Asked::Custom("blob".to_owned()));
        assert_eq!(Reaction::local("blob").as_str(), ":blob@.:");
        assert_eq!(Reaction::local("blob").shown(), ":blob:");
        assert_eq!(Reaction::local("blob").local_name(), Some("blob"));
        assert_eq!(Reaction::stored(":blob@b.example:".to_owned()).local_name(), None);
    }
}
