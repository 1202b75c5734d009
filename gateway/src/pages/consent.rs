//! What an app is allowed: the question and the answer, for MiAuth (`/miauth/{session}`) and for
//! registered apps (`/auth/{token}`).

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::browser::Browser;
use super::callback::Callback;
use super::layout::{NoPage, Page, see_other};
use super::signin;
use crate::access;
use crate::api::{Account, Core, permission};
use crate::app::App;
use crate::ops::apps::AuthSession;
use crate::ops::tokens::{MAX_SESSION_BYTES, NewGrant};

/// The longest name of an app that is shown and kept, in characters.
const MAX_NAME_CHARS: usize = 100;
/// The longest address of an app's icon that is kept, in characters.
const MAX_ICON_CHARS: usize = 512;
const BAD_CALLBACK: &str = "The app wants you to be sent to an address that is not allowed.";
const NO_SESSION: &str = "This question of an app has been answered, or is too old. Start again in the app.";

/// What an app asks through MiAuth.
#[derive(Deserialize)]
pub struct Asked {
    name: Option<String>,
    icon: Option<String>,
    callback: Option<String>,
    permission: Option<String>,
}

#[derive(Deserialize)]
pub struct Answer {
    form_token: String,
    decision: String,
}

pub async fn show_miauth(
    State(app): State<App>,
    browser: Browser,
    Path(session): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Page, NoPage> {
    let callback = miauth_callback(&session, &asked)?;
    let grant = miauth_grant(session, asked);
    let question = Question { name: grant.name.as_deref(), about: None, permission: &grant.permission };
    Ok(ask(&app.core, &browser, &question, callback.as_ref()))
}

pub async fn answer_miauth(
    State(app): State<App>,
    browser: Browser,
    Path(session): Path<String>,
    Query(asked): Query<Asked>,
    Form(answer): Form<Answer>,
) -> Result<Response, NoPage> {
    let account = browser.check_form(&app.core, &answer.form_token)?;
    let callback = miauth_callback(&session, &asked)?;
    if !answer.is_yes() {
        return Ok(declined().into_response());
    }
    access::grant(&app, account.id, &miauth_grant(session.clone(), asked)).await?;
    Ok(go_back(callback.map(|callback| callback.with([("session", session.as_str())]))))
}

pub async fn show_auth(
    State(app): State<App>,
    browser: Browser,
    Path(token): Path<String>,
) -> Result<Page, NoPage> {
    let session = open_session(&app, &token).await?;
    let callback = app_callback(&session)?;
    let question = Question {
        name: Some(session.app.name.as_str()).filter(|name| !name.is_empty()),
        about: Some(session.app.description.as_str()).filter(|about| !about.is_empty()),
        permission: &session.app.permission,
    };
    Ok(ask(&app.core, &browser, &question, callback.as_ref()))
}

pub async fn answer_auth(
    State(app): State<App>,
    browser: Browser,
    Path(token): Path<String>,
    Form(answer): Form<Answer>,
) -> Result<Response, NoPage> {
    let account = browser.check_form(&app.core, &answer.form_token)?;
    let session = open_session(&app, &token).await?;
    let callback = app_callback(&session)?;
    if !answer.is_yes() {
        return Ok(declined().into_response());
    }
    access::accept(&app, account.id, &session).await?;
    Ok(go_back(callback.map(|callback| callback.with([("token", token.as_str())]))))
}

impl Answer {
    fn is_yes(&self) -> bool {
        self.decision == "allow"
    }
}

/// What is asked of the person.
pub struct Question<'a> {
    pub name: Option<&'a str>,
    pub about: Option<&'a str>,
    pub permission: &'a [String],
}

/// Where the answer goes, and what it carries.
pub struct AnswerForm<'a> {
    pub action: &'a str,
    pub hidden: &'a [(&'a str, &'a str)],
}

fn ask(core: &Core, browser: &Browser, question: &Question<'_>, callback: Option<&Callback>) -> Page {
    ask_about(core, browser, question, callback, &AnswerForm { action: &browser.place, hidden: &[] })
}

/// The question to whoever is signed in; to others, first the form for that.
pub fn ask_about(
    core: &Core,
    browser: &Browser,
    question: &Question<'_>,
    callback: Option<&Callback>,
    form: &AnswerForm<'_>,
) -> Page {
    let name = question.name.unwrap_or("An app without a name");
    let Some(account) = browser.account() else {
        return signin::form(&format!("Sign in for {name}"), "", &browser.place, None);
    };
    let content = html! {
        @if let Some(about) = question.about { p { (about) } }
        (whose(account, &browser.place))
        @if question.permission.is_empty() {
            p { "It asks for no permission beyond knowing who you are." }
        } @else {
            p { "It will be able to:" }
            ul { @for kind in question.permission { li { (in_words(kind)) } } }
        }
        @if let Some(callback) = callback {
            p.hint { "If you allow it, you will be sent on to " (callback.name()) "." }
        }
        form method="post" action=(form.action) {
            input type="hidden" name="form_token" value=(browser.form_token(core));
            @for (name, value) in form.hidden { input type="hidden" name=(name) value=(value); }
            div.actions {
                button.main type="submit" name="decision" value="allow" { "Allow" }
                button type="submit" name="decision" value="deny" { "Don't allow" }
            }
        }
    };
    Page::new(format!("Allow {name} to use your account?"), content).leads_to(callback.map(Callback::source))
}

fn whose(account: &Account, place: &str) -> Markup {
    let elsewhere: String = url::form_urlencoded::byte_serialize(place.as_bytes()).collect();
    html! {
        p {
            "You are signed in as " strong { "@" (account.username) } ". "
            a href={ "/sign-out?next=" (elsewhere) } { "Not you?" }
        }
    }
}

fn declined() -> Page {
    Page::new("Not allowed", html! { p { "The app was given nothing. You can close this page." } })
}

/// To the app, or words that say how to get there.
fn go_back(to: Option<String>) -> Response {
    match to {
        Some(to) => see_other(&to),
        None => {
            let content =
                html! { p { "Now go back to the app and carry on there. You can close this page." } };
            Page::new("Allowed", content).into_response()
        }
    }
}

fn miauth_callback(session: &str, asked: &Asked) -> Result<Option<Callback>, NoPage> {
    if session.is_empty() || session.len() > MAX_SESSION_BYTES {
        return Err(NoPage::Nonsense("The app's session is too long."));
    }
    parse_callback(asked.callback.as_deref())
}

fn miauth_grant(session: String, asked: Asked) -> NewGrant {
    let kinds: Vec<String> =
        asked.permission.unwrap_or_default().split(',').map(|kind| kind.trim().to_owned()).collect();
    let visible = |name: String| -> String { name.chars().filter(|c| !c.is_control()).collect() };
    let name = asked.name.map(|name| visible(name).trim().chars().take(MAX_NAME_CHARS).collect::<String>());
    NewGrant {
        session: Some(session),
        name: name.filter(|name| !name.is_empty()),
        description: None,
        icon_url: asked.icon.map(visible).filter(|icon| icon.chars().count() <= MAX_ICON_CHARS),
        permission: permission::known(&kinds),
    }
}

async fn open_session(app: &App, token: &str) -> Result<AuthSession, NoPage> {
    let session = app.core.apps.session(token, app.now()).await?;
    session.filter(|session| session.user.is_none()).ok_or(NoPage::Gone(NO_SESSION))
}

fn app_callback(session: &AuthSession) -> Result<Option<Callback>, NoPage> {
    parse_callback(session.app.callback_url.as_deref())
}

fn parse_callback(text: Option<&str>) -> Result<Option<Callback>, NoPage> {
    match text.filter(|text| !text.is_empty()) {
        Some(text) => Callback::parse(text).map(Some).ok_or(NoPage::Nonsense(BAD_CALLBACK)),
        None => Ok(None),
    }
}

/// A kind of permission for people; one without words of its own is shown as it is.
fn in_words(kind: &str) -> &str {
    match kind {
        "read:account" => "See your account, also what isn't public",
        "write:account" => "Change your profile and settings",
        "read:blocks" => "See whom you block",
        "write:blocks" => "Block and unblock people",
        "read:drive" => "See your files",
        "write:drive" => "Add, change and delete your files",
        "read:favorites" => "See your favourites",
        "write:favorites" => "Change your favourites",
        "read:following" => "See whom you follow",
        "write:following" => "Follow and unfollow people",
        "read:mutes" => "See whom you mute",
        "write:mutes" => "Mute and unmute people",
        "write:notes" => "Write and delete notes",
        "read:notifications" => "See your notifications",
        "write:notifications" => "Change your notifications",
        "write:reactions" => "React to notes",
        "write:votes" => "Vote in polls",
        "read:channels" => "See your channels",
        "write:channels" => "Change your channels",
        "read:pages" => "See your pages",
        "write:pages" => "Change your pages",
        "read:gallery" => "See your gallery",
        "write:gallery" => "Change your gallery",
        "write:report-abuse" => "Report people",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(permission: &str, callback: Option<&str>) -> Asked {
        Asked {
            name: Some(format!("  {}", "n".repeat(200))),
            icon: None,
            callback: callback.map(str::to_owned),
            permission: Some(permission.to_owned()),
        }
    }

    #[test]
    fn only_known_permissions_are_granted_and_names_are_short() {
        let grant = miauth_grant("s".to_owned(), asked("read:account, write:notes,root", None));
        assert_eq!(grant.permission, ["read:account", "write:notes"]);
        assert_eq!(grant.name.map(|name| name.len()), Some(MAX_NAME_CHARS));
        assert_eq!(grant.session.as_deref(), Some("s"));
    }

    #[test]
    fn a_bad_callback_is_refused_before_anything_is_asked() {
        assert!(miauth_callback("s", &asked("", Some("javascript:alert(1)"))).is_err());
        assert!(miauth_callback("s", &asked("", Some("miria://x"))).is_ok_and(|c| c.is_some()));
        assert!(miauth_callback("s", &asked("", Some(""))).is_ok_and(|c| c.is_none()));
        assert!(miauth_callback(&"s".repeat(MAX_SESSION_BYTES + 1), &asked("", None)).is_err());
    }

    #[test]
    fn kinds_people_meet_have_words() {
        assert_eq!(in_words("write:notes"), "Write and delete notes");
        assert_eq!(in_words("read:admin:meta"), "read:admin:meta");
    }
}
