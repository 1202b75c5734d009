//! Where the letters of this server lead: proving an address, a new password, finishing an account. Opening one
//! does nothing yet, as programs open what is in letters too.

use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;
use serde::Deserialize;

use super::browser::Browser;
use super::layout::{NoPage, Page, problem};
use super::signin;
use crate::access::CannotCreate;
use crate::api::rate::Limit;
use crate::api::{ApiError, per};
use crate::app::App;
use crate::letters;
use crate::ops::passwords::MAX_PASSWORD_BYTES;

const TOO_OLD: &str = "This address was opened before, or is too old.";
/// Letters that one address asks for, and codes that it tries.
const LIMIT: Limit = Limit { key: Some("letters"), window: Some((30, per::HOUR)), interval: None };
const REQUEST_LIMIT: Limit =
    Limit { key: Some("request-reset-password"), window: Some((3, per::HOUR)), interval: None };

#[derive(Deserialize)]
pub struct Nothing {}

#[derive(Deserialize)]
pub struct NewPassword {
    password: String,
}

#[derive(Deserialize)]
pub struct Forgotten {
    username: String,
    email: String,
}

pub async fn show_verify(browser: Browser) -> Page {
    button(
        "Confirm your address",
        "This confirms that letters to this address reach you.",
        "Confirm",
        &browser,
    )
}

pub async fn verify(
    State(app): State<App>,
    browser: Browser,
    Path(code): Path<String>,
    Form(_): Form<Nothing>,
) -> Result<Page, NoPage> {
    count(&app, &browser, &LIMIT).await?;
    letters::verify(&app, &code).await?.ok_or(NoPage::Gone(TOO_OLD))?;
    Ok(Page::new("Confirmed", html! { p { "Your address is confirmed. You can close this page." } }))
}

pub async fn show_sign_up(browser: Browser) -> Page {
    button("Finish making your account", "One more step.", "Make the account", &browser)
}

pub async fn sign_up(
    State(app): State<App>,
    browser: Browser,
    Path(code): Path<String>,
    Form(_): Form<Nothing>,
) -> Result<Response, NoPage> {
    count(&app, &browser, &LIMIT).await?;
    let user = match letters::end_sign_up(&app, &code).await {
        Ok(user) => user.ok_or(NoPage::Gone(TOO_OLD))?,
        Err(CannotCreate::Failed(failed)) => return Err(failed.into()),
        Err(_) => return Err(NoPage::Gone("This account can't be made any more. Please begin again.")),
    };
    let account = app.core.accounts.account(user).await?;
    let account = account.ok_or_else(|| ApiError::internal("the new account isn't there"))?;
    signin::enter(&app, &browser, &account, "/").await
}

pub async fn show_forgotten() -> Page {
    forgotten_form(None)
}

pub async fn forgotten(
    State(app): State<App>,
    browser: Browser,
    Form(form): Form<Forgotten>,
) -> Result<Page, NoPage> {
    count(&app, &browser, &REQUEST_LIMIT).await?;
    let username = form.username.trim().trim_start_matches('@');
    letters::request_reset(&app, username, form.email.trim()).await?;
    let content = html! {
        p { "If this is the confirmed address of that account, a letter is on its way. Open what is in it." }
    };
    Ok(Page::new("A letter is on its way", content))
}

pub async fn show_reset(browser: Browser) -> Page {
    password_form(&browser, None)
}

pub async fn reset(
    State(app): State<App>,
    browser: Browser,
    Path(code): Path<String>,
    Form(form): Form<NewPassword>,
) -> Result<Response, NoPage> {
    count(&app, &browser, &LIMIT).await?;
    if form.password.is_empty() || form.password.len() > MAX_PASSWORD_BYTES {
        let page = password_form(&browser, Some("Please choose another password."));
        return Ok(page.status(StatusCode::BAD_REQUEST).into_response());
    }
    if !letters::reset(&app, &code, &form.password).await? {
        return Err(NoPage::Gone(TOO_OLD));
    }
    let content = html! { p { "Your new password is set. " a href="/sign-in" { "Sign in" } "." } };
    Ok(Page::new("A new password", content).into_response())
}

/// Refuses forms of other sites, and too many.
async fn count(app: &App, browser: &Browser, limit: &Limit) -> Result<(), NoPage> {
    browser.check_origin()?;
    let counted = app.core.count_address(limit, "letters", browser.visit.ip).await?;
    counted.map_err(|early| app.core.too_often(early))?;
    Ok(())
}

fn button(title: &str, about: &str, label: &str, browser: &Browser) -> Page {
    let content = html! {
        p { (about) }
        form method="post" action=(browser.place) {
            div.actions { button.main type="submit" { (label) } }
        }
    };
    Page::new(title, content)
}

fn forgotten_form(told: Option<&str>) -> Page {
    let content = html! {
        p { "A letter with which you can set a new password is sent to the confirmed address of your account." }
        (problem(told))
        form method="post" action="/reset-password" {
            label for="username" { "User name" }
            input #username type="text" name="username" required autofocus autocomplete="username"
                autocapitalize="none" spellcheck="false" maxlength="64";
            label for="email" { "Address" }
            input #email type="email" name="email" required autocomplete="email" maxlength="254";
            div.actions { button.main type="submit" { "Send the letter" } }
        }
    };
    Page::new("Forgotten your password?", content)
}

fn password_form(browser: &Browser, told: Option<&str>) -> Page {
    let content = html! {
        (problem(told))
        form method="post" action=(browser.place) {
            label for="password" { "New password" }
            input #password type="password" name="password" required autofocus autocomplete="new-password"
                maxlength="1024";
            div.actions { button.main type="submit" { "Set the password" } }
        }
    };
    Page::new("A new password", content)
}
