//! What the names of the internet say of a host: whether it takes mail.

use std::error::Error as StdError;
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{Name, RData};

/// How long one question may take, and how long all questions for one host.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
const DONE_WITHIN: Duration = Duration::from_secs(6);
/// How often a question is asked.
const ATTEMPTS: usize = 2;
/// Answers that are kept, and for how long.
const MAX_KEPT: u64 = 1_024;
const KEPT_FOR: Duration = Duration::from_secs(60 * 60);
/// The name of nobody: so a host says that it takes no mail (RFC 7505).
const NOBODY: &str = ".";

/// The names of the internet.
#[async_trait]
pub trait Names: Send + Sync {
    /// The hosts that take the mail of this one; none where nothing is said of mail.
    async fn mail_hosts(&self, host: &str) -> Result<Vec<String>, NoAnswer>;

    /// Whether a host can be reached at all.
    async fn has_address(&self, host: &str) -> Result<bool, NoAnswer>;
}

/// Nobody who knows could be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub Box<dyn StdError + Send + Sync>);

/// Whether a host takes mail: those that it names do, or it does itself when it names none (RFC 5321).
pub async fn takes_mail(names: &dyn Names, host: &str) -> Result<bool, NoAnswer> {
    let asked = async {
        match names.mail_hosts(host).await?.as_slice() {
            [] => names.has_address(host).await,
            hosts => Ok(hosts.iter().any(|host| host != NOBODY)),
        }
    };
    let answered = tokio::time::timeout(DONE_WITHIN, asked).await;
    answered.unwrap_or_else(|elapsed| Err(NoAnswer(elapsed.into())))
}

/// The names, as the system is set up to ask for them.
pub struct SystemNames(Result<TokioResolver, NetError>);

impl SystemNames {
    /// When the system isn't set up for it, every question is left without an answer.
    pub fn new() -> Self {
        Self(TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.timeout = ANSWERED_WITHIN;
            options.attempts = ATTEMPTS;
            options.cache_size = MAX_KEPT;
            options.positive_max_ttl = Some(KEPT_FOR);
            options.negative_max_ttl = Some(KEPT_FOR);
            builder.build()
        }))
    }

    /// Who is asked, and the name as nobody completes it.
    fn ask(&self, host: &str) -> Result<(&TokioResolver, Name), NoAnswer> {
        let resolver = self.0.as_ref().map_err(|error| no_answer(error.clone()))?;
        let mut name = Name::from_ascii(host).map_err(|error| NoAnswer(error.into()))?;
        name.set_fqdn(true);
        Ok((resolver, name))
    }
}

impl Default for SystemNames {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Names for SystemNames {
    async fn mail_hosts(&self, host: &str) -> Result<Vec<String>, NoAnswer> {
        let (resolver, name) = self.ask(host)?;
        let found = match resolver.mx_lookup(name).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            Err(error) => return Err(no_answer(error)),
        };
        let hosts = found.answers().iter().filter_map(|record| match &record.data {
            RData::MX(mx) => Some(mx.exchange.to_ascii()),
            _ => None,
        });
        Ok(hosts.collect())
    }

    async fn has_address(&self, host: &str) -> Result<bool, NoAnswer> {
        let (resolver, name) = self.ask(host)?;
        match resolver.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().next().is_some()),
            Err(error) if error.is_no_records_found() => Ok(false),
            Err(error) => Err(no_answer(error)),
        }
    }
}

fn no_answer(error: NetError) -> NoAnswer {
    NoAnswer(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some hosts: what each says of mail, and whether it has an address.
    struct Known(&'static [(&'static str, &'static [&'static str], bool)]);

    impl Known {
        fn of(&self, host: &str) -> Result<(&'static [&'static str], bool), NoAnswer> {
            let known = self.0.iter().find(|(name, ..)| *name == host);
            known.map(|(_, mail, address)| (*mail, *address)).ok_or_else(|| NoAnswer("nobody there".into()))
        }
    }

    #[async_trait]
    impl Names for Known {
        async fn mail_hosts(&self, host: &str) -> Result<Vec<String>, NoAnswer> {
            if host == "slow.example" {
                tokio::time::sleep(DONE_WITHIN * 2).await;
            }
            Ok(self.of(host)?.0.iter().map(|name| String::from(*name)).collect())
        }

        async fn has_address(&self, host: &str) -> Result<bool, NoAnswer> {
            Ok(self.of(host)?.1)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_mail_says_so_or_has_an_address() {
        let known = Known(&[
            ("mx.example", &["a.example.", "b.example."], false),
            ("null.example", &["."], true),
            ("address.example", &[], true),
            ("nothing.example", &[], false),
            ("slow.example", &["a.example."], true),
        ]);
        let takes = async |host| takes_mail(&known, host).await.ok();
        assert_eq!(takes("mx.example").await, Some(true));
        assert_eq!(takes("null.example").await, Some(false));
        assert_eq!(takes("address.example").await, Some(true));
        assert_eq!(takes("nothing.example").await, Some(false));
        assert_eq!(takes("slow.example").await, None);
        assert_eq!(takes("away.example").await, None);
    }
}
