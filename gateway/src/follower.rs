//! What this process learns from the others on the same log.
//!
//! - One task follows the tail of the log, in order and without gaps, and keeps right what is in memory:
//!   the states of commands, the keys of those who were erased.
//! - Words of the bus are passed on to whom they save a wait, and what happens here is said.

use std::sync::Arc;
use std::time::Duration;

use commands::Commands;
use commands::bus::{Bus, Heard, Word};
use commands::log::Keyring;
use domain::Event;
use domain::log::{LogError, Position, Recorded};
use projections::Projections;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;

use crate::platform::shutdown::Shutdown;

/// Events taken up at once; one append more may be in it.
const MAX_BATCH_EVENTS: usize = 1_000;
/// The pause before a batch is taken up again that failed.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone)]
pub struct Follower {
    pub commands: Commands,
    pub keyring: Arc<Keyring>,
    pub projections: Projections,
    pub bus: Bus,
}

impl Follower {
    /// Follows until the shutdown.
    pub fn start(self, shutdown: &Shutdown) {
        let follower = self.clone();
        shutdown.spawn(async move { follower.follow().await });
        if self.bus.is_shared() {
            shutdown.spawn(async move {
                tokio::select! {
                    () = self.hear() => (),
                    () = self.tell() => (),
                }
            });
        }
    }

    async fn follow(&self) {
        let mut head = self.projections.head();
        let Ok(first) = head.wait_for(|head| head.asked.is_some()).await.map(|head| head.clone()) else {
            return;
        };
        let mut at = first.position;
        first.asked.inspect(|asked| self.commands.fresh(*asked));
        while head.changed().await.is_ok() {
            let now = head.borrow_and_update().clone();
            while at < now.position {
                match self.take_in(at).await {
                    Ok(reached) if reached > at => at = reached,
                    Ok(_) => sleep(PAUSE).await,
                    Err(error) => {
                        tracing::warn!(%error, after = at.0, "the log can't be followed; trying again");
                        sleep(PAUSE).await;
                    }
                }
            }
            now.asked.inspect(|asked| self.commands.fresh(*asked));
        }
    }

    /// Takes in what comes after a position; says up to where. Taken in twice, it does no harm.
    async fn take_in(&self, at: Position) -> Result<Position, LogError> {
        let events: Vec<Arc<Recorded>> = self.projections.events_after(at, MAX_BATCH_EVENTS).await?;
        self.commands.heard(&events);
        for event in &events {
            if let Some(Event::UserErased(erased)) = &event.event {
                self.keyring.destroy(erased.user).await?;
            }
        }
        Ok(events.last().map_or(at, |last| last.position))
    }

    async fn hear(&self) {
        let mut words = self.bus.hear();
        loop {
            match words.recv().await {
                Ok(Heard::Word(Word::Appended(position))) => self.projections.nudge(position),
                Ok(Heard::Word(Word::Projected(positions))) => self.projections.heard(&positions),
                Ok(Heard::Word(Word::Seen(_))) => (),
                Ok(Heard::Missed) | Err(RecvError::Lagged(_)) => self.projections.look(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn tell(&self) {
        let mut moved = self.projections.moved();
        while moved.changed().await.is_ok() {
            self.bus.say(Word::Projected(self.projections.active()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use commands::log::{MasterKey, PostgresLog, Takeover};
    use commands::{AskedBy, NewAccount, Receipt};
    use domain::UserId;
    use projections::runtime::STANDBY_POLL;
    use sqlx::PgPool;

    use super::*;
    use crate::app::{App, Parts};
    use crate::config::{self, Given};
    use crate::names::SystemNames;
    use crate::system::{SystemClock, TimeOrderedIds};

    /// A process on the database, and how to end it.
    async fn process(pool: &PgPool, roles: &str, bus: Bus) -> (App, Shutdown) {
        let flags = [("roles", roles), ("url", "http://kiroku.example")];
        let flags: BTreeMap<String, String> =
            flags.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = config::load(&Given { flags, ..Given::default() }).unwrap().config;
        let keyring = Arc::new(Keyring::open(pool.clone(), &MasterKey::given([7; 32])).await.unwrap());
        let log = PostgresLog::open(pool.clone(), keyring.clone(), Takeover::Shared).await.unwrap();
        let shutdown = Shutdown::default();
        let parts = Parts {
            config: Arc::new(config),
            pool: pool.clone(),
            log: Arc::new(log),
            keyring,
            bus,
            nats: None,
            clock: Arc::new(SystemClock),
            ids: Arc::new(TimeOrderedIds::new()),
            names: Arc::new(SystemNames::new()),
            program: std::path::PathBuf::new(),
            shutdown: shutdown.clone(),
        };
        (App::start(parts).await.unwrap(), shutdown)
    }

    async fn sign_up(app: &App, username: &str) -> (UserId, Receipt) {
        let user = UserId(app.ids.at(app.now()));
        let new = NewAccount { user, username: username.to_owned(), asked_by: AskedBy::Administrator };
        (user, app.commands.sign_up(app.by_user(None), new).await.unwrap())
    }

    /// How long writes take to be shown in the process that wrote them; the fastest first.
    async fn times(app: &App, count: usize) -> Vec<Duration> {
        let (user, receipt) = sign_up(app, "alice").await;
        app.shown(receipt).await;
        let mut times = Vec::with_capacity(count);
        for n in 0..count {
            let name = domain::user::ProfileChanges { name: Some(Some(n.to_string())), ..Default::default() };
            let asked = Instant::now();
            let receipt = app.commands.change_profile(app.by_user(Some(user)), user, name).await.unwrap();
            let appended = asked.elapsed();
            app.shown(receipt).await;
            times.push(asked.elapsed() - appended);
        }
        times.sort();
        times
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_another_process_projects_is_shown_before_anybody_looks(pool: PgPool) {
        let (projector, end_projector) = process(&pool, "projector", Bus::postgres(&pool)).await;
        let (api, end_api) = process(&pool, "api", Bus::postgres(&pool)).await;
        projector.projections.settle().await.unwrap();
        api.projections.settle().await.unwrap();
        let times = times(&api, 200).await;
        println!("shown after: {:?} (half), {:?} (99 of 100)", times[100], times[198]);
        assert!(times[100] < STANDBY_POLL / 4, "{:?}", times[100]);
        for (app, shutdown) in [(projector, end_projector), (api, end_api)] {
            shutdown.begin(crate::platform::shutdown::Stop::Asked);
            app.projections.stop().await;
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn who_is_erased_elsewhere_is_erased_here(pool: PgPool) {
        let (one, end_one) = process(&pool, "projector", Bus::postgres(&pool)).await;
        let (other, end_other) = process(&pool, "api", Bus::postgres(&pool)).await;
        let (user, receipt) = sign_up(&one, "alice").await;
        other.projections.wait(receipt.position, Duration::from_secs(20)).await.unwrap();
        let readable = async |app: &App| {
            let events = app.log.after(Position::START, MAX_BATCH_EVENTS).await.unwrap();
            events.iter().any(|event| event.subject == Some(user) && event.event.is_some())
        };
        assert!(readable(&other).await, "its key is in memory now");
        one.commands.erase(one.by_user(None), user).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while readable(&other).await {
            assert!(Instant::now() < deadline, "it can still be read");
            sleep(Duration::from_millis(10)).await;
        }
        for (app, shutdown) in [(one, end_one), (other, end_other)] {
            shutdown.begin(crate::platform::shutdown::Stop::Asked);
            app.projections.stop().await;
        }
    }
}
