//! The accounts of this server, for admission: asked at every call, so kept in memory.
//!
//! What an account is follows from the settings, the roles, and what happened to the person. Whether any of
//! that has changed is asked of the log, so it doesn't matter which process projects: an event that concerns
//! one account makes it be loaded anew, one about the server or a role all of them. What a role depends on
//! besides (an end of its own, an age) says how long an account may be kept. Nothing is kept that was loaded from
//! tables that may go back ([`Standing::holds`]).

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::instance::{Instance, Policies};
use domain::log::{Clock, Position, Recorded};
use domain::role::{LooksAt, effective};
use domain::{Event, UserId};
use lru::LruCache;
use projections::{Projections, Standing, instance, role, user};
use serde_json::{Map, Value};
use sqlx::PgPool;

use crate::api::{Account, Accounts, ApiError};

/// The most accounts kept in memory; beyond it those not asked for longest are let go.
pub const MAX_KEPT: usize = 50_000;
/// Events looked through for changes; with more of them everything is simply loaded again.
const MAX_SCANNED: usize = 1_000;

/// Accounts from the read tables.
pub struct ReadAccounts {
    pool: PgPool,
    projections: Projections,
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
}

struct Kept {
    server: Option<Server>,
    accounts: LruCache<UserId, Known>,
    /// Counts what has been heard that changes accounts: what was being loaded meanwhile isn't kept.
    changes: u64,
}

struct Known {
    account: Arc<Account>,
    until: Option<DateTime<Utc>>,
}

/// The server as it was when the read tables had passed a position.
#[derive(Clone)]
struct Server {
    at: Position,
    /// [`Standing::doubts`] then.
    doubts: u64,
    /// Whether it may be kept, and what is loaded beside it.
    holds: bool,
    instance: Arc<Instance>,
    usual: Arc<Policies>,
    policies: Arc<Map<String, Value>>,
    /// What conditions of roles look at.
    looks_at: LooksAt,
}

/// Whom an event concerns here.
#[derive(Debug, PartialEq, Eq)]
enum Concerns {
    Nobody,
    These(Vec<UserId>),
    Everybody,
}

impl ReadAccounts {
    pub fn new(pool: PgPool, projections: Projections, clock: Arc<dyn Clock>) -> Self {
        let size = NonZeroUsize::new(MAX_KEPT).unwrap_or(NonZeroUsize::MIN);
        let kept = Mutex::new(Kept { server: None, accounts: LruCache::new(size), changes: 0 });
        Self { pool, projections, clock, kept }
    }

    async fn server(&self) -> Result<Server, ApiError> {
        let Standing { at: now, holds, doubts } = self.projections.standing();
        let known = self.kept().server.clone();
        if let Some(mut server) = known.filter(|known| holds && known.doubts == doubts) {
            if server.at >= now {
                return Ok(server);
            }
            if let Some(concerned) = self.concerned(&server, now).await? {
                server.at = now;
                self.kept().advance(&server, &concerned);
                return Ok(server);
            }
        }
        let (instance, roles) =
            tokio::try_join!(instance::load(&self.pool), role::of_people(&self.pool, &[]))?;
        let policies = instance.policies.all().iter().map(|(name, value)| (name.clone(), value.clone()));
        let server = Server {
            at: now,
            doubts,
            holds,
            policies: Arc::new(policies.collect()),
            usual: Arc::new(instance.policies.clone()),
            instance: Arc::new(instance),
            looks_at: roles.looks_at(),
        };
        if holds {
            self.kept().replace(server.clone());
        }
        Ok(server)
    }

    /// Whose accounts the events between where the server is known and a later position concern; none when
    /// everything has to be loaded anew. There is an event at that position, so what doesn't reach it is not
    /// all: the end of the log as known here may be older than the read tables.
    async fn concerned(&self, server: &Server, to: Position) -> Result<Option<Vec<UserId>>, ApiError> {
        let events = self.projections.events_after(server.at, MAX_SCANNED).await;
        let events = events.map_err(ApiError::internal)?;
        if events.last().is_none_or(|last| last.position < to) {
            return Ok(None);
        }
        let mut people = Vec::new();
        for event in &events {
            match concerns(event, server.looks_at) {
                Concerns::Nobody => (),
                Concerns::These(these) => people.extend(these),
                Concerns::Everybody => return Ok(None),
            }
        }
        Ok(Some(people))
    }

    async fn load(&self, id: UserId, server: &Server) -> Result<Option<Known>, ApiError> {
        let ids = [id];
        let (mut rows, roles) =
            tokio::try_join!(user::by_ids(&self.pool, &ids), role::of_people(&self.pool, &ids))?;
        let Some(mut row) = rows.remove(&id).filter(|row| row.host.is_none()) else { return Ok(None) };
        let (theirs, until) = roles.of(&row, self.clock.now());
        row.roles = theirs;
        let policies = if row.roles.is_empty() {
            Arc::clone(&server.policies)
        } else {
            let definitions = row.roles.iter().map(|role| &role.definition);
            Arc::new(effective(&server.usual, definitions))
        };
        let is_root = server.instance.root == Some(id);
        let account = Account {
            id,
            is_root,
            is_administrator: is_root || row.administers(),
            is_moderator: is_root || row.moderates(),
            is_suspended: row.is_suspended,
            is_deleted: false,
            has_moved: false,
            rate_limit_factor: policies.get("rateLimitFactor").and_then(Value::as_f64).unwrap_or(1.0),
            roles: row.roles.iter().map(|role| role.id).collect(),
            policies,
            username: row.username,
        };
        Ok(Some(Known { account: Arc::new(account), until }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Accounts for ReadAccounts {
    async fn account(&self, id: UserId) -> Result<Option<Arc<Account>>, ApiError> {
        let server = self.server().await?;
        if !server.holds {
            return Ok(self.load(id, &server).await?.map(|loaded| loaded.account));
        }
        let (known, changes) = {
            let mut kept = self.kept();
            let now = self.clock.now();
            let known = kept.accounts.get(&id).filter(|known| known.until.is_none_or(|until| until > now));
            (known.map(|known| Arc::clone(&known.account)), kept.changes)
        };
        if known.is_some() {
            return Ok(known);
        }
        let Some(loaded) = self.load(id, &server).await? else { return Ok(None) };
        let account = Arc::clone(&loaded.account);
        let mut kept = self.kept();
        if kept.changes == changes {
            kept.accounts.put(id, loaded);
        }
        Ok(Some(account))
    }

    async fn named(&self, username: &str) -> Result<Option<Arc<Account>>, ApiError> {
        match user::by_username(&self.pool, username, None).await? {
            Some(id) => self.account(id).await,
            None => Ok(None),
        }
    }

    async fn usual_policies(&self) -> Result<Arc<Policies>, ApiError> {
        Ok(self.server().await?.usual)
    }
}

impl Kept {
    /// The same server, some events later, which concerned these people.
    fn advance(&mut self, later: &Server, concerned: &[UserId]) {
        if !concerned.is_empty() {
            self.changes += 1;
        }
        for user in concerned {
            self.accounts.pop(user);
        }
        if let Some(server) = &mut self.server
            && Arc::ptr_eq(&server.instance, &later.instance)
            && server.at < later.at
        {
            server.at = later.at;
        }
    }

    fn replace(&mut self, loaded: Server) {
        let is_older = |server: &Server| (server.doubts, server.at) < (loaded.doubts, loaded.at);
        if self.server.as_ref().is_none_or(is_older) {
            self.server = Some(loaded);
            self.changes += 1;
            self.accounts.clear();
        }
    }
}

/// Whose account an event changes, where conditions look at such facts.
fn concerns(recorded: &Recorded, looks_at: LooksAt) -> Concerns {
    let counted =
        |people: Vec<UserId>| if looks_at.counts { Concerns::These(people) } else { Concerns::Nobody };
    match recorded.event.as_ref() {
        Some(Event::UserErased(_)) => Concerns::Everybody,
        Some(Event::RoleAssigned(e)) => Concerns::These(vec![e.user]),
        Some(Event::RoleUnassigned(e)) => Concerns::These(vec![e.user]),
        Some(Event::UserSuspended(e)) => Concerns::These(vec![e.user]),
        Some(Event::UserUnsuspended(e)) => Concerns::These(vec![e.user]),
        Some(Event::UserChanged(e)) if looks_at.profile => Concerns::These(vec![e.user]),
        Some(Event::FollowStarted(e)) => counted(vec![e.follower, e.followee]),
        Some(Event::FollowEnded(e)) => counted(vec![e.follower, e.followee]),
        Some(Event::NoteCreated(e)) => counted(vec![e.author]),
        // Others' notes may go with it.
        Some(Event::NoteDeleted(_)) if looks_at.counts => Concerns::Everybody,
        _ if ["instance.", "role."].iter().any(|of| recorded.kind.starts_with(of)) => Concerns::Everybody,
        _ => Concerns::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    use commands::bus::Bus;
    use commands::log::{Keyring, MasterKey, MemoryLog};
    use commands::{AskedBy, Commands, NewAccount, Receipt};
    use domain::CommandId;
    use domain::log::{By, Clock, EventLog, Ids};
    use projections::Mode;
    use serde_json::json;

    use crate::neighbours::tests::eventually;
    use crate::system::{SystemClock, TimeOrderedIds};

    const IN_TIME: Duration = Duration::from_secs(10);

    /// A log and who writes to it.
    struct Writer {
        log: Arc<dyn EventLog>,
        ids: Arc<TimeOrderedIds>,
        commands: Commands,
    }

    impl Writer {
        async fn new(pool: &PgPool) -> Self {
            let keyring = Arc::new(Keyring::open(pool.clone(), &MasterKey::given([7; 32])).await.unwrap());
            let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(keyring.clone()));
            let ids = Arc::new(TimeOrderedIds::new());
            let commands = Commands::new(log.clone(), keyring, ids.clone(), Bus::local());
            Self { log, ids, commands }
        }

        fn project(&self, pool: &PgPool, mode: Mode) -> Projections {
            Projections::start(pool, self.log.clone(), projections::projectors(), mode)
        }

        fn by(&self) -> By {
            let now = SystemClock.now();
            By { user: None, now, command: CommandId(self.ids.at(now)) }
        }

        async fn sign_up(&self, alice: UserId) -> Receipt {
            let asked_by = AskedBy::Founder;
            let new = NewAccount { user: alice, username: "Alice".to_owned(), asked_by };
            self.commands.sign_up(self.by(), new).await.unwrap()
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_was_loaded_is_not_kept_when_the_tables_go_back(pool: PgPool) {
        let writer = Writer::new(&pool).await;
        let alice = UserId(writer.ids.at(SystemClock.now()));
        writer.sign_up(alice).await;
        let running = writer.project(&pool, Mode::Project);
        running.settle().await.unwrap();
        running.stop().await;
        let watching = writer.project(&pool, Mode::Watch);
        watching.settle().await.unwrap();
        let accounts = ReadAccounts::new(pool.clone(), watching.clone(), Arc::new(SystemClock));
        let is_suspended = async || accounts.account(alice).await.unwrap().unwrap().is_suspended;
        assert!(!is_suspended().await);
        // Not by an event.
        sqlx::query("update read.users set is_suspended = true").execute(&pool).await.unwrap();
        assert!(!is_suspended().await, "it is kept");
        let back = "update ops.checkpoints set position = 0 where projector = 'users'";
        sqlx::query(back).execute(&pool).await.unwrap();
        eventually(is_suspended).await;
        watching.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_change_of_the_server_is_in_the_next_answer(pool: PgPool) {
        let writer = Writer::new(&pool).await;
        let (commands, by) = (&writer.commands, || writer.by());
        let projections = writer.project(&pool, Mode::Project);
        let accounts = ReadAccounts::new(pool, projections.clone(), Arc::new(SystemClock));

        let alice = UserId(writer.ids.at(SystemClock.now()));
        assert_eq!(accounts.account(alice).await.unwrap(), None);
        let made = writer.sign_up(alice).await;
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
