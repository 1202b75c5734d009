//! What an endpoint is: its parameters (the type itself), its caller, its reply, and [`Meta`].

use std::future::Future;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::caller::Caller;
use super::error::{ApiError, ErrorDef};
use super::rate::Limit;
use crate::app::App;

/// One endpoint. The implementing type is its parameters, so they are parsed before anything runs.
pub trait Endpoint: DeserializeOwned + JsonSchema + Send + 'static {
    const META: Meta;
    /// Who may call: `Anyone`, `SignedIn`, `Moderator` or `Administrator`.
    type Caller: Caller;
    /// What is answered: 200 with its JSON, or 204 when that is `null` (as for `()` and `None`).
    type Reply: Serialize + JsonSchema;

    fn handle(
        self,
        app: &App,
        me: Self::Caller,
    ) -> impl Future<Output = Result<Self::Reply, ApiError>> + Send;
}

/// What is said about an endpoint besides its types; the defaults are the usual case.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    /// Below `/api/`.
    pub path: &'static str,
    /// The permission an app needs. Without one, an endpoint that needs a credential is closed to apps.
    pub kind: Option<&'static str>,
    pub limit: Option<Limit>,
    /// Every error that the endpoint gives besides [`super::error::COMMON`].
    pub errors: &'static [ErrorDef],
    pub get: bool,
    /// How long an anonymous answer to GET may be kept by others, in seconds.
    pub cache_seconds: u32,
    pub secure: bool,
    pub not_moved: bool,
    pub policy: Option<&'static str>,
    /// Takes a form with a file, and nothing else.
    pub multipart: bool,
}

impl Meta {
    pub const fn new(path: &'static str) -> Self {
        Self {
            path,
            kind: None,
            limit: None,
            errors: &[],
            get: false,
            cache_seconds: 0,
            secure: false,
            not_moved: false,
            policy: None,
            multipart: false,
        }
    }

    /// The permission that an app needs, one of [`super::permission::KINDS`].
    pub const fn kind(self, kind: &'static str) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// At most `calls` in any stretch of `duration_ms` (see [`super::rate::per`]).
    pub const fn limit(self, calls: u32, duration_ms: u64) -> Self {
        let before = self.limit_or_none();
        Self { limit: Some(Limit { window: Some((calls, duration_ms)), ..before }), ..self }
    }

    /// At least `duration_ms` between two calls.
    pub const fn interval(self, duration_ms: u64) -> Self {
        let before = self.limit_or_none();
        Self { limit: Some(Limit { interval: Some(duration_ms), ..before }), ..self }
    }

    /// The errors it gives.
    pub const fn errors(self, errors: &'static [ErrorDef]) -> Self {
        Self { errors, ..self }
    }

    /// Answers GET as well, with its parameters in the query string.
    pub const fn get(self) -> Self {
        Self { get: true, ..self }
    }

    /// An anonymous answer to GET may be kept by others for so long.
    pub const fn cache(self, seconds: u32) -> Self {
        Self { cache_seconds: seconds, ..self }
    }

    /// Only with the person's own token, never with an app's.
    pub const fn secure(self) -> Self {
        Self { secure: true, ..self }
    }

    /// Not for accounts that have moved away.
    pub const fn not_moved(self) -> Self {
        Self { not_moved: true, ..self }
    }

    /// Only for those to whom this policy, such as `canSearchNotes`, gives it.
    pub const fn role(self, policy: &'static str) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// Takes a form with a file (`file`, of type [`super::param::Upload`]), and nothing else.
    pub const fn multipart(self) -> Self {
        Self { multipart: true, ..self }
    }

    const fn limit_or_none(&self) -> Limit {
        match self.limit {
            Some(limit) => limit,
            None => Limit { key: None, window: None, interval: None },
        }
    }
}
