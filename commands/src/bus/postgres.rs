//! Words over LISTEN and NOTIFY, in the database of the log.
//!
//! One connection listens and one speaks, both taken again for ever. At most one statement is under way;
//! what is said meanwhile goes together into the next.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Line, Words};

const CHANNEL: &str = "kiroku";
/// The pause between two statements: what is said in it costs nothing.
const BREATH: Duration = Duration::from_millis(2);
/// How long connecting, or one statement, may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The first and the longest pause before a lost connection is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(super) fn start(line: &Arc<Line>, options: &PgConnectOptions) -> JoinSet<()> {
    // A lost word costs nothing, so nobody waits for the disk.
    let options = options.clone().application_name("kiroku bus").options([("synchronous_commit", "off")]);
    let mut tasks = JoinSet::new();
    tasks.spawn(listen(Arc::clone(line), options.clone()));
    tasks.spawn(speak(Arc::clone(line), options));
    tasks
}

async fn listen(line: Arc<Line>, options: PgConnectOptions) {
    let mut pause = FIRST_PAUSE;
    loop {
        match connect_ears(&options).await {
            Ok(mut listener) => {
                pause = FIRST_PAUSE;
                // Whatever was said until now was not heard.
                line.missed();
                loop {
                    match listener.try_recv().await {
                        Ok(Some(word)) => line.heard(word.payload()),
                        Ok(None) => break,
                        Err(error) => {
                            tracing::warn!(%error, "other processes are not heard");
                            break;
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "other processes can't be heard; trying again"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn connect_ears(options: &PgConnectOptions) -> sqlx::Result<PgListener> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ANSWER_WITHIN)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    in_time(listener.listen(CHANNEL)).await?;
    Ok(listener)
}

async fn speak(line: Arc<Line>, options: PgConnectOptions) {
    let mut mouth: Option<PgConnection> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let words = line.unsaid().await;
        match in_time(tell(mouth.take(), &options, line.sender, &words)).await {
            Ok(connection) => {
                mouth = Some(connection);
                pause = FIRST_PAUSE;
                sleep(BREATH).await;
            }
            Err(error) => {
                tracing::warn!(%error, "other processes can't be told; trying again");
                line.put_back(words);
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Says the words, on this connection or a new one, and gives it back.
async fn tell(
    connection: Option<PgConnection>,
    options: &PgConnectOptions,
    sender: u64,
    words: &Words,
) -> sqlx::Result<PgConnection> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => options.connect().await?,
    };
    sqlx::query("select pg_notify($1, text) from unnest($2::text[]) as text")
        .bind(CHANNEL)
        .bind(words.texts(sender))
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

async fn in_time<T>(asked: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
    timeout(ANSWER_WITHIN, asked).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use domain::log::Position;
    use sqlx::PgPool;
    use tokio::sync::broadcast::Receiver;
    use tokio::time::Instant;

    use super::super::{Bus, Heard, Word};
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn projected(position: u64) -> Word {
        Word::Projected(vec![("notes".to_owned(), Position(position))])
    }

    /// Waits until this is heard; says whether something was missed before.
    async fn until(heard: &mut Receiver<Heard>, wanted: &Heard) -> bool {
        let mut missed = false;
        let hearing = async {
            loop {
                let word = heard.recv().await.unwrap();
                if word == *wanted {
                    return;
                }
                missed |= word == Heard::Missed;
            }
        };
        timeout(SOON, hearing).await.expect("it is never heard");
        missed
    }

    async fn pair(pool: &PgPool) -> (Bus, Receiver<Heard>, Bus, Receiver<Heard>) {
        let (one, other) = (Bus::postgres(pool), Bus::postgres(pool));
        let (mut at_one, mut at_other) = (one.hear(), other.hear());
        until(&mut at_one, &Heard::Missed).await;
        until(&mut at_other, &Heard::Missed).await;
        (one, at_one, other, at_other)
    }

    #[sqlx::test(migrations = false)]
    async fn others_hear_what_one_says_and_it_does_not_hear_itself(pool: PgPool) {
        let (one, mut at_one, other, mut at_other) = pair(&pool).await;
        one.say(Word::Appended(Position(1)));
        until(&mut at_other, &Heard::Word(Word::Appended(Position(1)))).await;
        other.say(projected(1));
        until(&mut at_one, &Heard::Word(projected(1))).await;
        assert!(at_one.try_recv().is_err() && at_other.try_recv().is_err());
    }

    #[sqlx::test(migrations = false)]
    async fn what_is_said_at_once_goes_together_and_the_newest_arrives(pool: PgPool) {
        let (one, _, _other, mut at_other) = pair(&pool).await;
        for position in 1..=10_000 {
            one.say(Word::Appended(Position(position)));
        }
        let mut heard = 0;
        let hearing = async {
            loop {
                heard += 1;
                if at_other.recv().await.unwrap() == Heard::Word(Word::Appended(Position(10_000))) {
                    return;
                }
            }
        };
        timeout(SOON, hearing).await.unwrap();
        assert!(heard < 1_000, "{heard} words");
    }

    #[sqlx::test(migrations = false)]
    async fn lost_connections_are_taken_again_and_told_of(pool: PgPool) {
        let (one, _, _other, mut at_other) = pair(&pool).await;
        one.say(Word::Appended(Position(1)));
        until(&mut at_other, &Heard::Word(Word::Appended(Position(1)))).await;
        let ended: Vec<bool> = sqlx::query_scalar(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where application_name = 'kiroku bus' and datname = current_database()",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        assert_eq!(ended.len(), 3, "each listens, and one has spoken");
        one.say(Word::Appended(Position(2)));
        until(&mut at_other, &Heard::Missed).await;
        one.say(Word::Appended(Position(3)));
        until(&mut at_other, &Heard::Word(Word::Appended(Position(3)))).await;
    }

    #[sqlx::test(migrations = false)]
    async fn the_wire_goes_with_its_bus(pool: PgPool) {
        let (one, _, other, _) = pair(&pool).await;
        drop(one);
        let deadline = Instant::now() + SOON;
        while connections(&pool).await > 1 {
            assert!(Instant::now() < deadline, "it stays");
            sleep(Duration::from_millis(10)).await;
        }
        drop(other);
    }

    async fn connections(pool: &PgPool) -> i64 {
        sqlx::query_scalar(
            "select count(*) from pg_stat_activity
              where application_name = 'kiroku bus' and datname = current_database()",
        )
        .fetch_one(pool)
        .await
        .unwrap()
    }
}
