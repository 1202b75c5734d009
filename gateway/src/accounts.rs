//! The accounts of this server, for admission: asked at every call, so kept in memory.
//!
//! What an account is doesn't change after it was made; who is root and what the policies say is taken anew
//! when an event says that it has changed, and everything when somebody was erased. Whether it did is asked
//! of the log, so it doesn't matter which process projects.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::UserId;
use domain::instance::Instance;
use domain::log::Position;
use lru::LruCache;
use projections::{Projections, instance, user};
use serde_json::{Map, Value};
use sqlx::PgPool;

use crate::api::{Account, Accounts, ApiError};

/// The most accounts kept in memory; beyond it those not asked for longest are let go.
pub const MAX_KEPT: usize = 50_000;
/// Events looked through for a change of the server; with more of them it is simply loaded again.
const MAX_SCANNED: usize = 1_000;
/// How the kinds of events begin that change the server.
const OF_THE_SERVER: &str = "instance.";
/// An account is gone.
const ERASED: &str = "user.erased";

/// Accounts from the read tables.
pub struct ReadAccounts {
    pool: PgPool,
    projections: Projections,
    kept: Mutex<Kept>,
}

struct Kept {
    server: Option<Server>,
    accounts: LruCache<UserId, Arc<Account>>,
}

/// The server as it was when the read tables had passed a position.
#[derive(Clone)]
struct Server {
    at: Position,
    instance: Arc<Instance>,
    policies: Arc<Map<String, Value>>,
}

impl ReadAccounts {
    pub fn new(pool: PgPool, projections: Projections) -> Self {
        let size = NonZeroUsize::new(MAX_KEPT).unwrap_or(NonZeroUsize::MIN);
        let kept = Mutex::new(Kept { server: None, accounts: LruCache::new(size) });
        Self { pool, projections, kept }
    }

    async fn server(&self) -> Result<Server, ApiError> {
        let now = *self.projections.advanced().borrow();
        let known = self.kept().server.clone();
        if let Some(mut server) = known {
            if server.at >= now {
                return Ok(server);
            }
            if self.is_unchanged(server.at, now).await? {
                server.at = now;
                self.kept().advance(server.clone());
                return Ok(server);
            }
        }
        let instance = instance::load(&self.pool).await?;
        let policies = instance.policies.all().iter().map(|(name, value)| (name.clone(), value.clone()));
        let policies = Arc::new(policies.collect());
        let server = Server { at: now, policies, instance: Arc::new(instance) };
        self.kept().replace(server.clone());
        Ok(server)
    }

    /// Whether no event between the two positions changed the server. There is one at `to`, so what doesn't
    /// reach it is not all: the end of the log as known here may be older than the read tables.
    async fn is_unchanged(&self, from: Position, to: Position) -> Result<bool, ApiError> {
        let events = self.projections.events_after(from, MAX_SCANNED).await.map_err(ApiError::internal)?;
        let reaches = events.last().is_some_and(|last| last.position >= to);
        let changes = |kind: &str| kind.starts_with(OF_THE_SERVER) || kind == ERASED;
        Ok(reaches && !events.iter().any(|event| changes(&event.kind)))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Accounts for ReadAccounts {
    async fn account(&self, id: UserId) -> Result<Option<Arc<Account>>, ApiError> {
        let server = self.server().await?;
        if let Some(account) = self.kept().accounts.get(&id).filter(|kept| is_of(kept, &server)) {
            return Ok(Some(Arc::clone(account)));
        }
        let found = user::by_ids(&self.pool, &[id]).await?.remove(&id);
        let Some(row) = found.filter(|row| row.host.is_none()) else { return Ok(None) };
        let is_root = server.instance.root == Some(id);
        let account = Arc::new(Account {
            id,
            username: row.username,
            is_root,
            is_administrator: is_root,
            is_moderator: is_root,
            is_suspended: false,
            is_deleted: false,
            has_moved: false,
            rate_limit_factor: server.instance.policies.rate_limit_factor(),
            policies: server.policies,
        });
        self.kept().accounts.put(id, Arc::clone(&account));
        Ok(Some(account))
    }

    async fn named(&self, username: &str) -> Result<Option<Arc<Account>>, ApiError> {
        match user::by_username(&self.pool, username, None).await? {
            Some(id) => self.account(id).await,
            None => Ok(None),
        }
    }
}

impl Kept {
    /// The same server, some events later.
    fn advance(&mut self, later: Server) {
        if let Some(server) = &mut self.server
            && Arc::ptr_eq(&server.instance, &later.instance)
            && server.at < later.at
        {
            server.at = later.at;
        }
    }

    fn replace(&mut self, loaded: Server) {
        if self.server.as_ref().is_none_or(|server| server.at < loaded.at) {
            self.server = Some(loaded);
        }
    }
}

/// Whether what is kept of an account was made of this server.
fn is_of(account: &Account, server: &Server) -> bool {
    Arc::ptr_eq(&account.policies, &server.policies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    use commands::bus::Bus;
    use commands::log::{Keyring, MasterKey, MemoryLog};
    use commands::{AskedBy, Commands, NewAccount};
    use domain::CommandId;
    use domain::log::{By, Clock, EventLog, Ids};
    use projections::Mode;
    use serde_json::json;

    use crate::system::{SystemClock, TimeOrderedIds};

    const IN_TIME: Duration = Duration::from_secs(10);

    #[sqlx::test(migrations = "../migrations")]
    async fn a_change_of_the_server_is_in_the_next_answer(pool: PgPool) {
        let keyring = Arc::new(Keyring::open(pool.clone(), &MasterKey::given([7; 32])).await.unwrap());
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(keyring.clone()));
        let ids = Arc::new(TimeOrderedIds::new());
        let commands = Commands::new(log.clone(), keyring, ids.clone(), Bus::local());
        let projections = Projections::start(&pool, log, projections::projectors(), Mode::Project);
        let accounts = ReadAccounts::new(pool, projections.clone());
        let by = || {
            let now = SystemClock.now();
            By { user: None, now, command: CommandId(ids.at(now)) }
        };

        let alice = UserId(ids.at(SystemClock.now()));
        let asked_by = AskedBy::Founder;
        let new = NewAccount { user: alice, username: "Alice".to_owned(), asked_by };
        assert_eq!(accounts.account(alice).await.unwrap(), None);
        let made = commands.sign_up(by(), new).await.unwrap();
        projections.wait(made.position, IN_TIME).await.unwrap();
        let account = accounts.named("aLICE").await.unwrap().unwrap();
        assert!(account.is_root && account.is_administrator && !account.may_search());
        assert_eq!(account.rate_limit_factor, 1.0);

        let other = commands.be_active(by(), alice).await.unwrap();
        projections.wait(other.position, IN_TIME).await.unwrap();
        let same = accounts.account(alice).await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&same, &account), "nothing that concerns it has changed");

        let asked = [("rateLimitFactor", json!(0)), ("canSearchNotes", json!(true))];
        let asked: BTreeMap<String, Value> = asked.map(|(name, value)| (name.to_owned(), value)).into();
        let changed = commands.change_policies(by(), asked).await.unwrap();
        projections.wait(changed.position, IN_TIME).await.unwrap();
        let account = accounts.account(alice).await.unwrap().unwrap();
        assert_eq!(account.rate_limit_factor, 0.0);
        assert!(account.may_search());
        projections.stop().await;
    }

    impl Account {
        fn may_search(&self) -> bool {
            self.policies["canSearchNotes"] == json!(true)
        }
    }
}
