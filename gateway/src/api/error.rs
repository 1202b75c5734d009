//! What an endpoint says when it doesn't do what it was asked: `{error: {message, code, id, kind, info?}}`.
//! The ids are part of the API: clients look at them.

use std::convert::Infallible;
use std::error::Error as StdError;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use commands::Failed;
use domain::log::AppendError;
use serde_json::{Value, json};

use crate::ops::SealedError;
use crate::ops::passwords::PasswordError;
use crate::ops::tokens::TokenError;

/// After how many seconds to try again when the server is busy.
const BUSY_SECONDS: u64 = 2;

/// Whose fault it is; decides the status unless the error has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 400
    Client,
    /// 403
    Permission,
    /// 500
    Server,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Client => "client",
            Kind::Permission => "permission",
            Kind::Server => "server",
        }
    }

    fn status(self) -> u16 {
        match self {
            Kind::Client => 400,
            Kind::Permission => 403,
            Kind::Server => 500,
        }
    }
}

/// One error of one endpoint, as a constant. The same code has another id at each endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorDef {
    pub code: &'static str,
    pub message: &'static str,
    /// A UUID.
    pub id: &'static str,
    pub kind: Kind,
    status: Option<u16>,
}

impl ErrorDef {
    /// An error of kind `client`, answered with 400.
    pub const fn new(code: &'static str, message: &'static str, id: &'static str) -> Self {
        Self { code, message, id, kind: Kind::Client, status: None }
    }

    /// With another HTTP status.
    pub const fn status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Of kind `permission`: 403.
    pub const fn permission(self) -> Self {
        Self { kind: Kind::Permission, ..self }
    }

    /// Of kind `server`: 500.
    pub const fn server(self) -> Self {
        Self { kind: Kind::Server, ..self }
    }

    /// The HTTP status it is answered with.
    pub fn http_status(self) -> StatusCode {
        let status = self.status.unwrap_or(self.kind.status());
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

pub const INVALID_PARAM: ErrorDef =
    ErrorDef::new("INVALID_PARAM", "Invalid param.", "3d81ceae-475f-4600-b2a8-2bc116157532");
/// A value in a query string that is not of its type.
pub const INVALID_QUERY: ErrorDef =
    ErrorDef::new("INVALID_PARAM", "Invalid param.", "0b5f1631-7c1a-41a6-b399-cce335f34d85");
pub const CREDENTIAL_REQUIRED: ErrorDef =
    ErrorDef::new("CREDENTIAL_REQUIRED", "Credential required.", "1384574d-a912-4b81-8601-c7b1c4085df1")
        .status(401);
pub const AUTHENTICATION_FAILED: ErrorDef = ErrorDef::new(
    "AUTHENTICATION_FAILED",
    "Authentication failed. Please ensure your token is correct.",
    "b0a7f5f8-dc2f-4171-b91f-de88ad238e14",
)
.status(401);
/// An app asks for what only the person may do.
pub const SECURE_ONLY: ErrorDef =
    ErrorDef::new("ACCESS_DENIED", "Access denied.", "56f35758-7dd5-468b-8439-5d6fb8ec9b8e").status(403);
pub const ACCOUNT_SUSPENDED: ErrorDef = ErrorDef::new(
    "YOUR_ACCOUNT_SUSPENDED",
    "Your account has been suspended.",
    "a8c724b3-6e9c-4b46-b1a8-bc3ed6258370",
)
.permission();
pub const ACCOUNT_DELETED: ErrorDef =
    ErrorDef::new("USER_IS_DELETED", "User is deleted.", "e5b3b9f0-2b8f-4b9f-9c1f-8c5c1b2e1b1a").permission();
pub const ACCOUNT_MOVED: ErrorDef = ErrorDef::new(
    "YOUR_ACCOUNT_MOVED",
    "You have moved your account.",
    "56f20ec9-fd06-4fa5-841b-edd6d7d4fa31",
)
.permission();
pub const NOT_MODERATOR: ErrorDef = ErrorDef::new(
    "ROLE_PERMISSION_DENIED",
    "You are not assigned to a moderator role.",
    "d33d5333-db36-423d-a8f9-1a2b9549da41",
)
.permission();
pub const NOT_ADMINISTRATOR: ErrorDef = ErrorDef::new(
    "ROLE_PERMISSION_DENIED",
    "You are not assigned to an administrator role.",
    "c3d38592-54c0-429d-be96-5636b0431a61",
)
.permission();
pub const POLICY_DENIED: ErrorDef = ErrorDef::new(
    "ROLE_PERMISSION_DENIED",
    "You are not assigned to a required role.",
    "7f86f06f-7e15-4057-8561-f4b6d4ac755a",
)
.permission();
pub const PERMISSION_DENIED: ErrorDef = ErrorDef::new(
    "PERMISSION_DENIED",
    "Your app does not have the necessary permissions to use this endpoint.",
    "1370e5b7-d4eb-4566-bb1d-7748ee6a1838",
)
.permission();
pub const RATE_LIMIT_EXCEEDED: ErrorDef = ErrorDef::new(
    "RATE_LIMIT_EXCEEDED",
    "Rate limit exceeded. Please try again later.",
    "d5826d14-3982-4d2e-8011-b9e9f02499ef",
)
.status(429);
pub const UNKNOWN_ENDPOINT: ErrorDef =
    ErrorDef::new("UNKNOWN_API_ENDPOINT", "Unknown API endpoint.", "2ca3b769-540a-4f08-9dd5-b5a825b6d0f1")
        .status(404);
/// The server has too much to do; nothing was changed.
pub const OVERLOADED: ErrorDef = ErrorDef::new(
    "OVERLOADED",
    "The server is busy. Please try again.",
    "6d4f4b1a-6f0e-4f0a-9d60-2f2a3f6f8f11",
)
.server()
.status(503);
pub const INTERNAL_ERROR: ErrorDef = ErrorDef::new(
    "INTERNAL_ERROR",
    "Internal error occurred. Please contact us if the error persists.",
    "5d37dbcb-891e-41ca-a3d6-e690c97775ac",
)
.server();

/// Errors that any endpoint may give.
pub const COMMON: &[ErrorDef] = &[
    INVALID_PARAM,
    INVALID_QUERY,
    CREDENTIAL_REQUIRED,
    AUTHENTICATION_FAILED,
    SECURE_ONLY,
    ACCOUNT_SUSPENDED,
    ACCOUNT_DELETED,
    ACCOUNT_MOVED,
    NOT_MODERATOR,
    NOT_ADMINISTRATOR,
    POLICY_DENIED,
    PERMISSION_DENIED,
    RATE_LIMIT_EXCEEDED,
    OVERLOADED,
];

/// How an endpoint fails.
#[derive(Debug)]
pub enum ApiError {
    /// As the endpoint's list of errors says, perhaps with more about it.
    Refused { def: ErrorDef, info: Option<Value>, retry_after: Option<u64> },
    /// Something broke. The cause is logged once, where the answer is made, and never sent.
    Internal(Box<dyn StdError + Send + Sync>),
}

impl ApiError {
    /// A failure whose cause the caller must not see.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        ApiError::Internal(cause.into())
    }

    /// INVALID_PARAM for a rule that the schema of the parameters doesn't say, such as
    /// `("#/allOf/0/anyOf/0/required", "must have required property 'userId'")`.
    pub fn invalid_param(param: impl Into<String>, reason: impl Into<String>) -> Self {
        let (param, reason) = (param.into(), reason.into());
        ApiError::from(INVALID_PARAM).info(json!({ "param": param, "reason": reason }))
    }

    /// As the reference tells what its inner rules refuse: with the error once more as its cause.
    pub fn from_within(def: ErrorDef) -> Self {
        let info = json!({ "message": def.message, "code": "Error", "id": def.id });
        ApiError::from(def).info(info)
    }

    /// With something more about the error.
    pub fn info(self, more: Value) -> Self {
        match self {
            ApiError::Refused { def, retry_after, .. } => {
                ApiError::Refused { def, info: Some(more), retry_after }
            }
            internal => internal,
        }
    }

    /// With the number of seconds after which to try again.
    pub fn retry_after(self, seconds: u64) -> Self {
        match self {
            ApiError::Refused { def, info, .. } => {
                ApiError::Refused { def, info, retry_after: Some(seconds) }
            }
            internal => internal,
        }
    }

    /// What the caller is told.
    pub fn def(&self) -> ErrorDef {
        match self {
            ApiError::Refused { def, .. } => *def,
            ApiError::Internal(_) => INTERNAL_ERROR,
        }
    }

    /// The body of the answer.
    pub fn to_json(&self) -> Value {
        let def = self.def();
        let mut error = json!({
            "message": def.message,
            "code": def.code,
            "id": def.id,
            "kind": def.kind.name(),
        });
        if let (ApiError::Refused { info: Some(info), .. }, Value::Object(fields)) = (self, &mut error) {
            fields.insert("info".to_owned(), info.clone());
        }
        json!({ "error": error })
    }

    /// Headers that tell a client what to do about it.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let ApiError::Refused { retry_after: Some(seconds), .. } = self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
        }
        if let Some(challenge) = challenge(self.def()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        headers
    }
}

impl From<ErrorDef> for ApiError {
    fn from(def: ErrorDef) -> Self {
        ApiError::Refused { def, info: None, retry_after: None }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(cause: sqlx::Error) -> Self {
        ApiError::internal(cause)
    }
}

impl From<TokenError> for ApiError {
    fn from(cause: TokenError) -> Self {
        ApiError::internal(cause)
    }
}

impl From<PasswordError> for ApiError {
    fn from(cause: PasswordError) -> Self {
        match cause {
            PasswordError::Busy => ApiError::from(OVERLOADED).retry_after(BUSY_SECONDS),
            PasswordError::Length => {
                ApiError::invalid_param("#/properties/password/maxLength", PasswordError::Length.to_string())
            }
            cause => ApiError::internal(cause),
        }
    }
}

/// A command that didn't happen: its refusal as the endpoint tells it, or a log that couldn't take it.
impl<R: Into<ApiError>> From<Failed<R>> for ApiError {
    fn from(failed: Failed<R>) -> Self {
        match failed {
            Failed::Refused(refusal) => refusal.into(),
            Failed::Contended | Failed::Append(AppendError::Overloaded) => OVERLOADED.into(),
            Failed::Append(AppendError::Erased { .. }) => AUTHENTICATION_FAILED.into(),
            Failed::Append(cause) => ApiError::internal(cause),
            Failed::Log(cause) => ApiError::internal(cause),
        }
    }
}

impl<R: std::error::Error + Into<ApiError>> From<SealedError<R>> for ApiError {
    fn from(error: SealedError<R>) -> Self {
        match error {
            SealedError::Refused(refusal) => refusal.into(),
            SealedError::Storage(cause) => cause.into(),
            SealedError::Keys(cause) => ApiError::internal(cause),
            SealedError::Json(cause) => ApiError::internal(cause),
        }
    }
}

impl From<Infallible> for ApiError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn challenge(def: ErrorDef) -> Option<HeaderValue> {
    let error = if def == CREDENTIAL_REQUIRED {
        return Some(HeaderValue::from_static("Bearer realm=\"Misskey\""));
    } else if def == AUTHENTICATION_FAILED {
        "invalid_token"
    } else if def == RATE_LIMIT_EXCEEDED {
        return None;
    } else if def == PERMISSION_DENIED {
        "insufficient_scope"
    } else if def.kind == Kind::Client {
        "invalid_request"
    } else {
        return None;
    };
    let told = def.message.replace('"', "'");
    let value = format!("Bearer realm=\"Misskey\", error=\"{error}\", error_description=\"{told}\"");
    HeaderValue::from_str(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_param_says_which_and_why() {
        let error = ApiError::invalid_param("#/required", "must have required property 'noteId'");
        assert_eq!(
            error.to_json(),
            json!({ "error": {
                "message": "Invalid param.", "code": "INVALID_PARAM", "kind": "client",
                "id": "3d81ceae-475f-4600-b2a8-2bc116157532",
                "info": { "param": "#/required", "reason": "must have required property 'noteId'" },
            }})
        );
        assert_eq!(
            error.headers()[header::WWW_AUTHENTICATE],
            "Bearer realm=\"Misskey\", error=\"invalid_request\", error_description=\"Invalid param.\""
        );
    }

    #[test]
    fn an_internal_failure_shows_no_cause() {
        let error = ApiError::internal("password of the database is x");
        assert_eq!(error.def().http_status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!error.to_json().to_string().contains("password"));
    }

    #[test]
    fn status_and_challenge_by_kind() {
        let known = [
            (CREDENTIAL_REQUIRED, 401, Some("Bearer realm=\"Misskey\"")),
            (SECURE_ONLY, 403, Some("invalid_request")),
            (NOT_MODERATOR, 403, None),
            (PERMISSION_DENIED, 403, Some("insufficient_scope")),
            (AUTHENTICATION_FAILED, 401, Some("invalid_token")),
            (RATE_LIMIT_EXCEEDED, 429, None),
            (INTERNAL_ERROR, 500, None),
        ];
        for (def, status, said) in known {
            assert_eq!(def.http_status().as_u16(), status, "{}", def.code);
            let headers = ApiError::from(def).headers();
            let sent = headers.get(header::WWW_AUTHENTICATE).map(|v| v.to_str().unwrap());
            match said {
                Some(part) => assert!(sent.unwrap().contains(part), "{}", def.code),
                None => assert_eq!(sent, None, "{}", def.code),
            }
        }
    }
}
