//! Roles: what they are (stream `role-{id}`), who is assigned to them (stream `assignment-{role}-{user}`),
//! whom a condition gives them, and what the roles of a person come to.
//!
//! An assignment that ends by itself is over when its time has come; nothing is written then.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::defined::Defined;
use crate::event::Payload;
use crate::ids::{RoleAssignmentId, RoleId, UserId};
use crate::instance::{POLICIES, Policies};
use crate::log::StreamId;
use crate::user::{Profile, User};
use crate::{Event, Fold};

/// The longest name, description or address of a picture, in characters.
pub const MAX_TEXT_CHARS: usize = 8_192;
/// The largest condition, in bytes of JSON.
pub const MAX_CONDITION_BYTES: usize = 65_536;
/// The longest remark about an assignment, in characters.
pub const MAX_MEMO_CHARS: usize = 8_192;
/// The highest priority of a policy in a role.
pub const MAX_PRIORITY: u8 = 2;

/// The stream of one role.
pub fn stream(role: RoleId) -> StreamId {
    StreamId::new("role", role)
}

/// The stream of one person's assignment to one role.
pub fn assignment_stream(role: RoleId, user: UserId) -> StreamId {
    StreamId::new("assignment", format_args!("{role}-{user}"))
}

/// To whom a role is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// To those who are assigned.
    Manual,
    /// To those for whom its condition holds, and those who are assigned.
    Conditional,
}

/// What a role says of one policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolePolicy {
    /// The value is that of everybody without a role, whatever `value` says.
    pub use_default: bool,
    /// Only the policies of the highest priority among a person's roles count; 0, 1 or 2.
    pub priority: u8,
    pub value: Value,
}

/// What a role is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    pub name: String,
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
    pub target: Target,
    /// As it was given; see [`Condition`].
    pub condition: Value,
    /// Shown with those who have it.
    pub is_public: bool,
    pub is_moderator: bool,
    pub is_administrator: bool,
    /// Its people and notes can be listed.
    pub is_explorable: bool,
    /// Shown beside the name.
    pub as_badge: bool,
    /// Kept for clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub badge_behavior: Option<String>,
    /// Kept until accounts can move.
    #[serde(default)]
    pub preserve_assignment_on_move_account: bool,
    /// Moderators may assign people to it, not only administrators.
    pub can_edit_members_by_moderator: bool,
    /// The greatest comes first.
    pub display_order: i32,
    pub policies: BTreeMap<String, RolePolicy>,
}

/// A change of a role: only what is named.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    pub name: Option<String>,
    pub description: Option<String>,
    pub color: Option<Option<String>>,
    pub icon_url: Option<Option<String>>,
    pub target: Option<Target>,
    pub condition: Option<Value>,
    pub is_public: Option<bool>,
    pub is_moderator: Option<bool>,
    pub is_administrator: Option<bool>,
    pub is_explorable: Option<bool>,
    pub as_badge: Option<bool>,
    pub badge_behavior: Option<Option<String>>,
    pub preserve_assignment_on_move_account: Option<bool>,
    pub can_edit_members_by_moderator: Option<bool>,
    pub display_order: Option<i32>,
    pub policies: Option<BTreeMap<String, RolePolicy>>,
}

/// `role.created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub role: RoleId,
    pub definition: Definition,
}

/// `role.changed`: what the role is from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    pub role: RoleId,
    pub definition: Definition,
}

/// `role.deleted`: nobody has it any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deleted {
    pub role: RoleId,
    /// What it was called, for the log of the moderators.
    pub name: String,
}

/// `role.assigned`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assigned {
    pub id: RoleAssignmentId,
    pub role: RoleId,
    pub user: UserId,
    /// None when it doesn't end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<String>,
    /// Whether the person is told: of a role that is shown.
    pub tells: bool,
}

/// `role.unassigned`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unassigned {
    pub role: RoleId,
    pub user: UserId,
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
of_the_server!(Created, Changed, Deleted);

macro_rules! of_the_user {
    ($($payload:ty),*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.user)
            }
        }
    )*};
}
of_the_user!(Assigned, Unassigned);

/// One role, folded.
pub type Role = Defined<Definition>;

impl Fold for Role {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::RoleCreated(e) => self.define(e.definition.clone()),
            Event::RoleChanged(e) => self.define(e.definition.clone()),
            Event::RoleDeleted(_) => self.end(),
            _ => (),
        }
    }
}

/// One person's assignment to one role, folded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assignment {
    /// The last one; its time may have come.
    pub current: Option<Assigned>,
}

impl Fold for Assignment {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::RoleAssigned(e) => self.current = Some(e.clone()),
            Event::RoleUnassigned(_) => self.current = None,
            _ => (),
        }
    }
}

impl Assignment {
    pub fn stands(&self, now: DateTime<Utc>) -> bool {
        self.current.as_ref().is_some_and(|current| stands(current.expires_at, now))
    }
}

/// Whether an assignment that ends then is still one.
pub fn stands(expires_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    expires_at.is_none_or(|end| end > now)
}

/// Why a role is not made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotDefine {
    #[error("no such role")]
    NoSuchRole,
    #[error("a text, the condition or the policies are too large")]
    TooLarge,
}

/// Why somebody is not assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotAssign {
    #[error("no such role")]
    NoSuchRole,
    #[error("no such user")]
    NoSuchUser,
    #[error("only administrators may")]
    NotAllowed,
    #[error("already assigned")]
    AlreadyAssigned,
    #[error("the remark is too long")]
    TooLong,
}

/// Why an assignment is not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotUnassign {
    #[error("no such role")]
    NoSuchRole,
    #[error("no such user")]
    NoSuchUser,
    #[error("only administrators may")]
    NotAllowed,
    #[error("not assigned")]
    NotAssigned,
}

/// What is asked of an assignment besides the role and the person.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    pub expires_at: Option<DateTime<Utc>>,
    pub memo: Option<String>,
}

/// Decides the making of a role.
pub fn create(current: &Role, role: RoleId, definition: Definition) -> Result<Vec<Event>, CannotDefine> {
    current.create(|| checked(definition), |definition| Created { role, definition })
}

/// Decides a change of a role; what is then as before is no event.
pub fn change(current: &Role, role: RoleId, changes: Changes) -> Result<Vec<Event>, CannotDefine> {
    let changed = |before: &Definition| checked(changes.over(before.clone()));
    current.change(CannotDefine::NoSuchRole, changed, |definition| Changed { role, definition })
}

/// Decides that a role is no more.
pub fn delete(current: &Role, role: RoleId) -> Result<Vec<Event>, CannotDefine> {
    current.delete(CannotDefine::NoSuchRole, |before| Deleted { role, name: before.name.clone() })
}

/// Decides an assignment. One whose end has come already is none, and nothing happens.
pub fn assign(
    current: &Assignment,
    role: &Role,
    user: &User,
    administers: bool,
    asked: &Assigned,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, CannotAssign> {
    let definition = role.definition.as_ref().ok_or(CannotAssign::NoSuchRole)?;
    if !administers && !definition.can_edit_members_by_moderator {
        return Err(CannotAssign::NotAllowed);
    }
    if !user.exists() {
        return Err(CannotAssign::NoSuchUser);
    }
    if asked.memo.as_ref().is_some_and(|memo| memo.chars().count() > MAX_MEMO_CHARS) {
        return Err(CannotAssign::TooLong);
    }
    if !stands(asked.expires_at, now) {
        return Ok(Vec::new());
    }
    if current.stands(now) {
        return Err(CannotAssign::AlreadyAssigned);
    }
    Ok(vec![Assigned { tells: definition.is_public && user.is_local(), ..asked.clone() }.into()])
}

/// Decides the end of an assignment.
pub fn unassign(
    current: &Assignment,
    role: (RoleId, &Role),
    user: (UserId, &User),
    administers: bool,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, CannotUnassign> {
    let definition = role.1.definition.as_ref().ok_or(CannotUnassign::NoSuchRole)?;
    if !administers && !definition.can_edit_members_by_moderator {
        return Err(CannotUnassign::NotAllowed);
    }
    if !user.1.exists() {
        return Err(CannotUnassign::NoSuchUser);
    }
    if !current.stands(now) {
        return Err(CannotUnassign::NotAssigned);
    }
    Ok(vec![Unassigned { role: role.0, user: user.0 }.into()])
}

impl Changes {
    fn over(self, before: Definition) -> Definition {
        Definition {
            name: self.name.unwrap_or(before.name),
            description: self.description.unwrap_or(before.description),
            color: self.color.unwrap_or(before.color),
            icon_url: self.icon_url.unwrap_or(before.icon_url),
            target: self.target.unwrap_or(before.target),
            condition: self.condition.unwrap_or(before.condition),
            is_public: self.is_public.unwrap_or(before.is_public),
            is_moderator: self.is_moderator.unwrap_or(before.is_moderator),
            is_administrator: self.is_administrator.unwrap_or(before.is_administrator),
            is_explorable: self.is_explorable.unwrap_or(before.is_explorable),
            as_badge: self.as_badge.unwrap_or(before.as_badge),
            badge_behavior: self.badge_behavior.unwrap_or(before.badge_behavior),
            preserve_assignment_on_move_account: self
                .preserve_assignment_on_move_account
                .unwrap_or(before.preserve_assignment_on_move_account),
            can_edit_members_by_moderator: self
                .can_edit_members_by_moderator
                .unwrap_or(before.can_edit_members_by_moderator),
            display_order: self.display_order.unwrap_or(before.display_order),
            policies: self.policies.unwrap_or(before.policies),
        }
    }
}

/// A definition within its bounds. Of the policies only those are kept that there are, with values of their
/// type.
fn checked(mut definition: Definition) -> Result<Definition, CannotDefine> {
    let optional = [&definition.color, &definition.icon_url, &definition.badge_behavior];
    let texts = [&definition.name, &definition.description].into_iter().chain(optional.into_iter().flatten());
    if texts.into_iter().any(|text| text.chars().count() > MAX_TEXT_CHARS)
        || definition.condition.to_string().len() > MAX_CONDITION_BYTES
    {
        return Err(CannotDefine::TooLarge);
    }
    definition.policies.retain(|name, policy| {
        policy.priority = policy.priority.min(MAX_PRIORITY);
        Policies::takes(name, &policy.value)
    });
    let bytes: usize = definition.policies.values().map(|policy| policy.value.to_string().len()).sum();
    if bytes > MAX_CONDITION_BYTES { Err(CannotDefine::TooLarge) } else { Ok(definition) }
}

/// What a condition asks of a person.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    pub user: UserId,
    pub is_local: bool,
    pub is_suspended: bool,
    pub profile: &'a Profile,
    pub followers: i64,
    pub following: i64,
    pub notes: i64,
    /// The roles that the person is assigned to.
    pub assigned: &'a [RoleId],
}

/// Which facts of a person a condition looks at, so that who remembers its outcome knows when to ask again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LooksAt {
    pub profile: bool,
    pub counts: bool,
}

/// For whom a conditional role is. What can't be understood holds for nobody.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    Never,
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    IsLocal,
    IsRemote,
    IsSuspended,
    IsLocked,
    IsBot,
    IsCat,
    IsExplorable,
    AssignedTo(RoleId),
    /// Made less than so many milliseconds ago.
    YoungerThan(i64),
    OlderThan(i64),
    AtMost(Count, f64),
    AtLeast(Count, f64),
}

/// What is counted of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    Followers,
    Following,
    Notes,
}

impl Condition {
    /// Reads the form that clients write.
    pub fn read(value: &Value) -> Self {
        let number = |name: &str| value.get(name).and_then(Value::as_f64);
        let all = || value.get("values")?.as_array().map(|values| values.iter().map(Self::read).collect());
        let at_most = |count| number("value").map(|most| Self::AtMost(count, most));
        let at_least = |count| number("value").map(|least| Self::AtLeast(count, least));
        // Beyond what an instant can be, ages are alike.
        let millis = || number("sec").map(|seconds| (seconds * 1_000.0) as i64);
        let read = || match value.get("type")?.as_str()? {
            "and" => all().map(Self::And),
            "or" => all().map(Self::Or),
            "not" => value.get("value").map(|inner| Self::Not(Box::new(Self::read(inner)))),
            "isLocal" => Some(Self::IsLocal),
            "isRemote" => Some(Self::IsRemote),
            "isSuspended" => Some(Self::IsSuspended),
            "isLocked" => Some(Self::IsLocked),
            "isBot" => Some(Self::IsBot),
            "isCat" => Some(Self::IsCat),
            "isExplorable" => Some(Self::IsExplorable),
            "roleAssignedTo" => value.get("roleId")?.as_str()?.parse().ok().map(Self::AssignedTo),
            "createdLessThan" => millis().map(Self::YoungerThan),
            "createdMoreThan" => millis().map(Self::OlderThan),
            "followersLessThanOrEq" => at_most(Count::Followers),
            "followersMoreThanOrEq" => at_least(Count::Followers),
            "followingLessThanOrEq" => at_most(Count::Following),
            "followingMoreThanOrEq" => at_least(Count::Following),
            "notesLessThanOrEq" => at_most(Count::Notes),
            "notesMoreThanOrEq" => at_least(Count::Notes),
            _ => None,
        };
        read().unwrap_or(Self::Never)
    }

    /// Whether it holds for a person now.
    pub fn holds(&self, about: &About<'_>, now: DateTime<Utc>) -> bool {
        let age = now.timestamp_millis() - about.user.time().timestamp_millis();
        match self {
            Self::Never => false,
            Self::And(all) => all.iter().all(|condition| condition.holds(about, now)),
            Self::Or(any) => any.iter().any(|condition| condition.holds(about, now)),
            Self::Not(inner) => !inner.holds(about, now),
            Self::IsLocal => about.is_local,
            Self::IsRemote => !about.is_local,
            Self::IsSuspended => about.is_suspended,
            Self::IsLocked => about.profile.is_locked,
            Self::IsBot => about.profile.is_bot,
            Self::IsCat => about.profile.is_cat,
            Self::IsExplorable => about.profile.is_explorable,
            Self::AssignedTo(role) => about.assigned.contains(role),
            Self::YoungerThan(millis) => age < *millis,
            Self::OlderThan(millis) => age > *millis,
            Self::AtMost(count, most) => count.of(about) <= *most,
            Self::AtLeast(count, least) => count.of(about) >= *least,
        }
    }

    /// Which facts it looks at.
    pub fn looks_at(&self) -> LooksAt {
        match self {
            Self::And(all) | Self::Or(all) => {
                all.iter().map(Self::looks_at).fold(LooksAt::default(), LooksAt::or)
            }
            Self::Not(inner) => inner.looks_at(),
            Self::IsLocked | Self::IsBot | Self::IsCat | Self::IsExplorable => {
                LooksAt { profile: true, counts: false }
            }
            Self::AtMost(..) | Self::AtLeast(..) => LooksAt { profile: false, counts: true },
            _ => LooksAt::default(),
        }
    }

    /// The first instant after now at which a part of it changes by time alone.
    pub fn turns_at(&self, user: UserId, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().filter_map(|part| part.turns_at(user, now)).min(),
            Self::Not(inner) => inner.turns_at(user, now),
            Self::YoungerThan(millis) | Self::OlderThan(millis) => {
                // To the millisecond in which neither is at its edge any more.
                let after = TimeDelta::try_milliseconds(millis.checked_add(1)?)?;
                user.time().checked_add_signed(after).filter(|turn| *turn > now)
            }
            _ => None,
        }
    }
}

impl Count {
    fn of(self, about: &About<'_>) -> f64 {
        let count = match self {
            Self::Followers => about.followers,
            Self::Following => about.following,
            Self::Notes => about.notes,
        };
        count as f64
    }
}

impl LooksAt {
    pub fn or(self, other: Self) -> Self {
        Self { profile: self.profile || other.profile, counts: self.counts || other.counts }
    }
}

/// What the policies of roles come to for one person who has them all. Of each policy only the words of the
/// highest priority count, and of those the most generous; who has no role has what everybody has.
pub fn effective<'r>(
    everybody: &Policies,
    roles: impl Iterator<Item = &'r Definition> + Clone,
) -> Map<String, Value> {
    let come_to = |name: &str| effective_one(name, everybody.get(name), roles.clone());
    POLICIES.iter().map(|(name, _)| ((*name).to_owned(), come_to(name))).collect()
}

/// The same for one policy, of which everybody has the usual value.
pub fn effective_one<'r>(
    name: &str,
    usual: &Value,
    roles: impl Iterator<Item = &'r Definition> + Clone,
) -> Value {
    let said = roles.map(|role| match role.policies.get(name) {
        Some(policy) if policy.use_default => (policy.priority, usual),
        Some(policy) => (policy.priority, &policy.value),
        None => (0, usual),
    });
    let Some(highest) = said.clone().map(|(priority, _)| priority).max() else { return usual.clone() };
    let values: Vec<&Value> =
        said.filter(|(priority, _)| *priority == highest).map(|(_, value)| value).collect();
    most_generous(name, &values)
}

/// How far chats are open, the widest first.
const CHAT_AVAILABILITIES: [&str; 3] = ["available", "readonly", "unavailable"];

fn most_generous(name: &str, values: &[&Value]) -> Value {
    if name == "chatAvailability" {
        let widest = CHAT_AVAILABILITIES.iter().find(|word| values.iter().any(|value| value == *word));
        return widest.map_or(Value::Null, |word| Value::from(*word));
    }
    let (mut any, mut greatest, mut list) = (None::<bool>, None::<&Value>, None::<Vec<Value>>);
    for value in values.iter().copied() {
        match value {
            Value::Bool(flag) => any = Some(any.unwrap_or(false) || *flag),
            Value::Number(number) => {
                let is_greater = |than: &Value| number.as_f64() > than.as_f64();
                if greatest.is_none_or(is_greater) {
                    greatest = Some(value);
                }
            }
            Value::Array(items) => {
                let list = list.get_or_insert_default();
                let new: Vec<&Value> = items.iter().filter(|item| !list.contains(item)).collect();
                list.extend(new.into_iter().cloned());
            }
            _ => (),
        }
    }
    any.map(Value::from).or(greatest.cloned()).or(list.map(Value::from)).unwrap_or(Value::Null)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::ids::first_of;
    use crate::note::tests::{id, person, user};
    use serde_json::json;
    use uuid::Uuid;

    pub fn a_role(change: impl FnOnce(&mut Definition)) -> Definition {
        let mut definition = Definition {
            name: "Helper".to_owned(),
            description: "helps".to_owned(),
            color: None,
            icon_url: None,
            target: Target::Manual,
            condition: json!({}),
            is_public: true,
            is_moderator: false,
            is_administrator: false,
            is_explorable: true,
            as_badge: false,
            badge_behavior: None,
            preserve_assignment_on_move_account: false,
            can_edit_members_by_moderator: false,
            display_order: 0,
            policies: BTreeMap::new(),
        };
        change(&mut definition);
        definition
    }

    fn role(n: u8) -> RoleId {
        RoleId(id(n))
    }

    fn made(definition: Definition) -> Role {
        Role::of(&create(&Role::default(), role(1), definition).unwrap())
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn policy(priority: u8, value: Value) -> RolePolicy {
        RolePolicy { use_default: value.is_null(), priority, value }
    }

    fn with(policies: &[(&str, RolePolicy)]) -> Definition {
        let policies = policies.iter().map(|(name, policy)| ((*name).to_owned(), policy.clone())).collect();
        a_role(|role| role.policies = policies)
    }

    #[test]
    fn a_role_is_made_changed_and_deleted() {
        let mut current = made(a_role(|_| ()));
        assert_eq!(create(&current, role(1), a_role(|_| ())), Ok(Vec::new()), "asked twice");
        let renamed = Changes { name: Some("Helpers".to_owned()), ..Changes::default() };
        current.apply(&change(&current, role(1), renamed.clone()).unwrap()[0]);
        assert_eq!(current.definition.as_ref().unwrap().name, "Helpers");
        assert_eq!(current.definition.as_ref().unwrap().description, "helps");
        assert_eq!(change(&current, role(1), renamed.clone()), Ok(Vec::new()));
        let long = Changes { description: Some("x".repeat(MAX_TEXT_CHARS + 1)), ..Changes::default() };
        assert_eq!(change(&current, role(1), long), Err(CannotDefine::TooLarge));
        current.apply(&delete(&current, role(1)).unwrap()[0]);
        assert_eq!(change(&current, role(1), renamed), Err(CannotDefine::NoSuchRole));
        assert_eq!(delete(&current, role(1)), Err(CannotDefine::NoSuchRole));
    }

    #[test]
    fn a_role_has_only_policies_that_there_are() {
        let asked = with(&[
            ("pinLimit", policy(9, json!(9))),
            ("canInvite", policy(0, json!("yes"))),
            ("noSuch", policy(0, json!(true))),
        ]);
        let kept = made(asked).definition.unwrap().policies;
        assert_eq!(kept, BTreeMap::from([("pinLimit".to_owned(), policy(MAX_PRIORITY, json!(9)))]));
    }

    #[test]
    fn somebody_is_assigned_once_until_the_time_comes() {
        let (helpers, alice) = (made(a_role(|_| ())), person(1, |_| ()));
        let mut current = Assignment::default();
        let assignment = |expires_at| Assigned {
            id: RoleAssignmentId(id(5)),
            role: role(1),
            user: user(1),
            expires_at,
            memo: None,
            tells: false,
        };
        let ask = |current: &Assignment, end: Option<i64>, now| {
            assign(current, &helpers, &alice, true, &assignment(end.map(at)), at(now))
        };
        assert_eq!(ask(&current, Some(9), 10), Ok(Vec::new()), "it would be over");
        let events = ask(&current, Some(20), 10).unwrap();
        let Event::RoleAssigned(assigned) = &events[0] else { panic!("{events:?}") };
        assert!(assigned.tells, "the role is public");
        current.apply(&events[0]);
        assert_eq!(ask(&current, None, 19), Err(CannotAssign::AlreadyAssigned));
        assert!(ask(&current, None, 20).is_ok());
        let end = |current: &Assignment, now| {
            unassign(current, (role(1), &helpers), (user(1), &alice), true, at(now))
        };
        assert_eq!(end(&current, 20), Err(CannotUnassign::NotAssigned));
        let ended = end(&current, 19).unwrap();
        current.apply(&ended[0]);
        assert_eq!(current, Assignment::default());

        let nobody = User::default();
        let asked = assignment(None);
        let refused = |role: &Role, user: &User, administers| {
            assign(&Assignment::default(), role, user, administers, &asked, at(0)).err()
        };
        assert_eq!(refused(&Role::default(), &alice, true), Some(CannotAssign::NoSuchRole));
        assert_eq!(refused(&helpers, &nobody, true), Some(CannotAssign::NoSuchUser));
        assert_eq!(refused(&helpers, &alice, false), Some(CannotAssign::NotAllowed));
        let open = made(a_role(|role| role.can_edit_members_by_moderator = true));
        assert_eq!(refused(&open, &alice, false), None);
    }

    #[test]
    fn conditions_are_read_and_hold() {
        let made_at = at(1_000);
        let who = UserId(first_of(made_at));
        let profile = Profile { is_cat: true, ..Profile::default() };
        let about = About {
            user: who,
            is_local: true,
            is_suspended: false,
            profile: &profile,
            followers: 3,
            following: 4,
            notes: 5,
            assigned: &[RoleId(Uuid::from_u128(7))],
        };
        let seven = RoleId(Uuid::from_u128(7));
        for (formula, expected) in [
            (json!({ "type": "isLocal" }), true),
            (json!({ "type": "isRemote" }), false),
            (json!({ "type": "isSuspended" }), false),
            (json!({ "type": "isCat" }), true),
            (json!({ "type": "isBot" }), false),
            (json!({ "type": "isLocked" }), false),
            (json!({ "type": "isExplorable" }), true),
            (json!({ "type": "roleAssignedTo", "roleId": seven }), true),
            (json!({ "type": "roleAssignedTo", "roleId": "0" }), false),
            (json!({ "type": "followersLessThanOrEq", "value": 3 }), true),
            (json!({ "type": "followersMoreThanOrEq", "value": 3.5 }), false),
            (json!({ "type": "followingMoreThanOrEq", "value": 4 }), true),
            (json!({ "type": "followingLessThanOrEq", "value": 3 }), false),
            (json!({ "type": "notesLessThanOrEq", "value": 5 }), true),
            (json!({ "type": "notesMoreThanOrEq", "value": 6 }), false),
            (json!({ "type": "createdLessThan", "sec": 11 }), true),
            (json!({ "type": "createdLessThan", "sec": 10 }), false),
            (json!({ "type": "createdMoreThan", "sec": 9 }), true),
            (json!({ "type": "createdMoreThan", "sec": 1e300 }), false),
            (json!({ "type": "and", "values": [{ "type": "isLocal" }, { "type": "isCat" }] }), true),
            (json!({ "type": "and", "values": [{ "type": "isLocal" }, { "type": "isBot" }] }), false),
            (json!({ "type": "or", "values": [{ "type": "isBot" }, { "type": "isCat" }] }), true),
            (json!({ "type": "or", "values": [] }), false),
            (json!({ "type": "not", "value": { "type": "isBot" } }), true),
            (json!({ "type": "isLocalish" }), false),
            (json!({ "type": "and" }), false),
            (json!({}), false),
            (json!("isLocal"), false),
        ] {
            assert_eq!(Condition::read(&formula).holds(&about, at(1_010)), expected, "{formula}");
        }
    }

    #[test]
    fn a_condition_knows_when_to_be_asked_again() {
        let who = UserId(first_of(at(1_000)));
        let formula = json!({ "type": "and", "values": [
            { "type": "not", "value": { "type": "createdLessThan", "sec": 10 } },
            { "type": "or", "values": [{ "type": "isCat" }, { "type": "notesMoreThanOrEq", "value": 1 }] },
        ] });
        let condition = Condition::read(&formula);
        assert_eq!(condition.looks_at(), LooksAt { profile: true, counts: true });
        let turn = condition.turns_at(who, at(1_000)).unwrap();
        assert_eq!(turn.timestamp_millis(), 1_010_001);
        assert_eq!(condition.turns_at(who, turn), None);
        assert_eq!(Condition::IsLocal.looks_at(), LooksAt::default());
        assert_eq!(Condition::YoungerThan(i64::MAX).turns_at(who, turn), None);
    }

    #[test]
    fn the_most_generous_word_of_the_highest_priority_counts() {
        let everybody = Policies::with(BTreeMap::from([("pinLimit".to_owned(), json!(4))]));
        let come_to = |roles: &[Definition], name: &str| effective(&everybody, roles.iter())[name].clone();
        assert_eq!(come_to(&[], "pinLimit"), json!(4));
        let nine = with(&[("pinLimit", policy(0, json!(9)))]);
        let one = with(&[("pinLimit", policy(1, json!(1)))]);
        let usual = with(&[("pinLimit", policy(1, Value::Null))]);
        assert_eq!(come_to(&[a_role(|_| ()), nine.clone()], "pinLimit"), json!(9));
        assert_eq!(come_to(std::slice::from_ref(&one), "pinLimit"), json!(1), "alone it can be less");
        assert_eq!(come_to(&[nine.clone(), one.clone()], "pinLimit"), json!(1));
        assert_eq!(come_to(&[nine, one, usual], "pinLimit"), json!(4));

        let flags = |name: &str, values: &[bool]| {
            let roles: Vec<_> = values.iter().map(|v| with(&[(name, policy(0, json!(v)))])).collect();
            come_to(&roles, name)
        };
        assert_eq!(flags("canPublicNote", &[false]), json!(false));
        assert_eq!(flags("canPublicNote", &[false, true]), json!(true));
        let chat = |words: &[&str]| {
            let roles: Vec<_> =
                words.iter().map(|w| with(&[("chatAvailability", policy(0, json!(w)))])).collect();
            come_to(&roles, "chatAvailability")
        };
        assert_eq!(chat(&["unavailable", "readonly"]), json!("readonly"));
        assert_eq!(chat(&["readonly", "available"]), json!("available"));
        let types: Vec<_> = [json!(["image/*", "text/*"]), json!(["text/*", "audio/*"])]
            .into_iter()
            .map(|list| with(&[("uploadableFileTypes", policy(0, list))]))
            .collect();
        assert_eq!(come_to(&types, "uploadableFileTypes"), json!(["image/*", "text/*", "audio/*"]));
    }
}
