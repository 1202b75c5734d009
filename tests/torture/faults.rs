//! What goes wrong, when, and for how long.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::Signal;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tokio::time::sleep;

use crate::Findings;
use crate::proxy::Wire;
use crate::world::{POSTGRES_CLOCK, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// kill -9 of one server.
    KillServer,
    /// kill -9 of all servers at once.
    KillServers,
    /// SIGTERM to one server.
    StopServer,
    /// SIGSTOP of one server.
    PauseServer,
    /// For longer than a writer may be silent.
    PauseServerLong,
    /// kill -9 of all of PostgreSQL.
    KillPostgres,
    /// kill -9 of its first process alone.
    KillPostmaster,
    /// kill -9 of one session, which takes all of PostgreSQL through a recovery.
    KillSession,
    /// Sessions are ended as an operator would.
    EndSessions,
    /// SIGSTOP of one session.
    PauseSession,
    /// Connections between a server and PostgreSQL are closed, and refused for a while.
    Cut,
    /// Connections end in the middle of a message to PostgreSQL.
    TearAsks,
    /// Connections end in the middle of a message from PostgreSQL.
    TearAnswers,
    /// PostgreSQL does what it was asked, and its answer is lost.
    LoseAnswers,
    /// Nothing gets through, and nothing is closed.
    Hold,
    /// PostgreSQL and all that its disk has not been given yet are gone.
    CutPower,
    /// No space is left for PostgreSQL.
    DiskFull,
    /// The clock of one server jumps by hours, and back.
    Clock,
    /// So does that of PostgreSQL.
    PostgresClock,
    /// kill -9 of NATS, which comes back empty.
    KillNats,
    /// The read models are made anew meanwhile, and sometimes that is killed on its way.
    Rebuild,
}

pub const ALL: [(&str, Kind); 21] = [
    ("kill-server", Kind::KillServer),
    ("kill-servers", Kind::KillServers),
    ("stop-server", Kind::StopServer),
    ("pause-server", Kind::PauseServer),
    ("pause-server-long", Kind::PauseServerLong),
    ("kill-postgres", Kind::KillPostgres),
    ("kill-postmaster", Kind::KillPostmaster),
    ("kill-session", Kind::KillSession),
    ("end-sessions", Kind::EndSessions),
    ("pause-session", Kind::PauseSession),
    ("cut", Kind::Cut),
    ("tear-asks", Kind::TearAsks),
    ("tear-answers", Kind::TearAnswers),
    ("lose-answers", Kind::LoseAnswers),
    ("hold", Kind::Hold),
    ("cut-power", Kind::CutPower),
    ("disk-full", Kind::DiskFull),
    ("clock", Kind::Clock),
    ("postgres-clock", Kind::PostgresClock),
    ("kill-nats", Kind::KillNats),
    ("rebuild", Kind::Rebuild),
];

/// One fault of one round.
#[derive(Debug, Clone)]
pub struct Fault {
    pub kind: Kind,
    /// Since the load began.
    pub at: Duration,
    pub lasts: Duration,
    /// Whether nothing else goes wrong in its round.
    alone: bool,
    /// Which server, or which sessions.
    picks: [usize; 3],
    /// By which a clock jumps.
    seconds: i64,
}

impl Fault {
    /// The faults of a round. The first goes through all kinds in an order of its own; half of the time
    /// another one comes on top.
    pub fn plan(kinds: &[Kind], seed: u64, round: u64) -> Vec<Self> {
        let mut order = kinds.to_vec();
        let turns = kinds.len() as u64;
        order.shuffle(&mut crate::rng(seed, round / turns, 0));
        let mut rng = crate::rng(seed, round, 1);
        let first = match order[(round % turns) as usize] {
            // A long one costs as much as five others: only every second time.
            Kind::PauseServerLong if !(round / turns).is_multiple_of(2) => Kind::PauseServer,
            kind => kind,
        };
        let mut faults = vec![Self::draw(first, &mut rng)];
        if rng.random_bool(0.5) {
            let second = kinds[rng.random_range(0..kinds.len())];
            if second != Kind::PauseServerLong {
                faults[0].alone = false;
                faults.push(Self { alone: false, ..Self::draw(second, &mut rng) });
            }
        }
        faults
    }

    fn draw(kind: Kind, rng: &mut StdRng) -> Self {
        let lasts = match kind {
            Kind::PauseServer => 1_000..5_000,
            // WRITER_LEASE is 15 s.
            Kind::PauseServerLong => 16_000..20_000,
            Kind::PauseSession | Kind::Hold => 200..4_000,
            Kind::DiskFull => 500..4_000,
            Kind::Clock | Kind::PostgresClock => 500..2_000,
            Kind::TearAsks | Kind::TearAnswers | Kind::LoseAnswers => 20..300,
            _ => 0..1_000,
        };
        Self {
            kind,
            at: Duration::from_millis(rng.random_range(200..1_000)),
            lasts: Duration::from_millis(rng.random_range(lasts)),
            alone: true,
            picks: [rng.random_range(0..1_000), rng.random_range(0..1_000), rng.random_range(0..1_000)],
            seconds: rng.random_range(600..43_200) * if rng.random_bool(0.5) { 1 } else { -1 },
        }
    }

    /// Does it, and undoes it.
    pub async fn strike(&self, world: &World, findings: &Mutex<Findings>) {
        sleep(self.at).await;
        let server = &world.servers[self.picks[0] % world.servers.len()];
        let add = |finding| findings.lock().unwrap_or_else(|held| held.into_inner()).add(finding);
        match self.kind {
            Kind::KillServer => {
                world.kill_server(server).await;
                sleep(self.lasts).await;
                self.started(world.start_server(server).await, add);
            }
            Kind::KillServers => {
                for server in &world.servers {
                    world.kill_server(server).await;
                }
                sleep(self.lasts).await;
                for server in &world.servers {
                    self.started(world.start_server(server).await, add);
                }
            }
            Kind::StopServer => {
                if let Err(why) = world.stop_server(server).await {
                    add(why);
                }
                sleep(self.lasts).await;
                self.started(world.start_server(server).await, add);
            }
            Kind::PauseServer | Kind::PauseServerLong => {
                world.pause_server(server).await;
                sleep(self.lasts).await;
                world.continue_all();
            }
            Kind::KillPostgres | Kind::KillPostmaster => {
                world.kill_postgres(self.kind == Kind::KillPostgres).await;
                sleep(self.lasts).await;
                self.started(world.start_postgres().await, add);
            }
            Kind::CutPower => {
                self.started(world.cut_power().await, add);
                self.started(world.start_postgres().await, add);
            }
            Kind::KillSession => world.signal_sessions(&self.picks[..1], Signal::SIGKILL).await,
            Kind::EndSessions => world.signal_sessions(&self.picks, Signal::SIGTERM).await,
            Kind::PauseSession => {
                world.signal_sessions(&self.picks[..1], Signal::SIGSTOP).await;
                sleep(self.lasts).await;
                world.continue_all();
            }
            Kind::Cut => self.on_the_wire(world, Wire::Cut).await,
            Kind::TearAsks => self.on_the_wire(world, Wire::AskTorn).await,
            Kind::TearAnswers => self.on_the_wire(world, Wire::AnswerTorn).await,
            Kind::LoseAnswers => self.on_the_wire(world, Wire::AnswerLost).await,
            Kind::Hold => self.on_the_wire(world, Wire::Held).await,
            Kind::DiskFull => {
                world.fill_disk().await;
                sleep(self.lasts).await;
                world.empty_disk().await;
                self.started(world.start_postgres().await, add);
            }
            Kind::Clock | Kind::PostgresClock => {
                let own = server.name.to_string();
                let name = if self.kind == Kind::Clock { &own } else { POSTGRES_CLOCK };
                self.started(world.set_clock(name, self.seconds), add);
                sleep(self.lasts).await;
                self.started(world.set_clock(name, 0), add);
            }
            Kind::Rebuild => {
                let killed_after = self.picks[0].is_multiple_of(2).then_some(self.lasts);
                let outcome = world.rebuild(killed_after).await;
                if self.alone {
                    self.started(outcome, add);
                }
            }
            Kind::KillNats => {
                world.kill_nats().await;
                sleep(self.lasts).await;
                self.started(world.start_nats().await, add);
            }
        }
    }

    async fn on_the_wire(&self, world: &World, wire: Wire) {
        let proxy = &world.servers[self.picks[0] % world.servers.len()].proxy;
        proxy.set(wire);
        sleep(self.lasts).await;
        proxy.set(Wire::Whole);
    }

    fn started(&self, outcome: std::io::Result<()>, add: impl Fn(String)) {
        if let Err(error) = outcome {
            add(format!("after {self}: {error}"));
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ms for {} ms", self.kind, self.at.as_millis(), self.lasts.as_millis())?;
        if matches!(self.kind, Kind::Clock | Kind::PostgresClock) {
            write!(f, " by {:+} s", self.seconds)?;
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ALL.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}
