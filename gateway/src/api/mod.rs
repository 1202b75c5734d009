//! The Misskey API, apart from what its endpoints do: how a request becomes a call, who is let in and how
//! often, how errors are told, and the document of it all.
//!
//! To add an endpoint: a struct of its parameters, [`Endpoint`] for it, and its name in the list of
//! [`crate::misskey::registry`].
//!
//! ```ignore
//! /// React to a note.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(rename_all = "camelCase")]
//! pub struct Create { note_id: NoteId, reaction: String }
//!
//! impl Endpoint for Create {
//!     const META: Meta = Meta::new("notes/reactions/create")
//!         .kind("write:reactions")
//!         .limit(60, per::MINUTE)
//!         .errors(&[NO_SUCH_NOTE]);
//!     type Caller = SignedIn;
//!     type Reply = ();
//!
//!     async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> { … }
//! }
//! ```

pub mod admit;
pub mod caller;
pub mod client;
pub mod endpoint;
pub mod error;
pub mod form;
pub mod http;
pub mod limiter;
pub mod openapi;
pub mod param;
pub mod permission;
pub mod rate;
pub mod registry;
pub mod shape;

pub use admit::Core;
pub use caller::{Account, Accounts, Administrator, Anyone, Moderator, SignedIn};
pub use endpoint::{Endpoint, Meta};
pub use error::{ApiError, ErrorDef};
pub use rate::per;
