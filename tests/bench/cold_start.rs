//! A server that starts with nothing in memory: when it gives the right page, and what it has in memory at rest.

use std::time::Duration;

use gateway::platform::postgres::running_in;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};
use tokio::time::{Instant, sleep};

use crate::Plan;
use crate::figure::Figure;
use crate::grown::Grown;
use crate::load::Person;
use crate::server::{READY_WITHIN, Server};

const PART: &str = "cold-start";
const ASK_EVERY: Duration = Duration::from_millis(5);
/// After the first page, without any load.
const AT_REST: Duration = Duration::from_secs(10);
/// What makes Linux forget files that it has in memory.
const FORGET: &str = "/proc/sys/vm/drop_caches";
const ALLOWED_SECONDS: f64 = 5.0;
const ALLOWED_MEMORY_MB: f64 = 150.0;
const MEGABYTE: f64 = 1_000_000.0;

pub async fn run(plan: &Plan, world: Grown) -> Result<(Vec<Figure>, Grown), String> {
    let Grown { server, directory, facts } = world;
    let reader = facts.people.first().ok_or("nobody is there")?;
    let right = page(&server, reader).await?;
    if right.is_empty() {
        return Err("there is nothing to read".to_owned());
    }
    checkpoint(&server).await?;
    server.stop().await?;
    nix::unistd::sync();
    let is_cold = std::fs::write(FORGET, "3").is_ok();
    let start = Instant::now();
    let server = Server::spawn(plan, &directory)?;
    let mut wrong = 0.0;
    loop {
        match page(&server, reader).await {
            Ok(page) if page == right => break,
            Ok(_) => wrong += 1.0,
            Err(why) if start.elapsed() > READY_WITHIN => return Err(why),
            Err(_) => (),
        }
        if wrong > 0.0 && start.elapsed() > READY_WITHIN {
            return Err("the page is not what it was".to_owned());
        }
        sleep(ASK_EVERY).await;
    }
    let took = start.elapsed().as_secs_f64();
    sleep(AT_REST).await;
    let memory = server.meter.memory();
    let how = if is_cold { "page cache dropped" } else { "page cache warm: not permitted to drop it" };
    let figure = |what: String, value: f64, unit: &'static str| Figure::new(PART, what, value, unit);
    let figures = vec![
        figure("events".to_owned(), plan.events as f64, ""),
        figure(format!("to the first right timeline, {how}"), took, "s").at_most(ALLOWED_SECONDS),
        figure("wrong timelines before that".to_owned(), wrong, "").exactly(0.0),
        figure("memory of the server at rest".to_owned(), memory.server_bytes as f64 / MEGABYTE, "MB")
            .at_most(ALLOWED_MEMORY_MB),
        figure("memory of PostgreSQL at rest".to_owned(), memory.database_bytes as f64 / MEGABYTE, "MB"),
    ];
    Ok((figures, Grown { server, directory, facts }))
}

/// So that the database has little to write when it is stopped.
async fn checkpoint(server: &Server) -> Result<(), String> {
    let options = running_in(&server.data_dir).ok_or("the server's PostgreSQL is not there")?;
    let mut connection = options.connect().await.map_err(|error| error.to_string())?;
    sqlx::query("checkpoint").execute(&mut connection).await.map_err(|error| error.to_string())?;
    connection.close().await.map_err(|error| error.to_string())
}

/// The ids of the newest page.
async fn page(server: &Server, reader: &Person) -> Result<Vec<Value>, String> {
    let page = server.call(reader, "notes/timeline", json!({ "limit": 20 })).await?;
    let notes = page.as_array().ok_or("it is no page")?;
    Ok(notes.iter().map(|note| note["id"].clone()).collect())
}
