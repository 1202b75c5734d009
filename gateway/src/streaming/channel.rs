//! The channels that a socket can listen to, and which notes each timeline carries. Whether somebody may
//! see a note is another question, and the policy's alone.

use std::sync::Arc;

use domain::note::{Created, Visibility};
use domain::policy::Viewer;
use domain::text::normalize_tag;
use domain::{AntennaId, ChannelId, ListId, RoleId, UserId};
use projections::world::FollowingRow;
use serde_json::Value;

/// What a channel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All that concerns the account; at most one on a socket.
    Main,
    Home,
    Local,
    /// Home and local together.
    Hybrid,
    Global,
    /// Notes of the people in a list of one's own, and who comes and goes there.
    List,
    /// Notes that an antenna of one's own hears.
    Antenna,
    /// Notes in a channel.
    Channel,
    /// Notes with hashtags.
    Hashtag,
    /// Public notes of those who have a role.
    Role,
    /// What moderators are told.
    Admin,
    /// What becomes of the person's files and folders.
    Drive,
}

/// The most hashtags that one channel asks for.
const MAX_TAGS: usize = 100;

/// How a client wants its timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    pub with_renotes: bool,
    pub with_replies: bool,
    pub with_files: bool,
    pub about: About,
}

/// What a channel is about, where there are many of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    Nothing,
    List(ListId),
    Antenna(AntennaId),
    Channel(ChannelId),
    /// Notes that have all tags of one of these.
    Tags(Arc<[Vec<String>]>),
    Role(RoleId),
}

/// What a viewer has to do with the author of a note.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ties {
    pub following: Option<FollowingRow>,
    /// In the list that the channel is about: whether their replies to others are wanted.
    pub listed: Option<bool>,
    /// The viewer follows the channel that the note is in.
    pub visits: bool,
}

/// What a timeline asks of a new note.
#[derive(Debug, Clone, Copy)]
pub struct Post<'n> {
    pub author: UserId,
    pub author_is_local: bool,
    pub visibility: Visibility,
    /// The author of the note that it answers.
    pub answers: Option<UserId>,
    pub is_pure_renote: bool,
    pub has_files: bool,
    pub channel: Option<ChannelId>,
    pub tags: &'n [String],
    /// The roles of its author.
    pub roles: &'n [RoleId],
}

/// Whether a timeline carries a note to this viewer; the same choice as the timeline's own page makes.
pub fn receives(kind: Kind, params: &Params, post: &Post<'_>, viewer: Viewer, ties: Ties) -> bool {
    let Ties { following, listed, visits } = ties;
    if (params.with_files && !post.has_files) || (post.is_pure_renote && !params.with_renotes) {
        return false;
    }
    let mine = viewer == Some(post.author);
    let (near, everywhere) = match post.channel {
        Some(_) => (visits, false),
        None => (mine || following.is_some(), post.visibility == Visibility::Public),
    };
    let here = everywhere && post.author_is_local;
    let placed = match kind {
        // What antennas hear is found out when it is written.
        Kind::Main | Kind::Admin | Kind::Drive | Kind::Antenna => false,
        Kind::Role => everywhere && params.about.is_one_of(post.roles),
        Kind::Home => near,
        Kind::Local => here,
        Kind::Hybrid => near || here,
        Kind::Global => everywhere,
        Kind::List => listed.is_some() && post.channel.is_none(),
        Kind::Channel => post.channel.is_some_and(|channel| params.about == About::Channel(channel)),
        Kind::Hashtag => params.about.asks_for(post.tags),
    };
    let Some(answered) = post.answers else { return placed };
    let between_us = mine || answered == post.author || viewer == Some(answered);
    let asked_of_author = following.is_some_and(|following| following.with_replies);
    let wanted = match kind {
        Kind::Main | Kind::Admin | Kind::Drive | Kind::Global => true,
        Kind::Antenna | Kind::Channel | Kind::Hashtag | Kind::Role => true,
        Kind::Home => asked_of_author,
        Kind::Local => params.with_replies,
        Kind::Hybrid => asked_of_author || params.with_replies,
        Kind::List => listed == Some(true),
    };
    placed && (between_us || wanted)
}

impl Kind {
    const ALL: [Kind; 12] = [
        Kind::Main,
        Kind::Home,
        Kind::Local,
        Kind::Hybrid,
        Kind::Global,
        Kind::List,
        Kind::Antenna,
        Kind::Channel,
        Kind::Hashtag,
        Kind::Role,
        Kind::Drive,
        Kind::Admin,
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Main => "main",
            Kind::Home => "homeTimeline",
            Kind::Local => "localTimeline",
            Kind::Hybrid => "hybridTimeline",
            Kind::Global => "globalTimeline",
            Kind::List => "userList",
            Kind::Antenna => "antenna",
            Kind::Channel => "channel",
            Kind::Hashtag => "hashtag",
            Kind::Role => "roleTimeline",
            Kind::Admin => "admin",
            Kind::Drive => "drive",
        }
    }

    pub fn needs_account(self) -> bool {
        match self {
            Kind::Main | Kind::Admin | Kind::Drive | Kind::Home | Kind::Hybrid | Kind::List => true,
            Kind::Antenna => true,
            Kind::Local | Kind::Global | Kind::Channel | Kind::Hashtag | Kind::Role => false,
        }
    }

    /// The policy without which it is closed.
    pub fn policy(self) -> Option<&'static str> {
        match self {
            Kind::Main | Kind::Admin | Kind::Drive | Kind::Home | Kind::List => None,
            Kind::Antenna | Kind::Channel | Kind::Hashtag | Kind::Role => None,
            Kind::Local | Kind::Hybrid => Some("ltlAvailable"),
            Kind::Global => Some("gtlAvailable"),
        }
    }

    /// Carries notes of people whom the viewer doesn't follow.
    pub fn is_public(self) -> bool {
        matches!(self, Kind::Local | Kind::Hybrid | Kind::Global)
    }
}

impl Params {
    /// Reads what a client sent; what is missing or of another type is as usual. None when it isn't said what
    /// the channel is about.
    pub fn read(kind: Kind, params: &Value) -> Option<Self> {
        let flag = |name: &str, usual| params.get(name).and_then(Value::as_bool).unwrap_or(usual);
        let about = match kind {
            Kind::List => About::List(params.get("listId")?.as_str()?.parse().ok()?),
            Kind::Antenna => About::Antenna(params.get("antennaId")?.as_str()?.parse().ok()?),
            Kind::Channel => About::Channel(params.get("channelId")?.as_str()?.parse().ok()?),
            Kind::Hashtag => About::Tags(tags(params.get("q")?)?),
            Kind::Role => About::Role(params.get("roleId")?.as_str()?.parse().ok()?),
            _ => About::Nothing,
        };
        Some(Self {
            with_renotes: flag("withRenotes", true),
            with_replies: flag("withReplies", false),
            with_files: flag("withFiles", false),
            about,
        })
    }
}

/// Lists of tags; none when it is anything else, or too much.
fn tags(query: &Value) -> Option<Arc<[Vec<String>]>> {
    let all = query.as_array()?.iter().map(|tags| {
        let tags = tags.as_array()?.iter();
        tags.map(|tag| tag.as_str().map(normalize_tag)).collect::<Option<Vec<String>>>()
    });
    let all: Vec<Vec<String>> = all.collect::<Option<_>>()?;
    (all.iter().map(Vec::len).sum::<usize>() <= MAX_TAGS).then(|| all.into())
}

impl About {
    fn is_one_of(&self, roles: &[RoleId]) -> bool {
        matches!(self, About::Role(role) if roles.contains(role))
    }

    fn asks_for(&self, tags: &[String]) -> bool {
        let About::Tags(asked) = self else { return false };
        asked.iter().any(|all| !all.is_empty() && all.iter().all(|tag| tags.contains(tag)))
    }
}

impl<'n> Post<'n> {
    pub fn of(note: &'n Created, author_is_local: bool, roles: &'n [RoleId]) -> Self {
        Self {
            author: note.author,
            author_is_local,
            visibility: note.visibility,
            answers: note.reply.map(|reply| reply.author),
            is_pure_renote: note.is_pure_renote(),
            channel: note.channel,
            tags: &note.tags,
            roles,
            has_files: !note.files.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::FollowId;
    use domain::follow::Notify;
    use serde_json::json;
    use uuid::Uuid;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    const AUTHOR: u128 = 1;
    const OTHER: u128 = 3;

    fn post(visibility: Visibility) -> Post<'static> {
        Post {
            author: user(AUTHOR),
            author_is_local: true,
            visibility,
            answers: None,
            is_pure_renote: false,
            channel: None,
            tags: &[],
            roles: &[],
            has_files: false,
        }
    }

    const PLAIN: FollowingRow =
        FollowingRow { id: FollowId(Uuid::nil()), notify: Notify::None, with_replies: false };
    const WITH_REPLIES: FollowingRow = FollowingRow { with_replies: true, ..PLAIN };

    /// Which of home, local, hybrid and global carry it.
    fn carried(
        params: &Value,
        post: &Post<'_>,
        viewer: Option<u128>,
        following: Option<FollowingRow>,
    ) -> [bool; 4] {
        [Kind::Home, Kind::Local, Kind::Hybrid, Kind::Global].map(|kind| {
            let params = Params::read(kind, params).unwrap();
            receives(kind, &params, post, viewer.map(user), Ties { following, ..Ties::default() })
        })
    }

    #[test]
    fn who_hears_of_a_note() {
        use Visibility::{Followers, Home, Public, Specified};
        let none = json!({});
        for (visibility, viewer, following, expected) in [
            (Public, Some(AUTHOR), None, [true, true, true, true]),
            (Public, Some(2), Some(PLAIN), [true, true, true, true]),
            (Public, Some(2), None, [false, true, true, true]),
            (Public, None, None, [false, true, true, true]),
            (Home, Some(AUTHOR), None, [true, false, true, false]),
            (Home, Some(2), Some(PLAIN), [true, false, true, false]),
            (Home, Some(2), None, [false, false, false, false]),
            (Followers, Some(2), Some(PLAIN), [true, false, true, false]),
            (Specified, Some(2), Some(PLAIN), [true, false, true, false]),
            (Specified, None, None, [false, false, false, false]),
        ] {
            let got = carried(&none, &post(visibility), viewer, following);
            assert_eq!(got, expected, "{visibility:?} {viewer:?} {following:?}");
        }
    }

    #[test]
    fn replies_to_others_are_for_those_who_asked() {
        let reply = Post { answers: Some(user(OTHER)), ..post(Visibility::Public) };
        let to_oneself = Post { answers: Some(user(AUTHOR)), ..reply };
        let (none, asked) = (json!({}), json!({ "withReplies": true }));
        for (params, post, viewer, following, expected) in [
            (&none, &reply, Some(2), Some(PLAIN), [false, false, false, true]),
            (&none, &reply, Some(2), Some(WITH_REPLIES), [true, false, true, true]),
            (&asked, &reply, Some(2), Some(PLAIN), [false, true, true, true]),
            (&none, &reply, Some(AUTHOR), None, [true, true, true, true]),
            (&none, &reply, Some(OTHER), Some(PLAIN), [true, true, true, true]),
            (&none, &reply, None, None, [false, false, false, true]),
            (&asked, &reply, None, None, [false, true, true, true]),
            (&none, &to_oneself, Some(2), Some(PLAIN), [true, true, true, true]),
            (&none, &to_oneself, None, None, [false, true, true, true]),
        ] {
            let got = carried(params, post, viewer, following);
            assert_eq!(got, expected, "{params} {post:?} {viewer:?} {following:?}");
        }
    }

    #[test]
    fn pure_renotes_may_be_left_out_and_files_may_be_asked_for() {
        let renote = Post { is_pure_renote: true, ..post(Visibility::Public) };
        let without = json!({ "withRenotes": false });
        assert_eq!(carried(&without, &renote, Some(2), Some(PLAIN)), [false; 4]);
        assert_eq!(carried(&without, &post(Visibility::Public), Some(2), Some(PLAIN)), [true; 4]);
        assert_eq!(carried(&json!({ "withRenotes": "no" }), &renote, Some(2), Some(PLAIN)), [true; 4]);
        let files = json!({ "withFiles": true });
        assert_eq!(carried(&files, &post(Visibility::Public), Some(2), Some(PLAIN)), [false; 4]);
        let picture = Post { has_files: true, ..post(Visibility::Public) };
        assert_eq!(carried(&files, &picture, Some(2), Some(PLAIN)), [true; 4]);
    }

    #[test]
    fn remote_notes_are_global_and_not_local() {
        let remote = Post { author_is_local: false, ..post(Visibility::Public) };
        assert_eq!(carried(&json!({}), &remote, Some(2), None), [false, false, false, true]);
    }

    #[test]
    fn main_carries_no_timeline() {
        let params = Params::read(Kind::Main, &json!({})).unwrap();
        let post = post(Visibility::Public);
        assert!(!receives(Kind::Main, &params, &post, Some(user(AUTHOR)), Ties::default()));
    }

    #[test]
    fn a_list_carries_its_people() {
        let params = Params::read(Kind::List, &json!({ "listId": "01ARZ3NDEKTSV4RRFFQ69G5FAV" })).unwrap();
        let carried = |post: &Post<'_>, viewer, listed| {
            let ties = Ties { listed, ..Ties::default() };
            receives(Kind::List, &params, post, Some(user(viewer)), ties)
        };
        let plain = post(Visibility::Public);
        let reply = Post { answers: Some(user(OTHER)), ..plain };
        assert!(carried(&plain, 2, Some(false)) && !carried(&plain, 2, None));
        assert!(!carried(&reply, 2, Some(false)) && carried(&reply, 2, Some(true)));
        assert!(carried(&reply, OTHER, Some(false)));
        assert_eq!(Params::read(Kind::List, &json!({ "listId": 7 })), None);
        assert_eq!(Params::read(Kind::List, &json!({})), None);
    }

    #[test]
    fn what_is_said_in_a_channel_is_heard_by_those_who_go_there() {
        let channel: ChannelId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let inside = Post { channel: Some(channel), ..post(Visibility::Public) };
        assert_eq!(carried(&json!({}), &inside, Some(AUTHOR), Some(PLAIN)), [false; 4]);
        let params = Params::read(Kind::Home, &json!({})).unwrap();
        let visits = Ties { visits: true, ..Ties::default() };
        assert!(receives(Kind::Home, &params, &inside, Some(user(2)), visits));
        assert!(receives(Kind::Hybrid, &params, &inside, Some(user(2)), visits));
        let there = Params::read(Kind::Channel, &json!({ "channelId": channel })).unwrap();
        assert!(receives(Kind::Channel, &there, &inside, None, Ties::default()));
        assert!(!receives(Kind::Channel, &there, &post(Visibility::Public), None, Ties::default()));
    }

    #[test]
    fn hashtags_are_asked_for_together_or_apart() {
        let carried = |query: Value, tags: &[&str]| {
            let tags: Vec<String> = tags.iter().map(|tag| String::from(*tag)).collect();
            let params = Params::read(Kind::Hashtag, &json!({ "q": query })).unwrap();
            let post = Post { tags: &tags, ..post(Visibility::Public) };
            receives(Kind::Hashtag, &params, &post, None, Ties::default())
        };
        assert!(carried(json!([["Tag"], ["a", "b"]]), &["tag"]));
        assert!(carried(json!([["tag"], ["a", "b"]]), &["b", "a"]));
        assert!(!carried(json!([["tag"], ["a", "b"]]), &["a"]));
        assert!(!carried(json!([[]]), &["a"]) && !carried(json!([]), &[]));
        let many = vec!["x"; MAX_TAGS + 1];
        for malformed in [json!({}), json!({ "q": "tag" }), json!({ "q": ["tag"] }), json!({ "q": [many] })] {
            assert_eq!(Params::read(Kind::Hashtag, &malformed), None);
        }
    }

    #[test]
    fn channels_are_known_by_name() {
        assert_eq!(Kind::named("hybridTimeline"), Some(Kind::Hybrid));
        for unknown in ["", "UserList", "Main"] {
            assert_eq!(Kind::named(unknown), None, "{unknown}");
        }
    }
}
