//! Lists of people.

use std::sync::Arc;

use domain::list::{
    CannotChange, CannotChangeMember, CannotCopy, CannotCreate, CannotFavorite, CannotPull, CannotPush,
    Favorite, Limits, Lists, NoSuchList, change, change_member, copy, create, delete, favorite,
    favorite_stream, pull, push, stream, unfavorite,
};
use domain::log::{By, LogError};
use domain::{ListId, MembershipId, UserId};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// All lists of a person.
    pub async fn lists(&self, owner: UserId) -> Result<Arc<Lists>, LogError> {
        self.load(&stream(owner)).await
    }

    /// Makes an empty list.
    pub async fn create_list(
        &self,
        by: By,
        owner: UserId,
        id: ListId,
        name: String,
        limits: Limits,
    ) -> Result<Receipt, Failed<CannotCreate>> {
        self.execute(&stream(owner), &by, |lists: &Lists| create(lists, owner, id, name.clone(), limits))
            .await
    }

    /// Makes a list with the people of a public one, `of` somebody.
    pub async fn copy_list(
        &self,
        by: By,
        owner: UserId,
        (of, list): (UserId, ListId),
        id: ListId,
        name: String,
        limits: Limits,
    ) -> Result<Receipt, Failed<CannotCopy>> {
        let theirs: Arc<Lists> = self.load(&stream(of)).await?;
        let Some(list) = theirs.get(list).filter(|list| list.is_public) else {
            return Err(Failed::Refused(CannotCopy::NoSuchList));
        };
        let people: Vec<UserId> = list.members.keys().copied().collect();
        let people = self.existing(&people).await?;
        let members: Vec<_> =
            people.into_iter().map(|user| (MembershipId(self.ids.at(by.now)), user)).collect();
        self.execute(&stream(owner), &by, |lists: &Lists| {
            copy(lists, owner, id, name.clone(), &members, limits)
        })
        .await
    }

    /// Changes a list of one's own.
    pub async fn change_list(
        &self,
        by: By,
        owner: UserId,
        list: ListId,
        name: Option<String>,
        is_public: Option<bool>,
        limits: Limits,
    ) -> Result<Receipt, Failed<CannotChange>> {
        self.execute(&stream(owner), &by, |lists: &Lists| {
            change(lists, owner, list, name.clone(), is_public, limits)
        })
        .await
    }

    /// Deletes a list of one's own.
    pub async fn delete_list(
        &self,
        by: By,
        owner: UserId,
        list: ListId,
    ) -> Result<Receipt, Failed<NoSuchList>> {
        self.execute(&stream(owner), &by, |lists: &Lists| delete(lists, owner, list)).await
    }

    /// Puts somebody into a list of one's own.
    pub async fn push_to_list(
        &self,
        by: By,
        owner: UserId,
        list: ListId,
        user: UserId,
        limits: Limits,
    ) -> Result<Receipt, Failed<CannotPush>> {
        let lists: Arc<Lists> = self.load(&stream(owner)).await?;
        if lists.get(list).is_none() {
            return Err(Failed::Refused(CannotPush::NoSuchList));
        }
        if !self.user(user).await?.exists() {
            return Err(Failed::Refused(CannotPush::NoSuchUser));
        }
        if self.is_blocked(owner, user).await? {
            return Err(Failed::Refused(CannotPush::Blocked));
        }
        let member = (MembershipId(self.ids.at(by.now)), user);
        self.execute(&stream(owner), &by, |lists: &Lists| push(lists, owner, list, member, limits)).await
    }

    /// Takes somebody out of a list of one's own.
    pub async fn pull_from_list(
        &self,
        by: By,
        owner: UserId,
        list: ListId,
        user: UserId,
    ) -> Result<Receipt, Failed<CannotPull>> {
        let lists: Arc<Lists> = self.load(&stream(owner)).await?;
        if lists.get(list).is_none() {
            return Err(Failed::Refused(CannotPull::NoSuchList));
        }
        if !self.user(user).await?.exists() {
            return Err(Failed::Refused(CannotPull::NoSuchUser));
        }
        self.execute(&stream(owner), &by, |lists: &Lists| pull(lists, owner, list, user)).await
    }

    /// Changes what is wanted of somebody in a list of one's own.
    pub async fn change_list_member(
        &self,
        by: By,
        owner: UserId,
        list: ListId,
        user: UserId,
        with_replies: Option<bool>,
        limits: Limits,
    ) -> Result<Receipt, Failed<CannotChangeMember>> {
        self.execute(&stream(owner), &by, |lists: &Lists| {
            change_member(lists, owner, list, user, with_replies, limits)
        })
        .await
    }

    /// Likes a public list `of` somebody.
    pub async fn favorite_list(
        &self,
        by: By,
        user: UserId,
        (of, list): (UserId, ListId),
    ) -> Result<Receipt, Failed<CannotFavorite>> {
        let theirs: Arc<Lists> = self.load(&stream(of)).await?;
        self.execute(&favorite_stream(list, user), &by, |current: &Favorite| {
            favorite(current, list, theirs.get(list), user)
        })
        .await
    }

    /// Likes a public list `of` somebody no more.
    pub async fn unfavorite_list(
        &self,
        by: By,
        user: UserId,
        (of, list): (UserId, ListId),
    ) -> Result<Receipt, Failed<CannotFavorite>> {
        let theirs: Arc<Lists> = self.load(&stream(of)).await?;
        self.execute(&favorite_stream(list, user), &by, |current: &Favorite| {
            unfavorite(current, list, theirs.get(list), user)
        })
        .await
    }
}
