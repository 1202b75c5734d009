//! `users/get-frequently-replied-users`, `users/recommendation`.

use projections::{Wanted, acquaintance};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::user::in_detail;
use crate::api::param::{Limit, Page, UserId};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn};
use crate::app::App;
use crate::json::user::UserDetailed;

/// Whom a person answers most.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnsweredMost {
    user_id: UserId,
    #[serde(default)]
    limit: Limit,
}

/// Somebody who is answered, and how often compared with who is answered most.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Answered {
    user: UserDetailed,
    /// More than 0, at most 1.
    weight: f64,
}

const NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "e6965129-7b2a-40a4-bae2-cd84cd434822");

impl Endpoint for AnsweredMost {
    const META: Meta = Meta::new("users/get-frequently-replied-users").errors(&[NO_SUCH_USER]);
    type Caller = Anyone;
    type Reply = Vec<Answered>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Answered>, ApiError> {
        let user = self.user_id.0;
        if app.hydrate(Wanted::users([user]), None).await?.user(user).is_none() {
            return Err(NO_SUCH_USER.into());
        }
        let limit = Page::default().limited(self.limit).limit;
        let answered = acquaintance::answered_most(&app.pool, user, limit).await?;
        let most = answered.first().map_or(1, |(_, replies)| *replies) as f64;
        let mut shown = Vec::with_capacity(answered.len());
        for (id, replies) in answered {
            shown.push((id, replies as f64 / most));
        }
        let ids: Vec<_> = shown.iter().map(|(id, _)| *id).collect();
        let people = in_detail(app, &me, &ids).await?;
        let weight =
            |user: &UserDetailed| shown.iter().find(|(id, _)| *id == user.id()).map(|(_, weight)| *weight);
        Ok(people.into_iter().filter_map(|user| Some(Answered { weight: weight(&user)?, user })).collect())
    }
}

/// People whom the caller might want to follow.
#[derive(Deserialize, JsonSchema)]
pub struct Recommendation {
    #[serde(default)]
    limit: Limit,
    #[serde(default)]
    offset: u32,
}

impl Endpoint for Recommendation {
    const META: Meta = Meta::new("users/recommendation").kind("read:account");
    type Caller = SignedIn;
    type Reply = Vec<UserDetailed>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<UserDetailed>, ApiError> {
        let limit = Page::default().limited(self.limit).limit;
        let ids = acquaintance::recommended(&app.pool, me.id(), app.now(), limit, self.offset).await?;
        in_detail(app, &Anyone(Some(me)), &ids).await
    }
}
