//! Sends what stands in the outbox over SMTP, by the settings of the administrator. Tried again with growing
//! pauses, for some hours; one process at a time has a mail in its hands.

use std::time::Duration;

use domain::instance::Settings;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::app::App;
use crate::ops::mail::{MAX_ATTEMPTS, Mail, Sending};

/// How often the outbox is looked into when nothing is heard of it.
pub const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long a mail server may take with one command.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The administrator's password for the mail server.
pub const PASSWORD: &str = "smtpPass";
/// What is said to, without TLS, with TLS from the first byte, and with TLS after asking.
const PORT: u16 = 25;
const PORT_TLS: u16 = 465;

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum NotSent {
    #[error("mail is not set up")]
    Off,
    #[error("an address is none: {0}")]
    Address(#[from] lettre::address::AddressError),
    #[error("it can't be written: {0}")]
    Message(#[from] lettre::error::Error),
    #[error(transparent)]
    Smtp(#[from] lettre::transport::smtp::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl NotSent {
    /// Whether trying again would come to the same.
    fn is_for_good(&self) -> bool {
        match self {
            NotSent::Address(_) | NotSent::Message(_) => true,
            NotSent::Smtp(error) => error.is_permanent(),
            NotSent::Off | NotSent::Database(_) => false,
        }
    }
}

/// Runs for ever.
pub async fn run(app: App) {
    let post = app.core.post.clone();
    loop {
        _ = tokio::time::timeout(LOOK_EVERY, post.news.notified()).await;
        if let Err(error) = empty(&app).await {
            tracing::warn!(%error, "the outbox can't be read; trying again");
        }
    }
}

/// Sends everything whose time has come.
pub async fn empty(app: &App) -> sqlx::Result<()> {
    loop {
        let settings = projections::instance::load(&app.pool).await?.settings;
        if !settings.flag("enableEmail") {
            return Ok(());
        }
        let taken = app.core.post.take(app.now()).await?;
        if taken.is_empty() {
            return Ok(());
        }
        for sending in taken {
            deliver(app, &settings, sending).await?;
        }
    }
}

async fn deliver(app: &App, settings: &Settings, sending: Sending) -> sqlx::Result<()> {
    match send(app, settings, &sending.mail).await {
        Ok(()) => app.core.post.done(sending.id).await,
        // To whom it was is not for the log.
        Err(error) if error.is_for_good() || sending.attempts >= MAX_ATTEMPTS => {
            tracing::warn!(mail.id = %sending.id, attempts = sending.attempts, %error, "a mail is given up");
            app.core.post.done(sending.id).await
        }
        Err(error) => {
            tracing::info!(mail.id = %sending.id, attempts = sending.attempts, %error, "a mail is tried again");
            Ok(())
        }
    }
}

async fn send(app: &App, settings: &Settings, mail: &Mail) -> Result<(), NotSent> {
    let (from, host) = settings.text("email").zip(settings.text("smtpHost")).ok_or(NotSent::Off)?;
    let name = settings.text("name").map(str::to_owned);
    let message = Message::builder()
        .from(Mailbox::new(name, from.parse()?))
        .to(Mailbox::new(None, mail.to.parse()?))
        .subject(&mail.subject)
        .body(mail.text.clone())?;
    let from_the_start = settings.flag("smtpSecure");
    let port = settings.get("smtpPort").as_u64().and_then(|port| u16::try_from(port).ok());
    let port = port.unwrap_or(if from_the_start { PORT_TLS } else { PORT });
    let user = settings.text("smtpUser").filter(|user| !user.is_empty());
    let password = app.core.server_secrets.get(PASSWORD).await?.unwrap_or_default();
    let parameters = TlsParameters::new(host.to_owned())?;
    let tls = match (from_the_start, user) {
        (true, _) => Tls::Wrapper(parameters),
        // A password is not sent in the open, unless it stays on this machine.
        (false, Some(_)) if !is_here(host) => Tls::Required(parameters),
        (false, _) => Tls::Opportunistic(parameters),
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(port)
        .tls(tls)
        .timeout(Some(ANSWER_WITHIN));
    if let Some(user) = user {
        transport = transport.credentials(Credentials::new(user.to_owned(), password));
    }
    transport.build().send(message).await?;
    Ok(())
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
