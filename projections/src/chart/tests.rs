//! Charts of stories, and of random lives against what stands in the end.

use super::*;
use crate::testing::{MemoryLog, NOW, Story, a_life, at, over_days, user};
use domain::FollowId;
use domain::drive::FileDeleted;
use domain::follow::{Ended, Started};
use domain::note::{Deleted, Parent};
use domain::notification::Read;
use domain::remote::Host;
use domain::user::{Active as WasActive, Created};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const HOUR: i64 = 3_600_000;
const WORLDS: usize = 16;

/// The events told so far, each at its hour after the start of a day.
fn at_hours(log: &MemoryLog, hours: &[i64]) -> Vec<Arc<Recorded>> {
    let events = log.all();
    assert_eq!(events.len(), hours.len());
    let moved = |(event, hour): (&Arc<Recorded>, &i64)| {
        let at = day(0) + chrono::TimeDelta::milliseconds(hour * HOUR + 1_234);
        Arc::new(Recorded { at, ..event.as_ref().clone() })
    };
    events.iter().zip(hours).map(moved).collect()
}

/// The start of a day of the stories.
fn day(n: i64) -> DateTime<Utc> {
    Span::Day.start(at(NOW)) + chrono::TimeDelta::days(n)
}

fn person(n: u8, host: Option<&str>) -> Created {
    let host = host.map(|host| Host::parse(host).unwrap());
    Created { user: user(n), username: format!("user{n}"), host, uri: None }
}

fn follows(n: u128, follower: u8, followee: u8) -> Started {
    Started {
        id: FollowId(Uuid::from_u128(n)),
        follower: user(follower),
        followee: user(followee),
        with_replies: false,
        by_request: false,
        message: None,
    }
}

type Numbers = Vec<(i64, i64, i64)>;

async fn read(pool: &PgPool, whose: Whose, series: Series, window: Window) -> Numbers {
    let chart = chart(pool, &[whose], &[series], window).await.unwrap();
    chart.of(whose, series).iter().map(|b| (b.up, b.down, b.total)).collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn what_happens_is_counted_in_its_hour_and_silent_hours_keep_the_total(pool: PgPool) {
    let mut story = Story::new(&pool);
    story.says(person(1, None));
    let first = story.note(1, |_| ());
    story.note(1, |note| note.reply = Some(Parent { id: first, author: user(1) }));
    story.note(1, |_| ());
    story.says(Deleted { id: first, author: user(1) });
    story.renote(1, first, 1);
    // The third note is told late, and the renote comes after what it passes on has gone.
    let events = at_hours(&story.log, &[0, 1, 3, 2, 26, 27]);
    for size in [usize::MAX, 1] {
        story.empty().await;
        story.apply(&events, size).await;
        let hours = Window::ending(Span::Hour, day(0) + chrono::TimeDelta::hours(4), 5);
        let notes = read(&pool, Whose::Local, Series::Notes, hours).await;
        assert_eq!(notes, [(0, 0, 3), (1, 0, 3), (1, 0, 2), (1, 0, 1), (0, 0, 0)]);
        let days = Window::ending(Span::Day, day(2), 3);
        let me = Whose::Person(user(1));
        assert_eq!(read(&pool, me, Series::Notes, days).await, [(0, 0, 1), (0, 2, 1), (3, 0, 3)]);
        assert_eq!(read(&pool, me, Series::Replies, days).await, [(0, 0, 0), (0, 1, 0), (1, 0, 1)]);
        assert_eq!(read(&pool, me, Series::PlainNotes, days).await, [(0, 0, 1), (0, 1, 1), (2, 0, 2)]);
        assert_eq!(read(&pool, me, Series::Renotes, days).await, [(0, 0, 0); 3]);
        assert_eq!(read(&pool, Whose::Remote, Series::Notes, days).await, [(0, 0, 0); 3]);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn files_are_counted_with_their_size_and_so_are_notes_with_files(pool: PgPool) {
    let mut story = Story::new(&pool);
    story.says(person(1, None));
    let small = story.file(1, |file| file.size = 1_000);
    let large = story.file(1, |file| file.size = 30_000);
    let note = story.note(1, |note| note.files = vec![large]);
    story.says(FileDeleted { id: small, owner: user(1) });
    story.says(Deleted { id: note, author: user(1) });
    for size in [usize::MAX, 1] {
        story.empty().await;
        story.apply(&at_hours(&story.log, &[0, 1, 1, 2, 25, 26]), size).await;
        let days = Window::ending(Span::Day, day(1), 2);
        for whose in [Whose::Local, Whose::Person(user(1))] {
            assert_eq!(read(&pool, whose, Series::Files, days).await, [(0, 1, 1), (2, 0, 2)]);
            let bytes = read(&pool, whose, Series::FileBytes, days).await;
            assert_eq!(bytes, [(0, 1_000, 30_000), (31_000, 0, 31_000)]);
            assert_eq!(read(&pool, whose, Series::NotesWithFiles, days).await, [(0, 1, 0), (1, 0, 1)]);
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn follows_and_reactions_are_counted_by_where_the_other_is_from(pool: PgPool) {
    let mut story = Story::new(&pool);
    story.says(person(1, None));
    story.says(person(2, Some("b.example")));
    let note = story.note(1, |_| ());
    story.says(follows(1, 1, 2));
    story.says(follows(2, 2, 1));
    story.says(Ended { follower: user(1), followee: user(2), by_followee: false });
    story.react(2, note, 1, "👍");
    story.unreact(2, note, 1, "👍");
    story.react(2, note, 1, "🎉");
    story.react(1, note, 1, "🎉");
    story.apply(&at_hours(&story.log, &[0, 0, 0, 1, 1, 25, 25, 25, 25, 25]), 3).await;
    let days = Window::ending(Span::Day, day(1), 2);
    let (me, other) = (Whose::Person(user(1)), Whose::Person(user(2)));
    assert_eq!(read(&pool, me, Series::FollowingRemote, days).await, [(0, 1, 0), (1, 0, 1)]);
    assert_eq!(read(&pool, me, Series::RemoteFollowers, days).await, [(0, 0, 1), (1, 0, 1)]);
    assert_eq!(read(&pool, other, Series::LocalFollowers, days).await, [(0, 1, 0), (1, 0, 1)]);
    assert_eq!(read(&pool, me, Series::FollowingLocal, days).await, [(0, 0, 0); 2]);
    assert_eq!(read(&pool, me, Series::ReactionsOfRemote, days).await, [(2, 0, 2), (0, 0, 0)]);
    assert_eq!(read(&pool, me, Series::ReactionsOfLocal, days).await, [(1, 0, 1), (0, 0, 0)]);
    assert_eq!(read(&pool, Whose::Remote, Series::Users, days).await, [(0, 0, 1), (1, 0, 1)]);
}

#[sqlx::test(migrations = "../migrations")]
async fn people_are_counted_once_in_each_bucket_and_newcomers_are_followed(pool: PgPool) {
    let mut story = Story::new(&pool);
    let active = |n, of: i64| WasActive { user: user(n), day: day(of).date_naive() };
    story.says(person(1, None));
    story.says(person(2, None));
    story.says(person(3, Some("b.example")));
    story.note(1, |_| ());
    story.note(1, |_| ());
    story.says(Read { user: user(1) });
    story.note(3, |_| ());
    story.says(active(2, 8));
    story.says(active(1, 9));
    let events = at_hours(&story.log, &[0, 1, 1, 2, 2, 3, 3, 8 * 24 + 5, 9 * 24]);
    story.apply(&events, 4).await;
    let hours = Window::ending(Span::Hour, day(0) + chrono::TimeDelta::hours(3), 2);
    assert_eq!(read(&pool, Whose::Local, Series::HourWrote, hours).await, [(0, 0, 1), (1, 0, 1)]);
    assert_eq!(read(&pool, Whose::Local, Series::HourRead, hours).await[0].0, 1);
    assert_eq!(read(&pool, Whose::Local, Series::HourBoth, hours).await, [(0, 0, 0); 2]);
    let days = Window::ending(Span::Day, day(8), 9);
    for (series, newest, oldest) in [
        (Series::DayRead, 1, 1),
        (Series::DayWrote, 0, 1),
        (Series::DayBoth, 0, 1),
        (Series::DayNewInWeek, 0, 1),
        (Series::DayNewInMonth, 1, 1),
    ] {
        let found = read(&pool, Whose::Local, series, days).await;
        assert_eq!((found[0].0, found[8].0), (newest, oldest), "{series:?}");
    }

    let cohorts = retention(&pool, day(9).date_naive()).await.unwrap();
    assert_eq!(cohorts.len(), 9, "today is not over");
    assert_eq!((cohorts[0].day, cohorts[0].people, cohorts[0].kept.len()), (day(8).date_naive(), 0, 0));
    let first = &cohorts[8];
    assert_eq!((first.day, first.people), (day(0).date_naive(), 2));
    let kept: Vec<i64> = first.kept.iter().map(|(_, people)| *people).collect();
    assert_eq!(kept, [0, 0, 0, 0, 0, 0, 0, 1]);
    let later = retention(&pool, day(60).date_naive()).await.unwrap();
    assert_eq!((later.len(), later[0].day), (usize::from(RETENTION_DAYS), day(59).date_naive()));
}

#[sqlx::test(migrations = "../migrations")]
async fn totals_are_what_stands_however_the_story_is_cut(pool: PgPool) {
    let mut runner = TestRunner::deterministic();
    for world in 0..WORLDS {
        let life = a_life().new_tree(&mut runner).unwrap().current();
        let mut story = Story::new(&pool);
        let truth = story.live(&life);
        let events = over_days(&story.log.all());
        story.apply(&events, usize::MAX).await;
        let whole = story.hashes().await;
        story.empty().await;
        story.apply(&events, 1 + world % 6).await;
        assert_eq!(story.hashes().await, whole, "{life:#?}");

        let end = events.iter().map(|event| event.at).max().unwrap();
        let window = Window::ending(Span::Day, end, 30);
        let now = async |whose, series| read(&pool, whose, series, window).await[0].2;
        let standing = i64::try_from(truth.notes.len()).unwrap();
        let all = now(Whose::Local, Series::Notes).await + now(Whose::Remote, Series::Notes).await;
        assert_eq!(all, standing, "{life:#?}");
        for n in 1..=crate::testing::PEOPLE {
            let me = Whose::Person(user(n));
            let mine = truth.notes.iter().filter(|note| note.author == user(n)).count();
            assert_eq!(now(me, Series::Notes).await, i64::try_from(mine).unwrap());
            let followed = truth.follows.iter().filter(|(from, ..)| *from == user(n)).count();
            let following = now(me, Series::FollowingLocal).await + now(me, Series::FollowingRemote).await;
            assert_eq!(following, i64::try_from(followed).unwrap());
            let followers = truth.follows.iter().filter(|(_, to, _)| *to == user(n)).count();
            let followed_by = now(me, Series::LocalFollowers).await + now(me, Series::RemoteFollowers).await;
            assert_eq!(followed_by, i64::try_from(followers).unwrap());
        }
        story.empty().await;
    }
}

proptest! {
    #[test]
    fn a_window_holds_the_instant_in_its_newest_bucket(millis in 0..4_000_000_000_000_i64, buckets in 1..=500_u16) {
        for span in [Span::Hour, Span::Day] {
            let window = Window::ending(span, at(millis), buckets);
            let starts: Vec<_> = window.starts().collect();
            prop_assert_eq!(starts.len(), usize::from(buckets));
            prop_assert!(starts[0] <= at(millis) && at(millis) < starts[0] + span.length());
            prop_assert!(starts.windows(2).all(|pair| pair[0] - pair[1] == span.length()));
        }
    }
}
