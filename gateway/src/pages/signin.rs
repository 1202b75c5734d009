//! Signing a browser in and out.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::Duration;
use maud::html;
use serde::Deserialize;

use super::browser::{Browser, clear_cookie, set_cookie};
use super::layout::{NoPage, Page, problem, see_other};
use crate::access::{self, CannotSignIn, Shown, Step};
use crate::api::{Account, ApiError};
use crate::app::App;
use crate::ops::secret;

/// The longest place to go on to, in bytes.
const MAX_PLACE_BYTES: usize = 8 * 1024;
/// How long the second page may take.
const SECOND_PAGE_WITHIN: Duration = Duration::minutes(5);

#[derive(Deserialize)]
pub struct Next {
    next: Option<String>,
}

#[derive(Deserialize)]
pub struct SignIn {
    username: String,
    password: String,
    next: Option<String>,
}

#[derive(Deserialize)]
pub struct SecondFactor {
    ticket: String,
    code: String,
    next: Option<String>,
}

#[derive(Deserialize)]
pub struct SignOut {
    form_token: String,
    next: Option<String>,
}

pub async fn show(Query(Next { next }): Query<Next>) -> Page {
    form("Sign in", "", &local(next), None)
}

pub async fn sign_in(
    State(app): State<App>,
    browser: Browser,
    Form(form): Form<SignIn>,
) -> Result<Response, NoPage> {
    browser.check_origin()?;
    let next = local(form.next);
    let username = form.username.trim().trim_start_matches('@');
    let outcome = check(&app, &browser, username, &form.password).await;
    let (status, told) = match outcome {
        Ok((account, Step::In)) => return enter(&app, &browser, &account, &next).await,
        // Whoever has a passkey has codes, too.
        Ok((account, Step::Code | Step::Passkey(_))) => {
            let ticket = secret::random_uuid().map_err(ApiError::internal)?;
            let name = ticket_name(&ticket);
            app.core.challenges.ask(&name, Some(account.id), &[], SECOND_PAGE_WITHIN, app.now()).await?;
            return Ok(second_form(&ticket, &next, None).into_response());
        }
        Err(cannot) => refused(&app, cannot, "There is no such account, or the password is wrong.")?,
    };
    Ok(self::form("Sign in", username, &next, Some(&told)).status(status).into_response())
}

/// The second page: a code.
pub async fn sign_in_by_code(
    State(app): State<App>,
    browser: Browser,
    Form(form): Form<SecondFactor>,
) -> Result<Response, NoPage> {
    browser.check_origin()?;
    let next = local(form.next);
    let user = app.core.challenges.of(&ticket_name(&form.ticket), app.now()).await?;
    let account = match user {
        Some(user) => app.core.accounts.account(user).await?,
        None => None,
    };
    let account = account.filter(|account| !account.is_deleted && !account.is_suspended);
    let account = account.ok_or(NoPage::Gone("This took too long. Please sign in again."))?;
    let code = form.code.split_whitespace().collect::<String>();
    match access::sign_in_by_code(&app, &account, &code, &browser.visit).await {
        Ok(()) => {
            app.core.challenges.take(&ticket_name(&form.ticket), app.now()).await?;
            enter(&app, &browser, &account, &next).await
        }
        Err(cannot) => {
            let (status, told) = refused(&app, cannot, "This code is wrong, or was used before.")?;
            Ok(second_form(&form.ticket, &next, Some(&told)).status(status).into_response())
        }
    }
}

/// What is told to somebody who is not let in.
fn refused(app: &App, cannot: CannotSignIn, wrong: &str) -> Result<(StatusCode, String), NoPage> {
    Ok(match cannot {
        CannotSignIn::Failed(failed) => return Err(failed.into()),
        CannotSignIn::TooOften(early) => {
            let wait = early.retry_after(app.now());
            (StatusCode::TOO_MANY_REQUESTS, format!("Too many attempts. Please wait {wait} s and try again."))
        }
        CannotSignIn::Suspended => (StatusCode::FORBIDDEN, "This account has been suspended.".to_owned()),
        CannotSignIn::NoSuchUser
        | CannotSignIn::WrongPassword
        | CannotSignIn::WrongPasskey
        | CannotSignIn::NotAlone => (StatusCode::FORBIDDEN, wrong.to_owned()),
    })
}

fn ticket_name(ticket: &str) -> String {
    format!("second page {ticket}")
}

async fn check(
    app: &App,
    browser: &Browser,
    username: &str,
    password: &str,
) -> Result<(Arc<Account>, Step), CannotSignIn> {
    match access::who(app, browser.visit.ip, username).await {
        Ok(account) => {
            let shown = Shown { password, ..Shown::default() };
            let step = access::sign_in(app, &account, shown, &browser.visit).await?;
            Ok((account, step))
        }
        Err(CannotSignIn::NoSuchUser) => {
            access::pretend(app, password).await?;
            Err(CannotSignIn::NoSuchUser)
        }
        Err(other) => Err(other),
    }
}

/// Signs this browser in and sends it on. A session it had before ends.
pub async fn enter(app: &App, browser: &Browser, account: &Account, next: &str) -> Result<Response, NoPage> {
    if let Some(before) = browser.cookie() {
        app.core.browsers.close(before).await?;
    }
    let cookie = app.core.browsers.open(account.id, app.now()).await?;
    let mut response = see_other(next);
    response.headers_mut().extend(set_cookie(&app.core, &cookie));
    Ok(response)
}

pub async fn show_sign_out(
    State(app): State<App>,
    browser: Browser,
    Query(Next { next }): Query<Next>,
) -> Response {
    let next = local(next);
    let Some(account) = browser.account() else { return see_other(&next) };
    let content = html! {
        p { "You are signed in as " strong { "@" (account.username) } "." }
        form method="post" action="/sign-out" {
            input type="hidden" name="form_token" value=(browser.form_token(&app.core));
            input type="hidden" name="next" value=(next);
            div.actions { button.main type="submit" { "Sign out" } a.button href=(next) { "Stay" } }
        }
    };
    Page::new("Sign out", content).into_response()
}

pub async fn sign_out(
    State(app): State<App>,
    browser: Browser,
    Form(form): Form<SignOut>,
) -> Result<Response, NoPage> {
    browser.check_form(&app.core, &form.form_token)?;
    if let Some(cookie) = browser.cookie() {
        app.core.browsers.close(cookie).await?;
    }
    let mut response = see_other(&local(form.next));
    response.headers_mut().extend(clear_cookie(&app.core));
    Ok(response)
}

/// The form, also shown where something needs somebody signed in.
pub fn form(title: &str, username: &str, next: &str, told: Option<&str>) -> Page {
    let content = html! {
        (problem(told))
        form method="post" action="/sign-in" {
            input type="hidden" name="next" value=(next);
            label for="username" { "User name" }
            input #username type="text" name="username" value=(username) required autofocus
                autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="64";
            label for="password" { "Password" }
            input #password type="password" name="password" required autocomplete="current-password"
                maxlength="1024";
            div.actions { button.main type="submit" { "Sign in" } }
        }
        p.hint { a href="/reset-password" { "Forgotten your password?" } }
    };
    Page::new(title, content)
}

/// The form for the second factor.
fn second_form(ticket: &str, next: &str, told: Option<&str>) -> Page {
    let content = html! {
        p { "Your password is right. Now the code that your app shows, or one of your backup codes." }
        (problem(told))
        form method="post" action="/sign-in/code" {
            input type="hidden" name="ticket" value=(ticket);
            input type="hidden" name="next" value=(next);
            label for="code" { "Code" }
            input #code type="text" name="code" required autofocus autocomplete="one-time-code"
                autocapitalize="none" spellcheck="false" maxlength="64";
            div.actions { button.main type="submit" { "Sign in" } }
        }
    };
    Page::new("Sign in", content)
}

/// A place on this server; anything else is the front page.
fn local(next: Option<String>) -> String {
    let is_path = |place: &String| {
        let second = place.as_bytes().get(1);
        place.starts_with('/')
            && !matches!(second, Some(b'/' | b'\\'))
            && place.len() <= MAX_PLACE_BYTES
            && place.bytes().all(|b| b.is_ascii_graphic())
    };
    next.filter(is_path).unwrap_or_else(|| "/".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_only_sent_on_to_this_server() {
        let to = |next: &str| local(Some(next.to_owned()));
        assert_eq!(to("/miauth/x?name=a%20b"), "/miauth/x?name=a%20b");
        for bad in
            ["//evil.example", "/\\evil.example", "https://evil.example", "", "/a b", "/a\r\nset-cookie: x"]
        {
            assert_eq!(to(bad), "/", "{bad}");
        }
        assert_eq!(local(None), "/");
    }
}
