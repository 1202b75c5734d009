//! Webhooks: what they are told of, and how.

use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use domain::follow::RequestEnd;
use domain::log::Recorded;
use domain::policy::{Place, Sight};
use domain::{Event, NoteId, UserId};
use projections::{Wanted, reaction};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Outcome, Trouble, is_for_good, is_here};
use crate::api::param::{AnyId, Id};
use crate::app::App;
use crate::fetch::FetchError;
use crate::json::Look;
use crate::json::note::note;
use crate::json::user::{Eyes, user_detailed_not_me, user_lite};
use crate::ops::deliveries::Delivery;
use crate::ops::webhooks::Webhook;
use crate::streaming::concerned;

/// What is noted as answered where nothing is.
const NO_ANSWER: i32 = 1;
const HOST: HeaderName = HeaderName::from_static("x-misskey-host");
const HOOK_ID: HeaderName = HeaderName::from_static("x-misskey-hook-id");
const HOOK_SECRET: HeaderName = HeaderName::from_static("x-misskey-hook-secret");
const AGENT: HeaderValue = HeaderValue::from_static("Misskey-Hooks");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Somebody whose webhooks are told.
pub struct Told {
    pub user: UserId,
    /// By Misskey's names.
    pub what: &'static str,
    pub about: Uuid,
    pub other: Option<Uuid>,
}

/// Whose webhooks an event tells, and of what.
pub fn told_by(recorded: &Recorded) -> Vec<Told> {
    let told = |user, what, about| Told { user, what, about, other: None };
    match &recorded.event {
        Some(Event::NoteCreated(e)) => {
            let others = concerned(e).into_iter().map(|(user, what)| told(user, what, e.id.0));
            std::iter::once(told(e.author, "note", e.id.0)).chain(others).collect()
        }
        Some(Event::FollowStarted(e)) => {
            vec![told(e.follower, "follow", e.followee.0), told(e.followee, "followed", e.follower.0)]
        }
        Some(Event::FollowEnded(e)) => vec![told(e.follower, "unfollow", e.followee.0)],
        Some(Event::FollowRequestEnded(e)) if e.how == RequestEnd::Rejected => {
            vec![told(e.follower, "unfollow", e.followee.0)]
        }
        Some(Event::ReactionAdded(e)) if e.author != e.reactor => {
            vec![Told { other: Some(e.reactor.0), ..told(e.author, "reaction", e.note.0) }]
        }
        _ => Vec::new(),
    }
}

/// Tells a webhook.
pub async fn deliver(app: &App, delivery: &Delivery) -> Result<Outcome, Trouble> {
    let Some(hook) = app.core.webhooks.get(delivery.target).await? else { return Ok(Outcome::Done) };
    if !hook.active || !is_here(app, delivery.user).await? {
        return Ok(Outcome::Done);
    }
    let Some(body) = body(app, delivery).await? else { return Ok(Outcome::Done) };
    let message =
        Message { event: delivery.id, at_ms: delivery.at.timestamp_millis(), what: &delivery.what, body };
    let answered = send(app, &hook, &message).await;
    let status = match &answered {
        Ok(status) => i32::from(*status),
        Err(_) => NO_ANSWER,
    };
    app.core.webhooks.sent(hook.id, app.now(), status).await?;
    Ok(match answered {
        // What the other side doesn't like it likes no better later.
        Ok(..500) => Outcome::Done,
        Ok(_) => Outcome::Again,
        Err(error) if is_for_good(&error) => Outcome::Done,
        Err(_) => Outcome::Again,
    })
}

/// What a webhook is told.
pub struct Message<'a> {
    pub event: Uuid,
    pub at_ms: i64,
    pub what: &'a str,
    pub body: Value,
}

/// Sends a message as Misskey does; the status that is answered.
pub async fn send(app: &App, hook: &Webhook, message: &Message<'_>) -> Result<u16, FetchError> {
    let id = AnyId(hook.id).to_string();
    let told = json!({
        "server": app.config.url,
        "hookId": id,
        "userId": hook.user,
        "eventId": Id(AnyId(message.event)),
        "createdAt": message.at_ms,
        "type": message.what,
        "body": message.body,
    });
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, AGENT);
    headers.insert(CONTENT_TYPE, JSON);
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(|_| FetchError::NotAnAddress);
    headers.insert(HOST, value(Look::of(app).host())?);
    headers.insert(HOOK_ID, value(&id)?);
    headers.insert(HOOK_SECRET, value(&hook.definition.secret)?);
    app.fetcher.post(&hook.definition.url, headers, told.to_string().into_bytes()).await
}

/// What is said of it, as the person sees it now; none when it has gone, or isn't for them.
async fn body(app: &App, delivery: &Delivery) -> Result<Option<Value>, Trouble> {
    let Some(about) = delivery.about else { return Ok(None) };
    let viewer = Some(delivery.user);
    let look = Look::of(app);
    let person = UserId(about);
    Ok(match delivery.what.as_str() {
        "note" | "mention" | "reply" | "renote" => {
            let id = NoteId(about);
            let world = app.hydrate(Wanted::notes([id]), viewer).await?;
            let is_theirs = delivery.what == "note" && matches!(world.see(id), Some(Sight::Seen(_)));
            let is_wanted = is_theirs || world.pick(id, Place::Mentions).is_some();
            note(&look, &world, id).filter(|_| is_wanted).map(|note| json!({ "note": note }))
        }
        "reaction" => {
            let (id, Some(other)) = (NoteId(about), delivery.other.map(UserId)) else { return Ok(None) };
            let reactions = reaction::of_people(&app.pool, &[id], &[other]).await?;
            let Some(reaction) = reactions.get(&(other, id)) else { return Ok(None) };
            let wanted = Wanted { users: vec![other], ..Wanted::notes([id]) };
            let world = app.hydrate(wanted, viewer).await?;
            let user = world.user(other).map(|row| user_lite(&look, row));
            note(&look, &world, id)
                .zip(user)
                .map(|(note, user)| json!({ "note": note, "user": user, "reaction": reaction.shown() }))
        }
        "followed" => {
            let world = app.hydrate(Wanted::users([person]), viewer).await?;
            world.user(person).map(|row| json!({ "user": user_lite(&look, row) }))
        }
        "follow" | "unfollow" => {
            let world = app.hydrate(Wanted::in_detail([person]), viewer).await?;
            let user = user_detailed_not_me(&look, &world, person, &Eyes::default());
            user.map(|user| json!({ "user": user }))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::follow::{Ended, RequestEnded};
    use domain::log::{Position, StreamId, Version};
    use domain::{CommandId, EventId};

    fn told(event: impl Into<Event>) -> Vec<(UserId, &'static str, UserId)> {
        let event = event.into();
        let recorded = Recorded {
            position: Position(1),
            ordinal: 0,
            id: EventId(Uuid::nil()),
            stream: StreamId::new("test", 1),
            version: Version(1),
            kind: event.kind().0.to_owned(),
            at: chrono::DateTime::UNIX_EPOCH,
            subject: event.subject(),
            actor: None,
            command: CommandId(Uuid::nil()),
            event: Some(event),
        };
        told_by(&recorded).into_iter().map(|told| (told.user, told.what, UserId(told.about))).collect()
    }

    #[test]
    fn only_the_follower_is_told_that_it_ends() {
        let (follower, followee) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let ended = Ended { follower, followee, by_followee: false };
        assert_eq!(told(ended), [(follower, "unfollow", followee)]);
        let asked = |how| told(RequestEnded { follower, followee, how });
        assert_eq!(asked(RequestEnd::Rejected), [(follower, "unfollow", followee)]);
        assert_eq!(asked(RequestEnd::Cancelled), []);
    }
}
