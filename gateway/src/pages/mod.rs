//! The server's own pages: the first account, signing in, and what an app is allowed. HTML without a
//! script, usable with a keyboard and on a phone; forms that other sites can't send.

mod browser;
mod callback;
mod consent;
mod front;
mod layout;
mod mail;
mod oauth;
mod signin;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, post};

use crate::app::App;

/// The largest form, in bytes.
const MAX_FORM_BYTES: usize = 16 * 1024;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/", get(front::show).post(front::create))
        .route("/api", get(front::api))
        .route("/sign-in", get(signin::show).post(signin::sign_in))
        .route("/sign-in/code", get(signin::show).post(signin::sign_in_by_code))
        .route("/verify-email/{code}", get(mail::show_verify).post(mail::verify))
        .route("/signup-complete/{code}", get(mail::show_sign_up).post(mail::sign_up))
        .route("/reset-password", get(mail::show_forgotten).post(mail::forgotten))
        .route("/reset-password/{code}", get(mail::show_reset).post(mail::reset))
        .route("/oauth/authorize", get(oauth::authorize))
        .route("/oauth/decision", post(oauth::decide))
        .route("/oauth/token", post(oauth::token).options(oauth::preflight))
        .route("/oauth/{*rest}", any(oauth::unknown))
        .route("/sign-out", get(signin::show_sign_out).post(signin::sign_out))
        .route("/miauth/{session}", get(consent::show_miauth).post(consent::answer_miauth))
        .route("/auth/{token}", get(consent::show_auth).post(consent::answer_auth))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .fallback(front::nothing)
}
