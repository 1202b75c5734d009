//! `users/update-memo`.

use domain::memo::CannotNote;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::param::{Nullable, Text, UserId};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn};
use crate::app::App;

/// The longest memo, in characters.
const MAX_MEMO_CHARS: usize = 2_048;

/// Note something down about somebody.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    user_id: UserId,
    /// Nothing, or an empty one, throws away what there is.
    memo: Nullable<Text<0, MAX_MEMO_CHARS>>,
}

const NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "6fef56f3-e765-4957-88e5-c6f65329b8a5");

impl Endpoint for Update {
    const META: Meta = Meta::new("users/update-memo").kind("write:account").errors(&[NO_SUCH_USER]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let memo = self.memo.0.map(|memo| memo.0);
        let noted = app.commands.note_down(app.by(&me), me.id(), self.user_id.0, memo).await;
        let receipt = noted.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotNote::NoSuchUser => NO_SUCH_USER,
            })
        })?;
        app.shown(receipt).await;
        Ok(())
    }
}
