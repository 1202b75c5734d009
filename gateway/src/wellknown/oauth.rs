//! How apps are let in by OAuth (RFC 8414).

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::api::permission;
use crate::app::App;

pub async fn describe(State(app): State<App>) -> Json<Value> {
    let origin = &app.core.origin;
    Json(json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/oauth/authorize"),
        "token_endpoint": format!("{origin}/oauth/token"),
        "scopes_supported": permission::KINDS,
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code"],
        "token_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    }))
}
