//! What people have reached: `i/claim-achievement`, `users/achievements`.

use domain::achievement::{NAMES, NoSuchAchievement};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::param::UserId;
use crate::api::{Anyone, ApiError, Endpoint, Meta, SignedIn};
use crate::app::App;
use crate::json::user::{Achievement, achievements};

/// Say that one has reached something.
#[derive(Deserialize, JsonSchema)]
pub struct Claim {
    #[schemars(extend("enum" = NAMES.as_slice()))]
    name: String,
}

impl Endpoint for Claim {
    const META: Meta = Meta::new("i/claim-achievement").kind("write:account").not_moved();
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let receipt = app.commands.earn(app.by(&me), me.id(), &self.name).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<NoSuchAchievement> for ApiError {
    fn from(NoSuchAchievement: NoSuchAchievement) -> Self {
        ApiError::invalid_param("#/properties/name/enum", "must be equal to one of the allowed values")
    }
}

/// What a person has reached.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfUser {
    user_id: UserId,
}

impl Endpoint for OfUser {
    const META: Meta = Meta::new("users/achievements");
    type Caller = Anyone;
    type Reply = Vec<Achievement>;

    async fn handle(self, app: &App, _: Anyone) -> Result<Vec<Achievement>, ApiError> {
        let reached = projections::achievement::of_people(&app.pool, &[self.user_id.0]).await?;
        Ok(reached.get(&self.user_id.0).map_or_else(Vec::new, |rows| achievements(rows)))
    }
}
