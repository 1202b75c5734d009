//! Calls with a file: a form of several parts (`multipart/form-data`), whose other parts are the parameters.
//! The file goes to disk while it comes.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use multer::{Constraints, Field, Multipart, SizeLimit};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::error::{ApiError, ErrorDef};
use super::http::{Call, client_of, discard, perform, refusal, reply, token};
use super::registry::Entry;
use crate::app::App;
use crate::drive::incoming::{MAX_FILE_BYTES, NotReceived, OneByOne, Received, WHOLE_WITHIN};
use crate::drive::keep::allowed;
use crate::platform::http::OwnTime;

/// The largest part that is no file, in bytes.
const MAX_FIELD_BYTES: u64 = 64 * 1024;
/// The most parts of a form.
const MAX_FIELDS: usize = 64;
/// What may be around a file in a form, in bytes.
const MAX_AROUND_BYTES: u64 = 4 * 1024 * 1024;
/// The part that is the file.
const FILE: &str = "file";

const NOT_A_FORM: ErrorDef = ErrorDef::new(
    "INVALID_PARAM",
    "Current request is not a multipart request",
    "217bc614-dd72-42dc-806e-22ac93f8266e",
);
const NO_FILE: ErrorDef = ErrorDef::new(
    "INVALID_PARAM",
    "No files found in multipart request",
    "2e973d41-8e9c-48b8-a68f-16f712a4bc89",
)
.status(422);
/// The file is larger than any that the sender may keep.
pub const MAX_FILE_SIZE_EXCEEDED: ErrorDef = ErrorDef::new(
    "MAX_FILE_SIZE_EXCEEDED",
    "Cannot upload the file because it exceeds the maximum file size.",
    "b9d8c348-33f0-4673-b9a9-5d4da058977a",
)
.status(413);

/// Why a form is not read to its end.
enum Broken {
    /// To be told as an endpoint tells it.
    Refused(ApiError),
    /// It is no form, or its sender went away.
    Bad(StatusCode),
}

impl<E: Into<ApiError>> From<E> for Broken {
    fn from(error: E) -> Self {
        Broken::Refused(error.into())
    }
}

/// The answer to a call with a file, and the code of its error.
pub async fn answer(app: &App, entry: &Entry, request: Request) -> (Response, Option<&'static str>) {
    match run(app, entry, request).await {
        Ok(json) => (reply(json), None),
        Err(Broken::Refused(error)) => (refusal(&error), Some(error.def().code)),
        Err(Broken::Bad(status)) => (status.into_response(), Some("BAD_REQUEST")),
    }
}

async fn run(app: &App, entry: &Entry, request: Request) -> Result<Vec<u8>, Broken> {
    let (parts, body) = request.into_parts();
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = content_type.and_then(|text| multer::parse_boundary(text).ok());
    let Some(boundary) = boundary.filter(|_| parts.method == Method::POST) else {
        discard(body).await;
        return Err(NOT_A_FORM.into());
    };
    if let Some(own_time) = parts.extensions.get::<OwnTime>() {
        own_time.take();
    }
    let client = client_of(&app.core, &parts);
    let _slot = app.drive.slot().await;
    let limits = SizeLimit::new()
        .whole_stream(MAX_FILE_BYTES + MAX_AROUND_BYTES)
        .per_field(MAX_FIELD_BYTES)
        .for_field(FILE, u64::MAX);
    let pieces = OneByOne::new(body.into_data_stream());
    let form = Multipart::with_constraints(pieces, boundary, Constraints::new().size_limit(limits));
    let (mut params, received) = in_time(WHOLE_WITHIN, read(app, &parts.headers, form)).await?;
    let Some(received) = received else { return Err(NO_FILE.into()) };
    let ticket = app.drive.offer(received);
    params[FILE] = Value::String(ticket.id.to_string());
    let call = Call { method: parts.method, headers: parts.headers, client, params };
    Ok(perform(app, entry, call).await?.0)
}

/// Nobody holds a place among the uploads for ever, however steadily they send.
async fn in_time<T>(limit: Duration, reading: impl Future<Output = Result<T, Broken>>) -> Result<T, Broken> {
    timeout(limit, reading).await.unwrap_or(Err(Broken::Bad(StatusCode::REQUEST_TIMEOUT)))
}

async fn read(
    app: &App,
    headers: &HeaderMap,
    mut form: Multipart<'_>,
) -> Result<(Value, Option<Received>), Broken> {
    let (mut params, mut received) = (json!({}), None);
    for _ in 0..MAX_FIELDS {
        let Some(field) = form.next_field().await.map_err(broken)? else { return Ok((params, received)) };
        let name = field.name().unwrap_or_default().to_owned();
        if name == FILE {
            let most = most(app, headers, &params).await?;
            if received.is_some() {
                return Err(Broken::Bad(StatusCode::BAD_REQUEST));
            }
            received = Some(receive(app, field, most).await?);
        } else {
            let text = field.text().await.map_err(broken)?;
            if name.contains('\0') || text.contains('\0') {
                return Err(Broken::Bad(StatusCode::BAD_REQUEST));
            }
            params[name] = Value::String(text);
        }
    }
    Err(Broken::Bad(StatusCode::BAD_REQUEST))
}

/// How large a file of the sender may be, as far as is known who that is when it comes.
async fn most(app: &App, headers: &HeaderMap, params: &Value) -> Result<u64, ApiError> {
    let caller = app.core.authenticate(token(headers, params)?.as_deref()).await?;
    Ok(caller.map_or(MAX_FILE_BYTES, |caller| allowed(&caller.account).file_size))
}

async fn receive(app: &App, field: Field<'_>, most: u64) -> Result<Received, Broken> {
    let name = field.file_name().map(|name| name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned());
    let pieces = futures_util::stream::try_unfold(field, async |mut field| {
        let piece = field.chunk().await?;
        Ok::<_, multer::Error>(piece.map(|piece| (piece, field)))
    });
    match app.drive.receive(name, most, pieces.boxed()).await {
        Ok(received) => Ok(received),
        Err(NotReceived::TooLarge) => Err(MAX_FILE_SIZE_EXCEEDED.into()),
        Err(NotReceived::Stalled) => Err(Broken::Bad(StatusCode::REQUEST_TIMEOUT)),
        Err(NotReceived::BrokenOff(cause)) => {
            tracing::debug!(cause, "an upload was broken off");
            Err(Broken::Bad(StatusCode::BAD_REQUEST))
        }
        Err(NotReceived::Disk(error)) => Err(ApiError::internal(error).into()),
    }
}

fn broken(error: multer::Error) -> Broken {
    match error {
        multer::Error::StreamSizeExceeded { .. } => MAX_FILE_SIZE_EXCEEDED.into(),
        multer::Error::FieldSizeExceeded { .. } => Broken::Bad(StatusCode::PAYLOAD_TOO_LARGE),
        other => {
            tracing::debug!(error = %other, "a form can't be read");
            Broken::Bad(StatusCode::BAD_REQUEST)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upload_that_goes_on_for_ever_is_ended() {
        let for_ever = in_time::<()>(Duration::from_millis(1), std::future::pending());
        assert!(matches!(for_ever.await, Err(Broken::Bad(StatusCode::REQUEST_TIMEOUT))));
        assert!(in_time(WHOLE_WITHIN, async { Ok(()) }).await.is_ok());
    }
}
