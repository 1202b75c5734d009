//! A server with a large log, for what depends on how large it is.

use std::path::{Path, PathBuf};

use tokio::time::Instant;

use crate::Plan;
use crate::load::Facts;
use crate::seed::{PEOPLE, Seed};
use crate::server::Server;

pub struct Grown {
    pub server: Server,
    /// Where it is kept.
    pub directory: PathBuf,
    pub facts: Facts,
}

impl Grown {
    pub async fn begin(plan: &Plan, directory: &Path) -> Result<Self, String> {
        let server = Server::start(plan, directory).await?;
        let began = Instant::now();
        // A note is at least one event.
        let notes = usize::try_from(plan.events).map_err(|error| error.to_string())?;
        let mut seed = Seed::begin(&server, plan.people.unwrap_or(PEOPLE), notes, plan.seed).await?;
        seed.grow(plan.events).await?;
        eprintln!("{} events, {:.0} s", plan.events, began.elapsed().as_secs_f64());
        Ok(Self { server, directory: directory.to_owned(), facts: seed.close().await })
    }
}
