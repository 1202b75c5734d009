//! Who calls, as types: an endpoint names what it needs, and gets nothing less.

use std::sync::Arc;

use async_trait::async_trait;
use domain::ids::{RoleId, UserId};
use domain::instance::Policies;
use domain::note::Allowed;
use serde_json::{Map, Value};

use super::error::{ACCOUNT_DELETED, ACCOUNT_SUSPENDED, ApiError, CREDENTIAL_REQUIRED, ErrorDef};
use super::error::{NOT_ADMINISTRATOR, NOT_MODERATOR};
use crate::ops::tokens::AppGrant;

/// What admission needs to know of a local account.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub id: UserId,
    pub username: String,
    /// The first account: may do everything.
    pub is_root: bool,
    pub is_administrator: bool,
    pub is_moderator: bool,
    pub is_suspended: bool,
    pub is_deleted: bool,
    pub has_moved: bool,
    /// The policy of that name: 0 lifts the limits, 2 halves them.
    pub rate_limit_factor: f64,
    /// What they have now.
    pub roles: Vec<RoleId>,
    /// The effective policies, by their names in the API.
    pub policies: Arc<Map<String, Value>>,
}

impl Account {
    /// Whether a policy, such as `canSearchNotes`, allows it.
    pub fn may(&self, policy: &str) -> bool {
        self.is_root || self.policies.get(policy) == Some(&Value::Bool(true))
    }

    /// How many of something a policy, such as `clipLimit`, allows.
    pub fn limit(&self, policy: &str) -> usize {
        let limit = self.policies.get(policy).and_then(Value::as_u64).unwrap_or(0);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// What their notes may be.
    pub fn notes(&self) -> Allowed {
        let public_notes = self.policies.get("canPublicNote") == Some(&Value::Bool(true));
        Allowed { public_notes, mentions: self.limit("mentionLimit") }
    }

    pub fn administers(&self) -> bool {
        self.is_root || self.is_administrator
    }

    pub fn moderates(&self) -> bool {
        self.administers() || self.is_moderator
    }
}

/// Where accounts come from. Answers from memory where it can: it is asked at every call.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// The local account; none when there has never been one.
    async fn account(&self, id: UserId) -> Result<Option<Arc<Account>>, ApiError>;

    /// The local account of a name, in whatever case it is written.
    async fn named(&self, username: &str) -> Result<Option<Arc<Account>>, ApiError>;

    /// The policies of everybody without a role.
    async fn usual_policies(&self) -> Result<Arc<Policies>, ApiError>;
}

/// A person, by their own token or by an app's.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedIn {
    pub account: Arc<Account>,
    /// What the app was granted; none when the person's own token was sent.
    pub app: Option<Arc<AppGrant>>,
}

/// Anybody, signed in or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Anyone(pub Option<SignedIn>);

/// A signed-in moderator or administrator.
#[derive(Debug, Clone, PartialEq)]
pub struct Moderator(pub SignedIn);

/// A signed-in administrator.
#[derive(Debug, Clone, PartialEq)]
pub struct Administrator(pub SignedIn);

impl SignedIn {
    pub fn id(&self) -> UserId {
        self.account.id
    }
}

impl Anyone {
    /// Who it is, if they are signed in.
    pub fn id(&self) -> Option<UserId> {
        self.0.as_ref().map(SignedIn::id)
    }
}

/// What an endpoint asks of its caller; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Credential {
    None,
    SignedIn,
    Moderator,
    Administrator,
}

impl Credential {
    /// The first half of the check: is there somebody, in good standing?
    pub(super) fn check_standing(self, caller: Option<&SignedIn>) -> Result<(), ErrorDef> {
        if self == Credential::None {
            return Ok(());
        }
        let account = &caller.ok_or(CREDENTIAL_REQUIRED)?.account;
        if account.is_deleted {
            Err(ACCOUNT_DELETED)
        } else if account.is_suspended {
            Err(ACCOUNT_SUSPENDED)
        } else {
            Ok(())
        }
    }

    /// The second half: do they have the role?
    pub(super) fn check_role(self, caller: Option<&SignedIn>) -> Result<(), ErrorDef> {
        let account = caller.map(|caller| &caller.account);
        match self {
            Credential::Administrator if !account.is_some_and(|a| a.administers()) => Err(NOT_ADMINISTRATOR),
            Credential::Moderator if !account.is_some_and(|a| a.moderates()) => Err(NOT_MODERATOR),
            _ => Ok(()),
        }
    }
}

/// The caller of an endpoint.
pub trait Caller: Sized + Send {
    const CREDENTIAL: Credential;

    /// Made after the checks of [`Self::CREDENTIAL`] have passed.
    fn new(caller: Option<SignedIn>) -> Result<Self, ErrorDef>;
}

impl Caller for Anyone {
    const CREDENTIAL: Credential = Credential::None;

    fn new(caller: Option<SignedIn>) -> Result<Self, ErrorDef> {
        Ok(Anyone(caller))
    }
}

impl Caller for SignedIn {
    const CREDENTIAL: Credential = Credential::SignedIn;

    fn new(caller: Option<SignedIn>) -> Result<Self, ErrorDef> {
        caller.ok_or(CREDENTIAL_REQUIRED)
    }
}

impl Caller for Moderator {
    const CREDENTIAL: Credential = Credential::Moderator;

    fn new(caller: Option<SignedIn>) -> Result<Self, ErrorDef> {
        caller.map(Moderator).ok_or(CREDENTIAL_REQUIRED)
    }
}

impl Caller for Administrator {
    const CREDENTIAL: Credential = Credential::Administrator;

    fn new(caller: Option<SignedIn>) -> Result<Self, ErrorDef> {
        caller.map(Administrator).ok_or(CREDENTIAL_REQUIRED)
    }
}
