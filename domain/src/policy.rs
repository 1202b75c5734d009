//! Who may see a note, or a list of people, in one place. Presenters take only notes that came through
//! here. What one may see and what one wants to see are two questions: [`see`] and [`wants`].
//!
//! Visibility is decided from facts ([`Facts`]) that both sides have: the write side folds them from
//! the log, the read side loads them from its tables. SQL may narrow candidates, it never decides.

use chrono::{DateTime, Utc};

use crate::ids::{NoteId, UserId};
use crate::note::{Created, Visibility};
use crate::user::{FfVisibility, Profile, User};

/// Who looks: somebody signed in, or anybody.
pub type Viewer = Option<UserId>;

/// What an author asks for all their notes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuthorRules {
    pub requires_signin: bool,
    /// Seconds: absolute since 1970 when positive, before now when not.
    pub followers_only_before: Option<i64>,
    /// As above.
    pub hidden_before: Option<i64>,
    /// They are suspended: nobody else sees what they wrote.
    pub suspended: bool,
}

impl From<&Profile> for AuthorRules {
    fn from(profile: &Profile) -> Self {
        Self {
            requires_signin: profile.require_signin_to_view_contents,
            followers_only_before: profile.make_notes_followers_only_before,
            hidden_before: profile.make_notes_hidden_before,
            suspended: false,
        }
    }
}

impl From<&User> for AuthorRules {
    fn from(author: &User) -> Self {
        Self { suspended: author.suspended, ..Self::from(&author.profile) }
    }
}

/// What the decision needs to know of a note.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub id: NoteId,
    pub author: UserId,
    pub visibility: Visibility,
    pub visible_to: &'a [UserId],
    pub mentions: &'a [UserId],
    /// The author of the note that this one answers.
    pub reply_author: Option<UserId>,
    pub local_only: bool,
    pub rules: AuthorRules,
}

impl<'a> Facts<'a> {
    /// The facts of a note as the write side folds it.
    pub fn of(note: &'a Created, author: impl Into<AuthorRules>) -> Self {
        Self {
            id: note.id,
            author: note.author,
            visibility: note.visibility,
            visible_to: &note.visible_to,
            mentions: &note.mentions,
            reply_author: note.reply.map(|reply| reply.author),
            local_only: note.local_only,
            rules: author.into(),
        }
    }
}

/// Something that carries the facts of a note.
pub trait Guarded {
    fn facts(&self) -> Facts<'_>;
}

/// What the viewer is to the author.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Between {
    pub viewer_follows_author: bool,
}

/// A note that its viewer may see. Only this module makes one.
#[derive(Debug)]
pub struct Visible<'w, N>(&'w N);

impl<N> Clone for Visible<'_, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for Visible<'_, N> {}

impl<'w, N> Visible<'w, N> {
    pub fn note(self) -> &'w N {
        self.0
    }
}

/// What becomes of a note in front of a viewer.
#[derive(Debug)]
pub enum Sight<'w, N> {
    Seen(Visible<'w, N>),
    Hidden(NoteId),
}

impl<'w, N> Sight<'w, N> {
    pub fn seen(self) -> Option<Visible<'w, N>> {
        match self {
            Sight::Seen(note) => Some(note),
            Sight::Hidden(_) => None,
        }
    }
}

/// Decides whether the viewer may see the note.
pub fn see<'w, N: Guarded>(
    viewer: Viewer,
    note: &'w N,
    between: Between,
    now: DateTime<Utc>,
) -> Sight<'w, N> {
    let facts = note.facts();
    if may_see(viewer, &facts, between, now) { Sight::Seen(Visible(note)) } else { Sight::Hidden(facts.id) }
}

/// The same decision from bare facts, for the write side.
pub fn may_see(viewer: Viewer, note: &Facts<'_>, between: Between, now: DateTime<Utc>) -> bool {
    if note.rules.suspended && viewer != Some(note.author) {
        return false;
    }
    let Some(viewer) = viewer else {
        return !note.rules.requires_signin && now_visibility(note, now).is_some_and(is_open);
    };
    if viewer == note.author {
        return true;
    }
    match now_visibility(note, now) {
        None => false,
        Some(Visibility::Public | Visibility::Home) => true,
        Some(Visibility::Followers) => {
            between.viewer_follows_author
                || note.reply_author == Some(viewer)
                || note.mentions.contains(&viewer)
        }
        Some(Visibility::Specified) => note.visible_to.contains(&viewer),
    }
}

fn is_open(visibility: Visibility) -> bool {
    matches!(visibility, Visibility::Public | Visibility::Home)
}

/// The visibility that the author's rules leave to a note of this age; none when it is hidden from
/// all others.
fn now_visibility(note: &Facts<'_>, now: DateTime<Utc>) -> Option<Visibility> {
    let written = note.id.time();
    let older_than = |limit: Option<i64>| {
        limit.is_some_and(|seconds| {
            let bound = if seconds > 0 { seconds } else { now.timestamp().saturating_add(seconds) };
            written.timestamp() < bound
        })
    };
    if older_than(note.rules.hidden_before) {
        return None;
    }
    if is_open(note.visibility) && older_than(note.rules.followers_only_before) {
        return Some(Visibility::Followers);
    }
    Some(note.visibility)
}

/// What a viewer is to somebody, as far as it decides what they want to see. With it comes what the other
/// doesn't want: to be read by those they block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stance {
    /// The viewer mutes them now, or the server they are on.
    pub mutes: bool,
    pub mutes_renotes: bool,
    pub blocks: bool,
    /// They block the viewer.
    pub is_blocked: bool,
}

/// Around whom a note is, as far as it decides who wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Company {
    pub author: UserId,
    /// The author of the note that this one answers.
    pub answered: Option<UserId>,
    /// The author of the note that this one passes on.
    pub passed_on: Option<UserId>,
    pub is_pure_renote: bool,
    /// Whether the viewer mutes the thread.
    pub in_muted_thread: bool,
    /// Whether the viewer mutes the channel that it is in, or that what it passes on is in.
    pub in_muted_channel: bool,
}

impl Company {
    /// Around whom a note is as the write side folds it.
    pub fn of(note: &Created, in_muted_thread: bool) -> Self {
        Self {
            author: note.author,
            answered: note.reply.map(|reply| reply.author),
            passed_on: note.renote.map(|renote| renote.author),
            is_pure_renote: note.is_pure_renote(),
            in_muted_thread,
            in_muted_channel: false,
        }
    }
}

/// Where a viewer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At what comes by: timelines, threads, lists, searches.
    Anywhere,
    /// At what its author alone has written: who goes there wants to see it, muted or not.
    OfAuthor,
    /// At what is said in a channel: who goes there wants to see it, muted or not.
    InChannel,
    /// At what concerns themselves.
    Mentions,
}

/// Decides whether the viewer wants to see a note, which they may see. `stance` is what the viewer is to each
/// of the people around it.
pub fn wants(viewer: Viewer, note: &Company, place: Place, stance: impl Fn(UserId) -> Stance) -> bool {
    if viewer.is_none() {
        return true;
    }
    let author = stance(note.author);
    let unwanted = author.mutes || (note.is_pure_renote && author.mutes_renotes);
    if author.is_blocked || (unwanted && place != Place::OfAuthor) {
        return false;
    }
    if note.in_muted_channel && place == Place::Anywhere {
        return false;
    }
    if note.in_muted_thread && place == Place::Mentions {
        return false;
    }
    let others = note.answered.into_iter().chain(note.passed_on).filter(|other| *other != note.author);
    others.map(stance).all(|other| !other.mutes && !other.is_blocked)
}

/// Decides whether somebody wants to be told of what another did.
pub fn wants_to_hear(of: Stance) -> bool {
    !of.mutes && !of.blocks
}

/// Whether somebody may see a list of a person's followers or followed.
pub fn may_see_list(visibility: FfVisibility, is_theirs: bool, moderates: bool, follows: bool) -> bool {
    is_theirs
        || moderates
        || match visibility {
            FfVisibility::Public => true,
            FfVisibility::Followers => follows,
            FfVisibility::Private => false,
        }
}

/// To whom a note is delivered beyond this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Nobody: the note is local.
    Local,
    /// Everybody; `listed` is false for notes that stay out of public timelines.
    Public {
        listed: bool,
        also: Vec<UserId>,
    },
    Followers {
        also: Vec<UserId>,
    },
    Only(Vec<UserId>),
}

/// Whom to deliver a note to: never wider than [`may_see`] allows.
pub fn audience(note: &Facts<'_>) -> Audience {
    let mut also = note.mentions.to_vec();
    also.extend(note.reply_author.filter(|author| !note.mentions.contains(author)));
    match note.visibility {
        _ if note.local_only => Audience::Local,
        Visibility::Public => Audience::Public { listed: true, also },
        Visibility::Home => Audience::Public { listed: false, also },
        Visibility::Followers => Audience::Followers { also },
        Visibility::Specified => Audience::Only(note.visible_to.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{NOW, at, created, id, user};
    use proptest::prelude::*;

    const STRANGER: Between = Between { viewer_follows_author: false };
    const FOLLOWER: Between = Between { viewer_follows_author: true };

    fn sees(viewer: Viewer, note: &Created, between: Between, profile: &Profile) -> bool {
        may_see(viewer, &Facts::of(note, profile), between, at(NOW + 10_000))
    }

    #[test]
    fn the_table_of_visibility() {
        use Visibility::{Followers, Home, Public, Specified};
        // author, addressee, mentioned, answered, follower, stranger, anonymous
        for (visibility, expected) in [
            (Public, [true, true, true, true, true, true, true]),
            (Home, [true, true, true, true, true, true, true]),
            (Followers, [true, false, true, true, true, false, false]),
            (Specified, [true, true, false, false, false, false, false]),
        ] {
            let mut note = created();
            note.visibility = visibility;
            note.visible_to = vec![user(2)];
            note.mentions = vec![user(3)];
            note.reply = Some(crate::note::Parent { id: NoteId(id(7)), author: user(4) });
            let profile = Profile::default();
            let viewers = [Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), None];
            let got = viewers.map(|viewer| {
                let between = if viewer == Some(5) { FOLLOWER } else { STRANGER };
                sees(viewer.map(user), &note, between, &profile)
            });
            assert_eq!(got, expected, "{visibility:?}");
        }
    }

    #[test]
    fn an_author_may_ask_that_viewers_sign_in() {
        let profile = Profile { require_signin_to_view_contents: true, ..Profile::default() };
        assert!(!sees(None, &created(), STRANGER, &profile));
        assert!(sees(Some(user(2)), &created(), STRANGER, &profile));
    }

    #[test]
    fn old_notes_may_be_for_followers_or_for_nobody() {
        let written = NOW / 1_000;
        for limit in [written + 5, -5] {
            let followers = Profile { make_notes_followers_only_before: Some(limit), ..Profile::default() };
            assert!(!sees(Some(user(2)), &created(), STRANGER, &followers));
            assert!(sees(Some(user(2)), &created(), FOLLOWER, &followers));
            let hidden = Profile { make_notes_hidden_before: Some(limit), ..Profile::default() };
            assert!(!sees(Some(user(2)), &created(), FOLLOWER, &hidden));
            assert!(sees(Some(user(1)), &created(), STRANGER, &hidden));
        }
        let young = Profile { make_notes_hidden_before: Some(-3_600), ..Profile::default() };
        assert!(sees(None, &created(), STRANGER, &young));
    }

    /// Whether viewer 9 wants a note of person 1, where they are this to these people.
    fn wanted(place: Place, change: impl FnOnce(&mut Company), stances: &[(u8, Stance)]) -> bool {
        let mut note = Company::of(&created(), false);
        change(&mut note);
        let stance = |of| stances.iter().find(|(n, _)| user(*n) == of).map_or(NOTHING, |(_, stance)| *stance);
        wants(Some(user(9)), &note, place, stance)
    }

    const MUTES: Stance = Stance { mutes: true, mutes_renotes: false, blocks: false, is_blocked: false };
    const BLOCKED: Stance = Stance { is_blocked: true, ..NOTHING };
    const NO_RENOTES: Stance = Stance { mutes_renotes: true, ..NOTHING };
    const NOTHING: Stance = Stance { mutes: false, ..MUTES };

    #[test]
    fn what_is_around_the_muted_and_those_who_block_is_unwanted() {
        for stance in [MUTES, BLOCKED] {
            for place in [Place::Anywhere, Place::Mentions, Place::OfAuthor] {
                let of_them = wanted(place, |_| (), &[(1, stance)]);
                assert_eq!(of_them, stance == MUTES && place == Place::OfAuthor, "{place:?} {stance:?}");
                assert!(!wanted(place, |note| note.answered = Some(user(2)), &[(2, stance)]));
                assert!(!wanted(place, |note| note.passed_on = Some(user(2)), &[(2, stance)]));
                assert!(wanted(place, |note| note.answered = Some(user(2)), &[(3, stance)]));
            }
        }
        let blocks = Stance { blocks: true, ..NOTHING };
        assert!(wanted(Place::Anywhere, |_| (), &[(1, blocks)]), "one sees whom one blocks");
        let muted = |of| if of == user(1) { MUTES } else { NOTHING };
        assert!(wants(None, &Company::of(&created(), false), Place::Anywhere, muted));
    }

    #[test]
    fn renotes_of_somebody_may_be_unwanted_but_no_quotes() {
        let renotes = |pure| {
            move |note: &mut Company| {
                note.passed_on = Some(user(2));
                note.is_pure_renote = pure;
            }
        };
        assert!(!wanted(Place::Anywhere, renotes(true), &[(1, NO_RENOTES)]));
        assert!(wanted(Place::Anywhere, renotes(false), &[(1, NO_RENOTES)]));
        assert!(wanted(Place::Anywhere, renotes(true), &[(2, NO_RENOTES)]));
        assert!(wanted(Place::OfAuthor, renotes(true), &[(1, NO_RENOTES)]));
    }

    #[test]
    fn a_muted_thread_concerns_nobody() {
        assert!(!wanted(Place::Mentions, |note| note.in_muted_thread = true, &[]));
        assert!(wanted(Place::Anywhere, |note| note.in_muted_thread = true, &[]));
    }

    proptest! {
        #[test]
        fn everybody_in_the_audience_may_see_it(
            visibility in prop::sample::select(vec![
                Visibility::Public, Visibility::Home, Visibility::Followers, Visibility::Specified,
            ]),
            visible_to in prop::collection::vec(2u8..9, 0..4),
            mentions in prop::collection::vec(2u8..9, 0..4),
            answered in prop::option::of(2u8..9),
        ) {
            let mut note = created();
            note.visibility = visibility;
            note.visible_to = visible_to.into_iter().map(user).collect();
            note.mentions = mentions.into_iter().map(user).collect();
            note.reply = answered.map(|n| crate::note::Parent { id: NoteId(id(7)), author: user(n) });
            let profile = Profile::default();
            let (people, open) = match audience(&Facts::of(&note, &profile)) {
                Audience::Local => (Vec::new(), false),
                Audience::Public { also, .. } => (also, true),
                Audience::Followers { also } => {
                    prop_assert!(sees(Some(user(20)), &note, FOLLOWER, &profile));
                    (also, false)
                }
                Audience::Only(people) => (people, false),
            };
            for person in people {
                prop_assert!(sees(Some(person), &note, STRANGER, &profile));
            }
            prop_assert_eq!(open, sees(None, &note, STRANGER, &profile));
        }
    }
}
