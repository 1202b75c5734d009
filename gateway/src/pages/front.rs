//! The front page: where a new server gets its first account, and later a few words about the server.

use axum::Form;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use commands::AskedBy;
use domain::user::CannotSignUp;
use maud::{Markup, html};
use serde::Deserialize;

use super::browser::Browser;
use super::layout::{NoPage, Page, problem};
use super::signin;
use crate::access::{self, CannotCreate};
use crate::api::ApiError;
use crate::api::http::discard;
use crate::app::App;

#[derive(Deserialize)]
pub struct FirstAccount {
    username: String,
    password: String,
}

pub async fn show(State(app): State<App>, browser: Browser) -> Result<Page, NoPage> {
    if is_new(&app).await? {
        return Ok(first_account("", None));
    }
    let content = html! {
        p { "This is a server for short notes. Use any app for Misskey, and enter this address there:" }
        p { code { (app.core.origin) } }
        @match browser.account() {
            Some(account) => {
                p { "In this browser you are signed in as " strong { "@" (account.username) } "." }
                div.actions { a.button href="/sign-out" { "Sign out" } }
            }
            None => div.actions { a.button.main href="/sign-in" { "Sign in" } },
        }
        (footer())
    };
    Ok(Page::new(app.config.host(), content))
}

/// Makes the first account, and signs this browser in with it.
pub async fn create(
    State(app): State<App>,
    browser: Browser,
    Form(form): Form<FirstAccount>,
) -> Result<Response, NoPage> {
    browser.check_origin()?;
    if !is_new(&app).await? {
        return Err(has_one());
    }
    let username = form.username.trim();
    let made = access::create_account(&app, AskedBy::Founder, username, &form.password).await;
    let told = match made {
        Ok(user) => {
            let account = app.core.accounts.account(user).await?;
            let account = account.ok_or_else(|| ApiError::internal("the new account isn't there"))?;
            return signin::enter(&app, &browser, &account, "/").await;
        }
        Err(CannotCreate::Failed(failed)) => return Err(failed.into()),
        // Somebody was faster.
        Err(CannotCreate::Refused(CannotSignUp::Closed)) => return Err(has_one()),
        Err(CannotCreate::Password) => "Please choose another password.",
        Err(CannotCreate::Refused(CannotSignUp::InvalidUsername)) => {
            "A user name has 1 to 20 letters, digits or underscores."
        }
        Err(CannotCreate::Refused(_)) => "This name can't be used. Please choose another.",
    };
    Ok(first_account(username, Some(told)).status(StatusCode::BAD_REQUEST).into_response())
}

fn has_one() -> NoPage {
    NoPage::Gone("This server has its first account already. Sign in instead.")
}

/// What a person finds who opens the address of the API.
pub async fn api() -> Page {
    let content = html! {
        p { "This is the API of this server. " a href="/api.json" { "Its description" } " is for programs." }
    };
    Page::new("API", content)
}

/// Where there is no page.
pub async fn nothing(request: Request) -> NoPage {
    discard(request.into_body()).await;
    NoPage::Gone("There is no page at this address.")
}

fn first_account(username: &str, told: Option<&str>) -> Page {
    let content = html! {
        p { "This server is new. Make the first account: it will be the administrator's." }
        (problem(told))
        form method="post" action="/" {
            label for="username" { "User name" }
            input #username type="text" name="username" value=(username) required autofocus
                autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="20"
                pattern="[0-9A-Za-z_]{1,20}" aria-describedby="name-hint";
            p.hint #name-hint { "1 to 20 letters, digits or underscores. It can't be changed later." }
            label for="password" { "Password" }
            input #password type="password" name="password" required autocomplete="new-password"
                maxlength="1024";
            div.actions { button.main type="submit" { "Make the account" } }
        }
    };
    Page::new("Welcome", content)
}

fn footer() -> Markup {
    html! {
        footer { p { "Runs on Kiroku " (env!("CARGO_PKG_VERSION")) ". " a href="/api.json" { "API" } } }
    }
}

/// Whether nobody has an account yet that could administer the server.
async fn is_new(app: &App) -> Result<bool, ApiError> {
    Ok(!app.commands.has_root().await.map_err(ApiError::internal)?)
}
