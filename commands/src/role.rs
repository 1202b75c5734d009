//! Roles and who is assigned to them.

use std::sync::Arc;

use domain::log::{By, LogError};
use domain::role::{
    Assigned, Assignment, CannotAssign, CannotDefine, CannotUnassign, Changes, Definition, Role, Terms,
    assign, assignment_stream, change, create, delete, stream, unassign,
};
use domain::{RoleAssignmentId, RoleId, UserId};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Makes a role.
    pub async fn create_role(
        &self,
        by: By,
        role: RoleId,
        definition: Definition,
    ) -> Result<Receipt, Failed<CannotDefine>> {
        self.execute_first(&stream(role), &by, |current: &Role| create(current, role, definition.clone()))
            .await
    }

    /// Changes what a role is.
    pub async fn change_role(
        &self,
        by: By,
        role: RoleId,
        changes: Changes,
    ) -> Result<Receipt, Failed<CannotDefine>> {
        self.execute(&stream(role), &by, |current: &Role| change(current, role, changes.clone())).await
    }

    /// Ends a role, and with it all its assignments.
    pub async fn delete_role(&self, by: By, role: RoleId) -> Result<Receipt, Failed<CannotDefine>> {
        self.execute(&stream(role), &by, |current: &Role| delete(current, role)).await
    }

    /// Assigns somebody to a role; whether they who ask administer decides about most roles.
    pub async fn assign_role(
        &self,
        by: By,
        role: RoleId,
        user: UserId,
        terms: Terms,
        administers: bool,
    ) -> Result<Receipt, Failed<CannotAssign>> {
        let (facts, person) = (self.role(role).await?, self.user(user).await?);
        let Terms { expires_at, memo } = terms;
        let id = RoleAssignmentId(self.ids.at(by.now));
        let asked = Assigned { id, role, user, expires_at, memo, tells: false };
        self.execute(&assignment_stream(role, user), &by, |current: &Assignment| {
            assign(current, &facts, &person, administers, &asked, by.now)
        })
        .await
    }

    /// Ends somebody's assignment to a role.
    pub async fn unassign_role(
        &self,
        by: By,
        role: RoleId,
        user: UserId,
        administers: bool,
    ) -> Result<Receipt, Failed<CannotUnassign>> {
        let (facts, person) = (self.role(role).await?, self.user(user).await?);
        self.execute(&assignment_stream(role, user), &by, |current: &Assignment| {
            unassign(current, (role, &facts), (user, &person), administers, by.now)
        })
        .await
    }

    async fn role(&self, role: RoleId) -> Result<Arc<Role>, LogError> {
        self.load(&stream(role)).await
    }
}
