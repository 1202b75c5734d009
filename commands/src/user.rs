//! Accounts: sign-up, profile, presence.

use std::convert::Infallible;
use std::sync::Arc;

use domain::UserId;
use domain::instance::{self, Instance};
use domain::log::{By, LogError};
use domain::user::{
    AlreadyMade, AppAuthorized, CannotErase, CannotSignUp, Created, ProfileChanges, Reservation, Security,
    SecurityChanged, SignedIn, TokenRegenerated, User, abandon, be_active, change, create, erase,
    is_username, reserve, stream, username_stream,
};
use domain::words;

use crate::{Commands, Failed, Receipt};

/// The kind of the event by which there is an account: readable also when its data has been erased.
const MADE: &str = "user.created";
const ERASED: &str = "user.erased";
/// Steps of the appends that make an account.
const STEP_NAME: u8 = 1;
const STEP_ROOT: u8 = 2;
const STEP_FREE_NAME: u8 = 3;
const STEP_FREE_ROOT: u8 = 4;

/// An account to be made, with the id it will have.
#[derive(Debug, Clone)]
pub struct NewAccount {
    pub user: UserId,
    pub username: String,
    /// Who asks for it.
    pub asked_by: AskedBy,
}

/// Who asks for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// A visitor, when registration is open; kept-back names are not given.
    Visitor,
    /// A visitor whose mail address is proven, when registration is open.
    Proven,
    /// A visitor with the code of an invitation, whatever else registration asks for: they are vouched for.
    Invited,
    /// The administrator.
    Administrator,
    /// Whoever sets the server up: this account becomes its root, or isn't made.
    Founder,
}

impl Commands {
    /// Makes a local account: reserves its name for ever, then creates it. What is cut off in the middle
    /// leaves a name, or the place of the root, to the next who asks, and is then never made.
    pub async fn sign_up(&self, by: By, new: NewAccount) -> Result<Receipt, Failed<CannotSignUp>> {
        self.sign_up_with(by, new, None).await
    }

    /// The same for a visitor with the code of an invitation, which is used up.
    pub async fn sign_up_invited(
        &self,
        by: By,
        new: NewAccount,
        code: &str,
    ) -> Result<Receipt, Failed<CannotSignUp>> {
        self.sign_up_with(by, NewAccount { asked_by: AskedBy::Invited, ..new }, Some(code)).await
    }

    async fn sign_up_with(
        &self,
        by: By,
        new: NewAccount,
        code: Option<&str>,
    ) -> Result<Receipt, Failed<CannotSignUp>> {
        if !is_username(&new.username) {
            return Err(Failed::Refused(CannotSignUp::InvalidUsername));
        }
        let instance = self.instance().await?;
        let lower = new.username.to_ascii_lowercase();
        let is_open = match (new.asked_by, code) {
            (AskedBy::Visitor, _) => instance.settings.takes_visitors(),
            (AskedBy::Proven, _) => !instance.settings.registration_is_closed(),
            (AskedBy::Invited, Some(code)) => self.is_invited(&by, new.user, code).await?,
            (AskedBy::Invited, None) => false,
            (AskedBy::Administrator | AskedBy::Founder, _) => true,
        };
        if !is_open {
            return Err(Failed::Refused(CannotSignUp::Closed));
        }
        let is_visitor = matches!(new.asked_by, AskedBy::Visitor | AskedBy::Proven | AskedBy::Invited);
        if is_visitor && is_kept_back(&instance, &lower) {
            return Err(Failed::Refused(CannotSignUp::ReservedUsername));
        }
        self.reserve_name(by, &new, &lower).await?;
        if let Some(code) = code {
            self.use_invitation(by, new.user, code).await?;
        }
        if new.asked_by == AskedBy::Founder {
            self.root_first(by, new.user, &instance).await?;
        }
        let created = Created { user: new.user, username: new.username, host: None, uri: None };
        self.execute(&stream(new.user), &by, |user: &User| create(user, &created)).await
    }

    async fn reserve_name(&self, by: By, new: &NewAccount, lower: &str) -> Result<(), Failed<CannotSignUp>> {
        let names = username_stream(&self.keyring.hash("username", lower));
        let holder = self.load::<Reservation>(&names).await?.holder;
        let holder_exists = match holder {
            Some(holder) => self.is_for_good(by.step(STEP_FREE_NAME), holder).await?,
            None => false,
        };
        let reserved = self
            .execute(&names, &by.step(STEP_NAME), |current: &Reservation| {
                reserve(current, new.user, holder_exists || current.holder != holder)
            })
            .await;
        match (reserved, holder) {
            (Err(Failed::Refused(CannotSignUp::Taken)), Some(holder)) if self.user(holder).await?.erased => {
                Err(Failed::Refused(CannotSignUp::UsedBefore))
            }
            (outcome, _) => outcome.map(|_| ()),
        }
    }

    /// The first account becomes the root; there is no second one.
    async fn root_first(&self, by: By, user: UserId, seen: &Instance) -> Result<(), Failed<CannotSignUp>> {
        let root_exists = match seen.root {
            Some(root) => self.is_for_good(by.step(STEP_FREE_ROOT), root).await?,
            None => false,
        };
        let done = self
            .execute(&instance::stream(), &by.step(STEP_ROOT), |current: &Instance| {
                instance::root(current, user, root_exists || current.root != seen.root)
            })
            .await;
        done.map(|_| ()).map_err(|failed| failed.map_refusal(|instance::AlreadyRooted| CannotSignUp::Closed))
    }

    /// Whether an account was made; when it was not, it can't be any more.
    async fn is_for_good(&self, by: By, user: UserId) -> Result<bool, Failed<CannotSignUp>> {
        if self.was_made(user).await? {
            return Ok(true);
        }
        match self.execute(&stream(user), &by, |current: &User| abandon(current, user)).await {
            Ok(_) => Ok(false),
            Err(Failed::Refused(AlreadyMade)) => Ok(true),
            Err(other) => Err(other.map_refusal(|AlreadyMade| CannotSignUp::Taken)),
        }
    }

    /// Whether the account has ever been made; true also when its data has been erased since.
    pub(crate) async fn was_made(&self, user: UserId) -> Result<bool, LogError> {
        let (recorded, _) = self.log.stream(&stream(user)).await?;
        Ok(recorded.iter().any(|recorded| recorded.kind == MADE))
    }

    /// Erases a person, from here or from elsewhere: says so in the log, then destroys their key. The receipt
    /// is where the log says it. What was cut off in the middle is made whole by asking again, and by whoever
    /// reads that event.
    pub async fn erase(&self, by: By, user: UserId) -> Result<Receipt, Failed<CannotErase>> {
        let (recorded, _) = self.log.stream(&stream(user)).await?;
        if !recorded.iter().any(|recorded| recorded.kind == MADE) {
            return Err(Failed::Refused(CannotErase::NoSuchUser));
        }
        let receipt = match recorded.iter().find(|recorded| recorded.kind == ERASED) {
            Some(earlier) => Receipt { position: earlier.position },
            None => self.execute(&stream(user), &by, |current: &User| Ok(erase(current, user))).await?,
        };
        self.keyring.destroy(user).await.map_err(LogError::from)?;
        self.states.clear();
        Ok(receipt)
    }

    /// Whether a visitor could take this name.
    pub async fn username_is_free(&self, username: &str) -> Result<bool, LogError> {
        let lower = username.to_ascii_lowercase();
        let instance = self.instance().await?;
        if !is_username(username) || is_kept_back(&instance, &lower) {
            return Ok(false);
        }
        Ok(self.holder_of(&lower).await?.is_none())
    }

    /// The local account of a name in lower case; its person may have been erased since.
    pub(crate) async fn holder_of(&self, lower: &str) -> Result<Option<UserId>, LogError> {
        let names = username_stream(&self.keyring.hash("username", lower));
        Ok(self.load::<Reservation>(&names).await?.holder)
    }

    /// One account, folded.
    pub(crate) async fn user(&self, user: UserId) -> Result<Arc<User>, LogError> {
        self.load(&stream(user)).await
    }

    /// Whether a person may be called so; without a change, as they are called.
    pub async fn may_be_called(&self, user: UserId, name: Option<&Option<String>>) -> Result<bool, LogError> {
        let current = self.user(user).await?;
        let Some(name) = name.unwrap_or(&current.profile.name) else { return Ok(true) };
        Ok(!is_prohibited(&*self.instance().await?, name))
    }

    /// Changes what a person says of themselves and prefers.
    pub async fn change_profile(
        &self,
        by: By,
        user: UserId,
        changes: ProfileChanges,
    ) -> Result<Receipt, Failed<Infallible>> {
        self.execute(&stream(user), &by, |current: &User| Ok(change(current, user, changes.clone()))).await
    }

    /// Notes that the person uses the server today (UTC).
    pub async fn be_active(&self, by: By, user: UserId) -> Result<Receipt, Failed<Infallible>> {
        let day = by.now.date_naive();
        self.execute(&stream(user), &by, |current: &User| Ok(be_active(current, user, day))).await
    }

    /// Notes a sign-in with a password.
    pub async fn signed_in(&self, by: By, user: UserId) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, SignedIn { user }.into()).await
    }

    /// Notes that an app got an access token.
    pub async fn app_authorized(
        &self,
        by: By,
        user: UserId,
        app: Option<String>,
    ) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, AppAuthorized { user, app }.into()).await
    }

    /// Notes that all earlier native tokens stopped working.
    pub async fn token_regenerated(&self, by: By, user: UserId) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, TokenRegenerated { user }.into()).await
    }

    /// Notes that a person gets in or is reached in another way than before.
    pub async fn security_changed(
        &self,
        by: By,
        user: UserId,
        what: Security,
    ) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, SecurityChanged { user, what }.into()).await
    }
}

fn is_kept_back(instance: &Instance, lower: &str) -> bool {
    instance.settings.list("preservedUsernames").any(|kept| kept.eq_ignore_ascii_case(lower))
        || is_prohibited(instance, lower)
}

/// Whether a name has words that no name may have.
fn is_prohibited(instance: &Instance, name: &str) -> bool {
    words::has_any(name, instance.settings.list("prohibitedWordsForNameOfUser"))
}
