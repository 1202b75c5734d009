//! People who are no more: where a batch says so, and how much is there of somebody.
//!
//! A projector writes what comes before, removes everything of the person, and goes on. Afterwards its rows
//! are those of a replay in which nothing of that person can be read, whatever it had read of them; so no
//! row may tell that something has been and gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::log::Recorded;
use domain::{Event, UserId};
use sqlx::{AssertSqlSafe, PgPool};

/// The columns by which rows are a person's, or about them. Notes of others may name anybody, too.
const OF_A_PERSON: &[(&str, &[&str])] = &[
    ("users", &["id"]),
    ("follows", &["follower", "followee"]),
    ("follow_requests", &["follower", "followee"]),
    ("follow_counts", &["user_id"]),
    ("blocks", &["blocker", "blockee"]),
    ("mutes", &["muter", "mutee"]),
    ("renote_mutes", &["muter", "mutee"]),
    ("thread_mutes", &["user_id"]),
    ("memos", &["user_id", "about"]),
    ("notes", &["author"]),
    ("withdrawn_renotes", &["author"]),
    ("mentions", &["user_id"]),
    ("note_authors", &["user_id"]),
    ("reactions", &["user_id"]),
    ("votes", &["user_id"]),
    ("role_assignments", &["user_id"]),
    ("reports", &["reporter", "target", "assignee"]),
    ("moderation_logs", &["moderator", "about", "reporter", "reported"]),
    ("moderated", &["about"]),
    ("announcements", &["user_id"]),
    ("announcement_reads", &["user_id"]),
    ("invitations", &["created_by", "used_by"]),
    ("notifications", &["notifiee", "notifier", "poll_author"]),
    ("notification_markers", &["user_id"]),
    ("notification_ties", &["holder", "other"]),
    ("notification_wishes", &["user_id"]),
    ("notification_members", &["owner", "user_id"]),
    ("notification_threads", &["user_id"]),
    ("poll_audiences", &["user_id", "author"]),
    ("poll_ends", &["author"]),
    ("chart_hours", &["whose"]),
    ("chart_people", &["user_id"]),
    ("chart_notes", &["author"]),
    ("chart_files", &["owner"]),
    ("chart_follows", &["follower", "followee"]),
    ("chart_reactions", &["author", "reactor"]),
    ("chart_active", &["user_id"]),
    ("lists", &["owner"]),
    ("list_members", &["user_id"]),
    ("list_favorites", &["user_id"]),
    ("drive_files", &["owner"]),
    ("drive_folders", &["owner"]),
    ("drive_usage", &["user_id"]),
    ("antennas", &["owner"]),
    ("antenna_notes", &["author"]),
    ("antenna_authors", &["user_id"]),
    ("antenna_follows", &["follower", "followee"]),
    ("antenna_members", &["user_id", "owner"]),
    ("antenna_sensitive_channels", &["owner"]),
    ("channels", &["owner"]),
    ("channel_authors", &["user_id"]),
    ("channel_follows", &["user_id"]),
    ("channel_favorites", &["user_id"]),
    ("channel_mutes", &["user_id"]),
    ("favorites", &["user_id"]),
    ("clips", &["user_id"]),
    ("clip_notes", &["user_id"]),
    ("clip_favorites", &["user_id"]),
    ("pins", &["user_id"]),
    ("registry", &["user_id"]),
    ("achievements", &["user_id"]),
    ("works", &["user_id"]),
    ("work_likes", &["owner", "user_id"]),
    ("note_words", &["author"]),
    ("user_words", &["user_id"]),
    ("note_tags", &["author"]),
    ("tag_people", &["user_id"]),
    ("tag_strangers", &["user_id"]),
    ("featured", &["author"]),
    ("praise", &["user_id"]),
    ("drafts", &["user_id"]),
];

/// The batch, cut behind each such event.
pub(crate) fn parts(batch: &[Arc<Recorded>]) -> impl Iterator<Item = (&[Arc<Recorded>], Option<UserId>)> {
    let parts = batch.split_inclusive(|recorded| who(recorded).is_some());
    parts.map(|part| (part, part.last().and_then(|recorded| who(recorded))))
}

pub(crate) fn who(recorded: &Recorded) -> Option<UserId> {
    match &recorded.event {
        Some(Event::UserErased(erased)) => Some(erased.user),
        _ => None,
    }
}

/// How many rows of each read table are a person's, or about them; none where there are none.
pub async fn rows_of(pool: &PgPool, user: UserId) -> sqlx::Result<BTreeMap<&'static str, u64>> {
    let mut rows = BTreeMap::new();
    for (table, columns) in OF_A_PERSON {
        let theirs: Vec<String> = columns.iter().map(|column| format!("{column} = $1")).collect();
        let sql = format!("select count(*) from read.{table} where {}", theirs.join(" or "));
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).bind(user.0).fetch_one(pool).await?;
        if count > 0 {
            rows.insert(*table, count.unsigned_abs());
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Mode, Projections};
    use crate::testing::{MemoryLog, NOW, PEOPLE, Story, a_life, at, over_days, user};
    use domain::log::Position;
    use domain::user::{Created, Erased};
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use sqlx::{AssertSqlSafe, PgPool};

    const WORLDS: usize = 24;
    /// Tables in which others may name an erased person: by id, and not by anything else.
    const NAMING: [&str; 2] = ["notes", "instance"];
    /// Tables of numbers, and of the server.
    #[rustfmt::skip]
    const NAMELESS: &[&str] = &[
        "user_hosts", "note_totals", "reaction_counts", "vote_counts", "chart_kept",
        "roles", "ads", "decorations", "emojis", "tags",
    ];

    /// Some of the people, each erased at some place: how far into the story, of 100.
    fn erasures() -> impl Strategy<Value = Vec<(u8, usize)>> {
        prop::collection::btree_map(1..=PEOPLE, 0..=100_usize, 1..=3)
            .prop_map(|map| map.into_iter().collect())
    }

    /// The story with the erasures in it. Nobody can read what the erased say after it; what they said
    /// before can be read when `reads` says so.
    fn with_erasures(
        story: &[Arc<Recorded>],
        erasures: &[(u8, usize)],
        reads: impl Fn(usize) -> bool,
    ) -> Vec<Arc<Recorded>> {
        let mut told: Vec<Recorded> = Vec::new();
        let mut gone: Vec<UserId> = Vec::new();
        for at in 0..=story.len() {
            for (n, place) in erasures {
                if story.len() * place / 100 == at {
                    let erased = Erased { user: user(*n) };
                    let any = story.last().expect("people").as_ref().clone();
                    told.push(Recorded { kind: "user.erased".to_owned(), event: Some(erased.into()), ..any });
                    gone.push(user(*n));
                }
            }
            let Some(event) = story.get(at) else { break };
            let mut event = event.as_ref().clone();
            let of = event.subject.and_then(|of| erasures.iter().find(|(n, _)| user(*n) == of));
            if of.is_some_and(|(n, _)| gone.contains(&user(*n)) || !reads(at)) {
                event.event = None;
            }
            told.push(event);
        }
        let at =
            |(n, event): (usize, Recorded)| Arc::new(Recorded { position: Position(n as u64 + 1), ..event });
        told.into_iter().enumerate().map(at).collect()
    }

    async fn rows(pool: &PgPool, table: &str, naming: UserId) -> i64 {
        let sql = format!("select count(*) from read.{table} t where t::text like $1");
        let count = sqlx::query_scalar(AssertSqlSafe(sql)).bind(format!("%{}%", naming.0));
        count.fetch_one(pool).await.unwrap()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_is_left_is_what_a_replay_without_them_makes(pool: PgPool) {
        let mut runner = TestRunner::deterministic();
        let mut purged: BTreeMap<&str, i64> = BTreeMap::new();
        for world in 0..WORLDS {
            let (life, erasures) = (a_life(), erasures()).new_tree(&mut runner).unwrap().current();
            let mut story = Story::new(&pool);
            story.live(&life);
            let events = over_days(&story.log.all());

            let replay = with_erasures(&events, &erasures, |_| false);
            story.apply(&replay, usize::MAX).await;
            let expected = story.hashes().await;
            let later = world % 5;
            let variants: [(Vec<Arc<Recorded>>, usize); 4] = [
                (with_erasures(&events, &erasures, |_| true), usize::MAX),
                (with_erasures(&events, &erasures, |_| true), 1 + later),
                (with_erasures(&events, &erasures, |at| at < events.len() / 2), 7),
                (with_erasures(&events, &erasures, |at| at % 3 == 0), 4),
            ];
            for (told, size) in variants {
                story.empty().await;
                story.apply(&told, size).await;
                let got = story.hashes().await;
                assert_eq!(got, expected, "by {size}: {erasures:?} in {life:#?}");
            }

            // At the end of the story nothing names them any more.
            let at_last: Vec<(u8, usize)> = erasures.iter().map(|(n, _)| (*n, 100)).collect();
            story.empty().await;
            story.apply(&events, usize::MAX).await;
            let tables: Vec<&str> = crate::projectors().iter().flat_map(|p| p.tables()).copied().collect();
            let naming = || tables.iter().filter(|table| !NAMING.contains(table));
            for (n, _) in &at_last {
                for (table, count) in rows_of(&pool, user(*n)).await.unwrap() {
                    assert!(count as i64 <= rows(&pool, table, user(*n)).await, "{table}");
                }
                for table in naming() {
                    *purged.entry(table).or_default() += rows(&pool, table, user(*n)).await;
                }
            }
            story.empty().await;
            story.apply(&with_erasures(&events, &at_last, |_| true), usize::MAX).await;
            for (n, _) in &at_last {
                assert_eq!(rows_of(&pool, user(*n)).await.unwrap(), BTreeMap::new());
                for table in naming() {
                    assert_eq!(rows(&pool, table, user(*n)).await, 0, "{n} in {table} after {life:#?}");
                }
            }
            story.empty().await;
        }
        purged.retain(|table, rows| *rows == 0 && !NAMELESS.contains(table));
        assert!(purged.is_empty(), "no world had anything of them in {:?}", purged.keys());
    }
    #[sqlx::test(migrations = "../migrations")]
    async fn what_they_said_goes_from_memory_too(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        let running = Projections::start(&pool, log.clone(), crate::projectors(), Mode::Project);
        let says = |event: Event| log.push(at(NOW), Some(event.clone()), event.kind().0);
        let person =
            |n| Created { user: user(n), username: format!("user{n}"), host: None, uri: None }.into();
        let first = says(person(3));
        running.settle().await.unwrap();
        for n in 1..=2 {
            says(person(n));
        }
        running.settle().await.unwrap();
        let read = async || running.events_after(first, 10).await.unwrap();
        assert!(read().await.iter().all(|recorded| recorded.event.is_some()));
        says(Erased { user: user(1) }.into());
        running.settle().await.unwrap();
        let left: Vec<bool> = read().await.iter().map(|recorded| recorded.event.is_some()).collect();
        assert_eq!(left, [false, true, true]);
        running.stop().await;
    }
}
