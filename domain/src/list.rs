//! Lists of people: all lists of one person in the stream `lists-{owner}`, so that their limits hold; who
//! likes a public list of somebody in the stream `listfavorite-{list}-{user}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{ListId, MembershipId, UserId};
use crate::log::StreamId;
use crate::{Event, Fold};

/// The longest name of a list, in characters.
pub const MAX_NAME_CHARS: usize = 100;

/// The stream of all lists of a person.
pub fn stream(owner: UserId) -> StreamId {
    StreamId::new("lists", owner)
}

/// The stream of what one person thinks of a list.
pub fn favorite_stream(list: ListId, user: UserId) -> StreamId {
    StreamId::new("listfavorite", format_args!("{list}-{user}"))
}

/// `list.created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub id: ListId,
    pub owner: UserId,
    pub name: String,
}

/// `list.changed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub id: ListId,
    pub owner: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether anybody may look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_public: Option<bool>,
}

/// `list.deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub id: ListId,
    pub owner: UserId,
}

/// `list.member_added`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAdded {
    pub id: MembershipId,
    pub list: ListId,
    pub owner: UserId,
    pub user: UserId,
}

/// `list.member_changed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChanged {
    pub list: ListId,
    pub owner: UserId,
    pub user: UserId,
    /// Whether their replies to others are wanted.
    pub with_replies: bool,
}

/// `list.member_removed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRemoved {
    pub list: ListId,
    pub owner: UserId,
    pub user: UserId,
}

/// `list.favorited`: a person likes a public list of somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Favorited {
    pub list: ListId,
    pub user: UserId,
}

/// `list.unfavorited`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfavorited {
    pub list: ListId,
    pub user: UserId,
}

macro_rules! of {
    ($who:ident: $($payload:ty),*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.$who)
            }
        }
    )*};
}
of!(owner: Created, Changed, Deleted, MemberAdded, MemberChanged, MemberRemoved);
of!(user: Favorited, Unfavorited);

/// The lists of one person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lists(BTreeMap<ListId, List>);

/// One list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    pub name: String,
    pub is_public: bool,
    /// Each with whether their replies to others are wanted.
    pub members: BTreeMap<UserId, bool>,
}

impl Lists {
    pub fn get(&self, list: ListId) -> Option<&List> {
        self.0.get(&list)
    }

    /// The first list of this name.
    pub fn named(&self, name: &str) -> Option<ListId> {
        self.0.iter().find(|(_, list)| list.name == name).map(|(id, _)| *id)
    }
}

impl Fold for Lists {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::ListCreated(e) => {
                self.0.insert(e.id, List { name: e.name.clone(), ..List::default() });
            }
            Event::ListChanged(e) => {
                if let Some(list) = self.0.get_mut(&e.id) {
                    list.is_public = e.is_public.unwrap_or(list.is_public);
                    if let Some(name) = &e.name {
                        list.name.clone_from(name);
                    }
                }
            }
            Event::ListDeleted(e) => {
                self.0.remove(&e.id);
            }
            Event::ListMemberAdded(e) => {
                if let Some(list) = self.0.get_mut(&e.list) {
                    list.members.insert(e.user, false);
                }
            }
            Event::ListMemberChanged(e) => {
                let with_replies = self.0.get_mut(&e.list).and_then(|list| list.members.get_mut(&e.user));
                if let Some(with_replies) = with_replies {
                    *with_replies = e.with_replies;
                }
            }
            Event::ListMemberRemoved(e) => {
                if let Some(list) = self.0.get_mut(&e.list) {
                    list.members.remove(&e.user);
                }
            }
            _ => (),
        }
    }
}

/// Whether somebody likes a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Favorite(pub bool);

impl Fold for Favorite {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::ListFavorited(_) => self.0 = true,
            Event::ListUnfavorited(_) => self.0 = false,
            _ => (),
        }
    }
}

/// How much a person may have, from the policies in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub lists: usize,
    /// People in each list.
    pub members: usize,
}

/// A limit that was lowered since: what is over it stays, but nothing is changed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    #[error("there are more lists than allowed")]
    Lists,
    #[error("there are more people in a list than allowed")]
    Members,
}

impl Lists {
    fn over(&self, limits: Limits) -> Option<Over> {
        if self.0.len() > limits.lists {
            return Some(Over::Lists);
        }
        self.0.values().any(|list| list.members.len() > limits.members).then_some(Over::Members)
    }
}

/// Why a list is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotCreate {
    #[error("there are as many lists as allowed")]
    TooMany,
    #[error(transparent)]
    Over(Over),
}

/// Why a list is not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotCopy {
    #[error("no such list")]
    NoSuchList,
    #[error("there are as many lists as allowed")]
    TooMany,
    #[error("there are more people in it than allowed")]
    TooManyMembers,
    #[error(transparent)]
    Over(Over),
}

/// Why a list is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotChange {
    #[error("no such list")]
    NoSuchList,
    #[error(transparent)]
    Over(Over),
}

/// The list is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such list")]
pub struct NoSuchList;

/// Why somebody is not put into a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotPush {
    #[error("no such list")]
    NoSuchList,
    #[error("no such user")]
    NoSuchUser,
    #[error("already in the list")]
    AlreadyAdded,
    #[error("they block the owner")]
    Blocked,
    #[error("there are as many people in the list as allowed")]
    TooMany,
    #[error(transparent)]
    Over(Over),
}

/// Why somebody is not taken out of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotPull {
    #[error("no such list")]
    NoSuchList,
    #[error("no such user")]
    NoSuchUser,
}

/// Why a membership is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotChangeMember {
    #[error("no such list")]
    NoSuchList,
    #[error("not in the list")]
    NotAMember,
    #[error(transparent)]
    Over(Over),
}

/// Why a list is not liked, or liked no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotFavorite {
    #[error("no such list")]
    NoSuchList,
    #[error("it is so already")]
    Already,
}

/// Decides a new list; one that is there already is no event.
pub fn create(
    lists: &Lists,
    owner: UserId,
    id: ListId,
    name: String,
    limits: Limits,
) -> Result<Vec<Event>, CannotCreate> {
    if lists.get(id).is_some() {
        return Ok(Vec::new());
    }
    match lists.over(limits) {
        None if lists.0.len() < limits.lists => Ok(vec![Created { id, owner, name }.into()]),
        Some(Over::Members) => Err(CannotCreate::Over(Over::Members)),
        None | Some(Over::Lists) => Err(CannotCreate::TooMany),
    }
}

/// Decides a list with the people of another; `members` come with the ids of their new memberships.
pub fn copy(
    lists: &Lists,
    owner: UserId,
    id: ListId,
    name: String,
    members: &[(MembershipId, UserId)],
    limits: Limits,
) -> Result<Vec<Event>, CannotCopy> {
    let mut events = create(lists, owner, id, name, limits).map_err(|refusal| match refusal {
        CannotCreate::TooMany => CannotCopy::TooMany,
        CannotCreate::Over(over) => CannotCopy::Over(over),
    })?;
    if members.len() > limits.members {
        return Err(CannotCopy::TooManyMembers);
    }
    events.extend(
        members
            .iter()
            .map(|(membership, user)| MemberAdded { id: *membership, list: id, owner, user: *user }.into()),
    );
    Ok(events)
}

/// Decides a change of a list.
pub fn change(
    lists: &Lists,
    owner: UserId,
    id: ListId,
    name: Option<String>,
    is_public: Option<bool>,
    limits: Limits,
) -> Result<Vec<Event>, CannotChange> {
    let list = lists.get(id).ok_or(CannotChange::NoSuchList)?;
    if let Some(over) = lists.over(limits) {
        return Err(CannotChange::Over(over));
    }
    let name = name.filter(|name| *name != list.name);
    let is_public = is_public.filter(|is_public| *is_public != list.is_public);
    if name.is_none() && is_public.is_none() {
        return Ok(Vec::new());
    }
    Ok(vec![Changed { id, owner, name, is_public }.into()])
}

/// Decides the end of a list.
pub fn delete(lists: &Lists, owner: UserId, id: ListId) -> Result<Vec<Event>, NoSuchList> {
    lists.get(id).ok_or(NoSuchList)?;
    Ok(vec![Deleted { id, owner }.into()])
}

/// Decides that somebody who exists and doesn't block the owner is put into a list.
pub fn push(
    lists: &Lists,
    owner: UserId,
    list: ListId,
    (id, user): (MembershipId, UserId),
    limits: Limits,
) -> Result<Vec<Event>, CannotPush> {
    let members = &lists.get(list).ok_or(CannotPush::NoSuchList)?.members;
    if members.contains_key(&user) {
        return Err(CannotPush::AlreadyAdded);
    }
    if members.len() >= limits.members {
        return Err(CannotPush::TooMany);
    }
    if let Some(over) = lists.over(limits) {
        return Err(CannotPush::Over(over));
    }
    Ok(vec![MemberAdded { id, list, owner, user }.into()])
}

/// Decides that somebody is taken out of a list. Whoever isn't in it needn't be.
pub fn pull(lists: &Lists, owner: UserId, list: ListId, user: UserId) -> Result<Vec<Event>, CannotPull> {
    let members = &lists.get(list).ok_or(CannotPull::NoSuchList)?.members;
    if !members.contains_key(&user) {
        return Ok(Vec::new());
    }
    Ok(vec![MemberRemoved { list, owner, user }.into()])
}

/// Decides what is wanted of somebody in a list.
pub fn change_member(
    lists: &Lists,
    owner: UserId,
    list: ListId,
    user: UserId,
    with_replies: Option<bool>,
    limits: Limits,
) -> Result<Vec<Event>, CannotChangeMember> {
    let members = &lists.get(list).ok_or(CannotChangeMember::NoSuchList)?.members;
    let now = *members.get(&user).ok_or(CannotChangeMember::NotAMember)?;
    if let Some(over) = lists.over(limits) {
        return Err(CannotChangeMember::Over(over));
    }
    let wish = with_replies.filter(|with_replies| *with_replies != now);
    Ok(wish
        .map(|with_replies| MemberChanged { list, owner, user, with_replies }.into())
        .into_iter()
        .collect())
}

/// Decides that somebody likes a list, which must be public.
pub fn favorite(
    current: &Favorite,
    list: ListId,
    facts: Option<&List>,
    user: UserId,
) -> Result<Vec<Event>, CannotFavorite> {
    facts.filter(|list| list.is_public).ok_or(CannotFavorite::NoSuchList)?;
    if current.0 {
        return Err(CannotFavorite::Already);
    }
    Ok(vec![Favorited { list, user }.into()])
}

/// Decides that somebody likes a list no more, public as it must be.
pub fn unfavorite(
    current: &Favorite,
    list: ListId,
    facts: Option<&List>,
    user: UserId,
) -> Result<Vec<Event>, CannotFavorite> {
    facts.filter(|list| list.is_public).ok_or(CannotFavorite::NoSuchList)?;
    if !current.0 {
        return Err(CannotFavorite::Already);
    }
    Ok(vec![Unfavorited { list, user }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{id, user};

    const LIMITS: Limits = Limits { lists: 2, members: 2 };

    fn list(n: u8) -> ListId {
        ListId(id(n))
    }

    fn member(n: u8) -> (MembershipId, UserId) {
        (MembershipId(id(100 + n)), user(n))
    }

    /// Person 1's lists: each with its people.
    fn lists(all: &[(u8, &[u8])]) -> Lists {
        let free = Limits { lists: usize::MAX, members: usize::MAX };
        let mut lists = Lists::default();
        for (n, people) in all {
            let name = format!("list {n}");
            let created = create(&lists, user(1), list(*n), name, free).unwrap();
            created.iter().for_each(|event| lists.apply(event));
            for person in *people {
                let pushed = push(&lists, user(1), list(*n), member(*person), free).unwrap();
                pushed.iter().for_each(|event| lists.apply(event));
            }
        }
        lists
    }

    fn after(mut lists: Lists, events: Vec<Event>) -> Lists {
        events.iter().for_each(|event| lists.apply(event));
        lists
    }

    #[test]
    fn there_are_as_many_lists_as_allowed() {
        let make = |lists: &Lists| create(lists, user(1), list(9), "new".to_owned(), LIMITS);
        assert_eq!(after(lists(&[(1, &[])]), make(&lists(&[(1, &[])])).unwrap()).0.len(), 2);
        assert_eq!(make(&lists(&[(1, &[]), (2, &[])])), Err(CannotCreate::TooMany));
        assert_eq!(make(&lists(&[(1, &[]), (9, &[])])), Ok(Vec::new()), "it is there");
        assert_eq!(make(&lists(&[(1, &[]), (2, &[]), (3, &[])])), Err(CannotCreate::TooMany));
        assert_eq!(make(&lists(&[(1, &[2, 3, 4])])), Err(CannotCreate::Over(Over::Members)));
    }

    #[test]
    fn each_list_has_as_many_people_as_allowed_and_each_once() {
        let add = |lists: &Lists, n, person| push(lists, user(1), list(n), member(person), LIMITS);
        let one = lists(&[(1, &[2])]);
        assert_eq!(add(&one, 1, 2), Err(CannotPush::AlreadyAdded));
        assert_eq!(add(&one, 7, 3), Err(CannotPush::NoSuchList));
        let two = after(one.clone(), add(&one, 1, 3).unwrap());
        assert_eq!(add(&two, 1, 4), Err(CannotPush::TooMany));
        let crowded = lists(&[(1, &[]), (2, &[2, 3, 4])]);
        assert_eq!(add(&crowded, 1, 2), Err(CannotPush::Over(Over::Members)));
        let many = lists(&[(1, &[]), (2, &[]), (3, &[])]);
        assert_eq!(add(&many, 1, 2), Err(CannotPush::Over(Over::Lists)));
        assert_eq!(change(&many, user(1), list(1), None, None, LIMITS), Err(CannotChange::Over(Over::Lists)));
    }

    #[test]
    fn whoever_is_taken_out_is_gone_and_nobody_needs_to_be() {
        let one = lists(&[(1, &[2])]);
        let empty = after(one.clone(), pull(&one, user(1), list(1), user(2)).unwrap());
        assert!(empty.get(list(1)).unwrap().members.is_empty());
        assert_eq!(pull(&empty, user(1), list(1), user(2)), Ok(Vec::new()));
        assert_eq!(pull(&empty, user(1), list(2), user(2)), Err(CannotPull::NoSuchList));
    }

    #[test]
    fn a_change_that_changes_nothing_is_no_event() {
        let one = lists(&[(1, &[2])]);
        let same = change(&one, user(1), list(1), Some("list 1".to_owned()), Some(false), LIMITS);
        assert_eq!(same, Ok(Vec::new()));
        let wish = |lists: &Lists, wish| change_member(lists, user(1), list(1), user(2), wish, LIMITS);
        assert_eq!(wish(&one, Some(false)), Ok(Vec::new()));
        let changed = after(one.clone(), wish(&one, Some(true)).unwrap());
        assert!(changed.get(list(1)).unwrap().members[&user(2)]);
        assert_eq!(wish(&changed, None), Ok(Vec::new()));
        let other = change_member(&one, user(1), list(1), user(3), Some(true), LIMITS);
        assert_eq!(other, Err(CannotChangeMember::NotAMember));
    }

    #[test]
    fn a_copy_has_the_same_people_if_they_are_not_too_many() {
        let copied = |people: &[u8]| {
            let members: Vec<_> = people.iter().map(|n| member(*n)).collect();
            copy(&Lists::default(), user(1), list(5), "copy".to_owned(), &members, LIMITS)
        };
        let made = after(Lists::default(), copied(&[2, 3]).unwrap());
        assert_eq!(made.get(list(5)).unwrap().members.len(), 2);
        assert_eq!(copied(&[2, 3, 4]), Err(CannotCopy::TooManyMembers));
    }

    #[test]
    fn only_public_lists_are_liked_and_once() {
        let public = List { is_public: true, ..List::default() };
        let (no, yes) = (Favorite(false), Favorite(true));
        assert!(favorite(&no, list(1), Some(&public), user(2)).is_ok());
        assert_eq!(favorite(&yes, list(1), Some(&public), user(2)), Err(CannotFavorite::Already));
        let private = List::default();
        assert_eq!(favorite(&no, list(1), Some(&private), user(2)), Err(CannotFavorite::NoSuchList));
        assert_eq!(unfavorite(&no, list(1), Some(&public), user(2)), Err(CannotFavorite::Already));
        assert!(unfavorite(&yes, list(1), Some(&public), user(2)).is_ok());
        assert_eq!(unfavorite(&yes, list(1), None, user(2)), Err(CannotFavorite::NoSuchList));
    }
}
