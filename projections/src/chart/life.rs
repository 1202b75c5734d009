//! What comes and goes: each is counted in the hour in which it came, and in that in which it went.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::People;
use super::hours::{Hours, Series, Whose};

/// One of them, as its table has it.
pub(super) trait Life: Clone {
    /// The table, with the columns `id` and `gone`.
    const TABLE: &'static str;

    fn id(&self) -> Uuid;
    /// The hour in which it came.
    fn came(&self) -> DateTime<Utc>;
    /// The hour in which it went, if it has.
    fn gone(&self) -> Option<DateTime<Utc>>;
    fn with_gone(self, hour: DateTime<Utc>) -> Self;
    /// What it counts as, whose, and how much.
    fn each(&self, people: &People, counts: impl FnMut(Whose, Series, i64));

    /// Counts, `n` times, that it came, and went if it has.
    fn count(&self, hours: &mut Hours, people: &People, n: i64) {
        self.count_came(hours, people, n);
        self.count_gone(hours, people, n);
    }

    fn count_came(&self, hours: &mut Hours, people: &People, n: i64) {
        self.each(people, |whose, series, much| hours.add(whose, series, self.came(), n * much, 0));
    }

    fn count_gone(&self, hours: &mut Hours, people: &People, n: i64) {
        if let Some(gone) = self.gone() {
            self.each(people, |whose, series, much| hours.add(whose, series, gone, 0, n * much));
        }
    }
}

/// Those that a batch is about, and what it does to them.
pub(super) struct Lives<L> {
    /// Those that are there.
    pub(super) standing: HashMap<Uuid, L>,
    new: BTreeSet<Uuid>,
    gone: BTreeMap<Uuid, L>,
}

impl<L> Default for Lives<L> {
    fn default() -> Self {
        Self { standing: HashMap::new(), new: BTreeSet::new(), gone: BTreeMap::new() }
    }
}

impl<L: Life> Lives<L> {
    pub(super) fn come(&mut self, life: L) {
        self.new.insert(life.id());
        self.standing.insert(life.id(), life);
    }

    /// Whether it was there.
    pub(super) fn go(&mut self, id: Uuid, hour: DateTime<Utc>) -> bool {
        let life = self.standing.remove(&id);
        let was_there = life.is_some();
        self.gone.extend(life.map(|life| (id, life.with_gone(hour))));
        was_there
    }

    /// Those that came with the batch, also if they went with it.
    pub(super) fn newcomers(&self) -> Vec<&L> {
        let of = |id: &Uuid| self.standing.get(id).or_else(|| self.gone.get(id));
        self.new.iter().filter_map(of).collect()
    }

    pub(super) fn count(&self, hours: &mut Hours, people: &People) {
        for life in self.newcomers() {
            life.count_came(hours, people, 1);
        }
        for life in self.gone.values() {
            life.count_gone(hours, people, 1);
        }
    }

    /// Writes down of those that were there before the batch that they went.
    pub(super) async fn write_gone(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        let old = self.gone.values().filter(|life| !self.new.contains(&life.id()));
        let (ids, at): (Vec<Uuid>, Vec<Option<DateTime<Utc>>>) =
            old.map(|life| (life.id(), life.gone())).unzip();
        if ids.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "update {} t set gone = d.gone
               from unnest($1::uuid[], $2::timestamptz[]) as d(id, gone) where t.id = d.id",
            L::TABLE
        );
        sqlx::query(AssertSqlSafe(sql)).bind(ids).bind(at).execute(tx).await?;
        Ok(())
    }
}
