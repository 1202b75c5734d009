//! Words of notes and of people, to be looked for in any language.
//!
//! There is no cutting into words, so that it works for Japanese and Chinese as well: what is indexed are the
//! single characters of a text and the pairs of neighbours in it, as hashes. What has all pairs of the words
//! that are looked for is then compared with the words themselves.
//!
//! The newest notes are looked through one by one, as many as fill a page where the words are frequent; only for
//! what is rarer the index is asked. Where frequent words happen not to be in the newest notes, a sample of all
//! tells so, and more are looked through: the index would name half of what there is. So neither frequent nor rare
//! words cost more when there are more notes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use domain::log::Recorded;
use domain::policy::Viewer;
use domain::text::normalize_tag;
use domain::{Event, NoteId, UserId};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::note::VISIBLE;
use crate::page::Page;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;
use crate::user::Origin;

/// Notes that are looked through one by one.
const LOOKED_THROUGH: i64 = 5_000;
/// The same for words that are frequent, but not lately.
const LOOKED_THROUGH_FURTHER: i64 = 50_000;
/// Notes in a sample of all, about.
const SAMPLED: f64 = 2_000.0;
/// Notes in the sample that have the words, for it to say anything.
const SAMPLED_AT_LEAST: i64 = 3;
/// Words that are looked for together; what is beyond them is left out.
pub const MAX_WORDS: usize = 16;
/// The longest query that is looked for, in characters.
pub const MAX_QUERY_CHARS: usize = 256;
/// Who wrote within this time comes before who didn't.
const LATELY: TimeDelta = TimeDelta::days(30);
/// People found, before they are put in order.
const MAX_PEOPLE_FOUND: i64 = 2_000;

/// Fills `read.note_words` and `read.user_words`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "search"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["note_words", "user_words"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["note.created", "note.deleted", "user.created", "user.changed", "user.erased"]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            write_notes(tx, part).await?;
            write_people(tx, part).await?;
            if let Some(user) = erased {
                for statement in
                    ["delete from note_words where author = $1", "delete from user_words where user_id = $1"]
                {
                    sqlx::query(statement).bind(user.0).execute(&mut *tx).await?;
                }
            }
        }
        Ok(())
    }
}

async fn write_notes(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<()> {
    let mut written: BTreeMap<Uuid, (Uuid, String)> = BTreeMap::new();
    let mut deleted: Vec<Uuid> = Vec::new();
    for (_, event) in events(batch) {
        match event {
            Event::NoteCreated(e) => {
                let texts: Vec<&str> = e.cw.iter().chain(&e.text).map(String::as_str).collect();
                if !texts.is_empty() {
                    written.insert(e.id.0, (e.author.0, words(&texts.join("\n"))));
                }
            }
            Event::NoteDeleted(e) => deleted.push(e.id.0),
            _ => (),
        }
    }
    if !written.is_empty() {
        let grams: Vec<String> = written.values().map(|(_, words)| array(&grams(words))).collect();
        sqlx::query(
            "insert into note_words (note_id, author, words, grams)
             select note_id, author, words, grams::integer[]
               from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as w(note_id, author, words, grams)",
        )
        .bind(written.keys().copied().collect::<Vec<_>>())
        .bind(written.values().map(|(author, _)| *author).collect::<Vec<_>>())
        .bind(written.values().map(|(_, words)| words.as_str()).collect::<Vec<_>>())
        .bind(grams)
        .execute(&mut *tx)
        .await?;
    }
    if !deleted.is_empty() {
        sqlx::query("delete from note_words where note_id = any($1)").bind(deleted).execute(tx).await?;
    }
    Ok(())
}

async fn write_people(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<()> {
    // Name in the account, name and description in the profile; none where they stay.
    type Said = (Option<String>, Option<String>, Option<String>);
    let mut said: BTreeMap<Uuid, Said> = BTreeMap::new();
    for (_, event) in events(batch) {
        match event {
            Event::UserCreated(e) => said.entry(e.user.0).or_default().0 = Some(words(&e.username)),
            Event::UserChanged(e) => {
                let (name, about) = (&e.changes.name, &e.changes.description);
                let text = |text: &Option<String>| words(text.as_deref().unwrap_or_default());
                if name.is_some() || about.is_some() {
                    let said = said.entry(e.user.0).or_default();
                    said.1 = name.as_ref().map(text).or(said.1.take());
                    said.2 = about.as_ref().map(text).or(said.2.take());
                }
            }
            _ => (),
        }
    }
    if said.is_empty() {
        return Ok(());
    }
    let known: Vec<(Uuid, String, String, String)> =
        sqlx::query_as("select user_id, username, name, about from user_words where user_id = any($1)")
            .bind(said.keys().copied().collect::<Vec<_>>())
            .fetch_all(&mut *tx)
            .await?;
    for (id, username, name, about) in known {
        let said = said.entry(id).or_default();
        said.0.get_or_insert(username);
        said.1.get_or_insert(name);
        said.2.get_or_insert(about);
    }
    // Whoever has no account has nothing to be found by.
    said.retain(|_, (username, ..)| username.is_some());
    let of = |pick: fn(&Said) -> &Option<String>| -> Vec<String> {
        said.values().map(|said| pick(said).clone().unwrap_or_default()).collect()
    };
    let (usernames, names, abouts) = (of(|said| &said.0), of(|said| &said.1), of(|said| &said.2));
    let all = |n: usize| array(&grams(&[&*usernames[n], &*names[n], &*abouts[n]].join("\n")));
    sqlx::query(
        "insert into user_words (user_id, username, name, about, grams)
         select user_id, username, name, about, grams::integer[]
           from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
                as w(user_id, username, name, about, grams)
         on conflict (user_id) do update
            set name = excluded.name, about = excluded.about, grams = excluded.grams",
    )
    .bind(said.keys().copied().collect::<Vec<_>>())
    .bind(&usernames)
    .bind(&names)
    .bind(&abouts)
    .bind((0..usernames.len()).map(all).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// A text as it is compared and stored.
fn words(text: &str) -> String {
    sql::clean(&normalize_tag(text)).into_owned()
}

/// The single characters of a text and the pairs of neighbours, but for spaces, as hashes.
fn grams(text: &str) -> Vec<i32> {
    let mut grams = BTreeSet::new();
    let mut before: Option<char> = None;
    for here in text.chars() {
        if here.is_whitespace() {
            before = None;
            continue;
        }
        grams.insert(hash(None, here));
        if let Some(before) = before {
            grams.insert(hash(Some(before), here));
        }
        before = Some(here);
    }
    grams.into_iter().collect()
}

/// The rarest that a text must have which has this word: pairs, or the only character.
fn wanted(word: &str) -> Vec<i32> {
    let chars: Vec<char> = word.chars().collect();
    match chars[..] {
        [only] => vec![hash(None, only)],
        _ => chars.windows(2).map(|pair| hash(Some(pair[0]), pair[1])).collect(),
    }
}

/// FNV-1a: part of the stored rows, so it stays as it is.
fn hash(first: Option<char>, second: char) -> i32 {
    let bytes = |c: Option<char>| c.map_or(0, u32::from).to_le_bytes();
    let hash = bytes(first)
        .into_iter()
        .chain(bytes(Some(second)))
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i32::from_le_bytes(hash.to_le_bytes())
}

/// As PostgreSQL reads it: arrays of arrays can't be bound.
fn array(grams: &[i32]) -> String {
    let grams: Vec<String> = grams.iter().map(i32::to_string).collect();
    format!("{{{}}}", grams.join(","))
}

/// What is looked for.
struct Query {
    words: Vec<String>,
    grams: Vec<i32>,
}

impl Query {
    fn of(text: &str) -> Self {
        let text: String = text.chars().take(MAX_QUERY_CHARS).collect();
        let text = words(&text);
        let words: Vec<String> = text.split_whitespace().take(MAX_WORDS).map(str::to_owned).collect();
        let grams: BTreeSet<i32> = words.iter().flat_map(|word| wanted(word)).collect();
        Self { words, grams: grams.into_iter().collect() }
    }
}

/// How many of some notes have the words that are looked for.
#[derive(Debug, Clone, Copy)]
struct Sample {
    notes: i64,
    having: i64,
    /// How many notes there are, about.
    of: f64,
}

impl Sample {
    /// Notes of some of the pages of the table.
    async fn of(pool: &PgPool, query: &Query) -> sqlx::Result<Self> {
        let of: f64 = sqlx::query_scalar(
            "select reltuples::float8 from pg_class where oid = 'read.note_words'::regclass",
        )
        .fetch_one(pool)
        .await?;
        // Or nobody has counted them yet.
        if of < SAMPLED {
            return Ok(Self { notes: 0, having: 0, of });
        }
        let (notes, having) = sqlx::query_as(
            "select count(*), count(*) filter (where w.grams @> $2
                    and not exists (select 1 from unnest($3::text[]) as q(word)
                                     where position(q.word in w.words) = 0))
               from read.note_words w tablesample system ($1::real)",
        )
        .bind((100.0 * SAMPLED / of) as f32)
        .bind(&query.grams)
        .bind(&query.words)
        .fetch_one(pool)
        .await?;
        Ok(Self { notes, having, of })
    }

    /// Whether so many are found sooner by looking through the notes one by one than by taking the first of all that
    /// the index names.
    fn is_full_of(self, limit: i64) -> bool {
        let part = self.having as f64 / self.notes.max(1) as f64;
        self.having >= SAMPLED_AT_LEAST && limit as f64 / part < part * self.of
    }
}

/// Which notes are looked through.
#[derive(Debug, Clone, Default)]
pub struct NoteFilter {
    /// All words have to be in the text or the content warning; with none of them everything is found.
    pub query: String,
    pub author: Option<UserId>,
    /// A server; the empty one is this.
    pub host: Option<String>,
}

/// Notes with these words that the viewer may see; pages go by the ids of the notes.
pub async fn notes(
    pool: &PgPool,
    viewer: Viewer,
    filter: &NoteFilter,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let query = Query::of(&filter.query);
    let order = page.order();
    let by_author = if filter.author.is_some() { "w.author = $5" } else { "$5::uuid is null" };
    // Each note by its key, and never many of them for few words, whatever the database expects.
    let fits = format!(
        "cross join lateral (select from read.notes n where n.id = w.note_id and {VISIBLE} offset 0) n
          where w.grams @> $6
            and not exists (select 1 from unnest($7::text[]) as q(word) where position(q.word in w.words) = 0)
            and ($8::text is null
                 or exists (select 1 from read.users u where u.id = w.author and coalesce(u.host, '') = $8))
          order by w.note_id {order} limit $4"
    );
    // The nearest ones, one by one.
    let near = |at_most: i64| {
        format!(
            "select w.note_id
               from (select w.note_id, w.author, w.words, w.grams
                       from read.note_words w
                      where w.note_id > $2 and w.note_id < $3 and {by_author}
                      order by w.note_id {order} limit {at_most}) w {fits}"
        )
    };
    // The rest by the index: behind the last that was looked at, which is found again.
    let far = format!(
        "select w.note_id
           from (select w.note_id, w.author, w.words, w.grams
                   from read.note_words w
                  where w.note_id > $2 and w.note_id < $3 and {by_author} and w.grams @> $6
                 offset 0) w {fits}"
    );
    let run = async |sql: String| -> sqlx::Result<Vec<Uuid>> {
        sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(viewer.map(|viewer| viewer.0))
            .bind(page.since())
            .bind(page.until())
            .bind(page.limit())
            .bind(filter.author.map(|author| author.0))
            .bind(&query.grams)
            .bind(&query.words)
            .bind(filter.host.as_deref().map(|host| sql::clean(host).to_lowercase()))
            .fetch_all(pool)
            .await
    };
    // Without words there is nothing to ask the index for.
    let is_enough = |found: &[Uuid]| found.len() as i64 >= page.limit() || query.grams.is_empty();
    let mut found = run(near(LOOKED_THROUGH)).await?;
    if !is_enough(&found)
        && filter.author.is_none()
        && Sample::of(pool, &query).await?.is_full_of(page.limit())
    {
        found = run(near(LOOKED_THROUGH_FURTHER)).await?;
    }
    if !is_enough(&found) {
        found = run(far).await?;
    }
    Ok(found.into_iter().map(NoteId).collect())
}

/// People whose names or descriptions have what is looked for, and who let themselves be found; those with it
/// in their names come first, and of these who wrote last.
pub async fn people(
    pool: &PgPool,
    text: &str,
    origin: Origin,
    limit: u16,
    offset: u32,
) -> sqlx::Result<Vec<UserId>> {
    let query = Query::of(text.strip_prefix('@').unwrap_or(text));
    if query.words.is_empty() {
        return Ok(Vec::new());
    }
    let word = query.words.join(" ");
    let from = match origin {
        Origin::Combined => "true",
        Origin::Local => "u.host is null",
        Origin::Remote => "u.host is not null",
    };
    let sql = format!(
        "select u.id
           from (select w.user_id, w.username, w.name
                   from read.user_words w
                  where w.grams @> $1
                    and (position($2 in w.username) > 0 or position($2 in w.name) > 0
                         or position($2 in w.about) > 0)
                  limit {MAX_PEOPLE_FOUND}) w
           join read.users u on u.id = w.user_id
           left join read.note_authors a on a.user_id = u.id
          where {from} and not u.is_suspended
          order by (position($2 in w.username) = 1) desc,
                   (position($2 in w.username) > 0 or position($2 in w.name) > 0) desc,
                   a.updated_at desc nulls last, u.id
          limit $3 offset $4"
    );
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(&query.grams)
        .bind(&word)
        .bind(i64::from(limit))
        .bind(i64::from(offset))
        .fetch_all(pool)
        .await?;
    Ok(sql::users(ids))
}

/// People whose account names begin so, of servers whose names begin so. Whom the viewer follows comes first, and
/// of those and of the others who wrote lately; then it goes by the name. Of the people whom a viewer doesn't
/// follow only those are found who have ever written something (recorded behaviour).
pub async fn people_by_name(
    pool: &PgPool,
    viewer: Viewer,
    username: Option<&str>,
    host: Option<&str>,
    now: DateTime<Utc>,
    limit: u16,
) -> sqlx::Result<Vec<UserId>> {
    const FITS: &str = "($1::text is null or u.username_lower ^@ $1)
                    and ($1::text is null
                         or (u.username_lower >= $1 and u.username_lower < $1 || U&'\\+10FFFF'))
                    and ($2::text is null or coalesce(u.host, '') ^@ $2)
                    and (($2 is distinct from '') or u.host is null)
                    and not u.is_suspended";
    let sql = format!(
        "select u.id
           from ((select u.id, u.username_lower, true as followed
                   from read.follows f join read.users u on u.id = f.followee
                  where f.follower = $3 and {FITS}
                  order by u.username_lower limit {MAX_PEOPLE_FOUND})
                 union all
                 (select u.id, u.username_lower, false
                   from read.users u
                  where {FITS}
                    and not exists (select 1 from read.follows f where f.follower = $3 and f.followee = u.id)
                  order by u.username_lower limit {MAX_PEOPLE_FOUND})) u
           left join read.note_authors a on a.user_id = u.id
          where u.followed or $3 is null or a.updated_at is not null
          order by u.followed desc, coalesce(a.updated_at > $4, $3 is null) desc, u.username_lower, u.id
          limit $5"
    );
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(username.map(|name| sql::clean(name).to_lowercase()))
        .bind(host.map(|host| sql::clean(host).to_lowercase()))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(now - LATELY)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?;
    Ok(sql::users(ids))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Statements, Story, user};
    use domain::moderation::Suspended;
    use domain::note::{Deleted, Visibility};
    use domain::user::ProfileChanges;

    async fn found(pool: &PgPool, viewer: u8, query: &str, page: Page) -> Vec<NoteId> {
        let filter = NoteFilter { query: query.to_owned(), ..NoteFilter::default() };
        notes(pool, Some(user(viewer)), &filter, &page).await.unwrap()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn notes_are_found_by_words_of_any_language(pool: PgPool) {
        let mut story = Story::new(&pool);
        for n in 1..=3 {
            story.person(n, &format!("user{n}"));
        }
        let mut say = |text: &str| story.note(1, |note| note.text = Some(text.to_owned()));
        let hello = say("Ｈｅｌｌｏ, wide World");
        let cats = say("猫と犬、日本語のノート");
        let percent = say("100% of it_");
        story.project().await;
        let all = Page::newest(10);
        for (query, notes) in [
            ("hello", vec![hello]),
            ("WORLD hell", vec![hello]),
            ("猫", vec![cats]),
            ("日本", vec![cats]),
            ("本日", vec![]),
            ("100%_", vec![]),
            ("100% it_", vec![percent]),
            ("h", vec![hello]),
            ("", vec![percent, cats, hello]),
            (" \u{3000} ", vec![percent, cats, hello]),
        ] {
            assert_eq!(found(&pool, 2, query, all).await, notes, "{query:?}");
        }
        let older = Page { until: Some(percent.0), ..Page::newest(1) };
        assert_eq!(found(&pool, 2, "", older).await, [cats]);
        let oldest = Page { since: Some(hello.0), oldest_first: true, ..Page::newest(1) };
        assert_eq!(found(&pool, 2, "", oldest).await, [cats]);

        let secret = story.note(1, |note| {
            note.visibility = Visibility::Specified;
            note.cw = Some("secret".to_owned());
            note.visible_to = vec![user(3)];
        });
        story.says(Deleted { id: hello, author: user(1) });
        story.project().await;
        assert_eq!(found(&pool, 2, "hello", all).await, []);
        assert_eq!(
            (found(&pool, 2, "secret", all).await, found(&pool, 3, "secret", all).await),
            (vec![], vec![secret])
        );
        let of_another = NoteFilter { author: Some(user(2)), ..NoteFilter::default() };
        assert_eq!(notes(&pool, None, &of_another, &all).await.unwrap(), []);
        let here = NoteFilter { host: Some(String::new()), query: "100".to_owned(), author: None };
        assert_eq!(notes(&pool, None, &here, &all).await.unwrap(), [percent]);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_sample_tells_frequent_words_from_rare_ones(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "somebody");
        let mut say = |text: &str| story.note(1, |note| note.text = Some(text.to_owned()));
        let tea = (say("a cup of tea"), say("more tea"));
        let rain = say("rain");
        story.project().await;
        // The same again and again, but the rain.
        sqlx::query(
            "insert into read.note_words (note_id, author, words, grams)
             select gen_random_uuid(), w.author, w.words, w.grams
               from read.note_words w cross join generate_series(1, 5000) where w.note_id <> $1",
        )
        .bind(rain.0)
        .execute(&pool)
        .await
        .unwrap();
        sqlx::query("analyze read.note_words").execute(&pool).await.unwrap();
        let sample = async |words| Sample::of(&pool, &Query::of(words)).await.unwrap();
        let (of_tea, of_rain) = (sample("TEA").await, sample("rain").await);
        assert!((500..5_000).contains(&of_tea.notes), "{of_tea:?}");
        assert!(of_tea.having >= of_tea.notes - 1 && of_tea.is_full_of(20), "{of_tea:?}");
        assert!(of_rain.having <= 1 && !of_rain.is_full_of(20), "{of_rain:?}");
        // Beyond all those that are nearer: by looking further, and by the index where that is not enough, or rare.
        let statements = Statements::default();
        let _counting = statements.listen();
        let both = vec![tea.1, tea.0];
        let asked = [("tea", 2, both.clone(), 4), ("tea", 10, both, 5), ("cup", 1, vec![tea.0], 4)];
        for (words, limit, notes, cost) in asked {
            assert_eq!(found(&pool, 1, words, Page::newest(limit)).await, notes, "{words}");
            assert_eq!(statements.take(), cost, "{words}");
        }
        let older = Page { until: Some(rain.0), ..Page::newest(10) };
        assert_eq!((found(&pool, 1, "rain", older).await, statements.take()), (vec![], 4));

        let a_million = Sample { notes: 2_000, having: 0, of: 1e6 };
        let is_full = |having| Sample { having, ..a_million }.is_full_of(20);
        assert_eq!([0, 2, 8, 10, 900].map(is_full), [false, false, false, true, true]);
        let few = Sample { notes: 100, having: 30, of: 100.0 };
        assert!(!few.is_full_of(20), "the index names less");
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn people_are_found_by_their_names_and_what_they_say_of_themselves(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "alice");
        story.person(2, "bob");
        story.project().await;
        let changes = ProfileChanges {
            name: Some(Some("アリス".to_owned())),
            description: Some(Some("a friend of @bob".to_owned())),
            ..ProfileChanges::default()
        };
        story.changes(1, changes);
        story.project().await;
        let find = async |text, origin| people(&pool, text, origin, 10, 0).await.unwrap();
        assert_eq!(find("ali", Origin::Combined).await, [user(1)]);
        assert_eq!(find("リス", Origin::Local).await, [user(1)]);
        assert_eq!(find("@bob", Origin::Combined).await, [user(2), user(1)]);
        assert_eq!(find("ali", Origin::Remote).await, []);
        assert_eq!(find("nobody", Origin::Combined).await, []);

        story.says(Suspended { user: user(1) });
        story.project().await;
        assert_eq!(find("ali", Origin::Combined).await, []);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn by_their_names_come_first_whom_one_follows_and_who_wrote_lately(pool: PgPool) {
        let mut story = Story::new(&pool);
        for (n, name) in [(1, "viewer"), (2, "anna"), (3, "alice"), (4, "axel"), (5, "amy"), (6, "ava")] {
            story.person(n, name);
        }
        // Amy never writes, and Axel not lately.
        story.note(4, |_| ());
        story.pass(LATELY.num_days() + 1);
        for n in [2, 3, 6] {
            story.note(n, |_| ());
        }
        story.follow(1, 6);
        story.project().await;
        let now = story.log.all().last().unwrap().at;
        let named = async |viewer: Option<u8>, name, host| {
            people_by_name(&pool, viewer.map(user), name, host, now, 10).await.unwrap()
        };
        assert_eq!(named(Some(1), Some("A"), None).await, [6, 3, 2, 4].map(user));
        assert_eq!(named(Some(2), Some("a"), Some("")).await, [3, 2, 6, 4].map(user));
        assert_eq!(named(None, Some("a"), None).await, [3, 5, 2, 6, 4].map(user));
        assert_eq!(named(None, None, Some("example")).await, []);

        story.follow(1, 5);
        story.says(Suspended { user: user(6) });
        story.project().await;
        assert_eq!(named(Some(1), Some("a"), None).await, [5, 3, 2, 4].map(user));
    }
}
